"""Masks that users drew: the right pixels from outlines and images; refusals in one line."""

from contextlib import suppress

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from shapely import MultiPolygon, Point, Polygon, box, contains_xy, make_valid

from mil.errors import FormatError
from mil.io import mask_images, regions
from mil.io.annotations import feature, write_geojson
from mil.io.regions import rasterise, read_mask
from mil.tile.outlines import outlines
from tests.messages import one_line

# A slide of 6000 x 4000 pixels whose scanned part is 3200 x 2400 at (1000, 800); a grid
# of 40 x 30 over that.
ORIGIN = (1000, 800)
EXTENT = (3200, 2400)
SIZE = (6000, 4000)
SHAPE = (30, 40)


def read(path, **changes) -> np.ndarray:
    given = {"origin_px": ORIGIN, "extent_px": EXTENT, "size_px": SIZE, "shape": SHAPE, **changes}
    return read_mask(path, **given)


def refused(path, **changes) -> str:
    with one_line(FormatError) as caught:
        read(path, **changes)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A mask of the grid."""
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def blob(shape=SHAPE, seed: int = 0) -> np.ndarray:
    """Several pieces with holes, some at the border."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2) > 0.02


corners = st.lists(st.tuples(st.floats(-10, 60), st.floats(-10, 60)), min_size=3, max_size=12)


@given(st.lists(corners, max_size=3))
def test_a_pixel_is_inside_when_its_centre_is(rings):
    shapes = [
        part
        for ring in rings
        for part in getattr(make_valid(Polygon(ring)), "geoms", [make_valid(Polygon(ring))])
    ]
    union = MultiPolygon()
    for part in shapes:
        union = union.union(part) if isinstance(part, Polygon) else union
    parts = MultiPolygon(
        [part for part in getattr(union, "geoms", [union]) if isinstance(part, Polygon)]
    )
    found = rasterise(parts, (5, -3), (1.7, 2.3), (25, 33))
    x, y = np.meshgrid(5 + (np.arange(33) + 0.5) * 1.7, -3 + (np.arange(25) + 0.5) * 2.3)
    expected = contains_xy(parts, x, y)
    near = np.array(
        [parts.boundary.distance(Point(a, b)) < 1e-9 for a, b in zip(x.flat, y.flat, strict=True)]
    )
    assert ((found == expected) | near.reshape(found.shape)).all()


def test_crossings_may_be_found_in_many_pieces(monkeypatch):
    disc = MultiPolygon(
        [Point(30, 20).buffer(15, quad_segs=64).difference(Point(30, 20).buffer(5))]
    )
    whole = rasterise(disc, (0, 0), (0.5, 0.5), (100, 120))
    assert whole.sum() / 4 == pytest.approx(disc.area, rel=0.01)
    monkeypatch.setattr(regions, "CROSSINGS", 7)
    np.testing.assert_array_equal(rasterise(disc, (0, 0), (0.5, 0.5), (100, 120)), whole)


def test_area_to_half_a_pixel_at_the_border(tmp_path):
    region = Polygon(box(1212, 933, 2977, 2310).exterior, [box(1500, 1200, 1900, 1777).exterior])
    write_geojson(tmp_path / "a.geojson", [feature(region, {})], ORIGIN)
    found = read(tmp_path / "a.geojson").sum() * 80 * 80
    assert abs(found - region.area) <= region.length * 80 / 2


def test_a_found_mask_comes_back_through_its_outline(tmp_path):
    mask = blob((150, 200))
    scale = EXTENT[0] / 200
    pieces = outlines(mask, scale, ORIGIN)
    write_geojson(
        tmp_path / "a.geojson",
        [feature(piece, {"objectType": "annotation"}) for piece in pieces],
        ORIGIN,
    )
    back = read(tmp_path / "a.geojson", shape=mask.shape, pitch_px=scale)
    border = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    assert not ((back != mask) & ~border).any()
    assert (back != mask).mean() < 0.01


