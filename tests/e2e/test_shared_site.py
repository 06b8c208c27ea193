# SPDX-License-Identifier: Apache-2.0
"""
A shop behind forward auth, with the prompt below a path of its host, in a real browser and by programs: whoever needs
to sign in or to prove a factor does, and comes back.
"""

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from sidecar.client import AuthenticationError, PermissionDeniedError, StepUpClient
from sidecar.compile.step_up_ticket import MAX_TICKET
from sidecar.model.decision import MfaMethod
from sidecar.services.sessions.keys import SESSION_KEY_FILE, SessionKeyFile
from sidecar.services.sessions.tickets import TicketOpener
from tests.e2e.chromium import Authenticator, Chromium, Context, Page, find_chromium
from tests.e2e.people import PASSWORD, enrol_phone, next_code
from tests.e2e.prompt_site import ORDER, arn_of
from tests.e2e.shared_site import BASE, SharedSite, shared_site
from tests.e2e.sidecar_process import PATIENCE
from tests.e2e.test_prompt import add_key

browser = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
NAVIGATION = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedSite]:
    """One sidecar for every test."""
    with shared_site(tmp_path_factory.mktemp("shared"), "ada", "bob") as site:
        yield site


@pytest.fixture
def site(one_site: SharedSite) -> SharedSite:
    """The sidecar, with nobody's devices."""
    one_site.forget_devices()
    return one_site


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for every test."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def context(chromium: Chromium) -> Iterator[Context]:
    """A browser with no cookies."""
    with chromium.context() as context:
        yield context


def sign_in(page: Page) -> None:
    """Fill in the form that is shown."""
    assert page.heading == "Sign in", page.text
    page.fill(account="acme", user_name="ada", password=PASSWORD)
    page.follow("main form button")


def with_key(page: Page, site: SharedSite) -> Authenticator:
    """Have ada sign in, and add a key."""
    page.goto(f"{site.origin}/devices")
    sign_in(page)
    key = page.plug_in()
    add_key(page, site)
    return key


@browser
@pytest.mark.peer
def test_page_when_somebody_comes_for_the_first_time_then_they_sign_in_touch_their_key_and_are_back(
    site: SharedSite, context: Context
) -> None:
    page = context.page()
    page.goto(f"{site.host}/orders/4711?tab=2")
    assert page.url.startswith(f"{site.origin}/sign-in?next=")
    sign_in(page)

    # Signing in has led back to the page, which takes a proof besides, for which there is no device yet.
    assert page.url.startswith(f"{site.origin}/challenge/")
    assert "You have no device to prove it with." in page.text
    page.plug_in()
    add_key(page, site)
    page.goto(f"{site.host}/orders/4711?tab=2")
    assert page.heading == "Prove that it is you"
    for words in ("payments:Refund", ORDER, "This, and whatever else"):
        assert words in page.text
    page.follow("[data-start]")

    assert page.url == f"{site.host}/orders/4711?tab=2"
    assert page.heading == "Shop GET /orders/4711?tab=2"
    assert site.last["headers"]["x-iam-principal"] == arn_of("ada")
    assert site.last["headers"]["x-iam-route"] == "order"
    assert "sidecar-session" not in str(site.last["headers"])
    # The proof is one for the session.
    page.goto(f"{site.host}/orders/4712")
    assert page.heading == "Shop GET /orders/4712"
    assert page.complaints() == []


@browser
@pytest.mark.peer
def test_page_when_its_route_wants_each_call_proved_then_the_proof_holds_for_that_alone(
    site: SharedSite, context: Context
) -> None:
    page = context.page()
    with_key(page, site)
    for order in ("4711", "4712"):
        page.goto(f"{site.host}/approve/{order}")
        assert page.heading == "Approve this?"
        assert f"order/{order}" in page.text
        page.follow("[data-start]")
        assert page.heading == f"Shop GET /approve/{order}"


@browser
@pytest.mark.peer
def test_form_when_it_takes_a_proof_then_it_is_given_in_another_tab_and_nothing_is_lost(
    site: SharedSite, context: Context
) -> None:
    page = context.page()
    key = with_key(page, site)
    page.goto(f"{site.host}/open/4711")
    page.fill(amount="34")
    page.follow("form button")
    assert page.evaluate("document.querySelector('a').target") == "_blank"
    link = page.evaluate("document.querySelector('a').href")
    assert link.startswith(f"{site.origin}/step-up?ticket=")

    other = context.page()
    key.move_to(other)
    other.goto(link)
    assert other.heading == "Prove that it is you"
    other.follow("[data-start]")
    assert other.heading == "Approved"
    assert "Go back to the tab that you came from, and load it again." in other.text

    page.leave_by(lambda: page.call("Page.reload"))
    assert page.heading == "Shop POST /orders/4711"
    assert (site.last["method"], site.last["body"]) == ("POST", "amount=34")


