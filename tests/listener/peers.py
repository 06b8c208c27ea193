# SPDX-License-Identifier: Apache-2.0
"""
Peers of the listener, on the HTTP/2 of other authors: a client that keeps every rule and checks that the listener does,
and a wire on which anything can be sent.
"""

from __future__ import annotations

import base64
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.settings
from google.rpc import error_details_pb2, status_pb2
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from sidecar.model.listener import RpcStatus
from tests.listener.serving import PATIENCE, Place, question, right_answer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
AUTHORIZE = "/sidecar.v1.AuthorizationService/Authorize"
BATCH_AUTHORIZE = "/sidecar.v1.AuthorizationService/BatchAuthorize"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"

Fields = list[tuple[str, str]]


def call_fields(
    path: str = AUTHORIZE, /, *more: tuple[str, str], without: Iterable[str] = (), **changed: str
) -> Fields:
    """Return the header list of a call: *without* some fields, others *changed* (``content_type="…"``), and *more*."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "a-peer/1",
    }
    for name, value in changed.items():
        fields[":method" if name == "method" else name.replace("_", "-")] = value
    return [(name, value) for name, value in fields.items() if name not in without] + list(more)


def framed(message: bytes, flag: int = 0) -> bytes:
    """Put the prefix of gRPC in front of a message."""
    return struct.pack(">BI", flag, len(message)) + message


def connect(place: Place, *, receive_buffer: int | None = None) -> socket.socket:
    """Connect to a listener, with a *receive_buffer* of so many bytes."""
    sock = socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.connect(place)
    except OSError:
        sock.close()
        raise
    if not isinstance(place, str):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    #: Error code of RST_STREAM.
    reset: int | None = None
    has_ended: bool = False

    @property
    def is_trailers_only(self) -> bool:
        """Whether the status stands in the one header list that there is."""
        return self.has_ended and not self.trailers and not self.data and "grpc-status" in self.headers

    @property
    def status(self) -> RpcStatus:
        """The status of the call."""
        return RpcStatus(int({**self.headers, **self.trailers}["grpc-status"]))

    @property
    def text(self) -> str:
        """What the status says in words."""
        return {**self.headers, **self.trailers}.get("grpc-message", "")

    @property
    def message(self) -> bytes:
        """The one message of an answer that is none but OK."""
        assert self.headers == {":status": "200", "content-type": "application/grpc"}
        assert self.trailers == {"grpc-status": "0"}, self
        flag, length = struct.unpack_from(">BI", self.data)
        assert flag == 0
        assert len(self.data) == 5 + length
        return self.data[5:]

    @property
    def violations(self) -> list[tuple[str, str]]:
        """The fields that the details of the status name, with what is wrong."""
        text = self.headers["grpc-status-details-bin"]
        status = status_pb2.Status.FromString(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
        assert status.code == self.status
        found = []
        for packed in status.details:
            details = error_details_pb2.BadRequest()
            assert packed.Unpack(details)
            found += [(violation.field, violation.description) for violation in details.field_violations]
        return found


class Client:
    """A client that keeps the rules of HTTP/2 and fails where the listener does not. Confined to one thread."""

    def __init__(
        self, place: Place, *, settings: Mapping[h2.settings.SettingCodes, int] | None = None, refills: bool = True
    ) -> None:
        """
        Args:
            settings: What the first SETTINGS say beside the usual.
            refills: Whether windows are opened again as data arrives.
        """
        self._refills = refills
        self._socket = connect(place)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        if settings:
            values = {h2.settings.SettingCodes.ENABLE_PUSH: 0, **settings}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.events: list[h2.events.Event] = []
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def flush(self) -> None:
        """Send what there is to send."""
        self._socket.sendall(self.h2.data_to_send())

    def pump(self) -> bool:
        """Read once; False at the end of the connection."""
        data = self._socket.recv(65536)
        for event in self.h2.receive_data(data) if data else ():
            self._take(event)
        self.flush()
        return bool(data)

    def _take(self, event: h2.events.Event) -> None:
        self.events.append(event)
        answer = self.answers.setdefault(getattr(event, "stream_id", None) or 0, Answer())
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            answer.data += event.data
            if self._refills and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.has_ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)

    def wait_for(self, kind: type[h2.events.Event]) -> h2.events.Event:
        """Read until there is an event of that kind."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            assert self.pump(), f"it ended before {kind.__name__}"

    def start(self, path: str = AUTHORIZE, *, fields: Fields | None = None, end: bool = False) -> int:
        """Send a header list, and return the stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields or call_fields(path), end_stream=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = True, piece: int = 16384) -> None:
        """Send data in pieces, as windows allow, until the call is answered."""
        view = memoryview(data)
        while view:
            if self.answers[stream].has_ended or self.answers[stream].reset is not None:
                return
            room = min(self.h2.local_flow_control_window(stream), piece, self.h2.max_outbound_frame_size)
            if room <= 0:
                assert self.pump(), "it ended before all was sent"
                continue
            self.h2.send_data(stream, bytes(view[:room]), end_stream=end and room >= len(view))
            view = view[room:]
            self.flush()
        if end and not data:
            self.h2.end_stream(stream)
            self.flush()

    def finish(self, stream: int) -> Answer:
        """Read until the answer of *stream* is complete, or it is reset."""
        answer = self.answers[stream]
        while not answer.has_ended and answer.reset is None:
            assert self.pump(), "it ended before the answer"
        return answer

    def call(self, message: bytes, path: str = AUTHORIZE, *, fields: Fields | None = None) -> Answer:
        """Make a call of one message."""
        stream = self.start(path, fields=fields)
        self.send(stream, framed(message))
        return self.finish(stream)

    def drain(self) -> None:
        """Read until the listener ends the connection."""
        while self.pump():
            pass


class Wire:
    """A connection on which anything can be sent, frame by frame. Confined to one thread."""

    def __init__(
        self,
        place: Place,
        *,
        settings: Mapping[int, int] | None = None,
        greets: bool = True,
        answers: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        """
        Args:
            settings: What the first SETTINGS say.
            greets: Whether the preface and SETTINGS are sent at once.
            answers: Whether SETTINGS and PING are acknowledged as they are received.
            receive_buffer: What the system may keep of what was not received yet, in bytes.
        """
        self._socket = connect(place, receive_buffer=receive_buffer)
        self._answers_frames = answers
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._received = b""
        self.answers: dict[int, Answer] = {}
        self.goodbyes: list[GoAwayFrame] = []
        if greets:
            self.send(PREFACE, SettingsFrame(0, dict(settings or {})))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def socket(self) -> socket.socket:
        """The socket itself."""
        return self._socket

    def send(self, *frames: Frame | bytes) -> None:
        """Send frames, or bytes that are none."""
        self._socket.sendall(b"".join(one if isinstance(one, bytes) else one.serialize() for one in frames))

    def flood(self, data: bytes, times: int) -> None:
        """Send the same bytes many times over, as long as anybody listens."""
        try:
            for _ in range(times):
                self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def block(self, fields: Fields) -> bytes:
        """Return a header block."""
        return self._encoder.encode(fields)

    def headers(self, stream: int, *flags: str, fields: Fields | None = None) -> HeadersFrame:
        """Return the HEADERS of a call, with END_HEADERS and *flags*."""
        return HeadersFrame(stream, self.block(fields or call_fields()), flags=["END_HEADERS", *flags])

    def call(self, stream: int, message: bytes, *, fields: Fields | None = None) -> bytes:
        """Return the frames of a whole call."""
        data = DataFrame(stream, framed(message), flags=["END_STREAM"])
        return self.headers(stream, fields=fields).serialize() + data.serialize()

    def receive(self) -> Frame | None:
        """Return the next frame; None at the end of the connection."""
        while True:
            if len(self._received) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self._received[:9]))
                if len(self._received) >= 9 + length:
                    frame.parse_body(memoryview(self._received[9 : 9 + length]))
                    self._received = self._received[9 + length :]
                    self._take(frame)
                    return frame
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._received += data

    def _take(self, frame: Frame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if isinstance(frame, HeadersFrame):
            fields = {str(name): str(value) for name, value in self._decoder.decode(frame.data)}
            if answer.headers:
                answer.trailers = fields
            else:
                answer.headers = fields
        elif isinstance(frame, DataFrame):
            answer.data += frame.data
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.goodbyes.append(frame)
        if "END_STREAM" in frame.flags:
            answer.has_ended = True
        if not self._answers_frames:
            return
        try:
            if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                self.send(SettingsFrame(flags=["ACK"]))
            elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                self.send(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]))
        except (BrokenPipeError, ConnectionResetError):
            return

    def frames(self) -> Iterator[Frame]:
        """Give all frames until the end of the connection."""
        while (frame := self.receive()) is not None:
            yield frame

    def finish(self, stream: int) -> Answer:
        """Read until the answer of *stream* is complete, or it is reset."""
        while not (answer := self.answers.setdefault(stream, Answer())).has_ended and answer.reset is None:
            assert self.receive() is not None, "it ended before the answer"
        return answer

    def goodbye(self) -> GoAwayFrame | None:
        """Read to the end of the connection, and return its last GOAWAY, unless a reset swallowed it."""
        for _ in self.frames():
            pass
        return self.goodbyes[-1] if self.goodbyes else None

    def synchronize(self) -> None:
        """Wait until the listener has read all that was sent before."""
        mark = b"mark\0\0\0\0"
        self.send(PingFrame(opaque_data=mark))
        for frame in self.frames():
            if isinstance(frame, PingFrame) and "ACK" in frame.flags and frame.opaque_data == mark:
                return
        raise AssertionError("it ended before it answered the PING")


@contextmanager
def good_client(place: Place) -> Iterator[Client]:
    """Connect a client that asks before and after the block, and is answered rightly both times."""
    with Client(place) as client:
        assert client.call(question()).message == right_answer(question())
        yield client
        assert client.call(question()).message == right_answer(question())
