# SPDX-License-Identifier: Apache-2.0
"""
A shop behind a small reverse proxy with forward auth, and the prompt below a path of the same host.
"""

from __future__ import annotations

import html
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.people import set_password
from tests.e2e.prompt_site import ACCOUNT, Site, arn_of, free_port, write_people
from tests.e2e.sidecar_process import PATIENCE, Sidecar, serving

#: Where the prompt is.
BASE = "/.iam-sidecar"
_RESOURCE = f"arn:aws:payments:eu-west-1:{ACCOUNT}:order/{{order}}"
_REFUND = {"hosts": ["localhost"], "action": "payments:Refund", "resource": _RESOURCE}
ROUTES = {
    "routes": [
        {"id": "order", "methods": ["GET", "POST"], "path": "/orders/{order}", **_REFUND},
        {"id": "approve", "methods": ["GET"], "path": "/approve/{order}", "proof_for": "call", **_REFUND},
        {"id": "open", "path": "/open/**", "public": True},
    ]
}
#: What a proxy with forward auth takes from an allow and puts in place of what the client sent.
_COPIED = ("x-iam-principal", "x-iam-account", "x-iam-route", "cookie", "authorization")


class Proxy:
    """
    Serves a shop, asks the sidecar about each request to it, and passes on those that are for the prompt.

    Thread-safety: each request has a thread.

    Attributes:
        port: Where it listens; at localhost.
    """

    def __init__(self) -> None:
        proxy = self
        self.prompt = self.authz = ""
        self.seen: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                proxy.answer(self)

            def do_POST(self) -> None:
                proxy.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Closing waits for every connection, also for those that a browser has opened and asked nothing on.
        self._server.daemon_threads = False
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if request.path == BASE or request.path.startswith(f"{BASE}/"):
            self._pass_on(request, self.prompt, request.command, request.path, dict(request.headers), body)
            return
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower() != "content-length"}
        headers |= {
            "x-forwarded-method": request.command,
            "x-forwarded-uri": request.path,
            "x-forwarded-host": request.headers["host"],
            "x-forwarded-proto": "http",
            "x-forwarded-for": request.client_address[0],
        }
        told = self._pass_on(request, self.authz, "GET", "/forward", headers, b"")
        if told is not None:
            for name in _COPIED:
                headers.pop(name, None)
            headers |= {name: value for name, value in told.items() if name in _COPIED}
            self._shop(request, headers, body)

    def _pass_on(
        self,
        request: BaseHTTPRequestHandler,
        address: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> dict[str, str] | None:
        """Have another server answer; of an allow, give the headers."""
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if path == "/forward" and 200 <= response.status < 300:
            return {name.lower(): value for name, value in response.getheaders()}
        request.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        self._send(request, data)
        return None

    def _shop(self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> None:
        self.seen.append({"method": request.command, "path": request.path, "headers": headers, "body": body.decode()})
        path = html.escape(request.path)
        order = path.rpartition("/")[2]
        form = f'<form method="post" action="/orders/{order}"><input name="amount"><button>Refund</button></form>'
        text = f"<!doctype html><title>shop</title><h1>Shop {request.command} {path}</h1>{form}"
        request.send_response_only(200)
        request.send_header("content-type", "text/html")
        request.send_header("cache-control", "no-store")
        self._send(request, text.encode())

    def _send(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


class SharedSite(Site):
    """
    The sidecar, the shop that it protects, and where both are.

    Attributes:
        host: Origin of both.
        origin: Where the prompt is.
    """

    def __init__(self, sidecar: Sidecar, channel: Any, proxy: Proxy) -> None:
        super().__init__(sidecar, channel, f"http://localhost:{proxy.port}{BASE}", "", None)  # type: ignore[arg-type]
        self.host = f"http://localhost:{proxy.port}"
        self.proxy = proxy

    @property
    def last(self) -> dict[str, Any]:
        """What the shop has seen last."""
        return self.proxy.seen[-1]


@contextmanager
def shared_site(folder: Path, *users: str) -> Iterator[SharedSite]:
    """Run a sidecar that protects a shop, at which *users* can sign in."""
    source, state = write_people(folder / "source", *users), folder / "state"
    (source / "routes.yaml").write_text(json.dumps(ROUTES))
    proxy = Proxy()
    arguments = ["--prompt", f"127.0.0.1:{free_port()}", "--http-authz", "127.0.0.1:0"]
    arguments += ["--public-url", f"http://localhost:{proxy.port}{BASE}", "--prompt-proxy", "127.0.0.1"]
    try:
        with serving(source, state, *arguments) as sidecar, sidecar.channel() as channel:
            proxy.prompt, proxy.authz = sidecar.address("prompt"), sidecar.address("http-authz")
            for user in users:
                set_password(sidecar, source, arn_of(user))
            yield SharedSite(sidecar, channel, proxy)
    finally:
        proxy.close()
