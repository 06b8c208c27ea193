# SPDX-License-Identifier: Apache-2.0
"""Images with routes, and requests of Envoy to ask them with."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import ParseDict

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.model.resolved_check import ResolvedCheck
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as pb

ACCOUNT = "111122223333"
JWT_FILTER = "envoy.filters.http.jwt_authn"

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@functools.cache
def _account() -> bytes:
    trusted = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [trusted]}
    roles: list[dict[str, Any]] = [
        {
            "Path": "/",
            "RoleName": name,
            "RoleId": f"AROA{name.upper():X<17}",
            "Arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
            "AssumeRolePolicyDocument": trust,
            "RolePolicyList": [],
            "AttachedManagedPolicies": [],
        }
        for name in ("Web", "Billing", "Batch", "Guest")
    ]
    user = {
        "Path": "/",
        "UserName": "alice",
        "UserId": "AIDAALICEEXAMPLE00001",
        "Arn": f"arn:aws:iam::{ACCOUNT}:user/alice",
        "GroupList": [],
        "UserPolicyList": [],
        "AttachedManagedPolicies": [],
    }
    return json.dumps(
        {"UserDetailList": [user], "GroupDetailList": [], "RoleDetailList": roles, "Policies": []}
    ).encode()


def routes_image_bytes(document: Mapping[str, Any]) -> bytes:
    """
    Compile a file of routes beside one account with a few roles and a user.

    Raises:
        ValueError: It has problems.
    """
    report = parse_source({f"accounts/{ACCOUNT}.json": _account(), "routes.yaml": json.dumps(document).encode()})
    if report.snapshot is None or report.snapshot.routes is None:
        raise ValueError("; ".join(str(problem) for problem in report.problems))
    return write_image(report.snapshot)


def routes_image(document: Mapping[str, Any]) -> core.Image:
    """Load the image of a file of routes."""
    return core.Image.from_bytes(routes_image_bytes(document))


def check_request(
    path: str | bytes = "/",
    *,
    method: str = "GET",
    host: str = "shop.example.com",
    scheme: str = "https",
    headers: Headers = (),
    raw_headers: bool = False,
    source: str = "203.0.113.7",
    peer: str = "",
    sni: str = "",
    extensions: Mapping[str, str] | None = None,
    jwt: Mapping[str, Any] | None = None,
    jwt_place: tuple[str, str] = (JWT_FILTER, "jwt_payload"),
) -> bytes:
    """
    Serialize a ``CheckRequest``.

    Args:
        path: As sent; bytes where it is no text.
        raw_headers: Whether they stand in ``header_map``, as with Envoy's ``encode_raw_headers``.
        peer: The name in the certificate.
        jwt: Claims, put where *jwt_place* says: filter and payload.
    """
    message = pb.CheckRequest()
    attributes = message.attributes
    attributes.source.address.socket_address.address = source
    attributes.source.principal = peer
    attributes.tls_session.sni = sni
    http = attributes.request.http
    http.method, http.host, http.scheme = method, host, scheme
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        if raw_headers:
            http.header_map.headers.add(key=name, raw_value=value.encode("utf-8", "surrogateescape"))
        else:
            http.headers[name] = value
    for name, value in (extensions or {}).items():
        attributes.context_extensions[name] = value
    if jwt is not None:
        ParseDict({jwt_place[1]: jwt}, attributes.metadata_context.filter_metadata[jwt_place[0]])
    raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    # The last part of a message that is given in parts wins; a text that is no UTF-8 can only be given so.
    inner = _field(4, raw)
    for number in (2, 4, 1):
        inner = _field(number, inner)
    whole: bytes = message.SerializeToString() + inner
    return whole


def _field(number: int, data: bytes) -> bytes:
    length, head = len(data), bytearray([number << 3 | 2])
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + data


def resolve(image: core.Image, path: str | bytes = "/", *, cookie_name: str = "", **given: Any) -> ResolvedCheck:
    """Resolve the request that `check_request` makes of the arguments."""
    return core.resolve_check(image, check_request(path, **given), cookie_name=cookie_name)
