# SPDX-License-Identifier: Apache-2.0
"""
Cerbos beside us: the same rules in its language and in AWS's, the same questions, and its server.

The rules are of a kind that both can say: of each of a hundred tables its readers may get items, its writers put
items of their own project, its owners delete items, and everything is denied from outside the network. What differs
is who is told what: Cerbos is sent the roles and attributes of the caller, we look them up.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench.inputs import KEPT
from tests.bench.load import UnavailableError, on_core

Json = dict[str, Any]

PACKAGE = "@cerbos/cerbos-linux-x64"
VERSION = "0.55.0"
PATH = "/cerbos.svc.v1.CerbosService/CheckResources"
_SERVICE, _METHOD = "cerbos.svc.v1.CerbosService", "CheckResources"

TABLES = 100
USERS = 200
NETWORK = "10.0.0.0/8"
_ACCOUNT = "111122223333"
_TABLE_ARN = f"arn:aws:dynamodb:eu-central-1:{_ACCOUNT}:table"
_PROJECTS = ("apollo", "borealis", "cygnus", "draco")
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    """
    One question, for both.

    Attributes:
        user: Number of the user who asks.
        table: Number of the table that it is about.
        action: ``get``, ``put`` or ``delete``.
        address: Where the user calls from.
        project: What the item belongs to.
    """

    user: int
    table: int
    action: str
    address: str
    project: str


def roles_of(user: int) -> list[str]:
    """Return the roles of a user: it reads five tables, writes to one of them and owns another."""
    read = [f"reader-{(user + step) % TABLES}" for step in range(5)]
    return [*read, f"writer-{user % TABLES}", f"owner-{(user + 1) % TABLES}"]


def project_of(user: int) -> str:
    """Return the project of a user."""
    return _PROJECTS[user % len(_PROJECTS)]


def questions() -> list[Question]:
    """Return questions that meet every rule, each one kept and broken."""
    found = []
    for user in range(0, USERS, 10):
        for step in (0, 1, 4, 50):
            for action in ("get", "put", "delete"):
                for address in ("10.1.2.3", "203.0.113.9"):
                    found.append(Question(user, (user + step) % TABLES, action, address, _PROJECTS[user // 10 % 4]))
    return found


def write_cerbos(folder: Path) -> None:
    """Write the rules as policies of Cerbos; each file is JSON, which is YAML too."""
    folder.mkdir(parents=True)
    inside = {"match": {"expr": f'P.attr.address.inIPAddrRange("{NETWORK}")'}}
    for table in range(TABLES):
        rules = [
            {"actions": ["get"], "effect": "EFFECT_ALLOW", "roles": [f"reader-{table}"], "condition": inside},
            {
                "actions": ["put"],
                "effect": "EFFECT_ALLOW",
                "roles": [f"writer-{table}"],
                "condition": {"match": {"expr": "R.attr.project == P.attr.project"}},
            },
            {"actions": ["delete"], "effect": "EFFECT_ALLOW", "roles": [f"owner-{table}"]},
            {
                "actions": ["*"],
                "effect": "EFFECT_DENY",
                "roles": ["*"],
                "condition": {"match": {"expr": f'!P.attr.address.inIPAddrRange("{NETWORK}")'}},
            },
        ]
        policy = {
            "apiVersion": "api.cerbos.dev/v1",
            "resourcePolicy": {"resource": f"table-{table}", "version": "default", "rules": rules},
        }
        (folder / f"table-{table}.json").write_text(json.dumps(policy))


def write_source(folder: Path) -> None:
    """Write the same rules as an account of AWS: a group for each role, and the deny in a policy of every group."""
    outside = {"NotIpAddress": {"aws:SourceIp": NETWORK}}
    groups, users = [], []
    for table in range(TABLES):
        arn = f"{_TABLE_ARN}/table-{table}"
        own = {"StringEquals": {"dynamodb:Project": "${aws:PrincipalTag/project}"}}
        allowed: tuple[tuple[str, str, Json], ...] = (
            ("reader", "GetItem", {"IpAddress": {"aws:SourceIp": NETWORK}}),
            ("writer", "PutItem", own),
            ("owner", "DeleteItem", {}),
        )
        for kind, action, condition in allowed:
            allow: Json = {"Effect": "Allow", "Action": f"dynamodb:{action}", "Resource": arn}
            if condition:
                allow["Condition"] = condition
            deny = {"Effect": "Deny", "Action": "*", "Resource": arn, "Condition": outside}
            document = {"Version": "2012-10-17", "Statement": [allow, deny]}
            groups.append(
                {
                    "Path": "/",
                    "GroupName": f"{kind}-{table}",
                    "GroupId": f"AGPA{kind.upper()}{table:08d}",
                    "Arn": f"arn:aws:iam::{_ACCOUNT}:group/{kind}-{table}",
                    "CreateDate": "2024-05-01T12:00:00+00:00",
                    "GroupPolicyList": [{"PolicyName": kind, "PolicyDocument": document}],
                    "AttachedManagedPolicies": [],
                }
            )
    for user in range(USERS):
        users.append(
            {
                "Path": "/",
                "UserName": f"user-{user}",
                "UserId": f"AIDAUSER{user:08d}",
                "Arn": f"arn:aws:iam::{_ACCOUNT}:user/user-{user}",
                "CreateDate": "2024-05-01T12:00:00+00:00",
                "UserPolicyList": [],
                "GroupList": roles_of(user),
                "AttachedManagedPolicies": [],
                "Tags": [{"Key": "project", "Value": project_of(user)}],
            }
        )
    dump = {"UserDetailList": users, "GroupDetailList": groups, "RoleDetailList": [], "Policies": []}
    (folder / "accounts").mkdir(parents=True)
    (folder / "accounts" / "main.json").write_text(json.dumps(dump))


def ask_us(question: Question) -> pb.AuthorizeRequest:
    """Return *question* as we are asked it."""
    action = {"get": "GetItem", "put": "PutItem", "delete": "DeleteItem"}[question.action]
    request = pb.AuthorizeRequest(
        principal=f"arn:aws:iam::{_ACCOUNT}:user/user-{question.user}",
        action=f"dynamodb:{action}",
        resource=f"{_TABLE_ARN}/table-{question.table}",
    )
    request.context["aws:SourceIp"].values.append(question.address)
    request.context["dynamodb:Project"].values.append(question.project)
    return request


def ask_cerbos(question: Question) -> Json:
    """Return *question* as Cerbos is asked it."""
    return {
        "requestId": "1",
        "principal": {
            "id": f"user-{question.user}",
            "roles": roles_of(question.user),
            "attr": {"address": question.address, "project": project_of(question.user)},
        },
        "resources": [
            {
                "actions": [question.action],
                "resource": {"kind": f"table-{question.table}", "id": "1", "attr": {"project": question.project}},
            }
        ],
    }


def install(*, folder: Path = KEPT / "cerbos", is_asked: bool = True) -> Path:
    """
    Install Cerbos from npm below ``build/bench``, where that is not done yet, and return its program.

    Args:
        is_asked: Whether it may be fetched; otherwise it has to be there.

    Raises:
        UnavailableError: It cannot be had here.
    """
    program = folder / "node_modules" / PACKAGE / PACKAGE.rpartition("/")[2]
    if program.exists():
        return program
    if platform.machine() != "x86_64":
        raise UnavailableError(f"Cerbos comes for x86_64 only, this is {platform.machine()}")
    if not is_asked:
        raise UnavailableError("Cerbos is not there; `scripts/bench rpc` installs it")
    if shutil.which("npm") is None:
        raise UnavailableError("npm is not on this machine, so there is no Cerbos to compare with")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0 or not program.exists():
        raise UnavailableError(f"npm cannot install {PACKAGE}: {(done.stderr or done.stdout).strip()[-300:]}")
    return program


class Cerbos:
    """
    A running Cerbos, and its messages, as its own reflection service describes them.

    Thread-safety: confined to one thread.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, web_port: int) -> None:
        self.pid = process.pid
        self.address = f"127.0.0.1:{port}"
        self._web = f"http://127.0.0.1:{web_port}"
        self._opener = build_opener(ProxyHandler({}))
        with _channel(self.address) as channel:
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            method = pool.FindServiceByName(_SERVICE).methods_by_name[_METHOD]
            self._request = message_factory.GetMessageClass(method.input_type)
            self._response = message_factory.GetMessageClass(method.output_type)

    def encode(self, question: Question) -> bytes:
        """Return *question* as the bytes of its request."""
        message: Message = json_format.ParseDict(ask_cerbos(question), self._request())
        return message.SerializeToString()

    def is_allowed(self, question: Question) -> bool:
        """Ask it, and return what its answer says once decoded."""
        with _channel(self.address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
            answer: bytes = call(self.encode(question), timeout=_PATIENCE)
        return self.allows(question, answer)

    def allows(self, question: Question, answer: bytes) -> bool:
        """Say whether the bytes of an *answer* allow what *question* asks."""
        (result,) = json_format.MessageToDict(self._response.FromString(answer))["results"]
        effect: str = result["actions"][question.action]
        return effect == "EFFECT_ALLOW"

    def answered(self) -> int:
        """Return how many checks it has answered by its own count."""
        with self._opener.open(f"{self._web}/_cerbos/metrics", timeout=_PATIENCE) as page:
            text = page.read().decode()
        total = 0.0
        for line in text.splitlines():
            if line.startswith("rpc_server_call_duration_seconds_count{") and _METHOD in line and 'OK"' in line:
                total += float(line.rpartition(" ")[2])
        return int(total)


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])


