"""What lies between the nuclei, on a grid of 1 um: both stains, hollows and fibres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mil.demo.anatomy import Anatomy, Ring
from mil.demo.cells import Cells, at_points
from mil.demo.noise import Field, Points, even_points, resample, smooth_noise, smoothstep
from mil.demo.plan import DemoSlide
from mil.demo.tissue import STEP_UM, Layout, extent_um, mesh_um, stream

GROUND_UM = 1.0
# Signed distances to glass are cut off here, um.
SOLID_UM = 4
# Half a fat cell's wall, um.
_WALL_UM = 1.05
# Kinds of nuclei that have a tumour cell's cytoplasm.
_TUMOUR_KINDS = ("tumour", "mitosis", "apoptosis")

Windows = tuple[slice, slice]  # rows and columns of a field


@dataclass(frozen=True)
class Ground:
    """Fields on nodes 1 um apart.

    Attributes:
        solid_um: signed distance to the nearest glass, positive in tissue, cut off at
            `SOLID_UM`.
        haem: haematoxylin, optical density in units of the stain.
        eosin: eosin, optical density in units of the stain.
        fibre: how much the fibres show, 0..1.
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
    across = y * np.cos(angle) - x * np.sin(angle)
    along = y * np.sin(angle) + x * np.cos(angle)
    for period_um, depth_um in ((240, 75), (90, 16), (38, 4)):
        across = across + depth_um * smooth_noise(rng, size, period_um / STEP_UM)
        along = along + 0.5 * depth_um * smooth_noise(rng, size, period_um / STEP_UM)
    across = across + 38 * np.exp(np.minimum(anatomy.nest_um, 0) / 28)
    if slide.tissue == "node":
        # Fibres follow the capsule; lymphocytes hide the jump behind it.
        behind = smoothstep(layout.tissue_um, 17, 30)
        across = behind * across + (1 - behind) * layout.tissue_um
    return across.astype(np.float32), along.astype(np.float32)


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
    # The tissue's edge is frayed.
    tissue = fine(layout.tissue_um)
    tissue = tissue + 1.3 * smooth_noise(rng, size, 9)
    tissue = tissue + 0.8 * smooth_noise(rng, size, 3)
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
        _paint_gland(ground, gland, secretion=float(rng.choice([0.0, 0.0, 0.25])))
    for vessel in anatomy.vessels:
        _paint_vessel(ground, vessel, plasma=float(rng.uniform(-0.05, 0.2)))
    _paint_fat(ground, rng, slide, anatomy.fat_um)
    # Sections are not equally thick everywhere.
    thickness = 1 + 0.07 * smooth_noise(rng, size, 130) + 0.05 * smooth_noise(rng, size, 36)
    np.multiply(ground.haem, thickness, out=ground.haem)
    np.multiply(ground.eosin, thickness, out=ground.eosin)
    return ground


def _stroma(
    rng: np.random.Generator, slide: DemoSlide, layout: Layout, anatomy: Anatomy
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
    mottle = smooth_noise(rng, eosin.shape, 3)
    return haem * (1 + 0.1 * mottle), eosin * (1 + 0.08 * mottle), fibre.astype(np.float32)


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
    node = np.clip(np.rint(seeds / GROUND_UM).astype(int) - low, 0, high - low - 1)
    numbered[node[:, 0], node[:, 1]] = np.arange(1, len(seeds) + 1)
    away, nearest = ndimage.distance_transform_edt(numbered == 0, return_indices=True)
    return away, numbered[nearest[0], nearest[1]]


def _window(place: Points, before: int, after: int, size: tuple[int, ...]) -> tuple[Points, Points]:
    """First and end node of rows and columns around positions, inside a field."""
    low = np.maximum((place.min(axis=0) / GROUND_UM).astype(int) - before, 0)
    high = np.minimum((place.max(axis=0) / GROUND_UM).astype(int) + after, size)
    return low, high


def _paint_nests(
    ground: Ground, rng: np.random.Generator, nest_um: Field, cells: list[Cells]
) -> None:
    """Tumour cytoplasm: purple, each cell its own shade, with faint borders between nuclei."""
    places = [group.place_um for group in cells if group.kind in _TUMOUR_KINDS]
    if not places or not sum(map(len, places)):
        return
    place = np.concatenate(places)
    low, high = _window(place, 14, 15, nest_um.shape)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    away, owner = _owners(place, low, high)
    edge = np.zeros(owner.shape, np.float32)
    edge[:, 1:] += owner[:, 1:] != owner[:, :-1]
    edge[1:] += owner[1:] != owner[:-1]
    border = np.clip(ndimage.gaussian_filter(edge, 0.7) * 1.3, 0, 1)
    shade_of_cell = rng.normal(0, 1, len(place) + 1).astype(np.float32)
    shade = ndimage.gaussian_filter(shade_of_cell[owner], 0.8)
    ragged = nest_um[window] + 1.6 * smooth_noise(rng, owner.shape, 7)
    # A cell reaches so far from its nucleus.
    inside = smoothstep(ragged, -1.2, 1.2) * (1 - smoothstep(away.astype(np.float32), 13, 17))
    haem = 0.30 + 0.07 * shade + 0.05 * np.exp(-away / 5) - 0.10 * border
    eosin = 0.40 + 0.07 * shade - 0.09 * border
    for field, value in ((ground.haem, haem), (ground.eosin, eosin), (ground.fibre, 0.10)):
        field[window] += inside * (value - field[window])
    # Nests shrink away from the stroma here and there.
    gap = rng.uniform(0.9, 2.0)
    cleft = smoothstep(smooth_noise(rng, owner.shape, 45), 1.0, 1.5)
    cleft = cleft * np.exp(-(((nest_um[window] + 1.5) / gap) ** 2))
    ground.solid_um[window] = np.minimum(ground.solid_um[window], SOLID_UM - 8 * cleft)


def _ring_window(ground: Ground, ring: Ring, margin_um: float) -> tuple[Windows, Field]:
    """The nodes around a ring, and their depth in um under its outer edge."""
    reach = ring.radius_um * 1.5 + margin_um
    rows, columns = (
        slice(max(int((at - reach) / GROUND_UM), 0), min(int((at + reach) / GROUND_UM) + 1, end))
        for at, end in zip((ring.y_um, ring.x_um), ground.solid_um.shape, strict=True)
    )
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) * GROUND_UM - ring.y_um)[:, None]
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) * GROUND_UM - ring.x_um)[None, :]
    depth = ring.radius_at(np.arctan2(y, x)).astype(np.float32) - np.hypot(y, x)
    return (rows, columns), depth


