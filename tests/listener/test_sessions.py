# SPDX-License-Identifier: Apache-2.0
"""
Session tokens on the data listener: opened by every worker, swapped under load, and never recorded.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic_ns, sleep, time
from typing import Any

import pytest

from sidecar import core
from sidecar.model.listener import RpcStatus
from sidecar.model.session import SessionKind
from sidecar.services.raw_records import split_records
from sidecar.services.spill import Spill
from sidecar.transports.decision_records import RecordRenderer
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests import tokens
from tests.conformance.cases import USER_ARN
from tests.listener.peers import BATCH_AUTHORIZE, Client
from tests.listener.serving import Listener, batch, eventually, listening, question
from tests.tokens import ACCESS_KEY_ID, FOR_EVER, seal, state
from tests.unit.core.asking import image_of
from tests.unit.core.sessions import claims

#: Room for everything that a test asks.
LOG: dict[str, Any] = {"ring_bytes": 1 << 20, "allows": 1.0, "denials": 1.0, "must_record": False}
ALLOWING = image_of(identity={"Action": "app:*"})


def token(number: int = 0, *, key_id: bytes = tokens.KEY_ID, key: bytes = tokens.KEY, expires_in: int = 3600) -> str:
    """Make a token that is good by the real clock."""
    now_ms = int(time() * 1000)
    said = claims(
        SessionKind.SIGN_IN,
        issued_at_ms=now_ms - 1000,
        lineage_issued_at_ms=now_ms - 1000,
        expires_at_ms=now_ms + expires_in * 1000,
        source_identity=f"name{number}",
    )
    return seal(said, key_id=key_id, key=key)


def asked(text: str, action: str = "app:Read") -> bytes:
    """Ask with a token."""
    return pb.AuthorizeRequest(session_token=text, action=action, resource="*").SerializeToString()


def reason(client: Client, message: bytes) -> str:
    """Return why a request was decided as it was."""
    answer = client.call(message)
    assert answer.status is RpcStatus.OK
    return pb.AuthorizeResponse.FromString(answer.message).reason


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A listener of two workers that keeps a log."""
    with listening(workers=2, by=ALLOWING, log=LOG) as running:
        yield running


def test_token_when_no_state_was_published_then_it_is_denied(listener: Listener) -> None:
    with Client(listener.place) as client:
        assert reason(client, asked(token())) == "session_invalid"


def test_token_when_a_state_is_published_then_every_worker_opens_it(listener: Listener) -> None:
    listener.server.publish_sessions(state())
    text = token()
    with Client(listener.place) as one, Client(listener.place) as two:
        for client in (one, two):
            for _ in range(2):
                assert reason(client, asked(text)) == "identity_allow"
                assert reason(client, asked(text, "other:Read")) == "no_identity_allow"
            assert reason(client, asked(text[:-1])) == "session_invalid"
            answers = client.call(batch(asked(text), asked("none"), asked(token(1))), BATCH_AUTHORIZE)
            assert [
                (answer.reason, answer.principal_arn)
                for answer in pb.BatchAuthorizeResponse.FromString(answers.message).responses
            ] == [("identity_allow", USER_ARN), ("session_invalid", ""), ("identity_allow", USER_ARN)]
        counted = listener.server.telemetry()[1:]
        # What is too short to be one is not opened.
        assert [(one["tokens_opened"], one["tokens_known"]) for one in counted] == [(3, 4), (3, 4)]


def test_state_when_replaced_then_the_next_call_goes_by_the_new_one(listener: Listener) -> None:
    text = token()
    retired = state(keys=[(tokens.OTHER_KEY_ID, tokens.OTHER_KEY)])
    revoked = state(tokens.revocation(tokens.LINEAGE, bytes(range(16)), int(time() * 1000)))
    with Client(listener.place) as client:
        for by, want in [
            (state(), "identity_allow"),
            (revoked, "session_revoked"),
            (retired, "session_invalid"),
            (state(), "identity_allow"),
            (None, "session_invalid"),
        ]:
            listener.server.publish_sessions(by)
            assert reason(client, asked(text)) == want


def test_state_when_it_runs_out_then_tokens_are_denied_until_it_is_renewed(listener: Listener) -> None:
    by = state(valid_until=monotonic_ns() + 200_000_000)
    listener.server.publish_sessions(by)
    text = token()
    with Client(listener.place) as client:
        eventually(lambda: reason(client, asked(text)) == "session_unverifiable")
        by.set_valid_until(FOR_EVER)
        assert reason(client, asked(text)) == "identity_allow"


def test_token_when_it_expires_then_a_worker_that_knows_it_denies_it(listener: Listener) -> None:
    listener.server.publish_sessions(state())
    text = token(expires_in=1)
    with Client(listener.place) as client:
        assert reason(client, asked(text)) == "identity_allow"
        eventually(lambda: reason(client, asked(text)) == "session_expired")


def test_states_when_replaced_then_old_ones_are_let_go(listener: Listener) -> None:
    assert listener.server.held_sessions() == 0
    for _ in range(20):
        listener.server.publish_sessions(state())
        listener.server.publish(ALLOWING)
        eventually(lambda: listener.server.held_sessions() == 1)
        assert listener.server.held_images() == 1
    listener.server.publish_sessions(None)
    assert listener.server.held_sessions() == 0
    assert listener.server.held_images() == 1


