# SPDX-License-Identifier: Apache-2.0
"""
CBOR as authenticators write it, read strictly (RFC 8949; CTAP 2.2, section 8).

Only definite lengths, no tags, no floating point numbers, keys that are integers or text and stand once, few levels.
The order of keys and the length of a header are not held against an authenticator: several get them wrong.
"""

from __future__ import annotations

from typing import TypeAlias

from sidecar.model.errors import CborMalformedError, DuplicateKeyError

Value: TypeAlias = "int | str | bytes | bool | list[Value] | dict[int | str, Value] | None"

#: Levels of lists and maps. CTAP allows 4, an attestation that holds another one needs 2 more.
MAX_DEPTH = 8

_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}
_FOLLOWING = {24: 1, 25: 2, 26: 4, 27: 8}


def decode(data: bytes) -> Value:
    r"""
    Return the one value that *data* holds.

    Raises:
        CborMalformedError: It is not CBOR of the kind that authenticators write, or has bytes left over.
        DuplicateKeyError: A map has a key twice.

    >>> decode(bytes.fromhex("a1636b65794101"))
    {'key': b'\x01'}
    """
    value, end = decode_first(data, 0)
    if end != len(data):
        raise CborMalformedError(f"{len(data) - end} bytes are left over")
    return value


def decode_first(data: bytes, start: int) -> tuple[Value, int]:
    """
    Return the value that begins at *start*, and where it ends.

    Raises:
        CborMalformedError: There is no CBOR of the kind that authenticators write.
        DuplicateKeyError: A map has a key twice.
    """
    return _read(data, start, MAX_DEPTH)


def _read(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(data):
        raise CborMalformedError("it is cut short")
    major, short = data[at] >> 5, data[at] & 31
    at += 1
    if short < 24:
        number = short
    elif (width := _FOLLOWING.get(short)) is not None:
        if at + width > len(data):
            raise CborMalformedError("it is cut short")
        number = int.from_bytes(data[at : at + width], "big")
        at += width
    else:
        raise CborMalformedError("a length is indefinite or reserved")
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        end = at + number
        if end > len(data):
            raise CborMalformedError("it is cut short")
        if major == 2:
            return data[at:end], end
        try:
            return data[at:end].decode("utf-8"), end
        except UnicodeDecodeError:
            raise CborMalformedError("text is not UTF-8") from None
    if major == 7:
        if short not in _SIMPLE:
            raise CborMalformedError("a number is a fraction, or a simple value has no meaning")
        return _SIMPLE[short], at
    if major == 6:
        raise CborMalformedError("a value has a tag")
    if depth == 0:
        raise CborMalformedError(f"there are more than {MAX_DEPTH} levels")
    # Each entry takes a byte at least, so a count beyond what is left is refused before anything is made of it.
    if number > len(data) - at:
        raise CborMalformedError("it is cut short")
    return _read_list(data, at, number, depth - 1) if major == 4 else _read_map(data, at, number, depth - 1)


def _read_list(data: bytes, at: int, count: int, depth: int) -> tuple[list[Value], int]:
    found = []
    for _ in range(count):
        value, at = _read(data, at, depth)
        found.append(value)
    return found, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[int | str, Value], int]:
    found: dict[int | str, Value] = {}
    for _ in range(count):
        key, at = _read(data, at, depth)
        # A boolean is an integer to Python and would take the place of 0 or 1.
        if isinstance(key, bool) or not isinstance(key, (int, str)):
            raise CborMalformedError("a key is neither an integer nor text")
        if key in found:
            raise DuplicateKeyError("a key stands twice in one CBOR map")
        found[key], at = _read(data, at, depth)
    return found, at
