# SPDX-License-Identifier: Apache-2.0
"""Routes in an image: whatever of them is damaged, the image is refused or answers all the same."""

from __future__ import annotations

import functools
import struct

import pytest

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.layout import CONSTANTS, HEADER, NONE, SECTION, SECTION_NUMBERS, SECTIONS
from sidecar.model.errors import ImageError
from sidecar.model.snapshot import Account, Snapshot
from tests.conformance.cases import ACCOUNT
from tests.fuzz.routing_targets import ask_routes, routes_of
from tests.unit.core.asking import with_checksum
from tests.unit.core.routing import resolve, routes_image

_WIDTHS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i64": "<q"}

Change = tuple[str, int, str, int]


@functools.cache
def _whole() -> bytes:
    accounts = (Account(ACCOUNT),)
    return write_image(Snapshot(accounts=accounts, routes=routes_of(accounts)))


def _run(section: str) -> tuple[int, int]:
    """Say where a section begins and how many records it has."""
    place = HEADER.struct.size + SECTION_NUMBERS[section] * SECTION.struct.size
    _, _, offset, count = SECTION.struct.unpack_from(_whole(), place)
    return offset, count


def _place(section: str, record: int, field: str) -> tuple[int, str]:
    layout = dict(SECTIONS)[section]
    offset, count = _run(section)
    assert record < count, f"{section} has {count} records"
    place = offset + record * layout.struct.size
    for name, kind, _ in layout.fields:
        if name == field:
            return place, _WIDTHS[kind]
        place += struct.calcsize(_WIDTHS[kind])
    raise LookupError(f"{section} has no field {field}")


def _read(section: str, record: int, field: str) -> int:
    place, packed = _place(section, record, field)
    return int(struct.unpack_from(packed, _whole(), place)[0])


def _changed(*changes: Change) -> bytes:
    data = bytearray(_whole())
    for section, record, field, value in changes:
        place, packed = _place(section, record, field)
        struct.pack_into(packed, data, place, value)
    return with_checksum(data)


def _find(section: str, field: str, value: int) -> int:
    """Give the first record of a section with this value."""
    return next(record for record in range(_run(section)[1]) if _read(section, record, field) == value)


def _refused(*changes: Change) -> str:
    with pytest.raises(ImageError) as caught:
        core.Image.from_bytes(_changed(*changes))
    return caught.value.message


def test_image_when_sound_then_its_routes_answer() -> None:
    reasons = ask_routes(core.Image.from_bytes(_whole()))

    assert reasons == {"", "path_invalid"}


def _sections() -> list[str]:
    names = ("ROUTE", "CALLER_RULES", "CLAIM_TESTS")
    return [name for name, record in SECTIONS if name.startswith(names) and len(record.fields) and _run(name)[1]]


@pytest.mark.parametrize("section", _sections())
def test_field_when_it_is_anything_then_the_image_is_refused_or_answers(section: str) -> None:
    """Nothing here can be more than tried: what must not happen is a crash, which the sanitizers see sooner."""
    loads = 0
    for record in range(min(_run(section)[1], 4)):
        for field, _, _ in dict(SECTIONS)[section].fields:
            old = _read(section, record, field)
            for value in (0, 1, old + 1 & NONE, max(0, old - 1), 0x7FFFFFFF, NONE - 1, NONE):
                try:
                    image = core.Image.from_bytes(_changed((section, record, field, value)))
                except ImageError:
                    continue
                loads += 1
                ask_routes(image)
    assert loads > 0


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        ("ROUTE_HOSTS", "name", NONE, "a host of routes"),
        ("ROUTE_HOSTS", "root", NONE, "a host of routes"),
        ("ROUTE_NODES", "mixed_count", NONE, "a node of routes"),
        ("ROUTE_NODES", "any", 0, "a node of routes"),
        ("ROUTE_NODES", "leaf_count", NONE, "a node of routes"),
        ("ROUTE_NODES", "rest_count", 0x7FFFFFFF, "a node of routes"),
        ("ROUTE_EDGES", "text", NONE, "a segment of routes"),
        ("ROUTE_EDGES", "child", 0, "a segment of routes"),
        ("ROUTE_EDGES", "child", NONE, "a segment of routes"),
        ("ROUTE_EDGES", "parent", NONE, "a segment of routes"),
        ("ROUTE_MIXED", "before_len", NONE, "a node of routes"),
        ("ROUTE_MIXED", "behind", NONE, "a node of routes"),
        ("ROUTE_MIXED", "child", 0, "a node of routes"),
        ("ROUTE_LEAVES", "route", NONE, "a method of a route"),
        ("ROUTE_LEAVES", "method_len", NONE, "a method of a route"),
        ("ROUTES", "id_len", NONE, "a route is"),
        ("ROUTES", "captures", 17, "a route is"),
        ("ROUTES", "captures", 1, "a route is"),
        ("ROUTES", "action_count", 0, "a route is"),
        ("ROUTES", "action", NONE, "a route is"),
        ("ROUTES", "resource_count", NONE, "a route is"),
        ("ROUTES", "context_count", NONE, "a route is"),
        ("ROUTE_PIECES", "source", 11, "a template"),
        ("ROUTE_PIECES", "rule", 5, "a template"),
        ("ROUTE_PIECES", "len", NONE, "a template"),
        ("ROUTE_CONTEXT", "key", NONE, "a route is"),
        ("ROUTE_CONTEXT", "piece_count", 0, "a route is"),
        ("ROUTE_TEXTS", "len", NONE, "a rule of callers"),
        ("ROUTE_HOST_TABLE", "value", 0x7FFFFFFF, "tables"),
        ("ROUTE_EDGE_TABLE", "value", NONE, "tables"),
        ("CALLER_RULES", "source", 0, "a rule of callers"),
        ("CALLER_RULES", "source", 6, "a rule of callers"),
        ("CALLER_RULES", "name_len", NONE, "a rule of callers"),
        ("CALLER_RULES", "principal_count", NONE, "a rule of callers"),
        ("CLAIM_TESTS", "claim", NONE, "a test of a claim"),
        ("CLAIM_TESTS", "text_count", NONE, "a test of a claim"),
    ],
)
def test_record_when_it_points_outside_then_the_image_is_refused(
    section: str, field: str, value: int, words: str
) -> None:
    assert words in _refused((section, 0, field, value))


