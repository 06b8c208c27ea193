# SPDX-License-Identifier: Apache-2.0
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import sidecar.client as public
from sidecar.client import (
    AsyncAuthorizationClient,
    AsyncStepUpClient,
    AuthorizationClient,
    Decision,
    InternalError,
    LimitExceededError,
    MfaMethod,
    PermissionDeniedError,
    Question,
    RequestError,
    SidecarError,
    SourceUnavailableError,
    StepUpClient,
    StepUpExpiredError,
    StepUpPrompt,
    StepUpRefusedError,
    Verdict,
)
from sidecar.client import step_up as step_up_module
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2 as mfa
from tests.unit.client.scripted import ALLOW, NEEDS_PROOF, Abort, Scripted, scripted_sidecar

ACTION, RESOURCE = "payments:Refund", "arn:aws:payments:eu-west-1:111122223333:order/4711"
ROOT = Path(__file__).parents[3]
_CODE = grpc.StatusCode


@pytest.fixture
def served() -> Iterator[tuple[Scripted, str]]:
    with scripted_sidecar() as served:
        yield served


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest, served: tuple[Scripted, str]) -> Any:
    """What calls a method of a client of either kind."""
    _, target = served

    def blocking(method: str, *arguments: Any, **more: Any) -> Any:
        with StepUpClient(target) as step_up, AuthorizationClient(target, step_up=step_up) as client:
            return getattr(client, method)(*arguments, **more)

    def with_asyncio(method: str, *arguments: Any, **more: Any) -> Any:
        async def run() -> Any:
            async with (
                AsyncStepUpClient(target) as step_up,
                AsyncAuthorizationClient(target, step_up=step_up) as client,
            ):
                return await getattr(client, method)(*arguments, **more)

        return asyncio.run(run())

    return blocking if request.param == "blocking" else with_asyncio


def test_authorize_when_it_is_allowed_then_the_verdict_says_so(served: tuple[Scripted, str], ask: Any) -> None:
    script, _ = served
    script.put("Authorize", ALLOW)

    verdict = ask(
        "authorize",
        ACTION,
        RESOURCE,
        session_token="token",
        context={"aws:SourceIp": "192.0.2.1", "aws:TagKeys": ["team"]},
        resource_account="111122223333",
    )

    assert verdict.is_allowed
    assert (verdict.decision, verdict.reason, verdict.principal_arn) == (Decision.ALLOW, "identity_allow", "arn:ada")
    _, request, _ = script.requests[0]
    assert (request.session_token, request.action, request.resource) == ("token", ACTION, RESOURCE)
    assert request.resource_account == "111122223333"
    assert request.context["aws:SourceIp"] == pb.ContextValue(values=["192.0.2.1"])
    assert request.context["aws:TagKeys"] == pb.ContextValue(values=["team"], multivalued=True)


def test_authorize_when_a_principal_is_named_then_no_session_is(served: tuple[Scripted, str], ask: Any) -> None:
    script, _ = served
    script.put("Authorize", NEEDS_PROOF)

    verdict = ask("authorize", ACTION, RESOURCE, principal="arn:aws:iam::111122223333:user/ada")

    assert not verdict.is_allowed
    assert verdict.mfa_requirement is not None
    assert verdict.mfa_requirement.max_age_seconds == 300
    assert verdict.mfa_requirement.methods == (MfaMethod.TOTP, MfaMethod.WEBAUTHN)
    assert script.requests[0][1].WhichOneof("caller") == "principal"


@pytest.mark.parametrize(
    "answer",
    [
        pb.AuthorizeResponse(),
        pb.AuthorizeResponse(decision=pb.DECISION_EXPLICIT_DENY),
        pb.AuthorizeResponse(decision=7),  # type: ignore[arg-type]
    ],
)
def test_authorize_when_the_answer_is_no_allow_then_the_verdict_is_none(
    served: tuple[Scripted, str], ask: Any, answer: pb.AuthorizeResponse
) -> None:
    served[0].put("Authorize", answer)

    assert not ask("authorize", ACTION, RESOURCE).is_allowed


