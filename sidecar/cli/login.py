# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar login`` and ``logout``: the session of the person at the terminal.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.connection import Address, ClientCert, ClientKey, Connection, ServerName, TlsCa
from sidecar.cli.credentials import CredentialFormat, print_credentials
from sidecar.cli.options import with_options
from sidecar.cli.output import print_line
from sidecar.cli.proving import ProofMethod, ProofRequest
from sidecar.model.errors import RequestError

_DEFAULT_PROFILE = "default"

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help=f"Name that the session is kept under. [default: {_DEFAULT_PROFILE}] [env: IAM_SIDECAR_PROFILE]",
    ),
]
SessionsFilePath = Annotated[
    Path | None,
    typer.Option(
        "--sessions-file",
        metavar="FILE",
        help="Where sessions are kept. [default: iam-sidecar/sessions.json in $XDG_STATE_HOME]",
    ),
]
_LOGIN_EXAMPLES = (
    "\b\nExamples:\n"
    "  iam-sidecar login --account acme --user ada            sign in, and keep the session\n"
    "  iam-sidecar login --mfa                                prove yourself: touch a key, or use a browser\n"
    "  iam-sidecar login --action payments:Refund --resource ARN    approve this one call\n"
    "  iam-sidecar login --role arn:aws:iam::111122223333:role/deploy --save-as deploy\n"
    '  eval "$(iam-sidecar login --format env)"               AWS_ACCESS_KEY_ID and the like for this shell\n'
    "  pass show ada | iam-sidecar login --account acme --user ada --password-stdin\n"
    "\n\b\n"
    "A session that still holds is used again. In ~/.aws/config, this line lets an AWS SDK ask for it:\n"
    "  credential_process = iam-sidecar login --profile deploy --format credential-process\n"
    "\n\b\n"
    "Without a terminal nothing is asked: what is needed and not stated is an error.\n"
    "Exit status: 0 done, 1 error, 2 wrong usage."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("login", epilog=_LOGIN_EXAMPLES)(login)
    app.command(
        "logout",
        epilog="\b\nExamples:\n  iam-sidecar logout\n  iam-sidecar logout --profile deploy\n  iam-sidecar logout --all",
    )(logout)


def _connect(
    *,
    address: Address = None,
    tls_ca: TlsCa = None,
    tls_client_cert: ClientCert = None,
    tls_client_key: ClientKey = None,
    tls_server_name: ServerName = None,
) -> Connection:
    """Return which sidecar to talk to; whoever signs in has no administrator's token."""
    return Connection(address, None, tls_ca, tls_client_cert, tls_client_key, tls_server_name)


_connected = with_options("connection", _connect)


@_connected
def login(
    *,
    account: Annotated[
        str, typer.Option("--account", metavar="ACCOUNT", help="Account id or alias to sign in to.", show_default=False)
    ] = "",
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Name of the user, without path.", show_default=False)
    ] = "",
    is_password_on_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, up to the end of the line.")
    ] = False,
    is_fresh: Annotated[bool, typer.Option("--fresh", help="Sign in anew, even if the session still holds.")] = False,
    is_mfa: Annotated[bool, typer.Option("--mfa", help="Prove a second factor in the session.")] = False,
    action: Annotated[
        str,
        typer.Option(
            "--action", metavar="ACTION", help="Prove it for this action alone, on --resource.", show_default=False
        ),
    ] = "",
    resource: Annotated[
        str,
        typer.Option("--resource", metavar="ARN", help="What the action is done on; * if nothing.", show_default=False),
    ] = "",
    method: Annotated[
        ProofMethod,
        typer.Option("--method", help="What to prove with; auto takes a key that is plugged in, else a browser."),
    ] = ProofMethod.AUTO,
    code: Annotated[
        str,
        typer.Option(
            "--code",
            metavar="CODE",
            help="A code, so that none is asked for: of the authenticator app, or with --method recovery.",
            show_default=False,
        ),
    ] = "",
    must_verify_user: Annotated[
        bool, typer.Option("--verify-user", help="The key has to verify you: by PIN or fingerprint.")
    ] = False,
    role: Annotated[
        str, typer.Option("--role", metavar="ARN", help="Assume this role from the session.", show_default=False)
    ] = "",
    role_session_name: Annotated[
        str,
        typer.Option(
            "--role-session-name",
            metavar="NAME",
            help="Name of the role's session. [default: your user name]",
            show_default=False,
        ),
    ] = "",
    duration: Annotated[
        int, typer.Option("--duration", metavar="SECONDS", help="How long the role's session lasts; 0: an hour.", min=0)
    ] = 0,
    save_as: Annotated[
        str,
        typer.Option(
            "--save-as",
            metavar="NAME",
            help="Profile for the role's session. [default: the role's name]",
            show_default=False,
        ),
    ] = "",
    form: Annotated[
        CredentialFormat, typer.Option("--format", help="How to print the credentials; text prints none.")
    ] = CredentialFormat.TEXT,
    origin: Annotated[
        str,
        typer.Option(
            "--origin",
            metavar="ORIGIN",
            help="Origin that the key is told; the sidecar has to allow it. [default: https:// and its --rp-id]",
            show_default=False,
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the key.", min=1, max=300)
    ] = 60,
    profile: Profile = None,
    sessions_file: SessionsFilePath = None,
    connection: Connection,
) -> None:
    """Sign in, prove a second factor, assume a role; and keep the session for what comes next."""
    from sidecar.cli.signing_in import SigningIn

    if code and method is ProofMethod.AUTO:
        method = ProofMethod.CODE
    desk = SigningIn(connection, _sessions_file_path(sessions_file))
    name = _profile_name(profile)
    kept = desk.sign_in(
        name, account=account, user_name=user, is_password_on_stdin=is_password_on_stdin, is_fresh=is_fresh
    )
    if is_mfa or action or resource or code:
        request = ProofRequest(
            action=action,
            resource=resource,
            method=method,
            code=code,
            must_verify_user=must_verify_user,
            origin=origin,
            seconds=timeout,
        )
        kept = desk.prove(name, kept, request)
    if role:
        source, name = name, save_as or role.rpartition("/")[2]
        if name == source:
            raise RequestError(
                f"profile `{name}` is what the role would be assumed from", help="name another one with --save-as"
            )
        kept = desk.assume(source, kept, name, role_arn=role, role_session_name=role_session_name, seconds=duration)
    print_credentials(kept.session, form, profile=name)


@_connected
def logout(
    *,
    is_all: Annotated[bool, typer.Option("--all", help="End the sessions of all profiles.")] = False,
    profile: Profile = None,
    sessions_file: SessionsFilePath = None,
    connection: Connection,
) -> None:
    """End a session, with every other one of the same sign-in, and forget them."""
    from sidecar.cli.signing_in import SigningIn

    desk = SigningIn(connection, _sessions_file_path(sessions_file))
    names = desk.names() if is_all else [_profile_name(profile)]
    ended = desk.sign_out(names)
    print_line(f"signed out: {', '.join(ended)}" if ended else "there was no session")


def _profile_name(stated: str | None) -> str:
    return stated or os.environ.get("IAM_SIDECAR_PROFILE") or _DEFAULT_PROFILE


def _sessions_file_path(stated: Path | None) -> Path:
    from sidecar.cli.sessions_file import default_sessions_file

    return stated or default_sessions_file(os.environ)
