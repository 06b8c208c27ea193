# SPDX-License-Identifier: Apache-2.0
"""
The core in figures: decisions, answers, compiling, loading, memory, instructions.

Run it with ``scripts/bench core``; ``docs/performance.md`` says what each figure means. No figure of
time fails anything: only wrong answers do, and ``--check-instructions``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.compile import layout
from sidecar.core import Image
from sidecar.core._core import measure, measure_memory
from sidecar.services.compiling import ChildCompiler, CompiledFile
from sidecar.services.snapshots import SnapshotStore
from tests.bench import instructions
from tests.bench.inputs import KEPT, ROOT, Inputs, inputs, joined, mix_of
from tests.bench.machine import huge_memory_kib, is_quiet, machine, one_processor, processor_ticks, resident_mib
from tests.bench.tokens import measure_tokens
from tests.bench.workload import NOW
from tests.e2e.sidecar_process import Sidecar, serving

Json = dict[str, Any]

PARTS = ("decisions", "tokens", "compile", "memory", "instructions")
PRINCIPALS = 10_000
REQUESTS = 100_000
PASSES = 7
#: Requests of the small set that every cache holds, and how often each is decided.
HOT_REQUESTS = 200
HOT_ROUNDS = 100
COMPILES = 3
COMPILES_ASIDE = 2
LOADS = 7
RELOADS = 3
IDLE_SECONDS = 3.0
#: The longest that a compile aside may take.
_COMPILE_TIMEOUT = 600.0
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
#: Sizes of memory in which the cost of one load is measured, beside that of the image.
_LOAD_SIZES = {"16_kib": 1 << 14, "256_kib": 1 << 18, "256_mib": 1 << 28}
_WANT_MIX = {
    "allow": 0.4,
    "implicit deny": 0.15,
    "implicit deny, allowed with mfa": 0.15,
    "explicit deny": 0.15,
    "explicit deny, allowed with mfa": 0.15,
}

PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- scripts/bench core --update-docs: begin -->"
END = "<!-- scripts/bench core --update-docs: end -->"


class MixError(Exception):
    """The requests are not answered in the mix that the goals are stated for."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is measured. The default is what the goals are stated for."""

    principals: int = PRINCIPALS
    requests: int = REQUESTS
    passes: int = PASSES
    compiles: int = COMPILES
    loads: int = LOADS
    idle_seconds: float = IDLE_SECONDS
    kept: Path = KEPT


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """
    Return the percentiles of *values* that are reported, and their mean.

    >>> percentiles([float(n) for n in range(1000)])
    {'p50': 500.0, 'p90': 900.0, 'p99': 990.0, 'p999': 999.0, 'mean': 499.5}
    """
    ordered = sorted(values)
    found = {name: round(ordered[int(share * len(ordered))], 1) for name, share in _PERCENTILES.items()}
    return {**found, "mean": round(statistics.fmean(ordered), 1)}


def variation(values: Sequence[float]) -> float:
    """
    Return the coefficient of variation of *values*, in per cent.

    >>> variation([90.0, 100.0, 110.0])
    10.0
    """
    return round(100 * statistics.stdev(values) / statistics.fmean(values), 1) if len(values) > 1 else 0.0


