# SPDX-License-Identifier: Apache-2.0
"""
TOTP seeds sealed at rest: AES-256-GCM, bound to the device and its user, under keys that can be replaced.

The keys are text, in a file or printed by a command, one a line: a name, a blank, and 32 bytes in base64. The first
one seals; all of them open. ``#`` begins a comment.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import os
import re
import shlex
import stat
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.model.errors import InternalError, SettingsError, SourceUnavailableError

#: Name of the key file inside the state directory.
KEY_FILE = "mfa.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_TEXT = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Seconds that a key command may take.
_COMMAND_PATIENCE = 30
_FORM = "a line is a name, a blank, and 32 bytes in base64"
_MAKE = 'make one with: (umask 077; echo "key1 $(openssl rand -base64 32)" >FILE)'


class SealedSeed(NamedTuple):
    """A seed that nobody can read without the key of that name."""

    key_id: str
    sealed: bytes


class Keyring(NamedTuple):
    """
    Keys by name.

    Attributes:
        current: Name of the one that seals.
        keys: All of them, the newest first.
    """

    current: str
    keys: Mapping[str, bytes]


class KeySource(Protocol):
    """Gives the keys as they are now; may be called from any thread."""

    def read(self) -> Keyring:
        """
        Return the keys.

        Raises:
            SettingsError: They cannot be read, or are none.
        """
        ...


class KeyFile:
    """
    Keys in a file that only its owner may read.

    Thread-safety: immutable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Keyring:
        """Return the keys in the file."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            what = "it is a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0).lower()
            raise SettingsError(f"key file `{self.path}` cannot be read: {what}", help=_MAKE) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"key file `{self.path}` is not a regular file")
            if status.st_mode & 0o077:
                raise SettingsError(
                    f"key file `{self.path}` can be read by others", help="take that away with chmod 600"
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                text = file.read(_MAX_TEXT + 1)
        finally:
            os.close(descriptor)
        return parse_keys(text, f"key file `{self.path}`")

    def create(self) -> None:
        """
        Make the file with a first key, unless it is there.

        Raises:
            SettingsError: It cannot be made.
        """
        if self.path.exists():
            return
        draft = self._write_draft({_new_name(): token_bytes(_KEY_BYTES)})
        try:
            # A link never replaces: of two first starts at the same time, one wins and both read the same.
            try:
                os.link(draft, self.path)
            except FileExistsError:
                pass
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            draft.unlink(missing_ok=True)

    def add_key(self) -> str:
        """
        Put a new key before the others, and return its name.

        Raises:
            SettingsError: The file cannot be read or written.
        """
        name = _new_name()
        with self._alone():
            self._replace({name: token_bytes(_KEY_BYTES), **self.read().keys})
        return name

    def keep_keys(self, names: Sequence[str]) -> tuple[str, ...]:
        """
        Drop every key but the current one and those named, and return the names of the dropped ones.

        Raises:
            SettingsError: The file cannot be read or written.
        """
        with self._alone():
            ring = self.read()
            kept = {name: key for name, key in ring.keys.items() if name == ring.current or name in names}
            dropped = tuple(name for name in ring.keys if name not in kept)
            if dropped:
                self._replace(kept)
        return dropped

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from changing the file: of two changes at a time, one would lose its key."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, keys: Mapping[str, bytes]) -> None:
        draft = self._write_draft(keys)
        try:
            os.replace(draft, self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._unwritable(error) from None

    def _write_draft(self, keys: Mapping[str, bytes]) -> Path:
        draft = self.path.with_name(f".{self.path.name}.{token_hex(6)}")
        try:
            # Root may make and rotate what a service owns, and the service goes on reading it.
            owner = (self.path if self.path.exists() else self.path.parent).stat()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(draft, flags, 0o600), "w", encoding="ascii") as file:
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                for name, key in keys.items():
                    file.write(f"{name} {base64.b64encode(key).decode('ascii')}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._unwritable(error) from None
        return draft

    def _unwritable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"key file `{self.path}` cannot be written: {os.strerror(error.errno or 0).lower()}",
            help="run this as its owner",
        )


class KeyCommand:
    """
    Keys that a command prints, such as one that asks a vault.

    Thread-safety: immutable.
    """

    def __init__(self, command: str) -> None:
        """
        Args:
            command: Program and arguments, parted as a shell would; no shell runs.

        Raises:
            SettingsError: It is no command.
        """
        try:
            self._words = shlex.split(command)
        except ValueError:
            self._words = []
        if not self._words:
            raise SettingsError("the key command is no command")

    def read(self) -> Keyring:
        """Return the keys that the command prints now."""
        what = f"key command `{self._words[0]}`"
        try:
            run = subprocess.run(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_COMMAND_PATIENCE,
                check=False,
            )
        except OSError as error:
            raise SettingsError(f"{what} cannot be run: {os.strerror(error.errno or 0).lower()}") from None
        except subprocess.TimeoutExpired:
            raise SourceUnavailableError(f"{what} did not end within {_COMMAND_PATIENCE} seconds") from None
        if run.returncode != 0:
            raise SourceUnavailableError(f"{what} ended with status {run.returncode}")
        return parse_keys(run.stdout, what)


def parse_keys(text: bytes, where: str) -> Keyring:
    """
    Return the keys in *text*.

    Args:
        where: What to call the text in an error.

    Raises:
        SettingsError: It holds no key, a broken one, or two of one name.
    """
    if len(text) > _MAX_TEXT:
        raise SettingsError(f"{where} is larger than {_MAX_TEXT} bytes")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.decode("ascii", "replace").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            key = base64.b64decode(words[1], validate=True) if len(words) == 2 else b""
        except ValueError:
            key = b""
        # The line is not repeated: it may be a key with a typing error.
        if not _NAME.fullmatch(words[0]) or len(key) != _KEY_BYTES:
            raise SettingsError(f"{where}: line {number} holds no key", help=_FORM)
        if words[0] in keys:
            raise SettingsError(f"{where}: line {number} names `{words[0]}` a second time")
        keys[words[0]] = key
    if not keys:
        raise SettingsError(f"{where} holds no key", help=f"{_FORM}; {_MAKE}")
    return Keyring(next(iter(keys)), keys)


class SeedSealer:
    """
    Seals and opens seeds.

    Sealing always asks the source, so that no seed is sealed with a key that was replaced; opening asks it only
    for a key that is not known yet.

    Thread-safety: locked.
    """

    def __init__(self, source: KeySource, *, new_nonce: Callable[[int], bytes] = token_bytes) -> None:
        """
        Args:
            new_nonce: Gives as many random bytes.

        Raises:
            SettingsError: The source has no keys to give.
        """
        self._source = source
        self._new_nonce = new_nonce
        self._lock = threading.Lock()
        self._ring = source.read()

    def seal(self, seed: bytes, *, serial_number: str, user_arn: str) -> SealedSeed:
        """
        Return *seed* sealed with the current key, for this device of this user alone.

        Raises:
            SettingsError: The keys cannot be read.
        """
        return self._seal(self._refresh(), seed, serial_number, user_arn)

    def seal_all(self, seeds: Iterable[tuple[bytes, str, str]]) -> dict[str, SealedSeed]:
        """
        Return many seeds sealed with one current key, by serial number; the source is asked once.

        Args:
            seeds: Each with the serial number of its device and the ARN of its user.

        Raises:
            SettingsError: The keys cannot be read.
        """
        ring = self._refresh()
        return {serial: self._seal(ring, seed, serial, user_arn) for seed, serial, user_arn in seeds}

    def _seal(self, ring: Keyring, seed: bytes, serial_number: str, user_arn: str) -> SealedSeed:
        nonce = self._new_nonce(_NONCE_BYTES)
        text = AESGCM(ring.keys[ring.current]).encrypt(nonce, seed, _bound_to(serial_number, user_arn))
        return SealedSeed(ring.current, nonce + text)

    def open(self, sealed: SealedSeed, *, serial_number: str, user_arn: str) -> bytes:
        """
        Return the seed.

        Raises:
            SettingsError: The keys cannot be read.
            SourceUnavailableError: Its key is not among them.
            InternalError: It was changed, or belongs to another device or user.
        """
        key = self._ring.keys.get(sealed.key_id) or self._refresh().keys.get(sealed.key_id)
        if key is None:
            raise SourceUnavailableError(
                f"the seed of this device is sealed with key `{sealed.key_id}`, which is not there",
                help="put that key back into the key file",
            )
        nonce, text = sealed.sealed[:_NONCE_BYTES], sealed.sealed[_NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, text, _bound_to(serial_number, user_arn))
        except (InvalidTag, ValueError):
            cause = f"the sealed seed of {serial_number} does not fit its key, device and user"
            raise InternalError("the device cannot be used", cause=cause) from None

    def current_key_id(self) -> str:
        """
        Return the name of the key that seals now.

        Raises:
            SettingsError: The keys cannot be read.
        """
        return self._refresh().current

    def _refresh(self) -> Keyring:
        ring = self._source.read()
        with self._lock:
            self._ring = ring
        return ring


def _bound_to(serial_number: str, user_arn: str) -> bytes:
    """Return what a sealed seed is bound to; lengths keep the parts apart."""
    parts = (b"iam-sidecar totp seed 1", serial_number.encode(), user_arn.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _new_name() -> str:
    return f"key-{token_hex(6)}"


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
