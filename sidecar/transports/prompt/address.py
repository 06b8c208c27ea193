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


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """
    Where people find the prompt.

    Thread-safety: immutable.

    Attributes:
        origin: Letter for letter as browsers write it.
    """

    origin: str

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
        return f"__Host-{name}" if self.is_https else f"sidecar-{name}"


class ReturnAddresses:
    """
    Says where a person may be sent when all is done.

    Thread-safety: immutable.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        """
        Args:
            origins: Scheme, host and port must be one of these, letter for letter.
        """
        self._origins = frozenset(origins)

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
        return match["origin"] in self._origins if match else is_own_page(address)


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
