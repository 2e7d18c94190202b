"""Scores of a slide's bag by each head of an ensemble."""

from collections.abc import Sequence
from dataclasses import replace

from mil.bags import Bags
from mil.io.scores import HeadScores
from mil.predict.ensemble import Ensemble
from mil.trained.evidence import evidence_of, remover_of
from mil.trained.forward import forward


def scores_of_bag(bags: Bags, ensemble: Ensemble) -> list[HeadScores]:
    """Predictions and attention of a bag by each head.

    Args:
        bags: One bag.
        ensemble: Heads of one recipe.
    """
    return [forward(head, trained, bags) for head, trained in ensemble.models]


def with_evidence(scores: Sequence[HeadScores], bags: Bags, ensemble: Ensemble) -> list[HeadScores]:
    """Add the evidence of each tile.

    Args:
        scores: Scores of the bag by each head.
        bags: One bag.
        ensemble: The heads.
    """
    complete = []
    for (head, _), of_head in zip(ensemble.models, scores, strict=True):
        _, evidence = evidence_of(head, remover_of(head), bags)
        complete.append(replace(of_head, evidence=evidence))
    return complete
