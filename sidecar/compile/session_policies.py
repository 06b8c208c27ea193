# SPDX-License-Identifier: Apache-2.0
"""
Session policies, compiled into the few bytes that a token carries.

What `write_image` makes of them, without header, checksum and the sections that are empty. All numbers are
little-endian::

    u16 format version of images | u16 count of entries, each: u16 number of a section, u16 count of its records
    the records of each section, in the order of the entries, each section at a multiple of 8

``ext/claims.pxi`` reads it in place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sidecar.compile.image import write_image
from sidecar.compile.layout import FORMAT_VERSION, HEADER, SECTION, SECTIONS
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.model.errors import LimitExceededError, PolicySyntaxError
from sidecar.model.policy import Policy, PolicyKind
from sidecar.model.snapshot import Snapshot

#: SPEC: STS, AssumeRole: plain text of all session policies, in characters, white space included.
MAX_PLAIN_POLICIES = 2048
#: Bytes of compiled session policies; AWS does not say what its limit on a "packed" policy is.
MAX_PACKED_POLICIES = 4096

_ALIGNMENT = 8
_U16S = struct.Struct("<HH")


def compile_session_policies(documents: Sequence[str]) -> bytes:
    """
    Compile *documents*, which are in force together: a statement of any allows, a statement of any denies.

    Returns:
        What stands in the claims of a token; nothing for no documents.

    Raises:
        PolicySyntaxError: They cannot be used; each problem says in which one, as ``session_policies[0]``.
        LimitExceededError: They are too long, or what they are compiled to is.
    """
    if not documents:
        return b""
    size = sum(len(document) for document in documents)
    if size > MAX_PLAIN_POLICIES:
        raise LimitExceededError(
            f"the session policies have {size} characters in all, of at most {MAX_PLAIN_POLICIES}",
            help="white space counts; leave it out, or name actions and resources with wildcards",
        )
    packed = pack_policies(_parse(documents))
    if len(packed) > MAX_PACKED_POLICIES:
        raise LimitExceededError(
            f"packed policy too large: the session policies take {_percentage(len(packed))} % of the room for them",
            help="leave out statements, or name actions and resources with wildcards",
        )
    return packed


def pack_policies(policies: Sequence[Policy]) -> bytes:
    """Return checked *policies* in the form of a token, however long that is."""
    return _pack(write_image(Snapshot(session_policies=tuple(policies))))


def _percentage(size: int) -> int:
    return -(-size * 100 // MAX_PACKED_POLICIES)


def _parse(documents: Sequence[str]) -> tuple[Policy, ...]:
    problems = Problems()
    policies = []
    for index, text in enumerate(documents):
        name = f"session_policies[{index}]"
        document = parse_policy(text, kind=PolicyKind.SESSION, problems=problems, file=name, check_quota=False)
        if document is not None:
            policies.append(Policy(name, document))
    if problems.has_errors:
        count = problems.error_count
        raise PolicySyntaxError(
            f"the session policies have {count} error{'s' if count != 1 else ''}", problems=problems.items
        )
    return tuple(policies)


def _pack(image: bytes) -> bytes:
    """Leave out of *image* what the core can do without."""
    entries = bytearray()
    parts: list[bytes] = []
    for number, (name, _) in enumerate(SECTIONS):
        _, size, offset, count = SECTION.struct.unpack_from(image, HEADER.struct.size + number * SECTION.struct.size)
        data = image[offset : offset + size * count]
        # A table that finds nothing is nothing but zeros.
        if any(data) if name.endswith("_TABLE") else data:
            entries += _U16S.pack(number, count)
            parts.append(data)
    packed = bytearray(_U16S.pack(FORMAT_VERSION, len(parts)) + entries)
    for part in parts:
        packed += bytes(-len(packed) % _ALIGNMENT)
        packed += part
    return bytes(packed)
