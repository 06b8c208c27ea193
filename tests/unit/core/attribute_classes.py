# SPDX-License-Identifier: Apache-2.0
"""
CheckRequests as Envoy and others send them, and what they say by the classes that Envoy's own definitions make.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import address_pb2
from envoy.service.auth.v3 import external_auth_pb2 as ext_authz
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2

from sidecar.core._core import read_attributes


def say(message: ext_authz.CheckRequest) -> dict[str, Any]:
    """Return what a message says by the classes, in the form of the core."""
    attributes = message.attributes
    http = attributes.request.http
    address = attributes.source.address
    headers: list[tuple[bytes, bytes]] = [(name.encode(), value.encode()) for name, value in http.headers.items()]
    headers += [(one.key.encode(), one.raw_value or one.value.encode()) for one in http.header_map.headers]
    # Case does not count where a header is looked up.
    by_name = {name.lower(): value for name, value in headers}

    def field(text: str, *names: bytes) -> bytes:
        for value in (text.encode(), *(by_name.get(name, b"") for name in names)):
            if value:
                return value
        return b""

    return {
        "source_address": address.socket_address.address.encode() if address.HasField("socket_address") else b"",
        "source_principal": attributes.source.principal.encode(),
        "method": field(http.method, b":method"),
        "path": field(http.path, b":path"),
        "host": field(http.host, b":authority", b"host"),
        "scheme": field(http.scheme, b":scheme"),
        "protocol": http.protocol.encode(),
        "sni": attributes.tls_session.sni.encode(),
        "request_id": by_name.get(b"x-request-id", b""),
        "headers": dict(headers),
        "extensions": {name.encode(): value.encode() for name, value in attributes.context_extensions.items()},
        "filters": {
            name.encode(): _known(value.SerializeToString())
            for name, value in attributes.metadata_context.filter_metadata.items()
        },
    }


def read(data: bytes) -> dict[str, Any]:
    """Return what the core reads; of maps, what counts of entries of the same name."""
    found: dict[str, Any] = dict(read_attributes(data))
    for name in ("headers", "extensions"):
        found[name] = dict(found[name])
    found["filters"] = {name: _known(value) for name, value in found["filters"]}
    return found


def _known(data: bytes) -> bytes:
    """Return what is known of a ``google.protobuf.Struct``, in one order."""
    struct = struct_pb2.Struct.FromString(data)
    struct.DiscardUnknownFields()
    known: bytes = struct.SerializeToString(deterministic=True)
    return known


def full() -> ext_authz.CheckRequest:
    """Make a message with everything that Envoy can put into one."""
    message = ext_authz.CheckRequest()
    attributes = message.attributes
    for peer, address in ((attributes.source, "203.0.113.7"), (attributes.destination, "10.0.0.1")):
        peer.address.socket_address.CopyFrom(
            address_pb2.SocketAddress(address=address, port_value=443, protocol="TCP", resolver_name="x")
        )
        peer.service = "service"
        peer.labels["version"] = "v1"
        peer.principal = f"spiffe://example.com/{address}"
        peer.certificate = "-----BEGIN%20CERTIFICATE-----"
    attributes.request.time.CopyFrom(timestamp_pb2.Timestamp(seconds=1, nanos=2))
    http = attributes.request.http
    http.id, http.method, http.path, http.host = "1", "POST", "/a/b?c=d", "shop.example.com"
    http.scheme, http.protocol, http.size = "https", "HTTP/2", 17
    http.body, http.raw_body = "body", b"\xff\x00"
    for name, value in ((":path", "/a/b?c=d"), ("x-request-id", "r1"), ("cookie", "a=1")):
        http.headers[name] = value
    attributes.context_extensions["route"] = "x"
    attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"].update(
        {"jwt_payload": {"sub": "alice", "groups": ["a", "b"], "age": 7, "ok": True, "none": None}}
    )
    attributes.metadata_context.typed_filter_metadata["typed"].CopyFrom(any_pb2.Any(type_url="x", value=b"y"))
    attributes.route_metadata_context.filter_metadata["route"].update({"a": "b"})
    attributes.tls_session.sni = "shop.example.com"
    return message


def raw(message: ext_authz.CheckRequest) -> ext_authz.CheckRequest:
    """Say the headers as with ``encode_raw_headers``."""
    http = message.attributes.request.http
    for name, value in sorted(http.headers.items()):
        http.header_map.headers.add(key=name, raw_value=value.encode())
    http.headers.clear()
    http.header_map.headers.add(key="x-raw", raw_value=b"\xff\xfe")
    http.header_map.headers.add(key="x-text", value="text")
    return message


def piped(message: ext_authz.CheckRequest) -> ext_authz.CheckRequest:
    message.attributes.source.address.pipe.path = "/run/envoy.sock"
    return message


def internal(message: ext_authz.CheckRequest) -> ext_authz.CheckRequest:
    message.attributes.source.address.envoy_internal_address.server_listener_name = "x"
    return message


def from_grpc(message: ext_authz.CheckRequest) -> ext_authz.CheckRequest:
    """Leave out what clients of grpc/proposal A92 do."""
    attributes = raw(message).attributes
    for name in ("id", "host", "scheme", "body", "raw_body"):
        attributes.request.http.ClearField(name)
    attributes.request.http.header_map.headers.add(key=":authority", raw_value=b"shop.example.com")
    for name in ("context_extensions", "metadata_context", "route_metadata_context", "tls_session"):
        attributes.ClearField(name)
    attributes.request.http.size = -1
    return message


VARIANTS = {
    "full": full(),
    "raw": raw(full()),
    "pipe": piped(full()),
    "internal": internal(full()),
    "grpc": from_grpc(full()),
    "empty": ext_authz.CheckRequest(),
}
