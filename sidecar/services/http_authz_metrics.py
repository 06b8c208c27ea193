# SPDX-License-Identifier: Apache-2.0
"""
What is counted of the requests of proxies that ask by HTTP.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter


class ProxyKind(StrEnum):
    """Which proxy asks, and for what."""

    ENVOY = "envoy"
    NGINX = "nginx"
    #: nginx again, for what the client is told after a denial.
    NGINX_ANSWER = "nginx_answer"
    #: Forward auth, as Traefik and Caddy have it.
    FORWARD = "forward"


class HttpAuthzResult(StrEnum):
    """What a proxy was answered."""

    ALLOWED = "allowed"
    DENIED = "denied"
    #: Denied, since the proxy did not say what it is to say.
    UNUSABLE = "unusable"
    #: A fault of our own.
    FAILED = "failed"


class HttpAuthzMetrics(Protocol):
    """Counts requests; may be called from any thread."""

    def record_request(self, proxy: ProxyKind, result: HttpAuthzResult) -> None:
        """Count one request."""
        ...


class NullHttpAuthzMetrics:
    """
    Counts nothing.

    Thread-safety: immutable.
    """

    def record_request(self, proxy: ProxyKind, result: HttpAuthzResult) -> None:
        """Do nothing."""


class PrometheusHttpAuthzMetrics:
    """
    Keeps the numbers in a Prometheus registry.

    Thread-safety: every collector locks itself.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "sidecar_http_authz_requests_total",
            "Requests of proxies that ask by HTTP.",
            ("proxy", "result"),
            registry=registry,
        )
        for proxy in ProxyKind:
            for result in HttpAuthzResult:
                self._requests.labels(proxy.value, result.value)

    def record_request(self, proxy: ProxyKind, result: HttpAuthzResult) -> None:
        """Count one request."""
        self._requests.labels(proxy.value, result.value).inc()
