# SPDX-License-Identifier: Apache-2.0
"""Devices of another system, imported on both databases, and used from then on."""

import base64
import json
from typing import Any

import pytest
from sqlalchemy import text

from sidecar.mfa.totp import generate_code
from sidecar.model.errors import DocumentRefusedError, MfaError
from sidecar.services.challenges import AssertionAnswer, Proof, RecoveryAnswer, TotpAnswer
from sidecar.services.mfa_journal import Change
from sidecar.services.store.devices import Device
from sidecar.services.store.schema import MAX_DEVICES
from tests.authenticators import U2fKey, plug
from tests.authenticators.app_id_client import AppIdClient, ExcludedError
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, ORIGIN, Kit, session_of
from tests.unit.services.test_import_document import APP_ID, HARDWARE, SECRET, document, token, u2f, whole

SESSION = session_of(ADA)
PHONE = "arn:aws:iam::111122223333:mfa/old-phone"


def imported(kit: Kit, *items: object, **more: Any) -> list[Device]:
    return kit.services.importing.import_devices(ADMINISTRATOR, document(*items), where="devices.json", **more)


def problems_of(kit: Kit, *items: object) -> list[tuple[str, str]]:
    """See a document refused both when it is checked and when it is imported, and give what is wrong."""
    with pytest.raises(DocumentRefusedError) as checked:
        kit.services.importing.check(document(*items), where="devices.json")
    with pytest.raises(DocumentRefusedError) as caught:
        imported(kit, *items)
    assert checked.value.problems == caught.value.problems
    return [(problem.json_path, problem.message) for problem in caught.value.problems]


def answer(kit: Kit, given: TotpAnswer | AssertionAnswer | RecoveryAnswer) -> Proof:
    opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
    return kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, given)


