# SPDX-License-Identifier: Apache-2.0
"""
Sessions: what a sealed token says about its bearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sidecar.model.decision import MfaMethod

#: Longest token that is read, in characters; what is longer is refused before it is looked at.
MAX_SESSION_TOKEN = 8192
#: SPEC: STS: at most so many session tags.
MAX_SESSION_TAGS = 50
#: How long a proof that is bound to one call holds, in milliseconds.
BOUND_PROOF_MS = 5 * 60 * 1000
#: How far the clocks of two sidecars may be apart, in milliseconds: a token from further ahead is refused.
CLOCK_SKEW_MS = 30 * 1000


class SessionKind(IntEnum):
    """How a session came to be; what it may call follows from that."""

    #: By password: the rights of AWS's console session, and those of a long-term caller.
    SIGN_IN = 1
    #: By ``GetSessionToken``.
    USER = 2
    #: By ``AssumeRole``.
    ROLE = 3


@dataclass(frozen=True, slots=True)
class MfaProof:
    """
    A second factor that was proved.

    Attributes:
        proved_at_ms: Milliseconds since the epoch.
        serial_number: Of the device; empty for a recovery code.
        user_verified: Whether the device verified who held it.
    """

    method: MfaMethod
    proved_at_ms: int
    serial_number: str
    user_verified: bool


@dataclass(frozen=True, slots=True)
class BoundProof:
    """
    A proof that holds for one action on exactly one resource, for `BOUND_PROOF_MS`.

    Attributes:
        action: ``service:action`` in lower case.
    """

    proof: MfaProof
    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class SessionTag:
    """
    A session tag.

    Attributes:
        is_transitive: Whether roles that the session assumes inherit it.
    """

    key: str
    value: str
    is_transitive: bool = False


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """
    What stands in a token.

    Attributes:
        access_key_id: ``ASIA...``, of 20 characters. It names the session, and stays through step-up.
        lineage: 16 random bytes that every session shares which grew from one sign-in.
        principal: The name under which the snapshot knows the principal: a user's ARN, or
            ``arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE``, without path and session name.
        principal_id: Its unique id, ``AIDA...`` or ``AROA...``: one that was made anew under the same name has another.
        session_name: Of a role's session; else empty.
        issued_at_ms: When the session began, in milliseconds since the epoch; stays through step-up.
        expires_at_ms: First moment at which it is over.
        lineage_issued_at_ms: When the first session of the lineage began.
        person: ARN of the user who signed in; empty where no person did. Their devices answer its challenges.
        person_id: The unique id of that user.
        source_identity: Empty where none was set.
        is_chained: Whether a role assumed this role.
        mfa: The proof that holds for every call, if any.
        bound: The proof that holds for one call, if any.
        policies: Compiled session policies; empty where there are none.
    """

    access_key_id: str
    kind: SessionKind
    lineage: bytes
    principal: str
    principal_id: str
    session_name: str
    issued_at_ms: int
    expires_at_ms: int
    lineage_issued_at_ms: int
    person: str
    person_id: str
    source_identity: str = ""
    is_chained: bool = False
    mfa: MfaProof | None = None
    bound: BoundProof | None = None
    tags: tuple[SessionTag, ...] = ()
    policies: bytes = b""

    @property
    def arn(self) -> str:
        """ARN of the user, or of the session of the role."""
        return f"{self.principal}/{self.session_name}" if self.kind is SessionKind.ROLE else self.principal
