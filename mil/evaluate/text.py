"""Metrics of one recipe on one encoder at the terminal."""

from mil.io.results import Metrics
from mil.statistics.text import headline, interval, value
from mil.tasks import unfitted_task


def metrics_line(metrics: Metrics) -> str:
    """Main metric of the test slides and, where tumour is annotated, how attention finds it.

    A second line where heads tell slides apart and attention does not find the regions,
    and one for each note on annotations that do not count.
    """
    task = unfitted_task(metrics.task, metrics.classes, metrics.positive)
    main = task.headlines[0]
    metric = headline(metrics.test.metrics, main.metrics)
    between = interval(metric)
    by = f", {metrics.predicted_by}" if metrics.predicted_by else ""
    line = (
        f"evaluate {metrics.recipe} on {metrics.encoder}: test {main.title} {value(metric)}"
        f"{f' ({between})' if between else ''}, n = {metrics.test.n_slides}{by}"
    )
    tiles = metrics.localisation
    if tiles is not None:
        line += f"; {tiles.text}"
    findings = [tiles.finding] if tiles is not None and tiles.finding else []
    return "\n".join([line, *findings, *metrics.annotations])
