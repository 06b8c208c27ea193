# SPDX-License-Identifier: Apache-2.0
"""
Stepping up through a real Envoy: a browser, an API client and a gRPC client are each told what would help, prove a
second factor, and get what they came for. The shop knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from sidecar.client import StepUpClient
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc
from tests.authenticators import Ctap2Key
from tests.e2e.chromium import Chromium, Context, Page, find_chromium
from tests.e2e.envoy_process import envoy_program
from tests.e2e.people import ACCOUNT, PASSWORD, enrol_key, touch
from tests.e2e.protected_shop import ADA, BOB, ProtectedShop, bearer, protected_shop, send, sign_in
from tests.e2e.sidecar_process import PATIENCE, eventually
from tests.e2e.test_envoy_decisions import error_info, grpc_call

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProtectedShop]:
    envoy_program()
    with protected_shop(tmp_path_factory.mktemp("step-up"), users=(ADA, BOB)) as running:
        yield running


@pytest.fixture(scope="module")
def key(house: ProtectedShop) -> Ctap2Key:
    """The key of ada, who has it plugged in where her programs run."""
    key = Ctap2Key()
    enrol_key(house.sidecar, key, ADA)
    return key


def redeem(house: ProtectedShop, token: str, ticket: str) -> pb.Challenge:
    """Make a challenge of a ticket."""
    with house.sidecar.channel() as channel:
        request = pb.BeginChallengeRequest(session_token=token, step_up_ticket=ticket)
        challenge: pb.Challenge = pb_grpc.MfaServiceStub(channel).BeginChallenge(
            request, metadata=(bearer(token),), timeout=PATIENCE
        )
        return challenge


def prove(house: ProtectedShop, key: Ctap2Key, token: str, ticket: str) -> str:
    """Redeem a ticket, touch the key, and return the token that says so."""
    challenge = redeem(house, token, ticket)
    with StepUpClient(house.sidecar.address("management"), timeout=PATIENCE) as step_up:
        proved = step_up.answer(token, challenge.challenge_id, assertion_json=touch(key, challenge.options_json))
    assert proved is not None
    return proved


def test_api_client_when_a_proof_is_needed_then_the_ticket_leads_to_it(house: ProtectedShop, key: Ctap2Key) -> None:
    token = sign_in(house.sidecar)
    refused = send(house.port, "/orders/4711/refund", [bearer(token)], method="POST", body=b"")

    # SPEC: RFC 9470, section 3.
    assert refused.status == 401
    challenge = refused.header("www-authenticate")
    assert challenge.startswith("Bearer ")
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'max_age="299"' in challenge
    assert 'acr_values="webauthn' in challenge
    told = refused.json
    assert told["error"] == "insufficient_user_authentication"
    assert told["request_id"] == refused.header("x-request-id")
    assert told["max_age"] == 299
    assert "webauthn" in told["methods"]
    assert told["prompt_url"] == f"{house.origin}/.iam-sidecar/step-up?ticket={told['step_up_ticket']}"

    proved = prove(house, key, token, told["step_up_ticket"])

    allowed = send(house.port, "/orders/4711/refund", [bearer(proved)], method="POST", body=b"")
    assert allowed.arrived.values("x-iam-principal") == [ADA]
    assert send(house.port, "/orders/12/refund", [bearer(proved)], method="POST", body=b"").status == 200
    assert send(house.port, "/orders/4711/refund", [bearer(token)], method="POST", body=b"").status == 401


def test_ticket_when_it_is_redeemed_again_or_by_others_then_nothing_is_gained(
    house: ProtectedShop, key: Ctap2Key
) -> None:
    token, other = sign_in(house.sidecar), sign_in(house.sidecar, "bob")
    ticket = send(house.port, "/reports/may", [bearer(token)]).json["step_up_ticket"]

    first, again = redeem(house, token, ticket), redeem(house, token, ticket)
    assert first.challenge_id == again.challenge_id
    for who, what in ((other, ticket), (token, ticket[:-4] + "AAAA")):
        with pytest.raises(grpc.RpcError):
            redeem(house, who, what)


def test_grpc_client_when_a_proof_is_needed_then_it_is_for_that_call_alone(house: ProtectedShop, key: Ctap2Key) -> None:
    token = sign_in(house.sidecar)
    refused, _ = grpc_call(house.envoy, "Refund", [bearer(token), ("order-id", "7")])

    proved = prove(house, key, token, error_info(refused).metadata["step_up_ticket"])

    error, arrived = grpc_call(house.envoy, "Refund", [bearer(proved), ("order-id", "7")])
    assert error is None
    assert ["x-iam-principal", ADA] in arrived["metadata"]
    other, _ = grpc_call(house.envoy, "Refund", [bearer(proved), ("order-id", "8")])
    assert error_info(other).reason == "MFA_REQUIRED", "the route says that a proof is for one call"


def test_caller_without_a_session_when_a_proof_is_needed_then_it_is_told_to_sign_in(house: ProtectedShop) -> None:
    # Only a session can carry a proof, and operators have none to give for large amounts.
    reply = send(house.port, "/orders/1/refund?amount=800", [bearer(house.jwt())], method="POST", body=b"")

    assert reply.status == 403
    assert "step_up_ticket" not in reply.json


needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def context(chromium: Chromium) -> Iterator[Context]:
    with chromium.context() as context:
        yield context


def sign_in_here(page: Page, user: str) -> None:
    """Sign somebody in on the page that asks for it."""
    page.fill(account=ACCOUNT, user_name=user, password=PASSWORD)
    page.follow("main form button")


def arrived(page: Page) -> str:
    """Wait until the shop's page is there, and return what it says."""
    page.wait("document.body.innerText.startsWith('{')")
    return page.text