def test_verdict_when_it_is_taken_for_true_or_false_then_that_is_an_error(served: tuple[Scripted, str]) -> None:
    served[0].put("Authorize", NEEDS_PROOF)
    with AuthorizationClient(served[1]) as client, pytest.raises(TypeError, match="is_allowed"):
        bool(client.authorize(ACTION, RESOURCE))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (_CODE.INVALID_ARGUMENT, RequestError),
        (_CODE.INTERNAL, InternalError),
        (_CODE.UNIMPLEMENTED, InternalError),
        (_CODE.PERMISSION_DENIED, PermissionDeniedError),
        (_CODE.RESOURCE_EXHAUSTED, LimitExceededError),
        (_CODE.DEADLINE_EXCEEDED, SourceUnavailableError),
    ],
)
def test_authorize_when_the_call_fails_then_it_raises_one_of_ours(
    served: tuple[Scripted, str], ask: Any, code: grpc.StatusCode, error: type[SidecarError]
) -> None:
    script, _ = served
    script.put("Authorize", Abort(code))

    with pytest.raises(error):
        ask("authorize", ACTION, RESOURCE)
    assert script.count("Authorize") == 1


def test_authorize_when_the_sidecar_is_away_for_a_moment_then_it_is_asked_again(
    served: tuple[Scripted, str], ask: Any
) -> None:
    script, _ = served
    script.put("Authorize", Abort(_CODE.UNAVAILABLE), Abort(_CODE.UNAVAILABLE), ALLOW)

    assert ask("authorize", ACTION, RESOURCE, timeout=60).is_allowed
    assert script.count("Authorize") == 3


def test_authorize_when_nobody_answers_then_the_time_of_the_call_is_kept(
    served: tuple[Scripted, str], ask: Any
) -> None:
    def sleep(_request: Any, context: grpc.ServicerContext) -> pb.AuthorizeResponse:
        while context.is_active():
            time.sleep(0.01)
        return ALLOW

    served[0].put("Authorize", sleep)
    with pytest.raises(SourceUnavailableError, match="did not answer in time"):
        ask("authorize", ACTION, RESOURCE, timeout=0.2)


def test_authorize_when_nobody_is_there_then_it_is_no_allow() -> None:
    with scripted_sidecar() as (_, target):
        pass
    with AuthorizationClient(target) as client, pytest.raises(SourceUnavailableError):
        client.authorize(ACTION, RESOURCE, timeout=0.3)


def test_authorize_when_the_sidecar_is_started_anew_then_the_client_finds_it() -> None:
    with scripted_sidecar() as (script, target):
        script.put("Authorize", ALLOW)
        client = AuthorizationClient(target)
        assert client.authorize(ACTION, RESOURCE, timeout=60).is_allowed
    with scripted_sidecar(int(target.rpartition(":")[2])) as (script, _), client:
        script.put("Authorize", ALLOW)
        for _ in range(600):
            try:
                assert client.authorize(ACTION, RESOURCE, timeout=60).is_allowed
                return
            except SourceUnavailableError:
                time.sleep(0.05)
        raise AssertionError("it never came back")


@pytest.mark.parametrize(
    "question",
    [
        Question(ACTION, RESOURCE, session_token="token", principal="arn"),
        Question(ACTION, "\ud800"),
        Question(ACTION, RESOURCE, context={"key": ["\ud800"]}),
    ],
)
def test_question_when_it_is_none_then_nothing_is_sent(
    served: tuple[Scripted, str], ask: Any, question: Question
) -> None:
    with pytest.raises(RequestError):
        ask("ask", question)
    assert served[0].requests == []


def test_questions_when_there_are_many_then_each_has_its_verdict(served: tuple[Scripted, str], ask: Any) -> None:
    served[0].put("BatchAuthorize", pb.BatchAuthorizeResponse(responses=[ALLOW, NEEDS_PROOF]))

    verdicts: list[Verdict] = ask("ask_all", [Question(ACTION, RESOURCE), Question(ACTION, "*")])

    assert [verdict.is_allowed for verdict in verdicts] == [True, False]
    with pytest.raises(InternalError, match="another number"):
        ask("ask_all", [Question(ACTION, RESOURCE)])


def challenge(state: mfa.ChallengeState) -> mfa.Challenge:
    return mfa.Challenge(
        challenge_id="id",
        state=state,
        user_code="BCDF-GHJK",
        prompt_url="https://example.org/challenges/id",
        expires_at_unix_ms=int(time.time() * 1000) + 300_000,
    )


def script_step_up(script: Scripted, *watched: Any) -> None:
    script.put("Authorize", NEEDS_PROOF, ALLOW)
    script.put("BeginChallenge", challenge(mfa.CHALLENGE_STATE_OPEN))
    script.put("WatchChallenge", *watched)
    script.put("CollectProof", mfa.AnswerChallengeResponse(session_token="proved"))


