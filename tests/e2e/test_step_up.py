# SPDX-License-Identifier: Apache-2.0
"""The whole story of step-up at a real sidecar: sessions, challenges, keys that are touched, proofs that grow old."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import grpc
import pytest

from sidecar.client import (
    AuthenticationError,
    AuthorizationClient,
    Decision,
    NotFoundError,
    RequestError,
    Session,
    SessionClient,
    StepUpClient,
    StepUpPrompt,
    StepUpRefusedError,
    Verdict,
)
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc
from tests.authenticators import Ctap2Key
from tests.e2e.people import (
    ACCOUNT,
    ADA,
    BOB,
    FRESH_SECONDS,
    ORDERS,
    PASSWORD,
    ROLE,
    audit_records,
    enrol_key,
    set_password,
    touch,
    write_people,
)
from tests.e2e.sidecar_process import PATIENCE, Sidecar, eventually, serving

ORDER = f"{ORDERS}/4711"


@dataclass
class House:
    """A sidecar with people, and what they call it with."""

    sidecar: Sidecar
    sessions: SessionClient
    step_up: StepUpClient
    decisions: AuthorizationClient
    key: Ctap2Key

    def sign_in(self, user: str = "ada") -> Session:
        return self.sessions.sign_in(ACCOUNT, user, PASSWORD)

    def ask(self, token: str, action: str, resource: str = ORDER) -> Verdict:
        return self.decisions.authorize(action, resource, session_token=token, timeout=PATIENCE)

    def is_revoked(self, token: str) -> bool:
        return self.ask(token, "payments:GetOrder").reason == "session_revoked"

    def touch(self, token: str, action: str = "", resource: str = "") -> str:
        """Open a challenge for a session, touch the key, and give the new token."""
        prompt = self.step_up.begin(token, action=action, resource=resource)
        proved = self.step_up.answer(token, prompt.challenge_id, assertion_json=touch(self.key, prompt.options_json))
        assert proved is not None
        return proved


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("step-up")
    source = write_people(folder / "source")
    with serving(source, folder / "state") as sidecar:
        key = Ctap2Key()
        enrol_key(sidecar, key)
        for user in (ADA, BOB):
            set_password(sidecar, source, user)
        management = sidecar.address("management")
        with (
            SessionClient(management, timeout=PATIENCE) as sessions,
            StepUpClient(management, timeout=PATIENCE) as step_up,
            AuthorizationClient(sidecar.address("data"), timeout=PATIENCE, step_up=step_up) as decisions,
        ):
            yield House(sidecar, sessions, step_up, decisions, key)


@pytest.fixture(autouse=True)
def _forget_prompts(house: House) -> Iterator[None]:
    """People are asked ten times within ten minutes, and no test is to count those of others."""
    yield
    import sqlite3

    with sqlite3.connect(house.sidecar.state_dir / "mfa.db", timeout=PATIENCE) as store:
        store.execute("UPDATE challenges SET created_at_ms = created_at_ms - 3600000")
    store.close()


def test_story_when_told_from_denial_to_revocation_then_policies_alone_say_when_the_key_is_touched(
    house: House,
) -> None:
    session = house.sign_in()
    assert house.ask(session.session_token, "payments:GetOrder").is_allowed

    # The service is told that a proof would do, and how fresh it has to be.
    denied = house.ask(session.session_token, "payments:Refund")
    assert denied.decision is Decision.IMPLICIT_DENY
    assert denied.principal_arn == ADA
    assert denied.mfa_requirement is not None
    assert denied.mfa_requirement.max_age_seconds == FRESH_SECONDS - 1
    assert "webauthn" in [method.word for method in denied.mfa_requirement.methods]

    # The key is touched, and the same call is allowed. On a machine that stands still the proof may be too old by
    # then, and is given again.
    for _ in range(5):
        began = time.monotonic()
        proved = house.touch(session.session_token)
        allowed = house.ask(proved, "payments:Refund")
        if allowed.is_allowed or time.monotonic() - began < FRESH_SECONDS - 1:
            break
    assert allowed.is_allowed
    assert allowed.principal_arn == ADA
    assert not house.ask(session.session_token, "payments:Refund").is_allowed, "the token from before carries nothing"

    # The age runs out: the proof is still one, and not fresh enough for this any more.
    eventually(lambda: not house.ask(proved, "payments:Refund").is_allowed)
    again = house.ask(proved, "payments:Refund")
    assert again.mfa_requirement is not None
    assert house.ask(proved, "payments:CloseOrder").is_allowed

    # The session is ended, and all that grew from it is denied for good.
    house.sessions.revoke(proved)
    for token in (session.session_token, proved):
        eventually(partial(house.is_revoked, token))
        for action in ("payments:GetOrder", "payments:Refund"):
            over = house.ask(token, action)
            assert (over.decision, over.reason) == (Decision.IMPLICIT_DENY, "session_revoked")
            assert over.mfa_requirement is None
    with pytest.raises(AuthenticationError):
        house.step_up.begin(proved)
    text = (house.sidecar.state_dir / "audit.jsonl").read_text() + house.sidecar.log
    assert session.session_token not in text
    assert proved not in text
    assert PASSWORD not in text


def test_proof_when_it_is_bound_then_it_holds_for_that_action_on_that_resource_alone(house: House) -> None:
    session = house.sign_in()
    proved = house.touch(session.session_token, "payments:CloseOrder", ORDER)

    assert house.ask(proved, "payments:CloseOrder").is_allowed
    assert house.ask(proved, "Payments:closeorder").is_allowed
    for resource in (f"{ORDERS}/4712", f"{ORDER}/", f"{ORDERS}/471"):
        assert not house.ask(proved, "payments:CloseOrder", resource).is_allowed
    assert house.ask(proved, "payments:CloseOrder", f"{ORDERS}/4712").mfa_requirement is not None


def test_client_when_a_call_needs_a_proof_then_it_has_the_person_asked_and_calls_again(house: House) -> None:
    session, elsewhere = house.sign_in(), house.sign_in()
    prompts: list[StepUpPrompt] = []

    def tell(prompt: StepUpPrompt) -> None:
        # The person answers in a browser, which has a session of its own and is given no token.
        prompts.append(prompt)
        answer = touch(house.key, prompt.options_json)
        assert house.step_up.answer(elsewhere.session_token, prompt.challenge_id, assertion_json=answer) is None
        with pytest.raises(AuthenticationError):
            house.step_up.collect(elsewhere.session_token, prompt.challenge_id)

    result = house.decisions.authorize_with_step_up(
        "payments:CloseOrder", ORDER, session_token=session.session_token, tell=tell, timeout=PATIENCE
    )

    assert result.verdict.is_allowed
    assert result.session_token != session.session_token
    assert (prompts[0].action, prompts[0].resource) == ("payments:CloseOrder", ORDER)
    with pytest.raises(AuthenticationError):
        house.step_up.collect(session.session_token, prompts[0].challenge_id)


def test_challenge_when_the_person_says_no_then_the_client_is_told_and_the_trail_too(house: House) -> None:
    session = house.sign_in()

    def refuse(prompt: StepUpPrompt) -> None:
        request = pb.AnswerChallengeRequest(challenge_id=prompt.challenge_id, refuse=True)
        call(house, "AnswerChallenge", request, session.session_token)

    with pytest.raises(StepUpRefusedError):
        house.step_up.step_up(session.session_token, refuse)

    record = audit_records(house.sidecar)[-1]
    assert (record["event"], record["user_arn"]) == ("mfa.challenge_refused", ADA)
    assert record["caller"] == ADA


def test_challenge_when_it_is_somebody_elses_then_nothing_is_told_of_it(house: House) -> None:
    ada, bob = house.sign_in(), house.sign_in("bob")
    prompt = house.step_up.begin(ada.session_token)

    with pytest.raises(AuthenticationError):
        house.step_up.answer(bob.session_token, prompt.challenge_id, totp_code="123456")
    with pytest.raises(AuthenticationError):
        house.step_up.collect(bob.session_token, prompt.challenge_id)
    with pytest.raises(NotFoundError):
        house.step_up.wait(bob.session_token, prompt)


def test_role_when_its_person_proves_themselves_then_its_session_carries_the_proof(house: House) -> None:
    ada = house.sign_in()
    proved = house.touch(ada.session_token)
    role = house.sessions.assume_role(proved, ROLE, "ada")
    assert house.ask(role.session_token, "payments:Ship").is_allowed
    denied = house.ask(role.session_token, "payments:Return")
    assert not denied.is_allowed, "what was proved before is not inherited, as on AWS"
    assert denied.mfa_requirement is not None

    assert house.ask(house.touch(role.session_token), "payments:Return").is_allowed


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (pb.BeginChallengeRequest(step_up_ticket="ticket"), grpc.StatusCode.INVALID_ARGUMENT, "step_up_ticket"),
        (pb.BeginChallengeRequest(step_up_ticket="x", action="a:B"), grpc.StatusCode.INVALID_ARGUMENT, "`action`"),
        (pb.BeginChallengeRequest(action="nonsense"), grpc.StatusCode.INVALID_ARGUMENT, "`action`"),
        (pb.BeginChallengeRequest(action="a:B", resource="c"), grpc.StatusCode.INVALID_ARGUMENT, "`resource`"),
    ],
)
def test_challenge_when_the_request_cannot_be_used_then_it_says_so(
    house: House, request_: pb.BeginChallengeRequest, code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(house, "BeginChallenge", request_, house.sign_in().session_token)
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")


def test_challenge_when_it_is_answered_with_nothing_then_the_field_is_named(house: House) -> None:
    session = house.sign_in()
    prompt = house.step_up.begin(session.session_token)
    for request in (
        pb.AnswerChallengeRequest(challenge_id=prompt.challenge_id),
        pb.AnswerChallengeRequest(challenge_id=prompt.challenge_id, refuse=False),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(house, "AnswerChallenge", request, session.session_token)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_administrator_when_calling_about_challenges_then_a_session_has_to_be_named(house: House) -> None:
    session = house.sign_in()
    with pytest.raises(grpc.RpcError) as caught:
        call(house, "BeginChallenge", pb.BeginChallengeRequest(), house.sidecar.token)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    challenge = call(
        house, "BeginChallenge", pb.BeginChallengeRequest(session_token=session.session_token), house.sidecar.token
    )
    assert challenge.state == pb.CHALLENGE_STATE_OPEN


def test_questions_when_they_are_none_then_the_client_says_which_field(house: House) -> None:
    with pytest.raises(RequestError) as caught:
        house.decisions.authorize("nonsense", ORDER, principal=ADA)
    assert caught.value.field == "action"


def call(house: House, name: str, request: object, token: str) -> pb.Challenge:
    """Call a method about challenges by itself."""
    with house.sidecar.channel() as channel:
        method = getattr(pb_grpc.MfaServiceStub(channel), name)
        answer: pb.Challenge = method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE)
        return answer
