"""Whoever decodes, the pixels are OpenSlide's; what only tifffile reads is what was written."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from mil.errors import MissingResolutionError, UnreadableSlideError
from mil.io.slides import SlideReader, draw_overview, tiff_decoders
from mil.io.slides.headers import claimed_size
from mil.io.slides.openslide_source import OpenSlideBlocks
from mil.io.slides.tiff import TiffBlocks
from tests.messages import one_line

SIZE = (700, 530)  # no multiple of any tile
APERIO = (
    "Aperio Image Library v12.0.15\r\n{0}x{1} [0,0 {0}x{1}] ({2}x{2}) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = 0.4990"
)
PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">\n'
    '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" '
    'PMSVR="IString">Philips</Attribute>\n'
    '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" '
    'PMSVR="IDataObjectArray"><Array>\n'
    '<DataObject ObjectType="DPScannedImage">\n'
    '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" '
    'PMSVR="IString">WSI</Attribute>{}\n'
    '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" '
    'PMSVR="IDataObjectArray">\n'
    "<Array>{}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
)
PHILIPS_LEVEL = (
    '<DataObject ObjectType="PixelDataRepresentation">\n'
    '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" '
    'PMSVR="IDoubleArray">"{0}" "{0}"</Attribute>\n'
    '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x1001" Element="0x8B02" '
    'PMSVR="IUInt16">{1}</Attribute>\n'
    "</DataObject>"
)
SPACING = (
    '<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"0.00025" "0.00025"</Attribute>'
)
SHARED = Path(__file__).parents[4] / "shared" / "data" / "wsi"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real slides are not here")


def drawn(size: tuple[int, int] = SIZE, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Colours that change over a few pixels, and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (size[1] // 12 + 2, size[0] // 12 + 2, channels), np.uint8)
    layers = [
        Image.fromarray(coarse[..., k]).resize(size, Image.Resampling.BICUBIC)
        for k in range(channels)
    ]
    picture = np.stack([np.asarray(layer).astype(int) for layer in layers], axis=-1)
    return (picture + rng.integers(-8, 8, picture.shape)).clip(0, 255).astype(np.uint8)


def cut(picture: np.ndarray, tile: int, encode: Callable[[np.ndarray], bytes]) -> Iterator[bytes]:
    for y in range(0, picture.shape[0], tile):
        for x in range(0, picture.shape[1], tile):
            part = picture[y : y + tile, x : x + tile]
            filled = np.pad(
                part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)), mode="edge"
            )
            yield encode(np.ascontiguousarray(filled))


def write(
    path: Path,
    compression: str | int | None,
    *,
    tile: int = 256,
    encode: Callable[[np.ndarray], bytes] | None = None,
    picture: np.ndarray | None = None,
    aperio: bool = False,
    photometric: str = "rgb",
    **more,
) -> None:
    """A pyramid of three levels, generic or Aperio's."""
    picture = drawn() if picture is None else picture
    height, width = picture.shape[:2]
    with tifffile.TiffWriter(path) as file:
        for number in range(3):
            level = np.ascontiguousarray(picture[:: 2**number, :: 2**number])
            if level.shape[2] == 1 and encode is None:
                level = level[..., 0]
            file.write(
                level if encode is None else cut(level, tile, encode),
                shape=level.shape,
                dtype=level.dtype,
                tile=(tile, tile),
                photometric=photometric,
                compression=compression,
                metadata=None,
                maxworkers=1,
                description=APERIO.format(width, height, tile) if aperio else None,
                subfiletype=0 if aperio else min(number, 1),
                **more,
            )


def whole(reader: SlideReader, number: int) -> np.ndarray:
    level = reader.levels[number]
    size = level.width_px, level.height_px
    extent = size[0] * level.downsample_x, size[1] * level.downsample_y
    return reader.read_box((0.0, 0.0), extent, size, level=number).astype(int)


def check_same(path: Path, *, fast: bool = True, vendor: str | None = None) -> None:
    """Both decoders give the same pixels, and the fast one is taken when it should be."""
    with SlideReader(path) as ours, SlideReader(path, "openslide") as theirs:
        assert vendor in (None, ours.vendor)
        for number in range(len(ours.levels)):
            assert isinstance(ours.blocks(number), TiffBlocks) == fast
            assert not isinstance(theirs.blocks(number), TiffBlocks)
            assert np.abs(whole(ours, number) - whole(theirs, number)).max() <= 1


