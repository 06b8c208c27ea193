# SPDX-License-Identifier: Apache-2.0
"""
A prompt of each test's own, and people who visit it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.services.store.engine import open_store
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Visitor


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[PromptKit]:
    """A prompt under https, at which ada and bob can sign in."""
    store = open_store(f"sqlite:///{tmp_path / 'mfa.db'}", state_dir=tmp_path)
    yield PromptKit(store, tmp_path)
    store.close()


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
