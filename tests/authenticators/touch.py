# SPDX-License-Identifier: Apache-2.0
"""When a software key is touched."""

from __future__ import annotations

import threading


class Finger:
    """
    Touches a key after it was asked for a touch some times, or when it is told to.

    Thread-safety: ``touch`` may be called from any thread.

    Attributes:
        after: How often the key asks in vain first; None waits for ``touch``.
        asked: How often the key has asked, ever.
    """

    def __init__(self, *, after: int | None = 1) -> None:
        self.after = after
        self.asked = 0
        self._waiting = 0
        self._touched = threading.Event()

    @classmethod
    def away(cls) -> Finger:
        """Give a finger that comes only when it is called."""
        return cls(after=None)

    def touch(self) -> None:
        """Touch the key once: now if it asks, or else as soon as it does."""
        self._touched.set()

    def is_there(self) -> bool:
        """Say whether the key is touched now, as it asks; one touch is for one thing."""
        self.asked += 1
        self._waiting += 1
        if not self._touched.is_set() and (self.after is None or self._waiting <= self.after):
            return False
        self._touched.clear()
        self._waiting = 0
        return True

    def give_up(self) -> None:
        """Forget that the key asked: it was cancelled."""
        self._waiting = 0
