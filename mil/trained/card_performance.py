"""Section of a model card about performance: metrics of the study and of the head."""

from mil.io.results import (
    Metrics,
    RunMetrics,
    SetMetrics,
)
from mil.statistics.classified import MOST_PROBABLE
from mil.statistics.metric import Metric
from mil.statistics.text import calibration_note
from mil.statistics.text import title as metric_title
from mil.trained import Trained
from mil.trained.front_matter import run_of
from mil.trained.markdown import escaped, table


def performance_section(trained: Trained, metrics: Metrics) -> str:
    """Text of the section."""
    test = metrics.test
    early = trained.fusion == "early"
    if not test.metrics:
        return "It was not tested: the dataset has no test slides for this fold."
    # With early fusion all slides of a patient were one bag, and count as one.
    sets: dict[str, SetMetrics] = {"patients": test}
    if not early:
        sets = {"slides": test}
        if any(name in metrics.test_patients.metrics for name in test.metrics):
            sets["patients"] = metrics.test_patients
    run = run_of(trained, metrics)
    header = ["metric", *(f"test {name} (95 % CI)" for name in sets), "this head alone"]
    rows = []
    for name in test.metrics:
        # They follow another decision rule than the head's: metrics.json has them.
        if name.endswith(MOST_PROBABLE):
            continue
        values = [_value(of_set.metrics.get(name)) for of_set in sets.values()]
        alone = run.metrics.get(name) if run else None
        rows.append([metric_title(name), *values, _number(alone)])
    count = f"{test.n_patients} patients"
    if not early:
        count = f"{test.n_slides} slides of {count}"
    predicted_by = "this head, which had not seen them"
    if len(metrics.runs) > 1:
        ensemble = f" ({metrics.predicted_by})" if metrics.predicted_by else ""
        predicted_by = (
            f"the mean of those of the study's {len(metrics.runs)} heads (seeds, folds) that had "
            f"not seen them{ensemble}"
        )
    return (
        f"On {count}, by {predicted_by}; intervals reflect the sampling of patients. A test set "
        f"from the same study says little about slides from elsewhere.{_on_calibration(trained)}"
        f"\n\n{table(header, rows)}{_attention(metrics, run)}"
    )


def _attention(metrics: Metrics, run: RunMetrics | None) -> str:
    """Paragraph on how well attention finds annotated regions; empty where none are known."""
    tiles = metrics.localisation
    if tiles is None:
        return ""
    alone = ""
    if len(metrics.runs) > 1 and run is not None and run.tile_auroc is not None:
        alone = f"; this head alone: tile AUROC {run.tile_auroc:.3f}"
    finding = f" **{escaped(tiles.finding)}**" if tiles.finding else ""
    return f"\n\nAttention against annotated regions: {escaped(tiles.text)}{alone}.{finding}"


def _on_calibration(trained: Trained) -> str:
    """A sentence where the head's probabilities are not calibrated."""
    note = calibration_note([trained.calibration]) if trained.task.one_of_classes else ""
    return f" {note}" if note else ""


def _value(metric: Metric | None) -> str:
    if metric is None:
        return ""
    text = _number(metric.value)
    if metric.ci95 is not None:
        low, high = metric.ci95
        text += f" ({_number(low)} to {_number(high)})"
    return text


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"
