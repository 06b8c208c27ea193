# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace
from typing import cast

import pytest

from sidecar.core import Image
from sidecar.model.decision import (
    Answer,
    Decision,
    MfaMethod,
    MfaRequirement,
    PolicyLayer,
    Reason,
    StatementMatch,
)
from sidecar.model.errors import Problem, Severity
from sidecar.model.reload import ReloadOutcome
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.services.authorizer import Explanation
from sidecar.services.simulation import SimulationRequest
from sidecar.services.snapshots import LoadedSnapshot, ReloadResult
from sidecar.transports.messages import (
    MAX_PROBLEMS,
    answer_from_wire,
    answer_to_wire,
    explain_request_from_wire,
    explain_request_to_wire,
    explanation_from_wire,
    explanation_to_wire,
    problems_from_wire,
    reload_result_to_wire,
    simulate_request_from_wire,
    simulate_request_to_wire,
    snapshot_to_wire,
)
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

ADA = "arn:aws:iam::111122223333:user/ada"
CONTEXT = {
    "aws:SourceIp": ContextValue(("203.0.113.9",)),
    "aws:TagKeys": ContextValue(("team",), True),
    "a:none": ContextValue((), True),
}


def answers() -> list[Answer]:
    return [
        Answer(
            Decision.ALLOW,
            PolicyLayer.IDENTITY,
            Reason.IDENTITY_ALLOW,
            principal_arn=ADA,
            shadow_decision=Decision.EXPLICIT_DENY,
        ),
        Answer(
            Decision.IMPLICIT_DENY,
            PolicyLayer.IDENTITY,
            Reason.NO_IDENTITY_ALLOW,
            MfaRequirement(900, (MfaMethod.TOTP, MfaMethod.WEBAUTHN), False),
            ADA,
            (StatementMatch(PolicyLayer.SERVICE_CONTROL, "arn:aws:iam::aws:policy/X", "S", 3, "Deny"),),
            ("aws:sourceip",),
        ),
        Answer(
            Decision.EXPLICIT_DENY,
            PolicyLayer.RESOURCE_CONTROL,
            Reason.EXPLICIT_DENY,
            MfaRequirement(None, (MfaMethod.WEBAUTHN,), True),
        ),
        Answer(Decision.EXPLICIT_DENY, PolicyLayer.SESSION, Reason.EXPLICIT_DENY, MfaRequirement(0, (), False)),
    ]


@pytest.mark.parametrize("answer", answers(), ids=lambda answer: answer.reason.word)
def test_explanation_when_it_travels_then_it_arrives_as_it_was(answer: Answer) -> None:
    explanation = Explanation(answer, "f" * 64)

    data = explanation_to_wire(explanation).SerializeToString()

    assert explanation_from_wire(pb.ExplainResponse.FromString(data)) == explanation


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("layer", list(PolicyLayer))
@pytest.mark.parametrize("decision", list(Decision))
def test_answer_when_it_travels_then_every_word_of_the_closed_sets_arrives(
    decision: Decision, layer: PolicyLayer, reason: Reason
) -> None:
    explanation = Explanation(Answer(decision, layer, reason), "r")

    assert answer_from_wire(answer_to_wire(explanation.answer, "r")) == explanation


def test_enumerations_when_compared_then_the_contract_and_the_model_have_the_same_numbers() -> None:
    assert {f"DECISION_{item.name}": item.value for item in Decision} == dict(pb.Decision.items())
    assert {f"POLICY_LAYER_{item.name}": item.value for item in PolicyLayer} == dict(pb.PolicyLayer.items())


def test_question_when_it_travels_then_it_arrives_as_it_was() -> None:
    request = AuthorizationRequest(
        ADA, "s3:GetObject", "*", CONTEXT, "444455556666", {"aws:PrincipalArn": ContextValue(("x",))}
    )

    data = explain_request_to_wire(request).SerializeToString()

    assert explain_request_from_wire(pb.ExplainRequest.FromString(data)) == request


def test_simulation_when_it_travels_then_it_arrives_as_it_was() -> None:
    request = SimulationRequest(
        principal=ADA,
        action="s3:GetObject",
        resource="*",
        resource_account="444455556666",
        context=CONTEXT,
        identity_policies=("a", "b"),
        permissions_boundary="c",
        session_policies=("d",),
        resource_policy="e",
        service_control_policies=(("f", "g"), ()),
        resource_control_policies=((), ("h",)),
    )

    data = simulate_request_to_wire(request).SerializeToString()

    assert simulate_request_from_wire(pb.SimulateRequest.FromString(data)) == request


def loaded() -> LoadedSnapshot:
    statistics = {"principals": 1, "policies": 2, "statements": 3, "image_bytes": 4}
    image = cast(Image, SimpleNamespace(revision="f" * 64, statistics=statistics))
    return LoadedSnapshot(image, 1_700_000_000_123_999_999)


def test_snapshot_when_described_then_the_time_is_in_milliseconds() -> None:
    assert snapshot_to_wire(loaded()) == pb.Snapshot(
        revision="f" * 64,
        loaded_at_unix_ms=1_700_000_000_123,
        principals=1,
        policies=2,
        statements=3,
        image_bytes=4,
    )
    assert snapshot_to_wire(None) == pb.Snapshot()


@pytest.mark.parametrize("outcome", list(ReloadOutcome))
def test_reload_when_it_ended_then_applied_says_whether_the_source_is_in_place(outcome: ReloadOutcome) -> None:
    message = reload_result_to_wire(ReloadResult(outcome, loaded(), ()))

    assert message.applied == (outcome is not ReloadOutcome.FAILED)
    assert message.snapshot.revision == "f" * 64


def test_reload_when_there_are_many_problems_then_errors_come_first_and_all_are_counted() -> None:
    warning = Problem(Severity.WARNING, "a.json", "$", "odd")
    error = Problem(Severity.ERROR, "b.json", "$", "wrong \ud800" + "x" * 10_000)
    result = ReloadResult(ReloadOutcome.FAILED, None, (*[warning] * 5000, error))

    message = reload_result_to_wire(result)

    assert message.problem_count == 5001
    assert len(message.problems) == MAX_PROBLEMS
    assert message.problems[0].severity == "error"
    assert len(message.problems[0].message) <= 800
    assert message.ByteSize() < 4 * 1024 * 1024
    assert problems_from_wire(message.problems)[1] == warning
