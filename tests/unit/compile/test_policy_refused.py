# SPDX-License-Identifier: Apache-2.0
"""Unsound documents: each is refused with the place, what is wrong, and how to mend it."""

import itertools
import json
import urllib.parse

import pytest

from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import MAX_PROBLEMS, Problems
from sidecar.compile.quotas import MAX_DOCUMENT_TEXT, MAX_STATEMENTS
from sidecar.model.policy import PolicyKind
from tests.unit.compile.documents_of import ABSENT, change, condition, parse, policy, statement

IDENTITY, RESOURCE, TRUST = PolicyKind.IDENTITY, PolicyKind.RESOURCE, PolicyKind.TRUST
SCP, RCP = PolicyKind.SERVICE_CONTROL, PolicyKind.RESOURCE_CONTROL
WITHOUT_PRINCIPAL = [IDENTITY, PolicyKind.BOUNDARY, PolicyKind.SESSION, SCP]
ROLE = "arn:aws:iam::123456789012:role/R"


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ([], "$", "must be an object, not a list"),
        (17, "$", "must be an object, not a number"),
        (None, "$", "must be an object, not null"),
        (True, "$", "must be an object, not a boolean"),
        ({}, "$", "needs a `Statement`"),
        ({"Version": "2012-10-17"}, "$", "needs a `Statement`"),
        ({"Statement": []}, "$.Statement", "is empty"),
        ({"Statement": None}, "$.Statement", "not null"),
        ({"Statement": "x"}, "$.Statement", "not a string"),
        (policy(statement(), 17), "$.Statement[1]", "not a number"),
        (policy(statement(), [statement()]), "$.Statement[1]", "not a list"),
        (policy(statement(), version="2012-10-18"), "$.Version", "`2012-10-18`"),
        (policy(statement(), version=20121017), "$.Version", "`20121017`"),
        (policy(statement(), version=None), "$.Version", "null"),
        ({**policy(statement()), "Id": 7}, "$.Id", "must be a string"),
        ({**policy(statement()), "Rule": 1}, "$.Rule", "unknown element `Rule`"),
        ({**policy(statement()), "a.b": 1}, "$['a.b']", "unknown element `a.b`"),
        ({**policy(statement()), "it's": 1}, "$['it\\'s']", "unknown element `it's`"),
    ],
)
def test_document_when_its_shape_is_wrong_then_it_is_refused(document: object, path: str, words: str) -> None:
    error = parse(document).error

    assert error.json_path == path
    assert words in error.message


def test_document_when_elements_are_misspelt_then_the_help_knows_better() -> None:
    parsed = parse({"version": "2012-10-17", "Statements": [], "Statement": statement(effect="Allow", Actions="*")})

    assert [(error.json_path, error.help) for error in parsed.errors] == [
        ("$.version", "did you mean `Version`?"),
        ("$.Statements", "did you mean `Statement`?"),
        ("$.Statement.effect", "did you mean `Effect`?"),
        ("$.Statement.Actions", "did you mean `Action`?"),
    ]


def test_document_when_many_things_are_wrong_then_all_of_them_are_found() -> None:
    parsed = parse(
        policy(
            {"Sid": "a b", "Effect": "allow", "Action": ["s3", "*:Get"], "Resource": "b"},
            {"Effect": "Deny", "Condition": {"Bool": {"a:b": "maybe"}, "Like": {"a:b": "c"}}},
            {"Principal": "*", **statement()},
        )
    )

    assert [error.json_path for error in parsed.errors] == [
        "$.Statement[0].Effect",
        "$.Statement[0].Sid",
        "$.Statement[0].Action[0]",
        "$.Statement[0].Action[1]",
        "$.Statement[0].Resource",
        "$.Statement[1]",
        "$.Statement[1]",
        "$.Statement[1].Condition.Bool['a:b']",
        "$.Statement[1].Condition.Like",
        "$.Statement[2].Principal",
    ]
    assert all(error.help for error in parsed.errors)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"Version": "2012-10-17", "Version": "2012-10-17", "Statement": S}', "$.Version"),
        ('{"Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}', "$.Statement.Effect"),
        (
            '{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {}, "Bool": {}}}}',
            "$.Statement.Condition.Bool",
        ),
        (
            '{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition":{"Null":{"a:b":1,"a:b":2}}}}',
            "$.Statement.Condition.Null['a:b']",
        ),
    ],
)
def test_document_when_a_key_stands_twice_then_it_is_refused(text: str, path: str) -> None:
    error = parse(text.replace("S}", json.dumps(statement()) + "}")).errors[0]

    assert error.json_path == path
    assert "more than once" in error.message


