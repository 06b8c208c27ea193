# SPDX-License-Identifier: Apache-2.0
"""
A real Envoy in a process of its own, on the configuration of the example, on ports that the system chose.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.sidecar_process import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "envoy"
#: Where ``scripts/test`` puts it, if the machine has none.
UNPACKED = ROOT / "build" / "envoy" / "envoy" / "_bin"

Json = dict[str, Any]


def find_envoy() -> str | None:
    """Return the program; None where there is none."""
    return shutil.which("envoy", path=str(UNPACKED)) or shutil.which("envoy")


def envoy_program() -> str:
    """Return the program, or skip the test."""
    found = find_envoy()
    if found is None:
        pytest.skip("envoy is not on this machine; scripts/test fetches it")
    return found


def example_config() -> Json:
    """Return the configuration of the example."""
    config: Json = yaml.safe_load((EXAMPLE / "envoy.yaml").read_text())
    # What stands there once by an anchor is changed apart by tests.
    return copy.deepcopy(json.loads(json.dumps(config)))


def placed_config(
    *, data: str | Sequence[str], keys: Path, folder: Path, shop: str, shop_grpc: str, prompt: str = "127.0.0.1:1"
) -> Json:
    """Return the configuration of the example with other places in it; *data* are addresses of sidecars."""
    text = json.dumps(example_config()).replace("/etc/envoy/", f"{keys}/").replace("/run/iam-sidecar/", f"{folder}/")
    config: Json = json.loads(text)
    config["admin"]["address"] = _address("127.0.0.1:0")
    for listener in config["static_resources"]["listeners"]:
        listener["address"] = _address("127.0.0.1:0")
    places = {"iam-sidecar-prompt": [prompt], "shop": [shop], "shop-grpc": [shop_grpc]}
    places["iam-sidecar"] = [data] if isinstance(data, str) else list(data)
    for name, addresses in places.items():
        set_endpoints(config, name, addresses)
    return config


def set_endpoints(config: Json, cluster: str, addresses: Sequence[str]) -> None:
    """Have a cluster of *config* lead to *addresses*."""
    endpoints = [{"endpoint": {"address": _address(address)}} for address in addresses]
    found = next(one for one in config["static_resources"]["clusters"] if one["name"] == cluster)
    found["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]


def _address(text: str) -> Json:
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:")}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def connection_managers(config: Json) -> list[Json]:
    """Return what every listener of *config* does with HTTP, to be changed."""
    return [
        listener["filter_chains"][0]["filters"][0]["typed_config"]
        for listener in config["static_resources"]["listeners"]
    ]


def http_filter(manager: Json, name: str) -> Json:
    """Return the settings of a filter, to be changed."""
    found = next(one for one in manager["http_filters"] if one["name"] == f"envoy.filters.http.{name}")
    settings: Json = found["typed_config"]
    return settings


def ext_authz(config: Json) -> list[Json]:
    """Return the settings of the filter that asks the sidecar, one for each listener, to be changed."""
    return [http_filter(manager, "ext_authz") for manager in connection_managers(config)]


def validate(config: Json, folder: Path) -> subprocess.CompletedProcess[str]:
    """Have Envoy look at a configuration."""
    path = folder / "validated.json"
    path.write_text(json.dumps(config))
    command = [envoy_program(), "--mode", "validate", "--log-level", "error", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


class Envoy:
    """
    A process that runs Envoy.

    Thread-safety: confined to one thread.
    """

    def __init__(self, config: Json, folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "envoy.json").write_text(json.dumps(config))
        self._admin_path = folder / "admin"
        self._admin_path.unlink(missing_ok=True)
        self.log_path = folder / "envoy.log"
        self.access_log = Path(_access_log_path(config) or folder / "access.log")
        command = [envoy_program(), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warning"]
        command += ["--admin-address-path", str(self._admin_path), "--file-flush-interval-msec", "50"]
        command += [*(arguments or ["--disable-hot-restart"])]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait_until_live()

    def _wait_until_live(self) -> None:
        latest = monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, f"Envoy ended: {self.log_path.read_text()[-3000:]}"
            assert monotonic() < latest, f"Envoy does not start: {self.log_path.read_text()[-3000:]}"
            if self._admin_path.exists() and (address := self._admin_path.read_text()):
                self.admin = address
                try:
                    if self.get("/ready").text == "LIVE\n":
                        return
                except httpx.TransportError:
                    pass
            sleep(0.02)

    def get(self, path: str) -> httpx.Response:
        """Fetch a page for administrators."""
        return httpx.get(f"http://{self.admin}{path}", trust_env=False, timeout=PATIENCE)

    def port(self, listener: str = "http") -> int:
        """Return the port of a listener."""
        for status in self.get("/listeners?format=json").json()["listener_statuses"]:
            if status["name"] == listener:
                return int(status["local_address"]["socket_address"]["port_value"])
        raise AssertionError(f"there is no listener {listener}")

    def stat(self, name: str) -> int:
        """Return a counter or gauge, 0 where there is none yet."""
        for line in self.get(f"/stats?filter=^{name.replace('.', '[.]')}$").text.splitlines():
            found, _, value = line.partition(": ")
            if found == name:
                return int(value)
        return 0

    def wait_for_cluster(self, cluster: str = "iam-sidecar", healthy: int = 1) -> None:
        """Wait until that many endpoints of a cluster are healthy."""
        latest = monotonic() + PATIENCE
        while self.stat(f"cluster.{cluster}.membership_healthy") != healthy:
            assert monotonic() < latest, f"{cluster} is never healthy: {self.get('/clusters').text}"
            sleep(0.02)

    def logged(self, request_id: str) -> Json:
        """Return the line of the access log about a request, when it is there."""
        latest = monotonic() + PATIENCE
        while True:
            lines = self.access_log.read_text().splitlines() if self.access_log.exists() else []
            for line in lines:
                if request_id in line:
                    found: Json = json.loads(line)
                    return found
            assert monotonic() < latest, f"{request_id} is never logged"
            sleep(0.02)

    def stop(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def _access_log_path(config: Json) -> str | None:
    for manager in connection_managers(config):
        for log in manager.get("access_log", []):
            path: str = log["typed_config"]["path"]
            return path
    return None


@contextmanager
def envoy(config: Json, folder: Path, *arguments: str) -> Iterator[Envoy]:
    """Run Envoy for the length of the block."""
    running = Envoy(config, folder, *arguments)
    try:
        yield running
    finally:
        running.stop()


class Shop:
    """The service of the example in a process of its own; it tells what arrives."""

    def __init__(self) -> None:
        command = [sys.executable, str(EXAMPLE / "shop.py"), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        words = self.process.stdout.readline().replace(",", "").split()
        assert words[:5] == ["the", "shop", "is", "open", "at"], words
        self.http, self.grpc = words[6], words[8]

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def shop() -> Iterator[Shop]:
    """Run the service of the example for the length of the block."""
    running = Shop()
    try:
        yield running
    finally:
        running.stop()
