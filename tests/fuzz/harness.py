# SPDX-License-Identifier: Apache-2.0
"""
A small mutation fuzzer in plain Python: seeds in, hostile bytes out, findings kept.

There is no coverage to steer by, so it steers by outcomes: a target names what became of an input, and an input with a
new outcome becomes a seed. The bytes of the running execution stand in a mapped file, so that they survive a sanitizer
that ends the process.
"""

from __future__ import annotations

import hashlib
import mmap
import random
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Numbers that break size arithmetic.
EDGES = (0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1)
#: Seconds after which one execution is a finding of its own.
SLOW = 10.0
#: Outcomes that may become seeds, so that a target with endless outcomes stays bounded.
MAX_GROWN_SEEDS = 2_000


@dataclass(frozen=True, kw_only=True)
class Target:
    """
    A reader under test.

    Attributes:
        name: Word for the command line and for folders.
        about: What is fed with what, in one line.
        seeds: Gives good inputs to start from.
        run: Reads one input and names the outcome; an expected refusal is an outcome, anything raised is a finding.
        tokens: Words of the input language, to be inserted.
        in_place: Share of the inputs in which a few bytes change and none move, for formats full of offsets.
        mend: Repairs an input behind a mutation, such as a checksum that would hide everything else.
        max_bytes: Longest input tried.
    """

    name: str
    about: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], str]
    tokens: tuple[bytes, ...] = ()
    mend: Callable[[bytearray], None] = lambda data: None
    in_place: float = 0.1
    max_bytes: int = 1 << 20


@dataclass(kw_only=True)
class Report:
    """What a run of one target came to."""

    target: str
    executions: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    findings: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        return (
            f"{self.target}: {self.executions} executions in {self.seconds:.1f} s ({rate:.0f}/s), "
            f"{len(self.outcomes)} outcomes, slowest {self.slowest * 1000:.1f} ms, {len(self.findings)} findings"
        )


class Mutator:
    """Makes a hostile input from a seed. Confined to one thread; the same number gives the same inputs."""

    def __init__(self, *, seed: int, tokens: Sequence[bytes], max_bytes: int, in_place: float = 0.1) -> None:
        self._random = random.Random(seed)
        self._in_place = in_place
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._ways = (
            self._flip_bits,
            self._set_bytes,
            self._set_number,
            self._insert,
            self._remove,
            self._double,
            self._swap,
            self._cut,
            self._splice,
            *((self._token,) * 3 if tokens else ()),
        )

    def mutate(self, data: bytes, other: bytes) -> bytearray:
        """Change *data* in a few random ways, taking pieces of *other* where they are wanted."""
        out = bytearray(data)
        if self._random.random() < self._in_place:
            for _ in range(self._random.randrange(1, 4)):
                self._random.choice((self._flip_bits, self._set_number, self._set_number))(out, other)
            return out
        for _ in range(1 << self._random.randrange(5)):
            self._random.choice(self._ways)(out, other)
        del out[self._max_bytes :]
        return out

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _span(self, data: bytes | bytearray) -> tuple[int, int]:
        start = self._random.randrange(len(data) + 1)
        return start, min(len(data), start + self._random.choice((1, 2, 4, 8, 16, 64, 256, 4096)))

    def _flip_bits(self, data: bytearray, other: bytes) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set_bytes(self, data: bytearray, other: bytes) -> None:
        start, end = self._span(data)
        data[start:end] = self._random.randbytes(end - start)

    def _set_number(self, data: bytearray, other: bytes) -> None:
        width = self._random.choice((1, 2, 4, 8))
        if len(data) < width:
            return
        at = self._random.randrange(len(data) - width + 1)
        if self._random.random() < 0.8:
            at -= at % width
        old = int.from_bytes(data[at : at + width], "little")
        value = self._random.choice((self._random.choice(EDGES), old + 1, old - 1, old * 2, -1, len(data)))
        data[at : at + width] = (value % (1 << (8 * width))).to_bytes(width, "little")

    def _insert(self, data: bytearray, other: bytes) -> None:
        at = self._at(data)
        data[at:at] = bytes([self._random.randrange(256)]) * self._random.choice((1, 2, 5, 33, 257))

    def _remove(self, data: bytearray, other: bytes) -> None:
        start, end = self._span(data)
        del data[start:end]

    def _double(self, data: bytearray, other: bytes) -> None:
        start, end = self._span(data)
        times = self._random.choice((1, 1, 2, 8, 120))
        if (end - start) * times <= self._max_bytes:
            data[start:start] = bytes(data[start:end]) * times

    def _swap(self, data: bytearray, other: bytes) -> None:
        start, end = self._span(data)
        at = self._at(data)
        piece = data[start:end]
        del data[start:end]
        data[at:at] = piece

    def _cut(self, data: bytearray, other: bytes) -> None:
        if self._random.random() < 0.3:
            del data[self._at(data) :]

    def _splice(self, data: bytearray, other: bytes) -> None:
        start, end = self._span(other)
        at = self._at(data)
        data[at : at + self._random.choice((0, end - start))] = other[start:end]

    def _token(self, data: bytearray, other: bytes) -> None:
        at = self._at(data)
        token = self._random.choice(self._tokens)
        data[at : at + self._random.choice((0, 0, len(token)))] = token


