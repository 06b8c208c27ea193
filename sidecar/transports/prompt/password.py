# SPDX-License-Identifier: Apache-2.0
"""
Changing one's own password.
"""

from __future__ import annotations

from sidecar.model.errors import AuthenticationError, LimitExceededError, PermissionDeniedError, RequestError
from sidecar.transports.prompt import failures
from sidecar.transports.prompt.replies import Reply, go, show
from sidecar.transports.prompt.services import PromptServices
from sidecar.transports.prompt.visits import Visit

_FIELDS = ("old_password", "new_password", "new_password_again")


def password_page(visit: Visit, services: PromptServices) -> Reply:
    """Show the form to whoever may use it."""
    if not services.sessions.may_change_password(visit.signed_in):
        return failures.of(PermissionDeniedError("the account does not let people change their own passwords"))
    return show("password.html", problem="")


def change_password(visit: Visit, services: PromptServices) -> Reply:
    """Replace the password, and have the person sign in with it."""
    old, new, again = (visit.form.get(field, "") for field in _FIELDS)
    if not (old and new and again):
        return show("password.html", problem="Fill in all three fields.", status=400)
    if new != again:
        return show("password.html", problem="The new password was typed in two ways. Type it again.", status=400)
    try:
        services.sessions.change_password(visit.signed_in, old_password=old, new_password=new)
    except AuthenticationError:
        return show("password.html", problem=_WRONG, status=403)
    except RequestError as error:
        return show("password.html", problem=failures.sentences(error), status=400)
    except LimitExceededError as error:
        return show("password.html", problem=failures.sentences(error), status=429)
    return go("/sign-in?done=password-changed", token="")


_WRONG = (
    "The current password is another, or there were too many failures. After failures, wait for a quarter of an hour."
)
