# SPDX-License-Identifier: Apache-2.0
"""
How a protected service, or a proxy before it, says that a proof would have a call pass, and how clients read that.

It travels as ``google.rpc.ErrorInfo``, so that a client in any language can read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2

from sidecar.client.details import status_details
from sidecar.model.decision import MfaMethod, MfaRequirement

#: Reason and domain of the details.
MFA_REQUIRED = "MFA_REQUIRED"
ERROR_DOMAIN = "iam-sidecar"


@dataclass(frozen=True, slots=True)
class ProofRequired:
    """
    What a protected service refused for want of a proof.

    Attributes:
        action: What was to be done; empty where a proxy has refused, whose ticket knows it.
        resource: On what; likewise.
        step_up_ticket: What the challenge is begun with, where a proxy has refused; else empty.
    """

    action: str
    resource: str
    requirement: MfaRequirement
    step_up_ticket: str = field(default="", repr=False)


def proof_required_by(error: grpc.RpcError) -> ProofRequired | None:
    """Return what proof would have a call pass that a protected service refused with *error*; None if none would."""
    status = status_details(error)
    info = error_details_pb2.ErrorInfo()
    for packed in status.details if status is not None else ():
        if packed.Unpack(info) and (info.reason, info.domain) == (MFA_REQUIRED, ERROR_DOMAIN):
            return proof_required_from_wire(info)
    return None


def proof_required_to_wire(required: ProofRequired) -> error_details_pb2.ErrorInfo:
    """Return the details of a refusal."""
    requirement = required.requirement
    info = error_details_pb2.ErrorInfo(reason=MFA_REQUIRED, domain=ERROR_DOMAIN)
    info.metadata["action"] = required.action
    info.metadata["resource"] = required.resource
    info.metadata["methods"] = ",".join(method.word for method in requirement.methods)
    info.metadata["user_verification"] = "true" if requirement.user_verification else "false"
    if requirement.max_age_seconds is not None:
        info.metadata["max_age"] = str(requirement.max_age_seconds)
    return info


def proof_required_from_wire(info: error_details_pb2.ErrorInfo) -> ProofRequired:
    """Return what the details of a refusal say; what is not understood counts as not said."""
    age = info.metadata.get("max_age", "")
    words = info.metadata.get("methods", "").replace(",", " ").split()
    return ProofRequired(
        action=info.metadata.get("action", ""),
        resource=info.metadata.get("resource", ""),
        requirement=MfaRequirement(
            max_age_seconds=int(age) if age.isascii() and age.isdigit() and len(age) < 11 else None,
            methods=tuple(method for method in MfaMethod if method.word in words),
            user_verification=info.metadata.get("user_verification", "") == "true",
        ),
        step_up_ticket=info.metadata.get("step_up_ticket", ""),
    )
