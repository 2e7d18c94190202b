"""Export of bags as another tool's files, with the tables and splits that it expects."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.errors import FormatError, MilError, some
from mil.interop.cohort import ExportCohort, read_cohort, without_invalid_tiles
from mil.interop.detect import bag_files, tool_module
from mil.io.bags import BagHeader, read_bag, read_header
from mil.progress import progress


@dataclass
class BagExportResult:
    """Slides that an export wrote, and slides and tiles that it left out.

    Attributes:
        slides: exported slides.
        tiles: number of exported tiles.
        invalid_tiles: number of tiles left out because they could not be read.
        not_ok: slides left out because their state is not `ok`.
        not_in_dataset: slides left out because the dataset does not have them.
        folds: number of folds written.
    """

    slides: list[str] = field(default_factory=list)
    tiles: int = 0
    invalid_tiles: int = 0
    not_ok: list[str] = field(default_factory=list)
    not_in_dataset: list[str] = field(default_factory=list)
    folds: int = 0


def run(
    bags: Path,
    out: Path,
    *,
    tool: str,
    dataset: str,
    folds: Path | None,
    magnification: float | None,
    force: bool,
) -> BagExportResult:
    """Export a folder of bags.

    Slides that are not `ok`, and tiles that could not be read, are left out and counted.

    Args:
        bags: folder of the bags, all of one encoder.
        out: folder of the export.
        tool: name of the other tool: clam, trident, stamp or acmil.
        dataset: name or yaml file of the dataset with the labels; empty: features only.
        folds: path of a folds.csv; None: the dataset's own split, if it has one.
        magnification: nominal magnification for TRIDENT, for bags without a target.
        force: write into a folder that is not empty; other files in it stay.

    Raises:
        FormatError: there are no bags, or one cannot be read or lacks a field that the
            tool needs.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FormatError(
            f"{out}: is not empty; choose another --out, or write into it with --force"
        )
    # Headers alone: the bags are read one by one as they are written.
    headers = [read_header(file) for file in bag_files(bags)]
    usable = [header for header in headers if header.state == "ok"]
    if not usable:
        raise FormatError(
            f"{bags}: none of its {len(headers)} bags is usable, so there is nothing to export"
        )
    cohort = read_cohort(dataset, folds, [header.slide for header in usable])
    # Only now are the encoder and the magnification known.
    cohort = replace(cohort, encoder=_common_encoder(usable, bags), magnification=magnification)
    exported = usable
    if cohort.name:
        exported = [header for header in usable if header.slide in cohort.by_slide]
    result = BagExportResult(
        not_ok=[header.slide for header in headers if header.state != "ok"],
        not_in_dataset=[header.slide for header in usable if header not in exported],
        folds=len(cohort.folds),
    )
    _check_required_fields(exported, tool, bags)
    _write(bags, out, tool, cohort, exported, result)
    return result


def _common_encoder(headers: Sequence[BagHeader], bags: Path) -> str:
    # Folders and files of other tools are named after one encoder.
    first = headers[0]
    for header in headers:
        if header.encoder != first.encoder:
            raise FormatError(
                f"{bags}: encoder {header.encoder} in {header.slide}, but {first.encoder} in "
                f"{first.slide}; export the bags of one encoder"
            )
    return first.encoder


def _check_required_fields(headers: Sequence[BagHeader], tool: str, bags: Path) -> None:
    """Check, before anything is written, that the bags have what the tool's files must hold."""
    for name in tool_module(tool).REQUIRED_FIELDS:
        # A header says nothing of coordinates: they are checked as each bag is read.
        if name == "coords":
            continue
        lacking = [header.slide for header in headers if getattr(header, name) is None]
        if lacking:
            raise FormatError(
                f"{bags}: {tool} needs {name}, which {len(lacking)} of {len(headers)} bags lack "
                f"({some(lacking)}); import them again and state it (docs/reference/bags.md)"
            )


def _write(
    bags: Path,
    out: Path,
    tool: str,
    cohort: ExportCohort,
    headers: Sequence[BagHeader],
    result: BagExportResult,
) -> None:
    module = tool_module(tool)
    needs_coords = "coords" in module.REQUIRED_FIELDS
    with (
        progress("export", len(headers), "bags") as advance,
        module.bag_writer(out, cohort) as write,
    ):
        for header in headers:
            try:
                bag = read_bag(bags / f"{header.slide}.h5")
                if bag.coords is None and needs_coords:
                    raise FormatError(f"{tool} needs coordinates, which this bag lacks")
                write(without_invalid_tiles(bag))
            except (MilError, OSError) as error:
                # Files written before stay: the user must know where to go on.
                raise FormatError(
                    f"stopped at slide {header.slide}, {len(result.slides)} of {len(headers)} are "
                    f"written: {error}"
                ) from None
            valid_tiles = int(bag.valid.sum())
            result.slides.append(header.slide)
            result.tiles += valid_tiles
            result.invalid_tiles += len(bag.valid) - valid_tiles
            advance(1)
