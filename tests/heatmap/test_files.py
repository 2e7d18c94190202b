"""Files beside a heatmap: what they hold, and that those of an earlier run do not stay."""

import gzip
import json
from dataclasses import replace
from uuid import UUID, uuid5

import numpy as np
import pytest
import shapely

from mil.errors import DatasetError, FormatError
from mil.heatmap import contours, grid
from mil.heatmap.attach import SCRIPT, write_script
from mil.heatmap.canvas import canvas_of, positions_of
from mil.heatmap.contours import contours_of
from mil.heatmap.files import check_names, files_of
from mil.heatmap.geojson import NAMESPACE
from mil.heatmap.grid import MOST_CELLS, cell_means, grid_of
from mil.heatmap.maps import maps_of
from mil.heatmap.ome import channels_of
from mil.heatmap.part import HeatmapJob
from mil.heatmap.scales import shading_of
from mil.io.tables import read_csv
from mil.tasks import Classification
from tests.heatmap.bundles import DrawnSlide, scores_of, trained
from tests.messages import one_line

COORDS = np.array([[0, 0], [448, 0], [896, 0], [0, 448], [448, 448]])
ATTENTION = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
EFFECT = np.array([-1.0, 0.5, 2.0, np.nan, 0.0])
# A wide one, whose pictures are small.
SLIDE = DrawnSlide(COORDS, 448.0, 0.25, extent=(4000, 900))


def endings(out) -> list[str]:
    return sorted(path.name.removeprefix("s1") for path in out.parent.iterdir())


def features(path) -> list:
    text = path.read_bytes()
    return json.loads(gzip.decompress(text) if path.suffix == ".gz" else text)["features"]


def test_evidence_has_a_picture_and_columns(tmp_path):
    scores = scores_of(ATTENTION, effect=EFFECT, alone=2 * EFFECT)
    out = SLIDE.draw(tmp_path, scores, kinds=["attention", "alone", "effect"])
    pictures = [".alone.png", ".csv", ".effect.png", ".geojson", ".ome.tiff", ".png"]
    assert endings(out) == pictures
    rows = read_csv(out.with_suffix(".csv"))
    # What is not known is no number.
    assert [row["effect"] for row in rows] == ["-1", "0.5", "2", "", "0"]
    assert [row["alone"] for row in rows] == ["-2", "1", "4", "", "0"]
    tiles = [one["properties"] for one in features(out.with_suffix(".geojson"))]
    measured = [one["measurements"] for one in tiles if one["objectType"] == "tile"]
    assert [one.get("effect") for one in measured] == [-1, 0.5, 2, None, 0]
    assert all(isinstance(v, int | float) for one in measured for v in one.values())


def test_rollout_has_a_picture_columns_and_a_channel(tmp_path):
    rollout = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    scores = scores_of(ATTENTION, rollout=rollout)
    out = SLIDE.draw(tmp_path, scores, kinds=["attention", "rollout"])
    assert endings(out) == [".csv", ".geojson", ".ome.tiff", ".png", ".rollout.png"]
    assert [row["rollout"] for row in read_csv(out.with_suffix(".csv"))] == [
        f"{share:g}" for share in rollout
    ]
    tiles = [one["properties"] for one in features(out.with_suffix(".geojson"))]
    measured = [one["measurements"] for one in tiles if one["objectType"] == "tile"]
    assert [one["rollout"] for one in measured] == rollout.tolist()
    maps = maps_of([trained()], [scores])
    channel = channels_of(maps)["rollout of attention, times uniform"]
    np.testing.assert_allclose(channel, 5 * rollout)
    # The colours say whose they are.
    assert shading_of(maps.kinds["rollout"], "percentile").label == (
        "percentile of rollout of attention within this slide"
    )


def test_kinds_that_the_scores_do_not_hold_are_left_out(tmp_path):
    record, scores = trained(), scores_of(ATTENTION)
    out = SLIDE.draw(tmp_path, scores, kinds=["effect"])
    assert endings(out) == [".csv", ".geojson", ".ome.tiff", ".png"]
    from mil.heatmap.bundle import draw_bundle

    note = draw_bundle(SLIDE.bag, [record], [scores], out, title="t", tiles=None)
    assert note == "; no map of effect: the scores hold none"
    kinds = ("effect", "rollout")
    note = draw_bundle(SLIDE.bag, [record], [scores], out, title="t", tiles=None, kinds=kinds)
    assert note == (
        "; no map of effect: the scores hold none"
        "; no map of rollout: abmil has no mixing layers, or older scores"
    )
    # Nobody asked for it.
    note = draw_bundle(SLIDE.bag, [record], [scores], out, title="t", tiles=None)
    assert note == "; no map of effect: the scores hold none"


