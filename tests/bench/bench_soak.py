# SPDX-License-Identifier: Apache-2.0
"""
A long mixed load on the listener for decisions: good clients see no error, and nothing in the process grows.

Run it with ``scripts/bench soak``. Beside good clients of several kinds there are images swapped every second and
clients that vanish, stall, flood and send nonsense. After a warm-up, and again at the end, everybody leaves and the
process is looked at: its memory and its descriptors have to be the same. Then it is told to end under load, and has
to answer whatever it had accepted. The exit status is 1 if any of that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.model.listener import CloseReason, ListenerLimit
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc
from tests.bench import bench_core
from tests.bench.bench_rpc import second_image
from tests.bench.hostile import Attacker
from tests.bench.inputs import KEPT, ROOT, Inputs, inputs
from tests.bench.load import LoadError, Target, UnavailableError, open_loop_command
from tests.bench.machine import machine, resident_mib
from tests.bench.rpc_latency import Swapper
from tests.bench.servers import AUTHORIZE, data_arguments, samples
from tests.e2e.sidecar_process import Sidecar, serving

Json = dict[str, Any]
Tell = Callable[[str], None]

MINUTES = 10.0
PRINCIPALS, REQUESTS = 40, 400
#: Calls a second of each generator, and while the sidecar ends.
RATE, DRAIN_RATE = 300, 1000
#: Requests of the largest batches; more of them would be over 1 MiB.
BATCH = 1000
_MOST_BATCH_BYTES = 1024 * 1024
#: What memory may be more at the end than after the warm-up, and descriptors.
MEMORY_MIB, MEMORY_SHARE, DESCRIPTORS = 4.0, 0.05, 2
_PATIENCE = 30.0
#: Short enough that clients who stall run into each.
_TIMEOUTS = tuple(word for name in ("handshake", "request", "write") for word in (f"--data-{name}-timeout", "3"))
#: Seconds for which the descriptors have to be the same, until the process is looked at, and the longest wait for it.
_SETTLED, _SETTLED_WITHIN = 1.0, 20.0


@dataclass(frozen=True, slots=True)
class Scope:
    """How long it runs. A fifth of the time is for warming up."""

    seconds: float = 60 * MINUTES
    seed: int = 1
    kept: Path = KEPT


class GoodClient:
    """
    Asks as applications do, through grpcio, and notes whatever is not as it should be.

    Thread-safety: ``start`` and ``stop`` belong to one thread; ``errors`` may be read after ``stop``.
    """

    def __init__(self, name: str, address: str, work: Callable[[grpc.Channel], int], *, stays: bool) -> None:
        """
        Args:
            name: In the figures.
            address: Whom to ask.
            work: Makes calls on a channel, and returns how many decisions it got; raises if one is not right.
            stays: Whether it keeps its connection; otherwise it makes a new one each time.
        """
        self.name = name
        self.decisions = 0
        self.errors: list[str] = []
        self._address = address
        self._work = work
        self._stays = stays
        self._ended = Event()
        self._thread = Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the call under way is over."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(self._address, options=options) as channel:
                again = True
                while again and not self._ended.is_set():
                    try:
                        self.decisions += self._work(channel)
                    except (grpc.RpcError, LoadError) as error:
                        self.errors.append(f"{self.name}: {error}")
                    again = self._stays
                    self._ended.wait(0.05)


def ask_one(requests: Sequence[bytes]) -> Callable[[grpc.Channel], int]:
    """Return work that asks a few single questions."""

    def work(channel: grpc.Channel) -> int:
        stub = pb_grpc.AuthorizationServiceStub(channel)
        for request in requests[:10]:
            question = pb.AuthorizeRequest.FromString(request)
            answer = stub.Authorize(question, timeout=_PATIENCE)
            if answer.decision == pb.DECISION_UNSPECIFIED or answer.principal_arn != question.principal:
                raise LoadError(f"not an answer to the question: {answer}")
        return 10

    return work


def ask_many(requests: Sequence[bytes]) -> Callable[[grpc.Channel], int]:
    """Return work that asks for as large a batch as may be."""
    batch = large_batch(requests)

    def work(channel: grpc.Channel) -> int:
        stub = pb_grpc.AuthorizationServiceStub(channel)
        answers = stub.BatchAuthorize(batch, timeout=_PATIENCE).responses
        if len(answers) != len(batch.requests) or len({answer.snapshot_revision for answer in answers}) != 1:
            raise LoadError("not one answer to each question, all by one snapshot")
        for question, answer in zip(batch.requests, answers, strict=True):
            if answer.decision == pb.DECISION_UNSPECIFIED or answer.principal_arn != question.principal:
                raise LoadError(f"not an answer to the question: {answer}")
        return len(answers)

    return work


def ask_health(channel: grpc.Channel) -> int:
    """Ask whether it serves."""
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise LoadError(f"not serving: {answer}")
    return 0


def large_batch(requests: Sequence[bytes]) -> pb.BatchAuthorizeRequest:
    """Return a batch of as many questions as may be asked at once."""
    batch = pb.BatchAuthorizeRequest()
    for number in range(BATCH):
        batch.requests.add().ParseFromString(requests[number % len(requests)])
    while batch.ByteSize() > _MOST_BATCH_BYTES:
        del batch.requests[-BATCH // 10 :]
    return batch


class Generator:
    """
    Our own generator in a process of its own.

    Thread-safety: confined to one thread.
    """

    def __init__(self, address: str, requests: Path, *, rate: int, seconds: float) -> None:
        command = open_loop_command(
            Target(address, AUTHORIZE),
            requests,
            connections=4,
            rate=rate,
            seconds=seconds,
            sleep=True,
            patience=_PATIENCE,
        )
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def figures(self) -> Json:
        """Wait for its end, and return what it has counted."""
        output, errors = self._process.communicate()
        if self._process.returncode != 0:
            raise LoadError(f"the generator failed: {errors[-1000:]}")
        counted: Json = json.loads(output)
        return counted

    def kill(self) -> None:
        """End it, if nobody has waited for its end."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.kill()
            self._process.communicate()


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def settled(pid: int) -> Json:
    """Return memory and descriptors of a process that nobody asks anything, once the latter have come to rest."""
    latest = time.monotonic() + _SETTLED_WITHIN
    since, seen = time.monotonic(), descriptors(pid)
    while time.monotonic() < min(latest, since + _SETTLED):
        time.sleep(0.1)
        now = descriptors(pid)
        if now != seen:
            since, seen = time.monotonic(), now
    return {"rss_mib": resident_mib(pid)["VmRSS"], "descriptors": seen}


