"""Random walks of two companies and a stranger through the real ledger, beside a reference model of a few lines.

The model knows states, the open amount, consent and balances; it shares no code with the ledger.
"""

import asyncio
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain import commands as c
from domain.errors import DaichoError
from domain.ids import company_id
from domain.money import Money
from tests.event_stores import SqliteStore
from tests.ledger_kit import OPERATOR, Party, propose_settlement, record, settle, trade_id

COMPANIES = ("aozora", "kita", "mori")
WHO = st.sampled_from(["aozora", "kita", "aozora", "kita", "mori"])
TRADE = st.sampled_from([0, 0, 0, 1, 1, 2]).map(trade_id)
UNITS = st.sampled_from([0, 1, 1000, 1000])
PARTS = st.sampled_from(["nothing", "one", "half", "all", "all", "more"])
CURRENCY = st.sampled_from(["JPY", "JPY", "JPY", "EUR"])
STEPS = ["note", "confirm", "settle", "propose", "ask", "reverse", "dispute", "withdraw"]
YOUNG = ["confirm", "confirm", "confirm", "dispute", "withdraw"]  # what a recorded trade mostly takes
OLD = ["settle", "ask", "ask", "reverse", "reverse", "reverse", "propose", "dispute", "withdraw", "withdraw"]


