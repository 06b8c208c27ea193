# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.model.errors import InternalError, SettingsError, SourceUnavailableError
from sidecar.services.bells import Bell
from sidecar.services.metrics import NullMetrics
from sidecar.transports import grpc_streams
from sidecar.transports.addresses import TcpAddress
from sidecar.transports.calls import current_caller
from sidecar.transports.certificates import TlsFiles
from sidecar.transports.grpc_server import GrpcListener
from sidecar.transports.grpc_services import AUTHORIZATION_SERVICE, SNAPSHOT_SERVICE
from sidecar.transports.grpc_streams import StreamMethod
from sidecar.transports.permissions import Method
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

LOOPBACK = TcpAddress("127.0.0.1", 0)


class Recorder(NullMetrics):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rpcs: list[tuple[str, str]] = []
        self.denials = 0

    def record_rpc(self, method: str, code: str) -> None:
        self.rpcs.append((method, code))

    def record_fault_denials(self, count: int) -> None:
        self.denials += count


class Log:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **values: object) -> None:
        self.events.append((event, values))

    warning = error = info


def failing(error: Exception) -> Method:
    def method(_request: bytes) -> bytes:
        raise error

    return method


@contextmanager
def listening(service: str, name: str, method: Method, metrics: Recorder, log: Log) -> Iterator[Any]:
    """Serve one method, and give what calls it with bytes."""
    listener = GrpcListener(addresses=[LOOPBACK], methods={service: {name: method}}, metrics=metrics, log=log)
    (address,) = listener.start()
    try:
        with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield channel.unary_unary(f"/{service}/{name}")
    finally:
        listener.stop(1)


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), InternalError("it failed", cause="secret")])
def test_authorize_when_a_fault_of_ours_comes_between_then_it_denies(error: Exception) -> None:
    metrics, log = Recorder(), Log()
    with listening(AUTHORIZATION_SERVICE, "Authorize", failing(error), metrics, log) as call:
        answer = pb.AuthorizeResponse.FromString(call(b"", timeout=60))

    assert answer == pb.AuthorizeResponse(decision=pb.DECISION_IMPLICIT_DENY, reason="internal_error")
    assert metrics.denials == 1
    assert metrics.rpcs == [("AuthorizationService/Authorize", "OK")]
    ((event, values),) = log.events
    assert event == "rpc_failed"
    assert "secret" in str(values["cause"])


def test_batch_when_a_fault_of_ours_comes_between_then_it_denies_each() -> None:
    metrics = Recorder()
    batch = pb.BatchAuthorizeRequest(requests=[pb.AuthorizeRequest(action="a:B")] * 3).SerializeToString()
    with listening(AUTHORIZATION_SERVICE, "BatchAuthorize", failing(MemoryError()), metrics, Log()) as call:
        answers = pb.BatchAuthorizeResponse.FromString(call(batch, timeout=60)).responses

    assert [answer.decision for answer in answers] == [pb.DECISION_IMPLICIT_DENY] * 3
    assert metrics.denials == 3


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), InternalError("it failed", cause="secret")])
def test_other_methods_when_a_fault_of_ours_comes_between_then_the_cause_is_in_the_log_alone(error: Exception) -> None:
    metrics, log = Recorder(), Log()
    with (
        listening(SNAPSHOT_SERVICE, "GetSnapshot", failing(error), metrics, log) as call,
        pytest.raises(grpc.RpcError) as caught,
    ):
        call(b"", timeout=60)

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert "secret" in str(log.events[0][1]["cause"])
    assert metrics.rpcs == [("SnapshotService/GetSnapshot", "INTERNAL")]
    assert log.events[0][1]["error_id"] in (caught.value.details() or "")


def test_methods_when_they_raise_ours_then_the_table_says_the_status() -> None:
    metrics = Recorder()
    error = SourceUnavailableError("gone", help="look")
    with (
        listening(SNAPSHOT_SERVICE, "GetSnapshot", failing(error), metrics, Log()) as call,
        pytest.raises(grpc.RpcError) as caught,
    ):
        call(b"", timeout=60)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "gone (look)"
    assert metrics.rpcs == [("SnapshotService/GetSnapshot", "UNAVAILABLE")]


def test_start_when_the_certificate_is_none_then_it_refuses(tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_text("nonsense")
    for name, words in (("nonsense", "are no certificate and its key"), ("nothing", "cannot be read: no such file")):
        tls = TlsFiles(tmp_path / name, tmp_path / name)
        listener = GrpcListener(addresses=[LOOPBACK], methods={}, tls=tls)
        with pytest.raises(SettingsError, match=words):
            listener.start()
        listener.stop(0)


def test_stop_when_a_call_is_under_way_then_it_is_answered() -> None:
    is_called, go_on = threading.Event(), threading.Event()

    def slow(_request: bytes) -> bytes:
        is_called.set()
        go_on.wait(60)
        return b"done"

    listener = GrpcListener(addresses=[LOOPBACK], methods={SNAPSHOT_SERVICE: {"GetSnapshot": slow}})
    (address,) = listener.start()
    with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SNAPSHOT_SERVICE}/GetSnapshot")
        future = call.future(b"", timeout=60)
        is_called.wait(60)
        stopping = threading.Thread(target=listener.stop, args=(60,))
        stopping.start()
        stopping.join(0.5)
        assert stopping.is_alive()
        go_on.set()
        assert future.result() == b"done"
        stopping.join(60)
        assert not stopping.is_alive()


