# SPDX-License-Identifier: Apache-2.0
"""
The application of the ``http-authz`` listener.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sidecar.model.check import OnError
from sidecar.model.errors import RequestError
from sidecar.services.http_authz_metrics import HttpAuthzMetrics, HttpAuthzResult, ProxyKind
from sidecar.services.log import Log
from sidecar.transports.http_authz.answers import HttpAnswer, answer_to, failed
from sidecar.transports.http_authz.original import Headers, OriginalRequest, of_envoy, of_forward_auth, of_nginx

#: What Envoy puts before the path of each request.
ENVOY_PREFIX = b"/envoy"
#: Threads that decide: more than one, so that one large request keeps nobody waiting.
_THREADS = 4
#: Seconds for which the same mistake of a proxy is not told again.
_QUIET_SECONDS = 60.0


class _Asked(NamedTuple):
    """A request of a proxy, read."""

    proxy: ProxyKind
    method: str
    target: bytes
    headers: Headers


class HttpAuthz:
    """
    An ASGI application that answers proxies.

    Thread-safety: belongs to one event loop; decisions run on threads of its own.
    """

    def __init__(
        self,
        *,
        check: Callable[[bytes], bytes],
        on_error: OnError,
        log: Log,
        metrics: HttpAuthzMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            check: Answers a serialized CheckRequest; may be called from any thread.
            on_error: What a request gets that cannot be decided.
            log: Is told of proxies that do not say what they are to say, and of faults.
            monotonic: Gives seconds of the monotonic clock.
        """
        self._check = check
        self._on_error = on_error
        self._log = log
        self._metrics = metrics
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="http-authz")
        self._told: dict[tuple[ProxyKind, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what is in its body is nobody's concern."""
        asked = _read(scope)
        if asked is None:
            # To every proxy, this denies.
            response = Response("there is no such endpoint\n", status_code=404, media_type="text/plain")
        else:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, self._answer, asked)
            response = Response(answer.body.encode("utf-8", "replace"), status_code=answer.status)
            for name, value in answer.headers:
                response.headers.append(name, value)
        response.headers.setdefault("cache-control", "no-store")
        await response(scope, receive, send)

    def _answer(self, asked: _Asked) -> HttpAnswer:
        try:
            original = _original(asked)
            answer = answer_to(asked.proxy, original, self._check(original.to_wire()))
        except RequestError as error:
            self._tell(asked.proxy, error)
            self._metrics.record_request(asked.proxy, HttpAuthzResult.UNUSABLE)
            return HttpAnswer(403, (("content-type", "application/json"),), _body("access_denied", ""))
        except Exception as error:
            error_id = token_hex(8)
            self._log.error("http_authz_failed", error_id=error_id, cause=repr(error), exc_info=True)
            self._metrics.record_request(asked.proxy, HttpAuthzResult.FAILED)
            return failed(asked.proxy, self._on_error, _body("unavailable", error_id))
        self._metrics.record_request(
            asked.proxy, HttpAuthzResult.ALLOWED if answer.is_allowed else HttpAuthzResult.DENIED
        )
        return answer

    def _tell(self, proxy: ProxyKind, error: RequestError) -> None:
        """Log what a proxy gets wrong: its configuration is one for all requests."""
        now = self._monotonic()
        if now - self._told.get((proxy, error.message), -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._told[proxy, error.message] = now
            self._log.warning("http_authz_refused", proxy=proxy.value, cause=error.message, help=error.help)


def _read(scope: Scope) -> _Asked | None:
    """Return who asks what; None where it is nobody whom this is for."""
    if scope["type"] != "http":
        return None
    # As sent, and not as decoded: the proxy's own path is never spelt in another way.
    path: bytes = scope["raw_path"]
    headers: Headers = scope["headers"]
    if path.startswith(ENVOY_PREFIX + b"/"):
        target, query = path[len(ENVOY_PREFIX) :], scope["query_string"]
        return _Asked(ProxyKind.ENVOY, scope["method"], target + (b"?" + query if query else b""), headers)
    proxy = _ENDPOINTS.get(path)
    return None if proxy is None or scope["query_string"] else _Asked(proxy, scope["method"], b"", headers)


def _original(asked: _Asked) -> OriginalRequest:
    if asked.proxy is ProxyKind.ENVOY:
        return of_envoy(asked.method, asked.target, asked.headers)
    if asked.proxy is ProxyKind.FORWARD:
        return of_forward_auth(asked.headers)
    return of_nginx(asked.headers)


def _body(error: str, error_id: str) -> str:
    values = {"error": error, **({"error_id": error_id} if error_id else {})}
    return json.dumps(values, separators=(",", ":")) + "\n"


_ENDPOINTS = {b"/nginx": ProxyKind.NGINX, b"/nginx/answer": ProxyKind.NGINX_ANSWER, b"/forward": ProxyKind.FORWARD}
