"""CLAM: h5_files/ID.h5 or pt_files/ID.pt, and the footprint of a tile in patches/ID.h5."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mil.errors import FormatError
from mil.interop.cohort import Cohort
from mil.interop.coordinates import whole
from mil.interop.external import Foreign, Source
from mil.interop.header import read_passport, stamp_passport
from mil.interop.untrusted import (
    attribute,
    number,
    opened,
    read_coords,
    read_features,
    read_pt,
    table,
)
from mil.io.atomic import atomic_path
from mil.io.bags import Bag
from mil.io.slides.resolution import SQUARE
from mil.io.tables import SPLITS, write_csv

NEEDS = ()


def read(source: Source) -> Foreign:
    """Features, coordinates if there are any, and the footprint if the file of patches is known.

    Raises:
        FormatError: something in it cannot be.
    """
    if source.path.suffix.lower() == ".pt":
        features = read_pt(source.path)
        return Foreign(features=features, **_footprint(source, len(features), None))
    where = source.where
    with opened(source.path) as file:
        stored = table(file, "features", where)
        if stored is None:
            raise FormatError(f"{where}: has no dataset 'features'")
        features = read_features(stored, where)
        places = table(file, "coords", where)
        coords = None if places is None else whole(read_coords(places, len(features), where), where)
        passport = read_passport(file.attrs, where)
    scale = _footprint(source, len(features), coords)
    return Foreign(features=features, coords=coords, passport=passport, **scale)


def _footprint(source: Source, tiles: int, coords: np.ndarray | None) -> dict[str, Any]:
    """Side and size of a tile by CLAM's file of patches, if there is one and it is of the same tiles."""
    if source.patches is None:
        return {}
    where = str(source.patches)
    with opened(source.patches) as file:
        places = table(file, "coords", where)
        if (
            places is None
            or len(places) != tiles
            or (coords is not None and (places[:] != coords).any())
        ):
            raise FormatError(
                f"{where}: not the corners of the tiles in {source.path}; say where they are: "
                "--patches"
            )
        size = number(places.attrs, "patch_size", where)
        factor = _downsample(places.attrs, where)
        extra = number(places.attrs, "custom_downsample", where) or 1.0
    if size is None:
        return {}
    return {
        "said": {"side_level0_px": None if factor is None else size * factor * extra},
        "implied": {"tile_px": round(size)},
    }


def _downsample(attrs: h5py.AttributeManager, where: str) -> float | None:
    """Level-0 pixels for a pixel of the level that patches were read from; CLAM writes it for x and y."""
    raw = attribute(attrs, "downsample", where)
    if raw is None:
        return 1.0 if attribute(attrs, "patch_level", where) == 0 else None
    factors = np.ravel(raw)
    if (
        factors.dtype.kind not in "fiu"
        or not 0 < factors.size <= 2
        or not (np.isfinite(factors) & (factors > 0)).all()
    ):
        raise FormatError(f"{where}: downsample is not one or two positive numbers")
    if np.ptp(factors) > SQUARE * factors.max():
        raise FormatError(
            f"{where}: tiles that are not square: downsample is {factors[0]:g} by {factors[-1]:g}"
        )
    return float(factors.mean())


@contextmanager
def writing(out: Path, cohort: Cohort) -> Iterator[Callable[[Bag], None]]:
    """Write bags into `features/h5_files`, `features/pt_files` and `patches`; then the tables."""

    def write(bag: Bag) -> None:
        features = bag.features.astype(np.float32)
        _write_pt(out / f"features/pt_files/{bag.slide}.pt", features)
        if bag.coords is not None:
            _write_h5(out / f"features/h5_files/{bag.slide}.h5", bag, features)
            if bag.side_level0_px:
                _write_patches(out / f"patches/{bag.slide}.h5", bag, bag.side_level0_px)

    yield write
    if cohort.name:
        write_tables(out, cohort)


def _write_pt(path: Path, features: np.ndarray) -> None:
    import torch

    with atomic_path(path) as scratch:
        torch.save(torch.from_numpy(features), scratch)


def _write_h5(path: Path, bag: Bag, features: np.ndarray) -> None:
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        chunks = (32, features.shape[1])
        file.create_dataset(
            "features", data=features, chunks=chunks, maxshape=(None, features.shape[1])
        )
        file.create_dataset(
            "coords", data=bag.coords, dtype=np.int32, chunks=(32, 2), maxshape=(None, 2)
        )
        stamp_passport(file.attrs, bag)


def _write_patches(path: Path, bag: Bag, side: float) -> None:
    """Corners and footprint, as CLAM's heatmaps read them: pixels of level 0."""
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        coords = file.create_dataset(
            "coords", data=bag.coords, dtype=np.int64, chunks=(1, 2), maxshape=(None, 2)
        )
        coords.attrs.update(
            patch_size=round(side),
            patch_level=0,
            downsample=(1.0, 1.0),
            name=bag.slide,
            save_path="",
        )
        if bag.width_level0_px and bag.height_level0_px:
            size = (bag.width_level0_px, bag.height_level0_px)
            coords.attrs.update(level_dim=size, downsampled_level_dim=size)


def write_tables(out: Path, cohort: Cohort) -> None:
    """CLAM's table of labels, and three files for each fold."""
    rows = [
        {"case_id": row.patient, "slide_id": row.slide, "label": row.label} for row in cohort.rows
    ]
    write_csv(out / f"dataset_csv/{cohort.name}.csv", rows)
    for k, fold in enumerate(cohort.folds):
        parts = {split: [slide for slide, its in fold.items() if its == split] for split in SPLITS}
        folder = out / f"splits/{cohort.name}_100"
        _write_split(folder / f"splits_{k}.csv", parts)
        flags = [
            {"": slide, **{s: str(s == split) for s in SPLITS}}
            for split in SPLITS
            for slide in parts[split]
        ]
        write_csv(folder / f"splits_{k}_bool.csv", flags)
        counts = [
            {
                "": label,
                **{
                    split: sum(cohort.label(slide) == label for slide in parts[split])
                    for split in SPLITS
                },
            }
            for label in cohort.classes
        ]
        write_csv(folder / f"splits_{k}_descriptor.csv", counts)


def _write_split(path: Path, parts: dict[str, list[str]]) -> None:
    """Columns of names, as long as the longest."""
    rows = [
        {"": i, **{split: names[i] if i < len(names) else "" for split, names in parts.items()}}
        for i in range(max(map(len, parts.values())))
    ]
    write_csv(path, rows, ["", *SPLITS])
