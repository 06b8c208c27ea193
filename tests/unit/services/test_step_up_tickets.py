# SPDX-License-Identifier: Apache-2.0
"""Step-up tickets: what opens one, who redeems it, and that it is one challenge for good, on both databases."""

import base64
import dataclasses
import itertools
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.compile.step_up_ticket import LIFETIME_MS, MAX_TICKET, TICKET_VERSION
from sidecar.model.challenge import ChallengeState
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    LimitExceededError,
    MfaError,
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SessionRevokedError,
    TicketExpiredError,
    TicketForeignError,
    TicketInvalidError,
)
from sidecar.model.session import CLOCK_SKEW_MS
from sidecar.services.callers import Caller
from sidecar.services.challenges import CHALLENGE_MS, MAX_PROMPTS, RecoveryAnswer, TotpAnswer
from sidecar.services.mfa_journal import Change
from sidecar.services.sessions.keys import SessionKeyring
from sidecar.services.sessions.tickets import TicketOpener
from sidecar.services.step_up import AskedChallenge
from tests.authenticators import Ctap2Key
from tests.tickets import ACTION, KEY, OLD_KEY, RESOURCE, RING, seal_ticket, ticket_content
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, Kit
from tests.unit.services.test_step_up import Steps

NOW_MS = 1_800_000_000_000
SESSION = "ASIA2345672345672345"
OPENER = TicketOpener(ring=lambda: RING, now=lambda: NOW_MS * 1_000_000)
CONTENT = ticket_content(SESSION, NOW_MS + 1000, return_address="https://shop.example.org/orders?x=1")


def seal(content: bytes = CONTENT, **changes: Any) -> str:
    return seal_ticket(content, **{"key_id": KEY.id, "key": KEY.seal, **changes})


@pytest.fixture
def steps(kit: Kit) -> Steps:
    return Steps(kit)


def ticket(steps: Steps, caller: Caller, *, seconds: float = 300, **said: Any) -> str:
    now_ms = steps.kit.clock.nanoseconds // 1_000_000
    return seal(ticket_content(caller.session, now_ms + int(seconds * 1000), **said))


def redeem(steps: Steps, text: str, caller: Caller | None = None) -> AskedChallenge:
    return steps.service.redeem(caller or steps.terminal, text)


def test_ticket_when_it_is_opened_then_it_says_what_was_sealed() -> None:
    said = ticket_content(
        SESSION,
        NOW_MS + LIFETIME_MS,
        return_address="https://shop.example.org/",
        methods=[MfaMethod.WEBAUTHN, MfaMethod.U2F],
        max_age=0,
        user_verification=True,
        is_for_call=True,
    )
    for key in (KEY, OLD_KEY):
        opened = OPENER.open(seal(said, key_id=key.id, key=key.seal))

        assert (opened.access_key_id, opened.expires_at_ms) == (SESSION, NOW_MS + LIFETIME_MS)
        assert (opened.action, opened.resource) == (ACTION, RESOURCE)
        assert opened.return_address == "https://shop.example.org/"
        assert opened.methods == (MfaMethod.WEBAUTHN, MfaMethod.U2F)
        assert (opened.max_age_seconds, opened.user_verification, opened.is_for_call) == (0, True, True)
        assert len(opened.digest) == 32
    plain = OPENER.open(seal())
    assert (plain.max_age_seconds, plain.user_verification, plain.is_for_call) == (None, False, False)
    assert plain.methods == tuple(MfaMethod)


