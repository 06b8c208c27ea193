# SPDX-License-Identifier: Apache-2.0
"""The benchmark of routes: it runs, and a match takes as many instructions under many routes as under few."""

from __future__ import annotations

import pytest

from sidecar.core import Image, resolve_check
from sidecar.model.decision import Reason
from tests.bench import bench_routes, instructions

# Counting instructions is slow, and slower beside other programs.
pytestmark = pytest.mark.timeout(600)

#: A rise above this share from few routes to many fails.
ALLOWED_RISE = 0.1


@pytest.fixture(scope="module")
def figures() -> bench_routes.Json:
    return bench_routes.measure_all(requests=400, passes=2, counts=False)


def test_bench_when_run_then_the_promised_keys_are_there(figures: bench_routes.Json) -> None:
    for size in (10, 10_000):
        for name in ("match", "bind"):
            assert 0 < figures[f"{name}_ns_p50_{size}"] <= figures[f"{name}_ns_p99_{size}"]
            assert figures[f"{name}_hot_ns_p50_{size}"] > 0


def test_bench_when_its_figures_are_a_table_then_that_names_both_sizes(figures: bench_routes.Json) -> None:
    counted = {f"match_instructions_{size}": 1.0 for size in bench_routes.SIZES}
    page = bench_routes.markdown({**figures, **counted})

    assert "| 10 routes | 10,000 routes |" in page
    assert bench_routes.PAGE.read_text().count(bench_routes.MARKS[0]) == 1
    assert bench_routes.PAGE.read_text().count(bench_routes.MARKS[1]) == 1


def test_bench_when_it_asks_then_every_route_of_ten_is_taken() -> None:
    image = Image.from_bytes(bench_routes.image_of(10))
    found = [resolve_check(image, request) for request in bench_routes.requests_of(10, 200)]

    assert {check.route_id for check in found} == {f"r{number}" for number in range(10)}
    assert {check.reason for check in found} == {Reason.UNSPECIFIED}


def test_match_when_there_are_many_routes_then_it_takes_as_many_instructions_as_under_few() -> None:
    try:
        few, many = (bench_routes.count_instructions(size) for size in (10, 1_000))
    except instructions.UncountedError as error:
        pytest.skip(str(error))

    assert many <= few * (1 + ALLOWED_RISE)
