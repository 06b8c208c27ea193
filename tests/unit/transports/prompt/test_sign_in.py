# SPDX-License-Identifier: Apache-2.0
"""Signing in and out."""

import dataclasses
import re

import pytest

from sidecar.model.errors import (
    PreconditionError,
    SessionRevokedError,
    SessionUnverifiableError,
    SourceUnavailableError,
    ThrottledError,
)
from sidecar.services.callers import Caller
from sidecar.services.sessions.issuing import IssuedSession
from tests.unit.services.session_kit import PASSWORD
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Visitor


def out_of_reach() -> None:
    raise SourceUnavailableError("the store is out of reach")


def test_first_page_when_nobody_is_signed_in_then_it_leads_to_the_form(stranger: Visitor) -> None:
    stranger.open("/")

    assert stranger.response.url.path == "/sign-in"
    assert stranger.page.heading == "Sign in"


def test_sign_in_when_the_password_is_right_then_the_session_is_kept_safely(stranger: Visitor) -> None:
    stranger.sign_in("ada")

    [cookie] = stranger.cookies_set
    parts = [part.strip().lower() for part in cookie.split(";")]
    assert parts[0].startswith("__host-sidecar-session=")
    assert set(parts[1:]) == {"httponly", "path=/", "samesite=lax", "secure"}
    assert stranger.response.url.path == "/devices"
    assert "Signed in as ada , account 111122223333" in stranger.text


@pytest.mark.parametrize(
    ("account", "user_name", "password"),
    [
        ("acme", "ada", "wrong"),
        ("111122223333", "ada", "wrong"),
        ("acme", "nobody", PASSWORD),
        ("nowhere", "ada", PASSWORD),
        ("acme", "ada", "x" * 5000),
        ("acme" * 1000, "ada", PASSWORD),
    ],
)
def test_sign_in_when_something_is_wrong_then_the_page_is_the_same_whatever_it_was(
    stranger: Visitor, account: str, user_name: str, password: str
) -> None:
    response = stranger.sign_in(user_name, account=account, password=password)

    assert response.status_code == 403
    typed = re.sub(r'value="[^"]*"|autofocus', "", response.text).replace(" ", "")
    stranger.open("/sign-in")
    other = stranger.submit("/sign-in", account="acme", user_name="ada", password="also wrong")
    assert typed == re.sub(r'value="[^"]*"|autofocus', "", other.text).replace(" ", "")
    assert "Account, user name or password is wrong, or there were too many failures." in stranger.text
    assert "password" not in response.headers.get("location", "")
    assert "also wrong" not in other.text


@pytest.mark.parametrize("missing", ["account", "user_name", "password"])
def test_sign_in_when_a_field_is_empty_then_the_form_is_shown_again(stranger: Visitor, missing: str) -> None:
    stranger.open("/sign-in")
    typed = {"account": "acme", "user_name": "ada", "password": PASSWORD, missing: " " if missing != "password" else ""}

    assert stranger.submit("/sign-in", **typed).status_code == 400
    assert "Fill in all three fields" in stranger.text


def test_sign_in_when_there_were_too_many_failures_then_the_form_says_how_long_to_wait(
    prompt: PromptKit, stranger: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: str) -> IssuedSession:
        raise ThrottledError("too many proofs have failed; try again in 30 seconds")

    monkeypatch.setattr(prompt.sessions, "sign_in", refuse)

    assert stranger.sign_in().status_code == 429
    assert "Too many proofs have failed; try again in 30 seconds." in stranger.text


def test_sign_in_when_the_password_has_expired_then_the_form_says_so(
    prompt: PromptKit, stranger: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: str) -> IssuedSession:
        raise PreconditionError("the password has expired", help="have an administrator set a new one")

    monkeypatch.setattr(prompt.sessions, "sign_in", refuse)

    assert stranger.sign_in().status_code == 403
    assert "The password has expired. Have an administrator set a new one." in stranger.text


@pytest.mark.parametrize(
    ("where", "leads_to"),
    [
        ("/recovery-codes", "/recovery-codes"),
        ("/devices/add-key", "/devices/add-key"),
        ("https://evil.example/", "/devices"),
        ("//evil.example/", "/devices"),
        ("/\\evil.example", "/devices"),
        ("/devices\r\nset-cookie: x=y", "/devices"),
        ("javascript:alert(1)", "/devices"),
    ],
)
def test_sign_in_when_it_was_on_the_way_to_a_page_then_it_leads_there_and_never_elsewhere(
    stranger: Visitor, where: str, leads_to: str
) -> None:
    stranger.client.get("/sign-in")
    stranger.response = stranger.client.get("/sign-in", params={"next": where})
    fields = {**stranger.page.form("/sign-in"), "account": "acme", "user_name": "ada", "password": PASSWORD}

    for next_page in (fields["next"], where):
        response = stranger.client.post(
            "/sign-in", data={**fields, "next": next_page}, headers={"origin": stranger.prompt.origin}
        )
        assert response.headers["location"] == leads_to
        stranger.client.cookies.delete("__Host-sidecar-session")


