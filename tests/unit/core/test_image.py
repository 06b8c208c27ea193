# SPDX-License-Identifier: Apache-2.0
"""Loading images: what is damaged or foreign is refused, whatever is damaged."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from sidecar import core
from sidecar.compile.layout import ALIGNMENT, HEADER, NONE, SECTION, SECTIONS
from sidecar.model.decision import Decision
from sidecar.model.errors import ImageError
from tests.unit.core.asking import (
    NOW,
    authorize,
    changed_image,
    explain,
    field_place,
    image,
    image_bytes,
    read_field,
    request,
    with_checksum,
)

HEADER_FIELDS = [name for name, _, _ in HEADER.fields]
#: Fields of the header that hold facts for the reader alone.
FREE_FIELDS = {"flags", "principals", "policies", "statements", "resource_services"}
SECTION_FIELDS = [name for name, _, _ in SECTION.fields]


def _with_header(field: str, value: int, *, checksum: bool = False) -> bytes:
    data = bytearray(image_bytes())
    values = list(HEADER.struct.unpack_from(data))
    values[HEADER_FIELDS.index(field)] = value
    HEADER.struct.pack_into(data, 0, *values)
    return with_checksum(data) if checksum else bytes(data)


def _with_section(number: int, field: str, value: int) -> bytes:
    data = bytearray(image_bytes())
    place = HEADER.struct.size + number * SECTION.struct.size
    values = list(SECTION.struct.unpack_from(data, place))
    values[SECTION_FIELDS.index(field)] = value
    SECTION.struct.pack_into(data, place, *values)
    return with_checksum(data)


def _refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        core.Image.from_bytes(data)
    assert caught.value.message.startswith("the image cannot be used: ")
    return caught.value.message


def test_image_when_sound_then_it_says_what_it_is() -> None:
    assert image().revision == hashlib.sha256(image_bytes()).hexdigest()
    assert image().statistics["image_bytes"] == len(image_bytes())
    assert image().statistics["principals"] == read_field_of_header("principals") > 0
    assert image().statistics["statements"] > 0


def read_field_of_header(field: str) -> int:
    return int(HEADER.struct.unpack_from(image_bytes())[HEADER_FIELDS.index(field)])


def test_image_when_cut_anywhere_then_it_is_refused() -> None:
    whole = image_bytes()
    edges = {0, 1, 7, 8, HEADER.struct.size - 1, HEADER.struct.size, HEADER.struct.size + 1}
    for number in range(len(SECTIONS)):
        place = HEADER.struct.size + number * SECTION.struct.size
        _, _, offset, count = SECTION.struct.unpack_from(whole, place)
        end = offset + count * SECTIONS[number][1].struct.size
        edges |= {place, place + 1, offset, offset + 1, end - 1, end}
    for length in sorted(edge for edge in edges if edge < len(whole)):
        _refused(whole[:length])
        if length >= HEADER.struct.size:
            # Nor may it be cut by somebody who makes the header fit, unless what is cut off is padding.
            try:
                core.Image.from_bytes(with_checksum(whole[:length]))
            except ImageError:
                continue
            assert len(whole) - length < ALIGNMENT


def test_image_when_longer_than_it_says_then_it_is_refused() -> None:
    assert "length" in _refused(image_bytes() + b"\0")
    assert "length" in _refused(image_bytes() * 2)


@pytest.mark.parametrize("field", HEADER_FIELDS)
@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
def test_header_when_a_field_is_changed_then_the_image_is_refused_or_still_decides(field: str, value: int) -> None:
    if read_field_of_header(field) == value:
        return
    for data in (_with_header(field, value), _with_header(field, value, checksum=field != "checksum")):
        try:
            loaded = core.Image.from_bytes(data)
        except ImageError:
            continue
        assert field in FREE_FIELDS | {"only_account", "organization", "organization_len", "total_size"}
        assert authorize(request(), loaded).decision != 0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("magic", 0, "does not begin like an image"),
        ("format_version", 0, "another format version"),
        ("format_version", 1, "another format version"),
        ("section_count", 1, "another format version"),
        ("total_size", 5, "its length"),
        ("checksum", 0, "its checksum does not match"),
        ("organization", 0xFFFFFFFF, "its header points outside"),
        ("only_account", 0xFFFFFFFE, "its header points outside"),
    ],
)
def test_header_when_a_field_is_wrong_then_the_error_says_so(field: str, value: int, words: str) -> None:
    checked = field not in ("checksum", "total_size")
    assert words in _refused(_with_header(field, value, checksum=checked))


def test_image_when_a_byte_behind_the_header_is_flipped_then_the_checksum_tells() -> None:
    for place in range(HEADER.struct.size, len(image_bytes()), 37):
        data = bytearray(image_bytes())
        data[place] ^= 0x10
        _refused(bytes(data))


@pytest.mark.parametrize("number", range(len(SECTIONS)), ids=[name for name, _ in SECTIONS])
def test_section_when_its_entry_is_wrong_then_the_image_is_refused(number: int) -> None:
    for field, value in (
        ("kind", number + 1),
        ("record_size", 0),
        ("record_size", SECTIONS[number][1].struct.size + 1),
        ("offset", 0),
        ("offset", 64),
        ("offset", 2**64 - 64),
        ("offset", len(image_bytes()) + 64),
        ("count", 2**64 - 1),
        ("count", 2**63),
        ("count", 0x7FFFFFFF),
        ("count", 2**64 // SECTIONS[number][1].struct.size + 1),
    ):
        _refused(_with_section(number, field, value % 2**64))


@pytest.mark.parametrize(
    "changes",
    [
        [("PRINCIPALS", 0, "account", NONE)],
        [("PRINCIPALS", 0, "key", 0x7FFFFFFF)],
        [("PRINCIPALS", 0, "key_len", NONE)],
        [("PRINCIPALS", 0, "unique_id_len", 257)],
        [("PRINCIPALS", 0, "identity", 1)],
        [("PRINCIPALS", 0, "kind", 0)],
        [("PRINCIPALS", 0, "kind", 5)],
        [("PRINCIPALS", 0, "tag_count", NONE)],
        [("PRINCIPAL_TABLE", 0, "value", 0x7FFFFFFF)],
        [("ACCOUNTS", 0, "id_len", 65)],
        [("ACCOUNTS", 0, "level_count", NONE)],
        [("SETS", 0, "value", 0)],
        [("SETS", 0, "value", NONE)],
        [("RULES", 0, "flags", 0)],
        [("RULES", 0, "flags", 0xFFFF)],
        [("RULES", 0, "block", NONE - 1)],
        [("RULES", 0, "statement", NONE)],
        [("RULES", 0, "resources", NONE), ("RULES", 0, "flags", 4)],
        [("ACTIONS", 0, "service", NONE)],
        [("SERVICES", 0, "name", NONE)],
        [("PATTERNS", 0, "kind", 0)],
        [("PATTERNS", 0, "kind", 6)],
        [("PATTERNS", 0, "len", NONE)],
        [("PIECES", 0, "key", 0x7FFFFFFF)],
        [("BLOCKS", 0, "tests", NONE)],
        [("TESTS", 0, "key", NONE)],
        [("TESTS", 0, "value_type", 9)],
        [("TESTS", 0, "qualifier", 3)],
        [("TESTS", 0, "value_count", NONE)],
        [("NETWORKS", 0, "family", 5)],
        [("NETWORKS", 0, "prefix", 33)],
        [("INSTANTS", 0, "nanos", 10**9)],
        [("KEYS", 0, "name_len", NONE)],
        [("KEY_TABLE", 0, "value", NONE)],
        [("TAGS", 0, "key", NONE)],
        [("POLICY_NAMES", 0, "name", NONE)],
        [("STATEMENT_NAMES", 0, "policy", NONE)],
        [("RESOURCE_POLICIES", 0, "account", NONE)],
        [("RESOURCE_POLICIES", 0, "set", 1)],
    ],
    ids=lambda changes: "-".join(f"{section}.{field}={value}" for section, _, field, value in changes),
)
def test_record_when_it_points_outside_then_the_image_is_refused(changes: list[tuple[str, int, str, int]]) -> None:
    assert "damaged" in _refused(changed_image(*changes)) or "outside" in _refused(changed_image(*changes))


def test_table_when_it_has_no_free_slot_then_the_image_is_refused() -> None:
    number = [name for name, _ in SECTIONS].index("KEY_TABLE")
    _, _, _, count = SECTION.struct.unpack_from(image_bytes(), HEADER.struct.size + number * SECTION.struct.size)
    data = changed_image(*(("KEY_TABLE", slot, "value", 1) for slot in range(count)))

    assert "tables" in _refused(data)


@pytest.mark.parametrize("size", [0, 3, 5, 6])
def test_table_when_its_size_is_no_power_of_two_then_the_image_is_refused(size: int) -> None:
    number = [name for name, _ in SECTIONS].index("KEY_TABLE")
    assert "tables" in _refused(_with_section(number, "count", size))


def test_image_when_the_bytes_change_afterwards_then_it_does_not() -> None:
    data = bytearray(image_bytes())
    loaded = core.Image.from_bytes(data)
    before = explain(request(context={"app:number": "3"}), loaded)
    data[:] = b"\0" * len(data)

    assert explain(request(context={"app:number": "3"}), loaded) == before
    assert before.decision is Decision.ALLOW


def test_image_when_read_from_a_file_then_the_file_may_change(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(image_bytes())
    with path.open("r+b") as file:
        loaded = core.Image.from_fd(file.fileno(), len(image_bytes()))
        file.truncate(0)

    assert loaded.revision == image().revision
    assert explain(request(), loaded) == explain(request())


def test_image_when_the_file_is_shorter_or_unreadable_then_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(image_bytes()[:-1])
    with path.open("rb") as file, pytest.raises(ImageError):
        core.Image.from_fd(file.fileno(), len(image_bytes()))
    with path.open("ab") as file, pytest.raises(ImageError):
        core.Image.from_fd(file.fileno(), 10)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ImageError):
            core.Image.from_fd(folder, 100)
    finally:
        os.close(folder)


@pytest.mark.parametrize("size", [0, 2**31, 2**40, 2**64 - 1])
def test_image_when_the_size_is_impossible_then_it_is_refused(size: int) -> None:
    with pytest.raises(ImageError):
        core.Image.from_fd(0, size)


@pytest.mark.parametrize("data", [b"", b"x", b"{}", b"IAMIMAGE", b"\0" * 4096, b"\x7fELF" + b"\0" * 5000])
def test_image_when_it_is_something_else_then_it_is_refused(data: bytes) -> None:
    _refused(data)


def test_image_when_made_without_bytes_then_it_is_refused() -> None:
    with pytest.raises(TypeError):
        core.Image()
    for nothing in (None, "text", 5, [1, 2]):
        with pytest.raises(TypeError):
            core.Image.from_bytes(nothing)  # type: ignore[arg-type]


def test_image_when_given_as_any_kind_of_bytes_then_it_is_the_same() -> None:
    whole = image_bytes()
    for kind in (bytes, bytearray, memoryview):
        assert core.Image.from_bytes(kind(whole)).revision == image().revision
    with pytest.raises(ImageError):
        core.Image.from_bytes(memoryview(whole)[:100])


def test_image_when_its_attributes_are_set_then_it_refuses() -> None:
    with pytest.raises(AttributeError):
        image().revision = "0"  # type: ignore[misc]


def test_strings_when_they_hold_no_utf8_then_explaining_goes_on() -> None:
    number = [name for name, _ in SECTIONS].index("STRINGS")
    _, _, offset, count = SECTION.struct.unpack_from(image_bytes(), HEADER.struct.size + number * SECTION.struct.size)
    place, packed = field_place("POLICY_NAMES", 0, "name")
    (name,) = struct.unpack_from(packed, image_bytes(), place)
    data = bytearray(image_bytes())
    data[offset + name] = 0xFF
    loaded = core.Image.from_bytes(with_checksum(data))

    assert 0 <= name < count
    assert core.explain(loaded, request(context={"app:number": "3"}), seconds=NOW, nanos=0).decision is Decision.ALLOW


def test_field_when_read_back_then_it_is_what_was_packed() -> None:
    assert read_field("PRINCIPALS", 0, "kind") in range(1, 5)
