# SPDX-License-Identifier: Apache-2.0
"""
The rings of decision records, those of the data listener's workers and that of the management listener, as one source.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from sidecar.core import Recorder

if TYPE_CHECKING:
    from sidecar.core._core import Telemetry


#: Milliseconds that records gather before they are read.
_GATHER_MS = 20


class RecordingListener(Protocol):
    """A data listener that keeps records."""

    def wait_for_records(self, milliseconds: int) -> None:
        """Wait until there is something to read, or for *milliseconds*."""
        ...

    def read_records(self) -> bytes:
        """Return records that have not been read yet."""
        ...

    def telemetry(self) -> list[Telemetry]:
        """Return what was counted."""
        ...


class CoreRecords:
    """
    Reads what the core recorded.

    Thread-safety: ``read_records`` belongs to one thread, ``statistics`` to any.
    """

    def __init__(self, *, recorder: Recorder, listener: RecordingListener | None) -> None:
        """
        Args:
            recorder: Records the decisions that are asked for through Python.
            listener: The data listener, if there is one.
        """
        self._recorder = recorder
        self._listener = listener

    def read_records(self, timeout_ms: int) -> bytes:
        """
        Return records that have not been read yet; none if there were none for *timeout_ms* milliseconds.

        Records are let gather for a moment, so that a steady trickle of them is not read one by one; a ring that fills
        up ends that moment.
        """
        gathering = min(timeout_ms, _GATHER_MS)
        self._wait(gathering)
        block = self._read()
        if not block and timeout_ms > gathering:
            self._wait(timeout_ms - gathering)
            block = self._read()
        return block

    def _wait(self, milliseconds: int) -> None:
        if self._listener is not None:
            self._listener.wait_for_records(milliseconds)
        elif milliseconds:
            time.sleep(milliseconds / 1000)

    def statistics(self) -> Mapping[str, int]:
        """Return how many records were ``offered``, ``sampled_out`` and ``dropped`` in the rings."""
        parts = [self._recorder.telemetry(), *(self._listener.telemetry() if self._listener is not None else ())]
        return {
            "offered": sum(part["offered"] for part in parts),
            "sampled_out": sum(part["sampled_out"] for part in parts),
            "dropped": sum(part["dropped"] for part in parts),
        }

    def _read(self) -> bytes:
        block = self._recorder.read_records()
        return block + self._listener.read_records() if self._listener is not None else block