@contextlib.contextmanager
def scratch_directory(kept: Path) -> Iterator[Path]:
    """Give a folder on the disk of the checkout for the length of the block."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=kept) as name:
        yield Path(name)


@dataclass(slots=True)
class _Passes:
    """Several passes over the same requests: what each gave, and every time of the best one."""

    rows: list[dict[str, float]]
    best: array[float]
    decisions: list[int]

    def report(self, prefix: str) -> Json:
        """Return the figures of the best pass, the one with the lowest median, and the spread between all."""
        best = min(self.rows, key=lambda row: row["p50"])
        figures: Json = {f"{prefix}_ns_{name}": value for name, value in best.items()}
        for name in ("p50", "p99"):
            figures[f"{prefix}_ns_{name}_cov_percent"] = variation([row[name] for row in self.rows])
        return figures


def _measure_passes(image: Image, requests: Sequence[bytes], *, whole: bool, passes: int, rounds: int = 1) -> _Passes:
    """
    Decide all *requests* once a pass, *rounds* times over.

    A pass comes back to a request only after all others, so it finds the caches as those left them.
    """
    data, lengths = joined(requests)
    rows: list[dict[str, float]] = []
    best: array[float] = array("d")
    counted: list[int] = []
    least = float("inf")
    # The first pass brings in pages and code and is not reported.
    measure(image, data, lengths, seconds=NOW, whole=whole)
    for _ in range(passes):
        taken: array[float] = array("d")
        for _ in range(rounds):
            spent, _, counted = measure(image, data, lengths, seconds=NOW, whole=whole)
            taken.extend(spent)
        row = percentiles(taken)
        rows.append(row)
        if row["p50"] < least:
            least, best = row["p50"], taken
    return _Passes(rows, best, counted)


def _check_mix(image: Image, requests: Sequence[bytes], counted: Sequence[int]) -> Json:
    """Return the share of each outcome; in the full mix every ten requests of a principal have it exactly."""
    shares = mix_of(image, requests)
    # A number of requests that is no multiple of the mix cannot have it to the last digit.
    if any(abs(shares[outcome] - share) > 0.01 for outcome, share in _WANT_MIX.items()):
        raise MixError(f"the answers are not in the mix: {shares}")
    unspecified, allowed, explicit, implicit = counted
    total = len(requests)
    if unspecified or sum(counted) != total:
        raise MixError(f"of {total} requests {unspecified} have no decision")
    if abs(allowed / total - shares["allow"]) > 1e-3:
        raise MixError(f"measured and answered decisions differ: {allowed} of {total} are allowed")
    return {"allow": allowed, "explicit_deny": explicit, "implicit_deny": implicit, "shares": shares}


def measure_decisions(image: Image, given: Inputs, scope: Scope, raw: Path) -> Json:
    """Time decisions and whole answers, over all requests and over a small set that stays in the caches."""
    hot = given.requests[:: max(1, len(given.requests) // HOT_REQUESTS)][:HOT_REQUESTS]
    figures: Json = {}
    kept: dict[str, _Passes] = {}
    with one_processor() as processor:
        figures["processor"] = processor
        for prefix, whole in (("decision", False), ("answer", True)):
            kept[prefix] = _measure_passes(image, given.requests, whole=whole, passes=scope.passes)
            figures |= kept[prefix].report(prefix)
            name = f"{prefix}_hot"
            kept[name] = _measure_passes(image, hot, whole=whole, passes=scope.passes, rounds=HOT_ROUNDS)
            figures |= kept[name].report(name)
        _, lengths = joined(given.requests[:1])
        _, figures["clock_ns"], _ = measure(image, given.requests[0], lengths, seconds=NOW, whole=False)
        figures |= {f"load_ns_{name}": round(measure_memory(size), 1) for name, size in _LOAD_SIZES.items()}
        figures["load_ns_image"] = round(measure_memory(image.statistics["image_bytes"]), 1)
    figures["clock_ns"] = round(figures["clock_ns"], 1)
    figures["huge_memory_kib"] = huge_memory_kib()
    figures["requests"] = len(given.requests)
    figures["mix"] = _check_mix(image, given.requests, kept["decision"].decisions)
    if kept["answer"].decisions != kept["decision"].decisions:
        raise MixError("decisions and answers differ")
    with (raw / "passes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("what", "pass", *_PERCENTILES, "mean"))
        for name, passes in kept.items():
            rows.writerows((name, number, *row.values()) for number, row in enumerate(passes.rows, 1))
    with (raw / "requests.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("request", "decision_ns", "answer_ns"))
        for number, pair in enumerate(zip(kept["decision"].best, kept["answer"].best, strict=True)):
            rows.writerow((number, *(f"{value:.1f}" for value in pair)))
    return figures


def compile_once(source: Path, image: Path) -> Json:
    """Compile *source* into *image* in a fresh process and return the seconds of each step."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.compile_once", str(source), str(image)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise ValueError(f"the compile failed: {run.stderr[-2000:]}")
    steps: Json = json.loads(run.stdout)
    return steps


