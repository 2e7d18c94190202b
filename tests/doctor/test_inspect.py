"""The state, the facts and the warnings of one slide."""

import numpy as np
import pytest

from mil.config import TileConfig
from mil.errors import ConfigError, ReadingError
from mil.io.slides import SlideReader
from mil.tile import plan
from mil.tile.stage import run as tile
from tests.doctor.slides import aperio_slide, cut_slide, full_slide, look_at
from tests.io.slides.patterns import write_leica
from tests.io.slides.test_blocks_differ import turned
from tests.io.slides.test_images import LARGE, OTHER, SMALL, ome_of
from tests.messages import one_line
from tests.synthetic import glass, spoil_tile, stain, tissue_slide, write_slide

TILING = "224px_0.5mpp"


def test_a_good_slide(tmp_path):
    path = tmp_path / "a.tif"
    tissue_slide(path, (1024, 768), 0.5)
    finding = look_at(path)
    assert (finding.state, finding.reason, finding.warnings) == ("ok", "", [])
    assert (finding.vendor, finding.decoder, finding.format) == (
        "generic-tiff",
        "JPEG",
        "generic-tiff in JPEG",
    )
    assert finding.size_px == (1024, 768)
    assert finding.size_mm == pytest.approx((0.512, 0.384))
    assert [(level.width_px, level.downsample, level.cut_off) for level in finding.levels] == [
        (1024, 1, 0),
        (256, 4, 0),
    ]
    assert (finding.mpp, finding.mpp_source) == (pytest.approx(0.5), "openslide")
    at = finding.tilings[TILING]
    assert 0.04 < at.tissue_mm2 < 0.08  # of a box of 0.049 mm²
    # Corners and the last row of the grid (3 rows of 4 tiles), and that of the tissue.
    assert (at.level, at.excess, at.unreadable) == (0, pytest.approx(1), [])
    assert 7 <= at.tried <= 10


def make_bad(path, kind):
    if kind == "text":
        path.write_text("not a slide")
    elif kind == "glass":
        write_slide(path, glass((1024, 768)), 0.5)
    elif kind == "grey":
        picture = glass((1024, 768))
        where = np.zeros(picture.shape[:2], bool)
        where[200:600, 200:800] = True
        stain(picture, where)
        write_slide(path, picture[..., 1:2].repeat(3, axis=-1), 0.5)
    elif kind == "no mpp":
        tissue_slide(path, mpp=None)
    elif kind == "coarse":
        tissue_slide(path, mpp=1.5)
    elif kind == "small":
        tissue_slide(path, (200, 200), 0.5, levels=(1,))
    elif kind == "spoilt":
        full_slide(path, (512, 512))
        for index in range(4):
            spoil_tile(path, index)
    else:
        tissue_slide(path)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("text", "unreadable"),
        ("spoilt", "unreadable"),
        ("glass", "no_tissue"),
        ("grey", "no_tissue"),
        ("small", "too_small"),
        ("no mpp", "no_mpp"),
        ("coarse", "too_coarse"),
        ("good", "ok"),
    ],
)
def test_the_state_and_the_tiles_are_those_of_the_stage(tmp_path, kind, state):
    path = tmp_path / "a.tif"
    make_bad(path, kind)
    finding = look_at(path)
    geometry, count = tile(
        path, "a", tmp_path / "a.h5", tile_px=224, target_mpp=0.5, mpp=None, config=TileConfig()
    )
    assert finding.state == geometry.state == state
    if kind != "spoilt":  # what is said of a slide without a readable pixel differs
        assert finding.reason == geometry.reason
    assert ("its pixels are grey" in finding.reason) == (kind == "grey")
    if finding.tilings:
        assert finding.tilings[TILING].num_tiles == count
        assert (finding.tilings[TILING].tissue_mm2 or 0) == pytest.approx(geometry.tissue_mm2)


def test_a_slide_without_scale_and_without_pixels_is_unreadable(tmp_path):
    path = full_slide(tmp_path / "a.tif", (512, 512), mpp=None)
    for index in range(4):
        spoil_tile(path, index)
    assert look_at(path).state == "unreadable"


def test_without_tissue_a_slide_of_which_no_try_can_be_read_is_unreadable(tmp_path):
    path = full_slide(tmp_path / "a.tif", (512, 512))
    for index in range(4):
        spoil_tile(path, index)
    finding = look_at(path, tissue=False)
    assert (finding.state, finding.reason) == (
        "unreadable",
        "it opens, but none of the tiles tried can be decoded",
    )


