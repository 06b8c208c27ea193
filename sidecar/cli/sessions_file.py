# SPDX-License-Identifier: Apache-2.0
"""
Sessions of the person at the terminal, kept in a file that nobody else can read.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from sidecar.client.sessions import Session
from sidecar.model.errors import SettingsError

_VERSION = 1
#: Far more than anybody keeps; a file that is larger is none of ours.
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """
    A session that is kept under a name.

    Attributes:
        address: Management listener that gave it.
        account: That was signed in to; empty for a role.
        user_name: Likewise.
        role_arn: Role that was assumed; empty for a user.
        role_session_name: Likewise.
        source: Profile that assumed it.
    """

    session: Session
    address: str
    account: str = ""
    user_name: str = ""
    role_arn: str = ""
    role_session_name: str = ""
    source: str = ""

    def with_token(self, session_token: str) -> Profile:
        """Return the same session with a token that says more."""
        return replace(self, session=replace(self.session, session_token=session_token))


def default_sessions_file(environment: Mapping[str, str]) -> Path:
    """
    Return where sessions are kept for whoever runs this.

    >>> str(default_sessions_file({"XDG_STATE_HOME": "/home/ada/state"}))
    '/home/ada/state/iam-sidecar/sessions.json'
    """
    state_home = environment.get("XDG_STATE_HOME", "")
    base = Path(state_home) if os.path.isabs(state_home) else Path(environment.get("HOME", "/")) / ".local" / "state"
    return base / "iam-sidecar" / "sessions.json"


class SessionsFile:
    """
    The profiles by name.

    The file is replaced as a whole, with mode 0600; who changes it holds a lock, so that two logins at the same time
    both count.

    Thread-safety: that of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str) -> Profile | None:
        """
        Return a profile.

        Raises:
            SettingsError: The file cannot be read, or others can.
        """
        return self._read().get(name)

    def names(self) -> list[str]:
        """
        Return the names of all profiles.

        Raises:
            SettingsError: The file cannot be read, or others can.
        """
        return sorted(self._read())

    def keep(self, name: str, profile: Profile) -> None:
        """
        Keep a profile in the place of the one of that name.

        Raises:
            SettingsError: The file cannot be written, or others can read it.
        """
        self._change(lambda profiles: profiles.update({name: profile}))

    def forget(self, name: str) -> None:
        """
        Delete a profile, if it is there.

        Raises:
            SettingsError: The file cannot be written, or others can read it.
        """

        def forget(profiles: dict[str, Profile]) -> None:
            profiles.pop(name, None)

        self._change(forget)

    def _change(self, change: Callable[[dict[str, Profile]], None]) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                profiles = self._read()
                change(profiles)
                self._write(profiles)
        except OSError as error:
            raise SettingsError(
                f"`{self.path}` cannot be written: {os.strerror(error.errno or 0).lower()}",
                help="name a file of your own with --sessions-file",
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path.with_name(f".{self.path.name}.lock"), flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, Profile]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return {}
            what = "it is a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0).lower()
            raise SettingsError(f"`{self.path}` cannot be read: {what}") from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"`{self.path}` is not a regular file")
            if status.st_mode & 0o077:
                raise SettingsError(
                    f"`{self.path}` can be read by others",
                    help="run `iam-sidecar logout --all` if they may have done so, and take the right away: chmod 600",
                )
            data = file.read(_MAX_BYTES + 1)
        try:
            return _profiles(data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise SettingsError(f"`{self.path}` is no file of sessions", help="delete it, and sign in again") from None

    def _write(self, profiles: dict[str, Profile]) -> None:
        text = json.dumps({"version": _VERSION, "profiles": {name: asdict(one) for name, one in profiles.items()}})
        draft = self.path.with_name(f".{self.path.name}.{token_hex(6)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)


def _profiles(data: bytes) -> dict[str, Profile]:
    """Return what stands in the file; raises any of several errors where that is something else."""
    if len(data) > _MAX_BYTES:
        raise ValueError("too long")
    document = json.loads(data)
    if document["version"] != _VERSION:
        raise ValueError("another version")
    return {name: _profile(one) for name, one in document["profiles"].items()}


def _profile(document: dict[str, Any]) -> Profile:
    session = Session(**document["session"])
    profile = Profile(**{**document, "session": session})
    expires_at_ms = session.expires_at_ms
    texts = [getattr(one, field.name) for one in (session, profile) for field in fields(one)]
    others = [text for text in texts if not isinstance(text, str)]
    if type(expires_at_ms) is not int or others != [expires_at_ms, session]:
        raise ValueError("no session")
    return profile
