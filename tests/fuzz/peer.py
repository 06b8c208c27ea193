# SPDX-License-Identifier: Apache-2.0
"""
The other side of the data listener, without sockets: frames for it, and a reader that holds what it sends to the rules.

Frames are written by hand, so that they can be wrong. What comes back is read by hyperframe and hpack.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpack import Decoder, HPACKError
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS, PADDED, HAS_PRIORITY = 4, 8, 32
#: What every HTTP/2 peer takes without having been asked.
MAX_FRAME = 16_384
AUTHORIZE = b"/sidecar.v1.AuthorizationService/Authorize"
BATCH_AUTHORIZE = b"/sidecar.v1.AuthorizationService/BatchAuthorize"
HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
CHECK = b"/envoy.service.auth.v3.Authorization/Check"

Headers = list[tuple[bytes, bytes]]


class BrokenRuleError(Exception):
    """What the listener sent breaks a rule of HTTP/2 or gRPC."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame, right or wrong."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def framed(message: bytes, *, flag: int = 0, longer: int = 0) -> bytes:
    """Put the prefix of gRPC in front of a message, with a length that is wrong by *longer*."""
    return bytes([flag]) + struct.pack(">I", (len(message) + longer) % (1 << 32)) + message


def headers(
    path: bytes, *more: tuple[bytes, bytes], method: bytes = b"POST", kind: bytes = b"application/grpc"
) -> Headers:
    """Give the header list of a call."""
    return [
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"sidecar"),
        (b"te", b"trailers"),
        (b"content-type", kind),
        *more,
    ]


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a header block that leaves the table of the peer as it is, so that it may be sent at any time."""
    out = bytearray()
    for name, value in fields:
        # SPEC: RFC 7541, section 6.2.3: a literal that is never indexed, with a new name, not Huffman coded.
        out += b"\x10" + _length(len(name)) + name + _length(len(value)) + value
    return bytes(out)


def _length(number: int) -> bytes:
    # SPEC: RFC 7541, section 5.1, with a prefix of seven bits.
    if number < 127:
        return bytes([number])
    out = bytearray([127])
    number -= 127
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def call(stream: int, path: bytes, message: bytes) -> bytes:
    """Write a whole call."""
    body = framed(message)
    pieces = [body[at : at + MAX_FRAME] for at in range(0, len(body), MAX_FRAME)]
    out = frame(HEADERS, END_HEADERS, stream, block(headers(path)))
    for piece in pieces[:-1]:
        out += frame(DATA, 0, stream, piece)
    return out + frame(DATA, END_STREAM, stream, pieces[-1])


# What was asked.


@dataclass(kw_only=True)
class Call:
    """A call as its bytes say; *headers* are None where they could not be read."""

    headers: dict[bytes, bytes] | None = None
    has_headers: bool = False
    body: bytearray = field(default_factory=bytearray)
    is_complete: bool = False

    @property
    def message(self) -> bytes | None:
        """The message, if the body is one message and nothing else."""
        if len(self.body) < 5 or self.body[0] or struct.unpack_from(">I", self.body, 1)[0] != len(self.body) - 5:
            return None
        return bytes(self.body[5:])


def read_calls(data: bytes) -> dict[int, Call]:
    """
    Read what was asked with the bytes of a connection, as far as frames go.

    It knows no rules: what is after a mistake, and was never answered for it, is read as well.
    """
    calls: dict[int, Call] = {}
    decoder: Decoder | None = Decoder(max_header_list_size=1 << 24)
    if not data.startswith(PREFACE):
        return calls
    at = len(PREFACE)
    waiting: tuple[int, int] | None = None
    gathered = b""
    while at + 9 <= len(data):
        size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
        payload = data[at + 9 : at + 9 + size]
        at += 9 + size
        if kind == HEADERS:
            # It is one as soon as its frame begins.
            calls.setdefault(stream, Call())
        if at > len(data):
            break
        if kind in (DATA, HEADERS) and flags & PADDED:
            payload = payload[1 : max(1, len(payload) - payload[0])] if payload else b""
        if kind == DATA and stream in calls and not calls[stream].is_complete:
            calls[stream].body += payload
            calls[stream].is_complete = bool(flags & END_STREAM)
        elif kind == HEADERS:
            waiting, gathered = (stream, flags), payload[5:] if flags & HAS_PRIORITY else payload
        elif kind == CONTINUATION:
            gathered += payload
        if waiting and kind in (HEADERS, CONTINUATION) and flags & END_HEADERS:
            fields = None
            try:
                fields = dict(decoder.decode(gathered, raw=True)) if decoder else None
            except HPACKError:
                decoder = None
            asked = calls[waiting[0]]
            if not asked.has_headers:
                asked.headers, asked.has_headers = fields, True
            asked.is_complete |= bool(waiting[1] & END_STREAM)
            waiting = None
    return calls


# What was answered.


@dataclass(kw_only=True)
class Answer:
    """What has come back on one stream."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    has_ended: bool = False
    reset: int | None = None

    @property
    def message(self) -> bytes | None:
        """The message of a call that succeeded."""
        return bytes(self.body[5:]) if self.has_ended and self.trailers.get(b"grpc-status") == b"0" else None

    @property
    def outcome(self) -> str:
        """The status of the call, in a word."""
        if not self.has_ended:
            return "unanswered" if self.reset is None else f"reset {self.reset}"
        if self.headers[b":status"] != b"200":
            return f"http {self.headers[b':status'].decode()}"
        return f"grpc {(self.trailers or self.headers)[b'grpc-status'].decode()}"


