# SPDX-License-Identifier: Apache-2.0
"""
The servers that are compared, each with a way to ask it, to see that it answers, and to read what it has counted.
"""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from prometheus_client.parser import text_string_to_metric_families

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench import cerbos
from tests.bench.check_call import CHECK
from tests.bench.inputs import ROOT
from tests.bench.load import LoadError, Target, listens, nothing_server, on_core, pin
from tests.e2e.sidecar_process import Sidecar, serving

AUTHORIZE = "/sidecar.v1.AuthorizationService/Authorize"
_PATIENCE = 60.0
#: How often a port is tried that somebody else was quicker to take.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Server:
    """
    Something that is measured.

    Attributes:
        name: In the figures.
        pid: Its process.
        addresses: Where it listens, by ``tcp`` and ``unix``.
        path: The method that is called.
        request: The message that h2load sends.
        answered: Returns how many calls it has answered with OK, by its own count.
        verify: Is given the bytes of an answer to *request*, and raises unless they are right.
        headers: What a call needs beside.
    """

    name: str
    pid: int
    addresses: dict[str, str]
    path: str
    request: bytes
    answered: Callable[[], int]
    verify: Callable[[bytes], None]
    headers: tuple[tuple[str, str], ...] = ()

    def target(self, transport: str) -> Target:
        """Return how it is called over *transport*."""
        return Target(self.addresses[transport], self.path, self.headers)

    def ask(self, request: bytes, transport: str = "tcp") -> bytes:
        """Return the bytes of the answer that grpcio gets for *request*."""
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(self.addresses[transport], options=options) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.path)
            answer: bytes = call(request, metadata=self.headers, timeout=_PATIENCE)
            return answer

    def check(self, transport: str) -> None:
        """
        See that it is this process that listens, alone, and that its answer is right.

        Raises:
            LoadError: One of that is not so.
        """
        if not listens(self.pid, self.addresses[transport]):
            raise LoadError(f"{self.name}: another process listens on {self.addresses[transport]}")
        self.verify(self.ask(self.request, transport))


def data_arguments(folder: Path) -> tuple[str, ...]:
    """Return the flags that make a sidecar serve decisions over TCP and on a socket in *folder*."""
    return ("--data", "127.0.0.1:0", "--data", f"unix:{folder / 'data.sock'}")


