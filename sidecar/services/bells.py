# SPDX-License-Identifier: Apache-2.0
"""
Waking those who wait for something that is kept in the store.

A change that was made in this process wakes them at once; one that another sidecar made is seen when they look again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """
    Wakes one thread that waits, and tells it when nobody needs it to wait any more.

    Thread-safety: locked; one thread waits.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether nobody needs the waiting any more."""
        return self._is_over

    def ring(self) -> None:
        """Wake whoever waits, or will wait next."""
        self._event.set()

    def end(self) -> None:
        """Wake whoever waits, for the last time."""
        self._is_over = True
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Wait until the bell rings, at most so long."""
        self._event.wait(seconds)
        if not self._is_over:
            self._event.clear()


class Bells:
    """
    Bells by what they are listened to for.

    Thread-safety: locked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[str, list[Bell]] = {}

    @contextmanager
    def listening(self, name: str, bell: Bell) -> Iterator[None]:
        """Have *bell* ring for *name*, inside the block."""
        with self._lock:
            self._bells.setdefault(name, []).append(bell)
        try:
            yield
        finally:
            with self._lock:
                self._bells[name].remove(bell)
                if not self._bells[name]:
                    del self._bells[name]

    def ring(self, name: str) -> None:
        """Ring every bell of *name*."""
        with self._lock:
            bells = list(self._bells.get(name, ()))
        for bell in bells:
            bell.ring()
