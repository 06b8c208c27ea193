# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar mfa unlock`` and ``rotate-keys``: for whoever administers the store, beside a sidecar or without one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.options import with_options
from sidecar.cli.output import count_of, print_json, print_line

if TYPE_CHECKING:
    from sidecar.services.callers import Caller
    from sidecar.services.known_users import KnowsUser
    from sidecar.services.mfa import MfaServices
    from sidecar.settings import Settings

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


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Which store to work on, as stated by flags; what is None comes from the environment, or a default."""

    state_dir: StateDir = None
    store_url: StoreUrl = None
    mfa_key_file: KeyFile = None
    mfa_key_command: KeyCommand = None
    config: Config = None

    def load(self) -> Settings:
        """
        Return the settings of the sidecar that keeps the store.

        Raises:
            SettingsError: They cannot be used.
        """
        from sidecar.settings import load_settings

        flags = {
            # These commands read no policies.
            "snapshot": os.devnull,
            "state_dir": str(self.state_dir or ""),
            "store_url": self.store_url,
            "mfa_key_file": str(self.mfa_key_file or ""),
            "mfa_key_command": self.mfa_key_command,
            "config": str(self.config or ""),
        }
        settings = load_settings(flags, os.environ)
        # They register no security keys either, and what is asked of those need not hold today.
        return dataclasses.replace(
            settings,
            mfa_attestation="ignore",
            mfa_aaguid=(),
            mfa_metadata=None,
            mfa_metadata_root=None,
            mfa_metadata_crl=(),
            mfa_trust_anchor=(),
        )


#: Gives a command those options, as its parameter ``store``.
on_store = with_options("store", StoreOptions)


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


@on_store
def unlock(
    *,
    user: Annotated[str, typer.Option("--user", metavar="ARN", help="Who may try again at once.", show_default=False)],
    store: StoreOptions,
    as_json: AsJson = False,
) -> None:
    """Forget the failures of a person who has to wait, or is locked."""
    from sidecar.services.callers import parse_user

    parse_user(user, "--user")
    with opened_store(store.load()) as services:
        failures = services.throttles.unlock(terminal_caller(), user)
    if as_json:
        print_json({"failures": failures})
    else:
        print_line(f"forgot {count_of(failures, 'failure')}")


@on_store
def rotate_keys(
    *,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Then drop the keys from the file that no seed needs any more.")
    ] = False,
    store: StoreOptions,
    as_json: AsJson = False,
) -> None:
    """Make a new key, and seal the seed of every TOTP device with it."""
    with opened_store(store.load()) as services:
        rotation = services.rotation.rotate(terminal_caller(), drop_old=drop_old)
    if as_json:
        print_json({"key_id": rotation.key_id, "sealed_anew": rotation.sealed_anew, "dropped": list(rotation.dropped)})
        return
    print_line(f"sealed {count_of(rotation.sealed_anew, 'seed')} with key {rotation.key_id}")
    for name in rotation.dropped:
        print_line(f"dropped key {name}")


@contextmanager
def opened_store(
    settings: Settings, *, knows_user: KnowsUser | None = None, must_exist: bool = True
) -> Iterator[MfaServices]:
    """Open the store as the sidecar would that has these settings; without *knows_user* everybody is known."""
    from sidecar.app import configure_logging, open_audit, open_mfa
    from sidecar.services.known_users import know_everybody
    from sidecar.services.mfa_journal import NullMfaMetrics

    metrics = NullMfaMetrics()
    log = configure_logging("warning", "auto")
    audit = open_audit(settings, log=log, on_drop=metrics.record_audit_dropped)
    services = open_mfa(
        settings,
        audit=audit,
        metrics=metrics,
        log=log,
        knows_user=knows_user or know_everybody,
        must_exist=must_exist,
    )
    try:
        yield services
    finally:
        services.store.close()


def terminal_caller() -> Caller:
    """Return whoever sits at this terminal, as the administrator of the store."""
    from sidecar.services.callers import Caller

    return Caller.administrator(f"terminal:{os.getuid()}")
