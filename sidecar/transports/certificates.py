# SPDX-License-Identifier: Apache-2.0
"""
Certificates of the management listener, which may be renewed while it runs.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from sidecar.model.errors import SettingsError
from sidecar.services.log import Log

#: Size, time and inode of each file: what changes when a file is renewed.
_Marks = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """
    Material for TLS, in PEM.

    Attributes:
        certificate: Certificate, or chain of certificates.
        key: Private key of the first of them.
        client_ca: Certificates whose holders alone may connect; None asks no client for one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        return (self.certificate, self.key, *(() if self.client_ca is None else (self.client_ca,)))


def server_credentials(files: TlsFiles, log: Log) -> grpc.ServerCredentials:
    """
    Return credentials that follow the files: renewed ones count from the next connection on.

    Renewed files that cannot be used leave the ones before them in force.

    Raises:
        SettingsError: A file cannot be read, or they do not belong together.
    """
    try:
        marks = _marks(files)
        configuration = _configuration(files)
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else files.certificate
        raise SettingsError(f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    return grpc.dynamic_ssl_server_credentials(
        configuration,
        # None, for no change, is what the stubs do not know of.
        _renewal(files, marks, log),  # type: ignore[arg-type]
        require_client_authentication=files.client_ca is not None,
    )


def _renewal(files: TlsFiles, marks: _Marks, log: Log) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """Return what grpcio asks before each handshake: a configuration, or None for the one in force."""
    known = marks

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        try:
            now = _marks(files)
            if now == known:
                return None
            configuration = _configuration(files)
        except (OSError, SettingsError) as error:
            log.error("certificate_renewal_failed", cause=str(error))
            return None
        known = now
        log.info("certificate_renewed")
        return configuration

    return fetch


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    # grpcio would tell no more than that handshakes fail.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key, password=b"")
    except ssl.SSLError:
        raise SettingsError(
            f"`{files.certificate}` and `{files.key}` are no certificate and its key",
            help="both are PEM, and the key has no passphrase",
        ) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError:
            raise SettingsError(f"`{files.client_ca}` holds no certificate", help="it is PEM") from None
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)


def _marks(files: TlsFiles) -> _Marks:
    found = (path.stat() for path in files.paths)
    return tuple((status.st_size, status.st_mtime_ns, status.st_ino) for status in found)
