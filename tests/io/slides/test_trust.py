"""Claims of a file are checked, and the system's faults are not blamed on the slide."""

import errno
import os
import threading

import imagecodecs
import numpy as np
import pytest
import tifffile

from mil.errors import ReadingError, UnreadableSlideError
from mil.io.slides import SlideReader, TileRequest, stream
from mil.io.slides.blocks import BlockCache, BlockError
from mil.io.slides.tiff import TiffBlocks
from tests.synthetic import write_slide

NOISE = np.random.default_rng(0).integers(60, 200, (512, 512, 3), np.uint8)
OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
    'Type="uint8" SizeX="512" SizeY="512" SizeC="3" SizeZ="1" SizeT="1" '
    'PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="Channel:0:0" '
    'SamplesPerPixel="3"/><TiffData FirstC="0" FirstZ="0" FirstT="0" IFD="0" PlaneCount="1">'
    '<UUID FileName="{name}">urn:uuid:{other}</UUID></TiffData></Pixels></Image></OME>'
)
UUIDS = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def test_an_ome_tiff_does_not_lead_to_other_files(tmp_path):
    for number, name in enumerate(("a.ome.tif", "b.ome.tif")):
        text = OME.format(own=UUIDS[number], other=UUIDS[1], name="b.ome.tif")
        pixels = NOISE if number == 0 else 255 - NOISE
        tifffile.imwrite(
            tmp_path / name,
            pixels,
            tile=(256, 256),
            photometric="rgb",
            description=text,
            metadata=None,
            ome=False,
        )
    with SlideReader(tmp_path / "a.ome.tif") as reader:
        np.testing.assert_array_equal(reader.read(0.0, 0.0, 512.0, 512), NOISE)  # its own


def test_a_table_of_tiles_that_is_too_short_is_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        NOISE,
        tile=(128, 128),
        photometric="rgb",
        ome=True,
        metadata={"axes": "YXS"},
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        page = file.pages[0]
    page.tags  # noqa: B018  read while open
    page.dataoffsets = page.dataoffsets[:3]
    with (
        (tmp_path / "a.ome.tif").open("rb", buffering=0) as file,
        pytest.raises(BlockError, match="fewer tiles"),
    ):
        TiffBlocks(page, file)


@pytest.mark.parametrize("compression", ["jpegxl", "webp", "png"])
def test_codecs_that_hide_their_size_are_not_read(tmp_path, compression):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        NOISE,
        tile=(256, 256),
        photometric="rgb",
        compression=compression,
        ome=True,
        metadata={"axes": "YXS"},
    )
    with pytest.raises(UnreadableSlideError, match="which is not read"):
        SlideReader(tmp_path / "a.ome.tif")


def test_jpeg_2000_without_a_header_where_it_belongs_is_not_decoded(tmp_path, monkeypatch):
    write = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg2000",
        "metadata": {"axes": "YXS"},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", NOISE, ome=True, **write)
    with SlideReader(tmp_path / "a.ome.tif") as reader:
        blocks = reader.blocks(0)
        data = blocks.fetch(0)
        assert blocks.decode(data, 0).shape == (256, 256, 3)
        monkeypatch.setattr(imagecodecs, "jpeg2k_decode", None)
        with pytest.raises(BlockError, match="no JPEG 2000 header"):
            blocks.decode(b"\0" * 600 + data, 0)


@pytest.mark.parametrize(("number", "states"), [(errno.ESTALE, None), (errno.EIO, [False] * 4)])
def test_a_lost_disk_is_not_the_slides_fault_but_a_bad_sector_is(
    tmp_path, monkeypatch, number, states
):
    write_slide(tmp_path / "a.tif", NOISE, 0.5, tile=256)
    coords = np.array([(x, y) for y in (0, 256) for x in (0, 256)])
    request = TileRequest(tmp_path / "a.tif", coords, 256.0, 256)
    with SlideReader(tmp_path / "a.tif") as reader:
        assert isinstance(reader.blocks(0), TiffBlocks)
    real = TiffBlocks.__init__
    read = os.pread

    def broken(self, *arguments):
        real(self, *arguments)
        self.fetch = lambda index: (_ for _ in ()).throw(OSError(number, os.strerror(number)))

    def agreed(*_):
        return True

    monkeypatch.setattr(TiffBlocks, "__init__", broken)
    monkeypatch.setattr("mil.io.slides.proof._agrees_with_openslide", agreed)
    if states is None:
        with pytest.raises(ReadingError, match=r"reading stopped.*run again"):
            list(stream([request], batch_size=4, workers=2))
    else:
        (batch,) = stream([request], batch_size=4, workers=2)
        assert batch.readable.tolist() == states
    assert os.pread is read


def test_nothing_scanned_is_white_not_damage(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        NOISE,
        tile=(256, 256),
        photometric="rgb",
        ome=True,
        metadata={"axes": "YXS"},
    )
    with SlideReader(tmp_path / "a.ome.tif") as reader:
        reader.blocks(0).counts[1] = 0
        tile = reader.read(0.0, 0.0, 512.0, 512)
    assert (tile[:256, 256:] == 255).all()
    np.testing.assert_array_equal(tile[256:], NOISE[256:])


def test_more_uses_than_expected_never_wait_for_each_other():
    cache = BlockCache(0)
    begun = threading.Event()
    go_on = threading.Event()
    block = np.zeros((4, 4, 3), np.uint8)
    cache.get("a", block.copy)
    cache.expect({"a": 1})

    def slow():
        begun.set()
        assert go_on.wait(10)
        return block.copy()

    cache._blocks.clear()
    cache._bytes = 0
    worker = threading.Thread(target=cache.get, args=("a", slow))
    worker.start()
    assert begun.wait(10)
    cache._count_use("a")  # of somebody who had the block before it was dropped
    go_on.set()
    worker.join(10)
    assert not worker.is_alive()


def test_expectations_add_up():
    cache = BlockCache(1000)
    for _ in range(2):
        cache.expect({"a": 1})
    cache.get("a", lambda: np.zeros((4, 4, 3), np.uint8))
    assert list(cache._blocks) == ["a"]
    cache.get("a", lambda: pytest.fail("decoded again"))
    assert list(cache._blocks) == []


def test_reasons_do_not_tell_where_the_slide_is(tmp_path):
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "a.vms").write_text(
        "[Virtual Microscope "
        "Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=nomap.jpg\n"
        "MapFile=nomap.jpg\nOptimisationFile=none.opt\nMacroImage=none.jpg\n"
    )
    with pytest.raises(UnreadableSlideError) as caught:
        SlideReader(folder / "a.vms")
    assert "secret" not in caught.value.reason
