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
from sidecar.model.decision import MfaMethod
from sidecar.model.session import MfaProof, SessionClaims, SessionKind
from tests.conformance.cases import ACCOUNT, ROLE_ID, USER_ARN, USER_ID

#: 2026-01-01T00:00:00Z, as `tests.unit.core.asking.NOW`.
NOW_MS = 1_767_225_600_000
KEY_ID, KEY = b"key1", bytes(range(32))
OTHER_KEY_ID, OTHER_KEY = b"key2", bytes(range(32, 64))
ACCESS_KEY_ID = "ASIA2345672345672345"
ROLE_PRINCIPAL = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker"
FOR_EVER = 2**64 - 1
PRINCIPAL, LINEAGE, DEVICE = 1, 2, 3


def claims(kind: SessionKind = SessionKind.SIGN_IN, **changes: Any) -> SessionClaims:
    """Give the claims of alice's session, or of hers of the role."""
    is_role = kind is SessionKind.ROLE
    wanted: dict[str, Any] = {
        "access_key_id": ACCESS_KEY_ID,
        "kind": kind,
        "lineage": bytes(range(16)),
        "principal": ROLE_PRINCIPAL if is_role else USER_ARN,
        "principal_id": ROLE_ID if is_role else USER_ID,
        "session_name": "session1" if is_role else "",
        "issued_at_ms": NOW_MS - 60_000,
        "expires_at_ms": NOW_MS + 3_600_000,
        "lineage_issued_at_ms": NOW_MS - 120_000,
        "person": USER_ARN,
        "person_id": USER_ID,
        **changes,
    }
    return SessionClaims(**wanted)


def proof(seconds_ago: float = 10, **changes: Any) -> MfaProof:
    """Give a proof by security key."""
    wanted: dict[str, Any] = {
        "method": MfaMethod.WEBAUTHN,
        "proved_at_ms": NOW_MS - round(seconds_ago * 1000),
        "serial_number": f"arn:aws:iam::{ACCOUNT}:u2f/user/alice/key",
        "user_verified": False,
        **changes,
    }
    return MfaProof(**wanted)


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


def seal(said: SessionClaims | None = None, **parts: Any) -> str:
    """Make a token that says *said*."""
    said = said or claims()
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
    token: str, by: core.SessionState | None = None, *, image: core.Image | None = None, now_ms: int = NOW_MS
) -> SessionClaims:
    """Open *token* with the core."""
    data = (by or state()).open(token, image=image, seconds=now_ms // 1000, nanos=now_ms % 1000 * 1_000_000)
    return decode_claims(data[20:], access_key_id=data[:20].decode())
