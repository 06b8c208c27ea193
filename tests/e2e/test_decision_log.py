# SPDX-License-Identifier: Apache-2.0
"""
The decision log of a running sidecar: what it writes, and what becomes of records when it cannot.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.e2e.sidecar_process import ADA, PATIENCE, Sidecar, clean_environment, eventually, question, serving


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def authorize(sidecar: Sidecar, request: pb.AuthorizeRequest) -> pb.AuthorizeResponse:
    with sidecar.authorization("data") as stub:
        answer: pb.AuthorizeResponse = stub.Authorize(request, timeout=PATIENCE)
        return answer


def audit(sidecar: Sidecar, name: str) -> float:
    return sidecar.metric(f"sidecar_audit_{name}")


def test_log_when_decisions_are_given_then_each_has_a_record(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    context = {"aws:SourceIp": pb.ContextValue(values=["203.0.113.9"])}
    with serving(source, tmp_path / "state", "--decision-log", str(path)) as sidecar:
        allowed = authorize(sidecar, question(context=context))
        denied = authorize(sidecar, question("s3:PutObject"))
        with sidecar.authorization("data") as stub:
            stub.BatchAuthorize(pb.BatchAuthorizeRequest(requests=[question()] * 3), timeout=PATIENCE)
        sidecar.decide(question("s3:DeleteObject"))
        eventually(lambda: len(lines(path)) == 6)
        assert audit(sidecar, 'records_total{result="written"}') == 6

    records = sorted(lines(path), key=lambda record: (record["worker"], record["sequence"]))
    assert [(record["eventName"], record["decision"], record["method"]) for record in records] == [
        ("GetObject", "allow", "Authorize"),
        ("PutObject", "implicit_deny", "Authorize"),
        *[("GetObject", "allow", "BatchAuthorize")] * 3,
        ("DeleteObject", "implicit_deny", "Authorize"),
    ]
    first = records[0]
    assert first["userIdentity"] == {"type": "IAMUser", "arn": ADA, "accountId": "111122223333"}
    assert first["requestParameters"]["context"] == {"aws:SourceIp": "203.0.113.9"}
    assert (first["reason"], first["snapshotRevision"]) == (allowed.reason, allowed.snapshot_revision)
    assert records[1]["reason"] == denied.reason
    assert first["durations"]["decisionNanoseconds"] > 0
    assert [(record["worker"], record["sequence"]) for record in records] == [*((0, n) for n in range(5)), (65535, 0)]
    assert len({record["eventID"] for record in records}) == 6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_log_when_told_to_keep_less_then_it_keeps_less(source: Path, tmp_path: Path) -> None:
    context = {"app:Card": pb.ContextValue(values=["4111"]), "app:Amount": pb.ContextValue(values=["80"])}
    with serving(
        source,
        tmp_path / "state",
        *("--decision-log", "stdout", "--decision-log-allows", "0"),
        *(
            "--decision-log-mask",
            "userIdentity.arn",
            "--decision-log-mask",
            "remove:requestParameters.context.app:card",
        ),
    ) as sidecar:
        for _ in range(10):
            authorize(sidecar, question())
            authorize(sidecar, question("s3:PutObject", context=context))
        written = [sidecar.next_line() for _ in range(10)]
        assert audit(sidecar, 'records_total{result="sampled_out"}') == 10

    records = [json.loads(line) for line in written]
    assert {record["decision"] for record in records} == {"implicit_deny"}
    assert {json.dumps(record["requestParameters"]) for record in records} == {'{"context": {"app:Amount": "80"}}'}
    assert len({record["userIdentity"]["arn"] for record in records}) == 1
    assert "ada" not in "".join(written)


LARGE = pb.BatchAuthorizeRequest(requests=[question(context={"app:note": pb.ContextValue(values=["x" * 800])})] * 1000)


def test_log_when_every_decision_must_have_a_record_then_without_room_all_are_denied(
    source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with serving(
        source,
        tmp_path / "state",
        *("--decision-log", str(folder / "decisions.json"), "--decision-log-mode", "required"),
        *("--decision-log-spill-bytes", "0"),
    ) as sidecar:
        folder.rename(tmp_path / "elsewhere")
        with sidecar.authorization("data") as stub:
            # Ring and memory are twenty megabytes.
            reasons: list[set[str]] = []
            for _ in range(60):
                answers = stub.BatchAuthorize(LARGE, timeout=PATIENCE).responses
                assert len(answers) == 1000
                reasons.append({answer.reason for answer in answers})
                if reasons[-1] == {"audit_unavailable"}:
                    break
            assert reasons[0] == {"identity_allow"}
            assert reasons[-1] == {"audit_unavailable"}
            assert {answer.decision for answer in answers} == {pb.DECISION_IMPLICIT_DENY}
            assert audit(sidecar, "parked_total") > 0
            # Once records can be written, everything is as it was.
            (tmp_path / "elsewhere").rename(folder)
            eventually(lambda: {answer.reason for answer in stub.BatchAuthorize(LARGE).responses} == {"identity_allow"})


def test_log_when_the_process_is_killed_or_ends_then_a_later_start_writes_what_was_left(
    source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "decisions.json"
    arguments = ("--decision-log", str(path), "--drain-timeout", "0")
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        folder.rename(tmp_path / "elsewhere")
        with sidecar.authorization("data") as stub:
            # However many find no room in the ring of a worker, in the end enough of them wait on disk.
            latest = monotonic() + PATIENCE
            while audit(sidecar, 'records_total{result="spilled"}') < 5_000:
                assert monotonic() < latest, "nothing went to disk"
                stub.BatchAuthorize(LARGE, timeout=PATIENCE)
        spilled = audit(sidecar, 'records_total{result="spilled"}')
        sidecar.stop(signal.SIGKILL)
    folder.mkdir()
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        eventually(lambda: audit(sidecar, 'records_total{result="written"}') >= spilled)
        path.rename(tmp_path / "first")
        folder.rmdir()
        for _ in range(100):
            authorize(sidecar, question())
        eventually(lambda: audit(sidecar, "write_errors_total") > 0)
        assert sidecar.stop() == 0
        assert [event["event"] for event in sidecar.events].count("decision_log_write_failed") == 1
    folder.mkdir()
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        eventually(lambda: len(lines(path)) >= 100)

    assert {record["sequence"] for record in lines(path)} == set(range(100))
    assert len({record["eventID"] for record in lines(tmp_path / "first")}) >= spilled
    assert not list((tmp_path / "state" / "decision-spill").glob("*.spill"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--decision-log", "nowhere/decisions.json"], "decision log `nowhere/decisions.json` cannot be written"),
        (["--decision-log-mode", "required"], "the decision log is off"),
        (["--decision-log-mask", "userIdentity.arm"], "`userIdentity.arm` is no field of a decision record"),
    ],
)
def test_serve_when_the_log_cannot_be_kept_then_it_does_not_start(
    source: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "sidecar", "serve", "--snapshot", str(source)),
            *("--state-dir", str(tmp_path / "state"), *arguments),
        ],
        env={**clean_environment(), "PYTHONPATH": os.getcwd()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert run.returncode == 1
    assert words in run.stderr
