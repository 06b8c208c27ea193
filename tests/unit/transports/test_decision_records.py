# SPDX-License-Identifier: Apache-2.0
import json
from typing import Any

import pytest

from sidecar.services.raw_records import RawRecord
from sidecar.services.record_masks import FIELDS, Masker, parse_masks
from sidecar.transports.decision_records import RecordRenderer, describe_record, identity_of
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

ADA = "arn:aws:iam::111122223333:user/team/ada"
#: 2026-01-02T03:04:05.678901234Z.
TIME = 1_767_323_045_678_901_234


def request(**more: Any) -> pb.AuthorizeRequest:
    fields = {"principal": ADA, "action": "s3:GetObject", "resource": "arn:aws:s3:::reports/may.csv", **more}
    return pb.AuthorizeRequest(**{name: value for name, value in fields.items() if value is not None})


def answer(**more: Any) -> pb.AuthorizeResponse:
    fields = {
        "decision": pb.DECISION_IMPLICIT_DENY,
        "layer": pb.POLICY_LAYER_IDENTITY,
        "reason": "no_identity_allow",
        "snapshot_revision": "ab" * 32,
        "principal_arn": ADA,
    }
    return pb.AuthorizeResponse(**{**fields, **more})


def raw(
    asked: pb.AuthorizeRequest | bytes | None = None, answered: pb.AuthorizeResponse | bytes | None = None, **more: int
) -> RawRecord:
    asked = request() if asked is None else asked
    answered = answer() if answered is None else answered
    return RawRecord(
        worker=more.get("worker", 2),
        method=more.get("method", 1),
        decision=more.get("decision", 3),
        time=more.get("time", TIME),
        read_ns=120,
        decision_ns=340,
        sequence=more.get("sequence", 77),
        request=asked if isinstance(asked, bytes) else asked.SerializeToString(),
        answer=answered if isinstance(answered, bytes) else answered.SerializeToString(),
    )


def test_record_when_described_then_it_says_all_in_the_words_of_cloudtrail() -> None:
    asked = request(
        context={
            "aws:SourceIp": pb.ContextValue(values=["203.0.113.9"]),
            "aws:TagKeys": pb.ContextValue(values=["team"], multivalued=True),
            "app:two": pb.ContextValue(values=["a", "b"]),
            "app:none": pb.ContextValue(),
        },
        resource_account="111122223333",
    )
    requirement = pb.MfaRequirement(max_age_seconds=900, methods=["totp", "webauthn"], user_verification=True)

    assert describe_record(raw(asked, answer(mfa_requirement=requirement, shadow_decision=pb.DECISION_ALLOW))) == {
        "eventVersion": "1.0",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventID": f"{TIME:016x}-0002-000000000000004d",
        "eventSource": "s3",
        "eventName": "GetObject",
        "userIdentity": {"type": "IAMUser", "arn": ADA, "accountId": "111122223333"},
        "resources": [{"ARN": "arn:aws:s3:::reports/may.csv", "accountId": "111122223333"}],
        "requestParameters": {
            "context": {
                "aws:SourceIp": "203.0.113.9",
                "aws:TagKeys": ["team"],
                "app:two": ["a", "b"],
                "app:none": [],
            },
            "resourceAccount": "111122223333",
        },
        "decision": "implicit_deny",
        "layer": "identity",
        "reason": "no_identity_allow",
        "mfaRequirement": {"methods": ["totp", "webauthn"], "userVerification": True, "maxAgeSeconds": 900},
        "snapshotRevision": "ab" * 32,
        "shadowDecision": "allow",
        "method": "Authorize",
        "worker": 2,
        "sequence": 77,
        "durations": {"readNanoseconds": 120, "decisionNanoseconds": 340},
    }


