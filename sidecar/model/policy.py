# SPDX-License-Identifier: Apache-2.0
"""
A policy document, parsed and checked: what a statement says, with every value already typed.

The compiler turns these nouns into an image and the oracle of the tests evaluates them as they
stand, so they hold meaning and no layout.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple


class PolicyKind(StrEnum):
    """What a document is attached to, which decides what may stand in it."""

    IDENTITY = "identity-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    RESOURCE = "resource-based policy"
    TRUST = "role trust policy"
    SERVICE_CONTROL = "service control policy"
    RESOURCE_CONTROL = "resource control policy"


class Effect(StrEnum):
    """Effect of a statement, spelt as in the document (the case matters)."""

    ALLOW = "Allow"
    DENY = "Deny"


class Wildcard(Enum):
    """A wildcard inside a pattern; a literal ``*`` or ``?`` is plain text instead."""

    ANY_RUN = "*"
    ANY_CHAR = "?"


class Variable(NamedTuple):
    """
    A policy variable, ``${key}`` or ``${key, 'default'}``.

    Attributes:
        key: Condition key in lower case.
        default: Text to use when the key is absent or null; None when there is no default.
    """

    key: str
    default: str | None


Piece = str | Wildcard | Variable


class Pattern(NamedTuple):
    """
    Text that may hold wildcards and policy variables, cut into its pieces.

    Which of the two are special was decided when it was parsed: in a document of version
    2008-10-17 ``${...}`` is plain text, under ``StringEquals`` a ``*`` is plain text.

    Attributes:
        text: As written in the document.
        pieces: Literals, wildcards and variables in order; empty for an empty text.
    """

    text: str
    pieces: tuple[Piece, ...]

    @property
    def has_variables(self) -> bool:
        """Whether any piece is a variable."""
        return any(type(piece) is Variable for piece in self.pieces)


class ArnPattern(NamedTuple):
    """
    An entry of ``Resource`` or ``NotResource``: ``*``, or six patterns that match field by field.

    Attributes:
        text: As written in the document.
        fields: The six fields (arn, partition, service, region, account, resource);
            empty for ``*``, which matches every resource and the resource ``*`` too.
    """

    text: str
    fields: tuple[Pattern, ...]

    @property
    def is_any(self) -> bool:
        """Whether this is the bare ``*``."""
        return not self.fields


class ActionPattern(NamedTuple):
    """
    An entry of ``Action`` or ``NotAction``, in lower case.

    ``*`` and ``?`` are always wildcards here; ``service`` holds one only in the bare ``*``
    (both parts are then ``*``) and in service control policies.
    """

    service: str
    name: str

    @property
    def text(self) -> str:
        """``service:name``, or the bare ``*``."""
        return "*" if self.service == "*" and self.name == "*" else f"{self.service}:{self.name}"


class PrincipalKind(IntEnum):
    """Forms of an entry of ``Principal``."""

    ANY = 1
    ACCOUNT = 2
    USER = 3
    ROLE = 4
    ROLE_SESSION = 5
    FEDERATED_USER = 6
    SERVICE = 7
    FEDERATED_PROVIDER = 8
    CANONICAL_USER = 9
    #: ``AIDA...`` or ``AROA...``: what AWS shows for a principal that was deleted, or re-created.
    UNIQUE_ID = 10


class PrincipalPattern(NamedTuple):
    """
    One entry of ``Principal`` or ``NotPrincipal``.

    Attributes:
        kind: Its form.
        text: The value as written.
        partition: Partition of its ARN, or an empty string (a bare account id: any partition).
        account: Account of its ARN or the bare account id, or an empty string.
        name: USER: the full ARN. ROLE: the role name without its path. ROLE_SESSION:
            ``role/session``. FEDERATED_USER: the name. SERVICE: the service, lower case. FEDERATED_PROVIDER: the
            provider as written. CANONICAL_USER, UNIQUE_ID: the id. ANY, ACCOUNT: empty.
    """

    kind: PrincipalKind
    text: str
    partition: str = ""
    account: str = ""
    name: str = ""


class ValueType(IntEnum):
    """How the values of a condition operator are read."""

    STRING = 1
    NUMERIC = 2
    DATE = 3
    BOOL = 4
    BINARY = 5
    IP = 6
    ARN = 7
    NULL = 8


class Comparison(IntEnum):
    """What a condition operator does with one pair of values."""

    EQUALS = 1
    EQUALS_IGNORE_CASE = 2
    LIKE = 3
    LESS = 4
    LESS_EQUALS = 5
    GREATER = 6
    GREATER_EQUALS = 7
    IN_NETWORK = 8


class Qualifier(IntEnum):
    """Set operator in front of a condition operator."""

    NONE = 0
    FOR_ALL_VALUES = 1
    FOR_ANY_VALUE = 2


class BaseOperator(NamedTuple):
    """
    A condition operator without set operator and ``IfExists``.

    Attributes:
        name: As AWS spells it.
        value_type: How its values are read.
        comparison: What it does with one pair of values.
        negated: Whether it is true where the comparison is false.
        variables: Whether policy variables may stand in its values.
        wildcards: Whether ``*`` and ``?`` are wildcards in its values.
    """

    name: str
    value_type: ValueType
    comparison: Comparison
    negated: bool = False
    variables: bool = False
    wildcards: bool = False


def _operators() -> dict[str, BaseOperator]:
    string, numeric, date = ValueType.STRING, ValueType.NUMERIC, ValueType.DATE
    ordered = (
        ("Equals", Comparison.EQUALS, False),
        ("NotEquals", Comparison.EQUALS, True),
        ("LessThan", Comparison.LESS, False),
        ("LessThanEquals", Comparison.LESS_EQUALS, False),
        ("GreaterThan", Comparison.GREATER, False),
        ("GreaterThanEquals", Comparison.GREATER_EQUALS, False),
    )
    table = [
        BaseOperator("StringEquals", string, Comparison.EQUALS, False, True),
        BaseOperator("StringNotEquals", string, Comparison.EQUALS, True, True),
        BaseOperator("StringEqualsIgnoreCase", string, Comparison.EQUALS_IGNORE_CASE, False, True),
        BaseOperator("StringNotEqualsIgnoreCase", string, Comparison.EQUALS_IGNORE_CASE, True, True),
        BaseOperator("StringLike", string, Comparison.LIKE, False, True, True),
        BaseOperator("StringNotLike", string, Comparison.LIKE, True, True, True),
        *(BaseOperator(f"Numeric{name}", numeric, what, negated) for name, what, negated in ordered),
        *(BaseOperator(f"Date{name}", date, what, negated) for name, what, negated in ordered),
        BaseOperator("Bool", ValueType.BOOL, Comparison.EQUALS, False, True),
        BaseOperator("BinaryEquals", ValueType.BINARY, Comparison.EQUALS),
        BaseOperator("IpAddress", ValueType.IP, Comparison.IN_NETWORK),
        BaseOperator("NotIpAddress", ValueType.IP, Comparison.IN_NETWORK, True),
        BaseOperator("ArnEquals", ValueType.ARN, Comparison.LIKE, False, True, True),
        BaseOperator("ArnNotEquals", ValueType.ARN, Comparison.LIKE, True, True, True),
        BaseOperator("ArnLike", ValueType.ARN, Comparison.LIKE, False, True, True),
        BaseOperator("ArnNotLike", ValueType.ARN, Comparison.LIKE, True, True, True),
        BaseOperator("Null", ValueType.NULL, Comparison.EQUALS),
    ]
    return {operator.name: operator for operator in table}


#: Every condition operator, by its name as AWS spells it.
OPERATORS = _operators()


class Instant(NamedTuple):
    """
    A point in time, or a decimal number: ``seconds + nanos / 10**9``, nanos in [0, 10**9).

    Both condition families compare this pair, so an ISO 8601 date meets an epoch number.
    """

    seconds: int
    nanos: int

    @classmethod
    def from_decimal(cls, value: Decimal) -> Instant:
        """Split *value* at its floor; digits past the ninth decimal must be zero."""
        scaled = int(value.scaleb(9).to_integral_exact())
        return cls(*divmod(scaled, 1_000_000_000))


Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: A value of a condition, typed by its operator: STRING, ARN and BOOL hold a pattern (BOOL without
#: wildcards: ``true``, ``false`` in lower case, or a variable), NUMERIC and DATE an instant, BINARY bytes, IP a
#: network, NULL a bool.
ConditionValue = Pattern | Instant | bytes | Network | bool


class Condition(NamedTuple):
    """
    One line of a condition block: an operator, a key and the values to compare with.

    Attributes:
        operator: The base operator.
        qualifier: Its set operator.
        if_exists: Whether it carries ``IfExists``.
        key: Condition key in lower case.
        values: Typed values, never empty.
    """

    operator: BaseOperator
    qualifier: Qualifier
    if_exists: bool
    key: str
    values: tuple[ConditionValue, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """
    One statement, all of its parts typed.

    Attributes:
        index: Its place in the document, from 0.
        sid: Its ``Sid``, or an empty string.
        effect: Allow or Deny.
        actions: Entries of ``Action``, or of ``NotAction`` when *not_action* is set.
        resources: Entries of ``Resource`` or ``NotResource``; None where the kind of policy has none
            (trust policies) or leaves it out (it then matches the resource the policy is attached to).
        principals: Entries of ``Principal`` or ``NotPrincipal``; None in kinds that have none.
        conditions: Lines of ``Condition``; all must hold.
    """

    index: int
    sid: str
    effect: Effect
    actions: tuple[ActionPattern, ...]
    not_action: bool = False
    resources: tuple[ArnPattern, ...] | None = None
    not_resource: bool = False
    principals: tuple[PrincipalPattern, ...] | None = None
    not_principal: bool = False
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """
    A checked document.

    Attributes:
        version: ``2012-10-17`` or ``2008-10-17`` (the meaning of an absent version).
        id: Its ``Id``, or an empty string.
        statements: In document order.
    """

    version: str
    id: str
    statements: tuple[Statement, ...]


class Policy(NamedTuple):
    """
    A document with the name by which an explanation calls it.

    Attributes:
        name: ARN of a managed policy, or ``inline:<owner ARN>/<policy name>``.
        document: The document in force (of a managed policy: its default version).
    """

    name: str
    document: PolicyDocument
