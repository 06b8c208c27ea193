# SPDX-License-Identifier: Apache-2.0
"""
Authenticator data: what an authenticator signs about itself and a credential (WebAuthn Level 3, section 6.1).
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.mfa import cbor
from sidecar.model.errors import AuthenticatorDataMalformedError, CredentialIdInvalidError

USER_PRESENT = 0x01
USER_VERIFIED = 0x04
BACKUP_ELIGIBLE = 0x08
BACKED_UP = 0x10
ATTESTED_DATA = 0x40
EXTENSION_DATA = 0x80

#: Longest credential id there may be, in bytes (WebAuthn Level 3, section 7.1, step 25).
MAX_CREDENTIAL_ID_BYTES = 1023

_FIXED_BYTES = 37
_ATTESTED_FIXED_BYTES = 18


class AttestedData(NamedTuple):
    """
    The new credential that an authenticator speaks of at registration.

    Attributes:
        aaguid: Model of the authenticator; zeros where it has none.
        public_key: COSE_Key, as the authenticator wrote it.
        parameters: The same, decoded.
    """

    aaguid: bytes
    credential_id: bytes
    public_key: bytes
    parameters: cbor.Value


class AuthenticatorData(NamedTuple):
    """
    Authenticator data, taken apart.

    Attributes:
        rp_id_hash: SHA-256 of the relying party id that the authenticator was given.
        extensions: Authenticator extension outputs; empty where there are none.
    """

    rp_id_hash: bytes
    flags: int
    sign_count: int
    attested: AttestedData | None
    extensions: dict[int | str, cbor.Value]

    @property
    def user_present(self) -> bool:
        """Whether somebody touched the authenticator."""
        return bool(self.flags & USER_PRESENT)

    @property
    def user_verified(self) -> bool:
        """Whether the authenticator verified who touched it."""
        return bool(self.flags & USER_VERIFIED)

    @property
    def backup_eligible(self) -> bool:
        """Whether the credential may leave its authenticator."""
        return bool(self.flags & BACKUP_ELIGIBLE)

    @property
    def backed_up(self) -> bool:
        """Whether the credential has left its authenticator."""
        return bool(self.flags & BACKED_UP)


_NO_EXTENSIONS: dict[int | str, cbor.Value] = {}


def read_authenticator_data(data: bytes) -> AuthenticatorData:
    """
    Return *data*, taken apart.

    Raises:
        AuthenticatorDataMalformedError: It is cut short, has bytes left over, or flags that contradict it.
        CredentialIdInvalidError: The credential id is empty or too long.
        CborMalformedError: The public key or the extension outputs are not CBOR.
        DuplicateKeyError: One of them has a key twice.
    """
    if len(data) < _FIXED_BYTES:
        raise AuthenticatorDataMalformedError("it is cut short")
    flags = data[32]
    at = _FIXED_BYTES
    attested = None
    extensions = _NO_EXTENSIONS
    if flags & ATTESTED_DATA:
        attested, at = _read_attested_data(data, at)
    if flags & EXTENSION_DATA:
        found, at = cbor.decode_first(data, at)
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise AuthenticatorDataMalformedError("extension outputs are not a map of names")
        extensions = found
    if at != len(data):
        raise AuthenticatorDataMalformedError(f"{len(data) - at} bytes are left over")
    return AuthenticatorData(data[:32], flags, int.from_bytes(data[33:37], "big"), attested, extensions)


def _read_attested_data(data: bytes, at: int) -> tuple[AttestedData, int]:
    if len(data) < at + _ATTESTED_FIXED_BYTES:
        raise AuthenticatorDataMalformedError("attested credential data is cut short")
    aaguid = data[at : at + 16]
    length = int.from_bytes(data[at + 16 : at + 18], "big")
    at += _ATTESTED_FIXED_BYTES
    # SPEC: WebAuthn Level 3, section 7.1, step 25.
    if not 1 <= length <= MAX_CREDENTIAL_ID_BYTES:
        raise CredentialIdInvalidError(f"the credential id has {length} bytes")
    credential_id = data[at : at + length]
    if len(credential_id) != length:
        raise AuthenticatorDataMalformedError("the credential id is cut short")
    at += length
    parameters, end = cbor.decode_first(data, at)
    return AttestedData(aaguid, credential_id, data[at:end], parameters), end
