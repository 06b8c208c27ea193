# SPDX-License-Identifier: Apache-2.0
"""
What a service needs of a log.
"""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """
    Takes events with their values; structlog's loggers fit.

    Thread-safety: implementations may be called from any thread.
    """

    def info(self, event: str, **values: object) -> object:
        """Record something that is as it should be."""
        ...

    def warning(self, event: str, **values: object) -> object:
        """Record something that an operator should look at."""
        ...

    def error(self, event: str, **values: object) -> object:
        """Record something that failed."""
        ...


class NullLog:
    """
    Keeps nothing.

    Thread-safety: immutable.
    """

    def info(self, event: str, **values: object) -> None:
        """Do nothing."""

    def warning(self, event: str, **values: object) -> None:
        """Do nothing."""

    def error(self, event: str, **values: object) -> None:
        """Do nothing."""
