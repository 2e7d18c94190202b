"""The tissue mask: what is tissue, what is glass, pen or frame."""

import numpy as np
import pytest
from shapely import unary_union

from mil.tile.tissue import outlines, tissue_mask
from tests.synthetic import glass, stain

UM = 8.0  # micrometres per pixel
SIZE = (900, 700)  # a slide of 7.2 by 5.6 mm


def disc(area_mm2: float, centre: tuple[int, int] = (300, 300)) -> np.ndarray:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < area_mm2 / np.pi / (UM / 1000) ** 2


def mask_of(picture: np.ndarray, min_area_mm2: float = 0.02) -> np.ndarray:
    return tissue_mask(picture, UM, min_area_mm2)


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
    picture, truth = glass(SIZE, colour=colour), disc(3.0)
    stain(picture, truth, strength=strength)
    assert overlap(mask_of(picture), truth) > 0.95


def test_a_slide_full_of_tissue():
    picture = glass(SIZE)
    stain(picture, np.ones(SIZE[::-1], bool))
    assert mask_of(picture).mean() > 0.99


@pytest.mark.parametrize(("area_mm2", "kept"), [(0.03, True), (0.005, False)])
def test_small_pieces_are_judged_in_square_millimetres(area_mm2, kept):
    picture, large, small = glass(SIZE), disc(3.0, (300, 300)), disc(area_mm2, (750, 500))
    stain(picture, large | small)
    found = mask_of(picture)
    assert bool(found[small].mean() > 0.7) == kept
    assert bool(found[small].any()) == kept
    assert found[large].mean() > 0.99


@pytest.mark.parametrize(
    "ink", [(50, 85, 185), (25, 60, 150), (35, 130, 80), (20, 90, 60), (28, 28, 32), (45, 35, 55)], ids=str
)
def test_pen_is_not_tissue(ink):
    picture, truth = glass(SIZE), disc(2.0)
    stain(picture, truth)
    pen = np.zeros(SIZE[::-1], bool)
    pen[80:100, 100:800] = True  # a line
    pen[400:560, 640:800] = True  # a patch
    picture[pen] = ink
    found = mask_of(picture)
    assert found[pen].mean() < 0.01
    assert overlap(found, truth) > 0.95


def test_a_black_frame_is_not_tissue():
    picture, truth = glass(SIZE), disc(2.0)
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
    picture, piece, large, small = glass(SIZE), disc(4.0), disc(0.3, (330, 300)), disc(0.004, (220, 300))
    stain(picture, piece & ~large & ~small)
    found = mask_of(picture)
    assert found[small].all()
    assert found[large].mean() < 0.15


def test_outlines_have_the_masks_area_and_place():
    mask = disc(3.0) & ~disc(0.4) | disc(0.2, (750, 500))
    scale, origin = 16.0, (1000, 500)
    pieces = outlines(mask, scale, origin)
    assert len(pieces) == 2
    assert sum(len(piece.interiors) for piece in pieces) == 1
    whole = unary_union(pieces)
    assert whole.is_valid
    assert whole.area == pytest.approx(mask.sum() * scale**2, rel=0.02)
    y, x = np.nonzero(mask)
    assert whole.centroid.x == pytest.approx((x.mean() + 0.5) * scale + origin[0], abs=scale / 4)
    assert whole.centroid.y == pytest.approx((y.mean() + 0.5) * scale + origin[1], abs=scale / 4)


def test_outline_of_a_square_and_of_what_touches_the_border():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 0:10] = True
    (piece,) = outlines(mask, 4.0, (0, 0))
    np.testing.assert_allclose(piece.bounds, (0, 20, 40, 60), atol=2.0)
    assert outlines(np.zeros((5, 5), bool), 4.0, (0, 0)) == []
