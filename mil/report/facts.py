"""Facts of a study in sentences, which checklists of reporting guidelines are filled with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from mil.config import Section, checked
from mil.errors import FormatError, MilError, some
from mil.io.atomic import write_json
from mil.report import composition, flow_section, setup
from mil.report.flow import Flow, count, flows_of
from mil.report.slides import SlideRow
from mil.report.study_files import ReportedHead, StudyFiles
from mil.report.worst import errors_of_head
from mil.statistics.text import headline, interval, title, value
from mil.versions import TOOL_VERSION

FORMAT = "mil.report"
VERSION = 1
# Settings of a recipe that a reader asks for first.
TRAINING = ("epochs", "batch_bags", "lr", "weight_decay", "restarts", "select", "sampling")


class Facts(Section):
    """Content of report.json.

    Attributes:
        title: Title of the study.
        page: Name of the report's page.
        sections: Titles of its sections, by anchor.
        facts: A sentence or more, by name; a fact that is not known is left out.
    """

    format: str
    format_version: int
    tool_version: str
    title: str
    page: str
    sections: dict[str, str] = Field({})
    facts: dict[str, str] = Field({})


class Anchor(NamedTuple):
    """Id and title of a section of the page."""

    anchor: str
    title: str


def facts_path(out: Path) -> Path:
    """File of the facts, beside the report."""
    return out.with_suffix(".json")


def write_facts(
    study: StudyFiles,
    rows: Sequence[SlideRow],
    composed: dict[str, object],
    sections: Sequence[Anchor],
) -> None:
    """Write the facts of a study.

    Args:
        study: The study.
        rows: Predictions of each slide.
        composed: Content of the section of slides by split.
        sections: Sections of the page.
    """
    content = Facts(
        format=FORMAT,
        format_version=VERSION,
        tool_version=TOOL_VERSION,
        title=study.settings.title or study.dataset,
        page=study.out.name,
        sections={section.anchor: section.title for section in sections},
        facts={name: text for name, text in _facts(study, rows, composed).items() if text},
    )
    write_json(facts_path(study.out), content.model_dump())


def read_facts(path: Path) -> Facts:
    """Read the facts of a study.

    Raises:
        FormatError: The file is missing, or is not what this version of `mil report` writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored = checked(Facts, content, str(path))
    except (OSError, ValueError, TypeError, RecursionError, MilError) as error:
        raise FormatError(
            f"{path}: not the facts of a study ({_brief(error)}); run `mil report` first"
        ) from None
    if (stored.format, stored.format_version) != (FORMAT, VERSION):
        raise FormatError(f"{path}: not of this version of mil; run `mil report` again")
    return stored


def _brief(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200]


def _facts(
    study: StudyFiles, rows: Sequence[SlideRow], composed: dict[str, object]
) -> dict[str, str]:
    flow = flows_of(study)[0]
    return {
        "data_source": _joined(study.settings.notes, _licence(study)),
        "task": _task(study),
        "flow": _flow(flow),
        "exclusions": _exclusions(flow),
        "missing": _missing(flow),
        "preprocessing": _joined(*setup.encoder_statements(study), _tiling(study)),
        "splits": _splits(flow),
        "partition": _joined(*flow_section.notes_of(flow), *composition.notes_of(composed)),
        "characteristics": _characteristics(composed),
        "outcomes": _outcomes(flow),
        "sample_size": _power(study.heads),
        "model": _models(study),
        "training": _training(study.heads),
        "ensembling": _ensembling(study.heads),
        "selection": _selection(study.heads),
        "threshold": _thresholds(study.heads),
        "metrics": study.task.interval_note,
        "performance": _performance(study),
        "confusion": _confusion(study.heads),
        "calibration": _calibration(study.heads),
        "subgroups": _subgroups(study.heads),
        "explanation": _explanation(study.heads),
        "failures": _failures(study, rows),
        "comparison": _comparison(study),
        "annotation": _annotations(study),
        "software": _software(),
        "output": _output(study),
        "class_balance": _balance(study.heads),
    }


