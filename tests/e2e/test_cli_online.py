# SPDX-License-Identifier: Apache-2.0
"""
The command line against a sidecar that runs.
"""

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.e2e.sidecar_process import ADA, Sidecar, run_cli, serving, write_source

BUCKET = "arn:aws:s3:::reports/may.csv"
ALLOW = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'


def ask(sidecar: Sidecar, *arguments: str) -> CompletedProcess[str]:
    """Run a command on *sidecar*, which the environment names."""
    environment = {
        "IAM_SIDECAR_ADDRESS": sidecar.address("management"),
        "IAM_SIDECAR_STATE_DIR": str(sidecar.state_dir),
    }
    return run_cli(*arguments, environment=environment)


def question(action: str = "s3:GetObject") -> tuple[str, ...]:
    return ("--principal", ADA, "--action", action, "--resource", BUCKET)


@pytest.mark.parametrize("command", ["authorize", "explain"])
def test_question_when_asked_then_the_status_is_the_answer(shared: Sidecar, command: str) -> None:
    allowed = ask(shared, command, *question())
    denied = ask(shared, command, *question("s3:PutObject"), "--json")

    assert (allowed.returncode, allowed.stderr) == (0, "")
    assert allowed.stdout.startswith("ALLOW\n")
    assert denied.returncode == 3
    assert json.loads(denied.stdout)["reason"] == "no_identity_allow"


def test_answers_when_given_by_a_sidecar_and_by_its_source_then_they_are_the_same(
    shared: Sidecar, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source")

    online = ask(shared, "explain", *question(), "--json", "--override", "aws:SourceIp=203.0.113.9")
    offline = run_cli(
        "explain", "--snapshot", str(source), *question(), "--json", "--override", "aws:SourceIp=203.0.113.9"
    )

    assert json.loads(online.stdout) == json.loads(offline.stdout)


def test_question_when_malformed_then_one_clear_line(shared: Sidecar) -> None:
    done = ask(shared, "explain", *question("nonsense"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: `")
    assert "Traceback" not in done.stderr


def test_simulate_when_a_sidecar_is_named_then_it_answers_as_we_would(shared: Sidecar, tmp_path: Path) -> None:
    document = tmp_path / "allow.json"
    document.write_text(ALLOW)
    arguments = ("simulate", *question(), "--identity-policy", str(document), "--scp", str(document), "--json")

    online = ask(shared, *arguments, "--address", shared.address("management"))
    offline = run_cli(*arguments)

    assert online.returncode == offline.returncode == 0
    assert json.loads(online.stdout) == json.loads(offline.stdout)


def test_simulate_when_documents_have_errors_then_they_are_named_alike(shared: Sidecar, tmp_path: Path) -> None:
    document = tmp_path / "bad.json"
    document.write_text(ALLOW.replace("s3:*", "nonsense"))
    arguments = ("simulate", *question(), "--identity-policy", str(document))

    for done in (ask(shared, *arguments, "--address", shared.address("management")), run_cli(*arguments)):
        assert done.returncode == 1
        assert done.stderr.startswith("identity_policies[0]\n  error  $.Statement[0].Action: ")
        assert "error: the documents have 1 error" in done.stderr


def test_snapshot_when_shown_then_it_is_the_one_in_place(shared: Sidecar) -> None:
    shown = ask(shared, "snapshot", "show")
    facts = json.loads(ask(shared, "snapshot", "show", "--json").stdout)

    assert shown.returncode == 0
    assert f"revision    {facts['revision']}\n" in shown.stdout
    assert facts["revision"][:12] in shared.line
    assert facts["loaded_at_unix_ms"] > 0


def test_snapshot_when_reloaded_then_the_status_says_whether_it_is_in_place(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path / "state", "--watch-interval", "0") as sidecar:
        good = ask(sidecar, "snapshot", "reload")
        write_source(source, action="nonsense")
        bad = ask(sidecar, "snapshot", "reload")
        told = ask(sidecar, "snapshot", "reload", "--json")

    assert (good.returncode, bad.returncode, told.returncode) == (0, 1, 1)
    assert good.stdout.startswith("in place with 0 problems\n")
    assert bad.stdout.startswith("accounts/main.json\n")
    assert "what was in place stays" in bad.stdout
    assert json.loads(told.stdout)["problems"][0]["file"] == "accounts/main.json"


def test_token_when_it_is_another_then_one_clear_line(shared: Sidecar, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("t" * 43)
    token_file.chmod(0o600)

    done = ask(shared, "snapshot", "show", "--token-file", str(token_file))

    assert done.returncode == 1
    assert done.stderr.startswith("error: the token is not known here")
