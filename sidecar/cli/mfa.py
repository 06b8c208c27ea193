# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar mfa``: second factors of a person, by way of a running sidecar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli import mfa_import, mfa_store
from sidecar.cli.connection import Connection
from sidecar.cli.options import with_options
from sidecar.cli.output import print_json, print_line
from sidecar.cli.terminal import Terminal, ask, tell
from sidecar.model.errors import RequestError

if TYPE_CHECKING:
    from sidecar.transports.mfa_client import DeviceFacts

User = Annotated[
    str, typer.Option("--user", metavar="ARN", help="Whose device: arn:aws:iam::ACCOUNT:user/NAME.", show_default=False)
]
Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="What to call the device, such as phone.", show_default=False)
]
Serial = Annotated[
    str, typer.Option("--serial", metavar="SERIAL", help="Serial number, as `mfa list` shows it.", show_default=False)
]
Code = Annotated[
    list[str] | None,
    typer.Option("--code", metavar="CODE", help="A code of the device; twice, in order. Asked for if not given."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_mfa = typer.Typer(
    name="mfa", help="Second factors: authenticator apps, security keys, recovery codes.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
_enrol = typer.Typer(name="enrol", help="Enrol a device for a person.", no_args_is_help=True, rich_markup_mode=None)
_connected = with_options("connection", Connection)
_ADA = "--user arn:aws:iam::111122223333:user/ada"


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    _mfa.add_typer(_enrol)
    mfa_store.add_to(_mfa)
    mfa_import.add_to(_mfa)
    app.add_typer(_mfa)


@_mfa.command("list", epilog=f"\b\nExamples:\n  iam-sidecar mfa list {_ADA}")
@_connected
def list_devices(
    *,
    user: User,
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """List the devices of a person."""
    with connection.open_mfa() as client:
        devices = client.list_devices(user)
    if as_json:
        print_json([_device_to_json(device) for device in devices])
        return
    if not devices:
        print_line("no devices")
    for device in devices:
        print_line(f"{device.kind:<9} {device.serial_number}")
        used = _time(device.last_used_at_ms) if device.last_used_at_ms else "never"
        print_line(f"          enabled {_time(device.enabled_at_ms)}, last used {used}")


@_enrol.command("totp", epilog=f"\b\nExamples:\n  iam-sidecar mfa enrol totp {_ADA} --name phone")
@_connected
def enrol_totp(
    *,
    user: User,
    name: Name,
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """Enrol an authenticator app: shows a QR code, then asks for two codes in a row."""
    with connection.open_mfa() as client:
        enrolment = client.begin_totp(user, name)
        _show_qr(enrolment.otpauth_uri)
        tell(f"scan this with the authenticator app, or type the key {_in_groups(enrolment.secret_base32)}")
        tell("it is shown this once, and has to be confirmed within five minutes")
        device = client.confirm_totp(enrolment.serial_number, *_ask_codes(None))
    _print_device(device, as_json=as_json)


@_enrol.command("key", epilog=f"\b\nExamples:\n  iam-sidecar mfa enrol key {_ADA} --name yubikey")
@_connected
def enrol_key(
    *,
    user: User,
    name: Name,
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
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """Enrol a security key that is plugged in, or lies on a reader."""
    import json

    from sidecar.cli import security_keys

    devices = security_keys.find_devices()
    try:
        with connection.open_mfa() as client:
            ceremony = client.begin_key(user, name)
            rp_id = json.loads(ceremony.options_json)["rp"]["id"]
            response_json = security_keys.register_key(
                devices,
                ceremony.options_json,
                origin=origin or f"https://{rp_id}",
                person=Terminal(),
                seconds=min(timeout, ceremony.expires_at_ms / 1000 - time.time()),
            )
            device = client.finish_key(ceremony.ceremony_id, response_json)
    finally:
        security_keys.close_devices(devices)
    _print_device(device, as_json=as_json)


@_mfa.command("resync", epilog="\b\nExamples:\n  iam-sidecar mfa resync --serial arn:aws:iam::111122223333:mfa/phone")
@_connected
def resync(
    *,
    serial: Serial,
    code: Code = None,
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """Bring a TOTP device back in step whose clock is off, by two codes in a row."""
    with connection.open_mfa() as client:
        device = client.resync_totp(serial, *_ask_codes(code))
    _print_device(device, as_json=as_json)


@_mfa.command("recovery-codes", epilog=f"\b\nExamples:\n  iam-sidecar mfa recovery-codes {_ADA}")
@_connected
def recovery_codes(
    *,
    user: User,
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """Make new recovery codes; those from before are worth nothing any more."""
    with connection.open_mfa() as client:
        codes = client.generate_recovery_codes(user)
    if as_json:
        print_json({"codes": codes})
        return
    for code in codes:
        print_line(code)
    tell("each works once; they are not shown again, so print them and keep them where no computer is")


@_mfa.command(
    "deactivate", epilog="\b\nExamples:\n  iam-sidecar mfa deactivate --serial arn:aws:iam::111122223333:mfa/phone"
)
@_connected
def deactivate(
    *,
    serial: Serial,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    connection: Connection,
) -> None:
    """Delete a device; with the last one of a person, the recovery codes go too."""
    if not yes:
        typer.confirm(f"delete {serial}?", abort=True, err=True)
    with connection.open_mfa() as client:
        client.deactivate_device(serial)
    tell("deactivated")


def _ask_codes(stated: Sequence[str] | None) -> tuple[str, str]:
    if stated:
        if len(stated) != 2:
            raise RequestError("two codes are needed, one after the other", field="--code")
        return stated[0], stated[1]
    return ask("code"), ask("the code after that")


def _show_qr(text: str) -> None:
    from sidecar.transports.qr import qr_terminal

    # On standard error, so that what is piped on holds no seed.
    sys.stderr.write(qr_terminal(text) if sys.stderr.isatty() else "")
    if not sys.stderr.isatty():
        tell(text)


def _in_groups(secret: str) -> str:
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))


def _print_device(device: DeviceFacts, *, as_json: bool) -> None:
    if as_json:
        print_json(_device_to_json(device))
    else:
        print_line(device.serial_number)


def _device_to_json(device: DeviceFacts) -> dict[str, object]:
    return {
        "serial_number": device.serial_number,
        "user_arn": device.user_arn,
        "kind": device.kind,
        "name": device.name,
        "enabled_at_unix_ms": device.enabled_at_ms,
        "last_used_at_unix_ms": device.last_used_at_ms,
    }


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
