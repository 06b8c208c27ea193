# SPDX-License-Identifier: Apache-2.0
"""
What holds for every answer of the prompt: whom it answers, and what browsers are told about it.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.transports.prompt.address import PublicAddress

_HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": (
        "publickey-credentials-get=(self), publickey-credentials-create=(self),"
        " camera=(), geolocation=(), microphone=()"
    ),
    # Not `no-referrer`: browsers would then hide where a form comes from, which is looked at here.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
#: SPEC: RFC 6797, section 6.1: two years.
_STRICT_TRANSPORT_SECURITY = "max-age=63072000"


class Guard:
    """
    Refuses requests that name another host, and puts the headers of safety on every answer.

    A page of somebody else whose name was made to lead here (DNS rebinding) sends its own name.

    Thread-safety: immutable.
    """

    def __init__(self, application: ASGIApp, *, address: PublicAddress) -> None:
        self._application = application
        self._host = address.host
        self._headers = {"content-security-policy": _content_security_policy(address), **_HEADERS}
        if address.is_https:
            self._headers["strict-transport-security"] = _STRICT_TRANSPORT_SECURITY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        hosts = Headers(scope=scope).getlist("host")
        if hosts != [self._host]:
            refusal = PlainTextResponse("this host is not served here\n", status_code=421)
            await refusal(scope, receive, send_guarded)
            return
        await self._application(scope, receive, send_guarded)


def _content_security_policy(address: PublicAddress) -> str:
    """Return what browsers load and do: nothing from elsewhere, no script but ours, and no frame around us."""
    # What else a shared host serves, such as what its people have sent to it, is no script of ours.
    files = f"{address.origin}{address.path}/static/" if address.path else "'self'"
    return (
        f"default-src 'none'; script-src {files}; style-src {files}; img-src data:; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def is_from_here(headers: Mapping[str, str], address: PublicAddress) -> bool:
    """
    Say whether a form was sent from a page of our own.

    Every browser of today says where a form comes from, so one that says nothing is refused.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is not None:
        return origin == address.origin
    return site == "same-origin"
