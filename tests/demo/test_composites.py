"""Composite slides: the draws of the published figures, disjoint tiles, a dataset that reads."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from mil.cli import app
from mil.demo import composite, composite_dataset
from mil.demo.composite import cell_corners, render
from mil.demo.composite_dataset import write_composites
from mil.demo.composite_plan import CELL_PX, plan_composites
from mil.demo.labelled_tiles import read_labelled_tiles, read_tile, tiles_with_tissue
from mil.errors import DatasetError
from mil.io.annotations import read_annotation
from mil.io.tables import read_dataset
from mil.io.tables.csv_files import read_csv
from tests.labelled_tiles import SIDE_PX, labelled_tiles
from tests.messages import one_line

TOOL = Path(__file__).parents[3] / "shared" / "tools" / "make_composites.py"
REAL = Path(__file__).parents[3] / "shared" / "data"
SIDE = 32
SMALL = {"slides": 6, "witness": 0.08, "seed": 3, "second": 2, "tile_mpp": 1.0}


@pytest.fixture(scope="module", autouse=True)
def small_cells():
    """Tiles of 32 px on the slides, not 224."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (composite, composite_dataset):
            patch.setattr(module, "CELL_PX", SIDE)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return labelled_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def dataset(folder, tmp_path_factory):
    """Six small composite slides and two of a second test set."""
    root = tmp_path_factory.mktemp("out")
    return write_composites(folder, root / "mosaic", datasets=root, **SMALL)


def plan_of(folder, **changes):
    tiles = read_labelled_tiles(folder)
    options = {"slides": 12, "witness": 0.08, "seed": 3, **changes}
    return tiles, plan_composites(tiles.labels, tiles_with_tissue(tiles), **options)


