# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar routes check``, ``match`` and ``from-openapi``: what stands in ``routes.yaml``, without a proxy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.output import (
    ExitStatus,
    count_of,
    print_json,
    print_line,
    print_problems,
    problems_to_json,
)
from sidecar.model.errors import PolicySyntaxError, Problem, RequestError, Severity, SourceUnavailableError

if TYPE_CHECKING:
    from sidecar.model.route import RouteTable
    from sidecar.model.snapshot import Snapshot

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_routes = typer.Typer(
    name="routes",
    help="Look at the routes of a source: which HTTP request means which action on which resource, for Envoy.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_routes)


@_routes.command(
    "check",
    epilog="\b\nExamples:\n"
    "  iam-sidecar routes check examples/acme\n"
    "  iam-sidecar routes check --strict --json policies.tar.gz\n"
    "\n\b\nRoutes are listed in the order in which they win: where several fit a request, the first of them takes it.",
)
def check(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Directory with a routes.yaml, or an archive of one.", show_default=False
        ),
    ],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail it, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find everything that is wrong with a source, and list its routes and who may call."""
    from sidecar.cli.route_output import print_table, table_to_json
    from sidecar.compile.source import parse_source
    from sidecar.services.source_files import read_source

    report = parse_source(read_source(source), now=int(time.time()))
    errors = sum(problem.severity is Severity.ERROR for problem in report.problems)
    warnings = len(report.problems) - errors
    table, in_shadow = _routes_of(report.snapshot)
    is_good = errors == 0 and not (strict and warnings)
    if as_json:
        print_json(
            {
                "ok": is_good,
                "errors": errors,
                "warnings": warnings,
                "problems": problems_to_json(report.problems),
                "routes": None if table is None else table_to_json(table, in_shadow),
            }
        )
    else:
        print_problems(report.problems, file=sys.stdout)
        found = f"{source}: {count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
        if table is not None:
            print_line(f"{found}: {count_of(len(table.routes), 'route')}")
            print_table(table, in_shadow)
        elif report.snapshot is not None:
            print_line(f"{found}: no routes.yaml, so every request of Envoy is denied")
        else:
            print_line(found)
    if not is_good:
        raise typer.Exit(ExitStatus.ERROR)


@_routes.command(
    "match",
    epilog="\b\nExamples:\n"
    "  iam-sidecar routes match GET /orders/4711 --snapshot examples/acme\n"
    "  iam-sidecar routes match POST 'https://acme.example/payments/7/refund?amount=80' \\\n"
    "      --snapshot examples/acme --peer spiffe://acme.example/ns/shop/sa/payments\n"
    "  iam-sidecar routes match GET /orders --snapshot examples/acme --jwt claims.json --json\n"
    "\n\b\nNothing is decided: it shows what would be asked of the policies.\n"
    "Exit status: 0 they are asked, or the route is public; 3 denied before that; 1 error, 2 wrong usage.",
)
def match(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Such as GET.", show_default=False)],
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="As a client sends it: a whole URL, or path and query. Nothing in it is normalised.",
            show_default=False,
        ),
    ],
    *,
    snapshot: Annotated[
        Path, typer.Option("--snapshot", metavar="SOURCE", help="Source with the routes.", show_default=False)
    ],
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header of the request; several times."),
    ] = None,
    extension: Annotated[
        list[str] | None,
        typer.Option("--extension", metavar="KEY=VALUE", help="A context extension of the proxy; several times."),
    ] = None,
    jwt: Annotated[
        Path | None,
        typer.Option(
            "--jwt", metavar="FILE", help="Claims that the proxy has verified, an object of JSON; - is standard input."
        ),
    ] = None,
    peer: Annotated[
        str, typer.Option("--peer", metavar="NAME", help="Name in the certificate of the client.", show_default=False)
    ] = "",
    sni: Annotated[
        str, typer.Option("--sni", metavar="HOST", help="Server name of the TLS handshake.", show_default=False)
    ] = "",
    source_ip: Annotated[
        str, typer.Option("--source-ip", metavar="IP", help="Address of the client.", show_default=False)
    ] = "",
    cookie_name: Annotated[
        str, typer.Option("--cookie-name", metavar="NAME", help="Cookie that holds the session token.")
    ] = "__Host-sidecar-session",
    as_json: AsJson = False,
) -> None:
    """Explain which route a request takes, who calls, and what is asked of the policies."""
    from sidecar.cli.route_match import explain_match
    from sidecar.cli.route_output import match_to_json, print_match
    from sidecar.transports.check_request import CheckedRequest

    scheme, host, target = _split_url(url)
    loaded = _load(snapshot)
    request = CheckedRequest(
        method=method,
        target=target,
        host=host,
        scheme=scheme,
        headers=[_pair(text, ":", "--header") for text in header or ()],
        source_address=source_ip,
        peer=peer,
        sni=sni,
        extensions=dict(_pair(text, "=", "--extension") for text in extension or ()),
        metadata={} if jwt is None else _metadata(loaded, _read_claims(jwt)),
    )
    found = explain_match(loaded, request, cookie_name=cookie_name)
    tried = None
    if loaded.shadow is not None:
        tried = explain_match(loaded.shadow.snapshot, request, cookie_name=cookie_name)
    if as_json:
        print_json(match_to_json(found, tried))
    else:
        print_match(found, tried, snapshot=str(snapshot))
    if found.is_denied:
        raise typer.Exit(ExitStatus.DENIED)


@_routes.command(
    "from-openapi",
    epilog="\b\nExamples:\n"
    "  iam-sidecar routes from-openapi openapi.yaml --service orders --account 111122223333 > routes.yaml\n"
    "  iam-sidecar routes from-openapi openapi.json --service orders --region eu-west-1 -o policies/routes.yaml\n"
    "\n\b\nEach operation becomes a route: its operationId the action, its path the resource.\n"
    "What cannot be mapped is left out with a warning, and so stays denied. Nothing becomes public by itself.",
)
def from_openapi(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="OpenAPI 3 document, JSON or YAML; - is standard input.", show_default=False
        ),
    ],
    *,
    service: Annotated[
        str,
        typer.Option("--service", metavar="NAME", help="First part of actions, such as orders.", show_default=False),
    ],
    account: Annotated[
        str, typer.Option("--account", metavar="ID", help="Account that owns the resources.", show_default=False)
    ] = "",
    region: Annotated[
        str, typer.Option("--region", metavar="NAME", help="Region in their ARNs.", show_default=False)
    ] = "",
    partition: Annotated[str, typer.Option("--partition", metavar="NAME", help="Partition in their ARNs.")] = "aws",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the routes go, instead of standard output."),
    ] = None,
) -> None:
    """Make a first routes.yaml out of an OpenAPI document."""
    from sidecar.compile.documents import DocumentError, read_json, read_yaml
    from sidecar.compile.openapi import ResourceNames, routes_from_openapi

    data = _read_file(file)
    try:
        document = read_json(data) if data.lstrip()[:1] in (b"{", b"[") else read_yaml(data)
    except DocumentError as error:
        problem = Problem(Severity.ERROR, str(file), "$", error.message, error.help)
        raise PolicySyntaxError(f"`{file}` is no OpenAPI document", problems=(problem,)) from None
    made = routes_from_openapi(document, ResourceNames(service, account, region, partition), file=str(file))
    print_problems(made.warnings, file=sys.stderr)
    if output is None:
        sys.stdout.write(made.text)
        return
    try:
        output.write_text(made.text, encoding="utf-8")
    except OSError as error:
        raise SourceUnavailableError(f"`{output}` cannot be written: {os.strerror(error.errno or 0).lower()}") from None
    print_line(f"{output}: {count_of(made.count, 'route')}, {count_of(len(made.warnings), 'warning')}")


def _routes_of(snapshot: Snapshot | None) -> tuple[RouteTable | None, frozenset[str]]:
    """Return all routes, and the ids of those that stand in shadow."""
    from sidecar.model.shadow import ShadowKind

    if snapshot is None:
        return None, frozenset()
    if snapshot.shadow is None:
        return snapshot.routes, frozenset()
    ids = frozenset(entry.id for entry in snapshot.shadow.entries if entry.kind is ShadowKind.ROUTE)
    return snapshot.shadow.snapshot.routes, ids


def _split_url(url: str) -> tuple[str, str, str]:
    """
    Cut *url* into scheme, host and target, as a client does that changes nothing.

    >>> _split_url("https://a.example:8443/x/../y?z"), _split_url("/x")
    (('https', 'a.example:8443', '/x/../y?z'), ('https', '', '/x'))
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "https", "", url
    end = min((place for place in map(rest.find, "/?#") if place >= 0), default=len(rest))
    target = rest[end:]
    return scheme.lower(), rest[:end], target if target.startswith("/") else "/" + target


