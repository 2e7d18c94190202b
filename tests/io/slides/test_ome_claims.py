"""An OME description that claims what no slide has is one line, at once."""

import re

import pytest
import tifffile

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader
from mil.io.slides.ome_claims import claimed_planes, impossible_claim
from mil.io.slides.soundness import is_sound
from tests.io.slides.test_decoders import drawn, write_ome
from tests.messages import one_line

PICTURE = drawn((256, 192))


def description(path):
    with tifffile.TiffFile(path) as file:
        return file.ome_metadata


def described(path, change):
    """A small OME-TIFF whose description is changed."""
    write_ome(path, PICTURE, 1, tile=(64, 64))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageDescription"].overwrite(change(file.ome_metadata))
    return path


def sized(**sizes):
    def change(text):
        for name, size in sizes.items():
            text = re.sub(f'{name}="[0-9]+"', f'{name}="{size}"', text)
        return text

    return change


def repeated(text):
    image = text[text.index("<Image") : text.index("</Image>") + len("</Image>")]
    return text.replace(image, image * 1001)


CLAIMS = {
    "times": (sized(SizeT=100_000_000), "over 1000000 planes"),
    "channels": (sized(SizeC=300_000_000), "over 1000000 planes"),
    "depths and times": (sized(SizeZ=100_000, SizeT=100_000), "over 1000000 planes"),
    "an axis twice": (
        lambda text: sized(SizeT=2000)(text).replace('"XYCZT"', '"XYCTT"'),
        "over 1000000 planes",
    ),
    "many axes": (lambda text: text.replace('"XYCZT"', f'"XYC{"Z" * 30}"'), "over 1000000 planes"),
    "a count": (
        lambda text: re.sub('PlaneCount="[0-9]+"', 'PlaneCount="2000000000"', text),
        "over 1000000 planes",
    ),
    "images": (repeated, "1001 images"),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_claim_that_no_slide_has_is_refused(tmp_path, kind):
    change, claim = CLAIMS[kind]
    path = described(tmp_path / "a.ome.tif", change)
    assert claim in impossible_claim(description(path))
    with one_line(UnreadableSlideError, match=f"its OME description claims {claim}"):
        SlideReader(path)


def test_a_plane_larger_than_any_page_is_tried_in_a_child(tmp_path):
    path = described(tmp_path / "a.ome.tif", sized(SizeX=10**9, SizeY=10**9))
    assert not is_sound(path)
    with one_line(UnreadableSlideError, match="memory"):
        SlideReader(path)


def test_planes_are_counted_as_tifffile_counts_them(tmp_path):
    path = described(tmp_path / "a.ome.tif", sized(SizeZ=7, SizeT=5))
    text = description(path)
    # Three channels are samples of one plane, and TiffData claims one page.
    assert claimed_planes(text, 256 * 192, 1) == 3 * 7 * 5 + 1
    assert claimed_planes(text.replace("7", "x"), 256 * 192, 1) == 3 * 5 + 1
    assert claimed_planes("<a", 1, 1) > 1e9
    assert impossible_claim(text) == ""


def test_a_slide_with_a_few_planes_and_images_is_no_such_claim(tmp_path):
    path = described(tmp_path / "a.ome.tif", lambda text: text)
    assert is_sound(path)
    with SlideReader(path) as reader:
        assert (reader.levels[0].width_px, reader.levels[0].height_px) == (256, 192)
