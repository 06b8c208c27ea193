# SPDX-License-Identifier: Apache-2.0
"""
A data listener in this process, with limits small enough to be hit, and what it has counted.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, Literal

from sidecar import core
from sidecar.core import DataServer, Image
from sidecar.model.listener import CloseReason, ListenerLimit, RpcMethod, RpcStatus
from sidecar.transports.data_listener import DataLimits
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import USER_ARN
from tests.unit.core.asking import image

#: The longest that anything here is waited for; nothing takes that long.
PATIENCE = 30.0
#: A port of the loopback, or the path of a Unix socket.
Place = tuple[str, int] | str

_HEADER = struct.Struct("<IHBBIIqIIQII")


def eventually(what: Callable[[], bool]) -> None:
    """Wait until *what* holds."""
    latest = monotonic() + PATIENCE
    while not what():
        assert monotonic() < latest, "it never came about"
        sleep(0.002)


def question(action: str = "s3:GetObject", **more: Any) -> bytes:
    """Return a request that the image of these tests allows, unless *action* says otherwise."""
    resource = "arn:aws:s3:::bucket/alice/report.csv"
    return pb.AuthorizeRequest(principal=USER_ARN, action=action, resource=resource, **more).SerializeToString()


def batch(*questions: bytes) -> bytes:
    """Return a batch of requests."""
    requests = [pb.AuthorizeRequest.FromString(one) for one in questions]
    return pb.BatchAuthorizeRequest(requests=requests).SerializeToString()


def right_answer(asked: bytes, by: Image | None = None) -> bytes:
    """Return what the core answers to a request that does not depend on the clock."""
    return core.authorize(by or image(), asked, seconds=int(time()), nanos=0)


@dataclass(frozen=True)
class Record:
    """A decision record, as the listener writes it."""

    worker: int
    method: int
    decision: int
    time: int
    sequence: int
    request: bytes
    answer: bytes
    note: bytes


def read_records(block: bytes) -> list[Record]:
    """Take a block of records apart."""
    records = []
    at = 0
    while at < len(block):
        size, worker, method, decision, asked, answered, when, _, _, sequence, noted, _ = _HEADER.unpack_from(block, at)
        body = at + _HEADER.size
        assert size % 8 == 0
        assert size >= _HEADER.size + asked + answered + noted
        request, answer = block[body : body + asked], block[body + asked : body + asked + answered]
        note = block[body + asked + answered : body + asked + answered + noted]
        records.append(Record(worker, method, decision, when, sequence, request, answer, note))
        at += size
    return records


@dataclass(frozen=True)
class Listener:
    """A running listener."""

    server: DataServer
    #: The first place that it listens at, and all of them.
    place: Place
    places: Sequence[Place]

    def total(self, name: Literal["accepted", "connections", "streams", "parked", "batch_requests"]) -> int:
        """Return a number that every thread counts."""
        return sum(counted[name] for counted in self.server.telemetry())

    def ring(self, name: Literal["offered", "sampled_out", "dropped", "waiting_bytes"]) -> int:
        """Return a number of the decision log."""
        return sum(counted[name] for counted in self.server.telemetry())

    def hits(self, limit: ListenerLimit) -> int:
        """Return how often a limit was run into."""
        return sum(counted["limits"][limit] for counted in self.server.telemetry())

    def closed(self, reason: CloseReason) -> int:
        """Return how many connections ended for a reason."""
        return sum(counted["closed"][reason] for counted in self.server.telemetry())

    def rpcs(self, method: RpcMethod, status: RpcStatus) -> int:
        """Return how many calls ended in a status."""
        return sum(counted["rpcs"].get((method, status), 0) for counted in self.server.telemetry())

    def decisions(self) -> dict[tuple[int, int, int], int]:
        """Return how many decisions there were, by decision, layer and reason."""
        total: dict[tuple[int, int, int], int] = {}
        for counted in self.server.telemetry():
            for key, count in counted["decisions"].items():
                total[key] = total.get(key, 0) + count
        return total


@contextmanager
def listening(
    limits: DataLimits | None = None,
    *,
    workers: int = 1,
    by: Image | None = None,
    log: Mapping[str, Any] | None = None,
    check: core.CheckPlan | None = None,
    unix: bool = False,
    is_empty: bool = False,
) -> Iterator[Listener]:
    """
    Run a listener for the length of the block, on an image unless it *is_empty*.

    However it was treated, nothing is open once it has ended, and it knows why every connection did.
    """
    with tempfile.TemporaryDirectory() as folder:
        sockets = [socket.create_server(("127.0.0.1", 0), backlog=1024)]
        places: list[Place] = [("127.0.0.1", sockets[0].getsockname()[1])]
        if unix:
            path = str(Path(folder, "data.sock"))
            sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sockets[-1].bind(path)
            sockets[-1].listen(1024)
            places.insert(0, path)
        for listener in sockets:
            listener.setblocking(False)
        server = DataServer(
            [listener.detach() for listener in sockets],
            workers=workers,
            limits=(limits or DataLimits()).for_core(),
            check=check,
        )
        if log is not None:
            server.keep_log(**log)
        if not is_empty:
            server.publish(by or image())
        server.set_serving(True)
        server.start()
        running = Listener(server, places[0], places)
        try:
            yield running
        finally:
            server.close()
        assert running.total("connections") == 0
        assert running.total("streams") == 0
        assert sum(sum(counted["closed"]) for counted in server.telemetry()) == running.total("accepted")


def threads(name: str) -> list[Path]:
    """Return the folders under which the kernel tells of this process's threads of that name."""
    tasks = [Path("/proc/self/task", task) for task in os.listdir("/proc/self/task")]
    return [task for task in tasks if (task / "comm").read_text().strip().startswith(name)]
