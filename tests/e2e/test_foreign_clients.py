# SPDX-License-Identifier: Apache-2.0
"""
Clients that nobody here wrote, against the data listener of a running sidecar.

Those of other languages are built by ``tests/clients/build``, which ``scripts/test`` runs.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2

from sidecar.model.request import MAX_BATCH_BYTES
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.e2e.sidecar_process import PATIENCE, Sidecar, question

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "build" / "clients"
PROTO = ROOT / "proto" / "sidecar" / "v1" / "authorization.proto"
SERVICE = "/sidecar.v1.AuthorizationService/"
METADATA = (("trace-bin", b"\0\1\2\xff"), ("x-request-id", "7"))

_LONG = question(context={"app:text": pb.ContextValue(values=["x" * 4000])})
#: What every client asks.
REQUESTS: Mapping[str, bytes] = {
    "allow": question().SerializeToString(),
    "deny": question("s3:PutObject").SerializeToString(),
    "invalid": question("nonsense").SerializeToString(),
    "batch": pb.BatchAuthorizeRequest(requests=[question(), question("s3:PutObject")] * 50).SerializeToString(),
    "oversize": pb.BatchAuthorizeRequest(requests=[_LONG] * (MAX_BATCH_BYTES // 2000)).SerializeToString(),
    "long": _LONG.SerializeToString(),
}

Outcome = dict[str, Any]


def program(name: str) -> str:
    """Return where a program is, or skip the test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"`{name}` is not on this machine")
    return path


def built(name: str) -> Path:
    """Return where something that ``tests/clients/build`` makes is, or skip the test."""
    path = CLIENTS / name
    if not path.exists():
        pytest.skip(f"`build/clients/{name}` was not built; tests/clients/build says why")
    return path


