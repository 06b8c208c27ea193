# SPDX-License-Identifier: Apache-2.0
"""
What gRPC asks of a server: header lists, messages, statuses.
"""

import gzip
from collections.abc import Iterator
from time import monotonic, sleep

import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from sidecar.model.listener import ListenerLimit, RpcMethod, RpcStatus
from sidecar.model.request import MAX_BATCH_BYTES
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.listener.peers import (
    AUTHORIZE,
    BATCH_AUTHORIZE,
    HEALTH_CHECK,
    Client,
    Wire,
    call_fields,
    framed,
    good_client,
)
from tests.listener.serving import Listener, Place, batch, listening, question, right_answer

#: The largest message that is read.
MESSAGE_MOST = MAX_BATCH_BYTES + 4096


@pytest.fixture
def client(shared: Listener) -> Iterator[Client]:
    with Client(shared.place) as client:
        yield client


def test_authorize_when_asked_on_each_socket_then_it_answers_as_the_core_does(shared: Listener) -> None:
    for place in shared.places:
        with good_client(place) as client:
            for action in ("s3:GetObject", "s3:DeleteObject", "ec2:RunInstances"):
                answer = client.call(question(action))
                assert answer.message == right_answer(question(action))
    decided = pb.AuthorizeResponse.FromString(right_answer(question()))
    assert decided.decision == pb.DECISION_ALLOW


def test_batch_when_asked_then_every_request_is_answered_in_order(client: Client) -> None:
    asked = [question(action) for action in ("s3:GetObject", "ec2:RunInstances", "s3:GetObject", "s3:DeleteObject")]

    answer = client.call(batch(*asked), BATCH_AUTHORIZE)

    responses = pb.BatchAuthorizeResponse.FromString(answer.message).responses
    assert [one.SerializeToString() for one in responses] == [right_answer(one) for one in asked]


@pytest.mark.parametrize(
    "content_type",
    ["application/grpc", "application/grpc+proto", "application/grpc+anything", "application/grpc;charset=utf-8"],
)
def test_call_when_its_content_type_is_one_of_grpc_then_it_is_answered(client: Client, content_type: str) -> None:
    answer = client.call(question(), fields=call_fields(content_type=content_type))

    assert answer.message == right_answer(question())


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/grpcx", "application/grpc-web", "application/gr", "text/html"]
)
def test_call_when_its_content_type_is_none_of_grpc_then_http_says_so(client: Client, content_type: str) -> None:
    answer = client.call(question(), fields=call_fields(content_type=content_type))

    assert answer.headers == {":status": "415"}
    assert answer.has_ended


def test_call_when_it_has_no_content_type_then_http_says_so(client: Client) -> None:
    assert client.call(question(), fields=call_fields(without=["content-type"])).headers == {":status": "415"}


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "post"])
def test_request_when_its_method_is_not_post_then_http_says_so(client: Client, method: str) -> None:
    answer = client.call(question(), fields=call_fields(method=method))

    assert answer.headers == {":status": "405", "allow": "POST"}


def test_call_when_it_does_not_take_trailers_then_invalid_argument(client: Client) -> None:
    answer = client.call(question(), fields=call_fields(without=["te"]))

    assert answer.status is RpcStatus.INVALID_ARGUMENT
    assert answer.text == "`te: trailers` is missing"
    assert answer.is_trailers_only


@pytest.mark.parametrize("te", ["gzip", "trailers, deflate"])
def test_call_when_te_holds_more_than_trailers_then_it_is_refused(shared: Listener, te: str) -> None:
    with Wire(shared.place) as wire:
        wire.send(wire.call(1, question(), fields=call_fields(te=te)))

        answer = wire.finish(1)

    assert answer.reset == 1 or answer.status is RpcStatus.INVALID_ARGUMENT


@pytest.mark.parametrize("timeout", ["0n", "1n", "0S", "0H"])
def test_call_when_its_time_is_over_before_it_begins_then_deadline_exceeded(shared: Listener, timeout: str) -> None:
    # Header list and message come in one piece, so the listener could answer at once.
    with Wire(shared.place) as wire:
        wire.send(wire.call(1, question(), fields=call_fields(grpc_timeout=timeout)))

        answer = wire.finish(1)

    assert answer.status is RpcStatus.DEADLINE_EXCEEDED
    assert answer.is_trailers_only


