# SPDX-License-Identifier: Apache-2.0
"""
Why the target of a request is refused, in words.

The core says no more than that it is. This reads a target again, step by step as the core does, for people who ask why.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.compile.problems import Finding, error, quote
from sidecar.model.route import MAX_SEGMENTS, MAX_TARGET, RouteFlag

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
#: What whoever decodes once more would make something of: a dot, a separator, a percent sign, a NUL.
_STILL_ENCODED: Final = re.compile("%[0-9a-f]{2}", re.IGNORECASE)
_PRINTABLE: Final = re.compile(rb"[^\x00-\x20#\x7f]*")

_DOTS_HELP: Final = "an upstream may step into another folder"
_TWICE_HELP: Final = "an upstream that decodes twice would read another path"


def target_fault(target: bytes, flags: RouteFlag) -> Finding | None:
    """
    Say why *target*, path and query, cannot be read safely; None: it can.

    Args:
        flags: How targets are read.

    >>> target_fault(b"/a/%2e%2e/b", RouteFlag(0)).message
    'the segment `%2e%2e` means another folder'
    """
    if not target.startswith(b"/"):
        return error("the path does not begin with a slash", "an absolute URL, or `*`, is no path of a route")
    if len(target) > MAX_TARGET:
        return error(f"path and query have more than {MAX_TARGET:,} bytes")
    good = _PRINTABLE.match(target)
    if good is not None and good.end() < len(target):
        shown = quote(target[good.end() : good.end() + 1].decode("latin-1"))
        return error(f"the character {shown} stands in it raw", "clients send it encoded, and no fragment at all")
    parts = target.partition(b"?")[0][1:].split(b"/")
    if RouteFlag.MERGES_SLASHES in flags:
        parts = [part for part in parts[:-1] if part] + parts[-1:]
    if not all(parts[:-1]):
        return error("two slashes follow each other", "`paths.double_slashes: merge` reads them as one")
    if len(parts) > MAX_SEGMENTS:
        return error(f"the path has more than {MAX_SEGMENTS} segments")
    found = (_segment_fault(part, flags) for part in parts)
    return next((fault for fault in found if fault is not None), None)


def _segment_fault(part: bytes, flags: RouteFlag) -> Finding | None:
    shown = quote(part.decode("utf-8", "backslashreplace"))
    decoded = bytearray()
    place = 0
    for escape in _ESCAPE.finditer(part):
        if escape[1] is None:
            return error(f"a `%` in {shown} is followed by no two hexadecimal digits")
        decoded += part[place : escape.start()] + bytes.fromhex(escape[1].decode())
        place = escape.end()
    decoded += part[place:]
    if any(byte < 0x20 or byte == 0x7F for byte in decoded):
        return error(f"{shown} holds a control character")
    if b"\\" in decoded:
        return error(f"{shown} holds a backslash", "an upstream may read it as a slash")
    if b"/" in decoded and RouteFlag.KEEPS_ENCODED_SLASHES not in flags:
        return error(f"{shown} holds an encoded slash", "`paths.encoded_slashes: keep` leaves it in its segment")
    if b";" in decoded and RouteFlag.KEEPS_PARAMETERS not in flags:
        return error(f"{shown} holds a `;`", "`paths.parameters: keep` makes it an ordinary character")
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError:
        return error(f"{shown} is not valid UTF-8")
    if any(piece.partition(";")[0] in (".", "..") for piece in text.split("/")):
        return error(f"the segment {shown} means another folder", _DOTS_HELP)
    if _STILL_ENCODED.search(text):
        return error(f"{shown} is encoded twice", _TWICE_HELP)
    return None
