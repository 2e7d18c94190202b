"""Positions of the nuclei: evenly spread within each compartment, none through another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from mil.demo.anatomy import Anatomy, Ring
from mil.demo.noise import Field, Points, Rng, even_points, smoothstep
from mil.demo.plan import DemoSlide
from mil.demo.sprites import ANGLES, KINDS
from mil.demo.tissue import STEP_UM, Layout, extent_um, stream

# Share of tumour nuclei that divide, and share up to which they divide or die.
MITOTIC = 0.013
MITOTIC_OR_DYING = 0.025
# Farthest nucleus that may touch another, um.
REACH_UM = 20


class Cells(NamedTuple):
    """Nuclei of one kind.

    Attributes:
        kind: key of `KINDS`.
        position_um: positions [n, 2], (y, x).
        size: index of each into the kind's diameters.
        angle: index of each turn, of `ANGLES`.
    """

    kind: str
    position_um: Points
    size: NDArray[np.intp]
    angle: NDArray[np.intp]


class Population(NamedTuple):
    """Density of the nuclei of one kind.

    Attributes:
        kind: key of `KINDS`.
        spacing_um: least distance of two, um.
        density: share of the possible positions that are taken, on nodes 4 um apart.
        clearance_um: half the room that each needs beside other kinds, um; 0: none.
    """

    kind: str
    spacing_um: float
    density: Field
    clearance_um: float


def at_points(field: Field, position_um: Points) -> Field:
    """Values of a 4 um field at positions (y, x) in um."""
    values: Field = ndimage.map_coordinates(field, position_um.T / STEP_UM, order=1, mode="nearest")
    return values


def place_cells(slide: DemoSlide, layout: Layout, anatomy: Anatomy, grain: Field) -> list[Cells]:
    """All nuclei of a slide.

    Args:
        slide: the slide.
        layout: outlines of the slide.
        anatomy: compartments of the slide.
        grain: distance across the fibres in um, on nodes 4 um apart; its slope turns
            the spindle nuclei.
    """
    rng = stream(slide, "cells")
    placed = _ring_cells(rng, anatomy)
    rings = anatomy.glands + anatomy.vessels
    # Kinds that need clearance come after those they must not meet.
    for population in _populations(layout, anatomy):
        position = even_points(rng, extent_um(slide), population.spacing_um)
        density = at_points(population.density, position)
        position = position[rng.random(len(position)) < density]
        position = position[~_inside(rings, position)]
        position = _apart(placed, position, population.clearance_um)
        placed.append(_with_size_and_turn(rng, population.kind, position, grain))
    return _with_deaths(rng, placed)


def _populations(layout: Layout, anatomy: Anatomy) -> list[Population]:
    nest = smoothstep(anatomy.nest_um, -1, 4)
    solid = (layout.tissue_um > 4) & (anatomy.fat_um < -4)
    outside = (1 - smoothstep(anatomy.nest_um, -7, -3)) * solid
    dense = np.maximum(anatomy.lymphoid, anatomy.follicle)
    lymphocyte = anatomy.lymphoid * (1 - anatomy.follicle) * 0.93
    lymphocyte = lymphocyte + 0.028 * anatomy.cellular + 0.12 * anatomy.follicle
    # A few lymphocytes lie among the tumour cells.
    lymphocyte = np.maximum(outside * lymphocyte, nest * 0.015)
    plasma = (outside * (0.15 + anatomy.lymphoid) * 0.3).astype(np.float32)
    stroma = outside * (1 - smoothstep(dense, 0.3, 0.75)) * anatomy.cellular
    return [
        Population("tumour", 11.4, nest * 0.96, 0.0),
        Population("centre", 7.6, outside * anatomy.follicle * 0.88, 4.5),
        Population("lymphocyte", 6.1, lymphocyte, 3.4),
        Population("plasma", 24.0, plasma, 5.0),
        Population("fibroblast", 10.5, stroma * 0.8, 3.0),
    ]


def _apart(placed: list[Cells], position: Points, clearance_um: float) -> Points:
    """Positions at which a nucleus of half width `clearance_um` meets no nucleus placed."""
    for other in placed:
        if len(other.position_um) and len(position) and clearance_um:
            kind = KINDS[other.kind]
            half = np.array(kind.diameters)[other.size] / 2
            if kind.pointed:
                half = half * 0.5
            tree = cKDTree(other.position_um)
            away, nearest = tree.query(position, distance_upper_bound=REACH_UM)
            # Where none is near, `nearest` is one past the end.
            reach = np.append(half, 0.0)[nearest]
            position = position[away > clearance_um + reach * 0.95]
    return position


def _with_size_and_turn(rng: Rng, kind: str, position: Points, grain: Field) -> Cells:
    """Give every nucleus a size that its nearest neighbour leaves room for, and a turn."""
    diameters = np.array(KINDS[kind].diameters)
    room = np.full(len(position), diameters[-1])
    if len(position) > 1 and kind != "fibroblast":
        # The nearest but itself; tumour nuclei may overlap a little more.
        distances, _ = cKDTree(position).query(position, k=2)
        distance = distances[:, 1]
        room = distance * (1.12 if kind == "tumour" else 1.03)
    usual = np.log(np.median(diameters) * 1.04)
    wish = np.exp(rng.normal(usual, 0.24, len(position)))
    # The largest sprite that is not larger.
    size = np.searchsorted(diameters, np.minimum(wish, room)) - 1
    down = at_points(np.gradient(grain, axis=0), position)
    across = at_points(np.gradient(grain, axis=1), position)
    along = np.arctan2(across, -down)
    along = along + rng.normal(0, 0.16, len(position))
    return Cells(kind, position, np.clip(size, 0, None), _turn_index(along))


def _turn_index(angle: NDArray[np.floating]) -> NDArray[np.intp]:
    """Index of the nearest of `ANGLES` turns in half a circle; nuclei have no front."""
    turns = np.rint(angle / np.pi * ANGLES)
    index: NDArray[np.intp] = turns.astype(int) % ANGLES
    return index


def _with_deaths(rng: Rng, placed: list[Cells]) -> list[Cells]:
    """Let a few tumour nuclei divide or die."""
    result = []
    for cells in placed:
        if cells.kind != "tumour":
            result.append(cells)
            continue
        fate = rng.random(len(cells.position_um))
        chosen_by_kind = {
            "tumour": fate > MITOTIC_OR_DYING,
            "mitosis": fate < MITOTIC,
            "apoptosis": (fate >= MITOTIC) & (fate <= MITOTIC_OR_DYING),
        }
        for kind, chosen in chosen_by_kind.items():
            # Other kinds have fewer sizes.
            largest = len(KINDS[kind].diameters) - 1
            size = np.minimum(cells.size[chosen], largest)
            position = cells.position_um[chosen]
            angle = cells.angle[chosen]
            result.append(Cells(kind, position, size, angle))
    return result


def _ring_cells(rng: Rng, anatomy: Anatomy) -> list[Cells]:
    """Gland epithelium in a regular row, vessel lining along the wall, red cells in the hollow."""
    positions: dict[str, list[Points]] = {"epithelium": [], "fibroblast": [], "red_cell": []}
    turns: dict[str, list[Points]] = {"epithelium": [], "fibroblast": []}
    for gland in anatomy.glands:
        position, angle = _along(rng, gland, spacing_um=6.4, depth_um=5.2)
        positions["epithelium"].append(position)
        turns["epithelium"].append(angle)
        # Myoepithelium, flat against the basement membrane.
        position, angle = _along(rng, gland, spacing_um=21.0, depth_um=0.6)
        positions["fibroblast"].append(position)
        turns["fibroblast"].append(angle + np.pi / 2)
    for vessel in anatomy.vessels:
        position, angle = _along(rng, vessel, spacing_um=17.0, depth_um=vessel.wall_um * 0.6)
        positions["fibroblast"].append(position)
        turns["fibroblast"].append(angle + np.pi / 2)
        positions["red_cell"].append(_filling(rng, vessel))
    cells = []
    for kind, kind_positions in positions.items():
        # An empty array first, for slides without glands or vessels.
        position = np.concatenate([np.zeros((0, 2)), *kind_positions])
        angle = np.zeros(len(position))
        if kind in turns:
            angle = np.concatenate([np.zeros(0), *turns[kind]])
        turn = _turn_index(angle + rng.normal(0, 0.12, len(angle)))
        num_sizes = 2 if kind == "fibroblast" else len(KINDS[kind].diameters)
        size = rng.integers(0, num_sizes, len(position))
        cells.append(Cells(kind, position, size, turn))
    return cells


def _along(rng: Rng, ring: Ring, spacing_um: float, depth_um: float) -> tuple[Points, Points]:
    """Positions along a ring, and the outward direction at each.

    Args:
        rng: random state.
        ring: the ring.
        spacing_um: distance of two positions along the ring, um.
        depth_um: distance under the outer edge, um.
    """
    fine = np.linspace(0, 2 * np.pi, 361)
    radius = ring.radius_at(fine) - depth_um
    step_x = np.diff(radius * np.cos(fine))
    step_y = np.diff(radius * np.sin(fine))
    step = np.hypot(step_x, step_y)
    length = np.concatenate([[0], np.cumsum(step)])
    count = max(int(length[-1] / spacing_um), 3)
    jitter = rng.uniform(-0.12, 0.12, count)
    stations = (np.arange(count) + jitter) * length[-1] / count
    angle = np.interp(stations, length, fine)
    out = np.interp(stations, length, radius) + rng.normal(0, 0.55, count)
    y = ring.y_um + out * np.sin(angle)
    x = ring.x_um + out * np.cos(angle)
    return np.stack([y, x], axis=1), angle


def _filling(rng: Rng, vessel: Ring) -> Points:
    """Red cells in part of a vessel's hollow."""
    inner = vessel.radius_um - vessel.wall_um
    if rng.random() < 0.35 or inner < 4:
        return np.zeros((0, 2))
    position = even_points(rng, (2 * inner, 2 * inner), 5.0) - inner
    level = rng.uniform(-0.6, 1.2) * inner
    tilt = rng.uniform(0, 2 * np.pi)
    downwards = np.array([np.sin(tilt), np.cos(tilt)])
    settled = position @ downwards < level
    y, x = position.T
    radius = vessel.radius_at(np.arctan2(y, x)) - vessel.wall_um - 3
    inside = np.hypot(y, x) < radius
    centre = np.array([vessel.y_um, vessel.x_um])
    filling: Points = position[settled & inside] + centre
    return filling


def _inside(rings: list[Ring], position: Points) -> NDArray[np.bool_]:
    """Positions that lie in a ring or touch it."""
    inside = np.zeros(len(position), bool)
    if not len(position):
        return inside
    tree = cKDTree(position)
    for ring in rings:
        centre = ring.y_um, ring.x_um
        # Wobble takes a ring to at most half more than its mean radius.
        reach = ring.radius_um * 1.5 + 6
        near = np.array(tree.query_ball_point(centre, reach), dtype=int)
        y, x = (position[near] - np.array(centre)).T
        edge = ring.radius_at(np.arctan2(y, x)) + 2.5
        inside[near] |= np.hypot(y, x) < edge
    return inside
