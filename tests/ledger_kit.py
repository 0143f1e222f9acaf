"""A ledger for tests: the real parts wired as in the product, real keys, and an audit that shares no code with them."""

import asyncio
import datetime as dt
import hashlib
import itertools
import json
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from chain.authorship import TypedVerifier
from chain.curve import checksummed, keccak, public_key, sign_digest
from chain.eip712 import TypedSigner, signature_hex
from domain import commands as c
from domain.authorship import Authorship, Signed, Unsigned
from domain.entry import Actor
from domain.errors import SignerUnavailable
from domain.ids import wallet_id
from domain.ledger import Ledger
from domain.money import Money
from domain.orders import Answer, Order, Receipt
from domain.signature import ClientSignature
from storage.clock import LedgerClock
from storage.entry_log import SqliteEntryLog
from storage.postgres.database import Database
from storage.postgres.entry_log import PostgresEntryLog
from storage.postgres.recorder import PostgresLedgerRecorder, library_environment
from storage.sqlite_recorder import LedgerRecorder
from storage.writer import GroupWriter
from tests.merkle_reference import ReferenceTree
from tests.merkle_reference import leaf as reference_leaf

ORIGIN = "daicho.invalid/3f9c3f9c3f9c3f9c"
CHAIN = 20260
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
OPERATOR = Actor("", "00" * 16)
TYPED = TypedSigner(CHAIN, CONTRACT)
NUMBERS = itertools.count()  # command keys and nonces of all processes of a test differ
T = TypeVar("T")


class Key:
    """A secp256k1 key made from a name, so that a failing example can be repeated."""

    def __init__(self, name: str) -> None:
        self.secret = hashlib.sha256(f"test key {name}".encode()).digest()
        self.address = checksummed(keccak(public_key(self.secret))[-20:])

    def sign(self, message: Unsigned, origin: str = ORIGIN) -> str:
        """The EIP-712 signature over a message of this book, chain and contract."""
        digest = TYPED.digest(
            message.event_type, origin, message.aggregate_id, message.data, int(message.nonce, 16), message.deadline
        )
        return signature_hex(sign_digest(self.secret, digest))


class Custodian:
    """The signer's duties without its process: a key per wallet, an answer per message, or none while it is down."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.down = False
        self.signed: list[Unsigned] = []

    async def sign(self, messages: Sequence[Unsigned]) -> list[Signed]:
        if self.down:
            raise SignerUnavailable("signer: not there")
        self.signed += messages
        return [Signed(self.keys[m.wallet].address, self.keys[m.wallet].sign(m)) for m in messages]


@dataclass
class WallClock:
    """The machine's clock, set wrong by `shift` seconds."""

    shift: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift


@dataclass(frozen=True)
class Party:
    """A user of a company with a wallet."""

    actor: Actor
    key: Key

    @property
    def code(self) -> str:
        return self.actor.company

    @property
    def wallet(self) -> str:
        return wallet_id(self.actor.company, self.actor.subject)


