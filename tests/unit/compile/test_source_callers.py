# SPDX-License-Identifier: Apache-2.0
"""
``callers`` in ``routes.yaml``: whom credentials stand for, and the name of everything that can be wrong with it.
"""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.compile.callers import JWT_FILTER, JWT_PAYLOAD
from sidecar.compile.source import SourceReport
from sidecar.model.route import (
    AnonymousRule,
    ApiKeyRule,
    CallerRule,
    CertificateRule,
    ClaimTest,
    JwtRule,
    PieceSource,
    SessionTokenRule,
    TemplatePiece,
    ValueRule,
)
from tests.unit.compile.dumps import ARN, Json, expect_error, expect_warning, full_page, parse, snapshot_of

FILE = "routes.json"
ROLE = f"{ARN}:role/web"
USER = f"{ARN}:user/alice"
SESSIONS = TemplatePiece(PieceSource.TEXT, "arn:aws:sts::111122223333:assumed-role/web/")
ISSUER: Json = {"claim": "iss", "is": "https://idp.example"}
DIGEST = "0123456789abcdef" * 4


def report_of(*callers: object) -> SourceReport:
    return parse(full_page(), routes={"callers": list(callers), "routes": []})


def rules_of(*callers: object) -> tuple[CallerRule, ...]:
    report = report_of(*callers)
    table = snapshot_of(report).routes
    assert report.problems == ()
    assert table is not None
    return table.callers


def jwt(**rule: Any) -> Json:
    return {"jwt": {"rules": [_without_none({"when": [ISSUER], "role": ROLE, "session_name": "{jwt.sub}", **rule})]}}


def certificate(**rule: Any) -> Json:
    found = {"san": "spiffe://a.example/ns/{ns}/sa/web", "role": ROLE, "session_name": "{ns}", **rule}
    return {"certificate": {"rules": [_without_none(found)]}}


def api_key(**client: Any) -> Json:
    found = {"name": "batch", "sha256": [DIGEST], "role": ROLE, "session_name": "batch", **client}
    return {"api_key": {"clients": [_without_none(found)]}}


def _without_none(value: Json) -> Json:
    return {key: item for key, item in value.items() if item is not None}


def name_of(source: PieceSource, text: str, capture: int = 0) -> TemplatePiece:
    return TemplatePiece(source, text, capture, ValueRule.NAME)


def text(value: str) -> TemplatePiece:
    return TemplatePiece(PieceSource.TEXT, value)


def test_callers_when_all_kinds_are_there_then_they_stand_in_their_order() -> None:
    found = rules_of({"session_token": {}}, jwt(), certificate(), api_key(), {"anonymous": {}})
    assert found == (
        SessionTokenRule(header=True, cookie=True),
        JwtRule(
            JWT_FILTER,
            JWT_PAYLOAD,
            (ClaimTest(("iss",), ("https://idp.example",)),),
            (SESSIONS, name_of(PieceSource.JWT, "sub")),
        ),
        CertificateRule(
            (
                TemplatePiece(PieceSource.TEXT, "spiffe://a.example/ns/"),
                TemplatePiece(PieceSource.CAPTURE, "ns", 0),
                TemplatePiece(PieceSource.TEXT, "/sa/web"),
            ),
            (SESSIONS, name_of(PieceSource.CAPTURE, "ns")),
        ),
        ApiKeyRule("x-api-key", "batch", (DIGEST,), (SESSIONS, text("batch"))),
        AnonymousRule(),
    )


def test_session_token_when_it_takes_the_header_alone_then_the_cookie_is_left() -> None:
    assert rules_of({"session_token": {"cookie": False}}) == (SessionTokenRule(header=True, cookie=False),)
    assert rules_of({"session_token": None}) == (SessionTokenRule(),)