def test_ticket_when_it_is_as_long_as_can_be_then_it_is_opened() -> None:
    said = ticket_content(SESSION, NOW_MS, action="a:" + "b" * 254, resource="r" * 2048, return_address="h" * 2048)

    text = seal(said)

    assert len(text) == MAX_TICKET
    assert OPENER.open(text).return_address == "h" * 2048


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ticket",
        "=",
        "\u00e9",
        "A" * (MAX_TICKET + 1),
        seal() + "=",
        seal() + "A",
        seal()[:-1],
        seal(version=TICKET_VERSION - 1),
        seal(version=TICKET_VERSION + 1),
        seal(key_id=b"none"),
        seal(key_id=OLD_KEY.id),
        seal(b""),
        seal(CONTENT[:20]),
        seal(CONTENT[:-1]),
        seal(CONTENT + b"x"),
        seal(ticket_content(SESSION, NOW_MS, methods=[])),
        seal(ticket_content(SESSION, NOW_MS, action="")),
        seal(ticket_content(SESSION, NOW_MS, resource="")),
        seal(ticket_content(SESSION, NOW_MS, resource="arn:\0")),
        seal(ticket_content(SESSION, NOW_MS, action="a" * 257)),
        seal(ticket_content(SESSION, NOW_MS, resource="a" * 2049)),
        seal(ticket_content(SESSION, NOW_MS, return_address="a" * 2049)),
        seal(CONTENT.replace(b"order", b"ord\xffr")),
        # Flags and methods that a later version may know.
        seal(CONTENT[:28] + b"\x08" + CONTENT[29:]),
        seal(CONTENT[:29] + b"\x10" + CONTENT[30:]),
        # From further in the future than clocks differ.
        seal(ticket_content(SESSION, NOW_MS + LIFETIME_MS + CLOCK_SKEW_MS + 1)),
    ],
    # Seals are different each time, and names of tests must not be.
    ids=itertools.count(),
)
def test_ticket_when_it_is_none_of_ours_then_nothing_is_told_but_that(text: str) -> None:
    with pytest.raises(TicketInvalidError) as caught:
        OPENER.open(text)

    assert caught.value.message == "`step_up_ticket` is none that was sealed here"
    assert caught.value.field == "step_up_ticket"


def test_ticket_when_any_bit_of_it_is_another_then_it_is_none() -> None:
    raw = base64.urlsafe_b64decode(seal() + "==")
    for place in range(len(raw)):
        for bit in (1, 128):
            changed = raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :]
            with pytest.raises(TicketInvalidError):
                OPENER.open(base64.urlsafe_b64encode(changed).decode().rstrip("="))


def test_ticket_when_it_is_spelt_in_another_way_then_it_is_no_second_one() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    text = seal()
    spare = {2: 16, 3: 4}.get(len(text) % 4)
    assert spare, "the content is of a length that leaves bits over"
    place = letters.index(text[-1])
    for other in range(place - place % spare, place - place % spare + spare):
        if other != place:
            with pytest.raises(TicketInvalidError):
                OPENER.open(text[:-1] + letters[other])


def test_ticket_when_its_key_was_dropped_then_it_is_none() -> None:
    text = seal(key_id=OLD_KEY.id, key=OLD_KEY.seal)
    assert OPENER.open(text).access_key_id == SESSION

    with pytest.raises(TicketInvalidError):
        TicketOpener(ring=lambda: SessionKeyring((KEY,)), now=lambda: NOW_MS * 1_000_000).open(text)


@given(st.binary(max_size=120))
def test_ticket_when_its_content_is_anything_then_it_is_read_or_refused(data: bytes) -> None:
    try:
        opened = OPENER.open(seal(data))
    except TicketInvalidError:
        return
    assert opened.methods
    assert opened.action
    assert opened.resource


SPELT = st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(st.text(max_size=200) | SPELT)
def test_ticket_when_it_is_any_text_then_it_is_refused(text: str) -> None:
    with pytest.raises(TicketInvalidError):
        OPENER.open(text)


def test_redeeming_when_it_is_for_the_session_then_the_proof_holds_for_every_call(steps: Steps) -> None:
    text = ticket(steps, steps.terminal, return_address="https://shop.example.org/orders/4711")

    asked = redeem(steps, text)

    assert asked.state is ChallengeState.OPEN
    assert (asked.action, asked.resource) == ("", "")
    assert (asked.shown_action, asked.shown_resource) == (ACTION, RESOURCE)
    assert asked.return_address == "https://shop.example.org/orders/4711"
    assert asked.methods == tuple(MfaMethod)
    assert asked.is_from_ticket
    assert asked.is_own
    assert (asked.asked_by, asked.asked_from) == (ADA, "ipv4:127.0.0.1:1")
    assert steps.kit.metrics.changes[-1] is Change.CHALLENGE_BEGUN
    assert steps.kit.audit.last["note"] == f"{ACTION} on {RESOURCE}, for every call"
    proved = steps.service.answer(steps.terminal, asked.challenge_id, steps.touch(asked))
    assert proved is not None
    assert (proved.proof.action, proved.proof.resource) == ("", "")  # type: ignore[attr-defined]


