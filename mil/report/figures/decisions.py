"""Section of the report: confusion matrices, and 2x2 tables at the threshold of validation."""

from collections.abc import Sequence

import numpy as np

from mil.report.figures.blocks import Block, Matrices, Matrix, Note, Table, section
from mil.report.figures.tested import Tested, heads_tested, size_of, subgroup_values
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles
from mil.statistics.arrays import Labels
from mil.statistics.classified import predicted_classes
from mil.statistics.confusion import confusion
from mil.statistics.predictive_values import TwoByTwo, two_by_two
from mil.statistics.text import with_interval
from mil.statistics.threshold import DEFAULT_THRESHOLD

FEWEST = 2  # values of a column that divides slides into subgroups
MOST = 10
EMPTY = "(empty)"
UNFOLDED = 12  # most rows of a table of subgroups that is shown without a click
COUNTS = ("TP", "FP", "FN", "TN")
ABOUT_COUNTS = "TP, FP, FN, TN: true and false positives, false and true negatives."
PROPORTIONS = ("sensitivity", "specificity", "PPV", "NPV")


def build(study: StudyFiles) -> PageSection | None:
    """Confusion matrices of one class of several; 2x2 tables of two classes and of labels."""
    task = study.task
    if not task.classes:
        return None
    heads = heads_tested(study)
    if not heads:
        return None
    if task.kind == "multilabel":
        return section("decisions", "Decisions on each class", [_of_classes(study, heads)])
    if not task.has_threshold:
        return section("decisions", "Confusion matrices", [_matrices(study, heads)])
    blocks: list[Block] = [_table(study, heads), _about_threshold(heads), _matrices(study, heads)]
    blocks += _subgroups(study, heads)
    return section("decisions", "Decisions at the threshold", blocks)


def _matrices(study: StudyFiles, heads: Sequence[Tested]) -> Matrices:
    classes = list(study.task.classes)
    matrices = []
    for head in heads:
        labels = np.array([classes.index(label) for label in head.labels])
        table = confusion(labels, _predicted(study, head), len(classes))
        matrices.append(Matrix(head.name, classes, table.tolist()))
    return Matrices(
        f"Confusion matrices on {size_of(heads, study)}: rows are labels, columns predicted "
        "classes, cells numbers; the darker, the larger the share of its row.",
        matrices,
    )


def _predicted(study: StudyFiles, head: Tested) -> Labels:
    """Number of each slide's predicted class."""
    classes = list(study.task.classes)
    if study.task.has_threshold:
        # The same for all slides at once, of which a study may have many.
        return predicted_classes(
            head.predictions, head.thresholds, classes.index(study.task.positive)
        )
    names = [
        study.task.predicted_class(predictions, float(threshold))
        for predictions, threshold in zip(head.predictions, head.thresholds, strict=True)
    ]
    return np.array([classes.index(name) for name in names])


def _table(study: StudyFiles, heads: Sequence[Tested]) -> Table:
    rows = []
    for head in heads:
        table = two_by_two(*_labels_and_calls(study, head), head.member)
        rows.append([head.name, _threshold(head), *_cells(table)])
    return Table(
        f"Decisions for {study.task.positive} on {size_of(heads, study)}, with Wilson's 95 % "
        f"intervals that count patients. {ABOUT_COUNTS} PPV and NPV depend on the share of "
        f"{study.task.positive} among these slides.",
        ["head · encoder", "threshold", *COUNTS, *PROPORTIONS],
        rows,
    )


def _of_classes(study: StudyFiles, heads: Sequence[Tested]) -> Table:
    """A 2x2 table in a line for each head and class of several that a slide may have."""
    rows = []
    for head in heads:
        for name in study.task.classes:
            called = (head.column(f"p_{name}") >= DEFAULT_THRESHOLD).astype(int)
            table = two_by_two(head.positives(study.task, name), called, head.member)
            rows.append([head.name, name, *_cells(table)])
    return Table(
        f"Decisions on each class from a probability of {DEFAULT_THRESHOLD} up, on "
        f"{size_of(heads, study)}, with Wilson's 95 % intervals that count patients. "
        f"{ABOUT_COUNTS}",
        ["head · encoder", "class", *COUNTS, *PROPORTIONS],
        rows,
        names=2,
        folded=len(rows) > UNFOLDED,
    )


def _about_threshold(heads: Sequence[Tested]) -> Note:
    without = [head.name for head in heads if not head.has_thresholds]
    text = (
        "A slide is called positive from the threshold up that validation slides chose, mean over "
        "the runs that held the slide out; test slides had no part in it."
    )
    if without:
        text += (
            f" Some runs of {', '.join(without)} have no threshold of validation slides; 0.5 "
            "stands for it."
        )
    return Note(text)


def _threshold(head: Tested) -> str:
    least = head.thresholds.min()
    most = head.thresholds.max()
    return f"{least:.3f}" if most - least < 5e-4 else f"{least:.3f} to {most:.3f}"


def _labels_and_calls(study: StudyFiles, head: Tested) -> tuple[Labels, Labels]:
    """1 for each slide of the positive class, and for each that is predicted to be."""
    positive = list(study.task.classes).index(study.task.positive)
    called = (_predicted(study, head) == positive).astype(int)
    return head.positives(study.task, study.task.positive), called


def _cells(table: TwoByTwo) -> list[str]:
    shares = (table.sensitivity, table.specificity, table.ppv, table.npv)
    return [*map(str, table[: len(COUNTS)]), *map(with_interval, shares)]


def _subgroups(study: StudyFiles, heads: Sequence[Tested]) -> list[Block]:
    """A table for each further column that divides the slides into 2 to 10 groups."""
    columns = dict.fromkeys(name for slide in study.slides for name in slide.subgroups)
    tables: list[Block] = []
    for column in columns:
        of_slide = subgroup_values(study, column)
        rows = []
        for head in heads:
            values = np.array([of_slide.get(slide, "") or EMPTY for slide in head.slides])
            names = sorted(set(values.tolist()))
            if not FEWEST <= len(names) <= MOST:
                continue
            labels, called = _labels_and_calls(study, head)
            member = head.member
            for name in names:
                inside = values == name
                table = two_by_two(labels[inside], called[inside], member[inside])
                rows.append([head.name, name, str(table.n), *_cells(table)])
        if rows:
            caption = (
                f"Decisions by {column}. {ABOUT_COUNTS} Small groups raise questions and answer "
                "none."
            )
            header = ["head · encoder", column, "slides", *COUNTS, *PROPORTIONS]
            tables.append(Table(caption, header, rows, names=2, folded=len(rows) > UNFOLDED))
    return tables
