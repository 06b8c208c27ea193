# SPDX-License-Identifier: Apache-2.0
"""The bench of stepping up runs and gives the figures that it promises; none of them is judged here."""

import json

import pytest

from tests.bench import bench_step_up, load
from tests.bench.load import UnavailableError

pytestmark = pytest.mark.peer


def test_bench_when_run_for_programs_then_it_gives_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        load.open_loop_program()
    except UnavailableError as error:
        pytest.skip(str(error))

    assert bench_step_up.main(["--json", "--people", "4", "--rounds", "1", "--find-seconds", "0.2"]) == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["people"] == 4
    assert figures["step_up_ms_p99"] >= figures["step_up_ms_p50"] > 0
    assert figures["all_p99_us_during"] > 0
    assert figures["all_p99_ratio"] > 0
    # So short a run may have no call that the generator was there to see.
    assert (figures["p99_ratio"] is None) is (figures["p99_us_without"] == 0)
