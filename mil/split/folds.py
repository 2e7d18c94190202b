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

    A test split named by the table is kept in every fold; with several folds the other patients take turns in
    validation. Without one, several folds take turns in test (cross-validation), and a single fold holds out
    `test_share` of the patients. A validation split named by the table is kept when there is one fold. Labels are
    kept in proportion as far as whole patients allow.

    Args:
        slides: the usable slides.
        folds: how many.
        val_share: share of the patients that are not test used for validation, where nothing else says.
        test_share: share of the patients held out, where nothing else says.
        seed: of the random division.

    Returns:
        For each fold, `train`, `val` or `test` for each slide.

    Raises:
        DatasetError: there are fewer patients of a class than parts to divide them into.
    """
    everyone = list(range(len(slides)))
    test = [i for i in everyone if slides[i].split == "test"]
    rest = [i for i in everyone if slides[i].split != "test"]
    if folds == 1:
        if not test:
            test = _parts(slides, rest, round(1 / test_share), seed)[0]
            rest = [i for i in rest if i not in test]
        val = [i for i in rest if slides[i].split == "val"]
        return [_names(slides, test, val or _parts(slides, rest, round(1 / val_share), seed + 1)[0])]
    parts = _parts(slides, rest, folds, seed)
    if test:
        return [_names(slides, test, part) for part in parts]
    result = []
    for part in parts:
        others = [i for i in rest if i not in part]
        result.append(_names(slides, part, _parts(slides, others, round(1 / val_share), seed + 1)[0]))
    return result


def _parts(slides: Sequence[Slide], members: list[int], parts: int, seed: int) -> list[list[int]]:
    parts = max(2, parts)
    labels = [slides[i].label for i in members]
    patients = [slides[i].patient for i in members]
    for label in sorted(set(labels)):
        count = len({p for p, own in zip(patients, labels, strict=True) if own == label})
        if count < 2:
            raise DatasetError(
                f"cannot divide {len(set(patients))} patients into {parts} parts: only {count} with label {label!r}; "
                "add slides, or name the splits in the csv's column `split`"
            )
    least = min(len({p for p, own in zip(patients, labels, strict=True) if own == label}) for label in set(labels))
    chosen = StratifiedGroupKFold(min(parts, least), shuffle=True, random_state=seed)
    return [[members[i] for i in part] for _, part in chosen.split(np.zeros(len(members)), labels, patients)]


def _names(slides: Sequence[Slide], test: list[int], val: list[int]) -> list[str]:
    return ["test" if i in set(test) else "val" if i in set(val) else "train" for i in range(len(slides))]


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
