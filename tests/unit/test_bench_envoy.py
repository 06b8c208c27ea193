# SPDX-License-Identifier: Apache-2.0
"""The bench of Envoy runs and gives the figures that it promises; none of them is judged here."""

import json
import shutil

import pytest

from tests.bench import bench_envoy
from tests.e2e.envoy_process import envoy_program

pytestmark = pytest.mark.peer


def test_bench_when_run_for_programs_then_it_gives_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    envoy_program()
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not on this machine; scripts/test installs it")
    monkeypatch.setattr(bench_envoy, "MANY_ROUTES", 200)

    assert bench_envoy.main(["--json", "--rounds", "1", "--requests", "40", "--no-build"]) == 0

    figures = json.loads(capsys.readouterr().out)
    for name in ("nothing", "sidecar", "sidecar_many_routes"):
        assert figures[f"{name}_us_p99"] >= figures[f"{name}_us_p50"] > 0
    for key in ("sidecar_added_us_p50", "sidecar_added_us_p99", "many_routes_ratio_p50", "opa_ratio_p50"):
        assert key in figures
    assert ("opa" in figures["skipped"]) is ("opa_us_p50" not in figures)
    assert "| with the sidecar, 7 routes |" in bench_envoy.markdown(figures)


def test_summary_when_a_server_adds_to_each_round_then_that_is_the_median() -> None:
    rows = {
        "nothing": [(100.0, 200.0), (110.0, 210.0), (300.0, 900.0)],
        "sidecar": [(150.0, 300.0), (160.0, 310.0), (350.0, 1000.0)],
        "sidecar_many_routes": [(155.0, 300.0), (165.0, 310.0), (355.0, 1000.0)],
        "opa": [(300.0, 400.0), (310.0, 410.0), (500.0, 1100.0)],
    }

    figures = bench_envoy.summarise(rows)

    assert figures["sidecar_added_us_p50"] == 50
    assert figures["sidecar_added_us_p99"] == 100
    assert figures["opa_ratio_p50"] == 4
    assert figures["many_routes_ratio_p50"] == 1.1
