# SPDX-License-Identifier: Apache-2.0
"""
What a client is asked for: the options of both ceremonies as JSON (WebAuthn Level 3, sections 5.1.9 and 5.1.10).

The caller draws the challenge, keeps it, and spends it with the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from sidecar.mfa.cose import DEFAULT_ALGORITHMS
from sidecar.mfa.credential import Credential
from sidecar.mfa.encoding import encode_base64url
from sidecar.mfa.policy import AttestationMode
from sidecar.mfa.response import MAX_USER_HANDLE_BYTES

UserVerification: TypeAlias = Literal["required", "preferred", "discouraged"]
ResidentKey: TypeAlias = Literal["required", "preferred", "discouraged"]

# SPEC: WebAuthn Level 3, section 13.4.3: a challenge has 16 bytes at least.
MIN_CHALLENGE_BYTES = 16
#: Credentials in one list; authenticators are asked for each in turn.
MAX_CREDENTIALS = 64
#: Milliseconds that a client waits for a person; a ceremony here lives for five minutes.
TIMEOUT_MS = 300_000


def creation_options(
    *,
    challenge: bytes,
    rp_id: str,
    rp_name: str,
    user_handle: bytes,
    user_name: str,
    user_display_name: str,
    exclude_credentials: Sequence[Credential] = (),
    algorithms: Iterable[int] = DEFAULT_ALGORITHMS,
    user_verification: UserVerification = "discouraged",
    resident_key: ResidentKey = "discouraged",
    attestation_mode: AttestationMode = AttestationMode.IGNORE,
    hints: Sequence[str] = (),
    timeout_ms: int = TIMEOUT_MS,
) -> dict[str, object]:
    """
    Return a ``PublicKeyCredentialCreationOptionsJSON``, to be written as JSON.

    A key among *exclude_credentials* that was registered through the U2F API is excluded under its AppID (extension
    ``appidExclude``), so that nobody enrols it twice.

    Args:
        challenge: Random, 16 bytes or more, drawn and kept by the caller.
        rp_id: A host name.
        user_handle: 1 to 64 bytes that say nothing about the user, the same for all of the user's keys.
        user_name: What a person tells accounts apart by.
        exclude_credentials: What the user has enrolled already.
        algorithms: COSE algorithms, the best first.
        attestation_mode: Of the deployment; where nobody looks at an attestation none is asked for.
        hints: Kinds of authenticator to suggest, such as ``security-key``.
        timeout_ms: Milliseconds.

    Raises:
        ValueError: The caller's own arguments cannot be used.
    """
    _verify_challenge(challenge)
    if not 1 <= len(user_handle) <= MAX_USER_HANDLE_BYTES:
        raise ValueError(f"a user handle has 1 to {MAX_USER_HANDLE_BYTES} bytes")
    options: dict[str, object] = {
        "rp": {"id": rp_id, "name": rp_name},
        "user": {"id": encode_base64url(user_handle), "name": user_name, "displayName": user_display_name},
        "challenge": encode_base64url(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in algorithms],
        "timeout": timeout_ms,
        "excludeCredentials": _descriptors(exclude_credentials),
        "authenticatorSelection": {
            "residentKey": resident_key,
            "requireResidentKey": resident_key == "required",
            "userVerification": user_verification,
        },
        "attestation": "none" if attestation_mode is AttestationMode.IGNORE else "direct",
        "extensions": {"credProps": True},
    }
    if hints:
        options["hints"] = list(hints)
    if app_id := _app_id(exclude_credentials):
        # SPEC: WebAuthn Level 3, section 10.1.2.
        options["extensions"] = {"credProps": True, "appidExclude": app_id}
    return options


def request_options(
    *,
    challenge: bytes,
    rp_id: str,
    allow_credentials: Sequence[Credential],
    user_verification: UserVerification = "discouraged",
    hints: Sequence[str] = (),
    timeout_ms: int = TIMEOUT_MS,
) -> dict[str, object]:
    """
    Return a ``PublicKeyCredentialRequestOptionsJSON``, to be written as JSON.

    A key among *allow_credentials* that was registered through the U2F API is asked for under its AppID as well
    (extension ``appid``).

    Args:
        challenge: Random, 16 bytes or more, drawn and kept by the caller.
        rp_id: A host name.
        allow_credentials: What may answer. Empty lets the person choose a passkey.
        hints: Kinds of authenticator to suggest, such as ``security-key``.
        timeout_ms: Milliseconds.

    Raises:
        ValueError: The caller's own arguments cannot be used.
    """
    _verify_challenge(challenge)
    options: dict[str, object] = {
        "challenge": encode_base64url(challenge),
        "timeout": timeout_ms,
        "rpId": rp_id,
        "allowCredentials": _descriptors(allow_credentials),
        "userVerification": user_verification,
    }
    if hints:
        options["hints"] = list(hints)
    if app_id := _app_id(allow_credentials):
        # SPEC: WebAuthn Level 3, section 10.1.1.
        options["extensions"] = {"appid": app_id}
    return options


def _verify_challenge(challenge: bytes) -> None:
    if len(challenge) < MIN_CHALLENGE_BYTES:
        raise ValueError(f"a challenge has {MIN_CHALLENGE_BYTES} bytes or more")


def _descriptors(credentials: Sequence[Credential]) -> list[dict[str, object]]:
    if len(credentials) > MAX_CREDENTIALS:
        raise ValueError(f"a list holds {MAX_CREDENTIALS} credentials at most")
    found = []
    for credential in credentials:
        descriptor: dict[str, object] = {"type": "public-key", "id": encode_base64url(credential.credential_id)}
        if credential.transports:
            descriptor["transports"] = list(credential.transports)
        found.append(descriptor)
    return found


def _app_id(credentials: Sequence[Credential]) -> str | None:
    found = {credential.app_id for credential in credentials if credential.app_id is not None}
    if len(found) > 1:
        raise ValueError("the extension names one AppID, and the credentials have several")
    return found.pop() if found else None
