# SPDX-License-Identifier: Apache-2.0
"""
From a source on disk to an image, and the same in a process of its own.

A compile takes memory that Python does not give back and time that the running process has not to
spare, so a serving sidecar has a child do it: a fresh interpreter, never a fork of a process with
threads. Run as a program, this module is that child. It writes the image to a descriptor that it
inherits, and lines of JSON to its standard output: progress, and at the end the outcome.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from sidecar.model.errors import InternalError, PolicySyntaxError, Problem, Severity, SourceUnavailableError
from sidecar.services.log import Log, NullLog

#: Is told the steps done, their total (0: not known), and what is being done.
Progress = Callable[[int, int, str], None]

#: Bytes of the child's standard error that are kept for the log.
_KEPT_STDERR = 8192
#: Longest line of the child that is read. The problems of a source travel in one line.
_MAX_LINE = 64 * 1024 * 1024


#: How nice a compile is to the process that serves meanwhile.
_BACKGROUND = 10


@dataclass(frozen=True, slots=True)
class CompiledSource:
    """
    What came of a source.

    Attributes:
        image: The image, or None if there were errors.
        problems: Errors and warnings.
    """

    image: bytes | None
    problems: tuple[Problem, ...]


def compile_source(path: Path, *, now: int, progress: Progress | None = None) -> CompiledSource:
    """
    Read the source at *path*, check it, and compile it.

    Args:
        now: Seconds since the epoch: what stands in shadow then is in force only beside the rest.

    Raises:
        SourceUnavailableError: It cannot be read.
        PolicySyntaxError: It is no source at all, such as an archive that is damaged.
    """
    from sidecar.compile.image import write_image
    from sidecar.compile.source import parse_source
    from sidecar.services.source_files import read_source

    with _collector_paused():
        report = parse_source(read_source(path), now=now, progress=progress)
        if report.snapshot is None:
            return CompiledSource(None, report.problems)
        if progress is not None:
            progress(0, 0, "compiling")
        return CompiledSource(write_image(report.snapshot), report.problems)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the cyclic collector from walking again and again over what is only ever built up."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class CompiledFile:
    """
    What came of a source that was compiled aside.

    Attributes:
        descriptor: A file that holds the image, open at its beginning, for the receiver to close;
            None if there were errors.
        problems: Errors and warnings.
    """

    descriptor: int | None
    problems: tuple[Problem, ...]


class Compiler(Protocol):
    """Compiles a source without disturbing the process that asks."""

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        """
        Compile the source at *path*.

        Args:
            now: Seconds since the epoch, as in `compile_source`.
            is_urgent: Whether nobody is served until it is done; otherwise those who are served go first.

        Raises:
            SourceUnavailableError: It cannot be read, or took too long.
            PolicySyntaxError: It is no source at all.
            InternalError: The compiler failed.
        """
        ...

    def stop(self) -> None:
        """End a compile that is under way, and refuse further ones."""
        ...


class ChildCompiler:
    """
    Compiles in a child process.

    Thread-safety: one compile at a time; ``stop`` may come from another thread.
    """

    def __init__(
        self,
        *,
        scratch_dir: Path,
        timeout: float,
        log: Log | None = None,
        progress: Progress | None = None,
        command: Sequence[str] = (sys.executable, "-P", "-m", "sidecar.services.compiling"),
    ) -> None:
        self._scratch_dir = scratch_dir
        self._timeout = timeout
        self._log: Log = log or NullLog()
        self._progress = progress
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        """Compile the source at *path* in a child process."""
        # The file has no name, so nothing is left behind whatever happens to either process.
        try:
            scratch = tempfile.TemporaryFile(dir=self._scratch_dir)  # noqa: SIM115 - handed on to the receiver
        except OSError as error:
            raise SourceUnavailableError(
                f"no scratch file in `{self._scratch_dir}`: {os.strerror(error.errno or 0).lower()}",
                help="see that the state directory can be written and has room",
            ) from None
        with scratch:
            outcome = self._run(path, scratch.fileno(), now, is_urgent)
            if outcome.image_size is None:
                return CompiledFile(None, outcome.problems)
            # The child wrote through the same open file: its end is where we stand.
            scratch.seek(0)
            return CompiledFile(os.dup(scratch.fileno()), outcome.problems)

    def stop(self) -> None:
        """End the child, if one runs, and start no more."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    def _run(self, path: Path, descriptor: int, now: int, is_urgent: bool) -> _Outcome:
        with self._lock:
            if self._stopped:
                raise SourceUnavailableError("the sidecar is stopping")
            child = subprocess.Popen(
                [*self._command, str(path), str(descriptor), str(0 if is_urgent else _BACKGROUND), str(now)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(descriptor,),
                env=_child_environment(),
            )
            self._child = child
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._timeout, end)
        timer.daemon = True
        timer.start()
        stderr = _Tail(child.stderr)
        try:
            outcome = self._read(child)
            status = child.wait()
        finally:
            timer.cancel()
            child.kill()
            child.wait()
            stderr.join()
            if child.stdout is not None:
                child.stdout.close()
            with self._lock:
                self._child = None
        if outcome is not None and status == 0:
            if stderr.text:
                self._log.warning("compiler_said", text=stderr.text)
            return outcome.checked()
        if late.is_set():
            raise SourceUnavailableError(
                f"compiling took longer than {self._timeout:g} seconds", help="allow more with --compile-timeout"
            )
        if self._stopped:
            raise SourceUnavailableError("the sidecar is stopping")
        raise InternalError("the compiler failed", cause=f"exit status {status}: {stderr.text}")

    def _read(self, child: subprocess.Popen[bytes]) -> _Outcome | None:
        """Pass progress on until the outcome arrives."""
        if child.stdout is None:
            return None
        while line := child.stdout.readline(_MAX_LINE):
            try:
                message = json.loads(line)
            except ValueError:
                return None
            if "progress" in message:
                if self._progress is not None:
                    done, total, what = message["progress"]
                    self._progress(done, total, what)
            else:
                return _Outcome.from_json(message)
        return None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The child's last line."""

    image_size: int | None = None
    problems: tuple[Problem, ...] = ()
    unavailable: str = ""
    invalid: str = ""
    help: str = ""

    @classmethod
    def from_json(cls, message: dict[str, object]) -> _Outcome:
        problems = message.get("problems")
        size = message.get("image_size")
        return cls(
            image_size=size if isinstance(size, int) else None,
            problems=tuple(
                Problem(Severity(severity), file, json_path, text, help)
                for severity, file, json_path, text, help in (problems if isinstance(problems, list) else ())
            ),
            unavailable=str(message.get("unavailable", "")),
            invalid=str(message.get("invalid", "")),
            help=str(message.get("help", "")),
        )

    def checked(self) -> _Outcome:
        """Return this, or raise what the child said."""
        if self.unavailable:
            raise SourceUnavailableError(self.unavailable, help=self.help)
        if self.invalid:
            raise PolicySyntaxError(self.invalid, problems=self.problems, help=self.help)
        return self