@pytest.mark.parametrize(
    ("principal", "want"),
    [
        (ADA, {"type": "IAMUser", "arn": ADA, "accountId": "111122223333"}),
        ("arn:aws:iam::1:root", {"type": "Root", "arn": "arn:aws:iam::1:root", "accountId": "1"}),
        (
            "arn:aws:sts::1:assumed-role/deploy/ci",
            {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/deploy/ci", "accountId": "1"},
        ),
        (
            "arn:aws-cn:sts::1:federated-user/eve",
            {"type": "FederatedUser", "arn": "arn:aws-cn:sts::1:federated-user/eve", "accountId": "1"},
        ),
        ("arn:aws:iam::1:group/x", {"type": "Unknown", "arn": "arn:aws:iam::1:group/x", "accountId": "1"}),
        ("backup.amazonaws.com", {"type": "AWSService", "invokedBy": "backup.amazonaws.com"}),
        ("", {"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL"}),
    ],
)
def test_identity_when_described_then_its_type_is_that_of_cloudtrail(principal: str, want: dict[str, str]) -> None:
    assert identity_of(principal) == want
    described = describe_record(raw(request(principal=principal), answer(principal_arn="")))
    assert described["userIdentity"] == want


def test_record_when_a_token_spoke_for_somebody_then_it_is_not_written_and_they_are() -> None:
    asked = request(principal=None, session_token="sealed-secret")
    known = request(principal=None, session_token="ASIA2345672345672345")

    line = RecordRenderer().render(raw(asked))
    unknown = describe_record(raw(asked, answer(principal_arn="", reason="session_invalid")))

    assert b"sealed" not in line
    assert json.loads(line)["userIdentity"]["arn"] == ADA
    assert unknown["userIdentity"] == {"type": "Unknown"}
    assert describe_record(raw(known))["userIdentity"] == {
        "type": "IAMUser",
        "arn": ADA,
        "accountId": "111122223333",
        "accessKeyId": "ASIA2345672345672345",
    }


def test_record_when_it_came_from_a_batch_or_from_management_then_that_is_said() -> None:
    described = describe_record(raw(method=2, worker=65535))

    assert (described["method"], described["worker"]) == ("BatchAuthorize", 65535)
    assert describe_record(raw(method=9))["method"] == "unknown"


def test_event_id_when_the_record_is_the_same_then_it_is_and_only_then() -> None:
    records = (raw(), raw(worker=1), raw(sequence=1), raw(time=1))
    ids = {describe_record(record)["eventID"] for record in records}

    assert len(ids) == 4
    assert {describe_record(record)["eventID"] for record in records} == ids


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_999_999, "1970-01-01T00:00:00.001Z"),
        (-1, "1970-01-01T00:00:00.999Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854Z"),
    ],
)
def test_time_when_written_then_it_has_milliseconds_and_never_fails(time: int, text: str) -> None:
    assert describe_record(raw(time=time))["eventTime"] == text


@pytest.mark.parametrize(
    ("action", "source", "name"), [("s3:GetObject", "s3", "GetObject"), ("odd", "", "odd"), ("a:b:c", "a", "b:c")]
)
def test_action_when_described_then_its_parts_are_apart(action: str, source: str, name: str) -> None:
    described = describe_record(raw(request(action=action)))

    assert (described["eventSource"], described["eventName"]) == (source, name)


@pytest.mark.parametrize(
    ("resource", "stated", "account"),
    [
        ("arn:aws:sqs:eu-west-1:444455556666:queue", "", "444455556666"),
        ("arn:aws:s3:::bucket", "444455556666", "444455556666"),
        ("arn:aws:s3:::bucket", "", None),
        ("*", "", None),
    ],
)
def test_resource_when_described_then_its_account_is_the_one_that_is_known(
    resource: str, stated: str, account: str | None
) -> None:
    (described,) = describe_record(raw(request(resource=resource, resource_account=stated)))["resources"]

    assert described["ARN"] == resource
    assert described.get("accountId") == account


def test_record_when_request_or_answer_cannot_be_read_then_the_rest_is_still_written() -> None:
    described = describe_record(raw(b"\xff\xff", b"\x0a"))

    assert described["unreadable"] == ["request", "answer"]
    assert described["decision"] == "implicit_deny"
    assert described["eventTime"].startswith("2026-01-02")


def test_line_when_rendered_then_it_is_one_line_of_ascii() -> None:
    context = {"app:note": pb.ContextValue(values=["line\nbreak \u2028 \u202e th\u00e9 \x1b[31m"])}

    line = RecordRenderer().render(raw(request(context=context)))

    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert not any(byte < 32 for byte in line[:-1])
    assert json.loads(line)["requestParameters"]["context"] == {
        "app:note": "line\nbreak \u2028 \u202e th\u00e9 \x1b[31m"
    }


def test_line_when_masks_are_set_then_they_are_applied() -> None:
    masker = Masker(parse_masks(["userIdentity.arn", "remove:requestParameters.context.*"]), bytes(32))
    context = {"app:secret": pb.ContextValue(values=["4111"])}

    line = RecordRenderer(masker).render(raw(request(context=context)))

    assert b"ada" not in line
    assert b"4111" not in line
    assert json.loads(line)["userIdentity"]["arn"].startswith("blake2b:")


def test_masks_when_a_field_can_be_masked_then_a_record_may_have_it() -> None:
    described = [
        describe_record(raw(request(resource_account="111122223333"))),
        describe_record(raw(request(principal="backup.amazonaws.com"), answer(principal_arn=""))),
        describe_record(raw(request(principal=None, session_token="ASIA2345672345672345"))),
    ]
    there = set()
    for record in described:
        for parent in ("userIdentity", "requestParameters"):
            there |= {f"{parent}.{name}" for name in record[parent]}
        there |= {f"resources.{name}" for name in record["resources"][0]}

    assert set(FIELDS) <= there
    # The type is a word of a closed set, and the context has names of its own.
    assert there - set(FIELDS) == {"userIdentity.type", "requestParameters.context"}
