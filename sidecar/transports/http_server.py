# SPDX-License-Identifier: Apache-2.0
"""
Serving HTTP, and the small application of ``/metrics``, ``/livez`` and ``/readyz`` for Prometheus and kubelets.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from sidecar.transports.addresses import Address, UnixAddress, bind, bound_address, remove_socket_file

#: Connections that are served at the same time.
_MAX_CONNECTIONS = 64
#: Seconds after which a connection that nothing is asked on is ended.
_KEEP_ALIVE = 5
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


@dataclass(frozen=True, slots=True)
class Connections:
    """
    How connections are kept.

    Attributes:
        at_once: How many are served at the same time.
        keep_alive: Seconds after which one is ended that nothing is asked on.
        are_short_lived: Whether each ends after a while, whatever it is used for.
    """

    at_once: int = _MAX_CONNECTIONS
    keep_alive: int = _KEEP_ALIVE
    are_short_lived: bool = True


class HttpListener:
    """
    An HTTP server on a thread and an event loop of its own.

    Thread-safety: ``start`` and ``stop`` belong to one thread.
    """

    def __init__(
        self,
        *,
        address: Address,
        application: ASGIApp,
        name: str = "http",
        trusted_proxies: Sequence[str] = (),
        connections: Connections = Connections(),
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
            http=_ShortLivedProtocol if connections.are_short_lived else H11Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=connections.at_once,
            timeout_keep_alive=connections.keep_alive,
            timeout_graceful_shutdown=2,
            ws="none",
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def start(self) -> Address:
        """
        Listen, and return the address with the port that was taken; a Unix socket is for the beginning of a process.

        Raises:
            SettingsError: The address is in use or cannot be listened on.
        """
        listener = bind(self._address)
        bound = bound_address(listener, self._address)
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
            if isinstance(self._address, UnixAddress):
                remove_socket_file(self._address)
