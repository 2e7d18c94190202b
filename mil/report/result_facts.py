"""Facts about the heads of a study and their results in sentences, by name."""

from collections.abc import Sequence

from mil.errors import some
from mil.report import setup
from mil.report.flow import count
from mil.report.slides import SlideRow
from mil.report.study_files import ReportedHead, StudyFiles
from mil.report.worst import errors_of_head
from mil.statistics.text import headline, title, value, with_interval

# Settings of a recipe that a reader asks for first.
TRAINING = ("epochs", "batch_bags", "lr", "weight_decay", "restarts", "select", "sampling")


def result_facts(study: StudyFiles, rows: Sequence[SlideRow]) -> dict[str, str]:
    """Sentences about heads and their results; empty where nothing is known.

    Args:
        study: The study.
        rows: Predictions of each slide.
    """
    heads = study.heads
    return {
        "model": _models(study),
        "training": _training(heads),
        "ensembling": _ensembling(heads),
        "selection": _selection(heads),
        "class_balance": _balance(heads),
        "output": _output(study),
        "sample_size": _power(heads),
        "threshold": _thresholds(heads),
        "metrics": study.task.interval_note,
        "performance": _performance(study),
        "confusion": _confusion(heads),
        "calibration": _calibration(heads),
        "subgroups": _subgroups(heads),
        "explanation": _explanation(heads),
        "failures": _failures(study, rows),
        "comparison": _comparison(study),
    }


def _models(study: StudyFiles) -> str:
    parts = []
    for head in study.heads:
        if head.records:
            record = head.records[0]
            options = setup.flat(record.recipe.options)
            listed = ", ".join(f"{name} {text}" for name, text in options.items())
            parts.append(f"{head.metrics.name}: head {record.recipe.name} ({listed})")
        else:
            parts.append(head.metrics.name)
    names = "; ".join(parts)
    return f"Multiple-instance learning on frozen tile features. {names}." if names else ""


def _training(heads: Sequence[ReportedHead]) -> str:
    parts = []
    for head in heads:
        if not head.records:
            continue
        train = head.records[0].recipe.train.model_dump(mode="json")
        listed = ", ".join(
            f"{name} {setup.text_of(train[name])}" for name in TRAINING if name in train
        )
        planned = setup.planned(head.records)
        parts.append(f"{head.metrics.name}: {listed} ({planned})")
    return f"{'; '.join(parts)}." if parts else ""


def _ensembling(heads: Sequence[ReportedHead]) -> str:
    parts = []
    for head in heads:
        if head.metrics.predicted_by:
            members = {record.num_members for record in head.records} - {1}
            each = f", each the average of {max(members)} trainings" if members else ""
            parts.append(f"{head.metrics.name}: {head.metrics.predicted_by}{each}")
    return f"{'; '.join(parts)}." if parts else ""


def _selection(heads: Sequence[ReportedHead]) -> str:
    selects = sorted({head.records[0].recipe.train.select for head in heads if head.records})
    if not selects:
        return ""
    return f"The epoch is chosen on validation slides by {' and '.join(selects)}."


def _balance(heads: Sequence[ReportedHead]) -> str:
    weights = sorted(
        {
            f"class weights {head.records[0].recipe.train.class_weights}, sampling "
            f"{head.records[0].recipe.train.sampling}"
            for head in heads
            if head.records
        }
    )
    return f"{'; '.join(weights)}." if weights else ""


def _output(study: StudyFiles) -> str:
    columns = ", ".join(study.task.columns)
    return f"predictions.csv holds {columns} of each slide."


def _power(heads: Sequence[ReportedHead]) -> str:
    power = next((head.metrics.power for head in heads if head.metrics.power is not None), None)
    if power is None:
        return ""
    patients = (
        f"{count(power.patients_positive, 'patient')} with and "
        f"{count(power.patients_negative, 'patient')} without the class of interest in the test"
    )
    if power.smallest_auroc is None:
        return f"{patients}."
    return (
        f"{patients}; with power {power.power:g} they tell an AUROC of "
        f"{power.smallest_auroc:.2f} from 0.5."
    )


