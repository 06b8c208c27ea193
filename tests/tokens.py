# SPDX-License-Identifier: Apache-2.0
"""Session tokens for tests, sealed by the ``cryptography`` package: the core opens them through libcrypto."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar import core
from sidecar.compile.session_claims import TOKEN_VERSION, decode_claims, encode_claims
from sidecar.model.session import SessionClaims

KEY_ID, KEY = b"key1", bytes(range(32))
OTHER_KEY_ID, OTHER_KEY = b"key2", bytes(range(32, 64))
ACCESS_KEY_ID = "ASIA2345672345672345"
FOR_EVER = 2**64 - 1
PRINCIPAL, LINEAGE, DEVICE = 1, 2, 3


def seal_bytes(
    data: bytes,
    *,
    access_key_id: str = ACCESS_KEY_ID,
    key_id: bytes = KEY_ID,
    key: bytes = KEY,
    nonce: bytes | None = None,
    version: int = TOKEN_VERSION,
) -> str:
    """Seal *data* as claims; the nonce follows from them, so that the same test makes the same token."""
    nonce = nonce or hashlib.sha256(data).digest()[:12]
    header = bytes([version]) + key_id + access_key_id.encode()
    raw = header + nonce + AESGCM(key).encrypt(nonce, data, header)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def seal(said: SessionClaims, **parts: Any) -> str:
    """Make a token that says *said*."""
    return seal_bytes(encode_claims(said), access_key_id=said.access_key_id, **parts)


def revocation(kind: int, identifier: str | bytes, before_ms: int) -> bytes:
    """Pack one revocation."""
    data = identifier.encode() if isinstance(identifier, str) else identifier
    return hashlib.sha256(bytes([kind]) + data).digest()[:16] + struct.pack("<q", before_ms)


def state(
    *revocations: bytes, keys: Iterable[tuple[bytes, bytes]] = ((KEY_ID, KEY),), valid_until: int = FOR_EVER
) -> core.SessionState:
    """Make what tokens are opened with."""
    made = core.SessionState(keys=list(keys), revocations=b"".join(sorted(revocations)))
    made.set_valid_until(valid_until)
    return made


def opened(
    token: str, by: core.SessionState | None = None, *, image: core.Image | None = None, now_ms: int
) -> SessionClaims:
    """Open *token* with the core."""
    data = (by or state()).open(token, image=image, seconds=now_ms // 1000, nanos=now_ms % 1000 * 1_000_000)
    return decode_claims(data[20:], access_key_id=data[:20].decode())
