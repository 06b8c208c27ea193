# SPDX-License-Identifier: Apache-2.0
import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from sidecar.model.errors import SettingsError
from sidecar.transports.addresses import (
    TcpAddress,
    UnixAddress,
    bind_tcp,
    ensure_free,
    guarded_socket_file,
    parse_address,
    remove_socket_file,
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("127.0.0.1:9192", TcpAddress("127.0.0.1", 9192)),
        ("localhost:0", TcpAddress("127.0.0.1", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("::1:80", TcpAddress("::1", 80)),
        ("0.0.0.0:1", TcpAddress("0.0.0.0", 1)),
        ("unix:/run/a.sock", UnixAddress(Path("/run/a.sock"))),
        ("unix:/run/a.sock?mode=660", UnixAddress(Path("/run/a.sock"), 0o660)),
    ],
)
def test_address_when_it_is_one_then_it_is_read(text: str, want: TcpAddress | UnixAddress) -> None:
    assert parse_address(text) == want


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9192",
        ":9192",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:٣",
        "example.com:80",
        "256.0.0.1:80",
        "unix:",
        "unix:" + "x" * 108,
        "unix:/a?mode=999",
        "unix:/a?mode=",
        "unix:/a?mode=10000",
        "unix:/a?group=",
        "unix:/a?group=no-such-group",
        "unix:/a?color=red",
    ],
)
def test_address_when_it_is_none_then_it_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_address(text)


def test_address_when_it_is_loopback_then_it_says_so() -> None:
    assert TcpAddress("127.1.2.3", 1).is_loopback
    assert TcpAddress("::1", 1).is_loopback
    assert not TcpAddress("0.0.0.0", 1).is_loopback
    assert not TcpAddress("192.0.2.1", 1).is_loopback


def test_tcp_when_somebody_listens_then_it_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(SettingsError, match="the address is in use"):
            ensure_free(address)
        with pytest.raises(SettingsError, match="the address is in use"):
            bind_tcp(address)
    ensure_free(address)


def test_tcp_when_it_is_not_ours_then_that_is_said() -> None:
    with pytest.raises(SettingsError, match="cannot assign requested address"):
        bind_tcp(TcpAddress("192.0.2.1", 0))


def test_unix_when_nobody_listens_any_more_then_the_socket_is_removed(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address.path))
        listener.listen()
        with pytest.raises(SettingsError, match="the address is in use"):
            ensure_free(address)
        assert address.path.exists()

    ensure_free(address)

    assert not address.path.exists()


def test_unix_when_something_else_is_there_then_it_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")

    with pytest.raises(SettingsError, match="something else is there"):
        ensure_free(UnixAddress(tmp_path / "file"))
    with pytest.raises(SettingsError, match="there is no directory"):
        ensure_free(UnixAddress(tmp_path / "nowhere" / "a.sock"))
    remove_socket_file(UnixAddress(tmp_path / "file"))
    remove_socket_file(UnixAddress(tmp_path / "nothing"))

    assert (tmp_path / "file").read_text() == "precious"


def test_unix_when_it_is_made_then_it_is_closed_to_others_from_the_beginning(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    address = UnixAddress(tmp_path / "a.sock", 0o660, group)
    mask = os.umask(0)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            with guarded_socket_file(address):
                listener.bind(str(address.path))
                assert stat.S_IMODE(address.path.stat().st_mode) == 0o600
            assert stat.S_IMODE(address.path.stat().st_mode) == 0o660
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    remove_socket_file(address)
    assert not address.path.exists()