@pytest.mark.parametrize("timeout", ["99999999H", "1M", "10S", "10000m", "9999999u", "99999999n"])
def test_call_when_it_has_time_then_it_is_answered(shared: Listener, timeout: str) -> None:
    with Wire(shared.place) as wire:
        wire.send(wire.call(1, question(), fields=call_fields(grpc_timeout=timeout)))

        assert wire.finish(1).message == right_answer(question())


@pytest.mark.parametrize("timeout", ["", "1", "S", "-1S", "1 S", "1s", "1.5S", "123456789S", "1SS", "0x1S", "\uff11S"])
def test_call_when_its_timeout_is_malformed_then_invalid_argument(shared: Listener, timeout: str) -> None:
    with Wire(shared.place) as wire:
        wire.send(wire.call(1, question(), fields=call_fields(grpc_timeout=timeout)))

        answer = wire.finish(1)

    assert answer.status is RpcStatus.INVALID_ARGUMENT
    assert answer.text == "`grpc-timeout` is malformed"


def test_call_when_its_message_does_not_come_in_time_then_deadline_exceeded_soon(client: Client) -> None:
    # A worker without calls looks at its times once a second; a call that comes then must not wait for that.
    waited = []
    for _ in range(4):
        sleep(0.03)
        begun = monotonic()
        stream = client.start(fields=call_fields(grpc_timeout="20m"))
        answer = client.finish(stream)
        waited.append(monotonic() - begun)
        assert answer.status is RpcStatus.DEADLINE_EXCEEDED
        assert answer.reset in (None, 0)
    assert min(waited) >= 0.02
    assert min(waited[1:]) < 0.5


def test_message_when_each_byte_is_a_frame_then_it_is_read(client: Client) -> None:
    stream = client.start()
    client.send(stream, framed(question()), piece=1)

    assert client.finish(stream).message == right_answer(question())


def test_message_when_frames_are_padded_then_it_is_read(shared: Listener) -> None:
    data = framed(question())
    with Wire(shared.place) as wire:
        wire.send(wire.headers(1))
        for at in range(0, len(data), 7):
            wire.send(DataFrame(1, data[at : at + 7], pad_length=at % 256, flags=["PADDED"]))
        wire.send(DataFrame(1, b"", flags=["END_STREAM"]))

        assert wire.finish(1).message == right_answer(question())


def test_call_when_every_byte_is_a_write_then_it_is_answered(shared: Listener) -> None:
    with Wire(shared.place) as wire:
        for byte in wire.call(1, question()):
            wire.send(bytes([byte]))

        assert wire.finish(1).message == right_answer(question())


def test_call_when_it_holds_no_message_then_unimplemented(client: Client) -> None:
    for stream in (client.start(end=True), client.start()):
        if stream == 3:
            client.send(stream, b"")
        answer = client.finish(stream)
        assert answer.status is RpcStatus.UNIMPLEMENTED
        assert answer.text == "the call holds no message"
        assert answer.is_trailers_only


def test_call_when_it_holds_two_messages_then_unimplemented(client: Client) -> None:
    stream = client.start()
    client.send(stream, framed(question()) * 2)

    answer = client.finish(stream)

    assert answer.status is RpcStatus.UNIMPLEMENTED
    assert answer.text == "the call holds more than one message"


@pytest.mark.parametrize("length", [1, 4, 5, 6, -1])
def test_message_when_it_is_cut_off_then_internal(client: Client, length: int) -> None:
    stream = client.start()
    client.send(stream, framed(question())[:length])

    answer = client.finish(stream)

    assert answer.status is RpcStatus.INTERNAL
    assert answer.text == "the message is cut off"


def test_message_when_it_is_empty_then_its_fields_are_missed(client: Client) -> None:
    answer = client.call(b"")

    assert answer.status is RpcStatus.INVALID_ARGUMENT
    assert answer.violations


def test_call_when_trailers_end_it_then_it_is_answered(shared: Listener) -> None:
    with Wire(shared.place) as wire:
        trailers = HeadersFrame(1, b"", flags=["END_HEADERS", "END_STREAM"])
        wire.send(wire.headers(1), DataFrame(1, framed(question())))
        trailers.data = wire.block([("x-checksum", "1")])
        wire.send(trailers)

        assert wire.finish(1).message == right_answer(question())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "snappy", "nonsense"])
