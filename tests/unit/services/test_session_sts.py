# SPDX-License-Identifier: Apache-2.0
"""GetSessionToken, AssumeRole and GetCallerIdentity by the rules of AWS STS, decided by the real core."""

import json
import string
from typing import Any

import pytest

from sidecar.model.decision import Decision, MfaMethod
from sidecar.model.errors import (
    LimitExceededError,
    PermissionDeniedError,
    PolicySyntaxError,
    PreconditionError,
    RequestError,
    SessionInvalidError,
    SidecarError,
    StepUpRequiredError,
    ThrottledError,
)
from sidecar.model.session import MfaProof, SessionKind, SessionTag
from sidecar.services.sessions.service import CallerIdentity
from tests.authenticators import Ctap2Key
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, BOB
from tests.unit.services.session_kit import EVE, OTHER, SessionKit, allow, build_image, document, role_arn
from tests.unit.services.test_devices import together

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def test_session_token_when_a_signed_in_user_asks_then_it_is_the_users(lite: SessionKit) -> None:
    caller = lite.signed_in()
    parent = caller.claims
    assert parent is not None

    issued = lite.sessions.get_session_token(caller)

    said = lite.caller(issued).claims
    assert said is not None
    assert (said.kind, said.principal, said.principal_id) == (SessionKind.USER, ADA, parent.principal_id)
    assert (said.lineage, said.lineage_issued_at_ms) == (parent.lineage, parent.lineage_issued_at_ms)
    assert (said.person, said.person_id, said.mfa) == (ADA, parent.person_id, None)
    assert issued.expires_at_ms == lite.now_ms + 12 * HOUR_MS
    assert said.access_key_id == issued.access_key_id != parent.access_key_id


@pytest.mark.parametrize(("seconds", "is_good"), [(899, False), (900, True), (129_600, True), (129_601, False)])
def test_session_token_when_its_duration_is_stated_then_it_is_within_bounds(
    lite: SessionKit, seconds: int, is_good: bool
) -> None:
    caller = lite.signed_in()
    if is_good:
        issued = lite.sessions.get_session_token(caller, duration_seconds=seconds)
        assert issued.expires_at_ms == lite.now_ms + 1000 * seconds
    else:
        with pytest.raises(RequestError, match="between 900 and 129600"):
            lite.sessions.get_session_token(caller, duration_seconds=seconds)


def test_session_token_when_a_temporary_session_asks_then_it_is_refused(lite: SessionKit) -> None:
    caller = lite.signed_in()
    by_user = lite.caller(lite.sessions.get_session_token(caller))
    by_role = lite.caller(lite.assume(caller))

    for other in (by_user, by_role):
        with pytest.raises(PermissionDeniedError, match="cannot call GetSessionToken with session credentials"):
            lite.sessions.get_session_token(other)


def test_session_token_when_no_policy_speaks_of_it_then_it_is_given_and_when_one_denies_then_not(
    lite: SessionKit,
) -> None:
    assert lite.sessions.get_session_token(lite.signed_in(BOB)).principal_arn == BOB

    lite.snapshots.image = build_image(deny=["sts:GetSessionToken"])
    with pytest.raises(PermissionDeniedError, match="sts:GetSessionToken"):
        lite.sessions.get_session_token(lite.signed_in(ADA))


def test_session_token_when_a_code_is_given_then_the_session_has_mfa(sessions: SessionKit) -> None:
    phone = sessions.enrol_phone()
    caller = sessions.signed_in()

    issued = sessions.sessions.get_session_token(
        caller, serial_number=phone.serial_number, token_code=phone.code(sessions.clock.seconds)
    )

    said = sessions.caller(issued).claims
    assert said is not None
    assert said.mfa == MfaProof(MfaMethod.TOTP, sessions.now_ms, phone.serial_number, user_verified=False)
    accepted = [record for record in sessions.audit.records if record["event"] == "mfa.proof_accepted"]
    assert (accepted[-1]["during"], accepted[-1]["caller"]) == ("get_session_token", ADA)
    last = sessions.audit.last
    assert (last["event"], last["mfa_method"], last["peer"]) == ("session.issued", "totp", caller.peer)
    assert last["access_key_id"] == issued.access_key_id


