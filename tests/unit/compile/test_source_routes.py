# SPDX-License-Identifier: Apache-2.0
"""
``routes.yaml``: what it gives, and the name of everything that can be wrong with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sidecar.compile.route_paths import written_path
from sidecar.compile.route_ranks import by_rank
from sidecar.compile.source import SourceReport, parse_source
from sidecar.model import route as route_model
from sidecar.model.route import (
    MAX_CAPTURES,
    MAX_MIXED,
    MAX_ROUTES,
    MAX_SEGMENTS,
    ContextTemplate,
    PieceSource,
    Route,
    RouteFlag,
    RouteTable,
    SessionTokenRule,
    TemplatePiece,
    ValueRule,
)
from tests.unit.compile.dumps import (
    Json,
    encode,
    expect_error,
    expect_warning,
    full_page,
    page,
    parse,
    snapshot_of,
    user,
)

FILE = "routes.json"
JWT: Json = {
    "jwt": {"rules": [{"when": [{"claim": "iss", "is": "i"}], "user": "arn:aws:iam::111122223333:user/{jwt.sub}"}]}
}


def report_of(*routes: object, **more: object) -> SourceReport:
    return parse(full_page(), routes={"routes": list(routes), **more})


def table_of(*routes: object, **more: object) -> RouteTable:
    report = report_of(*routes, **more)
    table = snapshot_of(report).routes
    assert report.problems == ()
    assert table is not None
    return table


def route(path: str | None = "/orders/{order}", **more: Any) -> Json:
    """Return a route that is sound."""
    found: Json = {
        "id": "r",
        "path": path,
        "action": "orders:Get",
        "resource": "arn:aws:orders:eu-west-1:111122223333:order/1",
        **more,
    }
    return {key: value for key, value in found.items() if value is not None}


def public(path: str, number: int = 0, **more: Any) -> Json:
    return {"id": f"r{number}", "path": path, "public": True, **more}


def only(entry: Json, **more: object) -> Route:
    (found,) = table_of(entry, **more).routes
    return found


def text(value: str, rule: ValueRule = ValueRule.TEXT) -> TemplatePiece:
    return TemplatePiece(PieceSource.TEXT, value, rule=rule)


def test_file_when_there_is_none_then_there_are_no_routes() -> None:
    assert snapshot_of(parse(full_page())).routes is None


def test_file_when_it_says_nothing_but_routes_then_session_tokens_call_and_paths_are_strict() -> None:
    table = table_of()
    assert table == RouteTable(RouteFlag(0), (SessionTokenRule(header=True, cookie=True),), ())


def test_file_when_it_is_yaml_then_it_is_the_same() -> None:
    report = parse(full_page(), routes=b'routes:\n  - {id: a, path: "/static/**", public: true}\n')
    assert snapshot_of(report).routes == table_of(public("/static/**", id="a"))


def test_route_when_everything_is_stated_then_everything_is_read() -> None:
    found = only(
        {
            "id": "refund-order",
            "hosts": ["Shop.example.com", "*.shop.example.com"],
            "methods": ["POST"],
            "path": "/accounts/{account}/orders/{order}/refund",
            "action": "payments:refund",
            "resource": "arn:aws:payments:eu-west-1:{account}:order/{order}",
            "resource_account": "{account}",
            "context": {"payments:Amount": "{query.amount}", "payments:Kind": "of {header.X-Kind}"},
            "forward_token": True,
            "proof_for": "call",
        }
    )
    account = TemplatePiece(PieceSource.CAPTURE, "account", 0, ValueRule.WORD)
    assert found.hosts == ("shop.example.com", "*.shop.example.com")
    assert found.methods == ("POST",)
    assert written_path(found.path) == "/accounts/{account}/orders/{order}/refund"
    assert found.flags == RouteFlag.FORWARD_TOKEN | RouteFlag.PROOF_FOR_CALL
    assert found.action == (text("payments:refund"),)
    assert found.resource == (
        text("arn:aws:payments:eu-west-1:"),
        account,
        text(":order/"),
        TemplatePiece(PieceSource.CAPTURE, "order", 1, ValueRule.END),
    )
    assert found.resource_account == (account,)
    assert found.context == (
        ContextTemplate("payments:Amount", (TemplatePiece(PieceSource.QUERY, "amount"),)),
        ContextTemplate("payments:Kind", (text("of "), TemplatePiece(PieceSource.HEADER, "x-kind"))),
    )


def test_route_when_it_is_public_then_it_asks_nothing() -> None:
    found = only(public("/static/**"))
    assert found.is_public
    assert (found.action, found.resource, found.context) == ((), (), ())


@pytest.mark.parametrize(("grpc", "path"), [("shop.v1.Orders/Get", "/shop.v1.Orders/Get"), ("O/*", "/O/*")])
def test_route_when_it_is_a_grpc_method_then_it_is_a_post(grpc: str, path: str) -> None:
    found = only(route(path=None, grpc=grpc))
    assert (written_path(found.path), found.methods) == (path, ("POST",))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/orders",
        "/orders/",
        "/static/**",
        "/files/{rest=**}",
        "/v1/{name}:cancel",
        "/v{version}/*/x",
        "/a b/ü",
        "/{{literal}}",
        "/a{{{b}}}c",
        "/...",
        "/..a/.b",
        "/a:b@c,d=e&f!g'(h)$+",
    ],
)
def test_path_when_it_was_read_then_it_is_written_the_same(path: str) -> None:
    assert written_path(only(public(path)).path) == path


def test_path_when_a_name_is_one_segment_by_its_words_then_it_is_like_one_without_them() -> None:
    assert written_path(only(public("/{a=*}/x")).path) == "/{a}/x"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("orders", "write `/orders`"),
        ("", "is empty"),
        ("/a//b", "two slashes"),
        ("//a", "two slashes"),
        ("/a?b=1", "`{query.name}`"),
        ("/a#b", "`?` or `#`"),
        ("/a%20b", "decoded before they are compared"),
        ("/a\\b", "backslash"),
        ("/a;b", "`paths.parameters` is `keep`"),
        ("/./a", "`.` is a segment"),
        ("/a/..", "`..` is a segment"),
        ("/a\x00b", "control character"),
        ("/a\nb", "control character"),
        ("/a\u200bb", "cannot be seen"),
        ("/a*", "`*` inside of `a*`"),
        ("/{a}*", "`*` beside a name"),
        ("/**/a", "take all that follows"),
        ("/{r=**}/a", "take all that follows"),
        ("/a{r=**}", "put a slash between them"),
        ("/{a}{b}", "two names in one segment"),
        ("/{a}/{a}", "stands twice"),
        ("/{a=x}", "cannot be what `{a}` takes"),
        ("/{}", "is not a name"),
        ("/{1a}", "is not a name"),
        ("/{a.b}", "is not a name"),
        ("/{peer}", "templates mean something else by it"),
        ("/{query}", "templates mean something else by it"),
        ("/{a", "`{` without its `}`"),
        ("/a}", "`}` without its `{`"),
        ("/x" * (MAX_SEGMENTS + 1), f"more than {MAX_SEGMENTS} segments"),
        ("/*" * (MAX_CAPTURES + 1), f"more than {MAX_CAPTURES} segments that are not fixed"),
        ("/" + "x" * 8192, "more than 8,192 bytes"),
    ],
)
def test_path_when_no_request_can_have_it_then_it_is_refused(path: str, words: str) -> None:
    expect_error(report_of(public(path)), "$.routes[0].path", words, file=FILE)


def test_path_when_parameters_are_kept_then_it_may_hold_them() -> None:
    assert written_path(only(public("/a;b"), paths={"parameters": "keep"}).path) == "/a;b"
    report = report_of(public("/..;b"), paths={"parameters": "keep"})
    expect_error(report, "$.routes[0].path", "`..;b` is a segment", file=FILE)


@pytest.mark.parametrize("grpc", ["Orders", "/shop.Orders/Get", "shop.Orders/Get/x", "shop..Orders/Get", "a b/c", "/"])
def test_grpc_method_when_it_is_none_then_it_is_refused(grpc: str) -> None:
    report = report_of(route(path=None, grpc=grpc))
    expect_error(report, "$.routes[0].grpc", "is not a gRPC method", file=FILE)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("*", "leave `hosts` out"),
        ("https://a.example", "leave scheme and path out"),
        ("a.example/x", "leave scheme and path out"),
        ("a.example:8443", "names a port"),
        ("a.*.example", "`*.` can stand in front"),
        ("*a.example", "`*.` can stand in front"),
        ("a..example", "is not a host"),
        ("a.example.", "is not a host"),
        ("-a.example", "is not a host"),
        ("münchen.example", "`xn--` form"),
        ("", "is empty"),
        ("a_b.example " + "x", "is not a host"),
        ("x" * 64 + ".example", "is not a host"),
    ],
)
def test_host_when_it_is_none_then_it_is_refused(host: str, words: str) -> None:
    expect_error(report_of(public("/", hosts=[host])), "$.routes[0].hosts[0]", words, file=FILE)


def test_host_when_it_is_alone_then_it_need_not_be_a_list() -> None:
    assert only(public("/", hosts="[::1]", methods="GET")).hosts == ("[::1]",)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("get", "write `GET`"),
        ("*", "leave `methods` out"),
        ("GET POST", "is not a method"),
        ("propfind", "is not a method"),
        ("", "is empty"),
    ],
)
def test_method_when_it_is_none_then_it_is_refused(method: str, words: str) -> None:
    expect_error(report_of(public("/", methods=[method])), "$.routes[0].methods[0]", words, file=FILE)


@pytest.mark.parametrize(
    ("entry", "path", "words"),
    [
        ({"hosts": []}, ".hosts", "leave it out for any"),
        ({"hosts": ["a.b", "A.b"]}, ".hosts[1]", "stands twice"),
        ({"hosts": {"a": 1}}, ".hosts", "must be a list"),
        ({"hosts": ["a.b"] * 65}, ".hosts", "more than 64"),
        ({"methods": []}, ".methods", "leave it out for any"),
        ({"methods": ["GET", "GET"]}, ".methods[1]", "stands twice"),
        ({"methods": [1]}, ".methods[0]", "must be text"),
        ({"id": ""}, ".id", "is empty"),
        ({"id": "a b"}, ".id", "cannot be the id of a route"),
        ({"id": "x" * 129}, ".id", "up to 128"),
        ({"id": None}, "", "without `id`"),
        ({"path": None}, "", "without `path`"),
        ({"grpc": "a.B/C"}, "", "both `path` and `grpc`"),
        ({"path": None, "grpc": "a.B/C", "methods": ["GET"]}, ".methods", "gRPC is always POST"),
        ({"public": "yes"}, ".public", "must be true or false"),
        ({"public": True, "resource": None}, ".action", "a public route with `action`"),
        ({"public": True, "action": None, "resource": None, "proof_for": "call"}, ".proof_for", "a public route with"),
        ({"action": None}, "", "without `action`"),
        ({"resource": None}, "", "without `resource`"),
        ({"proof_for": "ever"}, ".proof_for", "one of `session`, `call`"),
        ({"acton": "a:b"}, ".acton", "did you mean `action`"),
        ({"forward_token": 1}, ".forward_token", "must be true or false"),
        ({"context": []}, ".context", "must be an object"),
        ({"context": {"a:b": 1}}, ".context['a:b']", "must be text"),
        ({"context": {"a:b": ""}}, ".context['a:b']", "is empty"),
        ({"context": {"ab": "x"}}, ".context.ab", "is not a condition key"),
        ({"context": {"a:b": "x", "A:B": "y"}}, ".context['A:B']", "one condition key"),
        ({"context": {"aws:username": "x"}}, ".context['aws:username']", "the sidecar alone sets"),
        ({"context": {"sidecar:MfaMethod": "x"}}, ".context['sidecar:MfaMethod']", "the sidecar alone sets"),
        ({"context": {"aws:SourceIp": "x"}}, ".context['aws:SourceIp']", "is taken from the proxy"),
        ({"context": {f"a:{n}": "x" for n in range(65)}}, ".context", "more than 64"),
    ],
)
def test_route_when_a_part_is_wrong_then_it_is_refused(entry: Json, path: str, words: str) -> None:
    whole = {key: value for key, value in {**route(), **entry}.items() if value is not None}
    expect_error(report_of(whole), f"$.routes[0]{path}", words, file=FILE)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("orders", "is not an action"),
        ("orders:*", "holds a wildcard"),
        ("orders:Get?", "holds a wildcard"),
        ("Orders:Get Order", "is not an action"),
        ("orders:{verb}", "has no `{verb}`"),
        ("{query.action", "`{` without its `}`"),
        ("orders:" + "x" * 256, "more than 256 bytes"),
    ],
)
def test_action_when_no_request_can_have_it_then_it_is_refused(action: str, words: str) -> None:
    expect_error(report_of(route(action=action)), "$.routes[0].action", words, file=FILE)


def test_action_when_a_value_is_in_it_then_it_is_one_word() -> None:
    found = only(route("/x/{verb}", action="orders:{verb}"))
    assert found.action == (text("orders:"), TemplatePiece(PieceSource.CAPTURE, "verb", 0, ValueRule.WORD))


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("order/1", "is not an ARN"),
        ("{query.arn}", "is not an ARN"),
        ("arn:aws:orders:eu-west-1:order/1", "is not an ARN"),
        ("arn:aws:orders:eu-west-1:111122223333:", "is not an ARN"),
        ("arn:aws:orders:eu-west-1:111122223333:order/*", "holds a wildcard"),
        ("arn:aws:orders:eu-west-1:111122223333:order/?", "holds a wildcard"),
        ("arn:amazon:orders:::x", "is no partition"),
        ("arn:aws:::11:x", "names no service"),
        ("arn:aws:or ders:::x", "cannot stand in"),
        ("arn:aws:orders::1234:x", "is not an account"),
        ("arn:aws:orders:::{ordre}", "did you mean `{order}`"),
        ("arn:aws:orders:::{}", "has no `{}`"),
        ("arn:aws:orders:::{query}", "needs a name"),
        ("arn:aws:orders:::{query.}", "names nothing"),
        ("arn:aws:orders:::{quary.x}", "did you mean `query.x`"),
        ("arn:aws:orders:::{cookie.x}", "nothing is called `{cookie.x}`"),
        ("arn:aws:orders:::{header.a b}", "is not the name of a header"),
        ("arn:aws:orders:::{header.Authorization}", "holds a credential"),
        ("arn:aws:orders:::{header.cookie}", "holds a credential"),
        ("arn:aws:orders:::{header.x-iam-principal}", "is never believed"),
        ("arn:aws:orders:::{header.X_Forwarded_Client_Cert}", "is never believed"),
        ("arn:aws:orders:::{jwt.sub}", "no caller is one"),
        ("arn:aws:orders:::{jwt..sub}", "is not a claim"),
        ('arn:aws:orders:::{jwt."a}', "`{` without its `}`"),
        ("arn:aws:orders:::x\x07", "control character"),
        ("arn:aws:orders:::" + "x" * 2048, "more than 2,048 bytes"),
        ("arn:aws:orders:::" + "{order}x" * 40, "more than 64 pieces"),
    ],
)
def test_resource_when_no_request_can_have_it_then_it_is_refused(resource: str, words: str) -> None:
    expect_error(report_of(route(resource=resource)), "$.routes[0].resource", words, file=FILE)


def test_resource_when_values_are_in_it_then_each_place_has_its_rule() -> None:
    found = only(route("/{a}/{b}/{c}", resource="arn:aws:x:{a}:111122223333:{b}/{c}"))
    assert [piece.rule for piece in found.resource if piece.source is PieceSource.CAPTURE] == [
        ValueRule.WORD,
        ValueRule.PART,
        ValueRule.END,
    ]
    behind = only(route("/{a}", resource="arn:aws:x:::{a}.txt"))
    assert behind.resource[1].rule is ValueRule.PART


def test_resource_when_there_is_none_then_it_is_a_star() -> None:
    assert only(route(resource="*")).resource == (text("*"),)


def test_resource_when_it_holds_a_claim_then_its_names_are_cut() -> None:
    found = only(route(resource='arn:aws:x:::{jwt.a."https://b.c/{d}"}'), callers=[JWT])
    assert found.resource[1] == TemplatePiece(PieceSource.JWT, "a\0https://b.c/{d}", rule=ValueRule.END)


def test_resource_when_the_rules_of_the_jwt_are_wrong_then_only_those_are_refused() -> None:
    report = report_of(route(resource="arn:aws:x:::{jwt.sub}"), callers=[{"jwt": {"rules": []}}])
    assert [problem.json_path for problem in report.problems] == ["$.callers[0].jwt.rules"]


def test_value_when_its_header_holds_api_keys_then_it_is_refused() -> None:
    client = {"name": "a", "role": "arn:aws:iam::111122223333:role/web", "session_name": "ab"}
    callers = [{"api_key": {"header": "x-secret", "clients": [client]}}]
    report = report_of(route(context={"a:b": "{header.X-Secret}"}), callers=callers)
    expect_error(report, "$.routes[0].context['a:b']", "holds API keys", file=FILE)


@pytest.mark.parametrize("source", ["peer", "sni", "method", "host", "path"])
def test_value_when_its_source_has_no_name_then_it_is_taken(source: str) -> None:
    found = only(route(context={"x:y": f"{{{source}}}"}))
    assert found.context[0].value == (TemplatePiece(PieceSource[source.upper()]),)


@pytest.mark.parametrize(
    ("account", "words"),
    [("1234", "is not an account"), ("{order}x", "cannot be an account"), ("1" * 13, "is not an account")],
)
def test_resource_account_when_it_is_none_then_it_is_refused(account: str, words: str) -> None:
    report = report_of(route(resource="arn:aws:orders:::x", resource_account=account))
    expect_error(report, "$.routes[0].resource_account", words, file=FILE)


def test_resource_account_when_the_arn_names_another_then_it_is_refused() -> None:
    report = report_of(route(resource_account="999988887777"))
    expect_error(report, "$.routes[0].resource_account", "contradicts account `111122223333`", file=FILE)


def test_resource_account_when_yaml_took_it_for_a_number_then_it_is_read() -> None:
    text_of = "routes:\n  - {id: a, path: /, action: a:B, resource: 'arn:aws:s3:::b', resource_account: 111122223333}\n"
    table = snapshot_of(parse(full_page(), routes=text_of.encode())).routes
    assert table is not None
    assert table.routes[0].resource_account == (text("111122223333"),)


def test_resource_when_nothing_says_who_owns_it_then_that_is_a_warning() -> None:
    files = {
        "accounts/a.json": encode(full_page()),
        "accounts/b.json": encode(page(users=[user("bob", account="999988887777")])),
        FILE: encode({"routes": [route(resource="arn:aws:s3:::bucket/x")]}),
    }
    expect_warning(parse_source(files), "$.routes[0]", "which account owns the resource", file=FILE)
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}],
    }
    entry = {"arn": "arn:aws:s3:::bucket", "account": "111122223333", "policy": policy}
    assert parse_source({**files, "resource-policies.json": encode({"resources": [entry]})}).problems == ()


# Settings of paths.


def test_paths_when_all_are_lax_then_all_flags_are_set() -> None:
    table = table_of(
        paths={
            "case": "insensitive",
            "encoded_slashes": "keep",
            "double_slashes": "merge",
            "parameters": "keep",
            "trailing_slash": "ignore",
        }
    )
    assert int(table.flags) == 1 | 2 | 4 | 8 | 16


@pytest.mark.parametrize(
    ("paths", "path", "words"),
    [
        ({"case": "ignore"}, ".case", "one of `sensitive`, `insensitive`"),
        ({"double_slash": "merge"}, ".double_slash", "did you mean `double_slashes`"),
        ({"parameters": True}, ".parameters", "must be text"),
        ([], "", "must be an object"),
    ],
)
def test_paths_when_a_setting_is_wrong_then_it_is_refused(paths: object, path: str, words: str) -> None:
    expect_error(report_of(paths=paths), f"$.paths{path}", words, file=FILE)


# The file.


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ([], "$", "must be an object"),
        ({}, "$", "without `routes`"),
        ({"routes": {}}, "$.routes", "must be a list"),
        ({"routes": [[]]}, "$.routes[0]", "must be an object"),
        ({"routes": [], "rules": []}, "$.rules", "unknown key"),
        ({"routes": [], "caller": []}, "$.caller", "did you mean `callers`"),
    ],
)
def test_file_when_its_shape_is_wrong_then_it_is_refused(document: object, path: str, words: str) -> None:
    expect_error(parse(full_page(), routes=document), path, words, file=FILE)


def test_file_when_a_key_stands_twice_then_it_is_refused() -> None:
    content = b"routes:\n  - id: a\n    path: /\n    public: true\n    public: false\n"
    expect_error(parse(full_page(), routes=content), "$.routes[0].public", "stands more than once", file="routes.yaml")


def test_file_when_it_has_too_many_routes_then_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ROUTES >= 10_000
    monkeypatch.setattr("sidecar.compile.routes.MAX_ROUTES", 2)
    assert len(table_of(*[public(f"/{n}", n) for n in range(2)]).routes) == 2
    expect_error(report_of(*[public(f"/{n}", n) for n in range(3)]), "$.routes", "3 routes, more than 2", file=FILE)


def test_file_when_its_routes_have_too_many_hosts_then_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.compile.routes.MAX_HOSTED_ROUTES", 2)
    report = report_of(public("/a", 1, hosts=["a.b", "b.b"]), public("/b", 2))
    expect_error(report, "$.routes", "the hosts of all routes are 3", file=FILE)


def test_file_when_many_things_are_wrong_then_all_are_said() -> None:
    report = report_of(public("a"), {"id": "x y"}, route(action="x"), paths={"case": "no"})
    assert [problem.json_path for problem in report.problems] == [
        "$.paths.case",
        "$.routes[0].path",
        "$.routes[1].id",
        "$.routes[1]",
        "$.routes[1]",
        "$.routes[1]",
        "$.routes[2].action",
    ]


def test_id_when_it_stands_twice_then_it_is_refused() -> None:
    report = report_of(public("/a"), public("/b"))
    expect_error(report, "$.routes[1].id", "also at $.routes[0]", file=FILE)


# Which route wins.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a/{x}"}, {"path": "/a/{y}"}),
        ({"path": "/a/{x}"}, {"path": "/a/*"}),
        ({"path": "/a/**"}, {"path": "/a/{r=**}"}),
        ({"path": "/a", "methods": ["GET", "PUT"]}, {"path": "/a", "methods": ["POST", "PUT"]}),
        ({"path": "/a", "hosts": ["a.b", "*.b"]}, {"path": "/a", "hosts": ["c.d", "*.b"]}),
        ({"path": "/v{x}:go"}, {"path": "/v{y}:go"}),
    ],
)
def test_routes_when_they_are_equally_specific_then_both_are_named(one: Json, other: Json) -> None:
    report = report_of({"id": "one", "public": True, **one}, {"id": "other", "public": True, **other})
    expect_error(report, "$.routes[1]", "`one` and `other` are equally specific", "the other is $.routes[0]", file=FILE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"path": "/A"}),
        ({"path": "/a"}, {"path": "/a/"}),
        ({"path": "/a"}, {"path": "/a", "methods": ["GET"]}),
        ({"path": "/a"}, {"path": "/a", "hosts": ["a.b"]}),
        ({"path": "/a/**"}, {"path": "/a/{x}"}),
        ({"path": "/v{x}"}, {"path": "/{x}v"}),
        ({"path": "/v{x}"}, {"path": "/w{x}"}),
    ],
)
def test_routes_when_they_differ_in_how_specific_they_are_then_both_stand(one: Json, other: Json) -> None:
    assert len(table_of({"id": "1", "public": True, **one}, {"id": "2", "public": True, **other}).routes) == 2


@pytest.mark.parametrize(
    ("paths", "one", "other"),
    [({"case": "insensitive"}, "/a/É{x}", "/A/é{x}"), ({"trailing_slash": "ignore"}, "/a/b", "/a/b/")],
)
def test_routes_when_the_settings_make_them_one_then_they_are_equally_specific(
    paths: Json, one: str, other: str
) -> None:
    assert len(table_of(public(one, 1), public(other, 2)).routes) == 2
    expect_error(report_of(public(one, 1), public(other, 2), paths=paths), "$.routes[1]", "equally specific", file=FILE)


def test_routes_when_there_are_several_equal_ones_then_each_pair_is_named_once() -> None:
    report = report_of(*[public("/a", n, hosts=["a.b", "b.b"], methods=["GET", "PUT"]) for n in range(3)])
    assert [problem.json_path for problem in report.problems] == ["$.routes[1]", "$.routes[2]"]


def test_route_when_others_take_all_that_it_would_then_it_is_refused() -> None:
    others = [public("/a/", 1), public("/a/{x}", 2), public("/a/{x}/**", 3)]
    report = report_of(*others, public("/a/**", 4))
    expect_error(report, "$.routes[3]", "no request can reach the route `r4`", file=FILE)
    for left_out in range(3):
        assert report_of(*others[:left_out], *others[left_out + 1 :], public("/a/**", 4)).problems == ()


def test_route_when_others_take_its_methods_alone_then_it_is_refused_for_those_alone() -> None:
    others = [public(path, n, methods=["GET", "PUT"]) for n, path in enumerate(["/a/", "/a/{x}", "/a/{x}/**"])]
    expect_error(report_of(*others, public("/a/**", 4, methods=["GET"])), "$.routes[3]", "no request", file=FILE)
    assert report_of(*others, public("/a/**", 4, methods=["GET", "POST"])).problems == ()
    assert report_of(*others, public("/a/**", 4)).problems == ()


def test_route_when_others_take_it_under_one_of_its_hosts_then_it_stands() -> None:
    others = [public(path, n, hosts=["a.b"]) for n, path in enumerate(["/a/", "/a/{x}", "/a/{x}/**"])]
    assert report_of(*others, public("/a/**", 4, hosts=["a.b", "b.b"])).problems == ()


def test_routes_when_too_many_put_text_round_a_name_at_one_place_then_they_are_refused() -> None:
    assert len(table_of(*[public(f"/x{n:03}{{y}}", n) for n in range(MAX_MIXED)]).routes) == MAX_MIXED
    report = report_of(*[public(f"/x{n:03}{{y}}", n) for n in range(MAX_MIXED + 1)])
    expect_error(report, "$.routes[0].path", f"more than {MAX_MIXED} routes", file=FILE)


def test_routes_when_they_are_sorted_then_the_more_specific_stands_first() -> None:
    table = table_of(
        public("/**", 1),
        public("/a/**", 2),
        public("/a/{x}", 3),
        public("/a/x{x}", 4),
        public("/a/xy{x}", 5),
        public("/a/x", 6),
        public("/a/x", 7, methods=["GET"]),
        public("/**", 8, hosts=["*.example.com"]),
        public("/**", 9, hosts=["*.shop.example.com"]),
        public("/**", 10, hosts=["example.com"]),
    )
    assert [(host, route.id) for host, route in by_rank(table)] == [
        ("example.com", "r10"),
        ("*.shop.example.com", "r9"),
        ("*.example.com", "r8"),
        *[("*", f"r{number}") for number in (7, 6, 5, 4, 3, 2, 1)],
    ]


# The page.


def test_page_on_routes_when_its_examples_are_read_then_they_load() -> None:
    text_of = (Path(__file__).parents[3] / "docs" / "routes.md").read_text(encoding="utf-8")
    paths, callers = re.findall(r"```yaml\n(.*?)```", text_of, re.DOTALL)
    acme = Path(__file__).parents[3] / "examples" / "acme" / "accounts" / "acme-prod.json"
    for block in (paths + "routes: []\n", callers):
        report = parse_source({"accounts/a.json": acme.read_bytes(), "routes.yaml": block.encode()})
        assert report.problems == ()
        assert snapshot_of(report).routes is not None
    strict = snapshot_of(parse(full_page(), routes=(paths + "routes: []\n").encode())).routes
    assert strict == table_of()


def test_page_on_routes_when_it_names_limits_then_they_are_those_of_the_code() -> None:
    text_of = (Path(__file__).parents[3] / "docs" / "routes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.*?) \| (.*?) \|$", text_of.partition("## Limits")[2], re.MULTILINE))
    limits = {
        "routes, hosts of all routes together": (route_model.MAX_ROUTES, route_model.MAX_HOSTED_ROUTES),
        "hosts, methods, condition keys of a route": (
            route_model.MAX_ROUTE_HOSTS,
            route_model.MAX_ROUTE_METHODS,
            route_model.MAX_ROUTE_CONTEXT,
        ),
        "segments of a path, of which not fixed": (MAX_SEGMENTS, MAX_CAPTURES),
        "routes with text round a name at one place of a path": (MAX_MIXED,),
        "pieces of a template": (route_model.MAX_TEMPLATE_PIECES,),
        "rules of callers, counting each client": (route_model.MAX_CALLER_RULES,),
        "tests of a rule, values of a test, digests of a client": (
            route_model.MAX_CLAIM_TESTS,
            route_model.MAX_CLAIM_VALUES,
            route_model.MAX_KEY_DIGESTS,
        ),
    }
    for what, numbers in limits.items():
        assert rows[what] == ", ".join(f"{number:,}" for number in numbers)
    assert rows["path and query of a request"] == f"{route_model.MAX_TARGET:,} bytes"
