# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sidecar.model.errors import SettingsError
from sidecar.settings import SETTINGS, Settings, default_state_dir, load_settings, settings_page
from sidecar.transports.addresses import TcpAddress, UnixAddress
from sidecar.transports.data_listener import DataLimits

ROOT = Path(__file__).parents[2]
HOME = {"HOME": "/home/ada"}


def load(flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> Settings:
    return load_settings({"snapshot": "policies", **(flags or {})}, {**HOME, **(environment or {})})


def test_table_when_compared_then_it_names_every_field() -> None:
    folded = {
        "config",
        "allow_remote_data",
        "public_url",
        "prompt_proxy",
        "allowed_return_url",
        "trusted_hops",
        "no_step_up_hints",
        *(setting.name for setting in SETTINGS if setting.name.startswith(("data_", "decision_log_", "check_"))),
    }
    assert {setting.name for setting in SETTINGS} - folded == {field.name for field in fields(Settings)} - {
        "data_limits",
        "check",
    }


def test_settings_when_nothing_is_stated_then_the_defaults_count() -> None:
    settings = load()

    assert settings.snapshot == Path("policies")
    assert settings.management == (TcpAddress("127.0.0.1", 9192),)
    assert settings.http == TcpAddress("127.0.0.1", 9193)
    assert settings.data == (TcpAddress("127.0.0.1", 9191),)
    assert settings.workers == 1
    assert settings.data_limits == DataLimits()
    assert settings.tls_cert is None
    assert (settings.watch_interval, settings.watch_settle) == (1.0, 0.5)
    assert (settings.log_level, settings.log_format) == ("info", "auto")


def test_settings_when_stated_in_every_way_then_flag_wins_over_variable_over_file(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "log_level: debug\nwatch_interval: 7\nwatch_settle: 3\nmanagement:\n- 127.0.0.1:1\n- 127.0.0.1:2\n"
    )
    environment = {"IAM_SIDECAR_LOG_LEVEL": "warning", "IAM_SIDECAR_WATCH_INTERVAL": "8"}

    settings = load({"config": str(config), "log_level": "error"}, environment)

    assert settings.log_level == "error"
    assert settings.watch_interval == 8.0
    assert settings.watch_settle == 3.0
    assert settings.management == (TcpAddress("127.0.0.1", 1), TcpAddress("127.0.0.1", 2))


def test_lists_when_stated_in_a_variable_then_commas_part_them() -> None:
    settings = load(environment={"IAM_SIDECAR_MANAGEMENT": "127.0.0.1:1, unix:/run/a.sock"})

    assert settings.management == (TcpAddress("127.0.0.1", 1), UnixAddress(Path("/run/a.sock")))


def test_data_when_it_is_off_or_remote_on_purpose_then_that_counts() -> None:
    assert load({"data": ["off"]}).data == ()
    assert load({"data": ["0.0.0.0:1"], "allow_remote_data": True}).data == (TcpAddress("0.0.0.0", 1),)
    assert load({"data": ["0.0.0.0:1"]}, {"IAM_SIDECAR_ALLOW_REMOTE_DATA": "yes"}).data == (TcpAddress("0.0.0.0", 1),)


@pytest.mark.parametrize(("text", "is_allowed"), [("true", True), ("yes", True), ("false", False), ("no", False)])
def test_switch_when_stated_in_the_file_then_either_spelling_counts(
    tmp_path: Path, text: str, is_allowed: bool
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"allow_remote_data: {text}\ndata: [0.0.0.0:1]\n")

    if is_allowed:
        assert load({"config": str(config)}).data == (TcpAddress("0.0.0.0", 1),)
    else:
        with pytest.raises(SettingsError, match="would answer whoever can reach it"):
            load({"config": str(config)})


def test_limits_when_stated_then_they_reach_the_core_in_its_own_units() -> None:
    limits = load({"data_idle_timeout": "1.5", "data_max_streams": "7"}).data_limits.for_core()

    assert limits["idle"] == 1_500_000_000
    assert limits["streams"] == 7


def test_http_when_it_is_off_then_there_is_none() -> None:
    assert load({"http": "off"}).http is None
    assert load({"http": "0.0.0.0:9193"}).http == TcpAddress("0.0.0.0", 9193)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"snapshot": None}, "no snapshot is named"),
        ({"management": ["0.0.0.0:1"]}, "would send the token in the clear"),
        ({"management": ["nonsense"]}, "is no address"),
        ({"http": "unix:/a"}, "is no HOST:PORT"),
        ({"data": ["0.0.0.0:1"]}, "would answer whoever can reach it"),
        ({"data": ["[2001:db8::1]:1"]}, "would answer whoever can reach it"),
        ({"data": ["127.0.0.1:1", "off"]}, "is no address"),
        ({"data": ["127.0.0.1:1"] * 17}, "has 17 addresses"),
        ({"allow_remote_data": "perhaps"}, "is unknown"),
        ({"workers": "0"}, "is not between 1 and 64"),
        ({"workers": "many"}, "is no whole number"),
        ({"workers": "9" * 20}, "is no whole number"),
        ({"data_max_streams": "0"}, "is not between"),
        ({"data_idle_timeout": "0"}, "is not between"),
        ({"tls_cert": "a"}, "both a certificate and its key"),
        ({"tls_key": "a"}, "both a certificate and its key"),
        ({"tls_client_ca": "a"}, "client certificates need TLS"),
        ({"watch_interval": "-1"}, "is not between"),
        ({"watch_interval": "nan"}, "is not between"),
        ({"watch_interval": "soon"}, "is no number of seconds"),
        ({"compile_timeout": "0"}, "is not between"),
        ({"log_level": "loud"}, "is unknown"),
        ({"log_format": "xml"}, "is unknown"),
        ({"config": "/nonexistent/config.yaml"}, "cannot be read"),
        ({"mfa_key_file": "a", "mfa_key_command": "b"}, "from a file or from a command"),
        ({"rp_id": "127.0.0.1"}, "is no host name"),
        ({"rp_id": "Example.org"}, "is no host name"),
        ({"rp_id": "https://example.org"}, "is no host name"),
        ({"rp_id": "example.org", "allowed_origin": ["https://example.com"]}, "does not belong to"),
        ({"rp_id": "example.org", "allowed_origin": ["https://notexample.org"]}, "does not belong to"),
        ({"rp_id": "example.org", "allowed_origin": ["http://example.org"]}, "is not https"),
        ({"rp_id": "example.org", "allowed_origin": ["https://example.org/"]}, "is no origin"),
        ({"mfa_sign_count": "ignore"}, "is unknown"),
        ({"mfa_attestation": "strict"}, "is unknown"),
    ],
)
def test_settings_when_a_value_cannot_be_used_then_that_is_said(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("color: red\n", "unknown key `color`"),
        ("config: other.yaml\n", "unknown key `config`"),
        ("log_level: info\nlog_level: error\n", "`log_level` more than once"),
        ("- a\n", "is no list of"),
        ("log_level: {a: b}\n", "no text for a value"),
        ("log_level: [a]\n", "no text for a value"),
        ("management: [[a]]\n", "no text for a value"),
        ("log_level: 'info\n", "configuration file"),
        ("#" * 2_000_000, "larger than"),
    ],
)
def test_config_when_it_cannot_be_used_then_that_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError, match=words):
        load({"config": str(path)})


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n"])
def test_config_when_it_is_empty_then_the_defaults_count(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)

    assert load({"config": str(path)}) == load()


