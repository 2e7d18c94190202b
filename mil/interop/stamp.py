"""STAMP: EXTRACTOR/ID.h5, feats and coords in micrometres."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from mil.errors import DatasetError, FormatError
from mil.interop.cohort import Cohort
from mil.interop.coordinates import from_um, to_um
from mil.interop.external import Foreign, Source
from mil.interop.header import read_passport, stamp_passport
from mil.interop.untrusted import number, opened, read_coords, read_features, table, text
from mil.io.atomic import atomic_path, write_json
from mil.io.bags import Bag
from mil.io.tables import write_csv
from mil.versions import TOOL_VERSION

NEEDS = ("coords", "side_level0_px", "mpp_level0")
READ_FROM = "2.0.0"  # STAMP refuses files of a newer one than itself
# version 1: 256 µm, counted in pixels of 224
FIRST_STRIDE = 224
FIRST_SIDE_UM = 256.0


def read(source: Source) -> Foreign:
    """Features, corners in micrometres, and the side of a tile.

    Raises:
        FormatError: something in it cannot be, or it holds features of slides or
            patients.
    """
    where = source.where
    with opened(source.path) as file:
        _check_tiles(file, where)
        name = "feats" if "feats" in set(file) else "patch_embeddings"
        stored = table(file, name, where)
        places = table(file, "coords", where)
        if stored is None:
            raise FormatError(f"{where}: has no dataset 'feats'")
        features = read_features(stored, where)
        said = {"encoder": text(file.attrs, "extractor", where)}
        passport = read_passport(file.attrs, where)
        if places is None:
            return Foreign(features=features, said=said, passport=passport)
        coords_um, scale = _in_um(read_coords(places, len(features), where), file.attrs, where)
    side = scale.get("side_um")
    size = scale.get("tile_px")
    if side and size:
        said |= {"tile_px": round(size), "target_mpp": side / size}
    return Foreign(
        features=features, coords_um=coords_um, side_um=side, said=said, passport=passport
    )


def _check_tiles(file: h5py.File, where: str) -> None:
    kind = text(file.attrs, "feat_type", where)
    encoder = text(file.attrs, "encoder", where)
    if kind not in ("", "tile") or encoder:
        raise FormatError(
            f"{where}: features of a whole "
            f"{kind or 'slide'}{f' by {encoder}' if encoder else ''}, not of its tiles"
        )


def _in_um(
    coords: np.ndarray, attrs: h5py.AttributeManager, where: str
) -> tuple[Float[np.ndarray, "tiles 2"], dict[str, Any]]:
    """Corners in micrometres, whichever version wrote them, and what is known of the tiles' size."""
    size = number(attrs, "tile_size_px", where)
    older = number(attrs, "tile_size", where)
    side = number(attrs, "tile_size_um", where) or (
        older if text(attrs, "unit", where) == "um" else None
    )
    if side is not None:
        return coords.astype(np.float32), {"side_um": side, "tile_px": size}
    stride = older or _stride(coords)
    if stride is None or round(stride) != FIRST_STRIDE:
        raise FormatError(
            f"{where}: does not say the unit of its coords (tile_size_um), and is no file of "
            "STAMP 1"
        )
    scaled = coords.astype(float) * (FIRST_SIDE_UM / FIRST_STRIDE)
    return scaled.astype(np.float32), {"side_um": FIRST_SIDE_UM, "tile_px": size or FIRST_STRIDE}


def _stride(coords: np.ndarray) -> float | None:
    """The smallest step between two columns or two rows of tiles."""
    steps = [step for axis in coords.T for step in np.diff(np.unique(axis))]
    return float(min(steps)) if steps else None


@contextmanager
def writing(out: Path, cohort: Cohort) -> Iterator[Callable[[Bag], None]]:
    """Write bags into a folder named after the encoder; then the tables of patients and slides."""
    folders: dict[str, str] = {}

    def write(bag: Bag) -> None:
        folders[bag.slide] = bag.encoder
        _write(out / bag.encoder / f"{bag.slide}.h5", bag)

    if cohort.name:
        _one_label(cohort)
    yield write
    if cohort.name:
        write_tables(out, cohort)


def _write(path: Path, bag: Bag) -> None:
    mpp = bag.mpp_level0
    side = bag.side_level0_px
    coords = bag.coords
    if coords is None or side is None or mpp is None:
        raise FormatError(f"{bag.slide}: its coordinates or their scale are not known")
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        file["coords"], file["feats"] = _as_written(bag, coords, mpp), bag.features
        file.attrs.update(
            stamp_version=READ_FROM, extractor=bag.encoder, unit="um", feat_type="tile"
        )
        # As it was asked for, where that is known: side and pixel size have been
        # divided and multiplied.
        asked = bag.tile_px * bag.target_mpp if bag.tile_px and bag.target_mpp else side * mpp
        file.attrs.update(tile_size_um=round(asked, 9), code_hash=f"mil-{TOOL_VERSION}")
        if bag.tile_px:
            file.attrs["tile_size_px"] = bag.tile_px
        stamp_passport(file.attrs, bag)


def _as_written(bag: Bag, coords: np.ndarray, mpp: float) -> Float[np.ndarray, "tiles 2"]:
    """The very numbers of the file it came from, if they are still those of its pixels."""
    if bag.coords_um is not None and (from_um(bag.coords_um, mpp) == coords).all():
        return bag.coords_um
    return to_um(coords, mpp, bag.slide)


def _one_label(cohort: Cohort) -> None:
    labels: dict[str, str] = {}
    for row in cohort.rows:
        if labels.setdefault(row.patient, row.label) != row.label:
            raise DatasetError(
                f"dataset {cohort.name}: patient {row.patient} has slides labelled "
                f"{labels[row.patient]} and "
                f"{row.label}; STAMP's table has one label a patient, so export without --dataset"
            )


def write_tables(out: Path, cohort: Cohort) -> None:
    """STAMP's table of patients, its table of slides, and its file of splits; validation counts as training."""
    labels = {row.patient: row.label for row in cohort.rows}
    write_csv(
        out / "clini.csv",
        [{"PATIENT": patient, "label": label} for patient, label in labels.items()],
    )
    write_csv(
        out / "slides.csv",
        [{"PATIENT": row.patient, "FILENAME": f"{row.slide}.h5"} for row in cohort.rows],
    )
    if cohort.folds:
        splits = [
            {
                "train_patients": cohort.patients(fold, ("train", "val")),
                "test_patients": cohort.patients(fold, ("test",)),
            }
            for fold in cohort.folds
        ]
        write_json(out / "splits.json", {"splits": splits})
