# SPDX-License-Identifier: Apache-2.0
"""The pages list what the code has: metrics, reasons, limits, commands. A row too few fails here."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import typer.main

from sidecar.cli import app
from sidecar.model import request as limits
from sidecar.model.decision import Reason
from sidecar.services.metrics import PrometheusMetrics
from sidecar.services.raw_records import RawRecord
from sidecar.transports.addresses import TcpAddress
from sidecar.transports.data_listener import DataListener
from sidecar.transports.decision_records import describe_record
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its two first rows."""
    text = (DOCS / page).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = table[0].splitlines()[2:] if table else []
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_metrics_then_the_operations_page_describes_each_and_no_other() -> None:
    metrics = PrometheusMetrics()
    listener = DataListener(addresses=[TcpAddress("127.0.0.1", 0)], workers=1)
    listener.start()
    metrics.telemetry.watch(listener)
    exposed: dict[str, tuple[str, set[str]]] = {}
    for metric in metrics.registry.collect():
        name = {"counter": f"{metric.name}_total", "info": f"{metric.name}_info"}.get(metric.type, metric.name)
        labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
        exposed[name] = (metric.type, labels)
    listener.stop(0)

    described: dict[str, tuple[str, set[str]]] = {}
    for heading in ("Decisions", "Calls and connections", "Recording", "Policies", "Process"):
        for named, kind, what, when in rows("operations.md", heading):
            name, _, label_names = named.rstrip("}").partition("{")
            described[name] = (kind, set(filter(None, label_names.split(","))))
            assert what, name
            assert when, name

    assert described == exposed


def keys(record: Mapping[str, object]) -> set[str]:
    """Give the paths of the fields of a record, but for the keys of the context."""
    found: set[str] = set()
    for name, value in record.items():
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        found.add(name)
        if isinstance(inner, dict) and name != "context":
            found |= {f"{name}.{path}" for path in keys(inner)}
    return found


def test_decision_record_then_the_operations_page_shows_one_and_explains_its_fields() -> None:
    text = (DOCS / "operations.md").read_text().partition("\n## Decision log\n")[2]
    shown = json.loads(text.partition("```json\n")[2].partition("```")[0])
    arn = "arn:aws:iam::111122223333:user/ada"
    requirement = pb.MfaRequirement(max_age_seconds=900, methods=["totp"])
    request = pb.AuthorizeRequest(principal=arn, action="s3:Get", resource="arn:aws:s3:eu-west-1:111122223333:x")
    answer = pb.AuthorizeResponse(principal_arn=arn, reason="no_identity_allow", mfa_requirement=requirement)
    usual = describe_record(RawRecord(0, 1, 3, 0, 1, 1, 0, request.SerializeToString(), answer.SerializeToString()))

    assert keys(shown) == keys(usual)
    explained = {name for row in rows("operations.md", "Fields of a record") for name in re.findall(r"\w+", row[0])}
    of_check = {"route", "requestID", "http"}
    assert explained == set(usual) | of_check | {"shadowDecision", "unreadable"}


def test_reasons_then_the_developers_page_lists_each() -> None:
    words = {reason.word for reason in Reason if reason is not Reason.UNSPECIFIED}

    assert {row[0] for row in rows("service-developers.md", "Reasons")} == words


def test_limits_then_the_developers_page_states_each() -> None:
    numbers = {value for name, value in vars(limits).items() if name.startswith("MAX_") and isinstance(value, int)}

    stated = {int(row[1].replace(",", "")) for row in rows("service-developers.md", "Limits")}

    assert stated == numbers


def test_commands_then_some_page_names_each() -> None:
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})

    assert commands
    assert [name for name in commands if f"iam-sidecar {name}" not in text] == []