def test_tree_when_a_node_has_two_parents_then_the_image_is_refused() -> None:
    edges = range(_run("ROUTE_EDGES")[1])
    last = max(edges, key=lambda record: _read("ROUTE_EDGES", record, "child"))
    child = _read("ROUTE_EDGES", last, "child")
    other = next(record for record in edges if record != last and _read("ROUTE_EDGES", record, "parent") < child)

    assert "a segment of routes" in _refused(("ROUTE_EDGES", other, "child", child))
    assert "a host of routes" in _refused(("ROUTE_HOSTS", 1, "root", _read("ROUTE_HOSTS", 0, "root")))


def test_tree_when_a_node_has_leaves_of_others_then_the_image_is_refused() -> None:
    whole = _run("ROUTE_LEAVES")[1]

    assert "a node of routes" in _refused(("ROUTE_NODES", 0, "leaves", 0), ("ROUTE_NODES", 0, "leaf_count", whole))


def test_leaf_when_its_route_captures_something_else_then_nothing_is_found() -> None:
    """Pieces name captures by their number: a route that is reached by another path must not be taken."""
    files = _find("ROUTES", "captures", 1) + 3
    whole, image = core.Image.from_bytes(_whole()), core.Image.from_bytes(_changed(("ROUTES", files, "captures", 2)))

    assert resolve(whole, "/files/a").route_id == "files"
    assert resolve(image, "/files/a").route_id == "rest"


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("JWT", {"name_len": 1}),
        ("JWT", {"test_count": NONE}),
        ("JWT", {"principal_count": 0}),
        ("CERTIFICATE", {"test_count": 0}),
        ("CERTIFICATE", {"tests": 0, "test_count": 1}),
        ("CERTIFICATE", {"principal_count": 0}),
        ("API_KEY", {"text_count": 0}),
        ("API_KEY", {"text_count": 3}),
        ("API_KEY", {"name_len": 0}),
        ("API_KEY", {"principal_count": 0}),
    ],
)
def test_caller_when_its_rule_is_half_then_the_image_is_refused(source: str, changes: dict[str, int]) -> None:
    rule = _find("CALLER_RULES", "source", CONSTANTS[f"CALLER_SOURCE_{source}"])

    assert "a rule of callers" in _refused(*(("CALLER_RULES", rule, field, value) for field, value in changes.items()))


def test_caller_when_it_names_a_segment_that_it_does_not_have_then_the_image_is_refused() -> None:
    capture = CONSTANTS["PIECE_CAPTURE"]
    jwt = _read("CALLER_RULES", _find("CALLER_RULES", "source", CONSTANTS["CALLER_SOURCE_JWT"]), "principal")
    certificate = _find("CALLER_RULES", "source", CONSTANTS["CALLER_SOURCE_CERTIFICATE"])
    name = _read("CALLER_RULES", certificate, "tests")

    assert "a rule of callers" in _refused(("ROUTE_PIECES", jwt, "source", capture))
    # Captures are numbered in their order.
    assert "a rule of callers" in _refused(("ROUTE_PIECES", name + 1, "capture", 1))
    assert "a rule of callers" in _refused(("ROUTE_PIECES", name + 3, "capture", 0))


def test_settings_when_there_are_routes_without_them_then_the_image_is_refused() -> None:
    place = HEADER.struct.size + SECTION_NUMBERS["ROUTE_SETTINGS"] * SECTION.struct.size
    kind, size, offset, _ = SECTION.struct.unpack_from(_whole(), place)
    for count in (0, 2):
        data = bytearray(_whole())
        SECTION.struct.pack_into(data, place, kind, size, offset, count)
        with pytest.raises(ImageError) as caught:
            core.Image.from_bytes(with_checksum(data))
        assert "settings of its routes" in caught.value.message


def test_table_when_it_has_no_free_slot_then_the_image_is_refused() -> None:
    for table in ("ROUTE_HOST_TABLE", "ROUTE_EDGE_TABLE"):
        assert "tables" in _refused(*((table, slot, "value", 1) for slot in range(_run(table)[1])))


def test_search_when_every_way_fits_but_none_ends_then_it_takes_no_more_steps_than_there_are_nodes() -> None:
    """Each of ten segments can be fixed or any, and all of the thousand paths fit, but for the last segment."""
    routes = [
        {
            "id": f"r{number}",
            "path": "/" + "/".join("*" if number >> bit & 1 else "a" for bit in range(10)) + "/end",
            "public": True,
        }
        for number in range(1024)
    ]
    image = routes_image({"routes": routes})

    assert resolve(image, "/a" * 10 + "/none").route_id == ""
    assert resolve(image, "/a" * 10 + "/end").route_id == "r0"
    assert resolve(image, "/b" * 10 + "/end").route_id == "r1023"
