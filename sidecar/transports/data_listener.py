# SPDX-License-Identifier: Apache-2.0
"""
The data listener: gRPC on sockets that the compiled core answers in threads of its own.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.core import LIMIT_NAMES, CheckPlan, DataServer, Image, SessionState
from sidecar.model.errors import SettingsError
from sidecar.services.log import Log, NullLog
from sidecar.transports.addresses import Address, UnixAddress, bind, bound_address, remove_socket_file

if TYPE_CHECKING:
    from sidecar.core._core import Telemetry

_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLimits:
    """
    How much peers may make the data listener do and keep.

    Attributes:
        connections: Open at once, all workers together.
        streams: Calls under way at once on one connection.
        worker_streams: Calls under way at once on one worker.
        header_bytes: Size of a header list, counted as RFC 9113, section 6.5.2, has it.
        message_memory: Bytes for messages and answers that do not fit into a stream's own room, for each worker.
        idle_seconds: Time without a call after which a connection is ended.
        handshake_seconds: Longest time until the connection preface and the first SETTINGS are there.
        request_seconds: Longest time until a request is there as a whole.
        write_seconds: Longest time that an answer waits for its reader.
        reset_burst: Streams reset at once, counted in each direction.
        reset_rate: Of them, what a second gives back.
        control_burst: Frames at once that are no part of a call.
        control_rate: Of them, what a second gives back.
        ping_seconds: Shortest time between PINGs with no call in between.
    """

    connections: int = 1024
    streams: int = 256
    worker_streams: int = 16_384
    header_bytes: int = 8192
    message_memory: int = 64 * 1024 * 1024
    idle_seconds: float = 600.0
    handshake_seconds: float = 10.0
    request_seconds: float = 10.0
    write_seconds: float = 10.0
    reset_burst: int = 1000
    reset_rate: int = 33
    control_burst: int = 2000
    control_rate: int = 200
    ping_seconds: float = 10.0

    def for_core(self) -> dict[str, int]:
        """
        Return the limits under the names that the core has for them, times in nanoseconds.

        >>> DataLimits(idle_seconds=1.5).for_core()["idle"]
        1500000000
        """
        names = {"request_seconds": "slow_request", "write_seconds": "slow_reader", "ping_seconds": "ping_interval"}
        limits = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_time = field.name.endswith("_seconds")
            name = names.get(field.name, field.name.removesuffix("_seconds"))
            limits[name] = int(value * _NANOS) if is_time else int(value)
        return {name: limits[name] for name in LIMIT_NAMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """
    What records of decisions are kept until they are read.

    Attributes:
        ring_bytes: Room of each worker, a power of two.
        allows: The share of allows that is recorded, from 0 to 1.
        denials: The same of denials.
        must_record: Whether an answer leaves only if there is room for its record.
    """

    ring_bytes: int
    allows: float
    denials: float
    must_record: bool


class DataListener:
    """
    Serves ``Authorize``, ``BatchAuthorize``, Envoy's ``Check`` and health on one or more addresses, without the GIL.

    Thread-safety: ``start`` and ``stop`` belong to one thread; all else may come from any.
    """

    def __init__(
        self,
        *,
        addresses: Sequence[Address],
        workers: int,
        limits: DataLimits | None = None,
        recording: Recording | None = None,
        check: CheckPlan | None = None,
        log: Log | None = None,
    ) -> None:
        """
        Args:
            addresses: Where to listen. Whoever can connect is trusted, so they are loopback or Unix sockets.
            workers: Threads that answer.
            limits: How much peers may make it do and keep.
            recording: What records of decisions it keeps; None for none.
            check: How Envoy is answered; None: as by default.
            log: Where faults are told.
        """
        self._addresses = tuple(addresses)
        self._workers = workers
        self._limits = limits or DataLimits()
        self._recording = recording
        self._check = check
        self._log: Log = log or NullLog()
        self._bound: list[Address] = []
        self._server: DataServer | None = None
        self._image: Image | None = None
        self._sessions: SessionState | None = None

    def start(self) -> tuple[Address, ...]:
        """
        Listen, and return the addresses with the ports that were taken. Connections that come before the first image
        are closed at once; every call of later ones is answered.

        Raises:
            SettingsError: An address is in use or cannot be listened on, or the system has no room for the workers.
        """
        with ExitStack() as undo:
            sockets: list[socket.socket] = []
            for address in self._addresses:
                sockets.append(undo.enter_context(bind(address)))
                self._bound.append(bound_address(sockets[-1], address))
                sockets[-1].setblocking(False)
            undo.pop_all()
        try:
            server = DataServer(
                [listener.detach() for listener in sockets],
                workers=self._workers,
                limits=self._limits.for_core(),
                check=self._check,
            )
            if self._recording is not None:
                server.keep_log(**dataclasses.asdict(self._recording))
            server.publish(self._image)
            server.publish_sessions(self._sessions)
            server.start()
        except OSError as error:
            raise SettingsError(
                f"the data listener cannot be started: {os.strerror(error.errno or 0).lower()}",
                help="name fewer workers",
            ) from None
        self._server = server
        self._image, self._sessions = None, None
        return tuple(self._bound)

    def publish(self, image: Image) -> None:
        """Have every worker decide by *image* from its next call on."""
        if self._server is None:
            self._image = image
        else:
            self._server.publish(image)

    def publish_sessions(self, state: SessionState) -> None:
        """Have every worker open session tokens by *state* from its next call on."""
        if self._server is None:
            self._sessions = state
        else:
            self._server.publish_sessions(state)

    def set_serving(self, is_serving: bool) -> None:
        """Say in the health service whether decisions can be given."""
        if self._server is not None:
            self._server.set_serving(is_serving)

    def telemetry(self) -> list[Telemetry]:
        """Return what was counted so far: of the thread that accepts first, then of each worker."""
        return self._server.telemetry() if self._server is not None else []

    def worker_cpu_seconds(self) -> list[float]:
        """Return the processor time that each worker has used."""
        return self._server.worker_cpu_seconds() if self._server is not None else []

    def wait_for_records(self, milliseconds: int) -> None:
        """Wait, without the GIL, until there are many records to read, or for *milliseconds*."""
        if self._server is not None:
            self._server.wait_for_records(milliseconds)
        else:
            time.sleep(milliseconds / 1000)

    def read_records(self) -> bytes:
        """Return records that have not been read yet, one behind the other; after ``stop`` too."""
        return self._server.read_records() if self._server is not None else b""

    def stop(self, grace: float) -> None:
        """Take no more calls, tell peers to go, and let calls under way end within *grace* seconds."""
        if self._server is not None:
            self._server.set_serving(False)
            if not self._server.drain(grace):
                self._log.warning("data_listener_cut_off", seconds=grace)
            self._server.close()
        for address in self._bound:
            # Only our own: an address that was not free belongs to somebody else.
            if isinstance(address, UnixAddress):
                remove_socket_file(address)