@dataclass(slots=True)
class _Watched:
    """What was seen while there was load."""

    errors: list[str]
    decisions: Counter[str]
    calls: int
    attacks: Counter[str]
    swaps: int
    rss_mib: float
    descriptors: int


def load(
    sidecar: Sidecar, addresses: Sequence[str], given: Inputs, swapper: Swapper, *, seconds: float, seed: int
) -> _Watched:
    """Put every kind of load on a sidecar for so many seconds, and return what came of it."""
    watched = _Watched([], Counter(), 0, Counter(), 0, 0.0, 0)
    requests_file = given.source.parent / "requests"
    batch = large_batch(given.requests).SerializeToString()
    clients: list[GoodClient] = []
    attackers: list[Attacker] = []
    generators: list[Generator] = []
    for number, address in enumerate(addresses):
        kind = "unix" if address.startswith("unix:") else "tcp"
        clients += [
            GoodClient(f"single {kind}", address, ask_one(given.requests), stays=True),
            GoodClient(f"new connections {kind}", address, ask_one(given.requests), stays=False),
            GoodClient(f"batches {kind}", address, ask_many(given.requests), stays=True),
            GoodClient(f"health {kind}", address, ask_health, stays=True),
        ]
        attackers += [
            Attacker(address, AUTHORIZE, given.requests[0], batch, seed=seed * 100 + 10 * number + twin)
            for twin in range(2)
        ]
    with ExitStack() as stack:
        swapper.start()
        stack.callback(lambda: setattr(watched, "swaps", swapper.stop()))
        for address in addresses:
            generator = Generator(address, requests_file, rate=RATE, seconds=seconds)
            stack.callback(generator.kill)
            generators.append(generator)
        everybody: list[GoodClient | Attacker] = [*clients, *attackers]
        for one in everybody:
            one.start()
            stack.callback(one.stop)
        until = time.monotonic() + seconds
        while time.monotonic() < until and sidecar.process.poll() is None:
            watched.rss_mib = max(watched.rss_mib, resident_mib(sidecar.process.pid)["VmRSS"])
            watched.descriptors = max(watched.descriptors, descriptors(sidecar.process.pid))
            time.sleep(0.5)
        for generator in generators:
            counted = generator.figures()
            watched.calls += counted["answered"]
            if counted["not_ok"] or counted["lost"] or counted["refused"] or counted["told_to_go"]:
                watched.errors.append(f"generator: {counted}")
    for client in clients:
        watched.decisions[client.name] += client.decisions
        watched.errors += client.errors
        if client.decisions == 0 and not client.name.startswith("health"):
            watched.errors.append(f"{client.name}: no decision at all")
    for attacker in attackers:
        watched.attacks += attacker.played
        watched.errors += [f"attacker: {fault}" for fault in attacker.faults]
    return watched


