"""Where the nuclei lie: evenly spread within each compartment, none through another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from mil.demo.anatomy import Anatomy, Ring
from mil.demo.noise import Field, Points, even_points, smoothstep
from mil.demo.plan import DemoSlide
from mil.demo.sprites import ANGLES, KINDS
from mil.demo.tissue import STEP_UM, Layout, extent_um, stream


class Cells(NamedTuple):
    """Nuclei of one kind."""

    kind: str
    place_um: Points  # [n, 2] as (y, x)
    size: NDArray[np.intp]  # index into the kind's diameters
    angle: NDArray[np.intp]  # index of the turn, of ANGLES


def at_points(field: Field, place_um: Points) -> Field:
    """A 4 um field at places (y, x) in um."""
    values: Field = ndimage.map_coordinates(field, place_um.T / STEP_UM, order=1, mode="nearest")
    return values


def place_cells(slide: DemoSlide, layout: Layout, anatomy: Anatomy, grain: Field) -> list[Cells]:
    """All nuclei of a slide.

    Args:
        slide: the slide.
        layout: its outlines.
        anatomy: its compartments.
        grain: distance across the fibres in um, on nodes 4 um apart; its slope turns
            the spindle nuclei.
    """
    rng = stream(slide, "cells")
    nest = smoothstep(anatomy.nest_um, -1, 4)
    outside = (1 - smoothstep(anatomy.nest_um, -7, -3)) * (
        (layout.tissue_um > 4) & (anatomy.fat_um < -4)
    )
    dense = np.maximum(anatomy.lymphoid, anatomy.follicle)
    lymphocyte = anatomy.lymphoid * (1 - anatomy.follicle) * 0.93
    lymphocyte = lymphocyte + 0.028 * anatomy.cellular + 0.12 * anatomy.follicle
    stroma = outside * (1 - smoothstep(dense, 0.3, 0.75)) * anatomy.cellular
    wanted: list[tuple[str, float, Field, float]] = [
        ("tumour", 11.4, nest * 0.96, 0.0),
        ("centre", 7.6, outside * anatomy.follicle * 0.88, 4.5),
        ("lymphocyte", 6.1, np.maximum(outside * lymphocyte, nest * 0.015), 3.4),
        ("plasma", 24.0, (outside * (0.15 + anatomy.lymphoid) * 0.3).astype(np.float32), 5.0),
        ("fibroblast", 10.5, stroma * 0.8, 3.0),
    ]
    placed = _ring_cells(rng, anatomy)
    rings = anatomy.glands + anatomy.vessels
    for kind, spacing_um, density, clearance_um in wanted:
        place = even_points(rng, extent_um(slide), spacing_um)
        place = place[rng.random(len(place)) < at_points(density, place)]
        place = place[~_inside(rings, place)]
        place = _apart(placed, place, clearance_um)
        placed.append(_dress(rng, kind, place, grain))
    return _with_deaths(rng, placed)


def _apart(placed: list[Cells], place: Points, clearance_um: float) -> Points:
    """The places at which a nucleus of half width `clearance_um` meets no nucleus already placed."""
    for other in placed:
        if len(other.place_um) and len(place) and clearance_um:
            kind = KINDS[other.kind]
            half = np.array(kind.diameters)[other.size] / 2
            if kind.pointed:
                half = half * 0.5
            away, nearest = cKDTree(other.place_um).query(place, distance_upper_bound=20)
            reach = np.append(half, 0.0)[nearest]
            place = place[away > clearance_um + reach * 0.95]
    return place


def _dress(rng: np.random.Generator, kind: str, place: Points, grain: Field) -> Cells:
    """Give every nucleus a size that its nearest neighbour leaves room for, and a turn."""
    diameters = np.array(KINDS[kind].diameters)
    room = np.full(len(place), diameters[-1])
    if len(place) > 1 and kind != "fibroblast":
        room = cKDTree(place).query(place, k=2)[0][:, 1] * (1.12 if kind == "tumour" else 1.03)
    wish = np.exp(rng.normal(np.log(np.median(diameters) * 1.04), 0.24, len(place)))
    size = np.searchsorted(diameters, np.minimum(wish, room)) - 1
    down = np.gradient(grain, axis=0)
    across = np.gradient(grain, axis=1)
    along = np.arctan2(at_points(across, place), -at_points(down, place)) + rng.normal(
        0, 0.16, len(place)
    )
    angle = np.rint(along / np.pi * ANGLES).astype(int) % ANGLES
    return Cells(kind, place, np.clip(size, 0, None), angle)


def _with_deaths(rng: np.random.Generator, placed: list[Cells]) -> list[Cells]:
    """Let a few tumour nuclei divide or die."""
    done = []
    for cells in placed:
        if cells.kind != "tumour":
            done.append(cells)
            continue
        fate = rng.random(len(cells.place_um))
        for kind, chosen in (
            ("tumour", fate > 0.025),
            ("mitosis", fate < 0.013),
            ("apoptosis", (fate >= 0.013) & (fate <= 0.025)),
        ):
            size = np.minimum(cells.size[chosen], len(KINDS[kind].diameters) - 1)
            done.append(Cells(kind, cells.place_um[chosen], size, cells.angle[chosen]))
    return done


def _ring_cells(rng: np.random.Generator, anatomy: Anatomy) -> list[Cells]:
    """Gland epithelium in a regular row, vessel lining along the wall, red cells in the hollow."""
    rows: dict[str, list[Points]] = {"epithelium": [], "fibroblast": [], "red_cell": []}
    turns: dict[str, list[Points]] = {"epithelium": [], "fibroblast": []}
    for gland in anatomy.glands:
        place, angle = _along(rng, gland, 6.4, 5.2)
        rows["epithelium"].append(place)
        turns["epithelium"].append(angle)
        place, angle = _along(
            rng, gland, 21.0, 0.6
        )  # myoepithelium, flat against the basement membrane
        rows["fibroblast"].append(place)
        turns["fibroblast"].append(angle + np.pi / 2)
    for vessel in anatomy.vessels:
        place, angle = _along(rng, vessel, 17.0, vessel.wall_um * 0.6)
        rows["fibroblast"].append(place)
        turns["fibroblast"].append(angle + np.pi / 2)
        rows["red_cell"].append(_filling(rng, vessel))
    cells = []
    for kind, places in rows.items():
        place = np.concatenate([np.zeros((0, 2)), *places])
        angle = (
            np.concatenate([np.zeros(0), *turns[kind]]) if kind in turns else np.zeros(len(place))
        )
        turn = (
            np.rint((angle + rng.normal(0, 0.12, len(angle))) / np.pi * ANGLES).astype(int) % ANGLES
        )
        most = 2 if kind == "fibroblast" else len(KINDS[kind].diameters)
        cells.append(Cells(kind, place, rng.integers(0, most, len(place)), turn))
    return cells


def _along(
    rng: np.random.Generator, ring: Ring, spacing_um: float, depth_um: float
) -> tuple[Points, Points]:
    """Places along a ring at a depth under its outer edge, and the outward direction at each."""
    fine = np.linspace(0, 2 * np.pi, 361)
    radius = ring.radius_at(fine) - depth_um
    step = np.hypot(np.diff(radius * np.cos(fine)), np.diff(radius * np.sin(fine)))
    length = np.concatenate([[0], np.cumsum(step)])
    count = max(int(length[-1] / spacing_um), 3)
    stations = (np.arange(count) + rng.uniform(-0.12, 0.12, count)) * length[-1] / count
    angle = np.interp(stations, length, fine)
    out = np.interp(stations, length, radius) + rng.normal(0, 0.55, count)
    place = np.stack([ring.y_um + out * np.sin(angle), ring.x_um + out * np.cos(angle)], axis=1)
    return place, angle


def _filling(rng: np.random.Generator, vessel: Ring) -> Points:
    """Red cells in part of a vessel's hollow."""
    inner = vessel.radius_um - vessel.wall_um
    if rng.random() < 0.35 or inner < 4:
        return np.zeros((0, 2))
    place = even_points(rng, (2 * inner, 2 * inner), 5.0) - inner
    level = rng.uniform(-0.6, 1.2) * inner
    tilt = rng.uniform(0, 2 * np.pi)
    settled = place @ np.array([np.sin(tilt), np.cos(tilt)]) < level
    radius = vessel.radius_at(np.arctan2(place[:, 0], place[:, 1])) - vessel.wall_um - 3
    inside = np.hypot(place[:, 0], place[:, 1]) < radius
    filling: Points = place[settled & inside] + np.array([vessel.y_um, vessel.x_um])
    return filling


def _inside(rings: list[Ring], place: Points) -> NDArray[np.bool_]:
    inside = np.zeros(len(place), bool)
    if not len(place):
        return inside
    tree = cKDTree(place)
    for ring in rings:
        near = np.array(
            tree.query_ball_point((ring.y_um, ring.x_um), ring.radius_um * 1.5 + 6), dtype=int
        )
        offset = place[near] - np.array([ring.y_um, ring.x_um])
        edge = ring.radius_at(np.arctan2(offset[:, 0], offset[:, 1])) + 2.5
        inside[near] |= np.hypot(offset[:, 0], offset[:, 1]) < edge
    return inside
