# SPDX-License-Identifier: Apache-2.0
"""Software keys through python-fido2's client and CTAPHID, verified by our own ceremonies."""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from fido2.client import ClientError, DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.ctap import CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin
from fido2.hid import CTAPHID, CtapHidDevice
from fido2.webauthn import PublicKeyCredentialCreationOptions, PublicKeyCredentialRequestOptions

from sidecar.mfa.credential import Assertion, AttestationType, Credential
from sidecar.mfa.encoding import encode_base64url
from sidecar.mfa.options import UserVerification, creation_options, request_options
from sidecar.mfa.policy import AttestationMode
from sidecar.mfa.u2f import import_credential, import_registration
from sidecar.mfa.webauthn import verify_assertion, verify_registration
from sidecar.model.errors import CredentialIdMismatchError, RpIdMismatchError, SignCountRegressedError
from tests.authenticators import Ctap2Key, Finger, Issuer, U2fKey, plug
from tests.authenticators.u2f import app_id_hash

RP_ID = "sidecar.example"
ORIGIN = "https://sidecar.example"
APP_ID = "https://sidecar.example/u2f"
HANDLE = b"user-1"
PIN = "2580"


class Person(UserInteraction):
    """Who sits at the terminal: knows a PIN, and remembers being asked."""

    def __init__(self, pin: str | None = PIN) -> None:
        self.pin = pin
        self.touches = 0

    def prompt_up(self) -> None:
        self.touches += 1

    def request_pin(self, permissions: Any, rp_id: str | None) -> str | None:
        return self.pin

    def request_uv(self, permissions: Any, rp_id: str | None) -> bool:
        return True


def client_of(device: CtapHidDevice, person: Person) -> Fido2Client:
    return Fido2Client(device, client_data_collector=DefaultClientDataCollector(ORIGIN), user_interaction=person)


def plain(response: Mapping[str, Any]) -> Any:
    """Give what python-fido2 returns as the JSON that it stands for."""
    return json.loads(json.dumps(dict(response)))


def enrol(
    device: CtapHidDevice,
    *,
    person: Person | None = None,
    user_verification: UserVerification = "discouraged",
    resident_key: Any = "discouraged",
    exclude: tuple[Credential, ...] = (),
    event: threading.Event | None = None,
) -> Credential:
    challenge = os.urandom(32)
    options = creation_options(
        challenge=challenge,
        rp_id=RP_ID,
        rp_name="sidecar",
        user_handle=HANDLE,
        user_name="ann",
        user_display_name="Ann",
        exclude_credentials=exclude,
        user_verification=user_verification,
        resident_key=resident_key,
        attestation_mode=AttestationMode.RECORD,
    )
    asked = PublicKeyCredentialCreationOptions.from_dict(options)
    response = plain(client_of(device, person or Person()).make_credential(asked, event=event))
    return verify_registration(
        response=response,
        expected_challenge=challenge,
        expected_origins={ORIGIN},
        expected_rp_id=RP_ID,
        require_user_verification=user_verification == "required",
        user_handle=HANDLE,
    )


def answer(
    device: CtapHidDevice,
    *credentials: Credential,
    person: Person | None = None,
    user_verification: UserVerification = "discouraged",
    event: threading.Event | None = None,
) -> tuple[Any, bytes]:
    challenge = os.urandom(32)
    options = request_options(
        challenge=challenge, rp_id=RP_ID, allow_credentials=credentials, user_verification=user_verification
    )
    asked = PublicKeyCredentialRequestOptions.from_dict(options)
    selection = client_of(device, person or Person()).get_assertion(asked, event=event)
    return plain(selection.get_response(0)), challenge


def prove(device: CtapHidDevice, credential: Credential, **others: Any) -> Assertion:
    response, challenge = answer(device, credential, **others)
    return verify_assertion(
        response=response,
        credential=credential,
        expected_challenge=challenge,
        expected_origins={ORIGIN},
        expected_rp_id=RP_ID,
        require_user_verification=others.get("user_verification") == "required",
    )


@pytest.mark.parametrize("attestation", ["packed", "self", "none"])
def test_ctap2_key_when_enrolled_then_it_proves_with_a_rising_counter(attestation: str) -> None:
    key = Ctap2Key(attestation=attestation)
    person = Person()

    with plug(key) as device:
        credential = enrol(device, person=person)
        first = prove(device, credential, person=person)
        second = prove(device, replace(credential, sign_count=first.sign_count), person=person)

    kinds = {"packed": AttestationType.CERTIFIED, "self": AttestationType.SELF, "none": AttestationType.NONE}
    assert credential.attestation.type is kinds[attestation]
    assert credential.aaguid == key.aaguid
    assert 0 < credential.sign_count < first.sign_count < second.sign_count
    assert not first.user_verified
    assert person.touches == 3


def test_ctap2_key_when_its_only_algorithm_is_ed25519_then_it_is_used() -> None:
    with plug(Ctap2Key(algorithms=(-8,), attestation="self")) as device:
        credential = enrol(device)

        assert prove(device, credential).sign_count > credential.sign_count


