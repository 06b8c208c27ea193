# SPDX-License-Identifier: Apache-2.0
"""
The failure counter of each user: one, over every factor and every call.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, case, delete, literal, select, update

from sidecar.services.store.engine import upsert
from sidecar.services.store.schema import throttles

#: Seconds to wait after the first failure, the second, and so on. After as many as there are here, the user is locked.
WAITS = (0, 0, 0, 0, 30, 60, 120, 240, 480, 900, 900, 900, 900, 900, 900)
LOCKED_AT = len(WAITS)


class Throttle(NamedTuple):
    """
    Where a user stands.

    Attributes:
        failures: Attempts that have not succeeded, those under way included.
        retry_at_ms: When the next attempt may be made.
    """

    failures: int
    retry_at_ms: int

    @property
    def is_locked(self) -> bool:
        """Whether only an administrator can let the user try again."""
        return self.failures >= LOCKED_AT


def count_attempt(connection: Connection, user_arn: str, now_ms: int) -> Throttle | None:
    """
    Count an attempt as failed before it is made, and return the new count; None where none may be made now.

    Counting first keeps guesses that come at the same time from all seeing the same low count.
    """
    failures = throttles.c.failures + 1
    waits = {number: now_ms + 1000 * seconds for number, seconds in enumerate(WAITS, start=1) if seconds}
    row = connection.execute(
        upsert(connection, throttles)
        .values(user_arn=user_arn, failures=1, retry_at_ms=0)
        .on_conflict_do_update(
            index_elements=[throttles.c.user_arn],
            set_={"failures": failures, "retry_at_ms": case(waits, value=failures, else_=literal(0))},
            where=(throttles.c.failures < LOCKED_AT) & (throttles.c.retry_at_ms <= now_ms),
        )
        .returning(throttles.c.failures, throttles.c.retry_at_ms)
    ).one_or_none()
    return None if row is None else Throttle(*row)


def find(connection: Connection, user_arn: str) -> Throttle:
    """Return where a user stands."""
    query = select(throttles.c.failures, throttles.c.retry_at_ms).where(throttles.c.user_arn == user_arn)
    row = connection.execute(query).one_or_none()
    return Throttle(0, 0) if row is None else Throttle(*row)


def clear(connection: Connection, user_arn: str) -> int:
    """Forget the failures of a user, and return how many they were."""
    statement = delete(throttles).where(throttles.c.user_arn == user_arn).returning(throttles.c.failures)
    return connection.execute(statement).scalar_one_or_none() or 0


def take_back(connection: Connection, user_arn: str) -> None:
    """Uncount one attempt, which did not fail; earlier failures stay."""
    connection.execute(
        update(throttles)
        .where((throttles.c.user_arn == user_arn) & (throttles.c.failures > 0))
        .values(failures=throttles.c.failures - 1, retry_at_ms=0)
    )
