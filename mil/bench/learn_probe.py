"""The ceiling of `mil bench learn`: a logistic regression on the label of every tile."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mil.bench.learn_cohorts import FeatureSlide
from mil.bench.learn_fit import SlidePrediction
from mil.statistics.discrimination import auroc

# Inverse strengths of the penalty, of which validation tiles choose one.
INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_ITERATIONS = 500


def probe_and_predict(
    train: Sequence[FeatureSlide],
    valid: Sequence[FeatureSlide],
    tests: Sequence[Sequence[FeatureSlide]],
) -> list[list[SlidePrediction]]:
    """Train on the label of every training tile, and predict test slides.

    A slide's probability is the highest of its tiles, which stand for the attention.

    Args:
        train: training slides.
        valid: validation slides; the penalty with the largest AUROC of their tiles is
            used.
        tests: sets of test slides.
    """
    rows, labels = _tiles_of(train)
    valid_rows, valid_labels = _tiles_of(valid)
    best_area = -1.0
    for inverse_penalty in INVERSE_PENALTIES:
        candidate = make_pipeline(
            StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=MAX_ITERATIONS)
        ).fit(rows, labels)
        # None where validation slides hold one class of tiles: the first then counts.
        area = auroc(valid_labels, _probabilities(candidate, valid_rows)) or 0.0
        if area > best_area:
            best_area = area
            probe = candidate
    return [[_predict(probe, slide) for slide in slides] for slides in tests]


def _tiles_of(
    slides: Sequence[FeatureSlide],
) -> tuple[Float[np.ndarray, "tiles dim"], Int[np.ndarray, " tiles"]]:
    rows = np.concatenate([slide.bag.features.float().numpy() for slide in slides])
    labels = np.concatenate([slide.tile_labels for slide in slides])
    return rows, labels


def _probabilities(
    probe: Pipeline, rows: Float[np.ndarray, "tiles dim"]
) -> Float[np.ndarray, " tiles"]:
    probabilities: Float[np.ndarray, " tiles"] = probe.predict_proba(rows)[:, 1]
    return probabilities


def _predict(probe: Pipeline, slide: FeatureSlide) -> SlidePrediction:
    of_tiles = _probabilities(probe, slide.bag.features.float().numpy())
    highest = float(of_tiles.max())
    return SlidePrediction(highest, highest, of_tiles)
