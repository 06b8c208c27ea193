# SPDX-License-Identifier: Apache-2.0
"""
``shadow.yaml``: policies and routes that are tried before they are enforced.

What stands in shadow is evaluated, told and counted, but neither enforced nor granting: the snapshot in force is made
as if it were not there, and a second one, with everything in it, says what would be.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sidecar.compile.problems import quote
from sidecar.compile.shape import Place, closest
from sidecar.model.policy import Effect, Policy, PolicyDocument
from sidecar.model.shadow import ShadowEntry, ShadowKind
from sidecar.model.snapshot import (
    Account,
    Organization,
    OrganizationAccount,
    OrganizationalUnit,
    Role,
    Shadow,
    Snapshot,
    User,
)

MAX_ENTRIES = 1000
#: Seconds that an entry may last, and may be over without being taken out.
MAX_AHEAD = MAX_BEHIND = 366 * 86_400
MAX_NOTE = 500

_KEYS = frozenset({"policy", "route", "until", "note"})
_UNTIL_HELP = (
    "write a date such as `2026-12-31`, which begins at midnight UTC, or a moment such as `2026-12-31T18:00:00Z`"
)
_UNTIL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z)?", re.ASCII)
#: How many unknown ids of one file are compared with all that are known.
_MAX_GUESSES = 5


@dataclass(frozen=True, slots=True)
class ShadowFile:
    """
    What a shadow file says.

    Attributes:
        active: What stands in shadow now, with its JSON path.
        ended: What did, and is in force, likewise.
    """

    active: tuple[tuple[ShadowEntry, str], ...] = ()
    ended: tuple[tuple[ShadowEntry, str], ...] = ()


def parse_shadow(place: Place, document: object, *, now: int) -> ShadowFile:
    """
    Turn the content of a shadow file into its entries; problems go to *place*.

    Args:
        now: Seconds since the epoch.
    """
    if document is None:
        # A YAML file of nothing but comments.
        return ShadowFile()
    items = place.array(document, "$", "a shadow file")
    if items is None:
        return ShadowFile()
    if len(items) > MAX_ENTRIES:
        place.error("$", f"{len(items)} entries, more than {MAX_ENTRIES}")
        return ShadowFile()
    active: list[tuple[ShadowEntry, str]] = []
    ended: list[tuple[ShadowEntry, str]] = []
    seen: dict[tuple[ShadowKind, str], str] = {}
    for index, item in enumerate(items):
        path = f"$[{index}]"
        entry = _entry(place, item, path, now)
        if entry is None:
            continue
        other = seen.setdefault((entry.kind, entry.id), path)
        if other != path:
            place.error(path, f"{entry.kind.word} {quote(entry.id)} stands twice: also at {other}", "keep one of them")
        elif entry.until > now:
            active.append((entry, path))
        else:
            ended.append((entry, path))
    return ShadowFile(tuple(active), tuple(ended))


def cast_shadow(place: Place, file: ShadowFile, snapshot: Snapshot, *, managed: Collection[str]) -> Snapshot:
    """
    Return what is in force of *snapshot* while entries of *file* stand in shadow, everything beside it.

    Args:
        snapshot: Everything.
        managed: ARNs of the managed policies that are known, attached to somebody or not.
    """
    for entry, path in file.ended:
        place.warning(
            path,
            f"{entry.kind.word} {quote(entry.id)} is in force since {moment_text(entry.until)}",
            "take the entry out of the file",
        )
    if place.problems.has_errors:
        # What is broken elsewhere may be what an entry names.
        return snapshot
    entries = _known(place, file.active, snapshot, managed)
    if not entries:
        return snapshot
    in_force = _Withdrawal(place, entries).snapshot(snapshot)
    return dataclasses.replace(in_force, shadow=Shadow(tuple(entry for entry, _ in entries), snapshot))


def moment_text(seconds: int) -> str:
    """
    Return *seconds* since the epoch as a moment in UTC.

    >>> moment_text(1798675200)
    '2026-12-31T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _entry(place: Place, raw: object, path: str, now: int) -> ShadowEntry | None:
    value = place.mapping(raw, path, "an entry")
    if value is None:
        return None
    place.known_keys(value, path, _KEYS, "an entry")
    named = [kind for kind in ShadowKind if kind.word in value]
    if len(named) != 1:
        place.error(
            path,
            "an entry names a policy or a route" + (", not both" if named else ""),
            "as in `policy: arn:aws:iam::123456789012:policy/Refunds` or `route: refund-order`",
        )
        return None
    kind = named[0]
    id = place.text(value[kind.word], f"{path}.{kind.word}", f"`{kind.word}`")
    note = place.text(value["note"], f"{path}.note", "`note`") if "note" in value else ""
    if note and len(note) > MAX_NOTE:
        place.error(f"{path}.note", f"a note of {len(note)} characters, more than {MAX_NOTE}")
    if "until" not in value:
        place.error(path, "an entry without `until`, from which on it is enforced", _UNTIL_HELP)
        return None
    until = _until(place, value["until"], f"{path}.until", now)
    if id is None or until is None or note is None:
        return None
    return ShadowEntry(kind, id, until, note)


