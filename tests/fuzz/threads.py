# SPDX-License-Identifier: Apache-2.0
"""
The data listener with all its threads at once: good and bad clients, new snapshots, readers of counters and records,
and its end at any time. ``scripts/fuzz --threads`` runs it under the thread sanitizer.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.core import DataServer, Image, SessionState
from sidecar.model.session import SessionKind
from sidecar.services.raw_records import split_records
from sidecar.transports.data_listener import DataLimits
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests import tokens
from tests.conformance.cases import USER_ID, build_snapshot
from tests.fuzz.harness import Mutator
from tests.fuzz.listener_targets import NOW, image, requests
from tests.fuzz.peer import (
    ACK,
    AUTHORIZE,
    BATCH_AUTHORIZE,
    CHECK,
    END_HEADERS,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    AnswerReader,
    block,
    call,
    frame,
    framed,
    headers,
)
from tests.unit.core.checking import checked_image
from tests.unit.core.routing import check_request
from tests.unit.core.sessions import claims

#: Calls that a good client sends at once.
AT_ONCE = 12
#: Seconds that a good client waits for its answers before it is a finding; nothing else depends on it.
PATIENCE = 60.0
OPENING = PREFACE + frame(SETTINGS, 0, 0)


def snapshots() -> tuple[bytes, ...]:
    """Give images that answer differently, all of them without looking at the clock."""
    everything = build_snapshot({"principal": "user", "identity": {"policies": [[{"Action": "*"}]]}})
    nothing = build_snapshot({"principal": "user", "identity": {"policies": []}})
    return write_image(everything), write_image(nothing)


def session_states() -> tuple[SessionState, ...]:
    """Give states that open different tokens, or the same with another outcome."""
    keys = ((tokens.KEY_ID, tokens.KEY), (tokens.OTHER_KEY_ID, tokens.OTHER_KEY))
    revoked = tokens.revocation(tokens.PRINCIPAL, USER_ID, (1 << 42) - 1)
    return tokens.state(keys=keys), tokens.state(keys=keys[1:]), tokens.state(revoked, keys=keys)


def token_requests(now: int) -> tuple[bytes, ...]:
    """Give requests with session tokens that are good for an hour from *now*, and with one that never is."""

    def token(number: int, **sealed: bytes) -> str:
        said = claims(
            SessionKind.SIGN_IN,
            issued_at_ms=now * 1000,
            lineage_issued_at_ms=now * 1000,
            expires_at_ms=(now + 3600) * 1000,
            source_identity=f"name{number}",
        )
        return tokens.seal(said, **sealed)

    made = [token(number) for number in range(200)]
    made += [token(0, key_id=tokens.OTHER_KEY_ID, key=tokens.OTHER_KEY), made[0][:-1]]
    return tuple(
        pb.AuthorizeRequest(session_token=token, action="app:Read", resource="*").SerializeToString() for token in made
    )


def check_requests() -> tuple[bytes, ...]:
    """Give requests of Envoy, none of which gets a ticket: no two of those are alike."""
    caller: dict[str, Any] = {"peer": "spiffe://example.com/alice"}
    cookies = {"cookie": f"a=1; sidecar-session={'x' * 80}; b=2", "x-iam-principal": "somebody"}
    return (
        check_request("/orders", headers=cookies, **caller),
        check_request("/static/app.js", headers=cookies),
        check_request("/forbidden", **caller),
        check_request("/orders", headers={"authorization": "Bearer " + "A" * 100}),
        check_request("/orders/../x"),
        b"\xff",
    )


class FindingError(Exception):
    """A thread saw what must not be."""


@dataclass(kw_only=True)
class Stress:
    """
    One server and everything that happens to it.

    Thread-safety: what threads share is locked, or set once and then read.
    """

    seed: int
    workers: int
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_ending: threading.Event = field(default_factory=threading.Event)
    has_closed: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float, folder: Path) -> None:
        """Let it serve for a while, end it while everybody goes on, and hold its counters to each other."""
        chance = random.Random(self.seed)
        self.images: list[Image | None] = [None, image(), *(Image.from_bytes(data) for data in snapshots())]
        self.images.append(checked_image())
        self.states: list[SessionState | None] = [None, *session_states()]
        now = int(time.time())
        with_tokens = token_requests(now)
        self.asked = [(AUTHORIZE, request) for request in (*requests(), *with_tokens)]
        self.asked += [(CHECK, request) for request in check_requests()]
        self.wanted = [
            {core.authorize(held, request, seconds=NOW, nanos=0) for held in self.images} for request in requests()
        ] + [
            {
                core.authorize(held, request, seconds=now, nanos=0, sessions=state)
                for held in self.images
                for state in self.states
            }
            for request in with_tokens
        ]
        self.wanted += [
            {
                core.check(held, request, seconds=NOW, nanos=0, sessions=state)
                for held in self.images
                for state in self.states
            }
            for request in check_requests()
        ]
        path = folder / f"{self.seed}.sock"
        with socket.socket(socket.AF_UNIX) as local, socket.socket() as inet:
            local.bind(str(path))
            inet.bind(("127.0.0.1", 0))
            self.addresses: list[tuple[socket.AddressFamily, str | tuple[str, int]]] = [
                (socket.AF_UNIX, str(path)),
                (socket.AF_INET, inet.getsockname()),
            ]
            for listener in (local, inet):
                listener.listen(64)
                listener.setblocking(False)
            # Short times, so that each of them passes now and then.
            limits = DataLimits(idle_seconds=0.5, request_seconds=0.2, write_seconds=0.2, message_memory=1 << 20)
            self.server = DataServer(
                [local.detach(), inet.detach()], workers=self.workers, limits=limits.for_core()
            )  # fmt: skip
        self.keeps_log = chance.random() < 0.8
        if self.keeps_log:
            self.server.keep_log(
                ring_bytes=chance.choice((4096, 1 << 16)), allows=1.0, denials=1.0, must_record=chance.random() < 0.5
            )
        self.server.publish(self.images[1])
        self.server.start()
        clients = (self._good, self._good, self._bad, self._vanishing)
        others = (self._publish, self._look, self._look, self._read_records)
        threads = [
            threading.Thread(target=self._guarded, args=(work, random.Random(self.seed * 16 + number)), daemon=True)
            for number, work in enumerate((*clients, *others))
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds * chance.uniform(0.5, 1.0))
        self.is_ending.set()
        if chance.random() < 0.8:
            self.server.drain(chance.choice((0.0, 0.05, 0.5)))
        self.server.close()
        self.has_closed.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
            if thread.is_alive():
                self._find("a thread does not end")
        path.unlink()
        self._check()

    def _check(self) -> None:
        told = self.server.telemetry()
        self._count_records(self.server.read_records(1 << 24))
        if any(one["connections"] or one["streams"] for one in told):
            self._find("connections or streams are counted that have ended")
        offered, dropped = sum(one["offered"] for one in told), sum(one["dropped"] for one in told)
        if self.keeps_log and offered - dropped != self.counts["records"]:
            self._find(f"{offered} records were offered, {dropped} dropped and {self.counts['records']} read")
        if self.keeps_log and offered != sum(sum(one["decisions"].values()) for one in told):
            self._find("a decision without a record, or a record without a decision")
        if self.server.held_images() or self.server.held_sessions():
            self._find("a closed server holds an image or a session state")

    def _find(self, what: str) -> None:
        with self.lock:
            self.findings.append(f"seed {self.seed}: {what}")

    def _add(self, name: str, number: int = 1) -> None:
        with self.lock:
            self.counts[name] += number

    def _guarded(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        while not self.has_closed.is_set():
            try:
                work(chance)
            except Exception as error:  # noqa: BLE001
                self._find(f"{work.__name__}: {type(error).__name__}: {error}")
                return

    def _connect(self, chance: random.Random) -> socket.socket | None:
        family, address = chance.choice(self.addresses)
        peer = socket.socket(family)
        peer.settimeout(PATIENCE)
        try:
            peer.connect(address)
        except OSError:
            peer.close()
            if not self.is_ending.is_set():
                raise
            time.sleep(0.01)
            return None
        self._add("connections")
        return peer

    # Clients.

    def _good(self, chance: random.Random) -> None:
        """Every call gets its answer, and it is that of one of the snapshots."""
        peer = self._connect(chance)
        if peer is None:
            return
        with peer:
            reader = AnswerReader()
            stream = 1
            try:
                peer.sendall(OPENING)
                for _ in range(chance.randrange(1, 20)):
                    asked = {stream + 2 * number: chance.randrange(len(self.asked)) for number in range(AT_ONCE)}
                    stream += 2 * AT_ONCE
                    peer.sendall(b"".join(call(at, *self.asked[number]) for at, number in asked.items()))
                    while not all(at in reader.answers and reader.answers[at].has_ended for at in asked):
                        data = peer.recv(1 << 16)
                        if not data:
                            raise ConnectionResetError
                        reader.feed(data)
                    for at, number in asked.items():
                        self._check_answer(reader.answers[at].message, number)
            except (ConnectionError, TimeoutError) as error:
                if not self.is_ending.is_set():
                    raise FindingError(f"a good client lost its connection: {reader.goodbyes}") from error

    def _check_answer(self, message: bytes | None, number: int) -> None:
        self._add("answers")
        if message not in self.wanted[number] and b"audit_unavailable" not in (message or b""):
            raise FindingError(f"answered {message!r} to request {number}")

    def _bad(self, chance: random.Random) -> None:
        """Bytes that were good once."""
        good = OPENING + b"".join(call(2 * at + 1, AUTHORIZE, request) for at, request in enumerate(requests()))
        mutator = Mutator(seed=chance.randrange(1 << 30), tokens=(frame(SETTINGS, ACK, 0), OPENING), max_bytes=1 << 16)
        peer = self._connect(chance)
        if peer is None:
            return
        with peer, contextlib.suppress(ConnectionError, TimeoutError):
            peer.sendall(mutator.mutate(good, good))
            peer.settimeout(0.05)
            peer.recv(1 << 16)

    def _vanishing(self, chance: random.Random) -> None:
        """Calls by halves, answers that nobody reads, streams that are reset, and an end without goodbye."""
        peer = self._connect(chance)
        if peer is None:
            return
        large = b"".join(b"\x0a" + bytes([len(one) & 127 | 128, len(one) >> 7]) + one for one in requests()[:7]) * 20
        whole = b"".join(call(at, BATCH_AUTHORIZE, large) for at in range(1, 40, 2))
        half = frame(HEADERS, END_HEADERS, 101, block(headers(AUTHORIZE))) + frame(0, 0, 101, framed(large)[:900])
        resets = b"".join(
            call(at, AUTHORIZE, requests()[0]) + frame(RST_STREAM, 0, at, bytes(4)) for at in range(1, 100, 2)
        )
        with peer, contextlib.suppress(ConnectionError, TimeoutError):
            peer.settimeout(0.3)
            peer.sendall(OPENING + chance.choice((whole, half, resets, resets + half, whole + half)))
            time.sleep(chance.choice((0, 0.001, 0.02, 0.3)))
            if chance.random() < 0.5:
                # The kernel tells the other side that it is gone, rather than that it is done.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # Whoever runs the server.

    def _publish(self, chance: random.Random) -> None:
        fresh = [Image.from_bytes(data) for data in snapshots()]
        self.server.publish(chance.choice((*self.images, *fresh)))
        state = chance.choice((*self.states, *session_states()))
        self.server.publish_sessions(state)
        if state is not None:
            state.set_valid_until(tokens.FOR_EVER)
        self._add("publications")
        time.sleep(chance.choice((0, 0.001, 0.005)))

    def _look(self, chance: random.Random) -> None:
        told = self.server.telemetry()
        if any(one["waiting_bytes"] > 1 << 20 for one in told):
            raise FindingError("more bytes wait than there is room for")
        self.server.worker_cpu_seconds()
        self.server.held_images()
        self.server.held_sessions()
        self.server.set_serving(chance.random() < 0.5)
        self._add("looks")
        time.sleep(0.002)

    def _read_records(self, chance: random.Random) -> None:
        self.server.wait_for_records(chance.choice((0, 1, 20)))
        self._count_records(self.server.read_records(chance.choice((1 << 17, 1 << 20))))

    def _count_records(self, block_of_records: bytes) -> None:
        records, damaged = split_records(block_of_records)
        if damaged:
            self._find("a damaged record")
        self._add("records", len(records))


def stress(seconds: float, *, seed: int, round_seconds: float = 1.5) -> tuple[Counter[str], list[str]]:
    """Run one server after another for *seconds*; give what was done, and what was found."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - began < seconds:
            one = Stress(seed=seed, workers=1 + seed % 3)
            one.run(round_seconds, Path(folder))
            counts += one.counts
            counts["servers"] += 1
            if one.findings:
                return counts, one.findings
            seed += 1
    return counts, []


def main() -> int:
    """Run it from the command line; 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz --threads", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="how long")
    parser.add_argument(
        "--seed", type=int, default=None, help="number that fixes what clients do; new each time if not given"
    )
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() & 0xFFFFFF
    counts, findings = stress(options.seconds, seed=seed)
    print(f"threads: {', '.join(f'{number} {name}' for name, number in sorted(counts.items()))}")
    print(*findings, sep="\n")
    print(f"seed {seed}: {'no findings' if not findings else f'{len(findings)} findings'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
