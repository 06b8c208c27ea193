# SPDX-License-Identifier: Apache-2.0
"""Session tokens: what is opened, what is refused, and what a token that is known again may not keep alive."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import Any

import pytest

from sidecar import core
from sidecar.compile.image import write_image
from sidecar.compile.session_claims import CLAIMS_FORMAT, TOKEN_VERSION, encode_claims
from sidecar.model.decision import MfaMethod
from sidecar.model.errors import (
    SessionExpiredError,
    SessionInvalidError,
    SessionRevokedError,
    SessionUnverifiableError,
    SidecarError,
)
from sidecar.model.session import (
    BOUND_PROOF_MS,
    CLOCK_SKEW_MS,
    MAX_SESSION_TAGS,
    MAX_SESSION_TOKEN,
    BoundProof,
    MfaProof,
    SessionClaims,
    SessionKind,
    SessionTag,
)
from sidecar.model.snapshot import Account, Snapshot, User
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests import tokens
from tests.conformance.cases import ACCOUNT, OTHER_ACCOUNT, ROLE_ID, USER_ARN, USER_ID
from tests.tokens import seal, seal_bytes, state
from tests.unit.core.asking import image, image_of, request
from tests.unit.core.sessions import NOW_MS, claims, proof

ALLOWING = {"identity": {"Action": "app:*"}}


def opened(token: str, by: core.SessionState | None = None, **more: Any) -> SessionClaims:
    """Open *token* at the time of these tests."""
    return tokens.opened(token, by, **{"now_ms": NOW_MS, **more})


def answer(
    token: str,
    by: core.SessionState | None = None,
    *,
    image: core.Image | None = None,
    now_ms: int = NOW_MS,
    recorder: core.Recorder | None = None,
    **parts: Any,
) -> pb.AuthorizeResponse:
    """Ask with *token*."""
    asked = core.encode_request(request(principal="", session_token=token, **parts))
    answered = core.authorize(
        image if image is not None else image_of(**ALLOWING),
        asked,
        seconds=now_ms // 1000,
        nanos=now_ms % 1000 * 1_000_000,
        recorder=recorder,
        sessions=by or state(),
    )
    return pb.AuthorizeResponse.FromString(answered)


def refused(token: str, by: core.SessionState | None = None, **more: Any) -> type[SidecarError]:
    """Say how *token* is refused, by the method and in a decision alike."""
    by = by or state()
    with pytest.raises(SidecarError) as caught:
        opened(token, by, **more)
    answered = answer(token, by, image=more.get("image"), now_ms=more.get("now_ms", NOW_MS))
    assert answered.decision == pb.DECISION_IMPLICIT_DENY
    assert answered.reason == caught.value.reason
    return type(caught.value)


# What is opened.

FULL = claims(
    SessionKind.ROLE,
    source_identity="alice",
    is_chained=True,
    mfa=proof(),
    bound=BoundProof(proof(5, method=MfaMethod.RECOVERY, serial_number=""), "app:delete", "arn:aws:app:::x"),
    tags=(SessionTag("Team", "red"), SessionTag("Côte", "", is_transitive=True)),
)


@pytest.mark.parametrize("said", [claims(), claims(SessionKind.USER), claims(SessionKind.ROLE), FULL])
def test_token_when_opened_then_it_says_what_was_sealed(said: SessionClaims) -> None:
    assert opened(seal(said)) == said
    assert opened(seal(said), image=image()) == said


def test_token_when_it_counts_then_the_answer_names_its_principal() -> None:
    assert answer(seal(claims())).principal_arn == USER_ARN
    assert answer(seal(claims())).reason == "identity_allow"
    role = answer(seal(claims(SessionKind.ROLE)))
    assert role.principal_arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/session1"
    assert role.reason == "no_identity_allow"


def test_token_when_a_principal_is_sent_beside_it_then_the_last_of_both_counts() -> None:
    token = core.encode_request(request(principal="", session_token=seal(claims())))
    named = pb.AuthorizeRequest(principal="backup.amazonaws.com").SerializeToString()
    image = image_of(**ALLOWING)

    def principal_of(message: bytes) -> str:
        answered = core.authorize(image, message, seconds=NOW_MS // 1000, nanos=0, sessions=state())
        return pb.AuthorizeResponse.FromString(answered).principal_arn

    assert principal_of(named + token) == USER_ARN
    assert principal_of(token + named) == "backup.amazonaws.com"


def test_token_when_as_long_as_can_be_then_it_is_opened() -> None:
    token = ""
    for size in range(5000, 6200):
        said = claims(tags=(SessionTag("k", "x" * size),))
        token = seal(said) if len(seal(said)) <= MAX_SESSION_TOKEN else token
    assert len(token) > MAX_SESSION_TOKEN - 2
    assert opened(token).tags[0].key == "k"


# What is refused.


@pytest.mark.parametrize("said", [claims(), FULL])
def test_token_when_any_bit_is_flipped_then_it_is_refused(said: SessionClaims) -> None:
    by = state()
    token = seal(said)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for place in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(SessionInvalidError):
            opened(base64.urlsafe_b64encode(changed).decode().rstrip("="), by)
    assert opened(token, by) == said


@pytest.mark.parametrize("said", [claims(), claims(source_identity="a"), claims(source_identity="ab")])
def test_token_when_any_character_is_changed_then_it_is_refused(said: SessionClaims) -> None:
    by = state()
    token = seal(said)
    for place in range(len(token)):
        # The last character may carry bits that mean nothing: they must be as they were all the same.
        others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= é\n"
        for other in others if place >= len(token) - 2 else "A_+=":
            if other != token[place]:
                with pytest.raises(SessionInvalidError):
                    opened(token[:place] + other + token[place + 1 :], by)


def test_token_when_cut_short_or_made_longer_then_it_is_refused() -> None:
    by = state()
    token = seal(claims())
    for length in range(len(token)):
        with pytest.raises(SessionInvalidError):
            opened(token[:length], by)
    for more in ("A", "AA", "AAAA", "=", "==", " ", "\n", "\0", token):
        with pytest.raises(SessionInvalidError):
            opened(token + more, by)
    assert opened(token, by) == claims()


@pytest.mark.parametrize(
    "text", ["A" * 100, "A" * MAX_SESSION_TOKEN, "A" * (MAX_SESSION_TOKEN + 1), "\ud800" * 20, "é" * 50]
)
def test_token_when_it_is_nothing_of_ours_then_it_is_refused(text: str) -> None:
    with pytest.raises(SessionInvalidError):
        opened(text)


def test_token_when_longer_than_any_then_it_is_refused_though_its_seal_holds() -> None:
    token = seal(claims(tags=(SessionTag("k", "x" * 6000),)))

    assert len(token) > MAX_SESSION_TOKEN
    assert refused(token) is SessionInvalidError


def test_token_when_its_access_key_id_is_another_then_it_is_refused() -> None:
    other = "ASIA7654327654327654"
    token = seal(claims())
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[5:25] = other.encode()

    assert refused(base64.urlsafe_b64encode(raw).decode().rstrip("=")) is SessionInvalidError
    assert opened(seal(claims(access_key_id=other))).access_key_id == other


@pytest.mark.parametrize("access_key_id", ["asia2345672345672345", "ASIA 345672345672345", "ASIA\n345672345672345"])
def test_token_when_its_access_key_id_is_of_no_form_then_it_is_refused(access_key_id: str) -> None:
    assert refused(seal(claims(access_key_id=access_key_id))) is SessionInvalidError


def test_token_when_sealed_with_a_key_that_is_not_there_any_more_then_it_is_refused() -> None:
    both = state(keys=[(tokens.KEY_ID, tokens.KEY), (tokens.OTHER_KEY_ID, tokens.OTHER_KEY)])
    old = seal(claims())
    new = seal(claims(), key_id=tokens.OTHER_KEY_ID, key=tokens.OTHER_KEY)

    assert opened(old, both) == opened(new, both) == claims()
    assert refused(old, state(keys=[(tokens.OTHER_KEY_ID, tokens.OTHER_KEY)])) is SessionInvalidError
    # The id of a key that is there helps nobody who sealed with another.
    assert refused(seal(claims(), key_id=tokens.OTHER_KEY_ID), both) is SessionInvalidError


def test_token_when_nobody_has_keys_then_it_is_refused() -> None:
    asked = core.encode_request(request(principal="", session_token=seal(claims())))

    answered = pb.AuthorizeResponse.FromString(core.authorize(image(), asked, seconds=NOW_MS // 1000, nanos=0))
    explained = core.explain(image(), request(session_token=seal(claims())), seconds=NOW_MS // 1000, nanos=0)

    assert (answered.reason, answered.principal_arn) == ("session_invalid", "")
    assert (explained.reason.word, explained.principal_arn) == ("session_invalid", "")


@pytest.mark.parametrize("version", [0, TOKEN_VERSION + 1, 255])
def test_token_when_of_another_version_then_it_is_refused(version: int) -> None:
    assert refused(seal(claims(), version=version)) is SessionInvalidError


def _with(place: int, *replacement: int) -> bytes:
    data = bytearray(encode_claims(claims()))
    data[place : place + len(replacement)] = bytes(replacement)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        _with(0, CLAIMS_FORMAT + 1),
        _with(1, 0),
        _with(1, 4),
        _with(2, 8),
        _with(3, 1),
        _with(2, 2),
        _with(20, *[0xFF] * 8),
        _with(28, *[0xFF] * 7, 0x7F),
        _with(44, 0xFF, 0xFF),
        _with(46, 0xFF),
        encode_claims(claims()) + b"\0",
        encode_claims(claims())[:-1],
        encode_claims(claims())[:-4] + b"\x01\0\0\0",
        encode_claims(claims())[:-4] + b"\xff\xff\xff\xff",
        encode_claims(claims())[:-4] + b"\x05\0\0\0nothi",
        encode_claims(claims())[:-6] + b"\xff\xff" + bytes(4),
    ],
)
def test_claims_when_they_cannot_be_read_then_the_token_is_refused_though_its_seal_holds(data: bytes) -> None:
    assert refused(seal_bytes(data)) is SessionInvalidError


def test_claims_when_cut_anywhere_then_the_token_is_refused() -> None:
    by = state()
    whole = encode_claims(FULL)
    for length in range(len(whole)):
        with pytest.raises(SessionInvalidError):
            opened(seal_bytes(whole[:length]), by)


@pytest.mark.parametrize(
    "changes",
    [
        {"principal": ""},
        {"principal": "arn:aws:iam::111122223333:user/" + "x" * 2048},
        {"principal_id": ""},
        {"principal_id": "A" * 257},
        {"session_name": "session1"},
        {"person": ""},
        {"person_id": ""},
        {"person": "a\0b"},
        {"person": "alice"},
        {"person": "arn:aws:iam:::user/alice"},
        {"tags": (SessionTag("a\0", ""),)},
        {"tags": (SessionTag("a", "\0"),)},
        {"mfa": MfaProof(MfaMethod.TOTP, -1, "", False)},
    ],
)
def test_claims_when_something_in_them_cannot_be_then_the_token_is_refused(changes: dict[str, Any]) -> None:
    assert refused(seal(claims(**changes))) is SessionInvalidError


@pytest.mark.parametrize("name", ["", "x", "a" * 65, "a/b", "a b", "é1"])
def test_claims_when_the_session_of_a_role_has_no_good_name_then_the_token_is_refused(name: str) -> None:
    assert refused(seal(claims(SessionKind.ROLE, session_name=name))) is SessionInvalidError


# Time.


def test_token_when_it_expires_then_it_is_refused_from_that_millisecond_on() -> None:
    token = seal(claims(expires_at_ms=NOW_MS + 1))

    assert opened(token).expires_at_ms == NOW_MS + 1
    assert refused(token, now_ms=NOW_MS + 1) is SessionExpiredError
    assert answer(token, now_ms=NOW_MS + 1).principal_arn == USER_ARN


@pytest.mark.parametrize(
    "changes",
    [
        {"issued_at_ms": NOW_MS + CLOCK_SKEW_MS + 1},
        {"lineage_issued_at_ms": NOW_MS + CLOCK_SKEW_MS + 1},
        {"mfa": proof(-30.001)},
        {"bound": BoundProof(proof(-30.001), "app:read", "*")},
    ],
)
def test_token_when_something_in_it_is_from_the_future_then_it_is_refused(changes: dict[str, Any]) -> None:
    token = seal(claims(**changes))

    assert refused(token) is SessionInvalidError
    assert opened(token, now_ms=NOW_MS + 1) == claims(**changes)


def test_token_when_the_clock_steps_back_then_each_request_is_held_against_the_clock_as_it_is() -> None:
    by = state()
    recorder = core.Recorder()
    token = seal(claims(issued_at_ms=NOW_MS, lineage_issued_at_ms=NOW_MS, expires_at_ms=NOW_MS + 900_000))
    steps = {
        NOW_MS: "identity_allow",
        NOW_MS + 900_000: "session_expired",
        NOW_MS + 899_999: "identity_allow",
        NOW_MS - CLOCK_SKEW_MS: "identity_allow",
        NOW_MS - CLOCK_SKEW_MS - 1: "session_invalid",
        NOW_MS - 3_600_000: "session_invalid",
        0: "session_invalid",
    }

    for now_ms, want in [*steps.items(), *reversed(steps.items())]:
        assert answer(token, by, now_ms=now_ms, recorder=recorder).reason == want


def test_token_when_the_clock_stands_beyond_all_dates_then_it_has_expired() -> None:
    asked = core.encode_request(request(principal="", session_token=seal(claims())))
    answered = core.authorize(image(), asked, seconds=2**62, nanos=0, sessions=state())

    assert pb.AuthorizeResponse.FromString(answered).reason == "session_expired"


# Revocation.

LONG_AGO = NOW_MS - 86_400_000


@pytest.mark.parametrize(
    ("kind", "identifier", "before_ms", "is_over"),
    [
        (tokens.PRINCIPAL, USER_ID, NOW_MS, True),
        (tokens.PRINCIPAL, USER_ID, NOW_MS - 60_000, True),
        (tokens.PRINCIPAL, USER_ID, NOW_MS - 60_001, False),
        (tokens.PRINCIPAL, ROLE_ID, NOW_MS, False),
        (tokens.LINEAGE, bytes(range(16)), NOW_MS, True),
        (tokens.LINEAGE, bytes(range(16)), LONG_AGO, True),
        (tokens.LINEAGE, bytes(16), NOW_MS, False),
        (tokens.DEVICE, USER_ID, NOW_MS, False),
        (tokens.LINEAGE, USER_ID, NOW_MS, False),
    ],
)
def test_user_session_when_something_was_revoked_then_it_is_over_if_it_is_meant(
    kind: int, identifier: str | bytes, before_ms: int, is_over: bool
) -> None:
    by = state(tokens.revocation(kind, identifier, before_ms))
    said = claims(lineage_issued_at_ms=NOW_MS - 60_000)

    if is_over:
        assert refused(seal(said), by) is SessionRevokedError
    else:
        assert opened(seal(said), by) == said


@pytest.mark.parametrize(
    ("identifier", "before_ms", "is_over"),
    [
        (ROLE_ID, NOW_MS - 60_000, True),
        (ROLE_ID, NOW_MS - 60_001, False),
        # The person: by when the lineage began.
        (USER_ID, NOW_MS - 120_000, True),
        (USER_ID, NOW_MS - 120_001, False),
    ],
)
def test_role_session_when_role_or_person_was_revoked_then_it_is_over_if_it_began_before(
    identifier: str, before_ms: int, is_over: bool
) -> None:
    by = state(tokens.revocation(tokens.PRINCIPAL, identifier, before_ms))
    said = claims(SessionKind.ROLE)

    if is_over:
        assert refused(seal(said), by) is SessionRevokedError
    else:
        assert opened(seal(said), by) == said


def test_session_when_many_others_were_revoked_then_only_those_meant_are_over() -> None:
    ids = [f"AIDA{number:017}" for number in range(300)]
    by = state(*[tokens.revocation(tokens.PRINCIPAL, identifier, NOW_MS) for identifier in ids])

    for identifier in ids:
        with pytest.raises(SessionRevokedError):
            opened(seal(claims(principal_id=identifier)), by)
    assert opened(seal(claims()), by) == claims()


SERIAL = proof().serial_number


def test_device_when_deactivated_then_proofs_with_it_count_no_more_and_the_session_lives_on() -> None:
    by = state(tokens.revocation(tokens.DEVICE, SERIAL, NOW_MS - 10_000))
    other = proof(10, serial_number="GAHT12345678")
    call = ("app:delete", "arn:aws:app:::x")

    assert opened(seal(claims(mfa=proof(10))), by) == claims()
    assert opened(seal(claims(mfa=proof(9))), by).mfa == proof(9)
    assert opened(seal(claims(mfa=other, bound=BoundProof(proof(10), *call))), by) == claims(mfa=other)
    assert opened(seal(claims(mfa=proof(10), bound=BoundProof(other, *call), tags=FULL.tags)), by) == claims(
        bound=BoundProof(other, *call), tags=FULL.tags
    )
    assert opened(seal(claims(mfa=proof(10), bound=BoundProof(proof(11), *call), tags=FULL.tags)), by) == claims(
        tags=FULL.tags
    )


def test_device_when_deactivated_then_decisions_see_no_proof() -> None:
    image = image_of(identity={"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}})
    token = seal(claims(mfa=proof()))
    by = state(tokens.revocation(tokens.DEVICE, SERIAL, NOW_MS))

    assert answer(token, image=image).reason == "identity_allow"
    assert answer(token, by, image=image).reason == "no_identity_allow"
    assert answer(token, by, image=image).HasField("mfa_requirement")


def test_recovery_code_when_a_device_without_number_was_deactivated_then_it_counts() -> None:
    by = state(tokens.revocation(tokens.DEVICE, "", NOW_MS))
    said = claims(mfa=proof(method=MfaMethod.RECOVERY, serial_number=""))

    assert opened(seal(said), by) == said


def test_state_when_out_of_date_then_tokens_cannot_be_verified_and_named_callers_can() -> None:
    by = state(valid_until=time.monotonic_ns() - 1)
    asked = core.encode_request(request())

    assert refused(seal(claims()), by) is SessionUnverifiableError
    assert refused(seal(claims(expires_at_ms=NOW_MS)), by) is SessionExpiredError
    named = core.authorize(image_of(**ALLOWING), asked, seconds=NOW_MS // 1000, nanos=0, sessions=by)
    assert pb.AuthorizeResponse.FromString(named).reason == "identity_allow"
    by.set_valid_until(time.monotonic_ns() + 60_000_000_000)
    assert opened(seal(claims()), by) == claims()


def test_state_when_nobody_has_said_how_long_it_is_good_then_no_token_counts() -> None:
    by = core.SessionState(keys=[(tokens.KEY_ID, tokens.KEY)], revocations=b"")

    assert refused(seal(claims()), by) is SessionUnverifiableError


@pytest.mark.parametrize(
    ("keys", "revocations", "words"),
    [
        ([], b"", "1 to 256 keys"),
        ([(b"key", bytes(32))], b"", "an id of 4 bytes"),
        ([(b"key12", bytes(32))], b"", "an id of 4 bytes"),
        ([(b"key1", bytes(31))], b"", "and 32 bytes"),
        ([(b"key1", bytes(33))], b"", "and 32 bytes"),
        ([(b"key1", bytes(32)), (b"key1", bytes(32))], b"", "the same id"),
        ([(bytes([number // 256, number % 256, 0, 0]), bytes(32)) for number in range(257)], b"", "1 to 256 keys"),
        ([(b"key1", bytes(32))], b"\0", "24 bytes"),
        ([(b"key1", bytes(32))], bytes(23), "24 bytes"),
        ([(b"key1", bytes(32))], bytes(48), "not in order"),
        ([(b"key1", bytes(32))], b"\1" + bytes(47), "not in order"),
    ],
)
def test_state_when_made_of_something_else_then_it_is_refused(
    keys: list[tuple[bytes, bytes]], revocations: bytes, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        core.SessionState(keys=keys, revocations=revocations)


# Those whom a token speaks for.


def _image_with(user_id: str | None, account: str = ACCOUNT) -> core.Image:
    arn = USER_ARN.replace(ACCOUNT, account)
    users = (User(arn, account, "alice", user_id),) if user_id is not None else ()
    return core.Image.from_bytes(write_image(Snapshot(accounts=(Account(account, users=users),))))


@pytest.mark.parametrize("user_id", ["AIDAOTHEREXAMPLE00001", "", None])
def test_user_when_gone_or_made_anew_then_a_session_is_not_revived(user_id: str | None) -> None:
    assert opened(seal(claims()), image=_image_with(USER_ID)) == claims()
    assert refused(seal(claims()), image=_image_with(user_id)) is SessionInvalidError


def test_role_when_made_anew_then_its_sessions_are_not_revived() -> None:
    assert refused(seal(claims(SessionKind.ROLE, principal_id="AROAOTHER")), image=image()) is SessionInvalidError
    gone = claims(SessionKind.ROLE, principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/gone")
    assert refused(seal(gone), image=image()) is SessionInvalidError


def test_person_when_gone_or_made_anew_then_the_sessions_of_roles_are_over_too() -> None:
    assert refused(seal(claims(SessionKind.ROLE, person_id="AIDAOTHER")), image=image()) is SessionInvalidError
    gone = claims(SessionKind.ROLE, person=USER_ARN + "gone")
    assert refused(seal(gone), image=image()) is SessionInvalidError
    no_user = claims(SessionKind.ROLE, person=f"arn:aws:iam::{ACCOUNT}:root")
    assert refused(seal(no_user), image=image()) is SessionInvalidError


def test_person_when_of_an_account_that_nobody_here_knows_then_the_session_counts() -> None:
    stranger = claims(SessionKind.ROLE, person=USER_ARN.replace(ACCOUNT, OTHER_ACCOUNT))
    nobody = claims(SessionKind.ROLE, person="", person_id="")

    assert opened(seal(stranger), image=image()) == stranger
    assert opened(seal(nobody), image=image()) == nobody


@pytest.mark.parametrize(
    "said",
    [
        claims(SessionKind.USER, principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/worker", principal_id=ROLE_ID),
        claims(SessionKind.ROLE, principal=USER_ARN, principal_id=USER_ID),
        claims(SessionKind.USER, principal=f"arn:aws:iam::{ACCOUNT}:root", principal_id=ACCOUNT),
    ],
)
def test_token_when_its_kind_is_not_that_of_the_principal_then_it_is_refused(said: SessionClaims) -> None:
    assert refused(seal(said), image=image()) is SessionInvalidError


# Tokens that are known again.


def test_token_when_it_comes_again_then_it_is_compared_as_a_whole() -> None:
    by = state()
    recorder = core.Recorder()
    token = seal(claims())

    assert answer(token, by, recorder=recorder).reason == "identity_allow"
    # The tail, by which it is found, stays; every other character is changed.
    for place in range(len(token) - 16):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert answer(changed, by, recorder=recorder).reason == "session_invalid"
    assert answer("A" + token, by, recorder=recorder).reason == "session_invalid"
    assert answer(token[1:], by, recorder=recorder).reason == "session_invalid"
    assert answer(token, by, recorder=recorder).reason == "identity_allow"


def test_token_when_known_again_then_a_new_state_is_asked_anew() -> None:
    recorder = core.Recorder()
    token = seal(claims(mfa=proof()))
    image = image_of(identity={"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}})
    good, other = state(), state(keys=[(tokens.OTHER_KEY_ID, tokens.OTHER_KEY)])
    revoked = state(tokens.revocation(tokens.LINEAGE, bytes(range(16)), NOW_MS))
    voided = state(tokens.revocation(tokens.DEVICE, SERIAL, NOW_MS))

    for by, want in [
        (good, "identity_allow"),
        (other, "session_invalid"),
        (good, "identity_allow"),
        (revoked, "session_revoked"),
        (good, "identity_allow"),
        (voided, "no_identity_allow"),
        (good, "identity_allow"),
    ]:
        assert answer(token, by, image=image, recorder=recorder).reason == want
        assert answer(token, by, image=image, recorder=recorder).reason == want


def test_token_when_known_again_then_it_is_held_against_the_snapshot_in_place() -> None:
    by = state()
    recorder = core.Recorder()
    token = seal(claims())

    for _ in range(2):
        assert answer(token, by, image=_image_with(USER_ID), recorder=recorder).reason == "no_identity_allow"
        assert answer(token, by, image=_image_with("AIDAOTHER"), recorder=recorder).reason == "session_invalid"


def test_token_when_more_come_than_are_kept_then_each_says_what_it_says() -> None:
    by = state()
    recorder = core.Recorder()
    image = image_of(identity={"Condition": {"StringEquals": {"aws:SourceIdentity": "name7"}}})
    made = [seal(claims(source_identity=f"name{number}")) for number in range(400)]

    for _ in range(3):
        for number, token in enumerate(made):
            want = "identity_allow" if number == 7 else "no_identity_allow"
            assert answer(token, by, image=image, recorder=recorder).reason == want


# Proofs for one call.


def test_bound_proof_when_it_is_for_another_call_then_it_does_not_count() -> None:
    image = image_of(identity={"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}})
    token = seal(claims(bound=BoundProof(proof(), "app:delete", "arn:aws:app:::x/y")))

    def reason(action: str, resource: str, now_ms: int = NOW_MS) -> str:
        return answer(
            token, image=image, action=action, resource=resource, now_ms=now_ms, resource_account=ACCOUNT
        ).reason

    assert reason("app:Delete", "arn:aws:app:::x/y") == "identity_allow"
    assert reason("APP:DELETE", "arn:aws:app:::x/y") == "identity_allow"
    for action, resource in [
        ("app:DeleteAll", "arn:aws:app:::x/y"),
        ("app:Read", "arn:aws:app:::x/y"),
        ("app:Delete", "arn:aws:app:::x/Y"),
        ("app:Delete", "arn:aws:app:::x/y/z"),
        ("app:Delete", "arn:aws:app:::x/"),
        ("app:Delete", "*"),
    ]:
        assert reason(action, resource) == "no_identity_allow"
    last = NOW_MS - 10_000 + BOUND_PROOF_MS
    assert reason("app:Delete", "arn:aws:app:::x/y", last - 1) == "identity_allow"
    assert reason("app:Delete", "arn:aws:app:::x/y", last) == "no_identity_allow"


def test_session_tags_when_of_many_names_then_each_is_found_and_hides_that_of_the_user() -> None:
    image = image_of(
        tags={"team": "red"},
        identity=[
            {"Action": "app:Read", "Condition": {"StringEquals": {"aws:PrincipalTag/team": "blue"}}},
            {"Action": "app:Write", "Condition": {"StringEquals": {"aws:PrincipalTag/k49": "v49"}}},
            {"Action": "app:Null", "Condition": {"Null": {"aws:PrincipalTag/team": "true"}}},
        ],
    )
    many = tuple(SessionTag(f"K{number}", f"v{number}") for number in range(1, MAX_SESSION_TAGS))

    def reason(action: str, *tags: SessionTag) -> str:
        return answer(seal(claims(tags=tags)), image=image, action=action).reason

    assert reason("app:Read", *many, SessionTag("TEAM", "blue")) == "identity_allow"
    assert reason("app:Read", *many) == "no_identity_allow"
    assert reason("app:Write", *many, SessionTag("TEAM", "blue")) == "identity_allow"
    assert reason("app:Null", SessionTag("Team", "")) == "identity_allow"


def test_batch_when_its_requests_carry_tokens_then_each_is_decided_by_its_own() -> None:
    made = [seal(claims(source_identity=f"name{number}")) for number in range(5)]
    image = image_of(identity={"Condition": {"StringEquals": {"aws:SourceIdentity": "name3"}}})
    batch = pb.BatchAuthorizeRequest(
        requests=[
            pb.AuthorizeRequest.FromString(core.encode_request(request(principal="", session_token=token)))
            for token in [*made, "none"]
        ]
    )

    answered = core.batch_authorize(image, batch.SerializeToString(), seconds=NOW_MS // 1000, nanos=0, sessions=state())

    answers = pb.BatchAuthorizeResponse.FromString(answered).responses
    assert [one.reason for one in answers] == [
        *["identity_allow" if number == 3 else "no_identity_allow" for number in range(5)],
        "session_invalid",
    ]
    assert [one.principal_arn for one in answers] == [*[USER_ARN] * 5, ""]


def test_claims_when_replaced_one_by_one_then_the_core_reads_what_python_reads() -> None:
    for changes in (
        {"mfa": None},
        {"bound": None},
        {"tags": ()},
        {"source_identity": "ä€😀"},
        {"person": "", "person_id": ""},
        {"mfa": proof(3, user_verified=True, method=MfaMethod.U2F)},
    ):
        said = replace(FULL, **changes)
        assert opened(seal(said)) == said
