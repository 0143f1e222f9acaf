"""Who sees what, and lists that stay stable while the log grows."""

import json
from pathlib import Path

import msgspec
import pytest

from merkle.hashing import leaf_hash
from projections import balances as balance_queries
from projections import queries, trades
from projections.projector import Projector
from projections.store import ReadStore
from projections.trades import TradeFilter
from projections.views import TradeView
from tests.entry_factory import EntryFactory, Walk, walk
from tests.projection_support import projected


@pytest.fixture(scope="module")
def made() -> Walk:
    return walk(31, 500)


@pytest.fixture(scope="module")
def store(made: Walk, tmp_path_factory: pytest.TempPathFactory) -> ReadStore:
    return projected(tmp_path_factory.mktemp("queries") / "read.db", made.factory.records, 200)


def _all(
    store: ReadStore, viewer: str | None, wanted: TradeFilter = trades.ALL_TRADES, limit: int = 7
) -> list[TradeView]:
    found: list[TradeView] = []
    page = trades.trades(store.reader(), viewer, wanted, limit=limit)
    found += page.items
    while page.next is not None:
        page = trades.trades(store.reader(), viewer, wanted, before=page.next, limit=limit)
        found += page.items
    return found


def test_a_company_sees_the_trades_it_is_a_party_to_and_no_other(made: Walk, store: ReadStore) -> None:
    for viewer in made.companies:
        expected = [t.id for t in reversed(made.trades) if viewer in {t.seller, t.buyer}]
        assert [view.id for view in _all(store, viewer)] == expected
        for trade in made.trades:
            party = viewer in {trade.seller, trade.buyer}
            assert (trades.trade(store.reader(), viewer, trade.id) is not None) == party
            assert (trades.trade(store.reader(), viewer, trade.id, as_of=500) is not None) == party
            assert bool(trades.history(store.reader(), viewer, trade.id)) == party
    assert [view.id for view in _all(store, None)] == [t.id for t in reversed(made.trades)]


def test_a_stranger_sees_nothing(made: Walk, store: ReadStore) -> None:
    assert _all(store, "stranger") == []
    assert balance_queries.balances(store.reader(), "stranger", made.companies[0]) == []
    assert queries.wallets(store.reader(), "stranger", made.companies[0]).items == []
    assert all(queries.wallet(store.reader(), "stranger", wallet) is None for wallet in made.states)


def test_every_filter_selects_what_it_says(made: Walk, store: ReadStore) -> None:
    everything = _all(store, None)
    me, other = made.companies[0], made.companies[1]
    mine = [t for t in everything if me in {t.seller, t.buyer}]
    cases = [
        (TradeFilter(side="seller"), lambda t: t.seller == me),
        (TradeFilter(side="buyer"), lambda t: t.buyer == me),
        (TradeFilter(counterparty=other), lambda t: other in {t.seller, t.buyer}),
        (TradeFilter(counterparty=other, side="buyer"), lambda t: t.seller == other),
        (TradeFilter(company=me), lambda t: True),
        (TradeFilter(company=other), lambda t: other in {t.seller, t.buyer}),
        (TradeFilter(company=other, side="seller"), lambda t: t.seller == other),
        (TradeFilter(company=other, counterparty=made.companies[2]), lambda t: False),
        (TradeFilter(state="settled"), lambda t: t.state == "settled"),
        (TradeFilter(disputed=True), lambda t: t.dispute is not None),
        (TradeFilter(disputed=False), lambda t: t.dispute is None),
        (TradeFilter(currency="KWD"), lambda t: t.amount.currency == "KWD"),
        (TradeFilter(traded_from="2026-06-10"), lambda t: t.traded_on >= "2026-06-10"),
        (TradeFilter(traded_until="2026-06-10"), lambda t: t.traded_on <= "2026-06-10"),
        (TradeFilter(reference=mine[0].reference), lambda t: t.reference == mine[0].reference),
        (TradeFilter(text="STEEL"), lambda t: "steel" in t.description),
        (TradeFilter(text="緑茶"), lambda t: "緑茶" in t.description),
        (TradeFilter(text="50% deposit_"), lambda t: "50% deposit_" in t.description),
        (TradeFilter(text="%"), lambda t: "%" in t.description),
    ]
    for wanted, holds in cases:
        assert [t.id for t in _all(store, me, wanted)] == [t.id for t in mine if holds(t)], wanted
    assert [t.id for t in _all(store, None, TradeFilter(company=me, side="seller"))] == [
        t.id for t in everything if t.seller == me
    ]
    assert [t.id for t in _all(store, None, TradeFilter(counterparty=me))] == [t.id for t in mine]
    assert [t.id for t in _all(store, None, TradeFilter(side="buyer"))] == [t.id for t in everything]


def test_a_list_read_page_by_page_is_stable_while_trades_arrive_and_change(tmp_path: Path) -> None:
    made = walk(41, 200)
    store = projected(tmp_path / "read.db", made.factory.records)
    projector = Projector(store)
    expected = [t.id for t in reversed(made.trades)]
    seen: list[str] = []
    before = None
    while True:
        page = trades.trades(store.reader(), None, before=before, limit=5)
        seen += [view.id for view in page.items]
        before = page.next
        if before is None:
            break
        grown = made.run(20)
        projector.process(grown[-20:])
    assert seen == expected


