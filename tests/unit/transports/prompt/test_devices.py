# SPDX-License-Identifier: Apache-2.0
"""A person's own devices."""

import json
import re

import pytest

from sidecar.services.devices import ENROLMENT_MS
from sidecar.services.store.schema import MAX_DEVICES
from tests.authenticators import Ctap2Key, U2fKey
from tests.unit.services.mfa_kit import ADA, BOB, Phone
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Visitor


def prove(visitor: Visitor, phone: Phone) -> None:
    """Go through the proof that a page asks for, with a code that is not spent yet."""
    assert visitor.page.heading == "First prove that it is you"
    visitor.prompt.clock.advance(60)
    visitor.submit("/prove")
    [way] = [action for action in visitor.page.actions() if action.endswith("/code")]
    visitor.submit(way, code=phone.code(visitor.prompt.clock.seconds))


def names(prompt: PromptKit, user_arn: str = ADA) -> list[str]:
    return [device.name for device in prompt.mfa.services.devices.list_devices(user_arn)]


def add_key(visitor: Visitor, key: Ctap2Key | U2fKey, name: str) -> None:
    visitor.open("/devices/add-key")
    visitor.submit("/devices/add-key", name=name)
    visitor.submit("/devices/add-key/finish", response_json=visitor.prompt.mfa.register(key, visitor.options))


def test_devices_when_there_are_none_then_the_page_says_so(ada: Visitor) -> None:
    ada.open("/devices")

    assert "You have none yet" in ada.text
    assert "Make recovery codes" not in ada.text


@pytest.mark.parametrize(("key", "kind"), [(Ctap2Key, "Security key or passkey"), (U2fKey, "Security key (U2F)")])
def test_key_when_it_is_touched_then_it_is_added(
    prompt: PromptKit, ada: Visitor, key: type[Ctap2Key] | type[U2fKey], kind: str
) -> None:
    add_key(ada, key(), "my blue  key")

    assert ada.response.url.path == "/devices"
    assert "Your security key has been added." in ada.text
    assert names(prompt) == ["my-blue-key"]
    assert kind in ada.text or key is U2fKey


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "<b>", "ключ", "a/b"])
def test_key_when_its_name_cannot_be_one_then_the_form_says_so(ada: Visitor, name: str) -> None:
    for page in ("/devices/add-key", "/devices/add-app"):
        ada.open(page)
        assert ada.submit(page, name=name).status_code == 400
        assert "1 to 64 letters, digits" in ada.text


@pytest.mark.parametrize("response", ["", "{}", "null", "[" * 10_000, "x" * 70_000])
def test_key_when_its_answer_is_none_then_it_is_not_added(prompt: PromptKit, ada: Visitor, response: str) -> None:
    ada.open("/devices/add-key")
    ada.submit("/devices/add-key", name="key")

    assert ada.submit("/devices/add-key/finish", response_json=response).status_code == 403
    assert "The key was not added" in ada.text
    assert names(prompt) == []


def test_key_when_the_same_answer_is_sent_twice_then_it_is_added_once(prompt: PromptKit, ada: Visitor) -> None:
    ada.open("/devices/add-key")
    ada.submit("/devices/add-key", name="key")
    fields = ada.page.form("/devices/add-key/finish")
    fields["response_json"] = prompt.mfa.register(Ctap2Key(), ada.options)
    ada.post("/devices/add-key/finish", fields)

    ada.post("/devices/add-key/finish", fields)

    assert names(prompt) == ["key"]


def begin_app(visitor: Visitor, name: str = "ada-phone") -> Phone:
    visitor.open("/devices/add-app")
    visitor.submit("/devices/add-app", name=name)
    serial = visitor.page.form("/devices/add-app/confirm")["serial_number"]
    shown = re.search(r'class="secret mono">([A-Z2-7 ]+)<', visitor.response.text)
    assert shown is not None
    return Phone(serial, shown[1].replace(" ", ""))


