"""A slide's heatmap bundle: picture, layer and table say the same, and of the right heads."""

import json
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from shapely import box
from shapely.geometry import shape

from mil.config import Recipe
from mil.errors import DatasetError, FormatError
from mil.heads import build_head
from mil.heatmap import stage as heatmap_stage
from mil.heatmap.canvas import GREY
from mil.heatmap.render import outlined
from mil.heatmap.scales import OPACITY
from mil.io.annotations import feature, write_geojson
from mil.io.bags import read_bag, write_bag
from mil.io.tables import read_csv, write_csv
from mil.io.tiles import Tiles, read_tiles, write_tiles
from mil.statistics.attention import entropy_share
from mil.tasks import Classification
from mil.trained import Trained, apply, load_trained, save_trained
from tests.messages import one_line
from tests.scored import heatmap as draw_scored
from tests.synthetic import bag_file, make_tiles, tissue_slide

# level-0 pixels; not a whole number
DIM = 4
SIDE = 453.3
ORIGIN = (100, 50)
COORDS = np.rint(ORIGIN + np.array([(i, j) for j in range(2) for i in range(3)]) * SIDE).astype(int)
GEOMETRY = {
    "side_level0_px": SIDE,
    "origin_x_level0_px": ORIGIN[0],
    "origin_y_level0_px": ORIGIN[1],
    "overview_scale": 10.0,
}
FEATURES = np.random.default_rng(0).normal(size=(6, DIM)) * 3


def head(folder, seed: int, fold: int = 0, **changes):
    torch.manual_seed(seed)
    recipe = Recipe(
        name="abmil", options={"hidden": 8, "attention": 8}, losses={"cross_entropy": 1}
    )
    trained = Trained(
        recipe_name="abmil",
        recipe=recipe,
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=DIM,
        task=Classification(classes=["normal", "tumour"], positive="tumour"),
        dataset="d",
        seed=seed,
        fold=fold,
        epoch=1,
    )
    trained = trained.model_copy(update=changes)
    weights = build_head("abmil", recipe.options, dim=trained.dim, classes=2).state_dict()
    save_trained(folder / f"head_{seed}_{fold}", trained, weights, {})
    return folder / f"head_{seed}_{fold}"


@pytest.fixture
def slide(tmp_path):
    """A bag of six tiles, the last unreadable, with tiles file, tissue outline and overview."""
    valid = np.array([True] * 5 + [False])
    tiles = bag_file(tmp_path / "s1.h5", "s1", FEATURES, COORDS, valid=valid, **GEOMETRY)
    write_tiles(tmp_path / "tiles.h5", tiles)
    write_geojson(tmp_path / "tiles.geojson", [feature(box(100, 50, 1400, 900), {})], ORIGIN)
    Image.new("RGB", (150, 100), (240, 240, 240)).save(tmp_path / "tiles.jpg")
    return tmp_path


def heatmap(folder, heads, tiles: str | None = "tiles.h5", **changes) -> str:
    given = {"folds": None, "annotation": None, "scale": "percentile", "kinds": ["attention"]}
    return draw_scored(
        heads,
        folder / "s1.h5",
        tiles and folder / tiles,
        folder / "out" / "s1.png",
        **given | changes,
    )


def table(folder) -> dict[str, np.ndarray]:
    rows = read_csv(folder / "out" / "s1.csv")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def attention_of(folder, *heads) -> np.ndarray:
    return np.mean(
        [apply(*load_trained(one), read_bag(folder / "s1.h5")).attention for one in heads], axis=0
    )


def test_bundle(slide):
    one = head(slide, 1)
    title = heatmap(slide, [one])
    assert sorted(path.name for path in (slide / "out").iterdir()) == [
        "s1.csv",
        "s1.geojson",
        "s1.ome.tiff",
        "s1.png",
    ]
    found = table(slide)
    expected = attention_of(slide, one)
    assert found["attention"].sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found["attention"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["relative"], expected * 5, rtol=1e-5)
    np.testing.assert_allclose(
        found["percentile"], (expected.argsort().argsort() + 0.5) * 20, atol=0.01
    )
    np.testing.assert_array_equal(np.stack([found["x"], found["y"]], 1), COORDS[:5])
    p = apply(*load_trained(one), read_bag(slide / "s1.h5")).predictions
    assert title == f"s1   p(tumour) = {p[1]:.3f} (threshold 0.500)   abmil"


