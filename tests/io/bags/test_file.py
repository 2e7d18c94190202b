"""The bag file: what stands in it, and that other tools can read it."""

import h5py
import numpy as np
import pytest

from mil.errors import FormatError
from mil.io.bags import Bag, read_bag, read_header, read_identity, read_share, write_bag
from tests.messages import one_line
from tests.synthetic import bag_file

FEATURES = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
COORDS = np.array([[100, 50], [548, 50], [100, 498]])


@pytest.fixture
def path(tmp_path):
    bag_file(tmp_path / "s1.h5", "s1", FEATURES, COORDS, valid=np.array([True, False, True]))
    return tmp_path / "s1.h5"


def test_round_trip(path):
    bag = read_bag(path)
    assert (bag.slide, bag.state, bag.reason, bag.encoder) == ("s1", "ok", "", "tiny")
    assert (bag.side_level0_px, bag.mpp_level0) == (448.0, 0.25)
    np.testing.assert_array_equal(bag.features, FEATURES)
    np.testing.assert_array_equal(bag.coords, COORDS)
    assert bag.valid.tolist() == [True, False, True]


def test_shares_are_the_bag_without_a_tile_twice(path):
    shares = [read_share(path, number, 2) for number in range(2)]
    assert [len(share.features) for share in shares] == [1, 2]
    for name in ("features", "coords", "valid"):
        parts = [getattr(share, name) for share in shares]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(read_bag(path), name))
    assert shares[1].slide == "s1"
    with pytest.raises(ValueError, match="share 2 of 2: shares are 0 to 1"):
        read_share(path, 2, 2)


def test_stored_contiguous_and_uncompressed(path):
    with h5py.File(path) as file:
        types = {"features": np.float16, "coords": np.int32, "valid": np.bool_}
        for name, dtype in types.items():
            assert file[name].chunks is None
            assert file[name].compression is None
            assert file[name].dtype == dtype
        assert file["features"].id.get_offset() is not None  # one run of bytes in the file
        assert file.attrs["invalid_tiles"] == 1


def test_coords_carry_tridents_attributes(path):
    with h5py.File(path) as file:
        assert dict(file["coords"].attrs) == {
            "patch_size": 224,
            "patch_size_level0": 448.0,
            "level0_magnification": 40.0,
            "target_magnification": 20.0,
            "overlap": 0,
            "name": "s1",
            "savetodir": "",
            "level0_width": 4000,
            "level0_height": 3000,
        }


def test_says_what_made_it(path, tmp_path):
    tiles = bag_file(tmp_path / "other.h5", "s1", FEATURES, COORDS)
    with h5py.File(path) as file:
        assert file.attrs["tile_digest"] == tiles.digest
        assert file.attrs["target_mpp"] == 0.5
        assert file.attrs["tile_order"] == "row-major"
        assert file.attrs["weights_sha256"] == "0" * 64
    assert read_identity(path) == {
        "encoder": "tiny",
        "weights_sha256": "0" * 64,
        "tiling": "224px_0.5mpp",
        "stain_norm": "",
    }


def test_same_bag_same_bytes(tmp_path):
    for name in ("a", "b"):
        bag_file(tmp_path / f"{name}.h5", "s1", FEATURES, COORDS)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_slide_without_tiles_keeps_its_state_and_width(tmp_path):
    bag_file(
        tmp_path / "e.h5",
        "e",
        np.zeros((0, 4)),
        state="no_tissue",
        reason="no tile with enough tissue",
    )
    header = read_header(tmp_path / "e.h5")
    assert (header.state, header.reason) == ("no_tissue", "no tile with enough tissue")
    assert read_bag(tmp_path / "e.h5").features.shape == (0, 4)


