# SPDX-License-Identifier: Apache-2.0
"""
Envoy's Check over HTTP/2: there is an answer to whatever can still be answered, and never a status that says no.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as ext_authz
from hyperframe.frame import DataFrame

from sidecar import core
from sidecar.model.check import CheckResult, CheckSettings, OnError
from sidecar.model.listener import ListenerLimit, RpcMethod, RpcStatus
from sidecar.transports.data_listener import DataLimits
from tests.listener.peers import HEALTH_CHECK, Answer, Client, Wire, call_fields, framed
from tests.listener.serving import Listener, eventually, listening, read_records
from tests.unit.core.checking import checked_image, facts_of, headers_of
from tests.unit.core.routing import ACCOUNT, check_request

CHECK = "/envoy.service.auth.v3.Authorization/Check"
PEER: dict[str, Any] = {"peer": "spiffe://example.com/alice"}
MESSAGE_MOST = 1024 * 1024 + 4096
LOG: dict[str, Any] = {"ring_bytes": 4096, "allows": 1.0, "denials": 1.0, "must_record": True}


@pytest.fixture(scope="module")
def checking() -> Iterator[Listener]:
    with listening(by=checked_image()) as running:
        yield running


@pytest.fixture
def client(checking: Listener) -> Iterator[Client]:
    with Client(checking.place) as client:
        yield client


def read(answer: Answer) -> ext_authz.CheckResponse:
    """Read an answer, which has a status inside whatever it says, and one outside that says OK."""
    response = ext_authz.CheckResponse.FromString(answer.message)
    assert response.HasField("status")
    assert (response.status.code == 0) == (response.WhichOneof("http_response") == "ok_response")
    return response


def test_check_when_asked_then_it_answers_as_the_core_does(checking: Listener, client: Client) -> None:
    before = checking.rpcs(RpcMethod.CHECK, RpcStatus.OK)

    allowed = read(client.call(check_request("/orders", **PEER), CHECK))
    denied = read(client.call(check_request("/forbidden", **PEER), CHECK))

    assert headers_of(allowed.ok_response)["x-iam-account"] == ACCOUNT
    assert denied.denied_response.status.code == 403
    assert checking.rpcs(RpcMethod.CHECK, RpcStatus.OK) == before + 2
    told = [sum(column) for column in zip(*(one["told"] for one in checking.server.telemetry()), strict=True)]
    assert told[CheckResult.ALLOW] >= 1
    assert told[CheckResult.DENY] >= 1


def test_check_when_many_are_under_way_then_each_gets_its_own_answer(client: Client) -> None:
    paths = ["/orders", "/forbidden", "/static/a", "/nowhere"]
    streams = [client.start(CHECK) for _ in range(40)]
    for stream, path in zip(streams, itertools.cycle(paths), strict=False):
        client.send(stream, framed(check_request(path, **PEER)))

    reasons = [facts_of(read(client.finish(stream)))["reason"] for stream in streams]

    assert reasons == ["identity_allow", "explicit_deny", "public_route", "no_route"] * 10


def test_health_when_asked_for_envoys_service_then_it_answers(client: Client) -> None:
    from grpc_health.v1 import health_pb2

    asked = health_pb2.HealthCheckRequest(service="envoy.service.auth.v3.Authorization").SerializeToString()

    answer = health_pb2.HealthCheckResponse.FromString(client.call(asked, HEALTH_CHECK).message)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (framed(b"\xff"), 400),
        (b"", 400),
        (b"\0\0", 400),
        (framed(b"x" * 9)[:-1], 400),
        (framed(b"") + framed(b""), 400),
        (framed(b"", flag=1), 400),
        (b"\0" + (MESSAGE_MOST + 1).to_bytes(4, "big"), 413),
    ],
)
def test_message_when_it_is_none_then_it_is_denied_all_the_same(client: Client, data: bytes, status: int) -> None:
    stream = client.start(CHECK)
    client.send(stream, data)

    response = read(client.finish(stream))

    assert response.denied_response.status.code == status
    assert facts_of(response)["reason"] == "request_invalid"


def test_message_when_it_is_as_large_as_can_be_then_it_is_decided(client: Client) -> None:
    message = check_request("/orders", headers={"x": "y" * (1024 * 1024)}, **PEER)

    assert len(message) <= MESSAGE_MOST
    assert read(client.call(message, CHECK)).status.code == RpcStatus.OK


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (call_fields(CHECK, ("x", "y" * 9000)), 413),
        (call_fields(CHECK, without=["te"]), 400),
        (call_fields(CHECK, grpc_timeout="soon"), 400),
        (call_fields(CHECK, grpc_timeout="0n"), 503),
    ],
)
def test_headers_when_a_call_would_fail_by_them_then_it_is_denied(
    client: Client, fields: list[tuple[str, str]], status: int
) -> None:
    stream = client.start(fields=fields)
    if not client.answers[stream].has_ended:
        client.send(stream, framed(check_request("/orders", **PEER)))

    assert read(client.finish(stream)).denied_response.status.code == status


def test_memory_when_there_is_none_for_a_message_then_the_settings_say_who_decides() -> None:
    limits = DataLimits(message_memory=4 * 1024 * 1024)
    large = framed(check_request("/orders", headers={"x": "y" * (1024 * 1024)}, **PEER))
    plan = core.CheckPlan(CheckSettings(on_error=OnError.ERROR_RESPONSE))
    with listening(limits, by=checked_image(), check=plan) as running, Client(running.place) as client:
        streams = [client.start(CHECK) for _ in range(6)]
        for stream in streams:
            client.send(stream, large[:-1], end=False)
        eventually(lambda: running.hits(ListenerLimit.MESSAGE_MEMORY) >= 1)
        while not (answers := [client.answers[stream] for stream in streams if client.answers[stream].has_ended]):
            assert client.pump(), "nothing was refused"
        response = read(answers[0])

    assert response.WhichOneof("http_response") == "error_response"
    assert response.status.code == RpcStatus.UNAVAILABLE
    assert response.error_response.status.code == 503


def test_request_when_it_never_ends_then_it_is_denied_in_time() -> None:
    limits = DataLimits(request_seconds=0.05)
    with listening(limits, by=checked_image()) as running, Client(running.place) as client:
        stream = client.start(CHECK)
        client.send(stream, framed(b"x" * 9)[:-1], end=False)

        assert read(client.finish(stream)).denied_response.status.code == 503


def test_records_when_they_find_no_place_then_the_answer_is_that_it_was_not_decided() -> None:
    with listening(by=checked_image(), log=LOG) as running, Client(running.place) as client:
        streams = [client.start(CHECK) for _ in range(16)]
        for stream in streams:
            client.send(stream, framed(check_request("/orders", **PEER)))
        answers = [read(client.finish(stream)) for stream in streams]
        records = read_records(running.server.read_records())

    assert answers[0].status.code == RpcStatus.OK
    assert {facts_of(answer)["reason"] for answer in answers} == {"identity_allow", "audit_unavailable"}
    assert [answer.status.code for answer in answers].count(0) == len(records)
    assert all(record.method == RpcMethod.CHECK and record.note.startswith(b"list-orders\0") for record in records)
    late = [answer for answer in answers if answer.status.code]
    assert all(answer.denied_response.status.code == 503 for answer in late)


def test_records_when_the_deadline_passes_before_there_is_a_place_then_the_answer_is_a_denial() -> None:
    with listening(by=checked_image(), log=LOG) as running, Client(running.place) as client:
        fields = call_fields(CHECK, grpc_timeout="20m")
        streams = [client.start(fields=fields) for _ in range(16)]
        for stream in streams:
            client.send(stream, framed(check_request("/orders", **PEER)))

        answers = [read(client.finish(stream)) for stream in streams]

    assert {answer.status.code for answer in answers} <= {RpcStatus.OK, RpcStatus.UNAVAILABLE}
    assert answers[-1].status.code == RpcStatus.UNAVAILABLE


def test_stream_when_its_answer_comes_before_its_end_then_it_is_whole(checking: Listener) -> None:
    with Wire(checking.place) as wire:
        head = b"\0" + (MESSAGE_MOST + 1).to_bytes(4, "big")
        wire.send(wire.headers(1, fields=call_fields(CHECK)), DataFrame(1, head))
        while not wire.answers.get(1) or not wire.answers[1].has_ended:
            assert wire.receive() is not None

    assert read(wire.answers[1]).denied_response.status.code == 413
