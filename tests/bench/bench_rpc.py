# SPDX-License-Identifier: Apache-2.0
"""
The listeners in figures: CPU time for a million calls, latency at a fixed rate, memory; beside others.

Run it with ``scripts/bench rpc``; ``docs/performance.md`` says what each figure means. No figure fails
anything: only calls that fail, answers that are wrong and servers that are not the right ones do.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.core import Image, authorize, check
from sidecar.services.source_files import read_source
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench import bench_core, cerbos, check_call, workload
from tests.bench.inputs import KEPT, ROOT, Inputs, compile_inputs, inputs
from tests.bench.load import Cores, LoadError, Shape, UnavailableError, run_open_loop
from tests.bench.machine import is_quiet, machine, processor_ticks
from tests.bench.rpc_latency import Case, Swapper, greatest_load, measure_latency, set_worker_apart
from tests.bench.rpc_report import markdown, update_page
from tests.bench.rpc_runs import (
    HEADLINE,
    SHAPES,
    Generate,
    Run,
    check_answers,
    decisions_of,
    hot_generate,
    measure_shape,
    ratio,
    rows_of,
    summary,
    with_mix,
)
from tests.bench.servers import (
    Server,
    cerbos_server,
    check_server,
    constant_server,
    nothing,
    sidecar_on,
    sidecar_servers,
    verify_authorize,
)
from tests.e2e.sidecar_process import Sidecar

Json = dict[str, Any]
Tell = Callable[[str], None]

PARTS = ("cpu", "check", "mix", "latency", "cerbos", "memory")
TRANSPORTS = ("tcp", "unix")
#: The worst that the decisions of the mix may be off their shares: some requests look at the time.
_MIX_TOLERANCE = 0.02
#: Requests among which that one is sought which is made again and again.
_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is measured. The default is what the goals are stated for."""

    principals: int = bench_core.PRINCIPALS
    requests: int = bench_core.REQUESTS
    shapes: tuple[Shape, ...] = SHAPES
    transports: tuple[str, ...] = TRANSPORTS
    rounds: int = 5
    other_rounds: int = 3
    seconds: float = 2.0
    latency_rounds: int = 5
    latency_seconds: float = 6.0
    idle_seconds: float = bench_core.IDLE_SECONDS
    kept: Path = KEPT


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part is given."""

    scope: Scope
    cores: Cores
    given: Inputs
    image: Image
    image_file: Path
    scratch: Path
    raw: Path
    tell: Tell

    @property
    def mix_file(self) -> Path:
        """The file with all requests, as our own generator reads it."""
        return self.given.source.parent / "requests"


def allowed_requests(given: Inputs, image: Image) -> list[bytes]:
    """Return those of the first requests that are allowed."""
    now = int(time.time())
    return [
        request
        for request in given.requests[:_LOOKED_AT]
        if workload.outcome(authorize(image, request, seconds=now, nanos=0)) is workload.Outcome.ALLOW
    ]


def hot_request(given: Inputs, image: Image) -> tuple[bytes, Callable[[bytes], None]]:
    """Return the request of middling length among the first ones that are allowed, and what verifies its answer."""
    allowed = allowed_requests(given, image)
    if not allowed:
        raise LoadError("no request is allowed")
    request = sorted(allowed, key=len)[len(allowed) // 2]
    return request, verify_authorize(pb.DECISION_ALLOW, pb.AuthorizeRequest.FromString(request).principal)


@contextmanager
def scratch_folder(bench: Bench, name: str) -> Iterator[Path]:
    """Give a folder for one part; its path is short, as sockets need it."""
    folder = bench.scratch / name
    folder.mkdir()
    yield folder


def measure_cpu(bench: Bench) -> Json:
    """Measure CPU time for one request again and again, over each transport in each shape."""
    figures: Json = {"cpu": {}}
    scope, cores = bench.scope, bench.cores
    runs: list[Run] = []
    with (
        scratch_folder(bench, "cpu") as scratch,
        sidecar_on(bench.image_file, scratch, core=cores.server) as sidecar,
    ):
        request, verify = hot_request(bench.given, bench.image)
        ours, grpcio = sidecar_servers(sidecar, request, verify)
        answer = ours.ask(request)
        figures |= {"request_bytes": len(request), "answer_bytes": len(answer)}
        with (
            nothing("nothing", len(answer), scratch, request, core=cores.server) as idle,
            constant_server(answer, scratch, request, core=cores.server) as constant,
        ):
            servers = (idle, ours, constant, grpcio)
            for transport in scope.transports:
                for shape in scope.shapes:
                    bench.tell(f"{transport}, {shape}: {', '.join(server.name for server in servers)}")
                    rounds = scope.rounds if (transport, shape) == ("tcp", HEADLINE) else scope.other_rounds
                    found = measure_shape(
                        servers,
                        transport,
                        shape,
                        hot_generate(scratch, shape, cores),
                        rounds=rounds,
                        seconds=scope.seconds,
                    )
                    figures["cpu"][f"{transport} {shape}"] = summary(found)
                    runs += found
    figures |= _ratios([run for run in runs if (run.transport, run.shape) == ("tcp", str(HEADLINE))])
    write_rows(bench.raw / "runs.csv", rows_of(runs))
    return figures


def _ratios(runs: Sequence[Run]) -> Json:
    figures: Json = {}
    for key, of, to in (
        ("authorize_cpu_ratio", "ours", "nothing"),
        ("authorize_grpcio_ratio", "ours", "grpcio"),
        ("constant_cpu_ratio", "constant", "nothing"),
        ("grpcio_cpu_ratio", "grpcio", "nothing"),
    ):
        found = ratio(runs, of, to)
        figures[key] = found and found["ratio"]
        if found:
            figures[f"{key}_between_rounds"] = [found["least"], found["greatest"]]
    return figures


def measure_check(bench: Bench) -> Json:
    """Measure CPU time for a request of Envoy with 20 headers; the do-nothing server answers with as many bytes."""
    scope, cores = bench.scope, bench.cores
    request = check_call.check_request()
    with scratch_folder(bench, "check") as scratch:
        image_file = scratch / "image"
        image_file.write_bytes(
            check_call.image_of(read_source(bench.given.source), allowed_requests(bench.given, bench.image))
        )
        answer = check(Image.from_bytes(image_file.read_bytes()), request, seconds=int(time.time()), nanos=0)
        with (
            sidecar_on(image_file, scratch, core=cores.server) as sidecar,
            nothing("nothing", len(answer), scratch, request, core=cores.server) as idle,
        ):
            ours = check_server(sidecar, request, check_call.verify_check(len(answer)))
            bench.tell(f"check, {HEADLINE}")
            runs = measure_shape(
                (idle, ours),
                "tcp",
                HEADLINE,
                hot_generate(scratch, HEADLINE, cores),
                rounds=scope.rounds,
                seconds=scope.seconds,
            )
    write_rows(bench.raw / "check.csv", rows_of(runs))
    found = ratio(runs, "ours", "nothing")
    return {
        "check": summary(runs),
        "check_request_bytes": len(request),
        "check_answer_bytes": len(answer),
        "check_cpu_ratio": found and found["ratio"],
        "check_cpu_ratio_between_rounds": found and [found["least"], found["greatest"]],
    }


def measure_mix(bench: Bench) -> Json:
    """Measure CPU time for many different requests; the do-nothing server answers with their mean length."""
    scope, cores = bench.scope, bench.cores
    requests = bench.given.requests
    now = int(time.time())
    step = max(1, len(requests) // 2000)
    lengths = [len(authorize(bench.image, request, seconds=now, nanos=0)) for request in requests[::step]]
    with scratch_folder(bench, "mix") as scratch, sidecar_on(bench.image_file, scratch, core=cores.server) as sidecar:
        request, verify = hot_request(bench.given, bench.image)
        ours, _ = sidecar_servers(sidecar, request, verify)
        checked = check_answers(ours, bench.image, requests)
        before = decisions_of(sidecar)
        with nothing("nothing", round(sum(lengths) / len(lengths)), scratch, request, core=cores.server) as idle:

            def generate(_server: Server) -> Generate:
                return with_mix(bench.mix_file, HEADLINE, cores.generator)

            runs = measure_shape(
                [idle, ours],
                "tcp",
                HEADLINE,
                generate,
                rounds=scope.rounds,
                seconds=scope.seconds,
                multiple=len(requests),
            )
        given = {name: value - before[name] for name, value in decisions_of(sidecar).items()}
    shares = {name: round(value / max(1.0, sum(given.values())), 4) for name, value in given.items()}
    if runs[-1].count >= len(requests) and abs(shares["allow"] - 0.4) > _MIX_TOLERANCE:
        raise LoadError(f"the decisions that were given are not in the mix: {shares}")
    write_rows(bench.raw / "mix.csv", rows_of(runs))
    found = ratio(runs, "ours", "nothing")
    return {
        "mix": summary(runs),
        "mix_shares": shares,
        "mix_answers_checked": checked,
        "authorize_cpu_ratio_mix": found and found["ratio"],
    }


def second_image(given: Inputs, path: Path) -> None:
    """Write an image like that of *given*, with one resource policy more."""
    files = dict(read_source(given.source))
    name = "resource-policies.json"
    document = json.loads(files[name])
    one = document["resources"][0]
    document["resources"].append({**one, "arn": f"{one['arn']}/another"})
    report = parse_source({**files, name: json.dumps(document).encode()})
    if report.snapshot is None:
        raise ValueError(f"the source of the benchmark has problems: {report.problems[0]}")
    path.write_bytes(write_image(report.snapshot))


def measure_latencies(bench: Bench) -> Json:
    """Measure latency at half of the listener's own greatest load, in peace and while images are swapped."""
    scope, cores = bench.scope, bench.cores
    figures: Json = {}
    with scratch_folder(bench, "latency") as scratch:
        images = (scratch / "a.image", scratch / "b.image")
        os.link(bench.image_file, images[0])
        second_image(bench.given, images[1])
        place = scratch / "image"
        os.link(images[0], place)
        request, verify = hot_request(bench.given, bench.image)
        length = len(authorize(bench.image, request, seconds=int(time.time()), nanos=0))
        with (
            sidecar_on(place, scratch, core=cores.server) as sidecar,
            nothing("nothing", length, scratch, request, core=cores.server) as idle,
        ):
            ours, _ = sidecar_servers(sidecar, request, verify)
            figures |= set_worker_apart(ours, bench.mix_file, cores)
            greatest = greatest_load(ours, bench.mix_file, cores, seconds=scope.seconds)
            bench.tell(f"latency at {greatest / 2:,.0f} calls a second, half of what we can do")
            figures["latency"] = measure_latency(
                (
                    Case("nothing", idle, swaps=False),
                    Case("ours", ours, swaps=False),
                    Case("ours_swapping", ours, swaps=True),
                    Case("nothing_swaps_aside", idle, swaps=True),
                ),
                bench.mix_file,
                greatest / 2,
                cores,
                rounds=scope.latency_rounds,
                seconds=scope.latency_seconds,
                swapper=Swapper(sidecar, place, images),
                raw=bench.raw,
            )
    figures |= {"greatest_requests_per_s": round(greatest), "latency_requests_per_s": round(greatest / 2)}
    return figures | latency_ratios(figures["latency"])


