# SPDX-License-Identifier: Apache-2.0
"""
What is tried before it is enforced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: The last second of the years of four digits.
LAST_SECOND = 253_402_300_799


class ShadowKind(IntEnum):
    """What an entry of ``shadow.yaml`` names; the numbers are those of an image."""

    POLICY = 0
    ROUTE = 1

    @property
    def word(self) -> str:
        """The word in ``shadow.yaml``, in logs and in listings."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ShadowEntry:
    """
    One thing that is evaluated, but neither enforced nor granting, for a time.

    Attributes:
        id: Name of a policy as explanations give it, or the id of a route.
        until: Seconds since the epoch, from which on it is in force.
        note: Why, in the words of whoever wrote it; images do not keep it.
    """

    kind: ShadowKind
    id: str
    until: int
    note: str = ""
