"""Damaged files that would end the process, or keep it busy, are one line."""

import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from mil.errors import UnreadableSlideError
from mil.io import guard
from mil.io.slides import SlideReader, first_look
from mil.io.slides.first_look import look_first
from mil.io.slides.levels import check_sizes
from mil.io.slides.soundness import impossible_blocks, is_sound
from mil.io.slides.tiff import TiffBlocks
from mil.io.slides.tiff_pages import orientation_of
from tests.io.slides.test_decoders import APERIO, drawn, write, write_ome
from tests.messages import one_line

PICTURE = drawn((256, 192))
HUGE = 0xF0000000


def overwrite(path: Path, tag: str, value) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value)


def claiming(path: Path, channels: int) -> Path:
    """A slide of which one tile of four claims 4 GB."""
    pixels = drawn((512, 512), channels)
    options = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **options)
    with tifffile.TiffFile(path) as file:
        counts = list(file.pages[0].databytecounts)
    overwrite(path, "TileByteCounts", [*counts[:-1], HUGE])
    return path


def test_a_tile_that_claims_4_gb_is_lost_alone(tmp_path):
    path = claiming(tmp_path / "a.tif", 3)
    assert not is_sound(path)
    with SlideReader(path) as reader:
        assert isinstance(reader.blocks(0), TiffBlocks)
        expected = drawn((512, 512))[:256, :256]
        np.testing.assert_array_equal(reader.read(0.0, 0.0, 256.0, 256), expected)
        with one_line(UnreadableSlideError, match="the file ends before"):
            reader.read(256.0, 256.0, 64.0, 64)


def test_tables_of_different_lengths_are_read_as_far_as_the_slide_goes(tmp_path):
    path = tmp_path / "a.tif"
    write(path, "zlib", picture=PICTURE, tile=64)
    with tifffile.TiffFile(path) as file:
        counts = list(file.pages[0].databytecounts)
    overwrite(path, "TileByteCounts", [*counts, 7, 7, 7])
    with SlideReader(path) as reader:
        assert isinstance(reader.blocks(0), TiffBlocks)
        assert reader.blocks(0).cut_off() == 0
        np.testing.assert_array_equal(reader.read(0.0, 0.0, 192.0, 192), PICTURE[:, :192])


@pytest.mark.parametrize("decoder", ["auto", "openslide"])
def test_openslide_is_not_asked_for_a_tile_that_claims_4_gb(tmp_path, decoder):
    path = claiming(tmp_path / "a.tif", 4)
    with one_line(UnreadableSlideError, match=r"claims 4026531840 bytes; the file is damaged"):
        SlideReader(path, decoder)


@pytest.mark.parametrize("name", [b"Sk\xff\xfew", b"\x80"])
def test_a_property_that_cannot_be_read_costs_no_other(tmp_path, name):
    path = tmp_path / "a.svs"
    text = APERIO.format(256, 192, 64) + "|LineCamera = 1|Filename = CMU-1"
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    tifffile.imwrite(path, PICTURE, description=text, maxworkers=1, **options)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"LineCamera", name.ljust(10, b"x")))
    with SlideReader(path) as reader:
        assert reader.resolution().mpp == 0.499
        assert reader.properties["aperio.Filename"] == "CMU-1"


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (2**31 - 1, 2**31 - 1), (16, 6_357_008)])
def test_impossible_sizes_are_refused(tmp_path, size):
    with one_line(UnreadableSlideError, match=f"claims a level of {size[0]} x {size[1]} px"):
        check_sizes(tmp_path / "a.tif", [(100, 100), size])
    # The largest scans are no mistake.
    check_sizes(tmp_path / "a.tif", [(400_000, 300_000)])


def test_a_file_that_claims_to_be_huge_is_one_line(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, tile=(64, 64), photometric="rgb", metadata=None)
    overwrite(path, "ImageWidth", 2**31 - 1)
    overwrite(path, "ImageLength", 2**31 - 1)
    with one_line(UnreadableSlideError):
        SlideReader(path)


def test_bounds_that_are_no_part_of_the_slide_count_as_none(tmp_path):
    write(tmp_path / "a.tif", "zlib", picture=PICTURE)
    names = [
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    ]
    with SlideReader(tmp_path / "a.tif") as reader:
        for values, part in [
            (["10", "20", "100", "50"], (10, 20, 100, 50)),
            (["10", "20", "9999", "50"], (10, 20, 246, 172)),
            (["-5", "20", "100", "50"], (0, 0, 100, 50)),
            (["ten", "", "0", "1e3"], (0, 0, 256, 192)),
        ]:
            reader.properties = dict(zip(names, values, strict=True))
            assert (*reader.origin_px, *reader.extent_px) == part


