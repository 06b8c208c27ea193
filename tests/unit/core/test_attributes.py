# SPDX-License-Identifier: Apache-2.0
"""
What the core reads of a CheckRequest, against the classes that Envoy's own definitions make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2 as ext_authz
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core._core import find_in_struct, read_attributes
from sidecar.model.errors import RequestError
from tests.unit.core.attribute_classes import VARIANTS, read, say

_NAMES = st.text("abcxyz-_:.0189", min_size=1, max_size=8)
_TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
_PAIRS = st.dictionaries(_TEXTS, _TEXTS, max_size=4)


@pytest.mark.parametrize("name", VARIANTS)
def test_message_when_envoy_can_send_it_then_it_is_read_as_its_own_classes_read_it(name: str) -> None:
    message = VARIANTS[name]

    assert read(message.SerializeToString()) == say(message)


def test_message_when_it_comes_from_grpc_then_host_is_that_of_http2() -> None:
    assert read_attributes(VARIANTS["grpc"].SerializeToString())["host"] == b"shop.example.com"


@st.composite
def messages(draw: st.DrawFn) -> ext_authz.CheckRequest:
    """Draw a message with anything in it that is read."""
    message = ext_authz.CheckRequest()
    attributes = message.attributes
    if draw(st.booleans()):
        attributes.source.principal = draw(_TEXTS)
        attributes.destination.principal = draw(_TEXTS)
    kind = draw(st.sampled_from(["socket_address", "pipe", "envoy_internal_address", ""]))
    if kind == "socket_address":
        attributes.source.address.socket_address.address = draw(_TEXTS)
    elif kind:
        getattr(attributes.source.address, kind).SetInParent()
    http = attributes.request.http
    for name in ("id", "method", "path", "host", "scheme", "protocol", "body"):
        if draw(st.booleans()):
            setattr(http, name, draw(_TEXTS))
    http.size = draw(st.integers(-1, 2**40))
    for name, value in draw(st.dictionaries(_NAMES, _TEXTS, max_size=4)).items():
        http.headers[name] = value
    # Nobody sends both for the same header.
    for name, data in draw(st.dictionaries(_NAMES, st.binary(max_size=8), max_size=4)).items():
        http.header_map.headers.add(key=f"raw-{name}", raw_value=data)
    for name, value in draw(_PAIRS).items():
        attributes.context_extensions[name] = value
    for name, members in draw(st.dictionaries(_TEXTS, _PAIRS, max_size=3)).items():
        attributes.metadata_context.filter_metadata[name].update(members)
        attributes.route_metadata_context.filter_metadata[name].update(members)
    attributes.tls_session.sni = draw(_TEXTS)
    return message


@given(messages())
def test_message_when_it_is_any_then_it_is_read_as_the_classes_read_it(message: ext_authz.CheckRequest) -> None:
    assert read(message.SerializeToString()) == say(message)


@given(messages(), messages(), st.binary(max_size=6))
def test_message_when_it_comes_in_parts_then_they_are_put_together_as_protobuf_does(
    one: ext_authz.CheckRequest, other: ext_authz.CheckRequest, unknown: bytes
) -> None:
    # A field that nobody knows, at the end of each part.
    more = bytes([15 << 3 | 2, len(unknown)]) + unknown
    data = one.SerializeToString() + more + other.SerializeToString() + more

    assert read(data) == say(ext_authz.CheckRequest.FromString(data))


@given(st.one_of(st.binary(max_size=64), messages().flatmap(lambda one: _damaged(one.SerializeToString()))))
def test_bytes_when_they_are_any_then_what_protobuf_refuses_is_refused(data: bytes) -> None:
    try:
        message: ext_authz.CheckRequest | None = ext_authz.CheckRequest.FromString(data)
    except DecodeError:
        message = None
    try:
        found = read(data)
    except (RequestError, DecodeError):
        return
    # Fields that nobody looks at may hold anything.
    if message is not None:
        assert found == say(message)


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    return st.tuples(st.integers(0, len(data)), st.integers(0, 255)).map(
        lambda change: data[: change[0]] + bytes([change[1]]) + data[change[0] + 1 :]
    )


def _http(**fields: Any) -> bytes:
    message = ext_authz.CheckRequest()
    for name, value in fields.items():
        setattr(message.attributes.request.http, name, value)
    data: bytes = message.SerializeToString()
    return data


def _many(count: int, put: Any) -> bytes:
    message = ext_authz.CheckRequest()
    for number in range(count):
        put(message.attributes, number)
    data: bytes = message.SerializeToString()
    return data


def _header(attributes: Any, number: int) -> None:
    attributes.request.http.headers[f"x-{number}"] = ""


def _extension(attributes: Any, number: int) -> None:
    attributes.context_extensions[f"x-{number}"] = ""


def _filter(attributes: Any, number: int) -> None:
    attributes.metadata_context.filter_metadata[f"x-{number}"].SetInParent()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_many(513, _header), "more than 512"),
        (_many(1025, _extension), "more than 1024"),
        (_many(65, _filter), "more than 64 filters"),
        (_http(fragment="x"), "a request has none"),
        (_http(path="/a?b=1", query="c=1"), "not that of the path"),
        (_http(path="/a?b?c", query="c"), "not that of the path"),
        (_http(path="/a", query="a"), "not that of the path"),
        (_http(method="G\0T"), "NUL"),
    ],
)
def test_message_when_it_passes_a_limit_or_says_two_things_then_it_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_attributes(data)


@pytest.mark.parametrize("count", [512])
def test_message_when_it_is_at_a_limit_then_it_is_read(count: int) -> None:
    assert len(read_attributes(_many(count, _header))["headers"]) == count
    assert read_attributes(_http(path="/a?b?c", query="b?c"))["path"] == b"/a?b?c"


@pytest.mark.parametrize("name", ["", "a b", "a\n", "a\0", "ä", "a;b", "a=b", 'a"b', "a(b)"])
def test_header_when_its_name_is_none_then_the_message_is_refused(name: str) -> None:
    message = ext_authz.CheckRequest()
    message.attributes.request.http.header_map.headers.append(base_pb2.HeaderValue(key=name, value="x"))

    with pytest.raises(RequestError, match="no name of a header"):
        read_attributes(message.SerializeToString())


# google.protobuf.Struct.

_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=8,
)
_KINDS: dict[type, int] = {type(None): 1, float: 2, str: 3, bool: 4, dict: 5, list: 6}


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4))
def test_struct_when_searched_then_every_member_is_found(content: Mapping[str, Any]) -> None:
    struct = struct_pb2.Struct()
    struct.update(content)
    data = struct.SerializeToString()

    def walk(members: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, value in members.items():
            here = (*path, name)
            found = find_in_struct(data, b"\0".join(part.encode() for part in here))
            assert found is not None
            kind, text, number = found
            assert kind == _KINDS[type(value)]
            if isinstance(value, str):
                assert text == value.encode()
            elif isinstance(value, float | bool):
                assert number == value
            elif isinstance(value, dict):
                walk(value, here)

    walk(content, ())


@pytest.mark.parametrize("path", [b"", b"b", b"a\0c", b"a\0b\0c", b"a\0", b"\0".join([b"a"] * 20)])
def test_struct_when_a_name_leads_nowhere_then_nothing_is_found(path: bytes) -> None:
    struct = struct_pb2.Struct()
    struct.update({"a": {"b": "c"}})

    assert find_in_struct(struct.SerializeToString(), path) is None
