# SPDX-License-Identifier: Apache-2.0
"""
The prompt in a real browser, with virtual security keys, before a real sidecar.
"""

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.chromium import Authenticator, Chromium, Context, Page, find_chromium
from tests.e2e.people import PASSWORD
from tests.e2e.prompt_site import Site, prompt_site
from tests.unit.services.mfa_kit import Phone

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for every test."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One sidecar for every test."""
    with prompt_site(tmp_path_factory.mktemp("prompt"), "ada", "bob") as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The sidecar, with nobody's devices."""
    shared_site.forget_devices()
    return shared_site


@pytest.fixture
def context(chromium: Chromium) -> Iterator[Context]:
    """A browser with no cookies."""
    with chromium.context() as context:
        yield context


@pytest.fixture
def page(context: Context, site: Site) -> Page:
    """A page on which ada has signed in."""
    return sign_in(context.page(), site, "ada")


def sign_in(page: Page, site: Site, user: str = "ada", path: str = "/devices") -> Page:
    """Sign somebody in, on the way to a page."""
    page.goto(f"{site.origin}{path}")
    page.fill(account="acme", user_name=user, password=PASSWORD)
    page.follow("main form button")
    return page


def add_key(page: Page, site: Site, name: str = "blue-key") -> None:
    """Add the key that is plugged in."""
    page.goto(f"{site.origin}/devices/add-key")
    page.fill(name=name)
    page.follow("main form button")
    page.follow("[data-start]")
    assert page.heading == "Your devices", page.text


def add_phone(page: Page, site: Site, name: str = "ada-phone") -> Phone:
    """Add an authenticator app, and spend the code of now."""
    page.goto(f"{site.origin}/devices/add-app")
    page.fill(name=name)
    page.follow("main form button")
    phone = Phone(name, page.evaluate("document.querySelector('.secret').textContent").replace(" ", ""))
    now = time.time()
    page.fill(code1=phone.code(now - 60), code2=phone.code(now - 30))
    page.follow("main form .actions button")
    assert page.heading == "Your devices", page.text
    return phone


def status(page: Page) -> str:
    """Return what the page says of the key."""
    return str(page.evaluate("document.querySelector('[data-status]').innerText"))


@pytest.mark.parametrize(("protocol", "kind"), [("ctap2", "Security key or passkey"), ("u2f", "Security key")])
def test_key_when_it_is_enrolled_then_changes_take_a_touch_of_it(
    site: Site, page: Page, protocol: str, kind: str
) -> None:
    page.plug_in(protocol)
    add_key(page, site)
    assert kind in page.text

    # Refused without a proof, ...
    page.follow("a[href='/devices/add-app']")
    assert page.heading == "First prove that it is you"
    page.follow("main form button")
    assert page.heading == "Prove that it is you"
    # ... and with one it goes on where it was.
    page.follow("[data-start]")
    assert page.url == f"{site.origin}/devices/add-app"
    assert page.heading == "Add an authenticator app"

    page.goto(f"{site.origin}/devices")
    page.follow("a[href^='/devices/remove']")
    page.follow("main form button")
    assert "The device has been removed." in page.text
    assert "You have none yet" in page.text
    assert page.complaints() == []


def test_challenge_when_a_terminal_asks_then_a_touch_lets_its_call_through_and_leads_back(
    site: Site, page: Page
) -> None:
    page.plug_in()
    add_key(page, site)
    terminal = site.terminal()
    assert terminal.decide(site) == "IMPLICIT_DENY"
    challenge = terminal.ask()
    assert challenge.prompt_url.startswith(f"{site.origin}/challenge/")

    page.goto(f"{challenge.prompt_url}?return_to={site.app}/orders/4711")
    for words in ("Approve this?", "payments:refund", "order/4711", challenge.user_code, "user/ada"):
        assert words in page.text
    page.leave_by(lambda: page.click("[data-start]"))
    page.wait_for_heading("The service goes on")

    assert page.url == f"{site.app}/orders/4711"
    assert page.evaluate("document.referrer") == ""
    terminal.collect(challenge)
    assert terminal.decide(site) == "ALLOW"
    assert page.complaints() == []


