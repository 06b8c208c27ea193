# SPDX-License-Identifier: Apache-2.0
"""
A shop that knows nothing of permissions: it tells what arrived, as a program behind Envoy sees it.

    python examples/envoy/shop.py --http 127.0.0.1:8000 --grpc 127.0.0.1:8001
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this, an answer waits for the acknowledgement of its own headers.
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join(iter(self._read_chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        arrived = {
            "line": self.requestline,
            "headers": [f"{name.lower()}: {value}" for name, value in self.headers.items()],
            "body": body.decode("latin-1"),
        }
        page = json.dumps(arrived, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    # The names are those of the standard library.
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the proxy keeps a log."""


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class _Orders(grpc.GenericRpcHandler):
    """Every call of `shop.v1.Orders` is answered with what arrived, as JSON."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return how a method is served; None where there is no such method."""
        if not call.method.startswith("/shop.v1.Orders/"):
            return None
        arrived = {"method": call.method, "metadata": [[name, str(value)] for name, value in call.invocation_metadata]}
        return grpc.unary_unary_rpc_method_handler(lambda request, context: json.dumps(arrived).encode())


def main(arguments: list[str]) -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A shop that tells what arrived.")
    parser.add_argument("--http", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument("--grpc", default="127.0.0.1:8001", metavar="HOST:PORT")
    given = parser.parse_args(arguments)
    host, _, port = given.http.rpartition(":")
    pages = _HttpServer((host, int(port)), _Page)
    calls = grpc.server(ThreadPoolExecutor(8), handlers=[_Orders()])
    grpc_port = calls.add_insecure_port(given.grpc)
    calls.start()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    print(f"the shop is open at http {host}:{pages.server_port}, grpc {host}:{grpc_port}", flush=True)
    ended.wait()
    pages.shutdown()
    calls.stop(1).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
