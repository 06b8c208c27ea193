# SPDX-License-Identifier: Apache-2.0
"""
What holds across processes: two on one database, and one that is killed at any moment.

``SIDECAR_CRASHES=300`` crashes as many times; the suite makes do with a few.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.services.mfa_kit import ADA, Kit, session_of

ROOT = Path(__file__).parents[3]


def test_code_when_two_processes_are_given_it_at_once_then_one_accepts_it(
    kit: Kit, store_url: str, tmp_path: Path
) -> None:
    phone = kit.enrol_phone()
    session = session_of(ADA)
    command = [sys.executable, "-m", "tests.unit.services.answering", store_url, str(tmp_path)]
    command += [str(kit.clock.seconds), phone.code(kit.clock.seconds)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outcomes: list[str] = []
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for turn in range(3):
            opened = [kit.services.challenges.begin(session, ADA, f"session-{turn}-{place}") for place in range(2)]
            for process, challenge in zip(processes, opened, strict=True):
                assert process.stdin is not None
                process.stdin.write(f"{challenge.challenge.challenge_id}\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                outcomes.append(process.stdout.readline().strip())
            assert outcomes.count("accepted totp") == 1
            # Replays are failures; here they are not to be held back.
            kit.services.throttles.unlock(session, ADA)
    finally:
        for process in processes:
            process.communicate(timeout=60)
    assert set(outcomes) <= {"accepted totp", "code_replayed", "step_spent"}


def test_process_when_it_is_killed_at_random_moments_then_nothing_is_half_done(tmp_path: Path) -> None:
    crashes = int(os.environ.get("SIDECAR_CRASHES", "12"))
    seed = int(os.environ.get("SIDECAR_CRASH_SEED", "7"))
    run = subprocess.run(
        [sys.executable, "-m", "tests.unit.services.crashing", str(tmp_path), str(crashes), str(seed)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    print(run.stdout)

    assert found["faults"] == []
    assert found["crashes"] == crashes
    assert {"code", "key", "recovery"} <= set(found["accepted_before_the_crash"])


pytestmark = pytest.mark.timeout(3600 if "SIDECAR_CRASHES" in os.environ else 120)
