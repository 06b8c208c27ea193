# SPDX-License-Identifier: Apache-2.0
"""The rings of the core, read as the decision log reads them."""

import grpc
import pytest

from sidecar import core
from sidecar.services.raw_records import MANAGEMENT_WORKER, split_records
from sidecar.transports.addresses import TcpAddress
from sidecar.transports.data_listener import DataListener, Recording
from sidecar.transports.decision_source import CoreRecords
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc
from tests.unit.core.asking import image_of

REQUEST = pb.AuthorizeRequest(principal="arn:aws:iam::111122223333:user/ada", action="s3:GetObject", resource="*")
#: 2026-01-01T00:00:00Z.
NOW = 1_767_225_600


def recorder() -> core.Recorder:
    made = core.Recorder()
    made.keep_log(ring_bytes=1 << 16, allows=1.0, denials=1.0, must_record=False)
    return made


def test_source_when_nothing_was_decided_then_there_are_no_records() -> None:
    source = CoreRecords(recorder=recorder(), listener=None)

    assert source.read_records(0) == source.read_records(1) == b""
    assert source.statistics() == {"offered": 0, "sampled_out": 0, "dropped": 0}


def test_source_when_python_asked_then_the_record_is_its_request_and_answer() -> None:
    made = recorder()
    source = CoreRecords(recorder=made, listener=None)
    answer = core.authorize(None, REQUEST.SerializeToString(), seconds=NOW, nanos=5, recorder=made)

    (record,), damaged = split_records(source.read_records(0))

    assert damaged == 0
    assert (record.worker, record.method, record.sequence) == (MANAGEMENT_WORKER, 1, 0)
    assert record.time == NOW * 10**9 + 5
    assert record.decision == pb.DECISION_IMPLICIT_DENY
    assert (record.request, record.answer) == (REQUEST.SerializeToString(), answer)
    assert source.read_records(0) == b""


def test_source_when_a_ring_is_full_then_the_drops_are_counted() -> None:
    made = recorder()
    source = CoreRecords(recorder=made, listener=None)
    for _ in range(1000):
        core.authorize(None, REQUEST.SerializeToString(), seconds=NOW, nanos=0, recorder=made)
    kept = split_records(source.read_records(0))[0]
    statistics = source.statistics()

    assert 0 < len(kept) < 1000
    assert [record.sequence for record in kept] == list(range(len(kept)))
    assert statistics == {"offered": 1000, "sampled_out": 0, "dropped": 1000 - len(kept)}


@pytest.mark.parametrize("workers", [1, 2])
def test_source_when_the_data_listener_answered_then_its_records_come_too_even_after_its_end(workers: int) -> None:
    recording = Recording(ring_bytes=1 << 20, allows=1.0, denials=1.0, must_record=False)
    listener = DataListener(addresses=[TcpAddress("127.0.0.1", 0)], workers=workers, recording=recording)
    made = recorder()
    source = CoreRecords(recorder=made, listener=listener)
    assert source.read_records(1) == b""
    listener.publish(image_of(identity=[{"Effect": "Allow", "Action": "*", "Resource": "*"}]))
    (address,) = listener.start()
    channels = [
        grpc.insecure_channel(
            str(address), options=[("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(4)
    ]
    for channel in channels:
        pb_grpc.AuthorizationServiceStub(channel).Authorize(REQUEST, timeout=30)
    found = [source.read_records(200)]
    for channel in channels:
        pb_grpc.AuthorizationServiceStub(channel).BatchAuthorize(
            pb.BatchAuthorizeRequest(requests=[REQUEST] * 3), timeout=30
        )
        channel.close()
    listener.stop(5)
    found.append(source.read_records(200))

    records = [record for block in found for record in split_records(block)[0]]
    assert sorted(record.method for record in records) == [1] * 4 + [2] * 12
    assert {record.request for record in records} == {REQUEST.SerializeToString()}
    assert {record.worker for record in records} == set(range(workers))
    assert source.statistics()["offered"] == 16
