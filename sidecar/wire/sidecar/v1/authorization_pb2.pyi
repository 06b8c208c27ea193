from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_ALLOW: _ClassVar[Decision]
    DECISION_EXPLICIT_DENY: _ClassVar[Decision]
    DECISION_IMPLICIT_DENY: _ClassVar[Decision]

class PolicyLayer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_LAYER_UNSPECIFIED: _ClassVar[PolicyLayer]
    POLICY_LAYER_IDENTITY: _ClassVar[PolicyLayer]
    POLICY_LAYER_RESOURCE: _ClassVar[PolicyLayer]
    POLICY_LAYER_PERMISSIONS_BOUNDARY: _ClassVar[PolicyLayer]
    POLICY_LAYER_SESSION: _ClassVar[PolicyLayer]
    POLICY_LAYER_SERVICE_CONTROL: _ClassVar[PolicyLayer]
    POLICY_LAYER_RESOURCE_CONTROL: _ClassVar[PolicyLayer]
DECISION_UNSPECIFIED: Decision
DECISION_ALLOW: Decision
DECISION_EXPLICIT_DENY: Decision
DECISION_IMPLICIT_DENY: Decision
POLICY_LAYER_UNSPECIFIED: PolicyLayer
POLICY_LAYER_IDENTITY: PolicyLayer
POLICY_LAYER_RESOURCE: PolicyLayer
POLICY_LAYER_PERMISSIONS_BOUNDARY: PolicyLayer
POLICY_LAYER_SESSION: PolicyLayer
POLICY_LAYER_SERVICE_CONTROL: PolicyLayer
POLICY_LAYER_RESOURCE_CONTROL: PolicyLayer

class AuthorizeRequest(_message.Message):
    __slots__ = ("principal", "session_token", "action", "resource", "context", "resource_account")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ContextValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ContextValue, _Mapping]] = ...) -> None: ...
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    principal: str
    session_token: str
    action: str
    resource: str
    context: _containers.MessageMap[str, ContextValue]
    resource_account: str
    def __init__(self, principal: _Optional[str] = ..., session_token: _Optional[str] = ..., action: _Optional[str] = ..., resource: _Optional[str] = ..., context: _Optional[_Mapping[str, ContextValue]] = ..., resource_account: _Optional[str] = ...) -> None: ...

class ContextValue(_message.Message):
    __slots__ = ("values", "multivalued")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MULTIVALUED_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    multivalued: bool
    def __init__(self, values: _Optional[_Iterable[str]] = ..., multivalued: _Optional[bool] = ...) -> None: ...

class AuthorizeResponse(_message.Message):
    __slots__ = ("decision", "layer", "reason", "mfa_requirement", "snapshot_revision", "shadow_decision", "principal_arn")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MFA_REQUIREMENT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_REVISION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_DECISION_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ARN_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    layer: PolicyLayer
    reason: str
    mfa_requirement: MfaRequirement
    snapshot_revision: str
    shadow_decision: Decision
    principal_arn: str
    def __init__(self, decision: _Optional[_Union[Decision, str]] = ..., layer: _Optional[_Union[PolicyLayer, str]] = ..., reason: _Optional[str] = ..., mfa_requirement: _Optional[_Union[MfaRequirement, _Mapping]] = ..., snapshot_revision: _Optional[str] = ..., shadow_decision: _Optional[_Union[Decision, str]] = ..., principal_arn: _Optional[str] = ...) -> None: ...

class MfaRequirement(_message.Message):
    __slots__ = ("max_age_seconds", "methods", "user_verification")
    MAX_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    USER_VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    max_age_seconds: int
    methods: _containers.RepeatedScalarFieldContainer[str]
    user_verification: bool
    def __init__(self, max_age_seconds: _Optional[int] = ..., methods: _Optional[_Iterable[str]] = ..., user_verification: _Optional[bool] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("request", "override")
    class OverrideEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ContextValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ContextValue, _Mapping]] = ...) -> None: ...
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    request: AuthorizeRequest
    override: _containers.MessageMap[str, ContextValue]
    def __init__(self, request: _Optional[_Union[AuthorizeRequest, _Mapping]] = ..., override: _Optional[_Mapping[str, ContextValue]] = ...) -> None: ...

class BatchAuthorizeRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[AuthorizeRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[AuthorizeRequest, _Mapping]]] = ...) -> None: ...

class BatchAuthorizeResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[AuthorizeResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[AuthorizeResponse, _Mapping]]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("answer", "matched_statements", "missing_context_keys")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_CONTEXT_KEYS_FIELD_NUMBER: _ClassVar[int]
    answer: AuthorizeResponse
    matched_statements: _containers.RepeatedCompositeFieldContainer[StatementMatch]
    missing_context_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, answer: _Optional[_Union[AuthorizeResponse, _Mapping]] = ..., matched_statements: _Optional[_Iterable[_Union[StatementMatch, _Mapping]]] = ..., missing_context_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class StatementMatch(_message.Message):
    __slots__ = ("layer", "policy", "sid", "statement_index", "effect")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SID_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_INDEX_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    layer: PolicyLayer
    policy: str
    sid: str
    statement_index: int
    effect: str
    def __init__(self, layer: _Optional[_Union[PolicyLayer, str]] = ..., policy: _Optional[str] = ..., sid: _Optional[str] = ..., statement_index: _Optional[int] = ..., effect: _Optional[str] = ...) -> None: ...

class SimulateRequest(_message.Message):
    __slots__ = ("principal", "action", "resource", "resource_account", "context", "identity_policies", "permissions_boundary", "session_policies", "resource_policy", "service_control_policies", "resource_control_policies")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ContextValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ContextValue, _Mapping]] = ...) -> None: ...
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_POLICIES_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    SESSION_POLICIES_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_POLICY_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CONTROL_POLICIES_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_CONTROL_POLICIES_FIELD_NUMBER: _ClassVar[int]
    principal: str
    action: str
    resource: str
    resource_account: str
    context: _containers.MessageMap[str, ContextValue]
    identity_policies: _containers.RepeatedScalarFieldContainer[str]
    permissions_boundary: str
    session_policies: _containers.RepeatedScalarFieldContainer[str]
    resource_policy: str
    service_control_policies: _containers.RepeatedCompositeFieldContainer[PolicySet]
    resource_control_policies: _containers.RepeatedCompositeFieldContainer[PolicySet]
    def __init__(self, principal: _Optional[str] = ..., action: _Optional[str] = ..., resource: _Optional[str] = ..., resource_account: _Optional[str] = ..., context: _Optional[_Mapping[str, ContextValue]] = ..., identity_policies: _Optional[_Iterable[str]] = ..., permissions_boundary: _Optional[str] = ..., session_policies: _Optional[_Iterable[str]] = ..., resource_policy: _Optional[str] = ..., service_control_policies: _Optional[_Iterable[_Union[PolicySet, _Mapping]]] = ..., resource_control_policies: _Optional[_Iterable[_Union[PolicySet, _Mapping]]] = ...) -> None: ...

class PolicySet(_message.Message):
    __slots__ = ("documents",)
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, documents: _Optional[_Iterable[str]] = ...) -> None: ...

class GetSnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadSnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadSnapshotResponse(_message.Message):
    __slots__ = ("snapshot", "applied", "problems", "problem_count")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    applied: bool
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    problem_count: int
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., applied: _Optional[bool] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., problem_count: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("severity", "file", "json_path", "message", "help")
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    JSON_PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    severity: str
    file: str
    json_path: str
    message: str
    help: str
    def __init__(self, severity: _Optional[str] = ..., file: _Optional[str] = ..., json_path: _Optional[str] = ..., message: _Optional[str] = ..., help: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("revision", "loaded_at_unix_ms", "principals", "policies", "statements", "image_bytes")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPALS_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    revision: str
    loaded_at_unix_ms: int
    principals: int
    policies: int
    statements: int
    image_bytes: int
    def __init__(self, revision: _Optional[str] = ..., loaded_at_unix_ms: _Optional[int] = ..., principals: _Optional[int] = ..., policies: _Optional[int] = ..., statements: _Optional[int] = ..., image_bytes: _Optional[int] = ...) -> None: ...
