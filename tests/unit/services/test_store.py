# SPDX-License-Identifier: Apache-2.0
"""The store itself, on both databases: schema, migrations, files, errors."""

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from sidecar.model.errors import SettingsError, SourceUnavailableError
from sidecar.services.store import migrations, schema
from sidecar.services.store.engine import Store, open_store
from sidecar.services.store.migrations import MIGRATIONS, Migration, migrate
from tests.unit.services.mfa_kit import ADA, Kit


def test_migrations_when_applied_then_the_tables_are_those_that_the_code_knows(store: Store) -> None:
    with store.read() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == {*schema.metadata.tables, "schema_versions"}
        for name, table in schema.metadata.tables.items():
            columns = {column["name"]: column for column in found.get_columns(name)}
            assert set(columns) == {column.name for column in table.columns}
            for column in table.columns:
                assert columns[column.name]["nullable"] == column.nullable, f"{name}.{column.name}"
                kind = columns[column.name]["type"].as_generic().__class__
                assert isinstance(column.type.as_generic(), kind) or issubclass(kind, type(column.type)), column
            assert found.get_pk_constraint(name)["constrained_columns"] == [key.name for key in table.primary_key]
            indexes = {index["name"] for index in found.get_indexes(name) if not index.get("duplicates_constraint")}
            assert indexes == {index.name for index in table.indexes}
            unique = {constraint["name"] for constraint in found.get_unique_constraints(name)}
            assert unique == {
                constraint.name for constraint in table.constraints if constraint.__visit_name__ == "unique_constraint"
            }


def test_migrations_when_read_then_their_numbers_follow_one_another() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_store_when_opened_again_then_nothing_is_applied_and_data_stay(
    kit: Kit, store_url: str, tmp_path: Path
) -> None:
    kit.enrol_phone()
    again = open_store(store_url, state_dir=tmp_path)
    with again.write() as connection:
        assert migrate(connection) == ()
        assert connection.execute(text("SELECT user_arn FROM devices")).scalar_one() == ADA
    again.close()


def test_migration_when_a_further_one_comes_then_data_stay(kit: Kit, store: Store) -> None:
    kit.enrol_phone()
    newest = MIGRATIONS[-1].version
    more = Migration(
        newest + 1,
        ("ALTER TABLE devices ADD COLUMN note TEXT NOT NULL DEFAULT 'none'", "CREATE TABLE more (b {bytes})"),
    )
    with store.write() as connection:
        assert migrate(connection, (*MIGRATIONS, more)) == (newest + 1,)
    with store.read() as connection:
        assert connection.execute(text("SELECT user_arn, note FROM devices")).one() == (ADA, "none")
    assert kit.enrol_phone(name="second").serial_number


def test_migration_when_it_breaks_then_nothing_of_it_stays(store: Store) -> None:
    newest = MIGRATIONS[-1].version
    more = Migration(newest + 1, ("CREATE TABLE more (a TEXT)", "CREATE TABLE devices (a TEXT)"))
    with pytest.raises((SourceUnavailableError, ProgrammingError)), store.write() as connection:
        migrate(connection, (*MIGRATIONS, more))
    with store.write() as connection:
        assert not inspect(connection).has_table("more")
        assert migrate(connection) == ()


