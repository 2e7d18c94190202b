"""Files of several images: the slide is the largest scan, never an overview that comes first."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mil.errors import SeveralImagesError
from mil.io.slides import SlideReader
from tests.io.slides.test_decoders import drawn, whole
from tests.messages import one_line

SMALL = drawn((120, 90), seed=1)
LARGE = drawn((400, 300), seed=2)
OTHER = drawn((360, 300), seed=3)


def ome_of(path: Path, *images: tuple[str, np.ndarray, float]) -> Path:
    """An OME-TIFF of images with a name and a pixel size, µm."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, pixels, mpp in images:
            size = {f"PhysicalSize{axis}": mpp for axis in "XY"}
            metadata = {"axes": "YXS", "Name": name, **size}
            file.write(pixels, tile=(64, 64), photometric="rgb", metadata=metadata)
    return path


def pages_of(path: Path, *images: tuple[np.ndarray, dict]) -> Path:
    """A plain TIFF of pages, each with options of tifffile."""
    with tifffile.TiffWriter(path) as file:
        for pixels, options in images:
            file.write(
                pixels, **{"tile": (64, 64), "photometric": "rgb", "metadata": None, **options}
            )
    return path


def check_read(path: Path, expected: np.ndarray, mpp: float | None = None, scene: str = "") -> list:
    with SlideReader(path, scene=scene) as reader:
        np.testing.assert_array_equal(whole(reader, 0), expected)
        if mpp is not None:
            assert reader.resolution().mpp == pytest.approx(mpp)
        return reader.remarks


def test_ome_the_largest_scan_is_the_slide_and_the_others_are_named(tmp_path):
    path = ome_of(tmp_path / "a.ome.tif", ("Scene 1", SMALL, 0.5), ("Scene 2", LARGE, 0.25))
    assert check_read(path, LARGE, 0.25) == [
        "image 1 'Scene 2' (400 x 300 px) of the file is the slide; not read: "
        "0 'Scene 1' (120 x 90 px)"
    ]
    assert check_read(path, SMALL, 0.5, "scene 1 ") == []
    assert check_read(path, SMALL, 0.5, "0") == []


@pytest.mark.parametrize(
    ("name", "mpp"), [("macro image", 0.25), ("Label_01", 0.25), ("Overview", 0.5), ("", 8.0)]
)
def test_ome_a_label_or_overview_is_never_the_slide(tmp_path, name, mpp):
    path = ome_of(tmp_path / "a.ome.tif", (name, LARGE, mpp), ("scan", SMALL, 0.25))
    assert check_read(path, SMALL, 0.25) == []


def test_several_large_images_are_refused_by_name(tmp_path):
    path = ome_of(tmp_path / "a.ome.tif", ("left", LARGE, 0.25), ("right", OTHER, 0.25))
    with one_line(SeveralImagesError) as caught:
        SlideReader(path)
    assert caught.value.state == "several_images"
    assert caught.value.reason == (
        "2 images may be the slide: 0 'left' (400 x 300 px), 1 'right' (360 x 300 px)"
    )
    check_read(path, OTHER, 0.25, "right")
    with one_line(SeveralImagesError, match=r"no image is named or numbered 'middle'; there are"):
        SlideReader(path, scene="middle")


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        ("Pra\u0308parat", "pr\u00e4parat"),  # accents written apart in the file
        ("Area\u00a0B\u200b", "area B"),  # letters that nobody sees
        ("x", "1.0"),  # as spreadsheets and pandas write whole numbers
        ("x", "1,0"),
    ],
)
def test_a_scene_is_named_as_tables_write_it(tmp_path, name, scene):
    path = ome_of(tmp_path / "a.ome.tif", ("left", LARGE, 0.25), (name, SMALL, 0.25))
    check_read(path, SMALL, 0.25, scene)


def test_images_of_one_name_are_chosen_by_number(tmp_path):
    path = ome_of(tmp_path / "a.ome.tif", ("area", LARGE, 0.25), ("area", OTHER, 0.25))
    with one_line(SeveralImagesError, match="2 images are named 'area'"):
        SlideReader(path, scene="area")
    check_read(path, OTHER, 0.25, "1")


@pytest.mark.parametrize("first", [{}, {"tile": None}], ids=["tiles", "strips"])
def test_an_overview_that_is_the_first_page_is_not_the_slide(tmp_path, first):
    path = pages_of(
        tmp_path / "a.tif",
        (SMALL, first),
        (LARGE, {"resolution": (4e4, 4e4), "resolutionunit": "CENTIMETER"}),
        (LARGE[::2, ::2], {"subfiletype": 1}),
    )
    remarks = check_read(path, LARGE, 0.25)
    assert remarks == ["image 1 (400 x 300 px) of the file is the slide; not read: 0 (120 x 90 px)"]
    with SlideReader(path) as reader:
        assert [level.downsample for level in reader.levels] == [1.0, 2.0]
        np.testing.assert_array_equal(whole(reader, 1), LARGE[::2, ::2])


def test_pages_of_one_size_are_refused_until_one_is_named(tmp_path):
    path = pages_of(tmp_path / "a.tif", (LARGE, {}), (LARGE[::-1].copy(), {}))
    with one_line(SeveralImagesError, match=r"2 images may be the slide: 0 \(400 x 300 px\), 1"):
        SlideReader(path)
    check_read(path, LARGE[::-1], scene="1")
    check_read(path, LARGE, scene="0.0")


def test_a_pyramid_is_one_image(tmp_path):
    pages = [(LARGE[::step, ::step], {"subfiletype": int(step > 1)}) for step in (1, 2, 4)]
    path = pages_of(tmp_path / "a.tif", *pages)
    assert check_read(path, LARGE) == []
    with SlideReader(path) as reader:
        assert len(reader.levels) == 3
    with one_line(SeveralImagesError, match="no image '1': it has one alone"):
        SlideReader(path, scene="1")


def test_a_label_among_the_levels_is_not_read(tmp_path):
    path = pages_of(
        tmp_path / "a.tif", (LARGE, {}), (drawn((100, 100), seed=4), {"subfiletype": 1})
    )
    with SlideReader(path) as reader:
        assert len(reader.levels) == 2
        assert reader.level_for(100.0) == 0
