# SPDX-License-Identifier: Apache-2.0
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar import __version__
from sidecar.cli import main
from sidecar.cli.questions import parse_context
from sidecar.model.errors import RequestError
from sidecar.model.request import ContextValue
from sidecar.settings import SETTINGS
from tests.e2e.sidecar_process import ADA, write_source

Capture = pytest.CaptureFixture[str]
BUCKET = "arn:aws:s3:::reports/may.csv"
ALLOW = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
COMMANDS = ("serve", "check", "compile", "authorize", "explain", "simulate", "version", "snapshot")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv("IAM_SIDECAR_ADDRESS", raising=False)
    monkeypatch.delenv("IAM_SIDECAR_TOKEN_FILE", raising=False)
    monkeypatch.setenv("IAM_SIDECAR_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


def run(*arguments: object) -> int:
    """Run the command line, and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def question(action: str = "s3:GetObject") -> tuple[str, ...]:
    return ("--principal", ADA, "--action", action, "--resource", BUCKET)


def output(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [("--version",), ("version",)])
def test_version_when_asked_then_shown(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert run(*arguments) == 0
    assert capsys.readouterr().out == f"iam-sidecar {__version__}\n"


def test_version_when_it_is_for_programs_then_json(capsys: Capture) -> None:
    assert run("version", "--json") == 0
    assert output(capsys) == {"version": __version__}


def test_help_when_asked_then_every_command_is_there(capsys: Capture) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in text


@pytest.mark.parametrize(
    "command", [*[(command,) for command in COMMANDS if command != "version"], ("snapshot", "show")]
)
def test_help_when_asked_of_a_command_then_it_teaches(command: tuple[str, ...], capsys: Capture) -> None:
    assert run(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "iam-sidecar" in text
    if command != ("snapshot",):
        assert "Examples:" in text
    assert "\b" not in text


def test_help_of_serve_when_asked_then_every_setting_is_there(capsys: Capture) -> None:
    run("serve", "--help")
    text = "".join(capsys.readouterr().out.split())
    for setting in SETTINGS:
        assert setting.flag + setting.metavar in text
        assert f"[env:{setting.variable}]" in text


@pytest.mark.parametrize("arguments", [("nonsense",), ("authorize",), ("check",), ("check", ".", "--nonsense")])
def test_usage_when_it_is_wrong_then_status_2(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_check_when_the_source_is_good_then_status_0(source: Path, capsys: Capture) -> None:
    assert run("check", source) == 0
    assert capsys.readouterr().out == f"{source}: 0 errors, 0 warnings: 1 principal, 1 policy, 1 statement\n"


def test_check_when_it_is_for_programs_then_json(source: Path, capsys: Capture) -> None:
    assert run("check", source, "--json") == 0
    shown = output(capsys)
    assert (shown["ok"], shown["errors"], shown["warnings"], shown["problems"]) == (True, 0, 0, [])
    assert shown["snapshot"]["principals"] == 1
    assert len(shown["snapshot"]["revision"]) == 64


def test_check_when_the_source_is_bad_then_status_1_and_the_problems(tmp_path: Path, capsys: Capture) -> None:
    source = write_source(tmp_path / "source", action="nonsense")

    assert run("check", source) == 1
    text = capsys.readouterr().out
    assert text.startswith("accounts/main.json\n  error  $.UserDetailList[0].UserPolicyList[0].PolicyDocument")
    assert text.endswith(f"{source}: 1 error, 0 warnings\n")

    assert run("check", source, "--json") == 1
    shown = output(capsys)
    assert (shown["ok"], shown["errors"], shown["snapshot"]) == (False, 1, None)
    assert shown["problems"][0]["file"] == "accounts/main.json"


def test_check_when_there_are_warnings_then_only_strict_fails(source: Path, capsys: Capture) -> None:
    (source / "notes.txt").write_text("")

    assert run("check", source) == 0
    assert "1 warning" in capsys.readouterr().out
    assert run("check", source, "--strict") == 1


def test_check_when_asked_for_progress_then_it_goes_to_standard_error(source: Path, capsys: Capture) -> None:
    assert run("check", source, "--progress") == 0
    captured = capsys.readouterr()
    assert " of " in captured.err
    assert " of " not in captured.out


def test_check_when_there_is_no_source_then_one_clear_line(tmp_path: Path, capsys: Capture) -> None:
    assert run("check", tmp_path / "nothing") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: `")
    assert "no such file or directory" in captured.err


def test_compile_when_the_source_is_good_then_the_image_answers(source: Path, tmp_path: Path, capsys: Capture) -> None:
    image = tmp_path / "out" / "image"
    image.parent.mkdir()

    assert run("compile", source, "-o", image, "--json") == 0
    shown = output(capsys)
    assert shown["image_bytes"] == image.stat().st_size
    assert [path.name for path in image.parent.iterdir()] == ["image"]
    assert run("authorize", "--snapshot", image, *question()) == 0
    assert run("snapshot", "show", "--snapshot", image, "--json") == 0
    capsys.readouterr()
    assert run("compile", source, "-o", image) == 0
    assert shown["revision"] in capsys.readouterr().out


def test_check_when_it_is_an_image_then_it_says_whether_that_is_sound(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    image = tmp_path / "image"
    assert run("compile", source, "-o", image) == 0
    capsys.readouterr()

    assert run("check", image) == 0
    assert "1 principal" in capsys.readouterr().out
    image.write_bytes(image.read_bytes()[:-1])
    assert run("check", image) == 1
    assert capsys.readouterr().err.startswith("error: the image cannot be used")


def test_compile_when_the_source_is_bad_then_nothing_is_written(tmp_path: Path, capsys: Capture) -> None:
    source = write_source(tmp_path / "source", action="nonsense")
    (tmp_path / "image").write_bytes(b"the last good one")

    assert run("compile", source, "-o", tmp_path / "image", "--json") == 1
    assert output(capsys)["error"]["problems"][0]["file"] == "accounts/main.json"
    assert (tmp_path / "image").read_bytes() == b"the last good one"


def test_compile_when_it_cannot_be_written_then_one_clear_line(source: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("compile", source, "-o", tmp_path / "nowhere" / "image") == 1
    assert "cannot be written: no such file or directory" in capsys.readouterr().err


@pytest.fixture
def shadowed(source: Path) -> Path:
    """A source whose one policy stands in shadow for two days."""
    until = datetime.now(UTC) + timedelta(days=2)
    (source / "shadow.yaml").write_text(f"- policy: inline:{ADA}/reports\n  until: {until:%Y-%m-%d}\n")
    return source


def test_check_when_something_stands_in_shadow_then_it_says_what_and_until_when(
    shadowed: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run("check", shadowed) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"in shadow until \d{{4}}-\d\d-\d\dT00:00:00Z: policy inline:{ADA}/reports", first)
    assert run("compile", shadowed, "-o", tmp_path / "image") == 0
    assert capsys.readouterr().out.startswith(first)

    for arguments in (("check", shadowed), ("check", tmp_path / "image")):
        assert run(*arguments, "--json") == 0
        (entry,) = output(capsys)["snapshot"]["shadow"]
        assert entry == {"policy": f"inline:{ADA}/reports", "until": first.split(": ")[0].rpartition(" ")[2]}


@pytest.mark.parametrize("command", ["authorize", "explain"])
def test_questions_when_something_stands_in_shadow_then_what_would_be_is_shown(
    command: str, shadowed: Path, capsys: Capture
) -> None:
    assert run(command, "--snapshot", shadowed, *question()) == 3
    assert "\n  with what stands in shadow: ALLOW\n" in capsys.readouterr().out
    assert run(command, "--snapshot", shadowed, *question(), "--json") == 3
    assert output(capsys)["shadow_decision"] == "ALLOW"


def test_compile_when_entries_end_one_after_the_other_then_it_warns(
    shadowed: Path, tmp_path: Path, capsys: Capture
) -> None:
    with (shadowed / "shadow.yaml").open("a") as file:
        until = datetime.now(UTC) + timedelta(days=9)
        file.write(f"- {{route: orders, until: {until:%Y-%m-%d}}}\n")
    routes = [{"id": "orders", "path": "/orders", "action": "shop:List", "resource": "*"}]
    (shadowed / "routes.json").write_text(json.dumps({"routes": routes}))

    assert run("check", shadowed) == 0
    assert run("compile", "--strict", shadowed, "-o", tmp_path / "image") == 1
    assert not (tmp_path / "image").exists()
    assert run("compile", shadowed, "-o", tmp_path / "image") == 0

    assert "give all of them one date" in capsys.readouterr().err


def test_explain_when_asked_with_the_shadow_then_that_is_in_force(shadowed: Path, capsys: Capture) -> None:
    assert run("explain", "--with-shadow", "--snapshot", shadowed, *question(), "--json") == 0
    shown = output(capsys)
    assert shown["shadow_decision"] is None
    assert [match["policy"] for match in shown["matched_statements"]] == [f"inline:{ADA}/reports"]
    assert run("explain", "--with-shadow", *question()) == 1
    assert "name the files: --snapshot" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["authorize", "explain"])
def test_questions_when_asked_of_a_source_then_the_status_is_the_answer(
    command: str, source: Path, capsys: Capture
) -> None:
    assert run(command, "--snapshot", source, *question()) == 0
    assert capsys.readouterr().out.startswith(f"ALLOW\n  {ADA} is authorized to perform s3:GetObject on {BUCKET}")
    assert run(command, "--snapshot", source, *question("s3:PutObject")) == 3
    assert capsys.readouterr().out.startswith("IMPLICIT DENY\n")


def test_explain_when_it_is_for_programs_then_json(source: Path, capsys: Capture) -> None:
    assert run("explain", "--snapshot", source, *question(), "--json") == 0
    shown = output(capsys)
    assert shown["decision"] == "ALLOW"
    assert shown["matched_statements"] == [
        {
            "layer": "IDENTITY",
            "policy": f"inline:{ADA}/reports",
            "sid": "Read",
            "statement_index": 0,
            "effect": "Allow",
        }
    ]
    assert run("authorize", "--snapshot", source, *question(), "--json") == 0
    assert "matched_statements" not in output(capsys)


def test_explain_when_overridden_then_that_counts(source: Path, capsys: Capture) -> None:
    override = ("--override", "aws:PrincipalArn=arn:aws:iam::111122223333:user/eve")

    assert run("explain", "--snapshot", source, *question(), *override) == 0
    assert run("explain", "--snapshot", source, *question(), "--context", override[1]) == 1
    assert "error: " in capsys.readouterr().err


def test_questions_when_malformed_then_status_1_and_the_reason(source: Path, capsys: Capture) -> None:
    assert run("explain", "--snapshot", source, "--action", "nonsense", "--resource", "*") == 1
    assert "`action`" in capsys.readouterr().err
    assert run("explain", "--snapshot", source, *question(), "--context", "nonsense") == 1
    assert "--context: `nonsense` is no KEY=VALUE" in capsys.readouterr().err


def test_questions_when_no_sidecar_answers_then_the_way_to_one_is_named(tmp_path: Path, capsys: Capture) -> None:
    state = tmp_path / "state"
    assert run("authorize", *question(), "--address", "127.0.0.1:1") == 1
    assert "token file" in capsys.readouterr().err
    state.mkdir()
    (state / "admin.token").write_text("t" * 43)
    (state / "admin.token").chmod(0o600)
    assert run("authorize", *question(), "--address", "127.0.0.1:1") == 1
    assert capsys.readouterr().err == (
        "error: no sidecar answers at `127.0.0.1:1`\n"
        "help: start one with `iam-sidecar serve`, or name it with --address\n"
    )


@pytest.mark.parametrize("where", ["--snapshot", "--address"])
@pytest.mark.parametrize("command", ["authorize", "explain", "simulate"])
def test_questions_when_they_are_no_text_then_one_clear_line(
    command: str, where: str, source: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "admin.token").write_text("t" * 43)
    (tmp_path / "state" / "admin.token").chmod(0o600)
    place: tuple[str, ...] = (where, "127.0.0.1:1" if where == "--address" else str(source))
    if (command, where) == ("simulate", "--snapshot"):
        place = ()

    assert run(command, "--principal", f"{ADA}\udcff", "--action", "s3:GetObject", "--resource", BUCKET, *place) == 1
    assert capsys.readouterr().err.startswith("error: `")


def test_questions_when_asked_of_both_then_refused(source: Path, capsys: Capture) -> None:
    assert run("authorize", *question(), "--snapshot", source, "--address", "127.0.0.1:1") == 1
    assert "either files or a sidecar" in capsys.readouterr().err


def test_simulate_when_documents_are_given_then_they_decide(tmp_path: Path, capsys: Capture) -> None:
    document, narrow = tmp_path / "allow.json", tmp_path / "narrow.json"
    document.write_text(ALLOW)
    narrow.write_text(ALLOW.replace("s3:*", "ec2:*"))
    allow = ("--identity-policy", document)

    assert run("simulate", *question(), *allow, "--scp", document, "--scp", f"2:{document}") == 0
    capsys.readouterr()
    for more in (
        ("--permissions-boundary", narrow),
        ("--session-policy", narrow),
        ("--scp", f"1:{document}", "--scp", f"2:{narrow}"),
    ):
        assert run("simulate", *question(), *allow, *more, "--json") == 3
        assert output(capsys)["decision"] == "IMPLICIT_DENY"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scp", "2:{allow}"), "level 1 has no document"),
        (("--scp", "8:{allow}"), "there is no level `8`"),
        (("--scp", "0:{allow}"), "there is no level `0`"),
        (("--identity-policy", "{allow}.missing"), "cannot be read: no such file"),
        (("--identity-policy", "{bad}"), "the documents have 1 error"),
    ],
)
def test_simulate_when_malformed_then_one_clear_line(
    arguments: tuple[str, str], words: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "allow.json").write_text(ALLOW)
    (tmp_path / "bad.json").write_text(ALLOW.replace("s3:*", "nonsense"))
    flag, text = arguments
    text = text.format(allow=tmp_path / "allow.json", bad=tmp_path / "bad.json")

    assert run("simulate", *question(), flag, text) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pairs", "want"),
    [
        (["a:b=c"], {"a:b": ContextValue(("c",))}),
        (["a:b="], {"a:b": ContextValue(("",))}),
        (["a:b=c=d"], {"a:b": ContextValue(("c=d",))}),
        (["a:b=[]"], {"a:b": ContextValue((), True)}),
        (["a:b=[c]"], {"a:b": ContextValue(("c",), True)}),
        (["a:b=[c, d]"], {"a:b": ContextValue(("c", "d"), True)}),
        (['a:b=["c,d", "e"]'], {"a:b": ContextValue(("c,d", "e"), True)}),
        (["a:b=c", "a:b=d"], {"a:b": ContextValue(("c", "d"), True)}),
    ],
)
def test_context_when_stated_then_lists_are_lists(pairs: list[str], want: dict[str, ContextValue]) -> None:
    assert parse_context(pairs, "--context") == want


@pytest.mark.parametrize("pair", ["", "a:b", "=c"])
def test_context_when_it_is_no_pair_then_refused(pair: str) -> None:
    with pytest.raises(RequestError):
        parse_context([pair], "--context")
