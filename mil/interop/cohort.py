"""Whose slides are exported: their labels, patients and folds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.errors import DatasetError
from mil.io.bags import Bag
from mil.io.tables import Slide, read_dataset, read_folds

Fold = dict[str, str]  # slide: its split


@dataclass(frozen=True)
class Cohort:
    """What the tables of an export are made of.

    Attributes:
        name: of the dataset; empty: no tables.
        classes: labels, in order.
        rows: the slides that are exported.
        folds: for each fold the split of its slides.
        encoder: of all bags.
        magnification: nominal, for TRIDENT; None: from the bags' target.
    """

    name: str = ""
    classes: Sequence[str] = ()
    rows: Sequence[Slide] = ()
    folds: Sequence[Fold] = ()
    encoder: str = ""
    magnification: float | None = None
    by_slide: dict[str, Slide] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_slide", {row.slide: row for row in self.rows})

    def label(self, slide: str) -> str:
        """A slide's label; empty without a dataset."""
        return self.by_slide[slide].label if slide in self.by_slide else ""

    def label_number(self, slide: str) -> int:
        """A slide's label as a number: itself where all classes are numbers, else its place among the classes."""
        label = self.label(slide)
        return (
            int(label)
            if all(name.isdecimal() for name in self.classes)
            else list(self.classes).index(label)
        )

    def patients(self, fold: Fold, splits: Sequence[str]) -> list[str]:
        """Patients of a fold that are in one of these splits, in the table's order."""
        return list(
            dict.fromkeys(row.patient for row in self.rows if fold.get(row.slide) in splits)
        )


def read_cohort(dataset: str, folds: Path | None, slides: Sequence[str]) -> Cohort:
    """Labels and folds of the slides that have a bag.

    Args:
        dataset: name or yaml of a dataset; empty: no tables.
        folds: our folds.csv; None: the table's own split, if it names one for every
            slide.
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
        return Cohort()
    config, rows = read_dataset(dataset)
    if config.task != "classification":
        raise DatasetError(
            f"dataset {dataset}: labels are of {config.task}, which no table of theirs holds; "
            "export without --dataset"
        )
    names = set(slides)
    kept = [row for row in rows if row.slide in names]
    if not kept:
        raise DatasetError(f"dataset {dataset}: none of its {len(rows)} slides has a usable bag")
    parts = _read_folds(folds, {row.slide for row in kept}) if folds else _own_split(kept)
    return Cohort(Path(dataset).stem, config.classes, kept, parts)


def _own_split(rows: Sequence[Slide]) -> list[Fold]:
    return [{row.slide: row.split for row in rows}] if all(row.split for row in rows) else []


def _read_folds(path: Path, slides: set[str]) -> list[Fold]:
    folds: dict[int, Fold] = {}
    for row in read_folds(path):
        if row["slide"] in slides:
            folds.setdefault(int(row["fold"]), {})[row["slide"]] = row["split"]
    if not folds:
        raise DatasetError(f"{path}: divides none of the slides that are exported")
    return [folds[number] for number in sorted(folds)]


def valid_rows(bag: Bag) -> Bag:
    """The bag without the tiles that could not be read."""
    keep = bag.valid
    return replace(
        bag,
        features=bag.features[keep],
        valid=keep[keep],
        coords=None if bag.coords is None else bag.coords[keep],
        coords_um=None if bag.coords_um is None else bag.coords_um[keep],
    )
