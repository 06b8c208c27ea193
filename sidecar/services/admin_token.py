# SPDX-License-Identifier: Apache-2.0
"""
The state directory and the local administrator's token in it.

Who can read ``admin.token`` is the administrator; so nobody else may be able to.
"""

from __future__ import annotations

import errno
import hmac
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe

from sidecar.model.errors import AuthenticationError, SettingsError

#: Name of the file inside the state directory.
TOKEN_FILE = "admin.token"  # noqa: S105 - the name of a file, not a secret
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_SCHEME = "bearer "
_HELP = (
    "send `authorization: Bearer TOKEN`: the token of a session, or that of the administrator, which is in admin.token"
    " in the state directory"
)


def prepare_state_dir(path: Path) -> None:
    """
    Make the state directory, or see that the one that is there can be trusted.

    Raises:
        SettingsError: It cannot be made or written, or others may write to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except FileExistsError:
        raise SettingsError(
            f"state directory `{path}` is not a directory", help="name another one with --state-dir"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"state directory `{path}` cannot be made: {os.strerror(error.errno or 0).lower()}",
            help="name a directory of your own with --state-dir",
        ) from None
    if status.st_mode & 0o022:
        raise SettingsError(
            f"state directory `{path}` can be written by others",
            help="take their right away with chmod 700, or name a directory below it with --state-dir",
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(
            f"state directory `{path}` cannot be written", help="name a directory of your own with --state-dir"
        )


def create_admin_token(state_dir: Path, *, new_token: Callable[[int], str] = token_urlsafe) -> str:
    """
    Return the administrator's token, made at the first start.

    The file appears whole or not at all, with mode 0600, whatever is interrupted.

    Args:
        new_token: Gives URL-safe text of as many random bytes.

    Raises:
        SettingsError: The file cannot be made or read, or others may read it.
    """
    path = state_dir / TOKEN_FILE
    if not path.exists():
        draft = state_dir / f".{TOKEN_FILE}.{token_urlsafe(6)}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(new_token(_TOKEN_BYTES) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                # A link never replaces: of two first starts at the same time, one wins and both read the same.
                try:
                    os.link(draft, path)
                except FileExistsError:
                    pass
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(
                f"`{path}` cannot be made: {os.strerror(error.errno or 0).lower()}",
                help="see that the state directory can be written",
            ) from None
    return read_admin_token(path)


def read_admin_token(path: Path) -> str:
    """
    Return the token in *path*.

    Raises:
        SettingsError: It cannot be read, holds no token, or others may read it too.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SettingsError(f"`{path}` is a symbolic link", help="put the token file itself there") from None
        what = os.strerror(error.errno or 0).lower()
        raise SettingsError(
            f"token file `{path}` cannot be read: {what}",
            help="it is admin.token in the state directory of the running sidecar; name it with --token-file",
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"token file `{path}` is not a regular file")
        if status.st_mode & 0o077:
            raise SettingsError(
                f"token file `{path}` can be read by others",
                help="delete it, so that a new one is made at the next start",
            )
        if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            raise SettingsError(f"token file `{path}` belongs to another user")
        text = file.read(1024).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(text):
        raise SettingsError(
            f"token file `{path}` holds no token", help="delete it, so that a new one is made at the next start"
        )
    return text


class AdminToken:
    """
    Recognizes the administrator.

    Thread-safety: immutable.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode("ascii")

    def verify_token(self, token: str) -> None:
        """
        Check what was presented as the administrator's token, in constant time.

        Raises:
            AuthenticationError: It is another.

        >>> AdminToken("x" * 43).verify_token("x" * 43)
        """
        presented = token.encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(presented, self._token):
            raise AuthenticationError("the token is not known here", help=_HELP)


def bearer_token(header: str | bytes | None) -> str:
    """
    Return the token in the value of an ``authorization`` header.

    Raises:
        AuthenticationError: There is none, or it is of another scheme.

    >>> bearer_token("Bearer 4711")
    '4711'
    """
    if header is None:
        raise AuthenticationError("the call carries no credential", help=_HELP)
    value = header.decode("latin-1") if isinstance(header, bytes) else header
    if not value.lower().startswith(_SCHEME):
        raise AuthenticationError("the credential is no bearer token", help=_HELP)
    return value[len(_SCHEME) :].strip()
