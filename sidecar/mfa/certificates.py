# SPDX-License-Identifier: Apache-2.0
"""
X.509 certificates of attestations and of the FIDO metadata: reading them, and following them to a trusted root.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from sidecar.mfa import der as der_reader
from sidecar.mfa.cose import MAX_RSA_EXPONENT
from sidecar.model.errors import (
    AttestationCertificateError,
    AttestationExpiredError,
    AttestationMismatchError,
    AttestationUntrustedError,
)

MAX_CERTIFICATE_BYTES = 16 * 1024

#: What reading a hostile certificate can raise, at whichever member it goes wrong. The library warns of certificates
#: that it finds odd or will refuse one day; where warnings are errors, such a certificate cannot be read.
_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)

_AAGUID = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")

#: Critical extensions that ``verify_chain`` heeds, or that say nothing about a path.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    A certificate of which every part that is looked at could be read.

    Thread-safety: immutable.

    Attributes:
        key: Public key; of RSA it has 2048 to 4096 bits.
        extensions: By object identifier.
        not_before: With time zone.
    """

    der: bytes
    parsed: x509.Certificate
    key: object
    subject: x509.Name
    issuer: x509.Name
    extensions: dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]
    not_before: datetime.datetime
    not_after: datetime.datetime

    @property
    def is_version_3(self) -> bool:
        """Whether it has extensions at all."""
        return self.parsed.version is x509.Version.v3

    @property
    def basic_constraints(self) -> x509.BasicConstraints | None:
        """What it says about being a certificate authority, if anything."""
        found = self.extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
        return found.value if found is not None and isinstance(found.value, x509.BasicConstraints) else None

    def subject_attribute(self, oid: x509.ObjectIdentifier) -> str:
        """Return an attribute of the subject; empty if it is missing, stands twice or is not text."""
        values = [attribute.value for attribute in self.subject.get_attributes_for_oid(oid)]
        return values[0] if len(values) == 1 and isinstance(values[0], str) else ""

    def extension_bytes(self, oid: x509.ObjectIdentifier) -> bytes | None:
        """Return the value of an extension that the library does not know, or None if it is missing."""
        found = self.extensions.get(oid)
        return found.value.value if found is not None and isinstance(found.value, x509.UnrecognizedExtension) else None


