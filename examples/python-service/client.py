# SPDX-License-Identifier: Apache-2.0
"""
A client of the shop: it signs in, calls, and has its person prove themselves when the shop's answer says so.

Run as ``python examples/python-service/client.py enrol`` once, and then ``... refund 4711``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import grpc
from software_key import SoftwareKey

from sidecar.client import Session, SessionClient, StepUpClient, StepUpPrompt, proof_required_by
from sidecar.wire.sidecar.v1 import mfa_pb2, mfa_pb2_grpc

shop, shop_grpc = grpc.protos_and_services("shop.proto")


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call by whoever holds a session."""
    return (("authorization", f"Bearer {token}"),)


def enrol(management: str, session: Session, key: SoftwareKey) -> None:
    """Enrol the key for the person who has signed in."""
    with grpc.insecure_channel(management) as channel:
        devices = mfa_pb2_grpc.MfaServiceStub(channel)
        ceremony = devices.BeginKeyRegistration(
            mfa_pb2.BeginKeyRegistrationRequest(user_arn=session.principal_arn, device_name="software"),
            metadata=bearer(session.session_token),
        )
        device = devices.FinishKeyRegistration(
            mfa_pb2.FinishCeremonyRequest(
                ceremony_id=ceremony.ceremony_id, response_json=key.register(ceremony.options_json)
            ),
            metadata=bearer(session.session_token),
        )
    print(f"enrolled a {device.kind} key for {device.user_arn}")


def call_shop(method: Any, number: int, session: Session, step_up: StepUpClient, key: SoftwareKey) -> Any:
    """Call the shop; where it asks for a proof, give that and call again."""
    request = shop.OrderRequest(number=number)
    try:
        return method(request, metadata=bearer(session.session_token))
    except grpc.RpcError as error:
        required = proof_required_by(error)
        if required is None:
            raise

        def touch(prompt: StepUpPrompt) -> str | None:
            # Somebody with a real key would be shown `prompt.prompt_url` and `prompt.user_code` here.
            print(f"touch your security key to approve {prompt.action} on {prompt.resource}")
            answer = key.prove(prompt.options_json)
            return step_up.answer(session.session_token, prompt.challenge_id, assertion_json=answer)

        token = step_up.step_up(session.session_token, touch, action=required.action, resource=required.resource)
        return method(request, metadata=bearer(token))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="A client of the shop.")
    parser.add_argument("command", choices=["enrol", "get", "refund"])
    parser.add_argument("number", type=int, nargs="?", default=4711, help="of the order")
    parser.add_argument("--shop", default="unix:shop.sock", help="address of the shop")
    parser.add_argument("--management", default="127.0.0.1:9192", help="management listener of the sidecar")
    parser.add_argument("--key", type=Path, default=Path("key.pem"), help="file of the key")
    parser.add_argument("--origin", default="https://localhost", help="what the key is used from")
    arguments = parser.parse_args()
    key = SoftwareKey(arguments.key, arguments.origin)
    with SessionClient(arguments.management) as sessions, StepUpClient(arguments.management) as step_up:
        session = sessions.sign_in("111122223333", "ada", sys.stdin.readline().rstrip("\n"))
        if arguments.command == "enrol":
            enrol(arguments.management, session, key)
            return
        with grpc.insecure_channel(arguments.shop) as channel:
            orders = shop_grpc.OrdersStub(channel)
            method = orders.Get if arguments.command == "get" else orders.Refund
            order = call_shop(method, arguments.number, session, step_up, key)
        state = f"refunded by {order.changed_by}" if order.is_refunded else "paid"
        print(f"order {order.number}: {order.euros} euros, {state}")


if __name__ == "__main__":
    main()
