"""What a division must not be, and what is worth knowing about it."""

from collections.abc import Callable, Mapping, Sequence

from mil.errors import DatasetError
from mil.io.tables import Slide

Row = Mapping[str, object]


def check_labels(slides: Sequence[Slide], *, early: bool) -> None:
    """Refuse tables that no head can be trained on, before anything runs.

    Args:
        slides: all slides of the table.
        early: whether the slides of a patient become one bag.

    Raises:
        DatasetError: all slides have one label, or those of a patient, who becomes one
            bag, have two.
    """
    labels = {slide.label for slide in slides}
    if len(labels) < 2:
        raise DatasetError(
            f"all {len(slides)} slides of the table have the label {slides[0].label!r}; a head "
            "needs at least two"
        )
    first: dict[str, Slide] = {}
    for slide in slides if early else ():
        other = first.setdefault(slide.patient, slide)
        if other.label != slide.label:
            raise DatasetError(
                f"patient {slide.patient} has two labels: {other.label} (slide {other.slide}) "
                f"and {slide.label} (slide "
                f"{slide.slide}), but fusion=early makes one bag of them; give them one label, "
                "or take fusion=late"
            )


def check_enough(slides: Sequence[Slide], folds: int, *, every_label: bool) -> None:
    """Refuse, before anything runs, folds that could not be drawn.

    Args:
        slides: all slides of the table.
        folds: how many.
        every_label: Whether each part needs patients with each label.

    Raises:
        DatasetError: there are fewer patients, or patients of a label, than folds.
    """
    if folds > 1:
        check_parts(
            slides,
            [i for i, slide in enumerate(slides) if slide.split != "test"],
            folds,
            every_label,
        )


def check_parts(
    slides: Sequence[Slide], members: Sequence[int], parts: int, every_label: bool
) -> None:
    """Refuse to divide some of the slides into more parts than there are patients, or patients of a label."""
    what = "add slides, take fewer folds, or name the splits in the csv's column `split`"
    patients = {slides[i].patient for i in members}
    if len(patients) < parts:
        raise DatasetError(f"cannot divide {len(patients)} patients into {parts} parts; {what}")
    for label in sorted({slide.label for slide in slides}) if every_label else ():
        count = len(patients_of(slides, members, label))
        if count < parts:
            raise DatasetError(
                f"cannot divide the patients into {parts} parts: only {count} with label "
                f"{label!r}; {what}"
            )


def patients_of(slides: Sequence[Slide], members: Sequence[int], label: str) -> set[str]:
    """The patients of some of the slides that have a label."""
    return {slides[i].patient for i in members if slides[i].label == label}


def check_folds(rows: Sequence[Row]) -> None:
    """Refuse what cannot be trained on.

    Args:
        rows: rows of folds.csv.

    Raises:
        DatasetError: a patient is in two splits, or training lacks a class.
    """
    for fold, mine in _by_fold(rows).items():
        seen: dict[object, Row] = {}
        for row in mine:
            other = seen.setdefault(row["patient"], row)
            if other["split"] != row["split"]:
                raise DatasetError(
                    f"fold {fold}: patient {row['patient']} is in two splits: slide "
                    f"{other['slide']} in "
                    f"{other['split']}, slide {row['slide']} in {row['split']}; such a split leaks"
                )
        labels = _labels(mine, "train")
        if len(labels) < 2:
            raise DatasetError(
                f"fold {fold}: the training slides have {len(labels)} class(es) "
                f"({', '.join(sorted(labels)) or 'none'}); a head needs at least two"
            )


def doubts(rows: Sequence[Row], named: Callable[[str], set[str]]) -> list[str]:
    """What can be trained on and should be known: splits without slides or without a label, in words.

    Args:
        rows: rows of folds.csv.
        named: what a label says is there; see `mil.tasks.base.Task.content`.
    """
    folds = _by_fold(rows)
    every = _named(rows, named)
    lacking: dict[tuple[str, str], list[object]] = {}
    for fold, mine in folds.items():
        for split in ("train", "val", "test"):
            those = [row for row in mine if row["split"] == split]
            missing = every - _named(those, named)
            what = f"slides with label {', '.join(sorted(missing))}" if those else "slides"
            if missing or not those:
                lacking.setdefault((split, what), []).append(fold)
    tested = [row for row in rows if row["split"] == "test"]
    pooled = len(folds) > 1 and tested and _named(tested, named) == every
    so = {
        "train": "a head cannot learn what it never sees",
        "val": "the epoch is chosen on what there is",
        "test": "metrics that need it are of all folds together"
        if pooled
        else "metrics that need it are left empty",
    }
    return [
        f"fold {', '.join(map(str, numbers))}: no {split} {what}; {so[split]}"
        for (split, what), numbers in lacking.items()
    ]


def _by_fold(rows: Sequence[Row]) -> dict[object, list[Row]]:
    folds: dict[object, list[Row]] = {}
    for row in rows:
        folds.setdefault(row["fold"], []).append(row)
    return folds


def _named(rows: Sequence[Row], named: Callable[[str], set[str]]) -> set[str]:
    return {name for row in rows for name in named(str(row["label"]))}


def _labels(rows: Sequence[Row], split: str) -> set[str]:
    return {str(row["label"]) for row in rows if row["split"] == split}
