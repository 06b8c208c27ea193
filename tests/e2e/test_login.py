# SPDX-License-Identifier: Apache-2.0
"""``iam-sidecar login`` and ``logout`` against a real sidecar: passwords, keys, codes, roles, and what is kept."""

import base64
import contextlib
import json
import os
import pty
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fido2.ctap import CtapDevice
from typer.testing import CliRunner

from sidecar.cli import app, proving, security_keys, terminal
from sidecar.client import AuthenticationError, AuthorizationClient, SessionClient, StepUpClient
from sidecar.model.errors import (
    PermissionDeniedError,
    PreconditionError,
    RequestError,
    SettingsError,
    SourceUnavailableError,
)
from tests.authenticators import Ctap2Key, Finger, U2fKey, plug
from tests.authenticators.u2f import app_id_hash
from tests.e2e.people import (
    ACCOUNT,
    ADA,
    ORDERS,
    PASSWORD,
    ROLE,
    enrol_key,
    enrol_phone,
    next_code,
    set_password,
    touch,
    write_people,
)
from tests.e2e.sidecar_process import PATIENCE, Sidecar, clean_environment, serving

ORDER = f"{ORDERS}/4711"
ADA_SIGNS_IN = ("--account", ACCOUNT, "--user", "ada", "--password-stdin")
KEY = Ctap2Key(finger=Finger(after=2))


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar at which ada has a password and a key."""
    folder = tmp_path_factory.mktemp("login")
    source = write_people(folder / "source")
    with serving(source, folder / "state") as sidecar:
        set_password(sidecar, source)
        enrol_key(sidecar, KEY)
        yield sidecar


class Shell:
    """Somebody's shell, with a file of sessions of its own."""

    def __init__(self, sidecar: Sidecar, file: Path) -> None:
        self.sidecar = sidecar
        self.file = file
        self._runner = CliRunner()

    def arguments(self, *words: str) -> list[str]:
        return [*words, "--address", self.sidecar.address("management"), "--sessions-file", str(self.file)]

    def run(self, *words: str, typed: str = "") -> Any:
        return self._runner.invoke(app, self.arguments(*words), input=typed)

    def done(self, *words: str, typed: str = "") -> str:
        result = self.run(*words, typed=typed)
        assert result.exit_code == 0, (result.output, result.exception)
        return str(result.stdout)

    def error(self, *words: str, typed: str = "") -> BaseException:
        result = self.run(*words, typed=typed)
        assert result.exit_code == 1
        error: BaseException | None = result.exception
        assert error is not None
        return error

    def sign_in(self, *words: str) -> str:
        return self.done("login", *ADA_SIGNS_IN, *words, typed=f"{PASSWORD}\n")

    def credentials(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.done("login", "--format", "json", *words))
        return found

    def is_allowed(self, token: str, action: str, resource: str = ORDER) -> bool:
        with AuthorizationClient(self.sidecar.address("data"), timeout=PATIENCE) as client:
            return client.authorize(action, resource, session_token=token).is_allowed


@pytest.fixture
def shell(sidecar: Sidecar, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(sidecar, tmp_path / "deep" / "sessions.json")
    _forget_prompts(sidecar)


def _forget_prompts(sidecar: Sidecar) -> None:
    """People are asked ten times within ten minutes, and no test is to count those of others."""
    import sqlite3

    with sqlite3.connect(sidecar.state_dir / "mfa.db", timeout=PATIENCE) as store:
        store.execute("UPDATE challenges SET created_at_ms = created_at_ms - 3600000")
        store.execute("DELETE FROM throttles")
    store.close()


def plugged(monkeypatch: pytest.MonkeyPatch, *keys: Ctap2Key | U2fKey) -> None:
    """Plug keys into this machine; none takes away those that are in it."""

    def find_devices() -> Sequence[CtapDevice]:
        if not keys:
            raise SourceUnavailableError("no security key is plugged in")
        return [plug(key) for key in keys]

    monkeypatch.setattr(security_keys, "find_devices", find_devices)


def test_login_when_the_password_is_right_then_the_session_is_kept_for_nobody_else(shell: Shell) -> None:
    said = shell.sign_in()

    assert f"signed in as {ADA} until " in said
    assert "kept as profile default" in said
    assert stat.S_IMODE(shell.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(shell.file.parent.stat().st_mode) == 0o700
    assert PASSWORD not in shell.file.read_text()
    # It is used again, and nobody is asked for anything.
    first, second = shell.credentials(), shell.credentials()
    assert first == second
    assert first["principal_arn"] == ADA
    assert first["session_token"] not in said
    assert shell.is_allowed(first["session_token"], "payments:GetOrder")
    fresh = json.loads(shell.sign_in("--fresh", "--format", "json"))
    assert fresh["access_key_id"] != first["access_key_id"]


def test_login_when_the_password_is_wrong_then_nothing_is_kept(shell: Shell) -> None:
    error = shell.error("login", *ADA_SIGNS_IN, typed="wrong\n")

    assert isinstance(error, AuthenticationError)
    assert not shell.file.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no terminal to ask for the account"),
        (("--account", ACCOUNT), "no terminal to ask for the user"),
        (("--account", ACCOUNT, "--user", "ada"), "no terminal to ask for the password"),
        (("--password-stdin",), "the account is not stated"),
    ],
)
def test_login_when_there_is_no_terminal_then_it_says_what_is_missing(
    shell: Shell, words: tuple[str, ...], message: str
) -> None:
    error = shell.error("login", *words)

    assert isinstance(error, RequestError | PreconditionError)
    assert message in error.message
    assert error.help


