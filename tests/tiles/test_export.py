"""Tiles as PNG files: which, how they are called, pixel for pixel; files that must not be lost."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mil.encoders.resample import fast_resample
from mil.errors import DatasetError, FormatError
from mil.io.slides import SlideReader
from mil.io.tables import read_csv
from mil.tiles.choose import Choice
from mil.tiles.export import run
from mil.tiles.study_files import SlideFiles
from tests.made_scores import COORDS, SIDE, head_scores, score_file, scored_slide
from tests.messages import one_line
from tests.synthetic import bag_file, spoil_tile


@pytest.fixture
def files(tmp_path) -> SlideFiles:
    scored_slide(tmp_path)
    score_file(tmp_path, head_scores())
    return SlideFiles(
        tmp_path / "s1.tif",
        tmp_path / "tiles/s1.h5",
        tmp_path / "bags/s1.h5",
        tmp_path / "s1.scores.h5",
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_both_ends_of_a_map_are_written_pixel_for_pixel(files, tmp_path):
    out = tmp_path / "out"
    exported = run(files, Choice(top=2, bottom=1, by="effect"), out)
    assert (exported.written, exported.unreadable) == (3, 0)
    assert names(out) == [
        "s1_bottom001_x640_y384_effect-1.png",
        "s1_top001_x0_y0_effect+1.png",
        "s1_top002_x128_y0_effect+0.913.png",
        "tiles.csv",
    ]
    rows = read_csv(out / "tiles.csv")
    assert [(row["chosen"], row["rank"], row["x"], row["y"]) for row in rows] == [
        ("top", "1", "0", "0"),
        ("top", "2", "128", "0"),
        ("bottom", "1", "640", "384"),
    ]
    last = rows[2]
    assert (last["effect"], last["alone"], last["attention"]) == ("-1", "-2", "0.08")
    assert (last["column"], last["unit"], last["mpp"]) == ("p_tumour", "log-odds", "0.5")
    with SlideReader(files.slide, resampler=fast_resample) as reader:
        for row in rows:
            pixels = np.asarray(Image.open(out / row["file"]))
            tile = reader.read(float(row["x"]), float(row["y"]), float(SIDE), 64)
            np.testing.assert_array_equal(pixels, tile)


@pytest.mark.slow
def test_a_class_ranks_by_its_own_evidence(files, tmp_path):
    run(files, Choice(top=1, by="effect", column="normal"), tmp_path / "out")
    assert names(tmp_path / "out") == ["s1_top001_x640_y384_effect+1.png", "tiles.csv"]
    with one_line(DatasetError, match="no prediction named 'stroma'"):
        run(files, Choice(top=1, by="effect", column="stroma"), tmp_path / "other")


@pytest.mark.slow
def test_without_scores_a_sample_or_all(files, tmp_path):
    unscored = files._replace(score=None, bag=None)
    run(unscored, Choice(random=3, seed=5), tmp_path / "random")
    again = run(unscored, Choice(random=3, seed=5), tmp_path / "again")
    assert names(tmp_path / "random") == names(tmp_path / "again")
    assert again.written == 3
    assert run(unscored, Choice(all=True), tmp_path / "all").written == len(COORDS)
    assert "s1_x640_y384.png" in names(tmp_path / "all")
    with one_line(DatasetError, match="need scores, which this slide has not"):
        run(unscored, Choice(top=1), tmp_path / "top")
    with one_line(DatasetError, match="nothing says where the tiles are"):
        run(SlideFiles(files.slide), Choice(all=True), tmp_path / "none")


def test_an_earlier_export_stays_unless_it_is_replaced(files, tmp_path):
    out = tmp_path / "out"
    run(files, Choice(top=2), out)
    (out / "mine.png").touch()
    before = names(out)
    with one_line(DatasetError, match="holds the tiles of an earlier export"):
        run(files, Choice(top=1), out)
    assert names(out) == before
    # The table may have been edited: nothing outside the folder goes.
    (tmp_path / "precious.png").touch()
    with (out / "tiles.csv").open("a") as index:
        index.write("../precious.png,s1\n")
    run(files, Choice(random=1, seed=1), out, replace=True)
    assert len(names(out)) == 3
    assert "mine.png" in names(out)
    assert (tmp_path / "precious.png").exists()


def test_a_file_of_somebody_else_is_not_replaced(files, tmp_path):
    (tmp_path / "s1_x0_y0.png").write_text("mine")
    with one_line(DatasetError, match="already holds s1_x0_y0.png; add --replace"):
        run(files, Choice(all=True), tmp_path)
    assert (tmp_path / "s1_x0_y0.png").read_text() == "mine"


@pytest.mark.slow
def test_a_number_that_is_surely_a_slip_is_asked_about(files, tmp_path, monkeypatch):
    monkeypatch.setattr("mil.tiles.export.MANY", 23)
    with one_line(DatasetError, match="24 files are asked for; if that is meant, add --many"):
        run(files, Choice(all=True), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(files, Choice(all=True), tmp_path / "out", many=True).written == 24


@pytest.mark.slow
def test_a_tile_that_cannot_be_decoded_is_named_in_the_table(files, tmp_path):
    spoil_tile(files.slide, 5)
    exported = run(files, Choice(top=3), tmp_path / "out")
    assert (exported.written, exported.unreadable) == (1, 2)
    assert [bool(row["file"]) for row in read_csv(tmp_path / "out/tiles.csv")] == [
        False,
        False,
        True,
    ]


@pytest.mark.slow
def test_scores_without_evidence_rank_by_attention_alone(files, tmp_path):
    score_file(tmp_path, head_scores(evidence=False))
    with one_line(FormatError, match="holds no evidence of tiles; run `mil score` again"):
        run(files, Choice(top=1, by="effect"), tmp_path / "out")
    run(files, Choice(top=1), tmp_path / "out")
    row = read_csv(tmp_path / "out/tiles.csv")[0]
    assert (row["attention"], row["effect"], row["column"]) == ("0.08", "", "")


def test_a_slide_without_tiles_is_named(files, tmp_path):
    bag_file(files.bag, "s1", np.zeros((0, 2)), np.zeros((0, 2)), state="no_tissue")
    score_file(tmp_path, None)
    with one_line(FormatError, match="^slide s1: no_tissue, no tiles to export"):
        run(files, Choice(top=1), tmp_path / "out")


@pytest.mark.parametrize(
    "options", [{"top": 1, "random": 2}, {"bottom": 1, "all": True}, {"random": 1, "all": True}]
)
def test_ways_to_choose_exclude_one_another(options):
    usual = {"top": None, "bottom": None, "random": None, "all": False}
    with one_line(DatasetError, match="exclude one another"):
        Choice.checked(**{**usual, **options}, by="attention", column="", seed=1)
    assert Choice.checked(**usual, by="attention", column="", seed=1).top == 50
