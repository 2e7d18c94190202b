"""The picture: values as drawn, and colours on the tile they belong to."""

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from shapely import MultiPolygon, Polygon, box

from mil.heatmap.canvas import Canvas, Positions
from mil.heatmap.colours import DIVERGING, INFERNO
from mil.heatmap.grid import grid_of
from mil.heatmap.page import Page, Place
from mil.heatmap.picture import DrawnSlide, layer_of
from mil.heatmap.render import draw, overlay, rings_of
from mil.heatmap.scales import OPACITY, RELATIVE_TOP, Shading, scaled, shading_of
from mil.trained.tile_maps import TileMap

GREY = 200
NOTHING = MultiPolygon()


def shading(values, top=100.0) -> Shading:
    return Shading(np.array(values, float), 0.0, top, INFERNO, "percentile of attention")


def coloured(corners, side, values, size=(60, 40), top=100.0) -> np.ndarray:
    canvas = Canvas(Image.new("RGB", size, (GREY,) * 3), 1.0, (0, 0), (0, 0), 0.0)
    places = np.array(corners, float)
    grid = grid_of(places, side, (0, 0))
    drawn = DrawnSlide(canvas, Positions(places, side, 0.0), grid, NOTHING, NOTHING, "")
    return np.asarray(overlay(canvas.image, *layer_of(drawn, shading(values, top))))


def colour_of(share: float) -> np.ndarray:
    """What a tile at this share of the scale looks like on grey."""
    colour = 255 * np.array(mpl.colormaps["inferno"](float(share))[:3])
    return np.rint(GREY + OPACITY / 255 * (colour - GREY))


def test_uniform_attention_is_one_colour():
    attention = np.full(7, 1 / 7)
    np.testing.assert_allclose(scaled(attention, "percentile"), 50.0)
    np.testing.assert_allclose(scaled(attention, "relative"), 1.0)


def test_percentiles_are_ranks_and_ties_share_theirs():
    np.testing.assert_allclose(
        scaled(np.array([0.1, 0.5, 0.1, 0.3]), "percentile"), [25, 87.5, 25, 62.5]
    )
    many = scaled(np.random.default_rng(0).random(1000), "percentile")
    assert (many.min(), many.max()) == pytest.approx((0.05, 99.95))


def test_relative_is_times_uniform():
    np.testing.assert_allclose(
        scaled(np.array([0.7, 0.2, 0.1, 0.0]), "relative"), [2.8, 0.8, 0.4, 0.0]
    )


def test_a_tile_is_coloured_exactly_on_its_footprint():
    found = coloured([(10, 7)], 8.0, [100.0])
    expected = np.full((40, 60, 3), GREY)
    expected[7:15, 10:18] = colour_of(1.0)
    np.testing.assert_allclose(found, expected, atol=1)
    assert (np.any(found != GREY, axis=2) == np.any(expected != GREY, axis=2)).all()


