# SPDX-License-Identifier: Apache-2.0
"""
Text that clients send, read in exactly one way: base64url without padding, and JSON without duplicate keys.
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64encode

from sidecar.model.errors import DuplicateKeyError, EncodingInvalidError, ResponseMalformedError, ResponseTooLargeError

_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")


def decode_base64url(text: object, *, field: str, max_bytes: int) -> bytes:
    r"""
    Return the bytes that *text* stands for; there is one spelling for each.

    Args:
        field: Name of the member that *text* stands in, for the error.
        max_bytes: Longest result; a longer text is refused before it is decoded.

    Raises:
        ResponseMalformedError: *text* is no string, or is empty.
        ResponseTooLargeError: The result would be longer than *max_bytes*.
        EncodingInvalidError: A letter is not of the alphabet, there is padding, or unused bits are set.

    >>> decode_base64url("-_8", field="id", max_bytes=10)
    b'\xfb\xff'
    """
    if type(text) is not str:
        raise ResponseMalformedError(f"`{field}` is not a string")
    if not text:
        raise ResponseMalformedError(f"`{field}` is empty")
    if len(text) > (max_bytes * 4 + 2) // 3:
        raise ResponseTooLargeError(f"`{field}` is longer than {max_bytes} bytes")
    try:
        raw = text.encode("ascii")
        data = binascii.a2b_base64(raw.translate(_URL_ALPHABET) + b"=" * (-len(raw) % 4))
    except ValueError:
        raise EncodingInvalidError(f"`{field}` is not base64url") from None
    # What does not come out as it went in had foreign letters, padding, or bits that nobody reads.
    if urlsafe_b64encode(data).rstrip(b"=") != raw:
        raise EncodingInvalidError(f"`{field}` is not base64url")
    return data


def encode_base64url(data: bytes) -> str:
    r"""
    Return *data* as WebAuthn writes it: base64url without padding.

    >>> encode_base64url(b"\xfb\xff")
    '-_8'
    """
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DuplicateKeyError("a key stands twice in one JSON object")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)


def decode_json(text: str) -> object:
    """
    Return what *text* holds as JSON.

    The caller has capped its length.

    Raises:
        ValueError: It is not JSON, or deeper or longer than can be read.
        DuplicateKeyError: An object has a key twice.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