def test_step_up_when_the_person_proves_themselves_then_the_same_call_is_made_again(
    served: tuple[Scripted, str], ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_up_module, "_PAUSE", 0.01)
    script, _ = served
    states = [challenge(mfa.CHALLENGE_STATE_OPEN), challenge(mfa.CHALLENGE_STATE_PROVED)]
    # One watch breaks off, one finds no place, and one ends too early.
    broken = Abort(_CODE.UNAVAILABLE), Abort(_CODE.RESOURCE_EXHAUSTED), lambda *_: iter(states[:1])
    script_step_up(script, *broken, lambda *_: iter(states))
    told: list[StepUpPrompt] = []

    result = ask(
        "authorize_with_step_up", ACTION, RESOURCE, session_token="token", tell=told.append, context={"a": "b"}
    )

    assert result.verdict.is_allowed
    assert result.session_token == "proved"
    assert (told[0].user_code, told[0].prompt_url) == ("BCDF-GHJK", "https://example.org/challenges/id")
    begun = next(request for name, request, _ in script.requests if name == "BeginChallenge")
    assert (begun.session_token, begun.action, begun.resource) == ("token", ACTION, RESOURCE)
    asked = [request for name, request, _ in script.requests if name == "Authorize"]
    assert [request.session_token for request in asked] == ["token", "proved"]
    assert all(request.context["a"].values == ["b"] for request in asked)
    assert {metadata["authorization"] for name, _, metadata in script.requests if name != "Authorize"} == {
        "Bearer token"
    }


def test_step_up_when_the_function_has_it_answered_then_nothing_is_waited_for(
    served: tuple[Scripted, str], ask: Any
) -> None:
    script, _ = served
    script_step_up(script)

    result = ask(
        "authorize_with_step_up", ACTION, RESOURCE, session_token="token", tell=lambda _: "own", is_bound=False
    )

    assert result.session_token == "own"
    assert script.count("WatchChallenge") == script.count("CollectProof") == 0
    assert next(request.action for name, request, _ in script.requests if name == "BeginChallenge") == ""


@pytest.mark.parametrize(
    ("state", "error"),
    [(mfa.CHALLENGE_STATE_REFUSED, StepUpRefusedError), (mfa.CHALLENGE_STATE_EXPIRED, StepUpExpiredError)],
)
def test_step_up_when_the_person_says_no_or_nothing_then_it_raises(
    served: tuple[Scripted, str], ask: Any, state: mfa.ChallengeState, error: type[SidecarError]
) -> None:
    script, _ = served
    script_step_up(script, lambda *_: iter([challenge(state)]))

    with pytest.raises(error):
        ask("authorize_with_step_up", ACTION, RESOURCE, session_token="token", tell=lambda _: None)
    assert script.count("Authorize") == 1
    assert script.count("CollectProof") == 0


@pytest.mark.parametrize("answer", [ALLOW, pb.AuthorizeResponse(decision=pb.DECISION_EXPLICIT_DENY)])
def test_step_up_when_a_proof_changes_nothing_then_nobody_is_asked(
    served: tuple[Scripted, str], ask: Any, answer: pb.AuthorizeResponse
) -> None:
    script, _ = served
    script.put("Authorize", answer)

    result = ask("authorize_with_step_up", ACTION, RESOURCE, session_token="token", tell=lambda _: None)

    assert result.session_token == "token"
    assert [name for name, _, _ in script.requests] == ["Authorize"]


def test_tokens_when_results_are_shown_then_they_are_not_in_them() -> None:
    assert "secret" not in repr(Question(ACTION, RESOURCE, session_token="secret"))
    assert "secret" not in repr(public.SteppedUp(Verdict(Decision.ALLOW, public.PolicyLayer.IDENTITY, ""), "secret"))
    assert "secret" not in repr(public.Session("ASIA", "secret", "secret", 0, "arn"))


def test_client_when_imported_then_nothing_of_the_server_comes_with_it() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, sidecar.client; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    heavy = {"sqlalchemy", "fido2", "cryptography", "starlette", "structlog", "typer", "rich", "sidecar.core._core"}
    assert heavy & set(loaded) == set()
    assert {name.split(".")[1] for name in loaded if name.startswith("sidecar.")} == {"client", "model", "wire"}
