# SPDX-License-Identifier: Apache-2.0
"""
Who makes a call of the management listener, by its ``authorization`` header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from grpc_health.v1 import health

from sidecar.services.admin_token import AdminToken, bearer_token
from sidecar.services.callers import Caller
from sidecar.transports.permissions import SESSION_SERVICE

#: Takes the value of an ``authorization`` header and the peer, and says who that is, or raises ``AuthenticationError``.
Authenticate = Callable[[str | bytes | None, str], Caller]

#: The administrator's token has 43 characters; that of a session has more than this.
_MAX_ADMIN_TOKEN = 64
_SIGN_IN = f"/{SESSION_SERVICE}/SignIn"


class SessionRecognizer(Protocol):
    """Knows the bearers of sessions."""

    def authenticate(self, token: str, peer: str) -> Caller:
        """Return who bears the session, or raise ``AuthenticationError``."""
        ...


class Authenticator:
    """
    Recognizes the administrator and the bearers of sessions.

    Thread-safety: that of its parts.
    """

    def __init__(self, *, administrator: AdminToken, sessions: SessionRecognizer) -> None:
        self._administrator = administrator
        self._sessions = sessions

    def authenticate(self, header: str | bytes | None, peer: str) -> Caller:
        """
        Return who shows that credential.

        Raises:
            AuthenticationError: There is none, or none that will do.
        """
        token = bearer_token(header)
        if len(token) > _MAX_ADMIN_TOKEN:
            return self._sessions.authenticate(token, peer)
        self._administrator.verify_token(token)
        return Caller.administrator(peer)


def is_open(method: str) -> bool:
    """
    Say whether a method needs no credential.

    >>> is_open("/grpc.health.v1.Health/Check"), is_open("/sidecar.v1.SessionService/AssumeRole")
    (True, False)
    """
    return method == _SIGN_IN or method.startswith(f"/{health.SERVICE_NAME}/")


def authorization_of(metadata: Iterable[tuple[str, str | bytes]]) -> str | bytes | None:
    """Return the value of the ``authorization`` header; None unless there is exactly one."""
    values = [value for key, value in metadata if key == "authorization"]
    # Two credentials are none: which of them counts is not ours to guess.
    return values[0] if len(values) == 1 else None
