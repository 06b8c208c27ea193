# SPDX-License-Identifier: Apache-2.0
"""
The files of a source, read from a directory or from one archive of it.

Nothing of an archive is unpacked to disk. Names that lead out of the source, links, and files that
grow beyond measure when they are unpacked are refused.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self

from sidecar.compile.problems import quote
from sidecar.compile.source import ACCOUNTS_FOLDER, MAX_FILE_BYTES, MAX_FILES, is_source_file
from sidecar.model.errors import PolicySyntaxError, Problem, Severity, SourceUnavailableError

MAX_TOTAL_BYTES = 512 * 1024 * 1024
#: What the headers and paddings of an archive may add to its content.
_MAX_ARCHIVE_OVERHEAD = 64 * 1024 * 1024
_ATTEMPTS = 3
_BLOCK = 64 * 1024

_ZIP_ENDINGS = (".zip",)
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")


def read_source(path: Path) -> dict[str, bytes]:
    """
    Return the content of the files of the source at *path*, by their names inside it.

    A file that no part of a source is made of is listed with empty content, so that it can be warned of.
    Hidden files are left out.

    Raises:
        SourceUnavailableError: Something cannot be read, or changes all the time.
        PolicySyntaxError: It is no source: a damaged archive, a name or a link that leads out of it, too large.
    """
    try:
        if path.is_dir():
            return _read_directory(path)
        if not path.exists():
            raise SourceUnavailableError(f"`{path}` does not exist", help="name a directory, or an archive of one")
        name = path.name.lower()
        if name.endswith(_ZIP_ENDINGS):
            return _read_zip(path)
        if name.endswith(_TAR_ENDINGS):
            return _read_tar(path)
    except OSError as error:
        what = error.filename if isinstance(error.filename, str) else str(path)
        why = os.strerror(error.errno).lower() if error.errno else "read error"
        raise SourceUnavailableError(f"`{what}` cannot be read: {why}") from error
    raise _refusal(
        path.name,
        f"`{path}` is neither a directory nor an archive",
        "archives end in " + ", ".join((*_TAR_ENDINGS, *_ZIP_ENDINGS)),
    )


def fingerprint(path: Path) -> bytes:
    """
    Return bytes that change when a file of the source at *path* is written, replaced, added or removed.

    Looks at names, sizes, times and inodes only, never at content. What cannot be looked at counts as not there.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        if path.is_dir():
            for name, file in _walk(path, os.path.realpath(path)):
                _digest_file(digest.update, name, file)
        else:
            _digest_file(digest.update, "", str(path))
    except (OSError, PolicySyntaxError) as error:
        digest.update(f"{type(error).__name__} {error}".encode("utf-8", "surrogateescape"))
    return digest.digest()


def _digest_file(update: Callable[[bytes], None], name: str, file: str) -> None:
    if name and not is_source_file(name):
        update(f"{name}\0".encode("utf-8", "surrogateescape"))
        return
    try:
        found = os.stat(file)
    except OSError as error:
        update(f"{name}\0{error.errno}\0".encode("utf-8", "surrogateescape"))
        return
    facts = (found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev, found.st_mode)
    update(f"{name}\0{facts}\0".encode("utf-8", "surrogateescape"))


def _refusal(name: str, message: str, help: str = "") -> PolicySyntaxError:
    """Return the error that refuses the whole source."""
    return PolicySyntaxError(message, problems=[Problem(Severity.ERROR, name, "$", message, help)], help=help)


# A directory.


def _read_directory(path: Path) -> dict[str, bytes]:
    before = fingerprint(path)
    for _ in range(_ATTEMPTS):
        try:
            files = _read_files(path)
        except FileNotFoundError:
            # Taken away between listing and reading: what is there now is read in the next attempt.
            if fingerprint(path) == before:
                raise
            files = None
        after = fingerprint(path)
        if files is not None and after == before:
            return files
        before = after
    raise SourceUnavailableError(f"`{path}` changes while it is read", help="try again when it has come to rest")


def _read_files(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    budget = _Budget(str(path))
    for name, file in _walk(path, os.path.realpath(path)):
        if not is_source_file(name):
            files[name] = b""
            continue
        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode):
            raise _refusal(name, f"{quote(name)} is not a regular file")
        budget.expect(name, found.st_size)
        with open(file, "rb") as stream:
            files[name] = budget.read(name, stream)
    return files


def _walk(path: Path, root: str) -> Iterator[tuple[str, str]]:
    """
    Yield name and path of each file, sorted; of folders only that of the accounts is entered.

    Kubernetes mounts a ConfigMap as links into a hidden folder beside them, so links are followed, but
    what a source uses must not come from outside of it.
    """
    count = 0
    for folder in ("", ACCOUNTS_FOLDER):
        try:
            entries = sorted(os.listdir(path / folder))
        except (FileNotFoundError, NotADirectoryError):
            if folder:
                continue
            raise
        for entry in entries:
            if entry.startswith("."):
                continue
            file = os.path.join(path, folder, entry)
            name = f"{folder}/{entry}" if folder else entry
            real = os.path.realpath(file)
            is_used = name == ACCOUNTS_FOLDER or is_source_file(name)
            if is_used and not real.startswith(root.rstrip("/") + "/"):
                raise _refusal(
                    name, f"{quote(name)} is a link that leads out of the source", "copy the file into the source"
                )
            if os.path.isdir(file):
                if name != ACCOUNTS_FOLDER:
                    yield f"{name}/", file
                continue
            count += 1
            if count > MAX_FILES:
                raise _refusal(str(path), f"more than {MAX_FILES} files")
            yield name, file


# What may be read.


