# SPDX-License-Identifier: Apache-2.0
"""
The decision log, up to where Python takes the records: nothing that matters waits for it, and what is lost is counted.
"""

import threading
from collections.abc import Iterator
from functools import partial
from time import monotonic, sleep, time_ns
from typing import Any

import pytest

from sidecar.model.decision import Decision, PolicyLayer, Reason
from sidecar.model.listener import RpcMethod, RpcStatus
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.listener.peers import AUTHORIZE, BATCH_AUTHORIZE, HEALTH_CHECK, Answer, Client, Wire, call_fields, framed
from tests.listener.serving import (
    PATIENCE,
    Listener,
    Record,
    batch,
    eventually,
    listening,
    question,
    read_records,
    right_answer,
)

#: The smallest ring.
RING = 4096
ALLOWED, DENIED = question(), question("s3:DeleteObject")
AUDIT_UNAVAILABLE = (Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.AUDIT_UNAVAILABLE)


def log(**changed: Any) -> dict[str, Any]:
    """Return how a log is kept: all of it, whatever the reader does, unless *changed*."""
    return {"ring_bytes": RING, "allows": 1.0, "denials": 1.0, "must_record": False, **changed}


def records(listener: Listener) -> list[Record]:
    """Read what is there."""
    return read_records(listener.server.read_records())


def fill(listener: Listener, client: Client) -> int:
    """Ask until one more record does not fit, and return how many did."""
    asked = 0
    size = 0
    while listener.ring("waiting_bytes") + size <= RING:
        before = listener.ring("waiting_bytes")
        assert client.call(ALLOWED).message == right_answer(ALLOWED)
        size = listener.ring("waiting_bytes") - before
        asked += 1
    return asked


def reason_of(answer: Answer) -> str:
    """Return why a call was denied, or an empty text."""
    response = pb.AuthorizeResponse.FromString(answer.message)
    return "" if response.decision == pb.DECISION_ALLOW else response.reason


@pytest.fixture
def required() -> Iterator[tuple[Listener, Client]]:
    """A listener whose ring is full and whose denials are not recorded, and a client of it."""
    with listening(log=log(denials=0.0, must_record=True)) as listener, Client(listener.place) as client:
        fill(listener, client)
        yield listener, client


def test_records_when_decisions_are_made_then_each_has_its_request_and_answer() -> None:
    with listening(log=log(ring_bytes=1 << 16)) as listener, Client(listener.place) as client:
        begun = time_ns()
        for asked in (ALLOWED, DENIED):
            client.call(asked)
        client.call(batch(ALLOWED, DENIED), BATCH_AUTHORIZE)
        client.call(question("nonsense"))
        client.call(b"", HEALTH_CHECK)
        ended = time_ns()

        found = records(listener)

        assert [record.request for record in found] == [ALLOWED, DENIED, ALLOWED, DENIED]
        assert [record.answer for record in found] == [right_answer(record.request) for record in found]
        assert [record.method for record in found] == [
            RpcMethod.AUTHORIZE,
            RpcMethod.AUTHORIZE,
            RpcMethod.BATCH_AUTHORIZE,
            RpcMethod.BATCH_AUTHORIZE,
        ]
        assert [Decision(record.decision) for record in found] == [Decision.ALLOW, Decision.IMPLICIT_DENY] * 2
        assert [record.sequence for record in found] == [0, 1, 2, 3]
        assert {record.worker for record in found} == {0}
        assert begun <= found[0].time <= found[1].time <= found[2].time == found[3].time <= ended
        assert records(listener) == []
        assert listener.ring("offered") == 4
        assert listener.ring("waiting_bytes") == 0


def test_records_when_there_are_two_workers_then_each_counts_its_own() -> None:
    with listening(log=log(ring_bytes=1 << 16), workers=2) as listener:
        with Client(listener.place) as one, Client(listener.place) as two:
            for _ in range(3):
                one.call(ALLOWED)
                two.call(ALLOWED)
        found = records(listener)

    assert [(record.worker, record.sequence) for record in found] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_records_when_the_ring_goes_round_then_all_are_whole() -> None:
    with listening(log=log()) as listener, Client(listener.place) as client:
        sequence = 0
        for number in range(300):
            asked = question(context={"app:text": pb.ContextValue(values=["x" * (number % 37)])})
            client.call(asked)
            if number % 4 == 3:
                found = records(listener)
                assert [record.sequence for record in found] == list(range(sequence, sequence + 4))
                assert found[-1].request == asked
                assert found[-1].answer == right_answer(asked)
                sequence += 4
        assert listener.ring("dropped") == 0


