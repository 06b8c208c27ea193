# SPDX-License-Identifier: Apache-2.0
"""
The little of DER (X.690) that extensions of attestation certificates are made of.
"""

from __future__ import annotations

from typing import NamedTuple

INTEGER = 0x02
OCTET_STRING = 0x04
ENUMERATED = 0x0A
SEQUENCE = 0x30
SET = 0x31


class Element(NamedTuple):
    """
    One element.

    Attributes:
        tag: Identifier octet of a low tag; of a high one, its number shifted by 8 with the first octet below.
    """

    tag: int
    content: bytes


def context_tag(number: int) -> int:
    """
    Return the ``tag`` of a constructed element with context-specific tag *number*.

    >>> hex(context_tag(1)), hex(context_tag(702))
    ('0xa1', '0x2bebf')
    """
    return 0xA0 | number if number < 31 else number << 8 | 0xBF


def read_elements(data: bytes) -> list[Element] | None:
    """Return the elements that *data* consists of, or None if it does not."""
    found = []
    at = 0
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 0x1F == 0x1F:
            number = 0
            for _ in range(3):
                if at >= len(data):
                    return None
                number = number << 7 | data[at] & 0x7F
                at += 1
                if not data[at - 1] & 0x80:
                    break
            else:
                return None
            tag |= number << 8
        if at >= len(data):
            return None
        length = data[at]
        at += 1
        if length & 0x80:
            width = length & 0x7F
            # DER writes every length in one way, and none of these extensions is longer than two octets can say.
            if not 1 <= width <= 2 or at + width > len(data):
                return None
            length = int.from_bytes(data[at : at + width], "big")
            if length < (0x80, 0x100)[width - 1]:
                return None
            at += width
        if at + length > len(data):
            return None
        found.append(Element(tag, data[at : at + length]))
        at += length
    return found


def read_one(data: bytes, tag: int) -> bytes | None:
    """Return the content of the one element of *data* if it has this *tag*."""
    found = read_elements(data)
    return found[0].content if found and len(found) == 1 and found[0].tag == tag else None


def read_octets(data: bytes) -> bytes | None:
    r"""
    Return what the octet string in *data* holds, or None if there is none.

    >>> read_octets(b"\x04\x01x")
    b'x'
    """
    return read_one(data, OCTET_STRING)
