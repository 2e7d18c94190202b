"""CLAM: features in h5_files/ID.h5 or pt_files/ID.pt, size of a tile in patches/ID.h5."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int

from mil.errors import FormatError
from mil.interop.cohort import ExportCohort, FoldSplits
from mil.interop.convert import whole_pixels
from mil.interop.external import ExternalFeatures, FeatureFile
from mil.interop.header import EmbeddedHeader, HeaderFields, embed_header, read_embedded_header
from mil.interop.untrusted import (
    get_numeric_dataset,
    open_hdf5,
    read_attribute,
    read_coords,
    read_features,
    read_positive,
)
from mil.io.atomic import atomic_path
from mil.io.bags import Bag
from mil.io.slides.resolution import SQUARE
from mil.io.tables import SPLITS, write_csv

# A file of CLAM can be written for any bag: .pt files hold features alone.
REQUIRED_FIELDS: tuple[str, ...] = ()
# Rows of a chunk in CLAM's own files.
CHUNK_ROWS = 32


class _PatchSize(NamedTuple):
    """Size of a tile by CLAM's file of patches; None: not known."""

    tile_px: int | None = None
    side_level0_px: float | None = None


class _H5Content(NamedTuple):
    """Content of a file in h5_files."""

    features: Float[np.ndarray, "tiles dim"]
    coords: Int[np.ndarray, "tiles 2"] | None
    embedded: EmbeddedHeader | None


def read(file: FeatureFile) -> ExternalFeatures:
    """Features, coordinates if there are any, and the size of a tile if patches are known.

    Raises:
        FormatError: a part of the file cannot be what it should be.
    """
    if file.path.suffix.lower() == ".pt":
        # Imported late: torch takes seconds, and only .pt files need it.
        from mil.interop.torch_file import read_pt

        content = _H5Content(read_pt(file.path), None, None)
    else:
        content = _read_h5(file)
    size = _read_patch_size(file, len(content.features), content.coords)
    return ExternalFeatures(
        features=content.features,
        coords=content.coords,
        stated=HeaderFields(side_level0_px=size.side_level0_px),
        # Patches may be larger than what the encoder saw after resizing.
        fallback=HeaderFields(tile_px=size.tile_px),
        embedded=content.embedded,
    )


def _read_h5(file: FeatureFile) -> _H5Content:
    location = file.location
    with open_hdf5(file.path) as opened:
        dataset = get_numeric_dataset(opened, "features", location)
        if dataset is None:
            raise FormatError(f"{location}: has no dataset 'features'")
        features = read_features(dataset, location)
        coords = None
        positions = get_numeric_dataset(opened, "coords", location)
        if positions is not None:
            coords = whole_pixels(read_coords(positions, len(features), location), location)
        return _H5Content(features, coords, read_embedded_header(opened.attrs, location))


def _read_patch_size(
    file: FeatureFile, tiles: int, coords: Int[np.ndarray, "tiles 2"] | None
) -> _PatchSize:
    """Size of a tile by the file of patches, if there is one and it is of the same tiles."""
    if file.patches is None:
        return _PatchSize()
    location = str(file.patches)
    with open_hdf5(file.patches) as opened:
        positions = get_numeric_dataset(opened, "coords", location)
        # Results of another tiling often lie in the same folder.
        if positions is None or not _same_tiles(positions, tiles, coords):
            raise FormatError(
                f"{location}: not the corners of the tiles in {file.path}; name CLAM's folder of "
                "patches for these features with --patches DIR"
            )
        patch_px = read_positive(positions.attrs, "patch_size", location)
        downsample = _read_downsample(positions.attrs, location)
        # Older files: patches were resized once more after reading.
        custom = read_positive(positions.attrs, "custom_downsample", location) or 1.0
    if patch_px is None:
        return _PatchSize()
    side = None if downsample is None else patch_px * downsample * custom
    return _PatchSize(round(patch_px), side)


def read_in_one_order(file: FeatureFile) -> ExternalFeatures:
    """Features of a file whose tiles are known to be in the order of its file of patches.

    A .pt then has corners, which `read` cannot know.

    Raises:
        FormatError: a file cannot be what it should be, or they have different tiles.
    """
    external = read(replace(file, patches=None))
    if file.patches is None:
        return external
    corners = _read_corners(file.patches)
    tiles = len(external.features)
    if len(corners) != tiles:
        raise FormatError(
            f"{file.patches}: {len(corners)} corners for {tiles} tiles of {file.path}"
        )
    size = _read_patch_size(file, tiles, external.coords)
    return replace(
        external,
        coords=corners if external.coords is None else external.coords,
        stated=HeaderFields(side_level0_px=size.side_level0_px),
        fallback=HeaderFields(tile_px=size.tile_px),
    )


def _read_corners(patches: Path) -> Int[np.ndarray, "tiles 2"]:
    location = str(patches)
    with open_hdf5(patches) as opened:
        positions = get_numeric_dataset(opened, "coords", location)
        if positions is None:
            raise FormatError(f"{location}: has no dataset 'coords'")
        return whole_pixels(read_coords(positions, len(positions), location), location)


def _same_tiles(
    positions: h5py.Dataset, tiles: int, coords: Int[np.ndarray, "tiles 2"] | None
) -> bool:
    if len(positions) != tiles:
        return False
    # .pt files have no coordinates: their number must do.
    return coords is None or not (positions[:] != coords).any()


