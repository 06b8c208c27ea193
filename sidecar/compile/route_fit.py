# SPDX-License-Identifier: Apache-2.0
"""
Which routes fit a request, and which nearly do: one after the other, for people who ask why.

The core finds the winner through its tree; nothing here decides anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.compile.route_paths import compared_path, fold
from sidecar.compile.route_ranks import by_rank
from sidecar.model.route import Route, RouteFlag, RouteTable, Segment, SegmentKind

#: SPEC: RFC 1035, section 2.3.4.
MAX_HOST = 255


class Fit(NamedTuple):
    """
    A route whose path fits a request, under one of its hosts.

    Attributes:
        host: ``*`` for any.
    """

    host: str
    route: Route
    fits_host: bool
    fits_method: bool

    @property
    def is_whole(self) -> bool:
        """Whether the route could take the request."""
        return self.fits_host and self.fits_method


def fitting_routes(table: RouteTable, *, method: str, host: str, segments: tuple[str, ...]) -> Iterator[Fit]:
    """
    Yield the routes whose path fits, those that win over others first.

    Args:
        segments: Of the path, decoded.
    """
    name = host_name(host)
    found = tuple(fold(segment) for segment in segments) if table.flags & RouteFlag.IGNORES_CASE else segments
    for pattern, route in by_rank(table):
        if path_fits(compared_path(route.path, table.flags), found):
            fits_method = not route.methods or method in route.methods
            yield Fit(pattern, route, host_fits(pattern, name), fits_method)


def host_name(host: str) -> str:
    """
    Return a host as routes know it.

    >>> host_name("Shop.Example.com.:8443")
    'shop.example.com'
    """
    name = fold(re.sub(r":[0-9]*\Z", "", host)).removesuffix(".")
    return name if len(name) <= MAX_HOST else ""


def host_fits(pattern: str, name: str) -> bool:
    """
    Say whether the host *name* is one that *pattern* takes.

    >>> host_fits("*.example.com", "a.b.example.com"), host_fits("*.example.com", "example.com")
    (True, False)
    """
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and not name.startswith(".")
    return name == pattern


def path_fits(path: tuple[Segment, ...], segments: tuple[str, ...]) -> bool:
    """Say whether *path* takes *segments*."""
    for place, segment in enumerate(path):
        if place >= len(segments):
            return False
        found = segments[place]
        if segment.kind is SegmentKind.REST:
            return True
        if segment.kind is SegmentKind.LITERAL and found != segment.text:
            return False
        if segment.kind is SegmentKind.ANY and not found:
            return False
        if segment.kind is SegmentKind.MIXED and not (
            len(found) > len(segment.text) + len(segment.behind)
            and found.startswith(segment.text)
            and found.endswith(segment.behind)
        ):
            return False
    return len(path) == len(segments)