def code(kit: Kit, shift: int = 0, **more: Any) -> str:
    """Give the code of so many steps after now."""
    return generate_code(more.pop("secret", SECRET), int(kit.clock.seconds // 30) + shift, **more)


def test_token_when_imported_then_it_proves_and_what_it_showed_before_does_not(kit: Kit) -> None:
    (device,) = imported(kit, token())

    assert (device.serial_number, device.user_arn, device.kind) == (HARDWARE, ADA, "totp")
    assert kit.services.devices.list_devices(ADA) == [device]
    for shift in (-1, 0):
        with pytest.raises(MfaError) as caught:
            answer(kit, TotpAnswer(code(kit, shift)))
        assert caught.value.reason == "code_replayed"
    kit.clock.advance(30)
    assert answer(kit, TotpAnswer(code(kit))).serial_number == HARDWARE


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA512"])
def test_token_when_it_is_of_another_algorithm_then_that_is_kept(kit: Kit, algorithm: str) -> None:
    imported(kit, token(algorithm=algorithm))
    kit.clock.advance(60)

    with pytest.raises(MfaError):
        answer(kit, TotpAnswer(code(kit)))
    assert answer(kit, TotpAnswer(code(kit, algorithm=algorithm.lower()))).method == "totp"
    kit.services.rotation.rotate(ADMINISTRATOR)
    kit.clock.advance(60)
    codes = [code(kit, shift, algorithm=algorithm.lower()) for shift in (-1, 0)]
    assert kit.services.devices.resync_totp(ADMINISTRATOR, HARDWARE, *codes).serial_number == HARDWARE


def test_token_when_its_drift_is_known_then_its_own_past_is_what_is_spent(kit: Kit) -> None:
    imported(kit, token(drift_steps=-100))

    with pytest.raises(MfaError):
        answer(kit, TotpAnswer(code(kit, -100)))
    assert answer(kit, TotpAnswer(code(kit, -99))).method == "totp"


def test_token_when_its_clock_is_hours_off_then_resynchronizing_finds_it(kit: Kit) -> None:
    imported(kit, token(), token(serial_number=PHONE, secret=None, secret_hex="33" * 20))
    codes = [code(kit, shift) for shift in (2000, 2001)]
    phone_codes = [code(kit, shift, secret=b"\x33" * 20) for shift in (2000, 2001)]

    kit.services.devices.resync_totp(ADMINISTRATOR, HARDWARE, *codes)
    # A telephone knows the time, so that a day's worth of codes is not looked through for it.
    with pytest.raises(MfaError):
        kit.services.devices.resync_totp(ADMINISTRATOR, PHONE, *phone_codes)
    assert answer(kit, TotpAnswer(code(kit, 2002))).serial_number == HARDWARE


def test_seed_when_it_is_short_then_it_takes_a_word_and_is_on_record(kit: Kit) -> None:
    item = token(secret="JBSWY3DPEHPK3PXP")
    assert problems_of(kit, item) == [
        ("$.devices[0].secret", "the seed has 80 bits, and RFC 4226 asks for 128"),
    ]

    imported(kit, item, allow_short_seeds=True)

    assert kit.audit.last["note"] == "short seed"
    kit.clock.advance(60)
    secret = base64.b32decode("JBSWY3DPEHPK3PXP")
    step = int(kit.clock.seconds // 30)
    # RFC 4226's algorithm, written out: what makes codes here refuses such a seed.
    import hmac

    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    assert answer(kit, TotpAnswer(f"{number % 10**6:06d}")).method == "totp"


def test_u2f_key_when_imported_then_it_proves_under_its_app_id(kit: Kit) -> None:
    key = U2fKey()
    key.counter = 12
    (device,) = imported(kit, whole(key, sign_count=12))
    client = AppIdClient(plug(key), ORIGIN)
    assert device.kind == "u2f"
    assert device.serial_number.startswith("arn:aws:iam::111122223333:u2f/user/ada/u2f-")

    for _ in range(2):
        opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
        assert json.loads(opened.options_json)["extensions"] == {"appid": APP_ID}
        response = client.get_assertion(opened.options_json)
        assert json.loads(response)["clientExtensionResults"] == {"appid": True}
        proof = kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, AssertionAnswer(response))
        assert (proof.method, proof.serial_number, proof.user_verified) == ("u2f", device.serial_number, False)
    with kit.store.read() as connection:
        assert connection.execute(text("SELECT sign_count FROM credentials")).scalar_one() == key.counter == 14


def test_u2f_key_when_the_client_says_that_it_did_not_use_the_app_id_then_it_is_refused(kit: Kit) -> None:
    key = U2fKey()
    imported(kit, u2f(key))
    opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
    response = json.loads(AppIdClient(plug(key), ORIGIN).get_assertion(opened.options_json))

    response["clientExtensionResults"] = {"appid": False}
    with pytest.raises(MfaError) as caught:
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, AssertionAnswer(json.dumps(response)))
    assert caught.value.reason == "rp_id_mismatch"


def test_u2f_key_when_its_counter_is_behind_the_imported_one_then_it_is_suspect(kit: Kit) -> None:
    key = U2fKey()
    imported(kit, u2f(key, sign_count=1000))
    opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
    response = AppIdClient(plug(key), ORIGIN).get_assertion(opened.options_json)

    with pytest.raises(MfaError) as caught:
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, AssertionAnswer(response))
    assert caught.value.reason == "sign_count_regressed"
    assert kit.services.devices.list_devices(ADA)[0].suspect_since_ms is not None


def test_u2f_key_when_it_is_to_be_enrolled_again_then_the_browser_is_told_of_its_app_id(kit: Kit) -> None:
    key = U2fKey()
    imported(kit, u2f(key))

    ceremony = kit.services.ceremonies.begin(ADMINISTRATOR, ADA, "again")

    assert json.loads(ceremony.options_json)["extensions"]["appidExclude"] == APP_ID
    with pytest.raises(ExcludedError):
        AppIdClient(plug(key), ORIGIN).make_credential(ceremony.options_json)
    AppIdClient(plug(U2fKey()), ORIGIN).make_credential(ceremony.options_json)


