# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2

import sidecar.app
import sidecar.cli  # noqa: F401 - so that every error class there is has been defined
from sidecar.model.errors import InternalError, PolicySyntaxError, Problem, RequestError, Severity, SidecarError
from sidecar.transports.status import (
    MAX_STATUS_BYTES,
    STATUS_BY_ERROR,
    internal_status,
    status_code,
    status_of,
    violations_in,
)


def subclasses(kind: type[SidecarError]) -> Iterator[type[SidecarError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("kind", sorted(set(subclasses(SidecarError)), key=str))
def test_table_when_an_error_class_exists_then_it_or_a_base_has_a_status(kind: type[SidecarError]) -> None:
    assert any(base in STATUS_BY_ERROR for base in kind.__mro__)


def test_table_when_read_then_no_denial_and_no_success_is_in_it() -> None:
    assert grpc.StatusCode.OK not in STATUS_BY_ERROR.values()
    assert grpc.StatusCode.UNKNOWN not in STATUS_BY_ERROR.values()


def test_status_when_a_request_is_malformed_then_its_field_travels() -> None:
    status = status_of(RequestError("`action` cannot be used", field="requests[3].action", help="name a service"))

    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == "`action` cannot be used (name a service)"
    assert violations_in(status) == [("requests[3].action", "`action` cannot be used (name a service)")]


def test_status_when_it_is_a_fault_of_ours_then_the_cause_does_not_travel() -> None:
    error = InternalError("the compiler failed", cause="/etc/secret")

    assert status_code(error) is grpc.StatusCode.INTERNAL
    assert b"secret" not in status_of(error).SerializeToString()
    assert internal_status("abc").message == "internal error abc"


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("letter", ["x", "é", "\ud800"])
def test_status_when_there_are_many_problems_then_it_stays_small_and_counts_the_rest(
    count: int, size: int, letter: str
) -> None:
    problems = [Problem(Severity.ERROR, "a.json", f"$[{n}]", letter * size, letter * size) for n in range(count)]

    status = status_of(PolicySyntaxError(letter * size, problems=problems))

    assert status.ByteSize() <= MAX_STATUS_BYTES
    found = violations_in(status)
    if count == 0:
        assert found == []
        return
    shown = [field for field, _ in found if field]
    assert shown
    if len(shown) < count:
        assert found[-1] == ("", f"… and {count - len(shown)} more")
    else:
        assert len(found) == count


def test_violations_when_the_details_are_of_another_kind_then_there_are_none() -> None:
    status = internal_status("abc")
    status.details.add().Pack(error_details_pb2.DebugInfo(detail="x"))

    assert violations_in(status) == []
