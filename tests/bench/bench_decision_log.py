# SPDX-License-Identifier: Apache-2.0
"""
How many decision records a second the decision log takes from memory to a file, and to nowhere.

Run it with ``scripts/bench decision_log``. The records are those of the example company's questions, answered by the
core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.show import read_questions
from sidecar import core
from sidecar.compile.image import write_image
from sidecar.services.decision_log import DecisionLog
from sidecar.services.raw_records import RawRecord, pack_record
from sidecar.services.record_masks import Masker, parse_masks
from sidecar.services.record_sink import FileSink
from sidecar.services.spill import Spill
from sidecar.transports.decision_records import RecordRenderer
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench.machine import machine, one_processor
from tests.fuzz.targets import EXAMPLE, example_snapshot

#: 2026-01-01T00:00:00Z.
_NOW = 1_767_225_600
MASKS = ("userIdentity.arn", "requestParameters.context.aws:SourceIp", "remove:requestParameters.context.payments:*")
_BLOCK_RECORDS = 1_000


class Blocks:
    """
    Hands out the same blocks for a number of rounds, as fast as they are taken.

    Thread-safety: ``read_records`` belongs to one thread.
    """

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = blocks
        self.is_over = threading.Event()

    def read_records(self, timeout_ms: int) -> bytes:
        if self._blocks:
            return self._blocks.pop()
        self.is_over.set()
        time.sleep(timeout_ms / 1000)
        return b""

    def statistics(self) -> Mapping[str, int]:
        return {"offered": 0, "sampled_out": 0, "dropped": 0}


class Nowhere:
    """Takes every line. Immutable."""

    def write(self, lines: memoryview) -> int:
        return len(lines)

    def close(self) -> None:
        return


def records() -> list[RawRecord]:
    """Give a record for each question of the example company."""
    image = core.Image.from_bytes(write_image(example_snapshot()))
    found: list[RawRecord] = []
    for question in read_questions(EXAMPLE.parent / "decisions.yaml"):
        request = question.request.request.SerializeToString()
        answer = core.authorize(image, request, seconds=_NOW, nanos=0)
        decision = pb.AuthorizeResponse.FromString(answer).decision
        found.append(RawRecord(0, 1, decision, _NOW * 10**9, 90, 250, len(found), request, answer))
    return found


def measure(total: int, *, masks: tuple[str, ...], to_file: bool) -> dict[str, float]:
    """Take *total* records through a decision log; give seconds, records a second, bytes a raw record and a line."""
    made = records()
    block = b"".join(pack_record(made[number % len(made)]) for number in range(_BLOCK_RECORDS))
    renderer = RecordRenderer(Masker(parse_masks(masks), bytes(32)) if masks else None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "decisions.json")
        source = Blocks([block] * (total // _BLOCK_RECORDS))
        log = DecisionLog(
            source=source,
            render=renderer.render,
            sink=FileSink(path, max_bytes=1 << 40, kept=1) if to_file else Nowhere(),
            spill=Spill(folder=Path(folder, "spill"), max_bytes=0),
            may_drop=False,
        )
        began = time.perf_counter()
        log.start()
        log.stop(600)
        seconds = time.perf_counter() - began
        written = log.statistics().written
        if written != total:
            raise RuntimeError(f"{written} of {total} records were written")
        size = path.stat().st_size if to_file else 0
    return {
        "seconds": seconds,
        "records_per_second": total / seconds,
        "record_bytes": len(block) / _BLOCK_RECORDS,
        "line_bytes": size / total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    parser.add_argument("--records", type=int, default=200_000)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with one_processor():
        for name, masks, to_file in (("nowhere", (), False), ("file", (), True), ("file_masked", MASKS, True)):
            figures[name] = measure(options.records // 1000 * 1000, masks=masks, to_file=to_file)
    if options.json:
        print(json.dumps({"machine": machine(), "decision_log": figures}))
        return
    for name, value in machine().items():
        print(f"{name}: {value}")
    for name, figure in figures.items():
        line = f", {figure['line_bytes']:.0f} bytes a line" if figure["line_bytes"] else ""
        print(
            f"{name}: {figure['records_per_second']:.0f} records of {figure['record_bytes']:.0f} bytes a second{line}"
        )


if __name__ == "__main__":
    main()
