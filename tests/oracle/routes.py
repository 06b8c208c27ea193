# SPDX-License-Identifier: Apache-2.0
"""
Which route a request takes, by trying all of them.

Reads the model and knows nothing of trees, tables and images. ``docs/routes.md`` says what is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

from sidecar.model.route import MAX_SEGMENTS, MAX_TARGET, Route, RouteFlag, RouteTable, Segment, SegmentKind
from tests.oracle.patterns import lower

#: What a decoder that is run a second time would make something of.
_STILL_ENCODED = re.compile("%[0-9a-f]{2}", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """What is read of a request target."""

    segments: tuple[str, ...]
    query: str


@dataclass(frozen=True)
class Match:
    """The route of a request, and what its segments take."""

    route: Route
    captures: tuple[str, ...]


def read_target(raw: bytes, flags: RouteFlag) -> Target | None:
    """Return what *raw* means to an upstream as *flags* describe it; None: not everybody would agree."""
    if len(raw) > MAX_TARGET or not raw.startswith(b"/"):
        return None
    if any(byte <= 0x20 or byte == 0x7F or byte == ord("#") for byte in raw):
        return None
    path, _, query = raw.partition(b"?")
    parts = path.split(b"/")[1:]
    if RouteFlag.MERGES_SLASHES in flags:
        parts = [part for part in parts[:-1] if part] + parts[-1:]
    if not all(parts[:-1]) or len(parts) > MAX_SEGMENTS:
        return None
    if RouteFlag.IGNORES_TRAILING_SLASH in flags and len(parts) > 1 and not parts[-1]:
        parts.pop()
    segments = [_decode(part) for part in parts]
    if any(segment is None or _is_ambiguous(segment, flags) for segment in segments):
        return None
    # What was sent of a query need not be UTF-8: only its values must, where they are used.
    return Target(tuple(segment for segment in segments if segment is not None), query.decode("utf-8", "replace"))


def _decode(part: bytes) -> str | None:
    """Replace escapes, once; None: there is a broken one, or what comes out is no text."""
    found = b""
    while part:
        if part.startswith(b"%"):
            if not re.match(rb"%[0-9A-Fa-f]{2}", part):
                return None
            found += bytes.fromhex(part[1:3].decode())
            part = part[3:]
        else:
            found += part[:1]
            part = part[1:]
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_ambiguous(segment: str, flags: RouteFlag) -> bool:
    """Say whether there are programs that would read *segment* as something else."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F or character == "\\" for character in segment):
        return True
    if "/" in segment and RouteFlag.KEEPS_ENCODED_SLASHES not in flags:
        return True
    if ";" in segment and RouteFlag.KEEPS_PARAMETERS not in flags:
        return True
    if any(part.partition(";")[0] in (".", "..") for part in segment.split("/")):
        return True
    return _STILL_ENCODED.search(segment) is not None


def find_route(table: RouteTable, method: str, host: str, target: Target) -> Match | None:
    """Return the most specific of the routes that take the request."""
    name = _host_name(host)
    candidates = [
        (_rank(route, pattern, table.flags), Match(route, captures))
        for route in table.routes
        for pattern in (route.hosts or ("",))
        if _host_fits(pattern, name) and (not route.methods or method in route.methods)
        if (captures := _captures(route.path, target.segments, table.flags)) is not None
    ]
    return min(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def _host_name(host: str) -> str:
    name = re.sub(r":[0-9]*\Z", "", "".join(c.lower() if c <= "\x7f" else c for c in host))
    return name.removesuffix(".")


def _host_fits(pattern: str, name: str) -> bool:
    """Say whether *pattern* takes the host *name*; no pattern takes any."""
    if not pattern:
        return True
    if len(name.encode()) > 255 or name.startswith("."):
        return False
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and name != pattern[1:]
    return name == pattern


def _captures(path: tuple[Segment, ...], segments: tuple[str, ...], flags: RouteFlag) -> tuple[str, ...] | None:
    """Return what the segments of *path* that are not fixed take of *segments*; None: they do not fit."""
    captures: list[str] = []
    path = _without_slash_at_end(path, flags)
    for place, (wanted, found) in enumerate(zip_longest(path, segments)):
        if wanted is None or found is None:
            return None
        if wanted.kind is SegmentKind.REST:
            return (*captures, "/".join(segments[place:]))
        if wanted.kind is SegmentKind.LITERAL:
            if _folded(found, flags) != _folded(wanted.text, flags):
                return None
            continue
        before, behind = (wanted.text, wanted.behind) if wanted.kind is SegmentKind.MIXED else ("", "")
        taken = found[len(before) : len(found) - len(behind)] if len(found) > len(before) + len(behind) else ""
        if not taken or _folded(found, flags) != _folded(before, flags) + _folded(taken, flags) + _folded(
            behind, flags
        ):
            return None
        captures.append(taken)
    return tuple(captures)


def _without_slash_at_end(path: tuple[Segment, ...], flags: RouteFlag) -> tuple[Segment, ...]:
    ends_so = len(path) > 1 and path[-1].kind is SegmentKind.LITERAL and not path[-1].text
    return path[:-1] if ends_so and RouteFlag.IGNORES_TRAILING_SLASH in flags else path


def _folded(text: str, flags: RouteFlag) -> str:
    return lower(text) if RouteFlag.IGNORES_CASE in flags else text


def _rank(route: Route, host: str, flags: RouteFlag) -> tuple[object, ...]:
    """Return how specific a route is under one of its hosts: the smallest is the most specific."""
    kind = 2 if not host else 1 if host.startswith("*.") else 0
    path = [_segment_rank(segment) for segment in _without_slash_at_end(route.path, flags)]
    return kind, -len(host), path, not route.methods


def _segment_rank(segment: Segment) -> tuple[int, int, int]:
    kinds = [SegmentKind.LITERAL, SegmentKind.MIXED, SegmentKind.ANY, SegmentKind.REST]
    if segment.kind is not SegmentKind.MIXED:
        return kinds.index(segment.kind), 0, 0
    before, behind = len(segment.text.encode()), len(segment.behind.encode())
    return kinds.index(segment.kind), -(before + behind), -before
