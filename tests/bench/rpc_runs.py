# SPDX-License-Identifier: Apache-2.0
"""
Calls by the million: what each server takes of a processor for them, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sidecar.core import Image, authorize
from tests.bench import workload
from tests.bench.load import Cores, LoadError, Shape, Target, cpu_seconds, framed, run_h2load, run_open_loop
from tests.bench.servers import Server, samples
from tests.e2e.sidecar_process import Sidecar

Json = dict[str, Any]
#: Makes so many calls, and returns how many a second and the mean time of one in microseconds.
Generate = Callable[[Target, int], tuple[float, float]]

HEADLINE = Shape(4, 16)
SHAPES = (HEADLINE, Shape(1, 1), Shape(1, 8), Shape(16, 32))
#: Fewest and most calls of one run.
_LEAST, _MOST = 200, 5_000_000
#: Answers that are decoded and compared with the core's own, before the mix is run.
_SAMPLE = 50
#: Seconds within which a server has counted what it has answered.
_COUNTED_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run of a generator on one server.

    Attributes:
        cpu_s_per_million: User and system time of the server, for a million calls.
        mean_us: Mean time of a call, as the generator saw it.
    """

    server: str
    transport: str
    shape: str
    number: int
    count: int
    cpu_s_per_million: float
    requests_per_s: float
    mean_us: float


def in_turns(servers: Sequence[Server], rounds: int) -> Iterator[tuple[int, Server]]:
    """Give each server once a round, in the one order and then in the other, so that a drift meets all alike."""
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            yield number, server


def with_h2load(body: Path, shape: Shape, core: int) -> Generate:
    """Return h2load as a generator of one and the same call."""

    def generate(target: Target, count: int) -> tuple[float, float]:
        report = run_h2load(target, body, shape, count, core=core)
        return report.requests_per_s, report.mean_us

    return generate


def with_mix(requests: Path, shape: Shape, core: int) -> Generate:
    """Return our own generator, of as many different calls as there are in a file."""

    def generate(target: Target, count: int) -> tuple[float, float]:
        report = run_open_loop(
            target, requests, core=core, connections=shape.connections, streams=shape.streams, count=count
        )
        return float(report["requests_per_s"]), float(report["all_us"]["mean"])

    return generate


def measure_run(server: Server, transport: str, shape: Shape, number: int, count: int, generate: Generate) -> Run:
    """
    Make *count* calls and return what they took; that they arrived at this server is counted there.

    Raises:
        LoadError: A call failed, or not all of them arrived.
    """
    server.check(transport)
    counted = server.answered()
    before = cpu_seconds(server.pid)
    requests_per_s, mean_us = generate(server.target(transport), count)
    taken = cpu_seconds(server.pid) - before
    wait_for_count(server, counted + count)
    server.check(transport)
    return Run(server.name, transport, str(shape), number, count, 1e6 * taken / count, requests_per_s, mean_us)


def wait_for_count(server: Server, want: int) -> None:
    """
    See that the server has counted as many calls as the generator has.

    Raises:
        LoadError: It has counted others.
    """
    latest = time.monotonic() + _COUNTED_WITHIN
    while (found := server.answered()) != want:
        if found > want or time.monotonic() > latest:
            raise LoadError(f"{server.name} has counted {found - want:+} calls beside those that were made")
        time.sleep(0.02)


def calls_for(server: Server, transport: str, seconds: float, generate: Generate, *, multiple: int = 1) -> int:
    """Return how many calls take about *seconds*, after warming the server up with a few."""
    generate(server.target(transport), _LEAST)
    rate, _ = generate(server.target(transport), 5 * _LEAST if seconds >= 1 else _LEAST)
    count = min(_MOST, max(_LEAST, int(rate * seconds)))
    return count - count % multiple if count > multiple else count


def measure_shape(
    servers: Sequence[Server],
    transport: str,
    shape: Shape,
    generate: Callable[[Server], Generate],
    *,
    rounds: int,
    seconds: float,
    multiple: int = 1,
) -> list[Run]:
    """Measure *servers* in turns, each for about *seconds* a round."""
    generates = {server.name: generate(server) for server in servers}
    counts = {
        server.name: calls_for(server, transport, seconds, generates[server.name], multiple=multiple)
        for server in servers
    }
    return [
        measure_run(server, transport, shape, number, counts[server.name], generates[server.name])
        for number, server in in_turns(servers, rounds)
    ]


def variation(values: Sequence[float]) -> float:
    """Return the coefficient of variation of *values*, in per cent; 0 where there is no spread to speak of."""
    mean = statistics.fmean(values)
    return round(100 * statistics.stdev(values) / mean, 1) if len(values) > 1 and mean else 0.0


def summary(runs: Sequence[Run]) -> Json:
    """Return the medians of *runs* by server, and how far they are apart."""
    found: Json = {}
    for name in dict.fromkeys(run.server for run in runs):
        mine = [run for run in runs if run.server == name]
        cpu = [run.cpu_s_per_million for run in mine]
        rates = [run.requests_per_s for run in mine]
        found[name] = {
            "cpu_s_per_million": round(statistics.median(cpu), 3),
            "cpu_cov_percent": variation(cpu),
            "requests_per_s": round(statistics.median(rates)),
            "requests_per_s_cov_percent": variation(rates),
            "mean_us": round(statistics.median(run.mean_us for run in mine), 1),
            "calls_a_run": mine[0].count,
            "runs": len(mine),
        }
    return found


def ratio(runs: Sequence[Run], of: str, to: str) -> Json | None:
    """Return how many times the CPU time of *to* the server *of* takes: of the medians, and between rounds."""
    by_round = {name: {run.number: run.cpu_s_per_million for run in runs if run.server == name} for name in (of, to)}
    if not by_round[of] or not by_round[to] or min(by_round[to].values()) <= 0:
        return None
    each = [value / by_round[to][number] for number, value in sorted(by_round[of].items())]
    medians = [statistics.median(by_round[name].values()) for name in (of, to)]
    return {
        "ratio": round(medians[0] / medians[1], 4),
        "least": round(min(each), 4),
        "greatest": round(max(each), 4),
    }


def rows_of(runs: Sequence[Run]) -> list[Json]:
    """Return *runs* as rows of a table."""
    return [asdict(run) for run in runs]


def hot_generate(scratch: Path, shape: Shape, cores: Cores) -> Callable[[Server], Generate]:
    """Return what makes the generator of one server: h2load with the request of that server."""

    def of(server: Server) -> Generate:
        body = scratch / f"{server.name}.body"
        body.write_bytes(framed(server.request))
        return with_h2load(body, shape, cores.generator)

    return of


def check_answers(server: Server, image: Image, requests: Sequence[bytes]) -> int:
    """
    Decode answers to a sample of *requests* and compare them with those of the core, and return their number.

    Raises:
        LoadError: One is another.
    """
    step = max(1, len(requests) // _SAMPLE)
    for request in requests[::step][:_SAMPLE]:
        want = workload.outcome(authorize(image, request, seconds=int(time.time()), nanos=0))
        found = workload.outcome(server.ask(request))
        if found is not want:
            raise LoadError(f"{server.name} answers {found}, the core {want}")
    return min(_SAMPLE, len(requests[::step]))


def decisions_of(sidecar: Sidecar) -> dict[str, float]:
    """Return how many decisions of each kind a sidecar has given."""
    return {
        decision: samples(sidecar, "sidecar_decisions_total", decision=decision)
        for decision in ("allow", "implicit_deny", "explicit_deny")
    }
