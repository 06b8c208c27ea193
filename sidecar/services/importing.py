# SPDX-License-Identifier: Apache-2.0
"""
Bringing along devices that another system enrolled: all that a document lists, or none.
"""

from __future__ import annotations

import base64
import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from sidecar.services.seeds import SeedSealer
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
        devices: list[Device] = []
        with self._store.write() as connection:
            self._look_for_problems(connection, found, where, problems)
            refuse_problems(problems, where)
            # Sealed in here, so that a rotation of the keys on the same file of SQLite comes before or after.
            seeds = self._sealer.seal_all(
                [(item.secret, item.serial_number, item.user.arn) for item in found if isinstance(item, ImportedTotp)]
            )
            for item in found:
                serial_number = item.serial_number
                if isinstance(item, ImportedTotp):
                    step = totp.time_step(now_ms / 1000) + item.drift_steps
                    is_added = rows.add_totp(
                        connection,
                        serial_number=serial_number,
                        user_arn=item.user.arn,
                        name=item.name,
                        session=caller.session,
                        seed=seeds[serial_number],
                        algorithm=item.algorithm,
                        last_used_step=step,
                        drift_steps=item.drift_steps,
                        now_ms=now_ms,
                    )
                else:
                    serial_number = serial_number or self._new_serial(item)
                    is_added = self._add_key(connection, caller, item, serial_number, now_ms)
                device = rows.find(connection, serial_number) if is_added else None
                if device is None:
                    raise AlreadyExistsError(
                        f"{where}: `{item.place}`: somebody else has changed the devices of the user just now",
                        help="nothing was imported: run this again",
                    )
                devices.append(device)
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

    def _add_key(
        self, connection: Connection, caller: Caller, item: ImportedKey, serial_number: str, now_ms: int
    ) -> bool | None:
        handle = rows.ensure_user_handle(connection, item.user.arn, self._new_bytes(HANDLE_BYTES))
        credential = replace(item.credential, user_handle=handle)
        return rows.add_key(
            connection,
            serial_number=serial_number,
            user_arn=item.user.arn,
            kind="u2f",
            name=item.name,
            session=caller.session,
            credential_id=credential.credential_id,
            record=record_of(credential),
            sign_count=credential.sign_count,
            now_ms=now_ms,
        )

    def _new_serial(self, item: ImportedKey) -> str:
        return item.user.key_serial(item.name, base64.b32encode(self._new_bytes(10)).decode("ascii"))

    def _look_for_problems(
        self, connection: Connection, found: Sequence[Imported], where: str, problems: Problems
    ) -> None:
        """Tell of what cannot be stored beside what the store has."""
        counts: Counter[str] = Counter()
        app_ids: dict[str, str] = {}
        for item in found:
            user_arn = item.user.arn
            if user_arn not in counts:
                if not self._knows_user(user_arn):
                    problems.error(where, f"{item.place}.user_arn", "the snapshot has no such user", UNKNOWN_HELP)
                counts[user_arn] = len(rows.list_enabled(connection, user_arn))
                for key in rows.list_keys(connection, user_arn):
                    if app_id := _app_id_of(key):
                        app_ids[user_arn] = app_id
            counts[user_arn] += 1
            if counts[user_arn] > MAX_DEVICES:
                problems.error(
                    where,
                    item.place,
                    f"the user would have {counts[user_arn]} devices, and there may be {MAX_DEVICES}",
                    "leave it out, or deactivate one first",
                )
            if item.serial_number and rows.find(connection, item.serial_number) is not None:
                problems.error(
                    where,
                    f"{item.place}.serial_number",
                    "a device of this serial number is here already",
                    _OTHER_SERIAL,
                )
            if isinstance(item, ImportedTotp):
                self._refuse_known_seed(connection, item, where, problems)
                continue
            if rows.find_credential_owner(connection, item.credential.credential_id) is not None:
                problems.error(where, f"{item.place}.key_handle", "the key is enrolled already", "leave it out")
            # SPEC: WebAuthn Level 3, section 10.1.1: a browser is told of one AppID for all keys.
            if app_ids.setdefault(user_arn, item.app_id) != item.app_id:
                problems.error(
                    where,
                    f"{item.place}.app_id",
                    "another key of the user has another AppID, and a browser can be told of one",
                    "leave one of the two keys out",
                )

    def _refuse_known_seed(self, connection: Connection, item: ImportedTotp, where: str, problems: Problems) -> None:
        """Tell of a seed that the user has in another device: its code would be good for both."""
        for device in rows.list_totp(connection, item.user.arn):
            seed = self._sealer.open(
                device.seed, serial_number=device.device.serial_number, user_arn=device.device.user_arn
            )
            if hmac.compare_digest(seed, item.secret):
                problems.error(
                    where,
                    f"{item.place}.secret",
                    f"the user has the device already, as `{device.device.serial_number}`",
                    "leave it out",
                )


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


def _app_id_of(key: rows.KeyDevice) -> str | None:
    return credential_of(key.record, credential_id=key.credential_id, sign_count=key.sign_count).app_id
