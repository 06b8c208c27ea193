# SPDX-License-Identifier: Apache-2.0
"""The measurement of the decision log runs, and counts what it writes."""

import json

from tests.bench import bench_decision_log
from tests.bench.bench_decision_log import measure, records


def test_records_when_made_then_they_are_of_both_kinds_of_answer() -> None:
    assert {record.decision for record in records()} >= {1, 3}


def test_measure_when_run_then_every_record_is_written() -> None:
    figures = measure(2_000, masks=bench_decision_log.MASKS, to_file=True)

    assert figures["records_per_second"] > 0
    assert figures["line_bytes"] > 300
    assert json.dumps(figures)
