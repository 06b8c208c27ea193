# SPDX-License-Identifier: Apache-2.0
"""
What of the decision log is fuzzed: blocks of raw records, and files of the spill.
"""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from pathlib import Path

from sidecar.services.raw_records import HEADER, RawRecord, count_records, pack_record, split_block, split_records
from sidecar.services.record_masks import Masker, parse_masks
from sidecar.services.spill import Spill
from sidecar.transports.decision_records import RecordRenderer
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.fuzz.harness import EDGES, Target

_FRAME = struct.Struct("<II")
_HEAD_BYTES = 16

_renderer = RecordRenderer(
    Masker(parse_masks(["userIdentity.*", "resources.ARN", "remove:requestParameters.context.a*"]), bytes(32))
)


def _records() -> list[bytes]:
    contexts: tuple[dict[str, pb.ContextValue], ...] = (
        {},
        {"aws:SourceIp": pb.ContextValue(values=["203.0.113.9"]), "b": pb.ContextValue(values=["", "\u00e9"])},
    )
    answer = pb.AuthorizeResponse(
        decision=pb.DECISION_IMPLICIT_DENY,
        layer=pb.POLICY_LAYER_IDENTITY,
        reason="no_identity_allow",
        principal_arn="arn:aws:iam::111122223333:user/ada",
        mfa_requirement=pb.MfaRequirement(methods=["totp"]),
    ).SerializeToString()
    found = []
    for number, context in enumerate(contexts):
        request = pb.AuthorizeRequest(principal="a.amazonaws.com", action="s3:Get", resource="*", context=context)
        raw = RawRecord(number, 1, 3, 1_767_225_600 * 10**9, 90, 250, number, request.SerializeToString(), answer)
        found.append(pack_record(raw))
    return found


def _blocks() -> list[bytes]:
    records = _records()
    return [b"", *records, b"".join(records), b"".join(records * 5)]


def _run_block(data: bytes) -> str:
    records, damaged = split_records(data)
    pieces = split_block(data, 512)
    if b"".join(pieces) != data or sum(map(count_records, pieces)) < len(records):
        raise ValueError("a block in pieces is another block")
    packed = sum(HEADER.size + len(record.request) + len(record.answer) for record in records)
    if packed > len(data) - damaged:
        raise ValueError("records overlap")
    outcomes = set()
    for record in records:
        line = _renderer.render(record)
        said = json.loads(line)
        if line.count(b"\n") != 1 or not line.isascii():
            raise ValueError("a record is not one line of ASCII")
        outcomes.add(f"{said['decision']} {said.get('unreadable')} {said['userIdentity']['type']}")
    return f"{bool(damaged)} {' '.join(sorted(outcomes))}"


def _segments() -> list[bytes]:
    frames = [_FRAME.pack(len(block), zlib.crc32(block)) + block for block in _blocks() if block]
    head = struct.pack("<8sQ", b"IAMSPIL1", _HEAD_BYTES)
    return [head, head + frames[0], head + b"".join(frames), head + b"".join(frames) + frames[0][:-9]]


def _mend_segment(data: bytearray) -> None:
    """Make the checksums fit, as far as the lengths do."""
    offset = _HEAD_BYTES
    while offset + _FRAME.size <= len(data):
        (length, _) = _FRAME.unpack_from(data, offset)
        start = offset + _FRAME.size
        if start + length > len(data):
            return
        _FRAME.pack_into(data, offset, length, zlib.crc32(memoryview(data)[start : start + length]))
        offset = start + length


def _run_segment(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "0000000000000001.spill").write_bytes(data)
        spill = Spill(folder=Path(folder), max_bytes=1 << 20)
        spill.open()
        waiting = spill.waiting_bytes
        blocks = []
        while (block := spill.read()) is not None:
            blocks.append(block)
            spill.advance()
        read = sum(_FRAME.size + len(block) for block in blocks)
        if waiting and read + spill.damaged_bytes != waiting:
            raise ValueError(f"{waiting} bytes waited, {read} were read, {spill.damaged_bytes} given up")
        if not spill.is_empty or any(Path(folder).glob("*.spill")):
            raise ValueError("something was left behind")
        damaged = spill.damaged_bytes
        spill.close()
    return f"{min(len(blocks), 10)} {bool(damaged)} {' '.join(sorted({_run_block(block) for block in blocks}))}"


_NUMBERS = tuple(struct.pack("<I", edge) for edge in EDGES)

DECISION_LOG_TARGETS = (
    Target(
        name="decision-block",
        about="blocks of raw decision records, to lines",
        seeds=_blocks,
        run=_run_block,
        tokens=_NUMBERS,
        in_place=0.5,
        max_bytes=1 << 14,
    ),
    Target(
        name="decision-spill",
        about="files of the spill of the decision log, with checksums that fit",
        seeds=_segments,
        run=_run_segment,
        mend=_mend_segment,
        tokens=(*_NUMBERS, b"IAMSPIL1"),
        in_place=0.5,
        max_bytes=1 << 14,
    ),
    Target(
        name="decision-spill-torn",
        about="files of the spill of the decision log, as they come",
        seeds=_segments,
        run=_run_segment,
        in_place=0.5,
        max_bytes=1 << 14,
    ),
)
