# SPDX-License-Identifier: Apache-2.0
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from sidecar.model.errors import SettingsError
from sidecar.services.audit import AuditFile, NullAudit, RecordedAudit
from sidecar.services.log import NullLog


def make(path: Path, dropped: list[int] | None = None) -> RecordedAudit:
    counted = [] if dropped is None else dropped
    return RecordedAudit(
        AuditFile(path, log=NullLog(), on_drop=lambda: counted.append(1)), now=lambda: 1_800_000_000_123_456_789
    )


def test_record_when_written_then_it_is_one_line_of_json_with_its_time(tmp_path: Path) -> None:
    audit = make(tmp_path / "audit.jsonl")

    audit.record({"event": "mfa.device_enabled", "user_arn": "arn:…:user/ada\n"})
    audit.record({"event": "second"})

    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "time": "2027-01-15T08:00:00.123Z",
        "event": "mfa.device_enabled",
        "user_arn": "arn:…:user/ada\n",
    }
    assert json.loads(lines[1])["event"] == "second"
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_record_when_the_file_was_moved_away_then_a_new_one_begins(tmp_path: Path) -> None:
    audit = make(tmp_path / "audit.jsonl")
    audit.record({"event": "first"})
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit.jsonl.1")
    audit.record({"event": "second"})

    assert "first" in (tmp_path / "audit.jsonl.1").read_text()
    assert "second" in (tmp_path / "audit.jsonl").read_text()


def test_record_when_it_cannot_be_written_then_the_next_one_says_how_many_are_missing(tmp_path: Path) -> None:
    folder, dropped = tmp_path / "folder", list[int]()
    folder.mkdir()
    audit = make(folder / "audit.jsonl", dropped)
    assert list(folder.iterdir()) == []
    (folder / "audit.jsonl").mkdir()
    for _ in range(3):
        audit.record({"event": "lost"})
    (folder / "audit.jsonl").rmdir()
    audit.record({"event": "kept"})
    audit.record({"event": "next"})

    records = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert len(dropped) == 3
    assert records[0]["dropped_before"] == 3
    assert "dropped_before" not in records[1]


def test_records_when_many_threads_write_then_no_line_is_torn(tmp_path: Path) -> None:
    audit = make(tmp_path / "audit.jsonl")

    def write() -> None:
        for _ in range(10):
            audit.record({"event": "x" * 500})

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 60


def test_file_when_it_cannot_be_written_then_that_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("folder", "none/audit", "pipe", "link"):
        with pytest.raises(SettingsError, match="cannot be written"):
            make(tmp_path / name)


def test_null_audit_when_told_then_it_keeps_nothing() -> None:
    NullAudit().record({"event": "x"})
