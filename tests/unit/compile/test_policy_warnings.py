# SPDX-License-Identifier: Apache-2.0
"""What a sound document is warned about, and what not."""

import pytest

from sidecar.model.policy import PolicyKind, Qualifier
from tests.unit.compile.documents_of import ABSENT, change, condition, parse, policy, statement

ACCOUNT = "arn:aws:iam::123456789012:root"
ROLE = "arn:aws:iam::123456789012:role/team/R"
SESSION = "arn:aws:sts::123456789012:assumed-role/R/session"
USER = "arn:aws:iam::123456789012:user/bob"


@pytest.mark.parametrize(
    ("actions", "path", "words"),
    [
        (["s3:GetObject", "s3:GetObject"], "[1]", "stands in the list twice"),
        (["s3:GetObject", "S3:getobject"], "[1]", "stands in the list twice"),
        (["s3:GetObject", "s3:Get*"], "[0]", "covered by `s3:get*`"),
        (["s3:*", "s3:GetObject"], "[1]", "covered by `s3:*`"),
        (["s3:Get*", "s3:GetObject*"], "[1]", "covered by `s3:get*`"),
        (["s3:*Tags", "s3:GetTags"], "[1]", "covered by `s3:*tags`"),
        (["s3:Get?bject", "s3:GetObject"], "[1]", "covered by `s3:get?bject`"),
        (["s3:GetObject", "*"], "[0]", "covered by `*`"),
    ],
)
def test_action_when_another_covers_it_then_it_is_redundant(actions: list[str], path: str, words: str) -> None:
    warning = change(Action=actions).warning

    assert warning.json_path == f"$.Statement[0].Action{path}"
    assert words in warning.message


@pytest.mark.parametrize(
    "actions",
    [
        ["s3:Get*", "s3:Put*", "ec2:GetObject"],
        ["s3:GetObject", "s3:GetObjects"],
        ["s3:Get?", "s3:Get"],
        ["s3:*", "sqs:*"],
        ["s3:*Tags", "s3:Get*"],
        ["*"],
    ],
)
def test_action_when_none_covers_another_then_nothing_is_said(actions: list[str]) -> None:
    assert change(Action=actions).warnings == []


def test_service_control_policy_when_a_wildcard_service_covers_an_action_then_it_is_redundant() -> None:
    warning = change(PolicyKind.SERVICE_CONTROL, Action=["*:Get*", "s3:GetObject"]).warning

    assert "covered by `*:get*`" in warning.message


def test_actions_when_there_are_thousands_then_looking_for_redundant_ones_ends_soon() -> None:
    literal = [f"s{number % 40}:Action{number}" for number in range(4_000)]
    prefixes = [f"s{number % 40}:Bction{number}*" for number in range(4_000)]
    patterns = [f"s1:{'*a' * 100}{number}" for number in range(300)]
    hostile = patterns + [f"s1:{'a' * 200}{number}x" for number in range(300)]

    # Quadratic time would take minutes, and the test would run into its time limit.
    for actions in (literal, prefixes, hostile, [*literal, "s1:*9"], literal * 2):
        assert parse(policy(statement(Action=actions)), check_quota=False).errors == []


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEqualsIfExists", "ForAnyValue:StringEqualsIgnoreCase"])
@pytest.mark.parametrize("value", ["a*", "a?b", "${aws:username}*"])
def test_wildcard_when_the_operator_has_none_then_a_warning_says_so(operator: str, value: str) -> None:
    warning = condition(operator, "aws:TagKeys" if ":" in operator else "aws:x", value).warning

    assert "letter by letter" in warning.message
    assert ("StringNotLike" if "Not" in operator else "`StringLike`") in warning.help


def test_wildcard_when_it_is_meant_as_a_character_then_nothing_is_said() -> None:
    parsed = condition("StringEquals", "aws:x", "a${*}b${?}${$}")

    assert parsed.warnings == []
    (value,) = parsed.statement.conditions[0].values
    assert getattr(value, "pieces", None) == ("a*b?$",)


@pytest.mark.parametrize("version", ["2008-10-17", ABSENT])
def test_variable_when_the_document_is_old_then_a_warning_says_so(version: object) -> None:
    for parsed in (
        change(version=version, Resource="arn:aws:s3:::${aws:username}/*"),
        condition("StringLike", "s3:prefix", "${aws:username}", version=version),
        condition("ArnLike", "aws:SourceArn", "arn:aws:s3:::${aws:username}", version=version),
    ):
        assert "plain text in a document of version 2008-10-17" in parsed.warning.message


