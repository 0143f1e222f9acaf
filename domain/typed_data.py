"""What a wallet signs for each event: the EIP-712 messages as one declarative table, without cryptography.

A digest is `keccak256(0x1901 || domain separator || struct hash)` (EIP-712); only `chain` can compute it. The
verifier holds a table of its own, so a change here is a change of the entry format (docs/entry.md).
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from domain.entry import canonical

DOMAIN_NAME: Final = "Daicho"
DOMAIN_VERSION: Final = "1"
DOMAIN_FIELDS: Final = (
    ("string", "name"),
    ("string", "version"),
    ("uint256", "chainId"),
    ("address", "verifyingContract"),
)
_MAX_UINT256: Final = 2**256 - 1
_DECIMAL: Final = re.compile(r"(?:0|[1-9][0-9]{0,77})\Z")
_HEX_32_BYTES: Final = re.compile(r"[0-9a-f]{64}\Z")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_NONCE: Final = re.compile(r"0x[0-9a-f]{64}\Z")
_SIGNATURES: Final = frozenset({"signature", "new_signature"})

Value = str | int | bytes


class TypedDataError(ValueError):
    """The data cannot be signed as it stands: says which field breaks which rule, never more."""


class Field(NamedTuple):
    """One field of a primary type and where its value comes from.

    `source` is a dotted path into {origin, aggregate_id, nonce, deadline, data}; with `hashed` the value
    signed is the SHA-256 of the canonical JSON found there.
    """

    type: str
    name: str
    source: str
    hashed: bool = False


class PrimaryType(NamedTuple):
    """A primary type; `unsigned` are the event's fields that it leaves out because others imply them."""

    name: str
    fields: tuple[Field, ...]
    unsigned: frozenset[str] = frozenset()

    @property
    def encoded(self) -> str:
        """The type in the form that EIP-712 hashes: `Name(type1 name1,type2 name2)`."""
        return f"{self.name}({','.join(f'{field.type} {field.name}' for field in self.fields)})"


class TypedMessage(NamedTuple):
    """A message ready to be hashed: the primary type and (type, name, value) in its order.

    Values: `string` as str, `uint256` as int, `bytes32` as 32 bytes, `address` as 0x and 40 hex digits.
    """

    primary: PrimaryType
    values: tuple[tuple[str, str, Value], ...]


_BOOK = Field("string", "book", "origin")
_TRADE = (_BOOK, Field("string", "trade", "aggregate_id"))
_BY = (Field("string", "by", "data.by"), Field("bytes32", "digest", "data.digest"))
_ONCE = (Field("uint256", "nonce", "nonce"), Field("uint256", "deadline", "deadline"))
_REASON = (*_TRADE, *_BY, Field("string", "reason", "data.reason"), *_ONCE)
_SETTLEMENT = (
    *_TRADE,
    *_BY,
    Field("string", "currency", "data.amount.currency"),
    Field("uint256", "amount", "data.amount.units"),
    Field("string", "settledOn", "data.settled_on"),
    *_ONCE,
)
_RECORD = (
    *_TRADE,
    Field("string", "recordedBy", "data.recorded_by"),
    Field("string", "seller", "data.seller"),
    Field("string", "buyer", "data.buyer"),
    Field("string", "currency", "data.amount.currency"),
    Field("uint256", "amount", "data.amount.units"),
    Field("string", "tradedOn", "data.traded_on"),
    Field("string", "dueOn", "data.due_on"),
    Field("string", "description", "data.description"),
    Field("string", "reference", "data.reference"),
    Field("bytes32", "lines", "data.lines", hashed=True),
    *_ONCE,
)
_NOTE = (
    *_TRADE,
    *_BY,
    Field("string", "note", "data.note"),
    Field("bytes32", "attachments", "data.attachments", hashed=True),
    *_ONCE,
)
_BATCH = (
    _BOOK,
    Field("string", "wallet", "data.wallet"),
    Field("string", "company", "data.company"),
    Field("bytes32", "root", "data.root"),
    Field("uint256", "count", "data.count"),
    *_ONCE,
)
_OPEN = (
    _BOOK,
    Field("string", "wallet", "aggregate_id"),
    Field("string", "company", "data.company"),
    Field("string", "custody", "data.custody"),
    Field("address", "key", "data.address"),
    *_ONCE,
)
_ROTATE = (
    _BOOK,
    Field("string", "wallet", "aggregate_id"),
    Field("address", "oldKey", "data.old"),
    Field("address", "newKey", "data.new"),
    *_ONCE,
)

PRIMARY_TYPES: Final[Mapping[str, PrimaryType]] = {
    # the terms' digest is a function of the signed fields; the subject is bound by the wallet's id
    "TradeRecorded": PrimaryType("RecordTrade", _RECORD, frozenset({"digest"})),
    "TradeConfirmed": PrimaryType("ConfirmTrade", (*_TRADE, *_BY, *_ONCE)),
    "TradeDisputed": PrimaryType("DisputeTrade", _REASON),
    "TradeDisputeWithdrawn": PrimaryType("WithdrawDispute", _REASON),
    "TradeSettlementProposed": PrimaryType("ProposeSettlement", _SETTLEMENT),
    "TradeSettled": PrimaryType("SettleTrade", _SETTLEMENT),
    "TradeReversalProposed": PrimaryType("ProposeReversal", _REASON),
    "TradeReversed": PrimaryType("ReverseTrade", _REASON),
    "TradeNoteAdded": PrimaryType("AddNote", _NOTE),
    "BatchSigned": PrimaryType("SignBatch", _BATCH),
    "WalletOpened": PrimaryType("OpenWallet", _OPEN, frozenset({"subject"})),
    "WalletKeyRotated": PrimaryType("RotateKey", _ROTATE),
}
_SIGNED_DATA: Final = {
    event_type: frozenset(f.source.split(".")[1] for f in primary.fields if f.source.startswith("data."))
    for event_type, primary in PRIMARY_TYPES.items()
}


