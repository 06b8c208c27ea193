# SPDX-License-Identifier: Apache-2.0
"""
Credentials as the store keeps them.
"""

from __future__ import annotations

import base64
import json

from sidecar.mfa.credential import Attestation, AttestationType, Credential


def record_of(credential: Credential) -> str:
    """Return a credential as JSON, but for its id and counter, which are columns of their own."""
    attestation = credential.attestation
    return json.dumps(
        {
            "public_key": _encode(credential.public_key),
            "user_verified": credential.user_verified,
            "backup_eligible": credential.backup_eligible,
            "backed_up": credential.backed_up,
            "transports": list(credential.transports),
            "aaguid": credential.aaguid.hex(),
            "user_handle": None if credential.user_handle is None else _encode(credential.user_handle),
            "app_id": credential.app_id,
            "attestation": {
                "format": attestation.format,
                "type": attestation.type.value,
                "certificates": [_encode(certificate) for certificate in attestation.certificates],
                "trusted": attestation.trusted,
            },
        },
        separators=(",", ":"),
    )


def credential_of(record: str, *, credential_id: bytes, sign_count: int) -> Credential:
    """Return the credential that ``record_of`` wrote."""
    found = json.loads(record)
    attestation = found["attestation"]
    return Credential(
        credential_id=credential_id,
        public_key=_decode(found["public_key"]),
        sign_count=sign_count,
        user_verified=found["user_verified"],
        backup_eligible=found["backup_eligible"],
        backed_up=found["backed_up"],
        transports=tuple(found["transports"]),
        aaguid=bytes.fromhex(found["aaguid"]),
        user_handle=None if found["user_handle"] is None else _decode(found["user_handle"]),
        app_id=found["app_id"],
        attestation=Attestation(
            format=attestation["format"],
            type=AttestationType(attestation["type"]),
            certificates=tuple(_decode(certificate) for certificate in attestation["certificates"]),
            trusted=attestation["trusted"],
        ),
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