def test_jwt_when_it_has_several_rules_then_each_is_one() -> None:
    entry: Json = {
        "jwt": {
            "filter": "my.filter",
            "payload": "claims",
            "rules": [
                {
                    "when": [ISSUER, {"claim": 'a."b.c"', "is": ["x", True, -5]}],
                    "user": f"{ARN}:user/staff/{{jwt.name}}",
                },
                {"when": [ISSUER], "role": ROLE, "session_name": "web-{jwt.sub}"},
            ],
        }
    }
    first, second = rules_of(entry)
    assert first == JwtRule(
        "my.filter",
        "claims",
        (ClaimTest(("iss",), ("https://idp.example",)), ClaimTest(("a", "b.c"), ("x", "true", "-5"))),
        (text(f"{ARN}:user/staff/"), name_of(PieceSource.JWT, "name")),
    )
    assert isinstance(second, JwtRule)
    assert second.principal == (SESSIONS, text("web-"), name_of(PieceSource.JWT, "sub"))


def test_user_when_it_is_fixed_then_it_is_one_of_the_snapshot() -> None:
    (found,) = rules_of(api_key(role=None, session_name=None, user=USER))
    assert isinstance(found, ApiKeyRule)
    assert found.principal == (text(USER),)


def test_anonymous_when_it_has_a_role_then_it_is_a_session_of_it() -> None:
    (found,) = rules_of({"anonymous": {"role": ROLE, "session_name": "nobody"}})
    assert found == AnonymousRule((SESSIONS, text("nobody")))


def test_api_key_when_the_proxy_knows_the_digests_then_none_stand_here() -> None:
    (found,) = rules_of(api_key(sha256=None))
    assert isinstance(found, ApiKeyRule)
    assert found.digests == ()


@pytest.mark.parametrize(
    ("callers", "path", "words"),
    [
        ([], "", "leave `callers` out"),
        ([[]], "[0]", "must be an object"),
        ([{}], "[0]", "a caller is one thing"),
        ([{"jwts": {}}], "[0].jwts", "did you mean `jwt`"),
        ([{"session_token": {}, "anonymous": {}}], "[0]", "a caller is one thing"),
        ([{"session_token": {}}, {"session_token": {}}], "[1]", "stands twice: also at $.callers[0]"),
        ([{"anonymous": {}}, {"session_token": {}}], "[1]", "is never reached"),
        ([{"session_token": {"header": False, "cookie": False}}], "[0].session_token", "neither header nor cookie"),
        ([{"session_token": {"headers": True}}], "[0].session_token.headers", "did you mean `header`"),
        ([{"session_token": {"header": "yes"}}], "[0].session_token.header", "must be true or false"),
        ([{"session_token": []}], "[0].session_token", "must be an object"),
        ([{"jwt": {}}], "[0].jwt", "`rules` is missing"),
        ([{"jwt": {"rules": []}}], "[0].jwt.rules", "is empty"),
        ([{"jwt": {"rules": {}}}], "[0].jwt.rules", "must be a list"),
        ([{"certificate": None}], "[0].certificate", "`rules` is missing"),
        ([{"api_key": {}}], "[0].api_key", "`clients` is missing"),
        ([{"anonymous": {"roles": ROLE}}], "[0].anonymous.roles", "did you mean `role`"),
        ([{"anonymous": {"session_name": "x"}}], "[0].anonymous", "nothing says for whom"),
    ],
)
def test_callers_when_their_shape_is_wrong_then_they_are_refused(callers: list[object], path: str, words: str) -> None:
    expect_error_at(report_of(*callers), f"$.callers{path}", words)


def expect_error_at(report: SourceReport, path: str, words: str) -> None:
    """Expect that one of the errors at *path* says *words*."""
    found = [str(problem) for problem in report.problems if problem.json_path == path]
    assert any(words in text for text in found), "\n".join(map(str, report.problems))
    assert report.snapshot is None


