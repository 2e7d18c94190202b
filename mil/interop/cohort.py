"""Slides of an export: their labels, patients and folds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.errors import DatasetError
from mil.io.bags import Bag
from mil.io.tables import Slide, read_dataset, read_folds

# The split of each slide in one fold: train, val or test.
FoldSplits = dict[str, str]


@dataclass(frozen=True)
class ExportCohort:
    """Slides of an export, as the tables of other tools need them.

    Attributes:
        name: name of the dataset; empty: no tables are written.
        classes: names of the classes, in their order.
        rows: rows of the exported slides.
        folds: split of each slide, by fold.
        encoder: encoder of all bags.
        magnification: nominal magnification for TRIDENT; None: from the bags' target.
        by_slide: the rows by slide.
    """

    name: str = ""
    classes: Sequence[str] = ()
    rows: Sequence[Slide] = ()
    folds: Sequence[FoldSplits] = ()
    encoder: str = ""
    magnification: float | None = None
    by_slide: dict[str, Slide] = field(init=False)

    def __post_init__(self) -> None:
        # A frozen dataclass refuses an ordinary assignment.
        object.__setattr__(self, "by_slide", {row.slide: row for row in self.rows})

    def label(self, slide: str) -> str:
        """Label of a slide; empty without a dataset."""
        return self.by_slide[slide].label if slide in self.by_slide else ""

    def label_number(self, slide: str) -> int:
        """Number that stands for a slide's label in ACMIL's files, from 0.

        Labels that are numbers already stay the same, so that a dataset imported from
        ACMIL comes back with its own numbers.
        """
        label = self.label(slide)
        if all(name.isdecimal() for name in self.classes):
            return int(label)
        return list(self.classes).index(label)

    def patients(self, fold: FoldSplits, splits: Sequence[str]) -> list[str]:
        """Patients of a fold that are in one of some splits, in the table's order."""
        patients = (row.patient for row in self.rows if fold.get(row.slide) in splits)
        # A dict keeps the order of the first slide of each patient.
        return list(dict.fromkeys(patients))


def read_cohort(dataset: str, folds: Path | None, slides: Sequence[str]) -> ExportCohort:
    """Labels and folds of the slides that have a bag.

    Args:
        dataset: name or yaml file of a dataset; empty: no tables.
        folds: path of a folds.csv; None: the dataset's own split, if it names one for
            every slide.
        slides: ids of the usable bags.

    Raises:
        DatasetError: the dataset or its folds cannot be used, or have none of the
            slides.
    """
    if not dataset:
        if folds:
            raise DatasetError(
                f"{folds}: folds need the dataset that they divide; give --dataset NAME"
            )
        return ExportCohort()
    config, rows = read_dataset(dataset)
    if config.task != "classification":
        raise DatasetError(
            f"dataset {dataset}: its labels are of the task {config.task}, which no table of "
            "another tool holds; export without --dataset"
        )
    # Slides whose bag is missing are left out of the tables too.
    with_bag = set(slides)
    exported = [row for row in rows if row.slide in with_bag]
    if not exported:
        raise DatasetError(f"dataset {dataset}: none of its {len(rows)} slides has a usable bag")
    if folds:
        divisions = _read_folds(folds, {row.slide for row in exported})
    else:
        divisions = _predefined_split(exported)
    return ExportCohort(Path(dataset).stem, config.classes, exported, divisions)


def _predefined_split(rows: Sequence[Slide]) -> list[FoldSplits]:
    """The dataset's own split as its only fold; none if it leaves out a slide."""
    # A fold that leaves out slides would drop them from the other tool's study in silence.
    if not all(row.split for row in rows):
        return []
    return [{row.slide: row.split for row in rows}]


def _read_folds(path: Path, slides: set[str]) -> list[FoldSplits]:
    folds: dict[int, FoldSplits] = {}
    for row in read_folds(path):
        # The folds are of the whole dataset, the export perhaps of a part.
        if row["slide"] in slides:
            folds.setdefault(int(row["fold"]), {})[row["slide"]] = row["split"]
    if not folds:
        raise DatasetError(f"{path}: divides none of the slides that are exported")
    return [folds[number] for number in sorted(folds)]


def without_invalid_tiles(bag: Bag) -> Bag:
    """The bag without the tiles that could not be read.

    Other formats have no flag for them: their rows of zeros would pass for features.
    """
    valid = bag.valid
    return replace(
        bag,
        features=bag.features[valid],
        valid=valid[valid],
        coords=None if bag.coords is None else bag.coords[valid],
        coords_um=None if bag.coords_um is None else bag.coords_um[valid],
    )