def test_redeeming_when_it_is_for_the_call_then_the_proof_holds_for_that_alone(steps: Steps) -> None:
    asked = redeem(steps, ticket(steps, steps.terminal, is_for_call=True))

    assert (asked.action, asked.resource) == (ACTION.lower(), RESOURCE)
    assert (asked.shown_action, asked.shown_resource) == (ACTION, RESOURCE)
    proved = steps.service.answer(steps.terminal, asked.challenge_id, steps.touch(asked))
    assert proved is not None
    assert (proved.proof.action, proved.proof.resource) == (ACTION.lower(), RESOURCE)  # type: ignore[attr-defined]


def test_redeeming_when_the_resource_could_look_like_another_then_it_is_shown_so_that_it_cannot(steps: Steps) -> None:
    resource = f"{RESOURCE}\u202e1174"

    asked = redeem(steps, ticket(steps, steps.terminal, resource=resource))

    assert asked.shown_resource == f"{RESOURCE}\\u202e1174"
    with pytest.raises(RequestError):
        redeem(steps, ticket(steps, steps.terminal, resource=resource, is_for_call=True))


def test_redeeming_when_it_is_done_again_then_it_is_the_same_challenge_however_that_stands(steps: Steps) -> None:
    text = ticket(steps, steps.terminal)
    asked = redeem(steps, text)

    again = redeem(steps, text)
    assert dataclasses.replace(again, options_json="") == dataclasses.replace(asked, options_json="")
    assert steps.kit.metrics.changes.count(Change.CHALLENGE_BEGUN) == 1

    steps.service.answer(steps.terminal, asked.challenge_id, steps.touch(again))
    after = redeem(steps, text)
    assert (after.challenge_id, after.state, after.options_json) == (asked.challenge_id, ChallengeState.PROVED, "")
    # The proof was taken with the answer: nobody takes it twice.
    with pytest.raises(MfaError):
        steps.service.collect(steps.terminal, asked.challenge_id)


def test_redeeming_when_the_person_has_said_no_then_the_ticket_asks_no_second_time(steps: Steps) -> None:
    text = ticket(steps, steps.terminal)
    steps.service.refuse(steps.browser, redeem(steps, text).challenge_id)

    assert redeem(steps, text).state is ChallengeState.REFUSED


def test_redeeming_when_a_newer_ticket_was_redeemed_then_the_older_one_is_over(steps: Steps) -> None:
    texts = [ticket(steps, steps.terminal) for _ in range(2)]
    first, second = (redeem(steps, text) for text in texts)

    assert first.challenge_id != second.challenge_id
    assert redeem(steps, texts[0]).state is ChallengeState.EXPIRED
    assert redeem(steps, texts[1]).state is ChallengeState.OPEN


def test_redeeming_when_many_do_it_at_once_then_there_is_one_challenge_and_it_is_open(steps: Steps) -> None:
    text = ticket(steps, steps.terminal)
    found: list[AskedChallenge | Exception] = []
    ready = threading.Barrier(8)

    def run() -> None:
        ready.wait()
        try:
            found.append(redeem(steps, text))
        except Exception as error:  # noqa: BLE001 - told to the test
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {getattr(asked, "challenge_id", asked) for asked in found} == {redeem(steps, text).challenge_id}
    assert {getattr(asked, "state", asked) for asked in found} == {ChallengeState.OPEN}
    assert steps.kit.metrics.changes.count(Change.CHALLENGE_BEGUN) == 1


def test_redeeming_when_another_session_does_it_then_it_is_refused_and_told_of(steps: Steps) -> None:
    text = ticket(steps, steps.terminal)

    for caller in (steps.browser, steps.bob):
        with pytest.raises(TicketForeignError):
            redeem(steps, text, caller)
        assert steps.kit.audit.last["event"] == "mfa.ticket_refused"
        assert steps.kit.audit.last["note"] == "step_up_ticket_foreign"
        assert steps.kit.audit.last["caller"] == caller.name
    assert redeem(steps, text).state is ChallengeState.OPEN


def test_redeeming_when_its_time_is_over_then_it_is_refused_and_told_of(steps: Steps) -> None:
    text = ticket(steps, steps.terminal, seconds=1)
    steps.kit.clock.advance(1)

    with pytest.raises(TicketExpiredError) as caught:
        redeem(steps, text)

    assert caught.value.help == "make the request again; its refusal has a new one"
    assert steps.kit.audit.last["note"] == "step_up_ticket_expired"