def test_variables_when_one_is_misspelt_then_it_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is no setting `IAM_SIDECAR_MANAGMENT`"):
        load(environment={"IAM_SIDECAR_MANAGMENT": "127.0.0.1:1"})


@pytest.mark.parametrize(
    "variable",
    [
        "IAM_SIDECAR_SERVICE_HOST",
        "IAM_SIDECAR_SERVICE_PORT_HTTP",
        "IAM_SIDECAR_PORT",
        "IAM_SIDECAR_PORT_9192_TCP_ADDR",
        "IAM_SIDECAR_MANAGEMENT_SERVICE_HOST",
        "IAM_SIDECAR_MANAGEMENT_PORT_9192_TCP",
        "IAM_SIDECAR_ADDRESS",
        "IAM_SIDECAR_TOKEN_FILE",
    ],
)
def test_variables_when_kubernetes_or_a_client_uses_them_then_they_are_left_alone(variable: str) -> None:
    assert load(environment={variable: "tcp://10.0.0.1:9192"}) == load()


def test_state_dir_when_not_stated_then_it_depends_on_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_state_dir(HOME) == Path("/home/ada/.local/state/iam-sidecar")
    assert default_state_dir({**HOME, "XDG_STATE_HOME": "/state"}) == Path("/state/iam-sidecar")
    assert default_state_dir({**HOME, "XDG_STATE_HOME": "relative"}) == Path("/home/ada/.local/state/iam-sidecar")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state_dir(HOME) == Path("/var/lib/iam-sidecar")


def test_origins_when_none_is_stated_then_they_follow_from_the_relying_party() -> None:
    assert load({"rp_id": "auth.example.org"}).allowed_origin == ("https://auth.example.org",)
    assert load().allowed_origin == ("https://localhost", "http://localhost:9194")
    stated = ["https://example.org", "https://login.example.org:8443"]
    assert load({"rp_id": "example.org", "allowed_origin": stated}).allowed_origin == tuple(stated)
    assert load({"prompt": "off"}).allowed_origin == ("https://localhost", "http://localhost:9194")
    assert load({"prompt": "127.0.0.1:80"}).allowed_origin == ("https://localhost", "http://localhost")


def test_page_when_compared_then_it_holds_the_table() -> None:
    assert settings_page() in (ROOT / "docs" / "settings.md").read_text()


def test_http_authz_when_it_is_stated_then_it_is_beside_the_proxy_alone() -> None:
    assert load().http_authz is None
    assert load({"http_authz": "[::1]:9195"}).http_authz == TcpAddress("::1", 9195)
    socket = load({"http_authz": "unix:/run/authz.sock?mode=0660"}).http_authz
    assert socket == UnixAddress(Path("/run/authz.sock"), 0o660)
    for address in ("0.0.0.0:9195", "10.0.0.7:9195"):
        with pytest.raises(SettingsError, match="would believe whoever can reach it"):
            load({"http_authz": address})
