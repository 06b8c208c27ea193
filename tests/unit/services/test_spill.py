# SPDX-License-Identifier: Apache-2.0
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.model.errors import SettingsError
from sidecar.services.spill import MAX_BLOCK_BYTES, Spill
from tests.unit.services.test_record_sink import full_disk

MIB = 1 << 20


@contextmanager
def opened(folder: Path, max_bytes: int = 16 * MIB) -> Iterator[Spill]:
    spill = Spill(folder=folder, max_bytes=max_bytes)
    spill.open()
    try:
        yield spill
    finally:
        spill.close()


def block(number: int, size: int = 100) -> bytes:
    return (b"%d " % number).ljust(size, b".")


def drain(spill: Spill) -> list[bytes]:
    found = []
    while (first := spill.read()) is not None:
        found.append(first)
        spill.advance()
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spill"))


def test_spill_when_blocks_are_kept_then_they_come_back_in_order_and_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "spill"
    with opened(folder) as spill:
        assert spill.is_empty
        assert all(spill.append(block(number)) for number in range(100))
        assert spill.waiting_bytes > 100 * 100

        assert drain(spill) == [block(number) for number in range(100)]
        assert spill.is_empty
        assert spill.waiting_bytes == spill.damaged_bytes == 0
        assert segments(folder) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_spill_when_read_and_written_by_turns_then_the_order_stays(tmp_path: Path) -> None:
    with opened(tmp_path / "spill", MIB) as spill:
        found = []
        for number in range(3000):
            assert spill.append(block(number, 1000))
            if number % 3:
                found += [spill.read()]
                spill.advance()
            if number % 500 == 0:
                found += drain(spill)
        found += drain(spill)

    assert found == [block(number, 1000) for number in range(3000)]


def test_spill_when_a_block_was_read_and_not_done_with_then_it_comes_again(tmp_path: Path) -> None:
    with opened(tmp_path / "spill") as spill:
        spill.append(block(1))
        assert spill.read() == spill.read() == block(1)
    with opened(tmp_path / "spill") as spill:
        assert drain(spill) == [block(1)]


def test_spill_when_the_process_starts_again_then_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "spill", MIB) as spill:
        for number in range(500):
            spill.append(block(number, 1000))
        for _ in range(100):
            spill.read()
            spill.advance()
    assert {stat.S_IMODE(path.stat().st_mode) for path in segments(tmp_path / "spill")} == {0o600}
    with opened(tmp_path / "spill", MIB) as spill:
        assert not spill.is_empty
        spill.append(block(500, 1000))

        assert drain(spill) == [block(number, 1000) for number in range(100, 501)]


def test_spill_when_it_is_full_then_it_takes_no_more_until_there_is_room(tmp_path: Path) -> None:
    with opened(tmp_path / "spill", MIB) as spill:
        count = 0
        while spill.append(block(count, 1000)):
            count += 1
        on_disk = sum(path.stat().st_size for path in segments(tmp_path / "spill"))
        assert MIB * 0.9 < on_disk <= MIB
        found = []
        for _ in range(count // 4):
            found.append(spill.read())
            spill.advance()
        assert spill.append(block(count, 1000))

        assert found + drain(spill) == [block(number, 1000) for number in range(count + 1)]


def test_spill_when_it_may_keep_nothing_then_it_makes_nothing_but_still_reads(tmp_path: Path) -> None:
    with opened(tmp_path / "spill", 0) as spill:
        assert not spill.append(b"x")
        assert spill.read() is None
    assert not (tmp_path / "spill").exists()
    with opened(tmp_path / "spill") as spill:
        spill.append(block(1))
    with opened(tmp_path / "spill", 0) as spill:
        assert not spill.append(b"x")
        assert drain(spill) == [block(1)]


def test_spill_when_a_block_is_too_long_then_it_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "spill", 64 * MIB) as spill:
        assert not spill.append(bytes(MAX_BLOCK_BYTES + 1))
        assert spill.append(bytes(MAX_BLOCK_BYTES))
        assert spill.read() == bytes(MAX_BLOCK_BYTES)


