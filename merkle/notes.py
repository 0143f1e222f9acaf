"""Signed notes (C2SP signed-note v1): a text, a blank line, one line for each signature.

Keys are named; a verifier key travels as `name+<8 hex key id>+<base64 of type and key>`. Ed25519 (type 01) is
signed and checked here; lines of any other type are carried along untouched.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KIND_ED25519 = 0x01
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100

_KEY_ID_BYTES = 4
_ED25519_KEY_BYTES = 32
_DASH = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")  # C0 without LF


class NoteError(ValueError):
    """A note, a key name or a verifier key is malformed, or a signature does not hold."""


class NoteSignature(NamedTuple):
    """One signature line: whose it claims to be, and the bytes after the key id (their form is the key's)."""

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> bytes:
        """The line as it stands in a note, with its LF."""
        blob = base64.b64encode(self.key_id + self.signature).decode()
        return f"{_DASH}{self.name} {blob}\n".encode()


class Note(NamedTuple):
    """A parsed note; nothing in it is verified yet. `text` is UTF-8 and ends with LF."""

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note's bytes."""
        return join_note(self.text, (each.encode() for each in self.signatures))


@dataclass(frozen=True)
class VerifierKey:
    """The public half of a note key. `kind` is the signature type, `public_key` what that type prescribes."""

    name: str
    kind: int
    public_key: bytes

    def __post_init__(self) -> None:
        _require_name(self.name)
        if self.kind == KIND_ED25519 and len(self.public_key) != _ED25519_KEY_BYTES:
            raise NoteError(f"note key {self.name}: an Ed25519 key of {len(self.public_key)} bytes")

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || LF || type || key)."""
        return sha256(self.name.encode() + b"\n" + self._typed_key).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed_key).decode()}"

    @property
    def _typed_key(self) -> bytes:
        return bytes([self.kind]) + self.public_key


class Ed25519Signer:
    """Signs notes under one name with one Ed25519 key (type 01)."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self.key = VerifierKey(name, KIND_ED25519, private_key.public_key().public_bytes_raw())
        self._private_key = private_key
        self._key_id = self.key.key_id  # a hash: computed once, not for every note

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> "Ed25519Signer":
        """From the 32-byte private key of RFC 8032."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, text: bytes) -> bytes:
        """The signature line for a note's text, with its LF."""
        _require_text(text)
        return NoteSignature(self.key.name, self._key_id, self._private_key.sign(text)).encode()


def parse_verifier_key(text: str) -> VerifierKey:
    """Read `name+<key id>+<base64>`. NoteError when it is malformed or the id is not the key's own."""
    name, _, rest = text.partition("+")
    key_id, _, blob = rest.partition("+")
    typed_key = decode_base64(blob, "verifier key")
    if not typed_key:
        raise NoteError("verifier key: no key in it")
    key = VerifierKey(name, typed_key[0], typed_key[1:])
    if key.key_id.hex() != key_id:
        raise NoteError(f"verifier key {name}: its id is {key.key_id.hex()}, not {key_id[:16]!r}")
    return key


def join_note(text: bytes, lines: Iterable[bytes]) -> bytes:
    """A note from its text and its signature lines (each with its LF, as `sign` gives them)."""
    _require_text(text)
    return b"".join((text, b"\n", *lines))


def parse_note(data: bytes) -> Note:
    """Take a note apart. NoteError unless well-formed: UTF-8, 1 to 100 signature lines, 1 MB at most."""
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"note: {len(data)} bytes, {MAX_NOTE_BYTES} at most")
    text, blank, lines = data.rpartition(b"\n\n")
    if not blank or not lines.endswith(b"\n"):
        raise NoteError("note: no blank line before whole signature lines")
    text += b"\n"
    _require_text(text)
    signatures = lines[:-1].split(b"\n")
    if len(signatures) > MAX_SIGNATURES:
        raise NoteError(f"note: {len(signatures)} signatures, {MAX_SIGNATURES} at most")
    return Note(text, tuple(_parse_signature(line) for line in signatures))


def open_note(data: bytes, keys: Iterable[VerifierKey]) -> tuple[bytes, tuple[VerifierKey, ...]]:
    """Parse and verify a note: its text and those of `keys` that signed it.

    1. lines of other names or key ids are ignored;
    2. a line of one of `keys` must verify, each of them;
    3. at least one must have.

    NoteError otherwise, and for a key of a type that cannot be checked here.
    """
    note = parse_note(data)
    signed_by = []
    for key in keys:
        if key.kind not in _CHECKS:
            raise NoteError(f"note key {key.name}: signature type {key.kind:02x} cannot be checked")
        lines = [each for each in note.signatures if (each.name, each.key_id) == (key.name, key.key_id)]
        for line in lines:
            _CHECKS[key.kind](key, note.text, line.signature)
        if lines:
            signed_by.append(key)
    if not signed_by:
        raise NoteError("note: no signature by a known key")
    return note.text, tuple(signed_by)


def decode_base64(text: str, where: str) -> bytes:
    """Standard base64 with padding, spelt in the one canonical way; NoteError naming `where` otherwise."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{where}: not base64") from None
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"{where}: not canonical base64")
    return data


def _check_ed25519(key: VerifierKey, text: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text)
    except InvalidSignature:
        raise NoteError(f"note: the signature of {key.name} does not hold") from None


# Cosignatures (types 04 and 06) take their place here: each has its own signed bytes.
_CHECKS: Mapping[int, Callable[[VerifierKey, bytes, bytes], None]] = {KIND_ED25519: _check_ed25519}


def _parse_signature(line: bytes) -> NoteSignature:
    text = _decode_utf8(line)
    name, space, blob = text.removeprefix(_DASH).partition(" ")
    if not text.startswith(_DASH) or not space:
        raise NoteError(f"note: {text[:80]!r} is no signature line")
    _require_name(name)
    raw = decode_base64(blob, f"note signature of {name}")
    if len(raw) <= _KEY_ID_BYTES:
        raise NoteError(f"note signature of {name}: only {len(raw)} bytes")
    return NoteSignature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _require_name(name: str) -> None:
    if not name or "+" in name or any(char.isspace() or char < " " for char in name):
        raise NoteError(f"note key name {name[:80]!r}: empty, or with a space, a control character or a plus")


def _require_text(text: bytes) -> None:
    decoded = _decode_utf8(text)
    if not decoded.endswith("\n"):
        raise NoteError("note: the text does not end its last line")
    if _CONTROL.search(decoded):
        raise NoteError("note: a control character in the text")


def _decode_utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NoteError("note: not UTF-8") from None