def test_stop_when_a_call_never_ends_then_the_grace_does() -> None:
    is_called, go_on = threading.Event(), threading.Event()

    def endless(_request: bytes) -> bytes:
        is_called.set()
        go_on.wait(60)
        return b""

    listener = GrpcListener(addresses=[LOOPBACK], methods={SNAPSHOT_SERVICE: {"GetSnapshot": endless}})
    (address,) = listener.start()
    with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SNAPSHOT_SERVICE}/GetSnapshot")
        future = call.future(b"", timeout=60)
        is_called.wait(60)
        listener.stop(0.1)
        assert future.exception() is not None
        go_on.set()


@contextmanager
def streaming(stream: StreamMethod, metrics: Recorder | None = None) -> Iterator[tuple[GrpcListener, Any]]:
    """Serve one method that streams, and give the listener and what calls it with bytes."""
    listener = GrpcListener(
        addresses=[LOOPBACK],
        methods={SNAPSHOT_SERVICE: {}},
        streams={SNAPSHOT_SERVICE: {"Watch": stream}},
        metrics=metrics,
        log=Log(),
    )
    (address,) = listener.start()
    try:
        with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield listener, channel.unary_stream(f"/{SNAPSHOT_SERVICE}/Watch")
    finally:
        listener.stop(1)


def test_stream_when_it_ends_then_all_of_it_came_and_who_asked_was_known() -> None:
    metrics, peers = Recorder(), []

    def count(request: bytes, _bell: Bell) -> Iterator[bytes]:
        peers.append(current_caller().peer)
        return (bytes([number]) for number in range(request[0]))

    with streaming(count, metrics) as (_, call):
        assert list(call(b"\x03", timeout=60)) == [b"\x00", b"\x01", b"\x02"]

    assert metrics.rpcs == [("SnapshotService/Watch", "OK")]
    assert peers[0].startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize("is_late", [False, True])
def test_stream_when_it_raises_ours_then_the_table_says_the_status(is_late: bool) -> None:
    def refuse(_request: bytes, _bell: Bell) -> Iterator[bytes]:
        def messages() -> Iterator[bytes]:
            yield b"first"
            raise SourceUnavailableError("gone", help="look")

        if is_late:
            return messages()
        raise SourceUnavailableError("gone", help="look")

    with streaming(refuse) as (_, call):
        answers = call(b"", timeout=60)
        if is_late:
            assert next(answers) == b"first"
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "gone (look)")


def wait_for_the_bell(_request: bytes, bell: Bell) -> Iterator[bytes]:
    yield b"open"
    while not bell.is_over:
        bell.wait(60)


def test_stream_when_the_client_goes_then_it_ends() -> None:
    ended = threading.Event()

    def wait(request: bytes, bell: Bell) -> Iterator[bytes]:
        try:
            yield from wait_for_the_bell(request, bell)
        finally:
            # The call may end between two messages: nobody asks for a further one then.
            ended.set()

    with streaming(wait) as (_, call):
        answers = call(b"", timeout=60)
        assert next(answers) == b"open"
        answers.cancel()
        assert ended.wait(60)


def test_stream_when_the_listener_drains_then_its_client_is_told_to_call_again() -> None:
    with streaming(wait_for_the_bell) as (listener, call):
        answers = call(b"", timeout=60)
        assert next(answers) == b"open"
        stopping = threading.Thread(target=listener.stop, args=(60,))
        stopping.start()
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        stopping.join(60)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "the sidecar is shutting down (call again)"


def test_streams_when_there_are_too_many_then_a_further_one_is_refused_and_calls_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpc_streams, "MAX_STREAMS", 20)

    with streaming(wait_for_the_bell) as (_, call):
        # More than there are threads for other calls.
        open_streams = [call(b"", timeout=60) for _ in range(20)]
        assert [next(answers) for answers in open_streams] == [b"open"] * 20
        with pytest.raises(grpc.RpcError) as caught:
            next(call(b"", timeout=60))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        open_streams[0].cancel()
        eventually_open(call)
        for answers in open_streams:
            answers.cancel()


def eventually_open(call: Any) -> None:
    """Open a stream as soon as there is a place for it."""
    for _ in range(600):
        try:
            assert next(call(b"", timeout=60)) == b"open"
        except grpc.RpcError:
            threading.Event().wait(0.05)
        else:
            return
    raise AssertionError("no place came free")
