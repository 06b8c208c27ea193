# SPDX-License-Identifier: Apache-2.0
"""
People who sign in at a real sidecar: a source with them, their passwords and their keys.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fido2.client import DefaultClientDataCollector, Fido2Client

from sidecar.mfa.totp import generate_code
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc
from tests.authenticators import Ctap2Key, U2fKey, plug
from tests.e2e.sidecar_process import PATIENCE, Sidecar, clean_environment

ACCOUNT = "111122223333"
ADA = f"arn:aws:iam::{ACCOUNT}:user/ada"
BOB = f"arn:aws:iam::{ACCOUNT}:user/finance/bob"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/refunds"
ORDERS = f"arn:aws:payments:eu-west-1:{ACCOUNT}:order"
PASSWORD = "correct Horse battery 9 staple"
ORIGIN = "https://localhost"
#: Seconds for which a proof is fresh enough for a refund.
FRESH_SECONDS = 4


def write_people(folder: Path, *, users: Sequence[str] = (ADA, BOB)) -> Path:
    """
    Write a source whose users may read orders, pay refunds with a proof of `FRESH_SECONDS`, and assume a role that may
    ship orders, and send them back with a proof.
    """
    allowed = [
        _statement("Read", "payments:Get*"),
        _statement("Refund", "payments:Refund", {"NumericLessThan": {"aws:MultiFactorAuthAge": str(FRESH_SECONDS)}}),
        _statement("Close", "payments:CloseOrder", {"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
        {"Sid": "Assume", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE},
    ]
    role = [
        _statement("Ship", "payments:Ship"),
        _statement("Return", "payments:Return", {"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
    ]
    trust = [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}]
    dump = {
        "UserDetailList": [_user(arn, number, allowed) for number, arn in enumerate(users)],
        "GroupDetailList": [],
        "RoleDetailList": [
            {
                "Path": "/",
                "RoleName": "refunds",
                "RoleId": "AROAEXAMPLE0000000000",
                "Arn": ROLE,
                "CreateDate": "2024-05-01T12:00:00+00:00",
                "AssumeRolePolicyDocument": _document(trust),
                "InstanceProfileList": [],
                "RolePolicyList": [{"PolicyName": "orders", "PolicyDocument": _document(role)}],
                "AttachedManagedPolicies": [],
                "Tags": [],
            }
        ],
        "Policies": [],
    }
    (folder / "accounts").mkdir(parents=True, exist_ok=True)
    (folder / "accounts" / "main.json").write_text(json.dumps(dump))
    return folder


def set_password(sidecar: Sidecar, source: Path, user_arn: str = ADA, password: str = PASSWORD) -> None:
    """Give a user a password, as the administrator does beside the sidecar."""
    command = [sys.executable, "-m", "sidecar", "user", "set-password", "--stdin", "--user", user_arn]
    run = subprocess.run(
        [*command, "--snapshot", str(source), "--state-dir", str(sidecar.state_dir)],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr


def enrol_key(sidecar: Sidecar, key: Ctap2Key | U2fKey, user_arn: str = ADA, name: str = "yubikey") -> str:
    """Enrol a key for a user, as the administrator, and give its serial number."""
    begin = pb.BeginKeyRegistrationRequest(user_arn=user_arn, device_name=name)
    ceremony = _as_administrator(sidecar, "BeginKeyRegistration", begin)
    with plug(key) as device:
        client = Fido2Client(device, client_data_collector=DefaultClientDataCollector(ORIGIN))
        response = client.make_credential(json.loads(ceremony.options_json))
    finish = pb.FinishCeremonyRequest(ceremony_id=ceremony.ceremony_id, response_json=json.dumps(dict(response)))
    return str(_as_administrator(sidecar, "FinishKeyRegistration", finish).serial_number)


def enrol_phone(sidecar: Sidecar, user_arn: str = ADA, name: str = "phone") -> bytes:
    """Enrol an authenticator app for a user, as the administrator, and give its secret; codes of now are spent."""
    request = pb.BeginTotpEnrollmentRequest(user_arn=user_arn, device_name=name)
    begun = _as_administrator(sidecar, "BeginTotpEnrollment", request)
    secret = base64.b32decode(begun.secret_base32)
    step = int(time.time() // 30)
    codes = [generate_code(secret, step + shift) for shift in (-1, 0)]
    pair = pb.TotpCodePair(serial_number=begun.serial_number, code1=codes[0], code2=codes[1])
    _as_administrator(sidecar, "ConfirmTotpEnrollment", pair)
    return secret


def next_code(secret: bytes) -> str:
    """Give the code of the step after this one, which a sidecar takes, too."""
    return generate_code(secret, int(time.time() // 30) + 1)


def touch(key: Ctap2Key | U2fKey, options_json: str) -> str:
    """Have a key answer request options."""
    with plug(key) as device:
        client = Fido2Client(device, client_data_collector=DefaultClientDataCollector(ORIGIN))
        response = client.get_assertion(json.loads(options_json)).get_response(0)
    return json.dumps(dict(response))


def audit_records(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Give the audit trail."""
    return [json.loads(line) for line in (sidecar.state_dir / "audit.jsonl").read_text().splitlines()]


def _as_administrator(sidecar: Sidecar, name: str, request: Any) -> Any:
    with sidecar.channel() as channel:
        method = getattr(pb_grpc.MfaServiceStub(channel), name)
        return method(request, metadata=sidecar.credentials, timeout=PATIENCE)


def _statement(sid: str, action: str, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement = {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": f"{ORDERS}/*"}
    return statement if condition is None else {**statement, "Condition": condition}


def _document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _user(arn: str, number: int, statements: list[dict[str, Any]]) -> dict[str, Any]:
    path, _, name = arn.partition(":user/")[2].rpartition("/")
    return {
        "Path": f"/{path}/" if path else "/",
        "UserName": name,
        "UserId": f"AIDAEXAMPLE{number:010}",
        "Arn": arn,
        "CreateDate": "2024-05-01T12:00:00+00:00",
        "UserPolicyList": [{"PolicyName": "orders", "PolicyDocument": _document(statements)}],
        "GroupList": [],
        "AttachedManagedPolicies": [],
        "Tags": [],
    }
