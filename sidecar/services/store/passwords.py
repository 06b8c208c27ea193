# SPDX-License-Identifier: Apache-2.0
"""
Passwords of users, by their unique id, and the lock that an administrator puts on a user.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, case, delete, func, insert, literal, select, update

from sidecar.services.store.engine import upsert
from sidecar.services.store.schema import password_history, passwords

#: SPEC: IAM, PasswordReusePrevention: at most so many earlier passwords are looked at.
MAX_HISTORY = 24


class SignInUser(NamedTuple):
    """
    A user as far as signing in goes.

    Attributes:
        password_hash: Of the password; None where there is none.
        set_at_ms: When it was set.
        last_used_at_ms: When the last session by it began.
        locked_at_ms: When an administrator has locked the user; None where none has.
    """

    user_id: str
    user_arn: str
    account: str
    user_name: str
    password_hash: str | None
    set_at_ms: int | None
    last_used_at_ms: int | None
    locked_at_ms: int | None


_COLUMNS = tuple(passwords.c[name] for name in SignInUser._fields)


def find_by_name(connection: Connection, account: str, user_name: str) -> list[SignInUser]:
    """Return the users who have, or had, that name in an account."""
    query = select(*_COLUMNS).where(passwords.c.account == account, passwords.c.user_name == user_name)
    return [SignInUser(*row) for row in connection.execute(query)]


def find(connection: Connection, user_id: str) -> SignInUser | None:
    """Return a user who has a password or a lock."""
    row = connection.execute(select(*_COLUMNS).where(passwords.c.user_id == user_id)).one_or_none()
    return None if row is None else SignInUser(*row)


def set_hash(
    connection: Connection,
    *,
    user_id: str,
    user_arn: str,
    account: str,
    user_name: str,
    password_hash: str,
    expected_set_at_ms: int | None,
    now_ms: int,
) -> int | None:
    """
    Set a password in the place of the one that was set then.

    Returns:
        The moment up to which sessions began with an earlier password; None where somebody else has set one.
    """
    # The row is what a new password and signing in take turns at.
    names = {"user_arn": user_arn, "account": account, "user_name": user_name}
    connection.execute(
        upsert(connection, passwords)
        .values(user_id=user_id, **names)
        .on_conflict_do_update(index_elements=[passwords.c.user_id], set_=names)
    )
    present = find(connection, user_id)
    if present is None or present.set_at_ms != expected_set_at_ms:
        return None
    # Another sidecar's clock may be ahead of ours.
    before_ms = max(now_ms, present.last_used_at_ms or 0, (present.set_at_ms or 0) + 1)
    connection.execute(
        update(passwords).where(passwords.c.user_id == user_id).values(password_hash=password_hash, set_at_ms=before_ms)
    )
    connection.execute(
        insert(password_history).values(user_id=user_id, set_at_ms=before_ms, password_hash=password_hash)
    )
    kept = select(password_history.c.set_at_ms).where(password_history.c.user_id == user_id)
    oldest = connection.execute(
        kept.order_by(password_history.c.set_at_ms.desc()).offset(MAX_HISTORY - 1).limit(1)
    ).scalar_one_or_none()
    if oldest is not None:
        connection.execute(
            delete(password_history).where(password_history.c.user_id == user_id, password_history.c.set_at_ms < oldest)
        )
    return before_ms


def list_history(connection: Connection, user_id: str, count: int) -> list[str]:
    """Return the hashes of the last passwords of a user, the present one first."""
    query = (
        select(password_history.c.password_hash)
        .where(password_history.c.user_id == user_id)
        .order_by(password_history.c.set_at_ms.desc())
        .limit(count)
    )
    return list(connection.execute(query).scalars())


def begin_session(
    connection: Connection, *, user_id: str, password_hash: str, issued_at_ms: int, new_hash: str
) -> bool:
    """
    Note that a session begins by a password, unless it was replaced or the user locked in between.

    Args:
        new_hash: Of the same password, with the parameters of today.
    """
    # Of two sessions that begin at a time, the later one counts, whichever comes here first.
    is_later = func.coalesce(passwords.c.last_used_at_ms, 0) < issued_at_ms
    begun = connection.execute(
        update(passwords)
        .where(
            passwords.c.user_id == user_id,
            passwords.c.password_hash == password_hash,
            passwords.c.locked_at_ms.is_(None),
        )
        .values(
            last_used_at_ms=case((is_later, literal(issued_at_ms)), else_=passwords.c.last_used_at_ms),
            password_hash=new_hash,
        )
    )
    if begun.rowcount == 1 and new_hash != password_hash:
        connection.execute(
            update(password_history)
            .where(password_history.c.user_id == user_id, password_history.c.password_hash == password_hash)
            .values(password_hash=new_hash)
        )
    return begun.rowcount == 1


def lock(connection: Connection, *, user_id: str, user_arn: str, account: str, user_name: str, now_ms: int) -> int:
    """Keep a user from signing in, and return the moment up to which sessions can have begun."""
    values = {"user_arn": user_arn, "account": account, "user_name": user_name, "locked_at_ms": now_ms}
    last = connection.execute(
        upsert(connection, passwords)
        .values(user_id=user_id, **values)
        .on_conflict_do_update(index_elements=[passwords.c.user_id], set_=values)
        .returning(passwords.c.last_used_at_ms)
    ).scalar_one()
    return max(now_ms, last or 0)


def unlock(connection: Connection, user_id: str) -> bool:
    """Let a user sign in again; False for one who was not locked."""
    unlocked = connection.execute(
        update(passwords)
        .where(passwords.c.user_id == user_id, passwords.c.locked_at_ms.is_not(None))
        .values(locked_at_ms=None)
    )
    return unlocked.rowcount == 1
