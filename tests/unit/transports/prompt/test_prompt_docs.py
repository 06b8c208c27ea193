# SPDX-License-Identifier: Apache-2.0
"""The page on the prompt says what the code has."""

import re
from pathlib import Path

import pytest

from sidecar.transports import http_server
from sidecar.transports.prompt import address, door, failures, visits

PAGE = (Path(__file__).parents[4] / "docs" / "prompt.md").read_text()
PROMPT = Path(failures.__file__).parent


def test_limits_then_the_page_states_each() -> None:
    table = PAGE.partition("### Limits of the prompt")[2]
    stated = {int(row[1]) for row in re.findall(r"^\| ([^|]+) \| (\d+) \|$", table, re.MULTILINE)}

    assert stated == {
        http_server._MAX_CONNECTIONS,
        int(http_server._ShortLivedProtocol.lifetime),
        door._THREADS,
        visits.MAX_FORM_BYTES // 1024,
        visits._MAX_FIELDS,
        address.MAX_RETURN_ADDRESS,
    }


def test_screens_then_the_page_explains_words_that_people_see() -> None:
    shown = "".join(path.read_text() for path in PROMPT.rglob("*.*") if path.suffix in {".py", ".html", ".js"})
    table = PAGE.partition("| the page says |")[2].partition("\n\n")[0]

    for words in re.findall(r"^\| ([A-Z][^|]+) \|", table, re.MULTILINE):
        assert words in shown or words == "Too many proofs have failed", words


@pytest.mark.parametrize("name", ["public_url", "prompt_proxy", "allowed_return_url"])
def test_settings_then_the_page_names_each(name: str) -> None:
    assert f"| `--{name.replace('_', '-')}` |" in PAGE