class _Budget:
    """
    Counts what is read against the limits of one file and of the whole source.

    Thread-safety: confined to one call.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = MAX_TOTAL_BYTES

    def expect(self, name: str, size: int) -> None:
        """Refuse a file that says itself that it is too large."""
        if size > MAX_FILE_BYTES:
            raise _refusal(name, f"{quote(name)} has more than {MAX_FILE_BYTES} bytes", "split it into several pages")
        if size > self._left:
            raise _refusal(self._source, f"the files of the source have more than {MAX_TOTAL_BYTES} bytes together")

    def read(self, name: str, stream: IO[bytes]) -> bytes:
        """Return all of *stream*, whatever size it said it has."""
        data = stream.read(min(MAX_FILE_BYTES, self._left) + 1)
        self.expect(name, len(data))
        self._left -= len(data)
        return data


# Archives.


class _BoundedStream(io.RawIOBase):
    """
    What an archive unpacks to, refused when it is more than any source may be.

    Thread-safety: confined to one call.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, name: str, limit: int) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._left = limit

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to *size* bytes."""
        data = self._stream.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise _refusal(self._name, f"{quote(self._name)} unpacks to more than {MAX_TOTAL_BYTES} bytes")
        return data


def _inner_name(archive: str, name: str) -> str | None:
    """Return the clean name of a member of an archive, None for a hidden one."""
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":" or ".." in name.split("/"):
        raise _refusal(
            archive, f"{quote(name)} leads out of the archive", "pack the archive again from inside the directory"
        )
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or any(part.startswith(".") for part in parts):
        return None
    return "/".join(parts)


class _Unpacked:
    """
    Members of an archive by name.

    Everything may stand in one folder at the top, as it does when a directory is packed from outside.
    Thread-safety: confined to one call.
    """

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._files: dict[str, bytes] = {}
        self._budget = _Budget(archive)

    def add(self, name: str, size: int, open_member: Callable[[], IO[bytes]]) -> None:
        """Read one member if a source may use it."""
        if name in self._files:
            raise _refusal(self._archive, f"{quote(name)} stands twice in the archive")
        if len(self._files) >= MAX_FILES:
            raise _refusal(self._archive, f"more than {MAX_FILES} files")
        inside = name.partition("/")[2]
        if is_source_file(name) or is_source_file(inside):
            self._budget.expect(name, size)
            with open_member() as stream:
                self._files[name] = self._budget.read(name, stream)
        else:
            with open_member():
                self._files[name] = b""

    def files(self) -> dict[str, bytes]:
        """Return all members, sorted, without the folder that they all stand in."""
        folders = {name.partition("/")[0] if "/" in name else "" for name in self._files}
        if len(folders) == 1 and not folders & {"", ACCOUNTS_FOLDER}:
            return {name.partition("/")[2]: self._files[name] for name in sorted(self._files)}
        return {name: self._files[name] for name in sorted(self._files)}


def _read_tar(path: Path) -> dict[str, bytes]:
    archive = path.name
    unpacked = _Unpacked(archive)
    try:
        with open(path, "rb") as packed:
            stream: IO[bytes] | gzip.GzipFile = packed
            if not archive.lower().endswith(".tar"):
                stream = gzip.GzipFile(fileobj=packed)
            bounded = _BoundedStream(stream, archive, MAX_TOTAL_BYTES + _MAX_ARCHIVE_OVERHEAD)
            with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Member) as tar:
                for member in tar:
                    name = _inner_name(archive, member.name)
                    if name is None or member.isdir():
                        continue
                    if member.issym() or member.islnk():
                        raise _refusal(archive, f"{quote(name)} is a link", "pack the archive with `tar --dereference`")
                    if not member.isreg() or member.issparse():
                        raise _refusal(archive, f"{quote(name)} is not a regular file")
                    unpacked.add(name, member.size, lambda member=member: _tar_stream(tar, member))  # type: ignore[misc]
                _expect_end(archive, tar)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise _refusal(archive, f"{quote(archive)} is damaged, or is no archive: {str(error).lower()}") from error
    return unpacked.files()


class _Member(tarfile.TarInfo):
    """
    A member of a tar file, of which the next one must be sound too.

    The library takes a damaged header for the end of the archive, and would leave out what follows.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """Return the next member."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _expect_end(archive: str, tar: tarfile.TarFile) -> None:
    """Refuse an archive in which anything stands behind its end: it would be left out."""
    stream = tar.fileobj
    while rest := stream.read(_BLOCK):
        if rest.strip(b"\0"):
            raise _refusal(archive, f"{quote(archive)} goes on behind its end", "pack all files into one archive")


def _tar_stream(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise tarfile.ReadError("a member without content")
    return stream


def _read_zip(path: Path) -> dict[str, bytes]:
    archive = path.name
    unpacked = _Unpacked(archive)
    try:
        if path.stat().st_size > MAX_TOTAL_BYTES:
            raise _refusal(archive, f"{quote(archive)} has more than {MAX_TOTAL_BYTES} bytes")
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist():
                name = _inner_name(archive, member.orig_filename)
                if name is None or member.is_dir():
                    continue
                if member.flag_bits & 1:
                    raise _refusal(archive, f"{quote(name)} is encrypted", "pack the archive without a password")
                mode = member.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise _refusal(archive, f"{quote(name)} is not a regular file")
                unpacked.add(name, member.file_size, lambda member=member: packed.open(member))  # type: ignore[misc]
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # The archive itself sent the reader to a place that no file has.
        raise _refusal(archive, f"{quote(archive)} is damaged, or is no archive") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise _refusal(archive, f"{quote(archive)} is damaged, or is no archive: {str(error).lower()}") from error
    return unpacked.files()
