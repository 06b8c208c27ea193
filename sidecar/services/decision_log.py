# SPDX-License-Identifier: Apache-2.0
"""
The decision log: from the rings of the workers to a sink, never in the way of a decision.

One thread reads blocks of raw records and puts them into memory, and where that is full on disk; it never waits for the
sink. Another takes them from there in order, turns each record into a line and writes the lines.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sidecar.services.log import Log, NullLog
from sidecar.services.raw_records import RawRecord, RecordSource, count_records, split_block, split_records
from sidecar.services.record_sink import RecordSink
from sidecar.services.spill import Spill

#: Bytes of raw records that wait in memory.
DEFAULT_MEMORY_BYTES = 16 * 1024 * 1024
#: Bytes of one block on its way, unless a single record is longer.
_BLOCK_BYTES = 1024 * 1024
#: Bytes of lines that go to the sink at once.
_WRITE_BYTES = 256 * 1024
#: Milliseconds that the source is waited for at a time; an end is noticed after as many.
_READ_TIMEOUT_MS = 250
#: Seconds before a failed write is tried again: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds before the same trouble is told again.
_QUIET_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DecisionLogStatistics:
    """
    What became of the records since the start.

    Attributes:
        written: Lines that the sink took.
        spilled: Records that went to disk on their way; once written they are in ``written`` too.
        dropped: Records lost, in a worker's ring or here, because there was no room.
        sampled_out: Records that the sampling left out.
        damaged_bytes: Bytes that were no records: damage on disk.
        write_errors: Writes that the sink refused; each was tried again.
        buffer_bytes: Bytes of raw records that wait in memory.
        spill_bytes: Bytes that wait on disk.
    """

    written: int = 0
    spilled: int = 0
    dropped: int = 0
    sampled_out: int = 0
    damaged_bytes: int = 0
    write_errors: int = 0
    buffer_bytes: int = 0
    spill_bytes: int = 0


class _Place(Enum):
    """Where a block found room."""

    MEMORY = "memory"
    SPILL = "spill"
    NONE = "none"


class _Trouble:
    """
    Tells of one kind of trouble when it begins, and then seldom, however often it comes and goes.

    Thread-safety: confined to one thread.
    """

    def __init__(self, event: str, log: Log) -> None:
        self._event = event
        self._log = log
        self._quiet_until = 0.0

    def tell(self, **values: object) -> None:
        """Log it, unless that was done a short while ago."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            self._log.error(self._event, **values)


class _Backlog:
    """
    Blocks that wait to be written: first those in memory, then those on disk.

    While there are some on disk, new ones go behind them, so that the order stays.

    Thread-safety: locked; ``first`` and ``remove_first`` belong to one thread.
    """

    def __init__(self, *, memory_bytes: int, spill: Spill, log: Log) -> None:
        self._memory_bytes = memory_bytes
        self._spill = spill
        self._trouble = _Trouble("decision_spill_failed", log)
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._bytes = 0
        self._first_is_spilled = False
        self._is_closed = False

    def put(self, block: bytes) -> _Place:
        """Keep *block* behind all others, and say where."""
        with self._changed:
            place = self._put(block)
            self._changed.notify_all()
            return place

    def first(self, timeout: float) -> bytes | None:
        """Return the first block, which stays until ``remove_first``; None if there was none for *timeout* seconds."""
        with self._changed:
            if not self._blocks and self._spill.is_empty:
                self._changed.wait(timeout)
            self._first_is_spilled = not self._blocks
            if self._is_closed:
                return None
            return self._spill.read() if self._first_is_spilled else self._blocks[0]

    def remove_first(self) -> None:
        """Forget the block that ``first`` returned last."""
        with self._changed:
            if self._is_closed:
                return
            if self._first_is_spilled:
                self._spill.advance()
            else:
                self._bytes -= len(self._blocks.popleft())
            self._changed.notify_all()

    def wait_for_room(self, timeout: float) -> None:
        """Wait until a block has gone, at most *timeout* seconds."""
        with self._changed:
            self._changed.wait(timeout)

    def sizes(self) -> tuple[int, int, int]:
        """Return the bytes that wait in memory and on disk, and those given up on disk."""
        with self._changed:
            return self._bytes, self._spill.waiting_bytes, self._spill.damaged_bytes

    def close(self) -> tuple[int, int]:
        """Put what waits in memory on disk, and return how many records found room there and how many did not."""
        kept = lost = 0
        with self._changed:
            self._is_closed = True
            while self._blocks:
                block = self._blocks.popleft()
                if self._append(block):
                    kept += count_records(block)
                else:
                    lost += count_records(block)
            self._bytes = 0
            self._spill.close()
            self._changed.notify_all()
        return kept, lost

    def _put(self, block: bytes) -> _Place:
        if self._is_closed:
            return _Place.NONE
        # A block that is larger than the memory may be there alone.
        has_memory = not self._blocks or self._bytes + len(block) <= self._memory_bytes
        if not (has_memory and self._spill.is_empty) and self._append(block):
            return _Place.SPILL
        if not has_memory:
            return _Place.NONE
        # Where the disk has no room either, order counts less than the record.
        self._blocks.append(block)
        self._bytes += len(block)
        return _Place.MEMORY

    def _append(self, block: bytes) -> bool:
        try:
            return self._spill.append(block)
        except OSError as error:
            self._trouble.tell(error=_words(error))
            return False


