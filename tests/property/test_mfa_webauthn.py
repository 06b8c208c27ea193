# SPDX-License-Identifier: Apache-2.0
"""WebAuthn under hostile input: nothing but ``MfaError``, and no change of a byte goes unseen."""

import json
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from fido2 import cbor as reference
from hypothesis import given
from hypothesis import strategies as st

from sidecar.mfa import cbor
from sidecar.mfa.attestation import FORMATS
from sidecar.mfa.authenticator_data import read_authenticator_data
from sidecar.mfa.client_data import read_client_data
from sidecar.mfa.cose import load_public_key, refuse_weak_point
from sidecar.mfa.credential import Credential
from sidecar.mfa.edwards import ED448, ED25519, is_usable_point
from sidecar.mfa.encoding import decode_base64url, encode_base64url
from sidecar.mfa.u2f import import_registration
from sidecar.mfa.webauthn import verify_assertion, verify_registration
from sidecar.model.errors import MfaError
from tests.unit.mfa.forge import RegistrationForge
from tests.unit.mfa.published import ORIGIN, PAIRS, RP_ID, Pair

Json = dict[str, Any]
EXPECTED: Json = {"expected_origins": {ORIGIN}, "expected_rp_id": RP_ID, "allow_cross_origin": True}


def register(pair: Pair, response: Any) -> Credential:
    return verify_registration(response=response, expected_challenge=pair.registration_challenge, **EXPECTED)


CREDENTIALS = {pair.name: register(pair, pair.registration) for pair in PAIRS}


def prove(pair: Pair, response: Any) -> None:
    verify_assertion(
        response=response,
        credential=CREDENTIALS[pair.name],
        expected_challenge=pair.assertion_challenge,
        **EXPECTED,
    )


pairs = st.sampled_from(PAIRS)
keys = st.one_of(st.integers(-(2**63), 2**64 - 1), st.text(max_size=8))
values = st.recursive(
    st.one_of(keys, st.binary(max_size=20), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=30)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=5,
)


@given(values)
def test_cbor_when_the_client_library_writes_it_then_it_is_read_as_it_was(value: Any) -> None:
    assert cbor.decode(reference.encode(value)) == value


@given(st.binary(max_size=80))
def test_cbor_when_it_is_read_then_the_client_library_reads_the_same(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except MfaError:
        return
    assert reference.decode(data) == value


@given(st.text(max_size=40))
def test_base64url_when_a_text_is_read_then_it_is_the_one_spelling(text: str) -> None:
    try:
        data = decode_base64url(text, field="x", max_bytes=100)
    except MfaError:
        return
    assert encode_base64url(data) == text


@given(st.binary(min_size=1, max_size=100))
def test_base64url_when_bytes_are_written_then_they_are_read_again(data: bytes) -> None:
    assert decode_base64url(encode_base64url(data), field="x", max_bytes=100) == data


@given(st.binary(max_size=300))
def test_readers_when_the_bytes_are_hostile_then_nothing_else_is_raised(data: bytes) -> None:
    readers = (
        read_authenticator_data,
        read_client_data,
        load_public_key,
        lambda given: import_registration(registration=given, client_data=b"", app_id="a"),
    )
    for read in readers:
        with suppress(MfaError):
            read(data)


@given(pairs, st.sampled_from(["clientDataJSON", "authenticatorData", "signature"]), st.data())
def test_assertion_when_a_bit_is_turned_then_it_is_refused(pair: Pair, member: str, data: st.DataObject) -> None:
    raw = bytearray(decode_base64url(pair.assertion["response"][member], field=member, max_bytes=9000))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    response = {**pair.assertion["response"], member: encode_base64url(bytes(raw))}

    with pytest.raises(MfaError):
        prove(pair, {**pair.assertion, "response": response})


@given(pairs, st.data(), st.binary(max_size=20))
def test_registration_when_its_object_is_damaged_then_nothing_else_is_raised(
    pair: Pair, data: st.DataObject, noise: bytes
) -> None:
    text = pair.registration["response"]["attestationObject"]
    raw = decode_base64url(text, field="x", max_bytes=33_000)
    at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 20))
    damaged = raw[:at] + noise + raw[at + cut :]
    response = {**pair.registration["response"], "attestationObject": encode_base64url(damaged or b"\0")}

    with suppress(MfaError):
        register(pair, {**pair.registration, "response": response})


@given(st.sampled_from(FORMATS), values, st.data())
def test_registration_when_its_statement_is_anything_then_nothing_else_is_raised(
    fmt: str, value: Any, data: st.DataObject
) -> None:
    names = st.sampled_from(["alg", "sig", "x5c", "ver", "certInfo", "pubArea", "x"])
    statement = data.draw(st.one_of(st.just(value), st.dictionaries(names, values, max_size=6)))

    with suppress(MfaError):
        RegistrationForge(fmt=fmt, statement=lambda *_: statement).verify()


@given(pairs, st.sampled_from(["registration", "assertion"]), st.data(), json_values)
def test_response_when_a_member_is_anything_then_nothing_else_is_raised(
    pair: Pair, kind: str, data: st.DataObject, value: Any
) -> None:
    response: Json = json.loads(json.dumps(getattr(pair, kind)))
    place = data.draw(st.sampled_from([response, response["response"]]))
    place[data.draw(st.sampled_from([*place, "rawId", "userHandle", "transports", "authenticatorAttachment"]))] = value

    for given_as in (response, json.dumps(response)):
        with suppress(MfaError):
            register(pair, given_as) if kind == "registration" else prove(pair, given_as)


@given(json_values, st.text(max_size=50))
def test_response_when_it_is_any_text_then_it_is_refused(value: Any, text: str) -> None:
    for response in (json.dumps(value), text, text.encode("utf-8", "surrogatepass")):
        with pytest.raises(MfaError):
            register(PAIRS[0], response)
        with pytest.raises(MfaError):
            prove(PAIRS[0], response)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=57, max_size=57))
def test_point_when_a_key_was_made_properly_then_it_is_usable(seed: bytes, longer: bytes) -> None:
    one = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    other = ed448.Ed448PrivateKey.from_private_bytes(longer).public_key().public_bytes_raw()

    assert is_usable_point(ED25519, one)
    assert is_usable_point(ED448, other)


@given(st.integers(1, 2**200))
def test_key_when_it_was_made_properly_then_it_is_loaded_fast_and_slowly_alike(secret: int) -> None:
    numbers = ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    canonical = reference.encode({1: 2, 3: -7, -1: 1, -2: x, -3: y})
    # The same parameters in another order take the other way through the code.
    shuffled = b"\xa5" + canonical[3:5] + canonical[1:3] + canonical[5:]

    loaded = [load_public_key(one) for one in (canonical, shuffled)]

    assert [one.key.public_numbers() for one in loaded] == [numbers, numbers]  # type: ignore[union-attr]
    for one in loaded:
        refuse_weak_point(one)
