# SPDX-License-Identifier: Apache-2.0
"""
What is fuzzed: every reader that takes bytes from outside.

Seeds come from the example company. An input that once was a finding goes to ``tests/fuzz/corpus/<target>/`` and is
read first in every run.
"""

from __future__ import annotations

import functools
import json
import re
import struct
import zlib
from pathlib import Path

from examples.show import read_questions
from sidecar import core
from sidecar.compile.documents import DocumentError, read_json, read_yaml
from sidecar.compile.image import write_image
from sidecar.compile.layout import HEADER
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.compile.source import parse_source
from sidecar.model.errors import ImageError, RequestError
from sidecar.model.policy import PolicyKind
from sidecar.model.request import AuthorizationRequest, ContextValue
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.fuzz.harness import Target

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples" / "acme"
#: 2026-01-01T00:00:00Z. Inputs decide, the clock does not.
NOW = 1_767_225_600

_VARYING = re.compile(r"`[^`]*`|[0-9]+")


def corpus(name: str) -> list[bytes]:
    """Give the inputs of *name* that once were findings."""
    return [path.read_bytes() for path in sorted((HERE / "corpus" / name).glob("*.bin"))]


def _kind(message: str) -> str:
    """Strip a message of what varies with the input."""
    return _VARYING.sub("#", message)[:120]


@functools.cache
def _files() -> dict[str, bytes]:
    return {
        str(path.relative_to(EXAMPLE)): path.read_bytes()
        for path in sorted(EXAMPLE.rglob("*"))
        if path.suffix in (".json", ".yaml")
        and (
            path.parent.name == "accounts"
            or path.name in ("organization.json", "resource-policies.json", "account-settings.yaml")
        )
    }


@functools.cache
def _image_bytes() -> bytes:
    report = parse_source(_files())
    if report.snapshot is None:
        raise ValueError(f"the example does not load: {report.problems[0]}")
    return write_image(report.snapshot)


@functools.cache
def _image() -> core.Image:
    return core.Image.from_bytes(_image_bytes())


def _documents() -> list[bytes]:
    """Give every policy document of the example as JSON text."""
    found: list[bytes] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "Statement" in value:
                found.append(_dump(value).encode())
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for name, content in _files().items():
        if name.endswith(".json"):
            walk(read_json(content))
    return found


def _dump(value: object) -> str:
    """Write what read_json gave as JSON text; numbers are text there."""
    return json.dumps(value, ensure_ascii=False)


# --- documents


def _run_json(data: bytes) -> str:
    try:
        return type(read_json(data)).__name__
    except DocumentError as error:
        return _kind(str(error))


def _run_yaml(data: bytes) -> str:
    try:
        return type(read_yaml(data)).__name__
    except DocumentError as error:
        return _kind(str(error))


def _run_policy(data: bytes) -> str:
    problems = Problems()
    outcomes = []
    try:
        document = read_json(data)
    except DocumentError as error:
        return _kind(str(error))
    for kind in PolicyKind:
        before = problems.error_count
        parsed = parse_policy(document, kind=kind, problems=problems, file="fuzz.json")
        if (parsed is None) != (problems.error_count > before):
            raise ValueError(f"as a {kind}: no document without an error, or one in spite of it")
        outcomes.append(str(int(parsed is None)))
    first = _kind(problems.items[0].message) if problems.items else "fine"
    return "".join(outcomes) + first


def _run_source(data: bytes) -> str:
    name, _, content = data.partition(b"\n")
    report = parse_source({name.decode("utf-8", "replace"): content})
    errors = [problem for problem in report.problems if problem.severity == "error"]
    if (report.snapshot is None) != bool(errors):
        raise ValueError("no snapshot without an error, or one in spite of it")
    if report.snapshot is not None:
        core.Image.from_bytes(write_image(report.snapshot))
    return _kind(report.problems[0].message) if report.problems else "fine"


# --- image


