# SPDX-License-Identifier: Apache-2.0
"""
Ending sessions and voiding proofs before their time, inside of transactions of the store.
"""

from __future__ import annotations

from sqlalchemy import Connection

from sidecar.services.sessions.keys import MAX_SESSION_MS
from sidecar.services.store import revocations as rows
from sidecar.services.store.revocations import Revocation, RevocationKind

#: What is added to the longest session: a sidecar that has not heard of a revocation may issue for a while yet.
_MARGIN_MS = 60 * 60 * 1000


def revoke_principal(connection: Connection, principal_id: str, *, before_ms: int, now_ms: int) -> None:
    """End the sessions of a user or a role that began by then, and those that grew from the user's."""
    _add(connection, RevocationKind.PRINCIPAL, principal_id.encode(), before_ms, now_ms)


def revoke_lineage(connection: Connection, lineage: bytes, *, now_ms: int) -> bool:
    """End every session that grew from one sign-in; False where too many were ended like that already."""
    if rows.count_lineages(connection) >= rows.MAX_REVOCATIONS:
        return False
    _add(connection, RevocationKind.LINEAGE, lineage, now_ms, now_ms)
    return True


def void_proofs(connection: Connection, serial_number: str, now_ms: int) -> None:
    """Have what was proved with a device by now count no more."""
    _add(connection, RevocationKind.DEVICE, serial_number.encode(), now_ms, now_ms)


def _add(connection: Connection, kind: RevocationKind, subject: bytes, before_ms: int, now_ms: int) -> None:
    expires_at_ms = max(before_ms, now_ms) + MAX_SESSION_MS + _MARGIN_MS
    rows.add(connection, Revocation(kind, subject, before_ms, expires_at_ms), now_ms)
