"""The ground between the nuclei, on a grid of 1 um: both stains, hollows and fibres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mil.demo.anatomy import Anatomy, Ring
from mil.demo.cells import Cells, at_points
from mil.demo.noise import (
    Field,
    Points,
    Rng,
    bell,
    even_points,
    noise_on,
    resample,
    rotated,
    smoothstep,
)
from mil.demo.plan import DemoSlide
from mil.demo.tissue import STEP_UM, Layout, extent_um, mesh_um, stream

GROUND_UM = 1.0
# Signed distances to glass are cut off here, um.
SOLID_UM = 4
# Half a fat cell's wall, um.
_WALL_UM = 1.05
# Kinds of nuclei that have a tumour cell's cytoplasm.
_TUMOUR_KINDS = ("tumour", "mitosis", "apoptosis")

# Period and depth of the fibres' waves, um.
_FIBRE_WAVES_UM = ((240, 75), (90, 16), (38, 4))

Windows = tuple[slice, slice]  # rows and columns of a field


@dataclass(frozen=True)
class Ground:
    """Fields on nodes 1 um apart.

    Attributes:
        solid_um: signed distance to the nearest glass, positive in tissue, cut off at
            `SOLID_UM`.
        haem: haematoxylin, optical density in units of the stain.
        eosin: eosin, optical density in units of the stain.
        fibre: visibility of the fibres, 0..1.
        across_um: coordinate across the fibres, in which they run straight.
        along_um: coordinate along the fibres.
    """

    solid_um: Field
    haem: Field
    eosin: Field
    fibre: Field
    across_um: Field
    along_um: Field


def fibre_frame(slide: DemoSlide, layout: Layout, anatomy: Anatomy) -> tuple[Field, Field]:
    """Coordinates across and along the fibres in um, on nodes 4 um apart.

    They are wavy, and wrapped round nests.
    """
    rng = stream(slide, "fibres")
    size = layout.tissue_um.shape
    y, x = mesh_um(size, STEP_UM)
    angle = rng.uniform(0, 2 * np.pi)
    across, along = rotated(y, x, angle)
    noise = noise_on(rng, size, STEP_UM)
    for period_um, depth_um in _FIBRE_WAVES_UM:
        across = across + depth_um * noise(period_um)
        along = along + 0.5 * depth_um * noise(period_um)
    across = across + 38 * _decay(anatomy.nest_um, 28)
    if slide.tissue == "node":
        # Fibres follow the capsule; lymphocytes hide the jump behind it.
        behind = smoothstep(layout.tissue_um, 17, 30)
        across = behind * across + (1 - behind) * layout.tissue_um
    return across.astype(np.float32), along.astype(np.float32)


def _decay(distance_um: Field, length_um: float) -> Field:
    """1 inside, exponentially less with the distance outside."""
    decay: Field = np.exp(np.minimum(distance_um, 0) / length_um)
    return decay


def lay_ground(
    slide: DemoSlide,
    layout: Layout,
    anatomy: Anatomy,
    cells: list[Cells],
    frame: tuple[Field, Field],
) -> Ground:
    """Compose the ground of a slide.

    Args:
        slide: the slide.
        layout: outlines of the slide.
        anatomy: compartments of the slide.
        cells: nuclei of the slide.
        frame: coordinates across and along the fibres; see `fibre_frame`.
    """
    rng = stream(slide, "ground")
    height, width = extent_um(slide)
    size = int(height / GROUND_UM) + 4, int(width / GROUND_UM) + 4

    def fine(field: Field) -> Field:
        return resample(field, size, GROUND_UM / STEP_UM)

    haem, eosin, fibre = _stroma(rng, slide, layout, anatomy)
    noise = noise_on(rng, size, GROUND_UM)
    # The tissue's edge is frayed.
    tissue = fine(layout.tissue_um)
    tissue = tissue + 1.3 * noise(9)
    tissue = tissue + 0.8 * noise(3)
    ground = Ground(
        solid_um=np.clip(tissue, -SOLID_UM, SOLID_UM),
        haem=fine(haem),
        eosin=fine(eosin),
        fibre=fine(fibre),
        across_um=fine(frame[0]),
        along_um=fine(frame[1]),
    )
    _paint_nests(ground, rng, fine(anatomy.nest_um), cells)
    for gland in anatomy.glands:
        # Two of three are empty.
        secretion = rng.choice([0.0, 0.0, 0.25])
        _paint_gland(ground, gland, float(secretion))
    for vessel in anatomy.vessels:
        plasma = rng.uniform(-0.05, 0.2)
        _paint_vessel(ground, vessel, float(plasma))
    _paint_fat(ground, rng, slide, anatomy.fat_um)
    # Sections are not equally thick everywhere.
    thickness = 1 + 0.07 * noise(130)
    thickness = thickness + 0.05 * noise(36)
    np.multiply(ground.haem, thickness, out=ground.haem)
    np.multiply(ground.eosin, thickness, out=ground.eosin)
    return ground


def _stroma(
    rng: Rng, slide: DemoSlide, layout: Layout, anatomy: Anatomy
) -> tuple[Field, Field, Field]:
    """Haematoxylin, eosin and fibres outside nests and rings, on nodes 4 um apart."""
    lymphoid = np.maximum(anatomy.lymphoid, anatomy.follicle)
    collagen = anatomy.collagen
    if slide.tissue == "node":
        capsule = 1 - smoothstep(layout.tissue_um, 14, 24)
        collagen = np.maximum(collagen * 0.75, capsule)
    eosin = 0.36 + 0.30 * collagen
    haem = 0.055 + 0.05 * anatomy.cellular
    fibre = 0.55 + 0.35 * collagen
    # Lymphoid tissue is bluer, and hides the fibres.
    eosin = eosin + (0.30 - eosin) * lymphoid + 0.06 * anatomy.follicle
    haem = haem + (0.27 - haem) * lymphoid
    fibre = fibre + (0.30 - fibre) * lymphoid
    noise = noise_on(rng, eosin.shape, STEP_UM)
    mottle = noise(12)
    haem = haem * (1 + 0.1 * mottle)
    eosin = eosin * (1 + 0.08 * mottle)
    return haem, eosin, fibre.astype(np.float32)


def _owners(seeds: Points, low: Points, high: Points) -> tuple[Field, Field]:
    """Cells of the plane around seeds (a Voronoi diagram), in a window of 1 um nodes.

    Args:
        seeds: positions (y, x), um.
        low: first row and column of the window.
        high: end of its rows and columns.

    Returns:
        Distance to the nearest seed, um; and the seed's number, from 1.
    """
    numbered = np.zeros(tuple(high - low), np.int32)
    node = np.rint(seeds / GROUND_UM).astype(int) - low
    rows, columns = np.clip(node, 0, high - low - 1).T
    numbered[rows, columns] = np.arange(1, len(seeds) + 1)
    away, nearest = ndimage.distance_transform_edt(numbered == 0, return_indices=True)
    return away, numbered[nearest[0], nearest[1]]


def _num_borders(owner: Field) -> NDArray[np.uint8]:
    """Number of borders, 0 to 2, between a node's owner and those to the left and above."""
    count = np.zeros(owner.shape, np.uint8)
    count[:, 1:] += owner[:, 1:] != owner[:, :-1]
    count[1:] += owner[1:] != owner[:-1]
    return count


