"""What comes from a store is in the inbox and in the log, or in neither; and what it says is recorded once."""

import hashlib
from typing import Any

import pytest

from domain.errors import (
    CommandKeyReused,
    MessageNotFound,
    NothingNew,
    OperatorOnly,
    SubscriptionNotFound,
)
from domain.ids import charge_id, message_id, subscription_id
from domain.orders import Order, Parcel, Receipt
from domain.store_commands import (
    JudgeNotification,
    ObserveSubscription,
    ReceiveNotification,
    SupersedeSubscription,
)
from domain.store_notification import (
    Charge,
    Kind,
    Plan,
    Refund,
    Standing,
    State,
    Store,
    StoreEnvironment,
    StoreNotification,
)
from tests.event_stores import SqliteStore
from tests.ledger_kit import OPERATOR, Book, names, run

APPLE, PRODUCTION = Store.APPLE, StoreEnvironment.PRODUCTION
HASH = "ab" * 32


@pytest.fixture
def book(store: SqliteStore) -> Book:
    return store.open()


def parcel(text: str) -> Parcel:
    sealed = f"sealed {text}".encode()
    return Parcel(hashlib.sha256(sealed).hexdigest(), "line", sealed, b"{}", b'{"chain":[]}')


def receive(book: Book, notification: str, text: str, key: str = "") -> Order:
    """An order to record that a body has come under an id of Apple's, the body in its parcel."""
    carried = parcel(text)
    command = ReceiveNotification(
        message=message_id(APPLE, PRODUCTION, notification), store=APPLE, environment=PRODUCTION, verdict="valid",
        payload=carried.payload, size=len(carried.sealed),
    )  # fmt: skip
    order = book.order(OPERATOR, command, key or f"{notification} {text}")
    order.parcel = carried
    return order


def said(at: int, **parts: Any) -> StoreNotification:
    fields = {"line": "100", **parts}
    return StoreNotification(APPLE, PRODUCTION, f"n-{at}", Kind.RENEWED, "DID_RENEW", at, **fields)


def test_what_came_is_in_the_inbox_with_the_position_of_its_entry(store: SqliteStore, book: Book) -> None:
    answers = run(book.ledger.execute_each([receive(book, "n1", "a"), receive(book, "n2", "b")]))
    positions = [answer.records[0][0] for answer in answers if isinstance(answer, Receipt)]
    inbox = store.parcels()
    rows = inbox.read(1, 10)
    assert [(row.number, row.position, row.sealed) for row in rows] == [
        (1, positions[0], b"sealed a"), (2, positions[1], b"sealed b"),
    ]  # fmt: skip
    assert inbox.head() == 2
    assert [row.number for row in inbox.read(2, 10)] == [2]
    assert inbox.of_payload(parcel("b").payload) == rows[1]
    assert (rows[0].owner, rows[0].headers, rows[0].proof) == ("line", b"{}", b'{"chain":[]}')
    assert inbox.of_payload(HASH) is None
    entries = book.audit()
    assert [(entry["type"], entry["data"]["payload"]) for entry in entries] == [
        ("NotificationReceived", parcel("a").payload), ("NotificationReceived", parcel("b").payload),
    ]  # fmt: skip


def test_the_same_bytes_again_are_a_repeat_and_stored_once(store: SqliteStore, book: Book) -> None:
    orders = [receive(book, "n1", "a"), receive(book, "n1", "a")]
    assert names(run(book.ledger.execute_each(orders))) == ["done", "repeat"]
    assert names(run(store.open().ledger.execute_each([receive(book, "n1", "a")]))) == ["repeat"]
    assert store.parcels().head() == 1


def test_other_bytes_under_the_same_id_are_both_kept(store: SqliteStore, book: Book) -> None:
    answers = run(book.ledger.execute_each([receive(book, "n1", "a"), receive(book, "n1", "b")]))
    assert names(answers) == ["done", "done"]
    assert [entry["type"] for entry in book.audit()] == ["NotificationReceived", "NotificationContradicted"]
    assert [row.sealed for row in store.parcels().read(1, 10)] == [b"sealed a", b"sealed b"]
    loaded: Any = book.ledger.load(message_id(APPLE, PRODUCTION, "n1"))
    assert loaded.contradicted
    assert loaded.payloads == [parcel("a").payload, parcel("b").payload]


def test_a_body_that_is_known_under_its_id_is_nothing_new_whatever_key_it_comes_with(book: Book) -> None:
    run(book.ledger.execute_each([receive(book, "n1", "a")]))
    assert names(run(book.ledger.execute_each([receive(book, "n1", "a", key="another")]))) == ["NothingNew"]
    reused = receive(book, "n1", "b", key="n1 a")
    assert isinstance(run(book.ledger.execute_each([reused]))[0], CommandKeyReused)


def test_a_refused_order_leaves_no_parcel(store: SqliteStore, book: Book) -> None:
    order = receive(book, "n1", "a")
    order.actor = type(OPERATOR)("aozora", OPERATOR.subject)
    assert isinstance(run(book.ledger.execute_each([order]))[0], OperatorOnly)
    assert store.parcels().head() == 0