def test_store_when_it_is_newer_than_the_program_then_it_is_refused(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    with store.write() as connection:
        connection.execute(text("INSERT INTO schema_versions (version) VALUES (999)"))
    with pytest.raises(SettingsError, match="schema version 999"):
        open_store(store_url, state_dir=tmp_path)


def test_store_when_several_open_it_at_first_then_one_makes_the_tables(store_url: str, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            open_store(store_url, state_dir=tmp_path).close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a failure
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_transaction_when_the_block_fails_then_nothing_is_kept(store: Store) -> None:
    statement = text("INSERT INTO throttles (user_arn, failures, retry_at_ms) VALUES ('a', 1, 0)")
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(statement, [{}, {}])
    with store.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM throttles")).scalar_one() == 0


def test_slot_when_it_is_taken_or_out_of_range_then_the_database_refuses(store: Store) -> None:
    insert = text(
        "INSERT INTO devices (serial_number, user_arn, kind, name, slot, session, created_at_ms, enabled_at_ms)"
        " VALUES (:serial, 'u', 'totp', 'n', :slot, 's', 1, 1)"
    )
    for serial, slot in (("a", 1), ("b", 1), ("c", 9), ("d", 0)):
        if serial == "a":
            with store.write() as connection:
                connection.execute(insert, {"serial": serial, "slot": slot})
        else:
            with pytest.raises(IntegrityError), store.write() as connection:
                connection.execute(insert, {"serial": serial, "slot": slot})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://root:secret@h/d", "is no kind of store"),
        ("sqlite://", "is no kind of store"),
        ("sqlite:///:memory:", "is no kind of store"),
        ("postgresql+psycopg2://h/d", "is no kind of store"),
        ("postgresql://ada:secret@h:port/d", "cannot be read"),
    ],
)
def test_url_when_it_is_none_of_ours_then_it_is_refused_without_its_password(
    url: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        open_store(url, state_dir=tmp_path)
    assert "secret" not in f"{caught.value} {caught.value.help}"


def test_postgresql_when_nobody_answers_then_the_error_holds_no_password(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="cannot be used") as caught:
        open_store(f"postgresql://ada:secret@/d?host={tmp_path}", state_dir=tmp_path)
    assert "secret" not in f"{caught.value} {caught.value.help}"


def test_sqlite_when_made_then_all_of_its_files_are_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store("", state_dir=tmp_path)
        with store.read() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
            assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
            names = {path.name for path in tmp_path.iterdir()}
            assert names == {"mfa.db", "mfa.db-wal", "mfa.db-shm"}
            assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_sqlite_when_the_file_cannot_be_trusted_then_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mfa.db"
    path.touch(mode=0o644)
    with pytest.raises(SettingsError, match="read by others"):
        open_store("", state_dir=tmp_path)
    path.unlink()
    (tmp_path / "other").touch(mode=0o600)
    path.symlink_to(tmp_path / "other")
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_store("", state_dir=tmp_path)
    path.unlink()
    with pytest.raises(SettingsError, match="no such file"):
        open_store("", state_dir=tmp_path, must_exist=True)


def test_sqlite_when_the_file_is_none_then_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "mfa.db"
    path.touch(mode=0o600)
    path.write_bytes(b"this is not a database, but a text that is long enough to be looked at" * 20)
    with pytest.raises(SourceUnavailableError, match="not a database"):
        open_store("", state_dir=tmp_path)


def test_lock_when_its_number_is_read_then_postgresql_can_take_it() -> None:
    assert 0 < migrations._LOCK < 2**63


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_file_when_root_makes_it_beside_a_service_then_it_is_the_services(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    store = open_store("", state_dir=tmp_path)
    try:
        with store.write() as connection:
            connection.execute(text("INSERT INTO throttles (user_arn, failures, retry_at_ms) VALUES ('a', 1, 0)"))
        for path in sorted(tmp_path.iterdir()):
            found = path.stat()
            assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 12346, 0o600), path
        assert len(list(tmp_path.iterdir())) == 3
    finally:
        store.close()


def test_statement_when_it_fails_then_its_parameters_are_not_shown(store: Store) -> None:
    statement = text("INSERT INTO recovery_sets (user_arn, salt, created_at_ms) VALUES ('a', :salt, 0)")
    for salt in (b"first secret", b"second secret"):
        with contextlib.suppress(IntegrityError), store.write() as connection:
            connection.execute(statement, {"salt": salt})
    with pytest.raises(IntegrityError) as caught, store.write() as connection:
        connection.execute(statement, {"salt": b"third secret"})
    assert "secret" not in str(caught.value)
