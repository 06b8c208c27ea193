# SPDX-License-Identifier: Apache-2.0
"""
Sealing a session into a token, and deriving its secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from secrets import token_bytes

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.compile.session_claims import (
    ACCESS_KEY_ID_BYTES,
    KEY_ID_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    TOKEN_VERSION,
    encode_claims,
)
from sidecar.model.errors import LimitExceededError
from sidecar.model.session import MAX_SESSION_TOKEN, SessionClaims
from sidecar.services.sessions.keys import SessionKey

#: SPEC: IAM, unique identifiers: a temporary access key.
_PREFIX = "ASIA"
#: SPEC: AWS: a secret access key has 40 characters.
_SECRET_LENGTH = 40
_OVERHEAD = 1 + KEY_ID_BYTES + ACCESS_KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES
#: Bytes that the claims may have for the token to be short enough.
MAX_CLAIMS_BYTES = MAX_SESSION_TOKEN * 3 // 4 - _OVERHEAD


def new_access_key_id() -> str:
    """Return an access key id of a session: it names it, so nobody can guess another one."""
    return _PREFIX + base64.b32encode(token_bytes(10)).decode("ascii")


def seal_session(claims: SessionClaims, key: SessionKey) -> str:
    """
    Return the token of a session.

    Raises:
        LimitExceededError: Policies, tags and names do not fit into one.
    """
    data = encode_claims(claims)
    if len(data) > MAX_CLAIMS_BYTES:
        # SPEC: STS, PackedPolicyTooLarge.
        raise LimitExceededError(
            "packed policy and tags exceed what a session may carry:"
            f" they take {-(-100 * len(data) // MAX_CLAIMS_BYTES)} percent",
            help="pass fewer or shorter session policies and tags",
        )
    header = bytes([TOKEN_VERSION]) + key.id + claims.access_key_id.encode("ascii")
    nonce = token_bytes(NONCE_BYTES)
    sealed = AESGCM(key.seal).encrypt(nonce, data, header)
    return base64.urlsafe_b64encode(header + nonce + sealed).rstrip(b"=").decode("ascii")


def derive_secret(claims: SessionClaims, key: SessionKey) -> str:
    """Return the secret access key of a session, which nobody can compute from its token."""
    message = claims.access_key_id.encode("ascii") + claims.lineage + claims.issued_at_ms.to_bytes(8, "little")
    digest = hmac.digest(key.secret, message, hashlib.sha256)
    return base64.b64encode(digest).decode("ascii")[:_SECRET_LENGTH]
