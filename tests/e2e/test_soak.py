# SPDX-License-Identifier: Apache-2.0
"""A short soak: good clients beside bad ones, images swapped every second, an end under load."""

from pathlib import Path

import pytest

from tests.bench import load
from tests.bench.bench_soak import Scope, complaints, soak

#: ``scripts/bench soak`` runs ten minutes.
SECONDS = 12.0

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]


def test_listener_when_good_and_bad_clients_come_for_a_while_then_nothing_fails_and_nothing_grows(
    tmp_path: Path,
) -> None:
    try:
        load.open_loop_program()
    except load.UnavailableError as error:
        pytest.skip(str(error))

    figures = soak(Scope(seconds=SECONDS, kept=tmp_path))

    assert figures["complaints"] == []
    assert figures["calls"] > 0
    assert len(figures["attacks"]) > 10
    assert figures["swaps"] > 1


def test_complaints_when_something_is_wrong_then_each_is_named() -> None:
    figures = {
        "errors": ["generator: lost"],
        "errors_in_all": 3,
        "after_warm_up": {"rss_mib": 70.0, "descriptors": 20},
        "at_the_end": {"rss_mib": 80.0, "descriptors": 30},
        "drain": {"exit_status": 1, "lost": 1, "not_ok": 0, "answered": 9, "told_to_go": False},
        "logged_errors": [{"event": "thread_failed"}],
        "swaps": 0,
    }

    found = complaints(figures)

    words = ("3 errors", "memory grew", "descriptors grew", "status 1", "lost", "saying so", "logged", "swapped")
    assert len(found) == len(words)
    assert all(word in complaint for word, complaint in zip(words, found, strict=True))
