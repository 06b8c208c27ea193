# SPDX-License-Identifier: Apache-2.0
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.core import Image
from sidecar.model.errors import (
    ImageError,
    InternalError,
    PolicySyntaxError,
    Problem,
    Severity,
    SidecarError,
    SourceUnavailableError,
)
from sidecar.model.reload import ReloadOutcome
from sidecar.model.shadow import ShadowEntry, ShadowKind
from sidecar.services.compiling import CompiledFile
from sidecar.services.metrics import NullMetrics
from sidecar.services.snapshots import SnapshotStore, is_image_file, source_fingerprint

WARNING = Problem(Severity.WARNING, "a.json", "$", "odd", "mend it")
ERROR = Problem(Severity.ERROR, "a.json", "$.Statement", "wrong", "mend it")


class FakeCompiler:
    """Gives what it is told to, one thing after another."""

    def __init__(self, *results: str | SidecarError | tuple[Problem, ...]) -> None:
        self.results = list(results)
        self.stopped = False
        self.urgent: list[bool] = []
        self.times: list[int] = []
        self.before: Callable[[], object] = lambda: None

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        self.urgent.append(is_urgent)
        self.times.append(now)
        self.before()
        result = self.results.pop(0)
        if isinstance(result, SidecarError):
            raise result
        if isinstance(result, tuple):
            return CompiledFile(None, result)
        descriptor = os.memfd_create("image")
        os.write(descriptor, result.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return CompiledFile(descriptor, (WARNING,))

    def stop(self) -> None:
        self.stopped = True


class Recorder(NullMetrics):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.reloads: list[tuple[ReloadOutcome, int, int]] = []
        self.snapshots: list[float] = []

    def record_reload(self, outcome: ReloadOutcome, seconds: float, errors: int, warnings: int) -> None:
        self.reloads.append((outcome, errors, warnings))

    def record_snapshot(self, *, loaded_at: float, **_numbers: object) -> None:
        self.snapshots.append(loaded_at)


class Log:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, **values: object) -> None:
        self.events.append(("info", event, values))

    def warning(self, event: str, **values: object) -> None:
        self.events.append(("warning", event, values))

    def error(self, event: str, **values: object) -> None:
        self.events.append(("error", event, values))


def load_image(descriptor: int, size: int) -> Image:
    """Make an image whose revision is the text in the file."""
    text = os.read(descriptor, size).decode()
    if text == "damaged":
        raise ImageError("the image cannot be used: it is damaged")
    statistics = {"principals": 1, "policies": 2, "statements": 3, "image_bytes": size}
    return cast(Image, SimpleNamespace(revision=text, statistics=statistics, shadow_entries=()))


