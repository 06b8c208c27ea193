# SPDX-License-Identifier: Apache-2.0
"""
Every limit on what peers may have open, send and hold up: it is hit, counted, and others are served meanwhile.
"""

import json
import subprocess
import sys
from contextlib import ExitStack, suppress

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from sidecar.model.listener import CloseReason, ListenerLimit, RpcMethod, RpcStatus
from sidecar.transports.data_listener import DataLimits
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.listener.peers import (
    AUTHORIZE,
    BATCH_AUTHORIZE,
    PREFACE,
    Answer,
    Client,
    Wire,
    call_fields,
    framed,
    good_client,
)
from tests.listener.serving import batch, eventually, listening, question, right_answer

PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 1, 7, 8, 11
#: Too short to wait for, long enough for a slow machine to do its part in.
SHORT = 0.15


def test_connections_when_there_are_too_many_then_the_next_is_refused_and_a_place_freed_is_given_again() -> None:
    with listening(DataLimits(connections=4), workers=2) as listener, good_client(listener.place):
        with ExitStack() as others:
            for _ in range(3):
                assert others.enter_context(Client(listener.place)).call(question()).message
            with Wire(listener.place) as refused:
                assert refused.goodbye() is None
            assert listener.hits(ListenerLimit.CONNECTIONS) == 1
            assert listener.total("accepted") == 4
        eventually(lambda: listener.total("connections") == 1)
        with Client(listener.place) as again:
            assert again.call(question()).message == right_answer(question())


def test_streams_when_the_client_knows_the_limit_and_exceeds_it_then_the_excess_is_not_served() -> None:
    with listening(DataLimits(streams=10)) as listener, good_client(listener.place), Wire(listener.place) as wire:
        # The first PING is answered behind the settings of the listener, so the second follows our acknowledgement.
        wire.synchronize()
        wire.synchronize()
        for stream in range(1, 2 * 10, 2):
            wire.send(wire.headers(stream))
        wire.synchronize()
        assert listener.hits(ListenerLimit.STREAMS) == 0
        wire.send(wire.headers(21))

        # SPEC: RFC 9113, section 5.1.2: an error of the stream; section 5.4 lets us take it for one of the connection.
        goodbye = wire.goodbye()
        assert goodbye is not None
        assert goodbye.error_code == PROTOCOL_ERROR
        assert listener.hits(ListenerLimit.STREAMS) == 1


def test_streams_when_the_client_does_not_know_the_limit_yet_then_the_excess_is_refused() -> None:
    with (
        listening(DataLimits(streams=10)) as listener,
        good_client(listener.place),
        Wire(listener.place, greets=False) as wire,
    ):
        wire.send(PREFACE, SettingsFrame(0, {}), *[wire.headers(stream) for stream in range(1, 2 * 15, 2)])

        for stream in range(2 * 10 + 1, 2 * 15, 2):
            assert wire.finish(stream).reset == REFUSED_STREAM
        assert listener.hits(ListenerLimit.STREAMS) == 5
        for stream in range(1, 2 * 10, 2):
            wire.send(DataFrame(stream, framed(question()), flags=["END_STREAM"]))
            assert wire.finish(stream).message == right_answer(question())


def test_streams_when_a_worker_has_too_many_then_the_excess_is_refused_on_every_connection() -> None:
    with listening(DataLimits(worker_streams=10)) as listener:
        with Wire(listener.place) as one, Wire(listener.place) as two:
            one.send(*[one.headers(stream) for stream in range(1, 2 * 8, 2)])
            one.synchronize()
            two.send(*[two.headers(stream) for stream in range(1, 2 * 4, 2)])
            assert two.finish(5).reset == REFUSED_STREAM
            assert two.finish(7).reset == REFUSED_STREAM
            assert listener.hits(ListenerLimit.STREAMS) == 2
            assert listener.total("streams") == 10
            for stream in (1, 3):
                two.send(DataFrame(stream, framed(question()), flags=["END_STREAM"]))
                assert two.finish(stream).message == right_answer(question())
            two.send(two.call(9, question()))
            assert two.finish(9).message == right_answer(question())
        eventually(lambda: listener.total("streams") == 0)
        with good_client(listener.place):
            pass


