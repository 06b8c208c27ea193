# SPDX-License-Identifier: Apache-2.0
"""The FIDO server conformance list and our own cases, each with the reason that it must give."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sidecar.model.errors import MfaError
from tests.unit.mfa import assertion_cases, registration_cases
from tests.unit.mfa.cases import Case
from tests.unit.mfa.forge import AssertionForge, RegistrationForge

ROOT = Path(__file__).parents[3]
#: How many negative tests each suite of the list has; those on metadata itself stand in ``test_mds``.
NEGATIVES = {
    "AttResp-1": 15,
    "AttResp-2": 17,
    "AttResp-3": 19,
    "AttResp-5": 14,
    "AttResp-6": 3,
    "AttResp-7": 1,
    "AttResp-8": 2,
    "AttResp-9": 4,
    "AttResp-A": 3,
    "AssResp-1": 21,
    "AssResp-2": 17,
    "AssResp-3": 5,
}


def name(case: Case[RegistrationForge] | Case[AssertionForge]) -> str:
    return f"{case.test}: {case.about}".replace("[", "(").replace("]", ")")


def test_cases_when_counted_then_each_negative_test_of_the_list_is_there() -> None:
    tests = {case.test for cases in (registration_cases.CASES, assertion_cases.CASES) for case in cases}
    found = Counter(test.split(" ")[0] for test in tests if " F-" in test)

    assert {suite: found[suite] for suite in NEGATIVES} == NEGATIVES
    for suite, count in NEGATIVES.items():
        assert {f"{suite} F-{number}" for number in range(1, count + 1)} <= tests


@pytest.mark.parametrize("case", registration_cases.CASES, ids=name)
def test_registration_when_one_thing_is_wrong_then_that_is_the_reason(case: Case[RegistrationForge]) -> None:
    forge = case.forge(RegistrationForge)

    if not case.want:
        assert forge.verify().credential_id == forge.credential_id
        assert forge.verify(response=json.dumps(forge.build())).credential_id == forge.credential_id
        return
    with pytest.raises(MfaError) as caught:
        forge.verify()
    assert caught.value.reason == case.want


@pytest.mark.parametrize("case", assertion_cases.CASES, ids=name)
def test_assertion_when_one_thing_is_wrong_then_that_is_the_reason(case: Case[AssertionForge]) -> None:
    forge = case.forge(AssertionForge)

    if not case.want:
        assert forge.verify().sign_count == forge.sign_count
        return
    with pytest.raises(MfaError) as caught:
        forge.verify()
    assert caught.value.reason == case.want
    with pytest.raises(MfaError) as caught:
        forge.verify(response=json.dumps(forge.build()))
    assert caught.value.reason == case.want


def test_cases_when_assertions_are_left_out_then_each_has_the_same_reason() -> None:
    command = [sys.executable, "-O", "-W", "error", "-m", "tests.unit.mfa.optimised"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    count = len(registration_cases.CASES) + len(assertion_cases.CASES)
    assert done.stdout == f"{count} cases, assertions off\n", done.stderr


@pytest.mark.parametrize(
    ("response", "want"),
    [
        ("", "response_malformed"),
        (b"\xff", "response_malformed"),
        ("[]", "response_malformed"),
        ("[" * 60_000, "response_malformed"),
        ('{"id":1,"id":1}', "duplicate_key"),
        (" " * (64 * 1024 + 1), "response_too_large"),
        ('{"type":"public-key","id":"\\ud800"}', "encoding_invalid"),
        ("1" * 5000, "response_malformed"),
    ],
    ids=["empty", "not utf-8", "a list", "deep", "twice", "long", "a lone surrogate", "a number without end"],
)
def test_response_when_its_text_is_hostile_then_that_is_the_reason(response: str | bytes, want: str) -> None:
    for verify in (RegistrationForge().verify, AssertionForge().verify):
        with pytest.raises(MfaError) as caught:
            verify(response=response)
        assert caught.value.reason == want


def test_attestation_when_it_is_certified_and_leads_to_a_root_then_it_is_recorded_so() -> None:
    case = next(case for case in registration_cases.CASES if case.test == "AttResp-5 P-1")

    attestation = case.forge(RegistrationForge).verify().attestation

    assert attestation.trusted
    assert attestation.format == "packed"
    assert len(attestation.certificates) == 2
