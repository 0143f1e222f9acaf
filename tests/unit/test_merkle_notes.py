"""Signed notes: the example of the C2SP specification, and everything a verifier must refuse or overlook."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from merkle.notes import (
    MAX_NOTE_BYTES,
    Ed25519Signer,
    Note,
    NoteError,
    NoteSignature,
    VerifierKey,
    join_note,
    open_note,
    parse_note,
    parse_verifier_key,
)

SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

TEXT = "Zwei Zeilen,\n\nmit Lücke dazwischen.\n".encode()


def signer(name: str = "example.com/log") -> Ed25519Signer:
    return Ed25519Signer(name, Ed25519PrivateKey.generate())


def test_the_example_of_the_specification_verifies() -> None:
    key = parse_verifier_key(SPEC_KEY)
    assert (key.name, key.kind, key.key_id.hex()) == ("example.com/foo", 1, "530d903a")
    assert str(key) == SPEC_KEY
    text, signed_by = open_note(SPEC_NOTE, [key])
    assert text == b"This is an example message.\n"
    assert signed_by == (key,)


def test_a_seed_signs_as_rfc_8032_says() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = Ed25519Signer.from_seed("example.com/log", seed).key
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_a_note_signed_here_verifies_here() -> None:
    log, other = signer(), signer("example.com/other")
    note = join_note(TEXT, [log.sign(TEXT), other.sign(TEXT)])
    assert open_note(note, [other.key, log.key]) == (TEXT, (other.key, log.key))
    assert open_note(note, [log.key]) == (TEXT, (log.key,))
    assert parse_note(note).encode() == note


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])).map(lambda line: f"{line}\n".encode()))
def test_any_text_survives_being_signed_and_opened(text: bytes) -> None:
    log = signer()
    assert open_note(join_note(text, [log.sign(text)]), [log.key])[0] == text


def test_lines_of_unknown_keys_are_overlooked() -> None:
    log = signer()
    witness = NoteSignature("witness.example", b"\x01\x02\x03\x04", b"\x00" * 72)
    post_quantum = NoteSignature("witness.example", b"\x05\x06\x07\x08", b"\x00" * 2428)
    note = join_note(TEXT, [witness.encode(), log.sign(TEXT), post_quantum.encode()])
    assert open_note(note, [log.key]) == (TEXT, (log.key,))
    assert parse_note(note).signatures[0] == witness
    assert parse_note(note).signatures[2] == post_quantum


def test_a_forged_line_under_our_name_with_another_key_id_is_overlooked() -> None:
    log = signer()
    forged = NoteSignature(log.key.name, b"\xff\xff\xff\xff", b"\x00" * 64)
    assert open_note(join_note(TEXT, [forged.encode(), log.sign(TEXT)]), [log.key]) == (TEXT, (log.key,))


def test_a_forged_line_under_our_name_and_key_id_spoils_the_note() -> None:
    log = signer()
    forged = NoteSignature(log.key.name, log.key.key_id, b"\x00" * 64)
    with pytest.raises(NoteError, match="does not hold"):
        open_note(join_note(TEXT, [log.sign(TEXT), forged.encode()]), [log.key])


def test_a_note_signed_by_nobody_we_know_is_refused() -> None:
    log, stranger = signer(), signer()
    note = join_note(TEXT, [stranger.sign(TEXT)])
    for keys in ([log.key], []):
        with pytest.raises(NoteError, match="no signature by a known key"):
            open_note(note, keys)


def test_a_changed_text_or_signature_is_refused() -> None:
    log = signer()
    note = join_note(TEXT, [log.sign(TEXT)])
    cut = NoteSignature(log.key.name, log.key.key_id, parse_note(note).signatures[0].signature[:63])
    for tampered in (note.replace(b"Zwei", b"Drei"), join_note(TEXT, [cut.encode()])):
        with pytest.raises(NoteError, match="does not hold"):
            open_note(tampered, [log.key])


def test_a_known_key_of_a_type_not_checked_here_is_refused_not_trusted() -> None:
    log = signer()
    cosigner = VerifierKey("witness.example", 4, bytes(32))
    with pytest.raises(NoteError, match="type 04 cannot be checked"):
        open_note(join_note(TEXT, [log.sign(TEXT)]), [log.key, cosigner])
    assert parse_verifier_key(str(cosigner)) == cosigner


LINE = signer().sign(TEXT)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n" + LINE[:-1],
        b"text\n" + LINE,
        b"\n" + LINE,
        b"text\n\n" + LINE + b"more\n",
        b"text\n\n" + LINE.replace("— ".encode(), b"- "),
        b"text\n\n" + "— name\n".encode(),
        b"text\n\n" + "— name \n".encode(),
        b"text\n\n" + "— name AAAA\n".encode(),
        b"text\n\n" + "— name AAAAAA==\n".encode(),
        b"text\n\n" + "— name AAAAAAB=\n".encode(),
        b"text\n\n" + "— name !AAAAAA=\n".encode(),
        b"text\n\n" + "— name ÄAAAAAA=\n".encode(),
        b"text\n\n" + "—  AAAAAAA=\n".encode(),
        b"text\n\n" + "— na+me AAAAAAA=\n".encode(),
        b"text\n\n" + "— na\u2003me AAAAAAA=\n".encode(),
        b"text\n\n" + "— name AAAAAAA= \n".encode(),
        b"text\r\n\n" + LINE,
        b"te\x00xt\n\n" + LINE,
        b"te\xffxt\n\n" + LINE,
        b"text\n\n" + LINE[:-2] + b"\xff\n",
        b"text\n\n" + LINE * 101,
        b"x" * MAX_NOTE_BYTES + b"\n\n" + LINE,
    ],
)
def test_a_malformed_note_is_refused(note: bytes) -> None:
    with pytest.raises(NoteError):
        parse_note(note)


def test_sixteen_and_more_signatures_are_accepted() -> None:
    signers = [signer(f"example.com/{number}") for number in range(100)]
    note = join_note(TEXT, [each.sign(TEXT) for each in signers])
    assert open_note(note, [signers[99].key])[1] == (signers[99].key,)


@pytest.mark.parametrize("text", [b"", b"no end", b"tab\tbed\n", b"\xff\n", b"zeile\r\n"])
def test_a_text_that_no_note_may_hold_is_not_signed(text: bytes) -> None:
    with pytest.raises(NoteError):
        signer().sign(text)
    with pytest.raises(NoteError):
        join_note(text, [LINE])


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\tbed", "line\n", "nb\u00a0sp", "nul\x00"])
def test_a_key_name_outside_the_rules_is_refused(name: str) -> None:
    with pytest.raises(NoteError, match="note key name"):
        signer(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+530d903a",
        "name+530d903a+",
        "name+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        SPEC_KEY.replace("530d903a", "530D903A"),
        SPEC_KEY.replace("530d903a", "530d903b"),
        SPEC_KEY[:-4],
        SPEC_KEY.replace("foo", "f oo"),
        SPEC_KEY + "\n",
        "name+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
    ],
)
def test_a_malformed_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_verifier_key(text)


def test_a_parsed_note_is_plain_data() -> None:
    assert parse_note(SPEC_NOTE) == Note(
        b"This is an example message.\n",
        (NoteSignature("example.com/foo", bytes.fromhex("530d903a"), parse_note(SPEC_NOTE).signatures[0].signature),),
    )
