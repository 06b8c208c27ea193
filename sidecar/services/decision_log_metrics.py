# SPDX-License-Identifier: Apache-2.0
"""
What the decision log counts, as Prometheus metrics; all of it 0 while there is no log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.services.decision_log import DecisionLogStatistics


class DecisionLogCollector(Collector):
    """
    Tells of a decision log when somebody scrapes.

    Thread-safety: ``watch`` belongs to one thread, before the first scrape; all else to any.
    """

    def __init__(self) -> None:
        self._statistics: Callable[[], DecisionLogStatistics] = DecisionLogStatistics

    def watch(self, statistics: Callable[[], DecisionLogStatistics]) -> None:
        """Ask *statistics* from now on."""
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        now = self._statistics()
        records = CounterMetricFamily(
            "sidecar_audit_records", "Decision records, by what became of them.", labels=["result"]
        )
        for result, count in (
            ("written", now.written),
            ("sampled_out", now.sampled_out),
            ("dropped", now.dropped),
            ("spilled", now.spilled),
        ):
            records.add_metric([result], count)
        yield records
        yield CounterMetricFamily(
            "sidecar_audit_dropped", "Decision records lost because there was no room for them.", value=now.dropped
        )
        yield CounterMetricFamily(
            "sidecar_audit_write_errors", "Writes of decision records that failed and were tried again.",
            value=now.write_errors,
        )  # fmt: skip
        yield CounterMetricFamily(
            "sidecar_audit_damaged_bytes", "Bytes of decision records that could not be read back from disk.",
            value=now.damaged_bytes,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "sidecar_audit_buffer_bytes", "Bytes of decision records that wait in memory.", value=now.buffer_bytes
        )
        yield GaugeMetricFamily(
            "sidecar_audit_spill_bytes", "Bytes of decision records that wait on disk.", value=now.spill_bytes
        )
