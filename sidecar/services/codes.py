# SPDX-License-Identifier: Apache-2.0
"""
Codes of a user's TOTP devices: found, and spent once.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from sidecar.mfa import totp
from sidecar.model.errors import CodeMismatchError, MfaError, SourceUnavailableError
from sidecar.services.refusals import DeviceUnknownError, StepSpentError
from sidecar.services.seeds import SeedSealer
from sidecar.services.store import devices as rows
from sidecar.services.store.devices import TotpDevice
from sidecar.services.store.engine import Store


class CodeMatch(NamedTuple):
    """
    A code that a device yields, not spent yet.

    Attributes:
        step: Its time step.
        drift_steps: Steps by which the device's clock is ahead of ours.
        now_ms: When that was found.
    """

    serial_number: str
    step: int
    drift_steps: int
    now_ms: int


class TotpCodes:
    """
    Looks for the device that yields a code.

    Throttling is for the caller: each call is one guess.

    Thread-safety: that of the store.
    """

    def __init__(self, *, store: Store, sealer: SeedSealer) -> None:
        self._store = store
        self._sealer = sealer

    def match(self, user_arn: str, code: str, *, now_ms: int, serial_number: str = "") -> CodeMatch:
        """
        Return what *code* is of; every device is looked at, whichever it is.

        Args:
            serial_number: The device that has to yield it; empty for any of the user.

        Raises:
            MfaError: None yields it.
            SourceUnavailableError: None yields it, and one cannot be used.
        """
        with self._store.read() as connection:
            found = rows.list_totp(connection, user_arn)
        if serial_number:
            found = [device for device in found if device.device.serial_number == serial_number]
            if not found:
                raise DeviceUnknownError("the user has no such device that shows codes")
        device, step = self._find_step(found, code, now_ms)
        drift_steps = totp.follow_drift(step=step, now=now_ms / 1000, drift_steps=device.drift_steps)
        return CodeMatch(device.device.serial_number, step, drift_steps, now_ms)

    def spend(self, connection: Connection, match: CodeMatch) -> None:
        """
        Spend the code's time step and all before it, inside the transaction of what it proves.

        Raises:
            MfaError: Somebody else has spent it.
        """
        is_spent = rows.spend_step(
            connection, match.serial_number, step=match.step, drift_steps=match.drift_steps, now_ms=match.now_ms
        )
        if not is_spent:
            raise StepSpentError("the code was spent a moment ago, or the device is gone")

    def _find_step(self, found: list[TotpDevice], code: str, now_ms: int) -> tuple[TotpDevice, int]:
        error: MfaError = CodeMismatchError("no device yields the code")
        steps: list[tuple[TotpDevice, int]] = []
        unusable: SourceUnavailableError | None = None
        for device in found:
            try:
                seed = self._sealer.open(
                    device.seed, serial_number=device.device.serial_number, user_arn=device.device.user_arn
                )
                step = totp.verify_code(
                    secret=seed,
                    code=code,
                    now=now_ms / 1000,
                    last_used_step=device.last_used_step,
                    drift_steps=device.drift_steps,
                    algorithm=device.algorithm,
                    min_secret_bytes=totp.MIN_IMPORTED_SECRET_BYTES,
                )
                steps.append((device, step))
            except CodeMismatchError:
                continue
            except MfaError as other:
                error = other
            except SourceUnavailableError as fault:
                # Another device of the user may yield the code.
                unusable = fault
        if not steps:
            raise unusable or error
        return steps[0]
