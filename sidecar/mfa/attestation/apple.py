# SPDX-License-Identifier: Apache-2.0
"""Attestation format ``apple``: anonymous attestation (WebAuthn Level 3, section 8.8)."""

from __future__ import annotations

import hashlib

from cryptography import x509

from sidecar.mfa import der
from sidecar.mfa.attestation.statement import Given, read_certificates, refuse_other_members
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.model.errors import AttestationCertificateError, AttestationMismatchError

FORMAT = "apple"

_NONCE = x509.ObjectIdentifier("1.2.840.113635.100.8.2")


def verify(given: Given) -> Attestation:
    """
    Return what the statement proves: only a chain to Apple's root makes it more than a claim.

    Raises:
        AttestationError: A subclass that says why it proves nothing.
    """
    # Apple's first devices also sent `alg`, which the format does not have.
    refuse_other_members(given, "x5c", "alg")
    certificates = read_certificates(given)
    # SPEC: WebAuthn Level 3, section 8.8, verification procedure, steps 2 to 4.
    if _nonce(certificates[0].extension_bytes(_NONCE)) != hashlib.sha256(given.signed).digest():
        raise AttestationMismatchError("the attestation certificate was made for another ceremony")
    # SPEC: WebAuthn Level 3, section 8.8, verification procedure, step 5.
    if certificates[0].key != given.key.key:
        raise AttestationMismatchError("the attestation certificate is for another key")
    return Attestation(
        format=FORMAT,
        type=AttestationType.CERTIFIED,
        certificates=tuple(certificate.der for certificate in certificates),
    )


def _nonce(extension: bytes | None) -> bytes:
    inner = der.read_one(extension, der.SEQUENCE) if extension is not None else None
    wrapped = der.read_one(inner, der.context_tag(1)) if inner is not None else None
    found = der.read_octets(wrapped) if wrapped is not None else None
    if found is None:
        raise AttestationCertificateError("the attestation certificate holds no nonce")
    return found
