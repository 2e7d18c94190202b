"""Dataset of fetched bags: labels and splits of the table that the set names, or of its files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.config import BagSetConfig
from mil.errors import FormatError
from mil.interop.bag_set_record import BagSetRecord
from mil.interop.dataset import check_writable, write_dataset
from mil.interop.labels import LabelledSlide
from mil.io.bags import read_header
from mil.io.tables import Slide, read_dataset


@dataclass(frozen=True)
class LabelSource:
    """Rows of the dataset that a set takes its labels from, by slide; empty: its own files."""

    rows: Mapping[str, Slide]
    positive: str


def label_source(entry: BagSetConfig) -> LabelSource:
    """Labels, patients and splits of a set's slides.

    Raises:
        MilError: The dataset that holds them cannot be read.
    """
    if not entry.dataset:
        return LabelSource({}, entry.classes[-1])
    dataset, rows = read_dataset(entry.dataset)
    return LabelSource({row.slide: row for row in rows}, dataset.positive_class)


def check_dataset(name: str, folder: Path, record: BagSetRecord, force: bool) -> None:
    """Check, before anything is fetched, that the dataset may be written.

    Raises:
        DatasetError: There is another dataset of this name.
    """
    # One that an earlier fetch wrote is renewed, or kept if the user changed it.
    if not record.dataset_sha256:
        check_writable(name, folder, force)


def write_set_dataset(
    name: str,
    entry: BagSetConfig,
    labels: LabelSource,
    record: BagSetRecord,
    slides: Sequence[str],
    *,
    bags: Path,
    folder: Path,
) -> tuple[BagSetRecord, str]:
    """Write the dataset's yaml and table.

    Args:
        name: Name of the set and of the dataset.
        entry: The set.
        labels: Labels of the slides.
        record: Record of the set.
        slides: Slides that have a bag.
        bags: Folder of the bags.
        folder: Folder of the dataset's files.

    Returns:
        The record with the digest of the files, and a line for the user.

    Raises:
        DatasetError: The rows cannot be a dataset.
    """
    current = _digest(name, folder)
    if current and record.dataset_sha256 and current != record.dataset_sha256:
        return record, (
            f"dataset {name}: was changed after it was written, and is kept; write it again with "
            "--force"
        )
    if entry.dataset:
        rows = [labels.rows[slide] for slide in slides]
    else:
        rows = _rows_of_files(entry, record)
    headers = (read_header(bags / f"{slide}.h5") for slide in slides)
    classes = write_dataset(
        name,
        folder,
        [LabelledSlide(row.slide, row.patient, row.label, row.subgroups) for row in rows],
        splits={row.slide: row.split for row in rows if row.split},
        mpp_by_slide={item.slide: item.mpp_level0 for item in headers if item.mpp_level0},
        positive=labels.positive,
        slides_dir=None,
        command=f"mil bags fetch {name}",
        more={
            "title": entry.title,
            "bags": str(bags),
            "licence": entry.licence,
            "notes": f"Cite {entry.citation}. Bags of {record.repository} at {record.commit}.",
        },
    )
    counts = ", ".join(f"{label} {count}" for label, count in classes.items())
    line = f"dataset {name}: {len(rows)} slides ({counts}) in {folder / name}.csv"
    digest = _digest(name, folder)
    return record.model_copy(update={"dataset_sha256": digest}), line


def _rows_of_files(entry: BagSetConfig, record: BagSetRecord) -> list[Slide]:
    rows = []
    for path, content in record.contents.items():
        for slide, number in content.items():
            if number is None or not 0 <= number < len(entry.classes):
                raise FormatError(
                    f"{path}: label {number} of {slide} is none of {len(entry.classes)} classes"
                )
            split = slide.partition("_")[0]
            rows.append(Slide(slide, slide, entry.classes[number], split=split))
    return rows


def _digest(name: str, folder: Path) -> str:
    """Digest of a dataset's two files; empty if one is not there."""
    files = [folder / f"{name}.yaml", folder / f"{name}.csv"]
    if not all(file.exists() for file in files):
        return ""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
