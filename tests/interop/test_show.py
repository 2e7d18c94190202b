"""`mil bags ls` and `mil bags info`; and exports that stop half-way."""

import h5py
import numpy as np

from mil.io.bags import Bag, write_bag
from tests.interop.layouts import (
    bags,
    features,
    put,
    replaced,
    write_acmil,
    write_clam,
    write_stamp,
)
from tests.synthetic import bag_file


def test_ls(tmp_path):
    bag_file(tmp_path / "a.h5", "a", features(4))
    bag_file(tmp_path / "empty.h5", "empty", np.zeros((0, 8)), state="no_tissue", reason="none")
    write_bag(
        tmp_path / "x.h5",
        Bag(
            slide="x",
            encoder="uni",
            features=features(3, 9),
            coords=None,
            valid=np.ones(3, bool),
            source="clam",
        ),
    )
    (tmp_path / "y.h5").write_bytes(b"not HDF5")
    code, output = bags("ls", tmp_path)
    assert code == 0
    rows = [line.split(maxsplit=6) for line in output.splitlines()]
    assert rows[0] == ["slide", "tiles", "dim", "encoder", "tiling", "state", "MB"]
    assert rows[1] == ["a", "4", "8", "tiny", "224px_0.5mpp", "ok", "0.0"]
    assert rows[2] == ["empty", "0", "8", "tiny", "224px_0.5mpp", "no_tissue", "0.0"]
    assert rows[3] == ["x", "3", "9", "uni", "unknownpx_unknownmpp", "ok", "0.0"]
    assert rows[4][:3] == ["y", "unusable:", "not"]
    assert output.splitlines()[-1] == "4 bags, 0.0 MB"


def test_ls_reads_no_features(tmp_path, monkeypatch):
    bag_file(tmp_path / "a.h5", "a", features(4))
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: 1 / 0)
    code, output = bags("ls", tmp_path)
    assert (code, output.splitlines()[1].split()[1]) == (0, "4")


def test_ls_names_a_bag_whose_features_are_no_table(tmp_path):
    for name in ("a", "b"):
        bag_file(tmp_path / f"{name}.h5", name, features(4))
    replaced(tmp_path / "a.h5", "features", lambda file, name: file.create_group(name))
    replaced(tmp_path / "b.h5", "features", put(1.5))
    code, output = bags("ls", tmp_path)
    assert code == 0
    assert output.count("unusable: ") == 2


def test_ls_of_nothing(tmp_path):
    assert bags("ls", tmp_path) == (1, f"{tmp_path}: no bags (.h5 files) in this folder")


def test_info_of_a_bag(tmp_path):
    bag_file(tmp_path / "a.h5", "a", features(4), valid=np.array([True, False, True, True]))
    code, output = bags("info", tmp_path / "a.h5")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in output.splitlines()[1:]}
    assert code == 0
    assert lines["features"] == "4 tiles of 8 numbers in float16"
    assert lines["valid"] == "3 tiles"
    assert lines["coords"] == "x 0 to 1344, y 0 to 0"
    assert (lines["encoder"], lines["mpp_level0"], lines["tiling"]) == (
        "tiny",
        "0.25",
        "224px_0.5mpp",
    )
    assert (lines["reason"], lines["origin_x_level0_px"]) == ("not known", "0")


def test_line_breaks_of_a_strangers_file_make_no_lines(tmp_path):
    encoder = {"encoder": "t\ny", "encoder_revision": "v1\nfeatures  9"}
    bag_file(tmp_path / "a.h5", "a", features(4), encoder=encoder)
    _, output = bags("info", tmp_path / "a.h5")
    assert f"  {'encoder_revision':<22} v1 features 9" in output.splitlines()
    _, output = bags("ls", tmp_path)
    assert len(output.splitlines()) == 3
    assert "t y" in output


def test_info_says_what_is_not_known(tmp_path):
    bag = Bag(
        slide="x",
        encoder="uni",
        features=features(3),
        coords=None,
        valid=np.ones(3, bool),
        source="clam",
    )
    write_bag(tmp_path / "x.h5", bag)
    output = bags("info", tmp_path / "x.h5")[1]
    for name in (
        "coords",
        "tile_px",
        "target_mpp",
        "side_level0_px",
        "mpp_level0",
        "weights_sha256",
    ):
        assert any(line.split() == [name, "not", "known"] for line in output.splitlines()), name


