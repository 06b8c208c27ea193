# SPDX-License-Identifier: Apache-2.0
"""The page about sessions lists what the code has."""

import re
from pathlib import Path

import typer.main
from prometheus_client import CollectorRegistry

from sidecar.cli import app
from sidecar.model.session import MAX_SESSION_TAGS, MAX_SESSION_TOKEN
from sidecar.services.sessions import hashing, keys, sign_in
from sidecar.services.sessions.journal import PrometheusSessionMetrics
from sidecar.services.store.revocations import MAX_REVOCATIONS
from sidecar.settings import SETTINGS

PAGE = (Path(__file__).parents[3] / "docs" / "sessions.md").read_text()
_HOUR_MS = 60 * 60 * 1000


def rows(heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = table[0].splitlines()[2:] if table else []
    return [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in lines]


def test_metrics_then_the_page_lists_each() -> None:
    registry = CollectorRegistry()
    PrometheusSessionMetrics(registry)

    assert {(row[0].partition("{")[0], row[1]) for row in rows("Session audit and metrics")} == {
        (f"{metric.name}_total" if metric.type == "counter" else metric.name, metric.type)
        for metric in registry.collect()
    }


def test_commands_then_the_page_lists_each() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = {f"{group} {name}" for group in ("user", "session-keys") for name in commands[group].commands}

    assert {row[0].removeprefix("iam-sidecar ").partition(" --")[0] for row in rows("For an administrator")} == known


def test_limits_then_the_page_states_each() -> None:
    assert {row[0]: row[1] for row in rows("Limits of sessions")} == {
        "characters of a token": str(MAX_SESSION_TOKEN),
        "session tags": str(MAX_SESSION_TAGS),
        "hours of a session by password": str(sign_in.SIGN_IN_MS // _HOUR_MS),
        "hours of the longest session": str(keys.MAX_SESSION_MS // _HOUR_MS),
        "keys in the file": str(keys.MAX_KEYS),
        "seconds until a new key seals": str(keys.SEALS_AFTER_MS // 1000),
        "sessions revoked one by one": str(MAX_REVOCATIONS),
        "passwords computed at a time, and waiting": f"{hashing.RUNNING} and {hashing.WAITING}",
    }
    assert f"{hashing.MEMORY_KIB // 1024} MiB and three passes each" in PAGE
    assert hashing.PASSES == 3


def test_settings_then_the_page_names_those_of_sessions() -> None:
    flags = {setting.flag for setting in SETTINGS}
    assert {"--session-keys", "--revocation-grace"} <= flags
    assert all(flag in PAGE for flag in ("--session-keys", "--revocation-grace"))