class _Tail:
    """
    Reads a pipe to its end on a thread of its own, and keeps the last of it.

    Thread-safety: ``text`` may be read after ``join``.
    """

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="compile-stderr", daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace").strip()

    def join(self) -> None:
        self._thread.join(timeout=5)

    def _read(self) -> None:
        if self._pipe is None:
            return
        with self._pipe:
            while piece := self._pipe.read(4096):
                self._kept = (self._kept + piece)[-_KEPT_STDERR:]


def _child_environment() -> dict[str, str]:
    """Have the child import the very package that runs here, from wherever that was imported."""
    package_home = str(Path(__file__).resolve().parent.parent.parent)
    paths = [package_home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def main(arguments: Sequence[str]) -> int:
    """Compile a source; the arguments are its path, the descriptor for the image, how nice to be, and the time."""
    path, descriptor = Path(arguments[0]), int(arguments[1])
    os.nice(int(arguments[2]))
    # Nothing but our own lines may reach the parent's parser.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: dict[str, object]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    def progress(done: int, total: int, what: str) -> None:
        send({"progress": [done, total, what]})

    try:
        compiled = compile_source(path, now=int(arguments[3]), progress=progress)
        if compiled.image is not None:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(compiled.image)
    except SourceUnavailableError as error:
        send({"unavailable": error.message, "help": error.help})
        return 0
    except PolicySyntaxError as error:
        send({"invalid": error.message, "help": error.help, "problems": _rows(error.problems)})
        return 0
    except OSError as error:
        send({"unavailable": f"the image cannot be written: {os.strerror(error.errno or 0).lower()}"})
        return 0
    size = None if compiled.image is None else len(compiled.image)
    send({"image_size": size, "problems": _rows(compiled.problems)})
    return 0


def _rows(problems: Sequence[Problem]) -> list[list[str]]:
    return [[p.severity.value, p.file, p.json_path, p.message, p.help] for p in problems]


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # The process ends here: taking apart, object by object, what it built would only cost time.
    os._exit(status)
