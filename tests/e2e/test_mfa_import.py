# SPDX-License-Identifier: Apache-2.0
"""``iam-sidecar mfa import`` beside a real sidecar, and where there is none yet."""

import base64
import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.mfa_import import _EPILOG
from sidecar.mfa.totp import generate_code
from sidecar.wire.sidecar.v1 import mfa_pb2 as pb
from tests.e2e.sidecar_process import PATIENCE, clean_environment, serving, write_source
from tests.e2e.test_mfa_grpc import ADA, administering, audit_records

SECRET = b"12345678901234567890"
TEXT = base64.b32encode(SECRET).decode()
TOKEN = {"user_arn": ADA, "kind": "totp", "serial_number": "GAHT12345678", "secret": TEXT}


def run(state_dir: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command and see that it shows no seed."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "mfa", "import", *words, "--state-dir", str(state_dir)],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        timeout=PATIENCE,
    )
    assert TEXT not in done.stdout + done.stderr
    return done


def written(folder: Path, *items: Any) -> str:
    path = folder / "devices.json"
    path.write_text(json.dumps({"devices": items}))
    return str(path)


def test_import_when_a_sidecar_runs_then_the_device_is_there_at_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    path = written(tmp_path, TOKEN)
    with serving(write_source(tmp_path / "source"), state) as sidecar, administering(sidecar) as admin:
        assert admin.devices() == []

        done = run(state, path)

        assert done.returncode == 0, done.stderr
        assert done.stdout == f"totp      GAHT12345678  {ADA}\n"
        assert "delete it" in done.stderr
        (device,) = admin.devices()
        assert (device.serial_number, device.kind) == ("GAHT12345678", "totp")
        # A token that lay in a drawer: hours off, and found all the same.
        step = int(time.time() // 30) + 1000
        codes = [generate_code(SECRET, step + shift) for shift in (0, 1)]
        request = pb.TotpCodePair(serial_number="GAHT12345678", code1=codes[0], code2=codes[1])
        assert admin.call("ResyncTotp", request).serial_number == "GAHT12345678"
        again = run(state, path, "--json")
        assert again.returncode == 1
        assert [problem["json_path"] for problem in json.loads(again.stdout)["error"]["problems"]] == [
            "$.devices[0].serial_number",
            "$.devices[0].secret",
        ]
        (record,) = [record for record in audit_records(sidecar) if record["event"] == "mfa.device_imported"]
        assert (record["serial_number"], record["caller"]) == ("GAHT12345678", "administrator")
        assert TEXT not in (state / "audit.jsonl").read_text()
        for name in ("mfa.db", "mfa.db-wal", "mfa.db-shm", "mfa.key"):
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name


def test_import_when_there_is_no_store_then_checking_makes_none_and_importing_does(tmp_path: Path) -> None:
    path = written(tmp_path, TOKEN)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)

    checked = run(state, "-", "--check", "--json", typed=Path(path).read_text())
    assert json.loads(checked.stdout) == {"devices": 1}
    assert os.listdir(state) == []
    done = run(state, path, "--json")

    assert json.loads(done.stdout) == [{"serial_number": "GAHT12345678", "user_arn": ADA, "kind": "totp"}]
    assert run(state, path, "--check").returncode == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("/nonexistent.yaml",), "cannot be read"),
        (("-",), "$.devices[0].digits: devices with another number than 6"),
        (("-", "--check"), "$.devices[1].secret: the seed has 72 bits"),
        (("-", "--check", "--snapshot", "SOURCE"), "$.devices[0].user_arn: the snapshot has no such user"),
    ],
)
def test_import_when_it_cannot_be_done_then_all_of_it_is_said(
    tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    known = str(write_source(tmp_path / "source"))
    stranger = TOKEN | {"user_arn": "arn:aws:iam::111122223333:user/eve"}
    items = (
        [stranger]
        if "SOURCE" in words
        else [TOKEN | {"digits": 8}, TOKEN | {"serial_number": "GAHT00000000", "secret": TEXT[:15]}]
    )

    words = tuple(known if word == "SOURCE" else word for word in words)
    done = run(tmp_path, *words, typed=json.dumps({"devices": items}))

    assert done.returncode == 1
    assert text in " ".join(done.stderr.split())


def test_commands_on_the_store_when_the_metadata_cannot_be_used_then_they_work_all_the_same(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("mfa_attestation: require_trusted\nmfa_metadata: /nonexistent\nmfa_metadata_root: /nonexistent\n")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)

    done = run(state, written(tmp_path, TOKEN), "--config", str(config))

    assert done.returncode == 0, done.stderr


def test_help_then_its_example_can_be_imported(tmp_path: Path) -> None:
    example = re.search(r"^  devices:\n(?:    .*\n)+", _EPILOG, re.MULTILINE)
    assert example is not None

    done = run(tmp_path, "-", "--check", typed=example[0])

    assert done.stdout == "2 devices can be imported\n", done.stderr
