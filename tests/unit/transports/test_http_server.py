# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import socket
import stat
from pathlib import Path

import httpx
import pytest

from sidecar.model.errors import SettingsError
from sidecar.services.metrics import PrometheusMetrics
from sidecar.transports.addresses import TcpAddress, UnixAddress
from sidecar.transports.http_server import Connections, HttpListener, build_application


def fetch(path: str, *, method: str = "GET", reason: str = "", accept: str = "*/*") -> httpx.Response:
    application = build_application(registry=PrometheusMetrics().registry, not_ready_because=lambda: reason)

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://sidecar") as client:
            return await client.request(method, path, headers={"accept": accept})

    return asyncio.run(run())


def test_readiness_when_something_is_missing_then_503_with_the_reason() -> None:
    response = fetch("/readyz", reason="no snapshot")

    assert (response.status_code, response.text) == (503, "no snapshot\n")


def test_readiness_when_nothing_is_missing_then_200() -> None:
    assert (fetch("/readyz").status_code, fetch("/readyz").text) == (200, "ok\n")


def test_liveness_when_nothing_is_ready_then_200_all_the_same() -> None:
    assert fetch("/livez", reason="no snapshot").status_code == 200


def test_metrics_when_scraped_then_the_format_is_the_one_asked_for() -> None:
    plain = fetch("/metrics")
    modern = fetch("/metrics", accept="application/openmetrics-text; version=1.0.0")

    assert plain.headers["content-type"].startswith("text/plain")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
    assert "sidecar_build_info" in plain.text


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 405)])
def test_anything_else_when_asked_then_it_is_not_served(path: str, method: str, status: int) -> None:
    assert fetch(path, method=method).status_code == status


def test_listener_when_started_then_it_serves_until_stopped() -> None:
    application = build_application(registry=PrometheusMetrics().registry, not_ready_because=lambda: "")
    listener = HttpListener(address=TcpAddress("127.0.0.1", 0), application=application)
    address = listener.start()
    try:
        assert httpx.get(f"http://{address}/livez", trust_env=False).status_code == 200
        with pytest.raises(SettingsError, match="in use"):
            HttpListener(address=address, application=application).start()
    finally:
        listener.stop()

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/livez", trust_env=False)


@pytest.mark.parametrize(
    "said", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_listener_when_somebody_keeps_a_connection_then_it_is_ended(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.transports.http_server._ShortLivedProtocol.lifetime", 0.2)
    application = build_application(registry=PrometheusMetrics().registry, not_ready_because=lambda: "")
    listener = HttpListener(address=TcpAddress("127.0.0.1", 0), application=application)
    address = listener.start()
    assert isinstance(address, TcpAddress)
    try:
        with socket.create_connection((address.host, address.port), timeout=60) as connection:
            connection.sendall(said)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(4096):
                    received += piece
    finally:
        listener.stop()

    assert received.startswith(b"HTTP/1.1 200 OK") == said.endswith(b"\r\n\r\n")


def test_listener_when_it_is_on_a_unix_socket_then_the_socket_has_its_mode_and_goes_with_it(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "authz.sock", 0o660)
    application = build_application(registry=PrometheusMetrics().registry, not_ready_because=lambda: "")
    connections = Connections(are_short_lived=False, keep_alive=60)
    listener = HttpListener(address=address, application=application, connections=connections)
    assert listener.start() == address
    try:
        assert stat.S_IMODE(address.path.stat().st_mode) == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(address.path))) as client:
            assert [client.get("http://x/livez").status_code for _ in range(2)] == [200, 200]
        with pytest.raises(SettingsError, match="the address is in use"):
            HttpListener(address=address, application=application).start()
    finally:
        listener.stop()

    assert not address.path.exists()
