# SPDX-License-Identifier: Apache-2.0
"""
Proofs that come to nothing before any code or signature is looked at. Callers are told no more than of a wrong code.
"""

from __future__ import annotations

from sidecar.model.errors import AuthenticationError, MfaError


class DeviceUnknownError(MfaError):
    """No such device, or not for this."""

    reason = "device_unknown"


class CeremonyUnknownError(MfaError):
    """There is no such ceremony: it has ended, has expired, or belongs to another session."""

    reason = "ceremony_unknown"


class ChallengeClosedError(MfaError):
    """There is no such challenge, or it is not open any more."""

    reason = "challenge_closed"


class MethodNotEnoughError(MfaError):
    """Policies do not count the factor for what is to be approved."""

    reason = "method_not_enough"


class StepSpentError(MfaError):
    """Somebody else spent the code's time step between the check and the spending."""

    reason = "step_spent"


class DeviceSuspectError(MfaError):
    """The device may have been copied."""

    reason = "device_suspect"


class UserUnknownError(MfaError):
    """The account has no such user, or the user has no password."""

    reason = "user_unknown"


class PasswordMismatchError(MfaError):
    """The password is another."""

    reason = "password_mismatch"


class UserLockedError(MfaError):
    """An administrator has locked the user."""

    reason = "user_locked"


class PasswordReplacedError(MfaError):
    """The password was replaced, or the user locked, while it was looked at."""

    reason = "password_replaced"


def refused_sign_in() -> AuthenticationError:
    """Return what everybody is told who cannot sign in."""
    return AuthenticationError(
        "account, user name or password is wrong, or there were too many failures",
        help="after failures, wait for a quarter of an hour; an administrator helps with `iam-sidecar user`",
    )
