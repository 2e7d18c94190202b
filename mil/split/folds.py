"""Dividing patients, never slides."""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mil.errors import DatasetError
from mil.io.tables import Slide


def make_folds(
    slides: Sequence[Slide], folds: int, *, val_share: float, test_share: float, seed: int
) -> list[list[str]]:
    """Say for each fold which split every slide is in.

    One fold: what the table names is kept; without a test split `test_share` of the patients it does not name are
    held out, and without a validation split `val_share` of the others. Several folds: a test split of the table is kept
    in each, and the other patients take turns in validation; without one they take turns in test (cross-validation).
    Labels are kept in proportion as far as whole patients allow.

    Args:
        slides: all slides of the table.
        folds: how many.
        val_share: share of the patients that are not test used for validation.
        test_share: share of the patients held out.
        seed: of the random division.

    Returns:
        For each fold, `train`, `val` or `test` for each slide.

    Raises:
        DatasetError: there are fewer patients of a class than parts to divide them into.
    """
    named = {split: [i for i, slide in enumerate(slides) if slide.split == split] for split in ("test", "val", "")}
    if folds == 1:
        test = named["test"] or (_portion(slides, named[""], test_share, seed) if named[""] else [])
        rest = _without(slides, test)
        return [_names(slides, test, named["val"] or _portion(slides, rest, val_share, seed + 1))]
    parts = _parts(slides, _without(slides, named["test"]), folds, seed)
    if named["test"]:
        return [_names(slides, named["test"], part) for part in parts]
    return [_names(slides, part, _portion(slides, _without(slides, part), val_share, seed + 1)) for part in parts]


def _without(slides: Sequence[Slide], left_out: list[int]) -> list[int]:
    gone = set(left_out)
    return [i for i in range(len(slides)) if i not in gone]


def _portion(slides: Sequence[Slide], members: list[int], share: float, seed: int) -> list[int]:
    """`share` of the patients of each label, at least one and never all of them."""
    _require(slides, members, 2)
    labels: dict[str, set[str]] = {}
    for i in members:
        labels.setdefault(slides[i].patient, set()).add(slides[i].label)
    strata: dict[tuple[str, ...], list[str]] = {}
    for patient in sorted(labels):
        strata.setdefault(tuple(sorted(labels[patient])), []).append(patient)
    draw = np.random.default_rng(seed)
    chosen: set[str] = set()
    for stratum in sorted(strata):
        patients = strata[stratum]
        count = min(max(round(share * len(patients)), 1), len(patients) - 1)
        chosen.update(patients[k] for k in draw.permutation(len(patients))[:count])
    return [i for i in members if slides[i].patient in chosen]


def _parts(slides: Sequence[Slide], members: list[int], parts: int, seed: int) -> list[list[int]]:
    _require(slides, members, parts)
    labels, patients = [slides[i].label for i in members], [slides[i].patient for i in members]
    chosen = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return [[members[i] for i in part] for _, part in chosen.split(np.zeros(len(members)), labels, patients)]


def _require(slides: Sequence[Slide], members: list[int], parts: int) -> None:
    for label in sorted({slide.label for slide in slides}):
        count = len({slides[i].patient for i in members if slides[i].label == label})
        if count < parts:
            raise DatasetError(
                f"cannot divide the patients into {parts} parts: only {count} with label {label!r}; add slides, take "
                "fewer folds, or name the splits in the csv's column `split`"
            )


def _names(slides: Sequence[Slide], test: list[int], val: list[int]) -> list[str]:
    held_out, checked = set(test), set(val)
    return ["test" if i in held_out else "val" if i in checked else "train" for i in range(len(slides))]


def check_folds(rows: Sequence[Mapping[str, object]]) -> None:
    """Refuse what cannot be trained on.

    Args:
        rows: rows of folds.csv.

    Raises:
        DatasetError: a patient is in two splits, or training lacks a class.
    """
    for fold in sorted({row["fold"] for row in rows}, key=str):
        mine = [row for row in rows if row["fold"] == fold]
        seen: dict[object, object] = {}
        for row in mine:
            if seen.setdefault(row["patient"], row["split"]) != row["split"]:
                raise DatasetError(f"fold {fold}: patient {row['patient']} is in two splits")
        labels = {str(row["label"]) for row in mine if row["split"] == "train"}
        if len(labels) < 2:
            raise DatasetError(
                f"fold {fold}: the training slides have {len(labels)} class(es) "
                f"({', '.join(sorted(labels)) or 'none'}); a head needs at least two"
            )
