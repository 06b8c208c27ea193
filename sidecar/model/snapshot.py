# SPDX-License-Identifier: Apache-2.0
"""
Everything that decisions depend on at one moment: accounts, organization, resource policies.

Made by ``sidecar.compile.source`` from files, or by a simulation from a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.model.policy import Policy
from sidecar.model.route import RouteTable
from sidecar.model.shadow import ShadowEntry


@dataclass(frozen=True, slots=True)
class User:
    """
    An IAM user.

    Attributes:
        policies: Identity-based policies in force: inline, attached, and those of its groups.
        boundary: Permissions boundary, if any.
        tags: Tag keys as written.
    """

    arn: str
    account: str
    name: str
    user_id: str
    policies: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Role:
    """
    An IAM role.

    Attributes:
        trust: Its trust policy (``AssumeRolePolicyDocument``), the resource policy of the role.
        max_session_duration: Seconds, 3,600 to 43,200.
        instance_profiles: ARNs of the instance profiles that carry it.
    """

    arn: str
    account: str
    name: str
    role_id: str
    trust: Policy
    policies: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    max_session_duration: int = 3600
    instance_profiles: tuple[str, ...] = ()

    @property
    def is_service_linked(self) -> bool:
        """Whether it lives under ``/aws-service-role/``: control policies do not reach it."""
        return ":role/aws-service-role/" in self.arn


@dataclass(frozen=True, slots=True)
class FederatedUser:
    """
    A ``GetFederationToken`` session, of the IAM user that called it.

    Only simulations and session tokens name one.
    """

    arn: str
    account: str
    name: str
    user_arn: str


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """
    What an account asks of the passwords of its users; the defaults are AWS's for a policy that leaves them out.

    Attributes:
        max_password_age: Days, 1 to 1,095; None: passwords do not expire.
        password_reuse_prevention: How many earlier passwords cannot be used again, 1 to 24; None: all can.
        hard_expiry: Whether a user cannot set a new password after the old one has expired.
    """

    minimum_password_length: int = 6
    require_symbols: bool = False
    require_numbers: bool = False
    require_uppercase_characters: bool = False
    require_lowercase_characters: bool = False
    allow_users_to_change_password: bool = False
    max_password_age: int | None = None
    password_reuse_prevention: int | None = None
    hard_expiry: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """
    One AWS account of the snapshot.

    Attributes:
        id: Twelve digits.
        partition: Partition of its ARNs, ``aws`` unless they say otherwise.
        password_policy: None where nothing says what it is.
    """

    id: str
    partition: str = "aws"
    alias: str = ""
    users: tuple[User, ...] = ()
    roles: tuple[Role, ...] = ()
    password_policy: PasswordPolicy | None = None


@dataclass(frozen=True, slots=True)
class OrganizationAccount:
    """
    An account's place in the organization, with what is attached to the account itself.

    ``None`` for service control policies means that the file says nothing: AWS's FullAWSAccess.
    """

    id: str
    service_control_policies: tuple[Policy, ...] | None = None
    resource_control_policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, slots=True)
class OrganizationalUnit:
    """The root or a unit. Resource control policies stand beside RCPFullAWSAccess, always attached."""

    id: str
    name: str
    service_control_policies: tuple[Policy, ...] | None = None
    resource_control_policies: tuple[Policy, ...] = ()
    accounts: tuple[OrganizationAccount, ...] = ()
    units: tuple[OrganizationalUnit, ...] = ()


@dataclass(frozen=True, slots=True)
class Organization:
    """The organization tree."""

    id: str
    management_account: str
    root: OrganizationalUnit


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """
    A resource-based policy and what it is attached to.

    Attributes:
        arn: Covers its ARN and what lies below it after a ``/``; may end in a wildcard ``*``.
        account: Account that owns the resource; empty where the ARN names it.
    """

    arn: str
    account: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class Shadow:
    """
    What is tried before it is enforced.

    Attributes:
        entries: What stands in shadow, at least one.
        snapshot: Everything, with what stands in shadow in force; it has no shadow of its own.
    """

    entries: tuple[ShadowEntry, ...]
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    One consistent set of everything.

    Attributes:
        root_is_allowed: Whether the account root is allowed in its own account unless denied.
        routes: None where no file states any.
    """

    accounts: tuple[Account, ...] = ()
    organization: Organization | None = None
    resource_policies: tuple[ResourcePolicy, ...] = ()
    federated_users: tuple[FederatedUser, ...] = ()
    #: Session policies of a simulated session: they filter users, role sessions and federated users.
    #: None: no session policy.
    session_policies: tuple[Policy, ...] | None = None
    root_is_allowed: bool = True
    #: None: nothing stands in shadow.
    shadow: Shadow | None = None
    routes: RouteTable | None = None