def measure_compiling(given: Inputs, scope: Scope, image: Path, other: Image) -> Json:
    """Time the way from a source to an image in place. *other* is an image to take turns with."""
    runs = [compile_once(given.source, image) for _ in range(scope.compiles)]
    best = min(runs, key=lambda run: float(run["compile_s"]))
    figures: Json = {name: round(value, 3) for name, value in best.items()}
    figures["compile_s_runs"] = [round(run["compile_s"], 3) for run in runs]
    with scratch_directory(scope.kept) as scratch:
        aside = []
        for _ in range(min(scope.compiles, COMPILES_ASIDE)):
            began = time.perf_counter()
            compiler = ChildCompiler(scratch_dir=scratch, timeout=_COMPILE_TIMEOUT)
            compiled = compiler.compile_aside(given.source, now=0, is_urgent=True)
            aside.append(time.perf_counter() - began)
            if compiled.descriptor is not None:
                os.close(compiled.descriptor)
    figures["compile_aside_s"] = round(min(aside), 3)
    figures |= _measure_loading(image, scope)
    figures |= _measure_swap(given.source, image, other, scope)
    figures["image_bytes"] = image.stat().st_size
    figures["sections"] = section_sizes(image)
    return figures


def _measure_loading(path: Path, scope: Scope) -> Json:
    taken = []
    for _ in range(scope.loads):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            began = time.perf_counter()
            image = Image.from_fd(descriptor, path.stat().st_size)
            taken.append(1000 * (time.perf_counter() - began))
        finally:
            os.close(descriptor)
        del image
    return {"verify_ms": round(min(taken), 2), "verify_ms_runs": [round(value, 2) for value in taken]}


class _NoCompiler:
    """Has an image ready, so that a reload is nothing but the swap."""

    def compile_aside(self, path: Path, *, now: int, is_urgent: bool) -> CompiledFile:
        """Return a descriptor that nobody reads."""
        return CompiledFile(os.open(os.devnull, os.O_RDONLY), ())

    def stop(self) -> None:
        """Nothing runs."""


def _measure_swap(source: Path, path: Path, other: Image, scope: Scope) -> Json:
    """Time the reload of a store whose images are verified already; the one that goes is freed within."""
    data = path.read_bytes()
    turns: list[Image] = []
    for _ in range(scope.loads):
        turns += (other, Image.from_bytes(data))
    del data

    def next_image(descriptor: int, size: int) -> Image:
        del descriptor, size
        return turns.pop()

    store = SnapshotStore(source=source, compiler=_NoCompiler(), now=time.time_ns, load_image=next_image)
    taken = []
    while turns:
        began = time.perf_counter()
        result = store.reload()
        taken.append(1000 * (time.perf_counter() - began))
        if not result.is_applied:
            raise ValueError("the image was not put in place")
        del result
    return {"map_ms": round(statistics.median(taken), 3), "map_ms_greatest": round(max(taken), 3)}


def section_sizes(path: Path) -> dict[str, int]:
    """Return the bytes of each section of the image in *path*, the largest first."""
    data = path.read_bytes()
    names = [name for name, _ in layout.SECTIONS]
    found = {}
    for number in range(len(names)):
        kind, record_size, _, count = layout.SECTION.struct.unpack_from(
            data, layout.HEADER.struct.size + number * layout.SECTION.struct.size
        )
        found[names[kind].lower()] = record_size * count
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def measure_process(given: Inputs, scope: Scope, *, use: Callable[[Sidecar], None] = lambda sidecar: None) -> Json:
    """
    Run a real sidecar on the source, reload it three times, and look at it when it has nothing to do.

    Args:
        use: Makes use of the sidecar, before the first reload and after each.
    """
    with scratch_directory(scope.kept) as scratch:
        source = scratch / "source"
        shutil.copytree(given.source, source)
        # The watch would reload beside the calls that are counted here.
        with serving(source, scratch / "state", "--watch-interval", "0") as sidecar:
            pid = sidecar.process.pid
            first = resident_mib(pid)
            use(sidecar)
            revisions = []
            for number in range(RELOADS):
                _change(source, number)
                response = sidecar.reload()
                if not response.applied:
                    raise ValueError(f"the reload failed: {sidecar.log[-2000:]}")
                revisions.append(response.snapshot.revision)
                use(sidecar)
            if len(set(revisions)) != RELOADS:
                raise ValueError(f"a reload changed nothing: {revisions}")
            time.sleep(scope.idle_seconds)
            idle = resident_mib(pid)
    return {
        "rss_mib": idle["VmRSS"],
        "rss_kinds_mib": {name: value for name, value in idle.items() if name != "VmRSS"},
        "rss_before_reloads_mib": first["VmRSS"],
    }


