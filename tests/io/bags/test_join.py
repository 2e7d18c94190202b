"""Joined bags: the tiles of the finest, and beside their features those of the tile around."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.errors import FormatError
from mil.interop.show import bag_info
from mil.io.bags import Bag, BagHeader, read_bag, read_header, write_bag
from mil.io.bags.around import tiles_around
from mil.io.bags.folder import kind_of_bags
from mil.io.bags.join import (
    join_bags,
    joined_digest,
    joined_weights,
    shown_weights,
)
from mil.io.bags.joined import joined_parts
from mil.report.setup import _statement
from mil.why.joined import of_any_bag
from mil.why.study import Study
from tests.messages import one_line
from tests.synthetic import bag_file

# Tiles of 224 px at 0.5 µm/px on a slide of 0.25 µm/px; at 1 µm/px they are twice as wide.
SIDE = 448
WIDE = 2 * SIDE


def fine_bag(folder: Path, features, coords, **settings) -> Path:
    bag_file(folder / "fine/s1.h5", "s1", features, np.array(coords), **settings)
    return folder / "fine/s1.h5"


def coarse_bag(folder: Path, features, coords, **settings) -> Path:
    settings = {"target_mpp": 1.0, **settings}
    bag_file(folder / "coarse/s1.h5", "s1", features, np.array(coords), **settings)
    return folder / "coarse/s1.h5"


def joined(*paths: Path):
    return join_bags([read_bag(path) for path in paths], paths)


def by_hand(corners, side, coarse, coarse_side):
    """The rule of `tiles_around`, pair by pair."""
    rows = []
    for corner in corners + side / 2:
        distance = np.abs(coarse + coarse_side / 2 - corner).max(axis=1)
        inside = distance < coarse_side / 2 + 1
        rows.append(int(np.argmin(np.where(inside, distance, np.inf))) if inside.any() else -1)
    return rows


@pytest.mark.parametrize("coarse_side", [10.0, 15.5, 23.25, 40.0])
def test_the_tile_around_a_centre_is_that_of_all_pairs(coarse_side):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 200, (300, 2))
    # Overlapping tiles, and places without one; the last tile is there twice.
    coarse = rng.integers(0, 160, (40, 2))
    coarse = np.concatenate([coarse, coarse[-1:]])
    rows = tiles_around(corners, 10.0, coarse, coarse_side)
    assert rows.tolist() == by_hand(corners, 10.0, coarse, coarse_side)
    assert -1 in rows
    assert 40 not in rows


def test_the_tile_of_a_grid_is_that_of_its_cell():
    columns, rows = np.meshgrid(np.arange(6), np.arange(4))
    # Sides are fractions, and corners whole pixels.
    corners = np.round(np.stack([columns, rows], -1).reshape(-1, 2) * 226.63).astype(int)
    cells = np.stack(np.meshgrid(np.arange(3), np.arange(2)), -1).reshape(-1, 2)
    coarse = np.round(cells * 453.26).astype(int)
    expected = (columns // 2 + 3 * (rows // 2)).ravel()
    assert tiles_around(corners, 226.63, coarse, 453.26).tolist() == expected.tolist()
    nothing = np.zeros((0, 2), int)
    assert tiles_around(corners, 226.63, nothing, 453.26).tolist() == [-1] * 24
    assert tiles_around(nothing, 226.63, coarse, 453.26).shape == (0,)


def test_features_stand_beside_those_of_the_tile_around(tmp_path):
    # The last coarse tile could not be read. Two fine ones lie in none, and two could not be
    # read, of which one lies in none.
    fine = fine_bag(
        tmp_path,
        [[1, 2], [3, 4], [0, 0], [7, 8], [9, 10], [0, 0]],
        [[0, 0], [SIDE, 0], [SIDE, SIDE], [WIDE, 0], [3 * WIDE, 0], [6 * WIDE, 0]],
        valid=np.array([True, True, False, True, True, False]),
    )
    coarse = coarse_bag(
        tmp_path,
        [[0.5], [0]],
        [[0, 0], [WIDE, 0]],
        valid=np.array([True, False]),
        encoder={"encoder": "other", "weights_sha256": "1" * 64, "precision": "bf16"},
    )
    bag, without = joined(fine, coarse)
    assert bag.features.tolist() == [
        [1, 2, 0.5],
        [3, 4, 0.5],
        [0, 0, 0],
        [7, 8, 0],
        [9, 10, 0],
        [0, 0, 0],
    ]
    assert bag.features.dtype == np.float16
    assert without == (2,)
    first = read_bag(fine)
    assert bag.coords.tolist() == first.coords.tolist()
    assert bag.valid.tolist() == first.valid.tolist()
    # What heatmaps, graphs and mixers read is of the fine tiles.
    for name in ("tile_px", "target_mpp", "side_level0_px", "mpp_level0", "tile_digest", "state"):
        assert getattr(bag, name) == getattr(first, name)
    assert bag.identity == {
        "encoder": "tiny@0.5+other@1",
        "weights_sha256": f"{'0' * 64}+{'1' * 64}",
        "tiling": "224px_0.5mpp",
        "stain_norm": "",
    }
    assert (bag.transform, bag.precision) == ("none", "fp32 + bf16")
    assert [(part.encoder, part.dim, part.without) for part in joined_parts(bag)] == [
        ("tiny", 2, 0),
        ("other", 1, 2),
    ]
    assert joined_parts(bag)[1].tile_digest == read_bag(coarse).tile_digest
    assert joined_parts(first) == []


def test_a_joined_bag_is_a_bag_like_any_other(tmp_path):
    bag, _ = joined(
        fine_bag(tmp_path, np.ones((2, 3)), [[0, 0], [WIDE, 0]]),
        coarse_bag(tmp_path, np.ones((1, 2)), [[0, 0]]),
    )
    write_bag(tmp_path / "s1.h5", bag)
    assert read_bag(tmp_path / "s1.h5").features.tolist() == bag.features.tolist()
    assert kind_of_bags(tmp_path / "s1.h5").encoder == "tiny@0.5+tiny@1"
    lines = "\n".join(bag_info(tmp_path / "s1.h5"))
    assert "part 1                 3 numbers of tiny, tiles of 224 px at 0.5 µm/px, w" in lines
    assert "000; 1 tiles lie in none of these and have zeros" in lines
    assert "encoder_settings" not in lines


def test_encoders_that_see_the_same_tiles_are_joined_too(tmp_path):
    coords = [[0, 0], [SIDE, 0]]
    fine = fine_bag(tmp_path, [[1], [2]], coords)
    same = coarse_bag(tmp_path, [[3], [4]], coords, target_mpp=0.5, encoder={"encoder": "b"})
    bag, without = joined(fine, same)
    assert bag.features.tolist() == [[1, 3], [2, 4]]
    assert without == (0,)
    assert bag.encoder == "tiny@0.5+b@0.5"


def test_the_name_states_the_side_of_tiles_where_it_is_another(tmp_path):
    fine = fine_bag(tmp_path, [[1]], [[0, 0]])
    wide = coarse_bag(tmp_path, [[2]], [[0, 0]], target_mpp=0.571, tile_px=448)
    bag, _ = joined(fine, wide)
    assert bag.encoder == "tiny@0.5+tiny@448px_0.571mpp"
    # A joined bag is joined again, and its name stays.
    write_bag(tmp_path / "again/s1.h5", bag)
    again, _ = joined(tmp_path / "again/s1.h5", coarse_bag(tmp_path / "x", [[3]], [[0, 0]]))
    assert again.encoder == "tiny@0.5+tiny@448px_0.571mpp+tiny@1"
    assert again.features.tolist() == [[1, 2, 3]]


def test_a_state_that_is_not_ok_is_that_of_the_joined_bag(tmp_path):
    fine = fine_bag(tmp_path, np.ones((2, 3)), [[0, 0], [SIDE, 0]])
    empty = {"state": "no_tissue", "reason": "nothing there"}
    coarse = coarse_bag(tmp_path, np.zeros((0, 2)), np.zeros((0, 2), int), **empty)
    bag, without = joined(fine, coarse)
    assert (bag.state, bag.reason) == ("no_tissue", "nothing there (tiny@1)")
    assert bag.features.shape == (0, 5)
    assert without == (0,)
    assert bag.encoder == "tiny@0.5+tiny@1"
    fine = fine_bag(tmp_path, np.zeros((0, 3)), np.zeros((0, 2), int), **empty)
    bag, _ = joined(fine, coarse)
    assert (bag.state, bag.reason) == ("no_tissue", "nothing there")


def test_reasons_of_bags_that_are_ok_are_kept(tmp_path):
    fine = fine_bag(tmp_path, np.ones((1, 1)), [[0, 0]], reason="1 tile lost")
    coarse = coarse_bag(tmp_path, np.ones((1, 1)), [[0, 0]], reason="2 tiles lost")
    assert joined(fine, coarse).bag.reason == "1 tile lost; 2 tiles lost (tiny@1)"


def test_bags_that_do_not_go_together_are_refused(tmp_path):
    fine = fine_bag(tmp_path, np.ones((1, 1)), [[0, 0]])
    coarse = coarse_bag(tmp_path, np.ones((1, 1)), [[0, 0]])
    with one_line(FormatError, r"fine/s1.h5: its tiles are 448 px .* finest tiles to"):
        joined(coarse, fine)
    # `predict` sorts, and would make another bag of a new slide than the heads were trained on.
    middle = coarse_bag(tmp_path / "w", np.ones((1, 1)), [[0, 0]], target_mpp=2.0)
    with one_line(FormatError, r"finer than those of .*w/coarse/s1.h5 \(1792 px\)"):
        joined(fine, middle, coarse)
    assert joined(fine, coarse, middle).bag.encoder == "tiny@0.5+tiny@1+tiny@2"
    bag_file(tmp_path / "s2.h5", "s2", np.ones((1, 1)))
    with one_line(FormatError, "is the bag of slide 's2', but .* of 's1'"):
        joined(fine, tmp_path / "s2.h5")
    other = coarse_bag(tmp_path / "o", np.ones((1, 1)), [[0, 0]], width_level0_px=4001)
    with one_line(FormatError, "width_level0_px is 4001, but 4000 in"):
        joined(fine, other)
    nowhere = Bag(
        slide="s1", encoder="uni", features=np.ones((1, 1)), coords=None, valid=np.ones(1, bool)
    )
    write_bag(tmp_path / "n/s1.h5", nowhere)
    with one_line(FormatError, "does not say where its tiles lie"):
        joined(fine, tmp_path / "n/s1.h5")
    stain = {"stain_norm": "macenko", "stain": "{}"}
    normalised = coarse_bag(tmp_path / "m", np.ones((1, 1)), [[0, 0]], encoder=stain)
    with one_line(FormatError, "stains are normalised by macenko, those of .* by none"):
        joined(fine, normalised)
    long = coarse_bag(tmp_path / "l", np.ones((1, 1)), [[0, 0]], encoder={"encoder": "u" * 99})
    with one_line(FormatError, "longer than 100 characters"):
        joined(fine, long)


def test_a_digest_to_join_changes_with_the_numbers(tmp_path):
    fine = fine_bag(tmp_path, np.ones((1, 1)), [[0, 0]])
    before = joined_digest(fine)
    fine_bag(tmp_path, np.zeros((1, 1)), [[0, 0]])
    assert joined_digest(fine) != before


def test_weights_of_joined_encoders():
    assert joined_weights(["a" * 64, "b" * 64]) == f"{'a' * 64}+{'b' * 64}"
    assert joined_weights(["a", ""]) == ""
    assert shown_weights(f"{'a' * 64}+{'b' * 64}") == f"{'a' * 12}+{'b' * 12}"


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"joined": 5}', '{"joined": [7]}', "ü"])
def test_parts_that_a_stranger_states_are_not_believed(text):
    assert joined_parts(BagHeader(slide="s", encoder="a+b", encoder_settings=text)) == []
    stated = json.dumps({"joined": [{"encoder": "a"}]})
    assert joined_parts(BagHeader(slide="s", encoder="a", encoder_settings=stated)) == []


@pytest.mark.parametrize(
    "part",
    [
        {"target_mpp": 10**400},
        {"target_mpp": float("nan")},
        {"tile_px": True},
        {"encoder": "u" * 5000},
        {"encoder": "../u"},
    ],
)
def test_numbers_and_names_that_cannot_be_are_not_believed(tmp_path, part):
    stated = [{"encoder": "a", "tile_px": 224, "target_mpp": 0.5}]
    header = BagHeader(slide="s1", encoder="a+b", encoder_settings=json.dumps({"joined": stated}))
    assert [(one.encoder, one.tile_px) for one in joined_parts(header)] == [("a", 224)]
    settings = json.dumps({"joined": [*stated, {**stated[0], **part}]})
    assert joined_parts(replace(header, encoder_settings=settings)) == []
    # Readers that show a bag do so without its parts.
    path = tmp_path / "s1.h5"
    encoder = {"encoder": "a+b", "encoder_settings": settings}
    bag_file(path, "s1", np.ones((1, 1)), encoder=encoder)
    assert "tiles of 224 × 224 px at 0.5 µm per pixel" in _statement([read_header(path)])
    study = Study(tmp_path, "224px_0.5mpp", "a+b", "", "nowhere", tmp_path)
    assert of_any_bag(path, study).facts["encoder"] == "a+b"
