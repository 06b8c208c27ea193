# SPDX-License-Identifier: Apache-2.0
"""
Floods of cheap frames: the connection that sends them ends, the limit is counted, and others are served meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice, repeat

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from sidecar.model.listener import CloseReason, ListenerLimit
from sidecar.transports.data_listener import DataLimits
from tests.listener.peers import AUTHORIZE, Client, Wire, call_fields, framed, good_client
from tests.listener.serving import listening, question, right_answer

CANCEL, ENHANCE_YOUR_CALM = 8, 11
SMALL = DataLimits(reset_burst=20, reset_rate=1, control_burst=40, control_rate=1)

#: A header block of a call that can be read whatever came before, and leaves nothing behind.
_BLOCK = Encoder().encode(call_fields(), huffman=False)
_MALFORMED = Encoder().encode(call_fields(content_length="1"))
_UNKNOWN = Encoder().encode(call_fields("/nothing"))


def _headers(stream: int, block: bytes = _BLOCK, *flags: str) -> bytes:
    return HeadersFrame(stream, block, flags=["END_HEADERS", *flags]).serialize()


def _streams() -> Iterator[int]:
    # The first is the one that is open already.
    return count(3, 2)


def _call(stream: int) -> bytes:
    return _headers(stream) + DataFrame(stream, framed(question()), flags=["END_STREAM"]).serialize()


def _same(data: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: repeat(data)


def _of_streams(make: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    return lambda: (make(stream) for stream in _streams())


def _after(head: Frame, frame: Frame) -> Iterator[bytes]:
    return chain([head.serialize()], repeat(frame.serialize()))


@dataclass(frozen=True)
class Flood:
    """Bytes without end; a call is open on stream 1, and no window is."""

    bytes: Callable[[], Iterator[bytes]]
    limit: ListenerLimit
    reason: CloseReason


def _control(make: Callable[[], Iterator[bytes]]) -> Flood:
    return Flood(make, ListenerLimit.CONTROL_FRAMES, CloseReason.CONTROL_FRAMES)


def _made_you_reset(make: Callable[[int], bytes]) -> Flood:
    # CVE-2025-8671: mistakes of the peer that make the server reset streams that the peer then opens anew.
    return Flood(_of_streams(make), ListenerLimit.RESETS_SENT, CloseReason.RESETS_SENT)


FLOODS = {
    # CVE-2023-44487.
    "resets": Flood(
        _of_streams(lambda stream: _headers(stream) + RstStreamFrame(stream, CANCEL).serialize()),
        ListenerLimit.RESETS_RECEIVED,
        CloseReason.RESETS_RECEIVED,
    ),
    "resets of one stream": Flood(
        _same(RstStreamFrame(1, CANCEL).serialize()), ListenerLimit.RESETS_RECEIVED, CloseReason.RESETS_RECEIVED
    ),
    "resets of whole calls": Flood(
        _of_streams(lambda stream: _call(stream) + RstStreamFrame(stream, CANCEL).serialize()),
        ListenerLimit.RESETS_RECEIVED,
        CloseReason.RESETS_RECEIVED,
    ),
    "a window opened too far": _made_you_reset(
        lambda stream: _call(stream) + WindowUpdateFrame(stream, window_increment=2**31 - 1).serialize() * 2
    ),
    "a length that is not kept": _made_you_reset(
        lambda stream: _headers(stream, _MALFORMED) + DataFrame(stream, b"xx", flags=["END_STREAM"]).serialize()
    ),
    "refused before the end": _made_you_reset(lambda stream: _headers(stream, _UNKNOWN)),
    "settings": _control(_same(SettingsFrame(0, {3: 100}).serialize())),
    "empty settings": _control(_same(SettingsFrame().serialize())),
    "pings": Flood(_same(PingFrame(opaque_data=b"12345678").serialize()), ListenerLimit.PINGS, CloseReason.PINGS),
    "pings answered": _control(_same(PingFrame(opaque_data=b"12345678", flags=["ACK"]).serialize())),
    "empty data": _control(_same(DataFrame(1, b"").serialize())),
    "empty data of a stream that is over": _control(lambda: _after(RstStreamFrame(1, CANCEL), DataFrame(1, b""))),
    "windows of the connection": _control(_same(WindowUpdateFrame(0, window_increment=1).serialize())),
    "windows of a stream": _control(_same(WindowUpdateFrame(1, window_increment=1).serialize())),
    "priorities": _control(
        _of_streams(lambda stream: PriorityFrame(stream, depends_on=1, stream_weight=9).serialize())
    ),
    "priorities of one stream": _control(_same(PriorityFrame(1, depends_on=0, stream_weight=9).serialize())),
    "goodbyes": _control(_same(GoAwayFrame(0, last_stream_id=0).serialize())),
    "unknown frames": _control(_same(b"\0\0\0\x7f\0\0\0\0\0")),
    # CVE-2024-27316 and its like; full ones have a test of their own.
    "empty continuations": Flood(
        lambda: _after(HeadersFrame(3, b""), ContinuationFrame(3, b"")),
        ListenerLimit.CONTINUATIONS,
        CloseReason.CONTINUATIONS,
    ),
}


#: With the usual limits, all that is read at once is a flood.
@pytest.mark.parametrize(("limits", "piece"), [(SMALL, 50), (DataLimits(), 5000)], ids=["small limits", "usual limits"])
@pytest.mark.parametrize("name", FLOODS)
def test_flood_when_it_comes_then_its_connection_ends_and_others_are_served(
    name: str, limits: DataLimits, piece: int
) -> None:
    flood = FLOODS[name]
    with listening(limits) as listener, good_client(listener.place) as good:
        with Wire(listener.place, settings={4: 0}, answers=False) as wire:
            wire.send(wire.headers(1))
            source = flood.bytes()
            for _ in range(10):
                wire.flood(b"".join(islice(source, piece)), 1)
                if listener.hits(flood.limit):
                    break
                assert good.call(question()).message == right_answer(question())
            goodbye = wire.goodbye()

        assert listener.hits(flood.limit) == 1
        assert listener.closed(flood.reason) == 1
        if goodbye is not None:
            assert goodbye.error_code == ENHANCE_YOUR_CALM
        else:
            # What was under way when it ended turned the end into a reset.
            assert limits is not SMALL


@pytest.mark.parametrize("name", ["settings", "pings", "windows of a stream", "resets", "empty continuations"])
def test_flood_when_it_comes_from_many_then_a_good_client_is_served_still(name: str) -> None:
    flood = FLOODS[name]
    source = flood.bytes()
    data = b"".join(islice(source, 200))
    with listening(SMALL, unix=True) as listener, good_client(listener.place) as good:
        for number in range(30):
            with Wire(listener.places[number % 2], settings={4: 0}, answers=False) as wire:
                wire.send(wire.headers(1))
                wire.flood(data, 1)
                assert good.call(question()).message == right_answer(question())
                wire.goodbye()
        assert listener.closed(flood.reason) == listener.hits(flood.limit) == 30


def test_control_frames_when_calls_pay_for_them_then_nobody_is_bothered() -> None:
    limits = DataLimits(control_burst=12, control_rate=0)
    with listening(limits) as listener, Wire(listener.place) as wire:
        for stream in range(1, 200, 2):
            wire.send(wire.call(stream, question()))
            assert wire.finish(stream).message == right_answer(question())
            wire.send(*[WindowUpdateFrame(0, window_increment=1)] * 6)
        assert listener.hits(ListenerLimit.CONTROL_FRAMES) == 0


def test_pings_when_each_follows_a_call_then_nobody_is_bothered() -> None:
    with listening() as listener, Wire(listener.place) as wire:
        for stream in range(1, 200, 2):
            wire.send(wire.call(stream, question()))
            assert wire.finish(stream).message == right_answer(question())
            wire.synchronize()
        assert listener.hits(ListenerLimit.PINGS) == 0


def test_pings_when_they_come_slowly_enough_then_nobody_is_bothered() -> None:
    with listening(DataLimits(ping_seconds=0.0)) as listener, Wire(listener.place) as wire:
        for _ in range(50):
            wire.synchronize()
        assert listener.hits(ListenerLimit.PINGS) == 0


def test_pings_when_they_come_too_often_then_the_third_strike_ends_it() -> None:
    with listening() as listener, Wire(listener.place) as wire:
        for _ in range(3):
            # The first is free, and two strikes are forgiven.
            wire.synchronize()
        wire.send(PingFrame(opaque_data=b"12345678"))

        goodbye = wire.goodbye()

        assert goodbye is not None
        # SPEC: grpc/proposal A8: grpc clients look for these words.
        assert goodbye.error_code == ENHANCE_YOUR_CALM
        assert goodbye.additional_data == b"too_many_pings"
        assert listener.closed(CloseReason.PINGS) == 1


def test_resets_when_the_client_cancels_now_and_then_then_nobody_is_bothered() -> None:
    with listening(DataLimits(reset_burst=5, reset_rate=1_000_000)) as listener, Client(listener.place) as client:
        for _ in range(100):
            stream = client.start(AUTHORIZE)
            client.h2.reset_stream(stream, CANCEL)
            client.flush()
            assert client.call(question()).message == right_answer(question())
        assert listener.hits(ListenerLimit.RESETS_RECEIVED) == 0


@pytest.mark.parametrize("frames", [1, 8])
def test_header_block_when_it_comes_in_a_few_frames_then_it_is_read(frames: int) -> None:
    with listening() as listener, Wire(listener.place) as wire:
        block = wire.block(call_fields())
        parts = [block[number : number + 1] for number in range(frames)]
        rest = block[frames:]
        wire.send(
            HeadersFrame(1, rest[:0]),
            *[ContinuationFrame(1, part) for part in parts[:-1]],
            ContinuationFrame(1, parts[-1] + rest, flags=["END_HEADERS"]),
            DataFrame(1, framed(question()), flags=["END_STREAM"]),
        )

        assert wire.finish(1).message == right_answer(question())
        assert listener.hits(ListenerLimit.CONTINUATIONS) == 0


@pytest.mark.parametrize(
    ("limits", "limit", "reason"),
    [
        (DataLimits(), ListenerLimit.HEADER_BYTES, CloseReason.HEADER_BYTES),
        (DataLimits(header_bytes=1 << 20), ListenerLimit.CONTINUATIONS, CloseReason.CONTINUATIONS),
    ],
    ids=["bytes", "frames"],
)
def test_continuations_when_they_are_full_then_bytes_or_frames_are_too_many(
    limits: DataLimits, limit: ListenerLimit, reason: CloseReason
) -> None:
    # A literal field without a place in the table, over and over.
    field = b"\x00\x01x\x7f\x81\x7f" + b"y" * 16_384
    text = field * 20
    with listening(limits) as listener, good_client(listener.place), Wire(listener.place) as wire:
        wire.send(HeadersFrame(1, _BLOCK))
        for at in range(0, len(text), 16_384):
            wire.flood(ContinuationFrame(1, text[at : at + 16_384]).serialize(), 1)

        goodbye = wire.goodbye()

        assert goodbye is None or goodbye.error_code == ENHANCE_YOUR_CALM
        assert listener.hits(limit) == listener.closed(reason) == 1