def _change(source: Path, number: int) -> None:
    """Add a resource policy to *source*."""
    path = source / "resource-policies.json"
    document = json.loads(path.read_text())
    one = document["resources"][0]
    document["resources"].append({**one, "arn": f"{one['arn']}/reload-{number}"})
    draft = path.with_name(".draft")
    draft.write_text(json.dumps(document))
    draft.rename(path)


def measure_instructions() -> Json:
    """Count the instructions of a decision, or say why that is not possible here."""
    try:
        count = instructions.count_instructions()
    except instructions.UncountedError as error:
        return {"decision_instructions": None, "instructions_skipped": str(error)}
    figures: Json = {"decision_instructions": count.decision_instructions, "instructions_requests": count.requests}
    with contextlib.suppress(OSError):
        figures["decision_instructions_recorded"] = instructions.recorded().decision_instructions
    return figures


def measure_all(scope: Scope, parts: Sequence[str] = PARTS, *, tell: Callable[[str], None] = lambda text: None) -> Json:
    """Measure *parts* and return the figures; the raw ones stand in a folder of their own below ``build/bench``."""
    figures: Json = {
        "quiet": is_quiet(),
        "measured_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "machine": machine(),
    }
    if not figures["quiet"]:
        tell("warning: the load average is above 1: other programs run, so the figures of time are not to be trusted")
    ticks, stolen = processor_ticks()
    raw = scope.kept / "core" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    raw.mkdir(parents=True, exist_ok=True)
    if set(parts) & {"decisions", "tokens", "compile", "memory"}:
        tell("source and requests")
        given = inputs(principals=scope.principals, requests=scope.requests, kept=scope.kept)
        figures["company"] = given.counts
        path = raw / "image"
        try:
            if "compile" in parts:
                tell("compiling, loading, swapping")
                small = inputs(principals=40, requests=400, kept=scope.kept)
                compile_once(small.source, path)
                figures |= measure_compiling(given, scope, path, Image.from_bytes(path.read_bytes()))
            if set(parts) & {"decisions", "tokens"} and "compile" not in parts:
                compile_once(given.source, path)
            if "decisions" in parts:
                tell(f"{scope.passes} passes over {len(given.requests):,} requests, decisions and answers")
                image = Image.from_bytes(path.read_bytes())
                figures["statistics"] = dict(image.statistics)
                figures |= measure_decisions(image, given, scope, raw)
                del image
            if "tokens" in parts:
                tell("session tokens")
                with one_processor():
                    image = Image.from_bytes(path.read_bytes())
                    figures |= measure_tokens(image, given.requests, passes=scope.passes)
                    del image
        finally:
            path.unlink(missing_ok=True)
        if "memory" in parts:
            tell("memory of a serving sidecar")
            figures |= measure_process(given, scope)
    if "instructions" in parts:
        tell("instructions")
        figures |= measure_instructions()
    ticks, stolen = (now - then for now, then in zip(processor_ticks(), (ticks, stolen), strict=True))
    figures["stolen_percent"] = round(100 * stolen / max(1, ticks), 1)
    figures["quiet"] = figures["quiet"] and figures["stolen_percent"] <= 1
    figures["raw"] = os.path.relpath(raw, ROOT)
    text = json.dumps(figures, indent=2)
    (raw / "figures.json").write_text(text)
    (scope.kept / "core.json").write_text(text)
    return figures


