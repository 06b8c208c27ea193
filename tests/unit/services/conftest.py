# SPDX-License-Identifier: Apache-2.0
"""
The store tests run on both databases: on SQLite always, on PostgreSQL where it is installed.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core import Image
from sidecar.services.store.engine import Store, open_store
from tests.postgresql_cluster import Cluster, postgresql_cluster
from tests.unit.services.mfa_kit import Kit
from tests.unit.services.session_kit import SessionKit, build_image


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL for all tests."""
    with postgresql_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'mfa.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_schema()


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    store = open_store(store_url, state_dir=tmp_path)
    yield store
    store.close()


@pytest.fixture
def kit(store: Store, tmp_path: Path) -> Kit:
    """All services on an empty store."""
    return Kit(store, tmp_path)


@pytest.fixture(scope="session")
def session_image() -> Image:
    """The snapshot of the tests of sessions."""
    return build_image()


@pytest.fixture
def sessions(store: Store, tmp_path: Path, session_image: Image) -> SessionKit:
    """Sessions on an empty store."""
    return SessionKit(store, tmp_path, session_image)


@pytest.fixture
def lite(tmp_path: Path, session_image: Image) -> Iterator[SessionKit]:
    """The same on SQLite alone, for rules that no database has a part in."""
    store = open_store("", state_dir=tmp_path)
    yield SessionKit(store, tmp_path, session_image)
    store.close()
