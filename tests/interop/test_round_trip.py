"""Bags to another tool's files and back: same features, coordinates, order, scale and labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mil.config import EncoderConfig, TileConfig
from mil.encoders.build import build_encoder
from mil.interop.detect import TOOLS
from mil.io.bags import BagHeader, bag_of, read_bag, write_bag
from mil.io.bags.folder import kind_of_bags
from mil.io.slides import SlideReader, as_array
from mil.io.tables import read_csv, read_dataset, write_csv
from mil.io.tiles import read_tiles
from mil.tile import stage as tile_stage
from mil.tile.grid import footprint_px, grid
from tests.interop.layouts import bags, features
from tests.synthetic import bag_file, tissue_slide

TINY = EncoderConfig(
    timm="test_resnet", dim=96, tile_px=64, mpp=0.5, weights="random", licence="ours"
)
# What comes back is of another source, and its tiles are not known to be all that once
# were.
NOT_KEPT = {"source", "tile_digest", "reason"}
SLIDES = {
    "007": ("p1", "normal"),
    "a": ("p1", "normal"),
    "b": ("p2", "tumour"),
    "c": ("p3", "tumour"),
}
SPLIT = {"007": "train", "a": "train", "b": "val", "c": "test"}


def headers(bag):
    return {
        name: getattr(bag, name) for name in BagHeader.__dataclass_fields__ if name not in NOT_KEPT
    }


def lattice(mpp, tiles, origin=(0, 0)):
    """Corners far from the slide's corner, where float32 micrometres are coarsest."""
    side = footprint_px(224, 0.5, mpp)
    return grid((250_000, 220_000), side, origin)[-tiles:]


def embed(slide, tiles_file, out):
    """The slide's bag by an encoder with random weights."""
    torch.manual_seed(5)
    encoder = build_encoder("tiny", TINY, tile_px=64, device=torch.device("cpu"), precision="fp32")
    tiles = read_tiles(tiles_file)
    with SlideReader(slide) as reader:
        read = [
            as_array(reader.read(float(x), float(y), tiles.geometry.side_level0_px, 64))
            for x, y in tiles.coords
        ]
    features = encoder(torch.from_numpy(np.stack(read))).numpy().astype(np.float16)
    valid = np.ones(len(features), bool)
    write_bag(out, bag_of(tiles, features, valid, state="ok", reason="", encoder=encoder.identity))


def there_and_back(folder, tool, *options, to=()):
    code, output = bags("export", folder / "bags", "--to", tool, "--out", folder / "other", *to)
    assert code == 0, output
    code, back = bags(
        "import", folder / "other", "--out", folder / "back", "--encoder", "tiny", *options
    )
    assert code == 0, back
    return output, back


def write_dataset(folder):
    lines = [f"{slide},{patient},{label}" for slide, (patient, label) in SLIDES.items()]
    (folder / "set.csv").write_text("slide,patient,label\n" + "\n".join(lines) + "\n")
    (folder / "set.yaml").write_text("classes: [normal, tumour]\n")
    rows = [
        {
            "fold": fold,
            "slide": slide,
            "patient": SLIDES[slide][0],
            "label": SLIDES[slide][1],
            "split": split,
        }
        for fold in (0, 1)
        for slide, split in (SPLIT if fold == 0 else {**SPLIT, "b": "test", "c": "val"}).items()
    ]
    write_csv(folder / "folds2.csv", rows)
    return folder / "set.yaml"


