# SPDX-License-Identifier: Apache-2.0
"""
Challenges: one person is asked to prove a device, for one session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from sidecar.model.challenge import ChallengeState
from sidecar.services.store.schema import challenges


class Challenge(NamedTuple):
    """
    A request for a proof.

    Attributes:
        session: The one that the proof belongs to.
        action: What the proof holds for alone; empty for everything.
        webauthn_challenge: What a security key signs.
        user_code: Shown wherever the challenge is, for the person to compare.
        asked_by: ARN of the session, as the person is shown it.
        asked_from: Address that it was asked from.
        shown_action: What the person is shown that it is for; the proof may hold for more.
        shown_resource: Likewise.
        return_address: Page that it was asked for on; empty where there is none.
        methods: Factors that will do, a bit for each ``MfaMethod``.
        ticket_digest: Of the ticket that it was made from; None where there was none.
        method: What it was proved with.
        serial_number: Of the device; empty for a recovery code.
    """

    challenge_id: str
    user_arn: str
    session: str
    action: str
    resource: str
    require_user_verification: bool
    webauthn_challenge: bytes
    user_code: str
    state: ChallengeState
    expires_at_ms: int
    asked_by: str
    asked_from: str
    shown_action: str
    shown_resource: str
    return_address: str
    methods: int
    ticket_digest: bytes | None = None
    proved_at_ms: int | None = None
    method: str | None = None
    serial_number: str | None = None
    user_verified: bool | None = None
    collected_at_ms: int | None = None


_COLUMNS = tuple(challenges.c[name] for name in Challenge._fields)


def open_challenge(connection: Connection, challenge: Challenge, now_ms: int) -> bool:
    """
    Open a challenge in the place of an open one of the same session.

    Returns:
        False where another call has opened one for the session, or redeemed the same ticket, in between.
    """
    try:
        # Whoever comes too late closes nothing: what stands open then is what the other call has just opened.
        with connection.begin_nested():
            connection.execute(
                update(challenges)
                .where(challenges.c.session == challenge.session, challenges.c.state == ChallengeState.OPEN.value)
                .values(state=ChallengeState.EXPIRED.value, expires_at_ms=now_ms)
            )
            values = {**challenge._asdict(), "state": challenge.state.value, "created_at_ms": now_ms}
            connection.execute(insert(challenges).values(values))
    except IntegrityError:
        return False
    return True


def find(connection: Connection, challenge_id: str, now_ms: int) -> Challenge | None:
    """Return a challenge as it stands now."""
    return _find(connection, challenges.c.challenge_id == challenge_id, now_ms)


def find_by_ticket(connection: Connection, ticket_digest: bytes, now_ms: int) -> Challenge | None:
    """Return the challenge that a ticket was redeemed for, as it stands now."""
    return _find(connection, challenges.c.ticket_digest == ticket_digest, now_ms)


def _find(connection: Connection, which: ColumnElement[bool], now_ms: int) -> Challenge | None:
    row = connection.execute(select(*_COLUMNS).where(which)).one_or_none()
    if row is None:
        return None
    challenge = _challenge(row)
    if challenge.state is ChallengeState.OPEN and challenge.expires_at_ms <= now_ms:
        return challenge._replace(state=ChallengeState.EXPIRED)
    return challenge


def count_begun(connection: Connection, user_arn: str, since_ms: int) -> int:
    """Return how many challenges a user was asked since then."""
    query = (
        select(func.count())
        .select_from(challenges)
        .where(challenges.c.user_arn == user_arn, challenges.c.created_at_ms > since_ms)
    )
    return connection.execute(query).scalar_one()


def close_proved(
    connection: Connection, challenge_id: str, *, method: str, serial_number: str, user_verified: bool, now_ms: int
) -> bool:
    """Close an open challenge with its proof; False if somebody else closed it, or its time is over."""
    return _close(
        connection,
        challenge_id,
        now_ms,
        state=ChallengeState.PROVED.value,
        proved_at_ms=now_ms,
        method=method,
        serial_number=serial_number,
        user_verified=user_verified,
    )


def close_refused(connection: Connection, challenge_id: str, now_ms: int) -> bool:
    """Close an open challenge without a proof; False if somebody else closed it, or its time is over."""
    return _close(connection, challenge_id, now_ms, state=ChallengeState.REFUSED.value)


def collect(connection: Connection, challenge_id: str, *, session: str, now_ms: int) -> Challenge | None:
    """Take the proof of a challenge, for the session that opened it; None where there is none to take (any more)."""
    row = connection.execute(
        update(challenges)
        .where(
            challenges.c.challenge_id == challenge_id,
            challenges.c.session == session,
            challenges.c.state == ChallengeState.PROVED.value,
            challenges.c.expires_at_ms > now_ms,
            challenges.c.collected_at_ms.is_(None),
        )
        .values(collected_at_ms=now_ms)
        .returning(*_COLUMNS)
    ).one_or_none()
    return None if row is None else _challenge(row)


def has_proof(connection: Connection, *, user_arn: str, session: str, since_ms: int) -> bool:
    """Say whether a session has proved a device of a user since then, for more than one action."""
    query = select(challenges.c.challenge_id).where(
        challenges.c.user_arn == user_arn,
        challenges.c.session == session,
        challenges.c.state == ChallengeState.PROVED.value,
        challenges.c.action == "",
        challenges.c.proved_at_ms > since_ms,
    )
    return connection.execute(query.limit(1)).one_or_none() is not None


def delete_before(connection: Connection, before_ms: int) -> int:
    """Delete the challenges that ended before then, and return how many they were."""
    return connection.execute(delete(challenges).where(challenges.c.expires_at_ms < before_ms)).rowcount


def _close(connection: Connection, challenge_id: str, now_ms: int, **values: object) -> bool:
    closed = connection.execute(
        update(challenges)
        .where(
            challenges.c.challenge_id == challenge_id,
            challenges.c.state == ChallengeState.OPEN.value,
            challenges.c.expires_at_ms > now_ms,
        )
        .values(**values)
    )
    return closed.rowcount == 1


def _challenge(row: Sequence[Any]) -> Challenge:
    challenge = Challenge(*row)
    return challenge._replace(state=ChallengeState(challenge.state))
