# SPDX-License-Identifier: Apache-2.0
"""
The pages and where they are.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.services.log import Log
from sidecar.transports.prompt import devices, failures, password, sign_in
from sidecar.transports.prompt.address import PublicAddress, ReturnAddresses
from sidecar.transports.prompt.challenge import WAYS, ChallengePages
from sidecar.transports.prompt.door import Door, Endpoint, View
from sidecar.transports.prompt.guard import Guard
from sidecar.transports.prompt.rendering import Pages, StaticFile
from sidecar.transports.prompt.replies import Reply
from sidecar.transports.prompt.services import PromptServices
from sidecar.transports.prompt.sign_in import SignInPages
from sidecar.transports.prompt.visits import Visit


def build_prompt(
    *,
    address: PublicAddress,
    returns: ReturnAddresses,
    site: str,
    services: PromptServices,
    log: Log,
    now: Callable[[], int] = time.time_ns,
) -> Starlette:
    """
    Return the ASGI application.

    Args:
        address: Where people find it.
        returns: Where they may be sent from it.
        site: What pages call themselves; the relying party's id, which a security key may show.
        services: What does the work; called in threads, never in the event loop.
        log: Is told of what was refused and of faults.
        now: Gives nanoseconds since the epoch.
    """
    pages = Pages(site=site, address=address)
    door = Door(address=address, services=services, renderer=pages, log=log)
    challenges = ChallengePages(returns=returns, now=now, log=log)
    signing_in = SignInPages(returns=returns)

    def read(path: str, view: View, *, is_open: bool = False) -> Route:
        return Route(address.at(path), door.page(view, is_open=is_open), methods=["GET"])

    def post(path: str, view: View, *, is_open: bool = False, again: str = "") -> Route:
        return Route(address.at(path), door.page(view, is_open=is_open, again=again), methods=["POST"])

    application = Starlette(
        routes=[
            read("/", sign_in.first_page),
            *([Route(address.path, door.page(sign_in.first_page), methods=["GET"])] if address.path else []),
            read("/sign-in", signing_in.page, is_open=True),
            post("/sign-in", signing_in.sign_in, is_open=True),
            read("/signed-in", signing_in.signed_in_page),
            post("/sign-out", sign_in.sign_out),
            read("/signed-out", sign_in.signed_out_page, is_open=True),
            read("/step-up", challenges.redeem, is_open=True),
            read("/challenge/{challenge_id}", challenges.page),
            post("/challenge/{challenge_id}/refuse", challenges.refuse),
            *(post(f"/challenge/{{challenge_id}}/{way}", challenges.answer_by(way)) for way in WAYS),
            post("/prove", challenges.prove),
            read("/devices", devices.devices_page),
            read("/devices/add-key", devices.add_key_page),
            post("/devices/add-key", devices.begin_key),
            post("/devices/add-key/finish", devices.finish_key, again="/devices/add-key"),
            read("/devices/add-app", devices.add_app_page),
            post("/devices/add-app", devices.begin_app),
            post("/devices/add-app/confirm", devices.confirm_app, again="/devices/add-app"),
            read("/devices/remove", devices.remove_page),
            post("/devices/remove", devices.remove, again="/devices"),
            read("/recovery-codes", devices.recovery_page),
            post("/recovery-codes", devices.make_recovery_codes),
            read("/password", password.password_page),
            post("/password", password.change_password),
            *(_serve(address.at(file.path), file) for file in pages.files.values()),
        ],
        middleware=[Middleware(Guard, address=address)],
        exception_handlers={
            404: _showing(door.page(_no_page, is_open=True)),
            405: _showing(door.page(_wrong_method, is_open=True)),
        },
    )
    # It would lead to plain http behind a proxy that speaks TLS for us.
    application.router.redirect_slashes = False
    return application


def _no_page(_visit: Visit, _services: PromptServices) -> Reply:
    return failures.no_page()


def _wrong_method(_visit: Visit, _services: PromptServices) -> Reply:
    return failures.wrong_method()


def _showing(endpoint: Endpoint) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return *endpoint* as Starlette calls it for an error of its own."""

    async def show(request: Request, _error: Exception) -> Response:
        return await endpoint(request)

    return show


def _serve(path: str, file: StaticFile) -> Route:
    """Serve a file for good: another text would have another address."""

    async def endpoint(_request: Request) -> Response:
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(file.content, media_type=file.media_type, headers=headers)

    return Route(path, endpoint, methods=["GET"])
