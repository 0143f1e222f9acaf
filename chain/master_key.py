"""Master keys from one file (mode 0600), split into scopes so that a process holds only the part it needs.

The service that answers requests opens the promise key and the pseudonyms; wallet, log and publisher keys
open only with the signer's part. Both parts are derived from the file, so this guards against a leak of the
service's memory, not against somebody who may read the file: keep it outside the data folder and its backups.

File: JSON {"format":"daicho-master-key/1","current":2,"keys":{"1":"<64 hex>","2":"<64 hex>"}}.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chain.envelope import NONCE_BYTES, Context, MasterKeyError, SealBrokenError, WrappedKey

SIGNER: Final = "signer"
SERVICE: Final = "service"
SCOPES: Final[Mapping[str, str]] = {
    "wallet": SIGNER,
    "log": SIGNER,
    "publisher": SIGNER,
    "promise": SERVICE,
    "subject": SERVICE,
    "subject-index": SERVICE,
    "payload": SERVICE,
}
_FORMAT: Final = "daicho-master-key/1"
_KEY_BYTES: Final = 32
_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}\Z")
_MAX_FILE_BYTES: Final = 65_536


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    current: int
    keys: dict[str, str]

    def __repr__(self) -> str:
        return f"_KeyFile(current={self.current})"


class FileKeyProvider:
    """KeyEncryptionProvider over a key file. A version added later is found when it is first needed."""

    def __init__(self, path: Path, scopes: Iterable[str] = (SIGNER, SERVICE)) -> None:
        """Raise MasterKeyError when the file is missing, malformed, foreign, or open to group or others."""
        self._path = path
        self._scopes = tuple(scopes)
        self._ciphers: dict[tuple[int, str], AESGCM] = {}
        self._current = 0
        self.reload()

    def __repr__(self) -> str:
        return f"FileKeyProvider({self._path}, version {self._current}, scopes {', '.join(self._scopes)})"

    def reload(self) -> int:
        """Read the file again; its current version."""
        content = _read(self._path)
        self._ciphers = {
            (int(version), scope): AESGCM(_derive(bytes.fromhex(key), scope))
            for version, key in content.keys.items()
            for scope in self._scopes
        }
        self._current = content.current
        return self._current

    def current(self) -> int:
        """The version that new data keys are wrapped with."""
        return self._current

    def wrap(self, data_key: bytes, context: Context) -> WrappedKey:
        """Seal a data key under the current version."""
        nonce, kek = os.urandom(NONCE_BYTES), self._current
        sealed = self._cipher(kek, context).encrypt(nonce, data_key, context.associated_data(kek))
        return WrappedKey(kek, nonce, sealed)

    def unwrap(self, wrapped: WrappedKey, context: Context) -> bytes:
        """The data key under whichever version wrapped it."""
        cipher = self._cipher(wrapped.kek, context)
        try:
            return cipher.decrypt(wrapped.nonce, wrapped.sealed, context.associated_data(wrapped.kek))
        except InvalidTag:
            raise SealBrokenError(
                f"{context}: does not open under master key {wrapped.kek} (altered, or another key file)"
            ) from None

    def rewrap(self, wrapped: WrappedKey, context: Context) -> WrappedKey:
        """The same data key under the current version."""
        return self.wrap(self.unwrap(wrapped, context), context)

    def _cipher(self, kek: int, context: Context) -> AESGCM:
        scope = SCOPES.get(context.purpose)
        if scope is None or scope not in self._scopes:
            raise MasterKeyError(f"{context}: this process does not hold the master key for {context.purpose}")
        if (kek, scope) not in self._ciphers:
            self.reload()  # the operator may have added a version while this process was running
        try:
            return self._ciphers[kek, scope]
        except KeyError:
            raise MasterKeyError(f"{context}: master key {kek} is not in {self._path}") from None


def create_master_key_file(path: Path) -> None:
    """Make a file with one fresh master key, mode 0600; MasterKeyError when it exists. Never overwrites.

    A crash here leaves a whole file or none under that name (or an unused neighbour that ends in `.new`).
    """
    if path.exists():
        raise MasterKeyError(f"{path} exists: a master key is created once and never overwritten")
    _write(path, _KeyFile(_FORMAT, 1, {"1": os.urandom(_KEY_BYTES).hex()}), replace=False)


def add_master_key(path: Path) -> int:
    """Add a fresh version to the file and make it current; its number.

    The old versions stay until `rewrap` is done (and as long as backups need them). A crash here leaves the
    old file or the new one, whole.
    """
    content = _read(path)
    content.current = max(map(int, content.keys)) + 1
    content.keys[str(content.current)] = os.urandom(_KEY_BYTES).hex()
    _write(path, content, replace=True)
    return content.current


def _derive(master: bytes, scope: str) -> bytes:
    info = b"daicho master key, scope " + scope.encode()
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(master)


def _read(path: Path) -> _KeyFile:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not keep us waiting
    except FileNotFoundError:
        raise MasterKeyError(f"{path}: no master key file; create one with `daicho keys init`") from None
    except OSError as error:
        raise MasterKeyError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise MasterKeyError(f"{path} is not a plain file")
        if status.st_mode & 0o077:
            raise MasterKeyError(
                f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, only its owner may read it: chmod 600"
            )
        if status.st_uid != os.geteuid():
            raise MasterKeyError(f"{path} belongs to user {status.st_uid}, not to the user of this process")
        raw = os.read(handle, _MAX_FILE_BYTES)
    finally:
        os.close(handle)
    try:
        content = msgspec.json.decode(raw, type=_KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MasterKeyError(f"{path} is not a master key file") from None
    if (
        content.format != _FORMAT
        or str(content.current) not in content.keys
        or not all(str(int(v)) == v and int(v) > 0 for v in content.keys if v.isdecimal())
        or not all(v.isdecimal() and _HEX_KEY.match(key) for v, key in content.keys.items())
    ):
        raise MasterKeyError(f"{path} is not a {_FORMAT} file with its current key in it")
    return content


def _write(path: Path, content: _KeyFile, *, replace: bool) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if replace:
        fresh.replace(path)
    else:
        try:
            os.link(fresh, path)  # unlike a rename, fails when somebody else was faster
        except FileExistsError:
            raise MasterKeyError(f"{path} exists: a master key is never overwritten") from None
        finally:
            fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
