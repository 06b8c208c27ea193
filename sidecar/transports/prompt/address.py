# SPDX-License-Identifier: Apache-2.0
"""
The address that people know the prompt by, and the addresses that it may send them to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

#: Longest address that anybody is sent back to.
MAX_RETURN_ADDRESS = 2048
#: An address with nothing that two programs could read differently: no user, backslash, blank or upper case host.
_ABSOLUTE = re.compile(r"(?P<origin>https?://(?P<host>[a-z0-9.-]+)(?::[1-9][0-9]{0,4})?)(?:[/?#][!-\[\]-~]*)?")
#: A page of our own. A letter follows the first stroke, so that it never names another host.
_OWN_PAGE = re.compile(r"/(?:[a-z][A-Za-z0-9/_-]*)?(?:\?[a-z_]+=[A-Za-z0-9._~%:/-]*)?")


#: Names of the cookies that hold the session token, and what forms are known again by.
SESSION_COOKIE, FORM_COOKIE = "session", "form"


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """
    Where people find the prompt.

    Thread-safety: immutable.

    Attributes:
        origin: Letter for letter as browsers write it.
        path: What every page of it begins with, where it shares a host with what it protects; no stroke at the end.
    """

    origin: str
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> PublicAddress:
        """
        Return the address in a URL that was found to be a good one.

        >>> PublicAddress.parse("https://shop.example.com/.iam-sidecar")
        PublicAddress(origin='https://shop.example.com', path='/.iam-sidecar')
        """
        scheme, _, rest = url.partition("://")
        host, stroke, path = rest.partition("/")
        return cls(f"{scheme}://{host}", stroke + path if path else "")

    def at(self, address: str) -> str:
        """
        Return what a browser is to be given for an address: a page of our own lies below the path.

        >>> PublicAddress("https://shop.example.com", "/.iam-sidecar").at("/devices")
        '/.iam-sidecar/devices'
        """
        return self.path + address if address.startswith("/") else address

    def page_in(self, path: str) -> str:
        """Return which page of our own the path of a request names."""
        return path.removeprefix(self.path) or "/"

    @property
    def is_https(self) -> bool:
        """Whether browsers reach it by TLS."""
        return self.origin.startswith("https://")

    @property
    def host(self) -> str:
        """What the ``Host`` header says."""
        return self.origin.partition("://")[2]

    def cookie_name(self, name: str) -> str:
        """Return the name of a cookie that no other host can set, where browsers offer such."""
        # SPEC: RFC 6265bis, section 4.1.3.2: the prefix needs Secure, which plain http does not have.
        return f"__Host-sidecar-{name}" if self.is_https else f"sidecar-{name}"


class ReturnAddresses:
    """
    Says where a person may be sent when all is done.

    Thread-safety: immutable.
    """

    def __init__(self, origins: Iterable[str], *, own: PublicAddress | None = None) -> None:
        """
        Args:
            origins: Scheme, host and port must be one of these, letter for letter.
            own: Where the prompt is. Below a path, it shares a host with what it protects, which it leads back to.
        """
        self._shared = own if own is not None and own.path else None
        self._origins = frozenset([*origins, self._shared.origin] if self._shared is not None else origins)

    def allows(self, address: str) -> bool:
        """
        Say whether *address* is a page of our own or lies on an allowed origin.

        >>> addresses = ReturnAddresses(["https://app.example.org"])
        >>> addresses.allows("https://app.example.org/orders?id=4711"), addresses.allows("/devices/add-key")
        (True, True)
        >>> addresses.allows("https://app.example.org@evil.example/"), addresses.allows("//evil.example")
        (False, False)
        """
        if len(address) > MAX_RETURN_ADDRESS:
            return False
        match = _ABSOLUTE.fullmatch(address)
        if match is None:
            return is_own_page(address)
        return match["origin"] in self._origins and not self._is_prompt(address)

    def is_here(self, address: str) -> bool:
        """Say whether *address* is a page of our own, or of the host that the prompt shares."""
        match = _ABSOLUTE.fullmatch(address)
        if match is None:
            return is_own_page(address)
        return self._shared is not None and match["origin"] == self._shared.origin

    def _is_prompt(self, address: str) -> bool:
        """Say whether an absolute address is one of the prompt, which would lead round in a circle."""
        if self._shared is None:
            return False
        path = re.split("[?#]", address.removeprefix(self._shared.origin), maxsplit=1)[0]
        return path == self._shared.path or path.startswith(f"{self._shared.path}/")


def is_own_page(address: str) -> bool:
    """Say whether *address* is a page of the prompt itself."""
    return len(address) <= MAX_RETURN_ADDRESS and _OWN_PAGE.fullmatch(address) is not None


def host_of(address: str) -> str:
    """Return the host that *address* names, for people to read; empty for a page of our own."""
    match = _ABSOLUTE.fullmatch(address)
    return match["host"] if match else ""


def with_value(path: str, name: str, value: str) -> str:
    """
    Return *path* with a query of one value; without one where the value is empty.

    >>> with_value("/sign-in", "next", "/challenge/x?return_to=y")
    '/sign-in?next=%2Fchallenge%2Fx%3Freturn_to%3Dy'
    """
    return f"{path}?{name}={quote(value, safe='')}" if value else path
