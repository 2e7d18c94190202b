"""How good the maps of one recipe are: faithfulness, annotated tiles and lesions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.evaluate.dice import best_threshold, dice
from mil.evaluate.evidence import evidence_checks
from mil.evaluate.lesion_metrics import froc_of, lesions_of_slides
from mil.evaluate.mapped import AnnotatedTiles, MappedSlide, MappedSlides, ValidationTiles
from mil.evaluate.top_hits import rates_of_top_hits
from mil.io.map_metrics import (
    EvidenceCheck,
    Faithfulness,
    FlippingCurves,
    Lesions,
    MapMetrics,
    TileMetrics,
    TopHits,
)
from mil.io.scores import FLIP_SHARES, MAP_KINDS
from mil.statistics.flipping import FlipCurves, flip_area
from mil.statistics.metric import Metric
from mil.statistics.resampled import Scale, with_intervals
from mil.trained.tile_maps import SIGNED

# Threshold for Dice where no validation slide is annotated: uniform attention, and
# evidence that speaks neither way.
UNCHOSEN = {"attention": 1.0, "rollout": 1.0, "alone": 0.0, "effect": 0.0}


class MapsOfRecipe(NamedTuple):
    """The sections of metrics.json that are about maps."""

    maps: dict[str, MapMetrics]
    lesions: Lesions | None
    evidence_checks: list[EvidenceCheck]


def metrics_of_maps(mapped: MappedSlides, evidence_unit: str) -> MapsOfRecipe:
    """Metrics of each kind of map; kinds without any are left out.

    Args:
        mapped: What was kept of the maps of all slides.
        evidence_unit: Unit of the task's evidence.
    """
    test = sorted(mapped.test, key=lambda slide: slide.slide)
    slides = sorted(mapped.lesions.slides, key=lambda slide: slide.slide)
    maps: dict[str, MapMetrics] = {}
    for kind in MAP_KINDS:
        of_kind = MapMetrics(
            faithfulness=faithfulness(test, kind, evidence_unit),
            tiles=tile_metrics(test, mapped.validation, kind),
            froc=froc_of(slides, kind),
        )
        if of_kind != MapMetrics():
            maps[kind] = of_kind
    return MapsOfRecipe(maps, lesions_of_slides(mapped.lesions), evidence_checks(mapped.removed))


def faithfulness(slides: Sequence[MappedSlide], kind: str, unit: str) -> Faithfulness | None:
    """Patch flipping over the test slides; None where the scores do not have it.

    Args:
        slides: Test slides.
        kind: Kind of map.
        unit: Unit of the evidence.
    """
    shares = np.array(FLIP_SHARES)
    mapped = [slide for slide in slides if kind in slide.curves]
    curves = {slide.slide: slide.curves[kind] for slide in mapped}
    areas = {slide.slide: flip_area(shares, slide.curves[kind], slide.n_tiles) for slide in mapped}
    known = {name: area for name, area in areas.items() if area is not None}
    if not known:
        return None
    patients = [slide.patient for slide in slides if slide.slide in known]
    means = FlipCurves(
        _mean_of_known([curves[name].most_first for name in known]),
        _mean_of_known([curves[name].least_first for name in known]),
    )
    return Faithfulness(
        area=_mean(list(known.values()), patients, "any"),
        unit=unit,
        n_slides=len(known),
        per_slide=known,
        curves=FlippingCurves(
            shares=list(FLIP_SHARES),
            most_first=_listed(means.most_first),
            least_first=_listed(means.least_first),
        ),
    )


def _mean_of_known(rows: Sequence[Float[np.ndarray, " shares"]]) -> Float[np.ndarray, " shares"]:
    """Mean over slides at each share; NaN where no slide has tiles left."""
    stacked = np.stack(rows)
    is_known = np.isfinite(stacked)
    sums = np.where(is_known, stacked, 0.0).sum(0)
    count = is_known.sum(0)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def _listed(values: Float[np.ndarray, " shares"]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def tile_metrics(
    slides: Sequence[MappedSlide], validation: Sequence[ValidationTiles], kind: str
) -> TileMetrics | None:
    """A kind of map against annotated tiles; None where no test slide is annotated.

    Args:
        slides: Test slides.
        validation: Annotated validation slides.
        kind: Kind of map.
    """
    of_kind = [(slide, slide.tiles) for slide in slides if slide.tiles and _has(slide.tiles, kind)]
    if not of_kind:
        return None
    patients = [slide.patient for slide, _ in of_kind]
    folds = set().union(*(slide.folds for slide, _ in of_kind))
    chosen = _thresholds(validation, kind, folds)
    thresholds = chosen or {fold: UNCHOSEN[kind] for fold in folds}
    per_slide = {}
    for slide, tiles in of_kind:
        of_slide = tiles.by_kind[kind]
        threshold = np.mean([thresholds[fold] for fold in slide.folds if fold in thresholds])
        per_slide[slide.slide] = {
            "tile_auroc": of_slide.auroc,
            "average_precision": of_slide.average_precision,
            "dice": float(dice(of_slide.ranked, np.array([threshold]))[0]),
        }
    means = {
        name: _mean([metrics[name] for metrics in per_slide.values()], patients, "share")
        for name in ("tile_auroc", "average_precision", "dice")
    }
    return TileMetrics(
        n_slides=len(of_kind),
        tile_auroc=means["tile_auroc"],
        average_precision=means["average_precision"],
        average_precision_by_chance=float(np.mean([tiles.annotated_share for _, tiles in of_kind])),
        dice=means["dice"],
        dice_thresholds={str(fold): thresholds[fold] for fold in sorted(thresholds)},
        dice_rule=_dice_rule(kind, is_chosen=bool(chosen)),
        top_hits=_top_hits([tiles for _, tiles in of_kind], patients, kind),
        per_slide=per_slide,
    )


def _has(tiles: AnnotatedTiles, kind: str) -> bool:
    return kind in tiles.by_kind


def _thresholds(
    validation: Sequence[ValidationTiles], kind: str, folds: set[int]
) -> dict[int, float]:
    """Threshold of each fold, by its own validation slides: others may be in its test.

    A fold without annotated validation slides has the mean of the others.
    """
    chosen = {}
    for fold in sorted(folds):
        tiles = [one.tiles for one in validation if (one.fold, one.kind) == (fold, kind)]
        threshold = best_threshold(tiles)
        if threshold is not None:
            chosen[fold] = threshold
    if not chosen:
        return {}
    return {fold: chosen.get(fold, float(np.mean(list(chosen.values())))) for fold in folds}


def _dice_rule(kind: str, *, is_chosen: bool) -> str:
    unit = "evidence of a tile" if kind in SIGNED else "multiple of uniform attention"
    if is_chosen:
        return (
            f"Threshold ({unit}) with the largest mean Dice on the annotated validation slides "
            "of each fold."
        )
    return (
        f"Threshold ({unit}) {UNCHOSEN[kind]:g}, since no validation slide with annotated tiles "
        "could choose one."
    )


def _top_hits(tiles: Sequence[AnnotatedTiles], patients: Sequence[str], kind: str) -> list[TopHits]:
    hits = np.stack([slide.by_kind[kind].top_hits for slide in tiles])
    by_chance = np.mean([slide.top_by_chance for slide in tiles], axis=0)
    return rates_of_top_hits(hits, by_chance.tolist(), patients)


def _mean(values: Sequence[float], patients: Sequence[str], scale: Scale) -> Metric:
    """Mean over slides, with its interval over patients."""
    of_slides = np.array(values)

    def weighted(weights: np.ndarray) -> Mapping[str, np.ndarray]:
        mean = weights @ of_slides / weights.sum(1)
        # 1 by 1e-16, which rounding may add, is outside the scale of the interval.
        return {"mean": mean.clip(0, 1) if scale == "share" else mean}

    return with_intervals(weighted, patients, {"mean": scale}).metrics["mean"]
