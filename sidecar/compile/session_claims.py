# SPDX-License-Identifier: Apache-2.0
"""
The claims of a session as bytes, which ``ext/token.pxi`` reads.

A token is, in base64url without padding::

    version 1 | key id, 4 bytes | access key id, 20 bytes | nonce, 12 bytes | sealed claims | tag, 16 bytes

sealed by AES-256-GCM with the 25 bytes before the nonce as additional data. All numbers are little-endian; a text is
its length in 16 bits and its UTF-8. The claims are::

    u8 format 1 | u8 kind | u8 flags | u8 zero | lineage, 16 bytes
    i64 issued at | i64 expires at | i64 lineage issued at
    text principal | text principal id | text session name | text person | text person id | text source identity
    proof, with HAS_MFA | proof, text action, text resource, with HAS_BOUND
    u16 count of tags, each: u8 is transitive | text key | text value
    u32 length | that many bytes of compiled session policies

and a proof ``u8 method | u8 user verified | i64 proved at | text serial number``.
"""

from __future__ import annotations

import struct

from sidecar.model.decision import MfaMethod
from sidecar.model.errors import SessionInvalidError
from sidecar.model.session import MAX_SESSION_TAGS, BoundProof, MfaProof, SessionClaims, SessionKind, SessionTag

TOKEN_VERSION = 1
KEY_ID_BYTES, ACCESS_KEY_ID_BYTES, NONCE_BYTES, TAG_BYTES = 4, 20, 12, 16
#: What is authenticated and not sealed.
HEADER_BYTES = 1 + KEY_ID_BYTES + ACCESS_KEY_ID_BYTES
CLAIMS_FORMAT = 1
IS_CHAINED, HAS_MFA, HAS_BOUND = 1, 2, 4

_HEAD = struct.Struct("<BBBB16sqqq")
_PROOF = struct.Struct("<BBq")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")


def encode_claims(claims: SessionClaims) -> bytes:
    """
    Return *claims* as bytes; the access key id stands in the header of the token and not here.

    Raises:
        ValueError: A text is longer than 65,535 bytes, or there are too many tags.
    """
    if len(claims.tags) > MAX_SESSION_TAGS:
        raise ValueError(f"there are more than {MAX_SESSION_TAGS} tags")
    flags = (
        (IS_CHAINED if claims.is_chained else 0)
        | (HAS_MFA if claims.mfa is not None else 0)
        | (HAS_BOUND if claims.bound is not None else 0)
    )
    parts = [
        _HEAD.pack(
            CLAIMS_FORMAT,
            claims.kind,
            flags,
            0,
            claims.lineage,
            claims.issued_at_ms,
            claims.expires_at_ms,
            claims.lineage_issued_at_ms,
        )
    ]
    for text in (
        claims.principal,
        claims.principal_id,
        claims.session_name,
        claims.person,
        claims.person_id,
        claims.source_identity,
    ):
        parts.append(_text(text))
    if claims.mfa is not None:
        parts.append(_proof(claims.mfa))
    if claims.bound is not None:
        parts += [_proof(claims.bound.proof), _text(claims.bound.action), _text(claims.bound.resource)]
    parts.append(_U16.pack(len(claims.tags)))
    for tag in claims.tags:
        parts += [bytes([tag.is_transitive]), _text(tag.key), _text(tag.value)]
    parts += [_U32.pack(len(claims.policies)), claims.policies]
    return b"".join(parts)


def decode_claims(data: bytes, *, access_key_id: str) -> SessionClaims:
    """
    Return the claims that stand in *data*.

    Raises:
        SessionInvalidError: They cannot be read.
    """
    reader = _Reader(data)
    try:
        form, kind, flags, zero, lineage, issued, expires, lineage_issued = _HEAD.unpack(reader.take(_HEAD.size))
        if form != CLAIMS_FORMAT or zero or flags & ~(IS_CHAINED | HAS_MFA | HAS_BOUND):
            raise ValueError("another format")
        principal, principal_id, session_name, person, person_id, source_identity = (reader.text() for _ in range(6))
        mfa = reader.proof() if flags & HAS_MFA else None
        bound = BoundProof(reader.proof(), reader.text(), reader.text()) if flags & HAS_BOUND else None
        (count,) = _U16.unpack(reader.take(_U16.size))
        if count > MAX_SESSION_TAGS:
            raise ValueError("too many tags")
        tags = []
        for _ in range(count):
            is_transitive = reader.flag()
            tags.append(SessionTag(reader.text(), reader.text(), is_transitive))
        (length,) = _U32.unpack(reader.take(_U32.size))
        policies = reader.take(length)
        if reader.is_left:
            raise ValueError("bytes behind the claims")
        return SessionClaims(
            access_key_id=access_key_id,
            kind=SessionKind(kind),
            lineage=lineage,
            principal=principal,
            principal_id=principal_id,
            session_name=session_name,
            issued_at_ms=issued,
            expires_at_ms=expires,
            lineage_issued_at_ms=lineage_issued,
            person=person,
            person_id=person_id,
            source_identity=source_identity,
            is_chained=bool(flags & IS_CHAINED),
            mfa=mfa,
            bound=bound,
            tags=tuple(tags),
            policies=policies,
        )
    except (ValueError, struct.error):
        raise SessionInvalidError("the claims of the token cannot be read") from None


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) > 0xFFFF:
        raise ValueError("a text of the claims is longer than 65535 bytes")
    return _U16.pack(len(data)) + data


def _proof(proof: MfaProof) -> bytes:
    return _PROOF.pack(proof.method, proof.user_verified, proof.proved_at_ms) + _text(proof.serial_number)


class _Reader:
    """
    Reads from the front.

    Thread-safety: confined to one thread.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_left(self) -> bool:
        """Whether bytes are left."""
        return self._place < len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        end = self._place + count
        if end > len(self._data):
            raise ValueError("it is cut short")
        taken = self._data[self._place : end]
        self._place = end
        return taken

    def text(self) -> str:
        """Return the next text."""
        (length,) = _U16.unpack(self.take(_U16.size))
        return self.take(length).decode()

    def flag(self) -> bool:
        """Return the next byte, which is 0 or 1."""
        (byte,) = self.take(1)
        if byte > 1:
            raise ValueError("a flag is neither 0 nor 1")
        return byte == 1

    def proof(self) -> MfaProof:
        """Return the next proof."""
        method, verified, proved_at = _PROOF.unpack(self.take(_PROOF.size))
        if verified > 1:
            raise ValueError("a flag is neither 0 nor 1")
        return MfaProof(MfaMethod(method), proved_at, self.text(), verified == 1)
