# SPDX-License-Identifier: Apache-2.0
"""
What is fuzzed: every reader that takes bytes from outside.

Seeds come from the example company. An input that once was a finding goes to ``tests/fuzz/corpus/<target>/`` and is
read first in every run.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import struct
import zlib
from pathlib import Path

from google.protobuf.message import DecodeError

from examples.show import read_questions
from sidecar import core
from sidecar.compile.documents import DocumentError, read_json, read_yaml
from sidecar.compile.image import write_image
from sidecar.compile.layout import HEADER, SECTION, SECTION_NUMBERS, SECTIONS
from sidecar.compile.policy import parse_policy
from sidecar.compile.problems import Problems
from sidecar.compile.source import parse_source
from sidecar.model.decision import Answer
from sidecar.model.errors import ImageError, RequestError
from sidecar.model.policy import PolicyKind
from sidecar.model.request import MAX_REQUEST_BYTES, AuthorizationRequest, ContextValue
from sidecar.model.snapshot import Snapshot
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.conformance.cases import FEDERATED_ARN, OTHER_ACCOUNT, SESSION_ARN, USER_ARN, build_snapshot
from tests.fuzz.call_target import CALL_TARGETS
from tests.fuzz.check_targets import CHECK_TARGETS
from tests.fuzz.decision_log_targets import DECISION_LOG_TARGETS
from tests.fuzz.harness import EDGES, Target
from tests.fuzz.listener_targets import LISTENER_TARGETS
from tests.fuzz.mfa import MFA_TARGETS
from tests.fuzz.route_targets import ROUTE_TARGETS
from tests.fuzz.routing_targets import ROUTING_TARGETS, ask_routes, routes_of
from tests.fuzz.step_up_targets import STEP_UP_TARGETS
from tests.fuzz.token_targets import TOKEN_TARGETS
from tests.oracle import decide

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
            or path.name in ("organization.json", "resource-policies.json", "account-settings.yaml", "routes.yaml")
        )
    }


@functools.cache
def example_snapshot() -> Snapshot:
    """Give the example company as a snapshot."""
    report = parse_source(_files())
    if report.snapshot is None:
        raise ValueError(f"the example does not load: {report.problems[0]}")
    return report.snapshot


@functools.cache
def _image_bytes() -> bytes:
    return write_image(example_snapshot())


@functools.cache
def _image() -> core.Image:
    return core.Image.from_bytes(_image_bytes())


# A snapshot that has one of everything an image can hold.

#: One line for each operator, under which a value of the request is read.
OPERATORS: tuple[tuple[str, list[str]], ...] = (
    ("StringEquals", ["abc", "\u00c9t\u00e9"]),
    ("StringNotEquals", ["abc", "true"]),
    ("StringEqualsIgnoreCase", ["aBc", "\u00c9T\u00c9", "10"]),
    ("StringNotEqualsIgnoreCase", ["aBc", "\u00c9T\u00c9"]),
    ("StringLike", ["a*c", "?", "*\u00e9*", "a*a*a*b", "${aws:username}*", "${*}${?}"]),
    ("StringNotLike", ["*1*", "??", "${app:absent, 'x'}*"]),
    ("NumericEquals", ["10", "-0.5", "999999999999999999.999999999"]),
    ("NumericNotEquals", ["10", "0"]),
    ("NumericLessThan", ["10"]),
    ("NumericLessThanEquals", ["-0.000000001"]),
    ("NumericGreaterThan", ["10"]),
    ("NumericGreaterThanEquals", ["0.5"]),
    ("DateEquals", ["2026-01-01T00:00:00Z", "0"]),
    ("DateNotEquals", ["2024-02-29"]),
    ("DateLessThan", ["1970-01-01T00:00:00Z"]),
    ("DateLessThanEquals", ["2026-01-01T00:00:00.5Z"]),
    ("DateGreaterThan", ["2026-01-01T00:00:00+01:00"]),
    ("DateGreaterThanEquals", ["2000"]),
    ("Bool", ["true"]),
    ("BinaryEquals", ["YWJj", "AA=="]),
    ("IpAddress", ["10.0.0.0/8", "2001:db8::/33", "::1", "203.0.113.7"]),
    ("NotIpAddress", ["0.0.0.0/0", "::ffff:0:0/96", "::/1"]),
    ("ArnEquals", ["arn:aws:s3:::bucket", "arn:*:iam::*:role/a?c"]),
    ("ArnNotEquals", ["arn:aws:s3:::bucket"]),
    ("ArnLike", ["arn:aws:s3:::b*t/*", "arn:aws:*:*:*:${aws:username}"]),
    ("ArnNotLike", ["arn:aws:s3:*:*:*"]),
    ("ForAnyValue:StringLike", ["a*"]),
    ("ForAllValues:StringNotEquals", ["abc"]),
    ("ForAllValues:NumericLessThan", ["10"]),
    ("ForAnyValue:IpAddress", ["10.0.0.0/8"]),
    ("StringLikeIfExists", ["a*"]),
    ("ForAnyValue:DateGreaterThanIfExists", ["2026-01-01"]),
    ("Null", ["true"]),
)


def _operator_statements() -> list[dict[str, object]]:
    return [
        {
            "Effect": effect,
            "Action": "app:Read",
            "Resource": "*",
            "Condition": {operator: {"app:value": values if len(values) > 1 else values[0]}},
        }
        for operator, values in OPERATORS
        for effect in ("Allow", "Deny")
    ]


@functools.cache
def _rich_snapshot(principal: str) -> Snapshot:
    return build_snapshot(
        {
            "principal": principal,
            "tags": {"team": "red", "Cost": "a*"},
            "identity": {
                "policies": [
                    _operator_statements(),
                    [
                        {"NotAction": ["iam:*", "s3:Delete*"], "NotResource": ["arn:aws:s3:::bucket/secret/*"]},
                        {"Action": ["s3:Get*", "s3:?utObject"], "Resource": "arn:aws:s3:::bucket/${aws:username}/*"},
                        {
                            "Effect": "Deny",
                            "Action": "s3:*",
                            "Resource": ["arn:aws:s3:::b*t/x", "arn:aws:s3:::bucket/${aws:PrincipalTag/team, 'none'}"],
                            "Condition": {
                                "NumericGreaterThan": {"aws:MultiFactorAuthAge": "300"},
                                "StringEquals": {"sidecar:MfaMethod": ["totp", "u2f"]},
                            },
                        },
                        {"Action": "kms:*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}},
                        {"Action": "sqs:*", "Condition": {"DateLessThan": {"aws:CurrentTime": "2030-01-01"}}},
                        {"Action": "sns:*", "Condition": {"StringLike": {"aws:userid": "A*", "aws:PrincipalArn": "*"}}},
                    ],
                ]
            },
            "boundary": ["Allow", {"Effect": "Deny", "Action": "s3:DeleteBucket"}],
            "session": ["Allow", {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket/no"}],
            "scps": ["Allow", {"Action": ["s*:*", "app:*", "?ms:*"]}],
            "rcps": [{"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/rcp"}],
            "trust": [{"Principal": {"AWS": [USER_ARN, f"arn:aws:iam::{OTHER_ACCOUNT}:root"]}}],
            "other_accounts": [OTHER_ACCOUNT],
            "resource_policies": [
                {
                    "arn": "arn:aws:s3:::bucket",
                    "account": OTHER_ACCOUNT,
                    "policy": [
                        {"Principal": {"AWS": [SESSION_ARN, USER_ARN], "Service": "backup.amazonaws.com"}},
                        {
                            "Effect": "Deny",
                            "NotPrincipal": {"AWS": [USER_ARN, USER_ARN.replace("user/alice", "root")]},
                            "Action": "s3:PutBucketPolicy",
                        },
                    ],
                },
                {"arn": "arn:aws:sqs:*", "account": OTHER_ACCOUNT, "policy": {"Principal": "*", "Action": "sqs:Get*"}},
            ],
        }
    )


@functools.cache
def _rich_bytes(principal: str) -> bytes:
    snapshot = _rich_snapshot(principal)
    return write_image(dataclasses.replace(snapshot, routes=routes_of(snapshot.accounts)))


@functools.cache
def _rich_questions() -> tuple[AuthorizationRequest, ...]:
    value = {"app:value": ContextValue(("abc", "10", "10.0.0.1", "2026-01-01", "arn:aws:s3:::bucket", "YWJj"))}
    asked = (
        ("app:Read", "*"),
        ("app:Read", "arn:aws:app:::x"),
        ("s3:GetObject", "arn:aws:s3:::bucket/alice/x"),
        ("s3:PutObject", "arn:aws:s3:::bucket/red"),
        ("s3:Unheard", "arn:aws:s3:::bucket/secret/y"),
        ("kms:Decrypt", f"arn:aws:kms:eu-west-1:{OTHER_ACCOUNT}:key/1"),
        ("sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1::queue"),
        ("sns:Publish", "*"),
        ("sts:AssumeRole", f"arn:aws:iam::{OTHER_ACCOUNT}:role/target"),
    )
    single = tuple({"app:value": ContextValue((text,))} for text in value["app:value"].values)
    return (
        *(AuthorizationRequest(USER_ARN, "app:Read", "*", context) for context in single),
        *(
            AuthorizationRequest(principal, action, resource, value)
            for principal in (USER_ARN, SESSION_ARN, FEDERATED_ARN, "backup.amazonaws.com", "")
            for action, resource in asked
        ),
    )


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


_SHADOW = b"""- policy: inline:arn:aws:iam::111122223333:user/ada/own
  until: 2026-12-31
