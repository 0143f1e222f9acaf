"""A whole log from its files or over HTTP, against its anchors and what was seen before."""

from pathlib import Path
from typing import Any

import pytest

from daicho_verify import tiles
from daicho_verify.errors import DisagreesError
from daicho_verify.source import FolderSource
from tests.vectors.verifier import story
from tests.vectors.verifier.loopback import files, serve
from tests.vectors.verifier.oracle import b64, key_id, mth, sign_note, uid
from tests.vectors.verifier.program import POLICY, audit, kept, run, spoil, write

BOOK = story.story()


LONG = story.long_book(700)


@pytest.mark.parametrize("size", [1, 28, 255, 256, 257, 511, 512, 513, 700])
def test_a_log_hashes_to_its_signed_root_at_any_size(size: int, tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log", size)
    for more in ((), ("--full",), ("--sample", 5)):
        result = audit(tmp_path / "log", tmp_path, "--entries", *more)
        assert (result.code, result.ring("tree")[0], result.ring("entries")[0]) == (0, "ok", "ok")
    assert "tiles: " not in result.out
    assert "leaves: " in result.err


def test_an_empty_log_agrees_with_the_root_of_nothing(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log", 0)
    for more in ((), ("--sample", 5)):
        result = audit(tmp_path / "log", tmp_path, "--entries", *more)
        assert (result.code, result.ring("tree")[0]) == (0, "ok")


def test_a_sample_is_a_reservation(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    result = audit(tmp_path / "log", tmp_path, "--sample", 3)
    assert "only a sample was read" in result.answer["why"]
    assert "3 random leaves of 700 hash to the signed root" in result.ring("tree")[1]


def test_tiles_beyond_two_levels_are_checked_too(tmp_path: Path) -> None:
    leaves = [n.to_bytes(32) for n in range(256 * 256 + 300)]
    hashes, level, folder = leaves, 0, tmp_path / "log"
    while hashes:
        for start in range(0, len(hashes), 256):
            row = hashes[start : start + 256]
            name = tiles.path_of(level, start // 256, len(row))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"".join(row))
        hashes = [mth(hashes[i : i + 256]) for i in range(0, len(hashes) - 255, 256)]
        level += 1
    assert level == 3
    body = f"{BOOK.origin}\n{len(leaves)}\n{b64(mth(leaves))}\n"
    line = (BOOK.origin, key_id(BOOK.origin, BOOK.log_key), BOOK.log_key.sign(body.encode()))
    (folder / "checkpoint").write_text(sign_note(body, line))
    assert audit(folder, tmp_path).ring("tree")[0] == "ok"
    assert audit(folder, tmp_path, "--sample", 40).ring("tree")[0] == "ok"
    (folder / "tile/1/000").write_bytes(bytes(8192))
    assert "tile 0 of level 1 is not what the tiles below" in audit(folder, tmp_path).ring("tree")[1]


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (3, 5, 7, "tile/3/005.p/7"),
        ("entries", 1000, 256, "tile/entries/x001/000"),
        (0, 999, 1, "tile/0/999.p/1"),
    ],
)
def test_tile_paths_are_those_of_the_specification(level: int | str, index: int, width: int, path: str) -> None:
    assert tiles.path_of(level, index, width) == path


def test_a_partial_tile_may_have_been_pruned_once_the_full_one_is_there(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log", 512)
    LONG.write_log(tmp_path / "small", 300)
    (tmp_path / "log/checkpoint").write_bytes((tmp_path / "small/checkpoint").read_bytes())
    (tmp_path / "log/tile/1/000.p/1").write_bytes((tmp_path / "small/tile/1/000.p/1").read_bytes())
    assert audit(tmp_path / "log", tmp_path, "--entries").ring("entries")[0] == "ok"


def test_the_cache_of_tiles_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LONG.write_log(tmp_path / "log")
    monkeypatch.setattr(tiles, "_CACHED_TILES", 1)
    reader = tiles.Tiles(FolderSource(str(tmp_path / "log")), 700)
    assert reader.root(700) == mth(LONG.leaves)
    assert len(reader._cache) == 1


def test_one_changed_byte_in_a_tile_is_found_and_kept(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    spoil(tmp_path / "log/tile/0/001", 77)
    result = audit(tmp_path / "log", tmp_path, "--entries")
    assert (result.code, result.ring("tree")[0]) == (1, "failed")
    assert result.ring("entries") == ("not checked", "the tree itself is not established")
    assert kept(result)["kind"] == "tiles against checkpoint"


def test_one_changed_byte_below_a_sound_upper_tile_is_found_in_a_sample(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    spoil(tmp_path / "log/tile/0/000", 32 * 200)
    result = audit(tmp_path / "log", tmp_path, "--sample", 700)
    assert (result.code, result.ring("tree")[0]) == (1, "failed")
    assert "is not in the signed tree" in result.ring("tree")[1]


def test_a_tile_of_another_length_is_refused(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    (tmp_path / "log/tile/0/002.p/188").write_bytes(bytes(33))
    assert "has 33 bytes, not 6016" in audit(tmp_path / "log", tmp_path).ring("tree")[1]


def test_a_missing_tile_leaves_a_required_ring_open(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    (tmp_path / "log/tile/0/001").unlink()
    result = audit(tmp_path / "log", tmp_path)
    assert (result.code, result.ring("tree")[0]) == (2, "not checked")


def test_an_oversized_file_in_a_copy_leaves_the_ring_open(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    (tmp_path / "log/tile/0/001").write_bytes(bytes(8193))
    assert "at most 8192 bytes" in audit(tmp_path / "log", tmp_path).ring("tree")[1]


def test_one_changed_byte_in_an_entry_is_found_at_its_position(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    first = len(LONG.raw[256]) + 2
    spoil(tmp_path / "log/tile/entries/001", first + 50)
    verdict, why = audit(tmp_path / "log", tmp_path, "--entries").ring("entries")
    assert verdict == "failed"
    assert "served at position 258 does not hash to its leaf" in why


def test_a_bundle_that_ends_early_is_refused(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    bundle = tmp_path / "log/tile/entries/002.p/188"
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert "ends inside entry 187" in audit(tmp_path / "log", tmp_path, "--entries").ring("entries")[1]


def entries_of(book: Any, tmp_path: Path, **policy: Any) -> str:
    book.write_log(tmp_path / "log")
    return audit(tmp_path / "log", tmp_path, "--entries", policy=book.policy(**policy)).ring("entries")[1]


def test_a_time_that_decreases_is_found(tmp_path: Path) -> None:
    book = story.recorded()
    book.append("CompanySuspended", "Company", uid("x"), {"code": "x", "reason": ""}, change=lambda e: e.update(recorded_at=book.time_of(2)))  # fmt: skip # noqa: E501
    assert "position 8 says 2026-11-22T05:02:35.123456Z, earlier than" in entries_of(book, tmp_path)


def test_a_misplaced_entry_is_found(tmp_path: Path) -> None:
    book = story.recorded()
    book.append("CompanySuspended", "Company", uid("x"), {"code": "x", "reason": ""}, change=lambda e: e.update(position=9))  # fmt: skip # noqa: E501
    assert "the entry says position 9, the proof is for 8" in entries_of(book, tmp_path)


def test_a_book_opens_with_the_chain_and_contract_of_the_policy(tmp_path: Path) -> None:
    chain = BOOK.policy()["chain"]
    assert "are canonical" in entries_of(BOOK, tmp_path, chain=None)
    assert "the log opens with chain 131277" in entries_of(BOOK, tmp_path, chain=chain | {"chain_id": 1})
    headless = type(BOOK)()
    headless.register("aozora-foods")
    assert "the log opens with a CompanyRegistered" in entries_of(headless, tmp_path)
    future = type(BOOK)()
    future.append("BookOpened", "Book", uid("book"), {"chains": []}, change=lambda e: e.update(v=2))
    assert "are canonical" in entries_of(future, tmp_path)


# -- over HTTP


@pytest.mark.parametrize("squeeze", [False, True])
def test_a_log_is_read_over_http(squeeze: bool, tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    with serve(files(tmp_path / "log", squeeze=squeeze)) as url:
        result = audit(f"{url}/log/", tmp_path, "--entries")
    assert (result.code, result.ring("tree")[0], result.ring("entries")[0]) == (0, "ok", "ok")


def test_entries_are_asked_for_with_the_token_and_tiles_without(tmp_path: Path) -> None:
    BOOK.write_log(tmp_path / "log")
    token = write(tmp_path / "token", "s3cret\n")
    with serve(files(tmp_path / "log", token="s3cret")) as url:
        assert audit(f"{url}/log", tmp_path, "--entries", "--token-file", token).code == 0
        refused = audit(f"{url}/log", tmp_path, "--entries")
    assert (refused.code, refused.ring("entries")[0]) == (2, "not checked")
    assert "HTTP status 401" in refused.ring("entries")[1]


def test_a_log_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with serve(files(tmp_path)) as url:
        result = run("log", url, "--policy", POLICY)
    assert result.code == 2
    assert result.err == f"daicho-verify: input: {url}/checkpoint answers with HTTP status 404\n"


def test_a_checkpoint_that_is_no_note_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe")
    result = run("log", tmp_path, "--policy", POLICY)
    assert (result.code, result.err[:26]) == (2, "daicho-verify: checkpoint:")


def test_a_size_that_is_off_by_one_disagrees_with_the_tiles(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    body = f"{LONG.origin}\n699\n{b64(mth(LONG.leaves))}\n"
    line = (LONG.origin, key_id(LONG.origin, LONG.log_key), LONG.log_key.sign(body.encode()))
    (tmp_path / "log/checkpoint").write_text(sign_note(body, line))
    (tmp_path / "log/tile/0/002.p/187").write_bytes((tmp_path / "log/tile/0/002.p/188").read_bytes()[:-32])
    assert audit(tmp_path / "log", tmp_path).ring("tree")[0] == "failed"


def test_a_tile_reader_names_the_wrong_length(tmp_path: Path) -> None:
    LONG.write_log(tmp_path / "log")
    (tmp_path / "log/tile/0/000").write_bytes(b"")
    with pytest.raises(DisagreesError, match="has 0 bytes, not 8192"):
        tiles.Tiles(FolderSource(str(tmp_path / "log")), 700).tile(0, 0)