def test_import_when_it_is_done_then_each_device_is_on_record_and_counted(kit: Kit) -> None:
    devices = imported(kit, token(), whole(U2fKey(), user_arn=BOB))

    assert kit.metrics.changes == [Change.DEVICE_IMPORTED, Change.DEVICE_IMPORTED]
    assert [record["serial_number"] for record in kit.audit.records] == [one.serial_number for one in devices]
    assert [record["user_arn"] for record in kit.audit.records] == [ADA, BOB]
    assert base64.b32encode(SECRET).decode() not in json.dumps(kit.audit.records)


def test_import_when_it_is_checked_then_nothing_changes(kit: Kit) -> None:
    assert kit.services.importing.check(document(token(), u2f()), where="x") == 2

    assert kit.services.devices.list_devices(ADA) == []
    assert kit.audit.records == []


def test_import_when_the_store_stands_in_the_way_then_all_is_told_and_nothing_imported(kit: Kit) -> None:
    key = U2fKey()
    imported(kit, token(), u2f(key))
    enrolled = kit.enrol_phone(BOB, "phone")
    pending = kit.begin_phone(BOB, "tablet")
    handle = base64.b64encode(next(iter(key.credentials))).decode()
    before = kit.services.devices.list_devices(ADA) + kit.services.devices.list_devices(BOB)

    problems = problems_of(
        kit,
        token(user_arn=BOB, secret=None, secret_hex="44" * 20),
        token(serial_number="GAHT00000002"),
        token(user_arn=BOB, serial_number="GAHT00000003", secret=base64.b32encode(enrolled.secret).decode()),
        token(user_arn=BOB, serial_number=pending.serial_number, secret=None, secret_hex="55" * 20),
        u2f(user_arn=BOB, key_handle=handle),
        u2f(app_id="https://example.com"),
        token(serial_number="GAHT00000004", secret=None, secret_hex="66" * 20),
    )

    assert problems == [
        ("$.devices[0].serial_number", "a device of this serial number is here already"),
        ("$.devices[1].secret", f"the user has the device already, as `{HARDWARE}`"),
        ("$.devices[2].secret", f"the user has the device already, as `{enrolled.serial_number}`"),
        ("$.devices[3].serial_number", "a device of this serial number is here already"),
        ("$.devices[4].key_handle", "the key is enrolled already"),
        ("$.devices[5].app_id", "another key of the user has another AppID, and a browser can be told of one"),
    ]
    assert kit.services.devices.list_devices(ADA) + kit.services.devices.list_devices(BOB) == before


def test_import_when_a_user_would_have_nine_devices_then_it_is_refused(kit: Kit) -> None:
    kit.enrol_phone()
    items = [
        token(serial_number=f"GAHT{number:08}", secret=None, secret_hex=f"{number:02}" * 20)
        for number in range(MAX_DEVICES)
    ]

    assert problems_of(kit, *items) == [
        (f"$.devices[{MAX_DEVICES - 1}]", "the user would have 9 devices, and there may be 8"),
    ]
    assert len(imported(kit, *items[:-1])) == MAX_DEVICES - 1


def test_import_when_the_snapshot_does_not_know_a_user_then_that_is_told_once(kit: Kit) -> None:
    kit.strangers.add(ADA)

    assert problems_of(kit, token(), u2f()) == [("$.devices[0].user_arn", "the snapshot has no such user")]


def test_import_when_two_do_it_at_once_then_one_is_told_and_nothing_is_there_twice(kit: Kit) -> None:
    from tests.unit.services.test_devices import together

    items = [token(), whole(U2fKey())]
    results = together(4, lambda _: imported(kit, *items))

    assert sum(isinstance(result, list) for result in results) == 1
    assert len(kit.services.devices.list_devices(ADA)) == 2
