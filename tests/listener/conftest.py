# SPDX-License-Identifier: Apache-2.0
"""
One listener for all tests that leave it as they found it.
"""

from collections.abc import Iterator

import pytest

from tests.listener.serving import Listener, listening


@pytest.fixture(scope="session")
def shared() -> Iterator[Listener]:
    """A listener with the usual limits, on a Unix socket and a port."""
    with listening(unix=True) as listener:
        yield listener
