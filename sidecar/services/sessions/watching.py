# SPDX-License-Identifier: Apache-2.0
"""
Keeping everybody who opens tokens up to date: keys from their file, revocations from the store.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from sidecar.core import SessionState
from sidecar.model.errors import InternalError, SettingsError, SidecarError
from sidecar.services.log import Log
from sidecar.services.sessions.journal import SessionMetrics
from sidecar.services.sessions.keys import SessionKeyFile, SessionKeyring

#: Seconds between two looks.
INTERVAL = 1.0
_NANOS = 1_000_000_000
#: Bytes of a subject's digest in what the core is given.
_DIGEST_BYTES = 16
_RECORD = struct.Struct(f"<{_DIGEST_BYTES}sq")


class RevocationEntry(Protocol):
    """A revocation, as the store has it."""

    @property
    def kind(self) -> int:
        """1 for a principal, 2 for a lineage, 3 for a device."""
        ...

    @property
    def subject(self) -> bytes:
        """Whom it is about."""
        ...

    @property
    def before_ms(self) -> int:
        """What began, or was proved, later is not touched."""
        ...


class RevocationList(NamedTuple):
    """
    Revocations as they were at one moment.

    Attributes:
        mark: Another one whenever there is a new revocation.
    """

    mark: int
    entries: Iterable[RevocationEntry]


class RevocationSource(Protocol):
    """Knows what was revoked; may be called from any thread."""

    def read(self, known_mark: int | None) -> RevocationList | None:
        """
        Return what is revoked now; None if that is still what was read with *known_mark*.

        Raises:
            SidecarError: It is out of reach.
        """
        ...


def pack_revocations(entries: Iterable[RevocationEntry]) -> tuple[bytes, int]:
    """Return revocations in the form of the core, sorted, and how many they are."""
    records: dict[bytes, int] = {}
    for entry in entries:
        digest = hashlib.sha256(bytes([entry.kind]) + entry.subject).digest()[:_DIGEST_BYTES]
        records[digest] = entry.before_ms
    return b"".join(_RECORD.pack(digest, records[digest]) for digest in sorted(records)), len(records)


class SessionWatch:
    """
    Looks once a second, and hands out a new state whenever there is news.

    A state is of use for as long as the store was reached not too long ago: whoever cannot know of revocations denies.

    Thread-safety: locked.
    """

    def __init__(
        self,
        *,
        keys: SessionKeyFile,
        revocations: RevocationSource,
        grace: float,
        now: Callable[[], int],
        monotonic: Callable[[], int],
        metrics: SessionMetrics,
        log: Log,
        publish: Callable[[SessionState], None],
    ) -> None:
        """
        Args:
            grace: Seconds without the store after which tokens are denied.
            now: Gives nanoseconds since the epoch.
            monotonic: Gives nanoseconds of the monotonic clock.
            publish: Is handed each new state.

        Raises:
            SettingsError: The keys cannot be used.
        """
        self._keys = keys
        self._revocations = revocations
        self._grace_ns = int(grace * _NANOS)
        self._now = now
        self._monotonic = monotonic
        self._metrics = metrics
        self._log = log
        self._publish = publish
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._fingerprint = keys.fingerprint()
        self._ring = keys.read()
        self._metrics.record_keys(is_good=True)
        self._mark: int | None = None
        self._packed, self._count = b"", 0
        self._is_reached = True
        #: On the monotonic clock; nothing has been read yet.
        self._valid_until = 0
        self._state: SessionState | None = None
        self.refresh()

    @property
    def state(self) -> SessionState:
        """What opens tokens now."""
        if self._state is None:
            raise InternalError("sessions are not ready", cause="nothing was looked at yet")
        return self._state

    @property
    def ring(self) -> SessionKeyring:
        """The keys as they are now."""
        return self._ring

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="sessions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; what is in place becomes of no use after a while."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(INTERVAL)

    def refresh(self) -> None:
        """Look now: what was revoked until this call is denied after it."""
        with self._lock:
            is_news = self._look_at_keys()
            began = self._monotonic()
            try:
                read = self._revocations.read(self._mark)
            except SidecarError as error:
                self._tell_out_of_reach(error)
            else:
                is_news |= self._take(read)
                # Counted from before the reading: what is revoked while it goes on may not be in it.
                self._valid_until = began + self._grace_ns
            if is_news or self._state is None:
                keys = [(key.id, key.seal) for key in self._ring.keys]
                state = SessionState(keys=keys, revocations=self._packed)
                state.set_valid_until(self._valid_until)
                self._state = state
                self._publish(state)
            else:
                self._state.set_valid_until(self._valid_until)

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.refresh()

    def _look_at_keys(self) -> bool:
        fingerprint = self._keys.fingerprint()
        if fingerprint == self._fingerprint:
            return False
        self._fingerprint = fingerprint
        try:
            ring = self._keys.read()
        except SettingsError as error:
            self._metrics.record_keys(is_good=False)
            self._log.error("session_keys_unusable", cause=error.message, help=error.help or "the last good ones stay")
            return False
        self._metrics.record_keys(is_good=True)
        is_news = ring != self._ring
        self._ring = ring
        if is_news:
            self._log.info("session_keys_loaded", keys=[key.id.hex() for key in ring.keys])
        return is_news

    def _take(self, read: RevocationList | None) -> bool:
        if not self._is_reached:
            self._is_reached = True
            self._log.info("revocations_reached")
        before = self._packed
        if read is not None:
            self._mark = read.mark
            self._packed, self._count = pack_revocations(read.entries)
        self._metrics.record_revocations(self._count, self._now() / _NANOS)
        return self._packed != before

    def _tell_out_of_reach(self, error: SidecarError) -> None:
        if self._is_reached:
            self._is_reached = False
            self._log.error(
                "revocations_out_of_reach", cause=error.message, denied_after_seconds=self._grace_ns / _NANOS
            )