def _window(
    position: Points, before: int, after: int, size: tuple[int, ...]
) -> tuple[Points, Points]:
    """First and end node of rows and columns around positions, inside a field."""
    low = np.maximum((position.min(axis=0) / GROUND_UM).astype(int) - before, 0)
    high = np.minimum((position.max(axis=0) / GROUND_UM).astype(int) + after, size)
    return low, high


def _paint_nests(ground: Ground, rng: Rng, nest_um: Field, cells: list[Cells]) -> None:
    """Tumour cytoplasm: purple, each cell its own shade, with faint borders between nuclei."""
    positions = [group.position_um for group in cells if group.kind in _TUMOUR_KINDS]
    if not positions or not sum(map(len, positions)):
        return
    position = np.concatenate(positions)
    low, high = _window(position, 14, 15, nest_um.shape)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    away, owner = _owners(position, low, high)
    edge = _num_borders(owner).astype(np.float32)
    soft_edge = ndimage.gaussian_filter(edge, 0.7)
    border = np.clip(soft_edge * 1.3, 0, 1)
    shade_of_cell = rng.normal(0, 1, len(position) + 1).astype(np.float32)
    shade = ndimage.gaussian_filter(shade_of_cell[owner], 0.8)
    noise = noise_on(rng, owner.shape, GROUND_UM)
    depth = nest_um[window]
    ragged = depth + 1.6 * noise(7)
    # A cell reaches so far from its nucleus.
    beyond = smoothstep(away.astype(np.float32), 13, 17)
    inside = smoothstep(ragged, -1.2, 1.2) * (1 - beyond)
    perinuclear = np.exp(-away / 5)
    haem = 0.30 + 0.07 * shade + 0.05 * perinuclear - 0.10 * border
    eosin = 0.40 + 0.07 * shade - 0.09 * border
    _blend(ground.haem, window, inside, haem)
    _blend(ground.eosin, window, inside, eosin)
    _blend(ground.fibre, window, inside, 0.10)
    # Nests shrink away from the stroma here and there.
    gap = rng.uniform(0.9, 2.0)
    cleft = smoothstep(noise(45), 1.0, 1.5)
    cleft = cleft * bell((depth + 1.5) / gap)
    _limit(ground.solid_um, window, SOLID_UM - 8 * cleft)


def _blend(field: Field, window: Windows, share: Field, value: Field | float) -> None:
    """Move a part of a field towards a value by a share of the way, in position."""
    field[window] += share * (value - field[window])


