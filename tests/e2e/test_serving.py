# SPDX-License-Identifier: Apache-2.0
"""
What callers meet: decisions, credentials, health, reflection, metrics.
"""

import re
import stat
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc
from tests.e2e.sidecar_process import ADA, PATIENCE, Sidecar, question

ALL_SERVICES = {
    "sidecar.v1.AuthorizationService",
    "sidecar.v1.SimulationService",
    "sidecar.v1.SnapshotService",
    "sidecar.v1.MfaService",
    "sidecar.v1.SessionService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


def violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    """Return the fields that the details of a status name."""
    status = rpc_status.from_call(error)
    assert status is not None
    found = []
    for packed in status.details:
        details = error_details_pb2.BadRequest()
        assert packed.Unpack(details)
        found += [(violation.field, violation.description) for violation in details.field_violations]
    return found


def test_line_when_every_listener_is_up_then_it_names_them_and_the_snapshot(shared: Sidecar) -> None:
    pattern = (
        r"iam-sidecar \d+\.\d+\.\d+ serving: data 127\.0\.0\.1:[1-9]\d*, data unix:\S+,"
        r" management 127\.0\.0\.1:[1-9]\d*,"
        r" http 127\.0\.0\.1:[1-9]\d*, snapshot [0-9a-f]{12}\n"
    )
    assert re.fullmatch(pattern, shared.line)


def test_authorize_when_a_policy_allows_then_allow(shared: Sidecar) -> None:
    answer = shared.decide(question())

    assert answer.decision == pb.DECISION_ALLOW
    assert answer.layer == pb.POLICY_LAYER_IDENTITY
    assert answer.reason == "identity_allow"
    assert answer.principal_arn == ADA
    assert answer.snapshot_revision[:12] in shared.line


def test_authorize_when_nothing_allows_then_implicit_deny(shared: Sidecar) -> None:
    answer = shared.decide(question("s3:PutObject"))

    assert answer.decision == pb.DECISION_IMPLICIT_DENY
    assert answer.reason == "no_identity_allow"


def test_batch_when_several_are_asked_then_all_are_answered_in_order(shared: Sidecar) -> None:
    batch = pb.BatchAuthorizeRequest(requests=[question(), question("s3:PutObject"), question()])

    with shared.authorization() as stub:
        answers = stub.BatchAuthorize(batch, metadata=shared.credentials, timeout=PATIENCE).responses

    assert [answer.decision for answer in answers] == [
        pb.DECISION_ALLOW,
        pb.DECISION_IMPLICIT_DENY,
        pb.DECISION_ALLOW,
    ]
    assert len({answer.snapshot_revision for answer in answers}) == 1


def test_batch_when_one_is_malformed_then_it_is_named_by_its_index(shared: Sidecar) -> None:
    batch = pb.BatchAuthorizeRequest(requests=[question(), question("nonsense")])

    with shared.authorization() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.BatchAuthorize(batch, metadata=shared.credentials, timeout=PATIENCE)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(caught.value)[0][0] == "requests[1].action"


def test_batch_when_it_is_too_large_then_it_is_refused(shared: Sidecar) -> None:
    padding = {"test:padding": pb.ContextValue(values=["x" * 4000] * 12)}
    batch = pb.BatchAuthorizeRequest(requests=[question(context=padding)] * 40)

    with shared.authorization() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.BatchAuthorize(batch, metadata=shared.credentials, timeout=PATIENCE)

    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    ("request_bytes", "field"),
    [
        (question("nonsense").SerializeToString(), "action"),
        (question(principal="arn:aws:iam::111122223333:role/reader").SerializeToString(), "principal"),
        (question(context={"aws:PrincipalArn": pb.ContextValue(values=["x"])}).SerializeToString(), "context"),
    ],
)
def test_authorize_when_a_request_is_malformed_then_its_field_is_named(
    shared: Sidecar, request_bytes: bytes, field: str
) -> None:
    with shared.authorization() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Authorize(pb.AuthorizeRequest.FromString(request_bytes), metadata=shared.credentials, timeout=PATIENCE)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(caught.value)[0][0].startswith(field)


def test_methods_when_the_bytes_are_no_message_then_invalid_argument(shared: Sidecar) -> None:
    paths = [
        "/sidecar.v1.AuthorizationService/Authorize",
        "/sidecar.v1.AuthorizationService/BatchAuthorize",
        "/sidecar.v1.AuthorizationService/Explain",
        "/sidecar.v1.SimulationService/Simulate",
        "/sidecar.v1.SnapshotService/GetSnapshot",
    ]
    with shared.channel() as channel:
        for path in paths:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\x0a\xff\xff\xff\xff\xff", metadata=shared.credentials, timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, path


