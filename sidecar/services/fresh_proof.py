# SPDX-License-Identifier: Apache-2.0
"""
Changing the devices of a user who has one takes a fresh proof with one of them.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.model.errors import FreshProofRequiredError
from sidecar.services.callers import Caller
from sidecar.services.store import challenges, devices
from sidecar.services.store.engine import Store

#: Greatest age of such a proof.
FRESH_MS = 5 * 60 * 1000


class FreshProof:
    """
    Asks for the proof.

    The administrator vouches for people instead: that is the way back in for somebody who has lost every device,
    and stands in the audit trail.

    Thread-safety: that of the store.
    """

    def __init__(self, *, store: Store, now: Callable[[], int]) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
        """
        self._store = store
        self._now = now

    def require(self, caller: Caller, user_arn: str) -> None:
        """
        Pass if the user has no device yet, or one of them was proved in the caller's session a moment ago.

        Raises:
            FreshProofRequiredError: It was not.
        """
        if caller.is_administrator:
            return
        since_ms = self._now() // 1_000_000 - FRESH_MS
        with self._store.read() as connection:
            if not devices.list_enabled(connection, user_arn):
                return
            if challenges.has_proof(connection, user_arn=user_arn, session=caller.session, since_ms=since_ms):
                return
        raise FreshProofRequiredError(
            "this takes a fresh proof with a device that the user has", help="answer a challenge first"
        )
