# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.compile.image import write_image
from sidecar.core import Image
from sidecar.model.errors import PolicySyntaxError, RequestError
from sidecar.model.reload import ReloadOutcome
from sidecar.model.snapshot import Account, Snapshot, User
from sidecar.services.authorizer import Authorizer
from sidecar.services.callers import Caller
from sidecar.services.simulation import Simulator
from sidecar.services.snapshots import LoadedSnapshot, ReloadResult
from sidecar.transports.calls import made_by
from sidecar.transports.grpc_services import (
    AUTHORIZATION_SERVICE,
    SIMULATION_SERVICE,
    SNAPSHOT_SERVICE,
    fault_answer,
    management_methods,
)
from sidecar.transports.permissions import Method, Permissions
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

ADA = "arn:aws:iam::111122223333:user/ada"
USER = User(ADA, "111122223333", "ada", "AIDA" + "A" * 17)
IMAGE = Image.from_bytes(write_image(Snapshot((Account("111122223333", users=(USER,)),))))


class Holder:
    """Holds one image for ever."""

    image = IMAGE
    loaded = LoadedSnapshot(IMAGE, 0)

    def reload(self) -> ReloadResult:
        return ReloadResult(ReloadOutcome.UNCHANGED, self.loaded, ())


def by_the_administrator(function: Method) -> Method:
    """Give *function* as the administrator calls it."""

    def call(request: bytes) -> bytes:
        with made_by(Caller.administrator("")):
            return function(request)

    return call


AUTHORIZER = Authorizer(snapshots=Holder(), now=lambda: 0)
METHODS = {
    service: {name: by_the_administrator(function) for name, function in methods.items()}
    for service, methods in management_methods(
        authorizer=AUTHORIZER,
        simulator=Simulator(now=lambda: 0),
        snapshots=Holder(),
        permissions=Permissions(AUTHORIZER),
    ).items()
}
EVERY_METHOD = [(service, name) for service, methods in METHODS.items() for name in methods]


def test_services_when_compared_with_the_contract_then_every_method_is_there() -> None:
    for service, methods in METHODS.items():
        descriptor = pb.DESCRIPTOR.services_by_name[service.rpartition(".")[2]]
        assert descriptor.full_name == service
        assert set(methods) == {method.name for method in descriptor.methods}


@pytest.mark.parametrize(("service", "name"), EVERY_METHOD)
@given(data=st.binary(max_size=200))
def test_methods_when_any_bytes_come_then_they_answer_or_name_the_fault(service: str, name: str, data: bytes) -> None:
    try:
        METHODS[service][name](data)
    except (RequestError, PolicySyntaxError):
        return


@given(
    principal=st.sampled_from([ADA, "", "backup.amazonaws.com", "arn:aws:iam::111122223333:root"])
    | st.text(max_size=9),
    action=st.sampled_from(["s3:GetObject", "sts:GetCallerIdentity"]) | st.text(max_size=9),
    resource=st.sampled_from(["*", "arn:aws:s3:::b/k"]) | st.text(max_size=9),
    key=st.text(max_size=9) | st.sampled_from(["aws:SourceIp", "aws:PrincipalArn"]),
    value=st.text(max_size=9),
)
def test_authorize_and_explain_when_asked_the_same_then_they_answer_or_refuse_alike(
    principal: str, action: str, resource: str, key: str, value: str
) -> None:
    request = pb.AuthorizeRequest(
        principal=principal, action=action, resource=resource, context={key: pb.ContextValue(values=[value])}
    )
    methods = METHODS[AUTHORIZATION_SERVICE]

    try:
        answer = pb.AuthorizeResponse.FromString(methods["Authorize"](request.SerializeToString()))
    except RequestError as refused:
        with pytest.raises(RequestError) as caught:
            methods["Explain"](pb.ExplainRequest(request=request).SerializeToString())
        assert caught.value.field == f"request.{refused.field}"
        return
    explained = pb.ExplainResponse.FromString(
        methods["Explain"](pb.ExplainRequest(request=request).SerializeToString())
    )
    assert explained.answer == answer


def test_snapshot_methods_when_called_then_they_tell_what_is_in_place() -> None:
    shown = pb.Snapshot.FromString(METHODS[SNAPSHOT_SERVICE]["GetSnapshot"](b""))
    reloaded = pb.ReloadSnapshotResponse.FromString(METHODS[SNAPSHOT_SERVICE]["ReloadSnapshot"](b""))

    assert shown.revision == reloaded.snapshot.revision == IMAGE.revision
    assert reloaded.applied


@pytest.mark.parametrize("method", ["Explain", "Simulate", "GetSnapshot", "ReloadSnapshot"])
def test_fault_when_a_method_enforces_nothing_then_there_is_no_answer_to_give(method: str) -> None:
    assert fault_answer(method, b"") is None


def test_fault_when_a_batch_cannot_be_read_then_there_is_no_answer_to_give() -> None:
    assert fault_answer("BatchAuthorize", b"\xff") is None


def test_simulation_when_it_is_empty_then_it_is_refused() -> None:
    with pytest.raises(RequestError):
        METHODS[SIMULATION_SERVICE]["Simulate"](b"")
