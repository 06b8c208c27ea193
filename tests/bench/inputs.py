# SPDX-License-Identifier: Apache-2.0
"""
What is measured, made once and kept: a source on disk and requests for it.

Making the requests of the full size takes a minute, so both stand below ``build/bench`` in a folder
named by everything that they depend on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.compile import layout
from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.core import Image, authorize
from sidecar.services.source_files import read_source
from tests.bench import workload
from tests.bench.generate import Scale, generate, write

ROOT = Path(__file__).parents[2]
#: Where everything is kept that a benchmark makes.
KEPT = ROOT / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Inputs:
    """
    A company and what is asked about it.

    Attributes:
        source: The folder of the snapshot source.
        requests: Serialized requests, all different, in the mix.
        counts: What the company has of each kind.
    """

    source: Path
    requests: tuple[bytes, ...]
    counts: dict[str, int]


def inputs(*, principals: int, requests: int, seed: int = 1, kept: Path = KEPT) -> Inputs:
    """Return the company of that size with so many requests, making it where it is not kept yet."""
    folder = kept / f"inputs-{principals}-{_key(principals, requests, seed)}"
    if not folder.is_dir():
        kept.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=kept))
        try:
            _make(draft, principals, requests, seed)
            try:
                draft.rename(folder)
            except OSError:
                # Another run was quicker; it made the same.
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    counts: dict[str, int] = json.loads((folder / "counts.json").read_text())
    return Inputs(folder / "source", tuple(workload.read_requests(folder / "requests")), counts)


def compile_inputs(source: Path) -> bytes:
    """Return the image of the source in the folder *source*."""
    report = parse_source(read_source(source))
    if report.snapshot is None:
        raise ValueError(f"the source of the benchmark has problems: {report.problems[0]}")
    return write_image(report.snapshot)


def joined(requests: Iterable[bytes]) -> tuple[bytes, array[int]]:
    """Return *requests* one behind the other, and their lengths, as the core measures them."""
    lengths = array("I")
    data = bytearray()
    for request in requests:
        data += request
        lengths.append(len(request))
    return bytes(data), lengths


def mix_of(image: Image, requests: Sequence[bytes]) -> dict[str, float]:
    """
    Decide *requests* and return the share of each outcome.

    Raises:
        ValueError: An answer is none of those in the mix.
    """
    outcomes = []
    for request in requests:
        found = workload.outcome(authorize(image, request, seconds=workload.NOW, nanos=0))
        if found is None:
            raise ValueError("a request of the benchmark has no answer of the mix; remove build/bench and run again")
        outcomes.append(found)
    return workload.mix(outcomes)


def _key(principals: int, requests: int, seed: int) -> str:
    digest = hashlib.sha256()
    for name in ("generate.py", "workload.py"):
        digest.update((Path(__file__).parent / name).read_bytes())
    moto = importlib.metadata.version("moto")
    digest.update(f"{moto} {layout.FORMAT_VERSION} {principals} {requests} {seed}".encode())
    return digest.hexdigest()[:12]


def _make(folder: Path, principals: int, requests: int, seed: int) -> None:
    estate = generate(seed, Scale.of(principals))
    write(estate, folder / "source")
    image = Image.from_bytes(compile_inputs(folder / "source"))
    made = workload.requests(
        estate,
        lambda data: authorize(image, data, seconds=workload.NOW, nanos=0),
        seed=seed,
        count=requests,
    )
    workload.write_requests(folder / "requests", (data for _, data in made))
    (folder / "counts.json").write_text(json.dumps(estate.counts))
