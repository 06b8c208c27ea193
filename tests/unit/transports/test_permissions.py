# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from sidecar.model.decision import Answer, Decision, MfaMethod, MfaRequirement, PolicyLayer, Reason
from sidecar.model.errors import PermissionDeniedError, StepUpRequiredError
from sidecar.model.request import ContextValue
from sidecar.model.session import SessionClaims, SessionKind
from sidecar.services.callers import Caller
from sidecar.services.mfa_opener import MfaOpener
from sidecar.services.step_up import StepUpService
from sidecar.transports.calls import current_caller, made_by, peer_name
from sidecar.transports.challenge_service import challenge_methods, challenge_streams
from sidecar.transports.mfa_service import MFA_SERVICE, mfa_methods
from sidecar.transports.permissions import PERMISSIONS, Permissions, permissions_page
from sidecar.transports.status import status_of
from sidecar.wire.sidecar.v1 import authorization_pb2, mfa_pb2, session_pb2

ROOT = Path(__file__).parents[3]
ADA = "arn:aws:iam::111122223333:user/ada"
CLAIMS = SessionClaims(
    access_key_id="ASIA" + "A" * 16,
    kind=SessionKind.SIGN_IN,
    lineage=bytes(16),
    principal=ADA,
    principal_id="AIDAEXAMPLE",
    session_name="",
    issued_at_ms=0,
    expires_at_ms=1,
    lineage_issued_at_ms=0,
    person=ADA,
    person_id="AIDAEXAMPLE",
)
SOMEBODY = Caller(ADA, CLAIMS.access_key_id, "ipv4:127.0.0.1:1", CLAIMS, "token")


def test_table_when_compared_with_the_contract_then_each_call_that_is_served_stands_in_it() -> None:
    in_contract = {
        service.full_name: {method.name for method in service.methods}
        for file in (authorization_pb2, mfa_pb2, session_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }

    assert {service: set(methods) for service, methods in PERMISSIONS.items()} == in_contract


def test_mfa_methods_when_listed_then_each_has_a_row() -> None:
    def nothing() -> object:
        raise AssertionError("nobody calls")

    opener = MfaOpener(nothing)  # type: ignore[arg-type]

    step_up: StepUpService = None  # type: ignore[assignment]
    permissions = Permissions(Engine(Decision.ALLOW))

    served = {**mfa_methods(opener.open, permissions), **challenge_methods(step_up), **challenge_streams(step_up)}
    assert set(served) == set(PERMISSIONS[MFA_SERVICE])


def test_table_when_compared_then_the_page_holds_it() -> None:
    assert permissions_page() in (ROOT / "docs" / "mfa.md").read_text()


class Engine:
    """Decides as it is told, and keeps what it was asked."""

    def __init__(self, decision: Decision, requirement: MfaRequirement | None = None) -> None:
        self.answer = Answer(decision, PolicyLayer.IDENTITY, Reason.UNSPECIFIED, requirement)
        self.asked: list[tuple[str, str]] = []

    def decide_for(
        self, caller: Caller, action: str, resource: str, override: Mapping[str, ContextValue] | None = None
    ) -> Answer:
        self.asked.append((action, resource))
        return self.answer


@pytest.mark.parametrize("service", sorted(PERMISSIONS))
def test_call_when_the_policies_of_a_session_do_not_allow_it_then_it_is_refused(service: str) -> None:
    permissions = Permissions(Engine(Decision.IMPLICIT_DENY))
    for method, permission in PERMISSIONS[service].items():
        permissions.require(Caller.administrator(""), service, method, ADA)
        if permission.action:
            with pytest.raises(PermissionDeniedError, match=permission.action):
                permissions.require(SOMEBODY, service, method, ADA)
            with pytest.raises(PermissionDeniedError, match="credential"):
                permissions.require(Caller.anonymous(""), service, method, ADA)
        else:
            permissions.require(SOMEBODY, service, method, ADA)


def test_call_when_the_policies_of_a_session_allow_it_then_action_and_resource_were_asked_for() -> None:
    engine = Engine(Decision.ALLOW)
    permissions = Permissions(engine)

    permissions.require(SOMEBODY, MFA_SERVICE, "ListDevices", ADA)
    permissions.require(SOMEBODY, MFA_SERVICE, "DeactivateDevice", "")

    assert engine.asked == [("iam:ListMFADevices", ADA), ("iam:DeactivateMFADevice", "*")]


def test_call_when_a_second_factor_would_do_then_that_is_said_and_travels() -> None:
    requirement = MfaRequirement(300, (MfaMethod.WEBAUTHN, MfaMethod.U2F), user_verification=True)
    permissions = Permissions(Engine(Decision.IMPLICIT_DENY, requirement))

    with pytest.raises(StepUpRequiredError) as caught:
        permissions.require(SOMEBODY, MFA_SERVICE, "ListDevices", ADA)

    status = status_of(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("MFA_REQUIRED", "iam-sidecar")
    assert dict(info.metadata) == {"methods": "webauthn,u2f", "user_verification": "true", "max_age": "300"}


def test_guarded_methods_when_called_then_the_caller_of_the_moment_counts() -> None:
    guarded = Permissions(Engine(Decision.IMPLICIT_DENY)).guard(
        "sidecar.v1.SnapshotService", {"GetSnapshot": lambda request: request}
    )["GetSnapshot"]

    with made_by(Caller.administrator("")):
        assert guarded(b"1") == b"1"
    with made_by(SOMEBODY), pytest.raises(PermissionDeniedError):
        guarded(b"1")
    with pytest.raises(PermissionDeniedError):
        guarded(b"1")


def test_peer_when_named_then_it_is_readable_and_short() -> None:
    assert peer_name("ipv6:%5B::1%5D:50000") == "ipv6:[::1]:50000"
    assert len(peer_name("unix:" + "x" * 5000)) == 256


def test_caller_when_nobody_is_named_then_it_is_nobody() -> None:
    with made_by(SOMEBODY):
        assert current_caller() is SOMEBODY
        with made_by(Caller.administrator("")):
            assert current_caller().is_administrator
        assert current_caller() is SOMEBODY
    assert not current_caller().is_administrator
    assert current_caller().claims is None
