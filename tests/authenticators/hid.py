# SPDX-License-Identifier: Apache-2.0
"""
CTAPHID as a device speaks it (CTAP 2.2, section 11.2): channels, packets, keepalives, cancel.
"""

from __future__ import annotations

import itertools
import struct
import threading
import time
from collections import deque
from collections.abc import Generator
from typing import Protocol

from fido2.ctap import STATUS, CtapError
from fido2.hid import CAPABILITY, CTAPHID, CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor

PACKET_BYTES = 64
BROADCAST = 0xFFFFFFFF
MAX_MESSAGE_BYTES = PACKET_BYTES - 7 + 128 * (PACKET_BYTES - 5)
_INIT = 0x80

#: What a key does with a request: it yields while it works or waits, and gives its answer in the end.
Work = Generator[STATUS, None, bytes]


class Key(Protocol):
    """A key that can be plugged in."""

    name: str
    capabilities: CAPABILITY

    def process(self, command: CTAPHID, data: bytes) -> Work:
        """Do what a request asks for."""

    def cancel(self) -> bytes:
        """Give the answer to a request that was cancelled."""


class _Message:
    """A message of which some packets have come."""

    def __init__(self, packet: bytes) -> None:
        self.length: int
        self.channel, command, self.length = struct.unpack_from(">IBH", packet)
        self.command = command & 0x7F
        self.data = packet[7 : 7 + self.length]
        self.sequence = 0

    @property
    def is_whole(self) -> bool:
        return len(self.data) >= self.length

    def add(self, packet: bytes) -> bool:
        """Take the next packet, and say whether it was the one to come next."""
        if packet[4] != self.sequence:
            return False
        self.sequence += 1
        self.data += packet[5 : 5 + self.length - len(self.data)]
        return True


