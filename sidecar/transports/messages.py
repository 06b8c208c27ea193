# SPDX-License-Identifier: Apache-2.0
"""
Between the messages of the wire contract and the nouns of the model, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sidecar.model.decision import (
    Answer,
    Decision,
    MfaMethod,
    MfaRequirement,
    PolicyLayer,
    Reason,
    StatementMatch,
)
from sidecar.model.errors import Problem, Severity
from sidecar.model.reload import ReloadOutcome
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.services.authorizer import Explanation
from sidecar.services.simulation import SimulationRequest
from sidecar.services.snapshots import LoadedSnapshot, ReloadResult
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

#: Problems that travel in the answer to a reload.
MAX_PROBLEMS = 1000
#: Characters of one text of a problem, so that an answer stays below what clients take.
_MAX_TEXT = 800

_REASONS = {reason.word: reason for reason in Reason}
#: Enumerations by the names that the generated code takes.
_DECISIONS = {decision: f"DECISION_{decision.name}" for decision in Decision}
_LAYERS = {layer: f"POLICY_LAYER_{layer.name}" for layer in PolicyLayer}
_METHODS = {method.word: method for method in MfaMethod}


def context_from_wire(context: Mapping[str, pb.ContextValue]) -> dict[str, ContextValue]:
    """Return the values of a context map."""
    return {key: ContextValue(tuple(value.values), value.multivalued) for key, value in context.items()}


def context_to_wire(context: Mapping[str, ContextValue]) -> dict[str, pb.ContextValue]:
    """Return a context map for the wire."""
    return {key: pb.ContextValue(values=value.values, multivalued=value.multivalued) for key, value in context.items()}


def explain_request_from_wire(message: pb.ExplainRequest) -> AuthorizationRequest:
    """Return the question of an ExplainRequest."""
    request = message.request
    return AuthorizationRequest(
        principal=request.principal,
        action=request.action,
        resource=request.resource,
        context=context_from_wire(request.context),
        resource_account=request.resource_account,
        override=context_from_wire(message.override),
        session_token=request.session_token,
    )


def authorize_request_to_wire(request: AuthorizationRequest) -> pb.AuthorizeRequest:
    """Return *request* for the wire, without its overrides."""
    message = pb.AuthorizeRequest(
        action=request.action,
        resource=request.resource,
        context=context_to_wire(request.context),
        resource_account=request.resource_account,
    )
    if request.session_token:
        message.session_token = request.session_token
    else:
        message.principal = request.principal
    return message


def explain_request_to_wire(request: AuthorizationRequest) -> pb.ExplainRequest:
    """Return *request* for the wire."""
    return pb.ExplainRequest(request=authorize_request_to_wire(request), override=context_to_wire(request.override))


def simulate_request_from_wire(message: pb.SimulateRequest) -> SimulationRequest:
    """Return the question of a SimulateRequest."""
    return SimulationRequest(
        principal=message.principal,
        action=message.action,
        resource=message.resource,
        resource_account=message.resource_account,
        context=context_from_wire(message.context),
        identity_policies=tuple(message.identity_policies),
        permissions_boundary=message.permissions_boundary,
        session_policies=tuple(message.session_policies),
        resource_policy=message.resource_policy,
        service_control_policies=tuple(tuple(level.documents) for level in message.service_control_policies),
        resource_control_policies=tuple(tuple(level.documents) for level in message.resource_control_policies),
    )


def simulate_request_to_wire(request: SimulationRequest) -> pb.SimulateRequest:
    """Return *request* for the wire."""
    return pb.SimulateRequest(
        principal=request.principal,
        action=request.action,
        resource=request.resource,
        resource_account=request.resource_account,
        context=context_to_wire(request.context),
        identity_policies=request.identity_policies,
        permissions_boundary=request.permissions_boundary,
        session_policies=request.session_policies,
        resource_policy=request.resource_policy,
        service_control_policies=[pb.PolicySet(documents=level) for level in request.service_control_policies],
        resource_control_policies=[pb.PolicySet(documents=level) for level in request.resource_control_policies],
    )


def answer_to_wire(answer: Answer, revision: str) -> pb.AuthorizeResponse:
    """Return the short form of *answer*, without what explains it."""
    response = pb.AuthorizeResponse(
        decision=_DECISIONS[answer.decision],
        layer=_LAYERS[answer.layer],
        reason=answer.reason.word,
        snapshot_revision=revision,
        principal_arn=answer.principal_arn,
        shadow_decision=_DECISIONS[answer.shadow_decision],
    )
    requirement = answer.mfa_requirement
    if requirement is not None:
        response.mfa_requirement.methods.extend(method.word for method in requirement.methods)
        response.mfa_requirement.user_verification = requirement.user_verification
        if requirement.max_age_seconds is not None:
            response.mfa_requirement.max_age_seconds = requirement.max_age_seconds
    return response


def explanation_to_wire(explanation: Explanation) -> pb.ExplainResponse:
    """Return *explanation* for the wire."""
    answer = explanation.answer
    return pb.ExplainResponse(
        answer=answer_to_wire(answer, explanation.revision),
        matched_statements=[
            pb.StatementMatch(
                layer=_LAYERS[match.layer],
                policy=match.policy,
                sid=match.sid,
                statement_index=match.statement_index,
                effect=match.effect,
            )
            for match in answer.matched_statements
        ],
        missing_context_keys=answer.missing_context_keys,
    )


def explanation_from_wire(message: pb.ExplainResponse) -> Explanation:
    """Return the explanation in *message*."""
    return _explanation(message.answer, message.matched_statements, message.missing_context_keys)


def answer_from_wire(message: pb.AuthorizeResponse) -> Explanation:
    """Return the answer in *message*, without what would explain it."""
    return _explanation(message, (), ())


def _explanation(
    message: pb.AuthorizeResponse, matches: Iterable[pb.StatementMatch], missing: Iterable[str]
) -> Explanation:
    requirement = None
    if message.HasField("mfa_requirement"):
        wire = message.mfa_requirement
        requirement = MfaRequirement(
            max_age_seconds=wire.max_age_seconds if wire.HasField("max_age_seconds") else None,
            methods=tuple(_METHODS[word] for word in wire.methods if word in _METHODS),
            user_verification=wire.user_verification,
        )
    answer = Answer(
        decision=Decision(message.decision),
        layer=PolicyLayer(message.layer),
        reason=_REASONS.get(message.reason, Reason.UNSPECIFIED),
        mfa_requirement=requirement,
        principal_arn=message.principal_arn,
        matched_statements=tuple(
            StatementMatch(PolicyLayer(match.layer), match.policy, match.sid, match.statement_index, match.effect)
            for match in matches
        ),
        missing_context_keys=tuple(missing),
        shadow_decision=Decision(message.shadow_decision),
    )
    return Explanation(answer, message.snapshot_revision)


def snapshot_to_wire(loaded: LoadedSnapshot | None) -> pb.Snapshot:
    """Describe the snapshot in place; an empty message where there is none."""
    if loaded is None:
        return pb.Snapshot()
    statistics = loaded.image.statistics
    return pb.Snapshot(
        revision=loaded.image.revision,
        loaded_at_unix_ms=loaded.loaded_at // 1_000_000,
        principals=statistics["principals"],
        policies=statistics["policies"],
        statements=statistics["statements"],
        image_bytes=statistics["image_bytes"],
    )


def reload_result_to_wire(result: ReloadResult) -> pb.ReloadSnapshotResponse:
    """Return how a reload ended; errors stand before warnings, since not all may travel."""
    problems = sorted(result.problems, key=lambda problem: problem.severity is not Severity.ERROR)
    return pb.ReloadSnapshotResponse(
        snapshot=snapshot_to_wire(result.snapshot),
        applied=result.outcome is not ReloadOutcome.FAILED,
        problems=[
            pb.Problem(
                severity=problem.severity.value,
                file=_wire_text(problem.file),
                json_path=_wire_text(problem.json_path),
                message=_wire_text(problem.message),
                help=_wire_text(problem.help),
            )
            for problem in problems[:MAX_PROBLEMS]
        ],
        problem_count=len(problems),
    )


def problems_from_wire(messages: Iterable[pb.Problem]) -> tuple[Problem, ...]:
    """Return the problems in *messages*."""
    return tuple(
        Problem(Severity(message.severity), message.file, message.json_path, message.message, message.help)
        for message in messages
    )


def _wire_text(text: str) -> str:
    """Return *text* bounded, and without the lone surrogates that a file name or document may bring."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