def test_the_objective_power_stands_in_only_where_it_may(tmp_path):
    path = aperio_slide(tmp_path / "a.svs", "AppMag = 20")
    assert look_at(path).state == "no_mpp"
    allowed = look_at(path, objective_power=True)
    assert (allowed.state, allowed.mpp, allowed.mpp_source) == ("ok", 0.5, "objective power")
    doubtful = look_at(aperio_slide(tmp_path / "b.svs", "AppMag = 40|MPP = 0.5"))
    assert doubtful.warnings == [
        "its pixel size is 0.5 µm by openslide, but 0.25 by objective power; give the right one "
        "in the csv's `mpp`"
    ]
    assert look_at(aperio_slide(tmp_path / "c.svs", "AppMag = 40|MPP = 0.25")).mpp == 0.25


def test_what_was_learnt_before_the_fault_is_kept(tmp_path):
    path = tmp_path / "a.tif"
    tissue_slide(path, mpp=None)
    finding = look_at(path)
    assert (finding.vendor, len(finding.levels), finding.mpp, finding.size_mm) == (
        "generic-tiff",
        2,
        None,
        None,
    )


def test_slides_that_are_not_there(tmp_path):
    missing = look_at(tmp_path / "a.tif")
    assert (missing.state, missing.reason) == ("missing", f"no file {tmp_path / 'a.tif'}")
    later = look_at(tmp_path / "a.tif", url="demo:mini_01.tif")
    assert (later.state, later.reason) == ("not_fetched", "will come from demo:mini_01.tif")


def test_a_fault_of_ours_is_a_state_too(tmp_path, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(plan, "plan_tiles", broken)
    tissue_slide(tmp_path / "a.tif")
    finding = look_at(tmp_path / "a.tif")
    assert finding.state == "error"
    assert finding.reason.startswith("ZeroDivisionError: oh (test_inspect.py, line ")


def test_a_slide_cut_short_is_corrupt(tmp_path):
    path = cut_slide(tmp_path / "a.tif", 0.7)
    finding = look_at(path, tissue=False)
    assert finding.state == "corrupt_regions"
    # 16 blocks of 256 px lie row by row: the last of them are gone, and with them at
    # least the last row of tiles.
    lost = finding.levels[0].cut_off
    assert lost in (4, 5, 6)
    assert finding.levels[1].cut_off == 0
    assert finding.warnings[0] == (
        f"blocks of level 0 behind the end of the file: {lost}; it was truncated, copy it again"
    )
    assert "of 16 tiles cannot be read: the file ends before them" in finding.reason
    assert {y for _, y in finding.tilings[TILING].unreadable} >= {672}


def test_few_tiles_lost_are_a_warning(tmp_path):
    path = cut_slide(tmp_path / "a.tif", 0.995)
    finding = look_at(path, tissue=False, max_corrupt=0.2)
    assert finding.state == "ok"
    assert finding.warnings == [
        "blocks of level 0 behind the end of the file: 1; it was truncated, copy it again",
        "2 of 7 tiles tried cannot be read: (672, 672), (800, 800)",
    ]


def test_what_cannot_be_seen_is_corrupt_as_for_tile(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 1024), 0.5, levels=(1,), box_px=(0, 0, 512, 512))
    spoil_tile(tmp_path / "a.tif", 15)
    finding = look_at(tmp_path / "a.tif")
    assert finding.state == "corrupt_regions"
    assert finding.reason.endswith(" % of its area cannot be decoded at any level")


def test_damage_among_the_tissue_is_corrupt(tmp_path, monkeypatch):
    monkeypatch.setattr("mil.tile.checks.LARGEST_LOSS", 1.0)
    path = full_slide(tmp_path / "a.tif")
    spoil_tile(path, 15)  # the last block
    finding = look_at(path)
    assert finding.state == "corrupt_regions"
    assert finding.reason == "tiles that would be used cannot be read: (672, 672)"