def test_an_error_after_the_parcels_takes_entries_and_parcels_back(store: SqliteStore, book: Book) -> None:
    with store.failing_commits(book):
        assert names(run(book.ledger.execute_each([receive(book, "n1", "a")]))) == ["StorageUnavailable"]
    assert (store.parcels().head(), book.records()) == (0, [])
    assert names(run(book.ledger.execute_each([receive(book, "n1", "a")]))) == ["done"]
    assert store.parcels().head() == 1


def test_several_processes_leave_no_hole_in_the_inbox(store: SqliteStore) -> None:
    books = [store.open() for _ in range(3)]

    async def both() -> list[Any]:
        answers = []
        for number in range(10):
            for place, each in enumerate(books):
                answers += await each.ledger.execute_each([receive(each, f"n{place}-{number}", f"{place}-{number}")])
        return answers

    assert set(names(run(both()))) == {"done"}
    assert [row.number for row in store.parcels().read(1, 100)] == list(range(1, 31))


def test_a_verdict_that_came_later_is_recorded_once(book: Book) -> None:
    run(book.ledger.execute_each([receive(book, "n1", "a")]))
    judge = JudgeNotification(message=message_id(APPLE, PRODUCTION, "n1"), verdict="invalid")
    run(book.do(OPERATOR, judge))
    with pytest.raises(NothingNew):
        run(book.do(OPERATOR, judge))
    with pytest.raises(MessageNotFound):
        run(book.do(OPERATOR, JudgeNotification(message=message_id(APPLE, PRODUCTION, "n9"), verdict="valid")))
    assert book.audit()[-1]["type"] == "NotificationJudged"


def test_what_a_message_says_of_a_subscription_is_recorded_once_and_by_all_processes_alike(store: SqliteStore) -> None:
    first, second = store.open(), store.open()
    bought = said(5, standing=Standing(5, State.ACTIVE), plan=Plan(5, "monthly"), charges=(Charge("c1", 1, "monthly"),))
    run(first.do(OPERATOR, ObserveSubscription(said=bought, payload=HASH)))
    with pytest.raises(NothingNew):
        run(second.do(OPERATOR, ObserveSubscription(said=bought, payload=HASH)))
    run(second.do(OPERATOR, ObserveSubscription(said=said(9, refunds=(Refund("c1", 9),)), payload=HASH)))
    late = said(7, standing=Standing(7, State.GRACE))
    run(first.do(OPERATOR, ObserveSubscription(said=late, payload=HASH)))
    line = subscription_id(APPLE, PRODUCTION, "100")
    for book in (first, second):
        loaded: Any = book.ledger.load_at(line)
        assert loaded.history.state is State.GRACE
        assert loaded.history.refunded_whole(charge_id(APPLE, PRODUCTION, "c1"))
    entries = first.audit()
    assert [entry["type"] for entry in entries] == [
        "SubscriptionOpened", "SubscriptionObserved", "SubscriptionCharged", "ChargeRefunded", "SubscriptionObserved",
    ]  # fmt: skip
    assert b'"100"' not in b"".join(state for _, state in first.records()), "no id of a store's is in the log"


@pytest.mark.parametrize("empty", [said(5), said(5, line=None, standing=Standing(5, State.ACTIVE))])
def test_a_message_that_says_nothing_of_a_subscription_records_nothing(book: Book, empty: StoreNotification) -> None:
    with pytest.raises(NothingNew):
        run(book.do(OPERATOR, ObserveSubscription(said=empty, payload=HASH)))
    assert book.records() == []


def test_a_subscription_is_superseded_once(book: Book) -> None:
    old, new = subscription_id(APPLE, PRODUCTION, "100"), subscription_id(APPLE, PRODUCTION, "200")
    supersede = SupersedeSubscription(subscription=old, by=new)
    with pytest.raises(SubscriptionNotFound):
        run(book.do(OPERATOR, supersede))
    run(book.do(OPERATOR, ObserveSubscription(said=said(5, standing=Standing(5, State.ACTIVE)), payload=HASH)))
    run(book.do(OPERATOR, supersede))
    with pytest.raises(NothingNew):
        run(book.do(OPERATOR, supersede))
    loaded: Any = book.ledger.load(old)
    assert loaded.history.state is State.SUPERSEDED


@pytest.mark.parametrize(
    "command",
    [
        JudgeNotification(message=message_id(APPLE, PRODUCTION, "n1"), verdict="valid"),
        ObserveSubscription(said=said(5, standing=Standing(5, State.ACTIVE)), payload=HASH),
        SupersedeSubscription(subscription=message_id(APPLE, PRODUCTION, "n1"), by=message_id(APPLE, PRODUCTION, "n2")),
    ],
)
def test_only_the_ledgers_own_parts_may_speak_for_a_store(book: Book, command: Any) -> None:
    clerk = type(OPERATOR)("aozora", OPERATOR.subject)
    with pytest.raises(OperatorOnly):
        run(book.do(clerk, command))