def test_companies_and_wallets_are_paged_in_order_without_gaps(made: Walk, store: ReadStore) -> None:
    codes: list[str] = []
    after = None
    while True:
        page = queries.companies(store.reader(), after=after, limit=3)
        codes += [view.code for view in page.items]
        after = page.next
        if after is None:
            break
    assert codes == made.companies
    company = max(made.wallets, key=lambda code: len(made.wallets[code]))
    wallets: list[str] = []
    while True:
        found = queries.wallets(store.reader(), None, company, after=after, limit=2)
        wallets += [view.id for view in found.items]
        after = found.next
        if after is None:
            break
    assert wallets == made.wallets[company]


def test_a_history_holds_every_event_of_the_trade_exactly_as_recorded(made: Walk, store: ReadStore) -> None:
    trade = max(made.trades, key=lambda t: made.factory.versions[t.id])
    events = [(at, entry, json.loads(entry)) for at, entry in made.factory.records]
    expected = [(at, entry, event) for at, entry, event in events if event["aggregate_id"] == trade.id]
    history = trades.history(store.reader(), trade.seller, trade.id)
    assert [view.position for view in history] == [at for at, _, _ in expected]
    for view, (_, entry, event) in zip(history, expected, strict=True):
        assert view.leaf_hash == leaf_hash(entry).hex()
        assert bytes(view.data) in entry
        assert json.loads(bytes(view.data)) == event["data"]
        assert (view.type, view.version, view.recorded_at) == (event["type"], event["version"], event["recorded_at"])
        assert (view.by, view.subject) == (event["actor"]["company"], event["actor"]["subject"])


def test_an_entry_is_readable_by_those_it_concerns(made: Walk, store: ReadStore) -> None:
    parties = {t.id: {t.seller, t.buyer} for t in made.trades}
    owners = {wallet: {company} for company, ids in made.wallets.items() for wallet in ids}
    everybody = set(made.companies)
    for at, entry in made.factory.records:
        event = json.loads(entry)
        expected = {"Book": everybody, "Company": everybody, "Trade": parties.get(event["aggregate_id"])}.get(
            event["aggregate"]
        )
        if event["aggregate"] == "Wallet":
            expected = owners[event["aggregate_id"]]
        if event["aggregate"] == "Batch":
            expected = {event["data"]["company"]}
        assert {code for code in made.companies if queries.may_read(store.reader(), code, at)} == expected
        assert queries.may_read(store.reader(), None, at) is True
    last = len(made.factory.records)
    for viewer in [None, *made.companies[:3]]:
        expected_list = [at for at in range(1, last + 1) if queries.may_read(store.reader(), viewer, at)]
        assert queries.readable(store.reader(), viewer, 1, last) == expected_list


@pytest.mark.parametrize("position", [0, -1, 501, 2**63 - 1, 2**63, 2**80])
def test_positions_that_do_not_exist_are_unknown_not_errors(store: ReadStore, position: int) -> None:
    assert queries.may_read(store.reader(), None, position) is None
    assert trades.trades(store.reader(), None, before=max(position, 0)).items is not None


def test_a_trade_is_found_by_its_recorders_reference(made: Walk, store: ReadStore) -> None:
    view = next(t for t in _all(store, None) if t.reference)
    other = ({view.seller, view.buyer} - {view.recorded_by}).pop()
    stranger = next(code for code in made.companies if code not in {view.seller, view.buyer})
    assert trades.trade_by_reference(store.reader(), other, view.recorded_by, view.reference) == view
    assert trades.trade_by_reference(store.reader(), None, other, view.reference) is None
    assert trades.trade_by_reference(store.reader(), stranger, view.recorded_by, view.reference) is None
    assert trades.trade_by_reference(store.reader(), None, view.recorded_by, "") is None


def test_payloads_are_json_with_amounts_as_strings_and_lines_unchanged(made: Walk, store: ReadStore) -> None:
    trade = made.trades[0]
    payload = json.loads(msgspec.json.encode(trades.trade(store.reader(), None, trade.id)))
    assert payload["amount"] == {"currency": trade.currency, "units": str(trade.amount)}
    assert payload["lines"] == [{"item": "item", "quantity": "1.5", "unit_price": str(trade.amount)}]
    totals = balance_queries.totals(store.reader(), None, trade.seller)
    assert [money.currency for money in totals] == sorted({money.currency for money in totals})


def test_the_book_says_where_it_is_anchored(store: ReadStore, tmp_path: Path) -> None:
    book = queries.book(store.reader())
    assert book is not None
    assert (book.chain_id, book.position, bytes(book.previous)) == (31337, 1, b"null")
    successor = EntryFactory(1)
    data = {
        "chain_id": 1, "contract": "0x", "log_key": "k", "promise_key": "p",
        "previous": {"origin": "old", "root": "00", "size": 3},
    }  # fmt: skip
    successor.add("Book", "b", "BookOpened", data)
    other = projected(tmp_path / "read.db", successor.records)
    view = queries.book(other.reader())
    assert view is not None
    assert json.loads(bytes(view.previous)) == data["previous"]


def test_a_snapshot_does_not_move_while_entries_arrive(tmp_path: Path) -> None:
    made = walk(51, 60)
    store = projected(tmp_path / "read.db", made.factory.records[:40])
    with store.snapshot() as connection:
        Projector(store).process(made.factory.records[40:])
        assert queries.position(connection) == 40
        assert queries.may_read(connection, None, 41) is None
    assert queries.position(store.reader()) == 60
