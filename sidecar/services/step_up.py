# SPDX-License-Identifier: Apache-2.0
"""
Step-up: a session asks its person for a proof, and gets a token that carries it.

A challenge belongs to one session, which its access key id names: that stays when the session is proved. Its person may
answer it from any session of theirs, such as that of a browser; the token goes to the session that opened it alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sidecar.model.challenge import ChallengeState, StepUpTicket
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    TicketExpiredError,
    TicketForeignError,
    TicketInvalidError,
)
from sidecar.model.request import MAX_ACTION, MAX_RESOURCE
from sidecar.services.bells import Bell, Bells
from sidecar.services.callers import Caller

if TYPE_CHECKING:
    # A sidecar that keeps no devices needs neither a database nor cryptography in its memory.
    from sidecar.services.challenges import Answer, ChallengeService, Proof
    from sidecar.services.store.challenges import Challenge

#: Seconds between two looks at a challenge that is watched: other sidecars may close it.
LOOK_SECONDS = 1.0

_ACTION = re.compile(r"[A-Za-z0-9-]+:[A-Za-z0-9_.-]+")
_ARN = re.compile(r"arn:[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]*:[^:]*:.+")


class ProvedSession(Protocol):
    """A session, with a token that says what it has proved."""

    @property
    def session_token(self) -> str:
        """The token."""
        ...

    @property
    def expires_at_ms(self) -> int:
        """First moment at which it is over, in milliseconds since the epoch."""
        ...


class Sessions(Protocol):
    """Knows sessions by their tokens."""

    def authenticate(self, token: str, peer: str) -> Caller:
        """Return whose session that is."""
        ...

    def prove(self, token: str, proof: Proof) -> ProvedSession:
        """Return the session with a token that carries *proof*."""
        ...


class Tickets(Protocol):
    """Opens the seals of tickets; may be called from any thread."""

    def open(self, text: str) -> StepUpTicket:
        """
        Return what a ticket says.

        Raises:
            TicketInvalidError: It is none of ours.
        """
        ...


@dataclass(frozen=True, slots=True)
class AskedChallenge:
    """
    A challenge as it is shown to the person who is asked.

    Attributes:
        user_arn: Who is asked.
        action: What the proof holds for alone, in lower case; empty for everything.
        resource: Likewise.
        asked_by: ARN of the session that the proof is for.
        asked_from: Address that it was asked from.
        user_code: Shown on both screens, for the person to compare.
        options_json: WebAuthn request options; empty where the user has no key, or the challenge is not open.
        prompt_url: Page at which it can be answered; empty where there is none.
        shown_action: What it is for, where that is known; empty for everything.
        shown_resource: Likewise.
        return_address: Page that was refused for want of the proof; empty where there is none.
        methods: Factors that will do.
        is_from_ticket: Whether it was made from a ticket.
        is_own: Whether the session that looks has opened it.
    """

    challenge_id: str
    user_arn: str
    state: ChallengeState
    action: str
    resource: str
    asked_by: str
    asked_from: str
    user_code: str
    expires_at_ms: int
    require_user_verification: bool
    options_json: str
    prompt_url: str
    shown_action: str
    shown_resource: str
    return_address: str
    methods: tuple[MfaMethod, ...]
    is_from_ticket: bool
    is_own: bool


class StepUpService:
    """
    Opens challenges for sessions, has them answered, and gives tokens with the proof.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        open_challenges: Callable[[], ChallengeService],
        sessions: Sessions,
        tickets: Tickets,
        prompt_url: Callable[[str], str],
        now: Callable[[], int],
    ) -> None:
        """
        Args:
            open_challenges: Gives what keeps and judges challenges.
            tickets: Opens tickets.
            prompt_url: Gives the address of the page for a challenge's id; empty where no page is served.
            now: Gives nanoseconds since the epoch.
        """
        self._open_challenges = open_challenges
        self._tickets = tickets
        self._now = now
        self._sessions = sessions
        self._prompt_url = prompt_url
        self._bells = Bells()

    def begin(
        self,
        caller: Caller,
        *,
        session_token: str = "",
        action: str = "",
        resource: str = "",
        require_user_verification: bool = False,
    ) -> AskedChallenge:
        """
        Open a challenge for a session; one that is open already is closed.

        Args:
            session_token: Of the session that the proof will belong to; empty for the caller's own.
            action: What the proof holds for alone, on *resource*; both empty for everything.

        Raises:
            RequestError: Action and resource are none, or the token is that of another session.
            AuthenticationError: The token does not hold.
            PreconditionError: There is no session, or no person signed in for it.
            LimitExceededError: The person was asked too often.
        """
        action, resource = parse_bound_call(action, resource)
        opener = self._session_of(caller, session_token)
        person = _person_of(opener)
        opened = self._open_challenges().begin(
            opener,
            person,
            opener.session,
            action=action,
            resource=resource,
            require_user_verification=require_user_verification,
        )
        return self._asked(opener, opened.challenge, opened.options_json)

    def open_ticket(self, text: str) -> StepUpTicket:
        """
        Return what a ticket says, whoever shows it and whenever.

        Raises:
            TicketInvalidError: It is none of ours.
        """
        return self._tickets.open(text)

    def redeem(self, caller: Caller, text: str, *, session_token: str = "") -> AskedChallenge:
        """
        Open the challenge that a ticket is for. The same ticket always gives the same one, however that stands now.

        Args:
            session_token: Of the session that was refused; empty for the caller's own.

        Raises:
            TicketInvalidError: It is none of ours.
            TicketForeignError: Another session was refused.
            TicketExpiredError: It is over.
            AuthenticationError: The token does not hold.
            PreconditionError: There is no session, or no person signed in for it.
            LimitExceededError: The person was asked too often.
        """
        opener = self._session_of(caller, session_token)
        try:
            ticket = self._tickets.open(text)
            if ticket.access_key_id != opener.session:
                raise TicketForeignError(
                    "`step_up_ticket` was given to another session",
                    help="redeem it with the session token that was refused",
                )
            if ticket.expires_at_ms <= self._now() // 1_000_000:
                raise TicketExpiredError(
                    "`step_up_ticket` is over", help="make the request again; its refusal has a new one"
                )
        except (TicketInvalidError, TicketForeignError, TicketExpiredError) as error:
            self._open_challenges().ticket_refused(opener, error.reason)
            raise
        action, resource = parse_bound_call(ticket.action, ticket.resource) if ticket.is_for_call else ("", "")
        opened = self._open_challenges().begin(
            opener,
            _person_of(opener),
            opener.session,
            action=action,
            resource=resource,
            require_user_verification=ticket.user_verification,
            ticket=ticket,
        )
        return self._asked(opener, opened.challenge, opened.options_json)

    def describe(self, caller: Caller, challenge_id: str) -> AskedChallenge:
        """
        Return a challenge as it stands, for its person or the session that opened it.

        Raises:
            NotFoundError: There is none, or it is somebody else's.
        """
        challenges = self._open_challenges()
        challenge = challenges.find(challenge_id)
        if challenge is None or not _may_see(caller, challenge):
            raise NotFoundError("there is no such challenge", help="it may have ended more than an hour ago")
        is_open = challenge.state is ChallengeState.OPEN
        return self._asked(caller, challenge, challenges.options_json(challenge) if is_open else "")

    def answer(self, caller: Caller, challenge_id: str, answer: Answer) -> ProvedSession | None:
        """
        Close a challenge with a proof.

        Returns:
            The session with its new token, where the caller's session opened the challenge; None where it did not.

        Raises:
            MfaError: It was not proved, is not open (any more), or is somebody else's.
            ThrottledError: Too many proofs of the person have failed.
            AuthenticationError: The session that opened it has ended.
        """
        challenges = self._open_challenges()
        challenge = challenges.find(challenge_id)
        if challenge is None or not _may_see(caller, challenge):
            raise challenges.closed(caller, None)
        try:
            challenges.answer(caller, challenge_id, answer)
        finally:
            self._bells.ring(challenge_id)
        if caller.session != challenge.session:
            return None
        return self._sessions.prove(caller.token, challenges.collect(caller, challenge_id))

    def refuse(self, caller: Caller, challenge_id: str) -> None:
        """
        Close a challenge because the person says no.

        Raises:
            MfaError: It is not open (any more), or is somebody else's.
        """
        challenges = self._open_challenges()
        challenge = challenges.find(challenge_id)
        if challenge is None or not _may_see(caller, challenge):
            raise challenges.closed(caller, None)
        challenges.refuse(caller, challenge_id)
        self._bells.ring(challenge_id)

    def watch(self, caller: Caller, challenge_id: str, bell: Bell) -> Iterator[AskedChallenge]:
        """
        Give a challenge as it stands, and again when it is no longer open.

        Args:
            bell: Ends the waiting.

        Raises:
            NotFoundError: There is none, or it is somebody else's.
        """
        with self._bells.listening(challenge_id, bell):
            asked = self.describe(caller, challenge_id)
            yield asked
            while asked.state is ChallengeState.OPEN and not bell.is_over:
                bell.wait(LOOK_SECONDS)
                challenge = self._open_challenges().find(challenge_id)
                if challenge is None or challenge.state is not ChallengeState.OPEN:
                    asked = self.describe(caller, challenge_id)
                    yield asked

    def collect(self, caller: Caller, challenge_id: str, session_token: str = "") -> ProvedSession:
        """
        Return the session that opened a challenge with its new token; once, until the challenge expires.

        Args:
            session_token: Of the session that opened it; empty for the caller's own.

        Raises:
            RequestError: The token is that of another session.
            AuthenticationError: The session has ended.
            MfaError: There is no proof to take.
        """
        opener = self._session_of(caller, session_token)
        return self._sessions.prove(opener.token, self._open_challenges().collect(opener, challenge_id))

    def _session_of(self, caller: Caller, session_token: str) -> Caller:
        """Return who holds the token: the caller, or a session that the administrator shows."""
        if not session_token:
            if caller.claims is None:
                raise PreconditionError(
                    "the administrator's token is no session", help="name the session with `session_token`"
                )
            return caller
        if session_token == caller.token:
            return caller
        opener = self._sessions.authenticate(session_token, caller.peer)
        if not caller.is_administrator and opener.session != caller.session:
            raise PermissionDeniedError(
                "`session_token` is that of another session than the one that calls",
                help="send the same session in `authorization: Bearer`",
            )
        return opener

    def _asked(self, caller: Caller, challenge: Challenge, options_json: str) -> AskedChallenge:
        return AskedChallenge(
            challenge_id=challenge.challenge_id,
            user_arn=challenge.user_arn,
            state=challenge.state,
            action=challenge.action,
            resource=challenge.resource,
            asked_by=challenge.asked_by,
            asked_from=challenge.asked_from,
            user_code=challenge.user_code,
            expires_at_ms=challenge.expires_at_ms,
            require_user_verification=challenge.require_user_verification,
            options_json=options_json,
            prompt_url=self._prompt_url(challenge.challenge_id),
            shown_action=challenge.shown_action or challenge.action,
            shown_resource=printable(challenge.shown_resource or challenge.resource),
            return_address=challenge.return_address,
            methods=tuple(method for method in MfaMethod if challenge.methods >> method & 1),
            is_from_ticket=challenge.ticket_digest is not None,
            is_own=caller.session == challenge.session,
        )


