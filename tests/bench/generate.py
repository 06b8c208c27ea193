# SPDX-License-Identifier: Apache-2.0
"""
The source of the benchmarks: a company of 10,000 principals, made from a seed.

Every principal has ten of the AWS managed policies that the package ``moto`` ships, and inline
policies with conditions; users are in groups, one in five principals has a permissions boundary,
the organization has three levels of units and 2,000 resources have policies. The files are those
of a real snapshot source, in the shape in which AWS prints an account, within AWS's quotas. The
same seed always gives the same bytes.

Run it with ``python -m tests.bench.generate DIRECTORY``.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from moto.iam.aws_managed_policies import aws_managed_policies_data

Json = dict[str, Any]

VERSION = "2012-10-17"
ORGANIZATION = "o-bench00001"
MANAGEMENT_ACCOUNT = "100000000009"
ACCOUNTS = ("100000000001", "100000000002", "100000000003", "100000000004")
REGIONS = ("eu-central-1", "eu-west-1", "us-east-1", "us-west-2")
TEAMS = ("orders", "payments", "documents", "search", "platform", "data", "mobile", "risk", "finance", "support")
PROJECTS = ("apollo", "borealis", "cygnus", "draco", "eridanus", "fornax", "gemini", "hydra", "indus", "lyra")
DEPARTMENTS = ("engineering", "operations", "finance", "research", "contractors")
SERVICES = ("ecs-tasks", "lambda", "ec2", "glue", "states", "codebuild", "sagemaker", "events")
OFFICE_NETWORKS = ("203.0.113.0/24", "198.51.100.0/24", "10.0.0.0/8", "2001:db8:acce::/48")
MFA_AGES = ("900", "1800", "3600", "7200", "14400", "28800", "43200")

#: Characters of inline policies that AWS allows in total, without white space.
INLINE_QUOTA = {"user": 2048, "group": 5120, "role": 10240}
MANAGED_QUOTA = 6144

#: Services that the inline policies are about: a resource of theirs, and actions on it.
KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "s3",
        "arn:aws:s3:::{team}-{n}/{project}/*",
        ("GetObject", "PutObject", "DeleteObject", "GetObjectVersion", "GetObjectTagging"),
    ),
    ("s3", "arn:aws:s3:::{team}-{project}-{n}", ("ListBucket", "GetBucketPolicy", "PutBucketPolicy", "DeleteBucket")),
    (
        "dynamodb",
        "arn:aws:dynamodb:{region}:{account}:table/{team}-{n}",
        ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "DeleteTable"),
    ),
    (
        "sqs",
        "arn:aws:sqs:{region}:{account}:{team}-{project}-{n}",
        ("SendMessage", "ReceiveMessage", "DeleteMessage", "PurgeQueue"),
    ),
    ("sns", "arn:aws:sns:{region}:{account}:{team}-{n}", ("Publish", "Subscribe", "DeleteTopic")),
    (
        "kms",
        "arn:aws:kms:{region}:{account}:key/{uuid}",
        ("Decrypt", "Encrypt", "GenerateDataKey", "ScheduleKeyDeletion"),
    ),
    (
        "lambda",
        "arn:aws:lambda:{region}:{account}:function:{team}-{n}*",
        ("InvokeFunction", "UpdateFunctionCode", "DeleteFunction", "GetFunction"),
    ),
    (
        "secretsmanager",
        "arn:aws:secretsmanager:{region}:{account}:secret:{team}/{project}-{n}-*",
        ("GetSecretValue", "PutSecretValue", "DeleteSecret"),
    ),
    (
        "ssm",
        "arn:aws:ssm:{region}:{account}:parameter/{team}/{n}/*",
        ("GetParameter", "PutParameter", "DeleteParameter"),
    ),
    (
        "ec2",
        "arn:aws:ec2:{region}:{account}:instance/i-{hex}",
        ("StartInstances", "StopInstances", "TerminateInstances", "RebootInstances"),
    ),
    (
        "rds",
        "arn:aws:rds:{region}:{account}:db:{team}-{n}",
        ("StartDBInstance", "StopDBInstance", "DeleteDBInstance", "ModifyDBInstance"),
    ),
    (
        "logs",
        "arn:aws:logs:{region}:{account}:log-group:/{team}/{n}:*",
        ("GetLogEvents", "PutLogEvents", "DeleteLogGroup"),
    ),
    (
        "ecr",
        "arn:aws:ecr:{region}:{account}:repository/{team}/{project}-{n}",
        ("GetDownloadUrlForLayer", "PutImage", "BatchDeleteImage"),
    ),
    (
        "states",
        "arn:aws:states:{region}:{account}:stateMachine:{team}-{n}",
        ("StartExecution", "StopExecution", "DeleteStateMachine"),
    ),
    ("payments", "arn:aws:payments:{region}:{account}:refund/{project}/{n}*", ("Refund", "Approve", "GetPayment")),
    ("documents", "arn:aws:documents:{region}:{account}:folder/{team}/{n}/*", ("Get", "Put", "Delete", "Share")),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything there is. The default is the size that the numbers are stated for."""

    users: int = 7000
    roles: int = 3000
    groups: int = 300
    boundaries: int = 60
    buckets: int = 1200
    keys: int = 500
    queues: int = 300
    attached: int = 10

    @classmethod
    def of(cls, principals: int) -> Scale:
        """A company of *principals*, everything else in proportion."""

        def part(count: int) -> int:
            return max(4, count * principals // 10_000)

        return cls(
            users=part(7000),
            roles=principals - part(7000),
            groups=max(12, part(300)),
            boundaries=part(60),
            buckets=part(1200),
            keys=part(500),
            queues=part(300),
        )


@dataclass(slots=True)
class Person:
    """
    A user or role while it is being made, and what the request generator has to know of it.

    Attributes:
        arn: The ARN in the dump.
        caller: The ARN in a request: the user's own, or that of a session of the role.
        statements: Statements of its inline policies and groups.
        managed: Names of its AWS managed policies.
        boundary: ARN of its permissions boundary, or an empty string.
        resource_statements: Statements of resource policies that name it, with the resource.
    """

    is_user: bool
    account: str
    name: str
    path: str
    arn: str
    caller: str
    tags: dict[str, str]
    managed: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    boundary: str = ""
    statements: list[Json] = field(default_factory=list)
    resource_statements: list[tuple[str, Json]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Estate:
    """
    The whole company.

    Attributes:
        files: The snapshot source, name to bytes.
        people: Users, then roles.
        organization_denies: Statements with ``Deny`` of the service control policies.
        counts: What there is of each kind.
    """

    files: dict[str, bytes]
    people: tuple[Person, ...]
    organization_denies: tuple[Json, ...]
    counts: dict[str, int]


@lru_cache(maxsize=1)
def managed_policies() -> dict[str, Json]:
    """The AWS managed policies that ``moto`` ships, by name."""
    policies: dict[str, Json] = json.loads(aws_managed_policies_data)
    return policies


def managed_arn(name: str) -> str:
    """The ARN of the AWS managed policy *name*."""
    return f"arn:aws:iam::aws:policy{managed_policies()[name]['Path']}{name}"


def as_list(value: Any) -> list[Any]:
    """A list stays itself, nothing is empty, anything else stands alone."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


@lru_cache(maxsize=1)
def literal_actions() -> dict[str, tuple[str, ...]]:
    """Every action that a managed policy names without a wildcard, by service in lower case."""
    found: dict[str, set[str]] = {}
    for policy in managed_policies().values():
        for statement in as_list(policy["Document"]["Statement"]):
            for action in as_list(statement.get("Action")):
                if "*" not in action and "?" not in action and ":" in action:
                    found.setdefault(action.split(":")[0].lower(), set()).add(action)
    return {service: tuple(sorted(actions)) for service, actions in sorted(found.items())}


@lru_cache(maxsize=1)
def _open_actions() -> dict[str, tuple[str, ...]]:
    """Of each managed policy, the literal actions that it allows everywhere and always."""
    found = {}
    for name, policy in managed_policies().items():
        actions: dict[str, None] = {}
        for statement in as_list(policy["Document"]["Statement"]):
            if (
                statement["Effect"] == "Allow"
                and "Condition" not in statement
                and "*" in as_list(statement.get("Resource"))
            ):
                actions.update(
                    dict.fromkeys(a for a in as_list(statement.get("Action")) if "*" not in a and "?" not in a)
                )
        found[name] = tuple(actions)
    return found


@lru_cache(maxsize=1)
def _ordinary_policies() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the managed policies that people have, and of those that deny all but a few actions."""
    ordinary: list[str] = []
    strict: list[str] = []
    for name, policy in sorted(managed_policies().items()):
        denies = [s for s in as_list(policy["Document"]["Statement"]) if s["Effect"] == "Deny"]
        deny_all = any("NotAction" in s or "*" in as_list(s.get("Action")) for s in denies)
        (strict if deny_all else ordinary).append(name)
    return tuple(ordinary), tuple(strict)


def policy_size(document: Json) -> int:
    """Characters of *document* as AWS counts them: without white space."""
    return len(re.sub(r"\s", "", json.dumps(document, separators=(",", ":"), ensure_ascii=False)))


class _Maker:
    """Makes one company. Confined to one thread; the order of its calls fixes the result."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self.random = random.Random(seed)
        self.scale = scale
        self.serial = 0
        self.distinct: set[str] = set()
        self.statements = 0

    def identifier(self, prefix: str) -> str:
        """A unique id of 21 characters, as IAM gives them."""
        return prefix + base64.b32encode(self.random.randbytes(11)).decode()[:17]

    def date(self) -> str:
        moment = self.random.randrange(1_600_000_000, 1_760_000_000)
        return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(moment))

    def uuid(self) -> str:
        text = self.random.randbytes(16).hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def number(self) -> str:
        """A number that was not used before, so that no two statements are alike."""
        self.serial += 1
        return f"{self.serial:05d}"

    def place(self) -> str:
        """A number that many names share: a company has fewer resources than statements about them."""
        return f"{self.random.randrange(12):03d}"

    def fill(self, template: str, account: str) -> str:
        pick = self.random.choice
        return template.format(
            account=account,
            region=pick(REGIONS[:2]),
            team=pick(TEAMS),
            project=pick(PROJECTS),
            n=self.place(),
            uuid=f"{self.random.randrange(250):08x}-5b7e-4c69-9d0e-{account}" if "{uuid}" in template else "",
            hex=f"{self.random.randrange(250):05x}{account}" if "{hex}" in template else "",
        )

    def statement(
        self,
        effect: str,
        actions: Sequence[str],
        resource: str | list[str],
        condition: Json | None = None,
        sid: str = "",
    ) -> Json:
        result: Json = {}
        if sid:
            result["Sid"] = sid
        result["Effect"] = effect
        result["Action"] = actions[0] if len(actions) == 1 else list(actions)
        result["Resource"] = resource
        if condition:
            result["Condition"] = condition
        return result

    def subject(self, account: str) -> tuple[list[str], str]:
        """Some actions of one service, and a resource they apply to."""
        service, template, names = self.random.choice(KINDS)
        chosen = self.random.sample(names, self.random.randint(1, min(3, len(names))))
        return [f"{service}:{name}" for name in chosen], self.fill(template, account)

    def allow_with_mfa(self, account: str) -> Json:
        """An Allow that waits for MFA: present, or present and recent, or one of our own facts."""
        actions, resource = self.subject(account)
        present: Json = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
        kind = self.random.random()
        if kind < 0.45:
            present["NumericLessThan"] = {"aws:MultiFactorAuthAge": self.random.choice(MFA_AGES)}
        elif kind < 0.6:
            present = {"NumericLessThanEquals": {"aws:MultiFactorAuthAge": self.random.choice(MFA_AGES)}}
        elif kind < 0.7:
            present["StringEquals"] = {"sidecar:MfaMethod": ["webauthn", "u2f"]}
        elif kind < 0.75:
            present["Bool"]["sidecar:MfaUserVerified"] = "true"
        return self.statement("Allow", actions, resource, present, sid="WithMfa")

    def deny_without_mfa(self, actions: Sequence[str], account: str) -> Json:
        """A Deny of *actions*, which another policy allows, unless MFA was proved."""
        condition: Json = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
        kind = self.random.random()
        if kind < 0.2:
            condition = {"NumericGreaterThanIfExists": {"aws:MultiFactorAuthAge": self.random.choice(MFA_AGES)}}
        elif kind < 0.3:
            condition = {"Null": {"aws:MultiFactorAuthAge": "true"}}
        elif kind < 0.4:
            condition = {"StringNotLikeIfExists": {"aws:PrincipalTag/exempt": "mfa-*"}, **condition}
        result = self.statement("Deny", actions, "*", condition, sid="DenyWithoutMfa")
        if self.random.random() < 0.2:
            result["NotResource"] = [
                f"arn:aws:s3:::public-{self.place()}/*",
                f"arn:aws:iam::{account}:user/${{aws:username}}",
            ]
            del result["Resource"]
        return result

    def deny(self, account: str) -> Json:
        """A Deny with a condition of any family, or with none."""
        actions, resource = self.subject(account)
        pick = self.random.choice
        n = self.number()
        conditions: tuple[Callable[[], Json | None], ...] = (
            lambda: {
                "NotIpAddress": {"aws:SourceIp": [*self.random.sample(OFFICE_NETWORKS, 2), f"192.0.2.{int(n) % 256}"]}
            },
            lambda: {"Bool": {"aws:SecureTransport": "false"}},
            lambda: {"StringNotEqualsIfExists": {"aws:RequestTag/project": self.random.sample(PROJECTS, 3)}},
            lambda: {"ForAnyValue:StringLike": {"aws:TagKeys": ["internal-*", f"{pick(TEAMS)}-*"]}},
            lambda: {"NumericGreaterThan": {"s3:max-keys": str(self.random.randrange(10, 1000))}},
            lambda: {"DateGreaterThan": {"aws:CurrentTime": f"2021-0{self.random.randint(1, 9)}-01T00:00:00Z"}},
            lambda: {"DateLessThan": {"aws:TokenIssueTime": "2024-05-01T09:30:00Z"}},
            lambda: {"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:*:{account}:function:{pick(PROJECTS)}-*"}},
            lambda: {"StringLike": {"aws:ResourceTag/classification": ["secret*", f"internal-{n}"]}},
            lambda: {"Null": {"aws:RequestTag/cost-center": "true"}},
            lambda: {"StringEqualsIgnoreCase": {"aws:ResourceTag/stage": ["Production", "prod"]}},
            lambda: {"ForAllValues:StringNotEquals": {"aws:TagKeys": [f"owner-{n}", "project", "team"]}},
            lambda: {"StringNotEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}},
            lambda: {
                "NumericLessThan": {"rds:BackupRetentionPeriod": "7"},
                "StringEquals": {"aws:ResourceTag/stage": "prod"},
            },
            lambda: None,
        )
        condition = pick(conditions)()
        result = self.statement("Deny", actions, resource, condition)
        kind = self.random.random()
        if kind < 0.08:
            result["NotResource"] = [result.pop("Resource"), f"arn:aws:s3:::{pick(TEAMS)}-home/${{aws:username}}/*"]
        elif kind < 0.12:
            result["Resource"] = "*"
            result["Action"] = [*as_list(result["Action"]), f"{pick(('organizations', 'account', 'billing'))}:*"]
        return result

    def allow(self, account: str) -> Json:
        """An Allow with a condition of any family, or with none."""
        actions, resource = self.subject(account)
        pick = self.random.choice
        n = self.number()
        conditions: tuple[Callable[[], Json | None], ...] = (
            lambda: None,
            lambda: {"IpAddress": {"aws:SourceIp": self.random.sample(OFFICE_NETWORKS, 2)}},
            lambda: {
                "StringEquals": {"aws:RequestedRegion": list(REGIONS[:2])},
                "Bool": {"aws:SecureTransport": "true"},
            },
            lambda: {"StringLike": {"s3:prefix": [f"{pick(PROJECTS)}/*", "${aws:PrincipalTag/team}/*"]}},
            lambda: {"NumericLessThanEquals": {"payments:Amount": str(self.random.randrange(100, 10000))}},
            lambda: {"DateLessThan": {"aws:CurrentTime": f"203{self.random.randint(2, 9)}-06-30T23:59:59Z"}},
            lambda: {"ArnEquals": {"aws:SourceArn": f"arn:aws:sns:{pick(REGIONS)}:{account}:{pick(TEAMS)}-{n}"}},
            lambda: {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}},
            lambda: {"StringEquals": {"kms:ViaService": f"s3.{pick(REGIONS)}.amazonaws.com"}},
            lambda: {
                "ForAllValues:StringEquals": {"aws:TagKeys": ["project", "team", "stage"]},
                "Null": {"aws:TagKeys": "false"},
            },
            lambda: {"ForAnyValue:StringEquals": {"documents:Labels": [f"project-{pick(PROJECTS)}", "public"]}},
            lambda: {"StringLike": {"aws:PrincipalTag/department": pick(DEPARTMENTS)[:4] + "*"}},
            lambda: {
                "NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"},
                "StringNotEquals": {"aws:RequestedRegion": "ap-south-1"},
            },
            lambda: {"StringEqualsIgnoreCase": {"aws:RequestTag/stage": ["dev", "test"]}},
            lambda: {
                "NumericGreaterThanEquals": {"sqs:DelaySeconds": "0"},
                "NumericLessThan": {"sqs:DelaySeconds": "900"},
            },
            lambda: {"StringEqualsIfExists": {"aws:ResourceTag/project": self.random.sample(PROJECTS, 2)}},
        )
        result = self.statement("Allow", actions, resource, pick(conditions)())
        kind = self.random.random()
        if kind < 0.1:
            result["Resource"] = [resource, f"arn:aws:documents:*:{account}:home/${{aws:username}}/{n}/*"]
        elif kind < 0.2:
            result["Resource"] = [
                resource,
                resource.rsplit(":", 1)[0] + f":{pick(PROJECTS)}/${{aws:PrincipalTag/team, 'none'}}/*",
            ]
        return result

    def count(self, document: Json) -> Json:
        """Take note of the statements of *document* and hand it back."""
        for statement in as_list(document["Statement"]):
            self.statements += 1
            self.distinct.add(json.dumps(statement, sort_keys=True))
        return document

    def document(self, statements: list[Json], quota: int) -> Json:
        """A document of as many of *statements* as fit into *quota* characters; the rest is dropped from the list."""
        document = {"Version": VERSION, "Statement": statements}
        while policy_size(document) > quota:
            statements.pop()
        for index, statement in enumerate(statements):
            if "Sid" in statement:
                statement["Sid"] = f"{statement['Sid']}{index}"
        return self.count(document)

    def people(self) -> list[Person]:
        """Everybody, with their managed policies; one role in 250 has one that denies all but a few actions."""
        ordinary, strict = _ordinary_policies()
        people = []
        for index in range(self.scale.users + self.scale.roles):
            is_user = index < self.scale.users
            account = ACCOUNTS[index % len(ACCOUNTS)]
            team = self.random.choice(TEAMS)
            tags = {
                "team": team,
                "department": self.random.choice(DEPARTMENTS),
                "project": self.random.choice(PROJECTS),
            }
            path = self.random.choice(("/", f"/{team}/", f"/company/{team}/"))
            if is_user:
                name = f"{team}.user.{index:05d}"
                arn = caller = f"arn:aws:iam::{account}:user{path}{name}"
            else:
                name = f"{team}-role-{index:05d}"
                arn = f"arn:aws:iam::{account}:role{path}{name}"
                caller = f"arn:aws:sts::{account}:assumed-role/{name}/session-{self.random.randrange(10**6):06d}"
            managed = tuple(self.random.sample(ordinary, self.scale.attached))
            number, rest = divmod(index - self.scale.users, 250)
            if not is_user and rest == 0:
                managed = (*managed[1:], strict[number % len(strict)])
            people.append(Person(is_user, account, name, path, arn, caller, tags, managed))
        return people

    def groups(self, account: str, count: int) -> list[Json]:
        result = []
        for index in range(count):
            name = f"group-{account[-1]}-{index:03d}"
            arn = f"arn:aws:iam::{account}:group/{name}"
            first = [self.allow(account) for _ in range(5)] + [self.deny(account), self.allow_with_mfa(account)]
            second = [self.allow(account) for _ in range(3)] + [self.deny(account)]
            documents = [
                self.document(first, INLINE_QUOTA["group"] // 2),
                self.document(second, INLINE_QUOTA["group"] // 2),
            ]
            result.append(
                {
                    "Path": "/",
                    "GroupName": name,
                    "GroupId": self.identifier("AGPA"),
                    "Arn": arn,
                    "CreateDate": self.date(),
                    "GroupPolicyList": [
                        {"PolicyName": part, "PolicyDocument": document}
                        for part, document in zip(("daily-work", "now-and-then"), documents, strict=True)
                    ],
                    "AttachedManagedPolicies": [],
                }
            )
        return result

    def managed_detail(self, arn: str, versions: list[tuple[str, Json, str]]) -> Json:
        """An entry of ``Policies``; the first of *versions* is the default."""
        return {
            "PolicyName": arn.rsplit("/", 1)[1],
            "PolicyId": self.identifier("ANPA"),
            "Arn": arn,
            "Path": arn.split(":policy", 1)[1].rsplit("/", 1)[0] + "/",
            "DefaultVersionId": versions[0][0],
            "AttachmentCount": 0,
            "PermissionsBoundaryUsageCount": 0,
            "IsAttachable": True,
            "CreateDate": versions[-1][2],
            "UpdateDate": versions[0][2],
            "PolicyVersionList": [
                {"Document": document, "VersionId": version, "IsDefaultVersion": index == 0, "CreateDate": date}
                for index, (version, document, date) in enumerate(versions)
            ],
        }

    def boundaries(self, account: str, count: int) -> list[Json]:
        """Boundaries that allow most services, some with conditions, each with an older version."""
        result = []
        services = sorted({*literal_actions(), "payments", "documents"})
        for index in range(count):
            allowed = sorted(self.random.sample(services, len(services) * 4 // 5))
            third = len(allowed) // 3
            statements: list[Json] = [
                {"Sid": "First", "Effect": "Allow", "Action": [f"{s}:*" for s in allowed[:third]], "Resource": "*"},
                {
                    "Sid": "Second",
                    "Effect": "Allow",
                    "Action": [f"{s}:*" for s in allowed[third:-third]],
                    "Resource": "*",
                },
                {
                    "Sid": "InEurope",
                    "Effect": "Allow",
                    "Action": [f"{s}:*" for s in allowed[-third:]],
                    "Resource": "*",
                    "Condition": {"StringEquals": {"aws:RequestedRegion": list(REGIONS[: self.random.randint(2, 4)])}},
                },
                {
                    "Sid": "NoEscape",
                    "Effect": "Deny",
                    "Action": ["iam:DeleteUserPermissionsBoundary", "iam:DeleteRolePermissionsBoundary"],
                    "Resource": f"arn:aws:iam::{account}:*/{index}*",
                },
            ]
            arn = f"arn:aws:iam::{account}:policy/boundaries/boundary-{index:03d}"
            old = {"Version": VERSION, "Statement": statements[:2]}
            document = self.document(statements, MANAGED_QUOTA)
            result.append(
                self.managed_detail(arn, [("v2", document, "2025-04-02T10:00:00+00:00"), ("v1", old, self.date())])
            )
        return result

    def guarded_actions(self, person: Person) -> list[str]:
        """Actions that a managed policy of *person* allows everywhere: worth a guard against missing MFA."""
        for name in self.random.sample(person.managed, len(person.managed)):
            actions = _open_actions()[name]
            if actions:
                return sorted(self.random.sample(actions, min(len(actions), self.random.randint(2, 4))))
        return ["iam:CreateAccessKey", "iam:DeactivateMFADevice"]

    def inline(self, person: Person) -> list[Json]:
        """The inline policies of *person*, with the statements taken down for the request generator."""
        account = person.account
        guard = [self.allow_with_mfa(account), self.deny_without_mfa(self.guarded_actions(person), account)]
        work = [self.deny(account)]
        extra = int(self.random.random() < 0.1) if person.is_user else self.random.randint(0, 2)
        work[:0] = [self.allow(account) for _ in range(extra)]
        quota = INLINE_QUOTA["user" if person.is_user else "role"]
        documents = [self.document(guard, quota // 2), self.document(work, quota // 2)]
        for document in documents:
            person.statements += document["Statement"]
        return [
            {"PolicyName": name, "PolicyDocument": document}
            for name, document in zip(("guard", "work"), documents, strict=True)
        ]

    def principal_detail(self, person: Person) -> Json:
        kind = "User" if person.is_user else "Role"
        detail: Json = {
            "Path": person.path,
            f"{kind}Name": person.name,
            f"{kind}Id": self.identifier("AIDA" if person.is_user else "AROA"),
            "Arn": person.arn,
            "CreateDate": self.date(),
        }
        if person.is_user:
            detail["UserPolicyList"] = self.inline(person)
            detail["GroupList"] = list(person.groups)
        else:
            detail["AssumeRolePolicyDocument"] = self.count(self.trust(person))
            detail["InstanceProfileList"] = []
            detail["RolePolicyList"] = self.inline(person)
        detail["AttachedManagedPolicies"] = [
            {"PolicyName": name, "PolicyArn": managed_arn(name)} for name in person.managed
        ]
        if person.boundary:
            detail["PermissionsBoundary"] = {
                "PermissionsBoundaryType": "Policy",
                "PermissionsBoundaryArn": person.boundary,
            }
        detail["Tags"] = [{"Key": key, "Value": value} for key, value in person.tags.items()]
        if not person.is_user:
            detail["RoleLastUsed"] = {}
        return detail

    def trust(self, person: Person) -> Json:
        statement: Json = {"Effect": "Allow", "Principal": {}, "Action": "sts:AssumeRole"}
        kind = self.random.random()
        if kind < 0.4:
            statement["Principal"] = {"Service": f"{self.random.choice(SERVICES)}.amazonaws.com"}
            statement["Condition"] = {"StringEquals": {"aws:SourceAccount": person.account}}
        elif kind < 0.8:
            trusted = self.random.choice(self.everybody)
            statement["Principal"] = {"AWS": trusted.arn}
            trusted.resource_statements.append((person.arn, statement))
        else:
            statement["Principal"] = {"AWS": f"arn:aws:iam::{person.account}:root"}
            statement["Condition"] = {
                "Bool": {"aws:MultiFactorAuthPresent": "true"},
                "StringEquals": {"aws:PrincipalTag/team": person.tags["team"]},
                "NumericLessThan": {"aws:MultiFactorAuthAge": self.random.choice(MFA_AGES)},
            }
        return {"Version": VERSION, "Statement": [statement]}

    def resource_policy(self, arn: str, account: str, actions: Sequence[str], below: bool) -> Json:
        """A policy that names a few principals, some of other accounts, and denies plain HTTP."""
        service = arn.split(":")[2]
        target: str | list[str] = [arn, f"{arn}/*"] if below else arn
        named = [self.random.choice(self.everybody) for _ in range(self.random.randint(1, 3))]
        grant: Json = {
            "Sid": "Grant",
            "Effect": "Allow",
            "Principal": {"AWS": [person.arn if self.random.random() < 0.8 else person.caller for person in named]},
            "Action": sorted(self.random.sample(list(actions), 2)),
            "Resource": target,
        }
        kind = self.random.random()
        if kind < 0.2:
            grant["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}}
        elif kind < 0.35:
            grant["Condition"] = {"IpAddress": {"aws:SourceIp": list(OFFICE_NETWORKS)}}
        elif kind < 0.45:
            grant["Condition"] = {"ArnLike": {"aws:SourceArn": f"arn:aws:*:*:{account}:{self.random.choice(TEAMS)}*"}}
        statements = [
            grant,
            {
                "Sid": "PlainHttp",
                "Effect": "Deny",
                "Principal": "*",
                "Action": f"{service}:*",
                "Resource": target,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ]
        if service == "kms":
            statements.insert(
                0,
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
                    "Action": "kms:*",
                    "Resource": "*",
                },
            )
        if self.random.random() < 0.4:
            statements.append(
                {
                    "Sid": "Destruction",
                    "Effect": "Deny",
                    "Principal": {"AWS": "*"},
                    "Action": [
                        action for action in actions if "Delete" in action or "Put" in action or "Purge" in action
                    ],
                    "Resource": target,
                    "Condition": {
                        "StringNotLike": {
                            "aws:PrincipalArn": f"arn:aws:iam::{account}:role/{self.random.choice(TEAMS)}/*"
                        }
                    },
                }
            )
        for person in {id(person): person for person in named}.values():
            person.resource_statements += [
                (arn, statement) for statement in statements if statement["Effect"] == "Deny"
            ]
            person.resource_statements.append((arn, grant))
        return self.count({"Version": VERSION, "Statement": statements})

    def resource_policies(self) -> list[Json]:
        entries = []
        objects = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:GetObjectTagging", "s3:ListBucket")
        crypto = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey", "kms:PutKeyPolicy")
        messages = ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:PurgeQueue")
        for index in range(self.scale.buckets):
            account = self.random.choice(ACCOUNTS)
            arn = f"arn:aws:s3:::company-{self.random.choice(TEAMS)}-{index:05d}"
            entries.append(
                {"arn": arn, "account": account, "policy": self.resource_policy(arn, account, objects, below=True)}
            )
        for _ in range(self.scale.keys):
            account = self.random.choice(ACCOUNTS)
            arn = f"arn:aws:kms:{self.random.choice(REGIONS[:2])}:{account}:key/{self.uuid()}"
            entries.append(
                {"arn": arn, "account": account, "policy": self.resource_policy(arn, account, crypto, below=False)}
            )
        for index in range(self.scale.queues):
            account = self.random.choice(ACCOUNTS)
            arn = f"arn:aws:sqs:{self.random.choice(REGIONS[:2])}:{account}:queue-{index:05d}"
            entries.append(
                {"arn": arn, "account": account, "policy": self.resource_policy(arn, account, messages, below=False)}
            )
        return entries

    def organization(self) -> Json:
        """Root, two units, four units below them, the accounts: a Deny at every level."""

        def control(name: str, *statements: Json) -> Json:
            return {"name": name, "document": self.count({"Version": VERSION, "Statement": list(statements)})}

        full = control("FullAWSAccess", {"Effect": "Allow", "Action": "*", "Resource": "*"})
        security = "arn:aws:iam::*:role/security/*"
        guard = control(
            "Guard",
            {"Sid": "Stay", "Effect": "Deny", "Action": "organizations:LeaveOrganization", "Resource": "*"},
            {
                "Sid": "Audit",
                "Effect": "Deny",
                "Action": [
                    "cloudtrail:StopLogging",
                    "cloudtrail:DeleteTrail",
                    "config:StopConfigurationRecorder",
                    "guardduty:Delete*",
                ],
                "Resource": "*",
                "Condition": {"ArnNotLike": {"aws:PrincipalArn": security}},
            },
        )
        perimeter = control(
            "Perimeter",
            {
                "Sid": "Strangers",
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["s3:*", "sqs:*", "kms:*", "secretsmanager:*"],
                "Resource": "*",
                "Condition": {
                    "StringNotEqualsIfExists": {"aws:PrincipalOrgID": ORGANIZATION},
                    "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
                },
            },
        )
        tls = control(
            "Tls",
            {
                "Sid": "OldTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": "*",
                "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
            },
        )
        units = []
        for number, name in enumerate(("Workloads", "Corporate")):
            region = control(
                "RegionGuard",
                {
                    "Sid": "Region",
                    "Effect": "Deny",
                    "NotAction": [
                        "iam:*",
                        "organizations:*",
                        "sts:*",
                        "route53:*",
                        "cloudfront:*",
                        "support:*",
                        "budgets:*",
                    ],
                    "Resource": "*",
                    "Condition": {"StringNotEquals": {"aws:RequestedRegion": list(REGIONS[: 4 - number])}},
                },
            )
            below = []
            for place in range(2):
                account = ACCOUNTS[2 * number + place]
                limits = control(
                    "Limits",
                    {
                        "Sid": "LargeInstances",
                        "Effect": "Deny",
                        "Action": "ec2:RunInstances",
                        "Resource": "arn:aws:ec2:*:*:instance/*",
                        "Condition": {"StringNotLike": {"ec2:InstanceType": ["t3.*", "m6*", f"c{5 + place}.*"]}},
                    },
                    {
                        "Sid": "Marketplace",
                        "Effect": "Deny",
                        "Action": ["aws-marketplace:*", "savingsplans:*"],
                        "Resource": "*",
                    },
                )
                root = control(
                    "NoRoot",
                    {
                        "Effect": "Deny",
                        "Action": "*",
                        "Resource": "*",
                        "Condition": {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{account}:root"}},
                    },
                )
                below.append(
                    {
                        "id": f"ou-bnch-{number}{place}000000",
                        "name": f"{name}{place}",
                        "service_control_policies": [full, limits],
                        "resource_control_policies": [],
                        "accounts": [
                            {"id": account, "service_control_policies": [full, root], "resource_control_policies": []}
                        ],
                        "units": [],
                    }
                )
            units.append(
                {
                    "id": f"ou-bnch-{number}9000000",
                    "name": name,
                    "service_control_policies": [full, region],
                    "resource_control_policies": [tls],
                    "accounts": [],
                    "units": below,
                }
            )
        return {
            "id": ORGANIZATION,
            "management_account": MANAGEMENT_ACCOUNT,
            "root": {
                "id": "r-bnch",
                "name": "Root",
                "service_control_policies": [full, guard],
                "resource_control_policies": [perimeter],
                "accounts": [MANAGEMENT_ACCOUNT],
                "units": units,
            },
        }

    def make(self) -> Estate:
        self.everybody = self.people()
        everybody = self.everybody
        groups = {a: self.groups(a, -(-self.scale.groups // len(ACCOUNTS))) for a in ACCOUNTS}
        boundaries = {a: self.boundaries(a, -(-self.scale.boundaries // len(ACCOUNTS))) for a in ACCOUNTS}
        for person in everybody:
            if person.is_user:
                joined = self.random.sample(groups[person.account], self.random.randint(1, 3))
                person.groups = tuple(group["GroupName"] for group in joined)
                for group in joined:
                    for entry in group["GroupPolicyList"]:
                        person.statements += entry["PolicyDocument"]["Statement"]
            if self.random.random() < 0.2:
                person.boundary = self.random.choice(boundaries[person.account])["Arn"]
        files: dict[str, bytes] = {}
        attached: set[str] = set()
        for account in ACCOUNTS:
            members = [person for person in everybody if person.account == account]
            names = sorted({name for person in members for name in person.managed})
            attached.update(names)
            policies = [
                self.managed_detail(managed_arn(name), [(p["DefaultVersionId"], p["Document"], p["UpdateDate"])])
                for name in names
                for p in (managed_policies()[name],)
            ]
            details = [self.principal_detail(person) for person in members]
            middle = len(details) // 2
            pages: list[Json] = []
            for part in (details[:middle], details[middle:]):
                pages.append(
                    {
                        "UserDetailList": [detail for detail in part if "UserName" in detail],
                        "GroupDetailList": [],
                        "RoleDetailList": [detail for detail in part if "RoleName" in detail],
                        "Policies": [],
                        "IsTruncated": True,
                        "Marker": base64.b64encode(f"{account}-{len(pages)}".encode()).decode(),
                    }
                )
            pages[-1]["GroupDetailList"] = groups[account]
            pages[-1]["Policies"] = policies + boundaries[account]
            pages[-1]["IsTruncated"] = False
            del pages[-1]["Marker"]
            for number, page in enumerate(pages, 1):
                files[f"accounts/{account}-{number}.json"] = _encode(page)
        for name in attached:
            self.count(managed_policies()[name]["Document"])
        resources = self.resource_policies()
        files["resource-policies.json"] = _encode({"resources": resources})
        organization = self.organization()
        files["organization.json"] = _encode(organization)
        counts = {
            "principals": len(everybody),
            "users": self.scale.users,
            "roles": self.scale.roles,
            "groups": sum(map(len, groups.values())),
            "managed_policies": len(attached),
            "boundaries": sum(map(len, boundaries.values())),
            "with_boundary": sum(bool(person.boundary) for person in everybody),
            "resource_policies": len(resources),
            "statements": self.statements,
            "distinct_statements": len(self.distinct),
            "bytes": sum(map(len, files.values())),
        }
        return Estate(files, tuple(everybody), tuple(_denies(organization["root"])), counts)


def _denies(unit: Json) -> Iterable[Json]:
    """Statements with Deny of the service control policies at *unit* and below."""
    for control in unit.get("service_control_policies", ()):
        yield from (s for s in control["document"]["Statement"] if s["Effect"] == "Deny")
    for below in (*unit.get("units", ()), *(a for a in unit.get("accounts", ()) if isinstance(a, dict))):
        yield from _denies(below)


def _encode(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ": "), ensure_ascii=False).encode()


def generate(seed: int = 1, scale: Scale | None = None) -> Estate:
    """
    Make the company of *seed*.

    >>> generate(1, Scale.of(40)).counts["principals"]
    40
    """
    return _Maker(seed, scale or Scale()).make()


def write(estate: Estate, directory: Path) -> None:
    """Write the files of *estate* below *directory*, which is made where it is missing."""
    for name, data in estate.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def main() -> None:
    """Write the source and print what is in it."""
    parser = argparse.ArgumentParser(description="write the snapshot source of the benchmarks")
    parser.add_argument("directory", type=Path, help="where to put the files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--principals", type=int, default=10_000)
    arguments = parser.parse_args()
    started = time.perf_counter()
    estate = generate(arguments.seed, Scale.of(arguments.principals))
    write(estate, arguments.directory)
    for what, count in estate.counts.items():
        print(f"{what.replace('_', ' '):24}{count:>12,}")
    print(f"{'seconds':24}{time.perf_counter() - started:>12.1f}")


if __name__ == "__main__":
    main()
