# SPDX-License-Identifier: Apache-2.0
"""
Load on a server, and what the server takes for it: generators, processors, CPU time, who listens where.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.inputs import KEPT, ROOT

#: Longest that one run of a generator may take, in seconds.
PATIENCE = 600.0
_HERE = Path(__file__).parent
_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"


class UnavailableError(Exception):
    """Something that is compared with, or that makes load, is not on this machine."""


class LoadError(Exception):
    """A run was not what it claims to be: calls failed, or somebody else answered."""


@dataclass(frozen=True, slots=True)
class Shape:
    """So many connections, with so many calls under way on each."""

    connections: int
    streams: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


@dataclass(frozen=True, slots=True)
class Cores:
    """
    Which processor does what.

    Attributes:
        server: Has nothing but the server, or its worker.
        generator: Has the generator.
        rest: Has the other threads of the server where those are kept off its worker; a third one if there is one.
    """

    server: int
    generator: int
    rest: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Deal them out; with a single one everything is on it, and the figures mean nothing."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(server=allowed[-1], generator=allowed[0], rest=allowed[1 if len(allowed) > 2 else 0])


@dataclass(frozen=True, slots=True)
class Target:
    """
    What is called.

    Attributes:
        address: ``HOST:PORT`` or ``unix:PATH``.
        path: ``/package.Service/Method``.
        headers: Further ones, by name.
    """

    address: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class H2load:
    """What h2load counted. It does not look at the gRPC status, so this alone proves little."""

    succeeded: int
    seconds: float
    requests_per_s: float
    mean_us: float


def build(name: str, *libraries: str, folder: Path = KEPT) -> Path:
    """
    Compile ``tests/bench/NAME.c``, where that is not done yet, and return the program.

    Raises:
        UnavailableError: There is no compiler or no nghttp2.
    """
    source = _HERE / f"{name}.c"
    program = folder / name
    if program.exists() and program.stat().st_mtime_ns > source.stat().st_mtime_ns:
        return program
    if shutil.which("gcc") is None:
        raise UnavailableError("gcc is not on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name}-{os.getpid()}"
    flags = ("-O2", "-std=gnu17", "-Wall", "-Wextra", "-Werror")
    command = ["gcc", *flags, "-o", str(draft), str(source), *(f"-l{library}" for library in libraries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0 and "nghttp2/nghttp2.h: No such file" in done.stderr:
        raise UnavailableError("the headers of nghttp2 are not on this machine (on Debian: libnghttp2-dev)")
    if done.returncode != 0:
        raise LoadError(f"{name}.c does not compile: {done.stderr[-2000:]}")
    draft.rename(program)
    return program


def nothing_server() -> Path:
    """Return the program of the do-nothing server."""
    return build("nothing_server", "nghttp2")


def open_loop_program() -> Path:
    """Return the program of our own generator."""
    return build("open_loop", "nghttp2", "m")


def h2load_program() -> str:
    """
    Return where h2load is.

    Raises:
        UnavailableError: It is not on this machine.
    """
    found = shutil.which("h2load")
    if found is None:
        raise UnavailableError("h2load is not on this machine (on Debian: nghttp2-client)")
    return found


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """Return *command* as it is run on one processor."""
    return ["taskset", "--cpu-list", str(core), *command]


def pin(pid: int, core: int) -> None:
    """Put every thread of a process on *core*; those it makes later follow."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # One that has ended meanwhile runs nowhere.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})


def pin_apart(pid: int, thread: int, cores: Cores) -> None:
    """Put one thread of a process on the server's processor and all others elsewhere."""
    pin(pid, cores.rest)
    os.sched_setaffinity(thread, {cores.server})


def framed(message: bytes) -> bytes:
    """
    Return *message* as it travels in the body of a call.

    >>> framed(b"abc").hex()
    '0000000003616263'
    """
    return b"\0" + len(message).to_bytes(4, "big") + message


