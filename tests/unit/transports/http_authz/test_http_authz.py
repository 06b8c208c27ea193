# SPDX-License-Identifier: Apache-2.0
"""What proxies say, what is asked for them, and what they are answered: each of them, allowed and denied."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from sidecar.model.check import OnError
from sidecar.model.errors import InternalError, RequestError
from sidecar.services.http_authz_metrics import (
    HttpAuthzResult,
    NullHttpAuthzMetrics,
    PrometheusHttpAuthzMetrics,
    ProxyKind,
)
from sidecar.services.log import NullLog
from sidecar.transports.http_authz.answers import answer_to
from sidecar.transports.http_authz.application import HttpAuthz
from sidecar.transports.http_authz.original import OriginalRequest, of_envoy, of_forward_auth, of_nginx
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as pb

NGINX = {
    "x-original-method": "POST",
    "x-original-uri": "/accounts/1/orders/%2e?x=1&x=2",
    "x-original-host": "shop.example.com:8443",
    "x-original-scheme": "https",
    "x-original-address": "192.0.2.7",
}
FORWARD = {
    "x-forwarded-method": "POST",
    "x-forwarded-uri": "/accounts/1/orders/%2e?x=1&x=2",
    "x-forwarded-host": "shop.example.com:8443",
    "x-forwarded-proto": "https",
    "x-forwarded-for": "10.0.0.9, 192.0.2.7",
}
ENVOY = {"host": "shop.example.com:8443", "x-original-scheme": "https", "x-original-address": "192.0.2.7"}
PATH = "/accounts/1/orders/%2e?x=1&x=2"
#: How each proxy asks for the same request.
ASKED: dict[str, tuple[str, str, dict[str, str]]] = {
    "envoy": ("POST", f"/envoy{PATH}", ENVOY),
    "nginx": ("GET", "/nginx", NGINX),
    "nginx_answer": ("GET", "/nginx/answer", NGINX),
    "forward": ("GET", "/forward", FORWARD),
}


class LoudLog(NullLog):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.told.append((event, values))

    def error(self, event: str, **values: Any) -> None:
        self.told.append((event, values))


class Desk:
    """Answers each request in the same way, and keeps what it was asked."""

    def __init__(self, answer: pb.CheckResponse | Exception) -> None:
        self.answer = answer
        self.asked: list[pb.AttributeContext] = []

    def check(self, request: bytes) -> bytes:
        self.asked.append(pb.CheckRequest.FromString(request).attributes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer.SerializeToString()


def option(name: str, value: str) -> pb.HeaderValueOption:
    return pb.HeaderValueOption(header=pb.HeaderValue(key=name, value=value))


def allow(*headers: tuple[str, str], remove: tuple[str, ...] = ()) -> pb.CheckResponse:
    ok = pb.OkHttpResponse(headers=[option(*header) for header in headers], headers_to_remove=remove)
    return pb.CheckResponse(status=pb.Status(code=0), ok_response=ok)


def deny(status: int, *headers: tuple[str, str], body: str = "", code: int = 7) -> pb.CheckResponse:
    denied = pb.DeniedHttpResponse(
        status=pb.HttpStatus(code=status), headers=[option(*header) for header in headers], body=body
    )
    return pb.CheckResponse(status=pb.Status(code=code), denied_response=denied)


def ask(
    desk: Desk,
    proxy: str = "nginx",
    *,
    headers: list[tuple[str, str]] | None = None,
    path: str = "",
    method: str = "",
    without: str = "",
    on_error: OnError = OnError.DENY,
    **parts: Any,
) -> httpx.Response:
    """Have a proxy ask, over the protocol that servers speak."""
    parts = {"log": NullLog(), "metrics": NullHttpAuthzMetrics(), **parts}
    application = HttpAuthz(check=desk.check, on_error=on_error, **parts)
    own_method, own_path, own = ASKED[proxy]
    sent = [(name, value) for name, value in own.items() if name != without] + (headers or [])

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://authz") as client:
            client.headers.clear()
            return await client.request(method or own_method, path or own_path, headers=sent)

    return asyncio.run(run())


@pytest.mark.parametrize("proxy", ASKED)
def test_request_when_a_proxy_asks_then_the_original_one_is_what_is_judged(proxy: str) -> None:
    desk = Desk(deny(403))

    ask(desk, proxy, headers=[("cookie", "a=b"), ("Accept", "text/html"), ("x-team", "red"), ("x-team", "blue")])

    [asked] = desk.asked
    http = asked.request.http
    assert (http.method, http.path, http.host, http.scheme) == ("POST", PATH, "shop.example.com:8443", "https")
    assert asked.source.address.socket_address.address == "192.0.2.7"
    assert not http.headers
    found = [(header.key, header.raw_value) for header in http.header_map.headers]
    for header in ((b"a=b", "cookie"), (b"text/html", "accept"), (b"red", "x-team"), (b"blue", "x-team")):
        assert (header[1], header[0]) in found
    # What the proxy says of itself is nothing that the client has sent.
    assert not [name for name, _ in found if name.startswith("x-original-") or name == "x-forwarded-uri"]
    assert ("x-forwarded-for" in dict(found)) == (proxy == "forward")


@pytest.mark.parametrize(
    ("proxy", "name"),
    [(proxy, name) for proxy in ASKED for name in ASKED[proxy][2] if (proxy, name) != ("envoy", "host")],
)
def test_request_when_something_is_missing_or_there_twice_then_it_is_denied_and_nothing_is_asked(
    proxy: str, name: str
) -> None:
    log, desk = LoudLog(), Desk(allow())

    missing = ask(desk, proxy, without=name, log=log)
    twice = ask(desk, proxy, headers=[(name, ASKED[proxy][2][name])], log=log)

    assert (missing.status_code, twice.status_code) == (403, 403)
    assert json.loads(missing.text) == {"error": "access_denied"}
    assert desk.asked == []
    assert [event for event, _ in log.told] == ["http_authz_refused"] * 2
    assert [values["cause"] for _, values in log.told] == [
        f"`{name}` is missing",
        f"`{name}` stands there more than once",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-original-method", ""),
        ("x-original-method", "GET /"),
        ("x-original-method", "G" * 65),
        ("x-original-uri", ""),
        ("x-original-uri", "*"),
        ("x-original-uri", "http://shop.example.com/"),
        ("x-original-host", ""),
        ("x-original-host", "shop.example.com/x"),
        ("x-original-host", "user@shop.example.com"),
        ("x-original-host", "a, b"),
        ("x-original-scheme", ""),
        ("x-original-scheme", "javascript"),
        ("x-original-address", ""),
        ("x-original-address", "unknown"),
        ("x-original-address", "192.0.2.7:8080"),
        ("x-original-address", "192.0.2.7, 192.0.2.8"),
    ],
)
def test_request_when_a_value_is_none_then_it_is_denied(name: str, value: str) -> None:
    desk = Desk(allow())

    assert ask(desk, "nginx", without=name, headers=[(name, value)]).status_code == 403
    assert desk.asked == []


@pytest.mark.parametrize(
    ("address", "want"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"), ("[2001:db8::7]", "2001:db8::7"), ("unix:", "")],
)
def test_address_when_it_is_one_then_it_is_passed_on(address: str, want: str) -> None:
    desk = Desk(deny(403))

    ask(desk, "nginx", without="x-original-address", headers=[("x-original-address", address)])

    assert desk.asked[0].source.address.socket_address.address == want


def test_forward_auth_when_a_client_says_where_it_comes_from_then_what_the_proxy_adds_counts() -> None:
    desk = Desk(deny(403))

    for said in ("192.0.2.7", "127.0.0.1, 192.0.2.7", "nonsense,192.0.2.7"):
        ask(desk, "forward", without="x-forwarded-for", headers=[("x-forwarded-for", said)])

    assert {asked.source.address.socket_address.address for asked in desk.asked} == {"192.0.2.7"}
    assert len(desk.asked) == 3


@pytest.mark.parametrize(
    "path",
    ["/", "/nginx/", "/nginx?x", "/nginx/answer/", "/%6eginx", "/%65nvoy/orders", "/envoy", "/forward/", "/nowhere"],
)
def test_endpoint_when_it_is_spelt_in_another_way_then_it_denies(path: str) -> None:
    desk = Desk(allow())

    for proxy in ASKED:
        assert ask(desk, proxy, path=path).status_code == 404
    assert desk.asked == []


@pytest.mark.parametrize("target", ["//x/../%2f?a?b", "/a%00;b=c", "/?", "/x?y=%zz"])
def test_envoy_when_the_path_is_a_strange_one_then_it_is_judged_as_it_is(target: str) -> None:
    desk = Desk(deny(403))
    application = HttpAuthz(check=desk.check, on_error=OnError.DENY, log=NullLog(), metrics=NullHttpAuthzMetrics())
    raw, _, query = target.encode().partition(b"?")
    scope = {
        "type": "http",
        "method": "PATCH",
        "raw_path": b"/envoy" + raw,
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in ENVOY.items()],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads a body")

    asyncio.run(application(scope, receive, send))

    # An empty query is none.
    assert desk.asked[0].request.http.path == target.removesuffix("?")
    assert desk.asked[0].request.http.method == "PATCH"
    assert sent[0]["status"] == 403


ALLOWED = allow(
    ("x-iam-principal", "arn:aws:iam::111122223333:user/ada"),
    ("x-iam-route", "orders"),
    remove=("x-iam-admin", "authorization", "x-iam-route"),
)


def test_envoy_when_it_is_allowed_then_it_is_told_what_to_set_and_what_to_remove() -> None:
    response = ask(Desk(ALLOWED), "envoy", headers=[("authorization", "Bearer x"), ("cookie", "a=b")])

    assert response.status_code == 200
    assert response.headers["x-iam-principal"] == "arn:aws:iam::111122223333:user/ada"
    assert response.headers["x-envoy-auth-headers-to-remove"] == "authorization,x-iam-admin"
    assert response.headers["cache-control"] == "no-store"
    assert "cookie" not in response.headers
    assert response.content == b""


@pytest.mark.parametrize(
    ("answer", "sent", "cookie", "authorization"),
    [
        (allow(), [], "", ""),
        (allow(), [("cookie", "a=b"), ("authorization", "Basic x")], "a=b", "Basic x"),
        (allow(remove=("authorization",)), [("cookie", "a=b"), ("authorization", "Bearer x")], "a=b", ""),
        (allow(("cookie", "a=b")), [("cookie", "a=b; __Host-sidecar-session=x")], "a=b", ""),
        (allow(remove=("Cookie",)), [("cookie", "__Host-sidecar-session=x")], "", ""),
        (allow(), [("cookie", "a=b"), ("cookie", "c=d")], "a=b; c=d", ""),
        (allow(), [("authorization", "Basic x"), ("authorization", "Basic y")], "", ""),
    ],
)
def test_credentials_when_it_is_allowed_then_the_upstream_gets_what_is_not_ours(
    answer: pb.CheckResponse, sent: list[tuple[str, str]], cookie: str, authorization: str
) -> None:
    nginx = ask(Desk(answer), "nginx", headers=sent)
    assert nginx.status_code == 200
    assert nginx.headers["x-iam-cookie"] == cookie
    assert nginx.headers["x-iam-authorization"] == authorization

    forward = ask(Desk(answer), "forward", headers=sent)
    assert forward.status_code == 200
    assert forward.headers.get("cookie", "") == cookie
    assert forward.headers.get("authorization", "") == authorization


@pytest.mark.parametrize("name", ["x-iam-admin", "x_iam_principal", "x-envoy-auth-partial-body"])
def test_header_when_a_client_sends_one_that_a_proxy_cannot_be_told_to_remove_then_it_is_denied(name: str) -> None:
    desk = Desk(allow(remove=(name, "x-iam-account", "x-forwarded-client-cert")))
    removable = [("x-iam-account", "evil"), ("x-forwarded-client-cert", "evil")]

    for proxy in ("nginx", "forward"):
        assert ask(desk, proxy, headers=removable).status_code == 200
        assert ask(desk, proxy, headers=[*removable, (name, "evil")]).status_code == 403
    assert ask(desk, "nginx_answer", headers=[(name, "evil")]).status_code == 403
    assert ask(desk, "envoy", headers=[(name, "evil")]).status_code == 200


def test_nginx_when_the_answer_to_a_denial_is_an_allow_then_it_is_none() -> None:
    response = ask(Desk(ALLOWED), "nginx_answer")

    assert response.status_code == 503
    assert "x-iam-principal" not in response.headers


JSON = ("content-type", "application/json")
STEP_UP = deny(
    401,
    JSON,
    ("www-authenticate", 'Bearer error="insufficient_user_authentication"'),
    ("connection", "close"),
    body='{"error":"x"}',
    code=16,
)
REDIRECT = deny(303, ("location", "https://shop.example.com/.iam-sidecar/step-up?ticket=x"), code=16)


@pytest.mark.parametrize("proxy", ASKED)
def test_denial_when_it_is_one_for_a_program_then_all_of_it_is_given(proxy: str) -> None:
    response = ask(Desk(STEP_UP), proxy)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer error="insufficient_user_authentication"'
    assert response.headers["content-type"] == "application/json"
    assert response.text == '{"error":"x"}'
    assert "connection" not in response.headers


@pytest.mark.parametrize("proxy", ASKED)
def test_denial_when_it_is_a_redirect_then_nginx_is_told_so_in_words_of_its_own(proxy: str) -> None:
    response = ask(Desk(REDIRECT), proxy)

    name = "x-iam-location" if proxy == "nginx" else "location"
    assert response.status_code == (401 if proxy == "nginx" else 303)
    assert response.headers[name] == "https://shop.example.com/.iam-sidecar/step-up?ticket=x"


@pytest.mark.parametrize(
    ("status", "envoy", "nginx", "forward"),
    [
        (401, 401, 401, 401),
        (403, 403, 403, 403),
        (400, 400, 403, 400),
        (413, 413, 403, 413),
        (503, 403, 503, 503),
        (500, 403, 500, 500),
        # What would be an allow, or is no status.
        (200, 403, 403, 403),
        (204, 403, 403, 403),
        (100, 403, 403, 403),
        (0, 403, 403, 403),
        (600, 403, 403, 403),
    ],
)
def test_denial_when_its_status_is_any_then_no_proxy_takes_it_for_an_allow(
    status: int, envoy: int, nginx: int, forward: int
) -> None:
    desk = Desk(deny(status))

    assert ask(desk, "envoy").status_code == envoy
    assert ask(desk, "nginx").status_code == nginx
    assert ask(desk, "forward").status_code == forward
    assert ask(desk, "nginx_answer").status_code == forward


@pytest.mark.parametrize(("status", "want"), [(503, 503), (500, 500), (0, 503), (200, 503), (403, 503)])
def test_error_when_the_proxy_is_to_decide_then_it_is_one_to_envoy(status: int, want: int) -> None:
    error = pb.DeniedHttpResponse(status=pb.HttpStatus(code=status))
    response = pb.CheckResponse(status=pb.Status(code=14), error_response=error)

    for proxy in ASKED:
        assert ask(Desk(response), proxy).status_code == want


@pytest.mark.parametrize(
    "answer",
    [
        pb.CheckResponse(),
        pb.CheckResponse(ok_response=pb.OkHttpResponse()),
        pb.CheckResponse(status=pb.Status(code=0)),
        pb.CheckResponse(status=pb.Status(code=7), ok_response=pb.OkHttpResponse()),
        pb.CheckResponse(status=pb.Status(code=0), denied_response=pb.DeniedHttpResponse()),
        allow(("x", "a\r\nb: c")),
        allow(("x", "a\0")),
        allow(("", "a")),
        allow((":path", "/")),
        allow(("x", "\u20ac")),
        pb.CheckResponse(
            status=pb.Status(code=0),
            ok_response=pb.OkHttpResponse(query_parameters_to_remove=["x"]),
        ),
        RuntimeError("broken"),
        InternalError("broken", cause="x"),
    ],
)
@pytest.mark.parametrize("proxy", ["envoy", "nginx", "forward"])
def test_fault_when_nothing_can_be_decided_then_it_is_never_an_allow(
    answer: pb.CheckResponse | Exception, proxy: str
) -> None:
    log = LoudLog()

    closed = ask(Desk(answer), proxy, log=log)
    open_ = ask(Desk(answer), proxy, on_error=OnError.ERROR_RESPONSE)

    # To Envoy, 503 is an error, with which a setting of its own may let the request pass.
    assert closed.status_code == (403 if proxy == "envoy" else 503)
    assert open_.status_code == 503
    [(event, values)] = log.told
    assert event == "http_authz_failed"
    assert json.loads(closed.text) == {"error": "unavailable", "error_id": values["error_id"]}


def test_log_when_a_proxy_gets_something_wrong_all_the_time_then_it_is_told_once_a_minute() -> None:
    log, seconds = LoudLog(), 0.0
    application = HttpAuthz(
        check=Desk(allow()).check,
        on_error=OnError.DENY,
        log=log,
        metrics=NullHttpAuthzMetrics(),
        monotonic=lambda: seconds,
    )

    async def run() -> None:
        nonlocal seconds
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://authz") as client:
            for at in (0.0, 1.0, 59.0, 60.0):
                seconds = at
                await client.get("/nginx")

    asyncio.run(run())

    assert len(log.told) == 2


def test_metrics_when_requests_are_answered_then_each_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusHttpAuthzMetrics(registry)

    ask(Desk(ALLOWED), "nginx", metrics=metrics)
    ask(Desk(STEP_UP), "forward", metrics=metrics)
    ask(Desk(STEP_UP), "envoy", without="x-original-scheme", metrics=metrics)
    ask(Desk(RuntimeError()), "nginx_answer", metrics=metrics)

    counted = {
        (proxy, result): registry.get_sample_value(
            "sidecar_http_authz_requests_total", {"proxy": proxy.value, "result": result.value}
        )
        for proxy in ProxyKind
        for result in HttpAuthzResult
    }
    assert {key for key, count in counted.items() if count == 1} == {
        (ProxyKind.NGINX, HttpAuthzResult.ALLOWED),
        (ProxyKind.FORWARD, HttpAuthzResult.DENIED),
        (ProxyKind.ENVOY, HttpAuthzResult.UNUSABLE),
        (ProxyKind.NGINX_ANSWER, HttpAuthzResult.FAILED),
    }
    assert sum(count or 0 for count in counted.values()) == 4


NAMES = st.sampled_from([*NGINX, *FORWARD, "host", "cookie", "x"]).map(str.encode)
VALUES = st.sampled_from([*NGINX.values(), *FORWARD.values(), "", " "]).map(str.encode) | st.binary(max_size=12)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=14))
def test_request_when_its_headers_are_any_then_it_is_read_whole_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    readers: list[Callable[[], OriginalRequest]] = [
        lambda: of_nginx(headers),
        lambda: of_forward_auth(headers),
        lambda: of_envoy("GET", b"/x", headers),
    ]
    for read in readers:
        try:
            original = read()
        except RequestError:
            continue
        asked = pb.CheckRequest.FromString(original.to_wire()).attributes
        assert asked.request.http.path.startswith("/")
        assert asked.request.http.method
        assert asked.request.http.host
        assert asked.request.http.scheme in {"http", "https"}


@given(st.binary(max_size=60), st.sampled_from(ProxyKind))
def test_answer_when_it_is_any_bytes_then_it_allows_nothing_that_states_no_status(
    data: bytes, proxy: ProxyKind
) -> None:
    original = OriginalRequest("GET", "/", "x", "https", "", [])
    try:
        answer = answer_to(proxy, original, data)
    except InternalError:
        return
    response = pb.CheckResponse.FromString(data)
    assert answer.is_allowed == (200 <= answer.status < 300)
    if answer.is_allowed:
        assert response.HasField("status")
        assert response.status.code == 0
        assert response.WhichOneof("http_response") == "ok_response"