def test_the_layer_lies_on_the_tiles_and_counts_from_the_scanned_part(slide):
    heatmap(slide, [head(slide, 1)])
    found = table(slide)
    for row, (one, (x, y)) in enumerate(zip(layer(slide), COORDS[:5], strict=True)):
        np.testing.assert_allclose(
            shape(one["geometry"]).bounds,
            np.add((0, 0, SIDE, SIDE), (x - 100, y - 50) * 2),
            atol=1e-6,
        )
        assert one["properties"]["objectType"] == "tile"
        assert one["properties"]["measurements"] == {
            n: found[n][row] for n in ("attention", "percentile", "relative", "alone", "effect")
        }


def test_the_colours_lie_on_the_tiles(slide, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "mil.heatmap.picture.draw",
        lambda path, *pictures, **given: drawn.update(p=pictures, **given) or path.touch(),
    )
    write_geojson(slide / "tumour.geojson", [feature(box(453, 0, 906, 453), {})])
    heatmap(slide, [head(slide, 1)], annotation=slide / "tumour.geojson")
    before, after = (np.asarray(picture).astype(int) for picture in drawn["p"])
    expected = np.zeros((100, 150), bool)
    expected[0:45, 0:136] = True  # three tiles: (0, 45.3, 90.7) + 45.3 pixels of the overview
    expected[45:91, 0:91] = True  # two
    np.testing.assert_array_equal(np.abs(after - before).max(2) > 8, expected)
    assert drawn["um_per_px"] == 2.5
    np.testing.assert_allclose(drawn["tissue"][0].max(0), [130, 85])
    np.testing.assert_allclose(
        [drawn["annotated"][0].min(0), drawn["annotated"][0].max(0)], [[45.3, 0], [90.6, 45.3]]
    )

    write_geojson(slide / "tumour.geojson", [feature(box(553, 50, 1006, 503), {})])
    heatmap(slide, [head(slide, 1)], annotation=slide / "tumour.geojson", geojson_frame="slide")
    np.testing.assert_allclose(
        [drawn["annotated"][0].min(0), drawn["annotated"][0].max(0)], [[45.3, 0], [90.6, 45.3]]
    )


def test_the_positive_region_is_outlined(slide, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "mil.heatmap.picture.draw",
        lambda path, *pictures, **given: drawn.update(p=pictures, **given) or path.touch(),
    )
    tumour = feature(box(453, 0, 906, 453), {"classification": {"name": "Tumor"}})
    stroma = feature(box(0, 453, 906, 906), {"classification": {"name": "Stroma"}})
    write_geojson(slide / "both.geojson", [tumour, stroma])
    heatmap(slide, [head(slide, 1)], annotation=slide / "both.geojson")
    (ring,) = drawn["annotated"]
    np.testing.assert_allclose([ring.min(0), ring.max(0)], [[45.3, 0], [90.6, 45.3]])
    heatmap(
        slide, [head(slide, 1)], annotation=slide / "both.geojson", annotation_classes=["stroma"]
    )
    (ring,) = drawn["annotated"]
    np.testing.assert_allclose([ring.min(0), ring.max(0)], [[0, 45.3], [90.6, 90.6]])
    write_geojson(slide / "other.geojson", [stroma])
    line = heatmap(slide, [head(slide, 1)], annotation=slide / "other.geojson")
    assert drawn["annotated"] == []
    assert line.endswith("; no region to outline: other.geojson holds 1 region of class Stroma")


def test_several_heads_give_their_mean(slide):
    heads = [head(slide, seed) for seed in (1, 2, 3)]
    title = heatmap(slide, heads, scale="relative")
    np.testing.assert_allclose(table(slide)["attention"], attention_of(slide, *heads), rtol=1e-5)
    assert title.endswith("abmil, ensemble of 3 heads")


