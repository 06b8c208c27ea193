# SPDX-License-Identifier: Apache-2.0
"""
The screens for what goes wrong, in plain words.
"""

from __future__ import annotations

from sidecar.model.errors import (
    AlreadyExistsError,
    AuthenticationError,
    LimitExceededError,
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SessionUnverifiableError,
    SidecarError,
    SourceUnavailableError,
    StepUpRequiredError,
    ThrottledError,
)
from sidecar.transports.prompt.address import host_of
from sidecar.transports.prompt.replies import Reply, fail, show

_DEVICES = {"link": "/devices", "link_text": "To your devices"}
_HOME = {"link": "/", "link_text": "To the first page"}
_OUT_OF_REACH = fail(
    "Not possible at the moment",
    "The store where sessions and devices are kept is out of reach.",
    advice="Nothing is lost, and nothing was approved. Try again in a minute; if it stays like this, tell your"
    " administrator.",
    status=503,
)


def of(error: SidecarError) -> Reply:
    """Return the screen of *error*."""
    for kind, screen in _SCREENS:
        if isinstance(error, kind):
            return screen(error)
    return fail("That did not work", sentence(error.message), advice=sentence(error.help), status=400, **_HOME)


def sentence(text: str) -> str:
    """
    Return the text of an error as a sentence.

    >>> sentence("too many proofs have failed; try again in 8 seconds")
    'Too many proofs have failed; try again in 8 seconds.'
    """
    return f"{text[0].upper()}{text[1:]}." if text else ""


def sentences(error: SidecarError) -> str:
    """Return what an error says, and what would mend it."""
    return " ".join(sentence(text) for text in (error.message, error.help) if text)


def from_elsewhere() -> Reply:
    """Return the screen of a form that another site sent."""
    return fail(
        "This was not sent from here",
        "Another website, or an extension of your browser, tried to do this in your name. Nothing was done.",
        advice="If you meant to do it, open the page here and do it again.",
        status=403,
        **_HOME,
    )


def out_of_date() -> Reply:
    """Return the screen of a form whose session is over, or which another window has made worthless."""
    return fail(
        "This page was out of date",
        "You have signed in or out since you opened it, or your browser keeps no cookies. Nothing was done.",
        advice="Open the page again and repeat it.",
        status=403,
        **_HOME,
    )


def unreadable(status: int) -> Reply:
    """Return the screen of something that is no form of ours."""
    return fail("That could not be read", "What was sent is no form of this site. Nothing was done.", status=status)


def internal(error_id: str) -> Reply:
    """Return the screen of a fault of our own."""
    return fail(
        "Something broke here",
        "This is our fault, not yours. Nothing was approved.",
        advice=f"Try again. If it stays like this, tell your administrator: error {error_id}.",
        status=500,
    )


def no_page() -> Reply:
    """Return the screen of an address where nothing is."""
    return fail("There is no such page", "The address leads nowhere.", status=404, **_HOME)


def wrong_method() -> Reply:
    """Return the screen of an address that takes other requests."""
    return fail("That is not possible here", "This address does not take such a request.", status=405, **_HOME)


def forged_return(host: str) -> Reply:
    """
    Return the screen of a link that would lead to an address that is not allowed.

    Args:
        host: Where it would lead; empty where that cannot be read.
    """
    where = f"to “{host}”, which" if host else "to an address that"
    return fail(
        "This link is not safe",
        f"It would send you on {where} is not known here. Somebody may be trying to deceive you, so it leads nowhere.",
        advice="Close this window, and begin again at the service that you were using. If the link came from that"
        " service, its administrator has to allow the address with --allowed-return-url.",
        status=400,
    )


def no_ticket() -> Reply:
    """Return the screen of a link whose ticket was not sealed here."""
    return fail(
        "This link does not work",
        "It is incomplete, or too old, or somebody has made it up. Nothing was approved.",
        advice="Go back to the page that you were on, and load it again.",
        status=400,
        **_HOME,
    )


def load_again(where: str) -> Reply:
    """
    Return the screen of a ticket that is over, or was given to a session from before.

    Args:
        where: The page that it was given for; empty where that cannot be gone to.
    """
    host = host_of(where)
    return fail(
        "Please load the page again",
        "You have signed in anew since it was opened, or it was open for longer than five minutes. Nothing was"
        " approved.",
        advice="" if host else "Go back to the page or tab that you came from, and load it again.",
        status=409,
        link=where or "/",
        link_text=f"Back to {host}" if host else "To the first page",
    )


def not_yours() -> Reply:
    """Return the screen of a challenge of somebody else, or of none: which of both is not told."""
    return fail(
        "There is no such request for you",
        "It is meant for somebody else, or it is over, or the link is incomplete.",
        advice="See at the top as whom you are signed in. If you should be somebody else, sign out and open the link"
        " again.",
        status=404,
        **_DEVICES,
    )


def prove_first(error: SidecarError, where: str) -> Reply:
    """
    Return the page that leads through the proof that *error* asks for to *where*.

    The challenge is opened by its button: a link from elsewhere must not be able to ask anybody for proofs.
    """
    takes_pin = isinstance(error, StepUpRequiredError) and error.requirement.user_verification
    return show("prove_first.html", status=403, where=where, takes_pin=takes_pin)


def throttled(error: SidecarError) -> Reply:
    """Return the screen of too many attempts."""
    return fail("Too many attempts", sentence(error.message), advice=sentence(error.help), status=429, **_HOME)


def _unverifiable(_error: SidecarError) -> Reply:
    return _OUT_OF_REACH


def _not_permitted(error: SidecarError) -> Reply:
    return fail(
        "You may not do this",
        "The policies of your account do not allow it.",
        advice="An administrator can change that. What they need to know: " + sentence(error.message),
        status=403,
        **_DEVICES,
    )


def _no_proof(_error: SidecarError) -> Reply:
    return fail(
        "That did not prove it",
        "The key or code was not accepted, or the time for it is over.",
        advice="Try again from your devices.",
        status=403,
        **_DEVICES,
    )


def _signed_out(_error: SidecarError) -> Reply:
    return fail(
        "You are not signed in", "Your session is over.", status=403, link="/sign-in", link_text="Sign in", token=""
    )


def _not_so(error: SidecarError) -> Reply:
    return fail("That does not work", sentence(error.message), advice=sentence(error.help), status=409, **_DEVICES)


def _not_there(_error: SidecarError) -> Reply:
    return fail("That is not there", "It may have been removed a moment ago.", status=404, **_DEVICES)


def _not_understood(error: SidecarError) -> Reply:
    return fail("That does not work", sentence(error.message), advice=sentence(error.help), status=400, **_DEVICES)


#: Screens by class of error; the first that fits.
_SCREENS = (
    (SessionUnverifiableError, _unverifiable),
    (SourceUnavailableError, _unverifiable),
    (AuthenticationError, _signed_out),
    (PermissionDeniedError, _not_permitted),
    (ThrottledError, throttled),
    (MfaError, _no_proof),
    (LimitExceededError, _not_so),
    (AlreadyExistsError, _not_so),
    (PreconditionError, _not_so),
    (NotFoundError, _not_there),
    (RequestError, _not_understood),
)
