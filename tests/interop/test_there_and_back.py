"""Another tool's files to bags and back: same features, coordinates, order and labels."""

import h5py
import numpy as np
import pytest
import torch

from tests.interop.layouts import (
    bags,
    features,
    imported,
    write_acmil,
    write_clam,
    write_stamp,
    write_trident,
)


def contents(path):
    """All datasets and attributes of a file, without the embedded header."""
    datasets = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                datasets.update({name: item[:]}) if isinstance(item, h5py.Dataset) else None
            )
        )
        return datasets, {name: value for name, value in file.attrs.items() if name != "mil_header"}


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        assert first[name].dtype == second[name].dtype, name


def test_from_clam_and_back(tmp_path):
    write_clam(tmp_path / "there")
    imported(tmp_path / "there", tmp_path / "bags", "--encoder", "resnet50")
    assert bags("export", tmp_path / "bags", "--to", "clam", "--out", tmp_path / "back")[0] == 0
    for file in ("features/h5_files/a.h5", "patches/a.h5"):
        (before, _), (after, attrs) = (
            contents(tmp_path / "there" / file),
            contents(tmp_path / "back" / file),
        )
        same(before, after)
        assert attrs == {}
    tensor = torch.load(tmp_path / "back/features/pt_files/a.pt", weights_only=True)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor, features())
    with h5py.File(tmp_path / "back/patches/a.h5") as file:
        attrs = file["coords"].attrs
        assert attrs["patch_size"] * attrs["downsample"][0] == 1024
        assert (attrs["patch_level"], attrs["name"]) == (0, "a")
    with h5py.File(tmp_path / "back/features/h5_files/a.h5") as file:
        assert (file["features"].chunks, file["coords"].dtype) == ((32, 8), np.int32)


def test_from_trident_and_back(tmp_path):
    write_trident(tmp_path / "there")
    imported(tmp_path / "there", tmp_path / "bags", "--mpp", "0.2472")
    code, output = bags("export", tmp_path / "bags", "--to", "trident", "--out", tmp_path / "back")
    assert (code, "give --magnification, such as 20" in output) == (1, True)
    code, output = bags(
        "export",
        tmp_path / "bags",
        "--to",
        "trident",
        "--out",
        tmp_path / "back",
        "--magnification",
        20,
    )
    assert code == 0, output
    # TRIDENT's name of the encoder becomes that of its entry here.
    there = tmp_path / "there/20x_256px_0px_overlap"
    (there / "features_uni_v1").rename(there / "features_uni")
    for file in ("features_uni/a.h5", "patches/a_patches.h5"):
        name = f"20x_256px_0px_overlap/{file}"
        same(contents(tmp_path / "there" / name)[0], contents(tmp_path / "back" / name)[0])
        with (
            h5py.File(tmp_path / "there" / name) as before,
            h5py.File(tmp_path / "back" / name) as after,
        ):
            for key in (
                "patch_size",
                "patch_size_level0",
                "target_magnification",
                "level0_width",
                "name",
            ):
                assert before["coords"].attrs[key] == after["coords"].attrs[key]
            assert after["coords"].attrs["level0_magnification"] == pytest.approx(10 / 0.2472)
            assert before["coords"].chunks == after["coords"].chunks == (1, 2)


@pytest.mark.parametrize("mpp", [0.25, 0.2472, 0.4990])
def test_from_stamp_and_back(tmp_path, mpp):
    # Tiles of STAMP lie at fractions of a pixel: supertiles begin on one, tiles inside
    # step by micrometres.
    there = write_stamp(tmp_path / "there", mpp=mpp)
    with h5py.File(there, "r+") as file:
        file["coords"][...] = np.array(
            [[0, 0], [256, 0], [512.123, 256], [3108 * mpp, 1], [3, 2]], np.float32
        )
    imported(tmp_path / "there", tmp_path / "bags", "--mpp", mpp)
    assert bags("export", tmp_path / "bags", "--to", "stamp", "--out", tmp_path / "back")[0] == 0
    before, attrs_before = contents(there)
    after, attrs_after = contents(tmp_path / "back/uni/a.h5")
    same(before, after)
    assert attrs_after["extractor"] == "uni"
    for name in ("unit", "tile_size_um", "tile_size_px", "feat_type"):
        assert attrs_after[name] == attrs_before[name], name
    assert attrs_after["stamp_version"] == "2.0.0"


def test_from_acmil_and_back(tmp_path):
    there = write_acmil(
        tmp_path / "there/patch_feats_pretrain_medical_ssl.h5", {"n1": 0, "n2": 2, "t1": 1, "t2": 1}
    )
    imported(there, tmp_path / "bags", "--dataset", "set", "--datasets", tmp_path / "sets")
    to = ("--to", "acmil", "--out", tmp_path / "back", "--dataset", tmp_path / "sets/set.yaml")
    code, output = bags("export", tmp_path / "bags", *to)
    assert code == 0, output
    back = tmp_path / f"back/{there.name}"
    same(contents(there)[0], contents(back)[0])
    with h5py.File(there) as before, h5py.File(back) as after:
        assert list(before) == list(after)
        assert {s: before[s].attrs["label"] for s in before} == {
            s: after[s].attrs["label"] for s in after
        }