def test_geojson_counts_from_the_scanned_part_unless_told(tmp_path):
    write_geojson(tmp_path / "a.json", [feature(box(800, 800, 1600, 1200), {})])
    np.testing.assert_array_equal(read(tmp_path / "a.json"), rectangle(10, 10, 20, 15))
    write_geojson(tmp_path / "b.geojson", [feature(box(1800, 1600, 2600, 2000), {})])
    np.testing.assert_array_equal(
        read(tmp_path / "b.geojson", geojson_frame="slide"), rectangle(10, 10, 20, 15)
    )


def test_asap_counts_from_the_slide(tmp_path):
    places = [(1800, 1600), (2600, 1600), (2600, 2000), (1800, 2000)]
    points = "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(places)
    )
    (tmp_path / "a.xml").write_text(
        f"<ASAP_Annotations><Annotation>{points}</Annotation></ASAP_Annotations>"
    )
    np.testing.assert_array_equal(read(tmp_path / "a.xml"), rectangle(10, 10, 20, 15))


def test_a_grid_whose_last_pixels_hang_over(tmp_path):
    write_geojson(tmp_path / "a.geojson", [feature(box(0, 0, 3200, 2400), {})])
    found = read(
        tmp_path / "a.geojson", pitch_px=90.0
    )  # 35.6 columns and 26.7 rows are on the slide
    np.testing.assert_array_equal(found, rectangle(0, 0, 36, 27))
    Image.new("L", (320, 240), 255).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", pitch_px=90.0), found)


def kinds_of_picture(mask: np.ndarray) -> dict[str, Image.Image]:
    value = Image.fromarray(mask.astype(np.uint8) * 3)
    palette = value.copy().convert("P")
    palette.putpalette([255, 255, 255] + [0, 0, 0] * 255)  # as QuPath exports labels: 0 is white
    clear = Image.merge(
        "RGBA",
        [Image.new("L", value.size, 200)] * 3 + [Image.fromarray(mask.astype(np.uint8) * 255)],
    )
    opaque = Image.merge("RGBA", [value, value, value, Image.new("L", value.size, 255)])
    blue = Image.merge("RGB", [Image.new("L", value.size), Image.new("L", value.size), value])
    deep = Image.fromarray(mask.astype(np.uint16) * 256)
    return {
        "bool": Image.fromarray(mask),
        "grey": value,
        "palette": palette,
        "clear": clear,
        "opaque": opaque,
        "blue": blue,
        "16 bit": deep,
    }


@pytest.mark.parametrize("kind", ["bool", "grey", "palette", "clear", "opaque", "blue", "16 bit"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_of_every_kind(tmp_path, kind, suffix, monkeypatch):
    monkeypatch.setattr(mask_images, "STRIP_PX", 7)
    mask = blob()
    kinds_of_picture(mask)[kind].save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}"), mask)


@pytest.mark.parametrize("times", [3, 7])
def test_a_finer_picture_is_sampled_and_a_coarser_one_enlarged(tmp_path, times):
    mask = blob()
    Image.fromarray(np.kron(mask, np.ones((times, times), bool))).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), mask)
    Image.fromarray(mask).save(tmp_path / "b.png")
    large = read(tmp_path / "b.png", shape=(30 * times, 40 * times))
    np.testing.assert_array_equal(large, np.kron(mask, np.ones((times, times), bool)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_proportion_says_what_a_picture_spans(tmp_path, suffix):
    whole = np.zeros((400, 600), bool)
    whole[160:200, 180:260] = True  # (1800, 1600) to (2600, 2000)
    Image.fromarray(whole).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}"), rectangle(10, 10, 20, 15))
    part = np.zeros((240, 320), bool)
    part[80:120, 80:160] = True
    Image.fromarray(part).save(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"b{suffix}"), rectangle(10, 10, 20, 15))


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((1000, 756), True),
        ((1000, 744), True),
        ((1000, 735), False),
        ((1000, 765), False),
        ((240, 320), False),
        ((37, 28), True),
    ],
)
def test_a_proportion_that_fits_neither(tmp_path, size, fits):
    Image.new("1", size, 1).save(tmp_path / "a.png")
    if fits:
        assert read(tmp_path / "a.png").all()
    else:
        assert (
            f"an image of {size[0]} x {size[1]} pixels has neither the proportion of the slide "
            "(6000 x 4000)" in (refused(tmp_path / "a.png"))
        )


