"""Read the files of a study that its report is written from."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mil.errors import ConfigError, FormatError
from mil.io.bags.patients import FoldBag, read_fold_bags
from mil.io.bags.status import SlideState, gather_by_encoder, overall
from mil.io.fewshot import read_curves
from mil.io.results import Comparison, Metrics, Prediction, read_comparison, read_evaluation
from mil.io.scores import read_branch_parts, read_records_of
from mil.io.tables import Slide, read_dataset
from mil.report.study_files import ReportedHead, SlideImages, StudyFiles
from mil.tasks import task_of
from mil.trained.record import RECORD, Trained, find_heads, read_record, read_records

# Endings of a slide's pictures beside its heatmap, `SLIDE.png`.
EFFECT = ".effect.png"
ROLLOUT = ".rollout.png"
TILES = ".tiles.jpg"


class Sources(NamedTuple):
    """Files and folders of a study; see `mil.report.stage.run`."""

    dataset: str
    tiles_dirs: Sequence[Path]
    bags_dirs: Sequence[Path]
    evaluated: Sequence[Path]
    heatmaps: Sequence[Path]
    out: Path
    drawn: Literal["all", "test"] = "all"
    comparison: Path | None = None
    folds: Sequence[Path] = ()
    scores: Sequence[Path] = ()
    trained: Sequence[Path] = ()
    config: Path | None = None
    fewshot: Sequence[Path] = ()


def read_study(sources: Sources) -> StudyFiles:
    """Read a study; raises what `mil.report.stage.run` does."""
    _check_lengths(sources)
    settings, slides = read_dataset(sources.dataset)
    names = [slide.slide for slide in slides]
    by_encoder = gather_by_encoder(names, sources.tiles_dirs, sources.bags_dirs, tally=True)
    states = overall(by_encoder)
    return StudyFiles(
        dataset=sources.dataset,
        settings=settings,
        task=task_of(settings),
        slides=slides,
        states=states,
        states_by_encoder=by_encoder,
        tiles_dirs=sources.tiles_dirs,
        bags_dirs=sources.bags_dirs,
        heads=_read_heads(sources, _shown(slides, states, sources.drawn)),
        folds=_read_folds(sources.folds),
        comparison=_read_comparison(sources.comparison),
        config=_read_config(sources.config),
        out=sources.out,
        fewshot={
            name: curve for path in sources.fewshot for name, curve in read_curves(path).items()
        },
    )


def _check_lengths(sources: Sources) -> None:
    if len(sources.evaluated) != len(sources.heatmaps):
        raise ConfigError(
            f"{len(sources.evaluated)} folders of metrics, but {len(sources.heatmaps)} of "
            "heatmaps; give one for each"
        )
    optional = {
        "--scores": (sources.scores, sources.evaluated, "--evaluated"),
        "--trained": (sources.trained, sources.evaluated, "--evaluated"),
        "--folds": (sources.folds, sources.bags_dirs, "--bags"),
    }
    for option, (paths, others, other) in optional.items():
        if paths and len(paths) != len(others):
            raise ConfigError(
                f"{option}: {len(paths)} are named, but {len(others)} of {other}; give one for "
                "each, in the same order, or none"
            )


def _shown(
    slides: Sequence[Slide], states: Sequence[SlideState], drawn: Literal["all", "test"]
) -> set[str]:
    """Slides whose heatmaps are of these heads.

    A heatmap of a slide without a bag is of an earlier run.
    """
    return {
        slide.slide
        for slide, state in zip(slides, states, strict=True)
        if (drawn == "all" or slide.split == "test") and state.state != "no_bag"
    }


def _read_heads(sources: Sources, shown: set[str]) -> list[ReportedHead]:
    scores: Sequence[Path | None] = sources.scores or [None] * len(sources.evaluated)
    trained: Sequence[Path | None] = sources.trained or [None] * len(sources.evaluated)
    return [
        _read_head(*folders, shown)
        for folders in zip(sources.evaluated, sources.heatmaps, scores, trained, strict=True)
    ]


def _read_head(
    evaluated: Path, heatmaps: Path, scores: Path | None, trained: Path | None, shown: set[str]
) -> ReportedHead:
    metrics, predictions = read_evaluation(evaluated)
    rows_of: dict[str, list[Prediction]] = {}
    for row in predictions:
        rows_of.setdefault(row.slide, []).append(row)
    first = _first_of(scores)
    records, texts = _read_records(first)
    has_parts = first is not None and any(read_branch_parts(first))
    return ReportedHead(
        metrics=metrics,
        predictions=predictions,
        rows_of=rows_of,
        images=find_images(heatmaps, shown),
        records=records,
        trained=_folders_of(trained, texts, metrics),
        scores=scores if has_parts else None,
    )


def find_images(folder: Path, shown: Iterable[str]) -> dict[str, SlideImages]:
    """Pictures of these slides; a folder is listed once."""
    names = {path.name for path in folder.glob("*.[pj][np]g")}

    slides = set(shown)

    def beside(slide: str, ending: str) -> Path | None:
        # A slide may be called like another's picture.
        if f"{slide}{ending}".removesuffix(".png") in slides:
            return None
        return folder / f"{slide}{ending}" if f"{slide}{ending}" in names else None

    return {
        slide: SlideImages(
            folder / f"{slide}.png",
            beside(slide, EFFECT),
            beside(slide, TILES),
            beside(slide, ROLLOUT),
        )
        for slide in sorted(slides)
        if f"{slide}.png" in names
    }


def _first_of(scores: Path | None) -> Path | None:
    """One file of a folder of score files; None without a folder."""
    if scores is None:
        return None
    # All files of a folder are by the same heads: `mil score` makes them again otherwise.
    # Names that begin with a dot are scratch files of a run that was killed.
    first = min(scores.glob("[!.]*.h5"), default=None)
    if first is None:
        raise FormatError(f"{scores}: has no score file; run `mil score` again")
    return first


def _read_records(first: Path | None) -> tuple[list[Trained], set[str]]:
    """Records of the heads of a score file, and their texts."""
    if first is None:
        return [], set()
    texts = read_records_of(first)
    return read_records(texts, first), set(texts)


def _folders_of(trained: Path | None, texts: set[str], metrics: Metrics) -> list[Path]:
    """Folders of the heads that were evaluated, and of no other seed or fold."""
    if trained is None:
        return []
    runs = {(run.seed, run.fold) for run in metrics.runs}
    folders = []
    for folder in find_heads(trained):
        if texts and (folder / RECORD).read_text(encoding="utf-8") not in texts:
            continue
        record = read_record(folder)
        if (record.seed, record.fold) in runs:
            folders.append(folder)
    return folders


def _read_folds(paths: Sequence[Path]) -> list[list[FoldBag]]:
    # Encoders mostly share their division.
    read = {path: read_fold_bags(path) for path in dict.fromkeys(paths)}
    return [read[path] for path in paths]


def _read_comparison(path: Path | None) -> Comparison | None:
    return None if path is None else read_comparison(path)


def _read_config(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not the settings of a run as JSON: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: not the settings of a run: no mapping of sections")
    return content
