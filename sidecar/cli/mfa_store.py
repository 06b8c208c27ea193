# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar mfa unlock`` and ``rotate-keys``: for whoever administers the store, beside a sidecar or without one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.output import count_of, print_json, print_line

if TYPE_CHECKING:
    from sidecar.services.callers import Caller
    from sidecar.services.mfa import MfaServices

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIR", help="State directory of the sidecar. [env: IAM_SIDECAR_STATE_DIR]"),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store-url",
        metavar="URL",
        help="The store, as `serve` has it. [default: mfa.db in the state directory] [env: IAM_SIDECAR_STORE_URL]",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--mfa-key-file",
        metavar="FILE",
        help="Its keys. [default: mfa.key in the state directory] [env: IAM_SIDECAR_MFA_KEY_FILE]",
    ),
]
KeyCommand = Annotated[
    str | None,
    typer.Option(
        "--mfa-key-command",
        metavar="COMMAND",
        help="Command that prints them, in place of the file. [env: IAM_SIDECAR_MFA_KEY_COMMAND]",
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The file that `serve` has. [env: IAM_SIDECAR_CONFIG]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("unlock", epilog="\b\nExamples:\n  iam-sidecar mfa unlock --user arn:aws:iam::111122223333:user/ada")(
        unlock
    )
    group.command(
        "rotate-keys",
        epilog="\b\nExamples:\n"
        "  iam-sidecar mfa rotate-keys\n"
        "  iam-sidecar mfa rotate-keys --drop-old\n"
        "\n\b\n"
        "With --mfa-key-command, put the new key before the others yourself; then this seals\n"
        "every seed with it. A running sidecar takes the new key by itself.",
    )(rotate_keys)


def unlock(
    *,
    user: Annotated[str, typer.Option("--user", metavar="ARN", help="Who may try again at once.", show_default=False)],
    state_dir: StateDir = None,
    store_url: StoreUrl = None,
    mfa_key_file: KeyFile = None,
    mfa_key_command: KeyCommand = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Forget the failures of a person who has to wait, or is locked."""
    from sidecar.services.callers import parse_user

    parse_user(user, "--user")
    with _opened(state_dir, store_url, mfa_key_file, mfa_key_command, config) as services:
        failures = services.throttles.unlock(terminal_caller(), user)
    if as_json:
        print_json({"failures": failures})
    else:
        print_line(f"forgot {count_of(failures, 'failure')}")


def rotate_keys(
    *,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Then drop the keys from the file that no seed needs any more.")
    ] = False,
    state_dir: StateDir = None,
    store_url: StoreUrl = None,
    mfa_key_file: KeyFile = None,
    mfa_key_command: KeyCommand = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key, and seal the seed of every TOTP device with it."""
    with _opened(state_dir, store_url, mfa_key_file, mfa_key_command, config) as services:
        rotation = services.rotation.rotate(terminal_caller(), drop_old=drop_old)
    if as_json:
        print_json({"key_id": rotation.key_id, "sealed_anew": rotation.sealed_anew, "dropped": list(rotation.dropped)})
        return
    print_line(f"sealed {count_of(rotation.sealed_anew, 'seed')} with key {rotation.key_id}")
    for name in rotation.dropped:
        print_line(f"dropped key {name}")


@contextmanager
def _opened(
    state_dir: Path | None,
    store_url: str | None,
    key_file: Path | None,
    key_command: str | None,
    config: Path | None,
) -> Iterator[MfaServices]:
    """Open the store as the sidecar would that has the same settings."""
    from sidecar.app import configure_logging, open_audit, open_mfa
    from sidecar.services.mfa_journal import NullMfaMetrics
    from sidecar.settings import load_settings

    flags = {
        # These commands read no policies.
        "snapshot": os.devnull,
        "state_dir": str(state_dir or ""),
        "store_url": store_url,
        "mfa_key_file": str(key_file or ""),
        "mfa_key_command": key_command,
        "config": str(config or ""),
    }
    settings = load_settings(flags, os.environ)
    metrics = NullMfaMetrics()
    log = configure_logging("warning", "auto")
    audit = open_audit(settings, log=log, on_drop=metrics.record_audit_dropped)
    services = open_mfa(settings, audit=audit, metrics=metrics, log=log, must_exist=True)
    try:
        yield services
    finally:
        services.store.close()


def terminal_caller() -> Caller:
    """Return whoever runs this command, as the audit trail has it."""
    from sidecar.services.callers import Caller

    return Caller.administrator(f"terminal:{os.getuid()}")