def pyramid(path, levels, **options):
    """Write levels as pages of one tiled TIFF, as CAMELYON16's masks are."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in levels:
            file.write(level, tile=(64, 64), compression="zlib", metadata=None, **options)


def test_of_a_pyramid_the_coarsest_level_that_is_fine_enough(tmp_path):
    # Every level says something else, so that it shows which one was read.
    levels = [np.zeros((2400 // d, 3200 // d), np.uint8) for d in (2, 8, 40, 160)]
    for number, level in enumerate(levels):
        level[: len(level) * (number + 1) // 5] = 1
    pyramid(tmp_path / "a.tif", levels)
    for shape, level in {
        (30, 40): 2,
        (60, 80): 2,
        (61, 82): 1,
        (600, 800): 0,
        (14, 19): 3,
        (2400, 3200): 0,
    }.items():
        assert read(tmp_path / "a.tif", shape=shape).mean() == pytest.approx(
            (level + 1) / 5, abs=0.03
        )


def test_levels_below_the_first_page_and_pages_that_are_none(tmp_path):
    fine, coarse, label = (np.zeros(size, np.uint8) for size in ((240, 320), (60, 80), (60, 60)))
    coarse[20:30, 20:40] = 1
    label[:] = 1
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(fine, tile=(64, 64), subifds=1, metadata=None)
        file.write(coarse, tile=(64, 64), subfiletype=1, metadata=None)
        file.write(label, metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), rectangle(10, 10, 20, 15))


@pytest.mark.parametrize("how", ["planes", "pages", "strips"])
def test_any_channel_counts(tmp_path, how):
    mask = blob()
    channels = np.zeros((3, *SHAPE), np.uint16)
    channels[1] = mask * 500
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        if how == "planes":
            file.write(
                channels, planarconfig="separate", photometric="rgb", tile=(16, 16), metadata=None
            )
        elif how == "pages":
            for channel in channels:
                file.write(channel, metadata=None)
        else:
            file.write(
                np.moveaxis(channels, 0, -1), rowsperstrip=7, photometric="rgb", metadata=None
            )
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), mask)


def test_not_a_number_is_outside(tmp_path):
    values = np.where(blob(), 0.5, np.nan).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tiff", values, metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "a.tiff"), blob())


def test_a_large_tiff_is_read_block_by_block(tmp_path, monkeypatch):
    tifffile.imwrite(
        tmp_path / "a.tif", np.ones((240, 320), np.uint8), tile=(64, 64), metadata=None
    )
    largest = []
    inside = mask_images._inside
    monkeypatch.setattr(
        mask_images,
        "_inside",
        lambda pixels, **given: largest.append(pixels.size) or inside(pixels, **given),
    )
    assert read(tmp_path / "a.tif").all()
    assert (len(largest), max(largest)) == (20, 64 * 64)


def test_bombs_are_refused(tmp_path, monkeypatch):
    Image.new("1", (3200, 2400)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    assert "decompression bomb" in refused(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000_000)
    assert "decompression bomb" in refused(tmp_path / "a.png")
    tifffile.imwrite(
        tmp_path / "a.tif", np.ones((2400, 3200), np.uint8), rowsperstrip=2400, metadata=None
    )
    monkeypatch.setattr(mask_images, "LARGEST_BLOCK_BYTES", 5_000_000)
    assert "8 MB in one piece; save it as a tiled TIFF" in refused(tmp_path / "a.tif")
    monkeypatch.setattr(mask_images, "LARGEST_PX", 5_000_000)
    assert "it claims 3200 x 2400 pixels" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["empty", "text", "cut", "noise", "other"])
def test_damaged_pictures(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (240, 320), np.uint8)
    if suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        pyramid(path, [pixels])
    whole = path.read_bytes()
    spoilt = {
        "empty": b"",
        "text": b"not a picture",
        "cut": whole[: len(whole) // 2],
        "noise": whole[: len(whole) // 3]
        + rng.bytes(len(whole) // 3)
        + whole[2 * len(whole) // 3 :],
        "other": b"\xff\xd8\xff\xe0" + whole[4:],
    }[kind]
    path.write_bytes(spoilt)
    assert "not an image that can be read: " in refused(path)


@given(st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=20))
def test_a_tiff_with_any_bytes_changed_is_read_or_refused(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("fuzz") / "a.tif"
    pyramid(path, [np.ones((60, 80), np.uint8)])
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    with suppress(FormatError):
        assert read(path).shape == SHAPE


def test_what_is_no_mask(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert (
        "a mask is one of .xml, .annotations, .geojson, .json, .png, .tif, .tiff, not .jpg"
        in refused(tmp_path / "a.jpg")
    )
    for name in ("none.png", "none.tif", "none.geojson", "none.xml"):
        assert "o such file" in refused(tmp_path / name)
    (tmp_path / "a.geojson").write_text("{}")
    assert "not GeoJSON with polygons" in refused(tmp_path / "a.geojson")


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_written_as_outlines_and_read_again_is_the_same_mask(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(200, 300)), 4)
    mask = noise > 0.4 * noise.std()
    scale = 16.0
    origin = (1000, 500)
    pieces = MultiPolygon(
        [
            part
            for piece in outlines(mask, scale, origin)
            for part in getattr(piece, "geoms", [piece])
        ]
    )
    again = rasterise(pieces, origin, (scale, scale), mask.shape)
    assert int((again != mask).sum()) == 0


def test_directories_that_loop_and_very_many_of_them(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", rectangle(10, 10, 20, 15).astype(np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first = file.pages[0].offset
        end = first + 2 + 12 * len(file.pages[0].tags)
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    raw[end : end + 4] = first.to_bytes(4, "little")
    (tmp_path / "loop.tif").write_bytes(raw)
    assert "more than 200 directories, or they loop" in refused(tmp_path / "loop.tif")
    with tifffile.TiffWriter(tmp_path / "many.tif") as file:
        for _ in range(201):
            file.write(np.zeros((3, 4), np.uint8), contiguous=False, metadata=None)
    assert "more than 200 directories, or they loop" in refused(tmp_path / "many.tif")


def test_why_a_mask_is_empty(tmp_path):
    def why(name):
        return regions.why_empty(tmp_path / name, origin_px=ORIGIN, extent_px=EXTENT)

    write_geojson(tmp_path / "none.geojson", [])
    assert why("none.geojson") == "it outlines no area; it holds nothing"
    write_geojson(tmp_path / "far.geojson", [feature(box(9000, 0, 9100, 50), {})])
    assert why("far.geojson") == (
        "its regions lie beside the slide: x 10000 to 10100, y 800 to 850, the slide x 1000 to "
        "4200, y 800 to 3200"
    )
    write_geojson(tmp_path / "dot.geojson", [feature(box(0, 0, 1, 1), {})])
    assert why("dot.geojson") == "its regions are smaller than a pixel of the tissue mask"


def test_a_bad_outline_of_a_mask_is_left_out_and_named(tmp_path):
    (tmp_path / "a.geojson").write_text(
        '[{"geometry": {"type": "Polygon", "coordinates": [[[800, 800], [1600, 800], [1600, 1200], '
        '[800, 1200]]]}}, {"geometry": {"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]}}]'
    )
    np.testing.assert_array_equal(read(tmp_path / "a.geojson"), rectangle(10, 10, 20, 15))
    assert regions.faults_of(tmp_path / "a.geojson") == [
        "object 2: its outline has 2 corners, too few for an area"
    ]
    assert regions.faults_of(tmp_path / "a.png") == []


def test_a_png_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    Image.new("RGBA", (320, 240)).save(tmp_path / "a.png")
    monkeypatch.setattr(mask_images, "LARGEST_PNG", 320 * 240 * 4)
    assert not read(tmp_path / "a.png").any()
    monkeypatch.setattr(mask_images, "LARGEST_PNG", 320 * 240 * 4 - 1)
    assert "too much for a PNG; save it with one channel" in refused(tmp_path / "a.png")


def test_a_block_that_claims_more_than_the_file_is_one_line(tmp_path):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint8), tile=(32, 32), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["TileByteCounts"].overwrite([60_000] * 4)
    with one_line(FormatError, match="a block of it claims 60000 bytes"):
        read_mask(path, origin_px=(0, 0), extent_px=(64, 64), size_px=(64, 64), shape=(8, 8))
