# SPDX-License-Identifier: Apache-2.0
"""
Headers that tell an upstream who calls, which nobody but the sidecar may set.
"""

from __future__ import annotations

from itertools import product

#: Set where there is something to say; removed where there is not.
OWN_HEADERS = ("x-iam-principal", "x-iam-account", "x-iam-route")
#: Removed always. What a client may not say in our place, and what Envoy says to us alone.
FOREIGN_HEADERS = ("x-forwarded-client-cert", "x-envoy-auth-partial-body")


def spellings(name: str) -> tuple[str, ...]:
    """
    Return every way to write *name* that CGI, and whatever has grown from it, takes for the same.

    >>> spellings("x-iam-route")
    ('x-iam-route', 'x-iam_route', 'x_iam-route', 'x_iam_route')
    """
    first, *others = name.split("-")
    return tuple(
        first + "".join(dash + word for dash, word in zip(dashes, others, strict=True))
        for dashes in product("-_", repeat=len(others))
    )


def always_removed() -> tuple[str, ...]:
    """Return what is removed from every request, whether the proxy has shown it to us or not."""
    own = [spelling for name in OWN_HEADERS for spelling in spellings(name) if spelling != name]
    return (*spellings(FOREIGN_HEADERS[0]), FOREIGN_HEADERS[1], *own)
