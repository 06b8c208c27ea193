# SPDX-License-Identifier: Apache-2.0
"""
From a policy document to the model of it, or to everything that is wrong with it.

What may stand in a document depends on its kind. Nothing that is not understood is ever skipped: an element that is
ignored in a Deny opens a door.
"""

from __future__ import annotations

import difflib
import urllib.parse
from functools import lru_cache
from typing import Final, NamedTuple, cast

from sidecar.compile.conditions import (
    SPELLINGS,
    Operator,
    advise_condition,
    explain_operator,
    parse_key,
    parse_value,
    plain_condition,
)
from sidecar.compile.documents import DocumentError, DuplicateKeysDict, JsonNumber, read_json
from sidecar.compile.patterns import (
    MAX_CACHED,
    Findings,
    check_characters,
    matches_literally,
    parse_action,
    parse_resource,
    plain_action,
    plain_resource,
)
from sidecar.compile.principals import ANYONE, PRINCIPAL_TYPES, parse_principal
from sidecar.compile.problems import Problems, member, quote
from sidecar.compile.quotas import MAX_DOCUMENT_TEXT, MAX_STATEMENTS, QUOTAS, document_size
from sidecar.model.policy import (
    ActionPattern,
    ArnPattern,
    BaseOperator,
    Condition,
    ConditionValue,
    Effect,
    PolicyDocument,
    PolicyKind,
    PrincipalKind,
    PrincipalPattern,
    Qualifier,
    Statement,
    ValueType,
)

_VERSION: Final = "2012-10-17"
_OLD_VERSION: Final = "2008-10-17"

_DOCUMENT_ELEMENTS: Final = ("Version", "Id", "Statement")
_STATEMENT_ELEMENTS: Final = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_KNOWN_STATEMENT_ELEMENTS: Final = frozenset(_STATEMENT_ELEMENTS)
_PLAIN_STATEMENT_ELEMENTS: Final = frozenset({"Sid", "Effect", "Action", "Resource", "Condition"})

_STRINGS_ONLY: Final = {str}


class _Rules(NamedTuple):
    """
    What may stand in one kind of policy.

    Attributes:
        principal: Whether a principal must stand in every statement; otherwise none may.
        not_principal: Whether ``NotPrincipal`` may stand there.
        resource: Whether a resource must stand in every statement.
        no_resource: Whether no resource may stand there.
        plain_sid: Whether a ``Sid`` has letters and digits only.
        id: Whether an ``Id`` belongs there.
    """

    principal: bool
    not_principal: bool
    resource: bool
    no_resource: bool
    plain_sid: bool
    id: bool


_RULES: Final = {
    PolicyKind.IDENTITY: _Rules(False, False, True, False, True, False),
    PolicyKind.BOUNDARY: _Rules(False, False, True, False, True, False),
    PolicyKind.SESSION: _Rules(False, False, True, False, True, False),
    PolicyKind.SERVICE_CONTROL: _Rules(False, False, True, False, False, False),
    PolicyKind.RESOURCE_CONTROL: _Rules(True, False, True, False, False, False),
    PolicyKind.RESOURCE: _Rules(True, True, False, False, False, True),
    PolicyKind.TRUST: _Rules(True, False, False, True, True, True),
}

# Looking up a member of an enumeration is slow, and a snapshot has many statements.
_ALLOW: Final = Effect.ALLOW
_DENY: Final = Effect.DENY
_TRUST: Final = PolicyKind.TRUST
_NULL: Final = ValueType.NULL
_NO_QUALIFIER: Final = Qualifier.NONE

#: Lines of conditions with more values are read anew each time.
_MAX_CACHED_VALUES: Final = 16

#: The same of lists of actions.
_MAX_CACHED_ACTIONS: Final = 32

#: Work spent on trying wildcards against the other actions of one list, in characters compared.
_MAX_COMPARISONS: Final = 1_000_000


def parse_policy(
    document: object,
    *,
    kind: PolicyKind,
    problems: Problems,
    file: str,
    path: str = "$",
    check_quota: bool = True,
    advice: bool = True,
) -> PolicyDocument | None:
    """
    Return the checked model of *document*, or None after adding what is wrong with it to *problems*.

    Args:
        document: What ``read_json`` gave, or a text of JSON, or one of URL-encoded JSON.
        kind: What the document is attached to, which decides what may stand in it.
        problems: Gathers everything that is found.
        file: File in which the document stands.
        path: JSON path of the document in that file.
        check_quota: Whether the document must keep to AWS's limit of size for its kind. Inline policies share
            a limit, and AWS's own managed policies have none.
        advice: Whether to add warnings. The author of AWS's own managed policies does not read them.

    >>> found = Problems()
    >>> text = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'
    >>> parse_policy(text, kind=PolicyKind.IDENTITY, problems=found, file="p.json").statements[0].actions
    (ActionPattern(service='s3', name='*'),)
    """
    parser = _Parser(kind, problems, file, advice)
    before = problems.error_count
    parsed = parser.document(document, path, check_quota)
    return parsed if problems.error_count == before else None


