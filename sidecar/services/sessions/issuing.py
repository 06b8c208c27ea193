# SPDX-License-Identifier: Apache-2.0
"""
Making the credentials of a session.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.model.session import SessionClaims
from sidecar.services.sessions.keys import SessionKey
from sidecar.services.sessions.sealing import derive_secret, seal_session


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """
    The credentials of a session; nothing of it is kept.

    Attributes:
        expires_at_ms: First moment at which it is over.
        claims: What the token says.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int
    principal_arn: str
    claims: SessionClaims


def issue_session(claims: SessionClaims, key: SessionKey) -> IssuedSession:
    """
    Return the credentials of a session.

    Raises:
        LimitExceededError: Policies, tags and names do not fit into a token.
    """
    return IssuedSession(
        access_key_id=claims.access_key_id,
        secret_access_key=derive_secret(claims, key),
        session_token=seal_session(claims, key),
        expires_at_ms=claims.expires_at_ms,
        principal_arn=claims.arn,
        claims=claims,
    )
