# SPDX-License-Identifier: Apache-2.0
"""Signing in by password, and the administrator's side of it, on both databases."""

import statistics
import time
from pathlib import Path

import argon2
import pytest
from sqlalchemy import text

from sidecar.model.errors import (
    AuthenticationError,
    LimitExceededError,
    MfaError,
    PreconditionError,
    RequestError,
    SessionRevokedError,
    SidecarError,
    SourceUnavailableError,
)
from sidecar.model.session import SessionKind
from sidecar.services.callers import Caller
from sidecar.services.challenges import TotpAnswer
from sidecar.services.sessions.hashing import RUNNING, WAITING, PasswordHasher
from sidecar.services.sessions.issuing import IssuedSession
from sidecar.services.sessions.service import SessionService
from sidecar.services.store.throttles import LOCKED_AT, WAITS
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, session_of
from tests.unit.services.session_kit import ACCOUNT, CHEAP, PASSWORD, PEER, SessionKit, build_image
from tests.unit.services.test_devices import together

OTHER_PASSWORD = "Another-horse-8"
HOURS_12 = 12 * 60 * 60 * 1000
REFUSED = "account, user name or password is wrong, or there were too many failures"


def refused(kit: SessionKit, arn: str = ADA, password: str = "Wrong-horse-7", account: str = ACCOUNT) -> str:
    """Sign in in vain, and give the reason that the audit trail has."""
    with pytest.raises(AuthenticationError, match=REFUSED) as caught:
        kit.sign_in(arn, password, account)
    assert caught.value.reason == "unauthenticated"
    records = [record for record in kit.audit.records if record["event"] == "session.sign_in_refused"]
    return str(records[-1]["reason"])


@pytest.mark.parametrize("account", [ACCOUNT, "acme"])
def test_sign_in_when_the_password_is_right_then_there_is_a_session(sessions: SessionKit, account: str) -> None:
    sessions.set_password()
    sessions.clock.advance(1)

    issued = sessions.sign_in(account=account)

    said = sessions.caller(issued).claims
    assert said is not None
    assert (said.kind, said.principal, said.person, said.mfa) == (SessionKind.SIGN_IN, ADA, ADA, None)
    assert said.principal_id == said.person_id == sessions.user().user_id
    assert (said.issued_at_ms, said.lineage_issued_at_ms) == (sessions.now_ms, sessions.now_ms)
    assert issued.expires_at_ms == sessions.now_ms + HOURS_12
    last = sessions.audit.last
    assert (last["event"], last["kind"], last["peer"]) == ("session.issued", "sign_in", PEER)
    assert sessions.sign_in().claims.lineage != said.lineage


def test_sign_in_when_anything_is_wrong_then_all_is_answered_alike(sessions: SessionKit) -> None:
    sessions.set_password()

    assert refused(sessions) == "password_mismatch"
    assert refused(sessions, BOB) == "user_unknown"
    assert refused(sessions, account="444455556666") == "user_unknown"
    assert refused(sessions, account="nowhere") == "user_unknown"
    assert refused(sessions, account="") == "user_unknown"
    assert refused(sessions, "arn:aws:iam::111122223333:user/Ada") == "user_unknown"
    assert refused(sessions, "x" * 5000) == "user_unknown"
    assert refused(sessions, account="x" * 5000) == "user_unknown"
    assert refused(sessions, "arn:aws:iam::111122223333:user/a\0da") == "user_unknown"
    assert refused(sessions, "arn:aws:iam::111122223333:user/a\ud800") == "user_unknown"
    assert refused(sessions, BOB, password="\ud800\0") == "user_unknown"
    assert refused(sessions, account="\ud800\0") == "user_unknown"
    assert refused(sessions, password="") == "password_mismatch"
    assert refused(sessions, password=PASSWORD + "x" * 100_000) == "password_mismatch"
    assert refused(sessions) == refused(sessions) == "password_mismatch"
    assert refused(sessions, password=PASSWORD) == "throttled"
    # People type their password into the wrong field.
    assert "x" * 100 not in str(sessions.audit.records)