def test_principal_when_a_key_stands_twice_then_it_is_refused() -> None:
    text = json.dumps(policy(statement(RESOURCE))).replace('"*"', '{"AWS": "*", "AWS": "123456789012"}', 1)

    error = parse(text, RESOURCE).error

    assert error.json_path == "$.Statement[0].Principal.AWS"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither JSON nor URL-encoded JSON"),
        ("hello", "neither JSON nor URL-encoded JSON"),
        ("[]", "neither JSON nor URL-encoded JSON"),
        ("%5B%5D", "neither JSON nor URL-encoded JSON"),
        ("%7B%FF", "neither JSON nor URL-encoded JSON"),
        ("%7B", "a key in double quotes is expected at line 1, column 2"),
        ('{"a": ', "a value is expected"),
        ('{"Statement": NaN}', "`NaN`"),
        ('{"Statement": "\\ud800"}', "surrogate"),
        ('{"a":' * 500 + "1" + "}" * 500, "levels deep"),
        (urllib.parse.quote('{"a":' * 10_000), "levels deep"),
        ("{" + " " * MAX_DOCUMENT_TEXT + "}", "characters"),
    ],
)
def test_text_when_it_is_no_document_then_it_is_refused(text: str, words: str) -> None:
    error = parse(text).error

    assert error.json_path == "$"
    assert words in error.message


@pytest.mark.parametrize("effect", ["allow", "DENY", "Permit", "", None, 1, ["Allow"], {}])
def test_effect_when_it_is_another_word_then_it_is_refused(effect: object) -> None:
    error = change(Effect=effect).error

    assert error.json_path == "$.Statement[0].Effect"
    assert "`Allow` or `Deny`" in error.message
    assert ("the case matters" in error.help) == (effect in ("allow", "DENY"))


def test_effect_when_absent_then_it_is_refused() -> None:
    assert "needs an `Effect`" in change(Effect=ABSENT).error.message


@pytest.mark.parametrize("kind", [IDENTITY, PolicyKind.BOUNDARY, PolicyKind.SESSION, TRUST])
@pytest.mark.parametrize("sid", ["a b", "a-b", "ä", "a_b", "a\x00"])
def test_sid_when_iam_takes_letters_and_digits_then_others_are_refused(kind: PolicyKind, sid: str) -> None:
    assert change(kind, Sid=sid).error.json_path == "$.Statement[0].Sid"


@pytest.mark.parametrize("kind", [RESOURCE, SCP, RCP])
def test_sid_when_others_take_more_then_it_is_kept(kind: PolicyKind) -> None:
    assert change(kind, Sid="Deny all: é_1").statement.sid == "Deny all: é_1"
    assert "U+0000" in change(kind, Sid="a\x00").error.message
    assert "control character" in change(kind, Sid="a\nb").error.message
    assert "U+1F600" in change(kind, Sid="\U0001f600").error.message


@pytest.mark.parametrize("sid", [1, None, True, ["a"], {}])
def test_sid_when_it_is_no_string_then_it_is_refused(sid: object) -> None:
    assert "must be a string" in change(Sid=sid).error.message


def test_sid_when_two_statements_share_it_then_it_is_refused() -> None:
    named = statement(Sid="Same")
    error = parse(policy(named, statement(Sid=""), statement(Sid=""), named)).error

    assert error.json_path == "$.Statement[3].Sid"
    assert "names statement 0 already" in error.message


@pytest.mark.parametrize("kind", WITHOUT_PRINCIPAL)
@pytest.mark.parametrize("element", ["Principal", "NotPrincipal"])
def test_principal_when_the_policy_is_attached_to_one_then_it_is_refused(kind: PolicyKind, element: str) -> None:
    error = change(kind, **{element: "*"}).error

    assert error.json_path == f"$.Statement[0].{element}"
    assert "may not stand in" in error.message


@pytest.mark.parametrize("kind", [RESOURCE, TRUST, RCP])
def test_principal_when_the_policy_stands_at_a_resource_then_it_must_be_there(kind: PolicyKind) -> None:
    assert "needs a `Principal`" in change(kind, Principal=ABSENT).error.message


