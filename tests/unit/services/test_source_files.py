# SPDX-License-Identifier: Apache-2.0
"""
Reading a source from a directory or an archive, and noticing that it has changed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.model.errors import PolicySyntaxError, SourceUnavailableError
from sidecar.services import source_files
from sidecar.services.source_files import fingerprint, read_source

FILES = {
    "accounts/main.json": b'{"UserDetailList": []}',
    "accounts/other.yaml": b"UserDetailList: []\n",
    "organization.json": b"{}",
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


ARCHIVES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "source.tar": lambda path, files: make_tar(path, files, "w"),
    "source.tar.gz": make_tar,
    "source.tgz": make_tar,
    "source.zip": make_zip,
}

archives = pytest.mark.parametrize("name", ARCHIVES)


# A directory.


def test_directory_gives_its_files_by_name(tmp_path: Path) -> None:
    assert read_source(write(tmp_path, FILES)) == FILES


def test_directory_lists_what_is_not_used_without_reading_it(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "notes.txt": b"secret", "backup/a.json": b"x", "accounts/old/a.json": b"x"})
    assert read_source(tmp_path) == {**FILES, "notes.txt": b"", "backup/": b"", "accounts/old/": b""}


def test_directory_leaves_out_hidden_files(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, ".git/config": b"x", ".hidden.json": b"x", "accounts/.swp.json": b"x"})
    assert read_source(tmp_path) == FILES


def config_map(root: Path, version: str, files: dict[str, bytes]) -> None:
    """Lay a volume out as Kubernetes does, replacing what is there in one step."""
    write(root / f"..{version}", files)
    link = root / "..data_tmp"
    link.symlink_to(f"..{version}")
    link.rename(root / "..data")
    for name in {name.partition("/")[0] for name in files}:
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"..data/{name}")


def test_directory_when_mounted_from_a_config_map_is_read(tmp_path: Path) -> None:
    config_map(tmp_path, "2026_01", FILES)
    assert read_source(tmp_path) == FILES
    before = fingerprint(tmp_path)
    config_map(tmp_path, "2026_02", {**FILES, "organization.json": b'{"id": 1}'})
    assert read_source(tmp_path)["organization.json"] == b'{"id": 1}'
    assert fingerprint(tmp_path) != before


def test_directory_when_it_is_a_link_itself_is_read(tmp_path: Path) -> None:
    write(tmp_path / "real", FILES)
    (tmp_path / "link").symlink_to("real")
    assert read_source(tmp_path / "link") == FILES


@pytest.mark.parametrize("name", ["organization.json", "accounts/more.json"])
def test_link_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside.json"
    outside.write_bytes(b"{}")
    root = write(tmp_path / "source", {"accounts/main.json": b"{}"})
    (root / name).symlink_to(outside)
    with pytest.raises(PolicySyntaxError) as caught:
        read_source(root)
    assert caught.value.problems[0].file == name
    assert "leads out of the source" in caught.value.message


def test_folder_of_accounts_when_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"main.json": b"{}"})
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "accounts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PolicySyntaxError, match="leads out"):
        read_source(tmp_path / "source")


def test_file_that_is_none_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    os.mkfifo(tmp_path / "resource-policies.json")
    with pytest.raises(PolicySyntaxError, match="not a regular file"):
        read_source(tmp_path)


def test_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "resource-policies.json").symlink_to("gone.json")
    with pytest.raises(SourceUnavailableError, match=r"resource-policies\.json` cannot be read: no such file"):
        read_source(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_file_without_permission_is_named(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "organization.json").chmod(0)
    with pytest.raises(SourceUnavailableError, match=r"organization\.json` cannot be read: permission denied"):
        read_source(tmp_path)


def test_source_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        read_source(tmp_path / "gone")


def test_source_that_is_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policies.json").write_bytes(b"{}")
    with pytest.raises(PolicySyntaxError, match="neither a directory nor an archive") as caught:
        read_source(tmp_path / "policies.json")
    assert ".tar.gz" in caught.value.help


def test_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_FILE_BYTES", 20)
    with pytest.raises(PolicySyntaxError, match=r"`accounts/main\.json` has more than 20 bytes"):
        read_source(write(tmp_path, FILES))


def test_files_that_are_too_large_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_TOTAL_BYTES", 30)
    with pytest.raises(PolicySyntaxError, match="more than 30 bytes together"):
        read_source(write(tmp_path, FILES))


def test_files_that_are_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_FILES", 2)
    with pytest.raises(PolicySyntaxError, match="more than 2 files"):
        read_source(write(tmp_path, FILES))


def test_directory_when_it_changes_once_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, FILES)
    read_files = source_files._read_files
    calls = 0

    def change_once(path: Path) -> dict[str, bytes]:
        nonlocal calls
        calls += 1
        files = read_files(path)
        if calls == 1:
            write(tmp_path, {"organization.json": b'{"new": 1}'})
        return files

    monkeypatch.setattr(source_files, "_read_files", change_once)
    assert read_source(tmp_path)["organization.json"] == b'{"new": 1}'
    assert calls == 2


def test_directory_when_it_never_comes_to_rest_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILES)
    read_files = source_files._read_files
    calls = 0

    def change(path: Path) -> dict[str, bytes]:
        nonlocal calls
        calls += 1
        files = read_files(path)
        write(tmp_path, {"organization.json": b" " * calls})
        return files

    monkeypatch.setattr(source_files, "_read_files", change)
    with pytest.raises(SourceUnavailableError, match="changes while it is read"):
        read_source(tmp_path)


# Archives.


@archives
def test_archive_gives_its_files_by_name(tmp_path: Path, name: str) -> None:
    assert read_source(ARCHIVES[name](tmp_path / name, FILES)) == FILES


@archives
def test_archive_when_packed_with_its_folder_or_a_dot_gives_the_same(tmp_path: Path, name: str) -> None:
    for prefix in ("acme/", "./", "./acme/"):
        files = {f"{prefix}{key}": content for key, content in FILES.items()}
        assert read_source(ARCHIVES[name](tmp_path / name, files)) == FILES


@archives
def test_archive_leaves_out_hidden_files_and_lists_unused_ones(tmp_path: Path, name: str) -> None:
    more = {**FILES, ".git/x": b"x", "accounts/._main.json": b"x", "__MACOSX/._a": b"x", "notes.txt": b"x"}
    assert read_source(ARCHIVES[name](tmp_path / name, more)) == {**FILES, "notes.txt": b""}


@archives
@pytest.mark.parametrize(
    "inner", ["../organization.json", "/organization.json", "accounts/../../x.json", "a\\b.json", "c:/x.json"]
)
def test_archive_with_a_name_that_leads_out_is_refused(tmp_path: Path, name: str, inner: str) -> None:
    archive = ARCHIVES[name](tmp_path / name, {**FILES, inner: b"{}"})
    with pytest.raises(PolicySyntaxError, match="leads out of the archive"):
        read_source(archive)


@archives
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_a_file_twice_is_refused(tmp_path: Path, name: str) -> None:
    archive = ARCHIVES[name](tmp_path / name, {**FILES, "./organization.json": b"{}"})
    with pytest.raises(PolicySyntaxError, match=r"`organization\.json` stands twice"):
        read_source(archive)


@archives
def test_archive_with_too_large_a_file_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_FILE_BYTES", 20)
    with pytest.raises(PolicySyntaxError, match="more than 20 bytes"):
        read_source(ARCHIVES[name](tmp_path / name, FILES))


@archives
def test_archive_with_too_many_files_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_FILES", 2)
    with pytest.raises(PolicySyntaxError, match="more than 2 files"):
        read_source(ARCHIVES[name](tmp_path / name, FILES))


@archives
def test_archive_when_damaged_gives_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    sound = ARCHIVES[name](tmp_path / name, FILES).read_bytes()
    chance = random.Random(1)
    for _ in range(200):
        damaged = bytearray(sound)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / name).write_bytes(damaged[: chance.choice([len(sound), chance.randrange(len(sound))])])
        with contextlib.suppress(PolicySyntaxError):
            read_source(tmp_path / name)


@archives
@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b", b"PK\x03\x04"])
def test_archive_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PolicySyntaxError, match="is no archive"):
        read_source(tmp_path / name)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_tar_with_a_link_or_a_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "source.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("accounts/main.json")
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(PolicySyntaxError, match=r"is a link|is not a regular file"):
        read_source(path)


def test_tar_that_unpacks_to_too_much_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "MAX_TOTAL_BYTES", 1024)
    monkeypatch.setattr(source_files, "_MAX_ARCHIVE_OVERHEAD", 0)
    archive = make_tar(tmp_path / "source.tgz", {"notes.txt": b"\0" * 10_000_000, **FILES})
    assert archive.stat().st_size < 20_000
    with pytest.raises(PolicySyntaxError, match="unpacks to more than 1024 bytes"):
        read_source(archive)


def test_tar_with_garbage_behind_its_compressed_part_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "source.tgz", FILES)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:700]))
    with pytest.raises(PolicySyntaxError, match="damaged"):
        read_source(path)


@pytest.mark.parametrize("name", ["source.tar", "source.tgz"])
def test_tar_with_a_damaged_header_inside_loses_no_file_in_silence(tmp_path: Path, name: str) -> None:
    path = ARCHIVES[name](tmp_path / name, FILES)
    plain = path.read_bytes() if name.endswith(".tar") else gzip.decompress(path.read_bytes())
    place = plain.index(b"organization.json")
    damaged = plain[:place] + b"O" + plain[place + 1 :]
    path.write_bytes(damaged if name.endswith(".tar") else gzip.compress(damaged))
    with pytest.raises(PolicySyntaxError, match="damaged"):
        read_source(path)


@pytest.mark.parametrize("name", ["source.tar", "source.tgz"])
def test_tar_when_another_is_appended_is_refused(tmp_path: Path, name: str) -> None:
    first = ARCHIVES[name](tmp_path / name, {"accounts/main.json": b"{}"}).read_bytes()
    second = ARCHIVES[name](tmp_path / name, {"organization.json": b"{}"}).read_bytes()
    (tmp_path / name).write_bytes(first + second)
    with pytest.raises(PolicySyntaxError, match="goes on behind its end"):
        read_source(tmp_path / name)


def test_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "source.zip"
    with zipfile.ZipFile(path, "w") as packed:
        member = zipfile.ZipInfo("organization.json")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(member, "/etc/passwd")
    with pytest.raises(PolicySyntaxError, match="is not a regular file"):
        read_source(path)


def test_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "source.zip", {"organization.json": b"{}"})
    data = bytearray(path.read_bytes())
    # The flag of an encrypted member, in its own header and in the directory.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(PolicySyntaxError, match="is encrypted"):
        read_source(path)


def test_zip_that_says_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "source.zip", {"organization.json": b" " * 5000})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(PolicySyntaxError, match="damaged"):
        read_source(path)


# Changes.


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "organization.json").write_bytes(b"{  }"),
        lambda root: (root / "accounts" / "new.json").write_bytes(b"{}"),
        lambda root: (root / "organization.json").unlink(),
        lambda root: (root / "organization.json").rename(root / "resource-policies.json"),
        lambda root: os.utime(root / "organization.json", ns=(1, 1)),
        lambda root: (write(root, {"new": b"{}"}) / "new").rename(root / "organization.json"),
        lambda root: (root / "notes.txt").write_bytes(b""),
    ],
)
def test_fingerprint_changes_with_the_source(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root = write(tmp_path / "source", FILES)
    before = fingerprint(root)
    assert fingerprint(root) == before
    change(root)
    assert fingerprint(root) != before


def test_fingerprint_does_not_change_with_what_is_not_read(tmp_path: Path) -> None:
    root = write(tmp_path, {**FILES, "notes.txt": b"a", ".git/x": b"a"})
    before = fingerprint(root)
    write(root, {"notes.txt": b"abc", ".git/x": b"abc", ".new": b""})
    assert fingerprint(root) == before


def test_fingerprint_of_an_archive_changes_with_it(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "source.zip", FILES)
    before = fingerprint(archive)
    make_zip(archive, {**FILES, "organization.json": b"{ }"})
    assert fingerprint(archive) != before


def test_fingerprint_of_what_is_not_there_changes_when_it_comes(tmp_path: Path) -> None:
    root = tmp_path / "source"
    before = fingerprint(root)
    assert fingerprint(root) == before
    write(root, FILES)
    assert fingerprint(root) != before
