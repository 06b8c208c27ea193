# SPDX-License-Identifier: Apache-2.0
"""
What of the data listener is fuzzed: the bytes of a connection, the frames in them, and calls with their messages.

Whatever comes in, an answer goes out only for a request that is there as a whole, and it is the answer that
``core.authorize`` gives. What goes out obeys HTTP/2 and gRPC, and a connection that has ended holds nothing.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping

from google.protobuf.message import DecodeError

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.core._core import ConnectionProbe
from sidecar.model.errors import RequestError
from sidecar.model.listener import CloseReason, RpcMethod
from sidecar.services.raw_records import split_records
from sidecar.transports.data_listener import DataLimits
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as ext_authz
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import USER_ARN, build_snapshot
from tests.fuzz.harness import EDGES, Mutator, Target
from tests.fuzz.peer import (
    ACK,
    AUTHORIZE,
    BATCH_AUTHORIZE,
    CHECK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    HEALTH_CHECK,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    AnswerReader,
    Call,
    block,
    call,
    frame,
    framed,
    headers,
    read_calls,
)
from tests.unit.core.routing import check_request

#: 2026-01-01T00:00:00Z. Inputs decide, the clock does not.
NOW = 1_767_225_600
SECOND = 1_000_000_000
LIMITS = DataLimits().for_core()
#: Few of everything, so that short inputs pass each limit.
TIGHT_LIMITS = {
    **LIMITS,
    "streams": 4,
    "worker_streams": 3,
    "header_bytes": 1024,
    "message_memory": 8192,
    "reset_burst": 3,
    "reset_rate": 1,
    "control_burst": 8,
    "control_rate": 1,
}
#: Records find no place in it soon, so that answers have to wait.
SMALL_RING = 4096


@functools.cache
def image() -> core.Image:
    """Give an image that allows some, and denies some."""
    statements = [
        {"Action": "s3:Get*", "Resource": "arn:aws:s3:::bucket/*"},
        {"Effect": "Deny", "Action": "*", "Resource": "arn:aws:s3:::bucket/secret"},
        {"Action": "kms:*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}},
        {"Action": "app:*", "Condition": {"StringLike": {"app:tag": ["a*", "?"]}}},
    ]
    snapshot = build_snapshot({"principal": "user", "identity": {"policies": [statements]}})
    return core.Image.from_bytes(write_image(snapshot))


@functools.cache
def requests() -> tuple[bytes, ...]:
    """Give AuthorizeRequests for that image, each kind of answer among them."""
    asked = (
        (USER_ARN, "s3:GetObject", "arn:aws:s3:::bucket/key", ()),
        (USER_ARN, "s3:GetObject", "arn:aws:s3:::bucket/secret", ()),
        (USER_ARN, "s3:PutObject", "arn:aws:s3:::bucket/key", ()),
        (USER_ARN, "kms:Decrypt", "*", ()),
        (USER_ARN, "app:Read", "*", ("abc", "x")),
        (USER_ARN, "app:Read", "*", tuple(f"value {number}" for number in range(90))),
        ("backup.amazonaws.com", "s3:GetObject", "arn:aws:s3:::bucket/key", ()),
        (USER_ARN + "x" * 800, "s3:GetObject", "arn:aws:s3:::bucket/key", ()),
    )
    return tuple(
        pb.AuthorizeRequest(
            principal=principal,
            action=action,
            resource=resource,
            context={"app:tag": pb.ContextValue(values=values)} if values else {},
        ).SerializeToString(deterministic=True)
        for principal, action, resource, values in asked
    )


@functools.cache
def batches() -> tuple[bytes, ...]:
    """Give BatchAuthorizeRequests, small ones and one that needs memory of its own."""
    read = [pb.AuthorizeRequest.FromString(data) for data in requests()]
    return tuple(
        pb.BatchAuthorizeRequest(requests=chosen).SerializeToString() for chosen in ([], read[:1], read, read[:3] * 60)
    )


# --- the rules


class BrokenPromiseError(Exception):
    """The listener does what it must not."""


class Session:
    """One connection of the data listener, the peer on its other side, and the rules that both are held to."""

    def __init__(
        self,
        *,
        limits: Mapping[str, int] = LIMITS,
        decides: bool = True,
        ring_bytes: int = 0,
        must_record: bool = False,
    ) -> None:
        self.image = image() if decides else None
        self.may_refuse_record = bool(ring_bytes) and must_record
        self.probe = ConnectionProbe(
            self.image,
            limits=limits,
            seconds=NOW,
            ring_bytes=ring_bytes,
            must_record=must_record,
        )
        self.reader = AnswerReader()
        self.received = bytearray()
        self.is_over = False
        self._keeps_log = bool(ring_bytes)
        self._sent = bytearray()

    def receive(self, data: bytes, piece: int = 1 << 16) -> None:
        """Give bytes of the peer to the listener, and take what it sends, as a socket would."""
        for at in range(0, len(data), piece):
            if self.is_over:
                return
            part = data[at : at + piece]
            self.received += part
            self.probe.receive(part)
            self.send()

    def send_some(self, frames: int) -> None:
        """Take *frames* of what there is to send, and no more."""
        sent = self.probe.send(frames)
        self._sent += sent
        self.reader.feed(sent)

    def send(self) -> None:
        """Take what there is to send."""
        self.send_some(1 << 31)
        if self.probe.is_done():
            self.is_over = True
            if not self.reader.is_between_frames:
                raise BrokenPromiseError("the last frame is cut off")

    def taken(self) -> bytes:
        """Give what was sent since this was last asked."""
        sent = bytes(self._sent)
        self._sent.clear()
        return sent

    def wait(self, nanoseconds: int) -> None:
        """Let time pass."""
        if not self.is_over:
            self.probe.advance(nanoseconds)
            if self.probe.tick():
                self.send()

    def read_records(self) -> None:
        """Read the records of decisions, which tell what was asked and answered."""
        records, damaged = split_records(self.probe.read_records())
        if damaged:
            raise BrokenPromiseError("a damaged record")
        for record in records:
            # What is recorded of a Check is its question; routes have no place here, so it has none.
            if record.method != RpcMethod.CHECK and record.answer != core.authorize(
                self.image, record.request, seconds=NOW, nanos=0
            ):
                raise BrokenPromiseError("a record of an answer that is none")

    def end(self) -> str:
        """Hold everything that was answered to what was asked, end the connection, and name what became of it."""
        calls = read_calls(bytes(self.received))
        for stream, answer in self.reader.answers.items():
            if answer.headers and stream not in calls:
                raise BrokenPromiseError(f"an answer on stream {stream}, where nothing was asked")
            if answer.message is not None:
                self._check(calls[stream], answer.message)
        reason = self.probe.reason()
        self.probe.close()
        if any(self.probe.held().values()):
            raise BrokenPromiseError(f"a closed connection holds {self.probe.held()}")
        if self._keeps_log:
            self.read_records()
        self._count(calls)
        outcomes = sorted({answer.outcome for answer in self.reader.answers.values()})
        codes = [goodbye.error_code for goodbye in self.reader.goodbyes]
        return f"{CloseReason(reason).word if self.is_over else 'open'} {codes} {' '.join(outcomes)}"

    def _check(self, asked: Call, answer: bytes) -> None:
        """Hold one answer to what was asked."""
        path = asked.headers.get(b":path") if asked.headers is not None else None
        if path == CHECK or (asked.headers is None and _is_check_denial(answer)):
            # Whatever is wrong with the call, it is denied and does not fail.
            if not _is_check_denial(answer):
                raise BrokenPromiseError(f"let through: {answer!r}")
            return
        if asked.message is None or not asked.is_complete:
            raise BrokenPromiseError("an answer to a request that is not there as a whole")
        wanted: list[bytes | None] = []
        paths = (
            [asked.headers.get(b":path")] if asked.headers is not None else [AUTHORIZE, BATCH_AUTHORIZE, HEALTH_CHECK]
        )
        for path in paths:
            if path == HEALTH_CHECK:
                # SPEC: grpc.health.v1: NOT_SERVING, for nobody has said otherwise.
                wanted.append(b"\x08\x02")
            elif path == AUTHORIZE:
                wanted.append(self.authorize(asked.message))
            elif path == BATCH_AUTHORIZE:
                wanted.append(self.batch_authorize(asked.message))
        if answer not in wanted and not (self.may_refuse_record and _is_unrecorded(answer)):
            raise BrokenPromiseError(f"answered {answer!r}, wanted {wanted}")

    def authorize(self, message: bytes) -> bytes | None:
        """Give the answer that is wanted; None if it is to be refused."""
        try:
            return core.authorize(self.image, message, seconds=NOW, nanos=0)
        except RequestError:
            return None

    def batch_authorize(self, message: bytes) -> bytes | None:
        """Give the answer that is wanted; None if it is to be refused."""
        try:
            return core.batch_authorize(self.image, message, seconds=NOW, nanos=0)
        except RequestError:
            return None

    def _count(self, calls: dict[int, Call]) -> None:
        """Hold the counters to each other."""
        told = self.probe.telemetry()
        if told["streams"]:
            raise BrokenPromiseError(f"{told['streams']} streams are counted that have ended")
        if sum(told["rpcs"].values()) > len(calls):
            raise BrokenPromiseError("more calls are counted than there were")
        if self._keeps_log and told["offered"] != sum(told["decisions"].values()):
            raise BrokenPromiseError("a decision without a record, or a record without a decision")


def _is_check_denial(answer: bytes) -> bool:
    """Whether it is a response of Envoy's that says no; nothing here has a route."""
    try:
        response = ext_authz.CheckResponse.FromString(answer)
    except DecodeError:
        return False
    return response.HasField("status") and response.status.code > 0 and response.denied_response.status.code >= 400


