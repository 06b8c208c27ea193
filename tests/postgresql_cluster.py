# SPDX-License-Identifier: Apache-2.0
"""
A PostgreSQL cluster that is thrown away: on a Unix socket, owned by somebody who is not root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

#: Debian keeps the programs of a server out of the search path.
_FOLDERS = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
}


class NotInstalledError(Exception):
    """PostgreSQL cannot be run here."""


class Cluster:
    """A running cluster, which gives databases."""

    def __init__(self, folder: Path, programs: dict[str, str]) -> None:
        self._folder = folder
        self._programs = programs
        self._numbers = count(1)

    def new_database(self) -> str:
        """Make an empty database, and return its URL."""
        name = f"test{next(self._numbers)}"
        statement = f"CREATE DATABASE {name} TEMPLATE template0"
        self.run("psql", "--quiet", "--no-psqlrc", "--dbname=postgres", "--command", statement)
        return f"postgresql://tests@/{name}?host={quote(str(self._folder))}"

    def new_schema(self) -> str:
        """Make an empty schema in a database that all share, and return its URL; quicker than a database."""
        name = f"schema{next(self._numbers)}"
        self.run("psql", "--quiet", "--no-psqlrc", "--dbname=postgres", "--command", f"CREATE SCHEMA {name}")
        options = quote(f"-c search_path={name}")
        return f"postgresql://tests@/postgres?host={quote(str(self._folder))}&options={options}"

    def run(self, program: str, *arguments: str) -> str:
        """Run a client program as the administrator of the cluster, and return what it printed."""
        environment = {**os.environ, "PGHOST": str(self._folder), "PGUSER": "tests"}
        run = subprocess.run(
            [self._programs[program], *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return run.stdout


@contextmanager
def postgresql_cluster() -> Iterator[Cluster]:
    """Run a cluster for the length of the block; a test skips where PostgreSQL is not installed."""
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(running_cluster())
        except NotInstalledError as error:
            pytest.skip(str(error))
        yield cluster


@contextmanager
def running_cluster(*, fsync: bool = False) -> Iterator[Cluster]:
    """
    Run a cluster for the length of the block.

    Args:
        fsync: Whether what is committed waits for the disk, as it does where data matter.

    Raises:
        NotInstalledError: PostgreSQL is not installed.
    """
    path = os.pathsep.join([*_FOLDERS, os.environ.get("PATH", "")])
    programs = {name: shutil.which(name, path=path) or "" for name in ("initdb", "pg_ctl", "psql", "pg_dump")}
    absent = [name for name, program in programs.items() if not program]
    if absent:
        raise NotInstalledError(f"PostgreSQL is not installed: there is no {', '.join(absent)}")
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    data, log = folder / "data", folder / "log"
    try:
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        options = ["--auth=trust", "--username=tests", "--encoding=UTF8", "--no-locale", "--no-sync"]
        _run(account, programs["initdb"], f"--pgdata={data}", *options)
        durable = {"fsync": "on", "full_page_writes": "on"} if fsync else {}
        settings = " ".join(f"-c {name}={value or _NOTHING}" for name, value in (_SETTINGS | durable).items())
        settings += f" -c unix_socket_directories={folder}"
        # The programs of the server are named by the first of them: initdb stands beside postgres.
        _run(account, programs["pg_ctl"], f"--pgdata={data}", f"--log={log}", "-w", "-o", settings, "start")
        try:
            yield Cluster(folder, programs)
        finally:
            _run(account, programs["pg_ctl"], f"--pgdata={data}", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_NOTHING = "''"


def _account() -> pwd.struct_passwd | None:
    """Return who runs the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotInstalledError("PostgreSQL does not run as root, and there is nobody else")


def _run(account: pwd.struct_passwd | None, *command: str) -> None:
    """Run a program of the server; a pipe would stay open for as long as the server runs."""
    who: dict[str, Any] = {}
    if account is not None:
        who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile() as output:
        run = subprocess.run(command, stdout=output, stderr=output, check=False, cwd="/", **who)
        output.seek(0)
        assert run.returncode == 0, output.read().decode()
