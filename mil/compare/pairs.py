"""Whether two heads differ on the slides that both were tested on."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mil.compare.read import Evaluated
from mil.statistics.bootstrap import members, paired_difference, resampled
from mil.statistics.delong import Difference, delong, paired
from mil.statistics.discrimination import one_vs_rest, weighted_auroc
from mil.statistics.multiple import holm
from mil.statistics.of_task import targets_of, weighted_of_task
from mil.statistics.power import smallest_difference
from mil.statistics.text import title

SINGLE = "DeLong's paired test"
SEVERAL = "DeLong's paired test with the slides of a patient summed (Obuchowski)"
RESAMPLED = "paired bootstrap of patients"
# What heads are tested by; of two classes it is `auroc`.
MAIN = {
    "classification": "auroc_macro",
    "multilabel": "auroc_macro",
    "ordinal": "kappa_quadratic",
    "regression": "mae",
    "survival_discrete": "c_index",
    "survival_cox": "c_index",
}


class Tested(NamedTuple):
    """Every pair of heads: which metric, by which test, and what came out; None: not tested, and why."""

    metric: str
    method: str | None
    why_not: str
    pairs: list[dict[str, Any]]


def compare_pairs(heads: Sequence[Evaluated]) -> Tested:
    """Compare every two heads by their answers, averaged over seeds and folds.

    Two classes: AUROC of the positive one. More: macro AUROC. Other tasks: see `MAIN`.

    Returns:
        `pairs`: `one`, `other`, `difference` (one less the other), `ci95`, `p`,
        `p_holm` (corrected for all pairs), and `smallest_difference`: what would have
        been shown at all (not corrected). All but the difference are None where these
        slides do not show how far it varies; see
        `mil.statistics.delong.normal_difference`.
    """
    kind, classes, _ = heads[0].about
    two = kind == "classification" and len(classes) == 2
    metric = "auroc" if two else MAIN[kind]
    numbers = list(combinations(range(len(heads)), 2))
    if not numbers:
        return Tested(metric, None, "there is one head", [])
    if not heads[0].labels:
        return Tested(metric, None, "they share no test slide", [])
    try:
        method, found = _two_classes(heads, numbers) if two else _resampled(heads, metric, numbers)
    except ValueError as error:
        return Tested(metric, None, str(error), [])
    return Tested(
        metric,
        method,
        "",
        [
            {
                "one": heads[i].name,
                "other": heads[j].name,
                "difference": one.difference,
                "ci95": None if one.ci95 is None else list(one.ci95),
                "p": one.p,
                "p_holm": p,
                "smallest_difference": None if one.p is None else smallest_difference(one.error),
            }
            for (i, j), one, p in zip(numbers, found, _corrected(found), strict=True)
        ],
    )


def _corrected(found: Sequence[Difference]) -> list[float | None]:
    """The p values corrected for how many there are."""
    adjusted = iter(holm(np.array([one.p for one in found if one.p is not None])))
    return [None if one.p is None else float(next(adjusted)) for one in found]


def _two_classes(
    heads: Sequence[Evaluated], numbers: Sequence[tuple[int, int]]
) -> tuple[str, list[Difference]]:
    _, _, positive = heads[0].about
    patients = list(heads[0].patients.values())
    labels = np.array([int(label == positive) for label in heads[0].labels.values()])
    areas = delong(labels, np.stack([head.answers[f"p_{positive}"] for head in heads]), patients)
    return SEVERAL if areas.several else SINGLE, [paired(areas, *pair) for pair in numbers]


def _resampled(
    heads: Sequence[Evaluated], metric: str, numbers: Sequence[tuple[int, int]]
) -> tuple[str, list[Difference]]:
    """Of the same resamples for all heads."""
    member = members(list(heads[0].patients.values()))
    count = int(member.max()) + 1
    if count < 2:
        raise ValueError("there is one patient")
    targets = targets_of(_asked(heads[0]), list(heads[0].labels.values()))

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {str(i): _weighted(head, metric, targets, weights) for i, head in enumerate(heads)}

    whole = measured(np.ones((1, len(member))))
    drawn = resampled(measured, member)
    if not all(np.isfinite(value[0]) for value in whole.values()):
        raise ValueError(f"these slides have no {title(metric)}")
    return RESAMPLED, [
        paired_difference(
            float(whole[str(i)][0] - whole[str(j)][0]), drawn[str(i)] - drawn[str(j)], count
        )
        for i, j in numbers
    ]


def _weighted(
    head: Evaluated, metric: str, targets: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, " draws"]:
    answers = np.stack(list(head.answers.values()), 1)
    if head.metrics["task"] == "classification":
        return one_vs_rest(weighted_auroc, targets, answers, weights)
    return weighted_of_task(_asked(head), targets, answers, weights)[metric]


class _Asked(NamedTuple):
    """A task, as far as its metrics ask."""

    kind: str
    classes: Sequence[str]


def _asked(head: Evaluated) -> _Asked:
    kind, classes, _ = head.about
    return _Asked(kind, classes)
