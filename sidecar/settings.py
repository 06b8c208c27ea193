# SPDX-License-Identifier: Apache-2.0
"""
The settings of a serving sidecar: one table, from which flags, variables, keys and documentation follow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.compile.documents import DocumentError, DuplicateKeysDict, read_yaml
from sidecar.model.check import CheckSettings
from sidecar.model.errors import SettingsError
from sidecar.services.decision_log_settings import DecisionLogSettings, parse_decision_log_settings
from sidecar.transports.addresses import Address, TcpAddress, UnixAddress, parse_address
from sidecar.transports.check_settings import parse_check_settings
from sidecar.transports.data_listener import DataLimits
from sidecar.transports.prompt.settings import (
    PromptSettings,
    default_origins,
    parse_origins,
    parse_prompt_settings,
    parse_rp_id,
)

#: Beginning of the name of each environment variable.
ENVIRONMENT_PREFIX = "IAM_SIDECAR_"
#: Word that turns a listener off.
OFF = "off"
#: Values of a switch.
YES, NO = "yes", "no"
_MAX_CONFIG_BYTES = 1024 * 1024
#: As many sockets as the core listens on.
_MAX_DATA_ADDRESSES = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One setting, and every way to state it.

    Attributes:
        name: In the code; the flag, the variable and the key of the file follow from it.
        metavar: What stands for its value in help texts.
        help: What it does.
        default: Its default as text; empty for none.
        is_list: Whether it may be stated several times (in a variable: with commas between).
        in_file: Whether it may stand in the configuration file.
        is_switch: Whether the flag takes no value; elsewhere the values are yes and no.
    """

    name: str
    metavar: str
    help: str
    default: str = ""
    is_list: bool = False
    in_file: bool = True
    is_switch: bool = False

    @property
    def flag(self) -> str:
        """Flag of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def key(self) -> str:
        """Key of the configuration file."""
        return self.name


#: Every setting of `serve`: flags, variables, keys and the page of the documentation come from here.
SETTINGS = (
    Setting("snapshot", "SOURCE", "Directory or archive of policy documents, or an image made by `compile`."),
    Setting(
        "state_dir",
        "DIR",
        "Where the administrator's token and scratch files live. Default: /var/lib/iam-sidecar for root,"
        " else iam-sidecar in $XDG_STATE_HOME or ~/.local/state.",
    ),
    Setting(
        "data",
        "ADDRESS",
        "Data listener (gRPC: Authorize, BatchAuthorize, Envoy's Check, health; no token): HOST:PORT or"
        " unix:PATH[?mode=0660&group=NAME]; may be given several times; or off.",
        "127.0.0.1:9191",
        is_list=True,
    ),
    Setting("workers", "COUNT", "Threads of the data listener, each as fast as a processor core.", "1"),
    Setting(
        "allow_remote_data",
        "",
        "Let the data listener listen on other hosts than loopback. It trusts whoever can connect, encrypting nothing.",
        NO,
        is_switch=True,
    ),
    Setting(
        "management",
        "ADDRESS",
        "Management listener (gRPC, all services): HOST:PORT or unix:PATH; may be given several times."
        " Other hosts than loopback need TLS.",
        "127.0.0.1:9192",
        is_list=True,
    ),
    Setting("http", "ADDRESS", "HTTP listener (/metrics, /livez, /readyz): HOST:PORT, or off.", "127.0.0.1:9193"),
    Setting(
        "http_authz",
        "ADDRESS",
        "HTTP authorization listener, for nginx, Traefik, Caddy and Envoy's http_service (no token): HOST:PORT on"
        " loopback, unix:PATH[?mode=0660&group=NAME], or off.",
        OFF,
    ),
    Setting(
        "prompt",
        "ADDRESS",
        "Prompt listener (the pages where people sign in and touch their keys; plain http): HOST:PORT, or off.",
        "127.0.0.1:9194",
    ),
    Setting(
        "public_url",
        "URL",
        "Where browsers find the prompt: https://HOST[:PORT], served by a proxy that speaks TLS, or http://localhost;"
        " with a path, such as https://shop.example.com/.iam-sidecar, it shares a host with what it protects."
        " Default: the first --allowed-origin; else https://RP_ID, or http://localhost and the port of --prompt.",
    ),
    Setting(
        "prompt_proxy",
        "ADDRESS",
        "Address of a proxy in front of the prompt, whose X-Forwarded-For is believed; may be given several times.",
        is_list=True,
    ),
    Setting(
        "allowed_return_url",
        "ORIGIN",
        "Origin that the prompt may send people back to, beside those of --allowed-origin: scheme, host and port; may"
        " be given several times.",
        is_list=True,
    ),
    Setting("tls_cert", "FILE", "Certificate (chain) of the management listener, PEM."),
    Setting("tls_key", "FILE", "Its private key, PEM."),
    Setting("tls_client_ca", "FILE", "Let only clients connect that hold a certificate of this authority, PEM."),
    Setting("data_max_connections", "COUNT", "Connections of the data listener that are open at once.", "1024"),
    Setting("data_max_streams", "COUNT", "Calls under way at once on one connection of the data listener.", "256"),
    Setting("data_max_header_bytes", "BYTES", "Largest header list of a call on the data listener.", "8192"),
    Setting(
        "data_message_memory",
        "BYTES",
        "Memory of each worker for messages and answers of more than a kilobyte.",
        "67108864",
    ),
    Setting("data_idle_timeout", "SECONDS", "Time without a call after which a connection to it is ended.", "600"),
    Setting("data_handshake_timeout", "SECONDS", "Longest time until a new connection to it speaks HTTP/2.", "10"),
    Setting("data_request_timeout", "SECONDS", "Longest time until a request to it is there as a whole.", "10"),
    Setting("data_write_timeout", "SECONDS", "Longest time that an answer from it waits for its reader.", "10"),
    Setting(
        "data_reset_burst",
        "COUNT",
        "Streams of one connection that may be reset at once, in each direction.",
        "1000",
    ),
    Setting("data_reset_rate", "COUNT", "Of them, how many a second gives back.", "33"),
    Setting(
        "data_control_burst",
        "COUNT",
        "Frames on one connection that are no part of a call, at once; each call gives back eight.",
        "2000",
    ),
    Setting("data_control_rate", "COUNT", "Of them, how many a second gives back.", "200"),
    Setting(
        "data_min_ping_interval",
        "SECONDS",
        "Shortest time between keepalive PINGs of a client of the data listener while it calls nothing.",
        "10",
    ),
    Setting(
        "trusted_hops",
        "COUNT",
        "Proxies in front of Envoy whose x-forwarded-for is believed, as Envoy's own xff_num_trusted_hops: aws:SourceIp"
        " is then the entry before theirs; 0: it is the peer that Envoy names.",
        "0",
    ),
    Setting(
        "check_on_error",
        "WORD",
        "What Envoy gets where a request cannot be decided: deny, which nothing turns into an allow, or error-response,"
        " so that its failure_mode_allow decides. What a client brings about is denied in any case.",
        "deny",
    ),
    Setting(
        "check_templates",
        "DIR",
        "Folder with bodies of Envoy's denials: denied.json, denied.html, step_up.json, step_up.html; what is not there"
        " is built in.",
    ),
    Setting(
        "no_step_up_hints",
        "",
        "Deny a request that a second factor would allow as any other, without a ticket and without a word of it.",
        NO,
        is_switch=True,
    ),
    Setting(
        "decision_log",
        "FILE",
        "Write a record of every decision, one JSON object a line, to this file, to stdout, or off: nowhere.",
        OFF,
    ),
    Setting(
        "decision_log_mode",
        "MODE",
        "What happens where there is no room for a record: best-effort drops it and counts it; required denies.",
        "best-effort",
    ),
    Setting("decision_log_allows", "SHARE", "Share of the allows that is recorded, from 0 to 1.", "1"),
    Setting("decision_log_denials", "SHARE", "Share of the denials that is recorded, from 0 to 1.", "1"),
    Setting(
        "decision_log_mask",
        "FIELD",
        "Write a keyed hash in place of a field, such as userIdentity.arn or requestParameters.context.payments:*;"
        " with remove: before it, leave it out; may be given several times.",
        is_list=True,
    ),
    Setting("decision_log_file_bytes", "BYTES", "Size at which the file is put aside and a new one begun.", "64MiB"),
    Setting("decision_log_files", "COUNT", "Files put aside that are kept.", "5"),
    Setting(
        "decision_log_spill_bytes",
        "BYTES",
        "Most records that wait on disk, in the state directory, while the log cannot be written; 0 for none.",
        "256MiB",
    ),
    Setting(
        "decision_log_buffer_bytes",
        "BYTES",
        "Memory of each worker for records that wait; rounded up to a power of two.",
        "4MiB",
    ),
    Setting(
        "store_url",
        "URL",
        "Where MFA devices, passwords and revocations are kept: sqlite:///FILE or postgresql://USER@HOST/NAME, which"
        " several sidecars may share."
        " Default: mfa.db in the state directory.",
    ),
    Setting(
        "mfa_key_file",
        "FILE",
        "Keys that TOTP seeds are sealed with. Default: mfa.key in the state directory, made at first use.",
    ),
    Setting("mfa_key_command", "COMMAND", "Command that prints those keys, in place of the file."),
    Setting(
        "session_keys",
        "FILE",
        "Keys that session tokens are sealed with; sidecars that share the file know each other's sessions. Default:"
        " session.keys in the state directory, made at first start.",
    ),
    Setting(
        "revocation_grace",
        "SECONDS",
        "Longest time that the store may be out of reach before session tokens are denied, since one that was revoked"
        " could not be told.",
        "60",
    ),
    Setting(
        "audit_log", "FILE", "Where audit records go, one JSON line each. Default: audit.jsonl in the state directory."
    ),
    Setting("rp_id", "NAME", "Host name that security keys are registered for; they work for no other.", "localhost"),
    Setting(
        "allowed_origin",
        "ORIGIN",
        "Origin that a security key may be used from; may be given several times. Default: https://RP_ID, and that of"
        " --public-url.",
        is_list=True,
    ),
    Setting(
        "mfa_user_verification",
        "WORD",
        "What security keys ask of their owner beside a touch: discouraged (nothing), or required (a PIN or a finger).",
        "discouraged",
    ),
    Setting(
        "mfa_sign_count",
        "WORD",
        "What becomes of a security key whose counter falls, as that of a copy does: refuse, or warn.",
        "refuse",
    ),
    Setting(
        "mfa_attestation",
        "WORD",
        "What a security key has to prove about itself: ignore (nothing), record (it is kept), require_listed (a model"
        " of --mfa-aaguid) or require_trusted (certificates that lead to a root).",
        "record",
    ),
    Setting(
        "mfa_aaguid", "UUID", "Model of security keys that may be enrolled; may be given several times.", is_list=True
    ),
    Setting("mfa_metadata", "FILE", "The FIDO Metadata Service's file (MDS3), which is obeyed."),
    Setting("mfa_metadata_root", "FILE", "Certificate that its signer leads to."),
    Setting(
        "mfa_metadata_crl",
        "FILE",
        "Revocation list of one of its signer's issuers; may be given several times.",
        is_list=True,
    ),
    Setting(
        "mfa_metadata_grace_days",
        "DAYS",
        "Days after a newer file was due on which the FIDO metadata is still used.",
        "0",
    ),
    Setting(
        "mfa_trust_anchor",
        "FILE",
        "Certificate of a further root that keys may lead to; may be given several times.",
        is_list=True,
    ),
    Setting("watch_interval", "SECONDS", "Time between two looks at the files of the source; 0 never looks.", "1"),
    Setting("watch_settle", "SECONDS", "Time without a change after which changed files are loaded.", "0.5"),
    Setting("compile_timeout", "SECONDS", "Longest time that compiling may take.", "300"),
    Setting("drain_timeout", "SECONDS", "Longest time that calls under way may take at the end.", "10"),
    Setting("log_level", "LEVEL", "Least level that is logged: debug, info, warning or error.", "info"),
    Setting("log_format", "FORMAT", "json, text, or auto: text on a terminal and json everywhere else.", "auto"),
    Setting("config", "FILE", "YAML file with settings; flags and variables win over it.", in_file=False),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, read and checked; the fields are those of ``SETTINGS``."""

    snapshot: Path
    state_dir: Path
    data: tuple[Address, ...]
    workers: int
    data_limits: DataLimits
    management: tuple[Address, ...]
    http: TcpAddress | None
    http_authz: Address | None
    prompt: PromptSettings | None
    check: CheckSettings
    decision_log: DecisionLogSettings | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    store_url: str
    mfa_key_file: Path | None
    mfa_key_command: str
    session_keys: Path | None
    revocation_grace: float
    audit_log: Path | None
    rp_id: str
    allowed_origin: tuple[str, ...]
    mfa_user_verification: str
    mfa_sign_count: str
    mfa_attestation: str
    mfa_aaguid: tuple[str, ...]
    mfa_metadata: Path | None
    mfa_metadata_root: Path | None
    mfa_metadata_crl: tuple[Path, ...]
    mfa_metadata_grace_days: int
    mfa_trust_anchor: tuple[Path, ...]
    watch_interval: float
    watch_settle: float
    compile_timeout: float
    drain_timeout: float
    log_level: str
    log_format: str


