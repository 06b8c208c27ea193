# SPDX-License-Identifier: Apache-2.0
"""How single texts are read: patterns, ARNs, actions, principals and typed condition values."""

import ipaddress

import pytest

from sidecar.compile.conditions import SPELLINGS, parse_value
from sidecar.compile.patterns import matches_literally, parse_action, parse_pattern, parse_resource
from sidecar.compile.principals import parse_principal
from sidecar.model.policy import (
    OPERATORS,
    ActionPattern,
    Instant,
    Pattern,
    Piece,
    PrincipalKind,
    Qualifier,
    Variable,
    Wildcard,
)

RUN, ONE = Wildcard.ANY_RUN, Wildcard.ANY_CHAR


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("abc", ("abc",)),
        ("*", (RUN,)),
        ("a*b?c", ("a", RUN, "b", ONE, "c")),
        ("a**b***", ("a", RUN, "b", RUN)),
        ("??", (ONE, ONE)),
        ("*?*", (RUN, ONE, RUN)),
        ("${aws:UserName}", (Variable("aws:username", None),)),
        ("a${aws:x}${aws:y}*", ("a", Variable("aws:x", None), Variable("aws:y", None), RUN)),
        ("${aws:PrincipalTag/Cost Center}", (Variable("aws:principaltag/cost center", None),)),
        ("${aws:x, 'Dev}*${y}'}", (Variable("aws:x", "Dev}*${y}"),)),
        ("${aws:x, ''}", (Variable("aws:x", ""),)),
        ("a${*}b${?}c${$}d", ("a*b?c$d",)),
        ("*${*}*", (RUN, "*", RUN)),
        ("$", ("$",)),
        ("$${aws:x}", ("$", Variable("aws:x", None))),
        ("${$}{aws:x}", ("${aws:x}",)),
        ("{aws:x}", ("{aws:x}",)),
        ("$ {x}", ("$ {x}",)),
    ],
)
def test_pattern_when_all_is_special_then_it_is_cut_at_each(text: str, pieces: tuple[Piece, ...]) -> None:
    pattern, findings = parse_pattern(text, wildcards=True, variables=True, modern=True)

    assert pattern == Pattern(text, pieces)
    assert findings == ()


def test_pattern_when_wildcards_are_none_then_they_are_text() -> None:
    pattern, _ = parse_pattern("a*${aws:x}?", wildcards=False, variables=True, modern=True)

    assert pattern is not None
    assert pattern.pieces == ("a*", Variable("aws:x", None), "?")


def test_pattern_when_the_document_is_old_then_variables_are_text() -> None:
    pattern, _ = parse_pattern("a*${*}${", wildcards=True, variables=True, modern=False)

    assert pattern is not None
    assert pattern.pieces == ("a", RUN, "${", RUN, "}${")


def test_pattern_when_it_is_long_then_it_is_read_all_the_same() -> None:
    text = "a*" * 10_000
    pattern, _ = parse_pattern(text, wildcards=True, variables=True, modern=True)

    assert pattern is not None
    assert pattern.pieces == ("a", RUN) * 10_000


@pytest.mark.parametrize("text", ["${" * 50_000, "${a" * 50_000, "${a:" + "b" * 100_000, "${a:b, '" * 20_000])
def test_pattern_when_it_is_hostile_then_it_is_refused_quickly(text: str) -> None:
    pattern, findings = parse_pattern(text, wildcards=True, variables=True, modern=True)

    assert pattern is None
    assert len(findings) == 1
    assert parse_resource(f"arn:aws:s3:::{text}", True)[0] is None


def test_resource_when_fields_hold_colons_and_wildcards_then_it_splits_at_five() -> None:
    resource, findings = parse_resource("arn:aws:logs:*:1234*:log-group:/aws/*:log-stream:${aws:x, 'a:b'}", True)

    assert findings == ()
    assert resource is not None
    assert [field.text for field in resource.fields] == [
        "arn",
        "aws",
        "logs",
        "*",
        "1234*",
        "log-group:/aws/*:log-stream:${aws:x, 'a:b'}",
    ]


