# SPDX-License-Identifier: Apache-2.0
import os
import sys
import threading
from pathlib import Path

import pytest

from sidecar.core import Image
from sidecar.model.errors import InternalError, PolicySyntaxError, SourceUnavailableError
from sidecar.services.compiling import ChildCompiler, compile_source
from tests.e2e.sidecar_process import write_source


def make_compiler(tmp_path: Path, script: str | None = None, timeout: float = 60) -> ChildCompiler:
    """Return a compiler, or one whose child runs *script* instead."""
    if script is None:
        return ChildCompiler(scratch_dir=tmp_path, timeout=timeout)
    return ChildCompiler(scratch_dir=tmp_path, timeout=timeout, command=(sys.executable, "-c", script))


def test_child_when_the_source_is_good_then_it_gives_the_image_that_we_would_make(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    steps: list[tuple[int, int, str]] = []
    compiler = ChildCompiler(
        scratch_dir=tmp_path, timeout=60, progress=lambda done, total, what: steps.append((done, total, what))
    )

    compiled = compiler.compile_aside(source, now=0, is_urgent=True)

    assert compiled.descriptor is not None
    image = Image.from_fd(compiled.descriptor, os.fstat(compiled.descriptor).st_size)
    os.close(compiled.descriptor)
    ours = compile_source(source, now=0).image
    assert ours is not None
    assert image.revision == Image.from_bytes(ours).revision
    assert compiled.problems == ()
    assert steps
    assert os.listdir(tmp_path) == ["source"]


def test_child_when_the_source_is_bad_then_it_gives_the_problems(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", action="nonsense")

    compiled = make_compiler(tmp_path).compile_aside(source, now=0, is_urgent=True)

    assert compiled.descriptor is None
    assert compiled.problems == compile_source(source, now=0).problems


def test_child_when_there_is_no_source_then_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        make_compiler(tmp_path).compile_aside(tmp_path / "nothing", now=0, is_urgent=True)


def test_child_when_it_is_no_source_then_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(b"nonsense")

    with pytest.raises(PolicySyntaxError):
        make_compiler(tmp_path).compile_aside(tmp_path / "file.tar", now=0, is_urgent=True)


@pytest.mark.parametrize(
    "script",
    [
        "import sys; sys.stderr.write('the core is lost'); sys.exit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "print('no json')",
        'print(\'{"image_size": 5, "problems": []}\'); raise SystemExit(1)',
        "pass",
    ],
)
def test_child_when_it_fails_then_that_is_a_fault_of_ours(tmp_path: Path, script: str) -> None:
    with pytest.raises(InternalError) as caught:
        make_compiler(tmp_path, script).compile_aside(tmp_path, now=0, is_urgent=True)

    assert caught.value.message == "the compiler failed"
    assert "exit status" in str(caught.value.cause)


def test_child_when_it_says_much_on_standard_error_then_the_last_of_it_is_kept(tmp_path: Path) -> None:
    script = "import sys; sys.stderr.write('x' * 1_000_000 + 'the end'); sys.exit(1)"

    with pytest.raises(InternalError) as caught:
        make_compiler(tmp_path, script).compile_aside(tmp_path, now=0, is_urgent=True)

    assert str(caught.value.cause).endswith("the end")
    assert len(str(caught.value.cause)) < 10_000


def test_child_when_it_takes_too_long_then_it_is_ended(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="took longer than"):
        make_compiler(tmp_path, "import time; time.sleep(600)", timeout=0.2).compile_aside(
            tmp_path, now=0, is_urgent=True
        )


def test_child_when_it_is_stopped_then_it_ends_and_no_other_begins(tmp_path: Path) -> None:
    script = 'import time; print(\'{"progress": [0, 1, "x"]}\', flush=True); time.sleep(600)'
    is_running = threading.Event()
    compiler = ChildCompiler(
        scratch_dir=tmp_path,
        timeout=600,
        progress=lambda *_: is_running.set(),
        command=(sys.executable, "-c", script),
    )

    def stop() -> None:
        is_running.wait(60)
        compiler.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(SourceUnavailableError, match="stopping"):
        compiler.compile_aside(tmp_path, now=0, is_urgent=True)
    stopping.join(60)
    with pytest.raises(SourceUnavailableError, match="stopping"):
        compiler.compile_aside(tmp_path, now=0, is_urgent=True)


def test_child_when_there_is_no_room_for_the_image_then_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="no scratch file"):
        ChildCompiler(scratch_dir=tmp_path / "nothing", timeout=60).compile_aside(tmp_path, now=0, is_urgent=True)


@pytest.mark.parametrize("is_urgent", [True, False])
def test_child_when_others_are_served_meanwhile_then_they_go_first(tmp_path: Path, is_urgent: bool) -> None:
    script = "import sys; sys.stderr.write('nice ' + sys.argv[3]); sys.exit(1)"

    with pytest.raises(InternalError) as caught:
        make_compiler(tmp_path, script).compile_aside(tmp_path, now=0, is_urgent=is_urgent)

    assert str(caught.value.cause).endswith("nice 0" if is_urgent else "nice 10")