class DecisionLog:
    """
    Takes records from a source to a sink.

    Thread-safety: ``start`` and ``stop`` belong to one thread, ``statistics`` to any.
    """

    def __init__(
        self,
        *,
        source: RecordSource,
        render: Callable[[RawRecord], bytes],
        sink: RecordSink,
        spill: Spill,
        may_drop: bool,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        log: Log | None = None,
    ) -> None:
        """
        Args:
            source: Where records come from.
            render: Turns a record into a line, its end included; raises nothing.
            sink: Where lines go.
            spill: Where blocks wait that find no room in memory; opened and closed here.
            may_drop: Whether records are dropped where there is no room. Else they stay in the source, whose
                rings fill up, and it is for the source to refuse more.
            memory_bytes: Bytes of raw records that may wait in memory.
        """
        self._source = source
        self._render = render
        self._sink = sink
        self._spill = spill
        self._may_drop = may_drop
        self._log: Log = log or NullLog()
        self._backlog = _Backlog(memory_bytes=memory_bytes, spill=spill, log=self._log)
        self._reader = threading.Thread(target=self._read, name="decision-log-reader", daemon=True)
        self._writer = threading.Thread(target=self._write, name="decision-log-writer", daemon=True)
        #: No more records will be offered.
        self._is_ending = threading.Event()
        #: The time for an orderly end is over.
        self._is_given_up = threading.Event()
        self._is_read = threading.Event()
        # Each number is written by one thread, or after both have ended.
        self._written = 0
        self._spilled = 0
        self._dropped = 0
        self._damaged_bytes = 0
        self._write_errors = 0
        self._drop_trouble = _Trouble("decision_log_dropping", self._log)
        self._write_trouble = _Trouble("decision_log_write_failed", self._log)

    def start(self) -> None:
        """
        Begin, with what an earlier run left on disk.

        Raises:
            SettingsError: The folder of the spill cannot be used.
        """
        self._spill.open()
        if not self._spill.is_empty:
            self._log.info("decision_log_left_over", bytes=self._spill.waiting_bytes)
        self._reader.start()
        self._writer.start()

    def stop(self, timeout: float) -> None:
        """
        Write what there is, at most for *timeout* seconds, and end; what is left goes to disk.

        The source must offer nothing more by then.
        """
        deadline = time.monotonic() + timeout
        self._is_ending.set()
        if self._reader.ident is not None:
            self._reader.join(max(deadline - time.monotonic(), 0))
            self._writer.join(max(deadline - time.monotonic(), 0))
        self._is_given_up.set()
        # Whoever waits for the sink now notices soon; whoever waits inside of it is left behind.
        for thread in (self._reader, self._writer):
            if thread.ident is not None:
                thread.join(1)
        kept, lost = self._backlog.close()
        self._spilled += kept
        self._dropped += lost
        if kept or lost:
            self._log.warning("decision_log_not_written", kept_on_disk=kept, lost=lost)
        if not self._writer.is_alive():
            self._sink.close()

    def statistics(self) -> DecisionLogStatistics:
        """Return what became of the records."""
        source = self._source.statistics()
        buffer_bytes, spill_bytes, damaged_bytes = self._backlog.sizes()
        return DecisionLogStatistics(
            written=self._written,
            spilled=self._spilled,
            dropped=self._dropped + source["dropped"],
            sampled_out=source["sampled_out"],
            damaged_bytes=self._damaged_bytes + damaged_bytes,
            write_errors=self._write_errors,
            buffer_bytes=buffer_bytes,
            spill_bytes=spill_bytes,
        )

    def _read(self) -> None:
        while True:
            is_ending = self._is_ending.is_set()
            block = self._source.read_records(0 if is_ending else _READ_TIMEOUT_MS)
            if block:
                for piece in split_block(block, _BLOCK_BYTES):
                    self._keep(piece)
            elif is_ending:
                break
        self._is_read.set()

    def _keep(self, block: bytes) -> None:
        place = self._backlog.put(block)
        while place is _Place.NONE and not self._may_drop and not self._is_given_up.is_set():
            self._backlog.wait_for_room(_READ_TIMEOUT_MS / 1000)
            place = self._backlog.put(block)
        if place is _Place.SPILL:
            self._spilled += count_records(block)
        if place is _Place.NONE:
            self._dropped += count_records(block)
            self._drop_trouble.tell(dropped=self._dropped)

    def _write(self) -> None:
        while not self._is_given_up.is_set():
            was_read = self._is_read.is_set()
            block = self._backlog.first(_READ_TIMEOUT_MS / 1000)
            if block is None:
                if was_read:
                    return
            elif self._write_block(block):
                self._backlog.remove_first()

    def _write_block(self, block: bytes) -> bool:
        """Write every record of *block*, and say whether that was done before the time was over."""
        records, damaged = split_records(block)
        lines: list[bytes] = []
        size = 0
        for record in records:
            line = self._render(record)
            lines.append(line)
            size += len(line)
            if size >= _WRITE_BYTES:
                if not self._write_lines(lines):
                    return False
                lines = []
                size = 0
        if lines and not self._write_lines(lines):
            return False
        if damaged:
            self._damaged_bytes += damaged
            self._log.error("decision_log_unreadable", bytes=damaged)
        return True

    def _write_lines(self, lines: list[bytes]) -> bool:
        """Write *lines*, however often that takes, and say whether that was done before the time was over."""
        rest = memoryview(b"".join(lines))
        pause = _FIRST_PAUSE
        while rest:
            if self._is_given_up.is_set():
                return False
            try:
                taken = self._sink.write(rest)
            except OSError as error:
                self._write_errors += 1
                self._write_trouble.tell(error=_words(error))
                self._is_given_up.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            rest = rest[taken:]
        self._written += len(lines)
        return True


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
