"""Files in the exact layouts of the other tools are read with exact values."""

import h5py
import numpy as np
import pytest
import torch

from mil.io.bags import read_bag
from tests.interop.layouts import (
    COORDS,
    features,
    imported,
    write_acmil,
    write_clam,
    write_stamp,
    write_trident,
)


def test_clam(tmp_path):
    write_clam(tmp_path / "results")
    output = imported(tmp_path / "results", tmp_path / "bags", "--encoder", "resnet50")
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.features, features())
    assert bag.features.dtype == np.float16
    np.testing.assert_array_equal(bag.coords, COORDS)  # in the order of the file
    assert bag.valid.all()
    assert (bag.slide, bag.encoder, bag.source, bag.state) == ("a", "resnet50", "clam", "ok")
    assert (bag.side_level0_px, bag.tile_px, bag.mpp_level0, bag.target_mpp) == (
        1024.0,
        256,
        None,
        None,
    )
    assert "1 of 1 bags from clam" in output
    assert "not known for 1 of 1 bags: pixel size: no scale bar, no export to STAMP" in output
    with h5py.File(tmp_path / "bags/a.h5") as file:
        assert file.attrs["tile_order"] == "source"


def test_clam_says_the_size_of_its_pixels_when_told(tmp_path):
    write_clam(tmp_path / "results")
    imported(
        tmp_path / "results",
        tmp_path / "bags",
        "--encoder",
        "r",
        "--mpp",
        "0.25",
        "--target-mpp",
        "1",
        "--weights-sha256",
        "ab" * 32,
    )
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.mpp_level0, bag.tiling, bag.weights_sha256) == (0.25, "256px_1mpp", "ab" * 32)


def test_older_clam_has_a_downsample_of_its_own(tmp_path):
    write_clam(tmp_path / "results")
    with h5py.File(tmp_path / "results/patches/a.h5", "r+") as file:
        file["coords"].attrs["custom_downsample"] = 2
    imported(tmp_path / "results/features/h5_files", tmp_path / "bags", "--encoder", "resnet50")
    assert read_bag(tmp_path / "bags/a.h5").side_level0_px == 2048.0


def test_clam_without_patches_does_not_know_the_side(tmp_path):
    write_clam(tmp_path / "results")
    (tmp_path / "results/patches/a.h5").unlink()
    output = imported(tmp_path / "results", tmp_path / "bags", "--encoder", "resnet50")
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.side_level0_px, bag.tile_px, bag.tiling) == (None, None, "unknownpx_unknownmpp")
    assert "side of a tile: no heatmap; give --side-level0-px, or CLAM's --patches DIR" in output
    imported(
        tmp_path / "results",
        tmp_path / "bags",
        "--encoder",
        "x",
        "--side-level0-px",
        "512.5",
        "--tile-px",
        "224",
        "--force",
    )
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.side_level0_px, bag.tile_px) == (512.5, 224)


def test_clams_tensors_alone_are_bags_without_coordinates(tmp_path):
    write_clam(tmp_path / "results")
    output = imported(
        tmp_path / "results/features/pt_files", tmp_path / "bags", "--encoder", "resnet50"
    )
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.features, features())
    assert bag.coords is None
    assert (
        "coordinates: no heatmap, no neighbours in space for graph heads, no export but CLAM's"
        in output
    )


def test_trident(tmp_path):
    write_trident(tmp_path / "job")
    output = imported(tmp_path / "job", tmp_path / "bags", "--mpp", "0.2472")
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.features, features())
    np.testing.assert_array_equal(bag.coords, COORDS)
    assert (bag.encoder, bag.source) == ("uni", "trident")
    assert (bag.side_level0_px, bag.tile_px, bag.mpp_level0) == (512.0, 256, 0.2472)
    assert (bag.width_level0_px, bag.height_level0_px) == (50_000, 40_000)
    assert bag.target_mpp is None  # 20x is a name, not a measure
    assert "magnification" not in output


def test_tridents_nominal_magnification_is_not_believed(tmp_path):
    write_trident(tmp_path / "job", level0_width="None", patch_size_level0=550.5)
    imported(tmp_path / "job", tmp_path / "bags")
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.mpp_level0, bag.width_level0_px, bag.side_level0_px) == (None, None, 550.5)
    output = imported(tmp_path / "job", tmp_path / "bags", "--mpp", "0.2265", "--force")
    assert (
        "pixel size is more than 5 % from what the magnification would mean in 1 slides, most in "
        "a: 0.2265 µm, not 0.25" in output
    )


def test_tridents_slide_without_tiles(tmp_path):
    write_trident(tmp_path / "job")
    empty = write_trident(tmp_path / "job", "empty", COORDS[:0])
    with h5py.File(empty, "r+") as file:
        del file["features"]
        file.create_dataset("features", data=np.zeros(0, np.float32)).attrs["encoder"] = "uni_v1"
    output = imported(tmp_path / "job", tmp_path / "bags")
    bag = read_bag(tmp_path / "bags/empty.h5")
    assert (bag.state, bag.reason) == ("no_tissue", "no tiles in the file of trident")
    assert "slide empty has no tiles" in output


