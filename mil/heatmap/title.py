"""Title of the pictures of a slide."""

from collections.abc import Sequence

import numpy as np

from mil.io.scores import HeadScores
from mil.statistics.text import with_threshold
from mil.trained.record import Trained, threshold_of
from mil.trained.scored_slide import ScoredSlide


def title_of(slide: str, records: Sequence[Trained], scores: Sequence[HeadScores]) -> str:
    """Title of a picture: the slide, the mean prediction of interest, and the recipe."""
    trained = records[0]
    name = trained.task.column_of_interest
    predictions = np.mean([head.predictions for head in scores], axis=0)
    value = predictions[trained.task.columns.index(name)]
    mean_of = f", ensemble of {len(scores)} heads" if len(scores) > 1 else ""
    prediction = with_threshold(name, value, threshold_of(records))
    return f"{slide}   {prediction}   {trained.recipe_name}{mean_of}"


def title_of_scored(scored: ScoredSlide) -> str:
    """Title of a picture of a slide; one of the training set says so."""
    title = title_of(scored.bag.slide, scored.records, scored.scores)
    return title if scored.is_unseen else f"{title}, seen in training"
