# SPDX-License-Identifier: Apache-2.0
"""
Attestation statements: one file for each format (WebAuthn Level 3, section 8).

``android-safetynet`` is not here: Google has shut down the service that made those statements.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from sidecar.mfa.attestation import android_key, apple, fido_u2f, none, packed, tpm
from sidecar.mfa.attestation.statement import Given
from sidecar.mfa.credential import Attestation
from sidecar.model.errors import AttestationFormatUnknownError

_FORMATS: MappingProxyType[str, Callable[[Given], Attestation]] = MappingProxyType(
    {
        none.FORMAT: none.verify,
        packed.FORMAT: packed.verify,
        fido_u2f.FORMAT: fido_u2f.verify,
        tpm.FORMAT: tpm.verify,
        apple.FORMAT: apple.verify,
        android_key.FORMAT: android_key.verify,
    }
)

#: Attestation statement format identifiers that can be verified here.
FORMATS = tuple(_FORMATS)


def verify_statement(
    fmt: str, given: Given, *, require_zero_u2f_aaguid: bool = False, require_authorizations: bool = False
) -> Attestation:
    """
    Return what an attestation statement proves by itself, before anybody asks who made its certificates.

    Args:
        fmt: Attestation statement format identifier.
        require_zero_u2f_aaguid: See ``fido_u2f.verify``.
        require_authorizations: See ``android_key.verify``.

    Raises:
        AttestationFormatUnknownError: There is no such format here.
        AttestationError: Another subclass that says why the statement proves nothing.
    """
    # SPEC: WebAuthn Level 3, section 7.1, step 21: letter for letter.
    verify = _FORMATS.get(fmt)
    if verify is None:
        raise AttestationFormatUnknownError("the attestation format is not known here")
    if verify is fido_u2f.verify:
        return fido_u2f.verify(given, require_zero_aaguid=require_zero_u2f_aaguid)
    if verify is android_key.verify:
        return android_key.verify(given, require_authorizations=require_authorizations)
    return verify(given)


__all__ = ["FORMATS", "Given", "verify_statement"]