def test_app_when_two_codes_are_typed_then_it_is_added(prompt: PromptKit, ada: Visitor) -> None:
    phone = begin_app(ada)
    assert ada.response.headers["cache-control"] == "no-store"
    assert 'src="data:image/png;base64,' in ada.response.text
    now = prompt.clock.seconds

    ada.submit("/devices/add-app/confirm", code1=phone.code(now - 30), code2=phone.code(now))

    assert names(prompt) == ["ada-phone"]
    assert "Your authenticator app has been added." in ada.text


def test_app_when_the_codes_are_wrong_then_others_may_be_typed_and_the_secret_is_not_shown_again(
    prompt: PromptKit, ada: Visitor
) -> None:
    phone = begin_app(ada)
    assert ada.submit("/devices/add-app/confirm", code1="000000", code2="111111").status_code == 403
    assert "These codes were not accepted" in ada.text
    assert "data:image/png" not in ada.response.text
    now = prompt.clock.seconds

    ada.submit("/devices/add-app/confirm", code1=phone.code(now - 30), code2=phone.code(now))

    assert names(prompt) == ["ada-phone"]


def test_app_when_too_many_codes_were_wrong_then_the_form_says_how_long_to_wait(ada: Visitor) -> None:
    begin_app(ada)
    for _ in range(10):
        if ada.submit("/devices/add-app/confirm", code1="000000", code2="111111").status_code == 429:
            break
    assert "Too many proofs have failed; try again in" in ada.text


def test_app_when_its_time_is_over_then_it_is_not_added(prompt: PromptKit, ada: Visitor) -> None:
    phone = begin_app(ada)
    prompt.clock.advance(ENROLMENT_MS / 1000)
    now = prompt.clock.seconds

    ada.submit("/devices/add-app/confirm", code1=phone.code(now - 30), code2=phone.code(now))

    assert names(prompt) == []


