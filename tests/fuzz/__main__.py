# SPDX-License-Identifier: Apache-2.0
"""
Run the fuzz targets, each in a process of its own; ``scripts/fuzz`` does so under the sanitizers.

A process that ends by a signal or a sanitizer's report leaves the input it was reading, which becomes a finding.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.harness import Running, Target, fuzz, keep
from tests.fuzz.targets import TARGETS, corpus


def arguments() -> argparse.Namespace:
    """Read the command line."""
    about = "\n".join(f"  {target.name:12} {target.about}" for target in TARGETS)
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"targets:\n{about}",
    )
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="seconds for each target")
    parser.add_argument("targets", nargs="*", metavar="target", help="names of targets; all if none is given")
    parser.add_argument(
        "--seed", type=int, default=None, help="number that fixes the inputs; new each time if not given"
    )
    parser.add_argument("--executions", type=int, default=None, help="end each target after as many executions")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="run the one target on this file and show what happens"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where findings are kept")
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="targets that run at once; as many as there are cores if not given",
    )
    options = parser.parse_args()
    known = {target.name for target in TARGETS}
    if unknown := sorted(set(options.targets) - known):
        parser.error(f"no target `{unknown[0]}`; there are {', '.join(sorted(known))}")
    if options.replay and len(options.targets) != 1:
        parser.error("--replay needs exactly one target, as in: scripts/fuzz 1 image --replay FILE")
    return options


def run_here(target: Target, options: argparse.Namespace, seed: int) -> int:
    """Run one target in this process; 1 if there is a finding."""
    report = fuzz(
        target,
        folder=options.folder,
        seconds=options.seconds,
        executions=options.executions,
        seed=seed,
        corpus=corpus(target.name),
    )
    print(report, flush=True)
    for path in report.findings:
        print(f"  finding: {path}", flush=True)
    return 1 if report.findings else 0


def begin_apart(target: Target, options: argparse.Namespace, seed: int) -> int:
    """Run one target in a process of its own, which has everything imported already; return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = run_here(target, options, seed)
        except BaseException:  # noqa: BLE001 - whatever it is, nobody above would print it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            # Nothing of the parent's is to be tidied up here.
            os._exit(status)
    return child


def run_apart(chosen: Sequence[Target], options: argparse.Namespace, seed: int) -> int:
    """Run each target in a process of its own, some at a time; return how many have findings."""
    waiting = deque(chosen)
    running: dict[int, str] = {}
    found = 0
    while waiting or running:
        while waiting and len(running) < max(options.jobs, 1):
            target = waiting.popleft()
            running[begin_apart(target, options, seed)] = target.name
        child, ended = os.wait()
        name, status = running.pop(child), os.waitstatus_to_exitcode(ended)
        if status not in (0, 1):
            path = keep(options.folder, name, Running.get(options.folder / f"running-{name}"))
            print(f"{name}: ended with status {status} on {path}", flush=True)
        found += status != 0
    return found


def main() -> int:
    """Run every target that is asked for; 1 if there is a finding."""
    options = arguments()
    chosen = [target for target in TARGETS if not options.targets or target.name in options.targets]
    seed = options.seed if options.seed is not None else time.time_ns() & 0xFFFFFFFF
    if options.replay:
        print(chosen[0].run(options.replay.read_bytes()))
        return 0
    found = run_apart(chosen, options, seed)
    print(f"seed {seed}: {'no findings' if not found else f'{found} targets with findings'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
