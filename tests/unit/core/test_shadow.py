# SPDX-License-Identifier: Apache-2.0
"""
Images that hold another one: whatever is damaged in either is refused, and what is answered says what would be.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import struct

import pytest

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.layout import HEADER, SECTION, SECTION_NUMBERS, SECTIONS, SHADOW
from sidecar.model.decision import Decision
from sidecar.model.errors import ImageError, RequestError
from sidecar.model.snapshot import Snapshot
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import build_snapshot
from tests.unit.core.asking import GIVEN, NOW, authorize, request, with_checksum

READ = request(action="s3:GetObject", resource="arn:aws:s3:::bucket/alice/report.csv")
UNTIL = "2100-01-01T00:00:00Z"


@functools.cache
def snapshot(until: str = UNTIL) -> Snapshot:
    """A snapshot in which a Deny of everything, and another policy, stand in shadow."""
    identity = {"policies": [GIVEN["identity"], "Deny"]}
    shadow = {"shadow": ["identity-2", "resource_policy"], "shadow_until": until}
    return build_snapshot({**GIVEN, "identity": identity, **shadow})


@functools.cache
def image_bytes() -> bytes:
    return write_image(snapshot())


def section(data: bytes | bytearray, name: str) -> tuple[int, int]:
    """Say where a section begins, and how many records it has."""
    place = HEADER.struct.size + SECTION_NUMBERS[name] * SECTION.struct.size
    _, _, offset, count = SECTION.struct.unpack_from(data, place)
    return offset, count


def inner() -> bytes:
    """The image inside."""
    offset, count = section(image_bytes(), "SHADOW_IMAGE")
    return image_bytes()[offset : offset + count]


def with_inner(data: bytes) -> bytes:
    """Put another image, of the same size, into its place."""
    offset, count = section(image_bytes(), "SHADOW_IMAGE")
    assert len(data) == count
    return with_checksum(image_bytes()[:offset] + data + image_bytes()[offset + count :])


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        core.Image.from_bytes(data)
    return caught.value.message


def test_answer_when_something_stands_in_shadow_then_it_says_what_would_be() -> None:
    image = core.Image.from_bytes(image_bytes())

    answer = authorize(READ, image)

    assert (answer.decision, answer.shadow_decision) == (pb.DECISION_ALLOW, pb.DECISION_EXPLICIT_DENY)
    assert answer.snapshot_revision == image.revision
    explanation = core.explain(image, READ, seconds=NOW, nanos=0)
    assert (explanation.decision, explanation.shadow_decision) == (Decision.ALLOW, Decision.EXPLICIT_DENY)


def test_answer_when_nothing_stands_in_shadow_then_it_says_nothing_of_it() -> None:
    image = core.Image.from_bytes(write_image(dataclasses.replace(snapshot(), shadow=None)))

    assert authorize(READ, image).shadow_decision == pb.DECISION_UNSPECIFIED
    assert image.shadow_entries == ()
    with pytest.raises(ValueError, match="nothing in the image stands in shadow"):
        image.with_shadow_in_force()


def test_batch_when_something_stands_in_shadow_then_each_answer_says_what_would_be() -> None:
    image = core.Image.from_bytes(image_bytes())
    recorder = core.Recorder()
    asked = [core.encode_request(one) for one in (READ, request(action="s3:DeleteObject"))]
    batch = pb.BatchAuthorizeRequest(requests=[pb.AuthorizeRequest.FromString(one) for one in asked])

    answers = core.batch_authorize(image, batch.SerializeToString(), seconds=NOW, nanos=0, recorder=recorder)

    found = pb.BatchAuthorizeResponse.FromString(answers).responses
    assert [answer.shadow_decision for answer in found] == [pb.DECISION_EXPLICIT_DENY] * 2
    assert found[0].SerializeToString() == core.authorize(image, asked[0], seconds=NOW, nanos=0)
    assert recorder.telemetry()["shadow"] == {(1, 2): 1, (3, 2): 1}


def test_batch_when_a_request_in_it_is_malformed_then_nothing_is_counted() -> None:
    recorder = core.Recorder()
    good = pb.AuthorizeRequest.FromString(core.encode_request(READ))
    batch = pb.BatchAuthorizeRequest(requests=[good, pb.AuthorizeRequest(action="none")])

    with pytest.raises(RequestError):
        core.batch_authorize(
            core.Image.from_bytes(image_bytes()), batch.SerializeToString(), seconds=NOW, nanos=0, recorder=recorder
        )

    assert recorder.telemetry()["shadow"] == {}


def test_record_when_something_stands_in_shadow_then_it_holds_the_answer_with_it() -> None:
    recorder = core.Recorder()
    recorder.keep_log(ring_bytes=1 << 16, allows=1.0, denials=1.0, must_record=True)

    answer = core.authorize(
        core.Image.from_bytes(image_bytes()), core.encode_request(READ), seconds=NOW, nanos=0, recorder=recorder
    )

    assert recorder.read_records().rstrip(b"\0").endswith(answer.rstrip(b"\0"))
    assert recorder.telemetry()["shadow"] == {(1, 2): 1}


def test_record_when_it_has_no_place_then_the_denial_says_nothing_of_a_shadow() -> None:
    recorder = core.Recorder()
    recorder.keep_log(ring_bytes=4096, allows=1.0, denials=1.0, must_record=True)
    image = core.Image.from_bytes(image_bytes())
    answers = [
        pb.AuthorizeResponse.FromString(
            core.authorize(image, core.encode_request(READ), seconds=NOW, nanos=0, recorder=recorder)
        )
        for _ in range(20)
    ]

    refused_ones = [answer for answer in answers if answer.reason == "audit_unavailable"]
    assert refused_ones
    assert {answer.shadow_decision for answer in refused_ones} == {pb.DECISION_UNSPECIFIED}
    assert recorder.telemetry()["shadow"] == {(1, 2): len(answers) - len(refused_ones)}


def test_answer_when_an_entry_has_ended_then_what_it_denies_is_denied_before_the_next_image() -> None:
    image = core.Image.from_bytes(write_image(snapshot("2026-01-01T00:00:01Z")))
    answers = {
        seconds: pb.AuthorizeResponse.FromString(
            core.authorize(image, core.encode_request(READ), seconds=seconds, nanos=0)
        ).decision
        for seconds in (NOW, NOW + 1, NOW + 10**9)
    }

    assert answers == {
        NOW: pb.DECISION_ALLOW,
        NOW + 1: pb.DECISION_EXPLICIT_DENY,
        NOW + 10**9: pb.DECISION_EXPLICIT_DENY,
    }
    answer = core.explain(image, READ, seconds=NOW + 1, nanos=0)
    assert "identity-2" in {match.policy for match in answer.matched_statements}


def test_image_when_its_shadow_has_a_shadow_then_it_is_refused() -> None:
    everything = snapshot().shadow
    assert everything is not None
    deep = dataclasses.replace(everything, snapshot=dataclasses.replace(everything.snapshot, shadow=everything))

    data = write_image(dataclasses.replace(snapshot(), shadow=deep))

    assert refused(data) == "the shadow in the image cannot be used: it has one of its own"


def test_shadow_when_its_bytes_are_damaged_then_the_image_is_refused() -> None:
    whole = inner()
    assert "its checksum does not match" in refused(with_inner(whole[:-1] + bytes([whole[-1] ^ 1])))
    assert "it does not begin like an image" in refused(with_inner(b"x" + whole[1:]))
    assert "its length is not" in refused(with_inner(bytes(with_checksum(whole[:-64])) + bytes(64)))


@pytest.mark.parametrize("name", ["SHADOW", "SHADOW_IMAGE"])
def test_image_when_it_has_entries_or_a_shadow_alone_then_it_is_refused(name: str) -> None:
    data = bytearray(image_bytes())
    struct.pack_into("<Q", data, HEADER.struct.size + SECTION_NUMBERS[name] * SECTION.struct.size + 16, 0)

    assert "what it holds in shadow is damaged" in refused(with_checksum(data))


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", 0xFFFFFFFF), ("id_len", 0x7FFFFFFF), ("until", -1), ("until", 2**62), ("kind", 2)],
)
def test_entry_when_it_is_damaged_then_the_image_is_refused(field: str, value: int) -> None:
    data = bytearray(image_bytes())
    offset, _ = section(data, "SHADOW")
    values = list(SHADOW.struct.unpack_from(data, offset))
    values[[name for name, _, _ in SHADOW.fields].index(field)] = value
    SHADOW.struct.pack_into(data, offset, *values)

    assert "what it holds in shadow is damaged" in refused(with_checksum(data))


def test_entries_when_they_are_out_of_order_then_the_image_is_refused() -> None:
    data = bytearray(image_bytes())
    offset, count = section(data, "SHADOW")
    assert count == 2
    values = list(SHADOW.struct.unpack_from(data, offset))
    values[2] += 1
    SHADOW.struct.pack_into(data, offset, *values)

    assert "what it holds in shadow is damaged" in refused(with_checksum(data))


def test_shadow_when_a_word_of_it_is_changed_then_the_image_is_refused_or_still_decides() -> None:
    whole = inner()
    behind_table = HEADER.struct.size + len(SECTIONS) * SECTION.struct.size
    # A thousand or so of them, spread over the whole of it; the fuzz target `shadow` goes on where this ends.
    places = range(HEADER.struct.size, len(whole) - 4, max(4, (len(whole) - behind_table) // 800 // 4 * 4))
    outcomes = set()
    for place in places:
        for value in (0xFFFFFFFF, 1):
            data = bytearray(whole)
            struct.pack_into("<I", data, place, value)
            try:
                image = core.Image.from_bytes(with_inner(with_checksum(data)))
            except ImageError as error:
                outcomes.add(error.message.partition(":")[0])
                continue
            answer = authorize(READ, image)
            outcomes.add(json.dumps([answer.decision, answer.shadow_decision != 0]))

    assert outcomes == {"the shadow in the image cannot be used", json.dumps([1, True])}
