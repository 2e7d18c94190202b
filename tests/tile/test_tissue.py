"""The tissue mask: what is tissue, what is glass, pen or frame."""

import numpy as np
import pytest

from mil.tile.density import glass_colour
from mil.tile.tissue import find_tissue
from tests.synthetic import glass, stain

UM = 8.0  # micrometres per pixel
SIZE = (900, 700)  # a slide of 7.2 by 5.6 mm


def disc(area_mm2: float, centre: tuple[int, int] = (300, 300)) -> np.ndarray:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < area_mm2 / np.pi / (UM / 1000) ** 2


def mask_of(picture: np.ndarray, min_area_mm2: float = 0.02) -> np.ndarray:
    return find_tissue(picture, UM, min_area_mm2).tissue


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize(
    "colour", [(243, 242, 244), (255, 255, 255), (246, 238, 226), (215, 216, 214), (232, 238, 246)]
)
def test_glass_is_not_tissue_whatever_its_tint(colour):
    assert mask_of(glass(SIZE, colour=colour)).sum() == 0


@pytest.mark.parametrize("colour", [(243, 242, 244), (246, 238, 226), (215, 216, 214)])
@pytest.mark.parametrize("strength", [1.0, 0.35], ids=["usual", "pale"])
def test_tissue_is_found(colour, strength):
    picture = glass(SIZE, colour=colour)
    truth = disc(3.0)
    stain(picture, truth, strength=strength)
    assert overlap(mask_of(picture), truth) > 0.95


def test_a_slide_full_of_tissue():
    picture = glass(SIZE)
    stain(picture, np.ones(SIZE[::-1], bool))
    assert mask_of(picture).mean() > 0.99


@pytest.mark.parametrize(("area_mm2", "kept"), [(0.03, True), (0.005, False)])
def test_small_pieces_are_judged_in_square_millimetres(area_mm2, kept):
    picture = glass(SIZE)
    large = disc(3.0, (300, 300))
    small = disc(area_mm2, (750, 500))
    stain(picture, large | small)
    found = mask_of(picture)
    assert bool(found[small].mean() > 0.7) == kept
    assert bool(found[small].any()) == kept
    assert found[large].mean() > 0.99


INKS = {
    "blue": (40, 60, 170),
    "light blue": (90, 160, 220),
    "navy": (25, 60, 150),
    "green": (35, 130, 80),
    "dark green": (20, 90, 60),
    "black": (28, 28, 32),
    "nearly black": (45, 35, 55),
    "red": (200, 30, 45),
    "dark red": (160, 20, 40),
    "orange": (235, 120, 30),
    "yellow": (240, 210, 40),
    "purple": (110, 40, 150),
}


# Of the others some are drawn over tissue below; `-m slow` runs them all.
IN_EVERY_RUN = ("light blue", "dark green", "nearly black", "dark red", "yellow", "purple")


@pytest.mark.parametrize(
    "ink",
    [
        pytest.param(ink, id=name, marks=[] if name in IN_EVERY_RUN else pytest.mark.slow)
        for name, ink in INKS.items()
    ],
)
def test_pen_is_ink_and_not_tissue(ink):
    picture = glass(SIZE)
    truth = disc(2.0)
    stain(picture, truth)
    pen = np.zeros(SIZE[::-1], bool)
    pen[80:100, 100:800] = True  # a line
    pen[400:560, 640:800] = True  # a patch
    picture[pen] = ink
    found = find_tissue(picture, UM, 0.02)
    assert found.tissue[pen].mean() < 0.03
    assert overlap(found.tissue, truth) > 0.95
    assert found.ink[pen].mean() > 0.8
    assert found.ink[~pen].mean() < 0.002


@pytest.mark.parametrize("ink", ["blue", "green", "black", "red"])
def test_pen_over_tissue_is_ink(ink):
    picture = glass(SIZE)
    truth = disc(4.0)
    stain(picture, truth)
    pen = np.zeros(SIZE[::-1], bool)
    pen[280:320, 240:400] = True
    light = picture[pen] / 243 * np.array(INKS[ink]) / 243
    picture[pen] = (light * 243).astype(np.uint8)
    found = find_tissue(picture, UM, 0.02)
    assert found.ink[pen].mean() > 0.8
    assert found.tissue[pen].mean() < 0.1
    assert found.tissue[truth & ~pen].mean() > 0.95


def test_blood_and_a_blue_stain_are_tissue():
    picture = glass(SIZE)
    truth = disc(3.0)
    noise = np.random.default_rng(0).normal(1, 0.2, (*SIZE[::-1], 1))
    for density in ((0.12, 1.25, 0.9), (0.65, 0.4, 0.1)):
        picture[truth] = (243 * np.exp(-np.array(density) * noise))[truth]
        found = find_tissue(picture, UM, 0.02)
        assert overlap(found.tissue, truth) > 0.95
        assert not found.ink.any()


@pytest.mark.parametrize("um_per_px", [2.5, 8.0, 20.0])
@pytest.mark.parametrize("colour", [(243, 242, 244), (246, 238, 226)])
def test_a_faint_node_is_kept_beside_a_dark_one(um_per_px, colour):
    picture = glass(SIZE, colour=colour)
    faint = disc(2.0, (600, 400))
    dark = disc(2.0, (200, 200))
    stain(picture, faint, strength=0.15)
    stain(picture, dark, strength=1.5)
    found = find_tissue(picture, um_per_px, 0.002)
    assert overlap(found.tissue, faint | dark) > 0.93
    assert not found.second_try


