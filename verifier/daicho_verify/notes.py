"""C2SP signed notes, checkpoints and witness cosignatures (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature)."""

import hashlib
import re
from dataclasses import dataclass

from daicho_verify import ed25519
from daicho_verify.errors import DisagreesError, MalformedError
from daicho_verify.jsontext import MAX_INT, decode_base64
from daicho_verify.merkle import EMPTY_ROOT, HASH_BYTES

ED25519 = 0x01
COSIGNATURE = 0x04
_KEY_ID_BYTES = 4
_MAX_NOTE_CHARACTERS = 1 << 22
_MAX_SIGNATURES = 64
_CHECKPOINT_LINES = 3
_COSIGNATURE_BYTES = 8 + 64
_KEY_NAME = r"[^\s+]+"


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A verifier key: name, 4-byte id, type byte, 32-byte Ed25519 public key."""

    name: str
    key_id: bytes
    kind: int
    public: bytes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who claims it, and the bytes after the key id."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note: the text that is signed (ends in LF) and its signature lines; `raw` is the whole."""

    raw: str
    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: origin, size, 32-byte root, and the note it was read from."""

    origin: str
    size: int
    root: bytes
    note: Note


def parse_key(text: str, field: str, kind: int) -> NoteKey:
    """Parse a vkey `name+<8 hex>+<base64 of type and key>` of the wanted type; raises MalformedError."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not re.fullmatch(_KEY_NAME, name) or not re.fullmatch(r"[0-9a-f]{8}", key_id):
        raise MalformedError(field, "must be a verifier key: name+8 hexadecimal digits+base64")
    typed = decode_base64(encoded, field)
    if len(typed) != 1 + ed25519.KEY_BYTES or typed[0] != kind:
        raise MalformedError(field, f"must hold a key of type {kind:02x} and 32 bytes")
    expected = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:_KEY_ID_BYTES]
    if expected.hex() != key_id:
        raise MalformedError(field, f"key id does not belong to this name and key (it would be {expected.hex()})")
    return NoteKey(name, expected, kind, typed[1:])


def parse_note(raw: str, field: str) -> Note:
    """Split a signed note at its last blank line; raises MalformedError."""
    if len(raw) > _MAX_NOTE_CHARACTERS:
        raise MalformedError(field, f"must have at most {_MAX_NOTE_CHARACTERS} characters")
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f]", raw):
        raise MalformedError(field, "must hold no control characters but line feeds")
    cut = raw.rfind("\n\n")
    if cut < 1 or not raw.endswith("\n") or cut + 2 == len(raw):
        raise MalformedError(field, "must be a text, an empty line and signature lines that end in a line feed")
    lines = raw[cut + 2 : -1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise MalformedError(field, f"must have at most {_MAX_SIGNATURES} signature lines")
    signatures = []
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(rf"— ({_KEY_NAME}) ([A-Za-z0-9+/=]+)", line)
        if match is None:
            raise MalformedError(field, f"signature line {number} must be '— name base64'")
        value = decode_base64(match[2], f"{field} signature line {number}")
        if len(value) <= _KEY_ID_BYTES:
            raise MalformedError(field, f"signature line {number} is too short")
        signatures.append(NoteSignature(match[1], value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:]))
    return Note(raw, raw[: cut + 1], tuple(signatures))


def parse_checkpoint(raw: str, field: str) -> Checkpoint:
    """Parse a signed checkpoint: origin, size, root, extension lines; raises MalformedError."""
    note = parse_note(raw, field)
    lines = note.text.split("\n")[:-1]
    if len(lines) < _CHECKPOINT_LINES or not all(lines):
        raise MalformedError(field, "must hold origin, size and root, and no empty line")
    origin, size_text, root_text = lines[:_CHECKPOINT_LINES]
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size_text) or int(size_text) > MAX_INT:
        raise MalformedError(field, "size must be a decimal below 2^63 without leading zeros")
    root = decode_base64(root_text, f"{field} root")
    if len(root) != HASH_BYTES:
        raise MalformedError(field, f"root must be 32 bytes, has {len(root)}")
    if size_text == "0" and root != EMPTY_ROOT:
        raise MalformedError(field, "a tree of size 0 has the root of nothing")
    return Checkpoint(origin, int(size_text), root, note)


def _lines_of(note: Note, key: NoteKey) -> list[NoteSignature]:
    return [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id)]


def check_signed(note: Note, key: NoteKey, what: str) -> str:
    """Check that `key` (type 01) signed the note; raises DisagreesError; gives the reason in words.

    A line under the key's name and id that does not verify refuses the note, also beside a good one.
    """
    lines = _lines_of(note, key)
    if not lines:
        raise DisagreesError(f"{what} holds no line by the policy's key {key.name} ({key.key_id.hex()})")
    if not all(ed25519.verify(key.public, line.value, note.text.encode()) for line in lines):
        raise DisagreesError(f"{what}: the signature by {key.name} ({key.key_id.hex()}) is false")
    return f"{what} signed by {key.name} ({key.key_id.hex()})"


def cosigned_at(note: Note, key: NoteKey) -> int | None:
    """Give the unix time (s) at which the witness `key` (type 04) cosigned; None when it did not.

    Raises DisagreesError when a line of that witness is there and false.
    """
    times = []
    for line in _lines_of(note, key):
        time = int.from_bytes(line.value[:8])
        message = f"cosignature/v1\ntime {time}\n{note.text}".encode()
        if len(line.value) != _COSIGNATURE_BYTES or not time:
            raise DisagreesError(f"the cosignature by {key.name} has a wrong form")
        if not ed25519.verify(key.public, line.value[8:], message):
            raise DisagreesError(f"the cosignature by {key.name} is false")
        times.append(time)
    return min(times, default=None)
