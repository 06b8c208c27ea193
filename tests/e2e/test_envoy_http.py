# SPDX-License-Identifier: Apache-2.0
"""The shop of the example behind a real Envoy that asks the sidecar by HTTP, with the filter of docs/http-authz.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from examples.envoy.keys import make_keys
from tests.e2e.asked_by_http import (
    check_body_arrives,
    check_browser_is_sent_to_sign_in,
    check_client_is_told,
    check_session_arrives,
)
from tests.e2e.envoy_process import (
    ROOT,
    Envoy,
    Json,
    connection_managers,
    envoy,
    envoy_program,
    placed_config,
    set_endpoints,
    shop,
)
from tests.e2e.people import set_password
from tests.e2e.protected_shop import ADA, Headers, bearer, restrict_to_office, send, sign_in, write_company
from tests.e2e.sidecar_process import Sidecar, eventually, serving
from tests.e2e.test_docs import free_port

pytestmark = pytest.mark.peer

PAGE = ROOT / "docs" / "http-authz.md"
OFFICE = "203.0.113.7"


def filters_of_the_page() -> list[Json]:
    """Return the filters that the page tells people to write down."""
    section = PAGE.read_text().partition("\n## Envoy\n")[2].partition("\n## ")[0]
    (text,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    filters: list[Json] = yaml.safe_load(text)["http_filters"]
    return filters


def asks_by_http(config: Json, authz: str) -> Json:
    """Return *config* with the page's filter in place of its own, and where that finds the sidecar."""
    (ours,) = filters_of_the_page()
    for manager in connection_managers(config):
        names = [one["name"] for one in manager["http_filters"]]
        manager["http_filters"][names.index(ours["name"])] = ours
        # One proxy stands before this one.
        manager["xff_num_trusted_hops"] = 1
    cluster = ours["typed_config"]["http_service"]["server_uri"]["cluster"]
    config["static_resources"]["clusters"].append(
        {"name": cluster, "type": "STATIC", "connect_timeout": "0.25s", "load_assignment": {"cluster_name": cluster}}
    )
    set_endpoints(config, cluster, [authz])
    return config


@dataclass(frozen=True, slots=True)
class Place:
    """Envoy, what it asks, and somebody who has signed in."""

    envoy: Envoy
    sidecar: Sidecar
    token: str
    port: int


@pytest.fixture
def company(tmp_path: Path) -> Path:
    envoy_program()
    source = write_company(tmp_path / "company")
    restrict_to_office(source, f"{OFFICE}/32")
    return source


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    envoy_program()
    folder = tmp_path_factory.mktemp("http")
    source = write_company(folder / "company")
    restrict_to_office(source, f"{OFFICE}/32")
    make_keys(folder / "keys")
    port = free_port()
    listeners = ["--data", "off", "--http-authz", "127.0.0.1:0", "--prompt", "127.0.0.1:0"]
    public = ["--public-url", f"http://localhost:{port}/.iam-sidecar"]
    with ExitStack() as stack:
        behind = stack.enter_context(shop())
        sidecar = stack.enter_context(serving(source, folder / "state", *listeners, *public))
        set_password(sidecar, source, ADA)
        config = placed_config(
            data="127.0.0.1:1",
            keys=folder / "keys",
            folder=folder,
            shop=behind.http,
            shop_grpc=behind.grpc,
            prompt=sidecar.address("prompt"),
        )
        config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
        running = stack.enter_context(envoy(asks_by_http(config, sidecar.address("http-authz")), folder / "envoy"))
        yield Place(running, sidecar, sign_in(sidecar), port)


def test_session_when_it_may_then_its_user_arrives_and_the_token_does_not(place: Place) -> None:
    check_session_arrives(place.port, place.token)


def test_body_when_the_request_is_allowed_then_it_arrives(place: Place) -> None:
    check_body_arrives(place.port)


def test_request_when_it_may_not_then_the_client_is_told(place: Place) -> None:
    check_client_is_told(place.port, place.token)


def test_browser_when_nobody_has_signed_in_then_it_is_sent_to_the_prompt(place: Place) -> None:
    check_browser_is_sent_to_sign_in(place.port)


@pytest.mark.parametrize(
    "headers",
    [
        [("x-iam-principal", "evil")],
        [("X-IAM-Principal", "evil"), ("x-iam-account", "evil")],
        [("x-iam-anything", "evil")],
        [("x-forwarded-client-cert", "evil")],
        [("x-original-scheme", "evil"), ("x-original-address", "evil"), ("x-original-uri", "/open/evil")],
        [("x-envoy-auth-headers-to-remove", "evil")],
    ],
)
def test_headers_when_a_caller_sends_ours_then_they_are_not_believed(place: Place, headers: Headers) -> None:
    arrived = send(place.port, "/orders/1", [bearer(place.token), *headers]).arrived

    assert arrived.values("x-iam-principal") == [ADA]
    assert arrived.values("x-iam-anything") == arrived.values("x-forwarded-client-cert") == []
    assert arrived.values("x-iam-route") == ["get-order"]


def test_address_when_a_proxy_stands_before_then_envoy_counts_it_off(place: Place) -> None:
    def ask(forwarded: str, *more: tuple[str, str]) -> int:
        return send(place.port, "/orders/office-1", [bearer(place.token), ("x-forwarded-for", forwarded), *more]).status

    assert ask(OFFICE) == 200
    assert ask(f"192.0.2.9, {OFFICE}") == 200
    assert ask(f"{OFFICE}, 192.0.2.9") == 403
    assert ask("192.0.2.9", ("x-original-address", OFFICE)) == 403
    assert send(place.port, "/orders/office-1", [bearer(place.token)]).status == 403


def test_sidecar_when_it_is_gone_then_nothing_passes(company: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    arguments = ["--data", "off", "--http-authz", "127.0.0.1:0"]
    with (
        shop() as behind,
        serving(company, tmp_path / "state", *arguments) as sidecar,
        envoy(
            asks_by_http(
                placed_config(
                    data="127.0.0.1:1",
                    keys=tmp_path / "keys",
                    folder=tmp_path,
                    shop=behind.http,
                    shop_grpc=behind.grpc,
                ),
                sidecar.address("http-authz"),
            ),
            tmp_path / "envoy",
        ) as running,
    ):
        eventually(lambda: send(running.port(), "/open/page").status == 200)
        assert send(running.port(), "/orders/1").status == 401
        sidecar.stop()
        for _ in range(3):
            assert send(running.port(), "/open/page").status == 503
