# SPDX-License-Identifier: Apache-2.0
"""
A challenge: what is asked for, and proving it or saying no.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from sidecar.model.challenge import ChallengeState
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    RequestError,
    ThrottledError,
    TicketExpiredError,
    TicketForeignError,
    TicketInvalidError,
)
from sidecar.services.challenges import Answer, AssertionAnswer, RecoveryAnswer, TotpAnswer
from sidecar.services.log import Log
from sidecar.services.step_up import AskedChallenge
from sidecar.transports.prompt import failures
from sidecar.transports.prompt.address import ReturnAddresses, host_of, is_own_page, with_value
from sidecar.transports.prompt.door import View
from sidecar.transports.prompt.replies import Reply, go
from sidecar.transports.prompt.services import PromptServices
from sidecar.transports.prompt.visits import Visit


class Way(NamedTuple):
    """
    A way to prove that it is you.

    Attributes:
        field: Of its form.
        read: Gives what the field holds.
        empty: What is said where it holds nothing.
        refused: What is said where that proves nothing.
    """

    field: str
    read: Callable[[str], Answer]
    empty: str
    refused: str


#: By the last part of the address.
WAYS = {
    "key": Way(
        "response_json",
        AssertionAnswer,
        "Your browser sent no answer of a key. It may have JavaScript switched off.",
        "The key was not accepted. Is it the one that you have added here?",
    ),
    "code": Way(
        "code",
        lambda text: TotpAnswer(text.replace(" ", "")),
        "Type the six digits that your authenticator app shows.",
        "That code was not accepted. Wait for the next one, and type that.",
    ),
    "recovery": Way(
        "recovery_code",
        lambda text: RecoveryAnswer(text.strip()),
        "Type one of your recovery codes.",
        "That recovery code was not accepted. Each works once.",
    ),
}
_LOOPBACK = ("127.0.0.1", "::1")


class ChallengePages:
    """
    The views of challenges.

    Thread-safety: immutable.
    """

    def __init__(self, *, returns: ReturnAddresses, now: Callable[[], int], log: Log) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
            log: Is told of pages that nobody may be sent back to.
        """
        self._returns = returns
        self._now = now
        self._log = log

    def redeem(self, visit: Visit, services: PromptServices) -> Reply:
        """Lead somebody whose request was refused to the challenge that would turn that."""
        text = visit.query.get("ticket", "")
        if visit.caller is None:
            # The session will be another one, whose request is refused with another ticket.
            return go(with_value("/sign-in", "next", self._page_refused(text, services) or "/step-up"))
        if not text:
            return failures.load_again("")
        try:
            asked = services.step_up.redeem(visit.caller, text)
        except TicketInvalidError:
            return failures.no_ticket()
        except (TicketForeignError, TicketExpiredError):
            return failures.load_again(self._page_refused(text, services))
        if asked.return_address and not self._returns.allows(asked.return_address):
            self._log.warning("prompt_return_not_allowed", host=host_of(asked.return_address))
        return go(_page_of(asked, ""))

    def _page_refused(self, text: str, services: PromptServices) -> str:
        """Return the page that a ticket was given for; empty where there is none to send anybody to."""
        try:
            address = services.step_up.open_ticket(text).return_address
        except TicketInvalidError:
            return ""
        return address if self._returns.allows(address) else ""

    def page(self, visit: Visit, services: PromptServices) -> Reply:
        """Show what is asked for, or how it ended."""
        where = visit.query.get("return_to", "")
        if where and not self._returns.allows(where):
            return failures.forged_return(host_of(where))
        asked = _find(visit, services)
        if asked is None:
            return failures.not_yours()
        return self._show(visit, services, asked, where or self._way_back(asked))

    def answer_by(self, way: str) -> View:
        """Return the view that judges a proof by one of ``WAYS``."""

        def answer(visit: Visit, services: PromptServices) -> Reply:
            return self._answer(visit, services, way)

        return answer

    def _answer(self, visit: Visit, services: PromptServices, way: str) -> Reply:
        where = visit.form.get("return_to", "")
        if where and not self._returns.allows(where):
            return failures.forged_return(host_of(where))
        asked = _find(visit, services)
        if asked is None:
            return failures.not_yours()
        where = where or self._way_back(asked)
        if asked.state is not ChallengeState.OPEN:
            return self._show(visit, services, asked, where)
        typed = visit.form.get(WAYS[way].field, "")
        if not typed.strip():
            problem = WAYS[way].empty
            return self._show(visit, services, asked, where, problem=problem, way=way, status=HTTPStatus.BAD_REQUEST)
        try:
            issued = services.step_up.answer(visit.signed_in, asked.challenge_id, WAYS[way].read(typed))
        except ThrottledError as error:
            problem = failures.sentences(error)
            return self._show(
                visit, services, asked, where, problem=problem, way=way, status=HTTPStatus.TOO_MANY_REQUESTS
            )
        except (MfaError, RequestError):
            # It may have ended meanwhile: in another window, or because its time is over.
            now = _find(visit, services)
            if now is None:
                return failures.not_yours()
            problem = WAYS[way].refused
            return self._show(visit, services, now, where, problem=problem, way=way, status=HTTPStatus.FORBIDDEN)
        return self._done(asked, where, token=issued.session_token if issued is not None else None)

    def refuse(self, visit: Visit, services: PromptServices) -> Reply:
        """Say no."""
        where = visit.form.get("return_to", "")
        if where and not self._returns.allows(where):
            return failures.forged_return(host_of(where))
        asked = _find(visit, services)
        if asked is None:
            return failures.not_yours()
        try:
            services.step_up.refuse(visit.signed_in, asked.challenge_id)
        except MfaError:
            # It has ended otherwise; the page says how.
            pass
        return go(_page_of(asked, where))

    def prove(self, visit: Visit, services: PromptServices) -> Reply:
        """Ask the person for a proof, for the session of this browser, and lead back to one of its pages."""
        where = visit.form.get("then", "")
        if not is_own_page(where):
            return failures.forged_return("")
        takes_pin = bool(visit.form.get("takes_pin"))
        asked = services.step_up.begin(visit.signed_in, require_user_verification=takes_pin)
        return go(_page_of(asked, where))

    def _done(self, asked: AskedChallenge, where: str, *, token: str | None) -> Reply:
        if where and self._returns.is_here(where):
            return go(where, token=token)
        # Browsers let a form lead to no other host; the page that says how it ended goes on by itself.
        return go(_page_of(asked, where), token=token)

    def _way_back(self, asked: AskedChallenge) -> str:
        """Return the page that the challenge itself is from; empty where nobody may be sent there."""
        address = asked.return_address if asked.is_own else ""
        return address if address and self._returns.allows(address) else ""

    def _show(
        self,
        visit: Visit,
        services: PromptServices,
        asked: AskedChallenge,
        where: str,
        *,
        problem: str = "",
        way: str = "",
        status: int = HTTPStatus.OK,
    ) -> Reply:
        values: dict[str, object] = {
            "asked": asked,
            "where": where,
            "here": _page_of(asked, where),
            "back_host": host_of(where),
            "is_own_page": is_own_page(where),
        }
        if asked.state is not ChallengeState.OPEN:
            status = HTTPStatus.OK if asked.state is ChallengeState.PROVED else HTTPStatus.GONE
            return Reply(template="challenge_over.html", status=status, values={**values, "state": asked.state.value})
        kinds = {device.kind for device in services.mfa.devices.list_devices(asked.user_arn)}
        codes = () if asked.require_user_verification else asked.methods
        values |= {
            "asked_from": plain_peer(asked.asked_from),
            "seconds_left": max(0, asked.expires_at_ms - self._now() // 1_000_000) // 1000,
            "has_code": "totp" in kinds and MfaMethod.TOTP in codes,
            "has_recovery": bool(kinds) and MfaMethod.RECOVERY in codes,
            "has_devices": bool(kinds),
            "needed": _needed(asked),
            "problem": problem,
            "way": way,
        }
        return Reply(template="challenge.html", status=status, values=values)


def _needed(asked: AskedChallenge) -> str:
    """Return which devices will do, for people to read."""
    if asked.require_user_verification:
        return "a security key with a PIN or a fingerprint"
    words = {
        MfaMethod.TOTP: "an authenticator app",
        MfaMethod.WEBAUTHN: "a security key or passkey",
        MfaMethod.U2F: "a security key" if MfaMethod.WEBAUTHN not in asked.methods else "",
        MfaMethod.RECOVERY: "a recovery code",
    }
    return ", or ".join(filter(None, (words[method] for method in asked.methods)))


def _page_of(asked: AskedChallenge, where: str) -> str:
    return with_value(f"/challenge/{asked.challenge_id}", "return_to", where)


def plain_peer(peer: str) -> str:
    """
    Return the address in a peer as people know it.

    >>> plain_peer("ipv4:10.0.0.7:51324"), plain_peer("ipv6:[2001:db8::1]:5"), plain_peer("unix:")
    ('10.0.0.7', '2001:db8::1', 'the machine that iam-sidecar runs on')
    """
    host = peer.partition(":")[2].rpartition(":")[0].strip("[]")
    if peer.startswith("unix:") or host in _LOOPBACK:
        return "the machine that iam-sidecar runs on"
    return host or "an unknown address"


def _find(visit: Visit, services: PromptServices) -> AskedChallenge | None:
    """Return the challenge; None where there is none for this person."""
    try:
        return services.step_up.describe(visit.signed_in, visit.values["challenge_id"])
    except (MfaError, NotFoundError, PermissionDeniedError, RequestError):
        return None