def _joined(*sentences: str) -> str:
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())


def _licence(study: StudyFiles) -> str:
    return f"Licence of the slides: {study.settings.licence}." if study.settings.licence else ""


def _task(study: StudyFiles) -> str:
    classes = ", ".join(study.task.classes)
    interest = f"; class of interest: {study.task.positive}" if study.task.positive else ""
    return f"{study.task.kind} of whole slides{f' into {classes}' if classes else ''}{interest}."


def _flow(flow: Flow) -> str:
    table, usable = flow.table, flow.usable
    return (
        f"{count(table.patients, 'patient')} with {count(table.slides, 'slide')} in the slide "
        f"table; {count(usable.patients, 'patient')} with {count(usable.slides, 'slide')} and "
        f"{count(usable.tiles or 0, 'tile')} have features."
    )


def _exclusions(flow: Flow) -> str:
    if not flow.excluded:
        return "No slide was excluded."
    parts = [exclusion.text for exclusion in flow.excluded]
    return f"Not used: {'; '.join(parts)}."


def _missing(flow: Flow) -> str:
    lost = sum(len(exclusion.slides) for exclusion in flow.excluded)
    tiles = f" {count(flow.unreadable_tiles, 'unreadable tile')} were left out."
    return (
        f"Slides without features are left out of training and test ({lost:,}); nothing is "
        f"imputed.{tiles if flow.unreadable_tiles else ''}"
    )


def _tiling(study: StudyFiles) -> str:
    tile = study.config.get("tile")
    if not isinstance(tile, dict):
        return ""
    return (
        f"Tiles need at least {tile.get('min_tissue')} of their area in tissue; tissue regions "
        f"under {tile.get('min_area_mm2')} mm² are left out."
    )


def _splits(flow: Flow) -> str:
    if not flow.splits:
        return ""
    parts = [f"{split.title}: {', '.join(split.lines)}" for split in flow.splits]
    return f"{'; '.join(parts)}."


def _outcomes(flow: Flow) -> str:
    if flow.num_folds != 1:
        return ""
    parts = []
    for split in flow.splits:
        labels = ", ".join(f"{number:,} {label}" for label, number in split.labels[0].items())
        parts.append(f"{split.title}: {labels}" if len(split.labels[0]) <= 20 else "")
    return f"{'; '.join(part for part in parts if part)}." if any(parts) else ""


def _characteristics(composed: dict[str, object]) -> str:
    properties = composition.properties_of(composed)
    if not properties:
        return ""
    return f"Table by split of {', '.join(one.name for one in properties)}."


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
            between = interval(metric)
            numbers.append(f"{column.title} {value(metric)}{f' ({between})' if between else ''}")
        for name in ("sensitivity", "specificity"):
            if name in test.metrics:
                between = interval(test.metrics[name])
                number = value(test.metrics[name])
                numbers.append(f"{title(name)} {number}{f' ({between})' if between else ''}")
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
    tests = None if study.comparison is None else study.comparison.tests
    if tests is None or tests.method is None:
        return ""
    return (
        f"Heads are compared in {title(tests.metric)} by {tests.method}, "
        f"{count(len(tests.pairs), 'pair')}, p corrected by Holm."
    )


def _annotations(study: StudyFiles) -> str:
    if not any(slide.annotation for slide in study.slides):
        return ""
    number = sum(bool(slide.annotation) for slide in study.slides)
    return f"{count(number, 'slide')} with annotated regions, which no head was trained on."


def _software() -> str:
    versions = [f"{name} {text}" for name, text in setup.versions() if name != "stages"]
    return f"{', '.join(versions)}."


def _output(study: StudyFiles) -> str:
    columns = ", ".join(study.task.columns)
    return f"predictions.csv holds {columns} of each slide."


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