def test_message_when_it_is_compressed_then_unimplemented_with_what_is_understood(
    client: Client, encoding: str
) -> None:
    stream = client.start(fields=call_fields(grpc_encoding=encoding))
    client.send(stream, framed(gzip.compress(question()), flag=1))

    answer = client.finish(stream)

    assert answer.status is RpcStatus.UNIMPLEMENTED
    assert answer.headers["grpc-accept-encoding"] == "identity"
    assert answer.is_trailers_only


@pytest.mark.parametrize("more", [[], [("grpc-encoding", "identity")]])
def test_message_when_it_is_flagged_as_compressed_without_an_encoding_then_internal(
    client: Client, more: list[tuple[str, str]]
) -> None:
    stream = client.start(fields=call_fields(AUTHORIZE, *more))
    client.send(stream, framed(gzip.compress(question()), flag=1))

    assert client.finish(stream).status is RpcStatus.INTERNAL


@pytest.mark.parametrize("flag", [2, 255])
def test_message_when_its_flag_is_unknown_then_internal(client: Client, flag: int) -> None:
    stream = client.start(fields=call_fields(grpc_encoding="gzip"))
    client.send(stream, framed(question(), flag=flag))

    assert client.finish(stream).status is RpcStatus.INTERNAL


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_message_when_an_encoding_is_named_but_not_used_then_it_is_read(client: Client, encoding: str) -> None:
    fields = call_fields(AUTHORIZE, ("grpc-accept-encoding", "gzip, identity"), grpc_encoding=encoding)

    assert client.call(question(), fields=fields).message == right_answer(question())


def test_call_when_it_carries_binary_metadata_then_it_is_answered(client: Client) -> None:
    fields = call_fields(AUTHORIZE, ("trace-bin", "AAEC/w"), ("trace-bin", "AAEC/w==,AQ"), ("x-request-id", "7"))

    assert client.call(question(), fields=fields).message == right_answer(question())


@pytest.mark.parametrize(
    "path",
    [
        "/sidecar.v1.AuthorizationService/authorize",
        "/sidecar.v1.AuthorizationService/Authorize/",
        "/sidecar.v1.AuthorizationService/Authoriz",
        "/sidecar.v1.SnapshotService/ReloadSnapshot",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
    ],
)
def test_call_when_its_method_is_unknown_then_unimplemented(client: Client, path: str) -> None:
    answer = client.call(question(), path)

    assert answer.status is RpcStatus.UNIMPLEMENTED
    assert answer.text == "there is no such method here"
    assert answer.is_trailers_only


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (b"\xff\xff\xff", "request"),
        (question("nonsense"), "action"),
        (question(context={"aws:PrincipalArn": pb.ContextValue(values=["x"])}), "context[aws:PrincipalArn]"),
        (question(context={"aws:PrincipalTag/ü": pb.ContextValue(values=["x"])}), "context[aws:PrincipalTag/ü]"),
    ],
)
def test_message_when_it_cannot_be_used_then_its_field_is_named(client: Client, message: bytes, field: str) -> None:
    answer = client.call(message)

    assert answer.status is RpcStatus.INVALID_ARGUMENT
    assert [name for name, _ in answer.violations] == [field]
    assert answer.is_trailers_only


def test_batch_when_one_request_cannot_be_used_then_its_place_is_named(client: Client) -> None:
    answer = client.call(batch(question(), question(), question("nonsense")), BATCH_AUTHORIZE)

    assert answer.status is RpcStatus.INVALID_ARGUMENT
    assert [name for name, _ in answer.violations] == ["requests[2].action"]


def test_batch_when_it_holds_nothing_then_that_is_named(client: Client) -> None:
    assert [name for name, _ in client.call(b"", BATCH_AUTHORIZE).violations] == ["requests"]


def test_batch_when_it_holds_too_many_then_that_is_named(client: Client) -> None:
    assert [name for name, _ in client.call(batch(*[question()] * 1001), BATCH_AUTHORIZE).violations] == ["requests"]


def test_text_of_a_status_when_it_is_not_ascii_then_it_is_percent_encoded(client: Client) -> None:
    answer = client.call(question(context={"aws:PrincipalTag/ü%\n": pb.ContextValue(values=["x"])}))

    assert answer.status is RpcStatus.INVALID_ARGUMENT
    assert "context[aws:PrincipalTag/%C3%BC%25%0A]" in answer.text


