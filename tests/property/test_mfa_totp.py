# SPDX-License-Identifier: Apache-2.0
"""TOTP over all clocks, drifts and histories: a step is accepted once, within its windows, and never a lower one."""

import hashlib
from contextlib import suppress
from typing import Any

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.mfa.totp import follow_drift, generate_code, resync, secret_text, time_step, verify_code
from sidecar.model.errors import CodeReplayedError, MfaError

secrets = st.binary(min_size=16, max_size=64)
clocks = st.floats(0, 2**36)
drifts = st.integers(-3000, 3000)


@given(secrets, st.integers(0, 2**40), st.sampled_from(["sha1", "sha256", "sha512"]))
def test_code_when_pyotp_makes_it_then_it_is_the_same(secret: bytes, step: int, algorithm: str) -> None:
    other = pyotp.HOTP(secret_text(secret), digest=getattr(hashlib, algorithm))

    assert generate_code(secret, step, algorithm=algorithm) == other.at(step)


@given(secrets, clocks, drifts, st.integers(-2, 2), st.booleans(), st.one_of(st.none(), st.integers(0, 2**31)))
def test_verify_when_a_code_is_accepted_then_its_step_is_new_and_within_a_window(
    secret: bytes, now: float, drift: int, offset: int, around_drift: bool, last: int | None
) -> None:
    at = time_step(now) + offset + (drift if around_drift else 0)
    code = generate_code(secret, max(0, at))
    try:
        used = verify_code(secret=secret, code=code, now=now, last_used_step=last, drift_steps=drift)
    except MfaError:
        return

    assert generate_code(secret, used) == code
    assert last is None or used > last
    assert min(abs(used - time_step(now)), abs(used - time_step(now) - drift)) <= 1
    with pytest.raises(CodeReplayedError):
        verify_code(secret=secret, code=code, now=now, last_used_step=used + 2 * abs(drift) + 4, drift_steps=drift)


@given(secrets, clocks, st.integers(-1, 1))
def test_verify_when_the_device_is_a_step_off_then_its_code_is_accepted(secret: bytes, now: float, offset: int) -> None:
    step = time_step(now)
    if step + offset >= 0:
        code = generate_code(secret, step + offset)

        assert verify_code(secret=secret, code=code, now=now, last_used_step=None) in range(step - 1, step + 2)


@given(secrets, st.text(max_size=12), clocks, drifts)
def test_verify_when_the_code_is_any_text_then_nothing_else_is_raised(
    secret: bytes, code: str, now: float, drift: int
) -> None:
    with suppress(MfaError):
        verify_code(secret=secret, code=code, now=now, last_used_step=None, drift_steps=drift)
    with suppress(MfaError):
        resync(secret=secret, code1=code, code2=code, now=now, last_used_step=None, window_steps=20)


@given(st.integers(0, 2**31), clocks, drifts)
def test_drift_when_it_follows_a_code_then_it_moves_one_step_at_most_and_towards_it(
    step: int, now: float, drift: int
) -> None:
    moved: Any = follow_drift(step=step, now=now, drift_steps=drift)
    seen = step - time_step(now)

    assert abs(moved - drift) <= 1
    assert abs(seen - moved) <= abs(seen - drift)
