# SPDX-License-Identifier: Apache-2.0
"""
Calls to the data listener by a peer that obeys HTTP/2, which is h2; what it puts into its calls obeys nothing.

A peer like that gets an answer for every call, and what it must be is known.
"""

from __future__ import annotations

import functools
import random
import struct
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from sidecar import core
from sidecar.model.errors import RequestError
from sidecar.model.listener import CloseReason
from tests.fuzz.harness import EDGES, Mutator, Target
from tests.fuzz.listener_targets import LIMITS, NOW, SECOND, SMALL_RING, Session, batches, requests, script_seeds
from tests.fuzz.peer import AUTHORIZE, BATCH_AUTHORIZE, CHECK, GOAWAY, HEALTH_CHECK, MAX_FRAME, Headers, framed, headers

#: The largest message of the data listener.
MESSAGE_MOST = (1 << 20) + 4096
HEADER_BYTES = 1024
#: Longest time that a request may take to arrive and an answer to leave.
SLOW = 10 * SECOND

#: Longest script, in bytes.
STEPS = 121

_OK, _INVALID, _DEADLINE, _EXHAUSTED, _UNIMPLEMENTED, _INTERNAL = (
    f"grpc {code}" for code in (0, 3, 4, 8, 12, 13)
)  # fmt: skip
#: Header lists: path, further fields, method, content type.
_KINDS: tuple[Headers, ...] = (
    headers(AUTHORIZE),
    headers(AUTHORIZE),
    headers(BATCH_AUTHORIZE),
    headers(BATCH_AUTHORIZE, kind=b"application/grpc+proto"),
    headers(HEALTH_CHECK),
    headers(AUTHORIZE, (b"grpc-timeout", b"5m")),
    headers(AUTHORIZE, (b"grpc-timeout", b"20S")),
    headers(BATCH_AUTHORIZE, (b"grpc-timeout", b"99999999H")),
    headers(AUTHORIZE, (b"grpc-timeout", b"1x")),
    headers(AUTHORIZE, (b"grpc-encoding", b"gzip")),
    headers(AUTHORIZE, (b"grpc-encoding", b"identity"), (b"key-bin", b"AAEC/w")),
    headers(AUTHORIZE, method=b"PUT"),
    headers(AUTHORIZE, kind=b"application/json"),
    headers(b"/sidecar.v1.AuthorizationService/Nothing"),
    headers(AUTHORIZE, (b"long", b"x" * 900)),
    [pair for pair in headers(AUTHORIZE) if pair[0] != b"te"],
    headers(CHECK),
    headers(CHECK, (b"grpc-timeout", b"5m")),
    headers(CHECK, (b"long", b"x" * 900)),
    [pair for pair in headers(CHECK) if pair[0] != b"te"],
)
_SIZES = (0, 1, 4, 5, 6, 60, 1000, 5000)
_WINDOWS = (0, 60, 1000, 65_535, 1 << 20)
_TIMES = (1, 1_000_000, 6_000_000, 50_000_000, 101_000_000, SECOND, 4 * SECOND, 11 * SECOND)


@functools.lru_cache(maxsize=4096)
def body_of(one: int, two: int) -> bytes:
    """Give a body: a message in its frame, or something close to that."""
    chance = random.Random(one << 8 | two)
    good = chance.choice((*requests(), *batches(), b"", b"\x0a\x1fsidecar.v1.AuthorizationService"))
    if chance.random() < 0.25:
        mutator = Mutator(seed=one << 8 | two, tokens=(b"\xff" * 10, b"\x0a", b"\x2a"), max_bytes=1 << 13)
        good = bytes(mutator.mutate(good, requests()[0]))
    match chance.randrange(16):
        case 0:
            return framed(good, flag=chance.choice((1, 2, 255)))
        case 1:
            return framed(good, longer=chance.choice((-1, 1, *EDGES)))
        case 2:
            return framed(good) + framed(good)[: chance.choice((1, 5, 100_000))]
        case 3:
            return framed(good)[: chance.choice((0, 1, 4, 5))]
        case 4:
            return framed(b"\x7a" + good * chance.randrange(8))
        case _:
            return framed(good)


def without_goodbyes(data: bytes) -> bytes:
    """Leave out GOAWAY frames: h2 takes nothing more after one, though calls under way may go on."""
    out = bytearray()
    at = 0
    while at < len(data):
        size = 9 + int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] != GOAWAY:
            out += data[at : at + size]
        at += size
    return bytes(out)


