# SPDX-License-Identifier: Apache-2.0
"""
Setting passwords, and locking users: the administrator's side of signing in.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.model.directory import AccountFacts, UserFacts
from sidecar.model.errors import RequestError
from sidecar.services.callers import Caller
from sidecar.services.revocations import revoke_principal
from sidecar.services.sessions.hashing import PasswordHasher
from sidecar.services.sessions.journal import SessionEvent, SessionJournal
from sidecar.services.sessions.password_policy import find_violations, normalize_password
from sidecar.services.store import passwords as rows
from sidecar.services.store import throttles as throttle_rows
from sidecar.services.store.engine import Store


class PasswordService:
    """
    Sets, locks and unlocks.

    Thread-safety: that of the store.
    """

    def __init__(
        self, *, store: Store, hasher: PasswordHasher, journal: SessionJournal, now: Callable[[], int]
    ) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._store = store
        self._hasher = hasher
        self._journal = journal
        self._now = now

    def set_password(self, caller: Caller, user: UserFacts, account: AccountFacts, password: str) -> None:
        """
        Set the password of a user, and end the sessions that began with an earlier one.

        Raises:
            RequestError: It is not what the account asks for; everything that is wrong with it is told.
        """
        text = normalize_password(password)
        violations = find_violations(text, user=user, account=account)
        if violations:
            raise _refused(violations)
        new_hash = self._hasher.hash(text)
        is_set = False
        while not is_set:
            with self._store.read() as connection:
                present = rows.find(connection, user.user_id)
                kept = account.password_policy.password_reuse_prevention if account.password_policy else None
                earlier = rows.list_history(connection, user.user_id, kept or 0)
            if any(self._hasher.verify(old, text) for old in earlier):
                raise _refused([f"it is one of the last {kept}"])
            now_ms = self._now_ms()
            with self._store.write() as connection:
                before_ms = rows.set_hash(
                    connection,
                    user_id=user.user_id,
                    user_arn=user.arn,
                    account=user.account,
                    user_name=user.name,
                    password_hash=new_hash,
                    expected_set_at_ms=None if present is None else present.set_at_ms,
                    now_ms=now_ms,
                )
                if before_ms is not None:
                    is_set = True
                    revoke_principal(connection, user.user_id, before_ms=before_ms, now_ms=now_ms)
        self._journal.changed(SessionEvent.PASSWORD_SET, caller, principal=user.arn)

    def lock(self, caller: Caller, user: UserFacts) -> None:
        """Keep a user from signing in, and end the sessions."""
        now_ms = self._now_ms()
        with self._store.write() as connection:
            before_ms = rows.lock(
                connection,
                user_id=user.user_id,
                user_arn=user.arn,
                account=user.account,
                user_name=user.name,
                now_ms=now_ms,
            )
            revoke_principal(connection, user.user_id, before_ms=before_ms, now_ms=now_ms)
        self._journal.changed(SessionEvent.USER_LOCKED, caller, principal=user.arn)

    def unlock(self, caller: Caller, user: UserFacts) -> tuple[bool, int]:
        """
        Let a user sign in again at once.

        Returns:
            Whether there was a lock, and how many failures were forgotten.
        """
        with self._store.write() as connection:
            was_locked = rows.unlock(connection, user.user_id)
            failures = throttle_rows.clear(connection, user.arn)
        self._journal.changed(SessionEvent.USER_UNLOCKED, caller, principal=user.arn)
        return was_locked, failures

    def _now_ms(self) -> int:
        return self._now() // 1_000_000


def _refused(violations: list[str]) -> RequestError:
    return RequestError(
        f"the password is not what the account asks for: {'; '.join(violations)}",
        field="password",
        help="choose another one; a few words that have nothing to do with each other are a good one",
    )
