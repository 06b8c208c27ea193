# SPDX-License-Identifier: Apache-2.0
"""
Small snapshots and requests, made so that policies often match.

Everything is drawn in the format of the conformance cases, so that a failing example is a case that can be kept,
and so that every document goes through the compiler. One number from Hypothesis seeds the whole of a question: a
question has some two hundred choices, and drawing each of them apart would take most of the time. What Hypothesis can
no longer shrink, ``tests.property.asking`` does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.conformance.cases import (
    ACCOUNT,
    FEDERATED_ARN,
    OTHER_ACCOUNT,
    ROLE_ARN,
    ROLE_ID,
    SERVICE,
    SESSION_ARN,
    USER_ARN,
    USER_ID,
)

T = TypeVar("T")
Json = dict[str, Any]

TARGET_ARN = f"arn:aws:iam::{ACCOUNT}:role/target"
KEY_ARN = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1"
QUEUE_ARN = f"arn:aws:sqs:eu-west-1:{OTHER_ACCOUNT}:queue"
LINKED_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/backup.amazonaws.com/AWSServiceRoleForBackup"
LINKED_SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSServiceRoleForBackup/session1"

#: An action with a resource that it makes sense for.
QUESTIONS = [
    *[("s3:GetObject", "arn:aws:s3:::bucket/key")] * 25,
    ("s3:GetObject", "arn:aws:s3:::bucket/alice"),
    ("s3:GetObject", "arn:aws:s3:::bucket/a*b"),
    ("s3:PutObject", "arn:aws:s3:::bucket/key/deep"),
    ("S3:LISTBUCKET", "arn:aws:s3:::bucket"),
    ("s3:GetObject", "arn:aws:s3:::other/key"),
    ("s3:ListAllMyBuckets", "*"),
    ("orders:Read", "*"),
    ("sts:AssumeRole", TARGET_ARN),
    ("iam:PassRole", TARGET_ARN),
    ("kms:Decrypt", KEY_ARN),
    ("sqs:SendMessage", QUEUE_ARN),
    ("iam:DeletePolicy", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    ("iam:GetPolicy", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    ("sts:GetCallerIdentity", "*"),
    ("s3:GetObject", "arn:aws-cn:s3:::bucket/key"),
]

ACTIONS = ["*", "*", "s3:*", "s3:Get*", "S3:getobject", "s3:?etObject", "s3:PutObject", "s3:List*", "kms:*", "sqs:*"]
ACTIONS += ["sts:*", "sts:AssumeRole", "iam:*Policy", "orders:Read", "s3:*Object"]
WIDE_ACTIONS = ["s*:*", "?3:Get*", "*:*Object"]

RESOURCES = ["*", "*", "*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::*", "arn:aws:s3:::bucket"]
RESOURCES += ["arn:aws:s3:::bucket/k?y", "arn:*:s3:::b*t/*", "arn:aws:s3:::bucket/${aws:username}"]
RESOURCES += ["arn:aws:s3:::bucket/${app:text, 'key'}", "arn:aws:s3:::bucket/${app:text}", "arn:aws:s3:::bucket/a${*}b"]
RESOURCES += [
    "arn:aws:sqs:*:${app:account}:*",
    "arn:aws:kms:*:*:key/*",
    "arn:aws:s3:::bucket/${aws:PrincipalTag/team}*",
]
RESOURCES += ["arn:aws:iam::*:role/*", "arn:aws:s3:::bucket/${sidecar:MfaMethod}", "arn:aws:s3:*:*:${app:list}"]

PRINCIPALS: list[Any] = [
    "*",
    "*",
    {"AWS": "*", "Service": SERVICE},
    {"AWS": ACCOUNT},
    {"AWS": ACCOUNT},
    {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    {"AWS": OTHER_ACCOUNT},
    {"AWS": USER_ARN},
    {"AWS": [USER_ARN, ACCOUNT]},
    {"AWS": USER_ID},
    {"AWS": ROLE_ARN},
    {"AWS": ROLE_ID},
    {"AWS": SESSION_ARN},
    {"AWS": [SESSION_ARN, ROLE_ARN, ACCOUNT]},
    {"AWS": [SESSION_ARN, ROLE_ID]},
    {"AWS": FEDERATED_ARN},
    {"AWS": [FEDERATED_ARN, USER_ARN, ACCOUNT]},
    {"Service": SERVICE},
    {"Service": "lambda.amazonaws.com", "AWS": USER_ARN},
    {"Federated": "accounts.google.com"},
]

TEXTS = ["a", "A", "ab", "key", "b*", "a/b", "alice", "", "\u20ac", "a\nb", "true", "5"]
NUMBERS = ["5", "5.0", "-1", "10", "9.999999999", "abc", "", "1e3", "005", "1000000000000000000"]
DATES = ["2026-01-15T12:00:00Z", "2026-01-15", "2026", "1768478400", "2027-01-01T00:00:00+01:00", "soon", ""]
ADDRESSES = ["10.0.0.1", "11.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "10.0.0.1/32", "", "2001:DB8:0::2"]
ARNS = ["arn:aws:s3:::bucket", "arn:aws:sns:eu-west-1:111122223333:a:b", "arn:aws:s3:::x", "not an arn", "", USER_ARN]
BYTES = ["QUJD", "QQ==", "QUJ", "", "qujd"]
TRUTHS = ["true", "false", "TRUE", "yes", ""]

#: Keys that a request may carry, with the values that they take.
CONTEXT: dict[str, list[str]] = {
    "app:text": TEXTS,
    "app:number": NUMBERS,
    "app:date": DATES,
    "app:address": ADDRESSES,
    "app:arn": ARNS,
    "app:bytes": BYTES,
    "app:truth": TRUTHS,
    "app:list": TEXTS,
    "app:account": [ACCOUNT, OTHER_ACCOUNT, f"{ACCOUNT}:x", ""],
}

_TEXT_KEYS = [
    *["app:text"] * 5,
    "app:list",
    "app:list",
    "APP:Text",
    "aws:username",
    "aws:PrincipalTag/Team",
    "aws:userid",
    "aws:SourceIdentity",
    "sidecar:MfaDeviceSerial",
]
_TEXT_KEYS += [
    "aws:PrincipalType",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalOrgID",
    "sidecar:MfaMethod",
    "aws:ResourceOrgID",
]
_TEXT_KEYS += ["aws:PrincipalAccount", "aws:ResourceAccount", "app:nothing", "aws:PrincipalServiceNamesList"]
_TEXT_VALUES = ["a", "A", "ab", "a*", "?", "*", "key", "b${*}", "${aws:username}", "${app:text}", "${app:nothing, 'a'}"]
_TEXT_VALUES += [
    "${app:nothing}",
    "${app:list}",
    "o-example*",
    "o-example",
    "blue",
    "User",
    "*${app:text}*",
    "",
    "webauthn",
]
_TEXT_VALUES += [ACCOUNT, "\xe9", "AIDA*", "totp", "${aws:PrincipalTag/team}"]
_TRUTH_KEYS = [
    "app:truth",
    "app:truth",
    "aws:MultiFactorAuthPresent",
    "aws:MultiFactorAuthPresent",
    "aws:ViaAWSService",
]
_TRUTH_KEYS += ["sidecar:MfaUserVerified", "aws:PrincipalIsAWSService"]
_NUMBER_KEYS = ["app:number", "app:number", "aws:MultiFactorAuthAge", "aws:MultiFactorAuthAge", "aws:EpochTime"]
_NUMBER_VALUES = ["5", "10", "-1", "0", "300", "3600", "5.5", "1768478400"]
_DATE_KEYS = ["app:date", "aws:CurrentTime", "aws:EpochTime", "aws:TokenIssueTime"]
_DATE_VALUES = ["2026-01-15T12:00:00Z", "2026-01-15T11:59:59.5Z", "2026", "1768478400", "2027-01-01T00:00:00+01:00"]
_ARN_KEYS = ["app:arn", "app:arn", "aws:PrincipalArn", "app:text"]
_ARN_VALUES = ["*", "arn:aws:s3:::*", "arn:aws:*:*:*:a*", "${aws:PrincipalArn}", "arn:aws:iam::*:user/*", "${app:arn}"]
_ARN_VALUES += ["arn:aws:iam::${app:account}:*", "arn:aws:s3:::${app:text}"]
_NETWORKS = ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::ffff:10.0.0.0/104", "0.0.0.0/0", "::/0"]

MFA_CONDITIONS: list[Json] = [
    {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    {"Bool": {"aws:MultiFactorAuthPresent": "true"}, "NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}},
    {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
    {"NumericLessThanEquals": {"aws:MultiFactorAuthAge": "300"}},
    {"NumericLessThan": {"aws:MultiFactorAuthAge": ["10.5", "0"]}},
    {"NumericGreaterThanIfExists": {"aws:MultiFactorAuthAge": "900"}},
    {"NumericNotEquals": {"aws:MultiFactorAuthAge": ["300", "4294967295"]}},
    {"StringEquals": {"sidecar:MfaMethod": ["webauthn", "u2f"]}},
    {"Bool": {"sidecar:MfaUserVerified": "true"}, "NumericLessThan": {"aws:MultiFactorAuthAge": "7200"}},
    {"StringNotEquals": {"sidecar:MfaMethod": "recovery"}},
    {"Null": {"aws:MultiFactorAuthAge": "false"}},
    {"StringLike": {"sidecar:MfaDeviceSerial": "*:u2f/user/${aws:username}/*"}},
    {"Null": {"sidecar:MfaDeviceSerial": "true"}, "Bool": {"aws:MultiFactorAuthPresent": "true"}},
    {"DateGreaterThan": {"aws:TokenIssueTime": "2026-01-15T11:00:00Z"}},
    {"DateLessThanIfExists": {"aws:TokenIssueTime": "2026-01-15T12:00:00Z"}},
]

_STRING_OPERATORS = ["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"]
_STRING_OPERATORS += ["StringLike", "StringNotLike", "StringLike", "StringEquals"]
_ORDERS = ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals", "LessThan"]
_ARN_OPERATORS = ["ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike"]


def pick(rng: random.Random, values: Sequence[T]) -> T:
    """Draw one of *values*."""
    return rng.choice(values)


def chance(rng: random.Random, percent: int) -> bool:
    """Draw true in *percent* of a hundred."""
    return rng.randrange(100) < percent


def some(rng: random.Random, values: Sequence[T]) -> T | list[T]:
    """Draw one value, or a list of some."""
    if chance(rng, 60):
        return pick(rng, values)
    return [pick(rng, values) for _ in range(rng.randint(1, 3))]


def draw_condition(rng: random.Random) -> tuple[str, str, Any]:
    """Draw an operator, a key and its values."""
    family = rng.randint(0, 11)
    keys: Sequence[str]
    values: Sequence[str]
    if family <= 4:
        operator, keys, values = pick(rng, _STRING_OPERATORS), _TEXT_KEYS, _TEXT_VALUES
    elif family <= 6:
        operator, keys, values = "Bool", _TRUTH_KEYS, ["true", "true", "false", "False", "${app:truth}"]
    elif family == 7:
        operator, keys, values = "Numeric" + pick(rng, _ORDERS), _NUMBER_KEYS, _NUMBER_VALUES
    elif family == 8:
        operator, keys, values = "Date" + pick(rng, _ORDERS), _DATE_KEYS, _DATE_VALUES
    elif family == 9:
        operator, keys, values = pick(rng, _ARN_OPERATORS), _ARN_KEYS, _ARN_VALUES
    elif family == 10:
        operator, keys, values = "Null", [*_TRUTH_KEYS, *_TEXT_KEYS], ["true", "false"]
    elif chance(rng, 70):
        operator, keys, values = pick(rng, ["IpAddress", "NotIpAddress"]), ["app:address"], _NETWORKS
    else:
        operator, keys, values = "BinaryEquals", ["app:bytes"], ["QUJD", "QQ=="]
    if operator != "Null":
        if chance(rng, 25):
            operator += "IfExists"
        qualifier = rng.randint(0, 5)
        operator = {4: "ForAllValues:", 5: "ForAnyValue:"}.get(qualifier, "") + operator
    return operator, pick(rng, keys), some(rng, values)


def draw_conditions(rng: random.Random) -> Json:
    """Draw a condition block of one or a few lines; one in four is about MFA."""
    if chance(rng, 25):
        return pick(rng, MFA_CONDITIONS)
    block: dict[str, dict[str, Any]] = {}
    for _ in range(pick(rng, [1, 1, 1, 2, 3])):
        operator, key, values = draw_condition(rng)
        line = block.setdefault(operator, {})
        if key.lower() not in {known.lower() for known in line}:
            line[key] = values
    return block


def draw_statement(rng: random.Random, *, kind: str, effect: str | None = None) -> Json:
    """Draw a statement for one kind of policy: identity, service_control, resource_control, resource or trust."""
    statement: Json = {"Effect": effect or ("Deny" if chance(rng, 15) else "Allow")}
    if kind == "resource_control":
        statement["Effect"] = "Deny"
    if chance(rng, 20):
        statement["Sid"] = f"S{rng.randint(0, 99999)}"
    if kind == "trust":
        statement["Action"] = some(rng, ["sts:*", "sts:AssumeRole", "sts:TagSession"])
    else:
        actions = [*ACTIONS, *WIDE_ACTIONS] if kind == "service_control" else ACTIONS
        if kind == "resource_control":
            # A control policy names its services.
            actions = [action for action in ACTIONS if action != "*"]
        negated = kind != "resource_control" and chance(rng, 12)
        statement["NotAction" if negated else "Action"] = some(rng, actions)
        if kind == "resource" and chance(rng, 15):
            statement["Resource"] = None
        else:
            statement["NotResource" if chance(rng, 12) else "Resource"] = some(rng, RESOURCES)
    if kind in ("resource", "trust"):
        deny = statement["Effect"] == "Deny"
        negated = kind == "resource" and deny and chance(rng, 40)
        statement["NotPrincipal" if negated else "Principal"] = pick(rng, PRINCIPALS)
    if chance(rng, 40):
        statement["Condition"] = draw_conditions(rng)
    return statement


def draw_document(rng: random.Random, kind: str) -> Json:
    """Draw a whole document; one in ten is of the older version."""
    document: Json = {"Statement": [draw_statement(rng, kind=kind) for _ in range(rng.randint(1, 3))]}
    sids = [statement.get("Sid") for statement in document["Statement"]]
    for statement, sid in zip(document["Statement"], sids, strict=True):
        if sid is not None and sids.count(sid) > 1:
            del statement["Sid"]
    if chance(rng, 10):
        document["Version"] = pick(rng, ["2008-10-17", None])
        # Plain text there, and so neither true nor false, nor an ARN.
        text = json.dumps(document).replace('"${app:truth}"', '"true"')
        document = json.loads(text.replace('"${app:arn}"', '"*"').replace('"${aws:PrincipalArn}"', '"*"'))
    return document


def draw_policies(rng: random.Random, kind: str) -> Json:
    """Draw a few policies."""
    if chance(rng, 35):
        return {"policies": [{"Statement": [{"Effect": "Allow"}]}, draw_document(rng, kind)]}
    return {"policies": [draw_document(rng, kind) for _ in range(rng.randint(1, 2))]}


def draw_levels(rng: random.Random, kind: str) -> list[Any]:
    """Draw what stands at each level of the organization."""
    levels: list[Any] = []
    for _ in range(rng.randint(2, 4)):
        which = rng.randint(0, 9)
        if which <= 4:
            levels.append(None if kind == "service_control" else [])
        elif which == 5:
            levels.append([])
        elif which <= 7 and kind == "service_control":
            levels.append({"Statement": [{"Effect": "Allow"}, draw_statement(rng, kind=kind)]})
        else:
            levels.append(draw_document(rng, kind))
    return levels


def draw_given(rng: random.Random) -> Json:
    """Draw the ``given`` of a case."""
    principal = pick(rng, ["user", "user", "user", "role", "role", "role", "federated", "root", "service", "anonymous"])
    given: Json = {"principal": principal}
    if chance(rng, 80):
        given["identity"] = draw_policies(rng, "identity")
    if chance(rng, 30):
        given["boundary"] = draw_document(rng, "identity")
    if chance(rng, 70 if principal == "federated" else 20):
        given["session"] = draw_policies(rng, "identity") if chance(rng, 90) else {"policies": []}
    if chance(rng, 12):
        given["owner"] = OTHER_ACCOUNT
    if chance(rng, 65):
        given["resource_policy"] = draw_document(rng, "resource")
        given["resource_arn"] = pick(rng, ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket", "arn:aws:s3:::b*", KEY_ARN])
        if given["resource_arn"] == KEY_ARN:
            given["owner"] = ACCOUNT
    if chance(rng, 25):
        given["resource_policies"] = [
            {"arn": arn, "account": account, "policy": draw_document(rng, "resource")}
            for arn, account in [("arn:aws:s3:::bucket/k*", ACCOUNT), ("arn:aws:s3:::bucket/key", OTHER_ACCOUNT)]
            if chance(rng, 60)
        ]
    if chance(rng, 30):
        given["trust"] = draw_document(rng, "trust")
    if chance(rng, 30):
        given["scps"] = draw_levels(rng, "service_control")
    if chance(rng, 25):
        given["rcps"] = draw_levels(rng, "resource_control")
    if chance(rng, 20):
        given["organization"] = True
    if chance(rng, 15):
        given["management"] = pick(rng, ["caller", "owner"])
    if chance(rng, 30):
        given["tags"] = {"Team": pick(rng, ["blue", "key", "", "*"])}
    if chance(rng, 8):
        given["other_accounts"] = [OTHER_ACCOUNT]
    if chance(rng, 15):
        given["root_is_allowed"] = False
    if principal == "role" and chance(rng, 10):
        given["role_arn"] = LINKED_ROLE
    return given


def draw_request(rng: random.Random, given: Json) -> Json:
    """Draw the ``request`` of a case for a ``given``."""
    action, resource = pick(rng, QUESTIONS)
    request: Json = {"action": action, "resource": resource}
    if given.get("role_arn") == LINKED_ROLE:
        request["principal"] = LINKED_SESSION
    elif chance(rng, 2):
        request["principal"] = f"arn:aws:iam::{ACCOUNT}:user/nobody"
    if "principal" not in request and chance(rng, 4) and ":aws:policy/" not in resource:
        request["resource_account"] = pick(rng, [ACCOUNT, OTHER_ACCOUNT])
    context: Json = {}
    for key, values in CONTEXT.items():
        if chance(rng, 15 if key == "app:list" else 45):
            listed = chance(rng, 85 if key == "app:list" else 12)
            context[key] = [pick(rng, values) for _ in range(rng.randint(0, 3))] if listed else pick(rng, values)
    if context:
        request["context"] = context
    if chance(rng, 15):
        request["override"] = draw_override(rng)
    if given["principal"] in ("user", "role") and chance(rng, 40):
        request["session"] = draw_session(rng, given)
    return request


def draw_session(rng: random.Random, given: Json) -> Json:
    """Draw the session of a user or a role, sometimes one that does not count."""
    session: Json = {}
    if given["principal"] == "user":
        session["kind"] = pick(rng, ["user", "user", "sign_in"])
    elif chance(rng, 60):
        session["policies"] = draw_policies(rng, "identity")
    if chance(rng, 15):
        session["issued"] = pick(rng, [-3600, 0, 29, 30, 31])
    if chance(rng, 8):
        session["expires"] = pick(rng, [-1, 0, 1])
    if chance(rng, 4):
        session[pick(rng, ["principal_id", "person_id"])] = "AIDAOTHEREXAMPLE00001"
    if chance(rng, 15):
        session["person"] = pick(
            rng, [None, f"arn:aws:iam::{OTHER_ACCOUNT}:user/eve", f"arn:aws:iam::{ACCOUNT}:user/gone"]
        )
    if chance(rng, 40):
        session["mfa"] = draw_proof(rng)
    if chance(rng, 30):
        session["bound"] = draw_proof(rng)
        if chance(rng, 30):
            session["bound"]["action"] = pick(rng, ["s3:putobject", "iam:deletepolicy", "sts:assumerole"])
        if chance(rng, 20):
            session["bound"]["resource"] = pick(rng, ["*", "arn:aws:s3:::bucket/alice"])
    if chance(rng, 30):
        session["tags"] = {"tEAM": pick(rng, ["blue", "a", "", "*"])}
    if chance(rng, 20):
        session["source_identity"] = pick(rng, ["alice", "a*"])
    return session


def draw_proof(rng: random.Random) -> Json:
    """Draw a proof of a second factor."""
    return {
        "age": pick(rng, [0, 1, 5, 10, 60, 299, 300, 301, 3599, 3600, -20, -31]),
        "method": pick(rng, ["totp", "webauthn", "u2f", "recovery"]),
        "user_verified": chance(rng, 30),
    }


def draw_override(rng: random.Random) -> Json:
    """Draw values for reserved keys."""
    choices: dict[str, list[Any]] = {
        "aws:MultiFactorAuthPresent": ["true", "false", {"values": []}],
        "aws:MultiFactorAuthAge": ["0", "299", "4000"],
        "aws:username": ["alice", "key", ["a", "b"]],
        "aws:CurrentTime": ["2027-06-01T00:00:00Z", "never"],
        "aws:TokenIssueTime": ["2026-01-15T11:00:00Z"],
        "aws:PrincipalTag/team": ["blue", ""],
        "app:text": ["a", ["a", "b"]],
        "sidecar:MfaMethod": ["totp"],
    }
    keys = [pick(rng, sorted(choices)) for _ in range(rng.randint(1, 2))]
    return {key: pick(rng, choices[key]) for key in keys}


def draw_mfa_question(rng: random.Random) -> tuple[Json, Json]:
    """Draw a question whose answer hangs on MFA: every layer would allow, some of them with MFA only."""
    given: Json = {"principal": pick(rng, ["user", "role"])}

    def gated(**more: Any) -> Json:
        effect = "Deny" if chance(rng, 40) else "Allow"
        condition = pick(rng, MFA_CONDITIONS) if chance(rng, 80) else draw_conditions(rng)
        gate = {"Effect": effect, "Condition": condition, **more}
        return {"Statement": [{"Effect": "Allow", **more}, gate] if effect == "Deny" or chance(rng, 10) else [gate]}

    given["identity"] = {"policies": [gated() for _ in range(rng.randint(1, 3))]}
    for layer in ("boundary", "session"):
        if chance(rng, 25):
            given[layer] = gated()
    if chance(rng, 30):
        given["resource_policy"] = gated(Principal={"AWS": ACCOUNT})
        given["owner"] = pick(rng, [ACCOUNT, OTHER_ACCOUNT])
    if chance(rng, 20):
        given["scps"] = [gated(), None]
    request: Json = {}
    if chance(rng, 15):
        request["override"] = draw_override(rng)
    if chance(rng, 50):
        request["session"] = draw_session(rng, given)
        if "policies" in request["session"]:
            request["session"]["policies"] = gated()
        request.update(pick(rng, [{}, {}, {"action": "iam:GetUser", "resource": USER_ARN}]))
    return given, request


def question_of(seed: int) -> tuple[Json, Json]:
    """Make the ``given`` and the ``request`` that belong to a number."""
    rng = random.Random(seed)
    if chance(rng, 20):
        return draw_mfa_question(rng)
    given = draw_given(rng)
    return given, draw_request(rng, given)


def questions() -> st.SearchStrategy[tuple[Json, Json]]:
    """Questions to evaluators: a ``given`` and a ``request`` of a case."""
    return st.integers(0, 2**64 - 1).map(question_of)


def mfa_questions() -> st.SearchStrategy[tuple[Json, Json]]:
    """Questions whose answer hangs on MFA."""
    return st.integers(0, 2**64 - 1).map(lambda seed: draw_mfa_question(random.Random(seed)))
