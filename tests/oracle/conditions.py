# SPDX-License-Identifier: Apache-2.0
"""
One line of a condition block against the context of a request.

``docs/semantics.md``, section 3, "Conditions".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from datetime import date

from sidecar.model.policy import (
    Comparison,
    Condition,
    ConditionValue,
    Effect,
    Instant,
    Pattern,
    Qualifier,
    ValueType,
)
from sidecar.model.request import ContextValue
from tests.oracle.patterns import (
    Context,
    lower,
    matches,
    pattern_matches,
    split_arn,
    substitute,
    variables_of,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NULL = ContextValue(())

_NUMBER = re.compile(r"([+-]?)0*([0-9]{1,18})(?:\.([0-9]{1,9})0*)?")
_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9})0*)?)?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?"
)


class UnreadableError(Exception):
    """A request value that its operator cannot read."""


def condition_holds(condition: Condition, context: Context, effect: Effect) -> bool:
    """Say whether one line of a condition block is true."""
    operator = condition.operator
    value = context.get(condition.key, _NULL)

    if operator.value_type is ValueType.NULL:
        return any(wanted is value.is_null for wanted in condition.values)

    if value.is_null:
        if condition.if_exists or condition.qualifier is Qualifier.FOR_ALL_VALUES:
            return True
        if condition.qualifier is Qualifier.FOR_ANY_VALUE:
            return False
        return operator.negated

    if condition.qualifier is Qualifier.FOR_ALL_VALUES:
        return all(_value_holds(condition, text, context, effect) for text in value.values)
    if condition.qualifier is Qualifier.FOR_ANY_VALUE:
        return any(_value_holds(condition, text, context, effect) for text in value.values)
    if value.is_list:
        return effect is Effect.DENY
    return _value_holds(condition, value.values[0], context, effect)


def keys_asked_for(condition: Condition) -> list[str]:
    """Return the context keys that a line looks at: its own, and those of the variables in its values."""
    keys = [condition.key]
    for value in condition.values:
        if isinstance(value, Pattern):
            keys.extend(variables_of(value.pieces))
    return keys


def _value_holds(condition: Condition, text: str, context: Context, effect: Effect) -> bool:
    try:
        matched = [_value_matches(condition, text, wanted, context) for wanted in condition.values]
    except UnreadableError:
        return condition.operator.negated and effect is Effect.DENY
    return not any(matched) if condition.operator.negated else any(matched)


def _value_matches(condition: Condition, text: str, wanted: ConditionValue, context: Context) -> bool:
    """Compare one value of the request with one of the policy, not yet negated."""
    operator = condition.operator
    if isinstance(wanted, Pattern):
        if operator.value_type is ValueType.BOOL:
            return _bool_matches(read_bool(text), wanted, context)
        if operator.value_type is ValueType.ARN:
            return _arn_matches(read_arn(text), wanted, context)
        if operator.comparison is Comparison.EQUALS_IGNORE_CASE:
            tokens = substitute(wanted.pieces, context)
            return tokens is not None and lower("".join(str(token) for token in tokens)) == lower(text)
        return pattern_matches(wanted, text, context)
    if isinstance(wanted, Instant):
        number = read_number(text) if operator.value_type is ValueType.NUMERIC else read_date(text)
        return _ordered(operator.comparison, number, wanted)
    if isinstance(wanted, bytes):
        return read_binary(text) == wanted
    if isinstance(wanted, bool):
        raise TypeError("a truth value belongs to the operator Null")
    return _network_holds(read_address(text), wanted)


def _bool_matches(value: str, wanted: Pattern, context: Context) -> bool:
    tokens = substitute(wanted.pieces, context)
    return tokens is not None and lower("".join(str(token) for token in tokens)) == value


def _arn_matches(fields: list[str], wanted: Pattern, context: Context) -> bool:
    """Compare field by field, once the variables are replaced: an ARN may come out of a variable as a whole."""
    if wanted.text == "*":
        return True
    tokens = substitute(wanted.pieces, context)
    if tokens is None:
        return False
    patterns = split_arn(tokens)
    return len(patterns) == 6 and all(matches(pattern, text) for pattern, text in zip(patterns, fields, strict=True))


def _ordered(comparison: Comparison, value: Instant, wanted: Instant) -> bool:
    if comparison is Comparison.EQUALS:
        return value == wanted
    if comparison is Comparison.LESS:
        return value < wanted
    if comparison is Comparison.LESS_EQUALS:
        return value <= wanted
    if comparison is Comparison.GREATER:
        return value > wanted
    if comparison is Comparison.GREATER_EQUALS:
        return value >= wanted
    raise ValueError(f"{comparison.name} does not order numbers")


def _network_holds(address: Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            network = ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return address.version == network.version and address in network


def read_number(text: str) -> Instant:
    """Read an integer or a decimal of at most 18 digits before and 9 after the point."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise UnreadableError
    sign, whole, fraction = found.groups()
    scaled = int(whole) * 10**9 + int((fraction or "").ljust(9, "0"))
    return Instant(*divmod(-scaled if sign == "-" else scaled, 10**9))


def read_date(text: str) -> Instant:
    """Read a date of the W3C profile of ISO 8601, from the year alone down to fractions of a second, or an epoch."""
    found = _DATE.fullmatch(text)
    if found is None:
        return read_number(text)
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        days = date(int(year), int(month or 1), int(day or 1)).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        raise UnreadableError from None
    seconds = 0
    if zone is not None:
        seconds = 3600 * int(hour) + 60 * int(minute) + int(second or 0)
        if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59:
            raise UnreadableError
        if zone != "Z":
            offset_hours, offset_minutes = int(zone[1:3]), int(zone[4:6])
            if offset_hours > 23 or offset_minutes > 59:
                raise UnreadableError
            offset = 3600 * offset_hours + 60 * offset_minutes
            seconds += offset if zone[0] == "-" else -offset
    return Instant(days * 86400 + seconds, int((fraction or "").ljust(9, "0")))


def read_bool(text: str) -> str:
    """Read ``true`` or ``false`` in any case."""
    value = lower(text)
    if value not in ("true", "false"):
        raise UnreadableError
    return value


def read_binary(text: str) -> bytes:
    """Read padded base64 text in its one canonical form."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise UnreadableError from None
    if base64.b64encode(data).decode("ascii") != text:
        raise UnreadableError
    return data


def read_address(text: str) -> Address:
    """Read an IPv4 or IPv6 address; one that is an IPv4 address inside an IPv6 one is the IPv4 address."""
    if "%" in text:
        raise UnreadableError
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UnreadableError from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def read_arn(text: str) -> list[str]:
    """Read an ARN into its six fields."""
    fields = text.split(":", 5)
    if len(fields) != 6 or fields[0] != "arn":
        raise UnreadableError
    return fields
