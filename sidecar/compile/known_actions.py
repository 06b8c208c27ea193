# SPDX-License-Identifier: Apache-2.0
"""
The actions that the policies of a snapshot spell out, and which of them a pattern matches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from sidecar.model.errors import PolicyError
from sidecar.model.policy import ActionPattern, Statement

MAX_SERVICES = 65_535


class KnownActions:
    """Action names that some policy spells out, numbered within their service."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        names: dict[str, set[str]] = {"iam": set(), "sts": set(), "kms": set()}
        seen: set[int] = set()
        for statement in statements:
            if id(statement.actions) in seen:
                continue
            seen.add(id(statement.actions))
            for service, name in statement.actions:
                if "*" in service or "?" in service:
                    continue
                known = names.setdefault(service, set())
                if "*" not in name and "?" not in name:
                    known.add(name)
        if len(names) > MAX_SERVICES:
            raise PolicyError(f"{len(names)} services are named, at most {MAX_SERVICES} fit an image")
        self.services = {service: number for number, service in enumerate(sorted(names))}
        self.names = {service: sorted(known) for service, known in names.items()}
        self.numbers = {
            service: {name: number for number, name in enumerate(known)} for service, known in self.names.items()
        }
        self._bits: dict[ActionPattern, int] = {}

    def bits(self, pattern: ActionPattern) -> int:
        """Return the known actions that *pattern* matches, as a bit set."""
        found = self._bits.get(pattern)
        if found is None:
            found = self._bits[pattern] = self._match(pattern)
        return found

    def _match(self, pattern: ActionPattern) -> int:
        name, known = pattern.name, self.names[pattern.service]
        head = name.rstrip("*")
        if "*" not in head and "?" not in head:
            if head == name:
                return 1 << self.numbers[pattern.service][name]
            first, last = bisect_left(known, head), bisect_left(known, head + "\U0010ffff")
            return (1 << last) - (1 << first)
        bits = 0
        for number, candidate in enumerate(known):
            if glob(name, candidate):
                bits |= 1 << number
        return bits


def glob(pattern: str, text: str) -> bool:
    """Match with ``*`` and ``?``: two positions and one remembered star, never exponential."""
    place = star = mark = 0
    here, have_star = 0, False
    while place < len(text):
        if here < len(pattern) and pattern[here] == "*":
            have_star, star, mark = True, here, place
            here += 1
        elif here < len(pattern) and pattern[here] in ("?", text[place]):
            here += 1
            place += 1
        elif have_star:
            mark += 1
            here, place = star + 1, mark
        else:
            return False
    return not pattern[here:].strip("*")
