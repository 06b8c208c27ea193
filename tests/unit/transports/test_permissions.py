# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from sidecar.model.errors import PermissionDeniedError
from sidecar.services.callers import Caller
from sidecar.services.mfa_opener import MfaOpener
from sidecar.services.step_up import StepUpService
from sidecar.transports.calls import coming_from, current_caller
from sidecar.transports.challenge_service import challenge_methods, challenge_streams
from sidecar.transports.mfa_service import MFA_SERVICE, mfa_methods
from sidecar.transports.permissions import PERMISSIONS, On, permissions_page, require
from sidecar.wire.sidecar.v1 import authorization_pb2, mfa_pb2

ROOT = Path(__file__).parents[3]


def test_table_when_compared_with_the_contract_then_each_call_that_is_served_stands_in_it() -> None:
    in_contract = {
        service.full_name: {method.name for method in service.methods}
        for file in (authorization_pb2, mfa_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }

    assert {service: set(methods) for service, methods in PERMISSIONS.items()} == in_contract


def test_mfa_methods_when_listed_then_each_has_a_row() -> None:
    def nothing() -> object:
        raise AssertionError("nobody calls")

    opener = MfaOpener(nothing)  # type: ignore[arg-type]

    step_up: StepUpService = None  # type: ignore[assignment]

    served = {**mfa_methods(opener.open), **challenge_methods(step_up), **challenge_streams(step_up)}
    assert set(served) == set(PERMISSIONS[MFA_SERVICE])


def test_table_when_compared_then_the_page_holds_it() -> None:
    assert permissions_page() in (ROOT / "docs" / "mfa.md").read_text()


@pytest.mark.parametrize("service", sorted(PERMISSIONS))
def test_call_when_somebody_else_than_the_administrator_makes_it_then_it_is_refused(service: str) -> None:
    somebody = Caller("arn:aws:iam::111122223333:user/ada", "session", "ipv4:127.0.0.1:1")
    for method, permission in PERMISSIONS[service].items():
        if permission.on is On.OWN_SESSION:
            require(somebody, service, method, "")
            continue
        with pytest.raises(PermissionDeniedError, match=permission.action):
            require(somebody, service, method, "arn:aws:iam::111122223333:user/ada")
        require(Caller.administrator(""), service, method, "arn:aws:iam::111122223333:user/ada")


def test_caller_when_a_call_is_made_then_where_it_comes_from_is_known() -> None:
    with coming_from("ipv6:%5B::1%5D:50000"):
        assert current_caller().peer == "ipv6:[::1]:50000"
        with coming_from("unix:" + "x" * 5000):
            assert len(current_caller().peer) == 256
    assert current_caller().peer == ""
    assert current_caller().is_administrator
