# SPDX-License-Identifier: Apache-2.0
"""
Whether one statement applies to a request, and whom its principals name.

``docs/semantics.md``, sections 2 (principals) and 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sidecar.model.policy import Effect, PrincipalKind, PrincipalPattern, Statement
from tests.oracle.conditions import condition_holds, keys_asked_for
from tests.oracle.patterns import Context, action_matches, resource_matches, variables_of
from tests.oracle.request import Caller, CallerKind, Resource


class Named(Enum):
    """Whom an entry of ``Principal`` names."""

    DIRECT = "the caller itself"
    VIA = "its role, or the user of a federated user"
    ACCOUNT = "its account"


@dataclass(frozen=True)
class Question:
    """
    A request as statements see it.

    Attributes:
        action: In lower case.
        owner: Account that owns the resource.
        has_boundary: Whether the caller has a permissions boundary.
        must_grant: Whether the resource's policy must grant by itself.
    """

    caller: Caller
    action: str
    resource: Resource
    owner: str
    context: Context
    has_boundary: bool
    must_grant: bool


@dataclass
class Verdict:
    """
    What one statement says to a question.

    Attributes:
        applies: Whether principal, action, resource and conditions match.
        named: Whom its principals name; empty in policies without principals.
        missing_keys: Context keys that it asked for and that are null.
    """

    applies: bool = False
    named: frozenset[Named] = frozenset()
    missing_keys: set[str] = field(default_factory=set)


def judge(statement: Statement, question: Question) -> Verdict:
    """Match one statement against a question."""
    verdict = Verdict()
    if statement.principals is not None:
        verdict.named = _named_by(statement, question)
        if not verdict.named:
            return verdict
    if not _action_matches(statement, question):
        return verdict
    resources = statement.resources or ()
    if not any(pattern.is_any for pattern in resources):
        # Beside a bare `*` no other entry is asked.
        for pattern in resources:
            for arn_field in pattern.fields:
                _note_missing(verdict, variables_of(arn_field.pieces), question.context)
    if not _resource_matches(statement, question):
        return verdict
    for condition in statement.conditions:
        _note_missing(verdict, keys_asked_for(condition), question.context)
    verdict.applies = all(
        condition_holds(condition, question.context, statement.effect) for condition in statement.conditions
    )
    return verdict


def _note_missing(verdict: Verdict, keys: list[str], context: Context) -> None:
    for key in keys:
        if key not in context or context[key].is_null:
            verdict.missing_keys.add(key)


def _action_matches(statement: Statement, question: Question) -> bool:
    found = any(action_matches(pattern, question.action) for pattern in statement.actions)
    return not found if statement.not_action else found


def _resource_matches(statement: Statement, question: Question) -> bool:
    if statement.resources is None:
        return True
    found = any(
        resource_matches(pattern, question.resource.fields, question.context) for pattern in statement.resources
    )
    return not found if statement.not_resource else found


def _named_by(statement: Statement, question: Question) -> frozenset[Named]:
    """Return whom the principals of a statement name, empty if it does not concern the caller."""
    entries = statement.principals or ()
    if statement.not_principal:
        if statement.effect is Effect.ALLOW or _is_exempt(entries, question):
            return frozenset()
        return frozenset({Named.DIRECT})
    if statement.effect is Effect.ALLOW and not _star_counts_in_allow(question):
        entries = tuple(entry for entry in entries if entry.kind is not PrincipalKind.ANY)
    found = (names(entry, question.caller) for entry in entries)
    return frozenset(who for who in found if who is not None)


def _star_counts_in_allow(question: Question) -> bool:
    """Say whether ``*`` in an Allow names the caller: never a service, nor the anonymous where a policy must grant."""
    if question.caller.kind is CallerKind.SERVICE:
        return False
    return not (question.caller.kind is CallerKind.ANONYMOUS and question.must_grant)


def names(entry: PrincipalPattern, caller: Caller) -> Named | None:
    """Look up *caller* in the table of entries; ``*`` names a service here, for a Deny."""
    kind = caller.kind
    in_account = entry.account == caller.account and entry.partition in ("", caller.partition)
    match entry.kind:
        case PrincipalKind.ANY:
            return Named.DIRECT
        case PrincipalKind.ACCOUNT:
            if not caller.account or not in_account:
                return None
            return Named.DIRECT if kind is CallerKind.ROOT else Named.ACCOUNT
        case PrincipalKind.USER:
            if caller.user is None or caller.user.arn != entry.name:
                return None
            return Named.DIRECT if kind is CallerKind.USER else Named.VIA
        case PrincipalKind.UNIQUE_ID:
            if caller.user is not None and caller.user.user_id == entry.name:
                return Named.DIRECT if kind is CallerKind.USER else Named.VIA
            if caller.role is not None and caller.role.role_id == entry.name:
                return Named.VIA
            return None
        case PrincipalKind.ROLE:
            is_role = kind is CallerKind.ROLE_SESSION and in_account and entry.name == caller.name
            return Named.VIA if is_role else None
        case PrincipalKind.ROLE_SESSION:
            session = f"{caller.name}/{caller.session}"
            is_session = kind is CallerKind.ROLE_SESSION and in_account and entry.name == session
            return Named.DIRECT if is_session else None
        case PrincipalKind.FEDERATED_USER:
            is_federated = kind is CallerKind.FEDERATED_USER and in_account and entry.name == caller.name
            return Named.DIRECT if is_federated else None
        case PrincipalKind.SERVICE:
            return Named.DIRECT if kind is CallerKind.SERVICE and entry.name == caller.name else None
        case _:
            return None


def _is_exempt(entries: tuple[PrincipalPattern, ...], question: Question) -> bool:
    """Say whether ``NotPrincipal`` spares the caller: it and each of its ancestors must be listed."""
    if question.has_boundary:
        return False
    if any(entry.kind is PrincipalKind.ANY for entry in entries):
        return True
    listed = {names(entry, question.caller) for entry in entries}
    match question.caller.kind:
        case CallerKind.USER:
            return {Named.DIRECT, Named.ACCOUNT} <= listed
        case CallerKind.ROLE_SESSION | CallerKind.FEDERATED_USER:
            return {Named.DIRECT, Named.VIA, Named.ACCOUNT} <= listed
        case CallerKind.ROOT | CallerKind.SERVICE:
            return Named.DIRECT in listed
        case _:
            return False