def test_every_class_has_columns_and_none_is_a_formula(tmp_path):
    task = Classification(classes=["=A1", "b", "c"], positive="c")
    three = np.arange(15.0).reshape(5, 3) ** 1.3
    scores = scores_of(ATTENTION, effect=ATTENTION)
    evidence = replace(scores.evidence, alone=three, effect=three / 10)
    logits = np.array([0.1, 0.2, 0.3])
    scores = replace(scores, logits=logits, predictions=logits, evidence=evidence)
    out = SLIDE.draw(tmp_path, scores, trained(("b", "c"), task=task))
    header = out.with_suffix(".csv").read_text().splitlines()[0].split(",")
    assert header[5:] == [
        "alone",
        "effect",
        "alone_p_=A1",
        "alone_p_b",
        "effect_p_=A1",
        "effect_p_b",
    ]
    rows = read_csv(out.with_suffix(".csv"))
    log_odds = three[:, 1] - np.log(np.exp(three[:, 0]) + np.exp(three[:, 2]))
    np.testing.assert_allclose([float(row["alone_p_b"]) for row in rows], log_odds, rtol=1e-4)


def test_branches_on_request(tmp_path):
    branches = np.stack([ATTENTION, ATTENTION[::-1]], axis=1)
    scores = scores_of(ATTENTION, branch_attention=branches)
    out = SLIDE.draw(tmp_path, scores, branches=True)
    assert ".branches.png" in endings(out)
    rows = read_csv(out.with_suffix(".csv"))
    assert [float(row["branch_2"]) for row in rows] == ATTENTION[::-1].tolist()
    SLIDE.draw(tmp_path, scores)
    assert ".branches.png" not in endings(out)


def test_ids_are_those_of_slide_head_and_tile(tmp_path):
    out = SLIDE.draw(tmp_path, scores_of(ATTENTION))
    ids = [one["id"] for one in features(out.with_suffix(".geojson"))]
    assert len({*ids}) == len(ids)
    head = "s1/224px_0.5mpp/tiny/abmil"
    expected = [str(uuid5(NAMESPACE, f"{head}/{x},{y}")) for x, y in COORDS]
    assert ids[-5:] == expected
    assert ids[0] == str(uuid5(NAMESPACE, f"{head}/percentile 80"))
    assert {UUID(one).version for one in ids} == {5}
    SLIDE.draw(tmp_path, scores_of(ATTENTION), trained(recipe_name="aem"))
    others = [one["id"] for one in features(out.with_suffix(".geojson"))]
    assert not {*ids} & {*others}


def test_tiles_at_one_place_have_ids_of_their_own(tmp_path):
    slide = replace(SLIDE, coords=np.zeros((5, 2), int))
    out = slide.draw(tmp_path, scores_of(ATTENTION))
    assert len({one["id"] for one in features(out.with_suffix(".geojson"))[-5:]}) == 5


def test_a_large_layer_is_packed_and_the_other_is_removed(tmp_path, monkeypatch):
    scores = scores_of(ATTENTION)
    out = SLIDE.draw(tmp_path, scores)
    plain = out.with_suffix(".geojson").read_bytes()
    monkeypatch.setattr("mil.heatmap.geojson.PACKED_FROM", 5)
    SLIDE.draw(tmp_path, scores)
    assert endings(out) == [".csv", ".geojson.gz", ".ome.tiff", ".png"]
    packed = out.with_name("s1.geojson.gz")
    assert gzip.decompress(packed.read_bytes()) == plain


def test_a_bundle_that_lost_a_file_is_not_current(tmp_path):
    settings = {"slide": "s1", "score": tmp_path / "x", "bag": tmp_path / "y", "scale": "raw"}
    job = HeatmapJob(**settings, out=tmp_path / "out" / "s1.png")
    (one,) = job.outputs()
    SLIDE.draw(tmp_path, scores_of(ATTENTION, effect=EFFECT), made_from=one.digest)
    (one,) = job.outputs()
    assert one.current
    for lost in ("s1.ome.tiff", "s1.effect.png", "s1.geojson", "s1.csv"):
        file = tmp_path / "out" / lost
        file.rename(tmp_path / lost)
        assert not one.current
        (tmp_path / lost).rename(file)