def test_redeeming_when_it_is_forged_then_it_is_told_of(steps: Steps) -> None:
    with pytest.raises(TicketInvalidError):
        redeem(steps, "forged")

    assert steps.kit.audit.last["note"] == "step_up_ticket_invalid"
    assert steps.kit.metrics.changes[-1] is Change.TICKET_REFUSED


def test_redeeming_when_the_administrator_does_it_then_the_session_has_to_be_shown(steps: Steps) -> None:
    text = ticket(steps, steps.terminal)

    with pytest.raises(PreconditionError):
        redeem(steps, text, ADMINISTRATOR)
    asked = steps.service.redeem(ADMINISTRATOR, text, session_token=steps.terminal.token)

    assert asked.asked_by == ADA
    with pytest.raises(PermissionDeniedError):
        steps.service.redeem(steps.bob, text, session_token=steps.terminal.token)


def test_redeeming_when_the_session_has_ended_then_nobody_is_asked(steps: Steps) -> None:
    text = ticket(steps, steps.terminal)
    steps.desk.revoke(steps.terminal)

    with pytest.raises(SessionRevokedError):
        steps.service.redeem(ADMINISTRATOR, text, session_token=steps.terminal.token)


def test_redeeming_when_the_person_was_asked_often_then_old_tickets_still_lead_to_their_challenges(
    steps: Steps,
) -> None:
    texts = [ticket(steps, steps.terminal) for _ in range(MAX_PROMPTS + 1)]
    for text in texts[:-1]:
        redeem(steps, text)

    with pytest.raises(LimitExceededError):
        redeem(steps, texts[-1])
    assert redeem(steps, texts[0]).state is ChallengeState.EXPIRED


def test_ticket_when_it_is_over_then_its_challenge_is_still_remembered(steps: Steps) -> None:
    # One of a sidecar whose clock is ahead, as far as clocks may be.
    text = ticket(steps, steps.terminal, seconds=(LIFETIME_MS + CLOCK_SKEW_MS) / 1000)
    first = redeem(steps, text)
    steps.kit.clock.advance((LIFETIME_MS + CLOCK_SKEW_MS) / 1000 - 1)
    redeem(steps, ticket(steps, steps.terminal))

    assert first.expires_at_ms == steps.terminal.claims.issued_at_ms + CHALLENGE_MS  # type: ignore[union-attr]
    assert redeem(steps, text).challenge_id == first.challenge_id


def test_challenge_when_policies_count_keys_alone_then_nothing_else_is_offered_or_spent(steps: Steps) -> None:
    phone = steps.kit.enrol_phone()
    codes = steps.kit.services.recovery.generate(ADMINISTRATOR, ADA)
    asked = redeem(steps, ticket(steps, steps.terminal, methods=[MfaMethod.WEBAUTHN]))
    assert asked.methods == (MfaMethod.WEBAUTHN,)
    code = phone.code(steps.kit.clock.seconds)

    for answer in (TotpAnswer(code), RecoveryAnswer(codes[0])):
        with pytest.raises(MfaError) as caught:
            steps.service.answer(steps.terminal, asked.challenge_id, answer)
        assert caught.value.reason == "method_not_enough"

    # Neither is spent.
    steps.kit.services.throttles.unlock(ADMINISTRATOR, ADA)
    other = steps.begin()
    assert steps.service.answer(steps.terminal, other.challenge_id, TotpAnswer(code))


def test_challenge_when_policies_count_no_keys_then_none_is_asked_for(steps: Steps) -> None:
    phone = steps.kit.enrol_phone()
    asked = redeem(steps, ticket(steps, steps.terminal, methods=[MfaMethod.TOTP]))
    assert asked.options_json == ""
    assert steps.begin(steps.browser).options_json != ""

    key = steps.touch(steps.begin(steps.browser))
    with pytest.raises(MfaError) as caught:
        steps.service.answer(steps.terminal, asked.challenge_id, key)

    assert caught.value.reason == "method_not_enough"
    code = phone.code(steps.kit.clock.seconds)
    assert steps.service.answer(steps.terminal, asked.challenge_id, TotpAnswer(code))


def test_challenge_when_the_ticket_wants_the_user_verified_then_a_touch_is_not_enough(steps: Steps) -> None:
    steps.kit.enrol_key(Ctap2Key(pin="1234"), name="guarded", pin="1234")

    asked = redeem(steps, ticket(steps, steps.terminal, user_verification=True))

    assert asked.require_user_verification
    assert '"userVerification":"required"' in asked.options_json.replace(" ", "")