def _until(place: Place, raw: object, path: str, now: int) -> int | None:
    text = place.text(raw, path, "`until`")
    if text is None:
        return None
    try:
        if not _UNTIL.fullmatch(text):
            raise ValueError
        until = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        place.error(path, f"{quote(text)} is no date", _UNTIL_HELP)
        return None
    if until > now + MAX_AHEAD:
        place.error(
            path,
            f"{quote(text)} is more than a year ahead",
            "what is never enforced protects nobody; extend it when the time comes",
        )
        return None
    if until < now - MAX_BEHIND:
        place.error(
            path,
            f"{quote(text)} was more than a year ago",
            "see whether the year is right; take out the entry of what is in force",
        )
        return None
    return until


def _known(
    place: Place, entries: Sequence[tuple[ShadowEntry, str]], snapshot: Snapshot, managed: Collection[str]
) -> list[tuple[ShadowEntry, str]]:
    """Return those of *entries* that name something of *snapshot*; others are reported."""
    known = {
        ShadowKind.POLICY: {policy.name for policy in policies_of(snapshot)} if entries else set(),
        ShadowKind.ROUTE: {route.id for route in snapshot.routes.routes} if snapshot.routes is not None else set(),
    }
    found: list[tuple[ShadowEntry, str]] = []
    guesses = 0
    for entry, path in entries:
        names = known[entry.kind]
        if entry.id in names:
            found.append((entry, path))
            continue
        path = f"{path}.{entry.kind.word}"
        if entry.kind is ShadowKind.POLICY and entry.id in managed:
            place.warning(path, f"policy {quote(entry.id)} is attached to nobody, so there is nothing to try")
            continue
        guess = _guess(entry.id, names) if guesses < _MAX_GUESSES else ""
        guesses += 1
        if guess:
            help = f"did you mean `{guess}`"
        elif entry.kind is ShadowKind.POLICY:
            help = "its name as `iam-sidecar explain` prints it: an ARN, or `inline:OWNER/NAME`"
        else:
            help = "the `id` of a route in `routes.yaml`"
        place.error(path, f"no {entry.kind.word} is called {quote(entry.id)}", help)
    return found


def _guess(id: str, names: Collection[str]) -> str:
    """Return the name that *id* is most likely meant to be: one that ends in it, or one that is much like it."""
    ending = [name for name in names if name.endswith((f"/{id}", f":{id}"))]
    return ending[0] if len(ending) == 1 else closest(id, names)


def policies_of(snapshot: Snapshot) -> Iterator[Policy]:
    """Yield every policy of *snapshot* that an entry may name, some of them several times."""
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
    for resource in snapshot.resource_policies:
        yield resource.policy
    units = [snapshot.organization.root] if snapshot.organization is not None else []
    while units:
        unit = units.pop()
        nodes: tuple[OrganizationalUnit | OrganizationAccount, ...] = (unit, *unit.accounts)
        for node in nodes:
            yield from node.service_control_policies or ()
            yield from node.resource_control_policies
        units.extend(unit.units)