def test_code_when_it_is_used_twice_then_the_second_time_it_is_refused_in_the_words_of_aws(lite: SessionKit) -> None:
    phone = lite.enrol_phone()
    caller, code = lite.signed_in(), phone.code(lite.clock.seconds)
    lite.assume(caller, "guarded", serial_number=phone.serial_number, token_code=code)

    with pytest.raises(
        PermissionDeniedError, match="MultiFactorAuthentication failed with invalid MFA one time pass code"
    ):
        lite.assume(caller, "plain", serial_number=phone.serial_number, token_code=code)


def test_code_when_two_calls_use_it_at_once_then_one_has_it(sessions: SessionKit) -> None:
    phone = sessions.enrol_phone()
    caller, code = sessions.signed_in(), phone.code(sessions.clock.seconds)

    results = together(
        4, lambda _: sessions.assume(caller, "guarded", serial_number=phone.serial_number, token_code=code)
    )

    refused = [result for result in results if isinstance(result, SidecarError)]
    assert len(results) - len(refused) == 1
    assert {type(error) for error in refused} <= {PermissionDeniedError, ThrottledError}


@pytest.mark.parametrize(
    "serial_number",
    ["arn:aws:iam::111122223333:mfa/another", "arn:aws:iam::111122223333:mfa/bobs", "GAHT12345678", "key"],
)
def test_code_when_the_device_is_another_then_it_is_refused_and_counts(lite: SessionKit, serial_number: str) -> None:
    phone = lite.enrol_phone()
    lite.enrol_phone(BOB, "bobs")
    if serial_number == "key":
        serial_number = lite.enrol_key(Ctap2Key()).serial_number
    caller = lite.signed_in()
    code = phone.code(lite.clock.seconds)

    for _ in range(5):
        with pytest.raises(PermissionDeniedError, match="unable to validate MFA code") as caught:
            lite.sessions.get_session_token(caller, serial_number=serial_number, token_code=code)
        assert "security key is proved in a challenge" in caught.value.help
    with pytest.raises(ThrottledError):
        lite.sessions.get_session_token(caller, serial_number=phone.serial_number, token_code=code)


@pytest.mark.parametrize(
    ("serial_number", "code", "words"),
    [
        ("arn:aws:iam::111122223333:mfa/phone", "", "must provide both"),
        ("", "123456", "must provide both"),
        ("short", "123456", "no serial number"),
        ("arn:aws:iam::111122223333:mfa/phone", "12345", "not six digits"),
        ("arn:aws:iam::111122223333:mfa/phone", "\uff11\uff12\uff13\uff14\uff15\uff16", "not six digits"),
        ("arn:aws:iam::111122223333:mfa/phone", "12345 ", "not six digits"),
    ],
)
def test_code_when_it_is_malformed_then_that_is_said_and_nothing_counts(
    lite: SessionKit, serial_number: str, code: str, words: str
) -> None:
    caller = lite.signed_in()
    for _ in range(20):
        with pytest.raises(RequestError, match=words):
            lite.sessions.get_session_token(caller, serial_number=serial_number, token_code=code)


def test_code_when_a_role_shows_it_then_it_is_refused(lite: SessionKit) -> None:
    phone = lite.enrol_phone()
    worker = lite.caller(lite.assume(lite.signed_in()))

    with pytest.raises(PermissionDeniedError, match="unable to validate MFA code"):
        lite.assume(worker, "next", serial_number=phone.serial_number, token_code=phone.code(lite.clock.seconds))


