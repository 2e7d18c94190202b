"""Import of another tool's features as bags, with a dataset that a run can train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mil.config import EncoderConfig
from mil.errors import ConfigError, DatasetError, FormatError, some
from mil.interop.convert import FeatureDtype, bag_from_external, known_encoders
from mil.interop.dataset import check_splits, check_writable, count_labels, write_dataset
from mil.interop.detect import files_of_one_tool, find_feature_files, tool_module
from mil.interop.external import FeatureFile
from mil.interop.header import HeaderFields
from mil.interop.labels import (
    ColumnNames,
    LabelTable,
    labels_in_files,
    read_labels,
    read_splits,
)
from mil.interop.pixel_size import NOMINAL_TOLERANCE, PixelSizeOptions, pixel_sizes
from mil.io.bags import Bag, BagHeader, read_header, write_bag
from mil.io.bags.checks import ONE_ENCODER, check_width, difference
from mil.io.tables.label_options import LabelOptions, counts_text
from mil.io.tables.splits import Splits
from mil.progress import progress

# Facts that a bag can do without, at a price that the user is told.
OPTIONAL_FACTS = ("coords", "side_level0_px", "mpp_level0")


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


class DifferentPixelSize(NamedTuple):
    """Pixel size of a slide whose nominal magnification stands for another, µm."""

    mpp: float
    nominal_mpp: float


@dataclass
class BagImportResult:
    """Bags that an import wrote, facts that they lack, and files that could not be used.

    Attributes:
        tool: tool that wrote the features.
        encoder: encoder of the bags.
        headers: headers of the bags that have tiles.
        tiles: number of tiles of all bags.
        dim: number of features per tile.
        unknown: slides that lack a fact, by the fact's name.
        off_nominal: slides whose pixel size is not that of their magnification.
        labels: label of each imported slide, where its file has one.
        renamed: encoders whose name is another one here, with that name.
        faults: why files could not be used.
        notes: further messages for the user.
    """

    tool: str
    encoder: str = ""
    headers: list[BagHeader] = field(default_factory=list)
    tiles: int = 0
    dim: int = 0
    unknown: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in OPTIONAL_FACTS}
    )
    off_nominal: dict[str, DifferentPixelSize] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    faults: list[FormatError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run(
    path: Path,
    out: Path,
    *,
    tool: str | None,
    stated: HeaderFields,
    dtype: FeatureDtype,
    sizes: PixelSizeOptions,
    patches: Path | None,
    dataset: DatasetOptions | None,
    force: bool,
) -> BagImportResult:
    """Import a file or a folder of features.

    A file that cannot be used is left out and reported; the others are written. A
    dataset is written only when all files could be used.

    Args:
        path: file or folder of features that another tool wrote.
        out: folder for the bags.
        tool: name of the tool; None: detected from the keys of each file.
        stated: header fields that the user states for all bags.
        dtype: type of the stored features.
        sizes: sources of the pixel size.
        patches: folder of CLAM's files of coordinates; None: sought near the features.
        dataset: dataset to write; None: none.
        force: overwrite bags.

    Raises:
        ConfigError: an option is missing that no file can replace.
        FormatError: there is nothing to import, or the bags exist already.
        DatasetError: the tables do not match the features.
    """
    # All that can be wrong with the options is found before a bag is written.
    detected = find_feature_files(path, tool)
    files = files_of_one_tool(detected.files, patches)
    if not files:
        raise detected.faults[0]
    _check_free(files, out, force)
    if dataset:
        check_writable(dataset.name, dataset.folder, dataset.force)
    mpps = pixel_sizes(files, path, sizes)
    # Tables are read and checked before bags are written, which may take hours.
    labels = _read_labels(dataset, files, path)
    if dataset and labels:
        cells = [row.label for row in labels.rows]
        count_labels(cells, dataset.positive, dataset.label_options)
        if dataset.labels is not None and dataset.split is None:
            check_splits(labels.rows, dataset.labels)
    splits = _read_splits(dataset, labels)
    result = BagImportResult(
        files[0].tool, encoder=_existing_encoder(out, files), faults=detected.faults
    )
    encoders = known_encoders()
    with progress("import", len(files), "bags") as advance:
        for file in files:
            options = _FileOptions(stated, dtype, mpps.mpp_of(file.slide), encoders)
            _import_file(file, out, options, result)
            advance(1)
    result.notes += _encoder_notes(result, encoders)
    # Reasons only for sources that were asked: a table or the slides.
    if mpps.unknown:
        result.notes.append(f"no pixel size: {some(mpps.unknown)}")
    if dataset:
        _write_dataset(dataset, labels, splits, sizes.slides_dir, out, result)
    return result


def _check_free(files: Sequence[FeatureFile], out: Path, force: bool) -> None:
    existing = [file.slide for file in files if (out / f"{file.slide}.h5").exists()]
    if existing and not force:
        raise FormatError(
            f"{out}: has bags of {some(existing)} already; choose another --out, or overwrite with "
            "--force"
        )


class _FileOptions(NamedTuple):
    """Arguments of `bag_from_external` besides the file."""

    stated: HeaderFields
    dtype: FeatureDtype
    mpp: float | None
    encoders: Mapping[str, EncoderConfig]


def _import_file(
    file: FeatureFile, out: Path, options: _FileOptions, result: BagImportResult
) -> None:
    try:
        external = tool_module(file.tool).read(file)
        bag = bag_from_external(file, external, **options._asdict())
        # After reading and before writing: a folder stays of one encoder.
        _check_alike(bag, result)
        write_bag(out / f"{file.slide}.h5", bag)
    except FormatError as error:
        # One bad file must not stop an import of thousands.
        result.faults.append(error)
    else:
        _record(bag, external.nominal_mpp, result)
        name = options.stated.encoder or external.stated.encoder
        if name and name != bag.encoder:
            result.renamed[name] = bag.encoder
        result.labels[bag.slide] = external.label


def _encoder_notes(result: BagImportResult, encoders: Mapping[str, EncoderConfig]) -> list[str]:
    notes = [f"encoder {name} is called {here} here" for name, here in result.renamed.items()]
    entry = encoders.get(result.encoder)
    if entry is not None and result.dim and entry.dim != result.dim:
        notes.append(
            f"encoder {result.encoder} gives {entry.dim} features per tile by "
            f"configs/encoders.yaml, but these bags have {result.dim}; if they are of another "
            "encoder, import them again with --encoder NAME"
        )
    return notes


def _existing_encoder(out: Path, files: Sequence[FeatureFile]) -> str:
    """Encoder of the bags in the folder that the import does not replace; empty: none."""
    imported = {file.slide for file in files}
    # Names that begin with a dot are scratch files of an interrupted run.
    existing = (file for file in sorted(out.glob("[!.]*.h5")) if file.stem not in imported)
    first = next(existing, None)
    return read_header(first).encoder if first else ""


def _check_alike(bag: Bag, result: BagImportResult) -> None:
    """Check that a bag has the encoder and the dimension of the bags before it.

    Raises:
        FormatError: it does not; a folder holds the bags of one encoder.
    """
    # A slide without tiles may have lost both.
    if bag.state != "ok":
        return
    dim = bag.features.shape[1]
    result.encoder = result.encoder or bag.encoder
    result.dim = result.dim or dim
    check_width(f"slide {bag.slide}", dim, result.dim, "the others")
    if bag.encoder != result.encoder:
        message = difference(
            f"slide {bag.slide}", "encoder", bag.encoder, result.encoder, "the others"
        )
        raise FormatError(f"{message}; {ONE_ENCODER}")


def _record(bag: Bag, nominal_mpp: float | None, result: BagImportResult) -> None:
    """Add a bag that was written to the result."""
    result.tiles += len(bag.features)
    if bag.state == "ok":
        # The header alone: the features of all bags would not fit into memory.
        header = {name: getattr(bag, name) for name in BagHeader.__dataclass_fields__}
        result.headers.append(BagHeader(**header))
        for name, slides in result.unknown.items():
            if getattr(bag, name) is None:
                slides.append(bag.slide)
    else:
        result.notes.append(f"slide {bag.slide} has no tiles")
    if bag.mpp_level0 and nominal_mpp:
        deviation = abs(bag.mpp_level0 / nominal_mpp - 1)
        if deviation > NOMINAL_TOLERANCE:
            result.off_nominal[bag.slide] = DifferentPixelSize(bag.mpp_level0, nominal_mpp)


def _read_labels(
    dataset: DatasetOptions | None, files: Sequence[FeatureFile], root: Path
) -> LabelTable | None:
    """Labels of the user's tables; None: not needed, or in the feature files themselves."""
    if dataset is None:
        return None
    if dataset.labels is not None:
        return read_labels(
            dataset.labels,
            dataset.slide_table,
            dataset.columns,
            files,
            root,
            dataset.relabel,
            dataset.label_options,
        )
    # Only ACMIL's files hold labels.
    if files[0].tool == "acmil":
        return None
    raise ConfigError(
        f"a dataset of bags of {files[0].tool} needs their labels; give --labels FILE"
    )


