# SPDX-License-Identifier: Apache-2.0
"""Whatever the readers and the parser of policies are given: an answer, and never an error that nobody foresaw."""

import json
import urllib.parse
from collections.abc import Callable
from itertools import pairwise

import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sidecar.compile.conditions import SPELLINGS, parse_value
from sidecar.compile.documents import DocumentError, DuplicateKeysDict, JsonNumber, read_json, read_yaml
from sidecar.compile.patterns import parse_action, parse_pattern, parse_resource
from sidecar.compile.policy import parse_policy
from sidecar.compile.principals import PRINCIPAL_TYPES, parse_principal
from sidecar.compile.problems import Problems
from sidecar.model.policy import OPERATORS, PolicyDocument, PolicyKind, Variable, Wildcard

#: Texts in which the special characters of the language are common.
texts = st.text(st.one_of(st.sampled_from("*?${}:,'\" /.-_arnws0129\\\x00\ud800é"), st.characters()), max_size=40)
words = st.sampled_from(
    [
        "*",
        "s3:GetObject",
        "s3:Get*",
        "arn:aws:s3:::bucket/${aws:username}/*",
        "arn:aws:iam::123456789012:role/R",
        "123456789012",
        "10.0.0.0/8",
        "2026-01-01T00:00:00Z",
        "true",
        "Allow",
        "Deny",
        "2012-10-17",
        "ec2.amazonaws.com",
        "aws:SourceIp",
        "aws:MultiFactorAuthPresent",
    ]
)
elements = st.sampled_from(
    [
        "Version",
        "Id",
        "Statement",
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
        *PRINCIPAL_TYPES,
    ]
)
keys = st.one_of(elements, st.sampled_from(sorted(SPELLINGS)), words, texts)
scalars = st.one_of(
    words,
    texts,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,12})?", fullmatch=True).map(JsonNumber),
)


