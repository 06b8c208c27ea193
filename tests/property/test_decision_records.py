# SPDX-License-Identifier: Apache-2.0
"""
The decision log against any records: nothing is invented, nothing is lost, and a line is always a line.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sidecar.services.raw_records import ALIGNMENT, RawRecord, count_records, pack_record, split_block, split_records
from sidecar.services.record_masks import FIELDS, Masker, parse_masks
from sidecar.services.spill import Spill
from sidecar.transports.decision_records import RecordRenderer
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

_text = st.text(st.characters(codec="utf-8"), max_size=12)
_values = st.builds(
    lambda values, multivalued: pb.ContextValue(values=values, multivalued=multivalued),
    st.lists(_text, max_size=3),
    st.booleans(),
)
_requests = st.builds(
    lambda principal, action, resource, account, context: pb.AuthorizeRequest(
        principal=principal, action=action, resource=resource, resource_account=account, context=context
    ).SerializeToString(),
    _text | st.just("arn:aws:iam::111122223333:user/ada"),
    _text | st.just("s3:GetObject"),
    _text | st.just("arn:aws:s3:::reports/x"),
    _text,
    st.dictionaries(_text, _values, max_size=4),
)
_answers = st.builds(
    lambda decision, layer, reason, principal: pb.AuthorizeResponse(
        decision=decision, layer=layer, reason=reason, principal_arn=principal
    ).SerializeToString(),
    st.integers(0, 4),
    st.integers(0, 9),
    _text,
    _text,
)
raw_records = st.builds(
    RawRecord,
    worker=st.integers(0, 2**16 - 1),
    method=st.integers(0, 255),
    decision=st.integers(0, 255),
    time=st.integers(-(2**63), 2**63 - 1),
    read_ns=st.integers(0, 2**32 - 1),
    decision_ns=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**64 - 1),
    request=_requests | st.binary(max_size=40),
    answer=_answers | st.binary(max_size=40),
)


@given(st.lists(raw_records, max_size=8), st.binary(max_size=39))
def test_block_when_read_then_it_gives_the_records_that_were_written(records: list[RawRecord], tail: bytes) -> None:
    block = b"".join(map(pack_record, records))

    assert len(block) % ALIGNMENT == 0
    assert split_records(block) == (records, 0)
    # Fewer bytes than a header make no record.
    assert split_records(block + tail) == (records, len(tail))
    assert count_records(block + tail) == len(records)


@given(st.binary(max_size=400))
def test_block_when_it_is_any_bytes_then_no_record_reaches_beyond_it(block: bytes) -> None:
    records, damaged = split_records(block)

    assert 0 <= damaged <= len(block)
    assert sum(len(record.request) + len(record.answer) for record in records) <= len(block) - damaged


@given(st.lists(raw_records, max_size=12), st.binary(max_size=60), st.integers(1, 600))
def test_block_when_split_then_the_pieces_are_whole_records_and_make_the_block(
    records: list[RawRecord], tail: bytes, limit: int
) -> None:
    block = b"".join(map(pack_record, records)) + tail
    pieces = split_block(block, limit)
    whole = split_records(block)[0]

    assert b"".join(pieces) == block
    assert [record for piece in pieces for record in split_records(piece)[0]] == whole
    assert all(len(piece) <= limit or count_records(piece) <= 1 for piece in pieces[:-1])


@given(raw_records, st.booleans())
def test_record_when_rendered_then_it_is_one_json_object_on_one_line(raw: RawRecord, is_masked: bool) -> None:
    masker = Masker(parse_masks([*FIELDS, "requestParameters.context.*"]), bytes(32)) if is_masked else None
    line = RecordRenderer(masker).render(raw)
    said = json.loads(line)

    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert (said["worker"], said["sequence"]) == (raw.worker, raw.sequence)
    assert RecordRenderer(masker).render(raw) == line


@given(st.data())
def test_spill_when_used_in_any_way_then_it_is_a_bounded_queue(data: st.DataObject) -> None:
    """Any mix of appending, reading and starting again gives the blocks in order, each at least once."""
    bound = 256 * 1024
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "spill"
        spill = Spill(folder=folder, max_bytes=bound)
        spill.open()
        want: deque[bytes] = deque()
        for number in range(data.draw(st.integers(1, 40))):
            step = data.draw(st.sampled_from(["append", "append", "read", "again"]))
            if step == "append":
                block = b"%d:" % number + bytes(data.draw(st.sampled_from([0, 100, 20_000, 60_000])))
                if spill.append(block):
                    want.append(block)
            elif step == "read":
                assert spill.read() == (want.popleft() if want else None)
                spill.advance()
            else:
                spill.close()
                spill = Spill(folder=folder, max_bytes=bound)
                spill.open()
            assert sum(path.stat().st_size for path in folder.glob("*.spill")) <= bound
            assert spill.is_empty == (not want)
        while want:
            assert spill.read() == want.popleft()
            spill.advance()
        assert spill.read() is None
        assert spill.damaged_bytes == 0
        spill.close()