class _Withdrawal:
    """
    Takes policies and routes out of a snapshot wherever they stand.

    Thread-safety: confined to one thread.
    """

    def __init__(self, place: Place, entries: Iterable[tuple[ShadowEntry, str]]) -> None:
        self._place = place
        self._policies = {entry.id: path for entry, path in entries if entry.kind is ShadowKind.POLICY}
        self._routes = {entry.id for entry, _ in entries if entry.kind is ShadowKind.ROUTE}

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Return what is left of *snapshot*."""
        organization, routes = snapshot.organization, snapshot.routes
        for resource in snapshot.resource_policies:
            if resource.policy.name in self._policies and ":kms:" in resource.arn:
                self._warn(resource.policy, f"nobody can use {quote(resource.arn)} until then")
        return dataclasses.replace(
            snapshot,
            accounts=tuple(self._account(account) for account in snapshot.accounts),
            organization=self._organization(organization) if organization is not None else None,
            resource_policies=tuple(
                resource for resource in snapshot.resource_policies if resource.policy.name not in self._policies
            ),
            routes=None
            if routes is None
            else dataclasses.replace(
                routes, routes=tuple(route for route in routes.routes if route.id not in self._routes)
            ),
        )

    def _left(self, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        """Return *policies* without those in shadow: the very same ones where none is."""
        if any(policy.name in self._policies for policy in policies):
            return tuple(policy for policy in policies if policy.name not in self._policies)
        return policies

    def _boundary(self, boundary: Policy | None) -> Policy | None:
        return None if boundary is not None and boundary.name in self._policies else boundary

    def _account(self, account: Account) -> Account:
        return dataclasses.replace(
            account,
            users=tuple(self._user(user) for user in account.users),
            roles=tuple(self._role(role) for role in account.roles),
        )

    def _user(self, user: User) -> User:
        policies, boundary = self._left(user.policies), self._boundary(user.boundary)
        if policies is user.policies and boundary is user.boundary:
            return user
        return dataclasses.replace(user, policies=policies, boundary=boundary)

    def _role(self, role: Role) -> Role:
        trust, policies, boundary = role.trust, self._left(role.policies), self._boundary(role.boundary)
        if trust.name in self._policies:
            self._warn(trust, f"nobody can assume role {quote(role.arn)} until then")
            trust = Policy(trust.name, PolicyDocument(trust.document.version, "", ()))
        if trust is role.trust and policies is role.policies and boundary is role.boundary:
            return role
        return dataclasses.replace(role, trust=trust, policies=policies, boundary=boundary)

    def _organization(self, organization: Organization) -> Organization:
        return dataclasses.replace(organization, root=self._unit(organization.root))

    def _unit(self, unit: OrganizationalUnit) -> OrganizationalUnit:
        return dataclasses.replace(
            unit,
            service_control_policies=self._control(unit),
            resource_control_policies=self._left(unit.resource_control_policies),
            accounts=tuple(
                dataclasses.replace(
                    account,
                    service_control_policies=self._control(account),
                    resource_control_policies=self._left(account.resource_control_policies),
                )
                for account in unit.accounts
            ),
            units=tuple(self._unit(child) for child in unit.units),
        )

    def _control(self, node: OrganizationalUnit | OrganizationAccount) -> tuple[Policy, ...] | None:
        """Return the service control policies that are left at *node*; they must still allow something."""
        policies = node.service_control_policies
        if policies is None:
            return None
        left = self._left(policies)
        if left is not policies and _allow(policies) and not _allow(left):
            gone = next(policy for policy in policies if policy.name in self._policies and _allow((policy,)))
            self._place.error(
                f"{self._policies[gone.name]}.policy",
                f"without {quote(gone.name)} no service control policy of {quote(node.id)} allows anything, "
                "which locks out all below it",
                "keep FullAWSAccess or another policy that allows beside it",
            )
        return left

    def _warn(self, policy: Policy, message: str) -> None:
        self._place.warning(f"{self._policies[policy.name]}.policy", message, "it has no other policy that grants it")


def _allow(policies: Iterable[Policy]) -> bool:
    """Say whether any of *policies* allows anything."""
    return any(statement.effect is Effect.ALLOW for policy in policies for statement in policy.document.statements)