def latency_ratios(latency: Json) -> Json:
    """Return how the p99 of the native listener stands to that of the do-nothing server; None if nobody can say."""

    def times(of: str, to: str, key: str) -> float | None:
        values = [latency[name][key] for name in (of, to)]
        # Where the generator hardly ran there is no call that it could time.
        return round(values[0] / values[1], 3) if min(values) > 0 else None

    return {
        "p99_ratio": times("ours", "nothing", "us_p99"),
        "p99_ratio_swapping": times("ours_swapping", "nothing", "us_p99"),
        "p99_ratio_swapping_all": times("ours_swapping", "nothing_swaps_aside", "all_us_p99"),
    }


def measure_cerbos(bench: Bench) -> Json:
    """Measure Cerbos and ourselves under equivalent policies; both are asked the same and have to agree."""
    scope, cores = bench.scope, bench.cores
    runs: list[Run] = []
    figures: Json = {}
    asked = cerbos.questions()
    with scratch_folder(bench, "cerbos") as scratch:
        cerbos.write_source(scratch / "source")
        image = Image.from_bytes(compile_inputs(scratch / "source"))
        decided = {one: _is_allowed(authorize(image, _bytes(one), seconds=int(time.time()), nanos=0)) for one in asked}
        hot = next(one for one, is_allowed in decided.items() if is_allowed)
        request, verify = _bytes(hot), verify_authorize(pb.DECISION_ALLOW, cerbos.ask_us(hot).principal)
        with (
            sidecar_on(scratch / "source", scratch, core=cores.server) as sidecar,
            cerbos_server(scratch, hot, core=cores.server) as (other, peer),
        ):
            ours, _ = sidecar_servers(sidecar, request, verify)
            for one, want in decided.items():
                if peer.is_allowed(one) is not want:
                    raise LoadError(f"Cerbos decides otherwise: {one}")
            for shape in [shape for shape in scope.shapes if shape in (HEADLINE, Shape(1, 1))]:
                bench.tell(f"cerbos, {shape}")
                found = measure_shape(
                    [ours, other],
                    "tcp",
                    shape,
                    hot_generate(scratch, shape, cores),
                    rounds=scope.other_rounds,
                    seconds=scope.seconds,
                )
                figures[str(shape)] = summary(found)
                runs += found
    write_rows(bench.raw / "cerbos.csv", rows_of(runs))
    found_ratio = ratio([run for run in runs if run.shape == str(HEADLINE)], "ours", "cerbos")
    return {
        "cerbos": {
            **figures,
            "version": cerbos.VERSION,
            "questions_agreed_on": len(decided),
            "allowed_of_them": sum(decided.values()),
        },
        "cerbos_cpu_ratio": found_ratio and found_ratio["ratio"],
    }


