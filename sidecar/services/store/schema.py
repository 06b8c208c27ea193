# SPDX-License-Identifier: Apache-2.0
"""
The tables, as the newest migration leaves them.

Times are milliseconds since the epoch, in UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: Devices of any kind that one user may have.
MAX_DEVICES = 8

metadata = MetaData()

#: One row a device. ``slot`` numbers the enabled devices of a user: that it is unique is what holds them to the limit.
devices = Table(
    "devices",
    metadata,
    Column("serial_number", Text, primary_key=True),
    Column("user_arn", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("slot", Integer),
    Column("session", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("enabled_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    Column("suspect_since_ms", BigInteger),
    UniqueConstraint("user_arn", "slot", name="devices_user_slot"),
    CheckConstraint(f"slot BETWEEN 1 AND {MAX_DEVICES}", name="devices_slot_range"),
    CheckConstraint("(slot IS NULL) = (enabled_at_ms IS NULL)", name="devices_slot_enabled"),
)

#: Seeds are sealed with the key that ``key_id`` names. A step that is not above ``last_used_step`` is spent.
#: ``algorithm`` is ``sha1``, unless another system enrolled the device.
totp_secrets = Table(
    "totp_secrets",
    metadata,
    Column("serial_number", Text, ForeignKey("devices.serial_number", ondelete="CASCADE"), primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("last_used_step", BigInteger),
    Column("drift_steps", Integer, nullable=False),
    Column("algorithm", Text, nullable=False),
)

#: Public keys of security keys; nothing here is secret.
credentials = Table(
    "credentials",
    metadata,
    Column("serial_number", Text, ForeignKey("devices.serial_number", ondelete="CASCADE"), primary_key=True),
    Column("credential_id", LargeBinary, nullable=False),
    Column("record", Text, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    UniqueConstraint("credential_id", name="credentials_credential_id"),
)

#: The name under which authenticators know a user: random, since it leaves this house.
user_handles = Table(
    "user_handles",
    metadata,
    Column("user_arn", Text, primary_key=True),
    Column("handle", LargeBinary, nullable=False),
    UniqueConstraint("handle", name="user_handles_handle"),
)

#: Registrations of keys under way. Whoever deletes the row has the ceremony.
ceremonies = Table(
    "ceremonies",
    metadata,
    Column("ceremony_id", Text, primary_key=True),
    Column("user_arn", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("device_name", Text, nullable=False),
    Column("challenge", LargeBinary, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("ceremonies_expires", "expires_at_ms"),
    Index("ceremonies_user", "user_arn"),
)

#: Requests for a proof. A session has one open challenge at most, and a ticket is redeemed for one challenge alone.
#: ``action`` and ``resource`` are what the proof holds for alone; what is shown may be a call that is not bound.
#: ``methods`` has a bit for each factor that will do.
challenges = Table(
    "challenges",
    metadata,
    Column("challenge_id", Text, primary_key=True),
    Column("user_arn", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("require_user_verification", Boolean, nullable=False),
    Column("webauthn_challenge", LargeBinary, nullable=False),
    Column("user_code", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("proved_at_ms", BigInteger),
    Column("method", Text),
    Column("serial_number", Text),
    Column("user_verified", Boolean),
    Column("collected_at_ms", BigInteger),
    Column("asked_by", Text, nullable=False),
    Column("asked_from", Text, nullable=False),
    Column("shown_action", Text, nullable=False),
    Column("shown_resource", Text, nullable=False),
    Column("return_address", Text, nullable=False),
    Column("methods", Integer, nullable=False),
    Column("ticket_digest", LargeBinary),
    Index(
        "challenges_one_open",
        "session",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    Index("challenges_ticket", "ticket_digest", unique=True),
    Index("challenges_user", "user_arn", "created_at_ms"),
    Index("challenges_expires", "expires_at_ms"),
)

#: Failures of a user since the last success, over every factor and call.
throttles = Table(
    "throttles",
    metadata,
    Column("user_arn", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("retry_at_ms", BigInteger, nullable=False),
)

#: Numbers that only rise, such as that of the FIDO metadata.
high_marks = Table(
    "high_marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

#: Salt of the recovery codes of a user; making new ones replaces it.
recovery_sets = Table(
    "recovery_sets",
    metadata,
    Column("user_arn", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

#: Digests of recovery codes.
recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_arn", Text, ForeignKey("recovery_sets.user_arn", ondelete="CASCADE"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("used_at_ms", BigInteger),
)

#: Sign-in of users, by unique id: one who is made anew under an old name has none.
passwords = Table(
    "passwords",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("user_arn", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("password_hash", Text),
    Column("set_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    Column("locked_at_ms", BigInteger),
    CheckConstraint("(password_hash IS NULL) = (set_at_ms IS NULL)", name="passwords_set"),
    Index("passwords_name", "account", "user_name"),
)

#: Passwords that a user had, the present one included, so that none is used again.
password_history = Table(
    "password_history",
    metadata,
    Column("user_id", Text, ForeignKey("passwords.user_id", ondelete="CASCADE"), primary_key=True),
    Column("set_at_ms", BigInteger, primary_key=True),
    Column("password_hash", Text, nullable=False),
)

#: What ends sessions and voids proofs before their time; of no use once everything that it could end is over.
revocations = Table(
    "revocations",
    metadata,
    Column("kind", Integer, primary_key=True),
    Column("subject", LargeBinary, primary_key=True),
    Column("before_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("revocations_expires", "expires_at_ms"),
)
