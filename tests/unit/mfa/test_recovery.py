# SPDX-License-Identifier: Apache-2.0
"""Recovery codes: shape, spelling, hashing, one of those that are left."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.mfa.recovery import (
    CODE_BYTES,
    HASH_BYTES,
    format_recovery_code,
    hash_recovery_code,
    normalise_recovery_code,
    verify_recovery_code,
)
from sidecar.model.errors import RecoveryCodeMalformedError, RecoveryCodeMismatchError

SALT = bytes(16)


@given(st.binary(min_size=CODE_BYTES, max_size=CODE_BYTES), st.binary(min_size=CODE_BYTES, max_size=CODE_BYTES))
def test_code_when_the_random_bytes_differ_then_so_do_the_codes(one: bytes, other: bytes) -> None:
    assert (format_recovery_code(one) == format_recovery_code(other)) == (one == other)
    assert len(format_recovery_code(one)) == 19


@given(st.binary(min_size=CODE_BYTES, max_size=CODE_BYTES), st.data())
def test_code_when_it_is_typed_carelessly_then_it_is_the_same(random: bytes, data: st.DataObject) -> None:
    code = format_recovery_code(random)
    careless = "".join(data.draw(st.sampled_from(_looks_like(letter))) for letter in code)

    assert normalise_recovery_code(careless) == code.replace("-", "")


def _looks_like(letter: str) -> list[str]:
    similar = {"0": ["0", "O", "o"], "1": ["1", "I", "i", "L", "l"], "-": ["-", " ", "", " - "]}
    return similar.get(letter, [letter, letter.lower()])


@pytest.mark.parametrize("count", [0, 9, 11])
def test_code_when_there_are_too_few_or_many_bytes_then_that_is_the_callers_mistake(count: int) -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        format_recovery_code(bytes(count))


@pytest.mark.parametrize(
    "text", ["", "0000-0000-0000-000", "0000-0000-0000-00000", "U" * 16, "é" * 16, "0" * 16 + " " * 50]
)
def test_code_when_it_is_not_of_the_shape_then_it_is_refused_as_such(text: str) -> None:
    with pytest.raises(RecoveryCodeMalformedError):
        verify_recovery_code(code=text, salt=SALT, hashes=[])


@given(st.text(max_size=70))
def test_code_when_it_is_any_text_then_nothing_else_is_raised(text: str) -> None:
    try:
        normalise_recovery_code(text)
    except RecoveryCodeMismatchError:
        return


def test_code_when_it_is_one_of_those_that_are_left_then_its_place_is_given() -> None:
    codes = [format_recovery_code(os.urandom(CODE_BYTES)) for _ in range(3)]
    hashes = [hash_recovery_code(code, salt=SALT) for code in codes]

    assert verify_recovery_code(code=codes[1].lower(), salt=SALT, hashes=hashes) == 1
    with pytest.raises(RecoveryCodeMismatchError):
        verify_recovery_code(code=codes[1], salt=SALT, hashes=[hashes[0], hashes[2]])
    with pytest.raises(RecoveryCodeMismatchError):
        verify_recovery_code(code=codes[1], salt=b"x" * 16, hashes=hashes)
    assert len(set(hashes)) == 3
    assert {len(one) for one in hashes} == {HASH_BYTES}
