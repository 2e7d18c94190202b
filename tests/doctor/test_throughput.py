"""Which slides are read to tell the time, and how the time follows."""

from dataclasses import replace

import numpy as np
import pytest

from mil.doctor.diagnosis import Diagnosis
from mil.doctor.findings import (
    EncoderFinding,
    LevelFinding,
    Rate,
    SlideFinding,
    TilingFinding,
)
from mil.doctor.throughput import choose

TILING = "224px_0.5mpp"
ENCODER = EncoderFinding("e", TILING, 8, "none", "file", True, "w.pth", 0, 0, "")


def slide(name, vendor, decoder, tiles):
    at = TilingFinding("ok", "", num_tiles=tiles, to_time=np.zeros((min(tiles, 2), 2), np.int32))
    levels = [LevelFinding(1, 1, 1.0, decoder, None)]
    return SlideFinding(name, "f", "ok", vendor=vendor, levels=levels, tilings={TILING: at})


SLIDES = [
    slide("a", "aperio", "JPEG", 10),
    slide("b", "aperio", "JPEG", 30),
    slide("c", "dicom", "OpenSlide", 20),
    slide("d", "aperio", "OpenSlide", 1),
    slide("e", "mirax", "OpenSlide", 5),
    slide("f", "leica", "OpenSlide", 0),
]


def test_the_largest_slide_of_each_format_is_timed():
    assert [slide.slide for slide in choose(SLIDES, TILING)] == ["b", "c", "e"]


@pytest.mark.parametrize(("encoders", "times"), [(1, 1), (2, 2)])
def test_each_format_takes_its_own_time(encoders, times):
    rates = [Rate("aperio in JPEG", "b", 64, 100.0), Rate("dicom through OpenSlide", "c", 64, 10.0)]
    finding = Diagnosis(
        "s", "d", "r", 1, True, SLIDES, [ENCODER] * encoders, {TILING: 66}, "", rates
    )
    # 40 tiles at 100/s, 20 at 10/s, and 6 at the mean of 0.01 and 0.1 s a tile.
    assert finding.seconds_to_read == pytest.approx(times * (0.4 + 2.0 + 6 * 0.055))
    assert replace(finding, rates=[]).seconds_to_read is None