def _is_unrecorded(answer: bytes) -> bool:
    """Whether it is nothing but denials because there was no place for a record."""
    single = pb.AuthorizeResponse(decision=pb.DECISION_IMPLICIT_DENY, reason="audit_unavailable")
    if answer == single.SerializeToString():
        return True
    responses = pb.BatchAuthorizeResponse.FromString(answer).responses
    return bool(responses) and all(response == single for response in responses)


# --- bytes of a connection


def _connection_seeds() -> list[bytes]:
    opening = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)
    many = b"".join(call(2 * number + 1, AUTHORIZE, message) for number, message in enumerate(requests()))
    return [
        b"",
        PREFACE,
        b"GET / HTTP/1.1\r\nHost: sidecar\r\n\r\n",
        opening + call(1, AUTHORIZE, requests()[0]),
        opening + many,
        opening + call(1, BATCH_AUTHORIZE, batches()[2]) + call(3, HEALTH_CHECK, b""),
        opening
        + call(1, CHECK, check_request("/orders"))
        + call(3, CHECK, b"\xff")
        + call(5, AUTHORIZE, requests()[0]),
        opening + frame(HEADERS, END_HEADERS, 1, block(headers(AUTHORIZE))) + frame(RST_STREAM, 0, 1, bytes(4)),
        opening + call(1, b"/unknown", b"") + frame(GOAWAY, 0, 0, bytes(8)),
    ]


