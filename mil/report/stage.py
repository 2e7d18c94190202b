"""Files of a study in; a page of the study, a page for each slide and facts out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mil.io.atomic import write_text
from mil.io.results import using_results
from mil.report import composition, flow_section, heads, setup, throughput, worst
from mil.report.facts import Anchor, write_facts
from mil.report.figures import fewshot as fewshot_curves
from mil.report.inputs import Sources, read_study
from mil.report.links import qc_images
from mil.report.page import page_text, slide_template
from mil.report.page_section import PageSection
from mil.report.results import result_sections
from mil.report.slide_page import Inputs, write_pages
from mil.report.slides import slide_rows
from mil.report.study_files import StudyFiles
from mil.report.thumbnails import Thumbnails


def run(
    dataset: str,
    tiles_dirs: Sequence[Path],
    bags_dirs: Sequence[Path],
    evaluated: Sequence[Path],
    heatmaps: Sequence[Path],
    out: Path,
    drawn: Literal["all", "test"] = "all",
    comparison: Path | None = None,
    *,
    folds: Sequence[Path] = (),
    scores: Sequence[Path] = (),
    trained: Sequence[Path] = (),
    config: Path | None = None,
    fewshot: Sequence[Path] = (),
) -> None:
    """Write the report.

    Args:
        dataset: Name or yaml of the dataset.
        tiles_dirs: Folder of tiles files of each encoder, for the status of slides;
            empty with precomputed bags.
        bags_dirs: Folder of bags of each encoder, for the status of slides.
        evaluated: Folder that `mil evaluate` wrote, for each encoder and head.
        heatmaps: Folders of heatmaps in the same order.
        out: Report, an HTML file; images are linked relative to it. The pages of slides
            and the facts are written beside it.
        drawn: `test`: heatmaps are shown only of slides that the slide table calls
            test, since others may be of earlier heads.
        comparison: comparison.json of the same heads.
        folds: folds.csv of each encoder, in the order of `bags_dirs`.
        scores: Folder of score files of each head, in the order of `evaluated`.
        trained: Folder of the trained heads of each recipe, in the order of `evaluated`.
        config: Settings of the run, a JSON file.
        fewshot: Tables of few-shot curves.

    Raises:
        ConfigError: Folders that belong together differ in number.
        FormatError: A folder or file is not what its stage wrote.
    """
    sources = Sources(
        dataset,
        tiles_dirs,
        bags_dirs,
        evaluated,
        heatmaps,
        out,
        drawn,
        comparison,
        folds,
        scores,
        trained,
        config,
        fewshot,
    )
    with using_results(*evaluated, *([comparison] if comparison else [])):
        study = read_study(sources)
        _write(study, throughput.stage_folders(study, scores, heatmaps))


def _write(study: StudyFiles, folders: Sequence[tuple[str, Path]]) -> None:
    rows = slide_rows(study)
    summaries = composition.read_summaries(study)
    images = qc_images([slide.slide for slide in study.slides], study.tiles_dirs)
    thumbnails = Thumbnails()
    composed = composition.composition_of(study, summaries)
    optional: list[PageSection | None] = [
        flow_section.section(study),
        heads.lost_section(study, images),
        setup.section(study),
        composition.section(composed),
        heads.section(study),
        *result_sections(study),
        heads.comparison_section(study),
        fewshot_curves.build(study),
        worst.section(study, rows, thumbnails),
        throughput.section(study, folders),
        heads.slides_section(study, rows, images, thumbnails),
    ]
    sections = [section for section in optional if section is not None]
    page = page_text(study, sections)
    write_pages(Inputs(study, rows, summaries, images), slide_template())
    anchors = [Anchor(section.anchor, section.title) for section in sections]
    write_facts(study, rows, composed, anchors)
    # Last: a report whose pages are not complete must not look current.
    write_text(study.out, page)
