# SPDX-License-Identifier: Apache-2.0
"""
From a request to a view and back: who is there, whether the form is ours, and what the browser is to keep.

Views wait for the store and for password hashes, so they run on a few threads of their own, never in the event loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sidecar.model.errors import (
    AuthenticationError,
    FreshProofRequiredError,
    InternalError,
    SessionUnverifiableError,
    SidecarError,
    StepUpRequiredError,
)
from sidecar.model.session import SessionKind
from sidecar.services.log import Log
from sidecar.transports.prompt import failures
from sidecar.transports.prompt.address import FORM_COOKIE, SESSION_COOKIE, PublicAddress, with_value
from sidecar.transports.prompt.guard import is_from_here
from sidecar.transports.prompt.replies import Reply, go
from sidecar.transports.prompt.services import PromptServices
from sidecar.transports.prompt.visits import (
    FormError,
    Visit,
    form_secret_in,
    new_form_secret,
    peer_of,
    read_fields,
    read_form,
)

#: Threads that work on requests; the listener bounds how many wait for one.
_THREADS = 8
#: SPEC: RFC 6265, section 6.1: every browser keeps 4096 bytes, with the name and the attributes.
_MAX_TOKEN = 4000
#: Values of a query that matter after signing in or proving something: whatever else a link has is left out.
_CARRIED = ("return_to", "serial", "next")

View = Callable[[Visit, PromptServices], Reply]
Endpoint = Callable[[Request], Awaitable[Response]]


class _Page(NamedTuple):
    """What is shown at an address."""

    view: View
    is_open: bool
    again: str


class Renderer(Protocol):
    """Makes pages; may be called from any thread."""

    def render(self, visit: Visit, reply: Reply) -> str:
        """Return the page of *reply*."""
        ...


class Door:
    """
    Turns views into what Starlette serves.

    Thread-safety: ``page`` belongs to the event loop; views may run at the same time.
    """

    def __init__(
        self,
        *,
        address: PublicAddress,
        services: PromptServices,
        renderer: Renderer,
        log: Log,
    ) -> None:
        self._address = address
        self._services = services
        self._renderer = renderer
        self._log = log
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="prompt")
        self._session_cookie, self._form_cookie = map(address.cookie_name, (SESSION_COOKIE, FORM_COOKIE))

    def page(self, view: View, *, is_open: bool = False, again: str = "") -> Endpoint:
        """
        Return the endpoint that shows *view*.

        Args:
            is_open: Whether it is for people who are not signed in, too.
            again: Page to begin at again where the view takes a proof first; empty for the view's own address.
        """
        page = _Page(view, is_open, again)

        async def endpoint(request: Request) -> Response:
            form: dict[str, str] | None = None
            refused: Reply | None = None
            if request.method == "POST":
                if is_from_here(request.headers, self._address):
                    try:
                        form = await read_form(request)
                    except FormError as error:
                        refused = failures.unreadable(error.status)
                else:
                    self._log.warning("prompt_post_from_elsewhere", peer=peer_of(request))
                    refused = failures.from_elsewhere()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._answer, request, page, form, refused)

        return endpoint

    def _answer(self, request: Request, page: _Page, form: Mapping[str, str] | None, refused: Reply | None) -> Response:
        visit = self._anonymous(request, form or {})
        try:
            if refused is not None:
                reply = refused
            else:
                visit = self._recognize(visit)
                reply = self._view(visit, page, is_form=form is not None)
                self._refuse_too_large(reply.token or "")
            return self._respond(visit, reply, request)
        except (FreshProofRequiredError, StepUpRequiredError) as error:
            reply = failures.prove_first(error, page.again or visit.path)
        except SidecarError as error:
            if isinstance(error, InternalError):
                reply = self._broken(error.cause)
            else:
                reply = failures.of(error)
        except Exception as error:
            reply = self._broken(error)
        return self._respond(visit, reply, request)

    def _view(self, visit: Visit, page: _Page, *, is_form: bool) -> Reply:
        if visit.caller is None and not page.is_open:
            # A form is not sent again after signing in: whoever signs in sees first what it would do.
            where = "" if is_form or visit.path == "/" else visit.path
            reply = go(with_value("/sign-in", "next", where), token="" if visit.token else None)
        elif is_form and not visit.has_form_token:
            reply = failures.out_of_date()
        else:
            reply = page.view(visit, self._services)
        return reply

    def _anonymous(self, request: Request, form: Mapping[str, str]) -> Visit:
        try:
            query = read_fields(request.url.query)
        except ValueError:
            query = {}
        carried = next((name for name in _CARRIED if name in query), "")
        return Visit(
            path=with_value(self._address.page_in(request.url.path), carried, query.get(carried, "")),
            values=request.path_params,
            query=query,
            form=form,
            peer=peer_of(request),
            token=request.cookies.get(self._session_cookie, ""),
            caller=None,
            form_secret=self._form_secret(request) or new_form_secret(),
        )

    def _recognize(self, visit: Visit) -> Visit:
        if not visit.token:
            return visit
        try:
            caller = self._services.sessions.authenticate(visit.token, visit.peer)
        except SessionUnverifiableError:
            raise
        except AuthenticationError:
            return visit
        if caller.claims is None or caller.claims.kind is not SessionKind.SIGN_IN:
            # Somebody has put another session into the cookie: here is a person who has signed in.
            return visit
        return dataclasses.replace(visit, caller=caller)

    def _form_secret(self, request: Request) -> str:
        return form_secret_in(request.cookies.get(self._form_cookie, ""))

    def _broken(self, cause: object) -> Reply:
        error_id = token_hex(8)
        self._log.error("prompt_failed", error_id=error_id, cause=repr(cause), exc_info=True)
        return failures.internal(error_id)

    def _respond(self, visit: Visit, reply: Reply, request: Request) -> Response:
        if reply.location:
            response: Response = RedirectResponse(self._address.at(reply.location), status_code=reply.status)
        else:
            response = Response(self._renderer.render(visit, reply), status_code=reply.status, media_type="text/html")
        if reply.token:
            self._keep(response, self._session_cookie, reply.token)
        elif reply.token is not None:
            response.delete_cookie(
                self._session_cookie, path="/", secure=self._address.is_https, httponly=True, samesite="lax"
            )
        if not self._form_secret(request):
            self._keep(response, self._form_cookie, visit.form_secret)
        return response

    def _keep(self, response: Response, name: str, value: str) -> None:
        """
        Have the browser keep a value until it is closed.

        Lax and not Strict: a link from a terminal, a mail or the service that asks leads to a challenge, and the
        person is to be known there. Forms from elsewhere are refused by what they say of themselves, and by the token.
        """
        response.set_cookie(name, value, path="/", secure=self._address.is_https, httponly=True, samesite="lax")

    def _refuse_too_large(self, token: str) -> None:
        if len(token) > _MAX_TOKEN:
            raise InternalError("the session is too large for a browser", cause=f"its token has {len(token)} letters")
