"""Checks of a division into splits: faults that stop a run, and warnings worth knowing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from mil.errors import DatasetError
from mil.io.tables import SPLITS, Slide
from mil.io.tables.leakage import PatientSlide, check_patients_in_one_split

FoldRow = Mapping[str, object]
MORE_SLIDES = "add slides, or name the splits in the csv's column `split`"
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


def check_enough(
    slides: Sequence[Slide], folds: int, *, every_label: bool, test_share: float
) -> None:
    """Refuse, before anything runs, folds that could not be drawn.

    Args:
        slides: all slides of the table.
        folds: number of folds.
        every_label: whether each part needs patients with each label.
        test_share: fraction of the patients held out for the test, 0 to 1.

    Raises:
        DatasetError: there are fewer patients, or patients of a label, than folds, or than
            splits that are drawn.
    """
    # Slides of a fixed test set are not divided.
    members = [i for i, slide in enumerate(slides) if slide.split != "test"]
    if folds > 1:
        check_parts(slides, members, folds, every_label)
        return
    named = {slide.split for slide in slides}
    undivided = [i for i in members if not slides[i].split]
    held_out: dict[frozenset[str], int] = {}
    if undivided and "test" not in named:
        check_parts(slides, undivided, 2, every_label, advice=MORE_SLIDES)
        # Who is drawn is not known, and for other tasks nor how many: at least one.
        held_out = {frozenset(): 1}
        if every_label:
            strata = strata_of(slides, undivided)
            held_out = {labels: num_drawn(len(of), test_share) for labels, of in strata.items()}
    if "val" not in named:
        check_parts(slides, members, 2, every_label, held_out, advice=MORE_SLIDES)


def check_parts(
    slides: Sequence[Slide],
    members: Sequence[int],
    parts: int,
    every_label: bool,
    held_out: Mapping[frozenset[str], int] = MappingProxyType({}),
    *,
    advice: str = FEWER_FOLDS,
) -> None:
    """Refuse to divide slides into more parts than there are patients.

    Args:
        slides: all slides of the table.
        members: indices of the slides to divide.
        parts: number of parts.
        every_label: whether each part needs patients of each label.
        held_out: number of these patients that are held out for the test before, by their
            labels.
        advice: what to do.

    Raises:
        DatasetError: there are fewer patients, or patients of a label, than parts.
    """
    without = " without those held out for the test" if any(held_out.values()) else ""
    patients = {slides[i].patient for i in members}
    count = len(patients) - sum(held_out.values())
    if count < parts:
        raise DatasetError(f"cannot divide {count} patients{without} into {parts} parts; {advice}")
    # Numbers, sets and times have too many labels for that.
    if not every_label:
        return
    for label in sorted({slide.label for slide in slides}):
        count = len(patients_of(slides, members, label))
        count -= sum(number for labels, number in held_out.items() if label in labels)
        if count < parts:
            raise DatasetError(
                f"cannot divide the patients{without} into {parts} parts: only {count} with label "
                f"{label!r}; {advice}"
            )


def strata_of(slides: Sequence[Slide], members: Sequence[int]) -> dict[frozenset[str], list[str]]:
    """Patients in order of their names, by the set of their labels.

    Args:
        slides: all slides of the table.
        members: indices of the slides that count.
    """
    labels: dict[str, set[str]] = {}
    for i in members:
        labels.setdefault(slides[i].patient, set()).add(slides[i].label)
    strata: dict[frozenset[str], list[str]] = {}
    # Sorted, for the order of the table must not change a draw.
    for patient in sorted(labels):
        strata.setdefault(frozenset(labels[patient]), []).append(patient)
    return strata


def num_drawn(patients: int, share: float) -> int:
    """Number of patients of a stratum that are drawn: at least one, and never all.

    Args:
        patients: number of patients of the stratum.
        share: fraction to draw, 0 to 1.
    """
    return max(min(max(round(share * patients), 1), patients - 1), 0)


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
