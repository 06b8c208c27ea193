# SPDX-License-Identifier: Apache-2.0
"""
Replacing the key that seeds are sealed with, while sidecars run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.model.errors import SettingsError
from sidecar.services.callers import Caller
from sidecar.services.mfa_journal import Change, MfaJournal
from sidecar.services.seeds import KeyFile, KeySource, SeedSealer
from sidecar.services.store import devices as rows
from sidecar.services.store.devices import TotpDevice
from sidecar.services.store.engine import Store

#: Seeds that are sealed in one transaction.
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Rotation:
    """
    What a rotation did.

    Attributes:
        key_id: Name of the key that seals now.
        sealed_anew: Seeds that were sealed with it.
        dropped: Names of the keys that are gone.
    """

    key_id: str
    sealed_anew: int
    dropped: tuple[str, ...]


class KeyRotation:
    """
    Rotates keys.

    However it is interrupted, each seed is sealed with a key that is still there, and running it again finishes it.

    Thread-safety: that of the store.
    """

    def __init__(self, *, store: Store, keys: KeySource, sealer: SeedSealer, journal: MfaJournal) -> None:
        self._store = store
        self._keys = keys
        self._sealer = sealer
        self._journal = journal

    def find_missing_keys(self) -> list[str]:
        """
        Return the names of keys that seeds are sealed with and that are not there.

        Raises:
            SettingsError: The keys cannot be read.
        """
        with self._store.read() as connection:
            used = rows.list_key_ids(connection)
        return sorted(set(used) - set(self._keys.read().keys)) if used else []

    def rotate(self, caller: Caller, *, drop_old: bool = False) -> Rotation:
        """
        Put a new key into the key file, where there is one, and seal every seed with the key that comes first.

        Args:
            drop_old: Drop the keys that no seed needs any more.

        Raises:
            SettingsError: The keys cannot be read or written, or are to be dropped and come from a command.
            SourceUnavailableError: A seed needs a key that is not there.
        """
        if isinstance(self._keys, KeyFile):
            self._keys.add_key()
        elif drop_old:
            raise SettingsError(
                "keys that a command prints are dropped where it finds them", help="leave out --drop-old"
            )
        key_id = self._sealer.current_key_id()
        count = 0
        with self._store.read() as connection:
            devices = rows.list_seeds_not_sealed_with(connection, key_id)
        for at in range(0, len(devices), _BATCH):
            batch = devices[at : at + _BATCH]
            # Once for all of them, and before anybody has to wait: a command that asks a vault takes its time.
            sealed = self._sealer.seal_all([(self._open(one), *_names(one)) for one in batch])
            with self._store.write() as connection:
                for one in batch:
                    serial_number = one.device.serial_number
                    after = sealed[serial_number]
                    count += rows.replace_seed(connection, serial_number, before=one.seed, after=after)
        dropped: tuple[str, ...] = ()
        if drop_old and isinstance(self._keys, KeyFile):
            # A writing transaction, so that no seed is being stored meanwhile that was sealed with one of them.
            with self._store.write() as connection:
                dropped = self._keys.keep_keys(rows.list_key_ids(connection))
        self._journal.changed(caller, Change.KEYS_ROTATED, note=f"key {key_id}, {count} seeds")
        return Rotation(key_id, count, dropped)

    def _open(self, found: TotpDevice) -> bytes:
        serial_number, user_arn = _names(found)
        return self._sealer.open(found.seed, serial_number=serial_number, user_arn=user_arn)


def _names(found: TotpDevice) -> tuple[str, str]:
    """Return what a seed is bound to."""
    return found.device.serial_number, found.device.user_arn
