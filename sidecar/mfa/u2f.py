# SPDX-License-Identifier: Apache-2.0
"""
Keys that were registered through the U2F API, brought along without their owners enrolling them again.

They go on answering under the AppID that they were registered with (WebAuthn Level 3, section 10.1.1).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.mfa import cose
from sidecar.mfa.authenticator_data import MAX_CREDENTIAL_ID_BYTES
from sidecar.mfa.certificates import MAX_CERTIFICATE_BYTES, read_certificate
from sidecar.mfa.credential import Attestation, AttestationType, Credential
from sidecar.model.errors import (
    AttestationCertificateError,
    AttestationSignatureInvalidError,
    CredentialIdInvalidError,
    PublicKeyMalformedError,
    U2fRegistrationMalformedError,
)

#: A registration: fixed parts, a handle of 255 bytes, a certificate, a signature.
MAX_REGISTRATION_BYTES = 1 + 65 + 1 + 255 + MAX_CERTIFICATE_BYTES + 72

_POINT_BYTES = 65
_UNCOMPRESSED = b"\x04"


def import_credential(
    *,
    key_handle: bytes,
    public_key: bytes,
    app_id: str,
    sign_count: int = 0,
    user_handle: bytes | None = None,
) -> Credential:
    """
    Return the credential of a U2F key whose handle and public key another system kept.

    Args:
        public_key: A point of P-256, uncompressed, 65 bytes.
        app_id: AppID that the key was registered with, such as ``https://example.com``.
        sign_count: The last one that was seen.
        user_handle: Of the user, to be kept with the credential.

    Raises:
        CredentialIdInvalidError: The handle is empty or too long.
        PublicKeyMalformedError: The public key is no uncompressed point.
        PublicKeyInvalidError: The point is not on the curve.
    """
    if not 1 <= len(key_handle) <= MAX_CREDENTIAL_ID_BYTES:
        raise CredentialIdInvalidError(f"the key handle has {len(key_handle)} bytes")
    if len(public_key) != _POINT_BYTES or not public_key.startswith(_UNCOMPRESSED):
        raise PublicKeyMalformedError("the public key is not an uncompressed point")
    encoded = cose.encode_es256(public_key[1:33], public_key[33:])
    cose.load_public_key(encoded)
    return Credential(
        credential_id=key_handle,
        public_key=encoded,
        sign_count=sign_count,
        transports=("usb",),
        user_handle=user_handle,
        app_id=app_id,
    )


def import_registration(
    *,
    registration: bytes,
    client_data: bytes,
    app_id: str,
    sign_count: int = 0,
    user_handle: bytes | None = None,
) -> Credential:
    """
    Return the credential of a U2F registration that was kept whole, after its signature was verified.

    Args:
        registration: ``registrationData`` of the U2F API (FIDO U2F Raw Message Formats 1.2, section 4.3).
        client_data: ``clientData`` of the same.
        app_id: AppID that the key was registered with.
        sign_count: The last one that was seen.
        user_handle: Of the user, to be kept with the credential.

    Raises:
        U2fRegistrationMalformedError: It cannot be read.
        AttestationCertificateError: Its certificate cannot be read, or is not for P-256.
        AttestationSignatureInvalidError: It is not signed with the key of its certificate.
        PublicKeyMalformedError: The public key is no uncompressed point.
        PublicKeyInvalidError: The point is not on the curve.
    """
    point, handle, der, signature = _split(registration)
    certificate = read_certificate(der)
    if not isinstance(certificate.key, ec.EllipticCurvePublicKey) or certificate.key.curve.name != "secp256r1":
        raise AttestationCertificateError("the key of the attestation certificate is not on P-256")
    application = hashlib.sha256(app_id.encode("utf-8")).digest()
    signed = b"\x00" + application + hashlib.sha256(client_data).digest() + handle + point
    if not cose.is_signed_by(certificate.key, cose.ES256, signature, signed):
        raise AttestationSignatureInvalidError("the registration is not signed with the attestation key")
    imported = import_credential(
        key_handle=handle, public_key=point, app_id=app_id, sign_count=sign_count, user_handle=user_handle
    )
    return replace(
        imported, attestation=Attestation(format="fido-u2f", type=AttestationType.CERTIFIED, certificates=(der,))
    )


def _split(registration: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the point, the key handle, the certificate and the signature of a registration."""
    if len(registration) > MAX_REGISTRATION_BYTES:
        raise U2fRegistrationMalformedError(f"a registration is longer than {MAX_REGISTRATION_BYTES} bytes")
    if len(registration) < 67 or registration[0] != 0x05:
        raise U2fRegistrationMalformedError("a registration does not begin as one")
    at = 67 + registration[66]
    handle = registration[67:at]
    # The certificate says its own length: a sequence, with two bytes of length.
    if len(registration) < at + 4 or registration[at : at + 2] != b"\x30\x82":
        raise U2fRegistrationMalformedError("a registration holds no certificate")
    end = at + 4 + int.from_bytes(registration[at + 2 : at + 4], "big")
    if len(registration) <= end:
        raise U2fRegistrationMalformedError("a registration is cut short")
    return registration[1:66], handle, registration[at:end], registration[end:]