def _mend_image(data: bytearray) -> None:
    """Make size and checksum fit, as whoever forges an image would."""
    size = HEADER.struct.size
    if len(data) < size:
        return
    fields = [name for name, _, _ in HEADER.fields]
    values = list(HEADER.struct.unpack_from(data))
    values[fields.index("total_size")] = len(data)
    values[fields.index("checksum")] = zlib.crc32(memoryview(data)[size:])
    HEADER.struct.pack_into(data, 0, *values)


def _run_image(data: bytes) -> str:
    try:
        image = core.Image.from_bytes(data)
    except ImageError as error:
        return _kind(str(error))
    answers = []
    for request in _requests():
        try:
            answers.append(_word(core.authorize(image, request, seconds=NOW, nanos=0)))
        except RequestError as error:
            answers.append(error.field)
    for question in _questions():
        try:
            core.explain(image, question, seconds=NOW, nanos=0)
        except RequestError as error:
            answers.append(error.field)
    return " ".join(answers)


def _word(answer: bytes) -> str:
    response = pb.AuthorizeResponse.FromString(answer)
    if response.decision == pb.DECISION_UNSPECIFIED:
        raise ValueError("an answer without a decision")
    return str(response.reason)


# --- requests


@functools.cache
def _requests() -> tuple[bytes, ...]:
    return tuple(
        question.request.request.SerializeToString() for question in read_questions(EXAMPLE.parent / "decisions.yaml")
    )


@functools.cache
def _questions() -> tuple[AuthorizationRequest, ...]:
    found = []
    for data in _requests():
        request = pb.AuthorizeRequest.FromString(data)
        found.append(
            AuthorizationRequest(
                principal=request.principal,
                action=request.action,
                resource=request.resource,
                context={
                    key: ContextValue(tuple(value.values), value.multivalued) for key, value in request.context.items()
                },
                resource_account=request.resource_account,
            )
        )
    return tuple(found)


def _run_request(data: bytes) -> str:
    try:
        return _word(core.authorize(_image(), data, seconds=NOW, nanos=0))
    except RequestError as error:
        return _kind(f"{error.field}: {error}")


def _batches() -> list[bytes]:
    requests = [pb.AuthorizeRequest.FromString(data) for data in _requests()]
    return [pb.BatchAuthorizeRequest(requests=requests[:count]).SerializeToString() for count in (1, 2, len(requests))]


def _run_batch(data: bytes) -> str:
    try:
        answer = core.batch_authorize(_image(), data, seconds=NOW, nanos=0)
    except RequestError as error:
        return _kind(f"{error.field}: {error}")
    responses = pb.BatchAuthorizeResponse.FromString(answer).responses
    return " ".join(sorted({_word(response.SerializeToString()) for response in responses}))


#: Between the fields of a question; it is no UTF-8, so that no field can hold it.
_FIELD = b"\xff"


def _explain_seeds() -> list[bytes]:
    seeds = []
    for question in _questions():
        fields = [question.principal, question.action, question.resource, question.resource_account]
        for key, value in question.context.items():
            fields += [key, *value.values[:1]]
        seeds.append(_FIELD.join(text.encode() for text in fields))
    return seeds


def _run_explain(data: bytes) -> str:
    fields = [part.decode("utf-8", "surrogateescape") for part in data.split(_FIELD)]
    fields += [""] * (4 - len(fields))
    pairs = fields[4:]
    context = {key: ContextValue((value,)) for key, value in zip(pairs[::2], pairs[1::2], strict=False)}
    request = AuthorizationRequest(
        principal=fields[0],
        action=fields[1],
        resource=fields[2],
        resource_account=fields[3],
        context=context,
        override=context if len(pairs) % 4 == 2 else {},
    )
    try:
        return core.explain(_image(), request, seconds=NOW, nanos=0, simulation=len(data) % 2 == 1).reason.word
    except RequestError as error:
        return _kind(f"{error.field}: {error}")


