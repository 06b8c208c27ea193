# SPDX-License-Identifier: Apache-2.0
"""
Bringing along devices that another system enrolled: all that a document lists, or none.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_bytes

from sqlalchemy import Connection

from sidecar.compile.problems import Problems
from sidecar.mfa import totp
from sidecar.model.errors import AlreadyExistsError, DocumentRefusedError
from sidecar.services.callers import Caller
from sidecar.services.credential_record import credential_of, record_of
from sidecar.services.import_document import Imported, ImportedKey, ImportedTotp, parse_import_document
from sidecar.services.known_users import UNKNOWN_HELP, KnowsUser
from sidecar.services.mfa_journal import Change, MfaJournal
from sidecar.services.relying_party import HANDLE_BYTES
from sidecar.services.seeds import SealedSeed, SeedSealer
from sidecar.services.store import devices as rows
from sidecar.services.store.devices import Device
from sidecar.services.store.engine import Store
from sidecar.services.store.schema import MAX_DEVICES

_OTHER_SERIAL = "each device has one of its own; see those of a user with `iam-sidecar mfa list`"


class ImportService:
    """
    Imports devices.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        sealer: SeedSealer,
        journal: MfaJournal,
        knows_user: KnowsUser,
        now: Callable[[], int],
        new_bytes: Callable[[int], bytes] = token_bytes,
    ) -> None:
        """
        Args:
            knows_user: Says whether a user may be given a device at all.
            now: Gives nanoseconds since the epoch.
            new_bytes: Gives as many random bytes.
        """
        self._store = store
        self._sealer = sealer
        self._journal = journal
        self._knows_user = knows_user
        self._now = now
        self._new_bytes = new_bytes

    def check(self, data: bytes, *, where: str, allow_short_seeds: bool = False) -> int:
        """
        Return how many devices a document lists, if all of them could be imported as things stand.

        Args:
            where: What to call the document.

        Raises:
            DocumentRefusedError: They could not; it says all that is wrong.
        """
        problems = Problems()
        found = parse_import_document(data, where=where, problems=problems, allow_short_seeds=allow_short_seeds)
        with self._store.read() as connection:
            self._look_for_problems(connection, found, where, problems)
        refuse_problems(problems, where)
        return len(found)

    def import_devices(
        self, caller: Caller, data: bytes, *, where: str, allow_short_seeds: bool = False
    ) -> list[Device]:
        """
        Enable the devices that a document lists, all or none, and return them.

        What a TOTP device has shown up to now is spent: the other system may have accepted it.

        Args:
            where: What to call the document.
            allow_short_seeds: Let seeds of 80 to 127 bits stand.

        Raises:
            DocumentRefusedError: A device cannot be imported; it says all that is wrong.
            AlreadyExistsError: Somebody else has changed the devices at the same time.
        """
        problems = Problems()
        found = parse_import_document(data, where=where, problems=problems, allow_short_seeds=allow_short_seeds)
        now_ms = self._now() // 1_000_000
        with self._store.write() as connection:
            self._look_for_problems(connection, found, where, problems)
            refuse_problems(problems, where)
            devices = self._insert(connection, caller, found, now_ms)
            if devices is None:
                raise AlreadyExistsError(
                    "somebody else has changed the devices just now", help="nothing was imported: run this again"
                )
        for item, device in zip(found, devices, strict=True):
            self._journal.changed(
                caller,
                Change.DEVICE_IMPORTED,
                user_arn=device.user_arn,
                serial_number=device.serial_number,
                kind=device.kind,
                note="short seed" if isinstance(item, ImportedTotp) and item.has_short_seed else "",
            )
        return devices

    def _insert(
        self, connection: Connection, caller: Caller, found: Sequence[Imported], now_ms: int
    ) -> list[Device] | None:
        """Store all of *found*; None where somebody came in between."""
        tokens = [item for item in found if isinstance(item, ImportedTotp)]
        # Sealed in here, so that a rotation of the keys on the same file of SQLite comes before or after.
        seeds = self._sealer.seal_all([(item.secret, item.serial_number, item.user.arn) for item in tokens])
        devices: list[Device] = []
        secrets: list[dict[str, object]] = []
        keys: list[dict[str, object]] = []
        for item in found:
            is_totp = isinstance(item, ImportedTotp)
            device = Device(
                serial_number=item.serial_number or self._new_serial(item),
                user_arn=item.user.arn,
                kind="totp" if is_totp else "u2f",
                name=item.name,
                session=caller.session,
                expires_at_ms=None,
                enabled_at_ms=now_ms,
                last_used_at_ms=None,
                suspect_since_ms=None,
            )
            devices.append(device)
            if isinstance(item, ImportedTotp):
                secrets.append(_secret_row(item, seeds[item.serial_number], now_ms))
            else:
                keys.append(self._key_row(connection, item, device.serial_number))
        # One that is too many now, for all that was looked at before, has no slot, and the database refuses it.
        slots = {arn: iter(rows.free_slots(connection, arn)) for arn in {device.user_arn for device in devices}}
        values = [
            {**one._asdict(), "created_at_ms": now_ms, "slot": next(slots[one.user_arn], None)} for one in devices
        ]
        return devices if rows.insert_enabled(connection, values, secrets=secrets, keys=keys) else None

    def _key_row(self, connection: Connection, item: ImportedKey, serial_number: str) -> dict[str, object]:
        handle = rows.ensure_user_handle(connection, item.user.arn, self._new_bytes(HANDLE_BYTES))
        credential = replace(item.credential, user_handle=handle)
        return {
            "serial_number": serial_number,
            "credential_id": credential.credential_id,
            "record": record_of(credential),
            "sign_count": credential.sign_count,
        }

    def _new_serial(self, item: Imported) -> str:
        return item.user.key_serial(item.name, base64.b32encode(self._new_bytes(10)).decode("ascii"))

    def _look_for_problems(
        self, connection: Connection, found: Sequence[Imported], where: str, problems: Problems
    ) -> None:
        """Tell of what cannot be stored beside what the store has."""
        serials = rows.find_serials(connection, [item.serial_number for item in found])
        keys = [item.credential.credential_id for item in found if isinstance(item, ImportedKey)]
        credential_ids = rows.find_credential_ids(connection, keys)
        owners: dict[str, _Owner] = {}
        for item in found:
            owner = owners.get(item.user.arn)
            if owner is None:
                owner = owners[item.user.arn] = self._find_owner(connection, item.user.arn)
                if not self._knows_user(item.user.arn):
                    problems.error(where, f"{item.place}.user_arn", "the snapshot has no such user", UNKNOWN_HELP)
            owner.count += 1
            if owner.count > MAX_DEVICES:
                problems.error(
                    where,
                    item.place,
                    f"the user would have {owner.count} devices, and there may be {MAX_DEVICES}",
                    "leave it out, or deactivate one first",
                )
            if item.serial_number in serials:
                problems.error(
                    where,
                    f"{item.place}.serial_number",
                    "a device of this serial number is here already",
                    _OTHER_SERIAL,
                )
            if isinstance(item, ImportedTotp):
                # Its code would be good for both.
                for serial_number, seed in owner.seeds:
                    if hmac.compare_digest(seed, item.secret):
                        message = f"the user has the device already, as `{serial_number}`"
                        problems.error(where, f"{item.place}.secret", message, "leave it out")
                continue
            if item.credential.credential_id in credential_ids:
                problems.error(where, f"{item.place}.key_handle", "the key is enrolled already", "leave it out")
            # SPEC: WebAuthn Level 3, section 10.1.1: a browser is told of one AppID for all keys.
            owner.app_id = owner.app_id or item.app_id
            if owner.app_id != item.app_id:
                problems.error(
                    where,
                    f"{item.place}.app_id",
                    "another key of the user has another AppID, and a browser can be told of one",
                    "leave one of the two keys out",
                )

    def _find_owner(self, connection: Connection, user_arn: str) -> _Owner:
        owner = _Owner(count=len(rows.list_enabled(connection, user_arn)))
        for key in rows.list_keys(connection, user_arn) if owner.count else ():
            credential = credential_of(key.record, credential_id=key.credential_id, sign_count=key.sign_count)
            owner.app_id = owner.app_id or credential.app_id
        for device in rows.list_totp(connection, user_arn) if owner.count else ():
            serial_number = device.device.serial_number
            seed = self._sealer.open(device.seed, serial_number=serial_number, user_arn=user_arn)
            owner.seeds.append((serial_number, seed))
        return owner


@dataclass(slots=True)
class _Owner:
    """
    What a user has, and is to have.

    Thread-safety: confined.
    """

    count: int
    app_id: str | None = None
    seeds: list[tuple[str, bytes]] = field(default_factory=list, repr=False)


def _secret_row(item: ImportedTotp, seed: SealedSeed, now_ms: int) -> dict[str, object]:
    return {
        "serial_number": item.serial_number,
        "key_id": seed.key_id,
        "sealed": seed.sealed,
        # Whatever the device has shown up to now, by its own clock.
        "last_used_step": totp.time_step(now_ms / 1000) + item.drift_steps,
        "drift_steps": item.drift_steps,
        "algorithm": item.algorithm,
    }


def refuse_problems(problems: Problems, where: str) -> None:
    """
    Pass if there are none.

    Raises:
        DocumentRefusedError: There are some.
    """
    if problems.has_errors:
        count = problems.error_count
        raise DocumentRefusedError(
            f"`{where}` cannot be imported: {count} problem{'s' if count != 1 else ''}",
            problems=problems.items,
            help="mend them all, and run this again; nothing was imported",
        )
