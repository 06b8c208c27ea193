# SPDX-License-Identifier: Apache-2.0
"""
What HTTP/2 asks of a server whose calls come on streams: windows, settings, resets, and rules that a peer breaks.
"""

import random

import pytest
from h2.events import PingAckReceived, RemoteSettingsChanged, SettingsAcknowledged
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from sidecar.model.listener import RpcMethod, RpcStatus
from sidecar.model.request import MAX_BATCH_BYTES
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
from tests.listener.serving import Listener, batch, eventually, listening, question, right_answer

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR = 0, 1, 3, 5, 6, 9
CANCEL = 8


def large_batch() -> bytes:
    """Return a batch that is nearly as large as one may be."""
    filler = {"app:text": pb.ContextValue(values=["x" * 4000] * 16)}
    asked = [question(context=filler)] * 16
    data = batch(*asked)
    assert MAX_BATCH_BYTES - 70_000 < len(data) <= MAX_BATCH_BYTES
    return data


def test_windows_when_the_client_opens_them_byte_by_byte_then_the_answer_trickles(shared: Listener) -> None:
    with Client(shared.place, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1}, refills=False) as client:
        stream = client.start()
        client.send(stream, framed(question()))
        answer = client.answers[stream]
        want = framed(right_answer(question()))
        for length in range(1, len(want) + 1):
            while len(answer.data) < length:
                assert client.pump()
            assert len(answer.data) == length, "more than the window allowed"
            if length < len(want):
                client.h2.increment_flow_control_window(1, stream)
                client.flush()
        assert client.finish(stream).message == right_answer(question())
        assert answer.data == want


def test_windows_when_that_of_the_connection_is_used_up_then_answers_wait_for_it(shared: Listener) -> None:
    with Wire(shared.place, settings={4: 1 << 20}) as wire:
        filler = {"app:text": pb.ContextValue(values=["x"])}
        asked = batch(*[question(context=filler)] * 900)
        wire.send(wire.headers(1, fields=call_fields(BATCH_AUTHORIZE)))
        data = framed(asked)
        for at in range(0, len(data), 16384):
            last = at + 16384 >= len(data)
            wire.send(DataFrame(1, data[at : at + 16384], flags=["END_STREAM"] if last else []))
        answer = wire.answers.setdefault(1, Answer())
        while len(answer.data) < 65535:
            assert wire.receive() is not None
        wire.synchronize()
        assert len(answer.data) == 65535
        wire.send(WindowUpdateFrame(0, window_increment=1 << 20))
        responses = pb.BatchAuthorizeResponse.FromString(wire.finish(1).message).responses
        assert len(responses) == 900


@pytest.mark.parametrize("window", [0, 1, 100, 65535, 2**31 - 1])
def test_settings_when_the_window_is_of_any_size_then_answers_come_once_there_is_room(
    shared: Listener, window: int
) -> None:
    with Client(shared.place, settings={SettingCodes.INITIAL_WINDOW_SIZE: window}, refills=False) as client:
        stream = client.start()
        client.send(stream, framed(question()))
        if window < 1000:
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
            client.flush()

        assert client.finish(stream).message == right_answer(question())


def test_settings_when_the_window_shrinks_below_what_is_under_way_then_the_rest_waits(shared: Listener) -> None:
    with Client(shared.place, settings={SettingCodes.INITIAL_WINDOW_SIZE: 20}, refills=False) as client:
        stream = client.start()
        client.send(stream, framed(question()))
        answer = client.answers[stream]
        while len(answer.data) < 20:
            assert client.pump()
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.flush()
        client.wait_for(SettingsAcknowledged)
        client.h2.increment_flow_control_window(20, stream)
        client.h2.increment_flow_control_window(5, stream)
        client.flush()
        while len(answer.data) < 25:
            assert client.pump()
        client.h2.increment_flow_control_window(1000, stream)
        client.flush()

        assert client.finish(stream).message == right_answer(question())


@pytest.mark.parametrize("window", [1, 1000, 65535])
def test_batch_when_it_is_a_mebibyte_then_windows_both_ways_let_it_through(shared: Listener, window: int) -> None:
    data = large_batch()
    for place in shared.places:
        settings = {SettingCodes.INITIAL_WINDOW_SIZE: window} if window > 1 else {}
        with Client(place, settings=settings) as client:
            pieces = 16384 if window > 1 else 1300
            streams = [client.start(BATCH_AUTHORIZE) for _ in range(3)]
            for stream in streams:
                client.send(stream, framed(data), piece=pieces)
            for stream in streams:
                responses = pb.BatchAuthorizeResponse.FromString(client.finish(stream).message).responses
                assert len(responses) == 16