@pytest.mark.parametrize(
    ("rule", "path", "words"),
    [
        ({"when": None}, "", "without `when`"),
        ({"when": []}, ".when", "0 tests"),
        ({"when": {}}, ".when", "must be a list"),
        ({"when": [ISSUER] * 17}, ".when", "not 1 to 16"),
        ({"when": [{"claim": "iss"}]}, ".when[0]", "without `is`"),
        ({"when": [{"is": "x"}]}, ".when[0]", "without `claim`"),
        ({"when": [{**ISSUER, "not": "x"}]}, ".when[0].not", "unknown key"),
        ({"when": [{"claim": "a..b", "is": "x"}]}, ".when[0].claim", "is not a claim"),
        ({"when": [{"claim": "iss", "is": []}]}, ".when[0].is", "not 1 to 64"),
        ({"when": [{"claim": "iss", "is": 1.5}]}, ".when[0].is", "whole numbers"),
        ({"when": [{"claim": "iss", "is": 1e3}]}, ".when[0].is", "whole numbers"),
        ({"when": [{"claim": "iss", "is": 10**15}]}, ".when[0].is", "whole numbers"),
        ({"when": [{"claim": "iss", "is": ["a", None]}]}, ".when[0].is[1]", "must be text"),
        ({"when": [{"claim": "iss", "is": "x" * 1025}]}, ".when[0].is", "cannot be the value of a claim"),
        ({"role": None}, "", "nothing says for whom"),
        ({"session_name": None}, "", "without `session_name`"),
        ({"user": USER}, "", "both `user` and `role`"),
        ({"role": "web"}, ".role", "is not the ARN of a role"),
        ({"role": f"{ARN}:user/alice"}, ".role", "is not the ARN of a role"),
        ({"role": f"{ARN}:role/{{jwt.role}}"}, ".role", "is not the ARN of a role"),
        ({"role": f"{ARN}:role/wep"}, ".role", f"did you mean `{ROLE}`"),
        ({"role": "arn:aws:iam::999988887777:role/x-y-z"}, ".role", "the snapshot has no role"),
        ({"session_name": "x"}, ".session_name", "cannot name a session"),
        ({"session_name": "a b"}, ".session_name", "cannot name a session"),
        ({"session_name": "x" * 65}, ".session_name", "more than 64 bytes"),
        ({"session_name": "a/{jwt.sub}"}, ".session_name", "cannot name a session"),
        ({"session_name": "{jwt}"}, ".session_name", "needs a name"),
        ({"session_name": "{header.x-user}"}, ".session_name", "never believed"),
        ({"session_name": "{query.user}"}, ".session_name", "never believed"),
        ({"session_name": "{host}"}, ".session_name", "never believed"),
        ({"session_name": "{peer}"}, ".session_name", "never believed"),
        ({"session_name": "{sub}"}, ".session_name", "has no `{sub}`"),
        ({"role": None, "session_name": None, "user": "alice"}, ".user", "is not the ARN of a user"),
        ({"role": None, "session_name": None, "user": f"{ARN}:user/alise"}, ".user", f"did you mean `{USER}`"),
        ({"role": None, "session_name": None, "user": f"{ARN}:{{jwt.sub}}"}, ".user", "is not the ARN of a user"),
        (
            {"role": None, "session_name": None, "user": "arn:aws:iam::999988887777:user/{jwt.sub}"},
            ".user",
            "no account 999988887777",
        ),
        ({"role": None, "session_name": None, "user": f"{ARN}:user/{{header.x}}"}, ".user", "never believed"),
    ],
)
def test_rule_of_jwt_when_a_part_is_wrong_then_it_is_refused(rule: Json, path: str, words: str) -> None:
    expect_error(report_of(jwt(**rule)), f"$.callers[0].jwt.rules[0]{path}", words, file=FILE)


def test_rule_of_jwt_when_it_does_not_ask_for_the_issuer_then_that_is_a_warning() -> None:
    report = report_of(jwt(when=[{"claim": "groups", "is": "x"}]))
    expect_warning(report, "$.callers[0].jwt.rules[0].when", "`iss`", file=FILE)


@pytest.mark.parametrize("key", ["filter", "payload"])
def test_jwt_when_the_name_of_its_metadata_is_wrong_then_it_is_refused(key: str) -> None:
    entry = jwt()
    entry["jwt"][key] = "a\0b"
    expect_error(report_of(entry), f"$.callers[0].jwt.{key}", "cannot be a name of metadata", file=FILE)


