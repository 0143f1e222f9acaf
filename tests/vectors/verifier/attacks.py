"""Every refusal that the verifier owes, each built from an honest book by one change and named for what it is.

An attack gives the file's bytes and what is expected: the exit code, the ring (or the field) that refuses, words of the
reason, and the remembered heads or the log folder where it needs them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from tests.vectors.verifier import story as s
from tests.vectors.verifier.book import START, Data
from tests.vectors.verifier.oracle import b64, key_id, mth, note_key, seed, sign_note, uid
from tests.vectors.verifier.proofs import PublicBook

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
B = (s.KAEDE, s.WALLET_B, s.KEY_B)


@dataclass(frozen=True)
class Attack:
    """One refusal: what is shown, and how it must be refused (`where` is a ring for exit 1, a field for exit 2)."""

    shown: bytes
    code: int
    where: str
    says: str
    heads: Mapping[str, str] | None = None


def text(evidence: Data) -> bytes:
    return (json.dumps(evidence, indent=1, ensure_ascii=False) + "\n").encode()


def changed(path: str, value: Any, position: int = 8) -> Data:
    """Evidence of the story with one value replaced; `path` like "inclusion.1"; a callable value maps the old one."""
    evidence = s.story().evidence(position, anchored=28)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner: Any = evidence
    for part in parents:
        inner = inner[part]
    inner[last] = value(inner[last]) if callable(value) else value
    return evidence


def last_of(book: PublicBook) -> bytes:
    """Evidence of a book's last entry: the dishonest one."""
    return text(book.evidence(len(book.raw)))


def confirmed(**options: Any) -> PublicBook:
    """A book whose last entry confirms trade 1 in a way that the options spoil."""
    book = s.recorded()
    signer = options.pop("by_wallet", B)
    book.trade("TradeConfirmed", s.TRADES[0], options.pop("data", s.by(s.KAEDE, 1)), *signer, **options)
    return book


def after(*kinds: str) -> PublicBook:
    """A book in which wallet B confirms trade 1 after the given wallet events."""
    book = s.recorded()
    for kind in kinds:
        book.wallet_event(kind, s.WALLET_B)
    book.trade("TradeConfirmed", s.TRADES[0], s.by(s.KAEDE, 1), *B)
    return book


def rotated() -> PublicBook:
    book = s.recorded()
    book.rotate(s.WALLET_A, s.AOZORA, s.KEY_A, s.KEY_A2)
    note = s.by(s.AOZORA, 1, note="late", attachments=[])
    book.trade("TradeNoteAdded", s.TRADES[0], note, s.AOZORA, s.WALLET_A, s.KEY_A)
    return book


def high_s(signature: Data) -> Data:
    value = bytes.fromhex(signature["value"][2:])
    flipped = value[:32] + (N - int.from_bytes(value[32:64])).to_bytes(32) + bytes([55 - value[64]])
    return signature | {"value": "0x" + flipped.hex()}


def flipped(encoded: str) -> str:
    """A base64 hash of which one bit is another."""
    return encoded[:1] + ("B" if encoded[1] != "B" else "C") + encoded[2:]


def fork() -> PublicBook:
    """The story, but its last entry is another: a second history of the same size under the same key."""
    book = s.story()
    book.raw.pop()
    book.entries.pop()
    book.append("CompanyResumed", "Company", uid(s.KAEDE), {"code": s.KAEDE, "reason": "paid"})
    return book


def backdated() -> PublicBook:
    earlier = START.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return confirmed(change=lambda entry: entry.update(recorded_at=earlier))


def hidden_freeze() -> bytes:
    evidence = after("WalletFrozen", "WalletUnfrozen").evidence(10)
    del evidence["author"]["wallet"][1]
    return text(evidence)


def second_signer() -> PublicBook:
    book = s.recorded()
    book.rotate(s.WALLET_A, s.AOZORA, s.KEY_A, s.KEY_A2, second=s.KEY_A)
    return book


def other_salt(encoded: str) -> str:
    entry = s.story().entries[7] | {"salt": "0" * 32}
    assert encoded
    return b64(rfc8785.dumps(entry))


def signed_size(size: int | str) -> bytes:
    """Evidence of the last entry whose checkpoint the log signed with another size over the same root."""
    book = s.story()
    evidence = book.evidence(28)
    body = f"{book.origin}\n{size}\n{b64(mth(book.leaves))}\n"
    line = (book.origin, key_id(book.origin, book.log_key), book.log_key.sign(body.encode()))
    return text(evidence | {"checkpoint": sign_note(body, line)})


def other_signature(**domain: Any) -> bytes:
    return last_of(confirmed(**domain))


def false_witness() -> bytes:
    evidence = s.story().evidence(8, witnesses=["kita"])
    head, _, line = evidence["checkpoint"].rstrip("\n").rpartition("\n")
    return text(evidence | {"checkpoint": f"{head}\n{line[:-8]}{flipped(line[-8:])}\n"})


