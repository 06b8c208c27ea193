# SPDX-License-Identifier: Apache-2.0
"""
Every conformance case on every evaluator.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from sidecar.compile.image import write_image
from sidecar.model.decision import Answer
from sidecar.model.errors import RequestError
from sidecar.model.request import AuthorizationRequest
from sidecar.model.snapshot import Snapshot
from tests.conformance.cases import (
    Case,
    Evaluator,
    RefusedCase,
    find_problems,
    load_cases,
    load_refused,
    undefined_rows,
)
from tests.oracle import decide

CASES = load_cases()
REFUSED = load_refused()
ALL: list[Case | RefusedCase] = [*CASES, *REFUSED]
_BY_ID = {case.id: case for case in CASES}
SEMANTICS = Path(__file__).parents[2] / "docs" / "semantics.md"


@cache
def _snapshot(case_id: str) -> Snapshot:
    return _BY_ID[case_id].snapshot()


def _ask_oracle(snapshot: Snapshot, request: AuthorizationRequest, seconds: int, simulation: bool) -> Answer:
    return decide(snapshot, request, seconds=seconds, nanos=0, simulation=simulation)


def _ask_core(snapshot: Snapshot, request: AuthorizationRequest, seconds: int, simulation: bool) -> Answer:
    core = pytest.importorskip("sidecar.core", reason="the extension is not built", exc_type=ImportError)
    if not hasattr(core, "Image"):
        pytest.skip("the extension is not built")
    image = core.Image.from_bytes(write_image(snapshot))
    answer: Answer = core.explain(image, request, seconds=seconds, nanos=0, simulation=simulation)
    return answer


EVALUATORS: dict[str, Evaluator] = {"oracle": _ask_oracle, "core": _ask_core}


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case_when_asked_then_decides_as_stated(case: Case, evaluator: str) -> None:
    snapshot = _snapshot(case.id)
    ask = EVALUATORS[evaluator]
    if case.want.error is not None:
        with pytest.raises(RequestError) as caught:
            ask(snapshot, case.request, case.seconds, case.simulation)
        assert caught.value.field == case.want.error
        return
    answer = ask(snapshot, case.request, case.seconds, case.simulation)
    differences = case.want.differences(answer)
    assert not differences, f"{'; '.join(differences)}\n{answer}"


@pytest.mark.parametrize("case", [case for case in CASES if case.want.error is None], ids=lambda case: case.id)
def test_core_when_explaining_a_case_then_agrees_with_oracle(case: Case) -> None:
    snapshot = _snapshot(case.id)
    core = _ask_core(snapshot, case.request, case.seconds, case.simulation)
    assert core == _ask_oracle(snapshot, case.request, case.seconds, case.simulation)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_document_when_malformed_then_refused(case: RefusedCase) -> None:
    problems = find_problems(case)
    assert problems, "the document was accepted"
    for words in case.words:
        assert any(words in str(problem) for problem in problems), f"`{words}` is in none of {problems}"


def test_cases_when_named_then_named_once() -> None:
    names = Counter(case.id for case in ALL)
    assert [name for name, times in names.items() if times > 1] == []


def test_undefined_behaviour_when_documented_then_has_a_case() -> None:
    rows = undefined_rows(SEMANTICS)
    shown = {case.undefined for case in ALL}
    assert [row for row in rows if row not in shown] == []
    assert sorted(shown - {"", *rows}) == []
