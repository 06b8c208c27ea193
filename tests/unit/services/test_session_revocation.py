# SPDX-License-Identifier: Apache-2.0
"""Ending sessions, voiding proofs, and keeping everybody who opens tokens up to date, on both databases."""

import hashlib
import struct
import threading
import time
from typing import Any

import pytest

from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    PermissionDeniedError,
    SessionExpiredError,
    SessionInvalidError,
    SessionRevokedError,
    SessionUnverifiableError,
    SourceUnavailableError,
)
from sidecar.model.session import MfaProof
from sidecar.services.challenges import Proof, TotpAnswer
from sidecar.services.log import NullLog
from sidecar.services.mfa_opener import MfaOpener
from sidecar.services.revocations import revoke_lineage, revoke_principal
from sidecar.services.sessions.issuing import IssuedSession
from sidecar.services.sessions.keys import MAX_SESSION_MS
from sidecar.services.sessions.opener import RevocationOpener, SessionOpener
from sidecar.services.sessions.revoking import StoredRevocations
from sidecar.services.sessions.watching import RevocationList, pack_revocations
from sidecar.services.store import revocations as rows
from sidecar.services.store.revocations import Revocation, RevocationKind
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR
from tests.unit.services.session_kit import EVE, PEER, SessionKit
from tests.unit.services.test_devices import together

HOUR = 60 * 60


def opens(kit: SessionKit, issued: IssuedSession | str) -> bool:
    """Say whether a session is in force."""
    token = issued if isinstance(issued, str) else issued.session_token
    try:
        kit.sessions.authenticate(token, PEER)
    except SessionRevokedError:
        return False
    return True


def test_session_when_revoked_then_all_of_the_same_sign_in_are_over_and_no_others(sessions: SessionKit) -> None:
    caller = sessions.signed_in()
    user = sessions.sessions.get_session_token(caller)
    role = sessions.assume(caller)
    chained = sessions.assume(sessions.caller(role), "next")
    other = sessions.sign_in()

    sessions.sessions.revoke(sessions.caller(chained))

    assert [opens(sessions, one) for one in (caller.token, user, role, chained, other)] == [False] * 4 + [True]
    last = sessions.audit.last
    assert (last["event"], last["access_key_id"]) == ("session.revoked", chained.access_key_id)
    assert last["caller_session"] == chained.access_key_id


def test_session_when_another_of_the_same_sign_in_is_named_then_no_permission_is_needed(sessions: SessionKit) -> None:
    caller = sessions.signed_in()
    role = sessions.assume(caller)

    sessions.sessions.revoke(sessions.caller(role), caller.token)

    assert not opens(sessions, role)


def test_session_when_it_is_somebody_elses_then_it_takes_a_permission(sessions: SessionKit) -> None:
    ada, eve = sessions.signed_in(), sessions.signed_in(EVE)

    with pytest.raises(PermissionDeniedError, match="sidecar:RevokeSession"):
        sessions.sessions.revoke(ada, eve.token)
    assert opens(sessions, eve.token)
    sessions.sessions.revoke(eve, ada.token)

    assert [opens(sessions, one.token) for one in (ada, eve)] == [False, True]
    with pytest.raises(SessionRevokedError):
        sessions.sessions.revoke(eve, ada.token)