def test_a_second_try_finds_the_faintest_and_says_so():
    picture = glass(SIZE)
    node = disc(0.12)
    stain(picture, node, strength=0.055)
    found = find_tissue(picture, UM, 0.02)
    assert found.second_try
    assert found.tissue[node].mean() > 0.7
    assert found.tissue[~node].mean() < 0.001


def test_a_second_try_leaves_what_was_found_as_it_is():
    picture = glass(SIZE)
    node = disc(0.1)
    stain(picture, node)
    found = find_tissue(picture, UM, 0.02)
    assert not found.second_try
    assert overlap(found.tissue, node) > 0.9


def test_needle_cores_and_fat_are_kept():
    picture = glass(SIZE)
    cores = np.zeros(SIZE[::-1], bool)
    fat = disc(6.0, (450, 450))
    for row in (40, 100, 160):
        cores[row : row + 38, 60:800] = True
    stain(picture, cores, strength=0.7)
    net = np.zeros_like(fat)
    net[::10], net[:, ::10] = True, True  # membranes around cells of 80 µm
    stain(picture, net & fat, strength=0.8)
    found = find_tissue(picture, UM, 0.02).tissue
    assert overlap(found, cores | fat) > 0.9


def shaded(colour: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Glass a third darker in the corners, in each channel to that power."""
    y, x = (np.linspace(-1, 1, side) for side in SIZE[::-1])
    light = 1 - 0.35 * (y[:, None] ** 2 + x**2) / 2
    return (glass(SIZE) * light[..., None] ** np.array(colour)).astype(np.uint8)


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (1.0, 1.06, 0.95)], ids=["grey", "coloured"])
def test_uneven_light_is_no_tissue_and_hides_none(colour):
    picture = shaded(colour)
    node = disc(3.0, (450, 350))
    assert not find_tissue(picture, UM, 0.02).tissue.any()
    stain(picture, node, strength=0.2)
    assert overlap(find_tissue(picture, UM, 0.02).tissue, node) > 0.95


def test_borders_lines_steps_and_padding_are_no_tissue():
    picture = glass(SIZE, colour=(240, 230, 215))
    picture[:, 300:] = picture[:, 300:] * 0.93  # a step of stitching
    picture[350:352] = picture[350:352] * 0.6  # a line
    for row in range(SIZE[1]):  # a coverslip's edge, its colours apart
        at = 100 + row // 7
        picture[row, at : at + 3] = (120, 130, 140), (110, 100, 110), (140, 130, 120)
    picture[:120], picture[:, 700:] = 255, 255
    found = find_tissue(picture, UM, 0.02)
    assert not found.tissue.any()
    assert not found.ink.any()


def test_a_section_on_black_is_found_and_the_black_is_neither():
    picture = glass(SIZE)
    truth = disc(6.0)
    stain(picture, truth)
    picture[~truth] = 0
    found = find_tissue(picture, UM, 0.02)
    assert overlap(found.tissue, truth) > 0.98
    assert found.ink.mean() < 0.001


@pytest.mark.parametrize("colour", [(243, 242, 244), (246, 238, 226), (200, 201, 199)])
def test_the_glass_is_this_slides_own(colour):
    picture = glass(SIZE, colour=colour)
    stain(picture, disc(20.0), strength=0.3)
    np.testing.assert_allclose(glass_colour(picture), colour, atol=2.5)
    picture[:, 500:] = 255  # padding
    np.testing.assert_allclose(glass_colour(picture), colour, atol=2.5)


@pytest.mark.parametrize(("side", "share"), [(50, 0.0), (50, 1.0), (1, 0.0), (2, 1.0)])
def test_pictures_smaller_than_the_smallest_piece(side, share):
    picture = glass((side, side))
    if share:
        stain(picture, np.ones((side, side), bool))
    assert find_tissue(picture, 2.0, 0.02).tissue.mean() == share


@pytest.mark.slow
@pytest.mark.parametrize("um_per_px", [2.0, 8.0])
def test_flips_and_turns_give_the_same_mask(um_per_px):
    picture = glass((800, 800))
    pen = np.zeros((800, 800), bool)
    where = np.random.default_rng(3).normal(size=(10, 10)).repeat(80, 0).repeat(80, 1) > 0.8
    stain(picture, where, strength=0.5)
    pen[100:130, 50:600] = True
    picture[pen] = INKS["blue"]
    found = find_tissue(picture, um_per_px, 0.02)
    for turn in range(4):
        for step in (1, -1):
            moved = find_tissue(
                np.ascontiguousarray(np.rot90(picture, turn)[:, ::step]), um_per_px, 0.02
            )
            assert (moved.tissue != np.rot90(found.tissue, turn)[:, ::step]).mean() < 1e-3
            assert (moved.ink != np.rot90(found.ink, turn)[:, ::step]).mean() < 1e-3


def test_a_black_frame_is_not_tissue():
    picture = glass(SIZE)
    truth = disc(2.0)
    stain(picture, truth)
    picture[:40], picture[-40:], picture[:, :40], picture[:, -40:] = 0, 5, 0, (5, 2, 38)
    found = mask_of(picture)
    assert not found[:45].any()
    assert not found[:, -45:].any()
    assert overlap(found, truth) > 0.95


def test_grey_dust_is_not_tissue():
    picture = glass(SIZE)
    picture[200:300, 200:300] = 150
    assert mask_of(picture).sum() == 0


def test_large_holes_stay_and_small_ones_are_filled():
    picture = glass(SIZE)
    piece = disc(4.0)
    large = disc(0.3, (330, 300))
    small = disc(0.004, (220, 300))
    stain(picture, piece & ~large & ~small)
    found = mask_of(picture)
    assert found[small].all()
    assert found[large].mean() < 0.15
