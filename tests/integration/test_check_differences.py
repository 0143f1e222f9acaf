"""`daicho check` on a finished ledger: one thing is changed, and it names where."""

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cli.checking.findings import Report
from cli.checking.run import run_check
from domain.entry import canonical
from domain.typed_data import terms_digest
from merkle.hashing import leaf_hash
from projections.schema import ANCHOR_TABLES, ENTRY_TABLES
from storage.folder import DataFolder
from tests.faults.auditor import read, rows_of
from tests.faults.harness import Service, Zygote, running
from tests.faults.scene import play

pytest_plugins = ("tests.faults.fixtures",)
CHANGED_BYTES = 80


@pytest.fixture(scope="module")
def finished(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose service has been stopped."""
    service = Service(zygote, tmp_path_factory.mktemp("finished") / "data")
    with running(service):
        play(service)
        assert service.stop() == 0
    return service.folder.path


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> DataFolder:
    """A copy of it to be changed."""
    shutil.copytree(finished, tmp_path / "data")
    return DataFolder(tmp_path / "data")


def check(folder: DataFolder, *, signatures: bool = False) -> Report:
    return run_check(folder, signatures=signatures, progress=lambda *_: None)


def change(file: Path, statement: str, *values: object) -> None:
    """Change a database as somebody who may write its file."""
    with closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1, statement


def entry_at(folder: DataFolder, position: int) -> bytes:
    return dict(rows_of(folder.ledger, "stored_events"))[position]


def put_entry(folder: DataFolder, position: int, state: bytes) -> None:
    change(folder.ledger, "UPDATE stored_events SET state=? WHERE rowid=?", state, position)


def put_leaf(folder: DataFolder, position: int, leaf: bytes) -> None:
    """Change a leaf hash in the log, wherever it is kept."""
    number, offset = divmod(position - 1, 256)
    ((hashes,),) = read(folder.log, f"SELECT hashes FROM tile WHERE number={number}")
    forged = hashes[: offset * 32] + leaf + hashes[offset * 32 + 32 :]
    change(folder.log, "UPDATE tile SET hashes=? WHERE number=?", forged, number)
    if position == read(folder.log, "SELECT position FROM reached")[0][0]:
        change(folder.log, "UPDATE reached SET leaf=?", leaf)


def first(report: Report) -> tuple[str, int]:
    """Part and position of the first difference."""
    assert report.first is not None, "it was not noticed"
    return report.first.part, report.first.position


def test_an_untouched_ledger_agrees_in_every_part(folder: DataFolder) -> None:
    report = check(folder, signatures=True)
    size = len(rows_of(folder.ledger, "stored_events"))
    assert report.findings == []
    assert report.pinned == report.looked_at["entries"] == report.looked_at["tree"] == size
    assert report.looked_at["signatures"] > size / 2
    assert report.looked_at["checkpoints"] > 1
    assert report.looked_at["anchors"] > 1
    assert report.not_checked == {"contract": "no node to ask (--rpc URL)"}


def test_a_check_changes_no_byte_of_the_databases(folder: DataFolder) -> None:
    before = {file.name: file.read_bytes() for file in folder.path.glob("*.db")}
    check(folder, signatures=True)
    assert {file.name: file.read_bytes() for file in folder.path.glob("*.db")} == before
    assert not [file for file in folder.path.glob("*-wal") if file.stat().st_size]


def test_one_changed_byte_in_any_entry_is_named_by_its_position(folder: DataFolder) -> None:
    chance = random.Random(20261124)
    rows = rows_of(folder.ledger, "stored_events")
    for _ in range(CHANGED_BYTES):
        position, state = chance.choice(rows)
        place = chance.randrange(len(state))
        forged = bytes([*state[:place], state[place] ^ (1 << chance.randrange(8)), *state[place + 1 :]])
        put_entry(folder, position, forged)
        if position > 1:  # without a first entry nothing is known of the log
            assert first(check(folder, signatures=True))[1] == position, (position, place, forged)
        else:
            assert check(folder).findings
        put_entry(folder, position, state)
    assert check(folder).findings == []


@pytest.mark.parametrize("which", ["first", "middle", "last"])
def test_a_changed_leaf_hash_is_named_by_its_position(folder: DataFolder, which: str) -> None:
    size = len(rows_of(folder.ledger, "stored_events"))
    position = {"first": 1, "middle": size // 2, "last": size}[which]
    put_leaf(folder, position, bytes(32))
    assert first(check(folder)) == ("tree", position)


def test_a_leaf_hash_changed_behind_the_position_s_back_is_named_too(folder: DataFolder) -> None:
    size = len(rows_of(folder.ledger, "stored_events"))
    number, offset = divmod(size - 1, 256)
    ((hashes,),) = read(folder.log, f"SELECT hashes FROM tile WHERE number={number}")
    change(folder.log, "UPDATE tile SET hashes=? WHERE number=?", hashes[: offset * 32] + bytes(32), number)
    assert first(check(folder)) == ("tree", size)


def test_an_entry_rewritten_with_its_leaf_and_read_models_contradicts_what_was_signed(folder: DataFolder) -> None:
    """All that the operator can make again by himself is made again; his own signatures convict him."""
    position = recorded_alone(folder)[0]
    forged = entry_at(folder, position).replace(b'"units":"12000"', b'"units":"92000"')
    put_entry(folder, position, forged)
    put_leaf(folder, position, leaf_hash(forged))
    for file in folder.path.glob("read.db*"):
        file.unlink()
    report = check(folder, signatures=True)
    covering = min(size for (size,) in read(folder.log, "SELECT size FROM checkpoints") if size >= position)
    assert first(report) == ("signatures", position), "its digest is not that of its terms"
    assert min(f.position for f in report.findings if f.part == "checkpoints") == covering
    assert [f.position for f in report.findings if f.part == "anchors"], "and what was anchored"


@pytest.mark.parametrize(
    ("column", "forge"),
    [
        ("root", lambda _: bytes(32)),
        ("note", lambda note: note.replace(note.split(b"\n")[2], b"A" * 43 + b"=")),
        ("note", lambda note: note[:-8] + (b"AAAA" if note[-8:-4] != b"AAAA" else b"BBBB") + note[-4:]),
        ("note", lambda note: note.replace(b"daicho.invalid/", b"daicho.invalid:", 1)),
        ("note", lambda _: b"not a note"),
        ("size", lambda size: size - 1),
    ],
)
def test_a_changed_checkpoint_is_named_by_its_size(
    folder: DataFolder, column: str, forge: Callable[[Any], Any]
) -> None:
    sizes = [size for (size,) in read(folder.log, "SELECT size FROM checkpoints ORDER BY size")]
    size = next(b for a, b in pairwise(sizes) if b - a > 1)
    ((value,),) = read(folder.log, f"SELECT {column} FROM checkpoints WHERE size={size}")
    change(folder.log, f"UPDATE checkpoints SET {column}=? WHERE size=?", forge(value), size)
    assert first(check(folder)) == ("checkpoints", forge(size) if column == "size" else size)


@pytest.mark.parametrize("table", [*ENTRY_TABLES, *ANCHOR_TABLES])
def test_any_changed_row_of_the_read_models_differs(folder: DataFolder, table: str) -> None:
    columns = read(folder.reads, f"SELECT name, type FROM pragma_table_info('{table}') WHERE pk=0")
    for name, kind in columns:
        with put_back_afterwards(folder.reads):
            changed = f"{name}+1000000" if kind == "INTEGER" else f"{name}||'9'"
            if not change_one(folder.reads, table, name, changed):
                continue
            report = check(folder)
            assert report.first is not None, f"{table}.{name} was changed unseen"
            assert report.first.part == "projections"


def test_a_changed_balance_is_named_with_its_row(folder: DataFolder) -> None:
    query = "SELECT company, counterparty, units, position FROM balances LIMIT 1"
    ((company, counterparty, units, position),) = read(folder.reads, query)
    change(folder.reads, "UPDATE balances SET units=? WHERE company=? AND counterparty=?", "1", company, counterparty)
    report = check(folder)
    assert first(report) == ("projections", position)
    assert report.first is not None
    assert "table balances" in report.first.what
    assert f"'units': '{units}'" in report.first.what
    assert "'units': '1'" in report.first.what


@pytest.mark.parametrize("table", ["companies", "trades", "balances", "postings", "anchors"])
def test_a_missing_row_of_the_read_models_differs(folder: DataFolder, table: str) -> None:
    key = {**ENTRY_TABLES, **ANCHOR_TABLES}[table]
    ((row,),) = read(folder.reads, f"SELECT count(*) FROM {table}")
    assert row
    with closing(sqlite3.connect(folder.reads)) as connection, connection:
        connection.execute(
            f"DELETE FROM {table} WHERE ({key}) = (SELECT {key} FROM {table} ORDER BY {key} DESC LIMIT 1)"
        )
    assert first(check(folder))[0] == "projections"


def test_a_hole_is_named_by_the_first_position_that_is_missing(folder: DataFolder) -> None:
    for position in (20, 21):
        change(folder.ledger, "DELETE FROM stored_events WHERE rowid=?", position)
    report = check(folder, signatures=True)
    assert first(report) == ("entries", 20)
    assert len([finding for finding in report.findings if finding.part == "entries"]) == 1, "said once"


def test_entries_cut_off_at_the_end_are_missed_by_everybody_who_saw_them(folder: DataFolder) -> None:
    size = len(rows_of(folder.ledger, "stored_events"))
    change(folder.ledger, "DELETE FROM stored_events WHERE rowid=?", size)
    report = check(folder)
    assert {finding.part for finding in report.findings} >= {"checkpoints", "projections"}
    assert {finding.position for finding in report.findings} <= {0, size}


def test_a_changed_anchor_is_named_by_its_size(folder: DataFolder) -> None:
    position, state = rows_of(folder.anchors, "anchor_events")[-1]
    entry = json.loads(state)
    size = entry["data"]["size"]
    entry["data"]["root"] = "00" * 32
    change(folder.anchors, "UPDATE anchor_events SET state=? WHERE rowid=?", canonical(entry), position)
    report = check(folder)
    assert ("anchors", size) in {(finding.part, finding.position) for finding in report.findings}


@pytest.mark.parametrize("forged", [b"", b"{}", b"\xff", b'{"data":{"size":1,"root":"xyz"}}'])
def test_an_unreadable_anchor_book_is_a_difference_not_a_crash(folder: DataFolder, forged: bytes) -> None:
    change(folder.anchors, "UPDATE anchor_events SET state=? WHERE rowid=2", forged)
    assert "anchors" in {finding.part for finding in check(folder).findings}


@pytest.mark.parametrize("name", ["log", "reads"])
def test_a_database_that_is_none_any_more_is_a_difference_not_a_crash(folder: DataFolder, name: str) -> None:
    file: Path = getattr(folder, name)
    file.write_bytes(b"\0" * 4096)
    part = {"log": "tree", "reads": "projections"}[name]
    report = check(folder)
    assert part in {finding.part for finding in report.findings} | set(report.not_checked)


# -- what only --signatures finds -------------------------------------------------------------------------------------


def recorded_alone(folder: DataFolder) -> tuple[int, dict[str, Any]]:
    """A trade that was signed on its own."""
    for position, state in rows_of(folder.ledger, "stored_events"):
        entry = json.loads(state)
        if entry["type"] == "TradeRecorded" and "batch" not in entry["data"]["signature"]:
            return position, entry
    raise AssertionError("there is none")


def other_nibble(text: str, place: int) -> str:
    return text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other terms": (lambda data: data.update(due_on="2026-12-21"), "its digest is not that of its terms"),
    "another signature": (
        lambda data: data["signature"].update(value=other_nibble(data["signature"]["value"], 10)),
        "signed by|no valid signature",
    ),
    "another signer's name": (
        lambda data: data["signature"].update(address="0x" + "11" * 20),
        "it names 0x1111",
    ),
    "a deadline long ago": (lambda data: data["signature"].update(deadline=1), "after its signature's deadline"),
    "a wallet of nobody": (
        lambda data: data["signature"].update(wallet="00000000-0000-5000-8000-000000000000"),
        "its wallet is none of the acting company",
    ),
    "a batch that is not there": (
        lambda data: data.update(signature={"wallet": data["signature"]["wallet"], "batch": "b", "index": 0}),
        "a batch that does not precede it",
    ),
    "no value": (lambda data: data["signature"].pop("value"), "its signature has no value"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_signature_is_named_by_its_position_and_reason(folder: DataFolder, name: str) -> None:
    forge, said = FORGERIES[name]
    position, entry = recorded_alone(folder)
    forge(entry["data"])
    put_entry(folder, position, canonical(entry))
    found = [f for f in check(folder, signatures=True).findings if f.part == "signatures" and f.position == position]
    assert len(found) == 1
    assert any(words in found[0].what for words in said.split("|")), found[0].what
    assert "signatures" not in {finding.part for finding in check(folder).findings}


def test_a_batch_whose_count_was_changed_is_named_by_the_entry_that_signs_it(folder: DataFolder) -> None:
    at = position_of(folder, "BatchSigned")
    entry = json.loads(entry_at(folder, at))
    entry["data"]["count"] += 1
    put_entry(folder, at, canonical(entry))
    assert signature_findings(folder)[0][0] == at


def test_a_batch_that_ends_early_is_named_by_the_place_where_its_next_entry_is_due(folder: DataFolder) -> None:
    at = position_of(folder, "BatchSigned")
    last = at + json.loads(entry_at(folder, at))["data"]["count"]
    entry = json.loads(entry_at(folder, last))
    alone = recorded_alone(folder)[1]
    entry["data"]["signature"] = alone["data"]["signature"]
    put_entry(folder, last, canonical(entry))
    assert any(position == last and "it ends" in what for position, what in signature_findings(folder))


def test_an_entry_of_a_batch_that_was_changed_does_not_have_the_signed_root(folder: DataFolder) -> None:
    at = position_of(folder, "BatchSigned")
    count = json.loads(entry_at(folder, at))["data"]["count"]
    entry = json.loads(entry_at(folder, at + 1))
    entry["data"]["description"] = "something else"
    entry["data"]["digest"] = terms_digest(entry["data"])
    put_entry(folder, at + 1, canonical(entry))
    (position, what), *_ = signature_findings(folder)
    assert (position, "root" in what) == (at + count, True)


def test_a_rotation_by_another_key_than_the_wallets_is_named(folder: DataFolder) -> None:
    at = position_of(folder, "WalletKeyRotated")
    entry = json.loads(entry_at(folder, at))
    entry["data"]["old"] = entry["data"]["new"]
    put_entry(folder, at, canonical(entry))
    (position, what), *_ = signature_findings(folder)
    assert (position, what.startswith("it replaces 0x")) == (at, True)


def position_of(folder: DataFolder, kind: str) -> int:
    """The first entry of a type."""
    rows = rows_of(folder.ledger, "stored_events")
    return next(position for position, state in rows if json.loads(state)["type"] == kind)


def signature_findings(folder: DataFolder) -> list[tuple[int, str]]:
    found = check(folder, signatures=True).findings
    return [(finding.position, finding.what) for finding in found if finding.part == "signatures"]


def change_one(file: Path, table: str, name: str, changed: str) -> bool:
    """Change a column of one row that has a value there; whether there is one."""
    with closing(sqlite3.connect(file)) as connection, connection:
        keys = [
            row[0]
            for row in connection.execute(f"SELECT name FROM pragma_table_info('{table}') WHERE pk>0 ORDER BY pk")
        ]
        row = connection.execute(f"SELECT {', '.join(keys)} FROM {table} WHERE {name} IS NOT NULL LIMIT 1").fetchone()
        if row is not None:
            where = " AND ".join(f"{key}=?" for key in keys)
            connection.execute(f"UPDATE {table} SET {name}={changed} WHERE {where}", row)
        return row is not None


@contextmanager
def put_back_afterwards(file: Path) -> Iterator[None]:
    """The database as it was, however it was changed."""
    before = {other: other.read_bytes() for other in file.parent.glob(f"{file.name}*")}
    yield
    for other in file.parent.glob(f"{file.name}*"):
        other.unlink()
    for other, content in before.items():
        other.write_bytes(content)
