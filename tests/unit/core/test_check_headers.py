# SPDX-License-Identifier: Apache-2.0
"""
What an upstream gets of a request's headers, and from which address a request came.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from sidecar.compile import step_up_ticket
from sidecar.compile.identity_headers import OWN_HEADERS, always_removed, spellings
from sidecar.model.decision import MfaMethod
from tests.tokens import ACCESS_KEY_ID, KEY, KEY_ID, OTHER_KEY, OTHER_KEY_ID, state
from tests.unit.core.asking import NOW
from tests.unit.core.checking import (
    COOKIE,
    HOST,
    USER_ARN,
    bearer,
    check,
    headers_of,
    session,
)
from tests.unit.core.routing import ACCOUNT

TOKEN = session()


def left(path: str = "/static/x", *, raw: bool = False, **given: Any) -> dict[str, str]:
    """Return the headers that an upstream gets: as Envoy does it, set first, then removed."""
    headers = given["headers"]
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    ok = check(path, raw_headers=raw, **given).ok_response
    result = dict(pairs)
    result.update(headers_of(ok))
    for name in ok.headers_to_remove:
        assert name not in headers_of(ok), "what is set must not be removed again"
        result.pop(name, None)
    return result


@pytest.mark.parametrize("path", ["/static/x", "/orders", "/keep"])
@pytest.mark.parametrize("raw", [False, True])
def test_identity_when_a_client_claims_it_then_nothing_of_that_is_left(path: str, raw: bool) -> None:
    claimed = {
        name: "arn:aws:iam::999999999999:root"
        for own in (*OWN_HEADERS, "x-iam-anything", "x-iam-", "x-forwarded-client-cert")
        for name in spellings(own)
    }

    got = left(path, raw=raw, headers={**claimed, "x-other": "1", "x-iamb": "2", **bearer()})

    got.pop("authorization", None)
    who = {} if path == "/static/x" else {"x-iam-principal": USER_ARN, "x-iam-account": ACCOUNT}
    route = {"/static/x": "assets", "/orders": "list-orders", "/keep": "keep-token"}[path]
    assert got == {"x-other": "1", "x-iamb": "2", "x-iam-route": route, **who}


def test_identity_when_the_proxy_shows_no_headers_then_every_spelling_is_removed_all_the_same() -> None:
    removed = set(check("/static/x").ok_response.headers_to_remove)

    every = {spelling for own in (*OWN_HEADERS, "x-forwarded-client-cert") for spelling in spellings(own)}
    assert every - removed == {"x-iam-route"}
    assert removed >= set(always_removed())
    assert "x-envoy-auth-partial-body" in removed


@pytest.mark.parametrize(
    ("value", "is_ours"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer   {TOKEN}", True),
        (f"Basic {TOKEN}", True),
        (f"Bearer x,Bearer {TOKEN}", True),
        ("Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImlzcyI6Imh0dHBzOi8vaWRwLmV4YW1wbGUuY29tIn0.c2ln", False),
        ("Basic YWxpY2U6c2VjcmV0", False),
        ("Bearer " + "z" * 100, False),
    ],
)
def test_bearer_when_it_could_be_a_session_then_no_upstream_gets_it(value: str, is_ours: bool) -> None:
    assert ("authorization" not in left(headers={"authorization": value})) == is_ours


def test_token_when_the_route_forwards_it_then_the_upstream_gets_it() -> None:
    headers = {"cookie": f"a=1; {COOKIE}={TOKEN}", **bearer(TOKEN)}

    got = left("/keep", headers=headers)

    assert {name: got[name] for name in headers} == headers


@pytest.mark.parametrize(
    ("cookie", "want"),
    [
        ("a=1; b=2", "a=1; b=2"),
        (f"{COOKIE}=T", None),
        (f"a=1; {COOKIE}=T; b=2", "a=1; b=2"),
        (f"{COOKIE}=T; {COOKIE}=U;{COOKIE}=V", None),
        (f"{COOKIE}=T;a=1", "a=1"),
        (f"a=1;{COOKIE} =T;  b=2 ", "a=1; b=2"),
        (f'a="x, y"; {COOKIE}="T"; b="z"', 'a="x, y"; b="z"'),
        (f"a=1,{COOKIE}=T", "a=1"),
        (f"{COOKIE}=T, a=1,b=2", "a=1,b=2"),
        (f"a=1,2; {COOKIE}=T,b=2; c=3", "a=1,2; b=2; c=3"),
        (f"a={COOKIE}; b=x{COOKIE}=y", f"a={COOKIE}; b=x{COOKIE}=y"),
        (f"x{COOKIE}=1; {COOKIE}x=2", f"x{COOKIE}=1; {COOKIE}x=2"),
        (f"{COOKIE}", f"{COOKIE}"),
        (f";;{COOKIE}=T;;", None),
        (f"a=\x01; b=2; {COOKIE}=T", "b=2"),
    ],
)
def test_cookies_when_one_holds_the_session_then_the_others_are_left(cookie: str, want: str | None) -> None:
    assert left(headers={"cookie": cookie}).get("cookie") == want


def test_cookies_when_they_come_in_several_headers_then_all_of_them_are_read() -> None:
    pairs = [("cookie", "a=1"), ("cookie", f"{COOKIE}=T; b=2"), ("cookie", f"{COOKIE}=U")]

    assert headers_of(check("/static/x", headers=pairs, raw_headers=True).ok_response)["cookie"] == "a=1; b=2"


def test_cookies_when_they_are_longer_than_anybody_keeps_then_it_is_denied() -> None:
    answer = check("/static/x", headers={"cookie": f"{COOKIE}=T; a=" + "x" * 70_000})

    assert answer.denied_response.status.code == 503


@given(
    st.lists(
        st.tuples(
            st.sampled_from([COOKIE, "a", "b", f"{COOKIE}2"]), st.text('abc=" ', max_size=6), st.sampled_from(";, ")
        ),
        max_size=8,
    )
)
def test_cookies_when_anything_stands_beside_the_session_then_its_value_is_gone(
    parts: list[tuple[str, str, str]],
) -> None:
    cookie = "".join(
        f"{name}={'SECRET' if name == COOKIE else value}{';' if name == COOKIE and end == ' ' else end}"
        for name, value, end in parts
    )

    got = left(headers={"cookie": cookie} if cookie else {}).get("cookie", "")

    # What follows a blank belongs to the cookie before it, whose value that is.
    assert "SECRET" not in got or f" {COOKIE}=SECRET" in cookie


# Addresses.


def inside(source: str, forwarded: str | list[str] | None = None, hops: int = 0) -> int:
    """Return the status of what only 10.0.0.0/8 and 2001:db8::/32 may ask; 0: it is allowed."""
    lines = [forwarded] if isinstance(forwarded, str) else forwarded or []
    headers = [*bearer(TOKEN).items(), *(("x-forwarded-for", line) for line in lines)]
    answer = check("/inside", source=source, headers=headers, raw_headers=True, settings={"trusted_hops": hops})
    return answer.denied_response.status.code if answer.WhichOneof("http_response") == "denied_response" else 0


@pytest.mark.parametrize(
    ("source", "forwarded", "hops", "want"),
    [
        ("10.1.2.3", None, 0, 0),
        ("192.0.2.1", None, 0, 403),
        ("192.0.2.1", "10.1.2.3", 0, 403),
        ("2001:db8::7", None, 0, 0),
        ("", None, 0, 403),
        # One trusted hop: the entry before the nearest hop's own.
        ("192.0.2.1", "10.1.2.3, 198.51.100.1", 1, 0),
        ("192.0.2.1", "10.1.2.3, 203.0.113.9, 198.51.100.1", 1, 403),
        ("192.0.2.1", "10.1.2.3, 203.0.113.9, 198.51.100.1", 2, 0),
        ("192.0.2.1", ["10.1.2.3", "198.51.100.1"], 1, 0),
        ("192.0.2.1", ["203.0.113.9, 10.1.2.3", "198.51.100.1"], 1, 0),
        ("192.0.2.1", "10.1.2.3:4711, 198.51.100.1", 1, 0),
        ("192.0.2.1", "[2001:db8::7]:443,198.51.100.1", 1, 0),
        ("192.0.2.1", "[2001:db8::7], 198.51.100.1", 1, 0),
        ("192.0.2.1", "\t2001:db8::7 , 198.51.100.1", 1, 0),
        ("192.0.2.1", "garbage, 10.1.2.3, 198.51.100.1", 1, 0),
        # Fewer entries than hops: nobody stood between.
        ("10.1.2.3", "198.51.100.1", 1, 0),
        ("192.0.2.1", "10.1.2.3", 1, 403),
        ("10.1.2.3", None, 2, 0),
        # What is no address is none of a trusted proxy.
        ("10.1.2.3", "unknown, 198.51.100.1", 1, 400),
        ("10.1.2.3", ", 198.51.100.1", 1, 400),
        ("10.1.2.3", "10.1.2.3:, 198.51.100.1", 1, 400),
        ("10.1.2.3", "10.1.2.3:99999999, 198.51.100.1", 1, 400),
        ("10.1.2.3", "[2001:db8::7, 198.51.100.1", 1, 400),
        ("10.1.2.3", "[2001:db8::7]x, 198.51.100.1", 1, 400),
        ("10.1.2.3", "010.1.2.3, 198.51.100.1", 1, 400),
        ("10.1.2.3", "10.1.2.3 10.1.2.3, 198.51.100.1", 1, 400),
    ],
)
def test_source_when_proxies_are_trusted_then_it_is_the_entry_before_theirs(
    source: str, forwarded: str | list[str] | None, hops: int, want: int
) -> None:
    assert inside(source, forwarded, hops) == want


# Tickets.


def opened(text: str, key: bytes = KEY) -> tuple[Any, ...]:
    """Open a ticket by another author's hand: its header, then what it says."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    plain = AESGCM(key).decrypt(raw[5:17], raw[17:], raw[:5])
    expires_at, access_key_id, flags, methods, max_age = struct.unpack_from("<q20sBBI", plain)
    texts, at = [], 34
    for _ in range(3):
        (size,) = struct.unpack_from("<H", plain, at)
        texts.append(plain[at + 2 : at + 2 + size].decode())
        at += 2 + size
    assert at == len(plain)
    return raw[0], raw[1:5], expires_at, access_key_id.decode(), flags, methods, max_age, *texts


