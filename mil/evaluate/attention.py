"""Where the attention of an ensemble goes: tile AUROC, hottest tile and evenness."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mil.evaluate.localise import hit_by_chance, hottest_tile_hit, tile_auroc
from mil.evaluate.rows import AttendedSlide
from mil.io.localisation import CHANCE, HottestTile, Localisation, SlideHit
from mil.io.results import Prediction, SetMetrics
from mil.statistics.attention import entropy_share
from mil.statistics.bootstrap import members
from mil.statistics.intervals import proportion
from mil.statistics.metric import Metric
from mil.statistics.resampled import with_intervals
from mil.statistics.text import headline, interval, value
from mil.tasks import Task

# Low end of the slide AUROC's interval above which heads are said to tell slides apart,
# and tile AUROC from which attention is not said to miss the regions: with two or three
# slides an interval reaches 0.5 even where all tiles are ranked rightly.
TELLS_APART = 0.7
SLIDE_AUROC = ("auroc", "auroc_macro")  # of two classes, and of more


def attended_slide(
    row: Prediction,
    attention: Sequence[Float[np.ndarray, " tiles"]],
    share: Float[np.ndarray, " tiles"] | None,
) -> AttendedSlide:
    """A test slide under the mean attention of the heads that did not train on it.

    The mean is what the heatmap shows.

    Args:
        row: One of the slide's predictions.
        attention: Attention of each head; sums to 1 over the tiles.
        share: Annotated share of each tile, 0..1; None: not known.
    """
    mean = np.mean(attention, axis=0)
    auroc = None if share is None else tile_auroc(mean, share)
    hit = None
    by_chance = None
    if share is not None and auroc is not None:
        hit = hottest_tile_hit(mean, share)
        by_chance = hit_by_chance(share)
    return AttendedSlide(
        slide=row.slide,
        patient=row.patient,
        label=row.label,
        heads=len(attention),
        entropy_share=entropy_share(mean),
        tile_auroc=auroc,
        hottest_tile_hit=hit,
        by_chance=by_chance,
    )


def localisation(
    slides: Sequence[AttendedSlide], test: SetMetrics, task: Task
) -> Localisation | None:
    """Tile AUROC and hottest tiles of the annotated slides; None where there are none.

    Only slides count that heads should attend to, and that have annotated tiles and
    tiles outside. The interval of the tile AUROC is that of a mean over patients (see
    `mil.statistics.resampled`), that of the hit rate Wilson's.

    Args:
        slides: Test slides under the ensemble's attention.
        test: Metrics of the test slides.
        task: Task of the heads.
    """
    known = sorted(slide for slide in slides if task.attends_to_annotations(slide.label))
    aurocs = {slide.slide: slide.tile_auroc for slide in known if slide.tile_auroc is not None}
    if not aurocs:
        return None
    annotated = [slide for slide in known if slide.slide in aurocs]
    patients = [slide.patient for slide in annotated]
    metric = _mean(list(aurocs.values()), patients)
    measured = Localisation(
        tile_auroc_mean=float(np.mean(list(aurocs.values()))),
        tile_auroc_ci95=None if metric.ci95 is None else list(metric.ci95),
        tile_auroc_min=min(aurocs.values()),
        n_slides=len(aurocs),
        per_slide=aurocs,
        hottest_tile=_hottest_tile(annotated, patients),
    )
    several = any(slide.heads > 1 for slide in annotated)
    return measured.model_copy(
        update={
            "note": _note(measured, several=several),
            "finding": finding(measured, test.metrics, several=several),
        }
    )


def _mean(values: Sequence[float], patients: Sequence[str]) -> Metric:
    """Mean over slides, with its interval over patients."""
    of_slides = np.array(values)
    # 1 by 1e-16, which rounding may add, is outside the scale of the interval.
    measured = with_intervals(
        lambda weights: {"mean": (weights @ of_slides / weights.sum(1)).clip(0, 1)}, patients, {}
    )
    return measured.metrics["mean"]


def _hottest_tile(slides: Sequence[AttendedSlide], patients: Sequence[str]) -> HottestTile:
    hits = np.array([slide.hottest_tile_hit for slide in slides], float)
    by_chance = np.array([slide.by_chance for slide in slides], float)
    return HottestTile(
        rate=Metric(value=float(hits.mean()), ci95=proportion(hits, members(patients))),
        by_chance=float(by_chance.mean()),
        per_slide={
            slide.slide: SlideHit(hit=float(hit), by_chance=float(chance))
            for slide, hit, chance in zip(slides, hits, by_chance, strict=True)
        },
    )


def _note(measured: Localisation, *, several: bool) -> str:
    attention = "the mean attention of a slide's heads" if several else "the head's attention"
    note = f"Of {attention}. Tile AUROC: {CHANCE:g} is chance"
    if measured.tile_auroc_ci95 is None:
        note += f"; {measured.without_interval}"
    return f"{note}. Hottest tile: `by_chance` is the rate of tiles drawn at random."


def finding(measured: Localisation, metrics: Mapping[str, Metric], *, several: bool) -> str:
    """Sentence about heads that tell slides apart by other tiles than those annotated.

    Empty unless the interval of the slide AUROC lies above 0.7, and either the tile
    AUROC is below 0.7 with an interval that reaches 0.5, or the hottest tile is
    annotated no more often than by chance. Slides of one patient, which give no
    interval, say neither.

    Args:
        measured: Localisation by the heads.
        metrics: Metrics of the test slides.
        several: Whether there are several heads.
    """
    slide_auroc = headline(metrics, SLIDE_AUROC)
    hottest = measured.hottest_tile
    if slide_auroc is None or slide_auroc.ci95 is None or slide_auroc.ci95[0] <= TELLS_APART:
        return ""
    if measured.tile_auroc_ci95 is None or hottest is None or hottest.rate.value is None:
        return ""
    if measured.tile_auroc_mean < TELLS_APART and measured.tile_auroc_ci95[0] <= CHANCE:
        fault = "does not find the annotated region"
    elif hottest.rate.value <= hottest.by_chance:
        fault = "is highest outside the annotated region"
    else:
        return ""
    heads = "The heads tell" if several else "The head tells"
    whose = "their" if several else "its"
    return (
        f"{heads} slides apart (AUROC {value(slide_auroc)}, {interval(slide_auroc)}), but {whose} "
        f"attention {fault}: {measured.text}."
    )
