# SPDX-License-Identifier: Apache-2.0
"""
What is tried before it is enforced: both snapshots are asked, one says what is in force, the other what would be.
"""

from __future__ import annotations

import dataclasses

from sidecar.model.decision import Answer, Decision, MfaRequirement, PolicyLayer, Reason
from sidecar.model.errors import RequestError
from sidecar.model.request import AuthorizationRequest
from sidecar.model.snapshot import Snapshot
from tests.oracle.decide import decide as decide_by_one


def decide(
    snapshot: Snapshot | None, request: AuthorizationRequest, *, seconds: int, nanos: int, simulation: bool = False
) -> Answer:
    """
    Answer *request* under *snapshot* at a given time, and say what it would be with what stands in its shadow.

    Args:
        seconds: Seconds since the epoch. The caller owns the clock.
        nanos: Nanoseconds on top; no context key shows them.
        simulation: Whether a federated user may be named by its ARN.

    Raises:
        RequestError: What is in force finds the request invalid.
    """
    answer = decide_by_one(snapshot, request, seconds=seconds, nanos=nanos, simulation=simulation)
    if snapshot is None or snapshot.shadow is None:
        return answer
    try:
        shadow = decide_by_one(snapshot.shadow.snapshot, request, seconds=seconds, nanos=nanos, simulation=simulation)
    except RequestError:
        # A resource policy in shadow names another owner than the request.
        shadow = Answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.RESOURCE_ACCOUNT_UNKNOWN)
        shadow = dataclasses.replace(shadow, principal_arn=answer.principal_arn)
    if any(seconds >= entry.until for entry in snapshot.shadow.entries):
        answer = _stricter(answer, shadow)
    return dataclasses.replace(answer, shadow_decision=shadow.decision)


def _stricter(answer: Answer, shadow: Answer) -> Answer:
    """Something should be in force by now: both must allow."""
    if shadow.decision is Decision.ALLOW:
        return answer
    if answer.decision is Decision.ALLOW:
        return shadow
    requirement = _both(answer.mfa_requirement, shadow.mfa_requirement)
    return dataclasses.replace(answer, mfa_requirement=requirement)


def _both(one: MfaRequirement | None, other: MfaRequirement | None) -> MfaRequirement | None:
    """Return the proof that does for both."""
    if one is None or other is None:
        return None
    methods = tuple(method for method in one.methods if method in other.methods)
    ages = [age for age in (one.max_age_seconds, other.max_age_seconds) if age is not None]
    if not methods:
        return None
    return MfaRequirement(min(ages, default=None), methods, one.user_verification or other.user_verification)
