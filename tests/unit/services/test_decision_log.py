# SPDX-License-Identifier: Apache-2.0
import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from sidecar.services.decision_log import DecisionLog
from sidecar.services.raw_records import RawRecord, pack_record
from sidecar.services.record_sink import FileSink
from sidecar.services.spill import Spill

KIB, MIB = 1 << 10, 1 << 20
#: The longest that anything here is waited for; nothing takes that long.
PATIENCE = 30.0


class Offered:
    """A source of the records that a test offers. Locked."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._blocks: list[bytes] = []
        self._next = 0
        self.taken = 0

    def offer(self, count: int, *, size: int = 100) -> None:
        """Offer a block of so many records, numbered on."""
        with self._changed:
            block = b"".join(pack_record(record(self._next + number, size)) for number in range(count))
            self._next += count
            self._blocks.append(block)
            self._changed.notify_all()

    def offer_bytes(self, block: bytes) -> None:
        with self._changed:
            self._blocks.append(block)
            self._changed.notify_all()

    def read_records(self, timeout_ms: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._blocks), timeout_ms / 1000)
            if not self._blocks:
                return b""
            self.taken += 1
            return self._blocks.pop(0)

    def statistics(self) -> Mapping[str, int]:
        return {"offered": self._next, "sampled_out": 7, "dropped": 3}


class Gate:
    """A sink that takes lines when it is open, raises when it is broken and is busy otherwise. Locked by the GIL."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_open = True
        self.is_broken = False
        self.is_closed = False
        self.most = 1 << 30

    def write(self, lines: memoryview) -> int:
        if self.is_broken:
            raise OSError(errno.ENOSPC, "")
        if not self.is_open:
            sleep(0.01)
            return 0
        taken = lines[: self.most]
        self.received += taken
        return len(taken)

    def close(self) -> None:
        self.is_closed = True

    @property
    def numbers(self) -> list[int]:
        return [int(line) for line in bytes(self.received).split()]


