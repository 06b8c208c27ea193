# SPDX-License-Identifier: Apache-2.0
"""What a request that took a route asks: values of it in the templates of the route."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from sidecar import core
from sidecar.model.decision import Reason
from sidecar.model.request import ContextValue
from sidecar.model.route import CallerSource
from tests.unit.core import asking
from tests.unit.core.routing import ACCOUNT, resolve, routes_image

#: What every request below says of itself.
OWN = {"aws:SourceIp": ContextValue(("203.0.113.7",)), "aws:SecureTransport": ContextValue(("true",))}


def _one(**route: Any) -> core.Image:
    callers = [
        {"jwt": {"rules": [{"when": [{"claim": "iss", "is": "x"}], "user": f"arn:aws:iam::{ACCOUNT}:user/alice"}]}},
        {"anonymous": {}},
    ]
    whole = {"id": "one", "path": "/{name}", "action": "app:Read", "resource": "*", **route}
    return routes_image({"callers": callers, "routes": [whole]})


@functools.cache
def _resource(template: str, path: str = "/{name}") -> core.Image:
    return _one(path=path, resource=template)


@functools.cache
def _context(template: str) -> core.Image:
    return _one(path="/**", context={"app:Value": template})


def _value(image: core.Image, path: str | bytes = "/x", **given: Any) -> ContextValue | Reason | None:
    """Give what `app:Value` is, None where it is not there, or the reason why the request is refused."""
    found = resolve(image, path, **given)
    if found.reason is not Reason.UNSPECIFIED:
        return found.reason
    return found.context.get("app:Value")


def _values(*texts: str) -> ContextValue:
    return ContextValue(texts, multivalued=len(texts) > 1)


# Resources.


@pytest.mark.parametrize(
    ("template", "path", "resource"),
    [
        ("arn:aws:app:::{name}", "/x", "arn:aws:app:::x"),
        ("arn:aws:app:::{name}", "/a%20b", "arn:aws:app:::a b"),
        ("arn:aws:app:::{name}", "/na%c3%afve", "arn:aws:app:::na\u00efve"),
        ("arn:aws:app:::{name}", "/a:b", "arn:aws:app:::a:b"),
        ("arn:aws:app:::x/{name}/y", "/a+b@c", "arn:aws:app:::x/a+b@c/y"),
        ("arn:aws:app:{name}::x", "/eu-west-1", "arn:aws:app:eu-west-1::x"),
        ("arn:aws:app:::{name}{{{name}}}", "/x", "arn:aws:app:::x{x}"),
        ("arn:aws:app:::{query.id}", "/x?id=7", "arn:aws:app:::7"),
        ("arn:aws:app:::{query.id}", "/x?a=1&id=%37&b=2", "arn:aws:app:::7"),
        ("arn:aws:app:::{query.id}", "/x?i%64=a+b%2Bc", "arn:aws:app:::a b+c"),
        ("arn:aws:app:::{query.id}", "/x?id=a=b", "arn:aws:app:::a=b"),
        ("arn:aws:app:::{header.x-id}", "/x", "arn:aws:app:::seven"),
        ("arn:aws:app:::{extension.tenant}", "/x", "arn:aws:app:::red"),
        ("arn:aws:app:::{method}/{host}", "/x", "arn:aws:app:::GET/shop.example.com"),
        ("arn:aws:app:::{sni}", "/x", "arn:aws:app:::inner.example.com"),
        ("arn:aws:app:::{peer}", "/x", "arn:aws:app:::spiffe://example.com/a"),
        ("arn:aws:app:::{path}", "/%78", "arn:aws:app:::/x"),
        ("arn:aws:app:::{jwt.sub}", "/x", "arn:aws:app:::bob"),
        ("arn:aws:app:::{jwt.deep.er}", "/x", "arn:aws:app:::7"),
    ],
)
def test_resource_when_its_values_are_there_then_it_holds_them(template: str, path: str, resource: str) -> None:
    found = resolve(
        _resource(template),
        path,
        host="SHOP.example.com:8443",
        headers={"X-Id": "seven"},
        extensions={"tenant": "red"},
        sni="inner.example.com",
        peer="spiffe://example.com/a",
        jwt={"sub": "bob", "deep": {"er": 7}},
    )

    assert (found.reason, found.resource) == (Reason.UNSPECIFIED, resource)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        # Wildcards and variables of policies.
        ("arn:aws:app:::{name}", "/*"),
        ("arn:aws:app:::{name}", "/a%2A"),
        ("arn:aws:app:::{name}", "/a%3Fb"),
        ("arn:aws:app:::{name}", "/$%7Baws:username%7D"),
        # Separators that would make another resource of it.
        ("arn:aws:app:::{name}/x", "/a:b"),
        ("arn:aws:app:::{query.id}/x", "/x?id=a/b"),
        ("arn:aws:app:::{query.id}/x", "/x?id=a%2Fb"),
        ("arn:aws:app:::{query.id}:x", "/x?id=a:b"),
        ("arn:aws:app:{name}::x", "/a:b"),
        ("arn:aws:app:{name}::x", "/a%20b"),
        ("arn:aws:app:{name}::x", "/na%c3%afve"),
        # Not there, empty, or there several times.
        ("arn:aws:app:::{query.id}", "/x"),
        ("arn:aws:app:::{query.id}", "/x?"),
        ("arn:aws:app:::{query.id}", "/x?id"),
        ("arn:aws:app:::{query.id}", "/x?id="),
        ("arn:aws:app:::{query.id}", "/x?ID=1"),
        ("arn:aws:app:::{query.id}", "/x?id=1&id=1"),
        ("arn:aws:app:::{query.id}", "/x?id=1&i%64=2"),
        ("arn:aws:app:::{query.id}", "/x?id=1&id"),
        ("arn:aws:app:::{header.x-id}", "/x"),
        ("arn:aws:app:::{extension.tenant}", "/x"),
        ("arn:aws:app:::{sni}", "/x"),
        ("arn:aws:app:::{peer}", "/x"),
        ("arn:aws:app:::{jwt.sub}", "/x"),
        # No text, or none that can be seen.
        ("arn:aws:app:::{query.id}", "/x?id=%ff"),
        ("arn:aws:app:::{query.id}", "/x?id=%00"),
        ("arn:aws:app:::{query.id}", "/x?id=a%0ab"),
        ("arn:aws:app:::{query.id}", "/x?id=%7f"),
        ("arn:aws:app:::{query.id}", "/x?id=%c2%85"),
        ("arn:aws:app:::{query.id}", "/x?id=%"),
        ("arn:aws:app:::{query.id}", "/x?id=%4"),
        ("arn:aws:app:::{query.id}", "/x?id=1&%zz=2"),
        # Programs that cut a query at a semicolon see another value.
        ("arn:aws:app:::{query.id}", "/x?id=1;id=2"),
        ("arn:aws:app:::{query.id}", "/x?a=1;id=2&id=1"),
        # Too long.
        ("arn:aws:app:::{query.id}", "/x?id=" + "a" * 2048),
        ("arn:aws:app:::{name}{name}", "/" + "a" * 1024),
    ],
)
def test_resource_when_a_value_cannot_be_used_then_the_request_is_refused(template: str, path: str) -> None:
    assert resolve(_resource(template), path).reason is Reason.ROUTE_VALUE_INVALID


def test_resource_when_parameters_are_kept_then_a_semicolon_in_a_query_is_a_letter() -> None:
    route = {"id": "one", "path": "/**", "action": "app:Read", "resource": "arn:aws:app:::{query.id}"}
    image = routes_image({"paths": {"parameters": "keep"}, "callers": [{"anonymous": {}}], "routes": [route]})

    assert resolve(image, "/x?id=1;id=2").resource == "arn:aws:app:::1;id=2"


def test_resource_when_the_rest_is_captured_then_it_holds_its_slashes() -> None:
    image = _one(path="/files/{rest=**}", resource="arn:aws:app:::file/{rest}")

    assert resolve(image, "/files/a/%62/c").resource == "arn:aws:app:::file/a/b/c"
    assert resolve(image, "/files/a/").resource == "arn:aws:app:::file/a/"
    assert resolve(image, "/files/").reason is Reason.ROUTE_VALUE_INVALID


def test_resource_when_encoded_slashes_are_kept_then_only_the_end_may_hold_one() -> None:
    paths = {"encoded_slashes": "keep"}
    routes = [
        {"id": "end", "path": "/end/{name}", "action": "app:Read", "resource": "arn:aws:app:::{name}"},
        {"id": "part", "path": "/part/{name}", "action": "app:Read", "resource": "arn:aws:app:::{name}/x"},
    ]
    image = routes_image({"paths": paths, "callers": [{"anonymous": {}}], "routes": routes})

    assert resolve(image, "/end/a%2Fb").resource == "arn:aws:app:::a/b"
    assert resolve(image, "/part/a%2Fb").reason is Reason.ROUTE_VALUE_INVALID


def test_header_when_it_is_sent_twice_then_it_is_no_part_of_a_resource_and_joined_in_the_context() -> None:
    twice = [("x-id", "a"), ("X-ID", "b")]

    assert resolve(_resource("arn:aws:app:::{header.x-id}"), "/x", headers=twice, raw_headers=True).reason is (
        Reason.ROUTE_VALUE_INVALID
    )
    assert _value(_context("{header.x-id}"), headers=twice, raw_headers=True) == _values("a,b")
    assert _value(_context("<{header.x-id}>"), headers=twice, raw_headers=True) == _values("<a,b>")


# Actions and accounts.


def test_action_when_it_holds_a_value_then_that_is_one_word() -> None:
    image = _one(action="app:Do-{name}")

    assert resolve(image, "/It.1_x-").action == "app:Do-It.1_x-"
    for path in ("/a:b", "/a%20b", "/%2a", "/na%c3%afve", "/a+b", "/" + "a" * 250):
        assert resolve(image, path).reason is Reason.ROUTE_VALUE_INVALID


def test_account_when_it_is_no_account_then_the_request_is_refused() -> None:
    image = _one(resource_account="{name}")

    assert resolve(image, "/" + ACCOUNT).resource_account == ACCOUNT
    for path in ("/1", "/1111222233334", "/11112222333a", "/%d9%a1", "/-"):
        assert resolve(image, path).reason is Reason.ROUTE_VALUE_INVALID


# Context.


@pytest.mark.parametrize(
    ("template", "path", "value"),
    [
        ("{query.v}", "/x?v=1", _values("1")),
        ("{query.v}", "/x?v=1&w=2&v=3&v=1", _values("1", "3", "1")),
        ("{query.v}", "/x?v=", _values("")),
        ("{query.v}", "/x?v", _values("")),
        ("{query.v}", "/x?&&v=1&", _values("1")),
        ("{query.v}", "/x?v=%2A%3F%24%2F%3a", _values("*?$/:")),
        ("{query.v}", "/x?v=a+b%2B%20c", _values("a b+ c")),
        ("{query.v}", "/x?v=\u20ac".encode(), _values("\u20ac")),
        ("{query.v}", "/x?w=1", None),
        ("{query.v}", "/x", None),
        ("a{query.v}b{query.w}", "/x?v=1&w=2", _values("a1b2")),
        ("a{query.v}b", "/x?w=2", None),
        ("fixed", "/x", _values("fixed")),
        ("{path}", "/a/%62/c", _values("/a/b/c")),
        ("{query.v w}", "/x?v+w=1", _values("1")),
    ],
)
def test_context_when_a_value_is_there_then_its_key_holds_it(
    template: str, path: str | bytes, value: ContextValue | None
) -> None:
    assert _value(_context(template), path) == value


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{query.v}", "/x?v=%ff"),
        ("{query.v}", "/x?v=1&v=%00"),
        ("{query.v}", "/x?v=%c2%9f"),
        ("{query.v}", "/x?v=%"),
        ("{query.v}", "/x?%=1"),
        ("{query.v}", "/x?v=1;v=2"),
        ("{query.v}", b"/x?v=\xff"),
        ("a{query.v}b", "/x?v=1&v=2"),
        ("{query.v}", "/x?v=" + "a" * 4097),
        ("{query.v}{query.v}", "/x?v=" + "a" * 2049),
        ("{query.v}", "/x?v" + "&v" * 1024),
    ],
)
def test_context_when_a_value_cannot_be_used_then_the_request_is_refused(template: str, path: str | bytes) -> None:
    assert _value(_context(template), path) is Reason.ROUTE_VALUE_INVALID


def test_context_when_values_are_as_many_and_long_as_can_be_then_they_are_all_there() -> None:
    assert _value(_context("{query.v}"), "/x?v=" + "a" * 4096) == _values("a" * 4096)
    found = _value(_context("{query.v}"), "/x?v" + "&v" * 1000)
    assert isinstance(found, ContextValue)
    assert len(found.values) == 1001


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("red", _values("red")),
        ("", _values("")),
        (7, _values("7")),
        (0, _values("0")),
        (True, _values("true")),
        (False, _values("false")),
        (None, None),
        ([], None),
        (["a"], ContextValue(("a",), multivalued=True)),
        (["a", 1, True, ""], ContextValue(("a", "1", "true", ""), multivalued=True)),
        (1.5, Reason.ROUTE_VALUE_INVALID),
        ({"a": "b"}, Reason.ROUTE_VALUE_INVALID),
        (["a", ["b"]], Reason.ROUTE_VALUE_INVALID),
        (["a", None], Reason.ROUTE_VALUE_INVALID),
        ("a\nb", Reason.ROUTE_VALUE_INVALID),
    ],
)
def test_context_when_it_is_a_claim_then_its_type_becomes_text(
    claim: object, value: ContextValue | Reason | None
) -> None:
    # Whoever calls: the claims were verified, even where they name nobody.
    for issuer, caller in (("x", CallerSource.JWT), ("y", CallerSource.ANONYMOUS)):
        jwt = {"iss": issuer, "team": claim}
        assert _value(_context("{jwt.team}"), jwt=jwt) == value
        assert resolve(_context("{jwt.team}"), jwt=jwt).caller is caller


def test_context_when_a_list_stands_in_text_then_the_request_is_refused() -> None:
    for claim in (["a"], ["a", "b"]):
        assert _value(_context("<{jwt.team}>"), jwt={"team": claim}) is Reason.ROUTE_VALUE_INVALID
    assert _value(_context("<{jwt.team}>"), jwt={"team": []}) is None
    assert _value(_context("<{jwt.team}>"), jwt={"team": "a"}) == _values("<a>")


def test_context_when_a_request_says_what_it_is_then_that_is_in_it() -> None:
    headers = {"user-agent": "curl/8", "referer": "https://shop.example.com/a"}
    found = resolve(_one(), "/x", headers=headers)

    assert found.context == {
        **OWN,
        "aws:UserAgent": ContextValue(("curl/8",)),
        "aws:Referer": ContextValue(("https://shop.example.com/a",)),
    }
    assert resolve(_one(), "/x").context == OWN


@pytest.mark.parametrize(("scheme", "secure"), [("https", "true"), ("HTTPS", "true"), ("http", "false"), ("", "false")])
def test_context_when_the_scheme_is_not_https_then_the_transport_is_not_secure(scheme: str, secure: str) -> None:
    assert resolve(_one(), "/x", scheme=scheme).context["aws:SecureTransport"] == ContextValue((secure,))


def test_context_when_the_peer_is_a_pipe_then_there_is_no_address() -> None:
    assert "aws:SourceIp" not in resolve(_one(), "/x", source="").context


@pytest.mark.parametrize("name", ["user-agent", "referer"])
@pytest.mark.parametrize("value", ["a" * 4097, "a\x01", "\udcff"])
def test_context_when_a_header_cannot_be_used_then_the_request_is_refused(name: str, value: str) -> None:
    found = resolve(_one(), "/x", headers={name: value}, raw_headers=True)

    assert found.reason is Reason.ROUTE_VALUE_INVALID


# Reasons and their order.


def test_request_when_nobody_calls_then_that_comes_before_its_values() -> None:
    route = {"id": "one", "path": "/{name}", "action": "app:Read", "resource": "arn:aws:app:::{name}/x"}
    image = routes_image({"routes": [route]})

    assert resolve(image, "/a:b").reason is Reason.CALLER_UNKNOWN
    assert resolve(image, "/a").resource == "arn:aws:app:::a/x"
    assert resolve(image, "/a", headers={"authorization": "Bearer x"}).reason is Reason.UNSPECIFIED


def test_request_when_the_snapshot_has_no_routes_then_none_takes_it() -> None:
    found = resolve(asking.image(), "/x")
    assert (found.reason, found.route_id, found.caller) == (Reason.NO_ROUTE, "", CallerSource.NONE)


def test_request_when_its_route_is_public_then_nothing_is_asked() -> None:
    image = routes_image({"routes": [{"id": "open", "path": "/**", "public": True}]})
    found = resolve(image, "/x?v=%ff")

    assert (found.reason, found.is_public, found.action, found.context) == (Reason.UNSPECIFIED, True, "", {})
