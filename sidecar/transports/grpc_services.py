# SPDX-License-Identifier: Apache-2.0
"""
The gRPC services of the contract as functions from bytes to bytes.

What they raise is for ``grpc_server`` to turn into a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar.model.decision import Answer, Decision, PolicyLayer, Reason
from sidecar.model.errors import RequestError
from sidecar.model.request import AuthorizationRequest
from sidecar.services.authorizer import Explanation
from sidecar.services.simulation import SimulationRequest
from sidecar.services.snapshots import LoadedSnapshot, ReloadResult
from sidecar.transports.messages import (
    explain_request_from_wire,
    explanation_to_wire,
    reload_result_to_wire,
    simulate_request_from_wire,
    snapshot_to_wire,
)
from sidecar.transports.permissions import Method, Permissions
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

AUTHORIZATION_SERVICE = "sidecar.v1.AuthorizationService"
SIMULATION_SERVICE = "sidecar.v1.SimulationService"
SNAPSHOT_SERVICE = "sidecar.v1.SnapshotService"

_MessageT = TypeVar("_MessageT", bound=Message)


class AuthorizerService(Protocol):
    """Decides."""

    def authorize(self, request: bytes) -> bytes:
        """Answer one serialized request."""
        ...

    def batch_authorize(self, request: bytes) -> bytes:
        """Answer a serialized batch."""
        ...

    def explain(self, request: AuthorizationRequest) -> Explanation:
        """Answer with everything that led to the decision."""
        ...


class SimulatorService(Protocol):
    """Decides by documents in the request."""

    def simulate(self, request: SimulationRequest) -> Explanation:
        """Answer as if those documents were all there is."""
        ...


class SnapshotHolder(Protocol):
    """Knows what is in place and how to replace it."""

    @property
    def loaded(self) -> LoadedSnapshot | None:
        """What is in place."""
        ...

    def reload(self) -> ReloadResult:
        """Try to replace it."""
        ...


def decision_methods(authorizer: AuthorizerService) -> dict[str, Method]:
    """Return the methods that services ask on their way: no message is unpacked in Python."""
    return {"Authorize": authorizer.authorize, "BatchAuthorize": authorizer.batch_authorize}


def management_methods(
    *, authorizer: AuthorizerService, simulator: SimulatorService, snapshots: SnapshotHolder, permissions: Permissions
) -> dict[str, Mapping[str, Method]]:
    """Return the methods about decisions and snapshots, by service and name."""

    def explain(request: bytes) -> bytes:
        message = _parse(pb.ExplainRequest, request)
        if message.request.WhichOneof("caller") == "session_token" and not message.request.session_token:
            # As in Authorize: who says that there is a session, and shows none, is not somebody without one.
            answer = Answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.SESSION_INVALID)
            loaded = snapshots.loaded
            revision = "" if loaded is None else loaded.image.revision
            return explanation_to_wire(Explanation(answer, revision)).SerializeToString()
        try:
            explanation = authorizer.explain(explain_request_from_wire(message))
        except RequestError as error:
            # The question stands one level deeper here than in Authorize.
            is_override = error.field.startswith("override")
            field = error.field if is_override or not error.field else f"request.{error.field}"
            raise RequestError(error.message, field=field, help=error.help) from None
        return explanation_to_wire(explanation).SerializeToString()

    def simulate(request: bytes) -> bytes:
        question = simulate_request_from_wire(_parse(pb.SimulateRequest, request))
        return explanation_to_wire(simulator.simulate(question)).SerializeToString()

    def get_snapshot(request: bytes) -> bytes:
        _parse(pb.GetSnapshotRequest, request)
        return snapshot_to_wire(snapshots.loaded).SerializeToString()

    def reload_snapshot(request: bytes) -> bytes:
        _parse(pb.ReloadSnapshotRequest, request)
        return reload_result_to_wire(snapshots.reload()).SerializeToString()

    methods: dict[str, dict[str, Method]] = {
        AUTHORIZATION_SERVICE: {**decision_methods(authorizer), "Explain": explain},
        SIMULATION_SERVICE: {"Simulate": simulate},
        SNAPSHOT_SERVICE: {"GetSnapshot": get_snapshot, "ReloadSnapshot": reload_snapshot},
    }
    return {service: permissions.guard(service, functions) for service, functions in methods.items()}


def fault_answer(method: str, request: bytes) -> tuple[bytes, int] | None:
    """
    Return the answer to give where a fault of our own keeps *method* from deciding, and its number of denials.

    A failed call may be let through by whoever enforces; a denial is not.
    None for a method that decides nothing.
    """
    denial = pb.AuthorizeResponse(decision=pb.DECISION_IMPLICIT_DENY, reason=Reason.INTERNAL_ERROR.word)
    if method == "Authorize":
        return denial.SerializeToString(), 1
    if method == "BatchAuthorize":
        try:
            count = len(pb.BatchAuthorizeRequest.FromString(request).requests)
        except DecodeError:
            return None
        return pb.BatchAuthorizeResponse(responses=[denial] * count).SerializeToString(), count
    return None


def _parse(kind: type[_MessageT], data: bytes) -> _MessageT:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the request is no {kind.DESCRIPTOR.full_name}") from None
