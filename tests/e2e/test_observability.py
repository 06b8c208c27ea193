# SPDX-License-Identifier: Apache-2.0
"""
The examples for Prometheus and Grafana, against a real Prometheus that scrapes a running sidecar.

Every query gives data: one about something that has never happened gives 0, so that a rule is known to look at
something that exists.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc
from tests.e2e.sidecar_process import PATIENCE, Sidecar, eventually, question, serving, write_source
from tests.e2e.test_docs import free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "observability"
#: Where ``scripts/test`` puts Debian's package, if the machine has none.
UNPACKED = ROOT / "build" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """Give the path of a program of Prometheus."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        pytest.skip(f"{name} is not on this machine; scripts/test fetches it")
    return found


def promtool(*arguments: str) -> None:
    run = subprocess.run(
        [program("promtool"), *arguments], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stdout + run.stderr


def rules() -> list[dict[str, Any]]:
    """Give every rule of the example."""
    groups = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Give every panel of the dashboard that asks something."""
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def as_value(expression: str) -> str:
    """Give an alert's expression so that it yields 0 or 1 and not nothing: its one comparison stands at its end."""
    changed, count = re.subn(r" (==|>) ([0-9.]+(?: \* [0-9]+)?)$", r" \1 bool \2", expression.strip())
    assert count == 1, f"an alert compares once, at its end: {expression}"
    return changed


def without_variables(expression: str) -> str:
    """Give a query of the dashboard as Grafana sends it with everything chosen."""
    for name, value in (("$__rate_interval", "1m"), ("$job", ".*"), ("$instance", ".*")):
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


QUERIES = [
    *(pytest.param(rule["expr"], id=rule["record"]) for rule in rules() if "record" in rule),
    *(pytest.param(rule["record"], id=f"{rule['record']} as recorded") for rule in rules() if "record" in rule),
    *(pytest.param(as_value(rule["expr"]), id=rule["alert"]) for rule in rules() if "alert" in rule),
    *(
        pytest.param(without_variables(target["expr"]), id=f"{panel['title']} {target['refId']}")
        for panel in panels()
        for target in panel["targets"]
    ),
]


class Prometheus:
    """A Prometheus that runs. Confined to one thread."""

    def __init__(self, address: str) -> None:
        self._client = httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Give the samples of an expression, now."""
        response = self._client.get("/api/v1/query", params={"query": expression})
        body = response.json()
        assert body["status"] == "success", body
        result = body["data"]["result"]
        assert isinstance(result, list), body
        return result

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def rules(self) -> list[dict[str, Any]]:
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def close(self) -> None:
        self._client.close()


def ask(sidecar: Sidecar) -> None:
    """Have some of everything happen: allows, denials, a batch, and a call that is refused."""
    request = question()
    with sidecar.authorization("data") as stub:
        for _ in range(20):
            stub.Authorize(request, timeout=PATIENCE)
            stub.Authorize(question("s3:PutObject"), timeout=PATIENCE)
        stub.BatchAuthorize(pb.BatchAuthorizeRequest(requests=[request] * 10), timeout=PATIENCE)
        with pytest.raises(grpc.RpcError):
            stub.Authorize(question(""), timeout=PATIENCE)
    with sidecar.channel() as channel:
        pb_grpc.SnapshotServiceStub(channel).GetSnapshot(
            pb.GetSnapshotRequest(), metadata=sidecar.credentials, timeout=PATIENCE
        )


def configuration(folder: Path, *, target: str) -> Path:
    """Give the example's configuration for *target*, in a hurry."""
    text = (EXAMPLES / "prometheus.yml").read_text()
    for have, want in (("127.0.0.1:9193", target), ("interval: 15s", "interval: 1s"), ("timeout: 5s", "timeout: 1s")):
        assert have in text
        text = text.replace(have, want)
    shutil.copy(EXAMPLES / "alerts.yml", folder)
    path = folder / "prometheus.yml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen a sidecar work for a while."""
    prometheus_program = program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    with (
        serving(
            write_source(folder / "source"), folder / "state", "--decision-log", str(folder / "decisions.json")
        ) as sidecar,
        (folder / "prometheus.log").open("wb") as log,
    ):
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [
                prometheus_program,
                f"--config.file={configuration(folder, target=sidecar.address('http'))}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        prometheus = Prometheus(address)
        try:
            eventually(prometheus.is_ready)
            ask(sidecar)
            eventually(lambda: bool(prometheus.query("count_over_time(sidecar_build_info[5m]) >= 2")))
            ask(sidecar)
            recorded = [rule["record"] for rule in rules() if "record" in rule]
            eventually(lambda: bool(prometheus.query("count_over_time(sidecar_build_info[5m]) >= 5")))
            eventually(lambda: all(rule["lastEvaluation"] > "1" for rule in prometheus.rules()))
            eventually(lambda: bool(prometheus.query(f"count_over_time({recorded[-1]}[5m]) >= 2")))
            yield prometheus
        finally:
            prometheus.close()
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.peer
def test_examples_when_promtool_reads_them_then_it_finds_no_fault() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "alerts.yml")


@pytest.mark.peer
def test_rules_when_promtool_tests_them_then_they_fire_when_they_should() -> None:
    promtool("test", "rules", "alerts_test.yml")


@pytest.mark.peer
def test_prometheus_when_it_scrapes_then_it_takes_every_metric(watched: Prometheus) -> None:
    assert [sample["value"][1] for sample in watched.query('up{job="iam-sidecar"}')] == ["1"]
    assert [sample["value"][1] for sample in watched.query("scrape_samples_scraped > bool 100")] == ["1"]
    assert {rule["health"] for rule in watched.rules()} == {"ok"}


@pytest.mark.peer
def test_prometheus_when_the_sidecar_has_worked_then_it_has_counted_that(watched: Prometheus) -> None:
    def total(expression: str) -> float:
        return float(watched.query(expression)[0]["value"][1])

    assert total('sum(sidecar_decisions_total{decision="allow"})') == 60
    assert total('sum(sidecar_decisions_total{decision!="allow"})') == 40
    assert total('sidecar_rpcs_total{listener="data",method="Authorize",code="OK"}') == 80
    assert total('sidecar_rpcs_total{listener="data",method="Authorize",code="INVALID_ARGUMENT"}') == 2
    assert total("sidecar_data_batch_requests_total") == 20
    assert total("sidecar_request_duration_seconds_count") >= 82
    assert total('sidecar_audit_records_total{result="written"}') == 100


@pytest.mark.peer
@pytest.mark.parametrize("expression", QUERIES)
def test_query_when_asked_then_it_gives_data(watched: Prometheus, expression: str) -> None:
    assert watched.query(expression) != []


@pytest.mark.peer
def test_alerts_when_all_is_well_then_none_fires(watched: Prometheus) -> None:
    assert watched.query('ALERTS{alertstate="firing"}') == []


def test_dashboard_when_read_then_it_can_be_imported() -> None:
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    places = [panel["gridPos"] for panel in dashboard["panels"]]

    assert "id" not in dashboard
    assert variables["datasource"]["type"] == "datasource"
    assert {"job", "instance"} <= set(variables)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        for target in panel["targets"]:
            selectors = re.findall(r"\{([^}]*)\}", target["expr"])
            assert all('job=~"$job",instance=~"$instance"' in selector for selector in selectors), target["expr"]
    # No two panels stand on one another.
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


@pytest.mark.parametrize("rule", [rule for rule in rules() if "alert" in rule], ids=lambda rule: str(rule["alert"]))
def test_alert_when_read_then_it_is_tested_and_has_a_section_in_the_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    runbook = (ROOT / page).read_text().partition("\n## Runbook\n")[2]

    assert anchor == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in runbook
    assert f'alertname="{rule["alert"]}"' in (EXAMPLES / "alerts_test.yml").read_text()
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert {"summary", "description"} <= set(rule["annotations"])


def test_runbook_when_read_then_each_section_belongs_to_an_alert() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text().partition("\n## Runbook\n")[2]

    assert re.findall(r"^### (\S+)$", runbook, re.MULTILINE) == [rule["alert"] for rule in rules() if "alert" in rule]