def run(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end."""
    done = subprocess.run([str(part) for part in command], capture_output=True, timeout=PATIENCE, check=False, **more)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done


@pytest.fixture(params=["tcp", "unix"])
def target(request: pytest.FixtureRequest, shared: Sidecar) -> str:
    """The address of the data listener, as gRPC writes it."""
    tcp, unix = shared.addresses("data")
    return tcp if request.param == "tcp" else unix


def check(outcome: Outcome) -> None:
    """Compare what a client got with what it must get."""
    assert outcome["allow"]["answer"]["decision"] == "DECISION_ALLOW"
    assert outcome["allow"]["answer"]["reason"] == "identity_allow"
    assert outcome["deny"]["answer"]["decision"] == "DECISION_IMPLICIT_DENY"
    decisions = [one["decision"] for one in outcome["batch"]["answer"]["responses"]]
    assert decisions == ["DECISION_ALLOW", "DECISION_IMPLICIT_DENY"] * 50
    assert outcome["many"] == 100
    assert outcome["health"]["answer"] == "0801"

    assert outcome["invalid"]["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert outcome["invalid"]["message"].startswith("`action` cannot be used: ")
    status = status_pb2.Status.FromString(base64.b64decode(outcome["invalid"]["details"]))
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    assert [violation.field for violation in details.field_violations] == ["action"]

    assert outcome["oversize"]["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert outcome["unknown"]["code"] == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert outcome["unknown"]["message"] == "there is no such method here"
    assert outcome["compressed"]["code"] == grpc.StatusCode.UNIMPLEMENTED.value[0]


def _decode(name: str, data: bytes) -> Any:
    if name == "health":
        return data.hex()
    answer = pb.BatchAuthorizeResponse() if name == "batch" else pb.AuthorizeResponse()
    answer.ParseFromString(data)
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


def _failure(error: grpc.RpcError) -> Outcome:
    trailers: Any = error.trailing_metadata() or ()
    details = dict(trailers).get("grpc-status-details-bin", b"")
    return {
        "code": error.code().value[0],
        "message": error.details(),
        "details": base64.b64encode(details).decode(),
    }


def _calls() -> Iterator[tuple[str, str, bytes, dict[str, Any]]]:
    yield "allow", SERVICE + "Authorize", REQUESTS["allow"], {"metadata": METADATA}
    yield "deny", SERVICE + "Authorize", REQUESTS["deny"], {}
    yield "batch", SERVICE + "BatchAuthorize", REQUESTS["batch"], {}
    yield "invalid", SERVICE + "Authorize", REQUESTS["invalid"], {}
    yield "oversize", SERVICE + "BatchAuthorize", REQUESTS["oversize"], {}
    yield "unknown", SERVICE + "Nothing", REQUESTS["allow"], {}
    yield "compressed", SERVICE + "Authorize", REQUESTS["long"], {"compression": grpc.Compression.Gzip}
    yield "health", "/grpc.health.v1.Health/Check", b"", {}


def test_grpcio_when_it_asks_then_it_is_answered(target: str) -> None:
    outcome: Outcome = {}
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        for name, method, request, options in _calls():
            try:
                outcome[name] = {
                    "answer": _decode(
                        name, channel.unary_unary(method, bytes, bytes)(request, timeout=PATIENCE, **options)
                    )
                }
            except grpc.RpcError as error:
                outcome[name] = _failure(error)
        authorize = channel.unary_unary(SERVICE + "Authorize", bytes, bytes)
        futures = [authorize.future(REQUESTS["allow"], timeout=PATIENCE) for _ in range(100)]
        outcome["many"] = sum(_decode("allow", one.result())["decision"] == "DECISION_ALLOW" for one in futures)

    check(outcome)


def test_grpcio_asyncio_when_it_asks_then_it_is_answered(target: str) -> None:
    async def ask() -> Outcome:
        outcome: Outcome = {}
        async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            for name, method, request, options in _calls():
                try:
                    answer = await channel.unary_unary(method, bytes, bytes)(request, timeout=PATIENCE, **options)
                    outcome[name] = {"answer": _decode(name, answer)}
                except grpc.aio.AioRpcError as error:
                    outcome[name] = _failure(error)
            authorize = channel.unary_unary(SERVICE + "Authorize", bytes, bytes)
            many = await asyncio.gather(*[authorize(REQUESTS["allow"], timeout=PATIENCE) for _ in range(100)])
            outcome["many"] = sum(_decode("allow", one)["decision"] == "DECISION_ALLOW" for one in many)
        return outcome

    check(asyncio.run(ask()))


def test_grpcio_when_it_keeps_the_connection_alive_then_it_is_not_thrown_out(target: str) -> None:
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(target, options=options) as channel:
        authorize = channel.unary_unary(SERVICE + "Authorize", bytes, bytes)
        for _ in range(200):
            authorize(REQUESTS["allow"], timeout=PATIENCE)


@pytest.fixture
def requests_file(tmp_path: Path) -> Path:
    """A file with the requests, for programs."""
    path = tmp_path / "requests.json"
    path.write_text(json.dumps({name: base64.b64encode(data).decode() for name, data in REQUESTS.items()}))
    return path


@pytest.mark.peer
def test_grpc_js_when_it_asks_then_it_is_answered(target: str, requests_file: Path) -> None:
    node, modules = program("node"), built("node") / "node_modules"

    done = run(
        node,
        ROOT / "tests" / "clients" / "node" / "client.js",
        target,
        PROTO,
        requests_file,
        env={**os.environ, "NODE_PATH": str(modules), "no_grpc_proxy": "*", "grpc_proxy": ""},
    )

    check(json.loads(done.stdout))


@pytest.mark.peer
def test_grpc_go_when_it_asks_then_it_is_answered(target: str, requests_file: Path, tmp_path: Path) -> None:
    client = built("client")
    files: dict[str, FileDescriptor] = {}

    def gather(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            gather(dependency)
        files[file.name] = file

    gather(pb.DESCRIPTOR)
    descriptors = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    (tmp_path / "descriptors").write_bytes(descriptors.SerializeToString())

    done = run(client, target, tmp_path / "descriptors", requests_file, env={**os.environ, "NO_PROXY": "*"})

    check(json.loads(done.stdout))


def _framed(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


@pytest.mark.peer
def test_curl_when_it_asks_then_it_is_answered(target: str, tmp_path: Path) -> None:
    curl = program("curl")
    (tmp_path / "request").write_bytes(_framed(REQUESTS["allow"]))
    to = ["--unix-socket", target.removeprefix("unix:")] if target.startswith("unix:") else []
    host = "localhost" if to else target

    done = run(
        curl, "--silent", "--show-error", "--noproxy", "*", "--http2-prior-knowledge", *to,
        "--header", "content-type: application/grpc", "--header", "te: trailers",
        "--data-binary", f"@{tmp_path / 'request'}", "--dump-header", tmp_path / "headers",
        f"http://{host}{SERVICE}Authorize",
    )  # fmt: skip

    assert _decode("allow", done.stdout[5:])["decision"] == "DECISION_ALLOW"
    headers = (tmp_path / "headers").read_text()
    assert headers.startswith("HTTP/2 200")
    assert "grpc-status: 0" in headers
    # A browser or a health check of a load balancer that knows no better is told so in its own language.
    plain = run(curl, "--silent", "--noproxy", "*", "--http2-prior-knowledge", *to, "--head", f"http://{host}/")
    assert plain.stdout.startswith(b"HTTP/2 405")


@pytest.mark.peer
def test_nghttp_when_it_asks_then_it_is_answered(shared: Sidecar, tmp_path: Path) -> None:
    nghttp = program("nghttp")
    (tmp_path / "request").write_bytes(_framed(REQUESTS["allow"]))

    # The last one sends a header list in several frames, which is larger than the listener takes.
    for more, status in (("--padding=100", 0), ("--no-dep", 0), ("--continuation", 8)):
        done = run(
            nghttp, "--verbose", "--header", "content-type: application/grpc", "--header", "te: trailers",
            "--header", ":method: POST", "--data", tmp_path / "request", "--null-out", more,
            f"http://{shared.address('data')}{SERVICE}Authorize",
        )  # fmt: skip

        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode())
        assert ":status: 200" in text
        assert f"grpc-status: {status}\n" in text


@pytest.mark.peer
@pytest.mark.parametrize(("connections", "streams"), [(1, 1), (4, 16), (50, 100)])
def test_h2load_when_it_asks_much_then_every_call_is_answered(
    shared: Sidecar, target: str, tmp_path: Path, connections: int, streams: int
) -> None:
    h2load = program("h2load")
    (tmp_path / "request").write_bytes(_framed(REQUESTS["allow"]))
    calls = 20 * connections * streams if connections * streams < 1000 else 10_000
    base = f"unix:{target.removeprefix('unix:')}" if target.startswith("unix:") else f"http://{target}"
    counted = 'sidecar_rpcs_total{code="OK",listener="data",method="Authorize"}'
    before = shared.metric(counted)

    done = run(
        h2load, f"--requests={calls}", f"--clients={connections}", f"--max-concurrent-streams={streams}",
        f"--data={tmp_path / 'request'}", "--header=content-type: application/grpc", "--header=te: trailers",
        f"--base-uri={base}", f"http://localhost{SERVICE}Authorize",
    )  # fmt: skip

    # It does not look at the status of gRPC, so the sidecar is asked how the calls ended.
    assert f"{calls} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout.decode()
    assert shared.metric(counted) - before == calls


_EARLY = (
    "a GET is answered with 405 as soon as its header list is there, so the stream is over already when the mistake "
    "comes; test_streams.py makes the same mistakes on calls that are still open"
)
_FORGOTTEN = (
    "nothing is kept of streams that are over, and RFC 9113, section 5.1, lets frames that come late be ignored; "
    "test_streams.py shows that they do no harm, and test_floods.py that they are counted"
)
_NO_BODY = "the answer to a GET has no body, so there is no DATA frame to wait for"
#: Cases that it leaves out by itself, for want of a body; test_streams.py moves windows about with real answers.
H2SPEC_LEFT_OUT = {
    ("http2/6.5.3", "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE"),
    ("http2/6.9.1", "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame"),
    ("http2/6.9.2", "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame"),
    ("http2/6.9.2", "Sends a SETTINGS frame for window size to be negative"),
}
_LENGTH = 'Sends a HEADERS frame with the "content-length" header field which does not equal'
#: What h2spec received instead of what it waited for: our answer, nothing, or the end of the connection as a reset.
_ANSWER, _NOTHING, _RESET = (
    r"(HEADERS Frame \(length:\d+, flags:0x05|RST_STREAM Frame \(length:4,)",
    "Timeout",
    "reset by peer",
)
#: Why a case of h2spec, known by its section and its words, ends otherwise than h2spec (which follows RFC 7540, and
#: sends GET requests) would have it, and how. Most of them do so only if an answer is quicker than the next frame.
H2SPEC_EXCEPTIONS = {
    ("generic/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) stream"): (_NO_BODY, _ANSWER),
    ("generic/2", "Sends a PRIORITY frame on half-closed (remote) stream"): (_NO_BODY, _ANSWER),
    ("http2/5.1", "half closed (remote): Sends a DATA frame"): (_EARLY, _ANSWER),
    ("http2/5.1", "half closed (remote): Sends a HEADERS frame"): (_EARLY, _ANSWER),
    ("http2/5.1", "closed: Sends a DATA frame after sending RST_STREAM frame"): (_FORGOTTEN, f"{_NOTHING}|{_ANSWER}"),
    ("http2/5.1", "closed: Sends a HEADERS frame after sending RST_STREAM frame"): (
        _FORGOTTEN,
        f"{_NOTHING}|{_ANSWER}",
    ),
    ("http2/5.1", "closed: Sends a DATA frame"): (_FORGOTTEN, _NOTHING),
    ("http2/5.1", "closed: Sends a HEADERS frame"): (_FORGOTTEN, _NOTHING),
    ("http2/5.1.1", "Sends stream identifier that is numerically smaller than previous"): (
        "to nghttp2 this is a late frame of a stream that is over, as section 5.1 of RFC 9113 allows; it is not served",
        r"HEADERS Frame \(length:\d+, flags:0x05, stream_id:5\)",
    ),
    ("http2/5.1.2", "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded"): (
        "every GET is answered at once, so there are never too many; test_limits.py keeps streams open to get there",
        _ANSWER,
    ),
    ("http2/6.1", 'Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" state'): (
        _EARLY,
        _ANSWER,
    ),
    ("http2/6.1", "Sends a DATA frame with invalid pad length"): (_EARLY, _ANSWER),
    ("http2/6.9", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream"): (
        _EARLY,
        _ANSWER,
    ),
    (
        "http2/6.9.1",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    ): (_EARLY, _ANSWER),
    ("http2/7", "Sends a GOAWAY frame with unknown error code"): (
        "the connection ends as soon as the peer has said goodbye, and a PING behind that may meet a closed socket",
        _RESET,
    ),
    ("http2/8.1", "Sends a second HEADERS frame without the END_STREAM flag"): (_EARLY, _ANSWER),
    ("http2/8.1.2.1", "Sends a HEADERS frame that contains a pseudo-header field as trailers"): (_EARLY, _ANSWER),
    ("http2/8.1.2.6", f"{_LENGTH} the DATA frame payload length"): (_EARLY, _ANSWER),
    ("http2/8.1.2.6", f"{_LENGTH} the sum of the multiple DATA frames payload length"): (_EARLY, _ANSWER),
}
_H2SPEC_CASE = re.compile(r'<testcase package="([^"]*)" classname="([^"]*)"[^>]*>(.*?)</testcase>', re.DOTALL)


def _is_explained(name: tuple[str, str], outcome: str) -> bool:
    _, received = H2SPEC_EXCEPTIONS.get(name, ("", None))
    return received is not None and re.search(received, outcome.strip().splitlines()[-1]) is not None


@pytest.mark.peer
def test_h2spec_when_it_tries_every_rule_then_all_exceptions_are_explained(shared: Sidecar, tmp_path: Path) -> None:
    h2spec = built("h2spec")
    report = tmp_path / "report.xml"
    host, port = shared.address("data").split(":")
    # It exits with 1 for any failure, and tells of each in the report.
    command = [str(h2spec), "--host", host, "--port", port, "--timeout", "1", "--junit-report", str(report)]
    subprocess.run([*command, "generic", "http2", "hpack"], capture_output=True, timeout=PATIENCE, check=False)

    # The report is not always good XML: what a failure received stands there as it is.
    found = _H2SPEC_CASE.findall(report.read_text(errors="replace"))
    cases = {(package, html.unescape(name)): outcome for package, name, outcome in found}
    assert len(found) == 145
    strange = {name: outcome for name, outcome in cases.items() if re.search("<(failure|error)", outcome)}
    assert [(name, outcome) for name, outcome in strange.items() if not _is_explained(name, outcome)] == []
    assert {name for name, outcome in cases.items() if "<skipped" in outcome} == H2SPEC_LEFT_OUT
    assert set(H2SPEC_EXCEPTIONS) - set(cases) == set(), "an exception of no case"
    with shared.authorization("data") as stub:
        assert stub.Authorize(question(), timeout=PATIENCE).decision == pb.DECISION_ALLOW
