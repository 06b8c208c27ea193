# SPDX-License-Identifier: Apache-2.0
"""
Clients that a listener has to survive: they vanish, stall, flood it, or speak something else.

The bytes are put together here rather than by a library, since no library would send them.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event, Thread

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# SPEC: RFC 9113, section 6.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 0x1, 0x4
_INITIAL_WINDOW_SIZE = 4

#: Longest that one of them waits for a listener that does not read, in seconds.
_PATIENCE = 2.0
#: Longest time for which one does nothing at all.
_STALL = 1.5


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """
    Return one frame.

    >>> frame(SETTINGS, 0, 0).hex()
    '000000040000000000'
    """
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def header_block(headers: Sequence[tuple[str, str]]) -> bytes:
    """
    Return *headers* as literals that need no table.

    >>> header_block([("te", "trailers")]).hex()
    '0002746508747261696c657273'
    """
    block = b""
    for name, value in headers:
        # SPEC: RFC 7541, section 6.2.2; a length below 127 is one byte.
        block += b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
    return block


def call_headers(path: str, content_type: str = "application/grpc") -> bytes:
    """Return the header block of a call."""
    return header_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", content_type),
            ("te", "trailers"),
        ]
    )


def connect(address: str) -> socket.socket:
    """Return a connection to ``HOST:PORT`` or ``unix:PATH``."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(address.removeprefix("unix:"))
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=_PATIENCE)


