"""A line at a store belongs to whoever came first, until people say otherwise; replay is what was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import WrongState
from domain.ids import identity_id
from domain.store_identity import Binding, StoreIdentity

LINE = "01938a5e-7c00-7aaa-aaaa-000000000001"
ANN, BOB, CIM = "aa" * 16, "bb" * 16, "cc" * 16


def claimed() -> StoreIdentity:
    identity = StoreIdentity.of(LINE)
    assert identity.claim(LINE, ANN)
    return identity


def types(identity: StoreIdentity) -> list[str]:
    return [event.TYPE for event in identity.collect_events()]


def test_a_line_is_claimed_then_proven() -> None:
    identity = claimed()
    assert (identity.id, identity.subscription) == (identity_id(LINE), LINE)
    assert (identity.user, identity.binding) == (ANN, Binding.CLAIMED)
    assert not identity.claim(LINE, ANN)
    assert identity.prove(LINE, ANN)
    assert not identity.prove(LINE, ANN)
    assert not identity.claim(LINE, ANN)
    assert (identity.user, identity.binding) == (ANN, Binding.PROVEN)
    assert types(identity) == ["IdentityClaimed", "IdentityProven"]


def test_a_proof_binds_a_line_that_nobody_has_claimed() -> None:
    identity = StoreIdentity.of(LINE)
    assert identity.prove(LINE, ANN)
    assert (identity.user, identity.binding, identity.subscription) == (ANN, Binding.PROVEN, LINE)
    assert types(identity) == ["IdentityClaimed", "IdentityProven"]


@pytest.mark.parametrize("proven", [False, True])
def test_another_users_claim_or_proof_changes_nothing_and_is_a_conflict_once(proven: bool) -> None:
    identity = claimed()
    if proven:
        identity.prove(LINE, ANN)
    before = (identity.user, identity.binding)
    identity.collect_events()
    assert identity.claim(LINE, BOB)
    assert not identity.claim(LINE, BOB)
    assert not identity.prove(LINE, BOB)
    assert identity.prove(LINE, CIM)
    assert types(identity) == ["IdentityConflicted", "IdentityConflicted"]
    assert (identity.user, identity.binding) == before
    assert identity.claimants == {BOB, CIM}


def test_only_people_move_a_line_from_one_user_to_another() -> None:
    identity = claimed()
    identity.claim(LINE, BOB)
    with pytest.raises(WrongState):
        identity.transfer(CIM, BOB, "r")
    assert identity.transfer(ANN, BOB, "one family")
    assert not identity.transfer(ANN, BOB, "one family")
    assert (identity.user, identity.binding, identity.claimants) == (BOB, Binding.CLAIMED, set())
    assert identity.claim(LINE, ANN), "now it is her claim that is a conflict"
    with pytest.raises(WrongState):
        StoreIdentity.of(LINE).transfer(ANN, BOB, "r")


def test_a_released_line_is_nobodys_and_only_its_user_is_released() -> None:
    identity = claimed()
    assert not identity.release(BOB, "r")
    assert identity.release(ANN, "compensated")
    assert not identity.release(ANN, "compensated")
    assert (identity.user, identity.binding) == (None, Binding.FREE)
    assert identity.claim(LINE, BOB)
    assert identity.user == BOB


USERS = st.sampled_from([ANN, BOB, CIM])
MOVES = st.one_of(
    st.tuples(st.just("claim"), st.just(LINE), USERS),
    st.tuples(st.just("prove"), st.just(LINE), USERS),
    st.tuples(st.just("transfer"), USERS, USERS, st.just("r")),
    st.tuples(st.just("release"), USERS, st.just("r")),
)


@given(st.lists(MOVES, max_size=30))
def test_the_user_changes_by_transfer_and_release_only_and_the_replay_is_what_it_was(moves: list[Any]) -> None:
    identity, replayed = StoreIdentity.of(LINE), None
    for name, *values in moves:
        before, version = identity.user, identity.version
        try:
            changed = getattr(identity, name)(*values)
        except WrongState:
            changed = False
        assert changed == (identity.version > version)
        if before is not None and name in {"claim", "prove"}:
            assert identity.user == before
        for event in identity.collect_events():
            replayed = event.mutate(replayed)
    for field in (*StoreIdentity.__slots__, "id", "version"):
        assert replayed is None or getattr(replayed, field) == getattr(identity, field)
