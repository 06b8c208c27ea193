# SPDX-License-Identifier: Apache-2.0
"""The prompt below a path of the host that it protects: tickets, the way back, and that nothing leads past the path."""

import json
import re
from typing import Any

import pytest

from sidecar.model.challenge import ChallengeState
from sidecar.model.decision import MfaMethod
from tests.authenticators import Ctap2Key, U2fKey
from tests.tickets import ACTION, RESOURCE
from tests.unit.services.mfa_kit import ADMINISTRATOR, ORIGIN, plugged_client
from tests.unit.services.session_kit import PASSWORD
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Document, Visitor

BASE = "/.iam-sidecar"
PAGE = f"{ORIGIN}/orders/4711?tab=2"


def touch(visitor: Visitor, key: Ctap2Key | U2fKey) -> str:
    """Have a key answer what the page asks it."""
    with plugged_client(key, None) as client:
        return json.dumps(dict(client.get_assertion(json.loads(visitor.options)).get_response(0)))


def refused(visitor: Visitor, **said: Any) -> str:
    """Give the page that somebody is led to whose request was refused."""
    return f"/step-up?ticket={visitor.prompt.mfa.ticket(visitor.caller.session, **said)}"


def test_pages_when_walked_through_then_everything_lies_below_the_path(shared: PromptKit, shopper: Visitor) -> None:
    # What each page holds is looked at wherever a visitor arrives.
    for path in (
        "",
        "/",
        "/sign-in",
        "/devices",
        "/devices/add-key",
        "/devices/add-app",
        "/recovery-codes",
        "/nowhere",
    ):
        response = shopper.open(path)
        assert shopper.page.heading
        assert response.status_code == (404 if path == "/nowhere" else 200)
    for path in ("/", "/devices", "/sign-in", f"{BASE}x/devices", "/static/prompt.js"):
        assert shopper.client.get(path).status_code == 404

    shopper.open("/devices/add-app")
    shopper.submit("/devices/add-app", name="phone")
    assert shopper.page.heading == "Set up your authenticator app"
    shopper.open("/devices")
    shopper.submit("/sign-out")
    assert shopper.page.heading == "You are signed out"
    assert shopper.response.url.path == f"{BASE}/signed-out"


def test_files_when_a_page_names_them_then_they_are_there_and_no_others_are_scripts(shopper: Visitor) -> None:
    policy = shopper.response.headers["content-security-policy"]
    assert f"script-src {ORIGIN}{BASE}/static/;" in policy
    assert f"style-src {ORIGIN}{BASE}/static/;" in policy
    page = Document(shopper.response.text, BASE)
    paths = [str(element.get("src")) for element in page.all("script")]
    paths += [str(element.get("href")) for element in page.all("link") if element.get("rel") == "stylesheet"]
    assert len(paths) == 2
    for path in paths:
        assert path.startswith(f"{BASE}/static/")
        assert shopper.client.get(path).status_code == 200


def test_cookies_when_they_are_set_then_the_protected_host_gets_them_too(shared: PromptKit) -> None:
    with Visitor(shared) as visitor:
        visitor.sign_in()
        [cookie] = visitor.cookies_set

    assert re.match("__Host-sidecar-session=[A-Za-z0-9_-]+; ", cookie)
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"path=/", "secure", "httponly", "samesite=lax"}


def test_ticket_when_it_is_shown_then_the_page_says_what_for_and_leads_back_with_the_proof(
    shared: PromptKit, shopper: Visitor
) -> None:
    key, before = Ctap2Key(), shopper.caller
    shared.mfa.enrol_key(key)

    shopper.open(refused(shopper, return_address=PAGE))

    assert shopper.page.heading == "Prove that it is you"
    for words in (ACTION, RESOURCE, "This, and whatever else", "This browser"):
        assert words in shopper.text
    action = next(action for action in shopper.page_actions() if action.endswith("/key"))
    shopper.submit(action, response_json=touch(shopper, key))
    assert (shopper.response.status_code, shopper.location) == (303, PAGE)
    assert shopper.caller.session == before.session
    claims = shopper.caller.claims
    assert claims is not None
    assert claims.mfa is not None
    assert claims.bound is None


