# SPDX-License-Identifier: Apache-2.0
"""TOTP: the RFCs' vectors, windows, drift, replay, two codes in a row, and pyotp as a second opinion."""

import json
from typing import Any

import pyotp
import pytest

from sidecar.mfa.totp import (
    ENABLE_WINDOW_STEPS,
    HARDWARE_RESYNC_WINDOW_STEPS,
    MAX_WINDOW_STEPS,
    Resync,
    follow_drift,
    generate_code,
    provisioning_uri,
    resync,
    secret_text,
    time_step,
    verify_code,
)
from sidecar.model.errors import (
    CodeMalformedError,
    CodeMismatchError,
    CodeReplayedError,
    CodesNotConsecutiveError,
    TotpSecretError,
)
from tests.unit.mfa.published import VECTORS

RFC = json.loads((VECTORS / "totp" / "rfc.json").read_text())
SECRET = b"12345678901234567890"
NOW = 1_700_000_010.0
STEP = time_step(NOW)


def verify(code: str, **others: Any) -> int:
    return verify_code(**{"secret": SECRET, "code": code, "now": NOW, "last_used_step": None, **others})


def test_vectors_when_counted_then_all_are_there() -> None:
    assert len(RFC["hotp"]["codes"]) == 10
    assert len(RFC["totp"]) == 18


@pytest.mark.parametrize(("counter", "code"), list(enumerate(RFC["hotp"]["codes"])))
def test_code_when_the_counter_is_of_rfc_4226_then_it_is_the_printed_one(counter: int, code: str) -> None:
    assert generate_code(RFC["hotp"]["secret"].encode(), counter) == code


@pytest.mark.parametrize("vector", RFC["totp"], ids=lambda vector: f"{vector['algorithm']}-{vector['now']}")
def test_verify_when_the_code_is_of_rfc_6238_then_its_step_is_used_up(vector: dict[str, Any]) -> None:
    given = {"secret": vector["secret"].encode(), "code": vector["code"][-6:], "algorithm": vector["algorithm"]}

    assert verify(**given, now=vector["now"]) == vector["now"] // 30
    with pytest.raises(CodeReplayedError):
        verify(**given, now=vector["now"], last_used_step=vector["now"] // 30)
    with pytest.raises(CodeMismatchError):
        verify(**given, now=vector["now"] + 90)


@pytest.mark.parametrize("offset", range(-4, 5))
@pytest.mark.parametrize("drift", [0, 1, 2, 3, -3, 50, -50])
def test_verify_when_the_code_is_some_steps_off_then_clock_and_drift_each_open_three(offset: int, drift: int) -> None:
    for center in {0, drift}:
        at = STEP + center + offset
        code = generate_code(SECRET, at)
        if abs(at - STEP) <= 1 or abs(at - STEP - drift) <= 1:
            assert verify(code, drift_steps=drift) == at
        else:
            with pytest.raises(CodeMismatchError):
                verify(code, drift_steps=drift)


def test_verify_when_a_later_step_was_used_then_all_before_it_are_dead() -> None:
    for offset in (-1, 0):
        with pytest.raises(CodeReplayedError):
            verify(generate_code(SECRET, STEP + offset), last_used_step=STEP)

    assert verify(generate_code(SECRET, STEP + 1), last_used_step=STEP) == STEP + 1


def test_verify_when_the_clock_stands_at_the_epoch_then_no_step_is_below_zero() -> None:
    assert verify(generate_code(SECRET, 0), now=0) == 0
    assert verify(generate_code(SECRET, 1), now=0, drift_steps=-5) == 1


@pytest.mark.parametrize(
    "code",
    [
        *("", "12345", "1234567", "12345a", " 123456", "123456 ", "123 456", "123456\n", "-12345", "+12345", "1_2345"),
        *("\uff11\uff12\uff13\uff14\uff15\uff16", "\u0661\u0662\u0663\u0664\u0665\u0666", "12345\u00b9", "12345\ud800"),
    ],
)
def test_verify_when_the_code_is_not_six_ascii_digits_then_it_is_refused_as_such(code: str) -> None:
    with pytest.raises(CodeMalformedError):
        verify(code)


def test_verify_when_full_width_digits_spell_a_valid_code_then_they_are_refused() -> None:
    code = generate_code(SECRET, STEP)
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in code)

    assert pyotp.TOTP(secret_text(SECRET)).verify(wide, for_time=int(NOW))
    with pytest.raises(CodeMalformedError):
        verify(wide)