def test_session_when_too_many_were_revoked_then_it_takes_the_whole_person(
    lite: SessionKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_REVOCATIONS", 2)
    lite.set_password()
    lite.clock.advance(1)
    first, second, third, fourth = (lite.sign_in() for _ in range(4))
    lite.sessions.revoke(lite.caller(first))
    lite.sessions.revoke(lite.caller(second))
    assert opens(lite, third)

    lite.sessions.revoke(lite.caller(third))

    assert lite.audit.last["event"] == "session.principal_revoked"
    assert [opens(lite, one) for one in (first, second, third, fourth)] == [False] * 4
    lite.clock.advance(1)
    assert opens(lite, lite.sign_in())


def test_device_when_deactivated_then_its_proofs_are_void_and_the_session_goes_on(sessions: SessionKit) -> None:
    phone = sessions.enrol_phone()
    keeper = sessions.enrol_phone(name="other")
    caller = sessions.signed_in()
    proofs = []
    for device in (phone, keeper):
        sessions.clock.advance(60)
        proofs.append(
            sessions.sessions.get_session_token(
                caller, serial_number=device.serial_number, token_code=device.code(sessions.clock.seconds)
            )
        )

    sessions.services.devices.deactivate(ADMINISTRATOR, phone.serial_number)
    sessions.watch.refresh()

    found = [sessions.caller(one).claims for one in proofs]
    assert [said.mfa.serial_number if said and said.mfa else "" for said in found] == ["", keeper.serial_number]
    # One that is enrolled under the same name later proves anew.
    again = sessions.enrol_phone()
    said = sessions.caller(
        sessions.sessions.get_session_token(
            caller, serial_number=again.serial_number, token_code=again.code(sessions.clock.seconds)
        )
    ).claims
    assert said is not None
    assert said.mfa is not None


def proof_of(kit: SessionKit, session: str, **changes: Any) -> Proof:
    wanted: dict[str, Any] = {
        "user_arn": ADA,
        "session": session,
        "method": "webauthn",
        "serial_number": "arn:aws:iam::111122223333:u2f/user/ada/key-1",
        "user_verified": True,
        "proved_at_ms": kit.now_ms,
        "action": "",
        "resource": "",
        **changes,
    }
    return Proof(**wanted)


@pytest.mark.parametrize("is_role", [False, True])
def test_proof_when_given_then_the_token_carries_it_and_all_else_stays(lite: SessionKit, is_role: bool) -> None:
    caller = lite.signed_in()
    before = lite.assume(caller) if is_role else lite.sessions.get_session_token(caller)
    lite.key_file.rotate(lite.now_ms)
    lite.watch.refresh()
    lite.clock.advance(100)

    after = lite.sessions.prove(before.session_token, proof_of(lite, before.access_key_id))
    bound = lite.sessions.prove(
        after.session_token,
        proof_of(lite, before.access_key_id, action="payments:Refund", resource="order/4711", user_verified=False),
    )

    said = lite.caller(after).claims
    assert said is not None
    mfa = MfaProof(MfaMethod.WEBAUTHN, lite.now_ms, "arn:aws:iam::111122223333:u2f/user/ada/key-1", user_verified=True)
    assert said.mfa == mfa
    for issued in (after, bound):
        assert issued.access_key_id == before.access_key_id
        assert issued.secret_access_key == before.secret_access_key
        assert issued.expires_at_ms == before.expires_at_ms
        assert issued.session_token != before.session_token
    assert lite.caller(bound).session == before.access_key_id
    said = lite.caller(bound).claims
    assert said is not None
    assert said.mfa == mfa
    assert said.bound is not None
    assert (said.bound.action, said.bound.resource) == ("payments:refund", "order/4711")
    assert lite.audit.last["event"] == "session.proved"


def test_proof_when_it_is_of_another_session_or_person_then_it_is_refused(lite: SessionKit) -> None:
    caller = lite.signed_in()
    other = lite.sign_in()

    for proof in (
        proof_of(lite, other.access_key_id),
        proof_of(lite, caller.session, user_arn=EVE),
        proof_of(lite, ""),
    ):
        with pytest.raises(SessionInvalidError):
            lite.sessions.prove(caller.token, proof)


def test_proof_when_the_key_of_the_token_is_gone_then_the_session_is(lite: SessionKit) -> None:
    caller = lite.signed_in()
    lite.key_file.rotate(lite.now_ms, drop_old=True)
    lite.watch.refresh()

    with pytest.raises(SessionInvalidError):
        lite.sessions.prove(caller.token, proof_of(lite, caller.session))


def test_secret_when_derived_then_it_belongs_to_one_session_and_one_key(lite: SessionKit) -> None:
    caller = lite.signed_in()
    secrets = {lite.sessions.get_session_token(caller).secret_access_key for _ in range(3)}
    assert len(secrets) == 3
    assert all(secret not in caller.token for secret in secrets)


def test_keys_when_rotated_then_sessions_go_on_and_new_ones_use_the_new_key(lite: SessionKit) -> None:
    caller = lite.signed_in()
    new, _ = lite.key_file.rotate(lite.now_ms)
    lite.watch.refresh()
    assert lite.published[-1] is lite.watch.state
    assert lite.sign_in().session_token[:7] == caller.token[:7]

    lite.clock.advance(60)

    assert lite.sign_in().session_token[:7] != caller.token[:7]
    assert opens(lite, caller.token)
    assert lite.watch.ring.sealing(lite.now_ms) == new


def test_keys_when_the_file_is_damaged_then_the_last_good_ones_stay_and_it_is_told_once(lite: SessionKit) -> None:
    caller = lite.signed_in()
    good = lite.key_file.path.read_bytes()
    lite.key_file.path.write_bytes(good[:-20])
    count = len(lite.session_metrics.keys)

    for _ in range(3):
        lite.watch.refresh()

    assert opens(lite, caller.token)
    assert lite.session_metrics.keys[count:] == [False]
    lite.key_file.path.unlink()
    lite.watch.refresh()
    assert opens(lite, caller.token)
    lite.key_file.create(lite.now_ms)
    lite.watch.refresh()
    with pytest.raises(SessionInvalidError):
        lite.sessions.authenticate(caller.token, PEER)


class Revocations:
    """A store that may be out of reach."""

    def __init__(self) -> None:
        self.list: RevocationList | None = RevocationList(1, ())
        self.reads: list[int | None] = []

    def read(self, known_mark: int | None) -> RevocationList | None:
        self.reads.append(known_mark)
        if self.list is None:
            raise SourceUnavailableError("gone")
        return None if known_mark == self.list.mark else self.list


class Listed(NullLog):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **values: object) -> None:
        self.events.append(event)

    error = info


