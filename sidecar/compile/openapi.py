# SPDX-License-Identifier: Apache-2.0
"""
A first ``routes.yaml`` out of an OpenAPI document.

Each operation becomes one route. What cannot be mapped is left out, with a warning, so that it stays denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from sidecar.compile.documents import DuplicateKeysDict, read_yaml
from sidecar.compile.problems import Problems, member, quote
from sidecar.compile.route_templates import is_capture_name
from sidecar.compile.routes import parse_routes
from sidecar.compile.shape import Place, describe
from sidecar.model.errors import PolicySyntaxError, Problem, RequestError, Severity

# SPEC: OpenAPI Specification 3.1.0, section 4.8.9: the fields of a path item that are operations.
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_OTHER_FIELDS: Final = frozenset({"summary", "description", "servers", "parameters", "$ref"})
_VERSION: Final = re.compile(r"3\.[0-9]+(\.[0-9]+)?(-.*)?", re.ASCII)
_SERVICE: Final = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ACCOUNT: Final = re.compile(r"[0-9]{12}", re.ASCII)
_REGION: Final = re.compile(r"[a-z0-9-]{0,32}", re.ASCII)
_PARTITION: Final = re.compile(r"aws(-[a-z0-9-]+)?", re.ASCII)
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", re.ASCII)
_NAME: Final = re.compile(r"\{([^{}/]*)\}")
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?::[A-Za-z0-9_./-]+)*", re.ASCII)
_WORDS_OF_YAML: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
_MAX_OPERATIONS: Final = 10_000
_MAX_COMMENT: Final = 100


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """
    What the ARNs of an API begin with.

    Attributes:
        service: Also the first part of its actions.
        account: Twelve digits, or empty.
    """

    service: str
    account: str = ""
    region: str = ""
    partition: str = "aws"

    def check(self) -> None:
        """
        Do nothing.

        Raises:
            RequestError: One of them cannot stand in an ARN.
        """
        for name, value, shape, help in (
            ("service", self.service, _SERVICE, "lower-case letters, digits and hyphens, as in `orders`"),
            ("account", self.account or "0" * 12, _ACCOUNT, "twelve digits"),
            ("region", self.region, _REGION, "as in `eu-west-1`"),
            ("partition", self.partition, _PARTITION, "`aws`, or what begins so"),
        ):
            if not shape.fullmatch(value):
                raise RequestError(f"{quote(value)} cannot be a {name}", field=f"--{name}", help=help)

    def arn(self, path: str) -> str:
        """Return the ARN of what stands at *path*."""
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{path}"


@dataclass(frozen=True, slots=True)
class OpenApiRoutes:
    """
    Routes, and what is missing of them.

    Attributes:
        text: A file of routes.
        count: How many there are.
    """

    text: str
    count: int
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Operation:
    """
    One operation that becomes a route.

    Attributes:
        place: Its JSON path.
        resource: What follows the account in the ARN; empty: there is none.
        comments: Lines above the route.
    """

    place: str
    id: str
    method: str
    path: str
    action: str
    resource: str
    comments: tuple[str, ...]


def routes_from_openapi(document: object, names: ResourceNames, *, file: str) -> OpenApiRoutes:
    """
    Return the routes of *document*, read by ``sidecar.compile.documents``.

    Args:
        file: What to call it.

    Raises:
        RequestError: *names* are none.
        PolicySyntaxError: It is no OpenAPI document of version 3.
    """
    names.check()
    reader = _Reader(document, names, file)
    operations = reader.operations()
    kept = _without_refused(operations, names, reader.problems, file)
    text = _written(kept, names, reader.title)
    return OpenApiRoutes(text, len(kept), tuple(reader.problems.items))


class _Reader:
    """Reads one document. Thread-safety: confined to one thread."""

    def __init__(self, document: object, names: ResourceNames, file: str) -> None:
        self.problems = Problems()
        self._place = Place(self.problems, file)
        self._names = names
        self._ids: set[str] = set()
        self._actions: set[str] = set()
        self._document = self._checked(document, file)
        info = self._document.get("info")
        title = info.get("title") if isinstance(info, dict) else None
        self.title = _one_line(title) if isinstance(title, str) else ""

    @staticmethod
    def _checked(document: object, file: str) -> dict[str, object]:
        def refusal(message: str, help: str = "") -> PolicySyntaxError:
            problem = Problem(Severity.ERROR, file, "$", message, help)
            return PolicySyntaxError(f"{quote(file)} is no OpenAPI document", problems=(problem,))

        if not isinstance(document, dict):
            raise refusal(f"an OpenAPI document must be an object, not {describe(document)}")
        version = document.get("openapi")
        if "swagger" in document:
            raise refusal("the document is of version 2", "convert it to OpenAPI 3 first")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise refusal("the document does not say that it is of version 3", 'as in `openapi: "3.1.0"`')
        return document

    def operations(self) -> list[_Operation]:
        """Return all operations, in their order."""
        if self._document.get("webhooks"):
            self._place.warning("$.webhooks", "webhooks are left out", "they are requests that the service sends")
        paths = self._document.get("paths")
        if not isinstance(paths, dict):
            self._place.warning("$", "the document has no `paths`")
            return []
        base = self._base(self._document, "$", "")
        found: list[_Operation] = []
        for path, item in paths.items():
            if path.startswith("x-"):
                continue
            for operation in self._item(path, item, member("$.paths", path), base):
                if len(found) >= _MAX_OPERATIONS:
                    self._place.warning("$.paths", f"more than {_MAX_OPERATIONS:,} operations", "the rest is left out")
                    return found
                found.append(operation)
        return found

    def _item(self, path: str, item: object, place: str, base: str) -> Iterator[_Operation]:
        if isinstance(item, dict) and "$ref" in item:
            item = self._referenced(item["$ref"], place)
        if not isinstance(item, dict):
            if item is not None:
                self._place.warning(place, f"a path must be an object, not {describe(item)}", "it is left out")
            return
        if isinstance(item, DuplicateKeysDict):
            self._place.duplicates(item, place)
        base = self._base(item, place, base)
        for key, operation in item.items():
            if key in _METHODS:
                made = self._operation(key.upper(), path, operation, f"{place}.{key}", base)
                if made is not None:
                    yield made
            elif key not in _OTHER_FIELDS and not key.startswith("x-"):
                self._place.warning(member(place, key), f"{quote(key)} is no operation", "it is left out")

    def _referenced(self, reference: object, place: str) -> object:
        """Return the path item that a reference inside of the document names."""
        if isinstance(reference, str) and reference.startswith("#/"):
            found: object = self._document
            for part in reference[2:].split("/"):
                name = unquote(part).replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, dict) else None
            if isinstance(found, dict) and "$ref" not in found:
                return found
        self._place.warning(place, f"the reference {quote(reference)} is not followed", "write the operations out")
        return None

    def _base(self, value: dict[str, object], place: str, above: str) -> str:
        """Return the path that all paths of *value* begin with."""
        servers = value.get("servers")
        if not isinstance(servers, list) or not servers:
            return above
        bases = [_server_path(server) for server in servers]
        known = [base for base in bases if base is not None]
        if len(known) < len(bases):
            self._place.warning(f"{place}.servers", "the address of a server cannot be read")
        if len(set(known)) > 1:
            self._place.warning(
                f"{place}.servers", "its servers have different paths", f"the first is taken: {quote(known[0] or '/')}"
            )
        return known[0] if known else above

    def _operation(self, method: str, path: str, raw: object, place: str, base: str) -> _Operation | None:
        if not isinstance(raw, dict):
            self._place.warning(place, f"an operation must be an object, not {describe(raw)}", "it is left out")
            return None
        if raw.get("servers"):
            base = self._base(raw, place, base)
        if not path.startswith("/"):
            self._place.warning(place, f"the path {quote(path)} does not begin with a slash", "it is left out")
            return None
        mapped = self._mapped_path(path, place)
        stated = raw.get("operationId")
        words = _WORDS.findall(stated) if isinstance(stated, str) else []
        if not words:
            words = [method, *_WORDS.findall(path)]
            self._place.warning(place, "an operation without `operationId`", "its action is named by its path")
        comments = [_one_line(text) for text in (raw.get("summary"),) if isinstance(text, str) and text.strip()]
        if raw.get("deprecated") is True:
            comments.append("deprecated")
        security = raw.get("security", self._document.get("security"))
        if isinstance(security, list) and (not security or {} in security):
            comments.append(
                "The document asks for no credential here. If everybody may: `public: true`, no action and no resource."
            )
        return _Operation(
            place,
            self._unique("-".join(words).lower()[:120], self._ids, "-", place),
            method,
            base + mapped,
            f"{self._names.service}:{self._unique(_pascal(words), self._actions, '', place)}",
            mapped.strip("/"),
            tuple(comments),
        )

    def _mapped_path(self, path: str, place: str) -> str:
        """Return *path* with names that routes can have."""

        def rename(found: re.Match[str]) -> str:
            name = found[1]
            if is_capture_name(name):
                return found[0]
            made = "_".join(re.findall(r"[A-Za-z0-9]+", name)) or "value"
            made = made if is_capture_name(made) else f"{made}_value"[:64]
            made = made if is_capture_name(made) else f"p_{made}"[:64]
            self._place.warning(place, f"`{{{quote(name)[1:-1]}}}` cannot be a name", f"it is called `{{{made}}}`")
            return f"{{{made}}}"

        return _NAME.sub(rename, path)

    def _unique(self, name: str, taken: set[str], separator: str, place: str) -> str:
        made, number = name, 1
        while made in taken:
            number += 1
            made = f"{name}{separator}{number}"
        if number > 1:
            self._place.warning(place, f"{quote(name)} is taken", f"it is called {quote(made)}")
        taken.add(made)
        return made


def _server_path(server: object) -> str | None:
    """Return the path in the address of a server, without a slash at its end; None: it cannot be read."""
    url = server.get("url") if isinstance(server, dict) else None
    if not isinstance(url, str):
        return None
    variables = server.get("variables") if isinstance(server, dict) else None

    def default(found: re.Match[str]) -> str:
        variable = variables.get(found[1]) if isinstance(variables, dict) else None
        value = variable.get("default") if isinstance(variable, dict) else None
        return str(value) if isinstance(value, str) else found[0]

    try:
        path = unquote(urlsplit(_NAME.sub(default, url)).path, errors="strict")
    except ValueError:
        return None
    path = path.rstrip("/")
    return path if not path or path.startswith("/") else f"/{path}"


def _pascal(words: list[str]) -> str:
    return "".join(word[:1].upper() + (word[1:] if not word.isupper() else word[1:].lower()) for word in words)[:120]


def _one_line(text: str) -> str:
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _MAX_COMMENT else line[: _MAX_COMMENT - 1] + "…"


def _without_refused(
    operations: list[_Operation], names: ResourceNames, problems: Problems, file: str
) -> list[_Operation]:
    """Leave out what no file of routes can hold, and say so."""
    kept = list(operations)
    while True:
        found = Problems()
        parse_routes(Place(found, file), read_yaml(_written(kept, names, "")), accounts=())
        refused: dict[int, Problem] = {}
        for problem in found.items:
            index = re.match(r"\$\.routes\[(\d+)\]", problem.json_path)
            if problem.severity is Severity.ERROR and index is not None:
                refused.setdefault(int(index[1]), problem)
        for number, problem in refused.items():
            problems.warning(file, kept[number].place, f"it is left out: {problem.message}", problem.help)
        if not refused:
            return kept
        kept = [operation for number, operation in enumerate(kept) if number not in refused]


def _written(operations: list[_Operation], names: ResourceNames, title: str) -> str:
    lines = [
        f"# Routes of {title}, made from its OpenAPI document." if title else "# Routes made from an OpenAPI document.",
        "# The most specific route wins, whatever the order; what no route takes is denied.",
        "# Look through the resources: policies are written about them. Then `iam-sidecar routes check SOURCE`.",
        "#",
        "# Who calls, unless `callers` says otherwise: whoever a session token names.",
        "routes:" if operations else "routes: []",
    ]
    for operation in operations:
        lines += [f"  # {comment}" for comment in operation.comments]
        resource = names.arn(operation.resource) if operation.resource else "*"
        lines += [
            f"  - id: {_scalar(operation.id)}",
            f"    methods: [{operation.method}]",
            f"    path: {_scalar(operation.path)}",
            f"    action: {_scalar(operation.action)}",
            f"    resource: {_scalar(resource)}",
        ]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Return *text* as a scalar of YAML."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML and not text.endswith(":"):
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