class Attacker:
    """
    Plays one bad client after another, drawn at random, until it is told to end.

    Thread-safety: ``start`` and ``stop`` belong to one thread.
    """

    def __init__(self, address: str, path: str, message: bytes, large_message: bytes, *, seed: int) -> None:
        """
        Args:
            address: Whom to attack.
            path: A method that is served.
            message: A request for it.
            large_message: A request whose answer is large, for `path` with ``Batch`` before its name.
            seed: Of the draw.
        """
        self._address = address
        self._path = path
        service, _, name = path.rpartition("/")
        self._batch_path = f"{service}/Batch{name}"
        self._message = message
        self._large_message = large_message
        self._random = random.Random(seed)
        self._ended = Event()
        self._thread = Thread(target=self._run, name=f"attacker-{seed}")
        #: How often each was played.
        self.played: Counter[str] = Counter()
        #: What went wrong in the attacker itself.
        self.faults: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the one that is being played is over."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        attacks = self.attacks()
        while not self._ended.is_set():
            name = self._random.choice(sorted(attacks))
            self.played[name] += 1
            try:
                with connect(self._address) as connection:
                    attacks[name](connection)
            except OSError:
                # The listener ended it, as it may.
                pass
            except (ValueError, struct.error) as error:
                self.faults.append(f"{name}: {error!r}")
            self._ended.wait(0.01)

    def attacks(self) -> dict[str, Callable[[socket.socket], None]]:
        """Return the bad clients by name; each is given a new connection."""
        return {
            "bad_grpc": self._bad_grpc,
            "continuation_flood": self._continuation_flood,
            "flipped_bytes": self._flipped_bytes,
            "half_open": self._half_open,
            "half_preface": self._half_preface,
            "huge_length": self._huge_length,
            "large_headers": self._large_headers,
            "ping_flood": self._ping_flood,
            "random_bytes": self._random_bytes,
            "rapid_reset": self._rapid_reset,
            "settings_flood": self._settings_flood,
            "slow_writer": self._slow_writer,
            "truncated": self._truncated,
            "vanish_before_answer": self._vanish_before_answer,
            "vanish_in_request": self._vanish_in_request,
            "window_overflow": self._window_overflow,
            "zero_window": self._zero_window,
        }

    def _begin(self) -> bytes:
        return PREFACE + frame(SETTINGS, 0, 0)

    def _call(self, stream: int, *, path: str = "", message: bytes | None = None) -> bytes:
        body = self._message if message is None else message
        data = b"\0" + len(body).to_bytes(4, "big") + body
        pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)]
        frames = [frame(HEADERS, END_HEADERS, stream, call_headers(path or self._path))]
        frames += [frame(DATA, 0, stream, piece) for piece in pieces[:-1]]
        return b"".join([*frames, frame(DATA, END_STREAM, stream, pieces[-1])])

    def _vanish(self, connection: socket.socket) -> None:
        """Close so that the other side gets a reset rather than an end."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _stall(self) -> None:
        self._ended.wait(self._random.uniform(0, _STALL))

    def _read_some(self, connection: socket.socket) -> None:
        connection.settimeout(0.2)
        while connection.recv(65536):
            pass

    def _vanish_in_request(self, connection: socket.socket) -> None:
        call = self._begin() + self._call(1)
        connection.sendall(call[: self._random.randrange(len(PREFACE), len(call))])
        self._vanish(connection)

    def _vanish_before_answer(self, connection: socket.socket) -> None:
        connection.sendall(self._begin() + self._call(1, path=self._batch_path, message=self._large_message))
        if self._random.random() < 0.5:
            time.sleep(0.005)
        self._vanish(connection)

    def _half_open(self, _connection: socket.socket) -> None:
        self._stall()

    def _half_preface(self, connection: socket.socket) -> None:
        connection.sendall(PREFACE[: self._random.randrange(1, len(PREFACE))])
        self._stall()

    def _random_bytes(self, connection: socket.socket) -> None:
        begin = self._begin() if self._random.random() < 0.5 else b""
        connection.sendall(begin + self._random.randbytes(self._random.randrange(1, 20000)))
        self._read_some(connection)

    def _flipped_bytes(self, connection: socket.socket) -> None:
        call = bytearray(self._begin() + self._call(1) + self._call(3))
        for _ in range(self._random.randrange(1, 6)):
            call[self._random.randrange(len(call))] ^= 1 << self._random.randrange(8)
        connection.sendall(call)
        self._read_some(connection)

    def _truncated(self, connection: socket.socket) -> None:
        call = self._begin() + self._call(1)
        connection.sendall(call[: self._random.randrange(len(call))])
        connection.shutdown(socket.SHUT_WR)
        self._read_some(connection)

    def _ping_flood(self, connection: socket.socket) -> None:
        connection.sendall(self._begin() + frame(PING, 0, 0, b"12345678") * 20_000)
        self._stall()

    def _settings_flood(self, connection: socket.socket) -> None:
        connection.sendall(self._begin() + frame(SETTINGS, 0, 0) * 20_000)
        self._stall()

    def _rapid_reset(self, connection: socket.socket) -> None:
        connection.sendall(self._begin())
        for first in range(1, 8000, 400):
            calls = (
                self._call(stream) + frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
                for stream in range(first, first + 400, 2)
            )
            connection.sendall(b"".join(calls))

    def _continuation_flood(self, connection: socket.socket) -> None:
        connection.sendall(self._begin() + frame(HEADERS, 0, 1, call_headers(self._path)))
        for _ in range(200):
            connection.sendall(frame(CONTINUATION, 0, 1, header_block([("x-more", "y" * 100)])) * 20)

    def _large_headers(self, connection: socket.socket) -> None:
        block = call_headers(self._path) + header_block([("x-large", "y" * 120)]) * 100
        connection.sendall(self._begin() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        self._read_some(connection)

    def _window_overflow(self, connection: socket.socket) -> None:
        most = (2**31 - 1).to_bytes(4, "big")
        connection.sendall(self._begin() + self._call(1) + frame(WINDOW_UPDATE, 0, 0, most) * 2)
        self._read_some(connection)

    def _zero_window(self, connection: socket.socket) -> None:
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
        calls = b"".join(self._call(stream) for stream in range(1, 40, 2))
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + calls)
        self._stall()

    def _slow_writer(self, connection: socket.socket) -> None:
        call = self._begin() + self._call(1)
        for at in range(0, len(call), 7):
            if self._ended.wait(_STALL * 7 / len(call)):
                return
            connection.sendall(call[at : at + 7])
        self._read_some(connection)

    def _huge_length(self, connection: socket.socket) -> None:
        headers = frame(HEADERS, END_HEADERS, 1, call_headers(self._path))
        connection.sendall(self._begin() + headers + frame(DATA, 0, 1, b"\0\x7f\xff\xff\xff" + b"x" * 100))
        self._read_some(connection)

    def _bad_grpc(self, connection: socket.socket) -> None:
        bodies = (b"", b"\0\0", b"\1\0\0\0\1x", b"\0\0\0\0\2\xff\xff", b"\7\0\0\0\0")
        calls = self._begin()
        for stream, body in enumerate(bodies):
            headers = call_headers(
                self._path if stream % 2 else "/no.Such/Method", "text/plain" if stream == 4 else "application/grpc"
            )
            calls += frame(HEADERS, END_HEADERS, 2 * stream + 1, headers) + frame(
                DATA, END_STREAM, 2 * stream + 1, body
            )
        connection.sendall(calls)
        self._read_some(connection)