def _bytes(question: cerbos.Question) -> bytes:
    return cerbos.ask_us(question).SerializeToString()


def _is_allowed(answer: bytes) -> bool:
    return pb.AuthorizeResponse.FromString(answer).decision == pb.DECISION_ALLOW


def measure_memory(bench: Bench) -> Json:
    """Measure resident memory after three reloads, with every listener on and used before each reload."""

    def use(sidecar: Sidecar) -> None:
        for server, count in zip(sidecar_servers(sidecar), (20_000, 1000), strict=True):
            target = server.target("tcp")
            run_open_loop(target, bench.mix_file, core=bench.cores.generator, connections=16, streams=16, count=count)

    scope = bench_core.Scope(idle_seconds=bench.scope.idle_seconds, kept=bench.scope.kept)
    return bench_core.measure_process(bench.given, scope, use=use)


_MEASURES: dict[str, Callable[[Bench], Json]] = {
    "cpu": measure_cpu,
    "check": measure_check,
    "mix": measure_mix,
    "latency": measure_latencies,
    "cerbos": measure_cerbos,
    "memory": measure_memory,
}


def measure_all(scope: Scope, parts: Sequence[str] = PARTS, *, tell: Tell = lambda text: None) -> Json:
    """Measure *parts* and return the figures; the raw ones stand in a folder of their own below ``build/bench``."""
    cores = Cores.of_this_machine()
    figures: Json = {
        "quiet": is_quiet(),
        "measured_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "machine": machine(),
        "processors": {"server": cores.server, "generator": cores.generator, "python": cores.rest},
        "skipped": {},
    }
    if not figures["quiet"]:
        tell("warning: the load average is above 1: other programs run, so the figures are not to be trusted")
    ticks, stolen = processor_ticks()
    raw = scope.kept / "rpc" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    raw.mkdir(parents=True, exist_ok=True)
    tell("source and requests")
    given = inputs(principals=scope.principals, requests=scope.requests, kept=scope.kept)
    figures["company"] = given.counts
    with TemporaryDirectory(prefix="bench-") as name, _this_process_on(cores.generator):
        # Paths of sockets have to be short, so they do not stand below the checkout.
        scratch = Path(name)
        image_file = scratch / "image"
        bench_core.compile_once(given.source, image_file)
        image = Image.from_bytes(image_file.read_bytes())
        bench = Bench(scope, cores, given, image, image_file, scratch, raw, tell)
        for part in parts:
            try:
                found = _MEASURES[part](bench)
            except UnavailableError as error:
                tell(f"{part} is skipped: {error}")
                figures["skipped"][part] = str(error)
                continue
            figures |= found
    ticks, stolen = (now - then for now, then in zip(processor_ticks(), (ticks, stolen), strict=True))
    figures["stolen_percent"] = round(100 * stolen / max(1, ticks), 1)
    figures["quiet"] = figures["quiet"] and figures["stolen_percent"] <= 1
    figures["raw"] = os.path.relpath(raw, ROOT)
    text = json.dumps(figures, indent=2)
    (raw / "figures.json").write_text(text)
    (scope.kept / "rpc.json").write_text(text)
    return figures