@pytest.mark.parametrize("kind", [TRUST, RCP])
def test_not_principal_when_the_kind_has_none_then_it_is_refused(kind: PolicyKind) -> None:
    parsed = change(kind, Effect="Deny", Principal=ABSENT, NotPrincipal={"AWS": ROLE})

    assert parsed.error.json_path == "$.Statement[0].NotPrincipal"


def test_not_principal_when_it_allows_then_it_is_refused() -> None:
    error = change(RESOURCE, Principal=ABSENT, NotPrincipal={"AWS": ROLE}).error

    assert "may not stand with `Allow`" in error.message


@pytest.mark.parametrize("principal", [{"AWS": "*"}, {"AWS": ["*"]}, {"AWS": ROLE}, {"Service": "a.amazonaws.com"}])
def test_principal_of_a_resource_control_policy_when_it_is_not_a_star_then_it_is_refused(principal: object) -> None:
    assert "must be `*`" in change(RCP, Principal=principal).error.message


@pytest.mark.parametrize(
    ("principal", "path", "words"),
    [
        ("123456789012", "", "not `123456789012`"),
        (ROLE, "", "must be `*` or an object"),
        (["*"], "", "not a list"),
        (None, "", "not null"),
        ({}, "", "names nobody"),
        ({"aws": "*"}, ".aws", "unknown element `aws`"),
        ({"User": "bob"}, ".User", "unknown element `User`"),
        ({"AWS": []}, ".AWS", "is empty"),
        ({"AWS": {}}, ".AWS", "not an object"),
        ({"AWS": 123456789012}, ".AWS", "not a number"),
        ({"AWS": ["*", 123456789012]}, ".AWS[1]", "not a number"),
        ({"AWS": "bob"}, ".AWS", "no AWS principal"),
        ({"AWS": ""}, ".AWS", "no AWS principal"),
        ({"AWS": "12345"}, ".AWS", "does not have twelve digits"),
        ({"AWS": "ec2.amazonaws.com"}, ".AWS", "is a service"),
        ({"AWS": "arn:aws:iam::123456789012:user/*"}, ".AWS", "holds a wildcard"),
        ({"AWS": "arn:aws:iam::*:root"}, ".AWS", "holds a wildcard"),
        ({"AWS": "arn:aws:iam::123456789012:role/${aws:username}"}, ".AWS", "policy variable"),
        ({"AWS": "arn:aws:iam::123456789012:group/g"}, ".AWS", "a group is never a principal"),
        ({"AWS": "arn:aws:iam::123456789012:saml-provider/p"}, ".AWS", "identity provider"),
        ({"AWS": "arn:aws:iam::123456789012:policy/p"}, ".AWS", "no AWS principal"),
        ({"AWS": "arn:aws:iam::123456789012:assumed-role/R/s"}, ".AWS", "names a session under `iam`"),
        ({"AWS": "arn:aws:sts::123456789012:role/R"}, ".AWS", "under `sts`"),
        ({"AWS": "arn:aws:sts::123456789012:assumed-role/R"}, ".AWS", "no session of a role"),
        ({"AWS": "arn:aws:sts::123456789012:assumed-role/path/R/s"}, ".AWS", "no session of a role"),
        ({"AWS": "arn:aws:sts::123456789012:assumed-role/R/s"}, ".AWS", "no session of a role"),
        ({"AWS": "arn:aws:iam::12345:root"}, ".AWS", "`12345` is no account id"),
        ({"AWS": "arn:aws:iam:eu-west-1:123456789012:root"}, ".AWS", "names a region"),
        ({"AWS": "arn:azure:iam::123456789012:root"}, ".AWS", "no partition"),
        ({"AWS": "arn:aws:iam::123456789012"}, ".AWS", "5 of its six fields"),
        ({"AWS": "arn:aws:iam::123456789012:user/"}, ".AWS", "no AWS principal"),
        ({"AWS": "AKIAIOSFODNN7EXAMPLE"}, ".AWS", "no AWS principal"),
        ({"AWS": "\U0001f600"}, ".AWS", "U+1F600"),
        ({"Service": "*"}, ".Service", "holds a wildcard"),
        ({"Service": "ec2"}, ".Service", "no service principal"),
        ({"Service": "ec2.amazonaws.com/"}, ".Service", "no service principal"),
        ({"Federated": "*"}, ".Federated", "holds a wildcard"),
        ({"Federated": "google"}, ".Federated", "no federated principal"),
        ({"Federated": ROLE}, ".Federated", "no federated principal"),
        ({"Federated": "arn:aws:iam::123456789012:saml-provider/"}, ".Federated", "no federated principal"),
        ({"CanonicalUser": "xyz"}, ".CanonicalUser", "no canonical user id"),
    ],
)
def test_principal_when_it_names_nobody_possible_then_it_is_refused(principal: object, path: str, words: str) -> None:
    error = change(RESOURCE, Principal=principal).error

    assert error.json_path == f"$.Statement[0].Principal{path}"
    assert words in error.message


