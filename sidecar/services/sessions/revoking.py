# SPDX-License-Identifier: Apache-2.0
"""
Ending sessions, and reading what has been ended.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.model.session import SessionClaims
from sidecar.services.callers import Caller
from sidecar.services.revocations import revoke_lineage, revoke_principal
from sidecar.services.sessions.journal import SessionEvent, SessionJournal
from sidecar.services.sessions.watching import RevocationList
from sidecar.services.store import revocations as rows
from sidecar.services.store.engine import Store


class Revoker:
    """
    Ends sessions.

    Thread-safety: that of the store.
    """

    def __init__(self, *, store: Store, journal: SessionJournal, now: Callable[[], int]) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._store = store
        self._journal = journal
        self._now = now

    def revoke(self, caller: Caller, claims: SessionClaims) -> None:
        """End a session, and every other one of the same sign-in."""
        now_ms = self._now() // 1_000_000
        event = SessionEvent.REVOKED
        with self._store.write() as connection:
            if not revoke_lineage(connection, claims.lineage, now_ms=now_ms):
                # There is a limit to what is ended one by one; ending too much is on the safe side.
                event = SessionEvent.PRINCIPAL_REVOKED
                revoke_principal(connection, claims.person_id or claims.principal_id, before_ms=now_ms, now_ms=now_ms)
        self._journal.changed(event, caller, principal=claims.arn, access_key_id=claims.access_key_id)


class StoredRevocations:
    """
    The revocations of the store.

    Thread-safety: that of the store.
    """

    def __init__(self, store: Store, *, now: Callable[[], int]) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._store = store
        self._now = now

    def read(self, known_mark: int | None) -> RevocationList | None:
        """
        Return what is revoked now; None if that is still what was read with *known_mark*.

        Raises:
            SourceUnavailableError: The store is out of reach.
        """
        with self._store.read() as connection:
            mark = rows.find_mark(connection)
            if mark == known_mark:
                return None
            return RevocationList(mark, rows.list_live(connection, self._now() // 1_000_000))
