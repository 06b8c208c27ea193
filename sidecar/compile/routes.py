# SPDX-License-Identifier: Apache-2.0
"""
``routes.yaml``: which HTTP request means which action on which resource, and who calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sidecar.compile.caller_principals import KnownPrincipals
from sidecar.compile.callers import parse_callers
from sidecar.compile.documents import JsonNumber
from sidecar.compile.problems import Finding, member, quote
from sidecar.compile.route_paths import Path, parse_grpc, parse_host, parse_method, parse_path
from sidecar.compile.route_ranks import check_ranks
from sidecar.compile.route_templates import (
    Names,
    Result,
    parse_account_template,
    parse_action_template,
    parse_context_template,
    parse_resource_template,
)
from sidecar.compile.shape import JsonObject, Place
from sidecar.model.request import MAX_CONTEXT_KEY, is_reserved_key
from sidecar.model.route import (
    MAX_HOSTED_ROUTES,
    MAX_ROUTE_CONTEXT,
    MAX_ROUTE_HOSTS,
    MAX_ROUTE_ID,
    MAX_ROUTE_METHODS,
    MAX_ROUTES,
    NO_FLAGS,
    ApiKeyRule,
    CallerRule,
    ContextTemplate,
    PieceSource,
    Route,
    RouteFlag,
    RouteTable,
    SessionTokenRule,
    Template,
)
from sidecar.model.snapshot import Account, ResourcePolicy

_Templates = tuple[Template, Template, Template, tuple[ContextTemplate, ...]]

_FILE_KEYS: Final = frozenset({"paths", "callers", "routes"})
#: Settings of paths: their values, each with the flag that it sets; the first is the strict one and the default.
_PATHS: Final = {
    "case": {"sensitive": NO_FLAGS, "insensitive": RouteFlag.IGNORES_CASE},
    "encoded_slashes": {"deny": NO_FLAGS, "keep": RouteFlag.KEEPS_ENCODED_SLASHES},
    "double_slashes": {"deny": NO_FLAGS, "merge": RouteFlag.MERGES_SLASHES},
    "parameters": {"deny": NO_FLAGS, "keep": RouteFlag.KEEPS_PARAMETERS},
    "trailing_slash": {"significant": NO_FLAGS, "ignore": RouteFlag.IGNORES_TRAILING_SLASH},
}
_ASKING: Final = ("action", "resource", "resource_account", "context", "proof_for")
_ROUTE_KEYS: Final = frozenset({"id", "hosts", "methods", "path", "grpc", "public", "forward_token", *_ASKING})
_PROOFS: Final = {"session": NO_FLAGS, "call": RouteFlag.PROOF_FOR_CALL}

_ID: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_ROUTE_ID - 1}}}", re.ASCII)
_CONTEXT_KEY: Final = re.compile(r"[A-Za-z0-9-]+:[!-~]+", re.ASCII)
#: Condition keys that say where a request comes from: the sidecar takes them from the proxy.
_CONNECTION_KEYS: Final = frozenset({"aws:sourceip", "aws:useragent", "aws:referer", "aws:securetransport"})


def parse_routes(
    place: Place,
    document: object,
    *,
    accounts: tuple[Account, ...],
    resource_policies: tuple[ResourcePolicy, ...] = (),
) -> RouteTable | None:
    """
    Turn the content of a file of routes into its model.

    Args:
        accounts: Accounts of the snapshot, whose principals callers stand for.
        resource_policies: Those of the snapshot, which may say who owns a resource.

    Returns:
        None when it cannot be read at all; problems were then reported to *place*.
    """
    value = place.mapping(document, "$", "a file of routes")
    if value is None:
        return None
    place.known_keys(value, "$", _FILE_KEYS, "a file of routes")
    flags = _paths(place, value["paths"]) if "paths" in value else NO_FLAGS
    rules: tuple[CallerRule, ...] = (SessionTokenRule(),)
    if "callers" in value:
        rules = parse_callers(place, value["callers"], KnownPrincipals.of(accounts))
    if "routes" not in value:
        place.error("$", "a file of routes without `routes`", "as in `routes: []`, which denies every request")
        return None
    reader = _Reader(
        place,
        flags,
        callers=rules,
        has_jwt=_has_jwt(value.get("callers")),
        has_one_account=len(accounts) < 2,
        owned_services=frozenset(policy.arn.split(":", 3)[2] for policy in resource_policies),
    )
    return reader.table(value["routes"])


def _paths(place: Place, raw: object) -> RouteFlag:
    """Read how targets are read."""
    flags = NO_FLAGS
    value = place.mapping(raw, "$.paths", "`paths`")
    if value is None:
        return flags
    place.known_keys(value, "$.paths", _PATHS, "`paths`")
    for key, words in _PATHS.items():
        if key in value:
            flags |= _word(place, value[key], f"$.paths.{key}", f"`{key}`", words)
    return flags


def _word(place: Place, raw: object, path: str, what: str, words: dict[str, RouteFlag]) -> RouteFlag:
    text = place.text(raw, path, what)
    if text is not None and text not in words:
        place.error(path, f"{what} cannot be {quote(text)}", "one of `" + "`, `".join(words) + "`")
    return words.get(text or "", NO_FLAGS)


class _Reader:
    """Reads the routes of one file. Thread-safety: confined to one thread."""

    def __init__(
        self,
        place: Place,
        flags: RouteFlag,
        *,
        callers: tuple[CallerRule, ...],
        has_jwt: bool,
        has_one_account: bool,
        owned_services: frozenset[str],
    ) -> None:
        self._place = place
        self._flags = flags
        self._callers = callers
        self._has_jwt = has_jwt
        self._key_headers = frozenset(rule.header for rule in callers if isinstance(rule, ApiKeyRule))
        self._has_one_account = has_one_account
        self._owned_services = owned_services
        self._ids: dict[str, str] = {}

    def table(self, raw: object) -> RouteTable | None:
        """Read all routes."""
        items = self._place.array(raw, "$.routes", "`routes`")
        if items is None:
            return None
        if len(items) > MAX_ROUTES:
            self._place.error("$.routes", f"{len(items):,} routes, more than {MAX_ROUTES:,}")
            return None
        routes: list[Route] = []
        paths: list[str] = []
        for index, item in enumerate(items):
            path = f"$.routes[{index}]"
            route = self._route(item, path)
            if route is not None:
                routes.append(route)
                paths.append(path)
        places = sum(len(route.hosts) or 1 for route in routes)
        if places > MAX_HOSTED_ROUTES:
            self._place.error(
                "$.routes",
                f"the hosts of all routes are {places:,}, more than {MAX_HOSTED_ROUTES:,}",
                "use `*.example.com`, or leave `hosts` out where every host has the route",
            )
            return None
        table = RouteTable(self._flags, self._callers, tuple(routes))
        check_ranks(self._place, table, paths)
        return table

    def _route(self, item: object, path: str) -> Route | None:
        place = self._place
        value = place.mapping(item, path, "a route")
        if value is None:
            return None
        place.known_keys(value, path, _ROUTE_KEYS, "a route")
        before = place.problems.error_count
        route_id = self._id(value, path)
        segments = self._segments(value, path)
        hosts = self._words(value, path, "hosts", parse_host, MAX_ROUTE_HOSTS)
        methods = self._words(value, path, "methods", parse_method, MAX_ROUTE_METHODS)
        if "grpc" in value:
            methods = ("POST",)
        flags = self._own_flags(value, path)
        if flags & RouteFlag.PUBLIC:
            asking = [key for key in _ASKING if key in value]
            if asking:
                place.error(
                    f"{path}.{asking[0]}",
                    f"a public route with `{asking[0]}`",
                    "nothing is asked for a public route: take one of the two out",
                )
            templates: _Templates = ((), (), (), ())
        else:
            templates = self._templates(value, path, segments or ())
        if place.problems.error_count != before or segments is None:
            return None
        return Route(route_id, segments, hosts, methods, flags, *templates)

    def _id(self, value: JsonObject, path: str) -> str:
        if "id" not in value:
            self._place.error(path, "a route without `id`", "decision logs and `x-iam-route` name it by its id")
            return ""
        text = self._place.text(value["id"], f"{path}.id", "`id`")
        if text is None:
            return ""
        if not _ID.fullmatch(text):
            self._place.error(
                f"{path}.id",
                f"{quote(text)} cannot be the id of a route",
                f"up to {MAX_ROUTE_ID} letters, digits, `.`, `_` and `-`, a letter or digit first",
            )
            return ""
        other = self._ids.setdefault(text, path)
        if other != path:
            self._place.error(f"{path}.id", f"the id {quote(text)} stands twice: also at {other}", "each has its own")
        return str(text)

    def _segments(self, value: JsonObject, path: str) -> Path | None:
        keys = [key for key in ("path", "grpc") if key in value]
        if len(keys) != 1:
            self._place.error(
                path,
                "a route with both `path` and `grpc`" if keys else "a route without `path`",
                "keep one of them" if keys else "such as `/orders/{order}`, or `grpc: shop.v1.Orders/GetOrder`",
            )
            return None
        key = keys[0]
        if key == "grpc" and "methods" in value:
            self._place.error(f"{path}.methods", "a gRPC route with `methods`", "gRPC is always POST: take it out")
        text = self._place.text(value[key], f"{path}.{key}", f"`{key}`")
        if text is None:
            return None
        segments, wrong = parse_grpc(text) if key == "grpc" else parse_path(text, self._flags)
        self._add(f"{path}.{key}", wrong)
        return segments

    def _words(
        self,
        value: JsonObject,
        path: str,
        key: str,
        parse: Callable[[str], tuple[str | None, Finding | None]],
        most: int,
    ) -> tuple[str, ...]:
        """Read a list of hosts or methods; one alone need not be a list."""
        if key not in value:
            return ()
        raw = value[key]
        items = self._place.array([raw] if isinstance(raw, str) else raw, f"{path}.{key}", f"`{key}`")
        if items is None:
            return ()
        if not items:
            self._place.error(f"{path}.{key}", f"`{key}` is empty", "leave it out for any")
        if len(items) > most:
            self._place.error(f"{path}.{key}", f"{len(items)} {key}, more than {most}")
            return ()
        found: dict[str, None] = {}
        for index, item in enumerate(items):
            item_path = f"{path}.{key}[{index}]" if isinstance(raw, list) else f"{path}.{key}"
            text = self._place.text(item, item_path, f"an entry of `{key}`")
            word, wrong = parse(text) if text is not None else (None, None)
            self._add(item_path, wrong)
            if word is not None and word in found:
                self._place.error(item_path, f"{quote(word)} stands twice", "keep one of them")
            if word is not None:
                found[str(word)] = None
        return tuple(found)

    def _own_flags(self, value: JsonObject, path: str) -> RouteFlag:
        flags = NO_FLAGS
        for key, flag in (("public", RouteFlag.PUBLIC), ("forward_token", RouteFlag.FORWARD_TOKEN)):
            if key in value and self._place.boolean(value[key], f"{path}.{key}", f"`{key}`"):
                flags |= flag
        if "proof_for" in value:
            flags |= _word(self._place, value["proof_for"], f"{path}.proof_for", "`proof_for`", _PROOFS)
        return flags

    def _templates(self, value: JsonObject, path: str, segments: Path) -> _Templates:
        captures = [segment.name for segment in segments if segment.kind]
        names = Names({name: number for number, name in enumerate(captures) if name})
        for key in ("action", "resource"):
            if key not in value:
                self._place.error(
                    path,
                    f"a route that is not public without `{key}`",
                    "what does it mean? `public: true` asks nothing"
                    if key == "action"
                    else "`*` for an action without one",
                )
        action = self._template(value, path, "action", names, parse_action_template)
        resource = self._template(value, path, "resource", names, parse_resource_template)
        account = self._template(value, path, "resource_account", names, parse_account_template)
        self._check_owner(resource, account, path)
        return action, resource, account, self._context(value, path, names)

    def _check_owner(self, resource: Template, account: Template, path: str) -> None:
        """Say where the account in an ARN and the one beside it differ, or where there is none at all."""
        fields = "".join(piece.text if piece.source is PieceSource.TEXT else "\0" for piece in resource).split(":", 5)
        if len(fields) < 6:
            return
        stated = account[0].text if len(account) == 1 and account[0].source is PieceSource.TEXT else ""
        if stated and fields[4] and "\0" not in fields[4] and fields[4] != stated:
            self._place.error(
                f"{path}.resource_account", f"account {stated} contradicts account {quote(fields[4])} of `resource`"
            )
        if not (account or fields[4] or self._has_one_account or fields[2] in self._owned_services):
            self._place.warning(
                path, "nothing says which account owns the resource", "its ARN names none: add `resource_account`"
            )

    def _template(
        self, value: JsonObject, path: str, key: str, names: Names, parse: Callable[[str, Names], Result]
    ) -> Template:
        if key not in value:
            return ()
        path = member(path, key)
        text = self._place.text(value[key], path, f"`{key}`") if not _is_digits(value[key]) else str(value[key])
        template, wrong = parse(text, names) if text is not None else (None, None)
        self._add(path, wrong)
        if template and not self._has_jwt and any(piece.source is PieceSource.JWT for piece in template):
            self._place.error(
                path,
                "a claim of a JWT, and no caller is one",
                "add `- jwt: …` to `callers`: it says which filter verifies it",
            )
        for piece in template or ():
            if piece.source is PieceSource.HEADER and piece.text in self._key_headers:
                self._place.error(path, f"the header {quote(piece.text)} holds API keys", "it would end up in records")
        return template or ()

    def _context(self, value: JsonObject, path: str, names: Names) -> tuple[ContextTemplate, ...]:
        if "context" not in value:
            return ()
        path = f"{path}.context"
        context = self._place.mapping(value["context"], path, "`context`")
        if context is None:
            return ()
        if len(context) > MAX_ROUTE_CONTEXT:
            self._place.error(path, f"{len(context)} condition keys, more than {MAX_ROUTE_CONTEXT}")
            return ()
        found: list[ContextTemplate] = []
        seen: dict[str, str] = {}
        for key in context:
            self._check_key(key, member(path, key), seen)
            template = self._template(context, path, key, names, parse_context_template)
            if template:
                found.append(ContextTemplate(key, template))
        return tuple(found)

    def _check_key(self, key: str, path: str, seen: dict[str, str]) -> None:
        other = seen.setdefault(key.lower(), key)
        if other != key:
            self._place.error(path, f"{quote(key)} and {quote(other)} are one condition key", "case does not count")
        elif not _CONTEXT_KEY.fullmatch(key) or len(key) > MAX_CONTEXT_KEY:
            self._place.error(path, f"{quote(key)} is not a condition key", "as in `orders:Status`")
        elif key.lower() in _CONNECTION_KEYS:
            self._place.error(path, f"{quote(key)} is taken from the proxy", "it is there without this")
        elif is_reserved_key(key):
            self._place.error(path, f"{quote(key)} is a key that the sidecar alone sets", "use a key of your service")

    def _add(self, path: str, finding: Finding | None) -> None:
        if finding is not None:
            self._place.problems.add(self._place.file, path, finding)


def _has_jwt(callers: object) -> bool:
    """Say whether a JWT is among *callers*, whatever is wrong with its rules."""
    return isinstance(callers, list) and any(isinstance(item, dict) and "jwt" in item for item in callers)


def _is_digits(value: object) -> bool:
    """Say whether *value* is an account that YAML took for a number."""
    return isinstance(value, JsonNumber) and len(value) == 12 and value.isdigit()
