# SPDX-License-Identifier: Apache-2.0
from prometheus_client import CollectorRegistry

from sidecar.services.decision_log import DecisionLogStatistics
from sidecar.services.decision_log_metrics import DecisionLogCollector


def samples(collector: DecisionLogCollector) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_metrics_when_there_is_no_log_then_all_are_0() -> None:
    assert samples(DecisionLogCollector()) == {
        "sidecar_audit_records_total{written}": 0,
        "sidecar_audit_records_total{sampled_out}": 0,
        "sidecar_audit_records_total{dropped}": 0,
        "sidecar_audit_records_total{spilled}": 0,
        "sidecar_audit_dropped_total": 0,
        "sidecar_audit_write_errors_total": 0,
        "sidecar_audit_damaged_bytes_total": 0,
        "sidecar_audit_buffer_bytes": 0,
        "sidecar_audit_spill_bytes": 0,
    }


def test_metrics_when_there_is_a_log_then_they_are_its_numbers() -> None:
    collector = DecisionLogCollector()
    collector.watch(
        lambda: DecisionLogStatistics(
            written=1,
            spilled=2,
            dropped=3,
            sampled_out=4,
            damaged_bytes=5,
            write_errors=6,
            buffer_bytes=7,
            spill_bytes=8,
        )
    )

    assert samples(collector) == {
        "sidecar_audit_records_total{written}": 1,
        "sidecar_audit_records_total{sampled_out}": 4,
        "sidecar_audit_records_total{dropped}": 3,
        "sidecar_audit_records_total{spilled}": 2,
        "sidecar_audit_dropped_total": 3,
        "sidecar_audit_write_errors_total": 6,
        "sidecar_audit_damaged_bytes_total": 5,
        "sidecar_audit_buffer_bytes": 7,
        "sidecar_audit_spill_bytes": 8,
    }
