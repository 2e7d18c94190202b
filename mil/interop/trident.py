"""TRIDENT: features_ENCODER/ID.h5 with features and coords, whose attributes hold the scale.

TRIDENT's magnification is nominal: 20x names a scale, it does not measure one. So it is
never taken for a pixel size.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mil.errors import FormatError
from mil.interop.cohort import ExportCohort
from mil.interop.convert import whole_pixels
from mil.interop.external import ExternalFeatures, FeatureFile
from mil.interop.header import HeaderFields, embed_header, read_embedded_header
from mil.interop.untrusted import (
    get_numeric_dataset,
    open_hdf5,
    read_coords,
    read_features,
    read_positive,
    read_text,
)
from mil.io.atomic import atomic_path, write_text
from mil.io.bags import Bag
from mil.io.slides.resolution import MPP_AT_POWER_1
from mil.io.tables import write_csv

FEATURES_PREFIX = "features_"
REQUIRED_FIELDS = ("coords", "side_level0_px", "tile_px")

Attributes = dict[str, str | int | float]


def read(file: FeatureFile) -> ExternalFeatures:
    """Features, corners and the size of a tile in level-0 pixels.

    Raises:
        FormatError: a part of the file cannot be what it should be.
    """
    folder = file.path.parent.name
    # .pt files name no encoder; TRIDENT's folder does.
    folder_encoder = ""
    if folder.startswith(FEATURES_PREFIX):
        folder_encoder = folder.removeprefix(FEATURES_PREFIX)
    if file.path.suffix.lower() == ".pt":
        # Imported late: torch takes seconds, and only .pt files need it.
        from mil.interop.torch_file import read_pt

        return ExternalFeatures(
            features=read_pt(file.path), stated=HeaderFields(encoder=folder_encoder)
        )
    location = file.location
    with open_hdf5(file.path) as opened:
        dataset = get_numeric_dataset(opened, "features", location)
        if dataset is None:
            raise FormatError(f"{location}: has no dataset 'features'")
        positions = get_numeric_dataset(opened, "coords", location)
        if positions is None:
            raise FormatError(f"{location}: has no dataset 'coords'")
        features = read_features(dataset, location)
        coords = whole_pixels(read_coords(positions, len(features), location), location)
        encoder = read_text(dataset.attrs, "encoder", location) or folder_encoder
        stated = _read_scale(positions.attrs, encoder, location)
        power = read_positive(positions.attrs, "level0_magnification", location)
        embedded = read_embedded_header(opened.attrs, location)
    return ExternalFeatures(
        features=features,
        coords=coords,
        stated=stated,
        nominal_mpp=MPP_AT_POWER_1 / power if power else None,
        embedded=embedded,
    )


def _read_scale(attrs: h5py.AttributeManager, encoder: str, location: str) -> HeaderFields:
    """Header fields by the attributes of the coordinates, and the encoder."""
    return HeaderFields(
        encoder=encoder,
        tile_px=_read_pixels(attrs, "patch_size", location),
        width_level0_px=_read_pixels(attrs, "level0_width", location),
        height_level0_px=_read_pixels(attrs, "level0_height", location),
        side_level0_px=read_positive(attrs, "patch_size_level0", location),
    )


def _read_pixels(attrs: h5py.AttributeManager, name: str, location: str) -> int | None:
    """Number of whole pixels; None if it is missing or below one."""
    value = read_positive(attrs, name, location)
    return None if value is None or value < 1 else round(value)


@contextmanager
def bag_writer(out: Path, cohort: ExportCohort) -> Iterator[Callable[[Bag], None]]:
    """Function that writes one bag into the folders that TRIDENT would have made.

    A table of the slides follows when all bags are written. The folder's name and the
    attributes need a magnification, which is 10 µm over the pixel size.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.
    """
    mpp_by_slide: dict[str, float | None] = {}

    def write(bag: Bag) -> None:
        attrs = _coords_attributes(bag, cohort)
        folder = out / f"{attrs['target_magnification']:g}x_{bag.tile_px}px_0px_overlap"
        _write_patches(folder / f"patches/{bag.slide}_patches.h5", bag, attrs)
        _write_features(folder / f"{FEATURES_PREFIX}{bag.encoder}/{bag.slide}.h5", bag, attrs)
        mpp_by_slide[bag.slide] = bag.mpp_level0

    yield write
    if cohort.name:
        write_tables(out, cohort, mpp_by_slide)


def _coords_attributes(bag: Bag, cohort: ExportCohort) -> Attributes:
    """Attributes of a dataset of coordinates.

    Raises:
        FormatError: the bag does not have the fields that the attributes are made of.
    """
    # The user's number goes before the bag's target.
    target = cohort.magnification
    if target is None and bag.target_mpp:
        target = MPP_AT_POWER_1 / bag.target_mpp
    side = bag.side_level0_px
    tile_px = bag.tile_px
    if target is None or side is None or tile_px is None:
        raise FormatError(
            f"{bag.slide}: TRIDENT's folders are named after a magnification, which this bag "
            "does not have; give --magnification, such as 20"
        )
    # Tiles are cut at the target, so their two sides have the ratio of the two scales.
    level0 = target * side / tile_px
    if bag.mpp_level0:
        level0 = MPP_AT_POWER_1 / bag.mpp_level0
    return {
        "patch_size": tile_px,
        "patch_size_level0": _int_if_whole(side),
        "level0_magnification": _int_if_whole(level0),
        "target_magnification": _int_if_whole(target),
        "overlap": 0,
        "name": bag.slide,
        "savetodir": "",
        # TRIDENT's own word for a size that it does not know.
        "level0_width": bag.width_level0_px or "None",
        "level0_height": bag.height_level0_px or "None",
    }


def _int_if_whole(value: float) -> int | float:
    """Whole numbers as TRIDENT writes them, which are integers."""
    return int(value) if float(value).is_integer() else float(value)


def _write_coords(file: h5py.File, bag: Bag, attrs: Attributes) -> None:
    # TRIDENT looks for the scale at the coordinates, in both of its files.
    coords = file.create_dataset(
        "coords", data=bag.coords, dtype=np.int64, chunks=(1, 2), maxshape=(None, 2)
    )
    coords.attrs.update(attrs)


def _write_patches(path: Path, bag: Bag, attrs: Attributes) -> None:
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        _write_coords(file, bag, attrs)


def _write_features(path: Path, bag: Bag, attrs: Attributes) -> None:
    # TRIDENT writes float32.
    features = bag.features.astype(np.float32)
    dim = features.shape[1]
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        dataset = file.create_dataset(
            "features", data=features, chunks=(1, dim), maxshape=(None, dim)
        )
        dataset.attrs.update(name=bag.slide, savetodir="", encoder=bag.encoder)
        _write_coords(file, bag, attrs)
        embed_header(file.attrs, bag)


def write_tables(out: Path, cohort: ExportCohort, mpp_by_slide: Mapping[str, float | None]) -> None:
    """TRIDENT's list of slides with their labels, and the folds as Patho-Bench has them.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.
        mpp_by_slide: micrometres per pixel of level 0; None where not known.
    """
    rows = [
        {
            # TRIDENT finds slides by their file names.
            "wsi": Path(row.path).name or row.slide,
            "mpp": mpp_by_slide[row.slide] or "",
            "case_id": row.patient,
            "label": row.label,
        }
        for row in cohort.rows
    ]
    write_csv(out / f"{cohort.name}.csv", rows, escape=False)
    if cohort.folds:
        _write_folds(out / "splits/k=all.tsv", cohort)


def _write_folds(path: Path, cohort: ExportCohort) -> None:
    """One line a slide with its split in each fold, separated by tabs."""
    # The table of Patho-Bench: fold_0, fold_1, ...
    fold_columns = [f"fold_{k}" for k in range(len(cohort.folds))]
    lines = ["\t".join(("case_id", "slide_id", "label", *fold_columns))]
    for row in cohort.rows:
        splits = [fold.get(row.slide, "") for fold in cohort.folds]
        lines.append("\t".join((row.patient, row.slide, row.label, *splits)))
    write_text(path, "\n".join(lines) + "\n")
