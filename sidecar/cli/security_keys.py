# SPDX-License-Identifier: Apache-2.0
"""
Security keys that are plugged in: finding them, having one touched, and saying plainly what is in the way.

A key is asked from a thread of its own, which may be left behind with a key that never answers. Whatever is shown or
asked goes through the main thread, where Ctrl-C arrives.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fido2.client import ClientError, DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.ctap import CtapDevice, CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin
from fido2.hid import CtapHidDevice
from fido2.webauthn import PublicKeyCredentialCreationOptions, PublicKeyCredentialRequestOptions

from sidecar.cli import app_id_keys
from sidecar.model.errors import PreconditionError, SidecarError, SourceUnavailableError

_SYS_HIDRAW = Path("/sys/class/hidraw")
_DEV = Path("/dev")
#: SPEC: FIDO CTAP 2.2, section 11.2.8.1: the usage page of a FIDO device, as it begins its report descriptor.
_FIDO_USAGE_PAGE = bytes.fromhex("06d0f1")
#: Times that a wrong PIN may be mended; keys lock after three in a row until they are plugged in anew.
_PIN_TRIES = 3
#: Seconds that a key has to take in that nobody wants its answer any more.
_CANCEL_PATIENCE = 2.0
_ERR = CtapError.ERR
_CLIENT = ClientError.ERR


class Person(Protocol):
    """Whoever sits in front of the key; called in the main thread."""

    def tell(self, text: str) -> None:
        """Show a line."""
        ...

    def ask_pin(self, text: str) -> str:
        """Ask for a PIN, without showing it; empty for no."""
        ...


def list_devices() -> list[CtapDevice]:
    """Return the keys that are plugged in or lie on a reader, as far as they may be used."""
    devices: list[CtapDevice] = list(CtapHidDevice.list_devices())
    try:
        from fido2.pcsc import CtapPcscDevice
    except ImportError:
        # Readers need pyscard, which is not everybody's.
        return devices
    # Without its service there is no reader.
    with suppress(Exception):
        devices += CtapPcscDevice.list_devices()
    return devices


def list_forbidden(sys_hidraw: Path = _SYS_HIDRAW, dev: Path = _DEV) -> list[tuple[Path, str]]:
    """Return the device file and the USB vendor of each key that is plugged in and may not be opened."""
    found = []
    for node in sorted(sys_hidraw.glob("hidraw*")):
        try:
            if not (node / "device" / "report_descriptor").read_bytes().startswith(_FIDO_USAGE_PAGE):
                continue
            uevent = (node / "device" / "uevent").read_text()
        except OSError:
            continue
        try:
            with (dev / node.name).open("r+b", buffering=0):
                continue
        except PermissionError:
            ids = next((line for line in uevent.splitlines() if line.startswith("HID_ID=")), "")
            found.append((dev / node.name, ids.split(":")[1][-4:].lower() if ids.count(":") == 2 else "1050"))
        except OSError:
            continue
    return found


def find_devices(
    list_devices: Callable[[], Sequence[CtapDevice]] = list_devices,
    list_forbidden: Callable[[], Sequence[tuple[Path, str]]] = list_forbidden,
) -> Sequence[CtapDevice]:
    """
    Return the keys that are plugged in.

    Raises:
        SourceUnavailableError: There is none, or none that may be used.
    """
    devices = list_devices()
    if devices:
        return devices
    forbidden = list_forbidden()
    if forbidden:
        path, vendor = forbidden[0]
        raise SourceUnavailableError(
            f"there is a security key at `{path}`, and you may not use it: permission denied",
            help="as root, put this line into /etc/udev/rules.d/70-security-key.rules, run `udevadm control --reload`, "
            f'and plug the key in anew: KERNEL=="hidraw*", SUBSYSTEM=="hidraw", ATTRS{{idVendor}}=="{vendor}", '
            'MODE="0660", TAG+="uaccess"',
        )
    raise SourceUnavailableError(
        "no security key is plugged in", help="plug it in, and run this again; over NFC, pyscard has to be installed"
    )


def register_key(
    devices: Sequence[CtapDevice], options_json: str, *, origin: str, person: Person, seconds: float
) -> str:
    """
    Have one of *devices* make a credential, and return its answer as WebAuthn JSON.

    Args:
        options_json: WebAuthn creation options.
        origin: What the key is told that it is used from.
        seconds: How long all of it may take.

    Raises:
        SidecarError: It did not; the message is for the person.
    """
    options = PublicKeyCredentialCreationOptions.from_dict(_untimed(options_json))

    def make_credential(device: CtapDevice, work: _Work) -> str:
        if app_id_keys.find_credential(device, options_json, "appidExclude", "excludeCredentials") is not None:
            raise PreconditionError(_ALREADY[0], help=_ALREADY[1])
        return json.dumps(dict(_client(device, origin, work).make_credential(options, event=work.cancel)))

    return _ask(devices, make_credential, "enrol", origin=origin, person=person, latest=time.monotonic() + seconds)


def use_key(devices: Sequence[CtapDevice], options_json: str, *, origin: str, person: Person, seconds: float) -> str:
    """
    Have one of *devices* prove itself, and return its answer as WebAuthn JSON.

    Args:
        options_json: WebAuthn request options.
        origin: What the key is told that it is used from.
        seconds: How long all of it may take.

    Raises:
        SidecarError: It did not; the message is for the person.
    """
    options = PublicKeyCredentialRequestOptions.from_dict(_untimed(options_json))

    def get_assertion(device: CtapDevice, work: _Work) -> str:
        handle = app_id_keys.find_credential(device, options_json, "appid", "allowCredentials")
        if handle is not None:
            return app_id_keys.sign(device, options_json, handle, origin=origin, work=work)
        client = _client(device, origin, work)
        return json.dumps(dict(client.get_assertion(options, event=work.cancel).get_response(0)))

    return _ask(devices, get_assertion, "use", origin=origin, person=person, latest=time.monotonic() + seconds)


def _untimed(options_json: str) -> dict[str, object]:
    # The time is kept here: the library would look at it between two packets only.
    return {**json.loads(options_json), "timeout": None}


def _ask(
    devices: Sequence[CtapDevice],
    request: Callable[[CtapDevice, _Work], str],
    verb: str,
    *,
    origin: str,
    person: Person,
    latest: float,
) -> str:
    device = devices[0] if len(devices) == 1 else _select(devices, origin, person, latest, verb)
    for tries_left in range(_PIN_TRIES - 1, -1, -1):
        work = _Work(person, latest)

        def run(work: _Work = work) -> str:
            return request(device, work)

        try:
            return work.run(run)
        except ClientError as error:
            if _cause_code(error) is not _ERR.PIN_INVALID or not tries_left:
                raise _explained(error, work, verb) from None
            person.tell(f"that was not the PIN of the key{_pin_tries(device)}")
        except (CtapError, OSError, ValueError) as error:
            raise _explained(error, work, verb) from None
    raise AssertionError("unreachable: the last try returns or raises")


def _select(devices: Sequence[CtapDevice], origin: str, person: Person, latest: float, verb: str) -> CtapDevice:
    """Return the one of several keys that is touched first."""
    person.tell(f"{len(devices)} security keys are plugged in; touch the one to {verb}")
    cancel = threading.Event()
    touched: queue.SimpleQueue[CtapDevice | None] = queue.SimpleQueue()

    def wait_for_touch(device: CtapDevice) -> None:
        try:
            _client(device, origin, None).selection(cancel)
        except (ClientError, CtapError, OSError, ValueError):
            touched.put(None)
        else:
            touched.put(device)

    threads = [threading.Thread(target=wait_for_touch, args=(device,), daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    try:
        for _ in devices:
            device = touched.get(timeout=max(0.0, latest - time.monotonic()))
            if device is not None:
                return device
    except queue.Empty:
        pass
    finally:
        cancel.set()
        for thread in threads:
            thread.join(_CANCEL_PATIENCE)
    raise SourceUnavailableError("no key was touched in time", help="run this again, and touch one when it blinks")


def _client(device: CtapDevice, origin: str, interaction: UserInteraction | None) -> Fido2Client:
    return Fido2Client(
        device,
        client_data_collector=DefaultClientDataCollector(origin),
        user_interaction=interaction or UserInteraction(),
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """Something to show."""

    text: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, and where its answer is waited for."""

    answer: queue.SimpleQueue[str]


