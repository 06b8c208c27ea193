# SPDX-License-Identifier: Apache-2.0
"""
Every case again, for an interpreter that leaves assertions out: ``python -O -m tests.unit.mfa.optimised``.

Prints what came out otherwise, and how many cases there were.
"""

from __future__ import annotations

from sidecar.model.errors import MfaError
from tests.unit.mfa import assertion_cases, registration_cases
from tests.unit.mfa.cases import Case
from tests.unit.mfa.forge import AssertionForge, RegistrationForge


def outcome(forge: RegistrationForge | AssertionForge) -> str:
    """Give the reason of a refusal; empty where there is none."""
    try:
        forge.verify()
    except MfaError as error:
        return error.reason
    return ""


def main() -> None:
    """Run every case."""
    told: list[tuple[Case[RegistrationForge] | Case[AssertionForge], str]] = []
    told += [(case, outcome(case.forge(RegistrationForge))) for case in registration_cases.CASES]
    told += [(case, outcome(case.forge(AssertionForge))) for case in assertion_cases.CASES]
    for case, found in told:
        if found != case.want:
            print(f"{case.test}: {case.about}: {found!r}, not {case.want!r}")
    print(f"{len(told)} cases, assertions {'on' if __debug__ else 'off'}")


if __name__ == "__main__":
    main()