#: What is measured, its goal, and the keys of what was reached, each with the unit it is shown in.
_GOALS: tuple[tuple[str, str, tuple[tuple[str, str, str], ...], str], ...] = (
    (
        "One decision in the core, no cache of decisions",
        "median ≤ 200 ns, p99 ≤ 1 µs",
        (
            ("median", "decision_ns_p50", "ns"),
            ("p90", "decision_ns_p90", "ns"),
            ("p99", "decision_ns_p99", "ns"),
            ("p99.9", "decision_ns_p999", "ns"),
        ),
        "from a parsed, bound request to its outcome",
    ),
    (
        "— spread of the passes",
        "",
        (("of the median", "decision_ns_p50_cov_percent", "%"), ("of the p99", "decision_ns_p99_cov_percent", "%")),
        "coefficient of variation",
    ),
    (
        "— the same 200 requests again and again",
        "",
        (("median", "decision_hot_ns_p50", "ns"), ("p99", "decision_hot_ns_p99", "ns")),
        "everything in the caches: the instructions without the memory",
    ),
    (
        "Reading the request bytes, deciding, writing the answer",
        "median ≤ 500 ns",
        (
            ("median", "answer_ns_p50", "ns"),
            ("p90", "answer_ns_p90", "ns"),
            ("p99", "answer_ns_p99", "ns"),
            ("p99.9", "answer_ns_p999", "ns"),
        ),
        "from request bytes to answer bytes",
    ),
    (
        "— the same 200 requests again and again",
        "",
        (("median", "answer_hot_ns_p50", "ns"), ("p99", "answer_hot_ns_p99", "ns")),
        "everything in the caches",
    ),
    (
        "A session token that is known again",
        "as fast as a plain principal",
        (("", "token_cached_ratio", "times the same request by name"), ("median", "token_cached_ns_p50", "ns")),
        "whole answers for 40 users, everything in the caches",
    ),
    (
        "Opening a session token",
        "",
        (("", "token_open_ns_p50", "ns"), ("with 25 tags", "token_open_tags_ns_p50", "ns")),
        "what a token that is not known takes more than one that is",
    ),
    (
        "Files to image",
        "≤ 3 s",
        (("", "compile_s", "s"), ("of a processor", "compile_cpu_s", "s")),
        "files in memory to image bytes, in a fresh process",
    ),
    (
        "— in the sidecar's own child",
        "",
        (("", "compile_aside_s", "s"),),
        "with starting it and reading the files",
    ),
    ("Verifying an image", "", (("", "verify_ms", "ms"),), "copying it, checking every offset, hashing"),
    (
        "Putting a verified image in place",
        "≤ 10 ms",
        (("median", "map_ms", "ms"), ("greatest", "map_ms_greatest", "ms")),
        "a reload whose image is there already; the old one is freed within",
    ),
    (
        "Resident memory, idle after three reloads",
        "≤ 100 MiB",
        (("", "rss_mib", "MiB"),),
        "`VmRSS` of a serving sidecar, image included",
    ),
    (
        "Instructions a decision",
        "+5 % fails",
        (("", "decision_instructions", ""), ("recorded", "decision_instructions_recorded", "")),
        "callgrind, mean of 4,000 requests under a company of 300",
    ),
)


def markdown(figures: Json) -> str:
    """Return the table of the page from *figures*; what was not measured is left out."""
    lines = ["| what | goal | measured | how |", "| --- | --- | --- | --- |"]
    for what, goal, keys, how in _GOALS:
        reached = [
            " ".join(filter(None, (name, f"{figures[key]:,}", unit)))
            for name, key, unit in keys
            if figures.get(key) is not None
        ]
        if reached:
            lines.append(f"| {what} | {goal} | {', '.join(reached)} | {how} |")
    load = "on a quiet machine" if figures["quiet"] else "**while other programs ran**: times are too high and spread"
    lines += ["", f"Measured {figures['measured_at']}, {load}.", ""]
    lines += [f"- {name}: {value}" for name, value in figures["machine"].items()]
    lines.append(f"- nice value: {figures['nice']}")
    if "stolen_percent" in figures:
        lines.append(f"- time that the processors were given to other machines: {figures['stolen_percent']} %")
    if "company" in figures:
        company = figures["company"]
        lines.append(
            f"- company: {company['principals']:,} principals, {company['managed_policies']:,} AWS managed policies,"
            f" {company['distinct_statements']:,} distinct statements,"
            f" {company['resource_policies']:,} resource policies"
        )
    if "mix" in figures:
        mix = figures["mix"]
        lines.append(
            f"- {figures['requests']:,} different requests: {mix['allow']:,} allowed, {mix['implicit_deny']:,} denied"
            f" implicitly, {mix['explicit_deny']:,} explicitly; half of the denials are allowed with MFA"
        )
    if "clock_ns" in figures:
        lines.append(f"- reading the clock costs {figures['clock_ns']} ns, which is taken off")
    if "load_ns_image" in figures:
        lines.append(
            f"- one dependent load: {figures['load_ns_image']} ns at random in as much memory as the image,"
            f" {figures['load_ns_16_kib']} ns in 16 KiB, {figures['load_ns_256_kib']} ns in 256 KiB,"
            f" {figures['load_ns_256_mib']} ns in 256 MiB"
        )
    if "sections" in figures:
        largest = list(figures["sections"].items())[:6]
        lines.append(
            f"- image: {figures['image_bytes'] / 2**20:.1f} MiB, of which "
            + ", ".join(f"{name.replace('_', ' ')} {size / 2**20:.1f}" for name, size in largest)
        )
    if "rss_kinds_mib" in figures:
        kinds = figures["rss_kinds_mib"]
        lines.append(
            f"- resident: {kinds['RssAnon']} MiB anonymous, {kinds['RssFile']} of files, {kinds['RssShmem']} shared;"
            f" {figures['rss_before_reloads_mib']} MiB before the reloads, {kinds['VmHWM']} at its greatest"
        )
    return "\n".join(lines) + "\n"


