"""The ledger's cache is bounded and forgets what came first."""

from domain.ledger import AggregateCache


def test_it_never_holds_more_than_its_limit_and_drops_the_oldest() -> None:
    cache = AggregateCache(max_size=3)
    for number in range(10):
        cache.put(f"a{number}", number)
    assert list(cache.cache.items()) == [("a7", 7), ("a8", 8), ("a9", 9)]


def test_a_newer_state_replaces_the_older_one_and_drops_nobody() -> None:
    cache = AggregateCache(max_size=2)
    cache.put("a", 1)
    cache.put("b", 1)
    cache.put("a", 2)
    assert dict(cache.cache) == {"a": 2, "b": 1}


def test_what_is_dropped_by_name_is_gone_and_dropping_it_again_is_nothing() -> None:
    cache = AggregateCache()
    cache.put("a", 1)
    cache.drop("a")
    cache.drop("a")
    assert not cache.cache
