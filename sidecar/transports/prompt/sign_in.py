# SPDX-License-Identifier: Apache-2.0
"""
Signing in and out.
"""

from __future__ import annotations

from sidecar.model.errors import (
    AuthenticationError,
    LimitExceededError,
    PreconditionError,
    RequestError,
    SourceUnavailableError,
    ThrottledError,
)
from sidecar.transports.prompt import failures
from sidecar.transports.prompt.address import ReturnAddresses, host_of, with_value
from sidecar.transports.prompt.replies import Reply, go, show
from sidecar.transports.prompt.services import PromptServices
from sidecar.transports.prompt.visits import Visit

_MAX_FIELD = 1024


def first_page(_visit: Visit, _services: PromptServices) -> Reply:
    """Lead to the person's devices."""
    return go("/devices")


class SignInPages:
    """
    The views of signing in, which leads on to where somebody came from.

    Thread-safety: immutable.
    """

    def __init__(self, *, returns: ReturnAddresses) -> None:
        self._returns = returns

    def page(self, visit: Visit, _services: PromptServices) -> Reply:
        """Show the form, or lead on whoever is signed in already."""
        where = self._where_next(visit.query.get("next", ""))
        if visit.caller is not None:
            # Not at once: a service that does not see the session would send the browser back here, without end.
            return go(where or "/devices") if not host_of(where) else _go_on(where)
        is_changed = visit.query.get("done") == "password-changed"
        return _form(where, is_over=bool(visit.token), is_changed=is_changed, token="" if visit.token else None)

    def sign_in(self, visit: Visit, services: PromptServices) -> Reply:
        """Judge a password, and lead on."""
        where = self._where_next(visit.form.get("next", ""))
        account, name = visit.form.get("account", "").strip(), visit.form.get("user_name", "").strip()
        password = visit.form.get("password", "")
        if not (account and name and password):
            return _form(where, account=account, name=name, problem="Fill in all three fields.", status=400)
        if max(len(account), len(name), len(password)) > _MAX_FIELD:
            return _form(where, problem=_WRONG, status=403)
        try:
            issued = services.sessions.sign_in(account=account, user_name=name, password=password, peer=visit.peer)
        except (LimitExceededError, ThrottledError) as error:
            return _form(where, account=account, name=name, problem=failures.sentences(error), status=429)
        except (AuthenticationError, RequestError):
            return _form(where, account=account, name=name, problem=_WRONG, status=403)
        except PreconditionError as error:
            # The password was the right one, so that this may be told.
            return _form(where, account=account, name=name, problem=failures.sentences(error), status=403)
        if where and not self._returns.is_here(where):
            # Browsers let a form lead to no other host; a page that goes on by itself may.
            return go(with_value("/signed-in", "next", where), token=issued.session_token)
        return go(where or "/devices", token=issued.session_token)

    def signed_in_page(self, visit: Visit, _services: PromptServices) -> Reply:
        """Lead somebody who has just signed in to another host."""
        where = self._where_next(visit.query.get("next", ""))
        return _go_on(where, is_at_once=True) if host_of(where) else go(where or "/devices")

    def _where_next(self, address: str) -> str:
        return address if self._returns.allows(address) else ""


def sign_out(visit: Visit, services: PromptServices) -> Reply:
    """End the session, here and everywhere."""
    try:
        services.sessions.revoke(visit.signed_in, visit.token)
    except SourceUnavailableError:
        # This browser at least is to forget it.
        return show("signed_out.html", token="", is_everywhere=False, status=503)
    return go("/signed-out", token="")


def signed_out_page(_visit: Visit, _services: PromptServices) -> Reply:
    """Say so."""
    return show("signed_out.html", is_everywhere=True)


#: Whether it was one of the three or the waiting is not told.
_WRONG = (
    "Account, user name or password is wrong, or there were too many failures. After failures, wait for a quarter of"
    " an hour."
)


def _go_on(where: str, *, is_at_once: bool = False) -> Reply:
    return show("go_on.html", where=where, back_host=host_of(where), is_at_once=is_at_once)


def _form(
    where: str,
    *,
    account: str = "",
    name: str = "",
    problem: str = "",
    is_over: bool = False,
    is_changed: bool = False,
    status: int = 200,
    token: str | None = None,
) -> Reply:
    return show(
        "sign_in.html",
        status=status,
        token=token,
        next=where,
        account=account,
        user_name=name,
        problem=problem,
        is_over=is_over,
        is_changed=is_changed,
    )