def _run_connection(data: bytes) -> str:
    tight, decides, small, must_record = (len(data) >> bit & 1 for bit in range(4))
    session = Session(
        limits=TIGHT_LIMITS if tight else LIMITS,
        decides=not decides,
        ring_bytes=SMALL_RING * small,
        must_record=bool(must_record),
    )
    session.send()
    session.receive(data, piece=(1 << 16, 1000, 9, 1)[len(data) >> 4 & 3] if len(data) < 4096 else 1 << 16)
    for pause in (SECOND // 20, SECOND // 5, 11 * SECOND):
        session.wait(pause)
    return session.end()


# --- frames

_TIMES = (0, 1, 1_000_000, 10_000_000, 100_000_000, SECOND, 9 * SECOND, 11 * SECOND, 601 * SECOND)
_PATHS = (AUTHORIZE, BATCH_AUTHORIZE, HEALTH_CHECK, CHECK, b"/sidecar.v1.AuthorizationService/Nothing", b"", b"*")
_EXTRA_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"grpc-timeout", b"1S"),
    (b"grpc-timeout", b"1m"),
    (b"grpc-timeout", b"0n"),
    (b"grpc-timeout", b"99999999H"),
    (b"grpc-timeout", b"123456789S"),
    (b"grpc-timeout", b"S"),
    (b"grpc-encoding", b"gzip"),
    (b"grpc-encoding", b"identity"),
    (b"te", b"trailers"),
    (b"te", b"gzip"),
    (b"content-type", b"application/grpc+proto"),
    (b"content-type", b"application/grpc-web"),
    (b"content-length", b"5"),
    (b"key-bin", b"\x00\xff"),
    (b"Upper", b"case"),
    (b":late", b"pseudo"),
    (b"connection", b"close"),
    (b"", b""),
    (b"long", b"x" * 900),
    (b"longer", b"x" * 8192),
    (b"\r\n", b"\r\n"),
)
_BROKEN_BLOCKS = (
    b"\x80",
    b"\xff\xff\xff\xff\xff\xff\xff",
    b"\x3f\xff\xff\xff\xff\x0f",
    b"\x3f\xe1\x1f",
    b"\x20\x3f\xe1\x1f\x82",
    b"\x40\x7f\xff\xff\xff\xff\x0f",
    b"\x00\x83\xff\xff\xff\x00",
    b"\xbe",
    b"\x82\x84\x86",
    b"\x40\x01a\x7f\x81\x7f" + b"y" * 16_000,
    b"\xbe" * 1000,
)