def ticket(path: str, **given: Any) -> str:
    """Return the ticket that a request gets."""
    answer = check(path, **given)
    location = headers_of(answer.denied_response)["location"]
    return location.rpartition("ticket=")[2]


@pytest.mark.parametrize(("path", "flag"), [("/orders/7/refund?x=1", 0), ("/calls/7?x=1", step_up_ticket.FOR_CALL)])
def test_ticket_when_opened_then_it_says_what_was_asked(path: str, flag: int) -> None:
    headers = {"cookie": f"{COOKIE}={TOKEN}", "sec-fetch-mode": "navigate"}

    assert opened(ticket(path, headers=headers)) == (
        step_up_ticket.TICKET_VERSION,
        KEY_ID,
        NOW * 1000 + step_up_ticket.LIFETIME_MS,
        ACCESS_KEY_ID,
        flag | step_up_ticket.HAS_MAX_AGE,
        sum(1 << method for method in MfaMethod),
        299,
        "shop:RefundOrder",
        f"arn:aws:shop:eu-west-1:{ACCOUNT}:order/1",
        f"https://{HOST}{path}",
    )


def test_ticket_when_several_keys_are_known_then_the_first_one_seals_it() -> None:
    headers = {"cookie": f"{COOKIE}={TOKEN}", "sec-fetch-mode": "navigate"}
    sessions = state(keys=[(OTHER_KEY_ID, OTHER_KEY), (KEY_ID, KEY)])

    first, second = (ticket("/orders/7/refund", headers=headers, sessions=sessions) for _ in range(2))

    assert opened(first, OTHER_KEY)[1] == OTHER_KEY_ID
    assert first != second
