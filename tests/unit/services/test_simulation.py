# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.decision import Answer, Decision, PolicyLayer, Reason
from sidecar.model.errors import PolicySyntaxError, RequestError, Severity
from sidecar.model.request import ContextValue
from sidecar.services.simulation import SimulationRequest, Simulator

ADA = "arn:aws:iam::111122223333:user/team/ada"
SESSION = "arn:aws:sts::111122223333:assumed-role/reader/session"
FEDERATED = "arn:aws:sts::111122223333:federated-user/guest"
ROOT = "arn:aws:iam::111122223333:root"
SERVICE = "backup.amazonaws.com"
BUCKET = "arn:aws:s3:::reports/may.csv"
ROLE = "arn:aws:iam::111122223333:role/team/reader"
FOREIGN_ROLE = "arn:aws:iam::444455556666:role/reader"
FOREIGN_QUEUE = "arn:aws:sqs:eu-central-1:444455556666:jobs"


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": "*", **more}


def deny(action: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": "*", **more}


FULL = policy(allow())


def simulate(principal: str = ADA, action: str = "s3:GetObject", resource: str = BUCKET, **more: Any) -> Answer:
    request = SimulationRequest(principal=principal, action=action, resource=resource, **more)
    return Simulator(now=lambda: 1_700_000_000_000_000_000).simulate(request).answer


def matched(answer: Answer) -> list[tuple[PolicyLayer, str]]:
    return [(match.layer, match.policy) for match in answer.matched_statements]


@pytest.mark.parametrize("principal", [ADA, SESSION])
def test_identity_policies_when_they_allow_then_allow(principal: str) -> None:
    answer = simulate(principal, identity_policies=[FULL])

    assert (answer.decision, answer.reason) == (Decision.ALLOW, Reason.IDENTITY_ALLOW)
    assert matched(answer) == [(PolicyLayer.IDENTITY, "identity_policies[0]")]


def test_identity_policies_when_there_are_none_then_deny() -> None:
    assert simulate().reason is Reason.NO_IDENTITY_ALLOW


def test_identity_policies_when_one_of_several_denies_then_it_is_named_by_its_place() -> None:
    answer = simulate(identity_policies=[FULL, policy(deny("s3:GetObject"))])

    assert answer.decision is Decision.EXPLICIT_DENY
    assert matched(answer)[-1] == (PolicyLayer.IDENTITY, "identity_policies[1]")


def test_boundary_when_it_allows_nothing_then_deny() -> None:
    boundary = policy(allow("ec2:*"))

    answer = simulate(identity_policies=[FULL], permissions_boundary=boundary)

    assert answer.reason is Reason.NO_PERMISSIONS_BOUNDARY_ALLOW


@pytest.mark.parametrize("principal", [ADA, SESSION, FEDERATED])
def test_session_policies_when_they_allow_less_then_less_is_allowed(principal: str) -> None:
    session = policy(allow("s3:Get*"))

    assert simulate(principal, identity_policies=[FULL], session_policies=[session]).decision is Decision.ALLOW
    answer = simulate(principal, "s3:PutObject", identity_policies=[FULL], session_policies=[session])
    assert answer.reason is Reason.NO_SESSION_ALLOW


def test_federated_user_when_there_is_no_session_policy_then_nothing_is_allowed() -> None:
    assert simulate(FEDERATED, identity_policies=[FULL]).reason is Reason.NO_SESSION_ALLOW


def test_root_when_in_its_own_account_then_allow() -> None:
    assert simulate(ROOT).reason is Reason.ROOT_ALLOW


@pytest.mark.parametrize("principal", ["", SERVICE])
def test_resource_policy_when_it_names_a_caller_without_account_then_allow(principal: str) -> None:
    who: object = {"Service": SERVICE} if principal else "*"
    document = policy(allow(Principal=who))

    answer = simulate(principal, resource_policy=document, resource_account="444455556666")

    assert answer.reason is Reason.RESOURCE_ALLOW
    assert matched(answer) == [(PolicyLayer.RESOURCE, "resource_policy")]


def test_owner_when_nothing_says_it_then_that_is_the_reason() -> None:
    assert simulate("").reason is Reason.RESOURCE_ACCOUNT_UNKNOWN


def test_owner_when_it_is_not_stated_then_it_is_the_account_of_the_principal() -> None:
    condition = {"StringEquals": {"aws:ResourceAccount": "111122223333"}}

    assert simulate(identity_policies=[policy(allow(Condition=condition))]).decision is Decision.ALLOW


def test_resource_policy_when_the_owner_is_another_account_then_both_sides_must_allow() -> None:
    document = policy(allow("sqs:*", Principal={"AWS": "arn:aws:iam::111122223333:root"}))
    question: dict[str, Any] = {"action": "sqs:SendMessage", "resource": FOREIGN_QUEUE}

    assert simulate(**question, identity_policies=[FULL]).reason is Reason.NO_RESOURCE_ALLOW
    assert simulate(**question, resource_policy=document).reason is Reason.NO_IDENTITY_ALLOW
    both = simulate(**question, resource_policy=document, identity_policies=[FULL])
    assert both.decision is Decision.ALLOW


def test_resource_policy_when_the_arn_names_no_account_then_the_stated_owner_counts() -> None:
    document = policy(allow(Principal={"AWS": "111122223333"}))

    answer = simulate(resource_policy=document, resource_account="444455556666")

    assert answer.reason is Reason.NO_IDENTITY_ALLOW


def test_key_policy_when_it_does_not_grant_then_identity_policies_are_not_enough() -> None:
    key = "arn:aws:kms:eu-central-1:111122223333:key/0f1e2d3c"
    document = policy(allow("kms:*", Principal={"AWS": ROOT}))

    assert simulate(action="kms:Decrypt", resource=key, identity_policies=[FULL]).reason is Reason.NO_RESOURCE_ALLOW
    answer = simulate(action="kms:Decrypt", resource=key, identity_policies=[FULL], resource_policy=document)
    assert answer.decision is Decision.ALLOW


@pytest.mark.parametrize("role", [ROLE, FOREIGN_ROLE])
def test_trust_policy_when_it_names_the_caller_then_it_may_assume_the_role(role: str) -> None:
    trust = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": ADA}, "Action": "sts:AssumeRole"}],
        }
    )
    question: dict[str, Any] = {"action": "sts:AssumeRole", "resource": role, "identity_policies": [FULL]}

    assert simulate(**question, resource_policy=trust).decision is Decision.ALLOW
    assert simulate(**question).reason is Reason.NO_RESOURCE_ALLOW
    assert simulate(SESSION, **question, resource_policy=trust).reason is Reason.NO_RESOURCE_ALLOW


