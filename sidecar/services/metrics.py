# SPDX-License-Identifier: Apache-2.0
"""
The numbers that an operator watches.

Every label value comes from a closed set: never a principal, an ARN or the text of an error.
"""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from sidecar import __version__
from sidecar.model.decision import Decision, Reason
from sidecar.model.reload import ReloadOutcome

#: Upper bounds in seconds, dense where a decision of the core is expected to be.
DECISION_BUCKETS = (
    1e-7,
    2e-7,
    3e-7,
    5e-7,
    7.5e-7,
    1e-6,
    1.5e-6,
    2e-6,
    3e-6,
    5e-6,
    1e-5,
    2e-5,
    5e-5,
    1e-4,
    5e-4,
    1e-3,
    1e-2,
)

#: Upper bounds in seconds for a reload: from a handful of documents to the largest organizations.
RELOAD_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)

_REASONS = {reason.word.encode(): reason.word for reason in Reason if reason is not Reason.UNSPECIFIED}
_DECISIONS = {decision.value: decision.name.lower() for decision in Decision}


class DecisionMetrics(Protocol):
    """Counts decisions; may be called from any thread."""

    def record_decision(self, decision: int, reason: bytes, nanoseconds: int) -> None:
        """
        Count one decision.

        Args:
            decision: Number of the decision on the wire.
            reason: Its reason word, as on the wire.
            nanoseconds: How long the core took.
        """
        ...


class SnapshotMetrics(Protocol):
    """Tells how reloads go and what is in place; may be called from any thread."""

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        """Count one attempt to put a snapshot in place."""
        ...

    def record_snapshot(
        self, *, loaded_at: float, principals: int, policies: int, statements: int, image_bytes: int
    ) -> None:
        """Describe the snapshot that is in place now; *loaded_at* is in seconds since the epoch."""
        ...


class RpcMetrics(Protocol):
    """Counts calls of the management listener; may be called from any thread."""

    def record_rpc(self, method: str, code: str) -> None:
        """Count one call of *method*, which ended with the gRPC status *code*."""
        ...

    def record_fault_denials(self, count: int) -> None:
        """Count denials that were given because a fault of our own kept the core from deciding."""
        ...


class NullMetrics:
    """
    Counts nothing.

    Thread-safety: immutable.
    """

    def record_decision(self, decision: int, reason: bytes, nanoseconds: int) -> None:
        """Do nothing."""

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        """Do nothing."""

    def record_snapshot(
        self, *, loaded_at: float, principals: int, policies: int, statements: int, image_bytes: int
    ) -> None:
        """Do nothing."""

    def record_rpc(self, method: str, code: str) -> None:
        """Do nothing."""

    def record_fault_denials(self, count: int) -> None:
        """Do nothing."""


class PrometheusMetrics:
    """
    Keeps the numbers in a Prometheus registry of its own.

    Thread-safety: every collector locks itself.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        build = Info("sidecar_build", "Version of the sidecar.", registry=registry)
        build.info({"version": __version__})
        self._decisions = Counter(
            "sidecar_decisions_total",
            "Decisions given by Authorize and BatchAuthorize.",
            ("decision", "reason"),
            registry=registry,
        )
        self._decision_seconds = Histogram(
            "sidecar_decision_duration_seconds",
            "Time in the core for one decision: reading the request, deciding, writing the answer.",
            buckets=DECISION_BUCKETS,
            registry=registry,
        )
        self._reloads = Counter(
            "sidecar_policy_reloads_total", "Attempts to put a snapshot in place.", ("result",), registry=registry
        )
        for outcome in ReloadOutcome:
            self._reloads.labels(outcome.value)
        self._reload_seconds = Histogram(
            "sidecar_policy_reload_duration_seconds",
            "Time from reading a source to the snapshot in place.",
            buckets=RELOAD_BUCKETS,
            registry=registry,
        )
        self._problems = Gauge(
            "sidecar_policy_source_problems", "Problems that the last reload found.", ("severity",), registry=registry
        )
        self._last_reload_successful = Gauge(
            "sidecar_policy_last_reload_successful",
            "1 if the last reload put its snapshot in place or found nothing new, else 0.",
            registry=registry,
        )
        self._loaded_at = Gauge(
            "sidecar_policy_snapshot_loaded_timestamp_seconds",
            "When the snapshot in place was loaded, in seconds since the epoch.",
            registry=registry,
        )
        self._image_bytes = Gauge(
            "sidecar_policy_snapshot_bytes", "Size of the image of the snapshot in place.", registry=registry
        )
        self._principals = Gauge(
            "sidecar_policy_snapshot_principals", "Users and roles in the snapshot in place.", registry=registry
        )
        self._policies = Gauge(
            "sidecar_policy_snapshot_policies", "Policies in the snapshot in place.", registry=registry
        )
        self._statements = Gauge(
            "sidecar_policy_snapshot_statements", "Statements in the snapshot in place.", registry=registry
        )
        self._rpcs = Counter(
            "sidecar_rpcs_total",
            "Calls of the management listener and of the Authorize socket.",
            ("method", "code"),
            registry=registry,
        )
        #: Counters by what stands on the wire. Bounded by the closed sets of decisions and reasons.
        self._by_answer: dict[tuple[int, bytes], Counter] = {}

    def record_decision(self, decision: int, reason: bytes, nanoseconds: int) -> None:
        """Count one decision."""
        counter = self._by_answer.get((decision, reason))
        if counter is None:
            counter = self._decisions.labels(_DECISIONS.get(decision, "unspecified"), _REASONS.get(reason, "other"))
            if decision in _DECISIONS and reason in _REASONS:
                self._by_answer[decision, reason] = counter
        counter.inc()
        self._decision_seconds.observe(nanoseconds / 1e9)

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        """Count one attempt to put a snapshot in place."""
        self._reloads.labels(outcome.value).inc()
        self._reload_seconds.observe(seconds)
        self._problems.labels("error").set(errors)
        self._problems.labels("warning").set(warnings)
        self._last_reload_successful.set(0 if outcome is ReloadOutcome.FAILED else 1)

    def record_snapshot(
        self, *, loaded_at: float, principals: int, policies: int, statements: int, image_bytes: int
    ) -> None:
        """Describe the snapshot that is in place now."""
        self._loaded_at.set(loaded_at)
        self._principals.set(principals)
        self._policies.set(policies)
        self._statements.set(statements)
        self._image_bytes.set(image_bytes)

    def record_rpc(self, method: str, code: str) -> None:
        """Count one call."""
        self._rpcs.labels(method, code).inc()

    def record_fault_denials(self, count: int) -> None:
        """Count denials that were given because of a fault of our own."""
        self._decisions.labels("implicit_deny", Reason.INTERNAL_ERROR.word).inc(count)
