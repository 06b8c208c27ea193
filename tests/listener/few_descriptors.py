# SPDX-License-Identifier: Apache-2.0
"""
A listener in a process that may have few files open: says its port, then tells after each line of input how it is.
"""

import json
import os
import resource
import sys

from sidecar.model.listener import ListenerLimit
from tests.listener.peers import Client
from tests.listener.serving import listening, question, right_answer

#: Connections that there are descriptors for.
ROOM = 8


def main() -> None:
    """Serve until the end of the input."""
    with listening() as listener, Client(listener.place) as client:
        used = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + ROOM, used + ROOM))
        print(listener.place[1], flush=True)
        while sys.stdin.readline():
            is_right = client.call(question()).message == right_answer(question())
            print(json.dumps({"good": is_right, "hits": listener.hits(ListenerLimit.DESCRIPTORS)}), flush=True)


if __name__ == "__main__":
    main()
