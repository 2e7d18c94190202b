"""TRIDENT: features_ENCODER/ID.h5, features, and coords that carry the scale; its magnification is nominal."""

from collections.abc import Callable, Iterator, Mapping
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
from mil.interop.untrusted import number, opened, read_coords, read_features, read_pt, table, text
from mil.io.atomic import atomic_path, write_text
from mil.io.bags import Bag
from mil.io.slides.resolution import MPP_AT_POWER_1
from mil.io.tables import write_csv

FOLDER = "features_"
NEEDS = ("coords", "side_level0_px", "tile_px")


def read(source: Source) -> Foreign:
    """Features, corners and the footprint in level-0 pixels.

    Raises:
        FormatError: something in it cannot be.
    """
    folder = source.path.parent.name
    named = folder.removeprefix(FOLDER) if folder.startswith(FOLDER) else ""
    if source.path.suffix.lower() == ".pt":
        return Foreign(features=read_pt(source.path), said={"encoder": named})
    where = source.where
    with opened(source.path) as file:
        stored = table(file, "features", where)
        places = table(file, "coords", where)
        if stored is None or places is None:
            raise FormatError(
                f"{where}: has no dataset {'features' if stored is None else 'coords'!r}"
            )
        features = read_features(stored, where)
        coords = whole(read_coords(places, len(features), where), where)
        said = _scale(places.attrs, where)
        encoder = text(stored.attrs, "encoder", where) or named
        power = number(places.attrs, "level0_magnification", where)
        passport = read_passport(file.attrs, where)
    nominal = MPP_AT_POWER_1 / power if power else None
    return Foreign(
        features=features,
        coords=coords,
        said={**said, "encoder": encoder},
        nominal_mpp=nominal,
        passport=passport,
    )


def _scale(attrs: h5py.AttributeManager, where: str) -> dict[str, Any]:
    """What the attributes say in pixels; the sizes of the slide are left out where they are not whole."""
    whole_ones = {
        "tile_px": "patch_size",
        "width_level0_px": "level0_width",
        "height_level0_px": "level0_height",
    }
    said = {ours: number(attrs, theirs, where) for ours, theirs in whole_ones.items()}
    sizes = {ours: round(value) for ours, value in said.items() if value is not None and value >= 1}
    return {**sizes, "side_level0_px": number(attrs, "patch_size_level0", where)}


@contextmanager
def writing(out: Path, cohort: Cohort) -> Iterator[Callable[[Bag], None]]:
    """Write bags into the folders that TRIDENT would have made for them; then a table.

    The name of the folder and the attributes want a magnification, which is 10 µm over
    the pixel size.
    """
    sizes: dict[str, float | None] = {}

    def write(bag: Bag) -> None:
        attrs = _attributes(bag, cohort)
        folder = out / f"{attrs['target_magnification']:g}x_{bag.tile_px}px_0px_overlap"
        _write_patches(folder / f"patches/{bag.slide}_patches.h5", bag, attrs)
        _write_features(folder / f"{FOLDER}{bag.encoder}/{bag.slide}.h5", bag, attrs)
        sizes[bag.slide] = bag.mpp_level0

    yield write
    if cohort.name:
        write_tables(out, cohort, sizes)


def _attributes(bag: Bag, cohort: Cohort) -> dict[str, Any]:
    target = cohort.magnification or (MPP_AT_POWER_1 / bag.target_mpp if bag.target_mpp else None)
    side = bag.side_level0_px
    size = bag.tile_px
    if target is None or side is None or size is None:
        raise FormatError(
            f"{bag.slide}: TRIDENT's folders are named after a magnification, which this bag "
            "does not know; "
            "say it with --magnification, such as 20"
        )
    own = MPP_AT_POWER_1 / bag.mpp_level0 if bag.mpp_level0 else target * side / size
    return {
        "patch_size": size,
        "patch_size_level0": _plain(side),
        "level0_magnification": _plain(own),
        "target_magnification": _plain(target),
        "overlap": 0,
        "name": bag.slide,
        "savetodir": "",
        "level0_width": bag.width_level0_px or "None",
        "level0_height": bag.height_level0_px or "None",
    }


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else float(value)


def _coords(file: h5py.File, bag: Bag, attrs: dict[str, Any]) -> None:
    coords = file.create_dataset(
        "coords", data=bag.coords, dtype=np.int64, chunks=(1, 2), maxshape=(None, 2)
    )
    coords.attrs.update(attrs)


def _write_patches(path: Path, bag: Bag, attrs: dict[str, Any]) -> None:
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        _coords(file, bag, attrs)


def _write_features(path: Path, bag: Bag, attrs: dict[str, Any]) -> None:
    features = bag.features.astype(np.float32)
    dim = features.shape[1]
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        made = file.create_dataset("features", data=features, chunks=(1, dim), maxshape=(None, dim))
        made.attrs.update(name=bag.slide, savetodir="", encoder=bag.encoder)
        _coords(file, bag, attrs)
        stamp_passport(file.attrs, bag)


def write_tables(out: Path, cohort: Cohort, sizes: Mapping[str, float | None]) -> None:
    """TRIDENT's list of slides with their labels beside it, and the folds as Patho-Bench has them."""
    rows = [
        {
            "wsi": Path(row.path).name or row.slide,
            "mpp": sizes[row.slide] or "",
            "case_id": row.patient,
            "label": row.label,
        }
        for row in cohort.rows
    ]
    write_csv(out / f"{cohort.name}.csv", rows)
    if cohort.folds:
        names = [f"fold_{k}" for k in range(len(cohort.folds))]
        lines = [("case_id", "slide_id", "label", *names)]
        lines += [
            (row.patient, row.slide, row.label, *(fold.get(row.slide, "") for fold in cohort.folds))
            for row in cohort.rows
        ]
        write_text(out / "splits/k=all.tsv", "".join("\t".join(line) + "\n" for line in lines))
