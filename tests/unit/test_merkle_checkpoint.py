"""Checkpoints say one thing in one spelling, and only the log's own key makes them true."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from merkle.checkpoint import Checkpoint, CheckpointError, open_checkpoint, parse_checkpoint
from merkle.hashing import EMPTY_ROOT
from merkle.notes import Ed25519Signer, NoteError, join_note

ORIGIN = "daicho.invalid/3f9c"
ROOT = bytes(range(32))
ROOT_TEXT = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    ("checkpoint", "body"),
    [
        (Checkpoint(ORIGIN, 17, ROOT), f"{ORIGIN}\n17\n{ROOT_TEXT}\n"),
        (Checkpoint(ORIGIN, 0, EMPTY_ROOT), f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"),
        (Checkpoint(ORIGIN, 2**63 - 1, ROOT), f"{ORIGIN}\n9223372036854775807\n{ROOT_TEXT}\n"),
        (Checkpoint("log with spaces", 1, ROOT, ("one", "two")), f"log with spaces\n1\n{ROOT_TEXT}\none\ntwo\n"),
    ],
)
def test_a_checkpoint_reads_back_from_its_body(checkpoint: Checkpoint, body: str) -> None:
    assert checkpoint.body() == body.encode()
    assert parse_checkpoint(body.encode()) == checkpoint


@pytest.mark.parametrize(
    "body",
    [
        "",
        ORIGIN,
        f"{ORIGIN}\n17\n{ROOT_TEXT}",
        f"{ORIGIN}\n17\n",
        f"\n17\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n017\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n+17\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n-1\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n\u0661\u0667\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n9223372036854775808\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n99999999999999999999\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n17\n{ROOT_TEXT[:-1]}\n",
        f"{ORIGIN}\n17\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n17\n {ROOT_TEXT}\n",
        f"{ORIGIN}\n0\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n17\n{ROOT_TEXT}\n\n",
    ],
)
def test_any_other_spelling_is_refused(body: str) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(body.encode())


def test_an_extension_that_would_forge_a_line_is_refused() -> None:
    for extension in ("", "one\ntwo"):
        with pytest.raises(CheckpointError, match="not one line"):
            Checkpoint(ORIGIN, 1, ROOT, (extension,))


def test_only_the_key_of_the_log_makes_a_checkpoint_true() -> None:
    log, stranger = (Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate()) for _ in range(2))
    checkpoint = Checkpoint(ORIGIN, 17, ROOT)
    note = join_note(checkpoint.body(), [log.sign(checkpoint.body())])
    assert open_checkpoint(note, ORIGIN, [log.key]) == checkpoint
    with pytest.raises(NoteError):
        open_checkpoint(note, ORIGIN, [stranger.key])
    with pytest.raises(NoteError):
        open_checkpoint(note.replace(b"\n17\n", b"\n18\n"), ORIGIN, [log.key])


def test_the_checkpoint_of_another_log_is_refused_though_the_key_signed_it() -> None:
    key = Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate())
    body = Checkpoint("daicho.invalid/other", 17, ROOT).body()
    with pytest.raises(CheckpointError, match=r"not of 'daicho\.invalid/3f9c'"):
        open_checkpoint(join_note(body, [key.sign(body)]), ORIGIN, [key.key])
