# SPDX-License-Identifier: Apache-2.0
"""The page about second factors lists what the code has."""

import re
from pathlib import Path

import typer.main
from prometheus_client import CollectorRegistry

from sidecar.cli import app
from sidecar.mfa import totp
from sidecar.services import ceremonies, challenges, devices, fresh_proof, import_document
from sidecar.services.mfa_journal import PrometheusMfaMetrics
from sidecar.services.store.schema import MAX_DEVICES
from sidecar.services.store.throttles import LOCKED_AT, WAITS

PAGE = (Path(__file__).parents[3] / "docs" / "mfa.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = table[0].splitlines()[2:] if table else []
    return [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in lines]


def test_metrics_then_the_page_lists_each() -> None:
    registry = CollectorRegistry()
    PrometheusMfaMetrics(registry)

    assert {row[0].partition("{")[0] for row in rows("MFA metrics")} == {
        f"{metric.name}_total" for metric in registry.collect()
    }


def test_commands_then_the_page_lists_each() -> None:
    group = typer.main.get_command(app).commands["mfa"]  # type: ignore[attr-defined]
    commands = {name for name in group.commands if name != "enrol"}
    commands |= {f"enrol {name}" for name in group.commands["enrol"].commands}

    listed = [row[0].removeprefix("iam-sidecar mfa ").split() for row in rows("For an administrator")]
    assert {
        " ".join(word for word in words if word.islower() and not word.startswith("--")) for words in listed
    } == commands


def test_limits_then_the_page_states_each() -> None:
    stated = {row[0]: row[1] for row in rows("Limits")}
    first = next(place for place, seconds in enumerate(WAITS) if seconds)
    waits = [str(seconds) for seconds in WAITS[first : WAITS.index(900)]]

    assert stated == {
        "devices of a user": str(MAX_DEVICES),
        "time to finish an enrolment, or to answer a challenge": f"{devices.ENROLMENT_MS // 60_000} minutes",
        "enrolments of apps, and registrations of keys, under way for a user": f"{devices.MAX_PENDING} each",
        "challenges for a user within ten minutes": str(challenges.MAX_PROMPTS),
        "failures before a user has to wait": str(first + 1),
        "waits after that, in seconds": f"{', '.join(waits)}, then 900",
        "failures after which a user is locked": str(LOCKED_AT),
        "steps of 30 seconds that a code may be off, around our clock and around the device's": str(
            totp.CODE_WINDOW_STEPS
        ),
        "steps that a device may be off when it is enabled": str(totp.ENABLE_WINDOW_STEPS),
        "steps that an app may be off when it is resynchronized": str(totp.RESYNC_WINDOW_STEPS),
        "steps that a hardware token may be off when it is resynchronized": str(totp.HARDWARE_RESYNC_WINDOW_STEPS),
        "least bits of a seed that is imported": (
            f"{8 * totp.MIN_SECRET_BYTES}, or {8 * totp.MIN_IMPORTED_SECRET_BYTES} where short ones are let in"
        ),
        "devices in one document": str(import_document.MAX_IMPORTED),
    }
    assert set(WAITS[WAITS.index(900) :]) == {900}
    assert ceremonies.CEREMONY_MS == challenges.CHALLENGE_MS == devices.ENROLMENT_MS == fresh_proof.FRESH_MS
    assert ceremonies.MAX_OPEN == devices.MAX_PENDING
    assert challenges.PROMPTS_MS == 10 * 60 * 1000