@dataclass
class Book:
    """One process's view of a ledger: open several on one path and they are several processes."""

    path: Path
    ledger: Ledger
    recorder: Any
    entries: Any
    writer: GroupWriter
    custodian: Custodian
    wall: WallClock

    # -- asking ------------------------------------------------------------------------------------------------------

    def order(self, who: Party | Actor, command: c.Command, key: str = "", expected: int | None = None) -> Order:
        actor = who.actor if isinstance(who, Party) else who
        return Order.of(ORIGIN, command, actor, key or f"key {next(NUMBERS)}", expected_version=expected)

    async def do(self, who: Party | Actor, command: c.Command, key: str = "", expected: int | None = None) -> Receipt:
        """Do one command; refusals are raised."""
        return await self.ledger.execute(self.order(who, command, key, expected))

    async def company(self, code: str) -> None:
        await self.do(OPERATOR, c.RegisterCompany(code=code, name=code.title()))

    async def user(self, company: str, name: str = "clerk", custody: Any = "custodial") -> Party:
        """A user with a wallet, whose key the custodian has if it is custodial."""
        subject = hashlib.sha256(f"{company}/{name}".encode()).hexdigest()[:32]
        party = Party(Actor(company, subject), Key(f"{company}/{name}"))
        data = {"company": company, "custody": custody, "address": party.key.address}
        proof = self.proof(party.key, "WalletOpened", party.wallet, party.wallet, data)
        if custody == "custodial":
            self.custodian.keys[party.wallet] = party.key
        await self.do(
            party,
            c.OpenWallet(subject=subject, company=company, address=party.key.address, custody=custody, signature=proof),
        )
        return party

    async def two_sides(self) -> tuple[Party, Party]:
        """The companies aozora and kita with a user each."""
        for code in ("aozora", "kita"):
            await self.company(code)
        return await self.user("aozora"), await self.user("kita")

    async def two_more(self) -> tuple[Party, Party]:
        """The companies mori and umi with a user each."""
        for code in ("mori", "umi"):
            await self.company(code)
        return await self.user("mori"), await self.user("umi")

    # -- signing by oneself ------------------------------------------------------------------------------------------

    def proof(
        self, key: Key, event_type: str, wallet: str, aggregate_id: str, data: dict[str, Any], **other: Any
    ) -> ClientSignature:
        message = self.message(event_type, wallet, aggregate_id, data, **other)
        return ClientSignature(message.deadline, message.nonce, key.sign(message))

    def message(self, event_type: str, wallet: str, aggregate_id: str, data: dict[str, Any], **other: Any) -> Unsigned:
        nonce = other.get("nonce") or "0x" + hashlib.sha256(f"nonce {next(NUMBERS)}".encode()).hexdigest()
        deadline = other.get("deadline") or int(self.wall()) + 600
        return Unsigned(wallet, "", event_type, aggregate_id, data, nonce, deadline)

    def signed(self, party: Party, command: c.TradeCommand, key: Key | None = None, **other: Any) -> c.TradeCommand:
        """The command with its own-custody signature (by another key, nonce or deadline where a test wants it)."""
        message = self.message("", "", "", {}, **other)
        message = self.ledger.authorship.message_of(self.order(party, command), message.nonce, message.deadline)
        proof = ClientSignature(message.deadline, message.nonce, (key or party.key).sign(message))
        return type(command)(**{**fields_of(command), "signature": proof})

    def rotation(self, party: Party, new: Key, **other: Any) -> c.RotateKey:
        data = {"old": party.key.address, "new": new.address}
        message = self.message("WalletKeyRotated", party.wallet, party.wallet, data, **other)
        proofs = [ClientSignature(message.deadline, message.nonce, key.sign(message)) for key in (party.key, new)]
        return c.RotateKey(wallet=party.wallet, new=new.address, signature=proofs[0], new_signature=proofs[1])

    # -- looking -----------------------------------------------------------------------------------------------------

    def records(self) -> list[tuple[int, bytes]]:
        return self.entries.read(1, 1_000_000)

    def audit(self) -> list[dict[str, Any]]:
        """Every entry, decoded, after all that can be said against it has been looked for."""
        return audit(self.records())

    def close(self) -> None:
        self.writer.close()
        self.entries.close()
        self.recorder.close()


def open_book(path: Path, *, custodian: Custodian | None = None, **limits: Any) -> Book:
    """Wire a ledger over an event store in a file as `cli` does."""
    ledger = Ledger({"SQLITE_DBNAME": str(path)})
    assert isinstance(ledger.recorder, LedgerRecorder)
    return wire_book(path, ledger, SqliteEntryLog(path), custodian, **limits)


def open_postgres_book(database: Database, *, custodian: Custodian | None = None, **limits: Any) -> Book:
    """Wire a ledger over an event store in PostgreSQL as `cli` does."""
    ledger = Ledger(library_environment(database, "ledger"))
    assert isinstance(ledger.recorder, PostgresLedgerRecorder)
    ledger.recorder.attach(database)
    return wire_book(Path(database.book), ledger, PostgresEntryLog(database), custodian, **limits)


def wire_book(path: Path, ledger: Ledger, entries: Any, custodian: Custodian | None, **limits: Any) -> Book:
    """The parts of a ledger, connected."""
    wall, keys = WallClock(), custodian or Custodian()
    recorder: Any = ledger.recorder
    recorder.bind(ORIGIN, LedgerClock(wall=wall))
    writer = GroupWriter(recorder, entries, ledger, **limits)
    verifier = TypedVerifier(ORIGIN, CHAIN, CONTRACT)
    ledger.connect(writer, Authorship(ORIGIN, ledger.load, keys, verifier, wall))
    return Book(path, ledger, recorder, entries, writer, keys, wall)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


# -- commands --------------------------------------------------------------------------------------------------------


def record(seller: str = "aozora", buyer: str = "kita", units: int = 1000, reference: str = "R-1", **more: Any) -> Any:
    terms: dict[str, Any] = {
        "amount": Money("JPY", str(units)),
        "traded_on": dt.date(2026, 11, 20),
        "due_on": dt.date(2026, 12, 31),
        "description": "りんご 20 箱",
        **more,
    }
    return c.RecordTrade(seller=seller, buyer=buyer, reference=reference, **terms)


