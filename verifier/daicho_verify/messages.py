"""What a wallet signs: the EIP-712 message that belongs to each signed event."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from daicho_verify import eip712, jsontext, secp256k1
from daicho_verify.entry import Entry, micros
from daicho_verify.errors import DisagreesError

_TAIL = "uint256 nonce,uint256 deadline)"
_TRADE = "string book,string trade,string by,bytes32 digest,"
_AMOUNT = "string currency,uint256 amount,string settledOn,"

# event type -> primary type, in the signed field order
TYPES: Mapping[str, str] = {
    "TradeRecorded": "RecordTrade(string book,string trade,string recordedBy,string seller,string buyer,"
    "string currency,uint256 amount,string tradedOn,string dueOn,string description,string reference,"
    "bytes32 lines," + _TAIL,
    "TradeConfirmed": "ConfirmTrade(" + _TRADE + _TAIL,
    "TradeDisputed": "DisputeTrade(" + _TRADE + "string reason," + _TAIL,
    "TradeDisputeWithdrawn": "WithdrawDispute(" + _TRADE + "string reason," + _TAIL,
    "TradeSettlementProposed": "ProposeSettlement(" + _TRADE + _AMOUNT + _TAIL,
    "TradeSettled": "SettleTrade(" + _TRADE + _AMOUNT + _TAIL,
    "TradeReversalProposed": "ProposeReversal(" + _TRADE + "string reason," + _TAIL,
    "TradeReversed": "ReverseTrade(" + _TRADE + "string reason," + _TAIL,
    "TradeNoteAdded": "AddNote(" + _TRADE + "string note,bytes32 attachments," + _TAIL,
    "BatchSigned": "SignBatch(string book,string wallet,string company,bytes32 root,uint256 count," + _TAIL,
    "WalletOpened": "OpenWallet(string book,string wallet,string company,string custody,address key," + _TAIL,
    "WalletKeyRotated": "RotateKey(string book,string wallet,address oldKey,address newKey," + _TAIL,
}


@dataclass(frozen=True, slots=True)
class Domain:
    """What binds signatures to one book on one chain."""

    chain_id: int
    contract: bytes

    def separator(self) -> bytes:
        """Give the EIP-712 domain separator."""
        return eip712.domain_separator("Daicho", "1", self.chain_id, self.contract)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature object of its own (not by batch): signer as claimed, deadline (unix s), nonce, r || s || v."""

    address: bytes
    deadline: int
    nonce: int
    value: bytes
    wallet: str


def text(entry: Entry, key: str) -> str:
    """Give a string field of `data` whose shape was checked before."""
    return cast("str", entry.data[key])


def address(entry: Entry, key: str) -> bytes:
    """Give an address field of `data` as 20 bytes."""
    return bytes.fromhex(text(entry, key)[2:])


def money(entry: Entry) -> tuple[str, int]:
    """Give (currency, minor units) of the field `amount`."""
    amount = cast("Mapping[str, str]", entry.data["amount"])
    return amount["currency"], int(amount["units"])


def signature_of(entry: Entry, key: str = "signature") -> Signature:
    """Give a signature object whose shape was checked before."""
    value = cast("Mapping[str, str]", entry.data[key])
    return Signature(
        bytes.fromhex(value["address"][2:]),
        cast("int", value["deadline"]),
        int(value["nonce"], 16),
        bytes.fromhex(value["value"][2:]),
        value["wallet"],
    )


def _hash_of(key: str) -> Callable[[Entry], bytes]:
    return lambda entry: hashlib.sha256(jsontext.canonical(entry.data[key])).digest()


def _text_of(key: str) -> Callable[[Entry], str]:
    return lambda entry: text(entry, key)


_MEMBERS: Mapping[str, Callable[[Entry], eip712.Word]] = {
    **{name: _text_of(name) for name in ("seller", "buyer", "description", "reference", "by", "reason", "note")},
    **{name: _text_of(name) for name in ("company", "custody")},
    "book": lambda entry: entry.origin,
    "trade": lambda entry: entry.aggregate_id,
    "wallet": lambda entry: text(entry, "wallet") if entry.type == "BatchSigned" else entry.aggregate_id,
    "recordedBy": _text_of("recorded_by"),
    "tradedOn": _text_of("traded_on"),
    "dueOn": _text_of("due_on"),
    "settledOn": _text_of("settled_on"),
    "currency": lambda entry: money(entry)[0],
    "amount": lambda entry: money(entry)[1],
    "lines": _hash_of("lines"),
    "attachments": _hash_of("attachments"),
    "digest": lambda entry: bytes.fromhex(text(entry, "digest")),
    "root": lambda entry: bytes.fromhex(text(entry, "root")),
    "count": lambda entry: cast("int", entry.data["count"]),
    "key": lambda entry: address(entry, "address"),
    "oldKey": lambda entry: address(entry, "old"),
    "newKey": lambda entry: address(entry, "new"),
}


def digest_to_sign(entry: Entry, signature: Signature, domain: Domain) -> bytes:
    """Give the 32 bytes that the wallet signed for this event; raises ValueError for a value out of range."""
    type_text = TYPES[entry.type]
    own: dict[str, eip712.Word] = {"nonce": signature.nonce, "deadline": signature.deadline}
    values = {name: own[name] if name in own else _MEMBERS[name](entry) for _, name in eip712.members(type_text)}
    return eip712.signing_digest(domain.separator(), eip712.struct_hash(type_text, values))


def check_signature(entry: Entry, key: str, domain: Domain, wallet: str, signer: bytes) -> None:
    """Check that `signer` (20 bytes), the key of `wallet`, signed this event in time; raises DisagreesError."""
    signature = signature_of(entry, key)
    where = f"{entry.type} at position {entry.position}"
    if signature.wallet != wallet:
        raise DisagreesError(f"{where}: {key} names the wallet {signature.wallet}, not {wallet}")
    if micros(entry.recorded_at) > signature.deadline * 1_000_000:
        raise DisagreesError(f"{where}: recorded at {entry.recorded_at}, after the deadline {signature.deadline}")
    try:
        recovered = secp256k1.address_of_signature(digest_to_sign(entry, signature, domain), signature.value)
    except ValueError as error:
        raise DisagreesError(f"{where}: {key}: {error}") from None
    if recovered != signature.address:
        raise DisagreesError(
            f"{where}: {key} was made by 0x{recovered.hex()} (or for another text), not by 0x{signature.address.hex()}"
        )
    if recovered != signer:
        raise DisagreesError(f"{where}: signed by 0x{recovered.hex()}, but the wallet's key there is 0x{signer.hex()}")