class Running:
    """The input of the running execution, in a mapped file that outlives the process."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._room = max_bytes
        with path.open("w+b") as file:
            file.truncate(8 + max_bytes)
            self._map = mmap.mmap(file.fileno(), 8 + max_bytes)

    def set(self, data: bytes) -> None:
        """Write *data* down before it is read by the target."""
        kept = data[: self._room]
        self._map[8 : 8 + len(kept)] = kept
        self._map[:8] = struct.pack("<Q", len(kept))

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    @staticmethod
    def get(path: Path) -> bytes:
        """Give the input that was running when the process ended."""
        content = path.read_bytes()
        return content[8 : 8 + struct.unpack("<Q", content[:8])[0]]


def keep(folder: Path, target: str, data: bytes) -> Path:
    """Write an input that is a finding to *folder*, named for its target and content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    return path


def fuzz(
    target: Target,
    *,
    folder: Path,
    seconds: float,
    executions: int | None = None,
    seed: int = 0,
    corpus: Sequence[bytes] = (),
) -> Report:
    """
    Run *target* on its seeds, on *corpus*, and then on mutations until the time or the number is used up.

    Args:
        folder: Where findings and the running input are written.
        executions: End after as many; None leaves the end to *seconds*.
        seed: The same number gives the same inputs in the same order.
        corpus: Inputs that once were findings.
    """
    report = Report(target=target.name)
    pool = [bytes(data) for data in (*target.seeds(), *corpus)]
    grown = 0
    chooser = random.Random(seed)
    mutator = Mutator(seed=seed + 1, tokens=target.tokens, max_bytes=target.max_bytes, in_place=target.in_place)
    running = Running(folder / f"running-{target.name}", target.max_bytes)
    first = list(pool)
    began = time.monotonic()
    try:
        while (executions is None or report.executions < executions) and time.monotonic() - began < seconds:
            if first:
                data = first.pop()
            else:
                mutated = mutator.mutate(chooser.choice(pool), chooser.choice(pool))
                target.mend(mutated)
                data = bytes(mutated)
            running.set(data)
            started = time.perf_counter()
            try:
                outcome = target.run(data)
            except Exception as error:
                outcome = f"finding: {type(error).__name__}"
                if outcome not in report.outcomes:
                    report.findings.append(keep(folder, target.name, data))
            took = time.perf_counter() - started
            if took > SLOW:
                report.findings.append(keep(folder, target.name, data))
            report.slowest = max(report.slowest, took)
            report.executions += 1
            if outcome not in report.outcomes and grown < MAX_GROWN_SEEDS:
                pool.append(data)
                grown += 1
            report.outcomes[outcome] = report.outcomes.get(outcome, 0) + 1
    finally:
        running.close()
    report.seconds = time.monotonic() - began
    return report