def test_challenge_when_nobody_is_signed_in_then_signing_in_leads_to_it(site: Site, context: Context) -> None:
    challenge = site.terminal().ask()

    page = sign_in(context.page(), site, "ada", challenge.prompt_url.removeprefix(site.origin))

    assert page.url == challenge.prompt_url
    assert "You have no device to prove it with" in page.text


def test_key_when_it_is_not_touched_then_the_page_waits_until_it_is_told_to_stop(site: Site, page: Page) -> None:
    key = page.plug_in()
    add_key(page, site)
    challenge = site.terminal().ask()
    page.goto(challenge.prompt_url)
    key.set_touched(False)

    page.click("[data-start]")
    page.wait_for_status("Touch your security key now.")
    assert page.has("[data-cancel]")
    assert page.evaluate("document.querySelector('[data-start]').disabled")
    page.click("[data-cancel]")
    page.wait_for_status("You have stopped waiting.")
    page.wait("document.activeElement.hasAttribute('data-start')")

    # It can be tried again on the same page.
    key.set_touched(True)
    page.follow("[data-start]")
    assert page.heading == "Approved"


def test_key_when_it_is_touched_too_late_then_the_page_says_so(site: Site, page: Page) -> None:
    key = page.plug_in()
    add_key(page, site)
    page.goto(site.terminal().ask().prompt_url)
    key.set_touched(False)
    options = json.loads(page.evaluate("document.querySelector('[data-options]').dataset.options"))
    options["timeout"] = 1
    page.evaluate(f"document.querySelector('[data-options]').dataset.options = {json.dumps(json.dumps(options))}")

    page.click("[data-start]")

    page.wait_for_status("No key was touched in time.")
    assert not page.has("[data-cancel]")


def test_key_when_it_is_a_wrong_one_then_the_page_says_so(site: Site, page: Page) -> None:
    own = page.plug_in()
    add_key(page, site)
    own.unplug()
    challenge = site.terminal().ask()
    page.goto(challenge.prompt_url)
    page.plug_in()

    page.click("[data-start]")

    page.wait_for_status("No key has answered")
    assert site.terminal().state(challenge) == "open"


def test_key_when_it_is_enrolled_already_then_the_page_says_so(site: Site, page: Page) -> None:
    page.plug_in()
    add_key(page, site)
    page.follow("a[href='/devices/add-key']")
    page.follow("main form button")
    page.follow("[data-start]")
    page.fill(name="again")
    page.follow("main form button")

    page.click("[data-start]")

    page.wait(
        "document.querySelector('[data-status]').innerText.startsWith('This key is one of your devices already.')"
    )


@pytest.mark.parametrize("has_pin", [True, False])
def test_key_when_a_pin_is_asked_for_then_only_a_key_with_one_will_do(site: Site, page: Page, has_pin: bool) -> None:
    page.plug_in(pin=has_pin)
    add_key(page, site)
    add_phone_later(page, site)
    terminal = site.terminal()
    challenge = terminal.ask(pin=True)
    page.goto(challenge.prompt_url)
    assert "It will ask for its PIN or your finger, too." in page.text
    assert not page.has("input[name=code]")

    page.click("[data-start]")
    if has_pin:
        page.wait_for_heading("Approved")
        terminal.collect(challenge)
    else:
        page.wait_for_status("No key has answered")
        assert terminal.state(challenge) == "open"


def add_phone_later(page: Page, site: Site) -> Phone:
    """Add an authenticator app with a touch of the key that is there."""
    page.goto(f"{site.origin}/devices/add-app")
    page.follow("main form button")
    page.follow("[data-start]")
    return add_phone(page, site)