@pytest.mark.parametrize(
    ("limit", "scale", "caution"),
    [
        (0.98, "percentile", ": colours show ranks; the largest value is 1 × the mean"),
        (0.98, "relative", ""),
        (1.1, "percentile", None),
    ],
)
def test_even_attention_is_said_on_the_picture_and_in_the_layer(
    slide, monkeypatch, limit, scale, caution
):
    drawn = {}
    monkeypatch.setattr(
        "mil.heatmap.picture.draw",
        lambda path, *pictures, **given: drawn.update(given) or path.touch(),
    )
    monkeypatch.setattr("mil.statistics.attention.ALMOST_UNIFORM", limit)
    change_bag(slide, features=np.zeros((6, DIM), np.float16))
    one = head(slide, 1)
    heatmap(slide, [one], scale=scale)
    about = json.loads((slide / "out" / "s1.geojson").read_text())["attention"]
    assert about["entropy_share"] == pytest.approx(entropy_share(attention_of(slide, one)))
    if caution is None:
        assert drawn["note"] == about["note"] == ""
    else:
        assert drawn["note"] == f"attention almost uniform (entropy share 1.000){caution}"
        assert about["note"].endswith(": percentiles are ranks; the largest value is 1 × the mean")


@pytest.mark.parametrize(
    ("splits", "used", "seen"),
    [
        (("test", "train"), [0], False),
        (("train", "test"), [1], False),
        (("val", "test"), [1], False),
        (("train", "val"), [0, 1], True),
        (("test", "test"), [0, 1], False),
    ],
)
def test_only_heads_that_did_not_see_the_slide(slide, splits, used, seen):
    heads = [head(slide, 1, fold=0), head(slide, 1, fold=1)]
    columns = ("fold", "slide", "patient", "label", "split")
    rows = [
        (fold, name, name, "tumour", split) for fold, split in enumerate(splits) for name in ("s1",)
    ]
    rows += [(fold, "other", "other", "normal", "train") for fold in (0, 1)]
    write_csv(slide / "folds.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    title = heatmap(slide, heads, folds=slide / "folds.csv")
    np.testing.assert_allclose(
        table(slide)["attention"], attention_of(slide, *(heads[i] for i in used)), rtol=1e-5
    )
    assert ("ensemble of 2 heads" in title) == (len(used) == 2)
    assert title.endswith("seen in training") == seen


def test_a_slide_that_is_not_ok_shows_itself_and_why(tmp_path):
    tiles = make_tiles(np.zeros((0, 2)), state="no_tissue", reason="no tile <here>")
    write_tiles(tmp_path / "tiles.h5", tiles)
    Image.new("RGB", (150, 100), (240, 0, 240)).save(tmp_path / "tiles.jpg")
    bag_file(
        tmp_path / "s1.h5", "s1", np.zeros((0, DIM)), state="no_tissue", reason="no tile <here>"
    )
    assert heatmap(tmp_path, [head(tmp_path, 1)]) == "s1: no_tissue, nothing to draw"
    assert json.loads((tmp_path / "out" / "s1.geojson").read_text()) == {
        "type": "FeatureCollection",
        "features": [],
    }
    assert (tmp_path / "out" / "s1.csv").read_text() == "x,y,attention,percentile,relative\n"
    with Image.open(tmp_path / "out" / "s1.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.abs(pixels - (240, 0, 240)).max(2) < 12).mean() > 0.3


@pytest.mark.parametrize(
    "change", [{"encoder": "uni"}, {"weights_sha256": "0"}, {"tiling": "256px_1mpp"}]
)
def test_features_of_another_encoder_are_refused(slide, change):
    with one_line(FormatError, match="was trained on") as caught:
        heatmap(slide, [head(slide, 1, **change)])
    assert "; make its bag with encoder" in str(caught.value)
    assert not (slide / "out").exists()


def test_no_head(slide):
    with pytest.raises(DatasetError, match="no head given"):
        heatmap(slide, [])


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"recipe_name": "aem"}, "aem with classification of normal, tumour,"),
        (
            {"task": Classification(classes=["a", "b"], positive="b")},
            "abmil with classification of a, b,",
        ),
    ],
)
def test_heads_of_several_recipes_are_refused(slide, changes, other):
    """Their mean would bear the name of the first."""
    with pytest.raises(DatasetError, match="give heads of one recipe") as caught:
        heatmap(slide, [head(slide, 1), head(slide, 2, **changes)])
    assert f"{slide / 'head_2_0'} is of recipe " in str(caught.value)
    assert other in str(caught.value)
    assert not (slide / "out").exists()


