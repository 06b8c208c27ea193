# SPDX-License-Identifier: Apache-2.0
"""
The context keys that the sidecar sets, for each kind of caller.

``docs/semantics.md``, section 3, the last table.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sidecar.model.request import ContextValue
from sidecar.model.snapshot import Organization, OrganizationalUnit, Snapshot
from tests.oracle.patterns import lower
from tests.oracle.request import Caller, CallerKind


def one(text: str) -> ContextValue:
    """A single value."""
    return ContextValue((text,))


def many(*texts: str) -> ContextValue:
    """A list, however short."""
    return ContextValue(texts, multivalued=True)


def iso_time(seconds: int) -> str:
    """Write a time as ``2026-01-15T12:00:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def path_to(organization: Organization, account: str) -> list[OrganizationalUnit]:
    """Return the root and the units that lead to *account*; empty if it is not in the organization."""

    def search(unit: OrganizationalUnit) -> list[OrganizationalUnit]:
        if any(place.id == account for place in unit.accounts):
            return [unit]
        for below in unit.units:
            found = search(below)
            if found:
                return [unit, *found]
        return []

    return search(organization.root)


def organization_path(organization: Organization, account: str) -> str:
    """Write the path of *account* as ``o-id/r-root/ou-unit/``; empty if it is not in the organization."""
    units = path_to(organization, account)
    return "".join(f"{identifier}/" for identifier in [organization.id, *(unit.id for unit in units)]) if units else ""


def build_context(
    snapshot: Snapshot,
    caller: Caller,
    owner: str,
    request_context: Mapping[str, ContextValue],
    override: Mapping[str, ContextValue],
    *,
    seconds: int,
    session_keys: Mapping[str, str] | None = None,
    issued_at: int = 0,
) -> dict[str, ContextValue]:
    """
    Return every context key that has a value, in lower case: the request's, ours, then the override's.

    Args:
        session_keys: What the session adds; None: the caller is named.
        issued_at: When the session began, in seconds since the epoch.
    """
    context = dict(request_context)
    context.update(_caller_keys(snapshot, caller))
    if session_keys is not None:
        context.update({key: one(text) for key, text in session_keys.items()})
        context["aws:tokenissuetime"] = one(iso_time(issued_at))
    context["aws:currenttime"] = one(iso_time(seconds))
    context["aws:epochtime"] = one(str(seconds))
    context["aws:viaawsservice"] = one("false")
    context["aws:resourceaccount"] = one(owner)
    if snapshot.organization is not None:
        path = organization_path(snapshot.organization, owner)
        if path:
            context["aws:resourceorgid"] = one(snapshot.organization.id)
            context["aws:resourceorgpaths"] = many(path)
    context.update(override)
    return context


def _caller_keys(snapshot: Snapshot, caller: Caller) -> dict[str, ContextValue]:
    keys: dict[str, ContextValue] = {}
    if caller.kind is CallerKind.ANONYMOUS:
        keys["aws:principalaccount"] = one("anonymous")
        keys["aws:principaltype"] = one("Anonymous")
        keys["aws:userid"] = one("anonymous")
        return keys
    if caller.kind is CallerKind.SERVICE:
        keys["aws:principaltype"] = one("AWSService")
        keys["aws:principalisawsservice"] = one("true")
        keys["aws:principalservicename"] = one(caller.name)
        keys["aws:principalservicenameslist"] = many(caller.name)
        return keys

    keys["aws:principalisawsservice"] = one("false")
    keys["aws:principalaccount"] = one(caller.account)
    if snapshot.organization is not None:
        path = organization_path(snapshot.organization, caller.account)
        if path:
            keys["aws:principalorgid"] = one(snapshot.organization.id)
            keys["aws:principalorgpaths"] = many(path)

    tags: Mapping[str, str] = {}
    if caller.kind is CallerKind.ROOT:
        keys["aws:principalarn"] = one(caller.arn)
        keys["aws:principaltype"] = one("Account")
        keys["aws:userid"] = one(caller.account)
    elif caller.kind is CallerKind.USER and caller.user is not None:
        tags = caller.user.tags
        keys["aws:principalarn"] = one(caller.user.arn)
        keys["aws:principaltype"] = one("User")
        keys["aws:userid"] = one(caller.user.user_id)
        keys["aws:username"] = one(caller.user.name)
    elif caller.kind is CallerKind.ROLE_SESSION and caller.role is not None:
        tags = caller.role.tags
        keys["aws:principalarn"] = one(caller.role.arn)
        keys["aws:principaltype"] = one("AssumedRole")
        keys["aws:userid"] = one(f"{caller.role.role_id}:{caller.session}")
        keys["aws:multifactorauthpresent"] = one("false")
    elif caller.kind is CallerKind.FEDERATED_USER and caller.user is not None:
        tags = caller.user.tags
        keys["aws:principalarn"] = one(caller.arn)
        keys["aws:principaltype"] = one("FederatedUser")
        keys["aws:userid"] = one(f"{caller.account}:{caller.name}")
        keys["aws:multifactorauthpresent"] = one("false")
    for key, value in tags.items():
        keys["aws:principaltag/" + lower(key)] = one(value)
    return keys
