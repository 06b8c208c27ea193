# SPDX-License-Identifier: Apache-2.0
"""
Opening what sessions need of the store when it is first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.services.mfa_opener import MfaOpener
from sidecar.services.sessions.asking import Engine
from sidecar.services.sessions.journal import SessionJournal
from sidecar.services.sessions.watching import RevocationList

if TYPE_CHECKING:
    # A sidecar without people needs neither a database nor cryptography in its memory.
    from sidecar.services.sessions.parts import SessionParts

#: Mark of a list that nothing has been put on yet.
_NOTHING = RevocationList(0, ())


class SessionOpener:
    """
    Opens what issuing and ending sessions takes.

    Thread-safety: locked.
    """

    def __init__(self, mfa: MfaOpener, *, engine: Engine, journal: SessionJournal, now: Callable[[], int]) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._mfa = mfa
        self._engine = engine
        self._journal = journal
        self._now = now
        self._lock = threading.Lock()
        self._parts: SessionParts | None = None

    def open(self) -> SessionParts:
        """
        Return the parts.

        Raises:
            SidecarError: They cannot be opened; the next call tries again.
        """
        from sidecar.services.sessions.parts import build_session_parts

        with self._lock:
            if self._parts is None:
                self._parts = build_session_parts(
                    self._mfa.open(), engine=self._engine, journal=self._journal, now=self._now
                )
            return self._parts


class RevocationOpener:
    """
    Reads revocations where there is a store; where there is none, nothing can have been revoked.

    Thread-safety: that of the store.
    """

    def __init__(self, mfa: MfaOpener, *, has_store: Callable[[], bool], now: Callable[[], int]) -> None:
        """
        Args:
            has_store: Says whether there is a store.
            now: Gives nanoseconds since the epoch.
        """
        self._mfa = mfa
        self._has_store = has_store
        self._now = now

    def read(self, known_mark: int | None) -> RevocationList | None:
        """
        Return what is revoked now; None if that is still what was read with *known_mark*.

        Raises:
            SidecarError: The store is out of reach.
        """
        if not self._has_store():
            return None if known_mark == _NOTHING.mark else _NOTHING
        from sidecar.services.sessions.revoking import StoredRevocations

        return StoredRevocations(self._mfa.open().store, now=self._now).read(known_mark)
