# SPDX-License-Identifier: Apache-2.0
"""
The prompt on real services, with a clock that a test sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette

from sidecar.core import Image
from sidecar.model.decision import MfaMethod, MfaRequirement
from sidecar.model.errors import PermissionDeniedError, StepUpRequiredError
from sidecar.services.callers import Caller
from sidecar.services.log import NullLog
from sidecar.services.step_up import StepUpService
from sidecar.services.store.engine import Store
from sidecar.transports.prompt.address import PublicAddress, ReturnAddresses
from sidecar.transports.prompt.application import build_prompt
from sidecar.transports.prompt.services import PromptServices
from tests.unit.services.mfa_kit import ADA, BOB, ORIGIN, RP_ID
from tests.unit.services.session_kit import PASSWORD, SessionKit


@dataclass
class Gatekeeper:
    """Lets everything pass but what a test names."""

    denied: set[str] = field(default_factory=set)
    wanting_pin: set[str] = field(default_factory=set)

    def require(self, caller: Caller, service: str, method: str, resource: str) -> None:
        if method in self.wanting_pin and (caller.claims is None or caller.claims.mfa is None):
            requirement = MfaRequirement(max_age_seconds=300, methods=(MfaMethod.WEBAUTHN,), user_verification=True)
            raise StepUpRequiredError("a proof is missing", requirement=requirement)
        if method in self.denied:
            raise PermissionDeniedError(f"`{caller.name}` is not authorized to perform it on `{resource}`")


class PromptKit:
    """A prompt, at which ada and bob of acme can sign in."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        origin: str = ORIGIN,
        path: str = "",
        image: Image | None = None,
        is_new: bool = True,
    ) -> None:
        self.mfa = SessionKit(store, folder, image)
        self.origin, self.path = origin, path
        self.clock = self.mfa.clock
        self.sessions = self.mfa.sessions
        for person in (ADA, BOB) if is_new else ():
            self.mfa.set_password(person)
        self.clock.advance(1)
        self.gatekeeper = Gatekeeper()
        self.step_up = StepUpService(
            open_challenges=lambda: self.mfa.services.challenges,
            sessions=self.sessions,
            tickets=self.mfa.tickets,
            prompt_url=lambda id: f"{origin}{path}/challenge/{id}",
            now=self.clock,
        )
        services = PromptServices(self.sessions, self.step_up, self.gatekeeper, lambda: self.mfa.services)
        address = PublicAddress(origin, path)
        self.application: Starlette = build_prompt(
            address=address,
            returns=ReturnAddresses(["https://app.example.org"], own=address),
            site=RP_ID,
            services=services,
            log=NullLog(),
            now=self.clock,
        )

    def terminal(self, user_name: str = "ada") -> Caller:
        """Return a session of the person elsewhere, such as that of a terminal."""
        peer = "ipv4:10.0.0.7:51324"
        issued = self.sessions.sign_in(account="acme", user_name=user_name, password=PASSWORD, peer=peer)
        return self.sessions.authenticate(issued.session_token, peer)

    def end_sessions(self) -> None:
        """Have every session be over."""
        self.clock.advance(12 * 3600)
