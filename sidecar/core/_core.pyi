# SPDX-License-Identifier: Apache-2.0
from array import array
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

def authorize(image: Image | None, request: bytes, *, seconds: int, nanos: int) -> bytes: ...
def batch_authorize(image: Image | None, request: bytes, *, seconds: int, nanos: int) -> bytes: ...
def encode_request(request: AuthorizationRequest) -> bytes: ...
def measure(
    image: Image, requests: bytes, lengths: array[int], *, seconds: int, whole: bool
) -> tuple[array[float], float, list[int]]: ...
def measure_memory(size: int, steps: int = 1_000_000) -> float: ...
def explain(
    image: Image | None, request: AuthorizationRequest, *, seconds: int, nanos: int, simulation: bool = False
) -> Answer: ...
