# SPDX-License-Identifier: Apache-2.0
"""
OpenAPI documents: the routes that they give, and what is left out with a warning.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.compile.documents import read_yaml
from sidecar.compile.openapi import OpenApiRoutes, ResourceNames, routes_from_openapi
from sidecar.compile.route_paths import written_path
from sidecar.compile.route_templates import written_template
from sidecar.model.errors import PolicySyntaxError, RequestError
from sidecar.model.route import Route
from tests.unit.compile.dumps import Json, full_page, parse, snapshot_of

NAMES = ResourceNames("orders", "111122223333", "eu-west-1")


def made_of(paths: object, names: ResourceNames = NAMES, **more: object) -> OpenApiRoutes:
    document = {"openapi": "3.1.0", "info": {"title": "Shop", "version": "1"}, "paths": paths, **more}
    return routes_from_openapi(document, names, file="api.json")


def routes_of(made: OpenApiRoutes) -> tuple[Route, ...]:
    """Return the routes as a source has them, which must find nothing wrong."""
    report = parse(full_page(), routes=made.text.encode())
    assert report.problems == ()
    table = snapshot_of(report).routes
    assert table is not None
    assert len(table.routes) == made.count
    return table.routes


def lines_of(made: OpenApiRoutes) -> list[str]:
    return [
        f"{route.id}: {' '.join(route.methods)} {written_path(route.path)} is {written_template(route.action)}"
        f" on {written_template(route.resource)}"
        for route in routes_of(made)
    ]


def warnings_of(made: OpenApiRoutes) -> list[str]:
    return [f"{problem.json_path}: {problem.message} ({problem.help})" for problem in made.warnings]


def test_document_when_it_has_operations_then_each_is_a_route() -> None:
    made = made_of(
        {
            "/orders": {"get": {"operationId": "listOrders"}, "post": {"operationId": "create_order"}},
            "/orders/{orderId}": {"parameters": [], "get": {"operationId": "orders.get"}, "x-owner": {"get": {}}},
            "/": {"head": {"operationId": "HEADRoot"}},
            "x-internal": {"get": {}},
        }
    )
    arn = "arn:aws:orders:eu-west-1:111122223333"
    assert lines_of(made) == [
        f"list-orders: GET /orders is orders:ListOrders on {arn}:orders",
        f"create-order: POST /orders is orders:CreateOrder on {arn}:orders",
        f"orders-get: GET /orders/{{orderId}} is orders:OrdersGet on {arn}:orders/{{orderId}}",
        "head-root: HEAD / is orders:HeadRoot on *",
    ]
    assert made.warnings == ()
    assert made.text.startswith("# Routes of Shop, made from its OpenAPI document.\n")


@pytest.mark.parametrize(
    ("servers", "path"),
    [
        ([{"url": "https://a.example/v1"}], "/v1/x"),
        ([{"url": "/v1/"}], "/v1/x"),
        ([{"url": "https://a.example"}], "/x"),
        ([{"url": "https://a.example/{v}/api", "variables": {"v": {"default": "v2"}}}], "/v2/api/x"),
        ([{"url": "https://a.example/a%20b"}], "/a b/x"),
        ([], "/x"),
    ],
)
def test_servers_when_they_have_a_path_then_routes_begin_with_it(servers: list[Json], path: str) -> None:
    made = made_of({"/x": {"get": {"operationId": "x"}}}, servers=servers)
    assert [written_path(route.path) for route in routes_of(made)] == [path]
    assert made.warnings == ()


def test_servers_when_a_path_or_an_operation_has_its_own_then_those_count() -> None:
    made = made_of(
        {
            "/x": {
                "servers": [{"url": "/b"}],
                "get": {"operationId": "x"},
                "put": {"operationId": "y", "servers": [{"url": "/c"}]},
            }
        },
        servers=[{"url": "/a"}],
    )
    assert [written_path(route.path) for route in routes_of(made)] == ["/b/x", "/c/x"]


def test_servers_when_they_differ_then_the_first_counts_with_a_warning() -> None:
    made = made_of({"/x": {"get": {"operationId": "x"}}}, servers=[{"url": "/a"}, {"url": "/b"}, {"url": "http://["}])
    assert [written_path(route.path) for route in routes_of(made)] == ["/a/x"]
    assert len(made.warnings) == 2


def test_operation_when_it_asks_for_no_credential_then_it_is_not_public_by_itself() -> None:
    made = made_of({"/x": {"get": {"operationId": "x", "security": []}}}, security=[{"key": []}])
    assert not routes_of(made)[0].is_public
    assert "# The document asks for no credential here." in made.text


def test_operation_when_it_says_more_then_that_stands_above_its_route() -> None:
    made = made_of({"/x": {"get": {"operationId": "x", "summary": "Look\n at: it #1 ", "deprecated": True}}})
    assert "  # Look at: it #1\n  # deprecated\n  - id: x\n" in made.text
    assert len(routes_of(made)) == 1


def test_path_item_when_it_is_a_reference_inside_then_it_is_followed() -> None:
    item = {"get": {"operationId": "x"}}
    made = made_of({"/x": {"$ref": "#/components/pathItems/a~1b"}}, components={"pathItems": {"a/b": item}})
    assert made.count == 1
    for reference in ("other.yaml#/x", "#/components/pathItems/no", 1):
        assert "is not followed" in warnings_of(made_of({"/x": {"$ref": reference}}))[0]


@pytest.mark.parametrize(
    ("paths", "count", "warning"),
    [
        ({"/x": {"get": {}}}, 1, "$.paths['/x'].get: an operation without `operationId`"),
        ({"/x/{a.b}": {"get": {"operationId": "x"}}}, 1, "it is called `{a_b}`"),
        ({"/x/{query}": {"get": {"operationId": "x"}}}, 1, "it is called `{query_value}`"),
        ({"/x/{1}": {"get": {"operationId": "x"}}}, 1, "it is called `{p_1_value}`"),
        ({"/x/{a}-{b}": {"get": {"operationId": "x"}}}, 0, "it is left out: two names in one segment"),
        ({"/x/{a}/{a}": {"get": {"operationId": "x"}}}, 0, "it is left out: `{a}` stands twice"),
        ({"/x?y=1": {"get": {"operationId": "x"}}}, 0, "it is left out: a `?` or `#`"),
        ({"x": {"get": {"operationId": "x"}}}, 0, "does not begin with a slash"),
        ({"/a/../b": {"get": {"operationId": "x"}}}, 0, "it is left out: `..` is a segment"),
        ({"/x": {"query": {}}}, 0, "`query` is no operation"),
        ({"/x": []}, 0, "a path must be an object"),
        ({"/x": {"get": []}}, 0, "an operation must be an object"),
        (
            {"/{a}": {"get": {"operationId": "x"}}, "/{b}": {"get": {"operationId": "y"}}},
            1,
            "$.paths['/{b}'].get: it is left out: the routes `x` and `y` are equally specific",
        ),
        ({"/x": {"get": {"operationId": "x"}, "put": {"operationId": "X"}}}, 2, "`x` is taken (it is called `x-2`)"),
        ([], 0, "has no `paths`"),
        ({"/x\x7f": {"get": {"operationId": "x"}}}, 0, "control character"),
    ],
)
def test_operation_when_it_cannot_be_mapped_as_it_is_then_that_is_a_warning(
    paths: object, count: int, warning: str
) -> None:
    made = made_of(paths)
    assert made.count == len(routes_of(made)) == count
    assert any(warning in text for text in warnings_of(made)), warnings_of(made)


def test_webhooks_when_there_are_some_then_they_are_left_out() -> None:
    assert warnings_of(made_of({}, webhooks={"x": {}}))[0].startswith("$.webhooks: webhooks are left out")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "must be an object"),
        ({"swagger": "2.0"}, "of version 2"),
        ({}, "does not say that it is of version 3"),
        ({"openapi": "4.0.0"}, "does not say that it is of version 3"),
    ],
)
def test_document_when_it_is_none_then_it_is_refused(document: object, words: str) -> None:
    with pytest.raises(PolicySyntaxError) as caught:
        routes_from_openapi(document, NAMES, file="api.json")
    assert words in str(caught.value.problems[0])


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (ResourceNames("Orders"), "--service"),
        (ResourceNames("orders", "123"), "--account"),
        (ResourceNames("orders", region="*"), "--region"),
        (ResourceNames("orders", partition="amazon"), "--partition"),
    ],
)
def test_names_when_they_cannot_stand_in_an_arn_then_they_are_refused(names: ResourceNames, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        made_of({}, names)
    assert caught.value.field == field


_texts = st.text(st.sampled_from("/{}ab.-_=*:;%?# \\\"'é\u2028\x85\x00\n"), max_size=12)


@given(
    st.dictionaries(
        _texts.map(lambda text: f"/{text}"),
        st.dictionaries(
            st.sampled_from(["get", "put"]),
            st.fixed_dictionaries({}, optional={"operationId": _texts, "summary": _texts}),
            min_size=1,
        ),
        max_size=4,
    )
)
def test_document_when_its_texts_are_anything_then_the_routes_are_sound(paths: Json) -> None:
    made = made_of(paths)
    assert isinstance(read_yaml(made.text), dict)
    routes_of(made)
