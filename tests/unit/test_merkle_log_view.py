"""Readers see what is published and nothing above it."""

from collections.abc import Callable

import pytest

from merkle.flat_log import FlatLog, OutOfTreeError
from merkle.log_view import LogView, PublishedHead
from merkle.proofs import verify_consistency, verify_inclusion
from tests.merkle_reference import ReferenceTree, leaf

LEAVES = [leaf(b"%d" % number) for number in range(600)]
REFERENCE = ReferenceTree(LEAVES)


def view_at(published: int) -> LogView:
    tree = FlatLog()
    tree.append(b"".join(LEAVES))
    view = LogView()
    view.show(tree, PublishedHead(published, tree.root(published), b"note"))
    return view


def test_before_the_first_checkpoint_there_is_nothing_to_see() -> None:
    tree = FlatLog()
    tree.append(LEAVES[0])
    view = LogView()
    view.show(tree, None)
    assert (view.head, view.size, view.checkpoint()) == (None, 0, None)
    with pytest.raises(OutOfTreeError):
        view.leaf(0)


def test_the_published_head_and_all_below_it_can_be_proved() -> None:
    view = view_at(300)
    assert (view.size, view.checkpoint()) == (300, b"note")
    assert view.head == PublishedHead(300, REFERENCE.root(0, 300), b"note")
    verify_inclusion(17, 290, view.leaf(17), view.inclusion_path(17, 290), view.root(290))
    verify_consistency(129, 300, view.root(129), view.root(300), view.consistency(129, 300))


def test_tiles_end_at_the_published_size_though_the_tree_goes_on() -> None:
    view = view_at(300)
    assert view.tile(0, 0) == b"".join(LEAVES[:256])
    assert view.tile(0, 1, 44) == b"".join(LEAVES[256:300])
    assert view.tile(0, 1, 3) == b"".join(LEAVES[256:259])
    assert view.tile(1, 0, 1) == REFERENCE.root(0, 256)


@pytest.mark.parametrize(
    "ask",
    [
        lambda view: view.leaf(300),
        lambda view: view.leaf(-1),
        lambda view: view.root(301),
        lambda view: view.inclusion_path(0, 301),
        lambda view: view.inclusion_path(300, 300),
        lambda view: view.inclusion_path(2**63, 2**63 + 1),
        lambda view: view.consistency(1, 301),
        lambda view: view.consistency(0, 300),
        lambda view: view.tile(0, 1, 45),
        lambda view: view.tile(0, 1),
        lambda view: view.tile(1, 0, 2),
        lambda view: view.tile(-1, 0, 1),
        lambda view: view.tile(0, -1, 1),
        lambda view: view.tile(0, 0, 0),
        lambda view: view.tile(0, 0, 257),
        lambda view: view.tile(63, 2**62, 1),
    ],
)
def test_what_is_not_published_is_refused(ask: Callable[[LogView], object]) -> None:
    with pytest.raises(OutOfTreeError):
        ask(view_at(300))
