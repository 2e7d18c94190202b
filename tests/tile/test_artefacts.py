"""What lies on a slide beside tissue: blurred ink, edges, tints. And what only looks like it."""

import numpy as np
import pytest
from scipy import ndimage

from mil.tile.tissue import find_tissue
from tests.synthetic import GLASS, stain

UM = 8.0  # micrometres per pixel
SIZE = (420, 320)  # a slide of 3.4 by 2.6 mm
Y, X = np.mgrid[: SIZE[1], : SIZE[0]]
NOTHING = np.zeros(SIZE[::-1], bool)


def light(density: np.ndarray) -> np.ndarray:
    """The slide that an optical density [height, width, 3] is seen as, with noise."""
    noise = np.random.default_rng(1).normal(0, 1, (*SIZE[::-1], 1))
    return (np.array(GLASS) * np.exp(-density) + noise).clip(0, 255).astype(np.uint8)


def disc(radius: float, centre: tuple[int, int] = (260, 160)) -> np.ndarray:
    return (X - centre[0]) ** 2 + (Y - centre[1]) ** 2 < radius**2


def ring(width: float) -> np.ndarray:
    """A stroke of pen around the middle, uneven in density."""
    away = abs(np.hypot(X - 210, Y - 160) - 110)
    return (away < width / 2) * (1 + 0.3 * np.sin(X / 17) * np.cos(Y / 23))


def tissue_of(picture: np.ndarray) -> np.ndarray:
    return find_tissue(picture, UM, 0.02).tissue


INKS = {
    "black": (28, 28, 32),
    "brown-black": (40, 30, 28),
    "purple-black": (45, 35, 55),
    "blue": (40, 60, 170),
    "green": (35, 130, 80),
    "red": (200, 30, 45),
    "orange": (235, 120, 30),
}


QUICK = ("black", "purple-black", "red")


