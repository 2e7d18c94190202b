"""The tiles file: nothing is lost or rounded, and its digest names it."""

from dataclasses import asdict, replace

import h5py
import numpy as np
import pytest

from mil.errors import FormatError
from mil.io.tiles import FLAG, Tiles, flagged, read_summary, read_tiles, write_tiles
from tests.synthetic import make_tiles

COORDS = np.array([[0, 0], [453, 0], [0, 453]])


def test_round_trip_keeps_values_and_plain_types(tmp_path):
    tiles = make_tiles(
        COORDS,
        slide="µ1",
        state="no_tissue",
        reason="it's <empty>",
        mpp=0.2472,
        origin_x_level0_px=17,
    )  # side 453.074...
    write_tiles(tmp_path / "a.h5", tiles)
    back = read_tiles(tmp_path / "a.h5")
    assert asdict(back.geometry) == asdict(tiles.geometry)
    assert back.geometry.side_level0_px == 224 * 0.5 / 0.2472
    for name, value in asdict(back.geometry).items():
        assert type(value) is type(getattr(tiles.geometry, name)), name
    np.testing.assert_array_equal(back.coords, COORDS)
    np.testing.assert_array_equal(back.tissue, [1, 1, 1])
    assert back.digest == tiles.digest


def test_quality_columns_come_back(tmp_path):
    tiles = replace(
        make_tiles(COORDS), quality={"pen": np.array([0, 0.25, 1]), "blur": np.array([0.5, 0, 0])}
    )
    write_tiles(tmp_path / "a.h5", tiles)
    back = read_tiles(tmp_path / "a.h5").quality
    assert {name: values.tolist() for name, values in back.items()} == {
        "pen": [0, 0.25, 1],
        "blur": [0.5, 0, 0],
    }
    assert all(values.dtype == np.float32 for values in back.values())


def test_stored_types(tmp_path):
    write_tiles(tmp_path / "a.h5", make_tiles(COORDS))
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["coords"].dtype, file["tissue"].dtype) == (np.int32, np.float16)
        assert file.attrs["digest"] == make_tiles(COORDS).digest


def test_no_tiles(tmp_path):
    write_tiles(tmp_path / "a.h5", make_tiles(np.zeros((0, 2)), state="no_mpp"))
    assert read_tiles(tmp_path / "a.h5").coords.shape == (0, 2)


def test_digest_names_corners_and_scale_only():
    tiles = make_tiles(COORDS)
    same = Tiles(
        replace(tiles.geometry, slide="other", reason="x"),
        tiles.coords.astype(np.int64),
        tiles.tissue * 0.5,
    )
    assert same.digest == tiles.digest
    others = [
        make_tiles(COORDS[::-1]),
        make_tiles(COORDS[:2]),
        make_tiles(np.add(COORDS, [[0, 0], [0, 1], [0, 0]])),
        make_tiles(COORDS, tile_px=256),
        make_tiles(COORDS, target_mpp=0.5000001),
        make_tiles(COORDS, side_level0_px=448.0001),
    ]
    assert len({other.digest for other in others} | {tiles.digest}) == 7


def test_a_bag_is_not_a_tiles_file(tmp_path):
    write_tiles(tmp_path / "a.h5", make_tiles(COORDS))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["format"] = "mil.bag"
    with pytest.raises(FormatError, match=r"expected mil\.tiles version 2, found mil\.bag"):
        read_tiles(tmp_path / "a.h5")


def test_a_summary_counts_flagged_tiles_as_the_columns_themselves(tmp_path):
    # 0.05 in float16 is a little less: the column is compared as it is read elsewhere.
    pen = np.array([0.05, 0.0504, 1.0])
    tiles = replace(
        make_tiles(COORDS, scanner="aperio GT450"), quality={"pen": pen, "other": np.ones(3)}
    )
    write_tiles(tmp_path / "a.h5", tiles)
    summary = read_summary(tmp_path / "a.h5")
    expected = flagged(read_tiles(tmp_path / "a.h5").quality)["pen"].sum()
    assert summary.num_flagged == {"pen": expected} == {"pen": 2}
    assert summary.num_tiles == 3
    assert (summary.facts.scanner, summary.facts.mpp_level0) == ("aperio GT450", 0.25)
    assert FLAG["pen"] == 0.05


def test_a_summary_of_a_column_of_another_length_is_one_line(tmp_path):
    write_tiles(tmp_path / "a.h5", replace(make_tiles(COORDS), quality={"pen": np.ones(3)}))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["quality/pen"]
        file["quality/pen"] = np.ones(2, np.float16)
    with pytest.raises(FormatError, match="a quality column is not a number of each tile"):
        read_summary(tmp_path / "a.h5")
