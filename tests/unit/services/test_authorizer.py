# SPDX-License-Identifier: Apache-2.0
import pytest

from sidecar.compile.image import write_image
from sidecar.core import CheckPlan, Image, Recorder
from sidecar.model.check import CheckSettings, OnError
from sidecar.model.decision import Decision, Reason
from sidecar.model.errors import RequestError
from sidecar.model.listener import RpcStatus
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.model.snapshot import Account, Snapshot, User
from sidecar.services.authorizer import Authorizer
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as ext_authz
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.unit.core.routing import check_request

ADA = "arn:aws:iam::111122223333:user/ada"
IMAGE = Image.from_bytes(
    write_image(Snapshot((Account("111122223333", users=(User(ADA, "111122223333", "ada", "AIDA" + "A" * 17),)),)))
)


class Holder:
    """Holds an image, and counts how often it is read."""

    def __init__(self, image: Image | None) -> None:
        self._image = image
        self.reads = 0

    @property
    def image(self) -> Image | None:
        self.reads += 1
        return self._image


def counted(recorder: Recorder) -> dict[tuple[int, int], int]:
    """Return what was counted, by decision and reason."""
    totals: dict[tuple[int, int], int] = {}
    for (decision, _, reason), count in recorder.telemetry()["decisions"].items():
        totals[decision, reason] = totals.get((decision, reason), 0) + count
    return totals


def test_authorize_when_asked_then_one_image_and_one_time_decide_and_it_is_counted() -> None:
    holder, recorder, times = Holder(IMAGE), Recorder(), [1_700_000_000_123_456_789]
    authorizer = Authorizer(snapshots=holder, now=times.pop, recorder=recorder)
    request = pb.AuthorizeRequest(principal=ADA, action="sts:GetCallerIdentity", resource="*")

    answer = pb.AuthorizeResponse.FromString(authorizer.authorize(request.SerializeToString()))

    assert answer.decision == pb.DECISION_ALLOW
    assert answer.snapshot_revision == IMAGE.revision
    assert counted(recorder) == {(Decision.ALLOW, Reason.ALWAYS_ALLOWED): 1}
    assert holder.reads == 1
    assert not times


def test_batch_when_asked_then_every_decision_is_counted() -> None:
    holder, recorder = Holder(IMAGE), Recorder()
    authorizer = Authorizer(snapshots=holder, now=lambda: 0, recorder=recorder)
    requests = [
        pb.AuthorizeRequest(principal=ADA, action="sts:GetCallerIdentity", resource="*"),
        pb.AuthorizeRequest(principal=ADA, action="s3:GetObject", resource="arn:aws:s3:::b/k"),
        pb.AuthorizeRequest(principal=ADA.replace("ada", "x" * 300), action="s3:GetObject", resource="*"),
    ]

    batch = pb.BatchAuthorizeRequest(requests=requests).SerializeToString()
    answers = pb.BatchAuthorizeResponse.FromString(authorizer.batch_authorize(batch)).responses

    assert len(answers) == 3
    assert counted(recorder) == {
        (Decision.ALLOW, Reason.ALWAYS_ALLOWED): 1,
        (Decision.IMPLICIT_DENY, Reason.NO_IDENTITY_ALLOW): 1,
        (Decision.IMPLICIT_DENY, Reason.UNKNOWN_PRINCIPAL): 1,
    }
    assert holder.reads == 1


def test_authorizer_when_there_is_no_snapshot_then_it_denies() -> None:
    recorder = Recorder()
    authorizer = Authorizer(snapshots=Holder(None), now=lambda: 0, recorder=recorder)
    request = pb.AuthorizeRequest(principal=ADA, action="s3:GetObject", resource="*")

    answer = pb.AuthorizeResponse.FromString(authorizer.authorize(request.SerializeToString()))
    explanation = authorizer.explain(AuthorizationRequest(ADA, "s3:GetObject", "*"))

    assert (answer.decision, answer.reason) == (pb.DECISION_IMPLICIT_DENY, "no_snapshot")
    assert explanation.answer.decision is Decision.IMPLICIT_DENY
    assert explanation.answer.reason is Reason.NO_SNAPSHOT
    assert explanation.revision == ""
    assert counted(recorder) == {(Decision.IMPLICIT_DENY, Reason.NO_SNAPSHOT): 1}


def test_authorizer_when_a_request_is_malformed_then_nothing_is_counted() -> None:
    recorder = Recorder()
    authorizer = Authorizer(snapshots=Holder(IMAGE), now=lambda: 0, recorder=recorder)

    with pytest.raises(RequestError) as caught:
        authorizer.authorize(pb.AuthorizeRequest(principal=ADA, action="x", resource="*").SerializeToString())

    assert caught.value.field == "action"
    assert counted(recorder) == {}


def test_explain_when_overridden_then_that_wins() -> None:
    authorizer = Authorizer(snapshots=Holder(IMAGE), now=lambda: 0)
    request = AuthorizationRequest(
        ADA, "s3:GetObject", "*", override={"aws:PrincipalArn": ContextValue(("arn:aws:iam::111122223333:user/eve",))}
    )

    explanation = authorizer.explain(request)

    assert explanation.answer.reason is Reason.NO_IDENTITY_ALLOW
    assert explanation.revision == IMAGE.revision


def test_check_when_asked_then_one_image_and_one_time_decide_and_it_is_counted() -> None:
    holder, recorder, times = Holder(IMAGE), Recorder(), [1_700_000_000_123_456_789]
    plan = CheckPlan(CheckSettings(on_error=OnError.ERROR_RESPONSE))
    authorizer = Authorizer(snapshots=holder, now=times.pop, recorder=recorder, check=plan)

    answer = ext_authz.CheckResponse.FromString(authorizer.check(check_request("/orders")))

    assert answer.status.code == RpcStatus.PERMISSION_DENIED
    assert answer.denied_response.status.code == 403
    assert counted(recorder) == {(Decision.IMPLICIT_DENY, Reason.NO_ROUTE): 1}
    assert holder.reads == 1
    assert not times


def test_check_when_there_is_no_snapshot_then_the_settings_say_who_decides() -> None:
    plan = CheckPlan(CheckSettings(on_error=OnError.ERROR_RESPONSE))

    answer = Authorizer(snapshots=Holder(None), now=lambda: 0, check=plan).check(check_request("/orders"))

    assert ext_authz.CheckResponse.FromString(answer).WhichOneof("http_response") == "error_response"