def test_info_of_other_tools_files(tmp_path):
    code, output = bags("info", write_stamp(tmp_path))
    assert code == 0
    assert output.startswith("features by stamp, not a bag; `mil bags import` makes one\n")
    assert "side_um                256.0" in output
    assert "encoder                mahmood-uni" in output
    path = write_acmil(tmp_path / "patch_feats_pretrain_ssl.h5", {"a": 0, "b": 1})
    assert "holds 2 slides" in bags("info", path)[1]
    (tmp_path / "text.h5").write_text("no")
    assert "not an HDF5 file" in bags("info", tmp_path / "text.h5")[1]


def test_an_export_that_stops_says_where(tmp_path):
    for slide in ("a", "b", "c"):
        bag_file(tmp_path / f"bags/{slide}.h5", slide, features(4))
    replaced(tmp_path / "bags/b.h5", "valid", put(np.ones(3, bool)))
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    code, output = bags("export", tmp_path / "bags", "--to", "trident", "--out", out, "--force")
    assert code == 1
    assert output.startswith(f"stopped at slide b, 1 of 3 are written: {tmp_path / 'bags/b.h5'}: ")
    files = sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file())
    assert files == [
        "20x_224px_0px_overlap/features_tiny/a.h5",
        "20x_224px_0px_overlap/patches/a_patches.h5",
        "notes.txt",
    ]


def test_acmils_one_file_is_whole_or_not_there(tmp_path):
    for slide in ("a", "b"):
        bag_file(tmp_path / f"bags/{slide}.h5", slide, features(4))
    (tmp_path / "set.csv").write_text("slide,label\na,x\nb,y\n")
    (tmp_path / "set.yaml").write_text("classes: [x, y]\n")
    replaced(tmp_path / "bags/b.h5", "valid", put(np.ones(3, bool)))
    to = ("--to", "acmil", "--out", tmp_path / "out")
    code, output = bags("export", tmp_path / "bags", *to, "--dataset", tmp_path / "set.yaml")
    assert (code, "stopped at slide b" in output) == (1, True)
    assert list((tmp_path / "out").iterdir()) == []
    code, output = bags("export", tmp_path / "bags", *to)
    assert (code, output) == (
        1,
        "ACMIL keeps the label beside the features; name the dataset with the labels: "
        "--dataset NAME",
    )


def test_bags_of_two_encoders_are_not_exported(tmp_path):
    bag_file(tmp_path / "bags/a.h5", "a", features(4))
    bag_file(tmp_path / "bags/b.h5", "b", features(4), encoder={"encoder": "other"})
    code, output = bags("export", tmp_path / "bags", "--to", "clam", "--out", tmp_path / "out")
    assert (code, "encoder other in b, but tiny in a" in output) == (1, True)


def test_stamp_wants_one_label_a_patient(tmp_path):
    for slide in ("a", "b"):
        bag_file(tmp_path / f"bags/{slide}.h5", slide, features(4))
    (tmp_path / "set.csv").write_text("slide,patient,label\na,p,x\nb,p,y\n")
    (tmp_path / "set.yaml").write_text("classes: [x, y]\n")
    to = ("--to", "stamp", "--out", tmp_path / "out", "--dataset", tmp_path / "set.yaml")
    code, output = bags("export", tmp_path / "bags", *to)
    assert (
        code,
        "patient p has slides labelled x and y; STAMP's table has one label a patient" in output,
    ) == (1, True)
    assert not (tmp_path / "out").exists()


def test_folds_that_cannot_be(tmp_path):
    bag_file(tmp_path / "bags/a.h5", "a", features(4))
    (tmp_path / "set.csv").write_text("slide,label\na,x\n")
    (tmp_path / "set.yaml").write_text("classes: [x]\n")
    to = ("--to", "clam", "--out", tmp_path / "out", "--folds", tmp_path / "folds.csv")
    (tmp_path / "folds.csv").write_text("fold,slide,split\n0,a,middle\n")
    assert "folds need the dataset" in bags("export", tmp_path / "bags", *to)[1]
    to = (*to, "--dataset", tmp_path / "set.yaml")
    assert "line 2: not of a folds file" in bags("export", tmp_path / "bags", *to)[1]
    (tmp_path / "folds.csv").write_text("fold,slide,split\n0,z,test\n")
    assert "divides none of the slides" in bags("export", tmp_path / "bags", *to)[1]


def test_two_imports_at_the_same_place_are_the_same(tmp_path):
    write_clam(tmp_path / "results")
    for name in ("one", "two"):
        assert (
            bags("import", tmp_path / "results", "--out", tmp_path / name, "--encoder", "r")[0] == 0
        )
    assert (tmp_path / "one/a.h5").read_bytes() == (tmp_path / "two/a.h5").read_bytes()