- {route: orders, until: 2025-12-31T18:00:00Z, note: late}
"""


@functools.cache
def _beside_shadow() -> dict[str, bytes]:
    """Give the files of a source that a shadow file may name something of."""
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    user = {"Path": "/", "UserName": "ada", "UserId": "AIDAEXAMPLE", "Arn": "arn:aws:iam::111122223333:user/ada"}
    dump = {"UserDetailList": [{**user, "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": document}]}]}
    routes = {"routes": [{"id": "orders", "path": "/orders", "action": "shop:List", "resource": "*"}]}
    return {"accounts/main.json": json.dumps(dump).encode(), "routes.json": json.dumps(routes).encode()}


def _source_seeds() -> list[bytes]:
    return [name.encode() + b"\n" + content for name, content in {**_files(), "shadow.yaml": _SHADOW}.items()]


def _run_source(data: bytes) -> str:
    name, _, content = data.partition(b"\n")
    beside = _beside_shadow() if name in (b"shadow.yaml", b"shadow.yml", b"shadow.json") else {}
    report = parse_source({**beside, name.decode("utf-8", "replace"): content}, now=NOW)
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


#: Which part of an image an edit changes, besides the sections.
_EDIT_HEADER, _EDIT_TABLE = 255, 254
#: An edit: section, field, record, value. A field above 127 has the value added to it.
_EDIT = struct.Struct("<BBHI")
_WIDTHS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i64": "<q"}


def _edit_places() -> list[tuple[int, int]]:
    places = [(_EDIT_HEADER, field) for field in range(len(HEADER.fields))]
    places += [(_EDIT_TABLE, field) for field in range(len(SECTION.fields))]
    return places + [
        (number, field) for number, (_, record) in enumerate(SECTIONS) for field in range(len(record.fields))
    ]


def _edit_seeds() -> list[bytes]:
    values = (0, 1, 5, 0xFE, 0x7FFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
    seeds = [_EDIT.pack(section, field, 0, value) for section, field in _edit_places() for value in values]
    seeds += [_EDIT.pack(section, field | 128, 1, 1) for section, field in _edit_places()]
    return [b"", *seeds]


def apply_edits(image: bytes, edits: bytes) -> bytes:
    """Change the fields of records that *edits* name, and make the checksum fit."""
    data = bytearray(image)
    head = HEADER.struct.size
    for section, field, record_number, value in _EDIT.iter_unpack(edits[: len(edits) // _EDIT.size * _EDIT.size]):
        if section == _EDIT_HEADER:
            record, start = HEADER, 0
        elif section == _EDIT_TABLE:
            record, start = SECTION, head + record_number % len(SECTIONS) * SECTION.struct.size
        else:
            number = section % len(SECTIONS)
            record = SECTIONS[number][1]
            _, _, offset, count = SECTION.struct.unpack_from(image, head + number * SECTION.struct.size)
            if count == 0:
                continue
            start = offset + record_number % count * record.struct.size
        chosen = (field & 127) % len(record.fields)
        start += sum(struct.calcsize(_WIDTHS[kind]) for _, kind, _ in record.fields[:chosen])
        layout = struct.Struct(_WIDTHS[record.fields[chosen][1]])
        (old,) = layout.unpack_from(data, start)
        wide = value if value < 0x80000000 else value - (1 << 32)
        changed = old + wide if field & 128 else wide
        data[start : start + layout.size] = (changed % (1 << (8 * layout.size))).to_bytes(layout.size, "little")
    _mend_checksum(data)
    return bytes(data)


def _mend_checksum(data: bytearray) -> None:
    fields = [name for name, _, _ in HEADER.fields]
    values = list(HEADER.struct.unpack_from(data))
    values[fields.index("checksum")] = zlib.crc32(memoryview(data)[HEADER.struct.size :])
    HEADER.struct.pack_into(data, 0, *values)


def _run_edits(data: bytes) -> str:
    principal = ("user", "role", "federated")[len(data) // _EDIT.size % 3]
    try:
        image = core.Image.from_bytes(apply_edits(_rich_bytes(principal), data))
    except ImageError as error:
        return _kind(str(error))
    answers = ask_routes(image)
    for question in _rich_questions():
        try:
            answers.add(core.explain(image, question, seconds=NOW, nanos=0, simulation=True).reason.word)
            answers.add(_word(core.authorize(image, core.encode_request(question), seconds=NOW, nanos=0)))
        except RequestError as error:
            answers.add(error.field)
    return " ".join(sorted(answers))


@functools.cache
def _shadowed_bytes() -> bytes:
    given = {"identity": {"policies": [_operator_statements()[::7], "Deny"]}, "scps": ["Allow"], "tags": {"team": "r"}}
    given = {
        "identity": {"policies": [_operator_statements()[::7], "Deny"]},
        "scps": ["Allow"],
        "tags": {"team": "red"},
    }
    return write_image(build_snapshot({**given, "shadow": ["identity-1"], "shadow_until": "2026-01-02T00:00:00Z"}))


def _run_shadow_edits(data: bytes) -> str:
    """Edit the image inside of an image."""
    whole = bytearray(_shadowed_bytes())
    entry = HEADER.struct.size + SECTION_NUMBERS["SHADOW_IMAGE"] * SECTION.struct.size
    _, _, offset, count = SECTION.struct.unpack_from(whole, entry)
    whole[offset : offset + count] = apply_edits(bytes(whole[offset : offset + count]), data)
    _mend_checksum(whole)
    try:
        image = core.Image.from_bytes(whole)
    except ImageError as error:
        return _kind(str(error))
    answers = set()
    for question in _rich_questions()[::5]:
        # Before the shadow ends and behind it.
        for seconds in (NOW, NOW + 200_000):
            try:
                explained = core.explain(image, question, seconds=seconds, nanos=0, simulation=True)
                answers.add(explained.shadow_decision.name)
                answers.add(_word(core.authorize(image, core.encode_request(question), seconds=seconds, nanos=0)))
            except RequestError as error:
                answers.add(error.field)
    return " ".join(sorted(answers))


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
    """What the core takes, protobuf's own reader takes too, and it means the same in its own spelling."""
    try:
        answer = core.authorize(_image(), data, seconds=NOW, nanos=0)
    except RequestError as error:
        return _kind(f"{error.field}: {error}")
    try:
        message = pb.AuthorizeRequest.FromString(data)
    except DecodeError:
        if _has_long_tag(data):
            return "a tag in more bytes than it needs"
        raise
    own = message.SerializeToString(deterministic=True)
    if len(own) <= MAX_REQUEST_BYTES and core.authorize(_image(), own, seconds=NOW, nanos=0) != answer:
        raise ValueError("another answer to the same message")
    return _word(answer)


