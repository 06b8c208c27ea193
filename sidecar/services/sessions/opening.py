# SPDX-License-Identifier: Apache-2.0
"""
Opening tokens in Python, until the core does it behind the same interface.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import time
from collections.abc import Sequence
from dataclasses import replace

from sidecar.compile.session_claims import HEADER_BYTES, NONCE_BYTES, TOKEN_VERSION, decode_claims, encode_claims
from sidecar.model.errors import (
    SessionExpiredError,
    SessionInvalidError,
    SessionRevokedError,
    SessionUnverifiableError,
)
from sidecar.model.session import CLOCK_SKEW_MS, MAX_SESSION_TOKEN, BoundProof, MfaProof, SessionClaims, SessionKind
from sidecar.services.sessions.directory import Directory

_RECORD = struct.Struct("<16sq")


class SessionState:
    """
    Keys and revocations.

    Thread-safety: immutable but for ``valid_until``.
    """

    def __init__(self, *, keys: Sequence[tuple[bytes, bytes]], revocations: bytes) -> None:
        self._keys = dict(keys)
        self._revocations = dict(_RECORD.iter_unpack(revocations))
        self._valid_until = 0

    def set_valid_until(self, monotonic_ns: int) -> None:
        """Deny everything from then on."""
        self._valid_until = monotonic_ns

    def open(self, token: str, *, image: Directory | None, seconds: int, nanos: int) -> bytes:
        """Return access key id and claims."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(token) > MAX_SESSION_TOKEN:
            raise SessionInvalidError("the session token is not known here")
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != token:
                raise ValueError
            key = self._keys[data[1:5]]
            if data[0] != TOKEN_VERSION:
                raise ValueError
            header, nonce = data[:HEADER_BYTES], data[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
            plain = AESGCM(key).decrypt(nonce, data[HEADER_BYTES + NONCE_BYTES :], header)
        except (KeyError, ValueError, IndexError, InvalidTag, binascii.Error):
            raise SessionInvalidError("the session token is not known here") from None
        access_key_id = header[5:].decode("ascii")
        claims = decode_claims(plain, access_key_id=access_key_id)
        if time.monotonic_ns() >= self._valid_until:
            raise SessionUnverifiableError("whether the session was revoked cannot be known at the moment")
        now_ms = seconds * 1000 + nanos // 1_000_000
        if claims.expires_at_ms <= now_ms:
            raise SessionExpiredError("the session is over")
        if claims.issued_at_ms > now_ms + CLOCK_SKEW_MS:
            raise SessionInvalidError("the session begins in the future")
        for kind, subject, issued in (
            (1, claims.principal_id.encode(), claims.issued_at_ms),
            (1, claims.person_id.encode(), claims.lineage_issued_at_ms),
            (2, claims.lineage, claims.lineage_issued_at_ms),
        ):
            before = self._find(kind, subject)
            if before is not None and (kind == 2 or issued <= before):
                raise SessionRevokedError("the session was ended before its time")
        if image is not None:
            _check_ids(image, claims)
        void = replace(
            claims,
            mfa=None if self._is_void(claims.mfa) else claims.mfa,
            bound=None if claims.bound is None or self._is_void(claims.bound.proof) else claims.bound,
        )
        return access_key_id.encode() + encode_claims(void)

    def _find(self, kind: int, subject: bytes) -> int | None:
        return self._revocations.get(hashlib.sha256(bytes([kind]) + subject).digest()[:16]) if subject else None

    def _is_void(self, proof: MfaProof | None) -> bool:
        before = self._find(3, proof.serial_number.encode()) if proof is not None else None
        return proof is not None and before is not None and proof.proved_at_ms <= before


def _check_ids(image: Directory, claims: SessionClaims) -> None:
    if claims.kind is SessionKind.ROLE:
        return
    user = image.find_user(claims.principal)
    if user is None or user.user_id != claims.principal_id:
        raise SessionInvalidError("the principal of the session is gone")


__all__ = ["BoundProof", "SessionState"]
