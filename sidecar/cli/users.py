# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar user``: passwords and locks, for whoever administers the store, beside a sidecar or without one.

The users themselves come from the snapshot.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sidecar.cli.mfa_store import AsJson, Config, StateDir, StoreUrl, terminal_caller
from sidecar.cli.options import with_options
from sidecar.cli.output import count_of, print_json, print_line
from sidecar.model.errors import NotFoundError, RequestError, SettingsError

if TYPE_CHECKING:
    from sidecar.model.directory import AccountFacts, UserFacts
    from sidecar.services.sessions.passwords import PasswordService
    from sidecar.settings import Settings

User = Annotated[
    str, typer.Option("--user", metavar="ARN", help="Whom: arn:aws:iam::ACCOUNT:user/NAME.", show_default=False)
]
Snapshot = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="SOURCE",
        help="Where users come from, as `serve` has it. [env: IAM_SIDECAR_SNAPSHOT]",
    ),
]

_user = typer.Typer(
    name="user", help="Users who sign in: passwords, and locks.", no_args_is_help=True, rich_markup_mode=None
)
_ADA = "--user arn:aws:iam::111122223333:user/ada --snapshot examples/acme"
#: More than any password has, and little enough to be read by mistake.
_MAX_INPUT = 4096


@dataclass(frozen=True, slots=True)
class UserOptions:
    """Where users and passwords are, as stated by flags; what is None comes from the environment, or a default."""

    snapshot: Snapshot = None
    state_dir: StateDir = None
    store_url: StoreUrl = None
    config: Config = None

    def load(self) -> Settings:
        """
        Return the settings of the sidecar that has these users.

        Raises:
            SettingsError: They cannot be used.
        """
        from sidecar.settings import load_settings

        flags = {
            "snapshot": str(self.snapshot or ""),
            "state_dir": str(self.state_dir or ""),
            "store_url": self.store_url,
            "config": str(self.config or ""),
        }
        return load_settings(flags, os.environ)


_on_users = with_options("where", UserOptions)


class _Opened(NamedTuple):
    """What a command works with."""

    service: PasswordService
    user: UserFacts
    account: AccountFacts


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_user)


@_user.command(
    "set-password",
    epilog=f"\b\nExamples:\n  iam-sidecar user set-password {_ADA}\n"
    "  pass show ada | iam-sidecar user set-password --stdin --user ARN --snapshot SOURCE\n"
    "\n\b\nThe password has to be what the account's policy asks for. A new one ends the user's sessions.",
)
@_on_users
def set_password(
    *,
    user: User,
    is_on_stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the password from standard input, up to the end of the line.")
    ] = False,
    where: UserOptions,
    as_json: AsJson = False,
) -> None:
    """Set the password that a user signs in with."""
    with _opened(user, where) as opened:
        password = _read_password(is_on_stdin=is_on_stdin)
        opened.service.set_password(terminal_caller(), opened.user, opened.account, password)
    if as_json:
        print_json({"user_arn": user})
    else:
        print_line("set the password; earlier sessions are over")


@_user.command("lock", epilog=f"\b\nExamples:\n  iam-sidecar user lock {_ADA}")
@_on_users
def lock(
    *,
    user: User,
    where: UserOptions,
    as_json: AsJson = False,
) -> None:
    """Keep a user from signing in, and end the sessions."""
    with _opened(user, where) as opened:
        opened.service.lock(terminal_caller(), opened.user)
    if as_json:
        print_json({"user_arn": user, "locked": True})
    else:
        print_line("locked; sessions are over")


@_user.command("unlock", epilog=f"\b\nExamples:\n  iam-sidecar user unlock {_ADA}")
@_on_users
def unlock(
    *,
    user: User,
    where: UserOptions,
    as_json: AsJson = False,
) -> None:
    """Let a user sign in again, after a lock or too many failures."""
    with _opened(user, where) as opened:
        was_locked, failures = opened.service.unlock(terminal_caller(), opened.user)
    if as_json:
        print_json({"user_arn": user, "was_locked": was_locked, "failures": failures})
    else:
        print_line(f"{'unlocked' if was_locked else 'was not locked'}; forgot {count_of(failures, 'failure')}")


@contextmanager
def _opened(user_arn: str, where: UserOptions) -> Iterator[_Opened]:
    """Open the store as the sidecar would that has the same settings, and find the user in its snapshot."""
    from sidecar.app import configure_logging, open_audit, open_passwords
    from sidecar.services.callers import parse_user
    from sidecar.services.snapshots import read_snapshot

    parse_user(user_arn, "--user")
    settings = where.load()
    if not settings.state_dir.is_dir():
        # Made for a slip of the pen, it would keep a password that no sidecar knows.
        raise SettingsError(
            f"there is no state directory `{settings.state_dir}`",
            help="start the sidecar first, or name the directory that it has with --state-dir",
        )
    image, _ = read_snapshot(settings.snapshot, now=int(time.time()))
    user = image.find_user(user_arn)
    account = None if user is None else image.find_account(user.account)
    if user is None or account is None:
        raise NotFoundError(
            f"there is no user `{user_arn}` in `{settings.snapshot}`",
            help="the ARN has the path, as in arn:aws:iam::111122223333:user/finance/bob; a root user has no password",
        )
    log = configure_logging("warning", "auto")
    audit = open_audit(settings, log=log, on_drop=lambda: None)
    with open_passwords(settings, audit=audit) as service:
        yield _Opened(service, user, account)


def _read_password(*, is_on_stdin: bool) -> str:
    if is_on_stdin:
        line = sys.stdin.buffer.readline(_MAX_INPUT)
        try:
            return line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise RequestError("the password on standard input is not UTF-8") from None
    if not sys.stdin.isatty():
        raise RequestError("there is no terminal to ask for the password at", help="say --stdin, and pass it there")
    import getpass

    password = getpass.getpass("new password: ", stream=sys.stderr)
    if getpass.getpass("once more: ", stream=sys.stderr) != password:
        raise RequestError("the two are not the same")
    return password
