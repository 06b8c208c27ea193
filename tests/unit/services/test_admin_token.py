# SPDX-License-Identifier: Apache-2.0
import os
import stat
from pathlib import Path

import pytest

from sidecar.model.errors import AuthenticationError, SettingsError
from sidecar.services.admin_token import (
    AdminToken,
    bearer_token,
    create_admin_token,
    prepare_state_dir,
    read_admin_token,
)

TOKEN = "t" * 43


def test_state_dir_when_it_is_not_there_then_it_is_made_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "state"

    prepare_state_dir(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_state_dir_when_others_may_read_it_then_it_is_taken_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    prepare_state_dir(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_state_dir_when_others_may_write_to_it_then_it_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(SettingsError, match="can be written by others"):
        prepare_state_dir(tmp_path)


def test_state_dir_when_a_file_is_there_then_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="is not a directory"):
        prepare_state_dir(tmp_path / "file")
    with pytest.raises(SettingsError, match="cannot be made"):
        prepare_state_dir(tmp_path / "file" / "below")


def test_token_when_first_made_then_it_is_random_and_closed(tmp_path: Path) -> None:
    asked: list[int] = []

    def new_token(size: int) -> str:
        asked.append(size)
        return TOKEN

    assert create_admin_token(tmp_path, new_token=new_token) == TOKEN
    assert asked == [32]
    assert stat.S_IMODE((tmp_path / "admin.token").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["admin.token"]


def test_token_when_it_is_there_then_it_is_kept(tmp_path: Path) -> None:
    first = create_admin_token(tmp_path)

    assert create_admin_token(tmp_path) == first
    assert len(first) == 43


def test_token_when_another_process_makes_it_at_the_same_time_then_both_have_the_same(tmp_path: Path) -> None:
    others: list[str] = []

    def new_token(_size: int) -> str:
        if not others:
            others.append("")
            others[0] = create_admin_token(tmp_path, new_token=lambda _size: "o" * 43)
        return TOKEN

    assert create_admin_token(tmp_path, new_token=new_token) == others[0] == "o" * 43
    assert os.listdir(tmp_path) == ["admin.token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_token_when_others_can_read_it_then_it_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin.token"
    path.write_text(TOKEN)
    path.chmod(mode)

    with pytest.raises(SettingsError, match="can be read by others"):
        read_admin_token(path)


@pytest.mark.parametrize("content", ["", "short", TOKEN + "x", TOKEN[:-1] + "!", "\xe9" * 43])
def test_token_when_the_file_holds_none_then_it_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "admin.token"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(SettingsError, match="holds no token"):
        read_admin_token(path)


def test_token_when_it_is_a_link_or_nothing_then_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(SettingsError, match="symbolic link"):
        read_admin_token(tmp_path / "link")
    with pytest.raises(SettingsError, match="cannot be read: no such file or directory"):
        read_admin_token(tmp_path / "nothing")


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} ".encode()])
def test_authorization_when_it_carries_the_token_then_it_passes(header: str | bytes) -> None:
    AdminToken(TOKEN).verify_token(bearer_token(header))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN}\u00e9",
        b"Bearer \xff\xfe",
        f"Bearer {TOKEN} {TOKEN}",
    ],
)
def test_authorization_when_it_carries_anything_else_then_it_is_refused(header: str | bytes | None) -> None:
    with pytest.raises(AuthenticationError) as caught:
        AdminToken(TOKEN).verify_token(bearer_token(header))

    assert TOKEN not in str(caught.value)
