# SPDX-License-Identifier: Apache-2.0
"""The file of session keys: its form, rotation, several processes at it, and damage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.model.errors import LimitExceededError, SettingsError
from sidecar.services.sessions.keys import (
    MAX_KEYS,
    MAX_SESSION_MS,
    SEALS_AFTER_MS,
    SessionKeyFile,
    format_session_keys,
    parse_session_keys,
)
from tests.unit.services.test_devices import together

NOW_MS = 1_800_000_000_000
HOUR_MS = 60 * 60 * 1000


@pytest.fixture
def keys(tmp_path: Path) -> SessionKeyFile:
    """A file with one key."""
    keys = SessionKeyFile(tmp_path / "session.keys")
    keys.create(NOW_MS)
    return keys


def test_file_when_made_then_only_its_owner_may_read_it_and_it_stays(keys: SessionKeyFile) -> None:
    before = keys.path.read_bytes()
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert len({keys.read().keys[0].seal, keys.read().keys[0].secret}) == 2

    keys.create(NOW_MS + 1)

    assert keys.path.read_bytes() == before
    assert [path.name for path in keys.path.parent.iterdir()] == ["session.keys"]
    key = keys.read().sealing(NOW_MS)
    assert (len(key.id), len(key.seal), len(key.secret)) == (4, 32, 32)
    assert str(key.seal) not in repr(key)
    assert str(key.secret) not in repr(key)


def test_file_when_several_make_it_at_once_then_all_have_the_same(tmp_path: Path) -> None:
    files = [SessionKeyFile(tmp_path / "session.keys") for _ in range(8)]

    together(8, lambda place: files[place].create(NOW_MS))

    assert len({file.read().keys[0].id for file in files}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["session.keys"]


def test_rotation_when_made_then_the_new_key_seals_a_minute_later_and_the_old_one_opens(keys: SessionKeyFile) -> None:
    (old,) = keys.read().keys

    new, dropped = keys.rotate(NOW_MS)

    ring = keys.read()
    assert dropped == ()
    assert ring.keys == (new, old)
    assert ring.sealing(NOW_MS + SEALS_AFTER_MS - 1) == old
    assert ring.sealing(NOW_MS + SEALS_AFTER_MS) == new
    assert ring.find(old.id) == old
    assert ring.find(b"none") is None
    assert keys.path.stat().st_mode & 0o777 == 0o600


def test_rotation_when_a_key_can_be_needed_by_no_token_then_it_goes_and_not_before(keys: SessionKeyFile) -> None:
    (old,) = keys.read().keys
    new, _ = keys.rotate(NOW_MS)
    end = keys.read().needed_until_ms(old)
    assert end == NOW_MS + SEALS_AFTER_MS + MAX_SESSION_MS + HOUR_MS
    assert keys.read().needed_until_ms(new) is None

    _, dropped = keys.rotate(end - 1)
    assert dropped == ()
    _, dropped = keys.rotate(end)

    assert dropped == (old.id.hex(),)
    assert keys.read().find(new.id) == new


def test_rotation_when_the_old_ones_are_to_go_then_the_new_one_seals_at_once(keys: SessionKeyFile) -> None:
    (old,) = keys.read().keys

    new, dropped = keys.rotate(NOW_MS, drop_old=True)

    assert dropped == (old.id.hex(),)
    assert keys.read().keys == (new,)
    assert keys.read().sealing(NOW_MS) == new


def test_rotation_when_it_is_done_too_often_then_it_is_refused(keys: SessionKeyFile) -> None:
    for _ in range(MAX_KEYS - 1):
        keys.rotate(NOW_MS)
    with pytest.raises(LimitExceededError, match="16 keys"):
        keys.rotate(NOW_MS)
    ring = keys.read()
    assert len({key.seals_from_ms for key in ring.keys}) == MAX_KEYS

    keys.rotate(NOW_MS, drop_old=True)

    assert len(keys.read().keys) == 1


def test_rotation_when_many_do_it_at_once_then_no_key_is_lost(keys: SessionKeyFile) -> None:
    results = together(8, lambda _: keys.rotate(NOW_MS)[0].id)

    assert {key.id for key in keys.read().keys} >= set(results)
    assert len(keys.read().keys) == 9


def test_rotation_when_the_clock_was_set_back_then_a_key_still_seals(keys: SessionKeyFile) -> None:
    (old,) = keys.read().keys
    assert keys.read().sealing(NOW_MS - HOUR_MS) == old


def test_file_when_it_cannot_be_trusted_then_it_is_refused(keys: SessionKeyFile, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(keys.path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in (("link", "symbolic link"), ("pipe", "not a regular file"), ("none", "no such file")):
        with pytest.raises(SettingsError, match=words):
            SessionKeyFile(tmp_path / name).read()
    keys.path.chmod(0o640)
    with pytest.raises(SettingsError, match="can be read by others"):
        keys.read()


def test_file_when_its_folder_is_not_there_then_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written: no such file or directory"):
        SessionKeyFile(tmp_path / "none" / "session.keys").create(NOW_MS)


def test_fingerprint_when_the_file_changes_then_it_does_too(keys: SessionKeyFile) -> None:
    seen = {keys.fingerprint()}
    keys.rotate(NOW_MS)
    seen.add(keys.fingerprint())
    keys.path.chmod(0o640)
    seen.add(keys.fingerprint())
    keys.path.unlink()
    seen.add(keys.fingerprint())
    assert len(seen) == 4


def entry(**changes: object) -> dict[str, object]:
    key = "A" * 43 + "="
    return {
        "id": "0a1b2c3d",
        "seal": key,
        "secret": key,
        "created_at_unix_ms": 1,
        "seals_from_unix_ms": 1,
        **changes,
    }


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "no JSON"),
        ("[" * 5000, "no JSON"),
        ('{"version": 1, "version": 1, "keys": []}', "no JSON"),
        ("[]", "no object"),
        ('{"version": 1}', "no object"),
        (json.dumps({"version": 2, "keys": [entry()]}), "another version"),
        (json.dumps({"version": True, "keys": [entry()]}), "another version"),
        (json.dumps({"version": 1, "keys": []}), "1 to 16"),
        (json.dumps({"version": 1, "keys": [entry()] * 18}), "1 to 16"),
        (json.dumps({"version": 1, "keys": [entry(), entry(seal="B" * 43 + "=")]}), "same `id`"),
        (json.dumps({"version": 1, "keys": [entry(), entry(id="00000000")]}), "same `seal`"),
        (json.dumps({"version": 1, "keys": [entry(more=1)]}), "members of a key"),
        (json.dumps({"version": 1, "keys": [1]}), "members of a key"),
        (json.dumps({"version": 1, "keys": [entry(id="0A1B2C3D")]}), "hexadecimal"),
        (json.dumps({"version": 1, "keys": [entry(id=1)]}), "hexadecimal"),
        (json.dumps({"version": 1, "keys": [entry(seal="A" * 40)]}), "`seal` is not 32 bytes"),
        (json.dumps({"version": 1, "keys": [entry(secret=None)]}), "`secret` is not 32 bytes"),
        (json.dumps({"version": 1, "keys": [entry(seal="\u00e9")]}), "`seal` is not 32 bytes"),
        (json.dumps({"version": 1, "keys": [entry(seals_from_unix_ms=-1)]}), "milliseconds"),
        (json.dumps({"version": 1, "keys": [entry(created_at_unix_ms=1.5)]}), "milliseconds"),
        (" " * 70_000, "longer than"),
    ],
)
def test_text_when_it_holds_no_keys_then_it_is_refused_and_not_repeated(document: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        parse_session_keys(document.encode(), "the file")
    assert "A" * 20 not in str(caught.value) + caught.value.help


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
@example(json.dumps({"version": 1, "keys": [entry()]}))
def test_text_when_it_is_anything_then_nothing_but_our_error_comes(document: bytes | str) -> None:
    data = document.encode() if isinstance(document, str) else document
    try:
        ring = parse_session_keys(data, "the file")
    except SettingsError:
        return
    assert parse_session_keys(format_session_keys(ring.keys), "the file") == ring


def test_rotation_when_it_is_killed_then_the_file_is_whole(keys: SessionKeyFile) -> None:
    program = (
        "import sys; from pathlib import Path; from sidecar.services.sessions.keys import SessionKeyFile\n"
        "keys = SessionKeyFile(Path(sys.argv[1])); print(flush=True)\n"
        f"for number in range(int(sys.argv[2]), 10**9): keys.rotate({NOW_MS} + number * {2 * MAX_SESSION_MS})\n"
    )
    for run, delay in enumerate((0.0, 0.003, 0.01, 0.02)):
        # Each one begins later than all before it have come: what they have left is not needed any more.
        command = [sys.executable, "-c", program, str(keys.path), str(run * 10**6)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(delay + 0.001)
            process.kill()
        assert keys.read().keys
    # What the killed left behind keeps nobody from going on.
    keys.rotate(NOW_MS, drop_old=True)
    assert len(keys.read().keys) == 1
