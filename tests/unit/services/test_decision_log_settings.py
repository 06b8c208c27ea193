# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.errors import SettingsError
from sidecar.services.decision_log_settings import DecisionLogSettings, format_bytes, parse_decision_log_settings

DEFAULTS: dict[str, Any] = {
    "decision_log": "off",
    "mode": "best-effort",
    "allows": "1",
    "denials": "1",
    "mask": (),
    "file_bytes": "64MiB",
    "files": "5",
    "spill_bytes": "256MiB",
    "buffer_bytes": "4MiB",
}


def parse(**stated: Any) -> DecisionLogSettings | None:
    return parse_decision_log_settings(**{**DEFAULTS, **stated})


def test_settings_when_nothing_is_stated_then_there_is_no_log() -> None:
    assert parse() is None


def test_settings_when_a_file_is_named_then_the_defaults_count() -> None:
    settings = parse(decision_log="/var/log/decisions.json")

    assert settings is not None
    assert settings.file == Path("/var/log/decisions.json")
    assert not settings.is_required
    assert (settings.allows, settings.denials) == (1.0, 1.0)
    assert settings.masks.is_empty
    assert (settings.file_bytes, settings.files) == (64 << 20, 5)
    assert (settings.spill_bytes, settings.buffer_bytes) == (256 << 20, 4 << 20)


def test_settings_when_everything_is_stated_then_it_counts() -> None:
    settings = parse(
        decision_log="stdout",
        mode="required",
        allows="0.01",
        denials="0.5",
        mask=["userIdentity.arn"],
        file_bytes="1073741824",
        files="1",
        spill_bytes="0",
        buffer_bytes="5 mib",
    )

    assert settings is not None
    assert settings.file is None
    assert settings.is_required
    assert (settings.allows, settings.denials) == (0.01, 0.5)
    assert not settings.masks.is_empty
    assert (settings.file_bytes, settings.files) == (1 << 30, 1)
    assert (settings.spill_bytes, settings.buffer_bytes) == (0, 8 << 20)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"decision_log": ""}, "names no file"),
        ({"decision_log": "/var/log/"}, "names no file"),
        ({"decision_log": ".."}, "names no file"),
        ({"decision_log": "a\0b"}, "names no file"),
        ({"mode": "maybe"}, "`maybe` is unknown"),
        ({"mode": "required"}, "the decision log is off"),
        ({"allows": "2"}, "`decision_log_allows`: `2` is no share"),
        ({"allows": "1.5"}, "is no share"),
        ({"allows": "nan"}, "is no share"),
        ({"denials": "-0.5"}, "`decision_log_denials`: `-0.5` is no share"),
        ({"denials": "1%"}, "is no share"),
        ({"mask": ["nothing"]}, "is no field"),
        ({"file_bytes": "64MB"}, "`decision_log_file_bytes`: `64MB` is no number of bytes"),
        ({"file_bytes": "1KiB"}, "is not between 1MiB and 1024GiB"),
        ({"file_bytes": "-1"}, "is no number of bytes"),
        ({"file_bytes": ""}, "is no number of bytes"),
        ({"files": "0"}, "`decision_log_files`: `0` is not between 1 and 1000"),
        ({"files": "five"}, "is no whole number"),
        ({"spill_bytes": "1"}, "is below 1MiB"),
        ({"spill_bytes": "none"}, "is no number of bytes"),
        ({"buffer_bytes": "1KiB"}, "is not between 256KiB and 1GiB"),
        ({"buffer_bytes": "2GiB"}, "is not between"),
        ({"decision_log": "stdout", "mode": "required", "buffer_bytes": "1MiB"}, "no room for the records of a large"),
    ],
)
def test_settings_when_a_value_cannot_be_used_then_that_is_said_though_the_log_is_off(
    stated: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        parse(**stated)


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (1023, "1023"), (1024, "1KiB"), (3 << 30, "3GiB")])
def test_bytes_when_formatted_then_the_largest_whole_unit_is_taken(count: int, text: str) -> None:
    assert format_bytes(count) == text