@pytest.mark.parametrize("element", ["Action", "Resource"])
@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ([], "", "is empty"),
        ({}, "", "not an object"),
        (None, "", "not null"),
        (7, "", "not a number"),
        (False, "", "not a boolean"),
        (["*", None], "[1]", "not null"),
        (["*", ["*"]], "[1]", "not a list"),
        ("", "", "is empty"),
        (["*", ""], "[1]", "is empty"),
    ],
)
def test_entries_when_their_shape_is_wrong_then_they_are_refused(
    element: str, value: object, path: str, words: str
) -> None:
    without = {name: entry for name, entry in statement().items() if name != element}
    for name in (element, f"Not{element}"):
        error = parse(policy({**without, name: value})).error
        assert error.json_path == f"$.Statement[0].{name}{path}"
        assert words in error.message


@pytest.mark.parametrize("kind", [kind for kind in PolicyKind if kind is not TRUST])
def test_statement_when_it_has_both_or_neither_of_a_pair_then_it_is_refused(kind: PolicyKind) -> None:
    assert "not both" in change(kind, NotAction="s3:*").error.message
    assert "not both" in change(kind, NotResource="*").error.message
    assert "needs an `Action`" in change(kind, Action=ABSENT).error.message
    if kind is not RESOURCE:
        assert "needs a `Resource`" in change(kind, Resource=ABSENT).error.message


def test_principal_when_it_stands_with_its_negation_then_it_is_refused() -> None:
    assert "not both" in change(RESOURCE, Effect="Deny", NotPrincipal={"AWS": ROLE}).error.message


@pytest.mark.parametrize("element", ["Resource", "NotResource"])
def test_trust_policy_when_it_names_a_resource_then_it_is_refused(element: str) -> None:
    error = change(TRUST, **{element: "*"}).error

    assert error.json_path == f"$.Statement[0].{element}"
    assert "may not stand in a role trust policy" in error.message


@pytest.mark.parametrize("action", ["*", "s3:GetObject", "iam:PassRole"])
def test_trust_policy_when_it_speaks_of_other_services_then_it_is_refused(action: str) -> None:
    error = change(TRUST, Action=["sts:AssumeRole", action]).errors[0]

    assert error.json_path == "$.Statement[0].Action[1]"
    assert "`sts` actions only" in error.message