@pytest.mark.parametrize("name", ["s1.csv", "s1", "s1.jpg"])
def test_the_picture_is_a_png(slide, name):
    """A picture called .csv would be lost to the table of that name."""
    with pytest.raises(DatasetError, match=r"give a name that ends with \.png"):
        draw_scored(
            [head(slide, 1)],
            slide / "s1.h5",
            None,
            slide / name,
            folds=None,
            annotation=None,
            scale="relative",
        )
    assert not (slide / name).exists()


def change_bag(folder, **changes) -> None:
    write_bag(folder / "s1.h5", replace(read_bag(folder / "s1.h5"), **changes))


def layer(folder) -> list:
    """The tiles of the layer."""
    features = json.loads((folder / "out" / "s1.geojson").read_text())["features"]
    return [one for one in features if one["properties"]["objectType"] == "tile"]


@pytest.mark.parametrize(
    "known", [{}, {"width_level0_px": None, "mpp_level0": None}], ids=["all", "no size"]
)
def test_a_ready_bag_gives_the_same_layer_and_table_as_its_tiled_slide(slide, known):
    change_bag(slide, **known)
    one = head(slide, 1)
    written = [slide / "out" / name for name in ("s1.csv", "s1.geojson")]
    title = heatmap(slide, [one])
    before = [path.read_bytes() for path in written]
    assert heatmap(slide, [one], tiles=None) == title
    assert [path.read_bytes() for path in written] == before


def test_a_ready_bag_is_drawn_on_white_glass(slide, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "mil.heatmap.picture.draw",
        lambda path, *pictures, **given: drawn.update(p=pictures, **given) or path.touch(),
    )
    # At the size of the blank canvas, where tiles have sharp edges.
    monkeypatch.setattr("mil.heatmap.picture.LARGE_PX", np.inf)
    write_geojson(slide / "tumour.geojson", [feature(box(453, 0, 906, 453), {})])
    one = head(slide, 1)
    heatmap(slide, [one], tiles=None, annotation=slide / "tumour.geojson")
    scale = (4000 - 100) / 1200  # the header says 4000 x 3000 with the scanned part from (100, 50)
    before, after = (np.asarray(picture).astype(int) for picture in drawn["p"])
    assert before.shape == (round((3000 - 50) / scale), 1200, 3)
    expected = np.zeros(before.shape[:2], bool)
    colours = mpl.colormaps["inferno"](table(slide)["percentile"] / 100)[:, :3] * 255
    # Edges of the grid, not of the corners, which are whole pixels of the slide.
    places = np.rint((COORDS[:5] - ORIGIN) / SIDE) * SIDE / scale
    for (x, y), colour in zip(places, colours, strict=True):
        window = np.s_[round(y) : round(y + SIDE / scale), round(x) : round(x + SIDE / scale)]
        expected[window] = True
        assert np.abs(after[window] - (np.array(GREY) + OPACITY / 255 * (colour - GREY))).max() <= 1
    np.testing.assert_array_equal((before == GREY).all(2), expected)
    assert (after[~expected] == 255).all()
    assert drawn["um_per_px"] == pytest.approx(0.25 * scale)
    assert (drawn["tissue"], drawn["name"]) == ([], "tiles of the bag")
    ring = drawn["annotated"][0]
    np.testing.assert_allclose([ring.min(0), ring.max(0)], np.array([[453, 0], [906, 453]]) / scale)