def decode_document(document: object, *, problems: Problems, file: str, path: str = "$") -> object:
    """
    Return *document* as ``read_json`` gives it, also where it is a text of JSON or of URL-encoded JSON.

    A text that cannot be read adds a problem, and gives None.

    >>> decode_document("%7B%22Statement%22%3A%5B%5D%7D", problems=Problems(), file="p.json")
    {'Statement': []}
    """
    if not isinstance(document, str) or isinstance(document, JsonNumber):
        return document
    if len(document) > MAX_DOCUMENT_TEXT:
        problems.error(
            file,
            path,
            f"the policy document has {len(document):,} characters, and at most {MAX_DOCUMENT_TEXT:,} are read",
            "split the policy",
        )
        return None
    text = document.lstrip(" \t\r\n")
    if not text.startswith("{"):
        decoded = _unquote(text)
        if decoded is None or not decoded.lstrip(" \t\r\n").startswith("{"):
            problems.error(
                file,
                path,
                f"the policy document {quote(text)} is neither JSON nor URL-encoded JSON",
                "write the document as a JSON object, or as a text of one",
            )
            return None
        text = decoded
    try:
        return read_json(text)
    except DocumentError as fault:
        problems.error(file, path, f"the policy document cannot be read: {fault.message}", fault.help)
        return None


#: The escapes that make up nearly all of an encoded policy, replaced without any table. None of them stands for
#: ``%`` or a hexadecimal digit, so that no new escape can come into being.
_COMMON_ESCAPES: Final = (
    ("%22", '"'),
    ("%20", " "),
    ("%0A", "\n"),
    ("%2C", ","),
    ("%3A", ":"),
    ("%7B", "{"),
    ("%7D", "}"),
    ("%5B", "["),
    ("%5D", "]"),
    ("%2A", "*"),
    ("%2F", "/"),
)


def _unquote(text: str) -> str | None:
    for escape, character in _COMMON_ESCAPES:
        text = text.replace(escape, character)
    if "%" not in text:
        return text
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


