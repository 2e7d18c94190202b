"""`mil bags verify`: damage in bags and other tools' files, one line a fault.

Nothing is changed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from mil.errors import FormatError, some
from mil.interop.detect import find_feature_files, tool_module
from mil.interop.external import FeatureFile
from mil.interop.untrusted import get_dataset, open_hdf5, read_attribute
from mil.io.bags import Bag, read_bag
from mil.io.bags.checks import difference
from mil.io.checksums import ATTRIBUTE
from mil.io.tiles import tile_digest
from mil.progress import progress

ARRAYS = ("features", "valid", "coords", "coords_um")
# Facts that all bags of a folder share.
SHARED_FACTS = ("dim", "encoder", "weights_sha256", "tiling", "stain_norm")


@dataclass(frozen=True)
class SharedFacts:
    """Facts of one bag that must agree within its folder; empty or None: not known."""

    location: str
    dim: int | None = None
    encoder: str = ""
    weights_sha256: str = ""
    tiling: str = ""
    stain_norm: str = ""


class BagVerification(NamedTuple):
    """Number of bags that were examined, a line for each fault, and lines that are none."""

    bags: int
    faults: list[str]
    notes: list[str]


class _CheckedBag(NamedTuple):
    facts: SharedFacts
    faults: list[str]
    # Of bags alone: whether changes after their writing would be noticed.
    has_checksums: bool = True


def run(paths: Sequence[Path]) -> BagVerification:
    """Examine files and folders of bags.

    Args:
        paths: bags, files of other tools, or folders of either.

    Raises:
        FormatError: a path does not exist or holds no bags.
    """
    files: list[FeatureFile] = []
    faults: list[str] = []
    for path in paths:
        detected = find_feature_files(path)
        files += detected.files
        faults += map(str, detected.faults)
    # They count as bags: each is a file that should have been one.
    undetected = len(faults)
    facts_by_folder: dict[Path, list[SharedFacts]] = defaultdict(list)
    without_checksums: list[str] = []
    with progress("verify", len(files), "bags") as advance:
        for file in files:
            try:
                checked = _check_bag(file) if file.tool == "mil" else _check_external(file)
            except FormatError as error:
                faults.append(str(error))
            else:
                # All slides of ACMIL's file belong together, as those of a folder do.
                folder = file.path if file.group else file.path.parent
                facts_by_folder[folder].append(checked.facts)
                faults += checked.faults
                if not checked.has_checksums:
                    without_checksums.append(file.slide)
            advance(1)
    for facts in facts_by_folder.values():
        faults += _differences(facts)
    notes = []
    if without_checksums:
        notes.append(
            f"{len(without_checksums)} bags carry no checksums, since an older version wrote them: "
            f"{some(without_checksums)}; a change of their numbers would not be noticed"
        )
    return BagVerification(len(files) + undetected, faults, notes)


def _check_bag(file: FeatureFile) -> _CheckedBag:
    # First as an untrusted file: `read_bag` would follow links and read large attributes.
    with open_hdf5(file.path) as opened:
        for name in ARRAYS:
            get_dataset(opened, name, file.location)
        for name in opened.attrs:
            read_attribute(opened.attrs, name, file.location)
        has_checksums = ATTRIBUTE in opened.attrs
    bag = read_bag(file.path)
    facts = SharedFacts(file.location)
    # A slide without tiles knows neither its weights nor, sometimes, its tiling.
    if bag.state == "ok":
        facts = SharedFacts(
            file.location,
            bag.features.shape[1],
            bag.encoder,
            bag.weights_sha256,
            bag.tiling,
            bag.stain_norm,
        )
    faults = list(_bag_faults(bag, file))
    # Checksums would have shown it.
    if not has_checksums and not _has_its_tiles(bag):
        faults.append(
            f"{file.location}: its coordinates are not those of the tiles that it was made from; "
            "extract its features again"
        )
    return _CheckedBag(facts, faults, has_checksums)


def _bag_faults(bag: Bag, file: FeatureFile) -> Iterator[str]:
    location = file.location
    if bag.slide != file.slide:
        yield (
            f"{location}: its header names the slide {bag.slide!r}; rename the file, or it counts "
            "as another slide"
        )
    if bag.state == "ok" and not bag.valid.any():
        yield f"{location}: its state is ok, but no tile could be read"
    # Rows that are not valid are zeros by definition, and never read.
    bad_rows = np.flatnonzero(~np.isfinite(bag.features[bag.valid]).all(axis=1))
    if len(bad_rows):
        yield (
            f"{location}: NaN or infinity in {len(bad_rows)} of {int(bag.valid.sum())} valid tiles"
        )
    if bag.coords is not None:
        yield from _coordinate_faults(
            bag.coords, bag.width_level0_px, bag.height_level0_px, location
        )


def _has_its_tiles(bag: Bag) -> bool:
    """Whether the corners are those that the digest in the header is of."""
    # Files of other tools may carry our header beside other tiles.
    if bag.source != "slide" or not bag.tile_digest or bag.coords is None:
        return True
    digest = tile_digest(bag.coords, bag.tile_px, bag.target_mpp, bag.side_level0_px)
    return digest == bag.tile_digest


def _coordinate_faults(
    coords: Shaped[np.ndarray, "tiles 2"], width: int | None, height: int | None, location: str
) -> Iterator[str]:
    """Lines about corners that are there twice, or outside the slide.

    Args:
        coords: top left corners.
        width: width of the slide in the unit of the corners; None: not known.
        height: height of the slide.
        location: the file, and the group in it.
    """
    if not len(coords):
        return
    # Tiles may overlap, but the same tile twice would count twice in a head.
    corners, counts = np.unique(coords, axis=0, return_counts=True)
    if len(corners) < len(coords):
        x, y = corners[counts.argmax()]
        yield (
            f"{location}: {len(coords) - len(corners)} tiles have the corner of another one, such "
            f"as ({x:g}, {y:g})"
        )
    outside = (coords < 0).any(axis=1)
    size = ""
    if width and height:
        outside |= (coords >= (width, height)).any(axis=1)
        size = f" of {width} x {height} px"
    if outside.any():
        x, y = coords[outside][0]
        yield (
            f"{location}: {int(outside.sum())} tiles begin outside the slide{size}, such as "
            f"({x:g}, {y:g})"
        )


def _check_external(file: FeatureFile) -> _CheckedBag:
    external = tool_module(file.tool).read(file)
    stated = external.stated
    # An empty table has no dimension to compare.
    dim = external.features.shape[1] if len(external.features) else None
    facts = SharedFacts(file.location, dim, stated.encoder)
    coords = external.coords if external.coords is not None else external.coords_um
    if coords is None:
        return _CheckedBag(facts, [])
    faults = _coordinate_faults(
        coords, stated.width_level0_px, stated.height_level0_px, file.location
    )
    return _CheckedBag(facts, list(faults))


def _differences(bags: Sequence[SharedFacts]) -> Iterator[str]:
    """Lines about bags that differ from most bags of their folder."""
    for name in SHARED_FACTS:
        # Weights that are not known are a difference: heads refuse such bags, and those
        # without stain normalisation beside others. Other facts that are not known are not.
        counts_unknown = name in ("weights_sha256", "stain_norm")
        values = Counter(getattr(bag, name) for bag in bags if getattr(bag, name) or counts_unknown)
        if len(values) < 2:
            continue
        usual, times = values.most_common(1)[0]
        for bag in bags:
            value = getattr(bag, name)
            comparable = bag.dim is not None and (value or counts_unknown)
            if value != usual and comparable:
                shown = str(value or "")[:64]
                usual_bags = f"{times} of {len(bags)} bags"
                yield difference(bag.location, name, shown, usual, usual_bags)