@pytest.mark.parametrize(
    ("value", "network"),
    [("10.1.2.3/8", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32"), ("0.0.0.1/0", "0.0.0.0/0")],
)
def test_network_when_host_bits_are_set_then_they_are_masked_with_a_warning(value: str, network: str) -> None:
    parsed = condition("IpAddress", "aws:SourceIp", value)

    assert f"read as `{network}`" in parsed.warning.message
    assert [str(one) for one in parsed.statement.conditions[0].values] == [network]


def test_time_when_it_has_no_zone_then_it_is_read_as_utc_with_a_warning() -> None:
    parsed = condition("DateLessThan", "aws:CurrentTime", "1970-01-01T00:01:00")

    assert "read as UTC" in parsed.warning.message
    assert parsed.statement.conditions[0].values == ((60, 0),)


@pytest.mark.parametrize(
    ("effect", "operator", "value", "words"),
    [
        ("Deny", "Bool", "false", "does not reach them"),
        ("Deny", "Bool", False, "does not reach them"),
        ("Allow", "BoolIfExists", "true", "lets them through"),
        ("Deny", "BoolIfExists", "false", ""),
        ("Deny", "Bool", "true", ""),
        ("Allow", "Bool", "true", ""),
        ("Allow", "Bool", "false", ""),
        ("Allow", "Null", "false", ""),
    ],
)
def test_mfa_condition_when_it_misses_long_term_keys_then_a_warning_says_so(
    effect: str, operator: str, value: object, words: str
) -> None:
    parsed = condition(operator, "aws:MultiFactorAuthPresent", value, Effect=effect)

    assert [words in warning.message for warning in parsed.warnings] == ([True] if words else [])


def test_key_when_it_has_several_values_then_it_wants_a_set_operator() -> None:
    warning = condition("StringEquals", "aws:TagKeys", "a").warning

    assert warning.json_path == "$.Statement[0].Condition.StringEquals['aws:TagKeys']"
    assert "several values" in warning.message
    assert condition("ForAnyValue:StringEquals", "aws:TagKeys", "a").warnings == []
    assert condition("Null", "aws:TagKeys", "true").warnings == []


@pytest.mark.parametrize("key", ["aws:PrincipalOrgID", "aws:PrincipalTag/team"])
def test_key_when_it_has_one_value_then_for_all_values_lets_too_many_through(key: str) -> None:
    assert "also holds where the key is absent" in condition("ForAllValues:StringEquals", key, "a").warning.message
    assert condition("ForAllValues:StringEquals", key, "a", Effect="Deny").warnings == []
    assert condition("ForAnyValue:StringEquals", key, "a").warnings == []
    assert condition("ForAllValues:StringEquals", "aws:TagKeys", "a").warnings == []


@pytest.mark.parametrize(
    ("key", "words"),
    [("aws:RequestTag/*", "wildcard has no effect"), ("SourceIp", "has no prefix")],
)
def test_key_when_it_can_hardly_be_meant_then_a_warning_says_so(key: str, words: str) -> None:
    assert words in condition("StringEquals", key, "a").warning.message


def test_operator_when_it_tests_nothing_then_a_warning_says_so() -> None:
    parsed = change(Condition={"StringEquals": {}, "Bool": {"aws:SecureTransport": "true"}})

    assert "tests nothing" in parsed.warning.message
    assert len(parsed.statement.conditions) == 1


def test_null_when_a_set_operator_stands_in_front_then_it_is_dropped_with_a_warning() -> None:
    parsed = change(Condition={"ForAllValues:Null": {"aws:TagKeys": "true", "aws:x": "false"}})

    assert "no effect" in parsed.warning.message
    assert [line.qualifier for line in parsed.statement.conditions] == [Qualifier.NONE] * 2


def test_id_when_the_policy_is_attached_to_an_identity_then_a_warning_says_so() -> None:
    parsed = parse({"Id": "x", **policy(statement())})

    assert parsed.warning.json_path == "$.Id"
    assert parsed.document is not None
    assert parsed.document.id == "x"


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("arn:aws:iam::12345:user/bob", "no account id"),
        ("arn:aws:iam::ACCOUNT-ID:user/bob", "no account id"),
        ("arn:aws:organizations::*:", "names no resource"),
    ],
)
def test_resource_when_it_can_match_nothing_then_a_warning_says_so(resource: str, words: str) -> None:
    assert words in change(Resource=resource).warning.message


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/x",
        "arn:aws:iam:*:123456789012:user/bob",
        "arn:aws:iam::aws:policy/ReadOnlyAccess",
        "arn:aws:iam::1234567890??:user/bob",
        "arn:*:kms:*:${aws:PrincipalAccount}:key/*",
        "arn:aws-cn:s3:::bucket",
        "arn:aws*:s3:::bucket",
        "arn:aws:ec2:*:*:*/*",
    ],
)
def test_resource_when_it_can_match_then_nothing_is_said(resource: str) -> None:
    assert change(Resource=resource).warnings == []


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([USER], ["its account 123456789012"]),
        ([USER, "123456789012"], []),
        ([USER, ACCOUNT], []),
        ([ACCOUNT], []),
        ([ROLE, ACCOUNT], ["each session"]),
        ([SESSION, ACCOUNT], ["its role R"]),
        ([SESSION, ROLE], ["its account", "its account"]),
        ([SESSION, ROLE, ACCOUNT], []),
        (["*"], ["reaches nobody"]),
    ],
)
def test_not_principal_when_an_ancestor_is_missing_then_a_warning_says_so(names: list[str], missing: list[str]) -> None:
    parsed = change(PolicyKind.RESOURCE, Effect="Deny", Principal=ABSENT, NotPrincipal={"AWS": names})

    assert len(parsed.warnings) == len(missing)
    for warning, words in zip(parsed.warnings, missing, strict=True):
        assert warning.json_path == "$.Statement[0].NotPrincipal"
        assert words in warning.message


@pytest.mark.parametrize(("kind", "soft"), [(PolicyKind.TRUST, 2_048), (PolicyKind.RESOURCE, 20_480)])
def test_size_when_it_is_over_the_common_quota_then_a_warning_says_so(kind: PolicyKind, soft: int) -> None:
    parsed = change(kind, Condition={"StringEquals": {"aws:x": "a" * soft}})

    assert f"the quota is {soft:,}" in parsed.warning.message


def test_advice_when_none_is_wanted_then_only_errors_are_said() -> None:
    document = policy(statement(Action=["s3:*", "s3:GetObject"], Condition={"StringEquals": {"aws:x": "a*"}}))

    assert len(parse(document).warnings) == 2
    assert parse(document, advice=False).warnings == []
    assert parse({**document, "Extra": 1}, advice=False).errors