def test_records_when_only_some_may_be_read_then_whole_ones_come() -> None:
    with listening(log=log(ring_bytes=1 << 16)) as listener, Client(listener.place) as client:
        for _ in range(10):
            client.call(ALLOWED)
        found = []
        assert listener.server.read_records(10) == b""
        while block := listener.server.read_records(1000):
            assert len(block) <= 1000
            found += read_records(block)
        assert [record.sequence for record in found] == list(range(10))


def test_best_effort_when_the_ring_is_full_then_answers_leave_and_drops_are_counted() -> None:
    with listening(log=log()) as listener, Client(listener.place) as client:
        for _ in range(100):
            assert client.call(ALLOWED).message == right_answer(ALLOWED)
        client.call(batch(*[ALLOWED] * 50), BATCH_AUTHORIZE)

        assert listener.ring("offered") == 150
        dropped = listener.ring("dropped")
        found = records(listener)
        assert len(found) + dropped == 150
        assert dropped > 0
        client.call(ALLOWED)
        # The gap in the sequence is the drop.
        assert records(listener)[0].sequence - found[-1].sequence - 1 == dropped
        assert listener.total("parked") == 0


@pytest.mark.parametrize(("allows", "denials"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.1), (0.0, 0.0), (1.0, 1.0)])
def test_sampling_when_shares_are_given_then_so_many_are_recorded(allows: float, denials: float) -> None:
    calls = 400
    with listening(log=log(ring_bytes=1 << 20, allows=allows, denials=denials)) as listener:
        with Client(listener.place) as client:
            for _ in range(2):
                client.call(batch(*[ALLOWED] * calls), BATCH_AUTHORIZE)
                client.call(batch(*[DENIED] * calls), BATCH_AUTHORIZE)
        found = records(listener)
        assert len(found) + listener.ring("sampled_out") == 4 * calls
        assert listener.ring("offered") == len(found)
        assert listener.ring("dropped") == 0
        for decision, share in ((Decision.ALLOW, allows), (Decision.IMPLICIT_DENY, denials)):
            kept = sum(record.decision == decision for record in found)
            if share in (0.0, 1.0):
                assert kept == share * 2 * calls
            else:
                # The generator begins alike each time, so this does not depend on luck.
                assert abs(kept / (2 * calls) - share) < 0.06
        # What is sampled out is counted as decided.
        assert sum(listener.decisions().values()) == 4 * calls


def test_required_when_the_ring_is_full_then_one_call_waits_and_is_denied_while_others_go_on(
    required: tuple[Listener, Client],
) -> None:
    listener, client = required
    with Client(listener.place) as other:
        waiting = client.start()
        client.send(waiting, framed(ALLOWED))
        eventually(lambda: listener.total("parked") == 1)
        begun = monotonic()
        served = 0
        while not client.answers[waiting].has_ended:
            # On the same connection, and on another.
            assert reason_of(client.call(DENIED)) == "no_identity_allow"
            assert other.call(b"", HEALTH_CHECK).status is RpcStatus.OK
            served += 1
            assert monotonic() - begun < PATIENCE
        assert served > 1
        assert reason_of(client.answers[waiting]) == "audit_unavailable"
        assert listener.decisions()[AUDIT_UNAVAILABLE] == 1
        assert listener.ring("dropped") == 1
        # Once there is room, nobody waits.
        records(listener)
        assert client.call(ALLOWED).message == right_answer(ALLOWED)
        assert listener.total("parked") == 1


def test_required_when_nobody_reads_then_a_call_waits_a_tenth_of_a_second(required: tuple[Listener, Client]) -> None:
    _, client = required
    waited = []
    for _ in range(4):
        # A worker without calls looks at its times once a second; that must not lengthen the wait.
        sleep(0.03)
        begun = monotonic()
        assert reason_of(client.call(ALLOWED)) == "audit_unavailable"
        waited.append(monotonic() - begun)
    assert min(waited) >= 0.1
    assert min(waited[1:]) < 0.5


