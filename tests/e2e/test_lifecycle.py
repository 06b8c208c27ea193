# SPDX-License-Identifier: Apache-2.0
"""
What operators meet: starts that fail, reloads, sockets, TLS, and ends.
"""

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from sidecar.wire.sidecar.v1 import authorization_pb2_grpc as pb_grpc
from tests.e2e.sidecar_process import PATIENCE, Sidecar, eventually, question, run_cli, serving, write_source

APPLIED = 'sidecar_policy_reloads_total{result="applied"}'
FAILED = 'sidecar_policy_reloads_total{result="failed"}'
UNCHANGED = 'sidecar_policy_reloads_total{result="unchanged"}'
#: Nobody looks at the files by themselves.
NO_WATCH = ("--watch-interval", "0")
QUICK_WATCH = ("--watch-interval", "0.05", "--watch-settle", "0.05")


def is_allowed(sidecar: Sidecar, action: str) -> bool:
    """Ask for a decision."""
    return sidecar.decide(question(action)).decision == pb.DECISION_ALLOW


def test_reload_when_the_source_is_good_then_the_new_snapshot_decides(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state", *NO_WATCH) as sidecar:
        before = sidecar.decide(question()).snapshot_revision
        write_source(source, action="s3:PutObject")

        response = sidecar.reload()

        assert response.applied
        assert response.snapshot.revision != before
        assert response.problem_count == 0
        assert is_allowed(sidecar, "s3:PutObject")
        assert not is_allowed(sidecar, "s3:GetObject")
        assert sidecar.metric(APPLIED) == 2


def test_reload_when_the_source_is_bad_then_the_old_snapshot_stays_and_the_problems_are_told(
    source: Path, tmp_path: Path
) -> None:
    with serving(source, tmp_path / "state", *NO_WATCH) as sidecar:
        before = sidecar.decide(question()).snapshot_revision
        write_source(source, action="nonsense")

        response = sidecar.reload()

        assert not response.applied
        assert response.snapshot.revision == before
        assert response.problem_count == 1
        assert response.problems[0].severity == "error"
        assert response.problems[0].file == "accounts/main.json"
        assert response.problems[0].json_path.endswith("Statement[0].Action")
        assert is_allowed(sidecar, "s3:GetObject")
        assert sidecar.metric(FAILED) == 1
        assert sidecar.metric('sidecar_policy_source_problems{severity="error"}') == 1
        assert sidecar.metric("sidecar_policy_last_reload_successful") == 0
        assert sidecar.get("/readyz").status_code == 200
        assert [event["file"] for event in sidecar.events if event["event"] == "source_problem"] == [
            "accounts/main.json"
        ]


def test_reload_when_nothing_changed_then_nothing_is_swapped(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state", *NO_WATCH) as sidecar:
        with sidecar.channel() as channel:
            stub = pb_grpc.SnapshotServiceStub(channel)
            before = stub.GetSnapshot(pb.GetSnapshotRequest(), metadata=sidecar.credentials, timeout=PATIENCE)

        response = sidecar.reload()

        assert response.applied
        assert response.snapshot == before
        assert sidecar.metric(UNCHANGED) == 1


def test_reload_when_the_source_is_gone_then_the_old_snapshot_stays(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state", *NO_WATCH) as sidecar:
        shutil.rmtree(source)

        response = sidecar.reload()

        assert not response.applied
        assert response.problems[0].file == str(source)
        assert is_allowed(sidecar, "s3:GetObject")


def test_hang_up_when_sent_then_the_source_is_read_again(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state", *NO_WATCH) as sidecar:
        write_source(source, action="s3:PutObject")
        sidecar.hang_up()

        eventually(lambda: is_allowed(sidecar, "s3:PutObject"))


def test_files_when_they_change_then_they_are_loaded_and_broken_ones_are_not(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state", *QUICK_WATCH) as sidecar:
        write_source(source, action="s3:PutObject")
        eventually(lambda: is_allowed(sidecar, "s3:PutObject"))

        write_source(source, action="nonsense")
        eventually(lambda: sidecar.metric(FAILED) == 1)
        assert is_allowed(sidecar, "s3:PutObject")

        write_source(source, action="s3:DeleteObject")
        eventually(lambda: is_allowed(sidecar, "s3:DeleteObject"))


def test_files_when_a_config_map_is_swapped_then_they_are_loaded(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    write_source(volume / "..first")
    (volume / "..data").symlink_to("..first")
    (volume / "accounts").symlink_to("..data/accounts")
    with serving(volume, tmp_path / "state", *QUICK_WATCH) as sidecar:
        write_source(volume / "..second", action="s3:PutObject")
        (volume / "..data_tmp").symlink_to("..second")
        (volume / "..data_tmp").rename(volume / "..data")

        eventually(lambda: is_allowed(sidecar, "s3:PutObject"))


def test_image_when_served_then_it_decides_and_a_new_one_is_loaded(source: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    assert run_cli("compile", str(source), "-o", str(image)).returncode == 0
    with serving(image, tmp_path / "state", *QUICK_WATCH) as sidecar:
        assert is_allowed(sidecar, "s3:GetObject")

        write_source(source, action="s3:PutObject")
        assert run_cli("compile", str(source), "-o", str(image)).returncode == 0
        eventually(lambda: is_allowed(sidecar, "s3:PutObject"))

        # A damaged one is refused, and the good one goes on.
        damaged = bytearray(image.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        image.write_bytes(damaged)
        eventually(lambda: sidecar.metric(FAILED) >= 1)
        assert is_allowed(sidecar, "s3:PutObject")


def test_start_when_the_source_is_broken_then_it_refuses_and_names_the_problems(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", action="nonsense")

    done = run_cli(
        *("serve", "--snapshot", str(source), "--state-dir", str(tmp_path / "state")),
        *("--management", "127.0.0.1:0", "--http", "127.0.0.1:0"),
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert "accounts/main.json" in done.stderr
    assert "1 error" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["--management", "--http"])
def test_start_when_an_address_is_in_use_then_it_refuses(source: Path, tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = "--http" if flag == "--management" else "--management"
        done = run_cli(
            *("serve", "--snapshot", str(source), "--state-dir", str(tmp_path / "state")),
            *(flag, address, other, "127.0.0.1:0"),
        )

    assert done.returncode == 1
    assert f"cannot listen on `{address}`: the address is in use" in done.stderr
    assert done.stdout == ""


def test_start_when_another_sidecar_has_the_address_then_it_refuses_and_the_first_goes_on(
    shared: Sidecar, source: Path, tmp_path: Path
) -> None:
    for address in (shared.address("management"), *shared.addresses("data")):
        done = run_cli(
            *("serve", "--snapshot", str(source), "--state-dir", str(tmp_path / "state")),
            *("--management", address, "--http", "off", "--data", "off"),
        )
        assert done.returncode == 1
        assert f"cannot listen on `{address}`: the address is in use" in done.stderr
    with shared.authorization("data") as stub:
        assert stub.Authorize(question(), timeout=PATIENCE).decision == pb.DECISION_ALLOW


def test_unix_sockets_when_asked_for_then_they_have_the_mode_and_go_at_the_end(source: Path, tmp_path: Path) -> None:
    management, data = tmp_path / "management.sock", tmp_path / "data.sock"
    arguments = (
        *("--management", f"unix:{management}", "--http", "off"),
        *("--data", f"unix:{data}?mode=0666"),
    )
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        assert stat.S_IMODE(management.stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o666
        assert is_allowed(sidecar, "s3:GetObject")
        assert "http" not in sidecar.line
        with sidecar.authorization("data") as stub:
            assert stub.Authorize(question(), timeout=PATIENCE).decision == pb.DECISION_ALLOW
    assert not management.exists()
    assert not data.exists()


def test_kill_when_it_comes_without_warning_then_the_next_start_takes_everything_over(
    source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "management.sock"
    arguments = ("--management", f"unix:{path}")
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        token = sidecar.token
        assert sidecar.stop(signal.SIGKILL) == -signal.SIGKILL
    assert path.exists()
    assert sorted(os.listdir(tmp_path / "state")) == ["admin.token", "session.keys"]

    with serving(source, tmp_path / "state", *arguments) as sidecar:
        assert sidecar.token == token
        assert is_allowed(sidecar, "s3:GetObject")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_when_it_is_asked_for_then_the_status_is_0_and_nothing_is_left(
    source: Path, tmp_path: Path, number: int
) -> None:
    with serving(source, tmp_path / "state") as sidecar:
        assert sidecar.stop(number) == 0

    assert sorted(os.listdir(tmp_path / "state")) == ["admin.token", "session.keys"]
    assert "Traceback" not in sidecar.log


def test_end_when_calls_are_under_way_then_they_are_answered(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state") as sidecar, sidecar.authorization() as stub:
        failures: list[grpc.RpcError] = []
        answers = 0
        is_stopping = threading.Event()
        batch = pb.BatchAuthorizeRequest(requests=[question()] * 1000)
        credentials = sidecar.credentials

        def ask() -> None:
            nonlocal answers
            while True:
                try:
                    stub.BatchAuthorize(batch, metadata=credentials, timeout=PATIENCE)
                except grpc.RpcError as error:
                    failures.append(error)
                    return
                answers += 1
                is_stopping.set()

        asking = threading.Thread(target=ask)
        asking.start()
        is_stopping.wait(PATIENCE)
        assert sidecar.stop() == 0
        asking.join(PATIENCE)

    assert answers > 0
    # A call that began before the end was answered; one that came after it was not begun.
    assert [error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) for error in failures] == [True]


def test_health_when_it_ends_then_watchers_are_told(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state") as sidecar, sidecar.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        sidecar.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert sidecar.process.wait(PATIENCE) == 0

    (stopped,) = (event for event in sidecar.events if event["event"] == "stopped")
    assert stopped["seconds"] < 5, "it waited for somebody who only watches"


def test_settings_when_stated_in_every_way_then_the_first_counts(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"snapshot: {source}\nhttp: 'off'\nlog_level: error\n")
    environment = {"IAM_SIDECAR_CONFIG": str(config), "IAM_SIDECAR_LOG_LEVEL": "info"}
    sidecar = Sidecar(["--management", "127.0.0.1:0"], state_dir=tmp_path / "state", environment=environment)
    try:
        assert "http" not in sidecar.line
        eventually(lambda: any(event["event"] == "snapshot_reload" for event in sidecar.events))
    finally:
        assert sidecar.stop() == 0


def test_management_when_it_would_leave_the_machine_without_tls_then_it_is_refused(
    source: Path, tmp_path: Path
) -> None:
    done = run_cli(
        *("serve", "--snapshot", str(source), "--state-dir", str(tmp_path / "state"), "--management", "0.0.0.0:0")
    )

    assert done.returncode == 1
    assert "would send the token in the clear" in done.stderr


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as bytes and as files."""

    certificate: bytes
    key: bytes
    certificate_file: Path
    key_file: Path


def issue(folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None) -> Identity:
    """Make a certificate for this machine, by *issuer* or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    certificate = builder.sign(key if issuer is None else issuer[1], hashes.SHA256())
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_file.write_bytes(certificate_pem)
    key_file.write_bytes(key_pem)
    return Identity(certificate_pem, key_pem, certificate_file, key_file)


def authority(identity: Identity) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return what signs."""
    key = serialization.load_pem_private_key(identity.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(identity.certificate), key


def test_tls_when_a_client_certificate_is_asked_for_then_nobody_else_gets_through(source: Path, tmp_path: Path) -> None:
    ca = issue(tmp_path, "authority", None)
    server = issue(tmp_path, "server", authority(ca))
    client = issue(tmp_path, "client", authority(ca))
    stranger = issue(tmp_path, "stranger", None)
    arguments = (
        *("--tls-cert", str(server.certificate_file), "--tls-key", str(server.key_file)),
        *("--tls-client-ca", str(ca.certificate_file)),
    )
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        address = sidecar.address("management")
        good = grpc.ssl_channel_credentials(ca.certificate, client.key, client.certificate)
        with grpc.secure_channel(address, good) as channel:
            stub = pb_grpc.AuthorizationServiceStub(channel)
            answer = stub.Authorize(question(), metadata=sidecar.credentials, timeout=PATIENCE)
            assert answer.decision == pb.DECISION_ALLOW
            with pytest.raises(grpc.RpcError) as caught:
                stub.Authorize(question(), timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for bad in (
            grpc.ssl_channel_credentials(ca.certificate),
            grpc.ssl_channel_credentials(ca.certificate, stranger.key, stranger.certificate),
        ):
            with grpc.secure_channel(address, bad) as channel, pytest.raises(grpc.RpcError) as caught:
                pb_grpc.AuthorizationServiceStub(channel).Authorize(
                    question(), metadata=sidecar.credentials, timeout=PATIENCE
                )
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

        done = run_cli(
            *("authorize", "--address", address, "--token-file", str(sidecar.state_dir / "admin.token")),
            *("--tls-ca", str(ca.certificate_file)),
            *("--tls-client-cert", str(client.certificate_file), "--tls-client-key", str(client.key_file)),
            *("--principal", question().principal, "--action", "s3:GetObject"),
            *("--resource", "arn:aws:s3:::reports/may.csv"),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ALLOW\n")


def test_tls_when_the_files_are_no_certificate_then_it_refuses(source: Path, tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_text("nonsense")

    done = run_cli(
        *("serve", "--snapshot", str(source), "--state-dir", str(tmp_path / "state"), "--http", "off", "--data", "off"),
        *("--management", "127.0.0.1:0"),
        *("--tls-cert", str(tmp_path / "nonsense"), "--tls-key", str(tmp_path / "nonsense")),
    )

    assert done.returncode == 1
    assert "are no certificate and its key" in done.stderr
    assert "Traceback" not in done.stderr


def test_tls_when_the_certificate_is_renewed_then_new_connections_see_it(source: Path, tmp_path: Path) -> None:
    first = issue(tmp_path, "server", None)
    arguments = ("--tls-cert", str(first.certificate_file), "--tls-key", str(first.key_file))
    with serving(source, tmp_path / "state", *arguments) as sidecar:
        address = sidecar.address("management")
        assert served_certificate(address) == first.certificate

        # Between the two writes they do not belong together: the ones before stay in force.
        second = issue(tmp_path, "other", None)
        first.certificate_file.write_bytes(second.certificate)
        assert served_certificate(address) == first.certificate
        first.key_file.write_bytes(second.key)
        assert served_certificate(address) == second.certificate


def served_certificate(address: str) -> bytes:
    """Return the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE) as connection,
        context.wrap_socket(connection) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown).encode()


def test_reload_when_questions_keep_coming_then_each_is_answered_by_one_snapshot(source: Path, tmp_path: Path) -> None:
    actions = ("s3:GetObject", "s3:PutObject")
    batch = pb.BatchAuthorizeRequest(requests=[question(action) for action in actions] * 50)
    with serving(source, tmp_path / "state", *NO_WATCH) as sidecar, sidecar.authorization() as stub:
        is_over = threading.Event()
        credentials = sidecar.credentials
        decided: dict[str, set[tuple[int, ...]]] = {}

        def ask() -> None:
            while not is_over.is_set():
                answers = stub.BatchAuthorize(batch, metadata=credentials, timeout=PATIENCE).responses
                (revision,) = {answer.snapshot_revision for answer in answers}
                decided.setdefault(revision, set()).add(tuple(answer.decision for answer in answers))

        asking = threading.Thread(target=ask)
        asking.start()
        for action in (*actions, *actions):
            write_source(source, action=action)
            assert sidecar.reload().applied
        is_over.set()
        asking.join(PATIENCE)

    allow, deny = pb.DECISION_ALLOW, pb.DECISION_IMPLICIT_DENY
    assert sorted(decided.values(), key=str) == sorted([{(allow, deny) * 50}, {(deny, allow) * 50}], key=str)
