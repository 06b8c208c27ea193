# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the core: it runs, its figures are all there, and what can be counted has not risen."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.core import Image
from sidecar.core._core import measure
from tests.bench import bench_core, instructions
from tests.bench.bench_core import Scope
from tests.bench.inputs import compile_inputs, inputs, joined, mix_of
from tests.bench.workload import NOW

# Counting instructions is slow, and slower beside other programs.
pytestmark = pytest.mark.timeout(600)

PRINCIPALS = 40
REQUESTS = 400


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    """Give a measurement that is over at once."""
    return Scope(
        principals=PRINCIPALS,
        requests=REQUESTS,
        passes=2,
        compiles=1,
        loads=2,
        idle_seconds=0.0,
        kept=tmp_path_factory.mktemp("bench"),
    )


@pytest.fixture(scope="module")
def figures(scope: Scope) -> bench_core.Json:
    """Give everything but the instructions, measured on a small company."""
    return bench_core.measure_all(scope, ("decisions", "tokens", "compile", "memory"))


def test_bench_when_run_then_the_promised_keys_are_there(figures: bench_core.Json) -> None:
    for key in (
        "decision_ns_p50",
        "decision_ns_p99",
        "answer_ns_p50",
        "answer_ns_p99",
        "decision_hot_ns_p50",
        "answer_hot_ns_p50",
        "token_open_ns_p50",
        "token_open_tags_ns_p50",
        "token_cached_ratio",
        "compile_s",
        "verify_ms",
        "map_ms",
        "rss_mib",
    ):
        assert figures[key] > 0, key
    assert figures["decision_ns_p50"] <= figures["decision_ns_p90"] <= figures["decision_ns_p99"]
    assert isinstance(figures["quiet"], bool)
    assert figures["sections"]
    assert sum(figures["sections"].values()) <= figures["image_bytes"]


def test_bench_when_run_then_the_mix_is_counted(figures: bench_core.Json) -> None:
    mix = figures["mix"]

    assert mix["allow"] + mix["implicit_deny"] + mix["explicit_deny"] == figures["requests"] == REQUESTS
    assert mix["allow"] == 0.4 * REQUESTS
    assert mix["implicit_deny"] == mix["explicit_deny"] == 0.3 * REQUESTS


def test_bench_when_run_then_the_raw_figures_are_kept(figures: bench_core.Json, scope: Scope) -> None:
    (raw,) = (scope.kept / "core").iterdir()

    assert json.loads((raw / "figures.json").read_text()) == json.loads((scope.kept / "core.json").read_text())
    with (raw / "requests.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == figures["requests"]
    with (raw / "passes.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * scope.passes
    assert not list(scope.kept.rglob(".scratch-*"))


def test_inputs_when_asked_for_again_then_they_are_those_kept(scope: Scope, figures: bench_core.Json) -> None:
    given = inputs(principals=PRINCIPALS, requests=REQUESTS, kept=scope.kept)
    times = {path: path.stat().st_mtime_ns for path in given.source.rglob("*")}

    again = inputs(principals=PRINCIPALS, requests=REQUESTS, kept=scope.kept)

    assert again == given
    assert len(set(given.requests)) == REQUESTS
    assert given.counts == figures["company"]
    assert {path: path.stat().st_mtime_ns for path in given.source.rglob("*")} == times


def test_mix_when_it_is_another_then_the_figures_are_refused(scope: Scope) -> None:
    given = inputs(principals=PRINCIPALS, requests=REQUESTS, kept=scope.kept)
    image = Image.from_bytes(compile_inputs(given.source))
    allowed = [request for request in given.requests if mix_of(image, [request])["allow"] == 1]
    data, lengths = joined(allowed)
    _, _, counted = measure(image, data, lengths, seconds=NOW, whole=False)

    assert counted == [0, len(allowed), 0, 0]
    with pytest.raises(bench_core.MixError, match="not in the mix"):
        bench_core._check_mix(image, allowed, counted)


def test_page_when_updated_then_the_table_stands_between_the_marks(tmp_path: Path, figures: bench_core.Json) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{bench_core.BEGIN}\nearlier figures\n{bench_core.END}\n\nafter\n")

    bench_core.update_page(bench_core.markdown(figures), page)

    text = page.read_text()
    assert text.startswith(f"before\n\n{bench_core.BEGIN}\n\n| what |")
    assert text.endswith(f"\n{bench_core.END}\n\nafter\n")
    assert "earlier figures" not in text
    assert f"| median {figures['decision_ns_p50']:,} ns" in text


def test_page_then_it_has_the_marks() -> None:
    text = bench_core.PAGE.read_text()

    assert text.count(bench_core.BEGIN) == text.count(bench_core.END) == 1


def test_page_when_it_has_no_marks_then_it_stays(tmp_path: Path, figures: bench_core.Json) -> None:
    page = tmp_path / "page.md"
    page.write_text("words\n")

    with pytest.raises(ValueError, match="marks"):
        bench_core.update_page(bench_core.markdown(figures), page)

    assert page.read_text() == "words\n"


@pytest.mark.parametrize(("factor", "want_status"), [(0.5, 0), (1.04, 0), (1.06, 1)])
def test_check_when_the_instructions_change_then_only_a_rise_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], factor: float, want_status: int
) -> None:
    kept = instructions.recorded()
    now = replace(kept, decision_instructions=kept.decision_instructions * factor)
    monkeypatch.setattr(instructions, "tools", lambda: kept.tools)
    monkeypatch.setattr(instructions, "count_instructions", lambda: now)

    assert bench_core.main(["--check-instructions"]) == want_status
    assert ("more than the recorded" in capsys.readouterr().err) == bool(want_status)


def test_check_when_the_compiler_is_another_then_it_is_skipped_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = instructions.recorded()
    monkeypatch.setattr(instructions, "tools", lambda: {**kept.tools, "core built with": "another compiler"})

    assert bench_core.main(["--check-instructions"]) == 0
    assert "skipped: other tools than the recorded ones; core built with: `another" in capsys.readouterr().out


def test_decision_then_it_takes_no_more_instructions_than_recorded() -> None:
    kept = instructions.recorded()
    try:
        instructions.comparable(kept)
        now = instructions.count_instructions()
    except instructions.UncountedError as error:
        pytest.skip(str(error))

    assert instructions.complaint(kept, now) == ""