def drain(sidecar: Sidecar, addresses: Sequence[str], requests: Path) -> Json:
    """Tell a sidecar to end under load, and return what became of the calls that it had accepted."""
    with ExitStack() as stack:
        generators = [Generator(address, requests, rate=DRAIN_RATE, seconds=600) for address in addresses]
        for generator in generators:
            stack.callback(generator.kill)
        time.sleep(1.0)
        began = time.monotonic()
        status = sidecar.stop()
        taken = time.monotonic() - began
        counted = [generator.figures() for generator in generators]
    return {
        "exit_status": status,
        "drain_s": round(taken, 2),
        "answered": sum(one["answered"] for one in counted),
        "refused": sum(one["refused"] for one in counted),
        "lost": sum(one["lost"] for one in counted),
        "not_ok": sum(one["not_ok"] for one in counted),
        "told_to_go": all(one["told_to_go"] for one in counted),
    }


def complaints(figures: Json) -> list[str]:
    """Return what is not as it should be; nothing, if all is well."""
    found = (
        [f"{figures['errors_in_all']} errors of good clients, the first: {figures['errors'][0]}"]
        if figures["errors"]
        else []
    )
    early, late = figures["after_warm_up"], figures["at_the_end"]
    allowed = max(MEMORY_MIB, MEMORY_SHARE * early["rss_mib"])
    if late["rss_mib"] > early["rss_mib"] + allowed:
        found.append(f"memory grew from {early['rss_mib']} MiB to {late['rss_mib']}, by more than {allowed:.1f}")
    if late["descriptors"] > early["descriptors"] + DESCRIPTORS:
        found.append(f"descriptors grew from {early['descriptors']} to {late['descriptors']}")
    ended = figures["drain"]
    if ended["exit_status"] != 0:
        found.append(f"it ended with status {ended['exit_status']}")
    if ended["lost"] or ended["not_ok"] or not ended["answered"]:
        found.append(f"calls were lost while it ended: {ended}")
    if not ended["told_to_go"]:
        found.append("it ended without saying so to all of its clients")
    if figures["logged_errors"]:
        found.append(f"it logged errors, the first: {figures['logged_errors'][0]}")
    if figures["swaps"] < 1:
        found.append("no image was swapped")
    return found