@dataclass(frozen=True, slots=True)
class _Ended:
    """The end of the work."""

    result: str
    error: BaseException | None


class _Work(UserInteraction):
    """
    One request to a key: it runs in a thread of its own, and speaks through the main thread.

    Thread-safety: the methods of ``UserInteraction`` belong to the work's thread, ``run`` to the main one.
    """

    def __init__(self, person: Person, latest: float) -> None:
        self._person = person
        self._latest = latest
        self._inbox: queue.SimpleQueue[_Said | _Asked | _Ended] = queue.SimpleQueue()
        self.cancel = threading.Event()
        self.is_late = False
        self.is_refused = False

    def prompt_up(self) -> None:
        """Ask for a touch: the key blinks now, and not before."""
        self._inbox.put(_Said("touch your security key: it blinks"))

    def request_pin(self, permissions: ClientPin.PERMISSION, rp_id: str | None) -> str | None:
        """Ask for the PIN of the key."""
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._inbox.put(_Asked(answer))
        return answer.get() or None

    def request_uv(self, permissions: ClientPin.PERMISSION, rp_id: str | None) -> bool:
        """Ask for a finger."""
        self._inbox.put(_Said("lay your finger on the security key"))
        return True

    def run(self, work: Callable[[], str]) -> str:
        """
        Return what *work* does.

        Raises:
            SourceUnavailableError: The key does not answer at all.
        """

        def report() -> None:
            try:
                ended = _Ended(work(), None)
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                ended = _Ended("", error)
            self._inbox.put(ended)

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        try:
            return self._serve()
        except KeyboardInterrupt:
            # The key stops blinking.
            self.cancel.set()
            thread.join(_CANCEL_PATIENCE)
            raise

    def _serve(self) -> str:
        patience = self._latest
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, patience - time.monotonic()))
            except queue.Empty:
                if self.is_late:
                    raise SourceUnavailableError(
                        "the security key does not answer", help="plug it in anew, and run this again"
                    ) from None
                self.is_late = True
                self.cancel.set()
                patience = time.monotonic() + _CANCEL_PATIENCE
                continue
            if isinstance(item, _Said):
                self._person.tell(item.text)
            elif isinstance(item, _Asked):
                pin = self._person.ask_pin("PIN of the security key")
                self.is_refused = not pin
                item.answer.put(pin)
            elif item.error is not None:
                raise item.error
            else:
                return item.result


