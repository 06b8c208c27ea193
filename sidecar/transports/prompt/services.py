# SPDX-License-Identifier: Apache-2.0
"""
What the prompt needs of the services.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sidecar.services.callers import Caller
from sidecar.services.challenges import Answer
from sidecar.services.mfa import MfaServices
from sidecar.services.store.challenges import ChallengeState


class Issued(Protocol):
    """A session that was given."""

    @property
    def session_token(self) -> str:
        """The sealed token."""
        ...


class Asked(Protocol):
    """
    A challenge, as its page shows it.

    Attributes:
        asked_from: Address of whoever opened it, as gRPC writes it.
        options_json: WebAuthn request options; empty where the user has no key.
    """

    @property
    def challenge_id(self) -> str: ...  # noqa: D102

    @property
    def user_arn(self) -> str: ...  # noqa: D102

    @property
    def session(self) -> str: ...  # noqa: D102

    @property
    def action(self) -> str: ...  # noqa: D102

    @property
    def resource(self) -> str: ...  # noqa: D102

    @property
    def user_code(self) -> str: ...  # noqa: D102

    @property
    def state(self) -> ChallengeState: ...  # noqa: D102

    @property
    def expires_at_ms(self) -> int: ...  # noqa: D102

    @property
    def asked_from(self) -> str: ...  # noqa: D102

    @property
    def require_user_verification(self) -> bool: ...  # noqa: D102

    @property
    def options_json(self) -> str: ...  # noqa: D102


class Sessions(Protocol):
    """Gives sessions, knows them again, and ends them."""

    def sign_in(self, *, account: str, user_name: str, password: str, peer: str) -> Issued:
        """Return a session for somebody who knows a user's password."""
        ...

    def authenticate(self, token: str, peer: str) -> Caller:
        """Return whose session that is."""
        ...

    def revoke(self, caller: Caller, session_token: str) -> None:
        """End a session, and all that grew from it."""
        ...


class StepUp(Protocol):
    """Asks for proofs."""

    def begin(self, caller: Caller, *, session_token: str) -> Asked:
        """Ask the person of a session for a proof."""
        ...

    def describe(self, caller: Caller, challenge_id: str) -> Asked:
        """Return what a challenge of the caller's is about."""
        ...

    def answer(self, caller: Caller, challenge_id: str, answer: Answer) -> Issued | None:
        """Prove; the new session comes back where the caller's own session asked."""
        ...

    def refuse(self, caller: Caller, challenge_id: str) -> None:
        """Say no."""
        ...


class Permits(Protocol):
    """Says whether a caller may make a call."""

    def require(self, caller: Caller, service: str, method: str, resource: str) -> None:
        """Pass if so."""
        ...


@dataclass(frozen=True, slots=True)
class PromptServices:
    """
    Everything that the pages work with.

    Thread-safety: each is safe by itself.
    """

    sessions: Sessions
    step_up: StepUp
    permissions: Permits
    mfa: MfaServices