_JSON_TOKENS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"null",
    b"1e400",
    b"-0",
    b"NaN",
    b"\\ud800",
    b"\\u0000",
    b"\xef\xbb\xbf",
    b"[" * 200,
)
_POLICY_TOKENS = (
    *_JSON_TOKENS,
    *(
        f'"{word}"'.encode()
        for word in (
            "Version",
            "2012-10-17",
            "2008-10-17",
            "Statement",
            "Effect",
            "Allow",
            "Deny",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Principal",
            "NotPrincipal",
            "AWS",
            "Federated",
            "Service",
            "Condition",
            "Sid",
            "*",
            "s3:*",
            "s3:Get*Object",
            "ForAllValues:StringLike",
            "ForAnyValue:StringNotEqualsIfExists",
            "NumericLessThan",
            "DateGreaterThan",
            "IpAddress",
            "Null",
            "BinaryEquals",
            "Bool",
            "ArnLike",
            "aws:MultiFactorAuthAge",
            "${aws:username}",
            "${aws:PrincipalTag/x, '*'}",
            "${*}",
            "${",
        )
    ),
)
_REQUEST_TOKENS = (
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x22",
    b"\x2a",
    b"\x32",
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 10,
    b"\x80" * 9 + b"\x01",
    b"\x0b",
    b"\x0c",
    b"*",
    b"arn:aws:",
    b"aws:PrincipalArn",
    b"aws:MultiFactorAuthPresent",
    b"\xed\xa0\x80",
    b"\x00",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
)

TARGETS = (
    Target(
        name="json",
        about="documents, as strict JSON",
        seeds=lambda: [*_documents(), *_files().values()],
        run=_run_json,
        tokens=_JSON_TOKENS,
    ),
    Target(
        name="yaml",
        about="documents, as YAML that could have been JSON",
        seeds=lambda: [
            b"a: [1, two, {b: 'x'}]\nc: |\n  text\n  more\n",
            *(data for name, data in _files().items() if name.endswith(".yaml")),
        ],
        run=_run_yaml,
        tokens=(
            b"- ",
            b": ",
            b"&a ",
            b"*a",
            b"!!python/object ",
            b"<<: ",
            b"? ",
            b"|\n",
            b">\n",
            b"---\n",
            b"%YAML 1.1\n",
            b"[" * 200,
            b"\t",
        ),
        max_bytes=1 << 14,
    ),
    Target(
        name="policy",
        about="policy documents, as each kind of policy",
        seeds=_documents,
        run=_run_policy,
        tokens=_POLICY_TOKENS,
        max_bytes=1 << 16,
    ),
    Target(
        name="source",
        about="one file of a source, to a snapshot and its image",
        seeds=lambda: [name.encode() + b"\n" + content for name, content in _files().items()],
        run=_run_source,
        tokens=_POLICY_TOKENS,
    ),
    Target(
        name="image",
        about="compiled images with a checksum that fits, and decisions with those that load",
        seeds=lambda: [_image_bytes()],
        run=_run_image,
        mend=_mend_image,
        in_place=0.9,
        tokens=(struct.pack("<I", 0xFFFFFFFF), b"\xff", b"\xfe", b"\x00" * 4),
    ),
    Target(
        name="header",
        about="compiled images as they come, checksum and all",
        seeds=lambda: [_image_bytes(), _image_bytes()[:256], b""],
        run=_run_image,
        tokens=(struct.pack("<I", 0xFFFFFFFF),),
    ),
    Target(
        name="request",
        about="bytes of an AuthorizeRequest",
        seeds=_requests,
        run=_run_request,
        tokens=_REQUEST_TOKENS,
        max_bytes=1 << 17,
    ),
    Target(
        name="batch",
        about="bytes of a BatchAuthorizeRequest",
        seeds=_batches,
        run=_run_batch,
        tokens=_REQUEST_TOKENS,
        max_bytes=1 << 21,
    ),
    Target(
        name="explain",
        about="fields of a question, hostile text among them",
        seeds=_explain_seeds,
        run=_run_explain,
        tokens=(_FIELD, b"*", b"?", b":", b"arn:aws:iam::", b"\xed\xa0\x80", b"\x00", b"${aws:username}"),
        max_bytes=1 << 14,
    ),
)
