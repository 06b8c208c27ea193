# SPDX-License-Identifier: Apache-2.0
"""
Texts with wildcards and policy variables: values, resource ARNs and actions.

Every function is pure: it returns what the text means, or None, with the findings about it. Results of short texts
are kept, because the policies of an account repeat each other.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sidecar.compile.problems import Finding, error, quote, warning
from sidecar.model.policy import ActionPattern, ArnPattern, Pattern, Piece, Variable, Wildcard

#: Longer texts are parsed anew each time, so that a cache cannot grow without bound.
MAX_CACHED: Final = 256

#: Longest action that may stand in a policy.
MAX_ACTION: Final = 512

_CACHE_SIZE: Final = 16_384

Findings = tuple[Finding, ...]

#: Any character that IAM does not take in a policy document.
FORBIDDEN_CHARACTER: Final = re.compile("[^\t\n\r -\xff]")

# SPEC: IAM User Guide, policy variables: `${key}`, `${key, 'default'}`, `${*}`, `${?}`, `${$}`.
_VARIABLE: Final = re.compile(
    r"\$\{(?:([*?$])|([^\s${}'\",*?\\](?:[^${}'\",*?\\\t\r\n]*[^\s${}'\",*?\\])?)(?:, '([^'\t\r\n]*)')?)\}"
)
_SPECIAL: Final = re.compile(r"\$\{|[*?]")
_PARTITION: Final = re.compile(r"aws(?:-[a-z0-9-]+)?", re.ASCII)
_SERVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_ACTION_SERVICE: Final = re.compile(r"[a-z0-9-]+", re.ASCII)
_ACTION_SERVICE_WILD: Final = re.compile(r"[a-z0-9*?-]+", re.ASCII)
_ACTION_NAME: Final = re.compile(r"[a-z0-9*?_.-]+", re.ASCII)
_ACCOUNT: Final = re.compile(r"[0-9]{12}", re.ASCII)

_VARIABLE_HELP: Final = "write `${key}`, or `${key, 'default'}` with one space after the comma"
_OLD_VERSION: Final = warning(
    "`${...}` is plain text in a document of version 2008-10-17",
    'set `"Version": "2012-10-17"` if a policy variable is meant',
)

#: What `*` alone means among resources.
ANY_RESOURCE: Final = ArnPattern("*", ())

_ARN_HELP: Final = (
    "an ARN is `arn:partition:service:region:account:resource`, where region and account may be empty; `*` is any"
)


def check_characters(text: str) -> Finding | None:
    """Say whether *text* holds a character that no policy document may hold."""
    if text.isascii() and text.isprintable():
        return None
    found = FORBIDDEN_CHARACTER.search(text)
    if found is None:
        return None
    return error(
        f"the character U+{ord(found[0]):04X} may not stand in a policy",
        "IAM takes tab, line feed, carriage return and the characters U+0020 to U+00FF",
    )


def parse_pattern(text: str, *, wildcards: bool, variables: bool, modern: bool) -> tuple[Pattern | None, Findings]:
    """
    Cut *text* into literals, wildcards and variables.

    Args:
        wildcards: Whether ``*`` and ``?`` are wildcards.
        variables: Whether policy variables may stand there at all.
        modern: Whether the document is of version 2012-10-17; else ``${...}`` is plain text.

    >>> parse_pattern("a*${aws:username}", wildcards=True, variables=True, modern=True)[0].pieces
    ('a', <Wildcard.ANY_RUN: '*'>, Variable(key='aws:username', default=None))
    """
    if len(text) <= MAX_CACHED:
        return _cached_pattern(text, wildcards, variables, modern)
    return _pattern(text, wildcards, variables, modern)


def _pattern(text: str, wildcards: bool, variables: bool, modern: bool) -> tuple[Pattern | None, Findings]:
    findings: list[Finding] = []
    wrong = check_characters(text)
    if wrong is not None:
        findings.append(wrong)
    has_variable = "${" in text
    if has_variable and not modern:
        findings.append(_OLD_VERSION)
        has_variable = False
    if has_variable and not variables:
        findings.append(error(f"a policy variable may not stand in {quote(text)}", "write the value itself"))
        return None, tuple(findings)
    pieces, fault = _cut(text, wildcards, has_variable)
    if fault is not None:
        findings.append(fault)
    if pieces is None or wrong is not None:
        return None, tuple(findings)
    return Pattern(text, pieces), tuple(findings)


_cached_pattern = lru_cache(_CACHE_SIZE)(_pattern)


def _cut(text: str, wildcards: bool, variables: bool) -> tuple[tuple[Piece, ...] | None, Finding | None]:
    """Cut *text* at whatever is special in it."""
    if not variables and not (wildcards and ("*" in text or "?" in text)):
        return ((text,) if text else ()), None
    pieces: list[Piece] = []
    literal: list[str] = []
    position = 0
    while position < len(text):
        found = _SPECIAL.search(text, position)
        if found is None:
            literal.append(text[position:])
            break
        literal.append(text[position : found.start()])
        position = found.end()
        piece: Piece
        if found[0] != "${":
            if not wildcards:
                literal.append(found[0])
                continue
            piece = Wildcard.ANY_RUN if found[0] == "*" else Wildcard.ANY_CHAR
        elif not variables:
            literal.append("${")
            continue
        else:
            variable = _VARIABLE.match(text, found.start())
            if variable is None:
                return None, _explain_variable(text, found.start())
            position = variable.end()
            if variable[1] is not None:
                literal.append(variable[1])
                continue
            piece = Variable(variable[2].lower(), variable[3])
        joined = "".join(literal)
        literal.clear()
        if joined:
            pieces.append(joined)
        if piece is not Wildcard.ANY_RUN or not pieces or pieces[-1] is not Wildcard.ANY_RUN:
            pieces.append(piece)
    joined = "".join(literal)
    if joined:
        pieces.append(joined)
    return tuple(pieces), None


def _explain_variable(text: str, start: int) -> Finding:
    end = text.find("}", start)
    if end < 0:
        return error(f"the variable in {quote(text[start:])} has no closing `}}`", _VARIABLE_HELP)
    inside = text[start + 2 : end]
    shown = quote(text[start : end + 1])
    if not inside.strip():
        return error(f"the variable {shown} has no name", _VARIABLE_HELP)
    if "${" in inside:
        return error(f"a variable stands inside another in {shown}", "the default of a variable is plain text")
    if "," in inside or "'" in inside or '"' in inside:
        return error(f"the default of the variable {shown} is not written as AWS wants it", _VARIABLE_HELP)
    return error(f"{shown} is no policy variable", _VARIABLE_HELP)


def parse_resource(text: str, modern: bool) -> tuple[ArnPattern | None, Findings]:
    """
    Read an entry of ``Resource`` or ``NotResource``.

    Args:
        modern: Whether the document is of version 2012-10-17; else ``${...}`` is plain text.

    >>> parse_resource("arn:aws:s3:::logs/*", True)[0].fields[5].pieces
    ('logs/', <Wildcard.ANY_RUN: '*'>)
    """
    if text == "*":
        return ANY_RESOURCE, ()
    if len(text) <= MAX_CACHED:
        return _cached_resource(text, modern)
    return _resource(text, modern)


def _resource(text: str, modern: bool) -> tuple[ArnPattern | None, Findings]:
    wrong = check_characters(text)
    if wrong is not None:
        return None, (wrong,)
    findings: list[Finding] = []
    variables = "${" in text
    if variables and not modern:
        findings.append(_OLD_VERSION)
        variables = False
    parts = _split_arn(text) if variables else text.split(":", 5)
    if len(parts) < 6:
        findings.append(_explain_short(text, len(parts)))
        return None, tuple(findings)
    fields = tuple(_field(part, modern, findings) for part in parts)
    for name, part in zip(("arn", "partition", "service", "region"), parts[:4], strict=True):
        if variables and "${" in part:
            findings.append(
                error(
                    f"a policy variable stands in the {name} field of {quote(text)}",
                    "variables may stand in the account and resource fields",
                )
            )
    _check_fields(text, parts, findings)
    if findings and any(finding.severity == "error" for finding in findings):
        return None, tuple(findings)
    return ArnPattern(text, tuple(field for field in fields if field is not None)), tuple(findings)


_cached_resource = lru_cache(_CACHE_SIZE)(_resource)


def _field(part: str, modern: bool, findings: list[Finding]) -> Pattern | None:
    if len(part) <= MAX_CACHED:
        field, found = _cached_pattern(part, True, True, modern)
    else:
        field, found = _pattern(part, True, True, modern)
    if found:
        findings.extend(finding for finding in found if finding is not _OLD_VERSION)
    return field


def _check_fields(text: str, parts: list[str], findings: list[Finding]) -> None:
    arn, partition, service, region, account, resource = parts
    if arn != "arn":
        findings.append(error(f"the ARN {quote(text)} does not begin with `arn:`", _ARN_HELP))
    if "${" not in partition and "*" not in partition and "?" not in partition and not _PARTITION.fullmatch(partition):
        findings.append(
            error(
                f"{quote(partition)} is no partition, in {quote(text)}",
                "the partition is `aws`, `aws-cn`, `aws-us-gov` or another that begins with `aws-`",
            )
        )
    if "*" in service or "?" in service:
        findings.append(
            error(
                f"the service field of {quote(text)} holds a wildcard",
                "name the service in full, or write `*` for every resource",
            )
        )
    elif "${" not in service and not _SERVICE.fullmatch(service):
        findings.append(error(f"{quote(service)} is no service, in {quote(text)}", _ARN_HELP))
    if not resource:
        # One of AWS's own managed policies has such an entry.
        findings.append(
            warning(f"the ARN {quote(text)} names no resource and so matches nothing", "write `*` for any resource")
        )
    if account and account != "aws" and not _ACCOUNT.fullmatch(account) and not _is_open(account):
        findings.append(
            warning(
                f"{quote(account)} is no account id, so {quote(text)} matches nothing",
                "an account id has twelve digits",
            )
        )
    if region and (service == "iam" or (service == "s3" and not account)) and not _is_open(region):
        findings.append(
            error(
                f"an ARN of `{service}` has no region, so {quote(text)} matches nothing",
                f"write `arn:{partition}:{service}::`",
            )
        )


def _is_open(field: str) -> bool:
    return "*" in field or "?" in field or "${" in field


def _explain_short(text: str, count: int) -> Finding:
    if text == "":
        return error("an entry is empty", _ARN_HELP)
    if count == 1:
        return error(f"{quote(text)} is neither an ARN nor `*`", _ARN_HELP)
    return error(f"the ARN {quote(text)} has {count} of its six fields", _ARN_HELP)


def _split_arn(text: str) -> list[str]:
    """Split *text* at its first five colons that stand outside of variables."""
    parts: list[str] = []
    start = position = 0
    while len(parts) < 5:
        colon = text.find(":", position)
        if colon < 0:
            break
        variable = text.find("${", position, colon)
        if variable >= 0:
            match = _VARIABLE.match(text, variable)
            end = match.end() if match else text.find("}", variable) + 1
            if end <= 0:
                break
            position = end
            continue
        parts.append(text[start:colon])
        start = position = colon + 1
    parts.append(text[start:])
    return parts


def parse_action(text: str, wild_service: bool) -> tuple[ActionPattern | None, Findings]:
    """
    Read an entry of ``Action`` or ``NotAction``.

    Args:
        wild_service: Whether wildcards may stand in the service too, as in service control policies.

    >>> parse_action("S3:Get*", False)[0]
    ActionPattern(service='s3', name='get*')
    """
    if len(text) <= MAX_CACHED:
        return _cached_action(text, wild_service)
    return _action(text, wild_service)


_ANY_ACTION: Final = ActionPattern("*", "*")

_ACTION_HELP: Final = "an action is `service:Name`, such as `s3:GetObject` or `s3:Get*`; `*` is any action"


def _action(text: str, wild_service: bool) -> tuple[ActionPattern | None, Findings]:
    if text == "*" or text == "*:*":
        return _ANY_ACTION, ()
    wrong = check_characters(text)
    if wrong is not None:
        return None, (wrong,)
    service, colon, name = text.lower().partition(":")
    if len(text) > MAX_ACTION:
        message = f"the action {quote(text)} has {len(text):,} characters"
        return None, (error(message, f"an action has at most {MAX_ACTION}"),)
    if "${" in text:
        return None, (error(f"a policy variable may not stand in the action {quote(text)}", "name the actions"),)
    if not colon:
        if text == "":
            return None, (error("an entry is empty", _ACTION_HELP),)
        return None, (error(f"the action {quote(text)} does not name a service", _ACTION_HELP),)
    if ":" in name:
        return None, (error(f"the action {quote(text)} holds more than one colon", _ACTION_HELP),)
    if not (_ACTION_SERVICE_WILD if wild_service else _ACTION_SERVICE).fullmatch(service):
        if _ACTION_SERVICE_WILD.fullmatch(service):
            remedy = "name the service in full; a wildcard may stand after the colon"
            return None, (error(f"the service of the action {quote(text)} holds a wildcard", remedy),)
        return None, (error(f"{quote(service)} is no service, in the action {quote(text)}", _ACTION_HELP),)
    if not _ACTION_NAME.fullmatch(name):
        message = (
            f"the action {quote(text)} names nothing after the colon" if not name else f"{quote(text)} is no action"
        )
        return None, (error(message, _ACTION_HELP),)
    if "**" in text:
        service, name = _RUNS.sub("*", service), _RUNS.sub("*", name)
        if service == "*" and name == "*":
            return _ANY_ACTION, ()
    return ActionPattern(service, name), ()


_RUNS: Final = re.compile(r"\*\*+")

_cached_action = lru_cache(_CACHE_SIZE * 2)(_action)


_PLAIN_ACTION: Final = re.compile(r"([a-z0-9-]+):([a-z0-9*?_.-]+)", re.ASCII)


@lru_cache(_CACHE_SIZE * 2)
def plain_action(text: str) -> ActionPattern | None:
    """
    Read an action of at most ``MAX_CACHED`` characters about which there is nothing to say; otherwise None.

    Quick, and made to be mapped over a list; what is wrong is for ``parse_action`` to say.
    """
    if text.isascii() and "**" not in text:
        found = _PLAIN_ACTION.fullmatch(text.lower())
        if found is not None:
            return ActionPattern(found[1], found[2])
    return _action(text, False)[0]


@lru_cache(_CACHE_SIZE)
def plain_resource(text: str) -> ArnPattern | None:
    """
    Read a resource of at most ``MAX_CACHED`` characters about which there is nothing to say; otherwise None.

    For documents of version 2012-10-17. Quick, and made to be mapped over a list; what is wrong is for
    ``parse_resource`` to say.
    """
    if text == "*":
        return ANY_RESOURCE
    parts = text.split(":", 5)
    if len(parts) == 6 and parts[5]:
        # The first five fields repeat a lot.
        name = parts[5]
        head = _plain_head(text[: len(text) - len(name)])
        if head is not None:
            field, found = _pattern(name, True, True, True)
            return None if field is None or found else ArnPattern(text, (*head, field))
    resource, findings = _resource(text, True)
    return None if findings else resource


@lru_cache(_CACHE_SIZE)
def _plain_head(head: str) -> tuple[Pattern, ...] | None:
    """Read the first five fields of an ARN, without variables and with nothing to say about them; otherwise None."""
    if "${" in head:
        return None
    resource, findings = _resource(f"{head}*", True)
    return None if resource is None or findings else resource.fields[:5]


def matches_literally(pattern: str, text: str) -> bool:
    """
    Say whether *text*, read as plain text, matches *pattern*.

    >>> matches_literally("get*tag?", "getobjecttags"), matches_literally("a*a*b", "aaaa")
    (True, False)
    """
    # Two indices and one remembered star: never backtracks further than to the last star.
    index = place = 0
    star = -1
    resume = 0
    while place < len(text):
        if index < len(pattern) and pattern[index] == "*":
            star, resume = index, place
            index += 1
        elif index < len(pattern) and (pattern[index] == "?" or pattern[index] == text[place]):
            index += 1
            place += 1
        elif star >= 0:
            resume += 1
            place = resume
            index = star + 1
        else:
            return False
    return all(character == "*" for character in pattern[index:])