ATTACKS: dict[str, Callable[[], Attack]] = {
    "wrong-leaf": lambda: Attack(text(changed("entry.bytes", other_salt)), 1, "inclusion", "is not at position 8"),
    "swapped-proof-hash": lambda: Attack(
        text(changed("inclusion", lambda h: [h[1], h[0], *h[2:]])), 1, "inclusion", "is not at position 8"
    ),
    "hash-of-31-bytes": lambda: Attack(text(changed("inclusion.1", b64(bytes(31)))), 2, "inclusion[1]", "32 bytes"),
    "position-off-by-one": lambda: Attack(
        text(changed("entry.position", 9)), 1, "entry", "says position 8, the proof is for 9"
    ),
    "size-off-by-one": lambda: Attack(signed_size(29), 1, "inclusion", "is not at position 28"),
    "position-beyond-size": lambda: Attack(signed_size(27), 1, "inclusion", "beyond the checkpoint's size 27"),
    "foreign-origin": lambda: Attack(
        text(s.story(origin="daicho.invalid/other").evidence(8)), 1, "entry", "the policy is for daicho.invalid/3f9c"
    ),
    "foreign-checkpoint": lambda: Attack(
        text(changed("checkpoint", s.story(origin="daicho.invalid/other").checkpoint())),
        1,
        "entry",
        "with a checkpoint of daicho.invalid/other",
    ),
    "foreign-entry": lambda: Attack(
        last_of(confirmed(change=lambda entry: entry.update(log="daicho.invalid/other"))),
        1,
        "entry",
        "belongs to the log daicho.invalid/other",
    ),
    "unknown-key": lambda: Attack(
        text(changed("checkpoint", s.story().checkpoint(key=note_key("impostor")))),
        1,
        "log-signature",
        "no line by the policy's key",
    ),
    "false-log-signature": lambda: Attack(
        text(changed("checkpoint", lambda note: note[:-12] + flipped(note[-12:]))),
        1,
        "log-signature",
        "is false",
    ),
    "false-cosignature": lambda: Attack(false_witness(), 1, "witnesses", "is false"),
    "second-head-of-equal-size": lambda: Attack(
        text(fork().evidence(8)), 1, "head", "two signed heads of size 28", {s.story().origin: s.story().checkpoint()}
    ),
    "wrong-chain-id": lambda: Attack(text(changed("anchor.chain_id", 1)), 1, "chain", "anchored on chain 1,"),
    "wrong-contract": lambda: Attack(
        text(changed("anchor.contract", "0x" + "11" * 20)), 1, "chain", "anchored at contract 0x1111"
    ),
    "anchor-of-another-log": lambda: Attack(
        text(changed("anchor.log_id", "0x" + seed("other").hex())), 1, "chain", "the anchor is of another log"
    ),
    "anchor-not-a-prefix": lambda: Attack(
        text(s.story().evidence(8, anchored=20) | {"anchor": fork().anchor(20, 28) | {"root": b64(bytes(32))}}),
        1,
        "chain",
        "is not proven to extend",
    ),
    "anchor-before-the-entry": lambda: Attack(
        text(s.story().evidence(8, anchored=7)), 1, "chain", "covers positions up to 7, not 8"
    ),
    "signature-of-another-wallet": lambda: Attack(
        last_of(confirmed(by_wallet=(s.KAEDE, s.WALLET_B, s.KEY_C))), 1, "author", "but the wallet's key there is"
    ),
    "signature-for-another-company": lambda: Attack(
        last_of(confirmed(by_wallet=(s.KAEDE, s.WALLET_A, s.KEY_A))), 1, "author", "the wallet belongs to aozora-foods"
    ),
    "signature-of-rotated-away-key": lambda: Attack(
        last_of(rotated()), 1, "author", "but the wallet's key there is 0x" + s.KEY_A2.address[2:].lower()
    ),
    "rotation-without-the-new-key": lambda: Attack(
        last_of(second_signer()), 1, "author", "signed by 0x" + s.KEY_A.address[2:].lower()
    ),
    "wallet-entry-left-out": lambda: Attack(hidden_freeze(), 1, "author", "version 2 is missing"),
    "signature-high-s": lambda: Attack(last_of(confirmed(signature=high_s)), 1, "author", "s is in the upper half"),
    "signature-of-another-chain": lambda: Attack(other_signature(chainId=1), 1, "author", "or for another text"),
    "signature-of-another-contract": lambda: Attack(
        other_signature(verifyingContract="0x" + "11" * 20), 1, "author", "or for another text"
    ),
    "frozen-wallet": lambda: Attack(last_of(after("WalletFrozen")), 1, "author", "is frozen since position 8"),
    "closed-wallet": lambda: Attack(last_of(after("WalletClosed")), 1, "author", "is closed since position 8"),
    "expired-deadline": lambda: Attack(
        last_of(confirmed(deadline=int(START.timestamp()))), 1, "author", "after the deadline"
    ),
    "confirmed-by-its-recorder": lambda: Attack(
        last_of(confirmed(by_wallet=(s.AOZORA, s.WALLET_A, s.KEY_A), data=s.by(s.AOZORA, 1))),
        1,
        "author",
        "confirms what it recorded itself",
    ),
    "tampered-batch-path": lambda: Attack(
        text(changed("author.batch.path.0", flipped, 14)), 1, "author", "is not number 2 of the 5"
    ),
    "another-batch": lambda: Attack(
        text(changed("author.batch.entry", s.story().proved(9, 28), 14)),
        1,
        "author",
        "the batch shown is not the one",
    ),
    "digest-of-another-trade": lambda: Attack(
        last_of(confirmed(data=s.by(s.KAEDE, 2))), 1, "author", "is not that of the recorded terms"
    ),
    "recorded-of-another-trade": lambda: Attack(
        text(changed("author.recorded", s.story().proved(12, 28), 19 + 7)), 1, "author", "is of another trade"
    ),
    "floats-in-entry": lambda: Attack(
        last_of(confirmed(raw=lambda raw: raw.replace(b'"v":1,', b'"v":1.0,'))),
        1,
        "entry",
        "1.0, which is not an integer",
    ),
    "non-canonical-entry": lambda: Attack(
        last_of(confirmed(raw=lambda raw: raw.replace(b'{"actor"', b'{ "actor"'))), 1, "entry", "canonical form"
    ),
    "duplicate-keys-in-entry": lambda: Attack(
        last_of(confirmed(raw=lambda raw: raw[:-1] + b',"version":2}')), 1, "entry", "has the key 'version' twice"
    ),
    "unknown-field-in-entry": lambda: Attack(
        last_of(confirmed(change=lambda entry: entry.update(zone="JST"))), 1, "entry", "unknown field 'zone'"
    ),
    "oversized-entry": lambda: Attack(
        last_of(confirmed(raw=lambda raw: raw + b" " * 65_536)), 1, "entry", "more than 65535"
    ),
    "integer-of-2-to-53": lambda: Attack(
        last_of(confirmed(raw=lambda raw: raw.replace(b'"version":2', b'"version":9007199254740992'))),
        1,
        "entry",
        "2^53",
    ),
    "time-backwards": lambda: Attack(last_of(backdated()), 1, "time", "before it says"),
    "truncated-bundle": lambda: Attack(text(s.story().evidence(8))[:-40], 2, "evidence", "one whole JSON text"),
    "trailing-bytes": lambda: Attack(text(s.story().evidence(8)) + b"{}", 2, "evidence", "one whole JSON text"),
    "duplicate-json-keys": lambda: Attack(
        text(s.story().evidence(8))[:-3] + b',"origin":"daicho.invalid/x"}', 2, "evidence", "has the key 'origin' twice"
    ),
    "position-2-to-63": lambda: Attack(
        text(changed("entry.position", 2**63)), 2, "entry.position", "must be between 1 and 9223372036854775807"
    ),
    "checkpoint-size-2-to-63": lambda: Attack(signed_size(2**63), 2, "checkpoint", "below 2^63"),
    "anchor-size-2-to-63": lambda: Attack(
        text(changed("anchor.size", 2**63)), 2, "anchor.size", "must be between 1 and 9223372036854775807"
    ),
    "unknown-field": lambda: Attack(
        text(s.story().evidence(8) | {"trusted": True}), 2, "evidence", "unknown field 'trusted'"
    ),
    "another-format": lambda: Attack(
        text(s.story().evidence(8) | {"format": "daicho-evidence/2"}), 2, "format", "must be daicho-evidence/1"
    ),
}

HONEST: dict[str, Callable[[], bytes]] = {
    "opening": lambda: text(s.story().evidence(1, anchored=28)),
    "own-wallet": lambda: text(s.story().evidence(4, anchored=28)),
    "recorded": lambda: text(s.story().evidence(7, anchored=20)),
    "confirmed": lambda: text(s.story().evidence(8, anchored=28)),
    "rotation": lambda: text(s.story().evidence(9, anchored=28)),
    "in-a-batch": lambda: text(s.story().evidence(14, anchored=28)),
    "settled": lambda: text(s.story().evidence(21, anchored=28, witnesses=["kita", "minami"])),
    "not-anchored-yet": lambda: text(s.story().evidence(26)),
}


def policy() -> bytes:
    return text(s.story().policy())


def heads(notes: Mapping[str, str]) -> bytes:
    return text({"format": "daicho-heads/1", "heads": dict(notes)})
