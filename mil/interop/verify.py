"""Bags looked over, ours and other tools': one line a fault; nothing is changed."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from mil.errors import FormatError
from mil.interop.detect import find, tool_module
from mil.interop.external import Source
from mil.interop.untrusted import attribute, dataset, opened
from mil.io.bags import Bag, read_bag
from mil.io.bags.checks import difference
from mil.progress import progress

ARRAYS = ("features", "valid", "coords", "coords_um")
# What all bags of a folder share.
SHARED = ("dim", "encoder", "weights_sha256", "tiling")


@dataclass(frozen=True)
class Summary:
    """What the bags of a folder have in common; empty or None: not said."""

    path: str
    dim: int | None = None
    encoder: str = ""
    weights_sha256: str = ""
    tiling: str = ""


@dataclass(frozen=True)
class Verified:
    """How many bags were looked at, and what is wrong with them."""

    bags: int
    faults: list[str]


def run(paths: Sequence[Path]) -> Verified:
    """Look over files and folders of bags.

    Raises:
        FormatError: a path does not exist or holds no bags.
    """
    faults: list[str] = []
    folders: dict[Path, list[Summary]] = defaultdict(list)
    sources: list[Source] = []
    for path in paths:
        found = find(path)
        sources += found.sources
        faults += map(str, found.faults)
    unreadable = len(faults)
    with progress("verify", len(sources), "bags") as advance:
        for source in sources:
            try:
                summary, new = _ours(source) if source.tool == "mil" else _foreign(source)
                folders[source.path if source.member else source.path.parent].append(summary)
                faults += new
            except FormatError as error:
                faults.append(str(error))
            advance(1)
    for summaries in folders.values():
        faults += _differences(summaries)
    return Verified(len(sources) + unreadable, faults)


def _ours(source: Source) -> tuple[Summary, list[str]]:
    with opened(source.path) as file:
        for name in ARRAYS:
            dataset(file, name, source.where)  # no link is followed by looking
        for name in file.attrs:
            attribute(file.attrs, name, source.where)
    bag = read_bag(source.path)
    summary = Summary(
        source.where, bag.features.shape[1], bag.encoder, bag.weights_sha256, bag.tiling
    )
    # A slide without tiles knows neither its weights nor, sometimes, its tiling.
    return (summary if bag.state == "ok" else Summary(source.where)), [*_faults(bag, source)]


def _faults(bag: Bag, source: Source) -> Iterator[str]:
    where = source.where
    if bag.slide != source.slide:
        yield f"{where}: says that it is of slide {bag.slide!r}; rename it, or it is found as another slide"
    if bag.state == "ok" and not bag.valid.any():
        yield f"{where}: is ok, but has no tile that could be read"
    bad = np.flatnonzero(~np.isfinite(bag.features[bag.valid]).all(axis=1))
    if len(bad):
        yield f"{where}: NaN or infinity in {len(bad)} of {int(bag.valid.sum())} valid tiles"
    if bag.coords is not None:
        yield from _places(bag.coords, bag.width_level0_px, bag.height_level0_px, where)


def _places(
    coords: Shaped[np.ndarray, "tiles 2"], width: int | None, height: int | None, where: str
) -> Iterator[str]:
    unique, counts = (
        np.unique(coords, axis=0, return_counts=True) if len(coords) else (coords, np.zeros(0))
    )
    if len(unique) < len(coords):
        x, y = unique[counts.argmax()]
        yield f"{where}: {len(coords) - len(unique)} tiles have the corner of another one, such as ({x:g}, {y:g})"
    outside = (coords < 0).any(axis=1)
    if width and height:
        outside |= (coords >= (width, height)).any(axis=1)
    if outside.any():
        x, y = coords[outside][0]
        size = f" of {width} x {height} px" if width and height else ""
        yield f"{where}: {int(outside.sum())} tiles begin outside the slide{size}, such as ({x:g}, {y:g})"


def _foreign(source: Source) -> tuple[Summary, list[str]]:
    found = tool_module(source.tool).read(source)
    said = found.said
    dim = found.features.shape[1] if len(found.features) else None
    summary = Summary(source.where, dim, said.get("encoder") or "")
    coords = found.coords if found.coords is not None else found.coords_um
    if coords is None:
        return summary, []
    return summary, [
        *_places(coords, said.get("width_level0_px"), said.get("height_level0_px"), source.where)
    ]


def _differences(summaries: Sequence[Summary]) -> Iterator[str]:
    """Bags that are not like most of their folder."""
    for name in SHARED:
        values = Counter(
            value
            for each in summaries
            if (value := getattr(each, name)) or name == "weights_sha256"
        )
        if len(values) < 2:
            continue
        usual, times = values.most_common(1)[0]
        for each in summaries:
            value = getattr(each, name)
            if value != usual and each.dim is not None and (value or name == "weights_sha256"):
                shown = str(value or "")[:64]
                usual_bags = f"{times} of {len(summaries)} bags"
                yield difference(each.path, name, shown, usual, usual_bags)
