# SPDX-License-Identifier: Apache-2.0
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import httpx
import pytest

import sidecar.app
from sidecar.app import Application
from sidecar.model.errors import InternalError, PolicySyntaxError, SourceUnavailableError
from sidecar.services.compiling import CompiledFile
from sidecar.services.log import NullLog
from sidecar.services.snapshots import LoadedSnapshot, ReloadResult
from sidecar.settings import load_settings
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc
from tests.e2e.sidecar_process import eventually, question, write_source


class SlowCompiler:
    """Compiles until it is stopped."""

    def __init__(self, **_: object) -> None:
        self._stopped = threading.Event()

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        self._stopped.wait(60)
        raise SourceUnavailableError("the sidecar is stopping")

    def stop(self) -> None:
        self._stopped.set()


class BrokenCompiler(SlowCompiler):
    """Fails in a way that nobody thought of."""

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        raise ZeroDivisionError


def make_application(tmp_path: Path, announced: list[str]) -> Application:
    source = write_source(tmp_path / "source")
    flags = {
        "snapshot": str(source),
        "state_dir": str(tmp_path / "state"),
        "management": ["127.0.0.1:0", f"unix:{tmp_path / 'm.sock'}"],
        "http": "127.0.0.1:0",
        # Its usual port is one, and tests run beside each other.
        "prompt": "off",
        "data": ["127.0.0.1:0", f"unix:{tmp_path / 'a.sock'}"],
    }
    return Application(load_settings(flags, {}), log=NullLog(), announce=announced.append)


def test_run_when_no_snapshot_is_there_yet_then_it_lives_and_denies_and_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar.app, "ChildCompiler", SlowCompiler)
    announced: list[str] = []
    application = make_application(tmp_path, announced)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    seen: dict[str, object] = {}

    def ask() -> None:
        try:
            options = [("grpc.enable_http_proxy", 0)]
            with grpc.insecure_channel(f"unix:{tmp_path / 'm.sock'}", options=options) as channel:
                stub = pb_grpc.AuthorizationServiceStub(channel)
                eventually((tmp_path / "m.sock").exists)
                token = (tmp_path / "state" / "admin.token").read_text().strip()
                credentials = [("authorization", f"Bearer {token}")]
                seen["answer"] = stub.Authorize(question(), metadata=credentials, wait_for_ready=True, timeout=60)
            with grpc.insecure_channel(f"unix:{tmp_path / 'a.sock'}", options=options) as channel:
                try:
                    pb_grpc.AuthorizationServiceStub(channel).Authorize(question(), timeout=60)
                except grpc.RpcError as error:
                    seen["data"] = error.code()
            http = application._http
            assert http is not None
            eventually(lambda: http._server.started)
            port = http._server.servers[0].sockets[0].getsockname()[1]
            for path in ("/livez", "/readyz"):
                seen[path] = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    application.run()
    asking.join(60)

    answer = seen["answer"]
    assert isinstance(answer, pb.AuthorizeResponse)
    assert (answer.decision, answer.reason) == (pb.DECISION_IMPLICIT_DENY, "no_snapshot")
    # Callers of the data listener ask another sidecar, or again.
    assert seen["data"] is grpc.StatusCode.UNAVAILABLE
    assert (seen["/livez"], seen["/readyz"]) == (200, 503)
    assert announced == []
    assert not (tmp_path / "a.sock").exists()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == handlers


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_run_when_the_first_load_breaks_then_it_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar.app, "ChildCompiler", BrokenCompiler)

    with pytest.raises(InternalError):
        make_application(tmp_path, []).run()

    assert not (tmp_path / "a.sock").exists()


def test_run_when_the_source_is_broken_then_it_ends_with_the_problems(tmp_path: Path) -> None:
    application = make_application(tmp_path, [])
    write_source(tmp_path / "source", action="nonsense")

    with pytest.raises(PolicySyntaxError) as caught:
        application.run()

    assert len(caught.value.problems) == 1


def test_run_when_a_snapshot_is_replaced_then_the_old_image_goes(tmp_path: Path) -> None:
    application: Application
    images: list[str] = []

    def is_alive(revision: str) -> bool:
        gc.collect()
        return any(
            isinstance(thing, ReloadResult | LoadedSnapshot) and _revision(thing) == revision
            for thing in gc.get_objects()
        )

    def replace(_line: str) -> None:
        try:
            image = application._snapshots.image
            assert image is not None
            images.append(image.revision)
            write_source(tmp_path / "source", action="s3:PutObject")
            application._snapshots.reload()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    application = make_application(tmp_path, [])
    application._announce = replace
    application.run()

    assert application._snapshots.image is not None
    assert application._snapshots.image.revision != images[0]
    assert not is_alive(images[0])
    assert is_alive(application._snapshots.image.revision)


def _revision(thing: ReloadResult | LoadedSnapshot) -> str:
    snapshot = thing.snapshot if isinstance(thing, ReloadResult) else thing
    return "" if snapshot is None else snapshot.image.revision


def test_application_when_it_has_no_people_then_neither_database_nor_hashes_nor_seals_are_loaded(
    tmp_path: Path,
) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.unit.test_app import make_application\n"
        "application = make_application(Path(sys.argv[1]), [])\napplication._watch.refresh()\n"
        "print(*sorted({'sqlalchemy', 'argon2', 'cryptography', 'fido2'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )

    assert (run.returncode, run.stdout) == (0, "\n"), run.stderr
    assert not (tmp_path / "state" / "mfa.db").exists()
