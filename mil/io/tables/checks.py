"""Checks of a division into splits: faults that stop a run, and warnings worth knowing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mil.errors import DatasetError
from mil.io.tables import SPLITS, Slide
from mil.io.tables.leakage import PatientSlide, check_patients_in_one_split

FoldRow = Mapping[str, object]
FEWER_FOLDS = "add slides, take fewer folds, or name the splits in the csv's column `split`"


@contextmanager
def of_table(path: Path) -> Iterator[None]:
    """Name the slide table in faults of its slides."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def check_labels(slides: Sequence[Slide], *, early: bool) -> None:
    """Refuse tables that no head can be trained on, before anything runs.

    Args:
        slides: all slides of the table.
        early: whether the slides of a patient become one bag.

    Raises:
        DatasetError: all slides have one label, or a patient who becomes one bag has
            two.
    """
    labels = {slide.label for slide in slides}
    if len(labels) < 2:
        raise DatasetError(
            f"all {len(slides)} slides of the table have the label {slides[0].label!r}; a head "
            "needs at least two"
        )
    if early:
        _check_one_label(slides)


def _check_one_label(slides: Sequence[Slide]) -> None:
    """Refuse a patient with two labels."""
    first_slides: dict[str, Slide] = {}
    for slide in slides:
        first = first_slides.setdefault(slide.patient, slide)
        if first.label != slide.label:
            raise DatasetError(
                f"patient {slide.patient} has two labels: {first.label} (slide {first.slide}) "
                f"and {slide.label} (slide {slide.slide}), but fusion=early makes one bag of "
                "them; give them one label, or take fusion=late"
            )


def check_enough(slides: Sequence[Slide], folds: int, *, every_label: bool) -> None:
    """Refuse, before anything runs, folds that could not be drawn.

    Args:
        slides: all slides of the table.
        folds: number of folds.
        every_label: whether each part needs patients with each label.

    Raises:
        DatasetError: there are fewer patients, or patients of a label, than folds.
    """
    # Slides of a fixed test set are not divided.
    if folds > 1:
        members = [i for i, slide in enumerate(slides) if slide.split != "test"]
        check_parts(slides, members, folds, every_label)


def check_parts(
    slides: Sequence[Slide], members: Sequence[int], parts: int, every_label: bool
) -> None:
    """Refuse to divide slides into more parts than there are patients.

    Args:
        slides: all slides of the table.
        members: indices of the slides to divide.
        parts: number of parts.
        every_label: whether each part needs patients of each label.

    Raises:
        DatasetError: there are fewer patients, or patients of a label, than parts.
    """
    patients = {slides[i].patient for i in members}
    if len(patients) < parts:
        raise DatasetError(
            f"cannot divide {len(patients)} patients into {parts} parts; {FEWER_FOLDS}"
        )
    # Numbers, sets and times have too many labels for that.
    if not every_label:
        return
    for label in sorted({slide.label for slide in slides}):
        count = len(patients_of(slides, members, label))
        if count < parts:
            raise DatasetError(
                f"cannot divide the patients into {parts} parts: only {count} with label "
                f"{label!r}; {FEWER_FOLDS}"
            )


def patients_of(slides: Sequence[Slide], members: Sequence[int], label: str) -> set[str]:
    """Patients with a slide of a label.

    Args:
        slides: all slides of the table.
        members: indices of the slides that count.
        label: the label.
    """
    return {slides[i].patient for i in members if slides[i].label == label}


def check_folds(rows: Sequence[FoldRow]) -> None:
    """Refuse folds that no head can be trained on.

    Args:
        rows: rows of folds.csv.

    Raises:
        DatasetError: a patient is in two splits, or training lacks a class.
    """
    for fold, fold_rows in _by_fold(rows).items():
        patients = (
            PatientSlide(str(row["patient"]), str(row["slide"]), str(row["split"]))
            for row in fold_rows
        )
        check_patients_in_one_split(patients, f"fold {fold}")
        labels = {str(row["label"]) for row in fold_rows if row["split"] == "train"}
        if len(labels) < 2:
            raise DatasetError(
                f"fold {fold}: the training slides have {len(labels)} class(es) "
                f"({', '.join(sorted(labels)) or 'none'}); a head needs at least two"
            )


def warnings_of(rows: Sequence[FoldRow], named: Callable[[str], set[str]]) -> list[str]:
    """Warnings of splits without slides, or without slides of a label.

    Such folds can be trained on.

    Args:
        rows: rows of folds.csv.
        named: function from a label to the classes it names; see
            `mil.tasks.base.Task.content`.
    """
    folds = _by_fold(rows)
    all_classes = _classes(rows, named)
    folds_lacking: dict[tuple[str, str], list[object]] = {}
    for fold, fold_rows in folds.items():
        for split in SPLITS:
            split_rows = [row for row in fold_rows if row["split"] == split]
            missing = all_classes - _classes(split_rows, named)
            if not split_rows:
                folds_lacking.setdefault((split, "slides"), []).append(fold)
            elif missing:
                lack = f"slides with label {', '.join(sorted(missing))}"
                folds_lacking.setdefault((split, lack), []).append(fold)
    test_rows = [row for row in rows if row["split"] == "test"]
    consequences = {
        "train": "a head cannot learn what it never sees",
        "val": "the epoch is chosen on what there is",
        "test": "metrics that need it are left empty",
    }
    # Metrics of several folds are also computed on all test slides together.
    if len(folds) > 1 and test_rows and _classes(test_rows, named) == all_classes:
        consequences["test"] = "metrics that need it are of all folds together"
    return [
        f"fold {', '.join(map(str, numbers))}: no {split} {lack}; {consequences[split]}"
        for (split, lack), numbers in folds_lacking.items()
    ]


def _by_fold(rows: Sequence[FoldRow]) -> dict[object, list[FoldRow]]:
    folds: dict[object, list[FoldRow]] = {}
    for row in rows:
        folds.setdefault(row["fold"], []).append(row)
    return folds


def _classes(rows: Sequence[FoldRow], named: Callable[[str], set[str]]) -> set[str]:
    """Classes that the labels of some rows name."""
    return {name for row in rows for name in named(str(row["label"]))}
