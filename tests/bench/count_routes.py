# SPDX-License-Identifier: Apache-2.0
"""
What runs under callgrind: the route of each request in a folder is found once.

Hardly anything is imported, since all of it runs under callgrind too.
"""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

from sidecar.core._core import Image, measure_routes


def main(folder: Path) -> None:
    """Find the route of each request in *folder* once."""
    image = Image.from_bytes((folder / "image").read_bytes())
    lengths = array("I", (folder / "lengths").read_bytes())
    _, found = measure_routes(image, (folder / "requests").read_bytes(), lengths, whole=False)
    if found != len(lengths):
        raise ValueError("not every request took a route")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