@pytest.mark.parametrize("code", [None, 123456, b"123456", ["1", "2", "3", "4", "5", "6"]])
def test_verify_when_the_code_is_no_text_then_it_is_refused_as_such(code: Any) -> None:
    with pytest.raises(CodeMalformedError):
        verify(code)


@pytest.mark.parametrize("secret", [b"", b"x" * 15, b"x" * 129])
def test_verify_when_the_secret_is_too_short_or_long_then_nothing_is_checked(secret: bytes) -> None:
    with pytest.raises(TotpSecretError):
        verify("123456", secret=secret)
    with pytest.raises(TotpSecretError):
        generate_code(secret, 1)


@pytest.mark.parametrize("step", [0, 1, 2**31, 2**33])
def test_code_when_pyotp_makes_it_then_it_is_the_same(step: int) -> None:
    assert generate_code(SECRET, step) == pyotp.HOTP(secret_text(SECRET)).at(step)


@pytest.mark.parametrize("drift", [0, 1, -1, 9, -9, 2879, -2879])
def test_resync_when_two_codes_follow_each_other_then_the_drift_is_found(drift: int) -> None:
    at = STEP + drift
    found = resync(
        secret=SECRET,
        code1=generate_code(SECRET, at - 1),
        code2=generate_code(SECRET, at),
        now=NOW,
        last_used_step=None,
        window_steps=HARDWARE_RESYNC_WINDOW_STEPS,
    )

    assert found == Resync(at, drift)
    assert verify(generate_code(SECRET, at + 1), last_used_step=found.step, drift_steps=found.drift_steps) == at + 1


def pair(first: int, second: int, **others: Any) -> Resync:
    codes = {"code1": generate_code(SECRET, STEP + first), "code2": generate_code(SECRET, STEP + second)}
    given = {"secret": SECRET, "now": NOW, "last_used_step": None, "window_steps": ENABLE_WINDOW_STEPS}
    return resync(**{**given, **codes, **others})


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 2), (-12, -11), (10, 11), (11, 12)])
def test_resync_when_the_codes_do_not_follow_within_the_window_then_they_are_refused(first: int, second: int) -> None:
    with pytest.raises(CodesNotConsecutiveError):
        pair(first, second)


def test_resync_when_one_code_was_used_then_the_pair_is_refused() -> None:
    assert pair(0, 1, last_used_step=STEP - 1).step == STEP + 1
    for used in (STEP, STEP + 1):
        with pytest.raises(CodeReplayedError):
            pair(0, 1, last_used_step=used)


def test_resync_when_the_window_is_wider_than_any_may_be_then_it_is_cut() -> None:
    with pytest.raises(CodesNotConsecutiveError):
        pair(MAX_WINDOW_STEPS + 1, MAX_WINDOW_STEPS + 2, window_steps=10**9)


@pytest.mark.parametrize(
    ("step", "drift", "want"), [(0, 0, 0), (1, 0, 1), (-1, 0, -1), (3, 3, 3), (4, 3, 4), (0, 3, 2), (0, -3, -2)]
)
def test_follow_drift_when_a_code_was_accepted_then_it_moves_one_step_at_most(step: int, drift: int, want: int) -> None:
    assert follow_drift(step=STEP + step, now=NOW, drift_steps=drift) == want


def test_uri_when_an_app_reads_it_then_it_makes_the_same_codes() -> None:
    uri = provisioning_uri(secret=SECRET, account="ann & bob@acme", issuer="acme: iam")

    parsed = pyotp.parse_uri(uri)
    assert isinstance(parsed, pyotp.TOTP)
    assert parsed.at(int(NOW)) == generate_code(SECRET, STEP)
    assert parsed.name == "ann & bob@acme"
