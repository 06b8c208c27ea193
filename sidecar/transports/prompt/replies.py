# SPDX-License-Identifier: Apache-2.0
"""
What a view gives: a page to show, or a page to go to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    The answer to a visit, before it is put into HTTP.

    Attributes:
        template: Name of the page; empty where another is to be gone to.
        values: What its template names.
        location: Page to go to: one of our own, or an address that people may be sent to.
        token: Session token that the browser is to keep from now on; empty: none any more; None: as before.
    """

    template: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    location: str = ""
    token: str | None = None


def show(template: str, *, status: int = 200, token: str | None = None, **values: object) -> Reply:
    """Return a page."""
    return Reply(template=template, values=values, status=status, token=token)


def go(location: str, *, token: str | None = None) -> Reply:
    """Return the way to another page, which is fetched anew: going back sends nothing a second time."""
    return Reply(location=location, status=303, token=token)


def fail(
    title: str,
    text: str,
    *,
    status: int,
    advice: str = "",
    link: str = "",
    link_text: str = "",
    token: str | None = None,
) -> Reply:
    """
    Return a page that says what went wrong, and what to do now.

    Args:
        link: Page that leads on; empty for none.
    """
    return show(
        "failure.html",
        status=status,
        token=token,
        title=title,
        text=text,
        advice=advice,
        link=link,
        link_text=link_text,
    )
