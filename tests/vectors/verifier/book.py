"""A small honest (or, on request, dishonest) book for the verifier's tests: its entries, signed by eth_account."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from eth_account.messages import encode_typed_data

from tests.vectors.verifier.oracle import leaf_hash, mth, note_key, seed, uid, vkey

Data = dict[str, Any]

ORIGIN = "daicho.invalid/3f9c0d5e"
CHAIN_ID = 131_277
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
START = datetime(2026, 11, 22, 5, 2, 32, 123456, tzinfo=UTC)
DEADLINE = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
BLOCK_TIME = int(datetime(2026, 11, 22, 5, 10, 0, tzinfo=UTC).timestamp())

_TRADE = "string book,string trade,string by,bytes32 digest,"
_TAIL = "uint256 nonce,uint256 deadline"
MESSAGES = {
    "TradeRecorded": (
        "RecordTrade",
        "string book,string trade,string recordedBy,string seller,string buyer,string currency,uint256 amount,"
        "string tradedOn,string dueOn,string description,string reference,bytes32 lines," + _TAIL,
    ),
    "TradeConfirmed": ("ConfirmTrade", _TRADE + _TAIL),
    "TradeDisputed": ("DisputeTrade", _TRADE + "string reason," + _TAIL),
    "TradeDisputeWithdrawn": ("WithdrawDispute", _TRADE + "string reason," + _TAIL),
    "TradeSettlementProposed": (
        "ProposeSettlement",
        _TRADE + "string currency,uint256 amount,string settledOn," + _TAIL,
    ),
    "TradeSettled": ("SettleTrade", _TRADE + "string currency,uint256 amount,string settledOn," + _TAIL),
    "TradeReversalProposed": ("ProposeReversal", _TRADE + "string reason," + _TAIL),
    "TradeReversed": ("ReverseTrade", _TRADE + "string reason," + _TAIL),
    "TradeNoteAdded": ("AddNote", _TRADE + "string note,bytes32 attachments," + _TAIL),
    "BatchSigned": (
        "SignBatch",
        "string book,string wallet,string company,bytes32 root,uint256 count," + _TAIL,
    ),
    "WalletOpened": (
        "OpenWallet",
        "string book,string wallet,string company,string custody,address key," + _TAIL,
    ),
    "WalletKeyRotated": ("RotateKey", "string book,string wallet,address oldKey,address newKey," + _TAIL),
}


class Book:
    """Entries in order, with wallets, and the evidence of any of them."""

    def __init__(self, origin: Any = ORIGIN, keys: str = "log") -> None:
        self.origin = origin
        self.log_key = note_key(keys)
        self.promise_key = note_key(f"{keys} promise")
        self.raw = []
        self.entries = []
        self.versions = {}
        self.nonces = 0
        self.step = timedelta(milliseconds=1500)

    # -- entries

    def append(
        self,
        kind: str,
        aggregate: str,
        aggregate_id: str,
        data: Data,
        *,
        company: str = "",
        change: Any = None,
        raw: Any = None,
    ) -> int:
        """Append an entry; `change` may alter the finished envelope, `raw` may alter its bytes. Gives its position."""
        position = len(self.raw) + 1
        version = self.versions[aggregate_id] = self.versions.get(aggregate_id, 0) + 1
        tag = f"{self.origin} {position}"
        entry = {
            "actor": {"company": company, "subject": seed(f"subject {company}").hex()[:32]},
            "aggregate": aggregate,
            "aggregate_id": aggregate_id,
            "command": {"body": seed(f"body {tag}").hex(), "key": seed(f"key {tag}").hex()},
            "data": data,
            "id": uid(f"id {tag}"),
            "log": self.origin,
            "position": position,
            "recorded_at": self.time_of(position),
            "salt": seed(f"salt {tag}").hex()[:32],
            "type": kind,
            "v": 1,
            "version": version,
        }
        if change is not None:
            change(entry)
        encoded = rfc8785.dumps(entry)
        self.raw.append(encoded if raw is None else raw(encoded))
        self.entries.append(entry)
        return position

    def time_of(self, position: int) -> str:
        return (START + position * self.step).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def sign(self, key: Any, kind: str, values: Data, wallet: str, *, deadline: int = DEADLINE, **domain: Any) -> Data:
        """A signature object by `key` over the typed message of an event."""
        self.nonces += 1
        nonce = int.from_bytes(seed(f"nonce {self.origin} {self.nonces}"))
        return self.sign_with(key, kind, values, wallet, nonce, deadline, **domain)

    def sign_with(
        self, key: Any, kind: str, values: Data, wallet: str, nonce: int, deadline: int, **domain: Any
    ) -> Data:
        primary, members = MESSAGES[kind]
        typed = {
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                primary: [dict(zip(("type", "name"), member.split(" "), strict=True)) for member in members.split(",")],
            },
            "primaryType": primary,
            "domain": {
                "name": "Daicho",
                "version": "1",
                "chainId": CHAIN_ID,
                "verifyingContract": CONTRACT,
                **domain,
            },
            "message": {"book": self.origin, "nonce": nonce, "deadline": deadline, **values},
        }
        signed = key.sign_message(encode_typed_data(full_message=typed))
        return {
            "address": key.address,
            "deadline": deadline,
            "nonce": f"0x{nonce:064x}",
            "value": "0x" + signed.signature.hex().removeprefix("0x"),
            "wallet": wallet,
        }

    def open_book(self) -> int:
        return self.append(
            "BookOpened",
            "Book",
            uid(f"book {self.origin}"),
            {
                "chain_id": CHAIN_ID,
                "contract": CONTRACT,
                "log_key": vkey(self.origin, self.log_key),
                "previous": None,
                "promise_key": vkey(f"{self.origin}/promise", self.promise_key),
            },
        )

    def register(self, code: str) -> int:
        return self.append("CompanyRegistered", "Company", uid(code), {"code": code, "name": code.title()})

    def open_wallet(self, wallet: str, company: str, key: Any, custody: str = "own") -> int:
        message = {"wallet": wallet, "company": company, "custody": custody, "key": key.address}
        return self.append(
            "WalletOpened",
            "Wallet",
            wallet,
            {
                "address": key.address,
                "company": company,
                "custody": custody,
                "signature": self.sign(key, "WalletOpened", message, wallet),
                "subject": seed(f"user of {wallet}").hex()[:32],
            },
            company=company,
        )

    def rotate(self, wallet: str, company: str, old: Any, new: Any, **signers: Any) -> int:
        message = {"wallet": wallet, "oldKey": old.address, "newKey": new.address}
        first = self.sign(signers.get("first", old), "WalletKeyRotated", message, wallet)
        second = self.sign_with(
            signers.get("second", new), "WalletKeyRotated", message, wallet, int(first["nonce"], 16), DEADLINE
        )
        data = {"new": new.address, "new_signature": second, "old": old.address, "signature": first}
        return self.append("WalletKeyRotated", "Wallet", wallet, data, company=company)

    def wallet_event(self, kind: str, wallet: str) -> int:
        return self.append(kind, "Wallet", wallet, {"reason": "asked for by the company"})

    # -- trades

    @staticmethod
    def terms(recorded_by: str, seller: str, buyer: str, units: int, reference: str) -> Data:
        data = {
            "amount": {"currency": "JPY", "units": str(units)},
            "buyer": buyer,
            "description": "緑茶 20 箱",
            "due_on": "2026-12-31",
            "lines": [{"item": "緑茶", "quantity": "20", "unit_price": str(units // 20)}],
            "recorded_by": recorded_by,
            "reference": reference,
            "seller": seller,
            "traded_on": "2026-11-22",
        }
        return data | {"digest": hashlib.sha256(rfc8785.dumps(data)).hexdigest()}

    @staticmethod
    def message_of(kind: str, trade: str, data: Data) -> Data:
        """The values of a trade event's typed message."""
        camel = {"recorded_by": "recordedBy", "traded_on": "tradedOn", "due_on": "dueOn", "settled_on": "settledOn"}
        values = {"trade": trade}
        for key, value in data.items():
            if key == "amount":
                values |= {"currency": value["currency"], "amount": int(value["units"])}
            elif key in {"lines", "attachments"}:
                values[key] = hashlib.sha256(rfc8785.dumps(value)).digest()
            elif key == "digest" and kind != "TradeRecorded":
                values["digest"] = bytes.fromhex(value)
            elif key != "digest":
                values[camel.get(key, key)] = value
        return values

    def trade(self, kind: str, trade: str, data: Data, company: str, wallet: str, key: Any, **options: Any) -> int:
        """Append a trade event signed on its own; `signature` may alter the signature object."""
        values = self.message_of(kind, trade, data)
        domain = {name: options.pop(name) for name in ("chainId", "verifyingContract", "deadline") if name in options}
        signature = self.sign(key, kind, values, wallet, **domain)
        alter = options.pop("signature", None)
        data = data | {"signature": signature if alter is None else alter(signature)}
        return self.append(kind, "Trade", trade, data, company=company, **options)

    def batch(self, trades: Any, company: str, wallet: str, key: Any) -> int:
        """Append a BatchSigned and its trades [(id, terms)]; gives the position of BatchSigned."""
        contents = [
            rfc8785.dumps({"aggregate_id": trade, "data": terms, "type": "TradeRecorded"}) for trade, terms in trades
        ]
        batch = uid(f"batch {len(self.raw)}")
        root = mth([leaf_hash(content) for content in contents])
        message = {"wallet": wallet, "company": company, "root": root, "count": len(trades)}
        position = self.append(
            "BatchSigned",
            "Batch",
            batch,
            {
                "company": company,
                "count": len(trades),
                "root": root.hex(),
                "signature": self.sign(key, "BatchSigned", message, wallet),
                "wallet": wallet,
            },
            company=company,
        )
        for index, (trade, terms) in enumerate(trades):
            data = terms | {"signature": {"batch": batch, "index": index, "wallet": wallet}}
            self.append("TradeRecorded", "Trade", trade, data, company=company)
        return position
