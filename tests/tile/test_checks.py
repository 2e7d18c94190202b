"""Slides that are too coarse for their tiles, in words that are true of each."""

import pytest

from mil.config import TileConfig, checked
from mil.errors import CoarseSlideError, ConfigError
from mil.io.bags.advice import ADVICE, ADVICE_WITHOUT_STUDY
from mil.io.slides import SlideReader
from mil.io.tiles import STATES, read_tiles
from mil.tile import grid
from mil.tile.checks import check_scale, remarks_of
from mil.tile.stage import run
from tests.io.slides.test_images import ome_of
from tests.messages import one_line
from tests.synthetic import glass, tissue_slide, write_slide

TARGET = 0.5


def check(path, mpp: float | None = None, max_upsample: float = 2.0) -> list[str]:
    with SlideReader(path) as reader:
        resolution = reader.resolution(mpp)
        check_scale(reader, resolution, TARGET, max_upsample)
        return remarks_of(reader, resolution)


@pytest.fixture(scope="module")
def overview(tmp_path_factory):
    """A section of 29 x 23 mm at 28.97 µm/px, which its tags state."""
    path = tmp_path_factory.mktemp("slides") / "overview.tif"
    write_slide(path, glass((1000, 800)), 28.97)
    return path


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """The same without tags."""
    path = tmp_path_factory.mktemp("slides") / "silent.tif"
    write_slide(path, glass((1000, 800)), None)
    return path


def test_an_overview_is_too_coarse(overview):
    with one_line(CoarseSlideError, match=r"28\.97 µm/px by openslide, too coarse for tiles of"):
        check(overview)
    assert check(overview, max_upsample=60.0) == []


@pytest.mark.parametrize("guess", [0.25, 0.5, 1.0])
def test_a_guess_does_not_make_a_scan_of_an_overview(overview, guess):
    with one_line(CoarseSlideError, match=r"but 28\.97 µm by openslide, .* 29 x 23 mm"):
        check(overview, guess)


def test_a_guess_for_an_overview_without_a_size_is_told(silent):
    assert check(silent, 0.5) == [
        "at 0.5 µm/px by the given `mpp` the whole slide is 0.5 x 0.4 mm; is it an overview, whose "
        "pixels are far larger?"
    ]


def test_a_size_that_makes_a_slide_of_metres_is_refused(silent):
    with one_line(CoarseSlideError, match=r"at 300 µm/px by the given `mpp` it would be 3e\+02"):
        check(silent, 300.0, max_upsample=1000.0)


@pytest.mark.parametrize("dpi", [1000, 2400])
def test_a_size_by_default_dots_per_inch_does_not_contradict(tmp_path, dpi):
    write_slide(tmp_path / "a.tif", glass((1000, 800)), 25400 / dpi)
    remarks = check(tmp_path / "a.tif", 0.5)
    assert remarks[0].startswith(
        f"its pixel size is 0.5 µm by the given `mpp`, but {25400 / dpi:.4g} by"
    )


def test_a_size_that_corrects_a_finer_or_slightly_coarser_one_is_taken(tmp_path):
    write_slide(tmp_path / "a.tif", glass((1000, 800)), 1.5)
    assert "but 1.5 by openslide" in check(tmp_path / "a.tif", 0.5)[0]
    assert "but 1.5 by openslide" in check(tmp_path / "a.tif", 0.9)[0]


def tile(path, out, **more):
    said = []
    settings = {"tile_px": 64, "target_mpp": TARGET, "mpp": None, "config": TileConfig(), **more}
    geometry, _ = run(path, "s", out / "s.h5", say=said.append, **settings)
    return geometry, said


def test_each_state_has_its_own_words(overview, silent, tmp_path):
    states = [tile(path, tmp_path)[0].state for path in (overview, silent)]
    assert states == ["too_coarse", "no_mpp"]
    assert "never a guess" in ADVICE["no_mpp"]
    assert "never a guess" in ADVICE_WITHOUT_STUDY["no_mpp"]
    assert "pixel size" not in ADVICE["too_coarse"]
    reachable = {*STATES} - {"ok"}
    assert reachable <= set(ADVICE_WITHOUT_STUDY)


def test_the_scene_is_kept_with_the_tiles_and_others_are_told(tmp_path):
    tissue_slide(tmp_path / "a.tif", (512, 384), 0.5, levels=(1,))
    with SlideReader(tmp_path / "a.tif") as reader:
        pixels = reader.read(0.0, 0.0, 384.0, 384)
    path = ome_of(
        tmp_path / "a.ome.tif", ("one", pixels[:100, :100].copy(), 0.5), ("two", pixels, 0.5)
    )
    geometry, said = tile(path, tmp_path)
    assert (geometry.width_level0_px, geometry.scene) == (384, "")
    assert said == [
        "tile s: image 1 'two' (384 x 384 px) of the file is the slide; not read: "
        "0 'one' (100 x 100 px)"
    ]
    geometry, said = tile(path, tmp_path, scene="one")
    assert (geometry.width_level0_px, said) == (100, [])
    assert read_tiles(tmp_path / "s.h5").geometry.scene == "one"


@pytest.mark.parametrize(("extent", "side"), [((3072, 2304), 1.0), ((100_000, 80_000), 20.0)])
def test_millions_of_tiles_are_a_slip(extent, side):
    with one_line(ConfigError, match=r"million, and at most 4 million are cut; set larger tiles"):
        grid.grid(extent, side)


def test_the_largest_sections_are_no_slip():
    assert len(grid.grid((300_000, 200_000), 224.0)) == 1339 * 892
    with one_line(ConfigError, match="size_px"):
        checked(TileConfig, {"size_px": 1}, "configs/config.yaml: tile")
