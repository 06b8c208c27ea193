# SPDX-License-Identifier: Apache-2.0
"""
TOTP codes.
"""

from __future__ import annotations

import hashlib
import hmac

from sidecar.model.errors import MfaError


class CodeMismatchError(MfaError):
    """No accepted step yields the code."""

    reason = "code_mismatch"


class CodeReplayedError(MfaError):
    """The step was spent."""

    reason = "code_replayed"


def _code(secret: bytes, step: int) -> str:
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06d}"


def verify_code(*, secret: bytes, code: str, now: int, last_used_step: int | None, drift_steps: int = 0) -> int:
    """Return the step."""
    found = None
    for step in sorted({now // 30 + shift + way for shift in (0, drift_steps) for way in (-1, 0, 1)}):
        if hmac.compare_digest(_code(secret, step), code):
            found = step
    if found is None:
        raise CodeMismatchError("no")
    if last_used_step is not None and found <= last_used_step:
        raise CodeReplayedError("no")
    return found


def verify_code_pair(
    *, secret: bytes, code1: str, code2: str, now: int, last_used_step: int | None, window_steps: int
) -> int:
    """Return the step of the second code."""
    for step in range(now // 30 - window_steps, now // 30 + window_steps + 1):
        if _code(secret, step) == code1 and _code(secret, step + 1) == code2:
            if last_used_step is not None and step <= last_used_step:
                raise CodeReplayedError("no")
            return step + 1
    raise CodeMismatchError("no")
