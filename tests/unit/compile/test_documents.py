# SPDX-License-Identifier: Apache-2.0
"""Reading JSON and YAML strictly: shapes, and every way to be refused with its place."""

import pytest

from sidecar.compile.documents import (
    MAX_DEPTH,
    MAX_YAML_CHARACTERS,
    DocumentError,
    DuplicateKeysDict,
    JsonNumber,
    read_json,
    read_yaml,
)


def test_json_when_sound_then_shapes_are_plain() -> None:
    value = read_json(b'{"a": [1, -0.50, 1e400, true, false, null, "x\\n"], "b": {}}')

    assert value == {"a": ["1", "-0.50", "1e400", True, False, None, "x\n"], "b": {}}
    assert isinstance(value, dict)
    assert [type(entry) for entry in value["a"][:3]] == [JsonNumber] * 3
    assert type(value["a"][6]) is str


@pytest.mark.parametrize("text", ['"x"', "17", "null", "[]", " {} \n"])
def test_json_when_the_root_is_anything_then_it_is_read(text: str) -> None:
    read_json(text)


def test_json_when_a_key_stands_twice_then_the_object_says_so() -> None:
    value = read_json('{"a": {"b": 1, "c": 2, "b": 3, "b": 4}}')

    assert isinstance(value, dict)
    inner = value["a"]
    assert isinstance(inner, DuplicateKeysDict)
    assert inner.duplicates == ("b",)
    assert inner["b"] == "4"
    assert type(value) is dict


def test_json_when_keys_are_spelt_with_escapes_then_they_are_still_the_same() -> None:
    assert isinstance(read_json('{"Effect": 1, "\\u0045ffect": 2}'), DuplicateKeysDict)


@pytest.mark.parametrize(
    ("text", "words", "line", "column"),
    [
        (b"", "empty", 0, 0),
        (b" \n", "empty", 0, 0),
        (b'{"a": 1,\n "b" 2}', "a colon is expected", 2, 6),
        (b'{"a": 1,}', "not JSON", 1, 0),
        (b"[1,]", "not JSON", 1, 0),
        (b"{'a': 1}", "a key in double quotes", 1, 2),
        (b'["a]', "a string does not end", 1, 2),
        (b'["a\tb"]', "a control character", 1, 4),
        (b'["\\x"]', "a backslash", 1, 3),
        (b'["\\u12"]', "hexadecimal", 1, 0),
        (b"{} {}", "more text follows", 1, 4),
        (b'{"a": NaN}', "`NaN`", 1, 7),
        (b'{"NaN": "Infinity",\n"b": -Infinity}', "`-Infinity`", 2, 6),
        (b"01", "more text follows", 1, 2),
        (b"[+1]", "a value is expected", 1, 2),
        (b"[1.]", "a comma", 1, 3),
        (b'["a\xff"]', "UTF-8", 1, 4),
        (b'{"a": 1}\n\xc3', "UTF-8", 2, 1),
        ('{"a": 1}'.encode("utf-16"), "UTF-16", 0, 0),
        (b'{"a":\n"x\\ud800y"}', "surrogate", 2, 3),
        (b'{"a": "\\udc00\\ud800"}', "surrogate", 1, 8),
        (b'{"a\\udfff": 1}', "surrogate", 1, 4),
        (b"[1] \x00", "more text follows", 1, 5),
        (b"// note\n{}", "a value is expected", 1, 1),
    ],
)
def test_json_when_unsound_then_the_error_says_where(text: bytes, words: str, line: int, column: int) -> None:
    with pytest.raises(DocumentError) as caught:
        read_json(text)

    assert words in caught.value.message
    # A column of 0 stands for one that depends on the version of Python.
    assert (caught.value.line, column and caught.value.column) == (line, column)
    assert "\n" not in caught.value.message


def test_json_when_text_holds_a_lone_surrogate_then_it_is_refused() -> None:
    with pytest.raises(DocumentError, match="surrogate"):
        read_json('["\ud800"]')


def test_json_when_surrogates_come_in_pairs_then_they_are_one_character() -> None:
    assert read_json('["\\ud83d\\ude00", "\\\\ud800"]') == ["\U0001f600", "\\ud800"]


def test_json_when_it_begins_with_a_byte_order_mark_then_it_is_read() -> None:
    assert read_json(b'\xef\xbb\xbf{"a": 1}') == {"a": "1"}


