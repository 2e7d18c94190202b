"""Damage is an error where it lies and nowhere else; what is no slide says why in one line."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from mil.errors import MissingResolutionError, UnreadableSlideError
from mil.io.slides import SlideReader, draw_overview
from mil.io.slides.faults import check_file
from mil.io.slides.openslide_source import FUTILE_RETRIES, OpenSlideSource
from mil.io.slides.overview import HOLE_COLOUR
from mil.io.slides.tiff import TiffBlocks
from tests.synthetic import spoil_tile, tissue_slide, write_slide

BAD = Path(__file__).parents[4] / "shared" / "data" / "wsi_bad"
needs_shared = pytest.mark.skipif(not BAD.is_dir(), reason="the bad slides are not here")
TILE = 128


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def noisy(size: tuple[int, int] = (512, 512)) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (size[1], size[0], 3), np.uint8)


def place(path: Path, index: int) -> tuple[int, int]:
    with tifffile.TiffFile(path) as file:
        return file.pages[0].dataoffsets[index], file.pages[0].databytecounts[index]


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def zeros(path: Path) -> None:
    spoil_tile(path, 5)


def half_zeros(path: Path) -> None:
    offset, count = place(path, 5)
    overwrite(path, offset + count // 2, b"\0" * (count - count // 2))


def garbage(path: Path) -> None:
    offset, count = place(path, 5)
    overwrite(path, offset + count // 3, b"\xff\xd9garbage" * (count // 20))


def cut_short(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = list(file.pages[0].databytecounts)
        counts[5] //= 2
        file.pages[0].tags["TileByteCounts"].overwrite(counts)


def behind_the_end(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        offsets = list(file.pages[0].dataoffsets)
        offsets[5] = 2**32 - 5
        file.pages[0].tags["TileOffsets"].overwrite(offsets)


def endless(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = list(file.pages[0].databytecounts)
        counts[5] = 2**32 - 1
        file.pages[0].tags["TileByteCounts"].overwrite(counts)


def another_picture(width: int, height: int) -> Callable[[Path], None]:
    """A JPEG that is whole, but not as large as its place."""

    def damage(path: Path) -> None:
        picture = np.full((height, width, 3), 100, np.uint8)
        overwrite(path, place(path, 5)[0], simplejpeg.encode_jpeg(picture, quality=80))

    damage.__name__ = f"{width} x {height}"
    return damage


DAMAGE = [zeros, half_zeros, garbage, cut_short, behind_the_end, endless]
ALL = [(kind, compression) for kind in DAMAGE for compression in ("jpeg", "zlib", "lzw")]
ALL += [(another_picture(*size), "jpeg") for size in ((64, 64), (128, 64), (64, 128), (256, 256))]


@pytest.mark.parametrize(
    ("damage", "compression"), ALL, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_spoilt_block_is_an_error_and_its_neighbours_are_not(tmp_path, damage, compression):
    """Not grey, nor repeated pixels, which is what OpenSlide makes of half a block."""
    path = tmp_path / "a.tif"
    write_slide(
        path, noisy(), 0.25, (1, 2), tile=TILE, compression=compression
    )  # the last level must be whole
    with SlideReader(path) as reader:
        whole = reader.read(0.0, 0.0, 512.0, 512)
    damage(path)
    with SlideReader(path) as reader:
        assert isinstance(reader.blocks(0), TiffBlocks)
        for index in range(16):
            y, x = (TILE * k for k in divmod(index, 4))
            if index == 5:
                with pytest.raises(
                    UnreadableSlideError, match=rf"pixels at \({x}, {y}\) cannot be decoded"
                ) as caught:
                    reader.read(float(x), float(y), 128.0, 128)
                one_line(caught)
            else:
                tile = reader.read(float(x), float(y), 128.0, 128)
                assert np.abs(tile.astype(int) - whole[y : y + TILE, x : x + TILE]).max() <= 1


@pytest.mark.parametrize("fails", [1, 2])
def test_what_fails_once_is_read_again_once(tmp_path, monkeypatch, fails):
    path = tmp_path / "a.tif"
    write_slide(path, noisy(), 0.25, tile=TILE)
    with SlideReader(path) as reader:
        assert isinstance(reader.blocks(0), TiffBlocks)
        pread = os.pread
        calls = []

        def flaky(*wanted):
            calls.append(wanted)
            if len(calls) <= fails:
                raise OSError(5, "Input/output error")
            return pread(*wanted)

        monkeypatch.setattr(os, "pread", flaky)
        if fails == 1:
            np.testing.assert_array_equal(
                reader.read(128.0, 128.0, 128.0, 128), noisy()[128:256, 128:256]
            )
        else:
            with pytest.raises(UnreadableSlideError, match="Input/output error"):
                reader.read(128.0, 128.0, 128.0, 128)
    assert len(calls) == 2


def test_a_short_read_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    write_slide(path, noisy(), 0.25, tile=TILE, compression=None)
    with SlideReader(path) as reader:
        assert isinstance(reader.blocks(0), TiffBlocks)
        pread = os.pread
        calls = []

        def short(file, count, offset):
            calls.append(count)
            return pread(file, count if len(calls) > 1 else count // 2, offset)

        monkeypatch.setattr(os, "pread", short)
        np.testing.assert_array_equal(
            reader.read(128.0, 128.0, 128.0, 128), noisy()[128:256, 128:256]
        )
    assert len(calls) == 2


def test_no_room_is_made_for_what_the_file_cannot_hold(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    write_slide(path, noisy(), 0.25, (1, 2), tile=TILE)
    endless(path)
    pread = os.pread
    asked = []
    monkeypatch.setattr(
        os, "pread", lambda file, count, offset: asked.append(count) or pread(file, count, offset)
    )
    with (
        SlideReader(path) as reader,
        pytest.raises(UnreadableSlideError, match="the file ends before byte 429"),
    ):
        reader.read(128.0, 128.0, 128.0, 128)
    assert max(asked) < path.stat().st_size


def spoil(path: Path, level: int, indices: range | None = None) -> None:
    with tifffile.TiffFile(path) as file:
        page = file.pages[level]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for index in indices or range(len(places)):
            offset, size = places[index]
            file.seek(offset)
            file.write(b"\0" * size)


def grey(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) == HOLE_COLOUR).all(-1)


@pytest.mark.parametrize("decoder", ["auto", pytest.param("openslide", marks=pytest.mark.slow)])
def test_a_picture_takes_what_is_damaged_from_finer_levels(tmp_path, decoder):
    path = tmp_path / "a.tif"
    write_slide(path, noisy((1024, 1024)), 0.25, (1, 4), tile=TILE)
    with SlideReader(path) as reader:
        whole = np.asarray(draw_overview(reader, 4.0).image).astype(int)
    spoil(path, 1, range(0, 1))
    with SlideReader(path, decoder) as reader:
        picture = draw_overview(reader, 4.0)
    assert picture.lost == 0
    assert not grey(picture.image).any()
    found = np.asarray(picture.image).astype(int)
    np.testing.assert_array_equal(found[140:], whole[140:])
    assert np.abs(found - whole).mean() < 3


def test_a_picture_whose_coarse_level_is_lost_comes_from_the_finest(tmp_path):
    path = tmp_path / "a.tif"
    write_slide(path, noisy((1024, 1024)), 0.25, (1, 4), tile=TILE)
    spoil(path, 1)
    with SlideReader(path) as reader:
        picture = draw_overview(reader, 4.0)
    assert picture.lost == 0
    assert not grey(picture.image).any()


@pytest.mark.parametrize("side", [16, 128, 512])
def test_a_slide_of_which_nothing_is_readable_has_no_picture(tmp_path, side):
    write_slide(tmp_path / "a.tif", noisy((side, side)), 0.25, tile=TILE)
    spoil(tmp_path / "a.tif", 0)
    with (
        SlideReader(tmp_path / "a.tif") as reader,
        pytest.raises(UnreadableSlideError, match="cannot be decoded"),
    ):
        draw_overview(reader, 1.0)


def test_holes_are_counted(tmp_path):
    path = tmp_path / "a.tif"
    write_slide(path, noisy((1024, 1024)), 0.25, (1, 4), tile=TILE)
    spoil(path, 1, range(0, 1))
    spoil(path, 0, range(0, 1))  # 128 of 1024 px, 32 of the picture's 256
    with SlideReader(path) as reader:
        picture = draw_overview(reader, 4.0)
    holes = grey(picture.image)
    assert picture.lost == pytest.approx(holes.mean(), abs=0.002)
    assert (32 / 256) ** 2 <= picture.lost <= (40 / 256) ** 2
    assert holes[:32, :32].all()
    assert not holes[40:].any()


@pytest.mark.slow
def test_a_slide_of_which_the_beginning_is_lost_is_still_shown(tmp_path):
    path = tmp_path / "a.tif"
    write_slide(path, noisy((2048, 2048)), 0.25, (1, 4), tile=TILE)
    spoil(path, 1, range(0, 12))
    spoil(path, 0, range(0, 16 * 12))
    with SlideReader(path) as reader:
        picture = draw_overview(reader, 2.0)
    assert 0.7 < picture.lost < 0.8
    assert not grey(picture.image)[-200:].any()


@pytest.mark.parametrize("decoder", ["auto", pytest.param("openslide", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "levels",
    [pytest.param((0,), marks=pytest.mark.slow, id="the finest"), pytest.param((0, 1), id="all")],
)
def test_a_slide_that_is_all_damage_is_given_up_soon(tmp_path, levels, decoder, monkeypatch):
    path = tmp_path / "a.tif"
    opened = []
    monkeypatch.setattr(
        OpenSlideSource,
        "_renew",
        lambda self, renew=OpenSlideSource._renew: opened.append(1) or renew(self),
    )
    write_slide(path, noisy((2048, 2048)), 0.25, (1, 4), tile=64, compression="jpeg")
    for level in levels:
        spoil(path, level)
    with SlideReader(path, decoder) as reader:
        if 1 in levels:
            with pytest.raises(UnreadableSlideError, match="cannot be decoded") as caught:
                draw_overview(reader, 2048 / 300)
            one_line(caught)
        else:
            assert draw_overview(reader, 2048 / 300).lost == 0
        for x in range(0, 2048, 64):
            for y in range(0, 2048, 64):
                with pytest.raises(UnreadableSlideError, match="cannot be decoded"):
                    reader.read(float(x), float(y), 64.0, 64)
    # What takes time is to open the slide again; without giving up each of the 1024 tiles does.
    assert len(opened) < 512


def test_openslide_tries_again_only_while_that_helps(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    write_slide(path, noisy((2048, 1024)), 0.25, (1, 2), tile=TILE)
    opened = []
    monkeypatch.setattr(
        OpenSlideSource,
        "_renew",
        lambda self, renew=OpenSlideSource._renew: opened.append(1) or renew(self),
    )
    with SlideReader(path, "openslide") as reader:
        spoil(path, 0, range(20, 80))
        for index in range(128):
            y, x = (128.0 * k for k in divmod(index, 16))
            if 20 <= index < 80:
                with pytest.raises(UnreadableSlideError):
                    reader.read(x, y, 128.0, 128)
            else:
                reader.read(x, y, 128.0, 128)
    assert len(opened) == 1 + 60 + FUTILE_RETRIES


def picture_file(path: Path, kind: str) -> None:
    Image.fromarray(noisy((64, 64))).save(path, kind)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.svs", b"slide")


def unknown_colours(path: Path) -> None:
    tifffile.imwrite(path, noisy(), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(999)


def half_tiff(path: Path) -> None:
    tifffile.imwrite(path, noisy(), photometric="rgb")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


NO_SLIDES = {
    "text.svs": (
        lambda path: path.write_text("slide,label\na,1\n" * 9),
        "not a slide that OpenSlide reads",
    ),
    "jpeg.svs": (lambda path: picture_file(path, "jpeg"), "not a slide but a JPEG image"),
    "png.tif": (lambda path: picture_file(path, "png"), "not a slide but a PNG image"),
    "gif.tif": (lambda path: picture_file(path, "gif"), "not a slide but a GIF image"),
    "pdf.ndpi": (lambda path: path.write_bytes(b"%PDF-1.7\n" * 99), "not a slide but a PDF"),
    "zip.mrxs": (archive, "not a slide but a ZIP archive; unpack it"),
    "gzip.svs": (
        lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(99)),
        "a gzip archive; unpack it",
    ),
    "hdf5.svs": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file"),
    "page.svs": (lambda path: path.write_text("<!DOCTYPE html><html>404</html>"), "a web page"),
    "page2.svs": (
        lambda path: path.write_text("\n  <!doctype HTML>\n<html>sign in</html>"),
        "a web page",
    ),
    "page3.svs": (
        lambda path: path.write_bytes(b"\xef\xbb\xbf<HTML><body>404</body>"),
        "a web page",
    ),
    "lfs.svs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"),
        "git lfs pull",
    ),
    "strips.tif": (
        lambda path: tifffile.imwrite(path, noisy(), photometric="rgb"),
        "its pixels lie in strips, .*; write it again with tiles of 512 px",
    ),
    "grey16.tif": (
        lambda path: tifffile.imwrite(path, noisy()[..., 0].astype(np.uint16)),
        "its pixels are 16-bit grey; only 8-bit RGB is read",
    ),
    "colours.tif": (unknown_colours, "its pixels are 8-bit of the unknown kind 999; only 8-bit"),
    "half.tif": (
        half_tiff,
        "cut short: a part of its pixels lies behind the end of the file",
    ),
    "head.tif": (
        lambda path: path.write_bytes(b"II*\0\x08\0\0\0"),
        "cut short: the list of its pages lies behind the end of the file",
    ),
    "empty.svs": (lambda path: path.touch(), r"an empty file \(0 bytes\)"),
    "folder.svs": (lambda path: path.mkdir(), "a folder, not a slide"),
    "none.svs": (lambda path: None, "no such file"),
    "dangling.svs": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "pipe.svs": (os.mkfifo, "neither a file nor a folder"),
    "x" * 300: (lambda path: None, "cannot be read: File name too long"),
}


@pytest.mark.parametrize("name", NO_SLIDES)
def test_what_is_no_slide_says_what_it_is(tmp_path, name, capfd):
    make, why = NO_SLIDES[name]
    make(tmp_path / name)
    with pytest.raises(UnreadableSlideError, match=why) as caught:
        SlideReader(tmp_path / name)
    assert one_line(caught).startswith(str(tmp_path / name))
    assert caught.value.state == "unreadable"
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def anybody():
    """Root may read everything: become nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_no_permission(tmp_path, request):
    tissue_slide(tmp_path / "a.tif")
    locked = tmp_path / "locked"
    locked.mkdir()
    shutil.copy(tmp_path / "a.tif", locked)
    (tmp_path / "a.tif").chmod(0)
    locked.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o711)
    request.getfixturevalue("anybody")
    for path in (tmp_path / "a.tif", locked / "a.tif"):
        with pytest.raises(
            UnreadableSlideError, match="cannot be read: Permission denied"
        ) as caught:
            SlideReader(path)
        one_line(caught)


