# SPDX-License-Identifier: Apache-2.0
"""
The audit trail: who did what to which device, from where, and how it ended.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sidecar.model.errors import SettingsError
from sidecar.services.log import Log


class AuditTrail(Protocol):
    """Keeps audit records; may be called from any thread."""

    def record(self, event: Mapping[str, object]) -> None:
        """Keep one record. It holds no secret, no code and no challenge."""
        ...


class RecordSink(Protocol):
    """Takes records for keeping; may be called from any thread."""

    def write(self, record: Mapping[str, object]) -> None:
        """Keep one record."""
        ...


class NullAudit:
    """
    Keeps nothing.

    Thread-safety: immutable.
    """

    def record(self, event: Mapping[str, object]) -> None:
        """Do nothing."""


class RecordedAudit:
    """
    Gives each record its time and passes it on to a sink.

    Thread-safety: that of the sink.
    """

    def __init__(self, sink: RecordSink, *, now: Callable[[], int]) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._sink = sink
        self._now = now

    def record(self, event: Mapping[str, object]) -> None:
        """Keep one record."""
        seconds, nanoseconds = divmod(self._now(), 1_000_000_000)
        stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
        time = stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._sink.write({"time": time, **event})


class AuditFile:
    """
    Appends each record to a file as one line of JSON.

    The file is opened for each record, so that whoever rotates logs may move it away, and several processes may write
    to it. A record that cannot be written is counted: the next one that can says how many are missing.

    Thread-safety: locked.
    """

    def __init__(self, path: Path, *, log: Log, on_drop: Callable[[], None]) -> None:
        """
        Args:
            log: Is told of what cannot be written.
            on_drop: Is called for each record that is lost.

        Raises:
            SettingsError: The file cannot be written.
        """
        self._path = path
        self._log = log
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._dropped = 0
        try:
            if os.path.lexists(path):
                self._append(b"")
            elif not os.access(path.parent, os.W_OK | os.X_OK):
                raise OSError(errno.ENOENT if not path.parent.is_dir() else errno.EACCES, "")
        except OSError as error:
            raise SettingsError(
                f"audit log `{path}` cannot be written: {os.strerror(error.errno or 0).lower()}",
                help="name a file in a folder that may be written to with --audit-log",
            ) from None

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record, and see it on the disk."""
        with self._lock:
            told = {**record, "dropped_before": self._dropped} if self._dropped else record
            try:
                self._append(json.dumps(told, ensure_ascii=True).encode("ascii") + b"\n")
            except OSError as error:
                self._dropped += 1
                self._on_drop()
                self._log.error("audit_dropped", path=str(self._path), cause=os.strerror(error.errno or 0).lower())
            else:
                self._dropped = 0

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            size = status.st_size
            if size == 0 and os.geteuid() == 0:
                # Root may run a command beside a service, which has to go on writing.
                owner = self._path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            if line and os.write(descriptor, line) != len(line):
                # What a full disk took of the line is taken back.
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if line:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
