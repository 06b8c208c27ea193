# SPDX-License-Identifier: Apache-2.0
"""
The wiring of everything: the only place that turns settings into objects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import disable_created_metrics

from sidecar import __version__
from sidecar.core import CheckPlan, Recorder, SessionState
from sidecar.model.check import CheckSettings
from sidecar.model.errors import InternalError, PolicySyntaxError
from sidecar.services.admin_token import AdminToken, create_admin_token, prepare_state_dir
from sidecar.services.audit import AuditFile, AuditTrail, RecordedAudit
from sidecar.services.authorizer import Authorizer
from sidecar.services.compiling import ChildCompiler
from sidecar.services.decision_log import DecisionLog
from sidecar.services.decision_log_settings import DecisionLogSettings
from sidecar.services.http_authz_metrics import PrometheusHttpAuthzMetrics
from sidecar.services.known_users import KnownUsers, KnowsUser, know_everybody
from sidecar.services.log import Log
from sidecar.services.metrics import PrometheusMetrics
from sidecar.services.mfa_journal import MfaMetrics, PrometheusMfaMetrics
from sidecar.services.mfa_opener import MfaOpener
from sidecar.services.raw_records import RecordSource
from sidecar.services.record_masks import Masker, load_mask_key
from sidecar.services.record_sink import FileSink, OutputSink, RecordSink
from sidecar.services.sessions.journal import NullSessionMetrics, PrometheusSessionMetrics, SessionJournal
from sidecar.services.sessions.keys import SESSION_KEY_FILE, SessionKeyFile
from sidecar.services.sessions.opener import RevocationOpener, SessionOpener
from sidecar.services.sessions.service import SessionService
from sidecar.services.sessions.tickets import TicketOpener
from sidecar.services.sessions.watching import SessionWatch
from sidecar.services.simulation import Simulator
from sidecar.services.snapshots import ReloadResult, SnapshotStore
from sidecar.services.spill import SPILL_FOLDER, Spill
from sidecar.services.step_up import StepUpService
from sidecar.services.watching import SourceWatcher
from sidecar.settings import Settings
from sidecar.transports.authentication import Authenticator
from sidecar.transports.certificates import TlsFiles
from sidecar.transports.challenge_service import challenge_methods, challenge_streams
from sidecar.transports.data_listener import DataListener, Recording
from sidecar.transports.decision_records import RecordRenderer
from sidecar.transports.decision_source import CoreRecords
from sidecar.transports.grpc_server import GrpcListener
from sidecar.transports.grpc_services import management_methods
from sidecar.transports.http_authz.listener import http_authz_listener
from sidecar.transports.http_server import HttpListener, build_application
from sidecar.transports.mfa_service import MFA_SERVICE, mfa_methods
from sidecar.transports.permissions import SESSION_SERVICE, Permissions
from sidecar.transports.prompt.listener import prompt_listener, prompt_url
from sidecar.transports.session_service import session_methods

if TYPE_CHECKING:
    from sidecar.services.mfa import MfaServices
    from sidecar.services.sessions.passwords import PasswordService


def configure_logging(level: str, style: str) -> Log:
    """Send log lines to standard error: for people on a terminal, else one JSON object a line."""
    is_terminal = sys.stderr.isatty()
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor
    if style == "text" or (style == "auto" and is_terminal):
        renderer = structlog.dev.ConsoleRenderer(colors=is_terminal and not os.environ.get("NO_COLOR"))
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger()
    logging.basicConfig(handlers=[_LibraryLog(log)], level=max(number, logging.WARNING), force=True)
    return log


#: Name of the SQLite file inside the state directory, which its module would bring a database for.
STORE_FILE = "mfa.db"
#: Seconds that writing the last decision records may take, however short calls are to be waited for.
_LEAST_LOG_SECONDS = 2.0
#: What the first load sends to the main thread; no signal has this number.
_LOADED = 0


def _keep(_state: SessionState) -> None:
    """Do nothing: without a data listener, who opens tokens asks for the state."""


def _leave_to_inbox(_number: int, _frame: object) -> None:
    """Do nothing: that there is a handler is what sends a signal to the main thread's inbox."""