def test_resource_when_the_account_is_a_variable_then_its_colon_does_not_split() -> None:
    resource, findings = parse_resource("arn:*:kms:*:${aws:PrincipalAccount}:key/*", True)

    assert findings == ()
    assert resource is not None
    assert resource.fields[1].pieces == (RUN,)
    assert resource.fields[4].pieces == (Variable("aws:principalaccount", None),)
    assert resource.fields[5].pieces == ("key/", RUN)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("*", ("*", "*")),
        ("*:*", ("*", "*")),
        ("S3:GetObject", ("s3", "getobject")),
        ("s3:*", ("s3", "*")),
        ("s3:**Tag?**", ("s3", "*tag?*")),
        ("elastic-inference:Connect", ("elastic-inference", "connect")),
        ("execute-api:Invoke_v2.1", ("execute-api", "invoke_v2.1")),
    ],
)
def test_action_then_it_is_lower_case(text: str, action: tuple[str, str]) -> None:
    assert parse_action(text, False) == (ActionPattern(*action), ())


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("AWS", "*", (PrincipalKind.ANY, "", "", "")),
        ("AWS", "123456789012", (PrincipalKind.ACCOUNT, "", "123456789012", "")),
        ("AWS", "arn:aws-cn:iam::123456789012:root", (PrincipalKind.ACCOUNT, "aws-cn", "123456789012", "")),
        (
            "AWS",
            "arn:aws:iam::123456789012:user/a/b/Bob",
            (PrincipalKind.USER, "aws", "123456789012", "arn:aws:iam::123456789012:user/a/b/Bob"),
        ),
        ("AWS", "arn:aws:iam::123456789012:role/a/b/R+=,.@-", (PrincipalKind.ROLE, "aws", "123456789012", "R+=,.@-")),
        (
            "AWS",
            "arn:aws:sts::123456789012:assumed-role/R/me@x.org",
            (PrincipalKind.ROLE_SESSION, "aws", "123456789012", "R/me@x.org"),
        ),
        (
            "AWS",
            "arn:aws:sts::123456789012:federated-user/Bob",
            (PrincipalKind.FEDERATED_USER, "aws", "123456789012", "Bob"),
        ),
        ("AWS", "AIDACKCEVSQ6C2EXAMPLE", (PrincipalKind.UNIQUE_ID, "", "", "AIDACKCEVSQ6C2EXAMPLE")),
        ("AWS", "AROACKCEVSQ6C2EXAMPLE", (PrincipalKind.UNIQUE_ID, "", "", "AROACKCEVSQ6C2EXAMPLE")),
        (
            "AWS",
            "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E1EXAMPLE",
            (
                PrincipalKind.USER,
                "aws",
                "cloudfront",
                "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E1EXAMPLE",
            ),
        ),
        ("Service", "EC2.amazonaws.com", (PrincipalKind.SERVICE, "", "", "ec2.amazonaws.com")),
        ("Service", "s3.eu-west-1.amazonaws.com", (PrincipalKind.SERVICE, "", "", "s3.eu-west-1.amazonaws.com")),
        ("Federated", "accounts.google.com", (PrincipalKind.FEDERATED_PROVIDER, "", "", "accounts.google.com")),
        (
            "Federated",
            "arn:aws:iam::123456789012:saml-provider/P",
            (PrincipalKind.FEDERATED_PROVIDER, "aws", "123456789012", "arn:aws:iam::123456789012:saml-provider/P"),
        ),
        (
            "Federated",
            "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A1",
            (
                PrincipalKind.FEDERATED_PROVIDER,
                "aws",
                "123456789012",
                "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A1",
            ),
        ),
        ("CanonicalUser", "ab" * 32, (PrincipalKind.CANONICAL_USER, "", "", "ab" * 32)),
    ],
)
def test_principal_then_its_form_is_known(kind: str, text: str, wanted: tuple[object, ...]) -> None:
    entry, findings = parse_principal(kind, text)

    assert findings == ()
    assert entry is not None
    assert entry.text == text
    assert (entry.kind, entry.partition, entry.account, entry.name) == wanted


