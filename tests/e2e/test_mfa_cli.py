# SPDX-License-Identifier: Apache-2.0
"""``iam-sidecar mfa`` against a real sidecar, with real codes and with security keys made of software."""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fido2.ctap import CtapDevice
from typer.testing import CliRunner

from sidecar.cli import app, security_keys
from sidecar.mfa.totp import generate_code
from sidecar.model.errors import PreconditionError, SidecarError, SourceUnavailableError
from sidecar.transports.qr import qr_terminal
from tests.authenticators import Ctap2Key, Finger, U2fKey, plug
from tests.e2e.sidecar_process import Sidecar, serving, write_source
from tests.unit.services.test_import_document import u2f

ADA = "arn:aws:iam::111122223333:user/ada"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar whose devices are this module's alone."""
    folder = tmp_path_factory.mktemp("mfa-cli")
    with serving(write_source(folder / "source"), folder / "state", "--rp-id", "auth.example.org") as sidecar:
        yield sidecar


class Terminal:
    """Runs commands, as somebody at a terminal would."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._runner = CliRunner()

    def run(self, *words: str, typed: str = "") -> Any:
        flags = ["--address", self._sidecar.address("management")]
        flags += ["--token-file", str(self._sidecar.state_dir / "admin.token")]
        return self._runner.invoke(app, ["mfa", *words, *flags], input=typed)

    def json(self, *words: str, typed: str = "") -> Any:
        result = self.run(*words, "--json", typed=typed)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


@pytest.fixture
def terminal(sidecar: Sidecar) -> Iterator[Terminal]:
    """A terminal, which leaves ada without devices."""
    terminal = Terminal(sidecar)
    yield terminal
    for device in terminal.json("list", "--user", ADA):
        assert terminal.run("deactivate", "--serial", device["serial_number"], "--yes").exit_code == 0


def plugged(monkeypatch: pytest.MonkeyPatch, *keys: Ctap2Key | U2fKey) -> list[CtapDevice]:
    """Plug keys into this machine."""
    devices: list[CtapDevice] = [plug(key) for key in keys]

    def find_devices() -> Sequence[CtapDevice]:
        return devices

    monkeypatch.setattr(security_keys, "find_devices", find_devices)
    return devices


def test_totp_when_enrolled_at_a_terminal_then_it_is_listed_and_can_be_resynchronized(
    sidecar: Sidecar, terminal: Terminal
) -> None:
    command = [sys.executable, "-m", "sidecar", "mfa", "enrol", "totp", "--user", ADA, "--name", "phone"]
    command += ["--address", sidecar.address("management"), "--token-file", str(sidecar.state_dir / "admin.token")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        uri = process.stderr.readline()
        secret = base64.b32decode(parse_qs(urlsplit(uri.strip()).query)["secret"][0])
        step = int(time.time() // 30)
        codes = [generate_code(secret, step + shift) for shift in (-1, 0)]
        process.stdin.write("\n".join(codes) + "\n")
        process.stdin.close()
        output, errors = process.stdout.read(), process.stderr.read()
        assert process.wait(60) == 0, errors
    serial_number = "arn:aws:iam::111122223333:mfa/phone"
    assert output == f"{serial_number}\n"
    assert base64.b32encode(secret)[:4].decode() in errors

    listed = terminal.run("list", "--user", ADA)
    assert f"totp      {serial_number}" in listed.stdout
    assert "last used never" in listed.stdout
    codes = [generate_code(secret, step + shift) for shift in (3, 4)]
    wrong = terminal.run("resync", "--serial", serial_number, "--code", codes[1], "--code", codes[0])
    assert "the proof was not accepted" in str(wrong.exception)
    done = terminal.run("resync", "--serial", serial_number, typed=f"{codes[0]}\n{codes[1]}\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == serial_number
    assert len(terminal.run("recovery-codes", "--user", ADA).stdout.split()) == 10
    assert len(terminal.json("recovery-codes", "--user", ADA)["codes"]) == 10
    assert terminal.run("deactivate", "--serial", serial_number, typed="n\n").exit_code == 1
    assert terminal.run("deactivate", "--serial", serial_number, typed="y\n").exit_code == 0
    assert terminal.run("list", "--user", ADA).stdout == "no devices\n"


def test_qr_code_when_drawn_for_a_terminal_then_it_has_a_quiet_zone_and_no_secret_in_letters() -> None:
    drawn = qr_terminal("otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")

    assert len({len(line) for line in drawn.splitlines()}) == 1
    assert "GEZD" not in drawn


@pytest.mark.parametrize(
    ("key", "kind"), [(Ctap2Key(finger=Finger(after=3)), "webauthn"), (U2fKey(finger=Finger(after=3)), "u2f")]
)
def test_key_when_enrolled_then_touch_is_asked_for_when_it_blinks(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, key: Ctap2Key | U2fKey, kind: str
) -> None:
    plugged(monkeypatch, key)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey")

    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr.count("touch your security key") == 1
    (device,) = terminal.json("list", "--user", ADA)
    assert device["kind"] == kind
    assert device["serial_number"] == result.stdout.strip()


def test_key_when_it_has_a_pin_then_it_is_asked_for_until_it_is_right(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged(monkeypatch, Ctap2Key(pin="1234"))
    sidecar_wants_pin(monkeypatch)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey", typed="9999\n1234\n")

    assert result.exit_code == 0, (result.output, result.exception)
    assert "that was not the PIN of the key; 7 tries are left" in result.stderr
    assert "1234" not in result.output


def test_key_when_its_pin_is_wrong_all_the_time_then_that_is_said(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged(monkeypatch, Ctap2Key(pin="1234"))
    sidecar_wants_pin(monkeypatch)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey", typed="9999\n8888\n7777\n")

    assert isinstance(result.exception, PreconditionError)
    assert "PIN" in result.exception.message


def test_key_when_no_pin_is_typed_then_that_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged(monkeypatch, Ctap2Key(pin="1234"))
    sidecar_wants_pin(monkeypatch)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey", typed="\n")

    assert "needs its PIN" in str(result.exception)


def sidecar_wants_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the options ask for user verification, as those of a sidecar do that requires it."""
    register = security_keys.register_key

    def register_key(devices: Sequence[CtapDevice], options_json: str, **more: Any) -> str:
        options = json.loads(options_json)
        options["authenticatorSelection"]["userVerification"] = "required"
        return register(devices, json.dumps(options), **more)

    monkeypatch.setattr(security_keys, "register_key", register_key)


