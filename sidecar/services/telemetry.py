# SPDX-License-Identifier: Apache-2.0
"""
What the compiled core counts in plain memory, as Prometheus metrics.

Nothing here is in the way of a decision: the numbers are read when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar import core
from sidecar.model.check import CheckResult
from sidecar.model.decision import Decision, PolicyLayer, Reason
from sidecar.model.listener import CloseReason, ListenerLimit, RpcMethod, RpcStatus

if TYPE_CHECKING:
    from sidecar.core._core import HistogramCounts, Telemetry

#: Upper bounds of the histograms, in nanoseconds: about five a decade from 100 ns to 20 ms. Each is an edge between two
#: slots of the core's own counters, so that no value is counted on the wrong side.
BOUNDS_NS = (
    *(100, 160, 256, 400, 640),
    *(1024, 1600, 2560, 4096, 6400),
    *(10_240, 16_384, 25_600, 40_960, 65_536),
    *(102_400, 163_840, 262_144, 409_600, 655_360),
    *(1_048_576, 1_638_400, 2_621_440, 4_194_304, 6_553_600),
    *(10_485_760, 16_777_216, 20_971_520),
)

_EDGES_NS = tuple(core.histogram_edges())
_LAYER_OF_REASON = {
    Reason.IDENTITY_ALLOW: PolicyLayer.IDENTITY,
    Reason.RESOURCE_ALLOW: PolicyLayer.RESOURCE,
    Reason.ROOT_ALLOW: PolicyLayer.IDENTITY,
    Reason.NO_IDENTITY_ALLOW: PolicyLayer.IDENTITY,
    Reason.NO_RESOURCE_ALLOW: PolicyLayer.RESOURCE,
    Reason.NO_PERMISSIONS_BOUNDARY_ALLOW: PolicyLayer.PERMISSIONS_BOUNDARY,
    Reason.NO_SESSION_ALLOW: PolicyLayer.SESSION,
    Reason.NO_SERVICE_CONTROL_ALLOW: PolicyLayer.SERVICE_CONTROL,
}
_ALLOWS = frozenset(
    {Reason.IDENTITY_ALLOW, Reason.RESOURCE_ALLOW, Reason.ROOT_ALLOW, Reason.ALWAYS_ALLOWED, Reason.PUBLIC_ROUTE}
)


def _usual_decisions() -> Iterator[tuple[Decision, PolicyLayer, Reason]]:
    """Yield what a sidecar may answer, so that a series stands there before its first event."""
    for reason in Reason:
        if reason is Reason.EXPLICIT_DENY:
            yield from ((Decision.EXPLICIT_DENY, layer, reason) for layer in PolicyLayer if layer)
        elif reason is not Reason.UNSPECIFIED:
            decision = Decision.ALLOW if reason in _ALLOWS else Decision.IMPLICIT_DENY
            yield decision, _LAYER_OF_REASON.get(reason, PolicyLayer.UNSPECIFIED), reason


_USUAL_DECISIONS = tuple(_usual_decisions())
_USUAL_CODES = (
    RpcStatus.OK,
    RpcStatus.CANCELLED,
    RpcStatus.INVALID_ARGUMENT,
    RpcStatus.DEADLINE_EXCEEDED,
    RpcStatus.RESOURCE_EXHAUSTED,
    RpcStatus.UNIMPLEMENTED,
    RpcStatus.INTERNAL,
)


class DataListenerState(Protocol):
    """A data listener that tells of itself."""

    def telemetry(self) -> list[Telemetry]:
        """Return what was counted: of the thread that accepts first, then of each worker."""
        ...

    def worker_cpu_seconds(self) -> list[float]:
        """Return the processor time of each worker."""
        ...


class TelemetryCollector(Collector):
    """
    Adds up what listeners and recorders have counted.

    Thread-safety: locked.
    """

    def __init__(self, recorder: core.Recorder) -> None:
        """
        Args:
            recorder: Counts the decisions that are asked for through Python.
        """
        self._recorder = recorder
        self._listener: DataListenerState | None = None
        self._rpcs: dict[tuple[str, str], int] = {}
        self._lock = Lock()

    def watch(self, listener: DataListenerState) -> None:
        """Tell of *listener* too from now on."""
        self._listener = listener

    def record_rpc(self, method: str, code: str) -> None:
        """Count one call of the management listener."""
        with self._lock:
            self._rpcs[method, code] = self._rpcs.get((method, code), 0) + 1

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without samples, which a registry asks for to find names that are taken."""
        return self._metrics([], [])

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        listener = self._listener
        parts = listener.telemetry() if listener is not None else []
        times = listener.worker_cpu_seconds() if listener is not None else []
        return self._metrics([self._recorder.telemetry(), *parts], times)

    def _metrics(self, parts: Sequence[Telemetry], times: Sequence[float]) -> Iterator[Metric]:
        yield _decisions(parts)
        yield _histogram(
            "sidecar_read_duration_seconds",
            "Time to read one request: parsing it and finding its principal, action and keys in the snapshot.",
            [part["reading"] for part in parts],
        )
        yield _histogram(
            "sidecar_decision_duration_seconds",
            "Time to decide one request that was read, and to write the answer.",
            [part["deciding"] for part in parts],
        )
        yield _histogram(
            "sidecar_request_duration_seconds",
            "Time of one call of the data listener, from the socket to the socket.",
            [part["request"] for part in parts],
        )
        yield self._calls(parts)
        yield from _of_data_listener(parts)
        cpu = CounterMetricFamily(
            "sidecar_data_worker_cpu_seconds", "Processor time of each worker of the data listener.", labels=["worker"]
        )
        for number, seconds in enumerate(times):
            cpu.add_metric([str(number)], seconds)
        yield cpu

    def _calls(self, parts: Sequence[Telemetry]) -> Metric:
        family = CounterMetricFamily(
            "sidecar_rpcs", "Calls, by listener, method and gRPC status.", labels=["listener", "method", "code"]
        )
        if not parts:
            return family
        with self._lock:
            calls = {("management", *key): count for key, count in self._rpcs.items()}
        if self._listener is not None:
            for method in RpcMethod:
                for code in _USUAL_CODES:
                    calls["data", method.word, code.name] = 0
        for part in parts:
            for (method_number, code_number), count in part["rpcs"].items():
                key = ("data", RpcMethod(method_number).word, RpcStatus(code_number).name)
                calls[key] = calls.get(key, 0) + count
        for labels, count in sorted(calls.items()):
            family.add_metric(labels, count)
        return family


