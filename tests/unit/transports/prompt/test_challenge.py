# SPDX-License-Identifier: Apache-2.0
"""A challenge, from each way it can begin to each way it can end."""

import json
from typing import Any

import pytest

from sidecar.model.challenge import ChallengeState
from sidecar.services.callers import Caller
from sidecar.services.challenges import CHALLENGE_MS, TotpAnswer
from sidecar.services.step_up import AskedChallenge
from sidecar.services.store.throttles import LOCKED_AT, WAITS
from tests.authenticators import Ctap2Key, U2fKey
from tests.unit.services.mfa_kit import ADMINISTRATOR, BOB, Phone, plugged_client
from tests.unit.transports.prompt.prompt_kit import PromptKit
from tests.unit.transports.prompt.visitor import Visitor

ORDER = "arn:aws:payments:eu-west-1:111122223333:order/4711"
APP = "https://app.example.org/orders?id=4711"


def ask(prompt: PromptKit, terminal: Caller | None = None, require_user_verification: bool = False) -> AskedChallenge:
    """Have a terminal ask for a proof."""
    return prompt.step_up.begin(
        terminal or prompt.terminal(),
        action="payments:Refund",
        resource=ORDER,
        require_user_verification=require_user_verification,
    )


def touch(visitor: Visitor, key: Ctap2Key | U2fKey, *, pin: str | None = None) -> str:
    """Have a key answer what the page asks it."""
    with plugged_client(key, pin) as client:
        return json.dumps(dict(client.get_assertion(json.loads(visitor.options)).get_response(0)))


def page_of(asked: AskedChallenge, return_to: str = "") -> str:
    return f"/challenge/{asked.challenge_id}" + (f"?return_to={return_to}" if return_to else "")


def state(prompt: PromptKit, asked: AskedChallenge) -> ChallengeState:
    found = prompt.mfa.services.challenges.find(asked.challenge_id)
    assert found is not None
    return found.state


def test_challenge_when_it_is_opened_then_the_page_says_what_by_whom_and_from_where(
    prompt: PromptKit, ada: Visitor
) -> None:
    prompt.mfa.enrol_key(Ctap2Key())
    asked = ask(prompt)

    assert ada.open(page_of(asked)).status_code == 200

    assert ada.page.heading == "Approve this?"
    for words in ("payments:refund", ORDER, "10.0.0.7", asked.user_code, "user/ada", "Another session of yours"):
        assert words in ada.text
    assert json.loads(ada.options)["rpId"] == "example.org"
    assert "Security keys need JavaScript" in ada.response.text


@pytest.mark.parametrize("key", [Ctap2Key, U2fKey])
def test_challenge_when_a_key_is_touched_then_it_is_approved_and_the_browser_gets_no_token(
    prompt: PromptKit, ada: Visitor, key: type[Ctap2Key] | type[U2fKey]
) -> None:
    plugged, terminal, before = key(), prompt.terminal(), ada.caller.token
    prompt.mfa.enrol_key(plugged)
    asked = ask(prompt, terminal)
    ada.open(page_of(asked, APP))

    ada.submit(f"{page_of(asked)}/key", response_json=touch(ada, plugged))

    assert ada.page.heading == "Approved"
    assert ada.response.status_code == 200
    assert ada.caller.token == before
    assert '<meta http-equiv="refresh" content="0; url=https://app.example.org/orders?id=4711">' in ada.response.text
    assert "Back to app.example.org" in ada.text
    assert prompt.step_up.collect(terminal, asked.challenge_id).session_token != terminal.token


def test_challenge_when_a_code_is_typed_with_a_blank_then_it_is_approved(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked))
    code = phone.code(prompt.clock.seconds)

    ada.submit(f"{page_of(asked)}/code", code=f"{code[:3]} {code[3:]}")

    assert ada.page.heading == "Approved"
    assert "You may close this window" in ada.text
    assert "http-equiv" not in ada.response.text