def test_settings_when_the_listener_sends_its_own_then_they_say_its_limits() -> None:
    with listening(DataLimits(streams=77, header_bytes=5000)) as listener, Client(listener.place) as client:
        changed = client.wait_for(RemoteSettingsChanged)
        assert isinstance(changed, RemoteSettingsChanged)
        values = {code: setting.new_value for code, setting in changed.changed_settings.items()}
        assert values[SettingCodes.MAX_CONCURRENT_STREAMS] == 77
        assert values[SettingCodes.MAX_HEADER_LIST_SIZE] == 5000
        assert values[SettingCodes.INITIAL_WINDOW_SIZE] >= 65535


def test_settings_when_the_table_of_header_fields_shrinks_then_answers_can_still_be_read(shared: Listener) -> None:
    with Client(shared.place) as client:
        for size in (4096, 0, 64, 65536):
            client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
            client.flush()
            for _ in range(3):
                assert client.call(question()).message == right_answer(question())


def test_ping_when_it_comes_between_calls_then_it_is_answered_with_its_bytes(shared: Listener) -> None:
    with Client(shared.place) as client:
        client.h2.ping(b"12345678")
        client.flush()
        answered = client.wait_for(PingAckReceived)
        assert isinstance(answered, PingAckReceived)
        assert answered.ping_data == b"12345678"
        assert client.call(question()).message == right_answer(question())


def test_streams_when_a_hundred_are_interleaved_then_each_gets_its_own_answer(shared: Listener) -> None:
    chance = random.Random(1)
    actions = [f"s3:Get{number}" if number % 2 else f"ec2:Run{number}" for number in range(100)]
    with good_client(shared.place) as client:
        left = {client.start(): framed(question(action)) for action in actions}
        asked = dict(zip(left, actions, strict=True))
        while left:
            stream = chance.choice(list(left))
            size = chance.randrange(1, 60)
            client.send(stream, left[stream][:size], end=len(left[stream]) <= size)
            left[stream] = left[stream][size:]
            if not left[stream]:
                del left[stream]
        for stream, action in asked.items():
            assert client.finish(stream).message == right_answer(question(action))


def test_call_when_the_client_resets_it_at_any_point_then_nothing_is_left_of_it() -> None:
    with listening() as listener, good_client(listener.place) as client:
        points = 0
        data = framed(question())
        for length in range(-2, len(data), 9):
            for end in (False, True):
                stream = client.start(BATCH_AUTHORIZE if length % 2 else AUTHORIZE, end=length == -2 and end)
                if length >= 0:
                    client.send(stream, data[:length], end=end)
                if stream in client.answers and client.answers[stream].has_ended:
                    continue
                client.h2.reset_stream(stream, CANCEL)
                client.flush()
                points += 1
        # Answers that the client does not open its window for are reset too.
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.flush()
        client.wait_for(SettingsAcknowledged)
        for _ in range(10):
            stream = client.start()
            client.send(stream, data)
            client.pump()
            client.h2.reset_stream(stream, CANCEL)
            client.flush()
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65535})
        client.flush()
        eventually(lambda: listener.total("streams") == 0)
        assert points > 20
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.CANCELLED) > 0


def test_call_when_it_is_refused_early_then_the_rest_of_it_does_no_harm(shared: Listener) -> None:
    # What comes on a stream that is over still uses up the window of the connection; it has to be given back.
    with good_client(shared.place) as client:
        for _ in range(4):
            stream = client.start("/nothing")
            while client.h2.outbound_flow_control_window < 300_000 and client.h2.remote_flow_control_window(stream) < 1:
                client.pump()
            for _ in range(12):
                client.h2.send_data(stream, bytes(16384))
            client.flush()
            assert client.finish(stream).status is RpcStatus.UNIMPLEMENTED
        stream = client.start(BATCH_AUTHORIZE)
        client.send(stream, framed(large_batch()))
        assert client.finish(stream).status is RpcStatus.OK


#: A header block that can be read whatever came before.
_BLOCK = Encoder().encode(call_fields())