def _limit(field: Field, window: Windows, limit: Field) -> None:
    """Lower a part of a field to a limit, in position."""
    field[window] = np.minimum(field[window], limit)


def _ring_window(ground: Ground, ring: Ring, margin_um: float) -> tuple[Windows, Field]:
    """The nodes around a ring, and their depth in um under its outer edge."""
    reach = ring.radius_um * 1.5 + margin_um
    height, width = ground.solid_um.shape
    rows, down = _around(ring.y_um, reach, height)
    columns, right = _around(ring.x_um, reach, width)
    y = down[:, None]
    x = right[None, :]
    radius = ring.radius_at(np.arctan2(y, x))
    depth = radius.astype(np.float32) - np.hypot(y, x)
    return (rows, columns), depth


def _around(centre_um: float, reach_um: float, end: int) -> tuple[slice, Field]:
    """Nodes of an axis around a centre, and their distances from it, um."""
    first = max(int((centre_um - reach_um) / GROUND_UM), 0)
    last = min(int((centre_um + reach_um) / GROUND_UM) + 1, end)
    nodes = np.arange(first, last, dtype=np.float32)
    return slice(first, last), nodes * GROUND_UM - centre_um


def _hollow(ground: Ground, window: Windows, inner_um: Field) -> None:
    """Make glass of what lies inside a wall."""
    hollow = np.clip(-inner_um, -SOLID_UM, SOLID_UM)
    _limit(ground.solid_um, window, hollow)


def _paint_gland(ground: Ground, gland: Ring, secretion: float) -> None:
    """Epithelium, bluer at its base, around a hollow or around secretion.

    Args:
        ground: fields to paint on.
        gland: the gland.
        secretion: eosin of what fills it, optical density; 0: it is empty.
    """
    window, depth = _ring_window(ground, gland, 60)
    inner = depth - gland.wall_um
    wall = smoothstep(depth, -0.8, 0.8)
    apical = np.clip(depth / gland.wall_um, 0, 1)
    membrane = 0.22 * bell((depth + 1.0) / 1.3)
    if secretion:
        eosin = np.where(inner > 1, secretion, 0.40)
    else:
        eosin = np.full_like(depth, 0.40)
        _hollow(ground, window, inner)
    haem = np.where(inner > 1, 0.02, 0.20 - 0.08 * apical)
    ground.eosin[window] += wall * (eosin + 0.10 * apical - ground.eosin[window]) + membrane
    _blend(ground.haem, window, wall, haem)
    ground.fibre[window] *= 1 - 0.92 * wall
    # Fibres run around it.
    ground.across_um[window] += 34 * _decay(depth, 20)


def _paint_vessel(ground: Ground, vessel: Ring, plasma: float) -> None:
    """A pink wall around a hollow or around plasma.

    Args:
        ground: fields to paint on.
        vessel: the vessel.
        plasma: eosin of what fills it, optical density; 0 or less: it is empty.
    """
    window, depth = _ring_window(ground, vessel, 40)
    inner = depth - vessel.wall_um
    wall = smoothstep(depth, -1, 1)
    if plasma <= 0:
        _hollow(ground, window, inner)
    eosin = np.where(inner > 0, max(plasma, 0), 0.62)
    _blend(ground.eosin, window, wall, eosin)
    paler = 0.5 + 0.5 * (inner > 0)
    ground.haem[window] *= 1 - wall * paler
    ground.fibre[window] *= 1 - 0.75 * wall
    # Fibres run around it.
    ground.across_um[window] += 24 * _decay(depth, 14)


def _paint_fat(ground: Ground, rng: Rng, slide: DemoSlide, fat_um: Field) -> None:
    """Fat cells: empty many-sided bags of uneven size with thin walls."""
    centre = even_points(rng, extent_um(slide), 36)
    centre = centre[at_points(fat_um, centre) > -12]
    if len(centre) < 3:
        return
    fat = at_points(fat_um, centre) > 4
    low, high = _window(centre, 30, 30, ground.solid_um.shape)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    away, owner = _owners(centre, low, high)
    bag = np.append(False, fat)[owner] & (away < 44)
    border = _num_borders(owner) > 0
    border |= ~bag
    border |= ground.solid_um[window] < 2
    depth = ndimage.distance_transform_edt(~border).astype(np.float32)
    # Blurring the depth rounds the corners off; walls stay where they are.
    noise = noise_on(rng, owner.shape, GROUND_UM)
    depth = ndimage.gaussian_filter(depth, 2.0)
    depth = depth + 0.5 * noise(20)
    hollow = np.where(bag, _WALL_UM + 1.3 - depth, 4.0)
    in_bag = ndimage.gaussian_filter(bag.astype(np.float32), 1.0) > 0.5
    hollow = np.where(in_bag, hollow, 4.0)
    hollow = np.clip(hollow, -SOLID_UM, SOLID_UM)
    _limit(ground.solid_um, window, hollow)
