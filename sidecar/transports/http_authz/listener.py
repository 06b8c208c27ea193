# SPDX-License-Identifier: Apache-2.0
"""
The ``http-authz`` listener, for proxies on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.model.check import OnError
from sidecar.services.http_authz_metrics import HttpAuthzMetrics
from sidecar.services.log import Log
from sidecar.transports.addresses import Address
from sidecar.transports.http_authz.application import HttpAuthz
from sidecar.transports.http_server import Connections, HttpListener

#: Longer than Envoy (an hour) and nginx (a minute) keep one that they do not use: whoever ends it while the other side
#: asks makes a request fail.
_KEEP_ALIVE = 65 * 60
#: Connections of proxies at the same time.
MAX_CONNECTIONS = 1024


def http_authz_listener(
    address: Address, *, check: Callable[[bytes], bytes], on_error: OnError, log: Log, metrics: HttpAuthzMetrics
) -> HttpListener:
    """
    Return the listener, which is to be started.

    Args:
        check: Answers a serialized CheckRequest with a serialized CheckResponse.
        on_error: What a request gets that cannot be decided.
    """
    return HttpListener(
        address=address,
        application=HttpAuthz(check=check, on_error=on_error, log=log, metrics=metrics),
        name="http-authz",
        connections=Connections(at_once=MAX_CONNECTIONS, keep_alive=_KEEP_ALIVE, are_short_lived=False),
    )
