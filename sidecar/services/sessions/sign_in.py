# SPDX-License-Identifier: Apache-2.0
"""
Signing in by password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from secrets import token_bytes
from typing import NamedTuple

from sidecar.core import Image
from sidecar.model.directory import AccountFacts, UserFacts
from sidecar.model.errors import MfaError, PreconditionError, ThrottledError
from sidecar.model.session import SessionClaims, SessionKind
from sidecar.services.callers import Caller
from sidecar.services.mfa_journal import Factor
from sidecar.services.refusals import (
    PasswordMismatchError,
    PasswordReplacedError,
    UserLockedError,
    UserUnknownError,
    refused_sign_in,
)
from sidecar.services.sessions.hashing import PasswordHasher
from sidecar.services.sessions.journal import SessionEvent, SessionJournal
from sidecar.services.sessions.password_policy import MAX_PASSWORD, expires_at_ms, normalize_password
from sidecar.services.sessions.sealing import new_access_key_id
from sidecar.services.store import devices as device_rows
from sidecar.services.store import passwords as rows
from sidecar.services.store import throttles as throttle_rows
from sidecar.services.store.engine import Store
from sidecar.services.store.passwords import SignInUser
from sidecar.services.throttles import Throttles

#: SPEC: AWS, console sessions: twelve hours.
SIGN_IN_MS = 12 * 60 * 60 * 1000
LINEAGE_BYTES = 16
#: Where attempts are counted of those whom nobody knows, so that they cost as much as those of others.
_NOBODY = "nobody"
_WHAT = "sign_in"
_MAX_ACCOUNT = 64
#: SPEC: IAM's pattern of a user's name.
_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")


class _Found(NamedTuple):
    """Somebody who may sign in."""

    user: UserFacts
    account: AccountFacts
    row: SignInUser
    has_devices: bool


class SignInService:
    """
    Looks at passwords.

    Whoever is refused is not told why, and not by the time that it takes either: an account or user that is not there,
    a password that is another, a user who has to wait or is locked all answer alike.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        throttles: Throttles,
        hasher: PasswordHasher,
        journal: SessionJournal,
        now: Callable[[], int],
    ) -> None:
        """
        Args:
            throttles: The counter of each user's failures, over passwords and second factors.
            now: Gives nanoseconds since the epoch.
        """
        self._store = store
        self._throttles = throttles
        self._hasher = hasher
        self._journal = journal
        self._now = now

    def sign_in(self, image: Image, *, account: str, user_name: str, password: str, peer: str) -> SessionClaims:
        """
        Return what the session of a user says who knows the password.

        Args:
            account: Twelve digits or an alias.

        Raises:
            AuthenticationError: Somebody does not, or has to wait.
            PreconditionError: The password is right, and has expired.
            LimitExceededError: Too many sign in at the same time.
        """
        caller = Caller.anonymous(peer)
        # One character more than a password may have cannot be one.
        text = normalize_password(password[: 4 * MAX_PASSWORD])[: MAX_PASSWORD + 1]
        found = self._find(image, account, user_name)
        if found is None:
            self._hasher.verify(None, text)
            self._count_nobody()
            reason = UserUnknownError.reason
            # Not by name: people type their password into the wrong field.
            self._journal.refused(SessionEvent.SIGN_IN_REFUSED, caller, reason=reason)
            raise refused_sign_in()
        user = found.user
        now_ms = self._now() // 1_000_000
        # A session that began with a password is not ended by that password having been set.
        issued_at_ms = max(now_ms, (found.row.set_at_ms or 0) + 1)
        try:
            with self._throttles.attempt(caller, user.arn, Factor.PASSWORD, _WHAT, forgives=not found.has_devices):
                is_expired = self._verify(found, text, now_ms=now_ms, issued_at_ms=issued_at_ms)
        except ThrottledError:
            self._hasher.verify(None, text)
            self._count_nobody()
            raise refused_sign_in() from None
        except MfaError:
            raise refused_sign_in() from None
        if is_expired:
            self._journal.refused(SessionEvent.SIGN_IN_REFUSED, caller, reason="password_expired", principal=user.arn)
            raise PreconditionError(
                "the password has expired", help="an administrator sets another with `iam-sidecar user set-password`"
            )
        return SessionClaims(
            access_key_id=new_access_key_id(),
            kind=SessionKind.SIGN_IN,
            lineage=token_bytes(LINEAGE_BYTES),
            principal=user.arn,
            principal_id=user.user_id,
            session_name="",
            issued_at_ms=issued_at_ms,
            expires_at_ms=issued_at_ms + SIGN_IN_MS,
            lineage_issued_at_ms=issued_at_ms,
            person=user.arn,
            person_id=user.user_id,
        )

    def _verify(self, found: _Found, password: str, *, now_ms: int, issued_at_ms: int) -> bool:
        """Pass if the password is right, and say whether it has expired."""
        row = found.row
        is_right = self._hasher.verify(row.password_hash, password)
        if not is_right or row.password_hash is None or row.set_at_ms is None:
            raise PasswordMismatchError("the password is another")
        if row.locked_at_ms is not None:
            raise UserLockedError("an administrator has locked the user")
        expiry = expires_at_ms(row.set_at_ms, found.account.password_policy)
        if expiry is not None and expiry <= now_ms:
            return True
        new_hash = self._hasher.hash(password) if self._hasher.is_outdated(row.password_hash) else row.password_hash
        with self._store.write() as connection:
            # INVARIANT: the session's beginning was read before this, so that a password set, or a user locked, from
            # here on ends it.
            if not rows.begin_session(
                connection,
                user_id=row.user_id,
                password_hash=row.password_hash,
                issued_at_ms=issued_at_ms,
                new_hash=new_hash,
            ):
                raise PasswordReplacedError("the password was replaced, or the user locked, a moment ago")
        return False

    def _find(self, image: Image, account: str, user_name: str) -> _Found | None:
        facts = image.find_account(account) if len(account) <= _MAX_ACCOUNT else None
        # A database takes no other text than that which it can store.
        name = user_name if _NAME.fullmatch(user_name) is not None else ""
        with self._store.read() as connection:
            found = rows.find_by_name(connection, "" if facts is None else facts.id, name)
            known = [(row, user) for row in found if (user := image.find_user(row.user_arn)) is not None]
            # Who was made anew under an old name has another id, and no password.
            row, user = next(((row, user) for row, user in known if row.user_id == user.user_id), (None, None))
            has_devices = bool(device_rows.list_enabled(connection, "" if row is None else row.user_arn))
        if facts is None or row is None or user is None:
            return None
        return _Found(user, facts, row, has_devices)

    def _count_nobody(self) -> None:
        with self._store.write() as connection:
            throttle_rows.clear(connection, _NOBODY)
            throttle_rows.count_attempt(connection, _NOBODY, self._now() // 1_000_000)
