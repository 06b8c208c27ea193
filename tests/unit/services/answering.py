# SPDX-License-Identifier: Apache-2.0
"""
A process that answers challenges with one code, at the moment at which it is told to.

Run as ``python -m tests.unit.services.answering URL FOLDER SECONDS CODE``; reads ids of challenges, prints outcomes.
"""

import sys
from pathlib import Path

from sidecar.model.errors import SidecarError
from sidecar.services.challenges import TotpAnswer
from sidecar.services.store.engine import open_store
from tests.unit.services.mfa_kit import ADA, Kit, session_of


def main(url: str, folder: Path, seconds: float, code: str) -> None:
    """Answer each challenge whose id stands in a line."""
    store = open_store(url, state_dir=folder)
    kit = Kit(store, folder)
    kit.clock.nanoseconds = int(seconds * 1e9)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            proof = kit.services.challenges.answer(session_of(ADA), line.strip(), TotpAnswer(code))
        except SidecarError as error:
            print(error.reason, flush=True)
        else:
            print(f"accepted {proof.method}", flush=True)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