def _doubled(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return DuplicateKeysDict([*pairs, *pairs[:1]])


def _containers(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(keys, children, max_size=5),
        st.lists(st.tuples(keys, children), min_size=1, max_size=3).map(_doubled),
    )


anything = st.recursive(scalars, _containers, max_leaves=25)

values = st.one_of(scalars, st.lists(scalars, max_size=3))
blocks = st.dictionaries(
    st.one_of(st.sampled_from(sorted(SPELLINGS)), keys), st.dictionaries(keys, values, max_size=3), max_size=3
)
principals = st.one_of(st.just("*"), st.dictionaries(st.sampled_from(PRINCIPAL_TYPES), values, max_size=3), anything)
statements = st.fixed_dictionaries(
    {"Effect": st.one_of(st.sampled_from(["Allow", "Deny"]), scalars)},
    optional={
        "Sid": scalars,
        "Action": values,
        "NotAction": values,
        "Resource": values,
        "NotResource": values,
        "Principal": principals,
        "NotPrincipal": principals,
        "Condition": st.one_of(blocks, anything),
    },
)
documents = st.fixed_dictionaries(
    {"Statement": st.one_of(statements, st.lists(statements, max_size=4))},
    optional={"Version": st.one_of(st.sampled_from(["2012-10-17", "2008-10-17"]), scalars), "Id": scalars},
)


def _check(document: object, kind: PolicyKind) -> None:
    problems = Problems()
    parsed = parse_policy(document, kind=kind, problems=problems, file="p.json")
    assert (parsed is None) == problems.has_errors
    for problem in problems.items:
        assert str(problem).isprintable()
        assert len(str(problem)) < 3_000
        str(problem).encode("utf-8")
    if parsed is not None:
        _check_invariants(parsed)


def _check_invariants(parsed: PolicyDocument) -> None:
    for number, statement in enumerate(parsed.statements):
        assert statement.index == number
        assert statement.actions
        assert statement.principals is None or statement.principals
        for line in statement.conditions:
            assert line.values
            assert line.key == line.key.lower()
        for resource in statement.resources or ():
            assert len(resource.fields) in (0, 6)


@given(anything, st.sampled_from(PolicyKind))
def test_parser_when_it_is_given_anything_then_it_answers(document: object, kind: PolicyKind) -> None:
    _check(document, kind)


@given(documents, st.sampled_from(PolicyKind))
def test_parser_when_it_is_given_nearly_a_policy_then_it_answers(document: object, kind: PolicyKind) -> None:
    _check(document, kind)


@given(documents, st.sampled_from(PolicyKind))
def test_parser_when_a_document_comes_in_another_form_then_the_answer_is_the_same(
    document: object, kind: PolicyKind
) -> None:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except ValueError:
        assume(False)
    answers = []
    for form in (read_json(text), text, urllib.parse.quote(text)):
        problems = Problems()
        parsed = parse_policy(form, kind=kind, problems=problems, file="p.json")
        answers.append((parsed, problems.items))
    assert answers[0] == answers[1] == answers[2]


@given(texts)
@example("{" * 300)
@example("%7B" * 300)
def test_parser_when_it_is_given_any_text_then_it_answers(text: str) -> None:
    for kind in PolicyKind:
        _check(text, kind)


@given(st.one_of(st.binary(max_size=200), texts, anything.map(repr), st.text('[]{}",:\\u1 ', max_size=60)))
@example(b"\xff\xfe")
@example("[" * 100_000)
@example('{"":' * 100_000)
@example("- " * 5_000)
@example("{? " * 5_000)
@example("!" * 100)
@example("%")
@example('"\\UFFFFFFFF"')
def test_readers_when_they_are_given_anything_then_they_answer(data: bytes | str) -> None:
    for read in (read_json, read_yaml):
        error = _refusal(read, data)
        if error is None:
            json.dumps(read(data), ensure_ascii=False).encode("utf-8")
        else:
            assert error.message.isprintable()
            assert (error.line > 0) == (error.column > 0)


def _refusal(read: Callable[[bytes | str], object], data: bytes | str) -> DocumentError | None:
    try:
        read(data)
    except DocumentError as error:
        return error
    return None


def _plain(value: object) -> object:
    if isinstance(value, JsonNumber):
        return str(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


clean = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
plain_values = st.recursive(
    st.one_of(clean, st.none(), st.booleans()),
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(clean, children, max_size=4)),
    max_leaves=20,
)


@given(plain_values)
def test_json_when_it_was_written_then_it_reads_the_same(value: object) -> None:
    for options in ({"ensure_ascii": True}, {"ensure_ascii": False}, {"indent": 2}):
        assert read_json(json.dumps(value, **options)) == value


@given(plain_values)
def test_yaml_when_it_was_written_then_it_reads_the_same(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_style='"')
    assume("!!" not in text)

    assert _plain(read_yaml(text)) == value


@given(st.lists(st.booleans(), max_size=130), st.booleans())
def test_json_when_brackets_nest_then_the_depth_alone_decides(kinds: list[bool], decoy: bool) -> None:
    opening = "".join('{"a[":' if kind else '["}{\\\\",' if decoy else "[" for kind in kinds)
    closing = "".join("}" if kind else "]" for kind in reversed(kinds))
    text = f"{opening}1{closing}"

    error = _refusal(read_json, text)
    assert (error is None) == (len(kinds) <= 100)
    assert error is None or "levels deep" in error.message


@given(texts, st.booleans())
def test_texts_when_they_are_anything_then_they_are_read_or_refused(text: str, modern: bool) -> None:
    for value, findings in (
        parse_pattern(text, wildcards=modern, variables=True, modern=modern),
        parse_resource(text, modern),
        parse_resource(f"arn:aws:s3:::{text}", modern),
        parse_action(text, modern),
        parse_action(f"s3:{text}", modern),
        *(parse_principal(kind, text) for kind in PRINCIPAL_TYPES),
        *(parse_value(operator, text, modern) for operator in OPERATORS.values()),
    ):
        assert (value is None) == any(finding.severity == "error" for finding in findings)


@given(texts)
def test_pattern_when_it_is_cut_then_nothing_is_lost(text: str) -> None:
    pattern, _ = parse_pattern(text, wildcards=True, variables=True, modern=True)
    assume(pattern is not None)
    assert pattern is not None

    kinds = [type(piece) for piece in pattern.pieces]
    assert all(not (one is str and two is str) for one, two in pairwise(kinds))
    assert all(piece != "" for piece in pattern.pieces)
    if "${" not in text:
        written = "".join(piece.value if isinstance(piece, Wildcard) else str(piece) for piece in pattern.pieces)
        while "**" in text:
            text = text.replace("**", "*")
        assert written == text
    assert pattern.has_variables == any(isinstance(piece, Variable) for piece in pattern.pieces)