def test_resource_control_policy_when_it_has_not_action_then_it_is_refused() -> None:
    assert change(RCP, Action=ABSENT, NotAction="s3:*").error.json_path == "$.Statement[0].NotAction"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("s3", "does not name a service"),
        ("GetObject", "does not name a service"),
        ("**", "does not name a service"),
        ("s3:Get:Object", "more than one colon"),
        ("s3:", "nothing after the colon"),
        (":GetObject", "no service"),
        ("s3:Get Object", "no action"),
        ("s3:Get/Object", "no action"),
        ("a b:c", "no service"),
        ("amazon.s3:Get", "no service"),
        ("*:Get*", "holds a wildcard"),
        ("s*:GetObject", "holds a wildcard"),
        ("${aws:username}:Get", "policy variable"),
        ("s3:${aws:username}", "policy variable"),
        ("s3:Get\x00", "U+0000"),
        ("s3:Get\u0100", "U+0100"),
        ("\u212ams:Encrypt", "U+212A"),
        ("s3:" + "a" * 600, "603 characters"),
    ],
)
def test_action_when_it_is_none_then_it_is_refused(action: str, words: str) -> None:
    error = change(Action=["s3:*", action]).error

    assert error.json_path == "$.Statement[0].Action[1]"
    assert words in error.message
    assert error.help


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("bucket", "neither an ARN nor `*`"),
        ("**", "neither an ARN nor `*`"),
        ("arn:aws:s3", "3 of its six fields"),
        ("arn:aws:s3::bucket", "5 of its six fields"),
        ("arn:aws:s3:*", "4 of its six fields"),
        ("aws:arn:s3:::bucket", "does not begin with `arn:`"),
        ("ARN:aws:s3:::bucket", "does not begin with `arn:`"),
        ("*:aws:s3:::bucket", "does not begin with `arn:`"),
        ("arn:asw:s3:::bucket", "`asw` is no partition"),
        ("arn::s3:::bucket", "`` is no partition"),
        ("arn:aws:*:::bucket", "holds a wildcard"),
        ("arn:aws:s?:::bucket", "holds a wildcard"),
        ("arn:aws::::bucket", "`` is no service"),
        ("arn:aws:s 3:::bucket", "`s 3` is no service"),
        ("arn:${aws:x}:s3:::bucket", "in the partition field"),
        ("arn:aws:${aws:x}:::bucket", "in the service field"),
        ("arn:aws:s3:${aws:RequestedRegion}::bucket", "in the region field"),
        ("${aws:x}:aws:s3:::bucket", "in the arn field"),
        ("arn:aws:s3:::${aws:username", "no closing `}`"),
        ("arn:aws:s3:::${}", "has no name"),
        ("arn:aws:s3:::${ }", "has no name"),
        ("arn:aws:s3:::${a${b}}", "inside another"),
        ("arn:aws:s3:::${a:b,'c'}", "not written as AWS wants"),
        ('arn:aws:s3:::${a:b, "c"}', "not written as AWS wants"),
        ("arn:aws:s3:::${a:b, c}", "not written as AWS wants"),
        ("arn:aws:s3:::${a:b, 'c}", "not written as AWS wants"),
        ("arn:aws:s3:::${a:b*}", "no policy variable"),
        ("arn:aws:s3:::${ a:b}", "no policy variable"),
        ("arn:aws:iam:eu-west-1:123456789012:user/bob", "has no region"),
        ("arn:aws:s3:eu-west-1::bucket", "has no region"),
        ("arn:aws:s3:::b\x00", "U+0000"),
        ("arn:aws:s3:::\U0001f600", "U+1F600"),
    ],
)
def test_resource_when_it_is_none_then_it_is_refused(resource: str, words: str) -> None:
    parsed = change(Resource=["*", resource])

    assert {error.json_path for error in parsed.errors} == {"$.Statement[0].Resource[1]"}
    assert any(words in error.message for error in parsed.errors), parsed.errors


@pytest.mark.parametrize(
    ("operator", "remedy"),
    [
        ("stringEquals", "did you mean `StringEquals`? the case matters"),
        ("STRINGLIKE", "did you mean `StringLike`? the case matters"),
        ("StringEqual", "did you mean `StringEquals`?"),
        ("StringNotLikeIgnoreCase", "did you mean"),
        ("BinaryNotEquals", "did you mean `BinaryEquals`?"),
        ("NumericLess", "did you mean"),
        ("NullIfExists", "`Null` asks itself"),
        ("ForAllValues:NullIfExists", "`Null` asks itself"),
        ("ForAllValuesStringLike", "with a colon"),
        ("StringLike:ForAnyValue", "with a colon"),
        ("forallvalues:StringLike", "the case matters"),
        ("StringEqualsifexists", "the case matters"),
        ("IfExists", "did you mean"),
        ("", "list of condition operators"),
    ],
)
def test_operator_when_it_is_unknown_then_it_is_refused_with_a_guess(operator: str, remedy: str) -> None:
    error = condition(operator, "a:b", "c").error

    assert error.json_path.startswith("$.Statement[0].Condition")
    assert remedy in error.help


@pytest.mark.parametrize("block", [[], "x", None, 7, [{"Bool": {}}]])
def test_condition_when_its_shape_is_wrong_then_it_is_refused(block: object) -> None:
    assert change(Condition=block).error.json_path == "$.Statement[0].Condition"
    assert change(Condition={"Bool": block}).error.json_path == "$.Statement[0].Condition.Bool"


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ([], "", "is empty"),
        ({}, "", "not an object"),
        (None, "", "not null"),
        (["a", None], "[1]", "not null"),
        (["a", ["b"]], "[1]", "not a list"),
        (["a", {"b": "c"}], "[1]", "not an object"),
    ],
)
def test_condition_values_when_their_shape_is_wrong_then_they_are_refused(value: object, path: str, words: str) -> None:
    error = condition("StringEquals", "aws:x", value).error

    assert error.json_path == f"$.Statement[0].Condition.StringEquals['aws:x']{path}"
    assert words in error.message


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("aws:SourceIp ", "white space"),
        ("aws:\nx", "white space"),
        ("aws:ResourceTag/${aws:username}", "policy variable"),
        ("aws:\x00", "U+0000"),
        ("aws:\u0400", "U+0400"),
        ("a:" + "b" * 600, "too long"),
    ],
)
def test_condition_key_when_it_is_none_then_it_is_refused(key: str, words: str) -> None:
    assert words in condition("StringEquals", key, "v").error.message


