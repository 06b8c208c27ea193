# SPDX-License-Identifier: Apache-2.0
"""
How a request for a proof stands, and the ticket that one is made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sidecar.model.decision import MfaMethod

#: Every factor: where nothing says which would do.
ALL_METHODS = tuple(MfaMethod)


class ChallengeState(StrEnum):
    """How a challenge stands."""

    OPEN = "open"
    PROVED = "proved"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class StepUpTicket:
    """
    What a refused request is told, sealed, so that its session can be proved.

    Attributes:
        access_key_id: The session that was refused, which alone may redeem it.
        expires_at_ms: First moment at which it is over, in milliseconds since the epoch.
        action: What was refused.
        resource: Likewise.
        return_address: Absolute address of the page that was refused; empty where there is none to go back to.
        methods: Factors that would turn the refusal; at least one.
        max_age_seconds: Greatest age of the proof that would do; None where policies set none.
        user_verification: Whether the key must verify the person.
        is_for_call: Whether the proof is to hold for exactly this action and resource.
        digest: Names the ticket: 32 bytes, the same for the same ticket alone.
    """

    access_key_id: str
    expires_at_ms: int
    action: str
    resource: str
    return_address: str
    methods: tuple[MfaMethod, ...]
    max_age_seconds: int | None
    user_verification: bool
    is_for_call: bool
    digest: bytes = field(repr=False)
