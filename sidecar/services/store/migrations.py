# SPDX-License-Identifier: Apache-2.0
"""
Versioned changes of the schema, applied in order, each as a whole or not at all.

A change that has been released is never edited: a further one follows it. There is no way back, so that no data is lost
on it; a store that is newer than the program is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, inspect, text

from sidecar.model.errors import SettingsError


class Migration(NamedTuple):
    """
    One change of the schema.

    Attributes:
        version: Its number; they follow one another from 1.
        statements: SQL that SQLite and PostgreSQL both take; ``{bytes}`` stands for their type of bytes.
    """

    version: int
    statements: Sequence[str]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        (
            """
            CREATE TABLE devices (
                serial_number TEXT NOT NULL PRIMARY KEY,
                user_arn TEXT NOT NULL,
                kind TEXT NOT NULL,
                name TEXT NOT NULL,
                slot INTEGER,
                session TEXT NOT NULL,
                created_at_ms BIGINT NOT NULL,
                expires_at_ms BIGINT,
                enabled_at_ms BIGINT,
                last_used_at_ms BIGINT,
                suspect_since_ms BIGINT,
                CONSTRAINT devices_user_slot UNIQUE (user_arn, slot),
                CONSTRAINT devices_slot_range CHECK (slot BETWEEN 1 AND 8),
                CONSTRAINT devices_slot_enabled CHECK ((slot IS NULL) = (enabled_at_ms IS NULL))
            )
            """,
            """
            CREATE TABLE totp_secrets (
                serial_number TEXT NOT NULL PRIMARY KEY REFERENCES devices (serial_number) ON DELETE CASCADE,
                key_id TEXT NOT NULL,
                sealed {bytes} NOT NULL,
                last_used_step BIGINT,
                drift_steps INTEGER NOT NULL
            )
            """,
            """
            CREATE TABLE credentials (
                serial_number TEXT NOT NULL PRIMARY KEY REFERENCES devices (serial_number) ON DELETE CASCADE,
                credential_id {bytes} NOT NULL,
                record TEXT NOT NULL,
                sign_count BIGINT NOT NULL,
                CONSTRAINT credentials_credential_id UNIQUE (credential_id)
            )
            """,
            """
            CREATE TABLE user_handles (
                user_arn TEXT NOT NULL PRIMARY KEY,
                handle {bytes} NOT NULL,
                CONSTRAINT user_handles_handle UNIQUE (handle)
            )
            """,
            """
            CREATE TABLE ceremonies (
                ceremony_id TEXT NOT NULL PRIMARY KEY,
                user_arn TEXT NOT NULL,
                session TEXT NOT NULL,
                device_name TEXT NOT NULL,
                challenge {bytes} NOT NULL,
                expires_at_ms BIGINT NOT NULL
            )
            """,
            "CREATE INDEX ceremonies_expires ON ceremonies (expires_at_ms)",
            "CREATE INDEX ceremonies_user ON ceremonies (user_arn)",
            """
            CREATE TABLE challenges (
                challenge_id TEXT NOT NULL PRIMARY KEY,
                user_arn TEXT NOT NULL,
                session TEXT NOT NULL,
                action TEXT NOT NULL,
                resource TEXT NOT NULL,
                require_user_verification BOOLEAN NOT NULL,
                webauthn_challenge {bytes} NOT NULL,
                user_code TEXT NOT NULL,
                state TEXT NOT NULL,
                created_at_ms BIGINT NOT NULL,
                expires_at_ms BIGINT NOT NULL,
                proved_at_ms BIGINT,
                method TEXT,
                serial_number TEXT,
                user_verified BOOLEAN,
                collected_at_ms BIGINT
            )
            """,
            "CREATE UNIQUE INDEX challenges_one_open ON challenges (session) WHERE state = 'open'",
            "CREATE INDEX challenges_user ON challenges (user_arn, created_at_ms)",
            "CREATE INDEX challenges_expires ON challenges (expires_at_ms)",
            """
            CREATE TABLE throttles (
                user_arn TEXT NOT NULL PRIMARY KEY,
                failures INTEGER NOT NULL,
                retry_at_ms BIGINT NOT NULL
            )
            """,
            "CREATE TABLE high_marks (name TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL)",
            """
            CREATE TABLE recovery_sets (
                user_arn TEXT NOT NULL PRIMARY KEY,
                salt {bytes} NOT NULL,
                created_at_ms BIGINT NOT NULL
            )
            """,
            """
            CREATE TABLE recovery_codes (
                user_arn TEXT NOT NULL REFERENCES recovery_sets (user_arn) ON DELETE CASCADE,
                digest {bytes} NOT NULL,
                used_at_ms BIGINT,
                PRIMARY KEY (user_arn, digest)
            )
            """,
        ),
    ),
    Migration(2, ("ALTER TABLE totp_secrets ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'sha1'",)),
    Migration(
        3,
        (
            """
            CREATE TABLE passwords (
                user_id TEXT NOT NULL PRIMARY KEY,
                user_arn TEXT NOT NULL,
                account TEXT NOT NULL,
                user_name TEXT NOT NULL,
                password_hash TEXT,
                set_at_ms BIGINT,
                last_used_at_ms BIGINT,
                locked_at_ms BIGINT,
                CONSTRAINT passwords_set CHECK ((password_hash IS NULL) = (set_at_ms IS NULL))
            )
            """,
            "CREATE INDEX passwords_name ON passwords (account, user_name)",
            """
            CREATE TABLE password_history (
                user_id TEXT NOT NULL REFERENCES passwords (user_id) ON DELETE CASCADE,
                set_at_ms BIGINT NOT NULL,
                password_hash TEXT NOT NULL,
                PRIMARY KEY (user_id, set_at_ms)
            )
            """,
            """
            CREATE TABLE revocations (
                kind INTEGER NOT NULL,
                subject {bytes} NOT NULL,
                before_ms BIGINT NOT NULL,
                expires_at_ms BIGINT NOT NULL,
                PRIMARY KEY (kind, subject)
            )
            """,
            "CREATE INDEX revocations_expires ON revocations (expires_at_ms)",
        ),
    ),
    Migration(
        4,
        (
            "ALTER TABLE challenges ADD COLUMN asked_by TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE challenges ADD COLUMN asked_from TEXT NOT NULL DEFAULT ''",
        ),
    ),
    Migration(
        5,
        (
            "ALTER TABLE challenges ADD COLUMN shown_action TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE challenges ADD COLUMN shown_resource TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE challenges ADD COLUMN return_address TEXT NOT NULL DEFAULT ''",
            # TOTP, WebAuthn, U2F and recovery codes.
            "ALTER TABLE challenges ADD COLUMN methods INTEGER NOT NULL DEFAULT 15",
            "ALTER TABLE challenges ADD COLUMN ticket_digest {bytes}",
            "CREATE UNIQUE INDEX challenges_ticket ON challenges (ticket_digest)",
        ),
    ),
)

#: Number of the lock that keeps two sidecars from migrating one PostgreSQL at a time.
_LOCK = 0x69616D736964
_TYPES = {"sqlite": {"bytes": "BLOB"}, "postgresql": {"bytes": "BYTEA"}}


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> tuple[int, ...]:
    """
    Bring the schema up to date, and return the versions that were applied.

    The caller's transaction is what makes it whole.

    Raises:
        SettingsError: The store was made by a newer program.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    present = _version(connection)
    newest = migrations[-1].version
    if present > newest:
        raise SettingsError(
            f"the store has schema version {present}, and this program knows {newest}",
            help="run the newer program, or restore the backup from before it",
        )
    applied = []
    for migration in migrations:
        if migration.version > present:
            for statement in migration.statements:
                connection.execute(text(statement.format(**_TYPES[dialect])))
            connection.execute(
                text("INSERT INTO schema_versions (version) VALUES (:version)"), {"version": migration.version}
            )
            applied.append(migration.version)
    return tuple(applied)


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table("schema_versions"):
        connection.execute(text("CREATE TABLE schema_versions (version INTEGER NOT NULL PRIMARY KEY)"))
        return 0
    return connection.execute(text("SELECT COALESCE(MAX(version), 0) FROM schema_versions")).scalar_one()  # type: ignore[no-any-return]
