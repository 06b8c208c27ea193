# SPDX-License-Identifier: Apache-2.0
"""
What of step-up tickets and of proxies that ask by HTTP is fuzzed: tickets as text, their content behind a seal that
holds, and the headers in which a proxy states a request.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar import core
from sidecar.model.errors import RequestError, TicketInvalidError
from sidecar.services.http_authz_metrics import ProxyKind
from sidecar.services.sessions.tickets import TicketOpener
from sidecar.transports.http_authz.answers import answer_to
from sidecar.transports.http_authz.original import Headers, OriginalRequest, of_envoy, of_forward_auth, of_nginx
from tests.fuzz.harness import Target
from tests.tickets import KEY, RING, seal_ticket, ticket_content

_NOW_MS = 1_800_000_000_000
_SESSION = "ASIA2345672345672345"
_OPENER = TicketOpener(ring=lambda: RING, now=lambda: _NOW_MS * 1_000_000)
_NONCE = bytes(12)


def _contents() -> list[bytes]:
    address = "https://shop.example.org/orders/4711?tab=2"
    return [
        ticket_content(_SESSION, _NOW_MS, return_address=address, max_age=300),
        ticket_content(_SESSION, _NOW_MS, is_for_call=True, user_verification=True),
    ]


def _run_ticket(data: bytes) -> str:
    try:
        opened = _OPENER.open(data.decode("utf-8", "surrogateescape"))
    except TicketInvalidError as error:
        return error.reason
    return f"opened for {opened.access_key_id}"


def _run_content(data: bytes) -> str:
    try:
        opened = _OPENER.open(seal_ticket(data, key_id=KEY.id, key=KEY.seal, nonce=_NONCE))
    except TicketInvalidError as error:
        return error.reason
    if not (opened.methods and opened.action and opened.resource and opened.access_key_id.isalnum()):
        raise ValueError(f"a ticket says too little: {opened}")
    return f"{opened.methods} {opened.is_for_call} {opened.user_verification} {opened.max_age_seconds is None}"


_READERS: dict[ProxyKind, Callable[[Headers], OriginalRequest]] = {
    ProxyKind.NGINX: of_nginx,
    ProxyKind.FORWARD: of_forward_auth,
    ProxyKind.ENVOY: lambda headers: of_envoy("GET", b"/orders", headers),
}


def _run_headers(data: bytes) -> str:
    headers: Headers = [
        (name.lower(), value) for name, colon, value in (line.partition(b":") for line in data.split(b"\n")) if colon
    ]
    outcomes = []
    for proxy, read in _READERS.items():
        try:
            original = read(headers)
            decided = core.check(None, original.to_wire(), seconds=_NOW_MS // 1000, nanos=0)
            answer = answer_to(proxy, original, decided)
        except RequestError as error:
            outcomes.append(error.message)
            continue
        if answer.is_allowed or answer.status < 300:
            raise ValueError("without a snapshot something was allowed")
        outcomes.append(str(answer.status))
    return " ".join(outcomes)


_NGINX = b"\n".join(
    [
        b"x-original-method:POST",
        b"x-original-uri:/orders/4711?x=1",
        b"x-original-host:shop.example.org",
        b"x-original-scheme:https",
        b"x-original-address:192.0.2.7",
        b"cookie:a=b",
    ]
)
_FORWARD = b"\n".join(
    [
        b"x-forwarded-method:GET",
        b"x-forwarded-uri:/",
        b"x-forwarded-host:shop.example.org",
        b"x-forwarded-proto:http",
        b"x-forwarded-for:10.0.0.9, 2001:db8::7",
    ]
)
_ENVOY = b"host:shop.example.org\nx-original-scheme:https\nx-original-address:192.0.2.7"

STEP_UP_TARGETS = (
    Target(
        name="ticket",
        about="step-up tickets, as text",
        seeds=lambda: [b"", *(seal_ticket(c, key_id=KEY.id, key=KEY.seal, nonce=_NONCE).encode() for c in _contents())],
        run=_run_ticket,
        tokens=(b"=", b"\x00", b"\xc3\xa9", b"-_"),
        in_place=0.3,
        max_bytes=1 << 13,
    ),
    Target(
        name="ticket_content",
        about="the content of step-up tickets, sealed as it should be",
        seeds=lambda: [b"", *_contents()],
        run=_run_content,
        in_place=0.7,
        max_bytes=6000,
    ),
    Target(
        name="proxy_headers",
        about="headers in which a proxy states the request that it asks about by HTTP",
        seeds=lambda: [b"", _NGINX, _FORWARD, _ENVOY],
        run=_run_headers,
        tokens=(b"\n", b":", b",", b"x-original-uri:", b"unix:", b"%2f", b"\xff"),
        max_bytes=1 << 13,
    ),
)
