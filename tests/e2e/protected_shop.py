# SPDX-License-Identifier: Apache-2.0
"""
The shop of the example behind a real Envoy, with a real sidecar beside it: nothing between them is stood in for.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from examples.envoy.keys import IdentityProvider, make_keys
from sidecar.client import SessionClient
from tests.e2e.envoy_process import (
    EXAMPLE,
    Envoy,
    Json,
    Shop,
    connection_managers,
    envoy,
    ext_authz,
    placed_config,
    set_endpoints,
    shop,
)
from tests.e2e.people import ACCOUNT, PASSWORD, set_password
from tests.e2e.sidecar_process import PATIENCE, Sidecar, serving
from tests.e2e.test_docs import free_port

ADA = f"arn:aws:iam::{ACCOUNT}:user/ada"
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"
OPERATOR = f"arn:aws:sts::{ACCOUNT}:assumed-role/operators/carol"
BILLING = f"arn:aws:sts::{ACCOUNT}:assumed-role/billing/shop"
BATCH = f"arn:aws:sts::{ACCOUNT}:assumed-role/batch/batch"
API_KEY = "example-key-of-the-batch"

Headers = Sequence[tuple[str, str]]

_ORDER = f"arn:aws:shop:eu-west-1:{ACCOUNT}:order"
#: Beside those of the example.
ROUTES: list[Json] = [
    {"id": "open", "path": "/open/**", "public": True},
    {
        "id": "keeps-token",
        "methods": ["GET"],
        "path": "/keeps-token/{order}",
        "action": "shop:GetOrder",
        "resource": f"{_ORDER}/{{order}}",
        "forward_token": True,
    },
    {"id": "any", "path": "/any/{rest=**}", "action": "shop:GetOrder", "resource": f"{_ORDER}/{{rest}}"},
    {"id": "delete-order", "methods": ["DELETE"], "path": "/orders/{order}", "action": "shop:DeleteOrder"}
    | {"resource": f"{_ORDER}/{{order}}"},
]


def write_company(folder: Path, *, callers: Sequence[Json] | None = None, routes: Sequence[Json] = ROUTES) -> Path:
    """
    Write the company of the example, with bob beside ada, more routes and, if so told, other callers. Operators are
    denied every refund by a policy that stands in shadow.
    """
    shutil.copytree(EXAMPLE / "company", folder)
    path = folder / "accounts" / "shop.json"
    dump = json.loads(path.read_text())
    (ada,) = dump["UserDetailList"]
    bob = {**ada, "UserName": "bob", "UserId": "AIDAEXAMPLE0000000BOB", "Arn": BOB}
    dump["UserDetailList"].append(bob)
    operators = next(role for role in dump["RoleDetailList"] if role["RoleName"] == "operators")
    deny = {"Sid": "NoRefunds", "Effect": "Deny", "Action": "shop:RefundOrder", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [deny]}
    operators["RolePolicyList"].append({"PolicyName": "later", "PolicyDocument": document})
    path.write_text(json.dumps(dump))
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    shadow = [{"policy": f"inline:{operators['Arn']}/later", "until": until}]
    (folder / "shadow.yaml").write_text(yaml.safe_dump(shadow))
    document = yaml.safe_load((folder / "routes.yaml").read_text())
    document["routes"] += routes
    if callers is not None:
        document["callers"] = list(callers)
    (folder / "routes.yaml").write_text(yaml.safe_dump(document))
    return folder


def restrict_to_office(source: Path, network: str) -> None:
    """Deny ada and the batch every order whose name begins with ``office-``, but for callers from *network*."""
    path = source / "accounts" / "shop.json"
    dump = json.loads(path.read_text())
    deny: Json = {"Effect": "Deny", "Action": "shop:GetOrder", "Resource": f"{_ORDER}/office-*"}
    deny["Condition"] = {"NotIpAddress": {"aws:SourceIp": network}}
    policy = {"PolicyName": "office", "PolicyDocument": {"Version": "2012-10-17", "Statement": [deny]}}
    ada = next(user for user in dump["UserDetailList"] if user["Arn"] == ADA)
    batch = next(role for role in dump["RoleDetailList"] if role["RoleName"] == "batch")
    ada.setdefault("UserPolicyList", []).append(policy)
    batch["RolePolicyList"].append(policy)
    path.write_text(json.dumps(dump))


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What a client gets.

    Attributes:
        headers: Names in lower case, in the order in which they came.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header that is there once, or nothing."""
        found = [value for header, value in self.headers if header == name]
        assert len(found) < 2, f"{name} is there {len(found)} times"
        return found[0] if found else ""

    @property
    def json(self) -> Json:
        """The body, of JSON."""
        value: Json = json.loads(self.body)
        return value

    @property
    def arrived(self) -> Arrived:
        """What arrived at the shop, which has answered."""
        assert self.status == 200, (self.status, self.headers, self.body)
        told = self.json
        pairs = tuple(line.partition(": ")[::2] for line in told["headers"])
        return Arrived(told["line"], pairs, told["body"])


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as the shop got it."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def target(self) -> str:
        """The path, as it stands in the request line."""
        return self.line.split(" ")[1]

    def values(self, name: str) -> list[str]:
        """Return every value of a header, however its name is spelt."""
        return [value for header, value in self.headers if header.lower().replace("_", "-") == name]