@pytest.mark.parametrize("side", [3.3, 7.5, 8.7499, 1.2])
def test_neighbours_leave_no_gap_and_do_not_overlap(side):
    corners = [(2.4 + i * side, 1.7 + j * side) for j in range(3) for i in range(4)]
    values = [100.0 * ((n + n // 4) % 2) for n in range(12)]  # a chessboard
    found = coloured(corners, side, values)
    edges_x, edges_y = (
        np.rint(start + np.arange(n + 1) * side).astype(int) for start, n in ((2.4, 4), (1.7, 3))
    )
    inside = np.zeros((40, 60), bool)
    inside[edges_y[0] : edges_y[-1], edges_x[0] : edges_x[-1]] = True
    touched = np.any(found != GREY, axis=2)
    np.testing.assert_array_equal(touched, inside)
    twice = ~(
        np.abs(found.astype(int)[..., None, :] - [colour_of(0), colour_of(1), [GREY] * 3]).max(-1)
        <= 1
    ).any(-1)
    assert not twice.any()


def test_tiles_over_the_border_are_cut():
    found = coloured(
        [(-4, -4), (56, 36), (100, 100), (-20, 10), (30, -50)], 8.0, [0, 100, 100, 100, 100]
    )
    expected = np.full((40, 60, 3), GREY)
    expected[:4, :4], expected[36:, 56:] = colour_of(0), colour_of(1)
    np.testing.assert_allclose(found, expected, atol=1)


def test_values_above_the_top_have_its_colour():
    found = coloured(
        [(0, 0), (20, 0), (40, 0)], 8.0, [RELATIVE_TOP / 2, RELATIVE_TOP, 99], top=RELATIVE_TOP
    )
    for x, share in ((4, 0.5), (24, 1.0), (44, 1.0)):
        np.testing.assert_allclose(found[4, x], colour_of(share), atol=1)


def test_rings_begin_at_the_origin_and_shrink():
    region = MultiPolygon(
        [Polygon(box(100, 60, 300, 260).exterior, [box(140, 100, 180, 140).exterior])]
    )
    outer, inner = rings_of(region, 4.0, (100, 20))
    assert (outer.min(0).tolist(), outer.max(0).tolist()) == ([0, 10], [50, 60])
    assert (inner.min(0).tolist(), inner.max(0).tolist()) == ([10, 20], [20, 30])
    assert rings_of(MultiPolygon(), 4.0, (0, 0)) == []


def test_the_drawing_shows_what_it_is_given(tmp_path):
    overview, attention = (
        Image.new("RGB", (200, 100), colour) for colour in ((250, 250, 0), (0, 0, 250))
    )
    ring = np.array([[20, 20], [180, 20], [180, 80], [20, 80], [20, 20]], float)
    draw(
        tmp_path / "a.png",
        overview,
        attention,
        title="a$_$b",  # not mathematics
        shading=shading([50]),
        um_per_px=8.0,
        tissue=[],
        annotated=[ring],
    )
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    yellow, blue, green = (
        np.abs(pixels - colour).max(2) < 12 for colour in ((250, 250, 0), (0, 0, 250), (0, 200, 83))
    )
    for plain, other in ((yellow, blue), (blue, yellow)):
        y, x = np.nonzero(plain)
        lines_y, lines_x = np.nonzero(
            green
            & (np.arange(pixels.shape[1]) >= x.min())
            & (np.arange(pixels.shape[1]) <= x.max())
        )
        wide = np.ptp(x) + 1
        tall = np.ptp(y) + 1
        assert wide == pytest.approx(2 * tall, abs=3)
        # The ring lies 10 % from the left and right edges, 20 % from the others, to a
        # pixel and half its width.
        assert lines_x.min() - x.min() == pytest.approx(0.1 * wide, abs=2.5)
        assert x.max() - lines_x.max() == pytest.approx(0.1 * wide, abs=2.5)
        assert lines_y.min() - y.min() == pytest.approx(0.2 * tall, abs=2.5)
        assert y.max() - lines_y.max() == pytest.approx(0.2 * tall, abs=2.5)
        assert not (plain & other).any()


def lines_drawn(path, **changes) -> list[tuple[float, float, str]]:
    """Left end, right end (both as shares of the width) and text of each line above the images."""
    texts = []
    write = Page.write

    def write_and_note(page, at, text, size, **options):
        left, upper, right, lower = write(page, at, text, size, **options)
        assert 0 <= upper < lower <= page.image.height
        # Captions and ticks are anchored elsewhere than at the top.
        if "anchor" not in options:
            texts.append((left / page.image.width, right / page.image.width, text))
        return left, upper, right, lower

    settings = {"shading": shading([50]), "um_per_px": 0.0, "tissue": [], "annotated": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "write", write_and_note)
        picture = Image.new("RGB", (400, 60))
        draw(path, picture, picture, **settings | changes)
    return texts


def test_no_line_above_the_images_is_cut(tmp_path):
    title = "TCGA-A1-A0SK-01Z-00-DX1.A44D70FA-4D96-43F4-9DD7-A61535786297   p(TUMOUR) = 0.8 " * 2
    note = "attention almost uniform (entropy share 0.993): colours show ranks"
    lines = lines_drawn(tmp_path / "a.png", title=title, note=note)
    assert len(lines) > 2
    assert " ".join(text for *_, text in lines[:-1]).split() == title.split()
    assert lines[-1][2] == note
    assert all(0 < left < right < 1 for left, right, _ in lines)


def test_without_a_caution_the_picture_is_no_taller(tmp_path):
    grey = Image.new("RGB", (200, 100))
    sizes = []
    for note in ("", "attention almost uniform"):
        draw(
            tmp_path / "a.png",
            grey,
            grey,
            title="t",
            shading=shading([50]),
            um_per_px=0.0,
            tissue=[],
            annotated=[],
            note=note,
        )
        with Image.open(tmp_path / "a.png") as picture:
            sizes.append(picture.size)
    assert sizes[0] == (1353, 385)
    assert sizes[1][1] > 385


def test_the_colours_are_those_of_inferno():
    expected = mpl.colormaps["inferno"](np.arange(256))[:, :3] * 255
    np.testing.assert_allclose(INFERNO, expected, atol=0.5)


def attention_map(*values) -> TileMap:
    return TileMap("attention", np.array(values), "", "share of the bag")


def effect_map(*values) -> TileMap:
    return TileMap("effect", np.array(values), "p_tumour", "log-odds")


@pytest.mark.parametrize(
    ("tile_map", "scale", "ends", "label"),
    [
        (attention_map(0.2, 0.8), "percentile", ("0", "100"), "percentile of attention within"),
        (attention_map(0.2, 0.8), "relative", ("0", "10"), "attention, times uniform (relative)"),
        (attention_map(0.2, 0.8), "raw", ("0", "0.8"), "attention, share of the slide (raw)"),
        (effect_map(-2.5, 1.0), "percentile", ("−2.5", "+2.5"), "on p(tumour), log-odds"),
        (effect_map(0.0, 0.004), "raw", ("−4", "+4"), "on p(tumour), log-odds × 10⁻³"),
    ],
)
def test_the_colour_bar_has_its_scale_beside_it(
    tmp_path, monkeypatch, tile_map, scale, ends, label
):
    ticks = {}
    labels = []
    write = Page.write

    def write_and_note(page, at, text, size, **options):
        if options.get("anchor") == "lm":
            ticks[text] = at[1]
        return write(page, at, text, size, **options)

    monkeypatch.setattr(Page, "write", write_and_note)
    monkeypatch.setattr(Page, "write_upwards", lambda *given: labels.append(given[3]))
    picture = Image.new("RGB", (300, 300), (200, 200, 200))
    settings = {"um_per_px": 0.0, "tissue": [], "annotated": []}
    colours = shading_of(tile_map, scale)
    draw(tmp_path / "a.png", picture, picture, title="t", shading=colours, **settings)
    with Image.open(tmp_path / "a.png") as page:
        drawn = np.asarray(page).astype(int)
    column = drawn[:, round((2 * 5.4 + 0.4 + 0.075) * 110)]
    for text, share in zip(ends, (0.0, 1.0), strict=True):
        inside = round(ticks[text]) + (3 if share else -3)
        end = colours.colours[-1 if share else 0].astype(int)
        np.testing.assert_allclose(column[inside], 255 + OPACITY / 255 * (end - 255), atol=8)
    assert label in " ".join(labels[0].split())


def test_signed_colours_are_symmetric_about_zero():
    found = shading_of(effect_map(-1.0, 0.0, 4.0, np.nan), "percentile")
    assert (found.low, found.high, found.tick(0.5)) == (-4.0, 4.0, "0")
    assert found.colours is DIVERGING
    shares = found.shares(np.array([-4.0, -1.0, 0.0, 1.0]))
    np.testing.assert_allclose(shares, [0, 0.375, 0.5, 0.625])
    expected = mpl.colormaps["RdBu_r"](np.linspace(0, 1, 255))[:, :3] * 255
    np.testing.assert_allclose(DIVERGING, expected, atol=3)
    # White is 0: no channel differs from another by more than the paper's.
    assert DIVERGING[127].tolist() == [0xF7] * 3
    assert shading_of(effect_map(0.0, 0.0), "raw").high == 1.0


def test_one_tile_far_from_the_others_leaves_them_their_colours():
    values = np.r_[np.tile([-0.5, 0.5], 100), 50.0]
    assert shading_of(effect_map(*values), "raw").high == 0.5


def test_an_outline_has_its_width_and_place():
    page = Page(2.0, 2.0)
    panel = page.show(Image.new("RGB", (100, 100), "white"), Place(0.5, 0.5, 1.0, 1.0))
    assert panel.box == (55, 55, 165, 165)
    page.outline(panel, [np.array([[20, 50], [80, 50]], float)], "#000000", 1.4)
    dark = 255 - np.asarray(page.image)[:, 110, 0].astype(float)
    # 1.4 points are 2.14 pixels, half way down; the edge is soft.
    assert dark.sum() / 255 == pytest.approx(2.14, abs=0.3)
    assert (dark * np.arange(220)).sum() / dark.sum() + 0.5 == pytest.approx(110, abs=0.5)
    # Left of the first corner there is nothing.
    assert np.asarray(page.image)[:, 55 + 20].min() == 255


@pytest.mark.parametrize("size", [(40, 30), (3000, 200), (200, 3000)])
def test_an_image_of_any_size_lies_in_the_middle_of_its_place(size):
    page = Page(4.0, 4.0)
    page.show(Image.new("RGB", size, "black"), Place(1.0, 1.0, 2.0, 2.0))
    y, x = np.nonzero(np.asarray(page.image)[..., 0] == 0)
    assert (x.min() + x.max() + 1) / 2 == pytest.approx(220, abs=1)
    assert (y.min() + y.max() + 1) / 2 == pytest.approx(220, abs=1)
    assert max(np.ptp(x), np.ptp(y)) + 1 == 220