@pytest.mark.parametrize("operator", ["NumericEquals", "DateEquals", "IpAddress", "BinaryEquals", "Null"])
def test_condition_value_when_it_is_far_too_long_then_it_is_refused_at_once(operator: str) -> None:
    parsed = parse(policy(statement(Condition={operator: {"aws:x": "0" * 5_000_000}})), check_quota=False)

    assert "too long a value" in parsed.error.message


def test_condition_keys_when_they_differ_in_case_alone_then_they_are_refused() -> None:
    error = change(Condition={"StringLike": {"aws:x": "a", "aws:y": "b", "AWS:X": "c"}}).error

    assert error.json_path == "$.Statement[0].Condition.StringLike['AWS:X']"
    assert "differ in case alone" in error.message


def test_condition_keys_when_operators_differ_then_they_may_repeat() -> None:
    parsed = change(Condition={"StringLike": {"aws:x": "a"}, "StringNotLike": {"AWS:X": "c"}})

    assert len(parsed.statement.conditions) == 2


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        *itertools.product(
            ["NumericEquals", "NumericLessThan", "NumericGreaterThanEqualsIfExists"],
            ["", "ten", "1e3", "0x10", "1.", ".5", "1,5", "--1", "1 ", "\u0661", "9" * 19, "0.1234567891", "NaN"],
        ),
        *itertools.product(
            ["DateEquals", "DateLessThan"],
            [
                "",
                "yesterday",
                "2026-13",
                "2026-02-29",
                "0000-01-01",
                "2026-1-1",
                "26-01-01",
                "2026-01-01T24:00:00Z",
                "2026-01-01T10:60:00Z",
                "2026-01-01T10:00:60Z",
                "2026-01-01T10Z",
                "2026-01-01 10:00:00Z",
                "2026-01-01T10:00:00+25:00",
                "2026-01-01T10:00:00+1",
                "2026-01-01T10:00:00.Z",
                "2026-01-01T10:00:00.1234567891Z",
                "2026-01-01Z",
                "1e9",
                "9" * 19,
            ],
        ),
        *itertools.product(["Bool", "BoolIfExists"], ["", "yes", "1", "0", "true ", "tr?e", "true,false"]),
        *itertools.product(["Null", "ForAnyValue:Null"], ["", "yes", "null", "${aws:x}"]),
        *itertools.product(["BinaryEquals"], ["=", "QQ", "QUI", "QUI\n", "QU I=", "QUJD-_==", "QR==", "\u00e9"]),
        *itertools.product(
            ["IpAddress", "NotIpAddress"],
            [
                "",
                "*",
                "10.0.0",
                "10.0.0.0.0",
                "10.0.0.256",
                "10.0.0.01",
                "10.0.0.0/33",
                "10.0.0.0/",
                "10.0.0.0/-1",
                "10.0.0.0/255.0.0.0",
                "10.0.0.*",
                "::1/129",
                ":::",
                "fe80::1%eth0",
                "1::2::3",
                "localhost",
                " 10.0.0.1",
            ],
        ),
        *itertools.product(
            ["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLikeIfExists"],
            ["", "bucket", "**", "x:aws:s3:::b", "arn:aws:iam::*", "arn:*"],
        ),
    ],
)
def test_condition_value_when_the_operator_cannot_read_it_then_it_is_refused(operator: str, value: str) -> None:
    parsed = condition(operator, "aws:x", ["*" if operator.startswith("Arn") else GOOD[operator], value])

    assert parsed.error.json_path.endswith("['aws:x'][1]")
    assert parsed.error.help


GOOD = {
    "NumericEquals": "1",
    "NumericLessThan": "1",
    "NumericGreaterThanEqualsIfExists": "1",
    "DateEquals": "2026-01-01",
    "DateLessThan": "2026-01-01",
    "Bool": "true",
    "BoolIfExists": "true",
    "Null": "true",
    "ForAnyValue:Null": "true",
    "BinaryEquals": "QUI=",
    "IpAddress": "10.0.0.0/8",
    "NotIpAddress": "10.0.0.0/8",
}