@contextmanager
def _this_process_on(core: int) -> Iterator[None]:
    """Keep this process and what it starts off the server's processor for the length of the block."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def write_rows(path: Path, rows: Sequence[Json]) -> None:
    """Keep rows as a table."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


_FULL = Scope()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show what was measured last."""
    parser = argparse.ArgumentParser(prog="scripts/bench rpc", description="measure the listeners, beside others")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md")
    parser.add_argument("--update-docs", action="store_true", help="put those tables into docs/performance.md")
    parser.add_argument("--last", action="store_true", help="show what was measured last, measure nothing")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=_FULL.rounds, help="rounds in which the servers take turns")
    parser.add_argument("--seconds", type=float, default=_FULL.seconds, help="length of one run under full load")
    parser.add_argument(
        "--latency-seconds", type=float, default=_FULL.latency_seconds, help="length of one run at a fixed rate"
    )
    given = parser.parse_args(arguments)

    def tell(text: str) -> None:
        print(f"scripts/bench: {text}", file=sys.stderr, flush=True)

    scope = Scope(
        rounds=given.rounds,
        other_rounds=min(given.rounds, _FULL.other_rounds),
        seconds=given.seconds,
        latency_rounds=given.rounds,
        latency_seconds=given.latency_seconds,
    )
    try:
        if given.last:
            figures: Json = json.loads((KEPT / "rpc.json").read_text())
        else:
            figures = measure_all(scope, given.only or PARTS, tell=tell)
    except FileNotFoundError:
        print("nothing was measured yet", file=sys.stderr)
        return 1
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    if given.update_docs:
        update_page(markdown(figures))
    if given.json:
        print(json.dumps(figures, indent=2))
    elif given.markdown:
        print(markdown(figures), end="")
    else:
        print(bench_core.plain(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
