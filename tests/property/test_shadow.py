# SPDX-License-Identifier: Apache-2.0
"""
What stands in shadow changes no decision, and what is said of it is what would be decided if it were in force.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from sidecar.compile.image import write_image
from sidecar.compile.shadow import policies_of
from sidecar.model.decision import Answer, Decision, PolicyLayer
from sidecar.model.errors import RequestError
from sidecar.model.request import AuthorizationRequest
from sidecar.model.snapshot import Snapshot
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import CaseError, Given, build_request, build_snapshot
from tests.property.asking import NOW, SEEDED, SESSIONS, Invalid, ask_core, ask_oracle, core, describe, shrink
from tests.property.strategies import Json, questions

EXAMPLES = settings().max_examples


@st.composite
def shadowed_questions(draw: st.DrawFn) -> tuple[Json, Json]:
    """Draw a question whose snapshot has some of its policies in shadow, for a time that is over now and then."""
    snapshot, request = draw(questions())
    try:
        names = sorted({policy.name for policy in policies_of(build_snapshot(snapshot))})
    except CaseError:
        reject()
    # A role without a trust policy has an empty one here.
    names = [name for name in names if name != "trust" or "trust" in snapshot]
    if not names:
        reject()
    shadow = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    until = draw(st.sampled_from(["2026-01-15T11:59:59Z", "2026-01-15T12:00:01Z"]))
    shadowed = {**snapshot, "shadow": shadow, "shadow_until": until}
    try:
        build_snapshot(shadowed)
    except CaseError:
        # It would lock out an account.
        reject()
    return shadowed, request


@settings(SEEDED, max_examples=2 * EXAMPLES)
@given(shadowed_questions())
def test_core_when_something_stands_in_shadow_then_agrees_with_oracle(question: tuple[Json, Json]) -> None:
    def differs(snapshot: Given, request: Given) -> bool:
        return ask_core(snapshot, request) != ask_oracle(snapshot, request)

    snapshot: Given = question[0]
    request: Given = question[1]
    if not differs(snapshot, request):
        return
    snapshot, request = shrink(snapshot, request, differs)
    want, got = ask_oracle(snapshot, request), ask_core(snapshot, request)
    pytest.fail(f"the core does not agree\nwant {want}\ngot  {got}\n{describe('found', snapshot, request, want)}")


def _ask(snapshot: Snapshot, request: AuthorizationRequest) -> Answer | Invalid:
    image = core.Image.from_bytes(write_image(snapshot))
    try:
        answer = pb.AuthorizeResponse.FromString(
            core.authorize(image, core.encode_request(request), seconds=NOW, nanos=0, sessions=SESSIONS)
        )
    except RequestError as error:
        return Invalid(error.field)
    return Answer(
        Decision(answer.decision),
        PolicyLayer(answer.layer),
        reason=answer.reason,  # type: ignore[arg-type]
        shadow_decision=Decision(answer.shadow_decision),
    )


@settings(SEEDED, max_examples=2 * EXAMPLES)
@given(shadowed_questions())
def test_image_with_a_shadow_when_asked_then_it_decides_as_two_images_do(question: tuple[Json, Json]) -> None:
    given = {**question[0], "shadow_until": "2100-01-01T00:00:00Z"}
    if given["principal"] == "federated":
        reject()
    request = build_request({key: value for key, value in question[1].items() if key != "override"}, given)
    both = build_snapshot(given)
    assert both.shadow is not None
    in_force = _ask(dataclasses.replace(both, shadow=None), request)
    everything = _ask(both.shadow.snapshot, request)

    answer = _ask(both, request)

    if isinstance(in_force, Invalid):
        assert answer == in_force
        return
    assert isinstance(answer, Answer)
    assert dataclasses.replace(answer, shadow_decision=Decision.UNSPECIFIED) == in_force
    would_be = Decision.IMPLICIT_DENY if isinstance(everything, Invalid) else everything.decision
    assert answer.shadow_decision is would_be
    # Once it is over, nothing is allowed but what both allow, and the image without a shadow is that of everything.
    ended = build_snapshot({**given, "shadow_until": "2026-01-15T11:59:59Z"})
    late = _ask(ended, request)
    assert isinstance(late, Answer)
    is_allowed = in_force.decision is Decision.ALLOW and would_be is Decision.ALLOW
    assert (late.decision is Decision.ALLOW) == is_allowed
    image = core.Image.from_bytes(write_image(ended))
    assert image.with_shadow_in_force().revision == core.Image.from_bytes(write_image(both.shadow.snapshot)).revision