#: A value as stated: one text, or the texts of a list.
Stated = str | Sequence[str]
#: A flag as stated; a switch is there or not.
StatedFlag = Stated | bool


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """
    Return the state directory for whoever runs this.

    >>> default_state_dir({"XDG_STATE_HOME": "/home/ada/state", "HOME": "/home/ada"}).name
    'iam-sidecar'
    """
    if os.geteuid() == 0:
        return Path("/var/lib/iam-sidecar")
    state_home = environment.get("XDG_STATE_HOME", "")
    base = Path(state_home) if os.path.isabs(state_home) else Path(environment.get("HOME", "/")) / ".local" / "state"
    return base / "iam-sidecar"


def load_settings(flags: Mapping[str, StatedFlag | None], environment: Mapping[str, str]) -> Settings:
    """
    Put the settings together: a flag wins over a variable, that over the file, that over the default.

    Args:
        flags: Flags as stated, by the names of ``SETTINGS``; None where one is not.
        environment: Environment variables.

    Raises:
        SettingsError: A value cannot be used, or one is unknown.
    """
    by_variable = {setting.variable: setting for setting in SETTINGS}
    for variable in environment:
        if _is_unknown(variable, by_variable):
            raise SettingsError(
                f"there is no setting `{variable}`", help=f"the settings are {', '.join(sorted(by_variable))}"
            )
    stated: dict[str, Stated] = {}
    for setting in SETTINGS:
        flag = flags.get(setting.name)
        if flag:
            stated[setting.name] = YES if flag is True else flag
        elif environment.get(setting.variable):
            text = environment[setting.variable]
            stated[setting.name] = [part.strip() for part in text.split(",")] if setting.is_list else text
    if "config" in stated:
        for name, value in _read_config(Path(_one(stated, "config"))).items():
            stated.setdefault(name, value)
    for setting in SETTINGS:
        if setting.default:
            stated.setdefault(setting.name, [setting.default] if setting.is_list else setting.default)
    return _build_settings(stated, environment)


