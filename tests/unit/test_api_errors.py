"""Every refusal and every trouble is mapped to a status and a problem of its own."""

import json
from collections.abc import Iterator

import pytest

import api.errors as api_errors
import domain.errors as domain_errors
from api.errors import (
    RULES,
    BodyTooLarge,
    MethodNotAllowed,
    MissingScope,
    Unauthenticated,
    problem_bytes,
    problem_headers,
    problem_name,
    rule_of,
    title_of,
)
from domain.errors import DaichoError, Malformed, NotYetVisible, Refusal, Trouble


def tree(root: type[DaichoError] = DaichoError) -> Iterator[type[DaichoError]]:
    """All classes that the domain and the API can refuse with."""
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ in {domain_errors.__name__, api_errors.__name__}:
            yield from tree(kind)


ALL = list(dict.fromkeys(tree()))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_no_error_is_left_out(kind: type[DaichoError]) -> None:
    assert kind in RULES
    status = rule_of(kind).status
    if issubclass(kind, Refusal):
        assert 400 <= status < 500
    if issubclass(kind, Trouble) and kind is not api_errors.InternalError:
        assert status == 503
        assert any(name == b"retry-after" and int(value) > 0 for name, value in problem_headers(kind("later")))


def test_every_row_of_the_table_is_an_error_that_exists() -> None:
    assert set(RULES) == set(ALL)


def test_problem_types_and_titles_are_distinct() -> None:
    assert len({problem_name(kind) for kind in ALL}) == len(ALL)
    assert len({title_of(kind) for kind in ALL}) == len(ALL)


def test_only_malformed_bodies_answer_422() -> None:
    purchases = {api_errors.PurchaseNotGenuine, api_errors.StoreNotServed}
    found = {kind for kind in ALL if rule_of(kind).status == 422}
    assert found == {Malformed, domain_errors.EntryTooLarge} | purchases


def test_the_tree_in_the_docstring_shows_every_class() -> None:
    for module in (domain_errors, api_errors):
        own = [kind for kind in ALL if kind.__module__ == module.__name__ and kind is not api_errors.InternalError]
        missing = [kind.__name__ for kind in own if kind.__name__ not in (module.__doc__ or "")]
        assert not missing


def test_a_subclass_that_is_not_listed_is_answered_as_its_parent() -> None:
    class Special(domain_errors.TradeNotFound):
        """Special."""

    assert rule_of(Special).status == 404


def test_a_problem_shows_the_facts_and_survives_values_that_json_does_not_know() -> None:
    body = json.loads(problem_bytes(NotYetVisible("not there yet", position=3, odd={1, 2}.__class__)))
    assert body["type"] == "urn:daicho:problem:not-yet-visible"
    assert body["status"] == 503
    assert body["detail"] == "not there yet"
    assert body["values"]["position"] == 3


def test_headers_belong_to_their_problem() -> None:
    def names(error: DaichoError) -> dict[bytes, bytes]:
        return dict(problem_headers(error))

    assert b"invalid_token" not in names(Unauthenticated("none given"))[b"www-authenticate"]
    assert b"invalid_token" in names(Unauthenticated("expired", given=True))[b"www-authenticate"]
    assert b'scope="trade:write"' in names(MissingScope("no", needed=["trade:write"]))[b"www-authenticate"]
    assert names(MethodNotAllowed("no", allowed=["GET", "POST"]))[b"allow"] == b"GET, POST"
    assert names(BodyTooLarge("no"))[b"connection"] == b"close"