class Events:
    """A log that remembers the names of events. Locked by the GIL."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def info(self, event: str, **values: object) -> None:
        self.names.append(event)

    warning = error = info


def record(number: int, size: int = 100) -> RawRecord:
    return RawRecord(0, 1, 1, 0, 0, 0, number, bytes(size), b"")


def render(raw: RawRecord) -> bytes:
    return b"%d\n" % raw.sequence


def eventually(what: Callable[[], bool]) -> None:
    latest = monotonic() + PATIENCE
    while not what():
        assert monotonic() < latest, "it never came about"
        sleep(0.002)


class Parts:
    """A decision log with what it is made of."""

    def __init__(self, folder: Path, *, spill_bytes: int = 0, may_drop: bool = True, memory_bytes: int = MIB) -> None:
        self.source = Offered()
        self.sink = Gate()
        self.events = Events()
        self.log = DecisionLog(
            source=self.source,
            render=render,
            sink=self.sink,
            spill=Spill(folder=folder / "spill", max_bytes=spill_bytes),
            may_drop=may_drop,
            memory_bytes=memory_bytes,
            log=self.events,
        )


@contextmanager
def running(folder: Path, *, spill_bytes: int = 0, may_drop: bool = True, memory_bytes: int = MIB) -> Iterator[Parts]:
    parts = Parts(folder, spill_bytes=spill_bytes, may_drop=may_drop, memory_bytes=memory_bytes)
    parts.log.start()
    try:
        yield parts
    finally:
        parts.log.stop(0)


def test_log_when_records_are_offered_then_each_is_written_in_order(tmp_path: Path) -> None:
    with running(tmp_path) as parts:
        for _ in range(50):
            parts.source.offer(20)
        eventually(lambda: len(parts.sink.received.splitlines()) == 1000)
        statistics = parts.log.statistics()

    assert parts.sink.numbers == list(range(1000))
    assert (statistics.written, statistics.spilled, statistics.damaged_bytes) == (1000, 0, 0)
    assert (statistics.dropped, statistics.sampled_out) == (3, 7)
    assert parts.sink.is_closed
    assert parts.events.names == []


def test_log_when_it_ends_then_what_was_offered_before_is_written(tmp_path: Path) -> None:
    # Room for all of it: nobody says when the thread that writes has its turn.
    parts = Parts(tmp_path, memory_bytes=8 * MIB)
    parts.log.start()
    for _ in range(100):
        parts.source.offer(100)
    parts.log.stop(PATIENCE)

    assert parts.sink.numbers == list(range(10_000))


def test_log_when_the_sink_takes_little_at_a_time_then_the_lines_are_whole(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.sink.most = 7
    parts.log.start()
    parts.source.offer(1000)
    parts.log.stop(PATIENCE)

    assert parts.sink.numbers == list(range(1000))


def test_log_when_the_sink_stands_still_then_records_go_to_disk_and_come_back_in_order(tmp_path: Path) -> None:
    with running(tmp_path, spill_bytes=8 * MIB, memory_bytes=16 * KIB) as parts:
        parts.sink.is_open = False
        for _ in range(100):
            parts.source.offer(50)
        eventually(lambda: parts.source.taken == 100)
        eventually(lambda: parts.log.statistics().spilled > 4000)
        stalled = parts.log.statistics()
        parts.sink.is_open = True
        for _ in range(10):
            parts.source.offer(50)
        eventually(lambda: parts.log.statistics().written == 5500)
        after = parts.log.statistics()

    assert parts.sink.numbers == list(range(5500))
    assert stalled.buffer_bytes <= 16 * KIB
    assert stalled.spill_bytes > 4000 * 140
    assert (after.dropped, after.spill_bytes, after.buffer_bytes) == (3, 0, 0)


def test_log_when_memory_and_disk_are_full_then_it_drops_counts_and_says_so_once(tmp_path: Path) -> None:
    with running(tmp_path, spill_bytes=MIB, memory_bytes=64 * KIB) as parts:
        parts.sink.is_open = False
        for _ in range(500):
            parts.source.offer(50)
        eventually(lambda: parts.source.taken == 500)
        eventually(lambda: parts.log.statistics().dropped > 10_000)
        parts.sink.is_open = True
        eventually(lambda: parts.log.statistics().spill_bytes + parts.log.statistics().buffer_bytes == 0)
        statistics = parts.log.statistics()

    assert statistics.written + statistics.dropped - 3 == 25_000
    assert len(set(parts.sink.numbers)) == statistics.written
    assert parts.events.names == ["decision_log_dropping"]


def test_log_when_it_may_not_drop_then_it_leaves_records_in_the_source(tmp_path: Path) -> None:
    with running(tmp_path, may_drop=False, memory_bytes=16 * KIB) as parts:
        parts.sink.is_open = False
        for _ in range(100):
            parts.source.offer(50)
        eventually(lambda: parts.log.statistics().buffer_bytes > 8 * KIB)
        taken = parts.source.taken
        sleep(0.3)
        assert parts.source.taken == taken < 10
        parts.sink.is_open = True
        eventually(lambda: parts.log.statistics().written == 5000)

    assert parts.sink.numbers == list(range(5000))
    assert parts.log.statistics().dropped == 3


def test_log_when_the_sink_fails_then_it_tries_again_and_says_so_once(tmp_path: Path) -> None:
    with running(tmp_path) as parts:
        parts.sink.is_broken = True
        parts.source.offer(10)
        eventually(lambda: parts.log.statistics().write_errors > 2)
        parts.sink.is_broken = False
        eventually(lambda: parts.log.statistics().written == 10)

    assert parts.sink.numbers == list(range(10))
    assert parts.events.names == ["decision_log_write_failed"]


def test_log_when_it_ends_and_the_sink_fails_then_the_next_start_writes_what_was_left(tmp_path: Path) -> None:
    with running(tmp_path, spill_bytes=MIB) as parts:
        parts.sink.is_broken = True
        parts.source.offer(1000)
        eventually(lambda: parts.log.statistics().write_errors > 0)
        began = monotonic()
    assert monotonic() - began < 10
    assert parts.sink.numbers == []
    assert parts.log.statistics().spilled == 1000

    with running(tmp_path, spill_bytes=MIB) as again:
        again.source.offer(1000)
        eventually(lambda: again.log.statistics().written == 2000)

    assert again.sink.numbers == [*range(1000), *range(1000)]
    assert again.events.names == ["decision_log_left_over"]


def test_log_when_it_ends_and_nothing_can_keep_the_rest_then_that_is_counted_and_said(tmp_path: Path) -> None:
    with running(tmp_path) as parts:
        parts.sink.is_broken = True
        parts.source.offer(1000)
        eventually(lambda: parts.log.statistics().write_errors > 0)

    assert parts.log.statistics().dropped == 1003
    assert parts.events.names == ["decision_log_write_failed", "decision_log_not_written"]


def test_log_when_the_sink_hangs_then_the_end_is_not_kept_up(tmp_path: Path) -> None:
    release = threading.Event()
    parts = Parts(tmp_path, spill_bytes=MIB)
    parts.sink.write = lambda lines: release.wait(PATIENCE) and 0  # type: ignore[method-assign]
    parts.log.start()
    parts.source.offer(10)
    eventually(lambda: parts.log.statistics().buffer_bytes > 0)
    began = monotonic()
    parts.log.stop(0.1)

    assert monotonic() - began < 10
    assert parts.log.statistics().spilled == 10
    assert not parts.sink.is_closed
    release.set()


def test_log_when_bytes_are_no_record_then_those_before_and_after_are_written(tmp_path: Path) -> None:
    with running(tmp_path) as parts:
        parts.source.offer_bytes(pack_record(record(0)) + b"\xff" * 64)
        parts.source.offer_bytes(b"\0" * 64)
        parts.source.offer_bytes(pack_record(record(1)))
        eventually(lambda: parts.log.statistics().written == 2)

    assert parts.sink.numbers == [0, 1]
    assert parts.log.statistics().damaged_bytes == 128


def test_log_when_a_block_is_larger_than_the_memory_then_it_is_taken_apart(tmp_path: Path) -> None:
    with running(tmp_path, memory_bytes=2 * MIB) as parts:
        parts.source.offer(40_000, size=200)
        eventually(lambda: parts.log.statistics().written > 0)
        parts.log.stop(PATIENCE)
        statistics = parts.log.statistics()

    assert statistics.written + statistics.dropped - 3 == 40_000


def test_log_when_written_to_a_file_with_rotation_then_every_line_is_in_one_of_them(tmp_path: Path) -> None:
    source = Offered()
    log = DecisionLog(
        source=source,
        render=lambda raw: b"%06d %s\n" % (raw.sequence, b"." * 92),
        sink=FileSink(tmp_path / "decisions.json", max_bytes=MIB, kept=20),
        spill=Spill(folder=tmp_path / "spill", max_bytes=0),
        may_drop=False,
    )
    log.start()
    for _ in range(50):
        source.offer(1000)
    log.stop(PATIENCE)

    files = sorted(name for name in os.listdir(tmp_path) if name.startswith("decisions"))
    lines = b"".join((tmp_path / name).read_bytes() for name in files).splitlines()
    assert len(files) == 5
    assert sorted(int(line.split()[0]) for line in lines) == list(range(50_000))
    assert all(os.stat(tmp_path / name).st_size <= MIB for name in files)


@pytest.mark.parametrize("spill_bytes", [0, MIB])
def test_log_when_it_never_started_then_it_ends(tmp_path: Path, spill_bytes: int) -> None:
    parts = Parts(tmp_path, spill_bytes=spill_bytes)
    parts.log.stop(1)

    assert parts.sink.is_closed
