# SPDX-License-Identifier: Apache-2.0
import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import main
from tests.unit.compile.dumps import encode, full_page

Capture = pytest.CaptureFixture[str]
Json = dict[str, Any]

ARN = "arn:aws:orders:eu-west-1:111122223333"
CALLERS: list[Json] = [
    {"session_token": {}},
    {
        "jwt": {
            "filter": "my.jwt",
            "rules": [
                {
                    "when": [{"claim": "iss", "is": "https://idp.example"}],
                    "role": "arn:aws:iam::111122223333:role/web",
                    "session_name": "{jwt.sub}",
                }
            ],
        }
    },
    {
        "certificate": {
            "rules": [
                {
                    "san": "spiffe://a.example/{ns}",
                    "role": "arn:aws:iam::111122223333:role/web",
                    "session_name": "{ns}",
                }
            ]
        }
    },
]
ROUTES: list[Json] = [
    {"id": "assets", "path": "/static/**", "public": True},
    {
        "id": "get-order",
        "methods": ["GET"],
        "path": "/orders/{order}",
        "action": "orders:Get",
        "resource": f"{ARN}:order/{{order}}",
        "context": {"orders:Tenant": "{header.x-tenant}", "orders:Zone": "{extension.zone}"},
    },
    {"id": "any-order", "path": "/orders/**", "action": "orders:Do", "resource": f"{ARN}:order/{{query.id}}"},
    {
        "id": "shop",
        "hosts": ["shop.example.com"],
        "path": "/",
        "action": "orders:Look",
        "resource": "*",
        "forward_token": True,
    },
]


def write_routes(path: Path, routes: list[Json] | None = None, **more: object) -> Path:
    """Make a source with routes."""
    (path / "accounts").mkdir(parents=True)
    (path / "accounts" / "main.json").write_bytes(encode(full_page()))
    (path / "routes.json").write_bytes(
        encode({"callers": CALLERS, "routes": ROUTES if routes is None else routes, **more})
    )
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_routes(tmp_path / "source")


