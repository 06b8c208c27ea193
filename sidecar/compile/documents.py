# SPDX-License-Identifier: Apache-2.0
"""
Reading JSON and YAML strictly, into one shape.

Objects become ``dict`` (``DuplicateKeysDict`` where a key stands twice), arrays ``list``, strings ``str``, numbers
``JsonNumber``, and ``true``, ``false`` and ``null`` what Python has for them. Anything else that can be wrong with
a text raises ``DocumentError``, with its line and column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NoReturn

import yaml

from sidecar.model.errors import PolicyError

#: How deep arrays and objects may be nested.
MAX_DEPTH: Final = 100

#: How much YAML is read, in characters; JSON is much cheaper to read and has no limit of its own here.
MAX_YAML_CHARACTERS: Final = 32 * 1024 * 1024


class DocumentError(PolicyError):
    """
    A text is not JSON, or not YAML, or is built to do harm.

    Attributes:
        message: What is wrong and where, in one line.
        line: Line of the fault, from 1; 0 where it has none.
        column: Column of the fault, from 1; 0 where it has none.
    """

    reason = "document_unreadable"

    def __init__(self, message: str, *, line: int = 0, column: int = 0, help: str = "") -> None:
        if line:
            message = f"{message} at line {line}, column {column}"
        super().__init__(message, help=help)
        self.line = line
        self.column = column


class DuplicateKeysDict(dict[str, object]):
    """
    An object in which some keys stand more than once; it holds the last value of each.

    Attributes:
        duplicates: The keys that stand more than once, each of them once.
    """

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        duplicates: dict[str, None] = {}
        for key, _ in pairs:
            if key in seen:
                duplicates[key] = None
            seen.add(key)
        self.duplicates = tuple(duplicates)


class JsonNumber(str):
    """A number, as the text that stood in the document."""

    __slots__ = ()


def read_json(data: bytes | str) -> object:
    """
    Return what *data* holds, read as strict JSON (RFC 8259).

    Raises:
        DocumentError: It is no JSON, not UTF-8, nested too deeply, or holds half of a surrogate pair.

    >>> read_json('{"a": [1.50, true, null, "x"]}')
    {'a': ['1.50', True, None, 'x']}
    """
    text = _decode(data)
    try:
        value = _scan(text)
    except json.JSONDecodeError as fault:
        _refuse_json(fault)
    except RecursionError:
        raise _too_deep(text) from None
    if _is_too_deep(data if isinstance(data, bytes) else text.encode("utf-8"), value):
        raise _too_deep(text)
    if "\\u" in text and _SURROGATE_ESCAPE.search(text) and _holds_surrogate(value):
        raise _located("half of a surrogate pair", text, _LONE_SURROGATE.search(text))
    return value


def read_yaml(data: bytes | str) -> object:
    r"""
    Return what *data* holds, read as YAML that could have been JSON.

    Plain scalars are text, but for ``true``, ``false``, ``null`` (also ``~`` and nothing at all) and what JSON would
    read as a number: no dates, no octal numbers, no ``yes`` and ``no``. Anchors, aliases, tags, merge keys, keys that
    are not scalars and several documents in one file are refused.

    Raises:
        DocumentError: It is no such YAML, not UTF-8, too long or nested too deeply.

    >>> read_yaml("version: 2012-10-17\nactive: yes\nlimit: 20")
    {'version': '2012-10-17', 'active': 'yes', 'limit': '20'}
    """
    text = _decode(data)
    if len(text) > MAX_YAML_CHARACTERS:
        raise DocumentError(
            f"the file has more than {MAX_YAML_CHARACTERS:,} characters of YAML", help="write large files as JSON"
        )
    try:
        return _YamlReader().read(text)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        message = " ".join(part for part in (fault.context, fault.problem) if part) or "not YAML"
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        raise DocumentError(f"not YAML: {message}", line=line, column=column) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        raise DocumentError("not YAML: it holds characters that YAML does not allow") from None
    except RecursionError:
        raise DocumentError(f"nested more than {MAX_DEPTH} levels deep", help="flatten the document") from None


def _decode(data: bytes | str) -> str:
    if isinstance(data, bytes):
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DocumentError("the text is UTF-16", help="save the file as UTF-8")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as fault:
            line = data.count(b"\n", 0, fault.start) + 1
            column = fault.start - (data.rfind(b"\n", 0, fault.start) + 1) + 1
            raise DocumentError(
                "the text is not valid UTF-8", line=line, column=column, help="save the file as UTF-8"
            ) from None
    else:
        text = data
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as fault:
                line, column = _position(text, fault.start)
                raise DocumentError("half of a surrogate pair", line=line, column=column) from None
    return text[1:] if text.startswith("\ufeff") else text


# --- JSON


class _ConstantError(Exception):
    """NaN or an infinity stands in a text."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else DuplicateKeysDict(pairs)


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=_refuse_constant
)

# The quantifiers are possessive: strings may be very long, and remembering ways back would fill the memory.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]|NaN|-?Infinity', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONE_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)


def _scan(text: str) -> object:
    try:
        value: object = _decoder.decode(text)
    except _ConstantError as constant:
        place = next((token for token in _TOKEN.finditer(text) if token[0][0] in "N-I"), None)
        raise _located(f"not JSON: `{constant}` is no number there", text, place) from None
    return value


#: Beginnings of the decoder's messages, and what they are called here.
_JSON_FAULTS = (
    ("Expecting value", "a value is expected"),
    ("Expecting ',' delimiter", "a comma or a closing bracket is expected"),
    ("Expecting ':' delimiter", "a colon is expected"),
    ("Expecting property name", "a key in double quotes is expected"),
    ("Illegal trailing comma", "a comma stands before a closing bracket"),
    ("Unterminated string", "a string does not end"),
    ("Invalid control character", "a control character stands in a string"),
    ("Invalid \\escape", "a backslash is followed by no known escape"),
    ("Invalid \\uXXXX escape", "`\\u` is not followed by four hexadecimal digits"),
    ("Extra data", "more text follows the end of the document"),
)


