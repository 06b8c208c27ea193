# SPDX-License-Identifier: Apache-2.0
"""
Paths through a real Envoy: what is decided on is what the shop gets.

The lists are of known bypasses. Each target is sent as it stands, through an Envoy that passes paths on as they are
and through one that makes them plain first; what the sidecar decided on stands in its decision log, and what the shop
got in the shop's answer.
"""

from __future__ import annotations

import json
from urllib.parse import unquote_to_bytes

import pytest

from tests.e2e.protected_shop import API_KEY, ROUTES, ProtectedShop, send
from tests.e2e.sidecar_process import eventually

pytestmark = pytest.mark.peer

KEY = ("x-api-key", API_KEY)
#: None of them may reach the shop through an Envoy that passes them on as they are.
AMBIGUOUS = [
    "/any/a/../b",
    "/any/a/./b",
    "/any/..",
    "/any/.",
    "/any/%2e%2e/b",
    "/any/%2E%2e/b",
    "/any/.%2e/b",
    "/any/..;/b",
    "/any/..%3b/b",
    "/any/a;x=1/b",
    "/any//b",
    "//any/b",
    "//orders/1",
    "///orders/1",
    "/any/a%2fb",
    "/any/a%2Fb",
    "/any/a%5cb",
    "/any/a\\b",
    "/any/..\\b",
    "/any/%252e%252e/b",
    "/any/a%252fb",
    "/any/a%00b",
    "/any/a%0ab",
    "/any/a%0d%0ax",
    "/any/a%7fb",
    "/any/a%c0%afb",
    "/any/a%c0%ae%c0%aeb",
    "/any/a%e0%80%afb",
    "/any/a%ffb",
    "/any/a%zzb",
    "/any/a%2",
    "/any/a%",
    "/any/a%u002fb",
    "/any/%uff0e%uff0e/b",
    "/static/../orders/1",
    "/static/..%2forders/1",
    "/static/%2e%2e/orders/1",
    "/static/..;/orders/1",
    "/open/..%5corders/1",
    "/.iam-sidecar%2f../orders/1",
]
#: These are plain to everybody, each with what it is decided on as.
PLAIN = {
    "/any/a": "a",
    "/any/a%20b": "a b",
    "/any/a+b": "a+b",
    "/any/%41": "A",
    "/any/a%3Ab": "a:b",
    "/any/%E2%82%AC": "€",
    "/any/a/b/c": "a/b/c",
    "/any/...": "...",
    "/any/a.": "a.",
    "/any/.a": ".a",
    "/any/a..b": "a..b",
    "/any/a?b=/../c": "a",
    "/any/a?b=%2e%2e%2f&//": "a",
    "/any/a?": "a",
    "/any/%EF%BC%8E%EF%BC%8E": "\N{FULLWIDTH FULL STOP}" * 2,
    "/any/%EF%BC%8F": "\N{FULLWIDTH SOLIDUS}",
}


@pytest.fixture(scope="module")
def house(protected: ProtectedShop) -> ProtectedShop:
    return protected


def decided_on(house: ProtectedShop, request_id: str) -> str:
    """Return the resource of the one decision about a request."""
    found: list[str] = []

    def is_there() -> bool:
        for line in house.decision_log.read_text().splitlines() if house.decision_log.exists() else []:
            if request_id in line:
                record = json.loads(line)
                found.append(record["resources"][0]["ARN"])
        return bool(found)

    eventually(is_there)
    (resource,) = found
    return resource


def got(target: str) -> str:
    """Return what a service reads of the path that arrived, decoded once."""
    return unquote_to_bytes(target.partition("?")[0]).decode()


@pytest.mark.parametrize("target", AMBIGUOUS)
def test_path_when_two_programs_could_read_it_differently_then_it_is_refused(house: ProtectedShop, target: str) -> None:
    reply = send(house.lax.port(), target, [KEY])

    assert reply.status in (400, 403), reply.body


@pytest.mark.parametrize("target", PLAIN)
def test_path_when_it_is_plain_then_what_was_decided_on_arrives(house: ProtectedShop, target: str) -> None:
    for running in (house.lax, house.envoy):
        reply = send(running.port(), target, [KEY])
        assert reply.status == 200, reply.body
        # The example's Envoy writes what needs no percent sign without one.
        assert running is house.envoy or reply.arrived.target == target
        assert got(reply.arrived.target) == f"/any/{PLAIN[target]}"
        resource = decided_on(house, reply.header("x-request-id"))
        assert resource.endswith(f":order/{PLAIN[target]}")


@pytest.mark.parametrize("target", AMBIGUOUS)
def test_path_when_envoy_makes_it_plain_first_then_what_was_decided_on_arrives(
    house: ProtectedShop, target: str
) -> None:
    reply = send(house.port, target, [KEY])

    if reply.status == 200:
        arrived = got(reply.arrived.target)
        (route,) = reply.arrived.values("x-iam-route")
        if route == "any":
            assert decided_on(house, reply.header("x-request-id")).endswith(f":order/{arrived.removeprefix('/any/')}")
        else:
            assert arrived.startswith({"get-order": "/orders/", "open": "/open/", "assets": "/static/"}[route])
        assert ".." not in arrived.split("/")
        assert "//" not in arrived
    else:
        assert reply.status in (307, 400, 403), reply.body


def test_target_when_it_is_no_path_then_it_does_not_arrive(house: ProtectedShop) -> None:
    for target, method in (("*", "OPTIONS"), ("http://shop.example.com/any/../a", "GET"), ("any/a", "GET")):
        reply = send(house.lax.port(), target, [KEY], method=method)
        assert reply.status in (400, 403, 404), (target, reply.body)


def test_method_when_no_route_has_it_then_it_is_denied(house: ProtectedShop) -> None:
    assert send(house.port, "/orders/1", [KEY]).status == 200
    for method in ("HEAD", "POST", "PUT", "OPTIONS", "PATCH", "get"):
        assert send(house.port, "/orders/1", [KEY], method=method).status in (400, 403), method
    overridden = send(house.port, "/orders", [KEY, ("x-http-method-override", "DELETE")])
    assert overridden.status == 403
    assert ROUTES[0]["public"], "routes beside those of the example"