def test_program_when_it_needs_a_proof_then_it_redeems_the_ticket_and_asks_again(site: SharedSite) -> None:
    secret = enrol_phone(site.sidecar, arn_of("ada"))
    terminal = site.terminal()
    refused = call(site, "/orders/4711", terminal.token)

    assert refused.status_code == 401
    challenge = refused.headers["www-authenticate"]
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'max_age="299"' in challenge
    told = refused.json()
    assert told["error"] == "insufficient_user_authentication"
    assert told["max_age"] == 299
    assert set(told["methods"]) == {method.word for method in MfaMethod}
    assert told["prompt_url"] == f"{site.origin}/step-up?ticket={told['step_up_ticket']}"

    with StepUpClient(site.sidecar.address("management")) as step_up:
        prompt = step_up.begin(terminal.token, step_up_ticket=told["step_up_ticket"])
        assert prompt.prompt_url == f"{site.origin}/challenge/{prompt.challenge_id}"
        again = step_up.begin(terminal.token, step_up_ticket=told["step_up_ticket"])
        assert again.challenge_id == prompt.challenge_id
        with pytest.raises(PermissionDeniedError):
            step_up.begin(site.terminal().token, step_up_ticket=told["step_up_ticket"])
        proved = step_up.answer(terminal.token, prompt.challenge_id, totp_code=next_code(secret))
        with pytest.raises(AuthenticationError):
            step_up.collect(terminal.token, prompt.challenge_id)

    assert proved is not None
    assert call(site, "/orders/4711", proved).status_code == 200
    assert "authorization" not in site.last["headers"]
    assert call(site, "/orders/4711", terminal.token).status_code == 401


def test_ticket_when_the_core_seals_it_then_it_says_what_the_sidecar_reads(site: SharedSite) -> None:
    terminal = site.terminal()
    link = call(site, "/approve/47%2B11?x=1", terminal.token, **NAVIGATION)
    assert link.status_code == 303
    text = link.headers["location"].partition("?ticket=")[2]
    ring = SessionKeyFile(site.sidecar.state_dir / SESSION_KEY_FILE).read()

    opened = TicketOpener(ring=lambda: ring, now=lambda: 2**62).open(text)

    assert opened.access_key_id == base64.urlsafe_b64decode(terminal.token[:36] + "==")[5:25].decode()
    assert opened.action.lower() == "payments:refund"
    assert opened.resource == ORDER.replace("4711", "47+11")
    assert opened.return_address == f"{site.host}/approve/47%2B11?x=1"
    assert opened.methods == tuple(MfaMethod)
    assert (opened.max_age_seconds, opened.user_verification, opened.is_for_call) == (299, False, True)
    assert len(text) < MAX_TICKET


def test_program_when_it_has_no_session_then_it_is_told_to_sign_in(site: SharedSite) -> None:
    for path in ("/orders/4711", "/approve/1"):
        answer = call(site, path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "step_up_ticket" not in json.loads(answer.text)
    wrong = call(site, "/orders/4711", "x" * 200)
    assert wrong.status_code == 401


def test_paths_when_no_route_covers_them_or_they_are_public_then_the_proxy_does_as_told(site: SharedSite) -> None:
    assert call(site, "/nowhere").status_code == 403
    assert call(site, "/orders/%2e%2e/open/x").status_code == 403
    seen = len(site.proxy.seen)
    assert call(site, "/open/x").status_code == 200
    assert len(site.proxy.seen) == seen + 1
    assert call(site, "/open/x", **{"x-iam-principal": "arn:evil"}).status_code == 200
    assert site.last["headers"].get("x-iam-principal", "") != "arn:evil"
    assert call(site, "/open/x", x_iam_admin="1").status_code == 403


def test_prompt_when_it_is_asked_for_by_another_name_or_past_its_path_then_it_is_not_there(site: SharedSite) -> None:
    prompt = site.sidecar.address("prompt")
    host = site.host.partition("://")[2]

    def status(path: str, **headers: str) -> int:
        address = f"http://{prompt}{path}"
        return httpx.get(address, headers=headers, trust_env=False, timeout=PATIENCE).status_code

    assert status(f"{BASE}/sign-in") == 421
    assert status(f"{BASE}/sign-in", host=host) == 200
    assert status("/sign-in", host=host) == 404


def call(site: SharedSite, path: str, token: str = "", **headers: str) -> httpx.Response:
    """Ask the shop for something, as a program."""
    sent = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{site.host}{path}", headers={**sent, **headers}, trust_env=False, timeout=PATIENCE)
