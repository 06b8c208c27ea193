# SPDX-License-Identifier: Apache-2.0
"""What the reader of paths makes of spellings that others read in more than one way."""

from __future__ import annotations

import functools

import pytest

from sidecar import core
from sidecar.model.decision import Reason
from tests.unit.core.path_cases import ADMIN, CASES, PathCase, Segments
from tests.unit.core.routing import resolve, routes_image

#: Options by their lenient word; ``strict`` is none of them.
OPTIONS = {
    "case": "insensitive",
    "encoded_slashes": "keep",
    "double_slashes": "merge",
    "parameters": "keep",
    "trailing_slash": "ignore",
}


@functools.cache
def _image(option: str) -> core.Image:
    routes = [
        {"id": "admin", "path": "/admin/**", "action": "admin:Use", "resource": "*"},
        {"id": "all", "path": "/**", "public": True},
    ]
    return routes_image({"paths": {option: OPTIONS[option]} if option in OPTIONS else {}, "routes": routes})


def _want(case: PathCase, option: str) -> Segments | None:
    special = getattr(case, option, "")
    return case.strict if isinstance(special, str) else special


def _name(case: PathCase) -> str:
    return case.sent.decode("latin-1").encode("unicode_escape").decode()[:40] or "nothing"


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_path_when_spelt_like_a_known_bypass_then_it_is_refused_or_read_in_one_way(case: PathCase) -> None:
    for option in ("strict", *OPTIONS):
        found = resolve(_image(option), case.sent)
        want = _want(case, option)

        assert found.segments == (want or ()), (option, case.source)
        assert (found.reason is Reason.PATH_INVALID) == (want is None), (option, case.source)
        if want is not None:
            first = want[0].lower() if option == "case" else want[0]
            assert found.route_id == ("admin" if first == "admin" and len(want) > 1 else "all"), option


@pytest.mark.parametrize(
    "sent",
    ["/admin/x", "/%61dmin/x", "/ADMIN/x", "/%41dmin/x", "/AdMiN/x"],
)
def test_path_when_case_does_not_count_then_every_spelling_takes_the_route_and_values_stay_as_sent(sent: str) -> None:
    image = routes_image(
        {
            "paths": {"case": "insensitive"},
            "routes": [
                {"id": "admin", "path": "/Admin/{rest=**}", "action": "admin:Use", "resource": "arn:aws:x:::{rest}"},
                {"id": "all", "path": "/**", "public": True},
            ],
        }
    )

    assert resolve(image, sent).route_id == "admin"
    assert resolve(image, sent + "Y").captures == ("xY",)


def test_path_when_a_byte_is_encoded_then_it_means_what_it_means_raw_or_is_refused() -> None:
    for byte in range(0x80):
        raw = resolve(_image("strict"), b"/a" + bytes([byte]) + b"b")
        encoded = resolve(_image("strict"), b"/a%%%02xb" % byte)

        if raw.reason is not Reason.PATH_INVALID and chr(byte) not in "/?":
            assert encoded.segments == raw.segments
        assert (encoded.reason is Reason.PATH_INVALID) == (byte < 0x20 or chr(byte) in "\x7f\\;/")


def test_path_when_everything_is_allowed_then_dots_and_backslashes_still_are_not() -> None:
    image = routes_image({"paths": OPTIONS, "routes": [{"id": "all", "path": "/**", "public": True}]})
    refused = [case for case in CASES if all(_want(case, option) is None for option in ("strict", *OPTIONS))]

    assert len(refused) > 60
    for case in refused:
        assert resolve(image, case.sent).reason is Reason.PATH_INVALID, case
    assert resolve(image, "/%61dmin%2Fx;y//").segments == ("admin/x;y",)
    assert resolve(image, b"//admin/x").segments == ADMIN
