# SPDX-License-Identifier: Apache-2.0
"""
Our listener with one worker and a handler that always gives the same answer: the transport without the decision.

Run it with ``python -m tests.bench.constant_server FILE ADDRESS...``; FILE holds the answer. It prints one line once it
listens, ``answered N`` for each line on its standard input, and ends at the end of that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sidecar.core import DataServer
from sidecar.model.listener import RpcMethod, RpcStatus
from sidecar.transports.addresses import bind, bound_address, parse_address
from sidecar.transports.data_listener import DataLimits


def main(arguments: Sequence[str]) -> None:
    """Serve until the standard input ends."""
    file, *texts = arguments
    shown, descriptors = [], []
    for address in map(parse_address, texts):
        with bind(address) as listener:
            listener.setblocking(False)
            shown.append(str(bound_address(listener, address)))
            descriptors.append(listener.detach())
    answer = Path(file).read_bytes()
    server = DataServer(descriptors, workers=1, limits=DataLimits().for_core(), constant_answer=answer)
    server.start()
    print(f"constant_server serving: {' '.join(shown)}", flush=True)
    for _ in sys.stdin:
        counted = sum(part["rpcs"].get((RpcMethod.AUTHORIZE, RpcStatus.OK), 0) for part in server.telemetry())
        print(f"answered {counted}", flush=True)
    server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
