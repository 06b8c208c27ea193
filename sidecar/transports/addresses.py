# SPDX-License-Identifier: Apache-2.0
"""
Addresses to listen on, and taking them without ever sharing one with another process.
"""

from __future__ import annotations

import errno
import grp
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from sidecar.model.errors import SettingsError

#: Longest path that fits into an address of a Unix socket.
_MAX_UNIX_PATH = 107
#: Connections that the system may hold for us until they are taken; it has a limit of its own, too.
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """
    A numeric address and port.

    Attributes:
        host: An IP address without brackets.
        port: 0 lets the system choose.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine (or pod) can connect."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """
    A socket in the file system.

    Attributes:
        mode: Permission bits of the socket.
        group: Name of the group that it is given to; empty for that of the process.
    """

    path: Path
    mode: int = 0o600
    group: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """
    Read ``HOST:PORT``, ``[HOST]:PORT`` or ``unix:PATH[?mode=0660&group=NAME]``.

    Raises:
        SettingsError: It is none of these.

    >>> str(parse_address("localhost:9192")), str(parse_address("[::1]:0"))
    ('127.0.0.1:9192', '[::1]:0')
    >>> oct(parse_address("unix:/run/sidecar.sock?mode=0660").mode)
    '0o660'
    """
    if text.startswith("unix:"):
        return _parse_unix(text)
    host, colon, port = text.rpartition(":")
    help = "write HOST:PORT with a numeric host, or unix:PATH"
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"`{text}` is no address", help=help)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise SettingsError(f"`{text}` is no address", help=help) from None
    return TcpAddress(str(ip), int(port))


def _parse_unix(text: str) -> UnixAddress:
    path, _, query = text.removeprefix("unix:").partition("?")
    if not path or len(os.fsencode(path)) > _MAX_UNIX_PATH:
        raise SettingsError(
            f"`{text}` is no address", help=f"a socket's path has 1 to {_MAX_UNIX_PATH} bytes; write unix:PATH"
        )
    mode, group = 0o600, ""
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "mode" and len(value) in (3, 4) and all(digit in "01234567" for digit in value):
            mode = int(value, 8) & 0o777
        elif key == "group" and value:
            group = value
        else:
            raise SettingsError(
                f"`{key}={value}` of `{text}` is unknown", help="after the path may stand ?mode=0660&group=NAME"
            )
    if group:
        try:
            grp.getgrnam(group)
        except KeyError:
            raise SettingsError(f"there is no group `{group}`", help=f"it is named by `{text}`") from None
    return UnixAddress(Path(path).absolute(), mode, group)


def ensure_free(address: Address) -> None:
    """
    See that nobody listens on *address*, and remove the socket that a dead process left there.

    Raises:
        SettingsError: It is in use, or cannot be listened on.
    """
    if isinstance(address, UnixAddress):
        _ensure_unix_free(address)
    elif address.port:
        bind_tcp(address).close()


def bind_tcp(address: TcpAddress) -> socket.socket:
    """
    Return a socket bound to *address*, which no other process shares.

    Raises:
        SettingsError: It is in use, or cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Connections of an earlier process that are closing do not count; one that listens does.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from None
    return listener


def bind(address: Address) -> socket.socket:
    """
    Return a listening socket on *address*, which no other process shares.

    A Unix socket has its mode and group from the moment it can be seen, so this is for the beginning of a process,
    before others make files.

    Raises:
        SettingsError: It is in use, or cannot be listened on.
    """
    if isinstance(address, TcpAddress):
        return bind_tcp(address)
    ensure_free(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with guarded_socket_file(address):
            listener.bind(str(address.path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from None
    except SettingsError:
        listener.close()
        raise
    return listener


def bound_address(listener: socket.socket, address: Address) -> Address:
    """Return *address* with the port that the system chose for *listener*, where it was to choose one."""
    return address if isinstance(address, UnixAddress) else TcpAddress(address.host, listener.getsockname()[1])


@contextmanager
def guarded_socket_file(address: UnixAddress) -> Iterator[None]:
    """
    Have the socket made inside the block come into being closed to everybody else, then open it as told.

    The mask of new files belongs to the process, so this is for its beginning, before others make files.
    """
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
    try:
        if address.group:
            os.chown(address.path, -1, grp.getgrnam(address.group).gr_gid)
        os.chmod(address.path, address.mode)
    except OSError as error:
        raise _cannot_listen(address, error) from None


def remove_socket_file(address: UnixAddress) -> None:
    """Remove the socket of a listener that has ended."""
    try:
        if stat.S_ISSOCK(address.path.lstat().st_mode):
            address.path.unlink()
    except OSError:
        return


def _ensure_unix_free(address: UnixAddress) -> None:
    try:
        status = address.path.lstat()
    except FileNotFoundError:
        if not address.path.parent.is_dir():
            raise SettingsError(
                f"cannot listen on `{address}`: there is no directory `{address.path.parent}`",
                help="make it, or name another path",
            ) from None
        return
    except OSError as error:
        raise _cannot_listen(address, error) from None
    if not stat.S_ISSOCK(status.st_mode):
        raise SettingsError(
            f"cannot listen on `{address}`: something else is there", help="move it away, or name another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(address.path))
        except ConnectionRefusedError:
            address.path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise _cannot_listen(address, error) from None
    raise _cannot_listen(address, OSError(errno.EADDRINUSE, ""))


def _cannot_listen(address: Address, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"cannot listen on `{address}`: the address is in use",
            help="end the process that listens there, or name another address",
        )
    return SettingsError(
        f"cannot listen on `{address}`: {os.strerror(error.errno or 0).lower()}", help="name another address"
    )