def test_required_when_the_ring_is_read_in_time_then_the_answer_leaves(required: tuple[Listener, Client]) -> None:
    listener, client = required
    reasons = []
    for attempt in range(1, 21):
        waiting = client.start()
        client.send(waiting, framed(ALLOWED))
        eventually(partial(lambda number: listener.total("parked") == number, attempt))
        waiting_for = len(records(listener))
        answer = client.finish(waiting)
        reasons.append(reason_of(answer))
        if reasons[-1] == "":
            assert answer.message == right_answer(ALLOWED)
            assert waiting_for > 5
            assert [record.answer for record in records(listener)] == [right_answer(ALLOWED)]
            assert listener.ring("dropped") == attempt - 1
            return
        # This process was too slow; fill the ring again.
        fill(listener, client)
    raise AssertionError(reasons)


def test_required_when_a_batch_does_not_fit_then_all_of_it_is_denied() -> None:
    with listening(log=log(must_record=True)) as listener, Client(listener.place) as client:
        asked = [ALLOWED, DENIED] * 20
        answer = client.call(batch(*asked), BATCH_AUTHORIZE)

        responses = pb.BatchAuthorizeResponse.FromString(answer.message).responses
        assert [response.reason for response in responses] == ["audit_unavailable"] * 40
        assert {response.decision for response in responses} == {pb.DECISION_IMPLICIT_DENY}
        assert listener.decisions() == {AUDIT_UNAVAILABLE: 40}
        assert listener.ring("dropped") == 40
        assert records(listener) == []
        assert client.call(batch(*asked[:4]), BATCH_AUTHORIZE).status is RpcStatus.OK
        assert [record.request for record in records(listener)] == asked[:4]


def test_required_when_many_wait_then_each_is_denied_and_none_is_forgotten(required: tuple[Listener, Client]) -> None:
    listener, client = required
    streams = [client.start() for _ in range(100)]
    for stream in streams:
        client.send(stream, framed(ALLOWED))
    assert {reason_of(client.finish(stream)) for stream in streams} == {"audit_unavailable"}
    assert listener.total("parked") == 100
    assert listener.total("streams") == 0


def test_required_when_the_deadline_comes_first_then_deadline_exceeded(required: tuple[Listener, Client]) -> None:
    listener, client = required
    answer = client.call(ALLOWED, fields=call_fields(AUTHORIZE, grpc_timeout="20m"))

    assert answer.status is RpcStatus.DEADLINE_EXCEEDED
    assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.DEADLINE_EXCEEDED) == 1
    assert listener.ring("dropped") == 1


def test_required_when_the_client_leaves_meanwhile_then_nothing_is_left_of_the_call(
    required: tuple[Listener, Client],
) -> None:
    listener, client = required
    waiting = client.start()
    client.send(waiting, framed(ALLOWED))
    with Wire(listener.place) as wire:
        wire.send(wire.call(1, ALLOWED))
        eventually(lambda: listener.total("parked") == 2)
    client.h2.reset_stream(waiting)
    client.flush()
    eventually(lambda: listener.total("streams") == 0)
    assert client.call(DENIED).status is RpcStatus.OK
    records(listener)
    assert client.call(ALLOWED).message == right_answer(ALLOWED)


def test_required_when_the_listener_drains_meanwhile_then_the_call_is_answered(
    required: tuple[Listener, Client],
) -> None:
    listener, _ = required
    with Wire(listener.place) as wire:
        wire.send(wire.call(1, ALLOWED))
        eventually(lambda: listener.total("parked") == 1)
        drain = threading.Thread(target=listener.server.drain, args=(PATIENCE,))
        drain.start()
        assert reason_of(wire.finish(1)) == "audit_unavailable"
        wire.goodbye()
        listener.server.close()
        drain.join(PATIENCE)


def test_reader_when_the_ring_fills_then_it_is_woken() -> None:
    with listening(log=log()) as listener, Client(listener.place) as client:
        woken = threading.Event()

        def wait() -> None:
            listener.server.wait_for_records(int(PATIENCE * 1000))
            woken.set()

        reader = threading.Thread(target=wait)
        reader.start()
        for _ in range(1000):
            if woken.is_set():
                break
            records(listener)
            for _ in range(5):
                client.call(ALLOWED)
        assert woken.is_set()
        reader.join(PATIENCE)


def test_reader_when_nothing_comes_then_it_waits_no_longer_than_told() -> None:
    with listening(log=log()) as listener:
        listener.server.wait_for_records(1)
        assert records(listener) == []


def test_close_when_records_were_not_read_then_they_can_still_be() -> None:
    with listening(log=log()) as listener, Client(listener.place) as client:
        client.call(ALLOWED)
        listener.server.close()
        assert [record.request for record in records(listener)] == [ALLOWED]