def test_store_when_out_of_reach_for_too_long_then_tokens_are_denied_until_it_is_back(lite: SessionKit) -> None:
    caller = lite.signed_in()
    revocations, log = Revocations(), Listed()
    lag = [0.0]

    def monotonic() -> int:
        # The core reads the clock itself: what was known is made older instead.
        return time.monotonic_ns() - int(lag[0] * 1e9)

    lite.watch = watch = lite.make_watch(revocations=revocations, grace=60.0, monotonic=monotonic, log=log)
    lite.sessions._watch = watch
    assert opens(lite, caller.token)
    revocations.list = None

    lag[0] = 59.0
    watch.refresh()
    assert opens(lite, caller.token)
    # The last good look was a minute ago.
    revocations.list = RevocationList(1, ())
    lag[0] = 61.0
    watch.refresh()
    with pytest.raises(SessionUnverifiableError):
        lite.sessions.authenticate(caller.token, PEER)
    revocations.list = None
    watch.refresh()
    with pytest.raises(SessionUnverifiableError):
        lite.sessions.authenticate(caller.token, PEER)

    # News of keys does not make old knowledge young.
    lite.key_file.rotate(lite.now_ms)
    watch.refresh()
    with pytest.raises(SessionUnverifiableError):
        lite.sessions.authenticate(caller.token, PEER)

    revocations.list, lag[0] = RevocationList(1, ()), 0.0
    watch.refresh()
    assert opens(lite, caller.token)
    assert log.events.count("revocations_out_of_reach") == 2
    assert log.events[-1] == "revocations_reached"


def test_store_when_out_of_reach_from_the_start_then_tokens_are_denied(lite: SessionKit) -> None:
    caller = lite.signed_in()
    revocations = Revocations()
    revocations.list = None
    lite.watch = lite.sessions._watch = lite.make_watch(revocations=revocations)

    with pytest.raises(SessionUnverifiableError):
        lite.sessions.authenticate(caller.token, PEER)


def test_store_when_nothing_is_new_then_nothing_is_read_or_published(sessions: SessionKit) -> None:
    sessions.signed_in()
    published = len(sessions.published)
    source = StoredRevocations(sessions.store, now=sessions.clock)
    first = source.read(None)
    assert first is not None

    assert source.read(first.mark) is None
    for _ in range(3):
        sessions.watch.refresh()
    assert len(sessions.published) == published

    with sessions.store.write() as connection:
        revoke_lineage(connection, bytes(16), now_ms=sessions.now_ms)
    assert source.read(first.mark) is not None
    sessions.watch.refresh()
    assert len(sessions.published) == published + 1


def test_watch_when_started_then_it_looks_by_itself_and_ends(sessions: SessionKit) -> None:
    caller = sessions.signed_in()
    sessions.watch.start()
    try:
        with sessions.store.write() as connection:
            revoke_principal(connection, sessions.user().user_id, before_ms=sessions.now_ms, now_ms=sessions.now_ms)
        latest = time.monotonic() + 60
        while opens(sessions, caller.token) and time.monotonic() < latest:
            time.sleep(0.05)
        assert not opens(sessions, caller.token)
    finally:
        sessions.watch.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "sessions"]


