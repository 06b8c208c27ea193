# SPDX-License-Identifier: Apache-2.0
"""
A visit: one request of a browser, read and checked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_urlsafe
from urllib.parse import parse_qsl

from starlette.requests import Request

from sidecar.services.callers import Caller, User, parse_user

#: Bytes of a form; a security key's answer is the largest thing in one.
MAX_FORM_BYTES = 160 * 1024
_MAX_FIELDS = 16
#: Name of the field that holds what a page of ours puts into its forms.
FORM_FIELD = "form_token"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_PEER = 256


@dataclass(frozen=True, slots=True)
class Visit:
    """
    A request of a browser.

    Attributes:
        path: With what matters of the query, as a page of ours to come back to.
        values: Parts of the path by name.
        query: What follows the question mark, each name once.
        form: What was typed; empty where nothing was sent.
        peer: Address that it comes from, as gRPC writes it.
        token: Session token that the browser keeps; empty where it keeps none.
        caller: Whoever is signed in.
        form_secret: Random text of this browser, from which the tokens of its forms follow.
    """

    path: str
    values: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    peer: str
    token: str
    caller: Caller | None
    form_secret: str

    @property
    def signed_in(self) -> Caller:
        """Whoever is signed in, where a view is for nobody else."""
        if self.caller is None:
            raise RuntimeError("a view for people who are signed in was shown to somebody who is not")
        return self.caller

    @property
    def person(self) -> User:
        """The user who is signed in."""
        caller = self.signed_in
        return parse_user(caller.name)

    @property
    def form_token(self) -> str:
        """What the forms of this page carry, for this browser and this session alone."""
        session = self.caller.session if self.caller is not None else ""
        text = f"iam-sidecar form\n{session}".encode()
        digest = hmac.digest(self.form_secret.encode(), text, hashlib.sha256)
        return urlsafe_b64encode(digest).decode("ascii").rstrip("=")

    @property
    def has_form_token(self) -> bool:
        """Whether the form that was sent is one of ours, for this browser and this session."""
        return hmac.compare_digest(self.form.get(FORM_FIELD, "").encode(), self.form_token.encode())


class FormError(Exception):
    """
    What was sent is no form.

    Attributes:
        status: Of HTTP.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def read_form(request: Request) -> dict[str, str]:
    """
    Return what was typed into a form.

    Raises:
        FormError: It is none, or larger than any of ours.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormError(415)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise FormError(413)
    try:
        return read_fields(body.decode("ascii"))
    except ValueError:
        raise FormError(400) from None


def read_fields(text: str) -> dict[str, str]:
    """
    Return the fields of a form or a query.

    Raises:
        ValueError: It is none, or a field stands in it twice.

    >>> read_fields("code=123+456&form_token=")
    {'code': '123 456', 'form_token': ''}
    """
    if not text:
        return {}
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MAX_FIELDS)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands in a form twice")
    return fields


def form_secret_in(cookie: str) -> str:
    """Return the secret in a cookie; empty where it is none."""
    return cookie if _SECRET.fullmatch(cookie) else ""


def new_form_secret() -> str:
    """Return a new secret for a browser."""
    return token_urlsafe(32)


def peer_of(request: Request) -> str:
    """Return where a request comes from, as gRPC writes it."""
    if request.client is None:
        return ""
    host, port = request.client.host, request.client.port
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host[:_MAX_PEER]
    return f"ipv6:[{ip}]:{port}" if ip.version == 6 else f"ipv4:{ip}:{port}"
