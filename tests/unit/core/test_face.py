# SPDX-License-Identifier: Apache-2.0
"""The face of the core: answers in bytes and as nouns, threads, memory."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import tracemalloc
from typing import Any

import pytest

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.layout import HEADER, SECTION, SECTIONS, hash_text
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.compile.source import parse_source
from sidecar.model.decision import Answer, Decision, MfaMethod, MfaRequirement, PolicyLayer, Reason
from sidecar.model.errors import ImageError, RequestError
from sidecar.model.policy import PolicyKind
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import Case, build_snapshot, load_cases
from tests.unit.core.asking import NOW, document, explain, image, image_bytes, image_of, request

ANSWERED = [case for case in load_cases() if case.want.error is None and not case.simulation]


def _as_answer(response: pb.AuthorizeResponse) -> Answer:
    """Read an answer in bytes as the noun, as far as it goes."""
    requirement = None
    if response.HasField("mfa_requirement"):
        mfa = response.mfa_requirement
        requirement = MfaRequirement(
            max_age_seconds=mfa.max_age_seconds if mfa.HasField("max_age_seconds") else None,
            methods=tuple(MfaMethod[word.upper()] for word in mfa.methods),
            user_verification=mfa.user_verification,
        )
    return Answer(
        decision=Decision(response.decision),
        layer=PolicyLayer(response.layer),
        reason=Reason[response.reason.upper()],
        mfa_requirement=requirement,
        principal_arn=response.principal_arn,
    )


def test_answer_when_in_bytes_then_it_says_what_explaining_says() -> None:
    compared = 0
    for case in ANSWERED[::3]:
        if case.request.override:
            continue
        compared += _compare(case)
    assert compared > 100


def _compare(case: Case) -> int:
    loaded = core.Image.from_bytes(write_image(case.snapshot()))
    explained = core.explain(loaded, case.request, seconds=case.seconds, nanos=0)
    data = core.authorize(loaded, core.encode_request(case.request), seconds=case.seconds, nanos=0)
    response = pb.AuthorizeResponse.FromString(data)
    want = Answer(
        explained.decision, explained.layer, explained.reason, explained.mfa_requirement, explained.principal_arn
    )

    assert _as_answer(response) == want, case.id
    assert response.snapshot_revision == loaded.revision
    assert response.shadow_decision == int(explained.shadow_decision)
    assert response.SerializeToString() == data, "the bytes are those that protobuf writes"
    return 1


def test_request_when_encoded_then_protobuf_reads_it_back() -> None:
    asked = request(context={"app:a": "x", "app:b": ["y", ""], "app:\u00e9": []}, resource_account="1" * 12)
    message = pb.AuthorizeRequest.FromString(core.encode_request(asked))

    assert (message.principal, message.action, message.resource) == (asked.principal, asked.action, asked.resource)
    assert message.resource_account == asked.resource_account
    assert {key: (tuple(value.values), value.multivalued) for key, value in message.context.items()} == {
        key: (value.values, value.multivalued) for key, value in asked.context.items()
    }


def test_image_when_there_is_none_then_every_answer_is_a_denial() -> None:
    data = core.encode_request(request())
    response = pb.AuthorizeResponse.FromString(core.authorize(None, data, seconds=NOW, nanos=0))
    batch = core.batch_authorize(None, b"\x0a" + bytes([len(data)]) + data, seconds=NOW, nanos=0)

    assert (response.decision, response.reason) == (pb.DECISION_IMPLICIT_DENY, "no_snapshot")
    assert response.snapshot_revision == ""
    assert response.principal_arn == request().principal
    assert list(pb.BatchAuthorizeResponse.FromString(batch).responses) == [response]
    explained = core.explain(None, request(), seconds=NOW, nanos=0)
    assert (explained.decision, explained.reason) == (Decision.IMPLICIT_DENY, Reason.NO_SNAPSHOT)
    with pytest.raises(RequestError):
        core.authorize(None, b"\xff", seconds=NOW, nanos=0)


@pytest.mark.parametrize("wrong", [None, "text", 5, object()])
def test_call_when_it_is_given_no_bytes_then_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        core.authorize(image(), wrong, seconds=NOW, nanos=0)
    with pytest.raises(TypeError):
        core.batch_authorize(image(), wrong, seconds=NOW, nanos=0)
    with pytest.raises((TypeError, AttributeError)):
        core.explain(image(), wrong, seconds=NOW, nanos=0)
    if wrong is not None:
        with pytest.raises(TypeError):
            core.authorize(wrong, b"", seconds=NOW, nanos=0)


@pytest.mark.parametrize("seconds", [0, 1, NOW, 253402300799, 253402300800, 2**63 - 1])
def test_clock_when_anywhere_from_the_epoch_on_then_it_is_read(seconds: int) -> None:
    late = image_of(
        identity=[
            {"Action": "app:Text", "Condition": {"StringLike": {"aws:CurrentTime": "*-*-*T*Z", "aws:EpochTime": "*"}}},
            {"Action": "app:Date", "Condition": {"DateGreaterThanEquals": {"aws:CurrentTime": str(seconds)[:18]}}},
        ]
    )  # fmt: skip
    for action in ("app:Text", "app:Date"):
        answer = core.explain(late, request(action=action), seconds=seconds, nanos=999_999_999)
        assert answer.decision is Decision.ALLOW


@pytest.mark.parametrize("seconds", [-1, -(2**63)])
def test_clock_when_before_the_epoch_then_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="epoch"):
        core.authorize(image(), core.encode_request(request()), seconds=seconds, nanos=0)
    with pytest.raises(ValueError, match="epoch"):
        core.explain(image(), request(), seconds=seconds, nanos=0)
    with pytest.raises(OverflowError):
        core.authorize(image(), b"", seconds=2**63, nanos=0)
    with pytest.raises(OverflowError):
        core.authorize(image(), b"", seconds=0, nanos=-1)


def test_hash_when_of_texts_of_any_length_then_core_finds_what_the_compiler_placed() -> None:
    lengths = [*range(1, 70), 127, 128, 129, 400]
    keys = ["app:" + (f"k{length:03d}" * 150)[:length] for length in lengths]
    many = image_of(identity=[{"Action": "app:*", "Condition": {"StringEquals": {key: "v"}}} for key in keys])

    for number, key in enumerate(keys):
        matched = explain(request(context={key: "v"}), many).matched_statements
        assert [match.statement_index for match in matched if match.layer is PolicyLayer.IDENTITY] == [number]


def test_hash_when_in_a_table_then_each_text_stands_where_a_search_comes_by() -> None:
    whole = image_bytes()
    places = {name: number for number, (name, _) in enumerate(SECTIONS)}

    def section(name: str) -> tuple[int, int]:
        place = HEADER.struct.size + places[name] * SECTION.struct.size
        _, _, offset, count = SECTION.struct.unpack_from(whole, place)
        return offset, count

    strings, _ = section("STRINGS")
    for records, table in (("KEYS", "KEY_TABLE"), ("ACTIONS", "ACTION_TABLE"), ("PRINCIPALS", "PRINCIPAL_TABLE")):
        layout = SECTIONS[places[records]][1].struct
        start, count = section(records)
        slots_start, size = section(table)
        slots = memoryview(whole)[slots_start : slots_start + 4 * size].cast("I")
        for number in range(count):
            text, length = layout.unpack_from(whole, start + number * layout.size)[:2]
            slot = hash_text(whole[strings + text : strings + text + length]) & (size - 1)
            while slots[slot] != number + 1:
                assert slots[slot] != 0
                slot = (slot + 1) & (size - 1)


# Threads and memory.


def test_threads_when_images_are_swapped_then_each_answer_is_of_one_image() -> None:
    allowing, denying = image_of(identity="Allow"), image_of(identity="Deny")
    want = {
        allowing.revision: (pb.DECISION_ALLOW, "identity_allow"),
        denying.revision: (pb.DECISION_EXPLICIT_DENY, "explicit_deny"),
    }
    held = [allowing]
    data = core.encode_request(request(context={"app:a": "x"}))
    stop = threading.Event()
    wrong: list[object] = []
    asked = [0] * 8

    def ask(number: int) -> None:
        while not stop.is_set():
            response = pb.AuthorizeResponse.FromString(core.authorize(held[0], data, seconds=NOW, nanos=0))
            if want.get(response.snapshot_revision) != (response.decision, response.reason):
                wrong.append(response)
            asked[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    fresh = [write_image_of("Deny"), write_image_of("Allow")]
    for turn in range(400):
        # The image before goes as soon as nobody decides by it.
        held[0] = core.Image.from_bytes(fresh[turn % 2])
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert sum(asked) > 0


def write_image_of(identity: str) -> bytes:
    """Compile a policy of one statement for the user."""
    return write_image(build_snapshot({"identity": identity}))


def _resident() -> int:
    """Bytes of this process in memory; 0 where nobody says, or where a sanitizer keeps what was freed."""
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        return 0
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


def test_memory_when_asked_very_often_then_it_does_not_grow() -> None:
    good, bad = core.encode_request(request(context={"app:number": "3"})), b"\x0a\x05abc"

    def ask(times: int) -> None:
        for _ in range(times):
            core.authorize(image(), good, seconds=NOW, nanos=0)
            core.authorize(None, good, seconds=NOW, nanos=0)
        for _ in range(times // 20):
            for call in (core.authorize, core.batch_authorize):
                with pytest.raises(RequestError):
                    call(image(), bad, seconds=NOW, nanos=0)
            core.explain(image(), request(), seconds=NOW, nanos=0)

    def counts() -> list[int]:
        return [sys.getrefcount(thing) for thing in (image(), good, bad)]

    ask(2_000)
    gc.collect()
    references, nothing, before = counts(), sys.getrefcount(None), _resident()
    ask(100_000)
    gc.collect()

    assert counts() == references
    assert abs(sys.getrefcount(None) - nothing) < 100
    assert _resident() - before < 8 << 20


def test_memory_when_images_come_and_go_then_it_does_not_grow() -> None:
    data = write_image_of("Allow")
    damaged = image_bytes()[:-1] + b"x"
    for _ in range(10):
        core.Image.from_bytes(data)
    gc.collect()
    before = _resident()
    tracemalloc.start()
    try:
        for _ in range(500):
            core.Image.from_bytes(data)
            with pytest.raises(ImageError):
                core.Image.from_bytes(damaged)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
    assert _resident() - before < 8 << 20


# Documents of whatever size and depth.


@pytest.mark.parametrize(
    "text", ["[" * 10_000, '{"a":' * 10_000, "[" * 10_000 + "]" * 10_000, '{"Statement":' * 10_000]
)
def test_document_when_ten_thousand_deep_then_it_is_one_problem(text: str) -> None:
    problems = Problems()

    assert parse_policy(text, kind=PolicyKind.IDENTITY, problems=problems, file="p.json") is None
    assert problems.has_errors
    report = parse_source({"accounts/a.json": text.encode(), "organization.json": text.encode()})
    assert report.snapshot is None
    assert {problem.file for problem in report.problems} == {"accounts/a.json", "organization.json"}


def test_document_when_deep_in_quotes_inside_quotes_then_it_is_refused() -> None:
    inner: object = document({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    for _ in range(8):
        inner = json.dumps(inner)
    problems = Problems()

    assert parse_policy(inner, kind=PolicyKind.IDENTITY, problems=problems, file="p.json") is None
    assert problems.has_errors


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    "content",
    [
        b'{"UserDetailList": "' + b"a" * (50 << 20) + b'"}',
        b"[" * (50 << 20),
        b"9" * (50 << 20),
        b'"' + b"\\" * (50 << 20),
        b"\xff" * (50 << 20),
    ],
    ids=["text", "depth", "digits", "escapes", "no text"],
)
def test_document_when_of_fifty_megabytes_then_it_is_a_problem(content: bytes) -> None:
    report = parse_source({"accounts/a.json": content})

    assert report.snapshot is None
    assert 0 < len(report.problems) <= 3
    assert all(len(str(problem)) < 1_000 for problem in report.problems)


def test_policy_when_of_a_megabyte_then_the_quota_refuses_it() -> None:
    statements = [{"Effect": "Allow", "Action": f"s3:Get{number}", "Resource": "*"} for number in range(15_000)]
    problems = Problems()

    assert parse_policy(document(*statements), kind=PolicyKind.IDENTITY, problems=problems, file="p.json") is None
    assert problems.has_errors


def test_memory_when_it_is_returned_then_what_is_held_still_decides() -> None:
    question = core.encode_request(request())
    before = core.authorize(image(), question, seconds=NOW, nanos=0)

    core.return_memory()

    assert core.authorize(image(), question, seconds=NOW, nanos=0) == before