def test_ticket_when_it_is_for_the_call_then_the_proof_is_bound_to_it(shared: PromptKit, shopper: Visitor) -> None:
    phone = shared.mfa.enrol_phone()

    shopper.open(refused(shopper, return_address=PAGE, is_for_call=True))

    assert shopper.page.heading == "Approve this?"
    action = next(action for action in shopper.page_actions() if action.endswith("/code"))
    shopper.submit(action, code=phone.code(shared.clock.seconds))
    assert shopper.location == PAGE
    claims = shopper.caller.claims
    assert claims is not None
    assert claims.mfa is None
    assert claims.bound is not None
    assert (claims.bound.action, claims.bound.resource) == (ACTION.lower(), RESOURCE)


def test_ticket_when_the_link_is_opened_again_then_it_is_the_same_request(shared: PromptKit, shopper: Visitor) -> None:
    shared.mfa.enrol_phone()
    link = refused(shopper, return_address=PAGE)
    shopper.open(link)
    first = shopper.response.url.path

    shopper.open(link)
    assert shopper.response.url.path == first

    shopper.submit(f"{first.removeprefix(BASE)}/refuse")
    assert shopper.page.heading == "Refused"
    shopper.open(link)
    assert shopper.page.heading == "Refused"
    assert "Back to example.org" in shopper.text


def test_ticket_when_there_is_no_page_to_go_back_to_then_the_other_tab_is_named(
    shared: PromptKit, shopper: Visitor
) -> None:
    phone = shared.mfa.enrol_phone()
    shopper.open(refused(shopper))
    action = next(action for action in shopper.page_actions() if action.endswith("/code"))

    shopper.submit(action, code=phone.code(shared.clock.seconds))

    assert shopper.page.heading == "Approved"
    assert "Go back to the tab that you came from, and load it again." in shopper.text


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "https://example.org.evil.example/", "http://example.org/"]
)
def test_ticket_when_its_page_is_not_allowed_then_nobody_is_led_there(
    shared: PromptKit, shopper: Visitor, address: str
) -> None:
    phone = shared.mfa.enrol_phone()
    shopper.open(refused(shopper, return_address=address))
    assert shopper.page.heading == "Prove that it is you"
    action = next(action for action in shopper.page_actions() if action.endswith("/code"))

    shopper.submit(action, code=phone.code(shared.clock.seconds))

    assert shopper.page.heading == "Approved"
    assert address not in shopper.response.text


def test_ticket_when_nobody_is_signed_in_then_signing_in_leads_to_the_page_itself(shared: PromptKit) -> None:
    with Visitor(shared) as visitor:
        visitor.open(f"/step-up?ticket={shared.mfa.ticket('ASIA2345672345672345', return_address=PAGE)}")
        assert visitor.page.heading == "Sign in"

        visitor.sign_in()

        assert visitor.location == PAGE


@pytest.mark.parametrize("ticket", ["", "?ticket=", "?ticket=forged", "?ticket=x&ticket=y"])
def test_ticket_when_nobody_is_signed_in_and_it_names_no_page_then_the_other_tab_is_named(
    shared: PromptKit, ticket: str
) -> None:
    with Visitor(shared) as visitor:
        visitor.open(f"/step-up{ticket}")
        assert visitor.page.heading == "Sign in"

        visitor.sign_in()

        assert visitor.page.heading == "Please load the page again"
        assert "Go back to the page or tab that you came from" in visitor.text


