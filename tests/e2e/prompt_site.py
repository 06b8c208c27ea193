# SPDX-License-Identifier: Apache-2.0
"""
A real sidecar whose prompt browsers can open, two people who have passwords, and a terminal of theirs.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc

from sidecar.wire.sidecar.v1 import authorization_pb2 as authorization_pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as authorization_grpc
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as mfa_grpc
from sidecar.wire.sidecar.v1 import session_pb2, session_pb2_grpc
from tests.e2e.people import PASSWORD, set_password
from tests.e2e.sidecar_process import PATIENCE, Sidecar, serving

ACCOUNT = "111122223333"
ORDER = f"arn:aws:payments:eu-west-1:{ACCOUNT}:order/4711"
_OWN_DEVICES = [
    "iam:CreateVirtualMFADevice",
    "iam:EnableMFADevice",
    "iam:ResyncMFADevice",
    "iam:ListMFADevices",
    "iam:DeactivateMFADevice",
    "iam:ChangePassword",
    "sidecar:GenerateRecoveryCodes",
]


def arn_of(user: str) -> str:
    """Return the ARN of a user."""
    return f"arn:aws:iam::{ACCOUNT}:user/{user}"


def write_people(folder: Path, *users: str) -> Path:
    """Write a source in which each user looks after their own devices, and makes refunds with a recent proof."""

    def user(name: str, number: int) -> dict[str, object]:
        statements = [
            {"Effect": "Allow", "Action": _OWN_DEVICES, "Resource": arn_of(name)},
            {
                "Effect": "Allow",
                "Action": "payments:Refund",
                "Resource": f"arn:aws:payments:eu-west-1:{ACCOUNT}:order/*",
                "Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}},
            },
        ]
        return {
            "Path": "/",
            "UserName": name,
            "UserId": f"AIDAEXAMPLE{number:010d}",
            "Arn": arn_of(name),
            "CreateDate": "2024-05-01T12:00:00+00:00",
            "UserPolicyList": [
                {"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}
            ],
            "GroupList": [],
            "AttachedManagedPolicies": [],
            "Tags": [],
        }

    dump = {
        "UserDetailList": [user(name, number) for number, name in enumerate(users, start=1)],
        "GroupDetailList": [],
        "RoleDetailList": [],
        "Policies": [],
    }
    (folder / "accounts").mkdir(parents=True)
    (folder / "accounts" / "main.json").write_text(json.dumps(dump))
    settings = {"accounts": {ACCOUNT: {"alias": "acme"}}}
    (folder / "account-settings.yaml").write_text(json.dumps(settings))
    return folder


class Terminal:
    """
    A session of a person elsewhere.

    Thread-safety: that of the channel.
    """

    def __init__(self, channel: grpc.Channel, user: str) -> None:
        request = session_pb2.SignInRequest(account="acme", user_name=user, password=PASSWORD)
        self._channel = channel
        self.token: str = session_pb2_grpc.SessionServiceStub(channel).SignIn(request, timeout=PATIENCE).session_token

    @property
    def _credentials(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    @property
    def _mfa(self) -> mfa_grpc.MfaServiceStub:
        return mfa_grpc.MfaServiceStub(self._channel)

    def ask(self, action: str = "payments:Refund", resource: str = ORDER, *, pin: bool = False) -> pb.Challenge:
        """Open a challenge."""
        request = pb.BeginChallengeRequest(
            session_token=self.token, action=action, resource=resource, require_user_verification=pin
        )
        challenge: pb.Challenge = self._mfa.BeginChallenge(request, metadata=self._credentials, timeout=PATIENCE)
        return challenge

    def state(self, challenge: pb.Challenge) -> str:
        """Return how a challenge stands."""
        request = pb.WatchChallengeRequest(challenge_id=challenge.challenge_id)
        call = self._mfa.WatchChallenge(request, metadata=self._credentials, timeout=PATIENCE)
        first = next(iter(call))
        call.cancel()
        return pb.ChallengeState.Name(first.state).removeprefix("CHALLENGE_STATE_").lower()

    def collect(self, challenge: pb.Challenge) -> None:
        """Take the proof, and go on with the token that carries it."""
        request = pb.CollectProofRequest(challenge_id=challenge.challenge_id, session_token=self.token)
        self.token = self._mfa.CollectProof(request, metadata=self._credentials, timeout=PATIENCE).session_token

    def decide(self, site: Site) -> str:
        """Ask whether the refund may be made."""
        request = authorization_pb.AuthorizeRequest(action="payments:Refund", resource=ORDER, session_token=self.token)
        with site.sidecar.authorization("data") as stub:
            assert isinstance(stub, authorization_grpc.AuthorizationServiceStub)
            answer = stub.Authorize(request, timeout=PATIENCE)
        return authorization_pb.Decision.Name(answer.decision).removeprefix("DECISION_")


class Site:
    """
    The sidecar, and where its prompt and the service of the example are.

    Attributes:
        origin: Of the prompt.
        app: Of a service that people may be sent back to.
        evil: Of a page of somebody else, which shows whatever stands in ``evil_page``.
    """

    def __init__(self, sidecar: Sidecar, channel: grpc.Channel, origin: str, app: str, evil: Others) -> None:
        self.sidecar = sidecar
        self.origin = origin
        self.app = app
        self.evil = evil
        self._channel = channel

    def terminal(self, user: str = "ada") -> Terminal:
        """Sign somebody in elsewhere."""
        return Terminal(self._channel, user)

    def expire(self, challenge: pb.Challenge, seconds: float = 0) -> None:
        """Have a challenge end in so many seconds."""
        latest = challenge.expires_at_unix_ms - 300_000 + int(seconds * 1000)
        with contextlib.closing(sqlite3.connect(self.sidecar.state_dir / "mfa.db", timeout=PATIENCE)) as database:
            database.execute(
                "UPDATE challenges SET expires_at_ms = ? WHERE challenge_id = ?", (latest, challenge.challenge_id)
            )
            database.commit()

    def forget_devices(self) -> None:
        """Have nobody own a device, or be asked for one."""
        tables = ("challenges", "ceremonies", "credentials", "totp_secrets", "recovery_codes", "recovery_sets")
        self._empty(*tables, "throttles", "devices")

    def forget_failures(self) -> None:
        """Have nobody wait because proofs have failed."""
        self._empty("throttles")

    def _empty(self, *tables: str) -> None:
        with contextlib.closing(sqlite3.connect(self.sidecar.state_dir / "mfa.db", timeout=PATIENCE)) as database:
            for table in tables:
                database.execute(f"DELETE FROM {table}")
            database.commit()


class Others:
    """
    Web servers of others: of a service, and of somebody who means ill.

    Thread-safety: the page is replaced as a whole.
    """

    def __init__(self) -> None:
        self.page = "<!doctype html><title>app</title><h1>The service goes on</h1>"
        others = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = others.page.encode()
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def prompt_site(folder: Path, *users: str) -> Iterator[Site]:
    """Run a sidecar with a prompt, at which *users* can sign in."""
    source, state = write_people(folder / "source", *users), folder / "state"
    port = free_port()
    app, evil = Others(), Others()
    origin, app_origin = f"http://localhost:{port}", f"http://127.0.0.1:{app.port}"
    arguments = ["--prompt", f"127.0.0.1:{port}", "--allowed-return-url", app_origin]
    try:
        with serving(source, state, *arguments) as sidecar, sidecar.channel() as channel:
            for user in users:
                set_password(sidecar, source, arn_of(user))
            yield Site(sidecar, channel, origin, app_origin, evil)
    finally:
        app.close()
        evil.close()
