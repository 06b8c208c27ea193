# SPDX-License-Identifier: Apache-2.0
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.model.errors import SettingsError
from sidecar.services.record_sink import FileSink, OutputSink


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size*, which looks to a writer as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(sink: FileSink, text: str) -> None:
    assert sink.write(memoryview(text.encode())) == len(text)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_file_when_written_then_the_lines_are_there_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    sink = FileSink(path, max_bytes=1000, kept=2)
    write(sink, "one\n")
    write(sink, "two\n")
    sink.close()
    FileSink(path, max_bytes=1000, kept=2).close()

    assert path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_when_it_has_grown_then_it_is_put_aside_and_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    sink = FileSink(path, max_bytes=10, kept=2)
    for number in range(9):
        write(sink, f"line{number}\n"[-5:])
    sink.close()

    assert names(tmp_path) == ["decisions.json", "decisions.json.1", "decisions.json.2"]
    assert path.read_text() == "ine8\n"
    assert (tmp_path / "decisions.json.1").read_text() == "ine6\nine7\n"
    assert (tmp_path / "decisions.json.2").read_text() == "ine4\nine5\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_when_what_is_written_is_larger_than_a_file_may_be_then_it_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    sink = FileSink(path, max_bytes=10, kept=2)
    for _ in range(2):
        write(sink, "a longer line\n")
    sink.close()

    assert names(tmp_path) == ["decisions.json", "decisions.json.1"]


def test_file_when_it_cannot_be_put_aside_then_it_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    (tmp_path / "decisions.json.1").mkdir()
    sink = FileSink(path, max_bytes=10, kept=1)
    write(sink, "123456789\n")
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            write(sink, "more\n")
    (tmp_path / "decisions.json.1").rmdir()
    write(sink, "more\n")
    sink.close()

    assert path.read_text() == "more\n"
    assert (tmp_path / "decisions.json.1").read_text() == "123456789\n"


def test_file_when_it_is_moved_away_or_deleted_then_it_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    sink = FileSink(path, max_bytes=1000, kept=2)
    write(sink, "one\n")
    path.rename(tmp_path / "archived")
    write(sink, "two\n")
    assert (tmp_path / "archived").read_text() == "one\n"
    assert path.read_text() == "two\n"
    path.unlink()
    write(sink, "three\n")
    sink.close()

    assert path.read_text() == "three\n"


def test_file_when_it_is_truncated_in_place_then_it_goes_on_and_has_room(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    sink = FileSink(path, max_bytes=10, kept=2)
    write(sink, "12345678\n")
    os.truncate(path, 0)
    write(sink, "abcdefgh\n")
    sink.close()

    assert path.read_text() == "abcdefgh\n"
    assert names(tmp_path) == ["decisions.json"]


def test_file_when_its_folder_is_gone_for_a_while_then_it_comes_back_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(folder / "decisions.json", max_bytes=1000, kept=2)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        write(sink, "lost\n")
    folder.mkdir()
    write(sink, "two\n")
    sink.close()

    assert (folder / "decisions.json").read_text() == "two\n"


def test_file_when_the_disk_is_full_then_no_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    sink = FileSink(path, max_bytes=1 << 30, kept=2)
    write(sink, "x" * 4095 + "\n")
    with full_disk(5000):
        for _ in range(2):
            with pytest.raises(OSError, match="File too large"):
                write(sink, "y" * 1999 + "\n")
            assert path.stat().st_size == 4096
    write(sink, "after\n")
    sink.close()

    assert path.read_text() == "x" * 4095 + "\nafter\n"


def test_file_when_a_crash_tore_its_last_line_then_the_next_is_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    path.write_text("one\n{to")
    sink = FileSink(path, max_bytes=1000, kept=2)
    write(sink, "two\n")
    sink.close()

    assert path.read_text() == "one\n{to\ntwo\n"


def test_file_when_it_is_something_else_then_it_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()

    for name in ("pipe", "link", "folder", "nowhere/decisions.json"):
        with pytest.raises(SettingsError, match="cannot be written"):
            FileSink(tmp_path / name, max_bytes=1000, kept=2)
    with pytest.raises(SettingsError, match="it is no regular file"):
        FileSink(Path("/dev/null"), max_bytes=1000, kept=2)


def test_output_when_its_reader_is_slow_then_it_is_busy_and_nothing_is_lost() -> None:
    reading, writing = os.pipe()
    sink = OutputSink(writing)
    lines = memoryview(b"".join(b"line %d\n" % number for number in range(50_000)))
    rest = lines
    received = bytearray()
    was_busy = False
    while rest:
        taken = sink.write(rest)
        rest = rest[taken:]
        was_busy = was_busy or taken == 0
        if not taken or not rest:
            received += os.read(reading, 1 << 20)
    os.close(writing)
    while piece := os.read(reading, 1 << 20):
        received += piece
    os.close(reading)

    assert was_busy
    assert bytes(received) == bytes(lines)


def test_output_when_its_reader_is_gone_then_that_is_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = OutputSink(writing)

    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            sink.write(memoryview(b"line\n"))
    sink.close()
    os.close(writing)
