# SPDX-License-Identifier: Apache-2.0
"""Decisions through a real Envoy: what callers of each kind are told, and what the access log says of it."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.e2e.envoy_process import Envoy
from tests.e2e.protected_shop import ADA, API_KEY, BATCH, Headers, ProtectedShop, bearer, send
from tests.e2e.sidecar_process import PATIENCE

pytestmark = pytest.mark.peer

KEY: Headers = [("x-api-key", API_KEY)]
BROWSER: Headers = [("accept", "text/html,*/*;q=0.8"), ("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def house(protected: ProtectedShop) -> ProtectedShop:
    return protected


def grpc_call(
    running: Envoy, method: str, metadata: Headers, *, message: bytes = b""
) -> tuple[grpc.RpcError | None, dict[str, Any]]:
    """Call the shop over gRPC; what failed, or what arrived."""
    with grpc.insecure_channel(f"127.0.0.1:{running.port()}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/shop.v1.Orders/{method}")
        try:
            return None, json.loads(call(message, timeout=PATIENCE, metadata=tuple(metadata)))
        except grpc.RpcError as error:
            return error, {}


def error_info(error: grpc.RpcError | None) -> error_details_pb2.ErrorInfo:
    """Return what a rich status says, which came with the code and the words of the plain one."""
    assert error is not None
    status = rpc_status.from_call(error)
    assert status is not None, "the details have been lost on the way"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_denial_when_it_is_a_plain_one_then_nobody_learns_why(house: ProtectedShop) -> None:
    for target, method in (("/orders", "GET"), ("/orders/1", "DELETE"), ("/nowhere", "GET")):
        reply = send(house.port, target, KEY, method=method)
        assert reply.status == 403
        assert reply.header("content-type") == "application/json"
        assert reply.json == {"error": "access_denied", "request_id": reply.header("x-request-id")}
        assert reply.header("www-authenticate") == ""
    page = send(house.port, "/orders", [*KEY, *BROWSER])
    assert page.status == 403
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert b"batch" not in page.body


def test_nobody_when_it_is_an_api_client_then_it_is_asked_for_a_bearer(house: ProtectedShop) -> None:
    reply = send(house.port)

    assert reply.status == 401
    assert reply.header("www-authenticate").startswith("Bearer")
    assert "error=" not in reply.header("www-authenticate"), "RFC 6750: no error where nothing was tried"
    assert reply.json["error"] == "unauthenticated"
    wrong = send(house.port, headers=[bearer("x" * 60)])
    assert 'error="invalid_token"' in wrong.header("www-authenticate")


def test_nobody_when_it_is_a_browser_then_it_is_sent_to_the_prompt(house: ProtectedShop) -> None:
    host = [("host", f"localhost:{house.port}")]
    reply = send(house.port, "/orders/1?tab=2", [*host, *BROWSER])

    assert reply.status == 303
    location = reply.header("location")
    assert location.startswith(f"{house.origin}/.iam-sidecar/sign-in?next=")
    page = send(house.port, location.removeprefix(house.origin), [*host, *BROWSER])
    assert page.status == 200
    assert b"password" in page.body
    form = send(house.port, "/orders/1/refund", [*host, *BROWSER], method="POST", body=b"")
    assert form.status == 401, "a form is not lost by being led elsewhere"
    assert f"{house.origin}/.iam-sidecar/".encode() in form.body


def test_metadata_when_a_request_is_allowed_or_denied_then_the_access_log_has_it(house: ProtectedShop) -> None:
    revision = house.sidecar.decide(pb.AuthorizeRequest(principal=ADA, action="a:b", resource="*")).snapshot_revision
    allowed = send(house.port, "/orders/1?secret=1", [*KEY, ("traceparent", TRACE)])
    line = house.envoy.logged(allowed.header("x-request-id"))
    assert (line["decision"], line["principal"], line["route"]) == ("allow", BATCH, "get-order")
    assert line["revision"] == revision
    assert line["status"] == 200
    assert line["trace"] == TRACE
    assert line["path"] == "/orders/1"

    denied = send(house.port, "/orders", KEY)
    line = house.envoy.logged(denied.header("x-request-id"))
    assert (line["decision"], line["reason"], line["principal"]) == ("implicit_deny", "no_identity_allow", BATCH)
    assert (line["route"], line["status"]) == ("list-orders", 403)

    lost = send(house.port, "/nowhere", KEY)
    line = house.envoy.logged(lost.header("x-request-id"))
    assert (line["decision"], line["reason"], line["principal"]) == ("implicit_deny", "no_route", None)

    public = send(house.port, "/static/logo.svg")
    line = house.envoy.logged(public.header("x-request-id"))
    assert (line["decision"], line["reason"], line["route"]) == ("allow", "public_route", "assets")


def test_tracing_headers_when_a_request_is_allowed_then_they_arrive(house: ProtectedShop) -> None:
    sent = [("traceparent", TRACE), ("tracestate", "a=1,b=2"), ("b3", "0"), ("baggage", "user=7")]
    arrived = send(house.port, headers=[*KEY, *sent]).arrived

    for name, value in sent:
        assert arrived.values(name) == [value]
    assert len(arrived.values("x-request-id")) == 1


def test_grpc_client_when_it_may_call_then_the_call_arrives_without_its_token(house: ProtectedShop) -> None:
    error, arrived = grpc_call(house.envoy, "Get", [("authorization", f"Bearer {house.token}"), ("order-id", "7")])

    assert error is None
    metadata = dict(arrived["metadata"])
    assert metadata["x-iam-principal"] == ADA
    assert metadata["x-iam-route"] == "get-order-grpc"
    assert "authorization" not in metadata


def test_grpc_client_when_it_is_denied_then_the_status_is_one_of_grpc(house: ProtectedShop) -> None:
    denied, _ = grpc_call(house.envoy, "Refund", [*KEY, ("order-id", "7")])
    assert denied is not None
    assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error_info(denied).reason == "ACCESS_DENIED"

    nobody, _ = grpc_call(house.envoy, "Get", [("order-id", "7")])
    assert nobody is not None
    assert nobody.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error_info(nobody).reason == "SIGN_IN_REQUIRED"

    for without in ([], [("order-id", "")], [("order-id", "*")], [("order-id", "1"), ("order-id", "2")]):
        error, _ = grpc_call(house.envoy, "Get", [*KEY, *without])
        assert error is not None
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, without


def test_grpc_client_when_a_proof_is_needed_then_the_rich_status_says_how(house: ProtectedShop) -> None:
    error, _ = grpc_call(house.envoy, "Refund", [("authorization", f"Bearer {house.token}"), ("order-id", "7")])

    assert error is not None
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    info = error_info(error)
    assert (info.reason, info.domain) == ("MFA_REQUIRED", "iam-sidecar")
    assert info.metadata["max_age"] == "299"
    assert "webauthn" in info.metadata["methods"].split()
    ticket = info.metadata["step_up_ticket"]
    assert info.metadata["prompt_url"] == f"{house.origin}/.iam-sidecar/step-up?ticket={ticket}"
