# SPDX-License-Identifier: Apache-2.0
from array import array
from collections.abc import Mapping, Sequence
from typing import TypedDict, final

from sidecar.model.decision import Answer
from sidecar.model.request import AuthorizationRequest

class ImageStatistics(TypedDict):
    principals: int
    policies: int
    statements: int
    image_bytes: int

@final
class Image:
    @property
    def revision(self) -> str: ...
    @property
    def statistics(self) -> ImageStatistics: ...
    @staticmethod
    def from_bytes(data: bytes | bytearray | memoryview) -> Image: ...
    @staticmethod
    def from_fd(fd: int, size: int) -> Image: ...

class HistogramCounts(TypedDict):
    sum: int
    counts: list[int]

class Telemetry(TypedDict):
    decisions: dict[tuple[int, int, int], int]
    reading: HistogramCounts
    deciding: HistogramCounts
    request: HistogramCounts
    rpcs: dict[tuple[int, int], int]
    batch_requests: int
    limits: list[int]
    closed: list[int]
    accepted: int
    connections: int
    streams: int
    parked: int
    offered: int
    sampled_out: int
    dropped: int
    waiting_bytes: int

@final
class Recorder:
    def keep_log(self, *, ring_bytes: int, allows: float, denials: float, must_record: bool) -> None: ...
    def count_denials(self, reason: int, count: int) -> None: ...
    def telemetry(self) -> Telemetry: ...
    def read_records(self, most: int = ...) -> bytes: ...

@final
class DataServer:
    def __init__(
        self,
        listeners: Sequence[int],
        *,
        workers: int,
        limits: Mapping[str, int],
        constant_answer: bytes | None = None,
    ) -> None: ...
    def keep_log(self, *, ring_bytes: int, allows: float, denials: float, must_record: bool) -> None: ...
    def start(self) -> None: ...
    def publish(self, image: Image | None) -> None: ...
    def set_serving(self, is_serving: bool) -> None: ...
    def drain(self, seconds: float) -> bool: ...
    def close(self) -> None: ...
    def telemetry(self) -> list[Telemetry]: ...
    def worker_cpu_seconds(self) -> list[float]: ...
    def held_images(self) -> int: ...
    def wait_for_records(self, milliseconds: int) -> None: ...
    def read_records(self, most: int = ...) -> bytes: ...

LIMIT_NAMES: tuple[str, ...]

def histogram_edges() -> list[int]: ...
def authorize(
    image: Image | None, request: bytes, *, seconds: int, nanos: int, recorder: Recorder | None = None
) -> bytes: ...
def batch_authorize(
    image: Image | None, request: bytes, *, seconds: int, nanos: int, recorder: Recorder | None = None
) -> bytes: ...
def encode_request(request: AuthorizationRequest) -> bytes: ...
def measure(
    image: Image, requests: bytes, lengths: array[int], *, seconds: int, whole: bool
) -> tuple[array[float], float, list[int]]: ...
def measure_memory(size: int, steps: int = 1_000_000) -> float: ...
def explain(
    image: Image | None, request: AuthorizationRequest, *, seconds: int, nanos: int, simulation: bool = False
) -> Answer: ...