def update_page(table: str, page: Path = PAGE, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put *table* between the *marks* of *page*."""
    text = page.read_text()
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"{page.name} has not the marks that the figures stand between")
    page.write_text(f"{before}{begin}\n\n{table}\n{end}{after}")


def plain(figures: Json) -> str:
    """Return *figures* for people."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines.append(f"{name.replace('_', ' ')}:")
            lines += [f"  {inner:34}{_text(entry)}" for inner, entry in value.items()]
        else:
            lines.append(f"{name:36}{_text(value)}")
    return "\n".join(lines)


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def check_instructions() -> int:
    """Compare the instructions of a decision with those recorded, and return the exit status."""
    try:
        kept = instructions.recorded()
        instructions.comparable(kept)
        now = instructions.count_instructions()
    except instructions.UncountedError as error:
        print(f"skipped: {error}")
        return 0
    complaint = instructions.complaint(kept, now)
    if complaint:
        print(f"{complaint}; if that is as it should be, run scripts/bench core --record-instructions", file=sys.stderr)
        return 1
    print(f"{now.decision_instructions:,} instructions a decision, recorded {kept.decision_instructions:,}")
    return 0


def record_instructions() -> int:
    """Count the instructions of a decision and keep the count, and return the exit status."""
    try:
        now = instructions.count_instructions()
    except instructions.UncountedError as error:
        print(error, file=sys.stderr)
        return 1
    instructions.record(now)
    print(f"{now.decision_instructions:,} instructions a decision, kept in {instructions.RECORD.name}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show what was measured last."""
    parser = argparse.ArgumentParser(prog="scripts/bench core", description="measure the core")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md")
    parser.add_argument("--update-docs", action="store_true", help="put that table into docs/performance.md")
    parser.add_argument("--last", action="store_true", help="show what was measured last, measure nothing")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    parser.add_argument("--passes", type=int, default=PASSES, help="passes over all requests")
    parser.add_argument(
        "--check-instructions", action="store_true", help="fail if a decision takes over 5 %% more than recorded"
    )
    parser.add_argument("--record-instructions", action="store_true", help="count, and keep the count in the tree")
    given = parser.parse_args(arguments)
    if given.check_instructions:
        return check_instructions()
    if given.record_instructions:
        return record_instructions()

    def tell(text: str) -> None:
        print(f"scripts/bench: {text}", file=sys.stderr, flush=True)

    try:
        if given.last:
            figures: Json = json.loads((KEPT / "core.json").read_text())
        else:
            figures = measure_all(Scope(passes=given.passes), given.only or PARTS, tell=tell)
    except FileNotFoundError:
        print("nothing was measured yet", file=sys.stderr)
        return 1
    except MixError as error:
        print(error, file=sys.stderr)
        return 1
    if given.update_docs:
        update_page(markdown(figures))
    if given.json:
        print(json.dumps(figures, indent=2))
    elif given.markdown:
        print(markdown(figures), end="")
    else:
        print(plain(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