#: Variables of the commands that talk to a sidecar.
CLIENT_VARIABLES = frozenset(
    ENVIRONMENT_PREFIX + name
    for name in ("ADDRESS", "PROFILE", "TOKEN_FILE", "TLS_CA", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY", "TLS_SERVER_NAME")
)
#: What Kubernetes sets in every pod beside a service that is called iam-sidecar, or iam-sidecar-something.
_KUBERNETES_VARIABLE = re.compile(r"(.*_)?(SERVICE_(HOST|PORT)|PORT)(_.*)?")


def _is_unknown(variable: str, known: Container[str]) -> bool:
    """Say whether *variable* looks like a setting and is none, as a misspelt one does."""
    if not variable.startswith(ENVIRONMENT_PREFIX) or variable in known or variable in CLIENT_VARIABLES:
        return False
    return _KUBERNETES_VARIABLE.fullmatch(variable.removeprefix(ENVIRONMENT_PREFIX)) is None


def _build_settings(stated: Mapping[str, Stated], environment: Mapping[str, str]) -> Settings:
    if "snapshot" not in stated:
        raise SettingsError(
            "no snapshot is named", help="name a source with --snapshot, such as --snapshot examples/acme"
        )
    data = _data_addresses(stated)
    management = tuple(parse_address(text) for text in _many(stated, "management"))
    if not management:
        raise SettingsError("the management listener has no address", help="name one with --management")
    tls_cert, tls_key, tls_client_ca = (_path(stated, name) for name in ("tls_cert", "tls_key", "tls_client_ca"))
    if (tls_cert is None) != (tls_key is None):
        raise SettingsError("TLS needs both a certificate and its key", help="name them with --tls-cert and --tls-key")
    if tls_client_ca is not None and tls_cert is None:
        raise SettingsError("client certificates need TLS", help="add --tls-cert and --tls-key")
    for address in management:
        if isinstance(address, TcpAddress) and not address.is_loopback and tls_cert is None:
            raise SettingsError(
                f"management on `{address}` would send the token in the clear",
                help="add --tls-cert and --tls-key, or listen on loopback",
            )
    if _path(stated, "mfa_key_file") and _one(stated, "mfa_key_command"):
        raise SettingsError("keys come from a file or from a command", help="leave out one of the two")
    rp_id = parse_rp_id(_one(stated, "rp_id"))
    origins = parse_origins(_many(stated, "allowed_origin"), rp_id)
    prompt = parse_prompt_settings(
        prompt=_tcp_address(stated, "prompt"),
        public_url=_one(stated, "public_url"),
        proxies=_many(stated, "prompt_proxy"),
        return_urls=_many(stated, "allowed_return_url"),
        rp_id=rp_id,
        origins=origins,
    )
    return Settings(
        snapshot=Path(_one(stated, "snapshot")),
        state_dir=_path(stated, "state_dir") or default_state_dir(environment),
        data=data,
        workers=_count(stated, "workers", 1, 64),
        data_limits=_data_limits(stated),
        management=management,
        http=_tcp_address(stated, "http"),
        http_authz=_http_authz_address(stated),
        prompt=prompt,
        check=parse_check_settings(
            trusted_hops=_one(stated, "trusted_hops"),
            on_error=_one(stated, "check_on_error"),
            templates=_path(stated, "check_templates"),
            step_up_hints=_word(stated, "no_step_up_hints", (YES, NO)) == NO,
        ),
        decision_log=parse_decision_log_settings(
            decision_log=_one(stated, "decision_log"),
            mode=_one(stated, "decision_log_mode"),
            allows=_one(stated, "decision_log_allows"),
            denials=_one(stated, "decision_log_denials"),
            mask=_many(stated, "decision_log_mask"),
            file_bytes=_one(stated, "decision_log_file_bytes"),
            files=_one(stated, "decision_log_files"),
            spill_bytes=_one(stated, "decision_log_spill_bytes"),
            buffer_bytes=_one(stated, "decision_log_buffer_bytes"),
        ),
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        store_url=_one(stated, "store_url"),
        mfa_key_file=_path(stated, "mfa_key_file"),
        mfa_key_command=_one(stated, "mfa_key_command"),
        session_keys=_path(stated, "session_keys"),
        revocation_grace=_seconds(stated, "revocation_grace", 5, 3600),
        audit_log=_path(stated, "audit_log"),
        rp_id=rp_id,
        allowed_origin=origins or default_origins(rp_id, prompt),
        mfa_user_verification=_word(stated, "mfa_user_verification", ("discouraged", "required")),
        mfa_sign_count=_word(stated, "mfa_sign_count", ("refuse", "warn")),
        mfa_attestation=_word(stated, "mfa_attestation", ("ignore", "record", "require_listed", "require_trusted")),
        mfa_aaguid=_many(stated, "mfa_aaguid"),
        mfa_metadata=_path(stated, "mfa_metadata"),
        mfa_metadata_root=_path(stated, "mfa_metadata_root"),
        mfa_metadata_crl=tuple(Path(text) for text in _many(stated, "mfa_metadata_crl")),
        mfa_metadata_grace_days=_count(stated, "mfa_metadata_grace_days", 0, 366),
        mfa_trust_anchor=tuple(Path(text) for text in _many(stated, "mfa_trust_anchor")),
        watch_interval=_seconds(stated, "watch_interval", 0, 3600),
        watch_settle=_seconds(stated, "watch_settle", 0, 60),
        compile_timeout=_seconds(stated, "compile_timeout", 1, 86_400),
        drain_timeout=_seconds(stated, "drain_timeout", 0, 3600),
        log_level=_word(stated, "log_level", ("debug", "info", "warning", "error")),
        log_format=_word(stated, "log_format", ("auto", "json", "text")),
    )


def _data_addresses(stated: Mapping[str, Stated]) -> tuple[Address, ...]:
    texts = _many(stated, "data")
    is_remote_allowed = _word(stated, "allow_remote_data", (YES, NO)) == YES
    if texts == (OFF,):
        return ()
    addresses = tuple(parse_address(text) for text in texts)
    if not 1 <= len(addresses) <= _MAX_DATA_ADDRESSES:
        raise SettingsError(f"`data` has {len(addresses)} addresses", help=f"name 1 to {_MAX_DATA_ADDRESSES}, or {OFF}")
    for address in addresses:
        if isinstance(address, TcpAddress) and not address.is_loopback and not is_remote_allowed:
            raise SettingsError(
                f"data on `{address}` would answer whoever can reach it, in the clear",
                help="listen on loopback or a Unix socket, or add --allow-remote-data",
            )
    return addresses


def _http_authz_address(stated: Mapping[str, Stated]) -> Address | None:
    text = _one(stated, "http_authz")
    if text == OFF:
        return None
    address = parse_address(text)
    if isinstance(address, TcpAddress) and not address.is_loopback:
        raise SettingsError(
            f"http-authz on `{address}` would believe whoever can reach it, in the clear",
            help="listen on loopback or a Unix socket, beside the proxy",
        )
    return address


def _tcp_address(stated: Mapping[str, Stated], name: str) -> TcpAddress | None:
    text = _one(stated, name)
    address = None if text == OFF else parse_address(text)
    if isinstance(address, UnixAddress):
        raise SettingsError(f"`{name}`: `{text}` is no HOST:PORT")
    return address


def _data_limits(stated: Mapping[str, Stated]) -> DataLimits:
    return DataLimits(
        connections=_count(stated, "data_max_connections", 1, 1_000_000),
        streams=_count(stated, "data_max_streams", 1, 100_000),
        header_bytes=_count(stated, "data_max_header_bytes", 1024, 1024 * 1024),
        message_memory=_count(stated, "data_message_memory", 4 * 1024 * 1024, 1 << 40),
        idle_seconds=_seconds(stated, "data_idle_timeout", 0.1, 86_400),
        handshake_seconds=_seconds(stated, "data_handshake_timeout", 0.1, 3600),
        request_seconds=_seconds(stated, "data_request_timeout", 0.1, 3600),
        write_seconds=_seconds(stated, "data_write_timeout", 0.1, 3600),
        reset_burst=_count(stated, "data_reset_burst", 1, 1_000_000),
        reset_rate=_count(stated, "data_reset_rate", 1, 1_000_000),
        control_burst=_count(stated, "data_control_burst", 100, 1_000_000),
        control_rate=_count(stated, "data_control_rate", 1, 1_000_000),
        ping_seconds=_seconds(stated, "data_min_ping_interval", 0, 7200),
    )


def _read_config(path: Path) -> dict[str, Stated]:
    help = f"the keys are {', '.join(setting.key for setting in SETTINGS if setting.in_file)}"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"configuration file `{path}` cannot be read: {os.strerror(error.errno or 0).lower()}"
        ) from None
    if len(data) > _MAX_CONFIG_BYTES:
        raise SettingsError(f"configuration file `{path}` is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        document = read_yaml(data)
    except DocumentError as error:
        raise SettingsError(f"configuration file `{path}`: {error.message}", help=error.help) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"configuration file `{path}` is no list of `key: value`", help=help)
    if isinstance(document, DuplicateKeysDict):
        raise SettingsError(f"configuration file `{path}` has `{document.duplicates[0]}` more than once")
    known = {setting.key: setting for setting in SETTINGS if setting.in_file}
    stated: dict[str, Stated] = {}
    for key, value in document.items():
        setting = known.get(key)
        if setting is None:
            raise SettingsError(f"configuration file `{path}` has an unknown key `{key}`", help=help)
        if isinstance(value, str):
            stated[setting.name] = [value] if setting.is_list else value
        elif setting.is_switch and isinstance(value, bool):
            stated[setting.name] = YES if value else NO
        elif setting.is_list and isinstance(value, list) and all(isinstance(item, str) for item in value):
            stated[setting.name] = [str(item) for item in value]
        else:
            raise SettingsError(f"configuration file `{path}`: `{key}` has no text for a value", help=setting.help)
    return stated


