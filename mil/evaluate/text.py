"""Metrics of one head in one line."""

from mil.io.results import Metrics
from mil.statistics.text import headline, interval, value
from mil.tasks import unfitted_task


def metrics_line(metrics: Metrics) -> str:
    """Main metric of the test slides and, where tumour is annotated, the tile AUROC."""
    task = unfitted_task(metrics.task, metrics.classes, metrics.positive)
    main = task.headlines[0]
    metric = headline(metrics.test.metrics, main.metrics)
    between = interval(metric)
    line = (
        f"evaluate {metrics.recipe} on {metrics.encoder}: test {main.title} {value(metric)}"
        f"{f' ({between})' if between else ''}, n = {metrics.test.n_slides}"
    )
    tiles = metrics.localisation
    if tiles is None:
        return line
    return f"{line}, tile AUROC {tiles.tile_auroc_mean:.3f} on {tiles.n_slides} slides"
