"""Makes entry bytes in the entry format: single entries, and random walks of valid events over companies and trades.

A walk obeys the rules of the domain (who may act in which state), so every projection must accept it.
"""

import hashlib
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

Record = tuple[int, bytes]
ORIGIN = "daicho.invalid/3f9c3f9c3f9c3f9c"
START = datetime(2026, 11, 22, 5, 0, 0, tzinfo=UTC)
CURRENCIES = ("JPY", "EUR", "KWD")
_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Any) -> bytes:
    """Canonical JSON bytes (RFC 8785 subset)."""
    return _encode(value)


class EntryFactory:
    """Numbers and stamps entries of one log; every random bit comes from its seed."""

    def __init__(self, seed: int = 0, origin: str = ORIGIN, step: timedelta = timedelta(milliseconds=250)) -> None:
        self.random = random.Random(seed)
        self.origin = origin
        self.position = 0
        self.time = START
        self.step = step
        self.versions: dict[str, int] = {}
        self.records: list[Record] = []

    def hex(self, digits: int) -> str:
        """So many random hex digits."""
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"

    def uuid(self) -> str:
        """A UUIDv7-shaped id that grows with time."""
        millis = f"{int(self.time.timestamp() * 1000):012x}"
        return f"{millis[:8]}-{millis[8:]}-7{self.hex(3)}-a{self.hex(3)}-{self.hex(12)}"

    def signature(self, wallet: str = "") -> dict[str, Any]:
        """A signature object of the right shape (not a valid signature)."""
        return {
            "address": f"0x{self.hex(40)}",
            "deadline": int(self.time.timestamp()) + 600,
            "nonce": f"0x{self.hex(64)}",
            "value": f"0x{self.hex(128)}1b",
            "wallet": wallet,
        }

    def add(
        self, aggregate: str, aggregate_id: str, event: str, data: dict[str, Any], company: str = "", subject: str = "",
        v: int = 1,
    ) -> Record:  # fmt: skip
        """Append one entry and return its record."""
        self.position += 1
        self.time += self.step * self.random.randint(0, 4)
        version = self.versions[aggregate_id] = self.versions.get(aggregate_id, 0) + 1
        entry = {
            "actor": {"company": company, "subject": subject or self.hex(32)},
            "aggregate": aggregate,
            "aggregate_id": aggregate_id,
            "command": {"body": self.hex(64), "key": self.hex(64)},
            "data": data,
            "id": self.uuid(),
            "log": self.origin,
            "position": self.position,
            "recorded_at": self.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "salt": self.hex(32),
            "type": event,
            "v": v,
            "version": version,
        }
        record = (self.position, canonical(entry))
        self.records.append(record)
        return record


@dataclass
class WalkTrade:
    """What a walk remembers of a trade."""

    id: str
    seller: str
    buyer: str
    recorder: str
    currency: str
    amount: int
    digest: str
    open: int
    state: str = "recorded"
    disputed_by: str = ""
    reversal_by: str = ""

    def other(self, company: str) -> str:
        return self.buyer if company == self.seller else self.seller


