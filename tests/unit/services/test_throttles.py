# SPDX-License-Identifier: Apache-2.0
"""One failure counter a user, over every factor and call, on both databases."""

import pytest
from sqlalchemy import text

from sidecar.model.errors import MfaError, SidecarError, SourceUnavailableError, ThrottledError
from sidecar.services.challenges import RecoveryAnswer, TotpAnswer
from sidecar.services.mfa_journal import Change, Factor
from sidecar.services.store.throttles import LOCKED_AT, WAITS
from tests.authenticators import Ctap2Key
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, Kit, Phone, session_of
from tests.unit.services.test_devices import together

SESSION = session_of(ADA)
FREE = WAITS.index(30)


def fail(kit: Kit, phone: Phone, times: int = 1, *, session: str = "session-1") -> None:
    """Answer wrong, waiting each time for as long as it takes."""
    for _ in range(times):
        opened = kit.services.challenges.begin(SESSION, ADA, session)
        with pytest.raises(MfaError):
            kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(wrong(kit, phone)))
        kit.clock.advance(WAITS[-1])


def wrong(kit: Kit, phone: Phone) -> str:
    """Give a code that no step around now yields."""
    near = {phone.code(kit.clock.seconds + 30 * step) for step in range(-3, 4)}
    return next(code for code in (f"{number:06d}" for number in range(10)) if code not in near)


def succeed(kit: Kit, phone: Phone) -> None:
    opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
    code = phone.code(kit.clock.seconds)
    kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(code))


def test_waits_when_read_then_guessing_is_hopeless() -> None:
    assert FREE == 4
    assert sorted(WAITS) == list(WAITS)
    # SPEC: NIST SP 800-63B, section 5.2.2: no more than a hundred failures in a row.
    assert LOCKED_AT <= 100


def test_failures_when_they_go_on_then_the_user_waits_longer_and_longer(kit: Kit) -> None:
    phone = kit.enrol_phone()
    for failures, seconds in enumerate(WAITS[: LOCKED_AT - 1], start=1):
        opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
        answer = TotpAnswer(wrong(kit, phone))
        with pytest.raises(MfaError):
            kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)
        if seconds:
            kit.clock.advance(seconds - 1)
            right = TotpAnswer(phone.code(kit.clock.seconds))
            opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
            with pytest.raises(ThrottledError, match="try again in 1 seconds"):
                kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, right)
            assert kit.audit.last["reason"] == "throttled"
            kit.clock.advance(1)
        if failures % 4 == 0:
            kit.clock.advance(600)
    succeed(kit, phone)
    fail(kit, phone, FREE)
    succeed(kit, phone)


def test_failures_when_there_are_too_many_then_only_an_administrator_unlocks(kit: Kit) -> None:
    phone = kit.enrol_phone()
    fail(kit, phone, LOCKED_AT)
    assert kit.audit.last == {
        "event": "mfa.user_locked",
        "caller": ADA,
        "peer": SESSION.peer,
        "user_arn": ADA,
    }
    kit.clock.advance(86_400 * 365)
    with pytest.raises(ThrottledError, match="is locked"):
        succeed(kit, phone)
    assert kit.enrol_phone(BOB, "bobs").serial_number, "nobody else is"

    assert kit.services.throttles.unlock(ADMINISTRATOR, ADA) == LOCKED_AT

    succeed(kit, phone)
    assert kit.metrics.changes.count(Change.USER_LOCKED) == 1
    assert kit.services.throttles.unlock(ADMINISTRATOR, ADA) == 0


def test_failures_when_they_come_from_every_call_then_one_counter_has_them(kit: Kit) -> None:
    phone, other = kit.enrol_phone(), kit.begin_phone(name="other")
    kit.services.recovery.generate(ADMINISTRATOR, ADA)
    devices, ceremonies, challenges = kit.services.devices, kit.services.ceremonies, kit.services.challenges
    opened = challenges.begin(SESSION, ADA, SESSION.session)
    codes = wrong(kit, phone), wrong(kit, other)
    ceremony = ceremonies.begin(ADMINISTRATOR, ADA, "key")
    for call in (
        lambda: devices.confirm_totp(ADMINISTRATOR, other.serial_number, *codes),
        lambda: devices.resync_totp(ADMINISTRATOR, phone.serial_number, *codes),
        lambda: ceremonies.finish(ADMINISTRATOR, ceremony.ceremony_id, "{}"),
        lambda: challenges.answer(SESSION, opened.challenge.challenge_id, RecoveryAnswer("0004-1061-050R-3GG9")),
        lambda: challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(codes[0])),
    ):
        with pytest.raises(MfaError):
            call()

    with pytest.raises(ThrottledError):
        challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(phone.code(kit.clock.seconds)))
    with pytest.raises(ThrottledError):
        kit.confirm(other)


def test_failures_when_a_device_is_enrolled_then_they_are_not_forgotten(kit: Kit) -> None:
    phone = kit.enrol_phone()
    fail(kit, phone, FREE)

    kit.enrol_phone(name="second")
    kit.enrol_key(Ctap2Key())

    fail(kit, phone)
    kit.clock.advance(-WAITS[-1])
    with pytest.raises(ThrottledError):
        succeed(kit, phone)


def test_guesses_when_many_come_at_once_then_few_are_looked_at(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
    answer = TotpAnswer(wrong(kit, phone))

    results = together(32, lambda _: kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer))

    assert all(isinstance(result, SidecarError) for result in results)
    assert sum(isinstance(result, ThrottledError) for result in results) == 32 - FREE - 1
    assert kit.metrics.verifications.count((Factor.TOTP, "code_mismatch")) == FREE + 1


def test_failure_when_the_work_breaks_half_way_then_it_counts(kit: Kit) -> None:
    for _ in range(FREE + 1):
        with pytest.raises(ZeroDivisionError):
            break_down(kit)
    with pytest.raises(ThrottledError):
        break_down(kit)


def break_down(kit: Kit) -> None:
    with kit.services.throttles.attempt(SESSION, ADA, Factor.TOTP, "test"):
        raise ZeroDivisionError


def test_failures_when_a_device_cannot_be_used_then_they_count_and_the_lock_is_told(kit: Kit) -> None:
    phone = kit.enrol_phone()
    with kit.store.write() as connection:
        connection.execute(text("UPDATE totp_secrets SET key_id = 'gone'"))

    for _ in range(LOCKED_AT):
        opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
        answer = TotpAnswer(wrong(kit, phone))
        with pytest.raises(SourceUnavailableError):
            kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)
        kit.clock.advance(WAITS[-1])

    assert kit.metrics.changes.count(Change.USER_LOCKED) == 1
    assert kit.services.throttles.unlock(ADMINISTRATOR, ADA) == LOCKED_AT
