"""Section of the report: time that stages took for each slide, as their jobs recorded it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from mil.io.part_jobs import TIMES, read_times
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles

PARTS = "parts"


def section(study: StudyFiles, folders: Sequence[tuple[str, Path]]) -> PageSection | None:
    """Seconds of each slide by stage; None where no job recorded any.

    Args:
        study: The study.
        folders: Name of a stage, with encoder or head, and the folder of its outputs.
    """
    num_tiles = {
        state.slide: state.tally.num_tiles for state in study.states if state.tally is not None
    }
    slides = {slide.slide for slide in study.slides}
    rows = []
    for name, folder in folders:
        times = {slide: time for slide, time in _times(folder).items() if slide in slides}
        if times:
            rows.append(_row(name, times, num_tiles))
    if not rows:
        return None
    return PageSection("throughput", "Throughput", {"rows": rows})


def stage_folders(
    study: StudyFiles, scores: Sequence[Path], heatmaps: Sequence[Path]
) -> list[tuple[str, Path]]:
    """Folders in which stages of this study write an output for each slide."""
    folders = [("tile", folder) for folder in dict.fromkeys(study.tiles_dirs)]
    folders += [(f"features, {folder.name}", folder) for folder in study.bags_dirs]
    heads = [head.metrics.name for head in study.heads]
    folders += [(f"score, {name}", path) for name, path in zip(heads, scores, strict=False)]
    folders += [(f"heatmap, {name}", path) for name, path in zip(heads, heatmaps, strict=False)]
    return folders


def _times(folder: Path) -> dict[str, float]:
    times: dict[str, float] = {}
    for path in sorted((folder / PARTS).glob(f"*{TIMES}")):
        times |= read_times(path)
    return times


def _row(name: str, times: Mapping[str, float], num_tiles: Mapping[str, int]) -> list[str]:
    seconds = sorted(times.values())
    total = sum(seconds)
    tiles = sum(num_tiles.get(slide, 0) for slide in times)
    return [
        name,
        f"{len(times):,}",
        f"{tiles:,}",
        _seconds(median(seconds)),
        f"{_seconds(seconds[0])} to {_seconds(seconds[-1])}",
        f"{total / 60:,.1f}",
        f"{tiles / total:,.0f}" if total > 0 else "–",
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
