"""Dividing patients, never slides. Neither the order of the table nor the names of the labels matter."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mil.errors import DatasetError
from mil.io.tables import Slide
from mil.io.tables.checks import check_parts, patients_of


def make_folds(
    slides: Sequence[Slide],
    folds: int,
    *,
    val_share: float,
    test_share: float,
    seed: int,
    every_label: bool = True,
) -> list[list[str]]:
    """Say for each fold which split every slide is in.

    One fold: what the table names is kept; without a test split `test_share` of the
    patients it does not name are held out, and without a validation split `val_share`
    of the others. Several folds: a test split of the table is kept in each, and the
    other patients take turns in validation; without one they take turns in test
    (cross-validation). Labels are kept in proportion as far as whole patients allow.

    Args:
        slides: all slides of the table.
        folds: how many.
        val_share: share of the patients that are not test used for validation.
        test_share: share of the patients held out.
        seed: of the random division.
        every_label: insist on enough patients of each label for every split; else rare
            ones go where they fall.

    Returns:
        For each fold, `train`, `val` or `test` for each slide.

    Raises:
        DatasetError: there are fewer patients of a class than parts to divide them
            into.
    """
    named = {
        split: [i for i, slide in enumerate(slides) if slide.split == split]
        for split in ("test", "val", "")
    }

    def drawn(members: list[int], share: float, seed: int) -> list[int]:
        check_parts(slides, members, 2, every_label)
        return _portion(slides, members, share, seed)

    if folds == 1:
        test = named["test"] or (drawn(named[""], test_share, seed) if named[""] else [])
        return [
            _names(slides, test, named["val"] or drawn(_without(slides, test), val_share, seed + 1))
        ]
    rest = _without(slides, named["test"])
    check_parts(slides, rest, folds, every_label)
    parts = _parts(slides, rest, folds, seed)
    if named["test"]:
        return [_names(slides, named["test"], part) for part in parts]
    return [
        _names(slides, part, drawn(_without(slides, part), val_share, seed + 1)) for part in parts
    ]


def leave_one_out(
    slides: Sequence[Slide], groups: Sequence[str], *, val_share: float, seed: int
) -> dict[str, list[str]]:
    """Each group of slides (of a centre, say) is the test set of one fold.

    Args:
        slides: all slides of the table.
        groups: of each slide; no patient is in two.
        val_share: share of the other patients used for validation.
        seed: of that division.

    Returns:
        For each group, in order of name, `train`, `val` or `test` for each slide.

    Raises:
        DatasetError: the others are too few to divide.
    """
    tested = {
        name: [i for i, group in enumerate(groups) if group == name] for name in sorted(set(groups))
    }
    return {
        name: with_val(slides, _names(slides, test, []), val_share=val_share, seed=seed)
        for name, test in tested.items()
    }


def with_val(
    slides: Sequence[Slide], names: Sequence[str], *, val_share: float, seed: int
) -> list[str]:
    """One fold, in which validation is drawn from training if there is none; labels with one patient stay in training.

    Args:
        slides: all slides.
        names: `train`, `val`, `test` or nothing for each.
        val_share: share of the training patients.
        seed: of the division.

    Raises:
        DatasetError: training has a single patient.
    """
    train = [i for i, name in enumerate(names) if name == "train"]
    if "val" in names or not train:
        return list(names)
    if len({slides[i].patient for i in train}) < 2:
        raise DatasetError(
            f"only patient {slides[train[0]].patient} is left for training, and validation needs "
            "another; add slides, "
            "or name the splits in the csv's column `split`"
        )
    val = set(_portion(slides, train, val_share, seed + 1))
    return ["val" if i in val else name for i, name in enumerate(names)]


def _without(slides: Sequence[Slide], left_out: list[int]) -> list[int]:
    gone = set(left_out)
    return [i for i in range(len(slides)) if i not in gone]


def _portion(slides: Sequence[Slide], members: list[int], share: float, seed: int) -> list[int]:
    """`share` of the patients of each set of labels, at least one and never all; sets of one patient go together."""
    labels: dict[str, set[str]] = {}
    for i in members:
        labels.setdefault(slides[i].patient, set()).add(slides[i].label)
    strata: dict[frozenset[str], list[str]] = {}
    for patient in sorted(labels):
        strata.setdefault(frozenset(labels[patient]), []).append(patient)
    # In order of their first patients: a label's name must not change what is drawn.
    groups = [patients for patients in strata.values() if len(patients) > 1]
    groups.append([patients[0] for patients in strata.values() if len(patients) == 1])
    draw = np.random.default_rng(seed)
    chosen: set[str] = set()
    for patients in groups:
        count = min(max(round(share * len(patients)), 1), len(patients) - 1)
        chosen.update(patients[k] for k in draw.permutation(len(patients))[: max(count, 0)])
    return [i for i in members if slides[i].patient in chosen]


def _parts(slides: Sequence[Slide], members: list[int], parts: int, seed: int) -> list[list[int]]:
    members = sorted(members, key=lambda i: slides[i].slide)
    labels = [slides[i].label for i in members]
    patients = [slides[i].patient for i in members]
    counts = {label: len(patients_of(slides, members, label)) for label in dict.fromkeys(labels)}
    common = [
        label for label in counts if counts[label] >= parts
    ]  # in order of their first slides, not of their names
    numbers = [common.index(label) if label in common else 0 for label in labels]
    chosen = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return [
        [members[i] for i in part]
        for _, part in chosen.split(np.zeros(len(members)), numbers, patients)
    ]


def _names(slides: Sequence[Slide], test: list[int], val: list[int]) -> list[str]:
    held_out = set(test)
    checked = set(val)
    return [
        "test" if i in held_out else "val" if i in checked else "train" for i in range(len(slides))
    ]
