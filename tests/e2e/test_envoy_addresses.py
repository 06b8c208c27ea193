# SPDX-License-Identifier: Apache-2.0
"""The address of a caller, `aws:SourceIp`, through a real Envoy with other proxies in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.envoy.keys import make_keys
from tests.e2e.envoy_process import Shop, connection_managers, envoy, envoy_program, placed_config, shop
from tests.e2e.protected_shop import API_KEY, restrict_to_office, send, write_company
from tests.e2e.sidecar_process import serving

pytestmark = pytest.mark.peer

OFFICE = "203.0.113.7"
PROXY = "198.51.100.1"
ELSEWHERE = "192.0.2.9"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Shop]]:
    envoy_program()
    folder = tmp_path_factory.mktemp("addresses")
    make_keys(folder / "keys")
    restrict_to_office(write_company(folder / "company"), f"{OFFICE}/32")
    with shop() as running:
        yield folder, running


@pytest.mark.parametrize(
    ("envoy_hops", "hops", "answers"),
    [
        # At the edge, a caller may say what it likes.
        (0, 0, {"": 403, OFFICE: 403, f"{OFFICE}, {OFFICE}": 403}),
        # One proxy: what it says of its own caller counts, and nothing that this one says.
        (1, 1, {"": 403, OFFICE: 200, f"{ELSEWHERE}, {OFFICE}": 200, f"{OFFICE}, {ELSEWHERE}": 403}),
        (1, 1, {f"{OFFICE}:4711": 200, "nonsense": 400, f"{OFFICE}, nonsense": 400}),
        (2, 2, {OFFICE: 403, f"{OFFICE}, {PROXY}": 200, f"{OFFICE}, {ELSEWHERE}, {PROXY}": 403}),
        # Envoy's own count changes what it logs and tells services, and nothing of what it tells the sidecar.
        (1, 0, {OFFICE: 403, "": 403}),
        (0, 1, {OFFICE: 200, f"{OFFICE}, {ELSEWHERE}": 403}),
    ],
)
def test_address_when_proxies_are_in_front_then_theirs_are_counted_off(
    base: tuple[Path, Shop], tmp_path: Path, envoy_hops: int, hops: int, answers: dict[str, int]
) -> None:
    folder, behind = base
    config = placed_config(
        data=f"unix:{tmp_path}/data.sock",
        keys=folder / "keys",
        folder=tmp_path,
        shop=behind.http,
        shop_grpc=behind.grpc,
    )
    for manager in connection_managers(config):
        manager["xff_num_trusted_hops"] = envoy_hops
    listener = ["--data", f"unix:{tmp_path}/data.sock", "--trusted-hops", str(hops)]
    with (
        serving(folder / "company", tmp_path / "state", *listener) as sidecar,
        envoy(config, tmp_path / "envoy") as running,
    ):
        running.wait_for_cluster()
        found = {}
        for forwarded in answers:
            headers = [("x-api-key", API_KEY), *([("x-forwarded-for", forwarded)] if forwarded else [])]
            assert send(running.port(), "/orders/1", headers).status in (200, 400)
            found[forwarded] = send(running.port(), "/orders/office-1", headers).status
        assert found == answers
        assert sidecar.process.poll() is None