def parse_bound_call(action: str, resource: str) -> tuple[str, str]:
    """
    Return the call that a proof is to hold for alone, as tokens have it; two empty texts stand for every call.

    Raises:
        RequestError: They are no action and no resource, or one of them is missing.

    >>> parse_bound_call("payments:Refund", "arn:aws:payments:eu-west-1:111122223333:order/4711")
    ('payments:refund', 'arn:aws:payments:eu-west-1:111122223333:order/4711')
    """
    if not action and not resource:
        return "", ""
    if not action or len(action) > MAX_ACTION or _ACTION.fullmatch(action) is None:
        raise RequestError(
            "`action` is no action",
            field="action",
            help=f"write service:Action without wildcards, at most {MAX_ACTION} characters; a resource needs one",
        )
    is_arn = len(resource.encode("utf-8", "replace")) <= MAX_RESOURCE and _ARN.fullmatch(resource) is not None
    # What is shown to a person holds nothing that could make it look like something else.
    if resource != "*" and not (is_arn and resource.isprintable()):
        raise RequestError(
            "`resource` is no resource",
            field="resource",
            help=f"write one ARN of at most {MAX_RESOURCE} bytes, or * for an action that has none",
        )
    return action.lower(), resource


def printable(text: str) -> str:
    r"""
    Return *text* with nothing in it that could make it look like something else.

    >>> printable("order/4711"), printable("order/\u202e1174")
    ('order/4711', 'order/\\u202e1174')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _person_of(opener: Caller) -> str:
    person = opener.claims.person if opener.claims is not None else ""
    if not person:
        raise PreconditionError(
            "no person has signed in for this session, so that nobody can be asked",
            help="sign in as a user, and assume the role from there",
        )
    return person


def _may_see(caller: Caller, challenge: Challenge) -> bool:
    """Say whether a challenge is the caller's: they are its person, or their session opened it."""
    if caller.claims is None:
        return False
    return caller.session == challenge.session or caller.claims.person == challenge.user_arn