@pytest.mark.parametrize(
    "ink",
    [
        pytest.param(ink, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, ink in INKS.items()
    ],
)
def test_a_pen_and_its_blurred_rim_are_no_tissue(ink):
    thick = ndimage.gaussian_filter(ring(70), 12)
    dense = light(thick[..., None] * np.log(np.array(GLASS) / ink))
    out_of_focus = np.where(ring(70)[..., None] > 0, ink, GLASS).astype(float)
    out_of_focus = ndimage.gaussian_filter(out_of_focus, (12, 12, 0)).astype(np.uint8)
    for picture in (dense, out_of_focus):
        assert tissue_of(picture).sum() * (UM / 1000) ** 2 < 0.01


def test_tissue_inside_a_ring_of_pen_is_kept():
    thick = ndimage.gaussian_filter(ring(40), 6)
    picture = light(thick[..., None] * np.log(np.array(GLASS) / INKS["black"]))
    piece = disc(60, (210, 160))
    stain(picture, piece)
    found = tissue_of(picture)
    assert found[piece].mean() > 0.95
    assert found[~disc(66, (210, 160))].sum() == 0


EDGES = {
    "upright": X - 50,
    "level": Y - 40,
    "tilted": X - 0.2 * Y - 45,
    "bent": np.hypot(X + 900, Y - 160) - 950,
}
GLUE = (0.1, 0.15, 0.3)


@pytest.mark.parametrize("away", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize(
    "tint",
    [
        pytest.param(GLUE, id="glue"),
        pytest.param((0.06, 0.05, 0.02), id="blue", marks=pytest.mark.slow),
        pytest.param((0.08, 0.12, 0.1), id="pink", marks=pytest.mark.slow),
    ],
)
def test_no_band_along_an_edge(away, tint):
    edge = np.exp(-((away / 12) ** 2) / 2)[..., None] * (np.array(tint) + 0.4)
    piece = disc(60)
    for picture, expected in ((light(edge), NOTHING), (light(edge), piece)):
        stain(picture, expected)
        found = tissue_of(picture)
        assert not found[~disc(66)].any()
        assert found[expected].sum() >= 0.97 * expected.sum()


def test_coloured_fringes_of_a_curved_edge_are_no_tissue():
    away = EDGES["bent"]
    grey = 0.6 * np.exp(-((away / 3) ** 2) / 2)
    fringes = [0.08 * np.exp(-(((away + shift) / 3) ** 2) / 2) for shift in (-3, 3)]
    assert not tissue_of(light(np.stack([grey + fringes[0], grey, grey + fringes[1]], -1))).any()


@pytest.mark.parametrize("tint", [(0.045, 0.04, 0.012), (0.06, 0.05, 0.03), (0.01, 0.03, 0.03)])
def test_a_tinted_strip_beyond_the_coverslip_is_no_tissue(tint):
    strip = (50 + 8 * np.sin(X / 40) > Y) * (1 + 0.4 * np.sin(X / 30))
    marks = (Y < 50) & (np.random.default_rng(2).random(strip.shape) < 0.01)
    picture = light(strip[..., None] * np.array(tint) + 0.15 * marks[..., None])
    piece = disc(60, (260, 200))
    stain(picture, piece)
    found = tissue_of(picture)
    assert found[piece].mean() > 0.97
    assert not found[:100].any()


def test_the_slides_own_border_is_no_tissue():
    border = np.exp(-Y / 20)[..., None] * np.array((0.9, 0.86, 0.77))
    picture = light(border)
    piece = disc(60, (260, 200))
    stain(picture, piece)
    found = tissue_of(picture)
    assert found[piece].mean() > 0.97
    assert not found[:100].any()


def net(cell_px: float) -> np.ndarray:
    """Share of membranes of 4 µm around cells, by pixel."""
    fine = 3
    y, x = np.mgrid[: SIZE[1] * fine, : SIZE[0] * fine]
    side = cell_px * fine
    lines = ((x + 12 * np.sin(y / 31)) % side < 1.5) | ((y + 12 * np.sin(x / 37)) % side < 1.5)
    return lines.reshape(SIZE[1], fine, SIZE[0], fine).mean((1, 3))


@pytest.mark.parametrize("beside", [True, False], ids=["beside tissue", "alone"])
@pytest.mark.parametrize(("cell_px", "strength"), [(11, 0.2), (18, 0.3)], ids=["faint", "large"])
def test_pale_fat_is_kept(beside, cell_px, strength):
    fat = disc(110, (210, 160))
    core = disc(40, (160, 130)) & beside
    membranes = net(cell_px) * (fat & ~core)
    picture = light(membranes[..., None] * np.array((0.25, 0.8, 0.45)) * strength)
    stain(picture, core)
    found = tissue_of(picture)
    assert found[disc(100, (210, 160))].mean() > 0.95
    assert not found[~disc(118, (210, 160))].any()


def test_a_pale_blue_counterstain_is_kept():
    piece = disc(90)
    nuclei = (np.random.default_rng(3).random(piece.shape) < 0.3)[..., None]
    density = 0.4 * (np.array((0.06, 0.05, 0.03)) + nuclei * np.array((0.4, 0.3, 0.12)))
    found = tissue_of(light(density * piece[..., None]))
    assert found[piece].mean() > 0.95
    assert not found[~disc(97)].any()


def test_colloid_without_texture_stays_in_its_tissue():
    piece = disc(110, (210, 160))
    colloid = disc(45, (210, 160))
    picture = light((colloid)[..., None] * np.array((0.05, 0.4, 0.25)))
    stain(picture, piece & ~colloid)
    assert tissue_of(picture)[piece].mean() > 0.98


def test_a_faint_node_without_texture_is_kept():
    node = disc(80)
    found = tissue_of(light(ndimage.gaussian_filter(node * 1.0, 1)[..., None] * (0.02, 0.08, 0.03)))
    assert found[node].mean() > 0.95


def test_a_section_out_of_focus_is_kept_whatever_its_shape():
    piece = (abs(X - 150) < 40) & (abs(Y - 160) < 120) | (abs(X - 230) < 120) & (abs(Y - 250) < 30)
    picture = np.full((*SIZE[::-1], 3), GLASS, np.uint8)
    stain(picture, piece)
    blurred = ndimage.gaussian_filter(picture, (2, 2, 0))
    assert tissue_of(blurred)[piece].mean() > 0.97


def test_tissue_inside_a_narrow_ring_of_pen_on_a_section_is_kept():
    picture = light(NOTHING[..., None] * np.zeros(3))
    stain(picture, disc(150, (210, 160)))
    away = abs(np.hypot(X - 210, Y - 160) - 30)
    picture[away < 10] = INKS["black"]
    assert tissue_of(picture)[disc(13, (210, 160))].mean() > 0.95
