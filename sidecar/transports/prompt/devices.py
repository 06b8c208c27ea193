# SPDX-License-Identifier: Apache-2.0
"""
A person's own devices: the list, adding keys and authenticator apps, removing, and recovery codes.
"""

from __future__ import annotations

import base64

from sidecar.model.errors import (
    AlreadyExistsError,
    MfaError,
    NotFoundError,
    RequestError,
    ThrottledError,
)
from sidecar.services.refusals import DeviceUnknownError
from sidecar.services.store.devices import Device
from sidecar.transports.mfa_service import MFA_SERVICE
from sidecar.transports.prompt import failures
from sidecar.transports.prompt.replies import Reply, go, show
from sidecar.transports.prompt.services import PromptServices
from sidecar.transports.prompt.visits import Visit
from sidecar.transports.qr import qr_png

#: What a page says that is come to after something was done.
_NOTICES = {
    "key-added": "Your security key has been added.",
    "app-added": "Your authenticator app has been added.",
    "removed": "The device has been removed.",
}
_KINDS = {"totp": "Authenticator app", "webauthn": "Security key or passkey", "u2f": "Security key (U2F)"}


def devices_page(visit: Visit, services: PromptServices) -> Reply:
    """List them."""
    found = _list(visit, services)
    return show(
        "devices.html",
        devices=found,
        kinds=_KINDS,
        notice=_NOTICES.get(visit.query.get("done", ""), ""),
        may_change_password=services.sessions.may_change_password(visit.signed_in),
    )


def add_key_page(visit: Visit, services: PromptServices) -> Reply:
    """Ask what the key is to be called."""
    _require_proof(visit, services, "BeginKeyRegistration")
    return show("add_key.html", name="", problem="")


def begin_key(visit: Visit, services: PromptServices) -> Reply:
    """Have the browser make a credential."""
    name = _name_in(visit)
    try:
        _require(visit, services, "BeginKeyRegistration")
        ceremony = services.mfa.ceremonies.begin(visit.signed_in, visit.person.arn, name)
    except RequestError:
        return show("add_key.html", name=visit.form.get("name", ""), problem=_BAD_NAME, status=400)
    return show("touch_new_key.html", ceremony=ceremony, name=name)


def finish_key(visit: Visit, services: PromptServices) -> Reply:
    """Take the credential."""
    try:
        _require(visit, services, "FinishKeyRegistration")
        services.mfa.ceremonies.finish(
            visit.signed_in, visit.form.get("ceremony_id", ""), visit.form.get("response_json", "")
        )
    except (MfaError, RequestError):
        return show("add_key.html", name="", problem=_KEY_REFUSED, status=403)
    return go("/devices?done=key-added")


def add_app_page(visit: Visit, services: PromptServices) -> Reply:
    """Ask what the authenticator app is to be called."""
    _require_proof(visit, services, "BeginTotpEnrollment")
    return show("add_app.html", name="", problem="")


def begin_app(visit: Visit, services: PromptServices) -> Reply:
    """Show the seed, this once."""
    name = _name_in(visit)
    try:
        _require(visit, services, "BeginTotpEnrollment")
        enrolment = services.mfa.devices.begin_totp(visit.signed_in, visit.person.arn, name)
    except RequestError:
        return show("add_app.html", name=visit.form.get("name", ""), problem=_BAD_NAME, status=400)
    except AlreadyExistsError:
        taken = "There is a device of that name in your account already. Choose another one."
        return show("add_app.html", name=name, problem=taken, status=409)
    image = base64.b64encode(qr_png(enrolment.otpauth_uri)).decode("ascii")
    secret = enrolment.secret_base32
    return show(
        "scan_app.html",
        serial_number=enrolment.serial_number,
        qr_image=f"data:image/png;base64,{image}",
        secret=" ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        problem="",
    )


def confirm_app(visit: Visit, services: PromptServices) -> Reply:
    """Take two codes that follow each other."""
    serial_number = visit.form.get("serial_number", "")
    codes = [visit.form.get(field, "").replace(" ", "") for field in ("code1", "code2")]
    try:
        owner = services.mfa.devices.find_owner(serial_number)
        if owner != visit.person.arn:
            return failures.of(DeviceUnknownError("that enrolment is somebody else's"))
        _require(visit, services, "ConfirmTotpEnrollment")
        services.mfa.devices.confirm_totp(visit.signed_in, serial_number, *codes)
    except ThrottledError as error:
        return _again(serial_number, failures.sentences(error), status=429)
    except (MfaError, RequestError):
        return _again(serial_number, _CODES_REFUSED, status=403)
    return go("/devices?done=app-added")


def remove_page(visit: Visit, services: PromptServices) -> Reply:
    """Ask whether that is meant."""
    device = _own_device(visit, services, visit.query.get("serial", ""))
    if device is None:
        return failures.of(_gone())
    _require_proof(visit, services, "DeactivateDevice")
    is_last = len(_list(visit, services)) == 1
    return show("remove.html", device=device, kind=_KINDS[device.kind], is_last=is_last)


def remove(visit: Visit, services: PromptServices) -> Reply:
    """Remove a device."""
    serial_number = visit.form.get("serial", "")
    if _own_device(visit, services, serial_number) is None:
        return failures.of(_gone())
    _require(visit, services, "DeactivateDevice")
    services.mfa.devices.deactivate(visit.signed_in, serial_number)
    return go("/devices?done=removed")


def recovery_page(visit: Visit, services: PromptServices) -> Reply:
    """Say what recovery codes are."""
    _require_proof(visit, services, "GenerateRecoveryCodes")
    return show("recovery.html", has_devices=bool(_list(visit, services)))


def make_recovery_codes(visit: Visit, services: PromptServices) -> Reply:
    """Make new ones, and show them this once."""
    _require(visit, services, "GenerateRecoveryCodes")
    codes = services.mfa.recovery.generate(visit.signed_in, visit.person.arn)
    return show("recovery_codes.html", codes=codes)


_BAD_NAME = "Give it a name of 1 to 64 letters, digits and any of _ + = , . @ -"
_KEY_REFUSED = "The key was not added: its answer was not accepted, or took longer than five minutes. Begin again."
_CODES_REFUSED = "These codes were not accepted. Wait until the app shows a new code, type it, then the one after it."


def _list(visit: Visit, services: PromptServices) -> list[Device]:
    services.permissions.require(visit.signed_in, MFA_SERVICE, "ListDevices", visit.person.arn)
    return services.mfa.devices.list_devices(visit.person.arn)


def _require(visit: Visit, services: PromptServices, method: str) -> None:
    services.permissions.require(visit.signed_in, MFA_SERVICE, method, visit.person.arn)


def _require_proof(visit: Visit, services: PromptServices, method: str) -> None:
    """See that what *method* does could be done now: else the proof comes before the form and not after it."""
    _require(visit, services, method)
    services.mfa.fresh_proof.require(visit.signed_in, visit.person.arn)


def _own_device(visit: Visit, services: PromptServices, serial_number: str) -> Device | None:
    return next((device for device in _list(visit, services) if device.serial_number == serial_number), None)


def _gone() -> NotFoundError:
    return NotFoundError("there is no such device")


def _name_in(visit: Visit) -> str:
    """Return the name that was typed; blanks, which it cannot have, become strokes."""
    return "-".join(visit.form.get("name", "").split())


def _again(serial_number: str, problem: str, *, status: int) -> Reply:
    """Ask for two other codes; the seed is not shown a second time."""
    return show("scan_app.html", status=status, serial_number=serial_number, qr_image="", secret="", problem=problem)
