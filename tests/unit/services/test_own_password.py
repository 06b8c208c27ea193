# SPDX-License-Identifier: Apache-2.0
"""Changing one's own password: who may, and what it takes."""

import pytest

from sidecar.model.errors import (
    AuthenticationError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SessionRevokedError,
    SidecarError,
)
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR
from tests.unit.services.session_kit import PASSWORD, SessionKit, build_image

NEW = "Another-horse-8"
LETTING = {"allow_users_to_change_password": True}


@pytest.fixture
def letting(sessions: SessionKit) -> SessionKit:
    """Sessions of an account that lets people change their own passwords."""
    sessions.snapshots.image = build_image(policy=LETTING)
    return sessions


def test_password_when_the_account_lets_people_then_it_is_changed_and_sessions_end(letting: SessionKit) -> None:
    caller = letting.signed_in()
    assert letting.sessions.may_change_password(caller)

    letting.sessions.change_password(caller, old_password=PASSWORD, new_password=NEW)

    with pytest.raises(SessionRevokedError):
        letting.sessions.authenticate(caller.token, "")
    letting.clock.advance(1)
    assert letting.sign_in(password=NEW).claims.person == ADA


@pytest.mark.parametrize(
    ("old", "new", "error"), [("Wrong-horse-7", NEW, AuthenticationError), (PASSWORD, "short", RequestError)]
)
def test_password_when_one_of_both_will_not_do_then_nothing_is_changed(
    letting: SessionKit, old: str, new: str, error: type[SidecarError]
) -> None:
    caller = letting.signed_in()

    with pytest.raises(error):
        letting.sessions.change_password(caller, old_password=old, new_password=new)

    assert letting.sessions.authenticate(caller.token, "").session == caller.session
    assert letting.sign_in(password=PASSWORD).claims.person == ADA


@pytest.mark.parametrize("is_let", [False, True])
def test_password_when_nobody_lets_them_or_a_policy_denies_then_people_may_not(
    sessions: SessionKit, is_let: bool
) -> None:
    sessions.snapshots.image = build_image(policy=LETTING, deny=["iam:ChangePassword"]) if is_let else build_image()
    caller = sessions.signed_in()

    assert not sessions.sessions.may_change_password(caller)
    with pytest.raises(PermissionDeniedError):
        sessions.sessions.change_password(caller, old_password=PASSWORD, new_password=NEW)


def test_password_when_the_session_did_not_begin_with_one_then_it_is_not_changed(letting: SessionKit) -> None:
    caller = letting.caller(letting.sessions.get_session_token(letting.signed_in()))

    for other in (caller, ADMINISTRATOR):
        assert not letting.sessions.may_change_password(other)
        with pytest.raises(PreconditionError):
            letting.sessions.change_password(other, old_password=PASSWORD, new_password=NEW)
