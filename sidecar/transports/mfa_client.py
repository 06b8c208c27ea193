# SPDX-License-Identifier: Apache-2.0
"""
A client of ``MfaService``, for the command line.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.transports.client import ClientTls, ManagementClient
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """
    What a sidecar tells of a device.

    Attributes:
        kind: ``totp``, ``webauthn`` or ``u2f``.
        enabled_at_ms: Milliseconds since the epoch.
        last_used_at_ms: Likewise; 0 if it was never used.
    """

    serial_number: str
    user_arn: str
    kind: str
    name: str
    enabled_at_ms: int
    last_used_at_ms: int


@dataclass(frozen=True, slots=True)
class EnrolmentFacts:
    """What a person needs to set up a TOTP device."""

    serial_number: str
    secret_base32: str
    otpauth_uri: str


@dataclass(frozen=True, slots=True)
class CeremonyFacts:
    """
    A registration under way.

    Attributes:
        options_json: WebAuthn creation options.
        expires_at_ms: Milliseconds since the epoch.
    """

    ceremony_id: str
    options_json: str
    expires_at_ms: int


class MfaClient(ManagementClient):
    """
    Calls one sidecar about second factors.

    Thread-safety: that of a gRPC channel, which may be shared.
    """

    def __init__(self, *, address: str, token: str, tls: ClientTls | None = None, timeout: float = 30.0) -> None:
        super().__init__(address=address, token=token, tls=tls, timeout=timeout)
        self._mfa = pb_grpc.MfaServiceStub(self._channel)

    def begin_totp(self, user_arn: str, device_name: str) -> EnrolmentFacts:
        """Begin to enrol a TOTP device."""
        request = pb.BeginTotpEnrollmentRequest(user_arn=user_arn, device_name=device_name)
        response = self._call(self._mfa.BeginTotpEnrollment, request)
        return EnrolmentFacts(response.serial_number, response.secret_base32, response.otpauth_uri)

    def confirm_totp(self, serial_number: str, code1: str, code2: str) -> DeviceFacts:
        """Enable a TOTP device."""
        request = pb.TotpCodePair(serial_number=serial_number, code1=code1, code2=code2)
        return _device(self._call(self._mfa.ConfirmTotpEnrollment, request))

    def resync_totp(self, serial_number: str, code1: str, code2: str) -> DeviceFacts:
        """Bring a TOTP device back in step."""
        request = pb.TotpCodePair(serial_number=serial_number, code1=code1, code2=code2)
        return _device(self._call(self._mfa.ResyncTotp, request))

    def begin_key(self, user_arn: str, device_name: str) -> CeremonyFacts:
        """Begin to register a key."""
        request = pb.BeginKeyRegistrationRequest(user_arn=user_arn, device_name=device_name)
        response = self._call(self._mfa.BeginKeyRegistration, request)
        return CeremonyFacts(response.ceremony_id, response.options_json, response.expires_at_unix_ms)

    def finish_key(self, ceremony_id: str, response_json: str) -> DeviceFacts:
        """Register the key that answered."""
        request = pb.FinishCeremonyRequest(ceremony_id=ceremony_id, response_json=response_json)
        return _device(self._call(self._mfa.FinishKeyRegistration, request))

    def generate_recovery_codes(self, user_arn: str) -> list[str]:
        """Return new recovery codes."""
        request = pb.GenerateRecoveryCodesRequest(user_arn=user_arn)
        return list(self._call(self._mfa.GenerateRecoveryCodes, request).codes)

    def list_devices(self, user_arn: str) -> list[DeviceFacts]:
        """Return the devices of a user."""
        response = self._call(self._mfa.ListDevices, pb.ListDevicesRequest(user_arn=user_arn))
        return [_device(device) for device in response.devices]

    def deactivate_device(self, serial_number: str) -> None:
        """Delete a device."""
        self._call(self._mfa.DeactivateDevice, pb.DeactivateDeviceRequest(serial_number=serial_number))


def _device(message: pb.MfaDevice) -> DeviceFacts:
    return DeviceFacts(
        serial_number=message.serial_number,
        user_arn=message.user_arn,
        kind=message.kind,
        name=message.name,
        enabled_at_ms=message.enabled_at_unix_ms,
        last_used_at_ms=message.last_used_at_unix_ms,
    )
