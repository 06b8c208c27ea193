# SPDX-License-Identifier: Apache-2.0
"""Challenges on both databases: every factor, single use, counters that fall, many answers at once."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from sidecar.model.challenge import ChallengeState
from sidecar.model.errors import (
    LimitExceededError,
    MfaError,
    RequestError,
    SidecarError,
    SourceUnavailableError,
    ThrottledError,
)
from sidecar.services.challenges import (
    CHALLENGE_MS,
    MAX_PROMPTS,
    PROMPTS_MS,
    AssertionAnswer,
    OpenedChallenge,
    RecoveryAnswer,
    TotpAnswer,
)
from sidecar.services.mfa_journal import Change, Factor
from tests.authenticators import Ctap2Key, U2fKey
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, Kit, session_of
from tests.unit.services.test_devices import together

SESSION = session_of(ADA)


def begin(kit: Kit, user_arn: str = ADA, session: str = SESSION.session, strict: bool = False) -> OpenedChallenge:
    return kit.services.challenges.begin(SESSION, user_arn, session, require_user_verification=strict)


def refused(kit: Kit, opened: OpenedChallenge, answer: TotpAnswer | AssertionAnswer | RecoveryAnswer) -> object:
    """Answer, see it refused, and give the reason that the audit trail has."""
    with pytest.raises(MfaError) as caught:
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)
    assert kit.audit.last["event"] in ("mfa.proof_refused", "mfa.user_locked", "mfa.device_suspected")
    assert caught.value.reason in kit.audit.reasons()
    return caught.value.reason


def test_challenge_when_a_code_answers_it_then_the_session_has_a_proof(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = begin(kit)
    assert opened.options_json == ""
    assert opened.challenge.expires_at_ms == kit.clock.nanoseconds // 1_000_000 + CHALLENGE_MS

    code = phone.code(kit.clock.seconds)
    proof = kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(code))

    assert (proof.user_arn, proof.session, proof.method) == (ADA, SESSION.session, "totp")
    assert (proof.serial_number, proof.user_verified) == (phone.serial_number, False)
    found = kit.services.challenges.find(opened.challenge.challenge_id)
    assert found is not None
    assert found.state is ChallengeState.PROVED
    assert kit.services.devices.list_devices(ADA)[0].last_used_at_ms == proof.proved_at_ms
    assert kit.metrics.verifications[-1] == (Factor.TOTP, "accepted")
    assert kit.audit.last == {
        "event": "mfa.proof_accepted",
        "during": "answer_challenge",
        "reason": "accepted",
        "factor": "totp",
        "caller": ADA,
        "peer": "ipv4:127.0.0.1:2",
        "user_arn": ADA,
        "serial_number": phone.serial_number,
    }


@pytest.mark.parametrize("make_key", [Ctap2Key, U2fKey])
def test_challenge_when_a_key_answers_it_then_its_counter_is_stored(
    kit: Kit, make_key: type[Ctap2Key] | type[U2fKey]
) -> None:
    key = make_key()
    device = kit.enrol_key(key)
    assert device.kind == ("u2f" if make_key is U2fKey else "webauthn")
    assert device.serial_number.startswith("arn:aws:iam::111122223333:u2f/user/ada/key-")

    for _ in range(2):
        opened = begin(kit)
        answer = AssertionAnswer(kit.assertion(key, opened))
        proof = kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)

        assert (proof.method, proof.serial_number) == (device.kind, device.serial_number)


def test_challenge_when_it_wants_the_user_verified_then_only_a_pin_will_do(kit: Kit) -> None:
    phone, plain, guarded = kit.enrol_phone(), Ctap2Key(), Ctap2Key(pin="1234")
    kit.enrol_key(plain, name="plain")
    kit.enrol_key(guarded, name="guarded", pin="1234")
    codes = kit.services.recovery.generate(ADMINISTRATOR, ADA)
    asking = begin(kit)
    kit_answer = AssertionAnswer(kit.assertion(plain, asking))
    strict = begin(kit, strict=True)
    assert json.loads(strict.options_json)["userVerification"] == "required"

    assert refused(kit, strict, TotpAnswer(phone.code(kit.clock.seconds))) == "user_not_verified"
    assert refused(kit, strict, RecoveryAnswer(codes[0])) == "user_not_verified"
    assert refused(kit, strict, kit_answer) == "challenge_mismatch"
    answer = AssertionAnswer(kit.assertion(guarded, strict, pin="1234"))
    proof = kit.services.challenges.answer(SESSION, strict.challenge.challenge_id, answer)

    assert proof.user_verified


def test_challenge_when_a_recovery_code_answers_it_then_that_works_once(kit: Kit) -> None:
    kit.enrol_phone()
    old = kit.services.recovery.generate(ADMINISTRATOR, ADA)
    codes = kit.services.recovery.generate(ADMINISTRATOR, ADA)
    assert len(set(codes)) == 10

    opened = begin(kit)
    assert refused(kit, opened, RecoveryAnswer(old[0])) == "recovery_code_mismatch"
    typed = codes[3].lower().replace("-", " ")
    proof = kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, RecoveryAnswer(typed))
    assert (proof.method, proof.serial_number, proof.user_verified) == ("recovery", "", False)

    again = begin(kit)
    assert refused(kit, again, RecoveryAnswer(codes[3])) == "recovery_code_mismatch"
    assert refused(kit, again, RecoveryAnswer("nonsense")) == "recovery_code_malformed"
    kit.services.challenges.answer(SESSION, again.challenge.challenge_id, RecoveryAnswer(codes[4]))


@pytest.mark.parametrize("user_arn", [ADA, BOB])
def test_challenge_when_the_user_has_no_such_factor_then_it_is_refused(kit: Kit, user_arn: str) -> None:
    kit.enrol_phone(ADA)
    opened = begin(kit, BOB)

    assert refused(kit, opened, TotpAnswer("123456")) == "code_mismatch"
    assert refused(kit, opened, RecoveryAnswer("0004-1061-050R-3GG9")) == "recovery_code_mismatch"
    assert refused(kit, opened, AssertionAnswer("{}")) == "response_malformed"
    assert refused(kit, opened, TotpAnswer("12")) == "code_mismatch"


def test_challenge_when_the_device_is_another_users_then_it_is_refused(kit: Kit) -> None:
    phone, key = kit.enrol_phone(ADA), Ctap2Key()
    kit.enrol_key(key, ADA)
    for_ada = begin(kit, ADA, "adas")
    for_bob = begin(kit, BOB, "bobs")

    assert refused(kit, for_bob, TotpAnswer(phone.code(kit.clock.seconds))) == "code_mismatch"
    assert refused(kit, for_bob, AssertionAnswer(kit.assertion(key, for_ada))) == "credential_not_allowed"


def test_challenge_when_it_was_answered_then_nothing_answers_it_again(kit: Kit) -> None:
    phone, key = kit.enrol_phone(), Ctap2Key()
    kit.enrol_key(key)
    opened = begin(kit)
    answer = AssertionAnswer(kit.assertion(key, opened))
    kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)

    assert refused(kit, opened, answer) == "challenge_closed"
    assert refused(kit, opened, TotpAnswer(phone.code(kit.clock.seconds))) == "challenge_closed"


def test_challenge_when_its_time_is_over_then_nothing_answers_it(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = begin(kit)
    kit.clock.advance(CHALLENGE_MS / 1000)

    assert refused(kit, opened, TotpAnswer(phone.code(kit.clock.seconds))) == "challenge_closed"
    found = kit.services.challenges.find(opened.challenge.challenge_id)
    assert found is not None
    assert found.state is ChallengeState.EXPIRED
    assert kit.services.challenges.find("nonsense") is None


def test_challenge_when_the_session_opens_another_then_the_first_is_closed(kit: Kit) -> None:
    phone = kit.enrol_phone()
    first, second, foreign = begin(kit), begin(kit), begin(kit, session="another")

    assert refused(kit, first, TotpAnswer(phone.code(kit.clock.seconds))) == "challenge_closed"
    for opened in (second, foreign):
        code = phone.code(kit.clock.seconds)
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(code))
        kit.clock.advance(60)


def test_challenge_when_the_person_says_no_then_it_is_closed(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = begin(kit)

    kit.services.challenges.refuse(SESSION, opened.challenge.challenge_id)

    assert refused(kit, opened, TotpAnswer(phone.code(kit.clock.seconds))) == "challenge_closed"
    with pytest.raises(MfaError):
        kit.services.challenges.refuse(SESSION, opened.challenge.challenge_id)
    found = kit.services.challenges.find(opened.challenge.challenge_id)
    assert found is not None
    assert found.state is ChallengeState.REFUSED


def test_challenge_when_a_session_opens_many_at_once_then_one_is_open(kit: Kit) -> None:
    kit.enrol_phone()

    results = together(8, lambda _: begin(kit))

    assert all(isinstance(result, OpenedChallenge) for result in results)
    found = [
        kit.services.challenges.find(result.challenge.challenge_id)
        for result in results
        if isinstance(result, OpenedChallenge)
    ]
    assert sum(challenge is not None and challenge.state is ChallengeState.OPEN for challenge in found) == 1


def test_challenge_when_the_user_is_asked_all_the_time_then_that_ends(kit: Kit) -> None:
    for number in range(MAX_PROMPTS):
        begin(kit, session=f"session-{number}")

    with pytest.raises(LimitExceededError):
        begin(kit)
    begin(kit, BOB)
    kit.clock.advance(PROMPTS_MS / 1000)
    begin(kit)


def test_challenge_when_action_or_resource_are_too_long_then_their_field_is_named(kit: Kit) -> None:
    with pytest.raises(RequestError) as caught:
        kit.services.challenges.begin(SESSION, ADA, SESSION.session, action="a" * 257)
    assert caught.value.field == "action"
    with pytest.raises(RequestError) as caught:
        kit.services.challenges.begin(SESSION, ADA, SESSION.session, resource="a" * 2049)
    assert caught.value.field == "resource"


def test_proof_when_it_is_collected_then_that_works_once_and_for_its_session(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session, action="s3:DeleteBucket", resource="r")
    with pytest.raises(MfaError):
        kit.services.challenges.collect(SESSION, opened.challenge.challenge_id)
    code = phone.code(kit.clock.seconds)
    proof = kit.services.challenges.answer(session_of(ADA, "page"), opened.challenge.challenge_id, TotpAnswer(code))

    with pytest.raises(MfaError):
        kit.services.challenges.collect(session_of(ADA, "page"), opened.challenge.challenge_id)
    assert kit.services.challenges.collect(SESSION, opened.challenge.challenge_id) == proof
    assert (proof.action, proof.resource) == ("s3:DeleteBucket", "r")
    with pytest.raises(MfaError):
        kit.services.challenges.collect(SESSION, opened.challenge.challenge_id)


def test_code_when_it_was_accepted_then_it_and_those_before_are_spent(kit: Kit) -> None:
    phone = kit.enrol_phone()
    earlier, now = phone.code(kit.clock.seconds - 30), phone.code(kit.clock.seconds)
    kit.services.challenges.answer(SESSION, begin(kit).challenge.challenge_id, TotpAnswer(now))

    for code in (now, earlier):
        assert refused(kit, begin(kit), TotpAnswer(code)) == "code_replayed"
    kit.clock.advance(30)
    assert refused(kit, begin(kit), TotpAnswer(now)) == "code_replayed"
    code = phone.code(kit.clock.seconds)
    kit.services.challenges.answer(SESSION, begin(kit).challenge.challenge_id, TotpAnswer(code))


def test_codes_when_two_devices_of_a_user_have_them_then_each_spends_its_own(kit: Kit) -> None:
    first, second = kit.enrol_phone(name="first"), kit.enrol_phone(name="second")
    for phone in (second, first):
        code = phone.code(kit.clock.seconds)
        proof = kit.services.challenges.answer(SESSION, begin(kit).challenge.challenge_id, TotpAnswer(code))
        assert proof.serial_number == phone.serial_number


def test_drift_when_a_device_runs_ahead_step_by_step_then_it_is_followed(kit: Kit) -> None:
    phone = kit.enrol_phone()
    for steps in (1, 2, 3, 4):
        kit.clock.advance(600)
        code = phone.code(kit.clock.seconds + 30 * steps)
        kit.services.challenges.answer(SESSION, begin(kit).challenge.challenge_id, TotpAnswer(code))
    kit.clock.advance(600)
    assert refused(kit, begin(kit), TotpAnswer(phone.code(kit.clock.seconds + 30 * 8))) == "code_mismatch"
    kit.clock.advance(60)
    # Somebody has set the clock of the device.
    code = phone.code(kit.clock.seconds)
    kit.services.challenges.answer(SESSION, begin(kit).challenge.challenge_id, TotpAnswer(code))


def test_code_when_the_key_of_another_device_is_missing_then_it_is_accepted_all_the_same(kit: Kit) -> None:
    lost = kit.enrol_phone(name="lost")
    with kit.store.write() as connection:
        connection.execute(text("UPDATE totp_secrets SET key_id = 'gone'"))
    phone = kit.enrol_phone(name="phone")

    opened = begin(kit)
    code = phone.code(kit.clock.seconds)
    proof = kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, TotpAnswer(code))
    assert proof.serial_number == phone.serial_number
    # What no other device yields may be the code of the one that cannot be used: that is said, and no proof.
    kit.clock.advance(30)
    opened = begin(kit)
    answer = TotpAnswer(lost.code(kit.clock.seconds))
    with pytest.raises(SourceUnavailableError):
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)


def test_answers_when_thirty_two_come_at_once_then_one_succeeds(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = begin(kit)
    answer = TotpAnswer(phone.code(kit.clock.seconds))

    results = together(32, lambda _: kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer))

    assert sum(not isinstance(result, SidecarError) for result in results) == 1
    assert {type(result) for result in results if isinstance(result, SidecarError)} <= {
        *MfaError.__subclasses__(),
        ThrottledError,
    }
    assert [result for result in kit.metrics.verifications if result[1] == "accepted"].count(
        (Factor.TOTP, "accepted")
    ) == 2, "one for the enrolment, one for the answer"


def test_code_when_it_answers_many_challenges_at_once_then_one_succeeds(kit: Kit) -> None:
    phone = kit.enrol_phone()
    opened = [begin(kit, session=f"session-{number}") for number in range(4)]
    answer = TotpAnswer(phone.code(kit.clock.seconds))

    results = together(
        4, lambda place: kit.services.challenges.answer(SESSION, opened[place].challenge.challenge_id, answer)
    )

    assert sum(not isinstance(result, SidecarError) for result in results) == 1


def test_recovery_code_when_it_answers_many_challenges_at_once_then_one_succeeds(kit: Kit) -> None:
    kit.enrol_phone()
    answer = RecoveryAnswer(kit.services.recovery.generate(ADMINISTRATOR, ADA)[0])
    opened = [begin(kit, session=f"session-{number}") for number in range(4)]

    results = together(
        4, lambda place: kit.services.challenges.answer(SESSION, opened[place].challenge.challenge_id, answer)
    )

    assert sum(not isinstance(result, SidecarError) for result in results) == 1


def test_key_when_a_copy_was_used_then_it_is_suspect_and_refused(kit: Kit) -> None:
    key = Ctap2Key()
    device = kit.enrol_key(key)
    copy = key.clone()
    for _ in range(2):
        opened = begin(kit)
        kit.services.challenges.answer(
            SESSION, opened.challenge.challenge_id, AssertionAnswer(kit.assertion(key, opened))
        )

    opened = begin(kit)
    assert refused(kit, opened, AssertionAnswer(kit.assertion(copy, opened))) == "sign_count_regressed"

    assert kit.services.devices.list_devices(ADA)[0].suspect_since_ms is not None
    assert kit.metrics.changes.count(Change.DEVICE_SUSPECTED) == 1
    for either in (key, copy):
        for _ in range(2):
            opened = begin(kit)
            assert refused(kit, opened, AssertionAnswer(kit.assertion(either, opened))) == "device_suspect"
            kit.services.throttles.unlock(ADMINISTRATOR, ADA)
    kit.services.devices.deactivate(ADMINISTRATOR, device.serial_number)
    assert kit.enrol_key(Ctap2Key()).suspect_since_ms is None


def test_key_when_a_copy_was_used_and_that_is_let_through_then_it_is_only_told(kit: Kit, tmp_path: Path) -> None:
    lenient = kit.with_party(tmp_path, allows_sign_count_regression=True)
    key = Ctap2Key()
    lenient.enrol_key(key)
    copy = key.clone()
    for either in (key, key, copy, key):
        opened = begin(lenient)
        answer = AssertionAnswer(lenient.assertion(either, opened))
        lenient.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)

    assert lenient.metrics.changes.count(Change.DEVICE_SUSPECTED) == 1


def test_key_when_it_does_not_count_then_zero_is_accepted_each_time(kit: Kit) -> None:
    key = Ctap2Key(counts=False)
    kit.enrol_key(key)
    for _ in range(3):
        opened = begin(kit)
        answer = AssertionAnswer(kit.assertion(key, opened))
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)


def test_key_when_key_and_copy_answer_at_once_then_one_succeeds(kit: Kit) -> None:
    key = Ctap2Key()
    kit.enrol_key(key)
    copy = key.clone()
    opened = [begin(kit, session=f"session-{number}") for number in range(2)]
    answers = [
        AssertionAnswer(kit.assertion(either, challenge)) for either, challenge in zip((key, copy), opened, strict=True)
    ]

    results = together(
        2, lambda place: kit.services.challenges.answer(SESSION, opened[place].challenge.challenge_id, answers[place])
    )

    assert sum(not isinstance(result, SidecarError) for result in results) == 1


def test_ceremony_when_it_was_finished_or_failed_then_it_is_spent(kit: Kit) -> None:
    key = Ctap2Key()
    ceremony = kit.services.ceremonies.begin(ADMINISTRATOR, ADA, "key")
    response = kit.register(key, ceremony.options_json)
    for answer in ("{}", response):
        with pytest.raises(MfaError):
            kit.services.ceremonies.finish(ADMINISTRATOR, ceremony.ceremony_id, answer)
    assert kit.services.devices.list_devices(ADA) == []

    ceremony = kit.services.ceremonies.begin(ADMINISTRATOR, ADA, "key")
    response = kit.register(key, ceremony.options_json)
    results = together(4, lambda _: kit.services.ceremonies.finish(ADMINISTRATOR, ceremony.ceremony_id, response))
    assert sum(not isinstance(result, SidecarError) for result in results) == 1


def test_ceremony_when_another_session_or_nobody_in_time_finishes_it_then_it_is_refused(kit: Kit) -> None:
    ceremony = kit.services.ceremonies.begin(session_of(ADA, "one"), ADA, "key")
    response = kit.register(Ctap2Key(), ceremony.options_json)
    with pytest.raises(MfaError):
        kit.services.ceremonies.finish(session_of(ADA, "two"), ceremony.ceremony_id, response)
    kit.clock.advance(300)
    with pytest.raises(MfaError):
        kit.services.ceremonies.finish(session_of(ADA, "one"), ceremony.ceremony_id, response)
    assert kit.audit.last["reason"] == "ceremony_unknown"


def test_ceremony_when_the_credential_is_registered_then_nobody_registers_it_again(kit: Kit) -> None:
    key = Ctap2Key()
    ceremonies = [kit.services.ceremonies.begin(ADMINISTRATOR, user_arn, "key") for user_arn in (ADA, BOB)]
    response = kit.register(key, ceremonies[0].options_json)
    kit.services.ceremonies.finish(ADMINISTRATOR, ceremonies[0].ceremony_id, response)

    again = kit.services.ceremonies.begin(ADMINISTRATOR, ADA, "key")
    excluded = json.loads(again.options_json)["excludeCredentials"]
    assert [one["id"] for one in excluded] == [json.loads(response)["id"]]


def test_user_handle_when_a_user_has_several_keys_then_it_is_one_and_says_nothing(kit: Kit) -> None:
    handles = []
    for user_arn in (ADA, ADA, BOB):
        options = json.loads(kit.services.ceremonies.begin(ADMINISTRATOR, user_arn, "key").options_json)
        handles.append(options["user"]["id"])

    assert handles[0] == handles[1] != handles[2]
    assert len(handles[0]) == 43


def test_challenge_when_text_holds_what_a_database_cannot_then_it_is_refused_as_such(kit: Kit) -> None:
    for action, resource in (("s3:Get\0Object", ""), ("", "arn:aws:s3:::a\0b")):
        with pytest.raises(RequestError):
            kit.services.challenges.begin(SESSION, ADA, SESSION.session, action=action, resource=resource)
    for ceremony_id in ("\0", "a\0b", "", "x" * 65):
        with pytest.raises(RequestError):
            kit.services.ceremonies.find_owner(ceremony_id)
        with pytest.raises(RequestError):
            kit.services.ceremonies.finish(ADMINISTRATOR, ceremony_id, "{}")
    for challenge_id in ("\0", "a\0b", "", "x" * 5000, "\ud800"):
        assert kit.services.challenges.find(challenge_id) is None
        for work in (
            lambda one: kit.services.challenges.collect(SESSION, one),
            lambda one: kit.services.challenges.refuse(SESSION, one),
            lambda one: kit.services.challenges.answer(SESSION, one, TotpAnswer("000000")),
        ):
            with pytest.raises(MfaError) as caught:
                work(challenge_id)
            assert caught.value.reason == "challenge_closed"