@pytest.mark.parametrize("key", [Ctap2Key(pin=PIN), Ctap2Key(has_fingerprint=True)], ids=["pin", "fingerprint"])
def test_ctap2_key_when_the_user_is_verified_then_it_says_so(key: Ctap2Key) -> None:
    with plug(key) as device:
        credential = enrol(device, user_verification="required")

        assert credential.user_verified
        assert prove(device, credential, user_verification="required").user_verified


def test_ctap2_key_when_the_pin_is_wrong_then_its_retries_fall() -> None:
    key = Ctap2Key(pin=PIN)

    with plug(key) as device, pytest.raises(ClientError) as caught:
        enrol(device, person=Person("0000"), user_verification="required")

    assert isinstance(caught.value.cause, CtapError)
    assert caught.value.cause.code == CtapError.ERR.PIN_INVALID
    assert key.guard.retries == 7
    assert key.credentials == {}


@pytest.mark.parametrize("protocol", [1, 2])
def test_ctap2_key_when_a_pin_is_set_and_changed_then_only_the_new_one_holds(protocol: int) -> None:
    key = Ctap2Key()

    with plug(key) as device:
        how = next(one() for one in ClientPin.PROTOCOLS if protocol == one.VERSION)
        pins = ClientPin(Ctap2(device), how)
        pins.set_pin("1234")
        pins.change_pin("1234", "5678")
        with pytest.raises(CtapError) as caught:
            pins.get_pin_token("1234")
        token = pins.get_pin_token("5678")

    assert caught.value.code == CtapError.ERR.PIN_INVALID
    assert len(token) == 32


def test_ctap2_key_when_the_credential_is_resident_then_nobody_has_to_name_it() -> None:
    with plug(Ctap2Key(pin=PIN)) as device:
        credential = enrol(device, resident_key="required", user_verification="required")
        response, challenge = answer(device, user_verification="required")

    assert response["response"]["userHandle"] == encode_base64url(HANDLE)
    verify_assertion(
        response=response,
        credential=credential,
        expected_challenge=challenge,
        expected_origins={ORIGIN},
        expected_rp_id=RP_ID,
    )


def test_ctap2_key_when_it_is_enrolled_already_then_it_refuses_a_second_time() -> None:
    with plug(Ctap2Key()) as device:
        credential = enrol(device)
        with pytest.raises(ClientError) as caught:
            enrol(device, exclude=(credential,))

    assert caught.value.code == ClientError.ERR.DEVICE_INELIGIBLE


def test_ctap2_key_when_it_holds_no_such_credential_then_it_is_touched_and_says_so() -> None:
    with plug(Ctap2Key()) as device, plug(Ctap2Key()) as other:
        credential = enrol(device)
        person = Person()
        with pytest.raises(ClientError) as caught:
            answer(other, credential, person=person)

    assert caught.value.code == ClientError.ERR.DEVICE_INELIGIBLE
    assert person.touches == 1


def test_ctap2_key_when_somebody_has_a_copy_then_the_second_to_answer_is_found_out() -> None:
    key = Ctap2Key()
    with plug(key) as device:
        credential = enrol(device)
        copy = key.clone()
        used = replace(credential, sign_count=prove(device, credential).sign_count)

    with plug(copy) as device, pytest.raises(SignCountRegressedError):
        prove(device, used)


def test_ctap2_key_when_it_does_not_count_then_zero_is_accepted_each_time() -> None:
    with plug(Ctap2Key(counts=False)) as device:
        credential = enrol(device)

        assert [prove(device, credential).sign_count for _ in range(2)] == [0, 0]


def test_key_when_nobody_touches_it_and_the_client_cancels_then_it_stops_waiting() -> None:
    key = Ctap2Key(finger=Finger.away())
    event = threading.Event()

    class Impatient(Person):
        def prompt_up(self) -> None:
            super().prompt_up()
            event.set()

    person = Impatient()
    with plug(key) as device:
        with pytest.raises(ClientError) as caught:
            enrol(device, person=person, event=event)
        cancels = device._connection.cancels_seen
        key.finger.touch()
        credential = enrol(device)

    assert caught.value.code == ClientError.ERR.TIMEOUT
    assert cancels == 1
    assert person.touches == 1
    assert list(key.credentials) == [credential.credential_id]


def test_key_when_it_is_touched_from_another_thread_then_it_goes_on() -> None:
    key = Ctap2Key(finger=Finger.away())

    class Toucher(Person):
        def prompt_up(self) -> None:
            threading.Thread(target=key.finger.touch).start()

    with plug(key) as device:
        assert enrol(device, person=Toucher()).credential_id in key.credentials


def test_key_when_it_waits_then_it_sends_keepalives() -> None:
    with plug(Ctap2Key(finger=Finger(after=5))) as device:
        enrol(device)

        assert device._connection.keepalives_sent >= 5


def test_key_when_it_is_pulled_out_then_the_client_is_told() -> None:
    device = plug(Ctap2Key())
    device.close()

    with pytest.raises(OSError, match="pulled out"):
        device.ping()


