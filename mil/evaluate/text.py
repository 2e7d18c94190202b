"""Metrics of one recipe on one encoder at the terminal."""

from mil.io.annotations import few
from mil.io.results import Metrics
from mil.statistics.text import headline, with_interval
from mil.tasks import unfitted_task


def metrics_line(metrics: Metrics) -> str:
    """Main metric of the test slides and, where tumour is annotated, how attention finds it.

    Further lines: where heads tell slides apart and attention does not find the regions;
    how good each kind of map is; and what could not be measured, and why.
    """
    task = unfitted_task(metrics.task, metrics.classes, metrics.positive)
    main = task.headlines[0]
    metric = headline(metrics.test.metrics, main.metrics)
    by = f", {metrics.predicted_by}" if metrics.predicted_by else ""
    line = (
        f"evaluate {metrics.recipe} on {metrics.encoder}: test {main.title} {with_interval(metric)}"
        f", n = {metrics.test.n_slides}{by}"
    )
    tiles = metrics.localisation
    if tiles is not None:
        line += f"; {tiles.text}"
    findings = [tiles.finding] if tiles is not None and tiles.finding else []
    maps = [text for kind, one in metrics.maps.items() if (text := one.text(kind))]
    return "\n".join([line, *findings, *maps, *left_out(metrics), *metrics.annotations])


def left_out(metrics: Metrics) -> list[str]:
    """Sentences on maps and slides that could not be measured; empty where all could."""
    notes = []
    if not metrics.maps.keys() >= {"alone", "effect"}:
        notes.append(
            "Evidence of tiles was not evaluated: the scores hold none, as of versions before "
            "score 2; `mil score` computes it."
        )
    slides = metrics.lesions.left_out if metrics.lesions is not None else {}
    if slides:
        reasons = [f"{name}: {reason}" for name, reason in slides.items()]
        notes.append(f"Test slides that FROC leaves out ({len(slides)}): {few(reasons)}.")
    return notes
