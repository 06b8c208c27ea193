# SPDX-License-Identifier: Apache-2.0
"""Reading requests: every limit and one beyond it, hostile text, hostile bytes."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar import core
from sidecar.model.decision import Decision, Reason
from sidecar.model.errors import RequestError
from sidecar.model.request import (
    MAX_ACTION,
    MAX_BATCH_BYTES,
    MAX_BATCH_REQUESTS,
    MAX_CONTEXT_KEY,
    MAX_CONTEXT_KEYS,
    MAX_CONTEXT_VALUE,
    MAX_CONTEXT_VALUES,
    MAX_PRINCIPAL,
    MAX_REQUEST_BYTES,
    MAX_RESOURCE,
    RESERVED_KEYS,
    RESERVED_PREFIXES,
    AuthorizationRequest,
    is_reserved_key,
)
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import USER_ARN
from tests.unit.core.asking import NOW, authorize, explain, image, image_of, request


def _refused(asked: AuthorizationRequest) -> str:
    """Give the field that both ways to ask name."""
    with pytest.raises(RequestError) as by_bytes:
        authorize(asked)
    with pytest.raises(RequestError) as explained:
        explain(asked)
    assert by_bytes.value.field == explained.value.field
    assert by_bytes.value.field in by_bytes.value.message
    return by_bytes.value.field


def _refused_bytes(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        core.authorize(image(), data, seconds=NOW, nanos=0)
    return caught.value


def _pad(text: str, length: int) -> str:
    return text + "x" * (length - len(text))


@pytest.mark.parametrize(
    ("name", "limit", "longest"),
    [
        ("principal", MAX_PRINCIPAL, _pad(USER_ARN, MAX_PRINCIPAL)),
        ("action", MAX_ACTION, _pad("app:", MAX_ACTION)),
        ("resource", MAX_RESOURCE, _pad("arn:aws:s3:::", MAX_RESOURCE)),
    ],
)
def test_text_when_at_its_limit_then_answered_and_beyond_then_refused(name: str, limit: int, longest: str) -> None:
    assert len(longest) == limit
    assert authorize(request(**{name: longest})).decision == pb.DECISION_IMPLICIT_DENY
    assert explain(request(**{name: longest})).decision is Decision.IMPLICIT_DENY
    assert _refused(request(**{name: longest + "x"})) == name
    assert _refused(request(**{name: longest[:-1] + "\u00e9"})) == name


@pytest.mark.parametrize(
    ("context", "beyond"),
    [
        ({"app:" + "x" * (MAX_CONTEXT_KEY - 4): "v"}, {"app:" + "x" * (MAX_CONTEXT_KEY - 3): "v"}),
        ({"app:k": "x" * MAX_CONTEXT_VALUE}, {"app:k": "x" * (MAX_CONTEXT_VALUE + 1)}),
        ({"app:k": ["v"] * MAX_CONTEXT_VALUES}, {"app:k": ["v"] * (MAX_CONTEXT_VALUES + 1)}),
        ({"app:k": [""] * MAX_CONTEXT_VALUES}, {"app:k": [""] * (MAX_CONTEXT_VALUES + 1)}),
        (
            {"app:k": ["v"] * (MAX_CONTEXT_VALUES - 1), "app:l": "v"},
            {"app:k": ["v"] * (MAX_CONTEXT_VALUES - 1), "app:l": ["v", "v"]},
        ),
        (
            {f"app:{number}": "v" for number in range(MAX_CONTEXT_KEYS)},
            {f"app:{number}": "v" for number in range(MAX_CONTEXT_KEYS + 1)},
        ),
    ],
    ids=["key", "value", "values", "empty values", "values together", "keys"],
)
def test_context_when_at_its_limit_then_answered_and_beyond_then_refused(
    context: dict[str, Any], beyond: dict[str, Any]
) -> None:
    assert authorize(request(context=context)).decision == pb.DECISION_IMPLICIT_DENY
    assert _refused(request(context=beyond)).startswith("context")


def test_context_when_there_are_as_many_keys_as_may_be_then_each_still_counts() -> None:
    for place in (0, 63, 64, 100, MAX_CONTEXT_KEYS - 1):
        context = {f"app:{number}": "v" for number in range(MAX_CONTEXT_KEYS)}
        keys = list(context)
        context = {("app:number" if key == keys[place] else key): "3" for key in keys}

        assert authorize(request(context=context)).decision == pb.DECISION_ALLOW


def test_context_when_policies_ask_for_as_many_keys_then_each_is_found() -> None:
    keys = [f"app:key{number}" for number in range(MAX_CONTEXT_KEYS)]
    many = image_of(identity={"Condition": {"StringEquals": {key: key for key in keys}}})
    asked = request(context={key: key for key in keys})

    assert authorize(asked, many).decision == pb.DECISION_ALLOW
    for wrong in (keys[0], keys[63], keys[64], keys[-1]):
        other = request(context={key: key if key != wrong else "x" for key in keys})
        assert authorize(other, many).decision == pb.DECISION_IMPLICIT_DENY


def test_message_when_at_its_limit_then_answered_and_beyond_then_refused() -> None:
    data = core.encode_request(request())
    spare = MAX_REQUEST_BYTES - len(data) - 4
    # An unknown field of fifteen, with three bytes of length.
    filled = data + b"\x7a" + bytes([spare & 0x7F | 0x80, spare >> 7 & 0x7F | 0x80, spare >> 14]) + b"x" * spare
    assert len(filled) == MAX_REQUEST_BYTES

    assert core.authorize(image(), filled, seconds=NOW, nanos=0) == core.authorize(image(), data, seconds=NOW, nanos=0)
    assert _refused_bytes(filled + b"\x78\x00").field == "request"
    assert _refused_bytes(b"\xff" * (2 * MAX_REQUEST_BYTES)).field == "request"


# Batches.


def _batch(*requests: AuthorizationRequest) -> bytes:
    out = b""
    for asked in requests:
        data = core.encode_request(asked)
        out += b"\x0a" + bytes([len(data) & 0x7F | 0x80, len(data) >> 7 & 0x7F | 0x80, len(data) >> 14]) + data
    return out


def _batch_refused(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        core.batch_authorize(image(), data, seconds=NOW, nanos=0)
    return caught.value


@pytest.mark.parametrize("count", [1, 2, MAX_BATCH_REQUESTS - 1, MAX_BATCH_REQUESTS])
def test_batch_when_of_any_size_then_each_is_answered_in_order(count: int) -> None:
    asked = [
        request(context={"app:number": str(number % 20)}, principal=USER_ARN if number % 3 else "backup.amazonaws.com")
        for number in range(count)
    ]

    answer = core.batch_authorize(image(), _batch(*asked), seconds=NOW, nanos=0)

    responses = pb.BatchAuthorizeResponse.FromString(answer).responses
    assert [response.SerializeToString() for response in responses] == [
        authorize(one).SerializeToString() for one in asked
    ]


def test_batch_when_empty_or_too_long_then_it_is_refused() -> None:
    assert _batch_refused(b"").field == "requests"
    assert _batch_refused(b"\x10\x01").field == "requests"
    assert _batch_refused(_batch(*[request()] * (MAX_BATCH_REQUESTS + 1))).field == "requests"
    assert _batch_refused(b"\x0a\x00" * (MAX_BATCH_REQUESTS + 1)).field == "requests"


def test_batch_when_at_its_limit_of_bytes_then_answered_and_beyond_then_refused() -> None:
    data = _batch(request())
    spare = MAX_BATCH_BYTES - len(data) - 4
    filled = data + b"\x7a" + bytes([spare & 0x7F | 0x80, spare >> 7 & 0x7F | 0x80, spare >> 14]) + b"x" * spare
    assert len(filled) == MAX_BATCH_BYTES

    assert core.batch_authorize(image(), filled, seconds=NOW, nanos=0)
    assert _batch_refused(filled + b"x").field == "requests"


def test_batch_when_answers_are_as_long_as_can_be_then_they_have_room() -> None:
    longest = request(principal=_pad(USER_ARN, MAX_PRINCIPAL))
    count = MAX_BATCH_BYTES // (len(core.encode_request(longest)) + 3)
    answer = core.batch_authorize(image(), _batch(*[longest] * count), seconds=NOW, nanos=0)
    assert len(pb.BatchAuthorizeResponse.FromString(answer).responses) == count

    needs_mfa = request(action="kms:Decrypt", resource="*")
    answer = core.batch_authorize(image(), _batch(*[needs_mfa] * MAX_BATCH_REQUESTS), seconds=NOW, nanos=0)
    responses = pb.BatchAuthorizeResponse.FromString(answer).responses
    assert {response.mfa_requirement.max_age_seconds for response in responses} == {299}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"action": "nothing"}, "action"),
        ({"principal": "nobody:"}, "principal"),
        ({"resource": "arn:"}, "resource"),
        ({"resource_account": "1"}, "resource_account"),
        ({"context": {"aws:PrincipalArn": "x"}}, "context[aws:PrincipalArn]"),
        ({"context": {"app:k": "x", "APP:K": "x"}}, "context[APP:K]"),
    ],
)
@pytest.mark.parametrize("index", [0, 3, 9])
def test_batch_when_one_is_malformed_then_its_index_and_field_are_named(
    wrong: dict[str, Any], field: str, index: int
) -> None:
    asked = [request()] * 10
    asked[index] = request(**wrong)

    error = _batch_refused(_batch(*asked))

    assert error.field == f"requests[{index}].{field}"
    assert f"`requests[{index}].{field}`" in error.message


def test_batch_when_one_request_is_too_long_then_it_is_named() -> None:
    long = b"\x0a" + bytes([0x84, 0x80, 0x04]) + b"\x7a\x80\x80\x04" + b"x" * MAX_REQUEST_BYTES

    assert _batch_refused(_batch(request()) + long).field == "requests[1].request"


# Hostile text.


@pytest.mark.parametrize("name", ["principal", "action", "resource", "resource_account"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "x\0", "\0", USER_ARN + "\0", "arn:aws:s3:::b\ud83d"])
def test_text_when_it_holds_a_lone_surrogate_or_nul_then_refused(name: str, text: str) -> None:
    assert _refused(request(**{name: text})) == name


@pytest.mark.parametrize(
    "context",
    [
        {"app:\ud800": "v"},
        {"app:k": "\udc80"},
        {"app:k": ["v", "\ud800\ud800"]},
        {"app:k\0": "v"},
        {"app:number\0": "3"},
        {"app:number": "3\0"},
        {"": "v"},
        {"APP:NUMBER": "3", "app:number": "3"},
        {"app:\u00c9": "3", "APP:\u00e9": "3"},
    ],
)
def test_context_when_it_cannot_be_text_then_refused(context: dict[str, Any]) -> None:
    assert _refused(request(context=context)).startswith("context")


@pytest.mark.parametrize(
    "data",
    [
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"abcdefgh\xff",
        b"abcdefg\xc3",
        b"\xc3\x28",
    ],
)
@pytest.mark.parametrize("field", [1, 3, 4, 6])
def test_bytes_when_they_are_no_utf8_then_refused(data: bytes, field: int) -> None:
    error = _refused_bytes(bytes([field << 3 | 2, len(data)]) + data)

    assert error.field == {1: "principal", 3: "action", 4: "resource", 6: "resource_account"}[field]
    assert "UTF-8" in error.message


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a" + b"\xff" * 12,
        b"\x0b\x0c",
        b"\x00\x00",
        b"\x07",
        b"\xff" * 64,
        b"\x80" * 64,
        b"\x29\x00",
        b"\x2a\x02\x0a\x05",
        b"\x2a\x04\x12\x02\x0a\x05",
        b"\x2a\x03\x12\x05\x0a",
        b"\x7d\x00\x00",
        b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_bytes_when_they_are_no_message_then_refused(data: bytes) -> None:
    assert _refused_bytes(data).field
    assert _batch_refused(b"\x0a" + bytes([len(data)]) + data).field.startswith("requests[0].")
    assert _batch_refused(data).field


def test_bytes_when_cut_anywhere_then_refused_or_answered() -> None:
    whole = core.encode_request(request(context={"app:number": "3", "app:list": ["a", "b"]}))
    for length in range(len(whole)):
        try:
            answer = core.authorize(image(), whole[:length], seconds=NOW, nanos=0)
        except RequestError:
            continue
        # The cut was between two fields, and what is left is a message of its own.
        left = pb.AuthorizeRequest.FromString(whole[:length])
        assert core.authorize(image(), left.SerializeToString(), seconds=NOW, nanos=0) == answer


def test_bytes_when_unknown_fields_stand_between_then_they_are_stepped_over() -> None:
    data = core.encode_request(request(context={"app:number": "3"}))
    unknown = b"\x78\x96\x01" + b"\x7a\x03abc" + b"\x79" + b"x" * 8 + b"\x7d" + b"x" * 4
    want = core.authorize(image(), data, seconds=NOW, nanos=0)

    assert core.authorize(image(), unknown + data + unknown, seconds=NOW, nanos=0) == want
    assert pb.AuthorizeResponse.FromString(want).decision == pb.DECISION_ALLOW


def test_message_when_a_field_stands_twice_then_the_last_counts() -> None:
    data = core.encode_request(request(context={"app:number": "3"}))
    twice = core.encode_request(AuthorizationRequest("backup.amazonaws.com", "s3:GetObject", "arn:aws:s3:::b/k")) + data

    assert core.authorize(image(), twice, seconds=NOW, nanos=0) == core.authorize(image(), data, seconds=NOW, nanos=0)


def test_message_when_there_is_a_session_token_then_nobody_is_vouched_for() -> None:
    message = pb.AuthorizeRequest(session_token="forged", action="app:Read", resource="*")
    answer = pb.AuthorizeResponse.FromString(core.authorize(image(), message.SerializeToString(), seconds=NOW, nanos=0))

    assert answer.reason == Reason.SESSION_INVALID.word
    assert answer.principal_arn == ""


# Reserved keys.

_CANDIDATES = sorted(
    {
        *RESERVED_KEYS,
        *RESERVED_PREFIXES,
        *(prefix + "x" for prefix in RESERVED_PREFIXES),
        *(prefix[:-1] for prefix in RESERVED_PREFIXES),
        *(key[:-1] for key in RESERVED_KEYS),
        *(key + "x" for key in RESERVED_KEYS),
        *("aws:SourceIp", "aws:RequestTag/x", "aws:TagKeys", "s3:prefix", "app:x", "a", "s", "x:aws:username"),
    }
)


@pytest.mark.parametrize("spell", [str, str.upper, str.title], ids=["lower", "upper", "title"])
def test_reserved_key_when_sent_then_core_and_model_agree(spell: Any) -> None:
    for key in map(spell, _CANDIDATES):
        asked = request(context={key: "x"})
        if is_reserved_key(key):
            assert _refused(asked) == f"context[{key}]"
        else:
            assert authorize(asked).decision == pb.DECISION_IMPLICIT_DENY


def test_reserved_key_when_overridden_then_it_counts_in_explanations_alone() -> None:
    override = request(context={"aws:MultiFactorAuthAge": "10"}).context
    asked = AuthorizationRequest(USER_ARN, "kms:Decrypt", "*", override=override)

    assert explain(asked).decision is Decision.ALLOW
    assert authorize(asked).decision == pb.DECISION_IMPLICIT_DENY


# Work.

_STARS = "a*" * 1000 + "b"
_RUNS = "*" + "a" * 2000 + "b"


@pytest.mark.timeout(60)
def test_wildcards_when_exponential_for_backtracking_then_they_end() -> None:
    hostile = image_of(
        identity=[
            {"Action": "app:" + "a*" * 120 + "b", "Resource": "arn:aws:s3:::" + _STARS},
            {"Action": "app:*", "Resource": "arn:aws:s3:::" + _STARS},
            {"Action": "app:*", "Condition": {"StringLike": {"app:text": [_STARS, _RUNS, "?*" * 900 + "b"]}}},
            {"Action": "app:*", "Condition": {"ArnLike": {"app:arn": "arn:aws:s3:::" + _STARS}}},
            {"Action": "app:*", "Resource": "arn:aws:s3:::${app:text, '*'}" + "a${*}*" * 200 + "b"},
        ]
    )
    text = "a" * MAX_CONTEXT_VALUE
    arn = "arn:aws:s3:::" + "a" * (MAX_RESOURCE - 13)
    contexts: list[dict[str, Any]] = [
        {"app:text": text, "app:arn": arn},
        {"app:text": [text] * 14},
        {"app:text": "a" * (MAX_CONTEXT_VALUE - 1) + "b"},
    ]
    for action in ("app:Read", "app:" + "a" * (MAX_ACTION - 4)):
        answers = [authorize(request(action=action, resource=arn, context=context), hostile) for context in contexts]
        assert [answer.decision for answer in answers] == [
            pb.DECISION_IMPLICIT_DENY,
            pb.DECISION_IMPLICIT_DENY,
            pb.DECISION_ALLOW,
        ]
        assert explain(request(action=action, resource=arn, context=contexts[1]), hostile).matched_statements == ()


@pytest.mark.timeout(60)
def test_context_when_as_large_as_can_be_then_hostile_conditions_end() -> None:
    condition = {f"ForAllValues:{operator}": {"app:many": ["1"] * 200} for operator in ("StringLike", "StringEquals")}
    hostile = image_of(identity=[{"Condition": condition}] * 20)
    many = request(context={"app:many": ["x" * 50] * MAX_CONTEXT_VALUES})

    assert authorize(many, hostile).decision == pb.DECISION_IMPLICIT_DENY