def _has_long_tag(data: bytes) -> bool:
    """Whether a number is written with zeros at its end, which the core takes everywhere and protobuf not in tags."""
    return re.search(rb"[\x80-\xff][\x80]*\x00", data) is not None


# A request written field by field: its lengths fit unless they are meant not to.

_TEXTS = (
    b"",
    b"*",
    USER_ARN.encode(),
    SESSION_ARN.encode(),
    b"backup.amazonaws.com",
    b"s3:GetObject",
    b"arn:aws:s3:::bucket/key",
    b"111122223333",
    b"aws:SourceIp",
    b"AWS:SOURCEIP",
    b"aws:PrincipalArn",
    b"203.0.113.7",
    b"\xed\xa0\x80",
    b"a\x00b",
    b"\xf0\x9f\x98\x80",
    b"x" * 4096,
    b"x" * 4097,
    b"orders:Read",
)


def _varint(number: int, pad: int = 0) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    for _ in range(pad):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def _chunk(field: int, body: bytes, *, longer: int = 0) -> bytes:
    return _varint(field << 3 | 2) + _varint(max(0, len(body) + longer)) + body


def _write_message(script: bytes) -> bytes:
    """Write the message that *script* tells of, two bytes for each step."""
    out = b""
    for step, argument in zip(script[::2], script[1::2], strict=False):
        text = _TEXTS[argument % len(_TEXTS)]
        match step % 16:
            case 0 | 1 | 2 | 3 | 4 | 5:
                out += _chunk(step % 16 + 1, text)
            case 6:
                out = _chunk(argument % 8, out)
            case 7:
                out += _chunk(5, _chunk(1, text) + _chunk(2, _chunk(1, _TEXTS[step // 16])))
            case 8:
                value = b"".join(_chunk(1, b"v") for _ in range(argument)) + b"\x10\x01"
                out += _chunk(5, _chunk(2, value) + _chunk(1, b"app:many%d" % step))
            case 9:
                out += b"".join(_chunk(5, _chunk(1, b"app:k%d" % number)) for number in range(argument))
            case 10:
                out += _varint(argument % 9 << 3 | step // 16 % 8) + bytes([argument]) * (argument % 10)
            case 11:
                out += _chunk(argument % 7 + 1, text, longer=step // 16 - 8)
            case 12:
                out += _varint(argument % 7 << 3 | 2, pad=step // 16) + b"\x01x"
            case 13:
                out += _varint(16 + argument << 3 | 2) + _varint(EDGES[argument % len(EDGES)]) + out[:64]
            case 14:
                out = out[: -(argument + 1)]
            case _:
                out += _varint(1 << 3 | argument % 8) + b"\xff" * (step // 16)
    return out


def _run_message(script: bytes) -> str:
    data = _write_message(script[:64])[: 1 << 20]
    return _run_request(data) + "; " + _run_batch(data) + "; " + _run_batch(_chunk(1, data))


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
    return _compare(_image(), example_snapshot(), request, simulation=len(data) % 2 == 1)


def _compare(image: core.Image, snapshot: Snapshot, request: AuthorizationRequest, *, simulation: bool) -> str:
    """Ask the core, which must answer what the oracle answers."""
    answer: Answer | RequestError
    wanted: Answer | RequestError
    try:
        answer = core.explain(image, request, seconds=NOW, nanos=0, simulation=simulation)
    except RequestError as error:
        answer = error
    try:
        wanted = decide(snapshot, request, seconds=NOW, nanos=0, simulation=simulation)
    except RequestError as error:
        wanted = error
    if isinstance(answer, RequestError):
        if isinstance(wanted, Answer) and not _is_bounded_by_core(answer):
            raise ValueError(f"the core refuses what the oracle answers: {answer}; {wanted}")
        return _kind(f"{answer.field}: {answer}")
    if isinstance(wanted, RequestError):
        raise ValueError(f"the core answers what the oracle refuses: {answer}; {wanted}")
    if answer != wanted:
        raise ValueError(f"the core does not agree: {answer}; {wanted}")
    applied = ",".join(str(match.statement_index) for match in answer.matched_statements)
    return f"{answer.reason.word} {applied}"


def _is_bounded_by_core(error: RequestError) -> bool:
    """Whether it is refused for a bound that the oracle does not know: of a whole message."""
    return error.field == "request"


# Values of conditions.

_VALUES = (
    *(
        "abc",
        "ABC",
        "ac",
        "aaaab",
        "10",
        "10.0",
        "+10",
        "-0.5",
        "00010",
        "1e1",
        "0x10",
        "1.",
        ".5",
        "-0",
        "1.0000000001",
    ),
    *(
        "999999999999999999.999999999",
        "1000000000000000000",
        "2026",
        "2026-01",
        "2026-01-01",
        "2024-02-29",
        "2023-02-29",
    ),
    *("2026-01-01T00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.500000000Z", "2026-01-01T00:00:00+23:59"),
    *(
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59.999999999-23:59",
    ),
    *(
        "0000",
        "0000-01-01",
        "1767225600",
        "253402300800",
        "true",
        "FALSE",
        "tRuE",
        "yes",
        "YWJj",
        "YWJ=",
        "YQ==",
        "YR==",
        "AA",
    ),
    *("10.0.0.1", "010.0.0.1", "10.0.0.256", "10.0.0", "::", "::1", "::ffff:10.0.0.1", "::ffff:a00:1", "2001:db8::1"),
    *(
        "2001:db8:0:0:0:0:0:1",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8:9",
        "fe80::1%eth0",
        "1::2::3",
        ":::",
    ),
    *(
        "1:2:3:4:5:6:1.2.3.4",
        "::1.2.3.4",
        "12345::",
        "0:0:0:0:0:ffff:1.2.3.04",
        "arn:aws:s3:::bucket",
        "arn:aws:s3:::bucket/",
    ),
    *(
        "arn:aws:s3:::b:t/x",
        "arn:aws:iam::1:role/abc",
        "arn:::::",
        "arn:aws:s3",
        "ARN:aws:s3:::bucket",
        "*?",
        "\u00e9t\u00c9",
    ),
    *(
        "alice",
        "alicex",
        "\ufeff1",
        "1\n",
        " 1",
        "\u0661",
        "\uff11",
        "\u212a",
        "\u0130",
        "\ufdd0",
        "\U0010ffff",
        "a" * 200 + "b",
    ),
)


def _run_value(data: bytes) -> str:
    try:
        texts = tuple(part.decode() for part in data.split(_FIELD))
    except UnicodeDecodeError:
        return "no text"
    context = {"app:value": ContextValue(texts)}
    request = AuthorizationRequest(USER_ARN, "app:Read", "*", context)
    return _compare(_rich_image("user"), _rich_snapshot("user"), request, simulation=False)


@functools.cache
def _rich_image(principal: str) -> core.Image:
    return core.Image.from_bytes(_rich_bytes(principal))


def _run_party(data: bytes) -> str:
    """A question of four fields to the snapshot that has everything."""
    fields = [part.decode("utf-8", "surrogateescape") for part in data.split(_FIELD)]
    fields += [""] * (4 - len(fields))
    principal = ("user", "role", "federated")[len(data) % 3]
    request = AuthorizationRequest(fields[0], fields[1], fields[2], resource_account=fields[3])
    return _compare(_rich_image(principal), _rich_snapshot(principal), request, simulation=len(data) % 2 == 1)


def _party_seeds() -> list[bytes]:
    return [
        _FIELD.join(text.encode() for text in (question.principal, question.action, question.resource, account))
        for question in _rich_questions()
        for account in ("", OTHER_ACCOUNT)
    ]


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
        seeds=_source_seeds,
        run=_run_source,
        tokens=_POLICY_TOKENS,
    ),
    Target(
        name="image",
        about="compiled images with a checksum that fits, and decisions with those that load",
        seeds=lambda: [_image_bytes(), _rich_bytes("role")],
        run=_run_image,
        mend=_mend_image,
        in_place=0.9,
        tokens=(struct.pack("<I", 0xFFFFFFFF), b"\xff", b"\xfe", b"\x00" * 4),
    ),
    Target(
        name="record",
        about="fields of an image changed one by one, and decisions with those that load",
        seeds=_edit_seeds,
        run=_run_edits,
        in_place=0.5,
        max_bytes=1 << 8,
    ),
    Target(
        name="shadow",
        about="fields of the image inside of an image changed one by one, and decisions with those that load",
        seeds=_edit_seeds,
        run=_run_shadow_edits,
        in_place=0.5,
        max_bytes=1 << 8,
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
        name="message",
        about="requests and batches with lengths that fit, against protobuf's own reader",
        seeds=lambda: [bytes(range(start, start + 16)) for start in range(0, 241, 5)],
        run=_run_message,
        max_bytes=1 << 6,
    ),
    Target(
        name="value",
        about="values under every operator, against the oracle",
        seeds=lambda: [
            *(text.encode() for text in _VALUES),
            *(
                f"{one}\0{other}".encode().replace(b"\0", _FIELD)
                for one, other in zip(_VALUES[::5], _VALUES[1::5], strict=False)
            ),
        ],
        run=_run_value,
        tokens=(
            *(
                _FIELD,
                b":",
                b"::",
                b".",
                b"-",
                b"+",
                b"0",
                b"9",
                b"T",
                b"Z",
                b"=",
                b"==",
                b"*",
                b"?",
                b"arn:",
                b"ffff",
                b"1",
            ),
            *(b"\xc3\x89", b"\xe2\x84\xaa", b"\xf4\x8f\xbf\xbf", b"\x00", b"true", b"00", b"T00:00", b"/"),
        ),
        max_bytes=1 << 8,
    ),
    Target(
        name="party",
        about="principals, actions, resources and accounts, against the oracle",
        seeds=_party_seeds,
        run=_run_party,
        tokens=(
            _FIELD,
            b"*",
            b"/",
            b":",
            b"arn:",
            b"aws",
            b"",
            b"user/",
            b"iam",
            b"root",
            b".amazonaws.com",
            b"\x00",
            b"aws-cn",
        ),
        max_bytes=1 << 12,
    ),
    Target(
        name="explain",
        about="fields of a question, hostile text among them, against the oracle",
        seeds=_explain_seeds,
        run=_run_explain,
        tokens=(_FIELD, b"*", b"?", b":", b"arn:aws:iam::", b"\xed\xa0\x80", b"\x00", b"${aws:username}"),
        max_bytes=1 << 14,
    ),
    *DECISION_LOG_TARGETS,
    *LISTENER_TARGETS,
    *CALL_TARGETS,
    *MFA_TARGETS,
    *TOKEN_TARGETS,
    *ROUTE_TARGETS,
    *ROUTING_TARGETS,
    *STEP_UP_TARGETS,
    *CHECK_TARGETS,
)
