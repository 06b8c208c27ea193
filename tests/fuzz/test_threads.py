# SPDX-License-Identifier: Apache-2.0
"""All threads of the data listener at once, for a moment; ``scripts/fuzz --threads`` runs them under the sanitizer."""

from tests.fuzz.threads import stress


def test_threads_when_clients_swaps_and_ends_come_at_any_time_then_nothing_is_found() -> None:
    counts, findings = stress(3.0, seed=1, round_seconds=1.0)

    assert findings == []
    assert counts["servers"] >= 1