@pytest.mark.parametrize("text", ["a." * 50_000, "a-" * 50_000 + "!", "x/" * 50_000])
def test_principal_when_it_is_hostile_then_it_is_refused_quickly(text: str) -> None:
    for kind in ("AWS", "Service", "Federated", "CanonicalUser"):
        assert parse_principal(kind, text)[0] is None
        assert parse_principal(kind, f"arn:aws:iam::123456789012:role/{text}")[0] is None


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("0", (0, 0)),
        ("10", (10, 0)),
        ("-10", (-10, 0)),
        ("+7", (7, 0)),
        ("007", (7, 0)),
        ("1.5", (1, 500_000_000)),
        ("-1.5", (-2, 500_000_000)),
        ("-0.000000001", (-1, 999_999_999)),
        ("0.123456789", (0, 123_456_789)),
        ("9" * 18, (10**18 - 1, 0)),
        ("-0", (0, 0)),
        ("000" + "9" * 18, (10**18 - 1, 0)),
        ("0.1234567890000", (0, 123_456_789)),
    ],
)
def test_number_then_it_is_exact(text: str, instant: tuple[int, int]) -> None:
    assert parse_value(OPERATORS["NumericEquals"], text, True) == (Instant(*instant), ())


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970", (0, 0)),
        ("2015", (1_420_070_400, 0)),
        ("1970-02", (31 * 86_400, 0)),
        ("1970-01-02", (86_400, 0)),
        ("1969-12-31", (-86_400, 0)),
        ("1970-01-01T00:00Z", (0, 0)),
        ("1970-01-01T01:02:03Z", (3_723, 0)),
        ("1970-01-01t01:02:03z", (3_723, 0)),
        ("1970-01-01T01:02:03.5Z", (3_723, 500_000_000)),
        ("1969-12-31T23:59:59.25Z", (-1, 250_000_000)),
        ("1970-01-01T01:00:00+01:00", (0, 0)),
        ("1970-01-01T00:00:00-05:30", (19_800, 0)),
        ("1970-01-01T01:00:00+0100", (0, 0)),
        ("2024-02-29T00:00:00Z", (1_709_164_800, 0)),
        ("9999-12-31T23:59:59Z", (253_402_300_799, 0)),
        ("0001-01-01T00:00:00Z", (-62_135_596_800, 0)),
        ("1783036800", (1_783_036_800, 0)),
        ("1783036800.25", (1_783_036_800, 250_000_000)),
        ("-1", (-1, 0)),
        ("0", (0, 0)),
        ("123", (123, 0)),
    ],
)
def test_date_then_it_is_an_instant(text: str, instant: tuple[int, int]) -> None:
    assert parse_value(OPERATORS["DateEquals"], text, True) == (Instant(*instant), ())


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:10.1.2.0/120", "10.1.2.0/24"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:a01:203", "10.1.2.3/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/96", "::/96"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_network_then_mapped_addresses_are_the_plain_ones(text: str, network: str) -> None:
    value, findings = parse_value(OPERATORS["IpAddress"], text, True)

    assert findings == ()
    assert value == ipaddress.ip_network(network)


@pytest.mark.parametrize(
    ("text", "value"), [("QUI=", b"AB"), ("", b""), ("AAECAw==", b"\0\1\2\3"), ("+/+/", b"\xfb\xff\xbf")]
)
def test_binary_then_it_is_decoded(text: str, value: bytes) -> None:
    assert parse_value(OPERATORS["BinaryEquals"], text, True) == (value, ())


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("true", Pattern("true", ("true",))),
        ("False", Pattern("false", ("false",))),
        ("TRUE", Pattern("true", ("true",))),
        ("${aws:x}", Pattern("${aws:x}", (Variable("aws:x", None),))),
        ("${aws:x, 'False'}", Pattern("${aws:x, 'False'}", (Variable("aws:x", "false"),))),
    ],
)
def test_boolean_then_it_is_lower_case_or_one_variable(text: str, pattern: Pattern) -> None:
    assert parse_value(OPERATORS["Bool"], text, True) == (pattern, ())


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_null_then_it_is_a_boolean(text: str, value: bool) -> None:
    assert parse_value(OPERATORS["Null"], text, True) == (value, ())


@pytest.mark.parametrize("name", ["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"])
@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("*", (RUN,)),
        ("arn:aws:iam::123456789012:role/a*", ("arn:aws:iam::123456789012:role/a", RUN)),
        ("*:*:*:*:*:*", (RUN, ":", RUN, ":", RUN, ":", RUN, ":", RUN, ":", RUN)),
        ("${aws:SourceArn}", (Variable("aws:sourcearn", None),)),
        ("arn:aws:s3:::${aws:x}", ("arn:aws:s3:::", Variable("aws:x", None))),
    ],
)
def test_arn_value_then_it_is_a_pattern_in_one_piece(name: str, text: str, pieces: tuple[Piece, ...]) -> None:
    assert parse_value(OPERATORS[name], text, True) == (Pattern(text, pieces), ())


def test_operators_then_every_spelling_of_the_language_is_known() -> None:
    assert len(OPERATORS) == 27
    assert len(SPELLINGS) == 3 * (2 * 27 - 1)
    base, qualifier, if_exists = SPELLINGS["ForAllValues:ArnNotLikeIfExists"]
    assert (base.name, qualifier, if_exists) == ("ArnNotLike", Qualifier.FOR_ALL_VALUES, True)
    assert "NullIfExists" not in SPELLINGS


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("?", "", False),
        ("a*c", "abbbc", True),
        ("a*c", "abbbcd", False),
        ("*a*b", "xaxb", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a*", "b", False),
    ],
)
def test_wildcards_when_matched_against_plain_text_then_they_mean_what_they_say(
    pattern: str, text: str, matches: bool
) -> None:
    assert matches_literally(pattern, text) is matches
