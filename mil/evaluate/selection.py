"""How good a selection of tiles is: whether it says what all tiles say, more than others would, and finds tumour."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.evaluate.rows import Row, by_run, labels_of, mean, mean_sd, probabilities_of
from mil.heads import SelectsTiles
from mil.io.bags import Bag
from mil.statistics.classified import classification
from mil.trained import Applied, Trained, answers

RANDOM_DRAWS = 5  # selections a slide, as large as the head's own


class Selected(NamedTuple):
    """One slide's selection by one head."""

    tiles: Int[np.ndarray, " selected"]  # rows of the valid tiles
    of: int  # valid tiles
    full: Float[np.ndarray, " classes"]  # probabilities from all tiles,
    random: Float[np.ndarray, "draws classes"]  # from as many drawn at random,
    rest: Float[np.ndarray, " classes"] | None  # from those not selected; None: there are none
    found: dict[str, float] | None  # precision, recall and prevalence of annotated tiles


def selection_of(
    head: SelectsTiles,
    trained: Trained,
    bag: Bag,
    applied: Applied,
    share: Float[np.ndarray, " tiles"] | None,
) -> Selected | None:
    """What there is to know of a slide's selection; None if the head made none.

    Args:
        head: asked again, with other selections.
        trained: what the head is.
        bag: of the slide.
        applied: what the head said.
        share: of each tile that is annotated; None: not known.
    """
    mine = applied.selected
    if mine is None or applied.full_answers is None:
        return None
    draw = np.random.default_rng(0)  # the same for each head, so that they can be compared
    others = [draw.permutation(mine) for _ in range(RANDOM_DRAWS)] + ([] if mine.all() else [~mine])
    found = answers(head, trained, bag, others)
    return Selected(
        np.flatnonzero(mine),
        len(mine),
        applied.full_answers,
        found[:RANDOM_DRAWS],
        None if mine.all() else found[-1],
        None if share is None else found_tiles(mine, share),
    )


def found_tiles(
    selected: Bool[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> dict[str, float] | None:
    """How a selection finds annotated tiles (at least half of them inside); tiles on a border count for nothing.

    Returns:
        `tile_precision` of the selected, `tile_recall` of the annotated, and
        `tile_prevalence`: the precision of tiles drawn at random. None where nothing is
        annotated, or only border tiles are selected.
    """
    known = (share >= 0.5) | (share == 0)
    annotated = share >= 0.5
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
    test: Sequence[Row], classes: Sequence[str], positive: str
) -> dict[str, Any] | None:
    """Metrics of the selections on test slides; None for a head that selects none.

    Returns:
        `runs` and `over_runs`: `reduction` (1 - selected / tiles), `agreement` and `kl`
        (nats, from the selected to all tiles' prediction), each metric of the
        predictions from the selected, from all (`full`), from as many drawn at random
        (mean over draws) and from those not selected (`rest`), and precision and recall
        of annotated tiles in positive slides. `jaccard_over_seeds`: how alike two seeds
        select. `per_slide`: of annotated tiles.
    """
    rows = [row for row in test if row["selection"] is not None]
    if not rows:
        return None
    each = [_run(mine, classes, positive, *run) for run, mine in by_run(rows).items()]
    names = [name for name in each[0] if name not in ("seed", "fold", "n_slides")]
    return {
        "runs": each,
        "over_runs": {name: mean_sd(run[name] for run in each) for name in names},
        "jaccard_over_seeds": _jaccard(rows),
        "per_slide": _per_slide(rows, positive),
    }


def _run(
    rows: Sequence[Row], classes: Sequence[str], positive: str, seed: int, fold: int
) -> dict[str, Any]:
    labels = labels_of(rows, classes)
    selected = probabilities_of(rows, classes)
    each = [row["selection"] for row in rows]
    full = np.stack([one.full for one in each])
    at_random = [
        classification(labels, np.stack([one.random[i] for one in each]))
        for i in range(RANDOM_DRAWS)
    ]
    left = [i for i, one in enumerate(each) if one.rest is not None]
    rest = classification(labels[left], np.stack([each[i].rest for i in left])) if left else {}
    named = {
        "selected": classification(labels, selected),
        "full": classification(labels, full),
        "rest": rest,
    }
    named["random"] = {name: mean(one[name] for one in at_random) for name in at_random[0]}
    found = [
        one.found
        for row, one in zip(rows, each, strict=True)
        if row["label"] == positive and one.found
    ]
    return {
        "seed": seed,
        "fold": fold,
        "n_slides": len(rows),
        "reduction": mean(1 - len(one.tiles) / one.of for one in each),
        "agreement": float((selected.argmax(-1) == full.argmax(-1)).mean()),
        "kl": float(_divergence(full, selected).mean()),
        **{
            f"{metric}_{which}": values.get(metric)
            for which, values in named.items()
            for metric in named["full"]
        },
        **{
            name: mean(one[name] for one in found)
            for name in ("tile_precision", "tile_recall", "tile_prevalence")
        },
    }


def _divergence(full: np.ndarray, selected: np.ndarray) -> Float[np.ndarray, " slides"]:
    """KL(full ‖ selected), nats; what float32 rounded to zero counts as its smallest number."""
    smallest = np.finfo(np.float32).tiny
    return (full * (np.log(full.clip(smallest)) - np.log(selected.clip(smallest)))).sum(-1)


def _jaccard(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Tiles that both of two seeds select, over those that either does; mean over slides, folds and pairs of seeds."""
    of_slide: dict[tuple[str, int], list[Int[np.ndarray, " selected"]]] = {}
    for row in rows:
        of_slide.setdefault((row["slide"], row["fold"]), []).append(row["selection"].tiles)
    values = [
        len(np.intersect1d(one, other)) / len(np.union1d(one, other))
        for several in of_slide.values()
        for one, other in combinations(several, 2)
    ]
    return {"mean": float(np.mean(values)), "n_pairs": len(values)} if values else None


def _per_slide(rows: Sequence[Row], positive: str) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row["label"] == positive and row["selection"].found:
            found.setdefault(row["slide"], []).append(row["selection"].found)
    return {
        slide: {name: float(np.mean([one[name] for one in several])) for name in several[0]}
        for slide, several in sorted(found.items())
    }