class AnswerReader:
    """Reads what the listener sends. Confined to one thread."""

    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.goodbyes: list[GoAwayFrame] = []
        self._decoder = Decoder()
        self._rest = b""
        self._frames = 0

    def feed(self, data: bytes) -> None:
        """
        Take bytes in.

        Raises:
            BrokenRuleError: They break a rule.
        """
        data = self._rest + data
        at = 0
        while len(data) - at >= 9:
            read, size = Frame.parse_frame_header(memoryview(data)[at : at + 9], strict=True)
            if size > MAX_FRAME:
                raise BrokenRuleError(f"a frame of {size} bytes")
            if len(data) - at < 9 + size:
                break
            read.parse_body(memoryview(data)[at + 9 : at + 9 + size])
            at += 9 + size
            self._note(read)
        self._rest = data[at:]

    @property
    def is_between_frames(self) -> bool:
        """Whether the last frame is there as a whole."""
        return not self._rest

    def _note(self, read: Frame) -> None:
        if self._frames == 0 and (not isinstance(read, SettingsFrame) or "ACK" in read.flags):
            raise BrokenRuleError("the first frame is not SETTINGS")
        self._frames += 1
        if isinstance(read, GoAwayFrame):
            if self.goodbyes and read.last_stream_id > self.goodbyes[-1].last_stream_id:
                raise BrokenRuleError("GOAWAY takes back what it said")
            self.goodbyes.append(read)
        elif isinstance(read, HeadersFrame):
            self._note_headers(read)
        elif isinstance(read, DataFrame):
            answer = self._open(read.stream_id, "DATA")
            if answer.headers.get(b":status") != b"200":
                raise BrokenRuleError("DATA without a header list")
            answer.body += read.data
            if "END_STREAM" in read.flags:
                raise BrokenRuleError("a body without trailers")
        elif isinstance(read, RstStreamFrame):
            answer = self.answers.setdefault(read.stream_id, Answer())
            if answer.reset is not None:
                raise BrokenRuleError("a stream was reset twice")
            answer.reset = read.error_code
        elif isinstance(read, WindowUpdateFrame):
            if not 1 <= read.window_increment < 1 << 31:
                raise BrokenRuleError("WINDOW_UPDATE of nothing")
        elif not isinstance(read, SettingsFrame | PingFrame):
            raise BrokenRuleError(f"a frame that no server sends: {read}")

    def _open(self, stream: int, kind: str) -> Answer:
        answer = self.answers.setdefault(stream, Answer())
        if answer.has_ended or answer.reset is not None:
            raise BrokenRuleError(f"{kind} on a stream that has ended")
        return answer

    def _note_headers(self, read: HeadersFrame) -> None:
        answer = self._open(read.stream_id, "HEADERS")
        if "END_HEADERS" not in read.flags:
            raise BrokenRuleError("a header list in pieces")
        fields = dict(self._decoder.decode(read.data, raw=True))
        answer.has_ended = "END_STREAM" in read.flags
        if answer.headers:
            answer.trailers = fields
            size = struct.unpack_from(">I", answer.body, 1)[0] if len(answer.body) >= 5 else -1
            if not answer.has_ended or fields != {b"grpc-status": b"0"}:
                raise BrokenRuleError(f"trailers of {fields}")
            if answer.body[:1] != b"\0" or size != len(answer.body) - 5:
                raise BrokenRuleError("the body is not one message")
            return
        answer.headers = fields
        status = fields.get(b":status")
        if answer.has_ended:
            fine = status in (b"405", b"415") or (status == b"200" and int(fields[b"grpc-status"]) in range(1, 17))
        else:
            fine = status == b"200" and b"grpc-status" not in fields
        if not fine or (status == b"200" and fields.get(b"content-type") != b"application/grpc"):
            raise BrokenRuleError(f"a header list of {fields}")