def run(*arguments: object) -> int:
    """Run the command line, and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(["routes", *[str(argument) for argument in arguments]])
    return int(caught.value.code or 0)


def match_of(capsys: Capture, source: Path, *arguments: object, status: int = 0) -> Json:
    assert run("match", *arguments, "--snapshot", source, "--json") == status
    found: Json = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("command", ["check", "match", "from-openapi"])
def test_help_when_asked_then_it_teaches(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"iam-sidecar routes {command}" in text
    assert "Examples:" in text
    assert "\b" not in text


# check


def test_check_when_the_routes_are_good_then_they_are_listed_as_they_win(source: Path, capsys: Capture) -> None:
    assert run("check", source) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{source}: 0 errors, 0 warnings: 4 routes"
    table = [line.split() for line in lines[2:7]]
    assert table[0] == ["HOST", "METHOD", "PATH", "ROUTE", "MEANS"]
    assert [row[3] for row in table[1:]] == ["shop", "get-order", "any-order", "assets"]
    assert table[2] == ["*", "GET", "/orders/{order}", "get-order", "orders:Get", "on", f"{ARN}:order/{{order}}"]
    assert "  1. session_token in the header or the cookie" in lines
    sessions = "arn:aws:sts::111122223333:assumed-role/web"
    assert f"  2. jwt where iss is https://idp.example: {sessions}/{{jwt.sub}}" in lines
    assert f"  3. certificate of spiffe://a.example/{{ns}}: {sessions}/{{ns}}" in lines
    assert "public, nothing is asked: assets" in lines
    assert "the upstream gets the session token: shop" in lines


def test_check_when_it_is_for_programs_then_json(source: Path, capsys: Capture) -> None:
    assert run("check", source, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["errors"], shown["problems"]) == (True, 0, [])
    assert [route["id"] for route in shown["routes"]["routes"]] == ["shop", "get-order", "any-order", "assets"]
    assert [rule["source"] for rule in shown["routes"]["callers"]] == ["session_token", "jwt", "certificate"]


def test_check_when_the_routes_are_bad_then_status_1_and_the_problems(tmp_path: Path, capsys: Capture) -> None:
    source = write_routes(tmp_path / "bad", [{"id": "a", "path": "orders", "public": True}])
    assert run("check", source) == 1
    text = capsys.readouterr().out
    assert "$.routes[0].path: the path `orders` does not begin with a slash" in text
    assert text.endswith(f"{source}: 1 error, 0 warnings\n")
    assert run("check", source, "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["routes"]) == (False, None)


def test_check_when_there_are_warnings_then_only_strict_fails(source: Path, capsys: Capture) -> None:
    (source / "notes.txt").write_text("")
    assert run("check", source) == 0
    assert run("check", source, "--strict") == 1
    assert "1 warning" in capsys.readouterr().out


def test_check_when_there_is_no_file_of_routes_then_it_says_what_that_means(source: Path, capsys: Capture) -> None:
    (source / "routes.json").unlink()
    assert run("check", source) == 0
    assert "no routes.yaml, so every request of Envoy is denied" in capsys.readouterr().out


# match


def test_match_when_a_route_takes_it_then_everything_is_explained(source: Path, capsys: Capture) -> None:
    options = ("-H", "X-Tenant: acme", "--extension", "zone=a", "--peer", "spiffe://a.example/shop")
    found = match_of(capsys, source, "GET", "/orders/47%2011?x=1", *options, "--source-ip", "203.0.113.9")
    assert (found["result"], found["reason"], found["fault"]) == ("asked", "", None)
    assert found["segments"] == ["orders", "47 11"]
    assert found["route"]["id"] == "get-order"
    assert found["captures"] == {"order": "47 11"}
    assert found["others"] == [{"id": "any-order", "host": "*", "fits_host": True, "fits_method": True}]
    principal = "arn:aws:sts::111122223333:assumed-role/web/shop"
    assert found["caller"] == {"source": "certificate", "rule": 3, "principal": principal}
    assert (found["action"], found["resource"]) == ("orders:Get", f"{ARN}:order/47 11")
    assert found["context"] == {
        "aws:SourceIp": ["203.0.113.9"],
        "aws:SecureTransport": ["true"],
        "orders:Tenant": ["acme"],
        "orders:Zone": ["a"],
    }


def test_match_when_it_is_for_people_then_it_says_how_to_go_on(source: Path, capsys: Capture) -> None:
    assert run("match", "GET", "/orders/4711", "--peer", "spiffe://a.example/shop", "--snapshot", source) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ASKED the policies decide"
    assert "  route     get-order: GET /orders/{order}" in lines
    assert "            less specific: any-order, any /orders/**" in lines
    assert "  value     order = 4711" in lines
    assert lines[-2] == "ask the policies:"
    command = shlex.split(lines[-1])
    assert command[:2] == ["iam-sidecar", "explain"]
    with pytest.raises(SystemExit) as caught:
        main(command[1:])
    assert caught.value.code == 3
    assert "is not authorized to perform orders:Get" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/orders/%2e%2e/x", "the segment `%2e%2e` means another folder"),
        ("/orders//x", "two slashes follow each other"),
        ("//orders", "two slashes follow each other"),
        ("/a%2fb", "holds an encoded slash"),
        ("/a;b", "holds a `;`"),
        ("/a%00", "holds a control character"),
        ("/a%5cb", "holds a backslash"),
        ("/a%252e", "is encoded twice"),
        ("/a%c0%af", "is not valid UTF-8"),
        ("/a%4", "followed by no two hexadecimal digits"),
        ("/a#b", "the character `#` stands in it raw"),
        ("a", "does not begin with a slash"),
        ("/x" * 65, "more than 64 segments"),
        ("/" + "x" * 8192, "more than 8,192 bytes"),
    ],
)
def test_match_when_the_path_is_refused_then_it_says_why(
    source: Path, capsys: Capture, target: str, words: str
) -> None:
    assert run("match", "GET", target, "--snapshot", source) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DENIED path_invalid: the path could be read in more than one way"
    assert words in lines[1]


def test_match_when_nothing_fits_then_it_says_what_nearly_did(source: Path, capsys: Capture) -> None:
    assert run("match", "GET", "http://other.example/", "--snapshot", source) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DENIED no_route: no route fits"
    assert "            fits but for its host: shop, any / on shop.example.com" in lines


def test_match_when_a_value_is_missing_then_it_is_denied_with_the_template(source: Path, capsys: Capture) -> None:
    peer = ("--peer", "spiffe://a.example/shop")
    assert run("match", "PUT", "/orders/1", *peer, "--snapshot", source) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("DENIED route_value_invalid: a value that the route asks for is missing")
    assert f"  resource  {ARN}:order/{{query.id}}" in lines


def test_match_when_nobody_calls_then_it_is_denied(source: Path, capsys: Capture) -> None:
    found = match_of(capsys, source, "GET", "/orders/1", status=3)
    assert (found["result"], found["reason"]) == ("denied", "caller_unknown")
    assert found["caller"] == {"source": "none", "rule": None, "principal": ""}


def test_match_when_a_session_token_is_there_then_it_is_never_shown(source: Path, capsys: Capture) -> None:
    token = "a-token-that-nobody-may-see"
    for header in (f"Authorization: Bearer {token}", f"Cookie: a=b; __Host-sidecar-session={token}"):
        assert run("match", "GET", "/orders/1", "--header", header, "--snapshot", source) == 0
        text = capsys.readouterr().out
        assert "rule 1 of 3, session_token: whoever the session token names" in text
        assert token not in text
        assert match_of(capsys, source, "GET", "/orders/1", "-H", header)["caller"]["source"] == "session_token"


def test_match_when_claims_are_given_then_they_stand_where_the_rules_look(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"iss": "https://idp.example", "sub": "ada"}))
    found = match_of(capsys, source, "GET", "/orders/1", "--jwt", claims)
    assert found["caller"]["principal"] == "arn:aws:sts::111122223333:assumed-role/web/ada"
    claims.write_text("[]")
    assert run("match", "GET", "/", "--jwt", claims, "--snapshot", source) == 1
    assert "is no object of JSON" in capsys.readouterr().err


def test_match_when_the_route_is_public_then_nobody_needs_to_call(source: Path, capsys: Capture) -> None:
    assert run("match", "GET", "/static/a/b.css", "--snapshot", source) == 0
    assert capsys.readouterr().out.startswith("PUBLIC nothing is asked\n")
    assert match_of(capsys, source, "GET", "/static/")["result"] == "public"


@pytest.mark.parametrize(
    ("url", "host_fits", "secure"),
    [
        ("https://shop.example.com", True, "true"),
        ("HTTP://Shop.Example.com:80/", True, "false"),
        ("http://shop.example.com?x=1", True, "false"),
        ("/", False, "true"),
    ],
)
def test_match_when_the_url_is_whole_then_scheme_and_host_count(
    source: Path, capsys: Capture, url: str, host_fits: bool, secure: str
) -> None:
    peer = ("--peer", "spiffe://a.example/shop")
    found = match_of(capsys, source, "GET", url, *peer, status=0 if host_fits else 3)
    assert (found["route"] is not None) == host_fits
    if host_fits:
        assert found["context"]["aws:SecureTransport"] == [secure]


def test_match_when_the_source_has_no_routes_then_it_is_denied(source: Path, capsys: Capture) -> None:
    (source / "routes.json").unlink()
    assert match_of(capsys, source, "GET", "/", status=3)["reason"] == "no_route"


@pytest.mark.parametrize(("option", "value"), [("--header", "no colon"), ("--extension", "=x")])
def test_match_when_an_option_is_malformed_then_one_clear_line(
    source: Path, capsys: Capture, option: str, value: str
) -> None:
    assert run("match", "GET", "/", option, value, "--snapshot", source) == 1
    assert f"`{value}` is no" in capsys.readouterr().err


def test_match_when_the_snapshot_is_bad_or_an_image_then_one_clear_line(tmp_path: Path, capsys: Capture) -> None:
    bad = write_routes(tmp_path / "bad", [{"id": "a"}])
    assert run("match", "GET", "/", "--snapshot", bad) == 1
    assert "has 3 errors" in capsys.readouterr().err
    good = write_routes(tmp_path / "good")
    with pytest.raises(SystemExit):
        main(["compile", str(good), "-o", str(tmp_path / "good.image")])
    assert run("match", "GET", "/", "--snapshot", tmp_path / "good.image") == 1
    assert "name the source of it" in capsys.readouterr().err


# from-openapi


def test_openapi_when_a_document_is_given_then_its_routes_load(source: Path, tmp_path: Path, capsys: Capture) -> None:
    document = tmp_path / "api.yaml"
    document.write_text("openapi: 3.0.3\npaths:\n  /things/{thing}:\n    get: {operationId: getThing}\n")
    (source / "routes.json").unlink()
    output = source / "routes.yaml"
    arguments = ("--service", "things", "--account", "111122223333")
    assert run("from-openapi", document, *arguments, "-o", output) == 0
    assert capsys.readouterr().out == f"{output}: 1 route, 0 warnings\n"
    assert run("check", source, "--strict") == 0
    assert "things:GetThing on arn:aws:things::111122223333:things/{thing}" in capsys.readouterr().out
    assert run("from-openapi", document, *arguments) == 0
    assert capsys.readouterr().out == output.read_text()


def test_openapi_when_something_is_left_out_then_it_goes_to_standard_error(tmp_path: Path, capsys: Capture) -> None:
    document = tmp_path / "api.json"
    document.write_text(json.dumps({"openapi": "3.1.0", "paths": {"/{a}{b}": {"get": {"operationId": "x"}}}}))
    assert run("from-openapi", document, "--service", "things") == 0
    captured = capsys.readouterr()
    assert "it is left out" in captured.err
    assert captured.out.endswith("routes: []\n")


@pytest.mark.parametrize(
    ("content", "words"), [("{", "not JSON"), ("a: &b c", "an anchor"), ("swagger: '2.0'", "version 2")]
)
def test_openapi_when_it_is_no_such_document_then_one_clear_line(
    tmp_path: Path, capsys: Capture, content: str, words: str
) -> None:
    document = tmp_path / "api"
    document.write_text(content)
    assert run("from-openapi", document, "--service", "things") == 1
    assert words in capsys.readouterr().err
    assert run("from-openapi", tmp_path / "none", "--service", "things") == 1
    assert "cannot be read" in capsys.readouterr().err


# what stands in shadow


@pytest.fixture
def shadowed(source: Path) -> Path:
    # Shadows last a year at most.
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    (source / "shadow.json").write_bytes(encode([{"route": "get-order", "until": until}]))
    return source


def test_check_when_a_route_stands_in_shadow_then_it_is_marked(shadowed: Path, capsys: Capture) -> None:
    assert run("check", shadowed) == 0
    rows = {line.split()[3]: line for line in capsys.readouterr().out.splitlines()[3:7]}
    assert "  in shadow: orders:Get on " in rows["get-order"]
    assert "in shadow" not in rows["any-order"]
    assert run("check", shadowed, "--json") == 0
    routes = json.loads(capsys.readouterr().out)["routes"]["routes"]
    assert {route["id"]: route["in_shadow"] for route in routes}["get-order"] is True


def test_match_when_a_route_in_shadow_would_take_it_then_both_are_told(shadowed: Path, capsys: Capture) -> None:
    peer = ("--peer", "spiffe://a.example/shop")
    assert run("match", "GET", "/orders/1?id=2", *peer, "--snapshot", shadowed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  route     any-order: any /orders/**" in lines
    assert "  in shadow asked by get-order: GET /orders/{order}" in lines
    found = match_of(capsys, shadowed, "GET", "/orders/1?id=2", *peer)
    assert found["in_shadow"] == {"result": "asked", "reason": "", "route": "get-order"}
    assert match_of(capsys, shadowed, "PUT", "/orders/1?id=2", *peer)["in_shadow"] is None
