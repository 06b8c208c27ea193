# SPDX-License-Identifier: Apache-2.0
"""
Run the fuzz targets, each in a process of its own; ``scripts/fuzz`` does so under the sanitizers.

A process that ends by a signal or a sanitizer's report leaves the input it was reading, which becomes a finding.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.harness import Running, fuzz, keep
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
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    known = {target.name for target in TARGETS}
    if unknown := sorted(set(options.targets) - known):
        parser.error(f"no target `{unknown[0]}`; there are {', '.join(sorted(known))}")
    if options.replay and len(options.targets) != 1:
        parser.error("--replay needs exactly one target, as in: scripts/fuzz 1 image --replay FILE")
    return options


def run_apart(name: str, options: argparse.Namespace, seed: int) -> bool:
    """Run one target in a process of its own, and say whether all was well."""
    command = [sys.executable, "-m", "tests.fuzz", str(options.seconds), name, "--here", "--seed", str(seed)]
    command += ["--folder", str(options.folder)]
    if options.executions is not None:
        command += ["--executions", str(options.executions)]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 1):
        path = keep(options.folder, name, Running.get(options.folder / f"running-{name}"))
        print(f"{name}: ended with status {status} on {path}", flush=True)
    return status == 0


def main() -> int:
    """Run every target that is asked for; 1 if there is a finding."""
    options = arguments()
    chosen = [target for target in TARGETS if not options.targets or target.name in options.targets]
    seed = options.seed if options.seed is not None else time.time_ns() & 0xFFFFFFFF
    if options.replay:
        print(chosen[0].run(options.replay.read_bytes()))
        return 0
    if options.here:
        report = fuzz(
            chosen[0],
            folder=options.folder,
            seconds=options.seconds,
            executions=options.executions,
            seed=seed,
            corpus=corpus(chosen[0].name),
        )
        print(report, flush=True)
        for path in report.findings:
            print(f"  finding: {path}", flush=True)
        return 1 if report.findings else 0
    with ThreadPoolExecutor(max(options.jobs, 1)) as jobs:
        found = sum(not well for well in jobs.map(lambda target: run_apart(target.name, options, seed), chosen))
    print(f"seed {seed}: {'no findings' if not found else f'{found} targets with findings'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
