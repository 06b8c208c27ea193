# SPDX-License-Identifier: Apache-2.0
"""
One compile in a process of its own, as the child of a serving sidecar does it, with a time for each step.

Run it with ``python -m tests.bench.compile_once SOURCE IMAGE``; it prints the seconds as JSON.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.services.source_files import read_source


def main(source: Path, image: Path) -> None:
    """Compile *source* into the file *image*."""
    gc.disable()
    began = time.perf_counter()
    files = read_source(source)
    read = time.perf_counter()
    busy = time.process_time()
    report = parse_source(files)
    parsed = time.perf_counter()
    if report.snapshot is None:
        raise ValueError(f"the source of the benchmark has problems: {report.problems[0]}")
    data = write_image(report.snapshot)
    written = time.perf_counter()
    busy = time.process_time() - busy
    image.write_bytes(data)
    steps = {
        "read_s": read - began,
        "parse_s": parsed - read,
        "write_s": written - parsed,
        "compile_s": written - read,
        "compile_cpu_s": busy,
    }
    print(json.dumps(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    # As in the service: taking apart what was built would only cost time.
    os._exit(0)
