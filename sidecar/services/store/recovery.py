# SPDX-License-Identifier: Apache-2.0
"""
Recovery codes, as digests under one salt a user.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select, update

from sidecar.services.store.engine import upsert
from sidecar.services.store.schema import recovery_codes, recovery_sets


def replace_codes(
    connection: Connection, user_arn: str, *, salt: bytes, digests: Collection[bytes], now_ms: int
) -> None:
    """Put new codes in the place of all that a user had, used or not."""
    # The row of the set is what two calls at a time take turns at.
    connection.execute(
        upsert(connection, recovery_sets)
        .values(user_arn=user_arn, salt=salt, created_at_ms=now_ms)
        .on_conflict_do_update(index_elements=[recovery_sets.c.user_arn], set_={"salt": salt, "created_at_ms": now_ms})
    )
    connection.execute(delete(recovery_codes).where(recovery_codes.c.user_arn == user_arn))
    connection.execute(insert(recovery_codes), [{"user_arn": user_arn, "digest": digest} for digest in sorted(digests)])


def find_salt(connection: Connection, user_arn: str) -> bytes | None:
    """Return the salt of a user's codes; None for a user without."""
    return connection.execute(
        select(recovery_sets.c.salt).where(recovery_sets.c.user_arn == user_arn)
    ).scalar_one_or_none()


def spend_code(connection: Connection, user_arn: str, digest: bytes, now_ms: int) -> bool:
    """Spend a code; False if the user has no such code, or it was spent."""
    spent = connection.execute(
        update(recovery_codes)
        .where(
            recovery_codes.c.user_arn == user_arn,
            recovery_codes.c.digest == digest,
            recovery_codes.c.used_at_ms.is_(None),
        )
        .values(used_at_ms=now_ms)
    )
    return spent.rowcount == 1