def test_tridents_pt_files_hold_an_array(tmp_path):
    folder = tmp_path / "job/features_uni_v1"
    folder.mkdir(parents=True)
    torch.save(features(), folder / "a.pt")
    imported(folder, tmp_path / "bags")
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.features, features())
    assert (bag.encoder, bag.coords) == ("uni", None)


@pytest.mark.parametrize("mpp", [0.25, 0.2472, 0.4990])
def test_stamp(tmp_path, mpp):
    write_stamp(tmp_path / "out", mpp=mpp)
    imported(tmp_path / "out", tmp_path / "bags", "--mpp", mpp)
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.features, features())
    np.testing.assert_array_equal(bag.coords, COORDS)
    np.testing.assert_array_equal(bag.coords_um, (COORDS * mpp).astype(np.float32))
    assert (bag.encoder, bag.tile_px, bag.source) == ("uni", 224, "stamp")
    assert bag.side_level0_px == pytest.approx(256 / mpp)
    assert bag.target_mpp == pytest.approx(256 / 224)


def test_stamp_without_a_pixel_size_keeps_its_micrometres(tmp_path):
    write_stamp(tmp_path / "out")
    output = imported(tmp_path / "out", tmp_path / "bags")
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.coords, bag.side_level0_px, bag.tile_px) == (None, None, 224)
    np.testing.assert_array_equal(bag.coords_um, (COORDS * 0.25).astype(np.float32))
    assert (
        "pixel size: no scale bar, no export to STAMP; give --mpp, --mpp-table or --slides-dir"
        in output
    )


def test_older_stamp_calls_the_side_tile_size(tmp_path):
    with h5py.File(write_stamp(tmp_path / "out"), "r+") as file:
        for name in ("tile_size_um", "tile_size_px", "feat_type"):
            del file.attrs[name]
        file.attrs["tile_size"] = 256
    imported(tmp_path / "out", tmp_path / "bags", "--mpp", "0.25", "--tile-px", "224")
    bag = read_bag(tmp_path / "bags/a.h5")
    assert (bag.side_level0_px, bag.tile_px) == (1024.0, 224)
    np.testing.assert_array_equal(bag.coords, COORDS)


def test_stamp_version_1_counts_in_pixels_of_224(tmp_path):
    places = np.array([[0, 0], [224, 0], [448, 224]])
    path = tmp_path / "out/a.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = places, features(3)
        file.attrs["extractor"] = "xiyuewang-ctranspath-7c998680"
    imported(tmp_path / "out", tmp_path / "bags", "--mpp", "0.5")
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.coords_um, places * 256 / 224)
    np.testing.assert_array_equal(bag.coords, [[0, 0], [512, 0], [1024, 512]])
    assert (bag.side_level0_px, bag.tile_px) == (512.0, 224)


def test_stamps_oldest_files_have_no_coordinates(tmp_path):
    (tmp_path / "out").mkdir()
    with h5py.File(tmp_path / "out/a.h5", "w") as file:
        file["patch_embeddings"] = features()
    imported(tmp_path / "out", tmp_path / "bags", "--encoder", "kimianet")
    bag = read_bag(tmp_path / "bags/a.h5")
    np.testing.assert_array_equal(bag.features, features())
    assert (bag.coords, bag.coords_um) == (None, None)


def test_a_newer_stamp_is_read(tmp_path):
    with h5py.File(write_stamp(tmp_path / "out"), "r+") as file:
        file.attrs["stamp_version"] = "99.0.0"
    imported(tmp_path / "out", tmp_path / "bags", "--mpp", "0.25")
    assert len(read_bag(tmp_path / "bags/a.h5").features) == 5


def test_acmil(tmp_path):
    path = write_acmil(
        tmp_path / "patch_feats_pretrain_medical_ssl.h5", {"normal_001": 0, "tumor_001": 1}
    )
    imported(path, tmp_path / "bags", "--mpp", "0.243")
    for seed, slide in enumerate(("normal_001", "tumor_001")):
        bag = read_bag(tmp_path / f"bags/{slide}.h5")
        np.testing.assert_array_equal(bag.features, features(seed=seed))
        np.testing.assert_array_equal(bag.coords, COORDS)
        assert (bag.slide, bag.encoder, bag.source, bag.mpp_level0) == (
            slide,
            "medical_ssl",
            "acmil",
            0.243,
        )
        assert (bag.side_level0_px, bag.tile_px) == (None, None)


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("uni_v1", "uni"),
        ("mahmood-uni", "uni"),
        ("mahmood-uni-1234abcd", "uni"),
        ("UNI2", "uni2_h"),
        ("H-optimus-0", "h_optimus_0"),
        ("uni_v3", "uni_v3"),
        ("resnet50_in", "resnet50_in"),
    ],
)
def test_an_encoders_name_in_other_tools_becomes_that_of_its_entry(tmp_path, name, here):
    write_clam(tmp_path / "clam")
    output = imported(tmp_path / "clam", tmp_path / "bags", "--encoder", name)
    assert read_bag(tmp_path / "bags/a.h5").encoder == here
    assert (f"encoder {name} is called {here} here" in output) == (name != here)
    # Eight features are not those of UNI: a name alone proves nothing.
    assert ("but these bags have 8" in output) == (name != here)