def test_sign_in_when_the_user_was_made_anew_then_there_is_no_password(sessions: SessionKit) -> None:
    sessions.set_password()
    sessions.snapshots.image = build_image(ada_id="AIDAADA0000000000000Z")

    assert refused(sessions, password=PASSWORD) == "user_unknown"
    sessions.set_password(password=OTHER_PASSWORD)
    assert sessions.sign_in(password=OTHER_PASSWORD).session_token


def test_sign_in_when_letters_are_composed_otherwise_then_it_is_the_same_password(lite: SessionKit) -> None:
    lite.set_password(password="Correct-caf\u00e9-7")

    assert lite.sign_in(password="Correct-cafe\u0301-7").session_token


def test_sign_in_when_there_is_no_snapshot_yet_then_it_is_out_of_reach(lite: SessionKit) -> None:
    lite.snapshots.image = None

    with pytest.raises(SourceUnavailableError, match="no snapshot"):
        lite.sign_in()


def test_sign_in_when_there_is_no_store_then_nobody_is_known_and_none_is_made(lite: SessionKit, tmp_path: Path) -> None:
    class Unopened:
        def open(self) -> None:
            raise AssertionError("nobody needs it")

    service = SessionService(
        watch=lite.watch,
        snapshots=lite.snapshots,
        engine=lite.engine,
        journal=lite.journal,
        parts=Unopened(),  # type: ignore[arg-type]
        has_store=lambda: False,
        now=lite.clock,
    )
    with pytest.raises(AuthenticationError, match=REFUSED):
        service.sign_in(account=ACCOUNT, user_name="ada", password=PASSWORD, peer=PEER)
    assert lite.audit.last["reason"] == "user_unknown"


def test_failures_when_they_go_on_then_the_right_password_is_refused_alike_until_an_administrator_helps(
    sessions: SessionKit,
) -> None:
    sessions.set_password()
    for seconds in WAITS:
        assert refused(sessions) == "password_mismatch"
        if seconds:
            assert refused(sessions, password=PASSWORD) == "throttled"
            sessions.clock.advance(seconds)
    assert "mfa.user_locked" in sessions.audit.events()
    assert refused(sessions, password=PASSWORD) == "throttled"

    assert sessions.parts.passwords.unlock(ADMINISTRATOR, sessions.user()) == (False, LOCKED_AT)

    assert sessions.sign_in().session_token


def test_failures_when_the_user_has_a_device_then_a_password_forgets_none_of_them(sessions: SessionKit) -> None:
    phone = sessions.enrol_phone()
    caller = sessions.signed_in()
    challenges = sessions.services.challenges
    for _ in range(4):
        opened = challenges.begin(caller, ADA, caller.session)
        with pytest.raises(MfaError):
            challenges.answer(caller, opened.challenge.challenge_id, TotpAnswer("000000"))
        assert sessions.sign_in().session_token

    # The fifth failure of whatever factor has to wait, and only a proof with the device forgets them.
    assert refused(sessions) == "password_mismatch"
    assert refused(sessions, password=PASSWORD) == "throttled"
    sessions.clock.advance(30)
    opened = challenges.begin(caller, ADA, caller.session)
    challenges.answer(caller, opened.challenge.challenge_id, TotpAnswer(phone.code(sessions.clock.seconds)))
    for _ in range(4):
        assert refused(sessions) == "password_mismatch"
    assert sessions.sign_in().session_token


def test_failures_when_the_user_has_no_device_then_the_password_forgets_them(sessions: SessionKit) -> None:
    sessions.set_password()
    for _ in range(3):
        for _ in range(4):
            assert refused(sessions) == "password_mismatch"
        assert sessions.sign_in().session_token


def test_guesses_when_they_come_all_at_once_then_few_are_looked_at(sessions: SessionKit) -> None:
    sessions.set_password()

    results = together(10, lambda number: sessions.sign_in(password=f"Wrong-horse-{number}"))

    assert all(isinstance(result, AuthenticationError) for result in results)
    reasons = [record["reason"] for record in sessions.audit.records if "reason" in record]
    assert reasons.count("password_mismatch") <= 5


