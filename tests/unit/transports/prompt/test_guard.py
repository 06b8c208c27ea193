# SPDX-License-Identifier: Apache-2.0
"""What holds for every answer: headers, the host that is answered for, and forms from here alone."""

import asyncio
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from sidecar.services.store.engine import open_store
from sidecar.transports.prompt.visits import MAX_FORM_BYTES, FormError, form_secret_in, new_form_secret, read_form
from tests.unit.services.mfa_kit import ADA, ORIGIN
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Document, Visitor, client_of

PAGES = ["/", "/sign-in", "/signed-out", "/devices", "/challenge/x", "/nowhere", "/static/nothing.js"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_answer_when_anything_is_asked_then_browsers_are_told_to_be_strict(stranger: Visitor, method: str) -> None:
    for path in PAGES:
        check_headers(stranger.client.request(method, path).headers)


def check_headers(headers: httpx.Headers) -> None:
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["strict-transport-security"] == "max-age=63072000"
    assert "publickey-credentials-get=(self)" in headers["permissions-policy"]
    assert "publickey-credentials-create=(self)" in headers["permissions-policy"]
    assert "server" not in headers


@pytest.mark.parametrize("host", ["evil.example", "example.org:8443", "example.org.", "EXAMPLE.ORG", "127.0.0.1", ""])
def test_answer_when_another_host_is_named_then_nothing_is_shown(stranger: Visitor, host: str) -> None:
    response = stranger.client.get("/sign-in", headers={"host": host})

    assert (response.status_code, response.text) == (421, "this host is not served here\n")
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/devices/", 404), ("/challenge/x/shout", 404)])
def test_page_when_there_is_none_then_a_screen_says_so(ada: Visitor, path: str, status: int) -> None:
    assert ada.open(path).status_code == status
    assert ada.page.heading == "There is no such page"


def test_page_when_it_takes_no_such_request_then_a_screen_says_so(ada: Visitor) -> None:
    assert ada.open("/prove").status_code == 405
    assert ada.client.request("DELETE", "/devices").status_code == 405


def test_files_when_fetched_then_they_may_be_kept_for_good(stranger: Visitor) -> None:
    page = Document(stranger.client.get("/sign-in").text)
    paths = [str(element.get("src")) for element in page.all("script")]
    paths += [str(element.get("href")) for element in page.all("link") if element.get("rel") == "stylesheet"]

    for path, kind in zip(paths, ("text/javascript", "text/css"), strict=True):
        response = stranger.client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://example.org.evil.example"},
        {"origin": "http://example.org"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site"},
        {},
    ],
)
def test_form_when_it_comes_from_elsewhere_then_nothing_is_done(
    prompt: PromptKit, ada: Visitor, headers: dict[str, str]
) -> None:
    prompt.mfa.enrol_phone()
    asked = prompt.step_up.begin(prompt.terminal())
    ada.open(f"/challenge/{asked.challenge_id}")
    fields = ada.page.form(f"/challenge/{asked.challenge_id}/refuse")

    response = ada.client.post(f"/challenge/{asked.challenge_id}/refuse", data=fields, headers=headers)

    assert response.status_code == 403
    assert Document(response.text).heading == "This was not sent from here"
    assert prompt.step_up.describe(ada.caller, asked.challenge_id).state == "open"


@pytest.mark.parametrize("headers", [{"origin": ORIGIN}, {"sec-fetch-site": "same-origin"}])
def test_form_when_a_browser_says_one_of_both_then_it_is_enough(ada: Visitor, headers: dict[str, str]) -> None:
    ada.open("/devices")
    fields = ada.page.form("/sign-out")

    assert ada.client.post("/sign-out", data=fields, headers=headers).headers["location"] == "/signed-out"


