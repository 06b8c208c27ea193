# SPDX-License-Identifier: Apache-2.0
"""
Where everything that is wrong with a source is gathered, and how it is worded.

A parser never stops at the first problem: it adds it here and goes on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sidecar.model.errors import Problem, Severity

#: How many problems are kept; further ones are only counted.
MAX_PROBLEMS = 10_000

#: How much of a piece of user input a message repeats.
MAX_QUOTED = 120

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Finding(NamedTuple):
    """
    Something wrong with one piece of text, before it is known where the text stands.

    Attributes:
        severity: Whether it refuses the source.
        message: What is wrong.
        help: How to mend it.
    """

    severity: Severity
    message: str
    help: str = ""


def error(message: str, help: str = "") -> Finding:
    """Return a finding that refuses the source."""
    return Finding(Severity.ERROR, message, help)


def warning(message: str, help: str = "") -> Finding:
    """Return a finding that does not refuse the source."""
    return Finding(Severity.WARNING, message, help)


class Problems:
    """
    The problems of one source, in the order in which they were found.

    At most *limit* of them are kept, so that a hostile source cannot fill the memory; all are counted.

    Thread-safety: confined to the thread that parses.

    >>> problems = Problems()
    >>> problems.error("a.json", "$.Statement", "a policy needs a `Statement`")
    >>> problems.has_errors, problems.items[0].json_path
    (True, '$.Statement')
    """

    def __init__(self, limit: int = MAX_PROBLEMS) -> None:
        self.items: list[Problem] = []
        self.error_count = 0
        self.warning_count = 0
        self._limit = limit

    def error(self, file: str, json_path: str, message: str, help: str = "") -> None:
        """Add a problem that refuses the source."""
        self.error_count += 1
        self._keep(Problem(Severity.ERROR, file, json_path, message, help))

    def warning(self, file: str, json_path: str, message: str, help: str = "") -> None:
        """Add a problem that does not refuse the source."""
        self.warning_count += 1
        self._keep(Problem(Severity.WARNING, file, json_path, message, help))

    def add(self, file: str, json_path: str, finding: Finding) -> None:
        """Add *finding*, now that it is known where it stands."""
        if finding.severity is Severity.ERROR:
            self.error(file, json_path, finding.message, finding.help)
        else:
            self.warning(file, json_path, finding.message, finding.help)

    @property
    def has_errors(self) -> bool:
        """Whether anything refuses the source."""
        return self.error_count > 0

    @property
    def dropped(self) -> int:
        """How many problems were counted and not kept."""
        return self.error_count + self.warning_count - len(self.items)

    def _keep(self, problem: Problem) -> None:
        if len(self.items) < self._limit:
            self.items.append(problem)
        elif problem.severity is Severity.ERROR and self._limit:
            # Errors outrank warnings: a full list must still say why the source was refused.
            last = self.items[-1]
            if last.severity is Severity.WARNING:
                self.items[-1] = problem


def quote(value: object) -> str:
    r"""
    Return user input in backticks, on one line and not too long.

    >>> quote("s3:Get\n*")
    '`s3:Get\\n*`'
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_QUOTED:
        text = text[:MAX_QUOTED] + "…"
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape", "replace").decode("ascii")
            for character in text
        )
    return f"`{text}`"


def member(path: str, name: str) -> str:
    """
    Return the JSON path of the member *name* of the object at *path*.

    >>> member("$.Condition", "Bool"), member("$.Condition.Bool", "aws:SecureTransport")
    ('$.Condition.Bool', "$.Condition.Bool['aws:SecureTransport']")
    """
    shown = name if len(name) <= MAX_QUOTED else name[:MAX_QUOTED] + "…"
    if _IDENTIFIER.fullmatch(shown):
        return f"{path}.{name}"
    if not shown.isprintable() or "'" in shown or "\\" in shown:
        shown = shown.replace("\\", "\\\\").replace("'", "\\'")
        shown = "".join(
            character if character.isprintable() else character.encode("unicode_escape", "replace").decode("ascii")
            for character in shown
        )
    return f"{path}['{shown}']"
