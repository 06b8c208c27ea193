# SPDX-License-Identifier: Apache-2.0
"""
The snapshot in place: where it comes from, how it is replaced, and what is known of it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.compile.layout import MAGIC
from sidecar.compile.problems import quote
from sidecar.compile.shadow import moment_text
from sidecar.core import Image, return_memory
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
from sidecar.services.compiling import Compiler, Progress, compile_source
from sidecar.services.log import Log, NullLog
from sidecar.services.metrics import NullMetrics, SnapshotMetrics
from sidecar.services.source_files import fingerprint

#: Problems of one reload that are written to the log, of each severity.
_LOGGED_PROBLEMS = 50
#: Entries in shadow that are written to the log when a snapshot is put in place.
_LOGGED_ENTRIES = 50
#: Seconds until a reload is tried again that failed after something in shadow should have come into force.
_RETRY_SECONDS = 60
#: Seconds by which a reload begins before something in shadow comes into force, so that the snapshot is ready by then.
_AHEAD_SECONDS = 15
#: Longest nap while it waits for that moment.
_NAP_SECONDS = 0.5
#: Callers that may wait for a reload under way; more are told to come again.
_WAITING_RELOADS = 2
_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LoadedSnapshot:
    """
    A snapshot that was put in place.

    Attributes:
        image: The image that decides.
        loaded_at: Nanoseconds since the epoch.
    """

    image: Image
    loaded_at: int


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """
    How a reload ended.

    Attributes:
        outcome: Whether the snapshot in place is that of the source.
        snapshot: What is in place now; None if nothing is.
        problems: Every error and warning that was found.
    """

    outcome: ReloadOutcome
    snapshot: LoadedSnapshot | None
    problems: tuple[Problem, ...]

    @property
    def is_applied(self) -> bool:
        """Whether what is in place is what the source says."""
        return self.outcome is not ReloadOutcome.FAILED

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that refuse a source."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


class SnapshotStore:
    """
    Holds the snapshot in place and replaces it as a whole.

    A request reads ``image`` once and keeps to it; a reload compiles aside and then assigns once.

    Thread-safety: reading takes no lock. Reloads are one after another.
    """

    def __init__(
        self,
        *,
        source: Path,
        compiler: Compiler,
        now: Callable[[], int],
        metrics: SnapshotMetrics | None = None,
        log: Log | None = None,
        load_image: Callable[[int, int], Image] = Image.from_fd,
        publish: Callable[[Image], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            source: Where snapshots come from.
            compiler: Makes images of sources.
            now: Nanoseconds since the epoch.
            metrics: Told how reloads go.
            log: Told the same in words.
            load_image: Opens a compiled image from a descriptor and a size.
            publish: Hands each new image to those who decide on their own.
            sleep: Lets so many seconds pass.
        """
        self._sleep = sleep
        self._is_closed = False
        self._source = source
        self._compiler = compiler
        self._now = now
        self._metrics: SnapshotMetrics = metrics or NullMetrics()
        self._log: Log = log or NullLog()
        self._load_image = load_image
        self._publish = publish
        self._loaded: LoadedSnapshot | None = None
        self._reloading = threading.Lock()
        self._places = threading.BoundedSemaphore(1 + _WAITING_RELOADS)
        self._tried = b""
        self._tried_at = 0
        self._has_failed = False

    @property
    def image(self) -> Image | None:
        """The image in place, or None before the first."""
        loaded = self._loaded
        return None if loaded is None else loaded.image

    @property
    def loaded(self) -> LoadedSnapshot | None:
        """The snapshot in place, or None before the first."""
        return self._loaded

    @property
    def source(self) -> Path:
        """Where snapshots come from: a directory, an archive, or an image."""
        return self._source

    def fingerprint(self) -> bytes:
        """Return a few bytes that change when the source does; they are empty while it cannot be read."""
        return source_fingerprint(self._source)

    @property
    def tried_fingerprint(self) -> bytes:
        """Fingerprint of the source at the beginning of the last reload."""
        return self._tried

    def seconds_until_due(self) -> float | None:
        """Return when a reload is needed because something in shadow comes into force; None: nothing will."""
        loaded = self._loaded
        if loaded is None or not loaded.image.shadow_entries:
            return None
        ends = [entry.until for entry in loaded.image.shadow_entries]
        due = [end - _AHEAD_SECONDS for end in ends if end > self._tried_at]
        if self._has_failed and len(due) < len(ends):
            due.append(self._tried_at + _RETRY_SECONDS)
        return min(due) - self._now() / 1e9 if due else None

    def reload(self) -> ReloadResult:
        """
        Put in place what the source says now. If that fails, what is in place stays.

        Raises:
            SourceUnavailableError: Too many callers wait for a reload already.
        """
        if not self._places.acquire(blocking=False):
            raise SourceUnavailableError("enough reloads are waiting already", help="try again when they are done")
        try:
            with self._reloading:
                return self._reload()
        finally:
            self._places.release()

    def close(self) -> None:
        """End a reload that is under way, and refuse further ones."""
        self._is_closed = True
        self._compiler.stop()

    def _reload(self) -> ReloadResult:
        began = time.monotonic()
        # Taken before reading: whatever changes from now on is a change.
        self._tried = self.fingerprint()
        # One moment decides what is in force.
        now = self._now() // _NANOS
        self._tried_at = moment = self._next_moment(now)
        problems: tuple[Problem, ...] = ()
        try:
            image, problems = self._load(moment)
            if image is not None and moment > now:
                ready = time.monotonic()
                self._wait_until(moment)
                # Waiting is no part of the work.
                began += time.monotonic() - ready
        except SidecarError as error:
            result = ReloadResult(ReloadOutcome.FAILED, self._loaded, self._problems_of(error))
        else:
            result = self._put_in_place(image, problems)
        self._has_failed = result.outcome is ReloadOutcome.FAILED
        self._report(result, time.monotonic() - began)
        # Problems, and the snapshot before, may have been large.
        return_memory()
        return result

    def _next_moment(self, now: int) -> int:
        """Return the second for which to load: *now*, or when something in shadow comes into force if that is soon."""
        entries = self._loaded.image.shadow_entries if self._loaded is not None else ()
        return min((entry.until for entry in entries if now < entry.until <= now + _AHEAD_SECONDS), default=now)

    def _wait_until(self, moment: int) -> None:
        """
        Let time pass until *moment*, in seconds since the epoch.

        Raises:
            SourceUnavailableError: The sidecar is stopping, or the clock was set back.
        """
        waited = 0.0
        while (left := moment - self._now() / _NANOS) > 0:
            if self._is_closed:
                raise SourceUnavailableError("the sidecar is stopping")
            if waited > 2 * _AHEAD_SECONDS:
                raise SourceUnavailableError("the clock was set back", help="what stands in shadow goes by it")
            nap = min(left, _NAP_SECONDS)
            self._sleep(nap)
            waited += nap

    def _load(self, now: int) -> tuple[Image | None, tuple[Problem, ...]]:
        if is_image_file(self._source):
            descriptor: int | None = _open(self._source)
            problems: tuple[Problem, ...] = ()
        else:
            compiled = self._compiler.compile_aside(self._source, now=now, is_urgent=self._loaded is None)
            descriptor, problems = compiled.descriptor, compiled.problems
        if descriptor is None:
            return None, problems
        try:
            image = self._load_image(descriptor, os.fstat(descriptor).st_size)
            return _image_at(image, now), (*problems, *_overdue(self._source, image, now))
        finally:
            os.close(descriptor)

    def _put_in_place(self, image: Image | None, problems: tuple[Problem, ...]) -> ReloadResult:
        current = self._loaded
        if image is None:
            return ReloadResult(ReloadOutcome.FAILED, current, problems)
        if current is not None and current.image.revision == image.revision:
            return ReloadResult(ReloadOutcome.UNCHANGED, current, problems)
        # INVARIANT: the only assignment after construction; readers see the old one or the new one.
        self._loaded = loaded = LoadedSnapshot(image, self._now())
        if self._publish is not None:
            self._publish(image)
        statistics = image.statistics
        self._metrics.record_snapshot(
            loaded_at=loaded.loaded_at / 1e9,
            principals=statistics["principals"],
            policies=statistics["policies"],
            statements=statistics["statements"],
            image_bytes=statistics["image_bytes"],
            shadow_entries=len(image.shadow_entries),
            shadow_expires_at=image.shadow_entries[0].until if image.shadow_entries else 0,
        )
        for entry in image.shadow_entries[:_LOGGED_ENTRIES]:
            self._log.info("in_shadow", kind=entry.kind.word, id=entry.id, until=moment_text(entry.until))
        return ReloadResult(ReloadOutcome.APPLIED, loaded, problems)

    def _problems_of(self, error: SidecarError) -> tuple[Problem, ...]:
        """Say as a problem of the source what kept it from being read."""
        if isinstance(error, InternalError):
            self._log.error("compile_failed", cause=str(error.cause))
        found = error.problems if isinstance(error, PolicySyntaxError) else ()
        if any(problem.severity is Severity.ERROR for problem in found):
            return found
        return (*found, Problem(Severity.ERROR, str(self._source), "$", error.message, error.help))

    def _report(self, result: ReloadResult, seconds: float) -> None:
        errors = len(result.errors)
        warnings = len(result.problems) - errors
        self._metrics.record_reload(result.outcome, seconds, errors, warnings)
        logged = {Severity.ERROR: 0, Severity.WARNING: 0}
        for problem in result.problems:
            logged[problem.severity] += 1
            if logged[problem.severity] <= _LOGGED_PROBLEMS:
                write = self._log.error if problem.severity is Severity.ERROR else self._log.warning
                write(
                    "source_problem",
                    file=problem.file,
                    json_path=problem.json_path,
                    message=problem.message,
                    help=problem.help,
                )
        values: dict[str, object] = {
            "outcome": result.outcome.value,
            "errors": errors,
            "warnings": warnings,
            "seconds": round(seconds, 3),
            "revision": result.snapshot.image.revision if result.snapshot is not None else "",
            "in_shadow": len(result.snapshot.image.shadow_entries) if result.snapshot is not None else 0,
        }
        if result.outcome is ReloadOutcome.FAILED:
            self._log.error("snapshot_reload", **values)
        else:
            self._log.info("snapshot_reload", **values)


