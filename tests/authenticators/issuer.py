# SPDX-License-Identifier: Apache-2.0
"""
A maker of authenticators: a root, and attestation certificates under it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC)
AAGUID_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")

NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)

PublicKey = ec.EllipticCurvePublicKey


def authenticator_name(common_name: str = "Soft Authenticator") -> x509.Name:
    """Give the subject that an attestation certificate has to have."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Soft Keys"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Authenticator Attestation"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


class Issuer:
    """
    A certificate authority with a key of its own; without a parent it is a root.

    Attributes:
        certificate: Its own.
    """

    def __init__(
        self,
        name: str = "Soft Root",
        *,
        parent: Issuer | None = None,
        path_length: int | None = None,
        is_authority: bool = True,
        critical: bool = True,
        begin: datetime.datetime = BEGIN,
        end: datetime.datetime = END,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=is_authority, path_length=path_length if is_authority else None)
        self.certificate = (parent or self).issue(
            self.key.public_key(), subject=self.name, constraints=constraints, critical=critical, begin=begin, end=end
        )

    @property
    def der(self) -> bytes:
        """Its own certificate, in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        key: PublicKey,
        *,
        subject: x509.Name | None = None,
        aaguid: bytes | None = None,
        constraints: x509.BasicConstraints | None = NO_AUTHORITY,
        critical: bool = True,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        begin: datetime.datetime = BEGIN,
        end: datetime.datetime = END,
        serial: int | None = None,
    ) -> x509.Certificate:
        """Give a certificate for *key*, fit for an authenticator unless the arguments say otherwise."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(authenticator_name() if subject is None else subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=critical)
        if aaguid is not None:
            value = x509.UnrecognizedExtension(AAGUID_EXTENSION, b"\x04\x10" + aaguid)
            builder = builder.add_extension(value, critical=False)
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self.key, hashes.SHA256())

    def batch(self, *, aaguid: bytes | None = None) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
        """Give an attestation key, and its certificate in DER."""
        key = ec.generate_private_key(ec.SECP256R1())
        return key, self.issue(key.public_key(), aaguid=aaguid).public_bytes(Encoding.DER)