def test_a_ready_bag_is_drawn_on_its_slide_if_that_is_there(slide):
    change_bag(slide, width_level0_px=1600, height_level0_px=1000)
    tissue_slide(slide / "s1.tif", (1600, 1000), mpp=0.25, compression=None)
    assert "without" not in heatmap(slide, [head(slide, 1)], tiles=None, slide=slide / "s1.tif")
    on_slide = np.asarray(Image.open(slide / "out" / "s1.png").convert("RGB")).astype(int)
    heatmap(slide, [head(slide, 1)], tiles=None)
    on_glass = np.asarray(Image.open(slide / "out" / "s1.png").convert("RGB")).astype(int)
    left = np.s_[60:, : on_glass.shape[1] // 2 - 80]  # below the coloured line of text
    assert (np.ptp(on_slide[left], axis=2) > 40).mean() > 0.1  # pink tissue
    assert np.ptp(on_glass[left], axis=2).max() == 0  # grey and white


@pytest.mark.parametrize(
    ("unknown", "where"),
    [
        ({"coords": None}, ["tile"]),
        ({"side_level0_px": None}, ["x", "y"]),
        ({"coords": None, "coords_um": COORDS / 4, "tile_px": None}, ["x_um", "y_um"]),
    ],
)
def test_a_bag_that_does_not_say_where_its_tiles_are_says_so(slide, monkeypatch, unknown, where):
    change_bag(slide, **unknown)
    said = {}
    monkeypatch.setattr(
        "mil.heatmap.bundle.draw_message",
        lambda path, title, words, **_: said.update(title=title, words=words) or path.touch(),
    )
    one = head(slide, 1, tiling=read_bag(slide / "s1.h5").tiling)
    title = heatmap(slide, [one], tiles=None)
    assert title == said["title"] + "; the bag does not say where its tiles are"
    assert "p(tumour) = " in said["title"]
    assert "does not say where its tiles are" in said["words"]
    assert layer(slide) == []
    found = table(slide)
    assert list(found) == [*where, "attention", "percentile", "relative", "alone", "effect"]
    np.testing.assert_allclose(found["attention"], attention_of(slide, one), rtol=1e-5)


def test_tiles_are_numbered_by_their_row_in_the_bag(slide):
    change_bag(slide, coords=None, valid=np.array([True, False, True, True, False, True]))
    heatmap(slide, [head(slide, 1)], tiles=None)
    assert table(slide)["tile"].tolist() == [0, 2, 3, 5]
    with Image.open(slide / "out" / "s1.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert 0.005 < (pixels < 160).mean() < 0.1  # words on white


def test_a_bag_in_micrometres_has_a_picture_but_no_layer(slide):
    change_bag(slide, coords=None, coords_um=COORDS / 4, side_level0_px=None)
    title = heatmap(slide, [head(slide, 1)], tiles=None, annotation=slide / "nowhere.xml")
    assert "does not say" not in title
    assert layer(slide) == []
    np.testing.assert_allclose(table(slide)["x_um"], COORDS[:5, 0] / 4)


def test_a_ready_bag_that_is_not_ok_says_why(tmp_path):
    bag_file(
        tmp_path / "s1.h5", "s1", np.zeros((0, DIM)), state="no_tissue", reason="no tile <here>"
    )
    assert heatmap(tmp_path, [head(tmp_path, 1)], tiles=None) == "s1: no_tissue, nothing to draw"
    assert layer(tmp_path) == []
    assert (tmp_path / "out" / "s1.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"features": np.ones((6, 5), np.float16)},
            "5 features per tile, but 4 in the features that abmil was trained on",
        ),
        ({"features": np.full((6, DIM), np.nan, np.float16)}, "holds values that are not numbers"),
        ({"valid": np.zeros(6, bool)}, "the bag has no tiles"),
    ],
)
def test_features_that_no_head_can_take_are_one_line(slide, change, message):
    change_bag(slide, **change)
    with one_line(FormatError, match=message):
        heatmap(slide, [head(slide, 1)], tiles=None)
    assert not (slide / "out").exists()


def selecting(folder, seed: int, least: int = 1):
    """A head that answers from two tiles, or from more."""
    torch.manual_seed(seed)
    options = {"hidden": 8, "attention": 8, "keep_share": 0.4, "keep_least": least}
    recipe = Recipe(name="graph_select", options=options, losses={"cross_entropy": 1})
    weights = build_head("graph_select", options, dim=DIM, classes=2).state_dict()
    trained = load_trained(head(folder, seed))[1]
    few = trained.model_copy(update={"recipe": recipe, "recipe_name": "few"})
    save_trained(folder / f"selecting_{seed}", few, weights, {})
    return folder / f"selecting_{seed}"


