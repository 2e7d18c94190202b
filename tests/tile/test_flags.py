"""Quality columns: what they flag, and what they leave alone."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from mil.io.tiles import FLAG
from mil.tile.flags import blur, colour_shares
from mil.tile.tissue import find_tissue
from tests.synthetic import glass, stain

# the overview, and a tile of 112 µm on it
UM = 8.0
SIDE = 14.0
FOCUS_UM = 2.0
GRID = np.stack([np.tile(np.arange(40), 40), np.repeat(np.arange(40), 40)], 1) * SIDE


def slide() -> np.ndarray:
    """Tissue in the left two thirds, 560 x 560 pixels."""
    picture = glass((560, 560))
    where = np.zeros((560, 560), bool)
    where[:, :370] = True
    stain(picture, where)
    return picture


def thicken(
    picture: np.ndarray, where: np.ndarray, density: tuple[float, float, float] | float
) -> None:
    """Multiply the density there (a number), or replace it (red, green, blue)."""
    light = picture[where] / 243
    light = light**density if isinstance(density, float) else np.exp(-np.array(density)) + 0 * light
    noise = np.random.default_rng(1).normal(1, 0.03, (len(light), 1))
    picture[where] = (243 * light * noise).clip(0, 255)


def columns(picture: np.ndarray) -> dict[str, np.ndarray]:
    return colour_shares(picture, find_tissue(picture, UM, 0.02), GRID, SIDE)


def box(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the box, and the tiles wholly inside it."""
    where = np.zeros((560, 560), bool)
    where[rows, cols] = True
    x, y = GRID.T.astype(int)
    inside = (
        (x >= cols.start) & (x + SIDE <= cols.stop) & (y >= rows.start) & (y + SIDE <= rows.stop)
    )
    return where, inside


def test_good_tissue_and_glass_are_not_flagged():
    for name, values in columns(slide()).items():
        assert values.shape == (len(GRID),)
        assert (values < FLAG[name] / 2).all(), name


@pytest.mark.parametrize(
    ("name", "density"),
    [
        ("pen", (1.8, 1.4, 0.4)),
        ("pen", (0.2, 2.0, 1.6)),
        ("fold", 2.2),
        ("blood", (0.1, 1.1, 0.95)),
        ("black", (2.5, 2.5, 2.5)),
    ],
    ids=["blue pen", "red pen", "fold", "blood", "black"],
)
def test_what_is_wrong_is_flagged_where_it_is(name, density):
    picture = slide()
    where, inside = box(slice(196, 210), slice(56, 224))  # a band one tile wide, in the tissue
    thicken(picture, where, density)
    found = columns(picture)
    assert (found[name][inside] > FLAG[name]).all()
    assert found[name][inside].mean() > 0.5
    x, y = GRID.T
    away = (x < 28) | (x > 238) | (y < 168) | (y > 224)
    assert (found[name][away] < FLAG[name]).all()
    if name != "black":  # which may be ink as well
        for other in {"pen", "fold", "blood"} - {name}:
            assert (found[other][inside] < FLAG[other]).all(), other


def test_dark_nuclei_are_no_fold():
    picture = slide()
    where, inside = box(slice(196, 224), slice(56, 224))
    thicken(picture, where, (0.78, 1.06, 0.5))
    assert columns(picture)["fold"][inside].mean() < FLAG["fold"] / 2


def test_a_share_is_of_the_tiles_area():
    picture = slide()
    picture[:7] = 0
    black = columns(picture)["black"]
    np.testing.assert_allclose(black[GRID[:, 1] == 0], 0.5, atol=1e-6)
    assert black[GRID[:, 1] > 0].max() == 0


def test_shares_of_no_tiles():
    picture = slide()
    found = colour_shares(picture, find_tissue(picture, UM, 0.02), np.empty((0, 2)), SIDE)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        ("pen", "fold", "blood", "black"), 0
    )


def fine_tissue(um: float = 0.5, side: int = 1792, seed: int = 0) -> np.ndarray:
    """Nuclei of 7 µm and fibres, float [side, side, 3]."""
    rng = np.random.default_rng(seed)
    nuclei = np.zeros((side, side))
    at = rng.integers(0, side, (2, int(side**2 * um**2 / 150)))
    nuclei[at[0], at[1]] = 1
    nuclei = (ndimage.gaussian_filter(nuclei, 3 / um) > 0.35 * um**2 / (2 * np.pi * 9)).astype(
        float
    )
    fibres = ndimage.gaussian_filter(rng.normal(size=(side, side)), (1 / um, 8 / um))
    density = 0.35 + 0.15 * fibres[..., None] / fibres.std() + nuclei[..., None] * 0.7
    return 243 * np.exp(-density.clip(0.05) * (0.5, 1.0, 0.5))