def _read_downsample(attrs: h5py.AttributeManager, location: str) -> float | None:
    """Level-0 pixels per pixel of the level that patches were read from; None: not known.

    CLAM writes one number for x and one for y.
    """
    value = read_attribute(attrs, "downsample", location)
    if value is None:
        # Files without the attribute are of level 0, if they say the level at all.
        return 1.0 if read_attribute(attrs, "patch_level", location) == 0 else None
    factors = np.ravel(value)
    numeric = factors.dtype.kind in "fiu" and 0 < factors.size <= 2
    if not numeric or not (np.isfinite(factors) & (factors > 0)).all():
        raise FormatError(f"{location}: downsample is not one or two positive numbers")
    # Levels of a pyramid are rounded to whole pixels, so x and y may differ a little.
    if np.ptp(factors) > SQUARE * factors.max():
        raise FormatError(
            f"{location}: tiles that are not square: downsample is {factors[0]:g} by "
            f"{factors[-1]:g}"
        )
    return float(factors.mean())


@contextmanager
def bag_writer(out: Path, cohort: ExportCohort) -> Iterator[Callable[[Bag], None]]:
    """Function that writes one bag as CLAM's files; tables follow when all bags are written.

    Args:
        out: folder for `features/h5_files`, `features/pt_files` and `patches`.
        cohort: slides of the export, with their labels and folds.
    """

    def write(bag: Bag) -> None:
        # CLAM feeds tensors of the file to its layers, which are float32.
        features = bag.features.astype(np.float32)
        _write_pt(out / f"features/pt_files/{bag.slide}.pt", features)
        if bag.coords is not None:
            _write_h5(out / f"features/h5_files/{bag.slide}.h5", bag, features)
            # CLAM's heatmaps read patches, and they need the size.
            if bag.side_level0_px:
                _write_patches(out / f"patches/{bag.slide}.h5", bag, bag.side_level0_px)

    yield write
    if cohort.name:
        write_tables(out, cohort)


def _write_pt(path: Path, features: Float[np.ndarray, "tiles dim"]) -> None:
    # Imported late: the other tools' files are written without torch.
    import torch

    with atomic_path(path) as scratch:
        torch.save(torch.from_numpy(features), scratch)


def _write_h5(path: Path, bag: Bag, features: Float[np.ndarray, "tiles dim"]) -> None:
    dim = features.shape[1]
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        file.create_dataset(
            "features", data=features, chunks=(CHUNK_ROWS, dim), maxshape=(None, dim)
        )
        file.create_dataset(
            "coords", data=bag.coords, dtype=np.int32, chunks=(CHUNK_ROWS, 2), maxshape=(None, 2)
        )
        embed_header(file.attrs, bag)


def _write_patches(path: Path, bag: Bag, side_level0_px: float) -> None:
    """Corners and size of the tiles, as CLAM's heatmaps read them: pixels of level 0."""
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        coords = file.create_dataset(
            "coords", data=bag.coords, dtype=np.int64, chunks=(1, 2), maxshape=(None, 2)
        )
        coords.attrs.update(
            # CLAM counts whole pixels of the level it reads, here level 0.
            patch_size=round(side_level0_px),
            patch_level=0,
            downsample=(1.0, 1.0),
            name=bag.slide,
            save_path="",
        )
        if bag.width_level0_px and bag.height_level0_px:
            size = (bag.width_level0_px, bag.height_level0_px)
            coords.attrs.update(level_dim=size, downsampled_level_dim=size)


def write_tables(out: Path, cohort: ExportCohort) -> None:
    """CLAM's table of labels, and three files for each fold.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.
    """
    rows = [
        {"case_id": row.patient, "slide_id": row.slide, "label": row.label} for row in cohort.rows
    ]
    write_csv(out / f"dataset_csv/{cohort.name}.csv", rows, escape=False)
    # The suffix _100 is CLAM's: the share of the training slides that is used, percent.
    folder = out / f"splits/{cohort.name}_100"
    for k, fold in enumerate(cohort.folds):
        slides = _slides_by_split(fold)
        _write_split(folder / f"splits_{k}.csv", slides)
        write_csv(folder / f"splits_{k}_bool.csv", _membership_rows(slides), escape=False)
        write_csv(folder / f"splits_{k}_descriptor.csv", _count_rows(slides, cohort), escape=False)


def _slides_by_split(fold: FoldSplits) -> dict[str, list[str]]:
    slides: dict[str, list[str]] = {split: [] for split in SPLITS}
    for slide, split in fold.items():
        if split in slides:
            slides[split].append(slide)
    return slides


def _write_split(path: Path, slides: Mapping[str, Sequence[str]]) -> None:
    """A column of slides for each split, as long as the longest."""
    longest = max(map(len, slides.values()))
    rows = []
    for i in range(longest):
        cells = {split: names[i] if i < len(names) else "" for split, names in slides.items()}
        # The column without a name is the index that pandas writes and CLAM skips.
        rows.append({"": i, **cells})
    write_csv(path, rows, ["", *SPLITS], escape=False)


def _membership_rows(slides: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """True in the column of each slide's split, False in the others."""
    rows = []
    for split, names in slides.items():
        flags = {column: str(column == split) for column in SPLITS}
        rows += [{"": slide, **flags} for slide in names]
    return rows


def _count_rows(
    slides: Mapping[str, Sequence[str]], cohort: ExportCohort
) -> list[dict[str, str | int]]:
    """Number of slides of each class, by split."""
    labels = {split: [cohort.label(slide) for slide in names] for split, names in slides.items()}
    rows: list[dict[str, str | int]] = []
    for class_name in cohort.classes:
        counts = {split: names.count(class_name) for split, names in labels.items()}
        rows.append({"": class_name, **counts})
    return rows
