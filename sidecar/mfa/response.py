# SPDX-License-Identifier: Apache-2.0
"""
The JSON that clients send, taken apart (WebAuthn Level 3, sections 5.1.8 and 5.4.5): shape, sizes, spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.mfa.authenticator_data import MAX_CREDENTIAL_ID_BYTES
from sidecar.mfa.encoding import decode_base64url, decode_json
from sidecar.model.errors import (
    CredentialIdInvalidError,
    CredentialIdMismatchError,
    CredentialTypeError,
    ExtensionOutputInvalidError,
    ResponseMalformedError,
    ResponseTooLargeError,
)

#: Longest response, in bytes of JSON. A chain of certificates is the greatest part of one.
MAX_RESPONSE_BYTES = 64 * 1024
MAX_CLIENT_DATA_BYTES = 8 * 1024
MAX_ATTESTATION_OBJECT_BYTES = 32 * 1024
MAX_AUTHENTICATOR_DATA_BYTES = 8 * 1024
#: RSA with 4096 bits, the longest key that is accepted, signs in 512.
MAX_SIGNATURE_BYTES = 512
# SPEC: WebAuthn Level 3, section 5.4.3: a user handle has at most 64 bytes.
MAX_USER_HANDLE_BYTES = 64
MAX_TRANSPORTS = 16
MAX_TRANSPORT_LETTERS = 32

_BOOLEAN_EXTENSIONS = frozenset({"appid", "appidExclude"})


class RegistrationResponse(NamedTuple):
    """
    A registration, as the client sent it.

    Attributes:
        authenticator_data: A copy outside of the attestation object; None where the client sent none.
        algorithm: A copy of the key's algorithm; None where the client sent none.
        extension_results: Client extension outputs.
    """

    credential_id: bytes
    client_data: bytes
    attestation_object: bytes
    authenticator_data: bytes | None
    algorithm: int | None
    transports: tuple[str, ...]
    extension_results: Mapping[str, object]


class AssertionResponse(NamedTuple):
    """An assertion, as the client sent it."""

    credential_id: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: bytes | None
    extension_results: Mapping[str, object]


def read_registration_response(response: str | bytes | Mapping[str, object]) -> RegistrationResponse:
    """
    Return a ``RegistrationResponseJSON``, taken apart.

    Raises:
        MfaError: A subclass that says what is wrong with it.
    """
    credential_id, inner, results = _read_credential(response)
    copy = inner.get("authenticatorData")
    algorithm = inner.get("publicKeyAlgorithm")
    if algorithm is not None and type(algorithm) is not int:
        raise ResponseMalformedError("`response.publicKeyAlgorithm` is not an integer")
    return RegistrationResponse(
        credential_id,
        _bytes(inner, "clientDataJSON", MAX_CLIENT_DATA_BYTES),
        _bytes(inner, "attestationObject", MAX_ATTESTATION_OBJECT_BYTES),
        None if copy is None else _bytes(inner, "authenticatorData", MAX_AUTHENTICATOR_DATA_BYTES),
        algorithm,
        _read_transports(inner.get("transports")),
        results,
    )


def read_assertion_response(response: str | bytes | Mapping[str, object]) -> AssertionResponse:
    """
    Return an ``AuthenticationResponseJSON``, taken apart.

    Raises:
        MfaError: A subclass that says what is wrong with it.
    """
    credential_id, inner, results = _read_credential(response)
    handle = inner.get("userHandle")
    return AssertionResponse(
        credential_id,
        _bytes(inner, "clientDataJSON", MAX_CLIENT_DATA_BYTES),
        _bytes(inner, "authenticatorData", MAX_AUTHENTICATOR_DATA_BYTES),
        _bytes(inner, "signature", MAX_SIGNATURE_BYTES),
        None if handle is None else _bytes(inner, "userHandle", MAX_USER_HANDLE_BYTES),
        results,
    )


def _read_credential(
    response: str | bytes | Mapping[str, object],
) -> tuple[bytes, Mapping[str, object], Mapping[str, object]]:
    found = _read_json(response) if isinstance(response, (str, bytes)) else response
    if not isinstance(found, Mapping):
        raise ResponseMalformedError("the response is not a JSON object")
    # SPEC: WebAuthn Level 3, section 5.1: `type` is "public-key", and `id` is `rawId` in base64url.
    kind = found.get("type")
    if type(kind) is not str:
        raise ResponseMalformedError("`type` is missing or not a string")
    if kind != "public-key":
        raise CredentialTypeError("`type` is not `public-key`")
    try:
        credential_id = decode_base64url(found.get("id"), field="id", max_bytes=MAX_CREDENTIAL_ID_BYTES)
    except ResponseTooLargeError:
        raise CredentialIdInvalidError(f"`id` is longer than {MAX_CREDENTIAL_ID_BYTES} bytes") from None
    raw_id = found.get("rawId")
    if type(raw_id) is not str:
        raise ResponseMalformedError("`rawId` is missing or not a string")
    if raw_id != found.get("id"):
        raise CredentialIdMismatchError("`id` and `rawId` differ")
    attachment = found.get("authenticatorAttachment")
    if attachment is not None and type(attachment) is not str:
        raise ResponseMalformedError("`authenticatorAttachment` is not a string")
    inner = found.get("response")
    if not isinstance(inner, Mapping):
        raise ResponseMalformedError("`response` is missing or not an object")
    return credential_id, inner, _read_extension_results(found.get("clientExtensionResults"))


def _read_json(response: str | bytes) -> object:
    if len(response) > MAX_RESPONSE_BYTES:
        raise ResponseTooLargeError(f"the response is longer than {MAX_RESPONSE_BYTES} bytes")
    try:
        return decode_json(response.decode("utf-8") if isinstance(response, bytes) else response)
    except ValueError:
        raise ResponseMalformedError("the response is not JSON in UTF-8") from None


def _bytes(inner: Mapping[str, object], name: str, max_bytes: int) -> bytes:
    return decode_base64url(inner.get(name), field=f"response.{name}", max_bytes=max_bytes)


def _read_transports(found: object) -> tuple[str, ...]:
    # SPEC: WebAuthn Level 3, section 5.2.1.1: values that are not known are kept as they are.
    if found is None:
        return ()
    if not isinstance(found, (list, tuple)) or len(found) > MAX_TRANSPORTS:
        raise ResponseMalformedError("`response.transports` is not a short list")
    for name in found:
        if type(name) is not str or not name.isascii() or not 0 < len(name) <= MAX_TRANSPORT_LETTERS:
            raise ResponseMalformedError("`response.transports` holds something that is not a short name")
    return tuple(found)


def _read_extension_results(found: object) -> Mapping[str, object]:
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ResponseMalformedError("`clientExtensionResults` is not an object")
    for name, value in found.items():
        # SPEC: WebAuthn Level 3, sections 10.1.1, 10.1.2 and 10.1.3.
        if name in _BOOLEAN_EXTENSIONS and type(value) is not bool:
            raise ExtensionOutputInvalidError(f"the output of `{name}` is not a boolean")
        if name == "credProps":
            if not isinstance(value, Mapping) or type(value.get("rk", False)) is not bool:
                raise ExtensionOutputInvalidError("the output of `credProps` has not the shape of one")
    return found
