# SPDX-License-Identifier: Apache-2.0
"""
``MfaService`` as functions from bytes to bytes.

The calls about challenges are not here: they carry sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from sidecar.model.errors import RequestError
from sidecar.transports.calls import current_caller
from sidecar.transports.permissions import Method, Permissions
from sidecar.transports.qr import qr_png
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb

if TYPE_CHECKING:
    from sidecar.services.mfa import MfaServices
    from sidecar.services.store.devices import Device

MFA_SERVICE = "sidecar.v1.MfaService"

_RequestT = TypeVar("_RequestT", bound=Message)


def mfa_methods(open_services: Callable[[], MfaServices], permissions: Permissions) -> dict[str, Method]:
    """
    Return the methods by name.

    Args:
        open_services: Gives what does the work; called by each call.
        permissions: Says who may make a call.
    """
    require = permissions.require

    def begin_totp_enrollment(data: bytes) -> bytes:
        request, caller = _parse(pb.BeginTotpEnrollmentRequest, data), current_caller()
        require(caller, MFA_SERVICE, "BeginTotpEnrollment", request.user_arn)
        enrolment = open_services().devices.begin_totp(caller, request.user_arn, request.device_name)
        return pb.BeginTotpEnrollmentResponse(
            serial_number=enrolment.serial_number,
            secret_base32=enrolment.secret_base32,
            otpauth_uri=enrolment.otpauth_uri,
            qr_png=qr_png(enrolment.otpauth_uri),
        ).SerializeToString()

    def confirm_totp_enrollment(data: bytes) -> bytes:
        request, caller = _parse(pb.TotpCodePair, data), current_caller()
        devices = open_services().devices
        require(caller, MFA_SERVICE, "ConfirmTotpEnrollment", devices.find_owner(request.serial_number))
        return _device(devices.confirm_totp(caller, request.serial_number, request.code1, request.code2))

    def resync_totp(data: bytes) -> bytes:
        request, caller = _parse(pb.TotpCodePair, data), current_caller()
        devices = open_services().devices
        require(caller, MFA_SERVICE, "ResyncTotp", devices.find_owner(request.serial_number))
        return _device(devices.resync_totp(caller, request.serial_number, request.code1, request.code2))

    def begin_key_registration(data: bytes) -> bytes:
        request, caller = _parse(pb.BeginKeyRegistrationRequest, data), current_caller()
        require(caller, MFA_SERVICE, "BeginKeyRegistration", request.user_arn)
        ceremony = open_services().ceremonies.begin(caller, request.user_arn, request.device_name)
        return pb.Ceremony(
            ceremony_id=ceremony.ceremony_id,
            options_json=ceremony.options_json,
            expires_at_unix_ms=ceremony.expires_at_ms,
        ).SerializeToString()

    def finish_key_registration(data: bytes) -> bytes:
        request, caller = _parse(pb.FinishCeremonyRequest, data), current_caller()
        ceremonies = open_services().ceremonies
        require(caller, MFA_SERVICE, "FinishKeyRegistration", ceremonies.find_owner(request.ceremony_id))
        return _device(ceremonies.finish(caller, request.ceremony_id, request.response_json))

    def generate_recovery_codes(data: bytes) -> bytes:
        request, caller = _parse(pb.GenerateRecoveryCodesRequest, data), current_caller()
        require(caller, MFA_SERVICE, "GenerateRecoveryCodes", request.user_arn)
        codes = open_services().recovery.generate(caller, request.user_arn)
        return pb.RecoveryCodes(codes=codes).SerializeToString()

    def list_devices(data: bytes) -> bytes:
        request, caller = _parse(pb.ListDevicesRequest, data), current_caller()
        require(caller, MFA_SERVICE, "ListDevices", request.user_arn)
        found = open_services().devices.list_devices(request.user_arn)
        return pb.ListDevicesResponse(devices=[device_to_wire(device) for device in found]).SerializeToString()

    def deactivate_device(data: bytes) -> bytes:
        request, caller = _parse(pb.DeactivateDeviceRequest, data), current_caller()
        devices = open_services().devices
        require(caller, MFA_SERVICE, "DeactivateDevice", devices.find_owner(request.serial_number))
        devices.deactivate(caller, request.serial_number)
        return pb.DeactivateDeviceResponse().SerializeToString()

    return {
        "BeginTotpEnrollment": begin_totp_enrollment,
        "ConfirmTotpEnrollment": confirm_totp_enrollment,
        "ResyncTotp": resync_totp,
        "BeginKeyRegistration": begin_key_registration,
        "FinishKeyRegistration": finish_key_registration,
        "GenerateRecoveryCodes": generate_recovery_codes,
        "ListDevices": list_devices,
        "DeactivateDevice": deactivate_device,
    }


def device_to_wire(device: Device) -> pb.MfaDevice:
    """Return a device as the contract has it."""
    return pb.MfaDevice(
        serial_number=device.serial_number,
        user_arn=device.user_arn,
        kind=device.kind,
        name=device.name,
        enabled_at_unix_ms=device.enabled_at_ms or 0,
        last_used_at_unix_ms=device.last_used_at_ms or 0,
    )


def _device(device: Device) -> bytes:
    return device_to_wire(device).SerializeToString()


def _parse(kind: type[_RequestT], data: bytes) -> _RequestT:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the request is no {kind.DESCRIPTOR.full_name}") from None
