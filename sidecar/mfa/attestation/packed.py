# SPDX-License-Identifier: Apache-2.0
"""Attestation format ``packed``, self attestation included (WebAuthn Level 3, section 8.2)."""

from __future__ import annotations

from sidecar.mfa.attestation.statement import (
    Given,
    read_algorithm,
    read_bytes,
    read_certificates,
    refuse_other_members,
)
from sidecar.mfa.certificates import verify_leaf
from sidecar.mfa.cose import is_signed_by
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.model.errors import AttestationMismatchError, AttestationSignatureInvalidError

FORMAT = "packed"


def verify(given: Given) -> Attestation:
    """
    Return what the statement proves.

    Raises:
        AttestationError: A subclass that says why it proves nothing.
    """
    refuse_other_members(given, "alg", "sig", "x5c")
    algorithm = read_algorithm(given)
    signature = read_bytes(given, "sig")
    if "x5c" in given.statement:
        certificates = read_certificates(given)
        # SPEC: WebAuthn Level 3, section 8.2, verification procedure, "if x5c is present".
        if not is_signed_by(certificates[0].key, algorithm, signature, given.signed):
            raise AttestationSignatureInvalidError("the statement is not signed with the attestation key")
        verify_leaf(certificates[0], aaguid=given.attested.aaguid)
        return Attestation(
            format=FORMAT,
            type=AttestationType.CERTIFIED,
            algorithm=algorithm,
            certificates=tuple(certificate.der for certificate in certificates),
        )
    # SPEC: WebAuthn Level 3, section 8.2, verification procedure, "if x5c is not present".
    if algorithm != given.key.algorithm:
        raise AttestationMismatchError("the statement is signed by another algorithm than the credential has")
    if not is_signed_by(given.key.key, algorithm, signature, given.signed):
        raise AttestationSignatureInvalidError("the statement is not signed with the credential's key")
    return Attestation(format=FORMAT, type=AttestationType.SELF, algorithm=algorithm)
