"""Slide status, predictions, metrics and heatmaps in; one page out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jinja2
import numpy as np

from mil.errors import ConfigError
from mil.io.atomic import write_text
from mil.io.bags.folder import describe_bags
from mil.io.bags.status import SlideState, gather, summary
from mil.io.results import Metrics, Prediction, read_comparison, read_evaluation, using_results
from mil.io.tables import Slide, read_dataset
from mil.report.result_sections import RESULT_SECTIONS
from mil.report.section import Section
from mil.report.study import ReportedHead as StudyHead
from mil.report.study import Study
from mil.statistics.attention import almost_uniform
from mil.statistics.text import (
    beside,
    column_title,
    headline,
    interval,
    mean_sd,
    predicted,
    single_runs,
    value,
)
from mil.statistics.threshold import mean_threshold
from mil.tasks import Task, task_of
from mil.versions import TOOL_VERSION


class ReportedHead(NamedTuple):
    """One recipe on one encoder, with links to its heatmaps by slide."""

    metrics: Metrics
    predictions: list[Prediction]
    heatmaps: dict[str, str]

    def single_runs(self, names: Sequence[str]) -> str:
        """Mean, deviation and range over runs of the first of these metrics that there is."""
        name = next((name for name in names if name in self.metrics.over_runs), "")
        return single_runs(self.metrics.over_runs.get(name), self.metrics.range_over_runs(name))


class SlideCell(NamedTuple):
    """Prediction and heatmap of one slide by one head; None where there is none."""

    prediction: str  # a dash where there is none
    decision: str  # predicted class, and the threshold where it follows from one
    heatmap: str | None
    caution: str  # about the heatmap's colours; mostly empty


class SlideRow(NamedTuple):
    """A row of the report's table of slides."""

    slide: str
    patient: str
    label: str
    state: str
    split: str
    cells: list[SlideCell]


def run(
    dataset: str,
    tiles_dirs: Sequence[Path],
    bags_dirs: Sequence[Path],
    evaluated: Sequence[Path],
    heatmaps: Sequence[Path],
    out: Path,
    drawn: Literal["all", "test"] = "all",
    comparison: Path | None = None,
) -> None:
    """Write the report.

    Args:
        dataset: Name or yaml of the dataset.
        tiles_dirs: Folder of tiles files of each encoder, for the status of slides;
            empty with precomputed bags.
        bags_dirs: Folder of bags of each encoder, for the status of slides.
        evaluated: Folder that `mil evaluate` wrote, for each encoder and head.
        heatmaps: Folders of heatmaps in the same order.
        out: Report, an HTML file; images are linked relative to it.
        drawn: `test`: heatmaps are shown only of slides that the slide table calls
            test, since others may be of earlier heads.
        comparison: comparison.json of the same heads.

    Raises:
        ConfigError: `evaluated` and `heatmaps` differ in length.
        FormatError: A folder or file is not what its stage wrote.
    """
    if len(evaluated) != len(heatmaps):
        raise ConfigError(
            f"{len(evaluated)} folders of metrics, but {len(heatmaps)} of heatmaps; give one for "
            "each"
        )
    settings, slides = read_dataset(dataset)
    task = task_of(settings)
    names = [slide.slide for slide in slides]
    states = gather(names, tiles_dirs, bags_dirs)
    # A heatmap of a slide without a bag is of an earlier run, not of these heads.
    shown = {
        slide.slide
        for slide, state in zip(slides, states, strict=True)
        if (drawn == "all" or slide.split == "test") and state.state != "no_bag"
    }
    with using_results(*evaluated, *([comparison] if comparison else [])):
        heads = [
            _read_head(folder, images, out, shown)
            for folder, images in zip(evaluated, heatmaps, strict=True)
        ]
        qc_images = _qc_images(names, tiles_dirs, out)
        precomputed = [] if tiles_dirs else bags_dirs
        page = _template().render(
            title=settings.title or dataset,
            bags=[describe_bags(folder, names) for folder in precomputed],
            notes=settings.notes,
            licence=settings.licence,
            version=TOOL_VERSION,
            summary=summary(states).splitlines()[0],
            lost=[
                (state, state.advice, qc_images.get(state.slide))
                for state in states
                if state.state != "ok"
            ],
            positive=settings.positive_class,
            prediction=column_title(task.column_of_interest),
            headlines=task.headlines,
            interval_note=task.interval_note,
            heads=heads,
            several_runs=any(len(head.metrics.runs) > 1 for head in heads),
            cross_validated=any(head.metrics.cross_validated for head in heads),
            localised=any(head.metrics.localisation for head in heads),
            findings=[head.metrics.named_finding for head in heads if head.metrics.named_finding],
            # Heads are held against the same annotations.
            annotation_notes=list(
                dict.fromkeys(note for head in heads for note in head.metrics.annotations)
            ),
            compared=None if comparison is None else read_comparison(comparison),
            sections=_sections(
                Study(
                    dataset,
                    settings,
                    task,
                    slides,
                    states,
                    [],
                    tiles_dirs,
                    bags_dirs,
                    [StudyHead(head.metrics, head.predictions, {}, {}, (), ()) for head in heads],
                    [],
                    None if comparison is None else read_comparison(comparison),
                    {},
                    out,
                )
            ),
            slides=[
                _slide_row(slide, state, heads, task)
                for slide, state in zip(slides, states, strict=True)
            ],
            qc_images=qc_images,
        )
    write_text(out, page)