@pytest.mark.parametrize("mpp", [0.25, 0.2472, 0.4990])
@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_is_lost(tmp_path, tool, mpp):
    for seed, slide in enumerate(SLIDES):
        scanned = {"origin_x_level0_px": 37, "origin_y_level0_px": 11} if slide == "b" else {}
        bag_file(
            tmp_path / f"bags/{slide}.h5",
            slide,
            features(9, seed=seed),
            lattice(mpp, 9, (37, 11)),
            mpp=mpp,
            width_level0_px=250_000,
            height_level0_px=220_000,
            encoder={"transform": "224 px, (0.5, 0.5)"},
            **scanned,
        )
    to = ("--dataset", write_dataset(tmp_path)) if tool == "acmil" else ()
    output, back = there_and_back(tmp_path, tool, to=to)
    assert output == f"export: 4 bags to {tool} in {tmp_path / 'other'}, 36 tiles\n"
    assert back == (
        f"import: 4 of 4 bags from {tool} into {tmp_path / 'back'}, 36 tiles of 8 features in "
        "float16, encoder tiny\n"
    )
    for slide in SLIDES:
        first = read_bag(tmp_path / f"bags/{slide}.h5")
        second = read_bag(tmp_path / f"back/{slide}.h5")
        np.testing.assert_array_equal(first.features, second.features)
        np.testing.assert_array_equal(first.coords, second.coords)
        assert (first.features.dtype, first.coords.dtype) == (
            second.features.dtype,
            second.coords.dtype,
        )
        assert headers(first) == headers(second)
        assert second.source == tool
        assert second.valid.all()


def test_bags_of_joined_encoders_come_back_under_their_name(tmp_path):
    encoder = {"encoder": "uni@0.5+uni@1"}
    bag_file(tmp_path / "bags/a.h5", "a", features(9), encoder=encoder)
    bags("export", tmp_path / "bags", "--to", "clam", "--out", tmp_path / "other")
    code, output = bags("import", tmp_path / "other", "--out", tmp_path / "back")
    assert code == 0, output
    assert kind_of_bags(tmp_path / "back/a.h5").encoder == "uni@0.5+uni@1"


@pytest.mark.parametrize("tool", TOOLS)
def test_a_slide_that_was_really_embedded(tmp_path, tool):
    tissue_slide(tmp_path / "a.tif", (2048, 1536), 0.2472)
    tile_stage.run(
        tmp_path / "a.tif",
        "a",
        tmp_path / "a.h5",
        tile_px=64,
        target_mpp=0.5,
        mpp=None,
        config=TileConfig(min_tissue=0.6),
    )
    embed(tmp_path / "a.tif", tmp_path / "a.h5", tmp_path / "bags/a.h5")
    to = ("--dataset", write_dataset(tmp_path)) if tool == "acmil" else ()
    there_and_back(tmp_path, tool, to=to)
    first = read_bag(tmp_path / "bags/a.h5")
    second = read_bag(tmp_path / "back/a.h5")
    assert len(first.features) > 30
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.coords, second.coords)
    assert headers(first) == headers(second)


@pytest.mark.parametrize("tool", TOOLS)
def test_labels_patients_and_splits_come_back(tmp_path, tool):
    for seed, slide in enumerate(SLIDES):
        bag_file(tmp_path / f"bags/{slide}.h5", slide, features(3, seed=seed))
    yaml = write_dataset(tmp_path)
    other = tmp_path / "other"
    sets = tmp_path / "sets"
    tables = {
        "clam": {
            "--labels": other / "dataset_csv/set.csv",
            "--split": other / "splits/set_100/splits_0.csv",
        },
        "trident": {
            "--labels": other / "set.csv",
            "--split": other / "splits/k=all.tsv",
            "--fold": 0,
        },
        "stamp": {
            "--labels": other / "clini.csv",
            "--slide-table": other / "slides.csv",
            "--split": other / "splits.json",
            "--fold": 0,
        },
        "acmil": {"--split": other / "splits/set/split_1.json"},
    }
    options = [part for option in tables[tool].items() for part in option]
    output, back = there_and_back(
        tmp_path,
        tool,
        "--dataset",
        "back",
        "--datasets",
        sets,
        *options,
        to=("--dataset", yaml, "--folds", tmp_path / "folds2.csv"),
    )
    assert "12 tiles, 2 folds" in output
    config, rows = read_dataset(str(sets / "back.yaml"))
    assert config.classes == ["normal", "tumour"]
    assert {row.slide: row.label for row in rows} == {
        slide: label for slide, (_, label) in SLIDES.items()
    }
    if tool != "acmil":  # whose files do not know patients; its table does, and could be given
        assert {row.slide: row.patient for row in rows} == {
            slide: patient for slide, (patient, _) in SLIDES.items()
        }
    # STAMP draws its own validation from what it trains on.
    splits = {
        slide: "train" if split == "val" and tool == "stamp" else split
        for slide, split in SPLIT.items()
    }
    assert {row.slide: row.split for row in rows} == splits
    assert f"now: snakemake --cores all --config dataset={sets / 'back.yaml'}\n" in back


