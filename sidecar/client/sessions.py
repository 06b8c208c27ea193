# SPDX-License-Identifier: Apache-2.0
"""
Signing in, assuming roles, and ending sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from sidecar.client.channels import Tls, bearer, open_channel
from sidecar.client.errors import error_of
from sidecar.client.step_up import DEFAULT_MANAGEMENT, DEFAULT_TIMEOUT
from sidecar.model.errors import RequestError
from sidecar.wire.sidecar.v1 import session_pb2 as pb
from sidecar.wire.sidecar.v1 import session_pb2_grpc as pb_grpc

_RequestT = TypeVar("_RequestT", bound=Message)
_ResponseT = TypeVar("_ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Session:
    """
    The credentials of a session.

    Attributes:
        expires_at_ms: First moment at which it is over, in milliseconds since the epoch.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int
    principal_arn: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who bears a session, in the words of AWS."""

    account: str
    arn: str
    user_id: str


class SessionClient:
    """
    Gets and ends sessions, by way of a sidecar's management listener.

    Thread-safety: that of a gRPC channel, which may be shared.
    """

    def __init__(
        self, target: str = DEFAULT_MANAGEMENT, *, tls: Tls | None = None, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        """
        Args:
            target: Management listener, ``HOST:PORT`` or ``unix:PATH``.
            tls: To be stated where the listener has a certificate.
            timeout: Seconds that a call may take.
        """
        self._target = target
        self._timeout = timeout
        self._channel = open_channel(target, tls)
        self._stub = pb_grpc.SessionServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def sign_in(self, account: str, user_name: str, password: str) -> Session:
        """
        Return a session of the user who has that password.

        Args:
            account: Twelve digits, or an alias.

        Raises:
            AuthenticationError: Nobody has, or has to wait.
            SidecarError: The sidecar cannot be asked.
        """
        try:
            request = pb.SignInRequest(account=account, user_name=user_name, password=password)
        except UnicodeEncodeError:
            raise RequestError("account, user or password is no valid text") from None
        return _session(self._call(self._stub.SignIn, request, ""))

    def assume_role(
        self, session_token: str, role_arn: str, role_session_name: str, *, duration_seconds: int = 0
    ) -> Session:
        """
        Return a session of a role.

        Args:
            session_token: Of whoever assumes it.
            duration_seconds: 0 for AWS's default, an hour.

        Raises:
            PermissionDeniedError: They may not.
            SidecarError: The sidecar refused otherwise, or cannot be asked.
        """
        request = pb.AssumeRoleRequest(
            role_arn=role_arn, role_session_name=role_session_name, duration_seconds=duration_seconds
        )
        return _session(self._call(self._stub.AssumeRole, request, session_token))

    def find_identity(self, session_token: str) -> Identity:
        """
        Return who bears a session.

        Raises:
            AuthenticationError: It has ended.
            SidecarError: The sidecar cannot be asked.
        """
        found = self._call(self._stub.GetCallerIdentity, pb.GetCallerIdentityRequest(), session_token)
        return Identity(found.account, found.arn, found.user_id)

    def revoke(self, session_token: str) -> None:
        """
        End a session, and every session that grew from the same sign-in.

        Raises:
            AuthenticationError: It has ended already.
            SidecarError: The sidecar cannot be asked.
        """
        self._call(self._stub.RevokeSession, pb.RevokeSessionRequest(session_token=session_token), session_token)

    def _call(self, method: Callable[..., _ResponseT], request: _RequestT, session_token: str) -> _ResponseT:
        metadata = bearer(session_token) if session_token else ()
        try:
            return method(request, metadata=metadata, timeout=self._timeout)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from None


def _session(message: pb.Session) -> Session:
    return Session(
        access_key_id=message.access_key_id,
        secret_access_key=message.secret_access_key,
        session_token=message.session_token,
        expires_at_ms=message.expires_at_unix_ms,
        principal_arn=message.principal_arn,
    )