@pytest.mark.parametrize("pieces", [1, 5])
def test_header_list_when_it_is_too_large_then_its_call_alone_is_refused(pieces: int) -> None:
    with listening(DataLimits(header_bytes=1000)) as listener, good_client(listener.place):
        with Wire(listener.place) as wire:
            text = wire.block(call_fields(AUTHORIZE, *[(f"x-{number}", "y" * 100) for number in range(20)]))
            size = len(text) // pieces + 1
            parts = [text[at : at + size] for at in range(0, len(text), size)]
            frames = [HeadersFrame(1, parts[0]), *[ContinuationFrame(1, part) for part in parts[1:]]]
            frames[-1].flags.add("END_HEADERS")
            wire.send(*frames, DataFrame(1, framed(question()), flags=["END_STREAM"]))
            wire.send(wire.call(3, question()))

            assert wire.finish(1).status is RpcStatus.RESOURCE_EXHAUSTED
            assert wire.finish(1).is_trailers_only
            assert wire.finish(3).message == right_answer(question())
        assert listener.hits(ListenerLimit.HEADER_BYTES) == 1


def test_header_list_when_it_is_as_large_as_may_be_then_it_is_read() -> None:
    # RFC 9113, section 6.5.2: the size counts names, values and 32 bytes for each field.
    fields = call_fields(AUTHORIZE)
    rest = 1000 - sum(len(name) + len(value) + 32 for name, value in fields) - len("x-rest") - 32
    with listening(DataLimits(header_bytes=1000)) as listener, Client(listener.place) as client:
        assert client.call(question(), fields=[*fields, ("x-rest", "y" * rest)]).message
        more = client.call(question(), fields=[*fields, ("x-rest", "y" * (rest + 1))])
        assert more.status is RpcStatus.RESOURCE_EXHAUSTED
        assert listener.hits(ListenerLimit.HEADER_BYTES) == 1


def test_header_list_when_trailers_make_it_too_large_then_their_call_alone_is_refused() -> None:
    with listening(DataLimits(header_bytes=1000)) as listener, good_client(listener.place):
        with Wire(listener.place) as wire:
            wire.send(wire.headers(1), DataFrame(1, framed(question())))
            trailers = wire.block([(f"x-{number}", "y" * 100) for number in range(10)])
            wire.send(HeadersFrame(1, trailers, flags=["END_HEADERS", "END_STREAM"]), wire.call(3, question()))

            assert wire.finish(1).status is RpcStatus.RESOURCE_EXHAUSTED
            assert wire.finish(1).is_trailers_only
            assert wire.finish(3).message == right_answer(question())
        assert listener.hits(ListenerLimit.HEADER_BYTES) == 1


def test_header_list_when_a_small_block_grows_beyond_all_bounds_then_the_connection_ends() -> None:
    with listening(DataLimits(header_bytes=1000)) as listener, good_client(listener.place):
        with Wire(listener.place) as wire:
            # One field of 3,000 bytes that is named again by a byte each.
            text = wire.block([*call_fields(), ("x-bomb", "y" * 3000)])
            again = wire.block([("x-bomb", "y" * 3000)])
            assert len(again) == 1
            wire.send(HeadersFrame(1, text + again * 10_000, flags=["END_HEADERS"]))

            goodbye = wire.goodbye()
        assert goodbye is not None
        assert goodbye.error_code == ENHANCE_YOUR_CALM
        assert listener.hits(ListenerLimit.HEADER_BYTES) == 1
        assert listener.closed(CloseReason.HEADER_BYTES) == 1


def test_trailers_of_a_request_when_they_are_too_large_then_they_count_as_well() -> None:
    with listening(DataLimits(header_bytes=1000)) as listener, good_client(listener.place):
        with Wire(listener.place) as wire:
            wire.send(wire.headers(1), DataFrame(1, framed(question())))
            trailers = wire.block([(f"x-{number}", "y" * 100) for number in range(100)])
            wire.send(HeadersFrame(1, trailers, flags=["END_HEADERS", "END_STREAM"]))

            goodbye = wire.goodbye()
        assert goodbye is not None
        assert goodbye.error_code == ENHANCE_YOUR_CALM
        assert listener.hits(ListenerLimit.HEADER_BYTES) == 1


