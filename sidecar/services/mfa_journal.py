# SPDX-License-Identifier: Apache-2.0
"""
What is told of every enrolment, proof, failure, lock and change: an audit record and a counter each.

No secret, code or challenge comes here: the functions take none.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from sidecar.model.errors import MfaError
from sidecar.services.audit import AuditTrail
from sidecar.services.callers import Caller


class Factor(StrEnum):
    """What was to be proved with; ``NONE`` where it did not come to that."""

    TOTP = "totp"
    KEY = "key"
    RECOVERY = "recovery"
    PASSWORD = "password"  # noqa: S105 - the name of a factor
    NONE = "none"


class Change(StrEnum):
    """What was changed."""

    ENROLMENT_BEGUN = "enrolment_begun"
    DEVICE_ENABLED = "device_enabled"
    DEVICE_IMPORTED = "device_imported"
    DEVICE_RESYNCED = "device_resynced"
    DEVICE_DEACTIVATED = "device_deactivated"
    DEVICE_SUSPECTED = "device_suspected"
    RECOVERY_CODES_MADE = "recovery_codes_made"
    CHALLENGE_BEGUN = "challenge_begun"
    CHALLENGE_REFUSED = "challenge_refused"
    PROOF_COLLECTED = "proof_collected"
    TICKET_REFUSED = "ticket_refused"
    USER_LOCKED = "user_locked"
    USER_UNLOCKED = "user_unlocked"
    KEYS_ROTATED = "keys_rotated"
    METADATA_LOADED = "metadata_loaded"
    METADATA_REFUSED = "metadata_refused"


#: Results of a proof beside the reasons of ``MfaError`` and its subclasses.
ACCEPTED = "accepted"
THROTTLED = "throttled"


class MfaMetrics(Protocol):
    """Counts proofs and changes; may be called from any thread."""

    def record_verification(self, factor: Factor, result: str) -> None:
        """Count one proof; *result* is a word of a closed set."""
        ...

    def record_change(self, change: Change) -> None:
        """Count one change."""
        ...

    def record_audit_dropped(self) -> None:
        """Count one audit record that could not be written."""
        ...


class NullMfaMetrics:
    """
    Counts nothing.

    Thread-safety: immutable.
    """

    def record_verification(self, factor: Factor, result: str) -> None:
        """Do nothing."""

    def record_change(self, change: Change) -> None:
        """Do nothing."""

    def record_audit_dropped(self) -> None:
        """Do nothing."""


class PrometheusMfaMetrics:
    """
    Keeps the numbers in a Prometheus registry.

    Thread-safety: every collector locks itself.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._verifications = Counter(
            "sidecar_mfa_verifications_total", "Proofs of a second factor.", ("factor", "result"), registry=registry
        )
        self._changes = Counter(
            "sidecar_mfa_changes_total",
            "Changes of devices, challenges, locks, keys and metadata.",
            ("change",),
            registry=registry,
        )
        self._audit_dropped = Counter(
            "sidecar_mfa_audit_dropped_total", "Audit records that could not be written.", registry=registry
        )
        for change in Change:
            self._changes.labels(change.value)

    def record_verification(self, factor: Factor, result: str) -> None:
        """Count one proof."""
        self._verifications.labels(factor.value, result).inc()

    def record_change(self, change: Change) -> None:
        """Count one change."""
        self._changes.labels(change.value).inc()

    def record_audit_dropped(self) -> None:
        """Count one audit record that could not be written."""
        self._audit_dropped.inc()


class MfaJournal:
    """
    Writes both.

    Thread-safety: that of the trail and of the counters.
    """

    def __init__(self, *, audit: AuditTrail, metrics: MfaMetrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def accepted(self, caller: Caller, factor: Factor, what: str, *, user_arn: str, serial_number: str = "") -> None:
        """
        Tell of a proof that held.

        Args:
            what: The call that it was part of, such as ``confirm_totp``.
        """
        self._verified(caller, factor, what, ACCEPTED, user_arn, serial_number)

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
        """Tell of a proof that did not hold, or (without an *error*) came while the user had to wait."""
        self._verified(caller, factor, what, THROTTLED if error is None else error.reason, user_arn, serial_number)

    def changed(
        self,
        caller: Caller,
        change: Change,
        *,
        user_arn: str = "",
        serial_number: str = "",
        kind: str = "",
        note: str = "",
    ) -> None:
        """Tell of a change."""
        self._metrics.record_change(change)
        self._audit.record(
            _compact(
                event=f"mfa.{change.value}",
                caller=caller.name,
                peer=caller.peer,
                user_arn=user_arn,
                serial_number=serial_number,
                kind=kind,
                note=note,
            )
        )

    def _verified(
        self, caller: Caller, factor: Factor, what: str, result: str, user_arn: str, serial_number: str
    ) -> None:
        self._metrics.record_verification(factor, result)
        self._audit.record(
            _compact(
                event="mfa.proof_accepted" if result == ACCEPTED else "mfa.proof_refused",
                during=what,
                reason=result,
                factor=factor.value,
                caller=caller.name,
                peer=caller.peer,
                user_arn=user_arn,
                serial_number=serial_number,
            )
        )


def _compact(**values: str) -> dict[str, object]:
    return {name: value for name, value in values.items() if value}