@contextmanager
def running(program: Path, scratch: Path, *, core: int, ports: tuple[int, int]) -> Iterator[Cerbos]:
    """Run Cerbos on one processor for the length of the block, on a TCP port; *ports* are for gRPC and HTTP."""
    policies = scratch / "policies"
    write_cerbos(policies)
    config = {
        "server": {"grpcListenAddr": f"127.0.0.1:{ports[0]}", "httpListenAddr": f"127.0.0.1:{ports[1]}"},
        "storage": {"driver": "disk", "disk": {"directory": str(policies), "watchForChanges": False}},
        "telemetry": {"disabled": True},
        "audit": {"enabled": False},
    }
    (scratch / "cerbos.json").write_text(json.dumps(config))
    command = [str(program), "server", "--log-level=error", f"--config={scratch / 'cerbos.json'}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CERBOS_", "OTEL_"))}
    with (scratch / "cerbos.log").open("wb") as log:
        process = subprocess.Popen(on_core(core, command), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=kept)
    try:
        _wait_until_ready(process, ports[0], scratch / "cerbos.log")
        yield Cerbos(process, *ports)
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    latest = time.monotonic() + _PATIENCE
    while True:
        with _channel(f"127.0.0.1:{port}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
                return
            except grpc.FutureTimeoutError:
                if process.poll() is not None or time.monotonic() > latest:
                    raise UnavailableError(f"Cerbos does not start: {log.read_text()[-500:]}") from None
