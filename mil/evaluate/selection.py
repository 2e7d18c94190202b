"""Quality of a selection of tiles: against all, random and annotated tiles."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.evaluate.localise import ANNOTATED, off_border
from mil.evaluate.rows import (
    EvaluatedSlide,
    Selected,
    by_run,
    labels_of,
    mean,
    mean_sd,
    probabilities_of,
    thresholds_of,
)
from mil.io.results import Jaccard, Number, SelectionMetrics
from mil.io.scores import HeadScores
from mil.statistics.classified import classification, predicted_classes


def selection_of(scores: HeadScores, share: Float[np.ndarray, " tiles"] | None) -> Selected | None:
    """A slide's selection with what its metrics need; None if the head selects no tiles.

    Args:
        scores: Scores of the slide by one head.
        share: Annotated share of each valid tile, 0..1; None: not known.
    """
    selection = scores.selection
    if selection is None or selection.full is None or selection.random is None:
        return None
    return Selected(
        tiles=np.flatnonzero(selection.selected),
        of=len(selection.selected),
        full=selection.full.predictions,
        random=selection.random.predictions,
        rest=None if selection.rest is None else selection.rest.predictions,
        annotated=None if share is None else annotated_tiles(selection.selected, share),
    )


def annotated_tiles(
    selected: Bool[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> dict[str, float] | None:
    """How well a selection finds annotated tiles, those at least half inside a region.

    Tiles on a border of a region count as neither annotated nor other tissue.

    Returns:
        `tile_precision` of the selected, `tile_recall` of the annotated, and
        `tile_prevalence`: the precision of tiles drawn at random. None where nothing is
        annotated, or only border tiles are selected.
    """
    known = off_border(share)
    annotated = share >= ANNOTATED
    # Tiles on a border are neither hits nor misses.
    chosen = selected & known
    if not annotated.any() or not chosen.any():
        return None
    hits = float((selected & annotated).sum())
    return {
        "tile_precision": hits / float(chosen.sum()),
        "tile_recall": hits / float(annotated.sum()),
        "tile_prevalence": float(annotated.sum() / known.sum()),
    }


def of_selection(
    test: Sequence[EvaluatedSlide], classes: Sequence[str], positive: str
) -> SelectionMetrics | None:
    """Metrics of the selections on test slides; None for a head that selects none.

    Args:
        test: Rows of test slides, each with its `selection`.
        classes: Names of the classes in order.
        positive: The class of interest.

    Returns:
        `runs` and `over_runs`: `reduction` (1 - selected / tiles), `agreement` and `kl`
        (nats, from the selected to all tiles' prediction), each metric of the
        predictions from the selected, from all (`full`), from as many drawn at random
        (mean over draws) and from those not selected (`rest`), and precision and recall
        of annotated tiles in positive slides. `jaccard_over_seeds`: how alike two seeds
        select. `per_slide`: of annotated tiles.
    """
    rows = [row for row in test if row.selection is not None]
    if not rows:
        return None
    runs = [_run(of_run, classes, positive, *run) for run, of_run in by_run(rows).items()]
    names = [name for name in runs[0] if name not in ("seed", "fold", "n_slides")]
    return SelectionMetrics(
        runs=runs,
        over_runs={name: mean_sd(run[name] for run in runs) for name in names},
        jaccard_over_seeds=_jaccard(rows),
        per_slide=_per_slide(rows, positive),
    )


def _run(
    rows: Sequence[EvaluatedSlide],
    classes: Sequence[str],
    positive: str,
    seed: int,
    fold: int,
) -> dict[str, Number]:
    """Metrics of one seed and fold."""
    selections = [_selection(row) for row in rows]
    selected = probabilities_of(rows, classes)
    decisions = _Decisions(thresholds_of(rows), classes.index(positive))
    full = np.stack([selection.full for selection in selections])
    run: dict[str, Number] = {
        "seed": seed,
        "fold": fold,
        "n_slides": len(rows),
        "reduction": mean(1 - len(s.tiles) / s.of for s in selections),
        "agreement": float((decisions.of(selected) == decisions.of(full)).mean()),
        "kl": float(_divergence(full, selected).mean()),
    }
    metrics = _metrics_by_tiles(labels_of(rows, classes), selected, selections, decisions)
    for tiles, values in metrics.items():
        for name in metrics["full"]:
            run[f"{name}_{tiles}"] = values.get(name)
    # Annotations outline the class of interest; other slides have nothing to find.
    annotated = [
        selection.annotated
        for row, selection in zip(rows, selections, strict=True)
        if row.label == positive and selection.annotated
    ]
    for name in ("tile_precision", "tile_recall", "tile_prevalence"):
        run[name] = mean(slide[name] for slide in annotated)
    return run


def _selection(row: EvaluatedSlide) -> Selected:
    """Selection of a row that has one; see `of_selection`."""
    assert row.selection is not None
    return row.selection


class _Decisions(NamedTuple):
    """Threshold of each slide and number of the positive class, which decide its class."""

    thresholds: Float[np.ndarray, " slides"]
    positive: int

    def of(
        self, probabilities: Float[np.ndarray, "n classes"], rows: Sequence[int] | None = None
    ) -> Int[np.ndarray, " n"]:
        """Predicted classes of all slides, or of those in some rows."""
        thresholds = self.thresholds if rows is None else self.thresholds[list(rows)]
        return predicted_classes(probabilities, thresholds, self.positive)


def _metrics_by_tiles(
    labels: Int[np.ndarray, " slides"],
    selected: Float[np.ndarray, "slides classes"],
    selections: Sequence[Selected],
    decisions: _Decisions,
) -> dict[str, dict[str, float | None]]:
    """Metrics of the predictions from selected, all, remaining and random tiles."""
    full = np.stack([selection.full for selection in selections])
    draws = [
        classification(labels, random, decisions.of(random))
        for random in np.stack([selection.random for selection in selections], axis=1)
    ]
    # A head whose budget is the whole bag leaves no tiles over.
    remaining = {i: s.rest for i, s in enumerate(selections) if s.rest is not None}
    rest: dict[str, float | None] = {}
    if remaining:
        of_rest = np.stack(list(remaining.values()))
        predicted = decisions.of(of_rest, list(remaining))
        rest = classification(labels[list(remaining)], of_rest, predicted)
    return {
        "selected": classification(labels, selected, decisions.of(selected)),
        "full": classification(labels, full, decisions.of(full)),
        "rest": rest,
        "random": {name: mean(draw[name] for draw in draws) for name in draws[0]},
    }


def _divergence(
    full: Float[np.ndarray, "slides classes"], selected: Float[np.ndarray, "slides classes"]
) -> Float[np.ndarray, " slides"]:
    """KL(full ‖ selected), nats."""
    # A probability that float32 rounded to zero counts as the least that float32 has.
    smallest = np.finfo(np.float32).tiny
    return (full * (np.log(full.clip(smallest)) - np.log(selected.clip(smallest)))).sum(-1)


def _jaccard(rows: Sequence[EvaluatedSlide]) -> Jaccard | None:
    """Tiles that both of two seeds select over those that either selects.

    Mean over slides, folds and pairs of seeds.
    """
    selections: dict[tuple[str, int], list[Int[np.ndarray, " selected"]]] = {}
    for row in rows:
        selections.setdefault((row.slide, row.fold), []).append(_selection(row).tiles)
    values = [
        len(np.intersect1d(one, other)) / len(np.union1d(one, other))
        for of_slide in selections.values()
        for one, other in combinations(of_slide, 2)
    ]
    return Jaccard(mean=float(np.mean(values)), n_pairs=len(values)) if values else None


def _per_slide(rows: Sequence[EvaluatedSlide], positive: str) -> dict[str, dict[str, float]]:
    """How well annotated tiles are found in each positive slide, mean over heads."""
    by_slide: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        annotated = _selection(row).annotated
        if row.label == positive and annotated:
            by_slide.setdefault(row.slide, []).append(annotated)
    return {
        slide: {name: float(np.mean([head[name] for head in heads])) for name in heads[0]}
        for slide, heads in sorted(by_slide.items())
    }
