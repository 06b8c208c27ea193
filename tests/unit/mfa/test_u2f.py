# SPDX-License-Identifier: Apache-2.0
"""U2F registrations brought along from another system: what is refused, and why."""

import hashlib
from typing import Any

import pytest

from sidecar.mfa.u2f import MAX_REGISTRATION_BYTES, import_credential, import_registration
from sidecar.model.errors import MfaError
from tests.authenticators import U2fKey
from tests.authenticators.u2f import app_id_hash
from tests.unit.mfa.statements import leaf

APP_ID = "https://a.example"
CLIENT = b'{"typ":"navigator.id.finishEnrollment"}'
KEY = U2fKey()
GOOD = KEY.register(app_id_hash(APP_ID), hashlib.sha256(CLIENT).digest())
HANDLE_END = 67 + GOOD[66]


def reason(**others: Any) -> str:
    with pytest.raises(MfaError) as caught:
        import_registration(**{"registration": GOOD, "client_data": CLIENT, "app_id": APP_ID, **others})
    return caught.value.reason


def test_registration_when_it_is_good_then_it_gives_the_credential() -> None:
    credential = import_registration(registration=GOOD, client_data=CLIENT, app_id=APP_ID, sign_count=9)

    assert credential.credential_id in KEY.credentials
    assert credential.app_id == APP_ID
    assert credential.sign_count == 9
    assert credential.attestation.format == "fido-u2f"


@pytest.mark.parametrize(
    "registration",
    [b"", b"\x05", b"\x04" + GOOD[1:], GOOD[:66], GOOD[:HANDLE_END], GOOD[: HANDLE_END + 3], GOOD[: HANDLE_END + 90]],
    ids=["empty", "one byte", "another kind", "no handle", "no certificate", "no length", "cut short"],
)
def test_registration_when_it_cannot_be_read_then_that_is_said(registration: bytes) -> None:
    assert reason(registration=registration) == "u2f_registration_malformed"


def test_registration_when_it_is_longer_than_any_then_it_is_not_looked_at() -> None:
    assert reason(registration=GOOD + bytes(MAX_REGISTRATION_BYTES)) == "u2f_registration_malformed"


def test_registration_when_it_is_for_something_else_then_the_signature_does_not_hold() -> None:
    assert reason(app_id="https://b.example") == "attestation_signature_invalid"
    assert reason(client_data=b"{}") == "attestation_signature_invalid"
    assert reason(registration=GOOD[:-1] + bytes([GOOD[-1] ^ 1])) == "attestation_signature_invalid"
    assert reason(registration=GOOD[:2] + bytes(3) + GOOD[5:]) == "attestation_signature_invalid"


def test_registration_when_its_certificate_is_for_another_curve_then_it_is_refused() -> None:
    from tests.unit.mfa.forge import private_key

    other = leaf(key=private_key(-35))
    assert reason(registration=GOOD[:HANDLE_END] + other + bytes(70)) == "attestation_certificate_invalid"


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"key_handle": b""}, "credential_id_invalid"),
        ({"key_handle": bytes(1024)}, "credential_id_invalid"),
        ({"public_key": b""}, "public_key_malformed"),
        ({"public_key": b"\x02" + GOOD[2:34]}, "public_key_malformed"),
        ({"public_key": b"\x04" + bytes(63) + b"\x01"}, "public_key_invalid"),
    ],
    ids=["no handle", "long handle", "no key", "compressed", "off the curve"],
)
def test_credential_when_a_part_is_unusable_then_that_is_said(changes: dict[str, Any], want: str) -> None:
    with pytest.raises(MfaError) as caught:
        import_credential(**{"key_handle": bytes(64), "public_key": GOOD[1:66], "app_id": APP_ID, **changes})
    assert caught.value.reason == want
