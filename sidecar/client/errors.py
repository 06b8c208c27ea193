# SPDX-License-Identifier: Apache-2.0
"""
What a call that failed becomes: an error of the one tree.
"""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2

from sidecar.client.details import status_details
from sidecar.client.proof_required import proof_required_by
from sidecar.model.errors import (
    AuthenticationError,
    InternalError,
    LimitExceededError,
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SidecarError,
    SourceUnavailableError,
    StepUpRequiredError,
)


class StepUpRefusedError(MfaError):
    """The person said no."""

    reason = "step_up_refused"


class StepUpExpiredError(MfaError):
    """Nobody answered in time, or another challenge took the place of this one."""

    reason = "step_up_expired"


def error_of(error: grpc.RpcError, target: str) -> SidecarError:
    """Return the error of our own tree that says what *error* does."""
    code, details = _code(error), _details(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SourceUnavailableError(f"the sidecar at `{target}` did not answer in time")
    if code is grpc.StatusCode.UNAVAILABLE:
        return SourceUnavailableError(f"the sidecar at `{target}` cannot be reached: {details}"[:512])
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(details, field=_field(error))
    required = proof_required_by(error)
    if required is not None:
        return StepUpRequiredError(details, requirement=required.requirement)
    kind = _ERRORS.get(code)
    if kind is not None:
        return kind(details)
    return InternalError(f"the sidecar at `{target}` failed: {details or code.name.lower()}"[:512], cause=error)


def is_transient(error: grpc.RpcError) -> bool:
    """Say whether the same call may do better in a moment."""
    return _code(error) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


_ERRORS: dict[grpc.StatusCode, type[SidecarError]] = {
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
}


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    call: grpc.Call = error  # type: ignore[assignment]
    return call.code()


def _details(error: grpc.RpcError) -> str:
    call: grpc.Call = error  # type: ignore[assignment]
    return call.details() or ""


def _field(error: grpc.RpcError) -> str:
    """Return the one field at fault, if that is told."""
    status = status_details(error)
    violations = error_details_pb2.BadRequest()
    for packed in status.details if status is not None else ():
        if packed.Unpack(violations) and violations.field_violations:
            return str(violations.field_violations[0].field)
    return ""
