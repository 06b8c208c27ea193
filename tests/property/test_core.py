# SPDX-License-Identifier: Apache-2.0
"""
The core agrees with the oracle on whatever is drawn.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.compile.image import write_image
from sidecar.model.decision import Answer, Decision, MfaMethod, MfaRequirement
from sidecar.model.errors import RequestError
from sidecar.wire.sidecar.v1 import authorization_pb2
from tests.conformance.cases import CaseError, Given, build_request, build_snapshot
from tests.oracle import decide
from tests.oracle.context import iso_time
from tests.property.asking import NOW, SEEDED, SESSIONS, Invalid, ask_core, ask_oracle, core, describe, shrink
from tests.property.strategies import Json, question_of, questions

EXAMPLES = settings().max_examples

_LITERAL = "ab/:.{}$,'= \n\xe9\u20ac\U0001f600"


def _differs(snapshot: Given, request: Given) -> bool:
    return ask_core(snapshot, request) != ask_oracle(snapshot, request)


def _agree(snapshot: Given, request: Given) -> None:
    if not _differs(snapshot, request):
        return
    snapshot, request = shrink(snapshot, request, _differs)
    want, got = ask_oracle(snapshot, request), ask_core(snapshot, request)
    pytest.fail(f"the core does not agree\nwant {want}\ngot  {got}\n{describe('found', snapshot, request, want)}")


@settings(SEEDED, max_examples=5 * EXAMPLES)
@given(questions())
def test_core_when_explaining_then_agrees_with_oracle(question: tuple[Json, Json]) -> None:
    _agree(*question)


@settings(SEEDED, max_examples=3 * EXAMPLES)
@given(questions())
def test_core_when_answering_bytes_then_agrees_with_oracle(question: tuple[Json, Json]) -> None:
    snapshot: Given = question[0]
    request: Given = question[1]
    request = {key: value for key, value in request.items() if key != "override"}
    if snapshot["principal"] == "federated":
        snapshot = {**snapshot, "principal": "user"}
    if _answer_bytes(snapshot, request) == _want_bytes(snapshot, request):
        return
    snapshot, request = shrink(snapshot, request, lambda *smaller: _answer_bytes(*smaller) != _want_bytes(*smaller))
    want, got = _want_bytes(snapshot, request), _answer_bytes(snapshot, request)
    shown = describe("found", snapshot, request, ask_oracle(snapshot, request))
    pytest.fail(f"the core does not agree\nwant {want}\ngot  {got}\n{shown}")


@settings(SEEDED, max_examples=EXAMPLES)
@given(questions(), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
def test_core_when_answering_a_batch_then_answers_each_alike(question: tuple[Json, Json], seeds: list[int]) -> None:
    snapshot = {**question[0], "principal": "user"}
    image = core.Image.from_bytes(write_image(build_snapshot(snapshot)))
    messages = []
    for seed in seeds:
        request = question_of(seed)[1]
        asked = {key: value for key, value in request.items() if key not in ("override", "resource_account")}
        messages.append(core.encode_request(build_request(asked, snapshot)))
    batch = authorization_pb2.BatchAuthorizeRequest(
        requests=[authorization_pb2.AuthorizeRequest.FromString(message) for message in messages]
    )
    answers = core.batch_authorize(image, batch.SerializeToString(), seconds=NOW, nanos=0, sessions=SESSIONS)
    got = authorization_pb2.BatchAuthorizeResponse.FromString(answers).responses
    want = [
        authorization_pb2.AuthorizeResponse.FromString(
            core.authorize(image, message, seconds=NOW, nanos=0, sessions=SESSIONS)
        )
        for message in messages
    ]
    assert list(got) == want


def _want_bytes(snapshot: Given, request: Given) -> object:
    answer = ask_oracle(snapshot, request)
    if not isinstance(answer, Answer):
        return answer
    return int(answer.decision), int(answer.layer), answer.reason.word, answer.mfa_requirement, answer.principal_arn


def _answer_bytes(snapshot: Given, request: Given) -> object:
    image = core.Image.from_bytes(write_image(build_snapshot(snapshot)))
    message = core.encode_request(build_request(request, snapshot))
    try:
        answer = authorization_pb2.AuthorizeResponse.FromString(
            core.authorize(image, message, seconds=NOW, nanos=0, sessions=SESSIONS)
        )
    except RequestError as error:
        return Invalid(error.field)
    assert answer.snapshot_revision == image.revision
    requirement = None
    if answer.HasField("mfa_requirement"):
        mfa = answer.mfa_requirement
        requirement = MfaRequirement(
            max_age_seconds=mfa.max_age_seconds if mfa.HasField("max_age_seconds") else None,
            methods=tuple(MfaMethod[word.upper()] for word in mfa.methods),
            user_verification=mfa.user_verification,
        )
    return int(answer.decision), int(answer.layer), answer.reason, requirement, answer.principal_arn


@given(
    st.text(alphabet="ab*?/\u20ac\U0001f600\n", max_size=8),
    st.text(alphabet="ab*?/\u20ac\U0001f600\n", max_size=12),
    st.sampled_from(["StringLike", "StringNotLike", "StringEquals", "ForAnyValue:StringLike"]),
)
@example("*a*b", "aab", "StringLike")
def test_core_when_matching_texts_then_agrees_with_oracle(pattern: str, text: str, operator: str) -> None:
    printable = "".join(character for character in pattern if character <= "\xff")
    _agree({"identity": {"Condition": {operator: {"app:text": printable}}}}, {"context": {"app:text": text}})


@given(
    st.lists(st.text(alphabet="ab*?:/", max_size=4), min_size=3, max_size=3),
    st.lists(st.text(alphabet="ab:/*\xe9", max_size=4), min_size=3, max_size=3),
    st.sampled_from(["Resource", "NotResource", "ArnLike"]),
)
def test_core_when_matching_arns_then_agrees_with_oracle(pattern: list[str], text: list[str], how: str) -> None:
    region, account, rest = (part.replace(":", "") for part in pattern)
    wanted = f"arn:aws:app:{region}:{account}:{rest or '*'}" + pattern[2][2:]
    asked = "arn:aws:app:" + ":".join([text[0].replace(":", ""), text[1].replace(":", ""), text[2] or "a"])
    if how == "ArnLike":
        statement: Json = {"Condition": {how: {"app:arn": wanted}}}
        _agree({"identity": statement}, {"context": {"app:arn": asked}})
    else:
        snapshot = {"identity": {how: wanted}, "resource_policy": {"Principal": {"AWS": "111122223333"}}}
        _agree(snapshot, {"resource": asked})


@given(
    st.lists(
        st.one_of(
            st.text(alphabet=_LITERAL, max_size=3),
            st.sampled_from(
                ["*", "?", "${app:a}", "${app:b}", "${app:b, 'x:y'}", "${*}", "${?}", "${$}", "${aws:username}"]
            ),
        ),
        max_size=5,
    ),
    st.text(alphabet="ab*?${}:", max_size=5),
    st.text(alphabet="ab*?${}:/lice", max_size=9),
    st.sampled_from(["StringLike", "StringEquals", "StringNotEqualsIgnoreCase", "ArnEquals"]),
)
def test_core_when_substituting_then_agrees_with_oracle(
    pieces: list[str], value: str, text: str, operator: str
) -> None:
    written = "".join(pieces).replace("\u20ac", "").replace("\U0001f600", "")
    if operator == "ArnEquals":
        written, text = f"arn:aws:s3::${{app:a}}:{written}", f"arn:aws:s3:::{text}"
    condition = {operator: {"app:text": written}}
    try:
        build_snapshot({"identity": {"Condition": condition}})
    except CaseError:
        return
    _agree({"identity": {"Condition": condition}}, {"context": {"app:a": value, "app:text": text}})


@given(st.text(alphabet="0123456789+-.eE ", max_size=22), st.sampled_from(["Equals", "NotEquals", "LessThan"]))
@example("-0.5", "LessThan")
@example("0000000000000000000000001.10000000000", "Equals")
def test_core_when_reading_numbers_then_agrees_with_oracle(text: str, order: str) -> None:
    for effect in ("Allow", "Deny"):
        statement = {"Effect": effect, "Condition": {f"Numeric{order}": {"app:number": ["1.1", "-7", "0"]}}}
        _agree({"identity": ["Allow", statement] if effect == "Deny" else statement}, {"context": {"app:number": text}})


@given(
    st.from_regex(
        r"[0-9]{3,5}(-[01][0-9](-[0-3][0-9](T[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,11})?)?(Z|z|[+-][0-2][0-9]:?[0-6][0-9])?)?)?)?",
        fullmatch=True,
    ),
    st.sampled_from(["Equals", "NotEquals", "LessThan", "GreaterThanEquals"]),
)
@example("2000-02-29T23:59:59.000000001-23:59", "LessThan")
@example("0000-01-01", "LessThan")
def test_core_when_reading_dates_then_agrees_with_oracle(text: str, order: str) -> None:
    values = ["2000-01-01", "1970-01-01T00:00:00Z", "0001-01-01", "2024-02-29T12:00:00.5+05:30"]
    statement = {"Condition": {f"Date{order}": {"app:date": values[:2] if order == "LessThan" else values}}}
    _agree({"identity": statement}, {"context": {"app:date": text}})


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.text(alphabet="0123456789.:abfF/%", max_size=20),
        st.from_regex(r"([0-9]{1,3}\.){3}[0-9]{1,3}", fullmatch=True),
        st.from_regex(r"([0-9a-f]{0,4}:){2,8}([0-9a-f]{0,4}|1\.2\.3\.4)", fullmatch=True),
    ),
    st.ip_addresses(),
    st.integers(0, 128),
)
@example("::1.2.3.4", ipaddress.ip_address("::"), 96)
def test_core_when_reading_addresses_then_agrees_with_oracle(text: str, network: object, prefix: int) -> None:
    length = min(prefix, 128 if ":" in str(network) else 32)
    for operator in ("IpAddress", "NotIpAddress"):
        condition = {operator: {"app:address": [f"{network}/{length}", "1.2.3.0/24", "::/3"]}}
        _agree({"identity": {"Condition": condition}}, {"context": {"app:address": text}})


@given(st.one_of(st.text(alphabet="QUJDqujd+/=R", max_size=8), st.sampled_from(["QUJD", "QQ==", "QUI="])))
def test_core_when_reading_base64_then_agrees_with_oracle(text: str) -> None:
    condition = {"BinaryEquals": {"app:bytes": ["QUJD", "QQ==", "QUI="]}}
    _agree({"identity": {"Condition": condition}}, {"context": {"app:bytes": text}})


# From the second day on: an epoch of four digits would be read as a year.
@given(st.integers(86_400, 253_402_300_799), st.integers(0, 999_999_999))
@example(86_400, 0)
@example(951_782_400, 1)
@example(253_402_300_799, 999_999_999)
def test_core_when_telling_the_time_then_agrees_with_oracle(seconds: int, nanos: int) -> None:
    written = iso_time(seconds)
    statements: list[Json] = [
        {"Condition": {"StringEquals": {"aws:CurrentTime": written, "aws:EpochTime": str(seconds)}}},
        {"Condition": {"DateEquals": {"aws:CurrentTime": written, "aws:EpochTime": str(seconds)}}},
        {"Condition": {"DateGreaterThan": {"aws:CurrentTime": "2000-02-29T12:00:00+01:00"}}},
        {"Condition": {"NumericLessThan": {"aws:EpochTime": "951825600.5"}}},
        {"Condition": {"DateEquals": {"aws:TokenIssueTime": written}, "Bool": {"aws:MultiFactorAuthPresent": "true"}}},
    ]
    snapshot = build_snapshot({"identity": statements})
    request = build_request({}, {})
    image = core.Image.from_bytes(write_image(snapshot))
    answer = core.explain(image, request, seconds=seconds, nanos=nanos)
    assert answer == decide(snapshot, request, seconds=seconds, nanos=nanos)
    assert answer.decision is Decision.ALLOW
