# SPDX-License-Identifier: Apache-2.0
"""
TOTP codes (RFC 6238) of virtual and hardware devices: checked once, with the device's drift, and brought back in step.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import NamedTuple

import pyotp

from sidecar.model.errors import (
    CodeMalformedError,
    CodeMismatchError,
    CodeReplayedError,
    CodesNotConsecutiveError,
    TotpSecretError,
)

STEP_SECONDS = 30
DIGITS = 6
#: RFC 4226, requirement R6: 128 bits at least.
MIN_SECRET_BYTES = 16
MAX_SECRET_BYTES = 128
#: The least that is accepted of a device that another system enrolled: many have 80 bits.
MIN_IMPORTED_SECRET_BYTES = 10
#: Steps either side of the clock, and of the clock of the device, of which a code is accepted (RFC 6238, 5.2).
CODE_WINDOW_STEPS = 1
#: Steps either side within which two codes in a row enable a device: five minutes.
ENABLE_WINDOW_STEPS = 10
#: The same for bringing a device back in step: ten minutes for a telephone, a day for a token that lay in a drawer.
RESYNC_WINDOW_STEPS = 20
HARDWARE_RESYNC_WINDOW_STEPS = 2880
#: The widest window there may be.
MAX_WINDOW_STEPS = 2880

_CODE = re.compile(r"[0-9]{6}", re.ASCII)
#: What a secret may be for (RFC 6238, section 1.2).
ALGORITHMS = frozenset({"sha1", "sha256", "sha512"})


class Resync(NamedTuple):
    """
    How a device stands to the clock.

    Attributes:
        step: Used up, with all before it; to be stored as the last used one.
        drift_steps: How far the device is ahead of the clock; to be stored with it.
    """

    step: int
    drift_steps: int


def generate_code(secret: bytes, step: int, *, algorithm: str = "sha1") -> str:
    """
    Return the code of a time step (RFC 4226, section 5.3).

    Args:
        step: Number of the time step, or the counter of an HOTP token.
        algorithm: ``sha1``, ``sha256`` or ``sha512``.

    Raises:
        TotpSecretError: *secret* is too short or too long.

    >>> generate_code(b"12345678901234567890", 1)
    '287082'
    """
    _verify_secret(secret, algorithm)
    return _code(secret, step, algorithm)


def verify_code(
    *,
    secret: bytes,
    code: str,
    now: float,
    last_used_step: int | None,
    drift_steps: int = 0,
    algorithm: str = "sha1",
    min_secret_bytes: int = MIN_SECRET_BYTES,
) -> int:
    """
    Check *code* against *secret* and return the time step that it used up.

    Accepts one step either side of the clock, and one either side of the device's (RFC 6238, section 5.2). Store the
    returned step by compare-and-swap before saying yes, and pass it back: it kills the code and all before it.

    Args:
        now: Seconds since the epoch. The caller owns the clock.
        last_used_step: Highest step accepted so far, or None.
        drift_steps: How far the device is ahead of the clock, as ``resync`` and ``follow_drift`` found.
        algorithm: ``sha1``, ``sha256`` or ``sha512``.
        min_secret_bytes: ``MIN_IMPORTED_SECRET_BYTES`` for a device that may have been enrolled elsewhere.

    Raises:
        CodeMalformedError: *code* is not six ASCII digits.
        CodeMismatchError: No accepted step yields *code*.
        CodeReplayedError: The step that yields it is not above *last_used_step*. Never tell that to who sent it.
        TotpSecretError: *secret* is too short or too long.

    >>> verify_code(secret=b"12345678901234567890", code="287082", now=59, last_used_step=None)
    1
    """
    wanted = _read_code(code)
    _verify_secret(secret, algorithm, min_secret_bytes)
    step = time_step(now)
    around = {center + offset for center in (step, step + drift_steps) for offset in _offsets(CODE_WINDOW_STEPS)}
    # Every candidate is computed and compared, so that the time taken does not tell which one it was.
    matched = [
        candidate
        for candidate in sorted(around)
        if candidate >= 0 and hmac.compare_digest(_code(secret, candidate, algorithm).encode("ascii"), wanted)
    ]
    if not matched:
        raise CodeMismatchError("no accepted time step yields the code")
    # INVARIANT: what is returned is above every step that was accepted before.
    unused = [candidate for candidate in matched if last_used_step is None or candidate > last_used_step]
    if not unused:
        raise CodeReplayedError("the code's time step was used up before")
    return unused[0]


def resync(
    *,
    secret: bytes,
    code1: str,
    code2: str,
    now: float,
    last_used_step: int | None,
    window_steps: int,
    algorithm: str = "sha1",
    min_secret_bytes: int = MIN_SECRET_BYTES,
) -> Resync:
    """
    Find the place at which a device yields *code1* and then *code2*, to enable it or to bring it back in step.

    Where several places fit, the one nearest to the clock counts. Both codes are used up.

    Args:
        now: Seconds since the epoch. The caller owns the clock.
        last_used_step: Highest step accepted so far, or None.
        window_steps: Steps either side of the clock that are searched, at most ``MAX_WINDOW_STEPS``.
        algorithm: ``sha1``, ``sha256`` or ``sha512``.
        min_secret_bytes: ``MIN_IMPORTED_SECRET_BYTES`` for a device that may have been enrolled elsewhere.

    Raises:
        CodeMalformedError: A code is not six ASCII digits.
        CodesNotConsecutiveError: They do not follow each other within the window.
        CodeReplayedError: They do, at a place that is not above *last_used_step*.
        TotpSecretError: *secret* is too short or too long.

    >>> secret = b"12345678901234567890"
    >>> resync(secret=secret, code1="755224", code2="287082", now=90, last_used_step=None, window_steps=10)
    Resync(step=1, drift_steps=-2)
    """
    first, second = _read_code(code1), _read_code(code2)
    _verify_secret(secret, algorithm, min_secret_bytes)
    step = time_step(now)
    window = min(window_steps, MAX_WINDOW_STEPS)
    lowest = max(0, step - window)
    codes = [_code(secret, at, algorithm).encode("ascii") for at in range(lowest, step + window + 1)]
    matched = [
        lowest + place + 1
        for place, (one, other) in enumerate(zip(codes, codes[1:], strict=False))
        if hmac.compare_digest(one, first) & hmac.compare_digest(other, second)
    ]
    if not matched:
        raise CodesNotConsecutiveError("the codes do not follow each other within the window")
    unused = [found for found in matched if last_used_step is None or found - 1 > last_used_step]
    if not unused:
        raise CodeReplayedError("the codes' time steps were used up before")
    nearest = min(unused, key=lambda found: abs(found - step))
    return Resync(nearest, nearest - step)


def follow_drift(*, step: int, now: float, drift_steps: int) -> int:
    """
    Return the drift of a device after one of its codes was accepted; it moves by one step at most.

    Args:
        step: What ``verify_code`` returned.
        now: Seconds since the epoch, as ``verify_code`` was given.
        drift_steps: The drift so far.

    >>> follow_drift(step=12, now=300, drift_steps=0)
    1
    """
    seen = step - time_step(now)
    return drift_steps + max(-1, min(1, seen - drift_steps))


def time_step(now: float) -> int:
    """Return the time step at *now*, in seconds since the epoch."""
    return int(now // STEP_SECONDS)


def provisioning_uri(*, secret: bytes, account: str, issuer: str) -> str:
    """
    Return the ``otpauth://`` address that an authenticator app reads from a QR code. It holds the secret.

    Raises:
        TotpSecretError: *secret* is too short or too long.

    >>> provisioning_uri(secret=b"12345678901234567890", account="ann@acme", issuer="acme")
    'otpauth://totp/acme:ann%40acme?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=acme'
    """
    _verify_secret(secret, "sha1")
    return pyotp.TOTP(secret_text(secret)).provisioning_uri(name=account, issuer_name=issuer)


def secret_text(secret: bytes) -> str:
    """Return *secret* as people type it into an app: base32 without padding."""
    return base64.b32encode(secret).decode("ascii").rstrip("=")


def _read_code(code: object) -> bytes:
    # Full-width digits and the like are digits to Python; they are no code, and would make two texts of one.
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise CodeMalformedError("a code is six digits")
    return code.encode("ascii")


def _verify_secret(secret: bytes, algorithm: str, min_bytes: int = MIN_SECRET_BYTES) -> None:
    # However little a caller asks for, there is a length below which a seed can be found by trying.
    least = max(min_bytes, MIN_IMPORTED_SECRET_BYTES)
    if not least <= len(secret) <= MAX_SECRET_BYTES:
        raise TotpSecretError(f"a secret has {least} to {MAX_SECRET_BYTES} bytes")
    if algorithm not in ALGORITHMS:
        raise TotpSecretError("a secret is for SHA-1, SHA-256 or SHA-512")


def _offsets(window: int) -> range:
    return range(-window, window + 1)


def _code(secret: bytes, step: int, algorithm: str) -> str:
    # SPEC: RFC 4226, section 5.3.
    digest = hmac.digest(secret, step.to_bytes(8, "big"), algorithm)
    at = digest[-1] & 0xF
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"