@dataclass(kw_only=True)
class Sent:
    """A call of the peer: what it has sent of it, and what it still means to."""

    fields: Headers
    began: int
    body: bytearray = field(default_factory=bytearray)
    rest: bytes
    has_ended: bool = False
    was_reset: bool = False


class H2Peer:
    """A client on h2. Every byte of the listener goes through it, and whatever it does not take is a finding."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=False))
        self.client.initiate_connection()
        self.calls: dict[int, Sent] = {}
        self.now = 0
        self.piece = 1 << 16
        self.takes = True
        self._untaken: dict[int, int] = {}
        self.exchange()

    def exchange(self) -> None:
        """Carry bytes from either side to the other until both are silent."""
        while True:
            data = self.client.data_to_send()
            self.session.receive(data, self.piece if len(data) < 4096 else 1 << 16)
            data = without_goodbyes(self.session.taken())
            if not data or not self.can_speak:
                return
            for event in self.client.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    size = self._untaken.get(event.stream_id, 0) + event.flow_controlled_length
                    self._untaken[event.stream_id] = size
            if self.takes:
                self.take()

    def take(self) -> None:
        """Give back the windows of everything that has arrived."""
        for stream, size in self._untaken.items():
            self.client.acknowledge_received_data(size, stream)
        self._untaken = {}

    @property
    def can_speak(self) -> bool:
        """Whether calls under way may go on."""
        return not self.session.is_over and all(goodbye.error_code == 0 for goodbye in self.session.reader.goodbyes)

    @property
    def can_open(self) -> bool:
        """Whether a new call may begin."""
        return self.can_speak and not self.session.reader.goodbyes

    def open(self, kind: int, one: int, two: int) -> int:
        """Begin a call, with its header list only."""
        stream = self.client.get_next_available_stream_id()
        fields = _KINDS[kind % len(_KINDS)]
        self.client.send_headers(stream, fields)
        self.calls[stream] = Sent(fields=fields, began=self.now, rest=body_of(one, two))
        return stream

    def can_send(self, stream: int) -> bool:
        """Whether the listener still wants more of a call."""
        call, answer = self.calls[stream], self.session.reader.answers.get(stream)
        return not (call.has_ended or call.was_reset or (answer and (answer.has_ended or answer.reset is not None)))

    def send(self, stream: int, size: int, *, ends: bool) -> None:
        """Send a piece of a body, as large as the windows allow."""
        call = self.calls[stream]
        size = min(size, len(call.rest), self.client.local_flow_control_window(stream), MAX_FRAME)
        piece, call.rest = call.rest[:size], call.rest[size:]
        call.body += piece
        call.has_ended = ends and not call.rest
        self.client.send_data(stream, piece, end_stream=call.has_ended)

    def reset(self, stream: int) -> None:
        """Give a call up."""
        self.calls[stream].was_reset = True
        self.client.reset_stream(stream, error_code=8)

    def end_by_trailers(self, stream: int) -> None:
        """End a call with a header list, which gRPC clients do not do and HTTP/2 allows."""
        self.client.send_headers(stream, [(b"checksum", b"1")], end_stream=True)
        self.calls[stream].has_ended = True

    def wait(self, nanoseconds: int) -> None:
        """Let time pass."""
        self.now += nanoseconds
        self.session.wait(nanoseconds)

    def wanted(self, call: Sent) -> set[str]:
        """Say what may become of a call by what was sent of it; nothing where more of it is waited for."""
        found = self._wanted(call)
        if dict(call.fields)[b":path"] == CHECK:
            # Whatever is wrong with it, Envoy is answered.
            return {_OK if outcome.startswith("grpc") else outcome for outcome in found}
        return found

    def _wanted(self, call: Sent) -> set[str]:
        fields = dict(call.fields)
        body, kind = call.body, fields.get(b"content-type", b"")
        if sum(len(name) + len(value) + 32 for name, value in call.fields) > HEADER_BYTES:
            return {_EXHAUSTED}
        if fields[b":method"] != b"POST":
            return {"http 405"}
        if not kind.startswith(b"application/grpc"):
            return {"http 415"}
        if fields[b":path"] not in (AUTHORIZE, BATCH_AUTHORIZE, HEALTH_CHECK, CHECK):
            return {_UNIMPLEMENTED}
        if b"te" not in fields or fields.get(b"grpc-timeout") == b"1x":
            return {_INVALID}
        if len(body) >= 5:
            size = struct.unpack_from(">I", body, 1)[0]
            if body[0] == 1 and fields.get(b"grpc-encoding") == b"gzip":
                return {_UNIMPLEMENTED}
            if body[0]:
                return {_INTERNAL}
            if size > MESSAGE_MOST:
                return {_EXHAUSTED}
        if not call.has_ended:
            return set()
        if not body:
            return {_UNIMPLEMENTED}
        if len(body) < 5 or len(body) < 5 + size:
            return {_INTERNAL}
        if len(body) > 5 + size:
            return {_UNIMPLEMENTED}
        return self._decided(fields[b":path"], bytes(body[5:]))

    def _decided(self, path: bytes, message: bytes) -> set[str]:
        if path == HEALTH_CHECK:
            # The service may be named wrongly, and bytes may be no message.
            return {_OK} if message in (b"", b"\x0a\x1fsidecar.v1.AuthorizationService") else {_OK, _INVALID, "grpc 5"}
        if path == CHECK:
            return {_OK}
        ask = core.authorize if path == AUTHORIZE else core.batch_authorize
        try:
            ask(self.session.image, message, seconds=NOW, nanos=0)
        except RequestError:
            return {_INVALID}
        return {_OK}

    def check(self) -> None:
        """
        Hold what became of every call to what must.

        Raises:
            AssertionError: Something else became of one.
        """
        for stream, call in self.calls.items():
            answer = self.session.reader.answers.get(stream)
            outcome = answer.outcome if answer else "unanswered"
            wanted = self.wanted(call)
            if call.was_reset:
                wanted |= {"unanswered", "reset 8", _OK}
            if not wanted:
                wanted = {"unanswered"}
            waited = self.now - call.began
            if waited >= SLOW or (b"grpc-timeout" in dict(call.fields) and waited):
                # An answer that nobody takes in time is taken back.
                wanted |= {_OK if dict(call.fields)[b":path"] == CHECK else _DEADLINE, "reset 8"}
            if outcome not in wanted:
                raise AssertionError(f"stream {stream}: {outcome}, wanted {sorted(wanted)}")


def _run_calls(script: bytes) -> str:
    choice = script[0] if script else 0
    session = Session(
        limits={**LIMITS, "header_bytes": HEADER_BYTES},
        decides=not choice & 1,
        ring_bytes=SMALL_RING if choice & 2 else 0,
        must_record=bool(choice & 4),
    )
    session.send()
    peer = H2Peer(session)
    for step, one, two in zip(script[1:STEPS:3], script[2:STEPS:3], script[3:STEPS:3], strict=False):
        if not peer.can_speak:
            break
        streams = [stream for stream in peer.calls if peer.can_send(stream)]
        old = streams[one % len(streams)] if streams else 0
        match step % 16:
            case 0 | 1 | 2 | 3 | 4 if peer.can_open:
                stream = peer.open(step >> 4, one, two)
                while peer.calls[stream].rest and peer.client.local_flow_control_window(stream):
                    peer.send(stream, MAX_FRAME, ends=False)
                if peer.can_send(stream):
                    peer.send(stream, 0, ends=True)
            case 5 | 6 if peer.can_open:
                peer.open(step >> 4, one, two)
            case 7 | 8 if old:
                peer.send(old, _SIZES[two % len(_SIZES)], ends=bool(two & 8))
            case 9 if old:
                peer.reset(old)
            case 10 if old:
                peer.end_by_trailers(old)
            case 11:
                peer.client.update_settings({4: _WINDOWS[one % len(_WINDOWS)]})
                peer.takes = bool(two & 1)
            case 12:
                peer.exchange()
                peer.wait(_TIMES[one % len(_TIMES)])
            case 13:
                session.read_records()
            case 14:
                peer.piece = (1 << 16, 100, 9, 1)[one % 4]
            case 15 if one < 32:
                peer.exchange()
                session.probe.drain()
                session.send()
            case _:
                pass
        if one & 1:
            peer.exchange()
    peer.exchange()
    if peer.can_speak:
        # Everything that was held back may go now.
        peer.takes = True
        peer.client.update_settings({4: 1 << 20})
        peer.take()
        peer.exchange()
        for _ in range(3):
            peer.wait(101_000_000)
            peer.exchange()
    if peer.can_speak or session.probe.reason() == CloseReason.DRAINED:
        peer.check()
    return session.end()


CALL_TARGETS = (
    Target(
        name="calls",
        about="calls to the data listener by h2, right and wrong, each of which must get the answer it deserves",
        seeds=script_seeds(2, 3),
        run=_run_calls,
        max_bytes=STEPS,
    ),
)