class SoftConnection(CtapHidConnection):
    """
    The cable between a client and a software key: whole packets each way.

    Thread-safety: locked; reading and writing may be done by different threads.
    """

    def __init__(self, key: Key, *, keepalive_seconds: float = 0.002) -> None:
        self._key = key
        self._keepalive_seconds = keepalive_seconds
        self._lock = threading.RLock()
        self._out: deque[bytes] = deque()
        self._channels = itertools.count(0x10)
        self._known: set[int] = set()
        self._partial: _Message | None = None
        self._busy: tuple[int, CTAPHID, Work] | None = None
        self.is_open = True
        self.keepalives_sent = 0
        self.cancels_seen = 0

    def close(self) -> None:
        """Pull the plug."""
        self.is_open = False

    def write_packet(self, data: bytes) -> None:
        """Take one packet from the client."""
        self._check_open()
        if len(data) != PACKET_BYTES:
            raise ValueError(f"a packet has {PACKET_BYTES} bytes, not {len(data)}")
        with self._lock:
            self._take(data)

    def read_packet(self) -> bytes:
        """Give the next packet to the client; wait for it the way a key makes one wait."""
        while True:
            self._check_open()
            with self._lock:
                if self._out:
                    return self._out.popleft()
                if self._busy is None:
                    raise OSError("the client reads, and nothing was asked")
                self._advance()
            if self._out and self._out[0][4] == _INIT | CTAPHID.KEEPALIVE:
                time.sleep(self._keepalive_seconds)

    def _check_open(self) -> None:
        if not self.is_open:
            raise OSError("the key was pulled out")

    def _take(self, packet: bytes) -> None:
        channel = struct.unpack_from(">I", packet)[0]
        if packet[4] & _INIT:
            message = _Message(packet)
            if message.command == CTAPHID.CANCEL:
                self._cancel(channel)
                return
            if message.command == CTAPHID.INIT:
                self._partial = None
                self._open_channel(channel, message.data)
                return
            if channel not in self._known:
                self._fail(channel, CtapError.ERR.INVALID_CHANNEL)
                return
            if self._busy is not None or (self._partial is not None and self._partial.channel != channel):
                self._fail(channel, CtapError.ERR.CHANNEL_BUSY)
                return
            if message.length > MAX_MESSAGE_BYTES:
                self._fail(channel, CtapError.ERR.INVALID_LENGTH)
                return
            self._partial = message
        elif self._partial is None or self._partial.channel != channel:
            return  # Stray packets are ignored.
        elif not self._partial.add(packet):
            self._partial = None
            self._fail(channel, CtapError.ERR.INVALID_SEQ)
            return
        if self._partial.is_whole:
            message, self._partial = self._partial, None
            self._begin(message)

    def _open_channel(self, channel: int, nonce: bytes) -> None:
        if len(nonce) != 8:
            self._fail(channel, CtapError.ERR.INVALID_LENGTH)
            return
        given = next(self._channels) if channel == BROADCAST else channel
        self._known.add(given)
        answer = nonce + struct.pack(">IBBBBB", given, 2, 1, 0, 0, self._key.capabilities)
        self._answer(channel, CTAPHID.INIT, answer)

    def _begin(self, message: _Message) -> None:
        if message.command == CTAPHID.PING:
            self._answer(message.channel, CTAPHID.PING, message.data)
        elif message.command == CTAPHID.WINK and self._key.capabilities & CAPABILITY.WINK:
            self._answer(message.channel, CTAPHID.WINK, b"")
        elif message.command == CTAPHID.CBOR and self._key.capabilities & CAPABILITY.CBOR:
            self._start(message.channel, CTAPHID.CBOR, message.data)
        elif message.command == CTAPHID.MSG and not self._key.capabilities & CAPABILITY.NMSG:
            self._start(message.channel, CTAPHID.MSG, message.data)
        else:
            self._fail(message.channel, CtapError.ERR.INVALID_COMMAND)

    def _start(self, channel: int, command: CTAPHID, data: bytes) -> None:
        self._busy = (channel, command, self._key.process(command, data))

    def _advance(self) -> None:
        """Let the key work until it waits or answers."""
        if self._busy is None:
            return
        channel, command, work = self._busy
        try:
            status = next(work)
        except StopIteration as done:
            self._busy = None
            self._answer(channel, command, done.value)
        else:
            self.keepalives_sent += 1
            self._answer(channel, CTAPHID.KEEPALIVE, bytes([status]))

    def _cancel(self, channel: int) -> None:
        self.cancels_seen += 1
        if self._busy is None or self._busy[0] != channel or self._busy[1] != CTAPHID.CBOR:
            return  # There is nothing to cancel, and no answer to that.
        _, command, work = self._busy
        work.close()
        self._busy = None
        self._answer(channel, command, self._key.cancel())

    def _fail(self, channel: int, error: CtapError.ERR) -> None:
        self._answer(channel, CTAPHID.ERROR, bytes([error]))

    def _answer(self, channel: int, command: CTAPHID, data: bytes) -> None:
        header = struct.pack(">IBH", channel, _INIT | command, len(data))
        for sequence in itertools.count():
            room = PACKET_BYTES - len(header)
            self._out.append((header + data[:room]).ljust(PACKET_BYTES, b"\0"))
            data = data[room:]
            if not data:
                return
            header = struct.pack(">IB", channel, sequence)


_PATHS = itertools.count(1)


def plug(key: Key, *, keepalive_seconds: float = 0.002) -> CtapHidDevice:
    """Give *key* as a device that is plugged in; closing it pulls the key out."""
    descriptor = HidDescriptor(
        path=f"/dev/soft-hidraw{next(_PATHS)}",
        vid=0xF1D0,
        pid=0x0001,
        report_size_in=PACKET_BYTES,
        report_size_out=PACKET_BYTES,
        product_name=key.name,
        serial_number=None,
    )
    return CtapHidDevice(descriptor, SoftConnection(key, keepalive_seconds=keepalive_seconds))
