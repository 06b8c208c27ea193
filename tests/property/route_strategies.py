# SPDX-License-Identifier: Apache-2.0
"""
Small tables of routes and requests that often fit them.

Few words make up paths, hosts and methods, so that routes get into each other's way. Tables are drawn as documents and
go through the compiler; what it refuses, because two routes are equally specific, is taken out until it agrees.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from sidecar.compile.problems import Problems
from sidecar.compile.routes import parse_routes
from sidecar.compile.shape import Place
from sidecar.model.route import RouteTable

Json = dict[str, Any]

WORDS = ["a", "b", "ab", "A", "AA", "a.b", "é", "É", "v1", "v1:x", "a b", "..a"]
SEGMENTS = [*WORDS, "*", "*", "{n}", "{n}", "a{n}", "{n}b", "a{n}b", "{n}:x", "v{n}", "A{n}"]
ENDS = ["", "**", "**", "{r=**}"]
HOSTS = ["shop.example.com", "*.shop.example.com", "*.example.com", "example.com", "*.com"]
METHODS = ["GET", "HEAD", "POST", "PURGE", "DELETE"]

#: Segments of requests as they are sent: most are what routes wait for, some are what nobody should let through.
SENT = [*[word.replace(" ", "%20") for word in WORDS], "%61", "a%62", "c", "aXb", "v2", "abb", "aa", "caf%C3%A9", "a+b"]
SENT += ["a:x", "AB", "%C3%89", "a%2525", "~"]
HOSTILE = [
    "",
    "",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "..;",
    ".;x",
    ";",
    "a;b",
    "%3b",
    "a%2fb",
    "%2F",
    "..%2fa",
    "a%2f..",
    "a\\b",
]
HOSTILE += [
    "%5c",
    "%00",
    "%",
    "%4",
    "%zz",
    "%252e",
    "%252F",
    "%25%32%65",
    "%253b",
    "%c0%af",
    "%e0%80%af",
    "%ff",
    "\xff",
]
HOSTILE += ["%0d%0a", "%7f", "a#b", "a b", "\x01", "%ed%a0%80", "%f4%90%80%80", "*", "%25", "%2541", "\xc3\xa9"]
SENT_HOSTS = ["shop.example.com", "SHOP.example.com:8443", "a.shop.example.com", "a.b.shop.example.com", "example.com"]
SENT_HOSTS += ["x.example.com", "example.com.", "other.com", "org", "", ".example.com", "[::1]:80", "localhost:"]

PATHS = {
    "case": ["sensitive", "insensitive"],
    "encoded_slashes": ["deny", "keep"],
    "double_slashes": ["deny", "merge"],
    "parameters": ["deny", "keep"],
    "trailing_slash": ["significant", "ignore"],
}


class RouteRequest(NamedTuple):
    """
    What counts for a route.

    Attributes:
        target: As it is sent.
    """

    method: str
    host: str
    target: bytes


@st.composite
def route_paths(draw: st.DrawFn) -> str:
    """Draw the path of a route."""
    segments = draw(st.lists(st.sampled_from(SEGMENTS), max_size=4))
    end = draw(st.sampled_from([None, None, *ENDS]))
    if end is not None or not segments:
        segments.append(end or "")
    numbered = [segment.replace("{n}", f"{{n{place}}}") for place, segment in enumerate(segments)]
    return "/" + "/".join(numbered)


@st.composite
def route_documents(draw: st.DrawFn) -> Json:
    """Draw what a file of routes holds; its routes may be equally specific."""
    settings = {key: draw(st.sampled_from(values)) for key, values in PATHS.items()}
    count = draw(st.integers(1, 12))
    routes: list[Json] = []
    for number in range(count):
        route: Json = {"id": f"r{number}", "path": draw(route_paths()), "public": True}
        hosts = draw(st.sampled_from([None, None, 1, 2]))
        if hosts is not None:
            route["hosts"] = draw(st.lists(st.sampled_from(HOSTS), min_size=hosts, max_size=hosts, unique=True))
        methods = draw(st.sampled_from([None, 1, 2]))
        if methods is not None:
            route["methods"] = draw(st.lists(st.sampled_from(METHODS), min_size=methods, max_size=methods, unique=True))
        routes.append(route)
    return {"paths": settings, "routes": routes}


def compile_routes(document: Json) -> RouteTable:
    """Return the table of *document*, without the routes that the compiler refuses."""
    routes: list[Json] = list(document["routes"])
    while True:
        problems = Problems()
        table = parse_routes(Place(problems, "routes.json"), {**document, "routes": routes}, accounts=())
        if table is not None and not problems.has_errors:
            return table
        first = int(problems.items[0].json_path.removeprefix("$.routes[").partition("]")[0])
        del routes[first]


#: Tables of routes as the compiler takes them.
route_tables = route_documents().map(compile_routes)


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """Draw a request target, byte for character: mostly one that can be read, and a long one now and then."""
    segments = draw(st.lists(st.sampled_from(SENT), max_size=5))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        segments.insert(draw(st.integers(0, len(segments))), draw(st.sampled_from(HOSTILE)))
    end = draw(st.sampled_from(["", "", "", "/", "?q=1", "?a/../b", "?", "?#", "? "]))
    start = draw(st.sampled_from(["/", "/", "/", "/", "//", "", "*", "http://example.com/"]))
    text = start + "/".join(segments) + end
    if draw(st.sampled_from([False] * 15 + [True])):
        text = "/x" * draw(st.integers(60, 70)) + text
    return text.encode("latin-1")


@st.composite
def requests(draw: st.DrawFn) -> RouteRequest:
    """Draw what a request says of itself."""
    method = draw(st.sampled_from([*METHODS, "GET", "GET", "get", "OPTIONS", ""]))
    return RouteRequest(method, draw(st.sampled_from(SENT_HOSTS)), draw(targets()))
