# SPDX-License-Identifier: Apache-2.0
"""
What every attestation format is given, and how the parts that several of them share are read.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.mfa import cbor
from sidecar.mfa.authenticator_data import AttestedData
from sidecar.mfa.certificates import Certificate, read_certificate
from sidecar.mfa.cose import PublicKey
from sidecar.model.errors import AttestationStatementMalformedError

#: Certificates that one statement may carry.
MAX_CERTIFICATES = 8


class Given(NamedTuple):
    """
    The inputs of every verification procedure (WebAuthn Level 3, section 8).

    Attributes:
        statement: ``attStmt``.
        authenticator_data: As the authenticator signed it.
        rp_id_hash: Part of the authenticator data.
        attested: Part of the authenticator data.
        client_data_hash: SHA-256 of the client data.
        key: The credential's public key.
    """

    statement: dict[int | str, cbor.Value]
    authenticator_data: bytes
    rp_id_hash: bytes
    attested: AttestedData
    client_data_hash: bytes
    key: PublicKey

    @property
    def signed(self) -> bytes:
        """What most formats sign: authenticator data, then the hash of the client data."""
        return self.authenticator_data + self.client_data_hash


def read_bytes(given: Given, name: str) -> bytes:
    """Return the member *name* of the statement, or raise ``AttestationStatementMalformedError``."""
    value = given.statement.get(name)
    if not isinstance(value, bytes):
        raise AttestationStatementMalformedError(f"`attStmt.{name}` is missing or not bytes")
    if not value:
        raise AttestationStatementMalformedError(f"`attStmt.{name}` is empty")
    return value


def read_algorithm(given: Given) -> int:
    """Return the COSE algorithm of the statement, or raise ``AttestationStatementMalformedError``."""
    value = given.statement.get("alg")
    if type(value) is not int:
        raise AttestationStatementMalformedError("`attStmt.alg` is missing or not an integer")
    return value


def read_certificates(given: Given) -> tuple[Certificate, ...]:
    """
    Return the certificates of the statement, that of the attestation key first.

    Raises:
        AttestationStatementMalformedError: There is no list of certificates, or it is empty or too long.
        AttestationCertificateError: One of them cannot be read.
    """
    value = given.statement.get("x5c")
    if not isinstance(value, list):
        raise AttestationStatementMalformedError("`attStmt.x5c` is missing or not a list")
    if not 1 <= len(value) <= MAX_CERTIFICATES:
        raise AttestationStatementMalformedError(f"`attStmt.x5c` has not 1 to {MAX_CERTIFICATES} certificates")
    found = []
    for der in value:
        if not isinstance(der, bytes):
            raise AttestationStatementMalformedError("`attStmt.x5c` holds something that is not bytes")
        found.append(read_certificate(der))
    return tuple(found)


def refuse_other_members(given: Given, *names: str) -> None:
    """Return if the statement has no member but *names*, or raise ``AttestationStatementMalformedError``."""
    if other := given.statement.keys() - set(names):
        raise AttestationStatementMalformedError(f"`attStmt` has {len(other)} members that its format does not know")
