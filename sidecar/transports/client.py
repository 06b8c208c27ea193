# SPDX-License-Identifier: Apache-2.0
"""
A client of the management listener, for the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from sidecar.model.errors import (
    AlreadyExistsError,
    AuthenticationError,
    InternalError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    PolicySyntaxError,
    PreconditionError,
    Problem,
    RequestError,
    Severity,
    SidecarError,
    SourceUnavailableError,
)
from sidecar.model.request import AuthorizationRequest
from sidecar.services.authorizer import Explanation
from sidecar.services.simulation import SimulationRequest
from sidecar.transports.addresses import TcpAddress, parse_address
from sidecar.transports.messages import (
    answer_from_wire,
    authorize_request_to_wire,
    explain_request_to_wire,
    explanation_from_wire,
    problems_from_wire,
    simulate_request_to_wire,
)
from sidecar.transports.status import violations_in
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc

_QuestionT = TypeVar("_QuestionT")
_RequestT = TypeVar("_RequestT", bound=Message)
_ResponseT = TypeVar("_ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """
    What a sidecar tells of its snapshot.

    Attributes:
        revision: Empty where there is none.
        loaded_at_ms: Milliseconds since the epoch.
    """

    revision: str
    loaded_at_ms: int
    principals: int
    policies: int
    statements: int
    image_bytes: int


@dataclass(frozen=True, slots=True)
class ReloadFacts:
    """How a reload of a sidecar ended."""

    is_applied: bool
    snapshot: SnapshotFacts
    problems: tuple[Problem, ...]
    problem_count: int


@dataclass(frozen=True, slots=True)
class ClientTls:
    """
    Material for TLS, in PEM.

    Attributes:
        ca: Whom to trust.
        certificate: The client's own, where the sidecar asks for one.
        server_name: Name in the sidecar's certificate, where it is not the address.
    """

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None
    server_name: str = ""


class ManagementClient:
    """
    Calls one sidecar.

    Thread-safety: that of a gRPC channel, which may be shared.
    """

    def __init__(self, *, address: str, token: str, tls: ClientTls | None = None, timeout: float = 30.0) -> None:
        """
        Args:
            address: As the sidecar prints it: HOST:PORT, or unix:PATH.
            token: The administrator's token.
            timeout: Seconds that a call may take.

        Raises:
            SettingsError: The address is none.
        """
        self._address = parse_address(address)
        self._timeout = timeout
        self._metadata = (("authorization", f"Bearer {token}"),)
        # A sidecar is next door: what the environment says of proxies is for others.
        options: list[tuple[str, object]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
        ]
        if tls is None or not isinstance(self._address, TcpAddress):
            self._channel = grpc.insecure_channel(str(self._address), options=options)
        else:
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
            self._channel = grpc.secure_channel(str(self._address), credentials, options=options)
        self._authorization = pb_grpc.AuthorizationServiceStub(self._channel)
        self._simulation = pb_grpc.SimulationServiceStub(self._channel)
        self._snapshot = pb_grpc.SnapshotServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def authorize(self, request: AuthorizationRequest) -> Explanation:
        """Return the answer to *request*, without what would explain it."""
        message = _encoded(authorize_request_to_wire, request)
        return answer_from_wire(self._call(self._authorization.Authorize, message))

    def explain(self, request: AuthorizationRequest) -> Explanation:
        """Return the answer to *request* with everything that led to it."""
        message = _encoded(explain_request_to_wire, request)
        return explanation_from_wire(self._call(self._authorization.Explain, message))

    def simulate(self, request: SimulationRequest) -> Explanation:
        """Return what the documents in *request* would decide."""
        message = _encoded(simulate_request_to_wire, request)
        return explanation_from_wire(self._call(self._simulation.Simulate, message))

    def get_snapshot(self) -> SnapshotFacts:
        """Return what is in place."""
        return _facts(self._call(self._snapshot.GetSnapshot, pb.GetSnapshotRequest()))

    def reload_snapshot(self) -> ReloadFacts:
        """Have the sidecar reload, and return how that ended."""
        response = self._call(self._snapshot.ReloadSnapshot, pb.ReloadSnapshotRequest())
        return ReloadFacts(
            is_applied=response.applied,
            snapshot=_facts(response.snapshot),
            problems=problems_from_wire(response.problems),
            problem_count=response.problem_count,
        )

    def _call(self, method: Callable[..., _ResponseT], request: _RequestT) -> _ResponseT:
        try:
            return method(request, metadata=self._metadata, timeout=self._timeout)
        except grpc.RpcError as error:
            raise _error_of(error, str(self._address)) from None


def _encoded(to_wire: Callable[[_QuestionT], _RequestT], question: _QuestionT) -> _RequestT:
    """Return *question* for the wire, which takes valid UTF-8 alone."""
    try:
        return to_wire(question)
    except UnicodeEncodeError as error:
        text = str(error.object).encode("utf-8", "backslashreplace").decode("utf-8")
        raise RequestError(f"`{text}` is no valid text") from None


def _facts(message: pb.Snapshot) -> SnapshotFacts:
    return SnapshotFacts(
        revision=message.revision,
        loaded_at_ms=message.loaded_at_unix_ms,
        principals=message.principals,
        policies=message.policies,
        statements=message.statements,
        image_bytes=message.image_bytes,
    )


def _error_of(error: grpc.RpcError, address: str) -> SidecarError:
    """Return the error of our own tree that says what *error* does."""
    # What grpcio raises for a call that failed is that call, too.
    call: grpc.Call = error  # type: ignore[assignment]
    code, details = call.code(), call.details() or ""
    status = rpc_status.from_call(call)
    if status is not None:
        violations = violations_in(status)
        if len(violations) == 1 and not violations[0][1].startswith("$"):
            return RequestError(details, field=violations[0][0])
        if violations:
            problems = (
                Problem(Severity.ERROR, field, *_path_and_text(description)) for field, description in violations
            )
            return PolicySyntaxError(details, problems=problems)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return AuthenticationError(details)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(details)
    if code in _ERROR_BY_STATUS and status is not None:
        return _ERROR_BY_STATUS[code](details)
    if code is grpc.StatusCode.UNAVAILABLE and status is None:
        return SourceUnavailableError(
            f"no sidecar answers at `{address}`", help="start one with `iam-sidecar serve`, or name it with --address"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SourceUnavailableError(f"the sidecar at `{address}` did not answer in time")
    if code is grpc.StatusCode.UNAVAILABLE:
        return SourceUnavailableError(details)
    return InternalError(details or code.name.lower(), cause=error)


#: Errors that say no more than their text.
_ERROR_BY_STATUS: dict[grpc.StatusCode, type[SidecarError]] = {
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
}


def _path_and_text(description: str) -> tuple[str, str]:
    """Take apart what the status of a refused document says of one problem."""
    path, colon, rest = description.partition(": ")
    if not colon:
        return "$", description
    return path, rest.removeprefix("error: ")
