# SPDX-License-Identifier: Apache-2.0
"""``SessionService`` over bytes, and who gets past the guard of the management listener."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import AuthenticationError, PreconditionError, RequestError, SidecarError
from sidecar.services.admin_token import AdminToken
from sidecar.services.callers import Caller
from sidecar.services.store.engine import open_store
from sidecar.transports.addresses import TcpAddress
from sidecar.transports.authentication import Authenticator, authorization_of, is_open
from sidecar.transports.calls import current_caller, made_by
from sidecar.transports.grpc_server import GrpcListener
from sidecar.transports.permissions import PERMISSIONS, SESSION_SERVICE, Method
from sidecar.transports.session_service import session_methods
from sidecar.wire.sidecar.v1 import session_pb2 as pb
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR
from tests.unit.services.session_kit import ACCOUNT, PASSWORD, SessionKit, role_arn

ADMIN_TOKEN = "x" * 43
SIGN_IN = f"/{SESSION_SERVICE}/SignIn"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionKit]:
    """Sessions on a store of this module, where ada has a password."""
    folder = tmp_path_factory.mktemp("service")
    store = open_store("", state_dir=folder)
    kit = SessionKit(store, folder)
    kit.set_password()
    kit.clock.advance(1)
    yield kit
    store.close()


@pytest.fixture(scope="module")
def methods(kit: SessionKit) -> dict[str, Method]:
    """The methods by name."""
    return session_methods(kit.sessions)


@pytest.fixture(scope="module")
def authenticator(kit: SessionKit) -> Authenticator:
    """What recognizes callers."""
    return Authenticator(administrator=AdminToken(ADMIN_TOKEN), sessions=kit.sessions)


def test_methods_when_listed_then_they_are_those_of_the_contract(methods: dict[str, Method]) -> None:
    in_contract = {method.name for method in pb.DESCRIPTOR.services_by_name["SessionService"].methods}
    assert set(methods) == in_contract == set(PERMISSIONS[SESSION_SERVICE])


def test_methods_when_called_then_messages_come_and_go(kit: SessionKit, methods: dict[str, Method]) -> None:
    asked = pb.SignInRequest(account=ACCOUNT, user_name="ada", password=PASSWORD)
    with made_by(Caller.anonymous("peer")):
        session = pb.Session.FromString(methods["SignIn"](asked.SerializeToString()))
    assert session.principal_arn == ADA
    assert session.expires_at_unix_ms > kit.now_ms
    caller = kit.sessions.authenticate(session.session_token, "peer")
    with made_by(caller):
        user = pb.Session.FromString(
            methods["GetSessionToken"](pb.GetSessionTokenRequest(duration_seconds=900).SerializeToString())
        )
        assert user.expires_at_unix_ms == kit.now_ms + 900_000
        role = pb.Session.FromString(
            methods["AssumeRole"](
                pb.AssumeRoleRequest(
                    role_arn=role_arn("worker"),
                    role_session_name="ada",
                    duration_seconds=1800,
                    tags={"team": "red"},
                    transitive_tag_keys=["team"],
                    source_identity="ada",
                    external_id="EX-1",
                ).SerializeToString()
            )
        )
        said = kit.sessions.authenticate(role.session_token, "").claims
        assert said is not None
        assert (said.source_identity, said.tags[0].is_transitive) == ("ada", True)
        identity = pb.CallerIdentity.FromString(
            methods["GetCallerIdentity"](
                pb.GetCallerIdentityRequest(session_token=role.session_token).SerializeToString()
            )
        )
        assert identity.arn == role.principal_arn
        assert identity.account == ACCOUNT
        assert methods["RevokeSession"](b"") == b""
    with pytest.raises(AuthenticationError):
        kit.sessions.authenticate(role.session_token, "")


@given(name=st.sampled_from(sorted(PERMISSIONS[SESSION_SERVICE])), data=st.binary(max_size=200))
def test_methods_when_any_bytes_come_then_nothing_but_our_errors_does(
    methods: dict[str, Method], name: str, data: bytes
) -> None:
    with made_by(ADMINISTRATOR):
        try:
            methods[name](data)
        except (RequestError, PreconditionError, AuthenticationError):
            return
    raise AssertionError("the administrator is no principal")


@given(st.text(max_size=300) | st.binary(max_size=300) | st.none())
def test_header_when_it_is_anything_then_nobody_gets_in(
    authenticator: Authenticator, header: str | bytes | None
) -> None:
    variants: list[str | bytes | None] = [header]
    if isinstance(header, str):
        variants += [f"Bearer {header}", f"Bearer {header * 5}"]
    elif header is not None:
        variants.append(b"Bearer " + header * 5)
    for variant in variants:
        with pytest.raises(AuthenticationError):
            authenticator.authenticate(variant, "peer")


def test_header_when_it_carries_a_known_token_then_its_bearer_is_known(
    kit: SessionKit, authenticator: Authenticator
) -> None:
    token = kit.sign_in().session_token

    assert authenticator.authenticate(f"Bearer {ADMIN_TOKEN}", "peer") == Caller.administrator("peer")
    caller = authenticator.authenticate(f"bearer {token}", "peer")

    assert (caller.name, caller.peer, caller.token) == (ADA, "peer", token)
    assert authorization_of([("authorization", "one"), ("other", "x")]) == "one"
    assert authorization_of([("authorization", "one"), ("authorization", "one")]) is None
    assert authorization_of([]) is None


@pytest.mark.parametrize(
    ("method", "want"),
    [
        (SIGN_IN, True),
        ("/grpc.health.v1.Health/Check", True),
        ("/grpc.health.v1.Health/Watch", True),
        (f"/{SESSION_SERVICE}/SignInX", False),
        (f"/{SESSION_SERVICE}/signin", False),
        (f"/{SESSION_SERVICE}/AssumeRole", False),
        ("/grpc.health.v1.HealthX/Check", False),
        (f"//{SESSION_SERVICE}/SignIn", False),
        ("", False),
    ],
)
def test_method_when_it_needs_no_credential_then_it_is_one_of_few(method: str, want: bool) -> None:
    assert is_open(method) is want


def telling(_request: bytes) -> bytes:
    """Say who calls."""
    caller = current_caller()
    return f"{caller.name} {caller.session} {bool(caller.peer)}".encode()


@contextmanager
def listening(authenticator: Authenticator | None) -> Iterator[grpc.Channel]:
    methods: Mapping[str, Mapping[str, Method]] = {SESSION_SERVICE: {"SignIn": telling, "GetCallerIdentity": telling}}
    listener = GrpcListener(
        addresses=[TcpAddress("127.0.0.1", 0)],
        methods=methods,
        authenticate=None if authenticator is None else authenticator.authenticate,
    )
    (address,) = listener.start()
    try:
        with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield channel
    finally:
        listener.stop(1)


def call(channel: grpc.Channel, name: str, token: str = "") -> str:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    function: Callable[..., Any] = channel.unary_unary(f"/{SESSION_SERVICE}/{name}")
    return bytes(function(b"", metadata=metadata, timeout=60)).decode()


def test_listener_when_called_then_each_caller_is_who_the_header_says(
    kit: SessionKit, authenticator: Authenticator
) -> None:
    issued = kit.sign_in()
    with listening(authenticator) as channel:
        assert call(channel, "SignIn") == "anonymous  True"
        # A credential changes nothing where none is needed: nobody is to be told by it.
        assert call(channel, "SignIn", "nonsense") == "anonymous  True"
        assert call(channel, "GetCallerIdentity", ADMIN_TOKEN) == "administrator administrator True"
        assert call(channel, "GetCallerIdentity", issued.session_token) == f"{ADA} {issued.access_key_id} True"
        for token in ("", "nonsense", issued.session_token[:-2], ADMIN_TOKEN[:-1]):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, "GetCallerIdentity", token)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "NoSuchCall")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "NoSuchCall", issued.session_token)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with listening(None) as channel:
        assert call(channel, "GetCallerIdentity") == "administrator administrator True"


def test_errors_when_sessions_are_refused_then_each_is_unauthenticated(kit: SessionKit) -> None:
    for token in ("x" * 100, "A" * 9000):
        with pytest.raises(SidecarError) as caught:
            kit.sessions.authenticate(token, "")
        assert isinstance(caught.value, AuthenticationError)
        assert token not in str(caught.value)
