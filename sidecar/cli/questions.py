# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar authorize``, ``explain`` and ``simulate``: one question, of a sidecar or of files.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.connection import Address, ClientCert, ClientKey, Connection, ServerName, TlsCa, TokenFile
from sidecar.cli.output import ExitStatus, explanation_to_json, print_explanation, print_json, progress_shown
from sidecar.model.decision import Decision
from sidecar.model.errors import RequestError, SettingsError, SourceUnavailableError
from sidecar.model.request import AuthorizationRequest, ContextValue

if TYPE_CHECKING:
    from sidecar.services.authorizer import Explanation

_EXIT = "\n\b\nExit status: 0 allowed, 3 denied, 1 error, 2 wrong usage."
_ASK = "  iam-sidecar {command} --principal arn:aws:iam::111122223333:user/ada \\\n"

Principal = Annotated[
    str,
    typer.Option(
        "--principal",
        metavar="ARN",
        help="Who asks: the ARN of a user, of a role's session (assumed-role) or of an account root,"
        " or a service principal. Without it: an anonymous caller.",
        show_default=False,
    ),
]
Action = Annotated[str, typer.Option("--action", metavar="ACTION", help="What for, such as s3:GetObject.")]
Resource = Annotated[str, typer.Option("--resource", metavar="ARN", help="On what; * where there is no resource.")]
ResourceAccount = Annotated[
    str,
    typer.Option(
        "--resource-account", metavar="ID", help="Who owns the resource, where its ARN names none.", show_default=False
    ),
]
Context = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        "-c",
        metavar="KEY=VALUE",
        help="A condition key; may be given several times. KEY=[A,B], or the same key again, is a list.",
    ),
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="KEY=VALUE",
        help="What if: a value for any key, also one that only the sidecar sets, such as aws:CurrentTime.",
    ),
]
Snapshot = Annotated[
    Path | None,
    typer.Option("--snapshot", metavar="SOURCE", help="Ask this source or image; no sidecar is needed."),
]
WithShadow = Annotated[
    bool,
    typer.Option(
        "--with-shadow", help="Ask as if what stands in shadow were in force already; together with --snapshot."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("authorize", epilog=_examples("authorize", ""))(authorize)
    app.command("explain", epilog=_examples("explain", " \\\n      --override aws:MultiFactorAuthPresent=true"))(
        explain
    )
    app.command(
        "simulate",
        epilog="\b\nExamples:\n"
        + _ASK.format(command="simulate")
        + "      --action s3:GetObject --resource arn:aws:s3:::reports/may.csv \\\n"
        "      --identity-policy reader.json --scp 1:root.json --scp 2:unit.json\n" + _EXIT,
    )(simulate)


def _examples(command: str, more: str) -> str:
    question = _ASK.format(command=command) + "      --action s3:GetObject --resource arn:aws:s3:::reports/may.csv"
    return (
        f"\b\nExamples:\n{question}{more}\n"
        f"{question.replace(command, f'{command} --snapshot examples/acme', 1)} \\\n"
        f"      --context aws:SourceIp=203.0.113.9\n{_EXIT}"
    )


def authorize(
    *,
    principal: Principal = "",
    action: Action,
    resource: Resource,
    resource_account: ResourceAccount = "",
    context: Context = None,
    snapshot: Snapshot = None,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_client_cert: ClientCert = None,
    tls_client_key: ClientKey = None,
    tls_server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a decision."""
    request = AuthorizationRequest(
        principal=principal,
        action=action,
        resource=resource,
        resource_account=resource_account,
        context=parse_context(context or (), "--context"),
    )
    connection = Connection(address, token_file, tls_ca, tls_client_cert, tls_client_key, tls_server_name)
    explanation = _ask(request, snapshot, connection, with_statements=False)
    _show(explanation, request, as_json=as_json, with_statements=False)


def explain(
    *,
    principal: Principal = "",
    action: Action,
    resource: Resource,
    resource_account: ResourceAccount = "",
    context: Context = None,
    override: Override = None,
    snapshot: Snapshot = None,
    with_shadow: WithShadow = False,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_client_cert: ClientCert = None,
    tls_client_key: ClientKey = None,
    tls_server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a decision and for everything that led to it."""
    request = AuthorizationRequest(
        principal=principal,
        action=action,
        resource=resource,
        resource_account=resource_account,
        context=parse_context(context or (), "--context"),
        override=parse_context(override or (), "--override"),
    )
    connection = Connection(address, token_file, tls_ca, tls_client_cert, tls_client_key, tls_server_name)
    explanation = _ask(request, snapshot, connection, with_statements=True, with_shadow=with_shadow)
    _show(explanation, request, as_json=as_json, with_statements=True)


def simulate(
    *,
    principal: Principal = "",
    action: Action,
    resource: Resource,
    resource_account: ResourceAccount = "",
    context: Context = None,
    identity_policy: Annotated[
        list[Path] | None,
        typer.Option(
            "--identity-policy", metavar="FILE", help="Identity-based policy; may be given several times. - is stdin."
        ),
    ] = None,
    permissions_boundary: Annotated[
        Path | None, typer.Option("--permissions-boundary", metavar="FILE", help="Permissions boundary.")
    ] = None,
    session_policy: Annotated[
        list[Path] | None,
        typer.Option("--session-policy", metavar="FILE", help="Session policy; may be given several times."),
    ] = None,
    resource_policy: Annotated[
        Path | None,
        typer.Option("--resource-policy", metavar="FILE", help="Policy of the resource; of a role, its trust policy."),
    ] = None,
    scp: Annotated[
        list[str] | None,
        typer.Option(
            "--scp",
            metavar="LEVEL:FILE",
            help="Service control policy. Level 1 is the organization's root, and the default; the last, the account.",
        ),
    ] = None,
    rcp: Annotated[
        list[str] | None,
        typer.Option("--rcp", metavar="LEVEL:FILE", help="Resource control policy, of the owner's account."),
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_client_cert: ClientCert = None,
    tls_client_key: ClientKey = None,
    tls_server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Ask what these documents would decide; nothing else bears on it. With --address, a sidecar computes it."""
    from sidecar.services.simulation import SimulationRequest, Simulator

    request = SimulationRequest(
        principal=principal,
        action=action,
        resource=resource,
        resource_account=resource_account,
        context=parse_context(context or (), "--context"),
        identity_policies=[_read(path) for path in identity_policy or ()],
        permissions_boundary=_read(permissions_boundary) if permissions_boundary else "",
        session_policies=[_read(path) for path in session_policy or ()],
        resource_policy=_read(resource_policy) if resource_policy else "",
        service_control_policies=_read_levels(scp or (), "--scp"),
        resource_control_policies=_read_levels(rcp or (), "--rcp"),
    )
    connection = Connection(address, token_file, tls_ca, tls_client_cert, tls_client_key, tls_server_name)
    if connection.is_stated:
        with connection.open() as client:
            explanation = client.simulate(request)
    else:
        explanation = Simulator(now=time.time_ns).simulate(request)
    if as_json:
        print_json(explanation_to_json(explanation))
    else:
        print_explanation(explanation, principal=principal, action=action, resource=resource, with_statements=True)
    _exit(explanation)


def parse_context(pairs: Sequence[str], flag: str) -> dict[str, ContextValue]:
    """
    Return the context that *pairs* state.

    Raises:
        RequestError: One of them is no ``KEY=VALUE``.

    >>> parse_context(["aws:SourceIp=203.0.113.9", "aws:TagKeys=[team,cost]"], "--context")["aws:TagKeys"]
    ContextValue(values=('team', 'cost'), multivalued=True)
    """
    context: dict[str, ContextValue] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise RequestError(f"`{pair}` is no KEY=VALUE", field=flag)
        value = _parse_value(text)
        before = context.get(key)
        if before is not None:
            value = ContextValue((*before.values, *value.values), True)
        context[key] = value
    return context


def _parse_value(text: str) -> ContextValue:
    if not (text.startswith("[") and text.endswith("]")):
        return ContextValue((text,))
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        return ContextValue(tuple(items), True)
    inner = text[1:-1]
    return ContextValue(tuple(part.strip() for part in inner.split(",")) if inner.strip() else (), True)


def _ask(
    request: AuthorizationRequest,
    snapshot: Path | None,
    connection: Connection,
    *,
    with_statements: bool,
    with_shadow: bool = False,
) -> Explanation:
    if snapshot is None:
        if with_shadow:
            raise SettingsError("a sidecar does not explain what stands in shadow", help="name the files: --snapshot")
        with connection.open() as client:
            return client.explain(request) if with_statements else client.authorize(request)
    if connection.is_stated:
        raise SettingsError("ask either files or a sidecar", help="leave out --snapshot, or --address and --token-file")
    from sidecar import core
    from sidecar.services.authorizer import Explanation
    from sidecar.services.snapshots import read_snapshot

    with progress_shown(None) as progress:
        image, _ = read_snapshot(snapshot, now=int(time.time()), progress=progress)
    if with_shadow and image.shadow_entries:
        image = image.with_shadow_in_force()
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return Explanation(core.explain(image, request, seconds=seconds, nanos=nanos), image.revision)


def _show(explanation: Explanation, request: AuthorizationRequest, *, as_json: bool, with_statements: bool) -> None:
    if as_json:
        shown = explanation_to_json(explanation)
        if not with_statements:
            del shown["matched_statements"], shown["missing_context_keys"]
        print_json(shown)
    else:
        print_explanation(
            explanation,
            principal=request.principal,
            action=request.action,
            resource=request.resource,
            with_statements=with_statements,
        )
    _exit(explanation)


def _exit(explanation: Explanation) -> None:
    # INVARIANT: nothing but an allow ends with status 0.
    if explanation.answer.decision is not Decision.ALLOW:
        raise typer.Exit(ExitStatus.DENIED)


def _read_levels(entries: Sequence[str], flag: str) -> list[list[str]]:
    """Return the documents by level, the organization's root first."""
    levels: dict[int, list[str]] = {}
    for entry in entries:
        number, colon, path = entry.partition(":")
        if not (colon and number.isascii() and number.isdigit()):
            number, path = "1", entry
        if not 1 <= int(number) <= 7:
            raise RequestError(f"there is no level `{number}`", field=flag, help="the levels are 1 to 7")
        levels.setdefault(int(number), []).append(_read(Path(path)))
    missing = [level for level in range(1, max(levels, default=0)) if level not in levels]
    if missing:
        raise RequestError(
            f"level {missing[0]} has no document", field=flag, help="say what each level carries, from 1 on"
        )
    return [levels[level] for level in sorted(levels)]


def _read(path: Path) -> str:
    """Return the text of a document."""
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise SourceUnavailableError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    except UnicodeDecodeError:
        raise SourceUnavailableError(f"`{path}` is not UTF-8") from None
