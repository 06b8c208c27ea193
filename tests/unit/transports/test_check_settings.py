# SPDX-License-Identifier: Apache-2.0
"""The settings of Check, and the templates of its denials."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.app import check_settings
from sidecar.compile.check_templates import BUILT_IN, MAX_TEMPLATE, Fill, parse_bodies, parse_body
from sidecar.model.check import CheckSettings, CheckTemplates, OnError
from sidecar.model.errors import SettingsError
from sidecar.settings import load_settings
from sidecar.transports.check_settings import TEMPLATE_FILES, read_templates


def load(**flags: Any) -> CheckSettings:
    """Return what a sidecar with these flags tells its listener."""
    return check_settings(load_settings({"snapshot": "policies", **flags}, {"HOME": "/home/ada"}))


def test_settings_when_nothing_is_stated_then_the_closed_ones_count() -> None:
    settings = load(prompt="off")

    assert settings == CheckSettings()
    assert settings.on_error is OnError.DENY
    assert settings.trusted_hops == 0


def test_settings_when_there_is_a_prompt_then_its_address_and_cookie_are_known() -> None:
    settings = load(public_url="https://shop.example.com/.iam-sidecar", rp_id="shop.example.com")

    assert settings.prompt_url == "https://shop.example.com/.iam-sidecar"
    assert settings.cookie_name.startswith("__Host-")


def test_settings_when_stated_then_they_count(tmp_path: Path) -> None:
    (tmp_path / "denied.json").write_text('{"id":"{{request_id}}"}')

    settings = load(
        trusted_hops="2", check_on_error="error-response", no_step_up_hints=True, check_templates=str(tmp_path)
    )

    assert (settings.trusted_hops, settings.on_error, settings.step_up_hints) == (2, OnError.ERROR_RESPONSE, False)
    assert settings.templates == CheckTemplates(denied_json='{"id":"{{request_id}}"}')


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"trusted_hops": "-1"}, "no whole number"),
        ({"trusted_hops": "33"}, "no whole number"),
        ({"trusted_hops": "9" * 30}, "no whole number"),
        ({"trusted_hops": "٣"}, "no whole number"),
        ({"check_on_error": "allow"}, "is unknown"),
        ({"no_step_up_hints": "maybe"}, "is unknown"),
        ({"check_templates": "/nowhere/at/all"}, "cannot be read: no such file"),
    ],
)
def test_settings_when_they_cannot_be_used_then_they_are_refused(flags: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(**flags)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("denied.html", b"", "is empty"),
        ("denied.html", b"\xff", "is not valid UTF-8"),
        ("denied.html", b"x" * (MAX_TEMPLATE + 1), "longer than"),
        ("denied.html", b"{{password}}", "which does not exist"),
        ("denied.xml", b"x", "holds `denied.xml`, which is none"),
    ],
)
def test_templates_when_a_file_is_none_then_the_folder_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SettingsError, match=words):
        read_templates(tmp_path)


def test_templates_when_every_file_is_there_then_each_is_read(tmp_path: Path) -> None:
    for name in TEMPLATE_FILES.values():
        (tmp_path / name).write_text(name)
    # What an editor leaves behind is none of ours.
    (tmp_path / ".denied.json.swp").write_text("x")

    assert read_templates(tmp_path) == CheckTemplates("denied.json", "denied.html", "step_up.json", "step_up.html")


def test_built_in_templates_then_they_are_good_ones_and_ours() -> None:
    bodies = parse_bodies(CheckTemplates())

    assert all(body.is_ours for body in bodies)
    assert [body.is_html for body in bodies] == [False, True, False, True]
    assert "{{prompt_url}}" in BUILT_IN.step_up_html


def test_template_when_cut_then_its_pieces_make_it_up_again() -> None:
    body = parse_body("{{error}}a{{ request_id }}{{max_age}}{b}", name="x", is_html=False)

    assert [(piece.fill, piece.text) for piece in body.pieces] == [
        (Fill.ERROR, b""),
        (Fill.TEXT, b"a"),
        (Fill.REQUEST_ID, b""),
        (Fill.MAX_AGE, b""),
        (Fill.TEXT, b"{b}"),
    ]