def at_scale(picture: np.ndarray, factor: int) -> np.ndarray:
    side = len(picture) // factor * factor
    small = (
        picture[:side, :side]
        .reshape(side // factor, factor, side // factor, factor, 3)
        .mean((1, 3))
    )
    return (
        (small + np.random.default_rng(0).normal(0, 1, small.shape)).clip(0, 255).astype(np.uint8)
    )


def tiles_of(
    um: float, extent_um: float = 896.0, side_um: float = 112.0
) -> tuple[np.ndarray, float]:
    first = np.arange(int(extent_um / side_um)) * side_um / um
    return np.stack([np.tile(first, len(first)), np.repeat(first, len(first))], 1), side_um / um


@pytest.fixture(scope="module")
def blurred() -> dict[int, np.ndarray]:
    sharp = fine_tissue()
    return {
        um: ndimage.gaussian_filter(sharp, (um / 0.5, um / 0.5, 0), truncate=3)
        for um in (0, 1, 2, 4, 8)
    }


def test_blur_rises_with_the_width_of_the_blur_and_four_micrometres_are_flagged(blurred):
    scores = [
        blur(at_scale(picture, 4), FOCUS_UM, *tiles_of(FOCUS_UM)) for picture in blurred.values()
    ]
    assert all((low <= high + 1e-9).all() for low, high in pairwise(scores))
    sharp, *_, four, eight = scores
    assert (sharp < FLAG["blur"] / 2).all()
    assert (four > FLAG["blur"]).all()
    np.testing.assert_allclose(eight, 1.0)


@pytest.mark.parametrize(
    "factor",
    [
        pytest.param(factor, marks=[] if factor in (2, 8) else pytest.mark.slow)
        for factor in (2, 3, 5, 6, 8)
    ],
    ids=lambda factor: f"{factor / 2} um",
)
def test_blur_means_the_same_at_every_scale(blurred, factor):
    um = factor / 2
    for width in (0, 2, 4):
        usual = np.median(blur(at_scale(blurred[width], 4), FOCUS_UM, *tiles_of(FOCUS_UM)))
        here = np.median(blur(at_scale(blurred[width], factor), um, *tiles_of(um, 784.0)))
        assert here == pytest.approx(usual, abs=0.08)


def test_blur_does_not_depend_on_contrast(blurred):
    for width in (0, 2, 4):
        full = blur(at_scale(blurred[width], 4), FOCUS_UM, *tiles_of(FOCUS_UM))
        pale = blur(at_scale(243 * (blurred[width] / 243) ** 0.4, 4), FOCUS_UM, *tiles_of(FOCUS_UM))
        np.testing.assert_allclose(pale, full, atol=0.12)


def test_glass_is_not_blurred():
    assert blur(glass((448, 448)), FOCUS_UM, *tiles_of(FOCUS_UM)).max() == 0
    assert blur(np.full((448, 448, 3), 255, np.uint8), FOCUS_UM, *tiles_of(FOCUS_UM)).max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3)])
def test_blur_of_a_picture_smaller_than_the_distances(shape):
    picture = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    corners = np.array([[0.0, 0.0], [-50.0, 10.0], [500.0, 500.0]])
    assert np.isfinite(blur(picture, FOCUS_UM, corners, 56.0)).all()


def test_the_rim_of_tissue_is_no_blur(blurred):
    um, (corners, side) = FOCUS_UM, tiles_of(FOCUS_UM)
    scores = {}
    for width in (0, 4):
        picture = at_scale(blurred[width], 4)
        edge = picture.shape[1] // 2 + 5  # inside the fifth column of tiles
        picture[:, edge:] = 243
        inside = np.zeros(picture.shape[:2], bool)
        inside[:, : edge - 12] = True  # 24 µm
        scores[width] = [
            blur(picture, um, corners, side, mask).reshape(8, 8) for mask in (None, inside)
        ]
    plain, masked = scores[0]
    assert (plain[:, 4] > masked[:, 4] + 0.05).all()
    assert (masked[:, :4] < FLAG["blur"] / 2).all()
    assert (masked[:, 4:] == 0).all()  # too little of them to judge
    assert (scores[4][1][:, :4] > FLAG["blur"]).all()