def test_challenge_when_a_recovery_code_is_typed_then_it_is_approved_once(prompt: PromptKit, ada: Visitor) -> None:
    prompt.mfa.enrol_phone()
    code = prompt.mfa.services.recovery.generate(ADMINISTRATOR, ada.caller.name)[0]
    for heading in ("Approved", "Approve this?"):
        asked = ask(prompt)
        ada.open(page_of(asked))
        ada.submit(f"{page_of(asked)}/recovery", recovery_code=f" {code.lower()} ")
        assert ada.page.heading == heading
    assert "That recovery code was not accepted" in ada.text


def wrong_key(visitor: Visitor, prompt: PromptKit) -> str:
    """Have a key of somebody else answer."""
    stranger = Ctap2Key()
    prompt.mfa.enrol_key(stranger, BOB, "other")
    of_bob: dict[str, Any] = json.loads(prompt.step_up.begin(prompt.terminal("bob")).options_json)
    options: Any = {**json.loads(visitor.options), "allowCredentials": of_bob["allowCredentials"]}
    with plugged_client(stranger, None) as client:
        return json.dumps(dict(client.get_assertion(options).get_response(0)))


def test_challenge_when_it_is_a_wrong_key_then_it_stays_open_and_the_page_says_so(
    prompt: PromptKit, ada: Visitor
) -> None:
    prompt.mfa.enrol_key(Ctap2Key())
    asked = ask(prompt)
    ada.open(page_of(asked))

    response = ada.submit(f"{page_of(asked)}/key", response_json=wrong_key(ada, prompt))

    assert response.status_code == 403
    assert "The key was not accepted" in ada.text
    assert state(prompt, asked) is ChallengeState.OPEN


@pytest.mark.parametrize(
    "typed", ["000000", "12345", "abcdef", "\uff11\uff12\uff13\uff14\uff15\uff16", "9" * 500, "<script>"]
)
def test_challenge_when_it_is_a_wrong_code_then_it_stays_open_and_the_page_says_so(
    prompt: PromptKit, ada: Visitor, typed: str
) -> None:
    prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked))

    assert ada.submit(f"{page_of(asked)}/code", code=typed).status_code == 403
    assert "That code was not accepted" in ada.text
    assert state(prompt, asked) is ChallengeState.OPEN
    assert ada.page.form(f"{page_of(asked)}/code")["code"] == ""


@pytest.mark.parametrize("way", ["key", "code", "recovery"])
def test_challenge_when_nothing_is_sent_then_the_page_says_what_to_do(
    prompt: PromptKit, ada: Visitor, way: str
) -> None:
    prompt.mfa.enrol_phone()
    prompt.mfa.enrol_key(Ctap2Key())
    asked = ask(prompt)
    ada.open(page_of(asked))

    assert ada.submit(f"{page_of(asked)}/{way}").status_code == 400
    assert ada.page.heading == "Approve this?"
    assert state(prompt, asked) is ChallengeState.OPEN


def test_challenge_when_too_many_proofs_have_failed_then_the_page_says_how_long_to_wait(
    prompt: PromptKit, ada: Visitor
) -> None:
    prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked))
    for _ in range(10):
        response = ada.submit(f"{page_of(asked)}/code", code="000000")
        if response.status_code == 429:
            break
    assert response.status_code == 429
    assert "Too many proofs have failed; try again in" in ada.text


def test_challenge_when_the_person_is_locked_then_the_page_says_who_helps(prompt: PromptKit, ada: Visitor) -> None:
    prompt.mfa.enrol_phone()
    terminal = prompt.terminal()
    for _ in range(LOCKED_AT + 1):
        prompt.clock.advance(max(WAITS))
        asked = ask(prompt, terminal)
        ada.open(page_of(asked))
        response = ada.submit(f"{page_of(asked)}/code", code="000000")

    assert response.status_code == 429
    assert "the user is locked. An administrator unlocks with" in ada.text