def test_reading_errors_of_the_file_system_are_one_line(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif")

    def broken(*_, **__):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "open", broken)
    assert check_file(tmp_path / "a.tif") == "cannot be read: Stale file handle"


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 13).round(2))
def test_a_slide_cut_short_anywhere(tmp_path, share):
    """It does not open, or what is left of it is right."""
    path = tmp_path / "a.tif"
    write_slide(path, noisy((1024, 512)), 0.25, (1, 2), tile=TILE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    try:
        reader = SlideReader(path)
    except UnreadableSlideError as error:
        assert "cut short" in error.reason or "OpenSlide cannot open it" in error.reason  # noqa: PT017
        return
    with reader:
        for x in range(0, 1024, TILE):
            for y in range(0, 512, TILE):
                try:
                    tile = reader.read(float(x), float(y), 128.0, 128)
                except UnreadableSlideError:
                    continue
                np.testing.assert_array_equal(tile, noisy((1024, 512))[y : y + TILE, x : x + TILE])


EVERY = {
    "RGB-8bit.czi": "Unrecognized subblock dimension",
    "broken.svs": "cut short",
    "cmu_truncated_1MB.svs": "cut short",
    "kidney-48-5.tif": "its pixels lie in strips",
    "sm_image_jpegls/sm_image_jpegls.dcm": "transfer syntax",
    "small_dicom.dcm": "image flavor",
    "smalltif.tif": "only 8-bit RGB is read",
    "unopenable.tiff": "Unsupported TIFF compression: 52479",
    "unreadable.svs": "cannot be decoded",
}


@needs_shared
def test_every_bad_slide_is_known():
    assert {str(path.relative_to(BAD)) for path in BAD.rglob("*") if path.is_file()} == set(EVERY)


@needs_shared
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("decoder", ["auto", "openslide"])
def test_bad_slides_of_the_world(tmp_path, name, decoder, capfd):
    path = tmp_path / Path(name).name
    shutil.copy(BAD / name, path)
    with (
        pytest.raises(UnreadableSlideError, match=EVERY[name]) as caught,
        SlideReader(path, decoder) as reader,
    ):
        draw_overview(reader, 1.0)
    one_line(caught)
    assert capfd.readouterr() == ("", "")


def test_a_slide_without_a_size_opens_all_the_same(tmp_path):
    tissue_slide(tmp_path / "a.tif", mpp=None)
    with SlideReader(tmp_path / "a.tif") as reader:
        assert draw_overview(reader, 4.0).lost == 0
        with pytest.raises(MissingResolutionError) as caught:
            reader.resolution()
    one_line(caught)
