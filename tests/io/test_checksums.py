"""Numbers of bags and tiles that were changed after they were written are noticed."""

import h5py
import numpy as np
import pytest

from mil.errors import FormatError
from mil.io.bags import Bag, read_bag, read_header, read_positions, write_bag
from mil.io.bags.checks import check_slide
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.patients import read_each
from mil.io.bags.status import gather
from mil.io.checksums import checksum
from mil.io.tiles import read_tiles, write_tiles
from tests.messages import one_line
from tests.synthetic import bag_file, make_tiles

FEATURES = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
COORDS = np.array([[100, 50], [548, 50], [100, 498]])


@pytest.fixture
def path(tmp_path):
    bag_file(tmp_path / "s1.h5", "s1", FEATURES, COORDS)
    return tmp_path / "s1.h5"


def changed(path, name, change):
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        change(values)
        file[name][...] = values


CHANGES = {
    "a row of zeros": ("features", lambda rows: rows.__setitem__(1, 0)),
    "one bit": ("features", lambda rows: rows.view(np.uint16).__ixor__(np.uint16([[0, 0, 0, 1]]))),
    "shifted tiles": ("coords", lambda corners: corners.__iadd__(1)),
    "exchanged tiles": (
        "coords",
        lambda corners: corners.__setitem__(slice(2), corners[1::-1].copy()),
    ),
    "a lost tile": ("valid", lambda valid: valid.__setitem__(0, False)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_numbers_of_a_bag_are_named(path, change):
    name, how = CHANGES[change]
    changed(path, name, how)
    with one_line(FormatError, match=rf"s1\.h5: its {name} differ from their checksum"):
        read_bag(path)
    if name == "features":
        # They are not read there, and not needed.
        read_positions(path)
    else:
        with pytest.raises(FormatError, match=f"its {name} differ"):
            read_positions(path)


def test_features_of_another_bag_are_noticed(path, tmp_path):
    bag_file(tmp_path / "s2.h5", "s2", FEATURES + 1, COORDS)
    with h5py.File(tmp_path / "s2.h5") as other, h5py.File(path, "r+") as file:
        del file["features"]
        other.copy("features", file)
    with pytest.raises(FormatError, match="its features differ"):
        read_bag(path)


@pytest.mark.parametrize("name", ["coords", "coords_um"])
def test_coordinates_that_were_taken_away_or_added_are_noticed(path, name):
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        else:
            file[name] = np.zeros((3, 2), np.float32)
    with pytest.raises(FormatError, match=f"lost its {name}|its {name} differ"):
        read_bag(path)


def test_a_bag_of_an_older_version_has_no_checksums_and_stays_readable(path):
    digest = bag_digest(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["xxh3_64"]
    np.testing.assert_array_equal(read_bag(path).features, FEATURES)
    assert bag_digest(path) != digest


@pytest.mark.parametrize("stored", ["features", 3, "features= valid="])
def test_damaged_checksums_are_one_line(path, stored):
    with h5py.File(path, "r+") as file:
        file.attrs["xxh3_64"] = stored
    with one_line(FormatError, match="its checksums are damaged"):
        read_bag(path)


def test_the_digest_of_a_bag_is_of_all_its_bytes(tmp_path):
    # More rows than the ends that older digests are of.
    features = np.zeros((1500, 256), np.float16)
    valid = np.ones(1500, bool)
    digests = set()
    for row in (None, 0, 750, 1499):
        values = features.copy()
        if row is not None:
            values[row] = 1
        bag = Bag(slide="s", encoder="e", features=values, coords=None, valid=valid)
        write_bag(tmp_path / "s.h5", bag)
        digests.add(bag_digest(tmp_path / "s.h5"))
    assert len(digests) == 4


def test_equal_bytes_of_another_shape_or_type_differ():
    values = np.arange(6, dtype=np.int32)
    others = (values.reshape(2, 3), values.reshape(3, 2), values.view(np.float32))
    assert len({checksum(array) for array in (values, *others)}) == 4


def test_a_bag_under_another_slides_name_is_refused_at_every_door(path, tmp_path):
    other = path.rename(tmp_path / "s2.h5")
    message = r"s2\.h5: is the bag of slide 's1'"
    with one_line(FormatError, match=message):
        check_slide(read_header(other), other)
    with pytest.raises(FormatError, match=message):
        read_each([other])
    for tiles in ([], [tmp_path]):
        with pytest.raises(FormatError, match=message):
            gather(["s2"], tiles, [tmp_path])


@pytest.mark.parametrize("name", ["coords", "tissue", "quality/blur"])
def test_changed_tiles_are_named(tmp_path, name):
    tiles = make_tiles(COORDS)
    tiles.quality["blur"] = np.zeros(3, np.float32)
    write_tiles(tmp_path / "a.h5", tiles)
    changed(
        tmp_path / "a.h5",
        name,
        lambda values: (
            values.__setitem__(0, 0.5) if values.dtype.kind == "f" else values.__iadd__(1)
        ),
    )
    with one_line(FormatError, match=f"its {name} differ from their checksum"):
        read_tiles(tmp_path / "a.h5")


def test_tiles_of_an_older_version_are_held_against_their_digest(tmp_path):
    write_tiles(tmp_path / "a.h5", make_tiles(COORDS))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file.attrs["xxh3_64"]
    assert read_tiles(tmp_path / "a.h5").digest == make_tiles(COORDS).digest
    changed(tmp_path / "a.h5", "coords", lambda corners: corners.__iadd__(1))
    with one_line(FormatError, match="differ from its digest"):
        read_tiles(tmp_path / "a.h5")
