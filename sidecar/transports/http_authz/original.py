# SPDX-License-Identifier: Apache-2.0
"""
The request that a proxy asks about, as each kind of proxy states it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.model.errors import RequestError
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as pb

#: A name and a value, as sent; names in lower case.
Headers = Sequence[tuple[bytes, bytes]]

#: What Envoy's and nginx's configuration is to set.
METHOD, URI, HOST = b"x-original-method", b"x-original-uri", b"x-original-host"
SCHEME, ADDRESS = b"x-original-scheme", b"x-original-address"
#: What Traefik and Caddy set by themselves.
FORWARDED_METHOD, FORWARDED_URI = b"x-forwarded-method", b"x-forwarded-uri"
FORWARDED_HOST, FORWARDED_PROTO = b"x-forwarded-host", b"x-forwarded-proto"
FORWARDED_FOR = b"x-forwarded-for"

#: Of the proxy's own request.
_OWN = (b"host", b"content-length", b"connection")

#: SPEC: RFC 9110, section 5.6.2.
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
#: What stands in a host and a port; what it means is for routes to say.
_HOST = re.compile(rb"[\[\]A-Za-z0-9._:~%-]{1,255}")
#: WebSockets are asked for by HTTP.
_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
#: What nginx has for the address of a client on a Unix socket.
_UNIX = b"unix:"


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """
    A request that a client has made to a proxy.

    Attributes:
        target: Path and query, as sent.
        address: Of the client; empty where it came by a Unix socket.
        headers: Of the client.
    """

    method: str
    target: str
    host: str
    scheme: str
    address: str
    headers: Headers

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header."""
        return _values(self.headers, name)

    def to_wire(self) -> bytes:
        """Return it as Envoy would put it to us."""
        request = pb.CheckRequest()
        request.attributes.source.address.socket_address.address = self.address
        http = request.attributes.request.http
        http.method, http.path, http.host = self.method, self.target, self.host
        http.scheme, http.protocol = self.scheme, "HTTP/1.1"
        for name, value in self.headers:
            # Bytes, as with Envoy's `encode_raw_headers`: a value need not be UTF-8.
            http.header_map.headers.add(key=name.decode("latin-1"), raw_value=value)
        return request.SerializeToString()


def of_envoy(method: str, target: bytes, headers: Headers) -> OriginalRequest:
    """
    Return what Envoy asks about, which keeps method, path and host as they were.

    Args:
        target: Path and query, without the prefix that Envoy put before them.

    Raises:
        RequestError: Something is missing, or there twice.
    """
    return _original(
        method=method.encode("latin-1"),
        target=target,
        host=_one(headers, b"host"),
        scheme=_one(headers, SCHEME),
        address=_one(headers, ADDRESS),
        # Envoy adds itself to what it has told us; how far to believe the list is what its own settings say.
        headers=_without(headers, (SCHEME, ADDRESS, FORWARDED_FOR, *_OWN)),
    )


def of_nginx(headers: Headers) -> OriginalRequest:
    """
    Return what nginx asks about, in headers that its configuration sets.

    Raises:
        RequestError: Something is missing, or there twice.
    """
    return _original(
        method=_one(headers, METHOD),
        target=_one(headers, URI),
        host=_one(headers, HOST),
        scheme=_one(headers, SCHEME),
        address=_one(headers, ADDRESS),
        headers=_without(headers, (METHOD, URI, HOST, SCHEME, ADDRESS, *_OWN)),
    )


def of_forward_auth(headers: Headers) -> OriginalRequest:
    """
    Return what Traefik or Caddy asks about, in headers that it sets by itself.

    Raises:
        RequestError: Something is missing, or there twice.
    """
    return _original(
        method=_one(headers, FORWARDED_METHOD),
        target=_one(headers, FORWARDED_URI),
        host=_one(headers, FORWARDED_HOST),
        scheme=_one(headers, FORWARDED_PROTO),
        # Each proxy adds the address that it was called from at the end; what stands before it somebody else said.
        address=_one(headers, FORWARDED_FOR).rpartition(b",")[2].strip(),
        headers=_without(headers, (FORWARDED_METHOD, FORWARDED_URI, FORWARDED_HOST, *_OWN)),
    )


def _original(
    *, method: bytes, target: bytes, host: bytes, scheme: bytes, address: bytes, headers: Headers
) -> OriginalRequest:
    if _TOKEN.fullmatch(method) is None:
        raise RequestError("the original method is none")
    if not target.startswith(b"/"):
        raise RequestError("the original path does not begin with a stroke")
    if _HOST.fullmatch(host) is None:
        raise RequestError("the original host is none")
    if scheme.lower() not in _SCHEMES:
        raise RequestError("the original scheme is neither http nor https")
    try:
        # A path of other bytes has no place in a CheckRequest; Envoy refuses it, too.
        path = target.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("the original path is not UTF-8") from None
    return OriginalRequest(
        method=method.decode("ascii"),
        target=path,
        host=host.decode("ascii"),
        scheme=_SCHEMES[scheme.lower()],
        address=_ip(address),
        headers=headers,
    )


def _ip(address: bytes) -> str:
    if address == _UNIX:
        return ""
    try:
        return str(ipaddress.ip_address(address.decode("ascii").strip("[]")))
    except ValueError:
        raise RequestError("the original address is no IP address") from None


def _one(headers: Headers, name: bytes) -> bytes:
    values = _values(headers, name)
    if len(values) != 1:
        what = "is missing" if not values else "stands there more than once"
        raise RequestError(
            f"`{name.decode('ascii')}` {what}", help="have the proxy set it, in place of what the client sends"
        )
    return values[0]


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for other, value in headers if other == name]


def _without(headers: Headers, names: Sequence[bytes]) -> Headers:
    return [(name, value) for name, value in headers if name not in names]
