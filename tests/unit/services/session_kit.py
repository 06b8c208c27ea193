# SPDX-License-Identifier: Apache-2.0
"""
Sessions on a real store and a real image, with a clock that a test sets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.compile.image import write_image
from sidecar.compile.source import parse_source
from sidecar.core import Image, SessionState
from sidecar.model.directory import AccountFacts, UserFacts
from sidecar.services.authorizer import Authorizer
from sidecar.services.callers import Caller
from sidecar.services.log import NullLog
from sidecar.services.sessions.hashing import PasswordHasher
from sidecar.services.sessions.issuing import IssuedSession
from sidecar.services.sessions.journal import NullSessionMetrics, SessionEvent, SessionJournal
from sidecar.services.sessions.keys import SessionKeyFile
from sidecar.services.sessions.parts import SessionParts, build_session_parts
from sidecar.services.sessions.revoking import StoredRevocations
from sidecar.services.sessions.role_request import RoleRequest
from sidecar.services.sessions.service import SessionService
from sidecar.services.sessions.tickets import TicketOpener
from sidecar.services.sessions.watching import SessionWatch
from sidecar.services.store.engine import Store
from tests.tickets import seal_ticket, ticket_content
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB, Kit

ACCOUNT, OTHER = "111122223333", "444455556666"
PEER = "ipv4:127.0.0.1:3"
PASSWORD = "Correct-horse-7"
EVE = f"arn:aws:iam::{ACCOUNT}:user/eve"

Json = dict[str, Any]


def role_arn(name: str, account: str = ACCOUNT) -> str:
    """Give the ARN of a role of these tests."""
    return f"arn:aws:iam::{account}:role/{name}"


def allow(action: str | Sequence[str], **more: Any) -> Json:
    """Give a statement."""
    return {"Effect": "Allow", "Action": action, **more}


def document(*statements: Json) -> Json:
    """Give a policy."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def root_may(action: str | Sequence[str], **condition: Any) -> Json:
    """Give a statement of a trust policy for everybody in the account."""
    more = {"Condition": condition} if condition else {}
    return allow(action, Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, **more)


#: What the roles trust.
TRUST: dict[str, Json] = {
    "worker": document(root_may(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"])),
    "plain": document(root_may("sts:AssumeRole")),
    "careful": document(root_may("sts:AssumeRole", StringEquals={"sts:ExternalId": "EX-42"})),
    "named": document(root_may("sts:AssumeRole", StringEquals={"sts:RoleSessionName": "${aws:username}"})),
    "guarded": document(
        root_may(
            "sts:AssumeRole",
            Bool={"aws:MultiFactorAuthPresent": "true"},
            NumericLessThan={"aws:MultiFactorAuthAge": "300"},
        )
    ),
    "tagged": document(
        root_may("sts:AssumeRole"),
        root_may(
            "sts:TagSession",
            StringEquals={"aws:RequestTag/team": "red"},
            **{
                "ForAllValues:StringEquals": {
                    "aws:TagKeys": ["team", "Cost.Centre"],
                    "sts:TransitiveTagKeys": ["team"],
                }
            },
        ),
    ),
    "sourced": document(
        root_may("sts:AssumeRole"),
        root_may("sts:SetSourceIdentity", StringLike={"sts:SourceIdentity": "ada*"}),
    ),
    "next": document(
        allow(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], Principal={"AWS": role_arn("worker")})
    ),
    "nexttagless": document(allow("sts:AssumeRole", Principal={"AWS": role_arn("worker")})),
}


def dump(account: str, users: Sequence[Json], roles: Sequence[Json]) -> bytes:
    """Give the dump of an account."""
    return json.dumps(
        {"UserDetailList": list(users), "GroupDetailList": [], "RoleDetailList": list(roles), "Policies": []}
    ).encode()


def user(arn: str, user_id: str, *statements: Json) -> Json:
    """Give a user of a dump."""
    path = "/" + "".join(part + "/" for part in arn.split("/")[1:-1])
    policies = [{"PolicyName": "own", "PolicyDocument": document(*statements)}] if statements else []
    name = arn.rpartition("/")[2]
    return {"Path": path, "UserName": name, "UserId": user_id, "Arn": arn, "UserPolicyList": policies}


def role(name: str, trust: Json, *statements: Json, account: str = ACCOUNT, path: str = "/") -> Json:
    """Give a role of a dump."""
    policies = [{"PolicyName": "own", "PolicyDocument": document(*statements)}] if statements else []
    return {
        "Path": path,
        "RoleName": name,
        "RoleId": "AROA" + name.upper().ljust(17, "0"),
        "Arn": f"arn:aws:iam::{account}:role{path}{name}",
        "AssumeRolePolicyDocument": trust,
        "RolePolicyList": policies,
        "AttachedManagedPolicies": [],
    }


MAY_ASSUME = allow(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], Resource="*")