def test_a_directory_that_leads_back_is_not_followed_for_ever(tmp_path):
    path = tmp_path / "a.tif"
    write(path, "zlib", picture=PICTURE)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        last = file.pages[-1]
        end = last.offset + 2 + 12 * len(last.tags)
        assert data[end : end + 4] == b"\0\0\0\0"
        data[end : end + 4] = file.pages[0].offset.to_bytes(4, "little")
    path.write_bytes(data)
    assert not is_sound(path)
    with one_line(UnreadableSlideError, match="TIFF that OpenSlide does not take for a slide"):
        SlideReader(path)


def test_a_level_that_is_larger_than_the_slide_is_tried_out_first(tmp_path):
    path = tmp_path / "a.svs"
    write(path, "jpeg", picture=PICTURE, tile=64, aperio=True)
    assert is_sound(path)
    with tifffile.TiffFile(path) as file:
        width = file.pages[0].tags[322]
        height = file.pages[1].tags[257]
    data = bytearray(path.read_bytes())
    # Tiles of less than a pixel at the level's ratio, by which OpenSlide divides.
    data[width.valueoffset : width.valueoffset + 4] = (8).to_bytes(4, "little")
    data[height.valueoffset : height.valueoffset + 4] = (34_712).to_bytes(4, "little")
    path.write_bytes(data)
    assert not is_sound(path)
    with one_line(UnreadableSlideError, match="crash|claims|cannot|damaged"):
        SlideReader(path)


def test_openslide_is_not_asked_for_blocks_whose_sizes_are_not_known(tmp_path):
    path = tmp_path / "a.svs"
    write(path, "jpeg", picture=PICTURE, tile=64, aperio=True)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        width, counts = (file.pages[0].tags[number] for number in (322, 325))
    # Several widths of a tile: tifffile does not read on, OpenSlide takes the first.
    data[width.offset + 4 : width.offset + 8] = (2).to_bytes(4, "little")
    data[width.offset + 8 : width.offset + 12] = counts.valueoffset.to_bytes(4, "little")
    place = counts.valueoffset + 4 * (counts.count - 1)
    data[place : place + 4] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(data)
    assert impossible_blocks(path).endswith("claims 4026531840 bytes; the file is damaged")
    # A place that tifffile takes for none.
    data[counts.offset + 8 : counts.offset + 12] = (3).to_bytes(4, "little")
    path.write_bytes(data)
    assert impossible_blocks(path).endswith("the sizes of its blocks are missing")


@pytest.mark.parametrize(("size", "sound"), [("1", True), ("99", True), ("99999", False)])
def test_an_ome_tiff_that_claims_too_many_planes_is_tried_out_first(tmp_path, size, sound):
    path = tmp_path / "a.ome.tif"
    write_ome(path, PICTURE, 1, tile=(64, 64))
    # Of the same length, so that no other tag moves.
    old = b'DimensionOrder="XYCZT" Type="uint8"'
    new = f'SizeZ="{size}" Type="uint8"'.encode().ljust(len(old))
    path.write_bytes(path.read_bytes().replace(old, new).replace(b' SizeZ="1"', b" " * 10))
    assert is_sound(path) == sound


@pytest.mark.parametrize("compression", ["jpeg", "zlib", "lzw"])
def test_a_good_slide_needs_no_trial(tmp_path, monkeypatch, compression):
    monkeypatch.setattr(first_look, "run_guarded", None)
    write(tmp_path / "a.tif", compression, picture=PICTURE)
    SlideReader(tmp_path / "a.tif").close()


def test_a_trial_that_crashes_is_the_files_fault_and_is_made_once(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"no TIFF")
    with one_line(UnreadableSlideError, match=r"reading ends in a crash \(SIGABRT\)"):
        look_first(path, os.abort)
    marks = tmp_path / "marks"
    for _ in range(3):
        look_first(path, lambda: marks.open("a").write("x"))
    assert marks.read_text() == "x"


def test_what_a_trial_raises_is_left_to_this_process(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"no TIFF")
    look_first(path, lambda: 1 / 0)
    with one_line(UnreadableSlideError, match="not a slide that OpenSlide reads"):
        SlideReader(path)


def test_a_trial_that_computes_for_ever_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(first_look, "COMPUTING_S", 0.1)
    # The clock of a busy machine runs on while the loop waits for its turn.
    monkeypatch.setattr(guard, "PATIENCE", 1000.0)
    path = tmp_path / "a.bin"
    path.write_bytes(b"no TIFF")

    def for_ever() -> None:
        while True:
            pass

    with one_line(UnreadableSlideError, match="opening it takes over 0.1 s; the file is damaged"):
        look_first(path, for_ever)


@pytest.mark.parametrize(("kind", "count", "value"), [(2, 5, "text"), (3, 2, (1, 2))])
def test_an_orientation_that_is_no_number_is_upright(tmp_path, kind, count, value):
    path = tmp_path / "a.tif"
    tags = [(274, kind, count, value, True)]
    tifffile.imwrite(path, PICTURE, photometric="rgb", metadata=None, extratags=tags)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].tags[274].value == value
        assert orientation_of(file.pages[0]) == 1