def published_slides(folder, slides, witness, seed):
    """Slides that docs/results reports on, drawn as their first script drew them."""
    rng = np.random.default_rng(seed)
    pools = {}
    tiles = read_labelled_tiles(folder)
    for label in (0, 1):
        files = [path for path, own in zip(tiles.paths, tiles.labels, strict=True) if own == label]
        files = [file for file in files if np.asarray(Image.open(file)).mean() < 235]
        rng.shuffle(files)
        a, b = int(len(files) * 0.5), int(len(files) * 0.65)
        pools[label] = {"train": files[:a], "val": files[a:b], "test": files[b:]}
    splits = ["train"] * (slides // 2) + ["val"] * (slides // 6)
    splits += ["test"] * (slides - len(splits))
    for i, split in enumerate(splits):
        nx, ny = rng.integers(9, 14, 2)
        yy, xx = np.mgrid[0:ny, 0:nx]
        from_middle = ((xx - nx / 2 + 0.5) / (nx / 2)) ** 2 + ((yy - ny / 2 + 0.5) / (ny / 2)) ** 2
        spots = np.argwhere(from_middle <= 1.05)
        tumour = set()
        if i % 2:
            k = max(1, round(witness * len(spots)))
            centre = spots[rng.integers(len(spots))]
            near = np.argsort(((spots - centre) ** 2).sum(1))[:k]
            tumour = {tuple(spots[j]) for j in near}
        gain, bias = rng.normal(1, 0.08, 3), rng.normal(0, 0.02, 3)
        cells = []
        for gy, gx in spots:
            pool = pools[int((gy, gx) in tumour)][split]
            file = pool[rng.integers(len(pool))]
            cells.append((gy, gx, file, rng.integers(4), rng.random() < 0.5))
        yield split, gain, bias, cells


def test_slides_are_those_of_the_published_figures(folder):
    tiles, plan = plan_of(folder, slides=30)
    expected = list(published_slides(folder, 30, 0.08, 3))
    for slide, (split, gain, bias, cells) in zip(plan, expected, strict=True):
        assert slide.split == split
        np.testing.assert_array_equal(slide.stain.gain, gain)
        np.testing.assert_array_equal(slide.stain.bias, bias)
        files = [tiles.paths[number] for number in slide.tiles]
        own = zip(*slide.layout.places.T, files, slide.turns, slide.flips, strict=True)
        assert list(own) == cells


def test_pixels_are_the_tiles_in_the_slides_stain(folder):
    tiles, plan = plan_of(folder)
    slide = plan[1]
    canvas = render(slide, lambda number: read_tile(tiles.paths[number], SIDE))
    assert canvas.shape == ((slide.layout.rows + 2) * SIDE, (slide.layout.columns + 2) * SIDE, 3)
    assert (canvas[:SIDE] == 243).all()
    for place in (0, 40):
        row, column = slide.layout.places[place] + 1
        image = read_tile(tiles.paths[slide.tiles[place]], SIDE)
        density = -np.log((np.asarray(image, np.float32) + 1) / 256)
        shifted = density * slide.stain.gain + slide.stain.bias
        tile = np.clip(256 * np.exp(-shifted) - 1, 0, 255).astype(np.uint8)
        tile = np.rot90(tile, slide.turns[place])
        if slide.flips[place]:
            tile = tile[:, ::-1]
        rows = slice(row * SIDE, (row + 1) * SIDE)
        columns = slice(column * SIDE, (column + 1) * SIDE)
        np.testing.assert_array_equal(canvas[rows, columns], tile)


@pytest.mark.slow
# The script leaves its table open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(not TOOL.is_file(), reason="the first script is not here")
def test_files_are_those_of_the_first_script(tmp_path, monkeypatch):
    for module in (composite, composite_dataset):
        monkeypatch.setattr(module, "CELL_PX", CELL_PX)
    spec = spec_from_file_location("make_composites", TOOL)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    script.lymph(REAL, tmp_path / "old", 6, 0.08, 1)
    tiles = REAL / "lymph_node_patches"
    options = {**SMALL, "seed": 1, "second": 0}
    write_composites(tiles, tmp_path / "new", datasets=tmp_path, **options)
    for number in range(6):
        with (
            tifffile.TiffFile(tmp_path / f"old/slides/lymph_{number:03d}.tif") as old,
            tifffile.TiffFile(tmp_path / f"new/slides/new_{number:03d}.tif") as new,
        ):
            for old_page, new_page in zip(old.pages, new.pages, strict=True):
                np.testing.assert_array_equal(old_page.asarray(), new_page.asarray())


def test_sets_share_no_tile(folder):
    tiles, plan = plan_of(folder, slides=24, second=8)
    used = {
        split: set(np.concatenate([slide.tiles for slide in plan if slide.split == split]))
        for split in ("train", "val", "test", "second")
    }
    assert sum(map(len, used.values())) == len(set.union(*used.values()))
    blank = len(tiles.paths) - 1
    assert blank not in set.union(*used.values())
    for slide in plan:
        np.testing.assert_array_equal(tiles.labels[slide.tiles], slide.layout.labels)


def test_a_second_test_set_changes_no_training_or_validation_slide(folder):
    _, without = plan_of(folder)
    _, with_second = plan_of(folder, second=4)
    assert [slide.split for slide in with_second[12:]] == ["second"] * 4
    for one, other in zip(without[:8], with_second[:8], strict=True):
        assert one.split == other.split != "test"
        np.testing.assert_array_equal(one.tiles, other.tiles)
        np.testing.assert_array_equal(one.stain.gain, other.stain.gain)


def test_tumour_is_one_spot_of_its_share(folder):
    _, plan = plan_of(folder, witness=0.2)
    for number, slide in enumerate(plan):
        labels = slide.layout.labels
        assert labels.sum() == (round(0.2 * len(labels)) if number % 2 else 0)
        if number % 2:
            places = slide.layout.places
            spread = np.ptp(places[labels == 1], axis=0)
            assert (spread < np.ptp(places, axis=0)).all()
    _, few = plan_of(folder, witness=0.0)
    assert [int(slide.layout.labels.sum()) for slide in few] == [0, 1] * 6


def test_the_dataset_reads(dataset):
    config, slides = read_dataset(str(dataset.yaml))
    assert config.positive_class == "tumour"
    assert [slide.split for slide in slides] == ["train"] * 3 + ["val"] + ["test"] * 4
    assert [slide.label for slide in slides] == ["normal", "tumour"] * 4
    assert [slide.subgroups["test_set"] for slide in slides[4:]] == ["first"] * 2 + ["second"] * 2
    # A tile of 24 px at 1 um per pixel is 32 px wide on the slide.
    assert dataset.mpp == "0.75000"
    assert slides[0].mpp == SIDE_PX / SIDE
    root = Path(config.slides_dir)
    assert all((root / slide.path).is_file() for slide in slides)
    assert "--config dataset=mosaic 'tile={mpp: 0.75000}'" in str(dataset)
    assert "3 train, 1 val, 2 test, 2 second test" in str(dataset)


def test_annotation_and_cells_are_the_tumour_tiles(dataset):
    root = dataset.yaml.parent / "mosaic"
    cells = [row for row in read_csv(root / "cells.csv") if row["slide"] == "mosaic_001"]
    tumour = [row for row in cells if row["label"] == "1"]
    assert 0 < len(tumour) < len(cells)
    region = read_annotation(root / "annotations/mosaic_001.geojson").everything()
    assert region.area == len(tumour) * SIDE**2
    x, y = int(tumour[0]["x"]), int(tumour[0]["y"])
    pixels = tifffile.imread(root / "slides/mosaic_001.tif")
    # Tumour tiles are the dark ones.
    assert pixels[y : y + SIDE, x : x + SIDE].mean() < 150
    empty = json.loads((root / "annotations/mosaic_000.geojson").read_text())
    assert empty["features"] == []


def test_corners_are_a_tile_apart_from_the_glass(folder):
    _, plan = plan_of(folder)
    corners = np.array(cell_corners(plan[0].layout))
    assert corners.min() == SIDE
    assert (corners % SIDE == 0).all()


def test_subfolders_are_labels_too(folder, tmp_path):
    with_table = read_labelled_tiles(folder)
    for name in ("normal", "tumour"):
        (tmp_path / name).symlink_to(folder / name)
    of_folders = read_labelled_tiles(tmp_path)
    assert of_folders.labels.sum() == with_table.labels.sum()
    assert sorted(path.name for path in of_folders.paths) == sorted(
        path.name for path in with_table.paths
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\na.png,2\n", "line 2: label '2'; write 0 for normal"),
        ("file,class\na.png,0\n", "needs rows with the columns label and one of file"),
        ("file,label\n", "has no rows"),
        ("path,label\na.png,0\nb.png,1\n", "no such images: .*a.png, .*b.png"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, table, message):
    (tmp_path / "labels.csv").write_text(table)
    with one_line(DatasetError, message):
        read_labelled_tiles(tmp_path)


def test_folders_that_cannot_be_used(tmp_path, folder):
    with one_line(DatasetError, "no such folder"):
        read_labelled_tiles(tmp_path / "nowhere")
    with one_line(DatasetError, "no images in subfolders normal and tumour"):
        read_labelled_tiles(tmp_path)
    (tmp_path / "tumour").symlink_to(folder / "tumour")
    with one_line(DatasetError, "no tile of the class 'normal' among 24"):
        read_labelled_tiles(tmp_path)
    few = labelled_tiles(tmp_path / "few", of_each=3)
    with one_line(DatasetError, r"few: 3 tiles of the class 'normal' .* too few for 3"):
        write_composites(few, tmp_path / "out", datasets=tmp_path, **{**SMALL, "second": 0})
    with one_line(DatasetError, "the folder's name becomes that of the dataset"):
        write_composites(folder, tmp_path / "a b", datasets=tmp_path, **SMALL)
    (tmp_path / "few/normal/000.png").write_text("no image")
    with one_line(DatasetError, "000.png: not an image"):
        tiles_with_tissue(read_labelled_tiles(tmp_path / "few"))


def test_from_the_command_line(folder, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "data/mosaic"
    arguments = ["demo", "composites", str(folder), str(out), "--slides", "6", "--seed", "3"]
    arguments += ["--second", "2", "--tile-mpp", "1"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "snakemake --cores all --config dataset=" in first.output
    table = (tmp_path / "configs/datasets/mosaic.csv").read_text()
    assert (out / "cells.csv").is_file()
    assert table == (dataset.yaml.parent / "mosaic.csv").read_text()
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, DatasetError)
    assert "--force" in str(again.exception)
