# SPDX-License-Identifier: Apache-2.0
"""
``SessionService`` as functions from bytes to bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar.model.errors import RequestError
from sidecar.services.sessions.role_request import RoleRequest
from sidecar.services.sessions.service import SessionService
from sidecar.transports.calls import current_caller
from sidecar.transports.permissions import Method
from sidecar.wire.sidecar.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from sidecar.services.sessions.issuing import IssuedSession

_RequestT = TypeVar("_RequestT", bound=Message)


def session_methods(sessions: SessionService) -> dict[str, Method]:
    """Return the methods by name."""

    def sign_in(data: bytes) -> bytes:
        request, caller = _parse(pb.SignInRequest, data), current_caller()
        return _session(
            sessions.sign_in(
                account=request.account, user_name=request.user_name, password=request.password, peer=caller.peer
            )
        )

    def get_session_token(data: bytes) -> bytes:
        request, caller = _parse(pb.GetSessionTokenRequest, data), current_caller()
        return _session(
            sessions.get_session_token(
                caller,
                duration_seconds=request.duration_seconds,
                serial_number=request.serial_number,
                token_code=request.token_code,
            )
        )

    def assume_role(data: bytes) -> bytes:
        request, caller = _parse(pb.AssumeRoleRequest, data), current_caller()
        asked = RoleRequest(
            role_arn=request.role_arn,
            role_session_name=request.role_session_name,
            duration_seconds=request.duration_seconds,
            session_policies=tuple(request.session_policies),
            tags=dict(request.tags),
            transitive_tag_keys=tuple(request.transitive_tag_keys),
            external_id=request.external_id,
            source_identity=request.source_identity,
            serial_number=request.serial_number,
            token_code=request.token_code,
        )
        return _session(sessions.assume_role(caller, asked))

    def get_caller_identity(data: bytes) -> bytes:
        request, caller = _parse(pb.GetCallerIdentityRequest, data), current_caller()
        identity = sessions.caller_identity(caller, request.session_token)
        return pb.CallerIdentity(
            account=identity.account, arn=identity.arn, user_id=identity.user_id
        ).SerializeToString()

    def revoke_session(data: bytes) -> bytes:
        request, caller = _parse(pb.RevokeSessionRequest, data), current_caller()
        sessions.revoke(caller, request.session_token)
        return pb.RevokeSessionResponse().SerializeToString()

    return {
        "SignIn": sign_in,
        "GetSessionToken": get_session_token,
        "AssumeRole": assume_role,
        "GetCallerIdentity": get_caller_identity,
        "RevokeSession": revoke_session,
    }


def _session(issued: IssuedSession) -> bytes:
    return pb.Session(
        access_key_id=issued.access_key_id,
        secret_access_key=issued.secret_access_key,
        session_token=issued.session_token,
        expires_at_unix_ms=issued.expires_at_ms,
        principal_arn=issued.principal_arn,
    ).SerializeToString()


def _parse(kind: type[_RequestT], data: bytes) -> _RequestT:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the request is no {kind.DESCRIPTOR.full_name}") from None
