"""Bags of another tool in, bags of ours out, and a dataset that a run can train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.errors import ConfigError, DatasetError, FormatError, some
from mil.interop.convert import Known, as_bag
from mil.interop.dataset import check_free, classes_of, write_dataset
from mil.interop.detect import find, one_tool, tool_module
from mil.interop.external import Foreign, Source
from mil.interop.labels import Columns, Labels, labels_inside, read_labels
from mil.interop.pixel_size import NOMINAL, PixelSizes, pixel_sizes
from mil.interop.splits import read_splits
from mil.interop.words import COSTS
from mil.io.bags import Bag, BagHeader, read_header, write_bag
from mil.io.bags.checks import ONE_ENCODER, check_width, difference
from mil.io.tables.splits import Splits
from mil.progress import progress


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A dataset to make of the imported bags; the fields are the command's options."""

    name: str
    folder: Path
    labels: Path | None = None
    slide_table: Path | None = None
    columns: Columns = field(default_factory=dict)
    split: Path | None = None
    fold: int | None = None
    positive: str = ""
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Who says how large a pixel is; the fields are the command's options."""

    mpp: float | None = None
    table: Path | None = None
    slides_dir: Path | None = None


@dataclass
class Brought:
    """What an import made: headers of the bags, what they do not know, and what could not be used."""

    tool: str
    encoder: str = ""
    headers: list[BagHeader] = field(default_factory=list)
    tiles: int = 0
    dim: int = 0
    unknown: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in COSTS})
    off_nominal: dict[str, tuple[float, float]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    faults: list[FormatError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run(
    path: Path,
    out: Path,
    *,
    tool: str | None,
    known: Known,
    sizes: Sizes,
    patches: Path | None,
    wanted: Wanted | None,
    force: bool,
) -> Brought:
    """Import a file or a folder of features.

    A file that cannot be used is left out and told; the others are written. A dataset
    is written only when all files could be used.

    Args:
        path: what another tool wrote.
        out: folder of the bags.
        tool: whose it is; None: told by the keys.
        known: what the user says of all bags.
        sizes: how large pixels are.
        patches: CLAM's folder of coordinates; None: looked for near the features.
        wanted: a dataset to make; None: none.
        force: overwrite bags.

    Raises:
        ConfigError: something has to be said that no file says.
        FormatError: there is nothing to import, or it is there already.
        DatasetError: the tables do not fit.
    """
    found = find(path, tool)
    sources = one_tool(found.sources, patches)
    if not sources:
        raise found.faults[0]
    _check_out(sources, out, force)
    if wanted:
        check_free(wanted.name, wanted.folder, wanted.force)
    pixels = pixel_sizes(
        sources, path, mpp=sizes.mpp, table=sizes.table, slides_dir=sizes.slides_dir
    )
    labels = _labels(wanted, sources, path)
    if wanted and labels:
        classes_of(
            [row.label for row in labels.rows], wanted.positive
        )  # what is wrong with it is said first
    splits = _splits(wanted, labels)
    brought = Brought(sources[0].tool, encoder=_there_already(out, sources), faults=found.faults)
    with progress("import", len(sources), "bags") as advance:
        for source in sources:
            _bring(source, out, known, pixels, brought)
            advance(1)
    if pixels.unknown:
        brought.notes.append(f"no pixel size: {some(pixels.unknown)}")
    if wanted:
        _make_dataset(wanted, labels, splits, sizes, brought)
    return brought


def _check_out(sources: Sequence[Source], out: Path, force: bool) -> None:
    there = [source.slide for source in sources if (out / f"{source.slide}.h5").exists()]
    if there and not force:
        raise FormatError(
            f"{out}: has bags of {some(there)} already; choose another --out, or overwrite with "
            "--force"
        )


def _bring(source: Source, out: Path, known: Known, pixels: PixelSizes, brought: Brought) -> None:
    try:
        found = tool_module(source.tool).read(source)
        bag = as_bag(source, found, known, pixels.of(source.slide))
        _check_alike(bag, brought)
        write_bag(out / f"{source.slide}.h5", bag)
    except FormatError as error:
        brought.faults.append(error)
    else:
        _note(bag, found, brought)


def _there_already(out: Path, sources: Sequence[Source]) -> str:
    """Encoder of the bags that lie in the folder already; empty: there are none that stay."""
    new = {source.slide for source in sources}
    other = next((file for file in sorted(out.glob("[!.]*.h5")) if file.stem not in new), None)
    return read_header(other).encoder if other else ""


def _check_alike(bag: Bag, brought: Brought) -> None:
    """Bags of one folder are of one encoder and one dimension."""
    if bag.state != "ok":
        return
    dim = bag.features.shape[1]
    brought.encoder = brought.encoder or bag.encoder
    brought.dim = brought.dim or dim
    check_width(f"slide {bag.slide}", dim, brought.dim, "the others")
    if bag.encoder != brought.encoder:
        message = difference(
            f"slide {bag.slide}", "encoder", bag.encoder, brought.encoder, "the others"
        )
        raise FormatError(f"{message}; {ONE_ENCODER}")


def _note(bag: Bag, found: Foreign, brought: Brought) -> None:
    brought.tiles += len(bag.features)
    if bag.state == "ok":
        brought.headers.append(
            BagHeader(**{name: getattr(bag, name) for name in BagHeader.__dataclass_fields__})
        )
        for name in COSTS:
            if getattr(bag, name) is None:
                brought.unknown[name].append(bag.slide)
    else:
        brought.notes.append(f"slide {bag.slide} has no tiles")
    if (
        bag.mpp_level0
        and found.nominal_mpp
        and abs(bag.mpp_level0 / found.nominal_mpp - 1) > NOMINAL
    ):
        brought.off_nominal[bag.slide] = bag.mpp_level0, found.nominal_mpp
    brought.labels[bag.slide] = found.label


def _labels(wanted: Wanted | None, sources: Sequence[Source], root: Path) -> Labels | None:
    """Labels of the user's tables; None: none is wanted, or they are in the files themselves."""
    if wanted is None or (wanted.labels is None and sources[0].tool == "acmil"):
        return None
    if wanted.labels is None:
        raise ConfigError(
            f"a dataset of bags of {sources[0].tool} needs their labels; give --labels FILE"
        )
    return read_labels(wanted.labels, wanted.slide_table, wanted.columns, sources, root)


def _splits(wanted: Wanted | None, labels: Labels | None) -> Splits | None:
    if wanted is None or wanted.split is None or labels is None:
        return None
    return read_splits(wanted.split, labels.rows, wanted.fold)


def _make_dataset(
    wanted: Wanted, labels: Labels | None, splits: Splits | None, sizes: Sizes, brought: Brought
) -> None:
    """Write the dataset, of all slides that have a label and, where splits are given, a split."""
    if brought.faults:
        brought.notes.append(
            f"dataset {wanted.name}: not written, since not all files could be used"
        )
        return
    if labels is None:
        labels = labels_inside(brought.labels)
        splits = read_splits(wanted.split, labels.rows, wanted.fold) if wanted.split else None
    rows = [row for row in labels.rows if splits is None or row.slide in splits.of]
    if not rows:
        raise DatasetError("no slide has a label; give --labels FILE")
    pixels = {header.slide: header.mpp_level0 for header in brought.headers if header.mpp_level0}
    classes = write_dataset(
        wanted.name,
        wanted.folder,
        rows,
        splits=splits.of if splits else {},
        sizes=pixels,
        positive=wanted.positive,
        slides_dir=sizes.slides_dir,
    )
    brought.notes += _left_over(labels, splits)
    counts = ", ".join(f"{label} {count}" for label, count in classes.items())
    brought.notes.append(
        f"dataset {wanted.name}: {len(rows)} slides ({counts}) in {wanted.folder / wanted.name}.csv"
    )


def _left_over(labels: Labels, splits: Splits | None) -> list[str]:
    lists: Mapping[str, Sequence[str]] = {
        "bags without a label, left out of the dataset": labels.without_label,
        "rows of the table without a bag": labels.without_bag,
        "slides in no split, left out of the dataset": splits.without_split if splits else (),
        "names in the splits without a slide": splits.without_slide if splits else (),
    }
    return [f"{len(names)} {what}: {some(names)}" for what, names in lists.items() if names]
