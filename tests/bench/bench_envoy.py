# SPDX-License-Identifier: Apache-2.0
"""
What the filter adds to a request through Envoy: without it, with the sidecar, and with OPA.

Run it with ``scripts/bench envoy``. One Envoy has a listener for each; they answer by themselves, so that no service is
measured along. Requests come at a fixed rate, the listeners take turns, and each figure is the median of the rounds.
No figure fails anything: only answers that are not the right ones do.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from examples.envoy.keys import make_keys
from tests.bench import bench_core, opa_authz
from tests.bench.load import PATIENCE, Cores, LoadError, UnavailableError, h2load_program, on_core, pin
from tests.bench.machine import is_quiet, machine, processor_ticks
from tests.e2e.envoy_process import (
    EXAMPLE,
    Envoy,
    connection_managers,
    envoy,
    ext_authz,
    find_envoy,
    placed_config,
    set_endpoints,
)
from tests.e2e.protected_shop import API_KEY, send
from tests.e2e.sidecar_process import serving

Json = dict[str, Any]

MARKS = ("<!-- scripts/bench envoy --update-docs: begin -->", "<!-- scripts/bench envoy --update-docs: end -->")
ROUNDS = 7
REQUESTS = 2000
#: Requests a second, by so many connections.
RATE, CONNECTIONS = 400, 4
#: Routes of the second sidecar.
MANY_ROUTES = 10_000
TARGET = "/orders/4711"
#: With these, a request has as many headers as one of a browser.
_HEADERS = [
    ("x-api-key", API_KEY),
    ("user-agent", "bench"),
    ("accept", "application/json"),
    ("accept-language", "en"),
] + [(f"x-header-{number}", "value of a usual length") for number in range(11)]


def write_source(folder: Path, *, routes: int) -> Path:
    """Write the company of the example with so many routes more, none of which is asked for."""
    (folder / "accounts").mkdir(parents=True)
    (folder / "accounts" / "shop.json").write_bytes((EXAMPLE / "company" / "accounts" / "shop.json").read_bytes())
    document = yaml.safe_load((EXAMPLE / "company" / "routes.yaml").read_text())
    resource = "arn:aws:shop:eu-west-1:111122223333:item/{item}"
    for number in range(routes):
        path = f"/service-{number // 20}/things-{number % 20}/{{item}}"
        document["routes"].append(
            {"id": f"route-{number}", "methods": ["GET"], "path": path, "action": "shop:GetItem", "resource": resource}
        )
    (folder / "routes.yaml").write_text(json.dumps(document))
    return folder


def bench_config(base: Json, servers: dict[str, str]) -> Json:
    """Return a configuration with a listener for each of *servers*, by name and address, and one without a filter."""
    config = copy.deepcopy(base)
    listener = config["static_resources"]["listeners"][0]
    cluster = next(one for one in config["static_resources"]["clusters"] if one["name"] == "iam-sidecar")
    config["static_resources"]["listeners"] = []
    config["static_resources"]["clusters"] = [
        one for one in config["static_resources"]["clusters"] if one["name"] != "iam-sidecar"
    ]
    for name in ("nothing", *servers):
        one = copy.deepcopy(listener)
        one["name"] = name
        (manager,) = connection_managers({"static_resources": {"listeners": [one]}})
        manager["stat_prefix"] = name
        manager["access_log"] = []
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            if route["match"] == {"prefix": "/"}:
                del route["route"]
                route["direct_response"] = {"status": 200, "body": {"inline_string": "the shop"}}
        if name == "nothing":
            manager["http_filters"] = [
                each for each in manager["http_filters"] if each["name"] != "envoy.filters.http.ext_authz"
            ]
            del manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]
            for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
                route.pop("typed_per_filter_config", None)
        else:
            (settings,) = ext_authz({"static_resources": {"listeners": [one]}})
            settings["grpc_service"]["envoy_grpc"]["cluster_name"] = name
            # OPA's input has the map of headers.
            settings["encode_raw_headers"] = False
            added = copy.deepcopy(cluster)
            added["name"] = added["load_assignment"]["cluster_name"] = name
            config["static_resources"]["clusters"].append(added)
            set_endpoints(config, name, [servers[name]])
        config["static_resources"]["listeners"].append(one)
    return config


def check_answers(running: Envoy, names: Sequence[str]) -> None:
    """
    See that each server decides, and decides the same.

    Raises:
        LoadError: It does not.
    """
    for name in names:
        port = running.port(name)
        want = [200, 200, 200] if name == "nothing" else [200, 403, 401]
        have = [
            send(port, target, headers).status
            for target, headers in ((TARGET, _HEADERS), ("/orders", _HEADERS), (TARGET, [("x-api-key", "wrong")]))
        ]
        # OPA's policy does not tell who is nobody from who may not.
        if have != want and not (name == "opa" and have == [200, 403, 403]):
            raise LoadError(f"{name} answers with {have}, not with {want}")


def run_once(running: Envoy, name: str, requests: int, scratch: Path, cores: Cores) -> list[int]:
    """
    Return how long each request took, in microseconds.

    Raises:
        LoadError: One was not answered with 200, or the server was not asked about it.
    """
    log = scratch / "h2load.log"
    log.unlink(missing_ok=True)
    command = [h2load_program(), "--h1", "-t", "1", "-n", str(requests), "-c", str(CONNECTIONS)]
    command += [f"--rps={RATE / CONNECTIONS}", f"--log-file={log}"]
    for header, value in _HEADERS:
        command += ["-H", f"{header}: {value}"]
    counter = f"http.{name}.ext_authz.ok"
    before = running.stat(counter)
    command.append(f"http://127.0.0.1:{running.port(name)}{TARGET}")
    done = subprocess.run(
        on_core(cores.generator, command), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    if done.returncode != 0:
        raise LoadError(f"h2load failed: {done.stderr[-1000:] or done.stdout[-1000:]}")
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    taken = [int(micros) for _, status, micros in rows if status == "200"]
    if len(taken) != requests:
        raise LoadError(f"of {requests} requests to {name} {len(taken)} were answered with 200")
    asked = running.stat(counter) - before
    if name != "nothing" and asked != requests:
        raise LoadError(f"{name} was asked about {asked} of {requests} requests")
    return taken


def percentile(values: Sequence[int], share: float) -> float:
    """
    Return the value that this share does not pass.

    >>> percentile([1, 2, 3, 4], 0.5)
    2
    """
    return sorted(values)[max(0, round(share * len(values)) - 1)]


@contextmanager
def servers_running(scratch: Path, cores: Cores, skipped: Json, *, may_build: bool) -> Iterator[dict[str, str]]:
    """Run all that are compared; gives their addresses. What cannot be had is told in *skipped*."""
    found: dict[str, str] = {}
    with ExitStack() as stack:
        for name, routes in (("sidecar", 0), ("sidecar_many_routes", MANY_ROUTES)):
            source = write_source(scratch / name, routes=routes)
            address = f"unix:{scratch}/{name}.sock"
            sidecar = stack.enter_context(serving(source, scratch / f"{name}-state", "--data", address))
            pin(sidecar.process.pid, cores.rest)
            found[name] = address
        try:
            program = opa_authz.install(is_asked=may_build)
            found["opa"] = stack.enter_context(opa_authz.running(program, core=cores.rest))
        except UnavailableError as error:
            skipped["opa"] = str(error)
        yield found


def measure(*, rounds: int, requests: int, may_build: bool = True) -> Json:
    """
    Return the figures.

    Raises:
        LoadError: An answer was not the right one.
        UnavailableError: There is no Envoy or no h2load.
    """
    if find_envoy() is None:
        raise UnavailableError("envoy is not on this machine; `scripts/test` fetches it")
    h2load_program()
    cores = Cores.of_this_machine()
    skipped: Json = {}
    ticks = processor_ticks()
    quiet = is_quiet()
    with TemporaryDirectory(prefix="bench-envoy-") as name:
        scratch = Path(name)
        make_keys(scratch / "keys")
        with servers_running(scratch, cores, skipped, may_build=may_build) as servers:
            base = placed_config(
                data="127.0.0.1:1", keys=scratch / "keys", folder=scratch, shop="127.0.0.1:1", shop_grpc="127.0.0.1:1"
            )
            with envoy(bench_config(base, servers), scratch / "envoy") as running:
                pin(running.process.pid, cores.server)
                names = ("nothing", *servers)
                check_answers(running, names)
                rows: dict[str, list[tuple[float, float]]] = {each: [] for each in names}
                for number in range(rounds + 1):
                    for each in names:
                        taken = run_once(running, each, requests if number else min(requests, 200), scratch, cores)
                        # The first round warms up.
                        if number:
                            rows[each].append((percentile(taken, 0.5), percentile(taken, 0.99)))
    total, stolen = (after - before for after, before in zip(processor_ticks(), ticks, strict=True))
    figures = summarise(rows)
    figures |= {"rounds": rounds, "requests": requests, "requests_per_s": RATE, "headers": len(_HEADERS) + 5}
    figures |= {"skipped": skipped, "quiet": quiet, "machine": machine(), "opa_version": opa_authz.version()}
    figures |= {"measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")}
    figures |= {"stolen_percent": round(100 * stolen / max(total, 1), 1), "nice": os.nice(0)}
    figures |= {"processors": {"envoy": cores.server, "generator": cores.generator, "servers": cores.rest}}
    return figures


def summarise(rows: dict[str, list[tuple[float, float]]]) -> Json:
    """Return the medians of the rounds, what each server adds to nothing in its own round, and how those compare."""
    figures: Json = {}
    for name, rounds in rows.items():
        for index, word in enumerate(("p50", "p99")):
            figures[f"{name}_us_{word}"] = round(statistics.median(one[index] for one in rounds), 1)
            if name != "nothing":
                pairs = zip(rounds, rows["nothing"], strict=True)
                figures[f"{name}_added_us_{word}"] = round(statistics.median(a[index] - b[index] for a, b in pairs), 1)
    for word in ("p50", "p99"):
        own = figures[f"sidecar_added_us_{word}"]
        for key, other in ((f"opa_ratio_{word}", "opa"), (f"many_routes_ratio_{word}", "sidecar_many_routes")):
            added = figures.get(f"{other}_added_us_{word}")
            # What a server adds may be less than the rounds differ by.
            figures[key] = round(added / own, 2) if added is not None and own > 0 else None
    return figures


_NAMES = {
    "nothing": "Envoy without the filter",
    "sidecar": "with the sidecar, 7 routes",
    "sidecar_many_routes": f"with the sidecar, {MANY_ROUTES + 7:,} routes",
    "opa": "with OPA's engine behind a server in Go",
}


def markdown(figures: Json) -> str:
    """Return the table of the page."""
    lines = [
        "| a request through Envoy | p50 µs | p99 µs | added to p50 | added to p99 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, words in _NAMES.items():
        if f"{name}_us_p50" in figures:
            added = [figures.get(f"{name}_added_us_{word}", "") for word in ("p50", "p99")]
            cells = [words, figures[f"{name}_us_p50"], figures[f"{name}_us_p99"], *added]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    load = (
        "on a quiet machine" if figures["quiet"] else "**while other programs ran**: the figures are not to be trusted"
    )
    lines += ["", f"Measured {figures['measured_at']}, {load}; medians of {figures['rounds']} rounds of"]
    lines[-1] += (
        f" {figures['requests']:,} requests each, {figures['requests_per_s']} a second, {figures['headers']} headers."
    )
    lines.append("")
    lines += [f"- {name}: {value}" for name, value in figures["machine"].items()]
    placed = figures["processors"]
    lines.append(
        f"- Envoy on processor {placed['envoy']}, generator on {placed['generator']}, servers on {placed['servers']}"
    )
    lines.append(f"- time that the processors were given to other machines: {figures['stolen_percent']} %")
    lines.append(f"- OPA {figures['opa_version']}, without a decision log; an equivalent policy in Rego")
    lines += [f"- not measured: {what}: {why}" for what, why in figures["skipped"].items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench envoy", description="measure what the filter adds to a request"
    )
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--update-docs", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds in which the servers take turns")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of one run")
    parser.add_argument("--no-build", action="store_true", help="leave out OPA where it has not been built yet")
    given = parser.parse_args(arguments)
    try:
        figures = measure(rounds=given.rounds, requests=given.requests, may_build=not given.no_build)
    except (LoadError, UnavailableError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.update_docs:
        bench_core.update_page(markdown(figures), bench_core.PAGE, MARKS)
    print(json.dumps(figures, indent=2) if given.json else markdown(figures), end="" if not given.json else "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
