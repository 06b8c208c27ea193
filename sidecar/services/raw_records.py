# SPDX-License-Identifier: Apache-2.0
"""
Blocks of raw decision records, as the data listener hands them over.

A block is records one behind the other, each a multiple of eight bytes long: a header, the bytes of the request,
those of the answer, those of a note, padding. Nothing here looks into a request or an answer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple, Protocol

#: Little endian: size of the whole record, worker, method, decision, sizes of request and answer, time in nanoseconds
#: since the epoch, nanoseconds that reading and deciding took, sequence number, size of the note, four
#: bytes of nothing.
HEADER = struct.Struct("<IHBBIIqIIQI4x")
#: Every record starts at a multiple of this.
ALIGNMENT = 8
#: Worker number of decisions that were given by the management listener.
MANAGEMENT_WORKER = 65535


class RawRecord(NamedTuple):
    """
    One record, request and answer still as they were on the wire.

    Attributes:
        method: Number of the ``RpcMethod``.
        decision: Number of the decision on the wire.
        time: Nanoseconds since the epoch: the reading of the clock that the policies saw.
        read_ns: Nanoseconds that reading the request took.
        decision_ns: Nanoseconds that deciding took.
        sequence: Counts what this worker offered, so that a gap tells of dropped records.
        note: What a Check adds: texts with a NUL behind each; else empty.
    """

    worker: int
    method: int
    decision: int
    time: int
    read_ns: int
    decision_ns: int
    sequence: int
    request: bytes
    answer: bytes
    note: bytes = b""


class RecordSource(Protocol):
    """
    Where records come from: the rings of the workers.

    Thread-safety: ``read_records`` belongs to one thread, ``statistics`` to any.
    """

    def read_records(self, timeout_ms: int) -> bytes:
        """Return a block of records; an empty one if there were none for *timeout_ms* milliseconds."""
        ...

    def statistics(self) -> Mapping[str, int]:
        """Return how many records were ``offered``, ``sampled_out`` and ``dropped`` before they came here."""
        ...


def pack_record(record: RawRecord) -> bytes:
    """
    Return the bytes of *record*, padding included.

    >>> record = RawRecord(0, 1, 1, 0, 90, 250, 0, b"request", b"answer")
    >>> split_records(pack_record(record)) == ([record], 0)
    True
    """
    size = HEADER.size + len(record.request) + len(record.answer) + len(record.note)
    padding = -size % ALIGNMENT
    head = HEADER.pack(
        size + padding,
        record.worker,
        record.method,
        record.decision,
        len(record.request),
        len(record.answer),
        record.time,
        record.read_ns,
        record.decision_ns,
        record.sequence,
        len(record.note),
    )
    return b"".join((head, record.request, record.answer, record.note, bytes(padding)))


def split_records(block: bytes) -> tuple[list[RawRecord], int]:
    """Return the records of *block*, and how many bytes at its end make none; 0 if it is sound."""
    records = []
    offset = 0
    end = len(block)
    unpack = HEADER.unpack_from
    while end - offset >= HEADER.size:
        size, worker, method, decision, request_size, answer_size, time, read_ns, decision_ns, sequence, note_size = (
            unpack(block, offset)
        )
        request = offset + HEADER.size
        answer = request + request_size
        note = answer + answer_size
        if size % ALIGNMENT or size > end - offset or note + note_size > offset + size:
            break
        records.append(
            RawRecord(
                worker,
                method,
                decision,
                time,
                read_ns,
                decision_ns,
                sequence,
                block[request:answer],
                block[answer:note],
                block[note : note + note_size],
            )
        )
        offset += size
    return records, end - offset


def count_records(block: bytes) -> int:
    """Return how many records *block* holds."""
    return len(_starts(block)) - 1


def split_block(block: bytes, limit: int) -> list[bytes]:
    """Return *block* in pieces of whole records, each at most *limit* bytes unless one record is longer."""
    if len(block) <= limit:
        return [block]
    starts = _starts(block)
    # What follows the last sound record goes with it; whoever reads the piece says so.
    starts[-1] = len(block)
    pieces = []
    first = 0
    for start, after in zip(starts, starts[1:], strict=False):
        if after - first > limit and start > first:
            pieces.append(block[first:start])
            first = start
    pieces.append(block[first:])
    return pieces


def _starts(block: bytes) -> list[int]:
    """Return where each record of *block* starts, and where the last one ends."""
    starts = [0]
    offset = 0
    end = len(block)
    while end - offset >= HEADER.size:
        size = int.from_bytes(block[offset : offset + 4], "little")
        if size % ALIGNMENT or not HEADER.size <= size <= end - offset:
            break
        offset += size
        starts.append(offset)
    return starts