def test_role_when_it_is_assumed_then_the_session_says_so(lite: SessionKit) -> None:
    caller = lite.signed_in()
    parent = caller.claims
    assert parent is not None

    issued = lite.assume(caller, role_session_name="ada@desk", duration_seconds=7200)

    said = lite.caller(issued).claims
    assert said is not None
    assert issued.principal_arn == said.arn == "arn:aws:sts::111122223333:assumed-role/worker/ada@desk"
    assert (said.kind, said.principal_id) == (SessionKind.ROLE, "AROAWORKER00000000000")
    assert (said.person, said.lineage, said.is_chained) == (ADA, parent.lineage, False)
    assert said.expires_at_ms == lite.now_ms + 2 * HOUR_MS
    assert lite.sessions.caller_identity(lite.caller(issued)) == CallerIdentity(
        "111122223333", said.arn, "AROAWORKER00000000000:ada@desk"
    )


def test_role_when_it_is_in_another_account_that_trusts_then_it_is_assumed(lite: SessionKit) -> None:
    issued = lite.assume(lite.signed_in(), role_arn("far", OTHER))

    assert issued.principal_arn == f"arn:aws:sts::{OTHER}:assumed-role/far/ada"
    with pytest.raises(PermissionDeniedError):
        lite.assume(lite.signed_in(BOB), role_arn("far", OTHER))


@pytest.mark.parametrize("name", ["nothing", "aws-service-role/backup.amazonaws.com/linked", "next"])
def test_role_when_nobody_trusts_the_caller_then_it_is_refused_alike(lite: SessionKit, name: str) -> None:
    with pytest.raises(
        PermissionDeniedError, match="is not authorized to perform sts:AssumeRole on resource"
    ) as caught:
        lite.assume(lite.signed_in(), name)

    assert not isinstance(caught.value, StepUpRequiredError)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("arn", "is_good"),
    [
        (role_arn("plain"), True),
        ("arn:aws:iam::111122223333:user/ada", False),
        ("arn:aws:iam::111122223333:root", False),
        ("arn:aws:sts::111122223333:assumed-role/plain/x", False),
        ("plain", False),
        ("", False),
        (role_arn("p" * 3000), False),
        (role_arn("pl ain"), False),
    ],
)
def test_role_when_its_arn_is_none_then_that_is_said(lite: SessionKit, arn: str, is_good: bool) -> None:
    caller = lite.signed_in()
    if is_good:
        assert lite.assume(caller, arn).session_token
        return
    with pytest.raises(RequestError, match="no ARN of a role"):
        lite.assume(caller, arn + ":" * (":" not in arn))


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("ab", True),
        ("a" * 64, True),
        ("a_+=,.@-Z9", True),
        ("a", False),
        ("", False),
        ("a" * 65, False),
        ("a b", False),
        ("ä" * 4, False),
        ("a/b", False),
        ("ab\n", False),
    ],
)
def test_session_name_when_it_is_stated_then_it_is_of_the_form_of_aws(
    lite: SessionKit, name: str, is_good: bool
) -> None:
    caller = lite.signed_in()
    for field in ("role_session_name", "source_identity"):
        if is_good or (field == "source_identity" and not name):
            assert lite.assume(caller, **{field: name}).session_token
        else:
            with pytest.raises(RequestError) as caught:
                lite.assume(caller, **{field: name})
            assert caught.value.field == field


def test_session_name_when_a_trust_policy_looks_at_it_then_it_decides(lite: SessionKit) -> None:
    caller = lite.signed_in()

    assert lite.assume(caller, "named", role_session_name="ada").session_token
    with pytest.raises(PermissionDeniedError):
        lite.assume(caller, "named", role_session_name="bob")


