# SPDX-License-Identifier: Apache-2.0
"""The bench of the second factor runs and gives the figures that it promises; none of them is judged here."""

import json

import pytest

from tests.bench import bench_mfa


def test_bench_when_run_for_programs_then_it_gives_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_mfa.main(["--json", "--credentials", "3", "--passes", "1", "--pairs", "2"]) == 0

    figures = json.loads(capsys.readouterr().out)
    for _, _, name in bench_mfa._ROWS:
        if "postgresql" in name and f"{name}_us_p50" not in figures:
            continue
        assert figures[f"{name}_us_p50"] > 0
        assert figures[f"{name}_us_p99"] >= figures[f"{name}_us_p50"]
    assert figures["assertion_fido2_ratio"] > 0
    assert figures["machine"]["fido2"]
