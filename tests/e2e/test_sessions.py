# SPDX-License-Identifier: Apache-2.0
"""Sessions of real sidecars: from the password at the terminal to the decision on the data listener, and their end."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

from sidecar.cli import app
from sidecar.mfa.totp import generate_code
from sidecar.wire.sidecar.v1 import authorization_pb2, authorization_pb2_grpc, mfa_pb2, mfa_pb2_grpc, session_pb2_grpc
from sidecar.wire.sidecar.v1 import session_pb2 as pb
from tests.e2e.sidecar_process import PATIENCE, Sidecar, clean_environment, eventually, serving
from tests.postgresql_cluster import postgresql_cluster
from tests.unit.services.mfa_kit import ADA, BOB
from tests.unit.services.session_kit import PASSWORD, role_arn, source_files

_CODE = grpc.StatusCode
WORKER = role_arn("worker")
NEXT = role_arn("next")


def write(folder: Path) -> Path:
    """Write the source of the tests of sessions."""
    for name, content in source_files(policy={"minimum_password_length": 12, "require_symbols": True}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class People:
    """Calls one sidecar with sessions."""

    def __init__(self, sidecar: Sidecar, source: Path, stack: ExitStack) -> None:
        self.sidecar = sidecar
        self._source = source
        self._sessions = session_pb2_grpc.SessionServiceStub(stack.enter_context(sidecar.channel()))
        self._data = authorization_pb2_grpc.AuthorizationServiceStub(stack.enter_context(sidecar.channel("data")))

    def command(self, *words: str, typed: str = "", with_source: bool = True) -> Any:
        """Run a command as somebody at a terminal would, in this process."""
        flags = [] if "--state-dir" in words else ["--state-dir", str(self.sidecar.state_dir)]
        flags += ["--snapshot", str(self._source)] if with_source else []
        return CliRunner().invoke(app, [*words, *flags], input=typed)

    def set_password(self, user_arn: str = ADA, password: str = PASSWORD, *more: str) -> None:
        words = ("user", "set-password", "--stdin", "--user", user_arn, *more)
        done = self.command(*words, typed=f"{password}\n")
        assert done.exit_code == 0, done.exception

    def sign_in(self, name: str = "ada", password: str = PASSWORD, account: str = "acme") -> Any:
        request = pb.SignInRequest(account=account, user_name=name, password=password)
        return self._sessions.SignIn(request, timeout=PATIENCE)

    def call(self, name: str, request: Any, token: str) -> Any:
        metadata = (("authorization", f"Bearer {token}"),)
        return getattr(self._sessions, name)(request, metadata=metadata, timeout=PATIENCE)

    def assume(self, token: str, role: str = WORKER, **asked: Any) -> Any:
        request = pb.AssumeRoleRequest(role_arn=role, role_session_name="ada", **asked)
        return self.call("AssumeRole", request, token)

    def decide(self, token: str, action: str = "sts:AssumeRole", resource: str = WORKER) -> tuple[bool, str]:
        """Ask the data listener."""
        request = authorization_pb2.AuthorizeRequest(session_token=token, action=action, resource=resource)
        answer = self._data.Authorize(request, timeout=PATIENCE)
        return answer.decision == authorization_pb2.DECISION_ALLOW, answer.reason

    def refusal(self, name: str, request: Any, token: str) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(name, request, token)
        return caught.value.code(), caught.value.details() or ""


@contextmanager
def people(folder: Path, source: Path, *arguments: str) -> Iterator[People]:
    with ExitStack() as stack:
        yield People(stack.enter_context(serving(source, folder, *arguments)), source, stack)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """A sidecar where ada has a password; keys and passwords may be changed."""
    folder = tmp_path_factory.mktemp("sessions")
    with people(folder / "state", write(folder / "source")) as ready:
        ready.set_password()
        yield ready


def test_sign_in_when_there_are_no_people_then_it_is_refused_and_nothing_is_made_for_it(tmp_path: Path) -> None:
    with people(tmp_path / "state", write(tmp_path / "source")) as nobody:
        assert (nobody.sidecar.state_dir / "session.keys").stat().st_mode & 0o777 == 0o600
        with pytest.raises(grpc.RpcError) as caught:
            nobody.sign_in()
        assert caught.value.code() is _CODE.UNAUTHENTICATED
        assert not (nobody.sidecar.state_dir / "mfa.db").exists()

        # Somebody is given a password beside the running sidecar, which then knows it.
        flags = ("--snapshot", str(tmp_path / "source"), "--state-dir", str(nobody.sidecar.state_dir))
        command = [sys.executable, "-m", "sidecar", "user", "set-password", "--stdin", "--user", ADA, *flags]
        done = subprocess.run(
            command, input=f"{PASSWORD}\n", capture_output=True, text=True, check=False, env=clean_environment()
        )
        assert (done.returncode, done.stdout) == (0, "set the password; earlier sessions are over\n"), done.stderr
        session = nobody.sign_in()
        eventually(lambda: nobody.decide(session.session_token)[0])


def test_session_when_it_decides_then_the_policies_of_its_bearer_count_until_it_is_revoked(ready: People) -> None:
    session = ready.sign_in()
    token = session.session_token
    assert session.principal_arn == ADA
    assert session.expires_at_unix_ms > 1000 * time.time() + 11 * 3600 * 1000
    identity = ready.call("GetCallerIdentity", pb.GetCallerIdentityRequest(), token)
    assert (identity.account, identity.arn, identity.user_id) == ("111122223333", ADA, "AIDAADA0000000000000A")

    assert ready.decide(token)[0]
    assert ready.decide(token, "iam:ListUsers", "*") == (False, "no_identity_allow")
    role = ready.assume(token, tags={"team": "red"}, transitive_tag_keys=["team"], source_identity="ada")
    assert ready.decide(role.session_token, resource=NEXT)[0]
    chained = ready.assume(role.session_token, NEXT)
    user = ready.call("GetSessionToken", pb.GetSessionTokenRequest(duration_seconds=900), token)
    # SPEC: STS, GetSessionToken: no IAM action without MFA, and of STS two actions alone.
    assert ready.decide(user.session_token, "iam:GetUser", ADA)[1] == "session_kind_not_allowed"
    assert ready.decide(user.session_token)[0]

    # The administrator may ask for somebody's session on the management listener, and why.
    asked = authorization_pb2.AuthorizeRequest(session_token=token, action="sts:AssumeRole", resource=WORKER)
    assert ready.sidecar.decide(asked).decision == authorization_pb2.DECISION_ALLOW
    with ready.sidecar.authorization() as stub:
        explained = stub.Explain(
            authorization_pb2.ExplainRequest(request=asked), metadata=ready.sidecar.credentials, timeout=PATIENCE
        )
    assert explained.answer.principal_arn == ADA
    assert [match.layer for match in explained.matched_statements]

    ready.call("RevokeSession", pb.RevokeSessionRequest(), chained.session_token)

    for one in (session, role, chained, user):
        eventually(lambda one=one: ready.decide(one.session_token) == (False, "session_revoked"))  # type: ignore[misc]
        code, words = ready.refusal("GetCallerIdentity", pb.GetCallerIdentityRequest(), one.session_token)
        assert code is _CODE.UNAUTHENTICATED
        assert "revoked" in words
    with pytest.raises(grpc.RpcError) as caught:
        ready.call("GetCallerIdentity", pb.GetCallerIdentityRequest(), token)
    status, info = rpc_status.from_call(caught.value), error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("SESSION_REVOKED", "iam-sidecar")
    assert ready.decide(ready.sign_in().session_token)[0]


def test_session_when_it_is_damaged_or_strange_then_nobody_gets_in(ready: People) -> None:
    token = ready.sign_in().session_token
    for strange in (token[:-1], token + "A", token.swapcase(), "A" * 200, "A" * 9000, "x", token[:40]):
        assert ready.decide(strange) == (False, "session_invalid")
        with pytest.raises(grpc.RpcError) as caught:
            ready.call("GetCallerIdentity", pb.GetCallerIdentityRequest(), strange)
        assert caught.value.code() is _CODE.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as caught:
        ready.call("GetCallerIdentity", pb.GetCallerIdentityRequest(), "A" * 60_000)
    assert caught.value.code() in (_CODE.RESOURCE_EXHAUSTED, _CODE.UNAVAILABLE, _CODE.INTERNAL, _CODE.UNAUTHENTICATED)


def test_calls_when_a_session_makes_them_then_its_policies_say_which(ready: People) -> None:
    token = ready.sign_in().session_token
    with ready.sidecar.channel() as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        snapshots = authorization_pb2_grpc.SnapshotServiceStub(channel)
        devices = mfa_pb2_grpc.MfaServiceStub(channel)
        calls: tuple[Callable[[], object], ...] = (
            lambda: snapshots.ReloadSnapshot(authorization_pb2.ReloadSnapshotRequest(), metadata=metadata),
            lambda: devices.ListDevices(mfa_pb2.ListDevicesRequest(user_arn=ADA), metadata=metadata),
            lambda: authorization_pb2_grpc.AuthorizationServiceStub(channel).Authorize(
                authorization_pb2.AuthorizeRequest(), metadata=metadata
            ),
        )
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is _CODE.PERMISSION_DENIED
            assert "is not authorized to perform" in (caught.value.details() or "")
    administrator = ready.sidecar.token
    for name, request in (
        ("GetSessionToken", pb.GetSessionTokenRequest()),
        ("AssumeRole", pb.AssumeRoleRequest()),
        ("GetCallerIdentity", pb.GetCallerIdentityRequest(session_token=token)),
        ("RevokeSession", pb.RevokeSessionRequest(session_token=token)),
    ):
        assert ready.refusal(name, request, administrator)[0] is _CODE.FAILED_PRECONDITION


def test_code_when_a_role_asks_for_mfa_then_it_opens_it_once_and_a_deactivated_device_closes_it(ready: People) -> None:
    guarded = role_arn("guarded")
    token = ready.sign_in().session_token
    code, words = ready.refusal("AssumeRole", pb.AssumeRoleRequest(role_arn=guarded, role_session_name="ada"), token)
    assert code is _CODE.PERMISSION_DENIED
    with ready.sidecar.channel() as channel:
        stub = mfa_pb2_grpc.MfaServiceStub(channel)
        credentials = ready.sidecar.credentials
        enrolment = stub.BeginTotpEnrollment(
            mfa_pb2.BeginTotpEnrollmentRequest(user_arn=ADA, device_name="phone"), metadata=credentials
        )
        secret, serial_number = base64.b32decode(enrolment.secret_base32), enrolment.serial_number
        step = int(time.time() // 30)
        codes = [generate_code(secret, step + shift) for shift in (-2, -1)]
        stub.ConfirmTotpEnrollment(
            mfa_pb2.TotpCodePair(serial_number=serial_number, code1=codes[0], code2=codes[1]), metadata=credentials
        )
        asked = {"serial_number": serial_number, "token_code": generate_code(secret, step)}
        proved = ready.call("GetSessionToken", pb.GetSessionTokenRequest(**asked), token).session_token
        code, words = ready.refusal(
            "AssumeRole", pb.AssumeRoleRequest(role_arn=guarded, role_session_name="ada", **asked), token
        )
        assert code is _CODE.PERMISSION_DENIED
        assert words.startswith("MultiFactorAuthentication failed with invalid MFA one time pass code")
        assert ready.assume(proved, guarded).principal_arn.endswith("assumed-role/guarded/ada")
        assert ready.decide(proved, resource=guarded)[0]

        stub.DeactivateDevice(mfa_pb2.DeactivateDeviceRequest(serial_number=serial_number), metadata=credentials)

    eventually(lambda: not ready.decide(proved, resource=guarded)[0])
    assert ready.decide(proved)[0]


def test_terminal_when_passwords_and_locks_are_set_then_people_are_in_or_out(ready: People) -> None:
    bad = ready.command("user", "set-password", "--stdin", "--user", BOB, typed="short\n")
    assert "it is shorter than 12 characters; it has no symbol" in str(bad.exception)
    silent = ready.command("user", "set-password", "--user", BOB)
    assert "there is no terminal" in str(silent.exception)
    strange = ready.command("user", "set-password", "--stdin", "--user", f"{BOB}by", typed=f"{PASSWORD}\n")
    assert "there is no user" in str(strange.exception)
    elsewhere = ready.command("user", "set-password", "--stdin", "--user", BOB, "--state-dir", "nowhere")
    assert "there is no state directory" in str(elsewhere.exception)
    garbled = ready.command("user", "lock", "--user", "bob")
    assert "no ARN of a user" in str(garbled.exception)

    ready.set_password(BOB)
    first = ready.sign_in("bob").session_token
    assert ready.decide(first, "sts:GetCallerIdentity", "*")[0]
    locked = ready.command("user", "lock", "--user", BOB)
    assert locked.stdout == "locked; sessions are over\n"
    eventually(lambda: ready.decide(first, "sts:GetCallerIdentity", "*")[1] == "session_revoked")
    with pytest.raises(grpc.RpcError) as caught:
        ready.sign_in("bob")
    assert caught.value.code() is _CODE.UNAUTHENTICATED
    unlocked = ready.command("user", "unlock", "--user", BOB, "--json")
    assert json.loads(unlocked.stdout)["was_locked"] is True
    again = ready.sign_in("bob").session_token
    eventually(lambda: ready.decide(again, "sts:GetCallerIdentity", "*")[0])


def test_keys_when_rotated_at_the_terminal_then_running_sidecars_follow(ready: People) -> None:
    before = ready.sign_in().session_token
    rotated = ready.command("session-keys", "rotate", "--json", with_source=False)
    assert json.loads(rotated.stdout)["dropped"] == []
    listed = json.loads(ready.command("session-keys", "list", "--json", with_source=False).stdout)
    assert [key["state"] for key in listed] == ["waits", "seals"]
    assert 'seal"' not in json.dumps(listed)
    text = ready.command("session-keys", "list", with_source=False).stdout
    assert listed[0]["key_id"] in text
    assert ready.decide(before)[0]

    dropped = ready.command("session-keys", "rotate", "--drop-old", with_source=False)

    assert dropped.stdout.count("dropped key") == 2
    eventually(lambda: ready.decide(before) == (False, "session_invalid"))
    assert ready.decide(ready.sign_in().session_token)[0]
    assert ready.sidecar.metric('sidecar_session_key_reloads_total{result="applied"}') >= 2
    assert ready.sidecar.metric('sidecar_sessions_issued_total{kind="sign_in"}') >= 2
    trail = (ready.sidecar.state_dir / "audit.jsonl").read_text()
    assert '"session.keys_rotated"' in trail
    assert before not in trail + ready.sidecar.log
    assert PASSWORD not in trail + ready.sidecar.log


@pytest.mark.peer
def test_postgresql_when_two_sidecars_share_it_and_the_keys_then_a_session_of_one_is_known_and_ended_at_both(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "source")
    keys = tmp_path / "shared.keys"
    seed_keys = tmp_path / "mfa.key"
    seed_keys.write_text(f"first {base64.b64encode(bytes(32)).decode()}\n")
    seed_keys.chmod(0o600)
    with ExitStack() as stack:
        database = ExitStack()
        url = database.enter_context(postgresql_cluster()).new_database()
        stack.callback(database.close)
        flags = (
            "--store-url",
            url,
            "--mfa-key-file",
            str(seed_keys),
            "--session-keys",
            str(keys),
            "--revocation-grace",
            "5",
        )
        one, other = (stack.enter_context(people(tmp_path / name, source, *flags)) for name in ("one", "other"))
        one.set_password(ADA, PASSWORD, "--store-url", url)
        token = one.sign_in().session_token
        kept = other.sign_in().session_token
        for sidecar in (one, other):
            eventually(lambda sidecar=sidecar: sidecar.decide(token)[0])  # type: ignore[misc]

        other.call("RevokeSession", pb.RevokeSessionRequest(), token)

        for sidecar in (one, other):
            eventually(lambda sidecar=sidecar: sidecar.decide(token)[1] == "session_revoked")  # type: ignore[misc]
            assert sidecar.decide(kept)[0]

        database.close()

        for sidecar in (one, other):
            eventually(lambda sidecar=sidecar: sidecar.decide(kept)[1] == "session_unverifiable")  # type: ignore[misc]
        assert one.refusal("GetCallerIdentity", pb.GetCallerIdentityRequest(), kept)[0] is _CODE.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            one.sign_in()
        assert caught.value.code() is _CODE.UNAVAILABLE
        assert "revocations_out_of_reach" in one.sidecar.log