def test_explain_when_a_statement_applies_then_it_is_named(shared: Sidecar) -> None:
    with shared.authorization() as stub:
        explanation = stub.Explain(pb.ExplainRequest(request=question()), metadata=shared.credentials, timeout=PATIENCE)

    assert explanation.answer.decision == pb.DECISION_ALLOW
    (match,) = explanation.matched_statements
    assert match.policy == f"inline:{ADA}/reports"
    assert (match.sid, match.statement_index, match.effect) == ("Read", 0, "Allow")


def test_explain_when_the_question_is_malformed_then_its_field_is_named_one_level_deeper(shared: Sidecar) -> None:
    with shared.authorization() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Explain(pb.ExplainRequest(request=question("x")), metadata=shared.credentials, timeout=PATIENCE)

    assert violations(caught.value)[0][0] == "request.action"


@pytest.mark.parametrize("token", ["forged", ""])
def test_session_token_when_it_is_none_of_ours_then_authorize_and_explain_deny_alike(
    shared: Sidecar, token: str
) -> None:
    request = question()
    request.session_token = token

    with shared.authorization() as stub:
        explained = stub.Explain(
            pb.ExplainRequest(request=request), metadata=shared.credentials, timeout=PATIENCE
        ).answer
    answer = shared.decide(request)

    assert answer.decision == explained.decision == pb.DECISION_IMPLICIT_DENY
    assert answer.reason == explained.reason == "session_invalid"


def test_simulate_when_documents_allow_then_allow_with_their_fields_as_names(shared: Sidecar) -> None:
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
    request = pb.SimulateRequest(
        principal=ADA, action="s3:PutObject", resource="arn:aws:s3:::reports/x", identity_policies=[document]
    )

    with shared.channel() as channel:
        stub = pb_grpc.SimulationServiceStub(channel)
        explanation = stub.Simulate(request, metadata=shared.credentials, timeout=PATIENCE)

    assert explanation.answer.decision == pb.DECISION_ALLOW
    assert [match.policy for match in explanation.matched_statements] == ["identity_policies[0]"]


def test_simulate_when_documents_have_many_errors_then_the_details_stay_small_and_count_the_rest(
    shared: Sidecar,
) -> None:
    statement = '{"Effect":"Allow","Action":"s3","Resource":"*"}'
    document = '{"Version":"2012-10-17","Statement":[' + ",".join([statement] * 100) + "]}"
    request = pb.SimulateRequest(principal=ADA, action="s3:X", resource="*", identity_policies=[document])

    with shared.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.SimulationServiceStub(channel).Simulate(request, metadata=shared.credentials, timeout=PATIENCE)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert status.ByteSize() <= 3 * 1024
    found = violations(caught.value)
    assert found[0][0] == "identity_policies[0]"
    assert found[0][1].startswith("$.Statement[0].Action: error: ")
    assert re.fullmatch(r"… and \d+ more", found[-1][1])


def test_snapshot_when_asked_then_it_is_described(shared: Sidecar) -> None:
    with shared.channel() as channel:
        stub = pb_grpc.SnapshotServiceStub(channel)
        snapshot = stub.GetSnapshot(pb.GetSnapshotRequest(), metadata=shared.credentials, timeout=PATIENCE)

    assert len(snapshot.revision) == 64
    assert snapshot.loaded_at_unix_ms > 0
    assert (snapshot.principals, snapshot.statements) == (1, 1)
    assert snapshot.image_bytes > 0


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer " + "x" * 43),),
        (("authorization", "Basic YWRtaW46YWRtaW4="),),
        (("authorization", "Bearer"),),
    ],
)
def test_management_when_the_token_is_missing_or_wrong_then_unauthenticated(
    shared: Sidecar, metadata: tuple[tuple[str, str], ...]
) -> None:
    with shared.channel() as channel:
        authorization = pb_grpc.AuthorizationServiceStub(channel)
        simulation = pb_grpc.SimulationServiceStub(channel)
        snapshot = pb_grpc.SnapshotServiceStub(channel)
        for call, message in (
            (authorization.Authorize, question()),
            (authorization.BatchAuthorize, pb.BatchAuthorizeRequest(requests=[question()])),
            (authorization.Explain, pb.ExplainRequest(request=question())),
            (simulation.Simulate, pb.SimulateRequest()),
            (snapshot.GetSnapshot, pb.GetSnapshotRequest()),
            (snapshot.ReloadSnapshot, pb.ReloadSnapshotRequest()),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(message, metadata=metadata, timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            details = caught.value.details() or ""
            assert "admin.token in the state directory" in details
            assert str(shared.state_dir) not in details


def test_management_when_two_credentials_are_sent_then_unauthenticated(shared: Sidecar) -> None:
    metadata = (*shared.credentials, ("authorization", "Bearer another"))

    with shared.authorization() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Authorize(question(), metadata=metadata, timeout=PATIENCE)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_reflection_when_the_token_is_missing_then_unauthenticated(shared: Sidecar) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with shared.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=PATIENCE))

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_reflection_when_asked_then_it_lists_and_describes_every_service(shared: Sidecar) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="sidecar.v1.AuthorizationService"),
    ]
    with shared.channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), metadata=shared.credentials, timeout=PATIENCE)

    assert {service.name for service in listed.list_services_response.service} == ALL_SERVICES
    assert described.file_descriptor_response.file_descriptor_proto


