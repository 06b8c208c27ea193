# SPDX-License-Identifier: Apache-2.0
"""
Pictures of every page of the prompt, as a person comes to them; run by ``scripts/screenshots``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.chromium import Chromium, Page, find_chromium
from tests.e2e.people import PASSWORD
from tests.e2e.prompt_site import Site, prompt_site
from tests.unit.services.mfa_kit import Phone


class Album:
    """Keeps pictures, each in four versions."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._count = 0

    def add(self, name: str) -> None:
        """Take pictures of the page as it is."""
        self._count += 1
        for is_dark in (False, True):
            for is_phone in (False, True):
                kind = f"{'dark' if is_dark else 'light'}-{'phone' if is_phone else 'desk'}"
                path = self._folder / f"{self._count:02d}-{name}-{kind}.png"
                self._page.screenshot(path, dark=is_dark, phone=is_phone)
        complaints = self._page.complaints()
        if complaints:
            raise RuntimeError(f"the browser complains on {name}: {complaints}")


def take_pictures(site: Site, page: Page, folder: Path) -> None:
    """Go through every page."""
    album = Album(page, folder)
    key = page.plug_in()
    page.goto(site.origin)
    album.add("sign-in")
    page.fill(account="acme", user_name="ada", password="wrong")
    page.follow("main form button")
    album.add("sign-in-wrong")
    page.fill(password=PASSWORD)
    page.follow("main form button")
    album.add("devices-none")
    terminal = site.terminal()
    page.goto(terminal.ask().prompt_url)
    album.add("challenge-no-device")
    page.goto(f"{site.origin}/devices/add-key")
    page.fill(name="a/b")
    page.follow("main form button")
    album.add("add-key-bad-name")
    page.fill(name="blue key")
    page.follow("main form button")
    album.add("touch-new-key")
    page.follow("[data-start]")
    album.add("devices-one")

    page.follow("a[href='/devices/add-app']")
    album.add("prove-first")
    page.follow("main form button")
    album.add("challenge-of-this-browser")
    page.follow("[data-start]")
    album.add("add-app")
    page.fill(name="ada-phone")
    page.follow("main form button")
    page.click("summary")
    album.add("scan-app")
    phone = Phone("", page.evaluate("document.querySelector('.secret').textContent").replace(" ", ""))
    page.fill(code1="111111", code2="222222")
    page.follow("main form .actions button")
    album.add("scan-app-wrong")
    now = time.time()
    page.fill(code1=phone.code(now - 60), code2=phone.code(now - 30))
    page.follow("main form .actions button")
    album.add("devices-two")
    page.goto(f"{site.origin}/recovery-codes")
    album.add("recovery")
    page.follow("main form button")
    album.add("recovery-codes")
    page.goto(f"{site.origin}/devices")
    page.follow("a[href^='/devices/remove']")
    album.add("remove")
    page.goto(f"{site.origin}/password")
    album.add("password")

    take_challenges(site, page, album)
    key.set_touched(True)
    page.goto(f"{site.origin}/nowhere")
    album.add("no-page")
    page.follow("nav button")
    album.add("signed-out")


def take_challenges(site: Site, page: Page, album: Album) -> None:
    """Go through what can become of a challenge."""
    terminal = site.terminal()
    challenge = terminal.ask()
    page.goto(challenge.prompt_url)
    album.add("challenge")
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.goto(challenge.prompt_url)
    album.add("challenge-no-javascript")
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    page.goto(challenge.prompt_url)
    page.evaluate("window.navigator.credentials.get = () => new Promise(() => {})")
    page.click("[data-start]")
    page.wait_for_status("Touch your security key now.")
    album.add("challenge-waiting")
    page.goto(challenge.prompt_url)
    page.fill(code="123456")
    page.follow("form[action$='/code'] button")
    album.add("challenge-wrong-code")
    for _ in range(5):
        page.fill(code="123456")
        page.follow("form[action$='/code'] button")
    album.add("challenge-too-many")
    page.goto(f"{challenge.prompt_url}?return_to=https://evil.example/")
    album.add("forged-return-address")
    page.goto(f"{challenge.prompt_url}?return_to={site.app}/")
    page.follow(".refuse button")
    album.add("refused")
    challenge = terminal.ask(pin=True)
    page.goto(challenge.prompt_url)
    album.add("challenge-with-pin")
    site.expire(challenge)
    page.goto(challenge.prompt_url)
    album.add("expired")
    site.forget_failures()
    challenge = terminal.ask("", "")
    page.goto(challenge.prompt_url)
    page.follow("[data-start]")
    album.add("approved")
    page.goto(site.terminal("bob").ask().prompt_url)
    album.add("not-yours")
    site.evil.page = (
        f"<!doctype html><title>x</title><form method=post action='{challenge.prompt_url}/refuse'></form>"
        "<script>document.forms[0].submit()</script>"
    )
    page.call("Page.navigate", url=f"http://127.0.0.1:{site.evil.port}/")
    page.wait_for_heading("This was not sent from here")
    album.add("from-elsewhere")


def main() -> int:
    """Take the pictures."""
    if find_chromium() is None:
        print("Chromium is not installed", file=sys.stderr)
        return 1
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, prompt_site(Path(scratch) / "site", "ada", "bob") as site:
        browser = Chromium(Path(scratch) / "chromium")
        try:
            with browser.context() as context:
                take_pictures(site, context.page(), folder)
        finally:
            browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
