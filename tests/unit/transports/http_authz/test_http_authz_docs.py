# SPDX-License-Identifier: Apache-2.0
"""The page on proxies that ask by HTTP says what the code has."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from uvicorn.config import Config

from sidecar.services.http_authz_metrics import HttpAuthzResult, PrometheusHttpAuthzMetrics
from sidecar.transports.http_authz import answers, application, listener, original

PAGE = (Path(__file__).parents[4] / "docs" / "http-authz.md").read_text()


def test_limits_then_the_page_states_each() -> None:
    table = PAGE.partition("## Limits of the HTTP authorization listener")[2].partition("##")[0]
    stated = {int(row) for row in re.findall(r"^\| [^|]+ \| (\d+) \|$", table, re.MULTILINE)}

    assert Config("").h11_max_incomplete_event_size is None, "the server's own default, of 64 KiB, counts"
    assert stated == {listener.MAX_CONNECTIONS, listener._KEEP_ALIVE, 64 * 1024}


def test_metrics_then_the_page_lists_each() -> None:
    registry = CollectorRegistry()
    PrometheusHttpAuthzMetrics(registry)
    table = PAGE.partition("### HTTP authorization metrics")[2]

    listed = set(re.findall(r"^\| `([a-z_]+)\{", table, re.MULTILINE))
    assert listed == {f"{metric.name}_total" for metric in registry.collect()}
    for result in HttpAuthzResult:
        assert f"`{result.value}`" in table


def test_headers_and_endpoints_then_the_page_names_each() -> None:
    names = [
        name.decode() for name in (original.METHOD, original.URI, original.HOST, original.SCHEME, original.ADDRESS)
    ]
    names += [answers.LOCATION, answers.KEPT_COOKIE, answers.KEPT_AUTHORIZATION, answers.HEADERS_TO_REMOVE]
    page = PAGE.lower()

    assert [name for name in names if f"`{name}`" not in page] == []
    assert [path for path in application._ENDPOINTS if f"| `{path.decode()}` |" not in page] == []
