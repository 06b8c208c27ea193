# SPDX-License-Identifier: Apache-2.0
"""Sealed seeds, their keys, and what becomes of them when keys are replaced."""

import base64
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import InternalError, SettingsError, SourceUnavailableError
from sidecar.services.seeds import KeyCommand, KeyFile, SealedSeed, SeedSealer, parse_keys
from tests.unit.services.test_devices import together

SEED = b"12345678901234567890"
SERIAL, USER = "arn:aws:iam::111122223333:mfa/phone", "arn:aws:iam::111122223333:user/ada"
KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    keys = KeyFile(tmp_path / "mfa.key")
    keys.create()
    return keys


def seal(sealer: SeedSealer) -> SealedSeed:
    return sealer.seal(SEED, serial_number=SERIAL, user_arn=USER)


def opened(sealer: SeedSealer, sealed: SealedSeed, serial_number: str = SERIAL, user_arn: str = USER) -> bytes:
    return sealer.open(sealed, serial_number=serial_number, user_arn=user_arn)


def test_key_file_when_made_then_only_its_owner_may_read_it(keys: KeyFile) -> None:
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    before = keys.path.read_bytes()
    keys.create()
    assert keys.path.read_bytes() == before
    assert [path.name for path in keys.path.parent.iterdir()] == ["mfa.key"]


def test_seed_when_sealed_then_it_can_be_opened_and_not_be_seen(keys: KeyFile) -> None:
    sealer = SeedSealer(keys)
    sealed, again = seal(sealer), seal(sealer)

    assert opened(sealer, sealed) == SEED
    assert sealed.sealed != again.sealed
    assert SEED not in sealed.sealed
    assert sealed.key_id == keys.read().current


def test_seed_when_moved_to_another_device_or_user_then_it_cannot_be_opened(keys: KeyFile) -> None:
    sealer = SeedSealer(keys)
    sealed = seal(sealer)
    for serial_number, user_arn in (
        (SERIAL + "2", USER),
        (SERIAL, USER + "2"),
        (SERIAL + "x", USER[1:]),
        (USER, SERIAL),
    ):
        with pytest.raises(InternalError):
            opened(sealer, sealed, serial_number, user_arn)


@pytest.mark.parametrize("at", [0, 11, 12, 20, -1])
def test_seed_when_changed_then_it_cannot_be_opened(keys: KeyFile, at: int) -> None:
    sealer = SeedSealer(keys)
    sealed = seal(sealer)
    broken = bytearray(sealed.sealed)
    broken[at] ^= 1
    with pytest.raises(InternalError):
        opened(sealer, sealed._replace(sealed=bytes(broken)))
    with pytest.raises(InternalError):
        opened(sealer, sealed._replace(sealed=sealed.sealed[:at]))


def test_keys_when_rotated_then_new_seeds_take_the_new_one_and_old_seeds_still_open(keys: KeyFile) -> None:
    sealer, elsewhere = SeedSealer(keys), SeedSealer(keys)
    old = seal(sealer)

    name = keys.add_key()

    new = seal(sealer)
    assert (new.key_id, sealer.current_key_id()) == (name, name)
    assert opened(elsewhere, new) == opened(elsewhere, old) == SEED
    assert keys.keep_keys([old.key_id]) == ()
    assert keys.keep_keys([]) == (old.key_id,)
    with pytest.raises(SourceUnavailableError, match=f"`{old.key_id}`"):
        opened(SeedSealer(keys), old)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_keys_when_several_rotate_at_once_then_no_key_is_lost(keys: KeyFile) -> None:
    names = together(8, lambda _: keys.add_key())

    assert set(names) < set(keys.read().keys)
    assert len(keys.read().keys) == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "holds no key"),
        (b"# only a comment\n\n", "holds no key"),
        (b"one", "line 1 holds no key"),
        (f"one {KEY} more".encode(), "line 1 holds no key"),
        (f"one {KEY}\ntwo {KEY[:-4]}\n".encode(), "line 2 holds no key"),
        (f"one {KEY[:-1]}\n".encode(), "line 1 holds no key"),
        (f"o/e {KEY}\n".encode(), "line 1 holds no key"),
        (f"{'x' * 65} {KEY}\n".encode(), "line 1 holds no key"),
        (f"one {KEY}\none {KEY}\n".encode(), "a second time"),
        (b"\xff" * 10, "line 1 holds no key"),
        (b"x" * 70_000, "larger than"),
    ],
)
def test_keys_when_the_text_holds_none_then_that_is_said_without_repeating_it(text: bytes, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        parse_keys(text, "key file `k`")
    assert KEY[:20] not in str(caught.value)


@given(st.binary(max_size=300))
def test_keys_when_the_text_is_anything_then_nothing_but_our_error_comes(text: bytes) -> None:
    try:
        assert parse_keys(text, "x").keys
    except SettingsError:
        pass


def test_keys_when_there_are_comments_and_blanks_then_the_first_key_seals() -> None:
    ring = parse_keys(f"# new\n\n b2  {KEY} # note\nb1\t{KEY}\n".encode(), "x")
    assert (ring.current, list(ring.keys)) == ("b2", ["b2", "b1"])


def test_key_file_when_others_may_read_it_then_it_is_refused(keys: KeyFile, tmp_path: Path) -> None:
    keys.path.chmod(0o640)
    with pytest.raises(SettingsError, match="read by others"):
        keys.read()
    keys.path.chmod(0o600)
    (tmp_path / "link").symlink_to(keys.path)
    with pytest.raises(SettingsError, match="symbolic link"):
        KeyFile(tmp_path / "link").read()
    with pytest.raises(SettingsError, match="no such file"):
        KeyFile(tmp_path / "none").read()
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(SettingsError, match="not a regular file"):
            KeyFile(tmp_path / name).read()
    with pytest.raises(SettingsError, match="cannot be written"):
        KeyFile(tmp_path / "nowhere" / "mfa.key").create()


def test_key_command_when_it_prints_keys_then_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "key file").write_text(f"one {KEY}\n")

    assert KeyCommand(f"cat '{tmp_path}/key file'").read().current == "one"


@pytest.mark.parametrize(
    ("command", "words"),
    [("false", "ended with status 1"), ("no-such-program-anywhere", "cannot be run"), ("true", "holds no key")],
)
def test_key_command_when_it_fails_then_that_is_said(command: str, words: str) -> None:
    with pytest.raises((SettingsError, SourceUnavailableError), match=words):
        KeyCommand(command).read()


@pytest.mark.parametrize("command", ["", "  ", "'"])
def test_key_command_when_it_is_none_then_it_is_refused(command: str) -> None:
    with pytest.raises(SettingsError):
        KeyCommand(command)


def test_key_command_when_it_runs_then_no_shell_does(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises((SettingsError, SourceUnavailableError)):
        KeyCommand(f"{sys.executable} -c 1; touch {marker}").read()
    assert not marker.exists()