def _read_splits(dataset: DatasetOptions | None, labels: LabelTable | None) -> Splits | None:
    if dataset is None or dataset.split is None or labels is None:
        return None
    return read_splits(dataset.split, labels.rows, dataset.fold)


def _write_dataset(
    dataset: DatasetOptions,
    labels: LabelTable | None,
    splits: Splits | None,
    slides_dir: Path | None,
    out: Path,
    result: BagImportResult,
) -> None:
    """Write the dataset of all slides that have a label and, with a file of splits, a split."""
    if result.faults:
        result.notes.append(
            f"dataset {dataset.name}: not written, since not all files could be used"
        )
        return
    if labels is None:
        # Known only now, since each file had to be read for them.
        labels = labels_in_files(result.labels)
        splits = _read_splits(dataset, labels)
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
        dataset.name,
        dataset.folder,
        rows,
        splits=splits.of if splits else {},
        mpp_by_slide=mpp_by_slide,
        positive=dataset.positive,
        slides_dir=slides_dir,
        options=dataset.label_options,
        # A run on the dataset needs no `bags=`; absolute, as the folder of the slides is.
        more={"bags": str(out.resolve())},
    )
    result.notes += [*labels.notes, *_unmatched_lines(labels, splits)]
    counts = counts_text(label_counts, dataset.label_options)
    table = dataset.folder / f"{dataset.name}.csv"
    result.notes.append(f"dataset {dataset.name}: {len(rows)} slides ({counts}) in {table}")


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
