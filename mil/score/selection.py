"""Predictions of a head that selects tiles, had it selected others: random ones, the rest."""

from dataclasses import replace

import numpy as np

from mil.bags import Bags
from mil.heads import SelectsTiles
from mil.io.scores import HeadScores, Outputs
from mil.trained.forward import forward_selections
from mil.trained.record import Trained

# Random selections for each slide, as large as the head's own. The standard error of
# their mean is less than half the standard deviation of one draw.
RANDOM_DRAWS = 5


def with_other_selections(
    head: SelectsTiles, trained: Trained, bags: Bags, scores: HeadScores
) -> HeadScores:
    """Add predictions from random tiles and from the tiles that were not selected.

    Args:
        head: Head that selects tiles.
        trained: Record of the head.
        bags: One bag.
        scores: Scores of that bag by the head; returned as they are if it selected no
            tiles, or does not say what it predicts from all.
    """
    selection = scores.selection
    if selection is None or selection.full is None:
        return scores
    # One random state for every head and bag, so that heads can be compared.
    rng = np.random.default_rng(0)
    selected = selection.selected
    masks = [rng.permutation(selected) for _ in range(RANDOM_DRAWS)]
    rest_is_empty = bool(selected.all())
    if not rest_is_empty:
        masks.append(~selected)
    logits, predictions = forward_selections(head, trained, bags, masks)
    rest = None if rest_is_empty else Outputs(logits[-1], predictions[-1])
    return replace(
        scores,
        selection=replace(
            selection,
            random=Outputs(logits[:RANDOM_DRAWS], predictions[:RANDOM_DRAWS]),
            rest=rest,
        ),
    )
