# SPDX-License-Identifier: Apache-2.0
"""
How a sidecar is connected to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import grpc
import grpc.aio

#: A decision may be asked for again: asking changes nothing. The deadline of the call holds for all tries together.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "sidecar.v1.AuthorizationService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.02s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)

_OPTIONS: tuple[tuple[str, object], ...] = (
    # A sidecar is next door: what the environment says of proxies is for others.
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # One that is started anew is back in a moment.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """
    Material for TLS, in PEM; a Unix socket takes none.

    Attributes:
        ca: Whom to trust; None for those whom grpcio trusts.
        certificate: The client's own, where the sidecar asks for one.
        key: Its key.
        server_name: Name in the sidecar's certificate, where it is not the address.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str = ""


def open_channel(target: str, tls: Tls | None) -> grpc.Channel:
    """Return a channel to *target*, ``HOST:PORT`` or ``unix:PATH``; it connects when it is first used."""
    if tls is None or target.startswith("unix:"):
        return grpc.insecure_channel(target, options=_OPTIONS)
    return grpc.secure_channel(target, _credentials(tls), options=_options(tls))


def open_async_channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    """Return a channel for asyncio to *target*; it connects when it is first used."""
    if tls is None or target.startswith("unix:"):
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, _credentials(tls), options=_options(tls))


def bearer(session_token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call by whoever holds a session."""
    return (("authorization", f"Bearer {session_token}"),)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)


def _options(tls: Tls) -> tuple[tuple[str, object], ...]:
    return (*_OPTIONS, ("grpc.ssl_target_name_override", tls.server_name)) if tls.server_name else _OPTIONS