@pytest.mark.parametrize(
    ("external_id", "error"),
    [
        ("EX-42", None),
        ("EX-43", PermissionDeniedError),
        ("", PermissionDeniedError),
        ("E", RequestError),
        ("E" * 1224, PermissionDeniedError),
        ("E" * 1225, RequestError),
        ("EX 42", RequestError),
        ("EX\u00e9", RequestError),
    ],
)
def test_external_id_when_a_trust_policy_asks_for_it_then_only_that_will_do(
    lite: SessionKit, external_id: str, error: type[SidecarError] | None
) -> None:
    caller = lite.signed_in()
    if error is None:
        assert lite.assume(caller, "careful", external_id=external_id).session_token
        return
    with pytest.raises(error):
        lite.assume(caller, "careful", external_id=external_id)


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        ("worker", 899, "between 900 and 43200"),
        ("worker", 43_201, "between 900 and 43200"),
        ("worker", 7201, "exceeds the MaxSessionDuration set for this role"),
        ("plain", 3601, "exceeds the MaxSessionDuration set for this role"),
        ("worker", 7200, ""),
        ("plain", 900, ""),
        ("plain", 0, ""),
    ],
)
def test_duration_when_it_is_stated_then_the_role_sets_the_limit(
    lite: SessionKit, name: str, seconds: int, words: str
) -> None:
    caller = lite.signed_in()
    if words:
        with pytest.raises(RequestError, match=words):
            lite.assume(caller, name, duration_seconds=seconds)
    else:
        issued = lite.assume(caller, name, duration_seconds=seconds)
        assert issued.expires_at_ms == lite.now_ms + 1000 * (seconds or 3600)


def test_chain_when_a_role_assumes_a_role_then_an_hour_is_the_most(lite: SessionKit) -> None:
    worker = lite.caller(lite.assume(lite.signed_in(), duration_seconds=7200))

    issued = lite.assume(worker, "next", duration_seconds=3600)

    said = lite.caller(issued).claims
    assert said is not None
    assert said.is_chained
    assert said.person == ADA
    with pytest.raises(RequestError, match="exceeds the 1 hour session limit for roles assumed by role chaining"):
        lite.assume(worker, "next", duration_seconds=3601)


def test_mfa_when_a_trust_policy_asks_for_it_then_a_code_of_the_call_will_do_and_does_not_stay(
    lite: SessionKit,
) -> None:
    phone = lite.enrol_phone()
    caller = lite.signed_in()
    with pytest.raises(StepUpRequiredError) as caught:
        lite.assume(caller, "guarded")
    assert caught.value.requirement.max_age_seconds == 299

    issued = lite.assume(
        caller, "guarded", serial_number=phone.serial_number, token_code=phone.code(lite.clock.seconds)
    )

    said = lite.caller(issued).claims
    assert said is not None
    # SPEC: IAM, configuring MFA-protected API access: a session that AssumeRole gave has no MFA.
    assert said.mfa is None


def test_mfa_when_the_callers_session_has_it_then_the_role_is_assumed_until_it_is_too_old(lite: SessionKit) -> None:
    phone = lite.enrol_phone()
    with_mfa = lite.caller(
        lite.sessions.get_session_token(
            lite.signed_in(), serial_number=phone.serial_number, token_code=phone.code(lite.clock.seconds)
        )
    )

    assert lite.assume(with_mfa, "guarded").session_token
    lite.clock.advance(299)
    assert lite.assume(with_mfa, "guarded").session_token
    lite.clock.advance(1)
    with pytest.raises(StepUpRequiredError):
        lite.assume(with_mfa, "guarded")


def test_tags_when_the_trust_policy_allows_them_then_the_session_carries_them(lite: SessionKit) -> None:
    issued = lite.assume(
        lite.signed_in(), "tagged", tags={"team": "red", "Cost.Centre": "4711"}, transitive_tag_keys=["TEAM"]
    )

    said = lite.caller(issued).claims
    assert said is not None
    assert said.tags == (SessionTag("Cost.Centre", "4711"), SessionTag("team", "red", is_transitive=True))


