# SPDX-License-Identifier: Apache-2.0
"""Every reason for which a proof is refused: given somewhere, pinned by a case, and explained to operators."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.model.errors import AttestationError, MetadataError, MfaError
from sidecar.services import refusals
from tests.unit.mfa import assertion_cases, registration_cases
from tests.unit.services.test_mfa_docs import rows

ROOT = Path(__file__).parents[3]
#: Families, which are caught and never given.
FAMILIES = {MfaError, AttestationError, MetadataError}
#: What can give a reason.
WHILES = {"registration", "proof", "code", "challenge", "sign-in", "import", "metadata"}


def _family(kind: type[MfaError]) -> Iterator[type[MfaError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


# Classes that a test makes up for itself are not ours.
KINDS = [kind for kind in _family(MfaError) if kind.__module__ in (MfaError.__module__, refusals.__name__)]


def _text(folder: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__))


SOURCE = _text("sidecar")
TESTS = _text("tests/unit")
TABLE = {row[0]: row[1:] for row in rows("MFA reasons")}


def test_reasons_then_the_page_explains_each_and_no_other() -> None:
    assert list(TABLE) == list(dict.fromkeys(TABLE))
    assert set(TABLE) == {kind.reason for kind in KINDS}
    for reason, (given_while, meaning, help) in TABLE.items():
        assert meaning, reason
        assert help, reason
        assert given_while == "-" or set(given_while.split(", ")) <= WHILES, reason


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.reason)
def test_reason_then_it_is_given_somewhere_and_a_case_pins_it(kind: type[MfaError]) -> None:
    is_given = (
        re.search(rf"\b{kind.__name__}(?:\(|\.reason\b)", SOURCE.replace(f"class {kind.__name__}(", "")) is not None
    )
    is_pinned = f'"{kind.reason}"' in TESTS or re.search(rf"raises\(\(?[^)]*\b{kind.__name__}\b", TESTS) is not None

    assert is_given is (kind not in FAMILIES)
    assert is_pinned or kind in FAMILIES
    assert (TABLE[kind.reason][0] == "-") is (kind in FAMILIES)


def test_reasons_when_a_case_has_one_then_the_page_says_while_what() -> None:
    for cases, given_while in ((registration_cases.CASES, "registration"), (assertion_cases.CASES, "proof")):
        for reason in sorted({case.want for case in cases} - {""}):
            assert given_while in TABLE[reason][0].split(", "), reason
