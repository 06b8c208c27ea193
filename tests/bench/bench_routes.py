# SPDX-License-Identifier: Apache-2.0
"""
Finding the route of a request: under ten routes and under ten thousand.

Times are of reading the target and finding the route, inside the core, each request by itself; with ``bind`` also of
telling who calls and of putting the question together. Instructions are counted by callgrind.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidecar.compile.image import write_image
from sidecar.compile.problems import Problems
from sidecar.compile.routes import parse_routes
from sidecar.compile.shape import Place
from sidecar.core import Image
from sidecar.core._core import measure_routes
from sidecar.model.snapshot import Account, Snapshot
from tests.bench import instructions
from tests.bench.bench_core import percentiles, plain, update_page
from tests.bench.inputs import KEPT, ROOT, joined
from tests.bench.machine import is_quiet, machine, one_processor
from tests.unit.core.routing import check_request

#: Sizes of the tables.
SIZES = (10, 10_000)
REQUESTS = 20_000
PASSES = 7
#: Under callgrind, and where everything is in the caches.
FEW = 200

PAGE = ROOT / "docs" / "performance.md"
MARKS = (
    "<!-- scripts/bench routes --update-docs: begin -->",
    "<!-- scripts/bench routes --update-docs: end -->",
)

Json = dict[str, Any]


def table(routes: int) -> Json:
    """
    Return a file of that many routes: services of ten routes each, of which every second has a host of its own.

    >>> [route["path"] for route in table(10)["routes"]][:2]
    ['/svc0/v1/accounts/{account}/orders', '/svc0/v1/accounts/{account}/orders/{order}']
    """
    shapes = (
        ("GET", "/v1/accounts/{account}/orders"),
        ("GET", "/v1/accounts/{account}/orders/{order}"),
        ("PUT", "/v1/accounts/{account}/orders/{order}"),
        ("POST", "/v1/accounts/{account}/orders/{order}/refund"),
        ("POST", "/v1/accounts/{account}/orders/{order}:cancel"),
        ("GET", "/v1/accounts/current/orders"),
        ("GET", "/v1/reports/{name}.pdf"),
        ("GET", "/v1/reports/{name}"),
        ("GET", "/v1/*/health"),
        (None, "/static/{rest=**}"),
    )
    found: list[Json] = []
    for number in range(routes):
        service, shape = divmod(number, len(shapes))
        method, path = shapes[shape]
        route: Json = {
            "id": f"r{number}",
            "path": f"/svc{service}{path}",
            "action": f"svc{service}:Do{shape}",
            "resource": f"arn:aws:svc{service}:eu-west-1:{{account}}:order/{shape}" if "{account}" in path else "*",
        }
        if method:
            route["methods"] = [method]
        if service % 2:
            route["hosts"] = [f"svc{service}.example.com"]
        found.append(route)
    return {"callers": [{"anonymous": {}}], "routes": found}


def image_of(routes: int) -> bytes:
    """Return the image of a table of that size."""
    problems = Problems()
    accounts = (Account("111122223333"),)
    parsed = parse_routes(Place(problems, "routes.yaml"), table(routes), accounts=accounts)
    if parsed is None or problems.has_errors:
        raise ValueError(f"the routes do not compile: {problems.items[0]}")
    return write_image(Snapshot(accounts=accounts, routes=parsed))


def requests_of(routes: int, count: int, *, seed: int = 1) -> list[bytes]:
    """Return requests that take the routes of a table at random, each with other values."""
    chance = random.Random(seed)
    document = table(routes)
    found = []
    for _ in range(count):
        route = chance.choice(document["routes"])
        path = (
            route["path"]
            .replace("{account}", f"{chance.randrange(10**12):012}")
            .replace("{order}", f"{chance.randrange(10**6)}")
            .replace("{name}", f"report-{chance.randrange(1000)}")
            .replace("{rest=**}", f"css/{chance.randrange(100)}/site.css")
            .replace("*", "any")
        )
        host = route.get("hosts", ["www.example.com"])[0]
        found.append(check_request(path, method=route.get("methods", ["GET"])[0], host=host))
    return found


def _measure(image: Image, requests: Sequence[bytes], *, whole: bool, passes: int, rounds: int = 1) -> dict[str, float]:
    """Return the percentiles of the best pass, the one with the lowest median."""
    data, lengths = joined(requests)
    best: dict[str, float] = {}
    # The first pass brings in pages and code and is not reported.
    measure_routes(image, data, lengths, whole=whole)
    for _ in range(passes):
        taken: array[float] = array("d")
        for _ in range(rounds):
            spent, found = measure_routes(image, data, lengths, whole=whole)
            if found != len(requests):
                raise ValueError(f"{found} of {len(requests)} requests took a route")
            taken.extend(spent)
        row = percentiles(taken)
        if not best or row["p50"] < best["p50"]:
            best = row
    return best


def count_instructions(routes: int) -> float:
    """
    Return the instructions of reading a target and finding its route, the mean over a few requests.

    Raises:
        UncountedError: They cannot be counted here.
    """
    requests = requests_of(routes, FEW)
    data, lengths = joined(requests)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image").write_bytes(image_of(routes))
        (folder / "requests").write_bytes(data)
        (folder / "lengths").write_bytes(lengths.tobytes())
        total = instructions.callgrind("tests.bench.count_routes", folder, ("target_read", "route_find"))
    return round(total / FEW, 1)


def measure_all(
    sizes: Sequence[int] = SIZES, *, requests: int = REQUESTS, passes: int = PASSES, counts: bool = True
) -> Json:
    """Measure tables of these sizes and return the figures, which end with the size."""
    figures: Json = {
        "quiet": is_quiet(),
        "measured_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "machine": machine(),
        "requests": requests,
    }
    with one_processor():
        for size in sizes:
            image = Image.from_bytes(image_of(size))
            asked = requests_of(size, requests)
            figures[f"image_kib_{size}"] = round(image.statistics["image_bytes"] / 1024, 1)
            for name, whole in (("match", False), ("bind", True)):
                row = _measure(image, asked, whole=whole, passes=passes)
                figures |= {f"{name}_ns_{part}_{size}": row[part] for part in ("p50", "p90", "p99", "p999")}
                hot = _measure(image, asked[:FEW], whole=whole, passes=passes, rounds=50)
                figures |= {f"{name}_hot_ns_{part}_{size}": hot[part] for part in ("p50", "p99")}
            if counts:
                try:
                    figures[f"match_instructions_{size}"] = count_instructions(size)
                except instructions.UncountedError as error:
                    figures[f"match_instructions_{size}"] = f"not counted: {error}"
    return figures


def markdown(figures: Json) -> str:
    """Return the table of docs/performance.md."""
    lines = ["| what | " + " | ".join(f"{size:,} routes" for size in SIZES) + " |", "| --- | --- | --- |"]
    for name, text in (
        ("match_ns", "Reading a target and finding its route"),
        ("match_hot_ns", "— the same 200 requests again and again"),
        ("bind_ns", "And telling who calls, and putting the question together"),
        ("bind_hot_ns", "— the same 200 requests again and again"),
    ):
        cells = [
            f"median {figures[f'{name}_p50_{size}']:,} ns, p99 {figures[f'{name}_p99_{size}']:,} ns" for size in SIZES
        ]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    counted = [figures[f"match_instructions_{size}"] for size in SIZES]
    cells = [f"{number:,}" if isinstance(number, float) else number for number in counted]
    lines.append(f"| Instructions a match | {' | '.join(cells)} |")
    cells = [f"{figures[f'image_kib_{size}']:,} KiB" for size in SIZES]
    lines += [f"| Image | {' | '.join(cells)} |", ""]
    quiet = "" if figures["quiet"] else ", on a machine that was not quiet"
    lines.append(
        f"Measured {figures['measured_at']}{quiet}: {figures['requests']:,} different requests,"
        " all of which take a route."
    )
    kept = ("cpu", "cores", "kernel", "libc", "core built with", "load average")
    lines += ["", *(f"- {name}: {figures['machine'][name]}" for name in kept)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show what was measured last."""
    parser = argparse.ArgumentParser(prog="scripts/bench routes", description="measure finding routes")
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md")
    parser.add_argument("--update-docs", action="store_true", help="put that table into docs/performance.md")
    parser.add_argument("--last", action="store_true", help="show what was measured last, measure nothing")
    given = parser.parse_args(arguments)
    kept = KEPT / "routes.json"
    if given.last and not kept.exists():
        print("nothing was measured yet", file=sys.stderr)
        return 1
    if given.last:
        figures: Json = json.loads(kept.read_text())
    else:
        figures = measure_all()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(figures, indent=2) + "\n")
    if given.update_docs:
        update_page(markdown(figures), PAGE, MARKS)
    if given.json:
        print(json.dumps(figures, indent=2))
    elif given.markdown:
        print(markdown(figures), end="")
    else:
        print(plain(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
