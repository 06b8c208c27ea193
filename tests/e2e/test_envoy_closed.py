# SPDX-License-Identifier: Apache-2.0
"""What a caller gets through a real Envoy when the sidecar cannot decide: nothing, whatever Envoy was told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest

from examples.envoy.keys import make_keys
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.e2e.envoy_process import Envoy, Json, Shop, envoy, envoy_program, ext_authz, placed_config, shop
from tests.e2e.protected_shop import API_KEY, Headers, Reply, send, write_company
from tests.e2e.sidecar_process import PATIENCE, Sidecar, eventually, question, serving

pytestmark = pytest.mark.peer

KEY: Headers = [("x-api-key", API_KEY)]


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with the company of the example, its keys, and the shop."""

    folder: Path
    source: Path
    shop: Shop

    @property
    def socket(self) -> Path:
        return self.folder / "data.sock"

    def config(self) -> Json:
        """Return the configuration of the example, in that folder."""
        return placed_config(
            data=f"unix:{self.socket}",
            keys=self.folder / "keys",
            folder=self.folder,
            shop=self.shop.http,
            shop_grpc=self.shop.grpc,
        )

    def start(self, *arguments: str) -> Sidecar:
        """Start a sidecar, which the test has to stop."""
        listeners = ["--data", f"unix:{self.socket}", "--management", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        state = self.folder / "state"
        return Sidecar(["--snapshot", str(self.source), *listeners, *arguments], state_dir=state)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    envoy_program()
    folder = tmp_path_factory.mktemp("closed")
    make_keys(folder / "keys")
    with shop() as running:
        yield Place(folder, write_company(folder / "company"), running)


@pytest.fixture
def place(base: Place, tmp_path: Path) -> Place:
    """The same with a folder of the test's own."""
    (tmp_path / "keys").symlink_to(base.folder / "keys")
    return Place(tmp_path, base.source, base.shop)


def is_allowed(reply: Reply) -> bool:
    return reply.status == 200 and bool(reply.arrived.values("x-iam-principal"))


def ask(running: Envoy, target: str = "/orders/1", headers: Headers = KEY) -> Reply:
    return send(running.port(), target, headers)


def test_sidecar_when_it_is_stopped_and_started_again_then_it_is_closed_between(place: Place) -> None:
    with envoy(place.config(), place.folder / "envoy") as running:
        never = ask(running)
        assert never.status == 503, "no sidecar was ever there"
        assert ask(running, "/open/page").status == 503, "public routes are the sidecar's to know"

        sidecar = place.start()
        eventually(lambda: is_allowed(ask(running)))
        sidecar.stop()
        for _ in range(5):
            assert ask(running).status == 503
        assert running.stat("http.ingress.ext_authz.failure_mode_allowed") == 0

        sidecar = place.start()
        try:
            eventually(lambda: is_allowed(ask(running)))
            sidecar.stop(signal.SIGKILL)
            assert ask(running).status == 503
        finally:
            sidecar.stop()


def test_sidecar_when_it_does_not_answer_in_time_then_envoy_says_so(place: Place) -> None:
    with (
        serving(place.source, place.folder / "state", "--data", f"unix:{place.socket}") as sidecar,
        envoy(place.config(), place.folder / "envoy") as running,
    ):
        assert is_allowed(ask(running))
        sidecar.process.send_signal(signal.SIGSTOP)
        try:
            began = monotonic()
            slow = ask(running)
            assert slow.status == 503
            # Half a second of patience is configured; a minute would say that it is not obeyed.
            assert 0.4 < monotonic() - began < 60
        finally:
            sidecar.process.send_signal(signal.SIGCONT)
        eventually(lambda: is_allowed(ask(running)))


@pytest.fixture
def careless(place: Place) -> Json:
    """A configuration of somebody who has opened what should be closed."""
    config = place.config()
    for settings in ext_authz(config):
        settings["failure_mode_allow"] = True
        settings["failure_mode_allow_header_add"] = True
    return config


#: More than the sidecar reads of one request, for an Envoy that sends bodies along.
HUGE = b"z" * 1_500_000


def send_bodies(config: Json, most: int, **more: object) -> Json:
    """Have Envoy send the beginning of bodies along."""
    for settings in ext_authz(config):
        settings["with_request_body"] = {"max_request_bytes": most, **more}
    return config


def test_failure_mode_when_it_allows_then_what_cannot_be_decided_is_still_denied(place: Place, careless: Json) -> None:
    with (
        serving(place.source, place.folder / "state", "--data", f"unix:{place.socket}") as sidecar,
        envoy(send_bodies(careless, 2_000_000), place.folder / "envoy") as running,
    ):
        assert is_allowed(ask(running))
        assert send(running.port(), "/any/1", KEY, method="POST", body=HUGE).status == 413
        assert ask(running, "/nowhere").status == 403
        assert ask(running, "/orders/%zz").status in (400, 403)
        assert running.stat("http.ingress.ext_authz.failure_mode_allowed") == 0
        assert running.stat("http.ingress.ext_authz.error") == 0
        assert is_allowed(ask(running)), "the next one is none the worse for it"
        # What the setting is for, and why it is not to be used: a sidecar that is not there.
        sidecar.stop()
        opened = ask(running)
        assert opened.status == 200
        assert running.stat("http.ingress.ext_authz.failure_mode_allowed") == 1


def fill_the_log(sidecar: Sidecar) -> None:
    """Have a sidecar whose records go nowhere decide until there is no room for even a small one, and stays none."""
    large = question(context={"app:note": pb.ContextValue(values=["x" * 800])})
    small = pb.AuthorizeRequest(principal="arn:aws:iam::111122223333:user/a", action="a:A", resource="*")
    batches = [
        pb.BatchAuthorizeRequest(requests=[one] * count) for one, count in ((large, 1000), (small, 100), (small, 1))
    ]
    with sidecar.authorization("data") as stub:

        def is_refused(batch: pb.BatchAuthorizeRequest) -> bool:
            answers = stub.BatchAuthorize(batch, timeout=PATIENCE).responses
            return {answer.reason for answer in answers} == {"audit_unavailable"}

        def is_full() -> bool:
            # A batch has room as a whole or not at all. There are twenty megabytes to be filled, and what is in the
            # worker's ring moves on into memory while that has room.
            for batch in batches:
                while not is_refused(batch):
                    pass
            sleep(0.3)
            return is_refused(batches[-1])

        eventually(is_full)


@pytest.mark.parametrize(("on_error", "passes"), [("deny", False), ("error-response", True)])
def test_failure_mode_when_no_record_can_be_kept_then_the_setting_says_whether_it_counts(
    place: Place, careless: Json, on_error: str, passes: bool
) -> None:
    folder = place.folder / "logs"
    folder.mkdir()
    audit = ["--decision-log", f"{folder}/decisions.json", "--decision-log-mode", "required"]
    audit += ["--decision-log-spill-bytes", "0", "--workers", "1"]
    listeners = ["--data", "127.0.0.1:0", "--data", f"unix:{place.socket}", "--check-on-error", on_error]
    with (
        serving(place.source, place.folder / "state", *listeners, *audit) as sidecar,
        envoy(careless, place.folder / "careless") as opened,
        envoy(place.config(), place.folder / "envoy") as closed,
    ):
        assert is_allowed(ask(opened))
        assert is_allowed(ask(closed))
        folder.rename(place.folder / "elsewhere")
        fill_the_log(sidecar)
        assert ask(closed).status == 503
        assert ask(closed, "/open/page").status == 503
        reply = ask(opened)
        if passes:
            # Envoy's word for what it lets through, and nothing of ours.
            assert reply.arrived.values("x-envoy-auth-failure-mode-allowed") == ["true"]
            assert reply.arrived.values("x-iam-principal") == []
        else:
            assert reply.status == 503
        assert opened.stat("http.ingress.ext_authz.failure_mode_allowed") == int(passes)
        # What is denied anyway stays so: a client can fill a log.
        for target in ("/nowhere", "/reports/1", "/orders/1;x"):
            assert ask(opened, target).status == 503, target
        assert opened.stat("http.ingress.ext_authz.failure_mode_allowed") == int(passes)
        (place.folder / "elsewhere").rename(folder)
        eventually(lambda: is_allowed(ask(closed)))
        assert is_allowed(ask(opened))


def test_headers_when_they_are_large_then_those_that_fit_are_decided_on(place: Place) -> None:
    with (
        serving(place.source, place.folder / "state", "--data", f"unix:{place.socket}"),
        envoy(place.config(), place.folder / "envoy") as running,
    ):
        for kilobytes in (1, 8, 24):
            headers = [*KEY, *((f"x-filler-{number}", "x" * 1000) for number in range(kilobytes))]
            assert is_allowed(ask(running, headers=headers)), kilobytes
        many = [*KEY, *((f"x-many-{number}", "y") for number in range(80))]
        assert is_allowed(ask(running, headers=many))
        # Envoy takes 60 kilobytes of them, and the sidecar all that Envoy takes.
        larger = [*KEY, *((f"x-filler-{number}", "x" * 1000) for number in range(80))]
        assert ask(running, headers=larger).status == 431


def test_body_when_it_is_sent_along_then_the_request_is_decided_on_without_it(place: Place) -> None:
    with (
        serving(place.source, place.folder / "state", "--data", f"unix:{place.socket}"),
        envoy(send_bodies(place.config(), 4096, allow_partial_message=True), place.folder / "envoy") as partial,
        envoy(send_bodies(place.config(), 4096, pack_as_bytes=True), place.folder / "whole") as whole,
    ):
        # The batch may look at orders; the shop takes whatever method.
        for size in (0, 10, 4096, 200_000):
            reply = send(partial.port(), "/any/1", KEY, method="POST", body=b"z" * size)
            assert reply.arrived.body == "z" * size
            assert reply.arrived.values("x-envoy-auth-partial-body") == []
        body = bytes(range(256))
        reply = send(whole.port(), "/any/1", KEY, method="POST", body=body)
        assert reply.arrived.body == body.decode("latin-1")
        # Envoy's own answer: it does not send a part where it was not told to, and does not ask without.
        assert send(whole.port(), "/any/1", KEY, method="POST", body=b"z" * 5000).status == 413
