# SPDX-License-Identifier: Apache-2.0
"""
Holding back whoever guesses: one failure counter a user, over every factor and every call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from sidecar.model.errors import LimitExceededError, MfaError, SidecarError, ThrottledError
from sidecar.services.callers import Caller
from sidecar.services.mfa_journal import Change, Factor
from sidecar.services.store import throttles as rows
from sidecar.services.store.engine import Store


class AttemptJournal(Protocol):
    """Is told of attempts that failed; ``MfaJournal`` says what the arguments are."""

    def refused(
        self,
        caller: Caller,
        factor: Factor,
        what: str,
        error: MfaError | None,
        *,
        user_arn: str = "",
        serial_number: str = "",
    ) -> None:
        """Tell of an attempt that failed, or (without an *error*) came while the user had to wait."""
        ...

    def changed(self, caller: Caller, change: Change, *, user_arn: str = "") -> None:
        """Tell of a lock."""
        ...


class Throttles:
    """
    Lets attempts through or holds them back.

    An attempt is counted, in a transaction of its own, before it is made; only a success takes that back. So
    neither guesses at the same time nor a failure half-way make a guess that does not count.

    Thread-safety: that of the store.
    """

    def __init__(self, *, store: Store, now: Callable[[], int], journal: AttemptJournal) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._store = store
        self._now = now
        self._journal = journal

    @contextlib.contextmanager
    def attempt(
        self,
        caller: Caller,
        user_arn: str,
        factor: Factor,
        what: str,
        *,
        serial_number: str = "",
        forgives: bool = True,
    ) -> Iterator[None]:
        """
        Make the block one attempt of a user: it fails by raising ``MfaError``, which is told and passed on.

        Args:
            what: The call, for the audit trail.
            forgives: Whether success is a proof with a device of the user, after which earlier failures are forgotten.

        Raises:
            ThrottledError: The user has failed too often.
        """
        now_ms = self._now() // 1_000_000
        with self._store.write() as connection:
            count = rows.count_attempt(connection, user_arn, now_ms)
        if count is None:
            self._journal.refused(caller, factor, what, None, user_arn=user_arn, serial_number=serial_number)
            raise self._throttled(user_arn, now_ms)
        try:
            yield
        except MfaError as error:
            self._journal.refused(caller, factor, what, error, user_arn=user_arn, serial_number=serial_number)
            self._tell_if_locked(caller, user_arn, count)
            raise
        except LimitExceededError:
            # The proof held; it is something else that cannot be.
            self._succeeded(user_arn, forgives=False)
            raise
        except SidecarError:
            # It came to no proof, and still counts: a device that cannot be used would let the others be guessed.
            self._tell_if_locked(caller, user_arn, count)
            raise
        self._succeeded(user_arn, forgives=forgives)

    def unlock(self, caller: Caller, user_arn: str) -> int:
        """Forget the failures of a user, and return how many they were."""
        with self._store.write() as connection:
            failures = rows.clear(connection, user_arn)
        self._journal.changed(caller, Change.USER_UNLOCKED, user_arn=user_arn)
        return failures

    def _tell_if_locked(self, caller: Caller, user_arn: str, count: rows.Throttle) -> None:
        if count.is_locked:
            self._journal.changed(caller, Change.USER_LOCKED, user_arn=user_arn)

    def _succeeded(self, user_arn: str, *, forgives: bool) -> None:
        with self._store.write() as connection:
            if forgives:
                rows.clear(connection, user_arn)
            else:
                rows.take_back(connection, user_arn)

    def _throttled(self, user_arn: str, now_ms: int) -> ThrottledError:
        with self._store.read() as connection:
            throttle = rows.find(connection, user_arn)
        if throttle.is_locked:
            return ThrottledError(
                "too many proofs have failed, and the user is locked",
                help="an administrator unlocks with `iam-sidecar mfa unlock`",
            )
        seconds = max(1, -(-(throttle.retry_at_ms - now_ms) // 1000))
        return ThrottledError(f"too many proofs have failed; try again in {seconds} seconds")
