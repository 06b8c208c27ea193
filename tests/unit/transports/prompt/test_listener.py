# SPDX-License-Identifier: Apache-2.0
"""The listener: what it loads and when, and what it believes of a proxy."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.transports.addresses import TcpAddress
from sidecar.transports.http_server import HttpListener
from sidecar.transports.prompt.listener import LazyApplication, prompt_url
from sidecar.transports.prompt.settings import PromptSettings
from sidecar.transports.prompt.visits import peer_of


@contextmanager
def listening(application: ASGIApp, *proxies: str) -> Iterator[str]:
    listener = HttpListener(
        address=TcpAddress("127.0.0.1", 0), application=application, name="prompt", trusted_proxies=proxies
    )
    address = listener.start()
    try:
        yield f"http://{address}/"
    finally:
        listener.stop()


async def tell_peer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(peer_of(Request(scope)))(scope, receive, send)


def test_application_when_several_ask_first_then_it_is_built_once() -> None:
    built: list[int] = []

    def build() -> ASGIApp:
        built.append(1)
        return tell_peer

    with listening(LazyApplication(build)) as url:
        assert built == []
        for _ in range(3):
            assert httpx.get(url, trust_env=False).status_code == 200
    assert built == [1]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "want"),
    [
        ((), "10.0.0.7", "ipv4:127.0.0.1:"),
        (("192.0.2.1",), "10.0.0.7", "ipv4:127.0.0.1:"),
        (("127.0.0.1",), "10.0.0.7", "ipv4:10.0.0.7:"),
        (("127.0.0.0/8",), "2001:db8::7", "ipv6:[2001:db8::7]:"),
        (("127.0.0.1",), "203.0.113.9, 10.0.0.7", "ipv4:10.0.0.7:"),
        (("127.0.0.1",), "<b>", "<b>"),
    ],
)
def test_peer_when_somebody_says_who_it_is_then_only_a_known_proxy_is_believed(
    proxies: tuple[str, ...], forwarded: str, want: str
) -> None:
    with listening(tell_peer, *proxies) as url:
        peer = httpx.get(url, headers={"x-forwarded-for": forwarded}, trust_env=False).text

    assert peer.startswith(want)


def test_application_when_nobody_has_asked_then_nothing_of_the_pages_is_loaded() -> None:
    code = (
        "import sys, sidecar.app; print([m for m in sys.modules if 'jinja2' in m or m.endswith('prompt.application')])"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "[]\n"


def test_prompt_url_when_there_is_a_prompt_then_it_is_the_public_one() -> None:
    settings = PromptSettings(TcpAddress("127.0.0.1", 9194), "https://login.example.org")

    assert prompt_url(settings, "abc") == "https://login.example.org/challenge/abc"
    assert prompt_url(None, "abc") == ""
