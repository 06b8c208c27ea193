# SPDX-License-Identifier: Apache-2.0
"""
The audit trail: who did what to which device, from where, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol


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
