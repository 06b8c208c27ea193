# SPDX-License-Identifier: Apache-2.0
"""Step-up on both databases: who may open, see, answer and collect, and what a proof is bound to."""

import dataclasses
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.model.challenge import ChallengeState
from sidecar.model.errors import (
    LimitExceededError,
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SessionRevokedError,
)
from sidecar.model.session import SessionClaims, SessionKind
from sidecar.services import step_up
from sidecar.services.bells import Bell
from sidecar.services.callers import Caller
from sidecar.services.challenges import CHALLENGE_MS, MAX_PROMPTS, AssertionAnswer, OpenedChallenge, Proof, TotpAnswer
from sidecar.services.mfa_journal import Change
from sidecar.services.sessions.tickets import TicketOpener
from sidecar.services.step_up import AskedChallenge, ProvedSession, StepUpService, parse_bound_call
from tests.authenticators import Ctap2Key
from tests.tickets import RING
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, Kit

ORDER = "arn:aws:payments:eu-west-1:111122223333:order/4711"
ROLE = "arn:aws:sts::111122223333:assumed-role/refunds"


@dataclass(frozen=True)
class Proved:
    session_token: str
    expires_at_ms: int
    proof: Proof


class Desk:
    """Knows who has signed in; a token is the access key id and a number."""

    def __init__(self, kit: Kit) -> None:
        self._callers: dict[str, Caller] = {}
        self._revoked: set[str] = set()
        self._now = kit.clock

    def sign_in(self, person: str, number: int, *, role: str = "") -> Caller:
        access_key_id = f"ASIA{number:016d}"
        now_ms = self._now.nanoseconds // 1_000_000
        claims = SessionClaims(
            access_key_id=access_key_id,
            kind=SessionKind.ROLE if role else SessionKind.SIGN_IN,
            lineage=number.to_bytes(16, "big"),
            principal=role or person,
            principal_id="AROAEXAMPLE" if role else "AIDAEXAMPLE",
            session_name="work" if role else "",
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + 3_600_000,
            lineage_issued_at_ms=now_ms,
            person=person,
            person_id="AIDAEXAMPLE" if person else "",
        )
        caller = Caller(claims.arn, access_key_id, f"ipv4:127.0.0.1:{number}", claims, f"{access_key_id}.0")
        self._callers[caller.token] = caller
        return caller

    def revoke(self, caller: Caller) -> None:
        self._revoked.add(caller.session)

    def authenticate(self, token: str, peer: str) -> Caller:
        caller = self._callers[token]
        if caller.session in self._revoked:
            raise SessionRevokedError("the session was ended")
        return dataclasses.replace(caller, peer=peer)

    def prove(self, token: str, proof: Proof) -> ProvedSession:
        caller = self.authenticate(token, "")
        assert caller.claims is not None
        assert caller.session == proof.session
        assert caller.claims.person == proof.user_arn
        return Proved(f"{caller.session}.1", caller.claims.expires_at_ms, proof)


