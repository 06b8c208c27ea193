# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator

import pytest

from sidecar.model.errors import SourceUnavailableError
from sidecar.services.watching import SourceWatcher


class Target:
    """Something whose fingerprint the test sets."""

    def __init__(self) -> None:
        self.now = b"first"
        self.tried_fingerprint = b"first"
        self.reloads = 0
        self.reloaded = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.due: float | None = None

    def fingerprint(self) -> bytes:
        return self.now

    def seconds_until_due(self) -> float | None:
        return self.due

    def reload(self) -> None:
        self.reloads += 1
        self.tried_fingerprint = self.now
        self.reloaded.release()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def watcher(target: Target) -> Iterator[SourceWatcher]:
    watcher = SourceWatcher(target=target, interval=0.01, settle=0.01)
    watcher.start()
    yield watcher
    watcher.stop()


@pytest.mark.usefixtures("watcher")
def test_watcher_when_the_source_changes_then_it_reloads_once(target: Target) -> None:
    target.now = b"second"

    assert target.reloaded.acquire(timeout=60)
    assert not target.reloaded.acquire(timeout=0.1)
    assert target.reloads == 1


def test_watcher_when_asked_then_it_reloads_though_nothing_changed(target: Target, watcher: SourceWatcher) -> None:
    watcher.request_reload()

    assert target.reloaded.acquire(timeout=60)


def test_watcher_when_it_never_looks_then_it_reloads_when_asked_alone(target: Target) -> None:
    watcher = SourceWatcher(target=target, interval=0, settle=0.01)
    watcher.start()
    target.now = b"second"
    assert not target.reloaded.acquire(timeout=0.1)

    watcher.request_reload()

    assert target.reloaded.acquire(timeout=60)
    watcher.stop()


def test_watcher_when_the_source_goes_on_changing_then_it_waits_for_rest(target: Target) -> None:
    seen = iter(range(10))

    def fingerprint() -> bytes:
        target.now = str(next(seen, 10)).encode()
        return target.now

    target.fingerprint = fingerprint  # type: ignore[method-assign]
    watcher = SourceWatcher(target=target, interval=0.01, settle=0.01)
    watcher.start()

    assert target.reloaded.acquire(timeout=60)
    assert target.tried_fingerprint == b"10"
    assert target.reloads == 1
    watcher.stop()


def test_watcher_when_a_change_is_taken_back_then_nothing_is_loaded(target: Target) -> None:
    looks: list[bytes] = [b"second", b"second", b"first"]

    def fingerprint() -> bytes:
        return looks.pop(0) if looks else b"first"

    target.fingerprint = fingerprint  # type: ignore[method-assign]
    watcher = SourceWatcher(target=target, interval=0.01, settle=0.01)
    watcher.start()

    assert not target.reloaded.acquire(timeout=0.2)
    assert not looks
    watcher.stop()


def test_watcher_when_a_reload_is_refused_then_it_goes_on(target: Target, watcher: SourceWatcher) -> None:
    target.failure = SourceUnavailableError("enough reloads are waiting already")
    watcher.request_reload()
    assert target.reloaded.acquire(timeout=60)
    target.failure = None

    watcher.request_reload()

    assert target.reloaded.acquire(timeout=60)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watcher_when_a_reload_breaks_then_it_goes_on(target: Target, watcher: SourceWatcher) -> None:
    target.failure = ZeroDivisionError()
    watcher.request_reload()
    assert target.reloaded.acquire(timeout=60)
    target.failure = None

    watcher.request_reload()

    assert target.reloaded.acquire(timeout=60)


@pytest.mark.parametrize("interval", [0.0, 600.0])
def test_watcher_when_a_reload_falls_due_then_it_reloads_by_itself(target: Target, interval: float) -> None:
    target.due = 0.01
    watcher = SourceWatcher(target=target, interval=interval, settle=0.01)

    watcher.start()
    target.due = -0.01

    assert target.reloaded.acquire(timeout=60)
    watcher.stop()


def test_watcher_when_a_reload_is_due_far_away_then_it_waits(target: Target) -> None:
    target.due = 1e9
    watcher = SourceWatcher(target=target, interval=0.01, settle=0.01)
    watcher.start()

    assert not target.reloaded.acquire(timeout=0.1)

    target.now = b"second"
    assert target.reloaded.acquire(timeout=60)
    watcher.stop()
