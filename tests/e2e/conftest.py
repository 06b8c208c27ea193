# SPDX-License-Identifier: Apache-2.0
"""
One sidecar for all tests that leave it as they found it, and one shop behind Envoy.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.envoy_process import envoy_program
from tests.e2e.protected_shop import ProtectedShop, protected_shop
from tests.e2e.sidecar_process import Sidecar, serving, write_source

FIRST_TRY_COUNTS = frozenset({"test_envoy_closed.py", "test_envoy_load.py", "test_soak.py"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Give each test of this folder a second try, but for those that claim that not one answer is wrong.

    They talk to browsers, databases and proxies that share the machine with all other tests, and one that was late once
    says nothing of the sidecar. The closing line tells how many needed it.
    """
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.path.name not in FIRST_TRY_COUNTS:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar on the small source, with a socket for decisions too; nobody may stop it or change its source."""
    folder = tmp_path_factory.mktemp("shared")
    source = write_source(folder / "source")
    socket = folder / "data.sock"
    with serving(source, folder / "state", "--data", "127.0.0.1:0", "--data", f"unix:{socket}") as sidecar:
        yield sidecar


@pytest.fixture(scope="session")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProtectedShop]:
    """The shop of the example behind Envoy; nobody may stop any of it, or change its policies."""
    envoy_program()
    with protected_shop(tmp_path_factory.mktemp("protected")) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small source of the test's own."""
    return write_source(tmp_path / "source")
