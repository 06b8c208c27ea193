# SPDX-License-Identifier: Apache-2.0
"""
What is fuzzed of routes: the file that states them, and what people are told of a request.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from sidecar import core
from sidecar.compile.documents import DocumentError, read_yaml
from sidecar.compile.image import write_image
from sidecar.compile.openapi import ResourceNames, routes_from_openapi
from sidecar.compile.problems import Problems
from sidecar.compile.routes import parse_routes
from sidecar.compile.shape import Place
from sidecar.compile.source import parse_source
from sidecar.compile.target_faults import target_fault
from sidecar.model.errors import PolicySyntaxError
from sidecar.model.route import RouteFlag
from sidecar.model.snapshot import Account, Snapshot
from tests.fuzz.harness import Target
from tests.oracle.routes import read_target
from tests.property.route_strategies import HOSTILE, SENT

EXAMPLE = Path(__file__).parents[2] / "examples" / "acme"
_VARYING = re.compile(r"`[^`]*`|[0-9]+")
_NAMES = ResourceNames("orders", "111122223333")
_OPENAPI = b"""openapi: 3.1.0
info: {title: Shop}
servers: [{url: "https://a.example/{v}", variables: {v: {default: v1}}}]
paths:
  /orders/{order.id}/{a}-{b}:
    $ref: "#/paths/~1x"
  /x: {get: {operationId: getX, security: [], summary: "a\\nb"}, put: {}}
"""


@functools.cache
def _accounts() -> tuple[Account, ...]:
    files = {f"accounts/{path.name}": path.read_bytes() for path in sorted((EXAMPLE / "accounts").iterdir())}
    report = parse_source(files)
    if report.snapshot is None:
        raise ValueError(f"the example does not load: {report.problems[0]}")
    return report.snapshot.accounts


def _run_routes(data: bytes) -> str:
    problems = Problems()
    try:
        document = read_yaml(data)
    except DocumentError as error:
        return _VARYING.sub("#", str(error))[:120]
    table = parse_routes(Place(problems, "routes.yaml"), document, accounts=_accounts())
    if table is not None and not problems.has_errors:
        core.Image.from_bytes(write_image(Snapshot(routes=table)))
    elif not problems.has_errors:
        raise ValueError("no routes, and no reason")
    return " ".join(sorted({_VARYING.sub("#", problem.message) for problem in problems.items[:3]}))


def _run_openapi(data: bytes) -> str:
    try:
        made = routes_from_openapi(read_yaml(data), _NAMES, file="api.yaml")
    except (DocumentError, PolicySyntaxError) as error:
        return _VARYING.sub("#", str(error))[:120]
    problems = Problems()
    parse_routes(Place(problems, "routes.yaml"), read_yaml(made.text), accounts=())
    if problems.has_errors:
        raise ValueError(f"what was made does not load: {problems.items[0]}")
    return " ".join(sorted({_VARYING.sub("#", warning.message) for warning in made.warnings[:3]}))


def _run_target(data: bytes) -> str:
    """Read a target, under the flags that its first byte says, in two ways."""
    flags, target = RouteFlag(data[0] & 0x1F if data else 0), data[1:]
    fault = target_fault(target, flags)
    if (fault is None) != (read_target(target, flags) is not None):
        raise ValueError("a target is refused without a reason, or not refused for one")
    return "fine" if fault is None else re.sub("`.*`|[0-9]+", "#", fault.message, flags=re.DOTALL)


ROUTE_TARGETS = (
    Target(
        name="routes",
        about="files of routes, to their image",
        seeds=lambda: [
            (EXAMPLE / "routes.yaml").read_bytes(),
            b"routes: []",
            b"paths: {case: insensitive}\nroutes: []",
        ],
        run=_run_routes,
        tokens=(
            b"{name=**}",
            b"**",
            b"*",
            b"{{",
            b"}}",
            b'{jwt."a.b"}',
            b"{query.x}",
            b"%2F",
            b";",
            b"\x00",
            b"public: true",
        ),
        max_bytes=1 << 14,
    ),
    Target(
        name="openapi",
        about="OpenAPI documents, to routes that load",
        seeds=lambda: [_OPENAPI],
        run=_run_openapi,
        tokens=(b"{a}", b"$ref", b"#/", b"~1", b"x-", b'"', b"\\", b": ", b"servers", b"operationId"),
        max_bytes=1 << 12,
    ),
    Target(
        name="target-fault",
        about="request targets, read by the slow reader and explained to people",
        seeds=lambda: [b"\x00/" + segment.encode("latin-1") for segment in (*SENT, *HOSTILE)],
        run=_run_target,
        tokens=tuple(segment.encode("latin-1") for segment in HOSTILE),
        max_bytes=1 << 10,
    ),
)
