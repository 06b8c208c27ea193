# SPDX-License-Identifier: Apache-2.0
"""
Opening the services of second factors when they are first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A sidecar that keeps no devices needs neither a database nor cryptography in its memory.
    from sidecar.services.mfa import MfaServices


class MfaOpener:
    """
    Opens the services when they are first needed, so that a sidecar without devices does not pay for them.

    Thread-safety: locked.
    """

    def __init__(self, build: Callable[[], MfaServices]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._services: MfaServices | None = None

    def open(self) -> MfaServices:
        """
        Return the services.

        Raises:
            SidecarError: They cannot be opened; the next call tries again.
        """
        with self._lock:
            if self._services is None:
                self._services = self._build()
            return self._services

    def refresh(self) -> None:
        """Look whether the files about authenticators have changed, if the services were opened."""
        services = self._services
        if services is not None:
            services.relying_party.current_policy()

    def close(self) -> None:
        """Let go of the store, if it was opened."""
        with self._lock:
            if self._services is not None:
                self._services.store.close()
                self._services = None