def test_health_when_no_token_is_sent_then_it_answers(shared: Sidecar) -> None:
    with shared.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "sidecar.v1.AuthorizationService"):
            response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=PATIENCE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_health_when_the_service_is_unknown_then_not_found(shared: Sidecar) -> None:
    with shared.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="nobody")
        with pytest.raises(grpc.RpcError) as check:
            stub.Check(request, timeout=PATIENCE)
        with pytest.raises(grpc.RpcError) as watch:
            next(stub.Watch(request, timeout=PATIENCE))

    assert check.value.code() is grpc.StatusCode.NOT_FOUND
    assert watch.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_when_many_watch_then_further_ones_are_refused_and_places_come_free(shared: Sidecar) -> None:
    request = health_pb2.HealthCheckRequest(service="")
    with shared.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(request, timeout=PATIENCE) for _ in range(64)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(request, timeout=PATIENCE))
        for watch in watches:
            watch.cancel()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("number", [0, 1])
def test_data_when_no_token_is_sent_then_decisions_and_health_alone_are_served(shared: Sidecar, number: int) -> None:
    with grpc.insecure_channel(shared.addresses("data")[number]) as channel:
        stub = pb_grpc.AuthorizationServiceStub(channel)
        answer = stub.Authorize(question(), timeout=PATIENCE)
        batch = stub.BatchAuthorize(pb.BatchAuthorizeRequest(requests=[question()]), timeout=PATIENCE)
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        refused = (
            (stub.Explain, pb.ExplainRequest(request=question())),
            (pb_grpc.SnapshotServiceStub(channel).ReloadSnapshot, pb.ReloadSnapshotRequest()),
            (pb_grpc.SnapshotServiceStub(channel).GetSnapshot, pb.GetSnapshotRequest()),
            (pb_grpc.SimulationServiceStub(channel).Simulate, pb.SimulateRequest()),
        )
        for call, message in refused:
            with pytest.raises(grpc.RpcError) as caught:
                call(message, metadata=shared.credentials, timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    assert answer.decision == batch.responses[0].decision == pb.DECISION_ALLOW
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_files_when_made_then_nobody_else_can_use_them(shared: Sidecar) -> None:
    socket = Path(shared.addresses("data")[1].removeprefix("unix:"))

    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((shared.state_dir / "admin.token").stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.state_dir.stat().st_mode) == 0o700


def test_metrics_when_decisions_are_given_then_they_are_counted(shared: Sidecar) -> None:
    allowed = 'sidecar_decisions_total{decision="allow",layer="identity",reason="identity_allow"}'
    denied = 'sidecar_decisions_total{decision="implicit_deny",layer="identity",reason="no_identity_allow"}'
    timed = "sidecar_decision_duration_seconds_count"
    calls = 'sidecar_rpcs_total{code="OK",listener="management",method="AuthorizationService/BatchAuthorize"}'
    before = [shared.metric(name) for name in (allowed, denied, timed, calls)]

    with shared.authorization() as stub:
        batch = pb.BatchAuthorizeRequest(requests=[question(), question("s3:PutObject"), question()])
        stub.BatchAuthorize(batch, metadata=shared.credentials, timeout=PATIENCE)

    after = [shared.metric(name) for name in (allowed, denied, timed, calls)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 3, 1]


def test_metrics_when_scraped_then_the_snapshot_is_described(shared: Sidecar) -> None:
    assert shared.metric("sidecar_policy_snapshot_principals") == 1
    assert shared.metric("sidecar_policy_snapshot_loaded_timestamp_seconds") > 1_600_000_000
    assert shared.metric('sidecar_policy_reloads_total{result="applied"}') == 1
    assert shared.metric("process_resident_memory_bytes") > 0


def test_http_when_ready_then_the_probes_say_ok_and_nothing_else_is_served(shared: Sidecar) -> None:
    assert shared.get("/livez").status_code == 200
    assert shared.get("/readyz").status_code == 200
    assert shared.get("/").status_code == 404
    assert shared.get("/docs").status_code == 404
    assert shared.get("/metrics/").status_code in (307, 404)
