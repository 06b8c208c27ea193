# SPDX-License-Identifier: Apache-2.0
"""
Chromium, driven over the DevTools protocol, with its virtual authenticators.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from websockets.sync.client import ClientConnection, connect

#: The longest that anything is waited for; nothing takes that long.
PATIENCE = 30.0
_NAMES = ("chromium", "chromium-headless-shell", "google-chrome")


def find_chromium() -> str | None:
    """Return the program; None where there is none."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


class Chromium:
    """
    A browser process. Each context has cookies and keys of its own.

    Thread-safety: confined to one thread.
    """

    def __init__(self, folder: Path) -> None:
        program = find_chromium()
        assert program is not None
        command = [program, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        command += ["--no-first-run", "--disable-gpu", "--disable-extensions", "--disable-background-networking"]
        command += ["--disable-component-update", "--disable-default-apps", "--disable-sync", "--no-proxy-server"]
        # It sees no pages but ours. The sandbox needs what root, containers and some kernels do not have.
        command += ["--disable-dev-shm-usage", "--hide-scrollbars", "--no-sandbox", "about:blank"]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )
        port_file = folder / "DevToolsActivePort"
        latest = monotonic() + PATIENCE
        lines: list[str] = []
        while len(lines) < 2:
            assert self._process.poll() is None, "Chromium ended"
            assert monotonic() < latest, "Chromium does not start"
            sleep(0.02)
            lines = port_file.read_text().splitlines() if port_file.exists() else []
        self._socket: ClientConnection = connect(
            f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_size=64 * 1024 * 1024, compression=None, proxy=None
        )
        self._last_id = 0
        self._events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise DevToolsError(f"{method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)
            del self._events[:-500]

    def events(self, session: str, method: str) -> list[dict[str, Any]]:
        """Return the parameters of the latest events of a page."""
        return [e["params"] for e in self._events if e.get("sessionId") == session and e.get("method") == method]

    @contextmanager
    def context(self) -> Iterator[Context]:
        """Give a context that knows nothing of the others, for the length of the block."""
        id = self.call("Target.createBrowserContext", disposeOnDetach=True)["browserContextId"]
        try:
            yield Context(self, id)
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=id)

    def close(self) -> None:
        """End the browser."""
        try:
            self.call("Browser.close")
            self._socket.close()
            self._process.wait(10)
        except (OSError, EOFError, subprocess.TimeoutExpired):
            pass
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)


class DevToolsError(Exception):
    """The browser says that a call cannot be done."""


class Context:
    """
    Cookies that several pages share.

    Thread-safety: confined to one thread.
    """

    def __init__(self, browser: Chromium, id: str) -> None:
        self._browser = browser
        self._id = id

    def page(self) -> Page:
        """Open a page."""
        target = self._browser.call("Target.createTarget", url="about:blank", browserContextId=self._id)["targetId"]
        session = self._browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self._browser, target, session)


