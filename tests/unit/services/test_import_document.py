# SPDX-License-Identifier: Apache-2.0
"""The document of devices that are imported: what it may say, and what is said of what it may not."""

import base64
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.compile.problems import Problems
from sidecar.services.import_document import (
    MAX_DOCUMENT_BYTES,
    MAX_IMPORTED,
    Imported,
    ImportedKey,
    ImportedTotp,
    parse_import_document,
)
from tests.authenticators import U2fKey
from tests.authenticators.u2f import app_id_hash
from tests.unit.services.mfa_kit import ADA, BOB

APP_ID = "https://example.org"
SECRET = b"12345678901234567890"
HARDWARE = "GAHT12345678"


def token(**changes: Any) -> dict[str, Any]:
    """Give an item for a hardware token, with fields set, or removed where they are None."""
    found = {
        "user_arn": ADA,
        "kind": "totp",
        "serial_number": HARDWARE,
        "secret": base64.b32encode(SECRET).decode(),
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def u2f(key: U2fKey | None = None, **changes: Any) -> dict[str, Any]:
    """Give an item for a U2F key that was registered just now."""
    registration = (key or U2fKey()).register(app_id_hash(APP_ID), bytes(32))
    length = registration[66]
    found = {
        "user_arn": ADA,
        "kind": "u2f",
        "app_id": APP_ID,
        "key_handle": base64.urlsafe_b64encode(registration[67 : 67 + length]).decode().rstrip("="),
        "public_key": base64.b64encode(registration[1:66]).decode(),
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def whole(key: U2fKey, **changes: Any) -> dict[str, Any]:
    """Give an item for a U2F key with all that the U2F API gave."""
    client_data = b'{"typ":"navigator.id.finishEnrollment"}'
    from hashlib import sha256

    registration = key.register(app_id_hash(APP_ID), sha256(client_data).digest())
    return {
        "user_arn": ADA,
        "kind": "u2f",
        "app_id": APP_ID,
        "registration": base64.urlsafe_b64encode(registration).decode(),
        "client_data": base64.urlsafe_b64encode(client_data).decode(),
        **changes,
    }


def document(*items: object) -> bytes:
    return json.dumps({"devices": items}).encode()


def parse(data: bytes, **more: Any) -> tuple[list[Imported], list[tuple[str, str]]]:
    """Give the devices, and of each problem the place and the message."""
    problems = Problems()
    found = parse_import_document(data, where="devices.yaml", problems=problems, **more)
    assert all(problem.help and problem.file == "devices.yaml" for problem in problems.items)
    return found, [(problem.json_path, problem.message) for problem in problems.items]


def test_document_when_it_is_yaml_then_defaults_are_those_of_rfc_6238() -> None:
    text = f"""
devices:
  - user_arn: {ADA}
    kind: totp
    serial_number: {HARDWARE}
    secret: gezd gnbv-gy3t qojq gezd gnbv gy3t qojq
  - user_arn: {BOB}
    kind: totp
    serial_number: arn:aws:iam::111122223333:mfa/people/bob-phone
    secret_hex: {os.urandom(64).hex()}
    algorithm: sha-512
    digits: 6
    period: 30
    drift_steps: -7
    name: old
"""
    found, problems = parse(text.encode())

    assert problems == []
    first, second = found
    assert isinstance(first, ImportedTotp)
    assert isinstance(second, ImportedTotp)
    assert (first.secret, first.algorithm, first.drift_steps, first.name) == (SECRET, "sha1", 0, HARDWARE)
    assert (len(second.secret), second.algorithm, second.drift_steps, second.name) == (64, "sha512", -7, "old")
    assert second.user.arn == BOB


def test_document_when_it_lists_u2f_keys_then_either_form_will_do() -> None:
    key = U2fKey()

    found, problems = parse(document(u2f(key, sign_count=7), whole(key, name="yubikey")))

    assert problems == []
    first, second = found
    assert isinstance(first, ImportedKey)
    assert isinstance(second, ImportedKey)
    assert (first.credential.sign_count, first.credential.app_id, first.name) == (7, APP_ID, "u2f")
    assert second.credential.attestation.format == "fido-u2f"
    assert {first.credential.credential_id, second.credential.credential_id} == set(key.credentials)


def test_document_when_a_certificate_stands_beside_a_key_then_it_is_kept_and_proves_nothing() -> None:
    der = U2fKey()._batch[1]
    ((found,), problems) = parse(document(u2f(attestation_certificate=base64.b64encode(der).decode())))

    assert problems == []
    assert isinstance(found, ImportedKey)
    assert found.credential.attestation.certificates == (der,)
    assert found.credential.attestation.type.value == "not evaluated"
    assert not found.credential.attestation.trusted


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no list `devices`"),
        (b"devices: {}", "no list `devices`"),
        (b"- a", "no list `devices`"),
        (b"devices: []\ndevices: []", "more than one list"),
        (b"devices: []\nusers: []", "more than one list"),
        (b"devices: [\xff]", "neither JSON nor YAML"),
        (b"devices:\n  - secret: *JBSWY3DPEHPK3PXP", "neither JSON nor YAML at line 2"),
        (b"[" * 100_000, "neither JSON nor YAML"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), "larger than"),
        (document(*[1] * (MAX_IMPORTED + 1)), "more than 5000 devices"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_document_when_it_is_none_then_that_is_said_once(data: bytes, message: str) -> None:
    found, problems = parse(data)

    assert found == []
    assert len(problems) == 1
    assert message in problems[0][1]
    assert "JBSWY" not in problems[0][1]


@pytest.mark.parametrize(
    ("item", "field", "message"),
    [
        (7, "", "no object"),
        (token(user_arn=None), "user_arn", "missing"),
        (token(user_arn="arn:aws:iam::111122223333:role/ops"), "user_arn", "no ARN of a user"),
        (token(user_arn=True), "user_arn", "no text"),
        (token(kind=None), "kind", "missing"),
        (token(kind="webauthn"), "kind", "no kind"),
        (token(colour="red"), "colour", "no such field"),
        (token(app_id=APP_ID), "app_id", "no such field"),
        (token(serial_number=None), "serial_number", "missing"),
        (token(serial_number="GAHT1"), "serial_number", "forms of AWS"),
        (token(serial_number="GAHT 12345678"), "serial_number", "forms of AWS"),
        (token(serial_number="arn:aws:iam::444455556666:mfa/phone"), "serial_number", "forms of AWS"),
        (token(serial_number="arn:aws-cn:iam::111122223333:mfa/phone"), "serial_number", "forms of AWS"),
        (token(serial_number="arn:aws:iam::111122223333:u2f/user/ada/x"), "serial_number", "forms of AWS"),
        (token(serial_number="arn:aws:iam::111122223333:mfa/" + "a" * 256), "serial_number", "forms of AWS"),
        (token(secret=None), "secret", "one of"),
        (token(secret_hex="00" * 20), "secret", "one of"),
        (token(secret="10"), "secret", "not in base32"),
        (token(secret="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXPA"), "secret", "not in base32"),
        (token(secret=None, secret_hex="0g"), "secret_hex", "not in hexadecimal"),
        (token(secret=""), "secret", "missing"),
        (token(secret=None, secret_hex="00" * 9), "secret_hex", "72 bits"),
        (token(secret=None, secret_hex="00" * 10), "secret_hex", "80 bits"),
        (token(secret=None, secret_hex="00" * 15), "secret_hex", "120 bits"),
        (token(secret=None, secret_hex="00" * 129), "secret_hex", "1032 bits"),
        (token(algorithm="MD5"), "algorithm", "not known"),
        (token(algorithm=""), "algorithm", "not known"),
        (token(digits=8), "digits", "another number than 6"),
        (token(digits="six"), "digits", "no whole number"),
        (token(period=60), "period", "another number than 30"),
        (token(drift_steps=2881), "drift_steps", "from -2880 to 2880"),
        (token(drift_steps="1.5"), "drift_steps", "no whole number"),
        (token(name="my phone"), "name", "no device can be called"),
        (token(name=""), "name", "no device can be called"),
        (u2f(app_id=None), "app_id", "missing"),
        (u2f(app_id="http://example.org"), "app_id", "no https address"),
        (u2f(app_id="https://example.org/" + "a" * 256), "app_id", "no https address"),
        (u2f(serial_number="arn:aws:iam::111122223333:u2f/user/bob/key-A"), "serial_number", "form of AWS"),
        (u2f(serial_number="arn:aws:iam::111122223333:u2f/user/ada/"), "serial_number", "form of AWS"),
        (u2f(serial_number="arn:aws:iam::111122223333:u2f/user/ada/a b"), "serial_number", "form of AWS"),
        (u2f(sign_count=-1), "sign_count", "no whole number"),
        (u2f(sign_count=2**32), "sign_count", "no whole number"),
        (u2f(key_handle=None), "key_handle", "missing"),
        (u2f(key_handle="a*b"), "key_handle", "not base64"),
        (u2f(key_handle="A" * 1368), "key_handle", "1026 bytes"),
        (u2f(public_key=None), "public_key", "missing"),
        (u2f(public_key="AAAA"), "public_key", "not an uncompressed point"),
        (u2f(public_key="BA" + "A" * 85), "public_key", "not on the curve"),
        (u2f(attestation_certificate="AAAA"), "attestation_certificate", "cannot be read"),
        (u2f(registration="AAAA"), "registration", "a key stands as"),
        (whole(U2fKey(), client_data="AAAA"), "registration", "not signed"),
        (whole(U2fKey(), registration="AAAA"), "registration", "does not begin"),
        (whole(U2fKey(), app_id="https://example.com"), "registration", "not signed"),
        (whole(U2fKey(), client_data=None), "client_data", "missing"),
    ],
)
def test_item_when_one_thing_is_wrong_then_the_field_is_named(item: object, field: str, message: str) -> None:
    good = token(serial_number="GAHT00000000", secret=None, secret_hex="11" * 20)

    found, problems = parse(document(good, item))

    assert [device.place for device in found] == ["$.devices[0]"]
    assert [place for place, _ in problems] == [f"$.devices[1].{field}" if field else "$.devices[1]"]
    assert message in problems[0][1]


def test_item_when_a_field_stands_twice_then_that_is_said() -> None:
    _, problems = parse(b'{"devices": [{"kind": "totp", "kind": "totp"}]}')

    assert problems == [("$.devices[0].kind", "the field stands twice")]


def test_items_when_many_things_are_wrong_then_all_are_told_and_no_seed_is() -> None:
    secret = "JBSWY3DPEHPK3PXP"
    items = [token(secret=secret, digits=8, user_arn="x"), token(secret=secret + "1"), u2f(public_key=secret)]

    _, problems = parse(document(*items))

    assert [place for place, _ in problems] == [
        "$.devices[0].user_arn",
        "$.devices[0].digits",
        "$.devices[0].secret",
        "$.devices[1].secret",
        "$.devices[2].public_key",
    ]
    assert secret not in json.dumps(problems)


def test_items_when_something_stands_in_two_of_them_then_the_other_one_is_named() -> None:
    key = u2f()
    others = [token(user_arn=BOB, secret=None, secret_hex="22" * 20), token(serial_number="GAHT99999999")]

    _, problems = parse(document(token(), key, *others, key))

    assert problems == [
        ("$.devices[2].serial_number", "the serial number is that of `$.devices[0]`"),
        ("$.devices[3].secret", "the seed is that of `$.devices[0]`"),
        ("$.devices[4].key_handle", "the key is that of `$.devices[1]`"),
    ]


def test_short_seed_when_they_are_allowed_then_80_bits_will_do_and_72_will_not() -> None:
    short = token(secret="JBSWY3DPEHPK3PXP")
    shorter = token(serial_number="GAHT00000001", secret=None, secret_hex="00" * 9)

    ((found,), problems) = parse(document(short, shorter), allow_short_seeds=True)

    assert isinstance(found, ImportedTotp)
    assert found.has_short_seed
    assert [message for _, message in problems] == ["the seed has 72 bits, and needs 80 at least"]


def test_imported_device_when_it_is_printed_then_its_seed_is_not_shown() -> None:
    ((found,), _) = parse(document(token()))

    assert "1234567890" not in repr(found)


_FIELDS = st.sampled_from(sorted({*token(), *u2f(), "registration", "client_data", "digits", "drift_steps", "x"}))
_VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2) | st.just(ADA)


@given(st.lists(st.dictionaries(_FIELDS, _VALUES | st.sampled_from(["totp", "u2f", APP_ID, HARDWARE])), max_size=3))
def test_document_when_its_fields_hold_anything_then_it_is_read_or_refused(items: list[dict[str, object]]) -> None:
    found, problems = parse(document(*items))

    assert len(found) + len({place.split("]")[0] for place, _ in problems}) >= len(items)


@given(st.binary(max_size=200))
def test_document_when_it_is_any_bytes_then_it_is_read_or_refused(data: bytes) -> None:
    assert parse(data)[1]