class _Parser:
    """
    Parses one document.

    Thread-safety: confined to one call.
    """

    __slots__ = (
        "_advice",
        "_file",
        "_index",
        "_is_rcp",
        "_is_scp",
        "_kind",
        "_modern",
        "_problems",
        "_rules",
        "_statements_path",
    )

    def __init__(self, kind: PolicyKind, problems: Problems, file: str, advice: bool) -> None:
        self._kind = kind
        self._problems = problems
        self._file = file
        self._advice = advice
        self._rules = _RULES[kind]
        self._is_scp = kind is PolicyKind.SERVICE_CONTROL
        self._is_rcp = kind is PolicyKind.RESOURCE_CONTROL
        self._modern = True
        self._statements_path = ""
        self._index: int | None = None

    # --- Problems

    def _error(self, path: str, message: str, help: str = "") -> None:
        self._problems.error(self._file, path, message, help)

    def _warn(self, path: str, message: str, help: str = "") -> None:
        if self._advice:
            self._problems.warning(self._file, path, message, help)

    def _report(self, path: str, findings: Findings) -> None:
        for finding in findings:
            if finding.severity == "error":
                self._error(path, finding.message, finding.help)
            else:
                self._warn(path, finding.message, finding.help)

    def _check_duplicates(self, value: dict[str, object], path: str) -> None:
        if isinstance(value, DuplicateKeysDict):
            for key in value.duplicates:
                self._error(
                    member(path, key),
                    f"the key {quote(key)} stands more than once",
                    "keep one of them; values of one key can share a list",
                )

    # --- Document

    def document(self, document: object, path: str, check_quota: bool) -> PolicyDocument | None:
        """Parse a whole document."""
        before = self._problems.error_count
        value = decode_document(document, problems=self._problems, file=self._file, path=path)
        if self._problems.error_count > before:
            return None
        if not isinstance(value, dict):
            self._error(
                path, f"a policy document must be an object, not {_name(value)}", 'write `{"Statement": [...]}`'
            )
            return None
        self._check_duplicates(value, path)
        for name in value:
            if name not in _DOCUMENT_ELEMENTS:
                self._unknown(path, name, _DOCUMENT_ELEMENTS, "policy document")
        version = self._version(value, path)
        identifier = self._id(value, path)
        if check_quota:
            self._check_size(value, path)
        statements = self._statements(value, path)
        return PolicyDocument(version, identifier, statements)

    def _unknown(self, path: str, name: object, known: tuple[str, ...], where: str) -> None:
        text = name if isinstance(name, str) else str(name)
        by_lower_case = {candidate.lower(): candidate for candidate in known}
        near = difflib.get_close_matches(text[:40].lower(), by_lower_case, 1, 0.7)
        remedy = f"did you mean `{by_lower_case[near[0]]}`?" if near else f"a {where} has {', '.join(known)}"
        self._error(member(path, text), f"unknown element {quote(text)} in a {where}", remedy)

    def _version(self, value: dict[str, object], path: str) -> str:
        if "Version" not in value:
            self._modern = False
            return _OLD_VERSION
        version = value["Version"]
        if version == _VERSION:
            return _VERSION
        if version == _OLD_VERSION:
            self._modern = False
            return _OLD_VERSION
        shown = quote(version) if isinstance(version, str) else _name(version)
        self._error(
            f"{path}.Version",
            f"{shown} is no version of the policy language",
            f'write `"{_VERSION}"`, a fixed word and not a date of your own',
        )
        return _VERSION

    def _id(self, value: dict[str, object], path: str) -> str:
        if "Id" not in value:
            return ""
        identifier = value["Id"]
        if not isinstance(identifier, str) or isinstance(identifier, JsonNumber):
            self._error(f"{path}.Id", f"`Id` must be a string, not {_name(identifier)}", "write it in double quotes")
            return ""
        wrong = check_characters(identifier)
        if wrong is not None:
            self._report(f"{path}.Id", (wrong,))
        if not self._rules.id:
            self._warn(f"{path}.Id", f"`Id` has no meaning in a {self._kind}", "leave it out")
        return identifier

    def _check_size(self, value: dict[str, object], path: str) -> None:
        quota = QUOTAS[self._kind]
        size = document_size(value)
        if size > quota.hard:
            self._error(
                path,
                f"the {self._kind} has {size:,} characters without white space, and AWS takes {quota.hard:,}",
                "split it into several policies, or merge statements and use wildcards",
            )
        elif size > quota.soft:
            self._warn(
                path,
                f"the {self._kind} has {size:,} characters without white space, and the quota is {quota.soft:,}",
                "merge statements or use wildcards",
            )

    def _statements(self, value: dict[str, object], path: str) -> tuple[Statement, ...]:
        if "Statement" not in value:
            self._error(path, "a policy document needs a `Statement`", "write one statement, or a list of them")
            return ()
        raw = value["Statement"]
        where = self._statements_path = f"{path}.Statement"
        if isinstance(raw, dict):
            statement = self._statement(raw, 0)
            return () if statement is None else (statement,)
        if not isinstance(raw, list):
            self._error(
                where, f"`Statement` must be an object or a list, not {_name(raw)}", "write a list of statements"
            )
            return ()
        if not raw:
            self._error(where, "the list of statements is empty", "write at least one statement")
            return ()
        if len(raw) > MAX_STATEMENTS:
            self._error(
                where, f"a document may have up to {MAX_STATEMENTS:,} statements, not {len(raw):,}", "split the policy"
            )
            return ()
        statements: list[Statement] = []
        sids: dict[str, int] = {}
        for index, entry in enumerate(raw):
            before = self._problems.error_count
            statement = None
            if isinstance(entry, dict):
                self._index = index
                statement = self._statement(entry, index)
                sid = entry.get("Sid")
                if sid and isinstance(sid, str):
                    first = sids.setdefault(sid, index)
                    if first != index:
                        self._error(
                            f"{where}[{index}].Sid",
                            f"the `Sid` {quote(sid)} names statement {first} already",
                            "give each statement a `Sid` of its own, or none",
                        )
            else:
                self._error(f"{where}[{index}]", f"a statement must be an object, not {_name(entry)}")
            if statement is not None and self._problems.error_count == before:
                statements.append(statement)
        return tuple(statements)

    # --- Statement

    def _statement(self, raw: dict[str, object], index: int) -> Statement | None:
        errors = self._problems.error_count
        if type(raw) is not dict:
            self._check_duplicates(raw, self._place())
        plain = raw.keys() <= _PLAIN_STATEMENT_ELEMENTS
        if not plain and not raw.keys() <= _KNOWN_STATEMENT_ELEMENTS:
            for name in raw:
                if name not in _KNOWN_STATEMENT_ELEMENTS:
                    self._unknown(self._place(), name, _STATEMENT_ELEMENTS, "statement")
        effect = self._effect(raw)
        sid = self._sid(raw)
        actions, not_action = self._actions(raw)
        principals: tuple[PrincipalPattern, ...] | None = None
        not_principal = False
        if not plain or self._rules.principal:
            principals, not_principal = self._principals(raw, effect)
        resources, not_resource = self._resources(raw)
        conditions: tuple[Condition, ...] = ()
        if "Condition" in raw:
            conditions = self._conditions(raw["Condition"], effect)
        if self._problems.error_count != errors or effect is None or actions is None:
            return None
        statement = Statement(
            index,
            sid,
            effect,
            actions,
            not_action,
            resources,
            not_resource,
            principals,
            not_principal,
            conditions,
        )
        if self._is_rcp and effect is _ALLOW and not _is_full_access(statement):
            self._error(
                self._place() + ".Effect",
                "a resource control policy of your own may only deny",
                "write `Deny`; the only Allow is that of RCPFullAWSAccess, for every principal, action and resource",
            )
            return None
        return statement

    def _place(self) -> str:
        """Return the JSON path of the statement at hand; only made once there is something to say about it."""
        return self._statements_path if self._index is None else f"{self._statements_path}[{self._index}]"

    def _effect(self, raw: dict[str, object]) -> Effect | None:
        value = raw.get("Effect")
        if value == "Allow":
            return _ALLOW
        if value == "Deny":
            return _DENY
        place = self._place()
        if "Effect" not in raw:
            self._error(place, "a statement needs an `Effect`", "write `Allow` or `Deny`")
            return None
        remedy = "write `Allow` or `Deny`"
        if isinstance(value, str) and value.lower() in ("allow", "deny"):
            remedy = f"write `{value.capitalize()}`; the case matters"
        shown = quote(value) if isinstance(value, str) else _name(value)
        self._error(f"{place}.Effect", f"the `Effect` must be `Allow` or `Deny`, not {shown}", remedy)
        return None

    def _sid(self, raw: dict[str, object]) -> str:
        sid = raw.get("Sid", "")
        if not isinstance(sid, str) or isinstance(sid, JsonNumber):
            place = f"{self._place()}.Sid"
            self._error(place, f"`Sid` must be a string, not {_name(sid)}", "write it in double quotes")
            return ""
        if not sid or (sid.isascii() and sid.isalnum()):
            return sid
        place = f"{self._place()}.Sid"
        if self._rules.plain_sid:
            self._error(
                place, f"the `Sid` {quote(sid)} has other characters than letters and digits", "use A-Z, a-z and 0-9"
            )
            return ""
        wrong = check_characters(sid)
        if wrong is not None:
            self._report(place, (wrong,))
        elif not sid.isprintable():
            self._error(place, f"the `Sid` {quote(sid)} holds a control character", "use printable characters")
        return sid

    def _texts(self, value: object, element: str, what: str) -> list[str] | None:
        """Return the texts of an element that is a text or a list of them; None after a problem."""
        if type(value) is str:
            return [value]
        if not isinstance(value, list):
            message = f"{what} must be a string or a list of strings, not {_name(value)}"
            self._error(f"{self._place()}.{element}", message, _quotes(value))
            return None
        if not value:
            self._error(f"{self._place()}.{element}", f"the list of {what} is empty", "write at least one entry")
            return None
        if set(map(type, value)) == _STRINGS_ONLY:
            return value
        texts: list[str] = []
        for position, entry in enumerate(value):
            if type(entry) is str:
                texts.append(entry)
            else:
                place = f"{self._place()}.{element}[{position}]"
                self._error(place, f"an entry must be a string, not {_name(entry)}", _quotes(entry))
        return texts or None

    def _either(self, raw: dict[str, object], name: str) -> tuple[str, bool] | None:
        """Return which of an element and its negation stands in the statement; both is a problem."""
        negation = f"Not{name}"
        if name in raw:
            if negation in raw:
                self._error(
                    self._place(),
                    f"a statement has either `{name}` or `{negation}`, not both",
                    "split it into two statements",
                )
                return None
            return name, False
        if negation in raw:
            return negation, True
        return None

    def _entry_place(self, raw: dict[str, object], element: str, position: int) -> str:
        place = f"{self._place()}.{element}"
        return f"{place}[{position}]" if isinstance(raw[element], list) else place

    def _actions(self, raw: dict[str, object]) -> tuple[tuple[ActionPattern, ...] | None, bool]:
        value = raw.get("Action")
        if value is None or "NotAction" in raw:
            chosen = self._either(raw, "Action")
            if chosen is None:
                if "Action" not in raw:
                    self._error(
                        self._place(),
                        "a statement needs an `Action` or a `NotAction`",
                        "name the actions it speaks of",
                    )
                return None, False
            element, negated = chosen
        else:
            element, negated = "Action", False
        result = self._action_entries(raw, element)
        if result is None:
            return None, negated
        if self._kind is _TRUST:
            self._check_trust_actions(raw, element, result)
        if negated and self._is_rcp:
            self._error(
                f"{self._place()}.NotAction",
                "`NotAction` may not stand in a resource control policy",
                "name the actions under `Action`",
            )
        if self._advice and len(result) > 1:
            texts = "".join(cast("list[str]", raw[element]))
            if "*" in texts or "?" in texts or len(set(result)) < len(result):
                self._advise_actions(raw, element, result)
        return result, negated

    def _action_entries(self, raw: dict[str, object], element: str) -> tuple[ActionPattern, ...] | None:
        value = raw[element]
        texts = [value] if type(value) is str else self._texts(value, element, "actions")
        if texts is None:
            return None
        if max(map(len, texts)) <= MAX_CACHED:
            # Nearly always there is nothing to say about any entry.
            plain = tuple(map(plain_action, texts))
            if all(plain):
                return cast("tuple[ActionPattern, ...]", plain)
        actions: list[ActionPattern] = []
        complete = True
        for position, text in enumerate(texts):
            action, findings = parse_action(text, self._is_scp)
            if findings:
                self._report(self._entry_place(raw, element, position), findings)
            if action is None:
                complete = False
            else:
                actions.append(action)
        return tuple(actions) if complete else None

    def _check_trust_actions(self, raw: dict[str, object], element: str, actions: tuple[ActionPattern, ...]) -> None:
        for position, action in enumerate(actions):
            if action.service != "sts":
                self._error(
                    self._entry_place(raw, element, position),
                    f"a role trust policy speaks of `sts` actions only, not of {quote(action.text)}",
                    "name `sts:AssumeRole`, `sts:AssumeRoleWithSAML`, `sts:AssumeRoleWithWebIdentity`, …",
                )

    def _advise_actions(self, raw: dict[str, object], element: str, actions: tuple[ActionPattern, ...]) -> None:
        few = len(actions) <= _MAX_CACHED_ACTIONS
        for position, other in _cached_redundant(actions) if few else _redundant(actions):
            name = quote(actions[position].text)
            if actions[position] == actions[other]:
                message = f"the action {name} stands in the list twice"
            else:
                message = f"the action {name} is covered by {quote(actions[other].text)} of the same list"
            self._warn(self._entry_place(raw, element, position), message, "leave it out")

    def _resources(self, raw: dict[str, object]) -> tuple[tuple[ArnPattern, ...] | None, bool]:
        value = raw.get("Resource")
        if value is None or "NotResource" in raw or self._rules.no_resource:
            chosen = self._either(raw, "Resource")
            if chosen is None:
                if self._rules.resource and "Resource" not in raw:
                    self._error(
                        self._place(),
                        "a statement needs a `Resource` or a `NotResource`",
                        'name the resources it speaks of, or write `"Resource": "*"`',
                    )
                return None, False
            element, negated = chosen
            if self._rules.no_resource:
                self._error(
                    f"{self._place()}.{element}",
                    f"`{element}` may not stand in a {self._kind}",
                    "leave it out: the resource is the role itself",
                )
                return None, negated
        else:
            element, negated = "Resource", False
        return self._resource_entries(raw, element), negated

    def _resource_entries(self, raw: dict[str, object], element: str) -> tuple[ArnPattern, ...] | None:
        value = raw[element]
        texts = [value] if type(value) is str else self._texts(value, element, "resources")
        if texts is None:
            return None
        if self._modern and max(map(len, texts)) <= MAX_CACHED:
            plain = tuple(map(plain_resource, texts))
            if all(plain):
                return cast("tuple[ArnPattern, ...]", plain)
        resources: list[ArnPattern] = []
        for position, text in enumerate(texts):
            resource, findings = parse_resource(text, self._modern)
            if findings:
                self._report(self._entry_place(raw, element, position), findings)
            if resource is not None:
                resources.append(resource)
        return tuple(resources)

    # --- Principals

    def _principals(
        self, raw: dict[str, object], effect: Effect | None
    ) -> tuple[tuple[PrincipalPattern, ...] | None, bool]:
        if not self._rules.principal:
            for element in ("Principal", "NotPrincipal"):
                if element in raw:
                    self._error(
                        f"{self._place()}.{element}",
                        f"`{element}` may not stand in a {self._kind}",
                        "leave it out: the policy speaks of whatever principal it is attached to"
                        if not self._is_scp
                        else "leave it out; a condition on `aws:PrincipalArn` narrows it",
                    )
            return None, False
        chosen = self._either(raw, "Principal")
        if chosen is None:
            if "Principal" not in raw:
                self._error(
                    self._place(),
                    f"a statement of a {self._kind} needs a `Principal`",
                    'name who it speaks of, or write `"Principal": "*"`',
                )
            return None, False
        element, negated = chosen
        place = f"{self._place()}.{element}"
        if negated and not self._rules.not_principal:
            remedy = (
                "write `Principal`" if not self._is_rcp else 'write `"Principal": "*"`, and narrow it with conditions'
            )
            self._error(place, f"`NotPrincipal` may not stand in a {self._kind}", remedy)
        elif negated and effect is _ALLOW:
            self._error(
                place,
                "`NotPrincipal` may not stand with `Allow`: it would grant to everybody else, even anonymously",
                "name who is allowed under `Principal`",
            )
        value = raw[element]
        if self._is_rcp and not negated and value != "*":
            self._error(
                place, "the `Principal` of a resource control policy must be `*`", "narrow it with conditions instead"
            )
            return None, negated
        entries = self._principal_entries(value, element, place)
        if negated and entries and self._advice and effect is _DENY:
            self._advise_not_principal(entries, place)
        return entries, negated

    def _principal_entries(self, value: object, element: str, place: str) -> tuple[PrincipalPattern, ...] | None:
        if value == "*" and type(value) is str:
            return (ANYONE,)
        if not isinstance(value, dict):
            shown = quote(value) if type(value) is str else _name(value)
            self._error(
                place,
                f'a principal must be `*` or an object such as `{{"AWS": ...}}`, not {shown}',
                f"its keys are {', '.join(PRINCIPAL_TYPES)}",
            )
            return None
        self._check_duplicates(value, place)
        if not value:
            self._error(place, "the principal names nobody", f"its keys are {', '.join(PRINCIPAL_TYPES)}")
        entries: list[PrincipalPattern] = []
        for kind, names in value.items():
            if kind not in PRINCIPAL_TYPES:
                self._unknown(place, kind, PRINCIPAL_TYPES, "principal")
                continue
            below = f"{place}.{kind}"
            texts = self._texts(names, f"{element}.{kind}", "principals")
            for position, text in enumerate(texts or ()):
                entry, findings = parse_principal(kind, text)
                if findings:
                    self._report(f"{below}[{position}]" if isinstance(names, list) else below, findings)
                if entry is not None:
                    entries.append(entry)
        return tuple(entries)

    def _advise_not_principal(self, entries: tuple[PrincipalPattern, ...], place: str) -> None:
        listed = {(entry.kind, entry.account, entry.name) for entry in entries}
        if (PrincipalKind.ANY, "", "") in listed:
            self._warn(
                place, "`NotPrincipal` with `*` exempts everybody, so this Deny reaches nobody", "name principals"
            )
            return
        for entry in entries:
            missing = _missing_ancestor(entry, listed)
            if missing:
                self._warn(
                    place,
                    f"{quote(entry.text)} is not exempt, because {missing} is not listed beside it",
                    "list it too; better, deny everybody with a condition `ArnNotLike` on `aws:PrincipalArn`",
                )

    # --- Conditions

    def _conditions(self, block: object, effect: Effect | None) -> tuple[Condition, ...]:
        if not isinstance(block, dict):
            place = f"{self._place()}.Condition"
            self._error(place, f"`Condition` must be an object, not {_name(block)}", _CONDITION_HELP)
            return ()
        if type(block) is not dict:
            self._check_duplicates(block, f"{self._place()}.Condition")
        conditions: list[Condition] = []
        for spelling, lines in block.items():
            operator = SPELLINGS.get(spelling)
            if operator is None:
                place = member(f"{self._place()}.Condition", str(spelling))
                self._report(place, (explain_operator(str(spelling)),))
                continue
            if type(lines) is dict and lines:
                self._lines(spelling, operator, lines, effect, conditions)
                continue
            place = member(f"{self._place()}.Condition", spelling)
            if not isinstance(lines, dict):
                self._error(
                    place, f"`{spelling}` must be an object of keys and values, not {_name(lines)}", _CONDITION_HELP
                )
                continue
            self._check_duplicates(lines, place)
            if not lines:
                self._warn(
                    place, f"`{spelling}` names no condition key and so tests nothing", "name a key, or leave it out"
                )
            else:
                self._lines(spelling, operator, lines, effect, conditions)
        return tuple(conditions)

    def _lines(
        self,
        spelling: str,
        operator: Operator,
        lines: dict[str, object],
        effect: Effect | None,
        conditions: list[Condition],
    ) -> None:
        base, qualifier, if_exists = operator
        modern = self._modern
        if base.value_type is _NULL and qualifier is not _NO_QUALIFIER:
            place = member(f"{self._place()}.Condition", spelling)
            self._warn(place, "a set operator in front of `Null` has no effect", "write `Null` alone")
            qualifier = _NO_QUALIFIER
        seen: dict[str, str] | None = {} if len(lines) > 1 else None
        for name, raw in lines.items():
            plain = None
            if modern:
                # Nearly always there is nothing to say about a line.
                if type(raw) is str:
                    if len(raw) <= MAX_CACHED and len(name) <= MAX_CACHED:
                        plain = plain_condition(spelling, name, (raw,), effect)
                elif type(raw) is list and 0 < len(raw) <= _MAX_CACHED_VALUES and set(map(type, raw)) == _STRINGS_ONLY:
                    if max(map(len, raw)) <= MAX_CACHED and len(name) <= MAX_CACHED:
                        plain = plain_condition(spelling, name, tuple(raw), effect)
            key, findings = parse_key(name, modern) if plain is None else (plain.key, ())
            if findings:
                self._report(self._line_place(spelling, name), findings)
            if seen is not None:
                first = seen.setdefault(key, name)
                if first is not name:
                    self._error(
                        self._line_place(spelling, name),
                        f"the condition keys {quote(first)} and {quote(name)} differ in case alone",
                        "case does not matter in a condition key: keep one, with all the values",
                    )
            if plain is not None:
                conditions.append(plain)
                continue
            values = self._values(base, raw, spelling, name)
            if values is not None:
                condition = Condition(base, qualifier, if_exists, key, values)
                conditions.append(condition)
                self._report(self._line_place(spelling, name), advise_condition(condition, effect, spelling, name))

    def _values(self, base: BaseOperator, raw: object, spelling: str, name: str) -> tuple[ConditionValue, ...] | None:
        entries = raw if isinstance(raw, list) else [raw]
        if not entries:
            self._error(
                self._line_place(spelling, name),
                f"the list of values of {quote(name)} is empty",
                "write at least one value, or use `Null` to ask whether the key is absent",
            )
            return None
        values: list[ConditionValue] = []
        for position, entry in enumerate(entries):
            if type(entry) is str:
                text = entry
            elif isinstance(entry, str):
                text = str(entry)
            elif entry is True or entry is False:
                text = "true" if entry else "false"
            elif type(entry) is int and -(10**30) < entry < 10**30:
                text = str(entry)
            else:
                place = self._line_place(spelling, name)
                if isinstance(raw, list):
                    place = f"{place}[{position}]"
                self._error(
                    place,
                    f"a condition value must be a string, a number or a boolean, not {_name(entry)}",
                    "write one value, or a flat list of values",
                )
                continue
            value, findings = parse_value(base, text, self._modern)
            if findings:
                place = self._line_place(spelling, name)
                self._report(f"{place}[{position}]" if isinstance(raw, list) else place, findings)
            if value is not None:
                values.append(value)
        return tuple(values) if len(values) == len(entries) else None

    def _line_place(self, spelling: str, name: str) -> str:
        return member(member(f"{self._place()}.Condition", spelling), name)


