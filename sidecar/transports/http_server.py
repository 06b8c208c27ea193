# SPDX-License-Identifier: Apache-2.0
"""
Serving HTTP, and the small application of ``/metrics``, ``/livez`` and ``/readyz`` for Prometheus and kubelets.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sidecar.model.errors import SettingsError
from sidecar.transports.addresses import TcpAddress, bind_tcp

#: Connections that are served at the same time.
_MAX_CONNECTIONS = 64
#: Seconds that a start may take.
_START_TIMEOUT = 30.0


def build_application(*, registry: CollectorRegistry, not_ready_because: Callable[[], str]) -> Starlette:
    """
    Return the ASGI application.

    Args:
        registry: What ``/metrics`` shows.
        not_ready_because: Says what is missing before decisions can be given; empty if nothing is.
    """

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        reason = not_ready_because()
        return PlainTextResponse(f"{reason or 'ok'}\n", status_code=503 if reason else 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])


class _ShortLivedProtocol(H11Protocol):
    """
    HTTP on a connection that ends after a while, whatever it is used for.

    Whoever connects and says nothing, or little by little, keeps no place that a probe needs.

    Thread-safety: confined to the event loop.
    """

    lifetime: ClassVar[float] = 15.0
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and set the end."""
        super().connection_made(transport)
        self._end = self.loop.call_later(self.lifetime, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


class HttpListener:
    """
    An HTTP server on a thread and an event loop of its own.

    Thread-safety: ``start`` and ``stop`` belong to one thread.
    """

    def __init__(
        self,
        *,
        address: TcpAddress,
        application: ASGIApp,
        name: str = "http",
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """
        Args:
            name: What the listener is called in messages.
            trusted_proxies: Addresses whose ``X-Forwarded-For`` is believed.
        """
        self._address = address
        self._name = name
        config = uvicorn.Config(
            application,
            http=_ShortLivedProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            ws="none",
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def start(self) -> TcpAddress:
        """
        Listen, and return the address with the port that was taken.

        Raises:
            SettingsError: The address is in use or cannot be listened on.
        """
        listener = bind_tcp(self._address)
        bound = TcpAddress(self._address.host, listener.getsockname()[1])
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name=self._name, daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise SettingsError(f"the {self._name} listener on `{bound}` did not start")
            time.sleep(0.005)
        return bound

    def stop(self) -> None:
        """Take no more connections, and end."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=5)