class Page:
    """
    A page, and what a person does with it.

    Thread-safety: confined to one thread.
    """

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol on the page."""
        return self._browser.call(method, self._session, **parameters)

    def complaints(self) -> list[str]:
        """Return what the browser has complained of: violated policies, faults of scripts."""
        entries = [event["entry"] for event in self._browser.events(self._session, "Log.entryAdded")]
        faults = self._browser.events(self._session, "Runtime.exceptionThrown")
        return [entry["text"] for entry in entries if entry["source"] != "network"] + [str(fault) for fault in faults]

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression on the page, as if a person had clicked for it."""
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """Wait until an expression is true on the page, whatever page that is by then; one that fails is not true."""
        latest = monotonic() + PATIENCE
        while True:
            try:
                found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
                if "exceptionDetails" not in found and (value := found["result"].get("value")):
                    return value
            except DevToolsError:
                # The page is being replaced.
                pass
            assert monotonic() < latest, f"{script} never came about on: {self.url} {self.text}"
            sleep(0.02)

    def wait_for_heading(self, text: str) -> None:
        """Wait until the page has that heading."""
        self.wait(f"document.querySelector('h1').innerText === {json.dumps(text)}")

    def wait_for_status(self, text: str) -> None:
        """Wait until the page says something of the key that begins like that."""
        self.wait(f"document.querySelector('[data-status]').innerText.startsWith({json.dumps(text)})")

    def goto(self, address: str) -> None:
        """Go to an address, as somebody who types it."""
        self.leave_by(lambda: self.call("Page.navigate", url=address))

    def leave_by(self, act: Any) -> None:
        """Do something that leads to another page, and wait until that is there."""
        self.evaluate("window.isLeft = true")
        act()
        self.wait("!window.isLeft && document.readyState === 'complete'")

    def click(self, selector: str) -> None:
        """Click on something that stays on the page."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def follow(self, selector: str) -> None:
        """Click on something that leads to another page."""
        self.leave_by(lambda: self.click(selector))

    def fill(self, **values: str) -> None:
        """Type into fields by their names."""
        for name, value in values.items():
            self.evaluate(f"document.querySelector('[name={name}]').focus()")
            self.evaluate(f"document.querySelector('[name={name}]').value = ''")
            self.call("Input.insertText", text=value)

    def press(self, key: str) -> None:
        """Press a key of the keyboard."""
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            parameters: dict[str, Any] = {"type": kind, "key": key, "windowsVirtualKeyCode": codes[key]}
            if kind == "keyDown" and text:
                parameters["text"] = text
            self.call("Input.dispatchKeyEvent", **parameters)

    def paint(self) -> None:
        """Wait until what is there so far has been painted."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @contextmanager
    def holding(self, pattern: str) -> Iterator[Callable[[], int]]:
        """Hold back what the page asks for by a pattern of addresses; give how many requests that are so far."""
        self.call("Fetch.enable", patterns=[{"urlPattern": pattern}])
        try:
            yield lambda: len(self._browser.events(self._session, "Fetch.requestPaused"))
        finally:
            # Whatever is held goes on by that.
            self.call("Fetch.disable")

    def back(self) -> None:
        """Go back, as by the browser's button."""
        history = self.call("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]["id"]
        self.leave_by(lambda: self.call("Page.navigateToHistoryEntry", entryId=entry))

    @property
    def url(self) -> str:
        """Where the page is."""
        return str(self.evaluate("location.href"))

    @property
    def text(self) -> str:
        """What a person reads on it."""
        return str(self.evaluate("document.body.innerText"))

    @property
    def heading(self) -> str:
        """Its first heading."""
        return str(self.evaluate("document.querySelector('h1').innerText"))

    def has(self, selector: str) -> bool:
        """Say whether something is there to be seen."""
        query = json.dumps(selector)
        return bool(self.evaluate(f"!!document.querySelector({query})?.checkVisibility()"))

    def plug_in(self, protocol: str = "ctap2", *, touches: bool = True, pin: bool = False) -> Authenticator:
        """
        Plug a key in.

        Args:
            touches: Whether somebody touches it at once.
            pin: Whether it can verify its user, and does.
        """
        self.call("WebAuthn.enable", enableUI=False)
        options: dict[str, Any] = {"protocol": protocol, "transport": "usb", "automaticPresenceSimulation": touches}
        options |= {"hasUserVerification": pin, "isUserVerified": pin}
        if protocol == "ctap2":
            options |= {"ctap2Version": "ctap2_1", "hasResidentKey": False}
        id = self.call("WebAuthn.addVirtualAuthenticator", options=options)["authenticatorId"]
        return Authenticator(self, id)

    def screenshot(self, path: Path, *, dark: bool, phone: bool, height: int = 0) -> None:
        """Take a picture of the whole page."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        width = 390 if phone else 1000
        metrics: dict[str, Any] = {"width": width, "height": 100, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        tall = int(self.evaluate("document.documentElement.scrollHeight"))
        metrics["height"] = max(tall, height, 500)
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        # The first one has things drawn that had not been so far.
        self.call("Page.captureScreenshot", format="png")
        image = self.call("Page.captureScreenshot", format="png")["data"]
        self.call("Emulation.clearDeviceMetricsOverride")
        self.call("Emulation.setEmulatedMedia", features=[])
        path.write_bytes(base64.b64decode(image))


class Authenticator:
    """
    A virtual security key.

    Thread-safety: confined to one thread.
    """

    def __init__(self, page: Page, id: str) -> None:
        self._page = page
        self._id = id

    def set_touched(self, value: bool) -> None:
        """Say whether somebody touches it from now on."""
        self._page.call("WebAuthn.setAutomaticPresenceSimulation", authenticatorId=self._id, enabled=value)

    def move_to(self, page: Page) -> None:
        """Plug it in where another page can ask it."""
        held = self._page.call("WebAuthn.getCredentials", authenticatorId=self._id)["credentials"]
        self.unplug()
        other = page.plug_in()
        for credential in held:
            page.call("WebAuthn.addCredential", authenticatorId=other._id, credential=credential)

    def unplug(self) -> None:
        """Take it away."""
        self._page.call("WebAuthn.removeVirtualAuthenticator", authenticatorId=self._id)