def _one(stated: Mapping[str, Stated], name: str) -> str:
    value = stated.get(name, "")
    return value if isinstance(value, str) else ",".join(value)


def _many(stated: Mapping[str, Stated], name: str) -> tuple[str, ...]:
    value = stated.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)


def _path(stated: Mapping[str, Stated], name: str) -> Path | None:
    text = _one(stated, name)
    return Path(text) if text else None


def _seconds(stated: Mapping[str, Stated], name: str, least: float, greatest: float) -> float:
    text = _one(stated, name)
    try:
        seconds = float(text)
    except ValueError:
        raise SettingsError(f"`{name}`: `{text}` is no number of seconds") from None
    if not least <= seconds <= greatest:
        raise SettingsError(f"`{name}`: `{text}` is not between {least:g} and {greatest:g} seconds")
    return seconds


def _count(stated: Mapping[str, Stated], name: str, least: int, greatest: int) -> int:
    text = _one(stated, name)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise SettingsError(f"`{name}`: `{text}` is no whole number")
    if not least <= int(text) <= greatest:
        raise SettingsError(f"`{name}`: `{text}` is not between {least} and {greatest}")
    return int(text)


def _word(stated: Mapping[str, Stated], name: str, words: Sequence[str]) -> str:
    text = _one(stated, name)
    if text not in words:
        raise SettingsError(f"`{name}`: `{text}` is unknown", help=f"the choices are {', '.join(words)}")
    return text


def settings_page() -> str:
    """Return the table of all settings, in Markdown, as the documentation shows it."""
    rows = ["| flag | environment | key | default | what it does |", "| --- | --- | --- | --- | --- |"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "none"
        key = f"`{setting.key}`" if setting.in_file else "none"
        text = setting.help.replace("|", "\\|")
        flag = f"{setting.flag} {setting.metavar}".rstrip()
        rows.append(f"| `{flag}` | `{setting.variable}` | {key} | {default} | {text} |")
    return "\n".join(rows) + "\n"