def read_certificate(der: bytes) -> Certificate:
    """
    Return the certificate in *der*.

    Raises:
        AttestationCertificateError: It cannot be read, or has a key that nothing here verifies with.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise AttestationCertificateError(f"a certificate is longer than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        found = x509.load_der_x509_certificate(der)
        key = found.public_key()
        certificate = Certificate(
            der,
            found,
            key,
            found.subject,
            found.issuer,
            {extension.oid: extension for extension in found.extensions},
            found.not_valid_before_utc,
            found.not_valid_after_utc,
        )
        found.version  # noqa: B018 - a version that does not exist raises here, not later
    except _UNREADABLE:
        raise AttestationCertificateError("a certificate cannot be read") from None
    if isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= 4096 or key.public_numbers().e > MAX_RSA_EXPONENT:
            raise AttestationCertificateError("the key of a certificate is too short or too long")
    elif not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        raise AttestationCertificateError("the key of a certificate is of a type that signs no attestation")
    return certificate


def verify_leaf(leaf: Certificate, *, aaguid: bytes) -> None:
    """
    Return if *leaf* may vouch for an authenticator of model *aaguid* (WebAuthn Level 3, section 8.2.1).

    Raises:
        AttestationCertificateError: It lacks something that such a certificate has to have.
        AttestationMismatchError: It is for another model.
    """
    # SPEC: WebAuthn Level 3, section 8.2.1.
    if not leaf.is_version_3:
        raise AttestationCertificateError("the attestation certificate is not of version 3")
    country = leaf.subject_attribute(NameOID.COUNTRY_NAME)
    if len(country) != 2 or not country.isascii() or not country.isalpha():
        raise AttestationCertificateError("the subject of the attestation certificate names no country")
    if not leaf.subject_attribute(NameOID.ORGANIZATION_NAME):
        raise AttestationCertificateError("the subject of the attestation certificate names no organization")
    if leaf.subject_attribute(NameOID.ORGANIZATIONAL_UNIT_NAME) != "Authenticator Attestation":
        raise AttestationCertificateError("the subject of the attestation certificate has another unit")
    if not leaf.subject_attribute(NameOID.COMMON_NAME):
        raise AttestationCertificateError("the subject of the attestation certificate has no common name")
    refuse_authority(leaf)
    verify_aaguid(leaf, aaguid=aaguid)


def refuse_authority(leaf: Certificate) -> None:
    """Return if *leaf* says that it is no certificate authority, or raise ``AttestationCertificateError``."""
    constraints = leaf.basic_constraints
    if constraints is None or constraints.ca:
        raise AttestationCertificateError("the attestation certificate does not say that it is no authority")


def verify_aaguid(leaf: Certificate, *, aaguid: bytes) -> None:
    """
    Return if *leaf* names no authenticator model, or *aaguid*.

    Raises:
        AttestationCertificateError: The extension that names it is critical or cannot be read.
        AttestationMismatchError: It names another.
    """
    value = leaf.extension_bytes(_AAGUID)
    if value is None:
        return
    if leaf.extensions[_AAGUID].critical:
        raise AttestationCertificateError("the extension that names the authenticator model is critical")
    named = der_reader.read_octets(value)
    if named is None:
        raise AttestationCertificateError("the extension that names the authenticator model cannot be read")
    if named != aaguid:
        raise AttestationMismatchError("the attestation certificate is for another authenticator model")


def verify_chain(
    chain: Sequence[Certificate],
    anchors: Sequence[Certificate],
    *,
    now: float,
    may_hold_root: bool = False,
) -> None:
    """
    Return if *chain* leads to one of *anchors*, each certificate issued by the next and the last by an anchor.

    A single certificate may be an anchor itself.

    Args:
        chain: The attestation certificate first.
        anchors: Trusted by themselves; their dates are not looked at (RFC 5280, section 6.1.1).
        now: Seconds since the epoch. The caller owns the clock.
        may_hold_root: Whether *chain* may end in the root, which is for others to know.

    Raises:
        AttestationExpiredError: A certificate is not valid at that time.
        AttestationUntrustedError: It does not lead to an anchor.
    """
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    for certificate in chain:
        if not certificate.not_before <= moment <= certificate.not_after:
            raise AttestationExpiredError("a certificate of the attestation is not valid at this time")
        if any(found.critical and oid not in _UNDERSTOOD for oid, found in certificate.extensions.items()):
            raise AttestationUntrustedError("a certificate has a critical extension that is not understood")
    for below, (certificate, issuer) in enumerate(zip(chain, chain[1:], strict=False)):
        _verify_issued(certificate, issuer, below=below)
    last = chain[-1]
    if any(last.der == anchor.der for anchor in anchors):
        # A root that comes with the chain proves nothing, and a client that sends it is not one that was certified.
        if len(chain) > 1 and last.subject == last.issuer and not may_hold_root:
            raise AttestationUntrustedError("the certificates include the root")
        return
    for anchor in anchors:
        if anchor.subject == last.issuer:
            try:
                _verify_issued(last, anchor, below=len(chain) - 1)
            except AttestationUntrustedError:
                continue
            return
    raise AttestationUntrustedError("the attestation certificate does not lead to a trusted root")


def _verify_issued(certificate: Certificate, issuer: Certificate, *, below: int) -> None:
    """Return if *issuer* may issue *certificate* with *below* authorities under it, and did."""
    constraints = issuer.basic_constraints
    if constraints is None or not constraints.ca:
        raise AttestationUntrustedError("a certificate was issued by one that is no authority")
    if constraints.path_length is not None and below > constraints.path_length:
        raise AttestationUntrustedError("there are more certificates than an authority allows below it")
    usage = issuer.extensions.get(ExtensionOID.KEY_USAGE)
    if usage is not None and isinstance(usage.value, x509.KeyUsage) and not usage.value.key_cert_sign:
        raise AttestationUntrustedError("a certificate was issued with a key that is not for that")
    try:
        if isinstance(certificate.parsed.signature_hash_algorithm, (hashes.MD5, hashes.SHA1)):
            raise AttestationUntrustedError("a certificate is signed over a broken hash")
        certificate.parsed.verify_directly_issued_by(issuer.parsed)
    except (InvalidSignature, *_UNREADABLE):
        raise AttestationUntrustedError("a certificate was not issued by the next one") from None