def jpeg(colours: str, *, marker: bool = True) -> Callable[[np.ndarray], bytes]:
    """RGB or YCbCr in the stream; Aperio leaves the marker out that says which."""

    def encode(block: np.ndarray) -> bytes:
        sampling = None if colours == "rgb" else (2, 2)
        stream = imagecodecs.jpeg8_encode(
            block, 90, colorspace="rgb", outcolorspace=colours, subsampling=sampling
        )
        for start in (b"\xff\xee", b"\xff\xe0") if not marker else ():
            at = stream.find(start)
            if at >= 0:
                stream = (
                    stream[:at] + stream[at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big") :]
                )
        return stream

    return encode


def without_tables(stream: bytes) -> tuple[bytes, bytes]:
    """A JPEG's tables, and the rest."""
    tables = b""
    rest = b""
    at = 2
    while stream[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] in (0xDB, 0xC4):
            tables += stream[at:end]
        else:
            rest += stream[at:end]
        at = end
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + stream[at:]


def jpeg2000(colours: str) -> Callable[[np.ndarray], bytes]:
    def encode(block: np.ndarray) -> bytes:
        if colours == "ycbcr":
            block = np.asarray(Image.fromarray(block).convert("YCbCr"))
        return imagecodecs.jpeg2k_encode(block, level=50, codecformat="j2k", mct=colours == "rgb")

    return encode


LOSSLESS = {
    "none": (None, {}),
    "lzw": ("lzw", {}),
    "lzw with predictor": ("lzw", {"predictor": True}),
    "deflate": ("zlib", {}),
    "deflate with predictor": ("zlib", {"predictor": True}),
}


@pytest.mark.parametrize(
    ("kind", "aperio"),
    # Who made the file does not change how its blocks are decoded: Aperio's once.
    [
        *((kind, False) for kind in LOSSLESS),
        ("lzw with predictor", True),
        *(
            pytest.param(kind, True, marks=pytest.mark.slow)
            for kind in LOSSLESS
            if kind != "lzw with predictor"
        ),
    ],
)
def test_lossless(tmp_path, kind, aperio):
    compression, more = LOSSLESS[kind]
    write(tmp_path / "a.tif", compression, aperio=aperio, **more)
    check_same(tmp_path / "a.tif", vendor="aperio" if aperio else "generic-tiff")
    with SlideReader(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(whole(reader, 0), drawn())


@pytest.mark.parametrize("aperio", [False, True], ids=["generic", "aperio"])
@pytest.mark.parametrize("sampling", [(1, 1), (2, 1), (2, 2)], ids=["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_ycbcr(tmp_path, sampling, aperio):
    write(
        tmp_path / "a.tif",
        "jpeg",
        photometric="ycbcr",
        subsampling=sampling,
        compressionargs={"level": 90},
        aperio=aperio,
    )
    check_same(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("colours", "shared", "marker"),
    # Each pair of values of two of them is among the fast four.
    [
        pytest.param(
            colours,
            shared,
            marker,
            marks=pytest.mark.slow if (colours == "rgb") ^ shared ^ marker else (),
            id=f"{colours}-{('own', 'shared')[shared]} tables-{('plain', 'marked')[marker]}",
        )
        for colours in ("rgb", "ycbcr")
        for shared in (False, True)
        for marker in (False, True)
    ],
)
def test_jpeg_streams(tmp_path, colours, shared, marker):
    encode = jpeg(colours, marker=marker)
    tables = None
    more = (
        {"compressionargs": {"outcolorspace": "rgb"}}
        if colours == "rgb"
        else {"subsampling": (2, 2)}
    )
    if shared:
        tables, _ = without_tables(encode(drawn((256, 256))))
    write(
        tmp_path / "a.tif",
        "jpeg",
        photometric=colours,
        jpegtables=tables,
        aperio=True,
        encode=(lambda block: without_tables(encode(block))[1]) if shared else encode,
        **more,
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric.name == ("RGB" if colours == "rgb" else "YCBCR")
        assert (file.pages[0].jpegtables is not None) == shared
    check_same(tmp_path / "a.tif")
    with SlideReader(tmp_path / "a.tif") as reader:
        assert np.abs(whole(reader, 0) - drawn()).mean() < 12


def test_the_tag_says_which_colours_not_the_stream(tmp_path):
    write(
        tmp_path / "a.tif", "jpeg", photometric="ycbcr", encode=jpeg("rgb")
    )  # a lie: OpenSlide believes the tag
    check_same(tmp_path / "a.tif", fast=False)


@pytest.mark.parametrize("colours", ["rgb", "ycbcr"])
def test_jpeg_2000_of_aperio(tmp_path, colours):
    write(
        tmp_path / "a.svs",
        {"rgb": 33005, "ycbcr": 33003}[colours],
        encode=jpeg2000(colours),
        aperio=True,
    )
    check_same(tmp_path / "a.svs", vendor="aperio")
    with SlideReader(tmp_path / "a.svs") as reader:
        assert np.abs(whole(reader, 0) - drawn()).mean() < 4


@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
def test_grey(tmp_path, compression):
    write(tmp_path / "a.tif", compression, picture=drawn(channels=1), photometric="minisblack")
    check_same(tmp_path / "a.tif")


@pytest.mark.parametrize("extra", ["unspecified", "unassalpha", "assocalpha"])
def test_four_channels(tmp_path, extra):
    write(tmp_path / "a.tif", "zlib", picture=drawn(channels=4), extrasamples=[extra])
    with (
        SlideReader(tmp_path / "a.tif") as ours,
        SlideReader(tmp_path / "a.tif", "openslide") as theirs,
    ):
        assert np.abs(whole(ours, 0) - whole(theirs, 0)).max() <= 1  # whoever reads it


def test_colours_stored_apart_are_left_to_openslide(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(
            np.moveaxis(drawn(), -1, 0),
            planarconfig="separate",
            photometric="rgb",
            tile=(256, 256),
            metadata=None,
        )
    check_same(tmp_path / "a.tif", fast=False)


@pytest.mark.parametrize("tile", [pytest.param(16, marks=pytest.mark.slow), 240, 256, 512, 1024])
@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_tile_sizes(tmp_path, tile, compression):
    write(tmp_path / "a.tif", compression, tile=tile)
    check_same(tmp_path / "a.tif")


@pytest.mark.parametrize("aperio", [False, True], ids=["generic", "aperio"])
@pytest.mark.parametrize("level", [0, 1])
def test_tiles_stored_as_nothing(tmp_path, aperio, level):
    path = tmp_path / "a.tif"
    write(path, "jpeg", tile=128, aperio=aperio)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[level]
        counts = list(page.databytecounts)
        counts[1] = counts[5] = counts[-1] = 0
        page.tags["TileByteCounts"].overwrite(counts)
    with SlideReader(path) as ours, SlideReader(path, "openslide") as theirs:
        assert isinstance(ours.blocks(level), TiffBlocks)
        for place in range(0, 128 * 4, 128):  # tile by tile: OpenSlide may refuse some
            down = ours.levels[level].downsample
            box = (place * down, 0.0), (128 * down, 128 * down), (128, 128)
            found = []
            for reader in (ours, theirs):
                try:
                    found.append(reader.read_box(*box, level=level).astype(int))
                except UnreadableSlideError:
                    found.append(np.zeros((128, 128, 3), int))
            assert np.abs(found[0] - found[1]).max() <= 1


def write_philips(path: Path, picture: np.ndarray, tile: int, levels: int, *, said: bool) -> None:
    """Pages are filled up to whole tiles, and only the XML knows how large the levels are."""
    text = "".join(PHILIPS_LEVEL.format(0.00025 * 2**k, k) for k in range(levels))
    text = PHILIPS.format(SPACING if said else "", text)
    base = np.pad(
        picture,
        [(0, -length % tile) for length in picture.shape[:2]] + [(0, 0)],
        constant_values=255,
    )
    with tifffile.TiffWriter(path) as file:
        for number in range(levels):
            level = base[:: 2**number, :: 2**number]
            level = np.pad(
                level,
                [(0, -length % tile) for length in level.shape[:2]] + [(0, 0)],
                constant_values=255,
            )
            file.write(
                level,
                tile=(tile, tile),
                photometric="ycbcr",
                compression="jpeg",
                metadata=None,
                maxworkers=1,
                software="Philips DP v1.0",
                description=text if number == 0 else None,
                subfiletype=min(number, 1),
            )


@pytest.mark.parametrize("missing", [False, True], ids=["all there", "empty tiles"])
def test_philips(tmp_path, missing):
    path = tmp_path / "a.tiff"
    write_philips(
        path, drawn((1500, 1100)), 256, 5, said=missing
    )  # the last levels are all one tile
    if missing:
        with tifffile.TiffFile(path, mode="r+") as file:
            for page in file.pages[:2]:
                counts = list(page.databytecounts)
                offsets = list(page.dataoffsets)
                counts[1] = counts[-1] = offsets[1] = offsets[-1] = 0
                page.tags["TileByteCounts"].overwrite(counts)
                page.tags["TileOffsets"].overwrite(offsets)
    with SlideReader(path) as reader:
        assert reader.vendor == "philips"
        assert [(level.width_px, level.height_px) for level in reader.levels[:3]] == [
            (1536, 1280),
            (768, 640),
            (384, 320),
        ]
        assert reader.resolution() == (
            pytest.approx(0.25),
            "openslide" if missing else "vendor text",
        )
    check_same(path, vendor="philips")


def test_a_decoder_that_disagrees_is_not_used(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", "jpeg")
    right = tiff_decoders._jpeg_decoder

    def two_greys_off(page):
        decode = right(page)
        return lambda data, index: np.clip(decode(data, index).astype(int) + 2, 0, 255).astype(
            np.uint8
        )

    def one_pixel_off(page):
        decode = right(page)
        return lambda data, index: np.roll(decode(data, index), 1, axis=1)

    for wrong in (two_greys_off, one_pixel_off, lambda page: lambda data, index: 1 / 0):
        monkeypatch.setattr(tiff_decoders, "_jpeg_decoder", wrong)
        with SlideReader(tmp_path / "a.tif") as reader:
            assert isinstance(reader.blocks(0), OpenSlideBlocks)
        check_same(tmp_path / "a.tif", fast=False)


def test_reading_beyond_the_edges_is_white_and_never_fails(tmp_path):
    write(tmp_path / "a.tif", "zlib")
    with SlideReader(tmp_path / "a.tif") as reader:
        for x in (-300, -50, 660, 705, 750, 2000):
            for y in (-300, -50, 500, 535, 600, 2000):
                expected = np.full((64, 64, 3), 255, np.uint8)
                left = max(x, 0)
                top = max(y, 0)
                right = min(x + 64, SIZE[0])
                bottom = min(y + 64, SIZE[1])
                if left < right and top < bottom:
                    expected[top - y : bottom - y, left - x : right - x] = drawn()[
                        top:bottom, left:right
                    ]
                np.testing.assert_array_equal(reader.read(float(x), float(y), 64.0, 64), expected)


OME = {
    "tiled": {"tile": (256, 256)},
    "tiled jpeg": {"tile": (256, 256), "compression": "jpeg"},
    "tiled lzw": {"tile": (240, 240), "compression": "lzw", "predictor": True},
    "one strip": {"rowsperstrip": SIZE[1]},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "jpeg 2000": {"tile": (256, 256), "compression": "jpeg2000"},
    "big": {"tile": (512, 512), "compression": "zlib"},
}


def write_ome(
    path: Path,
    picture: np.ndarray,
    levels: int = 3,
    *,
    mpp: float | None = 0.25,
    axes="YXS",
    **more,
) -> None:
    size = {} if mpp is None else {f"PhysicalSize{axis}": mpp for axis in "XY"}
    with tifffile.TiffWriter(path, ome=True, bigtiff=levels > 3) as file:
        more = {"photometric": "rgb", "maxworkers": 1, **more}
        file.write(picture, subifds=levels - 1, metadata={"axes": axes, **size}, **more)
        for number in range(1, levels):
            file.write(picture[:: 2**number, :: 2**number], subfiletype=1, metadata=None, **more)


@pytest.mark.parametrize("kind", OME)
def test_ome(tmp_path, kind):
    path = tmp_path / "a.ome.tif"
    picture = drawn()
    levels = 6 if kind == "big" else 3
    write_ome(path, picture, levels, **OME[kind])
    with SlideReader(path) as reader:
        assert reader.vendor == "ome-tiff"
        assert reader.resolution() == (0.25, "vendor text")
        assert [level.downsample for level in reader.levels] == [2**k for k in range(levels)]
        for number in range(levels):
            step = 2**number
            far = np.abs(whole(reader, number) - picture[::step, ::step])
            assert far.mean() < (20 if "jpeg" in kind else 1e-9)
        np.testing.assert_array_equal(
            np.asarray(draw_overview(reader, 1.0).image), whole(reader, 0)
        )


def test_ome_of_four_channels_and_without_a_size(tmp_path):
    picture = drawn(channels=4)
    write_ome(
        tmp_path / "a.ome.tif", picture, 1, mpp=None, tile=(256, 256), extrasamples=["unassalpha"]
    )
    with SlideReader(tmp_path / "a.ome.tif") as reader:
        opacity = picture[..., 3:].astype(float) / 255
        on_white = picture[..., :3] * opacity + 255 * (1 - opacity)
        assert np.abs(whole(reader, 0) - on_white).max() <= 0.5 + 1e-6
        with pytest.raises(MissingResolutionError, match="no pixel size"):
            reader.resolution()


REFUSED = {
    "16 bit": (drawn().astype(np.uint16) * 257, "YXS", {}, "only 8-bit RGB"),
    "planar": (
        np.ascontiguousarray(np.moveaxis(drawn(), -1, 0)),
        "SYX",
        {"planarconfig": "separate"},
        "8-bit RGB",
    ),
    "fluorescence": (
        np.moveaxis(drawn(channels=4), -1, 0),
        "CYX",
        {"photometric": "minisblack"},
        "only 8-bit RGB",
    ),
    "grey": (drawn(channels=1)[..., 0], "YX", {"photometric": "minisblack"}, "only 8-bit RGB"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_ome_that_is_no_rgb_slide_is_refused_in_one_line(tmp_path, kind):
    picture, axes, more, why = REFUSED[kind]
    write_ome(
        tmp_path / "a.ome.tif", np.ascontiguousarray(picture), 1, axes=axes, tile=(256, 256), **more
    )
    with one_line(UnreadableSlideError, match=why):
        SlideReader(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    ("tag", "value"), [("Compression", 52479), ("TileWidth", 60000), ("SamplesPerPixel", 1)]
)
def test_ome_that_lies_about_itself_is_refused_in_one_line(tmp_path, tag, value):
    path = tmp_path / "a.ome.tif"
    write_ome(path, drawn(), 1, tile=(256, 256))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value)
    with pytest.raises(UnreadableSlideError) as caught, SlideReader(path) as reader:
        whole(reader, 0)
    assert "\n" not in str(caught.value)


def test_ome_with_a_broken_text_is_read_without_its_size(tmp_path, capfd):
    path = tmp_path / "a.ome.tif"
    write_ome(path, drawn(), 2, tile=(256, 256))
    path.write_bytes(path.read_bytes().replace(b"<Image ID", b"<Image\0ID"))
    with SlideReader(path) as reader:
        np.testing.assert_array_equal(whole(reader, 0), drawn())
        with pytest.raises(MissingResolutionError):
            reader.resolution()
    assert capfd.readouterr() == ("", "")  # tifffile keeps quiet


def test_pieces_too_large_for_the_memory_are_refused(tmp_path):
    write(tmp_path / "a.tif", "zlib")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for tag in ("TileWidth", "TileLength", "ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(60000)
    with pytest.raises(UnreadableSlideError, match="stored in pieces of 13732 MB"):
        SlideReader(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(data)
    check_same(tmp_path / "a.tif")


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_a_block_that_claims_to_be_huge_is_not_made_room_for(codec, monkeypatch):
    block = np.zeros((64, 64, 3), np.uint8)
    claims = (60000).to_bytes(2, "big") if codec == "jpeg" else (60000).to_bytes(4, "big")
    if codec == "jpeg":
        stream = bytearray(jpeg("ycbcr")(block))
        at = stream.find(b"\xff\xc0") + 5
    else:
        stream = bytearray(jpeg2000("rgb")(block))
        at = stream.find(b"\xff\x51") + 6
    stream[at : at + 2 * len(claims)] = claims * 2
    assert claimed_size(bytes(stream)) == (60000, 60000)


@needs_shared
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "small.svs", "boxes.tiff"])
def test_real_tiffs(tmp_path, name):
    check_same(Path(shutil.copy(SHARED / name, tmp_path)))


@needs_shared
@pytest.mark.parametrize(
    ("name", "size", "mpp"),
    [
        ("boxes_dicom/boxes_0.dcm", (16, 16), 0.499),
        (
            "camelyon_overview_jpeg/multi_frame_jpeg_camelyon_challenge_image.dcm",
            (1152, 700),
            28.969,
        ),
        ("sm_image/sm_image.dcm", (50, 50), 0.499),
    ],
)
def test_dicom(tmp_path, name, size, mpp):
    shutil.copytree((SHARED / name).parent, tmp_path / "series")
    path = tmp_path / "series" / Path(name).name
    with SlideReader(path) as reader:
        assert (reader.vendor, reader.size_px) == ("dicom", size)
        assert reader.resolution() == (pytest.approx(mpp, rel=1e-3), "openslide")
        assert whole(reader, 0).std() > 0
    check_same(path, fast=False, vendor="dicom")
