# SPDX-License-Identifier: Apache-2.0
import inspect

import pytest
from prometheus_client import generate_latest

from sidecar.core import Recorder, authorize, encode_request
from sidecar.model.reload import ReloadOutcome
from sidecar.model.request import AuthorizationRequest
from sidecar.services.log import Log, NullLog
from sidecar.services.metrics import (
    NullMetrics,
    PrometheusMetrics,
    RpcMetrics,
    SnapshotMetrics,
)
from tests.conformance.cases import USER_ARN
from tests.unit.core.asking import image_of


def exposition(metrics: PrometheusMetrics) -> str:
    return generate_latest(metrics.registry).decode()


@pytest.mark.parametrize("implementation", [NullMetrics, PrometheusMetrics])
@pytest.mark.parametrize("interface", [SnapshotMetrics, RpcMetrics])
def test_metrics_when_they_stand_in_then_every_method_fits(implementation: type, interface: type) -> None:
    for name, method in inspect.getmembers(interface, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(implementation, name)) == inspect.signature(method)


def test_null_log_when_it_stands_in_then_every_method_fits() -> None:
    log: Log = NullLog()
    assert log.info("event", value=1) is log.warning("event") is log.error("event") is None


def test_fault_denials_when_recorded_then_they_are_decisions() -> None:
    metrics = PrometheusMetrics()

    metrics.record_fault_denials(3)

    line = 'sidecar_decisions_total{decision="implicit_deny",layer="unspecified",reason="internal_error"} 3.0'
    assert line in exposition(metrics)


def test_decision_when_something_stands_in_shadow_then_every_pair_of_labels_is_there() -> None:
    recorder = Recorder()
    metrics = PrometheusMetrics(recorder)
    image = image_of(identity="Allow", boundary="Deny", shadow=["boundary"])
    asked = AuthorizationRequest(USER_ARN, "s3:GetObject", "*")

    authorize(image, encode_request(asked), seconds=0, nanos=0, recorder=recorder)

    samples = [line for line in exposition(metrics).splitlines() if line.startswith("sidecar_shadow_decisions_total")]
    words = ("allow", "explicit_deny", "implicit_deny")
    assert sorted(samples) == sorted(
        f'sidecar_shadow_decisions_total{{decision="{given}",shadow_decision="{shadow}"}}'
        f" {float((given, shadow) == ('allow', 'explicit_deny'))}"
        for given in words
        for shadow in words
    )


def test_snapshot_when_recorded_then_it_is_described() -> None:
    metrics = PrometheusMetrics()

    metrics.record_snapshot(
        loaded_at=5.0, principals=1, policies=2, statements=3, image_bytes=4, shadow_entries=5, shadow_expires_at=6
    )
    metrics.record_reload(ReloadOutcome.FAILED, 0.5, errors=7, warnings=8)

    text = exposition(metrics)
    for line in (
        "sidecar_policy_snapshot_loaded_timestamp_seconds 5.0",
        "sidecar_policy_snapshot_principals 1.0",
        "sidecar_policy_snapshot_policies 2.0",
        "sidecar_policy_snapshot_statements 3.0",
        "sidecar_policy_snapshot_bytes 4.0",
        "sidecar_shadow_entries 5.0",
        "sidecar_shadow_expires_timestamp_seconds 6.0",
        'sidecar_policy_reloads_total{result="failed"} 1.0',
        'sidecar_policy_reloads_total{result="applied"} 0.0',
        'sidecar_policy_source_problems{severity="error"} 7.0',
        'sidecar_policy_source_problems{severity="warning"} 8.0',
        "sidecar_policy_last_reload_successful 0.0",
        "sidecar_policy_reload_duration_seconds_count 1.0",
    ):
        assert line in text.splitlines()


def test_names_when_exposed_then_they_follow_the_rules() -> None:
    for family in PrometheusMetrics().registry.collect():
        assert family.name.startswith(("sidecar_", "process_"))
        assert not family.name.endswith(("_ms", "_count", "_latency"))
        assert family.documentation
