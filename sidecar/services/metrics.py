# SPDX-License-Identifier: Apache-2.0
"""
The numbers that an operator watches.

Every label value comes from a closed set: never a principal, an ARN or the text of an error.
"""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from sidecar import __version__
from sidecar.core import Recorder
from sidecar.model.decision import Reason
from sidecar.model.errors import Severity
from sidecar.model.reload import ReloadOutcome
from sidecar.services.decision_log_metrics import DecisionLogCollector
from sidecar.services.telemetry import TelemetryCollector

#: Upper bounds in seconds for a reload: from a handful of documents to the largest organizations.
RELOAD_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class SnapshotMetrics(Protocol):
    """Tells how reloads go and what is in place; may be called from any thread."""

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        """Count one attempt to put a snapshot in place."""
        ...

    def record_snapshot(
        self,
        *,
        loaded_at: float,
        principals: int,
        policies: int,
        statements: int,
        image_bytes: int,
        shadow_entries: int,
        shadow_expires_at: int,
    ) -> None:
        """
        Describe the snapshot that is in place now.

        Args:
            loaded_at: Seconds since the epoch.
            shadow_expires_at: When the first of what stands in shadow comes into force, likewise; 0 where nothing does.
        """
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

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        """Do nothing."""

    def record_snapshot(
        self,
        *,
        loaded_at: float,
        principals: int,
        policies: int,
        statements: int,
        image_bytes: int,
        shadow_entries: int,
        shadow_expires_at: int,
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

    def __init__(self, recorder: Recorder | None = None) -> None:
        """
        Args:
            recorder: Counts the decisions that are asked for through Python.
        """
        self._recorder = recorder or Recorder()
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        build = Info("sidecar_build", "Version of the sidecar.", registry=registry)
        build.info({"version": __version__})
        self.telemetry = TelemetryCollector(self._recorder)
        registry.register(self.telemetry)
        self.decision_log = DecisionLogCollector()
        registry.register(self.decision_log)
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
        for severity in Severity:
            self._problems.labels(severity.value)
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

        self._shadow_entries = Gauge(
            "sidecar_shadow_entries",
            "Policies and routes that stand in shadow in the snapshot in place.",
            registry=registry,
        )
        self._shadow_expires_at = Gauge(
            "sidecar_shadow_expires_timestamp_seconds",
            "When the first of what stands in shadow comes into force, in seconds since the epoch; 0 if nothing does.",
            registry=registry,
        )

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        """Count one attempt to put a snapshot in place."""
        self._reloads.labels(outcome.value).inc()
        self._reload_seconds.observe(seconds)
        self._problems.labels("error").set(errors)
        self._problems.labels("warning").set(warnings)
        self._last_reload_successful.set(0 if outcome is ReloadOutcome.FAILED else 1)

    def record_snapshot(
        self,
        *,
        loaded_at: float,
        principals: int,
        policies: int,
        statements: int,
        image_bytes: int,
        shadow_entries: int,
        shadow_expires_at: int,
    ) -> None:
        """Describe the snapshot that is in place now."""
        self._loaded_at.set(loaded_at)
        self._principals.set(principals)
        self._policies.set(policies)
        self._statements.set(statements)
        self._image_bytes.set(image_bytes)
        self._shadow_entries.set(shadow_entries)
        self._shadow_expires_at.set(shadow_expires_at)

    def record_rpc(self, method: str, code: str) -> None:
        """Count one call."""
        self.telemetry.record_rpc(method, code)

    def record_fault_denials(self, count: int) -> None:
        """Count denials that were given because of a fault of our own."""
        self._recorder.count_denials(Reason.INTERNAL_ERROR, count)