def typed_message(
    event_type: str, origin: str, aggregate_id: str, data: Mapping[str, Any], nonce: int, deadline: int
) -> TypedMessage:
    """The message that a wallet signs so that this event may be written.

    `data` is the event's data; its signature objects, if already there, play no part. Raises TypedDataError
    for an event type that nobody signs, a missing or unknown field, or a value outside its type.
    """
    primary = PRIMARY_TYPES.get(event_type)
    if primary is None:
        raise TypedDataError(f"{event_type}: no such signed event type")
    if unknown := data.keys() - _SIGNED_DATA[event_type] - primary.unsigned - _SIGNATURES:
        raise TypedDataError(f"{event_type}: {min(unknown)} is not covered by the signature")
    context = {"origin": origin, "aggregate_id": aggregate_id, "nonce": nonce, "deadline": deadline}
    values: list[tuple[str, str, Value]] = []
    for kind, name, convert, path in _STEPS[event_type]:
        try:
            found: Any = data[path[1]] if path[0] == "data" else context[path[0]]
            for step in path[2:]:
                found = found[step]
            values.append((kind, name, convert(found)))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = "is missing" if isinstance(error, KeyError) else f"is no {kind}"
            raise TypedDataError(f"{event_type}: {'.'.join(path)} {reason}") from None
    return TypedMessage(primary, tuple(values))


def nonce_and_deadline(signature: Mapping[str, Any]) -> tuple[int, int]:
    """Nonce (256 bits) and deadline (unix seconds) of a single signature object, for `typed_message`."""
    nonce, deadline = signature.get("nonce"), signature.get("deadline")
    if not isinstance(nonce, str) or not _NONCE.match(nonce):
        raise TypedDataError("signature.nonce is not 0x and 64 lower-case hex digits")
    if type(deadline) is not int or deadline < 0:
        raise TypedDataError("signature.deadline is no unix time in seconds")
    return int(nonce, 16), deadline


def typed_data_json(message: TypedMessage, chain_id: int, contract: str) -> dict[str, Any]:
    """The argument of a wallet's `eth_signTypedData_v4` for this message, JSON ready.

    256-bit numbers are decimal strings and byte strings 0x-hex, as browser wallets take them.
    """
    fields = [{"name": name, "type": kind} for kind, name, _ in message.values]
    return {
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": chain_id,
            "verifyingContract": contract,
        },
        "types": {
            "EIP712Domain": [{"name": name, "type": kind} for kind, name in DOMAIN_FIELDS],
            message.primary.name: fields,
        },
        "primaryType": message.primary.name,
        "message": {name: _json_value(value) for _, name, value in message.values},
    }


def signed_content(event_type: str, aggregate_id: str, data: Mapping[str, Any]) -> bytes:
    """What an entry gives to a batch: its leaf is SHA-256(0x00 || these bytes), RFC 6962 section 2.1."""
    unsigned = {key: value for key, value in data.items() if key != "signature"}
    return batch_content(event_type, aggregate_id, unsigned)


def batch_content(event_type: str, aggregate_id: str, unsigned: Any) -> bytes:
    """The same of data that has no signature yet: a mapping or a struct."""
    return canonical({"aggregate_id": aggregate_id, "data": unsigned, "type": event_type})


def terms_digest(data: Mapping[str, Any]) -> str:
    """The digest that a trade's later events name: SHA-256 of its canonical terms, 64 hex digits."""
    terms = {key: value for key, value in data.items() if key not in {"digest", "signature"}}
    return hashlib.sha256(canonical(terms)).hexdigest()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.isascii():
        value.encode()  # a lone surrogate has no UTF-8 form: UnicodeEncodeError is a ValueError
    return value


def _uint256(value: Any) -> int:
    if isinstance(value, str) and _DECIMAL.match(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= _MAX_UINT256:
        raise ValueError
    return value


def _bytes32(value: Any) -> bytes:
    if not isinstance(value, str) or not _HEX_32_BYTES.match(value):
        raise ValueError
    return bytes.fromhex(value)


def _address(value: Any) -> str:
    if not isinstance(value, str) or not _ADDRESS.match(value):
        raise ValueError
    return value


def _hashed(value: Any) -> bytes:
    return hashlib.sha256(canonical(value)).digest()


_CONVERT: Final[Mapping[str, Callable[[Any], Value]]] = {
    "string": _text,
    "uint256": _uint256,
    "bytes32": _bytes32,
    "address": _address,
}
_STEPS: Final = {
    event_type: tuple(
        (f.type, f.name, _hashed if f.hashed else _CONVERT[f.type], tuple(f.source.split("."))) for f in primary.fields
    )
    for event_type, primary in PRIMARY_TYPES.items()
}


def _json_value(value: Value) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value)
