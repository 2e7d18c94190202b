"""STAMP: EXTRACTOR/ID.h5 with feats, and coords in micrometres."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int, Shaped

from mil.errors import DatasetError, FormatError
from mil.interop.cohort import ExportCohort
from mil.interop.convert import pixels_from_um, um_from_pixels
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
from mil.io.atomic import atomic_path, write_json
from mil.io.bags import Bag
from mil.io.tables import write_csv
from mil.versions import TOOL_VERSION

REQUIRED_FIELDS = ("coords", "side_level0_px", "mpp_level0")
# STAMP refuses files of a newer version than its own, so exports claim the first of 2.
EXPORT_VERSION = "2.0.0"
# Version 1 had one tile size, 256 µm, and counted coordinates in its 224 pixels.
VERSION_1_TILE_PX = 224
VERSION_1_TILE_UM = 256.0


class _Micrometres(NamedTuple):
    """Corners and size of the tiles, µm; and side of a tile in pixels, if known."""

    coords_um: Float[np.ndarray, "tiles 2"]
    side_um: float
    tile_px: float | None


def read(file: FeatureFile) -> ExternalFeatures:
    """Features, corners in micrometres, and the side of a tile.

    Raises:
        FormatError: a part of the file cannot be what it should be, or its features are
            of slides or patients.
    """
    location = file.location
    with open_hdf5(file.path) as opened:
        _check_tile_level(opened, location)
        # The oldest files call the features patch_embeddings, and have no coordinates.
        name = "feats" if "feats" in set(opened) else "patch_embeddings"
        dataset = get_numeric_dataset(opened, name, location)
        positions = get_numeric_dataset(opened, "coords", location)
        if dataset is None:
            raise FormatError(f"{location}: has no dataset 'feats'")
        features = read_features(dataset, location)
        encoder = read_text(opened.attrs, "extractor", location)
        embedded = read_embedded_header(opened.attrs, location)
        if positions is None:
            return ExternalFeatures(
                features=features, stated=HeaderFields(encoder=encoder), embedded=embedded
            )
        coords = read_coords(positions, len(features), location)
        scale = _in_micrometres(coords, opened.attrs, location)
    # Older files lack the pixels of a tile; --tile-px states them.
    stated = HeaderFields(encoder=encoder)
    if scale.tile_px:
        stated = HeaderFields(
            encoder=encoder,
            tile_px=round(scale.tile_px),
            target_mpp=scale.side_um / scale.tile_px,
        )
    return ExternalFeatures(
        features=features,
        coords_um=scale.coords_um,
        side_um=scale.side_um,
        stated=stated,
        embedded=embedded,
    )


def _check_tile_level(file: h5py.File, location: str) -> None:
    """Refuse features of whole slides and patients, which STAMP writes in the same layout."""
    level = read_text(file.attrs, "feat_type", location)
    # Only files of slide encoders have this attribute.
    slide_encoder = read_text(file.attrs, "encoder", location)
    if level not in ("", "tile") or slide_encoder:
        by_encoder = f" by {slide_encoder}" if slide_encoder else ""
        raise FormatError(
            f"{location}: features of a whole {level or 'slide'}{by_encoder}, not of its tiles"
        )


def _in_micrometres(
    coords: Shaped[np.ndarray, "tiles 2"], attrs: h5py.AttributeManager, location: str
) -> _Micrometres:
    """Corners in micrometres, whichever version of STAMP wrote them."""
    tile_px = read_positive(attrs, "tile_size_px", location)
    tile_size = read_positive(attrs, "tile_size", location)
    side_um = read_positive(attrs, "tile_size_um", location)
    # Older files call the side in micrometres tile_size.
    if side_um is None and read_text(attrs, "unit", location) == "um":
        side_um = tile_size
    if side_um is not None:
        return _Micrometres(coords.astype(np.float32), side_um, tile_px)
    # Version 1 names no unit; its tiles lie 224 apart.
    stride = tile_size or _stride(coords)
    if stride is None or round(stride) != VERSION_1_TILE_PX:
        raise FormatError(
            f"{location}: does not say the unit of its coords (tile_size_um), and is no file of "
            "STAMP 1"
        )
    # In float64 first, so that the factor loses nothing.
    scaled = coords.astype(float) * (VERSION_1_TILE_UM / VERSION_1_TILE_PX)
    return _Micrometres(scaled.astype(np.float32), VERSION_1_TILE_UM, tile_px or VERSION_1_TILE_PX)


def _stride(coords: Shaped[np.ndarray, "tiles 2"]) -> float | None:
    """Smallest distance between two columns or two rows of tiles; None for one tile."""
    distances = np.concatenate([np.diff(np.unique(axis)) for axis in coords.T])
    return float(distances.min()) if len(distances) else None


@contextmanager
def bag_writer(out: Path, cohort: ExportCohort) -> Iterator[Callable[[Bag], None]]:
    """Function that writes one bag into a folder named after the encoder.

    The tables of patients and slides follow when all bags are written.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.

    Raises:
        DatasetError: a patient has two labels, which STAMP's table cannot hold.
    """
    if cohort.name:
        # Before any bag is written, which may take minutes.
        _check_one_label(cohort)

    def write(bag: Bag) -> None:
        _write(out / bag.encoder / f"{bag.slide}.h5", bag)

    yield write
    if cohort.name:
        write_tables(out, cohort)


def _write(path: Path, bag: Bag) -> None:
    mpp = bag.mpp_level0
    side = bag.side_level0_px
    coords = bag.coords
    if coords is None or side is None or mpp is None:
        raise FormatError(f"{bag.slide}: its coordinates or their scale are not known")
    tile_um = side * mpp
    if bag.tile_px and bag.target_mpp:
        # The size that was asked for: the side has been divided by the pixel size.
        tile_um = bag.tile_px * bag.target_mpp
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        file["coords"] = _coords_um(bag, coords, mpp)
        file["feats"] = bag.features
        file.attrs.update(
            stamp_version=EXPORT_VERSION,
            extractor=bag.encoder,
            unit="um",
            feat_type="tile",
            tile_size_um=round(tile_um, 9),
            code_hash=f"mil-{TOOL_VERSION}",
        )
        if bag.tile_px:
            file.attrs["tile_size_px"] = bag.tile_px
        embed_header(file.attrs, bag)


def _coords_um(
    bag: Bag, coords: Int[np.ndarray, "tiles 2"], mpp: float
) -> Float[np.ndarray, "tiles 2"]:
    """Corners in micrometres; the very numbers of STAMP's file, where the bag is from one.

    They are used only if they still stand for the bag's pixels: the pixel size may have
    been stated anew.
    """
    if bag.coords_um is not None and (pixels_from_um(bag.coords_um, mpp) == coords).all():
        return bag.coords_um
    return um_from_pixels(coords, mpp, bag.slide)


def _check_one_label(cohort: ExportCohort) -> None:
    labels: dict[str, str] = {}
    for row in cohort.rows:
        label = labels.setdefault(row.patient, row.label)
        if label != row.label:
            raise DatasetError(
                f"dataset {cohort.name}: patient {row.patient} has slides labelled {label} and "
                f"{row.label}; STAMP's table has one label a patient, so export without --dataset"
            )


def write_tables(out: Path, cohort: ExportCohort) -> None:
    """STAMP's table of patients, its table of slides, and its file of splits.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.
    """
    labels = {row.patient: row.label for row in cohort.rows}
    patients = [{"PATIENT": patient, "label": label} for patient, label in labels.items()]
    write_csv(out / "clini.csv", patients, escape=False)
    slides = [{"PATIENT": row.patient, "FILENAME": f"{row.slide}.h5"} for row in cohort.rows]
    write_csv(out / "slides.csv", slides, escape=False)
    if cohort.folds:
        # STAMP draws validation patients from the training patients itself.
        splits = [
            {
                "train_patients": cohort.patients(fold, ("train", "val")),
                "test_patients": cohort.patients(fold, ("test",)),
            }
            for fold in cohort.folds
        ]
        write_json(out / "splits.json", {"splits": splits})