def _refuse_json(fault: json.JSONDecodeError) -> NoReturn:
    words = next((words for beginning, words in _JSON_FAULTS if fault.msg.startswith(beginning)), "a syntax error")
    if not fault.doc.strip():
        raise DocumentError("the text is empty", help="write a JSON document") from None
    raise DocumentError(f"not JSON: {words}", line=fault.lineno, column=fault.colno) from None


_BRACKETS_ONLY: Final = bytes(code for code in range(256) if code not in b'[]{}"')
_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")


def _is_too_deep(data: bytes, value: object) -> bool:
    """Say whether *value*, read from *data*, is nested too deeply."""
    if b"\\" in data:
        return _is_value_too_deep(value)
    # Nothing is escaped, so every quotation mark begins or ends a string. What is left of the text are brackets and
    # quotation marks, and a string is empty unless there are brackets in it.
    rest = data.translate(_TO_SQUARE, _BRACKETS_ONLY)
    brackets = rest.replace(b'""', b"")
    if b'"' in brackets:
        brackets = b"".join(rest.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return bool(brackets)


_CONTAINERS: Final = frozenset({dict, DuplicateKeysDict, list})


def _is_value_too_deep(value: object) -> bool:
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        children = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)  # type: ignore[attr-defined]
            if type(child) in _CONTAINERS
        ]
        level = children
        if not level:
            return False
    return True


def _too_deep(text: str) -> DocumentError:
    depth = 0
    place = None
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                place = token
                break
        elif token[0] in ("]", "}"):
            depth -= 1
    return _located(f"nested more than {MAX_DEPTH} levels deep", text, place, help="flatten the document")


def _strings(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            waiting.extend(node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _holds_surrogate(value: object) -> bool:
    return any(not text.isascii() and _SURROGATE.search(text) for text in _strings(value))


def _position(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def _located(message: str, text: str, place: re.Match[str] | None, help: str = "") -> DocumentError:
    if place is None:
        return DocumentError(message, help=help)
    line, column = _position(text, place.start())
    return DocumentError(message, line=line, column=column, help=help)


# --- YAML

_Loader: type[yaml.Loader] | type[yaml.CLoader] = getattr(yaml, "CLoader", yaml.Loader)

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_PLAIN_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_TAGS = {
    yaml.ScalarEvent: (None, "!", "tag:yaml.org,2002:str"),
    yaml.MappingStartEvent: (None, "!", "tag:yaml.org,2002:map"),
    yaml.SequenceStartEvent: (None, "!", "tag:yaml.org,2002:seq"),
}


class _Frame:
    """A mapping or sequence that is not closed yet."""

    __slots__ = ("is_mapping", "items", "key", "pairs")

    def __init__(self, is_mapping: bool) -> None:
        self.is_mapping = is_mapping
        self.items: list[object] = []
        self.pairs: list[tuple[str, object]] = []
        self.key: str | None = None

    def add(self, value: object) -> None:
        if not self.is_mapping:
            self.items.append(value)
        elif self.key is not None:
            self.pairs.append((self.key, value))
            self.key = None

    def value(self) -> object:
        return _object(self.pairs) if self.is_mapping else self.items


class _YamlReader:
    """
    Builds one value from the events of the YAML parser, without recursion.

    Thread-safety: confined to one call.
    """

    def __init__(self) -> None:
        self._stack: list[_Frame] = []
        self._root: object = None
        self._documents = 0

    def read(self, text: str) -> object:
        """Return the value of the only document in *text*."""
        for event in yaml.parse(text, Loader=_Loader):
            self._event(event)
        return self._root

    def _event(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, "an alias (`*name`) is not supported", "write the value out")
        if isinstance(event, (yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._node(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._add(self._stack.pop().value())
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._refuse(event, "a second document follows in the same file", "write one document a file")

    def _node(self, event: yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.anchor is not None:
            self._refuse(event, "an anchor (`&name`) is not supported", "write the value out where it is used")
        if event.tag not in _TAGS[type(event)]:
            self._refuse(event, "a tag (`!name`) is not supported", "write plain text, lists and mappings")
        top = self._stack[-1] if self._stack else None
        wants_key = top is not None and top.is_mapping and top.key is None
        if isinstance(event, yaml.ScalarEvent):
            plain = bool(event.implicit[0])
            if _SURROGATE.search(event.value):
                self._refuse(event, "half of a surrogate pair", "write the character itself")
            if top is not None and wants_key:
                if plain and event.value == "<<":
                    self._refuse(event, "a merge key (`<<`) is not supported", "write the keys out")
                top.key = event.value
            else:
                self._add(_scalar(event.value) if plain else event.value)
            return
        if wants_key:
            self._refuse(event, "a key is not plain text", "write keys as text")
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep", "flatten the document")
        self._stack.append(_Frame(isinstance(event, yaml.MappingStartEvent)))

    def _add(self, value: object) -> None:
        if self._stack:
            self._stack[-1].add(value)
        else:
            self._root = value

    def _refuse(self, event: yaml.Event, message: str, help: str) -> NoReturn:
        mark = event.start_mark
        line, column = (0, 0) if mark is None else (mark.line + 1, mark.column + 1)
        raise DocumentError(message, line=line, column=column, help=help)


def _scalar(text: str) -> object:
    if text in _PLAIN_WORDS:
        return _PLAIN_WORDS[text]
    return JsonNumber(text) if _NUMBER.fullmatch(text) else text
