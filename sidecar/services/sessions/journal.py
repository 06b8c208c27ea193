# SPDX-License-Identifier: Apache-2.0
"""
What is told of every sign-in, session, revocation, password and key: an audit record and a counter each.

No password, code, token or secret comes here: the functions take none. A session is named by its access key id.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from sidecar.model.errors import MfaError
from sidecar.model.session import MfaProof, SessionClaims, SessionKind
from sidecar.services.audit import AuditTrail
from sidecar.services.callers import Caller
from sidecar.services.mfa_journal import THROTTLED, Change, Factor, MfaJournal


class SessionEvent(StrEnum):
    """What happened."""

    ISSUED = "issued"
    PROVED = "proved"
    SIGN_IN_REFUSED = "sign_in_refused"
    ASSUME_ROLE_REFUSED = "assume_role_refused"
    REVOKED = "revoked"
    PRINCIPAL_REVOKED = "principal_revoked"
    PASSWORD_SET = "password_set"  # noqa: S105 - the name of an event
    USER_LOCKED = "user_locked"
    USER_UNLOCKED = "user_unlocked"
    KEYS_ROTATED = "keys_rotated"


class SessionMetrics(Protocol):
    """Counts; may be called from any thread."""

    def record_event(self, event: SessionEvent) -> None:
        """Count one event."""
        ...

    def record_issued(self, kind: SessionKind) -> None:
        """Count one session."""
        ...

    def record_keys(self, *, is_good: bool) -> None:
        """Count one reading of the key file."""
        ...

    def record_revocations(self, count: int, seconds: float) -> None:
        """Say how many revocations are in force, and when they were read, in seconds since the epoch."""
        ...


class NullSessionMetrics:
    """
    Counts nothing.

    Thread-safety: immutable.
    """

    def record_event(self, event: SessionEvent) -> None:
        """Do nothing."""

    def record_issued(self, kind: SessionKind) -> None:
        """Do nothing."""

    def record_keys(self, *, is_good: bool) -> None:
        """Do nothing."""

    def record_revocations(self, count: int, seconds: float) -> None:
        """Do nothing."""


class PrometheusSessionMetrics:
    """
    Keeps the numbers in a Prometheus registry.

    Thread-safety: every collector locks itself.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "sidecar_session_events_total",
            "Sign-ins, sessions, revocations, and changes of passwords, locks and keys.",
            ("event",),
            registry=registry,
        )
        self._issued = Counter("sidecar_sessions_issued_total", "Sessions issued.", ("kind",), registry=registry)
        self._keys = Counter(
            "sidecar_session_key_reloads_total", "Readings of the session key file.", ("result",), registry=registry
        )
        self._revocations = Gauge(
            "sidecar_session_revocations", "Revocations of sessions and proofs that are in force.", registry=registry
        )
        self._revocations_read = Gauge(
            "sidecar_session_revocations_read_timestamp_seconds",
            "When the revocations were last known to be up to date, in seconds since the epoch.",
            registry=registry,
        )
        for event in SessionEvent:
            self._events.labels(event.value)
        for kind in SessionKind:
            self._issued.labels(kind.name.lower())
        for result in ("applied", "failed"):
            self._keys.labels(result)

    def record_event(self, event: SessionEvent) -> None:
        """Count one event."""
        self._events.labels(event.value).inc()

    def record_issued(self, kind: SessionKind) -> None:
        """Count one session."""
        self._issued.labels(kind.name.lower()).inc()

    def record_keys(self, *, is_good: bool) -> None:
        """Count one reading of the key file."""
        self._keys.labels("applied" if is_good else "failed").inc()

    def record_revocations(self, count: int, seconds: float) -> None:
        """Say how many revocations are in force, and when they were read."""
        self._revocations.set(count)
        self._revocations_read.set(seconds)


class SessionJournal:
    """
    Writes both.

    Thread-safety: that of the trail and of the counters.
    """

    def __init__(self, *, audit: AuditTrail, metrics: SessionMetrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def issued(self, caller: Caller, claims: SessionClaims) -> None:
        """Tell of a new session."""
        self._metrics.record_issued(claims.kind)
        self._told(
            SessionEvent.ISSUED,
            caller,
            kind=claims.kind.name.lower(),
            principal=claims.arn,
            access_key_id=claims.access_key_id,
            mfa_method="" if claims.mfa is None else claims.mfa.method.word,
            serial_number="" if claims.mfa is None else claims.mfa.serial_number,
            source_identity=claims.source_identity,
        )

    def proved(self, caller: Caller, claims: SessionClaims, proof: MfaProof) -> None:
        """Tell of a session that carries a new proof."""
        self._told(
            SessionEvent.PROVED,
            caller,
            principal=claims.arn,
            access_key_id=claims.access_key_id,
            mfa_method=proof.method.word,
            serial_number=proof.serial_number,
        )

    def refused(self, event: SessionEvent, caller: Caller, *, reason: str, principal: str = "") -> None:
        """Tell of a session that was not given."""
        self._told(event, caller, reason=reason, principal=principal)

    def changed(
        self, event: SessionEvent, caller: Caller, *, principal: str = "", access_key_id: str = "", note: str = ""
    ) -> None:
        """Tell of a change."""
        self._told(event, caller, principal=principal, access_key_id=access_key_id, note=note)

    def _told(self, event: SessionEvent, caller: Caller, **values: str) -> None:
        self._metrics.record_event(event)
        record: dict[str, object] = {"event": f"session.{event.value}", "caller": caller.name, "peer": caller.peer}
        if caller.claims is not None:
            record["caller_session"] = caller.session
        record.update({name: value for name, value in values.items() if value})
        self._audit.record(record)


class SignInJournal:
    """
    Tells of sign-ins that failed, where ``Throttles`` counts them.

    Thread-safety: that of the journals.
    """

    def __init__(self, sessions: SessionJournal, mfa: MfaJournal) -> None:
        self._sessions = sessions
        self._mfa = mfa

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
        """Tell of a sign-in that was refused."""
        reason = THROTTLED if error is None else error.reason
        self._sessions.refused(SessionEvent.SIGN_IN_REFUSED, caller, reason=reason, principal=user_arn)

    def changed(self, caller: Caller, change: Change, *, user_arn: str = "") -> None:
        """Tell of a user who has failed so often as to be locked."""
        self._mfa.changed(caller, change, user_arn=user_arn)
