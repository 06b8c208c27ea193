# SPDX-License-Identifier: Apache-2.0
"""
Requests of Envoy under an image with a shadow: what would be is told, and nothing of it is done before its time.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as ext_authz

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.model.decision import Decision
from sidecar.services.raw_records import split_records
from sidecar.transports.decision_records import describe_record
from tests.tokens import state
from tests.unit.core.asking import NOW
from tests.unit.core.checking import (
    USER_ARN,
    USER_ID,
    bearer,
    check,
    facts_of,
    headers_of,
    plan,
    session,
)
from tests.unit.core.routing import ACCOUNT, check_request

#: A minute from now.
UNTIL = "2026-01-01T00:01:00Z"
ORDER = f"arn:aws:shop:eu-west-1:{ACCOUNT}:order/1"


def _policy(name: str, effect: str, action: str, **condition: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": action, "Resource": "*", **condition}
    return {"PolicyName": name, "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]}}


_WITHOUT_MFA = {"Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}
POLICIES = [
    _policy("own", "Allow", "shop:List*"),
    _policy("stop", "Deny", "shop:ListSecrets"),
    _policy("grant", "Allow", "shop:Refund*"),
    _policy("prove", "Deny", "shop:ListCards", **_WITHOUT_MFA),
]
ROUTES = [
    {"id": "orders", "path": "/orders", "action": "shop:ListOrders", "resource": ORDER},
    {"id": "secrets", "path": "/secrets", "action": "shop:ListSecrets", "resource": ORDER},
    {"id": "cards", "path": "/cards", "action": "shop:ListCards", "resource": ORDER},
    {"id": "refund", "path": "/refund", "action": "shop:Refund", "resource": ORDER},
    {"id": "assets", "path": "/static/**", "public": True},
    {"id": "private", "path": "/static/private", "action": "shop:Manage", "resource": ORDER},
    {"id": "files", "path": "/files/{name}", "action": "shop:ListFiles", "resource": ORDER},
    {"id": "payroll", "path": "/files/payroll", "action": "shop:Manage", "resource": ORDER},
    {"id": "new", "path": "/new", "action": "shop:ListNew", "resource": ORDER},
    {"id": "open", "path": "/open", "public": True},
]
SHADOW = [
    *({"policy": f"inline:{USER_ARN}/{name}", "until": UNTIL} for name in ("stop", "grant", "prove")),
    *({"route": id, "until": UNTIL} for id in ("private", "payroll", "new", "open")),
]


@functools.cache
def shadowed_image() -> core.Image:
    user = {"Path": "/", "UserName": "alice", "UserId": USER_ID, "Arn": USER_ARN, "UserPolicyList": POLICIES}
    files = {
        f"accounts/{ACCOUNT}.json": {"UserDetailList": [user]},
        "routes.yaml": {"callers": [{"session_token": {}}], "routes": ROUTES},
        "shadow.yaml": SHADOW,
    }
    report = parse_source({name: json.dumps(content).encode() for name, content in files.items()}, now=NOW)
    assert report.snapshot is not None, report.problems
    return core.Image.from_bytes(write_image(report.snapshot))


def ask(path: str, **given: Any) -> ext_authz.CheckResponse:
    """Ask before the shadow ends, with the session of the user unless *given* says otherwise."""
    return check(path, by=shadowed_image(), **{"headers": bearer(), **given})


def ask_late(path: str, **given: Any) -> ext_authz.CheckResponse:
    """Ask at the moment when the shadow ends."""
    message = check_request(path, **{"headers": bearer(), **given})
    answer = core.check(shadowed_image(), message, seconds=NOW + 60, nanos=0, plan=plan(), sessions=state())
    return ext_authz.CheckResponse.FromString(answer)


CASES = [
    # path, status, reason and shadow decision; then status and reason once the shadow has ended.
    ("/orders", 200, "identity_allow", "allow", 200, "identity_allow"),
    ("/secrets", 200, "identity_allow", "explicit_deny", 403, "explicit_deny"),
    ("/refund", 403, "no_identity_allow", "allow", 403, "no_identity_allow"),
    ("/cards", 200, "identity_allow", "explicit_deny", 401, "explicit_deny"),
    ("/static/logo", 200, "public_route", "allow", 200, "public_route"),
    ("/static/private", 200, "public_route", "implicit_deny", 403, "no_identity_allow"),
    ("/files/a", 200, "identity_allow", "allow", 200, "identity_allow"),
    ("/files/payroll", 200, "identity_allow", "implicit_deny", 403, "no_identity_allow"),
    ("/new", 403, "no_route", "allow", 403, "no_route"),
    ("/open", 403, "no_route", "allow", 403, "no_route"),
    ("/nowhere", 403, "no_route", "implicit_deny", 403, "no_route"),
    ("/orders/../secrets", 403, "path_invalid", "implicit_deny", 403, "path_invalid"),
    ("/open/%2e%2e/orders", 403, "path_invalid", "implicit_deny", 403, "path_invalid"),
]


def status_of(answer: ext_authz.CheckResponse) -> int:
    """Return the HTTP status that a client sees, 200 where the request goes on."""
    if answer.WhichOneof("http_response") == "ok_response":
        assert answer.status.code == 0
        return 200
    assert answer.status.code != 0
    return int(answer.denied_response.status.code)


@pytest.mark.parametrize(("path", "status", "reason", "shadow", "late_status", "late_reason"), CASES)
def test_request_when_something_stands_in_shadow_then_it_is_answered_as_if_not_and_told_what_would_be(
    path: str, status: int, reason: str, shadow: str, late_status: int, late_reason: str
) -> None:
    answer, late = ask(path), ask_late(path)

    assert (status_of(answer), facts_of(answer)["reason"]) == (status, reason)
    assert facts_of(answer)["shadow_decision"] == shadow
    # Both must allow from then on.
    assert (status_of(late), facts_of(late)["reason"]) == (late_status, late_reason)


def test_identity_when_a_route_stands_in_shadow_then_its_headers_are_removed_all_the_same() -> None:
    for path in ("/secrets", "/static/private"):
        answer = ask(path, headers={**bearer(), "x-iam-principal": "root", "x_iam_account": "1"})

        assert "x_iam_account" in answer.ok_response.headers_to_remove
        assert "authorization" in answer.ok_response.headers_to_remove
        assert headers_of(answer.ok_response).get("x-iam-principal", "") != "root"


@pytest.mark.parametrize("path", ["/orders", "/secrets", "/new", "/refund"])
def test_session_when_it_is_over_then_it_is_denied_in_shadow_too(path: str) -> None:
    over = bearer(session(expires_at_ms=NOW * 1000 - 1))

    answer = ask(path, headers=over)

    assert status_of(answer) in (401, 403)
    assert facts_of(answer)["shadow_decision"] == "implicit_deny"


def test_caller_when_nobody_says_who_then_that_is_denied_in_shadow_too() -> None:
    answer = ask("/orders", headers={})

    assert (status_of(answer), facts_of(answer)["reason"]) == (401, "caller_unknown")
    assert facts_of(answer)["shadow_decision"] == "implicit_deny"


def test_proof_when_only_what_stands_in_shadow_asks_for_it_then_nobody_is_asked_before_its_time() -> None:
    assert status_of(ask("/cards")) == 200

    late = ask_late("/cards")

    assert "insufficient_user_authentication" in headers_of(late.denied_response)["www-authenticate"]
    assert json.loads(late.denied_response.body)["step_up_ticket"]


def test_requests_when_something_stands_in_shadow_then_they_are_counted_and_recorded_with_it() -> None:
    recorder = core.Recorder()
    recorder.keep_log(ring_bytes=1 << 16, allows=1.0, denials=1.0, must_record=True)

    for path in ("/secrets", "/refund", "/new", "/orders"):
        ask(path, recorder=recorder)

    allow, explicit, implicit = Decision.ALLOW, Decision.EXPLICIT_DENY, Decision.IMPLICIT_DENY
    assert recorder.telemetry()["shadow"] == {(allow, explicit): 1, (implicit, allow): 2, (allow, allow): 1}
    records, rest = split_records(recorder.read_records())
    assert rest == 0
    assert [describe_record(record)["shadowDecision"] for record in records] == [
        "explicit_deny",
        "allow",
        "allow",
        "allow",
    ]


def test_tokens_when_asked_twice_then_they_are_opened_once() -> None:
    recorder = core.Recorder()

    ask("/secrets", recorder=recorder)

    assert recorder.telemetry()["tokens_opened"] + recorder.telemetry()["tokens_known"] == 1
