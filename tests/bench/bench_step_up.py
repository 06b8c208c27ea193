# SPDX-License-Identifier: Apache-2.0
"""
Stepping up in figures: a crowd proves itself at once, while the data listener serves at half of its greatest load.

Run it with ``scripts/bench step_up``. The p99 of decisions by session token is measured in turns without the crowd and
with it, over as long as the crowd takes. No figure fails anything: only calls that fail do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench.crowd import Person, Steps, move_in, sign_in, step_up_at_once, user_arns
from tests.bench.load import Cores, LoadError, run_open_loop
from tests.bench.machine import is_quiet, machine
from tests.bench.rpc_latency import CONNECTIONS, greatest_load, set_worker_apart
from tests.bench.servers import Server, sidecar_on, sidecar_servers, verify_authorize
from tests.e2e.people import ORDERS, write_people

Json = dict[str, Any]

PEOPLE = 200
#: Rounds without and with the crowd. Nobody may be asked more than ten times within ten minutes.
ROUNDS = 5
#: Seconds of load to find the greatest one.
FIND_SECONDS = 2.0
#: Share of the greatest load that is served meanwhile.
_SHARE = 0.5
_WARM_UP_SECONDS = 0.5
_LEAST_SECONDS = 1.0


def measure(*, people: int, rounds: int, find_seconds: float) -> Json:
    """
    Return the figures.

    Raises:
        LoadError: A call failed.
        UnavailableError: What makes the load cannot be built here.
    """
    cores = Cores.of_this_machine()
    with TemporaryDirectory(prefix="step-up-") as name:
        folder = Path(name)
        source = write_people(folder / "source", users=user_arns(people))
        scratch = folder / "run"
        scratch.mkdir()
        crowd = move_in(source, scratch / "state", people)
        with sidecar_on(source, scratch, core=cores.server) as sidecar:
            management = sidecar.address("management")
            tokens = sign_in(management, crowd)
            request = pb.AuthorizeRequest(
                session_token=tokens[0], action="payments:GetOrder", resource=f"{ORDERS}/4711"
            ).SerializeToString()
            requests = folder / "requests"
            requests.write_bytes(struct.pack("<I", len(request)) + request)
            ours, _ = sidecar_servers(sidecar, request, verify_authorize(pb.DECISION_ALLOW, crowd[0].user_arn))
            ours.check("tcp")
            figures = set_worker_apart(ours, requests, cores)
            greatest = greatest_load(ours, requests, cores, seconds=find_seconds)
            with kept_on(cores.rest):
                figures |= _in_turns(ours, requests, greatest * _SHARE, cores, rounds, management, crowd, tokens)
            ours.check("tcp")
    return {"people": people, "rounds": rounds, "greatest_per_s": round(greatest), **figures}


def _in_turns(
    server: Server,
    requests: Path,
    rate: float,
    cores: Cores,
    rounds: int,
    management: str,
    crowd: Sequence[Person],
    tokens: Sequence[str],
) -> Json:
    """Measure without the crowd and with it, in turns, each for as long as the crowd takes."""
    # The first time shows how long that is, and warms up what is kept.
    steps = [step_up_at_once(management, crowd, tokens)]
    seconds = max(_LEAST_SECONDS, steps[0].seconds)
    without: list[Json] = []
    during: list[Json] = []
    for number in range(rounds):
        for has_crowd in (False, True) if number % 2 == 0 else (True, False):
            with stepping_up(management, crowd, tokens if has_crowd else ()) as done:
                found = run_open_loop(
                    server.target("tcp"),
                    requests,
                    core=cores.generator,
                    connections=CONNECTIONS,
                    rate=round(rate, 1),
                    seconds=seconds,
                    warm_up=_WARM_UP_SECONDS,
                    seed=number + 1,
                    patience=60.0,
                )
            (during if has_crowd else without).append(found)
            steps += done
    waited = sorted(wait for one in steps for wait in one.each_ms)
    figures: Json = {
        "rate_per_s": round(rate),
        "crowd_s": round(statistics.median(one.seconds for one in steps), 3),
        "step_up_ms_p50": round(waited[len(waited) // 2], 1),
        "step_up_ms_p99": round(waited[int(0.99 * len(waited))], 1),
    }
    for key, prefix in (("undisturbed_us", ""), ("all_us", "all_")):
        before, with_crowd = ([run[key]["p99"] for run in runs] for runs in (without, during))
        figures[f"{prefix}p99_us_without"] = round(statistics.median(before), 1)
        figures[f"{prefix}p99_us_during"] = round(statistics.median(with_crowd), 1)
        # A run of a moment may have no call that the generator was there to see.
        is_seen = statistics.median(before) > 0
        figures[f"{prefix}p99_ratio"] = (
            round(statistics.median(with_crowd) / statistics.median(before), 3) if is_seen else None
        )
        figures[f"{prefix}p99_us_runs"] = [before, with_crowd]
    return figures


@contextmanager
def stepping_up(management: str, crowd: Sequence[Person], tokens: Sequence[str]) -> Iterator[list[Steps]]:
    """
    Have a crowd step up beside what the block does; without tokens nobody does. The list says how, afterwards.

    Raises:
        LoadError: Somebody got no token.
    """
    done: list[Steps] = []
    failures: list[Exception] = []

    def run() -> None:
        # The load is there first.
        threading.Event().wait(_WARM_UP_SECONDS)
        try:
            done.append(step_up_at_once(management, crowd, tokens))
        except (grpc.RpcError, LoadError) as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="crowd")
    if tokens:
        thread.start()
    try:
        yield done
    finally:
        if tokens:
            thread.join()
    if failures:
        raise LoadError(f"not everybody got a token: {failures[0]!r}")


@contextmanager
def kept_on(core: int) -> Iterator[None]:
    """Keep this process away from the processor of the listener's worker, for the length of the block."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench step_up", description="measure stepping up under load")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--people", type=int, default=PEOPLE, help="how many step up at once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="without and with them, in turns; at most 8")
    parser.add_argument("--find-seconds", type=float, default=FIND_SECONDS, help="of load, to find the greatest one")
    given = parser.parse_args(arguments)
    quiet = is_quiet()
    figures = measure(people=given.people, rounds=given.rounds, find_seconds=given.find_seconds)
    if given.json:
        print(json.dumps({**figures, "quiet": quiet, "machine": machine()}, indent=2))
        return 0
    print(f"{figures['people']} people stepped up at once within {figures['crowd_s']} s, {figures['rounds']} times")
    print(f"each had a token after {figures['step_up_ms_p50']} ms (median), {figures['step_up_ms_p99']} ms (p99)")
    print(f"meanwhile {figures['rate_per_s']:,} decisions a second, half of {figures['greatest_per_s']:,}:")
    for prefix, what in (("", "in the time in which the generator saw them"), ("all_", "all of them")):
        without, during = figures[f"{prefix}p99_us_without"], figures[f"{prefix}p99_us_during"]
        print(f"  p99 {without} µs without, {during} µs with the crowd: {figures[f'{prefix}p99_ratio']} times ({what})")
    if not quiet:
        print("while other programs ran: times are too high and spread")
    for name, value in machine().items():
        print(f"- {name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
