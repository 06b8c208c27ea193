# SPDX-License-Identifier: Apache-2.0
"""The 15 pairs of W3C WebAuthn Level 3, both ways; a frame of another origin only where it is allowed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sidecar.mfa.cose import DEFAULT_ALGORITHMS, ES256, RS256, load_public_key
from sidecar.mfa.credential import Assertion, AttestationType, Credential
from sidecar.mfa.webauthn import verify_assertion, verify_registration
from sidecar.model.errors import (
    AlgorithmNotAllowedError,
    ChallengeMismatchError,
    CrossOriginError,
    MfaError,
    OriginMismatchError,
    RpIdMismatchError,
    SignatureInvalidError,
    TopOriginMismatchError,
    UserNotVerifiedError,
)
from tests.unit.mfa.published import ORIGIN, PAIRS, RP_ID, TOP_ORIGIN, Pair, pair

each = pytest.mark.parametrize("given", PAIRS, ids=lambda given: given.name)


def register(given: Pair, **others: Any) -> Credential:
    arguments: dict[str, Any] = {
        "response": given.registration,
        "expected_challenge": given.registration_challenge,
        "expected_origins": [ORIGIN],
        "expected_rp_id": RP_ID,
        "allow_cross_origin": given.cross_origin,
    }
    return verify_registration(**{**arguments, **others})


def prove(given: Pair, credential: Credential, **others: Any) -> Assertion:
    arguments: dict[str, Any] = {
        "response": given.assertion,
        "credential": credential,
        "expected_challenge": given.assertion_challenge,
        "expected_origins": [ORIGIN],
        "expected_rp_id": RP_ID,
        "allow_cross_origin": given.cross_origin,
    }
    return verify_assertion(**{**arguments, **others})


def test_pairs_when_counted_then_all_are_there_and_every_algorithm_with_them() -> None:
    assert len(PAIRS) == 15
    assert {load_public_key(register(one).public_key).algorithm for one in PAIRS} == set(DEFAULT_ALGORITHMS)


@each
def test_registration_when_it_is_published_then_it_gives_the_credential(given: Pair) -> None:
    credential = register(given)

    kinds = {"none": AttestationType.NONE, "packed-self": AttestationType.SELF}
    assert credential.attestation.type is next(
        (kind for name, kind in kinds.items() if given.name.startswith(name)), AttestationType.CERTIFIED
    )
    assert given.name.startswith(credential.attestation.format)
    assert not credential.attestation.trusted
    assert credential.sign_count == 0


@each
def test_registration_when_it_comes_as_text_then_it_gives_the_same(given: Pair) -> None:
    assert register(given, response=json.dumps(given.registration)) == register(given)
    assert register(given, response=json.dumps(given.registration).encode()) == register(given)


@each
def test_assertion_when_it_is_published_then_it_proves(given: Pair) -> None:
    proved = prove(given, register(given))

    assert proved.sign_count == 0
    assert not proved.sign_count_regressed


@each
def test_assertion_when_it_comes_as_text_then_it_proves_the_same(given: Pair) -> None:
    credential = register(given)

    assert prove(given, credential, response=json.dumps(given.assertion)) == prove(given, credential)


@each
def test_assertion_when_another_credential_signed_then_it_is_refused(given: Pair) -> None:
    other = register(PAIRS[0] if given is not PAIRS[0] else PAIRS[1])
    mine = register(given)

    with pytest.raises(SignatureInvalidError):
        prove(
            given,
            replace(mine, public_key=other.public_key),
        )


@each
@pytest.mark.parametrize(
    ("changed", "want"),
    [
        ({"expected_challenge": bytes(32)}, ChallengeMismatchError),
        ({"expected_origins": ["https://example.org:8443"]}, OriginMismatchError),
        ({"expected_origins": []}, OriginMismatchError),
        ({"expected_origins": "https://example.org.evil.example"}, OriginMismatchError),
        ({"expected_rp_id": "example.com"}, RpIdMismatchError),
    ],
    ids=["challenge", "origin", "no origin", "longer origin", "rp id"],
)
def test_ceremony_when_something_else_is_expected_then_it_is_refused(
    given: Pair, changed: dict[str, Any], want: type[MfaError]
) -> None:
    credential = register(given)

    with pytest.raises(want):
        register(given, **changed)
    with pytest.raises(want):
        prove(given, credential, **changed)


@each
def test_ceremony_when_a_frame_is_not_allowed_then_only_those_without_pass(given: Pair) -> None:
    credential = register(given)

    if given.cross_origin:
        with pytest.raises(CrossOriginError):
            register(given, allow_cross_origin=False)
        with pytest.raises(CrossOriginError):
            prove(given, credential, allow_cross_origin=False)
    else:
        assert register(given, allow_cross_origin=False) == credential
        prove(given, credential, allow_cross_origin=False)


def test_ceremony_when_the_page_around_is_listed_then_it_passes_and_otherwise_not() -> None:
    given = pair("none-es256-topOrigin")
    credential = register(given, expected_top_origins=[TOP_ORIGIN])

    prove(given, credential, expected_top_origins=[TOP_ORIGIN])
    with pytest.raises(TopOriginMismatchError):
        register(given, expected_top_origins=[ORIGIN])
    with pytest.raises(TopOriginMismatchError):
        prove(given, credential, expected_top_origins=[])


@each
def test_ceremony_when_verification_is_required_then_the_flag_decides(given: Pair) -> None:
    credential = register(given)

    if credential.user_verified:
        assert register(given, require_user_verification=True) == credential
    else:
        with pytest.raises(UserNotVerifiedError):
            register(given, require_user_verification=True)
    if prove(given, credential).user_verified:
        prove(given, credential, require_user_verification=True)
    else:
        with pytest.raises(UserNotVerifiedError):
            prove(given, credential, require_user_verification=True)


@each
def test_registration_when_its_algorithm_was_not_offered_then_it_is_refused(given: Pair) -> None:
    algorithm = load_public_key(register(given).public_key).algorithm

    with pytest.raises(AlgorithmNotAllowedError):
        register(given, allowed_algorithms={ES256, RS256} - {algorithm})


@each
def test_assertion_when_one_bit_of_what_is_signed_differs_then_it_is_refused(given: Pair) -> None:
    credential = register(given)
    for member, at in (("signature", -2), ("authenticatorData", -2), ("clientDataJSON", 40)):
        text = given.assertion["response"][member]
        other = {"A": "Q", "Q": "A"}.get(text[at], "A")
        changed = text[:at] + other + text[at:][1:]
        response = {**given.assertion, "response": {**given.assertion["response"], member: changed}}

        with pytest.raises(MfaError):
            prove(given, credential, response=response)