def send(
    port: int,
    target: str = "/orders/4711",
    headers: Headers = (),
    *,
    method: str = "GET",
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send a request whose line and headers are exactly those, and return what comes back."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append("host: shop.example.com")
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    lines.append("connection: close")
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
    with ExitStack() as stack:
        connection: socket.socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
        if tls is not None:
            connection = stack.enter_context(tls.wrap_socket(connection, server_hostname="localhost"))
        connection.sendall(data)
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        content = response.read()
    found = tuple((name.lower(), value) for name, value in response.getheaders())
    return Reply(response.status, found, content)


def bearer(token: str) -> tuple[str, str]:
    """Return the header that carries a token."""
    return "authorization", f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class ProtectedShop:
    """
    All of it.

    Attributes:
        envoy: On the configuration of the example, over a Unix socket.
        lax: Another one, which neither normalises nor refuses anything by itself, asks over TCP and joins headers of
            one name.
        keys: Folder of certificates and keys.
        provider: Signs JWTs.
        token: Session of ada.
    """

    sidecar: Sidecar
    source: Path
    shop: Shop
    envoy: Envoy
    lax: Envoy
    keys: Path
    provider: IdentityProvider
    token: str
    decision_log: Path

    @property
    def port(self) -> int:
        """Port of the example's Envoy."""
        return self.envoy.port()

    @property
    def origin(self) -> str:
        """Where browsers find the shop."""
        return f"http://localhost:{self.port}"

    def tls(self, certificate: str = "") -> ssl.SSLContext:
        """Return what a client needs to speak TLS, with a certificate of its own if so told."""
        context = ssl.create_default_context(cafile=str(self.keys / "ca.pem"))
        if certificate:
            context.load_cert_chain(self.keys / f"{certificate}.pem", self.keys / f"{certificate}.key")
        return context

    def jwt(self, **claims: Any) -> str:
        """Return a JWT of carol, who is an operator unless *claims* say otherwise."""
        return self.provider.token(**{"sub": "carol", "groups": ["operators"], **claims})


def sign_in(sidecar: Sidecar, user: str = "ada") -> str:
    """Return a session token of somebody."""
    with SessionClient(sidecar.address("management"), timeout=PATIENCE) as sessions:
        return sessions.sign_in(ACCOUNT, user, PASSWORD).session_token


def make_lax(config: Json) -> None:
    """Have Envoy pass everything on as it is."""
    for manager in connection_managers(config):
        manager["normalize_path"] = manager["merge_slashes"] = False
        manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"
        manager["common_http_protocol_options"]["headers_with_underscores_action"] = "ALLOW"
    for settings in ext_authz(config):
        settings["encode_raw_headers"] = False


@contextmanager
def protected_shop(
    folder: Path, *, source: Path | None = None, users: Sequence[str] = (ADA,)
) -> Iterator[ProtectedShop]:
    """Run all of it for the length of the block; *users* can sign in, and the first one has."""
    source = source or write_company(folder / "company")
    provider = make_keys(folder / "keys")
    port = free_port()
    decision_log = folder / "decisions.jsonl"
    listeners = ["--data", f"unix:{folder}/data.sock", "--data", "127.0.0.1:0", "--prompt", "127.0.0.1:0"]
    public = ["--public-url", f"http://localhost:{port}/.iam-sidecar", "--decision-log", str(decision_log)]
    with ExitStack() as stack:
        behind = stack.enter_context(shop())
        sidecar = stack.enter_context(serving(source, folder / "state", *listeners, *public))
        for user in users:
            set_password(sidecar, source, user)
        tcp = next(address for address in sidecar.addresses("data") if not address.startswith("unix:"))
        config = placed_config(
            data=f"unix:{folder}/data.sock",
            keys=folder / "keys",
            folder=folder,
            shop=behind.http,
            shop_grpc=behind.grpc,
            prompt=sidecar.address("prompt"),
        )
        lax = json.loads(json.dumps(config).replace(f"{folder}/access.log", f"{folder}/lax.log"))
        config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
        set_endpoints(lax, "iam-sidecar", [tcp])
        make_lax(lax)
        running = stack.enter_context(envoy(config, folder / "envoy"))
        lax_running = stack.enter_context(envoy(lax, folder / "lax"))
        token = sign_in(sidecar) if users else ""
        yield ProtectedShop(
            sidecar, source, behind, running, lax_running, folder / "keys", provider, token, decision_log
        )


def cookies(values: Mapping[str, str]) -> tuple[str, str]:
    """Return the header that carries cookies."""
    return "cookie", "; ".join(f"{name}={value}" for name, value in values.items())