def _decisions(parts: Sequence[Telemetry]) -> Metric:
    family = CounterMetricFamily(
        "sidecar_decisions",
        "Decisions given by Authorize, BatchAuthorize and Check.",
        labels=["decision", "layer", "reason"],
    )
    if not parts:
        return family
    totals = {(decision.value, layer.value, reason.value): 0 for decision, layer, reason in _USUAL_DECISIONS}
    for part in parts:
        for key, count in part["decisions"].items():
            totals[key] = totals.get(key, 0) + count
    for (decision, layer, reason), count in totals.items():
        labels = [
            Decision(decision).name.lower(),
            PolicyLayer(layer).name.lower(),
            Reason(reason).word or "unspecified",
        ]
        family.add_metric(labels, count)
    return family


def _histogram(name: str, help: str, parts: Sequence[HistogramCounts]) -> Metric:
    family = HistogramMetricFamily(name, help)
    if not parts:
        return family
    counts = [sum(column) for column in zip(*(part["counts"] for part in parts), strict=True)]
    buckets: list[tuple[str, float]] = []
    total, at = 0, 0
    for bound in BOUNDS_NS:
        # A slot holds the values from its edge up to the next one, so those below an edge are at most the bound.
        until = bisect_left(_EDGES_NS, bound)
        total += sum(counts[at:until])
        at = until
        buckets.append((repr(bound / 1e9), total))
    buckets.append(("+Inf", total + sum(counts[at:])))
    family.add_metric([], buckets, sum(part["sum"] for part in parts) / 1e9)
    return family


def _of_data_listener(parts: Sequence[Telemetry]) -> Iterator[Metric]:
    gauges = (
        ("sidecar_data_connections", "Connections of the data listener that are open.", "connections"),
        ("sidecar_data_streams", "Calls of the data listener that are under way.", "streams"),
    )
    counters = (
        ("sidecar_data_connections_accepted", "Connections that the data listener took.", "accepted"),
        ("sidecar_data_batch_requests", "Requests inside of batches, at the data listener.", "batch_requests"),
        ("sidecar_audit_parked", "Answers that waited for a place for their record.", "parked"),
    )
    for name, help, key in gauges:
        gauge = GaugeMetricFamily(name, help)
        if parts:
            gauge.add_metric([], sum(part[key] for part in parts))  # type: ignore[literal-required]
        yield gauge
    for name, help, key in counters:
        counter = CounterMetricFamily(name, help)
        if parts:
            counter.add_metric([], sum(part[key] for part in parts))  # type: ignore[literal-required]
        yield counter
    tokens = CounterMetricFamily(
        "sidecar_session_tokens", "Session tokens in requests, by whether they had to be opened.", labels=["result"]
    )
    if parts:
        tokens.add_metric(["opened"], sum(part["tokens_opened"] for part in parts))
        tokens.add_metric(["known"], sum(part["tokens_known"] for part in parts))
    yield tokens
    told = CounterMetricFamily(
        "sidecar_check_responses", "Answers to Envoy's Check, by what they say.", labels=["response"]
    )
    if parts:
        for result in CheckResult:
            told.add_metric([result.word], sum(part["told"][result] for part in parts))
    yield told
    limits = CounterMetricFamily("sidecar_data_limit_hits", "Limits that peers ran into.", labels=["limit"])
    closed = CounterMetricFamily(
        "sidecar_data_connections_closed", "Connections of the data listener that ended, by cause.", labels=["reason"]
    )
    if parts:
        for limit in ListenerLimit:
            limits.add_metric([limit.word], sum(part["limits"][limit] for part in parts))
        for reason in CloseReason:
            closed.add_metric([reason.word], sum(part["closed"][reason] for part in parts))
    yield limits
    yield closed
