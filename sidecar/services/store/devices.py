# SPDX-License-Identifier: Apache-2.0
"""
Devices, with the seeds and public keys that belong to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError

from sidecar.services.seeds import SealedSeed
from sidecar.services.store.schema import MAX_DEVICES, credentials, devices, recovery_sets, totp_secrets, user_handles


class Device(NamedTuple):
    """
    A device of a user.

    Attributes:
        kind: ``totp``, ``webauthn`` or ``u2f``.
        session: Session that began its enrolment.
        expires_at_ms: When the enrolment ends unfinished; None once it is finished.
        enabled_at_ms: None while the enrolment is unfinished.
        suspect_since_ms: Since when its counter shows that there may be a copy of it.
    """

    serial_number: str
    user_arn: str
    kind: str
    name: str
    session: str
    expires_at_ms: int | None
    enabled_at_ms: int | None
    last_used_at_ms: int | None
    suspect_since_ms: int | None


class TotpDevice(NamedTuple):
    """
    A TOTP device with its sealed seed.

    Attributes:
        last_used_step: Highest time step spent so far.
        drift_steps: Steps by which its clock is ahead of ours.
        algorithm: ``sha1``, ``sha256`` or ``sha512``.
    """

    device: Device
    seed: SealedSeed
    last_used_step: int | None
    drift_steps: int
    algorithm: str


class KeyDevice(NamedTuple):
    """
    A security key.

    Attributes:
        record: The credential as JSON, but for its counter.
        sign_count: Highest count seen so far.
    """

    device: Device
    credential_id: bytes
    record: str
    sign_count: int


_DEVICE = (
    devices.c.serial_number,
    devices.c.user_arn,
    devices.c.kind,
    devices.c.name,
    devices.c.session,
    devices.c.expires_at_ms,
    devices.c.enabled_at_ms,
    devices.c.last_used_at_ms,
    devices.c.suspect_since_ms,
)
_WIDTH = len(_DEVICE)
_TOTP = select(
    *_DEVICE,
    totp_secrets.c.key_id,
    totp_secrets.c.sealed,
    totp_secrets.c.last_used_step,
    totp_secrets.c.drift_steps,
    totp_secrets.c.algorithm,
).join(totp_secrets, totp_secrets.c.serial_number == devices.c.serial_number)
_KEYS = select(*_DEVICE, credentials.c.credential_id, credentials.c.record, credentials.c.sign_count).join(
    credentials, credentials.c.serial_number == devices.c.serial_number
)
#: Values that one query compares with; databases have a limit.
_MAX_IN = 500
_IS_ENABLED = devices.c.enabled_at_ms.is_not(None)


def list_enabled(connection: Connection, user_arn: str) -> list[Device]:
    """Return the devices of a user, in the order in which they were enabled."""
    query = (
        select(*_DEVICE)
        .where(devices.c.user_arn == user_arn, _IS_ENABLED)
        .order_by(devices.c.enabled_at_ms, devices.c.serial_number)
    )
    return [Device(*row) for row in connection.execute(query)]


def lock_enabled(connection: Connection, user_arn: str) -> int:
    """
    Keep others from deleting devices of a user until the transaction ends, and return how many there are.

    SQLite has one writer at a time anyway.
    """
    # One order for everybody, so that none waits in a ring.
    query = select(devices.c.serial_number).where(devices.c.user_arn == user_arn, _IS_ENABLED)
    return len(connection.execute(query.order_by(devices.c.serial_number).with_for_update()).all())


def find(connection: Connection, serial_number: str) -> Device | None:
    """Return a device, enabled or not."""
    row = connection.execute(select(*_DEVICE).where(devices.c.serial_number == serial_number)).one_or_none()
    return None if row is None else Device(*row)


def find_totp(connection: Connection, serial_number: str) -> TotpDevice | None:
    """Return a TOTP device, enabled or not."""
    row = connection.execute(_TOTP.where(devices.c.serial_number == serial_number)).one_or_none()
    return None if row is None else _totp(row)


def list_totp(connection: Connection, user_arn: str) -> list[TotpDevice]:
    """Return the enabled TOTP devices of a user."""
    query = _TOTP.where(devices.c.user_arn == user_arn, _IS_ENABLED).order_by(devices.c.slot)
    return [_totp(row) for row in connection.execute(query)]


def list_keys(connection: Connection, user_arn: str) -> list[KeyDevice]:
    """Return the security keys of a user."""
    query = _KEYS.where(devices.c.user_arn == user_arn, _IS_ENABLED).order_by(devices.c.slot)
    return [KeyDevice(Device(*row[:_WIDTH]), *row[_WIDTH:]) for row in connection.execute(query)]


def begin_totp(
    connection: Connection,
    *,
    serial_number: str,
    user_arn: str,
    name: str,
    session: str,
    seed: SealedSeed,
    now_ms: int,
    expires_at_ms: int,
) -> bool:
    """Add a TOTP device that is not enabled yet, in place of an earlier try of the user; False if the name is taken."""
    connection.execute(
        delete(devices).where(
            devices.c.enabled_at_ms.is_(None),
            or_(
                devices.c.expires_at_ms <= now_ms,
                and_(devices.c.serial_number == serial_number, devices.c.user_arn == user_arn),
            ),
        )
    )
    try:
        with connection.begin_nested():
            connection.execute(
                insert(devices).values(
                    serial_number=serial_number,
                    user_arn=user_arn,
                    kind="totp",
                    name=name,
                    session=session,
                    created_at_ms=now_ms,
                    expires_at_ms=expires_at_ms,
                )
            )
    except IntegrityError:
        return False
    connection.execute(
        insert(totp_secrets).values(
            serial_number=serial_number,
            key_id=seed.key_id,
            sealed=seed.sealed,
            last_used_step=None,
            drift_steps=0,
            algorithm="sha1",
        )
    )
    return True


def count_pending(connection: Connection, user_arn: str, now_ms: int) -> int:
    """Return how many enrolments of TOTP devices a user has under way."""
    query = (
        select(func.count())
        .select_from(devices)
        .where(devices.c.user_arn == user_arn, devices.c.enabled_at_ms.is_(None), devices.c.expires_at_ms > now_ms)
    )
    return connection.execute(query).scalar_one()


def enable_totp(
    connection: Connection, serial_number: str, *, session: str, step: int, drift_steps: int, now_ms: int
) -> bool | None:
    """
    Enable a device and spend the step of its second code. Unless that is done, the caller rolls back.

    Returns:
        False where there is no such enrolment (any more); None where the user has as many devices as there may be.
    """
    pending = and_(
        devices.c.serial_number == serial_number,
        devices.c.session == session,
        devices.c.enabled_at_ms.is_(None),
        devices.c.expires_at_ms > now_ms,
    )
    user_arn = connection.execute(select(devices.c.user_arn).where(pending)).scalar_one_or_none()
    if user_arn is None:
        return False
    for slot in free_slots(connection, user_arn):
        values = {"slot": slot, "enabled_at_ms": now_ms, "expires_at_ms": None}
        try:
            with connection.begin_nested():
                enabled = connection.execute(update(devices).where(pending).values(values))
        except IntegrityError:
            # Somebody else has just taken the slot.
            continue
        return enabled.rowcount == 1 and _spend(connection, serial_number, step, drift_steps)
    return None


def add_key(
    connection: Connection,
    *,
    serial_number: str,
    user_arn: str,
    kind: str,
    name: str,
    session: str,
    credential_id: bytes,
    record: str,
    sign_count: int,
    now_ms: int,
) -> bool | None:
    """
    Add a security key.

    Returns:
        False where somebody has registered the credential; None where the user has as many devices as there may be.
    """
    known = select(credentials.c.serial_number).where(credentials.c.credential_id == credential_id)
    for slot in free_slots(connection, user_arn):
        if connection.execute(known).one_or_none() is not None:
            return False
        try:
            with connection.begin_nested():
                connection.execute(
                    insert(devices).values(
                        serial_number=serial_number,
                        user_arn=user_arn,
                        kind=kind,
                        name=name,
                        slot=slot,
                        session=session,
                        created_at_ms=now_ms,
                        enabled_at_ms=now_ms,
                    )
                )
                connection.execute(
                    insert(credentials).values(
                        serial_number=serial_number, credential_id=credential_id, record=record, sign_count=sign_count
                    )
                )
                return True
        except IntegrityError:
            # Either somebody else has taken the slot, or the credential has come in between: the next turn tells.
            continue
    return None if connection.execute(known).one_or_none() is None else False


def insert_enabled(
    connection: Connection,
    found: Sequence[Mapping[str, object]],
    *,
    secrets: Sequence[Mapping[str, object]],
    keys: Sequence[Mapping[str, object]],
) -> bool:
    """
    Add many devices that are enabled as they come, each in the slot that it names. Unless that is done, roll back.

    Args:
        secrets: Rows of the TOTP devices among them.
        keys: Rows of the security keys among them.

    Returns:
        False where one of them, or its slot, was taken in between.
    """
    try:
        with connection.begin_nested():
            for table, values in ((devices, found), (totp_secrets, secrets), (credentials, keys)):
                if values:
                    connection.execute(insert(table), list(values))
    except IntegrityError:
        return False
    return True


def find_serials(connection: Connection, serial_numbers: Sequence[str]) -> set[str]:
    """Return those of *serial_numbers* that devices have, enabled or not."""
    return set(_find_all(connection, devices.c.serial_number, serial_numbers))


def find_credential_ids(connection: Connection, credential_ids: Sequence[bytes]) -> set[bytes]:
    """Return those of *credential_ids* that devices have."""
    return {bytes(found) for found in _find_all(connection, credentials.c.credential_id, credential_ids)}


def _find_all(connection: Connection, column: Column[Any], values: Sequence[Any]) -> Iterator[Any]:
    for at in range(0, len(values), _MAX_IN):
        yield from connection.execute(select(column).where(column.in_(values[at : at + _MAX_IN]))).scalars()


def spend_step(connection: Connection, serial_number: str, *, step: int, drift_steps: int, now_ms: int) -> bool:
    """
    Spend a time step and all before it. Unless that is done, the caller rolls back.

    Returns:
        False if it was spent already, or the device is gone.
    """
    return touch(connection, serial_number, now_ms) and _spend(connection, serial_number, step, drift_steps)


def advance_sign_count(
    connection: Connection, serial_number: str, *, sign_count: int, record: str, now_ms: int
) -> bool:
    """
    Store a signature counter and what else an assertion has changed. Unless that is done, the caller rolls back.

    A counter that is always zero need not rise.

    Returns:
        False if the counter has not risen, or the device is gone.
    """
    if not touch(connection, serial_number, now_ms):
        return False
    advanced = connection.execute(
        update(credentials)
        .where(
            credentials.c.serial_number == serial_number,
            or_(
                credentials.c.sign_count < sign_count,
                and_(credentials.c.sign_count == 0, literal(sign_count) == 0),
            ),
        )
        .values(sign_count=sign_count, record=record)
    )
    return advanced.rowcount == 1


def touch(connection: Connection, serial_number: str, now_ms: int) -> bool:
    """Note that a device was used; False if it is gone."""
    # INVARIANT: whoever changes a device and what belongs to it begins with the device, so that none waits in a ring.
    touched = connection.execute(
        update(devices).where(devices.c.serial_number == serial_number, _IS_ENABLED).values(last_used_at_ms=now_ms)
    )
    return touched.rowcount == 1


def mark_suspect(connection: Connection, serial_number: str, now_ms: int) -> bool:
    """Mark a device as one that may have been copied; False if it was marked before, or is gone."""
    marked = connection.execute(
        update(devices)
        .where(devices.c.serial_number == serial_number, devices.c.suspect_since_ms.is_(None))
        .values(suspect_since_ms=now_ms)
    )
    return marked.rowcount == 1


def delete_device(connection: Connection, serial_number: str) -> Device | None:
    """Delete an enabled device, and with the last one of a user the recovery codes; return what it was."""
    owner = select(devices.c.user_arn).where(devices.c.serial_number == serial_number)
    # Of the last two that go at the same time, each would still see the other.
    lock_enabled(connection, connection.execute(owner).scalar_one_or_none() or "")
    row = connection.execute(
        delete(devices).where(devices.c.serial_number == serial_number, _IS_ENABLED).returning(*_DEVICE)
    ).one_or_none()
    if row is None:
        return None
    device = Device(*row)
    others = select(devices.c.serial_number).where(devices.c.user_arn == device.user_arn, _IS_ENABLED)
    connection.execute(delete(recovery_sets).where(recovery_sets.c.user_arn == device.user_arn, ~others.exists()))
    return device


def find_user_handle(connection: Connection, user_arn: str) -> bytes | None:
    """Return the name under which authenticators know a user."""
    query = select(user_handles.c.handle).where(user_handles.c.user_arn == user_arn)
    return connection.execute(query).scalar_one_or_none()


def ensure_user_handle(connection: Connection, user_arn: str, handle: bytes) -> bytes:
    """Return the name under which authenticators know a user: *handle*, unless there is one already."""
    try:
        with connection.begin_nested():
            connection.execute(insert(user_handles).values(user_arn=user_arn, handle=handle))
            return handle
    except IntegrityError:
        query = select(user_handles.c.handle).where(user_handles.c.user_arn == user_arn)
        return bytes(connection.execute(query).scalar_one())


def list_seeds_not_sealed_with(connection: Connection, key_id: str) -> list[TotpDevice]:
    """Return the TOTP devices, enabled or not, whose seed is sealed with another key; always in the same order."""
    query = _TOTP.where(totp_secrets.c.key_id != key_id).order_by(devices.c.serial_number)
    return [_totp(row) for row in connection.execute(query)]


def replace_seed(connection: Connection, serial_number: str, *, before: SealedSeed, after: SealedSeed) -> bool:
    """Put a seed in the place of what it was before; False if that has changed."""
    replaced = connection.execute(
        update(totp_secrets)
        .where(
            totp_secrets.c.serial_number == serial_number,
            totp_secrets.c.key_id == before.key_id,
            totp_secrets.c.sealed == before.sealed,
        )
        .values(key_id=after.key_id, sealed=after.sealed)
    )
    return replaced.rowcount == 1


def list_key_ids(connection: Connection) -> list[str]:
    """Return the names of the keys that seeds are sealed with."""
    return list(connection.execute(select(totp_secrets.c.key_id).distinct()).scalars())


def _spend(connection: Connection, serial_number: str, step: int, drift_steps: int) -> bool:
    spent = connection.execute(
        update(totp_secrets)
        .where(
            totp_secrets.c.serial_number == serial_number,
            or_(totp_secrets.c.last_used_step.is_(None), totp_secrets.c.last_used_step < step),
        )
        .values(last_used_step=step, drift_steps=drift_steps)
    )
    return spent.rowcount == 1


def free_slots(connection: Connection, user_arn: str) -> Sequence[int]:
    """Return the free slots of a user as they look now; whoever takes one may still come too late."""
    taken = set(connection.execute(select(devices.c.slot).where(devices.c.user_arn == user_arn, _IS_ENABLED)).scalars())
    return [slot for slot in range(1, MAX_DEVICES + 1) if slot not in taken]


def _totp(row: Sequence[Any]) -> TotpDevice:
    key_id, sealed, last_used_step, drift_steps, algorithm = row[_WIDTH:]
    return TotpDevice(Device(*row[:_WIDTH]), SealedSeed(key_id, sealed), last_used_step, drift_steps, algorithm)