def test_keys_when_several_are_plugged_in_then_the_touched_one_is_enrolled(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = Ctap2Key(finger=Finger.away(), name="left"), Ctap2Key(finger=Finger(after=1), name="right")
    plugged(monkeypatch, left, right)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey")

    assert result.exit_code == 0, (result.output, result.exception)
    assert "2 security keys are plugged in" in result.stderr
    assert (len(left.credentials), len(right.credentials)) == (0, 1)


def test_key_when_it_is_enrolled_already_then_that_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Ctap2Key()
    plugged(monkeypatch, key)
    assert terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey").exit_code == 0
    plugged(monkeypatch, key)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "again")

    assert "enrolled for the user already" in str(result.exception)


def test_key_when_it_was_imported_under_its_app_id_then_it_is_not_enrolled_again(
    sidecar: Sidecar, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = U2fKey()
    item = u2f(key, app_id="https://example.org")
    path = tmp_path / "devices.json"
    path.write_text(json.dumps({"devices": [item]}))
    command = [sys.executable, "-m", "sidecar", "mfa", "import", str(path), "--state-dir", str(sidecar.state_dir)]
    subprocess.run(command, check=True, capture_output=True)
    plugged(monkeypatch, key)

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "again")

    assert "enrolled for the user already" in str(result.exception)
    assert len(key.credentials) == 1
    plugged(monkeypatch, U2fKey())
    assert terminal.run("enrol", "key", "--user", ADA, "--name", "another").exit_code == 0
    plugged(monkeypatch, Ctap2Key())
    assert terminal.run("enrol", "key", "--user", ADA, "--name", "a-third").exit_code == 0


