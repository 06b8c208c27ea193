# SPDX-License-Identifier: Apache-2.0
"""
What of Envoy's Check is fuzzed: the reader of its requests, against Envoy's own classes, and the answers to them.

Whatever comes in, an answer says OK only where the decision is an allow, and then tells the upstream nothing that a
client has said; it never lacks a status, holds no session token, and no header that could be two.
"""

from __future__ import annotations

import functools
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2 as ext_authz
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from sidecar import core
from sidecar.compile.identity_headers import OWN_HEADERS
from sidecar.model.check import CheckSettings, CheckTemplates, OnError
from sidecar.model.errors import RequestError
from tests.fuzz.harness import Target
from tests.tokens import state
from tests.unit.core.asking import NOW
from tests.unit.core.attribute_classes import VARIANTS, read, say
from tests.unit.core.checking import COOKIE, PROMPT, USER_ARN, bearer, checked_image, session
from tests.unit.core.routing import check_request

_BROWSER = {"sec-fetch-mode": "navigate", "accept": "text/html"}


class BrokenPromiseError(Exception):
    """An answer says what it must not."""


def _run_reader(data: bytes) -> str:
    try:
        message = ext_authz.CheckRequest.FromString(data)
    except DecodeError:
        message = None
    try:
        found = read(data)
    except RequestError as error:
        return f"refused {error.field}"
    except DecodeError:
        # Metadata that is none; whoever looks into it will see.
        return "metadata"
    if message is None:
        # In what is stepped over anything may stand.
        return "stepped over"
    if len({name.lower() for name in found["headers"]}) != len(found["headers"]):
        return "one header in two spellings"
    said = say(message)
    if found != said:
        if any(said[name].keys() < found[name].keys() for name in ("headers", "extensions", "filters")):
            # An entry of a map with a field that nobody knows: to Python's protobuf all of it is unknown, to C++ not.
            return "half known entry"
        raise BrokenPromiseError(f"read as {found}, said {said}")
    return f"read {len(found['headers'])} {len(found['extensions'])} {len(found['filters'])}"


# --- answers


@functools.cache
def _plans() -> tuple[core.CheckPlan, ...]:
    templates = CheckTemplates(denied_html="{{request_id}}", step_up_json='{"a":"{{prompt_url}}","b":{{methods}}}')
    return (
        core.CheckPlan(CheckSettings(prompt_url=PROMPT, cookie_name=COOKIE)),
        core.CheckPlan(
            CheckSettings(trusted_hops=1, on_error=OnError.ERROR_RESPONSE, cookie_name=COOKIE, templates=templates)
        ),
    )


@functools.cache
def _token() -> str:
    return session()


def _values(response: Any) -> dict[str, str]:
    values: dict[str, str] = {}
    for option in response.headers:
        if option.header.key in values or option.header.raw_value:
            raise BrokenPromiseError(f"{option.header.key} stands there twice")
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in option.header.value):
            raise BrokenPromiseError(f"{option.header.key} holds what ends a line")
        values[option.header.key] = option.header.value
    return values


def _check_answer(data: bytes) -> str:
    answer = ext_authz.CheckResponse.FromString(data)
    facts = MessageToDict(answer.dynamic_metadata)
    member = str(answer.WhichOneof("http_response"))
    if not answer.HasField("status"):
        raise BrokenPromiseError("there is no status")
    says_ok = [answer.status.code == 0, member == "ok_response", facts["decision"] == "allow"]
    if len(set(says_ok)) != 1:
        raise BrokenPromiseError(f"OK is said in part: {says_ok}")
    response = getattr(answer, member)
    values = _values(response)
    if member == "ok_response":
        if set(values) & set(response.headers_to_remove):
            raise BrokenPromiseError("what is set is removed again")
        for own in OWN_HEADERS:
            if own not in values and own not in response.headers_to_remove:
                raise BrokenPromiseError(f"{own} is left to the client")
        if values.get("x-iam-principal", USER_ARN) != USER_ARN:
            raise BrokenPromiseError("somebody else is let in")
        if "x-iam-principal" not in values and facts["reason"] != "public_route":
            raise BrokenPromiseError("nobody is let in")
    elif response.status.code < 300:
        raise BrokenPromiseError(f"a denial has the status {response.status.code}")
    if _token().encode() in data:
        raise BrokenPromiseError("a token is in the answer")
    return f"{member} {facts['reason']} {sorted(values)}"


def _run_check(data: bytes) -> str:
    outcomes = [
        _check_answer(core.check(image, data, seconds=NOW, nanos=0, plan=plan, sessions=state()))
        for image in (checked_image(), None)
        for plan in _plans()
    ]
    return " | ".join(outcomes)


def _asked() -> list[bytes]:
    cookie = {"cookie": f"a=1; {COOKIE}={_token()}; b=2"}
    claimed = {"x-iam-principal": "x", "x_iam_account": "y", "x-forwarded-client-cert": "z", "x-request-id": "r1"}
    forwarded = {"x-forwarded-for": "10.0.0.1, 203.0.113.9"}
    return [
        b"",
        check_request("/orders?a=1", headers={**bearer(_token()), **claimed}),
        check_request("/orders", headers={**cookie, **forwarded}),
        check_request("/inside", headers={**bearer(_token()), **forwarded}),
        check_request("/keep", headers={**cookie, **bearer(_token())}),
        check_request("/static/a.css", headers={**cookie, **claimed}),
        check_request("/orders/1/refund", headers={**cookie, **_BROWSER}),
        check_request("/orders/1/refund", method="POST", headers={**cookie, **_BROWSER}),
        check_request("/orders/1/refund", headers=bearer(_token())),
        check_request(
            "/shop.v1.Orders/Refund", method="POST", headers={"content-type": "application/grpc", **bearer(_token())}
        ),
        check_request("/orders", headers=_BROWSER),
        check_request("/orders", peer="spiffe://example.com/alice", raw_headers=True, headers=claimed),
        check_request("/orders/../x"),
    ]


CHECK_TARGETS = (
    Target(
        name="check_request",
        about="CheckRequests of Envoy, against Envoy's own classes",
        seeds=lambda: [message.SerializeToString() for message in VARIANTS.values()],
        run=_run_reader,
        tokens=(b":path", b"x-request-id", b"\x0a", b"\x6a", b"\x1a"),
        max_bytes=1 << 14,
    ),
    Target(
        name="check",
        about="CheckRequests of Envoy, answered: never OK but for an allow, and nothing of a client's in it",
        seeds=_asked,
        run=_run_check,
        tokens=(b"x-iam-", b"x_iam_", COOKIE.encode(), b"; ", b"\r\n", b"/orders", b"%2f", b"application/grpc"),
        in_place=0.4,
        max_bytes=1 << 14,
    ),
)