def test_trust_policy_when_the_role_is_the_callers_own_then_both_are_one_role() -> None:
    trust = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": "arn:aws:iam::111122223333:role/reader"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
    )
    role = "arn:aws:iam::111122223333:role/reader"
    boundary = policy(allow("s3:*"))
    question: dict[str, Any] = {"action": "sts:AssumeRole", "resource": role, "resource_policy": trust}

    assert simulate(SESSION, **question, identity_policies=[FULL]).decision is Decision.ALLOW
    answer = simulate(SESSION, **question, identity_policies=[FULL], permissions_boundary=boundary)
    assert answer.reason is Reason.NO_PERMISSIONS_BOUNDARY_ALLOW


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_service_control_policies_when_a_level_allows_nothing_then_deny(depth: int) -> None:
    levels: Sequence[Sequence[str]] = [[FULL]] * depth
    assert simulate(identity_policies=[FULL], service_control_policies=levels).decision is Decision.ALLOW
    for level in range(depth):
        narrowed = [*levels[:level], [policy(allow("ec2:*"))], *levels[level + 1 :]]
        answer = simulate(identity_policies=[FULL], service_control_policies=narrowed)
        assert answer.reason is Reason.NO_SERVICE_CONTROL_ALLOW
    emptied = [*levels[:-1], []]
    answer = simulate(identity_policies=[FULL], service_control_policies=emptied)
    assert answer.reason is Reason.NO_SERVICE_CONTROL_ALLOW


def test_service_control_policies_when_one_denies_then_it_is_named_by_its_place() -> None:
    levels = [[FULL], [FULL, policy(deny("s3:GetObject"))]]

    answer = simulate(identity_policies=[FULL], service_control_policies=levels)

    assert (answer.decision, answer.layer) == (Decision.EXPLICIT_DENY, PolicyLayer.SERVICE_CONTROL)
    assert (PolicyLayer.SERVICE_CONTROL, "service_control_policies[1].documents[1]") in matched(answer)


