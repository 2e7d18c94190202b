"""What the report is written from: files of a study, read once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mil.config import DatasetConfig
from mil.io.bags.patients import FoldBag
from mil.io.bags.status import SlideState
from mil.io.fewshot import Curve
from mil.io.results import Comparison, Metrics, Prediction
from mil.io.tables import Slide
from mil.statistics.text import single_runs
from mil.tasks import Task
from mil.trained.record import Trained


class SlideImages(NamedTuple):
    """Pictures of a slide by one recipe; None where there is none.

    Attributes:
        heatmap: Attention.
        effect: Effect of each tile on the prediction.
        tiles: Sheet of tiles.
        rollout: Rollout of attention.
    """

    heatmap: Path
    effect: Path | None = None
    tiles: Path | None = None
    rollout: Path | None = None


class ReportedHead(NamedTuple):
    """One recipe on one encoder.

    Attributes:
        metrics: Content of metrics.json.
        predictions: Rows of predictions.csv.
        rows_of: The same by slide, or with early fusion by patient.
        images: Pictures by slide.
        records: Records of the heads of all seeds and folds; empty where no folder of
            score files was named.
        trained: Folders of the same heads; empty where none was named.
        scores: Folder of score files whose logits are split over branches; None: there is
            none.
    """

    metrics: Metrics
    predictions: list[Prediction]
    rows_of: dict[str, list[Prediction]]
    images: dict[str, SlideImages]
    records: Sequence[Trained] = ()
    trained: Sequence[Path] = ()
    scores: Path | None = None

    def single_runs(self, names: Sequence[str]) -> str:
        """Mean, deviation and range over runs of the first of these metrics that there is."""
        name = next((name for name in names if name in self.metrics.over_runs), "")
        return single_runs(self.metrics.over_runs.get(name), self.metrics.range_over_runs(name))

    def unseen(self, name: str) -> list[Prediction]:
        """Predictions of a slide by heads that did not train on it; by all, if all did.

        Args:
            name: Slide, or with early fusion patient.
        """
        rows = self.rows_of.get(name, [])
        return [row for row in rows if row.split == "test"] or rows


class StudyFiles(NamedTuple):
    """A study as the report shows it.

    Attributes:
        dataset: Name or yaml of the dataset.
        settings: Content of its yaml.
        task: Task of its labels.
        slides: Rows of its slide table.
        states: State of each slide, in the same order.
        states_by_encoder: The same for each encoder, in the order of `bags_dirs`.
        tiles_dirs: Folder of tiles files of each encoder; empty with precomputed bags.
        bags_dirs: Folder of bags of each encoder.
        heads: Recipes, each on one encoder.
        folds: Bags of folds.csv, for each encoder; empty where none was named.
        comparison: Comparison of the heads.
        config: Settings of the run, by section and name; empty where none were named.
        out: The page.
        fewshot: Few-shot curves, by slide encoder and encoder; empty where there are none.
    """

    dataset: str
    settings: DatasetConfig
    task: Task
    slides: list[Slide]
    states: list[SlideState]
    states_by_encoder: list[list[SlideState]]
    tiles_dirs: Sequence[Path]
    bags_dirs: Sequence[Path]
    heads: list[ReportedHead]
    folds: list[list[FoldBag]]
    comparison: Comparison | None
    config: dict[str, object]
    out: Path
    fewshot: Mapping[str, Curve] = MappingProxyType({})

    @property
    def pages(self) -> Path:
        """Folder of the pages of slides, beside the report."""
        return self.out.with_name(f"{self.out.stem}_slides")
