"""ACMIL and AEM: one file a dataset, in it a group a slide with feat, coords and label.

The label is a number, and stands beside the features, so an export needs a dataset.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from mil.errors import ConfigError, FormatError
from mil.interop.cohort import ExportCohort
from mil.interop.convert import whole_pixels
from mil.interop.external import ExternalFeatures, FeatureFile
from mil.interop.header import EmbeddedHeader, HeaderFields, embed_header, read_embedded_header
from mil.interop.untrusted import (
    get_item,
    get_numeric_dataset,
    open_hdf5,
    read_attribute,
    read_coords,
    read_features,
)
from mil.io.atomic import atomic_path, write_json
from mil.io.bags import Bag
from mil.io.tables import clean_id, valid_id, write_csv

# The encoder's name follows this prefix in the name of the file.
FILE_PREFIX = "patch_feats_pretrain_"
REQUIRED_FIELDS = ("coords",)
MAX_LABEL_CHARACTERS = 100


def slides(path: Path) -> Iterator[FeatureFile]:
    """The slides of a file.

    Raises:
        FormatError: a group's name cannot be the id of a slide.
    """
    with open_hdf5(path) as file:
        # Names that are no UTF-8 come as bytes, which do not sort among texts.
        names = sorted(file, key=str)
    for name in names:
        # The id becomes a file name, so it must not lead out of the folder.
        if not isinstance(name, str) or name.startswith("."):
            raise FormatError(
                f"{path}: the group {name!r} cannot be a slide's id, which becomes a file name"
            )
        slide = name if valid_id(name) else clean_id(name)
        yield FeatureFile("acmil", slide, path, name)


def read(file: FeatureFile) -> ExternalFeatures:
    """Features, corners if they are there, and the label.

    Raises:
        FormatError: a part of the group cannot be what it should be.
    """
    location = file.location
    with open_hdf5(file.path) as opened:
        group = get_item(opened, file.group, location)
        # A dataset where the group should be is no slide either.
        dataset = None
        if isinstance(group, h5py.Group):
            dataset = get_numeric_dataset(group, "feat", location)
        if group is None or dataset is None:
            raise FormatError(f"{location}: has no dataset 'feat'")
        features = read_features(dataset, location)
        coords = None
        positions = get_numeric_dataset(group, "coords", location)
        if positions is not None:
            coords = whole_pixels(read_coords(positions, len(features), location), location)
        embedded = read_embedded_header(group.attrs, location)
        label = _read_label(group.attrs, embedded, location)
    stem = file.path.stem
    encoder = stem.removeprefix(FILE_PREFIX) if stem.startswith(FILE_PREFIX) else ""
    return ExternalFeatures(
        features=features,
        coords=coords,
        stated=HeaderFields(encoder=encoder),
        label=label,
        embedded=embedded,
    )


def _read_label(
    attrs: h5py.AttributeManager, embedded: EmbeddedHeader | None, location: str
) -> str:
    """Label of a slide: its number, or the name that we embedded for that number."""
    value = read_attribute(attrs, "label", location)
    if value is None:
        return ""
    if isinstance(value, str) and len(value) <= MAX_LABEL_CHARACTERS and value.isprintable():
        return value
    # h5py gives a scalar, or an array of one, depending on who wrote it.
    numbers = np.ravel(value)
    if numbers.size != 1 or numbers.dtype.kind not in "iuf" or numbers[0] != np.rint(numbers[0]):
        raise FormatError(f"{location}: label is not a number")
    number = int(numbers[0])
    # A number that was changed after the export goes before the embedded name.
    if embedded and embedded.label and embedded.label_number == number:
        return embedded.label
    return str(number)


@contextmanager
def bag_writer(out: Path, cohort: ExportCohort) -> Iterator[Callable[[Bag], None]]:
    """Function that writes one bag into the file of all bags.

    The file appears when the last bag is in it; the table and the splits follow.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.

    Raises:
        ConfigError: there is no dataset, hence no labels.
    """
    if not cohort.name:
        raise ConfigError(
            "ACMIL keeps the label beside the features; name the dataset with the labels: "
            "--dataset NAME"
        )
    path = out / f"{FILE_PREFIX}{cohort.encoder}.h5"
    # Atomic: a file that lacks its last slides would pass for a whole data set.
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        yield partial(_write, file, cohort)
    write_tables(out, cohort)


def _write(file: h5py.File, cohort: ExportCohort, bag: Bag) -> None:
    group = file.create_group(bag.slide)
    number = cohort.label_number(bag.slide)
    # As stored in the bag, float16 or float32.
    group["feat"] = bag.features
    group.create_dataset("coords", data=bag.coords, dtype=np.int64)
    group.attrs["label"] = number
    embed_header(group.attrs, bag, label=cohort.label(bag.slide), label_number=number)


def write_tables(out: Path, cohort: ExportCohort) -> None:
    """ACMIL's table, whose labels are numbers, and a file for each fold.

    Args:
        out: folder of the export.
        cohort: slides of the export, with their labels and folds.
    """
    rows = [
        {"case_id": row.patient, "slide_id": row.slide, "label": cohort.label_number(row.slide)}
        for row in cohort.rows
    ]
    write_csv(out / f"dataset_csv/{cohort.name}.csv", rows, escape=False)
    # ACMIL counts folds from 1.
    for k, fold in enumerate(cohort.folds, 1):
        names: dict[str, list[str]] = {}
        for split in ("train", "val", "test"):
            names[f"{split}_names"] = [slide for slide, part in fold.items() if part == split]
        write_json(out / f"splits/{cohort.name}/split_{k}.json", names)