@dataclass
class Walk:
    """A random walk of valid events. `run(n)` appends n entries and returns all records so far."""

    factory: EntryFactory
    companies: list[str] = field(default_factory=list)
    suspended: set[str] = field(default_factory=set)
    wallets: dict[str, list[str]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    trades: list[WalkTrade] = field(default_factory=list)
    references: int = 0

    def open_book(self) -> None:
        """The first entry of every log."""
        self.factory.add(
            "Book",
            str(uuid.uuid5(uuid.NAMESPACE_URL, self.factory.origin)),
            "BookOpened",
            {
                "chain_id": 31337,
                "contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
                "log_key": f"{self.factory.origin}+00000000+AAAA",
                "previous": None,
                "promise_key": f"{self.factory.origin}/promise+00000000+AAAA",
            },
        )

    def run(self, count: int) -> list[Record]:
        """Append `count` entries."""
        end = self.factory.position + count
        if not self.factory.position:
            self.open_book()
        while self.factory.position < end:
            moves = list(self._moves())
            weights = [weight for weight, _ in moves]
            self.factory.random.choices([move for _, move in moves], weights)[0]()
        return self.factory.records

    def _moves(self) -> Iterator[tuple[int, Callable[[], None]]]:
        if len(self.companies) < 2:
            yield 1, self.register
            return
        yield 1 if len(self.companies) < 8 else 0, self.register
        yield 2, self.toggle_company
        yield 3, self.open_wallet
        yield 3 if self.wallets else 0, self.change_wallet
        yield 1, self.sign_batch
        yield 20, self.record
        yield 60 if self.trades else 0, self.change_trade

    def register(self) -> None:
        code = f"company-{len(self.companies)}"
        self.companies.append(code)
        self.factory.add("Company", company_id(code), "CompanyRegistered", {"code": code, "name": f"会社 {code}"})

    def toggle_company(self) -> None:
        code = self.factory.random.choice(self.companies)
        event = "CompanyResumed" if code in self.suspended else "CompanySuspended"
        self.suspended ^= {code}
        self.factory.add(
            "Company", company_id(code), event, {"code": code, "reason": f"review {self.factory.position}"}
        )

    def open_wallet(self) -> None:
        company, subject = self.factory.random.choice(self.companies), self.factory.hex(32)
        wallet = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{company}:{subject}"))
        self.wallets.setdefault(company, []).append(wallet)
        self.states[wallet] = "active"
        self.factory.add(
            "Wallet",
            wallet,
            "WalletOpened",
            {
                "address": f"0x{self.factory.hex(40)}",
                "company": company,
                "custody": self.factory.random.choice(["custodial", "own"]),
                "signature": self.factory.signature(wallet),
                "subject": subject,
            },
            company,
            subject,
        )

    def change_wallet(self) -> None:
        company = self.factory.random.choice(list(self.wallets))
        wallet = self.factory.random.choice(self.wallets[company])
        state = self.states[wallet]
        events = {
            "active": ["WalletKeyRotated", "WalletFrozen", "WalletClosed"],
            "frozen": ["WalletUnfrozen"],
            "closed": [],
        }
        if not events[state]:
            return
        event = self.factory.random.choice(events[state])
        self.states[wallet] = {"WalletFrozen": "frozen", "WalletClosed": "closed"}.get(event, "active")
        data: dict[str, Any] = {"reason": f"asked at {self.factory.position}"}
        if event == "WalletKeyRotated":
            data = {
                "new": f"0x{self.factory.hex(40)}",
                "new_signature": self.factory.signature(wallet),
                "old": f"0x{self.factory.hex(40)}",
                "signature": self.factory.signature(wallet),
            }
        self.factory.add("Wallet", wallet, event, data, company)

    def sign_batch(self) -> None:
        company = self.factory.random.choice(self.companies)
        self.factory.add(
            "Batch",
            self.factory.uuid(),
            "BatchSigned",
            {
                "company": company,
                "count": 1,
                "root": self.factory.hex(64),
                "signature": self.factory.signature(),
                "wallet": "",
            },
            company,
        )

    def record(self) -> WalkTrade:
        """A new trade between two companies."""
        rng = self.factory.random
        seller, buyer = rng.sample(self.companies, 2)
        recorder, currency = rng.choice([seller, buyer]), rng.choice(CURRENCIES)
        amount = rng.choice([1, rng.randint(1, 10**6), 10**18 - 1])
        self.references += 1
        terms = {
            "amount": {"currency": currency, "units": str(amount)},
            "buyer": buyer,
            "description": rng.choice(["緑茶 20箱", 'steel "coils"', "50% deposit_1", "Übersetzung"]),
            "due_on": "2027-01-31",
            "lines": [{"item": "item", "quantity": "1.5", "unit_price": str(amount)}],
            "recorded_by": recorder,
            "reference": f"INV-{self.references}" if rng.random() < 0.8 else "",
            "seller": seller,
            "traded_on": f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        }
        digest = hashlib.sha256(canonical(terms)).hexdigest()
        trade = WalkTrade(self.factory.uuid(), seller, buyer, recorder, currency, amount, digest, amount)
        self.trades.append(trade)
        self.factory.add(
            "Trade",
            trade.id,
            "TradeRecorded",
            {**terms, "digest": digest, "signature": self.factory.signature()},
            recorder,
        )
        return trade

    def act(self, trade: WalkTrade, event: str, by: str, **data: Any) -> None:
        """One more event of a trade, by one of its sides."""
        self.factory.add(
            "Trade",
            trade.id,
            event,
            {"by": by, "digest": trade.digest, "signature": self.factory.signature(), **data},
            by,
        )

    def change_trade(self) -> None:
        rng = self.factory.random
        trade = rng.choice(self.trades[-30:])
        rng.choice([move for weight, move in self._trade_moves(trade) for _ in range(weight)])(trade)

    def _trade_moves(self, trade: WalkTrade) -> Iterator[tuple[int, Callable[[WalkTrade], None]]]:
        yield 1, self.note
        if trade.disputed_by:
            yield 4, self.withdraw
        elif trade.state in {"recorded", "confirmed"}:
            yield 1, self.dispute
        if trade.state == "recorded":
            yield 1, self.reverse_alone
        if trade.disputed_by:
            return
        if trade.state == "recorded":
            yield 8, self.confirm
        if trade.state == "confirmed":
            yield 2, self.propose
            yield 6, self.settle
            if trade.open == trade.amount:
                yield 2, self.reverse_together

    def note(self, trade: WalkTrade) -> None:
        self.act(trade, "TradeNoteAdded", trade.buyer, attachments=[], note="see mail")

    def confirm(self, trade: WalkTrade) -> None:
        trade.state = "confirmed"
        self.act(trade, "TradeConfirmed", trade.other(trade.recorder))

    def dispute(self, trade: WalkTrade) -> None:
        trade.disputed_by = self.factory.random.choice([trade.seller, trade.buyer])
        self.act(trade, "TradeDisputed", trade.disputed_by, reason="数量が違う")

    def withdraw(self, trade: WalkTrade) -> None:
        by, trade.disputed_by = trade.disputed_by, ""
        self.act(trade, "TradeDisputeWithdrawn", by, reason="found")

    def _part(self, trade: WalkTrade) -> dict[str, str]:
        units = self.factory.random.choice([trade.open, self.factory.random.randint(1, trade.open)])
        return {"currency": trade.currency, "units": str(units)}

    def propose(self, trade: WalkTrade) -> None:
        self.act(trade, "TradeSettlementProposed", trade.buyer, amount=self._part(trade), settled_on="2026-12-01")

    def settle(self, trade: WalkTrade, units: int | None = None) -> None:
        amount = self._part(trade) if units is None else {"currency": trade.currency, "units": str(units)}
        trade.open -= int(amount["units"])
        trade.state = "confirmed" if trade.open else "settled"
        self.act(trade, "TradeSettled", trade.seller, amount=amount, settled_on="2026-12-01")

    def reverse_alone(self, trade: WalkTrade) -> None:
        trade.state = "reversed"
        self.act(trade, "TradeReversed", trade.recorder, reason="typo")

    def reverse_together(self, trade: WalkTrade) -> None:
        if not trade.reversal_by:
            trade.reversal_by = self.factory.random.choice([trade.seller, trade.buyer])
            self.act(trade, "TradeReversalProposed", trade.reversal_by, reason="cancelled")
        else:
            trade.state = "reversed"
            self.act(trade, "TradeReversed", trade.other(trade.reversal_by), reason="cancelled")


def company_id(code: str) -> str:
    """The aggregate id of a company in the walk."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"company:{code}"))


def walk(seed: int, count: int) -> Walk:
    """A walk of `count` entries, reproducible by its seed."""
    made = Walk(EntryFactory(seed))
    made.run(count)
    return made
