# SPDX-License-Identifier: Apache-2.0
"""
Instructions a decision, counted by callgrind: the same on every run, whatever else the machine does.

The count goes from a request that is parsed and bound to its outcome, MFA answer included, over a
fixed sample of requests under a small company. ``instructions.json`` keeps what was counted last,
together with the tools and the inputs: only then can two counts be compared.

Run as a program, this module is what runs under callgrind: it decides each request once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sidecar.core import Image
from sidecar.core._core import measure

PRINCIPALS = 300
SAMPLE = 4_000
#: A rise above this share of the recorded count fails.
ALLOWED_RISE = 0.05
RECORD = Path(__file__).with_name("instructions.json")
#: The moment of every decision, that of the workload.
_NOW = 1_800_000_000
_SYMBOL = r" [tT] (__pyx_f_7sidecar_4core_5_core_%s(?:\.[a-z]+\.\d+)*)$"
_PARTS = (".cold", ".part")
#: By these the C library chooses among its own functions.
_FEATURES = ("avx2", "bmi2", "erms", "movbe", "rtm")


class UncountedError(Exception):
    """The instructions cannot be counted here, or not be compared with those recorded; it says why."""


@dataclass(frozen=True, slots=True)
class Count:
    """
    What callgrind counted, and what it depends on.

    Attributes:
        decision_instructions: Mean over the sample.
        requests: Decisions in the sample.
        inputs: Digest of the source and the requests.
        tools: Everything else that moves the count: the compiler and its flags, Python, the C library, valgrind,
            and the package that the policies are from.
    """

    decision_instructions: float
    requests: int
    inputs: str
    tools: dict[str, str]


def tools() -> dict[str, str]:
    """
    Return the versions that a count depends on.

    Raises:
        UncountedError: There is no valgrind.
    """
    # Not for the program under callgrind, which has to start quickly.
    from tests.bench.machine import machine

    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise UncountedError("valgrind is not installed")
    version = subprocess.run([valgrind, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = machine()
    return {
        "architecture": platform.machine(),
        "cpu features": _features(),
        **{name: found[name] for name in ("core built with", "cython", "libc", "moto", "python")},
        "valgrind": version,
    }


def count_instructions() -> Count:
    """
    Count the instructions of a decision, over the whole sample.

    Raises:
        UncountedError: There is no valgrind, or the core gives it no function to count.
    """
    from tests.bench.inputs import compile_inputs, inputs, joined

    versions = tools()
    given = inputs(principals=PRINCIPALS, requests=SAMPLE)
    digest = hashlib.sha256()
    for path in sorted(given.source.rglob("*.*")):
        digest.update(path.read_bytes())
    data, lengths = joined(given.requests)
    digest.update(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image").write_bytes(compile_inputs(given.source))
        (folder / "requests").write_bytes(data)
        (folder / "lengths").write_bytes(lengths.tobytes())
        total = callgrind("tests.bench.instructions", folder, ("decide",))
    return Count(round(total / len(given.requests), 1), len(given.requests), digest.hexdigest()[:16], versions)


def recorded() -> Count:
    """Return what ``instructions.json`` keeps."""
    return Count(**json.loads(RECORD.read_text()))


def record(count: Count) -> None:
    """Keep *count* in ``instructions.json``."""
    RECORD.write_text(json.dumps(asdict(count), indent=2, sort_keys=True) + "\n")


def comparable(kept: Count) -> None:
    """
    Look whether what would be counted here may be compared with *kept*, before taking the trouble.

    Raises:
        UncountedError: It may not; the text says what differs.
    """
    here = tools()
    other = [
        f"{name}: `{here.get(name)}`, recorded with `{value}`"
        for name, value in kept.tools.items()
        if here.get(name) != value
    ]
    if other:
        raise UncountedError("other tools than the recorded ones; " + "; ".join(other))


def complaint(kept: Count, now: Count) -> str:
    """
    Say what is wrong with *now*, or nothing.

    >>> kept = Count(1000.0, 4000, "a", {})
    >>> complaint(kept, Count(1050.0, 4000, "a", {}))
    ''
    >>> complaint(kept, Count(1051.0, 4000, "a", {}))
    'a decision takes 1051 instructions, 5.1 % more than the recorded 1000'
    >>> complaint(kept, Count(1000.0, 4000, "b", {}))
    'the source or the requests are not those of the recorded count'
    """
    if (now.inputs, now.requests) != (kept.inputs, kept.requests):
        return "the source or the requests are not those of the recorded count"
    if now.decision_instructions > kept.decision_instructions * (1 + ALLOWED_RISE):
        rise = now.decision_instructions / kept.decision_instructions - 1
        return (
            f"a decision takes {now.decision_instructions:.0f} instructions,"
            f" {rise * 100:.1f} % more than the recorded {kept.decision_instructions:.0f}"
        )
    return ""


def _features() -> str:
    """Return what this processor has of that by which the C library chooses."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown"
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    return " ".join(feature for feature in _FEATURES if found and feature in found[1].split())


def _symbol(function: str) -> str:
    """Return the symbol of the one C function of this name; the compiler may have added to it."""
    import sidecar.core._core as core

    try:
        symbols = subprocess.run(["nm", core.__file__], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UncountedError(f"the functions of the core cannot be listed: {error}") from error
    found: set[str] = set(re.findall(_SYMBOL % re.escape(function), symbols, re.MULTILINE))
    whole = sorted(name for name in found if not any(part in name for part in _PARTS))
    if len(whole) != 1:
        raise UncountedError(f"the core has not one function `{function}` but {whole or 'none'}")
    return whole[0]


def callgrind(module: str, folder: Path, functions: Sequence[str]) -> int:
    """
    Return how many instructions ran inside of C *functions* of the core while *module* was run on *folder*.

    Raises:
        UncountedError: There is no valgrind, or the core has not these functions.
    """
    if shutil.which("valgrind") is None:
        raise UncountedError("valgrind is not installed")
    out = folder / "callgrind.out"
    run = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            "--collect-atstart=no",
            *(f"--toggle-collect={_symbol(function)}" for function in functions),
            f"--callgrind-out-file={out}",
            sys.executable,
            "-m",
            module,
            str(folder),
        ],
        cwd=Path(__file__).parents[2],
        # Symbols are bound before anything is counted; Python's own hashing has no part in it.
        env={**os.environ, "LD_BIND_NOW": "1", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise UncountedError(f"valgrind failed: {run.stderr[-2000:]}")
    found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE)
    total = int(found[1]) if found else 0
    if total == 0:
        raise UncountedError("callgrind saw nothing of what was to be counted")
    return total


def main(folder: Path) -> None:
    """Decide each request in *folder* once."""
    image = Image.from_bytes((folder / "image").read_bytes())
    lengths = array("I", (folder / "lengths").read_bytes())
    _, _, decisions = measure(image, (folder / "requests").read_bytes(), lengths, seconds=_NOW, whole=False)
    if sum(decisions) != len(lengths):
        raise ValueError("not every request was decided")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
