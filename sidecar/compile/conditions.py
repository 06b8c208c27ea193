# SPDX-License-Identifier: Apache-2.0
"""
Condition operators, keys and values.

Every function is pure: it returns what the text means, or None, with the findings about it.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import difflib
import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from sidecar.compile.patterns import MAX_CACHED, Findings, check_characters, parse_pattern
from sidecar.compile.problems import Finding, error, quote, warning
from sidecar.model.policy import (
    OPERATORS,
    BaseOperator,
    Condition,
    ConditionValue,
    Effect,
    Instant,
    Network,
    Pattern,
    Qualifier,
    ValueType,
    Variable,
)

_CACHE_SIZE: Final = 16_384

#: Longest condition key, as in requests.
MAX_KEY: Final = 512

#: Longest value that is a number, a date, an address, base64 or `true` or `false`, as in requests.
MAX_TYPED: Final = 4_096


class Operator(NamedTuple):
    """A condition operator as written: a base operator, a set operator in front, ``IfExists`` behind."""

    base: BaseOperator
    qualifier: Qualifier
    if_exists: bool


_QUALIFIERS: Final = {
    "": Qualifier.NONE,
    "ForAllValues:": Qualifier.FOR_ALL_VALUES,
    "ForAnyValue:": Qualifier.FOR_ANY_VALUE,
}


def _spellings() -> dict[str, Operator]:
    table: dict[str, Operator] = {}
    for prefix, qualifier in _QUALIFIERS.items():
        for base in OPERATORS.values():
            table[f"{prefix}{base.name}"] = Operator(base, qualifier, False)
            if base.value_type is not ValueType.NULL:
                table[f"{prefix}{base.name}IfExists"] = Operator(base, qualifier, True)
    return table


#: Every way to write a condition operator.
SPELLINGS: Final = _spellings()

_BY_LOWER_CASE: Final = {spelling.lower(): spelling for spelling in SPELLINGS}

#: Keys with several values, in lower case: they need a set operator.
MULTIVALUED_KEYS: Final = frozenset(
    {
        "aws:calledvia",
        "aws:principalorgpaths",
        "aws:principalservicenameslist",
        "aws:resourceorgpaths",
        "aws:sourceorgpaths",
        "aws:tagkeys",
        "aws:vpceorgpaths",
        "dynamodb:attributes",
        "dynamodb:leadingkeys",
        "sts:transitivetagkeys",
    }
)

#: Keys with one value, in lower case: a set operator in front of them is a mistake.
SINGLE_VALUED_KEYS: Final = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:federatedprovider",
        "aws:multifactorauthage",
        "aws:multifactorauthpresent",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principalorgid",
        "aws:principalservicename",
        "aws:principaltype",
        "aws:referer",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:resourceorgid",
        "aws:securetransport",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceidentity",
        "aws:sourceip",
        "aws:sourceorgid",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:tokenissuetime",
        "aws:useragent",
        "aws:userid",
        "aws:username",
        "aws:viaawsservice",
        "aws:vpcsourceip",
    }
)

#: Beginnings of further keys with one value.
SINGLE_VALUED_PREFIXES: Final = ("aws:principaltag/", "aws:requesttag/", "aws:resourcetag/")


def explain_operator(text: str) -> Finding:
    """
    Say what is wrong with *text*, which is no condition operator.

    >>> explain_operator("stringEquals").help
    'did you mean `StringEquals`? the case matters'
    """
    shown = quote(text)
    lowered = text[:100].lower()
    if lowered in _BY_LOWER_CASE:
        return error(
            f"unknown condition operator {shown}", f"did you mean `{_BY_LOWER_CASE[lowered]}`? the case matters"
        )
    if lowered.endswith("nullifexists"):
        return error("`Null` takes no `IfExists`", "`Null` asks itself whether the key exists")
    if "forallvalues" in lowered or "foranyvalue" in lowered:
        remedy = "a set operator stands in front, with a colon: `ForAllValues:StringLike`, `ForAnyValue:StringEquals`"
        plain = lowered.replace("forallvalues", "").replace("foranyvalue", "").strip(": ")
        if plain in _BY_LOWER_CASE:
            return error(f"unknown condition operator {shown}", remedy)
    near = difflib.get_close_matches(lowered, _BY_LOWER_CASE, 1, 0.75)
    remedy = f"did you mean `{_BY_LOWER_CASE[near[0]]}`?" if near else "see the list of condition operators of AWS IAM"
    return error(f"unknown condition operator {shown}", remedy)


def parse_key(text: str, modern: bool) -> tuple[str, Findings]:
    """
    Return a condition key in lower case.

    >>> parse_key("aws:SourceIp", True)[0]
    'aws:sourceip'
    """
    return _cached_key(text, modern) if len(text) <= MAX_CACHED else _key(text, modern)


def _key(text: str, modern: bool) -> tuple[str, Findings]:
    lowered = text.lower()
    wrong = check_characters(text)
    if wrong is not None:
        return lowered, (wrong,)
    if not text.strip():
        return lowered, (error("a condition key is empty", "name a key, such as `aws:SourceIp`"),)
    if len(text) > MAX_KEY:
        return lowered, (
            error(f"the condition key {quote(text)} is too long", f"keys have up to {MAX_KEY} characters"),
        )
    if text != text.strip() or not text.isprintable():
        return lowered, (error(f"white space surrounds or breaks the condition key {quote(text)}", "take it out"),)
    if "${" in text:
        if modern:
            remedy = "the key must be fixed; a variable may stand in the value"
            return lowered, (error(f"a policy variable may not stand in the condition key {quote(text)}", remedy),)
        return lowered, (
            warning(f"`${{...}}` is plain text in the condition key {quote(text)}", "write the key itself"),
        )
    if "*" in text or "?" in text:
        return lowered, (
            warning(f"a wildcard has no effect in the condition key {quote(text)}", "write out each key in full"),
        )
    if ":" not in text:
        return lowered, (
            warning(f"the condition key {quote(text)} has no prefix", "keys look like `aws:SourceIp` or `s3:prefix`"),
        )
    return lowered, ()


_cached_key = lru_cache(_CACHE_SIZE)(_key)

Result = tuple[ConditionValue | None, Findings]


def parse_value(operator: BaseOperator, text: str, modern: bool) -> Result:
    """
    Read *text* as a value of *operator*.

    Args:
        modern: Whether the document is of version 2012-10-17; else ``${...}`` is plain text.

    >>> parse_value(OPERATORS["IpAddress"], "10.0.0.0/8", True)[0]
    IPv4Network('10.0.0.0/8')
    """
    if len(text) <= MAX_CACHED:
        return _cached_value(operator.name, text, modern)
    return _value(operator.name, text, modern)


def _value(name: str, text: str, modern: bool) -> Result:
    operator = OPERATORS[name]
    value_type = operator.value_type
    if value_type is ValueType.STRING:
        return _string(operator, text, modern)
    if value_type is ValueType.ARN:
        return _arn(text, modern)
    if value_type is ValueType.BOOL:
        return _bool(text, modern)
    wrong = check_characters(text)
    if wrong is not None:
        return None, (wrong,)
    if "${" in text:
        return _refuse(f"a policy variable may not stand under `{operator.name}`", "write the value itself")
    if len(text) > MAX_TYPED:
        return _refuse(
            f"{quote(text)} is too long a value for `{operator.name}`", f"write at most {MAX_TYPED:,} characters"
        )
    return _READERS[value_type](text)


_cached_value = lru_cache(_CACHE_SIZE)(_value)


def _refuse(message: str, help: str) -> Result:
    return None, (error(message, help),)


def _string(operator: BaseOperator, text: str, modern: bool) -> Result:
    pattern, findings = parse_pattern(text, wildcards=operator.wildcards, variables=True, modern=modern)
    if not operator.wildcards and pattern is not None and ("*" in text or "?" in text):
        rest = text.replace("${*}", "").replace("${?}", "") if modern else text
        if "*" in rest or "?" in rest:
            found = warning(
                f"{quote(text)} is compared letter by letter, wildcards too, under `{operator.name}`",
                _wildcard_help(operator, modern),
            )
            findings = (*findings, found)
    return pattern, findings


def _wildcard_help(operator: BaseOperator, modern: bool) -> str:
    like = "StringNotLike" if operator.negated else "StringLike"
    remedy = f"use `{like}` if a wildcard is meant"
    return f"{remedy}, or `${{*}}` and `${{?}}` if the character is" if modern else remedy


_ARN_HELP: Final = "an ARN pattern is `*` or has six fields, such as `arn:aws:iam::*:role/team/*`"


def _arn(text: str, modern: bool) -> Result:
    pattern, findings = parse_pattern(text, wildcards=True, variables=True, modern=modern)
    if pattern is None or text == "*" or pattern.has_variables:
        return pattern, findings
    count = text.count(":") + 1
    if count < 6:
        if count == 1:
            message = f"{quote(text)} is neither an ARN nor `*`"
        else:
            message = f"the ARN {quote(text)} has {count} of its six fields"
        return None, (*findings, error(message, _ARN_HELP))
    first = text.partition(":")[0]
    if first != "arn" and "*" not in first and "?" not in first:
        return None, (*findings, error(f"the ARN {quote(text)} does not begin with `arn:`", _ARN_HELP))
    return pattern, findings


def _bool(text: str, modern: bool) -> Result:
    lowered = text.lower()
    if lowered in ("true", "false"):
        return Pattern(lowered, (lowered,)), ()
    if modern and "${" in text:
        pattern, findings = parse_pattern(text, wildcards=False, variables=True, modern=True)
        if pattern is None:
            return None, findings
        only = pattern.pieces[0] if len(pattern.pieces) == 1 else None
        if isinstance(only, Variable):
            if only.default is None:
                return pattern, findings
            default = only.default.lower()
            if default in ("true", "false"):
                return Pattern(text, (Variable(only.key, default),)), findings
            remedy = "write `${key, 'false'}` or `${key, 'true'}`"
            return None, (error(f"the default in {quote(text)} is neither `true` nor `false`", remedy),)
    return _refuse(f"{quote(text)} is neither `true` nor `false`", "write `true` or `false`")


def _null(text: str) -> Result:
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true", ()
    return _refuse(
        f"{quote(text)} is neither `true` nor `false`",
        "under `Null`, `true` asks that the key is absent and `false` that it is there",
    )


# Zeros in front and behind do not count as digits, here and in requests.
_DECIMAL: Final = re.compile(r"([+-]?)0*([0-9]{1,18})(?:\.([0-9]{1,9})0*)?", re.ASCII)


def _instant(sign: str, whole: str, fraction: str | None) -> Instant:
    nanos = int(whole) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return Instant(*divmod(-nanos if sign == "-" else nanos, 1_000_000_000))


def _numeric(text: str) -> Result:
    found = _DECIMAL.fullmatch(text)
    if found is not None:
        return _instant(found[1], found[2], found[3]), ()
    return _refuse(
        f"{quote(text)} is no number",
        "write an integer or decimal, with up to 18 digits before and 9 after the point, and no exponent",
    )


# SPEC: W3C note "Date and Time Formats", the profile of ISO 8601 that IAM names.
_DATE: Final = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:[Tt]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9})0*)?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?)?)?)?",
    re.ASCII,
)
_DATE_HELP: Final = "write a date such as `2026-07-01T00:00:00Z` or `2026-07-01`, or the seconds since 1970"
_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()


def _date(text: str) -> Result:
    found = _DATE.fullmatch(text)
    if found is None:
        number = _DECIMAL.fullmatch(text)
        if number is not None:
            return _instant(number[1], number[2], number[3]), ()
        return _refuse(f"{quote(text)} is no date", _DATE_HELP)
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        days = datetime.date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH_DAY
    except ValueError:
        return _refuse(f"{quote(text)} is no day of the calendar", _DATE_HELP)
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        return _refuse(f"{quote(text)} is no time of a day", _DATE_HELP)
    offset = 0
    findings: Findings = ()
    if zone is None:
        if hour is not None:
            findings = (warning(f"the time {quote(text)} has no zone and is read as UTC", "end it with `Z`"),)
    elif zone not in ("Z", "z"):
        zone_hours, zone_minutes = int(zone[1:3]), int(zone[-2:])
        if zone_hours > 23 or zone_minutes > 59:
            return _refuse(f"{quote(zone)} is no offset from UTC, in {quote(text)}", _DATE_HELP)
        offset = (zone_hours * 3600 + zone_minutes * 60) * (-1 if zone[0] == "-" else 1)
    total = days * 86_400 + hours * 3600 + minutes * 60 + seconds - offset
    return Instant(total, int((fraction or "").ljust(9, "0"))), findings


def _binary(text: str) -> Result:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = None
    if value is None or base64.b64encode(value).decode("ascii") != text:
        return _refuse(f"{quote(text)} is no base64 text", "write standard base64 with its padding")
    return value, ()


_ADDRESS: Final = re.compile(
    r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(?:/([0-9]{1,3}))?", re.ASCII
)
_ADDRESS_HELP: Final = "write an address or a network, such as `203.0.113.0/24` or `2001:db8::/32`"


def _ip(text: str) -> Result:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return _refuse(f"{quote(text)} is no IP address or network", _ADDRESS_HELP)
    try:
        network: Network = ipaddress.ip_network(text, strict=False)
        address = ipaddress.ip_address(found[1])
    except ValueError:
        return _refuse(f"{quote(text)} is no IP address or network", _ADDRESS_HELP)
    findings: Findings = ()
    if address != network.network_address:
        findings = (
            warning(
                f"the network {quote(text)} has bits set behind its prefix; it is read as `{network}`",
                f"write `{network}`, or a longer prefix",
            ),
        )
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            network = ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network, findings


_READERS: Final[dict[ValueType, Callable[[str], Result]]] = {
    ValueType.NUMERIC: _numeric,
    ValueType.DATE: _date,
    ValueType.BINARY: _binary,
    ValueType.IP: _ip,
    ValueType.NULL: _null,
}


_MFA_PRESENT: Final = "aws:multifactorauthpresent"


def advise_condition(condition: Condition, effect: Effect | None, spelling: str, name: str) -> Findings:
    """
    Say what the author of *condition* has probably not meant.

    Args:
        effect: Effect of its statement; None where that is not known.
        spelling: Its operator as written.
        name: Its key as written.
    """
    base, qualifier, _, key, _ = condition
    if qualifier is Qualifier.NONE:
        if key in MULTIVALUED_KEYS and base.value_type is not ValueType.NULL:
            return (
                warning(
                    f"{quote(name)} has several values, and `{spelling}` compares a single one",
                    f"write `ForAnyValue:{spelling}` or `ForAllValues:{spelling}`",
                ),
            )
        if key == _MFA_PRESENT and base.value_type is ValueType.BOOL:
            return _advise_mfa(condition, effect, name)
    elif (
        qualifier is Qualifier.FOR_ALL_VALUES
        and effect is Effect.ALLOW
        and (key in SINGLE_VALUED_KEYS or key.startswith(SINGLE_VALUED_PREFIXES))
    ):
        return (
            warning(
                f"{quote(name)} has a single value, and `ForAllValues` also holds where the key is absent",
                f"write `{spelling.removeprefix('ForAllValues:')}`",
            ),
        )
    return ()


def _advise_mfa(condition: Condition, effect: Effect | None, name: str) -> Findings:
    texts = [value.text for value in condition.values if isinstance(value, Pattern)]
    if effect is Effect.DENY and texts == ["false"] and not condition.if_exists:
        return (
            warning(
                f"long-term access keys have no {quote(name)}, so this Deny does not reach them",
                "write `BoolIfExists` to deny whoever has not proved MFA",
            ),
        )
    if effect is Effect.ALLOW and texts == ["true"] and condition.if_exists:
        return (
            warning(
                f"long-term access keys have no {quote(name)}, so this Allow lets them through without MFA",
                "write `Bool` to allow only who has proved MFA",
            ),
        )
    return ()


@lru_cache(_CACHE_SIZE)
def plain_condition(spelling: str, name: str, texts: tuple[str, ...], effect: Effect | None) -> Condition | None:
    """
    Read a line of a condition block about which there is nothing to say; otherwise None.

    For documents of version 2012-10-17, and few and short values. What is wrong is for the other functions to say.
    """
    base, qualifier, if_exists = SPELLINGS[spelling]
    key, findings = parse_key(name, True)
    if findings or (base.value_type is ValueType.NULL and qualifier is not Qualifier.NONE):
        return None
    values: list[ConditionValue] = []
    for text in texts:
        value, findings = parse_value(base, text, True)
        if value is None or findings:
            return None
        values.append(value)
    condition = Condition(base, qualifier, if_exists, key, tuple(values))
    return None if advise_condition(condition, effect, spelling, name) else condition