def test_what_is_not_ok_or_not_valid_is_left_out_and_counted(tmp_path):
    keep = np.array([True, False, True])
    bag_file(tmp_path / "bags/a.h5", "a", features(3), valid=keep)
    bag_file(tmp_path / "bags/b.h5", "b", np.zeros((0, 8)), state="no_tissue", reason="none")
    bag_file(tmp_path / "bags/x.h5", "x", features(3))
    yaml = write_dataset(tmp_path)
    output, _ = there_and_back(tmp_path, "trident", to=("--dataset", yaml))
    assert output.splitlines() == [
        f"export: 1 bags to trident in {tmp_path / 'other'}, 2 tiles",
        "left out: 1 slides whose state is not ok: b",
        "left out: 1 slides that are not in the dataset: x",
        "left out: 1 tiles that could not be read",
    ]
    bag = read_bag(tmp_path / "back/a.h5")
    np.testing.assert_array_equal(bag.features, features(3)[keep])
    np.testing.assert_array_equal(bag.coords, [[0, 0], [896, 0]])
    assert [(row["wsi"], row["mpp"]) for row in read_csv(tmp_path / "other/set.csv")] == [
        ("a", "0.25")
    ]


def test_float32_bags_stay_float32(tmp_path):
    precise = features(3) + np.float32(1e-6)
    bag_file(tmp_path / "bags/a.h5", "a", features(3))
    bag = read_bag(tmp_path / "bags/a.h5")
    write_bag(tmp_path / "bags/a.h5", replace(bag, features=precise))
    for tool in ("clam", "trident", "stamp"):
        assert bags("export", tmp_path / "bags", "--to", tool, "--out", tmp_path / tool)[0] == 0
        code, output = bags(
            "import", tmp_path / tool, "--out", tmp_path / f"from_{tool}", "--dtype", "float32"
        )
        assert code == 0, output
        np.testing.assert_array_equal(read_bag(tmp_path / f"from_{tool}/a.h5").features, precise)


def test_clams_export_without_coordinates_or_scale(tmp_path):
    bag_file(tmp_path / "a.h5", "a", features(3))
    known = read_bag(tmp_path / "a.h5")
    write_bag(tmp_path / "bags/a.h5", replace(known, coords=None, side_level0_px=None))
    assert bags("export", tmp_path / "bags", "--to", "clam", "--out", tmp_path / "clam")[0] == 0
    assert sorted(p.name for p in (tmp_path / "clam").rglob("*") if p.is_file()) == ["a.pt"]
    for tool, lacks in (("trident", "side_level0_px"), ("stamp", "side_level0_px")):
        code, output = bags("export", tmp_path / "bags", "--to", tool, "--out", tmp_path / tool)
        assert (code, f"{tool} needs {lacks}, which 1 of 1 bags lack (a)" in output) == (
            1,
            True,
        )
    write_bag(tmp_path / "bags/a.h5", replace(known, coords=None))
    code, output = bags("export", tmp_path / "bags", "--to", "stamp", "--out", tmp_path / "stamp")
    assert (code, output) == (
        1,
        "stopped at slide a, 0 of 1 are written: stamp needs coordinates, which this bag lacks",
    )
