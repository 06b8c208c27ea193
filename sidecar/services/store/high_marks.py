# SPDX-License-Identifier: Apache-2.0
"""
Numbers that only rise.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from sidecar.services.store.engine import upsert
from sidecar.services.store.schema import high_marks


def find(connection: Connection, name: str) -> int | None:
    """Return the greatest number so far; None if there was none."""
    return connection.execute(select(high_marks.c.number).where(high_marks.c.name == name)).scalar_one_or_none()


def raise_to(connection: Connection, name: str, number: int) -> None:
    """Store *number*, unless there was a greater one."""
    statement = upsert(connection, high_marks).values(name=name, number=number)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[high_marks.c.name], set_={"number": number}, where=high_marks.c.number < number
        )
    )


def count_up(connection: Connection, name: str) -> None:
    """Raise a number by one; whoever sees another number than before knows that something has happened."""
    statement = upsert(connection, high_marks).values(name=name, number=1)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[high_marks.c.name], set_={"number": high_marks.c.number + 1})
    )