class _LibraryLog(logging.Handler):
    """
    Passes what libraries log on to our own log.

    Thread-safety: locked by its base.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        write("library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info)


class Application:
    """
    A sidecar with all of its parts.

    Thread-safety: ``run`` belongs to the main thread, since it takes the signals.
    """

    def __init__(self, settings: Settings, *, log: Log, announce: Callable[[str], None]) -> None:
        """
        Args:
            settings: What to build.
            log: Where events go.
            announce: Is told once, in one line, that every listener is up.

        Raises:
            SettingsError: The state directory cannot be used.
        """
        self._settings = settings
        self._log = log
        self._announce = announce
        # Signals arrive here as bytes: a handler in Python would have to wait for the main thread to wake up.
        self._inbox, self._outbox = socket.socketpair()
        self._outbox.setblocking(False)
        self._first: ReloadResult | None = None
        self._is_draining = False

        prepare_state_dir(settings.state_dir)
        administrator = AdminToken(create_admin_token(settings.state_dir))
        disable_created_metrics()  # type: ignore[no-untyped-call]
        recorder = Recorder()
        metrics = PrometheusMetrics(recorder)
        recording = _recording(settings.decision_log)
        if recording is not None:
            recorder.keep_log(**dataclasses.asdict(recording))
        check = CheckPlan(check_settings(settings))
        self._data: DataListener | None = None
        if settings.data:
            self._data = DataListener(
                addresses=settings.data,
                workers=settings.workers,
                limits=settings.data_limits,
                recording=recording,
                check=check,
                log=log,
            )
            metrics.telemetry.watch(self._data)
        self._decision_log: DecisionLog | None = None
        if settings.decision_log is not None:
            source = CoreRecords(recorder=recorder, listener=self._data)
            self._decision_log = _build_decision_log(settings.decision_log, settings.state_dir, source, log)
            metrics.decision_log.watch(self._decision_log.statistics)
        self._compiler = ChildCompiler(scratch_dir=settings.state_dir, timeout=settings.compile_timeout, log=log)
        self._snapshots = SnapshotStore(
            source=settings.snapshot,
            compiler=self._compiler,
            now=time.time_ns,
            metrics=metrics,
            log=log,
            publish=self._data.publish if self._data is not None else None,
        )
        self._watcher = SourceWatcher(
            target=self._snapshots, interval=settings.watch_interval, settle=settings.watch_settle, log=log
        )
        mfa_metrics = PrometheusMfaMetrics(metrics.registry)
        audit = open_audit(settings, log=log, on_drop=mfa_metrics.record_audit_dropped)
        knows_user = KnownUsers(self._snapshots)
        self._mfa = MfaOpener(
            functools.partial(open_mfa, settings, audit=audit, metrics=mfa_metrics, log=log, knows_user=knows_user)
        )
        if any(_states_mfa(settings)) or has_store(settings):
            # What keeps devices from being used is to be told now, not to the first person who needs one.
            self._mfa.open()
        keys = session_key_file(settings)
        keys.create(time.time_ns() // 1_000_000)
        session_metrics = PrometheusSessionMetrics(metrics.registry)
        self._watch = SessionWatch(
            keys=keys,
            revocations=RevocationOpener(self._mfa, has_store=functools.partial(has_store, settings), now=time.time_ns),
            grace=settings.revocation_grace,
            now=time.time_ns,
            monotonic=time.monotonic_ns,
            metrics=session_metrics,
            log=log,
            publish=self._data.publish_sessions if self._data is not None else _keep,
        )
        authorizer = Authorizer(
            snapshots=self._snapshots,
            now=time.time_ns,
            recorder=recorder,
            sessions=lambda: self._watch.state,
            check=check,
        )
        journal = SessionJournal(audit=audit, metrics=session_metrics)
        self._sessions = SessionService(
            watch=self._watch,
            snapshots=self._snapshots,
            engine=authorizer,
            journal=journal,
            parts=SessionOpener(self._mfa, engine=authorizer, journal=journal, now=time.time_ns),
            has_store=functools.partial(has_store, settings),
            now=time.time_ns,
        )
        permissions = Permissions(authorizer)
        step_up = StepUpService(
            open_challenges=lambda: self._mfa.open().challenges,
            sessions=self._sessions,
            tickets=TicketOpener(ring=lambda: self._watch.ring, now=time.time_ns),
            prompt_url=functools.partial(prompt_url, settings.prompt),
            now=time.time_ns,
        )
        self._management = GrpcListener(
            addresses=settings.management,
            methods={
                **management_methods(
                    authorizer=authorizer,
                    simulator=Simulator(now=time.time_ns),
                    snapshots=self._snapshots,
                    permissions=permissions,
                ),
                MFA_SERVICE: {**mfa_methods(self._mfa.open, permissions), **challenge_methods(step_up)},
                SESSION_SERVICE: session_methods(self._sessions),
            },
            streams={MFA_SERVICE: challenge_streams(step_up)},
            authenticate=Authenticator(administrator=administrator, sessions=self._sessions).authenticate,
            tls=_tls_files(settings),
            with_reflection=True,
            metrics=metrics,
            log=log,
        )
        self._http: HttpListener | None = None
        if settings.http is not None:
            web = build_application(registry=metrics.registry, not_ready_because=self._not_ready_because)
            self._http = HttpListener(address=settings.http, application=web)
        self._http_authz: HttpListener | None = None
        if settings.http_authz is not None:
            self._http_authz = http_authz_listener(
                settings.http_authz,
                check=authorizer.check,
                on_error=settings.check.on_error,
                log=log,
                metrics=PrometheusHttpAuthzMetrics(metrics.registry),
            )
        self._prompt: HttpListener | None = None
        if settings.prompt is not None:
            self._prompt = prompt_listener(
                settings.prompt,
                site=settings.rp_id,
                sessions=self._sessions,
                step_up=step_up,
                permissions=permissions,
                open_mfa=self._mfa.open,
                log=log,
            )

    def run(self) -> None:
        """
        Serve until SIGTERM or SIGINT; SIGHUP reloads.

        Raises:
            SettingsError: An address cannot be listened on.
            PolicySyntaxError: The source cannot be used at the first start.
        """
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        previous = {number: signal.signal(number, _leave_to_inbox) for number in numbers}
        wakeup = signal.set_wakeup_fd(self._outbox.fileno())
        try:
            self._run()
        finally:
            self._stop()
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._inbox.close()
            self._outbox.close()

    def _run(self) -> None:
        if self._decision_log is not None:
            self._decision_log.start()
        self._watch.start()
        # Unix sockets come into being under a mask of the whole process, so they come first.
        addresses = [f"data {address}" for address in self._data.start()] if self._data is not None else []
        addresses += [f"management {address}" for address in self._management.start()]
        if self._http_authz is not None:
            addresses.append(f"http-authz {self._http_authz.start()}")
        if self._http is not None:
            addresses.append(f"http {self._http.start()}")
        if self._prompt is not None:
            addresses.append(f"prompt {self._prompt.start()}")
        threading.Thread(target=self._load_first, name="first-load", daemon=True).start()
        while True:
            for number in self._inbox.recv(64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    # Whoever sends it a second time means it.
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                    return
                if number == signal.SIGHUP:
                    self._watcher.request_reload()
                    threading.Thread(target=self._mfa.refresh, name="mfa-refresh", daemon=True).start()
                elif number == _LOADED:
                    self._begin_to_serve(addresses)

    def _begin_to_serve(self, addresses: list[str]) -> None:
        revision = self._check_first()
        self._management.set_serving(True)
        if self._data is not None:
            self._data.set_serving(True)
        self._watcher.start()
        self._announce(f"iam-sidecar {__version__} serving: {', '.join(addresses)}, snapshot {revision[:12]}")

    def _load_first(self) -> None:
        try:
            self._first = self._snapshots.reload()
        finally:
            # Nobody reads it any more if the end came first.
            with contextlib.suppress(OSError):
                self._outbox.send(bytes([_LOADED]))

    def _check_first(self) -> str:
        """Return the revision of the first snapshot, or refuse to go on without one."""
        # Not kept: it would keep the first image for ever.
        result, self._first = self._first, None
        if result is None:
            raise InternalError("the first snapshot could not be loaded", cause="see the log above")
        if result.snapshot is None:
            errors = result.errors
            count = len(errors)
            raise PolicySyntaxError(
                f"the source `{self._settings.snapshot}` cannot be used: {count} error{'s' if count != 1 else ''}",
                problems=errors,
                help=f"see them all with `iam-sidecar check {self._settings.snapshot}`",
            )
        return result.snapshot.image.revision

    def _not_ready_because(self) -> str:
        if self._is_draining:
            return "draining"
        return "" if self._snapshots.loaded is not None else "no snapshot"

    def _stop(self) -> None:
        began = time.monotonic()
        self._is_draining = True
        self._log.info("stopping")
        self._watcher.stop()
        self._snapshots.close()
        # Those who decide first: whoever asks for health is told before calls are refused.
        if self._data is not None:
            self._data.stop(self._settings.drain_timeout)
        if self._http_authz is not None:
            self._http_authz.stop()
        self._management.stop(self._settings.drain_timeout)
        if self._decision_log is not None:
            # Nobody decides any more.
            self._decision_log.stop(max(self._settings.drain_timeout, _LEAST_LOG_SECONDS))
        if self._prompt is not None:
            self._prompt.stop()
        if self._http is not None:
            self._http.stop()
        self._watch.stop()
        self._mfa.close()
        self._log.info("stopped", seconds=round(time.monotonic() - began, 3))


def check_settings(settings: Settings) -> CheckSettings:
    """Return how Envoy is answered; where people prove factors, and which cookie names them, the prompt knows."""
    if settings.prompt is None:
        return settings.check
    return dataclasses.replace(
        settings.check,
        prompt_url=settings.prompt.public_url,
        cookie_name=settings.prompt.session_cookie,
    )


def has_store(settings: Settings) -> bool:
    """Say whether there can be anybody with a device or a password, or anything that was revoked."""
    return bool(settings.store_url) or (settings.state_dir / STORE_FILE).exists()


def session_key_file(settings: Settings) -> SessionKeyFile:
    """Return the file with the keys of session tokens."""
    return SessionKeyFile(settings.session_keys or settings.state_dir / SESSION_KEY_FILE)


@contextlib.contextmanager
def open_passwords(settings: Settings, *, audit: AuditTrail) -> Iterator[PasswordService]:
    """
    Return what sets passwords, on the store that the settings name, for the length of the block.

    Raises:
        SettingsError: The store cannot be used.
        SourceUnavailableError: The store cannot be reached.
    """
    from sidecar.services.sessions.hashing import PasswordHasher
    from sidecar.services.sessions.passwords import PasswordService
    from sidecar.services.store.engine import open_store

    store = open_store(settings.store_url, state_dir=settings.state_dir)
    try:
        journal = SessionJournal(audit=audit, metrics=NullSessionMetrics())
        yield PasswordService(store=store, hasher=PasswordHasher(), journal=journal, now=time.time_ns)
    finally:
        store.close()


def _states_mfa(settings: Settings) -> tuple[object, ...]:
    """Return what somebody states who has second factors in mind."""
    return (
        settings.store_url,
        settings.mfa_key_file,
        settings.mfa_key_command,
        settings.mfa_aaguid,
        settings.mfa_metadata,
        settings.mfa_metadata_root,
        settings.mfa_trust_anchor,
        settings.mfa_attestation != "record",
    )


def open_audit(settings: Settings, *, log: Log, on_drop: Callable[[], None]) -> AuditTrail:
    """
    Return the audit trail in the file that the settings name.

    Args:
        on_drop: Is called for each record that is lost.

    Raises:
        SettingsError: The file cannot be written.
    """
    path = settings.audit_log or settings.state_dir / "audit.jsonl"
    return RecordedAudit(AuditFile(path, log=log, on_drop=on_drop), now=time.time_ns)


def open_mfa(
    settings: Settings,
    *,
    audit: AuditTrail,
    metrics: MfaMetrics,
    log: Log,
    knows_user: KnowsUser = know_everybody,
    must_exist: bool = False,
) -> MfaServices:
    """
    Return the services of second factors, on the store that the settings name.

    Args:
        log: Is told of seeds whose key is missing, and of metadata that cannot be used.
        knows_user: Says whether a user may be given a device.
        must_exist: Whether to refuse a store in a file that is not there yet.

    Raises:
        SettingsError: The store or the keys cannot be used.
        SourceUnavailableError: The store cannot be reached.
    """
    # A sidecar that keeps no devices needs neither a database nor its driver.
    from sidecar.services.attestation import AttestationSettings, AttestationSource
    from sidecar.services.mfa import build_mfa, find_keys
    from sidecar.services.mfa_journal import MfaJournal
    from sidecar.services.relying_party import RelyingParty
    from sidecar.services.store.engine import open_store

    store = open_store(settings.store_url, state_dir=settings.state_dir, must_exist=must_exist)
    try:
        keys = find_keys(
            state_dir=settings.state_dir,
            is_shared=store.is_shared,
            key_file=settings.mfa_key_file,
            key_command=settings.mfa_key_command,
        )
        attestation = AttestationSettings(
            mode=settings.mfa_attestation,
            aaguids=settings.mfa_aaguid,
            metadata=settings.mfa_metadata,
            metadata_root=settings.mfa_metadata_root,
            metadata_crls=settings.mfa_metadata_crl,
            metadata_grace_days=settings.mfa_metadata_grace_days,
            trust_anchors=settings.mfa_trust_anchor,
        )
        journal = MfaJournal(audit=audit, metrics=metrics)
        source = AttestationSource(attestation, store=store, now=time.time_ns, journal=journal, log=log)
        services = build_mfa(
            store=store,
            keys=keys,
            audit=audit,
            metrics=metrics,
            now=time.time_ns,
            knows_user=knows_user,
            relying_party=RelyingParty(
                id=settings.rp_id,
                origins=settings.allowed_origin,
                current_policy=source.current,
                requires_user_verification=settings.mfa_user_verification == "required",
                allows_sign_count_regression=settings.mfa_sign_count == "warn",
            ),
        )
        missing = services.rotation.find_missing_keys()
        if missing:
            log.error("mfa_keys_missing", keys=missing, help="put them back into the key file; until then codes fail")
        return services
    except BaseException:
        store.close()
        raise


def serve(settings: Settings) -> None:
    """
    Run a sidecar to its end.

    Raises:
        SidecarError: It cannot be started.
    """
    log = configure_logging(settings.log_level, settings.log_format)

    def announce(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def log_thread_fault(fault: threading.ExceptHookArgs) -> None:
        exc_info = (fault.exc_type, fault.exc_value, fault.exc_traceback)
        log.error("thread_failed", thread=fault.thread.name if fault.thread else "", exc_info=exc_info)

    threading.excepthook = log_thread_fault
    Application(settings, log=log, announce=announce).run()


def _recording(settings: DecisionLogSettings | None) -> Recording | None:
    """Return what the core is to record."""
    if settings is None:
        return None
    return Recording(
        ring_bytes=settings.buffer_bytes,
        allows=settings.allows,
        denials=settings.denials,
        must_record=settings.is_required,
    )


def _build_decision_log(settings: DecisionLogSettings, state_dir: Path, source: RecordSource, log: Log) -> DecisionLog:
    masker = None if settings.masks.is_empty else Masker(settings.masks, load_mask_key(state_dir))
    sink: RecordSink = (
        OutputSink()
        if settings.file is None
        else FileSink(settings.file, max_bytes=settings.file_bytes, kept=settings.files)
    )
    return DecisionLog(
        source=source,
        render=RecordRenderer(masker).render,
        sink=sink,
        spill=Spill(folder=state_dir / SPILL_FOLDER, max_bytes=settings.spill_bytes, log=log),
        may_drop=not settings.is_required,
        log=log,
    )


def _tls_files(settings: Settings) -> TlsFiles | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