def by_transport(addresses: Sequence[str]) -> dict[str, str]:
    """
    Return *addresses* by transport.

    >>> by_transport(["127.0.0.1:9191", "unix:/run/data.sock"])
    {'tcp': '127.0.0.1:9191', 'unix': 'unix:/run/data.sock'}
    """
    return {"unix" if address.startswith("unix:") else "tcp": address for address in addresses}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(
    name: str,
    command: Sequence[str],
    count: Callable[[subprocess.Popen[bytes]], None],
    request: bytes,
    answer_bytes: int,
) -> Iterator[Server]:
    """Run a program that says where it listens, and ``answered N`` when *count* asks for it."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        tcp, local = _line_of(process).partition("serving: ")[2].split()

        def answered() -> int:
            count(process)
            return int(_line_of(process).removeprefix("answered "))

        def verify(answer: bytes) -> None:
            if len(answer) != answer_bytes:
                raise LoadError(f"{name} answers with {len(answer)} bytes instead of {answer_bytes}")

        yield Server(name, process.pid, {"tcp": tcp, "unix": local}, AUTHORIZE, request, answered, verify)
    finally:
        process.kill()
        process.wait(_PATIENCE)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _line_of(process: subprocess.Popen[bytes]) -> str:
    if process.stdout is None or not select.select([process.stdout], [], [], _PATIENCE)[0]:
        raise LoadError("the server says nothing")
    line = process.stdout.readline().decode().strip()
    if not line:
        raise LoadError("the server has ended")
    return line


def nothing(
    name: str, answer_bytes: int, scratch: Path, request: bytes, *, core: int
) -> AbstractContextManager[Server]:
    """Run the do-nothing server, which answers with *answer_bytes*, for the length of the block."""
    command = [str(nothing_server()), str(answer_bytes), "127.0.0.1:0", f"unix:{scratch / f'{name}.sock'}"]
    return _running(
        name, on_core(core, command), lambda process: process.send_signal(signal.SIGUSR1), request, answer_bytes
    )


def constant_server(answer: bytes, scratch: Path, request: bytes, *, core: int) -> AbstractContextManager[Server]:
    """Run our listener with a handler that always gives *answer*, so that transport and decision can be told apart."""
    file = scratch / "constant.answer"
    file.write_bytes(answer)
    command = [sys.executable, "-m", "tests.bench.constant_server", str(file)]
    command += ["127.0.0.1:0", f"unix:{scratch / 'constant.sock'}"]

    def count(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.write(b"\n")

    return _running("constant", on_core(core, command), count, request, len(answer))


def verify_authorize(want: int, principal: str) -> Callable[[bytes], None]:
    """Return what raises unless an answer has the decision *want* and is about *principal*."""

    def verify(data: bytes) -> None:
        answer = pb.AuthorizeResponse.FromString(data)
        if answer.decision != want or answer.principal_arn != principal:
            raise LoadError(f"not the answer that was to be: {answer}")

    return verify


def samples(sidecar: Sidecar, name: str, **labels: str) -> float:
    """Return the sum of the samples *name* of a sidecar that have *labels*, where they have such labels at all."""
    total = 0.0
    for family in text_string_to_metric_families(sidecar.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and all(sample.labels.get(key, value) == value for key, value in labels.items()):
                total += sample.value
    return total


def _authorized(sidecar: Sidecar, listener: str) -> Callable[[], int]:
    """Return what counts the calls of ``Authorize`` on *listener*."""
    methods = ("Authorize", "AuthorizationService/Authorize")

    def answered() -> int:
        return int(
            sum(
                samples(sidecar, "sidecar_rpcs_total", listener=listener, method=method, code="OK")
                for method in methods
            )
        )

    return answered


def sidecar_servers(
    sidecar: Sidecar, request: bytes = b"", verify: Callable[[bytes], None] = lambda answer: None
) -> tuple[Server, Server]:
    """Return the listeners of *sidecar*: the native one as ``ours``, and that on grpcio as ``grpcio``."""
    pid = sidecar.process.pid
    data, management = (by_transport(sidecar.addresses(listener)) for listener in ("data", "management"))
    return (
        Server("ours", pid, data, AUTHORIZE, request, _authorized(sidecar, "data"), verify),
        Server(
            "grpcio",
            pid,
            management,
            AUTHORIZE,
            request,
            _authorized(sidecar, "management"),
            verify,
            sidecar.credentials,
        ),
    )


def check_server(sidecar: Sidecar, request: bytes, verify: Callable[[bytes], None]) -> Server:
    """Return the native listener of *sidecar* as ``ours``, asked by Envoy's Check."""

    def answered() -> int:
        return int(samples(sidecar, "sidecar_rpcs_total", listener="data", method="Check", code="OK"))

    data = by_transport(sidecar.addresses("data"))
    return Server("ours", sidecar.process.pid, data, CHECK, request, answered, verify)


@contextmanager
def sidecar_on(source: Path, scratch: Path, *arguments: str, core: int) -> Iterator[Sidecar]:
    """Run a sidecar with every listener, over TCP and Unix sockets, on one processor for the length of the block."""
    scratch.mkdir(exist_ok=True)
    management = ("--management", "127.0.0.1:0", "--management", f"unix:{scratch / 'management.sock'}")
    settings = (*management, *data_arguments(scratch), "--watch-interval", "0", "--log-level", "error", *arguments)
    with serving(source, scratch / "state", *settings) as sidecar:
        pin(sidecar.process.pid, core)
        yield sidecar


@contextmanager
def cerbos_server(scratch: Path, question: cerbos.Question, *, core: int) -> Iterator[tuple[Server, cerbos.Cerbos]]:
    """Run Cerbos for the length of the block; *question* is what it is asked, and is allowed."""
    program = cerbos.install()
    with ExitStack() as stack:
        for number in range(_TRIES):
            folder = scratch / f"cerbos-{number}"
            folder.mkdir()
            ports = (free_port(), free_port())
            peer = stack.enter_context(cerbos.running(program, folder, core=core, ports=ports))
            if listens(peer.pid, peer.address):
                break

        def verify(answer: bytes) -> None:
            if not peer.allows(question, answer):
                raise LoadError(f"Cerbos does not allow {question}")

        yield (
            Server(
                "cerbos", peer.pid, {"tcp": peer.address}, cerbos.PATH, peer.encode(question), peer.answered, verify
            ),
            peer,
        )