def is_image_file(path: Path) -> bool:
    """
    Say whether *path* holds a compiled image rather than a source.

    Raises:
        SourceUnavailableError: It is not there or cannot be read.
        ImageError: It is neither a directory nor a regular file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return False
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"`{path}` is neither a directory nor a file")
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise _unreadable(path, error) from None


def load_image_file(path: Path) -> Image:
    """
    Return the compiled image in *path*, verified.

    Raises:
        SourceUnavailableError: It cannot be read.
        ImageError: It is damaged, or of another version.
    """
    descriptor = _open(path)
    try:
        return Image.from_fd(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def read_snapshot(path: Path, *, now: int, progress: Progress | None = None) -> tuple[Image, tuple[Problem, ...]]:
    """
    Return what *path* holds, a source or an image, and the warnings about it. It is compiled in this process.

    Args:
        now: Seconds since the epoch: what stands in shadow then is in force only beside the rest.

    Raises:
        SourceUnavailableError: It cannot be read.
        PolicySyntaxError: The source has errors.
        ImageError: The image is damaged, or of another version.
    """
    if is_image_file(path):
        image = load_image_file(path)
        return _image_at(image, now), _overdue(path, image, now)
    compiled = compile_source(path, now=now, progress=progress)
    if compiled.image is None:
        count = sum(problem.severity is Severity.ERROR for problem in compiled.problems)
        raise PolicySyntaxError(
            f"the source `{path}` has {count} error{'s' if count != 1 else ''}", problems=compiled.problems
        )
    return Image.from_bytes(compiled.image), compiled.problems


def _image_at(image: Image, now: int) -> Image:
    """Return *image*, or that which is in force once everything in its shadow should be."""
    if image.shadow_entries and image.shadow_entries[-1].until <= now:
        return image.with_shadow_in_force()
    return image


def _overdue(path: Path, image: Image, now: int) -> tuple[Problem, ...]:
    """Warn of what should be in force by now and is not, since an image holds more that is still in shadow."""
    over = [entry for entry in image.shadow_entries if entry.until <= now]
    if not over or len(over) == len(image.shadow_entries):
        return ()
    return tuple(
        Problem(
            Severity.WARNING,
            str(path),
            "$",
            f"{entry.kind.word} {quote(entry.id)} should be in force since {moment_text(entry.until)}: "
            "only what is allowed with it and without it is allowed",
            "compile the source again",
        )
        for entry in over
    )


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}",
        help="name a source directory, an archive of one, or an image made by `iam-sidecar compile`",
    )


def source_fingerprint(path: Path) -> bytes:
    """Return a few bytes that change when the source does; they are empty while it cannot be read."""
    try:
        return fingerprint(path)
    except SourceUnavailableError:
        return b""