def _template() -> jinja2.Template:
    # Names, labels and reasons come from files of others: everything is escaped, and
    # what is ours is marked `safe`.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mil.report", "."),
        autoescape=True,
        # A misspelt name in the template is an error, not a gap in the page.
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(value=value, ci=interval, mean_sd=mean_sd, headline=headline)
    return environment.get_template("page.html.j2")


def _read_head(folder: Path, images: Path, out: Path, shown: set[str]) -> ReportedHead:
    metrics, predictions = read_evaluation(folder)
    heatmaps = {
        path.stem: _link(path, out) for path in sorted(images.glob("*.png")) if path.stem in shown
    }
    return ReportedHead(metrics, predictions, heatmaps)


def _link(image: Path, out: Path) -> str:
    # Relative to the page, so that results can be moved or copied as a whole.
    return Path(os.path.relpath(image, out.parent)).as_posix()


def _qc_images(slides: Sequence[str], tiles_dirs: Sequence[Path], out: Path) -> dict[str, str]:
    """Link to each slide's QC image, of the first encoder that has one."""
    links = {}
    for slide in slides:
        candidates = [folder / "grid" / f"{slide}.jpg" for folder in tiles_dirs]
        path = next((path for path in candidates if path.exists()), None)
        if path is not None:
            links[slide] = _link(path, out)
    return links


def _unseen(rows: Sequence[Prediction], slide: str) -> list[Prediction]:
    """Predictions of a slide by heads that did not train on it; by all, if all did."""
    of_slide = [row for row in rows if row.slide == slide]
    return [row for row in of_slide if row.split == "test"] or of_slide


def _mean(rows: Sequence[Prediction], column: str) -> float:
    return sum(row.predictions[column] for row in rows) / len(rows)


def _slide_cell(
    rows: Sequence[Prediction], heatmap: str | None, caution: str, task: Task
) -> SlideCell:
    """Cell of a slide from its predictions by one or more heads."""
    if not rows:
        return SlideCell("–", "", heatmap, caution)
    means = np.array([_mean(rows, column) for column in task.columns])
    threshold = mean_threshold([row.threshold for row in rows]) if task.has_threshold else None
    value = means[list(task.columns).index(task.column_of_interest)]
    decision = task.predicted_class(means, threshold)
    if threshold is not None:
        decision += f", threshold {beside(threshold, value)}"
    return SlideCell(predicted(value, threshold), decision, heatmap, caution)


def _sections(study: Study) -> list[Section]:
    """Sections of the results that the study has."""
    built = [build(study) for build in RESULT_SECTIONS]
    return [section for section in built if section is not None]


def _slide_row(
    slide: Slide, state: SlideState, heads: Sequence[ReportedHead], task: Task
) -> SlideRow:
    cells = []
    splits = []
    for head in heads:
        # With early fusion predictions are of patients; each slide shows its patient's.
        name = slide.patient if head.metrics.fusion == "early" else slide.slide
        rows = _unseen(head.predictions, name)
        splits += [row.split for row in rows[:1]]
        caution = almost_uniform(head.metrics.attention_entropy_share.get(name))
        cells.append(_slide_cell(rows, head.heatmaps.get(slide.slide), caution, task))
    # Splits that were drawn at random stand in the predictions; the table has official
    # ones only.
    split = splits[0] if splits else slide.split
    return SlideRow(slide.slide, slide.patient, slide.label, state.state, split, cells)