def test_sign_ins_when_they_come_all_at_once_then_each_is_given_or_told_to_come_again(sessions: SessionKit) -> None:
    sessions.set_password()

    results = together(32, lambda _: sessions.sign_in())

    issued = {result.access_key_id for result in results if isinstance(result, IssuedSession)}
    others = [result for result in results if isinstance(result, SidecarError)]
    assert len(issued) >= 1
    assert len(issued) + len(others) == 32
    # Attempts under way count as failures until they are not.
    assert {type(error) for error in others} <= {AuthenticationError, LimitExceededError}
    assert sessions.sign_in().session_token


def test_hashing_when_too_many_ask_at_once_then_the_rest_is_told_so() -> None:
    hasher = PasswordHasher(memory_kib=64 * 1024, passes=3)
    count = RUNNING + WAITING + 6

    results = together(count, lambda _: hasher.verify(None, "x"))

    refused = [result for result in results if isinstance(result, LimitExceededError)]
    # More than these are refused if those that wait have had enough of it.
    assert 1 <= len(refused) <= count - RUNNING
    assert results.count(False) == count - len(refused)


def test_time_when_nobody_is_known_then_it_takes_as_long(sessions: SessionKit) -> None:
    sessions.parts.sign_in._hasher = hasher = PasswordHasher(memory_kib=19 * 1024, passes=3)
    sessions.parts.passwords._hasher = hasher
    sessions.set_password()
    taken: dict[str, list[float]] = {ADA: [], BOB: []}
    for _ in range(4):
        for arn, times in taken.items():
            began = time.process_time()
            refused(sessions, arn)
            times.append(time.process_time() - began)

    known, unknown = (statistics.median(times) for times in taken.values())
    assert 0.6 < known / unknown < 1.6


def test_hash_when_its_parameters_are_of_yesterday_then_signing_in_renews_it(sessions: SessionKit) -> None:
    sessions.set_password()
    stronger = {**CHEAP, "passes": 2}
    sessions.parts.sign_in._hasher = PasswordHasher(**stronger)

    assert sessions.sign_in().session_token
    assert sessions.sign_in().session_token

    with sessions.store.read() as connection:
        for table in ("passwords", "password_history"):
            found = connection.execute(text(f"SELECT password_hash FROM {table}")).scalar_one()
            parameters = argon2.extract_parameters(found)
            assert (parameters.time_cost, parameters.type) == (2, argon2.Type.ID)


def test_password_when_it_is_set_then_earlier_sessions_and_what_grew_from_them_are_over(sessions: SessionKit) -> None:
    caller = sessions.signed_in()
    grown = [sessions.sessions.get_session_token(caller), sessions.assume(caller)]
    grown.append(sessions.assume(sessions.caller(grown[1]), "next"))
    others = sessions.signed_in(BOB)

    sessions.set_password(password=OTHER_PASSWORD)

    for token in (caller.token, *(issued.session_token for issued in grown)):
        with pytest.raises(SessionRevokedError):
            sessions.sessions.authenticate(token, PEER)
    # The clock has not moved: what begins now is not ended by what was set now.
    assert sessions.caller(sessions.sign_in(password=OTHER_PASSWORD)).token
    assert sessions.sessions.authenticate(others.token, PEER).token
    assert refused(sessions, password=PASSWORD) == "password_mismatch"


