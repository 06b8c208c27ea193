# SPDX-License-Identifier: Apache-2.0
"""
What a route takes: its path, hosts and methods.

A path is written as the upstream sees it, decoded: what the reader of requests refuses can stand in no route.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.compile.problems import Finding, error, quote
from sidecar.compile.route_templates import RESERVED_NAMES, Hole, check_plain, cut, is_capture_name
from sidecar.model.route import (
    HTTP_METHODS,
    MAX_CAPTURES,
    MAX_SEGMENTS,
    MAX_TARGET,
    RouteFlag,
    Segment,
    SegmentKind,
)

#: A segment that needs no second look.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_IPV6: Final = re.compile(r"\[[0-9a-f:.]{2,45}\]", re.ASCII)
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)
_GRPC: Final = re.compile(
    r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)/([A-Za-z_][A-Za-z0-9_]*|\*)", re.ASCII
)

Path = tuple[Segment, ...]

_REST_HELP: Final = "`**` and `{name=**}` take all that follows, so nothing can stand behind them"


def parse_path(text: str, flags: RouteFlag) -> tuple[Path | None, Finding | None]:
    """
    Return the segments of a path.

    Args:
        flags: How targets are read.

    >>> [segment.kind.name for segment in parse_path("/files/{name}.txt", RouteFlag(0))[0]]
    ['LITERAL', 'MIXED']
    """
    if not text.startswith("/"):
        return None, error(f"the path {quote(text)} does not begin with a slash", f"write {quote('/' + text)}")
    if len(text.encode()) > MAX_TARGET:
        return None, error(f"the path {quote(text)} has more than {MAX_TARGET:,} bytes")
    parts = text[1:].split("/")
    if len(parts) > MAX_SEGMENTS:
        return None, error(f"the path {quote(text)} has more than {MAX_SEGMENTS} segments")
    segments: list[Segment] = []
    names: set[str] = set()
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if not part and not is_last:
            return None, error(
                f"two slashes follow each other in the path {quote(text)}",
                "write one: requests with several are refused, or read as one",
            )
        segment, wrong = _segment(part, text, flags)
        if segment is None:
            return None, wrong
        if segment.kind is SegmentKind.REST and not is_last:
            return None, error(f"{quote(part)} stands before the end of the path {quote(text)}", _REST_HELP)
        if segment.name and segment.name in names:
            return None, error(f"`{{{segment.name}}}` stands twice in the path {quote(text)}", "give each its own name")
        names.add(segment.name)
        segments.append(segment)
    if sum([segment.kind is not SegmentKind.LITERAL for segment in segments]) > MAX_CAPTURES:
        return None, error(f"the path {quote(text)} has more than {MAX_CAPTURES} segments that are not fixed")
    return tuple(segments), None


def _segment(part: str, path: str, flags: RouteFlag) -> tuple[Segment | None, Finding | None]:
    """Read one segment: text, ``*``, ``**``, ``{name}``, ``{name=**}``, or text round a name."""
    if _PLAIN.fullmatch(part):
        return Segment(SegmentKind.LITERAL, part), None
    if part == "*":
        return Segment(SegmentKind.ANY), None
    if part == "**":
        return Segment(SegmentKind.REST), None
    if "*" in part and "{" not in part:
        return None, error(
            f"a `*` inside of {quote(part)} in the path {quote(path)}",
            "`*` is a whole segment; text round a name is written `v{name}.txt`",
        )
    pieces, wrong = cut(part)
    if wrong is not None:
        return None, wrong
    holes = [piece for piece in pieces if isinstance(piece, Hole)]
    if len(holes) > 1:
        return None, error(f"two names in one segment of the path {quote(path)}", "put a slash between them")
    wrong = _check_text(pieces, part, path, flags)
    if wrong is not None:
        return None, wrong
    if not holes:
        return Segment(SegmentKind.LITERAL, "".join(piece for piece in pieces if isinstance(piece, str))), None
    name, _, kind = holes[0].text.partition("=")
    if kind not in ("", "*", "**"):
        return None, error(
            f"{quote(kind)} cannot be what `{{{name[:64]}}}` takes", "`{name}` is one segment, `{name=**}` the rest"
        )
    if not is_capture_name(name):
        if name in RESERVED_NAMES:
            return None, error(f"a segment cannot be called `{{{name}}}`", "templates mean something else by it")
        return None, error(f"{quote(name)} is not a name", "letters, digits, `_` and `-`, not a digit first")
    if len(pieces) == 1:
        return Segment(SegmentKind.REST if kind == "**" else SegmentKind.ANY, name=name), None
    if kind == "**":
        return None, error(f"text stands round `{{{name}=**}}` in the path {quote(path)}", "put a slash between them")
    at = pieces.index(holes[0])
    before = pieces[at - 1] if at else ""
    behind = pieces[at + 1] if at + 1 < len(pieces) else ""
    if not isinstance(before, str) or not isinstance(behind, str):
        return None, error(f"{quote(part)} cannot be read")
    return Segment(SegmentKind.MIXED, before, behind, name), None


def _check_text(pieces: list[str | Hole], part: str, path: str, flags: RouteFlag) -> Finding | None:
    """Say whether a request with this text would be refused anyway."""
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    shown = f"in the path {quote(path)}"
    if "?" in text or "#" in text:
        return error(f"a `?` or `#` {shown}", "the query is not part of it; `{query.name}` puts it into templates")
    if "%" in text:
        return error(f"a `%` {shown}", "write the characters themselves: requests are decoded before they are compared")
    if "\\" in text:
        return error(f"a backslash {shown}", "requests with one are refused")
    if "*" in text:
        return error(f"a `*` beside a name {shown}", "`*` is a whole segment")
    if ";" in text and not flags & RouteFlag.KEEPS_PARAMETERS:
        return error(f"a `;` {shown}", "requests with one are refused unless `paths.parameters` is `keep`")
    if part.split(";", 1)[0] in (".", ".."):
        return error(f"{quote(part)} is a segment {shown}", "requests with one are refused")
    return check_plain(text)


def parse_grpc(text: str) -> tuple[Path | None, Finding | None]:
    """
    Return the path of a gRPC method, or of all methods of a service.

    >>> parse_grpc("shop.v1.Orders/*")[0][1].kind.name
    'ANY'
    """
    found = _GRPC.fullmatch(text)
    if found is None:
        return None, error(f"{quote(text)} is not a gRPC method", "`package.Service/Method`, or `package.Service/*`")
    service, method = found.groups()
    last = Segment(SegmentKind.ANY) if method == "*" else Segment(SegmentKind.LITERAL, method)
    return (Segment(SegmentKind.LITERAL, service), last), None


def parse_host(text: str) -> tuple[str | None, Finding | None]:
    """
    Return a host in lower case.

    >>> parse_host("*.Example.com")[0]
    '*.example.com'
    """
    host = text.lower()
    if host == "*":
        return None, error("`*` stands among the hosts", "leave `hosts` out for any host")
    if _IPV6.fullmatch(host):
        return host, None
    if "://" in host or "/" in host:
        return None, error(f"{quote(text)} is not a host", "leave scheme and path out")
    if ":" in host:
        return None, error(f"{quote(text)} names a port", "leave it out: the port of a request does not count")
    if not host.isascii():
        return None, error(f"{quote(text)} is not how a host is sent", "write the `xn--` form of its labels")
    name = host.removeprefix("*.")
    if "*" in name:
        return None, error(f"a `*` inside of the host {quote(text)}", "`*.` can stand in front, for all hosts below")
    if len(host) > 255 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return None, error(f"{quote(text)} is not a host", "as in `shop.example.com` or `*.example.com`")
    return host, None


def parse_method(text: str) -> tuple[str | None, Finding | None]:
    """
    Return a method.

    >>> parse_method("POST")[0]
    'POST'
    """
    if _METHOD.fullmatch(text):
        return text, None
    if text.upper() in HTTP_METHODS:
        return None, error(f"the method {quote(text)} is not written in capitals", f"write `{text.upper()}`")
    if text == "*":
        return None, error("`*` stands among the methods", "leave `methods` out for any method")
    return None, error(f"{quote(text)} is not a method", "as in `GET` or `POST`; methods are case-sensitive")


def folded(segment: Segment, flags: RouteFlag) -> Segment:
    """Return *segment* as it is compared: in lower case where case does not count."""
    if not flags & RouteFlag.IGNORES_CASE:
        return segment
    return segment._replace(text=fold(segment.text), behind=fold(segment.behind))


#: A to Z and À to Þ, between which the multiplication sign stands.
_LOWER: Final = {code: code + 32 for code in (*range(0x41, 0x5B), *range(0xC0, 0xDF)) if code != 0xD7}


def fold(text: str) -> str:
    """
    Return *text* with the letters of ASCII and Latin-1 in lower case, and all else as it is.

    >>> fold("ÄBc")
    'äbc'
    """
    return text.translate(_LOWER)


def compared_path(path: Path, flags: RouteFlag) -> Path:
    """Return *path* as it is compared under *flags*."""
    if not flags:
        return path
    if flags & RouteFlag.IGNORES_TRAILING_SLASH and len(path) > 1 and path[-1] == Segment(SegmentKind.LITERAL):
        path = path[:-1]
    return tuple(folded(segment, flags) for segment in path)


def written_path(path: Path) -> str:
    """
    Return *path* as it is written in a file.

    >>> written_path(parse_path("/a/{b}.c/**", RouteFlag(0))[0])
    '/a/{b}.c/**'
    """
    return "".join("/" + _written(segment) for segment in path)


def _written(segment: Segment) -> str:
    if segment.kind is SegmentKind.LITERAL:
        return _braced(segment.text)
    if segment.kind is SegmentKind.MIXED:
        return f"{_braced(segment.text)}{{{segment.name}}}{_braced(segment.behind)}"
    if segment.kind is SegmentKind.ANY:
        return f"{{{segment.name}}}" if segment.name else "*"
    return f"{{{segment.name}=**}}" if segment.name else "**"


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