@pytest.mark.parametrize(
    ("name", "tags", "transitive"),
    [
        ("plain", {"team": "red"}, ()),
        ("tagged", {"team": "blue"}, ()),
        ("tagged", {"team": "red", "other": "x"}, ()),
        ("tagged", {"team": "red", "Cost.Centre": "x"}, ("Cost.Centre",)),
    ],
)
def test_tags_when_the_trust_policy_does_not_allow_tag_session_then_the_whole_call_fails(
    lite: SessionKit, name: str, tags: dict[str, str], transitive: tuple[str, ...]
) -> None:
    caller = lite.signed_in()
    assert lite.assume(caller, name).session_token

    with pytest.raises(PermissionDeniedError, match="sts:TagSession"):
        lite.assume(caller, name, tags=tags, transitive_tag_keys=transitive)


@pytest.mark.parametrize(
    ("tags", "transitive", "words"),
    [
        ({f"k{number}": "" for number in range(51)}, (), "there are 51 session tags"),
        ({"Team": "1", "team": "2"}, (), "twice"),
        ({"aws:team": "1"}, (), "belongs to AWS"),
        ({"AWS:team": "1"}, (), "belongs to AWS"),
        ({"": "1"}, (), "a key of"),
        ({"k" * 129: "1"}, (), "a key of"),
        ({"key": "v" * 257}, (), "the value of"),
        ({"ke;y": "1"}, (), "a key of"),
        ({"key": "a\nb"}, (), "the value of"),
        ({"key": "1"}, ("other",), "not among the tags"),
        ({"key": "1"}, tuple("key" for _ in range(51)), "51 transitive tag keys"),
    ],
)
def test_tags_when_they_are_not_what_aws_takes_then_that_is_said(
    lite: SessionKit, tags: dict[str, str], transitive: tuple[str, ...], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        lite.assume(lite.signed_in(), tags=tags, transitive_tag_keys=transitive)


def test_tags_when_they_are_as_many_and_as_long_as_may_be_then_they_are_taken(lite: SessionKit) -> None:
    caller = lite.signed_in()

    assert lite.assume(caller, tags={f"key{number}": "" for number in range(50)}).session_token
    assert lite.assume(caller, tags={"ключ €".replace("€", "9"): "日本 _.:/=+-@", "k" * 128: "v" * 256}).session_token
    with pytest.raises(LimitExceededError, match="percent"):
        lite.assume(caller, tags={f"{number:03}" + "k" * 125: "v" * 256 for number in range(50)})


def test_transitive_tags_when_roles_are_chained_then_they_are_handed_down_and_cannot_be_overridden(
    lite: SessionKit,
) -> None:
    worker = lite.caller(lite.assume(lite.signed_in(), tags={"team": "red", "desk": "4"}, transitive_tag_keys=["team"]))

    said = lite.caller(lite.assume(worker, "next", tags={"desk": "5"})).claims

    assert said is not None
    assert said.tags == (SessionTag("team", "red", is_transitive=True), SessionTag("desk", "5"))
    for value in ("blue", "red"):
        with pytest.raises(RequestError, match="cannot be overridden"):
            lite.assume(worker, "next", tags={"TEAM": value})
    with pytest.raises(PermissionDeniedError, match="sts:TagSession"):
        lite.assume(worker, "nexttagless")


def test_source_identity_when_it_is_set_then_it_stays_along_the_chain(lite: SessionKit) -> None:
    caller = lite.signed_in()
    worker = lite.caller(lite.assume(caller, source_identity="ada@example"))

    for asked in ({}, {"source_identity": "ada@example"}):
        said = lite.caller(lite.assume(worker, "next", **asked)).claims
        assert said is not None
        assert said.source_identity == "ada@example"
    with pytest.raises(PermissionDeniedError, match="cannot be changed"):
        lite.assume(worker, "next", source_identity="bob")
    with pytest.raises(PermissionDeniedError, match="sts:SetSourceIdentity"):
        lite.assume(worker, "nexttagless")


def test_source_identity_when_the_trust_policy_looks_at_it_then_it_decides(lite: SessionKit) -> None:
    caller = lite.signed_in()

    assert lite.assume(caller, "sourced", source_identity="ada@desk").session_token
    for name, identity in (("sourced", "eve"), ("plain", "ada@desk")):
        with pytest.raises(PermissionDeniedError, match="sts:SetSourceIdentity"):
            lite.assume(caller, name, source_identity=identity)


READING = document(allow("s3:GetObject", Resource="*"))


def test_session_policies_when_they_are_given_then_they_limit_the_role(lite: SessionKit) -> None:
    caller = lite.signed_in()
    free = lite.caller(lite.assume(caller))
    bound = lite.caller(lite.assume(caller, session_policies=[json.dumps(READING)]))

    for session, want in ((free, Decision.ALLOW), (bound, Decision.IMPLICIT_DENY)):
        assert lite.engine.decide_for(session, "sts:AssumeRole", role_arn("next")).decision is want
    with pytest.raises(PermissionDeniedError):
        lite.assume(bound, "next")


@pytest.mark.parametrize(
    ("policies", "error", "words"),
    [
        (["{}"], PolicySyntaxError, "1 error"),
        ([""], PolicySyntaxError, "1 error"),
        ([json.dumps(READING) + " " * 2048], LimitExceededError, "of at most 2048"),
        ([json.dumps(READING)] * 40, LimitExceededError, "of at most 2048"),
    ],
)
def test_session_policies_when_they_cannot_be_used_then_that_is_said(
    lite: SessionKit, policies: list[str], error: type[SidecarError], words: str
) -> None:
    with pytest.raises(error, match=words):
        lite.assume(lite.signed_in(), session_policies=policies)


def test_calls_when_the_administrator_makes_them_then_the_precondition_fails(lite: SessionKit) -> None:
    calls: list[Any] = [
        lambda: lite.sessions.get_session_token(ADMINISTRATOR),
        lambda: lite.assume(ADMINISTRATOR),
        lambda: lite.sessions.caller_identity(ADMINISTRATOR),
        lambda: lite.sessions.caller_identity(ADMINISTRATOR, "token"),
        lambda: lite.sessions.revoke(ADMINISTRATOR),
    ]
    for call in calls:
        with pytest.raises(PreconditionError, match="no principal"):
            call()


def test_identity_when_a_token_is_given_then_it_is_that_sessions(lite: SessionKit) -> None:
    caller = lite.signed_in()
    other = lite.sign_in(ADA)
    assert lite.sessions.caller_identity(caller, lite.assume(caller).session_token).user_id.endswith(":ada")
    assert lite.sessions.caller_identity(caller, other.session_token) == CallerIdentity(
        "111122223333", ADA, "AIDAADA0000000000000A"
    )
    with pytest.raises(SessionInvalidError):
        lite.sessions.caller_identity(caller, other.session_token[:-1])


def test_bob_when_no_policy_allows_him_then_he_assumes_nothing_that_trusts_the_account(lite: SessionKit) -> None:
    bob = lite.signed_in(BOB)
    for name in ("worker", "plain", "guarded"):
        with pytest.raises(PermissionDeniedError):
            lite.assume(bob, name)
    assert lite.assume(lite.signed_in(EVE), "plain").session_token


def test_role_facts_when_a_role_is_made_anew_then_its_sessions_are_over(lite: SessionKit) -> None:
    lite.set_password()
    issued = lite.sign_in()

    lite.snapshots.image = build_image(ada_id="AIDAADA0000000000000Z")

    with pytest.raises(SessionInvalidError):
        lite.caller(issued)


def test_letters_when_an_access_key_is_made_then_it_is_of_the_form_of_aws(lite: SessionKit) -> None:
    issued = lite.sessions.get_session_token(lite.signed_in())

    assert len(issued.access_key_id) == 20
    assert issued.access_key_id.startswith("ASIA")
    assert set(issued.access_key_id) <= set(string.ascii_uppercase + "234567")
    assert len(issued.secret_access_key) == 40
