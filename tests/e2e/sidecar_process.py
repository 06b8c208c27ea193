# SPDX-License-Identifier: Apache-2.0
"""
A real sidecar in a process of its own, on ports that the system chose, and a small source for it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import grpc
import httpx

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc

ADA = "arn:aws:iam::111122223333:user/ada"
#: The longest that anything here is waited for; nothing takes that long.
PATIENCE = 60.0


def write_source(folder: Path, *, action: str = "s3:GetObject", sid: str = "Read", others: Sequence[str] = ()) -> Path:
    """Write a source in which ada may do *action* on a bucket of reports, and *others*, by path and name, nothing."""
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Sid": sid, "Effect": "Allow", "Action": action, "Resource": "arn:aws:s3:::reports/*"}],
    }
    dump = {
        "UserDetailList": [
            {
                "Path": "/",
                "UserName": "ada",
                "UserId": "AIDAEXAMPLE0000000000",
                "Arn": ADA,
                "CreateDate": "2024-05-01T12:00:00+00:00",
                "UserPolicyList": [{"PolicyName": "reports", "PolicyDocument": document}],
                "GroupList": [],
                "AttachedManagedPolicies": [],
                "Tags": [],
            },
            *(_user(number, *name.rpartition("/")[::2]) for number, name in enumerate(others, start=1)),
        ],
        "GroupDetailList": [],
        "RoleDetailList": [],
        "Policies": [],
    }
    (folder / "accounts").mkdir(parents=True, exist_ok=True)
    draft = folder / "accounts" / ".draft"
    draft.write_text(json.dumps(dump))
    draft.rename(folder / "accounts" / "main.json")
    return folder


def _user(number: int, path: str, name: str) -> dict[str, object]:
    folder = f"/{path}/" if path else "/"
    return {
        "Path": folder,
        "UserName": name,
        "UserId": f"AIDAEXAMPLE{number:010}",
        "Arn": f"arn:aws:iam::111122223333:user{folder}{name}",
        "CreateDate": "2024-05-01T12:00:00+00:00",
        "UserPolicyList": [],
        "GroupList": [],
        "AttachedManagedPolicies": [],
        "Tags": [],
    }


def question(action: str = "s3:GetObject", *, principal: str = ADA, **more: Any) -> pb.AuthorizeRequest:
    """Return a request about a report."""
    return pb.AuthorizeRequest(principal=principal, action=action, resource="arn:aws:s3:::reports/may.csv", **more)


def eventually(what: Callable[[], bool]) -> None:
    """Wait until *what* holds."""
    latest = monotonic() + PATIENCE
    while not what():
        assert monotonic() < latest, "it never came about"
        sleep(0.02)


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without settings that somebody may have there, and without a prompt on its usual port."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IAM_SIDECAR_")}
    return {**kept, "IAM_SIDECAR_PROMPT": "off", **(more or {})}


class Sidecar:
    """A process that runs ``iam-sidecar serve``."""

    def __init__(self, arguments: Sequence[str], *, state_dir: Path, environment: Mapping[str, str] | None = None):
        self.state_dir = state_dir
        self._log: list[str] = []
        command = [sys.executable, "-m", "sidecar", "serve", "--state-dir", str(state_dir), *arguments]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=clean_environment(environment),
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.line = self._lines.get(timeout=PATIENCE)
        if not self.line:
            self.process.wait(PATIENCE)
            raise AssertionError(f"it did not start: {self.log}")

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return "".join(self._log)

    def next_line(self) -> str:
        """Return the next line of its output, after that one."""
        return self._lines.get(timeout=PATIENCE)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that it has logged so far."""
        return [json.loads(line) for line in list(self._log) if line.startswith("{")]

    @property
    def token(self) -> str:
        """The administrator's token."""
        return (self.state_dir / "admin.token").read_text().strip()

    @property
    def credentials(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a call by the administrator."""
        return (("authorization", f"Bearer {self.token}"),)

    def addresses(self, listener: str) -> list[str]:
        """Return the addresses of *listener*, as the line says them."""
        parts = [part.strip().partition(" ") for part in self.line.partition("serving: ")[2].split(", ")]
        return [address for name, _, address in parts if name == listener]

    def address(self, listener: str) -> str:
        """Return the first address of *listener*."""
        assert self.addresses(listener), f"no {listener} in {self.line}"
        return self.addresses(listener)[0]

    @contextmanager
    def channel(self, listener: str = "management") -> Iterator[grpc.Channel]:
        """Connect to *listener*."""
        with grpc.insecure_channel(self.address(listener), options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield channel

    @contextmanager
    def authorization(self, listener: str = "management") -> Iterator[pb_grpc.AuthorizationServiceStub]:
        """Return a stub for decisions."""
        with self.channel(listener) as channel:
            yield pb_grpc.AuthorizationServiceStub(channel)

    def decide(self, request: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
        """Ask for a decision, as the administrator."""
        with self.authorization() as stub:
            answer: pb.AuthorizeResponse = stub.Authorize(request, metadata=self.credentials, timeout=PATIENCE)
            return answer

    def reload(self) -> pb.ReloadSnapshotResponse:
        """Have it reload, as the administrator."""
        with self.channel() as channel:
            stub = pb_grpc.SnapshotServiceStub(channel)
            response: pb.ReloadSnapshotResponse = stub.ReloadSnapshot(
                pb.ReloadSnapshotRequest(), metadata=self.credentials, timeout=PATIENCE
            )
            return response

    def get(self, path: str) -> httpx.Response:
        """Fetch a page of the http listener."""
        return httpx.get(f"http://{self.address('http')}{path}", trust_env=False, timeout=PATIENCE)

    def metric(self, sample: str) -> float:
        """Return the value of a sample, named with its labels, or 0 where there is none yet."""
        for line in self.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return status

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)


@contextmanager
def serving(
    source: Path, state_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Sidecar]:
    """Run a sidecar on free ports for the length of the block."""
    ports = []
    for flag in ("--data", "--management", "--http"):
        if flag not in arguments:
            ports += [flag, "127.0.0.1:0"]
    sidecar = Sidecar(["--snapshot", str(source), *ports, *arguments], state_dir=state_dir, environment=environment)
    try:
        yield sidecar
    finally:
        sidecar.stop()


def run_cli(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env=clean_environment(environment),
    )
