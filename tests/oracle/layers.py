# SPDX-License-Identifier: Apache-2.0
"""
Which policies apply to a request, and the order in which they decide.

``docs/semantics.md``, section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sidecar.model.decision import Decision, PolicyLayer, Reason, StatementMatch
from sidecar.model.policy import Effect, Policy
from sidecar.model.snapshot import Snapshot
from tests.oracle.context import path_to
from tests.oracle.request import Caller, CallerKind, Resource, find_resource_policy
from tests.oracle.statements import Named, Question, judge


@dataclass(frozen=True)
class Layers:
    """
    The policies that apply to a request; None for a layer that does not apply.

    Attributes:
        service_control: One set for each level; None for a level that says nothing (FullAWSAccess).
        resource_control: One set for each level.
        resource: None where the resource has no policy.
        must_grant: Whether the resource's policy must grant by itself.
    """

    service_control: tuple[tuple[Policy, ...] | None, ...] | None
    resource_control: tuple[tuple[Policy, ...], ...] | None
    resource: Policy | None
    must_grant: bool
    identity: tuple[Policy, ...] | None
    boundary: Policy | None
    session: tuple[Policy, ...] | None


@dataclass
class LayerResult:
    """
    What the policies of one layer, or of one level, say together.

    Attributes:
        allows: Whether an Allow applies.
        denies: Whether a Deny applies.
        named: Whom the principals of the Allows that apply name.
        matches: Every statement that applies.
        missing_keys: Context keys that were asked for and are null.
    """

    allows: bool = False
    denies: bool = False
    named: set[Named] = field(default_factory=set)
    matches: set[StatementMatch] = field(default_factory=set)
    missing_keys: set[str] = field(default_factory=set)


@dataclass
class Outcome:
    """A decision and everything that led to it."""

    decision: Decision
    layer: PolicyLayer
    reason: Reason
    matches: set[StatementMatch] = field(default_factory=set)
    missing_keys: set[str] = field(default_factory=set)


def find_layers(
    snapshot: Snapshot,
    caller: Caller,
    action: str,
    resource: Resource,
    owner: str,
    session_policies: tuple[Policy, ...] | None = None,
) -> Layers:
    """
    Gather the policies of every layer that applies.

    Args:
        session_policies: Those of the caller's token.
    """
    organization = snapshot.organization
    is_service_linked = caller.role is not None and caller.role.is_service_linked

    service_control: tuple[tuple[Policy, ...] | None, ...] | None = None
    resource_control: tuple[tuple[Policy, ...], ...] | None = None
    if organization is not None and not is_service_linked:
        units = path_to(organization, caller.account) if caller.account else []
        if units and caller.account != organization.management_account:
            (place,) = [place for place in units[-1].accounts if place.id == caller.account]
            service_control = (*(unit.service_control_policies for unit in units), place.service_control_policies)
        units = path_to(organization, owner)
        if units and owner != organization.management_account:
            (place,) = [place for place in units[-1].accounts if place.id == owner]
            resource_control = (*(unit.resource_control_policies for unit in units), place.resource_control_policies)

    identity: tuple[Policy, ...] | None = None
    boundary: Policy | None = None
    if caller.user is not None:
        identity, boundary = caller.user.policies, caller.user.boundary
    elif caller.role is not None:
        identity, boundary = caller.role.policies, caller.role.boundary

    session: tuple[Policy, ...] | None = None
    if caller.user is not None or caller.role is not None:
        session = snapshot.session_policies if snapshot.session_policies is not None else session_policies
    if session is None and caller.kind is CallerKind.FEDERATED_USER:
        session = ()

    is_sts_on_role = resource.is_role and action.startswith("sts:")
    return Layers(
        service_control=service_control,
        resource_control=resource_control,
        resource=_resource_policy(snapshot, action, resource),
        must_grant=is_sts_on_role or (resource.is_key and action.startswith("kms:")),
        identity=identity,
        boundary=boundary,
        session=session,
    )


def _resource_policy(snapshot: Snapshot, action: str, resource: Resource) -> Policy | None:
    if resource.is_role:
        if not action.startswith("sts:"):
            return None
        for account in snapshot.accounts:
            for role in account.roles:
                if role.arn == resource.text:
                    return role.trust
        return None
    entry = find_resource_policy(snapshot, resource)
    return entry.policy if entry is not None else None


def evaluate_layer(layer: PolicyLayer, policies: Iterable[Policy], question: Question) -> LayerResult:
    """Match every statement of some policies against a question."""
    result = LayerResult()
    for policy in policies:
        for statement in policy.document.statements:
            verdict = judge(statement, question)
            result.missing_keys |= verdict.missing_keys
            if not verdict.applies:
                continue
            result.matches.add(
                StatementMatch(layer, policy.name, statement.sid, statement.index, statement.effect.value)
            )
            if statement.effect is Effect.DENY:
                result.denies = True
            else:
                result.allows = True
                result.named |= verdict.named
    return result


def evaluate(snapshot: Snapshot, layers: Layers, question: Question) -> Outcome:
    """Decide by rules 5 to 7."""
    scp = [evaluate_layer(PolicyLayer.SERVICE_CONTROL, level or (), question) for level in layers.service_control or ()]
    rcp = [evaluate_layer(PolicyLayer.RESOURCE_CONTROL, level, question) for level in layers.resource_control or ()]
    resource = evaluate_layer(PolicyLayer.RESOURCE, [layers.resource] if layers.resource else [], question)
    identity = evaluate_layer(PolicyLayer.IDENTITY, layers.identity or (), question)
    boundary = evaluate_layer(PolicyLayer.PERMISSIONS_BOUNDARY, [layers.boundary] if layers.boundary else [], question)
    session = evaluate_layer(PolicyLayer.SESSION, layers.session or (), question)

    in_order = [
        *((PolicyLayer.SERVICE_CONTROL, level) for level in scp),
        *((PolicyLayer.RESOURCE_CONTROL, level) for level in rcp),
        (PolicyLayer.RESOURCE, resource),
        (PolicyLayer.IDENTITY, identity),
        (PolicyLayer.PERMISSIONS_BOUNDARY, boundary),
        (PolicyLayer.SESSION, session),
    ]

    decision, layer, reason = _decide(snapshot, layers, question, in_order, scp, resource, identity, boundary, session)
    outcome = Outcome(decision, layer, reason)
    for _, result in in_order:
        outcome.matches |= result.matches
        outcome.missing_keys |= result.missing_keys
    return outcome


def _decide(
    snapshot: Snapshot,
    layers: Layers,
    question: Question,
    in_order: list[tuple[PolicyLayer, LayerResult]],
    scp: list[LayerResult],
    resource: LayerResult,
    identity: LayerResult,
    boundary: LayerResult,
    session: LayerResult,
) -> tuple[Decision, PolicyLayer, Reason]:
    caller = question.caller

    # Rule 5.
    for layer, result in in_order:
        if result.denies:
            return Decision.EXPLICIT_DENY, layer, Reason.EXPLICIT_DENY

    # Rule 6.
    for policies, result in zip(layers.service_control or (), scp, strict=True):
        if policies is not None and not result.allows:
            return _implicit(PolicyLayer.SERVICE_CONTROL, Reason.NO_SERVICE_CONTROL_ALLOW)

    # Rule 7.
    direct = Named.DIRECT in resource.named
    via = Named.VIA in resource.named
    acct = Named.ACCOUNT in resource.named
    identity_allows = identity.allows
    if caller.kind is CallerKind.ROOT:
        identity_allows = snapshot.root_is_allowed

    if caller.kind in (CallerKind.SERVICE, CallerKind.ANONYMOUS):
        if direct:
            return Decision.ALLOW, PolicyLayer.RESOURCE, Reason.RESOURCE_ALLOW
        return _implicit(PolicyLayer.RESOURCE, Reason.NO_RESOURCE_ALLOW)

    if question.owner == caller.account:
        if direct:
            return Decision.ALLOW, PolicyLayer.RESOURCE, Reason.RESOURCE_ALLOW
        if layers.must_grant and not (via or acct):
            return _implicit(PolicyLayer.RESOURCE, Reason.NO_RESOURCE_ALLOW)
        if not (identity_allows or via):
            return _implicit(PolicyLayer.IDENTITY, Reason.NO_IDENTITY_ALLOW)
    else:
        if not (direct or via or acct):
            return _implicit(PolicyLayer.RESOURCE, Reason.NO_RESOURCE_ALLOW)
        if not identity_allows:
            return _implicit(PolicyLayer.IDENTITY, Reason.NO_IDENTITY_ALLOW)

    if layers.boundary is not None and not boundary.allows:
        return _implicit(PolicyLayer.PERMISSIONS_BOUNDARY, Reason.NO_PERMISSIONS_BOUNDARY_ALLOW)
    if layers.session is not None and not session.allows:
        return _implicit(PolicyLayer.SESSION, Reason.NO_SESSION_ALLOW)
    if identity_allows:
        is_root = caller.kind is CallerKind.ROOT
        return Decision.ALLOW, PolicyLayer.IDENTITY, Reason.ROOT_ALLOW if is_root else Reason.IDENTITY_ALLOW
    return Decision.ALLOW, PolicyLayer.RESOURCE, Reason.RESOURCE_ALLOW


def _implicit(layer: PolicyLayer, reason: Reason) -> tuple[Decision, PolicyLayer, Reason]:
    return Decision.IMPLICIT_DENY, layer, reason
