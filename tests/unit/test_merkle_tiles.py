"""Tile paths and entry bundles are spelt as C2SP tlog-tiles spells them, and in no other way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merkle.tiles import Tile, TileError, encode_bundle, has_tile, index_path, parse_bundle, parse_tile, tiles_of


@pytest.mark.parametrize(
    ("index", "path"),
    [(0, "000"), (5, "005"), (999, "999"), (1000, "x001/000"), (1234067, "x001/x234/067")],
)
def test_an_index_is_spelt_in_groups_of_three(index: int, path: str) -> None:
    assert index_path(index) == path


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "0/000"),
        (Tile(1, 1234067, 5), "1/x001/x234/067.p/5"),
        (Tile(63, 2**63 - 1), "63/x009/x223/x372/x036/x854/x775/807"),
        (Tile(None, 273, 112), "entries/273.p/112"),
        (Tile(None, 12), "entries/012"),
    ],
)
def test_a_path_reads_back_as_the_tile_it_names(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile(path) == tile


@given(st.none() | st.integers(0, 63), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_every_tile_reads_back(level: int | None, index: int, width: int) -> None:
    assert parse_tile(Tile(level, index, width).path) == Tile(level, index, width)


@pytest.mark.parametrize(
    "path",
    ["", "0", "0/", "0/5", "0/0005", "00/005", "01/005", "64/005", "-1/005", "0/x000/005", "0/001/005", "0/x001",
     "0/005.p/0", "0/005.p/256", "0/005.p/05", "0/005.p/257", "0/005.p/", "0/005.p", "entries/5", "Entries/005",
     "0/\u0660\u0660\u0665", "0/005\n", " 0/005", "0/../005", "0/x009/x223/x372/x036/x854/x775/808",
     "0/" + "x001/" * 40 + "001"],
)  # fmt: skip
def test_any_other_spelling_is_refused(path: str) -> None:
    with pytest.raises(TileError, match="malformed"):
        parse_tile(path)


def test_a_tree_of_70000_leaves_has_the_tiles_of_the_specification() -> None:
    tiles = list(tiles_of(70_000))
    assert tiles[:2] == [Tile(0, 0), Tile(0, 1)]
    assert tiles[272:] == [Tile(0, 272), Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]


def test_a_full_tile_has_no_partial_beside_it() -> None:
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []


def test_a_mirror_is_told_only_what_it_lacks() -> None:
    assert list(tiles_of(70_000, since=69_900)) == [Tile(0, 273, 112)]
    assert list(tiles_of(70_000, since=69_800)) == [
        Tile(0, 272),
        Tile(0, 273, 112),
        Tile(1, 1, 17),
    ]
    assert list(tiles_of(70_000, since=70_000)) == []


@given(st.integers(0, 300_000), st.integers(0, 300_000))
def test_old_tiles_and_what_a_mirror_lacks_make_up_the_new_tree(one: int, other: int) -> None:
    old, new = sorted((one, other))
    lacking = set(tiles_of(new, since=old))
    assert lacking | {tile for tile in tiles_of(old) if has_tile(new, tile)} >= set(tiles_of(new))
    assert all(not has_tile(old, tile) for tile in lacking)


@given(st.integers(0, 300_000))
def test_a_size_has_exactly_the_tiles_listed_and_their_narrower_partials(size: int) -> None:
    for tile in tiles_of(size):
        assert has_tile(size, tile)
        assert has_tile(size, Tile(tile.level, tile.index, 1))
        assert tile.width == 256 or not has_tile(size, Tile(tile.level, tile.index, tile.width + 1))
    assert not has_tile(size, Tile(0, size // 256, size % 256 + 1))
    assert not has_tile(size, Tile(None, size // 256, size % 256 + 1))


@pytest.mark.parametrize("tile", [Tile(0, -1), Tile(0, 0, 0), Tile(0, 0, 257), Tile(9, 0, 1)])
def test_no_size_has_an_impossible_tile(tile: Tile) -> None:
    assert not has_tile(2**63 - 1, tile)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_gives_back_its_entries(entries: list[bytes]) -> None:
    assert parse_bundle(encode_bundle(entries)) == entries


def test_a_bundle_has_a_big_endian_length_before_each_entry() -> None:
    assert encode_bundle([b"ab", b"", b"c" * 258]) == b"\x00\x02ab\x00\x00\x01\x02" + b"c" * 258
    assert parse_bundle(encode_bundle([b"x" * 65_535])) == [b"x" * 65_535]


def test_an_entry_of_65536_bytes_fits_no_bundle() -> None:
    with pytest.raises(TileError, match="65535 bytes at most"):
        encode_bundle([b"x" * 65_536])


@pytest.mark.parametrize("count", [0, 257])
def test_a_bundle_holds_1_to_256_entries(count: int) -> None:
    with pytest.raises(TileError, match="1 to 256"):
        encode_bundle([b"x"] * count)
    with pytest.raises(TileError, match="1 to 256"):
        parse_bundle(b"\x00\x01x" * count)


@pytest.mark.parametrize("bundle", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00", b"\x00\x01a\x00\x01", b"\xff\xff"])
def test_a_bundle_cut_off_is_refused(bundle: bytes) -> None:
    with pytest.raises(TileError, match="cut off"):
        parse_bundle(bundle)
