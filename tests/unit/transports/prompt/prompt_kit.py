# SPDX-License-Identifier: Apache-2.0
"""
The prompt on the services of second factors, with a clock that a test sets.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette

from sidecar.model.decision import MfaMethod, MfaRequirement
from sidecar.model.errors import (
    AuthenticationError,
    PermissionDeniedError,
    SessionInvalidError,
    SourceUnavailableError,
    StepUpRequiredError,
)
from sidecar.model.session import BoundProof, MfaProof, SessionClaims, SessionKind
from sidecar.services.callers import Caller
from sidecar.services.challenges import Proof
from sidecar.services.log import NullLog
from sidecar.services.step_up import StepUpService
from sidecar.services.store.engine import Store
from sidecar.transports.prompt.address import PublicAddress, ReturnAddresses
from sidecar.transports.prompt.application import build_prompt
from sidecar.transports.prompt.services import PromptServices
from tests.unit.services.mfa_kit import ADA, BOB, ORIGIN, RP_ID, Clock, Kit

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Ticket:
    """A session."""

    session_token: str
    expires_at_ms: int
    claims: SessionClaims


@dataclass
class Desk:
    """Signs people in who know the password; its tokens are numbers."""

    clock: Clock
    is_out_of_reach: bool = False
    callers: dict[str, Caller] = field(default_factory=dict)
    people: dict[tuple[str, str], str] = field(
        default_factory=lambda: {("acme", "ada"): ADA, ("111122223333", "ada"): ADA, ("acme", "bob"): BOB}
    )

    def sign_in(self, *, account: str, user_name: str, password: str, peer: str) -> Ticket:
        if self.is_out_of_reach:
            raise SourceUnavailableError("the store is out of reach")
        person = self.people.get((account, user_name))
        if person is None or password != PASSWORD:
            raise AuthenticationError("account, name or password are wrong")
        now_ms = self.clock.nanoseconds // 1_000_000
        claims = SessionClaims(
            access_key_id=f"ASIA{len(self.callers):016d}",
            kind=SessionKind.SIGN_IN,
            lineage=bytes(16),
            principal=person,
            principal_id="AIDAEXAMPLE",
            session_name="",
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + 12 * 3_600_000,
            lineage_issued_at_ms=now_ms,
            person=person,
            person_id="AIDAEXAMPLE",
        )
        return self._issue(claims, peer)

    def _issue(self, claims: SessionClaims, peer: str) -> Ticket:
        token = f"token-{len(self.callers)}"
        self.callers[token] = Caller(claims.arn, claims.access_key_id, peer, claims, token)
        return Ticket(token, claims.expires_at_ms, claims)

    def authenticate(self, token: str, peer: str) -> Caller:
        if token not in self.callers:
            raise SessionInvalidError("no such session")
        return dataclasses.replace(self.callers[token], peer=peer)

    def prove(self, token: str, proof: Proof) -> Ticket:
        caller = self.authenticate(token, "")
        assert caller.claims is not None
        held = MfaProof(MfaMethod.TOTP, proof.proved_at_ms, proof.serial_number, proof.user_verified)
        if proof.action:
            return self._issue(
                dataclasses.replace(caller.claims, bound=BoundProof(held, proof.action, proof.resource)), caller.peer
            )
        return self._issue(dataclasses.replace(caller.claims, mfa=held), caller.peer)

    def revoke(self, caller: Caller, session_token: str) -> None:
        if self.is_out_of_reach:
            raise SourceUnavailableError("the store is out of reach")
        self.callers = {token: other for token, other in self.callers.items() if other.session != caller.session}


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
    """A prompt, and those who use it."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        origin: str = ORIGIN,
        rp_id: str = RP_ID,
        returns: tuple[str, ...] = ("https://app.example.org",),
    ) -> None:
        self.mfa = Kit(store, folder, id=rp_id, origins=(origin,))
        self.origin = origin
        self.clock = self.mfa.clock
        self.desk = Desk(self.clock)
        self.gatekeeper = Gatekeeper()
        self.step_up = StepUpService(
            open_challenges=lambda: self.mfa.services.challenges,
            sessions=self.desk,
            prompt_url=lambda id: f"{origin}/challenge/{id}",
        )
        self.services = PromptServices(self.desk, self.step_up, self.gatekeeper, lambda: self.mfa.services)
        self.application: Starlette = build_prompt(
            address=PublicAddress(origin),
            returns=ReturnAddresses(returns),
            site=rp_id,
            services=self.services,
            log=NullLog(),
            now=self.clock,
        )

    def terminal(self, user_name: str = "ada") -> Caller:
        """Return a session of the person elsewhere, such as that of a terminal."""
        peer = "ipv4:10.0.0.7:51324"
        issued = self.desk.sign_in(account="acme", user_name=user_name, password=PASSWORD, peer=peer)
        return self.desk.authenticate(issued.session_token, peer)
