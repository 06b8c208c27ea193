# SPDX-License-Identifier: Apache-2.0
"""
Patterns of the model as the core matches them: text with wildcard bytes, and the cheapest kind that will do.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.compile import layout
from sidecar.compile.layout import CONSTANTS
from sidecar.model.errors import PolicyError
from sidecar.model.policy import ArnPattern, Pattern, Piece, Variable, Wildcard

WILD_RUN = bytes([layout.WILD_RUN])
WILD_CHAR = bytes([layout.WILD_CHAR])
_WILD_BYTES = bytes.maketrans(b"*?", WILD_RUN + WILD_CHAR)

PATTERN_ANY = CONSTANTS["PATTERN_ANY"]
PATTERN_EXACT = CONSTANTS["PATTERN_EXACT"]
PATTERN_PREFIX = CONSTANTS["PATTERN_PREFIX"]
PATTERN_GLOB = CONSTANTS["PATTERN_GLOB"]
PATTERN_TEMPLATE = CONSTANTS["PATTERN_TEMPLATE"]

#: Kind of a pattern and its text with wildcard bytes, or the pieces of a template.
Encoded = tuple[int, bytes | tuple[Piece, ...]]


def encode_piece(piece: Piece) -> bytes:
    """Encode a literal or a wildcard."""
    if piece is Wildcard.ANY_RUN:
        return WILD_RUN
    if piece is Wildcard.ANY_CHAR:
        return WILD_CHAR
    if isinstance(piece, str):
        return piece.encode()
    raise TypeError(f"a variable has no text: {piece!r}")


def pattern_kind(pattern: Encoded) -> int:
    """Return the kind, by which patterns of one set are ordered."""
    return pattern[0]


def _text_pattern(text: bytes, prefix_colons: int) -> Encoded:
    """
    Choose the cheapest kind for *text* with wildcard bytes.

    A prefix must hold *prefix_colons* colons: in an ARN only the last field may end anywhere.
    """
    if text == WILD_RUN:
        return PATTERN_ANY, b""
    if WILD_CHAR not in text:
        place = text.find(WILD_RUN)
        if place < 0:
            return PATTERN_EXACT, text
        if place == len(text) - 1 and text.count(b":") >= prefix_colons:
            return PATTERN_PREFIX, text[:-1]
    return PATTERN_GLOB, text


def _encode_pieces(pieces: Sequence[Piece], prefix_colons: int) -> Encoded:
    if any(type(piece) is Variable for piece in pieces):
        if len(pieces) > CONSTANTS["MAX_PIECES"]:
            raise PolicyError(f"a text of {len(pieces)} pieces with policy variables is too long")
        return PATTERN_TEMPLATE, tuple(pieces)
    return _text_pattern(b"".join([encode_piece(piece) for piece in pieces]), prefix_colons)


def encode_action(text: str) -> Encoded:
    """Encode an action pattern, whose wildcards are always active."""
    return _text_pattern(text.encode().translate(_WILD_BYTES), 0)


def encode_string(pattern: Pattern) -> Encoded:
    """Encode a value of a string or boolean operator."""
    return _encode_pieces(pattern.pieces, 0)


def encode_arn_value(pattern: Pattern) -> Encoded:
    """Encode a value of an ARN operator."""
    return _encode_pieces(pattern.pieces, 5)


def encode_resource(resource: ArnPattern) -> Encoded:
    """Encode an entry of ``Resource`` other than ``*``."""
    if "$" not in resource.text:
        # Without variables and escapes the text says it all.
        return _text_pattern(resource.text.encode().translate(_WILD_BYTES), 5)
    pieces: list[Piece] = list(resource.fields[0].pieces)
    for field in resource.fields[1:]:
        pieces.append(":")
        pieces.extend(field.pieces)
    return _encode_pieces(pieces, 5)