@pytest.mark.parametrize("operator", sorted(set(GOOD) - {"Bool", "BoolIfExists"}))
def test_variable_when_the_operator_takes_none_then_it_is_refused(operator: str) -> None:
    assert "policy variable" in condition(operator, "aws:x", "${aws:y}").error.message


@pytest.mark.parametrize(
    "value", ["${aws:x}y", "${aws:x}${aws:y}", "${aws:x, 'maybe'}", "${aws:x, 'true}", "${*}", "${}"]
)
def test_variable_when_it_is_no_boolean_then_it_is_refused(value: str) -> None:
    assert condition("Bool", "aws:y", value).errors


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotLike", "ArnLike"])
@pytest.mark.parametrize("value", ["${", "${aws:x", "a${}b", "${aws:x,'y'}", "${aws:x, y}", "${a${b}}"])
def test_variable_when_it_is_malformed_then_it_is_refused(operator: str, value: str) -> None:
    assert condition(operator, "aws:y", value).errors
    if operator != "ArnLike":
        assert not condition(operator, "aws:y", value, version="2008-10-17").errors


@pytest.mark.parametrize(
    ("kind", "hard"),
    [
        (IDENTITY, 6_144),
        (PolicyKind.BOUNDARY, 6_144),
        (PolicyKind.SESSION, 2_048),
        (TRUST, 4_096),
        (RESOURCE, 32_768),
        (SCP, 5_120),
        (RCP, 5_120),
    ],
)
def test_document_when_it_is_over_its_quota_then_it_is_refused(kind: PolicyKind, hard: int) -> None:
    bare = policy(statement(kind, Condition={"StringEquals": {"aws:x": ""}}))
    room = hard - len(json.dumps(bare, separators=(",", ":")))

    def filled(length: int) -> str:
        return json.dumps(policy(statement(kind, Condition={"StringEquals": {"aws:x": "a" * length}})), indent=9)

    assert parse(filled(room), kind).errors == []
    over = parse(filled(room + 1), kind)
    assert over.error.json_path == "$"
    assert f"{hard + 1:,} characters" in over.error.message
    assert parse(filled(room + 1), kind, check_quota=False).errors == []


def test_document_when_it_has_too_many_statements_then_it_is_refused() -> None:
    document = policy(*[statement()] * (MAX_STATEMENTS + 1))

    error = parse(document, check_quota=False).error
    assert error.json_path == "$.Statement"
    assert parse(policy(*[statement()] * MAX_STATEMENTS), check_quota=False).errors == []


def test_problems_when_there_are_very_many_then_the_list_ends_and_the_count_does_not() -> None:
    problems = Problems()
    many = 3 * MAX_PROBLEMS
    document = policy(statement(Action=["*"] * many))
    document["Statement"] = [statement(Action=["s3"] * many)]

    assert parse_policy(document, kind=IDENTITY, problems=problems, file="p.json") is None
    assert len(problems.items) == MAX_PROBLEMS
    assert problems.error_count == many + 1
    assert problems.dropped == many + 1 - MAX_PROBLEMS


def test_problems_when_warnings_fill_the_list_then_an_error_still_stands_in_it() -> None:
    problems = Problems(limit=2)
    for number in range(3):
        problems.warning("f", "$", f"warning {number}")
    problems.error("f", "$", "error")

    assert [problem.message for problem in problems.items] == ["warning 0", "error"]


def test_path_when_the_document_stands_inside_a_file_then_it_begins_there() -> None:
    problems = Problems()
    parse_policy(
        '{"Statement": {}}', kind=IDENTITY, problems=problems, file="a.json", path="$.UserDetailList[3].PolicyDocument"
    )

    assert {problem.json_path for problem in problems.items} == {"$.UserDetailList[3].PolicyDocument.Statement"}


def test_path_when_a_key_is_very_long_or_odd_then_it_is_shortened_and_escaped() -> None:
    parsed = parse(policy(statement(Condition={"x" * 100_000: {}, "a\n'\\": {}})), check_quota=False)

    first, second = (error.json_path for error in parsed.errors)
    assert len(first) < 200
    assert second == "$.Statement[0].Condition['a\\n\\'\\\\']"
