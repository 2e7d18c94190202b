"""Compartments of the tissue on a grid of 4 um: lymphoid sheets, fat, glands, vessels, nests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mil.demo.noise import Field, Points, Rng, bell, even_points, noise_on, smoothstep
from mil.demo.plan import DemoSlide
from mil.demo.tissue import STEP_UM, Layout, extent_um, mesh_um, stream

# Signed distance that stands for "far outside", um.
OUTSIDE_UM = -99
# Least distance between a gland and another, and between a vessel and a gland, um.
GLAND_GAP_UM = 9
VESSEL_GAP_UM = 6


@dataclass(frozen=True)
class Ring:
    """A gland or a vessel: a wobbly closed curve around a hollow.

    Attributes:
        y_um: centre, um.
        x_um: centre, um.
        radius_um: mean outer radius, um.
        wall_um: thickness of the wall, um.
        wobble: amplitude and phase of each harmonic from the second on.
    """

    y_um: float
    x_um: float
    radius_um: float
    wall_um: float
    wobble: tuple[tuple[float, float], ...]

    def radius_at(self, angle: NDArray[np.floating]) -> Points:
        """Outer radius in um in a direction (rad)."""
        factor = np.ones(angle.shape)
        for order, (amplitude, phase) in enumerate(self.wobble, start=1):
            # From the second harmonic on: the first would only shift the ring.
            factor += amplitude * np.cos((order + 1) * angle + phase)
        return self.radius_um * factor


@dataclass(frozen=True)
class Anatomy:
    """Compartments on nodes 4 um apart.

    Fields that end in `_um` are signed distances, positive inside; the others run from
    0 to 1.
    """

    nest_um: Field
    lymphoid: Field
    follicle: Field
    fat_um: Field
    cellular: Field
    collagen: Field
    glands: list[Ring]
    vessels: list[Ring]


def build_anatomy(slide: DemoSlide, layout: Layout) -> Anatomy:
    """Fill the outlines of a slide with compartments."""
    rng = stream(slide, "anatomy")
    size = layout.tissue_um.shape
    noise = noise_on(rng, size, STEP_UM)
    nest = _nests(rng, layout)
    clear_of_tumour = smoothstep(-layout.tumour_um, 4, 30)
    if slide.tissue == "node":
        lymphoid, follicle = _nodal(rng, slide, layout)
        fat = np.full(size, OUTSIDE_UM, np.float32)
        glands: list[Ring] = []
    else:
        lymphoid, follicle = _aggregates(rng, layout)
        fat = _fat(rng, slide, layout)
        room = np.minimum(layout.tissue_um, -layout.tumour_um)
        glands = _glands(rng, slide, np.minimum(room, -fat))
    free = np.minimum(np.minimum(layout.tissue_um, -nest), -fat)
    # Neither fat nor tumour holds many lymphocytes.
    lymphoid = lymphoid * (1 - smoothstep(fat, -10, 5))
    lymphoid = lymphoid * np.maximum(clear_of_tumour, 0.1)
    vessels = _vessels(rng, slide, free, glands)
    cellular = np.clip(0.45 + 0.3 * noise(180), 0.08, 1)
    collagen = np.clip(0.6 + 0.3 * noise(152), 0.1, 1)
    return Anatomy(
        nest_um=nest,
        lymphoid=lymphoid,
        follicle=follicle * clear_of_tumour,
        fat_um=fat.astype(np.float32),
        cellular=cellular,
        collagen=collagen,
        glands=glands,
        vessels=vessels,
    )


def _nests(rng: Rng, layout: Layout) -> Field:
    """Tumour cells lie in nests with strands of stroma between, thinner towards the middle."""
    noise = noise_on(rng, layout.tumour_um.shape, STEP_UM)
    coarse = noise(70)
    fine = noise(24)
    # Ridges of the noise, not its lows: strands are long and thin.
    strand = np.abs(coarse + 0.25 * fine)
    width = rng.uniform(0.10, 0.26)
    # Ragged, but never past the outline: what is annotated holds all that is painted.
    within = layout.tumour_um + np.minimum(5 * fine, -1)
    inside_strands = (strand - width) * 40
    nests: Field = np.minimum(inside_strands, within).astype(np.float32)
    return nests


def _fat(rng: Rng, slide: DemoSlide, layout: Layout) -> Field:
    """Lobules of fat, away from the tumour and from the edge of the tissue."""
    threshold = 1.0 if slide.tissue == "resection" else 1.35
    noise = noise_on(rng, layout.tissue_um.shape, STEP_UM)
    fat = 60 * (noise(150) - threshold)
    off_tumour = -layout.tumour_um - 25
    off_edge = layout.tissue_um - 12
    return np.minimum(fat, np.minimum(off_tumour, off_edge))


def _nodal(rng: Rng, slide: DemoSlide, layout: Layout) -> tuple[Field, Field]:
    """A lymph node: capsule, sinus under it, cortex with follicles, medulla with sinuses."""
    depth = layout.tissue_um
    size = depth.shape
    noise = noise_on(rng, size, STEP_UM)
    wobble = noise(60)
    capsule = 16 + 5 * wobble
    below_capsule = depth - capsule
    parenchyma = smoothstep(below_capsule, 0, 6)
    sinus_begins = smoothstep(below_capsule, 4, 9)
    sinus_ends = smoothstep(below_capsule, 13, 22)
    sinus = sinus_begins * (1 - sinus_ends)
    medulla = smoothstep(depth + 25 * wobble, 110, 190)
    # Cords of lymphocytes and trabeculae of collagen follow zeros of the noise.
    cords = smoothstep(np.abs(noise(34)), 0.15, 0.5)
    trabecula = smoothstep(np.abs(noise(150)), 0.03, 0.10)
    paler_medulla = 1 - medulla * 0.85 * (1 - cords)
    density = parenchyma * (1 - 0.75 * sinus) * paler_medulla
    deep = smoothstep(depth, 90, 140)
    density *= np.maximum(trabecula, deep * 0.35)
    follicle = np.zeros(size, np.float32)
    y, x = mesh_um(size, STEP_UM)
    cortex = (depth > 60) & (depth < 190) & (layout.tumour_um < -50)
    for centre in even_points(rng, extent_um(slide), 150):
        row, column = (centre / STEP_UM).astype(int)
        if not cortex[row, column] or rng.random() < 0.15:
            continue
        radius = rng.uniform(32, 62) + 9 * noise(56)
        stretch = rng.uniform(0.75, 1.3)
        centre_y, centre_x = centre
        away = np.hypot(y - centre_y, (x - centre_x) * stretch)
        outside = (away - radius).astype(np.float32)
        inside = 1 - smoothstep(outside, -7, 7)
        follicle = np.maximum(follicle, inside)
        # Small lymphocytes lie densely around the pale centre.
        outside = (away - radius - 24).astype(np.float32)
        mantle = 1 - smoothstep(outside, -6, 10)
        density = np.maximum(density, mantle * parenchyma)
    return density.astype(np.float32), follicle * parenchyma


def _aggregates(rng: Rng, layout: Layout) -> tuple[Field, Field]:
    """Patches of lymphocytes in stroma, and the cuff of them that tumour often has."""
    noise = noise_on(rng, layout.tissue_um.shape, STEP_UM)
    patch = noise(105)
    patch = patch + 0.3 * noise(32)
    density = smoothstep(patch, 1.0, 1.7)
    near_edge = bell((layout.tumour_um + 12) / 18)
    cuff = near_edge * smoothstep(noise(80), 0.1, 1.1)
    within = smoothstep(layout.tissue_um, 6, 18)
    follicle = smoothstep(patch, 2.0, 2.3) * within
    density = np.maximum(density, 0.7 * cuff) * within
    return density.astype(np.float32), follicle


def _ring(rng: Rng, seat: Points, radius: float, wall: float, wobble: float) -> Ring:
    """A ring of five random harmonics, weaker the finer they are.

    Args:
        rng: random state.
        seat: centre (y, x), um.
        radius: mean outer radius, um.
        wall: thickness of the wall, um.
        wobble: standard deviation of the coarsest harmonic, as a share of the radius.
    """
    harmonics = []
    for order in range(1, 6):
        amplitude = wobble / order * float(rng.normal())
        phase = float(rng.uniform(0, 6.28))
        harmonics.append((amplitude, phase))
    y, x = seat.tolist()
    return Ring(
        y_um=y,
        x_um=x,
        radius_um=radius,
        wall_um=wall,
        wobble=tuple(harmonics),
    )


def _glands(rng: Rng, slide: DemoSlide, room_um: Field) -> list[Ring]:
    """Lobules: groups of acini, round a larger duct."""
    glands: list[Ring] = []
    seats = even_points(rng, extent_um(slide), 52)
    rng.shuffle(seats)
    noise = noise_on(rng, room_um.shape, STEP_UM)
    lobule = noise(170)
    for seat in seats:
        row, column = (seat / STEP_UM).astype(int)
        acinus = rng.uniform(19, 30)
        duct = rng.uniform(28, 48)
        radius = float(rng.choice([acinus, duct], p=[0.6, 0.4]))
        if lobule[row, column] < 0.25:
            continue
        if room_um[row, column] < radius + 10:
            continue
        if _gap_um(glands, seat, radius) < GLAND_GAP_UM:
            continue
        wall = float(rng.uniform(11, 14))
        glands.append(_ring(rng, seat, radius, wall, wobble=0.09))
    return glands


def _vessels(rng: Rng, slide: DemoSlide, free: Field, glands: list[Ring]) -> list[Ring]:
    """Vessels of all sizes, clear of glands, nests and fat."""
    vessels: list[Ring] = []
    room = ndimage.minimum_filter(free, 3)
    for seat in even_points(rng, extent_um(slide), 120):
        row, column = (seat / STEP_UM).astype(int)
        radius = float(np.exp(rng.normal(np.log(14), 0.45)))
        if room[row, column] < radius + 6 or rng.random() < 0.45:
            continue
        if _gap_um(glands, seat, radius) < VESSEL_GAP_UM:
            continue
        wall = float(rng.uniform(0.12, 0.3)) * radius + 1.6
        vessels.append(_ring(rng, seat, radius, wall, wobble=0.16))
    return vessels


def _gap_um(glands: list[Ring], seat: Points, radius: float) -> float:
    """Distance in um from a ring about to be placed to the nearest gland."""
    gaps = []
    for gland in glands:
        distance = np.hypot(gland.y_um - seat[0], gland.x_um - seat[1])
        gaps.append(distance - gland.radius_um - radius)
    return min(gaps, default=99.0)