def test_formats_when_scripts_read_them_then_each_has_the_whole_session(shell: Shell) -> None:
    shell.sign_in()
    session = shell.credentials()

    exported = shell.done("login", "--format", "env").splitlines()
    values = dict(line.removeprefix("export ").split("=", 1) for line in exported)
    assert {name: shlex.split(value)[0] for name, value in values.items()} == {
        "AWS_ACCESS_KEY_ID": session["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": session["secret_access_key"],
        "AWS_SESSION_TOKEN": session["session_token"],
    }
    process = json.loads(shell.done("login", "--format", "credential-process"))
    assert process == {
        "Version": 1,
        "AccessKeyId": session["access_key_id"],
        "SecretAccessKey": session["secret_access_key"],
        "SessionToken": session["session_token"],
        "Expiration": datetime.fromtimestamp(session["expires_at_unix_ms"] // 1000, UTC)
        .isoformat()
        .replace("+00:00", "Z"),
    }


def test_mfa_when_a_key_is_plugged_in_then_it_is_touched_and_the_session_stays(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.sign_in()
    before = shell.credentials()
    plugged(monkeypatch, KEY)

    result = shell.run("login", "--mfa", "--format", "json")

    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr.count("touch your security key") == 1
    after = json.loads(result.stdout)
    assert after["session_token"] != before["session_token"]
    assert {**after, "session_token": ""} == {**before, "session_token": ""}
    assert shell.credentials() == after
    assert shell.is_allowed(after["session_token"], "payments:CloseOrder")


def test_mfa_when_it_is_for_one_call_then_it_holds_for_that_alone(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.sign_in()
    plugged(monkeypatch, KEY)

    token = shell.credentials("--action", "payments:CloseOrder", "--resource", ORDER)["session_token"]

    assert shell.is_allowed(token, "payments:CloseOrder")
    assert not shell.is_allowed(token, "payments:CloseOrder", f"{ORDERS}/4712")


def test_mfa_when_the_key_is_a_strange_one_then_it_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.sign_in()
    plugged(monkeypatch, Ctap2Key())

    error = shell.error("login", "--mfa")

    assert isinstance(error, PreconditionError)
    assert error.message == "this key is not enrolled for the user"


def test_mfa_when_the_key_was_imported_under_its_app_id_then_it_is_touched_as_well(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, app_id = U2fKey(finger=Finger(after=3)), "https://localhost"
    registration = key.register(app_id_hash(app_id), bytes(32))
    item = {
        "user_arn": ADA,
        "kind": "u2f",
        "app_id": app_id,
        "key_handle": base64.urlsafe_b64encode(registration[67 : 67 + registration[66]]).decode().rstrip("="),
        "public_key": base64.b64encode(registration[1:66]).decode(),
    }
    path = tmp_path / "devices.json"
    path.write_text(json.dumps({"devices": [item]}))
    command = [sys.executable, "-m", "sidecar", "mfa", "import", str(path)]
    subprocess.run([*command, "--state-dir", str(shell.sidecar.state_dir)], check=True, capture_output=True)
    shell.sign_in()
    plugged(monkeypatch, key)

    result = shell.run("login", "--mfa", "--format", "json")

    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr.count("touch your security key") == 1
    assert shell.is_allowed(json.loads(result.stdout)["session_token"], "payments:CloseOrder")


def test_mfa_when_a_code_is_stated_or_typed_then_that_proves_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged(monkeypatch)
    secret = enrol_phone(shell.sidecar, name=f"phone{time.time_ns()}")
    shell.sign_in()

    token = shell.credentials("--code", next_code(secret))["session_token"]

    assert shell.is_allowed(token, "payments:CloseOrder")
    assert isinstance(shell.error("login", "--code", "000000"), AuthenticationError)
    # At a terminal, a wrong code may be typed again.
    for module in (terminal, proving):
        monkeypatch.setattr(module, "can_ask", lambda: True)
    result = shell.run("login", "--mfa", "--method", "code", typed="1\n2\n3\n")
    assert isinstance(result.exception, AuthenticationError)
    assert result.stderr.count("try again") == 2


def test_mfa_when_nobody_could_be_asked_then_it_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.sign_in()
    plugged(monkeypatch)

    for words in (("--mfa",), ("--mfa", "--method", "code"), ("--mfa", "--method", "key")):
        error = shell.error("login", *words)
        assert isinstance(error, PreconditionError | SourceUnavailableError)
    assert isinstance(shell.error("login", "--mfa", "--action", "nonsense"), RequestError)


def test_role_when_it_is_assumed_then_it_is_kept_beside_and_renewed_by_itself(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.sign_in()
    role = shell.credentials("--role", ROLE)
    assert role["profile"] == "refunds"
    assert role["principal_arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/refunds/ada"
    assert shell.is_allowed(role["session_token"], "payments:Ship")
    assert shell.credentials()["principal_arn"] == ADA
    assert shell.credentials("--profile", "refunds") == role

    # A session of a role can be proved, too.
    plugged(monkeypatch, KEY)
    proved = shell.credentials("--profile", "refunds", "--mfa")
    assert shell.is_allowed(proved["session_token"], "payments:Return")

    # One that is over is assumed again.
    kept = json.loads(shell.file.read_text())
    kept["profiles"]["refunds"]["session"]["expires_at_ms"] = 1
    shell.file.write_text(json.dumps(kept))
    renewed = shell.credentials("--profile", "refunds")
    assert renewed["access_key_id"] != role["access_key_id"]
    assert renewed["principal_arn"] == role["principal_arn"]


def test_role_when_it_may_not_be_assumed_then_it_says_so(shell: Shell) -> None:
    shell.sign_in()

    assert isinstance(shell.error("login", "--role", ROLE.replace("refunds", "nobody")), PermissionDeniedError)
    assert isinstance(shell.error("login", "--role", ROLE, "--save-as", "default"), RequestError)


def test_logout_when_a_session_is_ended_then_those_of_its_sign_in_are_too(shell: Shell) -> None:
    shell.sign_in()
    session, role = shell.credentials(), shell.credentials("--role", ROLE)
    shell.sign_in("--profile", "other")

    assert shell.done("logout").split() == ["signed", "out:", "default,", "refunds"]

    with SessionClient(shell.sidecar.address("management"), timeout=PATIENCE) as client:
        for ended in (session, role):
            with pytest.raises(AuthenticationError):
                client.find_identity(ended["session_token"])
    assert shell.done("logout") == "there was no session\n"
    assert shell.done("logout", "--all") == "signed out: other\n"
    assert json.loads(shell.file.read_text())["profiles"] == {}


def test_logout_when_no_sidecar_answers_then_the_session_is_forgotten_and_that_is_said(
    shell: Shell, tmp_path: Path
) -> None:
    shell.sign_in()
    words = ["logout", "--address", f"unix:{tmp_path / 'nobody'}", "--sessions-file", str(shell.file)]

    result = CliRunner().invoke(app, words)

    assert isinstance(result.exception, SourceUnavailableError)
    assert "was not ended" in result.exception.message
    assert json.loads(shell.file.read_text())["profiles"] == {}


def test_session_when_it_was_ended_elsewhere_then_login_says_so_and_signs_in(shell: Shell) -> None:
    shell.sign_in()
    token = shell.credentials()["session_token"]
    with SessionClient(shell.sidecar.address("management"), timeout=PATIENCE) as client:
        client.revoke(token)

    result = shell.run("login")

    assert "the session has ended" in result.stderr
    assert isinstance(result.exception, PreconditionError)
    assert "there is no session of `ada` that holds" in result.exception.message
    shell.sign_in()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 2, "profiles": {}}', '{"version": 1, "profiles": {"a": 1}}']
)
def test_file_when_it_is_none_then_it_is_refused(shell: Shell, text: str) -> None:
    shell.file.parent.mkdir()
    shell.file.touch(mode=0o600)
    shell.file.write_text(text)

    assert isinstance(shell.error("login", *ADA_SIGNS_IN, typed=f"{PASSWORD}\n"), SettingsError)


def test_file_when_others_can_read_it_then_it_is_refused(shell: Shell) -> None:
    shell.sign_in()
    shell.file.chmod(0o644)

    error = shell.error("login")

    assert isinstance(error, SettingsError)
    assert "can be read by others" in error.message


def test_logins_when_they_come_at_the_same_time_then_each_is_kept(shell: Shell) -> None:
    commands = [
        [sys.executable, "-m", "sidecar", *shell.arguments("login", *ADA_SIGNS_IN, "--profile", f"profile-{number}")]
        for number in range(3)
    ]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=clean_environment())
        for command in commands
    ]
    for process in processes:
        process.communicate(f"{PASSWORD}\n", timeout=PATIENCE)
        assert process.returncode == 0
    assert sorted(json.loads(shell.file.read_text())["profiles"]) == ["profile-0", "profile-1", "profile-2"]


@contextmanager
def at_a_terminal(command: list[str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a command at a terminal, and give that."""
    leader, follower = pty.openpty()
    # What a shell runs in the background ignores Ctrl-C, and so does what that starts: nothing at a terminal does.
    minds = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", minds, *command],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=clean_environment(),
        start_new_session=True,
    )
    os.close(follower)
    try:
        yield leader, process
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def interrupt(process: subprocess.Popen[bytes]) -> int:
    """Press Ctrl-C as people do: again, if nothing comes of it; Python sees none that falls just before it reads."""
    latest = time.monotonic() + PATIENCE
    while time.monotonic() < latest:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(5)
    return process.wait(0)


def read_until(terminal_: int, words: bytes) -> bytes:
    """Read what a terminal shows until it shows *words*."""
    seen = b""
    while words not in seen:
        part = os.read(terminal_, 4096)
        assert part, seen
        seen += part
    return seen


def test_login_when_somebody_types_then_the_password_is_not_shown(shell: Shell) -> None:
    command = [sys.executable, "-m", "sidecar", *shell.arguments("login", "--account", ACCOUNT)]
    with at_a_terminal(command) as (leader, process):
        seen = read_until(leader, b"user: ")
        os.write(leader, b"ada\n")
        seen += read_until(leader, b"password of ada: ")
        os.write(leader, f"{PASSWORD}\n".encode())
        seen += read_until(leader, b"kept as profile default")
        assert process.wait(PATIENCE) == 0
    assert PASSWORD.encode() not in seen


def test_browser_when_the_person_answers_there_then_the_terminal_goes_on(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.sign_in()
    token = shell.credentials()["session_token"]
    plugged(monkeypatch)
    shown: list[str] = []
    began = StepUpClient.begin

    def begin(client: StepUpClient, session_token: str, **more: Any) -> Any:
        import dataclasses

        prompt = began(client, session_token, **more)
        threading.Thread(target=answer_elsewhere, args=(shell, token, prompt)).start()
        # The sidecar of this module serves no pages.
        return dataclasses.replace(prompt, prompt_url=f"https://example.org/challenges/{prompt.challenge_id}")

    monkeypatch.setattr(StepUpClient, "begin", begin)
    monkeypatch.setattr(proving, "tell", shown.append)

    after = shell.credentials("--mfa", "--method", "browser")

    assert shell.is_allowed(after["session_token"], "payments:CloseOrder")
    assert any("https://example.org/challenges/" in line for line in shown)
    assert any("the page shows the code " in line for line in shown)


def answer_elsewhere(shell: Shell, _token: str, prompt: Any) -> None:
    """Sign in as a browser does, and touch the key there."""
    management = shell.sidecar.address("management")
    with SessionClient(management, timeout=PATIENCE) as sessions, StepUpClient(management, timeout=PATIENCE) as step_up:
        browser = sessions.sign_in(ACCOUNT, "ada", PASSWORD)
        step_up.answer(browser.session_token, prompt.challenge_id, assertion_json=touch(KEY, prompt.options_json))


def test_interrupt_when_it_comes_while_waiting_then_the_end_is_clean(shell: Shell) -> None:
    shell.sign_in()
    # No key, no page: at a terminal, a code is asked for.
    command = [sys.executable, "-m", "sidecar", *shell.arguments("login", "--mfa", "--method", "code")]
    with at_a_terminal(command) as (leader, process):
        seen = read_until(leader, b"code of your authenticator app: ")
        assert interrupt(process) == 128 + signal.SIGINT
        with contextlib.suppress(OSError):
            while part := os.read(leader, 4096):
                seen += part
    assert b"Traceback" not in seen