def test_selected_tiles_are_marked_everywhere(slide, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "mil.heatmap.picture.draw",
        lambda path, *pictures, **given: drawn.update(p=pictures, **given) or path.touch(),
    )
    heads = [selecting(slide, seed) for seed in (1, 2, 3)]
    chosen = [
        apply(*load_trained(one), read_bag(slide / "s1.h5")).selection.selected for one in heads
    ]
    assert [one.sum() for one in chosen] == [2, 2, 2]
    heatmap(slide, heads)
    share = np.mean(chosen, axis=0)
    np.testing.assert_allclose(table(slide)["selected"], share, atol=1e-3)
    np.testing.assert_allclose(
        [one["properties"]["measurements"]["selected"] for one in layer(slide)], share, atol=1e-3
    )
    assert drawn["heading"] == "attention, selected tiles outlined"
    corner = np.rint((COORDS[:5] - ORIGIN) / 10).astype(int)
    cyan = (np.asarray(drawn["p"][1])[corner[:, 1], corner[:, 0]] == (0, 229, 255)).all(1)
    assert cyan.tolist() == (share >= 0.5).tolist()
    middle = corner + 20
    assert not (np.asarray(drawn["p"][1])[middle[:, 1], middle[:, 0]] == (0, 229, 255)).all(1).any()


def test_small_slides_whose_tiles_are_all_selected_are_not_outlined(slide, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "mil.heatmap.picture.draw",
        lambda path, *pictures, **given: drawn.update(p=pictures, **given) or path.touch(),
    )
    heatmap(slide, [selecting(slide, 1, least=16)])
    assert drawn["heading"] == "attention, all tiles selected"
    assert not (np.asarray(drawn["p"][1]) == (0, 229, 255)).all(-1).any()


def test_lines_around_selected_tiles_are_thin():
    image = Image.new("RGB", (400, 300))
    marked = np.asarray(outlined(image, np.array([[100, 50]]), np.array([[300, 250]])))
    is_line = (marked == (0, 229, 255)).all(-1)
    assert is_line[:, 200].nonzero()[0].tolist() == [50, 51, 248, 249]
    assert is_line[150].nonzero()[0].tolist() == [100, 101, 298, 299]


def test_heads_that_use_all_tiles_mark_none(slide):
    heatmap(slide, [head(slide, 1)])
    assert "selected" not in table(slide)
    assert all("selected" not in one["properties"]["measurements"] for one in layer(slide))


def test_attention_is_not_drawn_at_other_tiles(slide):
    """Of the same slide by another tiling, or with its tiles moved."""
    tiles = read_tiles(slide / "tiles.h5")
    write_tiles(slide / "other.h5", replace(tiles, coords=tiles.coords + 1))
    with one_line(FormatError, match=r"other\.h5: holds other tiles than the bag of s1"):
        heatmap(slide, [head(slide, 1)], "other.h5")
    geometry = replace(tiles.geometry, side_level0_px=tiles.geometry.side_level0_px * 2)
    write_tiles(slide / "other.h5", replace(tiles, geometry=geometry))
    with one_line(FormatError, match=r"other\.h5: holds other tiles"):
        heatmap(slide, [head(slide, 1)], "other.h5")


def test_attention_of_a_bag_under_another_slides_name_is_not_drawn(slide):
    (slide / "s1.h5").rename(slide / "s2.h5")
    with one_line(FormatError, match=r"s2\.h5: is the bag of slide 's1'"):
        heatmap_stage.run(
            slide / "scores.h5",
            slide / "s2.h5",
            None,
            slide / "s2.png",
            folds=None,
            annotation=None,
            scale="percentile",
        )


def test_attention_is_not_drawn_on_another_slide(slide):
    write_tiles(slide / "other.h5", replace_slide(read_tiles(slide / "tiles.h5"), "s2"))
    with pytest.raises(FormatError, match=r"other\.h5: is of s2, but the bag is of s1; give"):
        heatmap(slide, [head(slide, 1)], "other.h5")


def test_the_outline_beside_the_tiles_is_not_replaced(slide):
    before = (slide / "tiles.geojson").read_bytes()
    with pytest.raises(DatasetError, match=r"tiles\.geojson: is read by this command"):
        draw_scored(
            [head(slide, 1)],
            slide / "s1.h5",
            slide / "tiles.h5",
            slide / "tiles.png",
            folds=None,
            annotation=None,
            scale="percentile",
        )
    assert (slide / "tiles.geojson").read_bytes() == before


def replace_slide(tiles: Tiles, slide: str) -> Tiles:
    return replace(tiles, geometry=replace(tiles.geometry, slide=slide))