def test_form_when_its_token_is_wrong_then_nothing_is_done(prompt: PromptKit, ada: Visitor) -> None:
    with Visitor(prompt) as bob:
        bob.sign_in("bob")
        bob.open("/devices")
        of_bob = bob.page.form("/sign-out")["form_token"]
    ada.open("/devices")
    for token in ("", "x", of_bob, "ü", ada.page.form("/sign-out")["form_token"][:-1]):
        response = ada.post("/sign-out", {"form_token": token})
        assert response.status_code == 403
        assert ada.page.heading == "This page was out of date"
    assert ada.post("/sign-out", {"next": "/"}).status_code == 403
    assert ada.open("/devices").status_code == 200


def test_form_when_it_is_from_before_signing_in_then_its_token_is_worthless(ada: Visitor, prompt: PromptKit) -> None:
    with Visitor(prompt) as visitor:
        visitor.open("/sign-in")
        before = visitor.page.form("/sign-in")["form_token"]
        visitor.sign_in("ada")
        visitor.open("/devices")
        assert visitor.page.form("/sign-out")["form_token"] != before
        assert visitor.post("/sign-out", {"form_token": before}).status_code == 403


def test_form_when_the_session_is_proved_in_another_window_then_it_is_still_good(
    prompt: PromptKit, ada: Visitor
) -> None:
    phone = prompt.mfa.enrol_phone(ADA)
    ada.open("/devices/add-key")
    fields = ada.page.form("/sign-out")
    ada.submit("/prove")
    way = next(action for action in ada.page.actions() if action.endswith("/code"))
    before = ada.caller.token
    ada.submit(way, code=phone.code(prompt.clock.seconds))

    assert ada.caller.token != before
    assert ada.post("/sign-out", fields).url.path == "/signed-out"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x=" + b"y" * MAX_FORM_BYTES, "application/x-www-form-urlencoded", 413),
        (b'{"account": "acme"}', "application/json", 415),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415),
        (b"account=acme&account=other", "application/x-www-form-urlencoded", 400),
        (b"account", "application/x-www-form-urlencoded", 400),
        (b"account=%ff%fe", "application/x-www-form-urlencoded", 400),
        ("account=ü".encode(), "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=b" % number for number in range(17)), "application/x-www-form-urlencoded", 400),
    ],
)
def test_form_when_it_is_none_then_it_is_refused(stranger: Visitor, body: bytes, kind: str, status: int) -> None:
    headers = {"origin": ORIGIN, "content-type": kind}

    response = stranger.client.post("/sign-in", content=body, headers=headers)

    assert response.status_code == status
    assert Document(response.text).heading == "That could not be read"


def test_view_when_it_breaks_then_the_screen_names_an_error_and_nothing_else(
    prompt: PromptKit, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(prompt.gatekeeper, "require", fail)

    assert ada.open("/devices").status_code == 500
    assert ada.page.heading == "Something broke here"
    assert "secret" not in ada.response.text


def test_prompt_when_it_is_local_then_cookies_work_without_tls(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'mfa.db'}", state_dir=tmp_path)
    prompt = PromptKit(store, tmp_path, origin="http://localhost:9194")
    with client_of(prompt) as client:
        response = client.get("/sign-in")
    store.close()

    [cookie] = response.headers.get_list("set-cookie")
    assert cookie.startswith("sidecar-form=")
    assert "secure" not in cookie.lower()
    assert "strict-transport-security" not in response.headers


@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/x-www-form-urlencoded", "text/plain", ""]))
def test_form_when_it_is_any_bytes_then_it_is_read_or_refused(body: bytes, kind: str) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    try:
        fields = asyncio.run(read_form(Request(scope, receive)))
    except FormError as error:
        assert error.status in {400, 413, 415}
    else:
        assert len(fields) <= 16


@given(cookie=st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{42,44}", fullmatch=True))
def test_secret_when_a_cookie_is_anything_then_it_is_one_of_ours_or_none(cookie: str) -> None:
    assert form_secret_in(cookie) in {cookie, ""}
    assert len(form_secret_in(cookie)) in {0, 43}
    assert form_secret_in(new_form_secret())
