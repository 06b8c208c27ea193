# SPDX-License-Identifier: Apache-2.0
"""Attestation format ``fido-u2f``: U2F keys, registered through WebAuthn (WebAuthn Level 3, section 8.6)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.mfa.attestation.statement import Given, read_bytes, read_certificates, refuse_other_members
from sidecar.mfa.cose import ES256, is_signed_by
from sidecar.mfa.credential import Attestation, AttestationType
from sidecar.model.errors import (
    AttestationCertificateError,
    AttestationMismatchError,
    AttestationSignatureInvalidError,
    AttestationStatementMalformedError,
)

FORMAT = "fido-u2f"


def verify(given: Given, *, require_zero_aaguid: bool = False) -> Attestation:
    """
    Return what the statement proves.

    Args:
        require_zero_aaguid: Refuse a U2F key that names a model. FIDO's conformance list wants that; the test
            vector of W3C names one.

    Raises:
        AttestationError: A subclass that says why it proves nothing.
    """
    refuse_other_members(given, "sig", "x5c")
    signature = read_bytes(given, "sig")
    certificates = read_certificates(given)
    # SPEC: WebAuthn Level 3, section 8.6, verification procedure, step 2.
    if len(certificates) != 1:
        raise AttestationStatementMalformedError("`attStmt.x5c` has not exactly one certificate")
    key = certificates[0].key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AttestationCertificateError("the key of the attestation certificate is not on P-256")
    # SPEC: WebAuthn Level 3, section 8.6, verification procedure, steps 3 to 5: the key as U2F writes it.
    point = _raw_point(given)
    if require_zero_aaguid and any(given.attested.aaguid):
        raise AttestationMismatchError("a U2F key names an authenticator model")
    signed = b"\x00" + given.rp_id_hash + given.client_data_hash + given.attested.credential_id + point
    # SPEC: WebAuthn Level 3, section 8.6, verification procedure, step 6.
    if not is_signed_by(key, ES256, signature, signed):
        raise AttestationSignatureInvalidError("the statement is not signed with the attestation key")
    return Attestation(format=FORMAT, type=AttestationType.CERTIFIED, certificates=(certificates[0].der,))


def _raw_point(given: Given) -> bytes:
    parameters = given.attested.parameters
    if given.key.algorithm == ES256 and isinstance(parameters, dict):
        x, y = parameters.get(-2), parameters.get(-3)
        if isinstance(x, bytes) and isinstance(y, bytes):
            return b"\x04" + x + y
    raise AttestationMismatchError("the credential of a U2F key is not for ES256")
