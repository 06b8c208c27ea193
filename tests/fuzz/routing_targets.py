# SPDX-License-Identifier: Apache-2.0
"""
What of routes is fuzzed: request targets, requests put to templates, and who calls.

``routes_of`` and ``ask_routes`` are for the target that damages images: with them its image has routes to damage.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Any

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.problems import Problems
from sidecar.compile.routes import parse_routes
from sidecar.compile.shape import Place
from sidecar.model.decision import Reason
from sidecar.model.errors import RequestError
from sidecar.model.resolved_check import ResolvedCheck
from sidecar.model.route import CallerSource, RouteFlag, RouteTable
from sidecar.model.snapshot import Account, Snapshot
from tests.conformance.cases import ACCOUNT
from tests.fuzz.harness import Target
from tests.oracle.routes import find_route, read_target
from tests.unit.core.path_cases import CASES
from tests.unit.core.routing import check_request

_USER = f"arn:aws:iam::{ACCOUNT}:user/"
_KEY = "key"
_COOKIE = "session"

#: Callers of every kind.
_CALLERS: list[dict[str, Any]] = [
    {"session_token": {}},
    {
        "jwt": {
            "rules": [
                {
                    "when": [{"claim": "iss", "is": "x"}, {"claim": "a.groups", "is": ["1", "true", "admins"]}],
                    "user": _USER + "{jwt.sub}",
                },
                {"when": [{"claim": "iss", "is": "y"}], "user": _USER + "{extension.team}"},
            ]
        }
    },
    {
        "certificate": {
            "rules": [
                {"san": "spiffe://e/ns/{ns}/sa/{sa}", "user": _USER + "{ns}-{sa}"},
                {"san": "worker.e", "user": _USER + "{peer}"},
            ]
        }
    },
    {
        "api_key": {
            "clients": [
                {
                    "name": "one",
                    "sha256": [hashlib.sha256(_KEY.encode()).hexdigest()],
                    "user": _USER + "one-{extension.team}",
                },
                {"name": "two", "user": _USER + "{extension.team}"},
            ]
        }
    },
    {"anonymous": {}},
]

#: Routes with everything that a route can have.
_ROUTES: list[dict[str, Any]] = [
    {
        "id": "order",
        "hosts": ["shop.example.com", "*.example.com"],
        "methods": ["GET", "PURGE"],
        "path": "/accounts/{account}/orders/{order}",
        "action": "app:{account}",
        "resource": "arn:aws:app:{query.region}:{account}:order/{order}",
        "resource_account": "{account}",
        "context": {
            "app:Amount": "{query.amount}",
            "app:Header": "{header.x-tenant}",
            "app:Text": "<{path} {method} {host} {sni} {peer}>",
            "app:Claim": "{jwt.a.groups}",
            "app:Team": "{extension.team}",
        },
        "forward_token": True,
        "proof_for": "call",
    },
    {"id": "cancel", "path": "/v1/a{name}:x", "action": "app:Cancel", "resource": "arn:aws:app:::{name}"},
    {"id": "mixed", "path": "/v1/{name}:x", "action": "app:Read", "resource": "arn:aws:app:::{name}/{query.id}"},
    {"id": "any", "path": "/v1/*/b", "action": "app:Read", "resource": "*"},
    {"id": "files", "path": "/files/{rest=**}", "action": "app:Read", "resource": "arn:aws:app:::file/{rest}"},
    {"id": "get", "methods": ["GET"], "path": "/", "public": True},
    {"id": "rest", "path": "/**", "action": "app:Read", "resource": "arn:aws:app:::{path}"},
]

_OPTIONS = [
    {"case": case, "encoded_slashes": encoded, "double_slashes": double, "parameters": kept, "trailing_slash": slash}
    for case, encoded, double, kept, slash in itertools.product(
        ("sensitive", "insensitive"), ("deny", "keep"), ("deny", "merge"), ("deny", "keep"), ("significant", "ignore")
    )
]


def routes_of(accounts: tuple[Account, ...], options: int = 0) -> RouteTable:
    """Give a table with one of everything, for a snapshot with these accounts; *options* numbers those of paths."""
    problems = Problems()
    document = {"paths": _OPTIONS[options % len(_OPTIONS)], "callers": _CALLERS, "routes": _ROUTES}
    table = parse_routes(Place(problems, "routes.yaml"), document, accounts=accounts)
    if table is None or problems.has_errors:
        raise ValueError(f"the routes do not compile: {problems.items[0]}")
    return table


@functools.cache
def _table(options: int) -> RouteTable:
    return routes_of((Account(ACCOUNT),), options)


@functools.cache
def _image(options: int) -> core.Image:
    return core.Image.from_bytes(write_image(Snapshot(accounts=(Account(ACCOUNT),), routes=_table(options))))


@functools.cache
def route_questions() -> tuple[bytes, ...]:
    """Give requests that take each route by each caller."""
    claims = {"iss": "x", "sub": "bob", "a": {"groups": ["users", "admins", 1, True]}}
    extensions = {"team": "red", f"iam-api-key:{hashlib.sha256(b'other').hexdigest()}": "two"}
    order = f"/accounts/{ACCOUNT}/orders/7?region=eu&amount=1&amount=%32"
    headers = {"x-tenant": "t", "user-agent": "curl", "referer": "https://e/"}
    return (
        check_request(order, jwt=claims, headers=headers, sni="s", peer="p"),
        check_request(order, method="PURGE", host="A.example.com:80", jwt={"iss": "y"}, extensions=extensions),
        check_request("/v1/ab:x", headers={"authorization": "Bearer abc"}),
        check_request("/v1/b:x?id=1", headers={"cookie": f"a=b; {_COOKIE}=abc"}),
        check_request("/v1/a/b", headers={"x-api-key": _KEY}, extensions=extensions),
        check_request("/v1/a/c", headers={"x-api-key": "other"}, extensions=extensions),
        check_request("/files/a/b/", peer="spiffe://e/ns/n/sa/s"),
        check_request("/", peer="worker.e", headers=[("X-Tenant", "a"), ("x-tenant", "b")], raw_headers=True),
        check_request("/none", method="POST", scheme="", source=""),
        check_request("//"),
    )


#: What may stand in names, where nothing else was let through.
_RESOURCE = re.compile(r"arn:aws:app:[A-Za-z0-9._-]*:[A-Za-z0-9._-]*:[^*?$\x00-\x1f\x7f-\x9f]+|\*")
_PRINCIPAL = re.compile(rf"{re.escape(_USER)}[\w+=,.@-]{{1,64}}", re.ASCII)


def _outcome(found: ResolvedCheck) -> str:
    """Name what was resolved; what no request may bring about is a finding."""
    if found.reason is Reason.UNSPECIFIED and not found.is_public:
        if not _RESOURCE.fullmatch(found.resource):
            raise ValueError(f"a resource that nobody wrote: {found.resource!r}")
        if not re.fullmatch(r"app:[A-Za-z0-9._-]{1,252}", found.action):
            raise ValueError(f"an action that nobody wrote: {found.action!r}")
        if found.caller is CallerSource.NONE:
            raise ValueError("nobody calls, and it is not refused")
    if found.principal and not _PRINCIPAL.fullmatch(found.principal):
        raise ValueError(f"a principal that nobody wrote: {found.principal!r}")
    return f"{found.reason.word or 'asked'} {found.route_id} {found.caller.word} {' '.join(sorted(found.context))}"


def ask_routes(image: core.Image) -> set[str]:
    """Ask *image*, whatever it is, everything that there is to ask of routes; return the reasons."""
    return {core.resolve_check(image, question, cookie_name=_COOKIE).reason.word for question in route_questions()}


# --- targets of requests


def _run_path(data: bytes) -> str:
    """Read a target under the options that its first byte numbers, and hold it to what the oracle makes of it."""
    options, raw = (data[0] if data else 0) % len(_OPTIONS), data[1:]
    table = _table(options)
    found = core.resolve_check(_image(options), check_request(raw))
    target = read_target(raw, table.flags)
    if target is None:
        if found.reason is not Reason.PATH_INVALID or found.segments:
            raise ValueError(f"the core reads what the oracle refuses: {found}")
        return "path_invalid"
    match = find_route(table, "GET", "shop.example.com", target)
    want = (target.segments, match.route.id if match else "", match.captures if match else ())
    if (found.segments, found.route_id, found.captures) != want:
        raise ValueError(f"the core does not agree: {found}; {want}")
    shape = "".join("*" if segment else "_" for segment in target.segments[:9])
    return f"{found.route_id} {shape} {int(RouteFlag.KEEPS_PARAMETERS in table.flags)} {found.reason.word}"


def _path_seeds() -> Sequence[bytes]:
    return [bytes([number % len(_OPTIONS)]) + case.sent for number, case in enumerate(CASES)]


# --- a request, field by field

#: Between the fields; it is no UTF-8.
_FIELD = b"\xff"


def _run_routed(data: bytes) -> str:
    """Put a target, a method, a host and values of headers, extensions and certificate to the templates."""
    fields = [part.decode("utf-8", "replace").replace("\0", "") for part in data[1:].split(_FIELD)]
    fields += [""] * (9 - len(fields))
    target, method, host, scheme, tenant, agent, team, sni, peer = fields[:9]
    request = check_request(
        target,
        method=method,
        host=host,
        scheme=scheme,
        headers=[("x-tenant", tenant), ("user-agent", agent), ("referer", tenant)],
        raw_headers=len(data) % 2 == 1,
        extensions={"team": team},
        sni=sni,
        peer=peer,
        jwt={"iss": "y", "sub": tenant, "a": {"groups": [tenant, agent]}} if len(data) % 3 else None,
    )
    return _outcome(core.resolve_check(_image(data[0] if data else 0), request))


def _routed_seeds() -> Sequence[bytes]:
    rest = ["https", "tenant", "curl", "red", "s.example.com", "spiffe://e/ns/n/sa/s"]
    paths = [
        f"/accounts/{ACCOUNT}/orders/7?region=eu&amount=1&amount=%32+3",
        "/v1/ax:x",
        "/v1/x:x?id=%41;",
        "/files/a/b",
    ]
    return [
        b"\0" + _FIELD.join(text.encode() for text in (path, method, host, *rest))
        for path in paths
        for method, host in (("GET", "shop.example.com"), ("PURGE", "A.EXAMPLE.com.:80"), ("POST", ""))
    ]


# --- who calls: messages byte by byte, claims among them


def _run_caller(data: bytes) -> str:
    try:
        found = core.resolve_check(_image(0), data, cookie_name=_COOKIE)
    except RequestError as error:
        return error.field
    return _outcome(found)


ROUTING_TARGETS = (
    Target(
        name="path",
        about="request targets under every option, read and routed as the oracle does",
        seeds=_path_seeds,
        run=_run_path,
        tokens=(b"/", b"//", b"%2f", b"%2e", b"%25", b";", b"..", b"%c0%af", b"\\", b"?", b"#", b"/a" * 64, b"%5C"),
        in_place=0.2,
        max_bytes=9000,
    ),
    Target(
        name="routed",
        about="requests put to the templates of routes, in every field of them",
        seeds=_routed_seeds,
        run=_run_routed,
        tokens=(b"&amount=", b"&id=", b"%", b"+", b";", _FIELD, b":", b"*", b"$", b"\xc2\x85", b"x" * 4096),
        in_place=0.2,
        max_bytes=1 << 14,
    ),
    Target(
        name="caller",
        about="messages of Envoy with credentials and claims of every kind, byte by byte",
        seeds=route_questions,
        run=_run_caller,
        tokens=(b"\x0a", b"\x12", b"\x1a", b"\xff" * 10, b"jwt_payload", b"authorization", b"Bearer "),
        in_place=0.4,
        max_bytes=1 << 14,
    ),
)
