# SPDX-License-Identifier: Apache-2.0
"""
What issuing and ending sessions takes, on the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.services.mfa import MfaServices
from sidecar.services.sessions.asking import Engine
from sidecar.services.sessions.hashing import PasswordHasher
from sidecar.services.sessions.journal import SessionJournal, SignInJournal
from sidecar.services.sessions.passwords import PasswordService
from sidecar.services.sessions.revoking import Revoker
from sidecar.services.sessions.sign_in import SignInService
from sidecar.services.sessions.sts import StsService
from sidecar.services.throttles import Throttles


@dataclass(frozen=True, slots=True)
class SessionParts:
    """
    The parts, which share one store, one journal and one clock.

    Thread-safety: each is safe by itself.
    """

    sign_in: SignInService
    sts: StsService
    revoker: Revoker
    passwords: PasswordService


def build_session_parts(
    mfa: MfaServices,
    *,
    engine: Engine,
    journal: SessionJournal,
    now: Callable[[], int],
    hasher: PasswordHasher | None = None,
) -> SessionParts:
    """
    Return the parts on the store of *mfa*.

    Args:
        now: Gives nanoseconds since the epoch.
        hasher: What looks at passwords.
    """
    store = mfa.store
    hasher = hasher or PasswordHasher()
    # One row a user counts the failures of both; who is told of them differs.
    throttles = Throttles(store=store, now=now, journal=SignInJournal(journal, mfa.journal))
    return SessionParts(
        sign_in=SignInService(store=store, throttles=throttles, hasher=hasher, journal=journal, now=now),
        sts=StsService(mfa=mfa, engine=engine, now=now),
        revoker=Revoker(store=store, journal=journal, now=now),
        passwords=PasswordService(store=store, hasher=hasher, journal=journal, now=now),
    )