@pytest.mark.parametrize("decoy", ["", '"\\\\",', '"a[[{",', '"]}]",', '{"}": 1},'])
def test_json_when_nested_too_deeply_then_it_is_refused_whatever_stands_in_strings(decoy: str) -> None:
    inner = MAX_DEPTH - 1
    assert read_json(f"[{decoy}{'[' * inner}{']' * inner}]")
    for excess in (1, 2, 300, 9_900):
        with pytest.raises(DocumentError, match="levels deep") as caught:
            read_json(f"[{decoy}{'[' * (inner + excess)}{']' * (inner + excess)}]")
        assert caught.value.line == 1


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, '[{"a":' * 5_000 + "1" + "}]" * 5_000])
def test_json_when_it_is_a_well_without_bottom_then_it_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="levels deep"):
        read_json(text)


def test_json_when_a_number_is_huge_then_its_text_is_kept() -> None:
    assert read_json("9" * 100_000) == "9" * 100_000


YAML = """\
Version: 2012-10-17
Statement:
  - Effect: Allow
    Action: [s3:GetObject, "s3:PutObject"]
    Resource: '*'
    Condition:
      Bool: {aws:SecureTransport: true}
      NumericLessThan: {s3:max-keys: 010, x: 10, y: 1_000, z: 0x1F, f: 1.5}
      StringEquals: {a: yes, b: No, c: null, d: ~, e: , f: "true", g: 12:30:45, h: 2001-01-01}
"""


def test_yaml_when_sound_then_scalars_stay_text() -> None:
    value = read_yaml(YAML)

    assert value == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": "*",
                "Condition": {
                    "Bool": {"aws:SecureTransport": True},
                    "NumericLessThan": {"s3:max-keys": "010", "x": "10", "y": "1_000", "z": "0x1F", "f": "1.5"},
                    "StringEquals": {
                        "a": "yes",
                        "b": "No",
                        "c": None,
                        "d": None,
                        "e": None,
                        "f": "true",
                        "g": "12:30:45",
                        "h": "2001-01-01",
                    },
                },
            }
        ],
    }


def test_yaml_when_a_number_is_plain_then_it_is_a_number_as_in_json() -> None:
    value = read_yaml("a: 10\nb: '10'\nc: 007")

    assert isinstance(value, dict)
    assert [type(entry) for entry in value.values()] == [JsonNumber, str, str]


def test_yaml_when_it_is_json_then_both_readers_agree() -> None:
    text = '{"a": [1, 2.5, true, null, "x"], "b": {"c": "d"}}'
    assert read_yaml(text) == read_json(text)


def test_yaml_when_a_key_stands_twice_then_the_mapping_says_so() -> None:
    value = read_yaml("a: 1\nb: 2\na: 3\n")

    assert isinstance(value, DuplicateKeysDict)
    assert value.duplicates == ("a",)


def test_yaml_when_empty_then_it_is_null() -> None:
    assert read_yaml("# nothing\n") is None


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (b"a: &x 1", "anchor", 1),
        (b"a: 1\nb: *x", "alias", 2),
        (b"a: &x [*x]", "anchor", 1),
        (b"a: !!binary QUI=", "tag", 1),
        (b"a: !!python/object:os.system {}", "tag", 1),
        (b"a: !mine []", "tag", 1),
        (b"<<: {a: 1}", "merge key", 1),
        (b"a: 1\n---\nb: 2\n", "second document", 2),
        (b"? [a]\n: 1", "key", 1),
        (b"a: b: c", "not YAML", 1),
        (b"a: [1\nb: 2", "not YAML", 2),
        (b"\ta: 1", "not YAML", 1),
        (b"a: \x00", "not YAML", 0),
        (b'a: "\\ud800"', "not YAML", 1),
        (b"a: \xff", "UTF-8", 1),
    ],
)
def test_yaml_when_unsound_then_the_error_says_where(text: bytes, words: str, line: int) -> None:
    with pytest.raises(DocumentError) as caught:
        read_yaml(text)

    assert words in caught.value.message
    assert caught.value.line == line
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["[" * 10_000, "{a: " * 10_000, "- " * 10_000, "? " * 10_000])
def test_yaml_when_nested_too_deeply_then_it_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        read_yaml(text)


def test_yaml_when_very_long_then_it_is_refused_at_once() -> None:
    with pytest.raises(DocumentError, match="characters of YAML"):
        read_yaml("#" * (MAX_YAML_CHARACTERS + 1))
