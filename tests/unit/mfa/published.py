# SPDX-License-Identifier: Apache-2.0
"""The published test vectors of W3C, as the JSON that a browser would send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.mfa.encoding import encode_base64url

VECTORS = Path(__file__).parents[2] / "vectors"
ORIGIN = "https://example.org"
TOP_ORIGIN = "https://example.com"
RP_ID = "example.org"


@dataclass(frozen=True)
class Pair:
    """
    One registration and one assertion with what it registered.

    Attributes:
        name: Such as ``packed-es256``.
        cross_origin: Whether it ran in a frame of another origin.
    """

    name: str
    registration: dict[str, Any]
    registration_challenge: bytes
    assertion: dict[str, Any]
    assertion_challenge: bytes
    cross_origin: bool


def _text(hexadecimal: str) -> str:
    return encode_base64url(bytes.fromhex(hexadecimal))


def _read(vector: dict[str, Any]) -> Pair:
    reg, auth = vector["reg"], vector["auth"]
    outside = {
        "id": _text(reg["credential_id"]),
        "rawId": _text(reg["credential_id"]),
        "type": "public-key",
        "clientExtensionResults": {},
    }
    name = vector["id"].removeprefix("sctn-test-vectors-")
    return Pair(
        name=name,
        registration={
            **outside,
            "response": {
                "clientDataJSON": _text(reg["clientDataJSON"]),
                "attestationObject": _text(reg["attestationObject"]),
            },
        },
        registration_challenge=bytes.fromhex(reg["challenge"]),
        assertion={
            **outside,
            "response": {
                "clientDataJSON": _text(auth["clientDataJSON"]),
                "authenticatorData": _text(auth["authenticatorData"]),
                "signature": _text(auth["signature"]),
            },
        },
        assertion_challenge=bytes.fromhex(auth["challenge"]),
        cross_origin=name in ("none-es256-crossOrigin", "none-es256-topOrigin"),
    )


_FILE = json.loads((VECTORS / "webauthn" / "level3.json").read_text())["vectors"]
PAIRS = [_read(vector) for vector in _FILE if "reg" in vector]
ATTESTATION_ROOT = next(
    bytes.fromhex(vector["other"]["attestation_ca_cert"])
    for vector in _FILE
    if "attestation_ca_cert" in vector.get("other", {})
)


def pair(name: str) -> Pair:
    """Give the pair of that name."""
    return next(one for one in PAIRS if one.name == name)
