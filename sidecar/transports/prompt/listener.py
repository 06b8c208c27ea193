# SPDX-License-Identifier: Apache-2.0
"""
The prompt's listener, which loads the pages when they are first asked for: a sidecar whose prompt nobody opens does
not hold them in its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.services.log import Log
from sidecar.transports.http_server import HttpListener
from sidecar.transports.prompt.settings import PromptSettings

if TYPE_CHECKING:
    from sidecar.services.mfa import MfaServices
    from sidecar.services.sessions.service import SessionService
    from sidecar.services.step_up import StepUpService
    from sidecar.transports.permissions import Permissions


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
        self._lock = asyncio.Lock()
        self._application: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._application is None:
            async with self._lock:
                if self._application is None:
                    self._application = await asyncio.to_thread(self._build)
        await self._application(scope, receive, send)


def prompt_listener(
    settings: PromptSettings,
    *,
    site: str,
    sessions: SessionService,
    step_up: StepUpService,
    permissions: Permissions,
    open_mfa: Callable[[], MfaServices],
    log: Log,
) -> HttpListener:
    """
    Return the listener, which is to be started.

    Args:
        site: What the pages call themselves.
        open_mfa: Gives the services of second factors; called by requests that need them.
    """

    def build() -> ASGIApp:
        from sidecar.transports.prompt.address import PublicAddress, ReturnAddresses
        from sidecar.transports.prompt.application import build_prompt
        from sidecar.transports.prompt.services import PromptServices

        address = PublicAddress.parse(settings.public_url)
        return build_prompt(
            address=address,
            returns=ReturnAddresses(settings.return_urls, own=address),
            site=site,
            services=PromptServices(sessions, step_up, permissions, open_mfa),
            log=log,
        )

    return HttpListener(
        address=settings.address,
        application=LazyApplication(build),
        name="prompt",
        trusted_proxies=settings.proxies,
    )


def prompt_url(settings: PromptSettings | None, challenge_id: str) -> str:
    """Return the address of the page for a challenge; empty where there is no prompt."""
    return "" if settings is None else f"{settings.public_url}/challenge/{challenge_id}"
