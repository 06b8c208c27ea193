# SPDX-License-Identifier: Apache-2.0
"""
TOTP devices from enrolment to resynchronization, and the list of all devices of a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_bytes

from sidecar.mfa import totp
from sidecar.model.errors import AlreadyExistsError, LimitExceededError, NotFoundError, RequestError
from sidecar.services.callers import Caller, is_hardware_serial, parse_device_name, parse_serial, parse_user
from sidecar.services.fresh_proof import FreshProof
from sidecar.services.known_users import KnowsUser, require_known
from sidecar.services.mfa_journal import Change, Factor, MfaJournal
from sidecar.services.refusals import DeviceUnknownError
from sidecar.services.revocations import void_proofs
from sidecar.services.seeds import SeedSealer
from sidecar.services.store import devices as rows
from sidecar.services.store.devices import Device, TotpDevice
from sidecar.services.store.engine import Store
from sidecar.services.store.schema import MAX_DEVICES
from sidecar.services.throttles import Throttles

#: SPEC: RFC 4226, section 4, R6: a shared secret of 160 bits.
SEED_BYTES = 20
#: Time in which an enrolment has to be finished.
ENROLMENT_MS = 5 * 60 * 1000
#: Enrolments of TOTP devices that a user may have under way.
MAX_PENDING = 8


@dataclass(frozen=True, slots=True)
class TotpEnrolment:
    """
    What a person needs to set up a TOTP device; shown once.

    Attributes:
        secret_base32: The seed, to be typed.
        otpauth_uri: The seed, to be scanned.
    """

    serial_number: str
    secret_base32: str
    otpauth_uri: str


class DeviceService:
    """
    Enrols, lists and deactivates.

    Thread-safety: that of the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        sealer: SeedSealer,
        throttles: Throttles,
        fresh_proof: FreshProof,
        journal: MfaJournal,
        knows_user: KnowsUser,
        now: Callable[[], int],
        issuer: str,
        new_bytes: Callable[[int], bytes] = token_bytes,
    ) -> None:
        """
        Args:
            knows_user: Says whether a user may be given a device at all.
            now: Gives nanoseconds since the epoch.
            issuer: What authenticator apps call us.
            new_bytes: Gives as many random bytes.
        """
        self._store = store
        self._sealer = sealer
        self._throttles = throttles
        self._fresh_proof = fresh_proof
        self._journal = journal
        self._knows_user = knows_user
        self._now = now
        self._issuer = issuer
        self._new_bytes = new_bytes

    def list_devices(self, user_arn: str) -> list[Device]:
        """
        Return the enabled devices of a user; none for one who is not known.

        Raises:
            RequestError: That is no user.
        """
        parse_user(user_arn)
        with self._store.read() as connection:
            return rows.list_enabled(connection, user_arn)

    def find_owner(self, serial_number: str) -> str:
        """
        Return whose device that is, enabled or not; empty where there is none.

        Raises:
            RequestError: No device has a serial number like that.
        """
        with self._store.read() as connection:
            device = rows.find(connection, parse_serial(serial_number))
        return "" if device is None else device.user_arn

    def begin_totp(self, caller: Caller, user_arn: str, device_name: str) -> TotpEnrolment:
        """
        Begin to enrol a TOTP device and return its seed, which is shown this once.

        Raises:
            RequestError: That is no user, or no name of a device.
            NotFoundError: The policies do not know the user.
            PermissionDeniedError: The user has a device, and the caller has not just proved one.
            AlreadyExistsError: The account has a device of that name.
            LimitExceededError: The user has as many devices as there may be.
        """
        user, name = parse_user(user_arn), parse_device_name(device_name)
        require_known(self._knows_user, user_arn)
        self._fresh_proof.require(caller, user_arn)
        serial_number, seed = user.totp_serial(name), self._new_bytes(SEED_BYTES)
        sealed = self._sealer.seal(seed, serial_number=serial_number, user_arn=user_arn)
        now_ms = self._now_ms()
        with self._store.write() as connection:
            self._refuse_too_many(len(rows.list_enabled(connection, user_arn)), MAX_DEVICES)
            self._refuse_too_many(rows.count_pending(connection, user_arn, now_ms), MAX_PENDING)
            is_new = rows.begin_totp(
                connection,
                serial_number=serial_number,
                user_arn=user_arn,
                name=name,
                session=caller.session,
                seed=sealed,
                now_ms=now_ms,
                expires_at_ms=now_ms + ENROLMENT_MS,
            )
        if not is_new:
            raise AlreadyExistsError(f"device `{serial_number}` exists already", help="choose another name")
        self._journal.changed(
            caller, Change.ENROLMENT_BEGUN, user_arn=user_arn, serial_number=serial_number, kind="totp"
        )
        uri = totp.provisioning_uri(secret=seed, account=f"{user.name}@{user.account}", issuer=self._issuer)
        return TotpEnrolment(serial_number, totp.secret_text(seed), uri)

    def confirm_totp(self, caller: Caller, serial_number: str, code1: str, code2: str) -> Device:
        """
        Enable a TOTP device by two consecutive codes, which are spent, and return it.

        Raises:
            RequestError: That is no serial number, or those are no codes.
            MfaError: The codes are not those, or there is no such enrolment (any more).
            PermissionDeniedError: The user has a device, and the caller has not just proved one.
            ThrottledError: Too many proofs of the user have failed.
            LimitExceededError: The user has as many devices as there may be.
        """
        what = "confirm_totp"
        parse_codes(code1, code2)
        device = self._find_totp(caller, serial_number, what)
        # Asked again: the user may have enabled another device since this enrolment began.
        self._fresh_proof.require(caller, device.device.user_arn)
        with self._attempt(caller, device, what, forgives=False):
            now_ms = self._now_ms()
            found = self._verify_pair(device, code1, code2, totp.ENABLE_WINDOW_STEPS, now_ms)
            with self._store.write() as connection:
                is_enabled = rows.enable_totp(
                    connection,
                    serial_number,
                    session=caller.session,
                    step=found.step,
                    drift_steps=found.drift_steps,
                    now_ms=now_ms,
                )
                if is_enabled is False:
                    raise DeviceUnknownError("there is no such enrolment")
                if is_enabled is None:
                    self._refuse_too_many(MAX_DEVICES, MAX_DEVICES)
                enabled = rows.find(connection, serial_number)
        return self._told(caller, Change.DEVICE_ENABLED, what, enabled)

    def resync_totp(self, caller: Caller, serial_number: str, code1: str, code2: str) -> Device:
        """
        Learn how far the clock of a TOTP device is off from two consecutive codes, which are spent.

        Raises:
            RequestError: That is no serial number, or those are no codes.
            MfaError: The codes are not those, or there is no such device.
            ThrottledError: Too many proofs of the user have failed.
        """
        what = "resync_totp"
        parse_codes(code1, code2)
        device = self._find_totp(caller, serial_number, what)
        with self._attempt(caller, device, what, forgives=True):
            if device.device.enabled_at_ms is None:
                raise DeviceUnknownError("the device is not enabled")
            now_ms = self._now_ms()
            window_steps = (
                totp.HARDWARE_RESYNC_WINDOW_STEPS if is_hardware_serial(serial_number) else totp.RESYNC_WINDOW_STEPS
            )
            found = self._verify_pair(device, code1, code2, window_steps, now_ms)
            with self._store.write() as connection:
                if not rows.spend_step(
                    connection, serial_number, step=found.step, drift_steps=found.drift_steps, now_ms=now_ms
                ):
                    raise DeviceUnknownError("the codes were spent, or the device is gone")
                resynced = rows.find(connection, serial_number)
        return self._told(caller, Change.DEVICE_RESYNCED, what, resynced)

    def deactivate(self, caller: Caller, serial_number: str) -> Device:
        """
        Delete a device of any kind, and with the last one of a user the recovery codes; return what it was.

        What sessions have proved with it counts no more.

        Raises:
            RequestError: That is no serial number.
            PermissionDeniedError: The caller has not just proved a device of the user.
            NotFoundError: There is no such device.
        """
        owner = self.find_owner(serial_number)
        if owner:
            self._fresh_proof.require(caller, owner)
        with self._store.write() as connection:
            device = rows.delete_device(connection, serial_number)
            if device is not None:
                void_proofs(connection, serial_number, self._now_ms())
        if device is None:
            raise NotFoundError(
                f"there is no device `{serial_number}`", help="see those of a user with `iam-sidecar mfa list`"
            )
        self._journal.changed(
            caller,
            Change.DEVICE_DEACTIVATED,
            user_arn=device.user_arn,
            serial_number=serial_number,
            kind=device.kind,
        )
        return device

    def _find_totp(self, caller: Caller, serial_number: str, what: str) -> TotpDevice:
        with self._store.read() as connection:
            device = rows.find_totp(connection, parse_serial(serial_number))
        if device is None:
            error = DeviceUnknownError("there is no such device")
            self._journal.refused(caller, Factor.TOTP, what, error, serial_number=serial_number)
            raise error
        return device

    @contextmanager
    def _attempt(self, caller: Caller, device: TotpDevice, what: str, *, forgives: bool) -> Iterator[None]:
        user_arn, serial_number = device.device.user_arn, device.device.serial_number
        with self._throttles.attempt(
            caller, user_arn, Factor.TOTP, what, serial_number=serial_number, forgives=forgives
        ):
            yield

    def _verify_pair(self, device: TotpDevice, code1: str, code2: str, window_steps: int, now_ms: int) -> totp.Resync:
        """Return where the device stands."""
        seed = self._sealer.open(
            device.seed, serial_number=device.device.serial_number, user_arn=device.device.user_arn
        )
        return totp.resync(
            secret=seed,
            code1=code1,
            code2=code2,
            now=now_ms / 1000,
            last_used_step=device.last_used_step,
            window_steps=window_steps,
            algorithm=device.algorithm,
            min_secret_bytes=totp.MIN_IMPORTED_SECRET_BYTES,
        )

    def _told(self, caller: Caller, change: Change, what: str, device: Device | None) -> Device:
        if device is None:
            raise DeviceUnknownError("the device is gone")
        user_arn, serial_number = device.user_arn, device.serial_number
        self._journal.accepted(caller, Factor.TOTP, what, user_arn=user_arn, serial_number=serial_number)
        self._journal.changed(caller, change, user_arn=user_arn, serial_number=serial_number, kind=device.kind)
        return device

    def _now_ms(self) -> int:
        return self._now() // 1_000_000

    def _refuse_too_many(self, count: int, limit: int) -> None:
        if count >= limit:
            raise LimitExceededError(
                f"the user has {count} devices, and there may be {limit}", help="deactivate one first"
            )


def parse_codes(*codes: str) -> None:
    """
    See that each of *codes* can be one.

    Raises:
        RequestError: One is not six ASCII digits.
    """
    for number, code in enumerate(codes, start=1):
        if len(code) != 6 or not (code.isascii() and code.isdigit()):
            field = f"code{number}"
            raise RequestError(f"`{field}` is not six digits", field=field, help="type it as the device shows it")
