# SPDX-License-Identifier: Apache-2.0
"""
How long a call takes at a fixed rate, in peace and while images are swapped.

The generator polls, so it has a processor of its own as far as there is one. On two processors it shares that one
with the Python threads of the sidecar; when they run, it does not, and it counts the calls of such a stall apart.
Both are reported, all calls and those of the time in which the generator was there to see them.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.load import (
    Cores,
    LoadError,
    Shape,
    busiest_thread,
    pin_apart,
    run_open_loop,
    thread_cpu_seconds,
)
from tests.bench.servers import Server, samples
from tests.e2e.sidecar_process import Sidecar

Json = dict[str, Any]

CONNECTIONS = 4
#: The shape that drives a listener hardest.
GREATEST = Shape(16, 32)
SWAP_SECONDS = 1.0
WARM_UP_SECONDS = 1.0
#: Share of the wanted rate that has to be reached.
_REACHED = 0.97
#: Seconds that the last answers may take, where somebody else has the processors.
_ANSWERED_WITHIN = 60.0
#: Seconds that the last swap may take.
_SWAPPED_WITHIN = 5.0
_PERCENTILES = ("p50", "p99", "p999")


@dataclass(frozen=True, slots=True)
class Case:
    """
    One thing whose latency is measured.

    Attributes:
        name: In the figures.
        server: What is called.
        swaps: Whether images are swapped meanwhile.
    """

    name: str
    server: Server
    swaps: bool


class Swapper:
    """
    Swaps two prebuilt images in the place that a sidecar loads from, again and again.

    Thread-safety: ``start`` and ``stop`` belong to one thread; they may be called again.
    """

    def __init__(self, sidecar: Sidecar, place: Path, images: tuple[Path, Path], seconds: float = SWAP_SECONDS) -> None:
        """
        Args:
            sidecar: What has to reload.
            place: The file that it was started on; it holds the first of *images*.
            images: What takes turns there, on the same file system.
            seconds: Time between two swaps.
        """
        self._sidecar = sidecar
        self._place = place
        self._images = images
        self._seconds = seconds
        self._turn = 0
        self._asked = 0
        self._before = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._before, self._asked = self.applied(), 0
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="swapper")
        self._thread.start()

    def stop(self) -> int:
        """
        End, and return how many swaps the sidecar has made.

        Raises:
            LoadError: It has made less than half of those that it was asked for.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        latest = time.monotonic() + _SWAPPED_WITHIN
        # A request that comes while a reload is under way may be answered together with the next one.
        while (made := self.applied() - self._before) < self._asked and time.monotonic() < latest:
            time.sleep(0.05)
        if 2 * made < self._asked:
            raise LoadError(f"of {self._asked} swaps {made} were made: {self._sidecar.log[-1000:]}")
        return made

    def applied(self) -> int:
        """Return how many reloads have put another snapshot in place so far."""
        return int(samples(self._sidecar, "sidecar_policy_reloads_total", result="applied"))

    def swap(self) -> None:
        """Put the other image in place, in one step, and have it loaded."""
        self._turn += 1
        self._asked += 1
        draft = self._place.with_name(".draft")
        # A second name of the same file: nothing is copied, so it takes no time from what is measured.
        os.link(self._images[self._turn % 2], draft)
        draft.replace(self._place)
        self._sidecar.hang_up()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self.swap()
            due += self._seconds
            self._ended.wait(max(0.0, due - time.monotonic()))


@contextmanager
def swapping(swapper: Swapper | None) -> Iterator[list[int]]:
    """Swap for the length of the block; the list holds the number of swaps afterwards."""
    made: list[int] = []
    if swapper is None:
        yield made
        return
    swapper.start()
    try:
        yield made
    finally:
        made.append(swapper.stop())


def set_worker_apart(server: Server, requests: Path, cores: Cores) -> Json:
    """Find the thread of a sidecar that serves, leave it alone on a processor, and return what it is."""
    before = thread_cpu_seconds(server.pid)
    run_open_loop(server.target("tcp"), requests, core=cores.generator, connections=4, streams=16, count=20_000)
    thread, name, share = busiest_thread(server.pid, before)
    pin_apart(server.pid, thread, cores)
    return {"worker_thread": name, "worker_share_of_cpu": round(share, 3)}


def greatest_load(server: Server, requests: Path, cores: Cores, *, seconds: float) -> float:
    """Return how many calls a second the server answers when as many as it likes are under way: the best of three."""
    return max(
        float(
            run_open_loop(
                server.target("tcp"),
                requests,
                core=cores.generator,
                connections=GREATEST.connections,
                streams=GREATEST.streams,
                seconds=seconds,
            )["requests_per_s"]
        )
        for _ in range(3)
    )


def measure_latency(
    cases: Sequence[Case],
    requests: Path,
    rate: float,
    cores: Cores,
    *,
    rounds: int,
    seconds: float,
    swapper: Swapper,
    raw: Path,
) -> Json:
    """
    Measure *cases* in turns at the same rate, and return the medians of their percentiles, in microseconds.

    Raises:
        LoadError: Calls failed.
    """
    taken: dict[str, list[Json]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            case.server.check("tcp")
            with swapping(swapper if case.swaps else None) as swaps:
                figures = run_open_loop(
                    case.server.target("tcp"),
                    requests,
                    core=cores.generator,
                    connections=CONNECTIONS,
                    rate=round(rate, 1),
                    seconds=seconds,
                    warm_up=min(WARM_UP_SECONDS, seconds),
                    seed=number + 1,
                    patience=_ANSWERED_WITHIN,
                    log=str(raw / f"latency-{case.name}-{number}.csv"),
                )
            case.server.check("tcp")
            figures["swaps"] = sum(swaps)
            taken[case.name].append(figures)
    return {name: _medians(runs, rate) for name, runs in taken.items()}


def _medians(runs: Sequence[Json], rate: float) -> Json:
    found: Json = {}
    for key, prefix in (("undisturbed_us", "us"), ("all_us", "all_us")):
        for percentile in _PERCENTILES:
            values = [run[key][percentile] for run in runs]
            found[f"{prefix}_{percentile}"] = round(statistics.median(values), 1)
            found[f"{prefix}_{percentile}_runs"] = values
    reached = statistics.median(run["requests_per_s"] for run in runs)
    counted = sum(run["all_us"]["count"] for run in runs)
    return {
        **found,
        "requests_per_s": round(reached),
        "rate_reached": bool(reached >= _REACHED * rate),
        "late_us_p99": round(statistics.median(run["late_us_p99"] for run in runs), 1),
        "disturbed_percent": round(100 * sum(run["disturbed"] for run in runs) / max(1, counted), 2),
        "stalls": sum(run["stalls"] for run in runs),
        "calls": counted,
        "swaps": sum(run["swaps"] for run in runs),
    }
