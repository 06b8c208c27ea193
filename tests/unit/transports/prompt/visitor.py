# SPDX-License-Identifier: Apache-2.0
"""
A person with a browser that runs no scripts. Each page that it is shown is checked: that it is valid HTML, and that it
can be used with a keyboard and a screen reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from types import TracebackType
from xml.etree.ElementTree import Element

import html5lib
import httpx
from starlette.types import ASGIApp

from sidecar.services.callers import Caller
from tests.unit.services.session_kit import PASSWORD
from tests.unit.transports.prompt.prompt_kit import PromptKit

_XHTML = "{http://www.w3.org/1999/xhtml}"


class Document:
    """An HTML page, which is refused if a parser has anything to say against it."""

    def __init__(self, text: str, base: str = "") -> None:
        parser = html5lib.HTMLParser(strict=True)
        self.root: Element = parser.parse(text)
        self.base = base
        check_usable(self)

    def all(self, *names: str) -> Iterator[Element]:
        """Give the elements of those names."""
        for name in names:
            yield from self.root.iter(_XHTML + name)

    def text(self, element: Element | None = None) -> str:
        """Return what is written in an element, or on the page."""
        return " ".join(" ".join((self.root if element is None else element).itertext()).split())

    @property
    def heading(self) -> str:
        """The heading of the page."""
        return self.text(next(self.all("h1")))

    def form(self, action: str) -> dict[str, str]:
        """Return the fields of the form that is sent to an address."""
        form = next(form for form in self.all("form") if form.get("action") == self.base + action)
        return {str(field.get("name")): field.get("value") or "" for field in form.iter(_XHTML + "input")}

    def actions(self) -> list[str]:
        """Return where the forms of the page are sent to."""
        return [(form.get("action") or "").removeprefix(self.base) for form in self.all("form")]


def check_usable(page: Document) -> None:
    """Refuse a page that somebody cannot use: see WCAG 2.2, criteria 1.1.1, 1.3.1, 2.4.2, 3.1.1, 3.3.2 and 4.1.2."""
    assert page.root.get("lang") == "en"
    assert [page.text(title) != "" for title in page.all("title")] == [True]
    assert len(list(page.all("h1"))) == 1, "one heading"
    assert len(list(page.all("main"))) == 1
    levels = [
        int(heading.tag[-1]) for heading in page.root.iter() if heading.tag in {f"{_XHTML}h{n}" for n in "123456"}
    ]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels
    ids = [str(element.get("id")) for element in page.root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)), "an id stands twice"
    labelled = {label.get("for") for label in page.all("label")}
    for field in page.all("input", "select", "textarea"):
        if field.get("type") != "hidden":
            assert field.get("id") in labelled, f"{field.get('name')} has no label"
    for element in page.root.iter():
        for name in ("aria-describedby", "aria-labelledby"):
            assert set((element.get(name) or "").split()) <= set(ids), element.attrib
    for button in page.all("button", "a", "summary"):
        assert page.text(button) or button.get("aria-label"), "a button without words"
    assert all(image.get("alt") for image in page.all("img"))
    assert len([element for element in page.root.iter() if {"autofocus", "data-focus"} & {*element.attrib}]) <= 1
    # What is allowed comes from here, and no text of a page is a script or a style.
    assert not [element for element in page.root.iter() if {"style", "onclick", "onload"} & set(element.attrib)]
    assert not list(page.all("style", "iframe", "object"))
    assert all((script.get("src") or "").startswith(f"{page.base}/static/") for script in page.all("script"))
    for form in page.all("form"):
        assert form.get("method") == "post"
        assert (form.get("action") or "").startswith(f"{page.base}/")
    # What stands on a page leads below the path of the prompt, or to another host.
    for link in page.all("a", "link"):
        href = link.get("href") or ""
        assert href.startswith((f"{page.base}/", "#", "https://", "data:,")), href


class _Wire(httpx.BaseTransport):
    """
    Carries the requests of a client to an application.

    Thread-safety: that of the application.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(application)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def run() -> httpx.Response:
            response = await self._transport.handle_async_request(request)
            await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=response.content)

        return asyncio.run(run())


def client_of(prompt: PromptKit) -> httpx.Client:
    """Return a client of a prompt, with a jar for cookies."""
    return httpx.Client(transport=_Wire(prompt.application), base_url=prompt.origin)


class Visitor:
    """
    Somebody at the prompt.

    Thread-safety: confined to one thread.
    """

    def __init__(self, prompt: PromptKit) -> None:
        self.prompt = prompt
        self.client = client_of(prompt)
        self.response = httpx.Response(200)
        #: Another host that the last answer leads to.
        self.location = ""
        self._document: tuple[httpx.Response, Document] | None = None

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()

    @property
    def page(self) -> Document:
        """The page that is shown now."""
        if self._document is None or self._document[0] is not self.response:
            self._document = self.response, Document(self.response.text, self.prompt.path)
        return self._document[1]

    @property
    def text(self) -> str:
        """What is written on it."""
        return self.page.text()

    def open(self, path: str) -> httpx.Response:
        """Go to a page, wherever that leads."""
        return self._arrive(self.client.get(self.prompt.path + path))

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        """Send fields as a form on a page of the prompt would."""
        sent = {"origin": self.prompt.origin, "sec-fetch-site": "same-origin", **headers}
        return self._arrive(self.client.post(self.prompt.path + path, data=fields, headers=sent))

    def submit(self, action: str, **typed: str) -> httpx.Response:
        """Fill in the form of the page that is shown now, and send it."""
        fields = self.page.form(action)
        assert set(typed) <= set(fields), fields
        return self.post(action, {**fields, **typed})

    def sign_in(self, user_name: str = "ada", *, account: str = "acme", password: str = PASSWORD) -> httpx.Response:
        """Sign in."""
        if "/sign-in" not in self.page_actions():
            self.open("/sign-in")
        return self.submit("/sign-in", account=account, user_name=user_name, password=password)

    def page_actions(self) -> list[str]:
        """Return where the forms of the page that is shown now are sent to."""
        return self.page.actions() if self.response.text else []

    @property
    def options(self) -> str:
        """What the page that is shown now would ask a key."""
        return next(
            str(section.get("data-options")) for section in self.page.all("section") if section.get("data-options")
        )

    @property
    def caller(self) -> Caller:
        """The session that the browser keeps."""
        token = self.client.cookies["__Host-sidecar-session"]
        return self.prompt.sessions.authenticate(token, "")

    def _arrive(self, response: httpx.Response) -> httpx.Response:
        self.cookies_set = response.headers.get_list("set-cookie")
        for _ in range(5):
            if response.status_code != 303 or response.headers["location"].startswith("https://"):
                break
            response = self.client.get(response.headers["location"])
        self.response = response
        self.location = response.headers.get("location", "")
        with contextlib.suppress(KeyError):
            if response.headers["content-type"].startswith("text/html"):
                assert self.page.heading
        return response