@pytest.mark.parametrize(
    ("rule", "path", "words"),
    [
        ({"san": None}, "", "without `san`"),
        ({"san": ""}, ".san", "is empty"),
        ({"san": "spiffe://a/{ns}/{ns}"}, ".san", "cannot be a name"),
        ({"san": "spiffe://a/x{ns}"}, ".san", "not a whole segment"),
        ({"san": "spiffe://a/{ns}x"}, ".san", "not a whole segment"),
        ({"san": "spiffe://a/{ns}{x}"}, ".san", "not a whole segment"),
        ({"san": "spiffe://a/*/{ns}"}, ".san", "a `*` in"),
        ({"san": "spiffe://a/{ns"}, ".san", "`{` without its `}`"),
        ({"san": "spiffe://a/\n{ns}"}, ".san", "control character"),
        ({"san": "x" * 2049}, ".san", "more than 2,048 bytes"),
        ({"san": "spiffe://a" + "".join(f"/{{n{n}}}" for n in range(17))}, ".san", "more than 16 names"),
        ({"session_name": "{jwt.sub}"}, ".session_name", "never believed"),
    ],
)
def test_rule_of_certificate_when_a_part_is_wrong_then_it_is_refused(rule: Json, path: str, words: str) -> None:
    expect_error(report_of(certificate(**rule)), f"$.callers[0].certificate.rules[0]{path}", words, file=FILE)


def test_rule_of_certificate_when_it_takes_the_whole_name_then_that_is_one_piece() -> None:
    (found,) = rules_of(certificate(san="{name}", session_name="{peer}"))
    assert isinstance(found, CertificateRule)
    assert found.name == (TemplatePiece(PieceSource.CAPTURE, "name", 0),)


@pytest.mark.parametrize(
    ("client", "path", "words"),
    [
        ({"name": None}, "", "without `name`"),
        ({"name": "a b"}, ".name", "cannot name a client"),
        ({"sha256": ["abc"]}, ".sha256[0]", "not the SHA-256 of a key"),
        ({"sha256": "abc"}, ".sha256", "not the SHA-256 of a key"),
        ({"sha256": [1]}, ".sha256[0]", "not the SHA-256 of a key"),
        ({"sha256": [DIGEST, DIGEST.upper()]}, ".sha256[1]", "the same key stands at"),
        ({"sha256": [DIGEST] * 17}, ".sha256", "more than 16"),
        ({"role": None, "session_name": None}, "", "nothing says for whom"),
        ({"key": "secret"}, ".key", "unknown key"),
    ],
)
def test_client_when_a_part_is_wrong_then_it_is_refused(client: Json, path: str, words: str) -> None:
    expect_error(report_of(api_key(**client)), f"$.callers[0].api_key.clients[0]{path}", words, file=FILE)


def test_digest_when_it_is_wrong_then_it_is_not_repeated() -> None:
    report = report_of(api_key(sha256=["the-key-itself-by-mistake"]))
    assert "the-key-itself" not in "\n".join(map(str, report.problems))


@pytest.mark.parametrize(
    ("header", "words"), [("a b", "is not the name of a header"), ("Authorization", "does not stand in")]
)
def test_api_key_when_its_header_is_wrong_then_it_is_refused(header: str, words: str) -> None:
    entry = api_key()
    entry["api_key"]["header"] = header
    expect_error(report_of(entry), "$.callers[0].api_key.header", words, file=FILE)


def test_api_keys_when_they_stand_in_two_headers_then_both_are_there() -> None:
    other = api_key(sha256=None)
    other["api_key"]["header"] = "X-Other"
    assert [rule.header for rule in rules_of(api_key(), other) if isinstance(rule, ApiKeyRule)] == [
        "x-api-key",
        "x-other",
    ]
    expect_error(report_of(api_key(), api_key(sha256=None)), "$.callers[1]", "stands twice", file=FILE)


def test_callers_when_there_are_too_many_rules_then_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.compile.callers.MAX_CALLER_RULES", 1)
    report = report_of({"session_token": {}}, {"anonymous": {}})
    expect_error(report, "$.callers", "2 rules of callers, more than 1", file=FILE)


def test_roles_when_many_are_unknown_then_only_the_first_few_are_guessed_at() -> None:
    rules = [{"when": [ISSUER], "role": f"{ARN}:role/we{n}", "session_name": "x1"} for n in range(8)]
    report = report_of({"jwt": {"rules": rules}})
    assert [problem.help == f"did you mean `{ROLE}`" for problem in report.problems] == [True] * 5 + [False] * 3
