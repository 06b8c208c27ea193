# SPDX-License-Identifier: Apache-2.0
"""
What the prompt needs of the services.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sidecar.services.callers import Caller
from sidecar.services.mfa import MfaServices
from sidecar.services.step_up import StepUpService


class Issued(Protocol):
    """A session that was given."""

    @property
    def session_token(self) -> str:
        """The sealed token."""
        ...


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

    def may_change_password(self, caller: Caller) -> bool:
        """Say whether the caller may change their own password."""
        ...

    def change_password(self, caller: Caller, *, old_password: str, new_password: str) -> None:
        """Replace the caller's password, and end every session of theirs."""
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

    Attributes:
        open_mfa: Gives the services of second factors; the store is opened for nobody who only looks at a form.
    """

    sessions: Sessions
    step_up: StepUpService
    permissions: Permits
    open_mfa: Callable[[], MfaServices]

    @property
    def mfa(self) -> MfaServices:
        """The services of second factors."""
        return self.open_mfa()
