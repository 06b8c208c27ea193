# SPDX-License-Identifier: Apache-2.0
"""
Threads and images: signals, shares of the work, swaps under load, and no use for the GIL.
"""

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest
from h2.settings import SettingCodes

from sidecar.core import Image
from sidecar.model.listener import RpcMethod, RpcStatus
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.listener.peers import BATCH_AUTHORIZE, Client, connect, framed
from tests.listener.serving import PATIENCE, Listener, batch, eventually, listening, question, right_answer, threads
from tests.unit.core.asking import image_of


def image_that(effect: str, number: int = 0) -> Image:
    """Make an image that allows or denies everything, unlike any other *number*."""
    return image_of(identity=[{"Sid": f"n{number}", "Effect": effect, "Action": "*", "Resource": "*"}])


def mappings() -> int:
    """Count the images that are mapped."""
    return sum("memfd:" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_threads_when_they_run_then_all_signals_are_blocked_in_them() -> None:
    before = threads("data-")
    with listening(workers=3):
        tasks = [task for task in threads("data-") if task not in before]
        assert sorted((task / "comm").read_text().strip() for task in tasks) == [
            "data-0",
            "data-1",
            "data-2",
            "data-accept",
        ]
        for task in tasks:
            status = (task / "status").read_text()
            blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
            free = {number for number in signal.valid_signals() if not blocked >> (number - 1) & 1}
            # Nobody can block these two.
            assert free <= {signal.SIGKILL, signal.SIGSTOP}
    assert threads("data-") == before


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("workers", [2, 3])
def test_connections_when_they_come_then_they_are_dealt_evenly(workers: int, unix: bool) -> None:
    def shares(listener: Listener) -> list[int]:
        return [counted["connections"] for counted in listener.server.telemetry()[1:]]

    with listening(workers=workers, unix=unix) as listener, ExitStack() as stack:
        clients = []
        for number in range(4 * workers):
            clients.append(stack.enter_context(Client(listener.places[number % len(listener.places)])))
            assert clients[-1].call(question()).message == right_answer(question())
            assert max(shares(listener)) - min(shares(listener)) <= 1
        assert shares(listener) == [4] * workers
        # Those of the first worker go; whoever comes next finds a place there.
        for client in clients[::workers]:
            client.close()
        eventually(lambda: listener.total("connections") == 4 * (workers - 1))
        assert sorted(shares(listener)) == [0] + [4] * (workers - 1)
        for _ in range(4):
            stack.enter_context(Client(listener.place)).call(question())
        assert shares(listener) == [4] * workers


def test_calls_when_python_keeps_the_gil_then_they_are_answered() -> None:
    program = """
import sys
from tests.listener.peers import Client
from tests.listener.serving import question
with Client(("127.0.0.1", int(sys.stdin.readline()))) as client:
    for _ in range(200):
        client.call(question())
"""
    with listening() as listener:
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True) as child:
            before = sys.getswitchinterval()
            # From here on this thread gives the GIL to nobody, so whoever answers does not need it.
            sys.setswitchinterval(1000)
            try:
                assert child.stdin is not None
                child.stdin.write(f"{listener.place[1]}\n")
                child.stdin.flush()
                latest = monotonic() + PATIENCE
                while listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.OK) < 200:
                    assert monotonic() < latest
            finally:
                sys.setswitchinterval(before)
        assert child.returncode == 0


@pytest.mark.parametrize("unix", [False, True])
def test_connections_when_there_was_no_image_yet_then_they_are_turned_away(unix: bool) -> None:
    with listening(unix=unix, is_empty=True) as listener:
        for place in listener.places:
            with connect(place) as early:
                assert early.recv(1) == b""
        assert listener.total("accepted") == 0
        listener.server.publish(image_that("Allow"))
        for place in listener.places:
            with Client(place) as client:
                answer = pb.AuthorizeResponse.FromString(client.call(question()).message)
                assert answer.decision == pb.DECISION_ALLOW
        # What is taken away again is another matter: who is connected is told.
        listener.server.publish(None)
        with Client(listener.place) as client:
            assert pb.AuthorizeResponse.FromString(client.call(question()).message).reason == "no_snapshot"


def test_images_when_workers_are_idle_then_old_ones_are_let_go() -> None:
    with listening(workers=3) as listener, Client(listener.place) as client:
        client.call(question())
        before = mappings()
        for number in range(5):
            listener.server.publish(image_that("Allow", number))
            assert listener.server.held_images() == 1
        # Only that of the listener is left, in the place of the one before.
        assert mappings() <= before + 1
        listener.server.publish(None)
        assert listener.server.held_images() == 0
        assert mappings() <= before


def test_images_when_they_are_swapped_under_load_then_each_answer_is_of_one_of_them() -> None:
    images = [image_that("Allow"), image_that("Deny")]
    asked = question()
    right = {right_answer(asked, by) for by in images}
    assert len(right) == 2
    failures: list[object] = []
    seen: set[bytes] = set()
    mixed = batch(*[asked] * 200)

    def ask(listener: Listener) -> None:
        try:
            with Client(listener.place) as client:
                for _ in range(60):
                    streams = [client.start() for _ in range(4)]
                    for stream in streams:
                        client.send(stream, framed(asked))
                    for stream in streams:
                        seen.add(client.finish(stream).message)
                    answered = pb.BatchAuthorizeResponse.FromString(client.call(mixed, BATCH_AUTHORIZE).message)
                    one = {response.SerializeToString() for response in answered.responses}
                    if len(one) != 1 or len(answered.responses) != 200:
                        failures.append(answered)
                    seen.update(one)
        except BaseException as error:
            failures.append(error)
            raise

    with listening(workers=2, by=images[0]) as listener:
        clients = [threading.Thread(target=ask, args=(listener,)) for _ in range(3)]
        for client in clients:
            client.start()
        swaps = 0
        while any(client.is_alive() for client in clients):
            swaps += 1
            listener.server.publish(images[swaps % 2])
            assert listener.server.held_images() == 1
        for client in clients:
            client.join(PATIENCE)
        assert failures == []
        assert seen == right
        assert swaps > 20
        listener.server.publish(images[1])
        with Client(listener.place) as last:
            assert last.call(asked).message == right_answer(asked, images[1])


def test_images_when_an_answer_is_still_being_read_then_the_old_one_is_let_go_all_the_same() -> None:
    with (
        listening() as listener,
        Client(listener.place, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}, refills=False) as client,
    ):
        stream = client.start()
        client.send(stream, framed(question()))
        eventually(lambda: listener.rpcs(RpcMethod.AUTHORIZE, RpcStatus.OK) == 1)
        listener.server.publish(image_that("Deny"))
        assert listener.server.held_images() == 1
        client.h2.increment_flow_control_window(1000, stream)
        client.flush()
        assert client.finish(stream).message == right_answer(question())


def test_processor_time_when_workers_run_then_it_is_told_for_each() -> None:
    with listening(workers=2) as listener:
        with Client(listener.place) as client:
            for _ in range(50):
                client.call(question())
        first, second = listener.server.worker_cpu_seconds()
        assert first > 0
        assert second >= 0
    assert listener.server.worker_cpu_seconds() == []


def test_server_when_it_has_ended_then_it_holds_no_image_that_comes_late() -> None:
    with listening() as listener:
        server = listener.server
        server.drain(PATIENCE)
        server.close()

        server.publish(image_that("Allow"))

        assert server.held_images() == 0
        assert server.worker_cpu_seconds() == []