def test_message_memory_when_it_is_used_up_then_large_messages_are_refused_and_small_ones_served() -> None:
    with (
        listening(DataLimits(message_memory=200_000)) as listener,
        good_client(listener.place) as good,
        Client(listener.place) as client,
    ):
        streams = [client.start(BATCH_AUTHORIZE) for _ in range(4)]
        large = framed(batch(*[question(context={"app:x": pb.ContextValue(values=["y" * 4000] * 10)})] * 2))
        for stream in streams:
            client.send(stream, large[:60_000], end=False)
        answers = [client.answers[stream] for stream in streams]
        while not any(answer.has_ended for answer in answers):
            assert client.pump()
        refused = next(answer for answer in answers if answer.has_ended)
        assert refused.status is RpcStatus.RESOURCE_EXHAUSTED
        assert refused.text == "there are too many large messages under way"
        assert listener.hits(ListenerLimit.MESSAGE_MEMORY) >= 1
        assert good.call(question()).message == right_answer(question())
        kept, *others = [stream for stream, answer in zip(streams, answers, strict=True) if not answer.has_ended]
        for stream in others:
            client.h2.reset_stream(stream, CANCEL)
        client.send(kept, large[60_000:])
        assert client.finish(kept).status is RpcStatus.OK
        # All of it was given back.
        for _ in range(5):
            assert client.call(large[5:], BATCH_AUTHORIZE).status is RpcStatus.OK


def test_message_memory_when_answers_are_not_taken_then_they_count_as_well() -> None:
    filler = {"app:x": pb.ContextValue(values=["y" * 100])}
    asked = batch(*[question(context=filler)] * 100)
    with (
        listening(DataLimits(message_memory=120_000)) as listener,
        good_client(listener.place),
        Client(listener.place, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}, refills=False) as client,
    ):
        streams = []
        while not listener.hits(ListenerLimit.MESSAGE_MEMORY):
            streams.append(client.start(BATCH_AUTHORIZE))
            client.send(streams[-1], framed(asked))
            client.h2.ping(b"12345678")
            client.flush()
            client.pump()
            assert len(streams) < 100
        assert client.finish(streams[-1]).status is RpcStatus.RESOURCE_EXHAUSTED


def test_connection_when_it_does_nothing_for_too_long_then_it_is_told_and_ends() -> None:
    with listening(DataLimits(idle_seconds=SHORT)) as listener, Client(listener.place) as busy:
        stream = busy.start()  # A call under way is not idle.
        with Wire(listener.place) as wire:
            wire.send(wire.call(1, question()))
            assert wire.finish(1).message
            goodbye = wire.goodbye()
            assert goodbye is not None
            assert goodbye.error_code == 0
            assert goodbye.last_stream_id == 1
        assert listener.hits(ListenerLimit.IDLE) == 1
        assert listener.closed(CloseReason.IDLE) == 1
        busy.send(stream, framed(question()))
        assert busy.finish(stream).message == right_answer(question())


@pytest.mark.parametrize("first", [b"", PREFACE[:10], PREFACE, PREFACE + b"\0\0\6\4"])
def test_connection_when_its_beginning_takes_too_long_then_it_ends(first: bytes) -> None:
    with listening(DataLimits(handshake_seconds=SHORT)) as listener, Client(listener.place) as busy:
        stream = busy.start()
        with Wire(listener.place, greets=False, answers=False) as wire:
            wire.send(first)
            goodbye = wire.goodbye()
            assert goodbye is not None
            assert goodbye.error_code == ENHANCE_YOUR_CALM
        assert listener.hits(ListenerLimit.HANDSHAKE) == 1
        assert listener.closed(CloseReason.HANDSHAKE) == 1
        busy.send(stream, framed(question()))
        assert busy.finish(stream).message == right_answer(question())