_CONDITION_HELP: Final = 'write `{"StringEquals": {"aws:PrincipalTag/team": "blue"}}`'


def _name(value: object) -> str:
    """Return what a JSON value is, with its article."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "a boolean"
    if isinstance(value, (JsonNumber, int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "something that JSON does not have"


def _missing_ancestor(entry: PrincipalPattern, listed: set[tuple[PrincipalKind, str, str]]) -> str:
    """Return what must be listed beside *entry* for `NotPrincipal` to exempt it, or an empty text."""
    kind = entry.kind
    if kind not in (PrincipalKind.USER, PrincipalKind.ROLE, PrincipalKind.ROLE_SESSION, PrincipalKind.FEDERATED_USER):
        return ""
    if (PrincipalKind.ACCOUNT, entry.account, "") not in listed:
        return f"its account {entry.account}"
    if kind is PrincipalKind.ROLE:
        beginning = f"{entry.name}/"
        sessions = (
            other == PrincipalKind.ROLE_SESSION and account == entry.account and name.startswith(beginning)
            for other, account, name in listed
        )
        return "" if any(sessions) else "each session of the role that is meant"
    if kind is PrincipalKind.ROLE_SESSION:
        role = entry.name.partition("/")[0]
        return "" if (PrincipalKind.ROLE, entry.account, role) in listed else f"its role {role}"
    return ""


def _quotes(value: object) -> str:
    return "write it in double quotes" if isinstance(value, (JsonNumber, bool, int, float)) else ""


def _is_full_access(statement: Statement) -> bool:
    return (
        statement.principals == (ANYONE,)
        and statement.actions == (ActionPattern("*", "*"),)
        and not statement.not_action
        and not statement.not_resource
        and statement.resources is not None
        and len(statement.resources) == 1
        and statement.resources[0].is_any
        and not statement.conditions
    )


def _redundant(actions: tuple[ActionPattern, ...]) -> tuple[tuple[int, int], ...]:
    """
    Return the places of entries that another entry covers, each with the place of that other one.

    Never takes quadratic time: equal entries and covering prefixes are looked up, other wildcards are tried
    only as long as there is little of them.
    """
    found: list[tuple[int, int]] = []
    first: dict[ActionPattern, int] = {}
    if len(set(actions)) == len(actions):
        first = {action: position for position, action in enumerate(actions)}
    else:
        for position, action in enumerate(actions):
            other = first.setdefault(action, position)
            if other != position:
                found.append((position, other))
    prefixes, general, everything = _covering(first)
    if everything is not None:
        found.extend((position, everything) for position in first.values() if position != everything)
    elif prefixes or general:
        lengths = {service: sorted({len(prefix) for prefix in stems}) for service, stems in prefixes.items()}
        budget = _MAX_COMPARISONS
        for action, position in first.items():
            covering = None
            if action.service in prefixes:
                covering = _by_prefix(action, position, prefixes[action.service], lengths[action.service])
            if covering is None and general and budget > 0 and not _is_wild(action):
                for place in general:
                    other_action = actions[place]
                    budget -= len(action.name) * len(other_action.name)
                    if _covers(other_action, action):
                        covering = place
                        break
                    if budget <= 0:
                        break
            if covering is not None:
                found.append((position, covering))
    return tuple(sorted(found))


_cached_redundant = lru_cache(8_192)(_redundant)


def _is_wild(action: ActionPattern) -> bool:
    service, name = action
    return "*" in name or "?" in name or "*" in service or "?" in service


def _covering(first: dict[ActionPattern, int]) -> tuple[dict[str, dict[str, int]], list[int], int | None]:
    """Sort out the patterns: prefixes by service, any others, and the one that is `*`."""
    prefixes: dict[str, dict[str, int]] = {}
    general: list[int] = []
    everything = None
    for action, position in first.items():
        service, name = action
        if "*" not in name and "?" not in name and "*" not in service and "?" not in service:
            continue
        if service == "*" and name == "*":
            everything = position
        elif name.endswith("*") and not _is_wild(ActionPattern(service, name[:-1])):
            prefixes.setdefault(service, {})[name[:-1]] = position
        else:
            general.append(position)
    return prefixes, general, everything


def _by_prefix(action: ActionPattern, position: int, prefixes: dict[str, int], lengths: list[int]) -> int | None:
    """Return the place of the shortest prefix, other than that at *position*, that covers *action*."""
    name = action.name
    for length in lengths:
        if length > len(name):
            break
        found = prefixes.get(name[:length])
        if found is not None and found != position:
            return found
    return None


def _covers(pattern: ActionPattern, action: ActionPattern) -> bool:
    return matches_literally(pattern.service, action.service) and matches_literally(pattern.name, action.name)
