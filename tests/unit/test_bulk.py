"""A bulk under way: every order is answered once, in order, and an atomic one stands or falls together."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bulk import Bulk
from domain.commands import RegisterCompany
from domain.desk import bulk_rejected
from domain.entry import Actor
from domain.errors import Overloaded, WrongState
from domain.orders import Order, Receipt
from tests.ledger_kit import ORIGIN, names


def order(key: str, body: str = "aozora") -> Order:
    return Order.of(ORIGIN, RegisterCompany(code=body, name="n"), Actor("", "00" * 16), key)


def receipt(name: str = "done") -> Receipt:
    return Receipt(name, 1, [(1, b"")])


REFUSED = WrongState("no")


def test_orders_are_asked_until_each_has_its_answer() -> None:
    bulk = Bulk([order("a"), order("b"), order("c")], "continue")
    assert bulk.keys() == [one.ref.key for one in bulk.orders]
    bulk.take([receipt(), None, bulk_rejected()])
    assert (
        [one.ref.key for one in bulk.orders_left()] == bulk.keys() == [bulk.orders[1].ref.key, bulk.orders[2].ref.key]
    )
    bulk.take([REFUSED, receipt()])
    assert bulk.left == []
    assert names(bulk.answers()) == ["done", "WrongState", "done"]


def test_one_refusal_answers_for_all_that_is_left_of_an_atomic_bulk() -> None:
    bulk = Bulk([order("a"), order("b"), order("c")], "atomic")
    bulk.take([bulk_rejected(), REFUSED, None])
    assert names(bulk.answers()) == ["BulkRejected", "WrongState", "BulkRejected"]


def test_what_cannot_be_done_is_answered_with_our_trouble() -> None:
    bulk = Bulk([order("a"), order("b")], "continue")
    bulk.take([receipt(), None])
    bulk.give_up(Overloaded("later"))
    assert names(bulk.answers()) == ["done", "Overloaded"]
    bulk.give_up(Overloaded("nothing is left"))
    assert names(bulk.answers()) == ["done", "Overloaded"]


def test_known_orders_are_answered_before_anything_is_done() -> None:
    bulk = Bulk([order("a"), order("b"), order("c")], "continue")
    bulk.take_known({bulk.orders[0].ref.key: receipt(), bulk.orders[1].ref.key: None})
    assert bulk.left == [2]
    bulk.take([receipt()])
    assert names(bulk.answers()) == ["done", "CommandKeyReused", "done"]


def test_a_repeat_waits_for_the_first_ones_answer_whatever_it_is() -> None:
    bulk = Bulk([order("a"), order("a"), order("b"), order("b")], "continue")
    assert bulk.left == [0, 2]
    bulk.take([receipt(), REFUSED])
    assert names(bulk.answers()) == ["done", "repeat", "WrongState", "WrongState"]


def test_a_key_reused_inside_an_atomic_bulk_rejects_it_before_it_begins() -> None:
    bulk = Bulk([order("a"), order("b"), order("a", "kita")], "atomic")
    assert bulk.left == []
    assert names(bulk.answers()) == ["BulkRejected", "BulkRejected", "CommandKeyReused"]
    going_on = Bulk([order("a"), order("b"), order("a", "kita")], "continue")
    assert going_on.left == [0, 1]


@pytest.mark.parametrize("mode", ["atomic", "continue"])
def test_an_empty_bulk_is_answered(mode: Any) -> None:
    bulk = Bulk([], mode)
    bulk.take_known({})
    assert (bulk.left, bulk.answers()) == ([], [])


@given(
    keys=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["aozora", "kita"])), max_size=8),
    mode=st.sampled_from(["atomic", "continue"]),
    rounds=st.lists(
        st.lists(st.sampled_from([None, "done", "refused", "rejected"]), min_size=8, max_size=8), max_size=3
    ),
)
def test_every_order_has_one_answer_in_the_end(keys: Any, mode: Any, rounds: Any) -> None:
    bulk = Bulk([order(key, body) for key, body in keys], mode)
    kinds = {None: None, "done": receipt(), "refused": REFUSED, "rejected": bulk_rejected()}
    for answers in rounds:
        bulk.take([kinds[answer] for answer in answers[: len(bulk.left)]])
    bulk.give_up(Overloaded("later"))
    answers = names(bulk.answers())
    assert len(answers) == len(keys)
    first: dict[str, Any] = {}
    for (key, body), answer in zip(keys, answers, strict=True):
        if first.setdefault(key, (body, answer))[0] != body:
            assert answer in {"CommandKeyReused", "BulkRejected"}
        elif mode == "continue":
            assert answer in {first[key][1], "repeat"}
