"""The evidence file, format "daicho-evidence/1": its strict parsing into typed parts."""

from dataclasses import dataclass

from daicho_verify import jsontext
from daicho_verify.errors import MalformedError
from daicho_verify.jsontext import Fields
from daicho_verify.notes import Checkpoint, parse_checkpoint

FORMAT = "daicho-evidence/1"
MAX_BUNDLE_BYTES = 16 << 20
_MAX_WALLET_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry's bytes with its position and its audit path in the bundle's checkpoint."""

    position: int
    raw: bytes
    inclusion: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AuthorProof:
    """Entries that show who may have signed: the wallet's life, the batch, the recorded terms."""

    wallet: tuple[Proved, ...]
    batch: Proved | None
    batch_path: tuple[bytes, ...]
    recorded: Proved | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the bundle claims about the chain; checked against the user's own node only."""

    chain_id: int
    contract: bytes
    log_id: bytes
    tx_hash: bytes
    block_number: int
    block_hash: bytes
    log_index: int
    size: int
    root: bytes
    state: str
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A whole evidence file; nothing in it is trusted."""

    origin: str
    main: Proved
    checkpoint: Checkpoint
    author: AuthorProof | None
    anchor: Anchor | None


def _proved(value: object, path: str) -> Proved:
    fields = Fields(value, path, ("position", "bytes", "inclusion"))
    return Proved(fields.integer("position", 1), fields.base64("bytes"), fields.hashes("inclusion"))


def _author(value: object) -> AuthorProof:
    fields = Fields(value, "author", ("wallet", "batch", "recorded"))
    wallet = tuple(
        _proved(item, f"author.wallet[{i}]") for i, item in enumerate(fields.items("wallet", _MAX_WALLET_ENTRIES))
    )
    batch: Proved | None = None
    path: tuple[bytes, ...] = ()
    if fields.get("batch") is not None:
        inner = Fields(fields.get("batch"), "author.batch", ("entry", "path"))
        batch, path = _proved(inner.get("entry"), "author.batch.entry"), inner.hashes("path")
    recorded = fields.get("recorded")
    return AuthorProof(wallet, batch, path, None if recorded is None else _proved(recorded, "author.recorded"))


def _anchor(value: object) -> Anchor:
    names = "chain_id contract log_id tx_hash block_number block_hash log_index size root state consistency"
    fields = Fields(value, "anchor", (*names.split(), "independent"))
    fields.flag("independent")  # the operator's own label: the policy's is used instead
    return Anchor(
        fields.integer("chain_id", 1),
        fields.hex("contract", 20),
        fields.hex("log_id", 32),
        fields.hex("tx_hash", 32),
        fields.integer("block_number"),
        fields.hex("block_hash", 32),
        fields.integer("log_index"),
        fields.integer("size", 1),
        fields.hash("root"),
        fields.text("state", "mined|final", "mined or final"),
        fields.hashes("consistency"),
    )


def parse_evidence(data: bytes) -> Evidence:
    """Parse an evidence file; raises MalformedError naming the field and the rule that it breaks."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise MalformedError("evidence", f"must have at most {MAX_BUNDLE_BYTES} bytes")
    names = ("format", "origin", "entry", "checkpoint", "inclusion", "author", "anchor")
    fields = Fields(jsontext.parse(data, "evidence"), "", names)
    if fields.text("format") != FORMAT:
        raise MalformedError("format", f"must be {FORMAT}")
    entry = Fields(fields.get("entry"), "entry", ("position", "bytes"))
    author, anchor = fields.get("author"), fields.get("anchor")
    return Evidence(
        fields.text("origin"),
        Proved(entry.integer("position", 1), entry.base64("bytes"), fields.hashes("inclusion")),
        parse_checkpoint(fields.text("checkpoint"), "checkpoint"),
        None if author is None else _author(author),
        None if anchor is None else _anchor(anchor),
    )