def run_h2load(target: Target, body: Path, shape: Shape, count: int, *, core: int) -> H2load:
    """
    Make *count* calls with the body in a file, and return what h2load counted.

    Raises:
        UnavailableError: There is no h2load.
        LoadError: A call failed.
    """
    command = [h2load_program(), "-t", "1", "-n", str(count), "-c", str(shape.connections), "-m", str(shape.streams)]
    command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    for name, value in target.headers:
        command += ["-H", f"{name}: {value}"]
    if target.address.startswith("unix:"):
        command += ["-B", target.address, f"http://localhost{target.path}"]
    else:
        command.append(f"http://{target.address}{target.path}")
    done = subprocess.run(on_core(core, command), capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode != 0:
        raise LoadError(f"h2load failed: {done.stderr[-1000:] or done.stdout[-1000:]}")
    report = parse_h2load(done.stdout)
    if report.succeeded != count:
        raise LoadError(f"of {count} calls {report.succeeded} succeeded: {done.stdout[-1000:]}")
    return report


_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def _microseconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if found is None:
        raise LoadError(f"h2load gives a time that cannot be read: `{text}`")
    return float(found[1]) * _UNITS[found[2]]


def parse_h2load(text: str) -> H2load:
    """
    Read the report of h2load.

    Raises:
        LoadError: It is not a report, or tells of calls that were not answered with 200.
    """
    finished = re.search(r"^finished in ([\d.]+(?:us|ms|s|m)), ([\d.]+) req/s", text, re.MULTILINE)
    succeeded = re.search(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", text, re.MULTILINE)
    codes = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text, re.MULTILINE)
    times = re.search(r"^time for request: +\S+ +\S+ +(\S+)", text, re.MULTILINE)
    if finished is None or succeeded is None or codes is None or times is None:
        raise LoadError(f"h2load gave no report: {text[-1000:]}")
    if succeeded[2] != "0" or succeeded[3] != "0" or codes[1] != succeeded[1]:
        raise LoadError(f"calls failed: {succeeded[0]}; {codes[0]}")
    return H2load(int(succeeded[1]), _microseconds(finished[1]) / 1e6, float(finished[2]), _microseconds(times[1]))


def open_loop_command(target: Target, requests: Path, *, connections: int, **options: float | str | bool) -> list[str]:
    """Return the command of our own generator; *options* are its flags, with underscores."""
    command = [str(open_loop_program()), "--address", target.address, "--path", target.path]
    command += ["--requests", str(requests), "--connections", str(connections)]
    for name, value in target.headers:
        command += ["--header", f"{name}: {value}"]
    for option, given in options.items():
        flag = f"--{option.replace('_', '-')}"
        command += [flag] if given is True else [flag, str(given)]
    return command


def run_open_loop(
    target: Target, requests: Path, *, core: int, connections: int, **options: float | str | bool
) -> dict[str, Any]:
    """
    Run our own generator and return its figures.

    Raises:
        UnavailableError: It cannot be built here.
        LoadError: A call was not answered, or not with OK.
    """
    command = on_core(core, open_loop_command(target, requests, connections=connections, **options))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode != 0:
        raise LoadError(f"the generator failed: {done.stderr[-1000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    if figures["answered"] != figures["begun"] or figures["not_ok"]:
        raise LoadError(f"not every call was answered with OK: {done.stdout}")
    return figures


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far."""
    return _times(Path(f"/proc/{pid}/stat").read_text())


def thread_cpu_seconds(pid: int) -> dict[int, tuple[str, float]]:
    """Return the name of each thread of a process, and its user and system time so far."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (thread / "stat").read_text()
        except OSError:
            # It ended meanwhile.
            continue
        found[int(thread.name)] = (text[text.index("(") + 1 : text.rindex(")")], _times(text))
    return found


def _times(stat: str) -> float:
    # SPEC: proc(5), /proc/PID/stat, fields 14 and 15; the name before them may hold anything.
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busiest_thread(pid: int, before: dict[int, tuple[str, float]]) -> tuple[int, str, float]:
    """
    Return the thread that has worked most since *before*: its id, its name, and its share of all that was worked.

    Raises:
        LoadError: No thread has done anything.
    """
    worked = {
        thread: (name, seconds - before.get(thread, ("", 0.0))[1])
        for thread, (name, seconds) in thread_cpu_seconds(pid).items()
    }
    total = sum(seconds for _, seconds in worked.values())
    if total <= 0:
        raise LoadError("no thread of the server has done anything")
    thread = max(worked, key=lambda one: worked[one][1])
    return thread, worked[thread][0], worked[thread][1] / total


def listens(pid: int, address: str) -> bool:
    """Say whether *address* is listened on, by nobody but the process *pid*."""
    inodes = _listening_inodes(address)
    if not inodes:
        return False
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(descriptor))
        except OSError:
            continue
    return all(f"socket:[{inode}]" in held for inode in inodes)


def _listening_inodes(address: str) -> list[str]:
    found = []
    if address.startswith("unix:"):
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            fields = line.split(maxsplit=7)
            # The flag says that it accepts connections.
            if len(fields) == 8 and fields[7] == address.removeprefix("unix:") and int(fields[3], 16) & 0x10000:
                found.append(fields[6])
        return found
    port = int(address.rpartition(":")[2])
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.append(fields[9])
    return found
