# SPDX-License-Identifier: Apache-2.0
"""
The settings of the prompt, and of the addresses at which security keys work.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.model.errors import SettingsError
from sidecar.transports.addresses import TcpAddress
from sidecar.transports.prompt.address import SESSION_COOKIE, PublicAddress

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
#: The last label holds a letter: otherwise it is an address.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}")
_ORIGIN = re.compile(rf"(?P<scheme>https?)://(?P<host>(?:{_LABEL}\.)*{_LABEL})(?P<port>:[1-9][0-9]{{0,4}})?")
#: Below which the prompt may be: no part of it is read in two ways, and none is a dot or two.
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]{1,64}){1,8}")
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_LOCALHOST = "localhost"
#: Where the prompt of a sidecar is that was told nothing else.
_LOCAL_ORIGIN = "http://localhost:9194"


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """
    How the prompt is reached, and where it may send people.

    Attributes:
        address: Where it listens.
        public_url: Where browsers find it: an origin, or a path below one that it shares with what it protects.
        proxies: Addresses and networks whose ``X-Forwarded-For`` is believed.
        return_urls: Origins that people may be sent back to.
    """

    address: TcpAddress
    public_url: str
    proxies: tuple[str, ...] = ()
    return_urls: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Origin at which browsers find it."""
        return PublicAddress.parse(self.public_url).origin

    @property
    def session_cookie(self) -> str:
        """Name of the cookie that holds the session token."""
        return PublicAddress.parse(self.public_url).cookie_name(SESSION_COOKIE)


def parse_rp_id(text: str) -> str:
    """
    Return the relying party id.

    Raises:
        SettingsError: It is none.
    """
    # SPEC: WebAuthn Level 3, section 4: a valid domain string, never an address.
    if len(text) > 253 or _HOST_NAME.fullmatch(text) is None:
        raise SettingsError(
            f"`rp_id`: `{text}` is no host name in lower case", help="name the host that people sign in at, no address"
        )
    return text


def parse_origins(origins: Sequence[str], rp_id: str) -> tuple[str, ...]:
    """
    Return the origins at which keys of *rp_id* may be used.

    Raises:
        SettingsError: Browsers would not use them there.
    """
    for origin in origins:
        _check_origin("allowed_origin", origin, rp_id)
    return tuple(origins)


def default_origins(rp_id: str, prompt: PromptSettings | None) -> tuple[str, ...]:
    """
    Return the origins at which keys may be used where nothing is said of them.

    >>> default_origins("login.example.org", None)
    ('https://login.example.org',)
    """
    own = prompt.origin if prompt is not None else _LOCAL_ORIGIN if rp_id == _LOCALHOST else ""
    return tuple(dict.fromkeys(filter(None, (f"https://{rp_id}", own))))


def parse_prompt_settings(
    *,
    prompt: TcpAddress | None,
    public_url: str,
    proxies: Sequence[str],
    return_urls: Sequence[str],
    rp_id: str,
    origins: Sequence[str],
) -> PromptSettings | None:
    """
    Return the settings; None where there is no prompt.

    Args:
        origins: Those that were stated, at which keys may be used.

    Raises:
        SettingsError: Browsers would not find the prompt, or not use keys there.
    """
    if prompt is None:
        return None
    for origin in return_urls:
        if _ORIGIN.fullmatch(origin) is None or _has_usual_port(origin):
            raise SettingsError(
                f"`allowed_return_url`: `{origin}` is no origin",
                help="write scheme, host and port alone, as browsers do, such as https://app.example.org",
            )
    for text in proxies:
        _check_network(text)
    stated = public_url.removesuffix("/")
    own = PublicAddress.parse(stated)
    if stated:
        _check_origin("public_url", own.origin, rp_id)
    if own.path and _PATH.fullmatch(own.path) is None:
        raise SettingsError(
            f"`public_url`: `{own.path}` is no path that the prompt can be below",
            help="write letters, digits and any of . _ ~ - between strokes, such as /.iam-sidecar",
        )
    if stated and origins and own.origin not in origins:
        raise SettingsError(
            f"keys could not be used at the prompt, since `{own.origin}` is no allowed origin",
            help=f"add --allowed-origin {own.origin}",
        )
    return PromptSettings(
        address=prompt,
        public_url=stated or _default_url(prompt, rp_id, origins),
        proxies=tuple(proxies),
        return_urls=tuple(dict.fromkeys((*return_urls, *origins))),
    )


def _default_url(prompt: TcpAddress, rp_id: str, origins: Sequence[str]) -> str:
    if origins:
        return origins[0]
    if rp_id != _LOCALHOST:
        return f"https://{rp_id}"
    if not prompt.port:
        raise SettingsError(
            f"browsers would not find a prompt on `{prompt}`, whose port is chosen at the start",
            help="name a port with --prompt, or the whole address with --public-url",
        )
    return "http://localhost" if prompt.port == 80 else f"http://localhost:{prompt.port}"


def _check_origin(name: str, origin: str, rp_id: str) -> None:
    """Refuse an origin at which browsers would not use keys of *rp_id*."""
    match = _ORIGIN.fullmatch(origin)
    if match is None or _has_usual_port(origin):
        raise SettingsError(
            f"`{name}`: `{origin}` is no origin", help=f"write it as browsers do, such as https://{rp_id}"
        )
    host = match["host"]
    if host != rp_id and not host.endswith(f".{rp_id}"):
        raise SettingsError(
            f"`{name}`: `{origin}` does not belong to `{rp_id}`",
            help="browsers let a key be used at the host of --rp-id and those below it",
        )
    if match["scheme"] == "http" and host != _LOCALHOST:
        raise SettingsError(f"`{name}`: `{origin}` is not https", help="browsers want https but at localhost")


def _has_usual_port(origin: str) -> bool:
    """Say whether *origin* has a port that browsers would not write."""
    match = _ORIGIN.fullmatch(origin)
    return match is not None and match["port"] == _USUAL_PORTS[match["scheme"]]


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise SettingsError(
            f"`prompt_proxy`: `{text}` is no address", help="write an IP address, or a network such as 10.0.0.0/8"
        ) from None
