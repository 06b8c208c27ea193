# SPDX-License-Identifier: Apache-2.0
"""
From a raw decision record to a line of the decision log, with CloudTrail's names where it has some.

A record holds no session token. In its place the core has put the access key id of the session, or a word where the
token was none of ours; who it speaks for is in the answer.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError

from sidecar.model.decision import Decision, PolicyLayer
from sidecar.model.listener import RpcMethod
from sidecar.services.raw_records import RawRecord
from sidecar.services.record_masks import Masker
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb

#: Version of the form of a record.
EVENT_VERSION = "1.0"

_METHODS = {method.value: method.word for method in (RpcMethod.AUTHORIZE, RpcMethod.BATCH_AUTHORIZE, RpcMethod.CHECK)}
_DECISIONS = {decision.value: decision.name.lower() for decision in Decision}
_LAYERS = {layer.value: layer.name.lower() for layer in PolicyLayer}
_UNKNOWN = "unknown"
#: The last second that has a date.
_LAST_SECOND = 253_402_300_799

#: Nothing that is longer, as a token is, comes into the log.
_ACCESS_KEY_ID = re.compile(r"[A-Z0-9]{20}", re.ASCII)

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class RecordRenderer:
    """
    Writes records as lines.

    Thread-safety: immutable.
    """

    def __init__(self, masker: Masker | None = None) -> None:
        """
        Args:
            masker: Masks what is not to be written; None where everything is.
        """
        self._masker = masker

    def render(self, raw: RawRecord) -> bytes:
        """Return the line of *raw*, with its end: one JSON object, in ASCII."""
        record = describe_record(raw)
        if self._masker is not None:
            self._masker.mask(record)
        return _encode(record).encode("ascii") + b"\n"


def describe_record(raw: RawRecord) -> dict[str, Any]:
    """
    Return what a record says.

    A request or answer that cannot be read is named under ``unreadable``; the rest is there all the same.
    """
    unreadable = []
    try:
        request = pb.AuthorizeRequest.FromString(raw.request)
    except DecodeError:
        request = pb.AuthorizeRequest()
        unreadable.append("request")
    try:
        answer = pb.AuthorizeResponse.FromString(raw.answer)
    except DecodeError:
        answer = pb.AuthorizeResponse()
        unreadable.append("answer")
    service, colon, name = request.action.partition(":")
    resource: dict[str, str] = {"ARN": request.resource}
    account = account_of(request.resource) or request.resource_account
    if account:
        resource["accountId"] = account
    parameters: dict[str, Any] = {"context": _context(request)}
    if request.resource_account:
        parameters["resourceAccount"] = request.resource_account
    record = {
        "eventVersion": EVENT_VERSION,
        "eventTime": _time_text(raw.time),
        "eventID": f"{raw.time & 0xFFFF_FFFF_FFFF_FFFF:016x}-{raw.worker:04x}-{raw.sequence:016x}",
        "eventSource": service if colon else "",
        "eventName": name if colon else service,
        "userIdentity": identity_of(answer.principal_arn or request.principal, request.session_token),
        "resources": [resource],
        "requestParameters": parameters,
        "decision": _DECISIONS.get(raw.decision, _UNKNOWN),
        "layer": _LAYERS.get(answer.layer, _UNKNOWN),
        "reason": answer.reason,
        "snapshotRevision": answer.snapshot_revision,
        "method": _METHODS.get(raw.method, _UNKNOWN),
        "worker": raw.worker,
        "sequence": raw.sequence,
        "durations": {"readNanoseconds": raw.read_ns, "decisionNanoseconds": raw.decision_ns},
    }
    if answer.HasField("mfa_requirement"):
        record["mfaRequirement"] = _requirement(answer.mfa_requirement)
    if answer.shadow_decision:
        record["shadowDecision"] = _DECISIONS.get(answer.shadow_decision, _UNKNOWN)
    if raw.note:
        record.update(_of_check(raw.note))
    if unreadable:
        record["unreadable"] = unreadable
    return record


def identity_of(principal: str, session: str = "") -> dict[str, str]:
    """
    Return who was decided for, in the words of CloudTrail's ``userIdentity``.

    Args:
        session: What stands in place of the session token that spoke for somebody; empty: none did.

    >>> identity_of("arn:aws:sts::111122223333:assumed-role/deploy/ci")["type"]
    'AssumedRole'
    """
    if not principal:
        # An empty caller is anonymous; a token that is not one of ours leaves it open who that is.
        return {"type": "Unknown"} if session else {"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL"}
    key = {"accessKeyId": session} if _ACCESS_KEY_ID.fullmatch(session) else {}
    parts = principal.split(":", 5)
    if parts[0] != "arn" or len(parts) < 6:
        return {"type": "AWSService", "invokedBy": principal}
    kind = parts[5].partition("/")[0]
    return {"type": _TYPES.get((parts[2], kind), "Unknown"), "arn": principal, "accountId": parts[4], **key}


_TYPES = {
    ("iam", "user"): "IAMUser",
    ("iam", "root"): "Root",
    ("iam", "role"): "Role",
    ("sts", "assumed-role"): "AssumedRole",
    ("sts", "federated-user"): "FederatedUser",
}


def account_of(arn: str) -> str:
    """Return the account that *arn* names; empty if it names none."""
    parts = arn.split(":", 5)
    return parts[4] if len(parts) == 6 and parts[0] == "arn" else ""


def _context(request: pb.AuthorizeRequest) -> dict[str, str | list[str]]:
    """Return the context, a lone value as text."""
    found: dict[str, str | list[str]] = {}
    context = request.context
    for key in context:
        value = context[key]
        values = value.values
        found[key] = values[0] if len(values) == 1 and not value.multivalued else [*values]
    return found


def _of_check(note: bytes) -> dict[str, Any]:
    """Return what a request of Envoy adds: its route and id where it has them, and what was asked for, but no query."""
    texts = [text.decode("utf-8", "replace") for text in note.split(b"\0")]
    route, request_id, method, host, path = (*texts, "", "", "", "", "")[:5]
    found: dict[str, Any] = {"route": route} if route else {}
    if request_id:
        found["requestID"] = request_id
    return {**found, "http": {"method": method, "host": host, "path": path}}


def _requirement(wire: pb.MfaRequirement) -> dict[str, Any]:
    requirement: dict[str, Any] = {"methods": list(wire.methods), "userVerification": wire.user_verification}
    if wire.HasField("max_age_seconds"):
        requirement["maxAgeSeconds"] = wire.max_age_seconds
    return requirement


def _time_text(nanoseconds: int) -> str:
    """Return a time of RFC 3339, in UTC, with milliseconds."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second_text(min(max(seconds, 0), _LAST_SECOND))}.{rest // 1_000_000:03}Z"


@lru_cache(maxsize=16)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