@pytest.mark.parametrize("cut", [1, 99, 100, 104, 107])
def test_spill_when_a_crash_tore_its_end_then_all_before_it_is_there(tmp_path: Path, cut: int) -> None:
    with opened(tmp_path / "spill") as spill:
        for number in range(10):
            spill.append(block(number))
    (path,) = segments(tmp_path / "spill")
    os.truncate(path, path.stat().st_size - cut)

    with opened(tmp_path / "spill") as spill:
        assert drain(spill) == [block(number) for number in range(9)]
        assert spill.damaged_bytes == 108 - cut
        spill.append(block(10))
        assert drain(spill) == [block(10)]


def test_spill_when_a_segment_is_damaged_then_the_next_one_follows(tmp_path: Path) -> None:
    with opened(tmp_path / "spill", MIB) as spill:
        for number in range(300):
            spill.append(block(number, 1000))
    first, *_ = segments(tmp_path / "spill")
    data = bytearray(first.read_bytes())
    per_segment = (len(data) - 16) // 1008
    data[16 + 50 * 1008 + 500] ^= 1
    first.write_bytes(data)

    with opened(tmp_path / "spill", MIB) as spill:
        assert drain(spill) == [block(number, 1000) for number in (*range(50), *range(per_segment, 300))]
        assert spill.damaged_bytes == (per_segment - 50) * 1008


@pytest.mark.parametrize(
    ("content", "damaged"),
    [(b"", 0), (b"IAMSPIL1", 8), (b"x" * 40, 40), (b"IAMSPIL1" + bytes(8) + bytes(64), 64)],
)
def test_spill_when_a_segment_holds_something_else_then_it_is_given_up(
    tmp_path: Path, content: bytes, damaged: int
) -> None:
    (tmp_path / "spill").mkdir()
    (tmp_path / "spill" / "0000000000000007.spill").write_bytes(content)

    with opened(tmp_path / "spill") as spill:
        assert drain(spill) == []
        assert spill.damaged_bytes == damaged
        spill.append(block(1))
        assert [path.name for path in segments(tmp_path / "spill")] == ["0000000000000008.spill"]


def test_spill_when_the_place_in_a_segment_cannot_be_then_it_is_read_from_its_beginning(tmp_path: Path) -> None:
    with opened(tmp_path / "spill") as spill:
        spill.append(block(1))
    (path,) = segments(tmp_path / "spill")
    data = bytearray(path.read_bytes())
    data[8:16] = b"\xff" * 8
    path.write_bytes(data)

    with opened(tmp_path / "spill") as spill:
        assert drain(spill) == [block(1)]


def test_spill_when_the_disk_is_full_then_the_blocks_before_and_after_are_whole(tmp_path: Path) -> None:
    with opened(tmp_path / "spill") as spill:
        with full_disk(8), pytest.raises(OSError, match="File too large"):
            spill.append(block(0))
        assert spill.is_empty
        assert segments(tmp_path / "spill") == []
        with full_disk(50), pytest.raises(OSError, match="File too large"):
            spill.append(block(0))
        assert spill.is_empty
        spill.append(block(1))
        with full_disk(200), pytest.raises(OSError, match="File too large"):
            spill.append(block(2))
        spill.append(block(3))

        assert drain(spill) == [block(1), block(3)]
        assert spill.damaged_bytes == 0


def test_spill_when_another_uses_the_folder_then_it_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "spill"), pytest.raises(SettingsError, match="in use by another sidecar"):
        Spill(folder=tmp_path / "spill", max_bytes=MIB).open()


def test_spill_when_the_folder_cannot_be_made_then_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="cannot be used"):
        Spill(folder=tmp_path / "file" / "spill", max_bytes=MIB).open()
    with pytest.raises(SettingsError, match="cannot be used"):
        Spill(folder=tmp_path / "file", max_bytes=MIB).open()
