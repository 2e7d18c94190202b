"""Inner folds: training and validation slides of a fold divided again, so that none is wasted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mil.io.bags.patients import FoldBag


class InnerFold(NamedTuple):
    """Bags that a member is trained on, and those that it is validated on.

    Attributes:
        number: Number of the part that is validated on, from 0.
        train: Indices of the training bags among those of the fold.
        valid: Indices of the validation bags.
    """

    number: int
    train: list[int]
    valid: list[int]


def own_split(bags: Sequence[FoldBag]) -> InnerFold:
    """The fold's own training and validation bags."""
    splits = [bag.split for bag in bags]
    return InnerFold(
        0,
        [index for index, split in enumerate(splits) if split == "train"],
        [index for index, split in enumerate(splits) if split == "val"],
    )


def largest_count(bags: Sequence[FoldBag], strata: Sequence[str]) -> int:
    """Largest number of inner folds in which every part has patients of each stratum.

    Args:
        bags: Training and validation bags of the fold.
        strata: Stratum of each bag, such as its class.
    """
    patients: dict[str, set[str]] = {}
    for bag, stratum in zip(bags, strata, strict=True):
        patients.setdefault(stratum, set()).add(bag.patient)
    return min(map(len, patients.values()), default=0)


def inner_folds(
    bags: Sequence[FoldBag], strata: Sequence[str], count: int, seed: int
) -> list[InnerFold]:
    """Divide bags into parts of whole patients, each stratum spread evenly over the parts.

    Args:
        bags: Training and validation bags of the fold.
        strata: Stratum of each bag, such as its class.
        count: Number of parts, 2 to `largest_count`.
        seed: Random seed of the division.
    """
    rng = np.random.default_rng(seed)
    part_of: dict[str, int] = {}
    for patients in _patients_by_stratum(bags, strata).values():
        for position in rng.permutation(len(patients)).tolist():
            # Counting on from one stratum to the next keeps the parts equally large.
            part_of[patients[position]] = len(part_of) % count
    parts = [part_of[bag.patient] for bag in bags]
    return [
        InnerFold(
            number,
            [index for index, part in enumerate(parts) if part != number],
            [index for index, part in enumerate(parts) if part == number],
        )
        for number in range(count)
    ]


def _patients_by_stratum(bags: Sequence[FoldBag], strata: Sequence[str]) -> dict[str, list[str]]:
    """Patients by the stratum of their rarest bag, rare strata first.

    A patient of several strata is counted where patients are fewest.
    """
    counts = {stratum: strata.count(stratum) for stratum in strata}
    order = sorted(counts, key=lambda stratum: (counts[stratum], strata.index(stratum)))
    stratum_of: dict[str, str] = {}
    for bag, stratum in zip(bags, strata, strict=True):
        other = stratum_of.get(bag.patient, stratum)
        stratum_of[bag.patient] = min(stratum, other, key=order.index)
    patients: dict[str, list[str]] = {stratum: [] for stratum in order}
    for patient, stratum in stratum_of.items():
        patients[stratum].append(patient)
    return patients