def part_of(still_open: int, part: str) -> int:
    return {"nothing": 0, "one": 1, "half": still_open // 2, "all": still_open, "more": still_open + 1}[part]


@dataclass
class Model:
    """A trade as a clerk would keep it on paper."""

    seller: str
    buyer: str
    recorder: str
    amount: int
    open: int
    state: str = "recorded"
    disputed_by: str = ""
    reversal_by: str = ""

    def sides(self) -> tuple[str, str]:
        return self.seller, self.buyer

    def may(self, step: str, who: str, units: int, currency: str) -> bool:
        """Whether the step is allowed, as one sentence of the rule book each."""
        other = self.buyer if who == self.seller else self.seller
        calm, confirmed = not self.disputed_by, self.state == "confirmed"
        fits = calm and confirmed and currency == "JPY" and 0 < units <= self.open
        rules = {
            "confirm": calm and self.state == "recorded" and who != self.recorder,
            "dispute": calm and self.state in {"recorded", "confirmed"},
            "withdraw": who == self.disputed_by,
            "propose": fits and who == self.buyer,
            "settle": fits and who == self.seller,
            "ask": calm and confirmed and self.open == self.amount and self.reversal_by != who,
            "reverse": (self.state == "recorded" and who == self.recorder)
            or (calm and confirmed and self.open == self.amount and self.reversal_by == other),
            "note": True,
        }
        return who in self.sides() and rules[step]

    def do(self, step: str, who: str, units: int) -> dict[str, int]:
        """Take the step; the change of each company's balance."""
        if step == "confirm":
            self.state = "confirmed"
            return {self.seller: self.amount, self.buyer: -self.amount}
        if step == "reverse":
            confirmed, self.state = self.state == "confirmed", "reversed"
            return {self.seller: -self.amount, self.buyer: self.amount} if confirmed else {}
        if step == "settle":
            self.open -= units
            self.state = "confirmed" if self.open else "settled"
            return {self.seller: -units, self.buyer: units}
        if step in {"dispute", "withdraw"}:
            self.disputed_by = who if step == "dispute" else ""
        if step == "ask":
            self.reversal_by = who
        return {}


def balances(entries: list[dict[str, Any]]) -> dict[str, int]:
    """The double entries that the log's events stand for, by the rule book of the entry format."""
    sides: dict[str, tuple[str, str, int]] = {}
    confirmed: set[str] = set()
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        trade, data = entry["aggregate_id"], entry["data"]
        change = 0
        if entry["type"] == "TradeRecorded":
            sides[trade] = data["seller"], data["buyer"], int(data["amount"]["units"])
        elif entry["type"] == "TradeConfirmed":
            confirmed.add(trade)
            change = sides[trade][2]
        elif entry["type"] == "TradeSettled":
            change = -int(data["amount"]["units"])
        elif entry["type"] == "TradeReversed" and trade in confirmed:
            change = -sides[trade][2]
        if change:
            sums[sides[trade][0]] += change
            sums[sides[trade][1]] -= change
    return {company: units for company, units in sums.items() if units}


class TradeWalk(RuleBasedStateMachine):
    """Every command is asked of the ledger and of the model: they agree, or the walk has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="daicho-walk-"))
        self.store = SqliteStore(self.folder)
        self.loop = asyncio.Runner()
        self.book = self.store.open()
        self.other = self.store.open()
        self.at = self.book
        self.trades: dict[str, Model] = {}
        self.references: set[tuple[str, str]] = set()
        self.sums: dict[str, int] = defaultdict(int)
        self.stopped: set[str] = set()
        self.stored = 0

    @initialize()
    def sides(self) -> None:
        async def open_all() -> dict[str, Party]:
            for code in COMPANIES:
                await self.book.company(code)
            return {code: await self.book.user(code) for code in COMPANIES}

        self.parties = self.loop.run(open_all())
        self.stored = 6
        self.record(trade_id(0), "aozora", "kita", "aozora", 1000, "r1")
        self.record(trade_id(1), "kita", "aozora", "aozora", 1000, "r2")

    def ask(self, who: Any, command: c.Command) -> bool:
        try:
            receipt = self.loop.run(self.at.do(who, command))
        except DaichoError:
            return False
        assert receipt.position == self.stored + 1
        self.stored += 1
        return True

    @rule(elsewhere=st.booleans())
    def change_process(self, elsewhere: bool) -> None:
        """The same file, another process with other caches."""
        self.at = self.other if elsewhere else self.book

    @rule(trade=TRADE, seller=WHO, buyer=WHO, who=WHO, units=UNITS, reference=st.sampled_from(["r1", "r2", "r3", "r4"]))
    def record(self, trade: str, seller: str, buyer: str, who: str, units: int, reference: str) -> None:
        allowed = (
            trade not in self.trades
            and seller != buyer
            and who in {seller, buyer}
            and units > 0
            and (who, reference) not in self.references
        )
        command = record(seller, buyer, units, reference, trade=trade)
        assert self.ask(self.parties[who], command) == allowed
        if allowed:
            self.trades[trade] = Model(seller, buyer, who, units, units)
            self.references.add((who, reference))

    @rule(data=st.data())
    def allowed_step(self, data: st.DataObject) -> None:
        """Some of those that the model allows, so that walks get somewhere."""
        for _ in range(3):
            if sum(model.state in {"recorded", "confirmed"} for model in self.trades.values()) < 2:
                number = len(self.trades) + 10
                self.record(trade_id(number), "aozora", "kita", "aozora", 1000, f"r{number}")
            self.one_allowed_step(data)

    def other_of(self, trade: str, who: str) -> str:
        seller, buyer = self.trades[trade].sides()
        return buyer if who == seller else seller

    def one_allowed_step(self, data: st.DataObject, asked_of: str = "") -> None:
        if choices := self.allowed(asked_of):
            trade, who, step, part = data.draw(st.sampled_from(choices))
            for spoiled in (  # allowed but for one thing, mostly: the model says
                (trade, self.other_of(trade, who), step, part, "JPY"),
                (trade, "mori", step, part, "JPY"),
                (trade, who, step, "more", "JPY"),
                (trade, who, step, "nothing", "JPY"),
                (trade, who, step, part, "EUR"),
            ):
                if spoiled[1] != who or step in {"settle", "propose"}:
                    self.follow_up(*spoiled)
            self.follow_up(trade, who, step, part, "JPY")

    def allowed(self, asked_of: str = "") -> list[tuple[str, str, str, str]]:
        """The steps that the model allows: trade, company, step, part of the open amount."""
        return [
            (trade, who, step, part)
            for trade, model in self.trades.items()
            for who in model.sides()
            for step in (YOUNG if model.state == "recorded" else OLD)
            for part in (("half", "all") if step in {"settle", "propose"} else ("all",))
            if model.may(step, who, part_of(model.open, part), "JPY") and asked_of in {"", who}
        ]

    @rule(data=st.data(), step=st.sampled_from(STEPS), part=PARTS, currency=CURRENCY, who=WHO)
    def any_step(self, data: st.DataObject, step: str, part: str, currency: str, who: str) -> None:
        """One that the model mostly does not allow."""
        self.follow_up(data.draw(st.sampled_from([*self.trades, trade_id(2)])), who, step, part, currency)

    def follow_up(self, trade: str, who: str, step: str, part: str, currency: str) -> None:
        model = self.trades.get(trade)
        units = part_of(model.open if model else 1000, part)
        commands: dict[str, c.Command] = {
            "confirm": c.ConfirmTrade(trade=trade),
            "dispute": c.DisputeTrade(trade=trade, reason="r"),
            "withdraw": c.WithdrawDispute(trade=trade, reason="r"),
            "propose": propose_settlement(trade, units, currency),
            "settle": settle(trade, units, currency),
            "ask": c.ProposeReversal(trade=trade, reason="r"),
            "reverse": c.ReverseTrade(trade=trade, reason="r"),
            "note": c.AddNote(trade=trade, note="n"),
        }
        allowed = model is not None and who not in self.stopped and model.may(step, who, units, currency)
        assert self.ask(self.parties[who], commands[step]) == allowed, (step, who, units, currency, model)
        if model is not None and allowed:
            for company, change in model.do(step, who, units).items():
                self.sums[company] += change

    @rule(data=st.data(), who=st.sampled_from(["kita", "aozora"]), freeze=st.booleans())
    def step_while_stopped(self, data: st.DataObject, who: str, freeze: bool) -> None:
        """Who is suspended, or has a frozen wallet, takes no step; afterwards it does again."""
        wallet = self.parties[who].wallet
        change: list[tuple[Any, c.Command]] = [
            (OPERATOR, c.SuspendCompany(code=who, reason="r")),
            (OPERATOR, c.ResumeCompany(code=who, reason="r")),
        ]
        if freeze:
            change = [
                (self.parties[who], c.FreezeWallet(wallet=wallet, reason="r")),
                (self.parties[who], c.UnfreezeWallet(wallet=wallet, reason="r")),
            ]
        assert not self.ask(*change[1])
        assert self.ask(*change[0])
        assert not self.ask(*change[0])
        self.stopped.add(who)
        self.one_allowed_step(data, asked_of=who)
        self.stopped.discard(who)
        assert self.ask(*change[1])

    @invariant()
    def the_sum_over_all_companies_is_zero(self) -> None:
        assert sum(self.sums.values()) == 0

    def teardown(self) -> None:
        """What was decided live is what a fresh process replays, and the log stands up to an audit."""
        try:
            entries = self.book.audit()
            assert len(entries) == self.stored
            assert balances(entries) == {company: units for company, units in self.sums.items() if units}
            self.loop.run(self.replayed_is_live())
            fresh = self.store.open()
            for trade, model in self.trades.items():
                replayed: Any = fresh.ledger.load(trade)
                assert (replayed.state, replayed.open, replayed.disputed_by, replayed.reversal_by) == (
                    model.state,
                    model.open,
                    model.disputed_by,
                    model.reversal_by,
                )
                assert replayed.amount == Money("JPY", str(model.amount))
        finally:
            self.store.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    async def replayed_is_live(self) -> None:
        """Everything cached that is not stale equals its replay from the store, field by field."""
        names = [*self.trades, *(company_id(code) for code in COMPANIES)]
        names += [party.wallet for party in getattr(self, "parties", {}).values()]
        for book in (self.book, self.other):
            for name in names:
                live, replayed = book.ledger.cache.cache.get(name), book.ledger.load_at(name)
                assert replayed is not None
                if live is not None and live.version == replayed.version:
                    assert fields(live) == fields(replayed)
                elif live is not None:
                    assert fields(live) == fields(book.ledger.load_at(name, live.version))


def fields(aggregate: Any) -> dict[str, Any]:
    found = [name for kind in type(aggregate).__mro__ for name in getattr(kind, "__slots__", ()) if name != "_pending"]
    return {name: getattr(aggregate, name) for name in found}


TradeWalk.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTradeWalk = TradeWalk.TestCase
