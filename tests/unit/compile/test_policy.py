# SPDX-License-Identifier: Apache-2.0
"""Sound documents, and what they mean."""

import json
import urllib.parse

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from sidecar.compile.documents import read_json, read_yaml
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.compile.quotas import document_size
from sidecar.model.policy import (
    ActionPattern,
    Effect,
    Pattern,
    PolicyKind,
    PrincipalKind,
    PrincipalPattern,
    Qualifier,
    Variable,
    Wildcard,
)
from tests.unit.compile.documents_of import ABSENT, SOUND, change, parse, policy, statement

RICH = policy(
    {
        "Sid": "First",
        "Effect": "Allow",
        "Action": ["S3:Get*", "s3:PutObject"],
        "Resource": ["arn:aws:s3:::home/${aws:username}/*", "*"],
        "Condition": {
            "StringEquals": {"aws:PrincipalTag/Team": "blue"},
            "ForAnyValue:StringLikeIfExists": {"aws:TagKeys": ["a*", "b"]},
        },
    },
    {"Effect": "Deny", "NotAction": "iam:*", "NotResource": "arn:aws:iam::123456789012:user/bob"},
)


@pytest.mark.parametrize("kind", PolicyKind)
def test_statement_when_sound_for_its_kind_then_nothing_is_said(kind: PolicyKind) -> None:
    parsed = parse(policy(statement(kind)), kind)

    assert parsed.errors == parsed.warnings == []
    assert parsed.statement.index == 0
    assert parsed.statement.effect == SOUND[kind]["Effect"]


def test_document_when_rich_then_every_part_is_typed() -> None:
    document = parse(RICH).document

    assert document is not None
    assert (document.version, document.id, len(document.statements)) == ("2012-10-17", "", 2)
    first, second = document.statements
    assert (first.index, first.sid, first.effect) == (0, "First", Effect.ALLOW)
    assert first.actions == (ActionPattern("s3", "get*"), ActionPattern("s3", "putobject"))
    assert not first.not_action
    assert first.resources is not None
    assert first.resources[0].fields[5] == Pattern(
        "home/${aws:username}/*", ("home/", Variable("aws:username", None), "/", Wildcard.ANY_RUN)
    )
    assert first.resources[1].is_any
    assert [(line.operator.name, line.qualifier, line.if_exists, line.key) for line in first.conditions] == [
        ("StringEquals", Qualifier.NONE, False, "aws:principaltag/team"),
        ("StringLike", Qualifier.FOR_ANY_VALUE, True, "aws:tagkeys"),
    ]
    assert first.conditions[1].values == (Pattern("a*", ("a", Wildcard.ANY_RUN)), Pattern("b", ("b",)))
    assert first.principals is None
    assert (second.index, second.effect, second.not_action, second.not_resource) == (1, Effect.DENY, True, True)
    assert second.conditions == ()


def test_document_when_given_in_any_form_then_the_meaning_is_the_same() -> None:
    text = json.dumps(RICH, indent=2)
    wanted = parse(RICH).document

    assert wanted is not None
    for form in (
        text,
        f"\n {text} ",
        urllib.parse.quote(text),
        urllib.parse.quote(text, safe=""),
        "".join(f"%{ord(character):02x}" for character in text),
    ):
        assert parse(form).document == wanted
    yaml = read_yaml(json.dumps(RICH))
    assert parse_policy(yaml, kind=PolicyKind.IDENTITY, problems=Problems(), file="p.yaml") == wanted


def test_document_when_url_encoded_then_percent_and_plus_come_through() -> None:
    document = policy(statement(Condition={"StringEquals": {"aws:PrincipalTag/a+b": "100%25 %7B+ü"}}))

    parsed = parse(urllib.parse.quote(json.dumps(document, ensure_ascii=False)))

    (line,) = parsed.statement.conditions
    assert line.key == "aws:principaltag/a+b"
    assert line.values == (Pattern("100%25 %7B+ü", ("100%25 %7B+ü",)),)


def test_document_when_one_statement_stands_bare_then_it_is_the_only_one() -> None:
    parsed = parse({"Version": "2012-10-17", "Statement": statement()})

    assert parsed.document is not None
    assert len(parsed.document.statements) == 1


@pytest.mark.parametrize(
    ("version", "meant"),
    [("2012-10-17", "2012-10-17"), ("2008-10-17", "2008-10-17"), (ABSENT, "2008-10-17")],
)
def test_version_then_it_decides_whether_variables_are_variables(version: object, meant: str) -> None:
    parsed = change(version=version, Resource="arn:aws:s3:::b/${aws:username}")

    assert parsed.document is not None
    assert parsed.document.version == meant
    assert parsed.statement.resources is not None
    is_variable = parsed.statement.resources[0].fields[5].has_variables
    assert is_variable == (meant == "2012-10-17")
    assert bool(parsed.warnings) != is_variable


def test_old_document_then_dollar_and_braces_are_text_in_values_too() -> None:
    parsed = change(version="2008-10-17", Condition={"StringLike": {"s3:prefix": "home/${aws:username}/*"}})

    (line,) = parsed.statement.conditions
    assert line.values == (Pattern("home/${aws:username}/*", ("home/${aws:username}/", Wildcard.ANY_RUN)),)


@pytest.mark.parametrize("kind", [PolicyKind.RESOURCE, PolicyKind.TRUST])
def test_id_when_the_policy_stands_at_a_resource_then_it_is_kept(kind: PolicyKind) -> None:
    parsed = parse({"Id": "Policy-1: all", **policy(statement(kind))}, kind)

    assert parsed.warnings == []
    assert parsed.document is not None
    assert parsed.document.id == "Policy-1: all"