def test_ticket_when_it_is_of_a_session_from_before_then_the_page_is_to_be_loaded_again(
    shared: PromptKit, shopper: Visitor
) -> None:
    terminal = shared.terminal()
    for address, words in ((PAGE, "Back to example.org"), ("https://evil.example/", "To the first page")):
        ticket = shared.mfa.ticket(terminal.session, return_address=address)

        assert shopper.open(f"/step-up?ticket={ticket}").status_code == 409

        assert shopper.page.heading == "Please load the page again"
        assert words in shopper.text
        assert "evil" not in shopper.response.text


def test_ticket_when_it_is_over_then_the_page_is_to_be_loaded_again(shared: PromptKit, shopper: Visitor) -> None:
    link = refused(shopper, return_address=PAGE, seconds=0)

    assert shopper.open(link).status_code == 409

    assert f'href="{PAGE}"' in shopper.response.text


@pytest.mark.parametrize("ticket", ["forged", "x" * 8000, "%00", "%F0%9F%92%A9"])
def test_ticket_when_it_is_forged_then_nothing_is_asked(shared: PromptKit, shopper: Visitor, ticket: str) -> None:
    assert shopper.open(f"/step-up?ticket={ticket}").status_code == 400

    assert shopper.page.heading == "This link does not work"


def test_ticket_when_there_are_too_many_then_the_page_says_so(shared: PromptKit, shopper: Visitor) -> None:
    for _ in range(10):
        shopper.open(refused(shopper, return_address=PAGE))
        assert shopper.page.heading == "Prove that it is you"

    assert shopper.open(refused(shopper, return_address=PAGE)).status_code == 409
    assert "10 times within ten minutes" in shopper.text


@pytest.mark.parametrize(
    ("methods", "pin", "own", "offered", "words"),
    [
        (list(MfaMethod), False, ["key", "phone", "recovery"], {"key", "code", "recovery"}, ""),
        ([MfaMethod.WEBAUTHN], False, ["key", "phone", "recovery"], {"key"}, ""),
        ([MfaMethod.WEBAUTHN, MfaMethod.U2F], False, ["phone"], set(), "This takes a security key or passkey."),
        ([MfaMethod.U2F], False, ["key"], set(), "This takes a security key."),
        ([MfaMethod.TOTP], False, ["key"], set(), "This takes an authenticator app."),
        ([MfaMethod.TOTP], False, ["key", "phone"], {"code"}, ""),
        (
            [MfaMethod.TOTP, MfaMethod.RECOVERY],
            False,
            ["key"],
            {"recovery"},
            "an authenticator app, or a recovery code",
        ),
        ([MfaMethod.WEBAUTHN], True, ["phone"], set(), "This takes a security key with a PIN or a fingerprint."),
        ([MfaMethod.WEBAUTHN], False, [], set(), "Add a security key or passkey first"),
        ([MfaMethod.WEBAUTHN], True, [], set(), "Add a security key with a PIN or a fingerprint first"),
    ],
)
def test_ticket_when_policies_count_some_factors_then_those_alone_are_offered(
    shared: PromptKit,
    shopper: Visitor,
    methods: list[MfaMethod],
    pin: bool,
    own: list[str],
    offered: set[str],
    words: str,
) -> None:
    if "key" in own:
        shared.mfa.enrol_key(Ctap2Key())
    if "phone" in own:
        shared.mfa.enrol_phone()
    if "recovery" in own:
        shared.mfa.services.recovery.generate(ADMINISTRATOR, shopper.caller.name)

    shopper.open(refused(shopper, methods=methods, user_verification=pin))

    assert {action.rpartition("/")[2] for action in shopper.page_actions()} - {"sign-out", "refuse"} == offered
    assert words in shopper.text
    assert ("will do" in shopper.text) == bool(own and words)


