"""Whether two heads differ on the slides that both were tested on."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mil.compare.read import Evaluated
from mil.statistics.bootstrap import members, paired_difference, resampled
from mil.statistics.delong import Difference, delong, paired
from mil.statistics.discrimination import one_vs_rest, weighted_auroc
from mil.statistics.multiple import holm
from mil.statistics.power import smallest_difference

SINGLE = "DeLong's paired test"
SEVERAL = "DeLong's paired test with the slides of a patient summed (Obuchowski)"
RESAMPLED = "paired bootstrap of patients"


class Tested(NamedTuple):
    """Every pair of heads: which metric, by which test, and what came out; None: not tested, and why."""

    metric: str
    method: str | None
    why_not: str
    pairs: list[dict[str, Any]]


def tested_pairs(heads: Sequence[Evaluated]) -> Tested:
    """Compare every two heads by their answers, averaged over seeds and folds.

    Two classes: AUROC of the positive one. More: macro AUROC.

    Returns:
        `pairs`: `one`, `other`, `difference` (one less the other), `ci95`, `p`, `p_holm` (corrected for all pairs), and
        `smallest_difference`: what would have been shown at all (not corrected).
    """
    kind, classes, _ = heads[0].about
    metric = "auroc" if len(classes) == 2 else "auroc_macro"
    if len(heads) < 2:
        return Tested(metric, None, "there is one head", [])
    if kind != "classification":
        return Tested(metric, None, f"{kind} has no paired test here; compare intervals, and the runs' spread", [])
    if len(set(heads[0].labels.values())) < 2:
        return Tested(metric, None, "the test slides are of one class", [])
    numbers = list(combinations(range(len(heads)), 2))
    try:
        method, found = _two_classes(heads, numbers) if len(classes) == 2 else _more_classes(heads, numbers)
    except ValueError as error:
        return Tested(metric, None, str(error), [])
    adjusted = holm(np.array([one.p for one in found]))
    return Tested(metric, method, "", [
        {
            "one": heads[i].name, "other": heads[j].name, "difference": one.difference, "ci95": list(one.ci95),
            "p": one.p, "p_holm": float(p), "smallest_difference": smallest_difference(one.error),
        }
        for (i, j), one, p in zip(numbers, found, adjusted, strict=True)
    ])  # fmt: skip


def _two_classes(heads: Sequence[Evaluated], numbers: Sequence[tuple[int, int]]) -> tuple[str, list[Difference]]:
    _, _, positive = heads[0].about
    patients = list(heads[0].patients.values())
    labels = np.array([int(label == positive) for label in heads[0].labels.values()])
    areas = delong(labels, np.stack([head.answers[f"p_{positive}"] for head in heads]), patients)
    single = len(set(patients)) == len(patients)
    return SINGLE if single else SEVERAL, [paired(areas, *pair) for pair in numbers]


def _more_classes(heads: Sequence[Evaluated], numbers: Sequence[tuple[int, int]]) -> tuple[str, list[Difference]]:
    _, classes, _ = heads[0].about
    labels = np.array([classes.index(label) for label in heads[0].labels.values()])
    member = members(list(heads[0].patients.values()))
    if member.max() < 1:
        raise ValueError("there is one patient")
    said = [np.stack([head.answers[f"p_{name}"] for name in classes], 1) for head in heads]

    def areas(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {str(i): one_vs_rest(weighted_auroc, labels, p, weights) for i, p in enumerate(said)}

    once, drawn = areas(np.ones((1, len(labels)))), resampled(areas, member)
    return RESAMPLED, [
        paired_difference(
            float(once[str(i)][0] - once[str(j)][0]), drawn[str(i)] - drawn[str(j)], int(member.max()) + 1
        )
        for i, j in numbers
    ]
