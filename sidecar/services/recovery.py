# SPDX-License-Identifier: Apache-2.0
"""
Recovery codes: ten to print out, each of which stands in for a device once.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes

from sidecar.mfa.recovery import CODE_BYTES, CODES, SALT_BYTES, format_recovery_code, hash_recovery_code
from sidecar.model.errors import PreconditionError
from sidecar.services.callers import Caller, parse_user
from sidecar.services.fresh_proof import FreshProof
from sidecar.services.mfa_journal import Change, MfaJournal
from sidecar.services.store import devices as device_rows
from sidecar.services.store import recovery as rows
from sidecar.services.store.engine import Store


class RecoveryService:
    """
    Makes recovery codes.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        fresh_proof: FreshProof,
        journal: MfaJournal,
        now: Callable[[], int],
        new_bytes: Callable[[int], bytes] = token_bytes,
    ) -> None:
        """
        Args:
            now: Gives nanoseconds since the epoch.
            new_bytes: Gives as many random bytes.
        """
        self._store = store
        self._fresh_proof = fresh_proof
        self._journal = journal
        self._now = now
        self._new_bytes = new_bytes

    def generate(self, caller: Caller, user_arn: str) -> list[str]:
        """
        Return new recovery codes, which are shown this once; those from before are worth nothing any more.

        Raises:
            RequestError: That is no user.
            PermissionDeniedError: The caller has not just proved a device of the user.
            PreconditionError: The user has no device that codes could stand in for.
        """
        parse_user(user_arn)
        self._fresh_proof.require(caller, user_arn)
        codes = [format_recovery_code(self._new_bytes(CODE_BYTES)) for _ in range(CODES)]
        salt = self._new_bytes(SALT_BYTES)
        digests = [hash_recovery_code(code, salt=salt) for code in codes]
        with self._store.write() as connection:
            if not device_rows.lock_enabled(connection, user_arn):
                raise PreconditionError(
                    "the user has no device that recovery codes could stand in for", help="enrol a device first"
                )
            rows.replace_codes(connection, user_arn, salt=salt, digests=digests, now_ms=self._now() // 1_000_000)
        self._journal.changed(caller, Change.RECOVERY_CODES_MADE, user_arn=user_arn)
        return codes