def _pair(text: str, separator: str, flag: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise RequestError(f"`{text}` is no {'NAME: VALUE' if separator == ':' else 'KEY=VALUE'}", field=flag)
    return name.strip(), value.strip()


def _load(path: Path) -> Snapshot:
    """Return the snapshot of the source at *path*."""
    from sidecar.compile.source import parse_source
    from sidecar.services.snapshots import is_image_file
    from sidecar.services.source_files import read_source

    if is_image_file(path):
        raise RequestError(
            f"`{path}` is an image, which holds no routes to read", field="--snapshot", help="name the source of it"
        )
    report = parse_source(read_source(path), now=int(time.time()))
    if report.snapshot is None:
        errors = sum(problem.severity is Severity.ERROR for problem in report.problems)
        raise PolicySyntaxError(f"the source `{path}` has {count_of(errors, 'error')}", problems=report.problems)
    return report.snapshot


def _read_file(path: Path) -> bytes:
    """Return what stands in the file at *path*, or in standard input."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise SourceUnavailableError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None


def _read_claims(path: Path) -> dict[str, object]:
    try:
        claims = json.loads(_read_file(path))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise RequestError(
            f"`{path}` is no object of JSON", field="--jwt", help="the claims, as a token's payload has them"
        )
    return claims


def _metadata(snapshot: Snapshot, claims: dict[str, object]) -> dict[str, dict[str, object]]:
    """Put *claims* where the rules of callers look for them."""
    from sidecar.compile.callers import JWT_FILTER, JWT_PAYLOAD
    from sidecar.model.route import JwtRule

    rules = snapshot.routes.callers if snapshot.routes is not None else ()
    places = [(rule.filter, rule.payload) for rule in rules if isinstance(rule, JwtRule)] or [(JWT_FILTER, JWT_PAYLOAD)]
    metadata: dict[str, dict[str, object]] = {}
    for name, payload in places:
        metadata.setdefault(name, {})[payload] = claims
    return metadata