@needs_chromium
def test_browser_when_a_page_takes_a_proof_then_it_signs_in_touches_and_comes_back(
    house: ProtectedShop, context: Context
) -> None:
    page = context.page()
    page.plug_in()

    # Nobody yet: the browser is sent to sign in, and comes back to what it asked for.
    page.goto(f"{house.origin}/orders/4711?tab=lines")
    assert page.url.startswith(f"{house.origin}/.iam-sidecar/sign-in?next=")
    sign_in_here(page, "bob")
    assert f'"{BOB}"' in arrived(page)
    assert page.url == f"{house.origin}/orders/4711?tab=lines"
    assert "sidecar-session" not in page.text, "the session stays between the browser and Envoy"

    # A key, added on the same host.
    page.goto(f"{house.origin}/.iam-sidecar/devices/add-key")
    page.fill(name="blue-key")
    page.follow("main form button")
    page.follow("[data-start]")
    assert page.heading == "Your devices", page.text

    # A page that takes a proof: the browser is led to the prompt, the key is touched, and the page is there.
    page.goto(f"{house.origin}/reports/may?page=2")
    assert page.url.startswith(f"{house.origin}/.iam-sidecar/challenge/"), page.url
    assert "report/may" in page.text
    page.leave_by(lambda: page.click("[data-start]"))
    assert f'"{BOB}"' in arrived(page)
    assert page.url == f"{house.origin}/reports/may?page=2"

    # A form that is sent without a proof is not lost: the proof is given in another tab, and the form sent again.
    house_forget_proof(page, house)
    page.goto(f"{house.origin}/orders/4711")
    form = "const f = document.createElement('form'); f.method = 'post'; f.action = '/orders/4711/refund?amount=80';"
    field = "f.innerHTML = '<input name=why value=broken>'; document.body.append(f); f.submit()"
    page.leave_by(lambda: page.evaluate(f"{{ {form} {field} }}"))
    assert "confirm" in page.text.lower()
    link = page.evaluate("document.querySelector('a[target=_blank]').href")
    assert link.startswith(f"{house.origin}/.iam-sidecar/step-up?ticket=")
    second = context.page()
    second.plug_in()
    second.goto(link)
    assert second.url.startswith(f"{house.origin}/.iam-sidecar/challenge/"), second.text
    assert page.complaints() == []


def house_forget_proof(page: Page, house: ProtectedShop) -> None:
    """Sign out and in again: the new session has proved nothing."""
    page.goto(f"{house.origin}/.iam-sidecar/devices")
    page.call("Network.clearBrowserCookies")
    page.goto(f"{house.origin}/orders/1")
    sign_in_here(page, "bob")


@needs_chromium
def test_prompt_when_it_shares_the_host_then_the_shops_pages_cannot_speak_for_it(
    house: ProtectedShop, context: Context
) -> None:
    page = context.page()
    page.goto(f"{house.origin}/.iam-sidecar/devices")
    sign_in_here(page, "bob")
    page.goto(f"{house.origin}/open/page")
    assert page.evaluate("document.cookie") == ""
    status = page.evaluate(
        "fetch('/.iam-sidecar/sign-out', {method: 'POST', body: new URLSearchParams()}).then(r => r.status)"
    )
    assert status in (400, 403, 404)
    eventually(lambda: "sidecar-session" not in page.text)
