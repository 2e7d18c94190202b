"""ACMIL and AEM: one file a dataset, a group a slide with feat, coords and the label as a number."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from mil.errors import ConfigError, FormatError
from mil.interop.cohort import Cohort
from mil.interop.coordinates import whole
from mil.interop.external import Foreign, Source
from mil.interop.header import Passport, read_passport, stamp_passport
from mil.interop.untrusted import attribute, member, opened, read_coords, read_features, table
from mil.io.atomic import atomic_path, write_json
from mil.io.bags import Bag
from mil.io.tables import valid_id, write_csv

PREFIX = "patch_feats_pretrain_"
NEEDS = ("coords",)


def slides(path: Path) -> Iterator[Source]:
    """The slides of a file.

    Raises:
        FormatError: a group's name cannot be a slide's id.
    """
    with opened(path) as file:
        names = sorted(file, key=str)
    for name in names:
        if not isinstance(name, str) or not valid_id(name):
            raise FormatError(
                f"{path}: the group {name!r} cannot be a slide's id, which becomes a file name"
            )
        yield Source("acmil", name, path, name)


def read(source: Source) -> Foreign:
    """Features, corners if they are there, and the label.

    Raises:
        FormatError: something in it cannot be.
    """
    where = source.where
    with opened(source.path) as file:
        group = member(file, source.member, where)
        stored = table(group, "feat", where) if isinstance(group, h5py.Group) else None
        if group is None or stored is None:
            raise FormatError(f"{where}: has no dataset 'feat'")
        features = read_features(stored, where)
        places = table(group, "coords", where)
        coords = None if places is None else whole(read_coords(places, len(features), where), where)
        passport = read_passport(group.attrs, where)
        label = _label(group.attrs, passport, where)
    stem = source.path.stem
    said = {"encoder": stem.removeprefix(PREFIX) if stem.startswith(PREFIX) else ""}
    return Foreign(features=features, coords=coords, said=said, label=label, passport=passport)


def _label(attrs: h5py.AttributeManager, passport: Passport | None, where: str) -> str:
    """The label's number, or its name where the file is ours and still says that number."""
    value = attribute(attrs, "label", where)
    if value is None:
        return ""
    if isinstance(value, str) and len(value) <= 100 and value.isprintable():
        return value
    numbers = np.ravel(value)
    if numbers.size != 1 or numbers.dtype.kind not in "iuf" or numbers[0] != np.rint(numbers[0]):
        raise FormatError(f"{where}: label is not a number")
    number = int(numbers[0])
    return (
        passport.label
        if passport and passport.label and passport.label_number == number
        else str(number)
    )


@contextmanager
def writing(out: Path, cohort: Cohort) -> Iterator[Callable[[Bag], None]]:
    """Write all bags into one file, which appears when the last one is in it; then the table and the splits."""
    if not cohort.name:
        raise ConfigError(
            "ACMIL keeps the label beside the features; say whose labels: --dataset NAME"
        )
    with (
        atomic_path(out / f"{PREFIX}{cohort.encoder}.h5") as scratch,
        h5py.File(scratch, "w") as file,
    ):
        yield partial(_write, file, cohort)
    write_tables(out, cohort)


def _write(file: h5py.File, cohort: Cohort, bag: Bag) -> None:
    group = file.create_group(bag.slide)
    number = cohort.label_number(bag.slide)
    group["feat"] = bag.features
    group.create_dataset("coords", data=bag.coords, dtype=np.int64)
    group.attrs["label"] = number
    stamp_passport(group.attrs, bag, label=cohort.label(bag.slide), label_number=number)


def write_tables(out: Path, cohort: Cohort) -> None:
    """ACMIL's table, whose labels are numbers, and a file for each fold."""
    rows = [
        {"case_id": row.patient, "slide_id": row.slide, "label": cohort.label_number(row.slide)}
        for row in cohort.rows
    ]
    write_csv(out / f"dataset_csv/{cohort.name}.csv", rows)
    for k, fold in enumerate(cohort.folds, 1):
        names = {
            f"{split}_names": [s for s, its in fold.items() if its == split]
            for split in ("train", "val", "test")
        }
        write_json(out / f"splits/{cohort.name}/split_{k}.json", names)
