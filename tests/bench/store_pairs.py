# SPDX-License-Identifier: Apache-2.0
"""
The time from opening a challenge to its proof in the store: begin and answer, on SQLite and on PostgreSQL.

What the person and the security key do in between is not counted. SQLite writes to the disk of the temporary folder;
PostgreSQL runs with ``fsync`` on, in a cluster that is thrown away.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from sidecar.services.challenges import Answer, AssertionAnswer, OpenedChallenge, TotpAnswer
from sidecar.services.store.engine import open_store
from tests.authenticators import Ctap2Key
from tests.postgresql_cluster import NotInstalledError, running_cluster
from tests.unit.services.mfa_kit import ADA, Kit, session_of

PAIRS = 100
_SESSION = session_of(ADA)
#: Seconds between two pairs, so that there is a new code and nobody is asked too often.
_BETWEEN = 90


def measure(pairs: int = PAIRS) -> dict[str, list[float]]:
    """Return how long each pair took, in microseconds, by factor and database; PostgreSQL where it is installed."""
    with tempfile.TemporaryDirectory() as folder:
        times = _measure_on("", Path(folder), "sqlite", pairs)
    try:
        with running_cluster(fsync=True) as cluster, tempfile.TemporaryDirectory() as folder:
            times |= _measure_on(cluster.new_database(), Path(folder), "postgresql", pairs)
    except NotInstalledError:
        pass
    return times


def _measure_on(url: str, folder: Path, database: str, pairs: int) -> dict[str, list[float]]:
    store = open_store(url, state_dir=folder)
    try:
        kit = Kit(store, folder)
        phone, key = kit.enrol_phone(), Ctap2Key()
        kit.enrol_key(key)
        times: dict[str, list[float]] = {f"totp_pair_{database}": [], f"key_pair_{database}": []}
        for _ in range(pairs):
            kit.clock.advance(_BETWEEN)
            code = TotpAnswer(phone.code(kit.clock.seconds))
            times[f"totp_pair_{database}"].append(_pair(kit, code))
            kit.clock.advance(_BETWEEN)
            times[f"key_pair_{database}"].append(_pair(kit, key))
        return times
    finally:
        store.close()


def _pair(kit: Kit, how: TotpAnswer | Ctap2Key) -> float:
    began = time.perf_counter_ns()
    opened: OpenedChallenge = kit.services.challenges.begin(_SESSION, ADA, _SESSION.session)
    took = time.perf_counter_ns() - began
    answer: Answer = how if isinstance(how, TotpAnswer) else AssertionAnswer(kit.assertion(how, opened))
    began = time.perf_counter_ns()
    kit.services.challenges.answer(_SESSION, opened.challenge.challenge_id, answer)
    return (took + time.perf_counter_ns() - began) / 1000
