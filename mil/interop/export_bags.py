"""Bags of ours in, another tool's files out, with the tables and splits that it expects."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.errors import FormatError, MilError, some
from mil.interop.cohort import Cohort, read_cohort, valid_rows
from mil.interop.detect import bag_files, tool_module
from mil.io.bags import BagHeader, read_bag, read_header
from mil.progress import progress


@dataclass
class Sent:
    """What an export wrote and what it left out."""

    slides: list[str] = field(default_factory=list)
    tiles: int = 0
    invalid: int = 0
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
) -> Sent:
    """Export a folder of bags. Slides that are not `ok`, and tiles that could not be read, are left out and counted.

    Args:
        bags: folder of the bags, all of one encoder.
        out: folder of the export.
        tool: clam, trident, stamp or acmil.
        dataset: name or yaml of the dataset with the labels; empty: features only.
        folds: our folds.csv; None: the table's own split, if it has one.
        magnification: nominal, for TRIDENT, where bags do not know their target.
        force: write into a folder that is not empty; other files in it stay.

    Raises:
        FormatError: there are no bags, one cannot be read, or does not know what the
            tool needs.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FormatError(
            f"{out}: is not empty; choose another --out, or write into it with --force"
        )
    headers = [read_header(file) for file in bag_files(bags)]
    sent = Sent(not_ok=[header.slide for header in headers if header.state != "ok"])
    usable = [header for header in headers if header.state == "ok"]
    if not usable:
        raise FormatError(
            f"{bags}: none of its {len(headers)} bags is usable, so there is nothing to export"
        )
    cohort = read_cohort(dataset, folds, [header.slide for header in usable])
    cohort = replace(cohort, encoder=_one_encoder(usable, bags), magnification=magnification)
    kept = [header for header in usable if not cohort.name or header.slide in cohort.by_slide]
    sent.not_in_dataset = [header.slide for header in usable if header not in kept]
    _check_known(kept, tool, bags)
    _write(bags, out, tool, cohort, kept, sent)
    sent.folds = len(cohort.folds)
    return sent


def _one_encoder(headers: Sequence[BagHeader], bags: Path) -> str:
    first = headers[0]
    for header in headers:
        if header.encoder != first.encoder:
            raise FormatError(
                f"{bags}: encoder {header.encoder} in {header.slide}, but {first.encoder} in "
                f"{first.slide}; "
                "export the bags of one encoder"
            )
    return first.encoder


def _check_known(headers: Sequence[BagHeader], tool: str, bags: Path) -> None:
    """Say before anything is written which bags lack what the tool's files must hold."""
    for name in tool_module(tool).NEEDS:
        lacking = [
            header.slide for header in headers if name != "coords" and getattr(header, name) is None
        ]
        if lacking:
            raise FormatError(
                f"{bags}: {tool} needs {name}, which {len(lacking)} of {len(headers)} bags do "
                "not know "
                f"({some(lacking)}); import them again and say it (docs/bags.md)"
            )


def _write(
    bags: Path, out: Path, tool: str, cohort: Cohort, headers: Sequence[BagHeader], sent: Sent
) -> None:
    module = tool_module(tool)
    with progress("export", len(headers), "bags") as advance, module.writing(out, cohort) as write:
        for header in headers:
            try:
                bag = read_bag(bags / f"{header.slide}.h5")
                if bag.coords is None and "coords" in module.NEEDS:
                    raise FormatError(f"{tool} needs coordinates, which this bag does not know")
                write(valid_rows(bag))
            except (MilError, OSError) as error:
                raise FormatError(
                    f"stopped at slide {header.slide}, {len(sent.slides)} of {len(headers)} are "
                    f"written: {error}"
                ) from None
            sent.slides.append(header.slide)
            sent.tiles += int(bag.valid.sum())
            sent.invalid += int((~bag.valid).sum())
            advance(1)
