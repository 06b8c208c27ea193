# SPDX-License-Identifier: Apache-2.0
"""The fuzzer itself, what it once found, and a few seconds of it under the sanitizers."""

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.harness import Mutator, Running, Target, fuzz
from tests.fuzz.targets import TARGETS, corpus

ROOT = Path(__file__).parents[2]


def _refuse_zero(data: bytes) -> str:
    if b"\x00" in data:
        raise ValueError("zero")
    return "fine"


def test_fuzz_when_a_target_raises_then_the_input_is_kept(tmp_path: Path) -> None:
    target = Target(name="zero", about="", seeds=lambda: [b"some text"], run=_refuse_zero)

    report = fuzz(target, folder=tmp_path, seconds=30, executions=2_000)

    assert report.executions == 2_000
    assert len(report.findings) == 1
    assert b"\x00" in report.findings[0].read_bytes()


def test_fuzz_when_the_number_is_the_same_then_the_inputs_are(tmp_path: Path) -> None:
    def inputs() -> list[bytes]:
        seen: list[bytes] = []

        def run(data: bytes) -> str:
            seen.append(data)
            return "fine"

        fuzz(
            Target(name="log", about="", seeds=lambda: [b"abc", b"def"], run=run),
            folder=tmp_path, seconds=30, executions=300, seed=7,
        )  # fmt: skip
        return seen

    first = inputs()

    assert inputs() == first
    assert len(set(first)) > 200


def test_mutate_when_pieces_are_doubled_then_the_length_stays_bounded() -> None:
    mutator = Mutator(seed=1, tokens=(b"x" * 50,), max_bytes=100)

    lengths = [len(mutator.mutate(b"y" * 90, b"z" * 90)) for _ in range(2_000)]

    assert max(lengths) == 100


def test_running_when_the_process_is_gone_then_the_input_is_there(tmp_path: Path) -> None:
    path = tmp_path / "running"
    running = Running(path, 64)
    running.set(b"a longer one")
    running.set(b"last")

    assert Running.get(path) == b"last"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_run_when_the_input_is_a_seed_or_once_was_a_finding_then_it_is_handled(target: Target) -> None:
    for data in (*target.seeds(), *corpus(target.name)):
        assert isinstance(target.run(data), str)


@pytest.mark.timeout(900)
def test_fuzz_under_the_sanitizers_then_there_are_no_findings() -> None:
    run = subprocess.run(
        [ROOT / "scripts" / "fuzz", "1", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "no findings" in run.stdout