def test_key_when_nobody_touches_it_then_the_time_runs_out_and_it_is_told(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (device,) = plugged(monkeypatch, Ctap2Key(finger=Finger.away()))

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey", "--timeout", "1")

    assert "not touched in time" in str(result.exception)
    assert device._connection.cancels_seen == 1  # type: ignore[attr-defined]


def test_keys_when_nobody_touches_any_then_the_time_runs_out(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged(monkeypatch, Ctap2Key(finger=Finger.away()), Ctap2Key(finger=Finger.away()))

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey", "--timeout", "1")

    assert "no key was touched in time" in str(result.exception)


def test_key_when_it_is_pulled_out_then_that_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Ctap2Key(finger=Finger.away())
    (device,) = plugged(monkeypatch, key)
    pulling = threading.Timer(0.3, device.close)
    pulling.start()

    result = terminal.run("enrol", "key", "--user", ADA, "--name", "yubikey")

    pulling.join()
    assert "pulled out" in str(result.exception)


def test_key_when_the_person_presses_control_c_then_the_key_stops_blinking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = plug(Ctap2Key(finger=Finger.away()))

    class Impatient:
        def tell(self, _text: str) -> None:
            raise KeyboardInterrupt

        def ask_pin(self, _text: str) -> str:
            return ""

    options = {
        "rp": {"id": "auth.example.org", "name": "x"},
        "user": {"id": "AAAA", "name": "ada", "displayName": "ada"},
        "challenge": "A" * 43,
        "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
        "authenticatorSelection": {"userVerification": "discouraged"},
    }
    with pytest.raises(KeyboardInterrupt):
        security_keys.register_key(
            [device], json.dumps(options), origin="https://auth.example.org", person=Impatient(), seconds=60
        )
    assert device._connection.cancels_seen == 1  # type: ignore[attr-defined]


def test_key_when_the_origin_is_not_allowed_then_the_proof_is_not_accepted(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged(monkeypatch, Ctap2Key())
    elsewhere = terminal.run("enrol", "key", "--user", ADA, "--name", "k", "--origin", "https://evil.auth.example.org")
    assert "the proof was not accepted" in str(elsewhere.exception)
    plugged(monkeypatch, Ctap2Key())
    foreign = terminal.run("enrol", "key", "--user", ADA, "--name", "k", "--origin", "https://example.com")
    assert "origin" in str(foreign.exception)


def test_keys_when_none_is_plugged_in_then_that_is_said() -> None:
    with pytest.raises(SourceUnavailableError, match="no security key is plugged in"):
        security_keys.find_devices(list, list)


def test_keys_when_none_may_be_opened_then_the_rule_is_named() -> None:
    with pytest.raises(SourceUnavailableError, match="permission denied") as caught:
        security_keys.find_devices(list, lambda: [(Path("/dev/hidraw3"), "1050")])
    assert 'ATTRS{idVendor}=="1050"' in caught.value.help


def test_forbidden_keys_when_looked_for_then_only_fido_devices_count(tmp_path: Path) -> None:
    for number, descriptor in ((0, b"\x06\xd0\xf1\x09\x01"), (1, b"\x05\x01\x09\x06")):
        folder = tmp_path / "sys" / f"hidraw{number}" / "device"
        folder.mkdir(parents=True)
        (folder / "report_descriptor").write_bytes(descriptor)
        (folder / "uevent").write_text("DRIVER=hid-generic\nHID_ID=0003:000020A0:00004287\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "hidraw0").touch(mode=0o600)

    # Whoever may open it (root may open everything) has no use for the rule.
    assert security_keys.list_forbidden(tmp_path / "sys", tmp_path / "dev") == []
    assert security_keys.list_forbidden(tmp_path / "sys", Path("/proc/self/no")) == []
    assert isinstance(security_keys.list_devices(), list)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("list", "--user", "nonsense"), "no ARN of a user"),
        (("enrol", "totp", "--user", ADA, "--name", "my phone"), "name of a device"),
        (("resync", "--serial", "arn:aws:iam::111122223333:mfa/no", "--code", "1"), "two codes are needed"),
        (("deactivate", "--yes", "--serial", "arn:aws:iam::111122223333:mfa/no"), "there is no device"),
        (("recovery-codes", "--user", ADA), "no device that recovery codes"),
    ],
)
def test_command_when_it_cannot_be_done_then_the_error_says_why(
    terminal: Terminal, words: tuple[str, ...], text: str
) -> None:
    result = terminal.run(*words)

    assert isinstance(result.exception, SidecarError)
    assert text in result.exception.message
