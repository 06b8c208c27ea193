# SPDX-License-Identifier: Apache-2.0
"""Attestation format ``tpm`` (WebAuthn Level 3, section 8.3; TPM 2.0 Library, part 2)."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from sidecar.mfa.attestation.statement import (
    Given,
    read_algorithm,
    read_bytes,
    read_certificates,
    refuse_other_members,
)
from sidecar.mfa.certificates import Certificate, refuse_authority, verify_aaguid
from sidecar.mfa.cose import hash_of, is_signed_by
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.model.errors import (
    AttestationCertificateError,
    AttestationMismatchError,
    AttestationSignatureInvalidError,
    AttestationStatementMalformedError,
)

FORMAT = "tpm"

_GENERATED_VALUE = 0xFF544347
_ATTEST_CERTIFY = 0x8017
_ALG_RSA, _ALG_NULL, _ALG_ECC = 0x0001, 0x0010, 0x0023
_HASHES = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
_CURVES: dict[int, type[ec.EllipticCurve]] = {3: ec.SECP256R1, 4: ec.SECP384R1, 5: ec.SECP521R1}
_DEFAULT_EXPONENT = 65537

_AIK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.3")
_MANUFACTURER, _MODEL, _VERSION = (x509.ObjectIdentifier(f"2.23.133.2.{number}") for number in (1, 2, 3))
# SPEC: TCG EK Credential Profile 2.3, section 3.1.2: a vendor id is eight hexadecimal digits.
_TCG_ID = re.compile(r"id:[0-9A-Fa-f]{8}", re.ASCII)


class _Public(NamedTuple):
    """A TPMT_PUBLIC: the public area of a key."""

    name_algorithm: int
    key: ec.EllipticCurvePublicNumbers | rsa.RSAPublicNumbers


class _Certified(NamedTuple):
    """A TPMS_ATTEST of type TPM_ST_ATTEST_CERTIFY."""

    extra_data: bytes
    name: bytes


class _Reader:
    """
    Reads a structure of a TPM from front to back; its caller catches ``_TruncatedError``.

    Thread-safety: confined to one call.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        end = self._at + count
        if end > len(self._data):
            raise _TruncatedError
        found, self._at = self._data[self._at : end], end
        return found

    def number(self, width: int) -> int:
        """Return the next number of *width* bytes."""
        return int.from_bytes(self.take(width), "big")

    def sized(self) -> bytes:
        """Return the next buffer that says its size in two bytes."""
        return self.take(self.number(2))

    def end(self) -> None:
        """Return if everything was read."""
        if self._at != len(self._data):
            raise _TruncatedError


class _TruncatedError(Exception):
    """A structure ends too early or too late."""


def verify(given: Given) -> Attestation:
    """
    Return what the statement proves: only a chain to a TPM vendor's root makes it more than a claim.

    Raises:
        AttestationError: A subclass that says why it proves nothing.
    """
    refuse_other_members(given, "ver", "alg", "x5c", "sig", "certInfo", "pubArea")
    # SPEC: WebAuthn Level 3, section 8.3, syntax: the version is "2.0".
    if given.statement.get("ver") != "2.0":
        raise AttestationStatementMalformedError("`attStmt.ver` is not `2.0`")
    algorithm = read_algorithm(given)
    signature = read_bytes(given, "sig")
    certified_bytes, public_bytes = read_bytes(given, "certInfo"), read_bytes(given, "pubArea")
    certificates = read_certificates(given)
    try:
        public, certified = _read_public(_Reader(public_bytes)), _read_certified(_Reader(certified_bytes))
    except _TruncatedError:
        raise AttestationStatementMalformedError("a structure of the TPM cannot be read") from None
    # SPEC: WebAuthn Level 3, section 8.3, verification procedure: pubArea is the credential's key.
    key = given.key.key
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)) or key.public_numbers() != public.key:
        raise AttestationMismatchError("the key that the TPM speaks of is not the credential's")
    # SPEC: WebAuthn Level 3, section 8.3, verification procedure: extraData is the hash of attToBeSigned by `alg`.
    digest = hash_of(algorithm)
    if digest is None or certified.extra_data != _hashed(digest, given.signed):
        raise AttestationMismatchError("the TPM's statement was made for another ceremony")
    # SPEC: WebAuthn Level 3, section 8.3, verification procedure: the attested name is that of pubArea.
    name = hashlib.new(_HASHES[public.name_algorithm], public_bytes, usedforsecurity=False).digest()
    if certified.name != public.name_algorithm.to_bytes(2, "big") + name:
        raise AttestationMismatchError("the TPM's statement is about another key")
    # SPEC: WebAuthn Level 3, section 8.3, verification procedure: the signature, then section 8.3.1.
    if not is_signed_by(certificates[0].key, algorithm, signature, certified_bytes, allow_sha1=True):
        raise AttestationSignatureInvalidError("the statement is not signed with the attestation key")
    _verify_certificate(certificates[0], aaguid=given.attested.aaguid)
    return Attestation(
        format=FORMAT,
        type=AttestationType.CERTIFIED,
        algorithm=algorithm,
        certificates=tuple(certificate.der for certificate in certificates),
    )


