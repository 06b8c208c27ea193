# SPDX-License-Identifier: Apache-2.0
"""
What holds of the shop behind every proxy that asks the sidecar by HTTP.
"""

from __future__ import annotations

from sidecar.transports.prompt.address import SESSION_COOKIE, PublicAddress
from tests.e2e.protected_shop import ADA, Headers, bearer, cookies, send

BROWSER: Headers = [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")]


def check_session_arrives(port: int, token: str) -> None:
    """See that ada arrives at the shop as who she is, and her session does not."""
    name = PublicAddress.parse(f"http://localhost:{port}").cookie_name(SESSION_COOKIE)
    for headers in ([bearer(token)], [cookies({"theme": "dark", name: token})]):
        arrived = send(port, "/orders/1?a=%20b", headers).arrived
        assert arrived.target == "/orders/1?a=%20b"
        assert arrived.values("x-iam-principal") == [ADA]
        assert arrived.values("x-iam-route") == ["get-order"]
        assert token not in str(arrived)
    assert arrived.values("cookie") == ["theme=dark"]
    alone = send(port, "/orders/1", [cookies({name: token})]).arrived
    assert token not in str(alone)
    assert "".join(alone.values("cookie")) == ""


def check_body_arrives(port: int) -> None:
    """See that the sidecar is asked without the body, and the shop gets it."""
    arrived = send(port, "/open/page", method="POST", body=b"x" * 100_000).arrived
    assert arrived.body == "x" * 100_000
    assert arrived.line.startswith("POST ")


def check_client_is_told(port: int, token: str) -> None:
    """See that a program is told of a denial, and what it can do about it."""
    origin = f"http://localhost:{port}"
    denied = send(port, "/orders/1", [bearer(token)], method="DELETE")
    assert denied.status == 403
    assert denied.json["error"] == "access_denied"
    nobody = send(port, "/orders/1")
    assert nobody.status == 401
    assert nobody.header("www-authenticate").startswith("Bearer")
    assert nobody.json["error"] == "unauthenticated"
    assert send(port, "/nowhere", [bearer(token)]).status == 403
    proof = send(port, "/reports/may", [bearer(token)])
    assert proof.status == 401
    assert 'error="insufficient_user_authentication"' in proof.header("www-authenticate")
    assert proof.json["prompt_url"].startswith(f"{origin}/.iam-sidecar/step-up?ticket=")


def check_browser_is_sent_to_sign_in(port: int) -> None:
    """See that a person who has not signed in is sent to where they can."""
    origin = f"http://localhost:{port}"
    host = ("host", f"localhost:{port}")
    reply = send(port, "/orders/1?tab=2", [host, *BROWSER])
    assert reply.status == 303
    location = reply.header("location")
    assert location.startswith(f"{origin}/.iam-sidecar/sign-in?next=")
    page = send(port, location.removeprefix(origin), [host, *BROWSER])
    assert page.status == 200
    assert b"password" in page.body
