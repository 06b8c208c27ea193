# SPDX-License-Identifier: Apache-2.0
"""
The figures of the listeners as tables of a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import bench_core

Json = dict[str, Any]

MARKS = ("<!-- scripts/bench rpc --update-docs: begin -->", "<!-- scripts/bench rpc --update-docs: end -->")

#: What is measured, its goal, and the keys of what was reached, each with its name and unit.
_GOALS: tuple[tuple[str, str, tuple[tuple[str, str, str], ...], str], ...] = (
    (
        "`Authorize` over TCP, CPU time for a million calls, 4 connections x 16 streams",
        "≤ 1.8 times the do-nothing server",
        (("", "authorize_cpu_ratio", "times"), ("between rounds", "authorize_cpu_ratio_between_rounds", "")),
        "user and system time of the whole process; one request again and again",
    ),
    (
        "— many different requests",
        "",
        (("", "authorize_cpu_ratio_mix", "times"),),
        "the mix of decisions, as for the core",
    ),
    (
        "— our transport with a constant answer",
        "",
        (("", "constant_cpu_ratio", "times"),),
        "what is left when nothing is decided",
    ),
    (
        "— against the same handler on grpcio",
        "≤ 0.04 (1/25)",
        (("", "authorize_grpcio_ratio", "times"), ("between rounds", "authorize_grpcio_ratio_between_rounds", "")),
        "the management listener of the same process, with its token",
    ),
    (
        "— against Cerbos under equivalent policies",
        "",
        (("", "cerbos_cpu_ratio", "times"),),
        "both asked the same, and of one mind",
    ),
    (
        "Envoy's `Check` with 20 headers, likewise",
        "≤ 3 times the do-nothing server",
        (("", "check_cpu_ratio", "times"), ("between rounds", "check_cpu_ratio_between_rounds", "")),
        "one request again and again, to one of 1,001 routes; both answer with the same bytes",
    ),
    (
        "p99 latency at half of our own greatest load",
        "≤ 2 times the do-nothing server's",
        (("", "p99_ratio", "times"),),
        "from when a call was meant to be sent",
    ),
    (
        "— images swapped every second",
        "no worse",
        (("", "p99_ratio_swapping", "times"), ("all calls, swaps aside for both", "p99_ratio_swapping_all", "times")),
        "two prebuilt images in turn",
    ),
    (
        "Resident memory, idle after three reloads, every listener on",
        "≤ 100 MiB",
        (("", "rss_mib", "MiB"),),
        "`VmRSS` of a serving sidecar, image included",
    ),
)


def _number(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(_number(one) for one in value)
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def goals(figures: Json) -> list[str]:
    """Return the table of the goals; what was not measured is left out."""
    rows = []
    for what, goal, keys, how in _GOALS:
        reached = [
            " ".join(filter(None, (name, _number(figures[key]), unit)))
            for name, key, unit in keys
            if figures.get(key) is not None
        ]
        if reached:
            rows.append((what, goal, ", ".join(reached), how))
    return _table(("what", "goal", "measured", "how"), rows)


def _cpu_rows(measured: Json) -> list[tuple[object, ...]]:
    return [
        (
            place,
            server,
            f"{row['cpu_s_per_million']:,.2f}",
            f"{row['cpu_cov_percent']} %",
            f"{row['requests_per_s']:,}",
            f"{row['requests_per_s_cov_percent']} %",
            f"{row['mean_us']:,}",
        )
        for place, servers in measured.items()
        for server, row in servers.items()
    ]


def cpu(figures: Json) -> list[str]:
    """Return the table of CPU time."""
    measured = dict(figures.get("cpu", {}))
    if "check" in figures:
        measured["tcp 4x16, Check"] = figures["check"]
    if "mix" in figures:
        measured["tcp 4x16, many different requests"] = figures["mix"]
    for shape, servers in figures.get("cerbos", {}).items():
        if isinstance(servers, dict):
            measured[f"tcp {shape}, equivalent policies"] = servers
    head = ("connections x streams", "server", "CPU-seconds a million", "spread", "calls a second", "spread", "mean µs")
    return _table(head, _cpu_rows(measured)) if measured else []


def latency(figures: Json) -> list[str]:
    """Return the table of latencies."""
    measured = figures.get("latency")
    if not measured:
        return []
    rows = [
        (
            name.replace("_", " "),
            *(f"{row[f'us_{percentile}']:,}" for percentile in ("p50", "p99", "p999")),
            f"{row['disturbed_percent']} %",
            *(f"{row[f'all_us_{percentile}']:,}" for percentile in ("p50", "p99", "p999")),
            row["swaps"],
        )
        for name, row in measured.items()
    ]
    head = (
        "server",
        "p50 µs",
        "p99",
        "p99.9",
        "calls in stalls of the generator",
        "p50 of all",
        "p99",
        "p99.9",
        "swaps",
    )
    rates = [f"{figures[f'{name}_requests_per_s']:,}" for name in ("latency", "greatest")]
    title = f"Latency at {rates[0]} calls a second, half of the greatest load ({rates[1]}):"
    return [title, "", *_table(head, rows)]


def markdown(figures: Json) -> str:
    """Return the tables of the page from *figures*."""
    load = (
        "on a quiet machine" if figures["quiet"] else "**while other programs ran**: the figures are not to be trusted"
    )
    lines = [*goals(figures), *cpu(figures), *latency(figures), f"Measured {figures['measured_at']}, {load}.", ""]
    lines += [f"- {name}: {value}" for name, value in figures["machine"].items()]
    lines.append(f"- nice value: {figures['nice']}")
    lines.append(f"- time that the processors were given to other machines: {figures['stolen_percent']} %")
    placed = figures["processors"]
    lines.append(
        f"- server on processor {placed['server']}, generator on {placed['generator']}; for latency the other threads"
        f" of the sidecar on {placed['python']}"
    )
    sizes = {
        "request_bytes": "bytes of the request",
        "answer_bytes": "bytes of the answer",
        "check_request_bytes": "bytes of the request of Envoy",
        "check_answer_bytes": "bytes of the answer to it",
    }
    for key, text in sizes.items():
        if key in figures:
            lines.append(f"- {text}: {figures[key]:,}")
    if "cerbos" in figures:
        found = figures["cerbos"]
        lines.append(
            f"- Cerbos {found['version']}, from npm; it and we agree on {found['questions_agreed_on']:,} questions,"
            f" {found['allowed_of_them']:,} of them allowed"
        )
    lines += [f"- not measured: {what}: {why}" for what, why in figures["skipped"].items()]
    return "\n".join(lines) + "\n"


def update_page(table: str, page: Path = bench_core.PAGE) -> None:
    """Put *table* between the marks of *page*."""
    bench_core.update_page(table, page, MARKS)
