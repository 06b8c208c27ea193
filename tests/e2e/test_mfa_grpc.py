# SPDX-License-Identifier: Apache-2.0
"""``MfaService`` of real sidecars: enrolment over the wire, restarts, backups, two sidecars on one PostgreSQL."""

import base64
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fido2.client import DefaultClientDataCollector, Fido2Client

from sidecar.mfa.totp import generate_code
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from sidecar.wire.sidecar.v1 import mfa_pb2_grpc as pb_grpc
from tests.authenticators import Ctap2Key, U2fKey, plug
from tests.e2e.sidecar_process import PATIENCE, Sidecar, clean_environment, serving, write_source
from tests.postgresql_cluster import postgresql_cluster

ADA = "arn:aws:iam::111122223333:user/ada"
BOB = "arn:aws:iam::111122223333:user/finance/bob"
ORIGIN = "http://localhost:9194"
_CODE = grpc.StatusCode


class Administrator:
    """Calls one sidecar with the administrator's token."""

    def __init__(self, channel: grpc.Channel, sidecar: Sidecar) -> None:
        self._stub = pb_grpc.MfaServiceStub(channel)
        self._metadata = sidecar.credentials

    def call(self, name: str, request: Any) -> Any:
        return getattr(self._stub, name)(request, metadata=self._metadata, timeout=PATIENCE)

    def refusal(self, name: str, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(name, request)
        return caught.value.code(), caught.value.details() or ""

    def begin(self, name: str, user_arn: str = ADA) -> tuple[str, bytes]:
        request = pb.BeginTotpEnrollmentRequest(user_arn=user_arn, device_name=name)
        response = self.call("BeginTotpEnrollment", request)
        return response.serial_number, base64.b32decode(response.secret_base32)

    def enrol_phone(self, name: str, user_arn: str = ADA) -> tuple[str, bytes]:
        serial_number, secret = self.begin(name, user_arn)
        self.call("ConfirmTotpEnrollment", pair(serial_number, secret))
        return serial_number, secret

    def devices(self, user_arn: str = ADA) -> list[Any]:
        return list(self.call("ListDevices", pb.ListDevicesRequest(user_arn=user_arn)).devices)

    def clear(self) -> None:
        for user_arn in (ADA, BOB):
            for device in self.devices(user_arn):
                request = pb.DeactivateDeviceRequest(serial_number=device.serial_number)
                self.call("DeactivateDevice", request)


def pair(serial_number: str, secret: bytes, shift: int = 0) -> pb.TotpCodePair:
    """Give the codes of a step before now and of now, or *shift* steps later."""
    step = int(time.time() // 30) + shift
    return pb.TotpCodePair(
        serial_number=serial_number, code1=generate_code(secret, step - 1), code2=generate_code(secret, step)
    )


@contextmanager
def administering(sidecar: Sidecar) -> Iterator[Administrator]:
    with sidecar.channel() as channel:
        yield Administrator(channel, sidecar)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar whose devices are this module's alone."""
    folder = tmp_path_factory.mktemp("mfa")
    source = write_source(folder / "source", others=["finance/bob"])
    with serving(source, folder / "state") as sidecar:
        yield sidecar


@pytest.fixture
def admin(sidecar: Sidecar) -> Iterator[Administrator]:
    """Its administrator; nobody has a device before and after."""
    with administering(sidecar) as admin:
        yield admin
        admin.clear()


def unlock(sidecar: Sidecar, user_arn: str = ADA) -> None:
    run_command(sidecar, "unlock", "--user", user_arn)


def run_command(sidecar: Sidecar, *words: str, environment: dict[str, str] | None = None) -> str:
    """Run a command that works on the store beside the sidecar."""
    run = subprocess.run(
        [sys.executable, "-m", "sidecar", "mfa", *words, "--state-dir", str(sidecar.state_dir)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(environment),
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def audit_records(sidecar: Sidecar) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (sidecar.state_dir / "audit.jsonl").read_text().splitlines()]


def test_enrolment_when_the_snapshot_has_no_such_user_then_the_administrator_is_told(admin: Administrator) -> None:
    stranger = "arn:aws:iam::111122223333:user/bob"
    for name, request in (
        ("BeginTotpEnrollment", pb.BeginTotpEnrollmentRequest(user_arn=stranger, device_name="phone")),
        ("BeginKeyRegistration", pb.BeginKeyRegistrationRequest(user_arn=stranger, device_name="key")),
    ):
        code, details = admin.refusal(name, request)
        assert code is _CODE.NOT_FOUND
        assert f"no user `{stranger}`" in details
        assert "with its path" in details


def test_totp_when_enrolled_over_the_wire_then_seed_and_picture_come_once(
    admin: Administrator, sidecar: Sidecar
) -> None:
    before = sidecar.metric('sidecar_mfa_verifications_total{factor="totp",result="accepted"}')
    response = admin.call("BeginTotpEnrollment", pb.BeginTotpEnrollmentRequest(user_arn=ADA, device_name="phone"))
    assert response.serial_number == "arn:aws:iam::111122223333:mfa/phone"
    assert response.qr_png.startswith(b"\x89PNG")
    assert f"secret={response.secret_base32}" in response.otpauth_uri
    secret = base64.b32decode(response.secret_base32)
    assert len(secret) == 20

    device = admin.call("ConfirmTotpEnrollment", pair(response.serial_number, secret))

    assert (device.kind, device.name, device.user_arn) == ("totp", "phone", ADA)
    assert abs(device.enabled_at_unix_ms - time.time() * 1000) < PATIENCE * 1000
    assert admin.devices() == [device]
    assert sidecar.metric('sidecar_mfa_verifications_total{factor="totp",result="accepted"}') == before + 1
    record = audit_records(sidecar)[-1]
    assert record["event"] == "mfa.device_enabled"
    assert (record["caller"], record["serial_number"]) == ("administrator", response.serial_number)
    assert record["peer"].startswith("ipv4:127.0.0.1:")
    everything = (sidecar.state_dir / "audit.jsonl").read_text() + sidecar.log
    assert response.secret_base32 not in everything


@pytest.mark.parametrize(("key", "kind"), [(Ctap2Key(), "webauthn"), (U2fKey(), "u2f")])
def test_key_when_registered_over_the_wire_then_it_is_listed(
    admin: Administrator, key: Ctap2Key | U2fKey, kind: str
) -> None:
    ceremony = admin.call("BeginKeyRegistration", pb.BeginKeyRegistrationRequest(user_arn=BOB, device_name="yubikey"))
    assert abs(ceremony.expires_at_unix_ms - time.time() * 1000 - 300_000) < PATIENCE * 1000
    device = plug(key)
    client = Fido2Client(device, client_data_collector=DefaultClientDataCollector("https://localhost"))
    response = client.make_credential(json.loads(ceremony.options_json))
    device.close()
    request = pb.FinishCeremonyRequest(ceremony_id=ceremony.ceremony_id, response_json=json.dumps(dict(response)))

    registered = admin.call("FinishKeyRegistration", request)

    assert registered.kind == kind
    assert registered.serial_number.startswith("arn:aws:iam::111122223333:u2f/user/bob/yubikey-")
    assert admin.devices(BOB) == [registered]
    assert admin.refusal("FinishKeyRegistration", request)[0] is _CODE.UNAUTHENTICATED


def test_proof_when_it_fails_then_the_answer_does_not_say_how(admin: Administrator, sidecar: Sidecar) -> None:
    enabled, secret = admin.enrol_phone("enabled")
    pending, other = admin.begin("pending")
    spent = pair(enabled, secret)
    refusals = {
        admin.refusal(name, request)
        for name, request in (
            ("ConfirmTotpEnrollment", pair(pending, secret)),
            ("ConfirmTotpEnrollment", pair(enabled, secret, 1)),
            ("ConfirmTotpEnrollment", pair("arn:aws:iam::111122223333:mfa/nobodys", secret)),
            ("ResyncTotp", pair(pending, other)),
            ("ResyncTotp", pair("arn:aws:iam::111122223333:mfa/nobodys", secret)),
            ("FinishKeyRegistration", pb.FinishCeremonyRequest(ceremony_id="nobodys", response_json="{}")),
        )
    }
    unlock(sidecar)
    refusals.add(admin.refusal("ResyncTotp", spent))
    unlock(sidecar)

    assert refusals == {(_CODE.UNAUTHENTICATED, "the proof was not accepted")}
    reasons = {record.get("reason") for record in audit_records(sidecar)}
    assert {"codes_not_consecutive", "code_replayed", "device_unknown", "ceremony_unknown"} <= reasons


def test_user_when_too_many_proofs_fail_then_it_waits_until_somebody_unlocks(
    admin: Administrator, sidecar: Sidecar
) -> None:
    serial_number, secret = admin.enrol_phone("phone")
    wrong = pb.TotpCodePair(serial_number=serial_number, code1="000000", code2="000000")
    for _ in range(5):
        assert admin.refusal("ResyncTotp", wrong)[0] is _CODE.UNAUTHENTICATED

    code, text = admin.refusal("ResyncTotp", pair(serial_number, secret, 3))
    assert code is _CODE.RESOURCE_EXHAUSTED
    assert "try again in" in text
    assert run_command(sidecar, "unlock", "--user", ADA) == "forgot 5 failures\n"
    admin.call("ResyncTotp", pair(serial_number, secret, 3))
    assert audit_records(sidecar)[-1]["event"] == "mfa.device_resynced"
    assert "mfa.user_unlocked" in {record["event"] for record in audit_records(sidecar)}


@pytest.mark.parametrize(
    ("name", "request_", "code", "words"),
    [
        ("BeginTotpEnrollment", pb.BeginTotpEnrollmentRequest(user_arn="x"), _CODE.INVALID_ARGUMENT, "user_arn"),
        ("BeginKeyRegistration", pb.BeginKeyRegistrationRequest(user_arn=ADA), _CODE.INVALID_ARGUMENT, "device_name"),
        ("ConfirmTotpEnrollment", pb.TotpCodePair(), _CODE.INVALID_ARGUMENT, "serial_number"),
        (
            "ResyncTotp",
            pb.TotpCodePair(serial_number="x" * 9, code1="1", code2="123456"),
            _CODE.INVALID_ARGUMENT,
            "code1",
        ),
        ("FinishKeyRegistration", pb.FinishCeremonyRequest(), _CODE.INVALID_ARGUMENT, "ceremony_id"),
        ("ListDevices", pb.ListDevicesRequest(), _CODE.INVALID_ARGUMENT, "user_arn"),
        ("GenerateRecoveryCodes", pb.GenerateRecoveryCodesRequest(user_arn=ADA), _CODE.FAILED_PRECONDITION, "device"),
        ("DeactivateDevice", pb.DeactivateDeviceRequest(serial_number="x" * 9), _CODE.NOT_FOUND, "no device"),
    ],
)
def test_call_when_it_cannot_be_made_then_its_status_says_why(
    admin: Administrator, name: str, request_: Any, code: grpc.StatusCode, words: str
) -> None:
    found, text = admin.refusal(name, request_)

    assert found is code
    assert words in text


def test_call_when_it_has_no_token_then_it_is_refused(sidecar: Sidecar) -> None:
    with sidecar.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.MfaServiceStub(channel).ListDevices(pb.ListDevicesRequest(user_arn=ADA), timeout=PATIENCE)
    assert caught.value.code() is _CODE.UNAUTHENTICATED


def test_devices_when_there_are_eight_then_a_ninth_is_refused(admin: Administrator) -> None:
    for number in range(8):
        admin.enrol_phone(f"phone{number}")

    request = pb.BeginTotpEnrollmentRequest(user_arn=ADA, device_name="ninth")
    assert admin.refusal("BeginTotpEnrollment", request)[0] is _CODE.RESOURCE_EXHAUSTED
    request = pb.BeginTotpEnrollmentRequest(user_arn=BOB, device_name="phone0")
    assert admin.refusal("BeginTotpEnrollment", request)[0] is _CODE.ALREADY_EXISTS
    assert len(admin.devices()) == 8


def test_confirmation_when_many_send_it_at_once_then_one_is_accepted(admin: Administrator, sidecar: Sidecar) -> None:
    serial_number, secret = admin.begin("phone")
    request = pair(serial_number, secret)

    outcomes = at_once([admin] * 32, "ConfirmTotpEnrollment", request)
    unlock(sidecar)

    assert outcomes.count("OK") == 1
    assert set(outcomes) <= {"OK", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}


def at_once(administrators: list[Administrator], name: str, request: Any) -> list[str]:
    outcomes: list[str] = []
    barrier = threading.Barrier(len(administrators))

    def run(admin: Administrator) -> None:
        barrier.wait(PATIENCE)
        try:
            admin.call(name, request)
        except grpc.RpcError as error:
            outcomes.append(error.code().name)
        else:
            outcomes.append("OK")

    threads = [threading.Thread(target=run, args=(admin,)) for admin in administrators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return outcomes


def test_keys_when_rotated_beside_a_running_sidecar_then_it_goes_on(admin: Administrator, sidecar: Sidecar) -> None:
    serial_number, secret = admin.enrol_phone("phone")
    pending = admin.begin("pending")

    rotated = json.loads(run_command(sidecar, "rotate-keys", "--drop-old", "--json"))

    assert rotated["sealed_anew"] == 2
    assert len(rotated["dropped"]) == 1
    admin.call("ResyncTotp", pair(serial_number, secret, 3))
    admin.call("ConfirmTotpEnrollment", pair(*pending))
    assert run_command(sidecar, "rotate-keys").startswith("sealed 2 seeds with key key-")
    admin.enrol_phone("third")


def test_backup_when_restored_elsewhere_then_it_works_with_the_key_alone(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    with serving(source, tmp_path / "one") as first, administering(first) as admin:
        serial_number, secret = admin.enrol_phone("phone")
        backup = sqlite3.connect(tmp_path / "backup.db")
        with sqlite3.connect(first.state_dir / "mfa.db") as live:
            live.backup(backup)
        live.close()
        backup.close()
        key = (first.state_dir / "mfa.key").read_bytes()
    assert secret not in (tmp_path / "backup.db").read_bytes()
    for name, has_key in (("two", True), ("three", False)):
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        (folder / "mfa.db").touch(mode=0o600)
        (folder / "mfa.db").write_bytes((tmp_path / "backup.db").read_bytes())
        if has_key:
            (folder / "mfa.key").touch(mode=0o600)
            (folder / "mfa.key").write_bytes(key)
        with serving(source, folder) as other, administering(other) as admin:
            assert [device.serial_number for device in admin.devices()] == [serial_number]
            if has_key:
                admin.call("ResyncTotp", pair(serial_number, secret, 3))
            else:
                code, text = admin.refusal("ResyncTotp", pair(serial_number, secret, 3))
                assert code is _CODE.UNAVAILABLE
                assert "which is not there" in text
                assert "mfa_keys_missing" in {event["event"] for event in other.events}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--store-url", "mysql://h/d"], "is no kind of store"),
        (["--mfa-key-file", "/nonexistent/mfa.key"], "cannot be read"),
        (["--mfa-attestation", "require_listed"], "no authenticator model is listed"),
    ],
)
def test_settings_when_they_cannot_be_used_then_nothing_is_served(tmp_path: Path, flags: list[str], words: str) -> None:
    assert words in failed_start(tmp_path, *flags)


def failed_start(tmp_path: Path, *flags: str) -> str:
    """Start a sidecar that cannot be, and return what it says."""
    command = [sys.executable, "-m", "sidecar", "serve", "--snapshot", str(write_source(tmp_path / "source"))]
    command += ["--state-dir", str(tmp_path / "state"), *flags]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, env=clean_environment(), timeout=PATIENCE
    )
    assert run.returncode == 1
    return run.stderr


@pytest.mark.peer
def test_postgresql_when_two_sidecars_share_it_then_no_code_is_accepted_by_both(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    key = tmp_path / "shared.key"
    key.touch(mode=0o600)
    key.write_text(f"one {base64.b64encode(bytes(range(32))).decode()}\n")
    with postgresql_cluster() as cluster:
        flags = ["--store-url", cluster.new_database(), "--mfa-key-file", str(key)]
        with (
            serving(source, tmp_path / "one", *flags) as one,
            serving(source, tmp_path / "two", *flags) as two,
            administering(one) as first,
            administering(two) as second,
        ):
            serial_number, secret = first.begin("phone")
            assert sorted(at_once([first, second], "ConfirmTotpEnrollment", pair(serial_number, secret))) == [
                "OK",
                "UNAUTHENTICATED",
            ]
            assert first.devices() == second.devices() != []
            for shift in (2, 4, 6):
                outcomes = at_once([first, second] * 2, "ResyncTotp", pair(serial_number, secret, shift))
                assert outcomes.count("OK") == 1, outcomes
        assert not (tmp_path / "one" / "mfa.db").exists()
        assert not (tmp_path / "one" / "mfa.key").exists()
        dump = cluster.run("pg_dump", "test1")
        assert "arn:aws:iam::111122223333:mfa/phone" in dump
        assert secret.hex() not in dump
        assert base64.b32encode(secret).decode() not in dump
        cluster.run("psql", "--quiet", "--dbname=postgres", "--command", "CREATE DATABASE restored")
        (tmp_path / "dump.sql").write_text(dump)
        cluster.run("psql", "--quiet", "--dbname=restored", "--output=/dev/null", f"--file={tmp_path / 'dump.sql'}")
        flags[1] = flags[1].replace("/test1", "/restored")
        with serving(source, tmp_path / "three", *flags) as three, administering(three) as third:
            third.call("ResyncTotp", pair(serial_number, secret, 9))


@pytest.mark.peer
def test_postgresql_when_no_shared_key_is_named_then_nothing_is_served(tmp_path: Path) -> None:
    with postgresql_cluster() as cluster:
        assert "keys that all of them have" in failed_start(tmp_path, "--store-url", cluster.new_database())
