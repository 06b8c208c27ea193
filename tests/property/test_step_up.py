# SPDX-License-Identifier: Apache-2.0
"""What comes from outside into step-up: calls that a proof is bound to, details of refusals, files of sessions."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.cli.sessions_file import Profile, SessionsFile
from sidecar.client.details import status_details
from sidecar.client.proof_required import (
    ProofRequired,
    proof_required_by,
    proof_required_from_wire,
    proof_required_to_wire,
)
from sidecar.client.sessions import Session
from sidecar.model.decision import MfaMethod, MfaRequirement
from sidecar.model.errors import RequestError, SettingsError
from sidecar.services.step_up import parse_bound_call

ORDER = "arn:aws:payments:eu-west-1:111122223333:order/4711"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
actions = st.one_of(texts, st.from_regex(r"[A-Za-z0-9-]{1,8}:[A-Za-z0-9_.*-]{0,8}", fullmatch=True))
resources = st.one_of(texts, st.just("*"), texts.map(lambda text: f"{ORDER}{text}"))
requirements = st.builds(
    MfaRequirement,
    max_age_seconds=st.none() | st.integers(0, 2**32 - 1),
    methods=st.sets(st.sampled_from(MfaMethod)).map(lambda found: tuple(sorted(found))),
    user_verification=st.booleans(),
)


class Failed(grpc.RpcError):
    """A call that failed with some details."""

    def __init__(self, details: bytes) -> None:
        super().__init__()
        self._details = details

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._details),)


@given(actions, resources)
@example("payments:Refund", f"{ORDER}\u202e")
@example("payments:Refund\n", ORDER)
@example("payments:\u0130", ORDER)
def test_bound_call_when_it_is_any_text_then_it_is_refused_or_said_in_one_way(action: str, resource: str) -> None:
    try:
        parsed = parse_bound_call(action, resource)
    except RequestError as error:
        assert error.field in ("action", "resource")
        return
    assert parsed == (action.lower(), resource)
    assert parsed[0].isascii()
    assert parsed[1].isprintable()
    assert parse_bound_call(*parsed) == parsed


@given(texts, texts, requirements)
def test_details_when_they_travel_then_they_say_the_same(
    action: str, resource: str, requirement: MfaRequirement
) -> None:
    required = ProofRequired(action, resource, requirement)

    assert proof_required_from_wire(proof_required_to_wire(required)) == required


@given(st.binary(max_size=200), st.dictionaries(texts, texts, max_size=6))
def test_details_when_they_are_anything_then_nothing_breaks(data: bytes, metadata: dict[str, str]) -> None:
    status_details(Failed(data))
    proof_required_by(Failed(data))
    facts = {**metadata, "max_age": "x"}
    info = error_details_pb2.ErrorInfo(reason="MFA_REQUIRED", domain="iam-sidecar", metadata=facts)
    status = status_pb2.Status()
    status.details.add().Pack(info)
    found = proof_required_by(Failed(status.SerializeToString()))
    assert found is not None
    assert found.requirement.max_age_seconds is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
def test_sessions_file_when_it_holds_anything_then_it_is_read_or_refused(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.json"
        path.touch(mode=0o600)
        path.write_bytes(data)
        try:
            assert SessionsFile(path).names() == []
        except SettingsError as error:
            assert os.fspath(path) in error.message


@given(texts, st.builds(Session, texts, texts, texts, st.integers(0, 2**53), texts), texts)
def test_sessions_file_when_a_profile_is_kept_then_it_is_found(name: str, session: Session, text: str) -> None:
    profile = Profile(session, text, account=text, role_arn=text, source=name)
    with TemporaryDirectory() as folder:
        file = SessionsFile(Path(folder) / "sessions.json")
        file.keep(name, profile)

        assert file.find(name) == profile
