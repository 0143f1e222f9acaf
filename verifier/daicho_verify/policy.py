"""The policy: the user's own local statement of whom to trust and what must be checked. Never read from evidence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from daicho_verify import jsontext
from daicho_verify.errors import MalformedError
from daicho_verify.files import read_bounded
from daicho_verify.jsontext import Fields
from daicho_verify.keccak import keccak256
from daicho_verify.messages import Domain
from daicho_verify.notes import COSIGNATURE, ED25519, NoteKey, parse_key

FORMAT = "daicho-policy/1"
RINGS = ("entry", "author", "inclusion", "log-signature", "witnesses", "chain", "time", "head")
CORE_RINGS = ("entry", "author", "inclusion", "log-signature")
MAX_POLICY_BYTES = 1 << 20
_MAX_WITNESSES = 64
_MAX_CONFIRMATIONS = 100_000
_DEFAULT_TOLERANCE_SECONDS = 60
_MAX_TOLERANCE_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class ChainPolicy:
    """The chain and contract to look at, confirmations for final, and whether the chain is the operator's own."""

    chain_id: int
    contract: bytes
    confirmations: int
    independent: bool
    from_block: int

    @property
    def domain(self) -> Domain:
        """What EIP-712 signatures of this book are bound to."""
        return Domain(self.chain_id, self.contract)


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom to trust for one log."""

    origin: str
    log_key: NoteKey
    promise_key: NoteKey | None
    chain: ChainPolicy | None
    witnesses: tuple[NoteKey, ...]
    quorum: int
    require: frozenset[str]
    clock_tolerance_seconds: int


def checksummed(address: bytes) -> str:
    """Give an address with the capital letters of EIP-55."""
    plain = address.hex()
    digest = keccak256(plain.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(plain, digest, strict=False))  # noqa: PLR2004


def _contract(fields: Fields) -> bytes:
    address = fields.hex("contract", 20)
    written = fields.text("contract")
    if written != written.lower() and written != checksummed(address):
        raise MalformedError(fields.at("contract"), f"has a wrong checksum (EIP-55 writes {checksummed(address)})")
    return address


def _chain(value: object) -> ChainPolicy:
    optional = ("confirmations", "independent", "from_block")
    fields = Fields(value, "policy.chain", ("chain_id", "contract"), optional)
    return ChainPolicy(
        fields.integer("chain_id", 1),
        _contract(fields),
        fields.integer("confirmations", 1, _MAX_CONFIRMATIONS) if fields.get("confirmations") is not None else 1,
        fields.flag("independent") if fields.get("independent") is not None else False,
        fields.integer("from_block") if fields.get("from_block") is not None else 0,
    )


def _texts(fields: Fields, key: str) -> list[str]:
    items = fields.items(key, _MAX_WITNESSES) if fields.get(key) is not None else []
    if not all(isinstance(item, str) for item in items):
        raise MalformedError(fields.at(key), "must be a list of strings")
    return [str(item) for item in items]


def _require(fields: Fields, quorum: int) -> frozenset[str]:
    names = _texts(fields, "require") if fields.get("require") is not None else list(CORE_RINGS)
    for name in names:
        if name not in RINGS:
            raise MalformedError(fields.at("require"), f"knows only {', '.join(RINGS)}")
    return frozenset([*names, "witnesses"] if quorum else names)


def _named_key(fields: Fields, key: str, name: str) -> NoteKey:
    parsed = parse_key(fields.text(key), fields.at(key), ED25519)
    if parsed.name != name:
        raise MalformedError(fields.at(key), f"must be a key named {name}")
    return parsed


def parse_policy(data: bytes) -> Policy:
    """Parse a policy file; raises MalformedError naming the field and the rule."""
    optional = ("promise_key", "chain", "witnesses", "quorum", "require", "clock_tolerance_seconds")
    fields = Fields(jsontext.parse(data, "policy"), "policy", ("format", "origin", "log_key"), optional)
    if fields.text("format") != FORMAT:
        raise MalformedError("policy.format", f"must be {FORMAT}")
    origin = fields.text("origin", r"[^\s+]+", "a name without spaces and plus signs")
    witnesses = tuple(
        parse_key(text, f"policy.witnesses[{i}]", COSIGNATURE) for i, text in enumerate(_texts(fields, "witnesses"))
    )
    if len({key.public for key in witnesses}) != len(witnesses):
        raise MalformedError("policy.witnesses", "must name each key once")
    quorum = fields.integer("quorum", 0, len(witnesses)) if fields.get("quorum") is not None else 0
    seconds = fields.get("clock_tolerance_seconds")
    return Policy(
        origin,
        _named_key(fields, "log_key", origin),
        None if fields.get("promise_key") is None else _named_key(fields, "promise_key", f"{origin}/promise"),
        None if fields.get("chain") is None else _chain(fields.get("chain")),
        witnesses,
        quorum,
        _require(fields, quorum),
        _DEFAULT_TOLERANCE_SECONDS
        if seconds is None
        else fields.integer("clock_tolerance_seconds", 0, _MAX_TOLERANCE_SECONDS),
    )


def load_policy(path: str) -> Policy:
    """Read and parse a policy file."""
    return parse_policy(read_bounded(path, MAX_POLICY_BYTES, "policy"))


def policy_text(
    *,
    origin: str,
    log_key: str,
    promise_key: str | None,
    chain_id: int | None,
    contract: str | None,
    confirmations: int,
    independent: bool,
    witnesses: Sequence[str],
    quorum: int,
    require: Sequence[str],
) -> str:
    """Give the text of a policy file, already checked by the same rules that reading applies."""
    chain = {
        "chain_id": chain_id,
        "contract": contract,
        "confirmations": confirmations,
        "independent": independent,
    }
    value = {
        "format": FORMAT,
        "origin": origin,
        "log_key": log_key,
        "promise_key": promise_key,
        "chain": None if chain_id is None and contract is None else chain,
        "witnesses": list(witnesses),
        "quorum": quorum,
        "require": [ring for ring in RINGS if ring in {*CORE_RINGS, *require}],
        "clock_tolerance_seconds": _DEFAULT_TOLERANCE_SECONDS,
    }
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    parse_policy(text.encode(errors="surrogatepass"))
    return text
