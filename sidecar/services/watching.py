# SPDX-License-Identifier: Apache-2.0
"""
Reloading when somebody asks, when the files change and when something comes into force by itself.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from sidecar.model.errors import SidecarError
from sidecar.services.log import Log, NullLog

#: Seconds after which a source that never comes to rest is reloaded all the same.
_LONGEST_SETTLING = 30.0
#: Least and most seconds of a wait for a moment: the clock may be set meanwhile.
_LEAST_WAIT, _LONGEST_WAIT = 0.05, 60.0


class Reloadable(Protocol):
    """What is watched."""

    @property
    def tried_fingerprint(self) -> bytes:
        """Fingerprint at the last attempt."""
        ...

    def fingerprint(self) -> bytes:
        """Fingerprint now."""
        ...

    def seconds_until_due(self) -> float | None:
        """Seconds until a reload is needed though nothing changes; None: there is none to come."""
        ...

    def reload(self) -> object:
        """Try again."""
        ...


class SourceWatcher:
    """
    Reloads on request, when the source has changed and then come to rest, and when a reload falls due.

    Files are looked at now and then rather than subscribed to: that works on every file system,
    network mounts and Kubernetes volumes included.

    Thread-safety: ``request_reload`` and ``stop`` may come from any thread.
    """

    def __init__(self, *, target: Reloadable, interval: float, settle: float, log: Log | None = None) -> None:
        """
        Args:
            target: What to reload.
            interval: Seconds between two looks at the files; 0 never looks.
            settle: Seconds without a change after which a change is complete.
        """
        self._target = target
        self._interval = interval
        self._settle = settle
        self._log: Log = log or NullLog()
        self._wake = threading.Event()
        self._requested = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="source-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def request_reload(self) -> None:
        """Reload soon, whether or not anything has changed."""
        self._requested.set()
        self._wake.set()

    def stop(self) -> None:
        """Watch no longer; a reload under way is not waited for."""
        self._stopped.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._next_look())
            self._wake.clear()
            if self._stopped.is_set():
                return
            if self._requested.is_set():
                self._requested.clear()
                self._reload_apart("requested")
            elif self._is_due():
                self._reload_apart("shadow_ends")
            elif self._interval and self._target.fingerprint() != self._target.tried_fingerprint:
                if self._come_to_rest():
                    self._reload_apart("source_changed")

    def _next_look(self) -> float | None:
        """Return how long to wait; None: until somebody asks."""
        due = self._target.seconds_until_due()
        if due is None:
            return self._interval or None
        wait = min(max(due, _LEAST_WAIT), _LONGEST_WAIT)
        return min(wait, self._interval) if self._interval else wait

    def _is_due(self) -> bool:
        due = self._target.seconds_until_due()
        return due is not None and due <= 0

    def _come_to_rest(self) -> bool:
        """Wait until nothing changes any more, and say whether there is something to reload."""
        latest = time.monotonic() + _LONGEST_SETTLING
        seen = self._target.fingerprint()
        while not self._stopped.is_set() and time.monotonic() < latest:
            if self._wake.wait(self._settle):
                # Somebody asks for a reload, or for an end: the loop decides.
                return False
            now = self._target.fingerprint()
            if now == seen:
                break
            seen = now
        # A change that was taken back is none.
        return not self._stopped.is_set() and seen != self._target.tried_fingerprint

    def _reload_apart(self, why: str) -> None:
        """Reload on a thread of its own, so that whatever befalls it, watching goes on."""
        thread = threading.Thread(target=self._reload, args=(why,), name="reload", daemon=True)
        thread.start()
        thread.join()

    def _reload(self, why: str) -> None:
        self._log.info("reload_started", why=why)
        try:
            self._target.reload()
        except SidecarError as error:
            self._log.warning("reload_refused", message=error.message)
