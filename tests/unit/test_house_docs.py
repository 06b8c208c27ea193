# SPDX-License-Identifier: Apache-2.0
"""The pages list what the code has: metrics, reasons, limits, commands. A row too few fails here."""

import re
from pathlib import Path

import typer.main

from sidecar.cli import app
from sidecar.model import request as limits
from sidecar.model.decision import Reason
from sidecar.services.metrics import PrometheusMetrics

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its two first rows."""
    text = (DOCS / page).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = table[0].splitlines()[2:] if table else []
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_metrics_then_the_operators_page_lists_each() -> None:
    registry = PrometheusMetrics().registry
    names = set()
    for metric in registry.collect():
        if metric.name.startswith("sidecar_"):
            names.add({"counter": f"{metric.name}_total", "info": f"{metric.name}_info"}.get(metric.type, metric.name))

    listed = {re.split(r"[{ ]", row[0])[0] for row in rows("operators.md", "Metrics")}

    assert listed == names


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
