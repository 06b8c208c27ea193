# SPDX-License-Identifier: Apache-2.0
"""
The policy decision point: hands requests to the core under the snapshot in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol

from sidecar import core
from sidecar.model.decision import Answer
from sidecar.model.request import AuthorizationRequest
from sidecar.services.metrics import DecisionMetrics, NullMetrics

_NANOS = 1_000_000_000


class ImageSource(Protocol):
    """Says which image is in place."""

    @property
    def image(self) -> core.Image | None:
        """The image in place, or None before the first."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    An answer and the snapshot that gave it.

    Attributes:
        revision: Revision of the snapshot; empty where there was none.
    """

    answer: Answer
    revision: str


class Authorizer:
    """
    Answers requests.

    Each request reads the clock and the image in place once and keeps to both.

    Thread-safety: immutable, but for what the metrics count.
    """

    def __init__(
        self, *, snapshots: ImageSource, now: Callable[[], int], metrics: DecisionMetrics | None = None
    ) -> None:
        """
        Args:
            snapshots: Where the image in place is.
            now: Nanoseconds since the epoch.
            metrics: What counts the decisions.
        """
        self._snapshots = snapshots
        self._now = now
        self._metrics: DecisionMetrics = metrics or NullMetrics()

    def authorize(self, request: bytes) -> bytes:
        """
        Answer a serialized AuthorizeRequest with a serialized AuthorizeResponse.

        Raises:
            RequestError: The request is malformed.
        """
        seconds, nanos = divmod(self._now(), _NANOS)
        began = perf_counter_ns()
        response = core.authorize(self._snapshots.image, request, seconds=seconds, nanos=nanos)
        elapsed = perf_counter_ns() - began
        self._metrics.record_decision(*read_verdict(response), elapsed)
        return response

    def batch_authorize(self, request: bytes) -> bytes:
        """
        Answer a serialized BatchAuthorizeRequest with a serialized BatchAuthorizeResponse.

        Raises:
            RequestError: One of the requests is malformed.
        """
        seconds, nanos = divmod(self._now(), _NANOS)
        began = perf_counter_ns()
        response = core.batch_authorize(self._snapshots.image, request, seconds=seconds, nanos=nanos)
        elapsed = perf_counter_ns() - began
        answers = list(_split(response))
        for answer in answers:
            self._metrics.record_decision(*read_verdict(answer), elapsed // len(answers))
        return response

    def explain(self, request: AuthorizationRequest) -> Explanation:
        """
        Answer with everything that led to the decision.

        Raises:
            RequestError: The request is malformed.
        """
        image = self._snapshots.image
        seconds, nanos = divmod(self._now(), _NANOS)
        answer = core.explain(image, request, seconds=seconds, nanos=nanos)
        return Explanation(answer, "" if image is None else image.revision)


def read_verdict(response: bytes) -> tuple[int, bytes]:
    """
    Return the decision and the reason of a serialized AuthorizeResponse that our own core wrote.

    The core writes fields in order, so both stand at the beginning.

    >>> read_verdict(bytes([0x08, 1, 0x10, 1, 0x1A, 5]) + b"hello")
    (1, b'hello')
    """
    decision, at = 0, 0
    while at + 1 < len(response):
        tag, value = response[at], response[at + 1]
        at += 2
        if tag == 0x08:
            decision = value
        elif tag == 0x1A:
            return decision, response[at : at + value]
        elif tag != 0x10:
            break
    return decision, b""


def _split(batch: bytes) -> Iterator[bytes]:
    """Yield each response of a serialized BatchAuthorizeResponse that our own core wrote."""
    at = 0
    while at < len(batch):
        size, shift = 0, 0
        at += 1
        while True:
            byte = batch[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield batch[at : at + size]
        at += size
