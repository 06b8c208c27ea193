# SPDX-License-Identifier: Apache-2.0
"""
The end of a listener: no call is lost, no peer can put it off.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from hyperframe.frame import DataFrame, PingFrame

from sidecar.model.listener import CloseReason, ListenerLimit, RpcMethod, RpcStatus
from sidecar.transports.data_listener import DataLimits
from tests.listener.peers import Answer, Client, Wire, connect, framed
from tests.listener.serving import PATIENCE, Listener, eventually, listening, question, right_answer

#: The last stream of a GOAWAY that only says that there will be another.
ANY = 2**31 - 1


@contextmanager
def draining(listener: Listener, *, seconds: float = PATIENCE) -> Iterator[list[bool]]:
    """Drain a listener beside the block, and wait for that to end; the list then says how."""
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(listener.server.drain(seconds)))
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("unix", [False, True])
def test_drain_when_calls_are_under_way_then_each_is_answered_before_the_end(unix: bool) -> None:
    with listening(workers=2, unix=unix) as listener, ExitStack() as stack:
        wires = [stack.enter_context(Wire(listener.places[number % len(listener.places)])) for number in range(6)]
        for wire in wires:
            wire.send(*[wire.headers(stream) for stream in range(1, 20, 2)])
            wire.send(DataFrame(1, framed(question()), flags=["END_STREAM"]))
            assert wire.finish(1).message == right_answer(question())
        with draining(listener) as outcome:
            for wire in wires:
                while not wire.goodbyes:
                    wire.receive()
                assert wire.goodbyes[0].last_stream_id == ANY
                for stream in range(3, 20, 2):
                    wire.send(DataFrame(stream, framed(question()), flags=["END_STREAM"]))
                for stream in range(3, 20, 2):
                    assert wire.finish(stream).message == right_answer(question())
                goodbye = wire.goodbye()
                assert goodbye is not None
                assert goodbye.last_stream_id == 19
        assert outcome == [True]
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.OK) == 60
        assert listener.closed(CloseReason.DRAINED) == 6


def test_drain_when_the_peer_does_not_know_yet_then_what_it_sends_is_answered() -> None:
    with listening() as listener, Wire(listener.place, answers=False) as wire:
        wire.send(wire.headers(1))
        wire.synchronize()
        with draining(listener) as outcome:
            while not wire.goodbyes:
                wire.receive()
            first = wire.goodbyes[0]
            assert first.last_stream_id == ANY
            assert first.error_code == 0
            # Two more calls were on their way, and so is the end of the first.
            wire.send(wire.call(3, question()), wire.call(5, question()))
            wire.send(DataFrame(1, framed(question()), flags=["END_STREAM"]))
            for stream in (1, 3, 5):
                assert wire.finish(stream).message == right_answer(question())
            wire.send(PingFrame(opaque_data=b"goodbye.", flags=["ACK"]))
            goodbye = wire.goodbye()
            assert goodbye is not None
            assert goodbye.last_stream_id == 5
            assert goodbye.error_code == 0
        assert outcome == [True]
        assert listener.closed(CloseReason.DRAINED) == 1


def test_drain_when_clients_ask_all_the_time_then_no_call_is_lost() -> None:
    def ask(listener: Listener, lost: list[int], answered: list[int]) -> None:
        with Wire(listener.place) as wire:
            streams: list[int] = []
            # The first GOAWAY is not the last word: calls may follow until the second.
            while len(wire.goodbyes) < 2:
                new = [2 * (len(streams) + number) + 1 for number in range(10)]
                streams += new
                with suppress(BrokenPipeError, ConnectionResetError):
                    wire.send(*[wire.call(stream, question()) for stream in new])
                while len(wire.goodbyes) < 2 and not all(
                    wire.answers.get(stream, Answer()).has_ended for stream in new
                ):
                    assert wire.receive() is not None
            goodbye = wire.goodbye()
            assert goodbye is not None
            done = [stream for stream in streams if wire.answers.get(stream, Answer()).trailers]
            lost += [stream for stream in streams if stream <= goodbye.last_stream_id and stream not in done]
            answered.append(len(done))

    lost: list[int] = []
    answered: list[int] = []
    with listening(workers=2) as listener:
        threads = [threading.Thread(target=ask, args=(listener, lost, answered)) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.OK) > 400)
        assert listener.server.drain(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert lost == []
        assert len(answered) == 4
        assert sum(answered) == listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.OK)


def test_drain_when_connections_do_nothing_then_they_are_told_and_end() -> None:
    with listening(workers=2) as listener, ExitStack() as stack:
        wires = [stack.enter_context(Wire(listener.place)) for _ in range(4)]
        for wire in wires:
            wire.send(wire.call(1, question()))
            wire.finish(1)
        with draining(listener) as outcome:
            for wire in wires:
                wire.goodbye()
                assert [frame.last_stream_id for frame in wire.goodbyes] == [ANY, 1]
        assert outcome == [True]
        assert listener.closed(CloseReason.DRAINED) == 4


def test_drain_when_it_has_begun_then_nobody_can_connect() -> None:
    with listening(unix=True) as listener:
        assert listener.server.drain(PATIENCE)
        for place in listener.places:
            with pytest.raises(ConnectionRefusedError):
                connect(place)


def test_drain_when_peers_answer_nothing_then_it_does_not_wait_for_them() -> None:
    # One that has not even begun, and one that acknowledges nothing.
    with (
        listening() as listener,
        Wire(listener.place, greets=False, answers=False) as silent,
        Wire(listener.place, answers=False) as deaf,
    ):
        deaf.synchronize()
        with draining(listener) as outcome:
            assert silent.goodbye() is not None
            assert deaf.goodbye() is not None
        assert outcome == [True]


def test_drain_when_a_call_never_ends_then_the_wait_is_bounded() -> None:
    with listening() as listener:
        with Wire(listener.place) as wire:
            wire.send(wire.headers(1))
            wire.synchronize()
            assert not listener.server.drain(0.1)
            assert listener.total("streams") == 1
            listener.server.close()
            wire.goodbye()
        assert listener.closed(CloseReason.STOPPED) == 1
        assert listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.CANCELLED) == 1


def test_drain_when_an_answer_is_not_taken_then_its_limit_ends_the_wait() -> None:
    with listening(DataLimits(write_seconds=0.1)) as listener, Wire(listener.place, settings={4: 0}) as wire:
        wire.send(wire.call(1, question()))
        wire.synchronize()
        with draining(listener) as outcome:
            wire.goodbye()
        assert outcome == [True]
        assert listener.hits(ListenerLimit.SLOW_READER) == 1


def test_close_when_peers_are_connected_then_all_end_at_once() -> None:
    with listening(workers=2) as listener, ExitStack() as stack:
        clients = [stack.enter_context(Client(listener.place)) for _ in range(5)]
        for client in clients:
            client.call(question())
        listener.server.close()
        for client in clients:
            client.drain()
        assert listener.closed(CloseReason.STOPPED) == 5
