# SPDX-License-Identifier: Apache-2.0
"""
What is tried before it is enforced, at the data listener: told and counted with each answer, and in force by itself
when its time comes.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from time import time

import pytest

from sidecar.model.decision import Decision
from sidecar.services.compiling import CompiledFile, compile_source
from sidecar.services.snapshots import SnapshotStore
from sidecar.services.watching import SourceWatcher
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.e2e.sidecar_process import ADA, question, write_source
from tests.listener.peers import BATCH_AUTHORIZE, Client
from tests.listener.serving import Listener, batch, eventually, listening, read_records
from tests.unit.core.asking import image_of

HOUR = 3600
READ = question().SerializeToString()
SHADOWED = image_of(
    identity={"policies": ["Allow", {"Effect": "Deny", "Action": "s3:GetObject"}]}, shadow=["identity-2"]
)


class Compiler:
    """Compiles in this process."""

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        compiled = compile_source(path, now=now)
        if compiled.image is None:
            return CompiledFile(None, compiled.problems)
        descriptor = os.memfd_create("image")
        os.write(descriptor, compiled.image)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return CompiledFile(descriptor, compiled.problems)

    def stop(self) -> None:
        pass


def asked(client: Client, request: bytes) -> pb.AuthorizeResponse:
    """Ask the listener."""
    return pb.AuthorizeResponse.FromString(client.call(request).message)


def shadow_counts(listener: Listener) -> dict[tuple[int, int], int]:
    """Return what was counted, by decision and by what it would be."""
    total: dict[tuple[int, int], int] = {}
    for counted in listener.server.telemetry():
        for key, count in counted["shadow"].items():
            total[key] = total.get(key, 0) + count
    return total


@pytest.mark.parametrize("log", [None, {"ring_bytes": 1 << 16, "allows": 1.0, "denials": 1.0, "must_record": True}])
def test_answer_when_something_stands_in_shadow_then_it_says_what_would_be_and_that_is_counted(
    log: dict[str, object] | None,
) -> None:
    get, put = (
        pb.AuthorizeRequest(
            principal="arn:aws:iam::111122223333:user/alice",
            action=action,
            resource="arn:aws:s3:::bucket/key",
            resource_account="111122223333",
        ).SerializeToString()
        for action in ("s3:GetObject", "s3:PutObject")
    )
    with listening(by=SHADOWED, log=log) as listener, Client(listener.place) as client:
        answers = [asked(client, get), asked(client, put)]
        batched = pb.BatchAuthorizeResponse.FromString(client.call(batch(get, put), BATCH_AUTHORIZE).message).responses

        assert [answer.decision for answer in answers] == [pb.DECISION_ALLOW] * 2
        assert [answer.shadow_decision for answer in answers] == [pb.DECISION_EXPLICIT_DENY, pb.DECISION_ALLOW]
        assert list(batched) == answers
        allow, deny = Decision.ALLOW, Decision.EXPLICIT_DENY
        eventually(lambda: shadow_counts(listener) == {(allow, deny): 2, (allow, allow): 2})
        if log is not None:
            records = read_records(listener.server.read_records())
            assert [record.answer for record in records] == [answer.SerializeToString() for answer in answers] * 2


def test_policy_when_its_time_comes_then_the_sidecar_puts_it_in_force_by_itself(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    until = int(time()) + HOUR
    moment = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    (source / "shadow.yaml").write_text(f"- policy: inline:{ADA}/reports\n  until: {moment}\n")
    seconds = [until - 60]
    with listening() as listener, Client(listener.place) as client:
        store = SnapshotStore(
            source=source, compiler=Compiler(), now=lambda: seconds[0] * 10**9, publish=listener.server.publish
        )
        assert store.reload().is_applied
        assert store.image is not None
        tried = store.image.revision
        watcher = SourceWatcher(target=store, interval=0.01, settle=0.01)
        watcher.start()
        before = asked(client, READ)
        assert (before.decision, before.shadow_decision) == (pb.DECISION_IMPLICIT_DENY, pb.DECISION_ALLOW)

        seconds[0] = until

        eventually(lambda: store.image is not None and store.image.revision != tried)
        after = asked(client, READ)
        assert (after.decision, after.shadow_decision) == (pb.DECISION_ALLOW, pb.DECISION_UNSPECIFIED)
        assert store.seconds_until_due() is None
        watcher.stop()