def source_files(
    *, ada_id: str = "AIDAADA0000000000000A", policy: Mapping[str, object] | None = None, deny: Sequence[str] = ()
) -> dict[str, bytes]:
    """Give the source of these tests: ada and eve may assume every role, bob may do nothing."""
    users = [
        user(
            ADA,
            ada_id,
            MAY_ASSUME,
            *({"Effect": "Deny", "Action": action, "Resource": "*"} for action in deny),
        ),
        user(BOB, "AIDABOB0000000000000B"),
        user(EVE, "AIDAEVE0000000000000E", MAY_ASSUME, allow("sidecar:RevokeSession", Resource="*")),
    ]
    roles = [role(name, trust, MAY_ASSUME) for name, trust in TRUST.items()]
    service = document(allow("sts:AssumeRole", Principal={"Service": "backup.amazonaws.com"}))
    roles.append(role("linked", service, path="/aws-service-role/backup.amazonaws.com/"))
    far = role("far", TRUST["worker"], account=OTHER)
    settings: Json = {
        "accounts": {
            ACCOUNT: {"alias": "acme", "roles": {"worker": {"max_session_duration": 7200}}},
        }
    }
    if policy is not None:
        settings["accounts"][ACCOUNT]["password_policy"] = dict(policy)
    return {
        "accounts/main.json": dump(ACCOUNT, users, roles),
        "accounts/other.json": dump(OTHER, [], [far]),
        "account-settings.json": json.dumps(settings).encode(),
    }


def build_image(**changes: Any) -> Image:
    """Compile the source of these tests."""
    report = parse_source(source_files(**changes))
    assert report.snapshot is not None, report.problems
    return Image.from_bytes(write_image(report.snapshot))


class Holder:
    """Holds the image in place."""

    def __init__(self, image: Image | None) -> None:
        self.image = image


class ListedSessionMetrics(NullSessionMetrics):
    """Keeps what is counted in lists."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []
        self.keys: list[bool] = []
        self.revocations: list[int] = []

    def record_event(self, event: SessionEvent) -> None:
        self.events.append(event)

    def record_keys(self, *, is_good: bool) -> None:
        self.keys.append(is_good)

    def record_revocations(self, count: int, seconds: float) -> None:
        self.revocations.append(count)


#: As cheap as argon2 can be: what it costs is tested where that matters.
CHEAP = {"memory_kib": 8, "passes": 1}


class SessionKit(Kit):
    """Everything that a test of sessions needs, on one store."""

    def __init__(self, store: Store, folder: Path, image: Image | None = None) -> None:
        super().__init__(store, folder)
        self.snapshots = Holder(image or build_image())
        self.session_metrics = ListedSessionMetrics()
        self.key_file = SessionKeyFile(folder / "session.keys")
        self.key_file.create(self.now_ms)
        self.published: list[SessionState] = []
        self.watch = self.make_watch()
        self.engine = Authorizer(snapshots=self.snapshots, now=self.clock, sessions=lambda: self.watch.state)
        self.journal = SessionJournal(audit=self.audit, metrics=self.session_metrics)
        self.hasher = PasswordHasher(**CHEAP)
        self.parts: SessionParts = build_session_parts(
            self.services, engine=self.engine, journal=self.journal, now=self.clock, hasher=self.hasher
        )
        self.sessions = SessionService(
            watch=self.watch,
            snapshots=self.snapshots,
            engine=self.engine,
            journal=self.journal,
            parts=self,
            has_store=lambda: True,
            now=self.clock,
        )

    def open(self) -> SessionParts:
        """Give the parts, as an opener does."""
        return self.parts

    def make_watch(self, **changes: Any) -> SessionWatch:
        """Make what keeps tokens up to date; the test says when it looks."""
        wanted: dict[str, Any] = {
            "keys": self.key_file,
            "revocations": StoredRevocations(self.store, now=self.clock),
            "grace": 3600.0,
            "now": self.clock,
            "monotonic": time.monotonic_ns,
            "metrics": self.session_metrics,
            "log": NullLog(),
            "publish": self.published.append,
            **changes,
        }
        return SessionWatch(**wanted)

    @property
    def now_ms(self) -> int:
        return self.clock.nanoseconds // 1_000_000

    @property
    def image(self) -> Image:
        assert self.snapshots.image is not None
        return self.snapshots.image

    def user(self, arn: str = ADA) -> UserFacts:
        facts = self.image.find_user(arn)
        assert facts is not None
        return facts

    def account(self) -> AccountFacts:
        facts = self.image.find_account(ACCOUNT)
        assert facts is not None
        return facts

    def set_password(self, arn: str = ADA, password: str = PASSWORD) -> None:
        """Set a password, as an administrator does."""
        self.parts.passwords.set_password(ADMINISTRATOR, self.user(arn), self.account(), password)
        self.watch.refresh()

    def sign_in(self, arn: str = ADA, password: str = PASSWORD, account: str = "acme") -> IssuedSession:
        """Sign in."""
        name = arn.rpartition("/")[2]
        return self.sessions.sign_in(account=account, user_name=name, password=password, peer=PEER)

    def caller(self, issued: IssuedSession) -> Caller:
        """Give the bearer of a session."""
        return self.sessions.authenticate(issued.session_token, PEER)

    def signed_in(self, arn: str = ADA) -> Caller:
        """Give somebody who has signed in, with a password that is set for it."""
        self.set_password(arn)
        self.clock.advance(1)
        return self.caller(self.sign_in(arn))

    @property
    def tickets(self) -> TicketOpener:
        """What opens the tickets of these keys."""
        return TicketOpener(ring=lambda: self.watch.ring, now=self.clock)

    def ticket(self, session: str, *, seconds: float = 300, **said: Any) -> str:
        """Seal a ticket for a session, as the data path does."""
        key = self.watch.ring.keys[0]
        content = ticket_content(session, self.now_ms + int(seconds * 1000), **said)
        return seal_ticket(content, key_id=key.id, key=key.seal)

    def assume(self, caller: Caller, name: str = "worker", **asked: Any) -> IssuedSession:
        """Assume a role."""
        arn = role_arn(name) if ":" not in name else name
        return self.sessions.assume_role(caller, RoleRequest(role_arn=arn, **{"role_session_name": "ada", **asked}))
