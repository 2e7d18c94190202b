"""What the page asks for: the list, the maps of a slide, its pixels and the tile at a point."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mil.errors import ConfigError, FormatError
from mil.io.tiles import read_tiles, write_tiles
from mil.trained.tile_maps import TileMap
from mil.view import pixels
from mil.view.catalogue import slides_of
from mil.view.colours import colours_named
from mil.view.layers import LayerChoice
from mil.view.maps import Choice, SlideScores, read_slide
from mil.view.pyramid import Box
from mil.view.scaling import scaled
from mil.view.shown import Shown
from mil.view.study import find_study
from tests.heatmap.bundles import scores_of, trained
from tests.messages import one_line
from tests.synthetic import spoil_tile
from tests.view.study_files import (
    COORDS,
    DARK,
    LIT,
    SIDE,
    SIZE,
    TILING,
    head_scores,
    write_evaluation,
    write_scored_slide,
)

ATTENTION = LayerChoice(0, Choice())


@pytest.fixture
def shown(folder):
    shown = Shown(find_study(folder / "results", dataset=str(folder / "d.yaml")))
    yield shown
    shown.close()


def rgb(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_the_list_has_prediction_error_spread_and_entropy(shown):
    one, two, three = shown.entries
    assert (one.slide, one.patient, one.label, one.split, one.state) == (
        "s1",
        "p s1",
        "tumour",
        "test",
        "ok",
    )
    # abmil has two seeds, acmil one.
    assert [called.value for called in one.called] == [0.8125, 0.625]
    assert one.called[0].error == pytest.approx(1 - 0.8125)
    assert one.uncertainty == pytest.approx(np.std([0.75, 0.875, 0.625], ddof=1))
    assert one.entropy[0] == 0.5
    assert two.called[0].predicted == "tumour"
    assert (two.called[0].wrong, two.called[0].error) == (True, pytest.approx(0.5625))
    assert (three.entropy[0], three.called[0].unseen) == (None, False)


def test_a_slide_that_was_lost_has_its_state(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    table = tmp_path / "c" / "d.csv"
    table.write_text(table.read_text() + "s4,p4,normal,test\n")
    study = find_study(tmp_path / "c" / "results", dataset=str(tmp_path / "c" / "d.yaml"))
    lost = slides_of(study)[-1]
    assert (lost.slide, lost.state, lost.called) == ("s4", "not reached", [None, None])


def test_results_without_the_yaml_are_shown_with_their_overviews(folder):
    study = find_study(folder / "results" / "d")
    assert "yaml is not used" in study.notes[0]
    shown = Shown(study)
    assert [entry.slide for entry in shown.entries] == ["s1", "s2", "s3"]
    slide = shown.slide_json(0)
    assert not slide["has_pixels"]
    assert slide["has_overview"]
    assert any("not on this machine" in note for note in slide["notes"])
    assert shown.pixels(0, 0, 0, 0) is None
    # A tile is cut from the overview.
    assert rgb(shown.tile(0, 0, LIT)).shape == (96, 96, 3)
    shown.close()


def test_with_the_folder_of_the_slides_their_pixels_come_back(folder):
    shown = Shown(find_study(folder / "results" / "d", slides_dir=folder / "slides"))
    assert shown.slide_json(0)["has_pixels"]
    shown.close()


def test_a_folder_that_is_no_study_is_one_line(tmp_path):
    with one_line(ConfigError, match="holds no scores"):
        find_study(tmp_path)
    with one_line(ConfigError, match="no such folder"):
        find_study(tmp_path / "missing")


def test_frame_outlines_and_heads_of_a_slide(shown):
    slide = shown.slide_json(0)
    assert slide["frame"] == {
        "left": 0,
        "top": 0,
        "width": SIZE[0],
        "height": SIZE[1],
        "unit_um": 0.5,
        "max_zoom": 1,
    }
    heads = [shown.head_json(0, number) for number in (0, 1)]
    assert heads[0]["kinds"] == ["attention", "alone", "effect"]
    assert [head["branches"] for head in heads] == [0, 3]
    assert [member["seen"] for member in heads[0]["members"]] == [False, False]
    (ring,) = slide["annotated"]
    assert {tuple(point) for point in ring} == {(224, 224), (448, 224), (448, 448), (224, 448)}
    assert len(slide["tissue"]) == 1
    seen = shown.head_json(2, 0)
    assert [member["seen"] for member in seen["members"]] == [True, True]
    assert any("trained or selected on this slide" in note for note in seen["notes"])


@pytest.mark.parametrize(
    ("choice", "tile"),
    [
        (Choice(), LIT),
        (Choice("effect"), LIT),
        (Choice("effect", column=0), DARK),
        (Choice("alone", member=1), LIT),
    ],
)
def test_each_kind_and_class_has_its_highest_tile(shown, choice, tile):
    assert shown.layers.describe(0, LayerChoice(0, choice))["top"][0]["tile"] == tile


def test_the_mean_is_over_the_heads_that_held_the_slide_out(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    scores = [head_scores(len(COORDS), LIT), head_scores(len(COORDS), LIT + 1)]
    write_scored_slide(study, "abmil", "s1", scores, ["normal", "tumour"])
    read = find_study(study)
    rows = [
        replace(row, split="train" if row.seed == 1 else "test")
        for row in read.heads[0].predictions
    ]
    of_slide = read_slide(read, replace(read.heads[0], predictions=rows), "s1")
    assert list(of_slide.unseen) == [1]
    values = of_slide.map_of(Choice()).values
    assert (values.argmax(), values.max()) == (LIT + 1, 0.5)
    assert of_slide.map_of(Choice(member=0)).values.argmax() == LIT


def test_a_branch_has_its_own_map(shown):
    top = [
        shown.layers.describe(0, LayerChoice(1, Choice(branch=branch)))["top"][0]["tile"]
        for branch in (0, 2)
    ]
    assert top == [LIT + 1, LIT + 2]
    with one_line(ConfigError, match="no branch 4"):
        shown.layers.describe(0, LayerChoice(1, Choice(branch=3)))


def test_the_lit_tile_is_lit_in_the_layer(shown):
    png = shown.layers.tile(0, ATTENTION, (1, 0, 0))
    pixels_of_layer = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    x, y = COORDS[LIT]
    top = colours_named("inferno", signed=False)
    steps = int((12 - 0.5) / 12 * 255)
    assert pixels_of_layer[y + 5, x + 5].tolist() == [*top[steps].tolist(), 255]
    assert (pixels_of_layer[y : y + 224, x : x + 224] == pixels_of_layer[y + 5, x + 5]).all()
    assert (pixels_of_layer[y, x - 1] != pixels_of_layer[y + 5, x + 5]).any()


def test_the_tile_at_a_point_has_all_its_numbers(shown):
    x, y = COORDS[LIT] + 0.5
    tile = shown.layers.at(0, ATTENTION, x, y)
    assert (tile["tile"], tile["x"], tile["side"]) == (LIT, COORDS[LIT][0], SIDE)
    values = {row["name"]: row["value"] for row in tile["values"]}
    assert values["attention, share of the bag"] == 0.5
    assert values["attention, times uniform"] == 6.0
    assert values["effect of the tile on the prediction (log-odds)"] == pytest.approx(2.0)
    assert values["evidence of the tile alone (log-odds)"] == pytest.approx(4.0)
    assert shown.layers.at(0, ATTENTION, 1000, 700) is None


def test_scores_without_evidence_show_attention_and_say_so(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    plain = [head_scores(len(COORDS), LIT, evidence=False)] * 2
    write_scored_slide(study, "abmil", "s1", plain, ["normal", "tumour"])
    shown = Shown(find_study(study))
    head = shown.head_json(0, 0)
    assert head["kinds"] == ["attention"]
    assert any("run `mil score` again" in note for note in head["notes"])
    with one_line(ConfigError, match="no evidence"):
        shown.layers.describe(0, LayerChoice(0, Choice("effect")))
    shown.close()


def test_a_slide_of_few_tiles_shows_each_of_them_once(shown):
    layer = shown.layers.describe(0, ATTENTION)
    tiles = [tile["tile"] for end in ("top", "bottom") for tile in layer[end]]
    assert sorted(tiles) == list(range(len(COORDS)))
    assert layer["top"][-1]["value"] >= layer["bottom"][-1]["value"]


def test_precomputed_bags_without_positions_are_said(folder, tmp_path):
    from mil.io.bags import read_bag, write_bag

    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    shutil.rmtree(study / "tile")
    bag = study / "features" / TILING / "tiny" / "s1.h5"
    write_bag(bag, replace(read_bag(bag), coords=None))
    scores = [head_scores(len(COORDS), LIT)] * 2
    write_scored_slide(study, "abmil", "s1", scores, ["normal", "tumour"])
    shown = Shown(find_study(study))
    head = shown.head_json(0, 0)
    assert not head["drawn"]
    assert any("does not say where its tiles are" in note for note in head["notes"])
    assert shown.layers.describe(0, ATTENTION)["top"][0] == {"tile": LIT, "value": 0.5}
    assert shown.layers.tile(0, ATTENTION, (0, 0, 0)) is None
    shown.close()


def test_scores_older_than_their_bag_are_not_drawn(folder, tmp_path):
    from tests.synthetic import bag_file

    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    # As many tiles as before, with other features.
    bag_file(study / "features" / TILING / "tiny" / "s1.h5", "s1", np.ones((len(COORDS), 4)))
    shown = Shown(find_study(study))
    head = shown.head_json(0, 0)
    assert not head["drawn"]
    assert any("Scores are not used" in note for note in head["notes"])
    shown.close()


def test_a_slide_of_another_size_is_not_shown_under_the_scores(folder, tmp_path):
    from tests.synthetic import tissue_slide

    tissue_slide(tmp_path / "s1.tif", (512, 512))
    shown = Shown(find_study(folder / "results" / "d", slides_dir=tmp_path))
    slide = shown.slide_json(0)
    assert not slide["has_pixels"]
    assert any("has 512 x 512 px" in note for note in slide["notes"])
    shown.close()


def test_pixels_are_those_of_the_slide_and_end_with_it(shown):
    image = rgb(shown.pixels(0, 1, 0, 0))
    assert image.shape == (512, 512, 3)
    # Tissue is darker than glass.
    assert image[400, 400].mean() < image[5, 5].mean() - 20
    assert shown.pixels(0, 1, 2, 0) is None
    assert shown.pixels(0, 2, 0, 0) is None


def test_what_cannot_be_decoded_is_grey(folder, tmp_path):
    path = tmp_path / "s1.tif"
    shutil.copy(folder / "slides" / "s1.tif", path)
    # The first of the file's tiles of 256 px.
    spoil_tile(path, 0)
    slides = pixels.Slides()
    try:
        image = rgb(slides.region(path, "", Box(0.0, 0.0, 512.0, 512.0)))
    finally:
        slides.close()
    damaged = image[8:248, 8:248].astype(int)
    # All but the word.
    assert np.median(damaged, (0, 1)).tolist() == [224, 224, 224]
    assert (np.abs(damaged - 224) > 40).any()
    assert np.abs(image[300:500, 300:500].astype(int) - 224).max(2).min() > 10


@pytest.mark.parametrize(
    ("scale", "low", "high", "share"),
    [("percentile", -100, 100, 0.125), ("relative", -10, 10, 0.4), ("raw", -4, 4, 0.0)],
)
def test_signed_maps_have_zero_in_the_middle_of_their_colours(scale, low, high, share):
    tile_map = TileMap("effect", np.array([0.0, 0.0, -4.0, 4.0]), "p_tumour", "log-odds")
    made = scaled(tile_map, scale)
    assert (made.low, made.high) == (low, high)
    np.testing.assert_allclose(made.shares[:3], [0.5, 0.5, share])


def test_rollout_is_a_map_where_every_head_has_one():
    record = trained()
    mixed = scores_of([0.5, 0.25, 0.25], rollout=np.array([0.2, 0.2, 0.6]))
    other = scores_of([0.5, 0.25, 0.25], rollout=np.array([0.6, 0.2, 0.2]))
    slide = SlideScores([record, record], [mixed, other], [0, 1], None, [])
    assert slide.kinds == ["attention", "rollout"]
    rolled = slide.map_of(Choice("rollout"))
    np.testing.assert_allclose(rolled.values, [0.4, 0.2, 0.4])
    assert scaled(rolled, "relative").label == "rollout of attention, times uniform"
    plain = SlideScores([record, record], [mixed, scores_of([1.0, 0, 0])], [0, 1], None, [])
    assert plain.kinds == ["attention"]
    with one_line(ConfigError, match="no rollout: the head has no mixing layers"):
        plain.map_of(Choice("rollout"))


def test_attention_scales():
    tile_map = TileMap("attention", np.array([0.1, 0.2, 0.7]), "", "share of the bag")
    np.testing.assert_allclose(scaled(tile_map, "relative").shares, [0.03, 0.06, 0.21])
    np.testing.assert_allclose(scaled(tile_map, "raw").shares, [1 / 7, 2 / 7, 1])
    np.testing.assert_allclose(scaled(tile_map, "percentile").shares, [1 / 6, 0.5, 5 / 6])
    with one_line(ConfigError, match="no scale"):
        scaled(tile_map, "x")


def test_with_early_fusion_slides_have_their_patients_predictions(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    shutil.rmtree(study / "evaluate" / TILING / "tiny" / "acmil")
    values = {
        "p s1": ("tumour", "test", [0.75, 0.875]),
        "p s3": ("tumour", "train", [0.5, 0.5]),
    }
    write_evaluation(study, "abmil", values, ["normal", "tumour"], fusion="early")
    shown = Shown(find_study(study, dataset=str(tmp_path / "c" / "d.yaml")))
    assert [entry.slide for entry in shown.entries] == ["s1", "s2", "s3"]
    assert shown.entries[0].called[0].value == 0.8125
    assert [member["seen"] for member in shown.head_json(2, 0)["members"]] == [True, True]
    shown.close()


def test_the_scanned_part_of_a_slide_sets_frame_outlines_and_addresses(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    path = study / "tile" / TILING / "s1.h5"
    tiles = read_tiles(path)
    geometry = replace(tiles.geometry, origin_x_level0_px=96, origin_y_level0_px=48)
    write_tiles(path, replace(tiles, geometry=geometry))
    Image.new("RGB", (116, 90)).save(path.with_suffix(".jpg"))
    shown = Shown(
        find_study(
            study, dataset=str(tmp_path / "c" / "d.yaml"), slides_dir=tmp_path / "c" / "slides"
        )
    )
    slide = shown.slide_json(0)
    # 116 px of 8 end within a pixel of the slide's own edge.
    assert [slide["frame"][name] for name in ("left", "top", "width", "height")] == [
        96,
        48,
        1024 - 96,
        768 - 48,
    ]
    # GeoJSON counts from the scanned part.
    assert [min(axis) for axis in zip(*slide["annotated"][0], strict=True)] == [224 + 96, 224 + 48]
    assert [min(axis) for axis in zip(*slide["tissue"][0], strict=True)] == [200 + 96, 200 + 48]
    layer = Image.open(io.BytesIO(shown.layers.tile(0, ATTENTION, (1, 0, 0)))).convert("RGBA")
    x, y = COORDS[LIT] - (96, 48)
    around = [(x, y), (x - 1, y), (x, y - 1), (x + 223, y + 223)]
    lit = [
        layer.getpixel(tuple(map(int, place))) == layer.getpixel((int(x), int(y)))
        for place in around
    ]
    assert lit == [True, False, False, True]
    shown.close()


def test_an_overview_that_is_no_image_is_not_shown(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    (study / "tile" / TILING / "s1.jpg").write_bytes(b"secret")
    shown = Shown(find_study(study))
    assert not shown.slide_json(0)["has_overview"]
    assert shown.overview(0) is None
    with one_line(FormatError, match="no overview picture"):
        shown.thumbnail(0)
    shown.close()


def test_a_damaged_tiles_file_is_a_note(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    study = tmp_path / "c" / "results" / "d"
    (study / "tile" / TILING / "s1.h5").write_bytes(b"x")
    shown = Shown(find_study(study))
    assert any("tiles file is not used" in note for note in shown.slide_json(0)["notes"])
    shown.close()
