# SPDX-License-Identifier: Apache-2.0
"""The shop of the example behind a real nginx, which asks the sidecar by `auth_request`."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.e2e.asked_by_http import (
    check_body_arrives,
    check_browser_is_sent_to_sign_in,
    check_client_is_told,
    check_session_arrives,
)
from tests.e2e.envoy_process import ROOT, Shop, shop
from tests.e2e.people import set_password
from tests.e2e.protected_shop import ADA, Headers, bearer, restrict_to_office, send, sign_in, write_company
from tests.e2e.sidecar_process import PATIENCE, Sidecar, serving
from tests.e2e.test_docs import free_port

pytestmark = pytest.mark.peer

CONFIG = ROOT / "examples" / "nginx" / "nginx.conf"
#: Where ``scripts/test`` puts Debian's package, if the machine has none.
UNPACKED = ROOT / "build" / "nginx" / "usr" / "sbin"


def nginx_program() -> str:
    """Return the program, or skip the test."""
    found = shutil.which("nginx") or shutil.which("nginx", path=str(UNPACKED)) or shutil.which("/usr/sbin/nginx")
    if found is None:
        pytest.skip("nginx is not on this machine; scripts/test fetches it")
    return found


@contextmanager
def nginx(folder: Path, *, port: int, shop_address: str, prompt: str) -> Iterator[None]:
    """Run nginx on the configuration of the example, with other places in it."""
    text = CONFIG.read_text()
    for old, new in (
        ("/run/iam-sidecar/", f"{folder}/"),
        ("127.0.0.1:10080", f"127.0.0.1:{port}"),
        ("127.0.0.1:8000", shop_address),
        ("127.0.0.1:9194", prompt),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    command = [nginx_program(), "-e", f"{folder}/first.log", "-p", str(folder), "-c", f"{folder}/nginx.conf"]
    process = subprocess.Popen([*command, "-g", "daemon off; master_process off;"], stdin=subprocess.DEVNULL)
    try:
        latest = monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "first.log").read_text()
                assert monotonic() < latest, "nginx does not start"
                sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@dataclass(frozen=True, slots=True)
class Place:
    """nginx, what it asks, and what it protects."""

    port: int
    sidecar: Sidecar
    shop: Shop
    token: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    nginx_program()
    folder = tmp_path_factory.mktemp("nginx")
    source = write_company(folder / "company")
    port = free_port()
    listeners = ["--data", "off", "--http-authz", f"unix:{folder}/authz.sock", "--prompt", "127.0.0.1:0"]
    public = ["--public-url", f"http://localhost:{port}/.iam-sidecar"]
    with ExitStack() as stack:
        behind = stack.enter_context(shop())
        sidecar = stack.enter_context(serving(source, folder / "state", *listeners, *public))
        set_password(sidecar, source, ADA)
        prompt = sidecar.address("prompt")
        stack.enter_context(nginx(folder, port=port, shop_address=behind.http, prompt=prompt))
        yield Place(port, sidecar, behind, sign_in(sidecar))


def test_configuration_when_nginx_reads_it_then_it_is_sound(place: Place, tmp_path: Path) -> None:
    text = CONFIG.read_text().replace("/run/iam-sidecar/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(text)

    done = subprocess.run(
        [nginx_program(), "-t", "-e", f"{tmp_path}/first.log", "-p", str(tmp_path), "-c", f"{tmp_path}/nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stderr


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
        [("x_iam_principal", "evil")],
        [("x-forwarded-client-cert", "evil")],
        [("x-original-uri", "/open/page"), ("x-original-method", "evil"), ("x-original-host", "evil")],
    ],
)
def test_headers_when_a_caller_sends_ours_then_they_do_not_arrive(place: Place, headers: Headers) -> None:
    arrived = send(place.port, "/orders/1", [bearer(place.token), *headers]).arrived
    assert arrived.values("x-iam-principal") == [ADA]
    assert arrived.values("x-iam-account") == ["111122223333"]
    public = send(place.port, "/open/page", headers).arrived
    assert public.values("x-iam-principal") == []
    for one in (arrived, public):
        family = {
            name for name, _ in one.headers if name.replace("_", "-").startswith(("x-iam-", "x-forwarded-client"))
        }
        assert family <= {"x-iam-principal", "x-iam-account", "x-iam-route"}
    assert send(place.port, "/orders/1", headers).status == 401
    unknown = send(place.port, "/orders/1", [bearer(place.token), ("x-iam-admin", "evil")])
    assert unknown.status == 403, "nginx cannot be told to remove what its configuration does not name"


@pytest.mark.parametrize(
    "target",
    [
        "/any/a/../b",
        "/any/%2e%2e/b",
        "/any/a%2fb",
        "/any/a;x/b",
        "/any//b",
        "/any/a%5cb",
        "/any/%252e%252e/b",
        "/static/../orders/1",
        "/static/..%2forders/1",
        "/.iam-sidecar/../orders/1",
        "/.iam-sidecar/%2e%2e/orders/1",
        "/_iam/check",
        "/nginx/answer",
    ],
)
def test_path_when_two_programs_could_read_it_differently_then_it_is_refused(place: Place, target: str) -> None:
    assert send(place.port, target, [bearer(place.token)]).status in (400, 403, 404), target


def test_sidecar_when_it_is_gone_then_nothing_passes(tmp_path: Path, place: Place) -> None:
    port = free_port()
    with nginx(tmp_path, port=port, shop_address=place.shop.http, prompt="127.0.0.1:9"):
        for target in ("/orders/1", "/open/page"):
            reply = send(port, target, [bearer(place.token)])
            assert reply.status == 503
            assert reply.json == {"error": "authorization_unavailable"}


def test_address_when_proxies_are_in_front_then_theirs_are_counted_off(tmp_path: Path, place: Place) -> None:
    office = "203.0.113.7"
    source = write_company(tmp_path / "company")
    restrict_to_office(source, f"{office}/32")
    port = free_port()
    listeners = ["--data", "off", "--http-authz", f"unix:{tmp_path}/authz.sock", "--trusted-hops", "1"]
    with (
        serving(source, tmp_path / "state", *listeners) as sidecar,
        nginx(tmp_path, port=port, shop_address=place.shop.http, prompt="127.0.0.1:9"),
    ):
        set_password(sidecar, source, ADA)
        token = bearer(sign_in(sidecar))

        def ask(*forwarded: str) -> int:
            headers = [token, *(("x-forwarded-for", one) for one in forwarded)]
            return send(port, "/orders/office-1", headers).status

        assert send(port, "/orders/1", [token]).status == 200
        assert ask(office) == ask(f"192.0.2.9, {office}") == ask("192.0.2.9", office) == 200
        assert ask() == ask("192.0.2.9") == ask(f"{office}, 192.0.2.9") == ask(office, "192.0.2.9") == 403
        assert ask("nonsense") == ask(f"{office}, nonsense") == 400
    # Nobody is believed unless told.
    assert send(place.port, "/orders/1", [bearer(place.token), ("x-forwarded-for", "nonsense")]).status == 200
