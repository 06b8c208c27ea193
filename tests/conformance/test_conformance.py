# SPDX-License-Identifier: Apache-2.0
"""
Every conformance case on every evaluator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from time import time

import pytest

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.model.decision import Answer
from sidecar.model.errors import RequestError
from sidecar.model.listener import RpcStatus
from sidecar.model.request import AuthorizationRequest
from sidecar.model.snapshot import Snapshot
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests import tokens
from tests.conformance.cases import (
    Case,
    Evaluator,
    RefusedCase,
    find_problems,
    load_cases,
    load_refused,
    undefined_rows,
)
from tests.listener.peers import BATCH_AUTHORIZE, Client
from tests.listener.serving import Listener, batch, listening
from tests.oracle import decide

CASES = load_cases()
REFUSED = load_refused()
ALL: list[Case | RefusedCase] = [*CASES, *REFUSED]
_BY_ID = {case.id: case for case in CASES}
SESSIONS = tokens.state()
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
    answer: Answer = core.explain(image, request, seconds=seconds, nanos=0, simulation=simulation, sessions=SESSIONS)
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


@pytest.fixture(scope="module")
def asking() -> Iterator[tuple[Listener, Client]]:
    """A native data listener, and a client that keeps one connection to it."""
    with listening() as listener, Client(listener.place) as client:
        yield listener, client


def _ask_listener(case: Case, listener: Listener, client: Client) -> str:
    """Ask the listener, and return how its answer differs from the core's, which is what answers on grpcio too."""
    image = core.Image.from_bytes(write_image(_snapshot(case.id)))
    asked = core.encode_request(case.request)
    listener.server.publish(image)
    listener.server.publish_sessions(SESSIONS)
    # Nobody tells the listener the time, so the core is asked by the real clock as well.
    begun = int(time())
    answer = client.call(asked)
    batched = client.call(batch(asked, asked), BATCH_AUTHORIZE)
    moments = range(begun, int(time()) + 1)
    try:
        want = {core.authorize(image, asked, seconds=seconds, nanos=0, sessions=SESSIONS) for seconds in moments}
    except RequestError as error:
        if answer.status is not RpcStatus.INVALID_ARGUMENT or answer.violations != [(error.field, str(error))]:
            return f"{case.id}: {answer} instead of {error}"
        return ""
    found = [answer.message]
    found += [one.SerializeToString() for one in pb.BatchAuthorizeResponse.FromString(batched.message).responses]
    return "" if len(found) == 3 and want.issuperset(found) else f"{case.id}: {found} instead of {want}"


@pytest.mark.parametrize("file", sorted({case.id.partition(":")[0] for case in CASES}))
def test_listener_when_asked_the_cases_of_a_file_then_it_answers_as_the_core_byte_for_byte(
    file: str, asking: tuple[Listener, Client]
) -> None:
    cases = [case for case in CASES if case.id.partition(":")[0] == file]

    assert [difference for case in cases if (difference := _ask_listener(case, *asking))] == []


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
