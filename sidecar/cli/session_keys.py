# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar session-keys``: the keys that session tokens are sealed with.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.mfa_store import AsJson, Config, StateDir, terminal_caller
from sidecar.cli.options import with_options
from sidecar.cli.output import print_json, print_line

if TYPE_CHECKING:
    from sidecar.services.sessions.keys import SessionKeyFile
    from sidecar.settings import Settings

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--session-keys",
        metavar="FILE",
        help="The file, as `serve` has it. [default: session.keys in the state directory]"
        " [env: IAM_SIDECAR_SESSION_KEYS]",
    ),
]


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """Where the keys are, as stated by flags; what is None comes from the environment, or a default."""

    session_keys: KeysFile = None
    state_dir: StateDir = None
    config: Config = None

    def load(self) -> Settings:
        """
        Return the settings of the sidecar that has these keys.

        Raises:
            SettingsError: They cannot be used.
        """
        from sidecar.settings import load_settings

        flags = {
            # These commands read no policies.
            "snapshot": os.devnull,
            "session_keys": str(self.session_keys or ""),
            "state_dir": str(self.state_dir or ""),
            "config": str(self.config or ""),
        }
        return load_settings(flags, os.environ)


_on_keys = with_options("where", KeyOptions)
_keys = typer.Typer(
    name="session-keys", help="Keys that session tokens are sealed with.", no_args_is_help=True, rich_markup_mode=None
)


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_keys)


@_keys.command(
    "rotate",
    epilog="\b\nExamples:\n  iam-sidecar session-keys rotate\n  iam-sidecar session-keys rotate --drop-old\n"
    "\n\b\nRunning sidecars take the new key by themselves, and seal with it a minute later; sessions go on.",
)
@_on_keys
def rotate(
    *,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Drop all other keys at once. This ends every session.")
    ] = False,
    where: KeyOptions,
    as_json: AsJson = False,
) -> None:
    """Make a new key, and drop those that no session can need any more."""
    from sidecar.app import configure_logging, open_audit
    from sidecar.services.sessions.journal import NullSessionMetrics, SessionEvent, SessionJournal

    settings, keys = _opened(where)
    # What cannot be put on record is not done.
    audit = open_audit(settings, log=configure_logging("warning", "auto"), on_drop=lambda: None)
    new, dropped = keys.rotate(_now_ms(), drop_old=drop_old)
    journal = SessionJournal(audit=audit, metrics=NullSessionMetrics())
    note = f"key {new.id.hex()}, {len(dropped)} dropped"
    journal.changed(SessionEvent.KEYS_ROTATED, terminal_caller(), note=note)
    if as_json:
        print_json({"key_id": new.id.hex(), "seals_from": _time(new.seals_from_ms), "dropped": list(dropped)})
        return
    print_line(f"made key {new.id.hex()}, which seals from {_time(new.seals_from_ms)}")
    for name in dropped:
        print_line(f"dropped key {name}")


@_keys.command("list", epilog="\b\nExamples:\n  iam-sidecar session-keys list")
@_on_keys
def list_keys(
    *,
    where: KeyOptions,
    as_json: AsJson = False,
) -> None:
    """List the keys: their names and times, and nothing secret."""
    _, keys = _opened(where)
    ring, now_ms = keys.read(), _now_ms()
    entries = []
    for key in ring.keys:
        until = ring.needed_until_ms(key)
        is_sealing = key.id == ring.sealing(now_ms).id
        state = "seals" if is_sealing else "opens" if key.seals_from_ms <= now_ms else "waits"
        entries.append((key, state, until))
    if as_json:
        print_json(
            [
                {
                    "key_id": key.id.hex(),
                    "state": state,
                    "created_at": _time(key.created_at_ms),
                    "seals_from": _time(key.seals_from_ms),
                    "needed_until": None if until is None else _time(until),
                }
                for key, state, until in entries
            ]
        )
        return
    for key, state, until in entries:
        end = "" if until is None else f", needed until {_time(until)}"
        print_line(
            f"{key.id.hex()}  {state}  made {_time(key.created_at_ms)}, seals from {_time(key.seals_from_ms)}{end}"
        )


def _opened(where: KeyOptions) -> tuple[Settings, SessionKeyFile]:
    from sidecar.app import session_key_file

    settings = where.load()
    return settings, session_key_file(settings)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
