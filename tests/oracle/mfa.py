# SPDX-License-Identifier: Apache-2.0
"""
Whether proving MFA would turn a denial into an allow, found by trying everything.

``docs/semantics.md``, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from sidecar.model.decision import Decision, MfaMethod, MfaRequirement
from sidecar.model.policy import Instant, Policy
from sidecar.model.request import ContextValue
from sidecar.model.snapshot import OrganizationalUnit, Snapshot
from tests.oracle.context import iso_time, one
from tests.oracle.request import Caller, CallerKind

#: Every factor: how it is called, and whether it also verifies the person.
FACTORS = (
    (MfaMethod.TOTP, False),
    (MfaMethod.WEBAUTHN, False),
    (MfaMethod.WEBAUTHN, True),
    (MfaMethod.U2F, False),
    (MfaMethod.RECOVERY, False),
)

_GREATEST_AGE = 2**32 - 1


def find_requirement(
    snapshot: Snapshot,
    caller: Caller,
    context: Mapping[str, ContextValue],
    decide_in: Callable[[Mapping[str, ContextValue]], Decision],
    *,
    seconds: int,
    token_time_is_known: bool,
    session_policies: tuple[Policy, ...] = (),
) -> MfaRequirement | None:
    """
    Return what proof would turn a denial of *caller* into an allow; None if none would.

    Args:
        context: Everything that was known when the request was denied.
        decide_in: Decides the same request in another context.
        token_time_is_known: Whether an override states it, or a session that keeps it when something is proved.
        session_policies: Those of the caller's token.
    """

    def is_allowed(method: MfaMethod, verified: bool, age: int) -> bool:
        facts = dict(context)
        facts["aws:multifactorauthpresent"] = one("true")
        facts["aws:multifactorauthage"] = one(str(age))
        facts["sidecar:mfamethod"] = one(method.word)
        facts["sidecar:mfauserverified"] = one("true" if verified else "false")
        facts.pop("sidecar:mfadeviceserial", None)
        if caller.kind is CallerKind.USER and not token_time_is_known:
            facts["aws:tokenissuetime"] = one(iso_time(seconds))
        return decide_in(facts) is Decision.ALLOW

    allowed = [(method, verified) for method, verified in FACTORS if is_allowed(method, verified, 0)]
    if not allowed:
        return None

    ages = ages_to_try(chain(all_policies(snapshot), session_policies))
    greatest = [max(age for age in ages if is_allowed(method, verified, age)) for method, verified in allowed]
    max_age = min(greatest)
    return MfaRequirement(
        max_age_seconds=None if max_age == _GREATEST_AGE else max_age,
        methods=tuple(sorted({method for method, _ in allowed})),
        user_verification=all(verified for _, verified in allowed),
    )


def ages_to_try(policies: Iterable[Policy]) -> list[int]:
    """Return 0, the greatest age, and every number that a policy compares the age with, and its neighbours."""
    ages = {0, _GREATEST_AGE}
    for policy in policies:
        for statement in policy.document.statements:
            for condition in statement.conditions:
                if condition.key != "aws:multifactorauthage":
                    continue
                for value in condition.values:
                    if isinstance(value, Instant):
                        ages |= {value.seconds - 1, value.seconds, value.seconds + 1}
    return sorted(age for age in ages if 0 <= age <= _GREATEST_AGE)


def all_policies(snapshot: Snapshot) -> Iterator[Policy]:
    """Yield every policy of a snapshot."""
    for account in snapshot.accounts:
        for user in account.users:
            yield from user.policies
            if user.boundary is not None:
                yield user.boundary
        for role in account.roles:
            yield role.trust
            yield from role.policies
            if role.boundary is not None:
                yield role.boundary
    for entry in snapshot.resource_policies:
        yield entry.policy
    yield from snapshot.session_policies or ()
    if snapshot.organization is not None:
        yield from _unit_policies(snapshot.organization.root)


def _unit_policies(unit: OrganizationalUnit) -> Iterator[Policy]:
    yield from unit.service_control_policies or ()
    yield from unit.resource_control_policies
    for place in unit.accounts:
        yield from place.service_control_policies or ()
        yield from place.resource_control_policies
    for below in unit.units:
        yield from _unit_policies(below)
