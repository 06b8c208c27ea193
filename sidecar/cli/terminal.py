# SPDX-License-Identifier: Apache-2.0
"""
The person at the terminal: telling and asking, beside what programs read from standard output.
"""

from __future__ import annotations

import sys

import typer

#: More than anything that is typed or piped in here, and little enough to be read by mistake.
_MAX_INPUT = 4096


class Terminal:
    """
    The person at the terminal.

    Thread-safety: belongs to the main thread.
    """

    def tell(self, text: str) -> None:
        """Show a line."""
        tell(text)

    def ask_pin(self, text: str) -> str:
        """Ask for a PIN, without showing it."""
        return ask_hidden(text) if sys.stdin.isatty() else ask(text)


def tell(text: str) -> None:
    """Show a line on standard error, and so not to whoever reads our output."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def ask(text: str) -> str:
    """Return a line that is typed."""
    sys.stderr.write(f"{text}: ")
    sys.stderr.flush()
    line = sys.stdin.readline(_MAX_INPUT)
    if not line:
        raise typer.Abort
    return line.strip()


def ask_hidden(text: str) -> str:
    """Return a line that is typed and not shown."""
    import getpass

    return getpass.getpass(f"{text}: ", stream=sys.stderr)


def read_hidden_line() -> str:
    """
    Return a line of standard input, without its end.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
    """
    return sys.stdin.buffer.readline(_MAX_INPUT).decode().rstrip("\r\n")


def can_ask() -> bool:
    """Say whether somebody is there who could type an answer."""
    return sys.stdin.isatty()


def can_show() -> bool:
    """Say whether somebody is there who sees what is told."""
    return sys.stderr.isatty()
