"""What the read models say is what the events say, now and at every earlier position."""

from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.anchor import AnchorEvent
from domain.event_types import EVENT_TYPES
from projections import balances as balance_queries
from projections import queries, trades
from projections.events import entry_codec
from projections.fold import Fold, Needs
from projections.position import EntryCorrupt
from projections.projector import Projector
from projections.store import ReadStore
from tests.entry_factory import EntryFactory, Walk, walk
from tests.projection_support import naive_balances, projected

VECTORS = Path(__file__).parents[1] / "vectors" / "entries"


@pytest.fixture
def walked(tmp_path: Path) -> tuple[Walk, ReadStore]:
    made = walk(11, 400)
    return made, projected(tmp_path / "read.db", made.factory.records, 90, 91, 260)


def test_every_trade_shows_the_state_its_events_led_to(walked: tuple[Walk, ReadStore]) -> None:
    made, store = walked
    assert len(made.trades) > 50
    for expected in made.trades:
        view = trades.trade(store.reader(), None, expected.id)
        assert view is not None
        assert (view.state, view.seller, view.buyer, view.recorded_by, view.digest) == (
            expected.state, expected.seller, expected.buyer, expected.recorder, expected.digest,
        )  # fmt: skip
        assert view.open.units == ("0" if expected.state == "reversed" else str(expected.open))
        assert (view.dispute.by if view.dispute else "") == expected.disputed_by
        assert (view.reversal_proposed_by or "") == expected.reversal_by
        assert view.version == made.factory.versions[expected.id]


def test_wallets_and_companies_show_the_state_their_events_led_to(walked: tuple[Walk, ReadStore]) -> None:
    made, store = walked
    for company, ids in made.wallets.items():
        views = queries.wallets(store.reader(), None, company).items
        assert {view.id: view.state for view in views} == {wallet: made.states[wallet] for wallet in ids}
        for view in views:
            assert view.address == view.keys[-1].address
            assert [key.until_position for key in view.keys] == [key.from_position for key in view.keys[1:]] + [None]
            assert queries.wallet_of(store.reader(), company, company, view.subject) == view
    for code in made.companies:
        found = queries.company(store.reader(), code)
        assert found is not None
        assert found.state == ("suspended" if code in made.suspended else "active")


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_money_is_conserved_at_every_position_and_as_of_equals_a_replay_up_to_there(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = walk(seed, 120)
    store = projected(tmp_path_factory.mktemp("money") / "read.db", made.factory.records, 50)
    for position in range(1, 121):
        expected = dict(naive_balances(made.factory.records[:position]))
        shown = {}
        sums: dict[str, int] = defaultdict(int)
        for company in made.companies:
            for row in balance_queries.balances(store.reader(), company, company, as_of=position):
                shown[row.company, row.counterparty, row.balance.currency] = int(row.balance.units)
                sums[row.balance.currency] += int(row.balance.units)
        assert shown == expected
        assert not any(sums.values())
    store.close()


def test_balances_larger_than_64_bits_stay_exact(tmp_path: Path) -> None:
    made = Walk(EntryFactory(5))
    made.run(3)
    expected: dict[tuple[str, str, str], int] = {}
    while not any(abs(units) > 2**64 for units in expected.values()):
        made.confirm(made.record())
        expected = naive_balances(made.factory.records)
    store = projected(tmp_path / "read.db", made.factory.records, 20, 50)
    for (company, counterparty, currency), units in expected.items():
        (row,) = balance_queries.balances(store.reader(), None, company, counterparty=counterparty, currency=currency)
        assert row.balance.units == str(units)


def test_a_trade_as_of_a_position_or_time_equals_its_view_in_a_replay_up_to_there(tmp_path: Path) -> None:
    made = walk(23, 150)
    records = made.factory.records
    whole = projected(tmp_path / "whole.db", records)
    partial = ReadStore(tmp_path / "partial.db")
    follower = Projector(partial)
    for position, entry in records:
        follower.process([(position, entry)])
        time = msgspec.json.decode(entry)["recorded_at"]
        last_of_time = queries.position_at(whole.reader(), time)
        for trade in made.trades:
            expected = trades.trade(partial.reader(), None, trade.id)
            assert trades.trade(whole.reader(), None, trade.id, as_of=position) == expected
            if last_of_time == position:
                assert trades.trade(whole.reader(), None, trade.id, as_of=time) == expected
            assert trades.history(whole.reader(), None, trade.id, as_of=position) == trades.history(
                partial.reader(), None, trade.id
            )


def test_a_time_means_the_last_position_recorded_at_or_before_it(walked: tuple[Walk, ReadStore]) -> None:
    made, store = walked
    times = [msgspec.json.decode(entry)["recorded_at"] for _, entry in made.factory.records]
    assert queries.position_at(store.reader(), "2026-01-01T00:00:00.000000Z") == 0
    assert queries.position_at(store.reader(), "2999-01-01T00:00:00.000000Z") == len(times)
    for time in set(times):
        assert queries.position_at(store.reader(), time) == max(i for i, t in enumerate(times, 1) if t <= time)


def test_a_settlement_above_what_is_open_stops_the_projection(tmp_path: Path) -> None:
    made = Walk(EntryFactory(2))
    made.run(3)
    trade = made.record()
    made.confirm(trade)
    made.settle(trade, units=trade.amount + 1)
    with pytest.raises(EntryCorrupt, match="position 6 settles"):
        projected(tmp_path / "read.db", made.factory.records)


def test_the_ledger_writes_no_event_that_would_stop_its_read_models() -> None:
    written = {name for name, kind in EVENT_TYPES.items() if not issubclass(kind, AnchorEvent)}
    assert entry_codec().types == written


def test_what_a_store_says_is_kept_among_the_entries_for_auditors_alone() -> None:
    lines = (VECTORS / "v1-subscriptions.jsonl").read_bytes().splitlines()
    codec = entry_codec()
    heads = [codec.head(position, line, "") for position, line in enumerate(lines, 1)]
    needs, fold = Needs(heads), Fold(codec)
    assert (needs.companies, needs.wallets, needs.trades) == (set(), set(), set())
    for head, line in zip(heads, lines, strict=True):
        fold.apply(head, line)
    assert fold.entries == [(position, None, "", line) for position, line in enumerate(lines, 1)]
    assert (fold.changed_companies, fold.changed_trades, fold.postings) == (set(), set(), {})