def settle(trade: str, units: int, currency: str = "JPY") -> c.SettleTrade:
    return c.SettleTrade(trade=trade, amount=Money(currency, str(units)), settled_on=dt.date(2026, 12, 1))


def propose_settlement(trade: str, units: int, currency: str = "JPY") -> c.ProposeSettlement:
    return c.ProposeSettlement(trade=trade, amount=Money(currency, str(units)), settled_on=dt.date(2026, 12, 1))


def trade_id(number: int = 0) -> str:
    """A UUIDv7 that a client has chosen."""
    return f"01938a5e-7c00-7aaa-aaaa-{number:012x}"


def fields_of(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def names(answers: Sequence[Answer]) -> list[str]:
    """What each answer is: "done", "repeat" or the refusal's class."""
    return [
        ("repeat" if answer.hit else "done") if isinstance(answer, Receipt) else type(answer).__name__
        for answer in answers
    ]


# -- the audit -------------------------------------------------------------------------------------------------------


def audit(records: Sequence[tuple[int, bytes]], origin: str = ORIGIN) -> list[dict[str, Any]]:
    """Decode a log after checking what a stranger would: no hole, order, canonical bytes, versions, authorship."""
    entries = [json.loads(state) for _, state in records]
    assert [position for position, _ in records] == list(range(1, len(records) + 1)), "positions have a hole"
    versions: dict[str, int] = {}
    wallets: dict[str, str] = {}
    digests: dict[str, str] = {}
    commands: set[str] = set()
    last = before = ""
    for (position, state), entry in zip(records, entries, strict=True):
        assert state == json.dumps(entry, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        assert entry["position"] == position
        assert entry["log"] == origin
        assert entry["recorded_at"] >= last, "time goes back"
        last = entry["recorded_at"]
        versions[entry["aggregate_id"]] = versions.get(entry["aggregate_id"], 0) + 1
        assert entry["version"] == versions[entry["aggregate_id"]], "versions have a hole"
        key = entry["command"]["key"]
        assert key not in commands or key == before, "a command was done twice"  # its entries stand together
        commands.add(key)
        before = key
        _audit_digest(entry, digests)
        _audit_signature(entry, wallets, entries, origin)
    return entries


def _audit_digest(entry: dict[str, Any], digests: dict[str, str]) -> None:
    data = entry["data"]
    if entry["type"] == "TradeRecorded":
        terms = {name: value for name, value in data.items() if name not in {"digest", "signature"}}
        text = json.dumps(terms, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        digests[entry["aggregate_id"]] = hashlib.sha256(text.encode()).hexdigest()
    if entry["aggregate"] == "Trade":
        assert data["digest"] == digests[entry["aggregate_id"]], "a digest of other terms"


def _audit_signature(
    entry: dict[str, Any], wallets: dict[str, str], entries: list[dict[str, Any]], origin: str
) -> None:
    data, kind = entry["data"], entry["type"]
    signature = data.get("signature")
    if kind == "WalletOpened":
        wallets[entry["aggregate_id"]] = data["address"]
    if signature is None:
        return
    if "batch" in signature:
        _audit_batch(entry, signature, entries)
        return
    address = wallets[signature["wallet"]]
    TYPED.require_signer(kind, origin, entry["aggregate_id"], data, address)
    assert signature["address"] == address
    assert signature["deadline"] >= dt.datetime.fromisoformat(entry["recorded_at"]).timestamp()
    if kind == "WalletKeyRotated":
        by_new = {**data, "signature": data["new_signature"]}
        TYPED.require_signer(kind, origin, entry["aggregate_id"], by_new, data["new"])
        wallets[entry["aggregate_id"]] = data["new"]


def _audit_batch(entry: dict[str, Any], signature: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    head = entries[entry["position"] - 2 - signature["index"]]
    assert (head["type"], head["aggregate_id"]) == ("BatchSigned", signature["batch"]), "the batch is somewhere else"
    assert head["data"]["wallet"] == signature["wallet"]
    if signature["index"]:
        return
    lines = entries[head["position"] : head["position"] + head["data"]["count"]]
    leaves = []
    for index, line in enumerate(lines):
        assert (line["data"]["signature"]["batch"], line["data"]["signature"]["index"]) == (signature["batch"], index)
        data = {name: value for name, value in line["data"].items() if name != "signature"}
        content = {"aggregate_id": line["aggregate_id"], "data": data, "type": line["type"]}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        leaves.append(reference_leaf(text.encode()))
    assert len(leaves) == head["data"]["count"]
    assert ReferenceTree(leaves).root(0, len(leaves)).hex() == head["data"]["root"], "the root is not that of the lines"
