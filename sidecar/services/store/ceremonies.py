# SPDX-License-Identifier: Apache-2.0
"""
Registrations of security keys under way.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from sidecar.services.store.schema import ceremonies


class Ceremony(NamedTuple):
    """
    A registration under way.

    Attributes:
        session: The one that may finish it.
        challenge: What the new key signs.
    """

    ceremony_id: str
    user_arn: str
    session: str
    device_name: str
    challenge: bytes
    expires_at_ms: int


_COLUMNS = tuple(ceremonies.c[name] for name in Ceremony._fields)


def add(connection: Connection, ceremony: Ceremony, now_ms: int) -> None:
    """Keep a ceremony, and forget those whose time is over."""
    connection.execute(delete(ceremonies).where(ceremonies.c.expires_at_ms <= now_ms))
    connection.execute(insert(ceremonies).values(ceremony._asdict()))


def count_open(connection: Connection, user_arn: str, now_ms: int) -> int:
    """Return how many ceremonies of a user are under way."""
    query = (
        select(func.count())
        .select_from(ceremonies)
        .where(ceremonies.c.user_arn == user_arn, ceremonies.c.expires_at_ms > now_ms)
    )
    return connection.execute(query).scalar_one()


def find_owner(connection: Connection, ceremony_id: str) -> str:
    """Return whose ceremony that is; empty where there is none."""
    query = select(ceremonies.c.user_arn).where(ceremonies.c.ceremony_id == ceremony_id)
    return connection.execute(query).scalar_one_or_none() or ""


def take(connection: Connection, ceremony_id: str, *, session: str, now_ms: int) -> Ceremony | None:
    """Take a ceremony out, for the session that began it; None where there is none (any more)."""
    row = connection.execute(
        delete(ceremonies)
        .where(
            ceremonies.c.ceremony_id == ceremony_id,
            ceremonies.c.session == session,
            ceremonies.c.expires_at_ms > now_ms,
        )
        .returning(*_COLUMNS)
    ).one_or_none()
    return None if row is None else Ceremony(*row)
