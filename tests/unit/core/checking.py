# SPDX-License-Identifier: Apache-2.0
"""
An image with policies and routes, sessions, and requests of Envoy whose answers are read by Envoy's own classes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2 as ext_authz
from google.protobuf.json_format import MessageToDict

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.model.check import CheckSettings
from sidecar.model.session import SessionClaims, SessionKind
from tests.tokens import ACCESS_KEY_ID, seal, state
from tests.unit.core.asking import NOW
from tests.unit.core.routing import ACCOUNT, check_request

HOST = "shop.example.com"
USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/alice"
USER_ID = "AIDAALICEEXAMPLE00001"
PROMPT = f"https://{HOST}/.iam-sidecar"
COOKIE = "__Host-session"

_STATEMENTS: list[dict[str, Any]] = [
    {"Effect": "Allow", "Action": "shop:ListOrders", "Resource": "*"},
    {
        "Effect": "Allow",
        "Action": "shop:RefundOrder",
        "Resource": "*",
        "Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}},
    },
    {
        "Effect": "Allow",
        "Action": "shop:Inside",
        "Resource": "*",
        "Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}},
    },
    {"Effect": "Deny", "Action": "shop:Forbidden", "Resource": "*"},
]

ROUTES: dict[str, Any] = {
    "callers": [
        {"session_token": {}},
        {"certificate": {"rules": [{"san": "spiffe://example.com/{name}", "user": USER_ARN}]}},
    ],
    "routes": [
        {"id": "list-orders", "methods": ["GET"], "path": "/orders", "action": "shop:ListOrders"},
        {"id": "refund-order", "path": "/orders/{order}/refund", "action": "shop:RefundOrder"},
        {"id": "refund-one", "path": "/calls/{order}", "action": "shop:RefundOrder", "proof_for": "call"},
        {"id": "inside", "path": "/inside", "action": "shop:Inside"},
        {"id": "forbidden", "path": "/forbidden", "action": "shop:Forbidden"},
        {"id": "keep-token", "path": "/keep", "action": "shop:ListOrders", "forward_token": True},
        {"id": "assets", "path": "/static/**", "public": True},
        {"id": "grpc", "grpc": "shop.v1.Orders/Refund", "action": "shop:RefundOrder"},
    ],
}


def _resource(route: dict[str, Any]) -> dict[str, Any]:
    if route.get("public"):
        return route
    return {"resource": f"arn:aws:shop:eu-west-1:{ACCOUNT}:order/1", **route}


@functools.cache
def checked_image() -> core.Image:
    """Compile and load an account with one user, and the routes above."""
    user = {
        "Path": "/",
        "UserName": "alice",
        "UserId": USER_ID,
        "Arn": USER_ARN,
        "GroupList": [],
        "UserPolicyList": [
            {"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": _STATEMENTS}}
        ],
        "AttachedManagedPolicies": [],
    }
    account = {"UserDetailList": [user], "GroupDetailList": [], "RoleDetailList": [], "Policies": []}
    routes = {**ROUTES, "routes": [_resource(route) for route in ROUTES["routes"]]}
    report = parse_source(
        {f"accounts/{ACCOUNT}.json": json.dumps(account).encode(), "routes.yaml": json.dumps(routes).encode()}
    )
    if report.snapshot is None:
        raise ValueError("; ".join(str(problem) for problem in report.problems))
    return core.Image.from_bytes(write_image(report.snapshot))


def session(**changed: Any) -> str:
    """Seal a session of the user, good at the time of these tests."""
    now_ms = NOW * 1000
    said = SessionClaims(
        access_key_id=ACCESS_KEY_ID,
        kind=SessionKind.SIGN_IN,
        lineage=bytes(16),
        principal=USER_ARN,
        principal_id=USER_ID,
        session_name="",
        issued_at_ms=now_ms - 60_000,
        expires_at_ms=now_ms + 3_600_000,
        lineage_issued_at_ms=now_ms - 60_000,
        person=USER_ARN,
        person_id=USER_ID,
    )
    return seal(replace(said, **changed))


def bearer(token: str | None = None) -> dict[str, str]:
    """Return the header of a session."""
    return {"authorization": f"Bearer {token or session()}"}


@functools.cache
def plan(**settings: Any) -> core.CheckPlan:
    """Read settings, those of a prompt on the protected host unless changed."""
    return core.CheckPlan(CheckSettings(**{"prompt_url": PROMPT, "cookie_name": COOKIE, **settings}))


def check_bytes(
    message: bytes,
    *,
    by: core.Image | None = None,
    settings: Mapping[str, Any] | None = None,
    recorder: core.Recorder | None = None,
    sessions: core.SessionState | None = None,
) -> bytes:
    """Answer the bytes of a request as a listener does."""
    return core.check(
        by or checked_image(),
        message,
        seconds=NOW,
        nanos=0,
        plan=plan(**(settings or {})),
        recorder=recorder,
        sessions=sessions or state(),
    )


def check(
    path: str | bytes = "/orders",
    *,
    by: core.Image | None = None,
    settings: Mapping[str, Any] | None = None,
    recorder: core.Recorder | None = None,
    sessions: core.SessionState | None = None,
    **given: Any,
) -> ext_authz.CheckResponse:
    """Answer the request that `check_request` makes of the arguments."""
    answer = check_bytes(check_request(path, **given), by=by, settings=settings, recorder=recorder, sessions=sessions)
    return ext_authz.CheckResponse.FromString(answer)


def headers_of(response: Any) -> dict[str, str]:
    """Return the headers of an answer; each stands there once and overwrites."""
    headers: dict[str, str] = {}
    for option in response.headers:
        assert option.append_action == 2
        assert option.header.key not in headers
        headers[option.header.key] = option.header.value
    return headers


def facts_of(answer: ext_authz.CheckResponse) -> dict[str, Any]:
    """Return the dynamic metadata of an answer."""
    return dict(MessageToDict(answer.dynamic_metadata))