#: Frames that break a rule of HTTP/2, on a connection with a call open on stream 1.
BROKEN: dict[str, list[Frame | bytes]] = {
    "data on the connection": [b"\0\0\1\0\0\0\0\0\0x"],
    "data on an idle stream": [DataFrame(99, b"x")],
    "headers on an even stream": [HeadersFrame(4, _BLOCK, flags=["END_HEADERS"])],
    "headers on the connection": [b"\0\0\1\1\4\0\0\0\0\x82"],
    "reset of an idle stream": [RstStreamFrame(99, CANCEL)],
    "reset of the connection": [b"\0\0\4\3\0\0\0\0\0\0\0\0\0"],
    "window of an idle stream": [WindowUpdateFrame(99, window_increment=1)],
    "window of a stream opened by nothing": [b"\0\0\4\x08\0\0\0\0\1\0\0\0\0"],
    "settings acknowledged that were not sent": [SettingsFrame(flags=["ACK"])] * 3,
    "window of nothing": [b"\0\0\4\x08\0\0\0\0\0\0\0\0\0"],
    "window beyond the largest": [WindowUpdateFrame(0, window_increment=2**31 - 1)] * 2,
    "continuation of nothing": [ContinuationFrame(1, _BLOCK, flags=["END_HEADERS"])],
    "another frame inside of a header block": [HeadersFrame(3, _BLOCK), WindowUpdateFrame(0, window_increment=1)],
    "another stream inside of a header block": [HeadersFrame(3, _BLOCK), ContinuationFrame(5, b"")],
    "a header block that cannot be read": [HeadersFrame(3, b"\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"])],
    "padding longer than the frame": [b"\0\0\2\0\x08\0\0\0\1\xff\0"],
    "a frame larger than was agreed": [b"\0\x40\1\0\0\0\0\0\1" + bytes(16385)],
    "settings of a stream": [b"\0\0\0\4\0\0\0\0\1"],
    "settings of a strange length": [b"\0\0\5\4\0\0\0\0\0\0\0\0\0\0"],
    "an acknowledgement with settings": [b"\0\0\6\4\1\0\0\0\0\0\0\0\0\0\0"],
    "a window larger than the largest": [SettingsFrame(0, {4: 2**31})],
    "frames smaller than the smallest": [SettingsFrame(0, {5: 1})],
    "push that is neither on nor off": [SettingsFrame(0, {2: 2})],
    "a ping of a stream": [b"\0\0\x08\6\0\0\0\0\1" + bytes(8)],
    "a ping of a strange length": [b"\0\0\7\6\0\0\0\0\0" + bytes(7)],
    "a promise": [b"\0\0\5\5\4\0\0\0\1\0\0\0\2\x82"],
    "a goodbye of a stream": [b"\0\0\x08\7\0\0\0\0\1" + bytes(8)],
    "a table size that was not agreed": [HeadersFrame(3, b"\x3f\xff\xff\x07" + _BLOCK, flags=["END_HEADERS"])],
    "bytes that are no frames": [b"\xff" * 64],
}


@pytest.mark.parametrize("what", BROKEN)
def test_connection_when_a_rule_of_it_is_broken_then_it_ends_and_others_go_on(shared: Listener, what: str) -> None:
    with good_client(shared.place), Wire(shared.place) as wire:
        wire.send(wire.headers(1))
        wire.send(*BROKEN[what])

        goodbye = wire.goodbye()

    assert goodbye is not None
    assert goodbye.error_code in (
        PROTOCOL_ERROR,
        FLOW_CONTROL_ERROR,
        STREAM_CLOSED,
        FRAME_SIZE_ERROR,
        COMPRESSION_ERROR,
    )


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        PREFACE[:-1] + b"x",
        PREFACE + b"\0\0\0\6\0\0\0\0\0",
        b"\0" * 24,
    ],
)
def test_connection_when_it_begins_with_something_else_then_it_ends(shared: Listener, first: bytes) -> None:
    with good_client(shared.place), Wire(shared.place, greets=False) as wire:
        wire.send(first.ljust(64, b"\0"))

        wire.goodbye()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (call_fields(without=[":path"]), "no path"),
        (call_fields(without=[":method"]), "no method"),
        (call_fields(without=[":scheme"]), "no scheme"),
        ([*call_fields(), (":path", AUTHORIZE)], "path behind"),
        ([(":path", AUTHORIZE), *call_fields()], "path twice"),
        ([*call_fields(), ("Upper", "x")], "upper case"),
        ([*call_fields(), ("connection", "close")], "connection"),
        ([(":strange", "x"), *call_fields()], "strange pseudo field"),
        (call_fields(content_length="7"), "wrong length"),
        ([*call_fields(), ("content-length", "nonsense")], "length that is none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stream_when_its_header_list_is_malformed_then_it_alone_is_reset(
    shared: Listener, fields: list[tuple[str, str]], name: str
) -> None:
    with Wire(shared.place) as wire:
        wire.send(wire.call(1, question(), fields=fields))
        wire.send(wire.call(3, question()))

        assert wire.finish(3).message == right_answer(question())
        assert wire.finish(1).reset == PROTOCOL_ERROR, name


