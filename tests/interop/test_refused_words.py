"""Texts in untrusted files: attributes, names, headers; one line a fault, and no bag."""

import json

import h5py
import numpy as np
import pytest

from mil.io.bags import read_bag
from tests.interop.layouts import (
    COORDS,
    bags,
    features,
    good_files,
    put,
    refused,
    replaced,
    write_acmil,
    write_trident,
)


@pytest.fixture
def files(tmp_path):
    return good_files(tmp_path / "in")


def set_attribute(path, item, name, value):
    with h5py.File(path, "r+") as file:
        file[item].attrs[name] = value


@pytest.mark.parametrize(
    ("tool", "item", "name", "value", "line"),
    [
        ("trident", "coords", "patch_size", "big", "patch_size is 'big', not a positive number"),
        ("trident", "coords", "patch_size_level0", -3.0, "patch_size_level0 is '-3.0'"),
        ("trident", "coords", "level0_width", np.inf, "level0_width is 'inf'"),
        ("trident", "coords", "level0_magnification", [1, 2], "level0_magnification is"),
        ("trident", "features", "encoder", 7, "encoder is not a line of text"),
        ("trident", "features", "encoder", "a\nb", "encoder is not a line of text"),
        ("stamp", "/", "tile_size_um", np.nan, "tile_size_um is 'nan'"),
        ("stamp", "/", "tile_size_px", 0, "tile_size_px is '0'"),
        ("stamp", "/", "feat_type", "slide", "features of a whole slide, not of its tiles"),
        ("stamp", "/", "feat_type", "patient", "features of a whole patient, not of its tiles"),
        ("stamp", "/", "encoder", "titan", "features of a whole tile by titan"),
        ("acmil", "a", "label", [1, 2], "label is not a number"),
        ("acmil", "a", "label", 0.5, "label is not a number"),
    ],
)
def test_attributes_that_cannot_be(files, tmp_path, tool, item, name, value, line):
    set_attribute(files[tool], item, name, value)
    assert line in refused(files[tool], tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("downsample", (4.0, 2.0), "tiles that are not square: downsample is 4 by 2"),
        ("downsample", "four", "downsample is not one or two positive numbers"),
        ("patch_size", -1, "patch_size is '-1'"),
    ],
)
def test_clams_patches_that_cannot_be(files, tmp_path, name, value, line):
    patches = tmp_path / "in/clam/patches/a.h5"
    set_attribute(patches, "coords", name, value)
    code, output = bags("import", files["clam"], "--out", tmp_path / "bags", "--encoder", "tiny")
    assert (code, f"{patches}: {line}" in output) == (1, True)


def test_clams_patches_of_other_tiles_say_nothing_of_these(files, tmp_path):
    patches = tmp_path / "in/clam/patches/a.h5"
    for data in (COORDS + 1, COORDS[:4]):
        replaced(patches, "coords", put(data))
        code, output = bags(
            "import", files["clam"], "--out", tmp_path / "bags", "--encoder", "tiny"
        )
        assert (code, f"{patches}: not the corners of the tiles in {files['clam']}" in output) == (
            1,
            True,
        )


def test_stamps_coordinates_without_a_unit(files, tmp_path):
    with h5py.File(files["stamp"], "r+") as file:
        for name in ("unit", "tile_size_um"):
            del file.attrs[name]
    assert "does not say the unit of its coords" in refused(files["stamp"], tmp_path)


@pytest.mark.parametrize("name", ["..", ".hidden"])
def test_a_group_that_cannot_be_a_files_name(tmp_path, name):
    path = write_acmil(tmp_path / "patch_feats_pretrain_ssl.h5", {"fine": 0, name: 1})
    assert "cannot be a slide's id" in refused(path, tmp_path)


def test_a_group_that_leaves_the_folder(tmp_path):
    path = write_acmil(tmp_path / "patch_feats_pretrain_ssl.h5", {"fine": 0, "../../evil": 1})
    assert "the group '..' cannot be a slide's id" in refused(path, tmp_path)
    assert not list(tmp_path.rglob("evil*"))


def test_a_group_whose_name_is_no_text(tmp_path):
    path = write_acmil(tmp_path / "patch_feats_pretrain_ssl.h5", {"fine": 0})
    with h5py.File(path, "r+") as file:
        h5py.h5g.create(file.id, b"\xff\xfe")
    assert "cannot be a slide's id" in refused(path, tmp_path)