def _hashed(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    return hashlib.new(algorithm.name, data, usedforsecurity=False).digest()


def _read_scheme(reader: _Reader) -> None:
    """Pass over a scheme and, where there is one, its hash."""
    if reader.number(2) != _ALG_NULL:
        reader.take(2)


def _read_public(reader: _Reader) -> _Public:
    kind, name_algorithm = reader.number(2), reader.number(2)
    if name_algorithm not in _HASHES:
        raise AttestationStatementMalformedError("the TPM's key is named by a hash that is not known here")
    reader.take(4)
    reader.sized()
    # A key that signs for a relying party encrypts nothing, so it has no symmetric part.
    if reader.number(2) != _ALG_NULL:
        raise AttestationStatementMalformedError("the TPM's key is not one for signing alone")
    _read_scheme(reader)
    key: ec.EllipticCurvePublicNumbers | rsa.RSAPublicNumbers
    if kind == _ALG_RSA:
        reader.take(2)
        exponent = reader.number(4) or _DEFAULT_EXPONENT
        modulus = int.from_bytes(reader.sized(), "big")
        key = rsa.RSAPublicNumbers(exponent, modulus)
    elif kind == _ALG_ECC:
        curve = _CURVES.get(reader.number(2))
        _read_scheme(reader)
        x, y = int.from_bytes(reader.sized(), "big"), int.from_bytes(reader.sized(), "big")
        if curve is None:
            raise AttestationStatementMalformedError("the TPM's key is on a curve that is not known here")
        key = ec.EllipticCurvePublicNumbers(x, y, curve())
    else:
        raise AttestationStatementMalformedError("the TPM's key is neither RSA nor on a curve")
    reader.end()
    return _Public(name_algorithm, key)


def _read_certified(reader: _Reader) -> _Certified:
    # SPEC: WebAuthn Level 3, section 8.3, verification procedure: magic and type.
    if reader.number(4) != _GENERATED_VALUE:
        raise AttestationMismatchError("the TPM's statement was not made inside a TPM")
    if reader.number(2) != _ATTEST_CERTIFY:
        raise AttestationMismatchError("the TPM's statement is not one about a key")
    reader.sized()
    extra_data = reader.sized()
    # Clock, counts of resets and restarts, whether the clock is safe, version of the firmware: said, not relied on.
    reader.take(8 + 4 + 4 + 1 + 8)
    name = reader.sized()
    reader.sized()
    reader.end()
    return _Certified(extra_data, name)


def _verify_certificate(leaf: Certificate, *, aaguid: bytes) -> None:
    # SPEC: WebAuthn Level 3, section 8.3.1.
    if not leaf.is_version_3:
        raise AttestationCertificateError("the attestation certificate is not of version 3")
    if len(leaf.subject.rdns) != 0:
        raise AttestationCertificateError("the attestation certificate of a TPM has a subject")
    if not _names_a_tpm(leaf):
        raise AttestationCertificateError("the attestation certificate names no maker, model and version of a TPM")
    usage = leaf.extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if usage is None or not isinstance(usage.value, x509.ExtendedKeyUsage) or _AIK_CERTIFICATE not in usage.value:
        raise AttestationCertificateError("the attestation certificate is not for the attestation key of a TPM")
    refuse_authority(leaf)
    verify_aaguid(leaf, aaguid=aaguid)


def _names_a_tpm(leaf: Certificate) -> bool:
    found = leaf.extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    if found is None or not isinstance(found.value, x509.SubjectAlternativeName):
        return False
    # With an empty subject the extension stands in for it, and so has to be critical (RFC 5280, section 4.2.1.6).
    if not found.critical:
        return False
    attributes: dict[x509.ObjectIdentifier, str | bytes] = {}
    for name in found.value.get_values_for_type(x509.DirectoryName):
        attributes.update({attribute.oid: attribute.value for attribute in name})
    manufacturer = attributes.get(_MANUFACTURER)
    return (
        isinstance(manufacturer, str)
        and _TCG_ID.fullmatch(manufacturer) is not None
        and bool(attributes.get(_MODEL))
        and bool(attributes.get(_VERSION))
    )
