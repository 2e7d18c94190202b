"""What lies between the nuclei: amounts of both stains, hollows and fibres, on a grid of 1 um."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mil.demo.anatomy import Anatomy, Ring
from mil.demo.cells import Cells, at_points
from mil.demo.noise import Field, even_points, resample, smooth_noise, smoothstep
from mil.demo.plan import DemoSlide
from mil.demo.tissue import STEP_UM, Layout, extent_um, mesh_um, stream

GROUND_UM = 1.0
_WALL_UM = 1.05  # half a fat cell's wall


@dataclass(frozen=True)
class Ground:
    """Fields on nodes 1 um apart.

    `solid_um` is the signed distance to the nearest glass (positive in tissue, cut off
    at 4 um); `haem` and `eosin` are optical densities in units of each stain; `fibre`
    says how much the fibres show (0 to 1); `across_um`, `along_um` are the coordinates
    in which fibres run straight.
    """

    solid_um: Field
    haem: Field
    eosin: Field
    fibre: Field
    across_um: Field
    along_um: Field


def fibre_frame(slide: DemoSlide, layout: Layout, anatomy: Anatomy) -> tuple[Field, Field]:
    """Coordinates across and along the fibres in um, on nodes 4 um apart: wavy, and wrapped round nests."""
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
    if slide.tissue == "node":  # fibres follow the capsule; lymphocytes hide the jump behind it
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
    """Compose the ground of a slide."""
    rng = stream(slide, "ground")
    height, width = extent_um(slide)
    size = int(height / GROUND_UM) + 4, int(width / GROUND_UM) + 4

    def fine(field: Field) -> Field:
        return resample(field, size, GROUND_UM / STEP_UM)

    haem, eosin, fibre = (fine(field) for field in _stroma(rng, slide, layout, anatomy))
    frayed = (
        fine(layout.tissue_um) + 1.3 * smooth_noise(rng, size, 9) + 0.8 * smooth_noise(rng, size, 3)
    )
    ground = Ground(np.clip(frayed, -4, 4), haem, eosin, fibre, fine(frame[0]), fine(frame[1]))
    _paint_nests(ground, rng, fine(anatomy.nest_um), cells)
    for gland in anatomy.glands:
        _paint_gland(ground, gland, secretion=float(rng.choice([0.0, 0.0, 0.25])))
    for vessel in anatomy.vessels:
        _paint_vessel(ground, vessel, plasma=float(rng.uniform(-0.05, 0.2)))
    _paint_fat(ground, rng, slide, anatomy.fat_um)
    thick = 1 + 0.07 * smooth_noise(rng, size, 130) + 0.05 * smooth_noise(rng, size, 36)
    np.multiply(ground.haem, thick, out=ground.haem)
    np.multiply(ground.eosin, thick, out=ground.eosin)
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
    eosin = eosin + (0.30 - eosin) * lymphoid + 0.06 * anatomy.follicle
    haem = haem + (0.27 - haem) * lymphoid
    fibre = fibre + (0.30 - fibre) * lymphoid
    mottle = smooth_noise(rng, eosin.shape, 3)
    return haem * (1 + 0.1 * mottle), eosin * (1 + 0.08 * mottle), fibre.astype(np.float32)


def _paint_nests(
    ground: Ground, rng: np.random.Generator, nest_um: Field, cells: list[Cells]
) -> None:
    """Tumour cytoplasm: purple, each cell its own shade, with faint borders half way between nuclei."""
    places = [c.place_um for c in cells if c.kind in ("tumour", "mitosis", "apoptosis")]
    if not places or not sum(map(len, places)):
        return
    place = np.concatenate(places)
    low = np.maximum((place.min(axis=0) / GROUND_UM).astype(int) - 14, 0)
    high = np.minimum((place.max(axis=0) / GROUND_UM).astype(int) + 15, nest_um.shape)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    seed = np.zeros(tuple(high - low), np.int32)
    node = np.clip(np.rint(place / GROUND_UM).astype(int) - low, 0, high - low - 1)
    seed[node[:, 0], node[:, 1]] = np.arange(1, len(place) + 1)
    away, nearest = ndimage.distance_transform_edt(seed == 0, return_indices=True)
    owner = seed[nearest[0], nearest[1]]
    edge = np.zeros(owner.shape, np.float32)
    edge[:, 1:] += owner[:, 1:] != owner[:, :-1]
    edge[1:] += owner[1:] != owner[:-1]
    border = np.clip(ndimage.gaussian_filter(edge, 0.7) * 1.3, 0, 1)
    shade = ndimage.gaussian_filter(rng.normal(0, 1, len(place) + 1).astype(np.float32)[owner], 0.8)
    ragged = nest_um[window] + 1.6 * smooth_noise(rng, owner.shape, 7)
    inside = smoothstep(ragged, -1.2, 1.2) * (1 - smoothstep(away.astype(np.float32), 13, 17))
    haem = 0.30 + 0.07 * shade + 0.05 * np.exp(-away / 5) - 0.10 * border
    eosin = 0.40 + 0.07 * shade - 0.09 * border
    for field, value in ((ground.haem, haem), (ground.eosin, eosin), (ground.fibre, 0.10)):
        field[window] += inside * (value - field[window])
    gap = rng.uniform(0.9, 2.0)  # nests shrink away from the stroma here and there
    cleft = smoothstep(smooth_noise(rng, owner.shape, 45), 1.0, 1.5)
    cleft = cleft * np.exp(-(((nest_um[window] + 1.5) / gap) ** 2))
    ground.solid_um[window] = np.minimum(ground.solid_um[window], 4 - 8 * cleft)


def _ring_window(ground: Ground, ring: Ring, margin_um: float) -> tuple[tuple[slice, slice], Field]:
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


def _hollow(ground: Ground, window: tuple[slice, slice], inner_um: Field) -> None:
    ground.solid_um[window] = np.minimum(ground.solid_um[window], np.clip(-inner_um, -4, 4))


def _paint_gland(ground: Ground, gland: Ring, secretion: float) -> None:
    window, depth = _ring_window(ground, gland, 60)
    inner = depth - gland.wall_um
    wall = smoothstep(depth, -0.8, 0.8)
    apical = np.clip(depth / gland.wall_um, 0, 1)
    membrane = 0.22 * np.exp(-(((depth + 1.0) / 1.3) ** 2))
    if secretion:
        value = np.where(inner > 1, secretion, 0.40)
    else:
        value = np.full_like(depth, 0.40)
        _hollow(ground, window, inner)
    ground.eosin[window] += wall * (value + 0.10 * apical - ground.eosin[window]) + membrane
    ground.haem[window] += wall * (
        np.where(inner > 1, 0.02, 0.20 - 0.08 * apical) - ground.haem[window]
    )
    ground.fibre[window] *= 1 - 0.92 * wall
    ground.across_um[window] += 34 * np.exp(np.minimum(depth, 0) / 20)


def _paint_vessel(ground: Ground, vessel: Ring, plasma: float) -> None:
    window, depth = _ring_window(ground, vessel, 40)
    inner = depth - vessel.wall_um
    wall = smoothstep(depth, -1, 1)
    if plasma <= 0:
        _hollow(ground, window, inner)
    ground.eosin[window] += wall * (
        np.where(inner > 0, max(plasma, 0), 0.62) - ground.eosin[window]
    )
    ground.haem[window] *= 1 - wall * (0.5 + 0.5 * (inner > 0))
    ground.fibre[window] *= 1 - 0.75 * wall
    ground.across_um[window] += 24 * np.exp(np.minimum(depth, 0) / 14)


def _paint_fat(ground: Ground, rng: np.random.Generator, slide: DemoSlide, fat_um: Field) -> None:
    """Fat cells: empty many-sided bags of uneven size with thin walls."""
    centre = even_points(rng, extent_um(slide), 36)
    centre = centre[at_points(fat_um, centre) > -12]
    if len(centre) < 3:
        return
    fat = at_points(fat_um, centre) > 4
    low = np.maximum((centre.min(axis=0) / GROUND_UM).astype(int) - 30, 0)
    high = np.minimum((centre.max(axis=0) / GROUND_UM).astype(int) + 30, ground.solid_um.shape)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    size = int(high[0] - low[0]), int(high[1] - low[1])
    seed = np.zeros(size, np.int32)
    node = np.clip(np.rint(centre / GROUND_UM).astype(int) - low, 0, np.array(size) - 1)
    seed[node[:, 0], node[:, 1]] = np.arange(1, len(centre) + 1)
    away, nearest = ndimage.distance_transform_edt(seed == 0, return_indices=True)
    owner = seed[nearest[0], nearest[1]]
    bag = np.append(False, fat)[owner] & (away < 44)
    border = np.zeros(size, bool)
    border[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    border[1:] |= owner[1:] != owner[:-1]
    border |= ~bag | (ground.solid_um[window] < 2)
    depth = ndimage.distance_transform_edt(~border).astype(np.float32)
    # Blurring the depth rounds the corners off; walls stay where they are.
    depth = ndimage.gaussian_filter(depth, 2.0) + 0.5 * smooth_noise(rng, size, 20)
    hollow = np.where(bag, _WALL_UM + 1.3 - depth, 4.0)
    hollow = np.where(ndimage.gaussian_filter(bag.astype(np.float32), 1.0) > 0.5, hollow, 4.0)
    ground.solid_um[window] = np.minimum(ground.solid_um[window], np.clip(hollow, -4, 4))
