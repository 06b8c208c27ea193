# SPDX-License-Identifier: Apache-2.0
"""
What Envoy is told of a request, read by Envoy's own classes.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2 as ext_authz
from google.rpc import error_details_pb2, status_pb2

from sidecar import core
from sidecar.model.check import CheckResult, CheckSettings, CheckTemplates, OnError
from sidecar.model.decision import Reason
from sidecar.model.errors import SettingsError
from sidecar.model.listener import RpcStatus
from sidecar.services.raw_records import split_records
from sidecar.transports.decision_records import describe_record
from tests.tokens import ACCESS_KEY_ID, PRINCIPAL, revocation, state
from tests.unit.core.asking import NOW
from tests.unit.core.checking import (
    COOKIE,
    HOST,
    PROMPT,
    USER_ARN,
    USER_ID,
    bearer,
    check,
    check_bytes,
    facts_of,
    headers_of,
    session,
)
from tests.unit.core.routing import ACCOUNT, check_request
from tests.unit.core.sessions import proof

BROWSER = {"sec-fetch-mode": "navigate", "accept": "text/html"}
OLD_BROWSER = {"accept": "text/html,application/xhtml+xml"}


def with_cookie(**headers: str) -> dict[str, str]:
    """Return headers of a browser that is signed in."""
    return {"cookie": f"{COOKIE}={session()}", **headers}


def test_request_when_policies_allow_it_then_the_status_says_so_and_the_upstream_is_told_who_asks() -> None:
    answer = check(headers=bearer())

    assert answer.HasField("status")
    assert answer.status.code == RpcStatus.OK
    assert answer.WhichOneof("http_response") == "ok_response"
    assert headers_of(answer.ok_response) == {
        "x-iam-principal": USER_ARN,
        "x-iam-account": ACCOUNT,
        "x-iam-route": "list-orders",
    }
    assert facts_of(answer) == {
        "decision": "allow",
        "reason": "identity_allow",
        "principal": USER_ARN,
        "route": "list-orders",
        "snapshot_revision": facts_of(answer)["snapshot_revision"],
    }
    assert len(facts_of(answer)["snapshot_revision"]) == 64


@pytest.mark.parametrize(
    ("path", "given", "reason"),
    [
        ("/nowhere", {}, Reason.NO_ROUTE),
        ("/orders", {"method": "PUT"}, Reason.NO_ROUTE),
        ("/orders/../orders", {}, Reason.PATH_INVALID),
        ("/forbidden", {}, Reason.EXPLICIT_DENY),
        ("/inside", {}, Reason.NO_IDENTITY_ALLOW),
    ],
)
def test_request_when_denied_then_nothing_is_given_away_but_to_the_proxy(
    path: str, given: dict[str, Any], reason: Reason
) -> None:
    answer = check(path, headers={"x-request-id": "a-1", **bearer()}, **given)

    assert answer.status.code == RpcStatus.PERMISSION_DENIED
    assert answer.denied_response.status.code == 403
    assert json.loads(answer.denied_response.body) == {"error": "access_denied", "request_id": "a-1"}
    assert headers_of(answer.denied_response) == {
        "x-request-id": "a-1",
        "cache-control": "no-store",
        "content-type": "application/json",
    }
    assert facts_of(answer)["reason"] == reason.word
    assert facts_of(answer)["decision"] == ("explicit_deny" if reason is Reason.EXPLICIT_DENY else "implicit_deny")


@pytest.mark.parametrize("request_id", ['a"b', "a b", "<script>", "x" * 65, "ä"])
def test_request_id_when_it_is_no_plain_one_then_it_is_nowhere_in_the_answer(request_id: str) -> None:
    answer = check("/nowhere", headers={"x-request-id": request_id})

    assert "x-request-id" not in headers_of(answer.denied_response)
    assert json.loads(answer.denied_response.body)["request_id"] == ""


def test_page_when_it_is_denied_then_a_page_says_so() -> None:
    answer = check("/forbidden", headers=with_cookie(**BROWSER))

    assert answer.denied_response.status.code == 403
    assert headers_of(answer.denied_response)["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers_of(answer.denied_response)["content-security-policy"]
    assert "<h1>Access denied</h1>" in answer.denied_response.body


@pytest.mark.parametrize(
    ("token", "sessions", "reason"),
    [
        ("nonsense" * 12, state(), Reason.SESSION_INVALID),
        (session(expires_at_ms=NOW * 1000), state(), Reason.SESSION_EXPIRED),
        (session(), state(revocation(PRINCIPAL, USER_ID, NOW * 1000)), Reason.SESSION_REVOKED),
    ],
)
def test_session_when_it_is_no_good_then_the_api_is_told_that_and_nothing_more(
    token: str, sessions: core.SessionState, reason: Reason
) -> None:
    answer = check(headers=bearer(token), sessions=sessions)

    assert answer.status.code == RpcStatus.UNAUTHENTICATED
    assert answer.denied_response.status.code == 401
    challenge = headers_of(answer.denied_response)["www-authenticate"]
    assert challenge.startswith('Bearer realm="iam-sidecar", error="invalid_token"')
    assert json.loads(answer.denied_response.body)["error"] == "unauthenticated"
    assert facts_of(answer)["reason"] == reason.word


def test_session_when_it_cannot_be_verified_then_it_is_denied_for_now() -> None:
    answer = check(headers=bearer(), sessions=state(valid_until=0), settings={"on_error": OnError.ERROR_RESPONSE})

    assert answer.WhichOneof("http_response") == "denied_response"
    assert answer.denied_response.status.code == 503
    assert answer.status.code == RpcStatus.UNAVAILABLE


def test_caller_when_nobody_says_who_then_an_api_is_asked_for_a_token() -> None:
    answer = check()

    assert answer.denied_response.status.code == 401
    assert headers_of(answer.denied_response)["www-authenticate"] == 'Bearer realm="iam-sidecar"'
    assert facts_of(answer)["reason"] == "caller_unknown"


@pytest.mark.parametrize("headers", [BROWSER, OLD_BROWSER])
def test_page_when_nobody_is_signed_in_then_the_browser_goes_to_sign_in_and_comes_back(
    headers: dict[str, str],
) -> None:
    answer = check("/orders?a=1&b=%20", headers=headers)

    assert answer.denied_response.status.code == 303
    assert headers_of(answer.denied_response)["location"] == (
        f"{PROMPT}/sign-in?next=https%3A%2F%2F{HOST}%2Forders%3Fa%3D1%26b%3D%2520"
    )
    assert answer.denied_response.body == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-mode": "cors", "accept": "text/html"},
        {"sec-fetch-site": "same-origin", "accept": "text/html"},
        {"x-requested-with": "XMLHttpRequest", "accept": "text/html"},
        {"accept": "*/*"},
    ],
)
def test_script_when_nobody_is_signed_in_then_it_is_not_sent_anywhere(headers: dict[str, str]) -> None:
    answer = check(headers=headers)

    assert answer.denied_response.status.code == 401
    assert "location" not in headers_of(answer.denied_response)


def test_proof_when_it_would_help_then_an_api_gets_a_ticket_and_what_rfc_9470_says() -> None:
    answer = check("/orders/7/refund", headers={"x-request-id": "r1", **bearer()})

    assert answer.status.code == RpcStatus.UNAUTHENTICATED
    assert answer.denied_response.status.code == 401
    challenge = headers_of(answer.denied_response)["www-authenticate"]
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'acr_values="webauthn u2f totp recovery"' in challenge
    assert 'max_age="299"' in challenge
    body = json.loads(answer.denied_response.body)
    assert body == {
        "error": "insufficient_user_authentication",
        "request_id": "r1",
        "step_up_ticket": body["step_up_ticket"],
        "prompt_url": f"{PROMPT}/step-up?ticket={body['step_up_ticket']}",
        "max_age": 299,
        "methods": ["webauthn", "u2f", "totp", "recovery"],
    }


def test_proof_when_it_was_given_then_the_request_is_allowed() -> None:
    assert check("/orders/7/refund", headers=bearer(session(mfa=proof()))).status.code == RpcStatus.OK


def test_proof_when_a_page_needs_it_then_the_browser_goes_to_the_prompt() -> None:
    answer = check("/orders/7/refund", headers=with_cookie(**BROWSER))

    assert answer.denied_response.status.code == 303
    assert headers_of(answer.denied_response)["location"].startswith(f"{PROMPT}/step-up?ticket=")
    assert "www-authenticate" not in headers_of(answer.denied_response)


def test_proof_when_a_form_needs_it_then_a_page_keeps_the_form() -> None:
    answer = check("/orders/7/refund", method="POST", headers=with_cookie(**BROWSER))

    assert answer.denied_response.status.code == 401
    assert f'<a href="{PROMPT}/step-up?ticket=' in answer.denied_response.body
    assert 'target="_blank"' in answer.denied_response.body
    assert "location" not in headers_of(answer.denied_response)


def test_proof_when_a_grpc_client_needs_it_then_the_details_of_the_status_say_how() -> None:
    headers = {"content-type": "application/grpc+proto", "te": "trailers", **bearer()}

    answer = check("/shop.v1.Orders/Refund", method="POST", headers=headers)

    assert answer.denied_response.status.code == 401
    sent = headers_of(answer.denied_response)
    assert "content-type" not in sent
    text = sent["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    assert status.code == RpcStatus.UNAUTHENTICATED
    assert status.message == answer.denied_response.body
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("MFA_REQUIRED", "iam-sidecar")
    assert dict(info.metadata) == {
        "prompt_url": f"{PROMPT}/step-up?ticket={info.metadata['step_up_ticket']}",
        "step_up_ticket": info.metadata["step_up_ticket"],
        "max_age": "299",
        "methods": "webauthn u2f totp recovery",
    }


def test_proof_when_no_session_could_carry_it_then_signing_in_is_what_helps() -> None:
    given: dict[str, Any] = {"peer": "spiffe://example.com/alice"}

    assert check("/orders", **given).status.code == RpcStatus.OK
    answer = check("/orders/7/refund", headers=BROWSER, **given)
    assert headers_of(answer.denied_response)["location"].startswith(f"{PROMPT}/sign-in?next=")
    answer = check("/orders/7/refund", **given)
    assert headers_of(answer.denied_response)["www-authenticate"] == 'Bearer realm="iam-sidecar"'
    assert "ticket" not in answer.denied_response.body


def test_proof_when_hints_are_off_then_it_is_a_denial_like_any_other() -> None:
    answer = check("/orders/7/refund", headers=with_cookie(**BROWSER), settings={"step_up_hints": False})

    assert answer.denied_response.status.code == 403
    assert "ticket" not in answer.denied_response.body


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_page_when_there_is_no_prompt_then_nobody_is_sent_anywhere(method: str) -> None:
    for headers in (BROWSER, with_cookie(**BROWSER)):
        answer = check("/orders/7/refund", method=method, headers=headers, settings={"prompt_url": ""})
        assert answer.denied_response.status.code == 401
        assert "location" not in headers_of(answer.denied_response)
        assert "<h1>Access denied</h1>" in answer.denied_response.body


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"scheme": "javascript"}, None),
        ({"host": "shop.example.com@evil.example"}, None),
        ({"host": "SHOP.example.com:8443"}, "https%3A%2F%2Fshop.example.com%3A8443%2Forders"),
        ({"host": "shop.example.com:99999999"}, None),
        ({"host": "[::1]"}, None),
        ({"scheme": "http"}, "http%3A%2F%2Fshop.example.com%2Forders"),
        ({"path": "/orders?" + "x" * 2048}, None),
        ({"path": "/orders?a=\\\\evil"}, None),
    ],
)
def test_return_address_when_it_could_be_read_in_two_ways_then_there_is_none(
    given: dict[str, Any], address: str | None
) -> None:
    answer = check(**{"path": "/orders", "headers": BROWSER, **given})

    location = headers_of(answer.denied_response)["location"]
    assert location == f"{PROMPT}/sign-in" + (f"?next={address}" if address else "")


@pytest.mark.parametrize("on_error", OnError)
@pytest.mark.parametrize(
    "message", [b"\xff", b"\x0a\xff", check_request() + b"\x0b", check_request(headers={"a b": ""})]
)
def test_request_when_it_cannot_be_read_then_it_is_denied_whatever_the_settings_say(
    message: bytes, on_error: OnError
) -> None:
    answer = ext_authz.CheckResponse.FromString(check_bytes(message, settings={"on_error": on_error}))

    assert answer.status.code == RpcStatus.INVALID_ARGUMENT
    assert answer.denied_response.status.code == 400
    assert facts_of(answer)["reason"] == "request_invalid"


def test_request_when_it_is_too_large_then_it_is_denied() -> None:
    message = check_request(headers={"x": "y" * (1024 * 1024)})

    answer = ext_authz.CheckResponse.FromString(check_bytes(message, settings={"on_error": OnError.ERROR_RESPONSE}))

    assert answer.denied_response.status.code == 413
    assert answer.status.code == RpcStatus.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("on_error", "member"), [(OnError.DENY, "denied_response"), (OnError.ERROR_RESPONSE, "error_response")]
)
def test_request_when_there_is_no_snapshot_then_the_settings_say_who_decides(on_error: OnError, member: str) -> None:
    plan = core.CheckPlan(CheckSettings(on_error=on_error))

    answer = ext_authz.CheckResponse.FromString(core.check(None, check_request(), seconds=NOW, nanos=0, plan=plan))

    assert answer.WhichOneof("http_response") == member
    assert getattr(answer, member).status.code == 503
    assert answer.status.code == RpcStatus.UNAVAILABLE
    assert facts_of(answer)["reason"] == "no_snapshot"


def test_results_when_requests_are_answered_then_each_is_counted() -> None:
    recorder = core.Recorder()
    for path, headers in (
        ("/orders", bearer()),
        ("/static/a.css", {}),
        ("/forbidden", bearer()),
        ("/orders", {}),
        ("/orders/7/refund", bearer()),
    ):
        check(path, headers=headers, recorder=recorder)
    check_bytes(b"\xff", recorder=recorder)

    told = recorder.telemetry()["told"]
    assert {result: told[result] for result in CheckResult} == {
        CheckResult.ALLOW: 2,
        CheckResult.DENY: 1,
        CheckResult.SIGN_IN: 1,
        CheckResult.STEP_UP: 1,
        CheckResult.ERROR: 1,
    }
    assert sum(recorder.telemetry()["decisions"].values()) == 6


def test_templates_when_set_then_what_is_filled_in_is_escaped() -> None:
    templates = CheckTemplates(
        denied_json='{"id":"{{request_id}}","word":"{{ error }}"}',
        step_up_html='<a href="{{prompt_url}}">{{methods}} within {{max_age}} s</a>',
    )
    settings = {"prompt_url": "https://x.example/?a=1&b='<>", "templates": templates}

    denied = check("/forbidden", headers={"x-request-id": "r1", **bearer()}, settings=settings)
    form = check("/orders/7/refund", method="POST", headers=with_cookie(**BROWSER), settings=settings)

    assert json.loads(denied.denied_response.body) == {"id": "r1", "word": "access_denied"}
    assert '<a href="https://x.example/?a=1&amp;b=&#39;&lt;&gt;/step-up?ticket=' in form.denied_response.body
    assert "webauthn, u2f, totp, recovery within 299 s" in form.denied_response.body
    assert "content-security-policy" not in headers_of(form.denied_response)


@pytest.mark.parametrize(
    ("template", "words"),
    [("{{secret}}", "which does not exist"), ("x" * 32769, "longer than"), ("{{error}}x" * 65, "more than 128 pieces")],
)
def test_templates_when_they_are_none_then_the_plan_is_refused(template: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        check(settings={"templates": CheckTemplates(denied_html=template)})


@pytest.mark.parametrize(
    "settings", [{"prompt_url": "https://x\r\ny"}, {"cookie_name": 'a"b'}, {"prompt_url": "x" * 2049}]
)
def test_plan_when_a_setting_can_stand_in_no_header_then_it_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="printable"):
        check(settings=settings)


def test_record_when_kept_then_it_holds_the_question_and_no_token() -> None:
    recorder = core.Recorder()
    recorder.keep_log(ring_bytes=65536, allows=1.0, denials=1.0, must_record=False)
    token = session()
    check("/inside?secret=1", headers={"x-request-id": "r1", **bearer(token)}, recorder=recorder)
    check("/static/x", headers=bearer(token), recorder=recorder)
    check("//x", recorder=recorder)

    block = recorder.read_records()
    records, rest = split_records(block)
    assert rest == 0
    assert token.encode() not in block
    assert b"secret" not in block
    asked, public, refused = (describe_record(record) for record in records)
    assert asked["method"] == "Check"
    assert (asked["eventSource"], asked["eventName"]) == ("shop", "Inside")
    assert asked["userIdentity"]["arn"] == USER_ARN
    assert asked["userIdentity"]["accessKeyId"] == ACCESS_KEY_ID
    assert asked["requestParameters"]["context"]["aws:SourceIp"] == "203.0.113.7"
    assert (asked["route"], asked["requestID"]) == ("inside", "r1")
    assert asked["http"] == {"method": "GET", "host": HOST, "path": "/inside"}
    assert asked["reason"] == "no_identity_allow"
    assert (public["decision"], public["reason"], public["route"]) == ("allow", "public_route", "assets")
    assert (refused["reason"], refused["http"]["path"]) == ("path_invalid", "//x")


def test_record_when_it_must_be_kept_and_there_is_no_place_then_the_answer_is_an_error() -> None:
    recorder = core.Recorder()
    recorder.keep_log(ring_bytes=4096, allows=1.0, denials=1.0, must_record=True)
    answers = [check(headers=bearer(), recorder=recorder) for _ in range(16)]

    assert answers[0].status.code == RpcStatus.OK
    assert answers[-1].status.code == RpcStatus.UNAVAILABLE
    assert answers[-1].denied_response.status.code == 503
    assert facts_of(answers[-1])["reason"] == "audit_unavailable"
    assert recorder.telemetry()["told"][CheckResult.ERROR] > 0
    assert sum(recorder.telemetry()["told"]) == 16
