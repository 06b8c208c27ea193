# SPDX-License-Identifier: Apache-2.0
"""
What ends sessions and voids proofs before their time.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import Connection, case, delete, func, select

from sidecar.services.store import high_marks
from sidecar.services.store.engine import upsert
from sidecar.services.store.schema import revocations

#: Sessions that may be revoked one by one; beyond that it takes the whole principal.
MAX_REVOCATIONS = 65_536
_MARK = "revocations"


class RevocationKind(IntEnum):
    """What a revocation is about; the numbers are part of what the core is given."""

    #: Sessions of a principal, and those that grew from them.
    PRINCIPAL = 1
    #: Every session that grew from one sign-in.
    LINEAGE = 2
    #: Proofs with a device.
    DEVICE = 3


class Revocation(NamedTuple):
    """
    One revocation.

    Attributes:
        subject: Unique id of a principal, lineage, or serial number of a device.
        before_ms: What began, or was proved, later is not touched.
        expires_at_ms: When everything that it could touch is over.
    """

    kind: RevocationKind
    subject: bytes
    before_ms: int
    expires_at_ms: int


_COLUMNS = tuple(revocations.c[name] for name in Revocation._fields)


def add(connection: Connection, revocation: Revocation, now_ms: int) -> None:
    """Keep a revocation, and forget those that touch nothing any more."""
    connection.execute(delete(revocations).where(revocations.c.expires_at_ms <= now_ms))
    statement = upsert(connection, revocations).values(revocation._asdict())
    # One that reaches further back than what is there takes nothing away from it.
    new = statement.excluded
    greater = {
        name: case((revocations.c[name] < new[name], new[name]), else_=revocations.c[name])
        for name in ("before_ms", "expires_at_ms")
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=[revocations.c.kind, revocations.c.subject], set_=greater)
    )
    # INVARIANT: this is the last row that a transaction takes, so that none waits in a ring.
    high_marks.count_up(connection, _MARK)


def count_lineages(connection: Connection) -> int:
    """Return how many sessions were revoked one by one."""
    query = select(func.count()).select_from(revocations).where(revocations.c.kind == RevocationKind.LINEAGE.value)
    return connection.execute(query).scalar_one()


def find_mark(connection: Connection) -> int:
    """Return a number that rises whenever a revocation is added."""
    return high_marks.find(connection, _MARK) or 0


def list_live(connection: Connection, now_ms: int) -> list[Revocation]:
    """Return the revocations that still touch something."""
    query = select(*_COLUMNS).where(revocations.c.expires_at_ms > now_ms)
    return [
        Revocation(RevocationKind(kind), bytes(subject), *times) for kind, subject, *times in connection.execute(query)
    ]