#: Frames on the stream of a call that is open, or whose answer waits for its window.
MISTAKES: dict[str, list[Frame | bytes]] = {
    "a second header list that does not end it": [HeadersFrame(1, _BLOCK, flags=["END_HEADERS"])],
    "trailers with a pseudo field": [HeadersFrame(1, _BLOCK, flags=["END_HEADERS", "END_STREAM"])],
    "a window opened too far": [WindowUpdateFrame(1, window_increment=2**31 - 1)] * 2,
    "a window opened by nothing": [b"\0\0\4\x08\0\0\0\0\1\0\0\0\0"],
    "data behind its end": [DataFrame(1, framed(question()), flags=["END_STREAM"]), DataFrame(1, b"x")],
    "a header list behind its end": [
        DataFrame(1, framed(question()), flags=["END_STREAM"]),
        HeadersFrame(1, _BLOCK, flags=["END_HEADERS", "END_STREAM"]),
    ],
}


@pytest.mark.parametrize("what", MISTAKES)
def test_stream_when_a_rule_of_it_is_broken_then_it_or_its_connection_ends(shared: Listener, what: str) -> None:
    with good_client(shared.place), Wire(shared.place, settings={4: 0}) as wire:
        wire.send(wire.headers(1))
        wire.send(*MISTAKES[what])
        while wire.answers.setdefault(1, Answer()).reset is None and not wire.goodbyes:
            assert wire.receive() is not None

        code = wire.goodbyes[0].error_code if wire.goodbyes else wire.answers[1].reset
        assert code in (PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED)
        assert not wire.answers[1].has_ended


def test_stream_when_it_is_over_then_late_frames_are_ignored(shared: Listener) -> None:
    with Wire(shared.place) as wire:
        wire.send(wire.call(1, question()))
        assert wire.finish(1).message == right_answer(question())
        wire.send(
            DataFrame(1, b"late"),
            WindowUpdateFrame(1, window_increment=5),
            PriorityFrame(1, depends_on=0, stream_weight=7),
            RstStreamFrame(1, CANCEL),
        )
        wire.send(wire.headers(1))
        wire.send(wire.call(3, question()))

        assert wire.finish(3).message == right_answer(question())


def test_stream_when_priorities_make_a_circle_then_nothing_comes_of_it(shared: Listener) -> None:
    with Wire(shared.place) as wire:
        for stream in range(3, 40, 2):
            wire.send(PriorityFrame(stream, depends_on=stream + 2, stream_weight=255, exclusive=True))
        wire.send(PriorityFrame(41, depends_on=3, stream_weight=1))
        wire.send(wire.call(43, question()))

        assert wire.finish(43).message == right_answer(question())


def test_frames_when_their_type_is_unknown_then_they_are_ignored(shared: Listener) -> None:
    with Wire(shared.place) as wire:
        wire.send(b"\0\0\4\x7f\xff\0\0\0\0abcd", b"\0\0\0\xfe\0\0\0\0\7", SettingsFrame(0, {0x7777: 5}))
        wire.send(wire.call(1, question()))

        assert wire.finish(1).message == right_answer(question())


def test_connection_when_the_peer_says_goodbye_then_what_is_under_way_is_answered(shared: Listener) -> None:
    with Wire(shared.place) as wire:
        wire.send(
            wire.headers(1), GoAwayFrame(0, last_stream_id=0), DataFrame(1, framed(question()), flags=["END_STREAM"])
        )

        assert wire.finish(1).message == right_answer(question())
        wire.goodbye()


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_connection_when_it_vanishes_at_any_point_then_nothing_is_left_of_it(length: int) -> None:
    with listening() as listener:
        with Wire(listener.place, greets=False) as wire:
            whole = PREFACE + SettingsFrame().serialize() + wire.call(1, question())
            wire.send(whole[:length])
        with good_client(listener.place):
            eventually(lambda: listener.total("connections") == 1)
            assert listener.total("streams") == 0
