# SPDX-License-Identifier: Apache-2.0
"""
Loading the prompt when it is first asked for: a sidecar whose prompt nobody opens keeps its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class LazyApplication:
    """
    An application that is built by its first request.

    Thread-safety: confined to one event loop.
    """

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        """
        Args:
            build: Gives the application; runs on a thread, since it imports and reads.
        """
        self._build = build
        self._lock: asyncio.Lock | None = None
        self._application: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._application is None:
            self._lock = self._lock or asyncio.Lock()
            async with self._lock:
                if self._application is None:
                    self._application = await asyncio.to_thread(self._build)
        await self._application(scope, receive, send)