def test_password_when_it_is_set_while_somebody_signs_in_with_the_old_one_then_no_session_of_it_lives(
    sessions: SessionKit,
) -> None:
    sessions.set_password()
    for number in range(6):
        old, new = (PASSWORD, OTHER_PASSWORD) if number % 2 == 0 else (OTHER_PASSWORD, PASSWORD)

        def work(place: int, old: str = old, new: str = new) -> IssuedSession | None:
            if place == 0:
                sessions.parts.passwords.set_password(ADMINISTRATOR, sessions.user(), sessions.account(), new)
                return None
            return sessions.sign_in(password=old)

        results = together(4, work)
        sessions.watch.refresh()

        assert results[0] is None
        for result in results[1:]:
            if isinstance(result, IssuedSession):
                with pytest.raises(SessionRevokedError):
                    sessions.caller(result)
        sessions.parts.passwords.unlock(ADMINISTRATOR, sessions.user())
        assert sessions.caller(sessions.sign_in(password=new)).token


def test_sign_in_when_the_password_is_replaced_while_it_is_looked_at_then_it_is_refused(lite: SessionKit) -> None:
    lite.set_password()

    class Meanwhile(PasswordHasher):
        def verify(self, password_hash: str | None, password: str) -> bool:
            is_right = super().verify(password_hash, password)
            lite.set_password(password=OTHER_PASSWORD)
            return is_right

    lite.parts.sign_in._hasher = Meanwhile(**CHEAP)

    assert refused(lite, password=PASSWORD) == "password_replaced"


def test_password_when_another_clock_is_ahead_then_its_session_is_over_all_the_same(sessions: SessionKit) -> None:
    sessions.set_password()
    sessions.clock.advance(20)
    ahead = sessions.sign_in()
    sessions.clock.advance(-20)

    sessions.set_password(password=OTHER_PASSWORD)

    with pytest.raises(SessionRevokedError):
        sessions.caller(ahead)


def test_user_when_locked_then_sessions_are_over_and_the_password_is_of_no_use(sessions: SessionKit) -> None:
    caller = sessions.signed_in()

    sessions.parts.passwords.lock(ADMINISTRATOR, sessions.user())
    sessions.watch.refresh()

    with pytest.raises(SessionRevokedError):
        sessions.sessions.authenticate(caller.token, PEER)
    assert refused(sessions, password=PASSWORD) == "user_locked"
    sessions.set_password(password=OTHER_PASSWORD)
    assert refused(sessions, password=OTHER_PASSWORD) == "user_locked"
    was_locked, _ = sessions.parts.passwords.unlock(ADMINISTRATOR, sessions.user())
    assert was_locked
    assert sessions.sign_in(password=OTHER_PASSWORD).session_token
    assert [event for event in sessions.audit.events() if str(event).startswith("session.user")] == [
        "session.user_locked",
        "session.user_unlocked",
    ]


def test_user_when_locked_without_a_password_then_a_later_one_is_of_no_use(sessions: SessionKit) -> None:
    sessions.parts.passwords.lock(ADMINISTRATOR, sessions.user(BOB))
    assert refused(sessions, BOB) == "password_mismatch"

    sessions.set_password(BOB)

    assert refused(sessions, BOB, PASSWORD) == "user_locked"


def policy_of(**rules: object) -> dict[str, object]:
    return {"minimum_password_length": 6, **rules}


@pytest.mark.parametrize(
    ("policy", "password", "words"),
    [
        (None, "Short-1", ["shorter than 8"]),
        (None, "alllower7", ["3 of:"]),
        (None, "allLower7", []),
        (None, "all-lower7", []),
        (None, "111122223333", ["3 of:", "the name of the account"]),
        (None, "x" * 129, ["longer than 128", "3 of:"]),
        (None, "Aa1" + "x" * 125, []),
        (None, "Correct-7\u20ac", ["not in Latin-1"]),
        (None, "Correct-7\x00", ["not in Latin-1"]),
        ({"minimum_password_length": 14}, "simple", ["shorter than 14"]),
        ({"minimum_password_length": 14}, "simple and long", []),
        (policy_of(require_symbols=True), 'Aa1~/"`?', ["no symbol"]),
        *((policy_of(require_symbols=True), f"abcdef{symbol}", []) for symbol in "!@#$%^&*()_+-=[]{}|'"),
        (policy_of(require_numbers=True), "abcdef", ["no number"]),
        (policy_of(require_uppercase_characters=True), "abcdef\u00c9", ["no upper-case letter"]),
        (policy_of(require_lowercase_characters=True), "ABCDEF", ["no lower-case letter"]),
        (
            policy_of(
                require_symbols=True,
                require_numbers=True,
                require_uppercase_characters=True,
                require_lowercase_characters=True,
            ),
            "",
            ["shorter than 6", "no symbol", "no number", "no upper-case letter", "no lower-case letter"],
        ),
    ],
)
def test_policy_when_a_password_is_set_then_everything_that_is_wrong_with_it_is_told(
    lite: SessionKit, policy: dict[str, object] | None, password: str, words: list[str]
) -> None:
    lite.snapshots.image = build_image(policy=policy)
    if not words:
        lite.set_password(password=password)
        assert lite.sign_in(password=password).session_token
        return
    with pytest.raises(RequestError) as caught:
        lite.set_password(password=password)
    assert str(caught.value).count(";") == len(words) - 1
    assert all(word in str(caught.value) for word in words)
    assert caught.value.field == "password"


