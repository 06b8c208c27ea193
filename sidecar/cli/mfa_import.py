# SPDX-License-Identifier: Apache-2.0
"""
``iam-sidecar mfa import``: devices that another system enrolled, put into the store.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.mfa_store import AsJson, StoreOptions, on_store, opened_store, terminal_caller
from sidecar.cli.output import count_of, print_json, print_line
from sidecar.model.errors import SourceUnavailableError

if TYPE_CHECKING:
    from sidecar.core import Image
    from sidecar.services.known_users import KnowsUser
    from sidecar.settings import Settings

_EPILOG = """\b
Examples:
  iam-sidecar mfa import --check devices.yaml
  iam-sidecar mfa import --snapshot policies devices.yaml
  vault kv get -field=devices secret/mfa | iam-sidecar mfa import -

\b
The document, in YAML or JSON:
  devices:
    - user_arn: arn:aws:iam::111122223333:user/ada
      kind: totp
      serial_number: GAHT12345678     # of its maker, or arn:...:mfa/NAME
      secret: JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP   # base32; or secret_hex
      algorithm: SHA1                 # or SHA256, SHA512; default SHA1
      digits: 6                       # nothing else is accepted
      period: 30                      # nothing else is accepted
      drift_steps: 0                  # steps its clock is ahead, if known
    - user_arn: arn:aws:iam::111122223333:user/ada
      kind: u2f
      app_id: https://example.org     # that the key was registered with
      key_handle: ZXhhbXBsZQ          # base64 or base64url, as the next
      public_key: BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU
      sign_count: 12                  # the last one that was seen
\b
A U2F key may also stand as registration and client_data, as the U2F API gave
them; its attestation is verified then. Each device may have a name.

\b
What a TOTP device has shown up to now is spent. Nothing is imported unless
everything can be. The document holds seeds: delete it afterwards."""


def add_to(group: typer.Typer) -> None:
    """Add the command."""
    group.command("import", epilog=_EPILOG)(import_devices)


@on_store
def import_devices(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Document that lists the devices; - is standard input.", show_default=False
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Say whether it could be imported, and change nothing.")
    ] = False,
    allow_short_seeds: Annotated[
        bool,
        typer.Option("--allow-short-seeds", help="Let TOTP seeds of 80 to 127 bits in, which RFC 4226 does not allow."),
    ] = False,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--snapshot",
            metavar="PATH",
            help="Source or image: users that it does not have are refused. [default: all]",
        ),
    ] = None,
    store: StoreOptions,
    as_json: AsJson = False,
) -> None:
    """Import devices that another system enrolled: TOTP seeds and U2F registrations."""
    data, where = _read(file), "standard input" if str(file) == "-" else str(file)
    settings = store.load()
    knows_user = _knows_user(snapshot)
    is_new = not settings.store_url and not (settings.state_dir / "mfa.db").exists()
    if check:
        count = _check(settings, data, where, allow_short_seeds=allow_short_seeds, is_new=is_new, knows_user=knows_user)
        if as_json:
            print_json({"devices": count})
        else:
            print_line(f"{count_of(count, 'device')} can be imported")
        return
    with opened_store(settings, knows_user=knows_user, must_exist=not is_new) as services:
        devices = services.importing.import_devices(
            terminal_caller(), data, where=where, allow_short_seeds=allow_short_seeds
        )
    if as_json:
        print_json(
            [{"serial_number": one.serial_number, "user_arn": one.user_arn, "kind": one.kind} for one in devices]
        )
        return
    for device in devices:
        print_line(f"{device.kind:<9} {device.serial_number}  {device.user_arn}")
    sys.stderr.write(f"imported {count_of(len(devices), 'device')}; the document holds seeds: delete it\n")


def _check(
    settings: Settings, data: bytes, where: str, *, allow_short_seeds: bool, is_new: bool, knows_user: KnowsUser
) -> int:
    with tempfile.TemporaryDirectory() as folder:
        if is_new:
            # There is no store yet, and checking makes none: the document is held against an empty one.
            settings = dataclasses.replace(
                settings, state_dir=Path(folder), mfa_key_file=None, mfa_key_command="", audit_log=None
            )
        with opened_store(settings, knows_user=knows_user, must_exist=not is_new) as services:
            return services.importing.check(data, where=where, allow_short_seeds=allow_short_seeds)


def _knows_user(snapshot: Path | None) -> KnowsUser:
    from sidecar.services.known_users import KnownUsers, know_everybody
    from sidecar.services.snapshots import read_snapshot

    if snapshot is None:
        return know_everybody
    return KnownUsers(_Loaded(read_snapshot(snapshot, now=int(time.time()))[0]))


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """A snapshot that stays."""

    image: Image | None


def _read(path: Path) -> bytes:
    from sidecar.services.import_document import MAX_DOCUMENT_BYTES

    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1)
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise SourceUnavailableError(
            f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}",
            help="name a file, or - for standard input",
        ) from None
