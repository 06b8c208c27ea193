# SPDX-License-Identifier: Apache-2.0
"""
A question to the sidecar, and its verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from sidecar.model.decision import Decision, MfaMethod, MfaRequirement, PolicyLayer
from sidecar.model.errors import RequestError
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

_METHODS = {method.word: method for method in MfaMethod}
_DECISIONS = {int(decision): decision for decision in Decision}
_LAYERS = {int(layer): layer for layer in PolicyLayer}


@dataclass(frozen=True, slots=True)
class Question:
    """
    May this caller do this action on this resource?

    Attributes:
        action: ``service:Action``.
        resource: One ARN, or ``*`` for an action without a resource.
        session_token: Of the caller; the sidecar itself vouches for it.
        principal: The caller's ARN, where you vouch for it instead. Neither: an anonymous caller.
        context: Condition keys. A text is one value; a sequence is a list.
        resource_account: Owner of the resource, where its ARN names none.
    """

    action: str
    resource: str
    session_token: str = field(default="", repr=False)
    principal: str = ""
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    resource_account: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What the sidecar decided.

    Attributes:
        reason: A stable snake_case word, such as ``no_identity_allow``.
        mfa_requirement: Set where a proof by the caller would turn this denial into an allow.
        snapshot_revision: The policies that it was decided by.
        shadow_decision: What the policies in shadow mode would have made of it, where there are any.
        principal_arn: Who it was decided for.
    """

    decision: Decision
    layer: PolicyLayer
    reason: str
    mfa_requirement: MfaRequirement | None = None
    snapshot_revision: str = ""
    shadow_decision: Decision = Decision.UNSPECIFIED
    principal_arn: str = ""

    @property
    def is_allowed(self) -> bool:
        """Whether the caller may; the one thing that lets a call through."""
        return self.decision is Decision.ALLOW

    def __bool__(self) -> NoReturn:
        # An object is true by itself, and a denial that passes for true would open a door.
        raise TypeError("a verdict is neither true nor false; ask its `is_allowed`")


def question_to_wire(question: Question) -> pb.AuthorizeRequest:
    """
    Return *question* for the wire.

    Raises:
        RequestError: It names a principal and a session, or holds what is no valid text.
    """
    if question.session_token and question.principal:
        raise RequestError(
            "a question names a session token or a principal, not both",
            field="principal",
            help="leave `principal` out: the token says who it is",
        )
    try:
        message = pb.AuthorizeRequest(
            action=question.action, resource=question.resource, resource_account=question.resource_account
        )
        if question.session_token:
            message.session_token = question.session_token
        elif question.principal:
            message.principal = question.principal
        for key, value in question.context.items():
            is_text = isinstance(value, str)
            message.context[key].values.extend([value] if isinstance(value, str) else value)
            message.context[key].multivalued = not is_text
    except UnicodeEncodeError:
        raise RequestError("the question holds what is no valid text") from None
    return message


def verdict_from_wire(message: pb.AuthorizeResponse) -> Verdict:
    """Return the verdict that *message* says; what this client does not know is no allow."""
    requirement = None
    if message.HasField("mfa_requirement"):
        wire = message.mfa_requirement
        requirement = MfaRequirement(
            max_age_seconds=wire.max_age_seconds if wire.HasField("max_age_seconds") else None,
            methods=tuple(_METHODS[word] for word in wire.methods if word in _METHODS),
            user_verification=wire.user_verification,
        )
    return Verdict(
        decision=_DECISIONS.get(message.decision, Decision.UNSPECIFIED),
        layer=_LAYERS.get(message.layer, PolicyLayer.UNSPECIFIED),
        reason=message.reason,
        mfa_requirement=requirement,
        snapshot_revision=message.snapshot_revision,
        shadow_decision=_DECISIONS.get(message.shadow_decision, Decision.UNSPECIFIED),
        principal_arn=message.principal_arn,
    )