def test_service_control_policies_when_the_owner_is_another_account_then_they_bind_the_caller_alone() -> None:
    document = policy(allow("sqs:*", Principal="*"))
    levels = [[policy(deny())]]
    question: dict[str, Any] = {"action": "sqs:SendMessage", "resource": FOREIGN_QUEUE, "resource_policy": document}

    assert simulate(**question, service_control_policies=levels).layer is PolicyLayer.SERVICE_CONTROL
    # Nothing of the caller's organization reaches a service.
    assert simulate("", **question, service_control_policies=levels).decision is Decision.ALLOW


@pytest.mark.parametrize("resource", [FOREIGN_QUEUE, FOREIGN_QUEUE.replace("444455556666", "111122223333")])
@pytest.mark.parametrize("with_services", [False, True])
def test_resource_control_policies_when_one_denies_then_deny_whoever_asks(resource: str, with_services: bool) -> None:
    document = policy(allow("sqs:*", Principal="*"))
    question: dict[str, Any] = {
        "action": "sqs:SendMessage",
        "resource": resource,
        "resource_policy": document,
        "service_control_policies": [[FULL]] * 3 if with_services else [],
    }
    levels = [[], [policy(deny("sqs:*", Principal="*"))]]

    for principal in (ADA, SESSION, ROOT, "", SERVICE):
        answer = simulate(principal, **question, resource_control_policies=levels)
        assert (answer.decision, answer.layer) == (Decision.EXPLICIT_DENY, PolicyLayer.RESOURCE_CONTROL)
        assert simulate(principal, **question, resource_control_policies=[[]]).layer is not PolicyLayer.RESOURCE_CONTROL


