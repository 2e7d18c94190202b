"""Section `localisation` of metrics.json: how well attention finds annotated tiles."""

from pydantic import Field

from mil.config import Section
from mil.statistics.metric import Metric
from mil.statistics.text import interval, value

CHANCE = 0.5  # tile AUROC of attention that knows nothing of the annotation


class SlideHit(Section):
    """Whether the tile of most attention of a slide is annotated."""

    hit: float  # 1 or 0; a fraction where several tiles tie for the most attention
    by_chance: float  # probability that a tile drawn at random is annotated


class HottestTile(Section):
    """Slides whose tile of most attention is annotated."""

    rate: Metric  # share of the slides
    by_chance: float  # mean over the slides
    per_slide: dict[str, SlideHit]


class Localisation(Section):
    """Attention of the ensemble, the mean over the heads, against annotated regions.

    Files of versions before evaluate 5 have the mean of the heads' tile AUROCs, and
    nothing of the fields with defaults.
    """

    tile_auroc_mean: float  # over the annotated slides
    tile_auroc_ci95: list[float] | None = None  # None: slides of one patient
    tile_auroc_by_chance: float = CHANCE
    tile_auroc_min: float
    n_slides: int
    per_slide: dict[str, float]  # tile AUROC
    hottest_tile: HottestTile | None = None
    note: str = ""
    # Where heads tell slides apart and their attention does not find the regions.
    finding: str = Field("")

    @property
    def tile_auroc(self) -> Metric:
        """Tile AUROC with its interval."""
        ends = self.tile_auroc_ci95
        return Metric(value=self.tile_auroc_mean, ci95=None if ends is None else (ends[0], ends[1]))

    @property
    def about_tile_auroc(self) -> str:
        """`0.41 to 0.67; 0.5 is chance`, or why there is no interval."""
        chance = f"{self.tile_auroc_by_chance:g} is chance"
        if self.tile_auroc_ci95 is not None:
            return f"{interval(self.tile_auroc)}; {chance}"
        # Files of before have no interval for any number of slides.
        return chance if self.hottest_tile is None else f"{self.without_interval}; {chance}"

    @property
    def without_interval(self) -> str:
        """`no interval: one slide`, or `one patient` with several."""
        return f"no interval: one {'slide' if self.n_slides == 1 else 'patient'}"

    @property
    def hits(self) -> str:
        """`5 of 7 slides`; empty where it is not known."""
        if self.hottest_tile is None:
            return ""
        return f"{self.number_of_hits} of {self._slides}"

    @property
    def number_of_hits(self) -> str:
        """`5`, or `0.69` where tiles tie for the most attention; empty where not known."""
        if self.hottest_tile is None:
            return ""
        hits = sum(slide.hit for slide in self.hottest_tile.per_slide.values())
        return f"{hits:g}" if hits == round(hits) else f"{hits:.2f}"

    @property
    def about_hits(self) -> str:
        """`35 to 91 %; 8 % by chance`; empty where it is not known."""
        if self.hottest_tile is None:
            return ""
        chance = f"{_percent(self.hottest_tile.by_chance)} % by chance"
        ends = self.hottest_tile.rate.ci95
        if ends is None:
            return chance
        return f"{_percent(ends[0])} to {_percent(ends[1])} %; {chance}"

    @property
    def text(self) -> str:
        """Both numbers in one line, each beside what chance gives."""
        line = f"tile AUROC {value(self.tile_auroc)} ({self.about_tile_auroc})"
        if self.hottest_tile is None:
            return f"{line} on {self._slides}"
        return f"{line}, hottest tile annotated on {self.hits} ({self.about_hits})"

    @property
    def _slides(self) -> str:
        return "1 slide" if self.n_slides == 1 else f"{self.n_slides} slides"


def _percent(share: float) -> str:
    """`8`, or `0.4` below one percent."""
    percent = 100 * share
    return f"{percent:.0f}" if percent == 0 or percent >= 1 else f"{percent:.1g}"