def test_app_when_it_is_somebody_elses_enrolment_then_it_is_not_confirmed(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.begin_phone(BOB, "bobs", caller=prompt.terminal("bob"))
    begin_app(ada)
    now = prompt.clock.seconds

    for serial_number in (phone.serial_number, "x", "arn:aws:iam::111122223333:mfa/none"):
        fields = ada.page.form("/devices/add-app/confirm")
        fields |= {"serial_number": serial_number, "code1": phone.code(now - 30), "code2": phone.code(now)}
        response = ada.client.post("/devices/add-app/confirm", data=fields, headers={"origin": prompt.origin})
        assert response.status_code == 403
    assert names(prompt, BOB) == []


def test_app_when_its_name_is_taken_then_the_form_says_so(prompt: PromptKit, ada: Visitor) -> None:
    prompt.mfa.enrol_phone(BOB, "phone")
    ada.open("/devices/add-app")

    assert ada.submit("/devices/add-app", name="phone").status_code == 409
    assert "There is a device of that name" in ada.text


PROTECTED = ["/devices/add-key", "/devices/add-app", "/recovery-codes"]


@pytest.mark.parametrize("page", PROTECTED)
def test_change_when_nothing_was_proved_then_it_is_not_made(prompt: PromptKit, ada: Visitor, page: str) -> None:
    # The form was opened while there was no device yet.
    ada.open("/devices")
    token = ada.page.form("/sign-out")
    phone = prompt.mfa.enrol_phone()

    ada.post(page, {**token, "name": "other"})
    assert ada.page.heading == "First prove that it is you"
    assert ada.page.form("/prove")["then"] == page
    prove(ada, phone)
    assert ada.response.url.path == page
    assert ada.page.heading != "First prove that it is you"


def test_change_when_the_proof_is_old_then_it_takes_another_one(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.enrol_phone()
    ada.open("/devices/add-key")
    prove(ada, phone)
    prompt.clock.advance(301)

    ada.submit("/devices/add-key", name="key")

    assert ada.page.heading == "First prove that it is you"


def test_change_when_another_session_was_proved_then_this_one_takes_a_proof_too(
    prompt: PromptKit, ada: Visitor
) -> None:
    phone = prompt.mfa.enrol_phone()
    ada.open("/devices/add-key")
    prove(ada, phone)
    with Visitor(prompt) as thief:
        thief.sign_in("ada")
        thief.open("/devices/add-key")
        assert thief.page.heading == "First prove that it is you"


def test_device_when_it_is_removed_then_it_is_gone(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.enrol_phone()
    ada.open("/devices")
    [link] = [str(a.get("href")) for a in ada.page.all("a") if "remove" in str(a.get("href"))]
    ada.open(link)
    prove(ada, phone)
    assert ada.page.heading == "Remove “phone”?"
    assert "It is your last device" in ada.text

    ada.submit("/devices/remove")

    assert "The device has been removed." in ada.text
    assert names(prompt) == []


def test_device_when_it_is_somebody_elses_then_it_cannot_be_removed(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.enrol_phone(BOB, "bobs")
    ada.open("/devices")
    token = ada.page.form("/sign-out")

    assert ada.post("/devices/remove", {**token, "serial": phone.serial_number}).status_code == 404
    assert ada.open(f"/devices/remove?serial={phone.serial_number}").status_code == 404
    assert names(prompt, BOB) == ["bobs"]


def test_device_when_there_may_be_a_copy_of_it_then_the_list_says_so(prompt: PromptKit, ada: Visitor) -> None:
    key = Ctap2Key()
    device = prompt.mfa.enrol_key(key)
    with prompt.mfa.store.write() as connection:
        from sidecar.services.store import devices as rows

        rows.mark_suspect(connection, device.serial_number, int(prompt.clock.seconds * 1000))

    ada.open("/devices")

    assert "There may be a copy of this key" in ada.text


def test_recovery_codes_when_they_are_made_then_they_are_shown_once(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.enrol_phone()
    ada.open("/recovery-codes")
    prove(ada, phone)

    ada.submit("/recovery-codes")

    codes = [ada.page.text(item) for item in ada.page.all("li") if re.fullmatch(r"[0-9A-Z-]{19}", ada.page.text(item))]
    assert len(set(codes)) == 10
    assert ada.response.headers["cache-control"] == "no-store"
    ada.open("/recovery-codes")
    assert not any(code in ada.response.text for code in codes)


def test_recovery_codes_when_there_is_no_device_then_there_are_none(ada: Visitor) -> None:
    ada.open("/recovery-codes")
    token = ada.page.form("/sign-out")

    assert "you have none yet" in ada.text
    assert ada.post("/recovery-codes", token).status_code == 409


@pytest.mark.parametrize(
    ("method", "page"),
    [
        ("ListDevices", "/devices"),
        ("BeginKeyRegistration", "/devices/add-key"),
        ("BeginTotpEnrollment", "/devices/add-app"),
        ("GenerateRecoveryCodes", "/recovery-codes"),
    ],
)
def test_page_when_the_policies_do_not_allow_it_then_a_screen_says_so(
    prompt: PromptKit, ada: Visitor, method: str, page: str
) -> None:
    prompt.gatekeeper.denied.add(method)

    assert ada.open(page).status_code == 403
    assert ada.page.heading == "You may not do this"
    assert "is not authorized to perform it" in ada.text


def test_device_when_there_are_as_many_as_there_may_be_then_a_screen_says_so(prompt: PromptKit, ada: Visitor) -> None:
    for number in range(MAX_DEVICES):
        phone = prompt.mfa.enrol_phone(name=f"phone-{number}")
    ada.open("/devices/add-key")
    prove(ada, phone)

    assert ada.submit("/devices/add-key", name="one-more").status_code == 409
    assert "The user has 8 devices" in ada.text


def test_change_when_policies_want_a_proof_with_a_pin_then_the_page_leads_through_one(
    prompt: PromptKit, ada: Visitor
) -> None:
    prompt.mfa.enrol_key(Ctap2Key(pin="1234"), pin="1234")
    prompt.gatekeeper.wanting_pin.add("ListDevices")

    ada.open("/devices")
    assert ada.page.heading == "First prove that it is you"
    ada.submit("/prove")

    assert json.loads(ada.options)["userVerification"] == "required"
