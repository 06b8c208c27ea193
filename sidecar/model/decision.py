# SPDX-License-Identifier: Apache-2.0
"""
Decisions and the closed sets of words that explain them.

The numbers are those of the wire contract; the compiled core and the oracle use the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Decision(IntEnum):
    """
    What was decided.

    Zero is no decision, and never an allow.
    """

    UNSPECIFIED = 0
    ALLOW = 1
    EXPLICIT_DENY = 2
    IMPLICIT_DENY = 3


class PolicyLayer(IntEnum):
    """The kind of policy that decided."""

    UNSPECIFIED = 0
    IDENTITY = 1
    RESOURCE = 2
    PERMISSIONS_BOUNDARY = 3
    SESSION = 4
    SERVICE_CONTROL = 5
    RESOURCE_CONTROL = 6


class Reason(IntEnum):
    """
    Why, in one word of a closed set; ``word`` is what callers and metrics see.

    The order of the numbers is internal to one build; the words are stable.
    """

    UNSPECIFIED = 0
    #: An identity-based policy allows, and nothing denies.
    IDENTITY_ALLOW = 1
    #: A resource-based policy allows the caller itself, and nothing denies.
    RESOURCE_ALLOW = 2
    #: The account root acts in its own account.
    ROOT_ALLOW = 3
    #: ``sts:GetCallerIdentity``, which AWS never denies.
    ALWAYS_ALLOWED = 4
    #: A statement with ``Effect: Deny`` applies; the layer says where.
    EXPLICIT_DENY = 5
    NO_IDENTITY_ALLOW = 6
    NO_RESOURCE_ALLOW = 7
    NO_PERMISSIONS_BOUNDARY_ALLOW = 8
    NO_SESSION_ALLOW = 9
    NO_SERVICE_CONTROL_ALLOW = 10
    #: The principal is not in the snapshot.
    UNKNOWN_PRINCIPAL = 11
    #: Nothing says which account owns the resource.
    RESOURCE_ACCOUNT_UNKNOWN = 12
    #: Principal and resource are in different partitions.
    CROSS_PARTITION = 13
    #: The session token is none of ours, comes from the future, or speaks for somebody who is gone or was made anew.
    SESSION_INVALID = 14
    #: No snapshot is in place yet.
    NO_SNAPSHOT = 15
    #: AWS-owned: managed policies of AWS and roles under ``/aws-reserved/`` cannot be changed.
    IMMUTABLE_RESOURCE = 16
    #: The engine could not finish within its bounds.
    INTERNAL_ERROR = 17
    #: The decision log had no place for the record of this decision.
    AUDIT_UNAVAILABLE = 18
    #: The session is over.
    SESSION_EXPIRED = 19
    #: The session, or what it grew from, was revoked.
    SESSION_REVOKED = 20
    #: Whether the session was revoked cannot be known: the store is out of reach.
    SESSION_UNVERIFIABLE = 21
    #: What AWS does not let a session of this kind call.
    SESSION_KIND_NOT_ALLOWED = 22
    #: The route is public: nothing was asked.
    PUBLIC_ROUTE = 23
    #: No route covers the request.
    NO_ROUTE = 24
    #: The path of the request could be read in more than one way.
    PATH_INVALID = 25
    #: What a route takes from the request is not there, or cannot stand where the route puts it.
    ROUTE_VALUE_INVALID = 26
    #: Nothing in the request says who calls, or no rule maps it to a principal.
    CALLER_UNKNOWN = 27
    #: The request of the proxy cannot be read.
    REQUEST_INVALID = 28

    @property
    def word(self) -> str:
        """The stable snake_case word, as on the wire and in metric labels."""
        return "" if self is Reason.UNSPECIFIED else self.name.lower()


class MfaMethod(IntEnum):
    """Factors that a caller can prove, with the words of ``sidecar:MfaMethod``."""

    TOTP = 0
    WEBAUTHN = 1
    U2F = 2
    RECOVERY = 3

    @property
    def word(self) -> str:
        """The word used in policies and on the wire."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class MfaRequirement:
    """
    What proof would turn this denial into an allow.

    Attributes:
        max_age_seconds: Greatest accepted age of the proof; None where policies set none.
        methods: Factors that would do, in the order of ``MfaMethod``.
        user_verification: Whether the key must also verify the person (PIN, fingerprint).
    """

    max_age_seconds: int | None
    methods: tuple[MfaMethod, ...]
    user_verification: bool


@dataclass(frozen=True, slots=True, order=True)
class StatementMatch:
    """
    A statement that applied to a request.

    Attributes:
        layer: The kind of policy it stands in.
        policy: ARN of a managed policy, or ``inline:<owner ARN>/<policy name>``.
        sid: Its ``Sid``, or an empty string.
        statement_index: Its place in the document, from 0.
        effect: ``Allow`` or ``Deny``.
    """

    layer: PolicyLayer
    policy: str
    sid: str
    statement_index: int
    effect: str


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A decision with everything that led to it.

    Attributes:
        matched_statements: Every statement that applied, of both effects and all layers.
        missing_context_keys: Lower-case condition keys that were asked for and absent.
        shadow_decision: What the decision would be if what stands in shadow were in force; UNSPECIFIED where nothing
            does.
    """

    decision: Decision
    layer: PolicyLayer
    reason: Reason
    mfa_requirement: MfaRequirement | None = None
    principal_arn: str = ""
    matched_statements: tuple[StatementMatch, ...] = field(default=())
    missing_context_keys: tuple[str, ...] = field(default=())
    shadow_decision: Decision = Decision.UNSPECIFIED