def test_challenge_when_it_is_open_in_two_tabs_then_the_second_says_that_it_is_over(
    site: Site, context: Context, page: Page
) -> None:
    page.plug_in()
    add_key(page, site)
    challenge = site.terminal().ask()
    other = context.page()
    other.goto(challenge.prompt_url)
    page.goto(challenge.prompt_url)
    page.follow("[data-start]")
    assert page.heading == "Approved"

    other.follow(".refuse button")

    assert other.heading == "Approved"
    assert site.terminal().state(challenge) == "proved"


def test_forms_when_another_tab_signs_out_then_they_do_nothing(site: Site, context: Context, page: Page) -> None:
    other = context.page()
    other.goto(f"{site.origin}/devices/add-app")
    other.fill(name="phone")
    page.follow("nav button")
    assert page.heading == "You are signed out"

    other.follow("main form button")

    assert other.heading == "Sign in"


def test_back_button_when_the_challenge_was_answered_then_it_shows_how_it_ended(site: Site, page: Page) -> None:
    page.plug_in()
    add_key(page, site)
    challenge = site.terminal().ask()
    page.goto(challenge.prompt_url)
    page.follow("[data-start]")
    page.goto(f"{site.origin}/devices")

    page.back()

    assert page.heading == "Approved"
    assert not page.has("[data-start]")


def test_back_button_when_somebody_has_signed_out_then_nothing_is_shown(site: Site, page: Page) -> None:
    page.follow("nav button")

    page.back()

    assert page.heading == "Sign in"
    assert "ada" not in page.text


def test_challenge_when_its_time_is_over_then_the_page_says_so_by_itself(site: Site, page: Page) -> None:
    page.plug_in()
    add_key(page, site)
    challenge = site.terminal().ask()
    site.expire(challenge, seconds=2)
    page.goto(challenge.prompt_url)
    if page.heading == "Approve this?":
        page.wait_for_heading("Too late")
    assert page.heading == "Too late"


def test_challenge_when_the_key_is_touched_after_its_time_then_nothing_is_approved(site: Site, page: Page) -> None:
    page.plug_in()
    add_key(page, site)
    terminal = site.terminal()
    challenge = terminal.ask()
    page.goto(challenge.prompt_url)
    site.expire(challenge)

    page.follow("[data-start]")

    assert page.heading == "Too late"
    assert terminal.state(challenge) == "expired"


def test_challenge_when_it_is_refused_then_the_terminal_is_told(site: Site, page: Page) -> None:
    terminal = site.terminal()
    challenge = terminal.ask()
    page.goto(challenge.prompt_url)

    page.follow(".refuse button")

    assert page.heading == "Refused"
    assert terminal.state(challenge) == "refused"


def test_challenge_when_it_is_for_somebody_else_then_nothing_of_it_is_shown(site: Site, page: Page) -> None:
    challenge = site.terminal("bob").ask()

    page.goto(challenge.prompt_url)

    assert page.heading == "There is no such request for you"
    assert "payments" not in page.text


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_return_address_when_it_is_forged_then_it_leads_nowhere(site: Site, page: Page, address: str) -> None:
    challenge = site.terminal().ask()

    page.goto(f"{challenge.prompt_url}?return_to={address}")

    assert page.heading == "This link is not safe"
    assert page.url.startswith(site.origin)
    assert not page.has(f"a[href^='{address[:6]}']")


def test_post_when_another_site_sends_it_then_nothing_is_done(site: Site, page: Page) -> None:
    terminal = site.terminal()
    challenge = terminal.ask()
    page.goto(challenge.prompt_url)
    token = page.evaluate("document.querySelector('.refuse [name=form_token]').value")
    # Even with a token that it should not have.
    site.evil.page = (
        f"<!doctype html><title>x</title><form method=post action='{challenge.prompt_url}/refuse'>"
        f"<input name=form_token value='{token}'><input name=return_to></form>"
        "<script>document.forms[0].submit()</script>"
    )

    for host in ("127.0.0.1", "localhost"):
        page.call("Page.navigate", url=f"http://{host}:{site.evil.port}/")
        page.wait_for_heading("This was not sent from here")

    assert terminal.state(challenge) == "open"


