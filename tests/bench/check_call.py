# SPDX-License-Identifier: Apache-2.0
"""
A request of Envoy to be made again and again: a browser's call with 20 headers, to one of many routes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.core import Image, check
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as ext_authz
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench.load import LoadError

CHECK = "/envoy.service.auth.v3.Authorization/Check"
#: Routes beside the one that is taken.
ROUTES = 1000
_PEER = "spiffe://bench.example/client"
_HOST = "shop.example.com"
_PATH = "/accounts/4711/orders/815/refund?amount=80"
#: As a browser sends them, and Envoy adds to them.
HEADERS = {
    ":authority": _HOST,
    ":method": "POST",
    ":path": _PATH,
    ":scheme": "https",
    "accept": "application/json, text/plain, */*",
    "accept-encoding": "gzip, deflate, br, zstd",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8",
    "content-length": "128",
    "content-type": "application/json",
    "cookie": "consent=1; theme=dark; cart=8c1f0f3e2b7a4d5c9e6f",
    "origin": f"https://{_HOST}",
    "referer": f"https://{_HOST}/orders",
    "sec-fetch-dest": "empty",
    "sec-fetch-mode": "cors",
    "sec-fetch-site": "same-origin",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-proto": "https",
    "x-request-id": "9f1c2a34-5b6d-4e7f-8a90-b1c2d3e4f506",
}


def check_request() -> bytes:
    """Return the request, serialized."""
    message = ext_authz.CheckRequest()
    attributes = message.attributes
    for peer, address, port in ((attributes.source, "203.0.113.7", 53124), (attributes.destination, "10.0.0.7", 8443)):
        peer.address.socket_address.address, peer.address.socket_address.port_value = address, port
    attributes.source.principal = _PEER
    attributes.request.time.FromNanoseconds(1_767_225_600_000_000_000)
    http = attributes.request.http
    http.id, http.method, http.path, http.host = "1347264872534", "POST", _PATH, _HOST
    http.scheme, http.protocol, http.size = "https", "HTTP/2", 128
    for name, value in HEADERS.items():
        http.headers[name] = value
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _constant(text: str) -> str:
    """Return a template that stands for *text*."""
    return text.replace("{", "{{").replace("}", "}}")


def routes(asked: pb.AuthorizeRequest) -> bytes:
    """Return a routes file in which the request means what *asked* does; its principal is a user."""
    own = {"aws:sourceip", "aws:securetransport", "aws:useragent", "aws:referer"}
    context = {
        key: _constant(value.values[0])
        for key, value in asked.context.items()
        if key.lower() not in own and len(value.values) == 1
    }
    others = [
        {
            "id": f"other-{number}",
            "methods": ["GET", "POST"],
            "path": f"/service-{number}/{{account}}/items/{{item}}",
            "action": "other:Get",
            "resource": "arn:aws:other:eu-west-1:{account}:item/{item}",
        }
        for number in range(ROUTES)
    ]
    ours = {
        "id": "refund-order",
        "methods": ["POST"],
        "path": "/accounts/{account}/orders/{order}/refund",
        "action": asked.action,
        "resource": _constant(asked.resource),
        **({"resource_account": asked.resource_account} if asked.resource_account else {}),
        "context": {"shop:Amount": "{query.amount}", "shop:Order": "{account}/{order}", **context},
    }
    callers = [{"session_token": {}}, {"certificate": {"rules": [{"san": _PEER, "user": asked.principal}]}}]
    return json.dumps({"callers": callers, "routes": [*others, ours]}).encode()


def image_of(files: Mapping[str, bytes], requests: Sequence[bytes]) -> bytes:
    """
    Compile *files* with routes by which the request is one of *requests*, which are allowed, of a user.

    Raises:
        LoadError: There is none.
    """
    for asked in map(pb.AuthorizeRequest.FromString, requests):
        if ":user/" not in asked.principal:
            continue
        report = parse_source({**files, "routes.yaml": routes(asked)})
        if report.snapshot is None:
            raise LoadError(f"the routes have problems: {report.problems[0]}")
        data = write_image(report.snapshot)
        answer = check(Image.from_bytes(data), check_request(), seconds=int(time.time()), nanos=0)
        if ext_authz.CheckResponse.FromString(answer).WhichOneof("http_response") == "ok_response":
            return data
    raise LoadError("no request is allowed to a user")


def verify_check(answer_bytes: int) -> Callable[[bytes], None]:
    """Return what raises unless an answer of that length lets the request through."""

    def verify(data: bytes) -> None:
        answer = ext_authz.CheckResponse.FromString(data)
        headers: dict[str, Any] = {option.header.key: option.header.value for option in answer.ok_response.headers}
        if not answer.HasField("status") or headers.get("x-iam-route") != "refund-order" or len(data) != answer_bytes:
            raise LoadError(f"not the answer that was to be: {answer}")

    return verify
