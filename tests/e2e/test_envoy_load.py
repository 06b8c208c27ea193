# SPDX-License-Identifier: Apache-2.0
"""Changes under load through a real Envoy: policies, sidecars and Envoy itself are replaced, and no answer is wrong."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import httpx
import pytest

from examples.envoy.keys import make_keys
from tests.e2e.envoy_process import Envoy, Json, Shop, envoy, envoy_program, placed_config, shop
from tests.e2e.protected_shop import API_KEY, BATCH, write_company
from tests.e2e.sidecar_process import PATIENCE, Sidecar, eventually, serving
from tests.e2e.test_docs import free_port

pytestmark = pytest.mark.peer

_CLIENTS = 4
#: Seconds between two requests of a client, so that what is replaced gets a processor, too.
_PAUSE = 0.01


class Load:
    """
    Clients that ask for what is allowed and for what is denied, until they are stopped.

    Thread-safety: the counter has a lock of its own.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        base = f"http://127.0.0.1:{self._port}"
        asked = 0
        while not self._stopped.is_set():
            # Some keep their connection for long, and some open many.
            with httpx.Client(trust_env=False, timeout=PATIENCE, headers={"x-api-key": API_KEY}) as client:
                for _ in range(1 if number % 2 else 20):
                    asked += 1
                    denied = asked % 3 == 0
                    target = "/orders" if denied else f"/orders/{number}-{asked}"
                    self._note(client, f"{base}{target}", denied)
                    sleep(_PAUSE)

    def _note(self, client: httpx.Client, url: str, denied: bool) -> None:
        want = "denied" if denied else "allowed"
        try:
            reply = client.get(url)
        except httpx.TransportError as error:
            outcome = f"{want}: {type(error).__name__} {error}"
        else:
            if reply.status_code == 200 and not denied:
                arrived = reply.json()["headers"]
                outcome = "allowed" if f"x-iam-principal: {BATCH}" in arrived else f"allowed as {arrived}"
            elif reply.status_code == 403 and denied and reply.json()["error"] == "access_denied":
                outcome = "denied"
            else:
                outcome = f"{want}: {reply.status_code} {reply.text[:200]}"
        with self._lock:
            self.seen[outcome] += 1

    def wait_for(self, more: int) -> None:
        """Wait until that many more answers are there."""
        want = self.seen.total() + more
        eventually(lambda: self.seen.total() >= want)

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)


@contextmanager
def load(port: int) -> Iterator[Load]:
    """Put load on Envoy for the length of the block; in the end every answer has been the right one."""
    running = Load(port)
    try:
        running.wait_for(40)
        yield running
        running.wait_for(40)
    finally:
        running.stop()
    assert set(running.seen) == {"allowed", "denied"}, running.seen


@pytest.fixture(scope="module")
def behind() -> Iterator[Shop]:
    envoy_program()
    with shop() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, behind: Shop) -> Callable[..., Json]:
    """Return what makes a configuration for sidecars at some addresses."""
    make_keys(tmp_path / "keys")

    def config(*data: str) -> Json:
        return placed_config(
            data=data, keys=tmp_path / "keys", folder=tmp_path, shop=behind.http, shop_grpc=behind.grpc
        )

    return config


def test_policies_when_they_are_swapped_under_load_then_no_answer_is_wrong(
    tmp_path: Path, start: Callable[..., Json]
) -> None:
    source = write_company(tmp_path / "company")
    data = f"unix:{tmp_path}/data.sock"
    revisions = set()
    with (
        serving(source, tmp_path / "state", "--data", data, "--watch-interval", "0") as sidecar,
        envoy(start(data), tmp_path / "envoy") as running,
        load(running.port()) as clients,
    ):
        for number in range(4):
            rewrite(source, number)
            revisions.add(sidecar.reload().snapshot.revision)
            clients.wait_for(40)
    assert len(revisions) == 4


def rewrite(source: Path, number: int) -> None:
    """Change the policies of bob, of whom nobody asks."""
    path = source / "accounts" / "shop.json"
    dump = json.loads(path.read_text())
    bob = next(user for user in dump["UserDetailList"] if user["UserName"] == "bob")
    bob["Tags"] = [{"Key": "version", "Value": str(number)}]
    draft = source / "accounts" / ".draft"
    draft.write_text(json.dumps(dump))
    draft.rename(path)


def test_sidecars_when_one_after_the_other_is_replaced_under_load_then_no_answer_fails(
    tmp_path: Path, start: Callable[..., Json]
) -> None:
    source = write_company(tmp_path / "company")
    sockets = [f"unix:{tmp_path}/{name}.sock" for name in "ab"]

    sidecars: list[Sidecar] = []

    def begin(number: int) -> None:
        listeners = ["--data", sockets[number], "--management", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        sidecars.append(Sidecar(["--snapshot", str(source), *listeners], state_dir=tmp_path / f"state-{number}"))

    try:
        begin(0)
        begin(1)
        with envoy(start(*sockets), tmp_path / "envoy") as running:
            running.wait_for_cluster(healthy=2)
            with load(running.port()) as clients:
                for number in (0, 1):
                    sidecars[number].stop()
                    begin(number)
                    running.wait_for_cluster(healthy=2)
                    clients.wait_for(40)
    finally:
        for sidecar in sidecars:
            sidecar.stop()


def test_envoy_when_it_restarts_hot_under_load_then_no_answer_fails(tmp_path: Path, start: Callable[..., Json]) -> None:
    source = write_company(tmp_path / "company")
    data = f"unix:{tmp_path}/data.sock"
    config: Json = start(data)
    port = free_port()
    config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
    drain = ["--drain-time-s", "1", "--parent-shutdown-time-s", "3", "--drain-strategy", "immediate"]
    with serving(source, tmp_path / "state", "--data", data):
        base = tmp_path / "base-id"
        first = Envoy(config, tmp_path / "first", "--use-dynamic-base-id", "--base-id-path", str(base), *drain)
        second = None
        try:
            with load(port) as clients:
                clients.wait_for(40)
                second = Envoy(
                    config, tmp_path / "second", "--base-id", base.read_text(), "--restart-epoch", "1", *drain
                )
                # The first one lets go of its connections and ends by itself.
                eventually(lambda: first.process.poll() is not None)
                clients.wait_for(40)
            assert first.process.returncode == 0
            assert second.stat("http.ingress.ext_authz.error") == 0
        finally:
            for running in filter(None, (first, second)):
                running.stop()
