# SPDX-License-Identifier: Apache-2.0
"""
The machine that is measured on, how the core was built, and a processor of one's own.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sidecar.core._core as core

_PRODUCER = re.compile(rb"GNU C\d+ [ -~]{5,2000}|clang version [ -~]{3,200}")


def machine() -> dict[str, str]:
    """Return what of the machine and of the build has a bearing on the figures."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "memory": _memory(),
        "huge pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "core built with": core_build(),
        "cython": importlib.metadata.version("Cython"),
        "moto": importlib.metadata.version("moto"),
    }


def core_build() -> str:
    """Return the compiler and the flags that the loaded core was built with, as its own debug information says."""
    found = _PRODUCER.search(Path(core.__file__).read_bytes())
    return found[0].decode() if found else "unknown"


def is_quiet() -> bool:
    """Say whether hardly anything else runs, so that figures of time can be trusted."""
    return os.getloadavg()[0] <= 1


def processor_ticks() -> tuple[int, int]:
    """Return the time of all processors since the machine started, and how much of it other machines had of theirs."""
    fields = [int(field) for field in _read("/proc/stat").split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[7]


@contextmanager
def one_processor() -> Iterator[int]:
    """Keep this thread on one processor for the length of the block: the last of those it may use."""
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed)
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


def huge_memory_kib() -> int:
    """Return how much memory of this process stands in huge pages."""
    for line in _read("/proc/self/smaps_rollup").splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1])
    return 0


def resident_mib(pid: int) -> dict[str, float]:
    """Return the resident memory of a process: all of it, and each kind."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in {"VmRSS", "RssAnon", "RssFile", "RssShmem", "VmHWM"}:
            found[name] = round(int(rest.split()[0]) / 1024, 1)
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
