# SPDX-License-Identifier: Apache-2.0
"""How the prompt is reached, as it is stated and as it follows."""

from collections.abc import Sequence

import pytest

from sidecar.model.errors import SettingsError
from sidecar.transports.addresses import TcpAddress
from sidecar.transports.prompt.settings import PromptSettings, parse_prompt_settings

ADDRESS = TcpAddress("127.0.0.1", 9194)


def parse(
    *,
    prompt: TcpAddress | None = ADDRESS,
    public_url: str = "",
    proxies: Sequence[str] = (),
    return_urls: Sequence[str] = (),
    rp_id: str = "localhost",
    origins: Sequence[str] = (),
) -> PromptSettings | None:
    return parse_prompt_settings(
        prompt=prompt, public_url=public_url, proxies=proxies, return_urls=return_urls, rp_id=rp_id, origins=origins
    )


@pytest.mark.parametrize(
    ("rp_id", "origins", "public_url", "want"),
    [
        ("localhost", (), "", "http://localhost:9194"),
        ("localhost", (), "http://localhost:8080/", "http://localhost:8080"),
        ("login.example.org", (), "", "https://login.example.org"),
        ("example.org", (), "https://login.example.org:8443", "https://login.example.org:8443"),
        ("example.org", ("https://a.example.org", "https://b.example.org"), "", "https://a.example.org"),
        (
            "example.org",
            ("https://a.example.org", "https://b.example.org"),
            "https://b.example.org/",
            "https://b.example.org",
        ),
        ("example.org", (), "https://shop.example.org/.iam-sidecar/", "https://shop.example.org/.iam-sidecar"),
        ("example.org", ("https://example.org",), "https://example.org/a/b_c", "https://example.org/a/b_c"),
    ],
)
def test_public_url_when_it_is_stated_or_not_then_browsers_find_the_prompt(
    rp_id: str, origins: Sequence[str], public_url: str, want: str
) -> None:
    settings = parse(rp_id=rp_id, origins=origins, public_url=public_url)

    assert settings is not None
    assert settings.public_url == want


@pytest.mark.parametrize(
    ("rp_id", "public_url", "message"),
    [
        ("example.org", "http://example.org", "is not https"),
        ("localhost", "http://127.0.0.1:9194", "does not belong"),
        ("example.org", "https://example.com", "does not belong"),
        ("example.org", "https://example.org/login?x", "is no path"),
        ("example.org", "https://example.org/a/../b", "is no path"),
        ("example.org", "https://example.org/.", "is no path"),
        ("example.org", "https://example.org//x", "is no path"),
        ("example.org", "https://example.org/%2e", "is no path"),
        ("example.org", "https://example.org/a\\b", "is no path"),
        ("example.org", "https://example.org/" + "x" * 65, "is no path"),
        ("example.org", "https://example.org:443", "is no origin"),
        ("example.org", "https://EXAMPLE.org", "is no origin"),
        ("example.org", "https://user@example.org", "is no origin"),
        ("example.org", "example.org", "is no origin"),
        ("example.org", "ftp://example.org", "is no origin"),
    ],
)
def test_public_url_when_keys_could_not_be_used_there_then_it_is_refused(
    rp_id: str, public_url: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(rp_id=rp_id, public_url=public_url)


def test_public_url_when_it_is_no_allowed_origin_then_it_is_refused_with_what_to_add() -> None:
    with pytest.raises(SettingsError, match="no allowed origin") as caught:
        parse(rp_id="example.org", public_url="https://b.example.org", origins=["https://a.example.org"])

    assert caught.value.help == "add --allowed-origin https://b.example.org"


def test_public_url_when_the_port_is_chosen_at_the_start_then_it_has_to_be_stated() -> None:
    with pytest.raises(SettingsError, match="whose port is chosen at the start"):
        parse(prompt=TcpAddress("127.0.0.1", 0))

    assert parse(prompt=TcpAddress("127.0.0.1", 0), public_url="http://localhost:1234") is not None


@pytest.mark.parametrize(
    "origin", ["https://app.example.org/", "https://app.example.org/x", "app.example.org", "https://*.example.org", ""]
)
def test_return_url_when_it_is_no_origin_then_it_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match="is no origin"):
        parse(return_urls=[origin])


def test_return_urls_when_keys_work_at_an_origin_then_it_is_one_too() -> None:
    settings = parse(rp_id="example.org", origins=["https://example.org"], return_urls=["http://app.internal:8080"])

    assert settings is not None
    assert settings.return_urls == ("http://app.internal:8080", "https://example.org")


@pytest.mark.parametrize("proxy", ["*", "proxy.example.org", "10.0.0.0/33", "10.0.0.1/8", ""])
def test_proxy_when_it_is_no_address_then_it_is_refused(proxy: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        parse(proxies=[proxy])


def test_prompt_when_it_is_off_then_there_are_no_settings() -> None:
    assert parse(prompt=None, public_url="https://example.org") is None
