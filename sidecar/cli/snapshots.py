# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar snapshot show`` and ``snapshot reload``.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.connection import Address, ClientCert, ClientKey, Connection, ServerName, TlsCa, TokenFile
from sidecar.cli.output import (
    ExitStatus,
    count_of,
    print_json,
    print_line,
    print_problems,
    problems_to_json,
    progress_shown,
)

if TYPE_CHECKING:
    from sidecar.transports.client import SnapshotFacts

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_snapshot = typer.Typer(
    name="snapshot",
    help="Look at the snapshot of a sidecar, or have it reload.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_snapshot)


@_snapshot.command(
    "show",
    epilog="\b\nExamples:\n  iam-sidecar snapshot show\n  iam-sidecar snapshot show --snapshot acme.image --json",
)
def show(
    *,
    snapshot: Annotated[
        Path | None,
        typer.Option("--snapshot", metavar="SOURCE", help="Look at this source or image; no sidecar is asked."),
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_client_cert: ClientCert = None,
    tls_client_key: ClientKey = None,
    tls_server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in place."""
    from sidecar.transports.client import SnapshotFacts

    if snapshot is not None:
        from sidecar.services.snapshots import read_snapshot

        with progress_shown(None) as progress:
            image, _ = read_snapshot(snapshot, now=int(time.time()), progress=progress)
        numbers = image.statistics
        facts = SnapshotFacts(
            image.revision, 0, numbers["principals"], numbers["policies"], numbers["statements"], numbers["image_bytes"]
        )
    else:
        connection = Connection(address, token_file, tls_ca, tls_client_cert, tls_client_key, tls_server_name)
        with connection.open() as client:
            facts = client.get_snapshot()
    if as_json:
        print_json(_facts_to_json(facts))
    else:
        _print_facts(facts)


@_snapshot.command("reload", epilog="\b\nExamples:\n  iam-sidecar snapshot reload")
def reload(
    *,
    address: Address = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_client_cert: ClientCert = None,
    tls_client_key: ClientKey = None,
    tls_server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Have the sidecar read its source again; on errors the snapshot in place stays."""
    connection = Connection(address, token_file, tls_ca, tls_client_cert, tls_client_key, tls_server_name)
    with connection.open(timeout=600.0) as client:
        result = client.reload_snapshot()
    if as_json:
        print_json(
            {
                "applied": result.is_applied,
                "snapshot": _facts_to_json(result.snapshot),
                "problems": problems_to_json(result.problems),
                "problem_count": result.problem_count,
            }
        )
    else:
        print_problems(result.problems, file=sys.stdout)
        if result.is_applied:
            print_line(f"in place with {count_of(result.problem_count, 'problem')}")
        else:
            print_line(f"refused for {count_of(result.problem_count, 'problem')}; what was in place stays")
        _print_facts(result.snapshot)
    if not result.is_applied:
        raise typer.Exit(ExitStatus.ERROR)


def _facts_to_json(facts: SnapshotFacts) -> dict[str, object]:
    return {
        "revision": facts.revision,
        "loaded_at_unix_ms": facts.loaded_at_ms,
        "principals": facts.principals,
        "policies": facts.policies,
        "statements": facts.statements,
        "image_bytes": facts.image_bytes,
    }


def _print_facts(facts: SnapshotFacts) -> None:
    print_line(f"revision    {facts.revision or 'none'}")
    if facts.loaded_at_ms:
        loaded_at = datetime.fromtimestamp(facts.loaded_at_ms / 1000, UTC)
        print_line(f"loaded at   {loaded_at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}")
    print_line(f"principals  {facts.principals:,}")
    print_line(f"policies    {facts.policies:,}")
    print_line(f"statements  {facts.statements:,}")
    print_line(f"image       {facts.image_bytes:,} bytes")
