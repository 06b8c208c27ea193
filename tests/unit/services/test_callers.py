# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.model.errors import RequestError
from sidecar.services.callers import Caller, parse_device_name, parse_serial, parse_user


@pytest.mark.parametrize(
    ("arn", "account", "name", "serial"),
    [
        ("arn:aws:iam::111122223333:user/ada", "111122223333", "ada", "arn:aws:iam::111122223333:u2f/user/ada/k-ID"),
        (
            "arn:aws-us-gov:iam::111122223333:user/a/b/c@d",
            "111122223333",
            "c@d",
            "arn:aws-us-gov:iam::111122223333:u2f/user/c@d/k-ID",
        ),
        ("arn:aws:iam::111122223333:root", "111122223333", "root", "arn:aws:iam::111122223333:u2f/root-account/k-ID"),
    ],
)
def test_user_when_its_arn_is_one_then_it_is_taken_apart(arn: str, account: str, name: str, serial: str) -> None:
    user = parse_user(arn)

    assert (user.arn, user.account, user.name) == (arn, account, name)
    assert user.key_serial("k", "ID") == serial
    assert parse_serial(user.key_serial("k", "ID"))


@given(st.text(max_size=100) | st.from_regex(r"arn:aws:iam::[0-9]{12}:user/.*", fullmatch=True))
@example("arn:aws:iam::111122223333:user/" + "a/" * 900 + "!")
@example("arn:aws:iam::111122223333:user/\ud800")
def test_names_when_they_are_anything_then_nothing_but_our_error_comes(text: str) -> None:
    for parse in (parse_user, parse_device_name, parse_serial):
        try:
            parse(text)
        except RequestError as error:
            assert text not in str(error) or len(text) < 20


def test_caller_when_it_is_the_administrator_then_nobody_else_is() -> None:
    assert Caller.administrator("peer").is_administrator
    assert not Caller("arn:aws:iam::111122223333:user/administrator", "administrator", "peer").is_administrator
