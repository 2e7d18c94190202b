"""A known polygon, lit up, lands on known pixels in picture, OME-TIFF and QuPath layer."""

import json

import numpy as np
import ome_types
import pytest
import shapely
import tifffile
from PIL import Image
from shapely import MultiPolygon, box
from shapely.geometry import shape

from mil.heatmap.colours import INFERNO
from mil.heatmap.page import Page
from mil.heatmap.scales import OPACITY, RELATIVE_TOP
from mil.tile.grid import footprint_px, grid
from tests.heatmap.bundles import PAPER, DrawnSlide, scores_of

LIT = 8.0


def grid_of_ours(mpp, origin, stride=1.0) -> DrawnSlide:
    """Tiles of a slide 6 by 5 tiles large and a bit, as `mil tile` places them, or overlapping."""
    side = footprint_px(224, 0.5, mpp)
    extent = int(6.3 * side), int(5.2 * side)
    step = side * stride
    usable = [int(length - side + step) for length in extent]
    coords = grid((usable[0], usable[1]), step, origin)
    return DrawnSlide(coords, side, mpp, origin, extent)


def of_two_pieces(mpp, origin) -> DrawnSlide:
    """Tiles that begin anew at each piece of tissue, as those of CLAM."""
    slide = grid_of_ours(mpp, origin)
    second = slide.coords[:, 0] > origin[0] + 3 * slide.side
    slide.coords = slide.coords + second[:, None] * np.array([90, 133], np.int32)
    inside = (slide.coords + slide.side <= np.add(origin, slide.extent)).all(1)
    slide.coords = slide.coords[inside]
    return slide


# By micrometres per pixel of level 0, of two scanners.
CASES = {
    "0.243": lambda: grid_of_ours(0.243, (0, 0)),
    "0.226, bounds": lambda: grid_of_ours(0.226, (1037, 411)),
    "half overlap": lambda: grid_of_ours(0.243, (0, 0), 0.5),
    "quarter overlap, bounds": lambda: grid_of_ours(0.226, (1037, 411), 0.75),
    "no grid": lambda: of_two_pieces(0.243, (213, 77)),
}


def lit_tiles(slide: DrawnSlide) -> np.ndarray:
    """The last row and column, and a block inside."""
    at = slide.coords - np.array(slide.origin)
    edge = (at == at.max(0)).any(1)
    block = ((at >= 1.4 * slide.side) & (at < 2.6 * slide.side)).all(1)
    return edge | block


def values_at(slide: DrawnSlide, values, points) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the tiles that cover each point, NaN where none does, and which points are
    within a pixel of level 0 of a tile's edge, where rounding decides."""
    points = points[:, None, :]
    low, high = slide.coords[None], slide.coords[None] + slide.side
    covers = ((points >= low) & (points < high)).all(2)
    near = np.minimum(np.abs(points - low), np.abs(points - high)).min((1, 2)) < 1
    with np.errstate(invalid="ignore"):
        return (covers * values).sum(1) / covers.sum(1), near


@pytest.fixture(scope="module", params=CASES)
def lit(request, tmp_path_factory):
    """Slide, relative attention, and the files drawn; places of the page's images."""
    slide = CASES[request.param]()
    raw = np.where(lit_tiles(slide), LIT, 1.0)
    attention = raw / raw.sum()
    panels = []
    show = Page.show
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "show", lambda *given: panels.append(show(*given)) or panels[-1])
        folder = tmp_path_factory.mktemp("lit")
        out = slide.draw(folder, scores_of(attention), scale="relative", kinds=["attention"])
    return slide, attention * len(attention), out, panels, request.param


def test_picture(lit):
    slide, values, out, panels, _ = lit
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    left, top, right, bottom = panels[1].box
    x, y = np.meshgrid(np.arange(left, right, 11), np.arange(top, bottom, 11))
    # Level-0 pixels of a pixel of the page.
    scale = slide.extent[0] / (right - left)
    corners = np.stack([x.ravel() - left, y.ravel() - top], 1)
    expected, _ = values_at(slide, values, slide.origin + (corners + 0.5) * scale)
    # Rounding moves an edge by half a pixel of the page, and shrinking spreads one more.
    shifts = [(-1.6, 0), (1.6, 0), (0, -1.6), (0, 1.6)]
    around = [
        values_at(slide, values, slide.origin + (corners + 0.5 + s) * scale)[0] for s in shifts
    ]
    sure = np.all([_same(one, expected) for one in around], axis=0)
    assert sure.mean() > 0.5
    table = (expected / RELATIVE_TOP * 256).clip(0, 255)
    covered = ~np.isnan(expected)
    colours = np.tile(np.array(PAPER, float), (len(expected), 1))
    colours[covered] += OPACITY / 255 * (INFERNO[table[covered].astype(int)] - colours[covered])
    found = pixels[y.ravel(), x.ravel()]
    np.testing.assert_allclose(found[sure], colours[sure], atol=5)


