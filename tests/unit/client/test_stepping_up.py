# SPDX-License-Identifier: Apache-2.0
"""Client interceptors before real servers: a refused call is made again with the proof, blocking and for asyncio."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sidecar.client import (
    AsyncStepUpClient,
    AsyncStepUpInterceptor,
    NotFoundError,
    StepUpClient,
    StepUpInterceptor,
    StepUpPrompt,
    StepUpRefusedError,
    proof_required_by,
)
from sidecar.wire.sidecar.v1 import mfa_pb2 as mfa
from tests.unit.client.scripted import Abort, Scripted, scripted_sidecar

REFUND = "/shop.Orders/Refund"
#: As Envoy passes on what the sidecar has said, and as a service says it itself.
BY_ENVOY = {
    "step_up_ticket": "ticket-1",
    "prompt_url": "https://x/step-up",
    "methods": "webauthn totp",
    "max_age": "60",
}
BY_SERVICE = {
    "action": "payments:Refund",
    "resource": "arn:order",
    "methods": "webauthn,totp",
    "user_verification": "true",
}


@dataclass
class Shop:
    """A protected service, which lets one token pass."""

    details: dict[str, str] = field(default_factory=lambda: dict(BY_ENVOY))
    code: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED
    reason: str = "MFA_REQUIRED"
    good: str = "Bearer proved"
    tokens: list[str] = field(default_factory=list)

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = context.invocation_metadata() or ()
        [token] = [str(value) for key, value in metadata if key == "authorization"]
        self.tokens.append(token)
        if token == self.good:
            return request + b" done"
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="iam-sidecar", metadata=self.details))
        status = status_pb2.Status(code=self.code.value[0], message="no", details=[packed])
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    def stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield self.answer(request, context)

    def take(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return self.answer(b"".join(requests), context)

    def talk(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield self.answer(b"".join(requests), context)


@contextmanager
def serving(shop: Shop) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Refund": grpc.unary_unary_rpc_method_handler(shop.answer),
        "List": grpc.unary_stream_rpc_method_handler(shop.stream),
        "Import": grpc.stream_unary_rpc_method_handler(shop.take),
        "Talk": grpc.stream_stream_rpc_method_handler(shop.talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def sidecar() -> Iterator[tuple[Scripted, str]]:
    with scripted_sidecar() as (script, target):
        proved = mfa.Challenge(challenge_id="c", state=mfa.CHALLENGE_STATE_PROVED)
        script.put("BeginChallenge", mfa.Challenge(challenge_id="c", prompt_url="https://x/challenge/c"))
        script.put("WatchChallenge", lambda *_: iter([proved]))
        script.put("CollectProof", mfa.AnswerChallengeResponse(session_token="proved"))
        yield script, target


def refund(
    sidecar: str, shop: str, tell: Callable[[StepUpPrompt], None] = lambda _: None, times: int = 1
) -> tuple[list[bytes], str]:
    """Call the service, blocking."""
    with StepUpClient(sidecar) as step_up, grpc.insecure_channel(shop) as channel:
        interceptor = StepUpInterceptor(step_up, "plain", tell)
        method: Any = grpc.intercept_channel(channel, interceptor).unary_unary(REFUND)
        answers = [method(b"4711", timeout=30, metadata=(("x", "y"), ("authorization", "old"))) for _ in range(times)]
        return answers, interceptor.session_token


def refund_async(
    sidecar: str, shop: str, tell: Callable[[StepUpPrompt], None] = lambda _: None, times: int = 1
) -> tuple[list[bytes], str]:
    """Call the service, for asyncio."""

    async def run() -> tuple[list[bytes], str]:
        async with AsyncStepUpClient(sidecar) as step_up:
            interceptor = AsyncStepUpInterceptor(step_up, "plain", tell)
            async with grpc.aio.insecure_channel(shop, interceptors=[interceptor]) as channel:
                method: Any = channel.unary_unary(REFUND)
                metadata = (("x", "y"), ("authorization", "old"))
                answers = [await method(b"4711", timeout=30, metadata=metadata) for _ in range(times)]
                return answers, interceptor.session_token

    return asyncio.run(run())


both = pytest.mark.parametrize("call", [refund, refund_async])


@both
def test_call_when_a_proxy_refuses_it_for_want_of_a_proof_then_the_ticket_is_redeemed_and_it_is_made_again(
    shop: Shop, sidecar: tuple[Scripted, str], call: Any
) -> None:
    script, target = sidecar
    told: list[StepUpPrompt] = []

    with serving(shop) as address:
        answers, token = call(target, address, told.append, times=2)

    assert answers == [b"4711 done"] * 2
    assert token == "proved"
    assert shop.tokens == ["Bearer plain", "Bearer proved", "Bearer proved"]
    [begun] = [request for name, request, _ in script.requests if name == "BeginChallenge"]
    assert begun == mfa.BeginChallengeRequest(session_token="plain", step_up_ticket="ticket-1")
    assert [prompt.prompt_url for prompt in told] == ["https://x/challenge/c"]


@both
def test_call_when_a_service_refuses_it_itself_then_the_proof_is_bound_to_it(
    shop: Shop, sidecar: tuple[Scripted, str], call: Any
) -> None:
    script, target = sidecar
    shop.details = dict(BY_SERVICE)

    with serving(shop) as address:
        assert call(target, address)[0] == [b"4711 done"]

    [begun] = [request for name, request, _ in script.requests if name == "BeginChallenge"]
    assert begun == mfa.BeginChallengeRequest(
        session_token="plain", action="payments:Refund", resource="arn:order", require_user_verification=True
    )


@both
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "SIGN_IN_REQUIRED"),
        (grpc.StatusCode.PERMISSION_DENIED, "MFA_REQUIRED"),
        (grpc.StatusCode.UNAVAILABLE, "X"),
    ],
)
def test_call_when_it_is_refused_for_another_reason_then_nobody_is_asked(
    shop: Shop, sidecar: tuple[Scripted, str], call: Any, code: grpc.StatusCode, reason: str
) -> None:
    script, target = sidecar
    shop.code, shop.reason = code, reason

    with serving(shop) as address, pytest.raises(grpc.RpcError) as caught:
        call(target, address)

    assert caught.value.code() is code
    assert script.requests == []
    assert len(shop.tokens) == 1


@both
def test_call_when_the_proof_changes_nothing_then_it_is_made_twice_and_no_more(
    shop: Shop, sidecar: tuple[Scripted, str], call: Any
) -> None:
    script, target = sidecar
    shop.good = "none"

    with serving(shop) as address, pytest.raises(grpc.RpcError) as caught:
        call(target, address)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert shop.tokens == ["Bearer plain", "Bearer proved"]
    assert script.count("BeginChallenge") == 1


@both
def test_call_when_the_person_says_no_or_the_ticket_is_none_then_it_raises(
    shop: Shop, sidecar: tuple[Scripted, str], call: Any
) -> None:
    script, target = sidecar
    refused = mfa.Challenge(challenge_id="c", state=mfa.CHALLENGE_STATE_REFUSED)
    script.put("WatchChallenge", lambda *_: iter([refused]))

    with serving(shop) as address:
        with pytest.raises(StepUpRefusedError):
            call(target, address)
        script.put("BeginChallenge", Abort(grpc.StatusCode.NOT_FOUND))
        with pytest.raises(NotFoundError):
            call(target, address)


def test_calls_when_many_are_refused_at_once_then_the_person_is_asked_once(
    shop: Shop, sidecar: tuple[Scripted, str]
) -> None:
    script, target = sidecar
    refused = threading.Barrier(4)
    answer = shop.answer

    def together(request: bytes, context: grpc.ServicerContext) -> bytes:
        if ("authorization", "Bearer plain") in tuple(context.invocation_metadata() or ()):
            refused.wait(30)
        return answer(request, context)

    shop.answer = together  # type: ignore[method-assign]
    with serving(shop) as address, StepUpClient(target) as step_up, grpc.insecure_channel(address) as channel:
        interceptor = StepUpInterceptor(step_up, "plain", lambda _: None)
        method: Any = grpc.intercept_channel(channel, interceptor).unary_unary(REFUND)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: method(b"x", timeout=30), range(4)))

    assert answers == [b"x done"] * 4
    assert script.count("BeginChallenge") == 1


def test_streams_when_they_are_called_then_they_get_the_token_and_are_made_once(
    shop: Shop, sidecar: tuple[Scripted, str]
) -> None:
    script, target = sidecar
    with serving(shop) as address, StepUpClient(target) as step_up, grpc.insecure_channel(address) as plain:
        for token, want in (("proved", [b"x done"]), ("plain", None)):
            channel: Any = grpc.intercept_channel(plain, StepUpInterceptor(step_up, token, lambda _: None))
            calls: list[Callable[[], list[bytes]]] = [
                lambda: list(channel.unary_stream("/shop.Orders/List")(b"x", timeout=30)),  # noqa: B023
                lambda: [channel.stream_unary("/shop.Orders/Import")(iter([b"x"]), timeout=30)],  # noqa: B023
                lambda: list(channel.stream_stream("/shop.Orders/Talk")(iter([b"x"]), timeout=30)),  # noqa: B023
            ]
            for call in calls:
                if want is not None:
                    assert call() == want
                    continue
                with pytest.raises(grpc.RpcError) as caught:
                    call()
                required = proof_required_by(caught.value)
                assert required is not None
                assert required.step_up_ticket == "ticket-1"
                assert [method.word for method in required.requirement.methods] == ["totp", "webauthn"]
                assert required.requirement.max_age_seconds == 60

    assert script.requests == []
