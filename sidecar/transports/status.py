# SPDX-License-Identifier: Apache-2.0
"""
The one table from errors to gRPC status codes, and the details that travel with them.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from sidecar.model.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ImageError,
    InternalError,
    LimitExceededError,
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    PolicyError,
    PolicySyntaxError,
    PreconditionError,
    Problem,
    RequestError,
    SettingsError,
    SidecarError,
    SourceUnavailableError,
    StepUpRequiredError,
    ThrottledError,
    TicketExpiredError,
    TicketForeignError,
)

#: Status of each class of error; a class that is not here has that of its nearest base.
STATUS_BY_ERROR: dict[type[SidecarError], grpc.StatusCode] = {
    PolicyError: grpc.StatusCode.INVALID_ARGUMENT,
    PolicySyntaxError: grpc.StatusCode.INVALID_ARGUMENT,
    ImageError: grpc.StatusCode.INVALID_ARGUMENT,
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    MfaError: grpc.StatusCode.UNAUTHENTICATED,
    AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ThrottledError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    SettingsError: grpc.StatusCode.FAILED_PRECONDITION,
    SourceUnavailableError: grpc.StatusCode.UNAVAILABLE,
    InternalError: grpc.StatusCode.INTERNAL,
}

#: What every caller is told of a proof that did not hold: which check failed is for the audit trail alone.
PROOF_REFUSED = "the proof was not accepted"

#: Domain of details for programs, and the reason of the one that says that a second factor would do.
ERROR_DOMAIN = "iam-sidecar"
MFA_REQUIRED = "MFA_REQUIRED"

#: Bytes of a serialized status. It travels in base64, and so stays below 4 KiB.
MAX_STATUS_BYTES = 3 * 1024
#: Characters of a message, and of one description inside the details.
_MAX_MESSAGE = 512
_MAX_DESCRIPTION = 512


def status_code(error: SidecarError) -> grpc.StatusCode:
    """
    Return the gRPC status code of *error*.

    >>> status_code(RequestError("no action"))
    <StatusCode.INVALID_ARGUMENT: (3, 'invalid argument')>
    """
    for kind in type(error).__mro__:
        code = STATUS_BY_ERROR.get(kind)
        if code is not None:
            return code
    return grpc.StatusCode.INTERNAL


def status_of(error: SidecarError) -> status_pb2.Status:
    """Return what the caller is told of *error*: its message, and the fields at fault."""
    code = int(status_code(error).value[0])
    message = error.message if not error.help else f"{error.message} ({error.help})"
    if isinstance(error, MfaError):
        message = PROOF_REFUSED
    status = status_pb2.Status(code=code, message=_shorten(message, _MAX_MESSAGE))
    info = _info(error)
    if info is not None:
        packed = any_pb2.Any()
        packed.Pack(info)
        status.details.append(packed)
        return status
    violations = _violations(error)
    if not violations:
        return status
    details = error_details_pb2.BadRequest()
    kept = 0
    for violation in violations:
        details.field_violations.append(violation)
        left = len(violations) - kept - 1
        if _size(status, details, left) > MAX_STATUS_BYTES:
            del details.field_violations[-1]
            break
        kept += 1
    if kept < len(violations):
        details.field_violations.add(description=f"… and {len(violations) - kept} more")
    packed = any_pb2.Any()
    packed.Pack(details)
    status.details.append(packed)
    return status


def _info(error: SidecarError) -> error_details_pb2.ErrorInfo | None:
    """Return what a client needs to go on by itself: to sign in again, or to open a challenge and ask again."""
    if isinstance(error, TicketForeignError | TicketExpiredError):
        return error_details_pb2.ErrorInfo(reason=error.reason.upper(), domain=ERROR_DOMAIN)
    if isinstance(error, AuthenticationError) and error.reason != AuthenticationError.reason:
        return error_details_pb2.ErrorInfo(reason=error.reason.upper(), domain=ERROR_DOMAIN)
    if not isinstance(error, StepUpRequiredError):
        return None
    requirement = error.requirement
    metadata = {
        "methods": ",".join(method.word for method in requirement.methods),
        "user_verification": "true" if requirement.user_verification else "false",
    }
    if requirement.max_age_seconds is not None:
        metadata["max_age"] = str(requirement.max_age_seconds)
    return error_details_pb2.ErrorInfo(reason=MFA_REQUIRED, domain=ERROR_DOMAIN, metadata=metadata)


def internal_status(error_id: str) -> status_pb2.Status:
    """Return what a caller is told of a fault of our own: nothing but an id to look for in the log."""
    return status_pb2.Status(code=code_pb2.INTERNAL, message=f"internal error {error_id}")


def violations_in(status: status_pb2.Status) -> list[tuple[str, str]]:
    """Return the fields at fault and what is wrong with each, as ``status_of`` put them in."""
    found = []
    for packed in status.details:
        details = error_details_pb2.BadRequest()
        if packed.Unpack(details):
            found += [(violation.field, violation.description) for violation in details.field_violations]
    return found


def _violations(error: SidecarError) -> list[error_details_pb2.BadRequest.FieldViolation]:
    make = error_details_pb2.BadRequest.FieldViolation
    if isinstance(error, RequestError) and error.field:
        description = error.message if not error.help else f"{error.message} ({error.help})"
        return [make(field=_shorten(error.field, 256), description=_shorten(description, _MAX_DESCRIPTION))]
    if isinstance(error, PolicySyntaxError):
        return [
            make(field=_shorten(problem.file, 256), description=_shorten(_describe(problem), _MAX_DESCRIPTION))
            for problem in error.problems
        ]
    return []


def _describe(problem: Problem) -> str:
    text = f"{problem.json_path}: {problem.severity}: {problem.message}"
    return f"{text} ({problem.help})" if problem.help else text


def _size(status: status_pb2.Status, details: error_details_pb2.BadRequest, left: int) -> int:
    """Return the size of *status* with *details*, and with a last line that counts those left out."""
    # The packed message names its type and repeats lengths; the last line is short.
    size: int = status.ByteSize() + details.ByteSize() + 80 + (40 if left else 0)
    return size


def _shorten(text: str, limit: int) -> str:
    """Return *text* fit for the wire: no lone surrogates, and no longer than *limit*."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"
