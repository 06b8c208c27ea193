# SPDX-License-Identifier: Apache-2.0
"""
The flags that say which sidecar a command talks to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sidecar.model.errors import SettingsError
from sidecar.settings import default_state_dir

if TYPE_CHECKING:
    from sidecar.client.channels import Tls
    from sidecar.client.sessions import SessionClient
    from sidecar.client.step_up import StepUpClient
    from sidecar.transports.client import ManagementClient
    from sidecar.transports.mfa_client import MfaClient

_ClientT = TypeVar("_ClientT", bound="ManagementClient")

_DEFAULT_ADDRESS = "127.0.0.1:9192"

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Management listener of the sidecar: HOST:PORT or unix:PATH."
        f" [default: {_DEFAULT_ADDRESS}] [env: IAM_SIDECAR_ADDRESS]",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="The administrator's token. [default: admin.token in the state directory] [env: IAM_SIDECAR_TOKEN_FILE]",
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option("--tls-ca", metavar="FILE", help="Use TLS, and trust this authority (PEM). [env: IAM_SIDECAR_TLS_CA]"),
]
ClientCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-client-cert", metavar="FILE", help="Our own certificate (PEM). [env: IAM_SIDECAR_TLS_CLIENT_CERT]"
    ),
]
ClientKey = Annotated[
    Path | None,
    typer.Option("--tls-client-key", metavar="FILE", help="Its key (PEM). [env: IAM_SIDECAR_TLS_CLIENT_KEY]"),
]
ServerName = Annotated[
    str | None,
    typer.Option(
        "--tls-server-name",
        metavar="NAME",
        help="Name in the sidecar's certificate, where it is not the address. [env: IAM_SIDECAR_TLS_SERVER_NAME]",
    ),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """Which sidecar to talk to, as stated by flags; what is None comes from the environment, or a default."""

    address: Address = None
    token_file: TokenFile = None
    tls_ca: TlsCa = None
    tls_client_cert: ClientCert = None
    tls_client_key: ClientKey = None
    tls_server_name: ServerName = None

    @property
    def is_stated(self) -> bool:
        """Whether any flag names a sidecar."""
        return self.address is not None or self.token_file is not None

    def open(self, *, timeout: float = 30.0) -> ManagementClient:
        """
        Return a client, whose calls may take *timeout* seconds.

        Raises:
            SettingsError: The token or a certificate cannot be read.
        """
        from sidecar.transports.client import ManagementClient

        return self._open(ManagementClient, timeout)

    def open_mfa(self, *, timeout: float = 30.0) -> MfaClient:
        """
        Return a client for calls about second factors, which may take *timeout* seconds.

        Raises:
            SettingsError: The token or a certificate cannot be read.
        """
        from sidecar.transports.mfa_client import MfaClient

        return self._open(MfaClient, timeout)

    def address_or(self, known: str) -> str:
        """Return the address that is stated, else *known*, else the default."""
        return self.address or os.environ.get("IAM_SIDECAR_ADDRESS") or known or _DEFAULT_ADDRESS

    def open_sessions(self, known_address: str, *, timeout: float = 30.0) -> SessionClient:
        """
        Return a client for calls about sessions, which takes no administrator.

        Args:
            known_address: Where the session came from; what is stated wins over it.

        Raises:
            SettingsError: The address is none, or a certificate cannot be read.
        """
        from sidecar.client.sessions import SessionClient

        return SessionClient(self._target(known_address), tls=self._client_tls(), timeout=timeout)

    def open_step_up(self, known_address: str, *, timeout: float = 30.0) -> StepUpClient:
        """
        Return a client for challenges, which takes no administrator.

        Args:
            known_address: Where the session came from; what is stated wins over it.

        Raises:
            SettingsError: The address is none, or a certificate cannot be read.
        """
        from sidecar.client.step_up import StepUpClient

        return StepUpClient(self._target(known_address), tls=self._client_tls(), timeout=timeout)

    def _target(self, known_address: str) -> str:
        from sidecar.transports.addresses import parse_address

        return str(parse_address(self.address_or(known_address)))

    def _open(self, kind: type[_ClientT], timeout: float) -> _ClientT:
        from sidecar.services.admin_token import TOKEN_FILE, read_admin_token
        from sidecar.transports.client import ClientTls

        stated = self._client_tls()
        tls = (
            None if stated is None else ClientTls(stated.ca or b"", stated.certificate, stated.key, stated.server_name)
        )
        state_dir = _path("IAM_SIDECAR_STATE_DIR") or default_state_dir(os.environ)
        token_file = self.token_file or _path("IAM_SIDECAR_TOKEN_FILE") or state_dir / TOKEN_FILE
        return kind(address=self.address_or(""), token=read_admin_token(token_file), tls=tls, timeout=timeout)

    def _client_tls(self) -> Tls | None:
        from sidecar.client.channels import Tls

        ca = self.tls_ca or _path("IAM_SIDECAR_TLS_CA")
        if ca is None:
            return None
        certificate = self.tls_client_cert or _path("IAM_SIDECAR_TLS_CLIENT_CERT")
        key = self.tls_client_key or _path("IAM_SIDECAR_TLS_CLIENT_KEY")
        if (certificate is None) != (key is None):
            raise SettingsError(
                "a client certificate needs its key", help="name both --tls-client-cert and --tls-client-key"
            )
        return Tls(
            ca=_read(ca),
            certificate=None if certificate is None else _read(certificate),
            key=None if key is None else _read(key),
            server_name=self.tls_server_name or os.environ.get("IAM_SIDECAR_TLS_SERVER_NAME", ""),
        )


def _path(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None