def test_another_format_is_refused(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    for read in (read_bag, read_header, read_identity):
        with pytest.raises(
            FormatError, match=r"expected mil\.bag version 3, found mil\.bag version 99"
        ):
            read(path)


STRANGE = {
    "encoder": 7,
    "tile_px": "../../x",
    "target_mpp": float("nan"),
    "side_level0_px": -1.0,
    "mpp_level0": "half",
    "width_level0_px": 1.5,
    "state": "fine",
    "reason": [1, 2],
    "height_level0_px": 2**31,
}


@pytest.mark.parametrize("name", STRANGE)
def test_an_attribute_that_cannot_be_is_one_line(path, name):
    with h5py.File(path, "r+") as file:
        file.attrs[name] = STRANGE[name]
    for read in (read_bag, read_header):
        with one_line(FormatError, match=f"s1.h5: .*{name}.*make the bag again"):
            read(path)


def test_a_bag_without_its_slide_or_encoder_is_refused(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["encoder"]
    with pytest.raises(FormatError, match="encoder: Field required"):
        read_header(path)


ARRAYS = {
    "features": np.ones(3, np.float16),
    "valid": np.ones(2, bool),
    "coords": np.ones((3, 3), np.int32),
    "features of text": np.full((3, 4), b"x"),
    "valid of numbers": np.ones(3),
    "coords of fractions": np.ones((3, 2)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_do_not_agree_are_one_line(path, name):
    with h5py.File(path, "r+") as file:
        del file[name.split()[0]]
        file[name.split()[0]] = ARRAYS[name]
    with one_line(FormatError, match=r"s1\.h5: (no table of features|.* is not the numbers)"):
        read_bag(path)


@pytest.mark.parametrize("name", ["features", "valid"])
def test_a_bag_without_features_is_refused(path, name):
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(FormatError, match="no table of features"):
        read_bag(path)


def test_what_is_not_known_stays_unknown(tmp_path):
    valid = np.ones(3, bool)
    write_bag(
        tmp_path / "i.h5",
        Bag(slide="i", encoder="uni", features=FEATURES, coords=None, valid=valid, source="clam"),
    )
    bag = read_bag(tmp_path / "i.h5")
    header = read_header(tmp_path / "i.h5")
    assert bag.coords is None
    assert (header.side_level0_px, header.mpp_level0, header.tile_px, header.weights_sha256) == (
        None,
        None,
        None,
        "",
    )
    assert read_identity(tmp_path / "i.h5") == {
        "encoder": "uni",
        "weights_sha256": "",
        "tiling": "unknownpx_unknownmpp",
        "stain_norm": "",
    }
    assert header.source == "clam"


def test_trident_is_told_nothing_that_is_not_known(tmp_path):
    bag = Bag(
        slide="i",
        encoder="uni",
        features=FEATURES,
        coords=COORDS,
        valid=np.ones(3, bool),
        tile_px=256,
    )
    write_bag(tmp_path / "i.h5", bag)
    with h5py.File(tmp_path / "i.h5") as file:
        assert dict(file["coords"].attrs) == {
            "patch_size": 256,
            "overlap": 0,
            "name": "i",
            "savetodir": "",
        }


@pytest.mark.parametrize(
    ("coords", "order"),
    [
        (COORDS, "row-major"),
        (COORDS[::-1], "source"),
        (COORDS[[0, 0, 2]], "source"),
        (None, "unknown"),
    ],
)
def test_says_in_which_order_its_tiles_are(tmp_path, coords, order):
    bag = Bag(slide="i", encoder="uni", features=FEATURES, coords=coords, valid=np.ones(3, bool))
    write_bag(tmp_path / "i.h5", bag)
    with h5py.File(tmp_path / "i.h5") as file:
        assert file.attrs["tile_order"] == order


def test_corners_in_micrometres_are_kept(tmp_path):
    places = np.array([[0, 0.1], [256, 0], [1.5, 2.5]], np.float32)
    write_bag(
        tmp_path / "i.h5",
        Bag(
            slide="i",
            encoder="uni",
            features=FEATURES,
            coords=None,
            valid=np.ones(3, bool),
            coords_um=places,
        ),
    )
    np.testing.assert_array_equal(read_bag(tmp_path / "i.h5").coords_um, places)
    write_bag(
        tmp_path / "j.h5",
        Bag(slide="j", encoder="uni", features=FEATURES, coords=None, valid=np.ones(3, bool)),
    )
    assert read_bag(tmp_path / "j.h5").coords_um is None
