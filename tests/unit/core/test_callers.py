# SPDX-License-Identifier: Apache-2.0
"""Who calls: the first of the callers whose credential is there decides."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import pytest

from sidecar import core
from sidecar.model.decision import Reason
from sidecar.model.route import CallerSource
from tests.unit.core.routing import ACCOUNT, check_request, resolve, routes_image

WEB = f"arn:aws:sts::{ACCOUNT}:assumed-role/Web/"
BILLING = f"arn:aws:sts::{ACCOUNT}:assumed-role/Billing/"
BATCH = f"arn:aws:sts::{ACCOUNT}:assumed-role/Batch/"
GUEST = f"arn:aws:sts::{ACCOUNT}:assumed-role/Guest/"
COOKIE = "__Host-iam-sidecar"

KEY = "a key of a batch job"
KEY_DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
OTHER_KEY = "a key that the proxy's configuration knows"
OTHER_DIGEST = hashlib.sha256(OTHER_KEY.encode()).hexdigest()

SESSION: dict[str, Any] = {"session_token": {"header": True, "cookie": True}}
JWT: dict[str, Any] = {
    "jwt": {
        "rules": [
            {
                "when": [
                    {"claim": "iss", "is": "https://idp.example.com"},
                    {"claim": "realm.groups", "is": ["admins", "operators"]},
                ],
                "role": f"arn:aws:iam::{ACCOUNT}:role/Web",
                "session_name": "{jwt.sub}",
            },
            {
                "when": [
                    {"claim": "iss", "is": "https://idp.example.com"},
                    {"claim": "email_verified", "is": True},
                ],
                "user": f'arn:aws:iam::{ACCOUNT}:user/{{jwt."https://example.com/name"}}',
            },
        ]
    }
}
CERTIFICATE: dict[str, Any] = {
    "certificate": {
        "rules": [
            {
                "san": "spiffe://example.com/ns/{namespace}/sa/billing",
                "role": f"arn:aws:iam::{ACCOUNT}:role/Billing",
                "session_name": "{namespace}",
            },
            {
                "san": "worker.example.com",
                "role": f"arn:aws:iam::{ACCOUNT}:role/Batch",
                "session_name": "worker",
            },
        ]
    }
}
API_KEY: dict[str, Any] = {
    "api_key": {
        "header": "x-api-key",
        "clients": [
            {
                "name": "batch",
                "sha256": ["0" * 64, KEY_DIGEST],
                "role": f"arn:aws:iam::{ACCOUNT}:role/Batch",
                "session_name": "batch",
            },
            {"name": "guests", "role": f"arn:aws:iam::{ACCOUNT}:role/Guest", "session_name": "{extension.team}"},
        ],
    }
}
ANONYMOUS: dict[str, Any] = {"anonymous": {}}

ROUTES = [{"id": "all", "path": "/**", "action": "app:Read", "resource": "*"}]


@functools.cache
def _image(*names: str) -> core.Image:
    known = {"session": SESSION, "jwt": JWT, "certificate": CERTIFICATE, "key": API_KEY, "anonymous": ANONYMOUS}
    return routes_image({"callers": [known[name] for name in names], "routes": ROUTES})


def _all() -> core.Image:
    return _image("session", "jwt", "certificate", "key", "anonymous")


def _claims(**more: Any) -> dict[str, Any]:
    return {"iss": "https://idp.example.com", "sub": "bob", "realm": {"groups": ["users", "admins"]}, **more}


# Session tokens.


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc_-D1", "abc_-D1"),
        ("bearer abc", "abc"),
        ("BEARER   abc", "abc"),
        ("Bearer abc def", "abc def"),
        ("Bearer abc,Bearer def", "abc,Bearer def"),
        ("Bearer " + "x" * 9000, "x" * 9000),
    ],
)
def test_header_when_it_holds_a_bearer_token_then_it_decides(header: str, token: str) -> None:
    found = resolve(_all(), headers={"authorization": header}, jwt=_claims(), peer="worker.example.com")

    assert (found.caller, found.session_token, found.principal) == (CallerSource.SESSION_TOKEN, token, "")
    assert found.reason is Reason.UNSPECIFIED


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YWxpY2U6eA==", "Bearer a.b.c", "Bearerabc", "abc"])
def test_header_when_it_holds_no_token_of_ours_then_the_next_caller_is_asked(header: str) -> None:
    found = resolve(_all(), headers={"authorization": header}, jwt=_claims())

    assert (found.caller, found.principal) == (CallerSource.JWT, WEB + "bob")


def test_header_when_it_is_sent_twice_then_neither_is_believed() -> None:
    twice = [("authorization", "Bearer one"), ("Authorization", "Bearer one")]
    found = resolve(_all(), headers=twice, raw_headers=True)

    assert found.caller is CallerSource.SESSION_TOKEN
    # What holds a space is no token.
    assert found.session_token == "Bearer one"


@pytest.mark.parametrize(
    ("cookie", "token"),
    [
        (f"{COOKIE}=abc", "abc"),
        (f"a=b; {COOKIE}=abc; c=d", "abc"),
        (f"a=b;{COOKIE}=abc", "abc"),
        (f"{COOKIE}=a=b", "a=b"),
        (f"x{COOKIE}=no; {COOKIE}=abc", "abc"),
        (f"{COOKIE}=one; {COOKIE}=two", f"{COOKIE}=two"),
    ],
)
def test_cookie_when_it_holds_a_token_then_it_decides(cookie: str, token: str) -> None:
    for raw in (False, True):
        found = resolve(_all(), headers={"cookie": cookie}, raw_headers=raw, cookie_name=COOKIE)

        assert (found.caller, found.session_token) == (CallerSource.SESSION_TOKEN, token)


@pytest.mark.parametrize(
    "cookie", ["", ";", "=", COOKIE, f"{COOKIE}=", f"{COOKIE}x=abc", f"{COOKIE.lower()}=abc", "a=b; ;"]
)
def test_cookie_when_it_holds_no_token_then_the_next_caller_is_asked(cookie: str) -> None:
    assert resolve(_all(), headers={"cookie": cookie}, cookie_name=COOKIE).caller is CallerSource.ANONYMOUS


def test_cookie_when_it_has_no_name_then_none_is_looked_for() -> None:
    assert resolve(_all(), headers={"cookie": f"{COOKIE}=abc; =x"}).caller is CallerSource.ANONYMOUS


def test_token_when_header_and_cookie_hold_one_then_the_header_counts() -> None:
    headers = {"cookie": f"{COOKIE}=cookie", "authorization": "Bearer header"}

    assert resolve(_all(), headers=headers, cookie_name=COOKIE).session_token == "header"
    headers["authorization"] = "Bearer a.b.c"
    assert resolve(_all(), headers=headers, cookie_name=COOKIE).session_token == "cookie"


def test_token_when_only_the_cookie_may_hold_one_then_the_header_is_passed_over() -> None:
    image = routes_image({"callers": [{"session_token": {"header": False}}], "routes": ROUTES})

    found = resolve(image, headers={"authorization": "Bearer abc"}, cookie_name=COOKIE)

    assert (found.caller, found.reason) == (CallerSource.NONE, Reason.CALLER_UNKNOWN)


# JWT.


@pytest.mark.parametrize(
    ("claims", "principal"),
    [
        (_claims(), WEB + "bob"),
        (_claims(realm={"groups": "operators"}), WEB + "bob"),
        (_claims(sub="b+o=b,.@-_"), WEB + "b+o=b,.@-_"),
        (_claims(sub=42), WEB + "42"),
        (_claims(sub=-7), WEB + "-7"),
        (_claims(sub=2**53 - 1), WEB + "9007199254740991"),
        (
            _claims(realm={"groups": []}, email_verified=True, **{"https://example.com/name": "alice"}),
            f"arn:aws:iam::{ACCOUNT}:user/alice",
        ),
        (
            _claims(sub="a|b", email_verified=True, **{"https://example.com/name": "a"}),
            f"arn:aws:iam::{ACCOUNT}:user/a",
        ),
    ],
)
def test_jwt_when_a_rule_holds_then_its_principal_calls(claims: dict[str, Any], principal: str) -> None:
    found = resolve(_image("jwt"), jwt=claims)

    assert (found.caller, found.principal) == (CallerSource.JWT, principal)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        _claims(iss="https://evil.example.com"),
        _claims(iss=["https://evil.example.com"]),
        _claims(iss="https://idp.example.com/"),
        _claims(iss={"x": "https://idp.example.com"}),
        _claims(iss=None),
        _claims(realm={"groups": ["admin", "Admins", "admins "]}),
        _claims(realm={"groups": {"admins": True}}),
        _claims(realm="admins"),
        _claims(groups=["admins"], realm={}),
        _claims(sub="x"),
        _claims(sub="x" * 65),
        _claims(sub="a/b"),
        _claims(sub="a:b"),
        _claims(sub="b\u00f6b"),
        _claims(sub=""),
        _claims(sub=None),
        _claims(sub=1.5),
        _claims(sub=2**53),
        _claims(sub=-(2**53)),
        _claims(sub=1e300),
        _claims(sub=["bob"]),
        _claims(sub=["bob", "eve"]),
        _claims(sub={"bob": 1}),
        _claims(realm={}, email_verified="yes", **{"https://example.com/name": "alice"}),
        _claims(realm={}, email_verified=False, **{"https://example.com/name": "alice"}),
        _claims(realm={}, email_verified=True, **{"https://example.com/name": "alice/../bob"}),
        _claims(realm={}, email_verified=True, **{"https://example.com/name": ""}),
        _claims(realm={}, email_verified=True, https={"//example": {"com/name": "alice"}}),
    ],
)
def test_jwt_when_no_rule_holds_then_it_is_passed_over(claims: dict[str, Any]) -> None:
    found = resolve(_image("jwt"), jwt=claims)

    assert (found.caller, found.principal, found.reason) == (CallerSource.NONE, "", Reason.CALLER_UNKNOWN)
    assert resolve(_image("jwt", "anonymous"), jwt=claims).caller is CallerSource.ANONYMOUS


def test_jwt_when_it_stands_elsewhere_then_it_is_not_believed() -> None:
    for place in (("envoy.filters.http.lua", "jwt_payload"), ("envoy.filters.http.jwt_authn", "other")):
        assert resolve(_image("jwt"), jwt=_claims(), jwt_place=place).caller is CallerSource.NONE
    # Nor where a client says so itself.
    headers = {"authorization": "Bearer a.b.c", "x-jwt-payload": '{"iss": "https://idp.example.com"}'}
    assert resolve(_image("jwt"), headers=headers).caller is CallerSource.NONE


# Certificates.


@pytest.mark.parametrize(
    ("peer", "principal"),
    [
        ("spiffe://example.com/ns/shop/sa/billing", BILLING + "shop"),
        ("worker.example.com", BATCH + "worker"),
    ],
)
def test_certificate_when_its_name_is_that_of_a_rule_then_its_principal_calls(peer: str, principal: str) -> None:
    found = resolve(_all(), peer=peer)

    assert (found.caller, found.principal) == (CallerSource.CERTIFICATE, principal)


@pytest.mark.parametrize(
    "peer",
    [
        "",
        "spiffe://example.com/ns//sa/billing",
        "spiffe://example.com/ns/shop/x/sa/billing",
        "spiffe://example.com/ns/shop/sa/billing/",
        "spiffe://example.com/ns/shop/sa/billing2",
        "spiffe://example.com/ns/shop/sa/bill",
        "spiffe://example.com/ns/shop",
        "spiffe://example.com/ns/",
        "spiffe://EXAMPLE.com/ns/shop/sa/billing",
        "spiffe://evil.com/ns/shop/sa/billing",
        "xspiffe://example.com/ns/shop/sa/billing",
        "spiffe://example.com/ns/s/sa/billing",
        "spiffe://example.com/ns/a b/sa/billing",
        "spiffe://example.com/ns/a:b/sa/billing",
        "worker.example.com.evil.com",
        "CN=worker.example.com",
    ],
)
def test_certificate_when_no_rule_has_its_name_then_it_is_passed_over(peer: str) -> None:
    assert resolve(_image("certificate"), peer=peer).caller is CallerSource.NONE
    assert resolve(_all(), peer=peer).caller is CallerSource.ANONYMOUS


# API keys.


def test_key_when_a_client_has_its_digest_then_that_client_calls() -> None:
    for raw in (False, True):
        found = resolve(_all(), headers={"X-Api-Key": KEY}, raw_headers=raw)

        assert (found.caller, found.principal) == (CallerSource.API_KEY, BATCH + "batch")


@pytest.mark.parametrize("digest", [OTHER_DIGEST, OTHER_DIGEST.upper()])
def test_key_when_an_extension_names_its_client_then_that_client_calls(digest: str) -> None:
    extensions = {"team": "red", f"iam-api-key:{digest}": "guests", f"iam-api-key:{'0' * 64}": "batch"}
    found = resolve(_all(), headers={"x-api-key": OTHER_KEY}, extensions=extensions)

    assert (found.caller, found.principal) == (CallerSource.API_KEY, GUEST + "red")


@pytest.mark.parametrize(
    ("headers", "extensions"),
    [
        ({"x-api-key": ""}, {}),
        ({"x-api-key": KEY + " "}, {}),
        ({"x-api-key": KEY_DIGEST}, {}),
        ({"x-api-key2": KEY}, {}),
        ({"x-api-key": OTHER_KEY}, {f"iam-api-key:{OTHER_DIGEST}": "nobody"}),
        ({"x-api-key": OTHER_KEY}, {f"iam-api-key:{OTHER_DIGEST}": ""}),
        ({"x-api-key": OTHER_KEY}, {f"iam-api-key:{OTHER_DIGEST[:-1]}": "batch"}),
        ({"x-api-key": OTHER_KEY}, {f"iam-api-key:{OTHER_DIGEST[:-1]}x": "batch"}),
        ({"x-api-key": OTHER_KEY}, {OTHER_DIGEST: "batch"}),
        # A session name of one letter is none.
        ({"x-api-key": OTHER_KEY}, {f"iam-api-key:{OTHER_DIGEST}": "guests", "team": "r"}),
        ({"x-api-key": OTHER_KEY}, {f"iam-api-key:{OTHER_DIGEST}": "guests"}),
    ],
)
def test_key_when_it_is_nobodys_then_it_is_passed_over(headers: dict[str, str], extensions: dict[str, str]) -> None:
    assert resolve(_image("key"), headers=headers, extensions=extensions).caller is CallerSource.NONE


def test_key_when_it_is_sent_twice_then_it_is_nobodys() -> None:
    twice = [("x-api-key", KEY), ("x-api-key", KEY)]

    assert resolve(_image("key"), headers=twice, raw_headers=True).caller is CallerSource.NONE


# The order, and nobody.


def test_callers_when_several_credentials_are_there_then_their_order_decides() -> None:
    given: dict[str, Any] = {
        "headers": {"authorization": "Bearer token", "x-api-key": KEY},
        "jwt": _claims(),
        "peer": "worker.example.com",
    }
    order = ["session", "jwt", "certificate", "key", "anonymous"]
    sources = [
        CallerSource.SESSION_TOKEN,
        CallerSource.JWT,
        CallerSource.CERTIFICATE,
        CallerSource.API_KEY,
        CallerSource.ANONYMOUS,
    ]

    for first in range(5):
        turned = order[first:] + order[:first]
        if turned[-1] == "anonymous" or first == 4:
            assert resolve(_image(order[first]), **given).caller is sources[first]
    assert resolve(_image("key", "jwt", "session"), **given).principal == BATCH + "batch"
    assert resolve(_image("certificate", "session"), **given).principal == BATCH + "worker"


def test_caller_when_it_is_anonymous_then_it_may_stand_for_a_role() -> None:
    plain = resolve(_image("anonymous"))
    role = {"anonymous": {"role": f"arn:aws:iam::{ACCOUNT}:role/Guest", "session_name": "anybody"}}
    named = resolve(routes_image({"callers": [role], "routes": ROUTES}))

    assert (plain.caller, plain.principal, plain.reason) == (CallerSource.ANONYMOUS, "", Reason.UNSPECIFIED)
    assert (named.caller, named.principal) == (CallerSource.ANONYMOUS, GUEST + "anybody")


def test_caller_when_no_file_says_who_may_be_one_then_it_is_whoever_has_a_session() -> None:
    image = routes_image({"routes": ROUTES})

    assert resolve(image, headers={"authorization": "Bearer x"}).caller is CallerSource.SESSION_TOKEN
    assert resolve(image, peer="worker.example.com", jwt=_claims()).reason is Reason.CALLER_UNKNOWN


def test_token_when_it_is_resolved_then_it_is_not_shown() -> None:
    found = core.resolve_check(_all(), check_request(headers={"authorization": "Bearer secret-token"}))

    assert found.session_token == "secret-token"
    assert "secret-token" not in repr(found)
