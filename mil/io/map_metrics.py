"""Sections `maps`, `lesions` and `evidence_checks` of metrics.json: how good maps are."""

from pydantic import Field

from mil.config import Section
from mil.statistics.metric import Metric
from mil.statistics.text import value, with_interval

MAP_TITLES = {
    "attention": "attention",
    "alone": "evidence of the tile alone",
    "effect": "effect of the tile",
    "rollout": "rollout of attention",
}


class FlippingCurves(Section):
    """Mean change of the evidence toward the prediction; None where no slide has one."""

    shares: list[float]  # of the tiles, removed
    most_first: list[float | None]
    least_first: list[float | None]


class Faithfulness(Section):
    """Patch flipping: whether a map ranks tiles by what they do to the prediction."""

    # Mean over slides of the area between both curves; 0: random order.
    area: Metric
    unit: str
    n_slides: int
    per_slide: dict[str, float]
    curves: FlippingCurves


class TopHits(Section):
    """Slides of which one of the first k tiles of the map is annotated."""

    k: int
    rate: Metric
    by_chance: float


class TileMetrics(Section):
    """A map against annotated tiles, mean over the annotated slides that heads should find."""

    n_slides: int
    tile_auroc: Metric
    average_precision: Metric
    average_precision_by_chance: float  # share of the tiles that are annotated
    dice: Metric
    # Least value of an annotated tile, by fold: chosen on its validation slides.
    dice_thresholds: dict[str, float]
    dice_rule: str
    top_hits: list[TopHits]
    per_slide: dict[str, dict[str, float]]


class SizeSensitivity(Section):
    """Lesions of one size: their number, and the sensitivity to them."""

    n_lesions: int
    sensitivity: list[float]  # at `Froc.false_per_slide`
    mean: float


class FrocPoints(Section):
    """Points of the FROC curve."""

    false_per_slide: list[float]
    sensitivity: list[float]


class Froc(Section):
    """Lesions that the detections of a map find; see `mil.statistics.froc`."""

    score: Metric  # mean of `sensitivity`
    false_per_slide: list[float]
    sensitivity: list[Metric]
    by_size: dict[str, SizeSensitivity]
    curve: FrocPoints


class MapMetrics(Section):
    """How good the maps of one kind are; what could not be measured is None."""

    faithfulness: Faithfulness | None = None
    tiles: TileMetrics | None = None
    froc: Froc | None = None

    def text(self, kind: str) -> str:
        """`attention: flipping area 0.52 (0.1 to 0.9) log-odds, FROC 0.31 (0.1 to 0.6)`."""
        parts = []
        if self.faithfulness is not None:
            area = self.faithfulness.area
            parts.append(f"flipping area {with_interval(area)} {self.faithfulness.unit}")
        if self.tiles is not None:
            parts.append(f"tile AUROC {value(self.tiles.tile_auroc)}")
            parts.append(f"Dice {value(self.tiles.dice)}")
        if self.froc is not None:
            parts.append(f"FROC {with_interval(self.froc.score)}")
        return f"{MAP_TITLES.get(kind, kind)}: {', '.join(parts)}" if parts else ""


class Lesions(Section):
    """Lesions of the test slides that FROC is of, after CAMELYON16's rules."""

    n_slides: int
    n_slides_with_lesions: int
    n_patients: int
    n_lesions: dict[str, int]  # by size: itc, micro, macro
    # Reason why a test slide does not count, by slide.
    left_out: dict[str, str] = Field({})
    note: str = ""


class EvidenceCheck(Section):
    """Estimated against real effects of removed tiles, of one head on its test slides."""

    seed: int
    fold: int
    n_slides: int
    n_tiles: int
    # Within a slide, mean over slides; None where no slide allows one.
    pearson: float | None
    spearman: float | None
    # Relative error of the sum of integrated gradients.
    completeness_error_mean: float | None
    completeness_error_max: float | None