def test_message_when_too_large_is_announced_then_it_is_refused_before_it_comes(shared: Listener) -> None:
    before = shared.hits(ListenerLimit.MESSAGE_BYTES)
    with Client(shared.place) as client:
        stream = client.start(BATCH_AUTHORIZE)
        client.send(stream, b"\0" + (MESSAGE_MOST + 1).to_bytes(4, "big"), end=False)

        answer = client.finish(stream)

    assert answer.status is RpcStatus.RESOURCE_EXHAUSTED
    assert answer.text == f"the message is larger than {MESSAGE_MOST} bytes"
    assert shared.hits(ListenerLimit.MESSAGE_BYTES) == before + 1


def test_message_when_more_comes_than_was_announced_then_it_is_refused_in_the_end(shared: Listener) -> None:
    before = shared.hits(ListenerLimit.MESSAGE_BYTES)
    with good_client(shared.place) as client:
        stream = client.start(BATCH_AUTHORIZE)
        client.send(stream, b"\0\0\0\0\1" + bytes(MESSAGE_MOST), end=False)
        client.send(stream, b"\0")
        answer = client.finish(stream)

    assert answer.status is RpcStatus.RESOURCE_EXHAUSTED
    assert shared.hits(ListenerLimit.MESSAGE_BYTES) == before + 1


def test_health_when_serving_or_not_then_it_says_so() -> None:
    serving, not_serving = b"\x08\x01", b"\x08\x02"
    service = "sidecar.v1.AuthorizationService"
    named = b"\x0a" + bytes([len(service)]) + service.encode()
    with listening() as listener, Client(listener.place) as client:
        assert client.call(b"", HEALTH_CHECK).message == serving
        assert client.call(named, HEALTH_CHECK).message == serving
        listener.server.set_serving(False)
        assert client.call(named, HEALTH_CHECK).message == not_serving
        assert client.call(b"\x0a\x07nothing", HEALTH_CHECK).status is RpcStatus.NOT_FOUND
        assert client.call(b"\x0a\xff", HEALTH_CHECK).status is RpcStatus.INVALID_ARGUMENT
        assert listener.rpcs(RpcMethod.HEALTH_CHECK, RpcStatus.OK) == 3
        assert listener.rpcs(RpcMethod.HEALTH_CHECK, RpcStatus.NOT_FOUND) == 1
        assert listener.rpcs(RpcMethod.HEALTH_CHECK, RpcStatus.INVALID_ARGUMENT) == 1


def test_calls_when_made_then_each_is_counted_by_method_and_status_and_timed() -> None:
    with listening() as listener, Client(listener.place) as client:
        for _ in range(3):
            client.call(question())
        client.call(question("nonsense"))
        client.call(batch(question(), question()), BATCH_AUTHORIZE)
        client.call(b"", "/nothing")
        client.call(b"", fields=call_fields(method="GET"))
        cancelled = client.start()
        client.h2.reset_stream(cancelled)
        client.flush()
        client.call(question())

        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.OK) == 4
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.INVALID_ARGUMENT) == 1
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.UNKNOWN) == 1
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.CANCELLED) == 1
        assert listener.rpcs(RpcMethod.BATCH_AUTHORIZE, RpcStatus.OK) == 1
        assert listener.rpcs(RpcMethod.UNKNOWN, RpcStatus.UNIMPLEMENTED) == 1
        assert listener.total("batch_requests") == 2
        telemetry = listener.server.telemetry()[1]
        assert sum(listener.decisions().values()) == 6
        assert sum(telemetry["reading"]["counts"]) == sum(telemetry["deciding"]["counts"]) == 6
        # The last answer has left, but the clock may not have been read after it yet.
        assert sum(telemetry["request"]["counts"]) in (7, 8)


def test_decisions_when_there_is_no_image_then_denied() -> None:
    with listening() as listener, Client(listener.place) as client:
        listener.server.publish(None)
        answer = pb.AuthorizeResponse.FromString(client.call(question()).message)

        assert answer.decision == pb.DECISION_IMPLICIT_DENY
        assert answer.reason == "no_snapshot"


def test_large_answers_when_a_batch_asks_for_many_then_all_arrive(shared: Listener) -> None:
    def ask(place: Place) -> None:
        filler = {"app:text": pb.ContextValue(values=["x" * 1000])}
        asked = question(context=filler)
        with good_client(place) as client:
            answer = client.call(batch(*[asked] * 900), BATCH_AUTHORIZE)
            responses = pb.BatchAuthorizeResponse.FromString(answer.message).responses
            assert {one.SerializeToString() for one in responses} == {right_answer(asked)}
            assert len(responses) == 900

    for place in shared.places:
        ask(place)
