# SPDX-License-Identifier: Apache-2.0
"""
OPA beside us, asked by Envoy: its engine, on a policy that says the same, behind a small server in Go.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.inputs import KEPT, ROOT
from tests.bench.load import UnavailableError, on_core

SOURCE = ROOT / "tests" / "bench" / "opa"
_PATIENCE = 60.0


def install(*, folder: Path = KEPT, is_asked: bool = True) -> Path:
    """
    Build the server below ``build/bench``, where that is not done yet, and return its program.

    Args:
        is_asked: Whether it may be built, for which modules of Go are fetched; otherwise it has to be there.

    Raises:
        UnavailableError: It cannot be had here.
    """
    program = folder / "opa-authz"
    newest = max(path.stat().st_mtime_ns for path in SOURCE.iterdir())
    if program.exists() and program.stat().st_mtime_ns > newest:
        return program
    if not is_asked:
        raise UnavailableError("OPA is not there; `scripts/bench envoy` builds it")
    if shutil.which("go") is None:
        raise UnavailableError("go is not on this machine, so there is no OPA to compare with")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-C", str(SOURCE), "-o", str(program), "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise UnavailableError(f"OPA cannot be built: {done.stderr.strip()[-300:]}")
    return program


def version() -> str:
    """Return the version of OPA that the server is built with."""
    lines = (SOURCE / "go.mod").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.strip().startswith("github.com/open-policy-agent/opa "))


@contextmanager
def running(program: Path, *, core: int) -> Iterator[str]:
    """Run it on one processor for the length of the block; gives its address."""
    command = on_core(core, [str(program), "127.0.0.1:0", str(SOURCE / "policy.rego")])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        if process.stdout is None:
            raise UnavailableError("OPA has no output")
        word, _, address = process.stdout.readline().strip().partition(" ")
        if word != "serving":
            raise UnavailableError("OPA does not start")
        yield address
    finally:
        process.terminate()
        process.wait(_PATIENCE)
        if process.stdout is not None:
            process.stdout.close()
