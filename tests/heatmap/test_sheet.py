"""The tile sheet: tiles at both ends of a map, pixel for pixel; what happens without a slide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mil.heatmap.part import HeatmapJob, draw_slide
from mil.heatmap.sheet import EDGE_PX, UNREADABLE, Sheet, draw_sheet, rows_of
from mil.io.bags import read_positions
from mil.io.part_jobs import run_jobs
from mil.io.scores import HeadScores, TileEvidence
from mil.io.scores import read as scores_file
from mil.io.slides import SlideReader
from mil.io.tiles import write_tiles
from mil.trained.tile_maps import tile_map
from tests.made_scores import COORDS, GEOMETRY, RECORD, SIDE, head_scores, score_file, scored_slide
from tests.synthetic import bag_file, spoil_tile, tissue_slide


@pytest.fixture
def place(tmp_path) -> Path:
    scored_slide(tmp_path)
    return tmp_path


def sheet(place: Path, scores: HeadScores, **changes) -> str:
    settings = {"tiles": place / "tiles/s1.h5", "slide": place / "s1.tif", "per_row": 3, **changes}
    bag = read_positions(place / "bags/s1.h5")
    return draw_sheet(bag, [RECORD], [scores], place / "out.jpg", title="s1", **settings)


@pytest.fixture
def shown(monkeypatch) -> list[tuple[int, int]]:
    """Column and upper edge of each tile that a sheet shows, as they come."""
    places = []
    show = Sheet.show

    def remember(drawn, column, pixels):
        places.append((column, drawn._y))
        show(drawn, column, pixels)

    monkeypatch.setattr(Sheet, "show", remember)
    return places


def tile_on(picture: np.ndarray, column: int, top: int) -> np.ndarray:
    left = EDGE_PX + column * (190 + 8)
    return picture[top : top + 64, left : left + 64]


def test_tiles_at_both_ends_stand_in_order_at_their_own_resolution(place, shown):
    assert sheet(place, head_scores()) == ""
    picture = np.asarray(Image.open(place / "out.jpg").convert("RGB"))
    # Of attention and of effect, the largest and the smallest.
    expected = [[23, 22, 21], [0, 1, 2], [0, 1, 2], [23, 22, 21]]
    numbers = [number for row in expected for number in row]
    assert len({top for _, top in shown}) == 4
    with SlideReader(place / "s1.tif") as reader:
        for (column, top), number in zip(shown, numbers, strict=True):
            x, y = COORDS[number].astype(float)
            tile = reader.read(x, y, float(SIDE), 64)
            # A JPEG: the grain differs a little, another tile would by far more.
            drawn = tile_on(picture, column, top).astype(int)
            assert np.abs(drawn - tile).mean() < 12


@pytest.mark.slow
def test_without_evidence_the_rows_are_those_of_attention(place, shown):
    sheet(place, head_scores(evidence=False))
    assert len(shown) == 6


@pytest.mark.slow
def test_a_small_slide_shows_each_tile_once(place, shown):
    bag = place / "bags/s1.h5"
    valid = np.arange(len(COORDS)) < 4
    tiles = bag_file(bag, "s1", np.ones((len(COORDS), 2)), COORDS, valid=valid, **GEOMETRY)
    write_tiles(place / "tiles/s1.h5", tiles)
    scores = replace(head_scores(evidence=False), attention=np.array([0.1, 0.2, 0.3, 0.4]))
    sheet(place, scores)
    assert [column for column, _ in shown] == [0, 1, 2, 0]


def headings(scores: HeadScores) -> list[str]:
    maps = {kind: tile_map(kind, [RECORD], [scores]) for kind in ("attention", "effect")}
    return [row.heading for row in rows_of(maps, 3)]


def test_headings_say_what_tiles_do():
    scores = head_scores()
    assert headings(scores) == [
        "highest attention: 3 of 24 tiles have 23.0% of it",
        "lowest attention: 3 of 24 tiles have 2.0% of it",
        "effect, log-odds: tiles that raise p(tumour) most",
        "effect, log-odds: tiles that lower p(tumour) most",
    ]
    # All tiles speak for the prediction.
    effect = np.stack([np.zeros(24), np.linspace(3, 1, 24)], axis=1)
    assert headings(replace(scores, evidence=TileEvidence(alone=effect, effect=effect)))[2:] == [
        "effect, log-odds: tiles that raise p(tumour) most",
        "effect, log-odds: tiles that raise p(tumour) least",
    ]


def test_a_tile_that_cannot_be_decoded_is_grey(place, shown):
    # The last of six blocks of 256 px holds tiles 16, 17, 22 and 23.
    spoil_tile(place / "s1.tif", 5)
    assert sheet(place, head_scores(evidence=False)) == ""
    picture = np.asarray(Image.open(place / "out.jpg").convert("RGB"))
    uppers = [tile_on(picture, column, top)[:14].astype(int) for column, top in shown]
    grey = [bool((np.abs(upper - UNREADABLE) < 12).all()) for upper in uppers]
    assert grey == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("size", "reason"), [((800, 512), "of another size than the slide"), (None, "no such file")]
)
def test_a_slide_that_is_not_the_bags_gives_the_reason(place, size, reason):
    if size:
        tissue_slide(place / "other.tif", size)
    note = sheet(place, head_scores(), slide=place / "other.tif")
    assert note.startswith(f"; no tile sheet: {place / 'other.tif'}: ")
    assert reason in note
    with Image.open(place / "out.jpg") as picture:
        assert picture.width > 500


def job(place: Path, **changes) -> HeatmapJob:
    settings = {"tiles": place / "tiles/s1.h5", "source": place / "s1.tif", "sheet": 3, **changes}
    return HeatmapJob(
        slide="s1",
        score=place / "s1.scores.h5",
        bag=place / "bags/s1.h5",
        out=place / "out/s1.png",
        scale="percentile",
        **settings,
    )


def line_of(one: HeatmapJob) -> str:
    (result,) = run_jobs("heatmap", [one], draw_slide)
    assert not result.failed
    return result.line


def test_a_slide_that_comes_back_gets_its_sheet_and_the_picture_stays(place):
    Image.new("RGB", (192, 128), (240, 240, 240)).save(place / "tiles/s1.jpg")
    (place / "tiles/s1.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    score_file(place, head_scores())
    title = "s1   p(tumour) = 0.700 (threshold 0.500)   abmil"
    gone = job(place, source=None)
    assert line_of(gone) == f"{title}; no tile sheet: the slide is not on this disk"
    assert not (place / "out/s1.tiles.jpg").exists()
    assert line_of(gone) == ""
    drawn = (place / "out/s1.png").stat().st_mtime_ns
    assert line_of(job(place)) == "s1: tile sheet"
    assert (place / "out/s1.tiles.jpg").exists()
    assert line_of(job(place)) == ""
    # Another number of tiles in a row changes the sheet alone.
    assert line_of(job(place, sheet=2)) == "s1: tile sheet"
    assert (place / "out/s1.png").stat().st_mtime_ns == drawn
    # Of other scores the sheet would show tiles that their heads did not look at.
    score_file(place, head_scores(evidence=False))
    assert line_of(gone) == (
        f"{title}; no map of effect: the scores hold none"
        "; tile sheet of earlier scores removed: the slide is not on this disk"
    )
    assert not (place / "out/s1.tiles.jpg").exists()


def test_scores_are_read_once_for_picture_and_sheet(place, monkeypatch):
    Image.new("RGB", (192, 128), (240, 240, 240)).save(place / "tiles/s1.jpg")
    (place / "tiles/s1.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    score_file(place, head_scores())
    read = []

    arrays_in = scores_file._arrays

    def note(file, path, left_out):
        read.append(path)
        return arrays_in(file, path, left_out)

    # Whoever reads scores calls it.
    monkeypatch.setattr(scores_file, "_arrays", note)
    one = job(place)
    draw_slide(one, one.outputs())
    assert (place / "out/s1.png").exists()
    assert (place / "out/s1.tiles.jpg").exists()
    assert read == [place / "s1.scores.h5"]


def test_a_slide_without_tiles_has_its_reason_on_the_sheet(place):
    tiles = bag_file(
        place / "bags/s1.h5", "s1", np.zeros((0, 2)), np.zeros((0, 2)), state="no_tissue"
    )
    write_tiles(place / "tiles/s1.h5", tiles)
    Image.new("RGB", (192, 128), (240, 240, 240)).save(place / "tiles/s1.jpg")
    score_file(place, None)
    assert line_of(job(place)) == "s1: no_tissue, nothing to draw"
    assert (place / "out/s1.tiles.jpg").exists()
    assert line_of(job(place)) == ""
