# SPDX-License-Identifier: Apache-2.0
"""
How an attempt to put a snapshot in place ended.
"""

from __future__ import annotations

from enum import StrEnum


class ReloadOutcome(StrEnum):
    """The closed set of outcomes of a reload, as in metrics and logs."""

    #: A new snapshot is in place.
    APPLIED = "applied"
    #: The source compiles to the snapshot that is in place already.
    UNCHANGED = "unchanged"
    #: The snapshot in place, if any, stays.
    FAILED = "failed"