def test_page_when_nobody_is_signed_in_then_the_way_leads_through_the_form_and_back(stranger: Visitor) -> None:
    stranger.open("/challenge/abc?return_to=https%3A%2F%2Fapp.example.org%2Forders%3Fid%3D1")

    stranger.sign_in("ada")

    assert str(stranger.response.url).endswith(
        "/challenge/abc?return_to=https%3A%2F%2Fapp.example.org%2Forders%3Fid%3D1"
    )


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        (
            "/challenge/abc?return_to=https://app.example.org/x?id=1",
            "/challenge/abc?return_to=https%3A%2F%2Fapp.example.org%2Fx%3Fid%3D1",
        ),
        ("/challenge/abc?utm=1&return_to=/devices", "/challenge/abc?return_to=%2Fdevices"),
        ("/devices?done=removed", "/devices"),
        ("/devices?a=1&a=2", "/devices"),
        ("/devices?%ff", "/devices"),
    ],
)
def test_page_when_its_link_is_odd_then_what_matters_of_it_is_kept(stranger: Visitor, path: str, leads_to: str) -> None:
    stranger.open(path)

    assert stranger.sign_in().url.raw_path.decode() == leads_to


def test_session_when_it_did_not_begin_here_then_nobody_is_signed_in(prompt: PromptKit, ada: Visitor) -> None:
    issued = prompt.sessions.get_session_token(ada.caller)
    ada.client.cookies.set("__Host-sidecar-session", issued.session_token, domain="example.org")

    ada.open("/devices")

    assert ada.page.heading == "Sign in"


def test_form_when_the_session_is_over_then_signing_in_comes_first(prompt: PromptKit, ada: Visitor) -> None:
    ada.open("/devices/add-app")
    prompt.end_sessions()

    ada.submit("/devices/add-app", name="phone")

    assert ada.page.heading == "Sign in"
    assert prompt.mfa.services.devices.list_devices("arn:aws:iam::111122223333:user/ada") == []


def test_page_when_the_session_is_over_then_the_form_says_so(prompt: PromptKit, ada: Visitor) -> None:
    prompt.end_sessions()

    ada.open("/sign-in")

    assert "Your session is over" in ada.text
    assert "__Host-sidecar-session" not in ada.client.cookies


def test_sign_in_when_somebody_is_signed_in_already_then_the_form_is_not_shown(ada: Visitor) -> None:
    ada.open("/sign-in?next=/recovery-codes")

    assert ada.response.url.path == "/recovery-codes"


def test_sign_out_when_asked_then_the_session_is_ended_everywhere(prompt: PromptKit, ada: Visitor) -> None:
    ada.open("/devices")
    token = ada.caller.token

    ada.submit("/sign-out")

    assert ada.page.heading == "You are signed out"
    with pytest.raises(SessionRevokedError):
        prompt.sessions.authenticate(token, "")
    assert "__Host-sidecar-session" not in ada.client.cookies


def test_sign_out_when_the_store_is_out_of_reach_then_this_browser_forgets_at_least(
    prompt: PromptKit, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.open("/devices")
    monkeypatch.setattr(prompt.mfa.store, "write", out_of_reach)

    assert ada.submit("/sign-out").status_code == 503
    assert "could not be ended everywhere" in ada.text
    assert "__Host-sidecar-session" not in ada.client.cookies


def test_sign_in_when_the_store_is_out_of_reach_then_a_screen_says_so(
    prompt: PromptKit, stranger: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt.mfa.store, "read", out_of_reach)

    assert stranger.sign_in().status_code == 503
    assert stranger.page.heading == "Not possible at the moment"


def test_page_when_it_cannot_be_known_whether_the_session_was_ended_then_nothing_is_shown(
    prompt: PromptKit, ada: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(token: str, peer: str) -> Caller:
        raise SessionUnverifiableError("the store has been out of reach for too long")

    monkeypatch.setattr(prompt.sessions, "authenticate", fail)

    assert ada.open("/devices").status_code == 503
    assert ada.page.heading == "Not possible at the moment"


def test_session_when_its_token_does_not_fit_into_a_cookie_then_it_is_not_cut(
    prompt: PromptKit, stranger: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in = prompt.sessions.sign_in

    def sign_in_at_length(*, account: str, user_name: str, password: str, peer: str) -> IssuedSession:
        issued = sign_in(account=account, user_name=user_name, password=password, peer=peer)
        return dataclasses.replace(issued, session_token="x" * 4096)

    monkeypatch.setattr(prompt.sessions, "sign_in", sign_in_at_length)

    assert stranger.sign_in().status_code == 500
    assert "__Host-sidecar-session" not in stranger.client.cookies
