# SPDX-License-Identifier: Apache-2.0
from array import array
from collections.abc import Mapping, Sequence
from typing import TypedDict, final

from sidecar.model.check import CheckSettings
from sidecar.model.decision import Answer
from sidecar.model.directory import AccountFacts, RoleFacts, UserFacts
from sidecar.model.request import AuthorizationRequest
from sidecar.model.resolved_check import ResolvedCheck
from sidecar.model.shadow import ShadowEntry

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
    @property
    def shadow_entries(self) -> tuple[ShadowEntry, ...]: ...
    def with_shadow_in_force(self) -> Image: ...
    @staticmethod
    def from_bytes(data: bytes | bytearray | memoryview) -> Image: ...
    @staticmethod
    def from_fd(fd: int, size: int) -> Image: ...
    def find_user(self, arn: str) -> UserFacts | None: ...
    def find_role(self, arn: str) -> RoleFacts | None: ...
    def find_account(self, id_or_alias: str) -> AccountFacts | None: ...

class HistogramCounts(TypedDict):
    sum: int
    counts: list[int]

class Telemetry(TypedDict):
    decisions: dict[tuple[int, int, int], int]
    shadow: dict[tuple[int, int], int]
    reading: HistogramCounts
    deciding: HistogramCounts
    request: HistogramCounts
    rpcs: dict[tuple[int, int], int]
    told: list[int]
    batch_requests: int
    limits: list[int]
    closed: list[int]
    accepted: int
    connections: int
    streams: int
    parked: int
    tokens_opened: int
    tokens_known: int
    offered: int
    sampled_out: int
    dropped: int
    waiting_bytes: int

@final
class SessionState:
    def __init__(self, *, keys: Sequence[tuple[bytes, bytes]], revocations: bytes) -> None: ...
    def set_valid_until(self, monotonic_ns: int) -> None: ...
    def open(self, token: str, *, image: Image | None, seconds: int, nanos: int) -> bytes: ...

@final
class Recorder:
    def keep_log(self, *, ring_bytes: int, allows: float, denials: float, must_record: bool) -> None: ...
    def count_denials(self, reason: int, count: int) -> None: ...
    def telemetry(self) -> Telemetry: ...
    def read_records(self, most: int = ...) -> bytes: ...

@final
class CheckPlan:
    def __init__(self, settings: CheckSettings) -> None: ...

@final
class DataServer:
    def __init__(
        self,
        listeners: Sequence[int],
        *,
        workers: int,
        limits: Mapping[str, int],
        check: CheckPlan | None = None,
        constant_answer: bytes | None = None,
    ) -> None: ...
    def keep_log(self, *, ring_bytes: int, allows: float, denials: float, must_record: bool) -> None: ...
    def start(self) -> None: ...
    def publish(self, image: Image | None) -> None: ...
    def publish_sessions(self, state: SessionState | None) -> None: ...
    def set_serving(self, is_serving: bool) -> None: ...
    def drain(self, seconds: float) -> bool: ...
    def close(self) -> None: ...
    def telemetry(self) -> list[Telemetry]: ...
    def worker_cpu_seconds(self) -> list[float]: ...
    def held_images(self) -> int: ...
    def held_sessions(self) -> int: ...
    def wait_for_records(self, milliseconds: int) -> None: ...
    def read_records(self, most: int = ...) -> bytes: ...

@final
class ConnectionProbe:
    def __init__(
        self,
        image: Image | None,
        *,
        limits: Mapping[str, int],
        seconds: int,
        ring_bytes: int = 0,
        must_record: bool = False,
        sessions: SessionState | None = None,
        check: CheckPlan | None = None,
    ) -> None: ...
    def receive(self, data: bytes) -> bool: ...
    def send(self, frames: int = ...) -> bytes: ...
    def advance(self, nanoseconds: int) -> None: ...
    def tick(self) -> bool: ...
    def drain(self) -> None: ...
    def is_done(self) -> bool: ...
    def close(self) -> None: ...
    def held(self) -> dict[str, int]: ...
    def reason(self) -> int: ...
    def telemetry(self) -> Telemetry: ...
    def read_records(self, most: int = ...) -> bytes: ...

class ReadAttributes(TypedDict):
    source_address: bytes
    source_principal: bytes
    method: bytes
    path: bytes
    host: bytes
    scheme: bytes
    protocol: bytes
    sni: bytes
    request_id: bytes
    headers: list[tuple[bytes, bytes]]
    extensions: list[tuple[bytes, bytes]]
    filters: list[tuple[bytes, bytes]]

LIMIT_NAMES: tuple[str, ...]

def read_attributes(message: bytes) -> ReadAttributes: ...
def find_in_struct(message: bytes, path: bytes) -> tuple[int, bytes, float] | None: ...
def histogram_edges() -> list[int]: ...
def return_memory() -> None: ...
def authorize(
    image: Image | None,
    request: bytes,
    *,
    seconds: int,
    nanos: int,
    recorder: Recorder | None = None,
    sessions: SessionState | None = None,
) -> bytes: ...
def batch_authorize(
    image: Image | None,
    request: bytes,
    *,
    seconds: int,
    nanos: int,
    recorder: Recorder | None = None,
    sessions: SessionState | None = None,
) -> bytes: ...
def check(
    image: Image | None,
    request: bytes,
    *,
    seconds: int,
    nanos: int,
    plan: CheckPlan | None = None,
    recorder: Recorder | None = None,
    sessions: SessionState | None = None,
) -> bytes: ...
def encode_request(request: AuthorizationRequest) -> bytes: ...
def measure(
    image: Image,
    requests: bytes,
    lengths: array[int],
    *,
    seconds: int,
    whole: bool,
    sessions: SessionState | None = None,
) -> tuple[array[float], float, list[int]]: ...
def measure_routes(image: Image, requests: bytes, lengths: array[int], *, whole: bool) -> tuple[array[float], int]: ...
def measure_memory(size: int, steps: int = 1_000_000) -> float: ...
def explain(
    image: Image | None,
    request: AuthorizationRequest,
    *,
    seconds: int,
    nanos: int,
    simulation: bool = False,
    sessions: SessionState | None = None,
) -> Answer: ...
def resolve_check(image: Image, check_request: bytes, *, cookie_name: str = "") -> ResolvedCheck: ...
