"""`mil bags verify`: every fault has its line, and nothing is changed."""

import fcntl
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from mil.io.bags import Bag, read_bag, write_bag
from tests.interop.layouts import (
    bags,
    features,
    good_files,
    put,
    replaced,
    write_stamp,
    write_trident,
)
from tests.synthetic import bag_file


@pytest.fixture
def folder(tmp_path):
    """Three good bags of 4000 x 3000 px."""
    for seed, slide in enumerate("abc"):
        bag_file(tmp_path / f"bags/{slide}.h5", slide, features(4, seed=seed))
    return tmp_path / "bags"


def verify(*paths):
    """Exit code, the faults, and the closing line."""
    code, output = bags("verify", *paths)
    *faults, last = output.splitlines()
    return code, faults, last


def change(path, **fields):
    write_bag(path, replace(read_bag(path), **fields))


def assert_only_fault(folder, line):
    code, faults, last = verify(folder)
    assert (code, last) == (1, "3 bags, 1 faults")
    assert faults[0].startswith(f"{folder / 'b.h5'}: ")
    assert line in faults[0]


def test_good_bags(folder):
    assert verify(folder) == (0, [], "3 bags, 0 faults")
    assert verify(folder / "a.h5", folder / "b.h5") == (0, [], "2 bags, 0 faults")


def test_a_slide_without_tiles_is_no_fault(folder):
    bag_file(folder / "d.h5", "d", np.zeros((0, 99)), state="no_tissue", reason="none")
    assert verify(folder) == (0, [], "4 bags, 0 faults")


def test_cut_short(folder):
    whole = (folder / "b.h5").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        (folder / "b.h5").write_bytes(content)
        assert_only_fault(folder, "not an HDF5 file, cut short or damaged")


def test_no_end_mark(folder):
    with h5py.File(folder / "b.h5", "r+") as file:
        del file.attrs["complete"]
    assert_only_fault(folder, "has no end mark, its writing was cut short")


@pytest.mark.parametrize("version", [2, 99])
def test_another_version(folder, version):
    with h5py.File(folder / "b.h5", "r+") as file:
        file.attrs["format_version"] = version
    assert_only_fault(folder, f"expected mil.bag version 3, found mil.bag version {version}")


def test_an_attribute_that_cannot_be(folder):
    with h5py.File(folder / "b.h5", "r+") as file:
        file.attrs["side_level0_px"] = -1.0
    assert_only_fault(folder, "its attributes cannot be used: side_level0_px")


@pytest.mark.parametrize(("name", "rows"), [("features", 3), ("coords", 3), ("valid", 5)])
def test_lengths_that_differ(folder, name, rows):
    data = {
        "features": features(rows),
        "coords": np.ones((rows, 2), np.int32),
        "valid": np.ones(rows, bool),
    }
    replaced(folder / "b.h5", name, put(data[name]))
    assert_only_fault(folder, "is not the numbers of each tile that it should be")


def test_a_link_out_of_the_file(folder):
    with h5py.File(folder / "b.h5", "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(folder / "a.h5"), "features")
    assert_only_fault(folder, "'features' is a link to somewhere else, which is not followed")


def test_not_a_number(folder):
    bad = features(4)
    bad[1, 2], bad[3, 0] = np.nan, np.inf
    change(folder / "b.h5", features=bad)
    assert_only_fault(folder, "NaN or infinity in 2 of 4 valid tiles")
    change(folder / "b.h5", features=bad, valid=np.array([True, False, True, False]))
    assert verify(folder)[0] == 0  # what is not valid is not read


def test_the_same_corner_twice(folder):
    change(folder / "b.h5", coords=np.array([[0, 0], [448, 0], [0, 0], [0, 0]]))
    assert_only_fault(folder, "2 tiles have the corner of another one, such as (0, 0)")


@pytest.mark.parametrize("corner", [(-1, 0), (4000, 0), (0, 3000)])
def test_outside_the_slide(folder, corner):
    change(folder / "b.h5", coords=np.array([[0, 0], [448, 0], [896, 0], corner]))
    assert_only_fault(
        folder, f"1 tiles begin outside the slide of 4000 x 3000 px, such as {corner}"
    )


def test_the_name_of_another_slide(folder):
    change(folder / "b.h5", slide="B2")
    assert_only_fault(folder, "its header names the slide 'B2'")


def test_no_tile_could_be_read(folder):
    change(folder / "b.h5", valid=np.zeros(4, bool))
    assert_only_fault(folder, "its state is ok, but no tile could be read")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"features": features(4, 9)}, "9 features per tile, but 8 in 2 of 3 bags"),
        ({"encoder": "other"}, "encoder is other, but tiny in 2 of 3 bags"),
        (
            {"weights_sha256": "f" * 64},
            f"weights_sha256 is {'f' * 64}, but {'0' * 64} in 2 of 3 bags",
        ),
        ({"weights_sha256": ""}, f"weights_sha256 is not known, but {'0' * 64} in 2 of 3 bags"),
        ({"tile_px": 256}, "tiling is 256px_0.5mpp, but 224px_0.5mpp in 2 of 3 bags"),
    ],
)
def test_bags_that_do_not_belong_together(folder, fields, line):
    change(folder / "b.h5", **fields)
    assert_only_fault(folder, line)