def _hollow(ground: Ground, window: Windows, inner_um: Field) -> None:
    """Make glass of what lies inside a wall."""
    hollow = np.clip(-inner_um, -SOLID_UM, SOLID_UM)
    ground.solid_um[window] = np.minimum(ground.solid_um[window], hollow)


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
    membrane = 0.22 * np.exp(-(((depth + 1.0) / 1.3) ** 2))
    if secretion:
        eosin = np.where(inner > 1, secretion, 0.40)
    else:
        eosin = np.full_like(depth, 0.40)
        _hollow(ground, window, inner)
    haem = np.where(inner > 1, 0.02, 0.20 - 0.08 * apical)
    ground.eosin[window] += wall * (eosin + 0.10 * apical - ground.eosin[window]) + membrane
    ground.haem[window] += wall * (haem - ground.haem[window])
    ground.fibre[window] *= 1 - 0.92 * wall
    # Fibres run around it.
    ground.across_um[window] += 34 * np.exp(np.minimum(depth, 0) / 20)


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
    ground.eosin[window] += wall * (eosin - ground.eosin[window])
    ground.haem[window] *= 1 - wall * (0.5 + 0.5 * (inner > 0))
    ground.fibre[window] *= 1 - 0.75 * wall
    # Fibres run around it.
    ground.across_um[window] += 24 * np.exp(np.minimum(depth, 0) / 14)


def _paint_fat(ground: Ground, rng: np.random.Generator, slide: DemoSlide, fat_um: Field) -> None:
    """Fat cells: empty many-sided bags of uneven size with thin walls."""
    centre = even_points(rng, extent_um(slide), 36)
    centre = centre[at_points(fat_um, centre) > -12]
    if len(centre) < 3:
        return
    fat = at_points(fat_um, centre) > 4
    low, high = _window(centre, 30, 30, ground.solid_um.shape)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    size = int(high[0] - low[0]), int(high[1] - low[1])
    away, owner = _owners(centre, low, high)
    bag = np.append(False, fat)[owner] & (away < 44)
    border = np.zeros(size, bool)
    border[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    border[1:] |= owner[1:] != owner[:-1]
    border |= ~bag | (ground.solid_um[window] < 2)
    depth = ndimage.distance_transform_edt(~border).astype(np.float32)
    # Blurring the depth rounds the corners off; walls stay where they are.
    depth = ndimage.gaussian_filter(depth, 2.0) + 0.5 * smooth_noise(rng, size, 20)
    hollow = np.where(bag, _WALL_UM + 1.3 - depth, 4.0)
    in_bag = ndimage.gaussian_filter(bag.astype(np.float32), 1.0) > 0.5
    hollow = np.where(in_bag, hollow, 4.0)
    hollow = np.clip(hollow, -SOLID_UM, SOLID_UM)
    ground.solid_um[window] = np.minimum(ground.solid_um[window], hollow)
