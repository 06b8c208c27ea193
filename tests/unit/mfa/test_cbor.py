# SPDX-License-Identifier: Apache-2.0
"""CBOR: what is read, and for which reason the rest is refused."""

import pytest

from sidecar.mfa.cbor import MAX_DEPTH, Value, decode, decode_first
from sidecar.model.errors import CborMalformedError, DuplicateKeyError


@pytest.mark.parametrize(
    ("encoded", "want"),
    [
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("190100", 256),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3bffffffffffffffff", -(2**64)),
        ("40", b""),
        ("43010203", b"\1\2\3"),
        ("60", ""),
        ("62c3a9", "é"),
        ("80", []),
        ("820102", [1, 2]),
        ("a0", {}),
        ("a201020304", {1: 2, 3: 4}),
        ("a26161012002", {"a": 1, -1: 2}),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("1800", 0),
    ],
)
def test_decode_when_an_authenticator_could_write_it_then_it_is_read(encoded: str, want: Value) -> None:
    found = decode(bytes.fromhex(encoded))

    assert found == want
    assert type(found) is type(want)


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        ("", "cut short"),
        ("18", "cut short"),
        ("1901", "cut short"),
        ("1b00000000000000", "cut short"),
        ("41", "cut short"),
        ("6261", "cut short"),
        ("81", "cut short"),
        ("8201", "cut short"),
        ("a1", "cut short"),
        ("a101", "cut short"),
        ("9a00010000", "cut short"),
        ("1c", "indefinite or reserved"),
        ("1f", "indefinite or reserved"),
        ("5f4100ff", "indefinite or reserved"),
        ("9fff", "indefinite or reserved"),
        ("c000", "tag"),
        ("d81840", "tag"),
        ("f7", "fraction"),
        ("f93c00", "fraction"),
        ("fb3ff0000000000000", "fraction"),
        ("61ff", "UTF-8"),
        ("a1f500", "key"),
        ("a1f600", "key"),
        ("a14000", "key"),
        ("a18000", "key"),
        ("0000", "left over"),
    ],
)
def test_decode_when_no_authenticator_writes_it_then_that_is_said(encoded: str, words: str) -> None:
    with pytest.raises(CborMalformedError, match=words):
        decode(bytes.fromhex(encoded))


@pytest.mark.parametrize("encoded", ["a201000100", "a20100180100", "a2616100616101", "a120a201000100"])
def test_decode_when_a_key_stands_twice_then_it_is_refused(encoded: str) -> None:
    with pytest.raises(DuplicateKeyError):
        decode(bytes.fromhex(encoded))


@pytest.mark.parametrize("level", [b"\x81", b"\xa1\x01"])
def test_decode_when_there_are_too_many_levels_then_it_is_refused(level: bytes) -> None:
    decode(level * MAX_DEPTH + b"\x01")
    with pytest.raises(CborMalformedError, match="levels"):
        decode(level * (MAX_DEPTH + 1) + b"\x01")


def test_decode_first_when_something_follows_then_it_says_where() -> None:
    assert decode_first(b"\xff\x01\x02", 1) == (1, 2)