def _same(one, other) -> np.ndarray:
    return np.isclose(one, other) | (np.isnan(one) & np.isnan(other))


def test_raster(lit):
    slide, values, out, _, case = lit
    path = out.with_suffix(".ome.tiff")
    pixels = ome_types.from_tiff(path).images[0].pixels
    channels = tifffile.imread(path)
    assert [channel.name for channel in pixels.channels] == [
        "attention, times uniform",
        "attention, percentile",
    ]
    um = pixels.physical_size_x, pixels.physical_size_y
    place = np.array([pixels.planes[0].position_x, pixels.planes[0].position_y])
    rows, columns = channels.shape[1:]
    at = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), 2).reshape(-1, 2)
    points = slide.origin + (at * um + place) / slide.mpp
    expected, near = values_at(slide, values, points)
    found = channels[0].ravel()
    if case == "no grid":
        # Edges are rounded to a quarter of a tile: means of cells, not of points.
        assert um[0] == pytest.approx(slide.side * slide.mpp / 4)
        np.testing.assert_allclose(np.nanmax(found), np.nanmax(expected), rtol=1e-6)
        assert (np.isnan(found) == np.isnan(expected)).mean() > 0.9
        return
    assert not near.any()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # As large as the stride, or the part of a tile that all strides are made of.
    assert place.tolist() == [0, 0]
    share = {"half overlap": 2, "quarter overlap, bounds": 4}.get(case, 1)
    assert um == pytest.approx((slide.side * slide.mpp / share,) * 2)
    if share == 1:
        assert np.nansum(found) / len(values) == pytest.approx(1, rel=1e-6)


def test_layer(lit):
    slide, values, out, *_ = lit
    features = json.loads(out.with_suffix(".geojson").read_text())["features"]
    tiles = [one for one in features if one["properties"]["objectType"] == "tile"]
    measured = [one["properties"]["measurements"]["relative"] for one in tiles]
    np.testing.assert_allclose(measured, values, rtol=1e-5)
    shapes = [shape(one["geometry"]) for one in tiles]
    assert all(one.is_valid and one.exterior.is_ring for one in shapes)
    polygon = lit_polygon(slide)
    brightest = max(measured)
    found = shapely.union_all([s for s, v in zip(shapes, measured, strict=True) if v == brightest])
    assert found.symmetric_difference(polygon).area < 1e-4 * polygon.area


def lit_polygon(slide: DrawnSlide) -> MultiPolygon:
    first = slide.coords[lit_tiles(slide)] - np.array(slide.origin)
    return shapely.union_all([box(x, y, x + slide.side, y + slide.side) for x, y in first])


def test_contours(lit):
    """Of the tiles from percentile 80 on, in ranks of what is lit and what is not."""
    slide, values, out, *_ = lit
    features = json.loads(out.with_suffix(".geojson").read_text())["features"]
    contours = {
        one["properties"]["measurements"]["percentile"]: one
        for one in features
        if one["properties"]["objectType"] == "annotation"
    }
    # All lit tiles share one rank.
    rank = 100 - 50 * lit_tiles(slide).mean()
    assert list(contours) == [level for level in (80, 90, 95) if rank >= level]
    for one in contours.values():
        region = shape(one["geometry"])
        assert region.is_valid
        polygon = lit_polygon(slide)
        # The grid's edges are within half a pixel of the tiles' own.
        assert region.symmetric_difference(polygon).area < 0.6 * polygon.length
        measured = one["properties"]["measurements"]
        assert measured["tiles"] == lit_tiles(slide).sum()
        total = values[lit_tiles(slide)].sum() / len(values)
        assert measured["attention"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("mpp", "stride"), [(0.243, 0.5), (0.226, 1.0)])
def test_uniform_attention_is_constant(tmp_path, mpp, stride):
    slide = grid_of_ours(mpp, (300, 200), stride)
    count = len(slide.coords)
    out = slide.draw(tmp_path, scores_of(np.full(count, 1 / count)), scale="relative")
    relative = tifffile.imread(out.with_suffix(".ome.tiff"))[0]
    np.testing.assert_allclose(relative[~np.isnan(relative)], 1.0, rtol=1e-6)
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB"))[110:-20, 680:1200].reshape(-1, 3)
    table = np.array(PAPER) + OPACITY / 255 * (INFERNO[25].astype(int) - PAPER)
    tile = np.abs(pixels - table).max(1) <= 1
    plain = np.abs(pixels - np.array(PAPER)).max(1) <= 1
    # Besides edges of the whole, there is one colour.
    assert tile.mean() > 0.8
    assert (tile | plain).mean() > 0.99