def test_context_when_it_carries_reserved_keys_then_they_count() -> None:
    condition = {"NumericLessThan": {"aws:MultiFactorAuthAge": "900"}, "StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    document = policy(allow(Condition=condition))

    assert simulate(identity_policies=[document]).decision is Decision.IMPLICIT_DENY
    context = {"aws:MultiFactorAuthAge": ContextValue(("60",)), "aws:principalorgid": ContextValue(("o-1",))}
    assert simulate(identity_policies=[document], context=context).decision is Decision.ALLOW


def test_context_when_it_does_not_say_so_then_the_scaffolding_leaves_no_facts() -> None:
    keys = ("aws:PrincipalOrgID", "aws:ResourceOrgID", "aws:userid")
    for key in keys:
        document = policy(allow(Condition={"Null": {key: "false"}}))
        answer = simulate(
            identity_policies=[document], service_control_policies=[[FULL]], resource_control_policies=[[]]
        )
        assert answer.decision is Decision.IMPLICIT_DENY, key


def test_context_when_it_has_as_many_keys_as_a_request_may_then_it_is_taken() -> None:
    context = {f"test:key{number}": ContextValue(("value",)) for number in range(128)}
    condition = {"StringEquals": dict.fromkeys(list(context)[:100], "value")}

    answer = simulate(
        identity_policies=[policy(allow(Condition=condition))], context=context, service_control_policies=[[FULL]]
    )

    assert answer.decision is Decision.ALLOW
    with pytest.raises(RequestError) as caught:
        simulate(context={**context, "test:one-more": ContextValue(("value",))})
    assert caught.value.field == "context"


@pytest.mark.parametrize("key", ["test:Key", "aws:PrincipalTag/Team"])
def test_context_when_keys_differ_in_case_alone_then_it_is_refused(key: str) -> None:
    value = ContextValue(("value",))

    with pytest.raises(RequestError) as caught:
        simulate(context={key: value, key.upper(): value})

    assert caught.value.field.startswith("context")
    assert "override" not in caught.value.message


def test_context_when_a_key_is_malformed_then_the_field_is_the_context() -> None:
    with pytest.raises(RequestError) as caught:
        simulate(context={"no-colon": ContextValue(("x" * 5000,))})

    assert caught.value.field.startswith("context")


def test_documents_when_they_have_errors_then_every_one_is_named() -> None:
    bad = policy({"Effect": "Allow", "Action": "s3", "Resource": "*"})
    with pytest.raises(PolicySyntaxError) as caught:
        simulate(
            identity_policies=[FULL, bad],
            permissions_boundary="{",
            session_policies=[""],
            resource_policy=bad,
            service_control_policies=[[bad]],
            resource_control_policies=[[], [bad]],
        )

    files = {problem.file for problem in caught.value.problems if problem.severity is Severity.ERROR}
    assert files == {
        "identity_policies[1]",
        "permissions_boundary",
        "session_policies[0]",
        "resource_policy",
        "service_control_policies[0].documents[0]",
        "resource_control_policies[1].documents[0]",
    }


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"principal": ROOT, "identity_policies": [FULL]}, "identity_policies"),
        ({"principal": SERVICE, "identity_policies": [FULL]}, "identity_policies"),
        ({"principal": "", "permissions_boundary": FULL}, "permissions_boundary"),
        ({"principal": "", "session_policies": [FULL]}, "session_policies"),
        ({"principal": "arn:aws:iam::111122223333:role/reader"}, "principal"),
        ({"principal": "nonsense"}, "principal"),
        ({"action": "nonsense"}, "action"),
        ({"resource": "nonsense"}, "resource"),
        ({"resource": "nonsense", "resource_policy": policy(allow(Principal="*"))}, "resource"),
        ({"resource": "*", "resource_policy": policy(allow(Principal="*"))}, "resource_policy"),
        ({"resource_account": "nonsense"}, "resource_account"),
        ({"resource": FOREIGN_QUEUE, "resource_account": "111122223333"}, "resource_account"),
        ({"service_control_policies": [[FULL]] * 8}, "service_control_policies"),
        ({"identity_policies": [FULL] * 101}, "identity_policies"),
        ({"resource_control_policies": [[FULL] * 101]}, "resource_control_policies[0].documents"),
        ({"identity_policies": [FULL + " " * 1024 * 1024]}, ""),
    ],
)
def test_request_when_it_is_malformed_then_the_field_is_named(question: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        simulate(**question)

    assert caught.value.field == field


@given(data=st.data())
def test_request_when_it_is_anything_at_all_then_it_is_decided_or_refused(data: st.DataObject) -> None:
    text = st.text(alphabet=st.characters(), max_size=20)
    arn = st.sampled_from([ADA, SESSION, FEDERATED, ROOT, SERVICE, BUCKET, ROLE, FOREIGN_ROLE, FOREIGN_QUEUE, "*", ""])
    some = arn | text | st.builds(lambda left, right: left[: len(right)] + right + left[len(right) :], arn, text)
    document = st.sampled_from([FULL, policy(deny()), policy(allow(Principal="*")), "", "{}", "[]"]) | text
    documents = st.lists(document, max_size=2)
    value = st.builds(ContextValue, st.lists(text, max_size=2).map(tuple), st.booleans())
    request = SimulationRequest(
        principal=data.draw(some),
        action=data.draw(st.sampled_from(["s3:GetObject", "sts:AssumeRole", "kms:Decrypt", "*"]) | text),
        resource=data.draw(some),
        resource_account=data.draw(st.sampled_from(["", "111122223333", "444455556666"]) | text),
        context=data.draw(st.dictionaries(text | st.just("aws:SourceIp"), value, max_size=2)),
        identity_policies=data.draw(documents),
        permissions_boundary=data.draw(document | st.just("")),
        session_policies=data.draw(documents),
        resource_policy=data.draw(document | st.just("")),
        service_control_policies=data.draw(st.lists(documents, max_size=2)),
        resource_control_policies=data.draw(st.lists(documents, max_size=2)),
    )

    try:
        answer = Simulator(now=lambda: 0).simulate(request).answer
    except (RequestError, PolicySyntaxError):
        return
    assert answer.decision is not Decision.UNSPECIFIED


def test_revision_when_the_question_is_the_same_then_it_is_the_same() -> None:
    request = SimulationRequest(ADA, "s3:GetObject", BUCKET, identity_policies=[FULL])
    simulator = Simulator(now=lambda: 0)

    assert simulator.simulate(request).revision == simulator.simulate(request).revision != ""
