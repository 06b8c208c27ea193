# SPDX-License-Identifier: Apache-2.0
"""Step-up tickets for tests, sealed by the ``cryptography`` package as the core seals them through libcrypto."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.model.challenge import ALL_METHODS
from sidecar.model.decision import MfaMethod
from sidecar.services.sessions.keys import SessionKey, SessionKeyring

#: A ring of two keys, the first of which seals.
KEY = SessionKey(b"key2", bytes(range(32, 64)), bytes(32), 2, 2)
OLD_KEY = SessionKey(b"key1", bytes(range(32)), bytes(32), 1, 1)
RING = SessionKeyring((KEY, OLD_KEY))
ACTION = "payments:Refund"
RESOURCE = "arn:aws:payments:eu-west-1:111122223333:order/4711"


def ticket_content(
    access_key_id: str,
    expires_at_ms: int,
    *,
    action: str = ACTION,
    resource: str = RESOURCE,
    return_address: str = "",
    methods: Sequence[MfaMethod] = ALL_METHODS,
    max_age: int | None = None,
    user_verification: bool = False,
    is_for_call: bool = False,
) -> bytes:
    """Give the content of a ticket."""
    flags = is_for_call | (max_age is not None) << 1 | user_verification << 2
    mask = sum(1 << method for method in methods)
    parts = [struct.pack("<Q20sBBI", expires_at_ms, access_key_id.encode(), flags, mask, max_age or 0)]
    for text in (action, resource, return_address):
        data = text.encode()
        parts.append(struct.pack("<H", len(data)) + data)
    return b"".join(parts)


def seal_ticket(content: bytes, *, key_id: bytes, key: bytes, nonce: bytes | None = None, version: int = 2) -> str:
    """Seal the content of a ticket."""
    header, nonce = bytes([version]) + key_id, nonce or os.urandom(12)
    raw = header + nonce + AESGCM(key).encrypt(nonce, content, header)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
