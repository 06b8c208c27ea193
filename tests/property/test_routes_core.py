# SPDX-License-Identifier: Apache-2.0
"""The core reads targets and finds routes as the slow matcher does, whatever is drawn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.compile.image import write_image
from sidecar.core import Image
from sidecar.model.decision import Reason
from sidecar.model.resolved_check import ResolvedCheck
from sidecar.model.route import RouteTable
from sidecar.model.snapshot import Account, Snapshot
from tests.oracle.routes import find_route, read_target
from tests.property.route_strategies import RouteRequest, requests, route_tables
from tests.unit.core.routing import resolve

_Seen = tuple[Reason, tuple[str, ...], str, tuple[str, ...]]


def _seen(found: ResolvedCheck) -> _Seen:
    return found.reason, found.segments, found.route_id, found.captures


def _want(table: RouteTable, request: RouteRequest) -> _Seen:
    target = read_target(request.target, table.flags)
    if target is None:
        return Reason.PATH_INVALID, (), "", ()
    match = find_route(table, request.method, request.host, target)
    if match is None:
        return Reason.NO_ROUTE, target.segments, "", ()
    return Reason.UNSPECIFIED, target.segments, match.route.id, match.captures


@given(route_tables, st.lists(requests(), min_size=1, max_size=8))
def test_core_when_it_looks_for_a_route_then_it_agrees_with_the_slow_matcher(
    table: RouteTable, asked: list[RouteRequest]
) -> None:
    image = Image.from_bytes(write_image(Snapshot(accounts=(Account("111122223333"),), routes=table)))

    for request in asked:
        found = resolve(image, request.target, method=request.method, host=request.host)

        assert _seen(found) == _want(table, request), request
