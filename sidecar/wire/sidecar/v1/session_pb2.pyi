from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SignInRequest(_message.Message):
    __slots__ = ("account", "user_name", "password")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    account: str
    user_name: str
    password: str
    def __init__(self, account: _Optional[str] = ..., user_name: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class GetSessionTokenRequest(_message.Message):
    __slots__ = ("duration_seconds", "serial_number", "token_code")
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_CODE_FIELD_NUMBER: _ClassVar[int]
    duration_seconds: int
    serial_number: str
    token_code: str
    def __init__(self, duration_seconds: _Optional[int] = ..., serial_number: _Optional[str] = ..., token_code: _Optional[str] = ...) -> None: ...

class AssumeRoleRequest(_message.Message):
    __slots__ = ("role_arn", "role_session_name", "duration_seconds", "session_policies", "tags", "transitive_tag_keys", "external_id", "source_identity", "serial_number", "token_code")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ROLE_ARN_FIELD_NUMBER: _ClassVar[int]
    ROLE_SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_POLICIES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TRANSITIVE_TAG_KEYS_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_CODE_FIELD_NUMBER: _ClassVar[int]
    role_arn: str
    role_session_name: str
    duration_seconds: int
    session_policies: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.ScalarMap[str, str]
    transitive_tag_keys: _containers.RepeatedScalarFieldContainer[str]
    external_id: str
    source_identity: str
    serial_number: str
    token_code: str
    def __init__(self, role_arn: _Optional[str] = ..., role_session_name: _Optional[str] = ..., duration_seconds: _Optional[int] = ..., session_policies: _Optional[_Iterable[str]] = ..., tags: _Optional[_Mapping[str, str]] = ..., transitive_tag_keys: _Optional[_Iterable[str]] = ..., external_id: _Optional[str] = ..., source_identity: _Optional[str] = ..., serial_number: _Optional[str] = ..., token_code: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("access_key_id", "secret_access_key", "session_token", "expires_at_unix_ms", "principal_arn")
    ACCESS_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_ACCESS_KEY_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ARN_FIELD_NUMBER: _ClassVar[int]
    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at_unix_ms: int
    principal_arn: str
    def __init__(self, access_key_id: _Optional[str] = ..., secret_access_key: _Optional[str] = ..., session_token: _Optional[str] = ..., expires_at_unix_ms: _Optional[int] = ..., principal_arn: _Optional[str] = ...) -> None: ...

class GetCallerIdentityRequest(_message.Message):
    __slots__ = ("session_token",)
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    def __init__(self, session_token: _Optional[str] = ...) -> None: ...

class CallerIdentity(_message.Message):
    __slots__ = ("account", "arn", "user_id")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ARN_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    account: str
    arn: str
    user_id: str
    def __init__(self, account: _Optional[str] = ..., arn: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class RevokeSessionRequest(_message.Message):
    __slots__ = ("session_token",)
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    def __init__(self, session_token: _Optional[str] = ...) -> None: ...

class RevokeSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