def test_revocation_when_everything_it_touches_is_over_then_it_goes(sessions: SessionKit) -> None:
    with sessions.store.write() as connection:
        revoke_lineage(connection, b"1" * 16, now_ms=sessions.now_ms)
    sessions.clock.advance(MAX_SESSION_MS / 1000)
    with sessions.store.write() as connection:
        assert [one.subject for one in rows.list_live(connection, sessions.now_ms)] == [b"1" * 16]
    sessions.clock.advance(HOUR)
    with sessions.store.write() as connection:
        assert rows.list_live(connection, sessions.now_ms) == []
        revoke_lineage(connection, b"2" * 16, now_ms=sessions.now_ms)
        assert rows.count_lineages(connection) == 1


def test_revocation_when_a_later_and_an_earlier_one_come_then_the_later_counts(sessions: SessionKit) -> None:
    now = sessions.now_ms
    for before in (now, now + 5000, now - 5000):
        with sessions.store.write() as connection:
            revoke_principal(connection, "AIDA1", before_ms=before, now_ms=now)
    with sessions.store.read() as connection:
        (found,) = rows.list_live(connection, now)
    assert (found.kind, found.subject, found.before_ms) == (RevocationKind.PRINCIPAL, b"AIDA1", now + 5000)


def test_revocations_when_many_are_made_at_once_then_each_is_there_and_the_mark_has_risen(
    sessions: SessionKit,
) -> None:
    with sessions.store.read() as connection:
        before = rows.find_mark(connection)

    def work(number: int) -> None:
        with sessions.store.write() as connection:
            revoke_lineage(connection, bytes([number]) * 16, now_ms=sessions.now_ms)

    assert together(8, work) == [None] * 8
    with sessions.store.read() as connection:
        assert rows.find_mark(connection) == before + 8
        assert len(rows.list_live(connection, sessions.now_ms)) == 8


def test_packing_when_done_then_it_is_sorted_and_as_the_core_reads_it() -> None:
    entries = [Revocation(RevocationKind(1 + number % 3), bytes([number]), number, 0) for number in range(50)]

    packed, count = pack_revocations(entries)

    records = [packed[at : at + 24] for at in range(0, len(packed), 24)]
    assert count == len(records) == 50
    assert records == sorted(records)
    digest = hashlib.sha256(b"\x02" + bytes([1])).digest()[:16]
    assert struct.unpack("<q", {one[:16]: one[16:] for one in records}[digest]) == (1,)


def test_openers_when_there_is_no_store_then_nothing_is_opened(lite: SessionKit) -> None:
    def build() -> Any:
        raise AssertionError("nobody needs it")

    is_there = [False]
    mfa = MfaOpener(build)
    opener = RevocationOpener(mfa, has_store=lambda: is_there[0], now=lite.clock)
    assert opener.read(None) == RevocationList(0, ())
    assert opener.read(0) is None

    is_there[0] = True
    other = RevocationOpener(MfaOpener(lambda: lite.services), has_store=lambda: is_there[0], now=lite.clock)
    assert other.read(0) is None
    assert isinstance(other.read(None), RevocationList)
    parts = SessionOpener(MfaOpener(lambda: lite.services), engine=lite.engine, journal=lite.journal, now=lite.clock)
    assert parts.open() is parts.open()


def test_session_when_its_time_is_over_then_it_is(lite: SessionKit) -> None:
    caller = lite.signed_in()
    lite.clock.advance(12 * HOUR - 0.001)
    assert opens(lite, caller.token)
    lite.clock.advance(0.001)
    with pytest.raises(SessionExpiredError):
        lite.sessions.authenticate(caller.token, PEER)


def test_challenge_when_it_is_answered_then_its_proof_goes_into_the_session_that_opened_it(
    sessions: SessionKit,
) -> None:
    phone = sessions.enrol_phone()
    caller = sessions.signed_in()
    challenges = sessions.services.challenges
    opened = challenges.begin(caller, ADA, caller.session)

    proof = challenges.answer(caller, opened.challenge.challenge_id, TotpAnswer(phone.code(sessions.clock.seconds)))
    said = sessions.caller(sessions.sessions.prove(caller.token, proof)).claims

    assert said is not None
    assert said.mfa == MfaProof(MfaMethod.TOTP, sessions.now_ms, phone.serial_number, user_verified=False)
    other = sessions.sign_in()
    with pytest.raises(SessionInvalidError):
        sessions.sessions.prove(other.session_token, proof)