def test_frame_when_another_site_shows_the_prompt_in_one_then_it_stays_empty(site: Site, page: Page) -> None:
    site.evil.page = f"<!doctype html><title>x</title><h1>win</h1><iframe src='{site.origin}/devices'></iframe>"

    page.goto(f"http://localhost:{site.evil.port}/")

    page.wait("document.readyState === 'complete'")
    assert page.evaluate("document.querySelector('iframe').contentDocument") is None
    frames = page.call("Page.getFrameTree")["frameTree"]["childFrames"]
    assert [frame["frame"]["url"] for frame in frames] == ["chrome-error://chromewebdata/"]


def test_page_when_there_is_no_javascript_then_a_code_will_do(site: Site, page: Page) -> None:
    page.plug_in()
    add_key(page, site)
    phone = add_phone_later(page, site)
    challenge = site.terminal().ask()
    page.call("Emulation.setScriptExecutionDisabled", value=True)

    page.goto(challenge.prompt_url)
    assert "Security keys need JavaScript" in page.text
    assert not page.has("[data-start]")
    page.fill(code=phone.code(time.time()))
    page.follow("form[action$='/code'] button")

    assert page.heading == "Approved"


def test_page_when_the_browser_knows_no_security_keys_then_it_says_so(site: Site, page: Page) -> None:
    page.plug_in()
    add_key(page, site)
    page.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.PublicKeyCredential")

    page.goto(site.terminal().ask().prompt_url)

    assert status(page).startswith("This browser cannot use security keys.")
    assert not page.has("[data-start]")


def test_keyboard_when_there_is_nothing_else_then_it_is_enough(site: Site, context: Context) -> None:
    page = sign_in(context.page(), site)
    page.plug_in()
    add_key(page, site)
    page.follow("nav button")
    challenge = site.terminal().ask()

    page.goto(challenge.prompt_url)
    for text in ("acme", "ada", PASSWORD):
        page.call("Input.insertText", text=text)
        if text != PASSWORD:
            page.press("Tab")
    page.leave_by(lambda: page.press("Enter"))
    assert page.heading == "Approve this?"
    # The button stands ready under the finger; what it is for is read out before it.
    assert page.evaluate("document.activeElement.innerText") == "Approve with key"
    page.leave_by(lambda: page.press("Enter"))

    assert page.heading == "Approved"


def test_button_when_the_page_is_painted_before_its_script_is_there_then_it_is_under_the_finger(
    site: Site, page: Page
) -> None:
    page.plug_in()
    add_key(page, site)
    page.call("Network.setCacheDisabled", cacheDisabled=True)

    with page.holding("*.js*") as held:
        page.call("Page.navigate", url=site.terminal().ask().prompt_url)
        page.wait("document.querySelector('h1').innerText === 'Approve this?'")
        page.paint()
        assert not page.has("[data-start]")
        assert held(), "the script waits"
    page.wait("document.readyState === 'complete'")

    assert page.evaluate("document.activeElement.innerText") == "Approve with key"
    assert not page.complaints()


def test_recovery_code_when_every_device_is_lost_then_it_will_do_once(site: Site, page: Page) -> None:
    key: Authenticator = page.plug_in()
    add_key(page, site)
    page.follow("a[href='/recovery-codes']")
    page.follow("main form button")
    page.follow("[data-start]")
    page.follow("main form button")
    code = page.evaluate("document.querySelector('.codes li').innerText")
    key.unplug()

    page.goto(site.terminal().ask().prompt_url)
    page.click("summary")
    page.fill(recovery_code=code.lower().replace("-", " "))
    page.follow("form[action$='/recovery'] button")

    assert page.heading == "Approved"