def _explained(error: BaseException, work: _Work, verb: str) -> SidecarError:
    """Return what went wrong with a key, in the words of whoever holds it."""
    if work.is_late:
        return SourceUnavailableError(
            "the key was not touched in time", help="run this again, and touch it when it blinks"
        )
    if work.is_refused:
        return PreconditionError("the key needs its PIN", help="run this again, and type it")
    if isinstance(error, OSError):
        return SourceUnavailableError("the key was pulled out", help="plug it in, and run this again")
    code = error.code if isinstance(error, CtapError) else _cause_code(error)
    known = _MESSAGES.get(code) if code is not None else None
    if known is not None:
        return PreconditionError(known[0], help=known[1])
    if isinstance(error, ClientError) and error.code is _CLIENT.DEVICE_INELIGIBLE:
        message, help = _ALREADY if verb == "enrol" else _STRANGE
        return PreconditionError(message, help=help)
    if isinstance(error, ClientError) and error.code is _CLIENT.CONFIGURATION_UNSUPPORTED:
        return PreconditionError(
            "the key cannot do what is asked of it", help="give it a PIN first, or use another key"
        )
    if isinstance(error, ClientError) and error.code is _CLIENT.BAD_REQUEST:
        return PreconditionError(
            "the origin does not belong to the relying party", help="name one that does with --origin"
        )
    return SourceUnavailableError(f"the key failed: {error!r}"[:200], help="plug it in anew, and run this again")


_ALREADY = ("this key is enrolled for the user already", "use another one")
_STRANGE = ("this key is not enrolled for the user", "use another one, or prove yourself in another way")
_BLOCKED = "use another key, or reset it with its maker's program: that deletes every credential on it"
_MESSAGES: dict[int, tuple[str, str]] = {
    _ERR.CREDENTIAL_EXCLUDED: _ALREADY,
    _ERR.PIN_INVALID: ("that was not the PIN of the key", "run this again"),
    _ERR.PIN_AUTH_BLOCKED: ("the PIN was wrong too often", "plug the key in anew, and run this again"),
    _ERR.PIN_BLOCKED: ("the PIN was wrong too often, and the key is blocked", _BLOCKED),
    _ERR.PIN_NOT_SET: ("the key has no PIN, and one is asked for", "give it one with its maker's program"),
    _ERR.UV_BLOCKED: ("the finger was wrong too often", "run this again, and type the PIN"),
    _ERR.NO_CREDENTIALS: _STRANGE,
    _ERR.KEY_STORE_FULL: ("the key is full", "delete a credential on it, or use another key"),
    _ERR.UNSUPPORTED_ALGORITHM: ("the key knows none of the algorithms that are accepted", "use another key"),
    _ERR.OPERATION_DENIED: ("the key refused", "run this again, and touch it when it blinks"),
}


def _cause_code(error: BaseException) -> CtapError.ERR | int | None:
    cause = error.cause if isinstance(error, ClientError) else None
    return cause.code if isinstance(cause, CtapError) else None


def _pin_tries(device: CtapDevice) -> str:
    """Return how many tries the key leaves, as the end of a sentence."""
    try:
        left, _ = ClientPin(Ctap2(device)).get_pin_retries()
    except (CtapError, OSError, ValueError):
        return ""
    return f"; {left} tries are left" if left != 1 else "; one try is left"


def close_devices(devices: Iterable[CtapDevice]) -> None:
    """Let go of the keys."""
    for device in devices:
        with suppress(OSError):
            device.close()
