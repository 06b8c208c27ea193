# SPDX-License-Identifier: Apache-2.0
"""Routes: what the compiler makes of a table, and which route the slow matcher finds in it."""

from hypothesis import given

from sidecar.compile.image import write_image
from sidecar.compile.route_fit import fitting_routes
from sidecar.compile.target_faults import target_fault
from sidecar.core import Image
from sidecar.model.route import RouteTable, SegmentKind
from sidecar.model.snapshot import Account, Snapshot
from tests.oracle.routes import find_route, read_target
from tests.property.route_strategies import RouteRequest, requests, route_tables


def snapshot_of(table: RouteTable) -> Snapshot:
    return Snapshot(accounts=(Account("111122223333"),), routes=table)


@given(route_tables)
def test_table_when_it_was_compiled_then_its_image_is_sound_and_always_the_same(table: RouteTable) -> None:
    image = write_image(snapshot_of(table))
    assert image == write_image(snapshot_of(table))
    Image.from_bytes(image)


@given(route_tables, requests())
def test_target_when_it_was_read_then_nothing_in_it_can_be_read_otherwise(
    table: RouteTable, request: RouteRequest
) -> None:
    target = read_target(request.target, table.flags)
    if target is None:
        return
    assert all(
        segment not in (".", "..") and "\\" not in segment and "\0" not in segment for segment in target.segments
    )
    assert all(target.segments[:-1])
    found = find_route(table, request.method, request.host, target)
    if found is not None:
        assert len(found.captures) == len(found.route.captures)
        kinds = [segment.kind for segment in found.route.captures]
        assert all(capture for capture, kind in zip(found.captures, kinds, strict=True) if kind is not SegmentKind.REST)


@given(route_tables, requests())
def test_target_when_it_is_refused_then_there_is_a_reason(table: RouteTable, request: RouteRequest) -> None:
    fault = target_fault(request.target, table.flags)
    assert (fault is None) == (read_target(request.target, table.flags) is not None)


@given(route_tables, requests())
def test_route_when_people_ask_why_then_the_first_that_fits_is_the_one(
    table: RouteTable, request: RouteRequest
) -> None:
    target = read_target(request.target, table.flags)
    if target is None:
        return
    found = find_route(table, request.method, request.host, target)
    fits = fitting_routes(table, method=request.method, host=request.host, segments=target.segments)
    first = next((fit.route for fit in fits if fit.is_whole), None)
    assert first is (found.route if found is not None else None)