@pytest.mark.parametrize("what", ["no message", "half a message", "half a header block"])
def test_request_when_it_comes_too_slowly_then_it_is_refused_and_others_go_on(what: str) -> None:
    with (
        listening(DataLimits(request_seconds=SHORT)) as listener,
        good_client(listener.place),
        Wire(listener.place) as wire,
    ):
        wire.synchronize()
        if what == "half a header block":
            frame = wire.headers(1)
            half = HeadersFrame(1, frame.data[: len(frame.data) // 2])
            wire.send(half)
            assert wire.finish(1).status is RpcStatus.DEADLINE_EXCEEDED
            wire.send(ContinuationFrame(1, frame.data[len(half.data) :], flags=["END_HEADERS"]))
        else:
            wire.send(wire.headers(1))
            if what == "half a message":
                wire.send(DataFrame(1, framed(question())[:20]))
            assert wire.finish(1).status is RpcStatus.DEADLINE_EXCEEDED
        assert wire.answers[1].text == "the request took too long to arrive"
        assert listener.hits(ListenerLimit.SLOW_REQUEST) == 1
        wire.send(wire.call(3, question()))
        assert wire.finish(3).message == right_answer(question())


def test_request_when_a_byte_comes_now_and_then_then_it_is_refused_all_the_same() -> None:
    with listening(DataLimits(request_seconds=SHORT)) as listener, good_client(listener.place):
        with Wire(listener.place) as wire:
            wire.send(wire.headers(1))
            wire.socket.settimeout(0.02)
            for byte in framed(question()):
                wire.send(DataFrame(1, bytes([byte])))
                with suppress(TimeoutError):
                    while not wire.answers.setdefault(1, Answer()).has_ended:
                        wire.receive()
                if wire.answers[1].has_ended:
                    break
            assert wire.answers[1].status is RpcStatus.DEADLINE_EXCEEDED
        assert listener.hits(ListenerLimit.SLOW_REQUEST) == 1


def test_answer_when_its_window_stays_shut_then_it_is_reset_and_others_go_on() -> None:
    with listening(DataLimits(write_seconds=SHORT)) as listener, good_client(listener.place):
        with Wire(listener.place, settings={4: 0}) as wire:
            wire.send(wire.call(1, question()))
            assert wire.finish(1).reset == CANCEL
            assert listener.hits(ListenerLimit.SLOW_READER) == 1
            wire.send(SettingsFrame(0, {4: 65535}), wire.call(3, question()))
            assert wire.finish(3).message == right_answer(question())
        # It was answered, so it is not counted as cancelled.
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.CANCELLED) == 0


def test_answers_when_the_window_of_the_connection_stays_shut_then_they_are_reset() -> None:
    filler = {"app:x": pb.ContextValue(values=["y"])}
    asked = batch(*[question(context=filler)] * 500)
    with listening(DataLimits(write_seconds=SHORT)) as listener, good_client(listener.place):
        with Wire(listener.place, settings={4: 2**31 - 1}) as wire:
            for stream in (1, 3):
                wire.send(wire.headers(stream, fields=call_fields(BATCH_AUTHORIZE)))
                data = framed(asked)
                for at in range(0, len(data), 16384):
                    last = ["END_STREAM"] if at + 16384 >= len(data) else []
                    wire.send(DataFrame(stream, data[at : at + 16384], flags=last))
            assert {wire.finish(1).reset, wire.finish(3).reset} >= {CANCEL}
        assert listener.hits(ListenerLimit.SLOW_READER) in (1, 2)


@pytest.mark.parametrize("unix", [False, True])
def test_answers_when_the_socket_is_not_read_then_the_connection_ends_and_others_go_on(unix: bool) -> None:
    asked = framed(batch(*[question()] * 1000))
    with listening(DataLimits(write_seconds=SHORT), unix=unix) as listener, good_client(listener.place):
        with Wire(listener.place, settings={4: 2**31 - 1}, receive_buffer=4096) as wire:
            wire.send(WindowUpdateFrame(0, window_increment=2**31 - 1 - 65535))
            wire.socket.settimeout(SHORT)
            for stream in range(1, 200, 2):
                frames: list[Frame] = [wire.headers(stream, fields=call_fields(BATCH_AUTHORIZE))]
                for at in range(0, len(asked), 16384):
                    last = ["END_STREAM"] if at + 16384 >= len(asked) else []
                    frames.append(DataFrame(stream, asked[at : at + 16384], flags=last))
                try:
                    wire.send(*frames)
                except OSError:
                    # It reads no more of us than we do of it.
                    break
            eventually(lambda: listener.closed(CloseReason.SLOW_READER) == 1)
        assert listener.hits(ListenerLimit.SLOW_READER) >= 1


def test_descriptors_when_there_are_no_more_then_connections_are_refused_and_those_open_go_on() -> None:
    # In a process of its own: the limit is the process's.
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.listener.few_descriptors"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child, ExitStack() as open_ones:
        place = ("127.0.0.1", int(child.stdout.readline()))
        wires = [open_ones.enter_context(Wire(place)) for _ in range(40)]
        served = [wire for wire in wires if _is_served(wire)]
        assert 4 <= len(served) < 40
        child.stdin.write("\n")
        child.stdin.flush()
        counted = json.loads(child.stdout.readline())
        assert counted["hits"] == 40 - len(served)
        # A place that is given back can be had again.
        served[0].socket.close()
        for _ in range(1000):
            with Wire(place) as again:
                if _is_served(again):
                    break
        else:
            raise AssertionError("it never served again")
        child.stdin.write("\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["good"]
    assert child.returncode == 0


def _is_served(wire: Wire) -> bool:
    try:
        wire.send(wire.call(1, question()))
        while (frame := wire.receive()) is not None:
            if frame.stream_id == 1 and wire.answers[1].has_ended:
                return wire.answers[1].message == right_answer(question())
    except (BrokenPipeError, ConnectionResetError):
        return False
    return False
