# SPDX-License-Identifier: Apache-2.0
"""
Where the lines of the decision log go: a file with rotation, or standard output.

A sink takes whole lines. It raises ``OSError`` where it cannot, and may be asked again then.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path
from typing import Protocol

from sidecar.model.errors import SettingsError

#: Bytes that a pipe takes at once or not at all.
_PIPE_BYTES = select.PIPE_BUF
#: Milliseconds that standard output is waited for at a time.
_PATIENCE_MS = 200


class RecordSink(Protocol):
    """
    Takes lines.

    Thread-safety: confined to one thread.
    """

    def write(self, lines: memoryview) -> int:
        """
        Take *lines* from their beginning, and return how many bytes were taken; 0 if the sink is busy.

        Raises:
            OSError: The sink takes nothing at the moment.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class FileSink:
    """
    Appends to a file and starts a new one when that has grown to its size.

    ``decisions.json`` becomes ``decisions.json.1``, that ``decisions.json.2`` and so on. A file that is moved away or
    deleted by somebody else is begun anew. Lines are never torn: what a full disk took of them is taken back.

    Thread-safety: confined to one thread.
    """

    def __init__(self, path: Path, *, max_bytes: int, kept: int) -> None:
        """
        Args:
            path: The file that is written to.
            max_bytes: Size at which it is put aside.
            kept: Files put aside that are kept; at least 1.

        Raises:
            SettingsError: It cannot be opened, or is something else than a regular file.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._descriptor = -1
        self._size = 0
        try:
            self._open()
        except OSError as error:
            what = "it is no regular file" if error.errno == errno.EINVAL else os.strerror(error.errno or 0).lower()
            raise SettingsError(
                f"decision log `{path}` cannot be written: {what}",
                help="name a file in a folder that the sidecar may write to, or stdout",
            ) from None

    def write(self, lines: memoryview) -> int:
        """Append all of *lines*, or nothing and raise ``OSError``."""
        if self._descriptor < 0 or not self._is_in_place():
            self.close()
            self._open()
        if self._size and self._size + len(lines) > self._max_bytes:
            self._put_aside()
        rest = lines
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self._take_back()
            raise
        self._size += len(lines)
        return len(lines)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        # Without O_NONBLOCK, opening a pipe would wait for its reader.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            size = status.st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A line that a crash left unfinished stays alone on its line.
                size += os.write(descriptor, b"\n")
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._size = size

    def _is_in_place(self) -> bool:
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        here = os.fstat(self._descriptor)
        # Whoever truncates the file in place makes room.
        self._size = here.st_size
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _put_aside(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self._aside(number)
            newer = self._aside(number - 1) if number > 1 else self._path
            try:
                os.replace(newer, older)
            except FileNotFoundError:
                continue
        self._open()

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            # The next opening finds the torn line and ends it.
            self.close()


class OutputSink:
    """
    Writes to standard output, and never waits for its reader for long.

    Thread-safety: confined to one thread.
    """

    def __init__(self, descriptor: int = 1) -> None:
        """
        Args:
            descriptor: Where to write; left as it is, since other processes may have it too.
        """
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, lines: memoryview) -> int:
        """Write what is taken without waiting, after a short wait for there to be room."""
        taken = 0
        while taken < len(lines) and self._poll.poll(0 if taken else _PATIENCE_MS):
            try:
                taken += os.write(self._descriptor, lines[taken : taken + _PIPE_BYTES])
            except BlockingIOError:
                break
        return taken

    def close(self) -> None:
        """Do nothing: standard output stays open."""
