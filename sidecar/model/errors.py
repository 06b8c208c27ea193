# SPDX-License-Identifier: Apache-2.0
"""
The error tree, and the problems that a source of policies can have.

::

    SidecarError                  carries ``reason``: snake_case, stable, unique
    |- PolicyError                the author's fault; the last good snapshot stays
    |  |- PolicySyntaxError       carries every ``Problem`` found, not the first
    |  `- ImageError              a compiled image is damaged or foreign
    |- RequestError               the caller's fault; names the field
    |- MfaError                   a second factor did not hold
    |- AuthenticationError        who calls could not be established
    |- PermissionDeniedError      who calls is known and may not
    |- NotFoundError              what is named is not there
    |- AlreadyExistsError         what would be made is there already
    |- PreconditionError          it cannot be done as things stand
    |- LimitExceededError         there would be more of something than there may be
    |- ThrottledError             too many failures; later, or once an administrator has said so
    |- SettingsError              a setting of the operator cannot be used
    |- SourceUnavailableError     a source of policies or facts is out of reach
    `- InternalError              ``public`` is for the caller, ``cause`` for the log
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

_reasons: dict[str, type[SidecarError]] = {}


class SidecarError(Exception):
    """
    Root of every error this project raises on purpose.

    The text is lower case, one line, without a full stop; what would mend it is in ``help``.
    """

    reason: ClassVar[str] = "error"

    def __init__(self, message: str, *, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "reason" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} states no reason of its own")
        other = _reasons.setdefault(cls.reason, cls)
        if other.__qualname__ != cls.__qualname__:
            raise TypeError(f"reason {cls.reason!r} belongs to {other.__name__} already")


class Severity(StrEnum):
    """Whether a problem keeps a source from being used."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing wrong in a source: where it is, what it is, and how to mend it.

    Attributes:
        severity: An error refuses the whole source; a warning does not.
        file: Path of the file inside the source, as the operator wrote it.
        json_path: JSON path inside the file, such as ``$.Statement[0].Action``.
        message: What is wrong, in one line, user input in backticks.
        help: How to mend it.
    """

    severity: Severity
    file: str
    json_path: str
    message: str
    help: str = ""

    def __str__(self) -> str:
        text = f"{self.file}: {self.json_path}: {self.severity}: {self.message}"
        return f"{text} ({self.help})" if self.help else text


class PolicyError(SidecarError):
    """The author of a policy or a source made a mistake."""

    reason = "policy_error"


class PolicySyntaxError(PolicyError):
    """A source was refused; ``problems`` holds everything that was found."""

    reason = "policy_invalid"

    def __init__(self, message: str, *, problems: Iterable[Problem], help: str = "") -> None:
        super().__init__(message, help=help)
        self.problems = tuple(problems)


class ImageError(PolicyError):
    """A compiled image is damaged, truncated or of another format version."""

    reason = "image_invalid"


class RequestError(SidecarError):
    """
    A request is malformed.

    Attributes:
        field: Path of the field in the request message, such as ``requests[3].action``.
    """

    reason = "request_invalid"

    def __init__(self, message: str, *, field: str = "", help: str = "") -> None:
        super().__init__(message, help=help)
        self.field = field


class MfaError(SidecarError):
    """A second factor did not hold; the caller is told no more than that."""

    reason = "mfa_failed"


class AuthenticationError(SidecarError):
    """The call carries no credential, or one that is not known here."""

    reason = "unauthenticated"


class PermissionDeniedError(SidecarError):
    """The caller is known and is not allowed to make this call."""

    reason = "permission_denied"


class NotFoundError(SidecarError):
    """What the caller names is not there."""

    reason = "not_found"


class AlreadyExistsError(SidecarError):
    """What the caller would make is there already."""

    reason = "already_exists"


class PreconditionError(SidecarError):
    """The call is a good one, but not as things stand."""

    reason = "failed_precondition"


class LimitExceededError(SidecarError):
    """There would be more of something than there may be."""

    reason = "limit_exceeded"


class ThrottledError(SidecarError):
    """Too many proofs have failed; the next one has to wait, for a time or for an administrator."""

    reason = "throttled"


class SettingsError(SidecarError):
    """A flag, environment variable or configuration key has a value that cannot be used."""

    reason = "settings_invalid"


class SourceUnavailableError(SidecarError):
    """A policy source, store or sink cannot be reached at the moment."""

    reason = "source_unavailable"


class InternalError(SidecarError):
    """
    A fault of our own.

    Attributes:
        message: Safe to show to the caller.
        cause: What happened, for the log alone.
    """

    reason = "internal"

    def __init__(self, public: str, *, cause: BaseException | str) -> None:
        super().__init__(public)
        self.cause = cause