def test_challenge_when_another_browser_of_the_person_answers_then_it_is_not_led_anywhere(
    shared: PromptKit, shopper: Visitor
) -> None:
    phone, terminal = shared.mfa.enrol_phone(), shared.terminal()
    asked = shared.step_up.redeem(terminal, shared.mfa.ticket(terminal.session, return_address=PAGE))
    shopper.open(f"/challenge/{asked.challenge_id}")
    assert "Another session of yours" in shopper.text

    shopper.submit(f"/challenge/{asked.challenge_id}/code", code=phone.code(shared.clock.seconds))

    assert shopper.page.heading == "Approved"
    assert PAGE not in shopper.response.text
    found = shared.mfa.services.challenges.find(asked.challenge_id)
    assert found is not None
    assert found.state is ChallengeState.PROVED


def sign_in_towards(shared: PromptKit, where: str) -> Visitor:
    """Sign somebody in who came from *where*."""
    visitor = Visitor(shared)
    visitor.response = visitor.client.get(f"{BASE}/sign-in", params={"next": where})
    visitor.submit("/sign-in", account="acme", user_name="ada", password=PASSWORD)
    return visitor


@pytest.mark.parametrize("where", [ORIGIN, f"{ORIGIN}/", PAGE, f"{ORIGIN}/.iam-sidecars", f"{ORIGIN}?x=/.iam-sidecar/"])
def test_sign_in_when_it_was_on_the_way_to_the_protected_host_then_it_leads_there(
    shared: PromptKit, where: str
) -> None:
    with sign_in_towards(shared, where) as visitor:
        assert (visitor.response.status_code, visitor.location) == (303, where)
        assert visitor.caller.session


def test_sign_in_when_it_was_on_the_way_to_an_allowed_host_then_a_page_leads_there(shared: PromptKit) -> None:
    where = "https://app.example.org/orders?id=4711&x=%22"

    with sign_in_towards(shared, where) as visitor:
        assert visitor.response.status_code == 200
        assert visitor.page.heading == "You are signed in"
        refresh = [meta.get("content") for meta in visitor.page.all("meta") if meta.get("http-equiv") == "refresh"]
        assert refresh == [f"0; url={where}"]


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "\\\\evil.example",
        "/\\evil.example",
        "https:\\\\evil.example",
        "https://example.org@evil.example/",
        "https://example.org:x@evil.example/",
        "https://evil.example\\@example.org/",
        "https://example.org\\.evil.example/",
        "https://example.org.evil.example/",
        "https://example.org:8443/",
        "https://example.org:443/",
        "http://example.org/",
        "HTTPS://example.org/",
        "https://EXAMPLE.org/",
        "https:example.org",
        "https:/example.org/",
        " https://example.org/",
        "https://example.org/\r\nset-cookie: x=y",
        "javascript:alert(1)",
        "data:text/html,x",
        # Round in a circle.
        f"{ORIGIN}{BASE}/sign-in",
        f"{ORIGIN}{BASE}",
        f"{ORIGIN}{BASE}?next=x",
        f"{ORIGIN}{BASE}#x",
    ],
)
def test_sign_in_when_the_address_is_forged_then_it_leads_to_the_persons_devices(shared: PromptKit, where: str) -> None:
    with sign_in_towards(shared, where) as visitor:
        assert visitor.response.url.path == f"{BASE}/devices"
        assert visitor.page.heading == "Your devices"


def test_sign_in_when_somebody_is_signed_in_then_no_service_can_send_them_round_in_a_circle(shopper: Visitor) -> None:
    for where, host in ((PAGE, "example.org"), ("https://app.example.org/", "app.example.org")):
        shopper.response = shopper.client.get(f"{BASE}/sign-in", params={"next": where})

        assert shopper.response.status_code == 200
        assert f"Go on to {host}" in shopper.text
        assert "http-equiv" not in shopper.response.text


def test_form_when_another_page_of_the_host_was_asked_for_then_it_is_still_one_of_ours(shopper: Visitor) -> None:
    assert shopper.post("/prove", {"then": "/devices"}).status_code == 403
    shopper.open("/devices")
    form = shopper.page.form("/sign-out")
    assert shopper.post("/sign-out", form, origin="https://evil.example").status_code == 403
    assert shopper.caller.session
