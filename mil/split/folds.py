"""Random division of patients, never of slides.

Neither the order of the table nor the names of the labels change a division.
"""

from collections.abc import Sequence

import numpy as np

from mil.errors import DatasetError
from mil.io.tables import Slide
from mil.io.tables.checks import (
    FEWER_FOLDS,
    MORE_SLIDES,
    check_parts,
    num_drawn,
    patients_of,
    strata_of,
)


def make_folds(
    slides: Sequence[Slide],
    folds: int,
    *,
    val_share: float,
    test_share: float,
    seed: int,
    every_label: bool = True,
) -> list[list[str]]:
    """Assign every slide to a split, for each fold.

    One fold: splits of the table are kept; without a test split, `test_share` of the
    patients without a split are held out, and without a validation split, `val_share`
    of the others. Several folds: a test split of the table is kept in each, and the
    other patients take turns in validation; without one they take turns in test
    (cross-validation). Labels are kept in proportion as far as whole patients allow.

    Args:
        slides: All slides of the table.
        folds: Number of folds.
        val_share: Fraction of the patients outside the test that validate, 0 to 1.
        test_share: Fraction of the patients held out for the test, 0 to 1.
        seed: Random seed of the division.
        every_label: Require enough patients of each label for every split; else rare
            labels may be absent from some splits.

    Returns:
        For each fold, `train`, `val` or `test` for each slide.

    Raises:
        DatasetError: A label has fewer patients than there are parts to divide them into.
    """
    by_split = {
        split: [i for i, slide in enumerate(slides) if slide.split == split]
        for split in ("test", "val", "")
    }

    def sample(members: list[int], share: float, seed: int) -> list[int]:
        advice = MORE_SLIDES if folds == 1 else FEWER_FOLDS
        check_parts(slides, members, 2, every_label, advice=advice)
        return _sample(slides, members, share, seed)

    def sample_val(test: list[int]) -> list[int]:
        # The next seed, so that validation is not the same draw as the test.
        return sample(_without(slides, test), val_share, seed + 1)

    if folds == 1:
        test = by_split["test"]
        if not test and by_split[""]:
            test = sample(by_split[""], test_share, seed)
        return [_split_names(slides, test, by_split["val"] or sample_val(test))]
    rest = _without(slides, by_split["test"])
    check_parts(slides, rest, folds, every_label)
    parts = _parts(slides, rest, folds, seed)
    if by_split["test"]:
        return [_split_names(slides, by_split["test"], part) for part in parts]
    return [_split_names(slides, part, sample_val(part)) for part in parts]


def leave_one_out(
    slides: Sequence[Slide], groups: Sequence[str], *, val_share: float, seed: int
) -> dict[str, list[str]]:
    """Make each group of slides, such as a centre, the test set of one fold.

    Args:
        slides: All slides of the table.
        groups: Group of each slide; no patient is in two groups.
        val_share: Fraction of the other patients used for validation, 0 to 1.
        seed: Random seed of the choice of validation.

    Returns:
        For each group, in order of name, `train`, `val` or `test` for each slide.

    Raises:
        DatasetError: The other groups have too few patients to divide.
    """
    folds = {}
    # Sorted, for the order of the table must not change the numbers of the folds.
    for name in sorted(set(groups)):
        test = [i for i, group in enumerate(groups) if group == name]
        splits = _split_names(slides, test, [])
        folds[name] = with_val(slides, splits, val_share=val_share, seed=seed)
    return folds


def with_val(
    slides: Sequence[Slide], splits: Sequence[str], *, val_share: float, seed: int
) -> list[str]:
    """Draw validation from training, unless the fold has some.

    Labels of a single patient stay in training.

    Args:
        slides: All slides of the table.
        splits: `train`, `val`, `test` or an empty string for each slide.
        val_share: Fraction of the training patients used for validation, 0 to 1.
        seed: Random seed of the choice.

    Returns:
        Splits of all slides, with validation.

    Raises:
        DatasetError: Training has a single patient.
    """
    train = [i for i, split in enumerate(splits) if split == "train"]
    if "val" in splits or not train:
        return list(splits)
    if len({slides[i].patient for i in train}) < 2:
        raise DatasetError(
            f"only patient {slides[train[0]].patient} is left for training, and validation needs "
            "another; add slides, or name the splits in the csv's column `split`"
        )
    val = set(_sample(slides, train, val_share, seed + 1))
    return ["val" if i in val else split for i, split in enumerate(splits)]


def _without(slides: Sequence[Slide], excluded: list[int]) -> list[int]:
    gone = set(excluded)
    return [i for i in range(len(slides)) if i not in gone]


def _sample(slides: Sequence[Slide], members: list[int], share: float, seed: int) -> list[int]:
    """Draw `share` of the patients of each stratum: at least one, and never all.

    A stratum is a set of labels; strata of a single patient are drawn from together.
    """
    strata = strata_of(slides, members)
    # In order of their first patients: a label's name must not change what is drawn.
    groups = [patients for patients in strata.values() if len(patients) > 1]
    # Of a stratum of one patient, which may not be drawn whole, nobody would ever be
    # drawn.
    groups.append([patients[0] for patients in strata.values() if len(patients) == 1])
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for patients in groups:
        count = num_drawn(len(patients), share)
        chosen.update(patients[k] for k in rng.permutation(len(patients))[:count])
    return [i for i in members if slides[i].patient in chosen]


def _parts(
    slides: Sequence[Slide], members: list[int], num_parts: int, seed: int
) -> list[list[int]]:
    """Divide slides into parts of whole patients, labels in proportion."""
    # The order of the table must not change the division.
    members = sorted(members, key=lambda i: slides[i].slide)
    labels = [slides[i].label for i in members]
    patients = [slides[i].patient for i in members]
    counts = {label: len(patients_of(slides, members, label)) for label in dict.fromkeys(labels)}
    # In order of their first slides: a label's name must not change the division
    # either.
    common = [label for label in counts if counts[label] >= num_parts]
    # Labels too rare for every part count as the first, for scikit-learn warns of them.
    strata = [common.index(label) if label in common else 0 for label in labels]
    # Imported when patients are drawn: it takes as long as all other imports together,
    # and a table that names the splits needs none.
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(num_parts, shuffle=True, random_state=seed)
    no_features = np.zeros(len(members))
    return [[members[i] for i in part] for _, part in folds.split(no_features, strata, patients)]


def _split_names(slides: Sequence[Slide], test: list[int], val: list[int]) -> list[str]:
    splits = ["train"] * len(slides)
    for i in val:
        splits[i] = "val"
    # Last, for a slide in both is held out.
    for i in test:
        splits[i] = "test"
    return splits
