"""Dataset of imported bags: labels and splits of the user's tables, for the slides with a bag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mil.errors import ConfigError, DatasetError, some
from mil.interop.dataset import check_splits, count_labels, write_dataset
from mil.interop.external import FeatureFile
from mil.interop.import_result import BagImportResult
from mil.interop.labels import ColumnNames, LabelTable, labels_in_files, read_labels, read_splits
from mil.io.tables.label_options import LabelOptions, counts_text
from mil.io.tables.splits import Splits


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Dataset to write with the imported bags: options of `mil bags import`.

    Attributes:
        name: name of the dataset.
        folder: folder of datasets.
        labels: table with the labels; None: they are in the feature files.
        slide_table: STAMP's table of slides and patients.
        columns: names of the tables' columns.
        split: file of splits; None: no predefined split.
        fold: number of the fold in that file.
        positive: class of interest; empty: the last.
        relabel: labels to write in place of others, as OLD=NEW.
        label_options: task of the labels.
        force: overwrite an existing dataset.
    """

    name: str
    folder: Path
    labels: Path | None = None
    slide_table: Path | None = None
    columns: ColumnNames = field(default_factory=ColumnNames)
    split: Path | None = None
    fold: int | None = None
    positive: str = ""
    relabel: Sequence[str] = ()
    label_options: LabelOptions = field(default_factory=LabelOptions)
    force: bool = False


class DatasetTables(NamedTuple):
    """The user's tables, matched to the feature files.

    Attributes:
        options: the dataset to write.
        labels: labels of the slides; None: in the feature files, and not read yet.
        splits: splits of the slides; None: none is predefined, or labels are not read yet.
    """

    options: DatasetOptions
    labels: LabelTable | None
    splits: Splits | None


def read_tables(options: DatasetOptions, files: Sequence[FeatureFile], root: Path) -> DatasetTables:
    """Read and check the tables, before bags are written.

    Args:
        options: the dataset to write.
        files: the feature files.
        root: file or folder of the features.

    Raises:
        ConfigError: no table has the labels, and the feature files have none.
        DatasetError: a table cannot be used.
    """
    labels = _read_labels(options, files, root)
    if labels is None:
        return DatasetTables(options, None, None)
    count_labels([row.label for row in labels.rows], options.positive, options.label_options)
    if options.labels is not None and options.split is None:
        check_splits(labels.rows, options.labels)
    return DatasetTables(options, labels, _read_splits(options, labels))


def _read_labels(
    options: DatasetOptions, files: Sequence[FeatureFile], root: Path
) -> LabelTable | None:
    if options.labels is not None:
        return read_labels(
            options.labels,
            options.slide_table,
            options.columns,
            files,
            root,
            options.relabel,
            options.label_options,
        )
    # Only ACMIL's files hold labels, which are numbers of classes.
    if files[0].tool == "acmil":
        if not options.label_options.is_classification:
            raise ConfigError(
                f"--task {options.label_options.task}: the files of acmil hold classes alone; give "
                "--labels FILE"
            )
        return None
    raise ConfigError(
        f"a dataset of bags of {files[0].tool} needs their labels; give --labels FILE"
    )


def _read_splits(options: DatasetOptions, labels: LabelTable) -> Splits | None:
    if options.split is None:
        return None
    return read_splits(options.split, labels.rows, options.fold)


def write_labelled(
    tables: DatasetTables, result: BagImportResult, bags: Path, slides_dir: Path | None
) -> list[str]:
    """Write the dataset of all slides that have a label and, with a file of splits, a split.

    Nothing is written where a feature file could not be used.

    Args:
        tables: the user's tables.
        result: the import, with its bags and the labels of the feature files.
        bags: folder of the bags.
        slides_dir: folder of the slides, if they are there.

    Returns:
        Messages for the user.

    Raises:
        DatasetError: no slide has a label, or the tables cannot be a dataset.
    """
    options, labels, splits = tables
    if result.faults:
        return [f"dataset {options.name}: not written, since not all files could be used"]
    if labels is None:
        # Known only now, since each file had to be read for them.
        labels = labels_in_files(result.labels)
        splits = _read_splits(options, labels)
    rows = labels.rows
    if splits is not None:
        rows = [row for row in rows if row.slide in splits.of]
    if not rows:
        raise DatasetError("no slide has a label; give --labels FILE")
    # The table repeats the bags' pixel sizes, for tables and slides read later.
    mpp_by_slide = {
        header.slide: header.mpp_level0 for header in result.headers if header.mpp_level0
    }
    label_counts = write_dataset(
        options.name,
        options.folder,
        rows,
        splits=splits.of if splits else {},
        mpp_by_slide=mpp_by_slide,
        positive=options.positive,
        slides_dir=slides_dir,
        options=options.label_options,
        # A run on the dataset needs no `bags=`; absolute, as the folder of the slides is.
        more={"bags": str(bags.resolve())},
    )
    counts = counts_text(label_counts, options.label_options)
    table = options.folder / f"{options.name}.csv"
    written = f"dataset {options.name}: {len(rows)} slides ({counts}) in {table}"
    return [*labels.notes, *_unmatched_lines(labels, splits), written]


def _unmatched_lines(labels: LabelTable, splits: Splits | None) -> list[str]:
    """Lines about slides and rows that have no counterpart."""
    names_by_reason: Mapping[str, Sequence[str]] = {
        "bags without a label, left out of the dataset": labels.without_label,
        "rows of the table without a bag": labels.without_bag,
        "slides in no split, left out of the dataset": splits.without_split if splits else (),
        "names in the splits without a slide": splits.without_slide if splits else (),
    }
    return [
        f"{len(names)} {reason}: {some(names)}"
        for reason, names in names_by_reason.items()
        if names
    ]
