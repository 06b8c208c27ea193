# SPDX-License-Identifier: Apache-2.0
"""What clients are asked for, and what of it python-fido2 understands."""

import json
from typing import Any

import pytest
from fido2.webauthn import PublicKeyCredentialCreationOptions, PublicKeyCredentialRequestOptions

from sidecar.mfa.cose import DEFAULT_ALGORITHMS
from sidecar.mfa.credential import Credential
from sidecar.mfa.options import MAX_CREDENTIALS, creation_options, request_options
from sidecar.mfa.policy import AttestationMode

KEY = Credential(credential_id=b"one", public_key=b"", transports=("usb", "nfc"))
LEGACY = Credential(credential_id=b"two", public_key=b"", app_id="https://a.example")


def create(**others: Any) -> dict[str, Any]:
    given = {
        "challenge": bytes(32),
        "rp_id": "a.example",
        "rp_name": "A",
        "user_handle": b"user-1",
        "user_name": "ann",
        "user_display_name": "Ann",
    }
    return creation_options(**{**given, **others})


def ask(**others: Any) -> dict[str, Any]:
    return request_options(**{"challenge": bytes(32), "rp_id": "a.example", "allow_credentials": [KEY], **others})


def test_creation_when_written_as_json_then_the_client_library_reads_it() -> None:
    text = json.dumps(create(exclude_credentials=[KEY], user_verification="required", resident_key="required"))

    read = PublicKeyCredentialCreationOptions.from_dict(json.loads(text))

    assert read.challenge == bytes(32)
    assert read.rp.id == "a.example"
    assert read.user.id == b"user-1"
    assert [one.alg for one in read.pub_key_cred_params] == list(DEFAULT_ALGORITHMS)
    assert read.exclude_credentials is not None
    assert [one.id for one in read.exclude_credentials] == [b"one"]
    assert read.authenticator_selection is not None
    assert read.authenticator_selection.user_verification == "required"
    assert read.authenticator_selection.require_resident_key


def test_request_when_written_as_json_then_the_client_library_reads_it() -> None:
    read = PublicKeyCredentialRequestOptions.from_dict(json.loads(json.dumps(ask(user_verification="required"))))

    assert read.rp_id == "a.example"
    assert read.allow_credentials is not None
    assert [one.id for one in read.allow_credentials] == [b"one"]
    assert read.user_verification == "required"


@pytest.mark.parametrize("mode", list(AttestationMode))
def test_creation_when_nobody_looks_at_an_attestation_then_none_is_asked_for(mode: AttestationMode) -> None:
    assert create(attestation_mode=mode)["attestation"] == ("none" if mode is AttestationMode.IGNORE else "direct")


def test_extensions_when_a_key_was_registered_through_u2f_then_its_app_id_is_named() -> None:
    assert create(exclude_credentials=[KEY, LEGACY])["extensions"]["appidExclude"] == "https://a.example"
    assert ask(allow_credentials=[KEY, LEGACY])["extensions"] == {"appid": "https://a.example"}
    assert "appidExclude" not in create(exclude_credentials=[KEY])["extensions"]
    assert "extensions" not in ask()


def test_hints_when_given_then_they_are_passed_on() -> None:
    assert create(hints=["security-key"])["hints"] == ask(hints=["security-key"])["hints"] == ["security-key"]
    assert "hints" not in create()


@pytest.mark.parametrize(
    "others",
    [
        {"challenge": bytes(15)},
        {"user_handle": b""},
        {"user_handle": bytes(65)},
        {"exclude_credentials": [KEY] * (MAX_CREDENTIALS + 1)},
        {"exclude_credentials": [LEGACY, Credential(credential_id=b"x", public_key=b"", app_id="https://b.example")]},
    ],
    ids=["challenge", "no handle", "long handle", "many", "two AppIDs"],
)
def test_creation_when_the_callers_arguments_are_unusable_then_that_is_said(others: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"has|holds|names"):
        create(**others)
