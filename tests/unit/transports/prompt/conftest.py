# SPDX-License-Identifier: Apache-2.0
"""
A prompt of each test's own, and people who visit it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.services.store.engine import open_store
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Visitor


@pytest.fixture(scope="session")
def mould(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store and the keys of a prompt that nobody has used yet."""
    folder = tmp_path_factory.mktemp("mould")
    store = open_store(f"sqlite:///{folder / 'mfa.db'}", state_dir=folder)
    PromptKit(store, folder)
    store.close()
    return folder


@pytest.fixture
def prompt(mould: Path, tmp_path: Path) -> Iterator[PromptKit]:
    """A prompt under https, at which ada and bob can sign in."""
    folder = tmp_path / "prompt"
    shutil.copytree(mould, folder)
    store = open_store(f"sqlite:///{folder / 'mfa.db'}", state_dir=folder)
    yield PromptKit(store, folder, is_new=False)
    store.close()


@pytest.fixture
def shared(mould: Path, tmp_path: Path) -> Iterator[PromptKit]:
    """The same below a path of a host that it protects."""
    folder = tmp_path / "shared"
    shutil.copytree(mould, folder)
    store = open_store(f"sqlite:///{folder / 'mfa.db'}", state_dir=folder)
    yield PromptKit(store, folder, path="/.iam-sidecar", is_new=False)
    store.close()


@pytest.fixture
def shopper(shared: PromptKit) -> Iterator[Visitor]:
    """Somebody who has signed in there as ada."""
    with Visitor(shared) as visitor:
        visitor.sign_in("ada")
        yield visitor


@pytest.fixture
def ada(prompt: PromptKit) -> Iterator[Visitor]:
    """Somebody who has signed in as ada."""
    with Visitor(prompt) as visitor:
        visitor.sign_in("ada")
        yield visitor


@pytest.fixture
def stranger(prompt: PromptKit) -> Iterator[Visitor]:
    """Somebody who has not signed in."""
    with Visitor(prompt) as visitor:
        yield visitor
