# SPDX-License-Identifier: Apache-2.0
"""
The shape of a file around its policy documents: objects, lists and text where they belong.

Values come from ``sidecar.compile.documents``: objects that may carry duplicate keys, numbers as their raw
text. Every function reports what is wrong and returns None, so that a reader goes on with the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sidecar.compile.documents import DuplicateKeysDict, JsonNumber
from sidecar.compile.problems import MAX_QUOTED, Problems, member, quote

JsonObject = dict[str, object]

#: How many keys of one object are compared with all known ones.
_MAX_GUESSES = 20


def describe(value: object) -> str:
    """
    Name the type of *value* in the words of JSON.

    >>> describe({}), describe([]), describe(None)
    ('an object', 'a list', 'null')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, JsonNumber):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "a value of an unknown type"


def closest(word: str, known: Iterable[str]) -> str:
    """
    Return the word of *known* that *word* is most likely meant to be, or an empty string.

    >>> closest("Servce_control_policies", ["service_control_policies", "name"])
    'service_control_policies'
    """
    by_fold = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word[:MAX_QUOTED].lower(), by_fold, n=1, cutoff=0.75)
    return by_fold[found[0]] if found else ""


@dataclass(frozen=True, slots=True)
class Place:
    """
    A file that is being read, and where its problems go.

    Attributes:
        file: Name of the file inside the source.
    """

    problems: Problems
    file: str

    @property
    def count(self) -> int:
        """How many problems there are so far, kept or not."""
        return self.problems.error_count + self.problems.warning_count

    def error(self, path: str, message: str, help: str = "") -> None:
        """Report an error at *path*."""
        self.problems.error(self.file, path, message, help)

    def warning(self, path: str, message: str, help: str = "") -> None:
        """Report a warning at *path*."""
        self.problems.warning(self.file, path, message, help)

    def mapping(self, value: object, path: str, what: str) -> JsonObject | None:
        """Return *value* when it is an object; its duplicate keys are reported."""
        if not isinstance(value, dict):
            self.error(path, f"{what} must be an object, not {describe(value)}")
            return None
        if isinstance(value, DuplicateKeysDict):
            self.duplicates(value, path)
        return value

    def duplicates(self, value: DuplicateKeysDict, path: str) -> None:
        """Report each key that the object at *path* holds more than once."""
        for key in value.duplicates:
            self.error(member(path, key), f"the key {quote(key)} stands more than once", "keep one of them")

    def known_keys(self, value: JsonObject, path: str, known: Collection[str], what: str) -> None:
        """Refuse the keys of *value* that are not in *known*."""
        unknown = [key for key in value if key not in known]
        for count, key in enumerate(unknown):
            guess = closest(key, known) if count < _MAX_GUESSES else ""
            self.error(
                member(path, key),
                f"unknown key {quote(key)} in {what}",
                f"did you mean `{guess}`" if guess else "known keys: " + ", ".join(sorted(known)),
            )

    def text(self, value: object, path: str, what: str) -> str | None:
        """Return *value* when it is text that is not empty."""
        if not isinstance(value, str) or isinstance(value, JsonNumber):
            self.error(path, f"{what} must be text, not {describe(value)}")
            return None
        if not value:
            self.error(path, f"{what} is empty")
            return None
        return value

    def array(self, value: object, path: str, what: str) -> list[object] | None:
        """Return *value* when it is a list."""
        if not isinstance(value, list):
            self.error(path, f"{what} must be a list, not {describe(value)}")
            return None
        return value

    def boolean(self, value: object, path: str, what: str) -> bool | None:
        """Return *value* when it is true or false."""
        if not isinstance(value, bool):
            self.error(path, f"{what} must be true or false, not {describe(value)}")
            return None
        return value

    def integer(self, value: object, path: str, what: str, least: int, most: int) -> int | None:
        """Return *value* when it is a whole number from *least* to *most*; YAML has it as text."""
        if not isinstance(value, str) or not (value.isascii() and value.isdigit()):
            shown = quote(value) if isinstance(value, str) else describe(value)
            self.error(path, f"{what} must be a whole number, not {shown}")
            return None
        number = int(value) if len(value) < 20 else most + 1
        if not least <= number <= most:
            self.error(path, f"{what} must be from {least} to {most}, not {quote(value)}")
            return None
        return number

    def account_id(self, value: object, path: str, what: str) -> str | None:
        """Return *value* when it is twelve digits."""
        if isinstance(value, str) and is_account_id(value):
            if isinstance(value, JsonNumber) and self.file.endswith(".json"):
                self.error(path, f"{what} must be text, not a number", 'write it in quotes, as in `"123456789012"`')
                return None
            return str(value)
        shown = quote(value) if isinstance(value, str) else describe(value)
        self.error(path, f"{what} must be an account id of twelve digits, not {shown}")
        return None

    def unread(self, value: object, path: str) -> None:
        """Report the duplicate keys inside a *value* that nobody reads otherwise."""
        waiting = [(value, path)]
        while waiting:
            value, path = waiting.pop()
            if isinstance(value, dict):
                if isinstance(value, DuplicateKeysDict):
                    self.duplicates(value, path)
                waiting.extend(
                    (item, member(path, key)) for key, item in value.items() if isinstance(item, dict | list)
                )
            elif isinstance(value, list):
                waiting.extend(
                    (item, f"{path}[{index}]") for index, item in enumerate(value) if isinstance(item, dict | list)
                )


def is_account_id(text: str) -> bool:
    """
    Say whether *text* is twelve digits.

    >>> is_account_id("123456789012"), is_account_id("12345678901a")
    (True, False)
    """
    return len(text) == 12 and text.isascii() and text.isdigit()
