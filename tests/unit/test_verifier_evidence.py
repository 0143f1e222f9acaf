"""Evidence files ring by ring: honest ones agree, each attack is refused by its ring and for its reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from tests.vectors.verifier import story
from tests.vectors.verifier.attacks import ATTACKS, HONEST
from tests.vectors.verifier.make import fixtures
from tests.vectors.verifier.program import HERE, POLICY, run, write

EXPECTED = json.loads((HERE / "expected.json").read_text())
BOOK = story.story()


def test_the_committed_fixtures_are_those_that_the_script_makes() -> None:
    committed = {
        str(path.relative_to(HERE)): path.read_bytes()
        for path in HERE.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert committed == fixtures()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_attack_is_refused_by_its_ring_and_reason(name: str, tmp_path: Path) -> None:
    expected, words = EXPECTED[name], [HERE / "refused" / f"{name}.json", "--policy", POLICY, "--save", tmp_path]
    if ATTACKS[name]().heads is not None:
        words += ["--heads", shutil.copy(HERE / "heads" / f"{name}.json", tmp_path / "heads.json")]
    result = run(*words, "--json")
    assert result.code == expected["exit"] == result.answer["exit"]
    if expected["exit"] == 1:
        verdict, why = result.ring(expected["where"])
        assert result.answer["answer"] == "disagrees"
        assert verdict == "failed"
        assert expected["says"] in why
    else:
        assert result.answer["error"]["field"] == expected["where"]
        assert expected["says"] in result.answer["error"]["rule"]


@pytest.mark.parametrize("name", sorted(HONEST))
def test_honest_evidence_agrees_and_says_what_stayed_open(name: str) -> None:
    result = run(HERE / "honest" / f"{name}.json", "--policy", POLICY, "--json")
    assert result.code == 0
    assert result.answer["answer"] == "qualified"
    assert [result.ring(ring)[0] for ring in ("entry", "author", "inclusion", "log-signature")] == ["ok"] * 4
    assert result.ring("chain")[0] == "not checked"


@pytest.mark.parametrize("position", range(1, 29))
def test_every_event_of_the_story_proves_its_author(position: int, tmp_path: Path) -> None:
    file = write(tmp_path / "evidence.json", BOOK.evidence(position))
    result = run(file, "--policy", POLICY, "--json")
    verdict, why = result.ring("author")
    assert (result.code, verdict) == (0, "ok")
    signed = isinstance(BOOK.entries[position - 1]["data"].get("signature"), dict)
    assert ("signed" in why) == signed
    assert ("operator" in why) == (not signed or "the operator keeps this wallet's key" in why)


def evidence_without(tmp_path: Path, part: str, position: int) -> tuple[str, str]:
    evidence = BOOK.evidence(position)
    if part == "author":
        evidence["author"] = None
    else:
        evidence["author"][part] = None
    result = run(write(tmp_path / "evidence.json", evidence), "--policy", POLICY, "--json")
    assert result.code == 2
    assert result.answer["answer"] == "unchecked"
    return result.ring("author")


@pytest.mark.parametrize(
    ("part", "position", "why"),
    [
        ("author", 8, "shows no wallet entries"),
        ("author", 9, "shows no wallet entries"),
        ("recorded", 8, "does not show the TradeRecorded"),
        ("batch", 14, "does not show the batch"),
    ],
)
def test_what_the_author_ring_needs_and_does_not_get_leaves_it_open(
    part: str, position: int, why: str, tmp_path: Path
) -> None:
    verdict, said = evidence_without(tmp_path, part, position)
    assert verdict == "not checked"
    assert why in said


def test_a_wallet_that_opens_needs_no_other_entry(tmp_path: Path) -> None:
    file = write(tmp_path / "evidence.json", BOOK.evidence(4) | {"author": None})
    assert run(file, "--policy", POLICY, "--json").ring("author")[0] == "ok"


def author_of(tmp_path: Path, evidence: Any, **policy: Any) -> tuple[str, str]:
    file = write(tmp_path / "evidence.json", evidence)
    chosen = write(tmp_path / "policy.json", BOOK.policy(**policy))
    return run(file, "--policy", chosen, "--json").ring("author")


def with_wallet(position: int, *positions: int) -> Any:
    """Evidence whose wallet entries are others."""
    evidence = BOOK.evidence(position)
    evidence["author"]["wallet"] = [BOOK.proved(p, 28) for p in positions]
    return evidence


@pytest.mark.parametrize(
    ("position", "shown", "why"),
    [
        (8, (), "no entry of the wallet"),
        (8, (4,), "is not one of the wallet"),
        (8, (5, 5), "version 2 is missing"),
        (8, (24,), "version 1 is missing"),
        (8, (5, 24, 25), "is not before 8"),
        (8, (7,), "is not one of the wallet"),
        (9, (4,), None),
        (9, (), "version 1 is missing"),
        (4, (4, 9), "go beyond the entry"),
        (27, (), "no wallet signs"),
    ],
)
def test_the_wallets_life_must_be_shown_whole_and_in_order(
    position: int, shown: tuple[int, ...], why: str | None, tmp_path: Path
) -> None:
    if position == 27:
        evidence = BOOK.evidence(position) | {"author": {"wallet": [], "batch": None, "recorded": None}}
    else:
        evidence = with_wallet(position, *shown)
    verdict, said = author_of(tmp_path, evidence)
    assert (verdict == "failed") == (why is not None and position != 27)
    assert (why or "signed by the wallet's key") in said


def test_an_entry_that_is_not_in_the_tree_proves_no_author(tmp_path: Path) -> None:
    evidence = BOOK.evidence(8)
    evidence["author"]["recorded"]["inclusion"].pop()
    verdict, why = author_of(tmp_path, evidence)
    assert verdict == "failed"
    assert "is not in the checkpoint's tree" in why


@pytest.mark.parametrize("other", [8, 1])
def test_something_else_cannot_stand_for_the_recorded_trade(other: int, tmp_path: Path) -> None:
    evidence = BOOK.evidence(10)
    evidence["author"]["recorded"] = BOOK.proved(other, 28)
    assert "in place of the TradeRecorded" in author_of(tmp_path, evidence)[1]


def test_without_a_chain_in_the_policy_signatures_cannot_be_checked(tmp_path: Path) -> None:
    verdict, why = author_of(tmp_path, BOOK.evidence(8), chain=None)
    assert verdict == "not checked"
    assert "names no chain and contract" in why


def last(book: Any, tmp_path: Path) -> tuple[str, str]:
    return author_of(tmp_path, book.evidence(len(book.raw)))


def test_a_type_or_version_of_the_future_is_not_interpreted(tmp_path: Path) -> None:
    book = story.recorded()
    position = book.append("TradeInsured", "Trade", story.TRADES[0], {"premium": "5"})
    file = write(tmp_path / "evidence.json", book.evidence(position))
    result = run(file, "--policy", POLICY, "--json")
    assert result.code == 2
    assert "this type is not known here" in result.ring("entry")[1]
    assert "does not know TradeInsured" in result.ring("author")[1]
    book.trade(
        "TradeConfirmed", story.TRADES[0], story.by(story.KAEDE, 1), story.KAEDE, story.WALLET_B, story.KEY_B,
        change=lambda entry: entry.update(v=2),
    )  # fmt: skip
    assert "does not know TradeConfirmed" in last(book, tmp_path)[1]


def test_a_stranger_to_the_trade_signs_nothing(tmp_path: Path) -> None:
    book = story.opened()
    data = book.terms(story.KAEDE, story.AOZORA, "midori", 5000, "X-1")
    book.trade("TradeRecorded", story.TRADES[0], data, story.KAEDE, story.WALLET_B, story.KEY_B)
    assert "kaede-trading is not a party" in last(book, tmp_path)[1]


def test_a_settlement_in_another_currency_is_refused(tmp_path: Path) -> None:
    book = story.recorded()
    data = story.by(story.KAEDE, 1, amount={"currency": "EUR", "units": "5"}, settled_on="2026-12-01")
    book.trade("TradeSettled", story.TRADES[0], data, story.KAEDE, story.WALLET_B, story.KEY_B)
    assert "the amount is in EUR, the trade in JPY" in last(book, tmp_path)[1]


def test_an_amount_beyond_256_bits_cannot_have_been_signed(tmp_path: Path) -> None:
    book = story.recorded()
    data = story.by(story.KAEDE, 1, amount={"currency": "JPY", "units": "5"}, settled_on="2026-12-01")
    book.trade(
        "TradeSettled", story.TRADES[0], data, story.KAEDE, story.WALLET_B, story.KEY_B,
        change=lambda entry: entry["data"].update(amount={"currency": "JPY", "units": "9" * 78}),
    )  # fmt: skip
    file = write(tmp_path / "evidence.json", book.evidence(8))
    assert run(file, "--policy", POLICY, "--json").ring("entry")[0] == "failed"


def test_a_signature_that_names_another_wallet_than_the_one_shown_is_refused(tmp_path: Path) -> None:
    book = story.opened()
    book.entries[3]["data"]["signature"]["wallet"] = story.WALLET_B
    book.raw[3] = rfc8785.dumps(book.entries[3])
    assert "names the wallet" in author_of(tmp_path, book.evidence(4))[1]


# -- rotations


def test_a_rotation_of_a_key_that_was_not_valid_is_refused(tmp_path: Path) -> None:
    book = story.opened()
    book.rotate(story.WALLET_A, story.AOZORA, story.KEY_C, story.KEY_A2)
    assert "replaces a key that was not valid" in last(book, tmp_path)[1]


def test_a_frozen_wallet_rotates_no_key(tmp_path: Path) -> None:
    book = story.opened()
    book.wallet_event("WalletFrozen", story.WALLET_A)
    book.rotate(story.WALLET_A, story.AOZORA, story.KEY_A, story.KEY_A2)
    assert "is frozen since position 7" in last(book, tmp_path)[1]


def test_both_signatures_of_a_rotation_carry_one_nonce_and_deadline(tmp_path: Path) -> None:
    book = story.opened()
    book.rotate(story.WALLET_A, story.AOZORA, story.KEY_A, story.KEY_A2)
    book.entries[6]["data"]["new_signature"]["deadline"] += 1
    book.raw[6] = rfc8785.dumps(book.entries[6])
    assert "two nonces or deadlines" in last(book, tmp_path)[1]


def test_a_closed_wallet_has_no_later_life(tmp_path: Path) -> None:
    book = story.recorded()
    book.wallet_event("WalletClosed", story.WALLET_B)
    book.wallet_event("WalletUnfrozen", story.WALLET_B)
    book.trade("TradeConfirmed", story.TRADES[0], story.by(story.KAEDE, 1), story.KAEDE, story.WALLET_B, story.KEY_B)
    assert "has a WalletUnfrozen after it was closed" in last(book, tmp_path)[1]


def test_a_wallet_opens_once(tmp_path: Path) -> None:
    book = story.recorded()
    book.open_wallet(story.WALLET_B, story.KAEDE, story.KEY_C)
    book.trade("TradeConfirmed", story.TRADES[0], story.by(story.KAEDE, 1), story.KAEDE, story.WALLET_B, story.KEY_C)
    assert "a WalletOpened at position 8 is among" in last(book, tmp_path)[1]


def test_a_wallets_life_begins_with_its_opening(tmp_path: Path) -> None:
    book = story.recorded()
    stray = story.uid("stray wallet")
    book.wallet_event("WalletUnfrozen", stray)
    book.trade("TradeConfirmed", story.TRADES[0], story.by(story.KAEDE, 1), story.KAEDE, stray, story.KEY_B)
    assert "the first wallet entry is a WalletUnfrozen" in last(book, tmp_path)[1]


# -- batches


def batched(**options: Any) -> Any:
    book = story.opened()
    trades = [(story.TRADES[n - 1], story.terms(n)) for n in range(2, 5)]
    book.batch(trades, options.get("company", story.AOZORA), options.get("wallet", story.WALLET_A), story.KEY_A)
    return book


def test_a_batch_names_the_company_and_wallet_that_signed(tmp_path: Path) -> None:
    assert "names another wallet or company" in author_of(tmp_path, batched(company=story.KAEDE).evidence(7))[1]
    other = batched()
    other.entries[6]["data"]["wallet"] = story.WALLET_C
    other.raw[6] = rfc8785.dumps(other.entries[6])
    assert "names another wallet or company" in author_of(tmp_path, other.evidence(7))[1]
    assert "signed for another wallet or company" in author_of(tmp_path, other.evidence(8))[1]


def test_an_entry_of_a_batch_stands_at_its_index(tmp_path: Path) -> None:
    book = batched()
    book.entries[8]["data"]["signature"]["index"] = 2
    book.raw[8] = rfc8785.dumps(book.entries[8])
    assert "entry 2 of the batch at 7 cannot be at 9" in author_of(tmp_path, book.evidence(9))[1]


def test_nothing_comes_between_a_batch_and_its_entries(tmp_path: Path) -> None:
    book = story.opened()
    trades = [(story.TRADES[n - 1], story.terms(n)) for n in range(2, 5)]
    book.batch(trades, story.AOZORA, story.WALLET_A, story.KEY_A)
    del book.raw[8:], book.entries[8:]
    frozen = book.wallet_event("WalletFrozen", story.WALLET_A)
    book.wallet_event("WalletUnfrozen", story.WALLET_A)
    batch = book.entries[6]["aggregate_id"]
    reference = {"batch": batch, "index": 3, "wallet": story.WALLET_A}
    position = book.append(
        "TradeRecorded", "Trade", story.TRADES[4], story.terms(5) | {"signature": reference}, company=story.AOZORA
    )
    assert (frozen, position) == (9, 11)
    shown = book.author(8, 11)
    shown["wallet"] = [book.proved(p, 11) for p in (4, 9, 10)]
    late = {
        "format": "daicho-evidence/1",
        "origin": book.origin,
        "entry": {"position": 11, "bytes": book.proved(11, 11)["bytes"]},
        "checkpoint": book.checkpoint(),
        "inclusion": book.proved(11, 11)["inclusion"],
        "author": shown,
        "anchor": None,
    }
    assert "the wallet changed between the batch and its entries" in author_of(tmp_path, late)[1]


# -- the answer as a whole


def test_without_a_policy_nobody_is_trusted(tmp_path: Path) -> None:
    result = run(HERE / "honest" / "confirmed.json", "--json")
    assert result.code == 2
    assert {ring["name"]: ring["verdict"] for ring in result.answer["rings"]} == {
        "entry": "ok",
        "author": "not checked",
        "inclusion": "ok",
        "log-signature": "not checked",
        "witnesses": "not checked",
        "chain": "not checked",
        "time": "not checked",
    }
    assert "no policy was given" in result.ring("log-signature")[1]


def test_a_refused_entry_leaves_what_depends_on_it_open() -> None:
    result = run(HERE / "refused" / "floats-in-entry.json", "--policy", POLICY, "--json")
    assert result.ring("author") == ("not checked", "the entry itself is refused")
    assert result.ring("time") == ("not checked", "the entry itself is refused")


def test_witnesses_below_the_quorum_leave_a_required_ring_open(tmp_path: Path) -> None:
    file = HERE / "honest" / "settled.json"
    for quorum, code, verdict in ((2, 0, "ok"), (3, 2, "not checked")):
        policy = write(tmp_path / "policy.json", BOOK.policy(quorum=quorum))
        result = run(file, "--policy", policy, "--json")
        assert (result.code, result.ring("witnesses")) == (
            code,
            (verdict, f"2 of 3 witnesses cosigned, {quorum} asked for"),
        )


def test_a_policy_without_witnesses_says_so(tmp_path: Path) -> None:
    policy = write(tmp_path / "policy.json", BOOK.policy(witnesses=[]))
    result = run(HERE / "honest" / "settled.json", "--policy", policy, "--json")
    assert result.ring("witnesses") == ("not checked", "the policy names no witness")


def test_a_quorum_of_witnesses_bounds_the_time(tmp_path: Path) -> None:
    policy = write(tmp_path / "policy.json", BOOK.policy(quorum=2))
    result = run(HERE / "honest" / "settled.json", "--policy", policy, "--json")
    verdict, why = result.ring("time")
    assert verdict == "ok"
    assert "existed by 2026-11-22T05:09:55Z (2 of the policy's witnesses)" in why


def test_an_entry_recorded_after_it_was_witnessed_is_false(tmp_path: Path) -> None:
    file = write(tmp_path / "evidence.json", BOOK.evidence(8, witnesses=["kita"], time=1_700_000_000))
    policy = write(tmp_path / "policy.json", BOOK.policy(quorum=1))
    verdict, why = run(file, "--policy", policy, "--json").ring("time")
    assert verdict == "failed"
    assert "lies after 2023-11-14T22:13:20Z" in why


def test_a_witness_clock_beyond_every_calendar_is_shown_as_a_number(tmp_path: Path) -> None:
    file = write(tmp_path / "evidence.json", BOOK.evidence(8, witnesses=["kita"], time=2**63))
    policy = write(tmp_path / "policy.json", BOOK.policy(quorum=1))
    assert f"existed by second {2**63} of" in run(file, "--policy", policy, "--json").ring("time")[1]


def test_the_screen_shows_one_line_a_ring_and_obeys_no_control_characters(tmp_path: Path) -> None:
    book = story.recorded()
    position = book.append("Trade\x1b[2JInsured\u202e", "Trade", story.TRADES[0], {})
    file = write(tmp_path / "evidence.json", book.evidence(position))
    result = run(file, "--policy", POLICY)
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert "Trade\\x1b[2JInsured\\u202e" in result.out
    assert [line.split()[1] for line in result.out.splitlines()[2:9]] == [
        "entry",
        "author",
        "inclusion",
        "log-signature",
        "witnesses",
        "chain",
        "time",
    ]
    assert "UNCHECKED: the policy asks for what could not be checked: author" in result.out


def test_the_screen_names_what_is_false() -> None:
    result = run(HERE / "refused" / "wrong-leaf.json", "--policy", POLICY)
    assert result.code == 1
    assert "DISAGREES: false: inclusion" in result.out
