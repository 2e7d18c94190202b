"""What makes one doubt a slide, by itself."""

import pytest

from mil.doctor import warnings
from mil.doctor.findings import LevelFinding
from mil.io.slides import Level, Resolution
from mil.io.slides.resolution import sizes_disagree


@pytest.mark.parametrize(
    ("used", "stated", "warned"),
    [
        (("openslide", 0.25), {"openslide": 0.25, "objective power": 0.25}, ""),
        (
            ("openslide", 0.2265),
            {"openslide": 0.2265, "objective power": 0.25},
            "",
        ),  # as scanners are
        (("openslide", 0.25), {"openslide": 0.25, "tiff tags": 0.26}, ""),
        (("openslide", 0.25), {"openslide": 0.25, "tiff tags": 0.27}, "0.27 by tiff tags"),
        (
            ("openslide", 0.25),
            {"openslide": 0.25, "objective power": 0.5},
            "0.5 by objective power",
        ),
        (("table", 0.5), {"openslide": 0.25, "tiff tags": 0.25}, "0.25 by openslide and tiff tags"),
        (
            ("vendor text", 0.25),
            {"tiff tags": 352.778, "vendor text": 0.25},
            "",
        ),  # 72 dpi is what nobody means
        (("vendor text", 0.25), {"tiff tags": 0.001, "vendor text": 0.25}, ""),
        (("objective power", 0.25), {"objective power": 0.25}, ""),
    ],
)
def test_pixel_sizes_that_disagree(used, stated, warned):
    finding = sizes_disagree(Resolution(used[1], used[0]), stated)
    assert len(finding) == bool(warned)
    if warned:
        source = "the given `mpp`" if used[0] == "table" else used[0]
        assert finding[0] == (
            f"its pixel size is {used[1]} µm by {source}, but {warned}; give the right one in "
            "the csv's `mpp`"
        )


def test_pixels_that_are_not_square():
    level = Level(1000, 1000, 1.0, 1.0)
    stated = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}
    assert warnings.not_square(stated, [level]) == [
        "its pixels are not square: 0.25 by 0.5 µm by openslide"
    ]
    assert (
        warnings.not_square({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.2501"}, [level]) == []
    )
    assert warnings.not_square({}, [level, Level(250, 500, 4.0, 2.0)]) == [
        "level 1 is 4 times smaller across but 2 times down; it is not read"
    ]
    # 1001 by 999 px in 16 by 15: a pixel of rounding.
    assert warnings.not_square({}, [level, Level(16, 15, 62.6, 66.6)]) == []


@pytest.mark.parametrize(
    ("mpp", "downsample", "warned"),
    [
        (0.25, 2, ""),
        (0.25, 1, ""),  # 4 to 1, as in a pyramid that quarters
        (
            0.1,
            1,
            "no level near the tiles' 0.5 µm/px: they are read from 0.1 µm/px, 25 pixels for each",
        ),
        (0.25, 4, "its finest level has 1 µm/px: tiles of 0.5 µm/px are enlarged 2 times"),
        (0.51, 1, ""),
    ],
)
def test_levels_far_from_the_tiles(mpp, downsample, warned):
    finding = warnings.far_from_tiles(mpp, 0.5, float(downsample))
    assert len(finding) == bool(warned)
    assert not warned or finding[0].startswith(warned)


def test_blocks_behind_the_end():
    levels = [LevelFinding(10, 10, 1.0, "JPEG", 0), LevelFinding(5, 5, 2.0, "OpenSlide", None)]
    assert warnings.truncated(levels) == []
    levels.append(LevelFinding(2, 2, 4.0, "JPEG", 3))
    assert warnings.truncated(levels) == [
        "blocks of level 2 behind the end of the file: 3; it was truncated, copy it again"
    ]


def test_no_small_level():
    assert warnings.no_overview(Level(20_000, 20_000, 1.0, 1.0)) == []
    assert warnings.no_overview(Level(100_000, 90_000, 1.0, 1.0)) == [
        "no small level: 9.0 gigapixels are decoded to detect tissue"
    ]