def test_challenge_when_it_is_refused_then_it_is_over(prompt: PromptKit, ada: Visitor) -> None:
    prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked, APP))

    assert ada.submit(f"{page_of(asked)}/refuse").status_code == 410

    assert ada.page.heading == "Refused"
    assert "Back to app.example.org" in ada.text
    assert "http-equiv" not in ada.response.text
    assert state(prompt, asked) is ChallengeState.REFUSED
    assert prompt.mfa.audit.last["event"] == "mfa.challenge_refused"


def test_challenge_when_its_time_is_over_then_every_way_says_so(prompt: PromptKit, ada: Visitor) -> None:
    phone = prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked))
    fields = ada.page.form(f"{page_of(asked)}/code")
    prompt.clock.advance(CHALLENGE_MS / 1000)

    typed = {**fields, "code": phone.code(prompt.clock.seconds)}
    assert ada.post(f"{page_of(asked)}/code", typed).status_code == 410
    assert ada.page.heading == "Too late"
    assert ada.post(f"{page_of(asked)}/refuse", fields).status_code == 410
    assert ada.open(page_of(asked)).status_code == 410
    assert ada.page.heading == "Too late"


def test_challenge_when_it_was_answered_in_another_window_then_this_one_says_so(
    prompt: PromptKit, ada: Visitor
) -> None:
    phone = prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked))
    fields = ada.page.form(f"{page_of(asked)}/code")
    prompt.mfa.services.challenges.answer(ada.caller, asked.challenge_id, TotpAnswer(phone.code(prompt.clock.seconds)))

    ada.post(f"{page_of(asked)}/code", {**fields, "code": "123456"})
    assert ada.page.heading == "Approved"
    ada.post(f"{page_of(asked)}/refuse", fields)
    assert ada.page.heading == "Approved"


def test_challenge_when_a_newer_one_takes_its_place_then_it_is_over(prompt: PromptKit, ada: Visitor) -> None:
    prompt.mfa.enrol_phone()
    terminal = prompt.terminal()
    asked = ask(prompt, terminal)
    ask(prompt, terminal)

    assert ada.open(page_of(asked)).status_code == 410
    assert "a newer one has taken its place" in ada.text


@pytest.mark.parametrize("is_real", [True, False])
def test_challenge_when_it_is_somebody_elses_or_none_then_the_page_is_the_same(
    prompt: PromptKit, ada: Visitor, is_real: bool
) -> None:
    asked = ask(prompt, prompt.terminal("bob"))
    id = asked.challenge_id if is_real else "x" * 43

    assert ada.open(f"/challenge/{id}").status_code == 404
    assert ada.page.heading == "There is no such request for you"
    assert "Signed in as ada" in ada.text
    assert "payments" not in ada.text
    for way in ("key", "code", "recovery", "refuse"):
        token = ada.page.form("/sign-out")
        assert ada.post(f"/challenge/{id}/{way}", {**token, "code": "123456"}).status_code == 404
    assert not is_real or state(prompt, asked) is ChallengeState.OPEN


def test_challenge_when_the_person_has_no_device_then_the_page_leads_to_adding_one(
    prompt: PromptKit, ada: Visitor
) -> None:
    ada.open(page_of(ask(prompt)))

    assert "You have no device to prove it with" in ada.text
    assert [action for action in ada.page.actions() if action.endswith(("key", "code", "recovery"))] == []


def test_challenge_when_it_takes_a_pin_and_there_is_only_an_app_then_the_page_says_what_is_missing(
    prompt: PromptKit, ada: Visitor
) -> None:
    prompt.mfa.enrol_phone()

    ada.open(page_of(ask(prompt, require_user_verification=True)))

    assert "This takes a security key with a PIN" in ada.text
    assert [action for action in ada.page.actions() if action.endswith(("key", "code", "recovery"))] == []


