# SPDX-License-Identifier: Apache-2.0
"""
The store: one SQLite file by default, PostgreSQL for several sidecars.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.schema import Table

from sidecar.model.errors import SettingsError, SourceUnavailableError
from sidecar.services.store.migrations import migrate

#: Name of the SQLite file inside the state directory.
STORE_FILE = "mfa.db"
#: Connections that are kept and, beyond them, made for a while.
_POOL_SIZE, _MAX_OVERFLOW = 4, 12
#: Seconds to wait for a connection, and for whoever holds a lock.
_PATIENCE = 10
_PROTOCOLS = "sqlite:///FILE or postgresql://USER@HOST/NAME"


class Store:
    """
    Gives transactions, on one database.

    Thread-safety: locked; each transaction belongs to one thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(begins="BEGIN DEFERRED")
        # SQLite takes one writer at a time, and those that it turns away sleep blindly: here they queue.
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()

    @property
    def is_shared(self) -> bool:
        """Whether other machines may use the same database."""
        return self._engine.dialect.name != "sqlite"

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """
        Return a transaction that is kept if the block ends well.

        Raises:
            SourceUnavailableError: The database is out of reach, or somebody holds a lock for too long.
        """
        with _translated(), self._turn, self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """
        Return a transaction that only looks.

        Raises:
            SourceUnavailableError: The database is out of reach.
        """
        with _translated(), self._reading.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()


def open_store(url: str, *, state_dir: Path, must_exist: bool = False) -> Store:
    """
    Return the store with its schema up to date.

    Args:
        url: Empty for the SQLite file in the state directory.
        must_exist: Whether to refuse a SQLite file that is not there yet.

    Raises:
        SettingsError: The URL is none of ours, or the store is newer than this program.
        SourceUnavailableError: It cannot be reached.
    """
    parsed = _parse(url) if url else URL.create("sqlite", database=str(state_dir / STORE_FILE))
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite_engine(Path(parsed.database or ""), must_exist=must_exist)
    else:
        engine = _postgresql_engine(parsed)
    store = Store(engine)
    try:
        with store.write() as connection:
            migrate(connection)
    except BaseException:
        store.close()
        raise
    return store


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert into *table* that can say what to do on a conflict."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password.
        raise SettingsError("the store's URL cannot be read", help=f"write {_PROTOCOLS}") from None
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise SettingsError(f"`{parsed.drivername}` is no kind of store", help=f"write {_PROTOCOLS}")


def _sqlite_engine(path: Path, *, must_exist: bool) -> Engine:
    # SQLite gives its journal the mode of the file; so the file is made here, before anybody can look into it.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if must_exist else os.O_CREAT)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        what = os.strerror(error.errno or 0).lower()
        raise SettingsError(
            f"the store `{path}` cannot be opened: {what}", help="name a state directory of your own with --state-dir"
        ) from None
    try:
        status = os.fstat(descriptor)
        if status.st_size == 0 and os.geteuid() == 0:
            # Root may make the file beside a service, which has to go on writing to it; SQLite does so for the journal.
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        if status.st_mode & 0o077:
            raise SettingsError(f"the store `{path}` can be read by others", help="take that away with chmod 600")
    finally:
        os.close(descriptor)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _PATIENCE},
        pool_size=_POOL_SIZE,
        max_overflow=_MAX_OVERFLOW,
        pool_timeout=_PATIENCE,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        # A code that was spent stays spent, also when the power goes.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # What was deleted is a secret, too.
        cursor.execute("PRAGMA secure_delete = ON")
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: one that has read first could not be given it any more.
    connection.exec_driver_sql(connection.get_execution_options().get("begins", "BEGIN IMMEDIATE"))


def _postgresql_engine(url: URL) -> Engine:
    milliseconds = 1000 * _PATIENCE
    options = [
        f"-c statement_timeout={milliseconds}",
        f"-c lock_timeout={milliseconds}",
        f"-c idle_in_transaction_session_timeout={milliseconds}",
        # A code that was spent stays spent, also when the server crashes.
        "-c synchronous_commit=on",
        # What the URL says comes last, and so counts.
        *url.normalized_query.get("options", ()),
    ]
    arguments: dict[str, object] = {"options": " ".join(options)}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = _PATIENCE
    return create_engine(
        url.difference_update_query(["options"]),
        connect_args=arguments,
        isolation_level="READ COMMITTED",
        pool_size=_POOL_SIZE,
        max_overflow=_MAX_OVERFLOW,
        pool_timeout=_PATIENCE,
        pool_pre_ping=True,
        hide_parameters=True,
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn a database that is out of reach, busy or full into an error of ours; all else is a fault in a statement."""
    try:
        yield
    except (DatabaseError, InterfaceError, PoolTimeoutError) as error:
        # SQLite tells of a damaged file with the very class that all others derive from.
        is_out_of_reach = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)
        if not is_out_of_reach and type(error) is not DatabaseError:
            raise
        # SQLAlchemy's own text holds the parameters; that of the driver does not.
        cause = str(getattr(error, "orig", None) or "no connection is free").strip().partition("\n")[0]
        raise SourceUnavailableError(
            f"the store cannot be used at the moment: {cause[:200]}",
            help="look at the database, and at the free space of its disk",
        ) from None