def _pick(values: tuple[bytes, ...], number: int) -> bytes:
    return values[number % len(values)]


def _message(number: int) -> bytes:
    """Give a request or a batch, now and then with bytes that are wrong."""
    good = _pick((*requests(), *batches(), b"", b"\x0a\x1fsidecar.v1.AuthorizationService"), number)
    if number < 128:
        return good
    mutator = Mutator(seed=number, tokens=(b"\xff" * 10, b"\x0a", b"\xed\xa0\x80"), max_bytes=1 << 14)
    return bytes(mutator.mutate(good, requests()[0]))


def _settings(number: int) -> bytes:
    identifier = (1, 2, 3, 4, 5, 6, 8, 0xFFFF)[number % 8]
    value = (0, 1, 16_383, 16_384, 65_535, 1 << 24, (1 << 31) - 1, 1 << 31)[number // 8 % 8]
    return identifier.to_bytes(2, "big") + value.to_bytes(4, "big")


class _Frames:
    """Writes the frames that a script tells of, three bytes for each step."""

    def __init__(self) -> None:
        self.next_stream = 1
        self.last = b""

    def steps(self, script: bytes) -> Iterator[tuple[str, int, bytes]]:
        """Give what is to be done: bytes to send, or something else with its number."""
        for step, one, two in zip(script[::3], script[1::3], script[2::3], strict=False):
            match step % 32:
                case 0 | 1 | 2:
                    yield "send", 0, self._write(call(self._new(), _pick(_PATHS[:3], one), _message(two)))
                case 3 | 4:
                    yield "send", 0, self._write(self._headers(one, two))
                case 5 | 6:
                    yield "send", 0, self._write(frame(DATA, two & 1, self._old(one), framed(_message(two))))
                case 7:
                    piece = framed(_message(two))[: one & 15]
                    yield "send", 0, self._write(frame(DATA, two & 1, self._old(one >> 4), piece))
                case 8:
                    body = framed(_message(two), flag=one & 3, longer=(one >> 2) - 32)
                    yield "send", 0, self._write(frame(DATA, END_STREAM, self._old(0), body))
                case 9:
                    yield "send", 0, self._write(self._continued(one, two))
                case 10:
                    broken = _pick(_BROKEN_BLOCKS, two)
                    flags = END_HEADERS | one & END_STREAM
                    yield "send", 0, self._write(frame(HEADERS, flags, self._new(), broken))
                case 11:
                    yield "send", 0, self._write(frame(RST_STREAM, 0, self._old(one), two.to_bytes(4, "big")))
                case 12:
                    stream = self._old(one >> 1) if one & 1 else 0
                    increment = EDGES[two % len(EDGES)].to_bytes(4, "big")
                    yield "send", 0, self._write(frame(WINDOW_UPDATE, 0, stream, increment))
                case 13:
                    yield "send", 0, self._write(frame(SETTINGS, 0, 0, _settings(one) + _settings(two)))
                case 14:
                    yield "send", 0, self._write(frame(SETTINGS, one & ACK, one >> 7, bytes(two % 13)))
                case 15:
                    payload = b"goodbye." if two & 1 else bytes(8 + (two & 6 == 2))
                    yield "send", 0, self._write(frame(PING, one & ACK, one >> 7, payload))
                case 16:
                    code = two.to_bytes(4, "big")
                    yield "send", 0, self._write(frame(GOAWAY, 0, 0, bytes(3) + bytes([one]) + code))
                case 17:
                    payload = self._old(two).to_bytes(4, "big") + b"\x10"
                    yield "send", 0, self._write(frame(PRIORITY, 0, self._old(one), payload))
                case 18:
                    yield "send", 0, self._write(frame(one, two, self._old(two), bytes(two)))
                case 19:
                    kind = (DATA, HEADERS, PUSH_PROMISE)[one % 3]
                    payload = bytes([two]) + block(headers(AUTHORIZE)) + bytes(one)
                    yield "send", 0, self._write(frame(kind, PADDED | END_HEADERS | END_STREAM, self._new(), payload))
                case 20:
                    fields = block([(b"status", b"x")] * (one & 3))
                    yield "send", 0, self._write(frame(HEADERS, END_HEADERS | two & 1, self._old(one >> 2), fields))
                case 21:
                    wrong = bytearray(self.last)
                    if wrong:
                        wrong[two % min(9, len(wrong))] ^= one
                    yield "send", 0, bytes(wrong)
                case 22:
                    yield "send", 0, self.last * (one & 15)
                case 23:
                    yield "send", 0, self.last[: one | two << 8]
                case 24:
                    self.next_stream += 2 * one - 8
                case 25 | 26 | 27:
                    yield "wait", _TIMES[one % len(_TIMES)], b""
                case 28:
                    yield "hold", one & 7, b""
                case 29:
                    yield "read", 0, b""
                case 30:
                    yield "piece", (1 << 16, 1, 8, 10, 100)[one % 5], b""
                case _:
                    if one < 64:
                        yield "drain", 0, b""

    def _new(self) -> int:
        stream = self.next_stream & 0x7FFFFFFF
        self.next_stream += 2
        return stream

    def _old(self, back: int) -> int:
        return max(0, self.next_stream - 2 - 2 * (back & 15)) & 0x7FFFFFFF

    def _write(self, data: bytes) -> bytes:
        self.last = data
        return data

    def _fields(self, one: int, two: int) -> bytes:
        extra = _EXTRA_HEADERS[two % len(_EXTRA_HEADERS)]
        fields = headers(_pick(_PATHS, one), extra, method=b"GET" if one & 0xC0 == 0xC0 else b"POST")
        if two & 0x80:
            del fields[one >> 2 & 7 : (one >> 2 & 7) + 1]
        return block(fields)

    def _headers(self, one: int, two: int) -> bytes:
        fields = self._fields(one, two)
        if one & 0x20:
            depends_on = self._old(two).to_bytes(4, "big") + b"\x01"
            return frame(HEADERS, END_HEADERS | HAS_PRIORITY, self._new(), depends_on + fields)
        return frame(HEADERS, END_HEADERS | two & END_STREAM, self._new(), fields)

    def _continued(self, one: int, two: int) -> bytes:
        """A header list in pieces, of which the last may be missing."""
        fields, stream, count = self._fields(one, two), self._new(), 1 + two % 12
        size = len(fields) // count + 1
        pieces = [fields[at : at + size] for at in range(0, len(fields), size)]
        out = frame(HEADERS, 0, stream, pieces[0])
        for number, piece in enumerate(pieces[1:], start=2):
            is_last = number == len(pieces) and one & 3
            out += frame(CONTINUATION, END_HEADERS if is_last else 0, stream, piece)
        return out


def _run_frames(script: bytes) -> str:
    choice = script[0] if script else 0
    session = Session(
        limits=TIGHT_LIMITS if choice & 2 else LIMITS,
        decides=not choice & 1,
        ring_bytes=SMALL_RING if choice & 4 else 0,
        must_record=bool(choice & 8),
    )
    piece = 1 << 16
    session.send()
    session.receive(PREFACE + frame(SETTINGS, 0, 0))
    for what, number, data in _Frames().steps(script[1:241]):
        if session.is_over:
            break
        match what:
            case "send":
                session.receive(data[: 1 << 17], piece if len(data) < 4096 else 1 << 16)
            case "wait":
                session.wait(number)
            case "hold":
                # The socket takes a few frames and no more, so nothing is read either; time goes on.
                session.probe.tick()
                session.send_some(number)
                session.probe.advance(number * SECOND)
                session.probe.tick()
                session.send()
            case "read":
                session.read_records()
            case "piece":
                piece = number
            case _:
                session.probe.drain()
                session.send()
    return session.end()


def script_seeds(first: int, width: int) -> Callable[[], list[bytes]]:
    """Give scripts of steps of *width* bytes to start from."""

    def seeds() -> list[bytes]:
        chance = random.Random(first)
        return [bytes([number, *chance.randbytes(width * (3 + number))]) for number in range(24)]

    return seeds


LISTENER_TARGETS = (
    Target(
        name="connection",
        about="bytes of a connection of the data listener",
        seeds=_connection_seeds,
        run=_run_connection,
        tokens=(
            PREFACE,
            frame(SETTINGS, 0, 0),
            frame(PING, 0, 0, bytes(8)),
            frame(DATA, END_STREAM, 1),
            frame(RST_STREAM, 0, 1, bytes(4)),
            frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
            frame(CONTINUATION, END_HEADERS, 1),
            b"\x00\x00",
            b"\xff\xff\xff",
        ),
        max_bytes=1 << 16,
    ),
    Target(
        name="frames",
        about="frames to the data listener, right and wrong, with the clock moving between them",
        seeds=script_seeds(1, 3),
        run=_run_frames,
        max_bytes=241,
    ),
)