def test_challenge_when_it_takes_a_pin_then_the_key_is_asked_for_it_and_codes_do_not_count(
    prompt: PromptKit, ada: Visitor
) -> None:
    phone = prompt.mfa.enrol_phone()
    key = Ctap2Key(pin="1234")
    prompt.mfa.enrol_key(key, pin="1234")
    asked = ask(prompt, require_user_verification=True)
    ada.open(page_of(asked))
    token = ada.page.form("/sign-out")

    assert json.loads(ada.options)["userVerification"] == "required"
    assert ada.post(f"{page_of(asked)}/code", {**token, "code": phone.code(prompt.clock.seconds)}).status_code == 403
    ada.submit(f"{page_of(asked)}/key", response_json=touch(ada, key, pin="1234"))
    assert ada.page.heading == "Approved"


FORGED = ["https://evil.example/", "https://app.example.org@evil.example/", "//evil.example", "javascript:alert(1)"]


@pytest.mark.parametrize("address", FORGED)
def test_challenge_when_the_way_back_is_forged_then_it_leads_nowhere(
    prompt: PromptKit, ada: Visitor, address: str
) -> None:
    phone = prompt.mfa.enrol_phone()
    asked = ask(prompt)
    ada.open(page_of(asked))
    fields = ada.page.form(f"{page_of(asked)}/code")

    for response in (
        ada.client.get(page_of(asked), params={"return_to": address}),
        ada.post(f"{page_of(asked)}/code", {**fields, "return_to": address, "code": phone.code(prompt.clock.seconds)}),
        ada.post(f"{page_of(asked)}/refuse", {**fields, "return_to": address}),
    ):
        assert response.status_code == 400
        assert "This link is not safe" in response.text
        assert "location" not in response.headers
        assert f'href="{address}' not in response.text
    assert state(prompt, asked) is ChallengeState.OPEN


def test_challenge_when_the_return_address_holds_html_then_it_is_text(prompt: PromptKit, ada: Visitor) -> None:
    prompt.mfa.enrol_phone()
    asked = ask(prompt)

    ada.client.get(page_of(asked))
    ada.response = ada.client.get(page_of(asked), params={"return_to": 'https://app.example.org/"><script>x</script>'})

    assert ada.page.form(f"{page_of(asked)}/code")["return_to"] == 'https://app.example.org/"><script>x</script>'
    assert "<script>x" not in ada.response.text


def test_prove_when_a_page_asks_for_it_then_the_browsers_own_session_is_proved(prompt: PromptKit, ada: Visitor) -> None:
    phone: Phone = prompt.mfa.enrol_phone()
    ada.open("/devices/add-app")
    assert ada.page.heading == "First prove that it is you"

    ada.submit("/prove")
    assert "This browser, where you are signed in" in ada.text
    assert "The other screen" not in ada.text
    [way] = [action for action in ada.page.actions() if action.endswith("/code")]
    ada.submit(way, code=phone.code(prompt.clock.seconds))

    assert ada.page.heading == "Add an authenticator app"
    claims = ada.caller.claims
    assert claims is not None
    assert claims.mfa is not None


@pytest.mark.parametrize("then", ["https://app.example.org/", "//evil.example", ""])
def test_prove_when_it_would_lead_elsewhere_then_nobody_is_asked(ada: Visitor, prompt: PromptKit, then: str) -> None:
    prompt.mfa.enrol_phone()
    ada.open("/devices/add-app")

    assert ada.submit("/prove", then=then).status_code == 400
    assert "challenge_begun" not in str(prompt.mfa.audit.events())


def test_prove_when_somebody_is_asked_too_often_then_a_screen_says_so(ada: Visitor, prompt: PromptKit) -> None:
    prompt.mfa.enrol_phone()
    for _ in range(10):
        ada.open("/devices/add-app")
        assert ada.submit("/prove").status_code == 200
    ada.open("/devices/add-app")

    assert ada.submit("/prove").status_code == 409
    assert "The user was asked 10 times within ten minutes." in ada.text
