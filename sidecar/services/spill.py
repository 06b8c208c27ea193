# SPDX-License-Identifier: Apache-2.0
"""
Blocks of decision records that wait on disk, in order, for a sink that is slow or gone.

A folder of segments, numbered in order. A segment starts with a mark and the place up to which it has been read; then
come frames: length, CRC-32, block. What a crash leaves is read at the next start; a block that was just being read then
may come twice. Nothing is synchronized to the device: the spill outlives the process, not a loss of power.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from sidecar.model.errors import SettingsError
from sidecar.services.log import Log, NullLog

#: Name of the folder inside the state directory.
SPILL_FOLDER = "decision-spill"
#: Longest block that is kept, so that a damaged length is known as one.
MAX_BLOCK_BYTES = 4 * 1024 * 1024
_MARK = b"IAMSPIL1"
_HEAD = struct.Struct("<8sQ")
_PLACE = struct.Struct("<Q")
_FRAME = struct.Struct("<II")
#: Space comes back a segment at a time, and so there are several.
_SEGMENTS = 8
_LEAST_SEGMENT = 64 * 1024
_NAME = re.compile(r"([0-9]{16})\.spill")


@dataclass(slots=True)
class _Segment:
    """A file: its number, its descriptor, the place up to which it has been read, and its size."""

    number: int
    descriptor: int
    place: int
    size: int


class Spill:
    """
    A bounded queue of blocks on disk.

    Thread-safety: confined to whoever holds the lock of its owner.
    """

    def __init__(self, *, folder: Path, max_bytes: int, log: Log | None = None) -> None:
        """
        Args:
            folder: Where the segments live.
            max_bytes: Most that they may take; 0 keeps nothing, and still reads what is there.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = max(max_bytes // _SEGMENTS, _LEAST_SEGMENT)
        self._log: Log = log or NullLog()
        self._segments: deque[_Segment] = deque()
        self._lock: int | None = None
        self._is_writable = False
        self._next_number = 1
        self._pending = 0
        self._damaged_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._segments

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be read."""
        return sum(segment.size - segment.place for segment in self._segments)

    @property
    def damaged_bytes(self) -> int:
        """Bytes that could not be read and were given up."""
        return self._damaged_bytes

    def open(self) -> None:
        """
        Take the folder, and find what is in it.

        Raises:
            SettingsError: It cannot be used, or another sidecar uses it.
        """
        if self._max_bytes == 0 and not self._folder.exists():
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._take_lock()
            found = sorted(int(match[1]) for name in os.listdir(self._folder) if (match := _NAME.fullmatch(name)))
            for number in found:
                self._find(number)
        except OSError as error:
            self.close()
            if isinstance(error, BlockingIOError):
                raise SettingsError(
                    f"`{self._folder}` is in use by another sidecar", help="give each its own --state-dir"
                ) from None
            raise SettingsError(
                f"`{self._folder}` cannot be used: {_words(error)}",
                help="see that the state directory can be written, or set --decision-log-spill-bytes 0",
            ) from None
        self._next_number = found[-1] + 1 if found else 1

    def append(self, block: bytes) -> bool:
        """
        Keep *block* behind all others; say whether there was room.

        Raises:
            OSError: The disk does not take it; nothing of it was kept.
        """
        frame = _FRAME.size + len(block)
        room = self._max_bytes - sum(segment.size for segment in self._segments)
        needs_segment = not self._is_writable or self._segments[-1].size + frame > self._segment_bytes
        if len(block) > MAX_BLOCK_BYTES or frame + (_HEAD.size if needs_segment else 0) > room:
            return False
        if needs_segment:
            self._begin_segment()
        segment = self._segments[-1]
        data = b"".join((_FRAME.pack(len(block), zlib.crc32(block)), block))
        try:
            _write_all(segment.descriptor, data, segment.size)
        except OSError:
            # What stands behind the size is written over, or is a damaged end to whoever reads it after a crash.
            self._truncate(segment)
            raise
        segment.size += frame
        return True

    def read(self) -> bytes | None:
        """
        Return the first block, which stays until ``advance``; None if there is none.

        A segment that is damaged is given up from the damage on, and the next one follows.
        """
        while self._segments:
            segment = self._segments[0]
            block = self._frame(segment)
            if block is not None:
                self._pending = _FRAME.size + len(block)
                return block
            lost = segment.size - segment.place
            if lost:
                self._give_up(lost, f"{segment.number:016}.spill")
            self._remove_first()
        return None

    def advance(self) -> None:
        """Forget the block that ``read`` returned last."""
        if not self._segments or not self._pending:
            return
        segment = self._segments[0]
        segment.place += self._pending
        self._pending = 0
        if segment.place >= segment.size:
            self._remove_first()
            return
        try:
            os.pwrite(segment.descriptor, _PLACE.pack(segment.place), len(_MARK))
        except OSError as error:
            # After a crash these records come a second time, with the same event ids.
            self._log.warning("decision_spill_place_not_kept", error=_words(error))

    def close(self) -> None:
        """Leave everything on disk for the next start."""
        while self._segments:
            os.close(self._segments.popleft().descriptor)
        self._is_writable = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """Keep others away for as long as the process lives; ``BlockingIOError`` if one was here first."""
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _find(self, number: int) -> None:
        """Take up a segment of an earlier run."""
        path = self._path(number)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, _HEAD.size, 0)
        mark, place = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0)
        if mark == _MARK:
            # A place that cannot be is none: better that records come twice than not at all.
            place = place if _HEAD.size <= place <= size else _HEAD.size
            if place < size:
                self._segments.append(_Segment(number, descriptor, place, size))
                return
        elif size:
            self._give_up(size, path.name)
        os.close(descriptor)
        path.unlink()

    def _begin_segment(self) -> None:
        number = self._next_number
        descriptor = os.open(
            self._path(number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        self._next_number += 1
        try:
            _write_all(descriptor, _HEAD.pack(_MARK, _HEAD.size), 0)
        except OSError:
            os.close(descriptor)
            self._path(number).unlink(missing_ok=True)
            raise
        self._segments.append(_Segment(number, descriptor, _HEAD.size, _HEAD.size))
        self._is_writable = True

    def _frame(self, segment: _Segment) -> bytes | None:
        """Return the block at the place of *segment*; None if it ends there or is damaged."""
        try:
            head = os.pread(segment.descriptor, _FRAME.size, segment.place)
            if len(head) < _FRAME.size:
                return None
            length, checksum = _FRAME.unpack(head)
            # No block is empty: that is what a file looks like that grew and was not written.
            if not 0 < length <= min(MAX_BLOCK_BYTES, segment.size - segment.place - _FRAME.size):
                return None
            block = os.pread(segment.descriptor, length, segment.place + _FRAME.size)
        except OSError as error:
            self._log.error("decision_spill_unreadable", error=_words(error))
            return None
        return block if len(block) == length and zlib.crc32(block) == checksum else None

    def _give_up(self, count: int, name: str) -> None:
        self._damaged_bytes += count
        self._log.warning("decision_spill_damaged", file=name, bytes=count)

    def _remove_first(self) -> None:
        segment = self._segments.popleft()
        self._pending = 0
        self._is_writable = self._is_writable and bool(self._segments)
        os.close(segment.descriptor)
        try:
            self._path(segment.number).unlink(missing_ok=True)
        except OSError as error:
            # It comes again at the next start, and its records with it.
            self._log.warning("decision_spill_not_removed", error=_words(error))

    def _truncate(self, segment: _Segment) -> None:
        try:
            os.ftruncate(segment.descriptor, segment.size)
        except OSError as error:
            self._log.warning("decision_spill_not_truncated", error=_words(error))
        if segment.place == segment.size and segment is self._segments[0]:
            self._remove_first()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016}.spill"


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        offset += count
        view = view[count:]


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
