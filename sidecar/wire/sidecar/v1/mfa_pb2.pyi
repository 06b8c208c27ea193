from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChallengeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHALLENGE_STATE_UNSPECIFIED: _ClassVar[ChallengeState]
    CHALLENGE_STATE_OPEN: _ClassVar[ChallengeState]
    CHALLENGE_STATE_PROVED: _ClassVar[ChallengeState]
    CHALLENGE_STATE_REFUSED: _ClassVar[ChallengeState]
    CHALLENGE_STATE_EXPIRED: _ClassVar[ChallengeState]
CHALLENGE_STATE_UNSPECIFIED: ChallengeState
CHALLENGE_STATE_OPEN: ChallengeState
CHALLENGE_STATE_PROVED: ChallengeState
CHALLENGE_STATE_REFUSED: ChallengeState
CHALLENGE_STATE_EXPIRED: ChallengeState

class BeginTotpEnrollmentRequest(_message.Message):
    __slots__ = ("user_arn", "device_name")
    USER_ARN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    user_arn: str
    device_name: str
    def __init__(self, user_arn: _Optional[str] = ..., device_name: _Optional[str] = ...) -> None: ...

class BeginTotpEnrollmentResponse(_message.Message):
    __slots__ = ("serial_number", "secret_base32", "otpauth_uri", "qr_png")
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SECRET_BASE32_FIELD_NUMBER: _ClassVar[int]
    OTPAUTH_URI_FIELD_NUMBER: _ClassVar[int]
    QR_PNG_FIELD_NUMBER: _ClassVar[int]
    serial_number: str
    secret_base32: str
    otpauth_uri: str
    qr_png: bytes
    def __init__(self, serial_number: _Optional[str] = ..., secret_base32: _Optional[str] = ..., otpauth_uri: _Optional[str] = ..., qr_png: _Optional[bytes] = ...) -> None: ...

class TotpCodePair(_message.Message):
    __slots__ = ("serial_number", "code1", "code2")
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CODE1_FIELD_NUMBER: _ClassVar[int]
    CODE2_FIELD_NUMBER: _ClassVar[int]
    serial_number: str
    code1: str
    code2: str
    def __init__(self, serial_number: _Optional[str] = ..., code1: _Optional[str] = ..., code2: _Optional[str] = ...) -> None: ...

class BeginKeyRegistrationRequest(_message.Message):
    __slots__ = ("user_arn", "device_name")
    USER_ARN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    user_arn: str
    device_name: str
    def __init__(self, user_arn: _Optional[str] = ..., device_name: _Optional[str] = ...) -> None: ...

class Ceremony(_message.Message):
    __slots__ = ("ceremony_id", "options_json", "expires_at_unix_ms")
    CEREMONY_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    ceremony_id: str
    options_json: str
    expires_at_unix_ms: int
    def __init__(self, ceremony_id: _Optional[str] = ..., options_json: _Optional[str] = ..., expires_at_unix_ms: _Optional[int] = ...) -> None: ...

class FinishCeremonyRequest(_message.Message):
    __slots__ = ("ceremony_id", "response_json")
    CEREMONY_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_JSON_FIELD_NUMBER: _ClassVar[int]
    ceremony_id: str
    response_json: str
    def __init__(self, ceremony_id: _Optional[str] = ..., response_json: _Optional[str] = ...) -> None: ...

class MfaDevice(_message.Message):
    __slots__ = ("serial_number", "user_arn", "kind", "name", "enabled_at_unix_ms", "last_used_at_unix_ms")
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    USER_ARN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENABLED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    serial_number: str
    user_arn: str
    kind: str
    name: str
    enabled_at_unix_ms: int
    last_used_at_unix_ms: int
    def __init__(self, serial_number: _Optional[str] = ..., user_arn: _Optional[str] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ..., enabled_at_unix_ms: _Optional[int] = ..., last_used_at_unix_ms: _Optional[int] = ...) -> None: ...

class GenerateRecoveryCodesRequest(_message.Message):
    __slots__ = ("user_arn",)
    USER_ARN_FIELD_NUMBER: _ClassVar[int]
    user_arn: str
    def __init__(self, user_arn: _Optional[str] = ...) -> None: ...

class RecoveryCodes(_message.Message):
    __slots__ = ("codes",)
    CODES_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, codes: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ("user_arn",)
    USER_ARN_FIELD_NUMBER: _ClassVar[int]
    user_arn: str
    def __init__(self, user_arn: _Optional[str] = ...) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[MfaDevice]
    def __init__(self, devices: _Optional[_Iterable[_Union[MfaDevice, _Mapping]]] = ...) -> None: ...

class DeactivateDeviceRequest(_message.Message):
    __slots__ = ("serial_number",)
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    serial_number: str
    def __init__(self, serial_number: _Optional[str] = ...) -> None: ...

class DeactivateDeviceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BeginChallengeRequest(_message.Message):
    __slots__ = ("session_token", "action", "resource", "step_up_ticket", "require_user_verification")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    STEP_UP_TICKET_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_USER_VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    action: str
    resource: str
    step_up_ticket: str
    require_user_verification: bool
    def __init__(self, session_token: _Optional[str] = ..., action: _Optional[str] = ..., resource: _Optional[str] = ..., step_up_ticket: _Optional[str] = ..., require_user_verification: _Optional[bool] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("challenge_id", "state", "options_json", "prompt_url", "user_code", "expires_at_unix_ms")
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_URL_FIELD_NUMBER: _ClassVar[int]
    USER_CODE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    challenge_id: str
    state: ChallengeState
    options_json: str
    prompt_url: str
    user_code: str
    expires_at_unix_ms: int
    def __init__(self, challenge_id: _Optional[str] = ..., state: _Optional[_Union[ChallengeState, str]] = ..., options_json: _Optional[str] = ..., prompt_url: _Optional[str] = ..., user_code: _Optional[str] = ..., expires_at_unix_ms: _Optional[int] = ...) -> None: ...

class AnswerChallengeRequest(_message.Message):
    __slots__ = ("challenge_id", "totp_code", "assertion_json", "recovery_code", "refuse")
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    TOTP_CODE_FIELD_NUMBER: _ClassVar[int]
    ASSERTION_JSON_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_CODE_FIELD_NUMBER: _ClassVar[int]
    REFUSE_FIELD_NUMBER: _ClassVar[int]
    challenge_id: str
    totp_code: str
    assertion_json: str
    recovery_code: str
    refuse: bool
    def __init__(self, challenge_id: _Optional[str] = ..., totp_code: _Optional[str] = ..., assertion_json: _Optional[str] = ..., recovery_code: _Optional[str] = ..., refuse: _Optional[bool] = ...) -> None: ...

class AnswerChallengeResponse(_message.Message):
    __slots__ = ("session_token", "expires_at_unix_ms")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expires_at_unix_ms: int
    def __init__(self, session_token: _Optional[str] = ..., expires_at_unix_ms: _Optional[int] = ...) -> None: ...

class WatchChallengeRequest(_message.Message):
    __slots__ = ("challenge_id",)
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    challenge_id: str
    def __init__(self, challenge_id: _Optional[str] = ...) -> None: ...

class CollectProofRequest(_message.Message):
    __slots__ = ("challenge_id", "session_token")
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    challenge_id: str
    session_token: str
    def __init__(self, challenge_id: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...
