# SPDX-License-Identifier: Apache-2.0
"""
The keys that session tokens are sealed with, in a file that several sidecars may share.

A new key begins to seal a while after it was made, so that every sidecar knows it by then; an old one goes on opening
until the last token sealed with it is over.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any

from sidecar.model.errors import LimitExceededError, SettingsError

#: Name of the file inside the state directory.
SESSION_KEY_FILE = "session.keys"
#: SPEC: STS, GetSessionToken: no session is longer than 36 hours.
MAX_SESSION_MS = 36 * 60 * 60 * 1000
#: Time after which a new key begins to seal: by then every sidecar that shares the file has looked at it.
SEALS_AFTER_MS = 60 * 1000
#: What is added before a key is dropped: sidecars look once a second, and their clocks differ.
_MARGIN_MS = 60 * 60 * 1000
#: Keys that a file may hold: as many as can be looked at, and far more than a day of rotating makes.
MAX_KEYS = 16
_VERSION = 1
_ID_BYTES, _KEY_BYTES = 4, 32
_MAX_TEXT = 64 * 1024
_ID = re.compile(r"[0-9a-f]{8}")
_MAKE = "delete it, so that a new one is made at the next start; every session ends by that"


@dataclass(frozen=True, slots=True)
class SessionKey:
    """
    One key.

    Attributes:
        id: 4 bytes, which stand in each token.
        seal: What tokens are sealed with: 32 bytes for AES-256-GCM.
        secret: What the secret access keys of sessions are derived with: 32 bytes, which only issuing needs.
        created_at_ms: Milliseconds since the epoch.
        seals_from_ms: When it begins to seal; it opens from the beginning.
    """

    id: bytes
    seal: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    created_at_ms: int
    seals_from_ms: int


@dataclass(frozen=True, slots=True)
class SessionKeyring:
    """
    The keys of one file, the newest first.

    Attributes:
        keys: At least one.
    """

    keys: tuple[SessionKey, ...]

    def sealing(self, now_ms: int) -> SessionKey:
        """Return the key that seals now."""
        begun = [key for key in self.keys if key.seals_from_ms <= now_ms]
        # A clock that was set back leaves none that has begun: the one that begins first will do.
        return begun[0] if begun else self.keys[-1]

    def find(self, id: bytes) -> SessionKey | None:
        """Return the key of that id."""
        return next((key for key in self.keys if key.id == id), None)

    def needed_until_ms(self, key: SessionKey) -> int | None:
        """Return when the last token sealed with *key* is over; None while it seals, or is yet to."""
        later = [other.seals_from_ms for other in self.keys if other.seals_from_ms > key.seals_from_ms]
        return min(later) + MAX_SESSION_MS + _MARGIN_MS if later else None


class SessionKeyFile:
    """
    Keys in a file that only its owner may read.

    Thread-safety: immutable.
    """

    def __init__(
        self,
        path: Path,
        *,
        new_bytes: Callable[[int], bytes] = token_bytes,
    ) -> None:
        """
        Args:
            new_bytes: Gives as many random bytes.
        """
        self.path = path
        self._new_bytes = new_bytes

    def create(self, now_ms: int) -> None:
        """
        Make the file with a first key, unless it is there; it appears whole or not at all.

        Raises:
            SettingsError: It cannot be made.
        """
        if os.path.lexists(self.path):
            return
        draft = self._write_draft([self._new_key(now_ms, seals_from_ms=now_ms)])
        try:
            # A link never replaces: of two first starts at the same time, one wins and both read the same.
            try:
                os.link(draft, self.path)
            except FileExistsError:
                pass
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            draft.unlink(missing_ok=True)

    def fingerprint(self) -> tuple[int, ...]:
        """Return what changes whenever the file does; empty where it cannot be looked at."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return ()
        return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid)

    def read(self) -> SessionKeyring:
        """
        Return the keys in the file.

        Raises:
            SettingsError: It cannot be read, holds no keys, or others may read it too.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            what = "it is a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0).lower()
            raise SettingsError(
                f"session key file `{self.path}` cannot be read: {what}",
                help="name the file itself with --session-keys",
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"session key file `{self.path}` is not a regular file")
            if status.st_mode & 0o077:
                raise SettingsError(
                    f"session key file `{self.path}` can be read by others",
                    help="take that away with chmod 600, and make new keys with `iam-sidecar session-keys rotate"
                    " --drop-old`: somebody may have read these",
                )
            if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
                raise SettingsError(f"session key file `{self.path}` belongs to another user")
            text = file.read(_MAX_TEXT + 1)
        return parse_session_keys(text, f"session key file `{self.path}`")

    def rotate(self, now_ms: int, *, drop_old: bool = False) -> tuple[SessionKey, tuple[str, ...]]:
        """
        Add a key that begins to seal in a while, and drop those that no token can need any more.

        Args:
            drop_old: Drop every other key and seal with the new one at once, which ends every session.

        Returns:
            The new key, and the ids of those that were dropped.

        Raises:
            SettingsError: The file cannot be read or written.
            LimitExceededError: There are too many keys that tokens may still need.
        """
        with self._alone():
            ring = self.read()
            new = self._new_key(now_ms, seals_from_ms=now_ms if drop_old else now_ms + SEALS_AFTER_MS)
            kept = [] if drop_old else [key for key in ring.keys if not _is_over(ring, key, now_ms)]
            if len(kept) >= MAX_KEYS:
                raise LimitExceededError(
                    f"`{self.path}` has {len(kept)} keys that tokens may still need, and there may be {MAX_KEYS}",
                    help="wait until the oldest is over, as `iam-sidecar session-keys list` shows, or drop them all"
                    " with --drop-old, which ends every session",
                )
            # Two keys that would begin at the same moment have no order.
            if kept and kept[0].seals_from_ms >= new.seals_from_ms:
                new = self._new_key(now_ms, seals_from_ms=kept[0].seals_from_ms + 1)
            draft = self._write_draft([new, *kept])
            try:
                os.replace(draft, self.path)
                _sync_folder(self.path.parent)
            except OSError as error:
                draft.unlink(missing_ok=True)
                raise self._unwritable(error) from None
        return new, tuple(key.id.hex() for key in ring.keys if key not in kept)

    def _new_key(self, now_ms: int, *, seals_from_ms: int) -> SessionKey:
        new = self._new_bytes
        return SessionKey(new(_ID_BYTES), new(_KEY_BYTES), new(_KEY_BYTES), now_ms, seals_from_ms)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from changing the file: of two changes at a time, one would lose its key."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write_draft(self, keys: Sequence[SessionKey]) -> Path:
        draft = self.path.with_name(f".{self.path.name}.{token_hex(6)}")
        try:
            # Root may make and rotate what a service owns, and the service goes on reading it.
            owner = (self.path if self.path.exists() else self.path.parent).stat()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.write(format_session_keys(keys))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._unwritable(error) from None
        return draft

    def _unwritable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"session key file `{self.path}` cannot be written: {os.strerror(error.errno or 0).lower()}",
            help="run this as its owner, or name another file with --session-keys",
        )


def format_session_keys(keys: Sequence[SessionKey]) -> bytes:
    """Return *keys* as the text of a file."""
    entries = [
        {
            "id": key.id.hex(),
            "seal": base64.b64encode(key.seal).decode("ascii"),
            "secret": base64.b64encode(key.secret).decode("ascii"),
            "created_at_unix_ms": key.created_at_ms,
            "seals_from_unix_ms": key.seals_from_ms,
        }
        for key in keys
    ]
    return json.dumps({"version": _VERSION, "keys": entries}, indent=2).encode("ascii") + b"\n"


def parse_session_keys(text: bytes, where: str) -> SessionKeyring:
    """
    Return the keys in *text*.

    Args:
        where: What errors call the text, which they never repeat.

    Raises:
        SettingsError: It holds no keys.
    """
    if len(text) > _MAX_TEXT:
        raise SettingsError(f"{where} is longer than {_MAX_TEXT} bytes", help=_MAKE)
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise SettingsError(f"{where} is no JSON", help=_MAKE) from None
    if not isinstance(document, dict) or document.keys() != {"version", "keys"}:
        raise SettingsError(f"{where} is no object with `version` and `keys`", help=_MAKE)
    if document["version"] != _VERSION or isinstance(document["version"], bool):
        raise SettingsError(f"{where} has another version than {_VERSION}", help="use the program that made it")
    entries = document["keys"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_KEYS + 1:
        raise SettingsError(f"{where} does not hold 1 to {MAX_KEYS} keys", help=_MAKE)
    keys = [_parse_key(entry, f"{where}: `keys[{place}]`") for place, entry in enumerate(entries)]
    for name, values in (("id", {key.id for key in keys}), ("seal", {key.seal for key in keys})):
        if len(values) < len(keys):
            raise SettingsError(f"{where} has two keys with the same `{name}`", help=_MAKE)
    return SessionKeyring(tuple(sorted(keys, key=lambda key: key.seals_from_ms, reverse=True)))


def _parse_key(entry: object, where: str) -> SessionKey:
    if not isinstance(entry, dict) or entry.keys() != {
        "id",
        "seal",
        "secret",
        "created_at_unix_ms",
        "seals_from_unix_ms",
    }:
        raise SettingsError(f"{where} does not have the members of a key", help=_MAKE)
    id = entry["id"]
    if not isinstance(id, str) or _ID.fullmatch(id) is None:
        raise SettingsError(f"{where}: `id` is not 8 hexadecimal digits in lower case", help=_MAKE)
    times = [_parse_time(entry, name, where) for name in ("created_at_unix_ms", "seals_from_unix_ms")]
    seal, secret = (_parse_bytes(entry, name, where) for name in ("seal", "secret"))
    return SessionKey(bytes.fromhex(id), seal, secret, *times)


def _parse_bytes(entry: Mapping[str, Any], name: str, where: str) -> bytes:
    value = entry[name]
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != _KEY_BYTES:
        raise SettingsError(f"{where}: `{name}` is not {_KEY_BYTES} bytes in base64", help=_MAKE)
    return data


def _parse_time(entry: Mapping[str, Any], name: str, where: str) -> int:
    value = entry[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise SettingsError(f"{where}: `{name}` is no number of milliseconds", help=_MAKE)
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a member stands there twice")
    return document


def _is_over(ring: SessionKeyring, key: SessionKey, now_ms: int) -> bool:
    until = ring.needed_until_ms(key)
    return until is not None and until <= now_ms


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
