# SPDX-License-Identifier: Apache-2.0
"""
From a ``CheckResponse`` to what each kind of proxy reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from google.protobuf.message import DecodeError

from sidecar.model.check import OnError
from sidecar.model.errors import InternalError, RequestError
from sidecar.services.http_authz_metrics import ProxyKind
from sidecar.transports.http_authz.original import OriginalRequest
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as pb

#: Header that tells Envoy what the upstream is not to get.
HEADERS_TO_REMOVE = "x-envoy-auth-headers-to-remove"
#: Where a denial leads a browser, for nginx, which knows no redirect in answer to `auth_request`.
LOCATION = "x-iam-location"
#: What may be passed on of the client's credentials, for nginx, whose configuration names what it takes.
KEPT_COOKIE, KEPT_AUTHORIZATION = "x-iam-cookie", "x-iam-authorization"
_CREDENTIALS = ("authorization", "cookie")
#: What the configuration of every proxy takes from the answer, or takes away.
_TAKEN = frozenset({*_CREDENTIALS, "x-iam-principal", "x-iam-account", "x-iam-route", "x-forwarded-client-cert"})
#: Set by whoever frames the message.
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """
    An answer in HTTP.

    Attributes:
        headers: Names in lower case.
        is_allowed: Whether the request may pass.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    is_allowed: bool = False


def answer_to(proxy: ProxyKind, original: OriginalRequest, data: bytes) -> HttpAnswer:
    """
    Return what a proxy is to read.

    Args:
        data: A serialized CheckResponse.

    Raises:
        RequestError: The request may pass but for a header of the client that the proxy cannot be told to remove.
        InternalError: It is none that states what was decided.
    """
    try:
        response = pb.CheckResponse.FromString(data)
    except DecodeError as error:
        raise InternalError("the decision cannot be read", cause=error) from None
    kind = response.WhichOneof("http_response")
    if not response.HasField("status") or kind is None or (response.status.code == 0) != (kind == "ok_response"):
        raise InternalError("the decision states no status", cause=f"{kind} with status {response.status.code}")
    if kind == "ok_response":
        return _allowed(proxy, original, response.ok_response)
    denied = response.denied_response if kind == "denied_response" else response.error_response
    return _denied(proxy, denied, is_error=kind == "error_response")


def failed(proxy: ProxyKind, on_error: OnError, body: str) -> HttpAnswer:
    """Return what a proxy is to read where nothing could be decided."""
    is_denial = proxy is ProxyKind.ENVOY and on_error is OnError.DENY
    # To Envoy, 503 is an error, with which a setting of its own may let the request pass.
    status = HTTPStatus.FORBIDDEN if is_denial else HTTPStatus.SERVICE_UNAVAILABLE
    return HttpAnswer(status, (("content-type", "application/json"),), body)


def _allowed(proxy: ProxyKind, original: OriginalRequest, ok: pb.OkHttpResponse) -> HttpAnswer:
    if ok.query_parameters_to_set or ok.query_parameters_to_remove or ok.response_headers_to_add:
        raise InternalError("the decision changes more than headers", cause="a proxy of HTTP cannot be told of it")
    given = dict(_headers(ok.headers))
    # Envoy removes last, also what it has just set.
    removed = {name.lower() for name in ok.headers_to_remove} - given.keys()
    if proxy is ProxyKind.ENVOY:
        return HttpAnswer(HTTPStatus.OK, (*given.items(), (HEADERS_TO_REMOVE, ",".join(sorted(removed)))), "", True)
    if any(name.decode("latin-1") in removed - _TAKEN for name, _ in original.headers):
        raise RequestError(
            "a client has sent a header that is kept for what the sidecar says",
            help="have the proxy remove every header that begins with X-Iam-, in any spelling",
        )
    if proxy is ProxyKind.NGINX_ANSWER:
        # The same request was refused a moment ago; the client may just send it again.
        body = '{"error":"try_again"}\n'
        return HttpAnswer(HTTPStatus.SERVICE_UNAVAILABLE, (("retry-after", "1"), _JSON), body)
    kept = {name: given.pop(name, "") or _kept(original, name, removed) for name in _CREDENTIALS}
    if proxy is ProxyKind.NGINX:
        # An empty value is how nginx is told to send none.
        kept = {KEPT_AUTHORIZATION: kept["authorization"], KEPT_COOKIE: kept["cookie"]}
        return HttpAnswer(HTTPStatus.OK, (*given.items(), *kept.items()), "", True)
    return HttpAnswer(HTTPStatus.OK, (*given.items(), *((name, kept[name]) for name in kept if kept[name])), "", True)


def _kept(original: OriginalRequest, name: str, removed: set[str]) -> str:
    """Return what a proxy passes on of a credential of the client."""
    values = original.values(name.encode("ascii"))
    if name in removed or not values:
        return ""
    if name == "cookie":
        # SPEC: RFC 9113, section 8.2.3.
        return b"; ".join(values).decode("latin-1")
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _denied(proxy: ProxyKind, denied: pb.DeniedHttpResponse, *, is_error: bool) -> HttpAnswer:
    status = denied.status.code or HTTPStatus.FORBIDDEN
    headers = [(name, value) for name, value in _headers(denied.headers) if name not in _FRAMING]
    if is_error:
        status = status if 500 <= status <= 599 else HTTPStatus.SERVICE_UNAVAILABLE
    elif not 300 <= status <= 599:
        # A denial never looks like an allow.
        status = HTTPStatus.FORBIDDEN
    if proxy is ProxyKind.ENVOY and status >= 500 and not is_error:
        # To Envoy, 5xx is no denial but an error, with which a setting of its own may let the request pass.
        status = HTTPStatus.FORBIDDEN
    if proxy is ProxyKind.NGINX:
        status, headers = _for_nginx(status, headers)
    return HttpAnswer(status, tuple(headers), denied.body)


def _for_nginx(status: int, headers: list[tuple[str, str]]) -> tuple[int, list[tuple[str, str]]]:
    """Return the denial in one of the two statuses that nginx takes for one; with all others it fails, closed."""
    if status < 400:
        moved = [(LOCATION if name == "location" else name, value) for name, value in headers]
        return HTTPStatus.UNAUTHORIZED, moved
    if status >= 500 or status == HTTPStatus.UNAUTHORIZED:
        return status, headers
    return HTTPStatus.FORBIDDEN, headers


def _headers(options: Iterable[pb.HeaderValueOption]) -> list[tuple[str, str]]:
    """
    Return headers, names in lower case.

    Raises:
        InternalError: One of them cannot stand in HTTP.
    """
    found = []
    for option in options:
        name = option.header.key.lower()
        value = option.header.value or option.header.raw_value.decode("latin-1")
        if not name or name.startswith(":") or any(ord(c) < 32 or ord(c) in (127,) or ord(c) > 255 for c in value):
            raise InternalError("the decision has a header that cannot be sent", cause=repr(name))
        found.append((name, value))
    return found


_JSON = ("content-type", "application/json")
