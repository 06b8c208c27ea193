# SPDX-License-Identifier: Apache-2.0
"""TOTP devices on both databases: enrolment, resynchronization, the limit, deactivation."""

import base64
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from sidecar.mfa.totp import generate_code
from sidecar.model.errors import (
    AlreadyExistsError,
    LimitExceededError,
    MfaError,
    NotFoundError,
    PermissionDeniedError,
    RequestError,
    SidecarError,
    ThrottledError,
)
from sidecar.services.challenges import TotpAnswer
from sidecar.services.devices import ENROLMENT_MS, MAX_PENDING
from sidecar.services.store.devices import Device
from sidecar.services.store.schema import MAX_DEVICES
from tests.authenticators import Ctap2Key
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, Kit, session_of


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Do *work* in as many threads, all at once, and give what each returned or raised."""
    results: list[object] = [None] * count
    barrier = threading.Barrier(count)

    def run(place: int) -> None:
        barrier.wait(60)
        try:
            results[place] = work(place)
        except SidecarError as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_enrolment_when_two_codes_in_a_row_are_right_then_the_device_is_enabled(kit: Kit) -> None:
    phone = kit.begin_phone()
    assert kit.services.devices.list_devices(ADA) == []

    device = kit.confirm(phone)

    assert device.serial_number == "arn:aws:iam::111122223333:mfa/phone"
    assert (device.user_arn, device.kind, device.name) == (ADA, "totp", "phone")
    assert device.enabled_at_ms == kit.clock.nanoseconds // 1_000_000
    assert kit.services.devices.list_devices(ADA) == [device]
    assert kit.services.devices.list_devices(BOB) == []
    assert kit.audit.events() == ["mfa.enrolment_begun", "mfa.proof_accepted", "mfa.device_enabled"]


@pytest.mark.parametrize("shifts", [(0, 0), (0, 30), (-30, 30), (30, 0), (-3600, -3570)])
def test_enrolment_when_the_codes_are_not_two_in_a_row_then_it_is_refused(kit: Kit, shifts: tuple[int, int]) -> None:
    phone = kit.begin_phone()
    codes = [phone.code(kit.clock.seconds + shift) for shift in shifts]
    if shifts == (0, 30):
        codes.reverse()

    with pytest.raises(MfaError):
        kit.services.devices.confirm_totp(ADMINISTRATOR, phone.serial_number, *codes)

    assert kit.services.devices.list_devices(ADA) == []
    assert kit.audit.last["event"] == "mfa.proof_refused"


def test_enrolment_when_it_was_finished_then_its_codes_are_spent(kit: Kit) -> None:
    phone = kit.begin_phone()
    kit.confirm(phone)
    session = session_of(ADA)

    for shift in (-30, 0):
        opened = kit.services.challenges.begin(session, ADA, session.session)
        code = phone.code(kit.clock.seconds + shift)
        with pytest.raises(MfaError):
            kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(code))
    with pytest.raises(MfaError):
        kit.confirm(phone)


def test_enrolment_when_five_minutes_are_over_then_it_is_gone(kit: Kit) -> None:
    phone = kit.begin_phone()
    kit.clock.advance(ENROLMENT_MS / 1000)

    with pytest.raises(MfaError):
        kit.confirm(phone)

    assert kit.audit.last["reason"] == "device_unknown"


def test_enrolment_when_another_session_finishes_it_then_it_is_refused(kit: Kit) -> None:
    phone = kit.begin_phone(caller=session_of(ADA, "one"))

    with pytest.raises(MfaError):
        kit.confirm(phone, session_of(ADA, "two"))

    assert kit.confirm(phone, session_of(ADA, "one")).enabled_at_ms is not None


def test_enrolment_when_begun_again_then_the_earlier_seed_is_worth_nothing(kit: Kit) -> None:
    lost = kit.begin_phone()
    phone = kit.begin_phone()

    with pytest.raises(MfaError):
        kit.confirm(lost)
    assert kit.confirm(phone).enabled_at_ms is not None


def test_enrolment_when_the_name_is_taken_then_it_is_refused(kit: Kit) -> None:
    kit.enrol_phone(ADA, "phone")
    for user_arn in (ADA, BOB):
        with pytest.raises(AlreadyExistsError):
            kit.begin_phone(user_arn, "phone")


def test_enrolment_when_the_snapshot_does_not_know_the_user_then_it_is_refused_and_nothing_kept(kit: Kit) -> None:
    kit.strangers.add(ADA)

    for begin in (kit.services.devices.begin_totp, kit.services.ceremonies.begin):
        with pytest.raises(NotFoundError, match="the snapshot has no user") as caught:
            begin(ADMINISTRATOR, ADA, "phone")
        assert "with its path" in caught.value.help

    assert kit.audit.records == []
    with kit.store.read() as connection:
        for table in ("devices", "ceremonies", "user_handles"):
            assert connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one() == 0


def test_enrolment_when_another_user_has_begun_one_of_that_name_then_it_is_refused(kit: Kit) -> None:
    kit.begin_phone(BOB, "phone")

    with pytest.raises(AlreadyExistsError):
        kit.begin_phone(ADA, "phone")


@pytest.mark.parametrize(
    ("user_arn", "name", "field"),
    [
        ("arn:aws:iam::111122223333:role/ops", "phone", "user_arn"),
        ("arn:aws:iam::1111:user/ada", "phone", "user_arn"),
        ("arn:aws:iam::111122223333:user/", "phone", "user_arn"),
        (ADA + "\n", "phone", "user_arn"),
        ("x" * 5000, "phone", "user_arn"),
        (ADA, "", "device_name"),
        (ADA, "my phone", "device_name"),
        (ADA, "a/b", "device_name"),
        (ADA, "ä", "device_name"),
        (ADA, "x" * 65, "device_name"),
    ],
)
def test_enrolment_when_the_request_is_malformed_then_its_field_is_named(
    kit: Kit, user_arn: str, name: str, field: str
) -> None:
    for begin in (kit.services.devices.begin_totp, kit.services.ceremonies.begin):
        with pytest.raises(RequestError) as caught:
            begin(ADMINISTRATOR, user_arn, name)
        assert caught.value.field == field


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16", "12 456", "-12345"]
)
def test_codes_when_they_are_none_then_that_is_no_failure(kit: Kit, code: str) -> None:
    phone = kit.begin_phone()
    for pair in ((code, "123456"), ("123456", code)):
        with pytest.raises(RequestError):
            kit.services.devices.confirm_totp(ADMINISTRATOR, phone.serial_number, *pair)
    assert kit.metrics.verifications == []


def test_root_user_when_it_enrols_then_the_serial_numbers_have_its_forms(kit: Kit) -> None:
    root = "arn:aws-cn:iam::111122223333:root"

    assert kit.enrol_phone(root, "root-phone").serial_number == "arn:aws-cn:iam::111122223333:mfa/root-phone"
    assert kit.enrol_key(Ctap2Key(), root).serial_number.startswith(
        "arn:aws-cn:iam::111122223333:u2f/root-account/key-"
    )


def test_devices_when_there_are_eight_of_any_kind_then_a_ninth_is_refused(kit: Kit) -> None:
    for number in range(MAX_DEVICES - 1):
        kit.enrol_phone(name=f"phone{number}")
    late, late_key = kit.begin_phone(name="late"), Ctap2Key()
    ceremony = kit.services.ceremonies.begin(ADMINISTRATOR, ADA, "late")
    response = kit.register(late_key, ceremony.options_json)
    kit.enrol_key(Ctap2Key())

    with pytest.raises(LimitExceededError):
        kit.begin_phone(name="ninth")
    with pytest.raises(LimitExceededError):
        kit.services.ceremonies.begin(ADMINISTRATOR, ADA, "ninth")
    with pytest.raises(LimitExceededError):
        kit.confirm(late)
    with pytest.raises(LimitExceededError):
        kit.services.ceremonies.finish(ADMINISTRATOR, ceremony.ceremony_id, response)
    assert len(kit.services.devices.list_devices(ADA)) == MAX_DEVICES
    assert kit.enrol_phone(BOB, "bobs").serial_number


def test_devices_when_many_are_enabled_at_once_then_there_are_eight(kit: Kit) -> None:
    for number in range(4):
        kit.enrol_phone(name=f"early{number}")
    phones = [kit.begin_phone(name=f"phone{number}") for number in range(MAX_PENDING)]
    kit.clock.advance(30)

    results = together(len(phones), lambda place: kit.confirm(phones[place]))

    # As many attempts at once are held back as well, so that not all of them come to be refused for the limit.
    assert {type(result) for result in results} <= {Device, LimitExceededError, ThrottledError}
    assert sum(isinstance(result, Device) for result in results) == MAX_DEVICES - 4
    assert len(kit.services.devices.list_devices(ADA)) == MAX_DEVICES


def test_enrolment_when_many_confirm_it_at_once_then_one_does(kit: Kit) -> None:
    phone = kit.begin_phone()

    results = together(16, lambda _: kit.confirm(phone))

    assert sum(not isinstance(result, SidecarError) for result in results) == 1
    assert len(kit.services.devices.list_devices(ADA)) == 1


def test_enrolments_when_too_many_are_under_way_then_a_further_one_is_refused(kit: Kit) -> None:
    for number in range(MAX_PENDING):
        kit.begin_phone(name=f"phone{number}")

    with pytest.raises(LimitExceededError):
        kit.begin_phone(name="more")
    kit.clock.advance(ENROLMENT_MS / 1000)
    kit.begin_phone(name="more")


def test_further_device_when_the_session_has_proved_none_then_it_is_refused(kit: Kit) -> None:
    phone = kit.enrol_phone()
    session = session_of(ADA)
    for change in (
        lambda: kit.begin_phone(name="second", caller=session),
        lambda: kit.services.ceremonies.begin(session, ADA, "second"),
        lambda: kit.services.recovery.generate(session, ADA),
        lambda: kit.services.devices.deactivate(session, phone.serial_number),
    ):
        with pytest.raises(PermissionDeniedError):
            change()

    opened = kit.services.challenges.begin(session, ADA, session.session)
    kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(phone.code(kit.clock.seconds)))

    assert kit.begin_phone(name="second", caller=session).serial_number
    assert len(kit.services.recovery.generate(session, ADA)) == 10
    with pytest.raises(PermissionDeniedError):
        kit.begin_phone(name="third", caller=session_of(ADA, "another"))
    kit.clock.advance(300)
    with pytest.raises(PermissionDeniedError):
        kit.begin_phone(name="third", caller=session)


def test_further_device_when_the_proof_was_for_one_action_then_it_is_refused(kit: Kit) -> None:
    phone, session = kit.enrol_phone(), session_of(ADA)
    opened = kit.services.challenges.begin(session, ADA, session.session, action="s3:DeleteBucket", resource="*")
    kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(phone.code(kit.clock.seconds)))

    with pytest.raises(PermissionDeniedError):
        kit.begin_phone(name="second", caller=session)


def test_first_device_when_another_came_in_between_then_its_confirmation_takes_a_proof(kit: Kit) -> None:
    thief = session_of(ADA, "thief")
    phone = kit.begin_phone(name="thiefs", caller=thief)
    kit.enrol_phone(name="adas")

    with pytest.raises(PermissionDeniedError):
        kit.confirm(phone, thief)


def test_resync_when_the_clock_of_the_device_is_off_then_its_codes_count_again(kit: Kit) -> None:
    phone, session = kit.enrol_phone(), session_of(ADA)
    off = 30 * 15
    opened = kit.services.challenges.begin(session, ADA, session.session)
    code = phone.code(kit.clock.seconds + off)
    with pytest.raises(MfaError):
        kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(code))

    codes = [phone.code(kit.clock.seconds + off + shift) for shift in (0, 30)]
    kit.services.devices.resync_totp(ADMINISTRATOR, phone.serial_number, *codes)

    kit.clock.advance(60)
    code = phone.code(kit.clock.seconds + off)
    proof = kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(code))
    assert proof.serial_number == phone.serial_number
    assert "mfa.device_resynced" in kit.audit.events()


@pytest.mark.parametrize("off", [30 * 25, -30 * 25])
def test_resync_when_the_clock_is_too_far_off_then_it_is_refused(kit: Kit, off: int) -> None:
    phone = kit.enrol_phone()
    codes = [phone.code(kit.clock.seconds + off + shift) for shift in (0, 30)]

    with pytest.raises(MfaError):
        kit.services.devices.resync_totp(ADMINISTRATOR, phone.serial_number, *codes)


def test_resync_when_the_codes_were_used_then_it_is_refused(kit: Kit) -> None:
    phone = kit.enrol_phone()
    codes = [phone.code(kit.clock.seconds + shift) for shift in (-30, 0)]
    kit.services.devices.resync_totp(ADMINISTRATOR, phone.serial_number, *codes)

    with pytest.raises(MfaError):
        kit.services.devices.resync_totp(ADMINISTRATOR, phone.serial_number, *codes)


def test_resync_when_the_device_is_not_enabled_then_it_is_refused(kit: Kit) -> None:
    phone = kit.begin_phone()
    codes = [phone.code(kit.clock.seconds + shift) for shift in (-30, 0)]

    with pytest.raises(MfaError):
        kit.services.devices.resync_totp(ADMINISTRATOR, phone.serial_number, *codes)
    assert kit.audit.last["reason"] == "device_unknown"


def test_device_when_nobody_has_it_then_the_answer_is_that_of_a_wrong_code(kit: Kit) -> None:
    serial_number = "arn:aws:iam::111122223333:mfa/nobodys"
    for call in (kit.services.devices.confirm_totp, kit.services.devices.resync_totp):
        with pytest.raises(MfaError):
            call(ADMINISTRATOR, serial_number, "123456", "654321")
    with pytest.raises(NotFoundError):
        kit.services.devices.deactivate(ADMINISTRATOR, serial_number)


def test_deactivation_when_it_is_the_last_device_then_recovery_codes_go_too(kit: Kit) -> None:
    phone, key = kit.enrol_phone(), kit.enrol_key(Ctap2Key())
    kit.services.recovery.generate(ADMINISTRATOR, ADA)

    kit.services.devices.deactivate(ADMINISTRATOR, key.serial_number)
    assert count(kit, "recovery_codes") == 10
    assert count(kit, "credentials") == 0
    kit.services.devices.deactivate(ADMINISTRATOR, phone.serial_number)

    assert [count(kit, table) for table in ("devices", "totp_secrets", "recovery_sets", "recovery_codes")] == [0] * 4
    assert kit.audit.last == {
        "event": "mfa.device_deactivated",
        "caller": "administrator",
        "peer": "ipv4:127.0.0.1:1",
        "user_arn": ADA,
        "serial_number": phone.serial_number,
        "kind": "totp",
    }
    assert kit.enrol_phone().serial_number == phone.serial_number


def test_audit_when_a_device_is_used_then_no_secret_and_no_code_is_in_it(kit: Kit) -> None:
    phone, session = kit.enrol_phone(), session_of(ADA)
    codes = kit.services.recovery.generate(ADMINISTRATOR, ADA)
    opened = kit.services.challenges.begin(session, ADA, session.session)
    code = phone.code(kit.clock.seconds)
    kit.services.challenges.answer(session, opened.challenge.challenge_id, TotpAnswer(code))

    told = repr(kit.audit.records)

    secrets = [code, *codes, opened.challenge.challenge_id, opened.challenge.user_code, phone.secret.hex()]
    secrets.append(base64.b32encode(phone.secret).decode())
    secrets.append(generate_code(phone.secret, int(kit.clock.seconds // 30) - 2))
    assert [secret for secret in secrets if secret in told] == []


def count(kit: Kit, table: str) -> int:
    with kit.store.read() as connection:
        number: int = connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one()
        return number


@pytest.mark.parametrize("turn", range(4))
def test_recovery_codes_when_the_last_devices_go_at_once_then_none_stay(kit: Kit, turn: int) -> None:
    serial_numbers = [kit.enrol_phone(name=f"phone{number}").serial_number for number in range(2)]
    kit.services.recovery.generate(ADMINISTRATOR, ADA)

    def work(place: int) -> object:
        if place < len(serial_numbers):
            return kit.services.devices.deactivate(ADMINISTRATOR, serial_numbers[place])
        return kit.services.recovery.generate(ADMINISTRATOR, ADA)

    together(3, work)

    assert kit.services.devices.list_devices(ADA) == []
    with kit.store.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM recovery_codes")).scalar_one() == 0