def _thresholds(heads: Sequence[ReportedHead]) -> str:
    parts = []
    for head in heads:
        calibration = head.metrics.calibration
        if calibration is not None and calibration.threshold.mean is not None:
            parts.append(f"{head.metrics.name} {calibration.threshold.mean:.3f}")
    if not parts:
        return ""
    return f"Thresholds were chosen on validation slides, before the test: {', '.join(parts)}."


def _performance(study: StudyFiles) -> str:
    parts = []
    for head in study.heads:
        test = head.metrics.test
        numbers = []
        for column in study.task.headlines:
            metric = headline(test.metrics, column.metrics)
            numbers.append(f"{column.title} {with_interval(metric)}")
        numbers += [
            f"{title(name)} {with_interval(test.metrics[name])}"
            for name in ("sensitivity", "specificity")
            if name in test.metrics
        ]
        parts.append(
            f"{head.metrics.name} on {count(test.n_slides, 'test slide')} of "
            f"{count(test.n_patients, 'patient')}: {', '.join(numbers)}"
        )
    return f"{'; '.join(parts)}. Brackets: 95 % intervals." if parts else ""


def _confusion(heads: Sequence[ReportedHead]) -> str:
    parts = []
    for head in heads:
        confusion = head.metrics.test.confusion
        if confusion is not None and len(confusion.classes) <= 4:
            rows = [
                f"{label} {'/'.join(map(str, counts))}"
                for label, counts in zip(confusion.classes, confusion.table, strict=True)
            ]
            parts.append(
                f"{head.metrics.name}, label and numbers predicted as "
                f"{'/'.join(confusion.classes)}: {', '.join(rows)}"
            )
    return f"{'; '.join(parts)}." if parts else ""


def _calibration(heads: Sequence[ReportedHead]) -> str:
    parts = []
    for head in heads:
        calibration = head.metrics.calibration
        if calibration is not None:
            note = f" ({calibration.note})" if calibration.note else ""
            parts.append(
                f"{head.metrics.name}: Brier {calibration.after.brier:.3f}, ECE "
                f"{calibration.after.ece:.3f}{note}"
            )
    return "; ".join(parts)


def _subgroups(heads: Sequence[ReportedHead]) -> str:
    columns = sorted({column for head in heads for column in head.metrics.subgroups})
    if not columns:
        return ""
    return f"Metrics by {', '.join(columns)} are in metrics.json."


def _explanation(heads: Sequence[ReportedHead]) -> str:
    parts = ["Heatmaps of attention for each slide."]
    for head in heads:
        localisation = head.metrics.localisation
        if localisation is not None:
            number = value(localisation.tile_auroc)
            parts.append(f"{head.metrics.name}: tile AUROC {number} against annotations.")
    return " ".join(parts) if heads else ""


def _failures(study: StudyFiles, rows: Sequence[SlideRow]) -> str:
    if not study.task.error_meaning or not study.task.classes:
        return ""
    parts = []
    for number, head in enumerate(study.heads):
        wrong = [row.slide for row in errors_of_head(rows, number)]
        named = f" ({some(wrong)})" if wrong else ""
        parts.append(f"{head.metrics.name}: {count(len(wrong), 'test slide')} wrong{named}")
    return f"{'; '.join(parts)}." if parts else ""


def _comparison(study: StudyFiles) -> str:
    comparison = study.comparison
    if comparison is None or comparison.tests.method is None:
        return ""
    tests = comparison.tests
    text = (
        f"Heads are compared in {title(tests.metric)} by {tests.method}, "
        f"{count(len(tests.pairs), 'pair')}, p corrected by Holm."
    )
    return " ".join([text, *comparison.statements])