def test_states_when_replaced_under_load_then_each_call_goes_by_one_of_them(listener: Listener) -> None:
    one = state()
    other = state(keys=[(tokens.OTHER_KEY_ID, tokens.OTHER_KEY)])
    images = [ALLOWING, image_of(identity={"Effect": "Deny", "Action": "app:*"})]
    mine = asked(token(1))
    theirs = asked(token(2, key_id=tokens.OTHER_KEY_ID, key=tokens.OTHER_KEY))
    listener.server.publish_sessions(one)
    ended = threading.Event()
    faults: list[str] = []

    def ask() -> None:
        with Client(listener.place) as client:
            while not ended.is_set():
                for message in (mine, theirs):
                    found = reason(client, message)
                    if found not in ("identity_allow", "explicit_deny", "session_invalid"):
                        faults.append(found)

    with ExitStack() as stack:
        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
            stack.callback(asker.join)
        stack.callback(ended.set)
        for number in range(150):
            listener.server.publish_sessions((one, other, None, state())[number % 4])
            listener.server.publish(images[number % 2])
            sleep(0.001)
    assert faults == []
    listener.server.publish(ALLOWING)
    listener.server.publish_sessions(other)
    with Client(listener.place) as client:
        assert reason(client, mine) == "session_invalid"
        assert reason(client, theirs) == "identity_allow"


def _messages(text: str, invalid: str) -> list[bytes]:
    named = pb.AuthorizeRequest(principal=USER_ARN).SerializeToString()
    twice = pb.AuthorizeRequest(session_token=invalid).SerializeToString()
    return [
        asked(text),
        asked(text, "other:Read"),
        asked(invalid),
        # The last of the two members counts, and both tokens are as secret.
        asked(text) + named,
        named + asked(text),
        twice + asked(text),
        asked(text) + twice,
    ]


def test_token_when_a_decision_is_recorded_then_it_is_nowhere(listener: Listener, tmp_path: Path) -> None:
    listener.server.publish_sessions(state())
    text, invalid = token(), token(1, key=tokens.OTHER_KEY)
    messages = _messages(text, invalid)
    recorder = core.Recorder()
    recorder.keep_log(**LOG)
    with Client(listener.place) as client:
        for message in messages:
            client.call(message)
        client.call(batch(*messages), BATCH_AUTHORIZE)
    for ask, message in [(core.authorize, messages[0]), (core.batch_authorize, batch(*messages))]:
        ask(ALLOWING, message, seconds=int(time()), nanos=0, recorder=recorder, sessions=state())
    core.authorize(None, messages[0], seconds=int(time()), nanos=0, recorder=recorder, sessions=state())
    core.authorize(ALLOWING, messages[0], seconds=int(time()), nanos=0, recorder=recorder)

    block = listener.server.read_records() + recorder.read_records()
    spill = Spill(folder=tmp_path / "spill", max_bytes=1 << 20)
    spill.open()
    assert spill.append(block)
    spilled = b"".join(path.read_bytes() for path in (tmp_path / "spill").iterdir())
    spill.close()
    records, damaged = split_records(block)
    lines = b"".join(RecordRenderer().render(record) for record in records)

    assert len(records) == 3 * len(messages) + 3
    assert damaged == 0
    for secret in (text, invalid):
        raw = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
        for place in (block, spilled, lines):
            # Neither as it was sent, nor a part of it.
            assert not any(secret[at : at + 24].encode() in place for at in range(0, len(secret) - 24, 8))
            assert raw[25:60] not in place
    kept = [pb.AuthorizeRequest.FromString(record.request) for record in records]
    key, unknown = ACCESS_KEY_ID, "unknown"
    want = [key, key, unknown, "", key, key, unknown]
    assert [one.session_token for one in kept] == [*want, *want, key, *want, unknown, unknown]
    assert [one.principal for one in kept[:7]] == ["", "", "", USER_ARN, "", "", ""]
    assert all(one.resource == "*" and one.action for one in kept)


def test_request_when_it_holds_no_token_then_it_is_recorded_as_it_was_sent(listener: Listener) -> None:
    message = question() + b"\x9a\x06\x03abc"
    with Client(listener.place) as client:
        client.call(message)
        client.call(message.replace(b"\x9a\x06", b"\x10\x07\x9a\x06"))
    records, _ = split_records(listener.server.read_records())

    assert [record.request for record in records] == [message, message.replace(b"\x9a\x06", b"\x10\x07\x9a\x06")]


def test_record_when_it_waits_for_a_place_then_it_holds_no_token_either() -> None:
    log: dict[str, Any] = {"ring_bytes": 4096, "allows": 1.0, "denials": 1.0, "must_record": True}
    with listening(by=ALLOWING, log=log) as running, Client(running.place) as client:
        running.server.publish_sessions(state())
        text = token()
        for _ in range(40):
            client.call(asked(text))
            if running.total("parked"):
                break
        assert running.total("parked")
        block = running.server.read_records()
        client.call(asked(text))
        block += running.server.read_records()

    assert split_records(block)[0]
    assert text[:24].encode() not in block
    assert text[-24:].encode() not in block
