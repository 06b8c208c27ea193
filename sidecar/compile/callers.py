# SPDX-License-Identifier: Apache-2.0
"""
``callers`` in ``routes.yaml``: an ordered list of what says who calls, and whom each stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.compile.caller_principals import KnownPrincipals, Principals
from sidecar.compile.documents import JsonNumber
from sidecar.compile.problems import Finding, error, quote
from sidecar.compile.route_templates import Hole, Names, check_plain, cut, is_capture_name, parse_claim
from sidecar.compile.shape import JsonObject, Place
from sidecar.model.route import (
    MAX_CALLER_RULES,
    MAX_CAPTURES,
    MAX_CLAIM_TESTS,
    MAX_CLAIM_VALUES,
    MAX_KEY_DIGESTS,
    AnonymousRule,
    ApiKeyRule,
    CallerRule,
    CertificateRule,
    ClaimTest,
    JwtRule,
    PieceSource,
    SessionTokenRule,
    Template,
    TemplatePiece,
)

#: Filter and key under which Envoy's ``jwt_authn`` puts claims, unless its configuration says otherwise.
JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD: Final = "jwt_payload"
API_KEY_HEADER: Final = "x-api-key"

_KINDS: Final = ("session_token", "jwt", "certificate", "api_key", "anonymous")
_PRINCIPAL_KEYS: Final = frozenset({"role", "session_name", "user"})
_JWT_KEYS: Final = frozenset({"filter", "payload", "rules"})
_JWT_RULE_KEYS: Final = _PRINCIPAL_KEYS | {"when"}
_TEST_KEYS: Final = frozenset({"claim", "is"})
_CERTIFICATE_RULE_KEYS: Final = _PRINCIPAL_KEYS | {"san"}
_API_KEYS: Final = frozenset({"header", "clients"})
_CLIENT_KEYS: Final = _PRINCIPAL_KEYS | {"name", "sha256"}

#: Numbers that have one spelling, and that every reader of JSON can tell from their neighbours.
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,14}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLIENT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_MAX_SAN: Final = 2048
_MAX_CLAIM_VALUE: Final = 1024
_MAX_FILTER: Final = 256


def parse_callers(place: Place, document: object, known: KnownPrincipals) -> tuple[CallerRule, ...]:
    """Return the rules of *document*, the value of ``callers``, in the order in which they are tried."""
    return _Reader(place, known).callers(document)


class _Reader:
    """Reads one list. Thread-safety: confined to one thread."""

    def __init__(self, place: Place, known: KnownPrincipals) -> None:
        self._place = place
        self._principals = Principals(place, known)
        self._rules: list[CallerRule] = []
        self._digests: dict[str, str] = {}
        self._clients: dict[str, str] = {}

    def callers(self, document: object) -> tuple[CallerRule, ...]:
        """Read the whole list."""
        items = self._place.array(document, "$.callers", "`callers`")
        if items is not None and not items:
            self._place.error("$.callers", "nobody can call", "leave `callers` out for session tokens")
        seen: dict[tuple[object, ...], str] = {}
        last = ""
        for index, item in enumerate(items or ()):
            path = f"$.callers[{index}]"
            if last:
                self._place.error(path, f"a caller behind {last} is never reached", "`anonymous` stands last")
                break
            kind, value = self._kind(item, path)
            if value is None:
                continue
            key = self._read(kind, value, f"{path}.{kind}")
            other = seen.setdefault((kind, *key), path)
            if other != path:
                self._place.error(path, f"`{kind}` stands twice: also at {other}", "put all of its rules into one")
            if kind == "anonymous":
                last = path
        if len(self._rules) > MAX_CALLER_RULES:
            self._place.error("$.callers", f"{len(self._rules):,} rules of callers, more than {MAX_CALLER_RULES:,}")
        return tuple(self._rules)

    def _kind(self, item: object, path: str) -> tuple[str, JsonObject | None]:
        """Tell what an entry is: an object of one key."""
        value = self._place.mapping(item, path, "a caller")
        if value is None:
            return "", None
        self._place.known_keys(value, path, _KINDS, "a caller")
        kinds = [kind for kind in value if kind in _KINDS]
        if len(kinds) != 1:
            if kinds or not value:
                self._place.error(path, "a caller is one thing", "one of `" + "`, `".join(_KINDS) + "`")
            return "", None
        kind = kinds[0]
        # `- anonymous:` with nothing behind it is null in YAML.
        raw = {} if value[kind] is None else value[kind]
        return kind, self._place.mapping(raw, f"{path}.{kind}", f"`{kind}`")

    def _read(self, kind: str, value: JsonObject, path: str) -> tuple[object, ...]:
        """Read one entry; the answer tells entries of one kind apart."""
        if kind == "session_token":
            self._session_token(value, path)
        elif kind == "jwt":
            return self._jwt(value, path)
        elif kind == "certificate":
            self._certificate(value, path)
        elif kind == "api_key":
            return (self._api_key(value, path),)
        else:
            self._anonymous(value, path)
        return ()

    def _session_token(self, value: JsonObject, path: str) -> None:
        self._place.known_keys(value, path, ("header", "cookie"), "`session_token`")
        flags = {"header": True, "cookie": True}
        for key in flags:
            if key in value:
                flags[key] = self._place.boolean(value[key], f"{path}.{key}", f"`{key}`") or False
        if not any(flags.values()):
            self._place.error(path, "`session_token` takes neither header nor cookie", "take it out")
        self._rules.append(SessionTokenRule(**flags))

    def _jwt(self, value: JsonObject, path: str) -> tuple[str, str]:
        self._place.known_keys(value, path, _JWT_KEYS, "`jwt`")
        texts = {"filter": JWT_FILTER, "payload": JWT_PAYLOAD}
        for key, default in tuple(texts.items()):
            if key in value:
                found = self._place.text(value[key], f"{path}.{key}", f"`{key}`")
                if found is not None and (len(found.encode()) > _MAX_FILTER or not found.isprintable()):
                    self._place.error(f"{path}.{key}", f"{quote(found)} cannot be a name of metadata")
                texts[key] = found or default
        names = Names({}, {PieceSource.JWT, PieceSource.EXTENSION}, "a rule of `jwt`")
        for rule_path, rule in self._entries(value, path, "rules", _JWT_RULE_KEYS, "a rule of `jwt`"):
            tests = self._tests(rule, rule_path)
            principal = self._principals.template(rule, rule_path, names)
            if tests is not None and principal:
                self._rules.append(JwtRule(texts["filter"], texts["payload"], tests, principal))
        return texts["filter"], texts["payload"]

    def _entries(
        self, value: JsonObject, path: str, key: str, known: frozenset[str], what: str
    ) -> list[tuple[str, JsonObject]]:
        """Return the objects of the list *key*, each with its path."""
        if key not in value:
            self._place.error(path, f"`{key}` is missing", "each says for whom it stands: a `role` or a `user`")
            return []
        items = self._place.array(value[key], f"{path}.{key}", f"`{key}`")
        if items is not None and not items:
            self._place.error(f"{path}.{key}", f"`{key}` is empty")
        found: list[tuple[str, JsonObject]] = []
        for index, item in enumerate(items or ()):
            item_path = f"{path}.{key}[{index}]"
            entry = self._place.mapping(item, item_path, what)
            if entry is not None:
                self._place.known_keys(entry, item_path, known, what)
                found.append((item_path, entry))
        return found

    def _tests(self, rule: JsonObject, path: str) -> tuple[ClaimTest, ...] | None:
        if "when" not in rule:
            self._place.error(path, "a rule without `when`", "state at least the issuer: `when: [{claim: iss, is: …}]`")
            return None
        items = self._place.array(rule["when"], f"{path}.when", "`when`")
        if items is None:
            return None
        if not 1 <= len(items) <= MAX_CLAIM_TESTS:
            self._place.error(f"{path}.when", f"{len(items)} tests, not 1 to {MAX_CLAIM_TESTS}")
            return None
        tests = [self._test(item, f"{path}.when[{index}]") for index, item in enumerate(items)]
        good = tuple(test for test in tests if test is not None)
        if len(good) != len(tests):
            return None
        if not any(test.claim == ("iss",) for test in good):
            self._place.warning(
                f"{path}.when",
                "no test of the claim `iss`",
                "another issuer may fill the same claims with what it likes",
            )
        return good

    def _test(self, item: object, path: str) -> ClaimTest | None:
        value = self._place.mapping(item, path, "a test")
        if value is None:
            return None
        self._place.known_keys(value, path, _TEST_KEYS, "a test")
        for key in ("claim", "is"):
            if key not in value:
                self._place.error(path, f"a test without `{key}`", "as in `{claim: iss, is: https://idp.example.com}`")
                return None
        text = self._place.text(value["claim"], f"{path}.claim", "`claim`")
        claim = parse_claim(text) if text is not None else None
        if text is not None and claim is None:
            self._place.error(
                f"{path}.claim",
                f"{quote(text)} is not a claim",
                "names with dots between; in quotes where one holds a dot",
            )
        raw = value["is"]
        values = raw if isinstance(raw, list) else [raw]
        if not 1 <= len(values) <= MAX_CLAIM_VALUES:
            self._place.error(f"{path}.is", f"{len(values)} values, not 1 to {MAX_CLAIM_VALUES}")
            return None
        texts: list[str] = []
        for index, one in enumerate(values):
            shown = f"{path}.is[{index}]" if isinstance(raw, list) else f"{path}.is"
            found = self._claim_value(one, shown)
            if found is None:
                return None
            texts.append(found)
        return ClaimTest(claim, tuple(texts)) if claim is not None else None

    def _claim_value(self, value: object, path: str) -> str | None:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, JsonNumber):
            if _WHOLE.fullmatch(value):
                return str(value)
            self._place.error(
                path,
                f"no claim is compared with the number {quote(value)}",
                "whole numbers of up to 15 digits, or text",
            )
            return None
        found = self._place.text(value, path, "the value of a claim")
        if found is not None and (len(found.encode()) > _MAX_CLAIM_VALUE or not found.isprintable()):
            self._place.error(path, f"{quote(found)} cannot be the value of a claim")
            return None
        return found

    def _certificate(self, value: JsonObject, path: str) -> None:
        self._place.known_keys(value, path, ("rules",), "`certificate`")
        for rule_path, rule in self._entries(value, path, "rules", _CERTIFICATE_RULE_KEYS, "a rule of `certificate`"):
            if "san" not in rule:
                self._place.error(
                    rule_path, "a rule without `san`", "such as `spiffe://example.com/ns/{namespace}/sa/billing`"
                )
                continue
            text = self._place.text(rule["san"], f"{rule_path}.san", "`san`")
            if text is None:
                continue
            name, captures, wrong = parse_san(text)
            if wrong is not None:
                self._place.problems.add(self._place.file, f"{rule_path}.san", wrong)
                continue
            names = Names(
                captures, {PieceSource.CAPTURE, PieceSource.PEER, PieceSource.EXTENSION}, "a rule of `certificate`"
            )
            principal = self._principals.template(rule, rule_path, names)
            if name and principal:
                self._rules.append(CertificateRule(name, principal))

    def _api_key(self, value: JsonObject, path: str) -> str:
        self._place.known_keys(value, path, _API_KEYS, "`api_key`")
        header = API_KEY_HEADER
        if "header" in value:
            found = self._place.text(value["header"], f"{path}.header", "`header`")
            if found is not None and not _HEADER_NAME.fullmatch(found.lower()):
                self._place.error(f"{path}.header", f"{quote(found)} is not the name of a header", "as in `x-api-key`")
            elif found is not None and found.lower() in ("authorization", "cookie"):
                self._place.error(
                    f"{path}.header", f"an API key does not stand in {quote(found)}", "give it its own header"
                )
            header = (found or header).lower()
        names = Names({}, {PieceSource.EXTENSION}, "a client of `api_key`")
        for client_path, client in self._entries(value, path, "clients", _CLIENT_KEYS, "a client of `api_key`"):
            name = self._client_name(client, client_path, header)
            digests = self._client_digests(client, client_path)
            principal = self._principals.template(client, client_path, names)
            if name and digests is not None and principal:
                self._rules.append(ApiKeyRule(header, name, digests, principal))
        return header

    def _client_name(self, client: JsonObject, path: str, header: str) -> str:
        if "name" not in client:
            self._place.error(path, "a client without `name`")
            return ""
        name = self._place.text(client["name"], f"{path}.name", "`name`")
        if name is None:
            return ""
        if not _CLIENT_NAME.fullmatch(name):
            self._place.error(
                f"{path}.name", f"{quote(name)} cannot name a client", "up to 64 letters, digits, `.`, `_`, `-`"
            )
            return ""
        other = self._clients.setdefault(f"{header} {name}", path)
        if other != path:
            self._place.error(f"{path}.name", f"the client {quote(name)} stands twice: also at {other}")
        return name

    def _client_digests(self, client: JsonObject, path: str) -> tuple[str, ...] | None:
        if "sha256" not in client:
            return ()
        raw = client["sha256"]
        values = raw if isinstance(raw, list) else [raw]
        if len(values) > MAX_KEY_DIGESTS:
            self._place.error(f"{path}.sha256", f"{len(values)} digests, more than {MAX_KEY_DIGESTS}")
            return None
        digests: list[str] = []
        for index, one in enumerate(values):
            shown = f"{path}.sha256[{index}]" if isinstance(raw, list) else f"{path}.sha256"
            if not isinstance(one, str) or not _DIGEST.fullmatch(one.lower()):
                self._place.error(
                    shown, "not the SHA-256 of a key", '64 hexadecimal digits in quotes: `printf %s "$KEY" | sha256sum`'
                )
                return None
            digest = str(one).lower()
            other = self._digests.setdefault(digest, shown)
            if other != shown:
                self._place.error(shown, f"the same key stands at {other}", "a key belongs to one client")
            digests.append(digest)
        return tuple(digests)

    def _anonymous(self, value: JsonObject, path: str) -> None:
        self._place.known_keys(value, path, _PRINCIPAL_KEYS, "`anonymous`")
        principal: Template | None = ()
        if value:
            principal = self._principals.template(value, path, Names({}, {PieceSource.EXTENSION}, "`anonymous`"))
        if principal is not None:
            self._rules.append(AnonymousRule(principal))


def parse_san(text: str) -> tuple[Template, Mapping[str, int], Finding | None]:
    """
    Return the pieces of a name in a certificate, and the numbers of its captures.

    >>> [piece.text for piece in parse_san("spiffe://example.com/ns/{ns}/sa/web")[0]]
    ['spiffe://example.com/ns/', 'ns', '/sa/web']
    """
    if len(text.encode()) > _MAX_SAN:
        return (), {}, error(f"{quote(text)} has more than {_MAX_SAN:,} bytes")
    parts, wrong = cut(text)
    wrong = wrong or check_plain(text)
    if wrong is not None:
        return (), {}, wrong
    pieces: list[TemplatePiece] = []
    captures: dict[str, int] = {}
    for index, part in enumerate(parts):
        if isinstance(part, Hole):
            name = part.text
            before = parts[index - 1] if index else "/"
            behind = parts[index + 1] if index + 1 < len(parts) else "/"
            if not is_capture_name(name) or name in captures:
                return (), {}, error(f"{quote(name)} cannot be a name in {quote(text)}", "each has its own")
            if not (
                isinstance(before, str) and before.endswith("/") and isinstance(behind, str) and behind.startswith("/")
            ):
                return (), {}, error(f"`{{{name}}}` is not a whole segment of {quote(text)}", "slashes stand round it")
            pieces.append(TemplatePiece(PieceSource.CAPTURE, name, len(captures)))
            captures[name] = len(captures)
        else:
            if "*" in part:
                return (), {}, error(f"a `*` in {quote(text)}", "`{name}` takes one segment between slashes")
            pieces.append(TemplatePiece(PieceSource.TEXT, part))
    if len(captures) > MAX_CAPTURES:
        return (), {}, error(f"{quote(text)} has more than {MAX_CAPTURES} names")
    return tuple(pieces), captures, None
