# SPDX-License-Identifier: Apache-2.0
"""Images and questions for the tests of the core."""

from __future__ import annotations

import functools
import json
import struct
import zlib
from typing import Any

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.layout import HEADER, SECTION, SECTIONS
from sidecar.model.decision import Answer
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import USER_ARN, build_snapshot

#: 2026-01-01T00:00:00Z.
NOW = 1_767_225_600

#: A snapshot with a little of everything that images hold.
GIVEN: dict[str, Any] = {
    "tags": {"team": "red"},
    "identity": [
        {"Action": ["s3:Get*", "s3:PutObject"], "Resource": "arn:aws:s3:::bucket/${aws:username}/*"},
        {"Action": "app:*", "Condition": {"StringLike": {"app:text": ["a*b", "${aws:PrincipalTag/team}"]}}},
        {"Action": "app:*", "Condition": {"NumericLessThan": {"app:number": "10"}}},
        {"Action": "app:*", "Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}},
        {"Action": "app:*", "Condition": {"BinaryEquals": {"app:binary": "YWJj"}}},
        {"Action": "kms:*", "Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}}},
        {"Effect": "Deny", "NotAction": ["s3:*", "app:*", "kms:*", "sts:*"]},
    ],
    "boundary": "Allow",
    "scps": ["Allow"],
    "resource_policy": {"Principal": {"AWS": USER_ARN}, "Action": "s3:ListBucket"},
}


@functools.cache
def image_bytes() -> bytes:
    """Compile the snapshot of these tests."""
    return write_image(build_snapshot(GIVEN))


@functools.cache
def image() -> core.Image:
    """Load the snapshot of these tests."""
    return core.Image.from_bytes(image_bytes())


def image_of(**given: Any) -> core.Image:
    """Load an image of a snapshot in the format of the conformance cases."""
    return core.Image.from_bytes(write_image(build_snapshot(given)))


def request(**parts: Any) -> AuthorizationRequest:
    """Make a request; *context* takes texts and lists of texts."""
    context = {
        key: ContextValue((value,)) if isinstance(value, str) else ContextValue(tuple(value), multivalued=True)
        for key, value in parts.pop("context", {}).items()
    }
    wanted = {"principal": USER_ARN, "action": "app:Read", "resource": "*", **parts}
    return AuthorizationRequest(context=context, **wanted)


def authorize(asked: AuthorizationRequest, by: core.Image | None = None) -> pb.AuthorizeResponse:
    """Ask with bytes, as every listener does."""
    answer = core.authorize(by or image(), core.encode_request(asked), seconds=NOW, nanos=0)
    return pb.AuthorizeResponse.FromString(answer)


def explain(asked: AuthorizationRequest, by: core.Image | None = None) -> Answer:
    """Ask with an explanation."""
    return core.explain(by or image(), asked, seconds=NOW, nanos=0)


def with_checksum(data: bytes | bytearray) -> bytes:
    """Make size and checksum of a changed image fit."""
    changed = bytearray(data)
    fields = [name for name, _, _ in HEADER.fields]
    values = list(HEADER.struct.unpack_from(changed))
    values[fields.index("total_size")] = len(changed)
    values[fields.index("checksum")] = zlib.crc32(memoryview(changed)[HEADER.struct.size :])
    HEADER.struct.pack_into(changed, 0, *values)
    return bytes(changed)


def field_place(section: str, record: int, field: str) -> tuple[int, str]:
    """Say where a field of a record stands in the image of these tests, and how it is packed."""
    number = [name for name, _ in SECTIONS].index(section)
    layout = SECTIONS[number][1]
    _, _, offset, count = SECTION.struct.unpack_from(image_bytes(), HEADER.struct.size + number * SECTION.struct.size)
    if record >= count:
        raise LookupError(f"{section} has {count} records")
    formats = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i64": "<q"}
    place = offset + record * layout.struct.size
    for name, kind, _ in layout.fields:
        if name == field:
            return place, formats[kind]
        place += struct.calcsize(formats[kind])
    raise LookupError(f"{section} has no field {field}")


def read_field(section: str, record: int, field: str) -> int:
    """Read a field of a record of the image of these tests."""
    place, packed = field_place(section, record, field)
    return int(struct.unpack_from(packed, image_bytes(), place)[0])


def changed_image(*changes: tuple[str, int, str, int]) -> bytes:
    """Give the image of these tests with fields changed: section, record, field, value."""
    data = bytearray(image_bytes())
    for section, record, field, value in changes:
        place, packed = field_place(section, record, field)
        struct.pack_into(packed, data, place, value)
    return with_checksum(data)


def document(*statements: dict[str, Any]) -> str:
    """Write a policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
