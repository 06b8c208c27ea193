# SPDX-License-Identifier: Apache-2.0
"""
How a request for a proof stands.
"""

from __future__ import annotations

from enum import StrEnum


class ChallengeState(StrEnum):
    """How a challenge stands."""

    OPEN = "open"
    PROVED = "proved"
    REFUSED = "refused"
    EXPIRED = "expired"
