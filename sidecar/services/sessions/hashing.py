# SPDX-License-Identifier: Apache-2.0
"""
Hashes of passwords: argon2id, a few at a time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from sidecar.model.errors import LimitExceededError

#: SPEC: OWASP Password Storage Cheat Sheet: argon2id with 19 MiB; one pass more than it asks for.
MEMORY_KIB, PASSES, LANES = 19 * 1024, 3, 1
#: Hashes computed at a time, each of which takes its memory, and calls that may wait for their turn.
RUNNING, WAITING = 2, 10
#: Seconds to wait for a turn.
_PATIENCE = 10.0


class PasswordHasher:
    """
    Computes and compares hashes.

    Thread-safety: locked.
    """

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=passes, memory_cost=memory_kib, parallelism=LANES, type=argon2.Type.ID
        )
        self._admitted = threading.BoundedSemaphore(RUNNING + WAITING)
        self._turns = threading.BoundedSemaphore(RUNNING)
        #: A hash that belongs to nobody.
        self._nobodys = self._argon2.hash("")

    def hash(self, password: str) -> str:
        """
        Return a new hash of *password*.

        Raises:
            LimitExceededError: Too many are waiting.
        """
        with self._turn():
            return self._argon2.hash(_bytes(password))

    def verify(self, known: str | None, password: str) -> bool:
        """
        Say whether *known* is the hash of *password*; without one it takes as long to say no.

        Raises:
            LimitExceededError: Too many are waiting.
        """
        compared = known if known is not None else self._nobodys
        with self._turn():
            try:
                self._argon2.verify(compared, _bytes(password))
            except (VerificationError, InvalidHashError):
                return False
        return known is not None

    def is_outdated(self, known: str) -> bool:
        """Say whether the hash *known* was made with other parameters than those of today."""
        return self._argon2.check_needs_rehash(known)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        help = "try again in a moment"
        if not self._admitted.acquire(blocking=False):
            raise LimitExceededError("too many passwords are being looked at", help=help)
        try:
            if not self._turns.acquire(timeout=_PATIENCE):
                raise LimitExceededError("too many passwords are being looked at", help=help)
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._admitted.release()


def _bytes(password: str) -> bytes:
    # Not every text that somebody may send has a UTF-8.
    return password.encode("utf-8", "surrogatepass")