def make_store(source: Path, compiler: FakeCompiler, metrics: Recorder, log: Log | None = None) -> SnapshotStore:
    times = iter(range(1_000_000_000, 2_000_000_000, 1_000_000_000 // 8))
    return SnapshotStore(
        source=source,
        compiler=compiler,
        now=lambda: next(times),
        metrics=metrics,
        log=log,
        load_image=load_image,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_store_when_nothing_is_loaded_then_there_is_no_image(source: Path) -> None:
    store = make_store(source, FakeCompiler(), Recorder())

    assert store.image is None
    assert store.loaded is None


def test_reload_when_it_compiles_then_the_image_is_in_place(source: Path) -> None:
    metrics = Recorder()
    compiler = FakeCompiler("one", "two")
    store = make_store(source, compiler, metrics)

    first, second = store.reload(), store.reload()

    assert compiler.urgent == [True, False]

    assert (first.outcome, second.outcome) == (ReloadOutcome.APPLIED, ReloadOutcome.APPLIED)
    assert store.image is not None
    assert store.image.revision == "two"
    assert second.is_applied
    assert second.problems == (WARNING,)
    assert metrics.reloads == [(ReloadOutcome.APPLIED, 0, 1)] * 2
    assert metrics.snapshots == [1.125, 1.375]


def test_reload_when_the_revision_is_the_same_then_nothing_is_swapped(source: Path) -> None:
    metrics = Recorder()
    store = make_store(source, FakeCompiler("one", "one"), metrics)
    store.reload()
    before = store.loaded

    result = store.reload()

    assert result.outcome is ReloadOutcome.UNCHANGED
    assert result.is_applied
    assert store.loaded is before
    assert len(metrics.snapshots) == 1


@pytest.mark.parametrize(
    ("failure", "want"),
    [
        ((ERROR, WARNING), (ERROR, WARNING)),
        (SourceUnavailableError("gone", help="look"), "gone"),
        (InternalError("the compiler failed", cause="segmentation fault"), "the compiler failed"),
        (PolicySyntaxError("no archive", problems=(ERROR,)), (ERROR,)),
        (PolicySyntaxError("no archive", problems=()), "no archive"),
        ("damaged", "the image cannot be used: it is damaged"),
    ],
)
def test_reload_when_it_fails_then_the_image_stays_and_the_problems_are_told(
    source: Path, failure: str | SidecarError | tuple[Problem, ...], want: str | tuple[Problem, ...]
) -> None:
    metrics, log = Recorder(), Log()
    store = make_store(source, FakeCompiler("one", failure), metrics, log)
    store.reload()
    before = store.loaded

    result = store.reload()

    assert result.outcome is ReloadOutcome.FAILED
    assert not result.is_applied
    assert store.loaded is before is result.snapshot
    if isinstance(want, str):
        (problem,) = result.problems
        assert (problem.file, problem.message) == (str(source), want)
    else:
        assert result.problems == want
    assert metrics.reloads[-1][0] is ReloadOutcome.FAILED
    assert metrics.reloads[-1][1] == 1
    assert ("error", "snapshot_reload") in [(level, event) for level, event, _ in log.events]


def test_reload_when_the_compiler_fails_then_the_cause_is_in_the_log_alone(source: Path) -> None:
    log = Log()
    failure = InternalError("the compiler failed", cause="segmentation fault")
    store = make_store(source, FakeCompiler(failure), Recorder(), log)

    result = store.reload()

    assert "segmentation" not in str(result.problems)
    assert ("error", "compile_failed", {"cause": "segmentation fault"}) in log.events


def test_reload_when_there_are_many_problems_then_the_log_keeps_to_some(source: Path) -> None:
    log = Log()
    store = make_store(source, FakeCompiler((ERROR,) * 1000), Recorder(), log)

    result = store.reload()

    assert len(result.problems) == 1000
    assert sum(event == "source_problem" for _, event, _ in log.events) == 50


def test_reload_when_too_many_wait_then_further_ones_are_refused(source: Path) -> None:
    go_on, is_refused = threading.Event(), threading.Event()
    compiler = FakeCompiler("one", "two", "three")
    compiler.before = lambda: go_on.wait(60)
    store = make_store(source, compiler, Recorder())

    def reload() -> None:
        try:
            store.reload()
        except SourceUnavailableError:
            is_refused.set()

    # One is at work and two wait, whichever they are; for the fourth there is no place.
    threads = [threading.Thread(target=reload) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert is_refused.wait(60)
    go_on.set()
    for thread in threads:
        thread.join(60)

    assert store.image is not None
    assert compiler.results == []


def test_fingerprint_when_the_source_changes_then_it_does(source: Path) -> None:
    store = make_store(source, FakeCompiler("one"), Recorder())
    store.reload()
    assert store.fingerprint() == store.tried_fingerprint

    (source / "organization.json").write_text("{}")

    assert store.fingerprint() != store.tried_fingerprint


def test_fingerprint_when_the_source_changes_during_a_reload_then_it_counts_as_changed(source: Path) -> None:
    compiler = FakeCompiler("one")
    compiler.before = lambda: (source / "organization.json").write_text("{}")
    store = make_store(source, compiler, Recorder())

    store.reload()

    assert store.fingerprint() != store.tried_fingerprint


def test_fingerprint_when_there_is_no_source_then_it_says_so_without_raising(tmp_path: Path) -> None:
    source_fingerprint(tmp_path / "nothing")


def test_close_when_called_then_the_compiler_stops(source: Path) -> None:
    compiler = FakeCompiler()

    make_store(source, compiler, Recorder()).close()

    assert compiler.stopped


def test_image_file_when_it_begins_like_one_then_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"IAMIMAGE and more")
    (tmp_path / "archive.tar").write_bytes(b"something else")

    assert is_image_file(tmp_path / "image")
    assert not is_image_file(tmp_path / "archive.tar")
    assert not is_image_file(tmp_path)
    with pytest.raises(SourceUnavailableError, match="no such file"):
        is_image_file(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="neither a directory nor a file"):
        is_image_file(tmp_path / "pipe")


def test_image_file_when_served_then_no_compiler_is_asked(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"IAMIMAGE one")
    store = make_store(tmp_path / "image", FakeCompiler(), Recorder())

    assert store.reload().is_applied
    assert store.image is not None
    assert store.image.revision == "IAMIMAGE one"


# What stands in shadow.


def shadowed(*ends: int, revision: str = "shadowed") -> Image:
    """Make an image in whose shadow something ends at each of *ends*, seconds since the epoch."""
    entries = tuple(ShadowEntry(ShadowKind.POLICY, f"policy-{end}", end) for end in ends)
    statistics = {"principals": 1, "policies": 2, "statements": 3, "image_bytes": 4}
    after = SimpleNamespace(revision=f"{revision}, all in force", statistics=statistics, shadow_entries=())
    return cast(
        Image,
        SimpleNamespace(
            revision=revision, statistics=statistics, shadow_entries=entries, with_shadow_in_force=lambda: after
        ),
    )


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> int:
        return int(self.seconds * 1e9)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


def store_with(
    source: Path, clock: Clock, compiler: FakeCompiler, images: list[Image], log: Log | None = None
) -> SnapshotStore:
    """Make a store that loads *images* one after the other."""
    return SnapshotStore(
        source=source,
        compiler=compiler,
        now=clock,
        log=log,
        load_image=lambda descriptor, size: images.pop(0),
        sleep=clock.sleep,
    )


def test_reload_when_something_stands_in_shadow_then_it_is_due_a_little_before_that_ends(source: Path) -> None:
    clock, log = Clock(1000), Log()
    store = store_with(source, clock, FakeCompiler("a", "b"), [shadowed(1060, 2000), shadowed(2000, revision="b")], log)
    assert store.seconds_until_due() is None

    store.reload()

    assert store.seconds_until_due() == 45
    assert ("info", "in_shadow", {"kind": "policy", "id": "policy-1060", "until": "1970-01-01T00:17:40Z"}) in log.events
    clock.seconds = 1060.5
    assert store.seconds_until_due() == -15.5
    store.reload()
    assert store.seconds_until_due() == 2000 - 15 - 1060.5


def test_reload_when_something_ends_soon_then_the_next_snapshot_is_ready_and_put_in_place_then(source: Path) -> None:
    clock, compiler = Clock(1000), FakeCompiler("a", "b")
    store = store_with(source, clock, compiler, [shadowed(1060), shadowed(revision="b")])
    store.reload()
    clock.seconds = 1045.25

    result = store.reload()

    assert compiler.times == [1000, 1060]
    assert result.outcome is ReloadOutcome.APPLIED
    assert result.snapshot is not None
    assert result.snapshot.loaded_at >= 1060 * 10**9
    assert clock.seconds < 1060.1
    assert store.seconds_until_due() is None


def test_reload_when_it_fails_ahead_of_time_then_that_is_known_at_once_and_it_is_tried_again(source: Path) -> None:
    clock = Clock(1000)
    store = store_with(source, clock, FakeCompiler("a", (ERROR,)), [shadowed(1060, 9000)])
    store.reload()
    clock.seconds = 1045

    assert store.reload().outcome is ReloadOutcome.FAILED

    assert clock.seconds == 1045
    assert store.seconds_until_due() == 1060 + 60 - 1045


def test_reload_when_the_sidecar_stops_while_it_waits_then_nothing_is_put_in_place(source: Path) -> None:
    clock = Clock(1000)
    store = store_with(source, clock, FakeCompiler("a", "b"), [shadowed(1060), shadowed(revision="b")])
    store.reload()
    clock.seconds = 1050
    store.close()

    assert store.reload().outcome is ReloadOutcome.FAILED
    assert store.image is not None
    assert store.image.revision == "shadowed"


def test_reload_when_the_clock_is_set_back_while_it_waits_then_it_gives_up(source: Path) -> None:
    clock = Clock(1050)
    clock.sleep = lambda seconds: None  # type: ignore[method-assign]
    store = store_with(source, clock, FakeCompiler("a", "b"), [shadowed(1060), shadowed(revision="b")])
    store.reload()

    result = store.reload()

    assert result.outcome is ReloadOutcome.FAILED
    assert result.problems[0].message == "the clock was set back"


def test_reload_when_nothing_stands_in_shadow_then_it_is_never_due(source: Path) -> None:
    store = store_with(source, Clock(1000), FakeCompiler("a"), [shadowed()])

    store.reload()

    assert store.seconds_until_due() is None


def test_compiler_when_asked_then_it_is_told_the_time(source: Path) -> None:
    compiler = FakeCompiler("a")
    store_with(source, Clock(1000.9), compiler, [shadowed()]).reload()

    assert compiler.times == [1000]


def test_reload_when_it_fails_though_something_ended_then_it_is_tried_again(source: Path) -> None:
    clock = Clock(1000)
    store = store_with(source, clock, FakeCompiler("a", (ERROR,)), [shadowed(1100, 9000)])
    store.reload()
    clock.seconds = 1100

    assert store.reload().outcome is ReloadOutcome.FAILED

    assert store.seconds_until_due() == 60


def test_reload_when_it_fails_before_anything_ends_then_it_waits_for_that(source: Path) -> None:
    clock = Clock(1000)
    store = store_with(source, clock, FakeCompiler("a", (ERROR,)), [shadowed(9000)])
    store.reload()
    store.reload()

    assert store.seconds_until_due() == 7985


def test_image_file_when_all_in_its_shadow_has_ended_then_that_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"IAMIMAGE")
    clock = Clock(1000)
    store = store_with(tmp_path / "image", clock, FakeCompiler(), [shadowed(1100, 1200)] * 3)
    store.reload()
    clock.seconds = 1100

    result = store.reload()

    assert result.outcome is ReloadOutcome.UNCHANGED
    (problem,) = result.problems
    assert problem.severity is Severity.WARNING
    assert "policy `policy-1100` should be in force since 1970-01-01T00:18:20Z" in problem.message
    assert problem.help == "compile the source again"
    assert store.seconds_until_due() == 85
    clock.seconds = 1185
    result = store.reload()
    assert (result.outcome, result.problems) == (ReloadOutcome.APPLIED, ())
    assert clock.seconds == 1200
    assert store.image is not None
    assert store.image.revision == "shadowed, all in force"
    assert store.seconds_until_due() is None
