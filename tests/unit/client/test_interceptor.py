# SPDX-License-Identifier: Apache-2.0
"""The interceptors before real servers, blocking and for asyncio, with every shape of method."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from sidecar.client import (
    PUBLIC,
    Access,
    AsyncAuthorizationClient,
    AsyncAuthorizationInterceptor,
    AuthorizationClient,
    AuthorizationInterceptor,
    MfaMethod,
    authorized_caller,
    proof_required_by,
)
from sidecar.client.details import status_details
from sidecar.client.interceptor import Rules
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.unit.client.scripted import ALLOW, NEEDS_PROOF, Abort, Scripted, scripted_sidecar

_CODE = grpc.StatusCode
TOKEN = (("authorization", "Bearer token"),)
ORDER = Access("payments:Refund", lambda request: f"arn:aws:payments:::order/{request.decode()}")
STREAM = Access("payments:Import", context={"aws:SourceIp": "192.0.2.1"})
RULES: Rules = {
    "/shop.Orders/Refund": ORDER,
    "/shop.Orders/List": ORDER,
    "/shop.Orders/Import": STREAM,
    "/shop.Orders/Talk": STREAM,
    "/shop.Orders/Health": PUBLIC,
    "/shop.Other/*": STREAM,
}
SHAPES = {"Refund": (False, False), "List": (False, True), "Import": (True, False), "Talk": (True, True)}


def who() -> bytes:
    caller = authorized_caller()
    return b"nobody" if caller is None else caller.principal_arn.encode()


def refund(request: bytes, _context: Any) -> bytes:
    return request + b" for " + who()


def list_orders(request: bytes, _context: Any) -> Iterator[bytes]:
    yield from (request, who())


def import_orders(requests: Iterator[bytes], _context: Any) -> bytes:
    return b",".join(requests) + b" for " + who()


def talk(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    for request in requests:
        yield request + b" for " + who()


async def async_refund(request: bytes, _context: Any) -> bytes:
    return request + b" for " + who()


async def async_list_orders(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for part in (request, who()):
        yield part


async def async_import_orders(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return b",".join([request async for request in requests]) + b" for " + who()


async def async_talk(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request + b" for " + who()


async def async_write_orders(request: bytes, context: Any) -> None:
    for part in (request, who()):
        await context.write(part)


async def async_health(_request: bytes, _context: Any) -> bytes:
    return b"well " + who()


def handlers(behaviors: dict[str, Any]) -> Any:
    found: dict[str, Any] = {
        "Refund": grpc.unary_unary_rpc_method_handler(behaviors["Refund"]),
        "List": grpc.unary_stream_rpc_method_handler(behaviors["List"]),
        "Import": grpc.stream_unary_rpc_method_handler(behaviors["Import"]),
        "Talk": grpc.stream_stream_rpc_method_handler(behaviors["Talk"]),
        "Health": grpc.unary_unary_rpc_method_handler(behaviors["Health"]),
        "Forgotten": grpc.unary_unary_rpc_method_handler(behaviors["Refund"]),
    }
    if "Write" in behaviors:
        found["List"] = grpc.unary_stream_rpc_method_handler(behaviors["Write"])
    return grpc.method_handlers_generic_handler("shop.Orders", found)


BLOCKING = {
    "Refund": refund,
    "List": list_orders,
    "Import": import_orders,
    "Talk": talk,
    "Health": lambda _request, _context: b"well " + who(),
}
ASYNC = {
    "Refund": async_refund,
    "List": async_list_orders,
    "Import": async_import_orders,
    "Talk": async_talk,
    "Health": async_health,
}


@contextmanager
def blocking_shop(target: str, rules: Rules) -> Iterator[str]:
    with AuthorizationClient(target, timeout=60) as client:
        # One thread: what a call leaves behind is what the next one finds.
        server = grpc.server(ThreadPoolExecutor(1), interceptors=[AuthorizationInterceptor(client, rules)])
        server.add_generic_rpc_handlers((handlers(BLOCKING),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(10)


@contextmanager
def asyncio_shop(target: str, rules: Rules, behaviors: dict[str, Any] | None = None) -> Iterator[str]:
    ready: list[str] = []
    is_ready, loop = threading.Event(), asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        async with AsyncAuthorizationClient(target, timeout=60) as client:
            server = grpc.aio.server(interceptors=[AsyncAuthorizationInterceptor(client, rules)])
            server.add_generic_rpc_handlers((handlers(behaviors or ASYNC),))
            ready.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            await server.start()
            is_ready.set()
            await stopping.wait()
            await server.stop(None)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert is_ready.wait(60)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
        loop.close()


SHOPS: dict[str, Any] = {"blocking": blocking_shop, "asyncio": asyncio_shop}


class Shop:
    """A protected service, and what its sidecar says."""

    def __init__(self, script: Scripted, channel: Any) -> None:
        self.script = script
        self._channel = channel

    def call(self, name: str, request: bytes = b"4711", metadata: Any = TOKEN) -> list[bytes]:
        path, shape = f"/shop.Orders/{name}", SHAPES.get(name, (False, False))
        if shape == (False, False):
            return [self._channel.unary_unary(path)(request, metadata=metadata, timeout=60)]
        if shape == (False, True):
            return list(self._channel.unary_stream(path)(request, metadata=metadata, timeout=60))
        requests = iter([request, request])
        if shape == (True, False):
            return [self._channel.stream_unary(path)(requests, metadata=metadata, timeout=60)]
        return list(self._channel.stream_stream(path)(requests, metadata=metadata, timeout=60))

    def refusal(self, name: str, metadata: Any = TOKEN) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(name, metadata=metadata)
        status = status_details(caught.value)
        assert status is not None
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.domain == "iam-sidecar"
        assert status.message == caught.value.details()
        return caught.value.code(), info.reason


@contextmanager
def open_shop(kind: str, rules: Rules = RULES) -> Iterator[Shop]:
    with (
        scripted_sidecar() as (script, target),
        SHOPS[kind](target, rules) as address,
        grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel,
    ):
        yield Shop(script, channel)


@pytest.fixture(params=["blocking", "asyncio"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with open_shop(request.param) as shop:
        yield shop


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("Refund", [b"4711 for arn:ada"]),
        ("List", [b"4711", b"arn:ada"]),
        ("Import", [b"4711,4711 for arn:ada"]),
        ("Talk", [b"4711 for arn:ada"] * 2),
    ],
)
def test_call_when_it_is_allowed_then_the_service_answers_and_knows_who(
    shop: Shop, name: str, answer: list[bytes]
) -> None:
    shop.script.put("Authorize", ALLOW)

    assert shop.call(name) == answer

    ((_, asked, _),) = shop.script.requests
    assert asked.session_token == "token"
    if SHAPES[name][0]:
        assert (asked.action, asked.resource) == ("payments:Import", "*")
        assert asked.context["aws:SourceIp"].values == ["192.0.2.1"]
    else:
        assert (asked.action, asked.resource) == ("payments:Refund", "arn:aws:payments:::order/4711")


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_call_when_it_is_denied_then_the_service_does_not_see_it(shop: Shop, name: str) -> None:
    shop.script.put("Authorize", pb.AuthorizeResponse(decision=pb.DECISION_EXPLICIT_DENY, reason="explicit_deny"))

    assert shop.refusal(name) == (_CODE.PERMISSION_DENIED, "EXPLICIT_DENY")


def test_call_when_a_proof_would_turn_it_then_the_client_can_tell(shop: Shop) -> None:
    shop.script.put("Authorize", NEEDS_PROOF)

    with pytest.raises(grpc.RpcError) as caught:
        shop.call("Refund")

    assert caught.value.code() is _CODE.UNAUTHENTICATED
    required = proof_required_by(caught.value)
    assert required is not None
    assert (required.action, required.resource) == ("payments:Refund", "arn:aws:payments:::order/4711")
    assert required.requirement.max_age_seconds == 300
    assert required.requirement.methods == (MfaMethod.TOTP, MfaMethod.WEBAUTHN)
    assert not required.requirement.user_verification


def test_call_when_it_is_refused_otherwise_then_no_proof_is_asked_for(shop: Shop) -> None:
    shop.script.put("Authorize", pb.AuthorizeResponse(decision=pb.DECISION_EXPLICIT_DENY))
    with pytest.raises(grpc.RpcError) as caught:
        shop.call("Refund")
    assert proof_required_by(caught.value) is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("session_invalid", _CODE.UNAUTHENTICATED),
        ("session_expired", _CODE.UNAUTHENTICATED),
        ("session_revoked", _CODE.UNAUTHENTICATED),
        ("session_unverifiable", _CODE.UNAVAILABLE),
        ("no_snapshot", _CODE.UNAVAILABLE),
        ("session_kind_not_allowed", _CODE.PERMISSION_DENIED),
    ],
)
def test_call_when_the_denial_has_another_cause_then_the_status_says_so(
    shop: Shop, reason: str, code: grpc.StatusCode
) -> None:
    shop.script.put("Authorize", pb.AuthorizeResponse(decision=pb.DECISION_IMPLICIT_DENY, reason=reason))

    assert shop.refusal("Refund") == (code, reason.upper())


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Basic token"),),
        (("authorization", "Bearer token"), ("authorization", "Bearer other")),
    ],
)
def test_call_when_it_carries_no_token_then_the_sidecar_is_not_asked(shop: Shop, metadata: Any) -> None:
    assert shop.refusal("Refund", metadata) == (_CODE.UNAUTHENTICATED, "TOKEN_MISSING")
    assert shop.script.requests == []


def test_method_when_it_has_no_rule_then_it_is_refused(shop: Shop) -> None:
    assert shop.refusal("Forgotten") == (_CODE.PERMISSION_DENIED, "NO_RULE")
    assert shop.script.requests == []


def test_method_when_it_is_public_then_nobody_is_asked_and_nobody_left_behind(shop: Shop) -> None:
    shop.script.put("Authorize", ALLOW)
    shop.call("Refund")
    shop.call("List")

    assert shop.call("Health", metadata=()) == [b"well nobody"]


def test_method_when_nobody_serves_it_then_that_is_said(shop: Shop) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        shop.call("Nothing")
    assert caught.value.code() is _CODE.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (Abort(_CODE.INVALID_ARGUMENT, "secret"), _CODE.INTERNAL, "QUESTION_INVALID"),
        (Abort(_CODE.UNKNOWN, "secret"), _CODE.UNAVAILABLE, "AUTHORIZATION_UNAVAILABLE"),
        (Abort(_CODE.UNAVAILABLE, "secret"), _CODE.UNAVAILABLE, "AUTHORIZATION_UNAVAILABLE"),
    ],
)
def test_call_when_there_is_no_verdict_then_it_is_refused_and_the_cause_logged(
    shop: Shop, answer: Abort, code: grpc.StatusCode, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.script.put("Authorize", answer)

    with caplog.at_level(logging.ERROR, "sidecar.client"):
        assert shop.refusal("Refund") == (code, reason)
    assert "secret" in caplog.text


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_rules_when_they_are_a_function_then_it_says_what_each_method_needs(kind: str) -> None:
    with open_shop(kind, lambda method: STREAM if method == "/shop.Orders/Refund" else None) as shop:
        shop.script.put("Authorize", ALLOW)
        assert shop.call("Refund") == [b"4711 for arn:ada"]
        assert shop.refusal("List") == (_CODE.PERMISSION_DENIED, "NO_RULE")


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_rules_when_they_name_a_service_then_that_holds_for_what_is_not_named_itself(kind: str) -> None:
    with open_shop(kind, {"/shop.Orders/*": STREAM, "/shop.Orders/Health": PUBLIC}) as shop:
        shop.script.put("Authorize", pb.AuthorizeResponse(decision=pb.DECISION_EXPLICIT_DENY))
        assert shop.refusal("Refund")[0] is _CODE.PERMISSION_DENIED
        assert shop.call("Health", metadata=()) == [b"well nobody"]


def test_asyncio_method_when_it_writes_by_itself_then_it_is_protected_too() -> None:
    with (
        scripted_sidecar() as (script, target),
        asyncio_shop(target, RULES, {**ASYNC, "Write": async_write_orders}) as at,
        grpc.insecure_channel(at) as channel,
    ):
        script.put("Authorize", ALLOW, pb.AuthorizeResponse(decision=pb.DECISION_EXPLICIT_DENY))
        shop = Shop(script, channel)
        assert shop.call("List") == [b"4711", b"arn:ada"]
        assert shop.refusal("List")[0] is _CODE.PERMISSION_DENIED


def test_asyncio_method_when_it_is_no_coroutine_then_it_is_not_served() -> None:
    with scripted_sidecar() as (script, target), asyncio_shop(target, RULES, {**ASYNC, "Refund": refund}) as address:
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            Shop(script, channel).call("Refund")
        assert script.requests == []
