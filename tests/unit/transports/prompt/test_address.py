# SPDX-License-Identifier: Apache-2.0
"""Where the prompt may send people."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transports.prompt.address import (
    MAX_RETURN_ADDRESS,
    PublicAddress,
    ReturnAddresses,
    host_of,
    is_own_page,
    with_value,
)

APP = "https://app.example.org"
ADDRESSES = ReturnAddresses([APP, "http://localhost:3000"])


@pytest.mark.parametrize(
    "address",
    [
        APP,
        f"{APP}/",
        f"{APP}/orders/4711?step=2#refund",
        f"{APP}?x=https://other.example/@",
        "http://localhost:3000/",
        "/devices",
        "/devices/remove?serial=arn%3Aaws%3Aiam%3A%3A111122223333%3Amfa%2Fphone",
    ],
)
def test_address_when_it_is_ours_or_allowed_then_it_leads_back(address: str) -> None:
    assert ADDRESSES.allows(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://app.example.org/",
        "https://app.example.org:8443/",
        "https://app.example.org:443/",
        "https://APP.example.org/",
        "https://app.example.org.evil.example/",
        "https://evil.example/app.example.org",
        "https://app.example.org@evil.example/",
        "https://app.example.org:x@evil.example/",
        "https://evil.example#@app.example.org/",
        "https://evil.example\\@app.example.org/",
        "https:app.example.org/",
        "https:/app.example.org/",
        "https:///app.example.org/",
        " https://app.example.org/",
        "https://app.example.org/\n",
        "https://app.example.org/\tx",
        "https://app.example.org/ü",
        "https://sub.app.example.org/",
        "https://app.example.org./",
        "http://localhost:3001/",
        "http://localhost/",
        "//app.example.org/",
        "//evil.example",
        "/\\evil.example",
        "/%2f/evil.example",
        "/?//evil.example",
        "javascript:alert(1)//https://app.example.org/",
        "data:text/html,x",
        f"{APP}/" + "x" * MAX_RETURN_ADDRESS,
    ],
)
def test_address_when_it_is_forged_then_it_leads_nowhere(address: str) -> None:
    assert not ADDRESSES.allows(address)


PIECES = st.sampled_from(
    ["https://", "http://", "//", "/", "\\", "@", ":", "app.example.org", "evil.example", ":443", "#", "?", "%2f", "."]
) | st.sampled_from([" ", "\t", "\n", "\x00", "x", "A", "\u00fc", "javascript:", "localhost:3000"])


@given(st.lists(PIECES | st.characters(), max_size=8).map("".join))
def test_address_when_it_is_made_of_anything_then_what_is_allowed_has_an_allowed_origin(address: str) -> None:
    if ADDRESSES.allows(address):
        parts = urlsplit(address)
        assert is_own_page(address) or f"{parts.scheme}://{parts.netloc}" in {APP, "http://localhost:3000"}
        assert parts.username is None
        assert "\\" not in address
        assert address.isascii()


def test_host_when_an_address_is_shown_then_it_is_the_one_that_browsers_would_go_to() -> None:
    assert host_of(f"{APP}/orders") == "app.example.org"
    assert host_of("https://a@evil.example/") == ""
    assert host_of("/devices") == ""


def test_public_address_when_it_is_https_then_cookies_can_be_set_by_no_other_host() -> None:
    assert PublicAddress("https://login.example.org:8443").host == "login.example.org:8443"
    assert PublicAddress("https://login.example.org").cookie_name("session") == "__Host-sidecar-session"
    assert PublicAddress("http://localhost:9194").cookie_name("session") == "sidecar-session"


def test_query_when_a_value_is_put_in_then_nothing_of_it_ends_it() -> None:
    assert with_value("/x", "next", "/a?b=c&d=e#f") == "/x?next=%2Fa%3Fb%3Dc%26d%3De%23f"
    assert with_value("/x", "next", "") == "/x"