@contextmanager
def soaked(scope: Scope) -> Iterator[tuple[Sidecar, list[str], Inputs, Swapper]]:
    """Run a sidecar on one of two images that take turns."""
    given = inputs(principals=PRINCIPALS, requests=REQUESTS, kept=scope.kept)
    # Paths of sockets have to be short, so they do not stand below the checkout.
    with TemporaryDirectory(prefix="bench-") as name:
        scratch = Path(name)
        images = (scratch / "a.image", scratch / "b.image")
        bench_core.compile_once(given.source, images[0])
        second_image(given, images[1])
        place = scratch / "image"
        os.link(images[0], place)
        arguments = (*data_arguments(scratch), *_TIMEOUTS, "--watch-interval", "0", "--log-level", "error")
        with serving(place, scratch / "state", *arguments) as sidecar:
            yield sidecar, sidecar.addresses("data"), given, Swapper(sidecar, place, images)


def soak(scope: Scope, *, tell: Tell = lambda text: None) -> Json:
    """Run all of it, and return the figures; ``complaints`` among them is empty if all is well."""
    figures: Json = {"seconds": scope.seconds, "machine": machine()}
    with soaked(scope) as (sidecar, addresses, given, swapper):
        pid = sidecar.process.pid
        figures["before"] = settled(pid)
        tell(f"warming up for {scope.seconds / 5:.0f} s: {', '.join(addresses)}")
        warm = load(sidecar, addresses, given, swapper, seconds=scope.seconds / 5, seed=scope.seed)
        figures["after_warm_up"] = settled(pid)
        tell(f"mixed load for {4 * scope.seconds / 5:.0f} s")
        seen = load(sidecar, addresses, given, swapper, seconds=4 * scope.seconds / 5, seed=scope.seed + 1)
        figures["at_the_end"] = settled(pid)
        figures["greatest"] = {
            "rss_mib": max(warm.rss_mib, seen.rss_mib),
            "descriptors": max(warm.descriptors, seen.descriptors),
        }
        figures["limit_hits"] = counted_by(sidecar, "sidecar_data_limit_hits_total", "limit", ListenerLimit)
        figures["closed"] = counted_by(sidecar, "sidecar_data_connections_closed_total", "reason", CloseReason)
        tell("ending under load")
        figures["drain"] = drain(sidecar, addresses, given.source.parent / "requests")
        figures["logged_errors"] = [event for event in sidecar.events if event.get("level") == "error"][:10]
    errors = warm.errors + seen.errors
    figures |= {
        "errors_in_all": len(errors),
        "errors": errors[:20],
        "calls": warm.calls + seen.calls,
        "decisions": dict(warm.decisions + seen.decisions),
        "attacks": dict(warm.attacks + seen.attacks),
        "swaps": warm.swaps + seen.swaps,
    }
    figures["complaints"] = complaints(figures)
    return figures


def counted_by(
    sidecar: Sidecar, name: str, label: str, words: type[ListenerLimit] | type[CloseReason]
) -> dict[str, int]:
    """Return what the sidecar has counted under *name*, by the words of a label; zeros are left out."""
    found = {word.word: int(samples(sidecar, name, **{label: word.word})) for word in words}
    return {word: count for word, count in found.items() if count}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, keep the figures, and say what is not as it should be."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description="a long mixed load with bad clients")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long, warm-up included")
    parser.add_argument("--seed", type=int, default=1, help="of what the bad clients do")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    given = parser.parse_args(arguments)

    def tell(text: str) -> None:
        print(f"scripts/bench: {text}", file=sys.stderr, flush=True)

    try:
        figures = soak(Scope(seconds=60 * given.minutes, seed=given.seed), tell=tell)
    except (LoadError, UnavailableError) as error:
        print(error, file=sys.stderr)
        return 1
    raw = KEPT / "soak" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    raw.parent.mkdir(parents=True, exist_ok=True)
    figures["raw"] = os.path.relpath(raw, ROOT)
    text = json.dumps(figures, indent=2)
    raw.write_text(text)
    print(text if given.json else bench_core.plain(figures))
    for complaint in figures["complaints"]:
        print(f"not well: {complaint}", file=sys.stderr)
    return 1 if figures["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