@pytest.mark.parametrize("name", ["patch_size", "encoder", "mil_header"])
def test_an_attribute_that_is_too_large(files, tmp_path, name):
    item = {"patch_size": "coords", "encoder": "features"}.get(name, "/")
    set_attribute(files["trident"], item, name, np.zeros(5000))
    assert f"{name} is too large for an attribute" in refused(files["trident"], tmp_path)


def test_atlaspatch_is_recognised(tmp_path):
    for number, of_group in enumerate((True, False)):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file["coords"] = np.zeros((5, 5), np.int32)
            file["features/uni" if of_group else "features"] = features()
        assert "a file of AtlasPatch, which cannot be imported" in refused(path, tmp_path)


def test_files_that_hold_no_features(files, tmp_path):
    assert "holds coordinates, not features" in refused(tmp_path / "in/clam/patches/a.h5", tmp_path)
    with h5py.File(tmp_path / "pixels.h5", "w") as file:
        file["imgs"], file["coords"] = np.zeros((5, 4, 4, 3), np.uint8), COORDS
    assert "holds pixels of tiles, not features" in refused(tmp_path / "pixels.h5", tmp_path)
    slides = tmp_path / "slide_features_titan"
    slides.mkdir()
    with h5py.File(slides / "a.h5", "w") as file:
        file["features"], file["coords"] = np.ones(768, np.float32), COORDS
    assert "features of a whole slide, not of its tiles" in refused(slides / "a.h5", tmp_path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = COORDS
    assert "not a file of features of a supported tool; it has: numbers" in refused(
        tmp_path / "other.h5", tmp_path
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"tile_px": -4}, "tile_px"),
        ({"tile_px": "224"}, "tile_px"),
        ({"mpp_level0": float("inf")}, "mpp_level0"),
        ({"encoder": "a\nb"}, "encoder"),
        ({"slide": "../x"}, "slide"),
        ("not JSON", "Invalid JSON"),
        ("x" * 200_000, "far too long"),
    ],
)
def test_a_header_that_is_not_ours(files, tmp_path, change, line):
    good = {"encoder": "uni_v1", "tile_px": 256}
    set_attribute(
        files["trident"],
        "/",
        "mil_header",
        change if isinstance(change, str) else json.dumps({**good, **change}),
    )
    output = refused(files["trident"], tmp_path)
    assert "the attribute mil_header was not written by mil" in output
    assert line in output


def test_our_header_is_not_believed_over_the_file(files, tmp_path):
    header = {
        "encoder": "other",
        "weights_sha256": "f" * 64,
        "tile_px": 512,
        "side_level0_px": 700.0,
        "mpp_level0": 0.3,
        "width_level0_px": 9,
    }
    set_attribute(files["trident"], "/", "mil_header", json.dumps(header))
    assert bags("import", files["trident"], "--out", tmp_path / "bags")[0] == 0
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.tile_px, bag.side_level0_px, bag.width_level0_px) == (256, 512.0, 50_000)
    assert (bag.encoder, bag.weights_sha256) == ("uni", "")
    assert bag.mpp_level0 == 0.3  # which only the header says


def test_an_encoder_that_cannot_name_a_folder(files, tmp_path):
    set_attribute(files["trident"], "features", "encoder", "../uni")
    code, output = bags("import", files["trident"], "--out", tmp_path / "bags")
    assert code == 1
    assert (
        "encoder '../uni' cannot be a folder's name; give another one with --encoder NAME" in output
    )


def test_the_good_ones_are_written_and_the_bad_one_named(tmp_path):
    for slide in ("a", "b", "c"):
        write_trident(tmp_path / "job", slide)
    broken = tmp_path / "job/20x_256px_0px_overlap/features_uni_v1/b.h5"
    broken.write_bytes(broken.read_bytes()[:-2000])
    code, output = bags("import", tmp_path / "job", "--out", tmp_path / "bags")
    assert code == 1
    assert f"import: 2 of 3 bags from trident into {tmp_path / 'bags'}" in output
    assert f"{broken}: not an HDF5 file, cut short or damaged" in output
    assert sorted(file.name for file in (tmp_path / "bags").iterdir()) == ["a.h5", "c.h5"]