def test_damage_on_the_glass_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("mil.tile.checks.LARGEST_LOSS", 1.0)
    path = tmp_path / "a.tif"
    tissue_slide(path, (1024, 1024), 0.5, levels=(1,), box_px=(0, 0, 512, 512))
    spoil_tile(path, 15)
    finding = look_at(path)
    assert finding.state == "ok"
    assert [w for w in finding.warnings if "tried cannot be read" in w] == [
        "2 of 9 tiles tried cannot be read: (672, 672), (800, 800)"
    ]


def test_doubts_are_told(tmp_path):
    tissue_slide(tmp_path / "fine.tif", (1200, 1200), 0.1, levels=(1,))
    assert any(
        "25 pixels for each that is used" in warning
        for warning in look_at(tmp_path / "fine.tif").warnings
    )
    tissue_slide(tmp_path / "a.tif", mpp=0.5)
    doubtful = look_at(tmp_path / "a.tif", mpp=0.25)
    assert (doubtful.mpp, doubtful.mpp_source) == (0.25, "table")
    assert (
        "its pixel size is 0.25 µm by the given `mpp`, but 0.5 by openslide and tiff tags"
        in doubtful.warnings[0]
    )


def test_without_tissue_the_whole_grid_counts(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    at = look_at(tmp_path / "a.tif", tissue=False).tilings[TILING]
    assert (at.num_tiles, at.tissue_mm2) == (12, None)


def test_each_tiling_is_looked_at(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    finding = look_at(tmp_path / "a.tif", tilings=((224, 0.5), (256, 0.2)))
    assert finding.tilings[TILING].state == "ok"
    assert finding.tilings["256px_0.2mpp"].state == "too_coarse"
    assert (finding.state, finding.mpp) == ("too_coarse", pytest.approx(0.5))
    assert "too coarse for tiles of 0.2" in finding.reason


def test_only_the_scanned_part_is_tried(tmp_path):
    path = tmp_path / "a.scn"
    write_leica(path, (2048, 1536), (3000, 2000), (8192, 8192))
    finding = look_at(path, tissue=False)
    assert (finding.vendor, finding.size_px, finding.scanned_px) == (
        "leica",
        (8192, 8192),
        (2048, 1536),
    )
    at = finding.tilings[TILING]
    # 448 px at level 0: 4 x 3 tiles; their coordinates count from the whole slide's
    # corner.
    assert (at.num_tiles, finding.state) == (12, "ok")
    assert np.array_equal(at.to_time[0], (3000, 2000))


def test_images_that_are_not_read_and_a_turned_slide_are_told(tmp_path):
    path = ome_of(tmp_path / "a.ome.tif", ("left", SMALL, 0.5), ("right", LARGE, 0.5))
    assert (
        look_at(path, tissue=False)
        .warnings[0]
        .endswith("is the slide; not read: 0 'left' (120 x 90 px)")
    )
    path = ome_of(tmp_path / "b.ome.tif", ("left", OTHER, 0.5), ("right", LARGE, 0.5))
    finding = look_at(path, tissue=False)
    assert finding.state == "several_images"
    assert "0 'left' (360 x 300 px), 1 'right' (400 x 300 px)" in finding.reason
    path = turned(tmp_path / "c.tif", 3)
    assert "its TIFF orientation is 3" in look_at(path, mpp=1.0, tissue=False).warnings[0]


def test_a_lost_disk_is_no_bad_mask(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif")

    def lost(*_):
        raise ReadingError("a.tif: reading stopped: Stale file handle; run again")

    monkeypatch.setattr(SlideReader, "read_box", lost)
    finding = look_at(tmp_path / "a.tif", tissue=False)
    assert finding.state == "reading_stopped"
    assert "run again" in finding.reason


def test_tiles_that_are_a_slip_are_no_fault_of_a_slide(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768))
    with one_line(ConfigError, match="set larger tiles"):
        look_at(tmp_path / "a.tif", tilings=((1, 0.1),), tissue=False, max_upsample=10.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error"), "cannot be read: Input/output error"),
        (OSError(24, "Too many open files"), "cannot be read: Too many open files"),
        (MemoryError(), "needs more memory than there is"),
    ],
)
def test_a_fault_of_the_machine_is_none_of_mil(tmp_path, monkeypatch, error, reason):
    def fail(path, **options):
        raise error

    (tmp_path / "a.tif").touch()
    monkeypatch.setattr("mil.doctor.inspect.SlideReader", fail)
    finding = look_at(tmp_path / "a.tif")
    assert (finding.state, finding.reason) == ("unreadable", reason)