def test_folders_are_judged_by_themselves(folder, tmp_path):
    bag_file(tmp_path / "others/a.h5", "a", features(4, 16), encoder={"encoder": "other"})
    assert verify(folder, tmp_path / "others") == (0, [], "4 bags, 0 faults")


def test_a_bag_that_knows_little_is_no_fault(tmp_path):
    bag = Bag(
        slide="a",
        encoder="uni",
        features=features(3),
        coords=None,
        valid=np.ones(3, bool),
        source="clam",
    )
    write_bag(tmp_path / "a.h5", bag)
    assert verify(tmp_path) == (0, [], "1 bags, 0 faults")


def test_nothing_is_changed(folder, tmp_path):
    good_files(tmp_path / "theirs")
    change(folder / "b.h5", slide="B2")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    for file in files:
        os.utime(file, ns=(10**18, 10**18))
        file.chmod(0o444)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
    assert verify(folder, *(tmp_path / "theirs").iterdir())[0] == 1
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files} == before
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == sorted(files)


def test_files_are_read_without_locks(folder):
    with (folder / "a.h5").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert verify(folder)[0] == 0


def test_changed_numbers_are_a_fault(folder):
    with h5py.File(folder / "b.h5", "r+") as file:
        file["features"][0] = 0
    assert_only_fault(folder, "its features differ from their checksum")


def test_old_bags_have_no_checksums_and_are_held_against_their_tiles(folder):
    with h5py.File(folder / "b.h5", "r+") as file:
        del file.attrs["xxh3_64"]
    code, lines, last = verify(folder)
    assert (code, last) == (0, "3 bags, 0 faults")
    assert lines[0].startswith("1 bags carry no checksums, since an older version wrote them: b;")
    with h5py.File(folder / "b.h5", "r+") as file:
        file["coords"][...] = file["coords"][:] + 1
    code, lines, _ = verify(folder)
    assert (code, len(lines)) == (1, 2)
    assert "b.h5: its coordinates are not those of the tiles that it was made from" in lines[0]


def test_other_tools_files(tmp_path):
    good_files(tmp_path)
    assert verify(*tmp_path.iterdir()) == (0, [], "4 bags, 0 faults")
    write_trident(
        tmp_path / "trident", "b", np.array([[0, 0], [0, 0], [-5, 0], [50_000, 0], [1, 1]])
    )
    path = write_stamp(tmp_path / "stamp", "c")
    replaced(path, "feats", put(features(5, 9)))
    cut = write_stamp(tmp_path / "stamp", "d")
    cut.write_bytes(cut.read_bytes()[:100])
    code, faults, last = verify(*tmp_path.iterdir())
    assert (code, last) == (1, "7 bags, 4 faults")
    for line in (
        "b.h5: 1 tiles have the corner of another one, such as (0, 0)",
        "b.h5: 2 tiles begin outside the slide of 50000 x 40000 px, such as (-5, 0)",
        "features per tile",
        "d.h5: not an HDF5 file",
    ):
        assert sum(line in fault for fault in faults) == 1, line


def test_nothing_to_look_at(tmp_path):
    assert bags("verify", tmp_path / "gone") == (1, f"{tmp_path / 'gone'}: no such file or folder")
    (tmp_path / "empty").mkdir()
    assert "no .h5 or .pt files" in bags("verify", tmp_path / "empty")[1]