def test_framing_when_a_message_takes_many_packets_then_it_comes_back_whole() -> None:
    with plug(Ctap2Key()) as device:
        message = os.urandom(7000)

        assert device.ping(message) == message
        with pytest.raises(CtapError) as caught:
            device.call(CTAPHID.VENDOR_FIRST)
        assert caught.value.code == CtapError.ERR.INVALID_COMMAND


def test_u2f_key_when_enrolled_through_webauthn_then_it_proves() -> None:
    person = Person()
    with plug(U2fKey()) as device:
        credential = enrol(device, person=person)
        proved = prove(device, credential, person=person)

    assert credential.attestation.format == "fido-u2f"
    assert credential.attestation.type is AttestationType.CERTIFIED
    assert credential.aaguid == bytes(16)
    assert proved.sign_count == 1
    assert person.touches == 2


def legacy_answer(key: U2fKey, credential: Credential, app_id: str, *, appid: Any) -> tuple[Any, bytes]:
    """Give what a browser sends for a U2F key that was asked with the extension ``appid``."""
    challenge = os.urandom(32)
    client = json.dumps(
        {"type": "webauthn.get", "challenge": encode_base64url(challenge), "origin": ORIGIN, "crossOrigin": False}
    ).encode()
    application = app_id_hash(app_id)
    raw = key.authenticate(application, hashlib.sha256(client).digest(), credential.credential_id)
    text = encode_base64url(credential.credential_id)
    response = {
        "id": text,
        "rawId": text,
        "type": "public-key",
        "response": {
            "clientDataJSON": encode_base64url(client),
            "authenticatorData": encode_base64url(application + raw[:5]),
            "signature": encode_base64url(raw[5:]),
        },
        "clientExtensionResults": {} if appid is None else {"appid": appid},
    }
    return response, challenge


def prove_legacy(key: U2fKey, credential: Credential, app_id: str = APP_ID, appid: Any = True) -> Assertion:
    response, challenge = legacy_answer(key, credential, app_id, appid=appid)
    return verify_assertion(
        response=response,
        credential=credential,
        expected_challenge=challenge,
        expected_origins={ORIGIN},
        expected_rp_id=RP_ID,
    )


def imported(key: U2fKey) -> Credential:
    client = b'{"typ":"navigator.id.finishEnrollment"}'
    registration = key.register(app_id_hash(APP_ID), hashlib.sha256(client).digest())
    return import_registration(registration=registration, client_data=client, app_id=APP_ID, user_handle=HANDLE)


def test_u2f_key_when_imported_then_it_proves_under_its_app_id() -> None:
    key = U2fKey()
    credential = imported(key)

    proved = prove_legacy(key, credential)

    assert proved.used_app_id
    assert proved.sign_count == 1
    assert not proved.user_verified
    assert credential.attestation.type is AttestationType.CERTIFIED


def test_u2f_key_when_only_handle_and_point_were_kept_then_it_proves_too() -> None:
    key = U2fKey()
    whole = imported(key)
    point = b"\x04" + whole.public_key[10:42] + whole.public_key[45:]

    credential = import_credential(key_handle=whole.credential_id, public_key=point, app_id=APP_ID, sign_count=0)

    assert prove_legacy(key, credential).used_app_id


@pytest.mark.parametrize("appid", [None, False])
def test_u2f_key_when_the_client_does_not_say_that_it_used_the_app_id_then_it_is_refused(appid: Any) -> None:
    key = U2fKey()

    with pytest.raises(RpIdMismatchError):
        prove_legacy(key, imported(key), appid=appid)


def test_u2f_key_when_it_signs_for_another_app_id_then_it_is_refused() -> None:
    key = U2fKey()
    credential = imported(key)
    key.credentials[credential.credential_id] = (
        app_id_hash("https://evil.example"),
        key.credentials[credential.credential_id][1],
    )

    with pytest.raises(RpIdMismatchError):
        prove_legacy(key, credential, app_id="https://evil.example")


def test_app_id_when_the_credential_has_none_then_the_extension_does_not_open_it() -> None:
    key = U2fKey()
    credential = replace(imported(key), app_id=None)

    with pytest.raises(RpIdMismatchError):
        prove_legacy(key, credential)


def test_u2f_key_when_two_are_plugged_in_then_the_wrong_one_does_not_know_the_credential() -> None:
    with plug(U2fKey()) as device, plug(U2fKey(issuer=Issuer())) as other:
        credential = enrol(device)
        with pytest.raises(ClientError) as caught:
            answer(other, credential)

    assert caught.value.code == ClientError.ERR.DEVICE_INELIGIBLE


def test_assertion_when_it_is_of_another_credential_of_the_user_then_it_is_refused() -> None:
    with plug(Ctap2Key()) as device:
        first, second = enrol(device), enrol(device)
        response, challenge = answer(device, first)

    with pytest.raises(CredentialIdMismatchError):
        verify_assertion(
            response=response,
            credential=second,
            expected_challenge=challenge,
            expected_origins={ORIGIN},
            expected_rp_id=RP_ID,
        )