def test_policy_when_passwords_may_not_be_used_again_then_the_last_ones_are_refused(sessions: SessionKit) -> None:
    sessions.snapshots.image = build_image(policy=policy_of(password_reuse_prevention=2))
    first, second, third = "horse-one", "horse-two", "horse-three"
    for password in (first, second):
        sessions.set_password(password=password)
    for password in (first, second):
        with pytest.raises(RequestError, match="one of the last 2"):
            sessions.set_password(password=password)

    sessions.set_password(password=third)
    sessions.set_password(password=first)

    assert sessions.sign_in(password=first).session_token


def test_policy_when_nothing_is_said_of_using_passwords_again_then_they_may_be_and_few_are_kept(
    sessions: SessionKit,
) -> None:
    for _ in range(14):
        for password in (PASSWORD, OTHER_PASSWORD):
            sessions.set_password(password=password)
    with sessions.store.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM password_history")).scalar_one() == 24
    assert sessions.sign_in(password=OTHER_PASSWORD).session_token


def test_policy_when_passwords_expire_then_the_right_one_is_told_so_and_another_is_not(sessions: SessionKit) -> None:
    sessions.snapshots.image = build_image(policy=policy_of(max_password_age=1))
    sessions.set_password()
    sessions.clock.advance(24 * 60 * 60 - 1)
    assert sessions.sign_in().session_token
    sessions.clock.advance(1)

    with pytest.raises(PreconditionError, match="expired"):
        sessions.sign_in()
    assert sessions.audit.last["reason"] == "password_expired"
    assert refused(sessions) == "password_mismatch"
    sessions.set_password(password=OTHER_PASSWORD)
    assert sessions.sign_in(password=OTHER_PASSWORD).session_token


def test_passwords_when_two_are_set_at_once_then_one_of_them_counts(sessions: SessionKit) -> None:
    sessions.set_password()
    texts = [f"Correct-horse-{number}x" for number in range(4)]

    results = together(4, lambda number: sessions.set_password(password=texts[number]))

    assert results == [None] * 4
    good = []
    for password in texts:
        sessions.parts.passwords.unlock(ADMINISTRATOR, sessions.user())
        try:
            good.append(sessions.sign_in(password=password))
        except AuthenticationError:
            continue
    assert len(good) == 1


def test_records_when_written_then_no_password_token_or_secret_stands_in_them(sessions: SessionKit) -> None:
    caller = sessions.signed_in()
    issued = sessions.assume(caller)
    refused(sessions, password="Wrong-horse-9")

    told = str(sessions.audit.records) + repr(caller) + repr(issued)
    for secret in (PASSWORD, "Wrong-horse-9", caller.token, issued.session_token, issued.secret_access_key, "argon2"):
        assert secret not in told


def test_caller_when_nobody_has_shown_anything_then_it_has_no_session() -> None:
    assert Caller.anonymous(PEER) == Caller("anonymous", "", PEER)
    assert not session_of(ADA).is_administrator