class Steps:
    """A service with people who have signed in: ada twice, and bob."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.desk = Desk(kit)
        self.service = StepUpService(
            open_challenges=lambda: kit.services.challenges,
            sessions=self.desk,
            tickets=TicketOpener(ring=lambda: RING, now=kit.clock),
            prompt_url=lambda challenge_id: f"https://example.org/challenges/{challenge_id}",
            now=kit.clock,
        )
        self.terminal = self.desk.sign_in(ADA, 1)
        self.browser = self.desk.sign_in(ADA, 2)
        self.bob = self.desk.sign_in(BOB, 3)
        self.key = Ctap2Key()
        kit.enrol_key(self.key)

    def begin(self, caller: Caller | None = None, **more: Any) -> AskedChallenge:
        return self.service.begin(caller or self.terminal, **more)

    def touch(self, asked: AskedChallenge) -> AssertionAnswer:
        found = self.kit.services.challenges.find(asked.challenge_id)
        assert found is not None
        return AssertionAnswer(self.kit.assertion(self.key, OpenedChallenge(found, asked.options_json)))


@pytest.fixture
def steps(kit: Kit) -> Steps:
    return Steps(kit)


def test_challenge_when_the_session_that_opened_it_answers_then_it_has_the_token_once(steps: Steps) -> None:
    asked = steps.begin(action="payments:Refund", resource=ORDER)
    assert (asked.action, asked.resource, asked.user_arn) == ("payments:refund", ORDER, ADA)
    assert (asked.asked_by, asked.asked_from, asked.is_own) == (ADA, "ipv4:127.0.0.1:1", True)
    assert asked.prompt_url == f"https://example.org/challenges/{asked.challenge_id}"
    assert asked.expires_at_ms == steps.kit.clock.nanoseconds // 1_000_000 + CHALLENGE_MS

    proved = steps.service.answer(steps.terminal, asked.challenge_id, steps.touch(asked))

    assert isinstance(proved, Proved)
    assert proved.session_token == f"{steps.terminal.session}.1"
    assert (proved.proof.method, proved.proof.action, proved.proof.resource) == ("webauthn", "payments:refund", ORDER)
    with pytest.raises(MfaError):
        steps.service.collect(steps.terminal, asked.challenge_id)


def test_challenge_when_another_session_of_the_person_answers_then_the_token_waits_for_the_first(steps: Steps) -> None:
    asked = steps.begin()
    seen = steps.service.describe(steps.browser, asked.challenge_id)
    assert (seen.user_code, seen.asked_from, seen.is_own) == (asked.user_code, "ipv4:127.0.0.1:1", False)

    assert steps.service.answer(steps.browser, asked.challenge_id, steps.touch(seen)) is None

    for stranger in (steps.browser, steps.bob):
        with pytest.raises(MfaError):
            steps.service.collect(stranger, asked.challenge_id)
        with pytest.raises(PermissionDeniedError):
            steps.service.collect(stranger, asked.challenge_id, steps.terminal.token)
    proved = steps.service.collect(steps.terminal, asked.challenge_id, steps.terminal.token)
    assert proved.session_token == f"{steps.terminal.session}.1"
    with pytest.raises(MfaError):
        steps.service.collect(steps.terminal, asked.challenge_id)


def test_challenge_when_it_is_somebody_elses_then_it_is_as_if_it_were_not_there(steps: Steps) -> None:
    asked = steps.begin()
    answer = steps.touch(asked)

    for stranger in (steps.bob, ADMINISTRATOR):
        for challenge_id in (asked.challenge_id, "nonsense"):
            with pytest.raises(NotFoundError, match="there is no such challenge"):
                steps.service.describe(stranger, challenge_id)
            with pytest.raises(NotFoundError):
                next(steps.service.watch(stranger, challenge_id, Bell()))
            with pytest.raises(MfaError) as caught:
                steps.service.answer(stranger, challenge_id, answer)
            assert caught.value.reason == "challenge_closed"
            with pytest.raises(MfaError):
                steps.service.refuse(stranger, challenge_id)
    assert steps.service.describe(steps.terminal, asked.challenge_id).state is ChallengeState.OPEN
    assert steps.kit.audit.last["caller"] == "administrator"


def test_challenge_when_a_role_asks_then_its_person_answers(steps: Steps) -> None:
    role = steps.desk.sign_in(ADA, 4, role=ROLE)
    asked = steps.begin(role)
    assert (asked.user_arn, asked.asked_by) == (ADA, f"{ROLE}/work")

    assert steps.service.answer(steps.browser, asked.challenge_id, steps.touch(asked)) is None

    assert steps.service.collect(role, asked.challenge_id).session_token == f"{role.session}.1"


def test_challenge_when_nobody_has_signed_in_then_nobody_is_asked(steps: Steps) -> None:
    with pytest.raises(PreconditionError, match="no person has signed in"):
        steps.begin(steps.desk.sign_in("", 5, role=ROLE))
    with pytest.raises(PreconditionError, match="no session"):
        steps.begin(ADMINISTRATOR)


def test_challenge_when_the_administrator_shows_a_session_then_it_is_that_sessions(steps: Steps) -> None:
    asked = steps.begin(ADMINISTRATOR, session_token=steps.terminal.token)
    assert (asked.asked_by, asked.asked_from) == (ADA, ADMINISTRATOR.peer)

    steps.service.answer(steps.browser, asked.challenge_id, steps.touch(asked))

    proved = steps.service.collect(ADMINISTRATOR, asked.challenge_id, steps.terminal.token)
    assert proved.session_token == f"{steps.terminal.session}.1"


def test_challenge_when_the_token_is_another_sessions_then_it_is_refused(steps: Steps) -> None:
    with pytest.raises(PermissionDeniedError, match="another session"):
        steps.begin(steps.terminal, session_token=steps.browser.token)
    assert steps.begin(steps.terminal, session_token=steps.terminal.token).is_own


def test_challenge_when_the_session_was_ended_meanwhile_then_it_gives_nothing(steps: Steps) -> None:
    own, other = steps.begin(), steps.begin(steps.desk.sign_in(ADA, 6))
    steps.service.answer(steps.browser, other.challenge_id, steps.touch(other))
    steps.desk.revoke(steps.terminal)
    steps.desk.revoke(steps.desk.sign_in(ADA, 6))

    with pytest.raises(SessionRevokedError):
        steps.service.answer(steps.terminal, own.challenge_id, steps.touch(own))
    with pytest.raises(SessionRevokedError):
        steps.service.collect(ADMINISTRATOR, other.challenge_id, "ASIA0000000000000006.0")
    with pytest.raises(SessionRevokedError):
        steps.service.collect(steps.desk.sign_in(ADA, 6), other.challenge_id)


def test_challenge_when_a_further_one_is_opened_then_the_first_is_over(steps: Steps) -> None:
    first, second = steps.begin(), steps.begin()

    assert steps.service.describe(steps.terminal, first.challenge_id).state is ChallengeState.EXPIRED
    assert steps.service.describe(steps.terminal, first.challenge_id).options_json == ""
    assert steps.service.describe(steps.terminal, second.challenge_id).state is ChallengeState.OPEN


def test_challenge_when_the_person_is_asked_too_often_then_that_ends(steps: Steps) -> None:
    for number in range(MAX_PROMPTS):
        steps.begin(steps.desk.sign_in(ADA, 100 + number))
    with pytest.raises(LimitExceededError):
        steps.begin()


def test_challenge_when_the_person_says_no_then_nobody_gets_anything_and_the_trail_says_so(steps: Steps) -> None:
    asked = steps.begin(action="payments:Refund", resource=ORDER)

    steps.service.refuse(steps.browser, asked.challenge_id)

    assert steps.kit.audit.last["event"] == f"mfa.{Change.CHALLENGE_REFUSED.value}"
    assert (steps.kit.audit.last["caller"], steps.kit.audit.last["user_arn"]) == (ADA, ADA)
    assert steps.kit.audit.last["note"] == f"payments:refund on {ORDER}"
    assert steps.kit.metrics.changes[-1] is Change.CHALLENGE_REFUSED
    assert steps.service.describe(steps.terminal, asked.challenge_id).state is ChallengeState.REFUSED
    with pytest.raises(MfaError):
        steps.service.collect(steps.terminal, asked.challenge_id)
    with pytest.raises(MfaError):
        steps.service.answer(steps.terminal, asked.challenge_id, TotpAnswer("123456"))


def test_watch_when_the_challenge_is_answered_then_it_says_so_at_once(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody looks by himself: what ends the waiting is the bell.
    monkeypatch.setattr(step_up, "LOOK_SECONDS", 60.0)
    asked = steps.begin()
    states: list[ChallengeState] = []
    is_watching = threading.Event()

    def watch() -> None:
        for seen in steps.service.watch(steps.terminal, asked.challenge_id, Bell()):
            states.append(seen.state)
            is_watching.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert is_watching.wait(60)
    steps.service.answer(steps.browser, asked.challenge_id, steps.touch(asked))
    watcher.join(60)

    assert states == [ChallengeState.OPEN, ChallengeState.PROVED]


def test_watch_when_another_sidecar_closes_the_challenge_then_a_look_tells(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_up, "LOOK_SECONDS", 0.01)
    asked = steps.begin()
    watching = steps.service.watch(steps.terminal, asked.challenge_id, Bell())
    assert next(watching).state is ChallengeState.OPEN

    steps.kit.services.challenges.refuse(steps.browser, asked.challenge_id)

    assert [seen.state for seen in watching] == [ChallengeState.REFUSED]


def test_watch_when_nobody_listens_any_more_then_it_ends(steps: Steps) -> None:
    asked, bell = steps.begin(), Bell()
    watching = steps.service.watch(steps.terminal, asked.challenge_id, bell)
    assert next(watching).state is ChallengeState.OPEN

    bell.end()

    assert list(watching) == []


def test_watch_when_time_runs_out_then_it_says_expired(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_up, "LOOK_SECONDS", 0.01)
    asked = steps.begin()
    watching = steps.service.watch(steps.terminal, asked.challenge_id, Bell())
    next(watching)

    steps.kit.clock.advance(CHALLENGE_MS / 1000)

    assert [seen.state for seen in watching] == [ChallengeState.EXPIRED]


@pytest.mark.parametrize(
    ("action", "resource", "field"),
    [
        ("payments", ORDER, "action"),
        ("payments:*", ORDER, "action"),
        ("payments:Refund:more", ORDER, "action"),
        ("payments:" + "R" * 248, ORDER, "action"),
        ("", ORDER, "action"),
        ("payments:Refund", "", "resource"),
        ("payments:Refund", "order/4711", "resource"),
        ("payments:Refund", "arn:aws:payments:order", "resource"),
        ("payments:Refund", ORDER + "\n", "resource"),
        ("payments:Refund", ORDER + "\u202e", "resource"),
        ("payments:Refund", ORDER + "x" * 2048, "resource"),
    ],
)
def test_bound_call_when_it_is_none_then_its_field_is_named(action: str, resource: str, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_bound_call(action, resource)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("action", "resource"), [("S3:ListAllMyBuckets", "*"), ("s3:GetObject", "arn:aws:s3:::a/b: c*"), ("", "")]
)
def test_bound_call_when_it_is_one_then_the_resource_stays_as_it_is(action: str, resource: str) -> None:
    assert parse_bound_call(action, resource) == (action.lower(), resource)
