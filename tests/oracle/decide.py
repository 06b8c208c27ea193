# SPDX-License-Identifier: Apache-2.0
"""
The whole way from a request to an answer.

``docs/semantics.md``, rules 1 to 4 of section 2, then the other modules, then section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sidecar.model.decision import Answer, Decision, PolicyLayer, Reason
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.snapshot import Snapshot
from tests.oracle import mfa
from tests.oracle.context import build_context
from tests.oracle.layers import Outcome, evaluate, find_layers
from tests.oracle.request import (
    CallerKind,
    Resource,
    find_owner,
    look_up,
    parse_action,
    parse_caller,
    parse_context,
    parse_resource,
    parse_resource_account,
)
from tests.oracle.session import kind_forbids, proof_for, refusal, session_keys, session_of, speaks_for
from tests.oracle.statements import Question


def decide(
    snapshot: Snapshot | None,
    request: AuthorizationRequest,
    *,
    seconds: int,
    nanos: int,
    simulation: bool = False,
) -> Answer:
    """
    Answer *request* under *snapshot* at a given time.

    Args:
        seconds: Seconds since the epoch. The caller owns the clock.
        nanos: Nanoseconds on top; no context key shows them.
        simulation: Whether a federated user may be named by its ARN.

    Raises:
        RequestError: The request is not valid.
    """
    session = session_of(request)
    claims = session.claims if session is not None else None
    now_ms = seconds * 1000 + nanos // 1_000_000
    principal = claims.arn if claims is not None else request.principal

    # Rule 1.
    caller = parse_caller(principal, simulation=simulation)
    action = parse_action(request.action)
    resource = parse_resource(request.resource)
    resource_account = parse_resource_account(request.resource_account)
    request_context = parse_context(request.context, field="context", may_be_reserved=False)
    override = parse_context(request.override, field="override", may_be_reserved=True)

    def answer(decision: Decision, layer: PolicyLayer, reason: Reason) -> Answer:
        return Answer(decision, layer, reason, principal_arn=principal)

    # Rule 2.
    if snapshot is None:
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.NO_SNAPSHOT)
    if claims is not None and (refused := refusal(claims, now_ms)) is not None:
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, refused)
    owner = find_owner(snapshot, resource_account, resource, caller)
    known = look_up(snapshot, caller)
    if claims is not None and not speaks_for(claims, snapshot, known):
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.SESSION_INVALID)
    if known is None:
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.UNKNOWN_PRINCIPAL)
    caller = known
    if not owner:
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.RESOURCE_ACCOUNT_UNKNOWN)
    if caller.partition and resource.partition and caller.partition != resource.partition:
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.CROSS_PARTITION)

    # Rule 3.
    if action == "sts:getcalleridentity" and caller.kind is not CallerKind.ANONYMOUS:
        return answer(Decision.ALLOW, PolicyLayer.UNSPECIFIED, Reason.ALWAYS_ALLOWED)

    # Rule 4.
    if _is_immutable(action, resource):
        return answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.IMMUTABLE_RESOURCE)

    # What the session adds.
    proof = proof_for(claims, action, request.resource, now_ms) if claims is not None else None
    is_forbidden, by_mfa = kind_forbids(claims, action, proof, override) if claims is not None else (False, False)

    # Rules 5 to 7.
    context = build_context(
        snapshot,
        caller,
        owner,
        request_context,
        override,
        seconds=seconds,
        session_keys=session_keys(claims, proof, now_ms=now_ms) if claims is not None else None,
        issued_at=claims.issued_at_ms // 1000 if claims is not None else 0,
    )
    session_policies = session.policies if session is not None else None
    layers = find_layers(snapshot, caller, action, resource, owner, session_policies)
    question = Question(
        caller=caller,
        action=action,
        resource=resource,
        owner=owner,
        context=context,
        has_boundary=layers.boundary is not None,
        must_grant=layers.must_grant,
    )
    if is_forbidden:
        outcome = Outcome(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.SESSION_KIND_NOT_ALLOWED)
    else:
        outcome = evaluate(snapshot, layers, question)

    requirement = None
    could_prove = caller.kind in (CallerKind.USER, CallerKind.ROLE_SESSION) and (claims is None or bool(claims.person))
    if outcome.decision is not Decision.ALLOW and could_prove and is_forbidden == by_mfa:

        def decide_in(facts: Mapping[str, ContextValue]) -> Decision:
            return evaluate(snapshot, layers, replace(question, context=facts)).decision

        requirement = mfa.find_requirement(
            snapshot,
            caller,
            context,
            decide_in,
            seconds=seconds,
            token_time_is_known=claims is not None or "aws:tokenissuetime" in override,
            session_policies=session_policies or (),
        )

    return Answer(
        decision=outcome.decision,
        layer=outcome.layer,
        reason=outcome.reason,
        mfa_requirement=requirement,
        principal_arn=principal,
        matched_statements=tuple(sorted(outcome.matches)),
        missing_context_keys=tuple(sorted(outcome.missing_keys)),
    )


def _is_immutable(action: str, resource: Resource) -> bool:
    service, _, name = action.partition(":")
    if service != "iam" or name == "passrole" or name.startswith(("get", "list", "generate", "simulate")):
        return False
    if resource.service != "iam":
        return False
    is_aws_policy = resource.account == "aws" and resource.path.startswith("policy/")
    return is_aws_policy or resource.path.startswith("role/aws-reserved/")