def test_names_beside_a_picture_are_ours_alone(tmp_path):
    """A picture of a stranger may name any file."""
    out = SLIDE.draw(tmp_path, scores_of(ATTENTION))
    assert {path.name for path in files_of(out)} == {"s1.csv", "s1.geojson", "s1.ome.tiff"}
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("beside", "/../../etc/passwd .csv")
    Image.new("RGB", (2, 2)).save(out, pnginfo=texts)
    assert files_of(out) == (out.with_name("s1.csv"),)


@pytest.mark.parametrize("other", ["s1.effect", "s1.branches"])
def test_two_slides_with_one_picture_are_refused(other):
    # The tile sheet of s1 is a JPEG.
    check_names(["s1", "s1.x", "s1.tiles", "s1.tiles.jpg"])
    with one_line(DatasetError, match=f"slides s1 and {other}: both would have the heatmap"):
        check_names(["s1", other])


def test_contours_join_the_cells_of_a_row(monkeypatch):
    """The union of a large slide's squares, one by one, would take minutes."""
    columns, rows = 60, 50
    corners = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), 2).reshape(-1, 2) * 100
    boxes = []
    union = shapely.union_all
    count = lambda parts: boxes.append(len(parts)) or union(parts)  # noqa: E731
    monkeypatch.setattr(contours.shapely, "union_all", count)
    inside = (corners[:, 0] >= 1000) & ~((corners == [3000, 2000]).all(1))
    tiles = grid_of(corners, 100.0, (0, 0))
    found = contours_of(corners, 100.0, tiles, np.where(inside, 99.0, 0.0))
    assert [one.level for one in found] == [80, 90, 95]
    assert boxes == [rows + 1] * 3
    (polygon,) = found[0].region.geoms
    assert polygon.bounds == (1000, 0, 6000, 5000)
    assert [shapely.Polygon(hole).bounds for hole in polygon.interiors] == [
        (3000, 2000, 3100, 2100)
    ]
    assert contours_of(corners, 100.0, tiles, np.full(len(corners), 50.0)) == []


def test_memory_is_bounded(monkeypatch):
    far = grid_of(np.array([[0, 0], [2**31 - 500, 2**30]]), 3.0, (0, 0))
    assert far.size[0] * far.size[1] <= MOST_CELLS
    assert not far.is_exact
    corners = np.stack(np.meshgrid(np.arange(40), np.arange(30)), 2).reshape(-1, 2) * 112
    overlapping = grid_of(corners, 448.0, (0, 0))
    assert (overlapping.cell, overlapping.span, overlapping.size) == (112.0, 4, (43, 33))
    values = np.random.default_rng(0).random(len(corners))
    whole = cell_means(overlapping, values)
    monkeypatch.setattr(grid, "CHUNK_PIXELS", 64)
    sizes = []
    pixels = grid._pixels

    def counted(*given):
        for index, tiles in pixels(*given):
            sizes.append(index.size)
            yield index, tiles

    monkeypatch.setattr(grid, "_pixels", counted)
    np.testing.assert_allclose(cell_means(overlapping, values), whole)
    assert max(sizes) == 64
    assert sum(sizes) == 16 * len(corners)


def test_the_scene_of_a_slide_is_opened(tmp_path, monkeypatch):
    opened = []

    def reader(path, **given):
        opened.append(given)
        raise FormatError("no")

    monkeypatch.setattr("mil.io.slides.SlideReader", reader)
    bag = SLIDE.bag
    canvas_of(bag, positions_of(bag), None, tmp_path / "a.czi", "2")
    assert opened == [{"scene": "2"}]


def test_the_script_is_written_once(tmp_path):
    path = tmp_path / "heatmap" / SCRIPT
    write_script(path)
    before = path.stat().st_mtime_ns
    text = path.read_text()
    assert text.count("{") == text.count("}")
    assert "PathIO.readObjects" in text
    write_script(path)
    assert path.stat().st_mtime_ns == before
    path.write_text("old")
    write_script(path)
    assert path.read_text() == text
