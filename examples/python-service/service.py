# SPDX-License-Identifier: Apache-2.0
"""
A gRPC service that knows nothing of permissions: who may call what is said by the policies that the sidecar has.

Run as ``python examples/python-service/service.py --address ADDRESS --sidecar ADDRESS``.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from sidecar.client import Access, AuthorizationClient, AuthorizationInterceptor, authorized_caller

# Made from `shop.proto` beside this file; needs grpcio-tools.
shop, shop_grpc = grpc.protos_and_services("shop.proto")


def order_arn(request: Any) -> str:
    """Return the name of the order that a request is about, as policies know it."""
    return f"arn:aws:shop:eu-west-1:111122223333:order/{request.number}"


#: What each method is to policies. A method that is not here is refused.
RULES = {
    "/shop.v1.Orders/Get": Access("shop:GetOrder", order_arn),
    "/shop.v1.Orders/Refund": Access("shop:RefundOrder", order_arn),
}


class Orders:
    """
    Keeps orders.

    Thread-safety: an order is written as a whole.
    """

    def __init__(self) -> None:
        self._orders = {4711: shop.Order(number=4711, euros=80), 4712: shop.Order(number=4712, euros=15)}

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - named by the contract
        """Return an order."""
        order = self._orders.get(request.number)
        if order is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such order")
        return order

    def Refund(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - named by the contract
        """Give the money back."""
        order = self.Get(request, context)
        caller = authorized_caller()
        refunded = shop.Order(number=order.number, euros=order.euros, is_refunded=True)
        refunded.changed_by = caller.principal_arn if caller is not None else ""
        self._orders[order.number] = refunded
        return refunded


def serve(address: str, sidecar: str) -> None:
    """Serve until the process is told to end."""
    client = AuthorizationClient(sidecar)
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[AuthorizationInterceptor(client, RULES)])
    shop_grpc.add_OrdersServicer_to_server(Orders(), server)
    server.add_insecure_port(address)
    server.start()
    print(f"the shop is open at {address}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A shop whose orders are protected by a sidecar.")
    parser.add_argument("--address", default="unix:shop.sock", help="where to serve")
    parser.add_argument("--sidecar", default="127.0.0.1:9191", help="data listener of the sidecar")
    arguments = parser.parse_args()
    serve(arguments.address, arguments.sidecar)
