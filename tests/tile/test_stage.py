"""Tiling a slide: its tiles to the pixel, or its named state, and always all three files."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter
from scipy import ndimage
from shapely import box

from mil.config import TileConfig
from mil.errors import FormatError, MilError
from mil.io.annotations import feature, read_annotation, write_geojson
from mil.io.bags.advice import ADVICE
from mil.io.h5 import writing
from mil.io.slides import SlideReader
from mil.io.tiles import FLAG, Tiles, read_tiles
from mil.tile.stage import run
from tests.synthetic import glass, spoil_tile, stain, tissue_slide, write_aperio, write_slide

TILE_PX = 128
TARGET_MPP = 0.5


def picture_of(out: Path) -> np.ndarray:
    with Image.open(out.with_suffix(".jpg")) as picture:
        return np.asarray(picture.convert("RGB"))


def tile(
    slide: Path,
    mpp: float | None = None,
    tissue: Path | None = None,
    region: Path | None = None,
    **config: float,
) -> Tiles:
    out = slide.parent / "out" / "s1.h5"
    geometry, count = run(
        slide,
        "s1",
        out,
        tile_px=TILE_PX,
        target_mpp=TARGET_MPP,
        mpp=mpp,
        config=TileConfig(**config),
        tissue=tissue,
        region=region,
    )
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "grid",
        "s1.geojson",
        "s1.h5",
        "s1.jpg",
    ]
    assert [path.name for path in (out.parent / "grid").iterdir()] == ["s1.jpg"]
    assert json.loads(out.with_suffix(".geojson").read_text())["type"] == "FeatureCollection"
    assert picture_of(out).size > 3
    tiles = read_tiles(out)
    assert tiles.geometry == geometry
    assert len(tiles.coords) == count
    assert "\n" not in geometry.reason
    return tiles


@pytest.mark.parametrize("mpp", [0.25, 0.4942])
def test_tiles_are_those_of_the_tissue(tmp_path, mpp):
    side = TILE_PX * TARGET_MPP / mpp
    # tissue covers these tiles, and 4 % of their neighbours
    columns = 5
    rows = 3
    first = (1, 2)
    low = np.array(first) * side - 0.04 * side
    high = np.add(first, (columns, rows)) * side + 0.04 * side
    box = tuple(int(value) for value in (*np.rint(low), *np.rint(high)))
    size = round(side * 7.3), round(side * 6.5)
    tissue_slide(tmp_path / "a.tif", size, mpp, box_px=box, levels=(1, 4))
    tiles = tile(tmp_path / "a.tif")
    x = np.rint((first[0] + np.arange(columns)) * side)
    y = np.rint((first[1] + np.arange(rows)) * side)
    expected = np.stack([np.tile(x, rows), np.repeat(y, columns)], axis=1)
    geometry = tiles.geometry
    assert (geometry.state, geometry.reason, geometry.slide) == ("ok", "", "s1")
    np.testing.assert_array_equal(tiles.coords, expected)
    assert (tiles.tissue > 0.9).all()
    assert geometry.side_level0_px == pytest.approx(side, rel=1e-4)
    assert geometry.mpp_level0 == pytest.approx(mpp, rel=1e-4)
    assert (geometry.width_level0_px, geometry.height_level0_px) == size
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert geometry.tissue_mm2 == pytest.approx(area * mpp**2 / 1e6, rel=0.1)
    outline = read_annotation(tmp_path / "out" / "s1.geojson").everything()
    np.testing.assert_allclose(
        outline.bounds, box, atol=12 / mpp
    )  # 12 µm, what the mask is smoothed by
    assert outline.area == pytest.approx(area, rel=0.1)


def test_share_of_tissue_decides(tmp_path):
    side = 256
    box = (side, side, side * 3 + side // 2, side * 3)  # the last column holds half
    tissue_slide(tmp_path / "a.tif", (side * 5, side * 4), 0.25, box_px=box)
    few = tile(tmp_path / "a.tif", min_tissue=0.7)
    many = tile(tmp_path / "a.tif", min_tissue=0.3)
    assert (len(few.coords), len(many.coords)) == (4, 6)
    np.testing.assert_allclose(many.tissue.reshape(2, 3)[:, 2], 0.5, atol=0.1)


def test_the_grid_begins_where_the_scan_does(tmp_path, monkeypatch):
    origin = (300, 200)
    extent = (1200, 900)
    tissue_slide(tmp_path / "a.tif", (1600, 1200), 0.25, box_px=(540, 440, 1080, 980))
    monkeypatch.setattr(SlideReader, "origin_px", property(lambda _: origin))
    monkeypatch.setattr(SlideReader, "extent_px", property(lambda _: extent))
    tiles = tile(tmp_path / "a.tif")
    assert tiles.coords.tolist() == [[556, 456], [812, 456], [556, 712], [812, 712]]
    assert (tiles.geometry.origin_x_level0_px, tiles.geometry.origin_y_level0_px) == origin
    outline = read_annotation(tmp_path / "out" / "s1.geojson", origin).everything()
    np.testing.assert_allclose(outline.bounds, (540, 440, 1080, 980), atol=48)
    assert read_annotation(tmp_path / "out" / "s1.geojson").everything().bounds[0] == pytest.approx(
        240, abs=48
    )  # as QuPath counts
    assert picture_of(tmp_path / "out" / "s1.h5").shape[:2] == extent[::-1]


def test_the_tables_resolution_goes_before_the_slides(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.25)
    assert tile(tmp_path / "a.tif", mpp=0.5).geometry.side_level0_px == 128
    assert tile(tmp_path / "a.tif").geometry.side_level0_px == pytest.approx(256, rel=1e-4)


def test_twice_the_same_bytes(tmp_path):
    tissue_slide(tmp_path / "a.tif", mpp=0.5)
    made = []
    for _ in range(2):
        tile(tmp_path / "a.tif")
        made.append({path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")})
    assert made[0] == made[1]


def test_the_slide_need_not_say_its_scale_in_openslides_way(tmp_path):
    text = "Aperio Image Library v1\r\n1024x768|AppMag = 20|Note = no pixel size"
    picture = glass((1024, 768))
    where = np.zeros((768, 1024), bool)
    where[200:560, 260:760] = True
    stain(picture, where)
    write_aperio(tmp_path / "a.svs", picture, text)
    geometry = tile(tmp_path / "a.svs").geometry
    assert geometry.state == "no_mpp"
    assert "its objective power would mean 0.5 (tile.objective_power)" in geometry.reason
    geometry = tile(tmp_path / "a.svs", objective_power=True).geometry
    assert (geometry.state, geometry.mpp_level0, geometry.mpp_source) == (
        "ok",
        0.5,
        "objective power",
    )
    geometry = tile(tmp_path / "a.svs", mpp=0.4).geometry
    assert (geometry.mpp_level0, geometry.mpp_source, geometry.tissue_source) == (
        0.4,
        "table",
        "found",
    )


def test_tiles_are_judged(tmp_path):
    side = 256  # of a tile at 0.25 µm/px
    size = (10 * side, 8 * side)
    picture = glass(size)
    where = np.zeros((size[1], size[0]), bool)
    where[side : 7 * side, side : 9 * side] = True
    stain(picture, where)
    spots = ndimage.gaussian_filter(
        np.random.default_rng(1).normal(size=where.shape), 10
    )  # nuclei, some 8 µm wide
    picture[where & (spots > 1.2 * spots.std())] = (90, 50, 130)
    picture[2 * side : 5 * side, side : 3 * side] = (30, 60, 170)  # marker over tissue
    out_of_focus = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(32)))  # 8 µm
    picture[2 * side : 6 * side, 6 * side : 8 * side] = out_of_focus[
        2 * side : 6 * side, 6 * side : 8 * side
    ]
    write_slide(tmp_path / "a.tif", picture, 0.25, (1, 2, 4, 8), compression="jpeg")
    tiles = tile(tmp_path / "a.tif", min_tissue=0.05)
    assert set(tiles.quality) == {"pen", "blur", "fold", "blood", "black"}
    at = {(int(x) // side, int(y) // side): row for row, (x, y) in enumerate(tiles.coords)}
    pen = tiles.quality["pen"]
    blur = tiles.quality["blur"]
    assert (
        max(pen[at[3, row]] for row in (2, 3, 4)) > FLAG["pen"] or (2, 3) not in at
    )  # what is all ink is no tile
    assert pen[at[5, 4]] == 0
    assert blur[at[7, 4]] > FLAG["blur"] > blur[at[4, 1]]
    for values in tiles.quality.values():
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.slow
def test_flags_and_sheet_lie_right_where_the_scan_does_not_begin_at_the_corner(
    tmp_path, monkeypatch
):
    side = 256
    origin = (1024, 768)
    size = (14 * side, 11 * side)
    picture = glass(size)
    where = np.zeros((size[1], size[0]), bool)
    where[4 * side : 10 * side, 5 * side : 13 * side] = True
    stain(picture, where)
    ink = (5 * side, 6 * side, 8 * side, 8 * side)  # left, top, right, bottom
    picture[ink[1] : ink[3], ink[0] : ink[2]] = (30, 60, 170)
    write_slide(tmp_path / "a.tif", picture, 0.25, (1, 4), compression="jpeg")
    monkeypatch.setattr(SlideReader, "origin_px", property(lambda _: origin))
    monkeypatch.setattr(
        SlideReader, "extent_px", property(lambda _: (size[0] - origin[0], size[1] - origin[1]))
    )
    tiles = tile(tmp_path / "a.tif", min_tissue=0.0)
    inked = tiles.coords[tiles.quality["pen"] > FLAG["pen"]]
    low = np.array(ink[:2])
    high = np.array(ink[2:])
    assert len(inked) >= 4
    assert ((inked + side > low - 64) & (inked < high + 64)).all()
    plain = picture_of(tmp_path / "out" / "s1.h5").astype(int)
    with Image.open(tmp_path / "out" / "grid" / "s1.jpg") as file:
        sheet = np.asarray(file).astype(int)[-plain.shape[0] :, : plain.shape[1]]
    scale = tiles.geometry.overview_scale
    rows, columns = np.nonzero(np.abs(sheet - plain).max(-1) > 40)
    first = (tiles.coords.min(0) - origin) / scale
    last = (tiles.coords.max(0) + side - origin) / scale
    assert [columns.min(), rows.min()] == pytest.approx(first, abs=4)
    assert [columns.max(), rows.max()] == pytest.approx(last, abs=4)
    across = sheet[int((9.5 * side - origin[1]) / scale)]  # through tissue, below the ink
    green = np.flatnonzero((across[:, 1] > across[:, 0] + 40) & (across[:, 0] < 90))  # the outline
    assert green.min() * scale + origin[0] == pytest.approx(5 * side, abs=48)
    assert green.max() * scale + origin[0] == pytest.approx(13 * side, abs=48)


def test_a_lost_spot_does_not_hide_the_blur_of_its_neighbours(tmp_path):
    side = 256
    size = (8 * side, 6 * side)
    picture = glass(size)
    where = np.zeros((size[1], size[0]), bool)
    where[side : 5 * side, side : 7 * side] = True
    stain(picture, where)
    spots = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=where.shape), 10)
    picture[where & (spots > 1.2 * spots.std())] = (90, 50, 130)
    picture = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(32)))
    write_slide(tmp_path / "a.tif", picture, 0.25, (1, 4), compression="jpeg")
    whole = tile(tmp_path / "a.tif")
    with tifffile.TiffFile(
        tmp_path / "a.tif"
    ) as file:  # at 1 µm/px, where focus is judged; the picture is made from level 0
        page = file.pages[1]
        offset = page.dataoffsets[0]
        count = page.databytecounts[0]
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    hurt = tile(tmp_path / "a.tif")
    np.testing.assert_array_equal(hurt.coords, whole.coords)
    intact = ((hurt.coords + side) // 4 > 256 + 1).any(1) & ~((hurt.coords // 4 < 256).all(1))
    assert intact.any()
    assert (
        (hurt.quality["blur"][intact] > FLAG["blur"]).sum()
        == (whole.quality["blur"][intact] > FLAG["blur"]).sum()
        > 3
    )


def test_the_sheet_shows_outline_tiles_and_flags(tmp_path):
    box = tissue_slide(tmp_path / "a.tif", (1600, 1200), 0.25)
    tiles = tile(tmp_path / "a.tif")
    plain = picture_of(tmp_path / "out" / "s1.h5").astype(int)
    with Image.open(tmp_path / "out" / "grid" / "s1.jpg") as picture:
        sheet = np.asarray(picture).astype(int)
    margin = sheet.shape[0] - plain.shape[0]
    assert (sheet[:margin] < 100).any()  # the title
    changed = np.abs(sheet[margin:, : plain.shape[1]] - plain).max(-1) > 40
    rows, columns = np.nonzero(changed)
    assert [columns.min(), rows.min()] == pytest.approx(tiles.coords.min(0), abs=3)
    assert [columns.max(), rows.max()] == pytest.approx(tiles.coords.max(0) + 256, abs=3)
    left = changed[600, box[0] - 40 : box[0] + 40]  # the outline, between lines of the grid
    assert left.any()


@pytest.mark.slow
def test_a_slide_of_which_much_cannot_be_seen(tmp_path):
    tissue_slide(tmp_path / "a.tif", (2048, 2048), 0.5, levels=(1,))
    for index in (0, 1, 8):
        spoil_tile(tmp_path / "a.tif", index)
    tiles = tile(tmp_path / "a.tif")
    assert (tiles.geometry.state, len(tiles.coords)) == ("corrupt_regions", 0)
    share, rest = tiles.geometry.reason.split(" % ")
    assert 100 * 3 / 64 <= float(share) <= 100 * 3.5 / 64  # a seam around what is lost is lost too
    assert rest == "of its area cannot be decoded at any level"
    assert (
        picture_of(tmp_path / "out" / "s1.h5")[1024, 1024].min() < 235
    )  # what can be seen is shown


@pytest.mark.slow
def test_a_damaged_coarse_level_is_made_good_from_a_finer_one(tmp_path):
    tissue_slide(tmp_path / "a.tif", (4096, 3072), 0.25, levels=(1, 8))
    whole = tile(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[1].dataoffsets[0]
        count = file.pages[1].databytecounts[0]
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(place)
        file.write(b"\0" * count)
    np.testing.assert_array_equal(tile(tmp_path / "a.tif").coords, whole.coords)


def test_no_tissue(tmp_path):
    write_slide(tmp_path / "a.tif", glass((1024, 768)), 0.5)
    tiles = tile(tmp_path / "a.tif")
    assert (tiles.geometry.state, len(tiles.coords)) == ("no_tissue", 0)
    assert "0.000 mm² of tissue found" in tiles.geometry.reason
    assert tiles.geometry.mpp_level0 == pytest.approx(0.5, rel=1e-4)


def test_smaller_than_a_tile(tmp_path):
    tissue_slide(tmp_path / "a.tif", (200, 300), 0.25, box_px=(0, 0, 200, 300), levels=(1,))
    geometry = tile(tmp_path / "a.tif").geometry
    assert geometry.state == "too_small"
    assert geometry.reason == "the slide (200 x 300 px) is smaller than one tile (256 px)"


def test_no_resolution_still_shows_the_slide(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), None)
    geometry = tile(tmp_path / "a.tif").geometry
    assert geometry.state == "no_mpp"
    assert geometry.reason == (
        "no pixel size in OpenSlide's properties, TIFF tags or vendor's text; of 1024 x 768 px, "
        "it may be an overview"
    )
    picture = picture_of(tmp_path / "out" / "s1.h5")
    assert picture.shape == (768, 1024, 3)
    assert np.ptp(picture[384, 512].astype(int)) > 15  # tissue, in colour
    assert tile(tmp_path / "a.tif", mpp=0.5).geometry.state == "ok"


def test_too_coarse(tmp_path):
    tissue_slide(tmp_path / "a.tif", mpp=1.1)
    geometry = tile(tmp_path / "a.tif").geometry
    assert (geometry.state, "too coarse" in geometry.reason) == ("too_coarse", True)
    assert tile(tmp_path / "a.tif", max_upsample=2.5).geometry.state == "ok"


@pytest.mark.parametrize("kind", ["text", "truncated", "empty", "missing"])
def test_unreadable(tmp_path, kind):
    path = tmp_path / "a.tif"
    if kind == "truncated":
        tissue_slide(path, (1500, 1200), 0.5)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    elif kind == "text":
        path.write_text("not a slide")
    elif kind == "empty":
        path.touch()
    tiles = tile(path)
    assert (tiles.geometry.state, len(tiles.coords)) == ("unreadable", 0)
    assert tiles.geometry.reason
    assert str(tmp_path) not in tiles.geometry.reason


@pytest.mark.parametrize("width", [600, 603])
def test_the_mask_lies_right_on_a_narrow_slide_whose_overview_does_not_divide(tmp_path, width):
    tissue_slide(
        tmp_path / "a.tif", (width, 6144), 0.25, box_px=(0, 3000, width, 5400), levels=(1, 4)
    )
    tile(tmp_path / "a.tif")
    _, top, _, bottom = read_annotation(tmp_path / "out" / "s1.geojson").everything().bounds
    assert (top, bottom) == (pytest.approx(3000, abs=64), pytest.approx(5400, abs=64))


# Slides of 1536 x 1024 pixels at 0.25 µm/px have 6 x 4 tiles of 256 pixels; tissue
# covers 4 x 2 of them from (1, 1).
SIZE = (1536, 1024)
BOX = (256, 256, 1280, 768)


def outline(path: Path, *boxes: tuple[int, int, int, int]) -> Path:
    write_geojson(path, [feature(box(*one), {}) for one in boxes])
    return path


def places(tiles: Tiles) -> set[tuple[int, int]]:
    """Columns and rows of the tiles."""
    return {(round(x / 256), round(y / 256)) for x, y in tiles.coords}


def test_the_users_tissue_goes_before_what_would_be_found(tmp_path):
    tissue_slide(tmp_path / "a.tif", SIZE, 0.25, box_px=BOX)
    glass_too = outline(tmp_path / "t.geojson", (0, 0, 512, 256), (1280, 768, 1536, 1024))
    tiles = tile(tmp_path / "a.tif", tissue=glass_too)
    assert places(tiles) == {(0, 0), (1, 0), (5, 3)}
    assert tiles.geometry.tissue_mm2 == pytest.approx(3 * 0.064**2, rel=0.05)
    picture = np.zeros((128, 192), np.uint8)
    picture[64:96, 32:96] = 9
    Image.fromarray(picture).save(tmp_path / "t.png")
    assert places(tile(tmp_path / "a.tif", tissue=tmp_path / "t.png")) == {(1, 2), (2, 2)}


def test_tiles_only_inside_the_region(tmp_path):
    tissue_slide(tmp_path / "a.tif", SIZE, 0.25, box_px=BOX)
    everything = places(tile(tmp_path / "a.tif"))
    left = outline(tmp_path / "r.geojson", (0, 0, 768, 1024))
    tiles = tile(tmp_path / "a.tif", region=left)
    assert (
        places(tiles)
        == {(x, y) for x, y in everything if x < 3}
        == {(1, 1), (2, 1), (1, 2), (2, 2)}
    )
    kept = read_annotation(tmp_path / "out" / "s1.geojson").everything()
    assert kept.bounds == pytest.approx((256, 256, 768, 768), abs=48)
    both = tile(
        tmp_path / "a.tif", region=left, tissue=outline(tmp_path / "t.geojson", (512, 0, 1536, 512))
    )
    assert places(both) == {(2, 0), (2, 1)}


def test_the_outline_put_back_gives_the_same_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr(SlideReader, "origin_px", property(lambda _: (300, 200)))
    monkeypatch.setattr(SlideReader, "extent_px", property(lambda _: (1200, 800)))
    tissue_slide(tmp_path / "a.tif", SIZE, 0.25, box_px=(400, 300, 1400, 900), ellipse=True)
    first = tile(tmp_path / "a.tif")
    back = tmp_path / "back.geojson"
    back.write_bytes((tmp_path / "out" / "s1.geojson").read_bytes())
    second = tile(tmp_path / "a.tif", tissue=back)
    np.testing.assert_array_equal(second.coords, first.coords)
    np.testing.assert_allclose(second.tissue, first.tissue, atol=0.02)
    assert second.geometry.tissue_mm2 == pytest.approx(first.geometry.tissue_mm2, rel=0.02)
    (piece,) = json.loads(back.read_text())["features"]
    assert piece["properties"] == {
        "objectType": "annotation",
        "name": "Tissue",
        "isLocked": False,
        "classification": {"name": "Tissue", "color": [0, 150, 136]},
    }


def test_the_reason_names_the_file_that_left_nothing(tmp_path):
    tissue_slide(tmp_path / "a.tif", SIZE, 0.25, box_px=BOX)
    far = outline(tmp_path / "far.geojson", (5000, 0, 6000, 9))
    corner = outline(tmp_path / "corner.json", (0, 0, 90, 90))
    line = tmp_path / "line.geojson"
    line.write_text('{"type": "LineString", "coordinates": [[0, 0], [700, 0], [0, 0]]}')
    Image.new("1", (384, 256)).save(tmp_path / "black.png")
    beside = (
        "its regions lie beside the slide: x 5000 to 6000, y 0 to 9, the slide x 0 to 1536, "
        "y 0 to 1024"
    )
    mask = "the mask of the tissue"
    for given, reason in (
        ({"tissue": far}, f"{mask} far.geojson leaves nothing: {beside}"),
        ({"region": corner}, "the region corner.json leaves nothing: no tissue is in it"),
        ({"tissue": far, "region": corner}, f"{mask} far.geojson leaves nothing: {beside}"),
        (
            {"tissue": line},
            f"{mask} line.geojson leaves nothing: it outlines no area; it holds 1 LineString",
        ),
        (
            {"region": tmp_path / "black.png"},
            "the region black.png leaves nothing: all of its pixels on the slide are 0",
        ),
    ):
        geometry = tile(tmp_path / "a.tif", **given).geometry
        assert (geometry.state, geometry.reason) == ("empty_mask", reason)
    assert "outline the tissue" not in ADVICE["empty_mask"]


@pytest.mark.parametrize("kind", ["tissue", "region"])
@pytest.mark.parametrize("name", ["none.geojson", "bad.geojson", "bad.png", "narrow.png"])
def test_a_bad_mask_stops_the_slide_and_writes_nothing(tmp_path, kind, name):
    tissue_slide(tmp_path / "a.tif", SIZE, 0.25, box_px=BOX)
    for bad in ("bad.geojson", "bad.png"):
        (tmp_path / bad).write_text("bad")
    Image.new("1", (100, 300), 1).save(tmp_path / "narrow.png")
    with pytest.raises(FormatError, match=name):
        tile(tmp_path / "a.tif", **{kind: tmp_path / name})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.tif", "mask.h5", "bag.h5"])
def test_the_slide_a_mask_and_other_files_are_not_replaced(tmp_path, name):
    tissue_slide(tmp_path / "a.tif", SIZE, 0.25, box_px=BOX)
    outline(tmp_path / "mask.geojson", (0, 0, 500, 500))
    with writing(tmp_path / "bag.h5", "mil.bag", 3):
        pass
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MilError, match="would be lost"):
        run(
            tmp_path / "a.tif",
            "a",
            tmp_path / name,
            tile_px=TILE_PX,
            target_mpp=TARGET_MPP,
            mpp=None,
            config=TileConfig(),
            tissue=tmp_path / "mask.geojson",
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