def test_principals_when_all_forms_stand_together_then_each_is_typed() -> None:
    parsed = change(
        PolicyKind.RESOURCE,
        Principal={
            "AWS": ["123456789012", "arn:aws:iam::123456789012:user/x/bob"],
            "Service": "SNS.amazonaws.com",
            "Federated": "accounts.google.com",
            "CanonicalUser": "0123456789abcdef" * 4,
        },
    )

    assert parsed.statement.principals is not None
    assert [entry.kind for entry in parsed.statement.principals] == [
        PrincipalKind.ACCOUNT,
        PrincipalKind.USER,
        PrincipalKind.SERVICE,
        PrincipalKind.FEDERATED_PROVIDER,
        PrincipalKind.CANONICAL_USER,
    ]


@pytest.mark.parametrize("everybody", ["*", {"AWS": "*"}, {"AWS": ["*"]}])
def test_principal_when_it_is_a_star_then_it_is_everybody(everybody: object) -> None:
    parsed = change(PolicyKind.RESOURCE, Principal=everybody)

    assert parsed.statement.principals == (PrincipalPattern(PrincipalKind.ANY, "*"),)


def test_not_principal_when_it_denies_then_it_is_kept() -> None:
    names = [
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:role/R",
        "arn:aws:sts::123456789012:assumed-role/R/session",
        "arn:aws:iam::123456789012:user/bob",
    ]
    parsed = change(PolicyKind.RESOURCE, Effect="Deny", Principal=ABSENT, NotPrincipal={"AWS": names})

    assert parsed.warnings == []
    assert parsed.statement.not_principal
    assert parsed.statement.principals is not None
    assert len(parsed.statement.principals) == 4


def test_resource_policy_when_it_names_no_resource_then_that_is_none() -> None:
    assert change(PolicyKind.RESOURCE, Resource=ABSENT).statement.resources is None
    assert change(PolicyKind.TRUST).statement.resources is None


def test_service_control_policy_then_a_wildcard_may_stand_in_the_service() -> None:
    parsed = change(PolicyKind.SERVICE_CONTROL, Action=["*:Describe*", "ec?:*Tags", "*"])

    assert parsed.statement.actions == (
        ActionPattern("*", "describe*"),
        ActionPattern("ec?", "*tags"),
        ActionPattern("*", "*"),
    )


def test_resource_control_policy_then_full_access_is_the_only_allow() -> None:
    full = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
    kind = PolicyKind.RESOURCE_CONTROL

    assert parse(policy(full), kind).errors == []
    for element, value in (
        ("Action", "s3:*"),
        ("Resource", "arn:aws:s3:::b/*"),
        ("Condition", {"Bool": {"aws:SecureTransport": "true"}}),
    ):
        error = parse(policy({**full, element: value}), kind).error
        assert error.json_path == "$.Statement[0].Effect"
        assert "only deny" in error.message


def test_condition_when_it_is_empty_then_there_is_none() -> None:
    parsed = change(Condition={})

    assert parsed.statement.conditions == ()
    assert parsed.warnings == []


def test_condition_values_when_they_are_not_strings_then_their_text_counts() -> None:
    document = policy(
        statement(
            Condition={
                "Bool": {"aws:SecureTransport": True, "aws:ViaAWSService": [False]},
                "NumericLessThan": {"s3:max-keys": 10},
                "StringEquals": {"s3:x": [1.50, "1.50", True]},
            }
        )
    )
    text = json.dumps(document).replace("1.5,", "1.50,")

    secure, via, keys, mixed = parse(text).statement.conditions
    assert secure.values == (Pattern("true", ("true",)),)
    assert via.values == (Pattern("false", ("false",)),)
    assert keys.values == ((10, 0),)
    assert mixed.values == (Pattern("1.50", ("1.50",)), Pattern("1.50", ("1.50",)), Pattern("true", ("true",)))


def test_managed_policies_of_aws_then_every_one_is_sound() -> None:
    policies = read_json(aws_managed_policies_data)

    assert isinstance(policies, dict)
    assert len(policies) > 1500
    problems = Problems()
    statements = actions = 0
    for name, entry in policies.items():
        parsed = parse_policy(
            entry["Document"], kind=PolicyKind.IDENTITY, problems=problems, file=name, check_quota=False
        )
        assert parsed is not None, problems.items[-1]
        statements += len(parsed.statements)
        actions += sum(len(one.actions) for one in parsed.statements)
    assert problems.error_count == 0
    assert statements > 8_000
    assert actions > 60_000


def test_managed_policies_of_aws_when_no_advice_is_wanted_then_nothing_is_said() -> None:
    policies = read_json(aws_managed_policies_data)

    assert isinstance(policies, dict)
    problems = Problems()
    for name, entry in policies.items():
        document = entry["Document"]
        parse_policy(document, kind=PolicyKind.IDENTITY, problems=problems, file=name, check_quota=False, advice=False)
    assert problems.items == []


def test_size_then_white_space_outside_of_strings_does_not_count() -> None:
    document = policy(statement(Condition={"NumericEquals": {"a:b": [1, 2.5], "a:c": 3}}))

    compact = len(json.dumps(document, separators=(",", ":")))
    assert document_size(read_json(json.dumps(document, indent=8))) == compact
    assert document_size({"a": {1, 2}}) == 0
